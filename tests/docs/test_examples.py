"""Examples of the documentation are true: ini files load, blocks run as printed, links lead somewhere."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from syncstore.cli import parser
from syncstore.settings import read_settings, schema
from syncstore.testing.command import Folder, environment

REPOSITORY = Path(__file__).parents[2]
INI_FILES = ("development.ini", "production.ini")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"^# ?([a-z][a-z_.]*) = (.*)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")

# What a block of each language is, and why it is run here or is not.
LANGUAGES = {
    "sh": "run as printed, in an empty folder",
    "console": "starts a server, installs, asks the network, needs root, or takes minutes",
    "ini": "its settings are read",
    "sql": "for the administrator of a database",
    "nginx": "another program's configuration",
    "caddyfile": "another program's configuration",
    "systemd": "another program's configuration",
    "python": "a piece of code that needs its surroundings",
    "": "a picture, or the output of something",
}


@pytest.fixture
def installed(tmp_path: Path) -> Folder:
    """A folder with the repository's ini files and the secret that production.ini names."""
    for name in INI_FILES:
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "secrets").write_text("a-secret-of-the-tests\n")
    return Folder(tmp_path)


# -- ini files


@pytest.mark.parametrize("name", INI_FILES)
def test_the_ini_files_are_in_order(installed: Folder, name: str) -> None:
    result = installed.run("config", "check", "--config", name)
    if "not installed" in result.stderr:
        pytest.skip(result.stderr)
    assert (result.returncode, result.stdout) == (0, f"the settings of {name} are in order\n"), result.stderr


@pytest.mark.parametrize("name", INI_FILES)
def test_what_the_ini_files_have_behind_a_comment_sign_is_right_too(name: str) -> None:
    known = {one.metadata["key"]: one for one in schema()}
    for key, text in _SETTING.findall((REPOSITORY / name).read_text()):
        read_settings({key: text}, {}, Path())
        default = known[key].metadata["default"]
        assert key.startswith("sqlalchemy.url") or known[key].metadata["parse"](text) == default, key


def test_the_ini_files_are_the_only_ones() -> None:
    assert {path.name for path in REPOSITORY.glob("*.ini")} == set(INI_FILES)


# -- blocks


def blocks(language: str) -> list[tuple[str, str]]:
    pages = [*REPOSITORY.glob("*.md"), *sorted((REPOSITORY / "docs").glob("*.md"))]
    return [
        (page.name, body)
        for page in pages
        for found, body in _BLOCK.findall(page.read_text())
        if found == language
    ]


def test_every_block_has_a_language_that_says_whether_it_is_run(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        if path != "bench/README.md":  # whose blocks all take minutes
            assert {language for language, _ in _BLOCK.findall(text)} <= set(LANGUAGES), path


def test_some_blocks_are_run() -> None:
    assert len(blocks("sh")) > 5


@pytest.mark.parametrize(("page", "script"), blocks("sh"))
def test_a_block_runs_as_printed(tmp_path: Path, page: str, script: str) -> None:
    path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
    result = subprocess.run(
        ["/bin/sh", "-eux", "-c", script],
        cwd=tmp_path,
        env=environment({"HOME": str(tmp_path), "PATH": path}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("page", "block"), blocks("ini"))
def test_a_block_of_settings_is_read(page: str, block: str) -> None:
    section = block.removeprefix("[app:main]\nuse = egg:syncstore\n")
    assert section != block
    parsed = configparser.RawConfigParser(delimiters=("=",))
    parsed.read_string("[app]\n" + section)
    read_settings(dict(parsed["app"]), {}, Path())


@pytest.mark.parametrize(("page", "block"), blocks("console"))
def test_commands_that_are_not_run_at_least_parse(page: str, block: str) -> None:
    for line in block.splitlines():
        if line.startswith(("$ syncstore ", "$ .venv/bin/syncstore ")):
            parser().parse_args(shlex.split(line)[2:])
        if line.startswith("$ make "):
            target = line.split()[2]
            assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE), target


# -- links


def test_links_between_pages_lead_somewhere(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        for link in _LINK.findall(text):
            if "://" in link:
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (REPOSITORY / path).parent / name if name else REPOSITORY / path
            assert target.exists(), f"{path}: {link}"
            if anchor:
                assert anchor in anchors(target.read_text()), f"{path}: {link}"


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
