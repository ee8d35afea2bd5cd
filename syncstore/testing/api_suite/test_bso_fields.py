"""Sections 6.1, 6.2 and 6.4: what a BSO may hold, and what a bad one spoils."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syncstore.testing.client import SyncClient

BAD_FIELDS: list[tuple[str, Any, str]] = [
    ("foo", 1, "unknown field foo"),
    ("payload_size", 3, "unknown field payload_size"),
    ("payload_link", "x", "unknown field"),
    ("", "x", "unknown field"),
    ("sortindex", "xxx_meh", "invalid sortindex"),
    ("sortindex", "2.6", "invalid sortindex"),
    ("sortindex", "1000000000", "invalid sortindex"),
    ("sortindex", "FAIL", "invalid sortindex"),
    ("sortindex", "", "invalid sortindex"),
    ("sortindex", 1000000000, "invalid sortindex"),
    ("sortindex", -1000000000, "invalid sortindex"),
    ("sortindex", 10**30, "invalid sortindex"),
    ("sortindex", 2.6, "invalid sortindex"),
    ("sortindex", "1_000", "invalid sortindex"),
    ("sortindex", " 5 ", "invalid sortindex"),
    ("sortindex", "٣", "invalid sortindex"),
    ("payload", 42, "payload not a string"),
    ("payload", 4.2, "payload not a string"),
    ("payload", True, "payload not a string"),
    ("ttl", -1, "invalid ttl"),
    ("ttl", "eh?", "invalid ttl"),
    ("ttl", "4.2", "invalid ttl"),
    ("ttl", 1000000000, "invalid ttl"),
    ("ttl", 10**30, "invalid ttl"),
    ("ttl", 2.5, "invalid ttl"),
]
GOOD_FIELDS: list[tuple[str, Any]] = [
    ("modified", 12),
    ("modified", "12"),
    ("modified", 1.5),
    ("modified", True),
    ("modified", None),
    ("modified", -1),
    ("collection", "col"),
    ("collection", "elsewhere"),
    ("collection", 7),
    ("collection", None),
    ("sortindex", None),
    ("ttl", None),
    ("payload", None),
    ("ttl", 1),
    ("ttl", 31536000),
    ("ttl", 31536001),
    ("ttl", 94608000),
    ("ttl", 999999999),
]
BAD_IDS = ["", "a" * 65, "A\nB", "A\n", "\nN", "A\tB", "\u00e9", "a\x00", "\x7f", "\u20ac", "\U0001f600"]
KNOWN_BAD = '{"ciphertext":"x","IV":"AAAAAAAAAAAAAAAAAAAAAA==","hmac":"y"}'


class TestFields:
    """Section 6.2: a bad field fails a PUT whole (400/8), a POST for its own item only."""

    @pytest.mark.parametrize(("field", "value", "reason"), BAD_FIELDS)
    def test_a_bad_field_fails_its_item(self, sync: SyncClient, field: str, value: Any, reason: str) -> None:
        items = [{"id": "a", "payload": "x"}, {"id": "bad", field: value}, {"id": "c", "payload": "y"}]
        reply = sync.post("/storage/col", items)
        assert reply.status == 200
        assert reply.json["success"] == ["a", "c"]
        assert list(reply.json["failed"]) == ["bad"]
        assert reply.json["failed"]["bad"].startswith(reason)
        assert sorted(sync.get("/storage/col").json) == ["a", "c"]

    @pytest.mark.parametrize(("field", "value", "reason"), BAD_FIELDS)
    def test_a_bad_field_fails_a_put(self, sync: SyncClient, field: str, value: Any, reason: str) -> None:
        reply = sync.put("/storage/col/a", {field: value})
        assert (reply.status, reply.json) == (400, 8), reason
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize(("field", "value"), GOOD_FIELDS)
    def test_a_good_field_is_taken(self, sync: SyncClient, field: str, value: Any) -> None:
        body = {"payload": "x", field: value}
        assert sync.put("/storage/col/a", body).status == 200
        reply = sync.post("/storage/col", [{"id": "b", **body}])
        assert reply.json["success"] == ["b"]
        assert sorted(sync.get("/storage/col").json) == ["a", "b"]

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [(0, 0), (-1, -1), (-42, -42), (999999999, 999999999), (-999999999, -999999999), ("5", 5)],
    )
    def test_a_sortindex_is_kept_as_an_integer(self, sync: SyncClient, sent: Any, kept: int) -> None:
        sync.put("/storage/col/a", {"sortindex": sent})
        sync.post("/storage/col", [{"id": "b", "sortindex": sent}])
        for item in sync.get("/storage/col?full=1").json:
            assert item["sortindex"] == kept
            assert isinstance(item["sortindex"], int)

    @pytest.mark.parametrize(
        "payload",
        [
            "",
            " ",
            "ä€😀",
            "\x00",
            "a\x00b",
            "\n\r\t",
            '{"a":"\\"}',
            "\u2028",
            "\ufeff",
            "\uffff",
            "0" * 5000,
            "%s%%",
            "'\";--",
            "null",
            "é",
            "\x01\x1f\x7f",
            "\U0001f511\U0010ffff",
            "trailing ",
            "\\",
            "\\u0041",
        ],
    )
    def test_a_payload_is_any_text(self, sync: SyncClient, payload: str) -> None:
        """Section 6.2: any Unicode, kept character by character."""
        sync.put("/storage/col/a", {"payload": payload})
        sync.post("/storage/col", json.dumps([{"id": "b", "payload": payload}]))  # ASCII with \u escapes
        assert sync.get("/storage/col/a").json["payload"] == payload
        assert [item["payload"] for item in sync.get("/storage/col?full=1").json] == [payload] * 2

    def test_null_is_the_same_as_absent(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x", "sortindex": 7})
        sync.put("/storage/col/a", {"payload": None, "sortindex": None})
        item = sync.get("/storage/col/a").json
        assert (item["payload"], item["sortindex"]) == ("x", 7)

    def test_what_was_read_can_be_put_back(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "x", "sortindex": 7})
        item = sync.get("/storage/col/a").json
        assert sync.put("/storage/col/a", item).status == 200
        assert sync.post("/storage/col", [item]).json["success"] == ["a"]
        after = sync.get("/storage/col/a").json
        assert {**after, "modified": None} == {**item, "modified": None}

    def test_fields_that_are_not_kept_are_not_shown(self, sync: SyncClient) -> None:
        """Section 7: exactly id, modified, payload, and sortindex when it is set."""
        sync.put("/storage/col/a", {"payload": "x", "ttl": 1000, "collection": "c", "modified": 1})
        sync.put("/storage/col/b", {"payload": "x", "sortindex": 1})
        sync.put("/storage/col/c", {})
        assert sync.get("/storage/col/a").json.keys() == {"id", "modified", "payload"}
        assert sync.get("/storage/col/b").json.keys() == {"id", "modified", "payload", "sortindex"}
        assert sync.get("/storage/col/c").json.keys() == {"id", "modified", "payload"}

    def test_all_items_may_fail_and_still_the_collection_is_touched(self, sync: SyncClient) -> None:
        """Section 8.3."""
        reply = sync.post("/storage/col", [{"id": "a", "ttl": -1}])
        assert reply.status == 200
        assert reply.json["success"] == []
        assert sync.get("/info/collections").json == {"col": reply.modified}


class TestIdsInBodies:
    """Sections 1.1 and 6.2: the same syntax as in the URL, and no regex that takes a last newline."""

    @pytest.mark.parametrize("name", BAD_IDS)
    def test_a_bad_id_fails_its_item(self, sync: SyncClient, name: str) -> None:
        reply = sync.post("/storage/col", [{"id": "a", "payload": "x"}, {"id": name, "payload": "y"}])
        assert reply.status == 200
        assert reply.json["success"] == ["a"]
        assert reply.json["failed"] == {name: "invalid id"}
        assert sync.get("/storage/col").json == ["a"]

    @pytest.mark.parametrize("name", BAD_IDS)
    def test_a_bad_id_in_a_put_is_400_8(self, sync: SyncClient, name: str) -> None:
        reply = sync.put("/storage/col/a", {"id": name, "payload": "x"})
        assert (reply.status, reply.json) == (400, 8)

    def test_the_id_of_the_url_wins(self, sync: SyncClient) -> None:
        assert sync.put("/storage/col/a", {"id": "b", "payload": "x"}).status == 200
        assert sync.get("/storage/col").json == ["a"]

    def test_ids_that_are_numbers_fail_one_by_one(self, sync: SyncClient) -> None:
        """Section 20: per-item failure, status 200."""
        reply = sync.post("/storage/col", [{"id": 12}, {"id": 13}, {"id": "a"}])
        assert reply.status == 200
        assert reply.json["success"] == ["a"]
        assert len(reply.json["failed"]) == 2
        assert sync.get("/storage/col").json == ["a"]

    def test_every_character_of_the_syntax_is_an_id(self, sync: SyncClient) -> None:
        ids = ["a", "0" * 64, "".join(map(chr, range(0x20, 0x50))), "".join(map(chr, range(0x50, 0x7F)))]
        assert sync.post("/storage/col", [{"id": name} for name in ids]).json["success"] == ids
        assert sorted(sync.get("/storage/col").json) == sorted(ids)


class TestWholeRequestFailures:
    """Section 6.1: 400 body 8, and nothing is stored."""

    @pytest.mark.parametrize(
        "items",
        [
            [{"id": "a"}, {"payload": "no id"}],
            [{"id": "a"}, {"id": None, "payload": "x"}],
            [{"id": "a"}, {}],
            [{"id": "a"}, {"id": ["01", "02"]}],
            [{"id": "a"}, {"id": {"b": 1}}],
            [{"id": "a", "payload": "1"}, {"id": "a", "payload": "2"}],
            [{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "a"}],
        ],
    )
    def test_a_post_fails_whole(self, sync: SyncClient, items: list[Any]) -> None:
        for query in ("", "?batch=true", "?batch=true&commit=true"):
            reply = sync.post("/storage/col" + query, items)
            assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize(
        "body",
        [
            {"id": ["01", "02"], "payload": {"3": "4"}},
            {"payload": {"3": "4"}},
            {"payload": ["x"]},
            {"sortindex": [1]},
            {"ttl": {}},
            {"modified": [1]},
        ],
    )
    def test_a_put_fails_whole(self, sync: SyncClient, body: Any) -> None:
        reply = sync.put("/storage/col/a", body)
        assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("value", [["x"], {"3": "4"}])
    def test_a_field_that_is_no_scalar_is_never_stored(self, sync: SyncClient, value: Any) -> None:
        """The peers differ in whether the item or the request fails; both refuse it."""
        reply = sync.post("/storage/col", [{"id": "a", "payload": value}])
        if reply.status == 200:
            assert list(reply.json["failed"]) == ["a"]
        else:
            assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/storage/col").json == []


class TestKnownBadPayloads:
    """Section 6.4: keys encrypted with an all-zero IV are refused in `crypto`, and only there."""

    @pytest.mark.parametrize("payload", [KNOWN_BAD, KNOWN_BAD.replace('"IV":', '"IV": \n ')])
    @pytest.mark.parametrize("name", ["keys", "anything"])
    def test_crypto_refuses_them(self, sync: SyncClient, name: str, payload: str) -> None:
        reply = sync.put(f"/storage/crypto/{name}", {"payload": payload})
        assert (reply.status, reply.json) == (400, 8)
        for query in ("", "?batch=true", "?batch=true&commit=true"):
            items = [{"id": "good", "payload": "x"}, {"id": name, "payload": payload}]
            reply = sync.post("/storage/crypto" + query, items)
            assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/info/collections").json == {}

    def test_other_collections_take_them(self, sync: SyncClient) -> None:
        assert sync.put("/storage/col/keys", {"payload": KNOWN_BAD}).status == 200
        assert sync.post("/storage/meta", [{"id": "keys", "payload": KNOWN_BAD}]).json["failed"] == {}

    def test_crypto_takes_everything_else(self, sync: SyncClient) -> None:
        payload = KNOWN_BAD.replace("AAAA==", "AAAQ==")
        assert sync.put("/storage/crypto/keys", {"payload": payload}).status == 200
