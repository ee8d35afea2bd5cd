"""MariaDB and MySQL for the provider `sql`, through mysqlclient.

The driver writes values into the text, escaped, which may double them; so several statements are one packet, and how
large that may be is a limit of a value. READ COMMITTED, in which InnoDB locks rows and no gaps between them. The row
count is that of rows changed: CLIENT.FOUND_ROWS is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import MySQLdb
from MySQLdb.constants import CLIENT
from sqlalchemy import URL
from sqlalchemy.dialects import mysql

from syncstore.cache.pooled import quiet, silence
from syncstore.cache.sql.address import shown
from syncstore.cache.sql.kinds import Fault, Link, NotAllowed, Result, Step, settled
from syncstore.cache.sql.statements import INCARNATION, Statements

CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS socache (ns VARBINARY(16) NOT NULL, `key` VARBINARY(250) NOT NULL,"
    " value LONGBLOB NOT NULL, expires DOUBLE NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (ns, `key`),"
    " KEY socache_expires (ns, expires)) ENGINE = InnoDB"
)
_FIND: Final = "SELECT value FROM socache WHERE ns = '' AND `key` = %s"
_ENTER: Final = "INSERT IGNORE INTO socache VALUES ('', %s, %s, 0, 0)"

# Codes of the server and the client library (errmsg.h, mysqld_error.h).
_IN_THE_WAY: Final = {1205, 3572, 1213, 1020}
_MISSING: Final = 1146
_FULL: Final = {1021, 1026, 1114}
_ELSEWHERE: Final = {1290, 1792, 1836}
_NOT_ALLOWED: Final = {1044, 1142, 1227}
_GONE: Final = {1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 4031}
_CLIENT: Final = range(2000, 3000)


class MysqlLink:
    """A connection."""

    def __init__(self, connection: Any, incarnation: str, packet: int) -> None:
        self._connection = connection
        self.incarnation = incarnation
        self.room = packet // 2  # of what is escaped

    def usable(self) -> bool:
        return quiet(self._connection.fileno())

    def wait_until(self, end: float) -> None:
        """What this driver is told at the beginning holds for all calls."""

    def one(self, step: Step) -> Result:
        cursor = self._connection.cursor()
        touched: int = cursor.execute(step.sql, step.parameters)
        result: Result = list(cursor.fetchall()) if step.looks else touched
        cursor.close()
        return result

    def together(self, steps: Sequence[Step]) -> list[Result]:
        """All in one packet; the server stops at the first statement that fails."""
        cursor = self._connection.cursor()
        text = "; ".join(["BEGIN", *(step.sql for step in steps), "COMMIT"])
        cursor.execute(text, [value for step in steps for value in step.parameters])
        results: list[Result] = []
        for step in steps:
            cursor.nextset()
            results.append(list(cursor.fetchall()) if step.looks else cursor.rowcount)
        while cursor.nextset() is not None:
            pass
        cursor.close()
        return results

    def restore(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        with suppress(MySQLdb.Error):
            self._connection.close()

    def abandon(self) -> bool:
        silence(self._connection.fileno())
        return True


class Mysql:
    """The database that a URL names. Waits are in whole seconds, since the driver knows no others."""

    error: type[Exception] = MySQLdb.Error
    shared_hosts = True
    size = None
    patient = False

    def __init__(self, url: URL, timeout: float) -> None:
        self.shown = shown(url)
        self._timeout = timeout
        made: Any = url.get_dialect()()
        positional, named = made.create_connect_args(url)
        whole = max(1, math.ceil(timeout))
        self._arguments = positional
        self._named = {
            **named,
            "autocommit": True,
            "charset": "utf8mb4",
            "connect_timeout": whole,
            "read_timeout": whole,
            "write_timeout": whole,
            "client_flag": CLIENT.MULTI_STATEMENTS,
        }
        dialect: Any = mysql.dialect(paramstyle="format")
        self.statements = Statements(dialect)

    def connect(self) -> Link:
        connection = MySQLdb.connect(*self._arguments, **self._named)
        try:
            cursor = connection.cursor()
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            waits = f"innodb_lock_wait_timeout = {max(1, int(self._timeout * 0.75))}"
            if "MariaDB" in connection.get_server_info():
                waits += f", max_statement_time = {self._timeout * 0.9:.3f}"
            cursor.execute(f"SET SESSION {waits}, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'")
            cursor.execute("SELECT @@max_allowed_packet")
            packet = int(cursor.fetchone()[0])
            incarnation = _incarnation(cursor)
            cursor.close()
        except BaseException:
            connection.close()
            raise
        return MysqlLink(connection, incarnation, packet)

    def fault(self, error: Exception, link: Link | None) -> Fault:
        """By the error's number."""
        code = error.args[0] if error.args else None
        if code in _IN_THE_WAY:
            return "in the way"
        if code in _GONE or code in _CLIENT or isinstance(error, MySQLdb.InterfaceError):
            return "gone"
        if code == _MISSING:
            return "missing"
        if code in _FULL:
            return "full"
        return "elsewhere" if code in _ELSEWHERE else "refused"


def _incarnation(cursor: Any) -> str:
    def look() -> bytes | None:
        try:
            cursor.execute(_FIND, (INCARNATION,))
        except MySQLdb.ProgrammingError as error:
            if error.args[0] == _MISSING:
                raise LookupError from error
            raise
        row: tuple[bytes] | None = cursor.fetchone()
        return row and row[0]

    def make() -> None:
        try:
            cursor.execute(CREATE)
        except MySQLdb.Error as error:
            if error.args[0] in _NOT_ALLOWED:
                raise NotAllowed(str(error.args[1])) from error
            if error.args[0] not in _IN_THE_WAY:
                raise
            time.sleep(0.01)

    def enter(incarnation: bytes) -> None:
        cursor.execute(_ENTER, (INCARNATION, incarnation))

    return settled(look, make, enter)
