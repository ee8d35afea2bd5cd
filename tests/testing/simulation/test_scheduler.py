"""The scheduler: turns, time, waiting, death, and that a seed says it all."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from syncstore.testing.simulation.determinism import TaskLock
from syncstore.testing.simulation.scheduler import SECOND, Mode, Process, Stuck, Task, World

MODES: tuple[Mode, ...] = ("random", "sticky", "priorities")


def world_of(seed: int = 1, mode: Mode = "random", **options: int) -> World:
    return World(Random(seed), mode=mode, **options)


def count_to(world: World, name: str, most: int, done: list[str]) -> None:
    for i in range(most):
        world.step("count")
        done.append(f"{name}{i}")


def order(seed: int, mode: Mode) -> list[str]:
    world, done = world_of(seed, mode), list[str]()
    for name in "abc":
        world.spawn(name, partial(count_to, world, name, 5, done))
    world.run()
    return done


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_gives_the_same_order_each_time(mode: Mode) -> None:
    assert order(7, mode) == order(7, mode)


@pytest.mark.parametrize("mode", MODES)
def test_other_seeds_give_other_orders(mode: Mode) -> None:
    orders = [order(seed, mode) for seed in range(20)]
    assert len({tuple(one) for one in orders}) > 3
    assert all(sorted(one) == sorted(orders[0]) for one in orders)


def test_everybody_sleeps_and_time_jumps_to_the_first_who_wakes() -> None:
    world, woken = world_of(tick=0), list[tuple[str, int]]()

    def nap(name: str, seconds: float) -> None:
        world.sleep(seconds)
        woken.append((name, round((world.now - world.started) / SECOND)))

    world.spawn("late", partial(nap, "late", 9))
    world.spawn("early", partial(nap, "early", 2))
    world.run()
    assert woken == [("early", 2), ("late", 9)]


def test_who_waits_in_vain_gives_up_when_the_time_is_up() -> None:
    world, outcome = world_of(), list[bool]()
    world.spawn("waits", lambda: outcome.append(world.take(lambda: False, [], 1.5, "wait")))
    world.run()
    assert outcome == [False]
    assert world.now - world.started >= 1.5 * SECOND


def test_who_waits_for_each_other_is_found_out() -> None:
    world = world_of()
    locks = TaskLock(world), TaskLock(world)

    def take_both(first: int) -> None:
        with locks[first]:
            world.sleep(1)
            with locks[1 - first]:
                pass

    for first in (0, 1):
        world.spawn(f"takes {first} first", partial(take_both, first))
    with pytest.raises(Stuck, match="deadlock"):
        world.run()
    world.end()


def test_who_never_ends_is_found_out() -> None:
    world = world_of(most_steps=500)

    def loop() -> None:
        while True:
            world.step("again")

    world.spawn("loops", loop)
    with pytest.raises(Stuck, match="no end after 501 steps"):
        world.run()
    world.end()


def test_a_dead_process_does_nothing_more_not_even_when_it_cleans_up() -> None:
    world, did = world_of(), list[str]()
    process = Process("victim")

    def work() -> None:
        assert world.current is not None
        world.current.process = process
        try:
            world.step("begin")
            world.sleep(5)
            did.append("went on")
        finally:
            world.step("clean up")
            did.append("cleaned up")

    def kill() -> None:
        world.sleep(1)
        world.died(process)

    world.spawn("worker", work)
    world.spawn("killer", kill)
    world.run()
    assert did == []


def test_a_frozen_process_goes_on_when_it_thaws() -> None:
    world, seen = world_of(), list[float]()
    process = Process("frozen")

    def work() -> None:
        assert world.current is not None
        world.current.process = process
        world.step("before")
        process.frozen_until = world.now + 3 * SECOND
        world.step("after")
        seen.append((world.now - world.started) / SECOND)

    world.spawn("worker", work)
    world.run()
    assert seen[0] >= 3


def test_what_was_left_for_later_is_done_though_nobody_waits_for_it() -> None:
    world, done = world_of(), list[str]()

    def work() -> None:
        world.later("arrives", lambda: done.append("late"), most_steps=1000)
        done.append("worker")
        world.sleep(60)

    world.spawn("worker", work)
    world.run()
    assert done == ["worker", "late"]


def test_a_daemon_keeps_nobody_waiting() -> None:
    world = world_of()

    def for_ever() -> None:
        while True:
            world.sleep(1)

    world.spawn("daemon", for_ever, daemon=True)
    task: Task = world.spawn("worker", lambda: world.sleep(3))
    world.run()
    assert task.done
    world.end()
