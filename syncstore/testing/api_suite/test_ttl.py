"""Section 8.5: items that end by themselves. The only tests that have to wait for real time."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from syncstore.testing.client import SyncClient

PATIENCE = 20.0  # seconds until a test gives up waiting for the server's clock


def wait_until(sync: SyncClient, stamp: Decimal) -> None:
    """Wait until the server's own clock has passed `stamp`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        left = float(stamp - Decimal(sync.get("/info/configuration")["X-Weave-Timestamp"]))
        if left < 0:
            return
        assert time.monotonic() < deadline, "the server's clock stands still"
        time.sleep(min(max(left, 0.01), 0.5))


def state(sync: SyncClient) -> dict[str, Any]:
    """All that a reader can see of expiry, other than the items themselves."""
    return {
        path: sync.get(path).json
        for path in (
            "/info/collection_counts",
            "/info/collection_usage",
            "/info/quota",
            "/storage/col?full=1",
        )
    }


class TestTtlZero:
    """Section 8.5: a ttl of 0 ends at once."""

    @pytest.mark.parametrize("how", ["put", "post", "batch"])
    def test_it_is_gone_at_once(self, sync: SyncClient, how: str) -> None:
        sync.put("/storage/col/other", {"payload": "stays"})
        before = state(sync)
        if how == "put":
            written = sync.put("/storage/col/a", {"payload": "x", "ttl": 0})
        elif how == "post":
            written = sync.post("/storage/col", [{"id": "a", "payload": "x", "ttl": 0}])
        else:
            batch = sync.post("/storage/col?batch=true", [{"id": "a", "payload": "x", "ttl": 0}]).json[
                "batch"
            ]
            written = sync.post(f"/storage/col?batch={batch}&commit=true", [])
        assert written.status == 200
        wait_until(sync, written.modified + Decimal("0.02"))
        assert sync.get("/storage/col/a").status == 404
        assert sync.get("/storage/col?ids=a,other").json == ["other"]
        assert state(sync) == before
        assert sync.delete("/storage/col/a").status == 404
        assert sync.get("/info/collections").json == {"col": written.modified}

    @pytest.mark.parametrize("how", ["put", "post", "batch"])
    def test_writing_it_again_starts_from_nothing(self, sync: SyncClient, how: str) -> None:
        """Section 8.4: an expired item counts as one that does not exist."""
        written = sync.put("/storage/col/a", {"payload": "old", "sortindex": 5, "ttl": 0})
        wait_until(sync, written.modified + Decimal("0.02"))
        if how == "put":
            reply = sync.put("/storage/col/a", {"ttl": 1000}, {"X-If-Unmodified-Since": "0"})
        elif how == "post":
            reply = sync.post("/storage/col", [{"id": "a", "ttl": 1000}])
        else:
            batch = sync.post("/storage/col?batch=true", [{"id": "a", "ttl": 1000}]).json["batch"]
            reply = sync.post(f"/storage/col?batch={batch}&commit=true", [])
        assert reply.status == 200
        assert sync.get("/storage/col/a").json == {"id": "a", "modified": reply.modified, "payload": ""}

    def test_a_ttl_of_zero_ends_an_item_that_lives(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": "a", "payload": "x"}, {"id": "b", "payload": "y"}])
        written = sync.put("/storage/col/a", {"ttl": 0})
        wait_until(sync, written.modified + Decimal("0.02"))
        assert sync.get("/storage/col").json == ["b"]

    def test_for_preconditions_it_does_not_exist(self, sync: SyncClient) -> None:
        """Section 9: time 0 when missing or expired."""
        written = sync.put("/storage/col/a", {"payload": "x", "ttl": 0})
        wait_until(sync, written.modified + Decimal("0.02"))
        assert sync.get("/storage/col/a", {"X-If-Unmodified-Since": "0"}).status == 404
        assert sync.get("/storage/col/a", {"X-If-Modified-Since": "1"}).status == 304
        assert sync.put("/storage/col/a", {"payload": "y"}, {"X-If-Unmodified-Since": "0"}).status == 200

    def test_paging_steps_over_it(self, sync: SyncClient) -> None:
        written = sync.post("/storage/col", [{"id": f"i{n}", "ttl": 0 if n % 2 else 1000} for n in range(8)])
        wait_until(sync, written.modified + Decimal("0.02"))
        first = sync.get("/storage/col?sort=oldest&limit=2")
        assert first.json == ["i0", "i2"]
        second = sync.get(f"/storage/col?sort=oldest&limit=2&offset={first['X-Weave-Next-Offset']}")
        assert second.json == ["i4", "i6"]
        assert second.get("X-Weave-Next-Offset") is None


class TestTtlOfSeconds:
    """Section 8.5: exact to the millisecond, from the time of the write."""

    def test_it_lives_exactly_as_long_as_told(self, sync: SyncClient) -> None:
        """All that depends on a ttl of one second, so that the suite waits once."""
        stays = ["never", "null", "longer", "renewed"]
        items: list[dict[str, Any]] = [
            {"id": "never"},
            {"id": "null", "ttl": None},
            {"id": "longer", "ttl": 1000},
        ]
        items += [{"id": name, "ttl": 1} for name in ("renewed", "kept", "short", "batched")]
        written = sync.post("/storage/col", [{"payload": "x", **item} for item in items])
        assert len(sync.get("/storage/col").json) == 7
        sync.put("/storage/col/renewed", {"ttl": 1000})
        sync.put("/storage/col/kept", {"payload": "a new payload keeps the expiry"})
        batch = sync.post("/storage/col?batch=true", [{"id": "batched", "sortindex": 1}]).json["batch"]
        commit = sync.post(f"/storage/col?batch={batch}&commit=true", [])
        batch = sync.post("/storage/col?batch=true", [{"id": "staged", "payload": "x", "ttl": 1}]).json[
            "batch"
        ]
        before = sync.get("/info/collections").json
        if commit.modified < written.modified + Decimal("0.8"):
            assert len(sync.get("/storage/col").json) == 7, "not gone before its time"

        wait_until(sync, written.modified + 1)
        assert sorted(sync.get("/storage/col").json) == sorted(stays)
        assert sorted(item["id"] for item in sync.get("/storage/col?full=1").json) == sorted(stays)
        assert sync.get("/info/collection_counts").json == {"col": 4}
        assert float(sync.get("/info/collection_usage").json["col"]) == 4 / 1024
        assert float(sync.get("/info/quota").json[0]) == 4 / 1024
        for name in ("kept", "short", "batched"):
            assert sync.get(f"/storage/col/{name}").status == 404
        assert sync.get("/info/collections").json == before, "expiry changes no time"

        committed = sync.post(f"/storage/col?batch={batch}&commit=true", [])
        assert sync.get("/storage/col/staged").status == 200, "a batch's ttl counts from its commit"
        wait_until(sync, committed.modified + 1)
        assert sync.get("/storage/col/staged").status == 404

    @pytest.mark.parametrize("how", ["post", "batch"])
    def test_a_large_ttl_is_kept(self, sync: SyncClient, how: str) -> None:
        """In milliseconds these are more than 31 bits hold."""
        items = [{"id": str(ttl), "ttl": ttl} for ttl in (5184000, 31536000, 31536001, 94608000, 999999999)]
        if how == "post":
            assert sync.post("/storage/col", items).json["failed"] == {}
        else:
            batch = sync.post("/storage/col?batch=true", items[:3]).json["batch"]
            reply = sync.post(f"/storage/col?batch={batch}&commit=true", items[3:])
            assert (reply.status, reply.json["failed"]) == (200, {})
        assert sorted(sync.get("/storage/col").json) == sorted(item["id"] for item in items)

    def test_an_expired_storage_counts_nothing(
        self, sync: SyncClient, configured: Callable[..., SyncClient]
    ) -> None:
        """Section 14: expired items are not charged to the quota."""
        user = configured(**{"quota.bytes": "700"})
        written = user.put("/storage/col/a", {"payload": "x" * 600, "ttl": 0})
        wait_until(user, written.modified + Decimal("0.02"))
        assert user.put("/storage/col/b", {"payload": "x" * 600}).status == 200
