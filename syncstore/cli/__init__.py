"""The command `syncstore`: one subcommand per module, each with `add` for its arguments and `run` for its work.

A mistake in settings ends in one sentence on standard error and exit code 2, an outage in exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from syncstore.cli import config, migrate, purge, serve, token
from syncstore.errors import ConfigError, SyncError

_COMMANDS = (serve, token, migrate, purge, config)


def parser() -> argparse.ArgumentParser:
    """All arguments of all commands."""
    top = argparse.ArgumentParser(prog="syncstore", description="A storage server for sync clients.")
    top.add_argument("--version", action="version", version=f"syncstore {version('syncstore')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except ConfigError as error:
        print(f"syncstore: {error}", file=sys.stderr)
        return 2
    except SyncError as error:
        print(f"syncstore: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code
