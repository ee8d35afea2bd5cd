"""What the application does before any routing."""

from __future__ import annotations

import os
from pathlib import Path

from syncstore.app import make_app
from syncstore.testing.client import InProcess, SyncClient

SECRET = "a-secret-of-the-tests-of-the-service"


def test_a_process_that_was_forked_from_the_one_that_made_the_app_serves_nothing(tmp_path: Path) -> None:
    """It would share the other one's connections to the database, and read its answers."""
    app = make_app({"auth.secrets": SECRET}, tmp_path)
    try:
        user = SyncClient(7, SECRET, InProcess(app))
        assert user.get("/info/collections").status == 200
        child = os.fork()
        if not child:
            status = 0
            try:
                reply = user.get("/info/collections")
                status = reply.status == 503 and "retry-after" in reply.headers
            finally:
                os._exit(status)  # whatever happened: a second pytest must not go on
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 1
        assert user.get("/info/collections").status == 200
    finally:
        app.close()
