"""The checker finds out installations that are wrong on purpose, and has nothing against the right ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from syncstore.testing.simulation.configurations import CONFIGURATIONS, Configuration
from syncstore.testing.simulation.exhibits import EXHIBITS
from syncstore.testing.simulation.plan import draw
from syncstore.testing.simulation.run import Result, run

# What each exhibit is found out by, and within how many seeds; the others take too long for every day.
FOUND_OUT = {
    "stores blindly": {"times of two states", "stale", "stale or never committed", "an item of no state"},
    "answers before it knows": {
        *("given up for lost, though the cache did not lose it", "stale", "stale or never committed"),
        *("a batch vanished", "an item of no state"),
    },
    "loses quietly": {"times of two states", "contents that nobody wrote"},
    "trusts for ever": {"stale", "stale or never committed", "an item of no state"},
    "remembers answers": {"stale", "wrong items"},
    "acknowledges too soon": {"acknowledged, not committed", "a batch vanished"},
    "tries again": {"written, but refused"},
    "sees nothing before": {"a work saw what was not there"},
    "looks twice": {"wrong items"},
    "forgets items": {"an item of no state"},
    "crashes": {"crash"},
    "never lets go": {"stuck"},
}
RARE = {
    "fills by plain reads": {"times of two states", "stale", "stale or never committed"},
    "goes on without waiting": {"stale", "stale or never committed", "an item of no state"},
    "tokens of another life": {"stale", "stale or never committed", "times of two states"},
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Histories are full of faults that are worth a warning elsewhere."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def first_violation(configuration: Configuration, seeds: int) -> Result | None:
    for seed in range(seeds):
        result = run(configuration, draw(seed, configuration.mix))
        if result.violations:
            return result
    return None


@pytest.mark.parametrize("name", FOUND_OUT)
def test_a_wrong_installation_is_found_out(name: str) -> None:
    result = first_violation(EXHIBITS[name], 3000)
    assert result is not None
    assert result.violations[0].rule in FOUND_OUT[name]


@pytest.mark.soak
@pytest.mark.parametrize("name", RARE)
def test_a_rarely_wrong_installation_is_found_out(name: str) -> None:
    result = first_violation(EXHIBITS[name], 100_000)
    assert result is not None
    assert result.violations[0].rule in RARE[name]


def test_every_exhibit_is_looked_at() -> None:
    assert {*FOUND_OUT, *RARE} == {*EXHIBITS}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_right_installation_breaks_no_rule(name: str) -> None:
    configuration = CONFIGURATIONS[name]
    for seed in range(500):
        result = run(configuration, draw(seed, configuration.mix))
        assert not result.violations, (
            f"python -m syncstore.testing.simulation --config {name} --replay {seed}"
        )
