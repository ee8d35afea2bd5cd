"""Choosing a node and counting its places (token-api section 5), and what an operator does to nodes."""

from __future__ import annotations

from typing import Any

import pytest

from syncstore.errors import ConfigError
from syncstore.testing.token_database import NODE, TokenDatabase
from syncstore.tokenserver import errors


def node_of_next_user(tokens: TokenDatabase, account: str = "ann") -> str:
    return tokens.assign(1, 1, account=account).node


def test_the_emptiest_node_is_chosen(tokens: TokenDatabase) -> None:
    tokens.add_node("https://a", current_load=20)
    tokens.add_node("https://b", current_load=10)
    tokens.add_node("https://c", current_load=15, capacity=100_000)
    assert node_of_next_user(tokens) == "https://c"


def test_of_equal_ones_the_first_is_chosen_whatever_is_available(tokens: TokenDatabase) -> None:
    tokens.add_node("https://a", available=1)
    tokens.add_node("https://b", available=90, capacity=1000)
    assert node_of_next_user(tokens) == "https://a"


def test_a_place_is_counted(tokens: TokenDatabase) -> None:
    tokens.add_node(available=10, current_load=3)
    node_of_next_user(tokens)
    row = tokens.node_row(NODE)
    assert (row["available"], row["current_load"]) == (9, 4)


@pytest.mark.parametrize(
    "values", [{"downed": 1}, {"backoff": 1}, {"available": 0}, {"current_load": 100}, {"current_load": 101}]
)
def test_a_node_that_takes_nobody_is_passed_over(tokens: TokenDatabase, values: Any) -> None:
    tokens.add_node("https://a", **values)
    tokens.add_node("https://b", current_load=99)
    assert node_of_next_user(tokens) == "https://b"


def test_places_are_opened_where_none_is_left(tokens: TokenDatabase) -> None:
    for name, load, capacity in (("a", 99, 100), ("b", 90, 100), ("c", 80, 81)):
        tokens.add_node(f"https://{name}", available=0, current_load=load, capacity=capacity)
    tokens.add_node("https://backoff", available=0, current_load=70, capacity=71, backoff=1)
    tokens.add_node("https://downed", available=0, current_load=60, capacity=100, downed=1)
    tokens.add_node("https://full", available=0, current_load=100)
    assert node_of_next_user(tokens) == "https://b"
    available = {row["node"].removeprefix("https://"): row["available"] for row in tokens.rows("nodes", "id")}
    assert available == {"a": 1, "b": 9, "c": 1, "backoff": 1, "downed": 0, "full": 0}


@pytest.mark.parametrize("values", [{"current_load": 100}, {"downed": 1}, {"backoff": 1, "available": 0}])
def test_without_a_node_nobody_is_taken(tokens: TokenDatabase, values: Any) -> None:
    tokens.add_node(**values)
    with pytest.raises(errors.NoNode):
        node_of_next_user(tokens)
    assert tokens.user_rows() == []


def test_a_tiny_node_opens_places_too(tokens: TokenDatabase) -> None:
    tokens.add_node(available=0, capacity=2)
    assert [node_of_next_user(tokens, name) for name in ("ann", "bob")] == [NODE, NODE]
    with pytest.raises(errors.NoNode):
        node_of_next_user(tokens, "eve")


@pytest.mark.parametrize("flag", ["downed", "backoff"])
def test_who_is_there_stays_there(tokens: TokenDatabase, flag: str) -> None:
    uid = tokens.add_user(nodeid=tokens.add_node(NODE, **{flag: 1}))
    assert tokens.assign(1234, 1234).uid == uid


# -- the operator


def test_this_server_is_added_once_where_there_is_no_node(tokens: TokenDatabase) -> None:
    tokens.nodes.ensure_this(1000)
    tokens.nodes.ensure_this(1000)
    (node,) = tokens.nodes.list()
    assert (node.name, node.capacity, node.available) == ("*", 1000, 100)


def test_this_server_is_not_added_to_others(tokens: TokenDatabase) -> None:
    tokens.nodes.add(NODE, 10)
    tokens.nodes.ensure_this(1000)
    assert [node.name for node in tokens.nodes.list()] == [NODE]


def test_a_node_is_added_changed_and_removed(tokens: TokenDatabase) -> None:
    tokens.nodes.add(NODE, 95, downed=True)
    (node,) = tokens.nodes.list()
    assert (node.available, node.capacity, node.downed, node.backoff) == (10, 95, True, False)
    tokens.nodes.update(NODE, capacity=5, downed=0, node="https://two")
    (node,) = tokens.nodes.list()
    assert (node.name, node.capacity, node.downed) == ("https://two", 5, False)
    tokens.nodes.remove("https://two")
    assert tokens.nodes.list() == []


def test_what_cannot_be_is_said(tokens: TokenDatabase) -> None:
    tokens.nodes.add(NODE, 10)
    with pytest.raises(ConfigError, match="is there already"):
        tokens.nodes.add(NODE, 10)
    with pytest.raises(ConfigError, match="there is no node"):
        tokens.nodes.remove("https://two")
    tokens.nodes.add("https://three", 10)
    with pytest.raises(ConfigError, match="is there already"):
        tokens.nodes.update("https://three", node=NODE)
    tokens.nodes.update(NODE, node=NODE)
    for name in ("one.example.com", "https://one.example.com/", "https://" + "x" * 60):
        with pytest.raises(ConfigError, match="is no node"):
            tokens.nodes.add(name, 10)


@pytest.mark.parametrize("verb", ["remove", "unassign"])
def test_users_of_a_node_taken_from_them_get_another_one(tokens: TokenDatabase, verb: str) -> None:
    tokens.nodes.add(NODE, 10)
    uid = tokens.assign(1, 1).uid
    tokens.nodes.add("https://two", 1000)
    assert getattr(tokens.nodes, verb)(NODE) == 1
    tokens.nodes.update("https://two", current_load=0)
    if verb == "unassign":
        tokens.nodes.update(NODE, downed=1)
    moved = tokens.assign(1, 1)
    assert moved.uid != uid
    assert moved.node == "https://two"


def test_a_new_node_has_nothing_to_do_with_the_users_of_one_that_was_removed(tokens: TokenDatabase) -> None:
    """SQLite gives the number of the last row again: the purge must not count, or ask, the wrong node."""
    tokens.nodes.add(NODE, 10)
    tokens.assign(1, 1)
    tokens.assign(2, 2, "bbbb")
    tokens.nodes.remove(NODE)
    tokens.nodes.add("https://two", 10)
    (added,) = tokens.nodes.list()
    assert added.id not in {row["nodeid"] for row in tokens.user_rows()}
