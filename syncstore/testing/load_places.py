"""The collections that a load works on, and what becomes of each."""

from __future__ import annotations

from typing import Final

import msgspec


class Place(msgspec.Struct, frozen=True):
    """A collection. `followed` ones are polled with `newer`, and their items are never deleted one by one, so that a
    follower ends with all of it; from `edited` ones items are; `dropped` ones come and go whole."""

    name: str
    followed: bool = False
    edited: bool = False
    dropped: bool = False


PLAIN: Final = (Place("log", followed=True), Place("work", edited=True), Place("scratch", dropped=True))
"""What a load works on where nothing else is said; not in the lists of `cache_settings`."""

COPIED: Final = (
    Place("crypto", followed=True),
    Place("meta", edited=True),
    Place("clients", edited=True, dropped=True),
)
"""Written through to a cache."""

CACHED_ONLY: Final = (Place("tabs", edited=True, dropped=True), Place("prefs", followed=True))
"""In a cache alone."""

ALL: Final = PLAIN + COPIED + CACHED_ONLY


def names(places: tuple[Place, ...]) -> str:
    """The names, as settings list collections."""
    return " ".join(place.name for place in places)
