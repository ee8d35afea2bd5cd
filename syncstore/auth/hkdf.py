"""HKDF with SHA-256 (RFC 5869), the way every key of the token scheme is derived."""

from __future__ import annotations

import hmac

_DIGEST_SIZE = 32


def hkdf_sha256(key_material: bytes, *, salt: bytes = b"", info: bytes, length: int) -> bytes:
    """`length` bytes (1 to 8160) derived from `key_material`; an empty salt means 32 zero bytes.

    Raises ValueError for a length that RFC 5869 does not allow.
    """
    if not 0 < length <= 255 * _DIGEST_SIZE:
        raise ValueError(f"HKDF-SHA256 cannot yield {length} bytes")
    pseudo_random_key = hmac.digest(salt or bytes(_DIGEST_SIZE), key_material, "sha256")
    block = b""
    output = b""
    for counter in range(1, -(-length // _DIGEST_SIZE) + 1):
        block = hmac.digest(pseudo_random_key, block + info + bytes((counter,)), "sha256")
        output += block
    return output[:length]
