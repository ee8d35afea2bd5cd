"""The database: whether it answers, and whether its tables are those of this version."""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection
from pathlib import Path


def explain_schema(found: str | None, needed: str, known: Collection[str]) -> str:
    """What to do about a schema version; empty for the `needed` one. `known` are all that this code knows of."""
    if found == needed:
        return ""
    if found is None:
        return "it has no tables yet: run `syncstore migrate`, or start the server once"
    if found in known:
        return f"it has schema {found} and {needed} is needed: stop the server and run `syncstore migrate`"
    return f"it has schema {found}, which is newer than this syncstore: upgrade syncstore"


def explain_file(path: Path, me: int) -> str:
    """What to do about the file of an SQLite database before it is opened by the user with the number `me`.

    To open a missing one would create it, and to open that of another user leaves journals that its owner
    cannot write: the doctor would make the server ill.
    """
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return "there is no such file yet: run `syncstore migrate`, or start the server once"
    except OSError as error:
        return f"it cannot be looked at ({error.strerror}): run the doctor as the user who runs the server"
    if owner != me:
        return f"it belongs to {_name(owner)}: run the doctor as that user"
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
        return f"it cannot be written: let its owner write {path} and {path.parent}"
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"
