"""The authenticator: who gets in, every way to stay out, and the libraries' clients as the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import hawkauthlib
import pytest
import tokenlib
from hypothesis import given
from hypothesis import strategies as st
from webob import Request

from syncstore.auth.authenticator import Authenticator, Identity
from syncstore.auth.hawk import payload_hash, sign
from syncstore.auth.origin import ClientOrigin
from syncstore.auth.reasons import Reason
from syncstore.auth.secrets import DerivedSecrets, FixedSecrets, NodeSecrets, Secrets
from syncstore.auth.tokens import derive_key, make_token
from syncstore.errors import InvalidRequest, Unauthorized

NODE = "http://localhost:5000"
SECRET = "a secret of the tests"
NOW = 1_700_000_000.0
URL = f"{NODE}/1.5/7/info/collections"

T2_TOKEN = (
    "eyJ1aWQiOjQyOTQ5NjcyOTUsIm5vZGUiOiJodHRwczovL3N5bmMuZXhhbXBsZS5jb20vc3RvcmFnZSIsImV4cGlyZXMiOjIwMDAwMDAw"
    "MDAsImZ4YV91aWQiOiIwMDExMjIzMzQ0NTU2Njc3ODg5OWFhYmJjY2RkZWVmZiIsImZ4YV9raWQiOiIwMDAxNzAwMDAwMDAwLXFydk0z"
    "USIsImhhc2hlZF9meGFfdWlkIjoiYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWEiLCJoYXNoZWRfZGV2aWNlX2lkIjoiYmJi"
    "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmIiLCJzYWx0IjoiYzBmZmVlIn3qWdbOwbCvmxnOveCcuL9tDaFSFPHr8_vntNRr4rzy"
    "fQ=="
)


class FakeClock:
    """A clock that stands where the test puts it."""

    def __init__(self, seconds: float = NOW) -> None:
        self.time = seconds

    def now(self) -> int:
        return int(self.time * 100)

    def now_ms(self) -> int:
        return int(self.time * 1000)

    def seconds(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def build(
    secrets: Secrets | Sequence[str] = (SECRET,),
    *,
    clock: FakeClock | None = None,
    public_url: str | None = None,
    trusted_proxies: Sequence[str] = (),
    **options: Any,
) -> Authenticator:
    if isinstance(secrets, Sequence):
        secrets = FixedSecrets(secrets)
    return Authenticator(
        secrets,
        ClientOrigin(public_url, trusted_proxies),
        clock or FakeClock(),
        **{"cache_size": 64, **options},
    )


def token_for(secret: str = SECRET, **claims: object) -> tuple[str, str]:
    """A token and its key."""
    token = make_token({"uid": 7, "node": NODE, "expires": NOW + 300} | claims, secret)
    return token, derive_key(token, secret)


def environ(
    url: str = URL, method: str = "GET", authorization: str | None = None, **more: str
) -> dict[str, Any]:
    """The request as a server hands it over that does not tell the raw target."""
    made: dict[str, Any] = Request.blank(url, method=method).environ | {"REMOTE_ADDR": "127.0.0.1"} | more
    return made if authorization is None else made | {"HTTP_AUTHORIZATION": authorization}


def signed(
    url: str = URL, method: str = "GET", *, credentials: tuple[str, str] | None = None, **attributes: Any
) -> dict[str, Any]:
    token, key = credentials or token_for()
    return environ(url, method, sign(method, url, token, key, **{"ts": int(NOW), **attributes}))


def refusal(authenticator: Authenticator, request: dict[str, Any], uid: int = 7, **options: bool) -> str:
    with pytest.raises(Unauthorized) as caught:
        authenticator.authenticate(request, uid, **options)
    assert isinstance(caught.value.reason, Reason)
    return caught.value.reason


def test_it_accepts_the_known_request() -> None:
    mac = "C8dUalZGrXNaKZecektO/CLroPCDnzo7uHLhEGBl9zc="
    header = f'Hawk ts="1700000000", nonce="AAAAAAA=", id="{T2_TOKEN}", mac="{mac}"'
    request = environ("https://sync.example.com/1.5/4294967295/info/collections", authorization=header)
    for secrets in (["kat-secret-0123456789abcdef"], ["kat-secret-0123456789abcdef", "newer"]):
        identity = build(secrets, public_url="https://sync.example.com/storage").authenticate(
            request, 4294967295
        )

        assert identity == Identity(
            uid=4294967295,
            fxa_uid="00112233445566778899aabbccddeeff",
            fxa_kid="0001700000000-qrvM3Q",
            hashed_fxa_uid="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            hashed_device_id="bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        )


def test_it_accepts_the_same_request_again() -> None:
    authenticator, request = build(), signed()

    assert authenticator.authenticate(request, 7) == authenticator.authenticate(request, 7)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"])
def test_the_method_is_signed(method: str) -> None:
    request = signed(method=method)

    assert build().authenticate(request, 7).uid == 7
    assert refusal(build(), request | {"REQUEST_METHOD": "PATCH"}) == Reason.WRONG_MAC


@pytest.mark.parametrize("ts", [0, -5, 1, int(NOW) + 10**6, 10**30])
def test_any_timestamp_will_do(ts: int) -> None:
    assert build().authenticate(signed(ts=ts), 7).uid == 7


@pytest.mark.parametrize("header", [None, "", "Basic dTpw", "Bearer x", "Hawk", "Token " + "x" * 250_000])
def test_it_refuses_a_request_without_a_hawk_header(header: str | None) -> None:
    expected = {Reason.NO_HEADER} if header is None else {Reason.OTHER_SCHEME, Reason.MALFORMED_HEADER}

    assert refusal(build(), environ(authorization=header)) in expected


@pytest.mark.parametrize("attribute", ["id", "ts", "nonce", "mac"])
@pytest.mark.parametrize("cached", [False, True])
def test_it_refuses_a_header_with_any_attribute_changed(attribute: str, cached: bool) -> None:
    authenticator, request = build(), signed(nonce="abcdefgh")
    if cached:
        authenticator.authenticate(request, 7)
    before, name, after = request["HTTP_AUTHORIZATION"].partition(f'{attribute}="')
    changed = before + name + ("1" if after[0] != "1" else "2") + after[1:]

    assert refusal(authenticator, request | {"HTTP_AUTHORIZATION": changed}) in (
        {Reason.MALFORMED_TOKEN, Reason.TOKEN_SIGNATURE} if attribute == "id" else {Reason.WRONG_MAC}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"PATH_INFO": "/1.5/7/info/quota"},
        {"PATH_INFO": "/1.5/7/info/collections/"},
        {"QUERY_STRING": "a=1"},
        {"SCRIPT_NAME": "/x", "HTTP_HOST": "localhost:5000"},
        {"RAW_URI": "/1.5/7/info/quota", "PATH_INFO": "/1.5/7/info/quota"},
    ],
)
def test_it_refuses_a_signature_of_another_target(change: dict[str, str]) -> None:
    assert refusal(build(check_node=False), signed() | change) == Reason.WRONG_MAC


@pytest.mark.parametrize(
    "change",
    [
        {"HTTP_HOST": "localhost"},
        {"HTTP_HOST": "example.com:5000"},
        {"wsgi.url_scheme": "https", "HTTP_HOST": "h"},
    ],
)
def test_it_refuses_a_signature_for_another_host(change: dict[str, str]) -> None:
    assert refusal(build(check_node=False), signed() | change) == Reason.WRONG_MAC
    assert refusal(build(), signed() | change) in (Reason.WRONG_NODE, Reason.TOKEN_SIGNATURE)


def test_it_refuses_the_key_of_another_token() -> None:
    assert refusal(build(), signed(credentials=(token_for()[0], token_for()[1]))) == Reason.WRONG_MAC


def test_it_refuses_the_token_of_another_user() -> None:
    request = signed(credentials=token_for(uid=8))

    assert refusal(build(), request) == Reason.WRONG_UID
    assert build().authenticate(request, 8).uid == 8


@pytest.mark.parametrize("host", ["localhost:x", "localhost:0", "localhost:99999", "a b"])
def test_a_host_that_names_none_is_an_invalid_request(host: str) -> None:
    with pytest.raises(InvalidRequest):
        build().authenticate(signed() | {"HTTP_HOST": host}, 7)


@pytest.mark.parametrize(
    "claims", [{"uid": "7"}, {"uid": True}, {"fxa_uid": "a!"}, {"hashed_fxa_uid": "x"}, {"node": 1}]
)
def test_it_refuses_a_token_with_wrong_fields(claims: dict[str, object]) -> None:
    token = make_token({"uid": 7, "node": NODE, "expires": NOW + 300, "salt": "abc"} | claims, SECRET)

    assert refusal(build(), signed(credentials=(token, "any key"))) == Reason.TOKEN_FIELDS


# expiry


@pytest.mark.parametrize("cached", [False, True])
def test_a_token_ends_at_its_expiry(cached: bool) -> None:
    clock = FakeClock()
    authenticator, request = build(clock=clock), signed(credentials=token_for(expires=NOW + 300))
    if cached:
        authenticator.authenticate(request, 7)

    clock.time = NOW + 299.9
    assert not authenticator.authenticate(request, 7).expired
    for later in (300, 300.1, 10**6):
        clock.time = NOW + later
        assert refusal(authenticator, request) == Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("cached", [False, True])
def test_an_expired_token_is_tolerated_within_the_window_where_asked_for(cached: bool) -> None:
    clock = FakeClock()
    authenticator = build(clock=clock, expired_token_window=7200.0)
    request = signed(credentials=token_for(expires=NOW, fxa_uid="u", fxa_kid="k", hashed_fxa_uid="h"))
    if cached:
        clock.time = NOW - 1
        assert authenticator.authenticate(request, 7, tolerate_expired=True) == Identity(
            7, "u", "k", "h", None
        )

    for later in (0, 60, 7199.9):
        clock.time = NOW + later
        identity = authenticator.authenticate(request, 7, tolerate_expired=True)
        assert identity == Identity(7, "u", "k", "h", None, expired=True)
        assert refusal(authenticator, request) == Reason.TOKEN_EXPIRED
    for later in (7200, 10**9):
        clock.time = NOW + later
        assert refusal(authenticator, request, tolerate_expired=True) == Reason.TOKEN_EXPIRED


def test_an_expired_token_must_still_be_right_in_all_else() -> None:
    authenticator = build()
    expired = token_for(expires=NOW - 60)

    assert (
        refusal(authenticator, signed(credentials=expired), uid=8, tolerate_expired=True) == Reason.WRONG_UID
    )
    assert (
        refusal(authenticator, signed(credentials=(expired[0], "x")), tolerate_expired=True)
        == Reason.WRONG_MAC
    )
    other_node = token_for(expires=NOW - 60, node="http://other")
    assert refusal(authenticator, signed(credentials=other_node), tolerate_expired=True) == Reason.WRONG_NODE


def test_no_window_tolerates_nothing() -> None:
    request = signed(credentials=token_for(expires=NOW))

    assert refusal(build(expired_token_window=0.0), request, tolerate_expired=True) == Reason.TOKEN_EXPIRED


# nodes


@pytest.mark.parametrize(
    "node", ["http://localhost:5001", "https://localhost:5000", f"{NODE}/x", f"{NODE}/", "", "x"]
)
def test_it_refuses_a_token_of_another_node(node: str) -> None:
    request = signed(credentials=token_for(node=node))

    assert refusal(build(), request) == Reason.WRONG_NODE
    assert refusal(build(accepted_nodes=["http://elsewhere", NODE]), request) == Reason.WRONG_NODE
    assert build(check_node=False).authenticate(request, 7).uid == 7


def test_it_accepts_the_listed_nodes_and_only_those() -> None:
    authenticator = build(accepted_nodes=["http://one/", "HTTP://Two:80"])

    for node in ("http://one", "http://two", "http://TWO:80"):
        assert authenticator.authenticate(signed(credentials=token_for(node=node)), 7).uid == 7
    assert refusal(authenticator, signed()) == Reason.WRONG_NODE


def test_a_cached_token_is_not_good_for_another_node() -> None:
    authenticator, credentials = build(), token_for()
    authenticator.authenticate(signed(credentials=credentials), 7)

    there = "http://elsewhere:5000/1.5/7/info/collections"
    assert refusal(authenticator, signed(there, credentials=credentials)) == Reason.WRONG_NODE


def test_the_path_of_the_deployment_belongs_to_the_node() -> None:
    url = "https://example.com/ff/1.5/7/info/collections"
    request = signed(url, credentials=token_for(node="https://example.com/ff"))
    mounted = request | {"SCRIPT_NAME": "/ff", "PATH_INFO": "/1.5/7/info/collections"}

    assert build().authenticate(mounted, 7).uid == 7
    assert refusal(build(), request) == Reason.WRONG_NODE
    assert build(public_url="https://example.com/ff").authenticate(request, 7).uid == 7


# secrets


def test_a_rotation_of_secrets_locks_nobody_out() -> None:
    before, during, after = build(["old"]), build(["old", "new"]), build(["new"])
    old, new = (signed(credentials=token_for(secret)) for secret in ("old", "new"))

    assert before.authenticate(old, 7).uid == during.authenticate(old, 7).uid == 7
    assert during.authenticate(new, 7).uid == after.authenticate(new, 7).uid == 7
    assert refusal(before, new) == refusal(after, old) == Reason.TOKEN_SIGNATURE


NODE_FILE = ["http://one,1:first,2:second", "http://two,1:third"]
PER_NODE = {"file": NodeSecrets(NODE_FILE), "derived": DerivedSecrets(["an older master", "a newer master"])}


@pytest.mark.parametrize("secrets", PER_NODE.values(), ids=PER_NODE)
@pytest.mark.parametrize("accepted_nodes", [(), ("http://one", "http://two")])
def test_a_node_cannot_sign_for_another(secrets: Secrets, accepted_nodes: Sequence[str]) -> None:
    authenticator = build(secrets, accepted_nodes=accepted_nodes)
    for node, other in (("http://one", "http://two"), ("http://two", "http://one")):
        url = f"{node}/1.5/7/info/collections"
        for secret in secrets.for_node(node):
            assert (
                authenticator.authenticate(signed(url, credentials=token_for(secret, node=node)), 7).uid == 7
            )
        foreign = signed(url, credentials=token_for(secrets.for_node(other)[0], node=node))
        assert refusal(authenticator, foreign) in (Reason.WRONG_NODE, Reason.TOKEN_SIGNATURE)


@pytest.mark.parametrize("secrets", PER_NODE.values(), ids=PER_NODE)
def test_the_unsigned_payload_names_no_secret(secrets: Secrets) -> None:
    asked: list[str] = []

    class Watched:
        def for_node(self, node: str) -> tuple[str, ...]:
            asked.append(node)
            return secrets.for_node(node)

    refusal(build(Watched()), signed(credentials=token_for("forged", node="http://chosen")))

    assert set(asked) == {NODE}


def test_an_unknown_node_has_no_secret() -> None:
    assert refusal(build(NodeSecrets(NODE_FILE)), signed()) == Reason.TOKEN_SIGNATURE


# the cache


def test_the_cache_is_bounded_and_keeps_only_verified_tokens() -> None:
    authenticator = build(cache_size=8)
    for number in range(40):
        good, bad = token_for(salt=str(number)), token_for("another secret", salt=str(number))
        authenticator.authenticate(signed(credentials=good), 7)
        refusal(authenticator, signed(credentials=bad))

    assert 0 < len(authenticator._cache) <= 8


def test_a_cached_token_is_not_verified_again_until_it_is_forgotten() -> None:
    calls: list[str] = []

    class Watched:
        def for_node(self, node: str) -> tuple[str, ...]:
            calls.append(node)
            return (SECRET,)

    authenticator, request = build(Watched()), signed()
    authenticator.authenticate(request, 7)
    count = len(calls)
    authenticator.authenticate(request, 7)
    assert len(calls) == count

    authenticator.forget_tokens()
    authenticator.authenticate(request, 7)
    assert len(calls) == 2 * count


# payload hashes


def test_a_payload_hash_is_verified_only_where_that_is_switched_on() -> None:
    body, kind = b'{"payload":"x"}', "application/json; charset=utf-8"
    request = signed(method="PUT", body_hash=payload_hash(kind, body))
    on, off = (build(verify_payload_hash=flag).authenticate(request, 7) for flag in (True, False))

    on.verify_payload(kind, body)
    for other_kind, other_body in ((kind, b"{}"), ("text/plain", body)):
        off.verify_payload(other_kind, other_body)
        with pytest.raises(Unauthorized) as caught:
            on.verify_payload(other_kind, other_body)
        assert caught.value.reason == Reason.WRONG_PAYLOAD_HASH


def test_a_client_need_not_send_a_payload_hash() -> None:
    build(verify_payload_hash=True).authenticate(signed(method="PUT"), 7).verify_payload("text/plain", b"any")


def test_the_hash_attribute_is_signed() -> None:
    header = signed(body_hash="abc=")["HTTP_AUTHORIZATION"].replace("abc=", "abd=")

    assert refusal(build(), environ(authorization=header)) == Reason.WRONG_MAC


# proxies


def test_forwarded_headers_count_only_from_a_trusted_proxy() -> None:
    node = "https://sync.example.com"
    inside = signed(f"{node}/1.5/7/info/collections", credentials=token_for(node=node)) | {
        "HTTP_HOST": "10.0.0.5:8000",
        "wsgi.url_scheme": "http",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_HOST": "sync.example.com",
        "REMOTE_ADDR": "10.0.0.1",
    }

    assert build(trusted_proxies=["10.0.0.0/24"]).authenticate(inside, 7).uid == 7
    for proxies in ([], ["10.0.0.2"], ["192.168.0.0/16"]):
        assert refusal(build(trusted_proxies=proxies), inside) == Reason.WRONG_NODE


def test_public_url_holds_whatever_the_proxy_did() -> None:
    node = "https://sync.example.com/ff"
    request = signed(f"{node}/1.5/7/info/collections?x={{}}", credentials=token_for(node=node))
    stripped = {
        "HTTP_HOST": "backend:8000",
        "wsgi.url_scheme": "http",
        "PATH_INFO": "/1.5/7/info/collections",
    }
    for raw in (
        {},
        {"REQUEST_URI": "/1.5/7/info/collections?x={}"},
        {"RAW_URI": "/ff/1.5/7/info/collections?x={}"},
    ):
        assert build(public_url=node).authenticate(request | stripped | raw, 7).uid == 7


# unusual ids: each way to write them, against each way a server tells of it

QUOTINGS = {
    "WebOb": lambda item: quote(item, safe="/~!$&'()*+,;=:@"),
    "encodeURIComponent": lambda item: quote(item, safe="!~*'()"),
    "Python": lambda item: quote(item, safe=""),
    "browser": lambda item: quote(item, safe="/~!$&'()*+,;=:@[]\\|"),
}


@pytest.mark.parametrize("server", ["REQUEST_URI", "RAW_URI", "none"])
@pytest.mark.parametrize("quoting", QUOTINGS)
@pytest.mark.parametrize(
    "item",
    [
        "abc",
        "a/b",
        "a+b=",
        "{6820f3ca}",
        "a|b",
        "[x]",
        "!~*'()",
        "a b",
        'q"<>^`',
        "50%",
        "a?b#c",
        "x\\y",
        "é",
        "~",
    ],
)
def test_every_usual_way_to_write_an_id_verifies(item: str, quoting: str, server: str) -> None:
    target = f"/1.5/7/storage/bookmarks/{QUOTINGS[quoting](item)}"
    token, key = token_for()
    request = environ(authorization=sign("GET", NODE + target, token, key, ts=1)) | {
        "PATH_INFO": f"/1.5/7/storage/bookmarks/{item}".encode().decode("latin-1")
    }
    if server != "none":
        request[server] = target

    assert build().authenticate(request, 7).uid == 7
    assert (
        refusal(build(), request | {"PATH_INFO": request["PATH_INFO"] + "x", server: target + "x"})
        == Reason.WRONG_MAC
    )


@pytest.mark.parametrize("server", ["REQUEST_URI", "RAW_URI"])
def test_a_client_that_signs_the_form_of_webob_verifies_beside_a_raw_target(server: str) -> None:
    token, key = token_for()
    header = sign("GET", f"{NODE}/1.5/7/storage/c/%7Bx%7D", token, key, ts=1)
    request = environ(authorization=header) | {
        "PATH_INFO": "/1.5/7/storage/c/{x}",
        server: "/1.5/7/storage/c/{x}",
    }

    assert build().authenticate(request, 7).uid == 7


def test_a_lone_question_mark_is_signed_where_the_server_shows_it() -> None:
    token, key = token_for()
    request = environ(authorization=sign("GET", URL + "?", token, key, ts=1))

    assert build().authenticate(request | {"RAW_URI": urlsplit(URL).path + "?"}, 7).uid == 7


# the libraries as clients, and noise


@given(
    query=st.text("abc019=&{}[]|%~+", max_size=20),
    item=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    host=st.sampled_from(["localhost:5000", "sync.example.com", "Sync.Example.com:8443"]),
    scheme=st.sampled_from(["http", "https"]),
    uid=st.integers(0, 10**10 - 1),
)
def test_it_accepts_whatever_the_libraries_sign(
    query: str, item: str, method: str, host: str, scheme: str, uid: int
) -> None:
    data = {"uid": uid, "node": f"{scheme}://{host}", "expires": NOW + 1, "fxa_uid": "x"}
    token = tokenlib.make_token(data, secret=SECRET)
    request = Request.blank(
        f"/1.5/{uid}/storage/col/{quote(item, safe='')}" + ("?" + query if query else ""),
        base_url=f"{scheme}://{host}",
        method=method,
    )
    hawkauthlib.sign_request(request, token, tokenlib.get_derived_secret(token, secret=SECRET))

    assert build().authenticate(request.environ, uid).hashed_fxa_uid == "x"


@given(text=st.text(max_size=300), how=st.sampled_from(["bare", "hawk", "id", "cut"]))
def test_no_authorization_makes_it_fail_otherwise(text: str, how: str) -> None:
    good: str = signed()["HTTP_AUTHORIZATION"]
    header = {
        "bare": text,
        "hawk": "Hawk " + text,
        "id": f'Hawk id="{text}", ts="1", nonce="n", mac="m"',
        "cut": good[: len(text) + 20] + text[:2],
    }[how]

    refusal(build(), environ(authorization=header))


@pytest.mark.parametrize(
    "header",
    [
        'Hawk id="' + "A" * 250_000 + '", ts="1", nonce="n", mac="m"',
        "Hawk " + 'a="b",' * 50_000,
        "Hawk " + "\\" * 250_000,
        "\xff" * 250_000,
        'Hawk id="AAAA", ts="' + "9" * 4000 + '", nonce="n", mac="m"',
        f'Hawk id="{T2_TOKEN[:-5]}", ts="1", nonce="n", mac="m"',
        f'Hawk id="{T2_TOKEN}", ts="1", nonce="n", mac="\xe9"',
    ],
)
def test_it_refuses_monstrous_headers(header: str) -> None:
    refusal(build(), environ(authorization=header))


@given(
    changes=st.dictionaries(
        st.sampled_from(["HTTP_HOST", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "RAW_URI", "REQUEST_URI",
                         "REQUEST_METHOD", "REMOTE_ADDR", "HTTP_FORWARDED", "HTTP_X_FORWARDED_PROTO"]),
        st.text(max_size=40),
        min_size=1,
    )
)  # fmt: skip
def test_no_environ_makes_it_fail_otherwise(changes: dict[str, str]) -> None:
    authenticator = build(check_node=False, trusted_proxies=["127.0.0.1"])
    try:
        authenticator.authenticate(signed() | changes, 7)
    except (Unauthorized, InvalidRequest):
        return


def test_no_refusal_says_a_secret_or_a_key() -> None:
    token, key = token_for()
    for request, uid in ((signed(credentials=(token, "wrong")), 7), (signed(credentials=(token, key)), 8)):
        with pytest.raises(Unauthorized) as caught:
            build().authenticate(request, uid)
        shown = repr(caught.value) + str(caught.value)
        assert not any(hidden in shown for hidden in (SECRET, key, token))
