"""Signed tokens are opened with the right key alone, whatever their header claims."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from syncstore.testing.accounts import Signer, SigningKey, compact, hmac_signer, unsigned
from syncstore.tokenserver.errors import InvalidCredentials
from syncstore.tokenserver.keys import KeySet
from syncstore.tokenserver.signatures import NotSigned, Signatures, UnknownKey

ONE, TWO = SigningKey("one"), SigningKey("two")
HEADER = {"alg": "RS256", "kid": "one", "typ": "at+jwt"}
PAYLOAD = b'{"sub": "somebody"}'


def keys(*of: SigningKey) -> KeySet:
    return KeySet([(key.key_id, key.private.public_key()) for key in of])


def token(header: Mapping[str, object] | None = None, sign: Signer = ONE.sign) -> str:
    return compact({**HEADER, **(header or {})}, PAYLOAD, sign)


@pytest.fixture
def signatures() -> Signatures:
    return Signatures(keys(ONE, TWO))


class NoKeys:
    """A source that must not be asked."""

    complete = True

    def find(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        raise AssertionError("a forgery must not cost a fetch")


def test_it_opens_a_token(signatures: Signatures) -> None:
    assert signatures.open(token()) == ("at+jwt", PAYLOAD)
    assert signatures.open(token({"kid": "two"}, TWO.sign)) == ("at+jwt", PAYLOAD)


def test_it_tries_all_keys_for_a_token_without_a_key_id(signatures: Signatures) -> None:
    header = {"alg": "RS256", "typ": "at+jwt"}
    assert signatures.open(compact(header, PAYLOAD, TWO.sign)).payload == PAYLOAD
    with pytest.raises(InvalidCredentials, match="signature"):
        signatures.open(compact(header, PAYLOAD, SigningKey("three").sign))


def test_it_refuses_the_signature_of_another_key(signatures: Signatures) -> None:
    with pytest.raises(InvalidCredentials, match="signature"):
        signatures.open(token(sign=TWO.sign))


def test_it_refuses_a_payload_that_was_changed(signatures: Signatures) -> None:
    header, payload, signature = token().split(".")
    changed = base64.urlsafe_b64encode(PAYLOAD.replace(b"some", b"any!")).rstrip(b"=").decode()
    assert changed != payload
    with pytest.raises(InvalidCredentials, match="signature"):
        signatures.open(f"{header}.{changed}.{signature}")


def test_it_refuses_a_token_without_a_signature(signatures: Signatures) -> None:
    with pytest.raises(InvalidCredentials, match="signature"):
        signatures.open(token(sign=unsigned))


def _pem(key: SigningKey) -> bytes:
    return key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


FORGERIES: dict[str, tuple[object, Signer]] = {
    "none": ("none", unsigned),
    "None": ("None", unsigned),
    "HMAC by the public key": ("HS256", hmac_signer(_pem(ONE))),
    "HMAC by the modulus": ("HS256", hmac_signer(ONE.jwk()["n"].encode())),
    "HMAC by nothing": ("HS256", hmac_signer(b"")),
    "another hash": ("RS512", lambda data: ONE.private.sign(data, PKCS1v15(), SHA512())),
    "another padding": (
        "PS256",
        lambda data: ONE.private.sign(data, PSS(MGF1(SHA256()), 32), SHA256()),
    ),
    "lower case": ("rs256", ONE.sign),
    "missing": (None, ONE.sign),
    "a list": (["RS256"], ONE.sign),
    "an object": ({"RS256": 1}, ONE.sign),
}


@pytest.mark.parametrize(("algorithm", "sign"), FORGERIES.values(), ids=FORGERIES.keys())
def test_it_refuses_any_algorithm_but_rs256_without_looking_for_a_key(
    algorithm: object, sign: Signer
) -> None:
    with pytest.raises(InvalidCredentials, match="RS256"):
        Signatures(NoKeys()).open(token({"alg": algorithm}, sign))


def test_it_refuses_an_hmac_that_calls_itself_rs256(signatures: Signatures) -> None:
    with pytest.raises(InvalidCredentials, match="signature"):
        signatures.open(token(sign=hmac_signer(_pem(ONE))))


def test_it_takes_no_key_out_of_the_token(signatures: Signatures) -> None:
    foreign = SigningKey("foreign")
    with pytest.raises(InvalidCredentials, match="signature"):
        signatures.open(token({"jwk": foreign.jwk(), "jku": "http://127.0.0.1:9/jwks"}, foreign.sign))


def test_an_unknown_key_leaves_the_question_open(signatures: Signatures) -> None:
    with pytest.raises(UnknownKey):
        signatures.open(token({"kid": "three"}))


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


SHAPELESS = {
    "empty": "",
    "hex": "0123456789abcdef" * 4,
    "JSON with blanks": json.dumps({"body": {"user": "u"}, "status": 200}),
    "JSON with dots": json.dumps({"body": {"scope": ["https://a.b/c"]}, "status": 200}),
    "not ASCII": "\u00fc.\u00fc.\u00fc",
    "a lone surrogate": "\ud800.e30.e30",
    "dots": "...",
    "two segments": "e30.e30",
    "a header that is no JSON": f"{_segment(b'{')}.e30.e30",
    "a header that is no object": f"{_segment(b'[]')}.e30.e30",
    "a header of nothing but depth": f"{_segment(b'[' * 10_000)}.e30.e30",
    "a payload that is no base64": f"{_segment(json.dumps(HEADER).encode())}.!!!.e30",
    "a key id that is a number": token({"kid": 1}),
    "a key id that is a list": token({"kid": ["one"]}),
    "what we must understand and do not": token({"crit": ["x"], "x": 1}),
    "encrypted": "e30.e30.e30.e30.e30",
}


@pytest.mark.parametrize("text", SHAPELESS.values(), ids=SHAPELESS.keys())
def test_what_is_no_signed_token_is_left_to_others(text: str) -> None:
    with pytest.raises(NotSigned):
        Signatures(NoKeys()).open(text)


def test_a_payload_outside_of_the_token_is_refused(signatures: Signatures) -> None:
    """RFC 7797 lets a token leave its payload out; nobody gives us one beside it."""
    header = {**HEADER, "b64": False, "crit": ["b64"]}
    with pytest.raises(InvalidCredentials):
        signatures.open(compact(header, b"", ONE.sign))


@pytest.mark.parametrize("typ", [None, 7, ["at+jwt"], {}])
def test_a_type_that_is_no_text_is_none(signatures: Signatures, typ: object) -> None:
    assert signatures.open(token({"typ": typ})).typ == ""
