"""Making a cache of what the settings say: what is understood, and the words for what is not."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from syncstore.cache import making
from syncstore.cache.making import Description, Options, Surroundings
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.settings import values


def surroundings(namespace: str = "objects", here: Path = Path(), **options: Any) -> Surroundings:
    def none(name: str) -> Any:
        raise ConfigError(f"there is no {name}")

    return Surroundings(namespace, SystemClock(), here, Options(options), none, none, "sqlite://")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory", Description("memory", "", {})),
        ("memory:", Description("memory", "", {})),
        ("  shmcb:/run/x(4096)\n", Description("shmcb", "/run/x(4096)", {})),
        ("zookeeper:main/objects cull_interval=5", Description("zookeeper", "main/objects", {"cull_interval": "5"})),
        ("http://h:1/map token=a=b\n timeout=2", Description("http", "//h:1/map", {"token": "a=b", "timeout": "2"})),
        ("x:a:b c=", Description("x", "a:b", {"c": ""})),
    ],
)  # fmt: skip
def test_a_description_is_a_provider_its_argument_and_options(text: str, expected: Description) -> None:
    assert Description.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begin with a provider's name"),
        ("Memory", "begin with a provider's name"),
        (":x", "begin with a provider's name"),
        ("/run/x", "begin with a provider's name"),
        ("max_items=5", "begin with a provider's name"),
        ("a" * 33, "begin with a provider's name"),
        ("memory max_items", "OPTION=VALUE"),
        ("memory =5", "OPTION=VALUE"),
        ("memory a=1 a=2", "each once"),
    ],
)
def test_what_is_no_description_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Description.parse(text)


def test_an_option_is_taken_with_its_type_or_has_its_default() -> None:
    options = Options({"size": "5"})
    assert options.take("size", values.number(1), 9) == 5
    assert options.take("other", values.number(1), 9) == 9
    options.refuse_others()


def test_an_option_out_of_range_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^size=0: must be a whole number from 1 to 7$"):
        Options({"size": "0"}).take("size", values.number(1, 7), 3)


def test_an_option_that_nobody_took_is_refused_with_those_that_there_are() -> None:
    options = Options({"sise": "5"})
    options.take("size", values.number(1), 9)
    options.take("depth", values.number(1), 9)
    with pytest.raises(ConfigError, match=r"^sise is not an option of this provider: it has size, depth$"):
        options.refuse_others()


def test_it_makes_a_cache() -> None:
    made = making.make(Description("memory", "", {}), surroundings(max_items="5"))
    assert isinstance(made, MemoryProvider)
    assert made.limits.max_items == 5


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("none", "there is no provider 'none': there are .*memory"),
        ("dc", "distcache is gone; use http: or memcached:"),
    ],
)
def test_a_provider_that_is_not_there_is_refused(provider: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        making.make(Description(provider, "", {}), surroundings())


@pytest.mark.parametrize("namespace", ["", "Objects", "a" * 17, "a.b", "a:b", "ä", "a\n"])
def test_a_name_that_is_no_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigError, match="a cache's name must be"):
        making.make(Description("memory", "", {}), surroundings(namespace))


@pytest.mark.parametrize(
    ("argument", "options", "words"),
    [
        ("x", {}, "has no argument"),
        ("", {"max_items": "0"}, "max_items=0: must be"),
        ("", {"max_bytes": "1000"}, "max_bytes must be larger"),
        ("", {"size": "5"}, "size is not an option of this provider: it has max_items, max_bytes, max_value"),
    ],
)
def test_memory_says_what_is_wrong(argument: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        making.make(Description("memory", argument, {}), surroundings("objects", Path(), **options))


def test_the_entry_points_are_the_providers() -> None:
    assert {"memory", "memcached", "http"} <= set(making.providers())
    assert making.providers() == sorted(making.providers())


def test_a_provider_whose_library_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "no_such_library.of_ours:create", making.GROUP)
    monkeypatch.setattr(making, "entry_points", lambda **_: EntryPoints([broken]))
    with pytest.raises(
        ConfigError, match="the provider broken cannot be used: No module named 'no_such_library'"
    ):
        making.make(Description("broken", "", {}), surroundings())
    assert "no_such_library" not in sys.modules


# -- http

PLACES = {
    "//cache:8000/map": "http://cache:8000/map",
    "//cache/map/": "http://cache:80/map",
    "https://cache.example.com/a/b": "https://cache.example.com:443/a/b",
    "http://cache:1/map": "http://cache:1/map",
    "//[::1]:8000/map": "http://[::1]:8000/map",
}


@pytest.mark.parametrize("argument", PLACES)
def test_http_has_the_url_of_a_mount(argument: str) -> None:
    made: Any = making.make(Description("http", argument, {}), surroundings(timeout="2", token="x"))
    assert str(made._place) == PLACES[argument]


@pytest.mark.parametrize(
    "argument",
    ["", "//", "//cache:8000", "//cache:8000/", "cache/map", "ftp://cache/map", "//cache:x/map", "//cache:0/map",
     "//cache:99999/map", "//u:p@cache/map", "//cache/map?x", "//cache/map?", "//cache/map#x", "//cache/a b",
     "//[::1/map", "/map", "//cache//map"],
)  # fmt: skip
def test_http_refuses_what_is_no_url_of_a_mount(argument: str) -> None:
    with pytest.raises(ConfigError, match="must have the URL of another node's mount"):
        making.make(Description("http", argument, {}), surroundings())


def test_http_reads_its_secret_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-secret\n")
    made: Any = making.make(
        Description("http", "//h/map", {}), surroundings(here=tmp_path, token_file="token")
    )
    assert "Authorization: Bearer a-secret\r\n" in made._head


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token": "x", "token_file": "token"}, "both there"),
        ({"token_file": "none"}, "cannot read .*none: No such file"),
        ({"token_file": "empty"}, "must have one secret"),
        ({"token_file": "latin"}, "must have one secret"),
        ({"timeout": "0"}, "timeout=0: must be"),
    ],
)
def test_http_says_what_is_wrong_with_its_options(
    tmp_path: Path, options: dict[str, str], words: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "latin").write_bytes(b"\xe4\xe4")
    with pytest.raises(ConfigError, match=words):
        making.make(Description("http", "//h/map", {}), surroundings(here=tmp_path, **options))
