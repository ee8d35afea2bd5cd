"""From a routed request to a view and back: method, authentication, preconditions, errors, times.

The order of checks is the protocol's (sync-api section 2.1): an unknown URL is 404 and a wrong method 405 before
anybody is asked who they are; then 401; then everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from syncstore.auth.authenticator import Authenticator
from syncstore.auth.reasons import Reason
from syncstore.bso import is_collection, is_id
from syncstore.clock import Clock
from syncstore.errors import NotFound, SyncError, Unauthorized
from syncstore.storage.attempts import attempted
from syncstore.web.answers import Answer, json_zero
from syncstore.web.errors import ErrorAnswers
from syncstore.web.requests import NOBODY, StorageRequest

View = Callable[[StorageRequest], Answer]


class Endpoint:
    """The views of one resource by method, as one Pyramid view.

    `largest_body` is in bytes; `tolerate_expired` accepts expired tokens.
    """

    def __init__(
        self,
        views: Mapping[str, View],
        authenticator: Authenticator,
        errors: ErrorAnswers,
        clock: Clock,
        *,
        largest_body: int,
        tolerate_expired: bool = False,
    ) -> None:
        self._views = dict(views)
        if "GET" in views:
            self._views["HEAD"] = views["GET"]
        self._allow = [("Allow", ", ".join(sorted(self._views)))]
        self._authenticator = authenticator
        self._errors = errors
        self._clock = clock
        self._largest_body = largest_body
        self._tolerate_expired = tolerate_expired

    def __call__(self, _context: Any, request: Any) -> Answer:
        """Answer one request."""
        environ: dict[str, Any] = request.environ
        view = self._views.get(environ["REQUEST_METHOD"])
        if view is None:
            return json_zero(405, self._allow).stamp(self._clock.now())
        return self._answer(view, environ, request.matchdict).stamp(self._clock.now())

    def _answer(self, view: View, environ: dict[str, Any], match: Mapping[str, str]) -> Answer:
        asked = StorageRequest(environ, int(match["uid"]), match.get("collection", ""), match.get("item", ""))
        try:
            _check_syntax(match, environ["PATH_INFO"])
            asked.identity = self._authenticator.authenticate(
                environ, asked.uid, tolerate_expired=self._tolerate_expired
            )
            asked.read_preconditions()
            return attempted(lambda: view(asked), self._clock)
        except SyncError as error:
            if _may_send(asked, error):
                asked.discard_body(self._largest_body)
            return self._errors.answer(error, environ["REQUEST_METHOD"], environ["PATH_INFO"])


def _check_syntax(match: Mapping[str, str], path: str) -> None:
    """What the patterns of routes let through: they end in `$`, which forgives a newline."""
    if path.endswith("\n"):
        raise NotFound(path)
    collection, item = match.get("collection"), match.get("item")
    if (collection is not None and not is_collection(collection)) or (item is not None and not is_id(item)):
        raise NotFound(path)


def _may_send(asked: StorageRequest, error: SyncError) -> bool:
    """Whether the body of a refused request is worth reading: its sender has, or had, a token of ours.

    A stranger is not waited for: each thread that reads a slow body is one that serves nobody else.
    """
    return asked.identity is not NOBODY or (
        isinstance(error, Unauthorized) and error.reason == Reason.TOKEN_EXPIRED
    )
