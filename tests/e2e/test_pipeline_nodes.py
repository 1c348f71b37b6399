"""Each type of node from outside: what it puts out, how its errors go on, what it may not do."""
import json
import urllib.parse

import pytest
from openai import OpenAI

from conftest import Server, mock_config
from test_pipelines import definition, llm, node, publish, run, start, reaches, wait_for

ECHO = "mock/gpt-mock?echo=1"  # says its last message again


def says(json_value):
    """A model that always says this."""
    return "mock/gpt-mock?text=" + urllib.parse.quote(json.dumps(json_value))


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    process = Server(tmp_path_factory.mktemp("server"), mock_config(mock))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def outputs(server, answer, name):
    """What a node of an ended run put out."""
    whole = reaches(server, answer["id"], answer["status"])
    return next(one for one in whole["nodes"] if one["node"] == name)["outputs"]


# ---- knowledge retrieval ----

def collection(server, name, **documents):
    """Each document: (text, attributes, tags)"""
    server.post("/api/collections", {"name": name, "encoder": "none", "ranking": {"mode": "text"}}, expect=201)
    for title, (text, attributes, tags) in documents.items():
        body = {"name": title, "text": text, "attributes": attributes, "tags": tags}
        status, _, answer = server.request("POST", f"/api/collections/{name}/documents", body)
        assert status in (201, 202), answer
    path = f"/api/collections/{name}/documents"
    wait_for(lambda: all(one["state"] == "ready" for one in server.get(path)["items"]), timeout_s=60)


@pytest.fixture(scope="module")
def library(server):
    collection(server, "ships", anchor=("An anchor holds the ship by its chain.", {"year": 2020}, []),
               capstan=("A capstan is a vertical winch that hauls the anchor chain.", {"year": 2024}, []),
               secret=("The anchor of the royal ship is made of gold.", {"year": 2024}, ["crew=captain"]))
    collection(server, "harbours", pier=("The pier of the harbour has an anchor place.", {"year": 2024}, []))
    return ["ships", "harbours"]


def find(name="find", **config):
    return node(name, "retrieval", **{"query": "{{ start.query }}", "collections": [{"name": "ships"}], **config})


def test_retrieval_finds_numbers_and_merges(server, library):
    publish(server, "find_two", definition(
        [start(), find(collections=[{"name": "ships"}, {"name": "harbours", "weight": 50}], k=3),
         node("done", "end", outputs=[{"name": "found", "value": "find.result"}, {"name": "text", "value": "find.text"}])],
        [("start", "find"), ("find", "done")]))
    out = run(server, "find_two", inputs={"query": "anchor"})["outputs"]
    assert [one["number"] for one in out["found"]] == [1, 2, 3]
    assert (out["found"][0]["collection"], out["found"][0]["document"]) == ("harbours", "pier"), "it weighs more"
    assert out["found"][0]["metadata"]["year"] == 2024
    assert {one["collection"] for one in out["found"]} == {"ships", "harbours"}
    assert out["text"].startswith("[1] pier\nThe pier of the harbour") and "\n\n[2] " in out["text"]


def test_retrieval_conditions_are_values_not_syntax(server, library):
    condition = [{"attribute": "year", "operator": "ge", "value": "start.year"},
                 {"attribute": "_name", "operator": "starts_with", "value": "start.name"}]
    publish(server, "find_where", definition(
        [start(("query", "string"), ("year", "any"), ("name", "any")), find(conditions=condition),
         node("done", "end", outputs=[{"name": "names", "value": "find.result"}])],
        [("start", "find"), ("find", "done")]))

    def names(**inputs):
        answer = run(server, "find_where", inputs={"query": "anchor", **inputs})
        assert answer["status"] == "succeeded", answer
        return {one["document"] for one in answer["outputs"]["names"]}

    assert names() == {"anchor", "capstan", "secret"}, "conditions without a value are left out"
    assert names(year=2021) == {"capstan", "secret"}
    assert names(year=2021, name="cap") == {"capstan"}
    assert names(name='x" or "1" == "1') == set()
    failed = run(server, "find_where", inputs={"query": "anchor", "year": {"a": 1}})
    assert failed["error"]["code"] == "invalid_field" and "compares with an object" in failed["error"]["message"]


def test_retrieval_sees_what_its_caller_may_see(server, library):
    publish(server, "find_mine", definition(
        [start(), find(), node("done", "end", outputs=[{"name": "names", "value": "find.result"}])],
        [("start", "find"), ("find", "done")]))

    def names(**key):
        made = server.post("/api/keys", {"name": "reader", "scopes": ["call", "read"], "models": ["*"], **key}, expect=201)
        answer = run_with(made["secret"])
        return {one["document"] for one in answer["outputs"]["names"]}

    def run_with(key):
        return server.post("/api/pipelines/find_mine/runs", {"inputs": {"query": "anchor"}}, key=key)

    assert names() == {"anchor", "capstan"}
    assert names(tags={"crew": "captain"}) == {"anchor", "capstan", "secret"}
    assert {one["document"] for one in run_with(server.key)["outputs"]["names"]} == {"anchor", "capstan", "secret"}


def test_citations_reach_the_caller(server, library):
    """Through a template and a model to the answer, the run and the OpenAI door."""
    publish(server, "ask_documents", definition(
        [start(), find(k=2, first_number=7), node("frame", "template", text="Use this:\n{{ find.text }}"),
         llm("ask", "{{ frame.output }}\n\nQ: {{ start.query }} It is in [8].", model=ECHO),
         node("say", "answer", text="{{ ask.text }}")],
        [("start", "find"), ("find", "frame"), ("frame", "ask"), ("ask", "say")]))
    answer = run(server, "ask_documents", inputs={"query": "anchor"})
    assert [(one["number"], one["cited"]) for one in answer["citations"]] == [(7, True), (8, True)], answer
    assert answer["citations"][0]["text"] and answer["citations"][0]["chunk_id"].startswith("chunk_")
    assert outputs(server, answer, "ask")["citations"] == answer["citations"]
    client = OpenAI(base_url=server.url + "/v1", api_key=server.key)
    called = client.chat.completions.create(model="pipeline/ask_documents", messages=[{"role": "user", "content": "anchor"}])
    assert [one["document"] for one in called.model_extra["citations"]] == [one["document"] for one in answer["citations"]]
    publish(server, "uncited", definition(
        [start(), find(k=1), node("say", "answer", text="{{ find.count }} found")], [("start", "find"), ("find", "say")]))
    assert [one["cited"] for one in run(server, "uncited", inputs={"query": "anchor"})["citations"]] == [False]


def test_retrieval_errors(server, library):
    missing = find(collections=[{"name": "ships"}, {"name": "nowhere"}])
    publish(server, "find_nowhere", definition([start(), missing, node("say", "answer", text="x")],
                                               [("start", "find"), ("find", "say")]))
    failed = run(server, "find_nowhere", inputs={"query": "anchor"})
    assert failed["status"] == "failed" and failed["error"]["message"].startswith("nowhere: "), failed
    publish(server, "find_or_not", definition(
        [start(), {**missing, "on_error": "default", "default": {"text": "nothing", "count": 0}},
         node("say", "answer", text="{{ find.text }} {{ find.error_code }}")], [("start", "find"), ("find", "say")]))
    assert run(server, "find_or_not", inputs={"query": "anchor"})["text"].startswith("nothing ")
    publish(server, "find_else", definition(
        [start(), {**missing, "on_error": "branch"}, node("say", "answer", text="x"),
         node("oops", "answer", text="oops")], [("start", "find"), ("find", "say"), ("find", "error", "oops")]))
    assert run(server, "find_else", inputs={"query": "anchor"})["text"] == "oops"


# ---- code ----

def need_code(server):
    """The interpreters and the walls; without them the node must say why."""
    answer = code_run(server, "need", "function main() { return { x: 1 }; }", "javascript", {})
    if answer["status"] == "failed" and answer["error"]["message"].startswith("code cannot run here"):
        pytest.skip(answer["error"]["message"])


def code(id, source, language="javascript", outputs=(("x", "any"),), **more):
    return node(id, "code", language=language, code=source, inputs=[{"name": "a", "value": "start.a"}],
                outputs=[{"name": n, "type": t} for n, t in outputs], **more)


def code_run(server, name, source, language, inputs, **more):
    status, _, _ = server.request("GET", f"/api/pipelines/{name}")
    document = definition([start(("a", "any")), code("do", source, language, **more),
                           node("done", "end", outputs=[{"name": "x", "value": "do.x"}, {"name": "log", "value": "do.log"}])],
                          [("start", "do"), ("do", "done")])
    if status == 404:
        publish(server, name, document)
    return run(server, name, inputs=inputs)


def test_code_in_both_languages(server):
    need_code(server)
    answer = code_run(server, "js", "function main({ a }) { console.log('got', a); return { x: a.map((n) => n * 2) }; }",
                      "javascript", {"a": [1, 2]}, outputs=[("x", "array")])
    assert answer["outputs"] == {"x": [2, 4], "log": "got [ 1, 2 ]\n"}, answer
    answer = code_run(server, "py", "def main(a):\n    return {'x': sum(a)}\n", "python", {"a": [1, 2]}, outputs=[("x", "number")])
    assert answer["outputs"]["x"] == 3, answer


def test_code_outputs_are_typed(server):
    need_code(server)
    answer = code_run(server, "typed", "const main = () => ({ x: 'text' })", "javascript", {"a": 1}, outputs=[("x", "number")])
    assert answer["error"]["message"] == "the output 'x' is not of type number"
    answer = code_run(server, "lacking", "const main = () => ({})", "javascript", {"a": 1})
    assert answer["error"]["message"] == "main returned no output 'x'"
    wrong = definition([start(("a", "any")), code("do", "const main = () => ({})", outputs=[("x", "number")]),
                        node("each", "iteration", list="do.x", output="t.output"),
                        node("t", "template", parent="each", text="x"), node("say", "answer", text="x")],
                       [("start", "do"), ("do", "each"), ("each", "say")])
    problems = server.post("/api/pipelines", {"name": "ill_typed", "definition": wrong}, expect=201)["problems"]
    assert ("each", "list", "wrong_type") in [(p["node"], p["field"], p["code"]) for p in problems]


def test_code_that_fails_goes_on_by_its_policy(server):
    need_code(server)
    bad = "function main() {\n  throw new Error('no');\n}"
    tail = [node("say", "answer", text="{{ do.x }} {{ do.error_message }}")]
    links = [("start", "do"), ("do", "say")]
    publish(server, "code_default", definition(
        [start(("a", "any")), code("do", bad, on_error="default", default={"x": "instead"}, retry={"max": 1, "interval_ms": 1}), *tail], links))
    answer = run(server, "code_default", inputs={"a": 1})
    assert answer["text"] == "instead Error: no (line 2)"
    nodes = reaches(server, answer["id"], "succeeded")["nodes"]
    assert next(one for one in nodes if one["node"] == "do")["attempts"] == 2
    publish(server, "code_branch", definition(
        [start(("a", "any")), code("do", "const main = () => { for (;;); }", on_error="branch", timeout_ms=200), *tail,
         node("late", "answer", text="{{ do.error_code }}")], [*links, ("do", "error", "late")]))
    assert run(server, "code_branch", inputs={"a": 1})["text"] == "timeout"


def test_code_by_the_dozen_and_a_child_that_dies(server):
    """An iteration of parallel calls; one of them ends its own process, which costs that item alone."""
    need_code(server)
    source = "function main({ a }) { if (a === 3) require('process').abort(); return { x: a + 1 }; }"
    publish(server, "dozen", definition(
        [start(("items", "array")), node("each", "iteration", list="start.items", output="do.x", parallel=6, on_item_error="null"),
         node("do", "code", parent="each", language="javascript", code=source, inputs=[{"name": "a", "value": "each.item"}],
              outputs=[{"name": "x", "type": "number"}]),
         node("done", "end", outputs=[{"name": "x", "value": "each.output"}])], [("start", "each"), ("each", "done")]))
    answer = run(server, "dozen", inputs={"items": list(range(20))})
    assert answer["outputs"]["x"] == [None if i == 3 else i + 1 for i in range(20)], answer


def test_code_goes_on_after_kill_9(tmp_path, mock):
    """What a code node returned is not computed again; one that was at work is."""
    server = Server(tmp_path, mock_config(mock))
    try:
        need_code(server)
        publish(server, "random", definition(
            [start(("a", "any")), code("do", "const main = () => ({ x: Math.random() })"),
             node("nap", "wait", mode="input"), node("done", "end", outputs=[{"name": "x", "value": "do.x"}])],
            [("start", "do"), ("do", "nap"), ("nap", "done")], settings={"journal": "sync"}))
        id = run(server, "random", mode="async", inputs={"a": 1}, expect=202)["id"]
        before = next(n for n in reaches(server, id, "waiting")["nodes"] if n["node"] == "do")["outputs"]["x"]
        key = server.key
        server.stop(kill=True)
        server = Server(tmp_path, mock_config(mock), key=key)
        reaches(server, id, "waiting")
        server.post(f"/api/runs/{id}/input", {})
        assert reaches(server, id, "succeeded")["outputs"]["x"] == before
    finally:
        server.stop()


# ---- prompt ----

def test_prompt_by_name_label_and_variables(server):
    prompt = {"type": "chat", "prompt": [{"role": "user", "content": "Hello {{name}}"}], "config": {"model": ECHO}}
    status, _, made = server.request("POST", "/api/prompts", {"name": "greet", **prompt, "labels": ["production"]})
    assert status == 201, made
    ask = node("ask", "prompt", prompt="greet", variables=[{"name": "name", "value": "start.query"}])
    publish(server, "greeting", definition([start(), ask, node("say", "answer", text="{{ ask.text }}!")],
                                           [("start", "ask"), ("ask", "say")]))
    answer = run(server, "greeting", inputs={"query": "Ada"})
    assert answer["text"] == "Hello Ada!", answer
    client = OpenAI(base_url=server.url + "/v1", api_key=server.key)
    pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(
        model="pipeline/greeting", stream=True, messages=[{"role": "user", "content": "dear Ada Lovelace"}]) if chunk.choices]
    assert "".join(pieces) == "Hello dear Ada Lovelace!"
    publish(server, "greeting_more", definition(
        [start(), node("ask", "prompt", prompt="greet@production", variables=[{"name": "name", "value": "start.query"}], message="And {{ start.query }}?"),
         node("say", "answer", text="{{ ask.text }}")], [("start", "ask"), ("ask", "say")]))
    assert run(server, "greeting_more", inputs={"query": "Ada"})["text"] == "And Ada?"
    publish(server, "greeting_llm", definition(
        [start(), llm("ask", "Bye {{ start.query }}", model="prompt/greet", variables=[{"name": "name", "value": "start.query"}]),
         node("say", "answer", text="{{ ask.text }}")], [("start", "ask"), ("ask", "say")]))
    assert run(server, "greeting_llm", inputs={"query": "Ada"})["text"] == "Bye Ada"


def test_prompt_errors(server):
    publish(server, "no_prompt", definition([start(), node("ask", "prompt", prompt="nowhere", on_error="branch"), node("say", "answer", text="x"),
                                             node("oops", "answer", text="{{ ask.error_code }}")],
                                            [("start", "ask"), ("ask", "say"), ("ask", "error", "oops")]))
    assert run(server, "no_prompt", inputs={"query": "x"})["text"] == "model_not_found"


# ---- guard ----

def guarded(server, name, expect_problems=(), **config):
    document = definition([start(), node("guard", "guard", text="{{ start.query }}", **config),
                           node("in", "answer", text="in: {{ guard.text }}"), node("out", "answer", text="out: {{ guard.reason }}")],
                          [("start", "guard"), ("guard", "passed", "in"), ("guard", "blocked", "out")])
    publish(server, name, document)
    return lambda query: run(server, name, inputs={"query": query})["text"]


def test_guard_patterns_personal_data_and_schema(server):
    ask = guarded(server, "guard_all", checks=[
        {"kind": "pii", "pattern": "email", "action": "mask"},
        {"kind": "regex", "name": "secrets", "pattern": "(?i)top secret"}])
    assert ask("fine") == "in: fine"
    assert "@" not in ask("write to ada@example.org") and ask("write to ada@example.org").startswith("in: write to ")
    assert ask("this is TOP SECRET") == "out: blocked by the check 'secrets'"
    ask = guarded(server, "guard_json", checks=[{"kind": "schema", "schema": {"type": "object", "required": ["a"]}}])
    assert ask('{"a": 1}') == 'in: {"a": 1}'
    assert ask('{"b": 1}').startswith("out: ") and ask("no JSON").startswith("out: ")


def test_guard_moderated_by_a_model(server):
    said = lambda allowed: says({"allowed": allowed, "reason": "because"})
    assert guarded(server, "guard_yes", moderation={"model": said(True)})("hello") == "in: hello"
    assert guarded(server, "guard_no", moderation={"model": said(False)})("hello") == "out: because"
    publish(server, "guard_odd", definition(
        [start(), node("guard", "guard", text="{{ start.query }}", moderation={"model": "mock/gpt-mock?text=maybe"}, on_error="branch"),
         node("in", "answer", text="in"), node("oops", "answer", text="{{ guard.error_code }}")],
        [("start", "guard"), ("guard", "passed", "in"), ("guard", "error", "oops")]))
    assert run(server, "guard_odd", inputs={"query": "x"})["text"] == "upstream_protocol_error", "it does not let through what it could not judge"


def test_guard_and_judge_are_checked_at_save(server):
    bad = definition([start(), node("guard", "guard", text="x", checks=[{"kind": "regex", "pattern": "ok"}, {"kind": "regex", "pattern": "("}],
                                    on_error="default", default={"text": "x"}),
                      node("judge", "judge", model="smart", text="x", rubric="x", score_min=5, score_max=1)],
                     [("start", "guard"), ("guard", "passed", "judge")])
    problems = server.post("/api/pipelines", {"name": "guard_bad", "definition": bad}, expect=201)["problems"]
    assert {(p["node"], p["field"], p["code"]) for p in problems if p["severity"] == "error"} == {
        ("guard", "checks[1]", "bad_check"), ("guard", "", "no_way_on"), ("judge", "score_max", "bad_range")}


# ---- judge ----

def test_judge_scores_and_asks_again(server):
    def judged(name, model, **config):
        publish(server, name, definition(
            [start(), node("judge", "judge", model=model, text="{{ start.query }}", rubric="Short is good.", **config),
             node("done", "end", outputs=[{"name": n, "value": f"judge.{n}"} for n in ("score", "passed", "reason")])],
            [("start", "judge"), ("judge", "done")]))
        return run(server, name, inputs={"query": "hello"})

    model = says({"reason": "short", "score": 4})
    assert judged("judge_good", model)["outputs"] == {"score": 4, "passed": True, "reason": "short"}
    assert judged("judge_strict", model, pass_at=4.5)["outputs"]["passed"] is False
    failed = judged("judge_wild", says({"reason": "short", "score": 40}))
    assert failed["error"]["code"] == "upstream_protocol_error", failed
    assert failed["usage"]["output_tokens"] > 0
    calls = [server.get("/api/calls/" + one["id"]) for one in server.get("/api/calls?limit=2")["items"]]
    assert [one["trace_id"] for one in calls] == [failed["trace_id"]] * 2, "it was asked twice"
