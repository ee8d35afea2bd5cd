"""What an operator does with users and the list."""

from __future__ import annotations

import pytest

from syncstore.app_tokenserver import open_register
from syncstore.errors import ConfigError
from syncstore.testing.token_database import NODE, TokenDatabase
from syncstore.tokenserver import errors
from syncstore.tokenserver.register import Listed, Register
from syncstore.tokenserver.rules import MAX_GENERATION


@pytest.fixture
def ini() -> dict[str, str]:
    return {"tokenserver.fxa_email_domain": "accounts.test", "tokenserver.allow_new_users": "false"}


@pytest.fixture
def register(tokens: TokenDatabase) -> Register:
    return open_register(tokens.settings, tokens.connections, tokens.clock)


def test_present_users_are_listed(tokens: TokenDatabase, register: Register) -> None:
    node = tokens.add_node()
    tokens.add_user(nodeid=node, replaced_at=5)
    uid = tokens.add_user(nodeid=node, generation=MAX_GENERATION)
    listed = {user.email: user for user in register.users()}
    assert list(listed) == ["noise@accounts.test", "ann@accounts.test"]
    ann = listed["ann@accounts.test"]
    assert (ann.uid, ann.node, ann.created_at, ann.retired) == (uid, NODE, 1_000, True)
    assert listed["noise@accounts.test"].node is None


@pytest.mark.parametrize("who", ["ann", "ANN", "ann@accounts.test"])
def test_allowed_denied_and_allowed_again(tokens: TokenDatabase, register: Register, who: str) -> None:
    tokens.add_node()
    with pytest.raises(errors.NewUsersDisabled):
        tokens.assign(1, 1)
    register.put_on_list(who, allowed=True)
    uid = tokens.assign(1, 1).uid
    register.put_on_list(who, allowed=False)
    assert register.listed() == [Listed(who.lower(), False, tokens.clock.now_ms())]
    with pytest.raises(errors.NewUsersDisabled):
        tokens.assign(1, 1)
    register.put_on_list(who, allowed=True)
    assert tokens.assign(1, 1).uid == uid


@pytest.mark.parametrize("who", ["", " ", "a b", "x" * 256])
def test_what_is_no_account_is_refused(register: Register, who: str) -> None:
    with pytest.raises(ConfigError, match="neither an account id nor"):
        register.put_on_list(who, allowed=True)


@pytest.mark.parametrize("who", ["ann", "ann@accounts.test"])
def test_a_deleted_user_is_a_new_one_when_it_comes_again(
    tokens: TokenDatabase, register: Register, who: str
) -> None:
    uid = tokens.add_user(nodeid=tokens.add_node())
    assert register.delete(who) == [uid]
    (row,) = [row for row in tokens.rows("users", "uid") if row["uid"] == uid]
    assert row["replaced_at"] == tokens.clock.now_ms()
    register.put_on_list("ann", allowed=True)
    assert tokens.assign(1, 1).uid != uid


def test_a_deleted_user_comes_in_no_more_than_a_stranger(tokens: TokenDatabase, register: Register) -> None:
    """Its rows wait for the purge, and must not speak for it until then."""
    node = tokens.add_node()
    uids = [tokens.add_user(nodeid=node, replaced_at=5), tokens.add_user(nodeid=node)]
    assert register.delete("ann") == uids
    with pytest.raises(errors.NewUsersDisabled):
        tokens.assign(1235, 1235)
    assert {row["uid"]: row["replaced_at"] for row in tokens.rows("users", "uid")}[uids[0]] == 5


def test_a_user_that_waits_for_a_node_is_deleted_too(tokens: TokenDatabase, register: Register) -> None:
    uid = tokens.add_user(nodeid=tokens.add_node())
    tokens.nodes.unassign(NODE)
    assert register.delete("ann") == [uid]
    with pytest.raises(errors.NewUsersDisabled):
        tokens.assign(1234, 1234)


def test_a_denial_outlives_the_user(tokens: TokenDatabase, register: Register) -> None:
    tokens.add_user(nodeid=tokens.add_node())
    register.put_on_list("ann", allowed=False)
    register.delete("ann")
    assert register.listed() == [Listed("ann", False, tokens.clock.now_ms())]
    with pytest.raises(errors.NewUsersDisabled, match="denied"):
        tokens.assign(1234, 1234)


def test_a_deleted_user_is_off_the_list(tokens: TokenDatabase, register: Register) -> None:
    register.put_on_list("ann", allowed=True)
    assert register.delete("ann") == []
    assert register.listed() == []
    with pytest.raises(ConfigError, match="there is no user ann"):
        register.delete("ann")
    assert [user.email for user in register.users()] == ["noise@accounts.test"]
