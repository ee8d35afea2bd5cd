"""`syncstore config`: check settings without starting anything, or list them all."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from syncstore.cli import loading
from syncstore.settings import schema


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser("config", help="check or list the settings")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read the settings and say what is wrong, if anything")
    loading.add_config(check)
    check.set_defaults(run=_check)
    table = actions.add_parser("table", help="print every setting with its default, as in docs/settings.md")
    table.set_defaults(run=_table)


def _check(options: argparse.Namespace) -> int:
    from syncstore.app import check

    path = loading.find(options.config)
    check(loading.load(path))
    loading.set_up_logging(path)
    print(f"the settings of {path or 'the environment'} are in order")
    return 0


def _table(_options: argparse.Namespace) -> int:
    print(settings_table(), end="")
    return 0


def settings_table() -> str:
    """Every setting as a row of a Markdown table."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for one in schema():
        key, doc = one.metadata["key"], one.metadata["doc"]
        lines.append(f"| `{key}` | {one.metadata['shown'] or _default(one.metadata['default'])} | {doc} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value is None or (isinstance(value, str | tuple | Mapping) and not value):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
