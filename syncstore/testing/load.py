"""Client processes that write to the same users' collections and record what they did, to be killed at will.

`python -m syncstore.testing.load` is one client; `Load` runs several against servers, lets a disturbance happen
beside them, and returns their history.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from syncstore.testing.history import Exchange, Recorder, read_history
from syncstore.testing.load_client import PAUSE, Client
from syncstore.testing.load_places import PLAIN, Place

_PATIENCE = 30.0  # seconds until a server serves again, when all trouble has ended


class Settings(msgspec.Struct, frozen=True):
    """What one client process has to know. `task` is "work" or "follow"."""

    task: str
    name: str
    url: str
    secret: str
    uids: list[int]
    folder: str
    places: list[Place]
    wipes: bool = False

    def client(self) -> Client:
        """The client, with a file of its own."""
        recorder = Recorder(Path(self.folder) / f"{self.name}.history")
        return Client(self.name, self.url, self.secret, self.uids, recorder, self.places, wipes=self.wipes)


class Load:
    """Several writers and one follower, each a process. `url` is that of the server; of several servers each gets its
    share of the writers. `folder` is for their histories. With `wipes` they delete all of a user now and then."""

    def __init__(
        self,
        url: str | Sequence[str],
        secret: str,
        uids: Sequence[int],
        folder: Path,
        *,
        writers: int = 8,
        places: Sequence[Place] = PLAIN,
        wipes: bool = False,
    ) -> None:
        self.uids = list(uids)
        self.places = list(places)
        self._urls = [url] if isinstance(url, str) else list(url)
        self._next_url = itertools.cycle(self._urls)
        self._secret = secret
        self._folder = folder
        self._wipes = wipes
        self._names = itertools.count(1)
        self._writers = [self._spawn("work") for _ in range(writers)]
        self._follower = self._spawn("follow")

    def _settings(self, task: str, name: str) -> Settings:
        url = next(self._next_url)
        return Settings(task, name, url, self._secret, self.uids, str(self._folder), self.places, self._wipes)

    def _spawn(self, task: str) -> subprocess.Popen[bytes]:
        settings = self._settings(task, f"{task}{next(self._names)}")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(
            [sys.executable, "-m", "syncstore.testing.load"],
            env=environment | {"LOAD_SETTINGS": msgspec.json.encode(settings).decode()},
            stdin=subprocess.PIPE,  # which ends with us, and the client with it
        )

    def kill_one(self) -> None:
        """End a writer as a crash would and put a new one in its place."""
        victim = self._writers.pop(0)
        victim.kill()
        victim.communicate()
        self._writers.append(self._spawn("work"))

    def run(self, seconds: float, disturb: Callable[[], None] | None = None, *, every: float = 1.0) -> None:
        """Go on for so many seconds; `disturb` is called once in `every` seconds."""
        self.await_start()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(every, left))
            if disturb is not None and time.monotonic() < end - every / 2:
                disturb()

    def history(self) -> list[Exchange]:
        """End the clients, read everything once more, and return all that was recorded.

        Raises AssertionError when a client ended by itself, or a server does not serve again.
        """
        processes = [*self._writers, self._follower]
        codes = [process.poll() for process in processes]
        for process in processes:
            process.send_signal(signal.SIGTERM)  # after the answer it waits for
        for process in processes:
            process.communicate(timeout=60)
        assert codes == [None] * len(codes), f"a client ended by itself: {codes}"
        for number in range(len(self._urls)):
            last = self._settings("work", f"last{number}").client()
            for uid in self.uids:
                for place in self.places:
                    _insist(partial(last.read, uid, place.name))
                _insist(partial(last.info, uid))
            last.close()
        return read_history(sorted(self._folder.glob("*.history")))

    def close(self) -> None:
        """Kill what still runs."""
        for process in (*self._writers, self._follower):
            if process.poll() is None:
                process.kill()
            process.communicate()

    def await_start(self) -> None:
        """Return when each client has begun."""
        deadline = time.monotonic() + 30
        while len(list(self._folder.glob("*.history"))) < len(self._writers) + 1:
            assert time.monotonic() < deadline, "the clients did not start"
            time.sleep(0.02)


def _insist(ask: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ask():
        assert time.monotonic() < deadline, "the server does not serve again"


def main() -> None:
    """One client process, until SIGTERM or until who started it is gone."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    settings = msgspec.json.decode(os.environ["LOAD_SETTINGS"], type=Settings)
    client = settings.client()
    parent = os.getppid()
    while not stopping and os.getppid() == parent:
        if settings.task == "work":
            client.work()
        else:
            client.follow()
            time.sleep(PAUSE)  # to leave the processor to those who write


if __name__ == "__main__":
    main()
