"""Section 7: GET of a collection, its filters and its orders."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

import pytest

from syncstore.testing.client import SyncClient

BAD_QUERIES = ["limit=-1", "limit=abc", "limit=1.5", "limit=", "limit=1_0", "limit=%D9%A3", "limit=1%0A"]
BAD_QUERIES += ["sort=bad", "sort=", "sort=NEWEST", "sort=newest%0A", "sort=newest,oldest"]
BAD_QUERIES += ["ids=" + "a" * 65, "ids=a,b%0Ac", "ids=a%00b", "ids=a,%C3%A9", "ids=a,,b", "ids=a%7Fb"]


def in_order(items: list[dict[str, Any]], sort: str | None) -> list[str]:
    """The ids in the order that section 7 asks for: ties by id, in the direction of the sort itself."""
    if sort == "index":
        # unset last: below every sortindex there can be
        return [i["id"] for i in sorted(items, key=lambda i: (i.get("sortindex", -(10**10)), i["id"]))][::-1]
    ids = [i["id"] for i in sorted(items, key=lambda i: (i["modified"], i["id"]))]
    return ids if sort == "oldest" else ids[::-1]


class TestLists:
    """Section 7: ids, or objects with `full`."""

    def test_it_lists_ids(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": name, "payload": "x"} for name in "abc"])
        reply = sync.get("/storage/col")
        assert sorted(reply.json) == ["a", "b", "c"]
        assert reply["X-Weave-Records"] == "3"

    @pytest.mark.parametrize("full", ["full", "full=", "full=1", "full=0", "full=false", "full=true"])
    def test_full_shows_objects_whatever_its_value(self, sync: SyncClient, full: str) -> None:
        sync.post("/storage/col", [{"id": "a", "payload": "x"}, {"id": "b", "payload": "y", "sortindex": 3}])
        reply = sync.get(f"/storage/col?{full}")
        stamp = reply.modified
        assert sorted(reply.json, key=lambda item: str(item["id"])) == [
            {"id": "a", "modified": stamp, "payload": "x"},
            {"id": "b", "modified": stamp, "payload": "y", "sortindex": 3},
        ]
        assert reply["X-Weave-Records"] == "2"

    def test_a_missing_collection_is_an_empty_list(self, sync: SyncClient) -> None:
        sync.put("/storage/elsewhere/a", {})
        for query in ("", "?full=1", "?newer=5", "?sort=index&limit=3", "?ids=a,b"):
            reply = sync.get("/storage/col" + query)
            assert (reply.status, reply.json) == (200, [])
            assert reply["X-Last-Modified"] == "0.00"
            assert reply["X-Weave-Records"] == "0"

    def test_its_time_is_the_collection_s_not_the_newest_item_s(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        sync.put("/storage/col/b", {"payload": "x"})
        deleted = sync.delete("/storage/col/b")
        for query in ("", "?full=1", "?ids=a", "?older=5", "?limit=0"):
            assert sync.get("/storage/col" + query)["X-Last-Modified"] == deleted["X-Last-Modified"]

    def test_an_unlimited_list_is_whole(self, sync: SyncClient, limits: dict[str, int]) -> None:
        """Section 20: no internal pages."""
        step = min(limits["max_post_records"], 100)
        names = [f"n{number:04}" for number in range(7 * step + 3)]
        for start in range(0, len(names), step):
            sync.post("/storage/col", [{"id": name} for name in names[start : start + step]])
        for query in ("", "?full=1", "?sort=index"):
            reply = sync.get("/storage/col" + query)
            assert len(reply.json) == len(names)
            assert reply.get("X-Weave-Next-Offset") is None

    def test_collections_are_apart(self, sync: SyncClient, other: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "mine"})
        sync.put("/storage/col2/b", {"payload": "mine too"})
        other.put("/storage/col/c", {"payload": "theirs"})
        assert sync.get("/storage/col").json == ["a"]
        assert sync.get("/storage/col2").json == ["b"]
        assert other.get("/storage/col").json == ["c"]
        assert other.get("/storage/col/a").status == 404


class TestIds:
    """Section 7, `ids`."""

    @pytest.fixture(autouse=True)
    def _items(self, sync: SyncClient) -> None:
        sync.post(
            "/storage/col",
            [{"id": name, "payload": name} for name in ("a", "b", "c", "a+b", "a b", "a/b", "{x}")],
        )

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("a", ["a"]),
            ("a,b", ["a", "b"]),
            ("a%2Cb", ["a", "b"]),
            ("a,%20b", ["a", "b"]),
            ("%20a%20,b", ["a", "b"]),
            ("a,missing", ["a"]),
            ("missing", []),
            ("a,", ["a"]),
            ("a,a", ["a"]),
            ("a%2Bb", ["a+b"]),
            ("a%20b", ["a b"]),
            ("a%2Fb", ["a/b"]),
            ("a/b", ["a/b"]),
            ("{x}", ["{x}"]),
            ("%7Bx%7D,c", ["c", "{x}"]),
            ("A", []),
        ],
    )
    def test_only_these_are_listed(self, sync: SyncClient, query: str, expected: list[str]) -> None:
        assert sorted(sync.get(f"/storage/col?ids={query}").json) == expected
        full = sync.get(f"/storage/col?full=1&ids={query}").json
        assert sorted(item["id"] for item in full) == expected

    def test_a_plus_is_a_plus(self, sync: SyncClient) -> None:
        """Not a form's space: Firefox lists its form ids, which are base64, without escaping them."""
        assert sync.get("/storage/col?ids=a+b,c&sort=oldest").json == ["a+b", "c"]

    @pytest.mark.parametrize("query", ["", ",", "%20", "%2C", ",,"])
    def test_an_empty_list_is_never_no_filter(self, sync: SyncClient, query: str) -> None:
        reply = sync.get(f"/storage/col?ids={query}")
        assert reply.status == 400 or reply.json == []

    def test_a_hundred_are_allowed_and_no_more(self, sync: SyncClient) -> None:
        names = ["a", *(f"n{number}" for number in range(100))]
        assert sync.get("/storage/col?ids=" + ",".join(names[:100])).json == ["a"]
        reply = sync.get("/storage/col?ids=" + ",".join(names))
        assert (reply.status, reply.json) == (400, 0)

    def test_a_hundred_of_the_longest_ids_that_need_escapes(self, sync: SyncClient) -> None:
        """About 19 kB of request line: the longest a valid `ids` gets."""
        names = [f"{'%' * 61}{number:03}" for number in range(100)]
        sync.post("/storage/long", [{"id": name} for name in names])
        assert len(sync.get("/storage/long?ids=" + quote(",".join(names), safe=",")).json) == 100

    def test_it_goes_with_the_other_filters(self, sync: SyncClient) -> None:
        stamp = sync.put("/storage/col/b", {"payload": "new"}).modified
        assert sync.get(f"/storage/col?ids=a,b&older={stamp}").json == ["a"]
        assert sync.get("/storage/col?ids=a,b&sort=newest&limit=1").json == ["b"]
        assert sync.get("/storage/col?ids=a,b&sort=oldest&limit=1").json == ["a"]


class TestTimes:
    """Section 7, `newer` and `older`: both strict."""

    def test_they_leave_out_the_time_itself(self, sync: SyncClient) -> None:
        times = [sync.put(f"/storage/col/{name}", {"payload": "x"}).modified for name in "abcde"]
        for index, stamp in enumerate(times):
            assert sync.get(f"/storage/col?newer={stamp}&sort=oldest").json == list("abcde"[index + 1 :])
            assert sync.get(f"/storage/col?older={stamp}&sort=oldest").json == list("abcde"[:index])
        assert sync.get(f"/storage/col?newer={times[0]}&older={times[3]}&sort=oldest").json == ["b", "c"]
        assert sync.get(f"/storage/col?newer={times[3]}&older={times[0]}").json == []
        assert sync.get(f"/storage/col?newer={times[1]}&older={times[2]}").json == []
        full = sync.get(f"/storage/col?newer={times[2]}&full=1&sort=newest").json
        assert [(item["id"], item["modified"]) for item in full] == [("e", times[4]), ("d", times[3])]

    def test_newer_than_nothing_is_everything(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": "a"}, {"id": "b"}])
        assert sorted(sync.get("/storage/col?newer=0").json) == ["a", "b"]
        assert sync.get("/storage/col?older=0").json == []


class TestOrder:
    """Section 7: every order is total, with the id as the second key."""

    @pytest.mark.parametrize("sort", [None, "newest", "oldest", "index"])
    def test_ids_and_objects_come_in_the_same_full_order(
        self, sync: SyncClient, three_writes: list[dict[str, Any]], sort: str | None
    ) -> None:
        query = f"&sort={sort}" if sort else ""
        expected = in_order(three_writes, sort)
        assert sync.get("/storage/col?v=1" + query).json == expected
        assert [item["id"] for item in sync.get("/storage/col?full=1" + query).json] == expected
        assert sync.get("/storage/col?limit=100" + query).json == expected
        names = ",".join(item["id"] for item in three_writes)
        assert sync.get(f"/storage/col?ids={names}" + query).json == expected

    def test_index_puts_the_highest_first_and_the_unset_last(self, sync: SyncClient) -> None:
        items: list[dict[str, Any]] = [
            {"id": "a", "sortindex": -5},
            {"id": "b"},
            {"id": "c", "sortindex": 999999999},
        ]
        items += [{"id": "d", "sortindex": 0}, {"id": "e", "sortindex": -999999999}]
        sync.post("/storage/col", items)
        assert sync.get("/storage/col?sort=index").json == ["c", "d", "a", "e", "b"]

    def test_a_write_moves_an_item(self, sync: SyncClient) -> None:
        for name in "abc":
            sync.put(f"/storage/col/{name}", {"payload": "x"})
        sync.put("/storage/col/a", {"payload": "y"})
        assert sync.get("/storage/col?sort=newest").json == ["a", "c", "b"]
        assert sync.get("/storage/col?sort=oldest").json == ["b", "c", "a"]


class TestBadQueries:
    """Section 7: 400 with the body 0, also for a collection that is not there."""

    @pytest.mark.parametrize("query", BAD_QUERIES)
    def test_it_answers_400(self, sync: SyncClient, query: str) -> None:
        for _ in range(2):
            for extra in ("", "&full=1"):
                reply = sync.get(f"/storage/col?{query}{extra}")
                assert (reply.status, reply.json) == (400, 0)
            sync.put("/storage/col/a", {"payload": "x"})

    @pytest.mark.parametrize(
        "query", ["limit=" + "9" * 40, "limit=9223372036854775808", "limit=00000000000000005"]
    )
    def test_an_enormous_limit_is_no_fault_of_the_server(self, sync: SyncClient, query: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        reply = sync.get(f"/storage/col?{query}")
        assert reply.status == 400 or reply.json == ["a"]

    @pytest.mark.parametrize("sort", [None, "newest", "oldest", "index"])
    @pytest.mark.parametrize("full", ["", "&full=1"])
    def test_limit_zero_is_an_empty_list_without_an_offset(
        self, sync: SyncClient, sort: str | None, full: str
    ) -> None:
        sync.post("/storage/col", [{"id": "a"}, {"id": "b"}])
        reply = sync.get("/storage/col?limit=0" + full + (f"&sort={sort}" if sort else ""))
        assert (reply.status, reply.json) == (200, [])
        assert reply.get("X-Weave-Next-Offset") is None

    def test_list_parameters_mean_nothing_on_an_item(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        for query in ("full=1", "limit=0", "sort=index", "newer=0", "ids=b", "older=1"):
            assert sync.get(f"/storage/col/a?{query}").json["id"] == "a"


def test_the_order_of_the_suite_itself() -> None:
    items: list[dict[str, Any]] = [
        {"id": name, "modified": stamp, **({} if index is None else {"sortindex": index})}
        for name, (stamp, index) in zip("abcd", itertools.product((1, 2), (None, 3)), strict=True)
    ]
    assert in_order(items, "oldest") == ["a", "b", "c", "d"]
    assert in_order(items, "newest") == ["d", "c", "b", "a"]
    assert in_order(items, "index") == ["d", "b", "c", "a"]
