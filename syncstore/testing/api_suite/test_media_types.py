"""Section 5: which media types are answered and which bodies are read."""

from __future__ import annotations

import json

import pytest

from syncstore.testing.client import SyncClient

JSON_TYPES = ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"]
JSON_TYPES += ["Application/JSON", "text/plain", "text/plain; charset=utf-8", "TEXT/PLAIN;charset=UTF-8"]
UNREADABLE: list[str | None] = [
    "application/octet-stream",
    "application/javascript",
    "application/x-www-form-urlencoded",
]
UNREADABLE += ["text/html", "application/xml", "nonsense", "application/jsonx", "json", None]

ANSWERS = [
    (None, "json"),
    ("", "json"),
    ("application/json", "json"),
    ("Application/JSON", "json"),
    ("application/newlines", "newlines"),
    ("*/*", "json"),
    ("application/*", "json"),
    ("application/json;q=0.9,*/*;q=0.2", "json"),
    ("application/json;q=0.9,text/plain", "json"),
    ("application/json,application/newlines", "json"),
    ("application/newlines,application/json", "json"),
    ("application/newlines;q=0.9, application/json;q=0.5", "newlines"),
    ("application/newlines;q=0.5, application/json;q=0.9", "json"),
    ("application/newlines, */*;q=0.1", "newlines"),
    ("application/newlines, application/json;q=0", "newlines"),
    ("*/*;q=0.5, application/json;q=0", "newlines"),
    ("text/plain, application/newlines;q=0.1", "newlines"),
    ("x/yy", None),
    ("text/plain", None),
    ("x/yy, text/html;q=0.3", None),
    ("application/json;q=0", None),
]


class TestAccept:
    """Section 5.1: lists come as JSON or as newlines, everything else as JSON."""

    @pytest.mark.parametrize(("accept", "form"), ANSWERS)
    @pytest.mark.parametrize("query", ["", "?full=1"])
    def test_a_list_comes_in_the_form_most_wanted(
        self, sync: SyncClient, accept: str | None, form: str | None, query: str
    ) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        reply = sync.get("/storage/col" + query, {"Accept": accept})
        if form is None:
            assert (reply.status, reply.json) == (406, 0)
        else:
            assert reply.status == 200
            assert reply.media_type == f"application/{form}"

    @pytest.mark.parametrize("path", ["/storage/col/a", "/info/collections", "/info/quota"])
    @pytest.mark.parametrize("accept", ["application/json", "*/*", "application/json;q=0.9,*/*;q=0.2", None])
    def test_everything_else_is_json(self, sync: SyncClient, path: str, accept: str | None) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        reply = sync.get(path, {"Accept": accept})
        assert reply.status == 200
        assert reply.media_type == "application/json"

    @pytest.mark.parametrize("path", ["/storage/col/a", "/info/collections"])
    def test_elsewhere_an_unknown_type_is_ignored_or_refused(self, sync: SyncClient, path: str) -> None:
        sync.put("/storage/col/a", {"payload": "x"})
        assert sync.get(path, {"Accept": "x/yy"}).status in (200, 406)

    def test_a_write_does_not_negotiate_newlines(self, sync: SyncClient) -> None:
        headers = {"Accept": "application/json"}
        assert sync.post("/storage/col", [{"id": "a"}], headers).json["success"] == ["a"]
        assert sync.put("/storage/col/a", {}, headers).status == 200


class TestNewlinesOut:
    """Section 5.1: one JSON value a line, and every line ends with LF."""

    NEWLINES = {"Accept": "application/newlines"}  # noqa: RUF012  # never changed

    def test_ids_come_one_a_line(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": "a"}, {"id": "b"}])
        reply = sync.get("/storage/col?sort=oldest", self.NEWLINES)
        assert reply.body == b'"a"\n"b"\n'
        assert reply["X-Weave-Records"] == "2"

    def test_an_empty_list_is_an_empty_body(self, sync: SyncClient) -> None:
        for query in ("", "?full=1"):
            reply = sync.get("/storage/col" + query, self.NEWLINES)
            assert (reply.status, reply.body) == (200, b"")
            assert reply["X-Weave-Records"] == "0"
            assert reply["X-Last-Modified"] == "0.00"

    def test_line_ends_inside_of_payloads_are_escaped(self, sync: SyncClient) -> None:
        payloads = {"a": "one\ntwo\r\nthree", "b": "\u2028\u2029\x85", "c": 'quo"te\\', "d": "\n"}
        sync.post("/storage/col", [{"id": key, "payload": text} for key, text in payloads.items()])
        reply = sync.get("/storage/col?full=1", self.NEWLINES)
        lines = reply.body.split(b"\n")
        assert lines.pop() == b""
        found = [json.loads(line) for line in lines]
        assert {item["id"]: item["payload"] for item in found} == payloads

    def test_headers_are_those_of_the_json_form(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": name} for name in "abc"])
        as_json = sync.get("/storage/col?full=1&limit=2")
        as_lines = sync.get("/storage/col?full=1&limit=2", self.NEWLINES)
        for name in ("X-Last-Modified", "X-Weave-Records", "X-Weave-Next-Offset"):
            assert as_lines[name] == as_json[name]


class TestContentType:
    """Section 5.2: the table of body types."""

    @pytest.mark.parametrize("kind", JSON_TYPES)
    def test_json_and_plain_text_are_read_as_json(self, sync: SyncClient, kind: str) -> None:
        headers = {"Content-Type": kind}
        assert sync.post("/storage/col", [{"id": "a", "payload": "ä"}], headers).json["success"] == ["a"]
        assert sync.put("/storage/col/b", {"payload": "ö"}, headers).status == 200
        assert sync.get("/storage/col/a").json["payload"] == "ä"
        assert sync.get("/storage/col/b").json["payload"] == "ö"

    @pytest.mark.parametrize("kind", UNREADABLE)
    def test_other_types_and_none_are_415(self, sync: SyncClient, kind: str | None) -> None:
        headers = {"Content-Type": kind}
        for reply in (
            sync.post("/storage/col", [{"id": "a"}], headers),
            sync.put("/storage/col/a", {"payload": "x"}, headers),
        ):
            assert (reply.status, reply.json) == (415, 0)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("body", ['{"payload":"x"}', '{"id":"a"}\n'])
    def test_newlines_are_no_item(self, sync: SyncClient, body: str) -> None:
        reply = sync.put("/storage/col/a", body, {"Content-Type": "application/newlines"})
        assert (reply.status, reply.json) == (415, 0)
        assert sync.get("/storage/col/a").status == 404


class TestJsonBodies:
    """Section 5.2, "JSON-list details", and section 15: 6 for what is no JSON, 8 for a wrong shape."""

    def test_an_empty_list_touches_the_collection(self, sync: SyncClient) -> None:
        reply = sync.post("/storage/col", [])
        assert reply.status == 200
        assert reply.json["success"] == []
        assert reply.json["failed"] == {}
        assert sync.get("/info/collections").json == {"col": reply.modified}

    @pytest.mark.parametrize("body", ["{}", "42", '"x"', "null", "true", '"notalist"', '{"id":"a"}', "1.5"])
    def test_a_list_of_the_wrong_shape_is_400_8(self, sync: SyncClient, body: str) -> None:
        reply = sync.post("/storage/col", body)
        assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("body", ['"notabso"', "42", "null", "[]", '[{"id":"a"}]', "true"])
    def test_an_item_of_the_wrong_shape_is_400_8(self, sync: SyncClient, body: str) -> None:
        reply = sync.put("/storage/col/a", body)
        assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("element", ['"BAD"', "42", "null", "[]", "true"])
    def test_one_element_that_is_no_object_spoils_the_list(self, sync: SyncClient, element: str) -> None:
        reply = sync.post("/storage/col", '[{"id":"a","payload":"x"},' + element + "]")
        assert (reply.status, reply.json) == (400, 8)
        assert sync.get("/storage/col").json == []

    @pytest.mark.parametrize(
        "body",
        [
            "",
            " ",
            "[",
            "{",
            "[}",
            "nonsense",
            '[{"id":"a"}',
            '[{"id":"a"},]',
            "[{'id':'a'}]",
            "[] []",
            "\x00",
            '{"payload":"x"',
            "\ufeff[",
            "undefined",
            '[{"id":"a" "payload":"x"}]',
            "[\\]",
        ],
    )
    def test_what_is_no_json_is_400_6(self, sync: SyncClient, body: str) -> None:
        for kind in ("application/json", "text/plain"):
            headers = {"Content-Type": kind}
            for reply in (
                sync.post("/storage/col", body, headers),
                sync.put("/storage/col/a", body, headers),
            ):
                assert (reply.status, reply.json) == (400, 6)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize(
        "body", [b'[{"id":"a","payload":"\xff"}]', b'[{"id":"a","payload":"\xc3"}]', b"\xff\xfe"]
    )
    def test_what_is_no_utf8_is_400_6(self, sync: SyncClient, body: bytes) -> None:
        reply = sync.post("/storage/col", body)
        assert (reply.status, reply.json) == (400, 6)
        reply = sync.post("/storage/col", body, {"Content-Type": "application/newlines"})
        assert (reply.status, reply.json) == (400, 6)

    @pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
    def test_numbers_that_json_does_not_know_are_400(self, sync: SyncClient, literal: str) -> None:
        reply = sync.post("/storage/col", '[{"id":"a","sortindex":' + literal + "}]")
        assert reply.status == 400
        assert reply.json in (6, 8)
        assert sync.put("/storage/col/a", '{"sortindex":' + literal + "}").status == 400

    @pytest.mark.parametrize("opening", ["[", '{"a":', '[{"id":'])
    def test_deep_nesting_is_a_fault_of_the_client(self, sync: SyncClient, opening: str) -> None:
        body = opening * 50_000
        assert sync.post("/storage/col", body).status == 400
        assert sync.put("/storage/col/a", body).status == 400

    def test_a_lone_surrogate_is_refused_or_kept(self, sync: SyncClient) -> None:
        """JSON can spell what UTF-8 cannot: never a 5xx, never an item that cannot be read."""
        reply = sync.post("/storage/col", '[{"id":"a","payload":"\\ud800"}]')
        assert reply.status in (200, 400)
        assert sync.get("/storage/col?full=1").status == 200


class TestNewlinesIn:
    """Section 5.2, "newlines details"."""

    NEWLINES = {"Content-Type": "application/newlines"}  # noqa: RUF012  # never changed

    @pytest.mark.parametrize(
        "body",
        [
            '{"id":"a"}\n{"id":"b"}',
            '{"id":"a"}\n{"id":"b"}\n',
            '{"id":"a"}\r\n{"id":"b"}',
            '{"id":"a"}\r\n{"id":"b"}\r\n',
            ' {"id": "a"} \n\t{"id":"b"}',
        ],
    )
    def test_one_object_a_line_with_or_without_a_last_line_end(self, sync: SyncClient, body: str) -> None:
        reply = sync.post("/storage/col", body, self.NEWLINES)
        assert reply.status == 200
        assert reply.json["success"] == ["a", "b"]
        assert sorted(sync.get("/storage/col").json) == ["a", "b"]

    def test_one_line_is_one_item(self, sync: SyncClient) -> None:
        reply = sync.post("/storage/col", '{"id":"a","payload":"one\\ntwo"}', self.NEWLINES)
        assert reply.json["success"] == ["a"]
        assert sync.get("/storage/col/a").json["payload"] == "one\ntwo"

    def test_other_line_separators_are_part_of_the_text(self, sync: SyncClient) -> None:
        """U+2028, U+0085 and the like end a line for Python's splitlines, not for the protocol."""
        text = "a\u2028b\u0085c\x0bd\x0c\x1ce"
        body = json.dumps({"id": "a", "payload": "\u2028\u0085"}, ensure_ascii=False)
        assert sync.post("/storage/col", body, self.NEWLINES).json["success"] == ["a"]
        body = json.dumps({"id": "b", "payload": text})
        assert sync.post("/storage/col", body, self.NEWLINES).json["success"] == ["b"]
        assert sync.get("/storage/col/a").json["payload"] == "\u2028\u0085"
        assert sync.get("/storage/col/b").json["payload"] == text

    def test_an_empty_body_is_no_item(self, sync: SyncClient) -> None:
        reply = sync.post("/storage/col", "", self.NEWLINES)
        assert reply.status == 200
        assert reply.json["success"] == []
        assert sync.get("/info/collections").json == {"col": reply.modified}

    @pytest.mark.parametrize(
        "body",
        [
            "\n",
            "\n\n",
            "{}",
            "[]",
            '[{"id":"a"}]',
            '{"id":"a"}\n[]',
            '{"id":"a"}\nBAD',
            '{"id":"a"}{"id":"b"}',
            '{"id":"a"}\n\n{"id":"b"}',
            '\n{"id":"a"}',
            '{"id":"a"}\n\n',
            "42",
            "null",
            '{"id":"a"}\n{}',
            '{"id":\n"a"}',
        ],
    )
    def test_anything_else_is_400(self, sync: SyncClient, body: str) -> None:
        reply = sync.post("/storage/col", body, self.NEWLINES)
        assert reply.status == 400
        assert reply.json in (6, 8)
        assert sync.get("/info/collections").json == {}

    @pytest.mark.parametrize("body", ["{}", "[]", '{"payload":"x"}'])
    def test_a_line_of_the_wrong_shape_is_400_8(self, sync: SyncClient, body: str) -> None:
        assert sync.post("/storage/col", body, self.NEWLINES).json == 8

    def test_a_bad_field_fails_its_item_alone(self, sync: SyncClient) -> None:
        body = '{"id":"a","payload":"x"}\n{"id":"b","payload":1}\n{"id":"c"}'
        reply = sync.post("/storage/col", body, self.NEWLINES)
        assert reply.json["success"] == ["a", "c"]
        assert list(reply.json["failed"]) == ["b"]
