"""The token server's parts for the commands that look after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from syncstore.cli import loading
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.settings import Settings

if TYPE_CHECKING:
    from syncstore.tokenserver.nodes import Nodes
    from syncstore.tokenserver.register import Register


class Opened(NamedTuple):
    """What an operator works with."""

    settings: Settings
    nodes: Nodes
    register: Register


@contextmanager
def opened(config: str | None) -> Iterator[Opened]:
    """The parts over the database that the settings name. Raises ConfigError where the token server is off."""
    from syncstore.app import prepare_database
    from syncstore.app_tokenserver import open_connections, open_nodes, open_register

    path = loading.find(config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    if not settings.tokenserver:
        raise ConfigError(f"tokenserver.enabled is false in {path or 'the environment'}: there are no users")
    prepare_database(settings)
    clock = SystemClock()
    connections = open_connections(settings)
    try:
        yield Opened(settings, open_nodes(connections, clock), open_register(settings, connections, clock))
    finally:
        connections.close()
