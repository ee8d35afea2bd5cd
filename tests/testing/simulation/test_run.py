"""Whole histories: the same seed gives the same run, and a failing one can be made small and read."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from syncstore.testing.simulation.campaign import campaign
from syncstore.testing.simulation.configurations import CONFIGURATIONS
from syncstore.testing.simulation.exhibits import EXHIBITS
from syncstore.testing.simulation.plan import Plan, draw
from syncstore.testing.simulation.report import describe
from syncstore.testing.simulation.run import run
from syncstore.testing.simulation.shrink import shrunk


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", ["storm", "memcached-locks", "zookeeper-locks"])
def test_a_seed_gives_the_same_history_each_time(name: str) -> None:
    configuration = CONFIGURATIONS[name]
    for seed in range(30):
        plan = draw(seed, configuration.mix)
        once, again = (run(configuration, plan, trace=True) for _ in range(2))
        assert list(describe(configuration, once)) == list(describe(configuration, again))


def test_a_seed_gives_the_same_history_in_another_process() -> None:
    command = [sys.executable, "-m", "syncstore.testing.simulation", "--config", "storm", "--replay", "5"]
    outputs = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=60
        ).stdout
        for seed in ("1", "2")
    }
    (output,) = outputs
    assert b"no violation" in output


def test_a_failing_history_is_made_small() -> None:
    configuration = EXHIBITS["remembers answers"]
    plan = next(
        plan
        for plan in (draw(seed, configuration.mix) for seed in range(1000))
        if run(configuration, plan).violations and len(plan.clients) > 2
    )
    rule = run(configuration, plan).violations[0].rule
    small = shrunk(configuration, plan, rule)
    assert run(configuration, small).violations[0].rule == rule
    assert requests_of(small) <= min(5, requests_of(plan) - 2)
    assert not small.faults


def requests_of(plan: Plan) -> int:
    return sum(len(client.requests) for client in plan.clients) + len(plan.prelude)


def test_a_report_can_be_read() -> None:
    configuration = EXHIBITS["crashes"]
    result = run(configuration, draw(0, configuration.mix), trace=True)
    lines = list(describe(configuration, result))
    assert lines[0] == "configuration crashes, seed 0, schedule 0"
    assert any(">> counts" in line for line in lines)
    assert lines[-1].startswith("VIOLATION at step")


def test_a_campaign_sums_up() -> None:
    total = campaign("storm", 100, 60)
    assert total.histories == 60
    assert total.steps > 60 * 20
    assert sum(total.faults.values()) > 60
    assert not total.found


@pytest.mark.soak
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_history_of_many_breaks_a_rule(name: str) -> None:
    total = campaign(name, 10_000_000, 30_000, jobs=2)
    assert not total.found
