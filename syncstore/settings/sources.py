"""Where settings come from: the ini section, the environment over it, and files that hold a secret each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from syncstore.errors import ConfigError
from syncstore.settings.keys import Settings, schema

_ENVIRONMENT_PREFIX = "SYNCSTORE_"
# Not settings of the app: one is for the commands, which read it themselves; the others are what Kubernetes
# puts into every container for a Service of the name syncstore.
_NOT_SETTINGS = re.compile(r"SYNCSTORE_(CONFIG|SERVICE_HOST|(SERVICE_)?PORT(_.*)?)")


_NAMED = "<name>"


def read_settings(ini: Mapping[str, str], environment: Mapping[str, str], here: Path) -> Settings:
    """The settings of an ini section and an environment. Raises ConfigError naming the first wrong key."""
    known = _Known()
    from_environment = _from_environment(environment, known)
    # A secret from the environment replaces one from the ini, in whichever form either is given.
    replaced = {known.secret_of(key) or f"{key}_file" for key in from_environment}
    texts = {key: text for key, text in ini.items() if key not in replaced} | from_environment
    values: dict[str, Any] = {"here": here}
    for key, text in texts.items():
        secret = known.secret_of(key)
        found = known.find(secret or key)
        if found is None:
            raise ConfigError(f"unknown setting {key!r}{known.suggestion(key)}")
        one, name = found
        if secret:
            if secret in texts:
                raise ConfigError(f"{secret} and {key} are both set: keep one")
            text = _read_secret_file(key, here / text.strip())
        try:
            value = one.metadata["parse"](text)
        except ValueError as error:
            shown = "" if one.metadata["secret"] else f" = {' '.join(text.split())[:80]}"
            raise ConfigError(f"{key}{shown}: {error}") from error
        if name is None:
            values[one.name] = value
        else:
            values.setdefault(one.name, {})[name] = value
    return Settings(**values)


class _Known:
    """The keys that there are. Some are there for any name: `zk.<name>.hosts` stands for `zk.main.hosts`, and
    `socache.<name>` for `socache.objects`."""

    def __init__(self) -> None:
        self._keys = {one.metadata["key"]: one for one in schema()}

    def find(self, key: str) -> tuple[Field[Any], str | None] | None:
        """The setting that a key is, and the name in it if it has one; None when there is no such setting."""
        if key in self._keys and _NAMED not in key:
            return self._keys[key], None
        first, dot, rest = key.partition(".")
        name, inner, last = rest.partition(".")
        pattern = f"{first}{dot}{_NAMED}{inner}{last}"
        return (self._keys[pattern], name) if name and pattern in self._keys else None

    def secret_of(self, key: str) -> str | None:
        """The key whose secret is in the file that this key names; None when it names no such file."""
        secret = key.removesuffix("_file")
        found = self.find(secret) if secret != key else None
        return secret if found is not None and found[0].metadata["secret"] else None

    def suggestion(self, key: str) -> str:
        """Words that end a complaint about an unknown key."""
        name = f"{key}..".split(".")[1]
        files = [f"{known}_file" for known, one in self._keys.items() if one.metadata["secret"]]
        possible = [known.replace(_NAMED, name) for known in (*self._keys, *files)]
        near = get_close_matches(key, possible, n=1, cutoff=0.7)
        return f": is {near[0]} meant?" if near else ""


def _from_environment(environment: Mapping[str, str], known: _Known) -> dict[str, str]:
    texts = {}
    for name, value in environment.items():
        if name.startswith(_ENVIRONMENT_PREFIX) and not _NOT_SETTINGS.fullmatch(name):
            key = name[len(_ENVIRONMENT_PREFIX) :].lower().replace("__", ".")
            if known.find(known.secret_of(key) or key) is None:
                raise ConfigError(
                    f"the environment variable {name} stands for the unknown setting {key!r}"
                    f"{known.suggestion(key)}"
                )
            texts[key] = value
    return texts


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
