"""Random sequences of works, where after each one every read is compared with a model in dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncstore.bso import Change
from syncstore.errors import InvalidBatch, NotFound
from syncstore.storage.api import Query, Totals
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.model import Model
from syncstore.testing.storage_conformance.rooms import Fault, Rooms, User

NAMES = ("col", "bookmarks", "Other")
IDS = ("a", "A", "a ", "b")

names = st.sampled_from(NAMES)
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True)
changes = st.lists(
    st.builds(
        Change,
        st.sampled_from(IDS),
        st.none() | st.sampled_from(["", "x", "\0", "\u20ac\U0001f600", "longer" * 5]),
        st.none() | st.integers(-2, 2),
        st.none() | st.sampled_from([0, 1, 5, 1000]),
    ),
    max_size=4,
    unique_by=lambda change: change.id,
)
steps = st.one_of(
    st.tuples(st.just("put"), names, changes),
    st.tuples(st.just("put"), names, changes),
    st.tuples(st.just("delete"), names, ids),
    st.tuples(st.just("delete_ids"), names, ids),
    st.tuples(st.just("delete_collection"), names, st.none()),
    st.tuples(st.just("delete_all"), st.none(), st.none()),
    st.tuples(st.just("open_batch"), names, changes),
    st.tuples(st.just("append"), st.integers(0, 3), changes),
    st.tuples(st.just("commit"), st.integers(0, 3), changes),
    st.tuples(st.just("fail"), names, changes),
    st.tuples(st.just("pass_time"), st.none(), st.sampled_from([0.003, 0.7, 2.0, 6.0])),
)
queries = st.builds(
    Query,
    ids=st.none() | st.lists(st.sampled_from(IDS), min_size=1, max_size=3).map(tuple),
    newer=st.none() | st.integers(0, 5),
    older=st.none() | st.integers(0, 5),
    sort=st.sampled_from(["newest", "oldest", "index"]),
    limit=st.none() | st.integers(1, 4),
    full=st.just(True),
)


class Run:
    """One sequence: the real storage and the model side by side."""

    def __init__(self, user: User, clock: SteppableClock) -> None:
        self.user = user
        self.clock = clock
        self.model = Model()
        self.all_batches: list[tuple[str, str]] = []

    def step(self, kind: str, where: Any, what: Any) -> None:
        """Do one thing to both."""
        getattr(self, f"_{kind}")(where, what)

    def _drawn(self, time: int) -> int:
        assert time > self.model.mark
        assert time == max(self.model.mark + 1, self.clock.now())
        return time

    def _put(self, name: str, items: Sequence[Change]) -> None:
        self.model.put(name, items, self._drawn(self.user.at(name).put(*items)))

    def _delete(self, name: str, gone: Sequence[str]) -> None:
        live = {item.id for item in self.model.live(name, self.clock.now_ms())}
        try:
            time = self.user.at(name).delete(gone[0])
        except NotFound:
            assert gone[0] not in live
        else:
            assert gone[0] in live
            self.model.delete(name, gone[:1], self._drawn(time))

    def _delete_ids(self, name: str, gone: Sequence[str]) -> None:
        time = self.user.at(name).delete_ids(*gone)
        if name in self.model.collections:
            self.model.delete(name, gone, self._drawn(time))
        else:
            assert time == self.model.mark

    def _delete_collection(self, name: str, _: None) -> None:
        time = self.user.at(name).delete_collection()
        if name in self.model.collections:
            self.model.delete_collection(name, self._drawn(time))
        else:
            assert time == self.model.mark

    def _delete_all(self, _where: None, _what: None) -> None:
        self.model.delete_all(self._drawn(self.user.delete_all()))

    def _open_batch(self, name: str, items: Sequence[Change]) -> None:
        batch = self.user.at(name).open_batch(*items)
        assert batch not in dict(self.all_batches)
        self.model.batches[batch] = (name, list(items))
        self.all_batches.append((batch, name))

    def _batch(self, number: int, use: Callable[[User, str], None]) -> None:
        if number >= len(self.all_batches):
            return
        batch, name = self.all_batches[number]
        known = batch in self.model.batches
        try:
            use(self.user.at(name), batch)
        except InvalidBatch:
            assert not known
        else:
            assert known

    def _append(self, number: int, items: Sequence[Change]) -> None:
        def append(user: User, batch: str) -> None:
            user.append(batch, *items)
            self.model.batches[batch][1].extend(items)

        self._batch(number, append)

    def _commit(self, number: int, items: Sequence[Change]) -> None:
        def commit(user: User, batch: str) -> None:
            self.model.commit(batch, items, self._drawn(user.commit(batch, *items)))

        self._batch(number, commit)

    def _fail(self, name: str, items: Sequence[Change]) -> None:
        with suppress(Fault):
            self.user.at(name).fail(lambda work: work.put(items), *(change.id for change in items))

    def _pass_time(self, _: None, seconds: float) -> None:
        self.clock.step(seconds)

    def compare(self, query: Query) -> None:
        """Every read of both, with `query`, whose times count the distinct times of the collection."""
        model, storage, uid, now = self.model, self.user.storage, self.user.uid, self.clock.now_ms()
        assert storage.collection_times(uid) == Totals(model.mark, model.times())
        assert storage.collection_counts(uid) == Totals(model.mark, model.counts(now))
        assert storage.collection_usage(uid) == Totals(model.mark, model.usage(now))
        for name in NAMES:
            live = model.live(name, now)
            modified = model.times().get(name, 0)
            assert storage.collection_modified(uid, name) == modified
            times = [0, *sorted({item.modified for item in live}), 10**13]
            asked = Query(
                ids=query.ids,
                newer=None if query.newer is None else times[min(query.newer, len(times) - 1)],
                older=None if query.older is None else times[min(query.older, len(times) - 1)],
                sort=query.sort,
                full=True,
            )
            expected = model.find(name, asked, now)
            page = storage.find(uid, name, asked)
            assert (page.modified, list(page.items)) == (modified, expected)
            self._compare_pages(name, asked, query.limit, expected)
            for item in live:
                assert storage.item(uid, name, item.id) == item

    def _compare_pages(self, name: str, asked: Query, limit: int | None, expected: Sequence[Any]) -> None:
        found: list[Any] = []
        after = None
        while limit is not None:
            query = Query(
                asked.ids, asked.newer, asked.older, asked.sort, limit=limit, after=after, full=True
            )
            page = self.user.storage.find(self.user.uid, name, query)
            found += page.items
            after = page.next
            if after is None:
                assert found == list(expected)
                return


class SequenceRules(Rooms):
    """The property that holds for every history."""

    def test_any_history_reads_like_the_model(
        self, new_user: Callable[[], User], clock: SteppableClock
    ) -> None:
        # Made here, since hypothesis wants one instance per property and pytest makes one per database.
        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(st.lists(st.tuples(steps, queries), min_size=5, max_size=20))
        def replay(history: Sequence[Any]) -> None:
            run = Run(new_user(), clock)
            for step, query in history:
                run.step(*step)
                run.compare(query)

        replay()
