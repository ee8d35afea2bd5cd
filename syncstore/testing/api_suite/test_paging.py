"""Section 7.1: limit, offset, and pages that fit together whatever happens between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply

SORTS = [None, "newest", "oldest", "index"]
GARBAGE = [
    "sammich",
    "!!!!",
    "%00",
    "%FF%FE",
    "-1",
    "12345",
    "1:2",
    "a" * 3000,
    "AAAA",
    "e30",
    "W10",
    "%F0%9F%92%A9",
]


def query(sort: str | None, **parameters: object) -> str:
    pairs = [f"{key}={value}" for key, value in parameters.items()]
    text = "&".join([*pairs, *([f"sort={sort}"] if sort else [])])
    return "/storage/col" + ("?" + text if text else "")


def pages(
    sync: SyncClient, path: str, limit: int, between: Callable[[int, list[Any]], None] | None = None
) -> list[Any]:
    """Follow the offsets from `path`. `between(page, shown)` runs before the next page is asked for."""
    shown: list[Any] = []
    offset = ""
    for number in range(1000):
        reply = sync.get(f"{path}&limit={limit}{offset}")
        assert reply.status == 200, reply
        shown += reply.json
        token = reply.get("X-Weave-Next-Offset")
        if token is None:
            return shown
        assert len(reply.json) == limit, "only the last page may be short"
        offset = f"&offset={token}"
        if between:
            between(number, shown)
    raise AssertionError("the pages never end")


class TestPages:
    """Section 7.1: each item exactly once, in the order of the whole list."""

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 11, 12, 13])
    @pytest.mark.parametrize("sort", SORTS)
    def test_they_make_up_the_whole_list(
        self, sync: SyncClient, groups: list[str], sort: str | None, limit: int
    ) -> None:
        for full in ({}, {"full": 1}):
            path = query(sort, v=1, **full)
            whole = sync.get(path).json
            assert len(whole) == 12
            assert pages(sync, path, limit) == whole

    @pytest.mark.parametrize("limit", [2, 3, 4, 5, 6])
    @pytest.mark.parametrize("sort", SORTS)
    def test_they_keep_within_their_filters(
        self, sync: SyncClient, groups: list[str], sort: str | None, limit: int
    ) -> None:
        times = sorted({item["modified"] for item in sync.get("/storage/col?full=1").json})
        for parameters in ({"newer": times[0]}, {"older": times[2]}, {"newer": times[0], "older": times[2]}):
            path = query(sort, full=1, **parameters)
            whole = sync.get(path).json
            assert len(whole) == 4 * (3 - len(parameters))
            assert pages(sync, path, limit) == whole
        path = query(sort, ids=",".join(groups[1:9]))
        assert pages(sync, path, limit) == sync.get(path).json

    @pytest.mark.parametrize("sort", SORTS)
    def test_items_of_one_write_are_paged_too(self, sync: SyncClient, sort: str | None) -> None:
        sync.post("/storage/col", [{"id": f"i{number}", "payload": "x"} for number in range(10)])
        whole = sync.get(query(sort)).json
        assert sorted(pages(sync, query(sort, v=1), 3)) == sorted(whole)
        assert pages(sync, query(sort, v=1), 3) == whole

    @pytest.mark.parametrize("sort", SORTS)
    def test_the_limit_may_change_between_pages(
        self, sync: SyncClient, groups: list[str], sort: str | None
    ) -> None:
        """Two, then from the same offset three, no limit, and more than there are."""
        whole = sync.get(query(sort)).json
        first = sync.get(query(sort, limit=2))
        token = first["X-Weave-Next-Offset"]
        assert first.json == whole[:2]
        assert sync.get(query(sort, limit=3, offset=token)).json == whole[2:5]
        assert sync.get(query(sort, offset=token)).json == whole[2:]
        rest = sync.get(query(sort, limit=10000, offset=token))
        assert rest.json == whole[2:]
        assert rest.get("X-Weave-Next-Offset") is None

    @pytest.mark.parametrize("sort", SORTS)
    def test_no_offset_when_nothing_is_left(
        self, sync: SyncClient, groups: list[str], sort: str | None
    ) -> None:
        """Also when the last page is exactly full."""
        for limit in (12, 13, 10000):
            assert sync.get(query(sort, limit=limit)).get("X-Weave-Next-Offset") is None
        first = sync.get(query(sort, limit=6))
        second = sync.get(query(sort, limit=6, offset=first["X-Weave-Next-Offset"]))
        assert len(second.json) == 6
        assert second.get("X-Weave-Next-Offset") is None

    @pytest.mark.parametrize("sort", SORTS)
    def test_a_page_tells_the_collection_s_time_in_the_same_words(
        self, sync: SyncClient, groups: list[str], sort: str | None
    ) -> None:
        """A client compares the header of later pages as text with that of the first."""
        first = sync.get(query(sort, limit=5))
        second = sync.get(query(sort, limit=5, offset=first["X-Weave-Next-Offset"]))
        assert second["X-Last-Modified"] == first["X-Last-Modified"]
        assert second["X-Weave-Records"] == "5"

    def test_a_writer_between_pages_is_noticed_by_the_precondition(
        self, sync: SyncClient, groups: list[str]
    ) -> None:
        first = sync.get(query(None, limit=5))
        path = query(None, limit=5, offset=first["X-Weave-Next-Offset"])
        headers = {"X-If-Unmodified-Since": first["X-Last-Modified"]}
        assert sync.get(path, headers).status == 200
        sync.put("/storage/col/new", {})
        assert sync.get(path, headers).status == 412


class TestOffsets:
    """Section 7.1: offsets are opaque, fit into a URL as they are, and are checked when they come back."""

    @pytest.mark.parametrize("sort", SORTS)
    def test_a_token_is_safe_in_a_url(self, sync: SyncClient, sort: str | None) -> None:
        names = ["a&b=c", "%41", "a+b", "~", "/", "{x}", "a b", '"', "#", "?", "z" * 64]
        sync.post("/storage/col", [{"id": name, "sortindex": 1} for name in names])
        whole = sync.get(query(sort)).json
        assert pages(sync, query(sort, v=1), 1) == whole
        token = sync.get(query(sort, limit=2))["X-Weave-Next-Offset"]
        assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
        escaped = "".join(f"%{ord(char):02X}" for char in token)
        for form in (token, quote(token, safe=""), escaped):
            assert sync.get(query(sort, offset=form)).json == whole[2:]

    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("sort", SORTS)
    def test_garbage_is_400(self, sync: SyncClient, sort: str | None, garbage: str) -> None:
        for _ in range(2):
            for limit in ({}, {"limit": 2}):
                reply = sync.get(query(sort, offset=garbage, **limit))
                assert (reply.status, reply.json) == (400, 0)
            sync.post("/storage/col", [{"id": name} for name in "abc"])

    @pytest.mark.parametrize("sort", SORTS)
    def test_a_damaged_token_is_never_a_fault_of_the_server(
        self, sync: SyncClient, groups: list[str], sort: str | None
    ) -> None:
        token = sync.get(query(sort, limit=2))["X-Weave-Next-Offset"]
        for index in range(len(token)):
            for damaged in (token[:index], token[:index] + "A" + token[index + 1 :], token[index:]):
                assert sync.get(query(sort, offset=damaged)).status in (200, 400)
        for foreign in SORTS:
            assert sync.get(query(foreign, offset=token)).status in (200, 400)

    def test_another_user_s_token_shows_nothing_of_theirs(
        self, sync: SyncClient, other: SyncClient, groups: list[str]
    ) -> None:
        token = sync.get(query("oldest", limit=2))["X-Weave-Next-Offset"]
        other.put("/storage/col/own", {})
        reply: Reply = other.get(query("oldest", offset=token))
        assert reply.status == 400 or reply.json == ["own"]


class TestPagesUnderChange:
    """Section 7.1: a token is a place in the order, not a count of what went before."""

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    @pytest.mark.parametrize("sort", SORTS)
    def test_deleting_what_was_shown_moves_nothing(
        self, sync: SyncClient, groups: list[str], sort: str | None, limit: int
    ) -> None:
        whole = sync.get(query(sort)).json

        def delete_all_shown(_: int, shown: list[Any]) -> None:
            sync.delete("/storage/col?ids=" + ",".join(shown))

        assert pages(sync, query(sort, v=1), limit, delete_all_shown) == whole

    @pytest.mark.parametrize("sort", SORTS)
    def test_the_item_the_token_stands_on_may_go(
        self, sync: SyncClient, groups: list[str], sort: str | None
    ) -> None:
        whole = sync.get(query(sort)).json

        def delete_last_shown(_: int, shown: list[Any]) -> None:
            sync.delete(f"/storage/col/{shown[-1]}")

        assert pages(sync, query(sort, v=1), 3, delete_last_shown) == whole

    @pytest.mark.parametrize("sort", SORTS)
    def test_what_is_deleted_ahead_is_not_shown(
        self, sync: SyncClient, groups: list[str], sort: str | None
    ) -> None:
        whole = sync.get(query(sort)).json

        def delete_one_ahead(page: int, shown: list[Any]) -> None:
            if page == 0:
                sync.delete(f"/storage/col/{whole[7]}")

        assert pages(sync, query(sort, v=1), 3, delete_one_ahead) == whole[:7] + whole[8:]

    @pytest.mark.parametrize("sort", [None, "newest"])
    def test_what_is_written_meanwhile_comes_before_the_newest(
        self, sync: SyncClient, groups: list[str], sort: str | None
    ) -> None:
        """New and changed items go to the front: behind a reader, who shows the rest once each."""
        whole = sync.get(query(sort)).json

        def write(page: int, shown: list[Any]) -> None:
            sync.post("/storage/col", [{"id": f"new{page}"}, {"id": shown[0], "payload": "changed"}])

        assert pages(sync, query(sort, v=1), 3, write) == whole

    def test_what_is_written_meanwhile_comes_after_the_oldest(
        self, sync: SyncClient, groups: list[str]
    ) -> None:
        """Ascending, a reader who goes on to the end misses no change: it appears again at the end."""
        whole = sync.get(query("oldest")).json

        def write(page: int, shown: list[Any]) -> None:
            if page == 1:
                sync.post("/storage/col", [{"id": "new"}, {"id": whole[0], "payload": "changed"}])
                sync.put(f"/storage/col/{whole[9]}", {"payload": "changed"})

        expected = whole[:9] + whole[10:] + sorted(["new", whole[0]]) + [whole[9]]
        assert pages(sync, query("oldest", v=1), 3, write) == expected

    def test_a_changed_payload_does_not_move_an_item_in_the_index(
        self, sync: SyncClient, groups: list[str]
    ) -> None:
        whole = sync.get(query("index")).json

        def touch(page: int, shown: list[Any]) -> None:
            sync.put(f"/storage/col/{whole[page]}", {"payload": "changed"})
            sync.put(f"/storage/col/{whole[-1 - page]}", {"payload": "changed"})

        assert pages(sync, query("index", v=1), 3, touch) == whole
