"""What a storage must be equal to: one user's collections in dictionaries, with the rules spelled out once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from syncstore.bso import BSO, Change
from syncstore.storage.api import Query

NEVER = 10**15


@dataclass(frozen=True)
class Item:
    """A stored item; `modified` in ticks, `ends` in milliseconds."""

    modified: int
    payload: str = ""
    sortindex: int | None = None
    ends: int = NEVER


@dataclass
class Collection:
    """A collection and its time in ticks."""

    modified: int = 0
    items: dict[str, Item] = field(default_factory=dict)


@dataclass
class Model:
    """The storage of one user. Each write is told the time that the real one gave."""

    mark: int = 0
    collections: dict[str, Collection] = field(default_factory=dict)
    batches: dict[str, tuple[str, list[Change]]] = field(default_factory=dict)

    def _touch(self, name: str, time: int) -> Collection:
        collection = self.collections.setdefault(name, Collection())
        collection.modified = self.mark = time
        return collection

    def put(self, name: str, changes: Sequence[Change], time: int) -> None:
        """Section 8.4."""
        collection = self._touch(name, time)
        for change in changes:
            old = collection.items.get(change.id)
            changed = change.payload is not None or change.sortindex is not None
            item = Item(time) if old is None or old.ends <= time * 10 else old
            collection.items[change.id] = _merged(item, change, time, time if changed else item.modified)

    def delete(self, name: str, ids: Sequence[str], time: int) -> None:
        """Delete items of a collection that exists."""
        collection = self._touch(name, time)
        for id_ in ids:
            collection.items.pop(id_, None)

    def delete_collection(self, name: str, time: int) -> None:
        """Forget a collection."""
        del self.collections[name]
        self.mark = time

    def delete_all(self, time: int) -> None:
        """Forget everything but the mark."""
        self.collections.clear()
        self.batches.clear()
        self.mark = time

    def commit(self, batch: str, changes: Sequence[Change], time: int) -> None:
        """Section 13."""
        name, staged = self.batches.pop(batch)
        collection = self._touch(name, time)
        before = dict(collection.items)
        for id_ in {change.id for change in (*staged, *changes)}:
            old = before.get(id_)
            item = Item(time) if old is None or old.ends <= time * 10 else old
            for change in (*staged, *changes):
                if change.id == id_:
                    item = _merged(item, change, time, time)
            collection.items[id_] = item

    # -- reads, at a present in milliseconds

    def live(self, name: str, now: int) -> list[BSO]:
        """The items that can be seen."""
        collection = self.collections.get(name, Collection())
        return [
            BSO(id_, item.modified, item.payload, item.sortindex)
            for id_, item in collection.items.items()
            if item.ends > now
        ]

    def times(self) -> Mapping[str, int]:
        """The time of each collection."""
        return {name: collection.modified for name, collection in self.collections.items()}

    def counts(self, now: int) -> Mapping[str, int]:
        """The number of live items."""
        return {name: len(items) for name in self.collections if (items := self.live(name, now))}

    def usage(self, now: int) -> Mapping[str, int]:
        """The bytes of live items."""
        return {
            name: sum(len(item.payload.encode()) for item in items)
            for name in self.collections
            if (items := self.live(name, now))
        }

    def find(self, name: str, query: Query, now: int) -> list[BSO]:
        """All items of a query in its order, without its limit."""
        items = [
            item
            for item in self.live(name, now)
            if (query.newer is None or item.modified > query.newer)
            and (query.older is None or item.modified < query.older)
            and (query.ids is None or item.id in query.ids)
        ]
        if query.sort == "index":
            items.sort(key=lambda item: (-(10**10) if item.sortindex is None else item.sortindex, item.id))
        else:
            items.sort(key=lambda item: (item.modified, item.id))
        return items if query.sort == "oldest" else items[::-1]


def _merged(item: Item, change: Change, time: int, modified: int) -> Item:
    return replace(
        item,
        modified=modified,
        payload=item.payload if change.payload is None else change.payload,
        sortindex=item.sortindex if change.sortindex is None else change.sortindex,
        ends=item.ends if change.ttl is None else time * 10 + change.ttl * 1000,
    )
