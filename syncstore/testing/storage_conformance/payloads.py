"""Payloads: any Unicode text that JSON can carry comes back as it was, and counts by its bytes of UTF-8."""

from __future__ import annotations

import pytest

from syncstore.bso import BSO, Change
from syncstore.testing.storage_conformance.rooms import Rooms, User

PAYLOADS = {
    "empty": "",
    "nul": "before\0after\0",
    "only nul": "\0",
    "control": "".join(map(chr, range(1, 0x20))) + "\x7f\x80\x9f",
    "quotes": "'\"\\%s%(x)s?:x;--/* */ '' \\' \\0 {} $1 $$",
    "astral": "\U0001f600\U00020000\U0010ffff",
    "not characters": "\ufffe\uffff\ufeff",
    "combining": "e\u0301 \u00e9",
    "spaces": "  trailing  \r\n\t ",
    "json": '{"ciphertext":"AA==","IV":"\\u0000"}',
    "base64 of nul": "AA==",
}
LARGEST = 2_621_440


class PayloadRules(Rooms):
    """What goes in comes out."""

    @pytest.mark.parametrize("name", PAYLOADS)
    def test_any_text_survives(self, user: User, name: str) -> None:
        payload = PAYLOADS[name]
        at = user.put(Change("a", payload))
        assert user.item("a") == BSO("a", at, payload)
        assert user.items() == [BSO("a", at, payload)]
        assert user.storage.collection_usage(user.uid).collections == {"col": len(payload.encode())}
        user.put(Change("a", sortindex=1))
        assert user.item("a").payload == payload

    def test_texts_of_one_request_do_not_mix(self, user: User) -> None:
        user.put(*(Change(str(i), text) for i, text in enumerate(PAYLOADS.values())))
        assert [item.payload for item in sorted(user.items(), key=lambda item: int(item.id))] == list(
            PAYLOADS.values()
        )

    def test_any_text_survives_a_batch(self, user: User) -> None:
        batch = user.open_batch(*(Change(str(i), text) for i, text in enumerate(PAYLOADS.values())))
        user.append(batch, Change("last", "\0"))
        user.commit(batch, Change("very last", "\U0001f600"))
        found = {item.id: item.payload for item in user.items()}
        assert found.pop("last") == "\0"
        assert found.pop("very last") == "\U0001f600"
        assert found == {str(i): text for i, text in enumerate(PAYLOADS.values())}
        assert user.storage.collection_usage(user.uid).collections == {
            "col": sum(len(text.encode()) for text in PAYLOADS.values()) + 5
        }

    @pytest.mark.parametrize("piece", ["x", "\U0001f600", "'", "\0"])
    def test_a_payload_may_have_two_and_a_half_megabytes(self, user: User, piece: str) -> None:
        payload = piece * (LARGEST // len(piece.encode()))
        user.put(Change("large", payload), Change("small", "s"))
        assert user.item("large").payload == payload
        batch = user.open_batch(Change("large", payload + "y"))
        user.commit(batch)
        assert user.item("large").payload == payload + "y"
        assert user.storage.collection_usage(user.uid).collections == {"col": len(payload.encode()) + 2}
