"""What is known of a ZooKeeper cluster before anybody connects: its servers, its timeouts, the folder we live in.

The texts come from the keys `zk.<name>.*`; each function here raises ValueError with words that say what the
text must be, and the settings put the key before them. Nothing here needs the client library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

DEFAULT_PORT = 2181
DEFAULT_SESSION_TIMEOUT_MS = 4000
DEFAULT_OP_TIMEOUT_MS = 2000
DEFAULT_CONNECT_TIMEOUT_MS = 3000

# lower case, and no two underscores: so that an environment variable can stand for each key
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", re.ASCII)
_MAX_NAME = 32
# no part is empty, or longer than DNS has them: the resolver would raise instead of finding nothing
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_V6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\]", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_STEP = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_AUTH = re.compile(r"digest:([!-9;-~]+):([!-~]+)", re.ASCII)


@dataclass(frozen=True)
class Host:
    """One server: a name or an address, an IPv6 one without brackets, and a port."""

    name: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class Digest:
    """Who we are to ZooKeeper; what we create, only the same user may read and change."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Ensemble:
    """The servers of one cluster, by the name that the settings give it. Timeouts are in seconds.

    `session_timeout` is how long the servers keep a session whose client is silent; they may grant less or more.
    `op_timeout` is the deadline of a call that names none, `connect_timeout` that of one connection to one server.
    `chroot` is empty, or the path below which everything lives, such as `/sync`; it is made when missing.
    """

    name: str
    hosts: tuple[Host, ...]
    session_timeout: float = DEFAULT_SESSION_TIMEOUT_MS / 1000
    op_timeout: float = DEFAULT_OP_TIMEOUT_MS / 1000
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_MS / 1000
    chroot: str = ""
    auth: Digest | None = None

    def __str__(self) -> str:
        return f"{self.name} ({','.join(map(str, self.hosts))}{self.chroot})"


def parse_names(text: str) -> tuple[str, ...]:
    """The names of clusters, separated by spaces. Raises ValueError."""
    names = tuple(text.split())
    for name in names:
        if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
            raise ValueError(
                f"{name[:80]!r} is no name: up to {_MAX_NAME} lower-case letters, digits and single underscores"
            )
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return names


def parse_hosts(text: str) -> tuple[Host, ...]:
    """Servers, `host[:port],host[:port]`; none of an empty text. Raises ValueError."""
    if not text.strip():
        return ()
    hosts = tuple(_parse_host(word.strip()) for word in text.split(","))
    if len(set(hosts)) < len(hosts):
        raise ValueError("names a server twice")
    return hosts


def parse_chroot(text: str) -> str:
    """An absolute path, without a slash at its end; empty for none. Raises ValueError."""
    path = text.strip()
    if path in ("", "/"):
        return ""
    if not path.startswith("/"):
        raise ValueError("must be a path that begins with /")
    for step in path[1:].split("/"):
        if step in (".", "..") or not _STEP.fullmatch(step):
            raise ValueError("must be a path of letters, digits, dots, dashes and underscores, such as /sync")
    if path.split("/")[1] == "zookeeper":
        raise ValueError("/zookeeper belongs to ZooKeeper itself")
    return path


def parse_auth(text: str) -> Digest | None:
    """`digest:USER:SECRET`, or nothing. Raises ValueError, whose words do not quote the secret."""
    if not text.strip():
        return None
    match = _AUTH.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be digest:USER:SECRET")
    return Digest(*match.groups())


def _parse_host(word: str) -> Host:
    name, colon, port = word, "", ""
    if not word.endswith("]"):
        name, colon, port = word.rpartition(":") if ":" in word else (word, "", "")
    v6 = _V6.fullmatch(name)
    if not v6 and not _HOST.fullmatch(name):
        raise ValueError(f"{word[:80]!r} is not HOST:PORT")
    if colon and not (_PORT.fullmatch(port) and 0 < int(port) < 65536):
        raise ValueError(f"{word[:80]!r} has no port from 1 to 65535")
    return Host(v6[1] if v6 else name, int(port) if colon else DEFAULT_PORT)
