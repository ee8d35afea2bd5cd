"""The memcached layer over a durable store: one metadata record per user, and collections in the cache."""
