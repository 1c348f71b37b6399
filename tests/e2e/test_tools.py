"""Tools as objects of a project: made, changed, asked for their functions, tried, found where they are used; their
secrets stay where they belong; and the configuration file may hold them."""
import json
import sys

import pytest

from conftest import Server, mock_config
from test_agents import MCP_SERVER, McpServer, Services, flow, weather
from test_pipelines import node, publish, run

PETS = """
openapi: 3.0.0
info: {title: Pets, version: "1"}
servers: [{url: "%s/shop"}]
paths:
  /pets/{id}:
    get:
      operationId: getPet
      summary: One pet
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
  /pets:
    post:
      operationId: addPet
      requestBody: {content: {application/json: {schema: {type: object, required: [name], properties: {name: {type: string}}}}}}
  /orders:
    post:
      operationId: order
      requestBody: {content: {application/x-www-form-urlencoded: {schema: {type: object, properties: {what: {type: string}, tags: {type: array, items: {type: string}}}}}}}
"""


@pytest.fixture(scope="module")
def services():
    made = Services()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock, services):
    process = Server(tmp_path_factory.mktemp("tools"), config(mock))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def config(mock, more=""):
    return mock_config(mock, f'''
pipelines:
  http_allow: ["127.0.0.1:*"]
  mcp_servers: {{ sums: {{ command: ["{sys.executable}", "{MCP_SERVER}", "stdio"] }} }}
{more}
''')


def delete(server, name):
    assert server.request("DELETE", f"/api/tools/{name}")[0] == 204


def try_it(server, tool, function=None, /, **arguments):
    return server.post(f"/api/tools/{tool}/test", {"arguments": arguments, **({"function": function} if function else {})})


def test_life_of_a_tool(server, services):
    made = server.post("/api/tools", {"name": "weather", **weather(services, headers={"X-Api-Key": "key-0123456789abcdefWXYZ", "X-Team": "a"},
                                                                   fixed={"api_key": "fixed-987654321-abcdefgh-STUV", "units": "metric"})}, expect=201)
    assert made["headers"] == {"X-Api-Key": "…WXYZ", "X-Team": "a"} and made["fixed"] == {"api_key": "…STUV", "units": "metric"}
    assert "0123456789" not in json.dumps(server.get("/api/tools")) and "987654321" not in json.dumps(server.get("/api/tools/weather"))
    status, _, answer = server.request("POST", "/api/tools", {"name": "weather", "kind": "mcp", "url": services.url})
    assert status == 409, answer
    status, _, answer = server.request("POST", "/api/tools", {"name": "a b", "kind": "mcp", "url": services.url})
    assert (status, answer["error"]["field"]) == (400, "name")
    status, _, answer = server.request("POST", "/api/tools", {"name": "x", "kind": "http"})
    assert (status, answer["error"]["field"]) == (400, "url")
    (item,) = server.get("/api/tools?q=weath")["items"]
    assert item["status"] == {"state": "ok", "functions": 1}
    (function,) = server.get("/api/tools/weather/functions")["items"]
    assert function["name"] == "weather" and function["parameters"]["required"] == ["city"] and function["method"] == "GET"

    answer = try_it(server, "weather", city="Bad Ems", days=2)
    assert answer["ok"] and answer["json"]["path"] == "/weather/Bad%20Ems" and answer["status_code"] == 200, answer
    assert answer["json"]["query"] == {"days": ["2"], "api_key": ["fixed-987654321-abcdefgh-STUV"], "units": ["metric"]}
    assert services.seen[-1][2]["X-Api-Key"] == "key-0123456789abcdefWXYZ"
    assert server.get(f"/api/runs/{answer['run']}")["status"] == "succeeded"
    wrong = try_it(server, "weather", days=2)
    assert not wrong["ok"] and "do not fit" in wrong["error"]["message"]
    status, _, answer = server.request("POST", "/api/tools/nothing/test", {})
    assert status == 404, answer

    # The secrets are the first address's: another one must be given its own.
    elsewhere = services.url + "/elsewhere/{city}"
    for body in ({"url": elsewhere}, {**server.get("/api/tools/weather"), "url": elsewhere},
                 {"url": elsewhere, "headers": {"X-Api-Key": "new-key-00000"}}):
        status, _, answer = server.request("PATCH", "/api/tools/weather", body)
        assert status == 400 and answer["error"]["field"] in ("headers", "fixed"), answer
    changed = server.request("PATCH", "/api/tools/weather", {"description": "Now better.", "headers": {"X-Team": None}})[2]
    assert changed["version"] == 2 and changed["headers"] == {"X-Api-Key": "…WXYZ"}
    changed = server.request("PATCH", "/api/tools/weather", {"url": elsewhere, "headers": {"X-Api-Key": "new-key-00000"}, "fixed": None})
    assert changed[0] == 200, changed
    assert try_it(server, "weather", city="x")["json"] == {"path": "/elsewhere/x", "query": {}, "body": ""}
    assert services.seen[-1][2]["X-Api-Key"] == "new-key-00000"

    assert server.get("/api/tools/weather/use")["items"] == []
    publish(server, "asks-weather", flow(node("work", "tool", tool="weather", arguments=[{"name": "city", "value": "start.query"}])))
    assert [(use["name"], use["in"]) for use in server.get("/api/tools/weather/use")["items"]] == [("asks-weather", "draft"), ("asks-weather", "published")]
    assert run(server, "asks-weather", inputs={"query": "Ulm"})["outputs"]["work"]["json"]["path"] == "/elsewhere/Ulm"
    delete(server, "weather")
    assert "no tool 'weather'" in run(server, "asks-weather", inputs={"query": "Ulm"})["error"]["message"]


def test_openapi_documents(server, services):
    services.document = PETS % services.url
    definition = {"kind": "openapi", "document": services.document}
    functions = server.post("/api/tools/functions", {"name": "pets", "definition": definition})["items"]
    assert [(f["name"], f["method"]) for f in functions] == [("getPet", "GET"), ("addPet", "POST"), ("order", "POST")]
    fetched = server.post("/api/tools/functions", {"definition": {"kind": "openapi"}, "document_url": services.url + "/openapi.yaml"})
    assert fetched["items"] == functions and fetched["document"] == services.document
    status, _, answer = server.request("POST", "/api/tools/functions", {"definition": {"kind": "openapi"}, "document_url": services.url + "/broken"})
    assert status == 400 and "500" in answer["error"]["message"]
    status, _, answer = server.request("POST", "/api/tools/functions", {"definition": {"kind": "openapi", "document": "swagger: '2.0'"}})
    assert (status, answer["error"]["field"]) == (400, "document")
    status, _, answer = server.request("POST", "/api/tools/functions", {})
    assert status == 400, answer
    server.post("/api/tools", {"name": "pets", **definition, "operations": ["getPet", "order"]}, expect=201)
    try:
        (item,) = server.get("/api/tools")["items"]
        assert "document" not in item and item["status"]["functions"] == 2
        assert server.get("/api/tools/pets")["document"] == services.document
        assert [f["name"] for f in server.get("/api/tools/pets/functions")["items"]] == ["getPet", "order"]
        answer = try_it(server, "pets", "getPet", id=7)
        assert answer["ok"] and answer["json"]["path"] == "/shop/pets/7", answer
        assert try_it(server, "pets", "order", what="a b", tags=["x", "y"])["json"]["body"] == "what=a%20b&tags=x&tags=y"
        assert services.seen[-1][2]["content-type"] == "application/x-www-form-urlencoded"
        assert "no function 'addPet'" in try_it(server, "pets", "addPet", name="x")["error"]["message"]
    finally:
        delete(server, "pets")


def test_services_that_redirect(server, services):
    server.post("/api/tools", {"name": "moved", **weather(services, url=services.url + "/moved/{city}", headers={"X-Api-Key": "key-0123456789abcdefWXYZ"})}, expect=201)
    server.post("/api/tools", {"name": "moved-post", **weather(services, url=services.url + "/moved/{city}", method="POST")}, expect=201)
    server.post("/api/tools", {"name": "circle", **weather(services, url=services.url + "/circle/{city}")}, expect=201)
    try:
        assert try_it(server, "moved", city="here")["json"]["path"] == "/arrived/here"
        assert services.seen[-1][2]["X-Api-Key"] == "key-0123456789abcdefWXYZ"
        services.elsewhere = f"http://localhost:{services.server.server_port}/arrived/there"
        answer = try_it(server, "moved", city="elsewhere")
        assert not answer["ok"] and "not a public address" in answer["error"]["message"], answer  # localhost is not allowed
        assert "status 302" in try_it(server, "moved-post", city="here")["error"]["message"]
        assert "status 302" in try_it(server, "circle", city="x")["error"]["message"]
    finally:
        for name in ("moved", "moved-post", "circle"):
            delete(server, name)


def test_an_mcp_server(server):
    mcp = McpServer("http")
    try:
        functions = server.post("/api/tools/functions", {"definition": {"kind": "mcp", "url": mcp.url}})["items"]
        assert [f["name"] for f in functions] == ["add", "long_text", "fail", "who"]
        server.post("/api/tools", {"name": "sums", "kind": "mcp", "url": mcp.url, "tools": ["add", "who"]}, expect=201)
        assert server.get("/api/tools")["items"][0]["status"] == {"state": "ok", "functions": None}
        assert [f["name"] for f in server.get("/api/tools/sums/functions")["items"]] == ["add", "who"]
        answer = try_it(server, "sums", "add", a=1, b=2)
        assert (answer["ok"], answer["text"], answer["json"]) == (True, "3", {"result": 3})
        assert "choose one" in try_it(server, "sums", a=1)["error"]["message"]
    finally:
        mcp.close()
    status, _, answer = server.request("GET", "/api/tools/sums/functions")
    assert status == 502, answer
    delete(server, "sums")
    assert server.get("/api/mcp-servers")["items"] == [{"name": "sums"}]
    server.post("/api/tools", {"name": "local", "kind": "mcp", "server": "sums"}, expect=201)
    assert try_it(server, "local", "add", a=2, b=2)["text"] == "4"
    delete(server, "local")


def test_pipelines_and_collections(server):
    publish(server, "echo", flow(node("work", "template", text="<{{ start.query }}>"), answer="{{ work.output }}"))
    server.post("/api/tools", {"name": "echo", "kind": "pipeline", "pipeline": "echo"}, expect=201)
    (function,) = server.get("/api/tools/echo/functions")["items"]
    assert list(function["parameters"]["properties"]) == ["query"]
    assert try_it(server, "echo", query="hm")["text"] == "<hm>"
    delete(server, "echo")
    server.post("/api/collections", {"name": "docs", "encoder": "none"}, expect=201)
    server.post("/api/tools", {"name": "search", "kind": "retrieval", "collections": ["docs"]}, expect=201)
    assert try_it(server, "search", query="anything")["ok"]
    delete(server, "search")


def test_tools_of_the_configuration_file(tmp_path, mock, services):
    text = config(mock, f'''
tools:
  forecast:
    kind: http
    url: {services.url}/forecast/{{city}}
    headers: {{ X-Api-Key: from-the-file-0123456789ABCD }}
    parameters: {{ type: object, properties: {{ city: {{ type: string }} }} }}
''')
    process = Server(tmp_path, text)
    try:
        (item,) = process.get("/api/tools")["items"]
        assert (item["origin"], item["headers"]) == ("file", {"X-Api-Key": "…ABCD"})
        assert try_it(process, "forecast", city="x")["ok"] and services.seen[-1][2]["X-Api-Key"] == "from-the-file-0123456789ABCD"
        assert process.request("DELETE", "/api/tools/forecast")[0] in (403, 409)
        process.post("/api/tools", {"name": "own", "kind": "pipeline", "pipeline": "x"}, expect=201)
        exported = process.get("/api/export")
        assert "own:" in exported and "…ABCD" not in exported.split("own:")[1], exported
    finally:
        assert process.stop() == 0


# ---- presets: recorded replies of the services that they ask ----

WIKIPEDIA = {"batchcomplete": True, "query": {"pages": [{"pageid": 1, "title": "Capstan", "index": 1, "extract": "A capstan is a vertical-axled rotating machine."}]}}
ARXIV = '''<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>arXiv Query</title>
<entry><id>http://arxiv.org/abs/1706.03762v7</id><title>Attention Is All You Need</title>
<summary>The dominant sequence transduction models &amp; more.</summary><author><name>Ashish Vaswani</name></author></entry></feed>'''
SEARCH = {"query": "capstan", "results": [{"url": "https://example.org/", "title": "Capstans", "content": "All about them."}]}


def test_presets(tmp_path, mock, services):
    services.replies = {"/w/api.php": (json.dumps(WIKIPEDIA), "application/json"), "/api/query": (ARXIV, "application/atom+xml"),
                        "/search": (json.dumps(SEARCH), "application/json"),
                        "/old": ("<html><p>Gr\xfc\xdfe</p></html>".encode("latin-1"), "text/html; charset=iso-8859-1")}
    text = mock_config(mock, f'''
pipelines:
  http_allow: ["127.0.0.1:*"]
  services: {{ wikipedia: "{services.url}/", arxiv: "{services.url}", search: "{services.url}" }}
''')
    process = Server(tmp_path, text)
    try:
        presets = {one["name"]: one for one in process.get("/api/pipelines/presets")["items"]}
        assert list(presets) == ["generate_response", "search_dataset", "read_web_page", "search_wikipedia", "search_arxiv", "search_web"]
        assert all(one["available"] for one in presets.values())
        answers = {}
        for name, query in [("read_web_page", services.url + "/old"), ("search_wikipedia", "capstan"), ("search_arxiv", "attention"), ("search_web", "capstan")]:
            publish(process, name, flow({"id": "work", "type": presets[name]["type"], "config": presets[name]["config"]}))
            answers[name] = run(process, name, inputs={"query": query})
            assert answers[name]["status"] == "succeeded", answers[name]
            # The same definition is a tool of the project.
            process.post("/api/tools", {"name": name, **presets[name]["config"]["definition"]}, expect=201)
        assert answers["read_web_page"]["text"] == "Grüße"
        assert answers["search_wikipedia"]["outputs"]["work"]["json"]["query"]["pages"][0]["title"] == "Capstan"
        assert any(path.startswith("/w/api.php?") and "gsrsearch=capstan" in path and "action=query" in path for _, path, _, _ in services.seen)
        assert "Attention Is All You Need" in answers["search_arxiv"]["text"] and "models & more" in answers["search_arxiv"]["text"]
        assert "<" not in answers["search_arxiv"]["text"]
        assert answers["search_web"]["outputs"]["work"]["json"]["results"][0]["title"] == "Capstans"
        for name, collection in [("generate_response", None), ("search_dataset", "docs")]:
            config = presets[name]["config"]
            if collection:
                process.post("/api/collections", {"name": collection, "encoder": "none"}, expect=201)
                config["collections"][0]["name"] = collection
            else:
                config["model"] = "mock/gpt-mock?text=Hello"
            publish(process, name.replace("_", "-"), flow({"id": "work", "type": presets[name]["type"], "config": config}))
            answer = run(process, name.replace("_", "-"), inputs={"query": "x"})
            assert answer["status"] == "succeeded" and answer["text"] == ("" if collection else "Hello"), answer
    finally:
        services.replies = {}
        assert process.stop() == 0


def test_presets_without_settings(server):
    presets = {one["name"]: one for one in server.get("/api/pipelines/presets")["items"]}
    assert presets["search_wikipedia"]["config"]["definition"]["url"] == "https://en.wikipedia.org/w/api.php"
    assert not presets["search_web"]["available"] and presets["search_web"]["service"] == "search"
