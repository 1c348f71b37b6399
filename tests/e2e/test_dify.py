"""Apps that Dify has exported: every type of node is imported and runs to the expected output; what has no
counterpart is told with its reason, and nothing runs at import. The files in tests/data/dify are our own."""
import pathlib
import time

import pytest

from conftest import Server, mock_config
from test_pipelines import Witness, run

DATA = pathlib.Path(__file__).resolve().parents[1] / "data" / "dify"


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    witness = Witness()
    process = Server(tmp_path_factory.mktemp("server"),
                     mock_config(mock, f'pipelines: {{ http_allow: ["{witness.url[7:]}"] }}'))
    process.witness = witness
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def imported(server, name, **options):
    """The import of a fixture, without problems, as pipeline NAME."""
    answer = server.post("/api/pipelines/import", {"text": (DATA / f"{name}.yml").read_text(), "name": name, **options},
                         expect=201)
    assert answer["format"] == "dify"
    errors = [p for p in answer["problems"] if p["severity"] == "error"]
    assert errors == [], errors
    return answer


def result(server, name, **inputs):
    ended = run(server, name, inputs=inputs, version="draft")
    assert ended["status"] == "succeeded", ended
    return ended


def wait_for(ask, good=bool):
    """What `ask` answers as soon as it is good."""
    deadline = time.monotonic() + 60
    while not good(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    return answer


def lost(answer):
    return [n["message"] for n in answer["notes"] if n["severity"] == "error"]


@pytest.mark.parametrize("name, inputs, text", [
    ("llm-chatflow", {"city": "Bonn", "query": "two days"}, "Plan for Bonn:\nPlan for Bonn: two days {{ not ours }} warm"),
    ("llm-memory-completion", {"query": "why?"}, "Q: why?"),
    ("classifier", {"query": "weather"}, "billing"),
    ("assigner", {"query": "new"}, "- a\n- new 3 new"),
])
def test_chatflows(server, name, inputs, text):
    answer = imported(server, name)
    assert lost(answer) == []
    assert result(server, name, **inputs)["text"] == text


@pytest.mark.parametrize("name, inputs, outputs", [
    ("llm-jinja-structured", {"who": "ann"}, {"score": 1, "whole": {"score": 1}}),
    ("if-else", {"n": 12, "word": "x"}, {"which": "big 12", "case": "true"}),
    ("if-else", {"n": 1, "word": "parcel"}, {"which": "parcel"}),
    ("if-else", {"n": 1, "word": "open!"}, {"which": "parcel"}),
    ("if-else", {"n": 1, "word": ""}, {"which": "other", "case": "else"}),
    ("if-else-legacy", {"a": "yes"}, {"a": "yes"}),
    ("if-else-legacy", {"a": "no way"}, {"refused": "no way"}),
    ("aggregator-groups", {"a": "x"}, {"one": "t:x", "two": "x"}),
    ("code", {"n": 3}, {"twice": 6, "list": [3, 4], "text": "got 6"}),
    ("extractor", {"text": "10115 Berlin"}, {"zip": "sample", "kind": "sample"}),
    ("list-operator", {"rows": {"list": ["ant", "bee", "cat", "bat"]}},
     {"list": ["cat", "bat"], "first": "cat", "last": "bat", "second": "bee"}),
    ("iteration", {"rows": {"list": ["a", "b"]}}, {"lines": ["0=a", "1=b"]}),
    ("loop", {"n": 1}, {"tries": 3, "rounds": 3, "log": ["begin"]}),
    ("loop-end", {"n": 2}, {"tries": 6}),
    ("trigger-webhook", {"subject": "hello"}, {"subject": "hello"}),
    ("document-extractor", {"contract": "data:text/plain;base64,c2lnbmVk", "annexes": [
        "data:text/plain;base64,b25l", "data:text/plain;base64,dHdv"]}, {"contract": "signed", "annexes": ["one", "two"]}),
])
def test_workflows(server, name, inputs, outputs):
    if server.request("GET", f"/api/pipelines/{name}")[0] == 404:
        assert lost(imported(server, name)) == []
    got = result(server, name, **inputs)["outputs"]
    assert {k: got.get(k) for k in outputs} == outputs


def test_http_requests_retry_branch_and_default(server):
    assert lost(imported(server, "http")) == []
    before = len(server.witness.seen)
    got = result(server, "http", city="Bonn", url=server.witness.url)["outputs"]
    assert got["status"] == 200 and got["why"] == "upstream_error", got
    assert got["fallback"] == "sorry" and got["code"] == 599
    seen = server.witness.seen[before:]
    method, path, _, body = seen[0]
    assert (method, path, body) == ("POST", "/v1/Bonn?q=a%20b&q=c", '{"city": "Bonn"}'), seen[0]
    assert [s[1] for s in seen[1:]] == ["/fail", "/fail", "/fail"]  # one retry, then the other node


MAPS = """
openapi: 3.0.0
servers: [{url: "%s"}]
paths:
  /route:
    post:
      operationId: route
      summary: A way to a place
      requestBody: {content: {application/json: {schema: {type: object, properties: {to: {type: string}, n: {type: integer}, mode: {type: string}}}}}}
"""


def test_tools_and_agents(server):
    """Both name tools of another installation; with tools of these names here they run."""
    needed = ["needs a tool 'maps' with the function 'route' in this project"]
    assert lost(imported(server, "tool")) == needed
    answer = imported(server, "agent")
    assert lost(answer) == needed
    assert any("fixed arguments of 'route'" in n["message"] for n in answer["notes"])
    ended = run(server, "tool", inputs={"to": "Bonn"}, version="draft")
    assert "no tool 'maps'" in ended["error"]["message"], ended
    server.post("/api/tools", {"name": "maps", "kind": "openapi", "document": MAPS % server.witness.url}, expect=201)
    before = len(server.witness.seen)
    assert result(server, "tool", to="Bonn")["outputs"]["text"]
    assert [body for _, path, _, body in server.witness.seen[before:]] == ['{"n":3,"to":"Bonn centre","mode":"car"}']
    ended = result(server, "agent", query="to Bonn")
    assert ended["text"] == "on our way", ended
    assert server.witness.seen[-1][3] == '{"to":"Bonn"}'


def test_human_input(server):
    answer = imported(server, "human-input")
    assert any("inbox" in n["message"] for n in answer["notes"])
    started = server.post("/api/pipelines/human-input/runs",
                          {"mode": "async", "version": "draft", "inputs": {"text": "draft"}}, expect=202)
    items = wait_for(lambda: [i for i in server.get("/api/inbox")["items"] if i["run"] == started["id"]])
    assert items[0]["form"]["text"].strip() == "Check: draft"
    server.post(f"/api/runs/{started['id']}/input",
                {"path": items[0]["path"], "action": "approve", "values": {"note": "fine", "grade": "b"}})
    ended = wait_for(lambda: server.get(f"/api/runs/{started['id']}"), lambda r: r["status"] == "succeeded")
    assert ended["outputs"] == {"note": "fine", "grade": "b"}


def test_knowledge_is_bound_at_import(server):
    text = (DATA / "retrieval.yml").read_text()
    told = server.post("/api/pipelines/import", {"text": text, "name": "unbound", "dry_run": True})
    dataset = told["collections"][0]
    assert dataset in lost(told)[0]
    bound = imported(server, "retrieval", collections={dataset: "handbook"})
    assert lost(bound) == []
    config = {n["id"]: n["config"] for n in bound["definition"]["nodes"]}
    assert config["look_up"] == {"query": "{{ sys.query }}", "collections": [{"name": "handbook"}], "k": 2,
                                 "mode": "hybrid", "text_weight": 0.3}
    assert config["answer_it"]["messages"][0]["content"] == "Use only this:\n{{ look_up.text }}"


def test_models_are_renamed_at_import(server):
    text = (DATA / "llm-chatflow.yml").read_text()
    told = server.post("/api/pipelines/import", {"text": text, "name": "m", "dry_run": True, "models": {"": "smart"}})
    assert told["models"] == ["mock/gpt-mock?echo=1"]
    assert [n["config"]["model"] for n in told["definition"]["nodes"] if n["type"] == "llm"] == ["smart"]
    told = server.post("/api/pipelines/import", {"text": text, "name": "m", "dry_run": True,
                                                 "models": {"mock/gpt-mock?echo=1": "sonnet", "other": "no"}})
    assert [n["config"]["model"] for n in told["definition"]["nodes"] if n["type"] == "llm"] == ["sonnet"]


def test_what_does_not_map_is_listed_with_the_reason(server):
    answer = imported(server, "unmapped")
    told = {(n["node"], n["severity"]): n["message"] for n in answer["notes"]}
    assert "not known here" in told["beam", "error"] and "knowledge pipeline" in told["source", "error"]
    assert "beam" not in [n["id"] for n in answer["definition"]["nodes"] if n["type"] != "note"]
    assert {n["id"]: n["to"] for n in answer["nodes"]} == {
        "start": "start", "beam": None, "source": None, "end_1": "end", "circle": "template"}
    messages = " / ".join(n["message"] for n in answer["notes"])
    for part in ("closes a circle", "one of them is missing", "the secret 'KEY'"):
        assert part in messages, messages
    # what it left on the canvas is a note, and the rest runs
    notes = [n for n in answer["definition"]["nodes"] if n["type"] == "note"]
    assert any("nowhere" in n["config"]["text"] for n in notes)
    assert result(server, "unmapped", a="x")["outputs"] == {"a": "x", "lost": None, "id": "unmapped"}


@pytest.mark.parametrize("change, field", [
    (("mode: workflow", "mode: chat"), "app.mode"),
    (("kind: app", "kind: rag_pipeline"), "kind"),
    (("graph:", "grap:"), "workflow.graph.nodes"),
])
def test_other_kinds_of_app_are_refused(server, change, field):
    text = (DATA / "if-else.yml").read_text()
    assert change[0] in text
    error = server.post("/api/pipelines/import", {"text": text.replace(*change, 1), "name": "x"}, expect=400)["error"]
    assert error["field"] == field
