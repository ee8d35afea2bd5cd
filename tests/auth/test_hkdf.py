"""HKDF against the published test cases of RFC 5869, appendix A, and the token scheme's own."""

from __future__ import annotations

import pytest

from syncstore.auth.hkdf import hkdf_sha256


@pytest.mark.parametrize(
    ("key", "salt", "info", "length", "expected"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            82,
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_it_yields_what_the_rfc_says(
    key: bytes, salt: bytes, info: bytes, length: int, expected: str
) -> None:
    assert hkdf_sha256(key, salt=salt, info=info, length=length).hex() == expected


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("Ted Koppel is a robot", "ca50531355a39e0d3e20e0d998b389fde44fdb5ad41a300869dec7fdff788784"),
        ("kat-secret-0123456789abcdef", "414d3f2624d4c6a9614d0db87189f01e30459e136b8fe0fdb0e7e7ebbf72b361"),
    ],
)
def test_it_yields_the_signing_keys_of_the_token_scheme(secret: str, expected: str) -> None:
    info = b"services.mozilla.com/tokenlib/v1/signing"

    assert hkdf_sha256(secret.encode(), info=info, length=32).hex() == expected


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_it_refuses_a_length_that_hkdf_does_not_have(length: int) -> None:
    with pytest.raises(ValueError, match="cannot yield"):
        hkdf_sha256(b"key", info=b"", length=length)
