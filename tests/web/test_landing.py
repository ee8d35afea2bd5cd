"""The page at `/`: for people with browsers, for programs, and for whoever asks for nothing in particular."""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from syncstore.app import make_app
from syncstore.auth.origin import ClientOrigin
from syncstore.errors import Unavailable
from syncstore.storage.api import Storage
from syncstore.testing.browser import look
from syncstore.testing.plugin import unavailable
from syncstore.testing.processes import HOST, ProgramMissing
from syncstore.web.answers import Answer
from syncstore.web.views.site import SiteViews

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
URL = "https://sync.example.com/ff"
VALUE = "https://sync.example.com/ff/1.0/sync/1.5"


def answers() -> None:
    """A token server that does."""


def away() -> None:
    raise Unavailable("the database is away")


def views(url: str | None = URL, token_server: Callable[[], None] | None = answers) -> SiteViews:
    return SiteViews(
        cast("Storage", None),
        "1.2.3",
        None,
        None,
        origin=ClientOrigin(url),
        configured=url is not None,
        check_token_server=token_server,
    )


def asked(accept: str | None, site: SiteViews | None = None, host: str = "localhost:5000") -> Answer:
    environ = {"wsgi.url_scheme": "http", "HTTP_HOST": host, "REQUEST_METHOD": "GET"}
    if accept is not None:
        environ["HTTP_ACCEPT"] = accept
    return (site or views()).root(None, SimpleNamespace(environ=environ))


def media_type(answer: Answer) -> str:
    return dict(answer.headers)["Content-Type"].partition(";")[0]


# -- who gets what


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain"),
        ("*/*", "text/plain"),
        ("text/*", "text/plain"),
        ("text/plain, text/html", "text/plain"),
        (BROWSER, "text/html"),
        ("text/html", "text/html"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("image/png", "text/plain"),
        ("text/html," * 1000, "text/plain"),
    ],
)
def test_the_form_follows_the_accept_header(accept: str | None, kind: str) -> None:
    answer = asked(accept)
    assert media_type(answer) == kind
    assert b"It Works!" in answer.body


def test_programs_get_the_facts() -> None:
    assert json.loads(asked("application/json").body) == {
        "message": "It Works!",
        "server": "syncstore",
        "version": "1.2.3",
        "url": URL,
        "url_from": "settings",
        "tokenserver": "answers",
    }


def test_without_a_public_url_the_address_is_the_request_s() -> None:
    facts = json.loads(asked("application/json", views(None), host="Sync.Example:80").body)
    assert (facts["url"], facts["url_from"]) == ("http://sync.example", "request")


def test_a_host_that_is_none_gets_the_text() -> None:
    for accept in (BROWSER, "application/json"):
        assert media_type(asked(accept, views(None), host="<script>alert(1)</script>")) == "text/plain"


# -- what the page says


@pytest.mark.parametrize(
    ("token_server", "words", "has_value"),
    [
        (answers, "is on and answers", True),
        (away, "cannot answer at this moment", True),
        (None, "tokenserver.enabled = true", False),
    ],
)
def test_it_tells_whether_there_is_a_token_server(
    token_server: Callable[[], None] | None, words: str, has_value: bool
) -> None:
    page = asked(BROWSER, views(token_server=token_server)).body.decode()
    assert words in page
    assert (VALUE in page) is has_value, "a value that cannot work is not shown"
    assert "1.2.3" in page


def test_whatever_a_request_names_is_escaped() -> None:
    # what a Host header can hold without being refused
    page = asked(BROWSER, views(None), host="a'b&c").body.decode()
    assert "http://a&#x27;b&amp;c/1.0/sync/1.5" in page
    assert "a'b" not in page


def test_it_loads_nothing_and_its_policy_lets_nothing_in() -> None:
    answer = asked(BROWSER)
    page, headers = answer.body.decode(), dict(answer.headers)
    assert not re.search(r"<script|<link|<img|@import|url\(|\bon\w+=|\bstyle=", page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert b64encode(sha256(style.encode()).digest()).decode() in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_app_shows_it_below_its_prefix(tmp_path: Path) -> None:
    app = make_app({"public_url": URL}, tmp_path)
    said: list[Any] = []
    environ = {
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_ACCEPT": BROWSER,
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/ff/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
    }
    body = b"".join(app(environ, lambda status, headers: said.append((status, dict(headers)))))
    app.close()
    assert said[0][0] == "200 OK"
    assert body.startswith(b"<!doctype html>")


# -- in a browser


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(site: SiteViews) -> Iterator[str]:
    """The view behind a real server."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return site.root(None, SimpleNamespace(environ=environ))(environ, start_response)

    with make_server(HOST, 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{HOST}:{server.server_port}/"
        server.shutdown()
        thread.join(30)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "narrow"])
def test_a_browser_shows_it(tmp_path: Path, width: int, dark: bool) -> None:
    with served(views()) as url:
        try:
            seen = look(url, tmp_path / "landing.png", width=width, dark=dark)
        except ProgramMissing as error:
            unavailable(str(error))
    assert seen.console == []
    for words in ("It Works!", VALUE, "identity.sync.tokenserver.uri", "On Android", "On iPhone", "1.2.3"):
        assert words in seen.dom
    assert (max(seen.corner) < 80) is dark
    assert (min(seen.corner) > 200) is not dark, "the style sheet was let through"


def test_a_page_that_the_browser_complains_about_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\"><style>*{color:red}</style>"
    )
    try:
        assert look(page.as_uri(), tmp_path / "page.png").console
    except ProgramMissing as error:
        unavailable(str(error))
