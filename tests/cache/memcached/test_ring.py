"""Where keys are placed: evenly, by weight, by name alone, and the same for ever."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.cache.memcached.ring import Modulo, Placed, Placement, Ring, again, tag_of

GOLDEN = Path(__file__).parent / "placements.txt"
CONFIGURATIONS = {
    "three equal ones": [Placed("a"), Placed("b"), Placed("c")],
    "weights": [Placed("one", 1), Placed("two", 2), Placed("four", 4)],
    "addresses": [Placed("10.0.0.1:11211"), Placed("10.0.0.2:11211"), Placed("[::1]:11211", 3)],
}
TAGS = [b"%d" % number for number in range(1, 20_001)]

THREE = CONFIGURATIONS["three equal ones"]
STRATEGIES = pytest.mark.parametrize("strategy", [Ring, Modulo])


def placements() -> str:
    """A thousand tags under each configuration, a line each."""
    rings = [Ring(servers) for servers in CONFIGURATIONS.values()]
    lines = (" ".join([tag.decode(), *(ring.find(tag) for ring in rings)]) for tag in TAGS[:1000])
    return "\n".join(lines) + "\n"


def test_placement_is_that_of_the_golden_file() -> None:
    assert placements() == GOLDEN.read_text()


def test_placement_does_not_depend_on_the_process() -> None:
    code = "from tests.cache.memcached.test_ring import placements; print(placements(), end='')"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    ).stdout
    assert printed == GOLDEN.read_text()


def test_placement_does_not_depend_on_the_order_of_the_settings() -> None:
    ring, turned = Ring(THREE), Ring(THREE[::-1])
    assert all(ring.find(tag) == turned.find(tag) for tag in TAGS[:1000])


def test_a_fourth_server_of_equal_weight_takes_a_quarter_and_moves_nothing_else() -> None:
    before, after = Ring(THREE), Ring([*THREE, Placed("d")])
    moved = [tag for tag in TAGS if before.find(tag) != after.find(tag)]
    assert {after.find(tag) for tag in moved} == {"d"}
    assert 0.22 <= len(moved) / len(TAGS) <= 0.28


def test_modulo_moves_most_keys_when_a_server_is_added() -> None:
    before, after = Modulo(THREE), Modulo([*THREE, Placed("d")])
    moved = sum(before.find(tag) != after.find(tag) for tag in TAGS)
    assert 0.72 <= moved / len(TAGS) <= 0.78


@STRATEGIES
def test_shares_are_as_the_weights(strategy: Callable[[Sequence[Placed]], Placement]) -> None:
    servers = CONFIGURATIONS["weights"]
    placement = strategy(servers)
    counts = Counter(placement.find(tag) for tag in TAGS)
    for name, weight in servers:
        assert counts[name] / len(TAGS) == pytest.approx(weight / 7, rel=0.15)


def test_the_keys_of_a_failed_server_spread_over_the_others_by_weight() -> None:
    servers = [Placed("a"), Placed("b"), Placed("c", 2), Placed("d")]
    ring = Ring(servers)
    lost = [tag for tag in TAGS if ring.find(tag) == "d"]
    stand_ins: Counter[str] = Counter()
    for tag in lost:
        attempts = (ring.find(again(tag, attempt)) for attempt in range(20))
        stand_ins[next(name for name in attempts if name != "d")] += 1
    for name, weight in servers[:3]:
        assert stand_ins[name] / len(lost) == pytest.approx(weight / 4, rel=0.15)


@STRATEGIES
def test_replicas_are_on_other_servers_each_once(
    strategy: Callable[[Sequence[Placed]], Ring | Modulo],
) -> None:
    placement = strategy(CONFIGURATIONS["weights"])
    for tag in TAGS[:200]:
        assert {placement.find(tag), *placement.others(tag)} == {"one", "two", "four"}
        assert len(list(placement.others(tag))) == 2


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=6), st.data())
def test_a_server_that_is_taken_away_moves_its_own_keys_only(names: set[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(names)))
    before = Ring([Placed(name) for name in names])
    after = Ring([Placed(name) for name in names if name != gone])
    for tag in TAGS[:100]:
        if before.find(tag) != gone:
            assert after.find(tag) == before.find(tag)


@pytest.mark.parametrize(
    ("key", "tag"),
    [(b"17:tabs", b"17"), (b"17:a:b", b"17"), (b"17", b"17"), (b":x", b":x"), (b"17:", b"17")],
)
def test_all_keys_of_a_user_have_one_tag(key: bytes, tag: bytes) -> None:
    assert tag_of(key) == tag


@STRATEGIES
@pytest.mark.parametrize(
    ("servers", "reason"),
    [
        ([], "no server is given"),
        ([Placed("a"), Placed("a")], "two servers have the name 'a'"),
        ([Placed("a", 0)], "the weight of 'a' is 0: it must be at least 1"),
    ],
)
def test_servers_that_cannot_be_told_apart_or_have_no_share_are_refused(
    strategy: Callable[[Sequence[Placed]], Placement], servers: list[Placed], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        strategy(servers)
