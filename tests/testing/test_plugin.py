"""The plugin gives each module a database of its own and leaves the long tests to those who ask for them."""

from __future__ import annotations

import pytest
from sqlalchemy import NullPool, create_engine, inspect

pytest_plugins = ["pytester"]
seen: set[str] = set()


def test_a_database_is_empty_at_first(database_url: str) -> None:
    assert database_url not in seen
    seen.add(database_url)
    with create_engine(database_url, poolclass=NullPool).begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.exec_driver_sql("CREATE TABLE item (id INTEGER)")


def test_a_database_is_the_same_for_all_tests_of_a_module(database_url: str) -> None:
    with create_engine(database_url, poolclass=NullPool).begin() as connection:
        assert inspect(connection).get_table_names() == ["item"]


def test_the_kinds_of_database_can_be_chosen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(database_url): assert database_url.startswith('sqlite:')")
    run(pytester, "--databases=sqlite").assert_outcomes(passed=1)


def test_an_unknown_kind_of_database_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--databases=sqlite,oracle")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*--databases*oracle*")


def test_soak_tests_run_only_when_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.soak
        def test_for_hours(): pass

        def test_quickly(): pass
    """)
    run(pytester).assert_outcomes(passed=1, deselected=1)
    run(pytester, "-m", "soak").assert_outcomes(passed=1, deselected=1)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # In a process of its own: the plugin of this run is loaded once and for all.
    return pytester.runpytest_subprocess("-p", "syncstore.testing.plugin", *arguments)
