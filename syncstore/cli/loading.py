"""Where commands get their settings: an ini file, the environment, or both."""

from __future__ import annotations

import argparse
import configparser
import logging
import logging.config
import os
import warnings
from pathlib import Path

from syncstore.errors import ConfigError
from syncstore.settings import Address, Settings, parse_address, read_settings

# A checkout has both, and `make serve` there takes the first one; elsewhere there is one, or --config.
DEFAULT_FILES = ("development.ini", "production.ini")
ENVIRONMENT_KEY = "SYNCSTORE_CONFIG"


def ignore_known_warnings() -> None:
    """Keep a warning to ourselves that users can do nothing about: Pyramid 2.1 imports pkg_resources."""
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")


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
        except configparser.Error as error:
            raise ConfigError(f"{path}: {_what_is_wrong(error)}") from error
        except (LookupError, ValueError, OSError, plaster.PlasterError) as error:
            raise ConfigError(f"{path} has no readable section [app:main]: {error}") from error
    return dict(found)


def _what_is_wrong(error: configparser.Error) -> str:
    """In words of our own: configparser quotes values, and one may be a password with a percent sign."""
    if isinstance(error, configparser.InterpolationError):
        return f"the value of {error.option} in [{error.section}] has a % that is not written %%"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} comes before any [section]"
    if isinstance(error, configparser.ParsingError):
        return f"line {', '.join(str(number) for number, _ in error.errors)} is not of the form key = value"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"{error.option} is in [{error.section}] twice"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"the section [{error.section}] is there twice"
    return type(error).__name__


def set_up_logging(path: Path | None) -> None:
    """The ini file's logging sections, or warnings and above to standard error. Raises ConfigError."""
    if path is not None and "[loggers]" in path.read_text(encoding="utf-8"):
        try:
            logging.config.fileConfig(
                path, {"here": str(_here(path)), "__file__": str(path)}, disable_existing_loggers=False
            )
        except (configparser.Error, LookupError, ValueError, TypeError, OSError, RuntimeError) as error:
            # what fileConfig lets through depends on which section is wrong
            raise ConfigError(
                f"the logging sections of {path} are wrong: {type(error).__name__}: {error}"
            ) from error
    else:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
        logging.getLogger("syncstore").setLevel(logging.INFO)


def _server_section(path: Path | None) -> str:
    """What the ini file's own [server:main] listens on, for pserve; empty without one."""
    if path is None:
        return ""
    ini = configparser.ConfigParser(interpolation=None)
    try:
        ini.read(path, encoding="utf-8")
    except configparser.Error as error:
        raise ConfigError(f"{path}: {_what_is_wrong(error)}") from error
    return ini.get("server:main", "listen", fallback="")


def served_at(path: Path | None, bind: Address) -> str:
    """The address that the ini file's own [server:main] listens on, for pserve, else that of `syncstore serve`."""
    words = _server_section(path).split()
    try:
        return (parse_address(words[0]) if words else bind).url
    except ValueError:
        return bind.url
