"""Other ways to start a pipeline: Vext's hook, webhooks, schedules, MCP; and what is said about answers."""
import base64
import hashlib
import hmac
import json
import sqlite3
import time

import pytest

from conftest import Server, mock_config
from test_pipelines import ALLOW, Witness, definition, node, publish, start

WAIT_S = 60


def until(condition, what):
    """The first true value of condition(); fails after WAIT_S seconds."""
    deadline = time.monotonic() + WAIT_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    process = Server(tmp_path_factory.mktemp("triggers"), mock_config(mock, ALLOW))
    echo = definition([start(("query", "string"), ("tone", "string")),
                       node("say", "answer", text="{{ start.query }}/{{ start.tone or '' }}/{{ sys.session }}")], [("start", "say")])
    publish(process, "echo", echo)
    person = definition([start(), node("ask", "human", text="Well?", actions=[{"id": "yes"}]),
                         node("done", "end", outputs=[{"name": "said", "value": "start.query"}])],
                        [("start", "ask"), ("ask", "yes", "done")])
    publish(process, "person", person)
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def hook(server, body, path="echo/catch/ann", key=None):
    status, _, answer = server.request("POST", f"/hook/{path}", body, key=False,
                                       headers={"Apikey": f"Api-Key {key or server.key}"})
    return status, answer


# ---- Vext's hook ----

def test_hook_answers_in_its_shape(server):
    assert hook(server, {"payload": "Hi", "custom_variables": {"tone": "short"}}) == (200, {"text": "Hi/short/ann", "citation": {}})
    assert hook(server, {"payload": "Hi", "env": "production"}, "echo/catch/bob") == (200, {"text": "Hi//bob", "citation": {}})


def test_hook_refuses_in_its_shape(server):
    for body, path, key, status in [({"payload": "x"}, "echo/catch/a", "cap_wrong", 401), ({}, "echo/catch/a", None, 400),
                                    ({"payload": "x"}, "nobody/catch/a", None, 404),
                                    ({"payload": "x", "env": "staging"}, "echo/catch/a", None, 404),
                                    ({"payload": "x", "custom_variables": {"nonsense": 1}}, "echo/catch/a", None, 400),
                                    ({"request_id": "run_1"}, "echo/catch/a", None, 404), (b"{", "echo/catch/a", None, 400)]:
        got, answer = hook(server, body, path, key)
        assert got == status and list(answer) == ["detail"] and answer["detail"], (body, path, got, answer)


def test_hook_long_polling(server):
    status, first = hook(server, {"payload": "later", "long_polling": True}, "person/catch/ann")
    assert status == 200 and first["request_id"].startswith("run_")
    waiting = until(lambda: [i for i in server.get("/api/inbox")["items"] if i["run"] == first["request_id"]], "the form")
    server.post(f"/api/runs/{waiting[0]['run']}/input", {"path": waiting[0]["path"], "action": "yes"})
    again = {"payload": "", "long_polling": True, "request_id": first["request_id"]}
    assert hook(server, again, "person/catch/ann") == (200, {"text": "later", "citation": {}})
    assert hook(server, again, "person/catch/bob")[0] == 404, "another channel does not see it"
    assert server.get("/api/runs?pipeline=person")["items"][0]["trigger"] == "hook"


# ---- webhooks that come in ----

def trigger(server, expect=201, **body):
    return server.post("/api/triggers", body, expect=expect)


def sign(secret, body, id="msg_1", at=None):
    """Headers as Standard Webhooks say."""
    at = str(int(at or time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": "v1,bm8= v1," + signature}


def knock(server, made, body, headers, expect=200):
    path = made["address"].removeprefix(server.url)
    status, _, answer = server.request("POST", path, body, key=False, headers=headers)
    assert status == expect, (status, answer)
    return answer


def test_webhook_signature_map_and_wait(server):
    made = trigger(server, kind="webhook", pipeline="echo", wait=True, session="body.user.id",
                   map={"query": "body.issue.title + '!'", "tone": "headers.x-tone"})
    assert made["secret"].startswith("whsec_") and made["address"].endswith("/webhook/" + made["id"])
    body = json.dumps({"issue": {"title": "Broken"}, "user": {"id": "u1"}}).encode()
    answer = knock(server, made, body, {**sign(made["secret"], body), "x-tone": "calm"})
    assert (answer["status"], answer["text"], answer["trigger"]) == ("succeeded", "Broken!/calm/u1", "webhook")
    github = {"x-hub-signature-256": "sha256=" + hmac.new(base64.b64decode(made["secret"][6:]), body, hashlib.sha256).hexdigest()}
    assert knock(server, made, body, github)["text"] == "Broken!//u1"
    knock(server, made, body + b" ", sign(made["secret"], body), expect=401)
    knock(server, made, body, sign(made["secret"], body, at=time.time() - 3600), expect=401)
    knock(server, made, body, {}, expect=401)
    shown = server.get("/api/triggers/" + made["id"])
    assert made["secret"] not in json.dumps(shown)
    renewed = server.request("PATCH", "/api/triggers/" + made["id"], {"secret": None})[2]
    assert renewed["secret"].startswith("whsec_") and renewed["secret"] != made["secret"]
    knock(server, made, body, sign(made["secret"], body), expect=401)
    knock(server, made, body, sign(renewed["secret"], body))
    assert server.request("PATCH", "/api/triggers/" + made["id"], {"paused": True})[0] == 200
    knock(server, made, body, sign(renewed["secret"], body), expect=404)
    assert server.request("DELETE", "/api/triggers/" + made["id"])[0] == 204
    knock(server, made, body, sign(renewed["secret"], body), expect=404)


def test_webhook_token_async_and_limit(server):
    secret = "a secret of many letters"
    made = trigger(server, kind="webhook", pipeline="echo", check="token", secret=secret, requests_per_minute=3)
    started = knock(server, made, {"query": "Hi"}, {"authorization": "Bearer " + secret}, expect=202)
    until(lambda: server.get("/api/runs/" + started["id"])["status"] == "succeeded", "the run")
    knock(server, made, {"query": "Hi"}, {"x-webhook-token": "wrong"}, expect=401)
    answers = [server.request("POST", "/webhook/" + made["id"], {"query": "Hi"}, key=False, headers={"x-webhook-token": secret})[0] for _ in range(8)]
    assert answers.count(429) >= 1 and set(answers) <= {202, 429}


def test_what_is_wrong_in_a_trigger_is_told(server):
    for body, field in [({"kind": "dream"}, "kind"), ({}, "kind"), ({"kind": "schedule"}, "cron"),
                        ({"kind": "schedule", "cron": "61 * * * *"}, "cron"),
                        ({"kind": "schedule", "cron": "@daily", "time_zone": "Europe/Nowhere"}, "time_zone"),
                        ({"kind": "webhook", "map": {"query": "body."}}, "map"), ({"kind": "webhook", "secret": "short"}, "secret"),
                        ({"kind": "schedule", "cron": "@daily", "pipeline": "nobody"}, "pipeline"),
                        ({"kind": "schedule", "cron": "@daily", "nonsense": 1}, "nonsense")]:
        error = trigger(server, expect=400, **{"pipeline": "echo", **body})["error"]
        assert error["field"] == field, (body, error)


# ---- told when a run has ended ----

class Listener(Witness):
    """Notes headers and bodies; refuses the first `refuse` messages."""

    def __init__(self, refuse=0):
        self.messages, self.refuse = [], refuse
        super().__init__()
        listener, handler = self, self.server.RequestHandlerClass

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            listener.messages.append((dict(self.headers), body))
            self.send_response(503 if len(listener.messages) <= listener.refuse else 204)
            self.send_header("content-length", "0")
            self.end_headers()

        handler.do_POST = do_POST


def test_webhook_when_done_is_signed_and_retried(server):
    listener = Listener(refuse=1)
    secret = "whsec_" + base64.b64encode(b"twenty-four bytes of key").decode()
    try:
        webhook = {"url": listener.url + "/done", "secret": secret}
        started = server.post("/api/pipelines/echo/runs", {"inputs": {"query": "Hi"}, "mode": "async", "webhook": webhook}, expect=202)
        until(lambda: len(listener.messages) >= 2, "the second attempt")
    finally:
        listener.close()
    for headers, body in listener.messages:
        head = {name.lower(): value for name, value in headers.items()}
        message = json.loads(body)
        assert head["webhook-id"] == started["id"] == message["data"]["id"]
        assert head["webhook-signature"] == sign(secret, body, head["webhook-id"], int(head["webhook-timestamp"]))["webhook-signature"].split()[1]
        assert message["type"] == "run.finished" and message["data"]["status"] == "succeeded" and "nodes" not in message["data"]
    jobs = until(lambda: [j for j in server.get("/api/jobs")["items"] if j["kind"] == "run_webhook" and j["state"] == "done"], "the job")
    assert secret not in json.dumps(jobs)


def test_webhook_when_done_needs_a_secret_and_a_public_address(tmp_path, mock, server):
    for webhook, field in [({"url": "ftp://example.com", "secret": "x" * 16}, "webhook.url"), ({"url": "https://example.com"}, "webhook.secret")]:
        error = server.post("/api/pipelines/echo/runs", {"mode": "async", "webhook": webhook}, expect=400)["error"]
        assert error["field"] == field
    closed = Server(tmp_path, mock_config(mock))
    try:
        publish(closed, "plain", definition([start(), node("say", "answer", text="x")], [("start", "say")]))
        closed.post("/api/pipelines/plain/runs", {"mode": "async", "webhook": {"url": mock.url, "secret": "x" * 16}}, expect=202)
        job = until(lambda: [j for j in closed.get("/api/jobs")["items"] if j["error"]], "the refusal")[0]
        assert "public" in job["error"], job
    finally:
        closed.stop()


# ---- schedules ----

def test_schedule_is_shown_paused_and_run_by_hand(server):
    made = trigger(server, kind="schedule", pipeline="echo", title="Night", cron="30 2 * * *", time_zone="UTC", inputs={"query": "by night"}, session="s")
    assert made["next_at"].endswith("T02:30:00.000Z") and made["next_runs"][0] == made["next_at"].replace(".000", "") and len(made["next_runs"]) == 5
    assert made["fired"] == 0 and made["last_at"] is None
    fired = server.post(f"/api/triggers/{made['id']}/run", None, expect=202)
    whole = until(lambda: (lambda a: a[0] == 200 and a[2]["status"] == "succeeded" and a[2])(server.request("GET", "/api/runs/" + fired["run"])), "the run")
    assert (whole["text"], whole["trigger"]) == ("by night//s", "schedule")
    paused = server.request("PATCH", "/api/triggers/" + made["id"], {"paused": True})[2]
    assert paused["next_at"] is None and paused["paused"] is True
    resumed = server.request("PATCH", "/api/triggers/" + made["id"], {"paused": False, "cron": "@hourly"})[2]
    assert resumed["next_at"].endswith(":00:00.000Z")
    assert made["id"] in [t["id"] for t in server.get("/api/triggers?pipeline=echo&kind=schedule")["items"]]
    assert server.get("/api/triggers?pipeline=nobody")["items"] == []
    preview = server.post("/api/triggers/preview", {"cron": "0 9 * * *", "time_zone": "UTC"})
    assert all(t.endswith("T09:00:00Z") for t in preview["next_runs"])


def test_deleting_a_pipeline_takes_its_triggers(server):
    publish(server, "gone", definition([start(), node("say", "answer", text="x")], [("start", "say")]))
    made = trigger(server, kind="schedule", pipeline="gone", cron="@daily")
    assert server.request("DELETE", "/api/pipelines/gone")[0] in (200, 204)
    assert server.request("GET", "/api/triggers/" + made["id"])[0] == 404


def test_each_time_fires_once_over_kill_and_restart(tmp_path, mock):
    """The database says that times have passed; the server is killed again and again while it makes good."""
    process = Server(tmp_path, mock_config(mock))
    publish(process, "tick", definition([start(), node("say", "answer", text="{{ sys.run_id }}")], [("start", "say")]))
    made = trigger(process, kind="schedule", pipeline="tick", cron="* * * * *", missed="all", overlap="allow")
    key = process.key
    process.stop()
    for minutes in (7, 5, 9):
        with sqlite3.connect(tmp_path / "data" / "control.db") as db:
            (due,) = db.execute("SELECT next_ns FROM trigger_times").fetchone()
            db.execute("UPDATE trigger_times SET next_ns = ?", (due - minutes * 60 * 10**9,))
        for _ in range(2):
            process = Server(tmp_path, config=None, key=key)
            process.stop(kill=True)
    process = Server(tmp_path, config=None, key=key)
    try:
        def settled():
            jobs = [j for j in process.get("/api/jobs?limit=1000")["items"] if j["kind"] == "pipeline_run"]
            return jobs if all(j["state"] == "done" for j in jobs) else None
        until(lambda: process.get("/api/triggers/" + made["id"])["fired"] > 0, "the first time")
        jobs = until(settled, "the jobs")
        shown = process.get("/api/triggers/" + made["id"])
        jobs = until(settled, "the jobs")
        assert len(jobs) >= shown["fired"] >= 20, (len(jobs), shown)
        runs = process.get("/api/runs?pipeline=tick&limit=1000")["items"]
        until(lambda: all(r["status"] == "succeeded" for r in process.get("/api/runs?pipeline=tick&limit=1000")["items"]), "the runs")
        assert sorted(r["id"][4:] for r in runs) == sorted(j["id"][4:] for j in jobs), "each job made its one run"
    finally:
        process.stop()


# ---- MCP ----

def test_mcp_client_lists_and_calls_pipelines(server):
    import anyio
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    shout = definition([{"id": "start", "type": "start", "config": {"inputs": [
                            {"name": "text", "type": "string", "title": "What to shout", "required": True},
                            {"name": "times", "type": "number", "default": 1}]}},
                        node("say", "template", text="{{ (start.text | upper) * start.times }}"),
                        node("done", "end", outputs=[{"name": "shouted", "value": "say.output"}])],
                       [("start", "say"), ("say", "done")], description="Shouts", settings={"mcp": True})
    publish(server, "shout", shout)

    async def talk():
        async with httpx2.AsyncClient(headers={"authorization": "Bearer " + server.key}, timeout=WAIT_S) as http:
            async with Client(streamable_http_client(server.url + "/mcp", http_client=http)) as client:
                tools = {tool.name: tool for tool in (await client.list_tools()).tools}
                good = await client.call_tool("shout", {"text": "ho", "times": 2})
                bad = await client.call_tool("shout", {"times": 2})
                return tools, good, bad

    tools, good, bad = anyio.run(talk)
    assert list(tools) == ["shout"], "only those whose settings say so"
    schema = tools["shout"].input_schema
    assert tools["shout"].description == "Shouts" and schema["required"] == ["text"]
    assert schema["properties"]["text"] == {"type": "string", "title": "What to shout"}
    assert (good.is_error, good.content[0].text, good.structured_content) == (False, "HOHO", {"shouted": "HOHO"})
    assert bad.is_error and "text" in bad.content[0].text
    assert server.get("/api/runs?pipeline=shout")["items"][0]["trigger"] == "mcp"


def test_mcp_refuses_in_json_rpc(server):
    def send(body, key=None):
        status, _, answer = server.request("POST", "/mcp", body, key=key)
        return status, answer
    assert send({"jsonrpc": "2.0", "id": 1, "method": "ping"}, key="cap_wrong")[0] == 401
    assert send(b"{")[1]["error"]["code"] == -32700
    assert send({"id": 1})[1]["error"]["code"] == -32600
    assert send({"jsonrpc": "2.0", "id": 1, "method": "resources/list"})[1]["error"]["code"] == -32601
    assert send({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "echo"}})[1]["error"]["code"] == -32602
    assert send({"jsonrpc": "2.0", "method": "notifications/initialized"})[0] == 202
    old = send({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}})[1]
    assert old["id"] == 1 and old["result"]["protocolVersion"] == "2025-06-18"
    assert server.request("GET", "/mcp")[0] == 405


# ---- what is said about answers ----

def test_feedback_on_runs_and_calls(server):
    made = server.post("/api/pipelines/echo/runs", {"inputs": {"query": "Hi"}})
    first = server.post("/api/feedback", {"id": made["id"], "value": "up", "comment": "good"}, expect=201)
    assert (first["target"], first["type"], first["value"], first["comment"], first["source"]) == ("run", "boolean", True, "good", "api")
    again = server.post("/api/feedback", {"id": made["id"], "value": "down", "corrected": "Ho"}, expect=201)
    assert (again["id"], again["value"], again["corrected"], again["comment"]) == (first["id"], False, "Ho", None), "said anew"
    server.post("/api/feedback", {"id": made["id"], "name": "length", "value": 0.25}, expect=201)
    listed = server.get("/api/feedback?id=" + made["id"])["items"]
    assert {(s["name"], s["value"]) for s in listed} == {("feedback", False), ("length", 0.25)}
    status, _, answer = server.request("POST", "/v1/chat/completions", {"model": "smart", "messages": [{"role": "user", "content": "x"}]})
    assert status == 200, answer
    call = server.last_call()["id"]
    assert server.post("/api/feedback", {"id": call, "value": "helpful"}, expect=201)["type"] == "categorical"
    for body, field, status in [({"id": call}, "value", 400), ({"id": "x", "value": 1}, "id", 400), ({"id": made["id"], "value": []}, "value", 400),
                                ({"id": "run_" + "0" * 26, "value": 1}, "id", 404)]:
        assert server.post("/api/feedback", body, expect=status)["error"]["field"] == field
    assert server.request("DELETE", "/api/feedback/" + first["id"])[0] == 204
    assert [s["name"] for s in server.get("/api/feedback?id=" + made["id"])["items"]] == ["length"]


def test_langfuse_scores_are_kept(server):
    made = server.post("/api/pipelines/echo/runs", {"inputs": {"query": "Hi"}})
    trace = made["trace_id"]
    one = server.post("/api/public/scores", {"id": "mine", "traceId": trace, "name": "quality", "value": 0.5, "comment": "so so"})
    assert one == {"id": "mine"}
    batch = {"batch": [{"id": "e1", "type": "score-create", "timestamp": "2026-11-24T00:00:00Z",
                        "body": {"traceId": trace, "name": "tone", "value": "warm", "dataType": "CATEGORICAL"}},
                       {"id": "e2", "type": "score-create", "body": {"name": "no trace", "value": 1}},
                       {"id": "e3", "type": "trace-create", "body": {}}]}
    answer = server.post("/api/public/ingestion", batch, expect=207)
    assert [e["id"] for e in answer["successes"]] == ["e1"] and [(e["id"], e["status"]) for e in answer["errors"]] == [("e2", 400), ("e3", 501)]
    listed = server.get(f"/api/public/v2/scores?traceId={trace}")
    assert {(s["name"], s["dataType"]) for s in listed["data"]} == {("quality", "NUMERIC"), ("tone", "CATEGORICAL")}
    assert server.get("/api/public/v2/scores/mine")["value"] == 0.5
    ours = server.get(f"/api/feedback?id={made['id']}&trace={trace}")["items"]
    assert {(s["name"], s["value"], s["source"]) for s in ours} == {("quality", 0.5, "langfuse"), ("tone", "warm", "langfuse")}
    assert server.request("DELETE", "/api/public/scores/mine")[0] == 204
    assert server.request("GET", "/api/public/v2/scores/mine")[0] == 404
