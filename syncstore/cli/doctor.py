"""`syncstore doctor`: look at everything a server needs, and at the server itself through its public address."""

from __future__ import annotations

import argparse
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncstore.cli import loading
from syncstore.doctor.findings import Finding
from syncstore.errors import ConfigError, SyncError

if TYPE_CHECKING:
    from syncstore.auth.secrets import Secrets
    from syncstore.databases import Family
    from syncstore.doctor.client import Client
    from syncstore.settings import Settings
    from syncstore.settings.cache_servers import CacheServer


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor", help="say what is wrong with a server, its database or its proxy"
    )
    loading.add_config(parser)
    parser.add_argument("--url", metavar="URL", help="the address that clients use, instead of public_url")
    parser.add_argument(
        "--ca", metavar="FILE", help="certificates (PEM) to trust beside those that this machine trusts"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one line for each check; 0 when all is well."""
    trust = _trust(options.ca)
    well = True
    for finding in _examine(options, trust):
        print(finding, flush=True)
        well = well and finding.ok
    return 0 if well else 1


def _trust(file: str | None) -> ssl.SSLContext:
    trust = ssl.create_default_context()
    if file is not None:
        try:
            trust.load_verify_locations(file)
        except OSError as error:  # which SSLError is, too
            raise ConfigError(f"--ca {file} cannot be read as certificates: {error.strerror}") from error
    return trust


def _examine(options: argparse.Namespace, trust: ssl.SSLContext) -> Iterator[Finding]:
    from syncstore.app import check

    name = options.config or "found here"
    try:
        path = loading.find(options.config)
        name = str(path or "of the environment")
        settings = loading.load(path)
        check(settings)
    except ConfigError as error:
        yield Finding(f"settings {name}", str(error))
        return
    yield Finding(f"settings {name}")
    secrets, finding = _secrets(settings)
    yield finding
    yield from _servers(settings)
    if secrets is not None:
        yield from _address(options.url, path, settings, secrets, trust)


def _secrets(settings: Settings) -> tuple[Secrets | None, Finding]:
    from syncstore.app import open_secrets, secret_path

    given = settings.secrets or settings.master_secrets or settings.node_secrets
    path = secret_path(settings)
    subject = "secret in the settings" if given else f"secret {path}"
    if not given and not path.exists():
        # To look is not to make one, which might belong to the wrong user.
        return None, Finding(subject, "there is none yet: start the server once, or set auth.secrets")
    try:
        return open_secrets(settings), Finding(subject)
    except ConfigError as error:
        return None, Finding(subject, str(error))


# -- what the server stands on


def _servers(settings: Settings) -> Iterator[Finding]:
    from syncstore import databases

    storage = _database(settings, databases.storage_tables(settings), "database")
    yield storage
    if storage.ok or settings.lock_backend != "sql":
        yield _locks(settings)
    else:
        yield Finding("locks", "they are in the database: mend that first")
    if settings.tokenserver:
        yield _database(settings, databases.token_tables(settings), "database of the token server")
    yield from _caches(settings, database_is_well=storage.ok)


def _database(settings: Settings, family: Family, kind: str) -> Finding:
    from syncstore import databases
    from syncstore.doctor import database
    from syncstore.storage.sql import migrate

    subject, url, branch = f"{kind} {family.shown}", family.url, family.branch
    if url.get_backend_name() == "sqlite" and url.database:
        advice = database.explain_file(Path(url.database), os.geteuid())
        if advice:
            return Finding(subject, advice)
    text = databases.with_password(url)
    try:
        _reach(settings, text)
        found, needed = migrate.version(text, branch), migrate.newest(branch)
    except SyncError as error:
        return Finding(subject, f"{error}: start the database, or correct {family.key}")
    known = {revision.revision for revision in migrate.scripts(branch).walk_revisions()}
    return Finding(f"{subject}, schema {found}", database.explain_schema(found, needed, known))


def _reach(settings: Settings, url: str) -> None:
    """Run the cheapest statement there, in the time that the settings give it. Raises Unavailable."""
    from dataclasses import replace

    from syncstore.app import open_database

    database, statements = open_database(replace(settings, sqlalchemy_url=url))
    try:
        database.query(statements.ping, {})
    finally:
        database.close()


def _locks(settings: Settings) -> Finding:
    from syncstore.app import open_database, open_locks
    from syncstore.clock import SystemClock
    from syncstore.doctor import locks

    database, _ = open_database(settings)
    examined = open_locks(settings, database, SystemClock())
    try:
        return locks.examine(examined)
    finally:
        examined.close()
        database.close()


def _caches(settings: Settings, *, database_is_well: bool) -> Iterator[Finding]:
    """A line for each memcached, or one for another cache."""
    if settings.cache_provider != "memcached":
        yield Finding(f"cache {settings.cache_provider}")
        return
    for server in settings.memcached_servers:
        found = _cache(settings, server)
        # The states are in the database, or need it, of which there is a line already.
        yield _state(settings, server, found) if found.ok and database_is_well else found


def _cache(settings: Settings, server: CacheServer) -> Finding:
    from syncstore.app_memcached import open_memcached
    from syncstore.clock import SystemClock
    from syncstore.doctor import cache

    clock = SystemClock()
    provider = open_memcached(settings, clock, server)
    limits = settings.limits
    needed = {name: limits.of(name).max_record_payload_bytes for name in settings.cached_only}
    try:
        return cache.examine(provider, clock, server.name, needed)
    finally:
        provider.close()


def _state(settings: Settings, server: CacheServer, found: Finding) -> Finding:
    from syncstore.app import open_database, open_locks, open_storage
    from syncstore.app_memcached import open_group
    from syncstore.clock import SystemClock
    from syncstore.doctor import cache

    clock = SystemClock()
    database, statements = open_database(settings)
    locks = open_locks(settings, database, clock)
    try:
        below = open_storage(settings, database, statements, locks, clock)
        group = open_group(settings, below.records, clock)
        try:
            epoch = group.members[server.name].state.current()
        finally:
            group.close()
    except SyncError as error:
        return Finding(
            found.subject, f"whether it is in use cannot be found out ({error}): look at the database"
        )
    finally:
        locks.close()
        database.close()
    return Finding(found.subject, cache.state(server.name, epoch, settings.memcached_retry_interval))


# -- what clients see of it


def _address(
    url: str | None, path: Path | None, settings: Settings, secrets: Secrets, trust: ssl.SSLContext
) -> Iterator[Finding]:
    from syncstore.clock import SystemClock
    from syncstore.doctor import proxy, tokens
    from syncstore.doctor.client import Client
    from syncstore.doctor.signing import Signer
    from syncstore.doctor.views import origin_of

    here = loading.served_at(path, settings.bind)
    public = (url or settings.public_url or here).rstrip("/")
    try:
        origin = origin_of(public)
    except ConfigError:
        raise ConfigError(f"--url {public} is not scheme://host[:port][/prefix]") from None
    client = Client(origin, trust)
    direct: Client | None = None
    if public != here:
        direct = Client(origin_of(here), trust)
    node = settings.nodes[0] if settings.nodes and not settings.public_url else ""
    in_settings = bool(settings.public_url) and origin_of(settings.public_url).node == origin.node
    place = proxy.Place(client, direct, Signer(secrets, SystemClock(), node), in_settings)
    reached = False
    for finding in proxy.examine(place, time.time(), settings.max_request_bytes):
        yield finding
        reached = finding.ok or reached
    if not settings.tokenserver:
        yield Finding("token server off")
    elif reached:
        yield tokens.examine(client)
