"""Somebody else who reads and changes the records of servers: another process, doing what the test says.

It starts afresh and opens the store by itself, so what opens it has to be picklable: a function of an importable
module, or a partial of one.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from syncstore.cache.memcached.records import RecordStore, ServerRecord

OpenStore = Callable[[], AbstractContextManager[RecordStore]]
_START_SECONDS = 60.0


def contend(store: RecordStore, server: str, rounds: int) -> int:
    """Try to make each change from epoch 0 to `rounds`, one after the other: how many were ours.

    Whoever else does the same at once makes the others, since an epoch only grows when somebody has made the change.
    """
    return sum(store.advance(server, epoch, epoch + 1, "contended for") for epoch in range(rounds))


class RecordProcess:
    """The other process. What its store raises, the call raises here."""

    def __init__(self, open_store: OpenStore) -> None:
        self._end, far_end = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")  # a fork would share our connections
        self._process = context.Process(target=_live, args=(far_end, open_store), daemon=True)
        self._process.start()
        far_end.close()
        self.pid: int = self._answer()

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """Its `RecordStore.read`."""
        records: list[ServerRecord] = self._ask("read", servers)
        return records

    def advance(self, server: str, seen: int, to: int) -> bool:
        """Its `RecordStore.advance`."""
        done: bool = self._ask("advance", server, seen, to, "by another process")
        return done

    def identity(self) -> str:
        """Its `RecordStore.identity`."""
        identity: str = self._ask("identity")
        return identity

    def begin_to_contend(self, server: str, rounds: int) -> None:
        """Let it `contend`, and do not wait."""
        self._end.send(("contend", server, rounds))

    def won(self) -> int:
        """What came of that."""
        count: int = self._answer()
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()  # which it notices
        self._process.join(_START_SECONDS)
        self._process.close()

    def _ask(self, word: str, *arguments: Any) -> Any:
        self._end.send((word, *arguments))
        return self._answer()

    def _answer(self) -> Any:
        if not self._end.poll(_START_SECONDS):
            raise TimeoutError("the other process does not answer")
        answer = self._end.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _live(end: Connection, open_store: OpenStore) -> None:
    with open_store() as store:
        end.send(multiprocessing.current_process().pid)
        while True:
            try:
                word, *arguments = end.recv()
            except EOFError:
                return
            try:
                if word == "contend":
                    answer: Any = contend(store, *arguments)
                else:
                    answer = getattr(store, word)(*arguments)
            except Exception as error:  # noqa: BLE001, RUF100 - whatever it is, the test is told
                answer = error
            end.send(answer)
