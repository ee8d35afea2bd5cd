"""`syncstore migrate`: bring the database to the schema of this version."""

from __future__ import annotations

import argparse
from typing import Any

from syncstore.cli import loading


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "migrate", help="bring the database's schema up to date"
    )
    loading.add_config(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Migrate, and say what was done."""
    from syncstore.storage.sql import migrate

    path = loading.find(options.config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    done = migrate.upgrade(settings.sqlalchemy_url)
    print(f"the database is {'now' if done else 'already'} at schema {migrate.newest()}")
    return 0
