"""Section 16: what a browser asks before it lets a page speak to us."""

from __future__ import annotations

import pytest

from syncstore.testing.client import SyncClient

PATHS = ["/__heartbeat__", "/anything", "/storage/col", "/info/collections", ""]


class TestPreflights:
    """Answered before routing and authentication, for any path."""

    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize("origin", ["localhost", "http://test-website.com", "https://example.org:8443"])
    @pytest.mark.parametrize("path", PATHS)
    def test_the_origin_is_echoed(self, sync: SyncClient, path: str, origin: str, signed: bool) -> None:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "Content-Type",
        }
        reply = sync.options(path, headers, signed=signed)
        assert reply.status in (200, 204)
        assert reply["Access-Control-Allow-Origin"] == origin
        assert int(reply["Access-Control-Max-Age"]) > 0

    def test_outside_of_the_storage_too(self, sync: SyncClient) -> None:
        headers = {"Origin": "http://x", "Access-Control-Request-Method": "GET"}
        for path in ("/", "/__heartbeat__", "/nonsense"):
            reply = sync.options(path, headers, at="", signed=False)
            assert reply.status in (200, 204)
            assert reply["Access-Control-Allow-Origin"] == "http://x"

    @pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
    def test_the_methods_and_headers_of_the_protocol_are_allowed(self, sync: SyncClient, method: str) -> None:
        wanted = ["Authorization", "Content-Type", "X-Weave-Records", "X-Weave-Total-Bytes"]
        headers = {
            "Origin": "http://x",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": ", ".join(wanted),
        }
        reply = sync.options("/storage/col", headers, signed=False)
        assert reply.status in (200, 204)
        assert method in reply["Access-Control-Allow-Methods"]
        allowed = {name.strip().lower() for name in reply["Access-Control-Allow-Headers"].split(",")}
        assert {name.lower() for name in wanted} <= allowed


class TestOtherRequests:
    def test_an_answer_to_a_page_names_its_origin(self, sync: SyncClient) -> None:
        headers = {"Origin": "http://test-website.com"}
        sync.put("/storage/col/a", {"payload": "x"})
        for reply in (sync.get("/storage/col", headers), sync.put("/storage/col/a", {}, headers)):
            assert reply.status == 200
            assert reply["Access-Control-Allow-Origin"] in (headers["Origin"], "*")
