"""Pipelines from outside: drawn, checked, published, called by the management interface, by the unmodified
OpenAI SDK as a model, and taken up again after kill -9."""
import http.server
import json
import threading
import time

import pytest
from openai import OpenAI

from conftest import Server, mock_config


def edges(*pairs):
    """("a", "b") or ("a", "port", "b")"""
    return [{"from": p[0], "to": p[-1], **({"port": p[1]} if len(p) == 3 else {})} for p in pairs]


def start(*inputs):
    return {"id": "start", "type": "start",
            "config": {"inputs": [{"name": n, "type": t} for n, t in inputs or [("query", "string")]]}}


def node(id, type, **config):
    outer = {k: config.pop(k) for k in ("parent", "retry", "on_error", "default", "timeout_ms", "title") if k in config}
    return {"id": id, "type": type, "config": config, **outer}


def llm(id, content, model="smart", **more):
    return node(id, "llm", model=model, messages=[{"role": "user", "content": content}], **more)


def definition(nodes, links, **more):
    return {"schema": 1, "nodes": nodes, "edges": edges(*links), **more}


def publish(server, name, document, labels=("production",)):
    status, _, body = server.request("POST", "/api/pipelines", {"name": name, "definition": document})
    assert status == 201, body
    assert body["problems"] == [], body["problems"]
    return server.post(f"/api/pipelines/{name}/publish", {"message": "test", "labels": list(labels)})


def run(server, name, expect=200, **body):
    return server.post(f"/api/pipelines/{name}/runs", body, expect=expect)


class Witness:
    """A service outside that notes every request it got."""

    def __init__(self):
        self.seen, self.hold, self.broken = [], threading.Event(), set()
        self.hold.set()
        witness = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                witness.seen.append((self.command, self.path, self.headers.get("idempotency-key"), body.decode()))
                if "held" in self.path:
                    witness.hold.wait(20)
                text = json.dumps({"path": self.path, "n": len(witness.seen)}).encode()
                try:
                    self.send_response(500 if "fail" in self.path or self.path in witness.broken else 200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:
                    pass

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.hold.set()
        self.server.shutdown()


@pytest.fixture(scope="module")
def witness():
    witness = Witness()
    yield witness
    witness.close()


ALLOW = 'pipelines: { http_allow: ["127.0.0.1:*"] }\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    process = Server(tmp_path_factory.mktemp("server"), mock_config(mock, ALLOW))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


@pytest.fixture
def client(server):
    return OpenAI(base_url=server.url + "/v1", api_key=server.key)


CHAT = definition([start(), llm("ask", "{{ start.query }}", model="mock/gpt-mock?event_delay=2ms"), node("say", "answer", text="Answer: {{ ask.text }}.")],
                  [("start", "ask"), ("ask", "say")])


def test_draft_tells_what_is_wrong_and_cannot_be_published(server):
    bad = definition([start(), llm("ask", "{{ nobody.text }}")], [("start", "ask")])
    body = server.post("/api/pipelines", {"name": "bad", "definition": bad}, expect=201)
    assert [p["code"] for p in body["problems"] if p["severity"] == "error"] == ["unknown_variable"]
    problem = [p for p in body["problems"] if p["severity"] == "error"][0]
    assert (problem["node"], problem["field"]) == ("ask", "messages[0].content")
    server.post("/api/pipelines/bad/publish", {}, expect=400)


def test_run_and_look_at_it(server):
    publish(server, "chat", CHAT)
    answer = run(server, "chat", inputs={"query": "How are you?"})
    assert answer["status"] == "succeeded" and answer["text"].startswith("Answer: ")
    assert answer["usage"]["output_tokens"] > 0
    whole = server.get("/api/runs/" + answer["id"])
    assert [(n["node"], n["status"]) for n in whole["nodes"]] == [("start", "done"), ("ask", "done"), ("say", "done")]
    call = server.get("/api/calls/" + whole["nodes"][1]["outputs"]["usage"]["call_id"])
    assert call["trace_id"] == answer["trace_id"]
    listed = server.get("/api/runs?pipeline=chat&status=succeeded")["items"]
    assert listed[0]["id"] == answer["id"]
    assert run(server, "chat", inputs={"nonsense": 1}, expect=400)["error"]["field"] == "inputs"


def test_openai_sdk_calls_it_as_a_model(server, client):
    assert "pipeline/chat" in [model.id for model in client.models.list()]
    whole = client.chat.completions.create(model="pipeline/chat", messages=[{"role": "user", "content": "Hello"}])
    assert whole.choices[0].message.content.startswith("Answer: ")
    pieces = [chunk.choices[0].delta.content or ""
              for chunk in client.chat.completions.create(model="pipeline/chat@production", stream=True,
                                                          messages=[{"role": "user", "content": "Hello"}])
              if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([p for p in pieces if p]) > 3, "the model's pieces are passed on as they come"


def read_events(server, path, body=None, headers=None):
    import urllib.request
    request = urllib.request.Request(server.url + path, data=json.dumps(body).encode() if body is not None else None)
    request.add_header("authorization", f"Bearer {server.key}")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    name = number = None
    with urllib.request.urlopen(request, timeout=30) as answer:
        for line in answer:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:]), number


def test_events_of_a_run(server):
    events = list(read_events(server, "/api/pipelines/chat/runs", {"inputs": {"query": "Hi"}, "mode": "stream"}))
    names = [name for name, _, _ in events]
    assert names[0] == "run_started" and names[-1] == "run_finished"
    text = "".join(data["text"] for name, data, _ in events if name == "text")
    assert text == events[-1][1]["text"]
    finished = [data["node"] for name, data, _ in events if name == "node_finished"]
    assert finished == ["start", "ask", "say"]
    again = list(read_events(server, f"/api/runs/{events[-1][1]['id']}/events"))
    assert again[-1][0] == "run_finished" and again[-1][1]["text"] == text


def test_branches_lists_iteration_and_loop(server):
    document = definition(
        [start(("items", "array"), ("n", "number")),
         node("big", "list", list="start.items", filter="item > 1", sort_by="item", order="descending"),
         node("each", "iteration", list="big.result", output="double.output", parallel=2),
         node("double", "template", parent="each", text="{{ each.item * 2 }}"),
         node("turn", "loop", rounds=10, until="turn.n >= 5",
              variables=[{"name": "n", "value": "start.n", "type": "number"}]),
         node("up", "assigner", parent="turn", assignments=[{"variable": "turn.n", "operation": "add", "value": "2"}]),
         node("which", "if_else", cases=[{"id": "yes", "when": "turn.n > 5"}]),
         node("more", "template", text="more"), node("less", "template", text="less"),
         node("join", "aggregator", values=["more.output", "less.output"]),
         node("done", "end", outputs=[{"name": "list", "value": "each.output"}, {"name": "n", "value": "turn.n"},
                                      {"name": "rounds", "value": "turn.rounds"}, {"name": "word", "value": "join.output"}])],
        [("start", "big"), ("big", "each"), ("each", "turn"), ("turn", "which"), ("which", "yes", "more"),
         ("which", "else", "less"), ("more", "join"), ("less", "join"), ("join", "done")])
    publish(server, "flow", document)
    answer = run(server, "flow", inputs={"items": [1, 3, 2], "n": 0})
    assert answer["status"] == "succeeded", answer
    assert answer["outputs"] == {"list": ["6", "4"], "n": 6, "rounds": 3, "word": "more"}
    assert run(server, "flow", inputs={"items": [], "n": 1})["outputs"] == {"list": [], "n": 5, "rounds": 2, "word": "less"}
    paths = [n["path"] for n in server.get("/api/runs/" + answer["id"])["nodes"]]
    assert "each#0/double" in paths and "turn#2/up" in paths


def test_errors_default_branch_and_retry(server, witness):
    fail = node("call", "http", url=witness.url + "/fail", retry={"max": 2, "interval_ms": 10})
    tail = [node("say", "answer", text="{{ call.body }}|{{ call.error_code }}")]
    publish(server, "stops", definition([start(), fail, *tail], [("start", "call"), ("call", "say")]))
    before = len(witness.seen)
    answer = run(server, "stops")
    assert answer["status"] == "failed" and answer["error"]["node"] == "call"
    assert len(witness.seen) == before + 3
    publish(server, "defaults", definition([start(), {**fail, "on_error": "default", "default": {"body": "sorry"}}, *tail],
                                           [("start", "call"), ("call", "say")]))
    assert run(server, "defaults")["text"] == "sorry|upstream_error"
    publish(server, "branches", definition(
        [start(), {**fail, "on_error": "branch"}, *tail, node("oops", "answer", text="oops: {{ call.error_message }}")],
        [("start", "call"), ("call", "say"), ("call", "error", "oops")]))
    assert run(server, "branches")["text"] == "oops: the service answered with status 500"


def test_addresses_that_are_not_public_are_refused(tmp_path, mock, witness):
    server = Server(tmp_path, mock_config(mock))
    try:
        publish(server, "inward", definition([start(), node("call", "http", url=witness.url + "/x"),
                                              node("say", "answer", text="{{ call.body }}")],
                                             [("start", "call"), ("call", "say")]))
        before = len(witness.seen)
        answer = run(server, "inward")
        assert answer["status"] == "failed" and len(witness.seen) == before
    finally:
        server.stop()


def test_pipeline_in_a_pipeline(server):
    publish(server, "outer", definition(
        [start(), node("inner", "pipeline", pipeline="chat", inputs=[{"name": "query", "value": "start.query"}]),
         node("say", "answer", text="[{{ inner.text }}]")],
        [("start", "inner"), ("inner", "say")]))
    assert run(server, "outer", inputs={"query": "Hi"})["text"].startswith("[Answer: ")


HUMAN = definition(
    [start(), node("check", "human", text="May {{ start.query }} go out?",
                   actions=[{"id": "approve"}, {"id": "reject"}], fields=[{"name": "comment", "type": "string"}]),
     node("yes", "answer", text="sent: {{ check.comment }}"), node("no", "answer", text="kept"),
     node("late", "answer", text="late")],
    [("start", "check"), ("check", "approve", "yes"), ("check", "reject", "no"), ("check", "timeout", "late")])


def wait_for(what, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come")


def reaches(server, id, status):
    """The run once it has that status. Whoever was told its id finds it at any moment."""
    def look():
        answer = server.get(f"/api/runs/{id}")
        return answer["status"] == status and answer
    return wait_for(look, 60)


def test_a_run_is_found_at_any_moment(tmp_path, mock):
    """Just ended and not yet in the journal; waiting; and from the first answer of the next process on."""
    server = Server(tmp_path, mock_config(mock))
    publish(server, "quick", definition([start(), node("say", "answer", text="Hi")], [("start", "say")]))
    publish(server, "human", HUMAN)
    try:
        for _ in range(200):
            assert server.get("/api/runs/" + run(server, "quick")["id"])["text"] == "Hi"
        waiting = [run(server, "human", mode="async", expect=202)["id"] for _ in range(200)]
        assert {server.get("/api/runs/" + id)["id"] for id in waiting} == set(waiting)
    finally:
        server.stop(kill=True)
    server = Server(tmp_path, mock_config(mock), key=server.key)
    try:
        assert {server.get("/api/runs/" + id)["id"] for id in waiting} == set(waiting)
        assert reaches(server, waiting[-1], "waiting")
    finally:
        server.stop()


def test_human_input_survives_kill_9(tmp_path, mock):
    server = Server(tmp_path, mock_config(mock))
    publish(server, "human", HUMAN)
    started = run(server, "human", inputs={"query": "this"}, mode="async", expect=202)
    form = wait_for(lambda: server.get("/api/inbox")["items"])[0]
    assert form["form"]["text"] == "May this go out?" and form["run"] == started["id"]
    key = server.key
    server.stop(kill=True)
    server = Server(tmp_path, mock_config(mock), key=key)
    try:
        form = wait_for(lambda: server.get("/api/inbox")["items"])[0]
        reaches(server, started["id"], "waiting")
        path = f"/api/runs/{started['id']}/input"
        server.post(path, {"action": "nothing"}, expect=400)
        server.post(path, {"path": form["path"], "action": "approve", "values": {"comment": "fine"}})
        done = reaches(server, started["id"], "succeeded")
        assert done["text"] == "sent: fine"
        server.post(path, {"action": "approve"}, expect=409)
        assert server.get("/api/inbox")["items"] == []
    finally:
        server.stop()


def test_a_run_goes_on_after_kill_9(tmp_path, mock, witness):
    """What had a result is not done again; a request under way with an idempotency key is sent again under the same
    key; one without is not."""
    server = Server(tmp_path, mock_config(mock, ALLOW))
    steps = [start(), node("first", "http", method="POST", url=witness.url + "/first", idempotency_key=True),
             node("second", "http", method="POST", url=witness.url + "/held-2", idempotency_key=True),
             node("say", "answer", text="{{ first.json.path }} {{ second.json.path }}")]
    publish(server, "keyed", definition(steps, [("start", "first"), ("first", "second"), ("second", "say")]))
    bare = [start(), node("only", "http", method="POST", url=witness.url + "/held-3"), node("say", "answer", text="x")]
    publish(server, "bare", definition(bare, [("start", "only"), ("only", "say")]))
    key, before = server.key, len(witness.seen)
    witness.hold.clear()
    first = run(server, "keyed", mode="async", expect=202)["id"]
    second = run(server, "bare", mode="async", expect=202)["id"]
    wait_for(lambda: {"/held-2", "/held-3"} <= {seen[1] for seen in witness.seen[before:]} or None)
    server.stop(kill=True)
    witness.hold.set()
    server = Server(tmp_path, mock_config(mock, ALLOW), key=key)
    try:
        done = reaches(server, first, "succeeded")
        assert done["text"] == "/first /held-2"
        failed = reaches(server, second, "failed")
        assert "not sent again" in failed["error"]["message"]
        seen = witness.seen[before:]
        assert [s[1] for s in seen].count("/first") == 1 and [s[1] for s in seen].count("/held-3") == 1
        keys = {s[2] for s in seen if s[1] == "/held-2"}
        assert len([s for s in seen if s[1] == "/held-2"]) == 2 and len(keys) == 1 and None not in keys
    finally:
        server.stop()


def test_retry_from_the_failed_node_and_fork(server, witness):
    steps = [start(), node("first", "http", method="POST", url=witness.url + "/once", body_type="text", body="{{ start.query }}"),
             node("which", "if_else", cases=[{"id": "yes", "when": "start.query == 'b'"}]),
             node("shaky", "http", method="POST", url=witness.url + "/shaky"),
             node("say", "answer", text="{{ start.query }}: {{ first.json.path }} {{ shaky.json.path }}"),
             node("other", "answer", text="b: {{ first.json.path }}")]
    publish(server, "shaky", definition(steps, [("start", "first"), ("first", "which"), ("which", "else", "shaky"),
                                                ("which", "yes", "other"), ("shaky", "say")]))
    before = len(witness.seen)
    witness.broken = {"/shaky"}
    failed = run(server, "shaky", inputs={"query": "a"})
    assert failed["status"] == "failed" and failed["error"]["node"] == "shaky"
    witness.broken = set()
    again = server.post(f"/api/runs/{failed['id']}/retry", {})
    assert again["status"] == "succeeded" and again["text"] == "a: /once /shaky" and again["origin"] == failed["id"]
    assert [seen[1] for seen in witness.seen[before:]] == ["/once", "/shaky", "/shaky"], "what was done stands"
    server.post(f"/api/runs/{again['id']}/retry", {}, expect=409)
    forked = server.post(f"/api/runs/{again['id']}/fork",
                         {"from": "say", "values": {"first": {"json": {"path": "edited"}}}})
    assert forked["text"] == "a: edited /shaky" and len(witness.seen) == before + 3
    forked = server.post(f"/api/runs/{again['id']}/fork", {"from": "which", "values": {"start": {"query": "b"}}})
    assert forked["text"] == "b: /once" and len(witness.seen) == before + 3
    forked = server.post(f"/api/runs/{again['id']}/fork", {"from": "first"})
    assert forked["text"] == "a: /once /shaky" and len(witness.seen) == before + 5
    assert server.get("/api/runs/" + forked["id"])["trigger"] == "fork"
    for body, field in ({"from": "nobody"}, "from"), ({"values": {"nobody": {}}}, "values.nobody"):
        assert server.post(f"/api/runs/{again['id']}/fork", body, expect=400)["error"]["field"] == field


def test_one_node_alone(server, witness):
    steps = [start(), node("first", "http", url=witness.url + "/never"),
             node("each", "iteration", list="first.json", output="word.output"),
             node("word", "template", parent="each", text="{{ start.query }} {{ first.status_code }} {{ each.item }} {{ each.index }}"),
             node("say", "answer", text="{{ first.json.path }}!")]
    publish(server, "alone", definition(steps, [("start", "first"), ("first", "each"), ("each", "say")]))
    before = len(witness.seen)
    alone = lambda node, expect=200, **body: server.post(f"/api/pipelines/alone/nodes/{node}/run", body, expect=expect)
    outputs = lambda answer, node: [n["outputs"] for n in answer["nodes"] if n["node"] == node][-1]
    answer = alone("say", values={"first": {"json": {"path": "pinned"}}})
    assert answer["status"] == "succeeded" and outputs(answer, "say") == {"text": "pinned!"}
    values = {"start": {"query": "q"}, "first": {"status_code": 7, "json": ["x", "y"]}, "each": {"item": "one", "index": 4}}
    assert outputs(alone("word", values=values), "word") == {"output": "q 7 one 4"}
    assert outputs(alone("each", values=values), "each")["output"] == ["q 7 x 0", "q 7 y 1"]
    assert len(witness.seen) == before
    alone("nobody", expect=404)


COUNTING = definition(
    [start(), node("count", "assigner", assignments=[{"variable": "conversation.n", "operation": "add", "value": "1"}]),
     llm("ask", "{{ start.query }}", memory={"window": 2}),
     node("done", "end", outputs=[{"name": "n", "value": "conversation.n"}, {"name": "call", "value": "ask.usage.call_id"}])],
    [("start", "count"), ("count", "ask"), ("ask", "done")],
    variables={"conversation": [{"name": "n", "type": "number", "value": 0}]})


def test_sessions_keep_variables_and_memory(tmp_path, mock):
    server = Server(tmp_path, mock_config(mock))
    publish(server, "counting", COUNTING)
    say = lambda query, session: run(server, "counting", inputs={"query": query}, **({"session": session} if session else {}))
    asked = lambda answer: [m["content"] for m in json.loads(
        server.get("/api/calls/" + answer["outputs"]["call"])["request"]["body"])["messages"] if m["role"] == "user"]
    try:
        assert [say("one", "s")["outputs"]["n"], say("two", "s")["outputs"]["n"]] == [1, 2]
        assert say("one", "other")["outputs"]["n"] == 1
        assert [say("x", None)["outputs"]["n"], say("x", None)["outputs"]["n"]] == [1, 1]
        results, threads = [], []
        for i in range(12):
            threads.append(threading.Thread(target=lambda: results.append(say("more", "s")["outputs"]["n"])))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert sorted(results) == list(range(3, 15)), "runs of a session take turns"
    finally:
        server.stop(kill=True)
    server = Server(tmp_path, mock_config(mock), key=server.key)
    try:
        third = say("three", "other")
        assert third["outputs"]["n"] == 2 and asked(third) == ["one", "three"]
        fourth, fifth = say("four", "other"), say("five", "other")
        assert fourth["outputs"]["n"] == 3 and asked(fifth) == ["three", "four", "five"], "a window of two"
    finally:
        server.stop()


def test_runs_at_once_and_the_queue(server, witness):
    steps = [start(), node("call", "http", url=witness.url + "/held-limit"), node("say", "answer", text="{{ call.json.path }}")]
    publish(server, "narrow", definition(steps, [("start", "call"), ("call", "say")], settings={"limits": {"runs": 1, "queue": 1}}))
    witness.hold.clear()
    try:
        first = run(server, "narrow", mode="async", expect=202)["id"]
        wait_for(lambda: "/held-limit" in [seen[1] for seen in witness.seen])
        second = run(server, "narrow", mode="async", expect=202)["id"]
        reaches(server, second, "queued")
        assert "wait for their turn" in run(server, "narrow", expect=503)["error"]["message"]
    finally:
        witness.hold.set()
    assert reaches(server, first, "succeeded")["text"] == reaches(server, second, "succeeded")["text"] == "/held-limit"
    witness.hold.clear()
    try:
        first = run(server, "narrow", mode="async", expect=202)["id"]
        second = run(server, "narrow", mode="async", expect=202)["id"]
        reaches(server, second, "queued")
        server.post(f"/api/runs/{second}/cancel", {})
        server.post(f"/api/runs/{first}/cancel", {})
        third = run(server, "narrow", mode="async", expect=202)["id"]
        reaches(server, third, "running")
        server.post(f"/api/runs/{third}/cancel", {})
    finally:
        witness.hold.set()


def test_a_failed_run_starts_another_pipeline(server, witness):
    publish(server, "mend", definition([start(("run_id", "string"), ("message", "string")),
                                        node("say", "answer", text="{{ start.run_id }}: {{ start.message }}")], [("start", "say")]))
    publish(server, "breaks", definition([start(), node("call", "http", url=witness.url + "/fail"), node("say", "answer", text="x")],
                                         [("start", "call"), ("call", "say")], settings={"on_failure": "mend"}))
    failed = run(server, "breaks")
    assert failed["status"] == "failed"
    mended = wait_for(lambda: server.get("/api/runs?pipeline=mend&status=succeeded")["items"])[0]
    assert mended["trigger"] == "failure"
    whole = server.get("/api/runs/" + mended["id"])
    assert whole["origin"] == failed["id"] and whole["text"] == failed["id"] + ": the service answered with status 500"


def test_cancel(server):
    publish(server, "sleeper", definition([start(), node("nap", "wait", mode="time", duration_ms=600000),
                                           node("say", "answer", text="woke")], [("start", "nap"), ("nap", "say")]))
    id = run(server, "sleeper", mode="async", expect=202)["id"]
    reaches(server, id, "waiting")
    assert server.post(f"/api/runs/{id}/cancel", {})["status"] == "cancelled"
    reaches(server, id, "cancelled")
    server.post(f"/api/runs/{id}/cancel", {}, expect=409)


def test_versions_labels_and_roll_back(server):
    say = lambda text: definition([start(), node("say", "answer", text=text)], [("start", "say")])
    publish(server, "texts", say("one"))
    assert server.request("PUT", "/api/pipelines/texts/draft", {"definition": say("two"), "revision": 1})[0] == 200
    assert server.request("PUT", "/api/pipelines/texts/draft", {"definition": say("x"), "revision": 1})[0] == 409
    server.post("/api/pipelines/texts/publish", {"labels": ["dev"]})
    assert run(server, "texts")["text"] == "one"
    assert run(server, "texts", version="dev")["text"] == "two"
    assert run(server, "texts", version=2)["text"] == "two"
    assert run(server, "texts", version="draft")["text"] == "two"
    diff = server.get("/api/pipelines/texts/diff?from=1&to=2")
    assert [(n["id"], n["change"]) for n in diff["nodes"]] == [("say", "changed")]
    assert server.request("PUT", "/api/pipelines/texts/labels/production", {"version": 2})[0] == 200
    assert run(server, "texts")["text"] == "two"
    assert server.request("PUT", "/api/pipelines/texts/labels/production", {"version": 1})[0] == 200
    assert run(server, "texts")["text"] == "one"
