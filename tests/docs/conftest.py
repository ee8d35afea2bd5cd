"""The documentation, found in the repository that these tests belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def pages() -> dict[str, str]:
    """The text of every page by its path from the repository's root."""
    found = [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").glob("**/*.md"),
        REPOSITORY / "bench" / "README.md",
    ]
    return {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in found}
