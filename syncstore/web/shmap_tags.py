"""Entity tags: the token of a key's state as text, the same in every process that sees the same token.

A tag is `"WHERE.NUMBER"`. WHERE is made of the token's incarnation: of plain data a digest, so that a tag outlives a
restart where the token does. An object that exists in this process alone has a random word for its life: a tag from
before a restart stands for nothing after it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections import OrderedDict
from typing import Final

from syncstore.cache.api import Token

_MOST: Final = 256  # words that are kept; a cache seldom has more than one incarnation at a time
_BYTES: Final = 9


class EntityTags:
    """The tags of tokens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._words: OrderedDict[object, str] = OrderedDict()

    def of(self, token: Token) -> str:
        """The tag of a state, with its quotes."""
        word = self._words.get(token.incarnation)
        if word is None:
            word = self._remember(token.incarnation)
        return f'"{word}.{token.number}"'

    def _remember(self, incarnation: object) -> str:
        with self._lock:
            word = self._words.get(incarnation)
            if word is None:
                word = self._words[incarnation] = _word(incarnation)
                # One that is forgotten gets another word: its tags match no more, which is what a conflict is for.
                if len(self._words) > _MOST:
                    self._words.popitem(last=False)
            return word


def _word(incarnation: object) -> str:
    if _is_plain(incarnation):
        digest = hashlib.blake2b(repr(incarnation).encode(), digest_size=_BYTES).digest()
    else:
        digest = os.urandom(_BYTES)
    return base64.urlsafe_b64encode(digest).decode()


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bytes | int | float)
