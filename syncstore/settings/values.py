"""How the text of a setting becomes a value. Each function raises ValueError with words that say what it must be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from typing import NamedTuple

from syncstore.bso import is_collection
from syncstore.limits import Limits

_MAX_SOCKET_PATH = 107  # of sun_path on Linux, less its final zero


class Address(NamedTuple):
    """Where `syncstore serve` listens. `host` is a name or an address, an IPv6 one without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL that reaches it from this machine: an address that stands for all gives the loopback's."""
        here = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - not bound to
        return f"http://{Address(here, self.port)}"


def parse_address(value: str) -> Address:
    """HOST:PORT, [IPv6]:PORT or PORT alone. Raises ValueError."""
    host, _, port = value.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not is_digits(port) or not 0 < int(port) < 65536 or (":" in host and bare == host) or " " in bare:
        raise ValueError("must be HOST:PORT or [IPv6]:PORT with a port from 1 to 65535")
    return Address(bare or "127.0.0.1", int(port))


class CacheAddress(NamedTuple):
    """Where a memcached listens: `host` and `port`, or a unix socket whose path is `host`, with port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        return str(Address(self.host, self.port)) if self.port else self.host


def cache_address(value: str) -> CacheAddress:
    """HOST:PORT, or the absolute path of a unix socket: what can be connected to. Raises ValueError."""
    word = value.strip()
    if len(word.split()) != 1:
        raise ValueError("must be one HOST:PORT, or one path of a unix socket")
    if word.startswith("/"):
        if "\0" in word:
            raise ValueError("must be a path without a zero byte")
        if len(word.encode()) > _MAX_SOCKET_PATH:
            raise ValueError(
                f"the path of a unix socket has at most {_MAX_SOCKET_PATH} bytes: move the socket to a shorter one"
            )
        return CacheAddress(word, 0)
    if ":" not in word:
        raise ValueError("must be HOST:PORT, or the path of a unix socket that begins with /")
    address = CacheAddress(*parse_address(word))
    _check_host(address.host)
    return address


def optional_cache_address(value: str) -> CacheAddress | None:
    return cache_address(value) if value.strip() else None


def _check_host(host: str) -> None:
    """Whether it can be looked up. Raises ValueError."""
    if ":" in host:
        address, mark, zone = host.partition("%")
        if not _is_ipv6(address) or (mark and not re.fullmatch(r"[\w.-]+", zone)):
            raise ValueError("must have an IPv6 address between the brackets")
        return
    if set(host) & set("/[]"):
        raise ValueError(
            "must have a host name with no slash and no bracket inside, or be a path that begins with /"
        )
    try:
        host.encode("idna")  # as the look-up does, which raises the same at each request
    except UnicodeError:
        raise ValueError("must have a host name with 1 to 63 characters between its dots") from None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def collections(value: str) -> tuple[str, ...]:
    names = words(value)
    for name in names:
        if not is_collection(name):
            raise ValueError(f"{name!r} is no collection name")
    return tuple(dict.fromkeys(names))


def key_prefix(value: str) -> str:
    prefix = value.strip()
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", prefix, re.ASCII):
        raise ValueError("must be 1 to 32 letters, digits, dots, dashes or underscores")
    return prefix


def callback(value: str) -> str:
    name = value.strip()
    if name and not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError("must be module:function")
    return name


def is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def text(value: str) -> str:
    return value.strip()


def header_line(value: str) -> str:
    """Text that an HTTP header can carry; servers drop any other, or the whole answer with it."""
    text = value.strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be one line of printable ASCII")
    return text


def words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def flag(value: str) -> bool:
    word = value.strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError("must be true or false")


def number(lowest: int, highest: int = 2**53) -> Callable[[str], int]:
    def parse(value: str) -> int:
        text = value.strip()
        # int() alone would take "1_000" and digits of any script.
        if not is_digits(text) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def seconds(lowest: float, highest: float = 86400.0) -> Callable[[str], float]:
    def parse(value: str) -> float:
        number = decimal(value)
        if not lowest <= number <= highest:
            raise ValueError(f"must be a number of seconds from {lowest:g} to {highest:g}")
        return number

    return parse


def share(value: str) -> float:
    number = decimal(value)
    if not 0 <= number <= 1:
        raise ValueError("must be a number from 0 to 1")
    return number


def decimal(value: str) -> float:
    """A finite number in plain digits; NaN, which fails every comparison, for anything else."""
    text = value.strip()
    whole, _, fraction = text.partition(".")
    return float(text) if is_digits(whole + fraction) else math.nan


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return word

    return parse


def optional_bytes(value: str) -> int | None:
    return None if value.strip().lower() in ("", "off", "none") else number(1)(value)


def public_url(value: str) -> str:
    url = value.strip().rstrip("/")
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if "?" in url or "#" in url or " " in url:
        raise ValueError("must be scheme://host[:port][/prefix] and nothing more")
    return url


def server_url(value: str) -> str:
    url = value.strip().rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url


def networks(value: str) -> tuple[str, ...]:
    for word in value.split():
        ip_network(word, strict=False)
    return words(value)


def overrides(value: str) -> dict[str, dict[str, int]]:
    """The JSON object of per-collection limits, checked as far as this key alone can be."""
    try:
        decoded = json.loads(value) if value.strip() else {}
    except ValueError as error:
        raise ValueError(f"must be a JSON object of collections: {error}") from None
    if not isinstance(decoded, dict):
        raise ValueError("must be a JSON object of collections")  # noqa: TRY004 - the caller turns ValueError into a sentence
    for name, limits in decoded.items():
        if not is_collection(name):
            raise ValueError(f"{name!r} is no collection name")
        if not isinstance(limits, dict) or not limits or set(limits) - set(Limits.OVERRIDABLE):
            raise ValueError(f"{name}: must be an object with some of {', '.join(Limits.OVERRIDABLE)}")
        for key, number in limits.items():
            if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
                raise ValueError(f"{name}.{key} must be a number of bytes above 0")
    return decoded
