"""Access tokens become accounts, or are refused, or wait for the account server to come back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping

import pytest

from syncstore.clock import SystemClock
from syncstore.testing.accounts import ISSUER, SCOPE, UID, Fault, MockAccountServer, SigningKey, compact
from syncstore.testing.clocks import SteppableClock
from syncstore.tokenserver.account_server import AccountServer
from syncstore.tokenserver.errors import AccountServerAway, InvalidCredentials
from syncstore.tokenserver.keys import REFRESH_SECONDS, KeyCache, KeySet
from syncstore.tokenserver.oauth import (
    LEEWAY_SECONDS,
    MAX_GENERATION,
    MAX_TOKEN_CHARS,
    Account,
    TokenVerifier,
)

DOMAIN = "accounts.example.com"
TIMEOUT = 5.0


@pytest.fixture
def mock() -> Iterator[MockAccountServer]:
    with MockAccountServer() as server:
        yield server


class Steps(SteppableClock):
    """Time of day as the mock has it, and a monotonic side that tests step."""

    def __init__(self) -> None:
        super().__init__(time.time_ns() // 1_000_000)


@pytest.fixture
def clock() -> Steps:
    return Steps()


@pytest.fixture
def verifier(mock: MockAccountServer, clock: Steps) -> TokenVerifier:
    return verifier_of(mock, clock)


def verifier_of(
    mock: MockAccountServer, clock: SteppableClock, issuer: str = "", timeout: float = TIMEOUT
) -> TokenVerifier:
    server = AccountServer(mock.url, timeout, clock)
    keys = KeyCache(server.fetch_keys, clock, timeout)
    return TokenVerifier(keys, server, clock, email_domain=DOMAIN, issuer=issuer)


def account(uid: str = UID, generation: int | None = None) -> Account:
    return Account(uid, generation, f"{uid}@{DOMAIN}")


# -- tokens that are proved here


def test_a_signed_token_is_proved_by_one_fetch_of_the_keys(
    mock: MockAccountServer, verifier: TokenVerifier
) -> None:
    for _ in range(3):
        assert verifier.verify(mock.token()) == account()
    assert mock.requests == {"/v1/jwks": 1}


def test_a_configured_key_needs_no_account_server(mock: MockAccountServer, clock: Steps) -> None:
    key = mock.keys[0]
    keys = KeySet([(key.key_id, key.private.public_key())])
    mock.stop()
    verifier = TokenVerifier(keys, AccountServer(mock.url, TIMEOUT, clock), clock, email_domain=DOMAIN)
    assert verifier.verify(mock.token()) == account()
    assert not mock.requests


@pytest.mark.parametrize(("claim", "generation"), [(0, 0), (1234, 1234), (MAX_GENERATION,) * 2, (None, None)])
def test_the_generation_is_told(
    mock: MockAccountServer, verifier: TokenVerifier, claim: object, generation: int | None
) -> None:
    assert verifier.verify(mock.token(claims={"fxa-generation": claim})) == account(generation=generation)


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_the_type_is_that_of_an_access_token(
    mock: MockAccountServer, verifier: TokenVerifier, typ: str
) -> None:
    assert verifier.verify(mock.token(header={"typ": typ})) == account()


@pytest.mark.parametrize("typ", ["JWT", "secevent+jwt", "id+jwt", "at+jwt ", "text/at+jwt", "", None, 1])
def test_a_token_of_another_type_is_refused(
    mock: MockAccountServer, verifier: TokenVerifier, typ: object
) -> None:
    with pytest.raises(InvalidCredentials, match=r"at\+jwt"):
        verifier.verify(mock.token(header={"typ": typ}))


@pytest.mark.parametrize(
    "scope",
    [
        SCOPE,
        f"profile {SCOPE} openid",
        f"profile,{SCOPE}",
        f"profile, {SCOPE},\topenid",
        [SCOPE],
        ["profile", SCOPE],
    ],
)
def test_the_scope_is_separated_by_blanks_or_commas_or_a_list(
    mock: MockAccountServer, verifier: TokenVerifier, scope: object
) -> None:
    assert verifier.verify(mock.token(claims={"scope": scope})) == account()


@pytest.mark.parametrize(
    "scope",
    ["", "profile", f"{SCOPE}/more", SCOPE.upper(), f"x{SCOPE}", SCOPE[:-1], [], ["profile"], [f"{SCOPE} x"]],
)
def test_a_token_of_another_scope_is_refused(
    mock: MockAccountServer, verifier: TokenVerifier, scope: object
) -> None:
    with pytest.raises(InvalidCredentials, match="scope"):
        verifier.verify(mock.token(claims={"scope": scope}))
    assert "/v1/verify" not in mock.requests


def test_an_expired_token_is_refused_once_no_clock_can_differ_so_much(
    mock: MockAccountServer, verifier: TokenVerifier, clock: Steps
) -> None:
    token = mock.token(claims={"exp": clock.seconds()})
    assert verifier.verify(token) == account()
    clock.step(LEEWAY_SECONDS - 1)
    assert verifier.verify(token) == account()
    clock.step(1)
    with pytest.raises(InvalidCredentials, match="expired"):
        verifier.verify(token)
    assert "/v1/verify" not in mock.requests


def test_a_token_of_the_future_is_refused(
    mock: MockAccountServer, verifier: TokenVerifier, clock: Steps
) -> None:
    token = mock.token(claims={"nbf": clock.seconds() + LEEWAY_SECONDS + 1})
    with pytest.raises(InvalidCredentials, match="not valid yet"):
        verifier.verify(token)
    clock.step(1)
    assert verifier.verify(token) == account()


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "2000000000"},
        {"exp": True},
        {"exp": [2000000000]},
        {"nbf": "0"},
        {"sub": None},
        {"sub": 7},
        {"scope": None},
        {"scope": {SCOPE: 1}},
        {"scope": [SCOPE, 1]},
        {"iss": 7},
        {"fxa-generation": "1234"},
        {"fxa-generation": 1.5},
        {"fxa-generation": True},
        {"fxa-generation": -1},
        {"fxa-generation": MAX_GENERATION + 1},
        {"fxa-generation": 10**30},
    ],
    ids=str,
)
def test_claims_of_another_shape_are_refused(
    mock: MockAccountServer, verifier: TokenVerifier, claims: Mapping[str, object]
) -> None:
    with pytest.raises(InvalidCredentials):
        verifier.verify(mock.token(claims=claims))
    assert "/v1/verify" not in mock.requests


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b"\xff", b'{"sub": "\xff"}', b"[" * 5000])
def test_a_signed_payload_that_is_no_claims_is_refused(
    mock: MockAccountServer, verifier: TokenVerifier, payload: bytes
) -> None:
    key = mock.keys[0]
    header = {"alg": "RS256", "kid": key.key_id, "typ": "at+jwt"}
    with pytest.raises(InvalidCredentials):
        verifier.verify(compact(header, payload, key.sign))


@pytest.mark.parametrize("uid", ["", "a b", "a@b", "\u00fc", "a\n", "x" * 65, "a/b", "'"])
def test_an_account_id_that_storage_would_not_take_is_refused(
    mock: MockAccountServer, verifier: TokenVerifier, uid: str
) -> None:
    for token in (mock.token(uid), mock.opaque_token(uid)):
        with pytest.raises(InvalidCredentials, match="account id"):
            verifier.verify(token)


def test_the_issuer_is_checked_where_it_is_configured(mock: MockAccountServer, clock: Steps) -> None:
    strict = verifier_of(mock, clock, issuer=ISSUER)
    assert strict.verify(mock.token()) == account()
    for issuer in ("https://accounts.example.org", ISSUER + "/", "", None):
        token = mock.token(claims={"iss": issuer})
        with pytest.raises(InvalidCredentials, match="issuer"):
            strict.verify(token)
        assert verifier_of(mock, clock).verify(token) == account()


def test_a_wrong_signature_is_refused_without_asking(
    mock: MockAccountServer, verifier: TokenVerifier
) -> None:
    with pytest.raises(InvalidCredentials, match="signature"):
        verifier.verify(mock.token(sign=SigningKey("key-1").sign))
    assert mock.requests == {"/v1/jwks": 1}


def test_another_algorithm_is_refused_without_asking(
    mock: MockAccountServer, verifier: TokenVerifier
) -> None:
    with pytest.raises(InvalidCredentials, match="RS256"):
        verifier.verify(mock.token(header={"alg": "none"}))
    assert not mock.requests


def test_a_huge_token_is_refused_without_a_look(mock: MockAccountServer, verifier: TokenVerifier) -> None:
    with pytest.raises(InvalidCredentials, match="characters"):
        verifier.verify("x" * (MAX_TOKEN_CHARS + 1))
    with pytest.raises(InvalidCredentials, match="characters"):
        verifier.verify(mock.token(claims={"padding": "x" * MAX_TOKEN_CHARS}))
    assert not mock.requests


def test_a_large_token_is_taken(mock: MockAccountServer, verifier: TokenVerifier) -> None:
    assert verifier.verify(mock.token(claims={"padding": "x" * (MAX_TOKEN_CHARS // 2)})) == account()


# -- rotation


def test_a_rotated_key_is_found_at_once(
    mock: MockAccountServer, verifier: TokenVerifier, clock: Steps
) -> None:
    old = mock.token()
    verifier.verify(old)
    clock.step(REFRESH_SECONDS)
    mock.rotate()
    assert verifier.verify(mock.token()) == account()
    assert verifier.verify(old) == account()
    assert mock.requests == {"/v1/jwks": 2}


def test_a_key_too_new_to_ask_for_is_a_question_to_the_account_server(
    mock: MockAccountServer, verifier: TokenVerifier
) -> None:
    """Keys are fetched every ten seconds at most; nobody is sent to sign in again for that."""
    verifier.verify(mock.token())
    mock.rotate()
    assert verifier.verify(mock.token(claims={"fxa-generation": 5})) == account(generation=5)
    assert mock.requests == {"/v1/jwks": 1, "/v1/verify": 1}


def test_a_token_of_a_withdrawn_key_is_refused(
    mock: MockAccountServer, verifier: TokenVerifier, clock: Steps
) -> None:
    old = mock.token()
    verifier.verify(old)
    mock.rotate(keep=False)
    clock.step(REFRESH_SECONDS)
    verifier.verify(mock.token())
    with pytest.raises(InvalidCredentials):
        verifier.verify(old)


# -- tokens that the account server proves


def test_a_token_without_signature_goes_to_the_account_server(
    mock: MockAccountServer, verifier: TokenVerifier
) -> None:
    assert verifier.verify(mock.opaque_token(generation=1234)) == account(generation=1234)
    assert verifier.verify(mock.opaque_token()) == account()
    assert mock.requests == {"/v1/verify": 2}


def test_a_generation_that_is_not_told_is_none(mock: MockAccountServer, verifier: TokenVerifier) -> None:
    token = json.dumps({"status": 200, "body": {"user": "u", "scope": [SCOPE]}})
    assert verifier.verify(token) == account("u")


@pytest.mark.parametrize("document", [b'{"keys":[{"fake":"RSA key"}]}', b"<html>", b'{"keys":[]}', b"null"])
def test_without_a_usable_key_signed_tokens_go_to_the_account_server(
    mock: MockAccountServer, verifier: TokenVerifier, document: bytes
) -> None:
    mock.keys_document = document
    assert verifier.verify(mock.token()) == account()
    assert mock.requests == {"/v1/jwks": 1, "/v1/verify": 1}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_token_that_the_account_server_refuses_is_refused(
    mock: MockAccountServer, verifier: TokenVerifier, status: int
) -> None:
    with pytest.raises(InvalidCredentials, match=str(status)):
        verifier.verify(mock.opaque_token(status=status))


@pytest.mark.parametrize("status", [201, 204, 304, 408, 429, 500, 502, 503, 504])
def test_an_answer_that_says_nothing_about_the_token_does_not_refuse_it(
    mock: MockAccountServer, verifier: TokenVerifier, status: int
) -> None:
    with pytest.raises(AccountServerAway, match="verify"):
        verifier.verify(mock.opaque_token(status=status))


@pytest.mark.parametrize(
    "body",
    [
        {"user": None},
        {"user": 7},
        {"scope": None},
        {"scope": [7]},
        {"scope": {}},
        {"generation": "7"},
        {"generation": -1},
        {"generation": 2**63},
        {"generation": 1.5},
    ],
    ids=str,
)
def test_a_verdict_of_another_shape_proves_nothing(
    mock: MockAccountServer, verifier: TokenVerifier, body: Mapping[str, object]
) -> None:
    with pytest.raises(InvalidCredentials):
        verifier.verify(mock.opaque_token(UID, 200, **body))


@pytest.mark.parametrize("scope", [[], ["profile"], "profile", [SCOPE + "x"]])
def test_the_scope_of_a_verdict_counts_as_well(
    mock: MockAccountServer, verifier: TokenVerifier, scope: object
) -> None:
    with pytest.raises(InvalidCredentials, match="scope"):
        verifier.verify(mock.opaque_token(scope=scope))


# -- faults


def test_garbage_for_a_verdict_proves_nothing(mock: MockAccountServer, verifier: TokenVerifier) -> None:
    mock.fault = Fault.GARBAGE
    with pytest.raises(InvalidCredentials, match="cannot be read"):
        verifier.verify(mock.opaque_token())


@pytest.mark.parametrize(
    "fault",
    [
        Fault.HANGING_UP,
        Fault.NOT_HTTP,
        Fault.OVERSIZE,
        Fault.TRUNCATED,
        Fault.BROKEN,
        Fault.REDIRECTING,
        Fault.SILENT,
    ],
)
def test_a_faulty_account_server_stops_only_those_whose_key_is_not_known(
    mock: MockAccountServer, clock: Steps, fault: Fault
) -> None:
    verifier = verifier_of(mock, clock, timeout=1.0)
    verifier.verify(mock.token())
    clock.step(86400)
    mock.fault = fault
    fresh = mock.token(claims={"exp": clock.seconds() + 60})
    assert verifier.verify(fresh) == account()
    with pytest.raises(AccountServerAway):
        verifier.verify(mock.opaque_token())
    with pytest.raises(AccountServerAway):
        verifier.verify(mock.token(header={"kid": "key-2"}))
    mock.fault = None
    clock.step(REFRESH_SECONDS)
    assert verifier.verify(mock.opaque_token()) == account()


def test_through_an_outage_whose_key_is_known_comes_in(
    mock: MockAccountServer, verifier: TokenVerifier, clock: Steps
) -> None:
    verifier.verify(mock.token())
    mock.stop()
    for _ in range(3):
        clock.step(7200)
        assert verifier.verify(mock.token(claims={"exp": clock.seconds() + 60})) == account()
    with pytest.raises(AccountServerAway):
        verifier.verify(mock.opaque_token())


def test_a_first_token_in_an_outage_is_not_refused_but_put_off(
    mock: MockAccountServer, verifier: TokenVerifier, clock: Steps
) -> None:
    mock.stop()
    token = mock.token()
    with pytest.raises(AccountServerAway):
        verifier.verify(token)
    mock.start()
    assert verifier.verify(token) == account()
    clock.step(REFRESH_SECONDS)
    assert verifier.verify(token) == account()
    assert mock.requests == {"/v1/verify": 1, "/v1/jwks": 1}


def test_what_is_refused_or_put_off_never_shows_its_token(
    mock: MockAccountServer, verifier: TokenVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    mock.fault = Fault.BROKEN
    forged = mock.token(sign=lambda data: b"\0" * 256)
    for token in (mock.token(), mock.opaque_token(status=401, user="hidden"), forged):
        with pytest.raises((InvalidCredentials, AccountServerAway)) as caught:
            verifier.verify(token)
        told = caplog.text + str(caught.value) + caught.value.reason
        assert token.split(".")[-1] not in told
        assert "hidden" not in told


def test_nothing_is_asked_before_the_first_token(mock: MockAccountServer) -> None:
    clock = SystemClock()
    server = AccountServer(mock.url, TIMEOUT, clock)
    TokenVerifier(KeyCache(server.fetch_keys, clock, TIMEOUT), server, clock, email_domain=DOMAIN)
    assert not mock.requests
