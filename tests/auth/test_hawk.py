"""Hawk: the known answers, the strict header, and hawkauthlib as the oracle."""

from __future__ import annotations

import hmac
import re
from binascii import b2a_base64
from typing import Any

import hawkauthlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webob import Request

from syncstore.auth import hawk
from syncstore.auth.hawk import HawkHeader, MacKey, parse_header, payload_hash, sign
from syncstore.auth.reasons import Reason
from syncstore.errors import Unauthorized

T1_KEY = "dSi3EoZyHwgDp-O9OG1jRHtmbGl2M1bwcWsi04C4F58="
T2_KEY = "3NX8HjSfXWNiSdNavDshEw6x0e2lrCEMpsFXKRYJ-yk="
T3_KEY = "werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn"
T2_BASE = "https://sync.example.com/storage/1.5/4294967295"
M2C_HASH = "jmHzSyysKOC/NIDrUxA90eKJDFvHr2ce0Vnr9Kj1ETU="

KNOWN_ANSWERS = [
    (T1_KEY, 1569608439, "h1Ch4vo=", "GET", "http://localhost:5000/storage/1.5/1/storage/col2", "", "",
     "UwDpC+DSrHCSTQSfMOWlueB6kM6gHb0Hsv8eU9ZcTVs="),
    (T1_KEY, 1569608439, "4Rj7c+0=", "POST",
     "http://localhost:5000/storage/1.5/1/storage/col2?batch=MTUzNjE5ODk3NjkyMQ==&commit=true", "", "",
     "E7j1UjN7//mh7pYXsgGi3n0KGR+sUPpuyogDVzJWaHg="),
    (T2_KEY, 1700000000, "AAAAAAA=", "GET", f"{T2_BASE}/info/collections", "", "",
     "C8dUalZGrXNaKZecektO/CLroPCDnzo7uHLhEGBl9zc="),
    (T2_KEY, 1700000000, "AAAAAAA=", "GET",
     f"{T2_BASE}/storage/bookmarks?full=1&newer=1699999999.99&limit=10", "", "",
     "xu8r0jaVuM9XZM3FrZNKTp3+hSnYcNkTSZ8datXLh7I="),
    (T2_KEY, 1700000000, "AAAAAAA=", "PUT",
     "https://sync.example.com:8443/storage/1.5/4294967295/storage/meta/global", M2C_HASH, "some-ext",
     "V7fKUEPX5C1TuOZEorTopLn+w9tya8LyvHwV+TqDnCc="),
    (T2_KEY, 1700000000, "xyz", "DELETE", "http://SYNC.Example.com/1.5/4294967295", "", "",
     "95PoszMevLXsrHjPKmjPOxr3UhgeBYczQsItbuS9Wi4="),
    (T3_KEY, 1353832234, "j4h3g2", "GET", "http://example.com:8000/resource/1?b=1&a=2", "",
     "some-app-ext-data", "6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE="),
]  # fmt: skip


def refusal(text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        parse_header(text)
    return caught.value.reason


@pytest.mark.parametrize(("key", "ts", "nonce", "method", "url", "body_hash", "ext", "mac"), KNOWN_ANSWERS)
def test_it_signs_the_known_requests(
    key: str, ts: int, nonce: str, method: str, url: str, body_hash: str, ext: str, mac: str
) -> None:
    for mac_key in (key, MacKey(key)):
        header = parse_header(
            sign(method, url, "an-id", mac_key, ts=ts, nonce=nonce, body_hash=body_hash, ext=ext)
        )

        assert header == HawkHeader("an-id", str(ts), nonce, mac, body_hash, ext)


def test_the_signed_message_has_nine_lines() -> None:
    header = HawkHeader("id", "1700000000", "AAAAAAA=", "", M2C_HASH, "some-ext")

    message = hawk.signed_message(
        header, "put", "/storage/1.5/4294967295/storage/meta/global", "sync.example.com\n8443\n"
    )

    assert message == (
        b"hawk.1.header\n1700000000\nAAAAAAA=\nPUT\n/storage/1.5/4294967295/storage/meta/global\n"
        b"sync.example.com\n8443\njmHzSyysKOC/NIDrUxA90eKJDFvHr2ce0Vnr9Kj1ETU=\nsome-ext\n"
    )


def test_it_hashes_the_known_payload() -> None:
    body = b'{"payload":"x"}'

    assert payload_hash("application/json", body) == M2C_HASH
    assert payload_hash("Application/JSON; charset=utf-8", body) == M2C_HASH
    assert payload_hash("text/plain", body) != M2C_HASH
    assert payload_hash("application/json", body + b" ") != M2C_HASH


@pytest.mark.parametrize("length", [0, 1, 44, 63, 64, 65, 200])
def test_a_mac_key_may_be_of_any_length(length: int) -> None:
    key = "k" * length

    assert MacKey(key).mac(b"x") == b2a_base64(hmac.digest(key.encode(), b"x", "sha256"), newline=False)


@given(key=st.text(max_size=150), message=st.binary(max_size=300))
def test_a_mac_key_does_what_hmac_does(key: str, message: bytes) -> None:
    mac_key = MacKey(key)

    for _ in range(2):  # a MacKey is not used up
        assert b2a_base64(hmac.digest(key.encode(), message, "sha256"), newline=False) == mac_key.mac(message)


def test_it_keeps_a_lone_question_mark_in_the_signature() -> None:
    url = "http://localhost/1.5/1/storage/col"
    with_mark, without = (
        parse_header(sign("GET", url + tail, "id", "key", ts=1, nonce="n")).mac for tail in ("?", "")
    )

    assert with_mark != without


@pytest.mark.parametrize(
    "url", ["/1.5/1", "ftp://localhost/", "http:///x", "http://h:99999/", "http://a b/", "localhost"]
)
def test_it_does_not_sign_for_a_url_that_cannot_be_asked(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        sign("GET", url, "id", "key", ts=1)


@pytest.mark.parametrize(
    "attributes", [{"nonce": "a\nb"}, {"ext": "é"}, {"ts": "soon"}, {"nonce": ""}, {"ext": "x" * 5000}]
)
def test_it_does_not_sign_what_no_header_can_carry(attributes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, UnicodeEncodeError)):
        sign("GET", "http://localhost/", "id", "key", **{"ts": 1, **attributes})


def test_a_nonce_is_drawn_for_each_request() -> None:
    headers = {parse_header(sign("GET", "http://localhost/", "id", "key", ts=1)).nonce for _ in range(50)}

    assert len(headers) == 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Hawk id="i", ts="1", nonce="n", mac="m"', HawkHeader("i", "1", "n", "m")),
        ('Hawk ts="1", nonce="n", id="i", mac="m"', HawkHeader("i", "1", "n", "m")),
        ('Hawk mac="m", nonce="n", ts="1", id="i"', HawkHeader("i", "1", "n", "m")),
        ('hawk id="i",ts="1",nonce="n",mac="m"', HawkHeader("i", "1", "n", "m")),
        ('Hawk  id = "i" ,\tts="1" , nonce="n", mac="m" ', HawkHeader("i", "1", "n", "m")),
        ('Hawk id="i", ts="-12", nonce="n", mac="m"', HawkHeader("i", "-12", "n", "m")),
        ('Hawk id="i", ts="1", nonce="n, ts=2", mac="m"', HawkHeader("i", "1", "n, ts=2", "m")),
        ('Hawk id="i", ts="1", nonce="a\\"b\\\\c\\d", mac="m"', HawkHeader("i", "1", 'a"b\\cd', "m")),
        ('Hawk id="i", ts="1", nonce="a\\b", mac="m"', HawkHeader("i", "1", "ab", "m")),
        ('Hawk id="i", ts="1", nonce="n", hash="h", ext="e,\\"e", mac="m"',
         HawkHeader("i", "1", "n", "m", "h", 'e,"e')),
        ('Hawk id="i", ts="1", nonce="n", mac="m", app="a", dlg="d"', HawkHeader("i", "1", "n", "m")),
        ('Hawk id="i", ts="1", nonce="n", mac="m", hash="", ext=""', HawkHeader("i", "1", "n", "m")),
    ],
)  # fmt: skip
def test_it_reads_every_well_formed_header(text: str, expected: HawkHeader) -> None:
    assert parse_header(text) == expected


ORDINARY = 'Hawk id="i", ts="1", nonce="n", mac="m"'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.OTHER_SCHEME),
        ("Basic dXNlcjpwYXNz", Reason.OTHER_SCHEME),
        ("Bearer abc", Reason.OTHER_SCHEME),
        ("Hawkish " + ORDINARY[5:], Reason.OTHER_SCHEME),
        ("Hawk", Reason.OTHER_SCHEME),
        ("Hawk ", Reason.MALFORMED_HEADER),
        (ORDINARY + ",", Reason.MALFORMED_HEADER),
        (ORDINARY + " x", Reason.MALFORMED_HEADER),
        (ORDINARY + '"', Reason.MALFORMED_HEADER),
        (ORDINARY[:-1], Reason.MALFORMED_HEADER),
        (ORDINARY.replace(", ", " "), Reason.MALFORMED_HEADER),
        (ORDINARY.replace(", ", ",, "), Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"1"', "1"), Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"1"', "'1'"), Reason.MALFORMED_HEADER),
        (ORDINARY + ', id="i"', Reason.MALFORMED_HEADER),
        (ORDINARY + ', app="a", app="a"', Reason.MALFORMED_HEADER),
        (ORDINARY + ', ext="\\"', Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"n"', '"é"'), Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"n"', '"a\nb"'), Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"n"', '"\x7f"'), Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"n"', '""'), Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"m"', '""'), Reason.MALFORMED_HEADER),
        (ORDINARY.replace('"i"', '""'), Reason.MALFORMED_HEADER),
        *[
            (ORDINARY.replace('"1"', f'"{ts}"'), Reason.MALFORMED_HEADER)
            for ts in ("", " 1", "1 ", "1.0", "1e5", "0x1", "1_0", "+1", "--1", "soon", "\u0661")
        ],
        *[
            (re.sub(rf'(, )?{name}="."', "", ORDINARY), Reason.MALFORMED_HEADER)
            for name in ("id", "ts", "nonce", "mac")
        ],
        (ORDINARY.replace('"i"', '"' + "i" * 4096 + '"'), Reason.MALFORMED_HEADER),
        ("Hawk " + '"' * 250_000, Reason.MALFORMED_HEADER),
    ],
)  # fmt: skip
def test_it_refuses_every_other_header(text: str, reason: Reason) -> None:
    assert refusal(text) == reason


def test_it_refuses_a_hard_header_in_a_bounded_number_of_steps() -> None:
    # the longest header allowed, of the kind that makes a backtracking expression explode
    assert refusal('Hawk ext="' + "\\a" * 2043) == Reason.MALFORMED_HEADER
    assert refusal('Hawk ext="' + "a" * 4086) == Reason.MALFORMED_HEADER


attribute = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)


@given(token=attribute, nonce=attribute, ext=attribute, ts=st.integers(-(10**12), 10**12))
def test_it_reads_what_it_signs(token: str, nonce: str, ext: str, ts: int) -> None:
    header = parse_header(sign("GET", "http://localhost/", token, "key", ts=ts, nonce=nonce, ext=ext))

    assert (header.id, header.ts, header.nonce, header.ext) == (token, str(ts), nonce, ext)


@given(
    parts=st.lists(
        st.sampled_from(['id="a"', 'ts="1"', 'nonce="n"', 'mac="m"', ", ", ",", '"', "\\", "=", "x"])
    )
)
def test_the_fast_path_reads_as_the_scanner_does(parts: list[str]) -> None:
    text = "Hawk " + "".join(parts)
    outcomes: list[HawkHeader | str] = []
    for parse in (parse_header, hawk._parse_any):
        try:
            outcomes.append(parse(text))
        except Unauthorized as error:
            outcomes.append(error.reason)

    assert outcomes[0] == outcomes[1]


@given(text=st.text(max_size=200).map(lambda tail: "Hawk " + tail))
def test_no_header_makes_it_fail_otherwise(text: str) -> None:
    with pytest.raises(Unauthorized):
        parse_header(text)


paths = st.text("abcXYZ019-_.~!$&'()*+,;=:@/", max_size=40).map(lambda tail: "/1.5/7/" + tail)
queries = st.text("abcXYZ019-_.~!$&'()*+,;=:@/?%", max_size=40).map(lambda text: text and "?" + text)
hosts = st.sampled_from(["localhost", "localhost:8000", "Sync.Example.com", "10.0.0.1:1", "x:65535"])


@given(
    scheme=st.sampled_from(["http", "https"]),
    host=hosts,
    path=paths,
    query=queries,
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "get"]),
    key=st.text(st.characters(codec="ascii"), min_size=1, max_size=90),
    ext=st.text("abc ,=;", max_size=10).map(str.strip),
)
def test_it_agrees_with_hawkauthlib_on_any_request(
    scheme: str, host: str, path: str, query: str, method: str, key: str, ext: str
) -> None:
    url = f"{scheme}://{host}{path}{query}"
    request = Request.blank(path + query, base_url=f"{scheme}://{host}", method=method)

    ours = sign(method, url, "token", key, ts=1_700_000_000, nonce="abc=", ext=ext)
    params = {"scheme": "Hawk", "id": "token", "ts": "1700000000", "nonce": "abc="} | (
        {"ext": ext} if ext else {}
    )
    assert parse_header(ours).mac == hawkauthlib.get_signature(request, key, params=params)

    hawkauthlib.sign_request(request, "token", key)
    theirs = parse_header(request.environ["HTTP_AUTHORIZATION"])
    assert sign(method, url, "token", key, ts=theirs.ts, nonce=theirs.nonce).endswith(f'mac="{theirs.mac}"')
