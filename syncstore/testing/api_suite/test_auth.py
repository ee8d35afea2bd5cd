"""auth.md: who may speak for a user. Each refusal is a 401 with a Hawk challenge and the body 0."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from syncstore.testing.api_suite.fixtures import Server
from syncstore.testing.client import Credentials, SyncClient, authorization, mint
from syncstore.testing.replies import Reply

TOKEN_T2 = (
    "eyJ1aWQiOjQyOTQ5NjcyOTUsIm5vZGUiOiJodHRwczovL3N5bmMuZXhhbXBsZS5jb20vc3RvcmFnZSIsImV4cGlyZXMiOjIwMDAwMDAwMDAs"
    "ImZ4YV91aWQiOiIwMDExMjIzMzQ0NTU2Njc3ODg5OWFhYmJjY2RkZWVmZiIsImZ4YV9raWQiOiIwMDAxNzAwMDAwMDAwLXFydk0zUSIsImhh"
    "c2hlZF9meGFfdWlkIjoiYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWEiLCJoYXNoZWRfZGV2aWNlX2lkIjoiYmJiYmJiYmJiYmJi"
    "YmJiYmJiYmJiYmJiYmJiYmJiYmIiLCJzYWx0IjoiYzBmZmVlIn3qWdbOwbCvmxnOveCcuL9tDaFSFPHr8_vntNRr4rzyfQ=="
)


def assert_refused(reply: Reply) -> None:
    assert (reply.status, reply.json) == (401, 0), reply
    assert reply["WWW-Authenticate"].startswith("Hawk")


def everything(sync: SyncClient, **options: Any) -> list[Reply]:
    """One request to each kind of endpoint that needs a signature."""
    return [
        sync.get("/info/collections", **options),
        sync.get("/info/quota", **options),
        sync.get("/info/collection_usage", **options),
        sync.get("/info/collection_counts", **options),
        sync.get("/storage/col", **options),
        sync.get("/storage/col/a", **options),
        sync.put("/storage/col/a", {"payload": "x"}, **options),
        sync.post("/storage/col", [{"id": "a"}], **options),
        sync.delete("/storage/col/a", **options),
        sync.delete("/storage/col", **options),
        sync.delete("/storage", **options),
        sync.delete("", **options),
    ]


class TestTheSuiteSigns:
    """auth section 9: the suite's own signing gives the known answers."""

    PAYLOAD = (
        b'{"uid":4294967295,"node":"https://sync.example.com/storage","expires":2000000000,'
        b'"fxa_uid":"00112233445566778899aabbccddeeff","fxa_kid":"0001700000000-qrvM3Q",'
        b'"hashed_fxa_uid":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",'
        b'"hashed_device_id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","salt":"c0ffee"}'
    )

    def test_tokens(self) -> None:
        credentials = mint("kat-secret-0123456789abcdef", self.PAYLOAD, "c0ffee")
        assert credentials == Credentials(TOKEN_T2, "3NX8HjSfXWNiSdNavDshEw6x0e2lrCEMpsFXKRYJ-yk=")

    @pytest.mark.parametrize(
        ("method", "target", "host", "scheme", "extra", "mac"),
        [
            (
                "GET",
                "/storage/1.5/4294967295/info/collections",
                "sync.example.com",
                "https",
                {"nonce": "AAAAAAA="},
                "C8dUalZGrXNaKZecektO/CLroPCDnzo7uHLhEGBl9zc=",
            ),
            (
                "PUT",
                "/storage/1.5/4294967295/storage/meta/global",
                "sync.example.com:8443",
                "https",
                {
                    "nonce": "AAAAAAA=",
                    "payload_hash": "jmHzSyysKOC/NIDrUxA90eKJDFvHr2ce0Vnr9Kj1ETU=",
                    "ext": "some-ext",
                },
                "V7fKUEPX5C1TuOZEorTopLn+w9tya8LyvHwV+TqDnCc=",
            ),
            (
                "DELETE",
                "/1.5/4294967295",
                "SYNC.Example.com",
                "http",
                {"nonce": "xyz"},
                "95PoszMevLXsrHjPKmjPOxr3UhgeBYczQsItbuS9Wi4=",
            ),
        ],
    )
    def test_requests(
        self, method: str, target: str, host: str, scheme: str, extra: dict[str, str], mac: str
    ) -> None:
        credentials = Credentials(TOKEN_T2, "3NX8HjSfXWNiSdNavDshEw6x0e2lrCEMpsFXKRYJ-yk=")
        header = authorization(credentials, method, target, host, scheme=scheme, ts="1700000000", **extra)
        assert f'mac="{mac}"' in header


class TestSignatures:
    """auth sections 5 and 8."""

    def test_without_a_signature_nothing_is_told_or_done(self, sync: SyncClient) -> None:
        sync.put("/storage/col/a", {"payload": "mine"})
        for reply in everything(sync, signed=False):
            assert_refused(reply)
        assert sync.get("/storage/col/a").json["payload"] == "mine"

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "Hawk",
            "Hawk ",
            "Basic dTpw",
            "Bearer abc",
            "BrowserID x",
            "Hawk id=x",
            'Hawk id="x"',
            "nonsense",
            'Hawk id="", ts="", nonce="", mac=""',
            'Hawk id="x", ts="1", nonce="2", mac="3"',
            'Hawk id="x',
        ],
    )
    def test_another_scheme_or_a_broken_header_is_401(self, sync: SyncClient, header: str) -> None:
        for path in ("/info/collections", "/storage/col/a"):
            assert_refused(sync.get(path, {"Authorization": header}, signed=False))
        assert_refused(sync.put("/storage/col/a", {}, {"Authorization": header}, signed=False))

    @pytest.mark.parametrize("missing", ["id", "ts", "nonce", "mac"])
    def test_each_part_of_the_header_is_needed(self, sync: SyncClient, missing: str) -> None:
        target = f"{sync.transport.prefix}/1.5/{sync.uid}/info/collections"
        header = authorization(
            sync.credentials, "GET", target, sync.transport.host, scheme=sync.transport.scheme
        )
        parts = [
            part for part in header.removeprefix("Hawk ").split(", ") if not part.startswith(missing + "=")
        ]
        assert len(parts) == 3
        assert_refused(
            sync.get("/info/collections", {"Authorization": "Hawk " + ", ".join(parts)}, signed=False)
        )

    def test_the_parts_may_come_in_any_order_with_unknown_ones(self, sync: SyncClient) -> None:
        target = f"{sync.transport.prefix}/1.5/{sync.uid}/info/collections"
        header = authorization(
            sync.credentials, "GET", target, sync.transport.host, scheme=sync.transport.scheme
        )
        parts = header.removeprefix("Hawk ").split(", ")
        for order in (parts[::-1], [*parts, 'app="x"', 'dlg="y"']):
            text = "Hawk " + ", ".join(order)
            assert sync.get("/info/collections", {"Authorization": text}, signed=False).status == 200

    def test_the_mac_covers_method_path_and_query(self, sync: SyncClient) -> None:
        prefix = f"{sync.transport.prefix}/1.5/{sync.uid}"
        for method, path in (
            ("PUT", "/storage/col"),
            ("GET", "/storage/co1"),
            ("GET", "/storage/col?full=1"),
            ("GET", "/storage/col?"),
            ("GET", "/storage/col/"),
            ("get", "/storage/col"),
        ):
            header = authorization(
                sync.credentials, method, prefix + path, sync.transport.host, scheme=sync.transport.scheme
            )
            assert_refused(sync.get("/storage/col", {"Authorization": header}, signed=False))

    def test_the_mac_covers_host_and_port(self, sync: SyncClient) -> None:
        target = f"{sync.transport.prefix}/1.5/{sync.uid}/storage/col"
        for host in ("elsewhere.example", sync.transport.host.partition(":")[0] + ":9"):
            header = authorization(sync.credentials, "GET", target, host, scheme=sync.transport.scheme)
            assert_refused(sync.get("/storage/col", {"Authorization": header}, signed=False))

    def test_a_wrong_key_is_401(self, sync: SyncClient) -> None:
        wrong = Credentials(sync.credentials.token, base64.urlsafe_b64encode(b"k" * 32).decode())
        for reply in everything(sync, credentials=wrong):
            assert_refused(reply)

    @pytest.mark.parametrize("ts", ["abc", "", "1.5", "0x5", "%31"])
    def test_a_time_that_is_no_integer_is_401(self, sync: SyncClient, ts: str) -> None:
        target = f"{sync.transport.prefix}/1.5/{sync.uid}/storage/col"
        header = authorization(
            sync.credentials, "GET", target, sync.transport.host, scheme=sync.transport.scheme, ts=ts or None
        )
        if not ts:
            header = header.replace('ts="', 'ts="" x="', 1)
        assert_refused(sync.get("/storage/col", {"Authorization": header}, signed=False))

    @pytest.mark.parametrize("skew", [-86400, -3600, 3600, 86400])
    def test_a_client_s_clock_may_be_wrong(self, sync: SyncClient, skew: int) -> None:
        """auth section 5: permissive by default, clients' clocks are bad."""
        assert sync.get("/info/collections", ts=str(int(time.time()) + skew)).status == 200

    def test_the_same_request_may_be_sent_again(self, sync: SyncClient) -> None:
        """auth section 5: HTTP stacks and proxies repeat requests, nonce and all."""
        again = {"ts": str(int(time.time())), "nonce": "abcdef=="}
        assert [sync.get("/info/collections", None, **again).status for _ in range(2)] == [200, 200]

    def test_ext_and_hash_enter_the_mac(self, sync: SyncClient) -> None:
        assert sync.get("/info/collections", ext="some, ext").status == 200
        target = f"{sync.transport.prefix}/1.5/{sync.uid}/info/collections"
        header = authorization(
            sync.credentials, "GET", target, sync.transport.host, scheme=sync.transport.scheme, ext="one"
        )
        assert_refused(
            sync.get(
                "/info/collections", {"Authorization": header.replace('ext="one"', 'ext="two"')}, signed=False
            )
        )

    @pytest.mark.parametrize("name", ["a%2Fb", "{x}", "%7Bx%7D", "a+b", "a%20b", "~x!*'()"])
    def test_the_path_is_signed_as_it_was_sent(self, sync: SyncClient, name: str) -> None:
        """auth section 5: the raw target counts, in whichever of its spellings."""
        assert sync.put(f"/storage/col/{name}", {"payload": "x"}).status == 200
        assert sync.get(f"/storage/col/{name}").status == 200

    @pytest.mark.parametrize("path", ["/storage/col/a%2fb", "/storage/col/%41", "/storage/col?"])
    def test_a_spelling_that_no_client_uses_is_known_from_the_raw_target(
        self, server: Server, sync: SyncClient, path: str
    ) -> None:
        """A front server that hands over only the decoded path leaves a guess: 401, and nothing worse."""
        sync.put("/storage/col/a%2Fb", {"payload": "x"})
        sync.put("/storage/col/A", {"payload": "x"})
        status = sync.get(path).status
        assert status == 200 or (server.settings is None and status == 401)

    @pytest.mark.parametrize("query", ["?a%2Cb={x}", "?ids=a%2Cb", "?x=MTUz==&y=%7E", "?a+b"])
    def test_the_query_is_signed_as_it_was_sent(self, sync: SyncClient, query: str) -> None:
        assert sync.get(f"/storage/col{query}").status == 200


class TestTokens:
    """auth sections 2, 4, 6 and 7."""

    def test_another_user_s_token_is_401(self, sync: SyncClient, other: SyncClient) -> None:
        """Section 21, number 14; not 400 and not 404, so that the client asks for a new token."""
        sync.put("/storage/col/a", {"payload": "mine"})
        for reply in everything(sync, credentials=other.credentials):
            assert_refused(reply)
        assert sync.get("/storage/col/a").json["payload"] == "mine"

    @pytest.mark.parametrize("secret", ["another secret", "", "A secret of the conformance suite"])
    def test_a_token_of_another_secret_is_401(self, sync: SyncClient, secret: str) -> None:
        forged = SyncClient(sync.uid, secret, sync.transport, sync.node)
        for reply in everything(forged):
            assert_refused(reply)

    def test_a_token_of_another_node_is_401(self, sync: SyncClient) -> None:
        """auth section 4: the signal of a reassignment; info/collections is no exception."""
        moved = sync.mint(node="https://elsewhere.example")
        for reply in everything(sync, credentials=moved):
            assert_refused(reply)

    def test_an_expired_token_still_opens_info_collections(self, sync: SyncClient) -> None:
        """auth section 6: expired 60 s ago is 200 there and 401 everywhere else."""
        sync.put("/storage/col/a", {"payload": "x"})
        expected = sync.get("/info/collections")
        expired = sync.mint(expires=int(time.time()) - 60)
        first, *rest = everything(sync, credentials=expired)
        assert (first.status, first.json) == (200, expected.json)
        assert first["X-Last-Modified"] == expected["X-Last-Modified"]
        for reply in rest:
            assert_refused(reply)
        assert sync.get("/storage/col").json == ["a"]

    def test_preconditions_hold_for_the_real_user_then(self, sync: SyncClient) -> None:
        """Section 9: a peer looks up the time of a user that does not exist."""
        stamp = sync.put("/storage/col/a", {"payload": "x"}).modified
        expired = sync.mint(expires=int(time.time()) - 60)
        for since, status in ((stamp, 304), (stamp - 1, 200)):
            headers = {"X-If-Modified-Since": str(since)}
            assert sync.get("/info/collections", headers, credentials=expired).status == status

    def test_one_expired_long_ago_opens_nothing(self, sync: SyncClient) -> None:
        """auth section 6: the window is 7200 s unless configured."""
        expired = sync.mint(expires=int(time.time()) - 7300)
        for reply in everything(sync, credentials=expired):
            assert_refused(reply)

    def test_an_expired_token_needs_its_signature_and_user_all_the_same(
        self, sync: SyncClient, other: SyncClient
    ) -> None:
        expired = other.mint(expires=int(time.time()) - 60)
        assert_refused(sync.get("/info/collections", credentials=expired))
        wrong = Credentials(sync.mint(expires=int(time.time()) - 60).token, "wrong")
        assert_refused(sync.get("/info/collections", credentials=wrong))

    @pytest.mark.parametrize(
        "fields",
        [
            {"uid": "7"},
            {"uid": -1},
            {"uid": None},
            {"uid": 1.5},
            {"expires": "tomorrow"},
            {"expires": None},
            {"node": None},
            {"node": 5},
            {"fxa_uid": "invalid\nuid"},
            {"fxa_kid": "invalid!kid"},
            {"fxa_uid": "a" * 65},
            {"hashed_fxa_uid": "x y"},
            {"hashed_device_id": "trailing\n"},
        ],
    )
    def test_a_token_with_a_field_out_of_form_is_401(
        self, sync: SyncClient, fields: dict[str, object]
    ) -> None:
        assert_refused(sync.get("/info/collections", credentials=sync.mint(**fields)))

    @pytest.mark.parametrize(
        "keep",
        [
            ("uid", "node", "expires", "salt"),
            ("uid", "node", "expires", "salt", "fxa_uid", "fxa_kid"),
            ("uid", "node", "expires", "salt", "device_id"),
        ],
    )
    def test_a_token_of_the_old_style_is_good(self, sync: SyncClient, keep: tuple[str, ...]) -> None:
        """auth section 2.1: without hashed ids, or with device_id."""
        fields: dict[str, object] = {
            "uid": sync.uid,
            "node": sync.node,
            "expires": time.time() + 300,  # a float, as older makers write it
            "salt": "c0ffee",
            "fxa_uid": "DECAFBAD" + "0" * 24,
            "fxa_kid": "0000000000000-DECAFBAD",
            "device_id": "d" * 32,
        }
        text = json.dumps({key: fields[key] for key in keep}).encode()
        assert sync.get("/info/collections", credentials=mint(sync.secret, text, "c0ffee")).status == 200

    @pytest.mark.parametrize("extra", ["tokenserver_origin", "anything"])
    def test_unknown_fields_are_ignored(self, sync: SyncClient, extra: str) -> None:
        assert sync.get("/info/collections", credentials=sync.mint(**{extra: "rust"})).status == 200

    @pytest.mark.parametrize("damage", ["", "A", "QUJD", "no base64 !", "\u00e9", "=" * 80, "A" * 5000])
    def test_what_is_no_token_is_401(self, sync: SyncClient, damage: str) -> None:
        if damage.isascii():
            assert_refused(
                sync.get("/info/collections", credentials=Credentials(damage, sync.credentials.key))
            )

    def test_a_token_changed_in_one_place_is_401(self, sync: SyncClient) -> None:
        token = sync.credentials.token
        for index in (0, 10, len(token) // 2, len(token) - 10):
            changed = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
            assert_refused(
                sync.get("/info/collections", credentials=Credentials(changed, sync.credentials.key))
            )
        for changed in (token[:-8], token + "AAAA", " " + token):
            assert_refused(
                sync.get("/info/collections", credentials=Credentials(changed, sync.credentials.key))
            )

    @pytest.mark.parametrize("payload", [b"not json", b"[]", b"null", b"{}", b'"x"', b"\xff", b""])
    def test_a_signed_token_without_an_object_is_401(self, sync: SyncClient, payload: bytes) -> None:
        assert_refused(sync.get("/info/collections", credentials=mint(sync.secret, payload, "")))

    def test_every_configured_secret_is_good(self, configured: Callable[..., SyncClient]) -> None:
        """auth section 3: tokens are verified against all secrets, newest last."""
        user = configured(**{"auth.secrets": "first-secret second-secret third-secret"})
        for secret in ("first-secret", "second-secret", "third-secret"):
            client = SyncClient(user.uid, secret, user.transport)
            assert client.get("/info/collections").status == 200
        assert_refused(SyncClient(user.uid, "fourth", user.transport).get("/info/collections"))

    def test_a_bad_signature_comes_before_a_bad_body(self, sync: SyncClient) -> None:
        """Section 2.1: 404 and 405, then 401, then everything else."""
        assert_refused(sync.post("/storage/col", "nonsense", signed=False))
        assert_refused(sync.get("/storage/col?limit=x", signed=False))
        assert_refused(sync.put("/storage/col/a", "x", {"Content-Type": "x/y"}, signed=False))
        assert_refused(sync.get("/storage/col", {"X-If-Modified-Since": "x"}, signed=False))
