"""Sections 6.3 and 12: how much one request may carry, and how a client is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from syncstore.testing.api_suite.fixtures import Server
from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply
from syncstore.testing.transports import Chunked, Unsent

SIZE_HEADERS = {
    "X-Weave-Records": "max_post_records",
    "X-Weave-Bytes": "max_post_bytes",
    "X-Weave-Total-Records": "max_total_records",
    "X-Weave-Total-Bytes": "max_total_bytes",
}


def items(*sizes: int) -> list[dict[str, Any]]:
    """Items i0, i1 ... with payloads of these sizes in bytes."""
    return [{"id": f"i{number}", "payload": "x" * size} for number, size in enumerate(sizes)]


def need_payloads_as_large_as_posts(limits: dict[str, int]) -> None:
    if limits["max_record_payload_bytes"] < limits["max_post_bytes"]:
        pytest.skip("here one payload can not fill a POST")


class TestConfiguration:
    """Section 12: info/configuration."""

    def test_it_names_six_integers_that_go_together(self, limits: dict[str, int]) -> None:
        six = [
            "max_request_bytes",
            "max_post_records",
            "max_post_bytes",
            "max_total_records",
            "max_total_bytes",
        ]
        for name in [*six, "max_record_payload_bytes"]:
            assert isinstance(limits[name], int)
            assert limits[name] > 0
        assert limits["max_request_bytes"] > limits["max_post_bytes"] >= limits["max_record_payload_bytes"]
        assert limits["max_total_records"] >= limits["max_post_records"]
        assert limits["max_total_bytes"] >= limits["max_post_bytes"]

    def test_payloads_of_256_kib_are_supported(self, sync: SyncClient, limits: dict[str, int]) -> None:
        assert limits["max_record_payload_bytes"] >= 256 * 1024
        assert sync.put("/storage/col/a", {"payload": "x" * 256 * 1024}).status == 200

    @pytest.mark.parametrize("signed", [True, False])
    def test_it_is_answered_with_and_without_a_signature(self, sync: SyncClient, signed: bool) -> None:
        """Section 20, "config auth": either. Its X-Last-Modified is 0.00 whatever is stored (section 10)."""
        sync.put("/storage/col/a", {})
        reply = sync.get("/info/configuration", signed=signed)
        assert reply.status == 200
        assert reply["X-Last-Modified"] == "0.00"

    def test_there_are_no_overrides_unless_configured(self, server: Server, limits: dict[str, int]) -> None:
        """`collections` is present only when there are any; a live server may have some."""
        if server.settings is None:
            pytest.skip("the settings of a running server are its own")
        assert "collections" not in limits


class TestRecordSize:
    """Section 6.2, payload: at most max_record_payload_bytes of UTF-8."""

    def test_a_payload_may_be_exactly_as_large_as_allowed(
        self, sync: SyncClient, limits: dict[str, int]
    ) -> None:
        largest = limits["max_record_payload_bytes"]
        assert sync.put("/storage/col/a", {"payload": "x" * largest}).status == 200
        assert len(sync.get("/storage/col/a").json["payload"]) == largest
        reply = sync.put("/storage/col/a", {"payload": "y" * (largest + 1)})
        assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/storage/col/a").json["payload"][0] == "x"

    def test_bytes_are_counted_not_characters(self, sync: SyncClient, limits: dict[str, int]) -> None:
        largest = limits["max_record_payload_bytes"]
        fits = "€" * (largest // 3)
        assert sync.put("/storage/col/a", {"payload": fits}).status == 200
        assert sync.put("/storage/col/a", {"payload": fits + "€"}).status == 400
        assert sync.post("/storage/col", [{"id": "b", "payload": fits}]).json["success"] == ["b"]
        assert list(sync.post("/storage/col", [{"id": "c", "payload": fits + "€"}]).json["failed"]) == ["c"]

    def test_a_payload_too_large_fails_for_its_item(self, sync: SyncClient, limits: dict[str, int]) -> None:
        reply = sync.post("/storage/col", items(5, limits["max_record_payload_bytes"] + 1))
        assert reply.status == 200
        assert reply.json["success"] == ["i0"]
        assert list(reply.json["failed"]) == ["i1"]
        assert sync.get("/storage/col").json == ["i0"]


class TestPostSize:
    """Section 6.3: rules per POST, applied in the order of the list."""

    @pytest.mark.parametrize("query", ["", "?batch=true&commit=true", "?batch=true"])
    def test_items_beyond_max_post_records_are_to_be_retried(
        self, sync: SyncClient, limits: dict[str, int], query: str
    ) -> None:
        most = limits["max_post_records"]
        reply = sync.post("/storage/col" + query, items(*[1] * (most - 5)))
        assert reply.json["failed"] == {}
        reply = sync.post("/storage/col" + query, items(*[1] * (most + 5)))
        assert reply.status == (202 if query == "?batch=true" else 200)
        assert reply.json["success"] == [f"i{number}" for number in range(most)]
        assert reply.json["failed"] == {f"i{number}": "retry bso" for number in range(most, most + 5)}

    def test_items_with_bad_fields_do_not_count(self, sync: SyncClient, limits: dict[str, int]) -> None:
        need_payloads_as_large_as_posts(limits)
        most = limits["max_post_records"]
        bad: list[dict[str, Any]] = [{"id": f"bad{n}", "payload": "x" * 99, "ttl": -1} for n in range(5)]
        reply = sync.post("/storage/col", [*bad, *items(*[1] * most)])
        assert sorted(reply.json["failed"]) == [item["id"] for item in bad]
        assert len(reply.json["success"]) == most
        reply = sync.post("/storage/col", [*bad, *items(limits["max_post_bytes"])])
        assert reply.json["success"] == ["i0"]

    @pytest.mark.parametrize("query", ["", "?batch=true"])
    def test_bytes_up_to_max_post_bytes_are_taken(
        self, sync: SyncClient, limits: dict[str, int], query: str
    ) -> None:
        need_payloads_as_large_as_posts(limits)
        whole = limits["max_post_bytes"]
        reply = sync.post("/storage/col" + query, items(3, whole - 3))
        assert reply.json["success"] == ["i0", "i1"]
        assert reply.json["failed"] == {}
        reply = sync.post("/storage/col" + query, items(3, whole - 2))
        assert reply.json["success"] == ["i0"]
        assert reply.json["failed"] == {"i1": "retry bytes"}

    def test_after_an_overflow_all_later_items_fail(self, sync: SyncClient, limits: dict[str, int]) -> None:
        """The sum goes on growing, so a small one behind does not slip in before its elders."""
        need_payloads_as_large_as_posts(limits)
        reply = sync.post("/storage/col", items(3, limits["max_post_bytes"] - 2, 1, 0))
        assert reply.json["success"] == ["i0"]
        assert reply.json["failed"] == {"i1": "retry bytes", "i2": "retry bytes", "i3": "retry bytes"}
        assert sync.get("/storage/col").json == ["i0"]

    def test_many_items_that_fill_a_post_exactly(self, sync: SyncClient, limits: dict[str, int]) -> None:
        piece = 227 * 1024
        if limits["max_record_payload_bytes"] < piece:
            pytest.skip("payloads are small here")
        count, rest = divmod(limits["max_post_bytes"], piece)
        if count >= limits["max_post_records"]:
            pytest.skip("a POST takes too few records here")
        reply = sync.post("/storage/col", items(*[piece] * count, rest))
        assert reply.json["failed"] == {}
        reply = sync.post("/storage/col", items(*[piece] * count, rest + 1))
        assert reply.json["failed"] == {f"i{count}": "retry bytes"}

    def test_bytes_are_summed_not_characters(self, sync: SyncClient, limits: dict[str, int]) -> None:
        need_payloads_as_large_as_posts(limits)
        euros = limits["max_post_bytes"] // 3  # of three bytes each
        for more, failed in (("€", {}), ("€€", {"b": "retry bytes"})):
            body = [{"id": "a", "payload": "€" * (euros - 1)}, {"id": "b", "payload": more}]
            assert sync.post("/storage/col", body).json["failed"] == failed


class TestRequestSize:
    """Section 12: a body over max_request_bytes is 413 with body 17, without being read."""

    @staticmethod
    def padded(size: int) -> str:
        return "[]" + " " * (size - 2)

    def test_a_body_of_exactly_the_limit_is_read(self, sync: SyncClient, limits: dict[str, int]) -> None:
        assert sync.post("/storage/col", self.padded(limits["max_request_bytes"])).status == 200
        body = "{}" + " " * (limits["max_request_bytes"] - 2)
        assert sync.put("/storage/col/a", body).status == 200

    @pytest.mark.parametrize("excess", [1, 10**6])
    def test_a_larger_body_is_413(self, sync: SyncClient, limits: dict[str, int], excess: int) -> None:
        body = self.padded(limits["max_request_bytes"] + excess)
        for reply in (sync.post("/storage/col", body), sync.put("/storage/col/a", body)):
            assert (reply.status, reply.json) == (413, 17)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("excess", [1, 10**12])
    def test_it_is_refused_before_a_byte_of_it_came(
        self, sync: SyncClient, limits: dict[str, int], excess: int
    ) -> None:
        """A front server that reads bodies whole before it calls the application cannot pass this."""
        promised = Unsent(limits["max_request_bytes"] + excess)
        for reply in (sync.post("/storage/col", promised), sync.put("/storage/col/a", promised)):
            assert (reply.status, reply.json) == (413, 17)

    def test_a_body_of_undeclared_length_is_read_up_to_the_limit(
        self, sync: SyncClient, limits: dict[str, int]
    ) -> None:
        """In all cases 413 and 17: chunks are no way around the limit."""
        fits = Chunked(b'[{"id":"a","payload":"x"}]')
        assert sync.post("/storage/col", fits).json["success"] == ["a"]
        most = limits["max_request_bytes"]
        assert sync.post("/storage/col", Chunked(self.padded(most).encode())).status == 200
        reply = sync.post("/storage/col", Chunked(self.padded(most + 1).encode()))
        assert (reply.status, reply.json) == (413, 17)


class TestSizeHeaders:
    """Sections 4 and 12: what a client announces is held against the limits."""

    @pytest.mark.parametrize("query", ["", "?batch=true", "?batch=true&commit=true"])
    @pytest.mark.parametrize("header", SIZE_HEADERS)
    def test_more_than_the_limit_is_400_17(
        self, sync: SyncClient, limits: dict[str, int], header: str, query: str
    ) -> None:
        limit = limits[SIZE_HEADERS[header]]
        reply = sync.post("/storage/col" + query, [], {header: str(limit)})
        assert reply.status in (200, 202)
        reply = sync.post("/storage/col" + query, [{"id": "a"}], {header: str(limit + 1)})
        assert (reply.status, reply.json) == (400, 17)
        assert sync.get("/storage/col").json == []

    @pytest.mark.parametrize("value", ["abc", "", "1.5", "1e3", "0x10", "1_0"])
    @pytest.mark.parametrize("header", SIZE_HEADERS)
    def test_what_is_no_integer_is_400(self, sync: SyncClient, header: str, value: str) -> None:
        reply = sync.post("/storage/col", [{"id": "a"}], {header: value})
        assert (reply.status, reply.json) == (400, 0)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("header", SIZE_HEADERS)
    def test_elsewhere_they_are_ignored(self, sync: SyncClient, header: str) -> None:
        for value in ("99999999999999", "abc"):
            headers = {header: value}
            assert sync.put("/storage/col/a", {"payload": "x"}, headers).status == 200
            assert sync.get("/storage/col", headers).status == 200
            assert sync.delete("/storage/col/a", headers).status == 200

    def test_on_an_open_batch_they_are_held_against_the_limits_too(
        self, sync: SyncClient, limits: dict[str, int]
    ) -> None:
        batch = sync.post("/storage/col?batch=true", []).json["batch"]
        for header, name in SIZE_HEADERS.items():
            headers = {header: str(limits[name] + 1)}
            reply = sync.post(f"/storage/col?batch={batch}", [], headers)
            assert (reply.status, reply.json) == (400, 17), header
            reply = sync.post(f"/storage/col?batch={batch}&commit=true", [], headers)
            assert (reply.status, reply.json) == (400, 17), header
        assert sync.post(f"/storage/col?batch={batch}&commit=true", []).status == 200


class TestOverridesPerCollection:
    """Section 12: `collections` overrides some limits for a collection by name."""

    SETTINGS = {  # noqa: RUF012  # never changed
        "limits.max_record_payload_bytes": "1000",
        "limits.max_post_bytes": "2000",
        "limits.max_request_bytes": "6096",
        "limits.collections": json.dumps(
            {"big": {"max_record_payload_bytes": 20000, "max_post_bytes": 30000, "max_request_bytes": 34096}}
        ),
    }

    @pytest.fixture
    def user(self, configured: Callable[..., SyncClient]) -> SyncClient:
        return configured(**self.SETTINGS)

    def test_they_are_told(self, user: SyncClient) -> None:
        found = user.get("/info/configuration").json
        assert found["max_record_payload_bytes"] == 1000
        assert found["collections"] == json.loads(self.SETTINGS["limits.collections"])

    def test_they_hold_for_their_collection_alone(self, user: SyncClient) -> None:
        def answer(reply: Reply) -> tuple[int, Any]:
            return reply.status, reply.json

        assert user.put("/storage/big/a", {"payload": "x" * 20000}).status == 200
        assert answer(user.put("/storage/big/a", {"payload": "x" * 20001})) == (400, 8)
        assert user.put("/storage/small/a", {"payload": "x" * 1000}).status == 200
        assert answer(user.put("/storage/small/a", {"payload": "x" * 1001})) == (400, 8)
        assert user.post("/storage/big", items(15000, 15000)).json["failed"] == {}
        assert list(user.post("/storage/big", items(15000, 15001)).json["failed"]) == ["i1"]
        assert list(user.post("/storage/small", items(1000, 1000, 1)).json["failed"]) == ["i2"]
        assert user.post("/storage/big", [], {"X-Weave-Bytes": "30000"}).status == 200
        assert answer(user.post("/storage/big", [], {"X-Weave-Bytes": "30001"})) == (400, 17)
        assert answer(user.post("/storage/small", [], {"X-Weave-Bytes": "2001"})) == (400, 17)

    def test_so_does_the_size_of_the_request(self, user: SyncClient) -> None:
        assert user.post("/storage/big", "[]" + " " * 34094).status == 200
        assert user.post("/storage/big", Unsent(34097)).status == 413
        assert user.post("/storage/small", "[]" + " " * 6094).status == 200
        assert user.post("/storage/small", Unsent(6097)).status == 413
