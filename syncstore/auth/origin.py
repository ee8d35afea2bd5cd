"""Where the client sent its request: scheme, host, port and path prefix as the client knew them.

They are part of what a client signs, and scheme, host, port and prefix are the name of the node that its
token is for (auth specification, sections 4 and 8a). A proxy may have changed each of them on the way. So
`public_url` fixes them all when it is set; otherwise they are those of the WSGI environ, corrected by
forwarded headers only if the peer is a proxy that the settings trust.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import quote

import msgspec

from syncstore.errors import ConfigError, InvalidRequest

DEFAULT_PORTS = {"http": 80, "https": 443}

# What may stand unescaped in a path as WebOb's path_qs writes it, besides letters, digits and _.-~
PATH_SAFE = "/~!$&'()*+,;=:@"

_MAX_KEPT = 256
_authority = re.compile(
    r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+,;=-]{1,255})(?::([0-9]{0,5}))?"
).fullmatch
_is_prefix = re.compile(r"(?:/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)*").fullmatch
_forwarded_pair = re.compile(
    r'[ \t]*([A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^",; \t]+))[ \t]*([;,]|\Z)'
).match


class Origin(msgspec.Struct, frozen=True):
    """The client's view of this server: `https`, `sync.example.com`, 443, `/ff`.

    `host` is in lower case and without port; `prefix` is percent-encoded, "" or begins with a slash and
    does not end in one. `node` is the canonical node name, `https://sync.example.com/ff`. `signed_lines`
    are the two lines that host and port have in the string that Hawk signs.
    """

    scheme: str
    host: str
    port: int
    prefix: str
    node: str
    signed_lines: str


class ClientOrigin:
    """Finds the Origin of each request."""

    def __init__(self, public_url: str | None = None, trusted_proxies: Iterable[str] = ()) -> None:
        """`public_url` is `scheme://host[:port][/prefix]`; `trusted_proxies` are addresses or networks.

        Raises ConfigError for either if it cannot be understood.
        """
        self._fixed = None if public_url is None else _public_origin(public_url)
        self._proxies = tuple(_network(text) for text in trusted_proxies)
        # both keep what strangers send, so both are emptied when full; the answers are pure
        self._known: dict[tuple[str, str, str], Origin] = {}
        self._trusted: dict[str, bool] = {}

    def of(self, environ: dict[str, Any]) -> Origin:
        """The origin of the request in `environ`. Raises InvalidRequest for a Host that names none."""
        if self._fixed is not None:
            return self._fixed
        scheme: str = environ["wsgi.url_scheme"]
        host: str | None = environ.get("HTTP_HOST")
        if host is None:
            host = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        if self._proxies and self._trusts(environ.get("REMOTE_ADDR", "")):
            scheme, host = _forwarded(environ, scheme, host)
        key = (scheme, host, environ.get("SCRIPT_NAME", ""))
        found = self._known.get(key)
        if found is None:
            prefix = quote(key[2].rstrip("/"), safe=PATH_SAFE, encoding="latin-1", errors="replace")
            found = _origin(scheme, host, prefix)
            if len(self._known) >= _MAX_KEPT:
                self._known.clear()
            self._known[key] = found
        return found

    def _trusts(self, peer: str) -> bool:
        trusted = self._trusted.get(peer)
        if trusted is None:
            trusted = self._is_in_proxies(peer)
            if len(self._trusted) >= _MAX_KEPT:
                self._trusted.clear()
            self._trusted[peer] = trusted
        return trusted

    def _is_in_proxies(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:  # a unix socket has no address
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1, on a socket for both families
        return any(address in network or (mapped and mapped in network) for network in self._proxies)


def split_authority(text: str, scheme: str) -> tuple[str, int]:
    """Host in lower case and port of `host[:port]`; the port defaults to that of `scheme`.

    Raises InvalidRequest for a scheme that is not http or https, an impossible host or port.
    """
    found = _authority(text)
    if found is None or scheme not in DEFAULT_PORTS:
        raise InvalidRequest("invalid scheme, host or port of the request")
    host, digits = found.groups()
    port = int(digits) if digits else DEFAULT_PORTS[scheme]
    if not 0 < port <= 65535:
        raise InvalidRequest("invalid port of the request")
    return host.lower(), port


def canonical_node(name: str) -> str:
    """A node name as it is compared: scheme and host in lower case, no :80 for http or :443 for https.

    A name that is no URL of http or https comes back as it is.
    """
    scheme, _, rest = name.partition("://")
    authority, slash, path = rest.partition("/")
    try:
        host, port = split_authority(authority, scheme.lower())
    except InvalidRequest:
        return name
    return _node(scheme.lower(), host, port) + slash + path


def _node(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{host}" if port == DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}"


def _origin(scheme: str, authority: str, prefix: str) -> Origin:
    host, port = split_authority(authority, scheme)
    return Origin(
        scheme=scheme,
        host=host,
        port=port,
        prefix=prefix,
        node=_node(scheme, host, port) + prefix,
        signed_lines=f"{host}\n{port}\n",
    )


def _public_origin(url: str) -> Origin:
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    prefix = (slash + path).rstrip("/")
    if _is_prefix(prefix) is None:
        raise ConfigError(f"public_url: {url!r} has an impossible path")
    try:
        return _origin(scheme.lower(), authority, prefix)
    except InvalidRequest:
        raise ConfigError(f"public_url: {url!r} is not scheme://host[:port][/prefix]") from None


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigError(f"trusted_proxies: {text!r} is no address or network: {error}") from None


def _forwarded(environ: dict[str, Any], scheme: str, host: str) -> tuple[str, str]:
    """Scheme and host from the headers of a trusted proxy: the leftmost value, what the client spoke to."""
    scheme = _first(environ.get("HTTP_X_FORWARDED_PROTO")) or scheme
    host = _first(environ.get("HTTP_X_FORWARDED_HOST")) or host
    text = environ.get("HTTP_FORWARDED")
    if text:
        pairs = _forwarded_pairs(text)
        scheme, host = pairs.get("proto", scheme), pairs.get("host", host)
    return scheme.lower(), host


def _first(text: str | None) -> str:
    return text.partition(",")[0].strip() if text else ""


def _forwarded_pairs(text: str) -> dict[str, str]:
    """The first element of a Forwarded header (RFC 7239)."""
    pairs: dict[str, str] = {}
    position, separator = 0, ";"
    while separator == ";":
        found = _forwarded_pair(text, position)
        if found is None:
            raise InvalidRequest("malformed Forwarded header")
        name, quoted, plain, separator = found.groups()
        pairs[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
        position = found.end()
    return pairs
