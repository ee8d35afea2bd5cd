"""What is begun anew in each child after a fork, and for how long."""

from __future__ import annotations

import os
import weakref

from syncstore.forks import in_each_child


class Begun:
    """Something that counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        in_each_child(self.begin)

    def begin(self) -> None:
        self.begun += 1


def _in_child(value: Begun) -> int:
    """How often the child has begun it."""
    pid = os.fork()
    if pid == 0:
        os._exit(value.begun)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_begins_anew_and_its_parent_does_not() -> None:
    value = Begun()
    assert (_in_child(value), value.begun) == (1, 0)
    assert (_in_child(value), value.begun) == (1, 0)


def test_what_nobody_holds_any_more_goes_and_is_not_begun() -> None:
    value = Begun()
    gone = weakref.ref(value)
    del value
    assert gone() is None
    assert _in_child(Begun()) == 1
