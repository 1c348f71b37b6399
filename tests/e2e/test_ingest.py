"""Documents on their way in: the encoder that a collection needs is fetched by itself, and what changes or is deleted
meanwhile ends as it was last said. No model of the network is needed: a package index that never answers stands for it,
and an encoder with random weights is what comes in the end."""
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time

import pytest

from conftest import Server

TINY = pathlib.Path(__file__).resolve().parent.parent / "data/encoder/tiny"
WAIT_S = 120


def wait(what, seconds=WAIT_S):
    """Until what() gives something true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come to pass: " + repr(what()))


@pytest.fixture
def silent_index():
    """The environment of a server whose pip asks an index that takes connections and never answers."""
    if subprocess.run(["python3", "-m", "pip", "--version"], capture_output=True).returncode != 0:
        pytest.skip("no pip")
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []

    def accept():
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield {"PIP_INDEX_URL": f"http://127.0.0.1:{listener.getsockname()[1]}/simple", "PIP_TIMEOUT": "600",
           "PIP_NO_INDEX": "0", "PIP_CONFIG_FILE": os.devnull}
    listener.close()
    for one in taken:
        one.close()


def test_encoder_comes_by_itself(tmp_path, silent_index):
    server = Server(tmp_path, "", env=silent_index)
    folder = server.data_path / "model/all-minilm-l6-v2"
    api = "/api/collections/papers"
    try:
        made = server.post("/api/collections", {"name": "papers"}, expect=201)
        assert made["encoder_missing"] is True and made["encoder_job"] is None
        added = server.post(api + "/documents", {"name": "a.md", "text": "# Tides\n\nThe moon pulls the water."}, expect=202)
        document = f"{api}/documents/{added['items'][0]['id']}"

        pull = wait(lambda: server.get(api)["encoder_job"])
        assert pull["kind"] == "model_pull"
        progress = wait(lambda: (server.get("/api/jobs/" + added["job"]["id"])["progress"] or {}).get("message"))
        assert "fetching the encoder all-minilm-l6-v2" in progress
        assert server.get(document)["state"] == "queued"
        for mode in ("text", "hybrid"):  # nothing is in it yet, which is no error
            found = server.post(api + "/search", {"query": "moon", "mode": mode})
            assert found["items"] == [] and found.get("words_only", False) == (mode == "hybrid")

        server.post(f"/api/jobs/{pull['id']}/cancel", {}, expect=200)
        failed = wait(lambda: (one := server.get(document))["state"] == "failed" and one)
        assert "could not be fetched" in failed["error"] and failed["error_code"] == "model_not_found"

        server.post(api + "/ingest", {}, expect=202)  # again: a new pull
        again = wait(lambda: server.get(api)["encoder_job"])
        assert again["id"] != pull["id"]
        shutil.copytree(TINY, folder.with_name("coming"))
        folder.with_name("coming").rename(folder)
        wait(lambda: server.get(document)["state"] == "ready")
        assert server.get(api)["encoder_missing"] is False
        assert server.post(api + "/search", {"query": "moon"})["items"][0]["text"].endswith("moon pulls the water.")

        folder.rename(folder.with_name("gone"))  # what is in stays searchable by words
    finally:
        assert server.stop() == 0
    server = Server(tmp_path, None, key=server.key, env=silent_index)
    try:
        found = server.post(api + "/search", {"query": "moon"})
        assert found["words_only"] is True and found["items"][0]["text"].endswith("moon pulls the water.")
    finally:
        assert server.stop() == 0


def test_waiting_documents_outlive_a_kill(tmp_path, silent_index):
    env = silent_index
    server = Server(tmp_path, "", env=env)
    server.post("/api/collections", {"name": "papers"}, expect=201)
    added = server.post("/api/collections/papers/documents", {"name": "a.md", "text": "The moon pulls the water."}, expect=202)
    wait(lambda: server.get("/api/collections/papers")["encoder_job"])
    server.stop(kill=True)
    shutil.copytree(TINY, server.data_path / "model/all-minilm-l6-v2")
    server = Server(tmp_path, None, key=server.key, env=env)
    try:
        wait(lambda: server.get("/api/collections/papers/documents/" + added["items"][0]["id"])["state"] == "ready")
    finally:
        assert server.stop() == 0


def test_attributes_and_deletion_while_documents_come_in(server):
    """The last word counts, whatever a run was doing when it was said."""
    server.post("/api/collections", {"name": "moving", "encoder": "none"}, expect=201)
    api = "/api/collections/moving"
    text = "\n\n".join(f"Paragraph {i} about the same thing. " * 20 for i in range(400))
    ids = [server.post(api + "/documents", {"name": f"d{i}.md", "text": f"{text}\n\n{i}", "attributes": {"topic": "old"}},
                       expect=202)["items"][0]["id"] for i in range(6)]
    for id in ids[:3]:
        changed = server.request("PATCH", f"{api}/documents/{id}", {"attributes": {"topic": "new"}, "tags": ["staff"]})
        assert changed[0] == 200, changed
    for id in ids[3:]:
        assert server.request("DELETE", f"{api}/documents/{id}")[0] == 204
    wait(lambda: all(server.get(f"{api}/documents/{id}")["state"] == "ready" for id in ids[:3]))

    def payloads():
        found, cursor = [], None
        while True:
            page = server.post(api + "/vectors/scroll", {"limit": 500, **({"cursor": cursor} if cursor else {})})
            found += [item["payload"] for item in page["items"]]
            cursor = page["next_cursor"]
            if not cursor:
                return found

    wait(lambda: {one["_document"] for one in payloads()} == set(ids[:3]))
    assert all(one["topic"] == "new" and one["tags"] == ["staff"] for one in payloads())
