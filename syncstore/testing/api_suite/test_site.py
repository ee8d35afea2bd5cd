"""Section 17: the site's own pages, which need no signature."""

from __future__ import annotations

import pytest

from syncstore.testing.client import SyncClient


class TestSite:
    def test_the_root_says_that_it_works(self, sync: SyncClient) -> None:
        status, _, body = sync.transport.send("GET", f"{sync.transport.prefix}/", {}, None)
        assert status == 200
        assert b"It Works!" in body

    def test_the_heartbeat_tells_of_the_database(self, sync: SyncClient) -> None:
        reply = sync.get("/__heartbeat__", at="", signed=False)
        assert reply.status == 200
        assert reply.json["status"] == "Ok"
        assert reply.json["database"] == "Ok"
        assert "version" in reply.json

    def test_the_load_balancer_s_heartbeat_is_an_object(self, sync: SyncClient) -> None:
        reply = sync.get("/__lbheartbeat__", at="", signed=False)
        assert (reply.status, type(reply.json)) == (200, dict)

    def test_the_version_is_json_or_unknown(self, sync: SyncClient) -> None:
        reply = sync.get("/__version__", at="", signed=False)
        assert reply.status in (200, 404)
        assert reply.media_type == "application/json"

    def test_an_error_can_be_asked_for(self, sync: SyncClient) -> None:
        reply = sync.get("/__error__", at="", signed=False)
        assert (reply.status, reply.json) == (500, 0)

    @pytest.mark.parametrize(
        "path", ["/nonsense", "/1.5", "/1.5/", "/storage", "/__nonsense__", "/favicon.ico"]
    )
    def test_anything_else_is_404(self, sync: SyncClient, path: str) -> None:
        reply = sync.get(path, at="", signed=False)
        assert (reply.status, reply.json) == (404, 0)
