"""What an item may be, and which fault spoils one element or the whole request."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.bso import (
    Change,
    MalformedBso,
    is_collection,
    is_id,
    is_known_bad,
    payload_size,
    read_change,
)


@pytest.mark.parametrize("text", ["a", " ", "~", "a" * 64, "{6820f3ca-6e8a-4ff4}", "a,b/c%?#", "\\'\""])
def test_printable_ascii_is_an_id(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize(
    "text",
    ["", "a" * 65, "A\nB", "A\n", "\nN", "A\tB", "\x7f", "\x1f", "\x00", "é", "a\u00a0", "٣", "\ud800"],
)
def test_all_else_is_no_id(text: str) -> None:
    assert not is_id(text)


@given(st.text(max_size=70))
def test_an_id_is_what_the_protocol_says(text: str) -> None:
    assert is_id(text) == (1 <= len(text) <= 64 and all(" " <= character <= "~" for character in text))


@pytest.mark.parametrize("text", ["a", "A", "0", ".", "-", "_", "a" * 32, "newtab-images.v2_X"])
def test_collection_names(text: str) -> None:
    assert is_collection(text)


@pytest.mark.parametrize("text", ["", "a" * 33, "a b", "a\n", "\na", "a/b", "é", "٣", "a%20"])
def test_what_is_no_collection_name(text: str) -> None:
    assert not is_collection(text)


@given(st.text(st.characters(codec="utf-8")))
def test_sizes_are_bytes_of_utf8(text: str) -> None:
    assert payload_size(text) == len(text.encode())


@pytest.mark.parametrize("space", ["", " ", "\n\t  "])
def test_a_key_bundle_with_an_all_zero_iv_is_known_to_be_bad(space: str) -> None:
    payload = f'{{"ciphertext":"x","IV":{space}"AAAAAAAAAAAAAAAAAAAAAA==","hmac":"y"}}'
    assert is_known_bad("crypto", payload)
    assert not is_known_bad("bookmarks", payload)
    assert not is_known_bad("crypto", payload.replace("AA==", "AB=="))


def test_no_payload_is_not_bad() -> None:
    assert not is_known_bad("crypto", None)


# -- the patient path


def test_a_whole_element() -> None:
    element = {"id": "a", "payload": "p", "sortindex": -5, "ttl": 60, "modified": 1.5, "collection": "x"}
    assert read_change(element) == Change("a", "p", -5, 60)


@pytest.mark.parametrize("name", ["payload", "sortindex", "ttl", "modified", "collection"])
def test_null_is_the_same_as_absent(name: str) -> None:
    assert read_change({"id": "a", name: None}) == Change("a")


@pytest.mark.parametrize("element", [None, 42, "text", [], [{"id": "a"}], True])
def test_what_is_no_object_spoils_the_request(element: object) -> None:
    with pytest.raises(MalformedBso):
        read_change(element)


@pytest.mark.parametrize("name", ["id", "payload", "sortindex", "ttl", "modified", "unknown"])
@pytest.mark.parametrize("value", [[], {}, ["01", "02"], {"3": "4"}])
def test_a_field_that_is_no_scalar_spoils_the_request(name: str, value: object) -> None:
    with pytest.raises(MalformedBso):
        read_change({"id": "a", name: value}, with_id="a")


@pytest.mark.parametrize("element", [{}, {"id": None}, {"payload": "x"}])
def test_an_element_without_an_id_spoils_the_request(element: object) -> None:
    with pytest.raises(MalformedBso):
        read_change(element)


@pytest.mark.parametrize("element", [{}, {"id": None}, {"id": "another"}, {"id": "url"}])
def test_the_id_of_the_url_wins(element: object) -> None:
    assert read_change(element, with_id="url") == Change("url")


@pytest.mark.parametrize("id_", ["", "a" * 65, "A\n", 12, 1.5, True, "é"])
@pytest.mark.parametrize("with_id", [None, "url"])
def test_a_wrong_id_is_the_elements_own_fault(id_: object, with_id: str | None) -> None:
    assert read_change({"id": id_}, with_id=with_id) == "invalid id"


@pytest.mark.parametrize("name", ["foo", "payload_size", "Payload", "", "x" * 1000])
def test_an_unknown_field_is_named(name: str) -> None:
    reason = read_change({"id": "a", name: 1})
    assert isinstance(reason, str)
    assert reason.startswith(f"unknown field {name[:64]}")
    assert len(reason) < 100


@pytest.mark.parametrize("payload", [1, 1.5, True, False, 0])
def test_a_payload_is_text(payload: object) -> None:
    assert read_change({"id": "a", "payload": payload}) == "payload not a string"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (0, 0),
        (-42, -42),
        (999_999_999, 999_999_999),
        (-999_999_999, -999_999_999),
        ("5", 5),
        ("-1", -1),
        (2.0, 2),
    ],
)
def test_a_sortindex_is_an_integer_or_its_digits(sent: object, meant: int) -> None:
    change = read_change({"id": "a", "sortindex": sent})
    assert isinstance(change, Change)
    assert change.sortindex == meant
    assert type(change.sortindex) is int


BAD_NUMBERS: list[Any] = [
    "xxx_meh", "2.6", 2.6, "1_000", " 5 ", "5 ", "+5", "٣", "", "--1", True, False, "1e3", "1000000000",
    1_000_000_000, -1_000_000_000, 1e300, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_what_is_no_sortindex(value: object) -> None:
    assert read_change({"id": "a", "sortindex": value}) == "invalid sortindex"


@pytest.mark.parametrize("value", [*BAD_NUMBERS, -1, "-1", -0.5, "eh?", "4.2"])
def test_what_is_no_ttl(value: object) -> None:
    assert read_change({"id": "a", "ttl": value}) == "invalid ttl"


@pytest.mark.parametrize("ttl", [0, 1, 31_536_001, 94_608_000, 999_999_999, "60"])
def test_ttls(ttl: object) -> None:
    change = read_change({"id": "a", "ttl": ttl})
    assert isinstance(change, Change)
    assert change.ttl == int(str(ttl))


# -- both paths


ELEMENTS = st.fixed_dictionaries(
    {"id": st.text(max_size=66) | st.just("a")},
    optional={
        "payload": st.text(st.characters(codec="utf-8")) | st.none() | st.integers(),
        "sortindex": st.integers(-(10**10), 10**10) | st.none() | st.booleans() | st.text(max_size=3),
        "ttl": st.integers(-(10**10), 10**10) | st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "modified": st.integers() | st.none() | st.text(max_size=3),
        "unknown": st.integers(),
    },
)


@given(ELEMENTS)
def test_what_the_typed_decoder_takes_the_patient_path_takes_alike(element: dict[str, Any]) -> None:
    try:
        typed = msgspec.convert(element, Change)
    except msgspec.ValidationError:
        return
    patient = read_change(element)
    if isinstance(patient, str):
        assert patient == "invalid id"  # whose characters the decoder leaves to is_id
        assert not is_id(typed.id)
    else:
        assert (patient.id, patient.payload, patient.sortindex, patient.ttl) == (
            typed.id,
            typed.payload,
            typed.sortindex,
            typed.ttl,
        )
