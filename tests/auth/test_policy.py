"""The security policy, in a real Pyramid application."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.interfaces import ISecurityPolicy
from pyramid.response import Response
from pyramid.security import forget, remember
from webtest import TestApp
from zope.interface.verify import verifyObject

from syncstore.auth.authenticator import Authenticator
from syncstore.auth.hawk import sign
from syncstore.auth.origin import ClientOrigin
from syncstore.auth.policy import HawkSecurityPolicy
from syncstore.auth.secrets import FixedSecrets
from syncstore.auth.tokens import derive_key, make_token
from syncstore.clock import SystemClock

SECRET = "a secret of the tests"
NODE = "http://localhost"


class CountingAuthenticator(Authenticator):
    calls = 0

    def authenticate(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return super().authenticate(*args, **options)


def show(request: Any) -> Response:
    identity = request.identity
    return Response(
        json_body={
            "userid": request.authenticated_userid,
            "identity": identity and identity.uid,
            "expired": identity and identity.expired,
            "permits": bool(request.has_permission("anything")),
            "said": request.has_permission("anything").msg,
            "forget": forget(request),
            "remember": remember(request, 7),
        }
    )


@pytest.fixture
def authenticator() -> CountingAuthenticator:
    return CountingAuthenticator(FixedSecrets([SECRET]), ClientOrigin(), SystemClock())


@pytest.fixture
def app(authenticator: CountingAuthenticator) -> TestApp:
    config = Configurator()
    config.set_security_policy(
        HawkSecurityPolicy(authenticator, lambda request: request.path.endswith("/info/collections"))
    )
    config.add_route("info", "/1.5/{uid}/info/{what}")
    config.add_route("other", "/other")
    for route in ("info", "other"):
        config.add_view(show, route_name=route)
    config.add_route("guarded", "/1.5/{uid}/guarded")
    config.add_view(show, route_name="guarded", permission="anything")
    return TestApp(config.make_wsgi_app())


def ask(
    app: TestApp, path: str, *, uid: int = 7, expires: float = 4e9, key: str | None = None, **more: Any
) -> Any:
    token = make_token({"uid": uid, "node": NODE, "expires": expires}, SECRET)
    header = sign("GET", NODE + path, token, key or derive_key(token, SECRET), ts=1)
    return app.get(path, headers={"Authorization": header, "Host": "localhost"}, **more)


def test_it_is_a_pyramid_security_policy(authenticator: CountingAuthenticator) -> None:
    verifyObject(ISecurityPolicy, HawkSecurityPolicy(authenticator))


def test_the_owner_is_known_and_may_do_everything(app: TestApp, authenticator: CountingAuthenticator) -> None:
    answer = ask(app, "/1.5/7/info/quota").json

    assert (answer["userid"], answer["identity"], answer["permits"]) == (7, 7, True)
    assert authenticator.calls == 1


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/1.5/8/info/quota", {}),
        ("/1.5/7/info/quota", {"key": "wrong"}),
        ("/1.5/7/info/quota", {"expires": 1.0}),
        ("/1.5/x/info/quota", {}),
        ("/1.5/99999999999/info/quota", {}),
        ("/other", {}),
    ],
)
def test_everybody_else_is_nobody(app: TestApp, path: str, options: dict[str, Any]) -> None:
    answer = ask(app, path, **options).json

    assert (answer["userid"], answer["identity"], answer["permits"]) == (None, None, False)
    assert answer["said"]


def test_a_guarded_view_is_the_owner_s(app: TestApp) -> None:
    ask(app, "/1.5/7/guarded", status=200)
    ask(app, "/1.5/8/guarded", status=403)


def test_an_expired_token_is_tolerated_only_where_the_application_says_so(
    authenticator: CountingAuthenticator, app: TestApp
) -> None:
    expires = SystemClock().seconds() - 60

    assert ask(app, "/1.5/7/info/collections", expires=expires).json["expired"] is True
    assert ask(app, "/1.5/7/info/quota", expires=expires).json["identity"] is None
    strict = HawkSecurityPolicy(authenticator)
    assert strict._tolerates_expired(None) is False


def test_it_challenges_with_hawk_and_remembers_nothing(app: TestApp) -> None:
    answer = app.get("/other").json

    assert answer["forget"] == [["WWW-Authenticate", "Hawk"]]
    assert answer["remember"] == []
