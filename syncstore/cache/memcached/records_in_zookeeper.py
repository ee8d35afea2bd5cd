"""The records of all processes that know a ZooKeeper cluster: `memcached.state = zookeeper:<cluster>/<path>`.

    <path>/identity          drawn by whoever came first: letters and digits
    <path>/servers/<name>    a server's record as JSON: epoch, since, reason, by; changed by its version

A server of ZooKeeper answers reads from what it has heard of so far, so each read here comes after a step that all
must agree on: a transaction that checks that the identity is there, and changes nothing. ZooKeeper's own `sync` would
not do. A leader that was cut off from the others answers it without asking them, for as long as it takes to notice:
longer than a lease, and for so long this host would go on using a server that the others have declared failed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from syncstore.cache.memcached.new_record import check_name, new_record
from syncstore.cache.memcached.records import ServerRecord
from syncstore.clock import Clock
from syncstore.errors import Unavailable
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.errors import BadVersion, NodeExists, NoNode, Refused, ZKUnavailable
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.nodes import ANY_VERSION, Check, Create, Set, check_path, join

TIMEOUT: Final = 1.0
"""Seconds for a call, or the cluster's op_timeout if that is less."""

_PAUSE = 0.02  # after a connection that broke

T = TypeVar("T")
Left = Callable[[], float]
"""Seconds until the call has to end."""


class ZooKeeperRecords:
    """Records below `path` in one cluster (see RecordStore). `close` ends what was opened for them.

    A call takes `timeout` seconds at most. Raises BadArguments for what is no path.
    """

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        clock: Clock,
        close: Callable[[], None] = lambda: None,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        check_path(path)
        self.name = f"zookeeper:{cluster.ensemble.name}{path}"
        self._cluster = cluster
        self._clock = clock
        self._close = close
        self._timeout = min(timeout, cluster.ensemble.op_timeout)
        self._identity_path = join(path, "identity")
        self._servers_path = join(path, "servers")

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """The records (see RecordStore). Raises Unavailable."""
        paths = [self._path_of(server) for server in servers]

        def look(zk: Handle, left: Left) -> list[ServerRecord]:
            if not self._agree(zk, left):
                return [ServerRecord()] * len(paths)
            return [self._record(zk, path, left)[0] for path in paths]

        return self._ask(look, repeatable=True)

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        """Let the epoch be `to` if it is `seen` (see RecordStore). Raises Unavailable."""
        path = self._path_of(server)
        value = msgspec.json.encode(new_record(server, seen, to, reason, self._clock))

        def change(zk: Handle, left: Left) -> bool:
            self._found(zk, left)
            record, version = self._record(zk, path, left)
            if record.epoch != seen:
                return False
            # As transactions, so that nothing takes a node back whose making was answered too late.
            step = Create(path, value) if version is None else Set(path, value, version)
            try:
                zk.transaction([step], left())
            except (NodeExists, BadVersion):
                return False  # somebody else was faster: an epoch only grows
            return True

        return self._ask(change, repeatable=False)

    def identity(self) -> str:
        """What was drawn at the path's first use (see RecordStore). Raises Unavailable."""
        return self._ask(self._found, repeatable=True)

    def close(self) -> None:
        """End what was opened for this."""
        self._close()

    # -- inside

    def _path_of(self, server: str) -> str:
        check_name(server)
        # All that ZooKeeper forbids in a name: "/", control characters, and "." or ".." alone.
        return join(self._servers_path, quote(server, safe=" ", errors="surrogatepass").replace(".", "%2E"))

    def _ask(self, question: Callable[[Handle, Left], T], *, repeatable: bool) -> T:
        """The answer to a question. One that is `repeatable` is put again when the connection breaks."""
        end = time.monotonic() + self._timeout

        def left() -> float:
            return max(0.0, end - time.monotonic())

        while True:
            try:
                with self._cluster.acquire(left()) as zk:
                    return question(zk, left)
            except ZKUnavailable:
                if not repeatable or left() <= _PAUSE:
                    raise
                time.sleep(_PAUSE)
            except Refused as error:
                raise Unavailable(f"the ZooKeeper cluster {self._cluster.ensemble.name}: {error}") from error

    def _agree(self, zk: Handle, left: Left) -> bool:
        """See all that anybody was told was done; whether anything ever was."""
        try:
            zk.transaction([Check(self._identity_path, ANY_VERSION)], left())
        except NoNode:
            return False
        return True

    def _found(self, zk: Handle, left: Left) -> str:
        """The identity, drawn now if there is none; sees what `_agree` does."""
        if not self._agree(zk, left):
            zk.ensure(self._servers_path, left())
            try:
                zk.transaction([Create(self._identity_path, secrets.token_hex(16).encode("ascii"))], left())
            except NodeExists:
                self._agree(zk, left)
        found = zk.get(self._identity_path, left()).value.decode("ascii", "replace")
        if not (found.isalnum() and found.isascii() and len(found) <= 32):
            raise Unavailable(f"{self.name}: {self._identity_path} holds no identity: remove it")
        return found

    def _record(self, zk: Handle, path: str, left: Left) -> tuple[ServerRecord, int | None]:
        """A server's record and its node's version, None where there is no node."""
        try:
            node = zk.get(path, left())
        except NoNode:
            return ServerRecord(), None
        try:
            return msgspec.json.decode(node.value, type=ServerRecord), node.stat.version
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self.name}: {path} holds no record, so remove it: {error}") from error
