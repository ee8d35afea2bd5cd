"""A real Redis for tests, with a port and a directory of its own."""

from __future__ import annotations

from collections.abc import Sequence

from syncstore.testing.processes import HOST, ChildProcess, free_port
from syncstore.testing.servers import await_standstill, find_program


class RedisServer(ChildProcess):
    """A Redis that writes nothing to its disk unless `options`, further words of its command line, have it do so.

    `memory` is in MiB, None for no bound.
    """

    def __init__(
        self,
        *,
        memory: int | None = 256,
        options: Sequence[str] = (),
        port: int | None = None,
        deadline: float = 30.0,
    ) -> None:
        program = find_program("redis-server", "valkey-server", package="redis-server")
        port = port or free_port()
        super().__init__("redis", [program], port, deadline=deadline)
        self.command = [
            program,
            *("--port", str(port)),
            *("--bind", HOST),
            *("--dir", str(self.directory)),
            *("--daemonize", "no"),
            *("--save", ""),
            *("--appendonly", "no"),
            *("--maxmemory", f"{memory}mb" if memory else "0"),
            *("--maxmemory-policy", "allkeys-lru"),
            *options,
        ]

    @property
    def address(self) -> str:
        """`host:port`, as the argument of the provider has it."""
        return f"{HOST}:{self.port}"

    def answers(self) -> bool:
        return self.ask("PING") in (b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n")

    def freeze(self) -> None:
        """Stop it in its tracks (see ChildProcess); returns when all its threads stand still."""
        super().freeze()
        await_standstill(self)

    def ask(self, command: str) -> bytes:
        """The first bytes of the reply to a command in one line."""
        with self.connect(timeout=1) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(65536)
