"""Each test has an empty folder to run its commands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncstore.testing.command import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
