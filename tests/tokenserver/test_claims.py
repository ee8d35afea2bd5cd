"""Headers of a request: rows 1, 2 and 4 to 8 of the table of errors, and the duration."""

from __future__ import annotations

import pytest

from syncstore.tokenserver import errors
from syncstore.tokenserver.claims import KeyId, bearer_token, duration, fxa_kid, key_id


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER a b  c", "a b  c"),
        ('Bearer {"body": {"user": "x y"}}', '{"body": {"user": "x y"}}'),
    ],
)
def test_the_token_is_all_that_follows_the_first_blank(header: str, token: str) -> None:
    assert bearer_token(header) == token


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "abc"])
def test_no_credentials(header: str | None) -> None:
    with pytest.raises(errors.NoCredentials):
        bearer_token(header)


@pytest.mark.parametrize("header", ["BrowserID abc", "Basic abc", "Hawk id=x"])
def test_another_scheme(header: str) -> None:
    with pytest.raises(errors.UnsupportedScheme):
        bearer_token(header)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("1234-qqo", KeyId(1234, "aaaa")),
        ("0-qqo", KeyId(None, "aaaa")),
        ("1234-", KeyId(1234, "")),
        (
            "1700000000000-ABEiM0RVZneImaq7zN3u_w",
            KeyId(1_700_000_000_000, "00112233445566778899aabbccddeeff"),
        ),
        ("0-__8", KeyId(None, "ffff")),
    ],
)
def test_a_key_id(header: str, found: KeyId) -> None:
    assert key_id(header, None) == found


@pytest.mark.parametrize(
    ("header", "state", "error"),
    [
        (None, None, errors.MissingKeyId),
        ("1234-\xe9", None, errors.InvalidKeyId),
        ("1234qqo", None, errors.InvalidCredentials),
        ("", None, errors.InvalidCredentials),
        ("1234-state!", None, errors.InvalidCredentials),
        ("1234-qqo=", None, errors.InvalidCredentials),
        ("1234-qqqqq", None, errors.InvalidCredentials),
        ("-qqo", None, errors.InvalidCredentials),
        ("x-qqo", None, errors.InvalidCredentials),
        ("+1-qqo", None, errors.InvalidCredentials),
        ("1_0-qqo", None, errors.InvalidCredentials),
        (f"{2**63}-qqo", None, errors.InvalidCredentials),
        (f"{2**63 - 1}-qqo", None, errors.InvalidCredentials),
        ("1-" + "q" * 200, None, errors.InvalidCredentials),
        ("1-" + "A" * 23, None, errors.InvalidClientState),
        ("1234-qqo", "state!", errors.InvalidClientState),
        ("1234-qqo", "", errors.InvalidClientState),
        ("1234-qqo", "a" * 33, errors.InvalidClientState),
        ("1234-qqo", "bbbb", errors.ClientStateMismatch),
    ],
)
def test_a_key_id_that_is_refused(header: str | None, state: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        key_id(header, state)


@pytest.mark.parametrize("state", ["aaaa", "AAAA"])
def test_a_client_state_that_agrees(state: str) -> None:
    assert key_id("1234-qqo", state).client_state == "aaaa"


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", 3600),
        ("duration=12", 12),
        ("a=b&duration=12", 12),
        ("duration=3600", 3600),
        ("duration=4000", 3600),
        ("duration=lolwut", 3600),
        ("duration=-1", 3600),
        ("duration=0", 3600),
        ("duration=", 3600),
        ("duration=" + "9" * 30, 3600),
    ],
)
def test_a_shorter_life_may_be_asked_for(query: str, seconds: int) -> None:
    assert duration(query, 3600) == seconds


@pytest.mark.parametrize(
    ("keys", "generation", "state", "kid"),
    [
        (2345, 9, "bbbb", "0000000002345-u7s"),
        (None, 1234, "aaaa", "0000000001234-qqo"),
        (0, 1234, "", "0000000001234-"),
        (1_700_000_000_000, 0, "00112233445566778899aabbccddeeff", "1700000000000-ABEiM0RVZneImaq7zN3u_w"),
        (0, 0, "ffff", "0000000000000-__8"),
    ],
)
def test_the_id_of_a_key(keys: int | None, generation: int, state: str, kid: str) -> None:
    assert fxa_kid(keys, generation, state) == kid
