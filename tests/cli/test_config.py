"""`syncstore config`, and how every command finds its settings."""

from __future__ import annotations

import pytest

from syncstore.testing.command import Folder

APP = "[app:main]\nuse = egg:syncstore\n"


def test_settings_that_are_right(folder: Folder) -> None:
    assert folder.run("config", "check").stdout == "the settings of the environment are in order\n"
    (folder.path / "development.ini").write_text(APP)
    assert folder.run("config", "check").stdout == "the settings of development.ini are in order\n"
    assert sorted(path.name for path in folder.path.iterdir()) == ["development.ini"], "a check makes nothing"


def test_development_ini_goes_before_production_ini(folder: Folder) -> None:
    (folder.path / "development.ini").write_text(APP)
    (folder.path / "production.ini").write_text(APP)
    assert "development.ini" in folder.run("config", "check").stdout


def test_the_option_goes_before_the_variable_and_that_before_the_folder(folder: Folder) -> None:
    for name in ("production.ini", "a.ini", "b.ini"):
        (folder.path / name).write_text(APP)
    assert "a.ini" in folder.run("config", "check", SYNCSTORE_CONFIG="a.ini").stdout
    assert "b.ini" in folder.run("config", "check", "--config", "b.ini", SYNCSTORE_CONFIG="a.ini").stdout


WRONG = [
    (APP + "lock.timeuot = 1\n", "unknown setting 'lock.timeuot': is lock.timeout meant?"),
    (APP + "lock.timeout = soon\n", "lock.timeout = soon: must be a number of seconds from 0 to 60"),
    (APP + "serve.bind = here\n", "serve.bind = here: must be HOST:PORT"),
    (APP + "sqlalchemy.url = oracle://u:hunter2@db/x\n", "sqlite, mysql, mariadb and postgresql"),
    (APP + "sqlalchemy.url = mysql://u:hunter2%zz@db/x\n", "sqlalchemy.url in [app:main] has a %"),
    (APP + "public_url = https://:x\n", "public_url"),
    (APP + "auth.secrets = a\nauth.secrets = b\n", "auth.secrets is in [app:main] twice"),
    (APP + APP, "[app:main] is there twice"),
    (APP + "hunter2\n", "line 3 is not of the form key = value"),
    ("hunter2\n", "line 1 comes before any [section]"),
    ("[server:main]\nuse = egg:waitress\n", "no readable section [app:main]"),
    (APP + "[loggers]\nkeys = root\n", "logging sections"),
]


@pytest.mark.parametrize(("ini", "words"), WRONG)
def test_settings_that_are_wrong_are_one_sentence(folder: Folder, ini: str, words: str) -> None:
    (folder.path / "wrong.ini").write_text(ini)
    result = folder.run("config", "check", "--config", "wrong.ini")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("syncstore: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert words in result.stderr
    assert "hunter2" not in result.stderr


def test_a_file_that_is_not_there(folder: Folder) -> None:
    result = folder.run("config", "check", "--config", "missing.ini")
    assert (result.returncode, result.stderr) == (2, "syncstore: there is no file missing.ini\n")


def test_an_unknown_variable(folder: Folder) -> None:
    result = folder.run("serve", SYNCSTORE_QUOTA="1")
    assert result.returncode == 2
    assert "SYNCSTORE_QUOTA stands for the unknown setting 'quota'" in result.stderr


def test_the_table_lists_the_settings(folder: Folder) -> None:
    table = folder.run("config", "table").stdout
    assert "| `lock.timeout` | `5` |" in table
    assert "| `serve.bind` | `127.0.0.1:8000` |" in table
