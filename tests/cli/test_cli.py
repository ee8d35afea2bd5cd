"""The command as a whole."""

from __future__ import annotations

import sys
from importlib.metadata import version

from syncstore.testing.command import SCRIPT, Folder


def test_it_runs_as_a_module_too(folder: Folder) -> None:
    for command in ([SCRIPT], [sys.executable, "-m", "syncstore"]):
        assert folder.run("--version", command=command).stdout == f"syncstore {version('syncstore')}\n"


def test_without_a_command_it_says_how_it_is_used(folder: Folder) -> None:
    result = folder.run()
    assert result.returncode == 2
    assert result.stderr.startswith("usage: syncstore")


def test_help_lists_the_commands(folder: Folder) -> None:
    text = folder.run("--help").stdout
    assert all(name in text for name in ("serve", "token", "migrate", "purge", "config"))


def test_a_reader_who_leaves_early_is_no_error(folder: Folder) -> None:
    result = folder.run("-c", f"{SCRIPT} config table | true", command=["sh"])
    assert result.stderr == ""
