"""What clients write down survives them, and is read as it was written."""

from __future__ import annotations

from pathlib import Path

from syncstore.testing.history import Answered, Recorder, Sent, payload_of, read_history, tag_of


def test_records_survive_the_death_of_their_writer(tmp_path: Path) -> None:
    path = tmp_path / "one.history"
    recorder = Recorder(path)
    recorder.write(Sent(1, 1.0, 7, "put", "col", {"a": "x"}))
    recorder.write(Answered(1, 2.0, 200, 5))
    recorder.write(Sent(2, 3.0, 7, "put", "col", {"a": "y"}))
    path.write_bytes(path.read_bytes() + b'{"type": "answered", "num')

    first, second = read_history([path])

    assert (first.status, first.seconds, second.answer) == (200, 1.0, None)


def test_a_tag_stands_for_one_payload() -> None:
    assert tag_of(payload_of("w-1-300")) == "w-1-300"
    assert len(payload_of("w-1-300")) == 307
    assert tag_of(payload_of("w-1-300")[:-1]) != "w-1-300"
