"""Beginning anew in the child after a fork: for what a child must not share with its parent, such as a connection."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def in_each_child(begin: Callable[[], object]) -> None:
    """Call a bound method in each child that Python forks, for as long as its object lives, which this does not
    prolong. Forks that do not tell Python are not noticed."""
    method = weakref.WeakMethod(begin)

    def after_fork() -> None:
        living = method()
        if living is not None:
            living()

    os.register_at_fork(after_in_child=after_fork)
