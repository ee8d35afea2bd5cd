"""Keys of the account server: which are taken, how long they are kept, and how seldom they are fetched."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from syncstore.testing.accounts import SigningKey
from syncstore.testing.clocks import SteppableClock
from syncstore.tokenserver.errors import AccountServerAway
from syncstore.tokenserver.keys import (
    MAX_AGE_SECONDS,
    MAX_KEYS,
    REFRESH_SECONDS,
    STALE_REFRESH_SECONDS,
    KeyCache,
    KeySet,
    read_keys,
)

ONE, TWO = SigningKey("one"), SigningKey("two")
PATIENCE = 20.0


def jwks(*keys: Mapping[str, object]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def public(key: SigningKey) -> tuple[RSAPublicKey, ...]:
    return (key.private.public_key(),)


def found(keys: KeySet | KeyCache, key_id: str | None) -> tuple[RSAPublicKey, ...]:
    return tuple(keys.find(key_id))


# -- sets


def test_a_key_is_found_by_its_id() -> None:
    keys = KeySet.parse(jwks(ONE.jwk(), TWO.jwk()))
    assert found(keys, "one") == public(ONE)
    assert found(keys, "two") == public(TWO)
    assert found(keys, "three") == ()


def test_a_token_without_an_id_may_be_of_any_key() -> None:
    assert found(KeySet.parse(jwks(ONE.jwk(), TWO.jwk())), None) == public(ONE) + public(TWO)


def test_a_key_without_an_id_may_be_that_of_any_token() -> None:
    nameless = {key: value for key, value in ONE.jwk().items() if key != "kid"}
    keys = KeySet.parse(jwks(nameless, TWO.jwk()))
    assert found(keys, "three") == public(ONE)
    assert found(keys, "two") == public(TWO)


def test_two_keys_of_one_id_are_both_tried() -> None:
    keys = KeySet.parse(jwks(ONE.jwk(), {**TWO.jwk(), "kid": "one"}))
    assert found(keys, "one") == public(ONE) + public(TWO)


def test_the_least_that_makes_a_key_is_enough() -> None:
    least = {key: value for key, value in ONE.jwk().items() if key in ("kty", "n", "e")}
    assert found(KeySet.parse(jwks(least)), "any") == public(ONE)


def test_a_private_key_gives_its_public_half() -> None:
    """Somebody may configure the wrong half; what signs is never kept."""
    numbers = ONE.private.private_numbers()
    assert found(KeySet.parse(jwks({**ONE.jwk(), "d": f"{numbers.d:x}"})), "one") == public(ONE)


UNUSABLE: dict[str, object] = {
    "of the functional suite": {"fake": "RSA key"},
    "for encryption": {**ONE.jwk(), "use": "enc"},
    "for another algorithm": {**ONE.jwk(), "alg": "RS512"},
    "symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"},
    "elliptic": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "one"},
    "without its modulus": {"kty": "RSA", "e": "AQAB", "kid": "one"},
    "of numbers": {"kty": "RSA", "e": 65537, "n": 5, "kid": "one"},
    "empty": {**ONE.jwk(), "n": ""},
    "no base64": {**ONE.jwk(), "n": "!!!"},
    "not ASCII": {**ONE.jwk(), "n": "\u00fc"},
    "of another exponent's kind": {**ONE.jwk(), "e": "AA"},
    "too small": SigningKey("one", bits=1024).jwk(),
    "too large": {**ONE.jwk(), "n": "_" * 2000},
    "with an id that is none": {**ONE.jwk(), "kid": 1},
    "no object": "key",
    "null": None,
    "deep": json.loads("[" * 500 + "]" * 500),
}


@pytest.mark.parametrize("key", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_key_that_cannot_be_used_is_passed_over(key: Mapping[str, object]) -> None:
    assert found(KeySet.parse(jwks(key, TWO.jwk())), "two") == public(TWO)
    assert found(KeySet.parse(jwks(key, TWO.jwk())), "one") == ()
    with pytest.raises(ValueError, match="no usable key"):
        KeySet.parse(jwks(key))


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"null", b"{", b'{"keys": 1}', b'{"keys": {}}', b'{"keys": []}', b"\xff", b"[" * 100_000],
    ids=range(9),
)
def test_a_document_without_keys_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"(?i)key"):
        KeySet.parse(document)


def test_more_keys_than_anybody_has_are_not_read() -> None:
    """A token without a key id is tried with each of them."""
    many = [{**ONE.jwk(), "kid": str(number)} for number in range(MAX_KEYS + 5)]
    assert len(KeySet.parse(jwks(*many)).find(None)) == MAX_KEYS


# -- the setting


def test_keys_are_configured_as_json(tmp_path: Path) -> None:
    assert found(read_keys(jwks(ONE.jwk()).decode(), tmp_path), "one") == public(ONE)


def test_one_key_is_configured_by_itself(tmp_path: Path) -> None:
    assert found(read_keys("  " + json.dumps(ONE.jwk()), tmp_path), "one") == public(ONE)


def test_keys_are_configured_by_a_file_beside_the_ini(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks(ONE.jwk()))
    assert found(read_keys("jwks.json", tmp_path), "one") == public(ONE)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.json cannot be read: No such file"):
        read_keys("missing.json", tmp_path)


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r".+"):
        read_keys("jwks.json", tmp_path)


# -- the cache


class Published:
    """What the account server publishes, and how often it was asked."""

    def __init__(self, *keys: SigningKey) -> None:
        self.document = jwks(*(key.jwk() for key in keys))
        self.away = False
        self.fetches = 0

    def fetch(self) -> bytes:
        self.fetches += 1
        if self.away:
            raise AccountServerAway("away")
        return self.document


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def published() -> Published:
    return Published(ONE)


@pytest.fixture
def cache(published: Published, clock: SteppableClock) -> KeyCache:
    return KeyCache(published.fetch, clock, PATIENCE)


def test_nothing_is_fetched_before_a_key_is_needed(published: Published, cache: KeyCache) -> None:
    assert published.fetches == 0
    assert found(cache, "one") == public(ONE)
    assert published.fetches == 1


def test_keys_are_kept_for_an_hour(published: Published, cache: KeyCache, clock: SteppableClock) -> None:
    cache.find("one")
    clock.step(MAX_AGE_SECONDS)
    cache.find("one")
    assert published.fetches == 1
    clock.step(1)
    cache.find("one")
    assert published.fetches == 2
    cache.find("one")
    assert published.fetches == 2


def test_an_unknown_id_asks_at_once(published: Published, cache: KeyCache, clock: SteppableClock) -> None:
    cache.find("one")
    clock.step(REFRESH_SECONDS)
    published.document = jwks(ONE.jwk(), TWO.jwk())
    assert found(cache, "two") == public(TWO)
    assert published.fetches == 2


def test_unknown_ids_ask_at_most_every_ten_seconds(
    published: Published, cache: KeyCache, clock: SteppableClock
) -> None:
    for number in range(50):
        assert found(cache, f"invented-{number}") == ()
    assert published.fetches == 1
    clock.step(REFRESH_SECONDS)
    for number in range(50):
        cache.find(f"invented-{number}")
    assert published.fetches == 2


def test_a_key_that_is_no_longer_published_is_forgotten(
    published: Published, cache: KeyCache, clock: SteppableClock
) -> None:
    cache.find("one")
    published.document = jwks(TWO.jwk())
    clock.step(MAX_AGE_SECONDS + 1)
    assert found(cache, "one") == ()


def test_known_keys_are_used_through_an_outage(
    published: Published, cache: KeyCache, clock: SteppableClock
) -> None:
    cache.find("one")
    published.away = True
    for _ in range(30):
        clock.step(86400)
        assert found(cache, "one") == public(ONE)
    published.away = False
    published.document = jwks(TWO.jwk())
    clock.step(STALE_REFRESH_SECONDS)
    assert found(cache, "two") == public(TWO)
    assert found(cache, "one") == ()


def test_through_an_outage_few_requests_wait_for_keys_that_are_merely_old(
    published: Published, cache: KeyCache, clock: SteppableClock
) -> None:
    cache.find("one")
    published.away = True
    clock.step(MAX_AGE_SECONDS + 1)
    for _ in range(100):
        assert found(cache, "one") == public(ONE)
    assert published.fetches == 2
    clock.step(STALE_REFRESH_SECONDS - 1)
    cache.find("one")
    assert published.fetches == 2
    clock.step(1)
    cache.find("one")
    assert published.fetches == 3


@pytest.mark.parametrize("garbage", [b"<html>", b'{"keys": []}', jwks({"fake": "RSA key"}), b""])
def test_an_answer_without_a_key_replaces_nothing(
    published: Published, cache: KeyCache, clock: SteppableClock, garbage: bytes
) -> None:
    cache.find("one")
    published.document = garbage
    clock.step(MAX_AGE_SECONDS + 1)
    assert found(cache, "one") == public(ONE)
    assert found(cache, "two") == ()
    assert published.fetches == 2


def test_an_outage_at_the_first_request_is_over_when_it_is_over(
    published: Published, cache: KeyCache, clock: SteppableClock
) -> None:
    published.away = True
    assert found(cache, "one") == ()
    published.away = False
    clock.step(REFRESH_SECONDS)
    assert found(cache, "one") == public(ONE)


def test_the_reason_of_a_failure_is_logged(
    published: Published, cache: KeyCache, caplog: pytest.LogCaptureFixture
) -> None:
    published.document = b"<html>"
    cache.find("one")
    assert "the keys of the account server could not be fetched: this is no JSON Web Key set" in caplog.text


def test_requests_that_need_keys_together_wait_for_one_fetch(clock: SteppableClock) -> None:
    begun, go_on = threading.Event(), threading.Event()
    fetches = []

    def fetch() -> bytes:
        fetches.append(1)
        begun.set()
        assert go_on.wait(PATIENCE)
        return jwks(ONE.jwk())

    cache = KeyCache(fetch, clock, PATIENCE)
    answers: list[tuple[RSAPublicKey, ...]] = []
    threads = [threading.Thread(target=lambda: answers.append(found(cache, "one"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert begun.wait(PATIENCE)
    go_on.set()
    for thread in threads:
        thread.join()
    assert answers == [public(ONE)] * 20
    assert len(fetches) == 1


def test_a_known_key_does_not_wait_for_the_fetch_of_another_request(
    published: Published, clock: SteppableClock
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fetch() -> bytes:
        if published.fetches:
            begun.set()
            assert go_on.wait(PATIENCE)
        return published.fetch()

    cache = KeyCache(fetch, clock, PATIENCE)
    cache.find("one")
    clock.step(MAX_AGE_SECONDS + 1)
    slow = threading.Thread(target=cache.find, args=("two",))
    slow.start()
    assert begun.wait(PATIENCE)
    assert found(cache, "one") == public(ONE)  # while the fetch is under way
    assert published.fetches == 1
    go_on.set()
    slow.join()
    assert published.fetches == 2


def test_the_wait_for_another_ones_fetch_has_an_end(clock: SteppableClock) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fetch() -> bytes:
        begun.set()
        assert go_on.wait(PATIENCE)
        return jwks(ONE.jwk())

    cache = KeyCache(fetch, clock, 0.1)
    slow = threading.Thread(target=cache.find, args=("one",))
    slow.start()
    assert begun.wait(PATIENCE)
    assert found(cache, "one") == ()
    go_on.set()
    slow.join()
    assert found(cache, "one") == public(ONE)
