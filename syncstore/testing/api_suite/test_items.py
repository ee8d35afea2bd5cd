"""Sections 8.1 to 8.4: reading and writing items, and what a partial update leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from syncstore.testing.client import SyncClient


def write(sync: SyncClient, how: str, item: dict[str, Any]) -> None:
    """Write one item of `col` by PUT, POST or batch."""
    if how == "put":
        reply = sync.put(f"/storage/col/{item['id']}", item)
    elif how == "post":
        reply = sync.post("/storage/col", [item])
    elif how == "batch at once":
        reply = sync.post("/storage/col?batch=true&commit=true", [item])
    else:
        batch = sync.post("/storage/col?batch=true", [item]).json["batch"]
        reply = sync.post(f"/storage/col?batch={batch}&commit=true", [])
    assert reply.status == 200, reply


HOW = ["put", "post", "batch at once", "batch"]


class TestReading:
    """Section 8.1."""

    def test_an_item_is_an_object_with_its_time(self, sync: SyncClient) -> None:
        written = sync.put("/storage/col/a", {"payload": "x", "sortindex": 5})
        sync.put("/storage/col/b", {"payload": "y"})
        reply = sync.get("/storage/col/a")
        assert reply.status == 200
        assert reply.json == {"id": "a", "modified": written.json, "payload": "x", "sortindex": 5}
        assert reply["X-Last-Modified"] == written["X-Last-Modified"]
        assert float(reply["X-Weave-Timestamp"]) >= float(written["X-Last-Modified"])

    def test_a_missing_item_is_404(self, sync: SyncClient) -> None:
        reply = sync.get("/storage/col/a")
        assert (reply.status, reply.json) == (404, 0)
        sync.put("/storage/col/b", {})
        assert sync.get("/storage/col/a").status == 404
        assert sync.get("/storage/elsewhere/b").status == 404


class TestPut:
    """Section 8.2."""

    def test_it_creates_and_updates_with_200(self, sync: SyncClient) -> None:
        first = sync.put("/storage/col/a", {"payload": "x"})
        second = sync.put("/storage/col/a", {"payload": "y"})
        assert (first.status, second.status) == (200, 200)
        assert second.json > first.json
        assert sync.get("/storage/col/a").json == {"id": "a", "modified": second.json, "payload": "y"}

    def test_its_body_is_the_bare_time(self, sync: SyncClient) -> None:
        reply = sync.put("/storage/col/a", {"payload": "x"})
        assert reply.text.strip() == reply["X-Last-Modified"] == reply["X-Weave-Timestamp"]
        assert sync.get("/storage/col/a").json["modified"] == reply.json

    def test_an_empty_object_creates_an_empty_item(self, sync: SyncClient) -> None:
        reply = sync.put("/storage/col/a", {})
        assert sync.get("/storage/col/a").json == {"id": "a", "modified": reply.json, "payload": ""}

    def test_an_empty_object_touches_the_collection(self, sync: SyncClient) -> None:
        first = sync.put("/storage/col/a", {"payload": "x", "sortindex": 3})
        second = sync.put("/storage/col/a", {})
        item = sync.get("/storage/col/a").json
        assert (item["payload"], item["sortindex"], item["modified"]) == ("x", 3, first.json)
        assert sync.get("/info/collections").json == {"col": second.json}

    def test_it_leaves_the_rest_of_the_collection_alone(self, sync: SyncClient) -> None:
        first = sync.post("/storage/col", [{"id": name, "payload": name} for name in "abc"])
        second = sync.put("/storage/col/b", {"payload": "new"})
        found = {
            item["id"]: (item["payload"], item["modified"]) for item in sync.get("/storage/col?full=1").json
        }
        assert found == {
            "a": ("a", first.modified),
            "b": ("new", second.modified),
            "c": ("c", first.modified),
        }


class TestPost:
    """Section 8.3."""

    def test_all_its_items_share_its_time(self, sync: SyncClient) -> None:
        reply = sync.post("/storage/col", [{"id": name, "payload": name} for name in "cab"])
        assert reply.status == 200
        assert reply.json == {"modified": reply.modified, "success": ["c", "a", "b"], "failed": {}}
        items = sync.get("/storage/col?full=1").json
        assert {item["modified"] for item in items} == {reply.modified}
        assert sync.get("/info/collections").json == {"col": reply.modified}

    def test_success_is_in_the_order_of_the_request(self, sync: SyncClient) -> None:
        names = [f"i{(number * 37) % 100:02}" for number in range(100)]
        assert sync.post("/storage/col", [{"id": name} for name in names]).json["success"] == names
        assert (
            sync.post("/storage/col", [{"id": name} for name in names[::-1]]).json["success"] == names[::-1]
        )

    def test_it_mixes_new_and_old_items(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": "a", "payload": "1"}, {"id": "b", "payload": "1"}])
        sync.post("/storage/col", [{"id": "b", "payload": "2"}, {"id": "c", "payload": "2"}])
        found = {item["id"]: item["payload"] for item in sync.get("/storage/col?full=1").json}
        assert found == {"a": "1", "b": "2", "c": "2"}

    def test_an_answer_without_a_batch_has_no_batch_key(self, sync: SyncClient) -> None:
        assert sync.post("/storage/col", []).json.keys() == {"modified", "success", "failed"}


class TestPartialUpdates:
    """Section 8.4: what is absent is kept."""

    @pytest.mark.parametrize("how", HOW)
    def test_what_is_absent_on_a_new_item_has_its_default(self, sync: SyncClient, how: str) -> None:
        write(sync, how, {"id": "a", "sortindex": 4})
        item = sync.get("/storage/col/a").json
        assert (item["payload"], item["sortindex"]) == ("", 4)
        write(sync, how, {"id": "b", "payload": "x"})
        assert "sortindex" not in sync.get("/storage/col/b").json

    @pytest.mark.parametrize("how", HOW)
    def test_what_is_absent_on_an_old_item_is_kept(self, sync: SyncClient, how: str) -> None:
        write(sync, how, {"id": "a", "payload": "x", "sortindex": 17})
        write(sync, how, {"id": "a", "payload": "y"})
        item = sync.get("/storage/col/a").json
        assert (item["payload"], item["sortindex"]) == ("y", 17)
        write(sync, how, {"id": "a", "sortindex": 18})
        item = sync.get("/storage/col/a").json
        assert (item["payload"], item["sortindex"]) == ("y", 18)
        write(sync, how, {"id": "a", "ttl": 1000})
        item = sync.get("/storage/col/a").json
        assert (item["payload"], item["sortindex"]) == ("y", 18)

    @pytest.mark.parametrize("how", ["put", "post", "batch at once"])
    @pytest.mark.parametrize(
        ("change", "moves"),
        [
            ({"payload": "y"}, True),
            ({"payload": "x"}, True),
            ({"sortindex": 2}, True),
            ({"ttl": 1000}, False),
            ({}, False),
        ],
    )
    def test_payload_and_sortindex_move_the_item_s_time_a_ttl_does_not(
        self, sync: SyncClient, how: str, change: dict[str, Any], moves: bool
    ) -> None:
        """Section 20: sortindex counts as a change. The collection's and storage's times always move."""
        before = sync.put("/storage/col/a", {"payload": "x", "sortindex": 1}).modified
        write(sync, how, {"id": "a", **change})
        now = sync.get("/info/collections")
        assert now.json["col"] == now.modified > before
        assert sync.get("/storage/col/a").json["modified"] == (now.modified if moves else before)
        assert sync.get(f"/storage/col?newer={before}").json == (["a"] if moves else [])

    def test_one_post_of_all_kinds(self, sync: SyncClient) -> None:
        """Items with a ttl alone keep their time; items with a payload and new items get the request's."""
        first = sync.post("/storage/col", [{"id": name, "payload": "x"} for name in ("ttl", "payload")])
        items = [
            {"id": "ttl", "ttl": 1000},
            {"id": "payload", "payload": "y", "ttl": 1000},
            {"id": "new", "ttl": 1000},
        ]
        second = sync.post("/storage/col", items)
        times = {item["id"]: item["modified"] for item in sync.get("/storage/col?full=1").json}
        assert times == {"ttl": first.modified, "payload": second.modified, "new": second.modified}

    def test_a_batch_moves_the_time_of_all_its_items(self, sync: SyncClient) -> None:
        """Unlike a plain write: at commit even an item with a ttl alone gets the commit's time."""
        sync.put("/storage/col/a", {"payload": "x"})
        batch = sync.post("/storage/col?batch=true", [{"id": "a", "ttl": 1000}]).json["batch"]
        commit = sync.post(f"/storage/col?batch={batch}&commit=true", [])
        item = sync.get("/storage/col/a").json
        assert (item["payload"], item["modified"]) == ("x", commit.modified)
