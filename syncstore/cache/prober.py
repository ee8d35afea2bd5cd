"""The thread that brings a failed cache server back, once it answers again."""

from __future__ import annotations

import logging
import random
import threading

from syncstore.cache.api import Provider
from syncstore.cache.states import SharedState

log = logging.getLogger(__name__)


class Prober:
    """Looks every `interval` seconds at the state, and whether a server that was declared failed answers again.

    Each process has one. Whichever is first brings the server back for all, since the state is changed by
    compare-and-set.
    """

    def __init__(self, state: SharedState, cache: Provider, interval: float) -> None:
        self._state = state
        self._cache = cache
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="syncstore-cache-prober", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        # Not all processes at the same moment: one is enough.
        while not self._stop.wait(self._interval * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads load
            try:
                # Also where no requests come: who learns late of a failure makes a writer wait for it.
                self._state.trusted()
                if self._state.failed:
                    self._state.probe(self._cache)
            except Exception:
                # The edge of the thread: a fault that ended it would leave the cache out of use for good.
                log.exception("the cache could not be probed")
