"""The in-process mode over an app that is nearly nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bench import inprocess
from bench.inprocess import WSGISender, environ
from bench.samples import Row
from bench.signing import Request, make_users


class AnswerAnything:
    """200 with a time to everything; 401 to requests that are not signed by their users."""

    closed = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        forged = 'mac="AAAA' in environ["HTTP_AUTHORIZATION"]
        body = environ["wsgi.input"].read()
        assert len(body) == int(environ.get("CONTENT_LENGTH", "0"))
        start_response("401 Unauthorized" if forged else "200 OK", [])
        return [b'{"modified":1700000000.10}']

    def close(self) -> None:
        self.closed = True


def run(*names: str) -> list[Row]:
    settings: list[dict[str, str]] = []
    app = AnswerAnything()

    def make_app(given: dict[str, str]) -> inprocess.WSGIApp:
        settings.append(given)
        return app

    rows = inprocess.measure(
        make_app,
        "sqlite",
        names,
        users=20,
        requests=50,
        rounds=2,
        profile=False,
        progress=lambda text: None,
    )
    assert settings[0]["public_url"] == inprocess.URL
    assert app.closed
    return rows


def test_a_request_becomes_a_wsgi_environ() -> None:
    request = Request(make_users(1, inprocess.URL)[0], "POST", "/storage/tabs?batch=true", b"[]")

    found = environ(request)

    assert found["PATH_INFO"] == f"/1.5/{request.user.uid}/storage/tabs"
    assert found["QUERY_STRING"] == "batch=true"
    assert found["CONTENT_LENGTH"] == "2"
    assert found["HTTP_AUTHORIZATION"].startswith("Hawk ")


def test_the_sender_returns_status_and_body() -> None:
    request = Request(make_users(1, inprocess.URL)[0], "GET", "/info/collections")

    answers = WSGISender(AnswerAnything()).send_all([request, request])

    assert [(answer.status, answer.body[:12]) for answer in answers] == [(200, b'{"modified":')] * 2


def test_each_operation_has_a_sample_per_round() -> None:
    put, idle = run("put_item", "idle_sync")

    assert len(put.samples) == len(idle.samples) == 2
    assert put.complaint == ""
    assert all(sample.server_us > 0 for sample in put.samples)


def test_an_unexpected_answer_spoils_the_row() -> None:
    expected_401, expected_412 = run("answer_401_mac", "answer_412")

    assert expected_401.complaint == ""
    assert expected_412.complaint == "50 unexpected answers"


def test_items_to_delete_are_made_before_each_round() -> None:
    (row,) = run("delete_item")

    assert row.complaint == ""
    assert len(row.samples) == 2
