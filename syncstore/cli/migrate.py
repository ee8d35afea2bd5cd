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
    from syncstore.app import migrate_database, shown_database
    from syncstore.storage.sql.migrate import newest

    path = loading.find(options.config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    done = migrate_database(settings)
    print(f"{shown_database(settings)} is {'now' if done else 'already'} at schema {newest()}")
    return 0
