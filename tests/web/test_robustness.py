"""Whatever is sent: never a 5xx, always an integer as JSON for an error, and nothing stored by a refused request."""

from __future__ import annotations

import base64
import io
import json
import logging
import random
import string
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from syncstore.app import make_app
from syncstore.testing.client import Credentials, SyncClient, authorization, mint
from syncstore.testing.replies import Reply, check
from syncstore.testing.transports import InProcess

SECRET = "a-secret-of-the-robustness-tests"
UID = 1234567
HOST = "localhost"
NODE = "http://localhost"

# The fixtures outlive the examples on purpose: the app is the same for all, and what it holds is compared.
many = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
few = settings(many, max_examples=60)


class Faults(logging.Handler):
    """Collects what a log must not have here: errors and tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR or record.exc_info or "\n" in text or len(text) > 2000:
            self.found.append(text[:2000])


class Target:
    """The application, called without any server in between, and a user of it."""

    def __init__(self, app: Any, faults: Faults) -> None:
        self._app = app
        self._faults = faults
        self.sync = SyncClient(UID, SECRET, InProcess(app), NODE)
        self.sync.put("/storage/col/a", {"payload": "kept", "sortindex": 1})
        self.sync.put("/storage/bookmarks/b", {"payload": "kept"})

    def stored(self) -> list[Any]:
        """All that the user has."""
        times = self.sync.get("/info/collections").json
        return [times, *(self.sync.get(f"/storage/{name}?full=1").json for name in sorted(times))]

    def send(
        self,
        method: str,
        path: bytes,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        credentials: Credentials | None = None,
        length: str | None = "right",
        stream: io.BytesIO | None = None,
    ) -> Reply:
        """Send this and hold the answer to what every answer promises. Signed with `credentials`, if given."""
        target = quote(path, safe="/~!$&'()*+,;=:@") + ("?" + query if query else "")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path.decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": target,
            "SERVER_NAME": HOST,
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": HOST,
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": stream or io.BytesIO(body or b""),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if body is not None:
            environ["CONTENT_TYPE"] = "application/json"
            if length is not None:
                environ["CONTENT_LENGTH"] = str(len(body)) if length == "right" else length
        if credentials is not None:
            environ["HTTP_AUTHORIZATION"] = authorization(credentials, method, target, HOST)
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key] = value
        started: list[Any] = []
        before = self.stored()
        content = b"".join(self._app(environ, lambda status, found, *_: started.append((status, found))))
        ((status, found),) = started
        received = {name.lower(): value for name, value in found}
        reply = Reply(method, target, int(status[:3]), received, content)
        assert reply.status < 500, reply
        assert all(value.isprintable() for value in received.values()), reply
        check(reply, storage=received.get("x-weave-timestamp") is not None)
        assert not self._faults.found, self._faults.found
        if reply.status >= 300 or method in ("GET", "HEAD", "OPTIONS"):
            assert self.stored() == before, f"{reply} changed what is stored"
        else:
            self.restore()
        return reply

    def restore(self) -> None:
        """As it was in the beginning, but for the times."""
        self.sync.delete("/storage")
        self.sync.put("/storage/col/a", {"payload": "kept", "sortindex": 1})
        self.sync.put("/storage/bookmarks/b", {"payload": "kept"})


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path: Path = tmp_path_factory.mktemp("robust") / "sync.db"
    app: Any = make_app({"sqlalchemy.url": f"sqlite:///{path}", "auth.secrets": SECRET, "migrate": "auto"})
    faults = Faults()
    logging.getLogger().addHandler(faults)
    logging.getLogger("syncstore").setLevel(logging.DEBUG)
    yield Target(app, faults)
    logging.getLogger("syncstore").setLevel(logging.NOTSET)
    logging.getLogger().removeHandler(faults)
    app.close()


def with_key(**claims: object) -> Credentials:
    """A token with these claims in place of the usual ones."""
    payload: dict[str, object] = {"uid": UID, "node": NODE, "expires": time.time() + 3600, "salt": "abcdef"}
    payload |= claims
    return mint(SECRET, json.dumps(payload).encode(), str(payload["salt"]))


GOOD = with_key(expires=4_000_000_000)
METHODS = (
    "GET",
    "HEAD",
    "PUT",
    "POST",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "",
    "X" * 300,
)
RESOURCES = (
    "",
    "/storage",
    "/storage/col",
    "/storage/col/a",
    "/info/collections",
    "/info/quota",
    "/info/collection_usage",
    "/info/collection_counts",
    "/info/configuration",
    "/nothing",
)
# What comes through a server as a header: bytes read as latin-1, without line ends.
header_text = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)
HOSTILE_TEXT = (
    "", " ", "0", "-0", "-1", "1e999", "1e-999", "NaN", "nan", "Infinity", "-Infinity", "1_000", "٣", "\xb2", "+1",
    "0x10", "1e17", "99999999999999999999", "9" * 400, "9" * 250_000, "1.000000000000000000001", "." * 9, "1..2",
    " 1", "1 ", "\t1", "1\x00", "\xff", "true", "TRUE", "null", "[]", "a,b", "," * 300, "%", "%00", "%ff", "%zz",
)  # fmt: skip
hostile_text = st.one_of(st.sampled_from(HOSTILE_TEXT), header_text)
segment = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"1.5", b"1234567", b"storage", b"info", b"col", b"a", b"", b".", b"..", b"\n", b"\0"]),
)
paths = st.one_of(
    st.lists(segment, max_size=7).map(lambda parts: b"/" + b"/".join(parts)),
    st.sampled_from([f"/1.5/{UID}{resource}".encode() for resource in RESOURCES]),
    st.binary(max_size=20).map(lambda tail: f"/1.5/{UID}/storage/".encode() + tail),
    st.binary(max_size=20).map(lambda tail: f"/1.5/{UID}/storage/col/".encode() + tail),
)


class TestAnyRequest:
    @many
    @given(
        method=st.one_of(st.sampled_from(METHODS), st.text(string.printable, max_size=20)),
        path=paths,
        query=st.text(st.characters(max_codepoint=255), max_size=60),
        headers=st.dictionaries(
            st.sampled_from(
                ["Origin", "Accept", "User-Agent", "Content-Length", "Content-Type", "X-Forwarded-Host",
                 "Access-Control-Request-Method", "Cookie", "Transfer-Encoding", "Host", "X-HTTP-Method-Override"]
            ),
            hostile_text,
        ),
    )  # fmt: skip
    def test_unsigned(
        self, target: Target, method: str, path: bytes, query: str, headers: dict[str, str]
    ) -> None:
        if path == b"/__error__":
            return  # which is a 500 on purpose
        reply = target.send(method, path, query, headers)

        assert reply.status >= 400 or not path.startswith(b"/1.5/") or b"configuration" in path or (
            method == "OPTIONS"
        )  # fmt: skip

    @many
    @given(method=st.sampled_from(METHODS), path=paths)
    def test_signed_for_any_path(self, target: Target, method: str, path: bytes) -> None:
        target.send(method, path, credentials=GOOD, body=b"{}" if method in ("PUT", "POST") else None)

    @pytest.mark.parametrize(
        "path",
        [
            b"/1.5/1234567/storage/col/" + tail
            for tail in (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\0", b"a\n", b"a\0b", b"x" * 65, b"x" * 250_000)
        ]
        + [b"/1.5/1234567/storage/" + b"c" * 250_000, b"/1.5/" + b"1" * 250_000, b"/" * 250_000, b"//", b"*"],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_a_path_that_is_none(self, target: Target, method: str, path: bytes) -> None:
        body = b'{"payload": "x"}' if method == "PUT" else None

        assert target.send(method, path, body=body, credentials=GOOD).status in (404, 405)


class TestQueries:
    @many
    @given(
        method=st.sampled_from(["GET", "POST", "DELETE"]),
        resource=st.sampled_from(["/storage/col", "/storage/col/a", "/storage/bookmarks", "/storage/none"]),
        pairs=st.lists(
            st.tuples(
                st.sampled_from(
                    ["newer", "older", "limit", "offset", "sort", "ids", "full", "batch", "commit", "odd"]
                ),
                hostile_text.filter(lambda text: len(text) < 2000),
            ),
            max_size=4,
        ),
    )
    @example("GET", "/storage/col", [("limit", "9" * 18), ("newer", "9" * 15)])
    @example("GET", "/storage/col", [("older", "9" * 17 + "." + "9" * 40)])
    @example("GET", "/storage/col", [("offset", base64.urlsafe_b64encode(b"\xff" * 90).decode())])
    @example("DELETE", "/storage/col", [("ids", "")])
    @example("DELETE", "/storage/col", [("ids", ",".join(f"{n}" for n in range(101)))])
    def test_any_value(
        self, target: Target, method: str, resource: str, pairs: list[tuple[str, str]]
    ) -> None:
        query = "&".join(f"{name}={quote(value.encode('latin-1', 'replace'))}" for name, value in pairs)
        body = b"[]" if method == "POST" else None

        target.send(method, f"/1.5/{UID}{resource}".encode(), query, body=body, credentials=GOOD)

    @many
    @given(query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80))
    @example("&" * 5000)
    @example("newer=1&" * 200)
    @example("newer=%ff&older=%c3%28")
    @example("full=%00&ids=%00")
    @example("x=" + "y" * 250_000)
    def test_any_text(self, target: Target, query: str) -> None:
        target.send("GET", f"/1.5/{UID}/storage/col".encode(), query, credentials=GOOD)

    def test_a_delete_is_never_of_more_than_was_named(self, target: Target) -> None:
        """A parameter that cannot be read must not turn a DELETE of items into one of the collection."""
        for query in (
            "ids",
            "ids=",
            "ids=,",
            "ids=,,",
            "ids=%00",
            "ids=%ff",
            "ids=a&ids=",
            "ids=,a,,b",
        ):
            reply = target.send("DELETE", f"/1.5/{UID}/storage/col".encode(), query, credentials=GOOD)

            assert reply.status == 400, (query, reply)


class TestHeaders:
    @many
    @given(
        method=st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
        headers=st.dictionaries(
            st.sampled_from(
                ["X-If-Modified-Since", "X-If-Unmodified-Since", "X-Weave-Records", "X-Weave-Bytes",
                 "X-Weave-Total-Records", "X-Weave-Total-Bytes", "Accept", "Content-Type", "Content-Length",
                 "X-Confirm-Delete", "Origin", "User-Agent"]
            ),
            hostile_text,
            max_size=3,
        ),
    )  # fmt: skip
    def test_any_value(self, target: Target, method: str, headers: dict[str, str]) -> None:
        item = method == "PUT"
        body = {"PUT": b'{"payload": "x"}', "POST": b'[{"id": "c", "payload": "x"}]'}.get(method)
        path = f"/1.5/{UID}/storage/col" + ("/c" if item else "")

        target.send(method, path.encode(), "", headers, body, credentials=GOOD)

    @pytest.mark.parametrize(
        "name", ["X-If-Modified-Since", "Accept", "Authorization", "Origin", "X-Odd", "Host"]
    )
    def test_one_of_250_kilobytes(self, target: Target, name: str) -> None:
        for character in ("9", "a", ",", '"', "\xff", " ", ";q="):
            value = (character * 250_000)[:250_000]
            target.send("GET", f"/1.5/{UID}/storage/col".encode(), "", {name: value}, credentials=GOOD)

    @many
    @given(
        host=st.one_of(hostile_text, st.text(string.printable, max_size=40).filter(lambda t: "\n" not in t))
    )
    def test_any_host(self, target: Target, host: str) -> None:
        reply = target.send("GET", f"/1.5/{UID}/info/quota".encode(), "", {"Host": host}, credentials=GOOD)

        assert reply.status in (400, 401) or host.lower().partition(":")[0] == "localhost"


class TestSignatures:
    @many
    @given(header=st.one_of(st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")), hostile_text))
    @example("Hawk")
    @example("Hawk ")
    @example('Hawk id="')
    @example('Hawk id="a", id="b", ts="1", nonce="n", mac="m"')
    @example('Hawk id="\\", ts="1"')
    @example("Hawk " + 'a="b",' * 40_000)
    @example('Hawk id="' + "\\" * 250_000)
    def test_any_header(self, target: Target, header: str) -> None:
        """Where two Hawk headers were joined by the server, too."""
        for value in (header, "Hawk " + header):
            reply = target.send("GET", f"/1.5/{UID}/info/quota".encode(), "", {"Authorization": value})

            assert (reply.status, reply.body) == (401, b"0")

    @many
    @given(data=st.data())
    def test_a_good_one_with_a_byte_changed(self, target: Target, data: st.DataObject) -> None:
        path = f"/1.5/{UID}/info/quota"
        header = authorization(GOOD, "GET", path, HOST, ts="1700000000", nonce="abcdefg=")
        at = data.draw(st.integers(0, len(header) - 1))
        kind = data.draw(st.sampled_from(["change", "drop", "cut", "double"]))
        new = data.draw(st.characters(min_codepoint=32, max_codepoint=255).filter(lambda c: c != header[at]))
        changed = {
            "change": header[:at] + new + header[at + 1 :],
            "drop": header[:at] + header[at + 1 :],
            "cut": header[:at],
            "double": header[:at] + header[at] + header[at:],
        }[kind]
        reply = target.send("GET", path.encode(), "", {"Authorization": changed})

        # What is left may mean the same: a space or a comma more or less.
        assert reply.status == 401 or set(changed) ^ set(header) <= set(" ,\t") or same_words(changed, header)

    @few
    @given(
        token=st.one_of(st.text(max_size=80), st.binary(max_size=80).map(lambda raw: raw.decode("latin-1")))
    )
    @example(GOOD.token[:-1])
    @example(GOOD.token[:-2])
    @example(GOOD.token.rstrip("="))
    @example(GOOD.token + "=")
    @example(GOOD.token[:40])
    @example("=" * 40)
    @example("A" * 5000)
    def test_a_token_cut_short_or_made_up(self, target: Target, token: str) -> None:
        quotes = token.translate({34: None, 92: None, 13: None, 10: None})
        if quotes == GOOD.token:
            return
        path = f"/1.5/{UID}/info/quota"
        header = authorization(Credentials(quotes, GOOD.key), "GET", path, HOST)
        reply = target.send("GET", path.encode(), "", {"Authorization": header})

        assert (reply.status, reply.body) == (401, b"0")

    @pytest.mark.parametrize(
        "claims",
        [
            {"uid": UID + 1},
            {"uid": str(UID)},
            {"uid": -1},
            {"uid": float(UID)},
            {"uid": 10**400},
            {"uid": None},
            {"node": "https://localhost"},
            {"node": "http://localhost:8000"},
            {"node": "http://localhost/x"},
            {"node": ""},
            {"node": None},
            {"expires": 0},
            {"expires": 1_600_000_000.5},
            {"expires": -1e308},
            {"expires": 1e308},
            {"expires": float("nan")},
            {"expires": float("inf")},
            {"expires": "4000000000"},
            {"fxa_uid": "a\nb", "hashed_fxa_uid": "c", "fxa_kid": "d"},
            {"salt": "\ud800"},
        ],
        ids=str,
    )
    def test_a_token_for_something_else(self, target: Target, claims: dict[str, object]) -> None:
        try:
            credentials = with_key(**claims)
        except UnicodeEncodeError:
            return
        for method in ("GET", "DELETE"):
            reply = target.send(method, f"/1.5/{UID}/storage/col".encode(), credentials=credentials)

            assert (reply.status, reply.body) == (401, b"0")

    def test_an_expired_token_sent_again_writes_nothing(self, target: Target) -> None:
        expired = with_key(expires=time.time() - 60)
        base = f"/1.5/{UID}"

        assert target.send("GET", f"{base}/info/collections".encode(), credentials=expired).status == 200
        for method, path in (("PUT", "/storage/col/a"), ("POST", "/storage/col"), ("DELETE", "")):
            body = b'{"payload": "x"}' if method != "DELETE" else None
            reply = target.send(method, (base + path).encode(), body=body, credentials=expired)
            assert reply.status == 401


NUMBERS = (
    "0", "-0", "-0.0", "1e999", "-1e999", "1e-999", "1" + "0" * 400, "-1" + "0" * 5000, "1e400000000", "9" * 250_000,
    "0." + "0" * 5000 + "1", "1e-99999999999", "123456789012345678901234567890", "9223372036854775808", "1.5", "1E3",
    "18446744073709551616", "1e308", "5e-324", "999999999", "1000000000", "999999999.0", "NaN", "Infinity", "-Infinity",
    "nan", "01", "1.", ".5", "+1", "0x1", "1_0", "--1",
)  # fmt: skip
STRINGS = (
    '""', '"a"', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\uFFFF"', '"\\x41"', '"\\"',
    '"\n"', '"\x7f"', '"' + "x" * 65 + '"', '"123"', '"1e3"', '"\\u0661"', "'a'", '"😀"', '"ÿ"', '"\u2028"',
)  # fmt: skip
OTHERS = (
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[[]]",
    '{"a": 1}',
    "",
    "undefined",
    "/* */ 1",
    "nul",
    "[1",
    '{"a"',
)
fragments = st.one_of(
    st.sampled_from(NUMBERS + STRINGS + OTHERS),
    st.text(max_size=10).map(json.dumps),
    st.text(max_size=10).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.integers().map(str),
    st.floats().map(json.dumps),
)
fields = st.sampled_from(
    ["id", "payload", "sortindex", "ttl", "modified", "collection", "odd", "\\u0069d", "\\u0000"]
)
objects = st.lists(st.tuples(fields, fragments), max_size=5).map(
    lambda pairs: "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}"
)
DEEP = 100_000
BODIES = (
    b"", b"\0", b"\0" * 5000, b"\xff", b"\xef\xbb\xbf[]", "[]".encode("utf-16"), b"[]\0", b"[\0]", b"[],", b"[,]",
    b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b'[{"a":' * DEEP,
    b'[{"id": "a", "payload": ' + b"[" * DEEP + b"]" * DEEP + b"}]",
    b'{"payload": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    b'{"payload": "\xed\xa0\x80"}', b'[{"id": "a", "payload": "\xed\xa0\x80"}]', b'{"payload": "\xff"}',
    b'{"payload": "\xc0\x80"}', b'{"payload": "\xf4\x90\x80\x80"}', b'{"payload": "a', b'{"payload": "\x00"}',
    b'[{"id": "a"}, {"id": "a"}]', b'[{"id": "a", "id": "b", "id": "c"}]',
    b'[{"id": "a"}' + b', {"id": "a"}' * 5000 + b"]", b"[" + b"{}," * 5000 + b"{}]",
    b"[" + b"1," * 100_000 + b"1]", b" " * 100_000, b"{" + b'"a":1,' * 50_000 + b'"b":1}',
    b'"' + b"\\ud800" * 10_000 + b'"',
)  # fmt: skip


class TestBodies:
    @pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
    @pytest.mark.parametrize(
        "media_type", ["application/json", "application/newlines", "text/plain", "", "a/b"]
    )
    def test_a_hostile_one(self, target: Target, body: bytes, media_type: str) -> None:
        for method, path in (
            ("PUT", "/storage/col/a"),
            ("POST", "/storage/col"),
            ("POST", "/storage/crypto"),
        ):
            headers = {"Content-Type": media_type}
            target.send(method, f"/1.5/{UID}{path}".encode(), "", headers, body, credentials=GOOD)

    @many
    @given(body=st.binary(max_size=200))
    def test_any_bytes(self, target: Target, body: bytes) -> None:
        for method, path in (("PUT", "/storage/col/a"), ("POST", "/storage/col")):
            target.send(method, f"/1.5/{UID}{path}".encode(), body=body, credentials=GOOD)

    @many
    @given(body=objects)
    @example('{"sortindex": 1e999}')
    @example('{"ttl": ' + "1" + "0" * 400 + "}")
    @example(r'{"a field\n401 GET /1.5/7: a line of its own in the log": 1}')
    def test_any_object_for_an_item(self, target: Target, body: str) -> None:
        path = f"/1.5/{UID}/storage/col/a".encode()

        target.send("PUT", path, body=body.encode(errors="surrogatepass"), credentials=GOOD)

    @many
    @given(
        elements=st.lists(st.one_of(objects, fragments), max_size=4),
        query=st.sampled_from(["", "batch=true"]),
    )
    def test_any_list_for_a_collection(self, target: Target, elements: list[str], query: str) -> None:
        path, body = f"/1.5/{UID}/storage/col".encode(), "[" + ",".join(elements) + "]"

        target.send("POST", path, query, body=body.encode(errors="surrogatepass"), credentials=GOOD)

    @many
    @given(
        lines=st.lists(st.one_of(objects, fragments), max_size=4),
        end=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    )
    def test_any_lines(self, target: Target, lines: list[str], end: str) -> None:
        path, body = f"/1.5/{UID}/storage/col".encode(), "\n".join(lines) + end
        headers = {"Content-Type": "application/newlines"}

        target.send("POST", path, "", headers, body.encode(errors="surrogatepass"), credentials=GOOD)

    @pytest.mark.parametrize(
        "length", [None, "0", "1", "17", "-1", "1e3", "abc", "1, 1", " 5", "٣", "9" * 30, "+5"]
    )
    def test_a_length_that_is_wrong(self, target: Target, length: str | None) -> None:
        """Too short is cut, and no JSON any more; too long is an upload that broke off. None is a chunked body."""
        body = b'{"payload": "x" }'  # of 17 bytes
        path = f"/1.5/{UID}/storage/col/a".encode()
        reply = target.send("PUT", path, body=body, credentials=GOOD, length=length)

        assert reply.status == (200 if length in (None, "17") else 413 if length == "9" * 30 else 400)

    @pytest.mark.parametrize(
        "error", [OSError("reset"), ValueError("a bad chunk"), type("Odd", (Exception,), {})()]
    )
    def test_one_that_the_server_cannot_read(self, target: Target, error: Exception) -> None:
        """Each server has exceptions of its own for chunks that are none and clients that are gone."""

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise error

        path = f"/1.5/{UID}/storage/col/a".encode()
        for length in (None, "17"):
            reply = target.send("PUT", path, body=b"", credentials=GOOD, length=length, stream=Broken())

            assert (reply.status, reply.body) == (400, b"0")

    def test_lines_of_undeclared_length_are_refused(self, target: Target) -> None:
        """granian ends the body where the connection broke: half of the lines would look like all of them."""
        path, body = f"/1.5/{UID}/storage/col".encode(), b'{"id": "c", "payload": "x"}\n'
        headers = {"Content-Type": "application/newlines"}

        assert target.send("POST", path, "", headers, body, credentials=GOOD, length=None).status == 400
        assert target.send("POST", path, "", headers, b"", credentials=GOOD, length=None).status == 200
        assert target.send("POST", path, "", headers, body, credentials=GOOD).status == 200

    def test_a_chunked_one_over_the_limit(self, target: Target) -> None:
        body = b'{"payload": "' + b"x" * 2_700_000 + b'"}'
        path = f"/1.5/{UID}/storage/col/a".encode()
        reply = target.send("PUT", path, body=body, credentials=GOOD, length=None)

        assert (reply.status, reply.body) == (413, b"17")

    def test_what_is_taken_comes_back_as_it_was(self, target: Target) -> None:
        """The other side of strictness: any text that is text."""
        draw = random.Random(1)
        for _ in range(50):
            codes = (
                draw.choice((0, 9, 10, 13, 34, 92, 127, 255, 0x2028, 0xFFFF, 0x1F600)) for _ in range(20)
            )
            text = "".join(map(chr, codes))
            assert target.sync.put("/storage/col/text", {"payload": text}).status == 200
            assert target.sync.get("/storage/col/text").json["payload"] == text
        target.restore()


def same_words(one: str, other: str) -> bool:
    """Whether two headers differ only in white space and commas between their parameters."""

    def words(header: str) -> list[str]:
        return header.replace(",", " ").split()

    return words(one) == words(other)
