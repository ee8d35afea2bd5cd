"""Which uid and node an account has: sections 4 and 5 of the token API, on every database."""

from __future__ import annotations

from typing import Any

import pytest

from syncstore.testing.token_database import NODE, TokenDatabase
from syncstore.tokenserver import errors
from syncstore.tokenserver.rules import MAX_GENERATION, Known


def test_a_first_request_makes_a_user(tokens: TokenDatabase) -> None:
    node = tokens.add_node()
    made = tokens.assign(None, 1234)
    (row,) = tokens.user_rows()
    assert row == {
        "uid": made.uid,
        "service": tokens.service,
        "email": "ann@accounts.test",
        "generation": 0,
        "client_state": "aaaa",
        "created_at": tokens.clock.now_ms(),
        "replaced_at": None,
        "nodeid": node,
        "keys_changed_at": 1234,
    }
    assert (made.node, made.pattern, made.known) == (NODE, "{node}/1.5/{uid}", Known(0, 1234, "aaaa"))
    assert made.first_seen_at == tokens.clock.now_ms()


def test_the_same_again_writes_nothing(tokens: TokenDatabase) -> None:
    tokens.add_node()
    made = tokens.assign(1234, 1234)
    before = tokens.rows("users", "uid"), tokens.rows("nodes", "id")
    tokens.clock.step(5)
    assert tokens.assign(1234, 1234) == made
    assert (tokens.rows("users", "uid"), tokens.rows("nodes", "id")) == before


def test_two_accounts_are_two_users(tokens: TokenDatabase) -> None:
    tokens.add_node()
    assert tokens.assign(1, 1).uid != tokens.assign(1, 1, account="bob").uid
    assert tokens.node_row(NODE)["current_load"] == 2


def test_what_grows_is_written_in_place(tokens: TokenDatabase) -> None:
    uid = tokens.add_user(nodeid=tokens.add_node(), generation=1234, keys_changed_at=None)
    assert tokens.assign(1235, 1235).uid == uid
    (row,) = tokens.user_rows()
    assert (row["generation"], row["keys_changed_at"], row["replaced_at"]) == (1235, 1235, None)
    tokens.assign(None, 1236)
    (row,) = tokens.user_rows()
    assert (row["generation"], row["keys_changed_at"]) == (1236, 1236)


def test_an_unknown_keys_changed_at_stays_unknown(tokens: TokenDatabase) -> None:
    tokens.add_user(nodeid=tokens.add_node(), keys_changed_at=None)
    tokens.assign(1235, None)
    assert tokens.user_rows()[0]["keys_changed_at"] is None


def test_a_refused_request_writes_nothing(tokens: TokenDatabase) -> None:
    tokens.add_user(nodeid=tokens.add_node(), generation=1234, keys_changed_at=1234)
    before = tokens.user_rows()
    with pytest.raises(errors.InvalidGeneration):
        tokens.assign(1233, 1234)
    assert tokens.user_rows() == before


def test_a_new_client_state_is_a_new_user_on_the_same_node(tokens: TokenDatabase) -> None:
    node = tokens.add_node(current_load=1)
    tokens.add_node("https://empty.example.com")
    uid = tokens.add_user(nodeid=node)
    moved = tokens.assign(2345, 2345, "bbbb")
    old, new = tokens.user_rows()
    assert (old["uid"], new["uid"]) == (uid, moved.uid)
    assert old["replaced_at"] == new["created_at"] == tokens.clock.now_ms()
    assert (new["nodeid"], new["replaced_at"], moved.node) == (node, None, NODE)
    assert moved.first_seen_at == 1_000
    # both lie there until the old one is purged
    assert tokens.node_row(NODE)["current_load"] == 2
    assert tokens.assign(2345, 2345, "bbbb").uid == moved.uid
    with pytest.raises(errors.StaleClientState):
        tokens.assign(2346, 2346, "aaaa")


def test_a_clock_that_went_back_does_not_make_the_new_user_the_older_one(tokens: TokenDatabase) -> None:
    future = tokens.clock.now_ms() + 100_000
    tokens.add_user(nodeid=tokens.add_node(), created_at=future, generation=0)
    moved = tokens.assign(None, 2345, "bbbb")
    assert tokens.user_rows()[1]["created_at"] == future + 1
    assert tokens.assign(None, 2345, "bbbb").uid == moved.uid


def test_a_row_that_an_older_server_wrote_is_brought_up_to_date(tokens: TokenDatabase) -> None:
    uid = tokens.add_user(
        nodeid=tokens.add_node(), generation=2345, keys_changed_at=1200, client_state="bbbb"
    )
    assert tokens.assign(2345, 2345, "bbbb").uid == uid


# -- replaced, homeless and retired users


@pytest.mark.parametrize("homeless", [False, True])
def test_a_user_without_a_place_gets_a_new_uid_on_a_node_that_exists(
    tokens: TokenDatabase, homeless: bool
) -> None:
    node = tokens.add_node()
    values: Any = {"nodeid": 777} if homeless else {"nodeid": node, "replaced_at": 2_000}
    uid = tokens.add_user(generation=1236, **values)
    fresh = tokens.assign(1237, 1237)
    old, new = tokens.user_rows()
    assert fresh.uid == new["uid"] != uid
    assert (new["nodeid"], new["generation"], new["keys_changed_at"]) == (node, 1237, 1237)
    assert old["replaced_at"] == (tokens.clock.now_ms() if homeless else 2_000)
    assert tokens.assign(1237, 1237).uid == fresh.uid


def test_the_rules_hold_for_a_user_without_a_place_too(tokens: TokenDatabase) -> None:
    tokens.add_user(nodeid=tokens.add_node(), replaced_at=2_000)
    with pytest.raises(errors.InvalidGeneration):
        tokens.assign(1233, 1234)
    assert len(tokens.user_rows()) == 1


def test_a_retired_user_is_kept_out(tokens: TokenDatabase) -> None:
    tokens.add_user(nodeid=tokens.add_node(), generation=MAX_GENERATION, replaced_at=2_000)
    for generation in (1235, None):
        with pytest.raises(errors.InvalidGeneration):
            tokens.assign(generation, 1234)


def test_a_retired_user_with_the_last_generation_is_answered(tokens: TokenDatabase) -> None:
    uid = tokens.add_user(nodeid=tokens.add_node(), generation=MAX_GENERATION, replaced_at=2_000)
    assert tokens.assign(MAX_GENERATION, 1234).uid == uid


def test_a_retired_user_whose_node_is_gone_is_a_fault(tokens: TokenDatabase) -> None:
    tokens.add_user(nodeid=777, generation=MAX_GENERATION)
    with pytest.raises(errors.InternalError):
        tokens.assign(MAX_GENERATION, 1234)


def test_what_a_race_of_two_servers_left_is_cleared_up(tokens: TokenDatabase) -> None:
    node = tokens.add_node()
    first = tokens.add_user(nodeid=node, created_at=1_234, generation=1_234)
    second = tokens.add_user(nodeid=node, created_at=1_240, generation=1_235)
    third = tokens.add_user(nodeid=node, created_at=1_230, generation=1_235, replaced_at=1_231)
    assert tokens.assign(1_235, 1_234).uid == second
    assert {row["uid"]: row["replaced_at"] for row in tokens.user_rows()} == {
        first: 1_240,
        second: None,
        third: 1_231,
    }


def test_of_many_records_the_greatest_generation_counts_then_the_newest(tokens: TokenDatabase) -> None:
    node = tokens.add_node()
    for at in range(25):
        tokens.add_user(
            nodeid=node, created_at=at, generation=5, replaced_at=at + 1, client_state=f"{at:04x}"
        )
    last = tokens.add_user(nodeid=node, created_at=3, generation=4)
    newest = tokens.add_user(nodeid=node, created_at=30, generation=5)
    assert tokens.assign(5, 1234).uid == newest
    assert {row["uid"]: row for row in tokens.user_rows()}[last]["replaced_at"] is None


# -- who may come in


class TestWithoutNewUsers:
    @pytest.fixture
    def ini(self) -> dict[str, str]:
        return {"tokenserver.allow_new_users": "false"}

    def test_a_new_user_is_refused_and_the_log_says_what_to_type(
        self, tokens: TokenDatabase, caplog: pytest.LogCaptureFixture
    ) -> None:
        tokens.add_node()
        with pytest.raises(errors.NewUsersDisabled):
            tokens.assign(1, 1)
        assert "syncstore user allow ann" in caplog.text
        assert "tokenserver.allow_new_users is false" in caplog.text
        assert tokens.user_rows() == []

    def test_a_known_user_comes_in(self, tokens: TokenDatabase) -> None:
        uid = tokens.add_user(nodeid=tokens.add_node())
        assert tokens.assign(1234, 1234).uid == uid

    @pytest.mark.parametrize("who", ["ann", "ann@accounts.test"])
    def test_who_is_on_the_list_comes_in(self, tokens: TokenDatabase, who: str) -> None:
        tokens.add_node()
        tokens.execute("INSERT INTO admissions (who, allowed, added_at) VALUES (:who, 1, 0)", who=who)
        assert tokens.assign(1, 1).uid


def test_who_was_denied_is_refused_though_known(
    tokens: TokenDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    tokens.add_user(nodeid=tokens.add_node())
    tokens.execute("INSERT INTO admissions (who, allowed, added_at) VALUES ('ann', 0, 0)")
    tokens.execute("INSERT INTO admissions (who, allowed, added_at) VALUES ('ann@accounts.test', 1, 0)")
    with pytest.raises(errors.NewUsersDisabled):
        tokens.assign(1234, 1234)
    assert "it was denied; to let it in: syncstore user allow ann" in caplog.text
