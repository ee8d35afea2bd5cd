"""Replies are read to the byte, in whatever pieces they come, and nothing that is not one passes for one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from syncstore.cache.api import BackendUnavailable
from syncstore.cache.memcached.replies import FULL, TOO_LARGE, OutOfStep, Replies

VALUES = (
    b"VA 5 c17 f0\r\nhello\r\n"
    b"EN\r\n"
    b"VA 0 c18446744073709551615 f1 W\r\n\r\n"
    b"VA 6 c1 f4294967295 X Z\r\n\r\nEN\r\n\r\n"
)


def replies_of(*pieces: bytes) -> Replies:
    """What receives these pieces, and then no more."""
    left = iter(pieces)

    def receive() -> bytes:
        piece = next(left, None)
        if piece is None:
            raise BackendUnavailable("it asks for more than there is")
        return piece

    replies = Replies(receive)
    replies.max_value = 1000
    replies.begin()
    return replies


def read_values(replies: Replies, count: int) -> list[tuple[bytes, int, int] | None]:
    found: list[tuple[bytes, int, int] | None] = []
    for _ in range(count):
        stored = replies.value()
        if stored is None:
            found.append(None)
        else:
            data, start, stop, number, flags = stored
            found.append((data[start:stop], number, flags))
    replies.end()
    return found


def check_values(pieces: Sequence[bytes]) -> None:
    assert read_values(replies_of(*pieces), 4) == [
        (b"hello", 17, 0),
        None,
        (b"", 2**64 - 1, 1),
        (b"\r\nEN\r\n", 1, 2**32 - 1),
    ]


def test_it_reads_values_that_come_at_once() -> None:
    check_values([VALUES])


def test_it_reads_values_that_come_byte_by_byte() -> None:
    check_values([VALUES[at : at + 1] for at in range(len(VALUES))])


@pytest.mark.parametrize("at", range(1, len(VALUES)))
def test_it_reads_values_that_are_torn_anywhere(at: int) -> None:
    check_values([VALUES[:at], VALUES[at:]])


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_it_reads_outcomes(step: int) -> None:
    text = b"HD c12\r\nNS c0\r\nHD\r\nEX c0\r\nEX\r\nNF\r\nNF c0\r\n%b\r\n%b\r\n" % (TOO_LARGE, FULL)
    replies = replies_of(*(text[at : at + step] for at in range(0, len(text), step)))
    codes = [replies.outcome() for _ in range(9)]
    replies.end()
    assert codes[0] == (b"HD", 12)
    assert [code for code, _ in codes[1:]] == [b"NS", b"HD", b"EX", b"EX", b"NF", b"NF", TOO_LARGE, FULL]


def test_it_reads_statistics() -> None:
    replies = replies_of(b"STAT pid 1\r\nSTAT inter NULL\r\nSTAT empty \r\nSTAT b", b"are\r\nEND\r\nEND\r\n")
    assert replies.stats() == {"pid": "1", "inter": "NULL", "empty": "", "bare": ""}
    assert replies.stats() == {}
    replies.end()


NO_VALUES = [
    b"\r\n",
    b"HD\r\n",
    b"EN \r\n",
    b"EN\n",
    b"END\r\n",
    b"MN\r\n",
    b"ERROR\r\n",
    b"CLIENT_ERROR bad command line format\r\n",
    b"SERVER_ERROR out of memory writing get response\r\n",
    b"VALUE k 0 5\r\nhello\r\n",
    b"VA 5 c17 f0\nhello\r\n",
    b"VA 5 f0 c17\r\nhello\r\n",
    b"VA 5 c17\r\nhello\r\n",
    b"VA 5 c17 f0 t1\r\nhello\r\n",
    b"VA -5 c17 f0\r\nhello\r\n",
    b"VA +5 c17 f0\r\nhello\r\n",
    b"VA 0x5 c17 f0\r\nhello\r\n",
    b"VA 5_0 c17 f0\r\nhello\r\n",
    b"VA  5 c17 f0\r\nhello\r\n",
    b"VA 4 c17 f0\r\nhello\r\n",
    b"VA 5 c17 f0\r\nhelloEN\r\n",
    b"VA 99999999999 c17 f0\r\nhello\r\n",
    "VA \u0665 c17 f0\r\nhello\r\n".encode(),
    b"x" * 2000,
    b"VA 5" + b" W" * 1000 + b"\r\n",
]


@pytest.mark.parametrize("text", NO_VALUES)
@pytest.mark.parametrize("step", [1, 3000])
def test_what_is_no_value_ends_the_connection(text: bytes, step: int) -> None:
    replies = replies_of(*(text[at : at + step] for at in range(0, len(text), step)))
    with pytest.raises(OutOfStep):
        replies.value()


@pytest.mark.parametrize(
    "text",
    [
        b"EN\r\n",
        b"HD c\r\n",
        b"HD c1 \r\n",
        b"HD t1\r\n",
        b"hd\r\n",
        b"STORED\r\n",
        b"CLIENT_ERROR bad data chunk\r\n",
        b"ERROR\r\n",
        b"SERVER_ERROR out of memory\r\n",
        b"SERVER_ERROR \r\n",
        b"VA 5 c17 f0\r\nhello\r\n",
    ],
)
def test_what_is_no_outcome_ends_the_connection(text: bytes) -> None:
    with pytest.raises(OutOfStep):
        replies_of(text).outcome()


@pytest.mark.parametrize("text", [b"STAT\r\n", b"HD\r\n", b"STAT a b\nSTAT", b"RESET\r\n"])
def test_what_is_no_statistic_ends_the_connection(text: bytes) -> None:
    with pytest.raises(OutOfStep):
        replies_of(text).stats()


def test_nothing_may_be_left_over() -> None:
    replies = replies_of(b"EN\r\nVA 6 c9 f0\r\nsecret\r\n")
    assert replies.value() is None
    with pytest.raises(OutOfStep):
        replies.end()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"SERVER_ERROR out of memory writing\r\n", "36 bytes that begin with SERVER_ERROR"),
        (b"ERROR\r\n", "7 bytes that begin with ERROR"),
        (b"SECRET\r\n", "8 bytes"),
        (b"NS_SECRET\r\n", "11 bytes"),
        (b"secret" * 400, "2400 bytes"),
        (b"\r\nHD secret\r\n", "13 bytes"),
    ],
)
def test_what_is_no_reply_is_told_without_what_may_be_a_user_s(text: bytes, told: str) -> None:
    for read in (Replies.value, Replies.outcome, Replies.stats):
        with pytest.raises(OutOfStep) as refused:
            read(replies_of(text))
        assert str(refused.value) == f"memcached says what is no reply: {told}"


def test_what_is_left_over_is_told_without_what_may_be_a_user_s() -> None:
    for text, told in ((b"secret", "6 bytes"), (b"VA 6 c9 f0\r\nsecret\r\n", "20 bytes that begin with VA")):
        replies = replies_of(b"EN\r\n" + text)
        replies.value()
        with pytest.raises(OutOfStep) as refused:
            replies.end()
        assert str(refused.value) == f"memcached says more than it was asked: {told}"


def test_a_value_larger_than_the_server_can_have_is_not_read() -> None:
    replies = replies_of(b"VA 1001 c1 f0\r\n", b"x" * 1001 + b"\r\n")
    with pytest.raises(OutOfStep):
        replies.value()


def test_what_does_not_come_is_no_reply() -> None:
    for text in (b"E", b"VA 5 c17 f0\r\nhel", b"VA 5 c17 f0\r\nhello\r"):
        with pytest.raises(BackendUnavailable, match="more than there is"):
            replies_of(text).value()
