"""The page at `/` for people: what to type into Firefox so that it syncs with this server.

One small page that loads nothing from anywhere: no script, one style sheet inside, whose hash is all that the
content security policy lets through. Every value on it is escaped, since without `public_url` the address comes
from the request, and a Host header is a stranger's text.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from enum import StrEnum
from html import escape

import msgspec


class TokenServerState(StrEnum):
    """What this server's own token server does."""

    OFF = "off"
    ANSWERS = "answers"
    FAILS = "fails"


class Landing(msgspec.Struct, frozen=True):
    """What the page tells. `url` is the address that clients use, as far as the server knows.

    `configured` says that the address is the setting `public_url`, not the request's own.
    """

    url: str
    configured: bool
    version: str
    token_server: TokenServerState

    @property
    def token_server_url(self) -> str:
        """The value for the clients (token API, section 8)."""
        return f"{self.url}/1.0/sync/1.5"


def text_page() -> bytes:
    """The sign of life for whoever asks for nothing in particular."""
    return b"It Works! syncstore is running on this host.\n"


def json_page(landing: Landing) -> bytes:
    """The same facts for programs; `syncstore doctor` reads there which address the server believes it has."""
    return msgspec.json.encode(
        {
            "message": "It Works!",
            "server": "syncstore",
            "version": landing.version,
            "url": landing.url,
            "url_from": "settings" if landing.configured else "request",
            "tokenserver": landing.token_server,
        }
    )


def html_page(landing: Landing) -> bytes:
    """The page for browsers."""
    on = landing.token_server is not TokenServerState.OFF
    return _PAGE.format(
        style=_STYLE,
        state=landing.token_server.value,
        state_text=_STATES[landing.token_server],
        steps=_STEPS.format(value=escape(landing.token_server_url)) if on else "",
        version=escape(landing.version),
    ).encode()


_STATES = {
    TokenServerState.ANSWERS: "Its token server is on and answers.",
    TokenServerState.FAILS: "Its token server is on and cannot answer at this moment.",
    TokenServerState.OFF: "Its token server is off, so Firefox cannot be pointed here. "
    "Whoever runs this server turns it on by <code>tokenserver.enabled = true</code>.",
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2433; --soft: #5a6478; --page: #f4f6fa; --card: #fff; --line: #dde2ec;
  --value: #eef3ff; --accent: #2456d6; --good: #12805c; --bad: #b3261e; --idle: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf4; --soft: #a3adc0; --page: #12161f; --card: #1b212d;
  --line: #2d3546; --value: #202c47; --accent: #8fb2ff; --good: #5cd3a8; --bad: #ff9c94; --idle: #f0c35b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4rem) clamp(1rem, 4vw, 2rem) 2rem; }
h1 { margin: 0; font-size: clamp(1.9rem, 5vw, 2.6rem); line-height: 1.2; letter-spacing: -.02em; }
h2 { margin: 0 0 .6rem; font-size: 1.1rem; }
p { margin: .6rem 0; } section > :last-child { margin-bottom: 0; }
.lead { max-width: 42rem; color: var(--soft); font-size: 1.1rem; }
.state { display: flex; gap: .6rem; align-items: baseline; margin: 1.4rem 0; font-weight: 600; }
.state::before { content: ""; flex: none; width: .7rem; height: .7rem; border-radius: 50%; background: currentColor; }
.answers { color: var(--good); } .fails { color: var(--bad); } .off { color: var(--idle); }
.state span { color: var(--ink); font-weight: 400; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; padding: 1.2rem 1.3rem; }
.value { display: block; margin: .3rem 0; padding: .8rem 1rem; border-radius: .5rem; background: var(--value);
  color: var(--accent); font-size: 1.05rem; font-weight: 600; user-select: all; overflow-wrap: anywhere; }
.steps { display: grid; gap: 1rem; margin-top: 1rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
ol { margin: 0; padding-left: 1.2rem; } li { margin: .45rem 0; } b { font-weight: 600; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .84em; overflow-wrap: anywhere; }
.small, footer { color: var(--soft); font-size: .9rem; } footer { margin-top: 2rem; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>syncstore</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>It Works!</h1>
<p class="lead">This is syncstore, a server that keeps your bookmarks, history, tabs and passwords in step between
your Firefoxes. They encrypt everything before they send it.</p>
<p class="state {state}"><span>{state_text}</span></p>
{steps}
<footer>syncstore {version}</footer>
</main>
</body>
</html>
"""

_STEPS = """<section>
<h2>The address for all your devices</h2>
<code class="value">{value}</code>
<p class="small">One click selects it whole. A Firefox that already syncs must be disconnected first, and keeps its
data.</p>
</section>
<div class="steps">
<section>
<h2>On a computer</h2>
<ol>
<li>Type <b>about:config</b> into the address bar.</li>
<li>Search for <code>identity.sync.tokenserver.uri</code> and set it to the address above.</li>
<li>Sign in: <b>Settings &rsaquo; Sync</b>.</li>
</ol>
</section>
<section>
<h2>On Android</h2>
<ol>
<li><b>Settings &rsaquo; About Firefox</b>: tap the logo five times, until it says that the debug menu is on.</li>
<li><b>Settings &rsaquo; Sync Debug &rsaquo; Custom Sync server</b>: type the address above.</li>
<li>Restart Firefox, then sign in: <b>Settings &rsaquo; Sync and save your data</b>.</li>
</ol>
</section>
<section>
<h2>On iPhone and iPad</h2>
<ol>
<li><b>Settings</b>: tap the version number, far down, five times.</li>
<li><b>Settings &rsaquo; Advanced Sync Settings</b>, at the top: switch on <b>Use Custom Sync Token Server</b> and
type the address above as its URI.</li>
<li>Sign in: <b>Settings &rsaquo; Sync and Save Data</b>.</li>
</ol>
</section>
</div>"""

_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

# The facts may change at any moment, and a cache must not give one visitor the address of another's request.
HEADERS = [
    ("Cache-Control", "no-store"),
    ("Vary", "Accept"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]
HTML_HEADERS = [
    *HEADERS,
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
]
