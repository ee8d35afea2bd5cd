"""The state of a cache that is part of the process."""

from __future__ import annotations

import os

from syncstore.cache.states import AlwaysUp
from syncstore.errors import Unavailable


def test_a_memory_is_of_use_to_the_process_that_made_it() -> None:
    state = AlwaysUp()
    assert (state.trusted(), state.judge(lambda _: 1), state.troubled()) == (0, 0, False)
    child = os.fork()
    if not child:
        os._exit(int((state.trusted(), state.judge(lambda _: 1), state.troubled()) != (None, None, True)))
    assert os.waitpid(child, 0)[1] == 0


def test_no_trouble_is_held_against_a_memory() -> None:
    state = AlwaysUp()
    for _ in range(10):
        state.trouble("it was slow")
    state.answered()
    assert isinstance(state.declare_failed(0, "it refused a mark"), Unavailable)
    assert (state.trusted(), state.still(0), state.troubled()) == (0, True, False)
