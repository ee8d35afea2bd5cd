"""The users and signed requests, judged by the independent libraries."""

from __future__ import annotations

import json

import hawkauthlib
import tokenlib

from bench.signing import Request, User, all_headers, authorization, make_users, wire_head

NODE = "http://127.0.0.1:5000"


def test_tokens_are_those_of_tokenlib() -> None:
    user = make_users(1, NODE, secret="a secret")[0]

    data = tokenlib.parse_token(user.token, secret="a secret")

    assert data["uid"] == user.uid
    assert data["node"] == NODE
    assert tokenlib.get_derived_secret(user.token, secret="a secret") == user.key


def test_each_user_has_a_uid_and_a_token_of_his_own() -> None:
    users = make_users(50, NODE)

    assert len({user.uid for user in users}) == 50
    assert len({user.token for user in users}) == 50


def test_the_authorization_is_one_that_hawkauthlib_accepts() -> None:
    user = make_users(1, NODE)[0]
    request = Request(user, "POST", "/storage/tabs?batch=true&commit=true", b"[]")
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/1.5/{user.uid}/storage/tabs",
        "QUERY_STRING": "batch=true&commit=true",
        "HTTP_HOST": "127.0.0.1:5000",
        "wsgi.url_scheme": "http",
        "HTTP_AUTHORIZATION": authorization(request, NODE),
    }

    assert hawkauthlib.get_id(environ) == user.token
    assert hawkauthlib.check_signature(environ, user.key)


def test_an_authorization_of_the_requests_own_is_sent_as_it_is() -> None:
    user = User(1, "token", "key")
    request = Request(user, "GET", "/info/collections", headers=(("Authorization", "Hawk wrong"),))

    assert dict(all_headers(request, NODE))["Authorization"] == "Hawk wrong"


def test_the_head_ends_where_the_body_begins() -> None:
    body = json.dumps({"payload": "x"}).encode()
    request = Request(User(7, "token", "key"), "PUT", "/storage/meta/global", body)

    head = wire_head(request, NODE)

    assert head.startswith(b"PUT /1.5/7/storage/meta/global HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    assert head.endswith(b"\r\n\r\n")
