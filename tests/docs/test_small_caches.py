"""docs/small-caches.md is true: its lines of curl do what is printed below them, its tables are those of the code."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.app import check
from syncstore.cache import making
from syncstore.cache.http.words import STATUSES
from syncstore.settings import read_settings
from syncstore.testing.plugin import unavailable
from syncstore.testing.service import SyncServer
from syncstore.web.shmap_answers import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "small-caches.md").read_text()
PRINTED = "127.0.0.1:8000"


def block(language: str) -> str:
    return blocks(language)[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SyncServer]:
    parsed = configparser.RawConfigParser(delimiters=("=",))
    parsed.read_string(block("ini"))
    settings = {key: text.replace("\n", "\n    ") for key, text in parsed["app:main"].items() if key != "use"}
    with SyncServer(f"sqlite:///{tmp_path}/sync.db", settings) as running:
        yield running


def test_the_storage_s_own_cache_is_understood() -> None:
    parsed = configparser.RawConfigParser(delimiters=("=",))
    parsed.read_string(blocks("ini")[1])
    settings = {key: text for key, text in parsed["app:main"].items() if key != "use"}
    check(read_settings(settings, {}, Path()))


def test_the_lines_do_what_is_printed(server: SyncServer) -> None:
    if shutil.which("curl") is None:
        unavailable("curl is not installed")
    commands: list[str] = []
    outputs: list[str] = []
    for line in block("console").splitlines():
        if line.startswith("$ "):
            commands.append(line[2:])
            outputs.append("")
        else:
            outputs[-1] += line + "\n"
    script = "".join(f"{command}\necho '<end>'\n" for command in commands)
    result = subprocess.run(
        ["/bin/sh", "-u"],
        input=script.replace(PRINTED, f"127.0.0.1:{server.port}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stderr == ""
    *came, rest = result.stdout.split("<end>\n")
    assert rest == ""
    for command, expected, found in zip(commands, outputs, came, strict=True):
        assert found == expected, command


def test_every_status_and_word_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\d{3})` \| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    errors = {status for status in REASONS if status >= 400}
    assert {int(status) for status, _ in rows} == errors
    for word, statuses in STATUSES.items():
        if word != "ok":
            assert {int(status) for status, known in rows if known == word} == set(statuses)


def test_every_provider_is_in_the_table() -> None:
    table = PAGE.partition("## Providers\n")[2].partition("\n\n`dc:`")[0]
    assert sorted(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)) == making.providers()
