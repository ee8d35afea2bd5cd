"""The signed target: unusual ids, in each way a client may write them, with and without the raw target."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webob import Request

from syncstore.auth.target import first_target, other_targets

COLLECTION = "/1.5/7/storage/bookmarks/"

# an id as it is written by WebOb, by encodeURIComponent, by Python's quote(safe=""), in a browser's URL, bare
IDS = {
    "plain_id-1.2~x": ("plain_id-1.2~x",) * 5,
    "a/b": ("a/b", "a%2Fb", "a%2Fb", "a/b", "a/b"),
    "a+b=c": ("a+b=c", "a%2Bb%3Dc", "a%2Bb%3Dc", "a+b=c", "a+b=c"),
    "{6820f3ca}": ("%7B6820f3ca%7D", "%7B6820f3ca%7D", "%7B6820f3ca%7D", "%7B6820f3ca%7D", "{6820f3ca}"),
    "a|b": ("a%7Cb", "a%7Cb", "a%7Cb", "a|b", "a|b"),
    "[x]": ("%5Bx%5D", "%5Bx%5D", "%5Bx%5D", "[x]", "[x]"),
    "!~*'()": ("!~*'()", "!~*'()", "%21~%2A%27%28%29", "!~*'()", "!~*'()"),
    "a:b@c,d;e&f$g": ("a:b@c,d;e&f$g", *["a%3Ab%40c%2Cd%3Be%26f%24g"] * 2, *["a:b@c,d;e&f$g"] * 2),
    'a b"<>^`': (*["a%20b%22%3C%3E%5E%60"] * 4, None),
    "50%": ("50%25", "50%25", "50%25", "50%25", "50%"),
    "50%41": ("50%2541", "50%2541", "50%2541", "50%2541", None),  # as it is it would be the target of 50A
    "50%?#": ("50%25%3F%23", "50%25%3F%23", "50%25%3F%23", "50%25%3F%23", None),
    "a\\b": ("a%5Cb", "a%5Cb", "a%5Cb", "a\\b", "a\\b"),
    "caf\xc3\xa9": ("caf%C3%A9", "caf%C3%A9", "caf%C3%A9", "caf%C3%A9", "caf\xc3\xa9"),
}  # fmt: skip


def environ(path: str, query: str = "", *, script_name: str = "", **raw: str) -> dict[str, Any]:
    return {"SCRIPT_NAME": script_name, "PATH_INFO": path, "QUERY_STRING": query, **raw}


def all_targets(given_environ: dict[str, Any], prefix: str = "") -> list[str]:
    first = first_target(given_environ, prefix)
    return [first, *other_targets(given_environ, prefix, first)]


@pytest.mark.parametrize("variable", ["REQUEST_URI", "RAW_URI"])
@pytest.mark.parametrize(("item", "written"), IDS.items())
def test_the_raw_target_comes_first_and_the_requoted_second(
    variable: str, item: str, written: tuple[str | None, ...]
) -> None:
    for form in filter(None, written):
        expected = list(dict.fromkeys([f"{COLLECTION}{form}?full=1", f"{COLLECTION}{written[0]}?full=1"]))

        assert (
            all_targets(environ(COLLECTION + item, "full=1", **{variable: f"{COLLECTION}{form}?full=1"}))
            == expected
        )


@pytest.mark.parametrize(("item", "written"), IDS.items())
def test_without_a_raw_target_every_usual_form_is_tried_once(
    item: str, written: tuple[str | None, ...]
) -> None:
    expected = list(dict.fromkeys(f"{COLLECTION}{form}?a=%2C,{{}}" for form in written if form is not None))

    assert all_targets(environ(COLLECTION + item, "a=%2C,{}")) == expected


@pytest.mark.parametrize(("item", "written"), IDS.items())
def test_the_first_guess_is_what_webob_signs(item: str, written: tuple[str | None, ...]) -> None:
    request = Request.blank(COLLECTION + quote(item, encoding="latin-1") + "?x={}&y=%2f")

    assert first_target(request.environ, "") == request.path_qs == f"{COLLECTION}{written[0]}?x={{}}&y=%2f"


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/1.5/7?", "/1.5/7?"),
        ("/1.5/7", "/1.5/7"),
        ("http://h:1/1.5/7?a=%2C", "/1.5/7?a=%2C"),
        ("HTTPS://h/1.5/7", "/1.5/7"),
        ("http://h", "/"),
        ("http://h?x", "/?x"),
        ("*", "*"),
        ("//h/1.5/7", "//h/1.5/7"),
    ],
)
def test_a_raw_target_is_reduced_to_its_path_and_query(raw: str, target: str) -> None:
    assert first_target(environ("/1.5/7", RAW_URI=raw), "") == target


@pytest.mark.parametrize(
    ("script_name", "path", "raw", "target"),
    [
        ("", "/1.5/7", "/1.5/7?a", "/ff/1.5/7?a"),  # the proxy strips the prefix
        ("", "/ff/1.5/7", "/ff/1.5/7?a", "/ff/1.5/7?a"),  # it does not
        ("/ff", "/1.5/7", "/ff/1.5/7?a", "/ff/1.5/7?a"),  # and the server knows the prefix
        ("/ff", "/1.5/7", "/1.5/7?a", "/ff/1.5/7?a"),
        ("", "/ffx/1.5/7", "/ffx/1.5/7?a", "/ff/ffx/1.5/7?a"),  # a name that only begins like it
        ("/ff", "", "/ff?a", "/ff?a"),
    ],
)
def test_the_public_prefix_stands_before_the_target_once(
    script_name: str, path: str, raw: str, target: str
) -> None:
    for server in ({"REQUEST_URI": raw}, {"RAW_URI": raw}, {}):
        assert first_target(environ(path, "a", script_name=script_name, **server), "/ff") == target


def test_the_other_forms_have_the_prefix_too() -> None:
    targets = all_targets(environ(COLLECTION + "a/b"), "/ff")

    assert targets == [f"/ff{COLLECTION}a/b", f"/ff{COLLECTION}a%2Fb"]


def test_an_empty_path_is_a_slash() -> None:
    assert all_targets(environ("")) == ["/"]


def test_an_ordinary_path_leaves_nothing_else_to_try() -> None:
    assert all_targets(environ(COLLECTION + "abc_DEF-123", "newer=1.5")) == [
        f"{COLLECTION}abc_DEF-123?newer=1.5"
    ]


def test_a_path_that_is_no_item_has_its_last_segment_tried() -> None:
    assert "/other/a%3Bb" in all_targets(environ("/other/a;b"))


@pytest.mark.parametrize("control", ["\n", "\r", "\x00", "\x7f", " "])
def test_what_cannot_stand_on_a_request_line_is_never_signed(control: str) -> None:
    assert all(control not in target for target in all_targets(environ(f"{COLLECTION}a{control}b")))


@given(item=st.text(st.characters(max_codepoint=255), min_size=1, max_size=30))
@example("a%41")
def test_every_guess_is_of_the_same_path(item: str) -> None:
    targets = all_targets(environ(COLLECTION + item))

    assert len(targets) == len(set(targets)) <= 5
    for target in targets:
        assert unquote_to_bytes(target.encode("latin-1")) == (COLLECTION + item).encode("latin-1")
