"""Bodies of the writes: BSOs whose payloads look like those of a client, 500 bytes each."""

from __future__ import annotations

import base64
import json
import random
from functools import cache

PAYLOAD_BYTES = 500


@cache
def payload(seed: int) -> str:
    """An encrypted record as clients send it: JSON text, so its quotes are escaped once more in a body."""
    noise = random.Random(seed)
    frame = {
        "ciphertext": "",
        "IV": base64.b64encode(noise.randbytes(16)).decode(),
        "hmac": noise.randbytes(32).hex(),
    }
    room = PAYLOAD_BYTES - len(json.dumps(frame, separators=(",", ":")))
    frame["ciphertext"] = base64.b64encode(noise.randbytes(room)).decode()[:room]
    return json.dumps(frame, separators=(",", ":"))


def put_body(seed: int) -> bytes:
    """The body of a PUT."""
    return json.dumps({"payload": payload(seed)}, separators=(",", ":")).encode()


@cache
def items_body(prefix: str, count: int, seed: int = 1) -> bytes:
    """The body of a POST of `count` items with ids `<prefix>0`, `<prefix>1`, ..."""
    items = [
        {"id": f"{prefix}{n}", "payload": payload(seed * 1000 + n), "sortindex": n} for n in range(count)
    ]
    return json.dumps(items, separators=(",", ":")).encode()
