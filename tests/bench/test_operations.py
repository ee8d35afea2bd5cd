"""The lists of requests that are replayed."""

from __future__ import annotations

import json

import pytest

from bench.items import PAYLOAD_BYTES, items_body, payload
from bench.operations import OPERATIONS, Ground
from bench.signing import make_users

NODE = "http://127.0.0.1:5000"


@pytest.fixture
def ground() -> Ground:
    users = make_users(200, NODE)
    return Ground(users, users[:50], {user.uid: "1700000000.10" for user in users[:50]}, seconds=1.0)


def test_payloads_have_their_size_and_differ() -> None:
    assert len(payload(1).encode()) == PAYLOAD_BYTES
    assert payload(1) != payload(2)


def test_a_body_holds_the_items_asked_for() -> None:
    items = json.loads(items_body("mark", 100))

    assert [item["id"] for item in items] == [f"mark{number}" for number in range(100)]
    assert all(len(item["payload"]) == PAYLOAD_BYTES for item in items)


def test_an_idle_sync_keeps_firefoxs_order_for_every_user(ground: Ground) -> None:
    requests = OPERATIONS["idle_sync"].requests(ground)

    mine = [request for request in requests if request.user == ground.users[70]]

    assert [(request.method, request.path) for request in mine] == [
        ("GET", "/info/collections"),
        ("GET", "/info/configuration"),
        ("GET", "/storage/clients?full=1&limit=1000"),
        ("POST", "/storage/tabs?batch=true&commit=true"),
    ]
    assert len(requests) == OPERATIONS["idle_sync"].per_unit * len(ground.users)


def test_every_delete_has_an_item_of_its_own_that_was_prepared(ground: Ground) -> None:
    operation = OPERATIONS["delete_item"]
    assert operation.prepare is not None
    prepared = {
        (request.user.uid, item["id"])
        for request in operation.prepare(ground)
        for item in json.loads(request.body)
    }

    deleted = [(request.user.uid, request.path.rpartition("/")[2]) for request in operation.requests(ground)]

    assert operation.once
    assert len(set(deleted)) == len(deleted)
    assert set(deleted) == prepared


@pytest.mark.parametrize("name", ["put_item", "post_tabs", "post_history_100", "delete_item"])
def test_writes_of_one_user_are_far_apart(ground: Ground, name: str) -> None:
    uids = [request.user.uid for request in OPERATIONS[name].requests(ground)]

    window = uids[:50]

    assert len(set(window)) == 50


def test_newer_is_the_text_that_the_server_sent(ground: Ground) -> None:
    requests = OPERATIONS["get_bookmarks_0"].requests(ground)

    assert all("newer=1700000000.10&" in request.path for request in requests)


def test_a_forged_token_differs_in_its_signature_only(ground: Ground) -> None:
    request = OPERATIONS["answer_401_token"].requests(ground)[0]

    header = dict(request.headers)["Authorization"]
    forged = header.partition('id="')[2].partition('"')[0]

    assert len(forged) == len(request.user.token)
    assert forged != request.user.token
    assert forged[:-6] == request.user.token[:-6]
