"""Section 18: many clients of one user at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from functools import partial

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply

DEADLINE = 60.0  # seconds for all threads of a test together


def together(sync: SyncClient, *works: Callable[[SyncClient], None]) -> None:
    """Run each work in a thread with a connection of its own; the first failure is raised."""
    failures: list[BaseException] = []
    ready = threading.Barrier(len(works))

    def run(work: Callable[[SyncClient], None]) -> None:
        client = sync.on_a_new_connection()
        try:
            ready.wait(DEADLINE)
            work(client)
        except BaseException as error:  # handed to the thread that waits
            failures.append(error)
        finally:
            client.transport.close()

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a request did not end"
    if failures:
        raise failures[0]


def tried(send: Callable[[], Reply]) -> Reply:
    """Send until a writer's lock is free: 503 is what section 18 allows, with a bound on the tries."""
    for _ in range(200):
        reply = send()
        if reply.status != 503:
            break
    assert reply.status == 200, reply
    return reply


class TestWriters:
    def test_each_write_has_a_time_of_its_own_and_none_is_lost(self, sync: SyncClient) -> None:
        """Of one collection and of several, from the first write of a new user on."""
        times: list[Decimal] = []

        def writer(number: int) -> Callable[[SyncClient], None]:
            def work(client: SyncClient) -> None:
                for count in range(10):
                    path = f"/storage/c{count % 2}"
                    item = {"id": f"w{number}-{count}", "payload": str(number)}
                    send = partial(client.post, path, [item])
                    times.append(tried(send).modified)

            return work

        together(sync, *(writer(number) for number in range(4)))
        assert len(set(times)) == 40
        found = [*sync.get("/storage/c0").json, *sync.get("/storage/c1").json]
        assert sorted(found) == sorted(f"w{number}-{count}" for number in range(4) for count in range(10))
        assert sync.get("/info/collections").modified == max(times)

    def test_one_of_several_first_writers_wins(self, sync: SyncClient) -> None:
        """Check and write are one: X-If-Unmodified-Since 0 succeeds once."""
        for number in range(5):
            replies: list[Reply] = []

            def work(
                client: SyncClient, path: str = f"/storage/col{number}/a", into: list[Reply] = replies
            ) -> None:
                for _ in range(200):
                    reply = client.put(path, {"payload": "x"}, {"X-If-Unmodified-Since": "0"})
                    if reply.status != 503:
                        break
                into.append(reply)

            together(sync, *[work] * 4)
            assert sorted(reply.status for reply in replies) == [200, 412, 412, 412]

    def test_counters_lose_no_step(self, sync: SyncClient) -> None:
        """Read, add, write with the time read: every success counted once."""
        sync.put("/storage/col/n", {"payload": "0"})

        def work(client: SyncClient) -> None:
            done = 0
            for _ in range(2000):
                item = client.get("/storage/col/n")
                body = {"payload": str(int(item.json["payload"]) + 1)}
                reply = client.put("/storage/col/n", body, {"X-If-Unmodified-Since": item["X-Last-Modified"]})
                assert reply.status in (200, 412, 503), reply
                done += reply.status == 200
                if done == 8:
                    return
            raise AssertionError("no progress")

        together(sync, *[work] * 3)
        assert sync.get("/storage/col/n").json["payload"] == "24"


class TestReaders:
    def test_a_list_and_its_time_agree(self, sync: SyncClient) -> None:
        """A reader that goes on from X-Last-Modified with `newer` sees every item exactly once."""
        names = [f"i{number:02}" for number in range(60)]
        finished = threading.Event()
        seen: list[str] = []

        def write(client: SyncClient) -> None:
            try:
                for name in names:
                    tried(partial(client.put, f"/storage/col/{name}", {"payload": "x"}))
            finally:
                finished.set()

        def read(client: SyncClient) -> None:
            since = "0"
            for _ in range(100_000):
                last = finished.is_set()
                reply = client.get(f"/storage/col?newer={since}&sort=oldest")
                if reply.status == 503:
                    continue
                seen.extend(reply.json)
                since = reply["X-Last-Modified"]
                if last:
                    return

        together(sync, write, read)
        assert seen == names

    def test_a_post_is_seen_whole_or_not_at_all(self, sync: SyncClient) -> None:
        sync.post("/storage/col", [{"id": f"i{n}", "payload": "0"} for n in range(20)])
        finished = threading.Event()

        def write(client: SyncClient) -> None:
            try:
                for number in range(1, 15):
                    items = [{"id": f"i{n}", "payload": str(number)} for n in range(20)]
                    tried(partial(client.post, "/storage/col", items))
            finally:
                finished.set()

        def read(client: SyncClient) -> None:
            while not finished.is_set():
                reply = client.get("/storage/col?full=1")
                if reply.status != 503:
                    assert len({item["payload"] for item in reply.json}) == 1
                    assert {item["modified"] for item in reply.json} == {reply.modified}

        together(sync, write, read)
