"""Where settings come from: the ini section, the environment over it, and files that hold a secret each."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from syncstore.errors import ConfigError
from syncstore.settings.keys import Settings, schema

_ENVIRONMENT_PREFIX = "SYNCSTORE_"
# Not settings of the app: one is for the commands, which read it themselves; the others are what Kubernetes
# puts into every container for a Service of the name syncstore.
_NOT_SETTINGS = re.compile(r"SYNCSTORE_(CONFIG|SERVICE_HOST|(SERVICE_)?PORT(_.*)?)")


def read_settings(ini: Mapping[str, str], environment: Mapping[str, str], here: Path) -> Settings:
    """The settings of an ini section and an environment. Raises ConfigError naming the first wrong key."""
    known = {one.metadata["key"]: one for one in schema()}
    secret_files = {f"{key}_file": key for key, one in known.items() if one.metadata["secret"]}
    from_environment = _from_environment(environment, {*known, *secret_files})
    # A secret from the environment replaces one from the ini, in whichever form either is given.
    replaced = {secret_files.get(key, f"{key}_file") for key in from_environment}
    texts = {key: text for key, text in ini.items() if key not in replaced} | from_environment
    values: dict[str, Any] = {"here": here}
    for key, text in texts.items():
        one = known.get(secret_files.get(key, key))
        if one is None:
            raise ConfigError(f"unknown setting {key!r}{_suggestion(key, known)}")
        if key in secret_files:
            if one.metadata["key"] in texts:
                raise ConfigError(f"{one.metadata['key']} and {key} are both set: keep one")
            text = _read_secret_file(key, here / text.strip())
        try:
            values[one.name] = one.metadata["parse"](text)
        except ValueError as error:
            shown = "" if one.metadata["secret"] else f" = {' '.join(text.split())[:80]}"
            raise ConfigError(f"{key}{shown}: {error}") from error
    return Settings(**values)


def _from_environment(environment: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    texts = {}
    for name, value in environment.items():
        if name.startswith(_ENVIRONMENT_PREFIX) and not _NOT_SETTINGS.fullmatch(name):
            key = name[len(_ENVIRONMENT_PREFIX) :].lower().replace("__", ".")
            if key not in known:
                raise ConfigError(
                    f"the environment variable {name} stands for the unknown setting {key!r}"
                    f"{_suggestion(key, known)}"
                )
            texts[key] = value
    return texts


def _suggestion(key: str, known: Collection[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.7)
    return f": is {near[0]} meant?" if near else ""


def _read_secret_file(key: str, path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{key}: {path} is not UTF-8 text") from None  # the error would quote the secret
    if not secret:
        raise ConfigError(f"{key}: {path} is empty")
    return secret
