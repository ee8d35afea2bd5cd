"""Which Redis an argument of the provider `redis` names. No error quotes it: it may hold a password."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from syncstore.errors import ConfigError

_PORT: Final = 6379
_SCHEMES: Final = {"redis": False, "rediss": True}
_MOST_DATABASES: Final = 16384
_host = re.compile(r"[A-Za-z0-9._:-]{1,255}", re.ASCII).fullmatch
_bare = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII).fullmatch
_path = re.compile(r"/?|/(0|[1-9][0-9]{0,4})", re.ASCII).fullmatch
_secret = re.compile(r"[!-~]{1,1000}", re.ASCII).fullmatch


class Address(NamedTuple):
    """Where a Redis is, and who asks it. An empty user or password is none."""

    host: str
    port: int
    database: int = 0
    tls: bool = False
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        return f"Address({self})"


def parse_address(argument: str, password_file: Path | None) -> Address:
    """HOST, HOST:PORT, or a URL `redis://` or, for TLS, `rediss://`, whose `redis:` may be left out, of
    `[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`. Raises ConfigError."""
    wrong = ConfigError(
        "redis: must have an address such as cache.example.com:6379, or a URL such as"
        " redis://cache.example.com:6379/0, rediss:// for TLS; a password is for password_file"
    )
    url = argument
    if _bare(argument):
        url = f"redis://{argument}"
    elif argument.startswith("//"):
        url = f"redis:{argument}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        user = unquote_to_bytes(parts.username or "").decode("ascii")
        password = unquote_to_bytes(parts.password or "").decode("ascii")
    except ValueError:
        raise wrong from None
    path = _path(parts.path)
    if parts.scheme not in _SCHEMES or not _host(host) or path is None or port == 0:
        raise wrong
    if "?" in url or "#" in url or any(word and not _secret(word) for word in (user, password)):
        raise wrong
    database = int(path[1] or 0)
    if database >= _MOST_DATABASES:
        raise wrong
    if password_file is not None:
        if password:
            raise ConfigError("redis: there is a password in the URL and one in password_file: keep that one")
        password = _read(password_file)
    if user and not password:
        raise ConfigError("redis: a user needs a password: name its file in password_file")
    return Address(host, port or _PORT, database, _SCHEMES[parts.scheme], user, password)


def _read(path: Path) -> str:
    try:
        password = path.read_text(encoding="latin-1").strip()
    except OSError as error:
        raise ConfigError(f"password_file: cannot read {path}: {error.strerror}") from error
    if not _secret(password):
        raise ConfigError(f"password_file: {path} must have one password of printable ASCII")
    return password
