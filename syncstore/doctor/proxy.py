"""Signed requests to the server's public address, through whatever stands before it.

A request that arrives as it was sent is answered. One that is refused is sent again, signed for what a proxy may
have made of it: the variant that the server accepts names the fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import msgspec

from syncstore.auth.origin import Origin
from syncstore.doctor import clock, strangers, views
from syncstore.doctor.client import Client, Reply, Unanswered
from syncstore.doctor.findings import Finding
from syncstore.doctor.signing import UID, Signer

_USER = f"/1.5/{UID}"
_INFO = f"{_USER}/info/collections"
# What clients may write and proxies like to tidy up.
_QUERY = "doctor=a%20b+c%2Fd&e=%7Bf%7D&empty=&flag&~=(*)"
_ITEM = f"{_USER}/storage/meta/%7Bdoctor%7D%20100%25"
_POST = f"{_USER}/storage/doctor"
_UPLOAD_SECONDS = 120.0

_AS_IT_IS = "let it pass on path and query as they came (nginx: no rewrite, and no $uri in proxy_pass)"


class Place(msgspec.Struct, frozen=True):
    """How to reach the server: through its public address, and directly, where that is known.

    `in_settings` says that the public address is the setting `public_url`.
    """

    client: Client
    direct: Client | None
    signer: Signer
    in_settings: bool


def examine(place: Place, now: float, largest: int) -> Iterator[Finding]:
    """Everything about the public address; the first fault ends it. `largest` is a body's limit in bytes."""
    subject = f"address {place.client.origin.node}"
    if not place.signer.knows(place.client.origin.node):
        yield Finding(subject, "there is no signing secret for this node: add one to auth.node_secrets")
        return
    try:
        first = _get(place, _INFO)
        advice = _explain(place, first)
        yield Finding(subject, advice)
        if advice:
            return
        yield clock.examine(first.headers.get("date"), now)
        yield _query(place)
        yield _path(place)
        yield _body(place, largest)
    except Unanswered as error:
        yield Finding(subject, strangers.explain_silence(place.client.origin, error))


def _get(place: Place, path: str, *, arrives: str | None = None) -> Reply:
    """Ask for `path`, signed for it or for what arrives instead."""
    prefix = place.client.origin.prefix
    return _signed(
        place.signer, place.client, place.client.origin, prefix + path, arrives and prefix + arrives
    )


def _signed(signer: Signer, client: Client, seen: Origin, target: str, arrives: str | None = None) -> Reply:
    header = signer.header("GET", seen.node, arrives or target)
    return client.ask("GET", target, {"Authorization": header, "Accept": "application/json"})


# -- a plain request


def _explain(place: Place, reply: Reply) -> str:
    """What to change after the answer to a plain signed request; empty when it is the right one."""
    if not reply.of_syncstore:
        return strangers.explain(place.client, reply)
    if reply.status == 200:
        return ""
    if reply.status == 404:
        return _explain_path(place)
    if reply.status == 401:
        return _explain_refusal(place)
    if reply.status == 503:
        return "syncstore answers 503: its database is away, or busy"
    return f"syncstore answers {reply.status} to a plain request: look into its log for the reason"


def _explain_path(place: Place) -> str:
    """The server answers, and has no such path."""
    prefix = place.client.origin.prefix
    known = _reaches(place, prefix + _INFO)
    if known:
        what = f"the path prefix {prefix} is lost or doubled" if prefix else "the path is changed"
        return (
            f"{what} on its way through the proxy: end both its location and the address behind it in a slash"
        )
    if prefix:
        return (
            f"the server does not know of the path {prefix}: "
            f"set public_url = {place.client.origin.node} in its settings"
        )
    return "the proxy adds something to the path: let it pass on paths as they came"


def _reaches(place: Place, target: str) -> bool:
    """Whether the server knows the path when it is asked without the proxy."""
    if place.direct is None:
        return False
    try:
        reply = place.direct.ask("GET", target)
    except Unanswered:
        return False
    return reply.of_syncstore and reply.status == 401


def _explain_refusal(place: Place) -> str:
    """The server has another idea of what was signed, or by whom."""
    expected = place.client.origin
    view = views.ask(place.client)
    if view is None:
        view = _guess(place)
    if view is not None:
        advice = views.explain(expected, view, in_settings=place.in_settings)
        if advice:
            return advice
    believed = _is_believed_directly(place)
    if believed is None:
        return (
            "the signature is refused: restart the server, so that it has the secret of these settings, "
            "and let the proxy pass on the Authorization header"
        )
    if believed:
        return "the proxy drops or changes the Authorization header: let it pass that on as it came"
    return "the server has another signing secret than these settings: give it the same, and restart it"


def _guess(place: Place) -> views.View | None:
    """Where the server may think it is, found by signing for that, when it cannot be asked."""
    public = place.client.origin
    bare = public.node.partition("://")[2].partition("/")[0]
    hosts = [bare, public.host]
    if place.direct is not None:
        port = place.direct.origin.port
        hosts += [place.direct.origin.node.partition("://")[2], f"localhost:{port}", "localhost"]
    prefixes = list(dict.fromkeys((public.prefix, "")))
    for node in dict.fromkeys(f"{s}://{h}{p}" for s in ("http", "https") for h in hosts for p in prefixes):
        seen = views.origin_of(node)
        if not place.signer.knows(seen.node):
            continue
        reply = _signed(place.signer, place.client, seen, public.prefix + _INFO, seen.prefix + _INFO)
        if reply.of_syncstore and reply.status == 200:
            return views.View(seen, configured=False)
    return None


def _is_believed_directly(place: Place) -> bool | None:
    """Whether the server takes our signature without the proxy between; None when it cannot be asked."""
    direct = place.direct
    if direct is None:
        return None
    public = place.client.origin
    tries: Sequence[tuple[Origin, str]] = ((public, public.prefix + _INFO), (direct.origin, _INFO))
    for seen, target in tries:
        if not place.signer.knows(seen.node):
            continue
        try:
            reply = _signed(place.signer, direct, seen, target)
        except Unanswered:
            return None
        if not reply.of_syncstore:
            return None
        if reply.status == 200:
            return True
    return False


# -- requests that a proxy may tidy up


def _query(place: Place) -> Finding:
    target = f"{_INFO}?{_QUERY}"
    reply = _get(place, target)
    if reply.of_syncstore and reply.status == 200:
        return Finding("query")
    if reply.of_syncstore and reply.status == 401 and _get(place, target, arrives=_INFO).status == 200:
        return Finding(
            "query", "the proxy drops the query of requests: let it pass on path and query as they came"
        )
    return Finding("query", f"the proxy changes the query of requests: {_AS_IT_IS}")


def _path(place: Place) -> Finding:
    """An item that is not there, and whose id has to be escaped.

    An unknown path is 404, too, but nobody asks there who one is: so it is not the right 404 unless a request
    that is signed wrongly is refused.
    """
    reply = _get(place, _ITEM)
    if reply.of_syncstore and reply.status == 404:
        wrong = _get(place, _ITEM, arrives=_INFO)
        if wrong.of_syncstore and wrong.status == 401:
            return Finding("escaped path")
    once_more = quote(_ITEM)
    for arrives in (
        once_more,
        quote(once_more),
    ):  # nginx, by its version, encodes what a rewrite captured again
        if reply.status == 401 and _get(place, _ITEM, arrives=arrives).status == 404:
            return Finding(
                "escaped path", f"the proxy encodes the escaped path of requests again: {_AS_IT_IS}"
            )
    return Finding("escaped path", f"the proxy decodes or re-encodes the path of requests: {_AS_IT_IS}")


def _body(place: Place, largest: int) -> Finding:
    """A body of the largest size, signed, and of blanks: the server reads it all and finds no JSON in it."""
    subject = f"body of {largest} bytes"
    origin = place.client.origin
    target = origin.prefix + _POST
    headers = {
        "Authorization": place.signer.header("POST", origin.node, target),
        "Content-Type": "application/json",
    }
    try:
        reply = place.client.ask("POST", target, headers, b" " * largest, patience=_UPLOAD_SECONDS)
    except Unanswered as error:
        return Finding(
            subject,
            f"it did not arrive ({error.detail}): let the proxy take bodies of that size and some minutes",
        )
    if reply.of_syncstore and reply.status == 400:
        return Finding(subject)
    if reply.of_syncstore:
        return Finding(subject, f"syncstore answers {reply.status}: look into its log for the reason")
    if reply.status == 413:
        return Finding(
            subject,
            "the proxy refuses it (413): raise its limit (nginx: client_max_body_size "
            f"{-(-largest // 1_048_576)}m)",
        )
    return Finding(subject, strangers.explain(place.client, reply))
