"""What a change of a server's state writes down."""

from __future__ import annotations

import os
import socket

import pytest

from syncstore.cache.memcached.new_record import MAX_BY, new_record
from syncstore.cache.memcached.records import MAX_NAME, MAX_REASON, ServerRecord
from syncstore.testing.clocks import SteppableClock

CLOCK = SteppableClock(1_700_000_000_123)


def test_it_says_when_and_who() -> None:
    assert new_record("a", 4, 5, "no answer", CLOCK) == ServerRecord(
        5, 1_700_000_000_123, "no answer", f"{socket.gethostname()}:{os.getpid()}"
    )


def test_a_reason_is_cut_and_fit_to_be_shown() -> None:
    assert new_record("a", 0, 4, "x" * (MAX_REASON + 1), CLOCK).reason == "x" * MAX_REASON
    assert new_record("a", 0, 4, "a\x1b[1m\nb\udc80", CLOCK).reason == "a [1m b "


def test_a_host_with_a_long_name_leaves_room_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 300)
    by = new_record("a", 0, 4, "", CLOCK).by
    assert len(by) == MAX_BY
    assert by.endswith(f"h:{os.getpid()}")


@pytest.mark.parametrize(
    ("server", "seen", "to"),
    [("a", 4, 4), ("a", 4, 3), ("a", -1, 0), ("a", 0, 2**63), ("", 0, 4), ("a" * (MAX_NAME + 1), 0, 4)],
)
def test_what_is_against_the_rules_is_refused(server: str, seen: int, to: int) -> None:
    with pytest.raises(ValueError, match=r"epoch|characters"):
        new_record(server, seen, to, "", CLOCK)
