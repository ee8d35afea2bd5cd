"""Installations that are wrong on purpose, each in one way: the checker has to find out, or it proves nothing.

Most put something between the real layer and its parts that breaks one rule of the protocol (coherence, cached-only
collections, server states). The last ones are stores that never heard of any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from syncstore.bso import BSO, Change
from syncstore.cache.api import Change as CacheChange
from syncstore.cache.api import Outcome, Provider, Remove, Store, Token
from syncstore.cache.memcached.shared_state import SharedState
from syncstore.errors import NotFound, Unavailable
from syncstore.storage.api import Page, Query, Storage, Work
from syncstore.storage.durable import DurableStorage, DurableWork, KeptTime, Times
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.store import LayeredStorage
from syncstore.testing.simulation.configurations import CACHED_ONLY_NAMES, Configuration, Parts
from syncstore.testing.simulation.faults import OPERATIONS
from syncstore.testing.simulation.plan import CACHED_ONLY, UNCACHED, WRITE_THROUGH, Mix

_CACHE_FAULTS: Final = ("evict", "evict", "restart", "flush", "cache away", "kill", "freeze")


class _Through:
    """Passes everything on; subclasses change what they name."""

    def __init__(self, real: object) -> None:
        self._real: Any = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


# -- parts that break a rule


class FillsByPlainReads(_Through):
    """A fill does not wait for writers (coherence.md, V1)."""

    def settled_times(self, uid: int) -> Times | None:
        """Without any lock."""
        return cast("Times", self._real.times(uid))


class StoresBlindly(_Through):
    """Values enter the cache over whatever is there (V5, V7)."""

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: object = None) -> Token:
        """Whatever is expected."""
        return cast("Token", self._real.store(key, value, expires))

    def change(self, changes: Sequence[CacheChange]) -> list[Outcome]:
        """Whatever is expected."""
        return cast("list[Outcome]", self._real.change([_blind(change) for change in changes]))

    def change_later(self, changes: Sequence[CacheChange]) -> None:
        """Whatever is expected."""
        self._real.change_later([_blind(change) for change in changes])


def _blind(change: CacheChange) -> CacheChange:
    return change._replace(expect=None)


class AnswersBeforeItKnows(_Through):
    """What is stored is called stored before the server has said so (V15)."""

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Any = None) -> Token:
        """Later, perhaps."""
        self._real.change_later([Store(key, value, expires, expect)])
        return Token(0, 0)

    def change(self, changes: Sequence[CacheChange]) -> list[Outcome]:
        """Later, perhaps."""
        self._real.change_later(changes)
        return [None if isinstance(change, Remove) else Token(0, 0) for change in changes]


class MissesNothing(_Through):
    """A missing value is told as an empty collection of the time that SQL has: nobody learns of the loss."""

    def lock_for_times(self, uid: int, collection: str) -> Any:
        """A work that forgets losses."""
        return self._keep(uid, collection)

    @contextmanager
    def _keep(self, uid: int, collection: str) -> Iterator[DurableWork]:
        with self._real.lock_for_times(uid, collection) as work:
            yield cast("DurableWork", _LosesQuietly(work))


class _LosesQuietly(_Through):
    def keep_time(self, collection: str, kept: KeptTime) -> None:
        """Never as lost."""
        self._real.keep_time(collection, KeptTime(kept.time, items=kept.items, bytes=kept.bytes))


class TrustsForEver(_Through):
    """A view of the server's state that has no lease (server-states.md, c0)."""

    def trusted(self) -> int | None:
        """What was known first."""
        known = self.__dict__.get("_known")
        if known is None:
            known = self.__dict__["_known"] = self._real.trusted()
        return cast("int | None", known)

    def still(self, epoch: int) -> bool:
        """For ever."""
        return True


class GoesOnWithoutWaiting(_Through):
    """A failure declared just now is taken to be known to everybody (w1)."""

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """Odd means: go."""
        try:
            return cast("int | None", self._real.judge(read_epoch))
        except Unavailable:
            return None


def _with(
    below: type[_Through] | None = None,
    cache: type[_Through] | None = None,
    state: type[_Through] | None = None,
) -> Callable[[Parts], Storage]:
    def build(parts: Parts) -> Storage:
        return LayeredStorage(
            cast("DurableStorage", below(parts.below)) if below is not None else parts.below,
            cast("Provider", cache(parts.cache)) if cache is not None else parts.cache,
            cast("SharedState", state(parts.state)) if state is not None else parts.state,
            Kinds(cached_only=CACHED_ONLY_NAMES, write_through=[WRITE_THROUGH]),
            parts.clock,
        )

    return build


# -- stores that break one


class RemembersAnswers(_Through):
    """A cache of answers in each process, told of that process's writes alone."""

    def __init__(self, real: object) -> None:
        super().__init__(real)
        self._pages: dict[tuple[int, str], Page] = {}

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """As it was when this process looked first."""
        if query.newer is not None or query.limit is not None:
            return cast("Page", self._real.find(uid, collection, query))
        if (uid, collection) not in self._pages:
            self._pages[uid, collection] = self._real.find(uid, collection, query)
        return self._pages[uid, collection]

    @contextmanager
    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> Iterator[Work]:
        """Forgets the collection."""
        with self._real.lock_for_write(uid, collection, items, create=create) as work:
            yield work
        for key in [key for key in self._pages if key[0] == uid and collection in (None, key[1])]:
            del self._pages[key]


class AcknowledgesTooSoon(_Through):
    """A commit that fails is not told to anybody."""

    @contextmanager
    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> Iterator[Work]:
        """Errors of the end are swallowed."""
        opened = self._real.lock_for_write(uid, collection, items, create=create)
        work = opened.__enter__()
        try:
            yield work
        except BaseException as error:
            opened.__exit__(type(error), error, error.__traceback__)
            raise
        try:
            opened.__exit__(None, None, None)
        except Unavailable:
            return


class TriesAgain(_Through):
    """A commit that was not answered is made once more."""

    @contextmanager
    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> Iterator[Work]:
        """Notes the change, and repeats it."""
        noted: list[tuple[str, Any]] = []
        try:
            with self._real.lock_for_write(uid, collection, items, create=create) as work:
                yield cast("Work", _Noting(work, noted))
        except Unavailable:
            if not noted:
                raise
            name, arguments = noted[0]
            with self._real.lock_for_write(uid, collection, items, create=create) as work:
                getattr(work, name)(*arguments)
            raise


class _Noting(_Through):
    def __init__(self, real: object, noted: list[tuple[str, Any]]) -> None:
        super().__init__(real)
        self._noted = noted

    def put(self, changes: Sequence[Change]) -> int:
        """Noted."""
        self._noted.append(("put", (changes,)))
        return cast("int", self._real.put(changes))


class SeesNothingBefore(_Through):
    """Units of work say that nothing was there: no precondition ever fails."""

    @contextmanager
    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> Iterator[Work]:
        """A work that knows no time of its collection."""
        with self._real.lock_for_write(uid, collection, items, create=create) as work:
            yield cast("Work", _Blind(work))


class _Blind(_Through):
    collection_modified = 0


class LooksTwice(_Through):
    """The time of a page and its items come from two looks."""

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """Items first, time second."""
        page: Page = self._real.find(uid, collection, query)
        return Page(self._real.collection_modified(uid, collection), page.items, page.ids, page.next)


class ForgetsItems(_Through):
    """An error of the store is told as "not there"."""

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """Or missing, whatever went wrong."""
        try:
            return cast("BSO", self._real.item(uid, collection, item))
        except Unavailable:
            raise NotFound(item) from None


class Crashes(_Through):
    """An error that nobody foresaw."""

    def collection_counts(self, uid: int) -> Mapping[str, int]:
        """Never."""
        raise KeyError(uid)


class NeverLetsGo(_Through):
    """Waits for something that nobody does."""

    def collection_counts(self, uid: int) -> Any:
        """Asks for ever."""
        while True:
            self._real.collection_times(uid)


def _store(wrapper: type[_Through]) -> Callable[[Parts], Storage]:
    return lambda parts: cast("Storage", wrapper(parts.below))


_SQL: Final = ("kill", "freeze", "time passes", *OPERATIONS["commit"], *OPERATIONS["sql read"])


def _layer(name: str, build: Callable[[Parts], Storage], mix: Mix, *, bound: bool = True) -> Configuration:
    return Configuration(name, build, mix, cached_only=CACHED_ONLY_NAMES, bound=bound)


EXHIBITS: Final = {
    one.name: one
    for one in (
        _layer("fills by plain reads", _with(below=FillsByPlainReads), Mix(faults=_CACHE_FAULTS)),
        _layer("stores blindly", _with(cache=StoresBlindly), Mix(faults=_CACHE_FAULTS)),
        _layer("answers before it knows", _with(cache=AnswersBeforeItKnows), Mix(faults=_CACHE_FAULTS)),
        _layer(
            "loses quietly",
            _with(below=MissesNothing),
            Mix((CACHED_ONLY, UNCACHED), ("evict", "restart", "evict all of a user")),
        ),
        _layer("trusts for ever", _with(state=TrustsForEver), Mix(faults=("cache away long", "time passes"))),
        _layer(
            "goes on without waiting",
            _with(state=GoesOnWithoutWaiting),
            Mix((UNCACHED,), ("cache away long", "cache away"), most_requests=8, least_processes=2),
        ),
        _layer(
            "tokens of another life",
            _with(),
            Mix((UNCACHED,), ("restart", "change later late"), most_faults=8, most_requests=6),
            bound=False,
        ),
        *(
            Configuration(name, _store(wrapper), Mix(faults=_SQL), heals=False)
            for name, wrapper in (
                ("remembers answers", RemembersAnswers),
                ("acknowledges too soon", AcknowledgesTooSoon),
                ("tries again", TriesAgain),
                ("sees nothing before", SeesNothingBefore),
                ("looks twice", LooksTwice),
                ("forgets items", ForgetsItems),
                ("crashes", Crashes),
                ("never lets go", NeverLetsGo),
            )
        ),
    )
}
