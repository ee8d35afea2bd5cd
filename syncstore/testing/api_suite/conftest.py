"""Gives the suite its fixtures when it is run from the installed package."""

from syncstore.testing.api_suite.fixtures import (
    app_settings,
    configured,
    groups,
    limits,
    neighbours,
    other,
    server,
    stored,
    sync,
    three_writes,
    watched_neighbours,
)

__all__ = [
    "app_settings",
    "configured",
    "groups",
    "limits",
    "neighbours",
    "other",
    "server",
    "stored",
    "sync",
    "three_writes",
    "watched_neighbours",
]
