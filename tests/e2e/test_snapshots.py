"""Snapshots of a collection of raw vectors: made, gone back to, kept over a restart, deleted."""
import pytest

from conftest import Server


def rows(*ids):
    return {"items": [{"id": one, "vector": [float(n + 1), 1.0, 0.0], "payload": {"n": n}} for n, one in enumerate(ids)]}


def ids(server):
    items = server.post("/api/collections/mine/vectors/scroll", {"limit": 100})["items"]
    return sorted(one["id"] for one in items)


def test_snapshot_and_restore(tmp_path):
    server = Server(tmp_path, "")
    server.post("/api/collections", {"name": "mine", "encoder": "none", "dimension": 3}, expect=201)
    server.post("/api/collections/mine/vectors", rows("a", "b", "c"))
    made = server.post("/api/collections/mine/snapshots", {}, expect=201)
    assert made["name"] and made["created_at"]
    server.post("/api/collections/mine/vectors/delete", {"ids": ["a"]})
    server.post("/api/collections/mine/vectors", rows("d"))
    assert ids(server) == ["b", "c", "d"]
    generation = server.get("/api/collections/mine")["generation"]

    path = f"/api/collections/mine/snapshots/{made['name']}"
    assert server.post(path + "/restore", {})["name"] == made["name"]
    assert ids(server) == ["a", "b", "c"]
    assert server.get("/api/collections/mine")["generation"] == generation + 1
    hits = server.post("/api/collections/mine/search", {"vector": [1, 1, 0], "filter": "n == 0"})["items"]
    assert [hit["id"] for hit in hits] == ["a"]
    server.post("/api/collections/mine/vectors", rows("e"))  # it can be written to

    key = server.key
    assert server.stop() == 0
    server = Server(tmp_path, None, key=key)
    assert ids(server) == ["a", "b", "c", "e"]
    assert [one["name"] for one in server.get("/api/collections/mine/snapshots")["items"]] == [made["name"]]
    server.post(path + "/restore", {})
    assert ids(server) == ["a", "b", "c"]
    assert server.request("DELETE", path)[0] == 204
    assert server.get("/api/collections/mine/snapshots")["items"] == []
    assert server.post(path + "/restore", {}, expect=404)["error"]["field"] == "snapshot"
    assert server.stop() == 0


@pytest.mark.parametrize("name", ["..", "%2e%2e", "x.part", "..%2f..%2fcontrol.db"])
def test_names_stay_in_their_folder(tmp_path, name):
    server = Server(tmp_path, "")
    server.post("/api/collections", {"name": "mine", "encoder": "none", "dimension": 3}, expect=201)
    server.post("/api/collections/mine/snapshots", {}, expect=201)
    assert server.request("DELETE", "/api/collections/mine/snapshots/" + name)[0] in (400, 404, 405)
    assert len(server.get("/api/collections/mine/snapshots")["items"]) == 1
    assert server.stop() == 0


def test_not_of_documents(tmp_path):
    server = Server(tmp_path, "")
    server.post("/api/collections", {"name": "texts", "encoder": "none"}, expect=201)
    assert server.post("/api/collections/texts/snapshots", {}, expect=409)["error"]["message"]
    assert server.stop() == 0
