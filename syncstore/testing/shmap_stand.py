"""A mount over any cache, served on a port of this process: what another node sees of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from syncstore.cache.api import Provider
from syncstore.clock import Clock
from syncstore.testing.processes import HOST
from syncstore.web.shmap import Mount, Rules, Shmap
from syncstore.web.shmap_access import Access
from syncstore.web.shmap_deadline import Deadline

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Any]

LARGEST = 4 * 1024 * 1024
PREFIX = "/map"
PATIENCE = 10.0


def mounted(
    provider: Provider,
    clock: Clock,
    *,
    rules: Rules | None = None,
    secrets: tuple[str, ...] = (),
    deadline: Deadline | None = None,
) -> WSGIApp:
    """A WSGI application that has one mount, `/map`, and no other path."""
    rules = rules or Rules(max_body=LARGEST, listed=True)
    shmap = Shmap([Mount(PREFIX, provider, clock, rules, deadline)], Access(secrets), lambda: None)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        reply = shmap.answer(environ)
        if reply is not None:
            return reply.send(environ, start_response)
        start_response("404 Not Found", [("Content-Length", "0")])
        return []

    return application


@contextmanager
def served(application: WSGIApp, *, threads: int = 16) -> Iterator[int]:
    """The port of 127.0.0.1 on which an application is served, by a thread of this process."""
    server = create_server(
        application,
        host=HOST,
        port=0,
        threads=threads,
        max_request_body_size=2 * LARGEST,
        clear_untrusted_proxy_headers=True,
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.effective_port
    finally:
        server.task_dispatcher.shutdown()
        # by its own thread, whose loop ends when nothing is left in the map
        with suppress(OSError):  # it was awake, and is through with it already
            server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join(PATIENCE)
