"""Collection names get one number each, whoever asks first, and keep it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

from syncstore.errors import Unavailable
from syncstore.storage.sql.names import CollectionNames
from syncstore.storage.sql.schema import FIRST_CUSTOM_COLLECTION, STANDARD_COLLECTIONS
from syncstore.testing.sql_store import SqlStore, create_names


@pytest.fixture
def names(store: SqlStore) -> CollectionNames:
    return CollectionNames(store.database, store.statements)


def test_standard_names_have_their_agreed_numbers_without_a_question(store: SqlStore) -> None:
    names = CollectionNames(store.database, store.statements)
    store.database.close()
    for number, name in STANDARD_COLLECTIONS.items():
        assert names.number(name) == number
        assert names.name(number) == name
        assert names.create(name) == number


def test_an_unknown_name_has_no_number_and_gets_none_by_asking(names: CollectionNames) -> None:
    assert names.number("never-written") is None
    assert names.number("never-written") is None


def test_a_new_name_is_there_for_everybody(names: CollectionNames, store: SqlStore) -> None:
    number = names.create("new")
    assert number >= FIRST_CUSTOM_COLLECTION
    other = CollectionNames(store.database, store.statements)
    assert other.name(number) == "new"
    assert CollectionNames(store.database, store.statements).create("new") == number


def test_names_differ_by_case(names: CollectionNames) -> None:
    assert len({names.create(name) for name in ("case", "Case", "CASE", "BOOKMARKS", "bookmarks")}) == 5


def test_a_number_without_a_name_is_damage(names: CollectionNames) -> None:
    with pytest.raises(Unavailable, match="damaged"):
        names.name(2_000_000_000)


def test_processes_that_create_names_at_once_agree(
    migrated_url: str, store: SqlStore, processes: ProcessPoolExecutor
) -> None:
    wanted = [
        [*(f"same-{i}" for i in range(8)), *(f"only-{process}-{i}" for i in range(4))] for process in (1, 2)
    ]
    numbers = list(processes.map(create_names, [migrated_url] * 2, wanted))
    given: dict[str, int] = {}
    for one in numbers:
        for name, number in one.items():
            assert given.setdefault(name, number) == number
    assert len(set(given.values())) == len(given) == 16
    fresh = CollectionNames(store.database, store.statements)
    assert {name: fresh.number(name) for name in given} == given


def test_only_so_many_names_are_remembered(
    names: CollectionNames, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncstore.storage.sql.names._MOST_REMEMBERED", len(STANDARD_COLLECTIONS))
    number = names.create("forgotten")
    assert names.number("forgotten") == number
    asked = 0
    query = store.database.query

    def counting(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        ask: Callable[..., object] = query
        return ask(*arguments)

    monkeypatch.setattr(store.database, "query", counting)
    assert names.number("forgotten") == number
    assert names.name(number) == "forgotten"
    assert asked == 2


def test_attempts_are_bounded(
    names: CollectionNames, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.database, "insert_if_new", lambda *_: False)
    with pytest.raises(Unavailable, match="no number"):
        names.create("unlucky")
