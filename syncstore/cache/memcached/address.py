"""Where a memcached listens: a host and port, or the path of a unix socket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

DEFAULT_PORT = 11211

# a name or IPv4 address, or an IPv6 address in brackets; then perhaps a port
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s:/\[\]]+))(?::([0-9]{1,5}))?")
_MAX_PATH = 107  # of sun_path on Linux, less its final zero


@dataclass(frozen=True)
class Address:
    """A TCP address, or with a `path` a unix socket, and then `host` is empty."""

    host: str
    port: int = DEFAULT_PORT
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """An address of `host`, `host:port`, `[ipv6]:port`, `/path` or `unix:/path`. Raises ValueError."""
        path = text.removeprefix("unix:")
        if path.startswith("/"):
            if len(path.encode()) > _MAX_PATH or "\0" in path:
                raise ValueError(f"not the path of a unix socket: {text!r}")
            return cls("", 0, path)
        match = _HOST_AND_PORT.fullmatch(text)
        if match is None or text.startswith("unix:"):
            raise ValueError(f"not host:port, nor the path of a unix socket: {text!r}")
        v6, name, port = match.groups()
        number = DEFAULT_PORT if port is None else int(port)
        if not 0 < number < 65536:
            raise ValueError(f"not a port: {text!r}")
        return cls(v6 or name, number)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
