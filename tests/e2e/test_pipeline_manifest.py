"""What a pipeline may reach: derived from its definition, compared between versions, enforced while it runs."""
import pytest

from conftest import Server, mock_config
from test_pipelines import Witness, definition, llm, node, publish, run, start


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    witness = Witness()
    process = Server(tmp_path_factory.mktemp("server"), mock_config(mock, 'pipelines: { http_allow: ["127.0.0.1:*", "localhost:*"] }'))
    process.witness = witness
    yield process
    witness.close()
    assert process.stop() == 0, "\n".join(process.log[-40:])


def test_it_is_derived_and_compared(server):
    before = definition(
        [start(), llm("ask", "{{ start.query }}"), node("get", "http", url="https://api.example.org/{{ start.query }}"),
         node("count", "code", language="python", code="def main():\n    return {\"n\": 1}\n", outputs=[{"name": "n", "type": "number"}]), node("say", "answer", text="{{ ask.text }}")],
        [("start", "ask"), ("ask", "get"), ("get", "count"), ("count", "say")])
    publish(server, "reach", before)
    empty = {"hosts": [], "models": [], "prompts": [], "collections": [], "pipelines": [], "tools": [], "code": [], "cost_usd": None}
    assert server.get("/api/pipelines/reach")["manifest"] == empty | {
        "hosts": ["api.example.org"], "models": ["smart"], "code": ["python"]}
    after = definition(
        [start(), llm("ask", "{{ start.query }}", model="sonnet"), node("get", "http", url="{{ start.query }}"),
         node("find", "retrieval", query="{{ start.query }}", collections=[{"name": "handbook"}]),
         node("sub", "pipeline", pipeline="other@production"), node("say", "answer", text="{{ ask.text }}")],
        [("start", "ask"), ("ask", "get"), ("get", "find"), ("find", "sub"), ("sub", "say")],
        settings={"on_failure": "repair", "limits": {"cost_usd": "0.5"}})
    checked = server.post("/api/pipelines/reach/check", {"definition": after})
    assert checked["manifest"] == empty | {"hosts": ["*"], "models": ["sonnet"], "collections": ["handbook"],
                                           "pipelines": ["other@production", "repair"], "cost_usd": "0.5"}
    revision = server.get("/api/pipelines/reach")["revision"]
    status, _, answer = server.request("PUT", "/api/pipelines/reach/draft", {"definition": after, "revision": revision})
    assert status == 200, answer
    changed = {one["path"].split("[")[0].split(".")[0] for one in server.get("/api/pipelines/reach/diff?from=1&to=draft")["manifest"]}
    assert changed == {"hosts", "models", "collections", "pipelines", "code", "cost_usd"}


def test_computed_hosts_are_bounded(server):
    port = server.witness.url.rsplit(":", 1)[1]
    nodes = [start(), node("get", "http", url="{{ start.query }}"), node("out", "end", outputs=[{"name": "n", "value": "get.status_code"}])]
    publish(server, "bounded", definition(nodes, [("start", "get"), ("get", "out")], settings={"hosts": [f"127.0.0.1:{port}"]}))
    assert server.get("/api/pipelines/bounded")["manifest"]["hosts"] == [f"127.0.0.1:{port}"]
    before = len(server.witness.seen)
    assert run(server, "bounded", inputs={"query": f"http://127.0.0.1:{port}/x"})["outputs"] == {"n": 200}
    for address in (f"http://localhost:{port}/x", f"http://127.0.0.1:{port}@localhost:{port}/x"):
        ended = run(server, "bounded", inputs={"query": address})
        assert ended["status"] == "failed", ended
    assert "settings.hosts" in run(server, "bounded", inputs={"query": f"http://localhost:{port}/x"})["error"]["message"]
    assert len(server.witness.seen) == before + 1


@pytest.mark.parametrize("host, address", [
    ("127.0.0.1:*", "http://127.0.0.1:{port}@localhost:{port}/x"),  # user information is no host
    ("127.0.0.1*", "http://127.0.0.1:{port}@localhost:{port}/x"),
])
def test_user_information_is_no_host(server, host, address):
    port = server.witness.url.rsplit(":", 1)[1]
    name = "user_" + str(len(host))
    nodes = [start(), node("get", "http", url="{{ start.query }}"), node("out", "end", outputs=[])]
    publish(server, name, definition(nodes, [("start", "get"), ("get", "out")], settings={"hosts": [host]}))
    before = len(server.witness.seen)
    ended = run(server, name, inputs={"query": address.format(port=port)})
    assert ended["status"] == "failed" and "settings.hosts" in ended["error"]["message"], ended
    assert len(server.witness.seen) == before


def test_a_computed_scheme_is_no_written_host(server):
    url = server.witness.url
    nodes = [start(), node("get", "http", url="{{ start.query }}://api.example.org/"), node("out", "end", outputs=[])]
    publish(server, "scheme", definition(nodes, [("start", "get"), ("get", "out")], settings={"hosts": ["api.example.org"]}))
    ended = run(server, "scheme", inputs={"query": url + "/x?"})
    assert ended["status"] == "failed" and "settings.hosts" in ended["error"]["message"], ended


def test_a_written_host_needs_no_line(server):
    url = server.witness.url
    nodes = [start(), node("get", "http", url=url + "/{{ start.query }}"), node("out", "end", outputs=[{"name": "n", "value": "get.status_code"}])]
    publish(server, "written", definition(nodes, [("start", "get"), ("get", "out")], settings={"hosts": ["api.example.org"]}))
    assert run(server, "written", inputs={"query": "a@localhost/"})["outputs"] == {"n": 200}


def test_documents_keep_to_the_hosts(server):
    nodes = [start(("file", "file")), node("read", "document", files="start.file"), node("out", "end", outputs=[])]
    publish(server, "reader", definition(nodes, [("start", "read"), ("read", "out")], settings={"hosts": ["example.org"]}))
    ended = run(server, "reader", inputs={"file": server.witness.url + "/x"})
    assert ended["status"] == "failed" and "settings.hosts" in ended["error"]["message"]


def test_a_bad_list_is_told(server):
    bad = definition([start()], [], settings={"hosts": "example.org"})
    server.post("/api/pipelines", {"name": "bad"}, expect=201)
    problems = server.post("/api/pipelines/bad/check", {"definition": bad})["problems"]
    assert any(p["field"] == "settings.hosts" for p in problems), problems
