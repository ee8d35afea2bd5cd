"""The thread that has one cache drop what has expired, every so often.

Where several processes serve, each has its own thread for each cache; a provider whose values they share sees to it
that one of them works. It is started where requests are served: a process that forks workers starts none, and each
worker starts its own, since a thread does not come along to a child. What was started before a fork goes on in the
parent alone, and `start` in the child begins anew.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import Final

from syncstore.cache.api import BackendError, Provider
from syncstore.forks import in_each_child

LIMIT: Final = 1_000
"""Values dropped in one step, after which it may be stopped."""

_JITTER: Final = 0.1
_STOP_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


class Culling:
    """Culls a cache every `interval` seconds, a tenth more or less so that not all processes do it at once; 0: never.

    `name` is what the log calls the cache. A cache that cannot be culled is told of once, until it can be again.
    """

    def __init__(self, cache: Provider, interval: float, *, name: str) -> None:
        self._cache = cache
        self._interval = interval
        self._name = name
        self._begin()
        in_each_child(self._begin)

    def _begin(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = False

    def start(self) -> None:
        """Begin; the first time comes after one interval. Once begun, nothing."""
        if self._interval > 0 and self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name=f"syncstore-cull-{self._name}", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End, after the step at hand. It can be started again."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)
        self._begin()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._pause()):
            self._turn(stop)

    def _pause(self) -> float:
        return self._interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load

    def _turn(self, stop: threading.Event) -> None:
        """Cull until nothing is left that has expired."""
        try:
            dropped = step = self._cache.cull(limit=LIMIT)
            while step >= LIMIT and not stop.is_set():
                step = self._cache.cull(limit=LIMIT)
                dropped += step
        except BackendError as error:
            if not self._away:
                log.warning(
                    "the cache %s cannot be culled, and it is tried again every %g s: %s",
                    self._name,
                    self._interval,
                    error,
                )
            self._away = True
        except Exception:
            # The edge of the thread: a fault that ended it would end all culling, and nobody would see.
            log.exception(
                "the culling of the cache %s failed, and begins anew in %g s", self._name, self._interval
            )
        else:
            if self._away:
                log.info("the cache %s can be culled again", self._name)
            self._away = False
            if dropped:
                log.info("culled %d values of the cache %s", dropped, self._name)
