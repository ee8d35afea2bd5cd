"""What wrk is given and what is read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.replay import parse_result, write_requests
from bench.signing import Request, User

URL = "http://127.0.0.1:5000"
GOOD = (
    '{"duration_us": 2000000, "good": 500, "bad": "", "ran_out": 0, "p50_us": 150, "p99_us": 900, '
    '"connect": 0, "read": 0, "write": 0, "timeout": 0}'
)


def test_a_good_run_has_no_complaint() -> None:
    replay = parse_result(GOOD)

    assert replay.complaint == ""
    assert replay.answers == 500
    assert replay.duration == 2.0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"bad": ""', '"bad": "503 503 404 "', "1 answers 404, 2 answers 503"),
        ('"timeout": 0', '"timeout": 3', "3 timeout errors"),
        ('"ran_out": 0', '"ran_out": 1', "the prepared requests ran out"),
        ('"good": 500', '"good": 0', "no answers"),
    ],
)
def test_a_bad_run_says_what_was_wrong(old: str, new: str, complaint: str) -> None:
    assert parse_result(GOOD.replace(old, new)).complaint == complaint


def test_a_body_that_many_requests_share_is_written_once(tmp_path: Path) -> None:
    users = [User(uid, "token", "key") for uid in (1, 2, 3)]

    write_requests(tmp_path / "file", [Request(user, "PUT", "/storage/c/i", b"BODY") for user in users], URL)

    text = (tmp_path / "file").read_bytes()
    assert text.startswith(b"1\n4\nBODY3\n1 ")
    assert text.count(b"BODY") == 1
    assert text.count(b"PUT /1.5/") == 3
