"""The museum's command: print the history of a piece, find seeds anew, and bring the page of the documentation in line.

python -m tests.museum --show fill-by-plain-read
python -m tests.museum --find fill-by-plain-read
python -m tests.museum --record
python -m tests.museum --histories 100000 --clean
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from syncstore.testing.simulation.campaign import quiet
from syncstore.testing.simulation.report import describe
from syncstore.testing.simulation.run import run
from syncstore.testing.simulation.shrink import shrunk
from tests.museum.catalogue import PIECES, find, record, seeds
from tests.museum.page import write_page
from tests.museum.piece import Piece

_RANGES = (0, 1_000_000, 2_000_000, 3_000_000, 4_000_000)


def main() -> int:
    """Read the command line; 1 when a piece is not as it is recorded."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        # As in the simulator's command: the order of a set of names depends on it.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.museum", *sys.argv[1:]])  # noqa: S606
    options = _options()
    quiet()
    chosen = [PIECES[name] for name in options.piece or PIECES]
    if options.show:
        return _show(PIECES[options.show], shrink=options.shrink)
    if options.find:
        return _find(PIECES[options.find], options)
    if options.clean:
        return _clean([piece for piece in chosen if piece.harmless], options.histories)
    if options.survey:
        return _survey([piece for piece in chosen if not piece.harmless], options)
    return _record([piece for piece in chosen if not piece.harmless], options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.museum", description=__doc__)
    parser.add_argument("--show", choices=PIECES, metavar="PIECE", help="print the history of its seed")
    parser.add_argument("--shrink", action="store_true", help="with --show: make it small first")
    parser.add_argument("--find", choices=PIECES, metavar="PIECE", help="look for a seed that shows it")
    parser.add_argument(
        "--record", action="store_true", help="find seeds that do not show their pieces any more"
    )
    parser.add_argument("--survey", action="store_true", help="how many histories it takes to find each")
    parser.add_argument("--clean", action="store_true", help="run histories of the harmless pieces")
    parser.add_argument("--piece", action="append", choices=PIECES, metavar="PIECE", help="only this one")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--histories", type=int, default=20_000, help="at most so many for each piece")
    parser.add_argument("--seconds", type=float, default=120.0, help="at most so long for each piece")
    return parser.parse_args()


def _show(piece: Piece, *, shrink: bool) -> int:
    configuration, plan = piece.broken, piece.plan(seeds()[piece.name])
    if shrink:
        plan = shrunk(configuration, plan, run(configuration, plan).violations[0].rule)
    for line in describe(configuration, run(configuration, plan, trace=True)):
        _say(line)
    return 0


def _find(piece: Piece, options: argparse.Namespace) -> int:
    seed = find(piece, first=options.first, most=options.histories, seconds=options.seconds)
    _say(f"{piece.name}: {'not found' if seed is None else seed}")
    return int(seed is None)


def _record(pieces: list[Piece], options: argparse.Namespace) -> int:
    """Keep seeds that are still good, find others for the rest, and print the page."""
    known = {name: seed for name, seed in seeds().items() if name in PIECES}
    missing = 0
    for piece in pieces:
        seed = known.get(piece.name)
        if seed is not None and piece.shows(seed) and piece.clean(seed):
            continue
        found = find(piece, most=options.histories, seconds=options.seconds)
        _say(f"{piece.name}: {seed} -> {found}")
        if found is None:
            missing += 1
        else:
            known[piece.name] = found
            record(known)
    write_page()
    return int(missing > 0)


def _survey(pieces: list[Piece], options: argparse.Namespace) -> int:
    for piece in pieces:
        needed = []
        began = time.monotonic()
        for first in _RANGES:
            seed = find(piece, first=first, most=options.histories, seconds=options.seconds)
            needed.append("more" if seed is None else str(seed - first + 1))
        _say(f"{piece.name}: {' '.join(needed)} in {time.monotonic() - began:.0f} s")
    return 0


def _clean(pieces: list[Piece], histories: int) -> int:
    broken = 0
    for piece in pieces:
        found = [seed for seed in range(histories) if run(piece.broken, piece.plan(seed)).violations]
        _say(f"{piece.name}: {histories} histories, {len(found)} violations {found[:5]}")
        broken += len(found)
    return int(broken > 0)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
