"""For the `alembic` command of developers: `alembic -x url=sqlite:////tmp/x.db revision --autogenerate -m ...`.

The service does not come by here: `syncstore.storage.sql.migrate` runs the scripts in `versions` itself.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from syncstore.storage.sql.schema import metadata

url = context.get_x_argument(as_dictionary=True).get("url")
if url is None:
    raise SystemExit("say which database: alembic -x url=sqlite:////tmp/scratch.db ...")
with create_engine(url).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
