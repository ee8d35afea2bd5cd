"""The provider that docs/write-a-provider.md prints is a provider."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from syncstore.cache import making
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches

PAGE = Path(__file__).parents[2] / "docs" / "write-a-provider.md"


def printed() -> Any:
    """The module of the page's first block of Python."""
    (code, *_) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    module = ModuleType("printed_provider")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)  # noqa: S102 - our own page
    return module


class TestConformance(CacheConformance):
    can_be_unreachable = False

    @pytest.fixture
    def open_cache(self) -> Iterator[OpenCache]:
        with OpenCaches(printed().DictionaryProvider) as open_cache:
            yield open_cache


def test_it_is_made_of_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = printed()
    surroundings: Any = making.Surroundings(
        "objects", SystemClock(), tmp_path, making.Options({}), lambda name: None, lambda name: None, ""  # type: ignore[arg-type, return-value]  # not asked for
    )  # fmt: skip
    assert module.create("", surroundings).name == "dictionary"
    with pytest.raises(ConfigError, match="has no argument"):
        module.create("x", surroundings)


def test_the_page_names_the_group_of_entry_points() -> None:
    assert f'[project.entry-points."{making.GROUP}"]' in PAGE.read_text()
