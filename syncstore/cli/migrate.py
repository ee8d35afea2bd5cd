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
    from syncstore import databases
    from syncstore.storage.sql.migrate import newest

    path = loading.find(options.config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    for family in databases.families(settings):
        done = databases.upgrade(family, settings)
        tables = f" of {family.branch.folder}" if family.branch.folder else ""
        print(f"{family.shown} is {'now' if done else 'already'} at schema {newest(family.branch)}{tables}")
    return 0
