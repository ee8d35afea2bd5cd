"""shmap: each row of the tables of docs/small-caches.md, asked of a mount in this process.

What a refused request must not do is looked up in the cache itself.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any, NamedTuple

import pytest
from webtest.lint import middleware

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Busy,
    Conflict,
    Features,
    Item,
    NotFound,
    NotSupported,
    Provider,
    StorageFull,
    TooLarge,
)
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import SystemClock
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.shmap_stand import WSGIApp, mounted
from syncstore.testing.transports import Body, Chunked, InProcess, Unsent
from syncstore.web.shmap import Rules
from syncstore.web.shmap_answers import REASONS
from syncstore.web.shmap_deadline import Deadline

LIMIT = 1000
SECRET = "a-secret-of-sixteen-or-more"


class Answered(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def word(self) -> str:
        return self.headers["x-shmap"]

    @property
    def tag(self) -> str:
        return self.headers["etag"]


class Client:
    """Sends requests to a mount in this process, and holds every answer to what is true of all."""

    def __init__(self, application: WSGIApp) -> None:
        self._sends = InProcess(application)

    def __call__(
        self, method: str, target: str, body: Body = None, headers: Mapping[str, str] | None = None
    ) -> Answered:
        status, given, came = self._sends.send(method, target, headers or {}, body)
        names = [name.lower() for name, _ in given]
        assert len(set(names)) == len(names)
        answered = Answered(status, {name.lower(): value for name, value in given}, came)
        assert status in REASONS
        assert answered.headers["cache-control"] == "no-cache"
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in names if name.startswith("access-control")]
        assert (answered.word == "ok") == (status < 400)
        if status >= 400:
            assert answered.headers["content-type"] == "application/json"
            if method != "HEAD":
                assert list(json.loads(came)) == ["error"]
        if method == "HEAD" or status in (204, 304):
            assert came == b""
        return answered


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def cache(clock: SteppableClock) -> MemoryProvider:
    return MemoryProvider(clock, max_value=LIMIT)


@pytest.fixture
def ask(cache: MemoryProvider, clock: SteppableClock) -> Client:
    return Client(mounted(cache, clock))


def stored(cache: Provider) -> dict[bytes, bytes]:
    return {key: item.value for key, item in cache.iterate()}


# -- the rows of what is done


def test_a_value_is_put_and_got(ask: Client, cache: MemoryProvider) -> None:
    put = ask("PUT", "/map/a", b"\x00value\xff")
    assert put.status == 201
    got = ask("GET", "/map/a")
    assert (got.status, got.body) == (200, b"\x00value\xff")
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-length"] == "7"
    assert got.tag == put.tag
    assert "expires" not in got.headers
    assert "x-shmap-expires-at" not in got.headers
    assert stored(cache) == {b"/map/a": b"\x00value\xff"}


def test_head_is_get_without_the_body(ask: Client) -> None:
    ask("PUT", "/map/a", b"value", {"X-Shmap-Expires": "10"})
    got, head = ask("GET", "/map/a"), ask("HEAD", "/map/a")
    assert head.status == 200
    assert head.headers == got.headers
    assert ask("HEAD", "/map/none").status == 404


def test_only_a_missing_key_is_404(ask: Client) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        missing = ask(method, "/map/none")
        assert (missing.status, missing.word) == (404, "not-found")


def test_a_value_is_replaced_with_204_and_another_tag(ask: Client) -> None:
    first = ask("PUT", "/map/a", b"1")
    second = ask("PUT", "/map/a", b"2")
    assert (second.status, second.tag != first.tag) == (204, True)
    assert ask("GET", "/map/a").body == b"2"


def test_a_value_is_deleted_once(ask: Client, cache: MemoryProvider) -> None:
    ask("PUT", "/map/a", b"1")
    assert ask("DELETE", "/map/a").status == 204
    assert ask("DELETE", "/map/a").status == 404
    assert stored(cache) == {}


def test_bodies_of_no_bytes_one_and_the_limit_are_stored_and_one_more_is_not(
    ask: Client, cache: MemoryProvider
) -> None:
    statuses = [
        ask("PUT", f"/map/{size}", b"x" * size).status for size in (0, 1, LIMIT, LIMIT + 1, LIMIT * 3)
    ]
    assert statuses == [201, 201, 201, 413, 413]
    assert {len(value) for value in stored(cache).values()} == {0, 1, LIMIT}
    assert ask("GET", f"/map/{LIMIT + 1}").status == 404
    assert ask("GET", "/map/0").body == b""


# -- conditions


def test_what_the_client_has_is_304(ask: Client) -> None:
    tag = ask("PUT", "/map/a", b"1").tag
    for header in (tag, f"W/{tag}", f'"x", {tag}', "*", f'W/"x",{tag} , ,"y"'):
        for method in ("GET", "HEAD"):
            same = ask(method, "/map/a", headers={"If-None-Match": header})
            assert (same.status, same.tag) == (304, tag)
    assert ask("GET", "/map/a", headers={"If-None-Match": '"x"'}).status == 200
    assert ask("GET", "/map/none", headers={"If-None-Match": "*"}).status == 404


def test_get_has_if_match_too(ask: Client) -> None:
    tag = ask("PUT", "/map/a", b"1").tag
    assert ask("GET", "/map/a", headers={"If-Match": tag}).status == 200
    assert ask("GET", "/map/a", headers={"If-Match": f"W/{tag}"}).status == 412
    assert ask("GET", "/map/none", headers={"If-Match": tag}).status == 404


def test_a_star_adds_what_is_not_there(ask: Client, cache: MemoryProvider) -> None:
    new = {"If-None-Match": "*"}
    assert ask("PUT", "/map/a", b"1", new).status == 201
    refused = ask("PUT", "/map/a", b"2", new)
    assert (refused.status, refused.word) == (412, "conflict")
    assert stored(cache) == {b"/map/a": b"1"}


def test_a_tag_is_a_compare_and_set(ask: Client, cache: MemoryProvider) -> None:
    first = ask("PUT", "/map/a", b"1").tag
    second = ask("PUT", "/map/a", b"2", {"If-Match": f'"other.1", {first}'})
    assert second.status == 204
    for header in (first, f"W/{second.tag}", '"x"', f"W/{first}, W/{second.tag}"):
        assert ask("PUT", "/map/a", b"3", {"If-Match": header}).status == 412
    assert stored(cache) == {b"/map/a": b"2"}
    assert ask("PUT", "/map/a", b"3", {"If-Match": "*"}).status == 204
    assert ask("PUT", "/map/none", b"3", {"If-Match": "*"}).status == 412
    assert ask("PUT", "/map/none", b"3", {"If-Match": second.tag}).status == 412
    assert stored(cache) == {b"/map/a": b"3"}


def test_a_value_is_stored_unless_it_is_one_that_is_named(ask: Client, cache: MemoryProvider) -> None:
    tag = ask("PUT", "/map/a", b"1").tag
    for header in (tag, f"W/{tag}"):
        assert ask("PUT", "/map/a", b"2", {"If-None-Match": header}).status == 412
    assert ask("PUT", "/map/a", b"2", {"If-None-Match": '"x"'}).status == 204
    assert ask("PUT", "/map/b", b"3", {"If-None-Match": tag}).status == 201
    assert ask("PUT", "/map/b", b"4", {"If-Match": "*", "If-None-Match": "*"}).status == 412
    assert stored(cache) == {b"/map/a": b"2", b"/map/b": b"3"}


def test_a_delete_honours_conditions(ask: Client, cache: MemoryProvider) -> None:
    old = ask("PUT", "/map/a", b"1").tag
    tag = ask("PUT", "/map/a", b"2").tag
    for header in (old, f"W/{tag}"):
        assert ask("DELETE", "/map/a", headers={"If-Match": header}).status == 412
    assert ask("DELETE", "/map/a", headers={"If-None-Match": tag}).status == 412
    assert ask("DELETE", "/map/none", headers={"If-Match": tag}).status == 404
    assert stored(cache) == {b"/map/a": b"2"}
    assert ask("DELETE", "/map/a", headers={"If-Match": tag}).status == 204
    assert stored(cache) == {}


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("text", ["", "x", '"x', 'x"', '"x" "y"', '*, "x"', 'w/"x"', '"a b"', "**", "1"])
def test_tags_that_are_none_are_400(ask: Client, cache: MemoryProvider, header: str, text: str) -> None:
    ask("PUT", "/map/a", b"1")
    for method, body in (("GET", None), ("PUT", b"2"), ("DELETE", None)):
        assert ask(method, "/map/a", body, {header: text}).status == 400
    assert stored(cache) == {b"/map/a": b"1"}


def test_a_change_between_the_look_and_the_store_is_a_conflict(
    cache: MemoryProvider, clock: SteppableClock
) -> None:
    class Changing(MemoryProvider):
        """In which somebody else is faster, all the time."""

        def retrieve(self, key: bytes) -> Item:
            item = super().retrieve(key)
            super().store(key, b"theirs")
            return item

    changing = Changing(clock)
    ask = Client(mounted(changing, clock))
    tag = ask("PUT", "/map/a", b"1").tag
    assert ask("PUT", "/map/a", b"2", {"If-Match": tag}).status == 412
    assert ask("PUT", "/map/a", b"2", {"If-Match": "*"}).status == 412
    assert ask("DELETE", "/map/a", headers={"If-Match": "*"}).status == 412
    assert stored(changing) == {b"/map/a": b"theirs"}


def test_of_two_who_race_to_be_first_one_is(ask: Client, cache: MemoryProvider) -> None:
    """A thousand times (check 1.4.8)."""
    rounds = 1000
    statuses: list[list[int]] = [[], []]
    start = threading.Barrier(2)

    def race(number: int) -> None:
        for turn in range(rounds):
            start.wait(10)
            body = b"%d" % number
            statuses[number].append(ask("PUT", f"/map/{turn}", body, {"If-None-Match": "*"}).status)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all({one, other} == {201, 412} for one, other in zip(*statuses, strict=True))
    for turn, one in enumerate(statuses[0]):
        assert cache.retrieve(b"/map/%d" % turn).value == (b"0" if one == 201 else b"1")


# -- expiry


def test_a_value_expires_so_many_seconds_from_now(
    ask: Client, clock: SteppableClock, cache: MemoryProvider
) -> None:
    put = ask("PUT", "/map/a", b"1", {"X-Shmap-Expires": "1.5"})
    until = clock.seconds() + 1.5
    assert float(put.headers["x-shmap-expires-at"]) == until
    assert cache.retrieve(b"/map/a").expires == until
    got = ask("GET", "/map/a")
    assert got.headers["x-shmap-expires-at"] == put.headers["x-shmap-expires-at"]
    assert got.headers["expires"] == formatdate(int(until), usegmt=True)
    clock.step(1.4)
    assert ask("GET", "/map/a").status == 200
    clock.step(0.2)
    assert ask("GET", "/map/a").status == 404
    assert ask("PUT", "/map/a", b"1").status == 201


def test_a_value_expires_at_a_time_to_the_last_digit(
    ask: Client, clock: SteppableClock, cache: MemoryProvider
) -> None:
    for until in (clock.seconds() + 12.345678, 432001793283.1235, 99999999999999.98):
        put = ask("PUT", "/map/a", b"1", {"X-Shmap-Expires-At": repr(until)})
        assert put.headers["x-shmap-expires-at"] == repr(until)
        assert cache.retrieve(b"/map/a").expires == until


@pytest.mark.parametrize(
    "date",
    ["Thu, 01 Jan 2032 00:00:00 GMT", "Thursday, 01-Jan-32 00:00:00 GMT", "Thu Jan  1 00:00:00 2032"],
)
def test_a_value_expires_at_a_date(ask: Client, cache: MemoryProvider, date: str) -> None:
    ask("PUT", "/map/a", b"1", {"Expires": date})
    assert cache.retrieve(b"/map/a").expires == 1956528000


@pytest.mark.parametrize("header", ["X-Shmap-Expires", "X-Shmap-Expires-At"])
def test_zero_keeps_a_value(clock: SteppableClock, cache: MemoryProvider, header: str) -> None:
    ask = Client(mounted(cache, clock, rules=Rules(default_expiry=5)))
    assert ask("PUT", "/map/a", b"1", {header: "0"}).status == 201
    clock.step(10**6)
    assert cache.cull() == 0
    assert ask("GET", "/map/a").status == 200


def test_without_a_time_the_default_is_meant(clock: SteppableClock, cache: MemoryProvider) -> None:
    ask = Client(mounted(cache, clock, rules=Rules(default_expiry=5)))
    ask("PUT", "/map/a", b"1")
    assert cache.retrieve(b"/map/a").expires == clock.seconds() + 5


TIMES = {
    "negative": {"X-Shmap-Expires": "-1"},
    "no number": {"X-Shmap-Expires": "soon"},
    "no decimal digits": {"X-Shmap-Expires": "\xb2"},
    "empty": {"X-Shmap-Expires": ""},
    "infinite": {"X-Shmap-Expires": "inf"},
    "nan": {"X-Shmap-Expires-At": "nan"},
    "an exponent": {"X-Shmap-Expires": "1e3"},
    "a negative time": {"X-Shmap-Expires-At": "-1"},
    "a past time": {"X-Shmap-Expires-At": "1000"},
    "this moment": {"X-Shmap-Expires-At": "1700000000"},
    "no time at all": {"X-Shmap-Expires": "0.00000000000000000001"},
    "a past date": {"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"},
    "the date of this moment": {"Expires": "Tue, 14 Nov 2023 22:13:20 GMT"},
    "a date before all dates": {"Expires": "Thu, 01 Jan 1960 00:00:00 GMT"},
    "no date": {"Expires": "0"},
    "a date that is not": {"Expires": "Thu, 41 Jan 2032 00:00:00 GMT"},
    "two times": {"X-Shmap-Expires": "5", "Expires": "Thu, 01 Jan 2032 00:00:00 GMT"},
}


@pytest.mark.parametrize("what", TIMES)
def test_a_time_that_is_none_is_400_and_nothing_is_stored(
    ask: Client, cache: MemoryProvider, what: str
) -> None:
    assert ask("PUT", "/map/a", b"1", TIMES[what]).status == 400
    ask("PUT", "/map/b", b"old")
    assert ask("PUT", "/map/b", b"new", TIMES[what]).status == 400
    assert stored(cache) == {b"/map/b": b"old"}


# -- reservations


def test_the_place_of_a_missing_value_can_be_reserved(ask: Client, clock: SteppableClock) -> None:
    first = ask("PUT", "/map/a", b"", {"X-Shmap-Reserve": "5"})
    assert (first.status, first.body) == (200, b"")
    assert ask("PUT", "/map/a", b"", {"X-Shmap-Reserve": "5"}).tag == first.tag
    filled = ask("PUT", "/map/a", b"1", {"If-Match": first.tag})
    assert filled.status == 204
    found = ask("PUT", "/map/a", b"", {"X-Shmap-Reserve": "5"})
    assert (found.body, found.tag) == (b"1", filled.tag)


@pytest.mark.parametrize("seconds", ["0", "-1", "x"])
def test_a_reservation_without_time_is_400(ask: Client, cache: MemoryProvider, seconds: str) -> None:
    assert ask("PUT", "/map/a", b"", {"X-Shmap-Reserve": seconds}).status == 400
    assert stored(cache) == {}


def test_a_reservation_brings_no_value_and_no_condition(ask: Client, cache: MemoryProvider) -> None:
    assert ask("PUT", "/map/a", b"x", {"X-Shmap-Reserve": "5"}).status == 413
    assert ask("PUT", "/map/a", b"", {"X-Shmap-Reserve": "5", "If-Match": "*"}).status == 400
    assert stored(cache) == {}


# -- keys


KEYS = {
    "/map/a": b"/map/a",
    "/map/A": b"/map/A",
    "/map/a%2Fb": b"/map/a/b",
    "/map/a/b": b"/map/a/b",
    "/map//a": b"/map//a",
    "/map/a//b/": b"/map/a//b/",
    "/map/..%2f..%2fetc": b"/map/../../etc",
    "/map/../etc": b"/map/../etc",
    "/map/./a": b"/map/./a",
    "/map/%01": b"/map/\x01",
    "/map/%0A": b"/map/\n",
    "/map/%20": b"/map/ ",
    "/map/+": b"/map/+",
    "/map/%3F": b"/map/?",
    "/map/%23x": b"/map/#x",
    "/map/%F0%9F%98%80": b"/map/\xf0\x9f\x98\x80",
    "/map/%FF%FE": b"/map/\xff\xfe",
    "/map/%2525": b"/map/%25",
    "/map/%252F": b"/map/%2F",
    "/map/" + "k" * 245: b"/map/" + b"k" * 245,
    "/map/" + "%E9" * 245: b"/map/" + b"\xe9" * 245,
    "/map/map/x": b"/map/map/x",
}


@pytest.mark.parametrize("target", KEYS)
def test_a_key_is_the_path_decoded_once(ask: Client, cache: MemoryProvider, target: str) -> None:
    """Check 1.4.5."""
    assert ask("PUT", target, b"of " + KEYS[target]).status == 201
    assert stored(cache) == {KEYS[target]: b"of " + KEYS[target]}
    assert ask("GET", target).body == b"of " + KEYS[target]
    assert ask("DELETE", target).status == 204
    assert stored(cache) == {}


@pytest.mark.parametrize("target", KEYS)
def test_a_server_that_hides_the_raw_target_gives_the_same_key(
    cache: MemoryProvider, clock: SteppableClock, target: str
) -> None:
    application = mounted(cache, clock)

    def hiding(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        del environ["RAW_URI"], environ["REQUEST_URI"]
        return application(environ, start_response)

    assert Client(hiding)("PUT", target, b"x").status == 201
    assert stored(cache) == {KEYS[target]: b"x"}


def test_a_key_can_be_what_follows_the_mount(cache: MemoryProvider, clock: SteppableClock) -> None:
    ask = Client(mounted(cache, clock, rules=Rules(whole_path=False)))
    ask("PUT", "/map/a/b", b"1")
    ask("PUT", "/map//", b"2")
    assert stored(cache) == {b"/a/b": b"1", b"//": b"2"}
    assert ask("OPTIONS", "/map").headers["x-shmap-key-prefix"] == "/"


def test_what_a_proxy_puts_before_all_paths_is_no_part_of_a_key(
    cache: MemoryProvider, clock: SteppableClock
) -> None:
    application = mounted(cache, clock)

    def below(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/ff", environ["PATH_INFO"].removeprefix("/ff")
        return application(environ, start_response)

    ask = Client(below)
    ask("PUT", "/ff/map/%2F", b"1")
    ask("PUT", "/map/x", b"2")
    assert stored(cache) == {b"/map//": b"1", b"/map/x": b"2"}


@pytest.mark.parametrize("target", ["/maps", "/mapx/a", "/Map/a", "/", "/x/map/a"])
def test_other_paths_are_nobody_s(cache: MemoryProvider, clock: SteppableClock, target: str) -> None:
    status, headers, _ = InProcess(mounted(cache, clock)).send("PUT", target, {}, b"x")
    assert status == 404
    assert "x-shmap" not in {name.lower() for name, _ in headers}
    assert stored(cache) == {}


BAD_KEYS = {
    "/map/": 400,
    "/map/%00": 400,
    "/map/a%00b": 400,
    "/map/a?b": 400,
    "/map/a?b=c": 400,
    "/map/" + "k" * 246: 414,
    "/map/" + "%00" * 300: 400,
    "/map/" + "k" * 5000: 414,
}


@pytest.mark.parametrize("target", BAD_KEYS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_bad_key_is_refused_and_nothing_is_stored(
    ask: Client, cache: MemoryProvider, method: str, target: str
) -> None:
    refused = ask(method, target, b"x" if method == "PUT" else None)
    assert refused.status == BAD_KEYS[target]
    assert stored(cache) == {}


# -- bodies


@pytest.mark.parametrize("length", [LIMIT + 1, 10**9, 10**30])
def test_a_body_over_the_limit_is_refused_before_it_is_read(
    ask: Client, cache: MemoryProvider, length: int
) -> None:
    """`Unsent` fails whoever reads it."""
    refused = ask("PUT", "/map/a", Unsent(length))
    assert (refused.status, refused.word) == (413, "too-large")
    assert stored(cache) == {}


def test_the_setting_lowers_the_limit_of_a_cache(cache: MemoryProvider, clock: SteppableClock) -> None:
    ask = Client(mounted(cache, clock, rules=Rules(max_body=10)))
    assert ask("PUT", "/map/a", b"x" * 10).status == 201
    assert ask("PUT", "/map/b", b"x" * 11).status == 413
    assert ask("OPTIONS", "/map/a").headers["x-shmap-max-value"] == "10"
    assert stored(cache) == {b"/map/a": b"x" * 10}


def test_a_body_in_chunks_is_counted_and_then_refused(ask: Client, cache: MemoryProvider) -> None:
    """For nobody knows whether it is all."""
    assert ask("PUT", "/map/a", Chunked(b"x" * LIMIT)).status == 411
    assert ask("PUT", "/map/b", Chunked(b"x" * (LIMIT + 1))).status == 413
    assert stored(cache) == {}


def changing_environ(application: WSGIApp, **changes: Any) -> WSGIApp:
    def changed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ.update(changes)
        return application(environ, start_response)

    return changed


@pytest.mark.parametrize("length", ["12", "x", "-1", "+3"])
def test_a_body_that_is_not_as_long_as_it_says_is_400(
    cache: MemoryProvider, clock: SteppableClock, length: str
) -> None:
    application = middleware(changing_environ(mounted(cache, clock), CONTENT_LENGTH=length))
    assert Client(application)("PUT", "/map/a", b"short").status == 400
    assert stored(cache) == {}


@pytest.mark.parametrize("header", [{"Content-Encoding": "gzip"}, {"Content-Range": "bytes 0-1/9"}])
def test_parts_and_codings_are_no_values(ask: Client, cache: MemoryProvider, header: dict[str, str]) -> None:
    assert ask("PUT", "/map/a", b"x", header).status == 415
    assert stored(cache) == {}


# -- methods, and what a mount tells


@pytest.mark.parametrize("method", ["POST", "PATCH", "TRACE"])
def test_other_methods_are_405(ask: Client, cache: MemoryProvider, method: str) -> None:
    refused = ask(method, "/map/a", b"x" if method == "POST" else None)
    assert (refused.status, refused.headers["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PUT")
    assert stored(cache) == {}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_a_mount_itself_is_only_read(ask: Client, cache: MemoryProvider, method: str) -> None:
    refused = ask(method, "/map", b"x" if method != "DELETE" else None)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert stored(cache) == {}


@pytest.mark.parametrize("target", ["/map", "/map/a"])
def test_options_tell_what_can_be_done(ask: Client, target: str) -> None:
    told = ask("OPTIONS", target)
    assert told.status == 204
    assert told.headers["allow"] == (
        "GET, HEAD, OPTIONS" if target == "/map" else "DELETE, GET, HEAD, OPTIONS, PUT"
    )
    assert told.headers["x-shmap-max-key"] == "250"
    assert told.headers["x-shmap-max-value"] == str(LIMIT)
    assert told.headers["x-shmap-features"] == "cas,iterate,evicts"
    assert told.headers["x-shmap-key-prefix"] == "/map/"


def test_a_mount_tells_its_status(ask: Client) -> None:
    ask("PUT", "/map/a", b"1")
    told = ask("GET", "/map")
    assert told.headers["content-type"] == "application/json"
    facts = json.loads(told.body)
    assert (facts["mount"], facts["provider"]) == ("/map", "memory")
    assert facts["limits"] == {"max_key": 250, "max_value": LIMIT, "ttl_step": 0.0}
    assert facts["status"]["items"] == 1
    assert ask("HEAD", "/map").headers["content-length"] == str(len(told.body))


def test_keys_are_listed_page_by_page(ask: Client, cache: MemoryProvider, clock: SteppableClock) -> None:
    names = sorted(b"/map/" + bytes([number]) + b"%/ &" for number in range(1, 256, 3))
    for name in names:
        cache.store(name, name, clock.seconds() + 10)
    cache.store(b"elsewhere", b"x")
    listed: list[str] = []
    query = "keys&limit=10"
    while True:
        page = json.loads(ask("GET", f"/map?{query}").body)
        assert len(page["keys"]) <= 10
        listed += [row["key"] for row in page["keys"]]
        if page["next"] is None:
            break
        ask("PUT", "/map/%00".replace("%00", "%FFnew"), b"")  # comes at the end
        query = f"keys&limit=10&after={page['next']}"
    for target, name in zip(listed, names, strict=False):
        got = ask("GET", target)
        assert got.body == name
    row = json.loads(ask("GET", "/map?keys&limit=1").body)["keys"][0]
    got = ask("GET", listed[0])
    assert row == {"key": listed[0], "size": len(names[0]), "expires": clock.seconds() + 10, "etag": got.tag}
    assert len(listed) == len(names) + 1


@pytest.mark.parametrize(
    "query",
    ["x", "keys=1", "keys&limit=0", "keys&limit=x", "keys&limit=10001", "keys&after", "keys&a=b", "limit=1",
     "keys&limit=1&limit=2"],
)  # fmt: skip
def test_another_query_is_400(ask: Client, query: str) -> None:
    assert ask("GET", f"/map?{query}").status == 400


def test_keys_are_not_told_unless_the_settings_say_so(cache: MemoryProvider, clock: SteppableClock) -> None:
    ask = Client(mounted(cache, clock, rules=Rules()))
    assert ask("GET", "/map?keys").status == 400
    assert "iterate" not in ask("OPTIONS", "/map").headers["x-shmap-features"]


# -- faults


class Failing:
    """A cache whose every call, but for what it can do, raises."""

    name = "failing"
    features = MemoryProvider.features
    limits = MemoryProvider(SystemClock()).limits

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object, **__: object) -> Any:
            raise self._error

        return fail


FAULTS = {
    BackendUnavailable("gone"): (503, "unavailable"),
    Busy("all in use"): (503, "unavailable"),
    StorageFull("no room"): (507, "full"),
    TooLarge(5, 4): (413, "too-large"),
    NotSupported("no"): (501, "not-supported"),
    RuntimeError("a fault of the provider"): (500, "fault"),
}


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_fault_is_never_a_miss(clock: SteppableClock, method: str, error: Exception) -> None:
    failing: Any = Failing(error)
    told = Client(mounted(failing, clock))(method, "/map/a", b"x" if method == "PUT" else None)
    assert (told.status, told.word) == FAULTS[error]
    assert ("retry-after" in told.headers) == (told.status == 503)
    assert b"gone" not in told.body  # what a provider says may name servers


def test_a_cache_that_does_not_even_tell_its_limits_is_503(clock: SteppableClock) -> None:
    class Away(MemoryProvider):
        @property
        def limits(self) -> Any:
            raise BackendUnavailable("gone")

    ask = Client(mounted(Away(clock), clock))
    for method, target in (("PUT", "/map/a"), ("OPTIONS", "/map"), ("GET", "/map")):
        assert ask(method, target, b"x" if method == "PUT" else None).status == 503


def test_a_cache_that_is_slow_is_503_in_time() -> None:
    """Check 1.4.4, for a cache that would hang."""
    done = threading.Event()

    class Slow(MemoryProvider):
        def retrieve(self, key: bytes) -> Item:
            done.wait(20)
            raise NotFound(key)

    deadline = Deadline(0.2)
    ask = Client(mounted(Slow(SystemClock()), SystemClock(), deadline=deadline))
    try:
        began = time.monotonic()
        assert ask("GET", "/map/a").status == 503
        assert 0.2 <= time.monotonic() - began < 5
        assert ask("PUT", "/map/b", b"1").status == 201
    finally:
        done.set()
        deadline.close()


def test_a_listing_ends_when_nobody_waits_for_it() -> None:
    class Endless(MemoryProvider):
        def iterate(self) -> Iterator[tuple[bytes, Item]]:
            token = self.store(b"/map/a", b"")
            while True:
                yield b"/map/a", Item(b"", token)

    deadline = Deadline(0.2)
    ask = Client(mounted(Endless(SystemClock()), SystemClock(), deadline=deadline, rules=Rules(listed=True)))
    assert ask("GET", "/map?keys").status == 503
    deadline._threads.shutdown(wait=True)  # the thread has ended, too


class Simple(MemoryProvider):
    """A cache without compare-and-set."""

    features = Features(False, False, False, False, True, True)

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Any = None) -> Any:
        if expect is not None:
            raise NotSupported("no")
        return super().store(key, value, expires)


def test_a_condition_that_a_cache_cannot_keep_is_501(clock: SteppableClock) -> None:
    simple = Simple(clock)
    ask = Client(mounted(simple, clock))
    assert ask("PUT", "/map/a", b"1").status == 201
    put = ask("PUT", "/map/a", b"2")
    assert put.status == 204
    for headers in ({"If-Match": put.tag}, {"If-None-Match": "*"}, {"If-Match": "*"}):
        assert ask("PUT", "/map/a", b"3", headers).status == 501
    assert ask("DELETE", "/map/a", headers={"If-Match": put.tag}).status == 501
    assert ask("GET", "/map/a", headers={"If-Match": put.tag}).status == 501
    assert ask("PUT", "/map/b", b"", {"X-Shmap-Reserve": "1"}).status == 501
    assert stored(simple) == {b"/map/a": b"2"}


# -- who may


class Untouchable:
    """A cache that nobody may as much as look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the cache was asked for")


REFUSALS: dict[str, tuple[dict[str, str], int]] = {
    "nothing": ({}, 401),
    "another scheme": ({"Authorization": "Basic c3luYzpzZWNyZXQ="}, 401),
    "the scheme alone": ({"Authorization": "Bearer"}, 403),
    "another secret": ({"Authorization": "Bearer another-secret-of-this-length"}, 403),
    "a part of it": ({"Authorization": f"Bearer {SECRET[:-1]}"}, 403),
    "more than it": ({"Authorization": f"Bearer {SECRET}x"}, 403),
    "bytes": ({"Authorization": "Bearer \xff\xfe"}, 403),
    "another site's page": ({"Authorization": f"Bearer {SECRET}", "Sec-Fetch-Site": "cross-site"}, 403),
}


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_who_may_not_is_refused_before_the_cache_is_touched(
    clock: SteppableClock, method: str, what: str
) -> None:
    untouchable: Any = Untouchable()
    ask = Client(mounted(untouchable, clock, secrets=("another-secret-still", SECRET)))
    headers, status = REFUSALS[what]
    for target in ("/map/a", "/map", "/map/", "/map/a?x"):
        refused = ask(method, target, Unsent(5) if method == "PUT" else None, headers)
        assert refused.status == status
        assert ("www-authenticate" in refused.headers) == (status == 401)


def test_who_knows_a_secret_may(cache: MemoryProvider, clock: SteppableClock) -> None:
    secrets = ("the-old-secret-of-all", SECRET)
    ask = Client(mounted(cache, clock, secrets=secrets))
    for secret in secrets:
        for scheme in ("Bearer", "bearer"):
            assert ask("PUT", "/map/a", b"1", {"Authorization": f"{scheme} {secret}"}).status in (201, 204)


# -- tags


def test_a_tag_from_before_a_restart_matches_nothing(clock: SteppableClock) -> None:
    """Each life of a memory has numbers from 1 on."""
    tags: set[str] = set()
    for _ in range(5):
        ask = Client(mounted(MemoryProvider(clock), clock))
        assert tags.isdisjoint({ask("PUT", "/map/a", b"1").tag})
        for tag in tags:
            assert ask("PUT", "/map/a", b"2", {"If-Match": tag}).status == 412
        tags.add(ask("GET", "/map/a").tag)


def test_no_two_states_have_one_tag(ask: Client) -> None:
    tags = {ask("PUT", f"/map/{number % 3}", b"x").tag for number in range(50)}
    assert len(tags) == 50


def test_a_conflict_is_no_error_of_the_caches(cache: MemoryProvider) -> None:
    """What the tests of tags rest on."""
    cache.store(b"a", b"x", expect=ABSENT)
    with pytest.raises(Conflict):
        cache.store(b"a", b"x", expect=ABSENT)
