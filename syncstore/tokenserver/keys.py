"""The public keys of the account server, by key id: configured once, or fetched and kept.

Fetched keys are used for an hour and longer when the account server is away: whose key is known comes in. An
unknown key id, as after a rotation, asks for the keys at once, but not more often than every ten seconds, so
that invented ids are no lever against the account server; requests that need the keys at the same moment wait
for one fetch. An answer without a usable key replaces nothing.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import jwt.algorithms
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from syncstore.clock import Clock
from syncstore.tokenserver.errors import AccountServerAway

MAX_AGE_SECONDS = 3600.0
REFRESH_SECONDS = 10.0  # between two fetches for unknown key ids
# Between two fetches because of age alone. One request waits for each of them, and waits in vain while the
# account server is silent.
STALE_REFRESH_SECONDS = 300.0
MAX_KEYS = 32
_KEY_BITS = range(
    2048, 8192 + 1
)  # below is breakable (RFC 7518, section 3.3), above is somebody's joke on our CPU

log = logging.getLogger(__name__)


class KeySource(Protocol):
    """Where a key for a signature comes from."""

    def find(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        """The keys that may have signed under this id, or under none: usually one, empty when unknown."""

    @property
    def complete(self) -> bool:
        """Whether an unknown key is one that does not exist: no fetch has failed, or is on its way."""


class _Jwk(msgspec.Struct):
    """What we read of a JSON Web Key (RFC 7517). The rest of it, a private part above all, is left alone."""

    kty: str
    n: str
    e: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None


class KeySet:
    """Keys that do not change: those of the configuration, or of one fetch."""

    def __init__(self, keys: Sequence[tuple[str | None, RSAPublicKey]]) -> None:
        self._all = tuple(key for _, key in keys)
        self._nameless = tuple(key for name, key in keys if name is None)
        self._by_id: dict[str, tuple[RSAPublicKey, ...]] = {}
        for name, key in keys:
            if name is not None:
                self._by_id[name] = (*self._by_id.get(name, ()), key)

    def find(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        return self._all if key_id is None else self._by_id.get(key_id, self._nameless)

    @property
    def complete(self) -> bool:
        return True

    @classmethod
    def parse(cls, document: bytes | str) -> KeySet:
        """The RSA keys for signatures of a JSON Web Key set, or of one key by itself.

        Others are passed over, as RFC 7517, section 5, has it. Raises ValueError when none is left.
        """
        keys = []
        reasons = []
        for raw in _raw_keys(document):
            try:
                keys.append(_public_key(raw))
            except ValueError as error:
                reasons.append(str(error))
        if not keys:
            raise ValueError(f"no usable key: {'; '.join(reasons) or 'the set is empty'}"[:300])
        if reasons:
            log.info("keys passed over: %.300s", "; ".join(reasons))
        return cls(keys)


def read_keys(text: str, here: Path) -> KeySet:
    """The keys of the setting: JSON itself, or the path of a file with it, relative to `here`.

    Raises ValueError with a sentence for the person who wrote it.
    """
    if not text.lstrip().startswith(("{", "[")):
        path = here / text
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return KeySet.parse(text)


class KeyCache:
    """The keys that `fetch` brings: the document, or AccountServerAway.

    `patience` is how many seconds a request waits for the fetch that another one has begun.
    """

    def __init__(self, fetch: Callable[[], bytes], clock: Clock, patience: float) -> None:
        self._fetch = fetch
        self._clock = clock
        self._patience = patience
        self._fetching = threading.Lock()
        self._tried_at = -math.inf
        self._complete = False
        # Replaced as a whole, so that readers need no lock.
        self._held = (KeySet(()), -math.inf)

    def find(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        keys, fetched_at = self._held
        found = keys.find(key_id)
        if not found:
            self._refresh(REFRESH_SECONDS, self._patience)
        elif self._clock.monotonic() - fetched_at > MAX_AGE_SECONDS:
            # patience for nobody: who finds another one at it goes on with the old keys
            self._refresh(STALE_REFRESH_SECONDS, 0)
        else:
            return found
        return self._held[0].find(key_id)

    @property
    def complete(self) -> bool:
        return self._complete

    def _refresh(self, pause: float, patience: float) -> None:
        """Fetch the keys unless that was tried less than `pause` seconds ago."""
        if not self._fetching.acquire(timeout=patience):
            return
        try:
            if self._clock.monotonic() - self._tried_at < pause:
                return  # what we waited for was this very fetch
            self._complete = False
            try:
                self._held = (KeySet.parse(self._fetch()), self._clock.monotonic())
                self._complete = True
            except (AccountServerAway, ValueError) as error:
                log.warning("the keys of the account server could not be fetched: %s", error)
            self._tried_at = self._clock.monotonic()
        finally:
            self._fetching.release()


def _raw_keys(document: bytes | str) -> list[msgspec.Raw]:
    try:
        decoded = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        if "keys" not in decoded:
            return [msgspec.Raw(document.encode() if isinstance(document, str) else document)]
        found = msgspec.json.decode(decoded["keys"], type=list[msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON Web Key set: {error}") from None
    return found[:MAX_KEYS]


def _public_key(raw: msgspec.Raw) -> tuple[str | None, RSAPublicKey]:
    try:
        jwk = msgspec.json.decode(raw, type=_Jwk)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no RSA key: {error}") from None
    if jwk.kty != "RSA" or jwk.use not in (None, "sig") or jwk.alg not in (None, "RS256"):
        raise ValueError(f"a key for something else: {jwk.kty} {jwk.use} {jwk.alg}")
    try:
        key = jwt.algorithms.RSAAlgorithm.from_jwk({"kty": "RSA", "n": jwk.n, "e": jwk.e})
    except (jwt.InvalidKeyError, ValueError) as error:
        raise ValueError(f"no RSA key: {error}") from None
    if not isinstance(key, RSAPublicKey) or key.key_size not in _KEY_BITS:
        raise ValueError("an RSA key of a size that is not used")
    return jwk.kid, key
