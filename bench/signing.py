"""The users of the benchmark and their signed requests.

A Hawk MAC covers method, path, host and port but neither the body nor, in our requests, a hash of it, and a
nonce may repeat (auth.md section 5). So each (user, request) is signed once, before the clock starts, and
replayed as often as needed: signing costs the measurement nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from syncstore.auth.hawk import sign
from syncstore.auth.tokens import derive_key, make_token

SECRET = "bench-secret-of-a-throw-away-server"
FIRST_UID = 1_000_000
_TOKEN_LIFE = 7 * 86400  # seconds: longer than any run, so that no answer is an expiry by accident
_NONCE = "bench000"


@dataclass(frozen=True)
class User:
    """One account: `uid`, and the token and Hawk key that a token server would have handed out."""

    uid: int
    token: str
    key: str


@dataclass(frozen=True)
class Request:
    """One request of one user, not yet signed.

    `path` starts behind `/1.5/<uid>`. `headers` come on top of those that every request carries.
    """

    user: User
    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """The request target as sent: path and query."""
        return f"/1.5/{self.user.uid}{self.path}"


def make_users(count: int, node: str, secret: str = SECRET) -> list[User]:
    """`count` users whose tokens are valid on `node` (the server's public_url)."""
    expires = int(time.time()) + _TOKEN_LIFE
    return [_make_user(uid, node, secret, expires) for uid in range(FIRST_UID, FIRST_UID + count)]


def _make_user(uid: int, node: str, secret: str, expires: int) -> User:
    # the fields, and with them the length, that a token server puts into a token (auth.md section 2.1)
    claims = {
        "uid": uid,
        "node": node,
        "expires": expires,
        "fxa_uid": f"{uid:032x}",
        "fxa_kid": f"{1_600_000_000_000 + uid:013d}-{'A' * 22}",
        "hashed_fxa_uid": f"{uid + 1:032x}",
        "hashed_device_id": f"{uid + 2:032x}",
        "salt": f"{uid & 0xFFFFFF:06x}",
    }
    token = make_token(claims, secret)
    return User(uid, token, derive_key(token, secret))


def authorization(request: Request, url: str) -> str:
    """The Authorization header of `request` sent to the server at `url`."""
    user = request.user
    return sign(request.method, url + request.target, user.token, user.key, ts=int(time.time()), nonce=_NONCE)


def all_headers(request: Request, url: str) -> list[tuple[str, str]]:
    """What goes over the wire for `request`: the headers a Firefox sends (firefox-traffic: request headers).

    An `Authorization` among the request's own headers replaces the true one.
    """
    headers = {
        "Host": urlsplit(url).netloc,
        "User-Agent": "Firefox/153.7.0 (Linux x86_64) FxSync/1.155.0.20261103151912.desktop",
        "Accept": "application/json;q=0.9,*/*;q=0.2",
        "Accept-Language": "en-US,en;q=0.9",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Connection": "keep-alive",
        "Pragma": "no-cache",
        "Cache-Control": "no-cache",
    }
    if request.method in ("PUT", "POST"):
        headers["Content-Type"] = "text/plain"
        headers["Content-Length"] = str(len(request.body))
    headers.update(request.headers)
    if "Authorization" not in headers:
        headers["Authorization"] = authorization(request, url)
    return list(headers.items())


def wire_head(request: Request, url: str) -> bytes:
    """The request line and headers, signed, up to and with the empty line."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in all_headers(request, url)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
