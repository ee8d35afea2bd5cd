"""The checks by themselves: what each finds, in one sentence."""

from __future__ import annotations

import os
import ssl
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import pytest

from syncstore.clock import SystemClock
from syncstore.doctor import clock, database, locks, strangers, tokens, views
from syncstore.doctor.client import Client, Reply, Unanswered, Why
from syncstore.doctor.findings import Finding
from syncstore.errors import LockTimeout, LockUnavailable
from syncstore.locks.api import Key, LockBackend, Locks, Mode

NOW = 1_767_225_600.0
PUBLIC = views.origin_of("https://sync.example.com/ff")


def test_a_finding_is_a_line() -> None:
    assert str(Finding("clock")) == "clock: ok"
    assert str(Finding("clock", "wind it up")) == "clock: wind it up"


def test_a_stranger_s_answer_does_not_steer_the_terminal() -> None:
    assert str(Finding("address", "it redirects to \x1b]0;x\x07\r\n\x9b1m\u202e\u00fc")) == (
        "address: it redirects to ?]0;x????1m?\u00fc"
    )


# -- clock


@pytest.mark.parametrize(
    ("date", "advice"),
    [
        (formatdate(NOW), ""),
        (formatdate(NOW - 29), ""),
        (formatdate(NOW - 90), "this machine is 90 s ahead of the one that answers: set both by NTP"),
        (formatdate(NOW + 7200), "this machine is 7200 s behind the one that answers: set both by NTP"),
        ("yesterday", "the answer's Date header is no date ('yesterday'): mend the proxy"),
        (None, "the answer has no Date header: let the proxy pass it on"),
    ],
)
def test_the_clock(date: str | None, advice: str) -> None:
    assert clock.examine(date, NOW) == Finding("clock", advice)


# -- database and locks


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("0002", ""),
        (None, "it has no tables yet: run `syncstore migrate`"),
        ("0001", "it has schema 0001 and 0002 is needed: stop the server and run `syncstore migrate`"),
        ("0003", "it has schema 0003, which is newer than this syncstore: upgrade syncstore"),
    ],
)
def test_the_schema(found: str | None, words: str) -> None:
    advice = database.explain_schema(found, "0002", {"0001", "0002"})
    assert advice.startswith(words)
    assert bool(advice) is bool(words)


def test_the_file_of_a_database(tmp_path: Path) -> None:
    file, me = tmp_path / "sync.db", os.geteuid()
    assert database.explain_file(file, me).startswith("there is no such file yet")
    file.touch()
    assert database.explain_file(file, me) == ""
    assert "belongs to " in database.explain_file(file, me + 12_345)
    assert "cannot be looked at" in database.explain_file(file / "below", me)


class Backend:
    """Locks that cannot be had."""

    def __init__(self, error: Exception, name: str) -> None:
        self.error = error
        self.name = name

    def acquire(self, key: Key, mode: Mode, timeout: float) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("sql", LockTimeout("another writer holds the user's row"), "somebody holds the database for long"),
        (
            "sql",
            LockUnavailable("no connection to the database"),
            "none can be taken (no connection to the database): look at the database",
        ),
        ("memcached", LockTimeout("others hold the lock"), "another doctor holds the lock, or one that died"),
        (
            "memcached",
            LockUnavailable("nobody answers"),
            "none can be taken (nobody answers): look at memcached, and at lock.memcached.server or",
        ),
        (
            "zookeeper",
            LockTimeout("others hold the lock"),
            "another doctor holds the lock, or one that died: try again after the session timeout",
        ),
        (
            "zookeeper",
            LockUnavailable("not connected"),
            "none can be taken (not connected): look at ZooKeeper, of whose servers more than half must run",
        ),
    ],
)
def test_locks_that_cannot_be_had(name: str, error: Exception, words: str) -> None:
    found = locks.examine(Locks(cast("LockBackend", Backend(error, name)), SystemClock(), 0))
    assert found.subject == f"locks in {name}"
    assert found.advice.startswith(words)


# -- what answers instead, or does not


@pytest.mark.parametrize("why", list(Why))
def test_every_silence_has_a_sentence(why: Why) -> None:
    advice = strangers.explain_silence(PUBLIC, Unanswered(why, "the system's words"))
    assert "sync.example.com" in advice
    assert "\n" not in advice


class Answering(Client):
    """Gives one answer to everything."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(PUBLIC, ssl.create_default_context())
        self.reply = reply

    def ask(self, method: str, target: str, *_: Any, **__: Any) -> Reply:
        self.target = target
        return self.reply


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


REFUSAL = b'{"status": "invalid-credentials", "errors": []}'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(401, REFUSAL), ""),
        (reply(401, b"0"), "the proxy asks for a password of its own"),
        (reply(404, b"0", x_weave_timestamp="1.00"), "the server that answers has none: restart it"),
        (reply(503, b"{}", content_type="application/json"), "it answers 503: look into the server's log"),
        (
            reply(200, b"<TITLE>\nCloud </TITLE>", content_type="text/html; charset=utf-8"),
            "the web page 'Cloud'",
        ),
        (reply(200, b"<p>", content_type="text/html"), "a web page answers there (200)"),
    ],
)
def test_the_token_server(answer: Reply, words: str) -> None:
    asked = Answering(answer)
    found = tokens.examine(asked)
    assert asked.target == "/ff/1.0/sync/1.5"
    assert found.advice.startswith(words)
    assert found.ok is not bool(words)


# -- what the server says of itself


@pytest.mark.parametrize(
    "body",
    [b"", b"0", b"{}", b'{"server":"syncstore","url":"nonsense","url_from":"request"}', b"\xff", b"[" * 9999],
)
def test_an_answer_that_tells_nothing(body: bytes) -> None:
    assert views.ask(Answering(reply(200, body))) is None


def test_the_same_address_is_well_however_it_is_written() -> None:
    body = b'{"server":"syncstore","url":"https://SYNC.example.com:443/ff","url_from":"request"}'
    view = views.ask(Answering(reply(200, body)))
    assert view is not None
    assert views.explain(PUBLIC, view, in_settings=True) == ""
