"""Section 8.6: DELETE of items, lists, collections and everything."""

from __future__ import annotations

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply


def assert_deleted(reply: Reply) -> None:
    """Section 20: an object with the deletion's time, which is X-Last-Modified, too."""
    assert reply.status == 200, reply
    assert reply.json == {"modified": reply.modified}


class TestDeleteItem:
    def test_it_goes_and_the_collection_stays(self, sync: SyncClient) -> None:
        before = sync.post("/storage/col", [{"id": "a", "payload": "x"}, {"id": "b", "payload": "y"}])
        reply = sync.delete("/storage/col/a")
        assert_deleted(reply)
        assert reply.modified > before.modified
        assert sync.get("/storage/col/a").status == 404
        assert sync.get("/storage/col").json == ["b"]
        assert sync.get("/storage/col/b").modified == before.modified
        collections = sync.get("/info/collections")
        assert collections.json == {"col": reply.modified}
        assert collections["X-Last-Modified"] == reply["X-Last-Modified"]

    def test_the_last_item_leaves_an_empty_collection(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        reply = sync.delete("/storage/col/a")
        assert_deleted(reply)
        assert sync.get("/info/collections").json == {"col": reply.modified}
        listed = sync.get("/storage/col")
        assert (listed.json, listed.modified) == ([], reply.modified)

    def test_a_missing_item_is_404_and_changes_nothing(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        before = sync.get("/info/collections")
        for path in ("/storage/col/b", "/storage/elsewhere/a"):
            reply = sync.delete(path)
            assert (reply.status, reply.json) == (404, 0)
        after = sync.get("/info/collections")
        assert (after.json, after.modified) == (before.json, before.modified)

    def test_it_can_be_deleted_once(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert [sync.delete("/storage/col/a").status for _ in range(2)] == [200, 404]

    def test_what_comes_after_it_starts_anew(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x", "sortindex": 5})
        sync.delete("/storage/col/a")
        reply = sync.put("/storage/col/a", {})
        assert sync.get("/storage/col/a").json == {"id": "a", "modified": reply.json, "payload": ""}

    def test_a_confirmation_header_and_query_are_ignored(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert_deleted(sync.delete("/storage/col/a?blabla=1", {"X-Confirm-Delete": "1"}))


class TestDeleteIds:
    def test_the_listed_go_and_the_absent_are_ignored(self, sync: SyncClient) -> None:
        before = sync.post("/storage/col", [{"id": name, "payload": "x"} for name in "abcd"])
        reply = sync.delete("/storage/col?ids=a,missing,c")
        assert_deleted(reply)
        assert reply.modified > before.modified
        assert sorted(sync.get("/storage/col").json) == ["b", "d"]
        assert sync.get("/info/collections").json == {"col": reply.modified}

    def test_the_collection_stays_even_empty(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": "a"}, {"id": "b"}])
        reply = sync.delete("/storage/col?ids=a%2Cb")
        assert_deleted(reply)
        assert sync.get("/info/collections").json == {"col": reply.modified}
        assert sync.get("/storage/col").json == []

    @pytest.mark.parametrize(
        "query", ["ids=", "ids=,", "ids=%20", "ids", "ids=a,,b", "ids=" + "a" * 65, "ids=a,%C3%A9"]
    )
    def test_a_bad_list_is_400_and_deletes_nothing(self, sync: SyncClient, query: str) -> None:
        """An empty `ids` must never mean the whole collection."""
        sync.post("/storage/col", [{"id": "a"}, {"id": "b"}])
        reply = sync.delete(f"/storage/col?{query}")
        assert (reply.status, reply.json) == (400, 0)
        assert sorted(sync.get("/storage/col").json) == ["a", "b"]

    def test_a_hundred_are_allowed_and_no_more(self, sync: SyncClient) -> None:
        names = [f"n{number}" for number in range(101)]
        sync.post("/storage/col", [{"id": name} for name in names[:100]])
        sync.put(f"/storage/col/{names[100]}", {})
        reply = sync.delete("/storage/col?ids=" + ",".join(names))
        assert (reply.status, reply.json) == (400, 0)
        assert len(sync.get("/storage/col").json) == 101
        assert_deleted(sync.delete("/storage/col?ids=" + ",".join(names[:100])))
        assert sync.get("/storage/col").json == [names[100]]

    def test_only_absent_ids_leave_the_items_alone(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert_deleted(sync.delete("/storage/col?ids=b,c"))
        assert sync.get("/storage/col").json == ["a"]

    def test_a_plus_is_a_plus(self, sync: SyncClient) -> None:
        """Not a form's space: Firefox lists its form ids, which are base64, without escaping them."""
        sync.post(
            "/storage/forms", [{"id": name} for name in ("iuDW6AmVR8+eNnlD", "iuDW6AmVR8 eNnlD", "a/b=")]
        )
        assert_deleted(sync.delete("/storage/forms?ids=iuDW6AmVR8+eNnlD,a/b="))
        assert sync.get("/storage/forms").json == ["iuDW6AmVR8 eNnlD"]

    def test_braces_and_escapes_are_taken(self, sync: SyncClient) -> None:
        names = ["{6820f3ca-6e8a-4ff4-8af7-8b3625d7d65e}", "a+b", "a b", "a/b", "x"]
        sync.post("/storage/col", [{"id": name} for name in names])
        assert_deleted(sync.delete(f"/storage/col?ids={names[0]},a%2Bb,a%20b,a%2Fb"))
        assert sync.get("/storage/col").json == ["x"]


class TestDeleteCollection:
    def test_it_disappears(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x" * 10})
        kept = sync.put("/storage/keep/a", {"payload": "x"})
        reply = sync.delete("/storage/col")
        assert_deleted(reply)
        assert reply.modified > kept.modified
        for path in ("/info/collections", "/info/collection_counts", "/info/collection_usage"):
            assert list(sync.get(path).json) == ["keep"]
        listed = sync.get("/storage/col")
        assert (listed.json, listed["X-Last-Modified"]) == ([], "0.00")
        assert sync.get("/storage/col/a").status == 404
        assert sync.get("/info/collections").modified == reply.modified
        assert float(sync.get("/info/quota").json[0]) == 1 / 1024

    def test_a_missing_one_is_200_and_changes_nothing(self, sync: SyncClient) -> None:
        written = sync.put("/storage/col/a", {"payload": "x"})
        reply = sync.delete("/storage/missing")
        assert_deleted(reply)
        assert reply.modified == written.modified
        assert sync.get("/info/collections").json == {"col": written.modified}
        assert sync.get("/info/collections").modified == written.modified

    def test_of_an_untouched_user_it_is_200_with_time_zero(self, sync: SyncClient) -> None:
        reply = sync.delete("/storage/col")
        assert_deleted(reply)
        assert reply["X-Last-Modified"] == "0.00"
        assert sync.get("/info/collections").json == {}

    def test_it_does_not_remember_that_it_was_there(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x", "sortindex": 5})
        deleted = sync.delete("/storage/col")
        reply = sync.put("/storage/col/a", {}, {"X-If-Unmodified-Since": "0"})
        assert reply.modified > deleted.modified
        assert sync.get("/storage/col/a").json == {"id": "a", "modified": reply.json, "payload": ""}


class TestDeleteEverything:
    @pytest.mark.parametrize("path", ["", "/storage"])
    def test_nothing_is_left(self, sync: SyncClient, path: str) -> None:
        for name in ("col", "meta", "crypto", "bookmarks"):
            last = sync.put(f"/storage/{name}/a", {"payload": "x"})
        reply = sync.delete(path)
        assert_deleted(reply)
        assert reply.modified > last.modified
        for info in ("/info/collections", "/info/collection_counts", "/info/collection_usage"):
            assert sync.get(info).json == {}
        assert float(sync.get("/info/quota").json[0]) == 0
        for name in ("col", "meta", "crypto", "bookmarks"):
            assert sync.get(f"/storage/{name}").json == []
            assert sync.get(f"/storage/{name}/a").status == 404
        assert sync.get("/info/collections").modified == reply.modified

    @pytest.mark.parametrize("path", ["", "/storage"])
    def test_pending_batches_go_too(self, sync: SyncClient, path: str) -> None:
        batch = sync.post("/storage/col?batch=true", [{"id": "a", "payload": "x"}]).json["batch"]
        assert_deleted(sync.delete(path))
        reply = sync.post(f"/storage/col?batch={batch}&commit=true", [])
        assert (reply.status, reply.json) == (400, 0)
        assert sync.get("/storage/col").json == []

    def test_it_may_be_done_to_an_empty_storage(self, sync: SyncClient) -> None:
        assert_deleted(sync.delete("/storage"))
        assert_deleted(sync.delete(""))
        assert sync.get("/info/collections").json == {}

    def test_a_trailing_slash_deletes_nothing(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {})
        for path in ("/", "/storage/", "/storage/col/"):
            assert sync.delete(path).status == 404
        assert sync.get("/storage/col").json == ["a"]
