"""`syncstore token`, and the line that it prints."""

from __future__ import annotations

import http.client
import shlex
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest

from syncstore.testing.command import Folder
from syncstore.testing.processes import free_port


def ask(line: str) -> str:
    """What the printed line brings, through curl itself where there is one."""
    command, *words = shlex.split(line)
    assert command == "curl"
    if shutil.which(command) is not None:
        run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
        return run.stdout
    assert words[:2] == ["-i", "-H"]
    name, _, value = words[2].partition(": ")
    url = urlsplit(words[3])
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    connection.request("GET", url.path, headers={name: value})
    answer = connection.getresponse()
    text = f"HTTP/1.1 {answer.status} \n\n{answer.read().decode()}"
    connection.close()
    return text


def test_the_curl_line_works(folder: Folder) -> None:
    with folder.serve() as server:
        printed = folder.run("token", "--uid", "7", "--url", server.url)
        assert (printed.returncode, printed.stderr) == (0, "")
        token, key, line = printed.stdout.splitlines()
        assert token.startswith("token: ")
        assert key.startswith("key: ")
        answer = ask(line)
    assert answer.startswith("HTTP/1.1 200 ")
    assert answer.endswith("\n\n{}")


def test_a_token_may_be_made_before_the_first_start(folder: Folder) -> None:
    port = free_port()
    line = folder.run(
        "token", "--uid", "9999999999", "--url", f"http://127.0.0.1:{port}/"
    ).stdout.splitlines()[-1]
    with folder.serve(port=port):
        assert ask(line).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("ini", "url"),
    [
        (None, "http://127.0.0.1:8000"),
        ("serve.bind = 0.0.0.0:8123", "http://127.0.0.1:8123"),
        ("public_url = https://sync.example.com/ff", "https://sync.example.com/ff"),
        ("[server:main]\nlisten = 127.0.0.1:5000 [::1]:5000", "http://127.0.0.1:5000"),
        ("[server:main]\nlisten = *:5000", "http://127.0.0.1:5000"),
    ],
)
def test_the_address_comes_from_the_settings(folder: Folder, ini: str | None, url: str) -> None:
    if ini is not None:
        (folder.path / "production.ini").write_text(f"[app:main]\nuse = egg:syncstore\n{ini}\n")
    assert folder.run("token", "--uid", "1").stdout.rstrip().endswith(f" {url}/1.5/1/info/collections")


def test_the_token_is_signed_with_the_newest_secret(folder: Folder) -> None:
    first = folder.run("token", "--uid", "1", SYNCSTORE_AUTH__SECRETS="old new").stdout
    assert first.startswith("token: ")
    assert "old" not in first.split("curl")[1]


@pytest.mark.parametrize(
    "words",
    [
        ("--uid", "-1"),
        ("--uid", "10000000000"),
        ("--uid", "me"),
        ("--uid", "1", "--duration", "0"),
        ("--uid", "1", "--url", "sync.example.com"),
        (),
    ],
)
def test_it_refuses_what_no_server_would_take(folder: Folder, words: tuple[str, ...]) -> None:
    result = folder.run("token", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_a_node_without_a_secret_is_said(folder: Folder) -> None:
    (folder.path / "nodes").write_text("https://a,1:secret\n")
    result = folder.run(
        "token", "--uid", "1", SYNCSTORE_AUTH__NODE_SECRETS="nodes", SYNCSTORE_PUBLIC_URL="https://b"
    )
    assert result.returncode == 2
    assert result.stderr == "syncstore: there is no secret for the node https://b\n"
