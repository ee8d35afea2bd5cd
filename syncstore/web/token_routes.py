"""The routes of the token server, at the root and below `/token`, where bundles of the field have it."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator

from syncstore.tokenserver.views import Endpoint
from syncstore.web.answers import Answer

_MOUNTS = {"": "tokens", "/token": "tokens.below"}


def add_token_routes(config: Configurator, tokens: Endpoint, events: Endpoint | None) -> None:
    """Register the token server's routes."""
    for mount, name in _MOUNTS.items():
        if events is not None:
            config.add_route(f"{name}.events", f"{mount}/1.0/webhooks/fxa/events")
            config.add_view(_View(events), route_name=f"{name}.events")
        config.add_route(name, f"{mount}/1.0/{{application}}/{{version}}")
        config.add_view(_View(tokens), route_name=name)


class _View:
    """An endpoint as a view of Pyramid's."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, _context: Any, request: Any) -> Answer:
        reply = self._endpoint.answer(request.environ, request.matchdict)
        return Answer(reply.body, status=reply.status, headers=reply.headers)
