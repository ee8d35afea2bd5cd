"""Why syncstore did not answer at its own public address, judged by what did, or by how nothing did."""

from __future__ import annotations

import re

from syncstore.auth.origin import Origin
from syncstore.doctor.client import Client, Reply, Unanswered, Why

_REDIRECTS = (301, 302, 303, 307, 308)
_GATEWAY = (502, 503, 504)
_title = re.compile(rb"<title[^>]*>\s*([^<]{1,80}?)\s*</title>", re.IGNORECASE).search


def explain_silence(origin: Origin, error: Unanswered) -> str:
    """What to change when no answer came."""
    host, place = origin.host, f"{origin.host}:{origin.port}"
    return {
        Why.UNKNOWN_NAME: f"the name {host} is not found: correct it in public_url, or give it a DNS entry",
        Why.REFUSED: f"nobody listens at {place}: start the proxy or server that should, "
        "or correct the port in public_url",
        Why.SILENT: f"{place} gave no answer in time: look for a firewall on the way, or a proxy that hangs",
        Why.UNREACHABLE: f"{place} cannot be reached from here ({error.detail}): look at the network",
        Why.EXPIRED: f"the TLS certificate of {host} has expired: renew it",
        Why.NOT_YET_VALID: f"the TLS certificate of {host} is not valid yet: set this machine's clock, or wait",
        Why.OTHER_NAME: f"the TLS certificate is not for {host}: get one that names it, or correct public_url",
        Why.UNTRUSTED: f"the TLS certificate of {host} is not trusted ({error.detail}): use one of an authority "
        "that browsers know and give the proxy its whole chain, or name your own authority by --ca FILE",
        Why.NO_TLS: f"{place} does not speak TLS ({error.detail}): turn it on in the proxy, "
        "or begin public_url with http://",
        Why.BROKEN: f"what listens at {place} broke off ({error.detail}): look into the log of the proxy",
    }[error.why]


def explain(client: Client, reply: Reply) -> str:
    """What to change when something else than syncstore answered."""
    origin = client.origin
    if origin.scheme == "http" and reply.status == 400 and client.speaks_tls():
        return f"port {origin.port} of {origin.host} speaks TLS: begin public_url with https://"
    if reply.status in _REDIRECTS:
        there = reply.headers.get("location", "nowhere")[:200]
        return f"it redirects to {there}, which no client follows: set public_url to where it answers itself"
    if reply.status == 401:
        return "the proxy asks for a password of its own: let it pass requests to syncstore without one"
    if reply.status == 403:
        return "the proxy forbids it (403): let it pass all paths and methods to syncstore"
    if reply.status in _GATEWAY:
        return (
            f"the proxy has nobody behind it ({reply.status}): start syncstore, "
            "or correct the address that the proxy passes requests to"
        )
    path = f"{origin.prefix}/" if origin.prefix else "/"
    return (
        f"{_what(reply)} answers there ({reply.status}): let the proxy pass everything below {path} to syncstore, "
        "or correct the path in public_url"
    )


def _what(reply: Reply) -> str:
    if reply.media_type == "text/html":
        found = _title(reply.body)
        title = found[1].decode("utf-8", "replace") if found else ""
        return f"the web page {title!r}" if title else "a web page"
    return "another program"
