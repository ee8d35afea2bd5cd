"""Two processes' locks in one place, which a module's fixture `open_here` opens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.locks.api import Locks
from syncstore.testing.lock_holder import OpenLocks


@pytest.fixture
def ours(open_here: OpenLocks) -> Iterator[Locks]:
    with open_here() as locks:
        yield locks


@pytest.fixture
def others(open_here: OpenLocks) -> Iterator[Locks]:
    with open_here() as locks:
        yield locks
