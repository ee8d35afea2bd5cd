"""Telling an operator's own function that a memcached has failed: on a thread of its own, whatever it does there."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from queue import Full, Queue
from typing import Any, Final

from syncstore.cache.memcached.records import Standing
from syncstore.cache.memcached.shared_state import Transition

log = logging.getLogger(__name__)

OnFailure = Callable[[str, int, str], object]
"""Takes host (or the path of a socket), port (or 0), and the reason."""

_MOST: Final = 100  # failures that wait for a function which takes its time


class Announcer:
    """Calls a function for each failure that this process has declared: so once for each, of all processes.

    `addresses` are those of servers, by name, as pairs of host and port.
    """

    def __init__(self, function: OnFailure | None, addresses: Mapping[str, tuple[str, int]]) -> None:
        self._function = function
        self._addresses = addresses
        self._waiting: Queue[tuple[str, int, str]] = Queue(_MOST)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, transition: Transition) -> None:
        """Note a transition. Never raises, and waits for nobody."""
        if self._function is None or transition.standing is not Standing.FAILED:
            return
        try:
            # One that was added while we run has no other address here than its name.
            address = self._addresses.get(transition.server, (transition.server, 0))
            self._waiting.put_nowait((*address, transition.reason))
        except Full:
            log.warning(
                "memcached.on_failure is not told of %s: it has not returned for long", transition.server
            )
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="syncstore-on-failure", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        function: Any = self._function
        while True:
            host, port, reason = self._waiting.get()
            try:
                function(host, port, reason)
            except Exception:  # the operator's code may do anything, and must not end this thread
                log.exception("memcached.on_failure raised")


def callback(name: str) -> OnFailure:
    """The function that `module:name` names. Raises ImportError, AttributeError, TypeError."""
    module, _, function = name.partition(":")
    found: OnFailure = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise TypeError(f"{name} is no function")
    return found
