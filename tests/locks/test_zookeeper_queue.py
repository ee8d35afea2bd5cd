"""Where a lock's queue is, and whom each in it waits for."""

from __future__ import annotations

from syncstore.locks.api import WHOLE_STORAGE
from syncstore.locks.zookeeper_queue import directory_of, nearest_before, number_of, prefix_of, queue
from syncstore.zookeeper.nodes import check_path

A, B, C, D = (letter * 32 for letter in "abcd")


def node(call: str, mode: str, number: int) -> str:
    return f"{call}-{mode[0]}-{number:010}"


NAMES = [node(C, "read", 5), node(A, "write", 2), node(D, "write", 7), node(B, "read", 4)]


def test_the_first_is_in_front() -> None:
    assert [(one.number, one.mode, one.call) for one in queue(NAMES)] == [
        (2, "write", A),
        (4, "read", B),
        (5, "read", C),
        (7, "write", D),
    ]


def test_a_writer_waits_for_the_nearest_and_a_reader_for_the_nearest_writer() -> None:
    assert nearest_before(NAMES, 7, "write", ()) == NAMES[0]
    assert nearest_before(NAMES, 5, "read", ()) == NAMES[1]
    assert nearest_before(NAMES, 4, "read", ()) == NAMES[1]
    assert nearest_before(NAMES, 9, "read", ()) == NAMES[2]
    assert nearest_before(NAMES, 2, "write", ()) is None


def test_who_came_later_is_in_nobodys_way() -> None:
    assert nearest_before([node(A, "write", 3), node(B, "write", 4)], 3, "write", ()) is None


def test_readers_alone_wait_for_nobody() -> None:
    assert nearest_before([node(A, "read", 1), node(B, "read", 2)], 2, "read", ()) is None
    assert nearest_before([node(A, "read", 1), node(B, "write", 2)], 2, "write", ()) == node(A, "read", 1)


def test_what_a_call_has_given_up_is_not_in_its_own_way() -> None:
    assert nearest_before(NAMES, 4, "read", {A}) is None
    assert nearest_before(NAMES, 7, "write", {A, C}) == NAMES[3]


def test_what_is_no_node_of_ours_is_not_looked_at() -> None:
    strange = ["x", f"{A}-w-1", f"{A}-x-0000000001", f"{A[1:]}-w-0000000001", f"{A}-w-0000000001-more"]
    assert queue(strange) == []


def test_the_name_of_a_node_is_its_prefix_and_a_number() -> None:
    for mode in ("read", "write"):
        (one,) = queue([f"{prefix_of(A, mode)}0000000012"])
        assert (one.call, one.mode, one.number, number_of(one.name)) == (A, mode, 12, 12)


def test_each_lock_has_a_directory_of_its_own_that_zookeeper_takes() -> None:
    names = [WHOLE_STORAGE, "tabs", ".", "..", "a.b-c_d", "7-tabs", "ü/ä", "a%2Fb", "a/b", "\x00", "\x7f"]
    keys = [(uid, name) for uid in (7, 77, 2**31) for name in names]
    paths = {directory_of(key) for key in keys}
    assert len(paths) == len(keys)
    for path in paths:
        check_path(path)
        assert path.count("/") == 3
    assert directory_of((7, "tabs")).startswith("/locks/")
    assert directory_of((7, "tabs")).endswith("/7-tabs")
