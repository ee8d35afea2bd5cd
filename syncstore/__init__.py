"""syncstore: a storage server for sync clients. `main` is the PasteDeploy app factory, nothing else is here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main(global_config: Mapping[str, str], **settings: str) -> Any:
    """The WSGI application of an ini file's `[app:main]`. Raises ConfigError."""
    # Imported here: the package itself must stay cheap to import for its commands and tests.
    from syncstore.app import make_app

    return make_app(settings, Path(global_config.get("here", ".")))
