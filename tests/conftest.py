"""The order of the files: first those whose tests wait for servers, so that at the end no process is left with them."""

from __future__ import annotations

from pathlib import Path

import pytest

_FIRST = ("faults", "cli", "doctor", "zookeeper", "cache", "locks", "tokenserver", "museum")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folders; within one everything stays in its order."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(_HERE).parts[0] if item.path.is_relative_to(_HERE) else ""
    return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)
