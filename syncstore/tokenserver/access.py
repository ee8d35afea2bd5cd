"""Who may come in: everybody with an account, or only who stands on the list; and who may not in any case."""

from __future__ import annotations

import logging

from syncstore.tokenserver.errors import NewUsersDisabled

log = logging.getLogger(__name__)


class Access:
    """The door. `allow_new_users` False leaves it to the list who may become a user."""

    def __init__(self, *, allow_new_users: bool) -> None:
        self._allow_new_users = allow_new_users

    def check(self, account: str, *, known: bool, listed: bool | None) -> None:
        """Let an account in, or raise NewUsersDisabled and log what would let it in.

        `known` says that it is a user already, `listed` what the list says: True allow, False deny, None nothing.
        """
        if listed is False:
            log.warning(
                "the account %s is refused, since it was denied; to let it in: syncstore user allow %s",
                account, account,
            )  # fmt: skip
            raise NewUsersDisabled("the account was denied")
        if not known and listed is None and not self._allow_new_users:
            log.warning(
                "the account %s is refused, since tokenserver.allow_new_users is false and it is not on the list; "
                "to let it in: syncstore user allow %s",
                account, account,
            )  # fmt: skip
            raise NewUsersDisabled("a new user, and not on the list")
