"""`python -m syncstore.testing.history FOLDER` judges once more what a load with a cache left in a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from syncstore.testing.history.cache import read_conditions
from syncstore.testing.history.problems import problems
from syncstore.testing.history.records import read_history


def main(folder: Path) -> int:
    """Print the problems; 1 when there are any."""
    given = read_conditions(folder)
    history = read_history(sorted(folder.glob("*.history")))
    found = problems(history, refused_may_count=given.refused_may_count, cache=given.cache, late=given.late)
    sys.stdout.write("\n".join([*found, f"{len(history)} requests, {len(found)} problems", ""]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
