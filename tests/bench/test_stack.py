"""Commands and configuration of the servers under test."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from bench.stack import SERVERS, ini_text, server_command


@pytest.mark.parametrize("server", SERVERS)
def test_commands_stand_beside_the_interpreter(server: str) -> None:
    command = server_command(server, "/some/bin/python", Path("x.ini"), "127.0.0.1:8000", None)

    assert command[0].startswith("/some/bin/")
    assert "x.ini" in command


def test_granian_gets_the_threads_asked_for() -> None:
    command = server_command("granian", "/some/bin/python", Path("x.ini"), "127.0.0.1:8000", 4)

    assert command[-2:] == ["--threads", "4"]


def test_a_percent_sign_in_the_database_url_survives_the_ini() -> None:
    parsed = configparser.ConfigParser()

    parsed.read_string(ini_text("mysql://u:a%2Fb@h/d", "http://127.0.0.1:8000", 2))

    assert parsed["app:main"]["sqlalchemy.url"] == "mysql://u:a%2Fb@h/d"
    assert parsed["server:main"]["listen"] == "127.0.0.1:8000"
