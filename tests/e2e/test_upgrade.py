"""Upgrades under load: no stream breaks, no connection is refused, each call is on record once; and
whichever process is killed on the way, one serves."""
import asyncio
import json
import os
import pathlib
import random
import signal
import time
import urllib.parse

import pytest

from conftest import Server, mock_config

STREAMS = 200
KNOCKERS = 4  # clients that connect anew all the time
TOKENS = 80


class Generations(Server):
    """A server that goes on in other processes: they are found by their data folder."""

    def pids(self):
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if str(self.data_path).encode() in words and b"serve" in words and state != "Z":
                found.append(int(entry.name))
        return found

    def serving_pid(self, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.get("/api/server")["pid"]
            except (OSError, AssertionError):
                assert time.monotonic() < deadline, "nobody serves:\n" + "\n".join(self.log[-30:])
                time.sleep(0.05)

    def wait_for_other(self, pid, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while self.serving_pid() == pid:
            assert time.monotonic() < deadline, "\n".join(self.log[-30:])
            time.sleep(0.05)
        return self.serving_pid()

    def stop_all(self):
        for pid in self.pids():
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path, mock):
    process = Generations(tmp_path, mock_config(mock))
    yield process
    process.stop_all()


async def ask(server, tokens, delay_ms, user=""):
    """One streamed call on a connection of its own: how many tokens came, and whether the end did."""
    url = urllib.parse.urlsplit(server.url)
    body = json.dumps({"model": f"mock/gpt-mock?tokens={tokens}&event_delay={delay_ms}ms",
                       "stream": True, "user": user, "messages": [{"role": "user", "content": "go"}]})
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write((f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
                      f"authorization: Bearer {server.key}\r\ncontent-type: application/json\r\n"
                      f"content-length: {len(body)}\r\n\r\n{body}").encode())
        text = (await reader.read(-1)).decode()
    except OSError:
        return 0, False
    finally:
        writer.close()
    return text.count('"content":'), "data: [DONE]" in text


async def knock(server, until):
    """New connections all the time: how many were not answered."""
    url = urllib.parse.urlsplit(server.url)
    asked = failed = 0
    while not until.is_set():
        asked += 1
        try:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            failed += b" 200 " not in await reader.read(-1)
            writer.close()
        except OSError:
            failed += 1
        await asyncio.sleep(0.002)
    return asked, failed


def calls_on_record(server, user=""):
    items, cursor = [], ""
    while True:
        page = server.get(f"/api/calls?limit=500&user={user}&cursor={cursor}")
        items += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return items


def test_two_upgrades_under_200_streams(server):
    async def run():
        done = asyncio.Event()
        knocking = [asyncio.create_task(knock(server, done)) for _ in range(KNOCKERS)]
        streams = [asyncio.create_task(ask(server, TOKENS, 50)) for _ in range(STREAMS)]
        await asyncio.sleep(0.7)
        first = server.serving_pid()
        os.kill(first, signal.SIGUSR2)
        second = await asyncio.to_thread(server.wait_for_other, first)
        answer = await asyncio.to_thread(server.post, "/api/server/upgrade", {}, 202)
        assert answer["pid"] == second
        third = await asyncio.to_thread(server.wait_for_other, second)
        assert len({first, second, third}) == 3
        assert not any(stream.done() for stream in streams), "the streams were too short to prove anything"
        results = await asyncio.gather(*streams)
        done.set()
        return results, await asyncio.gather(*knocking)

    results, knocked = asyncio.run(run())
    assert [result for result in results if not result[1]] == []
    assert {result[0] for result in results} == {results[0][0]}
    assert all(failed == 0 and asked > 20 for asked, failed in knocked)
    deadline = time.monotonic() + 60
    while len(server.pids()) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)  # the old ones end once their last record has arrived
    assert len(server.pids()) == 1
    calls = calls_on_record(server)
    assert len(calls) == STREAMS and len({call["id"] for call in calls}) == STREAMS
    assert {call["status"] for call in calls} == {"ok"}


def test_a_refused_upgrade_changes_nothing(server):
    pid = server.serving_pid()
    good = server.config_path.read_text()
    server.config_path.write_text("routes: [")
    server.post("/api/server/upgrade", {}, 202)
    deadline = time.monotonic() + 60
    while not any("successor_failed" in line for line in server.log) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert any("successor_failed" in line for line in server.log)
    server.config_path.write_text(good)
    assert server.serving_pid() == pid
    assert asyncio.run(ask(server, 3, 1))[1]
    server.post("/api/server/upgrade", {}, 202)  # and the next one works
    server.wait_for_other(pid)


@pytest.mark.parametrize("seed", range(int(os.environ.get("UPGRADE_KILLS", "6"))))
def test_one_serves_whoever_is_killed(server, seed):
    chance = random.Random(seed)
    old = server.serving_pid()

    async def run():
        before = [asyncio.create_task(ask(server, 5, 1, f"before-{seed}")) for _ in range(10)]
        assert all(end for _, end in await asyncio.gather(*before))
        await asyncio.sleep(0.2)  # async durability: what ended 50 ms ago is durable
        streams = [asyncio.create_task(ask(server, 40, 20, f"during-{seed}")) for _ in range(20)]
        await asyncio.sleep(0.1)
        os.kill(old, signal.SIGUSR2)
        await asyncio.sleep(chance.random() * 0.15)
        new = [pid for pid in server.pids() if pid != old]
        victim = old if chance.random() < 0.5 or not new else new[0]
        os.kill(victim, signal.SIGKILL)
        return victim, await asyncio.gather(*streams)

    victim, streams = asyncio.run(run())
    if victim != old:
        assert all(end for _, end in streams), "the old process lost a stream"
    try:
        server.serving_pid(timeout_s=3)
    except AssertionError:
        # It was the only one, or the one that serves: a plain kill -9, after which a supervisor starts it anew.
        server = Generations(server.directory, None, key=server.key)
    try:
        check_after_a_kill(server, victim, old, seed)
    finally:
        server.stop_all()


def check_after_a_kill(server, victim, old, seed):
    assert server.serving_pid() != victim
    assert len(calls_on_record(server, f"before-{seed}")) == 10
    assert asyncio.run(ask(server, 3, 1, f"after-{seed}"))[1]
    deadline = time.monotonic() + 60
    while len(server.pids()) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    calls = calls_on_record(server)
    assert len({call["id"] for call in calls}) == len(calls)
    if victim != old:  # it finished its streams, and somebody has their records
        ended = [call for call in calls if call["user"] == f"during-{seed}" and call["status"] == "ok"]
        assert len(ended) == 20


def test_collections_go_over(server):
    """An index has a writer of its own: the new process opens it once the old one has let go."""
    server.post("/api/collections", {"name": "notes", "encoder": "none"}, 201)
    rows = [{"id": "a", "text": "A capstan hauls ropes."}]
    server.post("/api/collections/notes/vectors", {"items": rows})
    pid = server.serving_pid()
    server.post("/api/server/upgrade", {}, 202)
    server.wait_for_other(pid)
    found = server.post("/api/collections/notes/search", {"query": "capstan", "mode": "text"})
    assert json.dumps(found).count("hauls ropes") == 1
