"""Collection names and their numbers in the database, which never change once given.

The map is global to the database, so both directions are kept in memory. A name gets its number at the first
write of a collection, never by reading or deleting: names stay for ever.
"""

from __future__ import annotations

from syncstore.errors import Unavailable
from syncstore.storage.sql.engine import Database
from syncstore.storage.sql.schema import FIRST_CUSTOM_COLLECTION, STANDARD_COLLECTIONS
from syncstore.storage.sql.statements import Statements

# Anyone with an account can invent names; more than these are looked up each time.
_MOST_REMEMBERED = 10_000
_ATTEMPTS = 20


class CollectionNames:
    """The map of one database."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements
        self._numbers = {name: number for number, name in STANDARD_COLLECTIONS.items()}
        self._names = dict(STANDARD_COLLECTIONS)

    def number(self, name: str) -> int | None:
        """The number of a collection's name; None when nobody ever wrote such a collection."""
        number = self._numbers.get(name)
        if number is None:
            rows = self._database.query(self._statements.collection_id, {"name": name})
            if not rows:
                return None
            number = int(rows[0][0])
            self._remember(number, name)
        return number

    def name(self, number: int) -> str:
        """The name behind a number that stands in a row."""
        name = self._names.get(number)
        if name is None:
            rows = self._database.query(self._statements.collection_name, {"collection": number})
            if not rows:
                raise Unavailable(f"collection {number} has rows but no name: the database is damaged")
            name = str(rows[0][0])
            self._remember(number, name)
        return name

    def create(self, name: str) -> int:
        """The number of a name, given now if it had none.

        In a transaction of its own: inside a user's it would make the users of new names wait for each other.
        """
        for _ in range(_ATTEMPTS):
            number = self.number(name)
            if number is not None:
                return number
            rows = self._database.query(self._statements.last_collection, {})
            free = max(int(rows[0][0] or 0) + 1, FIRST_CUSTOM_COLLECTION)
            # Another process may take the number or give the name first; then look again.
            self._database.insert_if_new(
                self._statements.add_collection_name, {"collection": free, "name": name}
            )
        raise Unavailable(f"no number for the new collection {name!r} in {_ATTEMPTS} attempts", 10)

    def _remember(self, number: int, name: str) -> None:
        if len(self._names) < _MOST_REMEMBERED:
            self._numbers[name] = number
            self._names[number] = name
