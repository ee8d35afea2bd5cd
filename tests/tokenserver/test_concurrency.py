"""Many at once: one account gets one user, and the counters of nodes stay exact over processes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from sqlalchemy import Connection

from syncstore.testing.token_database import NODE, TokenDatabase, open_token_database
from syncstore.tokenserver import errors
from syncstore.tokenserver.connections import Service


@pytest.fixture
def ini() -> dict[str, str]:
    return {"sqlalchemy.pool_timeout": "30", "lock.timeout": "30"}


def test_fifty_first_requests_of_one_account_give_one_user(tokens: TokenDatabase) -> None:
    tokens.add_node()
    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(lambda _: tokens.assign(1, 1), range(50)))
    assert len({one.uid for one in made}) == 1
    assert len(tokens.user_rows()) == 1
    assert tokens.node_row(NODE)["current_load"] == 1


def test_fifty_requests_with_a_new_key_make_one_change(tokens: TokenDatabase) -> None:
    tokens.add_user(nodeid=tokens.add_node(current_load=1))
    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(lambda _: tokens.assign(2345, 2345, "bbbb"), range(50)))
    assert len({one.uid for one in made}) == 1
    assert [row["replaced_at"] is None for row in tokens.user_rows()] == [False, True]
    assert tokens.node_row(NODE)["current_load"] == 2


def many_first_requests(url: str, worker: int, count: int) -> int:
    """What one process does: users of its own, and one that all processes share; how many were refused."""
    opened = open_token_database(url, {"sqlalchemy.pool_timeout": "30", "lock.timeout": "30"})
    refused = 0
    try:
        for number in range(count):
            for account in (f"w{worker}n{number}", f"shared{number}"):
                try:
                    opened.assign(1, 1, account=account)
                except errors.NoNode:
                    refused += 1
    finally:
        opened.connections.close()
    return refused


def test_counters_are_exact_under_eight_processes(tokens: TokenDatabase) -> None:
    tokens.add_node("https://a", capacity=40, available=4)
    tokens.add_node("https://b", capacity=50, available=5)
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(8, context) as pool:
        refused = list(pool.map(many_first_requests, [tokens.url] * 8, range(8), [10] * 8))
    rows = [row for row in tokens.rows("users", "uid") if not row["email"].startswith("noise")]
    assert len({row["email"] for row in rows}) == len(rows), "nobody has two records"
    for row in tokens.rows("nodes", "id"):
        assert row["current_load"] == len([one for one in rows if one["nodeid"] == row["id"]])
        assert 0 <= row["available"] <= row["capacity"] - row["current_load"]
    # ninety users at most, of 8 x 10 and 10 shared ones: all places were taken, none twice
    assert (len(rows), sum(refused)) == (90, 0)


def test_a_statement_that_the_database_ends_for_its_time_is_a_timeout(tokens: TokenDatabase) -> None:
    if tokens.connections.kind != "postgresql":
        pytest.skip("only PostgreSQL ends statements for their time")

    def work(connection: Connection, _service: Service) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 20")
        connection.exec_driver_sql("SELECT pg_sleep(20)")

    with pytest.raises(errors.DatabaseTimeout):
        tokens.connections.write(work)
