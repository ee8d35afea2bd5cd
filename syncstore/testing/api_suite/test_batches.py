"""Section 13: uploads in several requests that become visible at once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply

VISIBLE = [
    "/info/collections",
    "/info/collection_counts",
    "/info/collection_usage",
    "/info/quota",
    "/storage/col",
    "/storage/col?full=1",
    "/storage/col?newer=5",
    "/storage/col?ids=a,b,c",
]


def opened(sync: SyncClient, *items: dict[str, Any], collection: str = "col") -> str:
    """Open a batch with these items; returns its id."""
    reply = sync.post(f"/storage/{collection}?batch=true", list(items))
    assert reply.status == 202, reply
    assert reply.json == {"batch": reply.json["batch"], "success": [i["id"] for i in items], "failed": {}}
    assert isinstance(reply.json["batch"], str)
    return str(reply.json["batch"])


def stage(sync: SyncClient, batch: str, *items: dict[str, Any]) -> Reply:
    return sync.post(f"/storage/col?batch={batch}", list(items))


def commit(sync: SyncClient, batch: str, *items: dict[str, Any]) -> Reply:
    reply = sync.post(f"/storage/col?batch={batch}&commit=true", list(items))
    assert reply.status == 200, reply
    assert reply.json["modified"] == reply.modified
    assert "batch" not in reply.json
    return reply


def assert_no_batch(reply: Reply) -> None:
    assert (reply.status, reply.json) == (400, 0), reply


def view(sync: SyncClient) -> list[tuple[Any, Decimal]]:
    """Everything a reader can see."""
    return [(reply.json, reply.modified) for reply in map(sync.get, VISIBLE)]


class TestStates:
    """The table of batch and commit parameters."""

    def test_open_stage_commit(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a", "payload": "1"})
        reply = stage(sync, batch, {"id": "b", "payload": "2"})
        assert reply.status == 202
        assert reply.json == {"batch": batch, "success": ["b"], "failed": {}}
        done = commit(sync, batch, {"id": "c", "payload": "3"})
        assert done.json["success"] == ["c"], "only this POST's items"
        assert done.json["failed"] == {}
        found = {
            item["id"]: (item["payload"], item["modified"]) for item in sync.get("/storage/col?full=1").json
        }
        assert found == {"a": ("1", done.modified), "b": ("2", done.modified), "c": ("3", done.modified)}

    @pytest.mark.parametrize("value", ["true", "TRUE", "True", "tRuE"])
    def test_true_is_written_in_any_case(self, sync: SyncClient, value: str) -> None:
        reply = sync.post(f"/storage/col?batch={value}", [{"id": "a"}])
        assert reply.status == 202
        done = sync.post(f"/storage/col?batch={reply.json['batch']}&commit={value}", [])
        assert done.status == 200
        assert sync.get("/storage/col").json == ["a"]

    def test_open_and_commit_at_once_is_a_plain_post(self, sync: SyncClient) -> None:
        reply = sync.post("/storage/col?batch=true&commit=true", [{"id": "a", "payload": "x"}])
        assert reply.status == 200
        assert reply.json == {"modified": reply.modified, "success": ["a"], "failed": {}}
        assert sync.get("/storage/col/a").json == {"id": "a", "modified": reply.modified, "payload": "x"}

    def test_the_parameters_may_come_in_any_order(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a"})
        assert sync.post(f"/storage/col?commit=true&x=1&batch={batch}", []).status == 200

    @pytest.mark.parametrize("query", ["commit=true", "commit=TRUE"])
    def test_a_commit_without_a_batch_is_400(self, sync: SyncClient, query: str) -> None:
        assert_no_batch(sync.post(f"/storage/col?{query}", [{"id": "a"}]))
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("value", ["false", "1", "yes", "", "tru", "true1"])
    def test_any_other_commit_is_400(self, sync: SyncClient, value: str) -> None:
        batch = opened(sync, {"id": "a"})
        for parameter in (f"batch={batch}&", "batch=true&", ""):
            assert_no_batch(sync.post(f"/storage/col?{parameter}commit={value}", [{"id": "b"}]))
        assert sync.get("/info/collections").json == {}
        commit(sync, batch)
        assert sync.get("/storage/col").json == ["a"]

    @pytest.mark.parametrize(
        "batch",
        [
            "sammich",
            "123456",
            "MTUzNjE5ODk3NjkyMQ==",
            "MTIz",
            "-1",
            "0",
            "%D9%A3",
            "a" * 2000,
            "%00",
            "%FF",
            "!",
            "'",
            "9" * 40,
            "AAAAAAAAAAA",
            "....",
            "truee",
            "00000000-0000-0000-0000-000000000000",
            "Zm9v",
        ],
    )
    def test_an_unknown_batch_is_400(self, sync: SyncClient, batch: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        before = view(sync)
        for query in ("", "&commit=true"):
            assert_no_batch(sync.post(f"/storage/col?batch={batch}{query}", [{"id": "b"}]))
        assert view(sync) == before

    @pytest.mark.parametrize("query", ["batch", "batch="])
    def test_a_bare_batch_opens_one_or_is_400(self, sync: SyncClient, query: str) -> None:
        """The peers differ."""
        reply = sync.post(f"/storage/col?{query}", [{"id": "a"}])
        assert reply.status in (202, 400)
        assert sync.get("/storage/col").json == []

    def test_a_batch_is_committed_once(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a"})
        commit(sync, batch)
        before = view(sync)
        for query in ("", "&commit=true"):
            assert_no_batch(sync.post(f"/storage/col?batch={batch}{query}", [{"id": "b"}]))
        assert view(sync) == before

    def test_it_belongs_to_its_collection(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a"})
        for query in ("", "&commit=true"):
            assert_no_batch(sync.post(f"/storage/other?batch={batch}{query}", [{"id": "b"}]))
        commit(sync, batch)
        assert list(sync.get("/info/collections").json) == ["col"]

    def test_it_belongs_to_its_user(self, sync: SyncClient, other: SyncClient) -> None:
        batch = opened(sync, {"id": "a"})
        for query in ("", "&commit=true"):
            assert_no_batch(other.post(f"/storage/col?batch={batch}{query}", [{"id": "b"}]))
        assert other.get("/storage/col").json == []
        commit(sync, batch)
        assert sync.get("/storage/col").json == ["a"]

    def test_an_id_may_be_escaped(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a"})
        escaped = "".join(f"%{ord(char):02X}" for char in batch)
        assert stage(sync, escaped, {"id": "b"}).json["batch"] == batch
        commit(sync, escaped)
        assert sorted(sync.get("/storage/col").json) == ["a", "b"]

    def test_batches_are_apart(self, sync: SyncClient, other: SyncClient) -> None:
        """Also of two collections and of two users, opened in one moment."""
        first, second = opened(sync, {"id": "a", "payload": "1"}), opened(sync, {"id": "b", "payload": "2"})
        elsewhere = opened(sync, {"id": "c", "payload": "3"}, collection="bookmarks")
        theirs = opened(other, {"id": "d", "payload": "4"})
        assert len({first, second, elsewhere}) == 3
        commit(sync, second)
        assert sync.get("/storage/col").json == ["b"]
        commit(other, theirs)
        assert other.get("/storage/col").json == ["d"]
        commit(sync, first)
        assert sorted(sync.get("/storage/col").json) == ["a", "b"]
        sync.post(f"/storage/bookmarks?batch={elsewhere}&commit=true", [])
        assert sync.get("/storage/bookmarks").json == ["c"]
        assert other.get("/storage/col").json == ["d"]


class TestInvisibility:
    def test_staged_items_are_seen_by_no_read(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": "a", "payload": "live", "sortindex": 1}])
        before = view(sync)
        batch = opened(sync, {"id": "a", "payload": "staged"}, {"id": "b", "payload": "x" * 1000})
        assert view(sync) == before
        reply = stage(sync, batch, {"id": "c", "payload": "y", "ttl": 1000})
        assert view(sync) == before
        assert reply.modified == before[0][1]
        assert sync.get("/storage/col/b").status == 404
        assert sync.get("/storage/col/a").json["payload"] == "live"
        commit(sync, batch)
        assert sync.get("/info/collection_counts").json == {"col": 3}

    def test_they_create_no_collection(self, sync: SyncClient) -> None:
        reply = sync.post("/storage/col?batch=true", [{"id": "a"}])
        assert reply["X-Last-Modified"] == "0.00"
        assert sync.get("/info/collections").json == {}
        assert sync.get("/info/collections")["X-Last-Modified"] == "0.00"
        done = commit(sync, reply.json["batch"])
        assert sync.get("/info/collections").json == {"col": done.modified}


class TestCommit:
    def test_it_gives_one_time_to_everything(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a", "payload": "1"})
        sync.put("/storage/elsewhere/x", {})
        stage(sync, batch, {"id": "b"})
        done = commit(sync, batch, {"id": "c", "payload": "3"})
        stamp = done["X-Last-Modified"]
        assert done["X-Weave-Timestamp"] == stamp
        collections = sync.get("/info/collections")
        assert collections["X-Last-Modified"] == stamp == str(collections.json["col"])
        assert sync.get("/storage/col")["X-Last-Modified"] == stamp
        for name in "abc":
            item = sync.get(f"/storage/col/{name}")
            assert item["X-Last-Modified"] == stamp == str(item.json["modified"])

    def test_absent_fields_fall_back_to_the_live_item(self, sync: SyncClient) -> None:
        sync.post(
            "/storage/col", [{"id": "a", "payload": "live", "sortindex": 17}, {"id": "b", "payload": "live"}]
        )
        batch = opened(
            sync, {"id": "a", "payload": "new"}, {"id": "b", "sortindex": 3}, {"id": "c", "sortindex": 4}
        )
        done = commit(sync, batch)
        found = {item.pop("id"): item for item in sync.get("/storage/col?full=1").json}
        assert found == {
            "a": {"modified": done.modified, "payload": "new", "sortindex": 17},
            "b": {"modified": done.modified, "payload": "live", "sortindex": 3},
            "c": {"modified": done.modified, "payload": "", "sortindex": 4},
        }

    def test_the_live_item_is_the_one_at_the_commit(self, sync: SyncClient) -> None:
        batch = opened(
            sync, {"id": "a", "sortindex": 1}, {"id": "b", "sortindex": 1}, {"id": "c", "sortindex": 1}
        )
        sync.post(
            "/storage/col", [{"id": "a", "payload": "between"}, {"id": "b", "payload": "b", "sortindex": 9}]
        )
        sync.put("/storage/col/c", {"payload": "gone"})
        sync.delete("/storage/col/c")
        commit(sync, batch)
        found = {
            item["id"]: (item["payload"], item["sortindex"]) for item in sync.get("/storage/col?full=1").json
        }
        assert found == {"a": ("between", 1), "b": ("b", 1), "c": ("", 1)}

    def test_an_item_staged_again_is_merged_field_by_field(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a", "payload": "1", "sortindex": 1}, {"id": "b", "payload": "1"})
        stage(sync, batch, {"id": "a", "payload": "2"}, {"id": "b", "sortindex": 2})
        stage(sync, batch, {"id": "a", "ttl": 1000})
        commit(sync, batch)
        found = {
            item["id"]: (item["payload"], item["sortindex"]) for item in sync.get("/storage/col?full=1").json
        }
        assert found == {"a": ("2", 1), "b": ("1", 2)}

    @pytest.mark.parametrize("value", [-999999999, -1, 0, 999999999])
    def test_extremes_are_staged_as_they_are(self, sync: SyncClient, value: int) -> None:
        item = {"id": "a", "payload": "\u0000ä€😀\n", "sortindex": value}
        done = commit(sync, opened(sync, item))
        assert sync.get("/storage/col/a").json == {**item, "modified": done.modified}

    def test_the_last_post_s_fields_win(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "b0", "payload": "staged", "sortindex": 5})
        done = commit(sync, batch, {"id": "b0", "payload": "committed"})
        assert done.json["success"] == ["b0"]
        assert done.json["failed"] == {}
        item = sync.get("/storage/col/b0").json
        assert (item["payload"], item["sortindex"]) == ("committed", 5)

    def test_several_items_staged_twice_keep_to_themselves(self, sync: SyncClient) -> None:
        """A peer changes all rows of the batch when one is staged again."""
        batch = opened(sync, *({"id": name, "payload": name, "sortindex": 1} for name in "abc"))
        stage(sync, batch, {"id": "b", "payload": "again"})
        commit(sync, batch)
        found = {
            item["id"]: (item["payload"], item["sortindex"]) for item in sync.get("/storage/col?full=1").json
        }
        assert found == {"a": ("a", 1), "b": ("again", 1), "c": ("c", 1)}

    @pytest.mark.parametrize("kind", ["application/json", "application/newlines"])
    def test_it_may_be_empty(self, sync: SyncClient, kind: str) -> None:
        batch = opened(sync, {"id": "a", "payload": "x"})
        body: Any = [] if kind == "application/json" else ""
        reply = sync.post(f"/storage/col?batch={batch}&commit=true", body, {"Content-Type": kind})
        assert reply.status == 200
        assert reply.json == {"modified": reply.modified, "success": [], "failed": {}}
        assert sync.get("/storage/col/a").json["payload"] == "x"

    def test_so_may_the_whole_batch(self, sync: SyncClient) -> None:
        done = commit(sync, opened(sync))
        assert sync.get("/info/collections").json == {"col": done.modified}
        assert sync.get("/storage/col").json == []

    def test_newlines_can_be_staged(self, sync: SyncClient) -> None:
        headers = {"Content-Type": "application/newlines"}
        reply = sync.post("/storage/col?batch=true", '{"id":"a","payload":"1"}\n{"id":"b"}\n', headers)
        assert (reply.status, reply.json["success"]) == (202, ["a", "b"])
        commit(sync, reply.json["batch"])
        assert sorted(sync.get("/storage/col").json) == ["a", "b"]

    def test_an_item_that_fails_never_enters_the_batch(self, sync: SyncClient) -> None:
        reply = sync.post("/storage/col?batch=true", [{"id": "a", "payload": 5}, {"id": "b", "payload": "x"}])
        assert reply.status == 202
        assert reply.json["success"] == ["b"]
        assert list(reply.json["failed"]) == ["a"]
        batch = reply.json["batch"]
        reply = stage(sync, batch, {"id": "c", "ttl": -1}, {"id": "d"})
        assert list(reply.json["failed"]) == ["c"]
        done = commit(sync, batch, {"id": "e", "nonsense": 1}, {"id": "f"})
        assert done.json["success"] == ["f"]
        assert list(done.json["failed"]) == ["e"], "only this POST's items"
        assert sorted(sync.get("/storage/col").json) == ["b", "d", "f"]

    def test_a_refused_post_leaves_the_batch_open(self, sync: SyncClient) -> None:
        batch = opened(sync, {"id": "a"})
        assert stage(sync, batch, {"payload": "no id"}).status == 400
        assert sync.post(f"/storage/col?batch={batch}&commit=true", "nonsense").status == 400
        assert sync.get("/storage/col").json == []
        commit(sync, batch)
        assert sync.get("/storage/col").json == ["a"]

    def test_more_items_than_one_post_may_carry(self, sync: SyncClient, limits: dict[str, int]) -> None:
        most = min(limits["max_post_records"], 100)
        names = [f"i{number:04}" for number in range(3 * most)]
        pieces = [names[start : start + most] for start in range(0, len(names), most)]
        batch = opened(sync, *({"id": name, "payload": name} for name in pieces[0]))
        stage(sync, batch, *({"id": name, "payload": name} for name in pieces[1]))
        done = commit(sync, batch, *({"id": name, "payload": name} for name in pieces[2]))
        items = sync.get("/storage/col?full=1&sort=oldest").json
        assert [item["id"] for item in items] == names
        assert all(item["payload"] == item["id"] and item["modified"] == done.modified for item in items)

    def test_ids_that_a_database_might_confuse_stay_apart(self, sync: SyncClient) -> None:
        names = ["a", "A", "a ", "{a}", "a%", "a_"]
        batch = opened(sync, *({"id": name, "payload": name} for name in names))
        stage(sync, batch, {"id": "A", "payload": "again"})
        commit(sync, batch)
        found = {item["id"]: item["payload"] for item in sync.get("/storage/col?full=1").json}
        assert found == {name: name for name in names} | {"A": "again"}


class TestPreconditionsOfBatches:
    """Section 13: checked on every POST against the collection, which staging does not alter."""

    def test_they_are_checked_on_every_post(self, sync: SyncClient) -> None:
        stamp = sync.put("/storage/col/x", {}).modified
        good, bad = {"X-If-Unmodified-Since": str(stamp)}, {"X-If-Unmodified-Since": str(stamp - 1)}
        assert sync.post("/storage/col?batch=true", [{"id": "a"}], bad).status == 412
        batch = sync.post("/storage/col?batch=true", [{"id": "a"}], good).json["batch"]
        assert sync.post(f"/storage/col?batch={batch}", [{"id": "b"}], bad).status == 412
        assert sync.post(f"/storage/col?batch={batch}", [{"id": "c"}], good).status == 202
        assert sync.post(f"/storage/col?batch={batch}&commit=true", [], bad).status == 412
        assert sync.post(f"/storage/col?batch={batch}&commit=true", [], good).status == 200
        assert sorted(sync.get("/storage/col").json) == ["a", "c", "x"]

    def test_a_writer_in_between_is_noticed_at_the_commit(self, sync: SyncClient) -> None:
        stamp = sync.put("/storage/col/x", {}).modified
        headers = {"X-If-Unmodified-Since": str(stamp)}
        batch = sync.post("/storage/col?batch=true", [{"id": "a"}], headers).json["batch"]
        sync.put("/storage/col/y", {})
        assert sync.post(f"/storage/col?batch={batch}&commit=true", [], headers).status == 412
        assert sorted(sync.get("/storage/col").json) == ["x", "y"]

    def test_the_time_told_while_staging_can_be_sent_back(self, sync: SyncClient) -> None:
        """As clients do: 0 first, then what X-Last-Modified says."""
        reply = sync.post("/storage/col?batch=true", [{"id": "a"}], {"X-If-Unmodified-Since": "0"})
        headers = {"X-If-Unmodified-Since": reply["X-Last-Modified"]}
        batch = reply.json["batch"]
        assert sync.post(f"/storage/col?batch={batch}", [{"id": "b"}], headers).status == 202
        assert sync.post(f"/storage/col?batch={batch}&commit=true", [], headers).status == 200
        assert sync.post("/storage/col?batch=true", [{"id": "a"}], headers).status == 412


class TestBatchesDisabled:
    """Section 13, "Disabled": `batch=true` is ignored, a concrete id is refused."""

    @pytest.fixture
    def user(self, configured: Callable[..., SyncClient]) -> SyncClient:
        return configured(**{"batch.enabled": "false"})

    def test_the_limits_of_batches_are_not_told(self, user: SyncClient) -> None:
        found = user.get("/info/configuration").json
        assert "max_record_payload_bytes" in found
        assert not {"max_total_records", "max_total_bytes"} & found.keys()

    def test_opening_one_is_a_plain_post(self, user: SyncClient) -> None:
        for query in ("batch=true", "batch=true&commit=true"):
            reply = user.post(f"/storage/col?{query}", [{"id": "a", "payload": "x"}])
            assert reply.status == 200
            assert reply.json == {"modified": reply.modified, "success": ["a"], "failed": {}}
        assert user.get("/storage/col").json == ["a"]

    def test_a_commit_alone_is_ignored(self, user: SyncClient) -> None:
        assert user.post("/storage/col?commit=true", [{"id": "a"}]).status == 200

    @pytest.mark.parametrize("batch", ["sammich", "123456", "MTIz"])
    def test_an_id_is_400(self, user: SyncClient, batch: str) -> None:
        for query in ("", "&commit=true"):
            assert user.post(f"/storage/col?batch={batch}{query}", [{"id": "a"}]).status == 400
        assert user.get("/storage/col").json == []
