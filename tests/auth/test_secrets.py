"""Secrets: each source, and the file that eight processes create at once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from syncstore.auth import secrets
from syncstore.auth.secrets import (
    DerivedSecrets,
    FixedSecrets,
    NodeSecrets,
    Secrets,
    load_or_create,
    split_secrets,
)
from syncstore.errors import ConfigError

HEX_MASTER = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("TED KOPPEL IS A ROBOT", ("TED", "KOPPEL", "IS", "A", "ROBOT")),
        ("  one\ttwo\nthree ", ("one", "two", "three")),
        ("", ()),
    ],
)
def test_the_compatible_rule_splits_a_string_on_whitespace(text: str, secrets: tuple[str, ...]) -> None:
    assert split_secrets(text) == secrets


def test_fixed_secrets_are_used_whole_and_for_every_node() -> None:
    secrets: Secrets = FixedSecrets(["old", "Ted Koppel is a robot"])

    assert secrets.for_node("http://a") == secrets.for_node("") == ("old", "Ted Koppel is a robot")


@pytest.mark.parametrize("secrets", [[], [""], ["one", ""]])
def test_an_empty_secret_is_refused(secrets: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"auth\.secrets"):
        FixedSecrets(secrets)
    with pytest.raises(ConfigError, match=r"auth\.master_secrets"):
        DerivedSecrets(secrets)


def test_one_string_is_not_taken_for_many_secrets() -> None:
    with pytest.raises(TypeError, match="not one string"):
        FixedSecrets("secret")


@pytest.mark.parametrize(
    ("master", "node", "secret"),
    [
        (
            HEX_MASTER,
            "https://node1.example.com",
            "ea3b9d845329666ae2ae72d612bea237519a17274207dd175a0ae14feaf8d5ea",
        ),
        (
            HEX_MASTER,
            "https://node2.example.com",
            "c0c83869c3141f6860e773329ee5e88ad523e0c857d46058e658d1ed18b2f428",
        ),
        ("Ted Koppel is a robot", "http://localhost:5000", "1ab827db1891c0b32c36"),
    ],
)
def test_it_derives_the_known_node_secrets(master: str, node: str, secret: str) -> None:
    secrets = DerivedSecrets([master])

    assert secrets.for_node(node) == secrets.for_node(node) == (secret,)


def test_each_master_secret_yields_one_in_its_order() -> None:
    both = DerivedSecrets(["older master", "newer master"])
    newer = DerivedSecrets(["newer master"])

    assert both.for_node("http://a")[-1:] == newer.for_node("http://a")
    assert len(set(both.for_node("http://a"))) == 2


@pytest.mark.parametrize("master", ["x", "x" * 5000])
def test_a_master_secret_of_no_use_is_refused(master: str) -> None:
    with pytest.raises(ConfigError, match=r"auth\.master_secrets"):
        DerivedSecrets([master])


def test_names_of_strangers_do_not_fill_the_memory() -> None:
    secrets = DerivedSecrets(["a master secret"])
    for number in range(1000):
        secrets.for_node(f"http://host{number}")

    assert len(secrets._known) <= 256


def test_the_file_has_secrets_for_each_node_by_time(tmp_path: Path) -> None:
    path = tmp_path / "secrets.csv"
    path.write_text("https://a,200:new,100:old\n\nalone\nhttps://b, 100:b:with:colons\r\n")
    secrets: Secrets = NodeSecrets.load(path)

    assert secrets.for_node("https://a") == ("old", "new")
    assert secrets.for_node("https://b") == ("b:with:colons",)
    assert secrets.for_node("https://A") == secrets.for_node("https://c") == secrets.for_node("alone") == ()


@pytest.mark.parametrize("entry", ["secret-without-time", ":secret-without-time", "100:", ""])
def test_a_malformed_entry_of_the_file_is_refused_and_not_shown(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"row 2.*timestamp:secret") as caught:
        NodeSecrets(["https://a,1:x", f"https://b,1:y,{entry}"])
    assert "without-time" not in str(caught.value)


def test_a_node_that_comes_twice_in_the_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="https://a"):
        NodeSecrets(["https://a,1:x", "https://a,2:y"])


@pytest.mark.parametrize("content", [None, b"\xff\xfe,1:x\n"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secrets.csv"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match="cannot read"):
        NodeSecrets.load(path)


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    made = load_or_create(path)

    assert len(bytes.fromhex(made)) == 32
    assert load_or_create(path) == made
    assert load_or_create(tmp_path / "other") != made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["other", "secret"]


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_its_mode_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        load_or_create(tmp_path / "secret")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_secret_written_by_hand_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o400)
    path.chmod(0o600)
    path.write_text("  Ted Koppel is a robot\n")

    assert load_or_create(path) == "Ted Koppel is a robot"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o666])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    load_or_create(path)
    path.chmod(mode)

    with pytest.raises(ConfigError, match="0600") as caught:
        load_or_create(path)
    assert path.read_text().strip() not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_bytes(content)

    with pytest.raises(ConfigError, match="empty"):
        load_or_create(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"x" * 5000, b"\xff\xff"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"auth\.secrets"):
        load_or_create(path)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir()

    for name in ("fifo", "folder", "missing/secret"):
        with pytest.raises(ConfigError, match=r"auth\.secrets"):
            load_or_create(tmp_path / name)


def test_who_comes_second_leaves_the_winner_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    winner = load_or_create(path)
    secrets._create_secret(path)

    assert load_or_create(path) == winner
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_eight_processes_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    # each says that it is ready and waits for a line, so that all of them start together
    program = (
        "import sys; from pathlib import Path; from syncstore.auth.secrets import load_or_create\n"
        "print('ready', flush=True); sys.stdin.readline(); print(load_or_create(Path(sys.argv[1])))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()

    assert [process.returncode for process in processes] == [0] * 8
    assert set(answers) == {path.read_text().strip()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
