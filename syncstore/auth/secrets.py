"""Where signing secrets come from: the settings, a file per node, master secrets, or made once and kept.

Of the secrets for a node all verify tokens and the last one signs, so that a new secret is appended, spread
to every server, and the old one removed when its tokens have expired (auth specification, section 3).
"""

from __future__ import annotations

import csv
import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from syncstore.auth.hkdf import hkdf_sha256
from syncstore.errors import ConfigError

_NODE_SECRET_INFO = b"services.mozilla.com/mozsvc/v1/node_secret/"
_MAX_NODES_KEPT = 256
_MAX_SECRET = 4096
_GENERATED_BYTES = 32


class Secrets(Protocol):
    """The signing secrets of each node."""

    def for_node(self, node: str) -> tuple[str, ...]:
        """The secrets of the node with exactly this name, the newest last; empty if there are none."""


def split_secrets(text: str) -> tuple[str, ...]:
    """The secrets in one string, split on whitespace as the original server does.

    Mind the trap: "TED KOPPEL IS A ROBOT" is five secrets, and the last one, "ROBOT", signs.
    """
    return tuple(text.split())


class FixedSecrets:
    """The same secrets for every node, each used whole, spaces included."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = _checked(secrets, "auth.secrets")

    def for_node(self, node: str) -> tuple[str, ...]:
        return self._secrets


class DerivedSecrets:
    """A secret per node, derived from each master secret, so that a node cannot sign for another.

    The secret is the lower-case hex text of HKDF output half as long as the master secret's text.
    """

    def __init__(self, masters: Sequence[str]) -> None:
        self._masters = _checked(masters, "auth.master_secrets")
        if not all(2 <= len(master) <= _MAX_SECRET for master in self._masters):
            raise ConfigError(f"auth.master_secrets: a master secret has 2 to {_MAX_SECRET} characters")
        self._known: dict[str, tuple[str, ...]] = {}

    def for_node(self, node: str) -> tuple[str, ...]:
        found = self._known.get(node)
        if found is None:
            found = tuple(_node_secret(master, node) for master in self._masters)
            if len(self._known) >= _MAX_NODES_KEPT:  # node names may come from Host headers: keep few
                self._known.clear()
            self._known[node] = found
        return found


class NodeSecrets:
    """The secrets of a file with one line per node: `node,timestamp:secret[,timestamp:secret ...]`."""

    def __init__(self, lines: Iterable[str], name: str = "auth.secrets_file") -> None:
        """Raises ConfigError, naming the line but no secret, for a malformed entry or a node seen twice."""
        self._nodes: dict[str, tuple[str, ...]] = {}
        for number, row in enumerate(csv.reader(lines), start=1):
            if len(row) < 2:
                continue
            node = row[0].strip()
            if node in self._nodes:
                raise ConfigError(f"{name}, row {number}: the node {node!r} was there before")
            entries = sorted((_entry(cell, name, number) for cell in row[1:]), key=lambda entry: entry[0])
            self._nodes[node] = tuple(secret for _, secret in entries)

    @classmethod
    def load(cls, path: Path) -> NodeSecrets:
        """The secrets in the file at `path`. Raises ConfigError if it cannot be read or understood."""
        try:
            with path.open(encoding="utf-8", newline="") as lines:
                return cls(lines, str(path))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"auth.secrets_file: cannot read {path}: {_why(error)}") from None

    def for_node(self, node: str) -> tuple[str, ...]:
        return self._nodes.get(node, ())


def load_or_create(path: Path) -> str:
    """The secret kept in the file at `path`, generated (64 hex digits) if there is no such file.

    Any number of processes may do this at once: each writes a file of its own and links it to `path`, the
    first link wins, and all of them read the winner. Raises ConfigError if the file is empty, no regular
    file, open to group or others, or cannot be read or made.
    """
    try:
        try:
            return _read_secret(path)
        except FileNotFoundError:
            _create_secret(path)
            return _read_secret(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"auth.secrets: cannot keep a secret in {path}: {_why(error)}") from None


def _read_secret(path: Path) -> str:
    # O_NONBLOCK: a FIFO in its place must not stop the start for ever
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"auth.secrets: {path} is not a regular file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"auth.secrets: {path} is open to other users; make its mode 0600")
        content = file.read(_MAX_SECRET + 1)
    if len(content) > _MAX_SECRET:
        raise ConfigError(f"auth.secrets: {path} is longer than {_MAX_SECRET} bytes")
    secret = content.decode("utf-8").strip()
    if not secret:
        raise ConfigError(f"auth.secrets: {path} is empty")
    return secret


def _create_secret(path: Path) -> None:
    own = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask takes away
            file.write(secrets.token_hex(_GENERATED_BYTES) + "\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(own, path)
        except FileExistsError:
            return  # another process was first; its secret is the one
    finally:
        own.unlink()
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Make the new name last through a crash: a secret that changes makes every token invalid."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _node_secret(master: str, node: str) -> str:
    info = _NODE_SECRET_INFO + node.encode()
    return hkdf_sha256(master.encode(), info=info, length=len(master) // 2).hex()


def _checked(values: Sequence[str], key: str) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"{key} takes several secrets, not one string")
    if not values or not all(values):
        raise ConfigError(f"{key}: at least one secret, and no empty one, is needed")
    return tuple(values)


def _entry(cell: str, name: str, number: int) -> tuple[str, str]:
    timestamp, _, secret = cell.strip().partition(":")
    if not timestamp or not secret:
        raise ConfigError(f"{name}, row {number}: an entry is not of the form timestamp:secret")
    return timestamp, secret


def _why(error: Exception) -> str:
    # the text of a decoding error would quote the file's content
    return (error.strerror or "I/O error") if isinstance(error, OSError) else type(error).__name__
