"""Sections 1.1 and 2: the syntax of uids, collections and ids, and which methods each path has."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from syncstore.testing.api_suite.fixtures import Server
from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply

PATHS = {
    "": {"DELETE"},
    "/storage": {"DELETE"},
    "/info/collections": {"GET"},
    "/info/quota": {"GET"},
    "/info/collection_usage": {"GET"},
    "/info/collection_counts": {"GET"},
    "/info/configuration": {"GET"},
    "/storage/col": {"GET", "POST", "DELETE"},
    "/storage/col/a": {"GET", "PUT", "DELETE"},
}
METHODS = {"GET", "PUT", "POST", "DELETE", "PATCH"}
WRONG = sorted((path, method) for path, known in PATHS.items() for method in METHODS - known)


def assert_not_found(reply: Reply) -> None:
    assert reply.status == 404, reply
    assert reply.json == 0
    assert reply.media_type == "application/json"


class TestUids:
    """Section 1.1: a uid is one to ten digits."""

    @pytest.mark.parametrize("uid", ["abc", "-1", "12345678901", "1a", "1%0A", "%20", "", "1.0", "%D9%A3"])
    def test_anything_but_one_to_ten_digits_is_an_unknown_path(self, sync: SyncClient, uid: str) -> None:
        assert_not_found(sync.get("/info/collections", at=f"/1.5/{uid}"))

    @pytest.mark.parametrize("uid", [1, 4294967295, 9999999999])
    def test_every_uid_of_up_to_ten_digits_has_a_storage(
        self, server: Server, sync: SyncClient, uid: int
    ) -> None:
        user = server.user(uid)
        user.delete("")
        written = user.put("/storage/col/a", {"payload": "mine"})
        assert written.status == 200
        assert user.get("/storage/col/a").json["payload"] == "mine"
        assert sync.get("/storage/col").json == []
        user.delete("")


class TestCollectionNames:
    """Section 1.1: a collection is named by 1 to 32 of [a-zA-Z0-9._-]."""

    @pytest.mark.parametrize("name", ["c", "c" * 32, "xXx.yY-1_2", "0", "-", "_", "a.b"])
    def test_a_name_of_the_alphabet_is_a_collection(self, sync: SyncClient, name: str) -> None:
        assert sync.get(f"/storage/{name}").json == []
        assert sync.put(f"/storage/{name}/a", {"payload": "x"}).status == 200
        assert list(sync.get("/info/collections").json) == [name]

    @pytest.mark.parametrize(
        "name",
        ["c" * 33, "col%0A", "%0Acol", "c%20l", "c!l", "c%C3%A9", "c:l", "c%00", "%20", "c~l"],
    )
    def test_any_other_name_is_an_unknown_path(self, sync: SyncClient, name: str) -> None:
        assert_not_found(sync.get(f"/storage/{name}"))
        assert_not_found(sync.post(f"/storage/{name}", []))
        assert_not_found(sync.delete(f"/storage/{name}"))
        assert_not_found(sync.put(f"/storage/{name}/a", {}))
        assert sync.get("/info/collections").json == {}

    def test_names_that_differ_in_case_are_different_collections(self, sync: SyncClient) -> None:
        sync.put("/storage/Col/a", {"payload": "upper"})
        sync.put("/storage/col/a", {"payload": "lower"})
        assert sync.get("/storage/Col/a").json["payload"] == "upper"
        assert sync.get("/storage/col/a").json["payload"] == "lower"
        assert sorted(sync.get("/info/collections").json) == ["Col", "col"]


class TestItemIds:
    """Section 1.1: an id is 1 to 64 characters from space to tilde, after percent-decoding."""

    def test_every_printable_character_is_an_id(self, sync: SyncClient) -> None:
        ids = [chr(code) for code in range(0x20, 0x7F)]
        for name in ids:
            path = "/storage/col/" + quote(name, safe="")
            assert sync.put(path, {"payload": f"<{name}>"}).status == 200, f"id {name!r}"
            assert sync.get(path).json["id"] == name
        items = sync.get("/storage/col?full=1").json
        assert {item["id"]: item["payload"] for item in items} == {name: f"<{name}>" for name in ids}
        for name in ids:
            assert sync.delete("/storage/col/" + quote(name, safe="")).status == 200, f"id {name!r}"
        assert sync.get("/storage/col").json == []

    @pytest.mark.parametrize(
        "name",
        [
            "{6820f3ca-6e8a-4ff4-8af7-8b3625d7d65e}",
            "a+b",
            "~x!*'()",
            "a%b",
            "a/b",
            "/",
            "..",
            "a b c",
            "a" * 64,
            "%41",
            "%2F",
            "+",
            "a\\b",
            '"',
            "<script>",
            "0",
            "null",
            "a;b=c",
            "a?b#c",
            "a&b=c",
            "-",
            "a,b",
        ],
    )
    def test_an_unusual_id_survives_the_round_trip(self, sync: SyncClient, name: str) -> None:
        path = "/storage/col/" + quote(name, safe="")
        written = sync.put(path, {"payload": "x"})
        assert written.status == 200
        assert sync.get(path).json["id"] == name
        assert sync.get("/storage/col").json == [name]
        assert sync.post("/storage/col", [{"id": name, "payload": "y"}]).json["success"] == [name]
        assert sync.get(path).json["payload"] == "y"
        assert sync.delete(path).status == 200
        assert_not_found(sync.get(path))

    @pytest.mark.parametrize("sent", ["{a}", "a+b", "~x!*'()", "a@b", "a:b", "a;b", "a=b", "a,b", "$"])
    def test_an_id_may_come_without_escapes(self, sync: SyncClient, sent: str) -> None:
        """Braces come unescaped from clients (section 1.1); `+` in a path is a plus."""
        assert sync.put(f"/storage/col/{sent}", {"payload": "x"}).status == 200
        assert sync.get("/storage/col").json == [sent]
        assert sync.get("/storage/col/" + quote(sent, safe="")).json["id"] == sent

    def test_braces_may_stand_unescaped_in_the_query(self, sync: SyncClient) -> None:
        name = "{6820f3ca-6e8a-4ff4-8af7-8b3625d7d65e}"
        sync.post("/storage/col", [{"id": name, "payload": "x"}, {"id": "other"}])
        assert sync.get(f"/storage/col?ids={name}").json == [name]
        assert sync.delete(f"/storage/col?ids={name}").status == 200
        assert sync.get("/storage/col").json == ["other"]

    def test_a_raw_slash_is_part_of_the_id_or_an_unknown_path(self, sync: SyncClient) -> None:
        """Section 1.1: a server that is not told the raw path cannot tell `a/b` from `a%2Fb`."""
        sync.put("/storage/col/a%2Fb", {"payload": "x"})
        reply = sync.get("/storage/col/a/b")
        if reply.status != 404:
            assert reply.json["id"] == "a/b"

    @pytest.mark.parametrize(
        "name",
        ["a" * 65, "a%0A", "%0Aa", "a%0Ab", "%09", "a%00", "%7F", "a%C3%A9", "%E2%82%AC", "%FF", "%1F"],
    )
    def test_any_other_id_is_an_unknown_path(self, sync: SyncClient, name: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert_not_found(sync.get(f"/storage/col/{name}"))
        assert_not_found(sync.put(f"/storage/col/{name}", {"payload": "x"}))
        assert_not_found(sync.delete(f"/storage/col/{name}"))
        assert sync.get("/storage/col").json == ["a"]

    def test_ids_are_compared_byte_by_byte(self, sync: SyncClient) -> None:
        """No database may fold case, pad with spaces or trim."""
        ids = ["a", "A", "a ", " a", "a  ", "a_", "a%"]
        assert sync.post("/storage/col", [{"id": name, "payload": name} for name in ids]).json["failed"] == {}
        for name in ids:
            assert sync.get("/storage/col/" + quote(name, safe="")).json["payload"] == name
        sync.delete("/storage/col/a")
        assert sorted(sync.get("/storage/col").json) == sorted(ids[1:])


class TestUnknownPaths:
    """Section 2: 404 with the JSON body 0, whether signed or not."""

    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize(
        "path",
        [
            "/nonexistent/url",
            "/info",
            "/info/",
            "/info/nonsense",
            "/info/collections/",
            "/",
            "/storage/",
            "/storage/col/",
            "/storage//a",
            "/storages",
            "/info/collectionsx",
        ],
    )
    def test_it_answers_404_with_a_json_zero(self, sync: SyncClient, path: str, signed: bool) -> None:
        assert_not_found(sync.get(path, signed=signed))

    @pytest.mark.parametrize("version", ["1.0", "1.1", "1.4", "1.6", "2.0", "1x5"])
    def test_another_version_is_unknown(self, sync: SyncClient, version: str) -> None:
        assert_not_found(sync.get("/info/collections", at=f"/{version}/{sync.uid}"))

    def test_a_missing_item_is_404_with_a_json_zero(self, sync: SyncClient) -> None:
        assert_not_found(sync.get("/storage/col/a"))
        sync.put("/storage/col/b", {})
        assert_not_found(sync.get("/storage/col/a"))

    @pytest.mark.parametrize("query", ["?blabla=1", "?&", "?client=FxHome&v=1.1b2", "?=", "?full"])
    def test_an_unknown_query_is_ignored(self, sync: SyncClient, query: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        for path in ("/info/collections", "/storage/col", "/storage/col/a", "/info/quota"):
            assert sync.get(path + query).status == 200

    @pytest.mark.parametrize("relic", ["index_above=1", "index_below=1", "parentid=x", "predecessorid=x"])
    def test_relics_of_version_1_1_are_ignored(self, sync: SyncClient, relic: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert sync.get(f"/storage/col?{relic}").json == ["a"]


class TestWrongMethods:
    """Section 2: 405 with Allow and the body 0, decided before authentication."""

    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize(("path", "method"), WRONG)
    def test_it_answers_405_and_says_what_is_allowed(
        self, sync: SyncClient, path: str, method: str, signed: bool
    ) -> None:
        reply = sync.request(method, path, signed=signed)
        assert reply.status == 405
        assert reply.json == 0
        allowed = {name.strip() for name in reply["Allow"].split(",")}
        assert allowed - {"HEAD", "OPTIONS"} == PATHS[path]

    def test_options_without_a_requested_method_is_no_preflight(self, sync: SyncClient) -> None:
        """Section 16."""
        reply = sync.options("/storage/col")
        assert reply.status == 405
        assert "GET" in reply["Allow"]


class TestHead:
    """Section 2: HEAD is GET without the body."""

    @pytest.mark.parametrize(
        "path",
        [
            "/info/collections",
            "/info/quota",
            "/info/collection_usage",
            "/info/collection_counts",
            "/info/configuration",
            "/storage/col",
            "/storage/col?full=1&limit=1",
            "/storage/col/a",
            "/storage/col/missing",
            "/storage/missing",
            "/nonsense",
        ],
    )
    def test_it_answers_like_get(self, sync: SyncClient, path: str) -> None:
        sync.post("/storage/col", [{"id": "a", "payload": "x"}, {"id": "b", "payload": "y"}])
        head, get = sync.head(path), sync.get(path)
        assert head.status == get.status
        for name in ("X-Last-Modified", "X-Weave-Records", "X-Weave-Next-Offset", "Content-Type"):
            assert head.get(name) == get.get(name), name
        assert head.get("Content-Length") in (None, "0", str(len(get.body)))

    def test_it_honours_preconditions(self, sync: SyncClient) -> None:
        stamp = sync.put("/storage/col/a", {"payload": "x"})["X-Last-Modified"]
        assert sync.head("/storage/col/a", {"X-If-Modified-Since": stamp}).status == 304
        assert sync.head("/storage/col/a", {"X-If-Unmodified-Since": "1.00"}).status == 412

    def test_it_needs_a_signature(self, sync: SyncClient) -> None:
        assert sync.head("/storage/col", signed=False).status == 401
