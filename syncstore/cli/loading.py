"""Where commands get their settings: an ini file, the environment, or both."""

from __future__ import annotations

import argparse
import logging
import logging.config
import os
import warnings
from pathlib import Path

from syncstore.errors import ConfigError
from syncstore.settings import Settings, read_settings

DEFAULT_FILES = ("production.ini", "development.ini")
ENVIRONMENT_KEY = "SYNCSTORE_CONFIG"


def add_config(parser: argparse.ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=os.environ.get(ENVIRONMENT_KEY),
        help=f"the ini file; without it {ENVIRONMENT_KEY}, then {' or '.join(DEFAULT_FILES)} in this folder, "
        "then the environment alone",
    )


def find(config: str | None) -> Path | None:
    """The ini file to read, None for none. Raises ConfigError for one that was named and is not there."""
    if config:
        path = Path(config)
        if not path.is_file():
            raise ConfigError(f"there is no file {path}")
        return path
    return next((Path(name) for name in DEFAULT_FILES if Path(name).is_file()), None)


def load(path: Path | None) -> Settings:
    """The settings of an ini file's [app:main] and the environment. Raises ConfigError."""
    return read_settings({} if path is None else _section(path), os.environ, _here(path))


def _here(path: Path | None) -> Path:
    return Path.cwd() if path is None else path.resolve().parent


def _section(path: Path) -> dict[str, str]:
    with warnings.catch_warnings():
        # plaster looks for its loaders through pkg_resources where importlib would do
        warnings.simplefilter("ignore")
        import plaster

        try:
            loader = plaster.get_loader(str(path.resolve()), protocols=["wsgi"])
            found: dict[str, str] = loader.get_wsgi_app_settings("main", {})
        except (LookupError, ValueError, plaster.PlasterError) as error:
            raise ConfigError(f"{path} has no readable section [app:main]: {error}") from error
    return dict(found)


def set_up_logging(path: Path | None) -> None:
    """The ini file's logging sections, or warnings and above to standard error."""
    if path is not None and "[loggers]" in path.read_text(encoding="utf-8"):
        logging.config.fileConfig(
            path, {"here": str(_here(path)), "__file__": str(path)}, disable_existing_loggers=False
        )
    else:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
        logging.getLogger("syncstore").setLevel(logging.INFO)
