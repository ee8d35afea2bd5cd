"""Statements are compiled to the text that the driver gets, with their parameters in its order."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine.interfaces import Dialect

from syncstore.storage.sql.compiling import IdsStatement, RowsStatement, Statement
from syncstore.storage.sql.schema import bso, collections, users

QMARK = sqlite.dialect(paramstyle="qmark")
FORMAT = mysql.dialect(paramstyle="format")
BY_UID = select(users.c.high_water).where(users.c.userid == bindparam("uid"))


def test_the_name_travels_in_front_as_a_comment() -> None:
    assert Statement("look", BY_UID, QMARK).sql == (
        "/* look */ SELECT storage_users.high_water FROM storage_users WHERE storage_users.userid = ?"
    )


def test_parameters_are_put_in_the_order_of_the_text() -> None:
    clause = update(users).where(users.c.userid == bindparam("uid")).values(high_water=bindparam("time"))
    statement = Statement("mark", clause, FORMAT)
    assert (
        statement.sql == "/* mark */ UPDATE storage_users SET high_water=%s WHERE storage_users.userid = %s"
    )
    assert tuple(statement.bind({"uid": 7, "time": 9, "unused": 1})) == (9, 7)


def test_one_parameter_is_a_sequence_too() -> None:
    assert tuple(Statement("look", BY_UID, QMARK).bind({"uid": 7})) == (7,)


def test_no_parameter_is_an_empty_sequence() -> None:
    assert tuple(Statement("ping", select(text("1")), QMARK).bind({})) == ()


def test_constants_of_the_clause_are_bound_with_the_rest() -> None:
    clause = select(users.c.userid).where(users.c.userid == bindparam("uid"), users.c.high_water > 5)
    assert tuple(Statement("constant", clause, QMARK).bind({"uid": 7})) == (7, 5)


def test_a_parameter_used_twice_is_given_twice() -> None:
    uid: object = bindparam("uid")
    clause = select(users.c.userid).where(users.c.userid == uid, users.c.high_water > uid)
    assert tuple(Statement("twice", clause, QMARK).bind({"uid": 7})) == (7, 7)


def test_a_missing_parameter_is_an_error() -> None:
    with pytest.raises(KeyError):
        Statement("look", BY_UID, QMARK).bind({"id": 7})


def test_a_list_of_ids_is_padded_with_its_last() -> None:
    ids = bso.c.id.in_([bindparam(f"id{i}") for i in range(4)])
    clause = select(bso.c.modified).where(bso.c.userid == bindparam("uid"), ids, bso.c.ttl > bindparam("now"))
    statement = IdsStatement("some", clause, QMARK, 4)
    values = {"uid": 7, "now": 9}
    assert statement.write(values, ["a", "b"]).parameters == [7, "a", "b", "b", "b", 9]
    assert statement.write(values, ["a", "b", "c", "d"]).parameters == [7, "a", "b", "c", "d", 9]


def test_ids_in_the_text_are_hexadecimal_and_not_padded() -> None:
    ids = bso.c.id.in_([bindparam(f"id{i}") for i in range(4)])
    clause = select(bso.c.modified).where(bso.c.userid == bindparam("uid"), ids, bso.c.ttl > bindparam("now"))
    write = IdsStatement("some", clause, FORMAT, 4, inline=True).write({"uid": 7, "now": 9}, ["a'", "%s"])
    assert "IN (X'6127',X'2573') AND" in write.sql
    assert write.sql.count("%s") == 2
    assert write.parameters == [7, 9]


@pytest.mark.parametrize("dialect", [QMARK, FORMAT], ids=["qmark", "format"])
def test_any_number_of_rows_is_one_insert(dialect: Dialect) -> None:
    statement = RowsStatement("add", insert(collections), collections, dialect)
    mark = "?" if dialect is QMARK else "%s"
    for rows in ([(1, 2)], [(1, 2), (3, 4), (5, 6)], [(7, 8), (9, 10), (11, 12)]):
        write = statement.write(rows)
        group = f"({mark}, {mark})"
        values = ", ".join([group] * len(rows))
        assert write.sql == f"/* add */ INSERT INTO collections (collectionid, name) VALUES {values}"
        assert list(write.parameters) == [value for row in rows for value in row]
