"""The table of docs/museum.md, made from the pieces and their seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.museum.catalogue import ROOMS, seeds
from tests.museum.piece import Piece

PAGE: Final = Path(__file__).parents[2] / "docs" / "museum.md"
_BEGIN: Final = "<!-- the pieces: python -m tests.museum --record -->\n"
_END: Final = "<!-- end of the pieces -->\n"


def tables() -> str:
    """The tables of all rooms."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    known = seeds()
    for room, pieces in ROOMS.items():
        yield f"\n### {room}\n"
        yield "| Piece | What is wrong | Where it went wrong first | What a user has of it | Caught by | Seed |"
        yield "|---|---|---|---|---|---|"
        for piece in pieces:
            yield _row(piece, known.get(piece.name))


def _row(piece: Piece, seed: int | None) -> str:
    caught = "nothing is broken" if piece.harmless else piece.rule
    seen = f"Nothing here. {piece.harmless}" if piece.harmless else piece.seen
    shown = "" if seed is None else str(seed)
    return f"| `{piece.name}` | {piece.wrong} | {piece.source} | {seen} | {caught} | {shown} |"


def printed() -> str:
    """The tables that the page has now."""
    return PAGE.read_text(encoding="utf-8").partition(_BEGIN)[2].partition(_END)[0]


def write_page() -> None:
    """Print the tables into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    PAGE.write_text(before + _BEGIN + tables() + _END + rest.partition(_END)[2], encoding="utf-8")
