"""Real ZooKeepers for tests: one that stands alone, or an ensemble of three, as child processes on free ports.

They come from Debian's packages libzookeeper-java, libslf4j-java and default-jre-headless. A tick is half a second,
so that sessions of one second are possible; data is not forced to the disk.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kazoo.client import KazooClient

from syncstore.testing.processes import HOST, ChildProcess, ProgramMissing, StartFailed, free_port
from syncstore.testing.servers import await_standstill, find_program
from syncstore.zookeeper.cluster import Cluster

_JARS = (
    (Path("/usr/share/java/zookeeper.jar"), "libzookeeper-java"),
    (Path("/usr/share/java/slf4j-simple.jar"), "libslf4j-java"),  # without it nothing is logged
)
_ALONE = "org.apache.zookeeper.server.ZooKeeperServerMain"
_MEMBER = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_CONFIG = """tickTime=500
minSessionTimeout=1000
maxSessionTimeout=20000
dataDir={data}
clientPort={port}
clientPortAddress={host}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
"""
_POLL_SECONDS = 0.02
MEMBERS = 3


class ZooKeeperServer(ChildProcess):
    """A ZooKeeper. What was committed survives its end. `member` and `peers` are for those of an ensemble.

    It stops by a kill: it has nothing to save, and its sessions go on when it is back.
    """

    def __init__(
        self, *, port: int | None = None, member: int = 0, peers: Sequence[str] = (), deadline: float = 60.0
    ) -> None:
        java = find_program("java", package="default-jre-headless")
        for jar, package in _JARS:
            if not jar.exists():
                raise ProgramMissing(jar.name, package)
        super().__init__(f"zookeeper{member or ''}", [java], port or free_port(), deadline=deadline)
        self._awaited = True
        data = self.directory / "data"
        data.mkdir()
        config = _CONFIG.format(data=data, port=self.port, host=HOST)
        if peers:
            config += "initLimit=10\nsyncLimit=5\n" + "".join(f"{peer}\n" for peer in peers)
            (data / "myid").write_text(f"{member}\n")
        (self.directory / "zoo.cfg").write_text(config)
        self.command = [
            java,
            "-Xmx64m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dzookeeper.forceSync=no",
            "-Dzookeeper.jmx.log4j.disable=true",
            "-cp",
            ":".join(str(jar) for jar, _ in _JARS),
            _MEMBER if peers else _ALONE,
            str(self.directory / "zoo.cfg"),
        ]

    def stop(self) -> None:
        self.kill9()

    def freeze(self) -> None:
        """Stop it in its tracks (see ChildProcess); returns when all its threads stand still."""
        super().freeze()
        await_standstill(self)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{HOST}:{self.port}"

    @property
    def hosts(self) -> str:
        """As the setting `zk.<name>.hosts` wants it."""
        return self.address

    def answers(self) -> bool:
        """Whether it serves. A member of an ensemble does not, and says so, while there is no quorum."""
        return "Mode:" in self.ask("srvr")

    @property
    def mode(self) -> str:
        """`standalone`, `leader` or `follower`; empty while it does not serve."""
        try:
            words = self.ask("srvr").partition("Mode:")[2].split()
        except OSError:
            return ""
        return words[0] if words else ""

    def ask(self, word: str, timeout: float = 2.0) -> str:
        """The answer to one of ZooKeeper's four-letter words, such as `srvr`, `cons` or `wchs`. Raises OSError."""
        with self.connect(timeout) as connection:
            connection.sendall(word.encode())
            parts = []
            while part := connection.recv(65_536):
                parts.append(part)
        return b"".join(parts).decode(errors="replace")

    def sessions(self) -> set[str]:
        """The sessions that have a connection to it, as `cons` shows them: hexadecimal."""
        found = set()
        for line in self.ask("cons").splitlines():
            session = line.partition("sid=0x")[2].partition(",")[0]
            if session:
                found.add(f"0x{session}")
        return found

    def run(self) -> None:
        """Start it, and do not wait until it serves: what members of an ensemble need."""
        self._awaited = False
        try:
            self.start()
        finally:
            self._awaited = True

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        if self._awaited:
            super()._await_answer(process)


class ZooKeeperEnsemble:
    """Three ZooKeepers, of which any two serve. `servers` are they; each can be killed, frozen and restarted."""

    def __init__(self, *, members: int = MEMBERS, deadline: float = 60.0) -> None:
        self.deadline = deadline
        numbers = range(1, members + 1)
        peers = [f"server.{number}={HOST}:{free_port()}:{free_port()}" for number in numbers]
        self._stack = ExitStack()
        self.servers: list[ZooKeeperServer] = []
        for number in numbers:
            server = ZooKeeperServer(member=number, peers=peers, deadline=deadline)
            self._stack.callback(server.close)
            self.servers.append(server)

    @property
    def hosts(self) -> str:
        """As the setting `zk.<name>.hosts` wants it."""
        return ",".join(server.address for server in self.servers)

    @property
    def alive(self) -> bool:
        """Whether all were started and none has ended."""
        return all(server.alive for server in self.servers)

    @property
    def leader(self) -> ZooKeeperServer:
        """The one that leads; waits until there is one."""
        return self._awaited("leader")

    @property
    def follower(self) -> ZooKeeperServer:
        """One that follows; waits until there is one."""
        return self._awaited("follower")

    def server_of(self, session_id: int) -> ZooKeeperServer:
        """The one that a session is connected to. Raises LookupError."""
        wanted = f"{session_id:#x}" if session_id >= 0 else f"{session_id + 2**64:#x}"
        for server in self.servers:
            if server.alive and wanted in server.sessions():
                return server
        raise LookupError(f"no server has a connection of session {wanted}")

    def start(self) -> Self:
        """Start whoever does not run, and return when all serve."""
        for server in self.servers:
            if not server.alive:
                server.run()
        self.await_serving()
        return self

    def await_serving(self) -> None:
        """Wait until all who run serve. Raises StartFailed."""
        end = time.monotonic() + self.deadline
        for server in self.servers:
            while server.alive and not server.mode:
                if time.monotonic() > end:
                    raise StartFailed(server.name, f"did not serve within {self.deadline} s", _tail(server))
                time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Kill all and remove their data."""
        self._stack.close()

    def __enter__(self) -> Self:
        try:
            return self if self.alive else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _awaited(self, mode: str) -> ZooKeeperServer:
        end = time.monotonic() + self.deadline
        while time.monotonic() < end:
            for server in self.servers:
                if server.alive and server.mode == mode:
                    return server
            time.sleep(_POLL_SECONDS)
        raise StartFailed("zookeeper", f"has had no {mode} for {self.deadline} s", "")


def expire(hosts: str, cluster: Cluster) -> None:
    """End a cluster's session as if it had expired: connect as its client, and close it.

    Returns when the servers know; the cluster's own client hears of it a moment later. Raises LookupError when it
    is not connected.
    """
    connection = cluster.connection
    client_id = connection.client.client_id if connection else None
    if client_id is None:
        raise LookupError("no session to expire")
    double: Any = KazooClient(hosts, client_id=client_id, timeout=10)
    double.start(timeout=20)
    double.stop()
    double.close()


def _tail(server: ZooKeeperServer) -> str:
    return server.log.read_bytes()[-4000:].decode(errors="replace") if server.log.exists() else ""
