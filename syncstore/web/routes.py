"""Which view answers which URL: Pyramid's configuration, the hot routes first."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from pyramid.config import Configurator
from pyramid.exceptions import URLDecodeError

from syncstore.auth.authenticator import Authenticator
from syncstore.clock import Clock
from syncstore.web.answers import Answer, json_zero
from syncstore.web.endpoint import Endpoint, View
from syncstore.web.errors import ErrorAnswers
from syncstore.web.views.collections import CollectionViews
from syncstore.web.views.info import InfoViews
from syncstore.web.views.items import ItemViews
from syncstore.web.views.site import SiteViews
from syncstore.web.views.storage import StorageViews

log = logging.getLogger(__name__)

# [0-9] and re.ASCII-like classes throughout: \d would match the digits of every script.
_USER = "/1.5/{uid:[0-9]{1,10}}"
_COLLECTION = _USER + "/storage/{collection:[a-zA-Z0-9._-]{1,32}}"
_ITEM = _COLLECTION + "/{item:.{1,64}}"


class Views(NamedTuple):
    """All views of the service."""

    info: InfoViews
    collections: CollectionViews
    items: ItemViews
    storage: StorageViews
    site: SiteViews


def add_routes(
    config: Configurator,
    views: Views,
    authenticator: Authenticator,
    errors: ErrorAnswers,
    clock: Clock,
    *,
    largest_body: int,
) -> None:
    """Register every route with its views. `largest_body` is in bytes, over all collections."""

    def storage(
        name: str, pattern: str, methods: Mapping[str, View], *, tolerate_expired: bool = False
    ) -> None:
        endpoint = Endpoint(
            methods,
            authenticator,
            errors,
            clock,
            largest_body=largest_body,
            tolerate_expired=tolerate_expired,
        )
        config.add_route(name, pattern)
        config.add_view(endpoint, route_name=name)

    info, collections, items = views.info, views.collections, views.items
    storage("info.collections", _USER + "/info/collections", {"GET": info.collections}, tolerate_expired=True)
    config.add_route("info.configuration", _USER + "/info/configuration")
    config.add_view(_Configuration(info, clock), route_name="info.configuration")
    methods: dict[str, View] = {
        "GET": collections.get,
        "POST": collections.post,
        "DELETE": collections.delete,
    }
    storage("collection", _COLLECTION, methods)
    storage("item", _ITEM, {"GET": items.get, "PUT": items.put, "DELETE": items.delete})
    storage("info.quota", _USER + "/info/quota", {"GET": info.quota})
    storage("info.usage", _USER + "/info/collection_usage", {"GET": info.usage})
    storage("info.counts", _USER + "/info/collection_counts", {"GET": info.counts})
    storage("storage", _USER + "/storage", {"DELETE": views.storage.delete})
    storage("user", _USER, {"DELETE": views.storage.delete})

    site = views.site
    for name, pattern, view in (
        ("site.root", "/", site.root),
        ("site.heartbeat", "/__heartbeat__", site.heartbeat),
        ("site.lbheartbeat", "/__lbheartbeat__", site.lbheartbeat),
        ("site.version", "/__version__", site.version),
        ("site.error", "/__error__", site.error),
    ):
        config.add_route(name, pattern)
        config.add_view(_Site(view), route_name=name)

    fallback = _Fallback(clock)
    config.add_notfound_view(fallback.not_found)
    config.add_exception_view(fallback.undecodable, context=URLDecodeError)
    config.add_exception_view(fallback.unexpected, context=Exception)


class _Configuration:
    """info/configuration, which needs no signature."""

    def __init__(self, info: InfoViews, clock: Clock) -> None:
        self._info = info
        self._clock = clock

    def __call__(self, _context: Any, request: Any) -> Answer:
        now = self._clock.now()
        if request.environ["PATH_INFO"].endswith("\n"):
            return json_zero(404).stamp(now)
        if request.environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return json_zero(405, [("Allow", "GET, HEAD")]).stamp(now)
        return self._info.configuration().stamp(now)


class _Site:
    """A view of the site, for GET and HEAD."""

    def __init__(self, view: Any) -> None:
        self._view = view

    def __call__(self, context: Any, request: Any) -> Answer:
        if request.environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return json_zero(405, [("Allow", "GET, HEAD")])
        answer: Answer = self._view(context, request)
        return answer


class _Fallback:
    """Answers to what no route or no error class is made for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def not_found(self, _context: Any, _request: Any) -> Answer:
        return json_zero(404).stamp(self._clock.now())

    def undecodable(self, _context: Any, _request: Any) -> Answer:
        return json_zero(404).stamp(self._clock.now())

    def unexpected(self, context: Any, request: Any) -> Answer:
        environ = request.environ
        log.error("500 %s %.200r", environ["REQUEST_METHOD"], environ["PATH_INFO"], exc_info=context)
        return json_zero(500).stamp(self._clock.now())
