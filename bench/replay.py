"""Signed requests replayed by wrk: the load.

One wrk thread: it sends some 40,000 requests a second, more than one worker here answers, and the order of
the requests is then the order of the list. wrk closes the loop: each of its connections sends the next
request when the last one is answered, so p50 and p99 are those of a server that is never idle.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.signing import Request, wire_head

_SCRIPT = Path(__file__).with_name("replay.lua")
_MARK = "RESULT "


class ReplayError(Exception):
    """wrk did not run to its end; the text has what it said."""


@dataclass(frozen=True)
class Replay:
    """What one run of wrk saw. Latencies in microseconds, duration in seconds.

    `unexpected` counts answers by status, `broken` connections that failed or timed out, by kind.
    """

    duration: float
    good: int
    p50: float
    p99: float
    unexpected: dict[str, int]
    broken: dict[str, int]
    ran_out: bool = False

    @property
    def answers(self) -> int:
        return self.good + sum(self.unexpected.values())

    @property
    def complaint(self) -> str:
        """What is wrong with this run, in a few words; empty when nothing is."""
        parts = [f"{count} answers {status}" for status, count in sorted(self.unexpected.items())]
        parts += [f"{count} {kind} errors" for kind, count in sorted(self.broken.items())]
        if self.ran_out:
            parts.append("the prepared requests ran out")
        if not self.answers:
            parts.append("no answers")
        return ", ".join(parts)


def write_requests(path: Path, requests: Sequence[Request], url: str) -> None:
    """Sign `requests` for the server at `url` into the file that replay.lua reads.

    Bodies stand there once however many requests share them.
    """
    numbers: dict[bytes, int] = {}
    for request in requests:
        numbers.setdefault(request.body, len(numbers) + 1)
    with path.open("wb") as file:
        file.write(b"%d\n" % len(numbers))
        for body in numbers:
            file.write(b"%d\n%b" % (len(body), body))
        file.write(b"%d\n" % len(requests))
        for request in requests:
            head = wire_head(request, url)
            file.write(b"%d %d\n%b" % (numbers[request.body], len(head), head))


def run_wrk(
    path: Path, url: str, *, expected: int, seconds: float, connections: int, once: bool = False
) -> Replay:
    """Replay the requests of the file at `path` for about `seconds` and count the answers.

    With `once` the requests must not come twice: the run ends when the list does, and says so.
    """
    options = {
        "--threads": "1",
        "--connections": str(connections),
        "--duration": f"{max(1, round(seconds))}s",
        "--timeout": "10s",
        "--script": str(_SCRIPT),
    }
    for_script = [str(path), str(expected), "once" if once else "loop"]
    command = ["wrk", *(word for option in options.items() for word in option), url, "--", *for_script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    for line in run.stdout.splitlines():
        if line.startswith(_MARK):
            return parse_result(line.removeprefix(_MARK))
    raise ReplayError((run.stdout + run.stderr).strip() or f"wrk ended with {run.returncode}")


def parse_result(text: str) -> Replay:
    """The line that replay.lua prints at the end, as a Replay."""
    found = json.loads(text)
    return Replay(
        duration=found["duration_us"] / 1e6,
        good=found["good"],
        p50=found["p50_us"],
        p99=found["p99_us"],
        unexpected=dict(Counter(found["bad"].split())),
        broken={kind: found[kind] for kind in ("connect", "read", "write", "timeout") if found[kind]},
        ran_out=bool(found["ran_out"]),
    )
