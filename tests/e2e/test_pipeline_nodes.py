"""Each type of node from outside: what it puts out, how its errors go on, what it may not do."""
import pytest
from openai import OpenAI

from conftest import Server, mock_config
from test_pipelines import definition, llm, node, publish, run, start, taken_up, wait_for

ECHO = "mock/gpt-mock?echo=1"  # says its last message again


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    process = Server(tmp_path_factory.mktemp("server"), mock_config(mock))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def outputs(server, answer, name):
    """What a node of an ended run put out."""
    whole = taken_up(server, answer["id"], answer["status"])
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
    assert failed["error"]["code"] == "invalid_value" or "compares with an object" in failed["error"]["message"]


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
