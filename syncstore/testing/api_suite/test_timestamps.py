"""Section 3: how times are read and written, and that they only grow."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import TIMESTAMP

TICK = Decimal("0.01")
INVALID = [
    "abc",
    "-1",
    "-0.01",
    "NaN",
    "nan",
    "Infinity",
    "inf",
    "-inf",
    "1_000",
    "1,5",
    "0x10",
    "1..2",
    "1.2.3",
]


class TestWireForm:
    """Section 3: decimal seconds with exactly two decimals, in bodies and in headers."""

    def test_an_item_shows_exactly_two_decimals(self, sync: SyncClient) -> None:
        """Written until a time ends in zero, where a float would lose its last digit."""
        for _ in range(300):
            written = sync.put("/storage/col/a", {"payload": "x"})
            if written.text.endswith("0"):
                break
        assert TIMESTAMP.fullmatch(written.text)
        assert f'"modified":{written.text}' in sync.get("/storage/col/a").text.replace(" ", "")
        assert f'"modified":{written.text}' in sync.get("/storage/col?full=1").text.replace(" ", "")
        assert f'"col":{written.text}' in sync.get("/info/collections").text.replace(" ", "")
        posted = sync.post("/storage/col", [])
        assert f'"modified":{posted["X-Last-Modified"]}' in posted.text.replace(" ", "")

    @pytest.mark.parametrize("path", ["/info/collections", "/info/quota", "/storage/col"])
    def test_what_does_not_exist_has_time_zero_with_two_decimals(self, sync: SyncClient, path: str) -> None:
        assert sync.get(path)["X-Last-Modified"] == "0.00"

    def test_the_server_tells_its_own_time(self, sync: SyncClient) -> None:
        """A few seconds are left for a machine that is not this one."""
        reply = sync.get("/info/collections")
        assert abs(float(reply["X-Weave-Timestamp"]) - time.time()) < 5
        written = sync.put("/storage/col/a", {})
        assert abs(float(written["X-Weave-Timestamp"]) - time.time()) < 5

    def test_one_write_has_one_time_everywhere(self, sync: SyncClient) -> None:
        """Section 3.1: body, both headers, item, collection and storage agree, for PUT and for POST."""
        written = sync.put("/storage/col/a", {"payload": "x"})
        stamp = written["X-Last-Modified"]
        assert written.text.strip() == stamp == written["X-Weave-Timestamp"]
        posted = sync.post("/storage/col", [{"id": "b", "payload": "x"}, {"id": "c", "payload": "y"}])
        for reply, names in ((written, ["a"]), (posted, ["b", "c"])):
            for name in names:
                item = sync.get(f"/storage/col/{name}")
                assert str(item.json["modified"]) == item["X-Last-Modified"] == reply["X-Last-Modified"]
        stamp = posted["X-Last-Modified"]
        assert str(posted.json["modified"]) == stamp == posted["X-Weave-Timestamp"]
        collections = sync.get("/info/collections")
        assert str(collections.json["col"]) == collections["X-Last-Modified"] == stamp
        assert sync.get("/storage/col")["X-Last-Modified"] == stamp


class TestReadingTimes:
    """Section 3, "Parsing": of `newer`, `older` and the X-If headers."""

    @pytest.mark.parametrize(
        "text", ["0", "5", "0.00", "1388635807.4", "1388635807.41", "1388635807.4099999"]
    )
    def test_a_decimal_number_is_a_time(self, sync: SyncClient, text: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert sync.get(f"/storage/col?newer={text}").json == ["a"]
        assert sync.get(f"/storage/col?older={text}").json == []
        assert sync.get("/storage/col", {"X-If-Modified-Since": text}).status == 200
        assert sync.get("/storage/col", {"X-If-Unmodified-Since": text}).status == 412

    @pytest.mark.parametrize("text", ["1e9", "1E9"])
    def test_an_exponent_is_accepted(self, sync: SyncClient, text: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert sync.get(f"/storage/col?newer={text}").json == ["a"]

    @pytest.mark.parametrize("text", ["4102405200000", "99999999999.99"])
    def test_a_time_far_ahead_is_accepted(self, sync: SyncClient, text: str) -> None:
        """A client sends milliseconds by mistake: it means "whatever is there"."""
        sync.put("/storage/col/a", {"payload": "x"})
        assert sync.get(f"/storage/col?newer={text}").json == []
        assert sync.get(f"/storage/col?older={text}").json == ["a"]
        assert sync.get("/storage/col", {"X-If-Modified-Since": text}).status == 304
        assert sync.put("/storage/col/a", {"payload": "y"}, {"X-If-Unmodified-Since": text}).status == 200

    @pytest.mark.parametrize("text", [*INVALID, "", "%20", "%D9%A3", "1%0A", "%00", "9" * 400])
    @pytest.mark.parametrize("name", ["newer", "older"])
    def test_anything_else_in_the_query_is_400(self, sync: SyncClient, name: str, text: str) -> None:
        reply = sync.get(f"/storage/col?{name}={text}")
        assert (reply.status, reply.json) == (400, 0)

    @pytest.mark.parametrize("text", INVALID)
    @pytest.mark.parametrize("path", ["/storage/col", "/storage/col/a", "/info/collections"])
    def test_anything_else_in_a_header_is_400(self, sync: SyncClient, path: str, text: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        for name in ("X-If-Modified-Since", "X-If-Unmodified-Since"):
            reply = sync.get(path, {name: text})
            assert (reply.status, reply.json) == (400, 0), name

    @pytest.mark.parametrize("text", INVALID)
    def test_anything_else_in_a_header_of_a_write_is_400(self, sync: SyncClient, text: str) -> None:
        headers = {"X-If-Unmodified-Since": text}
        assert sync.put("/storage/col/a", {}, headers).status == 400
        assert sync.post("/storage/col", [], headers).status == 400
        assert sync.delete("/storage/col", headers).status == 400
        assert sync.delete("", headers).status == 400
        assert sync.get("/info/collections").json == {}

    def test_more_decimals_are_rounded_to_the_nearest_tick(self, sync: SyncClient) -> None:
        """Sums of floats carry stray digits on either side."""
        stamp = sync.put("/storage/col/a", {"payload": "x"}).modified
        for offset in ("-0.004", "-0.0000001", "0.0000001", "0.004"):
            text = str(stamp + Decimal(offset))
            assert sync.get(f"/storage/col?newer={text}").json == [], text
            assert sync.get(f"/storage/col?older={text}").json == [], text
            assert sync.get("/storage/col", {"X-If-Modified-Since": text}).status == 304, text
            assert sync.get("/storage/col", {"X-If-Unmodified-Since": text}).status == 200, text
        assert sync.get(f"/storage/col?newer={stamp - TICK}").json == ["a"]
        assert sync.get(f"/storage/col?older={stamp + TICK}").json == ["a"]

    def test_a_float_printed_by_a_client_finds_its_tick(self, sync: SyncClient) -> None:
        """`str(float)` drops trailing zeros: 1700000000.1 is 1700000000.10."""
        for _ in range(20):
            stamp = sync.put("/storage/col/a", {"payload": "x"})["X-Last-Modified"]
            text = str(float(stamp))
            assert sync.get(f"/storage/col?newer={text}").json == []
            assert sync.get("/storage/col/a", {"X-If-Unmodified-Since": text}).status == 200
            assert sync.get("/storage/col/a", {"X-If-Modified-Since": text}).status == 304


class TestMonotonicity:
    """Section 3.1: each write of a user gets a time of its own, later than all before."""

    def test_writes_as_fast_as_possible_never_fail(self, sync: SyncClient) -> None:
        """200 cycles of PUT and GET on one item, no retry."""
        last = Decimal(0)
        for number in range(200):
            written = sync.put("/storage/col/a", {"payload": str(number)})
            assert written.status == 200
            assert written.modified > last
            item = sync.get("/storage/col/a")
            assert item.json["payload"] == str(number)
            assert item["X-Last-Modified"] == written["X-Last-Modified"]
            assert item.json["modified"] == written.json
            last = written.modified

    def test_times_grow_over_all_collections_and_kinds_of_writes(self, sync: SyncClient) -> None:
        times = []
        for number in range(8):
            times += [
                sync.put(f"/storage/c{number % 3}/a", {"payload": "x"}).modified,
                sync.post(f"/storage/c{number % 2}", [{"id": "b", "payload": "y"}]).modified,
                sync.post(f"/storage/c{number % 2}", []).modified,
                sync.post("/storage/c9?batch=true&commit=true", [{"id": "c"}]).modified,
                sync.delete(f"/storage/c{number % 2}/b").modified,
                sync.delete("/storage/c9?ids=c").modified,
                sync.delete("/storage/c9").modified,
            ]
        assert times == sorted(set(times))

    def test_a_write_is_later_than_all_a_reader_was_told(self, sync: SyncClient) -> None:
        """Section 3.1: what comes after X-Last-Modified gets a greater time, so `newer` misses nothing."""
        for number in range(20):
            sync.put("/storage/col/a", {"payload": "x"})
            seen = sync.get("/storage/col")["X-Last-Modified"]
            sync.put(f"/storage/col/b{number}", {"payload": "y"})
            assert sync.get(f"/storage/col?newer={seen}").json == [f"b{number}"]

    def test_no_deletion_turns_the_time_back(self, sync: SyncClient) -> None:
        """Of an item, a list of ids, a collection, everything: storage time regresses in older servers."""
        sync.post("/storage/col", [{"id": name, "payload": "x"} for name in "abcd"])
        sync.put("/storage/meta/global", {"payload": "x"})
        seen = sync.get("/info/collections").modified
        for path in (
            "/storage/col/a",
            "/storage/col?ids=b,c",
            "/storage/col",
            "/storage/meta",
            "/storage",
            "",
        ):
            deleted = sync.delete(path)
            assert deleted.modified >= seen
            shown = sync.get("/info/collections").modified
            assert shown >= deleted.modified, path
            seen = shown
        assert sync.put("/storage/col/a", {"payload": "x"}).modified > seen

    def test_a_storage_wiped_again_and_again_still_moves_on(self, sync: SyncClient) -> None:
        times = []
        for _ in range(5):
            times.append(sync.put("/storage/col/a", {"payload": "x"}).modified)
            times.append(sync.delete("/storage").modified)
        assert times == sorted(set(times))
