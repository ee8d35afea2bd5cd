"""Section 9: X-If-Modified-Since and X-If-Unmodified-Since on every kind of resource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply

TICK = Decimal("0.01")
READ = [
    "/info/collections",
    "/info/quota",
    "/info/collection_usage",
    "/info/collection_counts",
    "/storage/col",
    "/storage/col?full=1",
    "/storage/col?ids=a",
    "/storage/col?newer=5&limit=1",
    "/storage/col/a",
]


@dataclass(frozen=True)
class Write:
    """A write, and the collection or item whose time its precondition is held against."""

    name: str
    send: Callable[[SyncClient, dict[str, str | None]], Reply]
    resource: str

    def __str__(self) -> str:
        return self.name


WRITES = [
    Write("PUT", lambda s, h: s.put("/storage/col/a", {"payload": "new"}, h), "/storage/col/a"),
    Write("POST", lambda s, h: s.post("/storage/col", [{"id": "a", "payload": "new"}], h), "/storage/col"),
    Write("batch", lambda s, h: s.post("/storage/col?batch=true", [{"id": "q"}], h), "/storage/col"),
    Write("batch at once", lambda s, h: s.post("/storage/col?batch=true&commit=true", [], h), "/storage/col"),
    Write("DELETE item", lambda s, h: s.delete("/storage/col/a", h), "/storage/col/a"),
    Write("DELETE ids", lambda s, h: s.delete("/storage/col?ids=a", h), "/storage/col"),
    Write("DELETE collection", lambda s, h: s.delete("/storage/col", h), "/storage/col"),
    Write("DELETE storage", lambda s, h: s.delete("/storage", h), "/info/collections"),
    Write("DELETE root", lambda s, h: s.delete("", h), "/info/collections"),
]


class TestReads:
    @pytest.mark.parametrize("path", READ)
    def test_if_modified_since(self, stored: SyncClient, path: str) -> None:
        """Not modified at the resource's own time or later; equality is "not modified"."""
        stamp = stored.get(path).modified
        for since in (stamp, stamp + TICK, stamp + 1000):
            reply = stored.get(path, {"X-If-Modified-Since": str(since)})
            assert reply.status == 304
            assert reply.modified == stamp
        for since in (stamp - TICK, Decimal(0), Decimal(1)):
            assert stored.get(path, {"X-If-Modified-Since": str(since)}).status == 200

    @pytest.mark.parametrize("path", READ)
    def test_if_unmodified_since(self, stored: SyncClient, path: str) -> None:
        """Equality is success."""
        stamp = stored.get(path).modified
        for since in (stamp, stamp + TICK, stamp + 1000):
            reply = stored.get(path, {"X-If-Unmodified-Since": str(since)})
            assert (reply.status, reply.modified) == (200, stamp)
        for since in (stamp - TICK, Decimal(0), Decimal(1)):
            reply = stored.get(path, {"X-If-Unmodified-Since": str(since)})
            assert (reply.status, reply.json) == (412, 0)
            assert reply.modified == stamp

    @pytest.mark.parametrize("path", READ)
    def test_they_follow_the_next_write(self, stored: SyncClient, path: str) -> None:
        for number in range(3):
            before = stored.get(path).modified
            assert stored.get(path, {"X-If-Modified-Since": str(before)}).status == 304
            stamp = stored.put("/storage/col/a", {"payload": str(number)}).modified
            assert stored.get(path, {"X-If-Modified-Since": str(before)}).status == 200
            assert stored.get(path, {"X-If-Unmodified-Since": str(before)}).status == 412
            assert stored.get(path, {"X-If-Modified-Since": str(stamp)}).status == 304

    def test_each_resource_has_its_own_time(self, stored: SyncClient) -> None:
        item = stored.get("/storage/col/a").modified
        collection = stored.get("/storage/col").modified
        storage = stored.get("/info/collections").modified
        assert item < collection < storage
        assert stored.get("/storage/col/a", {"X-If-Modified-Since": str(item)}).status == 304
        assert stored.get("/storage/col", {"X-If-Modified-Since": str(item)}).status == 200
        assert stored.get("/storage/col", {"X-If-Modified-Since": str(collection)}).status == 304
        assert stored.get("/info/quota", {"X-If-Modified-Since": str(collection)}).status == 200

    def test_what_is_missing_has_time_zero(self, stored: SyncClient) -> None:
        assert stored.get("/storage/none", {"X-If-Modified-Since": "0"}).status == 304
        assert stored.get("/storage/none", {"X-If-Unmodified-Since": "0"}).status == 200
        assert stored.get("/storage/col/none", {"X-If-Modified-Since": "5"}).status == 304
        assert stored.get("/storage/col/none", {"X-If-Unmodified-Since": "0"}).status == 404
        assert stored.get("/storage/none")["X-Last-Modified"] == "0.00"

    def test_of_an_untouched_user_everything_has_time_zero(self, sync: SyncClient) -> None:
        for path in ("/info/collections", "/info/quota", "/storage/col"):
            assert sync.get(path, {"X-If-Modified-Since": "0"}).status == 304
            assert sync.get(path, {"X-If-Unmodified-Since": "0"}).status == 200

    def test_a_deletion_counts_as_a_change(self, stored: SyncClient) -> None:
        before = stored.get("/info/collections").modified
        deleted = stored.delete("/storage/col").modified
        assert stored.get("/info/collections", {"X-If-Modified-Since": str(before)}).status == 200
        assert stored.get("/info/collections", {"X-If-Modified-Since": str(deleted)}).status == 304
        assert stored.get("/info/quota", {"X-If-Unmodified-Since": str(before)}).status == 412


class TestWrites:
    @pytest.mark.parametrize("write", WRITES, ids=str)
    def test_a_resource_changed_since_is_412_and_stays_as_it_is(
        self, stored: SyncClient, write: Write
    ) -> None:
        stamp = stored.get(write.resource).modified
        paths = ("/info/collections", "/storage/col?full=1", "/storage/elsewhere")
        before = [stored.get(path).json for path in paths]
        for since in (stamp - TICK, Decimal("0"), Decimal("0.00"), Decimal(5)):
            reply = write.send(stored, {"X-If-Unmodified-Since": str(since)})
            assert (reply.status, reply.json) == (412, 0)
            assert reply.modified == stamp
        assert [stored.get(path).json for path in paths] == before

    @pytest.mark.parametrize("write", WRITES, ids=str)
    @pytest.mark.parametrize("after", ["0", "0.01", "1000"])
    def test_one_not_changed_since_is_written(self, stored: SyncClient, write: Write, after: str) -> None:
        stamp = stored.get(write.resource).modified + Decimal(after)
        assert write.send(stored, {"X-If-Unmodified-Since": str(stamp)}).status in (200, 202)

    @pytest.mark.parametrize("write", WRITES[:4], ids=str)
    def test_zero_means_that_it_must_not_exist(self, sync: SyncClient, write: Write) -> None:
        """Section 4; once it exists, the same request fails."""
        assert write.send(sync, {"X-If-Unmodified-Since": "0"}).status in (200, 202)
        sync.put("/storage/col/a", {"payload": "x"})
        assert write.send(sync, {"X-If-Unmodified-Since": "0"}).status == 412

    @pytest.mark.parametrize("write", WRITES, ids=str)
    def test_if_modified_since_means_nothing_to_a_write(self, stored: SyncClient, write: Write) -> None:
        """The published API has it on GET alone."""
        assert write.send(stored, {"X-If-Modified-Since": "9999999999.00"}).status in (200, 202)

    def test_a_change_beside_the_item_is_none_of_its_business(self, stored: SyncClient) -> None:
        stamp = stored.get("/storage/col/a").modified
        headers: dict[str, str | None] = {"X-If-Unmodified-Since": str(stamp)}
        stored.put("/storage/col/b", {"payload": "beside"})
        assert stored.put("/storage/col/a", {"payload": "mine"}, headers).status == 200

    def test_a_change_beside_the_listed_ids_is(self, stored: SyncClient) -> None:
        """Section 8.6: `?ids` is held against the collection's time."""
        headers: dict[str, str | None] = {"X-If-Unmodified-Since": str(stored.get("/storage/col/a").modified)}
        assert stored.delete("/storage/col?ids=a", headers).status == 412
        assert sorted(stored.get("/storage/col").json) == ["a", "b"]

    def test_a_new_item_counts_from_zero_in_an_old_collection(self, stored: SyncClient) -> None:
        headers: dict[str, str | None] = {"X-If-Unmodified-Since": "0"}
        assert stored.put("/storage/col/new", {}, headers).status == 200
        assert stored.put("/storage/col/new", {}, headers).status == 412
        assert stored.post("/storage/col", [{"id": "newer"}], headers).status == 412

    def test_a_missing_item_is_not_found_whatever_the_precondition(self, stored: SyncClient) -> None:
        assert stored.delete("/storage/col/none", {"X-If-Unmodified-Since": "0"}).status == 404
        assert stored.delete("/storage/none", {"X-If-Unmodified-Since": "0"}).status == 200


class TestBothAtOnce:
    """Section 4: 400 even when each is fine, on every method."""

    BOTH: dict[str, str | None] = {  # noqa: RUF012  # never changed
        "X-If-Modified-Since": "5",
        "X-If-Unmodified-Since": "9999999999",
    }

    @pytest.mark.parametrize("path", READ)
    def test_on_reads(self, stored: SyncClient, path: str) -> None:
        reply = stored.get(path, self.BOTH)
        assert (reply.status, reply.json) == (400, 0)
        assert stored.head(path, self.BOTH).status == 400

    @pytest.mark.parametrize("write", WRITES, ids=str)
    def test_on_writes(self, stored: SyncClient, write: Write) -> None:
        before = stored.get("/info/collections").json
        reply = write.send(stored, self.BOTH)
        assert (reply.status, reply.json) == (400, 0)
        assert stored.get("/info/collections").json == before
