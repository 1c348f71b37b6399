"""A local model from its file to an answer: added, started on first use, asked, broken, stopped, gone.

Needs llama-server ($CAPSTAN_TEST_ENGINE) and the small model ($CAPSTAN_TEST_MODEL), which scripts/test-assets
provides.
"""
import json
import os
import pathlib
import shutil
import signal
import time
import urllib.request

import pytest

from conftest import Server

ENGINE, MODEL = os.environ.get("CAPSTAN_TEST_ENGINE"), os.environ.get("CAPSTAN_TEST_MODEL")
pytestmark = pytest.mark.skipif(not (ENGINE and MODEL), reason="no engine or model at hand")
HELLO = [{"role": "user", "content": "Say hello."}]


def wait_for_job(server, job, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job = server.get(f"/api/jobs/{job['id']}")
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def wait_for_state(server, state, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        model = server.get("/api/models/tiny")
        if model["state"] == state:
            return model
        time.sleep(0.05)
    raise AssertionError(model)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    server = Server(folder, f'engine: {{ server: "{ENGINE}" }}\n')
    job = server.post("/api/models", {"file": MODEL, "name": "tiny"}, expect=202)
    job = wait_for_job(server, job)
    assert job["state"] == "done", job
    yield server
    assert server.stop() == 0


def chat(server, expect=200, **more):
    body = {"model": "local/tiny", "messages": HELLO, "max_tokens": 8, **more}
    return server.post("/v1/chat/completions", body, expect=expect)


def engine_pids(server):
    """llama-server processes whose socket lies in this server's data folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "llama-server" in command and str(server.data_path) in command:
                found.append(int(entry.name))
    return found


def test_described(local):
    model = local.get("/api/models/tiny")
    assert model["architecture"] == "llama"
    assert model["quantization"] == "Q4_1"
    assert model["parameters"] == 134515008
    assert model["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert model["tools"] is False


def test_answers(local):
    answer = chat(local)
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0
    model = wait_for_state(local, "ready")
    deadline = time.monotonic() + 60
    while model["memory"] is None and time.monotonic() < deadline:  # read once a second
        time.sleep(0.1)
        model = local.get("/api/models/tiny")
    assert model["memory"] > 50_000_000


def test_streams(local):
    request = urllib.request.Request(local.url + "/v1/chat/completions", method="POST", data=json.dumps(
        {"model": "local/tiny", "messages": HELLO, "max_tokens": 8, "stream": True}).encode())
    request.add_header("content-type", "application/json")
    request.add_header("authorization", f"Bearer {local.key}")
    text = urllib.request.urlopen(request, timeout=60).read().decode()
    assert text.rstrip().endswith("data: [DONE]")
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def test_usage_counts_all_choices(local):
    one, two = chat(local, n=1), chat(local, n=2)
    assert len(two["choices"]) == 2
    assert two["usage"]["completion_tokens"] > one["usage"]["completion_tokens"]


def test_required_tool_is_called_without_a_template(local):
    tool = {"type": "function", "function": {"name": "greet", "parameters": {
        "type": "object", "properties": {"loud": {"type": "boolean"}}, "required": ["loud"]}}}
    answer = chat(local, tools=[tool], tool_choice="required", max_tokens=100)
    call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    assert call["name"] == "greet"
    assert isinstance(json.loads(call["arguments"])["loud"], bool)
    refused = chat(local, tools=[tool], tool_choice="auto", expect=400)
    assert "tool" in refused["error"]["message"]


def test_too_long_a_prompt_is_a_clear_error(local):
    answer = chat(local, messages=[{"role": "user", "content": "word " * 20000}], expect=400)
    assert "context" in answer["error"]["message"]
    assert local.last_call()["error"]["code"] == "context_length_exceeded"


def test_embeds(local):
    answer = local.post("/v1/embeddings", {"model": "local/tiny", "input": ["one", "two"]})
    assert [len(item["embedding"]) for item in answer["data"]] == [576, 576]


def test_secret_is_not_on_the_command_line(local):
    chat(local)
    for pid in engine_pids(local):
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        assert b"api-key" not in command
        assert b"LLAMA_API_KEY=" in environment
        assert b"CAPSTAN" not in environment


def test_leaving_client_stops_the_engine(local):
    chat(local)
    request = json.dumps({"model": "local/tiny", "messages": HELLO, "max_tokens": 3000,
                          "ignore_eos": True}).encode()
    import socket
    host, port = local.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                       b"authorization: Bearer " + local.key.encode() +
                       b"\r\ncontent-length: %d\r\n\r\n" % len(request) + request)
        time.sleep(0.5)
    time.sleep(1)
    pid = engine_pids(local)[0]

    def cpu_ticks():
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = cpu_ticks()
    time.sleep(1)
    assert cpu_ticks() - before < 20  # of 100 a second and core: it no longer generates


def test_killed_engine_comes_back(local):
    chat(local)
    for pid in engine_pids(local):
        os.kill(pid, signal.SIGKILL)
    wait_for_state(local, "failed")
    assert chat(local)["choices"]
    assert local.get("/api/models/tiny")["restarts"] >= 1


def test_stops_and_starts(local):
    chat(local)
    local.post("/api/models/tiny/stop", {})
    wait_for_state(local, "stopped")
    assert not engine_pids(local)
    local.post("/api/models/tiny/start", {})
    wait_for_state(local, "ready")


def test_damaged_file_is_refused(local, tmp_path):
    short = tmp_path / "short.gguf"
    with open(MODEL, "rb") as source, open(short, "wb") as copy:
        copy.write(source.read(50_000_000))
    job = wait_for_job(local, local.post("/api/models", {"file": str(short)}, expect=202))
    assert job["state"] == "failed"
    assert "cut off" in json.dumps(job["error"])

    flipped = tmp_path / "flipped.gguf"
    shutil.copyfile(MODEL, flipped)
    assert wait_for_job(local, local.post("/api/models", {"file": str(flipped)}, expect=202))["state"] == "done"
    with open(flipped, "r+b") as file:
        file.seek(60_000_000)
        file.write(b"\x55" * 64)
    answer = local.post("/v1/chat/completions",
                        {"model": "local/flipped", "messages": HELLO, "max_tokens": 4}, expect=502)
    assert "changed or damaged" in answer["error"]["message"]


def test_nothing_is_left_when_the_server_ends(tmp_path):
    server = Server(tmp_path, f'engine: {{ server: "{ENGINE}" }}\n')
    wait_for_job(server, server.post("/api/models", {"file": MODEL, "name": "tiny"}, expect=202))
    chat(server)
    assert engine_pids(server)
    server.stop(kill=True)
    deadline = time.monotonic() + 60
    while engine_pids(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not engine_pids(server)
