"""Questions to the account server: each wait ends, each answer is bounded, and nobody else is asked."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from syncstore.clock import SystemClock
from syncstore.testing.accounts import Fault, MockAccountServer, SigningKey
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.processes import HOST, free_port
from syncstore.tokenserver.account_server import MAX_ANSWER_BYTES, PAUSE_SECONDS, AccountServer
from syncstore.tokenserver.errors import AccountServerAway

TIMEOUT = 5.0
SHORT = 0.3


@pytest.fixture
def mock() -> Iterator[MockAccountServer]:
    with MockAccountServer() as server:
        yield server


@pytest.fixture
def server(mock: MockAccountServer) -> AccountServer:
    return AccountServer(mock.url, TIMEOUT, SystemClock())


def test_it_fetches_the_keys(mock: MockAccountServer, server: AccountServer) -> None:
    mock.keys_document = b'{"keys": []}'
    assert server.fetch_keys() == b'{"keys": []}'
    assert mock.requests == {"/v1/jwks": 1}


def test_it_posts_a_token_as_json(mock: MockAccountServer, server: AccountServer) -> None:
    status, body = server.verify(mock.opaque_token(status=418, user='a "quoted" \u00fcser'))
    assert (status, b"quoted" in body) == (418, True)
    assert mock.requests == {"/v1/verify": 1}
    assert mock.last_headers["Content-Type"] == "application/json"
    assert mock.last_headers["Host"] == f"{HOST}:{mock.port}"


@pytest.mark.parametrize("tail", ["/", "/v1", "/v1/"])
def test_the_url_may_end_in_a_slash_or_in_the_version(mock: MockAccountServer, tail: str) -> None:
    AccountServer(mock.url + tail, TIMEOUT, SystemClock()).fetch_keys()
    assert mock.requests == {"/v1/jwks": 1}


def test_the_url_may_have_a_prefix(mock: MockAccountServer) -> None:
    with pytest.raises(AccountServerAway, match="404"):
        AccountServer(mock.url + "/accounts", TIMEOUT, SystemClock()).fetch_keys()
    assert mock.requests == {"/accounts/v1/jwks": 1}


@pytest.mark.parametrize(
    "url",
    ["", "accounts.example.com", "ftp://accounts.example.com", "https://", "http://h:port", "http://a..b"],
)
def test_it_refuses_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AccountServer(url, TIMEOUT, SystemClock())


# -- faults


def test_a_refused_connection_is_the_account_server_away(
    mock: MockAccountServer, server: AccountServer
) -> None:
    mock.stop()
    with pytest.raises(AccountServerAway, match="refused"):
        server.verify("token")
    mock.start()
    server.fetch_keys()


def test_a_host_without_an_address_is_the_account_server_away() -> None:
    with pytest.raises(AccountServerAway, match=r"accounts\.invalid"):
        AccountServer("https://accounts.invalid", TIMEOUT, SystemClock()).fetch_keys()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.HANGING_UP, "RemoteDisconnected"),
        (Fault.NOT_HTTP, "BadStatusLine"),
        (Fault.OVERSIZE, f"more than {MAX_ANSWER_BYTES} bytes"),
        (Fault.TRUNCATED, "IncompleteRead"),
    ],
)
def test_an_answer_that_is_none_is_the_account_server_away(
    mock: MockAccountServer, server: AccountServer, fault: Fault, words: str
) -> None:
    mock.fault = fault
    for ask in (server.fetch_keys, lambda: server.verify("token")):
        with pytest.raises(AccountServerAway, match=words):
            ask()


def test_an_answer_of_just_the_permitted_size_is_taken(
    mock: MockAccountServer, server: AccountServer
) -> None:
    mock.keys_document = b" " * MAX_ANSWER_BYTES
    assert len(server.fetch_keys()) == MAX_ANSWER_BYTES


def test_it_follows_no_redirect(mock: MockAccountServer, server: AccountServer) -> None:
    with MockAccountServer() as other:
        mock.fault, mock.redirect_to = Fault.REDIRECTING, other.url + "/v1/jwks"
        with pytest.raises(AccountServerAway, match="302"):
            server.fetch_keys()
        assert server.verify("token").status == 302
        assert not other.requests


def test_keys_with_another_status_are_none(mock: MockAccountServer, server: AccountServer) -> None:
    mock.fault = Fault.BROKEN
    with pytest.raises(AccountServerAway, match="answers 500"):
        server.fetch_keys()


# -- deadlines


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.DRIPPING])
def test_the_deadline_holds_however_slowly_the_answer_comes(mock: MockAccountServer, fault: Fault) -> None:
    mock.fault = fault
    server = AccountServer(mock.url, SHORT, SystemClock())
    began = time.monotonic()
    with pytest.raises(AccountServerAway, match=r"does not answer within 0\.3 s"):
        server.fetch_keys()
    assert SHORT <= time.monotonic() - began < 20  # far below the time for which the mock drips


def test_the_deadline_holds_for_a_server_that_does_not_even_shake_hands() -> None:
    with socket.create_server((HOST, 0)) as silent:
        url = f"https://{HOST}:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(AccountServerAway, match="does not answer"):
            AccountServer(url, SHORT, SystemClock()).fetch_keys()
        assert SHORT <= time.monotonic() - began < 20


def test_an_address_that_leads_nowhere_leaves_time_for_the_next(
    mock: MockAccountServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where IPv6 is announced and does not work: its packets vanish."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server((HOST, 0), backlog=0))
        nowhere = silent.getsockname()
        for _ in range(3):  # with its queue full, it answers no more connection
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(nowhere)
        tcp = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        addresses = [(*tcp, nowhere), (*tcp, (HOST, mock.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        AccountServer(mock.url, 1.0, SystemClock()).fetch_keys()
        assert mock.requests == {"/v1/jwks": 1}


def test_after_a_wait_in_vain_nobody_asks_for_a_while(mock: MockAccountServer) -> None:
    clock = SteppableClock()
    server = AccountServer(mock.url, SHORT, clock)
    mock.fault = Fault.SILENT
    with pytest.raises(AccountServerAway, match="does not answer"):
        server.verify("token")
    mock.fault = None
    with pytest.raises(AccountServerAway, match="silent a moment ago"):
        server.verify("token")
    assert mock.requests == {"/v1/verify": 1}
    clock.step(PAUSE_SECONDS)
    server.verify("token")
    assert mock.requests == {"/v1/verify": 2}


def test_a_slow_server_is_waited_for(mock: MockAccountServer, server: AccountServer) -> None:
    mock.delay = 0.2
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(server.fetch_keys())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 5


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for 127.0.0.1 that signs itself, and its key."""
    key = SigningKey("tls").private
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "accounts of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return path


@pytest.fixture
def secure_mock(certificate: Path) -> Iterator[MockAccountServer]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with MockAccountServer(tls) as server:
        yield server


def test_it_speaks_tls_with_a_server_whose_certificate_it_trusts(
    secure_mock: MockAccountServer, certificate: Path
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    server = AccountServer(secure_mock.url, TIMEOUT, SystemClock(), trusting)
    assert b'"kid": "key-1"' in server.fetch_keys()


def test_it_tells_nothing_to_a_server_whose_certificate_it_does_not_trust(
    secure_mock: MockAccountServer,
) -> None:
    with pytest.raises(AccountServerAway, match="CERTIFICATE_VERIFY_FAILED"):
        AccountServer(secure_mock.url, TIMEOUT, SystemClock()).verify("secret token")
    assert not secure_mock.requests


def test_it_tells_nothing_to_a_server_of_another_name(
    secure_mock: MockAccountServer, certificate: Path
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    url = secure_mock.url.replace(HOST, "localhost")
    with pytest.raises(AccountServerAway, match="CERTIFICATE_VERIFY_FAILED"):
        AccountServer(url, TIMEOUT, SystemClock(), trusting).verify("secret token")
    assert not secure_mock.requests


def test_it_speaks_no_tls_to_a_plain_port() -> None:
    with MockAccountServer() as plain, pytest.raises(AccountServerAway, match="SSL"):
        AccountServer(plain.url.replace("http:", "https:"), TIMEOUT, SystemClock()).fetch_keys()


def test_nobody_listening_is_told_with_the_address() -> None:
    url = f"http://{HOST}:{free_port()}"
    with pytest.raises(AccountServerAway, match=url):
        AccountServer(url, TIMEOUT, SystemClock()).fetch_keys()
