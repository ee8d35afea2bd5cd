"""Section 10: info/collections, counts, usage and quota."""

from __future__ import annotations

import pytest

from syncstore.testing.client import SyncClient

MAPS = ["/info/collections", "/info/collection_counts", "/info/collection_usage"]


class TestInfoMaps:
    @pytest.mark.parametrize("path", MAPS)
    def test_an_untouched_user_has_none(self, sync: SyncClient, path: str) -> None:
        reply = sync.get(path)
        assert (reply.status, reply.json) == (200, {})
        assert reply["X-Weave-Records"] == "0"
        assert reply["X-Last-Modified"] == "0.00"

    @pytest.mark.parametrize("path", [*MAPS, "/info/quota"])
    def test_its_time_is_that_of_the_storage(self, sync: SyncClient, path: str) -> None:
        for name in ("col", "meta", "col"):
            stamp = sync.post(f"/storage/{name}", [{"id": "a", "payload": "x"}])["X-Last-Modified"]
            assert sync.get(path)["X-Last-Modified"] == stamp
        stamp = sync.delete("/storage/col/a")["X-Last-Modified"]
        assert sync.get(path)["X-Last-Modified"] == stamp

    def test_collections_show_the_time_of_each(self, sync: SyncClient) -> None:
        first = sync.put("/storage/col/a", {}).json
        second = sync.post("/storage/meta", []).modified
        third = sync.put("/storage/x-1._y/a", {}).json
        reply = sync.get("/info/collections")
        assert reply.json == {"col": first, "meta": second, "x-1._y": third}
        assert reply["X-Weave-Records"] == "3"
        fourth = sync.put("/storage/col/b", {}).json
        assert sync.get("/info/collections").json == {"col": fourth, "meta": second, "x-1._y": third}

    def test_standard_and_custom_names_may_be_mixed(self, sync: SyncClient) -> None:
        """Section 1: the standard names have fixed numbers in existing databases."""
        names = ["clients", "crypto", "forms", "history", "keys", "meta", "bookmarks", "prefs", "tabs"]
        names += ["passwords", "addons", "addresses", "creditcards", "custom", "extension-storage"]
        for name in names:
            assert sync.put(f"/storage/{name}/a", {"payload": name}).status == 200
        assert sorted(sync.get("/info/collections").json) == sorted(names)
        for name in names:
            assert sync.get(f"/storage/{name}/a").json["payload"] == name

    def test_counts_are_of_live_items_and_leave_out_the_empty(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": name} for name in "abc"])
        sync.put("/storage/meta/global", {})
        sync.post("/storage/empty", [])
        sync.put("/storage/emptied/a", {})
        sync.delete("/storage/emptied/a")
        reply = sync.get("/info/collection_counts")
        assert reply.json == {"col": 3, "meta": 1}
        assert all(isinstance(count, int) for count in reply.json.values())
        assert reply["X-Weave-Records"] == "2"
        assert sorted(sync.get("/info/collections").json) == ["col", "emptied", "empty", "meta"]
        sync.delete("/storage/col?ids=a,b")
        assert sync.get("/info/collection_counts").json == {"col": 1, "meta": 1}

    def test_usage_is_in_units_of_1024_bytes_of_payload(self, sync: SyncClient) -> None:
        """Unrounded: the tests of clients compare floats for equality."""
        sync.post("/storage/col", [{"id": "a", "payload": "x" * 500}, {"id": "b", "payload": "€"}])
        sync.put("/storage/meta/global", {"payload": "y" * 1024, "sortindex": 5})
        sync.post("/storage/empty", [])
        reply = sync.get("/info/collection_usage")
        assert {name: float(size) for name, size in reply.json.items()} == {"col": 503 / 1024.0, "meta": 1.0}
        assert reply["X-Weave-Records"] == "2"

    def test_usage_follows_changes(self, sync: SyncClient) -> None:
        def usage() -> float:
            return float(sync.get("/info/collection_usage").json.get("col", 0))

        sync.post("/storage/col", [{"id": "a", "payload": "x" * 100}, {"id": "b", "payload": "x" * 50}])
        sync.put("/storage/col/a", {"payload": "x" * 10})
        assert usage() == 60 / 1024
        sync.put("/storage/col/a", {"sortindex": 1})
        assert usage() == 60 / 1024
        batch = sync.post("/storage/col?batch=true", [{"id": "a", "payload": "x" * 99}]).json["batch"]
        assert usage() == 60 / 1024
        sync.post(f"/storage/col?batch={batch}&commit=true", [{"id": "c", "payload": "x"}])
        assert usage() == 150 / 1024
        sync.delete("/storage/col/b")
        assert usage() == 100 / 1024
        assert float(sync.get("/info/quota").json[0]) == 100 / 1024
        sync.delete("/storage/col")
        assert usage() == 0


class TestQuotaInfo:
    def test_an_untouched_user_uses_nothing(self, sync: SyncClient) -> None:
        used, _ = sync.get("/info/quota").json
        assert float(used) == 0.0

    def test_a_write_adds_its_bytes_exactly(self, sync: SyncClient) -> None:
        sync.put("/storage/meta/global", {"payload": "y" * 33})
        before = float(sync.get("/info/quota").json[0])
        sync.put("/storage/col/a", {"payload": "x" * 500})
        assert float(sync.get("/info/quota").json[0]) - before == 500 / 1024.0

    def test_it_is_a_pair_of_used_and_allowed(self, sync: SyncClient) -> None:
        used, allowed = sync.get("/info/quota").json
        assert float(used) == 0
        assert allowed is None or float(allowed) > 0
