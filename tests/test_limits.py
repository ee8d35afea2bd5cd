"""Limits hold for a collection, and contradict neither each other nor what a client can do."""

from __future__ import annotations

from typing import Any

import pytest

from syncstore.errors import ConfigError
from syncstore.limits import Limits

DEFAULTS = {
    "max_request_bytes": 2_625_536,
    "max_record_payload_bytes": 2_621_440,
    "max_post_records": 100,
    "max_post_bytes": 2_621_440,
    "max_total_records": 10_000,
    "max_total_bytes": 262_144_000,
}
IMAGES = {
    "max_record_payload_bytes": 20_971_520,
    "max_post_bytes": 26_214_400,
    "max_request_bytes": 26_218_496,
}


def limits(**changes: Any) -> Limits:
    return Limits(**{**DEFAULTS, **changes})


def test_the_defaults_of_the_protocol_are_consistent() -> None:
    limits().check()


def test_a_collection_without_an_override_has_the_general_limits() -> None:
    general = limits(collections={"newtab-images": IMAGES})
    assert general.of("bookmarks") is general


def test_an_override_changes_what_it_names_and_inherits_the_rest() -> None:
    general = limits(collections={"newtab-images": IMAGES, "small": {"max_record_payload_bytes": 10}})
    general.check()
    images = general.of("newtab-images")
    assert (images.max_record_payload_bytes, images.max_post_bytes) == (20_971_520, 26_214_400)
    assert (images.max_post_records, images.max_total_bytes) == (100, 262_144_000)
    assert general.of("small").max_record_payload_bytes == 10
    assert general.of("small").max_post_bytes == general.max_post_bytes


@pytest.mark.parametrize(
    "changes",
    [
        {"max_request_bytes": 2_621_440},
        {"max_post_bytes": 2_621_439},
        {"max_record_payload_bytes": 2_621_441},
        {"max_total_records": 99},
        {"max_total_bytes": 2_621_439},
    ],
)
def test_limits_that_contradict_each_other_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="limits"):
        limits(**changes).check()


@pytest.mark.parametrize(
    "changes", [{"max_total_records": 100}, {"max_total_bytes": 2_621_440}, {"max_request_bytes": 2_621_441}]
)
def test_limits_may_touch_each_other(changes: dict[str, int]) -> None:
    limits(**changes).check()


@pytest.mark.parametrize(
    "override", [{"max_record_payload_bytes": 2_621_441}, {"max_post_bytes": 1}, {"max_request_bytes": 1}]
)
def test_an_override_that_contradicts_the_rest_names_its_collection(override: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="newtab-images"):
        limits(collections={"newtab-images": override}).check()
