"""The locks: takes one as a writer does, and gives it back."""

from __future__ import annotations

from syncstore.doctor.findings import Finding
from syncstore.doctor.signing import UID
from syncstore.errors import Conflict, SyncError
from syncstore.locks.api import Locks


def examine(locks: Locks) -> Finding:
    """Take and release the lock of the doctor's own user."""
    subject = f"locks in {locks.backend.name}"
    try:
        with locks.write(UID, "doctor") as held:
            held.check()
    except Conflict:
        return Finding(subject, "somebody holds the database for long: look for a writer that hangs")
    except SyncError as error:
        return Finding(subject, f"none can be taken ({error}): look at the database")
    return Finding(subject)
