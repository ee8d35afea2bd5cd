"""A client: it sends its requests one after the other, and each is served as the web's views serve it.

It remembers what a real one does: the time up to which it knows a collection, its copy of the items, its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncstore.bso import BSO
from syncstore.errors import (
    InvalidBatch,
    NotFound,
    NotYet,
    OverQuota,
    PreconditionFailed,
    TooLarge,
    Unavailable,
)
from syncstore.storage.api import Page, Query, Storage, Work
from syncstore.storage.attempts import PATIENCE, SHORTEST
from syncstore.testing.simulation.exchanges import Exchange
from syncstore.testing.simulation.installation import Installation
from syncstore.testing.simulation.plan import Request
from syncstore.testing.simulation.scheduler import ProcessDied


class Client:
    """One client of one user. `home` is the number of the process that it likes to talk to."""

    def __init__(self, name: str, uid: int, home: int, installation: Installation) -> None:
        self.name = name
        self.uid = uid
        self.known: dict[str, int] = {}
        self.copies: dict[str, dict[str, BSO]] = {}
        self.exchanges: list[Exchange] = []
        self._home = home
        self._installation = installation
        self._batches: dict[str, str] = {}

    def run(self, requests: Sequence[Request]) -> None:
        """Send requests, each once or twice."""
        world = self._installation.world
        for request in requests:
            if request.pause:
                world.sleep(request.pause)
            exchange = self.send(request)
            if request.retry and exchange.outcome in ("unavailable", "died"):
                world.sleep(world.random.random() * 2)
                self.send(request)

    def send(self, request: Request, *, quiet: bool = False) -> Exchange:
        """One request and its answer.

        A server that does the work again, when it has to wait for a moment, counts as a client who sends the request
        again: the work that was taken back may have left the same behind.
        """
        waits = PATIENCE
        while True:
            exchange = self._send(request, quiet=quiet)
            error = exchange.error
            if not isinstance(error, NotYet):
                return exchange
            waits -= max(error.after, SHORTEST)
            if waits < 0:
                return exchange
            self._installation.world.sleep(error.after)

    def _send(self, request: Request, *, quiet: bool) -> Exchange:
        installation = self._installation
        world, task = installation.world, installation.world.current
        assert task is not None
        host = installation.host(self._home)
        exchange = installation.begin(self.name, self.uid, request, host)
        exchange.quiet = quiet
        self.exchanges.append(exchange)
        task.process, task.serving = host.process, exchange
        world.note(">> " + request.kind, exchange)
        try:
            exchange.answer = self._serve(host.storage, exchange)
            exchange.outcome = "ok"
        except ProcessDied as error:
            if installation.ended:
                raise
            exchange.outcome, exchange.error = "died", error
        except PreconditionFailed as error:
            exchange.outcome, exchange.error = "refused", error
        except NotFound as error:
            exchange.outcome, exchange.error = "missing", error
        except InvalidBatch as error:
            exchange.outcome, exchange.error = "no batch", error
        except OverQuota as error:
            exchange.outcome, exchange.error = "over quota", error
        except TooLarge as error:
            exchange.outcome, exchange.error = "too large", error
        except Unavailable as error:
            exchange.outcome, exchange.error = "unavailable", error
        except Exception as error:
            exchange.outcome, exchange.error = "crash", error
        finally:
            task.process = task.serving = None
            installation.finish(exchange, host)
        world.note("<< " + request.kind, exchange)
        if exchange.outcome == "ok":
            self._learn(exchange)
        return exchange

    # -- serving, as syncstore.web.views does

    def _serve(self, storage: Storage, exchange: Exchange) -> object:
        kind = exchange.request.kind
        return (self._read if kind in _READS else self._write)(storage, exchange)

    def _read(self, storage: Storage, exchange: Exchange) -> object:
        request, uid = exchange.request, self.uid
        name = request.collection
        match request.kind:
            case "times":
                return storage.collection_times(uid)
            case "counts":
                return storage.collection_counts(uid)
            case "usage":
                return storage.collection_usage(uid)
            case "modified":
                return storage.collection_modified(uid, name)
            case "item":
                return storage.item(uid, name, request.ids[0])
            case "news":
                exchange.newer = self.known.get(name)
                return storage.find(uid, name, Query(newer=exchange.newer, sort="oldest", full=True))
            case "ids":
                return storage.find(uid, name, Query(sort="newest", limit=1))
        return storage.find(uid, name, Query(sort="oldest", full=True))

    def _write(self, storage: Storage, exchange: Exchange) -> object:
        request, uid, name = exchange.request, self.uid, exchange.request.collection
        changes = request.changes
        match request.kind:
            case "put":
                ids = [change.id for change in changes]
                with storage.lock_for_write(uid, name, ids, create=True) as work:
                    self._check_collection(exchange, work)
                    return work.put(changes)
            case "put item":
                (change,) = changes
                with storage.lock_for_write(uid, name, (change.id,), create=True) as work:
                    self._check_item(exchange, work, change.id)
                    return work.put(changes)
            case "delete item":
                (item,) = request.ids
                with storage.lock_for_write(uid, name, (item,)) as work:
                    self._check_item(exchange, work, item)
                    return work.delete_item(item)
            case "delete items":
                with storage.lock_for_write(uid, name, request.ids) as work:
                    self._check_collection(exchange, work)
                    return work.delete_items(request.ids)
            case "delete collection":
                with storage.lock_for_write(uid, name) as work:
                    self._check_collection(exchange, work)
                    return work.delete_collection()
            case "wipe":
                with storage.lock_for_write(uid, None) as work:
                    if exchange.request.guarded:
                        exchange.unless = max(self.known.values(), default=0)
                    exchange.before["storage"] = work.storage_modified
                    _check(exchange.unless, work.storage_modified)
                    return work.delete_all()
        return self._batch(storage, exchange)

    def _batch(self, storage: Storage, exchange: Exchange) -> object:
        request, name = exchange.request, exchange.request.collection
        exchange.batch = self._batches.get(name)
        if request.kind != "open" and exchange.batch is None:
            raise InvalidBatch("the client has none")
        with storage.lock_for_write(self.uid, name, create=True) as work:
            self._check_collection(exchange, work)
            if request.kind == "commit":
                return work.commit_batch(exchange.batch or "", request.changes)
            if request.kind == "open":
                exchange.batch = work.create_batch()
                self._batches.pop(name, None)
            work.append_to_batch(exchange.batch or "", request.changes)
            return exchange.batch

    def _check_collection(self, exchange: Exchange, work: Work) -> None:
        if exchange.request.guarded:
            exchange.unless = self.known.get(exchange.request.collection, 0)
        exchange.before["storage"] = work.storage_modified
        exchange.before["collection"] = work.collection_modified
        _check(exchange.unless, work.collection_modified)

    def _check_item(self, exchange: Exchange, work: Work, item: str) -> None:
        if exchange.request.guarded:
            known = self.copies.get(exchange.request.collection, {}).get(item)
            exchange.unless = 0 if known is None else known.modified
        exchange.before["collection"] = work.collection_modified
        exchange.before[":" + item] = work.item_modified(item)
        _check(exchange.unless, exchange.before[":" + item])

    # -- what it remembers

    def _learn(self, exchange: Exchange) -> None:
        request = exchange.request
        name = request.collection
        if request.kind == "open":
            self._batches[name] = exchange.answer
        elif request.kind in ("read", "news"):
            page: Page = exchange.answer
            if request.kind == "read" or not page.modified or page.modified < self.known.get(name, 0):
                self.copies[name] = {}
            self.copies.setdefault(name, {}).update((item.id, item) for item in page.items)
            self.known[name] = page.modified
        elif request.kind == "put" and exchange.unless == exchange.before["collection"]:
            self._learn_of_own_write(exchange)

    def _learn_of_own_write(self, exchange: Exchange) -> None:
        """Nobody else has written since, so it knows the collection up to its own write; if it was a simple one."""
        request = exchange.request
        copy = self.copies.setdefault(request.collection, {})
        for change in request.changes:
            old = copy.get(change.id)
            if change.payload is None or (old is not None and old.sortindex is not None):
                return
        for change in request.changes:
            copy[change.id] = BSO(change.id, exchange.answer, change.payload or "", change.sortindex)
        self.known[request.collection] = exchange.answer


_READS = frozenset({"read", "news", "ids", "item", "times", "counts", "usage", "modified"})


def _check(unless: int | None, modified: int) -> None:
    if unless is not None and modified > unless:
        raise PreconditionFailed(modified)
