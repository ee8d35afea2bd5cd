"""Everything that locks over a backend (`syncstore.locks.api`) must do, as tests that a new backend inherits.

A backend is proved by a subclass that says how to open it, by means that another process can use, too:

    from syncstore.testing.lock_conformance import LockConformance

    class TestMyLocks(LockConformance):
        @pytest.fixture
        def open_locks(self, my_server):
            return functools.partial(my_package.open_locks, my_server.address)  # a context manager of Locks

        @pytest.fixture
        def open_unreachable_locks(self):
            return functools.partial(my_package.open_locks, "127.0.0.1:1")

What a backend cannot do it declares in the attributes of the class.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest

from syncstore.clock import SystemClock
from syncstore.errors import LockTimeout, LockUnavailable, LockUpgradeError
from syncstore.locks.api import WHOLE_STORAGE, Grant, Key, LockBackend, LockHandle, Locks, Mode
from syncstore.testing.lock_holder import Holder, HolderProcess, HolderThread, OpenLocks

MODES: tuple[Mode, ...] = ("read", "write")
PATIENCE = 20.0
"""Seconds after which a test gives up on a lock that it must get."""

_uids = itertools.count(secrets.randbelow(2**30))


class CountingBackend:
    """A backend that counts what reaches the one behind it, and fails at release on request."""

    def __init__(self, behind: LockBackend) -> None:
        self.behind = behind
        self.name = behind.name
        self.acquired = self.released = 0
        self.fails_at_release = False

    def acquire(self, key: Key, mode: Mode, timeout: float) -> Grant:
        """Count, and ask the one behind."""
        grant = self.behind.acquire(key, mode, timeout)
        self.acquired += 1
        return _CountedGrant(self, grant)

    def sweep(self) -> Iterator[int]:
        """Ask the one behind."""
        return self.behind.sweep()

    def close(self) -> None:
        """Leave the one behind open: it is another's."""


class _CountedGrant:
    def __init__(self, backend: CountingBackend, grant: Grant) -> None:
        self._backend = backend
        self._grant = grant
        self.token = grant.token

    def valid(self) -> bool:
        return self._grant.valid()

    def release(self) -> None:
        self._backend.released += 1
        self._grant.release()
        if self._backend.fails_at_release:
            raise LockUnavailable("the service went away")


def take(
    locks: Locks, mode: Mode, uid: int, collection: str = "col", timeout: float = PATIENCE
) -> LockHandle:
    """A lock of either mode."""
    return (locks.read if mode == "read" else locks.write)(uid, collection, timeout)


class LockConformance:
    """All rules. A subclass brings `open_locks` and `open_unreachable_locks`, both of type OpenLocks."""

    readers_share: ClassVar[bool] = True
    """Whether two readers can hold a lock at once."""

    readers_keep_writers_out: ClassVar[bool] = True
    """False where a reader has a snapshot instead of a lock."""

    users_are_independent: ClassVar[bool] = True
    """Whether two users can be locked for writing at once."""

    readers_let_writers_in: ClassVar[bool] = True
    """False where readers who keep coming can keep a writer waiting for ever."""

    other_processes: ClassVar[bool] = True
    """False where a lock is known to one process alone."""

    freed_after_death: ClassVar[float] = 1.0
    """Seconds after which the lock of a dead process is free: 0 plus a margin, a lease, or a session's timeout."""

    freed_after_pause: ClassVar[float | None] = None
    """The same for the lock of a process that hangs; None where it is never taken from it."""

    @pytest.fixture
    def open_locks(self) -> OpenLocks:
        """How Locks over the backend under test are opened: what a subclass must bring."""
        raise NotImplementedError("a conformance class needs a fixture `open_locks`")

    @pytest.fixture
    def open_unreachable_locks(self) -> OpenLocks:
        """The same over a service that is not there."""
        raise NotImplementedError("a conformance class needs a fixture `open_unreachable_locks`")

    @pytest.fixture
    def locks(self, open_locks: OpenLocks) -> Iterator[Locks]:
        """Locks over the backend under test."""
        with open_locks() as locks:
            yield locks

    @pytest.fixture
    def counted(self, locks: Locks) -> Locks:
        """Locks over the same backend that count."""
        return Locks(CountingBackend(locks.backend), SystemClock(), PATIENCE)

    @pytest.fixture
    def uid(self) -> int:
        """A user that nobody has locked."""
        return next(_uids)

    @pytest.fixture
    def thread(self, locks: Locks) -> Iterator[Holder]:
        """Another thread."""
        with HolderThread(locks) as holder:
            yield holder

    @pytest.fixture
    def process(self, open_locks: OpenLocks) -> Iterator[HolderProcess]:
        """Another process."""
        if not self.other_processes:
            pytest.skip("this backend keeps its locks inside one process")
        with HolderProcess(open_locks) as holder:
            yield holder

    # -- what one thread may ask for while it holds (the table of locks.api)

    @pytest.mark.parametrize("asked", MODES)
    @pytest.mark.parametrize("held", MODES)
    def test_a_thread_goes_deeper_without_asking_the_backend_but_never_upgrades(
        self, counted: Locks, uid: int, held: Mode, asked: Mode
    ) -> None:
        with take(counted, held, uid) as outer:
            assert (outer.mode, outer.depth) == (held, 1)
            if (held, asked) == ("read", "write"):
                with pytest.raises(LockUpgradeError):
                    take(counted, asked, uid)
            else:
                with take(counted, asked, uid) as inner:
                    assert (inner.mode, inner.depth) == (held, 2)
            assert outer.depth == 1
            assert outer.valid()
            assert self._counts(counted) == (1, 0)
        assert self._counts(counted) == (1, 1)

    @staticmethod
    def _counts(locks: Locks) -> tuple[int, int]:
        backend = locks.backend
        assert isinstance(backend, CountingBackend)
        return backend.acquired, backend.released

    @pytest.mark.parametrize("mode", MODES)
    def test_five_blocks_deep_is_one_acquire_and_one_release(
        self, counted: Locks, thread: Holder, uid: int, mode: Mode
    ) -> None:
        handles = [take(counted, mode, uid).__enter__() for _ in range(5)]
        assert [handle.depth for handle in handles] == [5] * 5
        while handles:
            assert self._counts(counted) == (1, 0)
            if mode == "write":
                assert thread.enter("write", uid) == "LockTimeout"
            handles.pop().__exit__(None, None, None)
        assert self._counts(counted) == (1, 1)
        assert thread.enter("write", uid, timeout=PATIENCE) == "held"

    def test_a_handle_tells_what_it_is(self, locks: Locks, uid: int) -> None:
        with locks.write(uid, "col") as handle:
            assert handle.backend == locks.backend.name
            assert isinstance(handle.token, int)
            assert handle.valid()
            handle.check()

    # -- who excludes whom

    @pytest.mark.parametrize("elsewhere", ["thread", "process"])
    def test_writers_exclude_everybody_and_readers_share(
        self, request: pytest.FixtureRequest, locks: Locks, uid: int, elsewhere: str
    ) -> None:
        other: Holder = request.getfixturevalue(elsewhere)
        with locks.write(uid, "col"):
            """The user exists from now on: what was never written cannot be locked for reading everywhere."""
        for held, asked in itertools.product((None, *MODES), MODES):
            expected = "held" if self._together(held, asked) else "LockTimeout"
            if held is None:
                outcome = other.enter(asked, uid)
            else:
                with take(locks, held, uid):
                    outcome = other.enter(asked, uid)
            assert outcome == expected, f"{held} is held, {asked} is asked for"
            if outcome == "held":
                assert other.leave() == "left"
            with locks.write(uid, "col", PATIENCE):
                """Nothing was left behind."""

    def _together(self, held: Mode | None, asked: Mode) -> bool:
        if held is None:
            return True
        if held == asked == "read":
            return self.readers_share
        return (held, asked) != ("write", "write") and not self.readers_keep_writers_out

    @pytest.mark.parametrize("elsewhere", ["thread", "process"])
    def test_the_first_lock_of_a_new_user_excludes_like_any_other(
        self, request: pytest.FixtureRequest, locks: Locks, uid: int, elsewhere: str
    ) -> None:
        other: Holder = request.getfixturevalue(elsewhere)
        with locks.write(uid, "col"):
            assert other.enter("write", uid) == "LockTimeout"
        assert other.enter("write", uid, timeout=PATIENCE) == "held"

    def test_users_do_not_wait_for_each_other(self, locks: Locks, thread: Holder, uid: int) -> None:
        if not self.users_are_independent:
            pytest.skip("this backend locks all users at once")
        with locks.write(uid, "col"):
            assert thread.enter("write", next(_uids)) == "held"

    def test_a_waiting_writer_gets_the_lock_when_it_is_free(
        self, locks: Locks, thread: Holder, uid: int
    ) -> None:
        with locks.write(uid, "col"):
            thread.begin_to_enter("write", uid, "col", PATIENCE)
            assert thread.waits(0.1)
        assert thread.outcome() == "held"

    def test_no_two_writers_overlap_and_no_reader_meets_one(self, locks: Locks, uid: int) -> None:
        with locks.write(uid, "col"):
            """The user exists."""
        inside: dict[Mode, int] = {"read": 0, "write": 0}
        seen: list[dict[Mode, int]] = []
        gate = threading.Lock()

        def work(mode: Mode) -> None:
            for _ in range(15):
                with take(locks, mode, uid):
                    with gate:
                        inside[mode] += 1
                        seen.append(dict(inside))
                    time.sleep(0.001)
                    with gate:
                        inside[mode] -= 1

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(work, ["write", "read"] * 3))
        assert len(seen) == 90
        assert all(counts["write"] <= 1 for counts in seen)
        if self.readers_keep_writers_out:
            assert all(counts["write"] == 0 or counts["read"] == 0 for counts in seen)

    def test_processes_take_turns(self, open_locks: OpenLocks, uid: int, tmp_path: Path) -> None:
        self._count_together(open_locks, uid, tmp_path / "counter", processes=3, rounds=40)

    @pytest.mark.soak
    def test_processes_take_turns_for_long(self, open_locks: OpenLocks, uid: int, tmp_path: Path) -> None:
        self._count_together(open_locks, uid, tmp_path / "counter", processes=8, rounds=2000)

    def _count_together(
        self, open_locks: OpenLocks, uid: int, counter: Path, processes: int, rounds: int
    ) -> None:
        """What reads a number and writes the next one loses some where two are at it at once."""
        if not self.other_processes:
            pytest.skip("this backend keeps its locks inside one process")
        counter.write_text("0", "ascii")
        with ExitStack() as stack:
            holders = [stack.enter_context(HolderProcess(open_locks)) for _ in range(processes)]
            for holder in holders:
                holder.begin_to_count(uid, counter, rounds, PATIENCE)
            assert [holder.outcome(rounds * 1.0) for holder in holders] == ["counted"] * processes
        assert int(counter.read_text("ascii")) == processes * rounds

    def test_a_writer_is_not_starved_by_readers(self, locks: Locks, uid: int) -> None:
        """Within 2 seconds, which is also the least timeout that `open_locks` may give its Locks."""
        if not self.readers_let_writers_in:
            pytest.skip("this backend lets readers overtake a writer who waits")
        with locks.write(uid, "col"):
            """The user exists."""
        stop = threading.Event()
        waits = []

        def read() -> None:
            while not stop.is_set():
                with locks.read(uid, "col"):
                    time.sleep(0.005)

        with ThreadPoolExecutor(8) as threads:
            readers = [threads.submit(read) for _ in range(8)]
            try:
                for _ in range(3):
                    time.sleep(0.05)  # so that the readers are at work again
                    began = time.monotonic()
                    with locks.write(uid, "col"):  # as a service does: with the timeout of its setting
                        waits.append(time.monotonic() - began)
            finally:
                stop.set()
            for reader in readers:
                reader.result(PATIENCE)
        assert max(waits) < 2

    # -- what ends a lock

    def test_an_exception_gives_the_lock_back_and_goes_on_unchanged(
        self, counted: Locks, thread: Holder, uid: int
    ) -> None:
        error = ZeroDivisionError("mine")
        with pytest.raises(ZeroDivisionError) as caught, counted.write(uid, "col"), counted.write(uid, "col"):
            raise error
        assert caught.value is error
        assert self._counts(counted) == (1, 1)
        assert thread.enter("write", uid, timeout=PATIENCE) == "held"

    def test_a_failing_release_masks_neither_the_exception_nor_the_result(
        self, counted: Locks, uid: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend = counted.backend
        assert isinstance(backend, CountingBackend)
        backend.fails_at_release = True
        error = ZeroDivisionError("mine")
        with pytest.raises(ZeroDivisionError) as caught, counted.write(uid, "col"):
            raise error
        assert caught.value is error
        with counted.write(uid, "col"):
            result = "written"
        assert result == "written"
        assert counted.lost_at_release == 2
        assert len([record for record in caplog.records if "lost before its release" in record.message]) == 2

    def test_the_lock_of_a_killed_process_is_free_soon(
        self, locks: Locks, process: HolderProcess, uid: int
    ) -> None:
        assert process.enter("write", uid) == "held"
        with pytest.raises(LockTimeout):
            locks.write(uid, "col", 0)
        process.kill9()
        with locks.write(uid, "col", self.freed_after_death):
            """We got it."""

    def test_the_lock_of_a_process_that_hangs_is_its_own_or_known_to_be_lost(
        self, locks: Locks, process: HolderProcess, uid: int
    ) -> None:
        assert process.enter("write", uid) == "held"
        assert process.look() == "valid"
        process.freeze()
        if self.freed_after_pause is None:
            with pytest.raises(LockTimeout):
                locks.write(uid, "col", 0.5)
            process.thaw()
            assert process.look() == "valid"
            assert process.leave() == "left"
            return
        with locks.write(uid, "col", self.freed_after_pause):
            process.thaw()
            assert process.look() == "lost"
            assert process.leave() == "left"  # what it held no longer, and so not ours
            assert process.enter("write", uid) == "LockTimeout"
        assert locks.lost_at_release == 0
        assert process.enter("write", uid, timeout=PATIENCE) == "held"

    # -- how long it takes

    @pytest.mark.parametrize("timeout", [0.0, 0.3, 1.0])
    def test_a_held_lock_is_given_up_in_time(
        self, locks: Locks, thread: Holder, uid: int, timeout: float
    ) -> None:
        assert thread.enter("write", uid) == "held"
        waited = []
        for _ in range(3):  # a busy machine may spoil one
            began = time.monotonic()
            with pytest.raises(LockTimeout):
                locks.write(uid, "col", timeout)
            waited.append(time.monotonic() - began)
            if timeout <= waited[-1] + 0.05 and waited[-1] <= timeout + 0.3:
                return
        pytest.fail(f"waited {waited} instead of {timeout} s")

    def test_a_service_that_is_not_there_is_told_from_a_held_lock(
        self, open_unreachable_locks: OpenLocks, uid: int
    ) -> None:
        with open_unreachable_locks() as locks:
            for mode in MODES:
                with pytest.raises(LockUnavailable):
                    take(locks, mode, uid, timeout=0.3)
                with pytest.raises(LockUnavailable):  # the failure has left nothing that counts as held
                    take(locks, mode, uid, timeout=0.3)

    # -- what a caller must not do

    @staticmethod
    def _uses(handle: LockHandle) -> list[Callable[[], object]]:
        return [
            handle.valid,
            handle.check,
            lambda: handle.mode,
            lambda: handle.depth,
            lambda: handle.token,
            lambda: handle.__exit__(None, None, None),
        ]

    def test_a_handle_belongs_to_its_thread(self, locks: Locks, thread: Holder, uid: int) -> None:
        with ThreadPoolExecutor(1) as elsewhere, locks.write(uid, "col") as handle:
            for use in (
                handle.valid,
                handle.check,
                lambda: handle.mode,
                lambda: handle.__exit__(None, None, None),
            ):
                with pytest.raises(RuntimeError, match="thread"):
                    elsewhere.submit(use).result(PATIENCE)
            assert handle.valid()
            assert thread.enter("write", uid) == "LockTimeout"
        assert thread.enter("write", uid, timeout=PATIENCE) == "held"

    def test_a_handle_ends_with_its_block(self, locks: Locks, uid: int) -> None:
        with locks.write(uid, "col") as outer:
            with locks.write(uid, "col") as handle:
                pass
            for use in (
                handle.valid,
                handle.check,
                lambda: handle.mode,
                lambda: handle.__exit__(None, None, None),
            ):
                with pytest.raises(RuntimeError, match="after its block"):
                    use()
            assert outer.valid()

    def test_several_locks_are_taken_in_ascending_order(self, locks: Locks, thread: Holder, uid: int) -> None:
        with locks.write(uid, WHOLE_STORAGE), locks.write(uid, "a"), locks.write(uid, "b"):
            with pytest.raises(RuntimeError, match="ascending"):
                locks.write(uid, "aa")
            with locks.write(uid, "a") as again:  # one that is held is not taken
                assert again.depth == 2
        for collection in (WHOLE_STORAGE, "a", "b", "aa"):
            assert thread.enter("write", uid, collection, PATIENCE) == "held", collection
            assert thread.leave() == "left"

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    def test_several_locks_can_be_given_back_in_any_order(
        self, locks: Locks, thread: Holder, uid: int, order: tuple[int, ...]
    ) -> None:
        handles = [locks.write(uid, name).__enter__() for name in ("a", "b", "c")]
        for place, number in enumerate(order):
            assert all(handles[other].valid() for other in order[place:])
            handles[number].__exit__(None, None, None)
        assert thread.enter("write", uid, "c", PATIENCE) == "held"
