"""The durable store: users' collections in SQLite, MariaDB/MySQL or PostgreSQL."""
