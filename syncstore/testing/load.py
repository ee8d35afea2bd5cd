"""Client processes that write to the same users' collections and record what they did, to be killed at will.

`python -m syncstore.testing.load` is one client; `Load` runs several against a server, lets a disturbance happen
beside them, and returns their history. Connections are not retried: what was not answered stays unanswered.
"""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from syncstore.testing.client import SyncClient
from syncstore.testing.history import (
    Answered,
    Exchange,
    Op,
    Recorder,
    Sent,
    payload_of,
    read_history,
    tag_of,
)
from syncstore.testing.replies import Reply
from syncstore.testing.transports import Body, Live

FOLLOWED = "log"  # never deleted from, so that a follower ends with all of it
EDITED = "work"  # items come and go
DROPPED = "scratch"  # the whole collection comes and goes
COLLECTIONS = (FOLLOWED, EDITED, DROPPED)
_ITEMS = 20
_PAUSE = 0.02  # seconds after a refusal: shorter than Retry-After, to be there when the trouble ends


class OneTry(Live):
    """A connection that never sends a request twice, since a write could then count twice."""

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        try:
            return self._exchange(method, target, headers, body)
        except (http.client.HTTPException, OSError):
            self.close()
            raise


class Client:
    """One client of several users. `name` is in the tags of all it writes, and must be its own."""

    def __init__(self, name: str, url: str, secret: str, uids: Sequence[int], recorder: Recorder) -> None:
        self._name = name
        self._numbers = itertools.count(1)
        self._random = random.Random(name)
        self._recorder = recorder
        self._transport = OneTry(url)
        self._users = {uid: SyncClient(uid, secret, self._transport) for uid in uids}
        self._uids = list(uids)
        self._reached = dict.fromkeys(uids, 0)  # how far this client follows each user
        self._times: dict[tuple[int, str], int] = {}  # what was last read, for preconditions

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def work(self) -> None:
        """One step: a write, an upload in pieces, a delete or a read."""
        draw = self._random
        uid, step = draw.choice(self._uids), draw.random()
        if step < 0.3:
            self._put(uid, draw.choice(COLLECTIONS))
        elif step < 0.5:
            self._post(uid, draw.choice(COLLECTIONS))
        elif step < 0.6:
            self._batch(uid, draw.choice(COLLECTIONS))
        elif step < 0.72:
            self._delete(uid)
        else:
            self.read(uid, draw.choice(COLLECTIONS), newer=draw.random() < 0.3)

    def follow(self) -> None:
        """Ask for what came to the followed collection since the last answer, for each user in turn."""
        for uid in self._uids:
            since = self._reached[uid]
            path = f"/storage/{FOLLOWED}?full=1&newer={_seconds(since)}"
            reply = self._ask("follow", uid, FOLLOWED, "GET", path, newer=since)
            if reply is not None and reply.status == 200:
                self._reached[uid] = _ticks(reply)

    def read(self, uid: int, collection: str, *, newer: bool = False) -> bool:
        """Read a collection whole, or from where its last read ended; whether there was an answer of 200."""
        since = self._times.get((uid, collection), 0) if newer else None
        path = f"/storage/{collection}?full=1" + ("" if since is None else f"&newer={_seconds(since)}")
        reply = self._ask("read", uid, collection, "GET", path, newer=since)
        if reply is None or reply.status != 200:
            return False
        self._times[uid, collection] = _ticks(reply)
        return True

    def _put(self, uid: int, collection: str) -> None:
        item = self._item()
        path, unless = f"/storage/{collection}/{item}", None
        if self._random.random() < 0.3:
            unless = self._times.get((uid, collection))
        tag = self._tag()
        body = {"payload": payload_of(tag)}
        self._ask("put", uid, collection, "PUT", path, body, tags={item: tag}, unless=unless)

    def _post(self, uid: int, collection: str) -> None:
        unless = self._times.get((uid, collection)) if self._random.random() < 0.2 else None
        tags = self._some()
        self._ask(
            "post", uid, collection, "POST", f"/storage/{collection}", _bsos(tags), tags=tags, unless=unless
        )

    def _batch(self, uid: int, collection: str) -> None:
        path = f"/storage/{collection}"
        staged = self._some()
        reply = self._ask("stage", uid, collection, "POST", path + "?batch=true", _bsos(staged), tags=staged)
        if reply is None or reply.status != 202:
            return
        batch = reply.json["batch"]
        if self._random.random() < 0.5:
            more = self._some()
            reply = self._ask(
                "stage", uid, collection, "POST", f"{path}?batch={batch}", _bsos(more), tags=more
            )
            if reply is None or reply.status != 202:
                return
            staged |= more
        last = self._some()
        self._ask(
            "commit",
            uid,
            collection,
            "POST",
            f"{path}?batch={batch}&commit=true",
            _bsos(last),
            tags=staged | last,
        )

    def _delete(self, uid: int) -> None:
        draw = self._random
        if draw.random() < 0.25:
            self._ask("delete collection", uid, DROPPED, "DELETE", f"/storage/{DROPPED}")
        elif draw.random() < 0.5:
            item = self._item()
            self._ask("delete items", uid, EDITED, "DELETE", f"/storage/{EDITED}/{item}", gone=[item])
        else:
            items = list(dict.fromkeys(self._item() for _ in range(3)))
            path = f"/storage/{EDITED}?ids={','.join(items)}"
            self._ask("delete items", uid, EDITED, "DELETE", path, gone=items)

    def _item(self) -> str:
        return f"i{self._random.randrange(_ITEMS):02}"

    def _tag(self) -> str:
        return f"{self._name}-{next(self._numbers)}-{self._random.choice((0, 10, 300, 3000))}"

    def _some(self) -> dict[str, str]:
        return {self._item(): self._tag() for _ in range(self._random.randint(1, 5))}

    def _ask(
        self,
        op: Op,
        uid: int,
        collection: str,
        method: str,
        path: str,
        body: object = None,
        *,
        tags: dict[str, str] | None = None,
        gone: list[str] | None = None,
        unless: int | None = None,
        newer: int | None = None,
    ) -> Reply | None:
        number = next(self._numbers)
        headers = None if unless is None else {"X-If-Unmodified-Since": _seconds(unless)}
        sent = Sent(number, time.monotonic(), uid, op, collection, tags or {}, gone or [], unless, newer)
        self._recorder.write(sent)
        try:
            reply = self._users[uid].request(method, path, body, headers)
        except (http.client.HTTPException, OSError):
            time.sleep(_PAUSE)
            return None
        except AssertionError as error:  # an answer that breaks a rule of the protocol by itself
            self._recorder.write(Answered(number, time.monotonic(), 0, complaint=str(error)))
            return None
        self._recorder.write(_answered(number, op, reply))
        if reply.status == 503:
            time.sleep(_PAUSE)
        return reply


def _answered(number: int, op: Op, reply: Reply) -> Answered:
    complaint = ""
    items: dict[str, tuple[int, str]] = {}
    if reply.status == 200 and op in ("read", "follow"):
        items = {
            item["id"]: (int(item["modified"] * 100), tag_of(item.get("payload", ""))) for item in reply.json
        }
    elif reply.status in (200, 202) and op in ("post", "stage", "commit") and reply.json["failed"]:
        complaint = f"items failed: {reply.json['failed']}"
    modified = reply.get("X-Last-Modified")
    ticks = None if modified is None else int(Decimal(modified) * 100)
    return Answered(number, time.monotonic(), reply.status, ticks, items, complaint)


def _bsos(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"id": item, "payload": payload_of(tag)} for item, tag in tags.items()]


def _ticks(reply: Reply) -> int:
    return int(reply.modified * 100)


def _seconds(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02}"


class Load:
    """Several writers and one follower on a server, each a process. `folder` is for their histories."""

    def __init__(self, url: str, secret: str, uids: Sequence[int], folder: Path, *, writers: int = 8) -> None:
        self._url, self._secret, self._uids = url, secret, list(uids)
        self._folder = folder
        self._names = itertools.count(1)
        self._writers = [self._spawn("work") for _ in range(writers)]
        self._follower = self._spawn("follow")

    def _spawn(self, task: str) -> subprocess.Popen[bytes]:
        name = f"{task}{next(self._names)}"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        words = [task, name, self._url, str(self._folder), *map(str, self._uids)]
        return subprocess.Popen(
            [sys.executable, "-m", "syncstore.testing.load", *words],
            env=environment | {"LOAD_SECRET": self._secret},
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
        self._await_start()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(every, left))
            if disturb is not None and time.monotonic() < end - every / 2:
                disturb()

    def history(self) -> list[Exchange]:
        """End the clients, read every collection once more, and return all that was recorded.

        Raises AssertionError when a client ended by itself, or the server does not serve again.
        """
        processes = [*self._writers, self._follower]
        codes = [process.poll() for process in processes]
        for process in processes:
            process.send_signal(signal.SIGTERM)  # after the answer it waits for
        for process in processes:
            process.communicate(timeout=60)
        assert codes == [None] * len(codes), f"a client ended by itself: {codes}"
        path = self._folder / "last.history"
        last = Client("last", self._url, self._secret, self._uids, Recorder(path))
        for uid, collection in itertools.product(self._uids, COLLECTIONS):
            assert any(last.read(uid, collection) for _ in range(200)), "the server does not serve again"
        last.close()
        return read_history(sorted(self._folder.glob("*.history")))

    def close(self) -> None:
        """Kill what still runs."""
        for process in (*self._writers, self._follower):
            if process.poll() is None:
                process.kill()
            process.communicate()

    def _await_start(self) -> None:
        deadline = time.monotonic() + 30
        while len(list(self._folder.glob("*.history"))) < len(self._writers) + 1:
            assert time.monotonic() < deadline, "the clients did not start"
            time.sleep(0.02)


def main(words: Sequence[str]) -> None:
    """One client process, until SIGTERM or until who started it is gone."""
    task, name, url, folder, *uids = words
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    recorder = Recorder(Path(folder) / f"{name}.history")
    client = Client(name, url, os.environ["LOAD_SECRET"], [int(uid) for uid in uids], recorder)
    parent = os.getppid()
    while not stopping and os.getppid() == parent:
        if task == "work":
            client.work()
        else:
            client.follow()
            time.sleep(_PAUSE)  # to leave the processor to those who write


if __name__ == "__main__":
    main(sys.argv[1:])
