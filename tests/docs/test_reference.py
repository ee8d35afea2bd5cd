"""What the reference pages say is what the code has: settings, routes, commands, status codes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncstore.app import make_app
from syncstore.cli import parser
from syncstore.cli.config import settings_table
from syncstore.settings import schema
from syncstore.testing.client import InProcess
from syncstore.web import answers

_ROW = re.compile(r"^\| `(/[^`]*)` \| ([A-Z, ]+) \|", re.MULTILINE)
_PATTERN = re.compile(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}")


def test_the_table_of_settings_is_the_generated_one(pages: dict[str, str]) -> None:
    _, _, rest = pages["docs/settings.md"].partition("<!-- begin: syncstore config table -->\n")
    table, end, _ = rest.partition("<!-- end -->")
    assert end
    assert table == settings_table(), "run `syncstore config table` and put its output into docs/settings.md"


def test_settings_that_the_pages_name_exist(pages: dict[str, str]) -> None:
    known = {one.metadata["key"] for one in schema()}
    known |= {f"{one.metadata['key']}_file" for one in schema() if one.metadata["secret"]}
    groups = {key.partition(".")[0] for key in known if "." in key}
    for path, text in pages.items():
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?: = [^`]*)?`", text):
            if name.partition(".")[0] in groups and not name.endswith(
                (".py", ".md", ".lock_conformance", ".ini")
            ):
                assert name in known, f"{path} speaks of {name}"


# -- routes


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Every route of the app, asked of Pyramid, with the methods that it says it allows."""
    everything = {
        "tokenserver.enabled": "true",
        "tokenserver.events": "true",
        "tokenserver.events_client_id": "x",
        "tokenserver.events_issuer": "x",
    }
    app = make_app(everything, tmp_path_factory.mktemp("routes"))
    router: Any = app._router
    category = router.registry.introspector.get_category("routes")
    patterns = [one["introspectable"]["pattern"] for one in category]
    yield {_PATTERN.sub(r"{\1}", pattern): _allowed(app, pattern) for pattern in patterns}
    app.close()


def _allowed(app: Any, pattern: str) -> set[str]:
    """What the answer to a method that nobody allows lists."""
    path = _PATTERN.sub(lambda match: {"uid": "7"}.get(match[1], "x"), pattern)
    status, headers, _ = InProcess(app).send("PATCH", path, {}, b"")
    assert status == 405, path
    return set(dict(headers)["Allow"].split(", "))


def test_every_route_is_documented_with_its_methods(
    pages: dict[str, str], routes: dict[str, set[str]]
) -> None:
    documented: dict[str, set[str]] = {}
    for path, methods in _ROW.findall(pages["docs/api.md"]):
        documented.setdefault(path, set()).update(methods.split(", "))
    assert documented == routes


def test_every_status_is_documented(pages: dict[str, str]) -> None:
    documented = {int(status) for status in re.findall(r"^\| (\d{3}) \|", pages["docs/api.md"], re.MULTILINE)}
    assert documented == set(answers._REASONS) - {204}  # which no view answers


# -- commands


def commands(
    of: argparse.ArgumentParser, name: str = "syncstore"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, by its full name."""
    below = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, of
    for action in below:
        for word, parser_ in action.choices.items():
            yield from commands(parser_, f"{name} {word}")


def test_every_command_has_a_section_with_its_options(pages: dict[str, str]) -> None:
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", pages["docs/commands.md"], re.MULTILINE))
    known = dict(commands(parser()))
    assert set(sections) == set(known)
    for name, command in known.items():
        documented = re.findall(r"^\| `(--[^`]+)` \|", sections[name], re.MULTILINE)
        options = [
            f"{action.option_strings[-1]} {action.metavar}" if action.metavar else action.option_strings[-1]
            for action in command._actions
            if action.option_strings and "--help" not in action.option_strings
        ]
        assert documented == options, name


def test_every_page_is_in_the_index(pages: dict[str, str], repository: Path) -> None:
    index = pages["docs/README.md"]
    for path in (repository / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index, path.name
