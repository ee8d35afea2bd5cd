"""An operator's own function is told of each failure, once, and can neither delay nor break anything."""

from __future__ import annotations

import threading
from queue import Queue

import pytest

from syncstore.cache.memcached.announcing import Announcer, callback
from syncstore.cache.memcached.records import Standing
from syncstore.cache.memcached.shared_state import Transition

ADDRESSES = {"a": ("10.0.0.1", 11211), "b": ("/run/b.sock", 0)}
PATIENCE = 20.0

Told = Queue[tuple[str, int, str]]


def failure(server: str, reason: str = "no answer") -> Transition:
    return Transition(server, Standing.FAILED, reason)


def test_it_is_called_with_host_port_and_reason() -> None:
    told: Told = Queue()
    announcer = Announcer(lambda *words: told.put(words), ADDRESSES)
    announcer(failure("a"))
    announcer(failure("b", "it hangs"))
    assert told.get(timeout=PATIENCE) == ("10.0.0.1", 11211, "no answer")
    assert told.get(timeout=PATIENCE) == ("/run/b.sock", 0, "it hangs")


@pytest.mark.parametrize("standing", [Standing.UP, Standing.RETURNING, Standing.HELD])
def test_it_is_called_for_failures_alone(standing: Standing) -> None:
    told: Told = Queue()
    announcer = Announcer(lambda *words: told.put(words), ADDRESSES)
    announcer(Transition("a", standing, "whatever"))
    announcer(failure("a"))
    assert told.get(timeout=PATIENCE)[2] == "no answer"
    assert told.empty()


def test_without_a_function_there_is_no_thread() -> None:
    before = threading.active_count()
    Announcer(None, ADDRESSES)(failure("a"))
    Announcer(print, ADDRESSES)(Transition("a", Standing.UP, "it answers again"))
    assert threading.active_count() == before


def test_one_that_raises_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    told: Told = Queue()

    def raise_first(host: str, port: int, reason: str) -> None:
        told.put((host, port, reason))
        if reason == "first":
            raise ZeroDivisionError

    announcer = Announcer(raise_first, ADDRESSES)
    announcer(failure("a", "first"))
    announcer(failure("a", "second"))
    assert [told.get(timeout=PATIENCE)[2] for _ in range(2)] == ["first", "second"]
    assert "memcached.on_failure raised" in caplog.text


def test_one_that_does_not_return_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    called, go_on = threading.Event(), threading.Event()
    told: Told = Queue()

    def hang(host: str, port: int, reason: str) -> None:
        told.put((host, port, reason))
        called.set()
        assert go_on.wait(PATIENCE)

    announcer = Announcer(hang, ADDRESSES)
    announcer(failure("a", "0"))
    assert called.wait(PATIENCE)
    for number in range(1, 150):
        announcer(failure("a", str(number)))
    assert caplog.text.count("memcached.on_failure is not told of a: it has not returned for long") == 49
    go_on.set()
    assert [told.get(timeout=PATIENCE)[2] for _ in range(101)] == [str(number) for number in range(101)]


def test_many_who_tell_at_once_share_one_thread() -> None:
    told: Told = Queue()
    threads: set[int] = set()

    def note(*words: object) -> None:
        threads.add(threading.get_ident())
        told.put(("", 0, ""))

    announcer = Announcer(note, ADDRESSES)
    tellers = [threading.Thread(target=announcer, args=(failure("a"),)) for _ in range(8)]
    for teller in tellers:
        teller.start()
    for _ in tellers:
        told.get(timeout=PATIENCE)
    for teller in tellers:
        teller.join(PATIENCE)
    assert len(threads) == 1


def test_the_function_is_found_by_its_name() -> None:
    assert callback("os.path:join") is __import__("os").path.join


@pytest.mark.parametrize(
    ("name", "error"),
    [("no_such_module_at_all:x", ImportError), ("os:no_such", AttributeError), ("os:sep", TypeError)],
)
def test_what_is_no_function_is_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        callback(name)
