"""One key of the settings: its name, its parser, its default, and what it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from types import MappingProxyType
from typing import Any


def setting(
    key: str, parse: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False, shown: str = ""
) -> Any:
    """One key of the schema. `shown` replaces the default in the documentation where it needs words."""
    return field(
        default_factory=lambda: default,  # a factory, since some defaults are mappings
        repr=not secret,
        metadata={
            "key": key,
            "default": default,
            "parse": parse,
            "doc": doc,
            "secret": secret,
            "shown": shown,
        },
    )


def named_setting(
    key: str, parse: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False, shown: str = ""
) -> Any:
    """A key that is there once for each name, where it has `<name>`. The value is a mapping by name.

    `default` is for a name whose key is not set; the mapping does not hold it.
    """
    made = setting(key, parse, default, doc, secret=secret, shown=shown)
    return field(default_factory=lambda: MappingProxyType({}), repr=made.repr, metadata=made.metadata)
