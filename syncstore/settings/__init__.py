"""The one schema of settings: every key with its type, default and meaning.

Three sources feed it, the later ones winning: the defaults here, the section `[app:main]` of the ini file, and
the environment (`SYNCSTORE_` and the key in capitals, each dot as two underscores: `SYNCSTORE_LOCK__TIMEOUT`).
A secret can stand in a file of its own instead: `auth.secrets_file` in the ini, `SYNCSTORE_AUTH__SECRETS_FILE` in
the environment. An unknown key, a value out of range or a combination that cannot be right stops the start with
one sentence that names the key. `syncstore config check` and the table in docs/settings.md come out of `keys`.
"""

from __future__ import annotations

from syncstore.settings.keys import Settings, schema
from syncstore.settings.sources import read_settings
from syncstore.settings.values import Address, parse_address

__all__ = ["Address", "Settings", "parse_address", "read_settings", "schema"]
