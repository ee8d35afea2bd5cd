"""The command `syncstore`: one subcommand per module, each with `add` for its arguments and `run` for its work.

A mistake in settings ends in one sentence on standard error and exit code 2, an outage in exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from syncstore.cli import cache, config, doctor, loading, migrate, node, purge, serve, token, user
from syncstore.errors import ConfigError, SyncError

_COMMANDS = (serve, doctor, token, migrate, purge, cache, config, user, node)


def parser() -> argparse.ArgumentParser:
    """All arguments of all commands."""
    top = argparse.ArgumentParser(
        prog="syncstore",
        description="A storage server for sync clients.",
        epilog="`syncstore COMMAND --help` tells the options of one. The settings: `syncstore config table`.",
    )
    top.add_argument("--version", action="version", version=f"syncstore {version('syncstore')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    loading.ignore_known_warnings()
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except ConfigError as error:
        print(f"syncstore: {error}", file=sys.stderr)
        return 2
    except SyncError as error:
        print(f"syncstore: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`syncstore config table | head`): nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
