"""All pieces by name, and the seeds that show them, which are kept in a file beside this one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from tests.museum import (
    batch_pieces,
    cached_only_pieces,
    copy_pieces,
    fill_pieces,
    lock_pieces,
    record_pieces,
    server_pieces,
    state_pieces,
    write_pieces,
)
from tests.museum.piece import Piece

ROOMS: Final = {
    "Fills of the record": fill_pieces.PIECES,
    "Writers and their marks": write_pieces.PIECES,
    "What the record says": record_pieces.PIECES,
    "Copies of what SQL has": copy_pieces.PIECES,
    "Collections in the cache alone": cached_only_pieces.PIECES,
    "Batches in the cache": batch_pieces.PIECES,
    "The state of the cache server": state_pieces.PIECES,
    "Several cache servers": server_pieces.PIECES,
    "Locks in the cache and in ZooKeeper": lock_pieces.PIECES,
}
PIECES: Final = {piece.name: piece for pieces in ROOMS.values() for piece in pieces}

_SEEDS: Final = Path(__file__).with_name("seeds.txt")


def seeds() -> dict[str, int]:
    """The recorded seed of every piece that is caught."""
    lines = _SEEDS.read_text(encoding="utf-8").split("\n") if _SEEDS.exists() else []
    return {name: int(seed) for name, _, seed in (line.partition(" ") for line in lines if line)}


def record(found: dict[str, int]) -> None:
    """Keep these seeds, in the order of the pieces."""
    text = "".join(f"{name} {found[name]}\n" for name in PIECES if name in found)
    _SEEDS.write_text(text, encoding="utf-8")


def find(piece: Piece, *, first: int = 0, most: int = 3000, seconds: float = 20.0) -> int | None:
    """The first seed that shows a piece, and with which nothing is wrong without it."""
    deadline = time.monotonic() + seconds
    for seed in range(first, first + most):
        if piece.shows(seed) and piece.clean(seed):
            return seed
        if time.monotonic() > deadline:
            break
    return None
