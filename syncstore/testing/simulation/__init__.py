"""A simulator of whole installations: the real layered storage, locks and server states over simulated parts.

Clients, processes, memcached and SQL live in one Python process on a seeded scheduler that decides at every step of
I/O who goes on, and on a virtual clock. Whatever can fail fails: values are evicted, the cache restarts, answers are
lost, commands arrive late, processes die or freeze, COMMITs are not answered. A checker compares every answer with
what was committed. The same seed gives the same run:

    python -m syncstore.testing.simulation --histories 200000 --jobs 2
    python -m syncstore.testing.simulation --config memcached-locks --replay 4711
"""
