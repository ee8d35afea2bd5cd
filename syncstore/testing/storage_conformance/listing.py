"""Listings: filters, orders and pages that stay right while rows change (sync-api section 7)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from syncstore.bso import BSO, Change
from syncstore.errors import NotFound
from syncstore.storage.api import Page, Position, Query, Sort
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.rooms import Rooms, User

SORTS: tuple[Sort, ...] = ("newest", "oldest", "index")
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def in_order(items: Sequence[BSO], sort: Sort) -> list[BSO]:
    """The order that the listing must have: total, ties by id in the direction of the sort, unset index last."""
    if sort == "oldest":
        return sorted(items, key=lambda item: (item.modified, item.id))
    if sort == "newest":
        return sorted(items, key=lambda item: (item.modified, item.id), reverse=True)
    lowest = -(10**10)
    return sorted(
        items, key=lambda item: (lowest if item.sortindex is None else item.sortindex, item.id), reverse=True
    )


class ListingRules(Rooms):
    """What `find` answers."""

    def fill(self, user: User, clock: SteppableClock) -> list[BSO]:
        """Twelve items in three requests, and one that has expired; with equal and with missing sortindexes."""
        indexes = [None, 5, -5, 5, 0, None, 7, 5, None, 0, -5, 7]
        shuffled = [f"i{i:02}" for i in range(12)]
        random.Random(1).shuffle(shuffled)
        for start in (0, 4, 8):
            clock.step(0.5)
            user.put(*(Change(shuffled[i], f"p{i}", indexes[i]) for i in range(start, start + 4)))
        user.put(Change("expired", "x", 6, ttl=0))
        return list(user.items())

    @pytest.mark.parametrize("sort", SORTS)
    def test_the_order_is_total(self, user: User, clock: SteppableClock, sort: Sort) -> None:
        items = self.fill(user, clock)
        assert len(items) == 12
        assert user.items(sort=sort) == in_order(items, sort)
        assert user.ids(sort=sort) == [item.id for item in in_order(items, sort)]

    @pytest.mark.parametrize("sort", SORTS)
    def test_every_filter_goes_with_every_other(self, user: User, clock: SteppableClock, sort: Sort) -> None:
        items = self.fill(user, clock)
        times = sorted({item.modified for item in items})
        some = ("i03", "i07", "i11", "missing", "expired", "i03")
        for newer, older, ids, limit in itertools.product(
            (None, 0, times[0], times[1]),
            (None, times[1], times[2], 10**16),
            (None, some),
            (None, 0, 1, 5, 99),
        ):
            expected = [
                item
                for item in in_order(items, sort)
                if (newer is None or item.modified > newer)
                and (older is None or item.modified < older)
                and (ids is None or item.id in ids)
            ]
            query = Query(ids=ids, newer=newer, older=older, sort=sort, limit=limit, full=True)
            page = user.storage.find(user.uid, "col", query)
            assert list(page.items) == expected[:limit], query
            assert (page.next is not None) == (limit is not None and 0 < limit < len(expected)), query
            assert page.modified == user.modified()

    @pytest.mark.parametrize("sort", SORTS)
    @pytest.mark.parametrize("full", [True, False])
    def test_pages_of_any_size_make_the_whole(
        self, user: User, clock: SteppableClock, sort: Sort, *, full: bool
    ) -> None:
        items = in_order(self.fill(user, clock), sort)
        expected: list[Any] = list(items) if full else [item.id for item in items]
        for size in range(1, 14):
            found: list[Any] = []
            for page in self.pages(user, size, sort=sort, full=full):
                entries = page.items if full else page.ids
                assert len(entries) == size or page.next is None
                found += entries
            assert found == expected, size

    def pages(self, user: User, size: int, **query: Any) -> list[Page]:
        """All pages of a query."""
        pages = [user.storage.find(user.uid, "col", Query(limit=size, **query))]
        while pages[-1].next is not None:
            pages.append(user.storage.find(user.uid, "col", Query(limit=size, after=pages[-1].next, **query)))
            assert len(pages) < 100
        return pages

    def test_the_limit_may_change_from_page_to_page(self, user: User, clock: SteppableClock) -> None:
        expected = [item.id for item in in_order(self.fill(user, clock), "newest")]
        find = user.storage.find
        first = find(user.uid, "col", Query(limit=2))
        second = find(user.uid, "col", Query(limit=3, after=first.next))
        rest = find(user.uid, "col", Query(after=second.next))
        assert [*first.ids, *second.ids, *rest.ids] == expected
        assert rest.next is None

    @pytest.mark.parametrize("sort", SORTS)
    def test_pages_keep_their_place_while_rows_change(
        self, user: User, clock: SteppableClock, sort: Sort
    ) -> None:
        items = in_order(self.fill(user, clock), sort)
        first = user.storage.find(user.uid, "col", Query(sort=sort, limit=4, full=True))
        # The page's own last item goes, and one more of it; one that is to come goes and one changes its place.
        user.delete_ids(items[3].id, items[1].id, items[6].id)
        at = user.put(Change(items[8].id, "moved", 100), Change("an-early-one", "", 100))
        second = user.storage.find(user.uid, "col", Query(sort=sort, after=first.next, full=True))
        stayed = [item for item in items[4:] if item.id not in (items[6].id, items[8].id)]
        late = [BSO("an-early-one", at, "", 100), BSO(items[8].id, at, "moved", 100)]
        assert list(second.items) == (stayed + late if sort == "oldest" else stayed)

    def test_a_position_needs_no_item_to_be_there(self, user: User) -> None:
        at = user.put(Change("b", "", 1), Change("d", "", 3))
        assert user.ids(sort="oldest", after=Position("oldest", at, "c")) == ["d"]
        assert user.ids(sort="newest", after=Position("newest", at, "c")) == ["b"]
        assert user.ids(sort="index", after=Position("index", 2, "zzz")) == ["b"]
        assert user.ids(sort="index", after=Position("index", None, "zzz")) == []
        assert user.ids(sort="index", after=Position("index", -5, "")) == []

    def test_no_ids_is_not_all_ids(self, user: User) -> None:
        at = user.put(Change("a", "1"))
        page = user.storage.find(user.uid, "col", Query(ids=()))
        assert (list(page.ids), page.modified) == ([], at)

    @pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 31, 99, 100])
    def test_any_number_of_ids_can_be_asked_for(self, user: User, count: int) -> None:
        user.put(*(Change(f"{i:03}", "") for i in range(100)))
        wanted = tuple(f"{i:03}" for i in range(count))
        assert user.ids(ids=wanted, sort="oldest") == list(wanted)
        with user.work(*wanted) as work:
            assert all(work.item_modified(item) for item in wanted)
        user.delete_ids(*wanted)
        assert len(user.ids()) == 100 - count

    def test_a_missing_collection_reads_as_empty(self, user: User) -> None:
        assert user.storage.find(user.uid, "nobody.has_this-one", Query()) == Page(0)
        user.put(Change("a", "1"))
        assert user.storage.find(user.uid, "missing", Query(full=True, limit=1)) == Page(0)
        assert user.at("missing").modified() == 0
        with pytest.raises(NotFound):
            user.at("missing").item("a")
        with pytest.raises(NotFound):
            user.item("missing")

    def test_ids_are_told_apart_by_every_byte(self, user: User) -> None:
        ids = [
            "a",
            "A",
            "a ",
            " a",
            "a  ",
            "%",
            "_",
            "a%",
            "\\",
            "'",
            '"',
            "{6820f3ca-6e8a-4ff4}",
            "a,b",
            "?",
            ":x",
        ]
        for number, id_ in enumerate(ids):
            user.put(Change(id_, f"payload of {number}"))
        assert user.ids(sort="oldest") == ids
        for number, id_ in enumerate(ids):
            assert user.item(id_).payload == f"payload of {number}"
            assert user.ids(ids=(id_,)) == [id_]
        for id_ in ids[::2]:
            user.delete(id_)
        user.delete_ids("a", "A")
        assert user.ids(sort="oldest") == [id_ for id_ in ids[1::2] if id_ != "A"]

    def test_ids_may_have_every_printable_character_and_sort_by_byte(self, user: User) -> None:
        ids = [character * repeat for character in PRINTABLE for repeat in (1, 64)]
        ids += [PRINTABLE[:64], PRINTABLE[-64:]]
        at = user.put(*(Change(id_, id_) for id_ in ids))
        assert user.items(sort="oldest") == [BSO(id_, at, id_) for id_ in sorted(ids)]
        assert user.ids(sort="newest") == sorted(ids, reverse=True)
        found = [id_ for page in self.pages(user, 7, sort="index") for id_ in page.ids]
        assert found == sorted(ids, reverse=True)

    def test_collection_names_are_told_apart_by_case(self, user: User) -> None:
        names = ["Zz9._-" + "x" * 26, "zz9._-" + "x" * 26, "zz9._-", "ZZ9._-"]
        times = {name: user.at(name).put(Change("a", name)) for name in names}
        assert user.storage.collection_times(user.uid).collections == times
        for name in names:
            assert user.at(name).item("a").payload == name
