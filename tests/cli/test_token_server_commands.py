"""`syncstore user` and `syncstore node`, and the purge of replaced users, as a person types them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from syncstore.testing.command import Folder

ON = {"SYNCSTORE_TOKENSERVER__ENABLED": "true"}


def run(folder: Folder, *words: str, **settings: str) -> str:
    result = folder.run(*words, **ON, **settings)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(folder: Folder, *words: str, **settings: str) -> str:
    result = folder.run(*words, **settings)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


def sql(folder: Folder, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder.path / "var" / "sync.db")) as connection, connection:
        return connection.execute(statement).fetchall()


def add_user(folder: Folder, uid: int = 7) -> None:
    sql(
        folder,
        "INSERT INTO users (uid, service, email, generation, client_state, created_at, nodeid, keys_changed_at)"
        f" VALUES ({uid}, 1, 'ann@api.accounts.firefox.com', 1, 'aa', 1700000000000, 1, 1)",
    )


@pytest.mark.parametrize("words", [("user", "list"), ("node", "list"), ("user", "allow", "ann")])
def test_without_a_token_server_they_say_so(folder: Folder, words: tuple[str, ...]) -> None:
    assert "tokenserver.enabled is false" in refused(folder, *words)


def test_migrate_names_both_families_of_tables(folder: Folder) -> None:
    lines = run(folder, "migrate").splitlines()
    assert [line.partition(" is ")[2] for line in lines] == [
        "now at schema 0003",
        "now at schema 0001 of tokenserver",
    ]


def test_a_person_is_allowed_denied_and_taken_off_the_list(folder: Folder) -> None:
    assert run(folder, "user", "list") == "nobody yet\n"
    closed = {"SYNCSTORE_TOKENSERVER__ALLOW_NEW_USERS": "false"}
    assert run(folder, "user", "allow", "Ann", **closed) == "Ann may come in\n"
    assert "as anybody may" in run(folder, "user", "allow", "ann")
    assert run(folder, "user", "list").startswith("allowed: ann since ")
    assert "gets no more tokens" in run(folder, "user", "deny", "ann")
    assert run(folder, "user", "list").startswith("denied: ann since ")
    assert run(folder, "user", "delete", "ann") == "ann is off the list\n"
    assert "there is no user ann" in refused(folder, "user", "delete", "ann", **ON)


def test_a_user_is_deleted_and_purged(folder: Folder) -> None:
    run(folder, "node", "list")
    add_user(folder)
    listed = run(folder, "user", "list")
    assert listed == "7 ann@api.accounts.firefox.com on * since 2023-11-14\n"
    said = run(folder, "user", "delete", "ann")
    assert "uid 7 is replaced" in said
    assert "syncstore user deny ann" in said
    assert "forgot 0 replaced users" in run(folder, "purge", "--once")
    assert "forgot 1 replaced users, left 0 for later" in run(
        folder, "purge", "--once", SYNCSTORE_PURGE__GRACE="0"
    )
    assert sql(folder, "SELECT uid FROM users") == []


def test_without_a_token_server_the_purge_is_the_storage_s_alone(folder: Folder) -> None:
    result = folder.run("purge", "--once")
    assert "replaced" not in result.stdout


def test_nodes_are_added_changed_and_removed(folder: Folder) -> None:
    assert run(folder, "node", "list") == "* (this server): 0 of 100000 users, 10000 available\n"
    shown = run(folder, "node", "list", SYNCSTORE_PUBLIC_URL="https://sync.example.com")
    assert shown.startswith("* (https://sync.example.com): ")
    run(folder, "node", "add", "https://two.example.com", "--capacity", "20", "--downed", "on")
    run(folder, "node", "remove", "*")
    assert run(folder, "node", "list") == "https://two.example.com: 0 of 20 users, 2 available, downed\n"
    run(folder, "node", "update", "https://two.example.com", "--downed", "off", "--backoff", "on")
    run(folder, "node", "update", "https://two.example.com", "--name", "https://new.example.com")
    assert run(folder, "node", "list") == "https://new.example.com: 0 of 20 users, 2 available, backoff\n"
    said = run(folder, "node", "unassign", "https://new.example.com")
    assert said == "0 users get another node when they come next\n"
    assert "say what to change" in refused(folder, "node", "update", "https://new.example.com", **ON)
    assert "there is no node" in refused(folder, "node", "remove", "https://gone.example.com", **ON)
