"""What the settings say of a cyclic buffer, and how what they may not say is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from syncstore.cache.api import Provider
from syncstore.cache.making import Description, Options, Surroundings, make
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError

Make = Callable[[str], Provider]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    def nobody(name: str) -> object:
        raise AssertionError(name)

    def make_one(text: str) -> Provider:
        description = Description.parse(text)
        return make(
            description,
            Surroundings("a", SystemClock(), tmp_path, Options(description.options), nobody, nobody, ""),  # type: ignore[arg-type]  # neither is asked
        )

    return make_one


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        ("/x(8191)", "at least 8192"),
        ("/x(67108864)", "less than 67108864"),
        ("/x(abc)", "'abc' must be a whole number"),
        ("/x()", "'' must be a whole number"),
        ("/x(-1)", "'-1' must be a whole number"),
        ("/x(1", "no closing parenthesis"),
        ("/x(1)y", "no closing parenthesis"),
        ("/x)", "no opening parenthesis"),
        ("", "must name one file"),
        ("(8192)", "must name one file"),
        ("/x((8192)", "must name one file"),
        ("/x(8192))", "must name one file"),
    ],
)
def test_it_refuses_what_is_no_path_and_size(made: Make, tmp_path: Path, argument: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made(f"shmcb:{argument}")
    assert fault in str(refused.value)
    assert "write it as shmcb:/run/sync/cache(524288)" in str(refused.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "option", ["item_size=1", "item_size=x", "lock_timeout=0", "lock_timeout=61", "size=8192"]
)
def test_it_refuses_options_that_are_none(made: Make, option: str) -> None:
    with pytest.raises(ConfigError, match=option.partition("=")[0]):
        made(f"shmcb:/x {option}")


def test_a_relative_path_starts_from_here_and_no_file_is_made_before_the_first_call(
    made: Make, tmp_path: Path
) -> None:
    cache = made("shmcb:sub/../cache(8192) item_size=100 lock_timeout=20")
    assert cache.limits.max_value > 1000
    assert os.listdir(tmp_path) == []
    cache.store(b"k", b"x")
    assert os.listdir(tmp_path) == ["cache"]
    assert (tmp_path / "cache").stat().st_size == 8192
    cache.close()


def test_a_file_is_of_half_a_mebibyte_unless_it_is_said(made: Make, tmp_path: Path) -> None:
    cache = made("shmcb:cache")
    cache.store(b"k", b"x")
    assert (tmp_path / "cache").stat().st_size == 524288
    cache.close()
