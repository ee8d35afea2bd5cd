"""The tables, one definition for all databases. `migrations/` builds exactly these; a test compares them.

The family is the one that sync servers have always had (sync-api section 19), with these differences:

* `storage_users` is new: one row per user with the high-water mark of time, the row that every writer locks. It
  outlives the collections, so no time is ever handed out twice. `cached` has the times of collections whose
  items live in a cache alone (`kept.py`), here so that the locking statement reads them on its way; it is NULL
  for a user without any.
* `user_collections` keeps `count` and `total_bytes`, changed in the transaction that changes the items, so
  that quota and usage never sum over items. Expired items count until they are purged; readers subtract them,
  which touches only expired rows.
* `bso.ttl` is the absolute expiry in milliseconds, as the protocol's tests measure it to fractions of a
  second; the old whole seconds lose up to one. NEVER stands for no expiry.
* One `bso` table instead of a hundred by uid modulo 100: the primary key begins with the user, so the rows of
  one user lie together anyway, and a database that wants partitions can have them below this name.
* `batch_uploads.created` holds what used to be encoded in the batch's id, which is random now.
* userid is BIGINT: the protocol allows ten digits. Ids are compared as bytes, without padding and with case:
  MySQL's default collations would take "a", "A" and "a " for one id.
* `cache_servers` is new: the state of each cache server, which all processes share (`storage.durable`).

Times are milliseconds since the epoch, multiples of 10, as existing databases have them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import LONGTEXT, VARBINARY, VARCHAR

NEVER = 9_999_999_999_999
"""The expiry, in milliseconds, of an item without one: in the year 2286, beyond the longest ttl."""

STANDARD_COLLECTIONS = {
    1: "clients",
    2: "crypto",
    3: "forms",
    4: "history",
    5: "keys",
    6: "meta",
    7: "bookmarks",
    8: "prefs",
    9: "tabs",
    10: "passwords",
    11: "addons",
    12: "addresses",
    13: "creditcards",
}
FIRST_CUSTOM_COLLECTION = 100

metadata = MetaData()

ItemId = (
    String(64)
    .with_variant(VARBINARY(64), "mysql", "mariadb")
    .with_variant(String(64, collation="C"), "postgresql")
)
CollectionName = String(32).with_variant(
    VARCHAR(32, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)
ServerName = String(255).with_variant(
    VARCHAR(255, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)
# PostgreSQL's text cannot hold U+0000, which a payload may contain; its bytea can.
Payload = (
    Text()
    .with_variant(LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
    .with_variant(LargeBinary(), "postgresql")
)

users = Table(
    "storage_users",
    metadata,
    Column("userid", BigInteger, primary_key=True, autoincrement=False),
    Column("high_water", BigInteger, nullable=False),
    Column("cached", LargeBinary, nullable=True),
)

collections = Table(
    "collections",
    metadata,
    Column("collectionid", Integer, primary_key=True, autoincrement=False),
    Column("name", CollectionName, nullable=False, unique=True),
)

user_collections = Table(
    "user_collections",
    metadata,
    Column("userid", BigInteger, primary_key=True, autoincrement=False),
    Column("collection", Integer, primary_key=True, autoincrement=False),
    Column("last_modified", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
)

bso = Table(
    "bso",
    metadata,
    Column("userid", BigInteger, primary_key=True, autoincrement=False),
    Column("collection", Integer, primary_key=True, autoincrement=False),
    Column("id", ItemId, primary_key=True),
    Column("sortindex", Integer, nullable=True),
    Column("modified", BigInteger, nullable=False),
    Column("payload", Payload, nullable=False),
    Column("payload_size", Integer, nullable=False),
    Column("ttl", BigInteger, nullable=False),
)
# The order of the listing and of its pages: newest or oldest first, ties by id.
Index("bso_modified", bso.c.userid, bso.c.collection, bso.c.modified, bso.c.id)
# For the expired rows of one user: usage subtracts them, purge deletes them. Where partial indexes exist,
# items without a ttl, nearly all, cost nothing.
Index(
    "bso_ttl",
    bso.c.userid,
    bso.c.ttl,
    sqlite_where=bso.c.ttl < NEVER,
    postgresql_where=bso.c.ttl < NEVER,
)

batch_uploads = Table(
    "batch_uploads",
    metadata,
    Column("userid", BigInteger, primary_key=True, autoincrement=False),
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    Column("collection", Integer, nullable=False),
    Column("created", BigInteger, nullable=False),
)
Index("batch_uploads_created", batch_uploads.c.created)

batch_upload_items = Table(
    "batch_upload_items",
    metadata,
    Column("userid", BigInteger, primary_key=True, autoincrement=False),
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    Column("id", ItemId, primary_key=True),
    Column("sortindex", Integer, nullable=True),
    Column("payload", Payload, nullable=True),
    Column("payload_size", Integer, nullable=True),
    Column("ttl_offset", Integer, nullable=True),
)

cache_servers = Table(
    "cache_servers",
    metadata,
    Column("name", ServerName, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=True),
    Column("reason", String(2000), nullable=True),
    Column("changed_by", String(100), nullable=True),
)
