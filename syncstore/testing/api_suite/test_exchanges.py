"""Section 21: the worked exchanges, in their order, on one user."""

from __future__ import annotations

from decimal import Decimal

from syncstore.testing.client import SyncClient


class TestWorkedExchanges:
    def test_the_whole_table(self, sync: SyncClient, other: SyncClient, limits: dict[str, int]) -> None:
        written = sync.put("/storage/meta/global", {"payload": "blob"})  # 1
        stamp = written["X-Last-Modified"]
        assert (written.status, written.text.strip(), written["X-Weave-Timestamp"]) == (200, stamp, stamp)

        read = sync.get("/storage/meta/global")  # 2
        assert read["X-Last-Modified"] == stamp
        assert Decimal(read["X-Weave-Timestamp"]) >= Decimal(stamp)
        assert read.json == {"id": "global", "modified": Decimal(stamp), "payload": "blob"}

        short = str(float(stamp))  # without trailing zeros, as a client's number prints
        unchanged = sync.get("/storage/meta/global", {"X-If-Modified-Since": short})  # 3
        assert (unchanged.status, unchanged.body) == (304, b"")
        assert unchanged["X-Last-Modified"] == stamp

        items = [{"id": "a", "payload": "x"}, {"id": "b\n", "payload": "y"}, {"id": "c", "foo": 1}]
        posted = sync.post("/storage/col", items)  # 4
        failed = {"b\n": "invalid id", "c": "unknown field foo"}
        assert posted.json == {"modified": posted.modified, "success": ["a"], "failed": failed}

        opened = sync.post("/storage/col?batch=true", [])  # 5
        batch = opened.json["batch"]
        assert opened.status == 202
        assert opened.json == {"batch": batch, "success": [], "failed": {}}
        assert opened["X-Last-Modified"] == posted["X-Last-Modified"]

        staged = sync.post(f"/storage/col?batch={batch}", [{"id": "a", "ttl": 60}])  # 6
        assert (staged.status, staged["X-Last-Modified"]) == (202, posted["X-Last-Modified"])

        done = sync.post(f"/storage/col?batch={batch}&commit=true", [])  # 7
        assert (done.status, done.json) == (200, {"modified": done.modified, "success": [], "failed": {}})
        assert sync.get("/storage/col/a").json == {"id": "a", "modified": done.modified, "payload": "x"}

        again = sync.post(f"/storage/col?batch={batch}&commit=true", [])  # 8
        assert (again.status, again.json) == (400, 0)

        sync.put("/storage/col/d", {"payload": "x"})
        page = sync.get("/storage/col?sort=oldest&limit=1&full=1")  # 9
        assert page["X-Weave-Records"] == "1"
        assert page["X-Weave-Next-Offset"]

        late = sync.delete("/storage/col?ids=a", {"X-If-Unmodified-Since": posted["X-Last-Modified"]})  # 10
        assert (late.status, late.modified) == (412, sync.get("/storage/col").modified)
        assert sorted(sync.get("/storage/col").json) == ["a", "d"]

        deleted = sync.delete("/storage/col")  # 11
        assert deleted.json == {"modified": deleted.modified}
        collections = sync.get("/info/collections")
        assert "col" not in collections.json
        assert collections["X-Last-Modified"] == deleted["X-Last-Modified"]

        zero = {"X-If-Unmodified-Since": "0"}  # 12
        assert [sync.put("/storage/col/z", {"payload": "z"}, zero).status for _ in range(2)] == [200, 412]

        too_much = {"X-Weave-Total-Bytes": str(limits["max_total_bytes"] + 1)}  # 13
        refused = sync.post("/storage/col", [], too_much)
        assert (refused.status, refused.json) == (400, 17)

        stranger = sync.get("/info/collections", credentials=other.credentials)  # 14
        assert (stranger.status, stranger.json) == (401, 0)
        assert stranger["WWW-Authenticate"].startswith("Hawk")

        preflight = {"Origin": "http://x", "Access-Control-Request-Method": "GET"}  # 15
        allowed = sync.options("/anything", preflight, signed=False)
        assert allowed.status in (200, 204)
        assert allowed["Access-Control-Allow-Origin"] == "http://x"
        assert int(allowed["Access-Control-Max-Age"]) == 1728000
