"""One client of a load: what it does at random, with everything it asks and is told written down.

Connections are not retried: what was not answered stays unanswered.
"""

from __future__ import annotations

import http.client
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal

from syncstore.testing.client import SyncClient
from syncstore.testing.history import Answered, Op, Recorder, Sent, payload_of, tag_of
from syncstore.testing.load_places import Place
from syncstore.testing.replies import Reply
from syncstore.testing.transports import Body, Live

_ITEMS = 20
PAUSE = 0.02
"""Seconds after a refusal: shorter than Retry-After, to be there when the trouble ends."""


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
    """One client of several users. `name` is in the tags of all it writes, and must be its own.

    With `wipes` it deletes everything of a user now and then.
    """

    def __init__(
        self,
        name: str,
        url: str,
        secret: str,
        uids: Sequence[int],
        recorder: Recorder,
        places: Sequence[Place],
        *,
        wipes: bool = False,
    ) -> None:
        self._name = name
        self._numbers = itertools.count(1)
        self._random = random.Random(name)
        self._recorder = recorder
        self._transport = OneTry(url)
        self._users = {uid: SyncClient(uid, secret, self._transport) for uid in uids}
        self._uids = list(uids)
        self._places = list(places)
        self._wipes = wipes
        self._reached: dict[tuple[int, str], int] = {}  # how far this client follows each collection
        self._times: dict[tuple[int, str], int] = {}  # what was last read, for preconditions

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def work(self) -> None:
        """One step: a write, an upload in pieces, a delete or a read."""
        draw = self._random
        uid, place, step = draw.choice(self._uids), draw.choice(self._places), draw.random()
        if step < 0.26:
            self._put(uid, place.name)
        elif step < 0.42:
            self._post(uid, place.name)
        elif step < 0.51:
            self._batch(uid, place.name)
        elif step < 0.63:
            self._delete(uid, place)
        elif step < 0.73:
            self.info(uid)
        elif step < 0.8:
            self._read_item(uid, place.name)
        else:
            self.read(uid, place.name, newer=draw.random() < 0.3)

    def follow(self) -> None:
        """Ask for what came to the followed collections since the last answer, for each user in turn."""
        for uid, place in itertools.product(self._uids, self._places):
            if not place.followed:
                continue
            key = uid, place.name
            since = self._reached.get(key, 0)
            path = f"/storage/{place.name}?full=1&newer={_seconds(since)}"
            reply = self._ask("follow", uid, place.name, "GET", path, newer=since)
            if reply is not None and reply.status == 200:
                self._reached[key] = _ticks(reply)

    def read(self, uid: int, collection: str, *, newer: bool = False) -> bool:
        """Read a collection whole, or from where its last read ended; whether there was an answer of 200."""
        since = self._times.get((uid, collection), 0) if newer else None
        path = f"/storage/{collection}?full=1" + ("" if since is None else f"&newer={_seconds(since)}")
        reply = self._ask("read", uid, collection, "GET", path, newer=since)
        if reply is None or reply.status != 200:
            return False
        self._times[uid, collection] = _ticks(reply)
        return True

    def info(self, uid: int) -> bool:
        """Read the times of all collections; whether there was an answer of 200."""
        reply = self._ask("info", uid, "", "GET", "/info/collections")
        return reply is not None and reply.status == 200

    def _read_item(self, uid: int, collection: str) -> None:
        item = self._item()
        self._ask("item", uid, collection, "GET", f"/storage/{collection}/{item}", item=item)

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
        tags, path = self._some(), f"/storage/{collection}"
        self._ask("post", uid, collection, "POST", path, _bsos(tags), tags=tags, unless=unless)

    def _batch(self, uid: int, collection: str) -> None:
        path = f"/storage/{collection}"
        staged, began = self._some(), time.monotonic()
        reply = self._ask("stage", uid, collection, "POST", path + "?batch=true", _bsos(staged), tags=staged)
        if reply is None or reply.status != 202:
            return
        path += f"?batch={reply.json['batch']}"
        if self._random.random() < 0.5:
            more = self._some()
            staged |= more
            reply = self._ask(
                "stage", uid, collection, "POST", path, _bsos(more), tags=staged, batch_at=began
            )
            if reply is None or reply.status != 202:
                return
        last = self._some()
        tags = staged | last
        self._ask(
            "commit", uid, collection, "POST", path + "&commit=true", _bsos(last), tags=tags, batch_at=began
        )

    def _delete(self, uid: int, place: Place) -> None:
        draw, name = self._random, place.name
        if self._wipes and draw.random() < 0.05:
            self._ask("delete everything", uid, "", "DELETE", "/storage")
        elif place.dropped and draw.random() < 0.25:
            self._ask("delete collection", uid, name, "DELETE", f"/storage/{name}")
        elif place.edited and draw.random() < 0.5:
            item = self._item()
            self._ask("delete items", uid, name, "DELETE", f"/storage/{name}/{item}", gone=[item])
        elif place.edited:
            items = list(dict.fromkeys(self._item() for _ in range(3)))
            path = f"/storage/{name}?ids={','.join(items)}"
            self._ask("delete items", uid, name, "DELETE", path, gone=items)

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
        item: str = "",
        batch_at: float = 0.0,
    ) -> Reply | None:
        number = next(self._numbers)
        headers = None if unless is None else {"X-If-Unmodified-Since": _seconds(unless)}
        began = time.monotonic()
        self._recorder.write(
            Sent(number, began, uid, op, collection, tags or {}, gone or [], unless, newer, item, batch_at)
        )
        try:
            reply = self._users[uid].request(method, path, body, headers)
        except (http.client.HTTPException, OSError):
            time.sleep(PAUSE)
            return None
        except AssertionError as error:  # an answer that breaks a rule of the protocol by itself
            self._recorder.write(Answered(number, time.monotonic(), 0, complaint=str(error)))
            return None
        self._recorder.write(_answered(number, op, reply))
        if reply.status == 503:
            time.sleep(PAUSE)
        return reply


def _answered(number: int, op: Op, reply: Reply) -> Answered:
    complaint = ""
    items: dict[str, tuple[int, str]] = {}
    if reply.status == 200 and op in ("read", "follow", "item"):
        bsos = [reply.json] if op == "item" else reply.json
        items = {bso["id"]: (int(bso["modified"] * 100), tag_of(bso.get("payload", ""))) for bso in bsos}
    elif reply.status == 200 and op == "info":
        items = {name: (int(modified * 100), "") for name, modified in reply.json.items()}
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
