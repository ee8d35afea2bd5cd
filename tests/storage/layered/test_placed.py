"""Each call on a user goes to the layer over his home, and each chain of servers has one layer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from syncstore.cache.memcached.stand_ins import Chain
from syncstore.storage.api import Query, Storage
from syncstore.storage.layered.placed import Chained, PlacedStorage


class Layer:
    """Notes what it is asked, and answers with its own name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, call: str) -> Callable[..., str]:
        def answer(*arguments: Any, **named: Any) -> str:
            self.asked.append((call, *arguments, *named.items()))
            return f"{self.name}: {call}"

        return answer


LAYERS = {"even": Layer("even"), "odd": Layer("odd"), "below": Layer("below")}


@pytest.fixture
def storage() -> PlacedStorage:
    for layer in LAYERS.values():
        layer.asked.clear()
    layers = cast("dict[str, Storage]", LAYERS)
    return PlacedStorage(layers["below"], lambda uid: layers["odd" if uid % 2 else "even"])


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("collection_times", (), {}),
    ("collection_counts", (), {}),
    ("collection_usage", (), {}),
    ("collection_modified", ("tabs",), {}),
    ("find", ("tabs", Query()), {}),
    ("item", ("tabs", "a"), {}),
    ("lock_for_write", ("tabs", ("a", "b")), {"create": True}),
    ("lock_for_write", (None, ()), {"create": False}),
]


@pytest.mark.parametrize(("call", "arguments", "named"), CALLS)
def test_what_concerns_a_user_is_asked_of_the_layer_over_his_home(
    storage: PlacedStorage, call: str, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    for uid, home in ((7, "odd"), (8, "even")):
        assert getattr(storage, call)(uid, *arguments, **named) == f"{home}: {call}"
        assert LAYERS[home].asked == [(call, uid, *arguments, *named.items())]
    assert LAYERS["below"].asked == []


@pytest.mark.parametrize("call", ["check", "close"])
def test_what_concerns_nobody_is_asked_of_the_durable_store_once(storage: PlacedStorage, call: str) -> None:
    getattr(storage, call)()
    assert LAYERS["below"].asked == [(call,)]
    assert LAYERS["even"].asked == LAYERS["odd"].asked == []


def test_every_call_of_a_storage_is_there() -> None:
    calls = {name for name in vars(Storage) if not name.startswith("_")}
    assert calls == {name for name in vars(PlacedStorage) if not name.startswith("_")}


# -- one layer for each chain


def _over(chain: Chain) -> Storage:
    return cast("Storage", Layer("-".join(chain.names)))


def _name(storage: Storage) -> str:
    return cast("Layer", storage).name


def test_a_user_s_layer_is_that_of_the_chain_in_use() -> None:
    chains = {b"7": Chain(("a",), final=False), b"8": Chain(("b",), final=False)}
    of = Chained(chains.__getitem__, _over)
    assert (_name(of(7)), _name(of(8))) == ("a", "b")
    chains[b"7"] = Chain(("a", "b"), final=False)
    assert _name(of(7)) == "a-b"
    chains[b"7"] = Chain(("a",), final=False)
    assert _name(of(7)) == "a"


def test_a_layer_is_made_once_for_all_who_use_its_chain() -> None:
    made: list[Chain] = []

    def over(chain: Chain) -> Storage:
        made.append(chain)
        return _over(chain)

    chains = {b"7": Chain(("a",), final=False), b"8": Chain(("a",), final=False)}
    of = Chained(chains.__getitem__, over)
    assert of(7) is of(8) is of(7)
    chains[b"8"] = Chain(("a",), final=True)
    assert of(8) is not of(7), "a writer is told something else"
    assert made == [Chain(("a",), final=False), Chain(("a",), final=True)]


def test_threads_that_come_first_at_once_share_a_layer() -> None:
    together = threading.Barrier(8)

    def over(chain: Chain) -> Storage:
        together.wait(20)
        return _over(chain)

    of = Chained(lambda _: Chain(("a",), final=False), over)
    with ThreadPoolExecutor(8) as threads:
        assert len({id(layer) for layer in threads.map(of, range(8))}) == 1
