"""Tokens: the known answers, every way in which a token can be wrong, and tokenlib as the oracle."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
import tokenlib
from hypothesis import given
from hypothesis import strategies as st

from syncstore.auth.hkdf import hkdf_sha256
from syncstore.auth.reasons import Reason
from syncstore.auth.tokens import derive_key, make_token, read_token
from syncstore.errors import Unauthorized

T1_SECRET = "Ted Koppel is a robot"
T1_TOKEN = (
    "eyJ1aWQiOiAxLCAibm9kZSI6ICJodHRwOi8vbG9jYWxob3N0OjUwMDAiLCAiZXhwaXJlcyI6IDE4ODQ5Njg0MzkuMCwgImZ4YV91aWQ"
    "iOiAiMzE5Yjk4Zjk5NjFmZjFkYmRkMDczMTNjZDZiYTkyNWEiLCAiZnhhX2tpZCI6ICJkZTY5N2FkNjZkODQ1YjI4NzNjOWQ3ZTEzYj"
    "g5NzFhZiIsICJoYXNoZWRfZnhhX3VpZCI6ICIwZThkZjVkNDEzOThhMzg5OTEzYmQ4NDAyNDM1NjQ5NTE4YWY0NjQ5M2RhMWQ0YTQzN"
    "2E0NmRjMTc4NGM1MDFhIiwgImhhc2hlZF9kZXZpY2VfaWQiOiAiMmJjYjkyZjRkNDY5OGMzZDdiMDgzYTNjNjk4YTE2Y2NkNzhiYzJh"
    "OGQyMGE5NmU0YmIxMjhkZGNlYWY0ZTBiNiIsICJzYWx0IjogIjJiMzA3YiJ9lXaC5pIOenf7qL1AWlgKFvYH63nakyniTXP-7acS5cw"
    "="
)
T1_CLAIMS = {
    "uid": 1,
    "node": "http://localhost:5000",
    "expires": 1884968439.0,
    "fxa_uid": "319b98f9961ff1dbdd07313cd6ba925a",
    "fxa_kid": "de697ad66d845b2873c9d7e13b8971af",
    "hashed_fxa_uid": "0e8df5d41398a389913bd8402435649518af46493da1d4a437a46dc1784c501a",
    "hashed_device_id": "2bcb92f4d4698c3d7b083a3c698a16ccd78bc2a8d20a96e4bb128ddceaf4e0b6",
    "salt": "2b307b",
}
T1_KEY = "dSi3EoZyHwgDp-O9OG1jRHtmbGl2M1bwcWsi04C4F58="

T2_SECRET = "kat-secret-0123456789abcdef"
T2_CLAIMS = {
    "uid": 4294967295,
    "node": "https://sync.example.com/storage",
    "expires": 2000000000,
    "fxa_uid": "00112233445566778899aabbccddeeff",
    "fxa_kid": "0001700000000-qrvM3Q",
    "hashed_fxa_uid": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "hashed_device_id": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "salt": "c0ffee",
}
T2_TOKEN = (
    "eyJ1aWQiOjQyOTQ5NjcyOTUsIm5vZGUiOiJodHRwczovL3N5bmMuZXhhbXBsZS5jb20vc3RvcmFnZSIsImV4cGlyZXMiOjIwMDAwMDAw"
    "MDAsImZ4YV91aWQiOiIwMDExMjIzMzQ0NTU2Njc3ODg5OWFhYmJjY2RkZWVmZiIsImZ4YV9raWQiOiIwMDAxNzAwMDAwMDAwLXFydk0z"
    "USIsImhhc2hlZF9meGFfdWlkIjoiYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWEiLCJoYXNoZWRfZGV2aWNlX2lkIjoiYmJi"
    "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmIiLCJzYWx0IjoiYzBmZmVlIn3qWdbOwbCvmxnOveCcuL9tDaFSFPHr8_vntNRr4rzy"
    "fQ=="
)
T2_KEY = "3NX8HjSfXWNiSdNavDshEw6x0e2lrCEMpsFXKRYJ-yk="

T4_NODE1_SECRET = "ea3b9d845329666ae2ae72d612bea237519a17274207dd175a0ae14feaf8d5ea"
T4_TOKEN = (
    "eyJ1aWQiOjcsIm5vZGUiOiJodHRwczovL25vZGUxLmV4YW1wbGUuY29tIiwiZXhwaXJlcyI6MjAwMDAwMDAwMCwic2FsdCI6ImFiY2Rl"
    "ZiJ91EKBkknoVTaIYHzkEgCkcNk3Yk9k_CgrwT5Qv-zAYEQ="
)
T4_KEY = "-24PNfKeuO1ZjXel8QMcEtgshvXuLxj0yheaCKAU7_A="

MINIMAL = {"uid": 7, "node": "https://node1.example.com", "expires": 2000000000, "salt": "abcdef"}
SECRET = "a secret of the tests"


def signed(payload: bytes, secret: str = SECRET) -> str:
    """A token with a right signature over any payload at all."""
    key = hkdf_sha256(secret.encode(), info=b"services.mozilla.com/tokenlib/v1/signing", length=32)
    return urlsafe_b64encode(payload + hmac.digest(key, payload, "sha256")).decode()


def refusal(text: str, *secrets: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        read_token(text, secrets or (SECRET,))
    return caught.value.reason


@pytest.mark.parametrize(
    ("text", "secret", "claims"), [(T1_TOKEN, T1_SECRET, T1_CLAIMS), (T2_TOKEN, T2_SECRET, T2_CLAIMS)]
)
def test_it_reads_the_known_tokens(text: str, secret: str, claims: dict[str, Any]) -> None:
    token = read_token(text, (secret,))

    assert {name: getattr(token, name) for name in claims} == claims


def test_it_reads_a_token_without_account_ids() -> None:
    token = read_token(T4_TOKEN, (T4_NODE1_SECRET,))

    assert (token.uid, token.node, token.expires) == (7, "https://node1.example.com", 2000000000)
    assert (token.fxa_uid, token.fxa_kid, token.hashed_fxa_uid, token.hashed_device_id) == (None,) * 4


@pytest.mark.parametrize(
    ("text", "secret", "key"),
    [(T1_TOKEN, T1_SECRET, T1_KEY), (T2_TOKEN, T2_SECRET, T2_KEY), (T4_TOKEN, T4_NODE1_SECRET, T4_KEY)],
)
def test_it_derives_the_known_keys(text: str, secret: str, key: str) -> None:
    assert derive_key(text, secret) == key
    assert derive_key(text, secret, read_token(text, (secret,)).salt) == key


@pytest.mark.parametrize(
    ("claims", "secret", "text"), [(T2_CLAIMS, T2_SECRET, T2_TOKEN), (MINIMAL, T4_NODE1_SECRET, T4_TOKEN)]
)
def test_it_makes_the_known_tokens(claims: dict[str, Any], secret: str, text: str) -> None:
    assert make_token(claims, secret) == text


def test_a_made_token_gets_a_salt_of_its_own() -> None:
    claims = {"uid": 1, "node": "http://localhost", "expires": 1}
    salts = {read_token(make_token(claims, SECRET), (SECRET,)).salt for _ in range(20)}

    assert len(salts) > 15
    assert all(len(salt) == 6 and int(salt, 16) >= 0 for salt in salts)


@pytest.mark.parametrize("missing", ["uid", "node", "expires"])
def test_it_makes_no_token_without_a_required_claim(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        make_token({name: value for name, value in MINIMAL.items() if name != missing}, SECRET)


def test_it_tells_which_secret_had_signed() -> None:
    token = make_token(MINIMAL, "old")

    assert read_token(token, ("older", "old", "new")).secret_index == 1
    assert read_token(token, ("old",)).secret_index == 0
    assert refusal(token, "older", "new") == Reason.TOKEN_SIGNATURE


def test_it_refuses_every_token_when_there_is_no_secret() -> None:
    with pytest.raises(Unauthorized) as caught:
        read_token(T2_TOKEN, ())
    assert caught.value.reason == Reason.TOKEN_SIGNATURE


def test_it_shows_no_secret_and_no_key() -> None:
    assert SECRET not in repr(read_token(make_token(MINIMAL, SECRET), (SECRET,)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (T2_TOKEN[:-6] + "AAAA==", Reason.TOKEN_SIGNATURE),
        (T2_TOKEN.rstrip("="), Reason.MALFORMED_TOKEN),
        (T2_TOKEN[:-1], Reason.MALFORMED_TOKEN),
        (T2_TOKEN + "=", Reason.MALFORMED_TOKEN),
        (T2_TOKEN + "AAAA", Reason.MALFORMED_TOKEN),
        (T2_TOKEN + "\n", Reason.MALFORMED_TOKEN),
        (" " + T2_TOKEN, Reason.MALFORMED_TOKEN),
        (T2_TOKEN[:8] + "!" + T2_TOKEN[8:], Reason.MALFORMED_TOKEN),
        (T2_TOKEN.replace("_", "/"), Reason.MALFORMED_TOKEN),
        (T2_TOKEN.replace("fQ==", "fR=="), Reason.MALFORMED_TOKEN),  # stray bits, the same bytes
        (T2_TOKEN[:8] + "é" + T2_TOKEN[9:], Reason.MALFORMED_TOKEN),
        ("", Reason.MALFORMED_TOKEN),
        ("QUJD", Reason.MALFORMED_TOKEN),
        ("A" * 100_000, Reason.MALFORMED_TOKEN),
        (urlsafe_b64encode(bytes(32)).decode(), Reason.MALFORMED_TOKEN),
        (urlsafe_b64encode(bytes(33)).decode(), Reason.TOKEN_SIGNATURE),
    ],
)
def test_it_refuses_a_text_that_is_no_token(text: str, reason: Reason) -> None:
    assert refusal(text, T2_SECRET) == reason


def test_it_refuses_each_flipped_bit() -> None:
    raw = urlsafe_b64decode(T4_TOKEN)
    for position in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[position // 8] ^= 1 << position % 8
        assert refusal(urlsafe_b64encode(flipped).decode(), T4_NODE1_SECRET) == Reason.TOKEN_SIGNATURE


def test_it_does_not_read_the_payload_before_the_signature() -> None:
    unsigned = urlsafe_b64encode(b"not json at all" + bytes(32)).decode()

    assert refusal(unsigned) == Reason.TOKEN_SIGNATURE


@pytest.mark.parametrize(
    "payload", [b"{", b"nothing", b'{"uid":1} x', b'{"uid":1,"x":' + b"[" * 2000, b'{"uid":NaN}', b"\xff\xfe"]
)
def test_it_refuses_a_signed_payload_that_is_no_json(payload: bytes) -> None:
    assert refusal(signed(payload)) in (Reason.MALFORMED_TOKEN, Reason.TOKEN_FIELDS)


@pytest.mark.parametrize("payload", [b"[]", b"1", b"null", b'"text"', b"{}"])
def test_it_refuses_a_signed_payload_that_is_no_object_of_claims(payload: bytes) -> None:
    assert refusal(signed(payload)) == Reason.TOKEN_FIELDS


@pytest.mark.parametrize("missing", ["uid", "node", "expires", "salt"])
def test_it_refuses_a_token_without_a_required_field(missing: str) -> None:
    claims = {name: value for name, value in MINIMAL.items() if name != missing}

    assert refusal(signed(json.dumps(claims).encode())) == Reason.TOKEN_FIELDS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uid", True),
        ("uid", False),
        ("uid", "7"),
        ("uid", -1),
        ("uid", 7.0),
        ("uid", None),
        ("uid", 10**10),
        ("uid", 10**100),
        ("node", 1),
        ("node", None),
        ("expires", "2000000000"),
        ("expires", True),
        ("expires", None),
        ("expires", 10**400),
        ("salt", 0xABCDEF),
        ("salt", None),
    ],
)
def test_it_refuses_a_field_of_the_wrong_type_or_range(name: str, value: object) -> None:
    assert refusal(signed(json.dumps({**MINIMAL, name: value}).encode())) == Reason.TOKEN_FIELDS


@pytest.mark.parametrize("name", ["fxa_uid", "fxa_kid", "hashed_fxa_uid", "hashed_device_id", "device_id"])
@pytest.mark.parametrize(
    "value", ["invalid\nuid", "invalid!kid", "trailing\n", "", "x" * 65, "é", 5, None, ["x"]]
)
def test_it_refuses_an_id_of_another_syntax(name: str, value: object) -> None:
    assert refusal(signed(json.dumps({**T2_CLAIMS, name: value}).encode())) == Reason.TOKEN_FIELDS


@pytest.mark.parametrize("value", ["x", "DECAFBAD" + "0" * 24, "0000000000000-DECAFBAD", "a=b-c_d", "x" * 64])
def test_it_takes_an_id_of_the_right_syntax(value: str) -> None:
    token = read_token(make_token({**T2_CLAIMS, "fxa_uid": value}, SECRET), (SECRET,))

    assert token.fxa_uid == value


@pytest.mark.parametrize("missing", ["fxa_uid", "fxa_kid"])
def test_a_hashed_id_needs_the_raw_ones(missing: str) -> None:
    claims = {name: value for name, value in T2_CLAIMS.items() if name != missing}

    assert refusal(signed(json.dumps(claims).encode())) == Reason.TOKEN_FIELDS


def test_the_account_id_of_an_old_token_is_the_hashed_one() -> None:
    token = read_token(make_token({**MINIMAL, "fxa_uid": "abc", "fxa_kid": "1-x"}, SECRET), (SECRET,))

    assert (token.fxa_uid, token.fxa_kid, token.hashed_fxa_uid) == (None, None, "abc")


def test_the_legacy_device_id_stands_in_for_the_hashed_one() -> None:
    old = read_token(make_token({**MINIMAL, "device_id": "old"}, SECRET), (SECRET,))
    both = read_token(
        make_token({**MINIMAL, "device_id": "old", "hashed_device_id": "new"}, SECRET), (SECRET,)
    )

    assert (old.hashed_device_id, both.hashed_device_id) == ("old", "new")


def test_it_ignores_fields_that_it_does_not_know() -> None:
    text = make_token({**MINIMAL, "tokenserver_origin": "rust", "more": [1, {"x": None}]}, SECRET)

    assert read_token(text, (SECRET,)).uid == 7


ids = st.text("abcXYZ019=-_", min_size=1, max_size=64)
claims_of_any_user = st.fixed_dictionaries(
    {
        "uid": st.integers(0, 10**10 - 1),
        "node": st.text(st.characters(codec="utf-8"), max_size=60),
        "expires": st.one_of(st.integers(2 * 10**9, 10**12), st.floats(2e9, 1e12)),
        "salt": st.text("0123456789abcdef", max_size=12),
        "fxa_uid": ids,
        "fxa_kid": ids,
        "hashed_fxa_uid": ids,
        "hashed_device_id": ids,
    }
)


@given(claims=claims_of_any_user, secret=st.text(st.characters(codec="ascii"), min_size=1, max_size=90))
def test_it_agrees_with_tokenlib_on_any_token(claims: dict[str, Any], secret: str) -> None:
    theirs, ours = tokenlib.make_token(dict(claims), secret=secret), make_token(claims, secret)

    token = read_token(theirs, (secret,))
    assert {name: getattr(token, name) for name in claims} == claims
    assert tokenlib.parse_token(ours, secret=secret, now=0) == claims
    for text in (theirs, ours):
        assert derive_key(text, secret) == tokenlib.get_derived_secret(text, secret=secret)


@given(
    text=st.one_of(
        st.text(max_size=300), st.binary(max_size=200).map(lambda raw: urlsafe_b64encode(raw).decode())
    )
)
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    with pytest.raises(Unauthorized):
        read_token(text, (SECRET,))


@given(payload=st.binary(max_size=200))
def test_no_signed_payload_makes_it_fail_otherwise(payload: bytes) -> None:
    with pytest.raises(Unauthorized):
        read_token(signed(payload), (SECRET,))
