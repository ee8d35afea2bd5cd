"""The measurement without a server: the WSGI app is called directly, between two readings of the CPU time.

No sockets, no threads, no wake-ups: the figures repeat to a few percent, which makes this the mode to compare
two versions of the code, and the one to profile.
"""

from __future__ import annotations

import contextlib
import cProfile
import io
import pstats
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.client import Answer
from bench.operations import OPERATIONS, Ground, Operation
from bench.samples import Row, Sample
from bench.seeding import seed, send_checked
from bench.signing import SECRET, Request, all_headers, make_users
from bench.stack import cache, database

URL = "http://127.0.0.1:5000"
_PROFILE_LINES = 35


class WSGIApp(Protocol):
    """What is measured: an app that holds a database until it is closed."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any], /) -> Iterable[bytes]: ...

    @property
    def close(self) -> Callable[[], None]:
        """Gives back what the app holds."""


def environ(request: Request) -> dict[str, Any]:
    """The WSGI environ that granian makes of `request`; without the raw target, which it does not keep."""
    path, _, query = request.target.partition("?")
    found: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in all_headers(request, URL):
        key = name.upper().replace("-", "_")
        found[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    return found


class WSGISender:
    """Calls a WSGI app as a server would, one request after the other."""

    def __init__(self, app: WSGIApp) -> None:
        self._app = app
        self._status = ""

    def send_all(self, requests: Sequence[Request]) -> list[Answer]:
        return [self.call(environ(request), request.body) for request in requests]

    def call(self, template: dict[str, Any], body: bytes) -> Answer:
        """The answer to the request in `template`, which stays as it is."""
        parts = self._app({**template, "wsgi.input": io.BytesIO(body)}, self._start_response)
        text = b"".join(parts)
        close = getattr(parts, "close", None)
        if close is not None:
            close()
        return Answer(int(self._status[:3]), text)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        self._status = status


def measure(
    make_app: Callable[[dict[str, str]], WSGIApp],
    kind: str,
    names: Sequence[str],
    *,
    users: int,
    requests: int,
    rounds: int,
    profile: bool,
    progress: Callable[[str], None],
) -> list[Row]:
    """Rows for the operations `names` on database `kind`: `requests` calls in each of `rounds` rounds.

    `make_app` makes the app from settings, as text by key. With `profile` one more, profiled round of each
    operation is printed to standard output; its times are inflated, its order is what counts. Raises
    SeedingError.
    """
    rows = {name: Row(kind, name, OPERATIONS[name].expected, OPERATIONS[name].per_unit) for name in names}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncstore-bench-")))
        database_url, _ = stack.enter_context(database(kind, scratch))
        cached, _ = stack.enter_context(cache(kind))
        settings = {
            "sqlalchemy.url": database_url,
            "auth.secrets": SECRET,
            "migrate": "auto",
            "public_url": URL,
            **cached,
        }
        app = make_app(settings)
        stack.callback(app.close)
        sender = WSGISender(app)
        progress(f"{kind}: seeding {users} users")
        # a second of DELETEs at the rate that Ground assumes is more than one round sends
        ground = seed(sender, make_users(users, URL), max(1.0, requests / 10_000))
        for number in range(1, rounds + 1):
            for name in names:
                sample = _run(sender, OPERATIONS[name], ground, requests, None)
                rows[name].samples.append(sample)
                verdict = sample.complaint or f"{sample.server_us:.1f} us"
                progress(f"round {number}/{rounds} {kind} {name}: {verdict}")
        for name in names if profile else ():
            profiler = cProfile.Profile()
            _run(sender, OPERATIONS[name], ground, requests, profiler)
            print(f"\n== {kind} {name}: {requests} requests, profiled")
            pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(_PROFILE_LINES)
    return list(rows.values())


def _run(
    sender: WSGISender, operation: Operation, ground: Ground, count: int, profiler: cProfile.Profile | None
) -> Sample:
    if operation.prepare is not None:
        send_checked(sender, operation.prepare(ground))
    some = operation.requests(ground)
    calls = [(environ(request), request.body) for request in some[:count]]
    unexpected = 0
    done = 0
    if profiler is not None:
        profiler.enable()
    wall, cpu = time.perf_counter(), time.process_time()
    while done < count:
        for template, body in calls[: count - done]:
            if sender.call(template, body).status != operation.expected:
                unexpected += 1
        done += len(calls)
        if operation.once:
            break
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if profiler is not None:
        profiler.disable()
    done = min(done, count)
    complaint = f"{unexpected} unexpected answers" if unexpected else ""
    return Sample(server_us=cpu / done * 1e6, rate=done / wall, complaint=complaint)
