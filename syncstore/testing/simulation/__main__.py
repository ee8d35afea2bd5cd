"""The command: run many histories and sum up, or print one of them."""

from __future__ import annotations

import argparse
import os
import sys
import time

from syncstore.testing.simulation.campaign import Summary, campaign, quiet
from syncstore.testing.simulation.configurations import CONFIGURATIONS
from syncstore.testing.simulation.plan import draw
from syncstore.testing.simulation.report import describe
from syncstore.testing.simulation.run import run
from syncstore.testing.simulation.shrink import shrunk

_PROGRESS_SECONDS = 10.0


def main() -> int:
    """Read the command line; 1 when a rule was broken."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of names depends on it, and a seed is to give the same history everywhere.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "syncstore.testing.simulation", *sys.argv[1:]])  # noqa: S606
    options = _options()
    quiet()
    if options.replay is not None:
        return _replay(options.config, options.replay, shrink=options.shrink)
    names = list(CONFIGURATIONS) if options.config == "all" else [options.config]
    failed = False
    for name in names:
        began = time.monotonic()
        total = campaign(
            name,
            options.seed,
            options.histories,
            seconds=options.seconds,
            jobs=options.jobs,
            progress=_Progress(name),
        )
        _print_summary(name, total, time.monotonic() - began)
        failed = failed or bool(total.found)
        if total.found:
            _replay(name, total.found[0].seed, shrink=True)
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m syncstore.testing.simulation", description=__doc__)
    parser.add_argument("--config", default="layered", choices=[*CONFIGURATIONS, "all"])
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--histories", type=int, default=10_000, help="how many, each with its own seed")
    parser.add_argument("--seconds", type=float, help="for so long at most, for each configuration")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print the history of this seed")
    parser.add_argument("--shrink", action="store_true", help="with --replay: make it small first")
    return parser.parse_args()


def _replay(name: str, seed: int, *, shrink: bool) -> int:
    configuration = CONFIGURATIONS["layered" if name == "all" else name]
    plan = draw(seed, configuration.mix)
    result = run(configuration, plan, trace=True)
    if shrink and result.violations:
        plan = shrunk(configuration, plan, result.violations[0].rule)
        result = run(configuration, plan, trace=True)
    for line in describe(configuration, result):
        _say(line)
    return int(bool(result.violations))


class _Progress:
    """A line now and then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = self._last = time.monotonic()

    def __call__(self, total: Summary) -> None:
        now = time.monotonic()
        if now - self._last >= _PROGRESS_SECONDS:
            self._last = now
            rate = total.histories / (now - self._began)
            _say(f"{self._name}: {total.histories} histories, {rate:.0f}/s, {len(total.found)} violations")


def _print_summary(name: str, total: Summary, seconds: float) -> None:
    _say(
        f"{name}: {total.histories} histories of {total.steps / max(1, total.histories):.0f} steps "
        f"in {seconds:.0f} s, {sum(total.faults.values())} faults, {len(total.found)} violations"
    )
    _say("  faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(total.faults.items())))
    _say("  requests: " + ", ".join(f"{kind} {count}" for kind, count in sorted(total.outcomes.items())))
    for found in total.found:
        _say(f"  seed {found.seed}: {found.rule}: {found.text[:300]}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
