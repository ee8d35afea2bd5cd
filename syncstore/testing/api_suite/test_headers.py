"""Section 11: the headers of answers, where a rule concerns more than one endpoint.

What holds for every single answer is checked by `syncstore.testing.replies.check`.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply


class TestTimesInHeaders:
    def test_a_successful_write_tells_one_time(self, sync: SyncClient) -> None:
        replies: list[Reply] = [
            sync.put("/storage/col/a", {"payload": "x"}),
            sync.post("/storage/col", [{"id": "b"}]),
            sync.post("/storage/col?batch=true&commit=true", [{"id": "c"}]),
            sync.delete("/storage/col/a"),
            sync.delete("/storage/col?ids=b"),
            sync.delete("/storage/col"),
            sync.delete("/storage"),
        ]
        for reply in replies:
            assert reply["X-Weave-Timestamp"] == reply["X-Last-Modified"], reply

    def test_a_read_tells_the_resource_s_time_and_the_present(self, sync: SyncClient) -> None:
        written = sync.put("/storage/col/a", {"payload": "x"})
        sync.put("/storage/elsewhere/a", {"payload": "x"})
        for path in ("/storage/col", "/storage/col/a"):
            reply = sync.get(path)
            assert reply["X-Last-Modified"] == written["X-Last-Modified"]
            assert Decimal(reply["X-Weave-Timestamp"]) >= written.modified

    def test_a_staged_write_repeats_the_collection_s_time_in_the_same_words(self, sync: SyncClient) -> None:
        """String equality, which clients rely on, over times that end in zero, too."""
        for _ in range(15):
            sync.put("/storage/col/a", {"payload": "x"})
            shown = sync.get("/storage/col")["X-Last-Modified"]
            opened = sync.post("/storage/col?batch=true", [{"id": "b"}])
            assert opened["X-Last-Modified"] == shown
            staged = sync.post(f"/storage/col?batch={opened.json['batch']}", [{"id": "c"}])
            assert staged["X-Last-Modified"] == shown

    @pytest.mark.parametrize("path", ["/nonexistent", "/storage/col/a", "/storage/col?limit=x"])
    def test_an_error_tells_the_present(self, sync: SyncClient, path: str) -> None:
        before = sync.put("/storage/other/a", {}).modified
        reply = sync.get(path)
        assert reply.status >= 400
        assert Decimal(reply["X-Weave-Timestamp"]) >= before

    def test_an_unsigned_request_is_told_the_time(self, sync: SyncClient) -> None:
        """The check of every answer wants X-Weave-Timestamp of a 401, too."""
        assert sync.get("/info/collections", signed=False).status == 401

    def test_a_refused_write_tells_the_resource_s_time(self, sync: SyncClient) -> None:
        written = sync.put("/storage/col/a", {"payload": "x"})
        reply = sync.put("/storage/col/a", {"payload": "y"}, {"X-If-Unmodified-Since": "1"})
        assert reply["X-Last-Modified"] == written["X-Last-Modified"]


class TestRecordCounts:
    def test_lists_and_maps_count_their_elements(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": name} for name in "abcd"])
        for path, count in (
            ("/storage/col", 4),
            ("/storage/col?full=1", 4),
            ("/storage/col?limit=3", 3),
            ("/storage/col?ids=a,b", 2),
            ("/storage/col?limit=0", 0),
            ("/info/collections", 1),
            ("/info/collection_counts", 1),
            ("/info/collection_usage", 0),
        ):
            reply = sync.get(path)
            expected = len(reply.json) if path == "/info/collection_usage" else count
            assert reply["X-Weave-Records"] == str(expected), path

    def test_backoff_is_not_asked_for_without_need(self, sync: SyncClient) -> None:
        reply = sync.put("/storage/col/a", {})
        for name in ("X-Weave-Backoff", "X-Backoff", "Retry-After", "X-Weave-Alert"):
            assert reply.get(name) is None
