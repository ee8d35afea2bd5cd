"""A TCP proxy on 127.0.0.1 that can do to a connection what networks do: delay, swallow, dribble, cut.

    with TcpProxy(server.port) as proxy:
        ...                                       # all is well
        proxy.fault = Fault(swallow_replies=True)  # from now on, on old connections, too
        ...
        proxy.fault = WELL

What is swallowed is lost: a connection that suffered so is out of step when it is well again.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from syncstore.testing.processes import HOST

_CHUNK = 65_536
_JOIN_SECONDS = 20.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


@dataclass(frozen=True)
class Fault:
    """What is wrong. `delay` holds each piece of data up so many seconds, in either direction.

    `swallow_requests` and `swallow_replies` take data in and pass nothing on. `dribble` passes replies on one byte
    at a time, each after so many seconds. `cut_after` closes a connection when so many bytes of replies have
    passed since the fault was set; 0 before the first of them. `requests_cut_after` the same, of requests.
    """

    delay: float = 0.0
    swallow_requests: bool = False
    swallow_replies: bool = False
    dribble: float = 0.0
    cut_after: int | None = None
    requests_cut_after: int | None = None


WELL = Fault()
SILENT = Fault(swallow_requests=True, swallow_replies=True)


class TcpProxy:
    """Passes connections on to `port` of `host`. `accepted` is how many there have been.

    `reset` makes cuts look like a machine that has forgotten its connections (RST), not like one that hangs up. With
    a `path` it listens on a unix socket there. With `keep` False it does not keep the requests for who wants to see
    them, which a long run would not have the memory for.
    """

    def __init__(
        self, port: int, host: str = HOST, *, reset: bool = False, path: Path | None = None, keep: bool = True
    ) -> None:
        self.accepted = 0
        self._path = path
        self._keep = keep
        self.reset = reset
        self._requests = bytearray()
        self._passed = 0
        self._target = (host, port)
        self._fault = WELL
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._pairs: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.port = self._listen(0)

    @property
    def address(self) -> str:
        """`host:port` or the path where the proxy listens."""
        return f"{HOST}:{self.port}" if self._path is None else str(self._path)

    @property
    def requests(self) -> bytes:
        """All that clients have sent, from the beginning on."""
        with self._lock:
            return bytes(self._requests)

    @property
    def passed(self) -> int:
        """How many bytes of replies clients have been sent, from the beginning on."""
        return self._passed

    @property
    def fault(self) -> Fault:
        """What is wrong now. Setting it counts bytes anew for the cuts."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        with self._lock:
            for pair in self._pairs:
                pair.passed = [0, 0]
            self._fault = fault

    @property
    def connections(self) -> int:
        """How many are open now."""
        with self._lock:
            return len(self._pairs)

    def cut(self) -> None:
        """Close all connections that are open now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._close(pair)

    def refuse(self) -> None:
        """Accept no more connections: who comes is refused. Those that are open stay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake the thread in accept()
            listener.close()

    def accept(self) -> None:
        """Accept connections again, on the same port."""
        if self._listener is None:
            self._listen(self.port)

    def close(self) -> None:
        """Close everything, and wait for the threads."""
        self._ended.set()
        self.refuse()
        self.cut()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self, port: int) -> int:
        if self._path is None:
            listener = socket.create_server((HOST, port))
            port = listener.getsockname()[1]
        else:
            self._path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self._path))
            listener.listen()
        self._listener = listener
        self._run(self._accept_all, listener)
        return port

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept_all(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, _JOIN_SECONDS)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = _Pair(client, server)
            for side in (server,) if self._path else (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.accepted += 1
                self._pairs.append(pair)
            if self._ended.is_set():
                self._close(pair)
                return
            self._run(self._pump, pair, 0)
            self._run(self._pump, pair, 1)

    def _pump(self, pair: _Pair, direction: int) -> None:
        """Pass on what comes from one side: 0 are requests, 1 replies."""
        source, target = pair.sides[direction], pair.sides[1 - direction]
        try:
            while data := source.recv(_CHUNK):
                if direction == 0 and self._keep:
                    with self._lock:
                        self._requests += data
                if not self._pass(data, target, pair, direction):
                    break
        except OSError:
            pass  # the other pump, or a cut, has closed it
        self._close(pair)

    def _pass(self, data: bytes, target: socket.socket, pair: _Pair, direction: int) -> bool:
        """Do to some data what is wrong now; False to cut."""
        fault = self._fault
        if fault.delay and self._ended.wait(fault.delay):
            return False
        if fault.swallow_replies if direction else fault.swallow_requests:
            return True
        limit = fault.cut_after if direction else fault.requests_cut_after
        left = None if limit is None else max(0, limit - pair.passed[direction])
        whole = data if left is None else data[:left]
        pair.passed[direction] += len(whole)
        if direction and fault.dribble:
            for place in range(len(whole)):
                if self._ended.wait(fault.dribble):
                    return False
                target.sendall(whole[place : place + 1])
                self._passed += 1
        elif whole:
            target.sendall(whole)
            self._passed += len(whole) * direction
        return left is None or left > len(data)

    def _close(self, pair: _Pair) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.remove(pair)
        for side in pair.sides:
            with suppress(OSError):
                if self.reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # wakes the pump that reads from it, before which the kernel would not close it
                side.shutdown(socket.SHUT_RD if self.reset else socket.SHUT_RDWR)
            side.close()


class _Pair:
    """One connection through the proxy: the client's side and the server's, and the bytes passed on from each."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.sides = (client, server)
        self.passed = [0, 0]
