"""What the settings say of another node's mount: `//HOST:PORT/PATH`, or `https://HOST/PATH`, and its options.

`token` or `token_file` is the secret of that node's `shmap.secret`; `timeout` is in seconds, for each request.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from syncstore.cache.api import Provider
from syncstore.cache.http.provider import HttpProvider, Place
from syncstore.cache.making import Surroundings
from syncstore.errors import ConfigError
from syncstore.settings import values

_PORTS: Final = {"http": 80, "https": 443}
_DEFAULT_TIMEOUT: Final = 1.0
_path = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+", re.ASCII).fullmatch
_host = re.compile(r"[A-Za-z0-9._:-]{1,255}", re.ASCII).fullmatch
_token = re.compile(r"[!-~]{1,500}", re.ASCII).fullmatch


def create(argument: str, surroundings: Surroundings) -> Provider:
    """The cache of an argument (see `making.Factory`). Raises ConfigError."""
    take = surroundings.options.take
    token, file = take("token", values.text, ""), take("token_file", values.text, "")
    if token and file:
        raise ConfigError("http: token and token_file are both there: keep one")
    if token and not _token(token):  # not by `take`, which would quote it
        raise ConfigError("http: token must be one secret of printable ASCII")
    if file:
        token = _read(surroundings.here / file)
    timeout = take("timeout", values.seconds(0.01, 60), _DEFAULT_TIMEOUT)
    return HttpProvider(parse_place(argument), surroundings.clock, token=token, timeout=timeout)


def parse_place(argument: str) -> Place:
    """Where a mount is. Raises ConfigError."""
    wrong = ConfigError(
        "http: must have the URL of another node's mount, as in http://cache.example.com:8000/map, without a query and "
        "a password"
    )
    try:
        parts = urlsplit(argument if "://" in argument else f"http:{argument}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    path = parts.path.rstrip("/")
    if (
        parts.scheme not in _PORTS
        or not _host(host)
        or not _path(path)
        or "@" in parts.netloc
        or "?" in argument
    ):
        raise wrong
    if parts.fragment or port == 0:
        raise wrong
    return Place(parts.scheme == "https", host, port or _PORTS[parts.scheme], path)


def _read(path: Path) -> str:
    try:
        token = path.read_text(encoding="latin-1").strip()
    except OSError as error:
        raise ConfigError(f"token_file: cannot read {path}: {error.strerror}") from error
    if not _token(token):
        raise ConfigError(f"token_file: {path} must have one secret of printable ASCII")
    return token
