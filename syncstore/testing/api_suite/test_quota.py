"""Section 14: writes that would take a user over the quota."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply


def assert_over_quota(reply: Reply) -> None:
    assert (reply.status, reply.json) == (403, 14), reply


class TestQuota:
    @pytest.fixture
    def user(self, configured: Callable[..., SyncClient]) -> SyncClient:
        return configured(**{"quota.bytes": "700"})

    def test_it_is_told_in_units_of_1024_bytes(self, user: SyncClient) -> None:
        assert [float(value) for value in user.get("/info/quota").json] == [0.0, 700 / 1024]
        user.put("/storage/col/a", {"payload": "x" * 500})
        assert [float(value) for value in user.get("/info/quota").json] == [500 / 1024, 700 / 1024]

    def test_a_write_over_it_is_403_and_stores_nothing(self, user: SyncClient) -> None:
        assert user.put("/storage/col/a", {"payload": "x" * 500}).status == 200
        before = user.get("/info/collections").json
        item = {"id": "b", "payload": "x" * 500}
        assert_over_quota(user.put("/storage/col/b", item))
        assert_over_quota(user.put("/storage/elsewhere/b", item))
        for query in ("", "?batch=true&commit=true"):
            assert_over_quota(user.post("/storage/col" + query, [{"id": "c", "payload": "x"}, item]))
        assert user.get("/storage/col").json == ["a"]
        assert user.get("/info/collections").json == before

    def test_what_is_left_is_told_when_it_is_little(self, user: SyncClient) -> None:
        """KB, rounded to two decimals: 200 bytes are 0.2 (section 11)."""
        assert user.put("/storage/col/a", {"payload": "x" * 500})["X-Weave-Quota-Remaining"] == "0.2"
        assert user.post("/storage/col", [{"id": "b"}])["X-Weave-Quota-Remaining"] == "0.2"

    def test_a_batch_over_it_is_403_at_its_commit_at_the_latest(self, user: SyncClient) -> None:
        reply = user.post("/storage/col?batch=true", [{"id": "a", "payload": "x" * 400}])
        assert reply.status == 202
        batch = reply.json["batch"]
        reply = user.post(f"/storage/col?batch={batch}", [{"id": "b", "payload": "x" * 400}])
        if reply.status == 202:
            reply = user.post(f"/storage/col?batch={batch}&commit=true", [])
        assert_over_quota(reply)
        assert user.get("/storage/col").json == []

    def test_an_abandoned_batch_is_not_charged(self, user: SyncClient) -> None:
        """Section 13, peer bugs not to inherit."""
        for _ in range(4):
            assert user.post("/storage/col?batch=true", [{"id": "a", "payload": "x" * 300}]).status == 202
        assert user.put("/storage/col/b", {"payload": "x" * 500}).status == 200

    def test_deletions_are_never_refused_and_make_room(self, user: SyncClient) -> None:
        item = {"payload": "x" * 500}
        for path in ("/storage/col/a", "/storage/col?ids=a", "/storage/col", "/storage"):
            assert user.put("/storage/col/a", item).status == 200
            assert_over_quota(user.put("/storage/col/b", item))
            assert user.delete(path).status == 200
        assert user.put("/storage/col/b", item).status == 200

    def test_one_user_s_use_is_not_another_s(self, configured: Callable[..., SyncClient]) -> None:
        first, second = configured(**{"quota.bytes": "700"}), configured(**{"quota.bytes": "700"})
        assert first.put("/storage/col/a", {"payload": "x" * 600}).status == 200
        assert second.put("/storage/col/a", {"payload": "x" * 600}).status == 200

    def test_without_a_quota_nothing_is_said(self, sync: SyncClient) -> None:
        if sync.get("/info/quota").json[1] is not None:
            pytest.skip("this server has a quota")
        assert sync.put("/storage/col/a", {"payload": "x" * 500}).get("X-Weave-Quota-Remaining") is None
