"""A place for a server, a proxy and the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncstore.testing.certificates import Certificate, make_certificate
from syncstore.testing.stand import Servers, Stand


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for localhost, that nobody trusts who is not told to."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that tests share."""
    with ExitStack() as stack:
        yield Servers(tmp_path_factory.mktemp("servers"), stack)


@pytest.fixture
def stand(tmp_path: Path, certificate: Certificate, servers: Servers) -> Iterator[Stand]:
    """A place with no proxy yet."""
    with ExitStack() as stack:
        yield Stand(tmp_path, certificate, servers, stack)
