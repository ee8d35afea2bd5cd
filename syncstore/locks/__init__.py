"""Re-entrant, thread-local read/write locks on a user's collections, with exchangeable backends."""
