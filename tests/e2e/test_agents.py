"""Agents and tools in pipelines from outside: functions of web services called by nodes and by models, what is told of
the steps, bounds, errors given back to the model, and going on after kill -9 without a call made twice."""
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from conftest import Server, mock_config
from test_pipelines import definition, node, publish, read_events, run, start


class Services:
    """What tools talk to, and models that answer by a function of their messages."""

    def __init__(self):
        self.seen, self.models, self.gate = [], {}, threading.Event()
        self.gate.set()
        self.document, self.elsewhere, self.replies = "", "", {}
        services = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.path.startswith("/v1/"):
                    body = json.loads(raw)
                    message = services.models[body["model"]](body)
                    finish = "tool_calls" if message.get("tool_calls") else "stop"
                    return self.send(200, {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
                                           "choices": [{"index": 0, "message": {"role": "assistant", "content": None, **message},
                                                        "finish_reason": finish}],
                                           "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}})
                url = urllib.parse.urlsplit(self.path)
                services.seen.append((self.command, self.path, dict(self.headers.items()), raw.decode()))
                if "held" in url.path:
                    services.gate.wait(60)
                if url.path in services.replies:
                    text, type = services.replies[url.path]
                    return self.send(200, text if isinstance(text, bytes) else text.encode(), type)
                if "circle" in url.path:
                    return self.send(302, b"", location=url.path)
                if "/moved/" in url.path:
                    return self.send(302, b"", location=services.elsewhere if "elsewhere" in url.path else "../arrived/here")
                if url.path == "/openapi.yaml":
                    return self.send(200, services.document.encode(), "application/yaml")
                if "broken" in url.path:
                    return self.send(500, {"error": "the service is ill"})
                if "page" in url.path:
                    return self.send(200, b"<html><head><title>t</title><style>p{}</style></head><body><h1>Weather</h1>"
                                          b"<p>It is <b>warm</b> &amp; dry.</p><script>x()</script></body></html>", "text/html")
                return self.send(200, {"path": url.path, "query": urllib.parse.parse_qs(url.query), "body": raw.decode()})

            def send(self, status, body, type="application/json", location=None):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-type", type)
                    self.send_header("content-length", str(len(data)))
                    if location:
                        self.send_header("location", location)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.gate.set()
        self.server.shutdown()


@pytest.fixture(scope="module")
def services():
    services = Services()
    yield services
    services.close()


def config(mock, services, more=""):
    text = mock_config(mock, f'pipelines: {{ http_allow: ["127.0.0.1:*"]{more} }}\n')
    return text.replace("routes:", f'  scripted: {{ format: openai, base_url: "{services.url}/v1", api_key: "sk-x" }}\nroutes:')


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock, services):
    process = Server(tmp_path_factory.mktemp("server"), config(mock, services))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def weather(services, **more):
    return {"kind": "http", "description": "The weather of a city.", "url": services.url + "/weather/{city}",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                           "required": ["city"]}, **more}


def call(name, n=0, **arguments):
    return {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def agent(id="work", model="scripted/m", **more):
    return node(id, "agent", model=model, query="{{ start.query }}", **more)


def flow(*nodes, answer="{{ work.text }}"):
    ids = ["start", *[n["id"] for n in nodes], "say"]
    return definition([start(), *nodes, node("say", "answer", text=answer),
                       node("end", "end", outputs=[{"name": "work", "value": nodes[-1]["id"]}])],
                      [*zip(ids, ids[1:]), ("say", "end")])


def tool_results(body):
    return [m["content"] for m in body["messages"] if m["role"] == "tool"]


def test_tool_node_calls_a_service(server, services):
    tool = weather(services, headers={"X-Key": "k1"})
    document = flow(node("work", "tool", definition=tool,
                         arguments=[{"name": "city", "value": "start.query"}, {"name": "days", "value": "2"}]), answer="{{ work.json.path }}")
    publish(server, "tool-node", document)
    answer = run(server, "tool-node", inputs={"query": "Bad Ems/x"})
    assert answer["text"] == "/weather/Bad%20Ems%2Fx"
    assert answer["outputs"]["work"]["json"]["query"] == {"days": ["2"]}
    assert services.seen[-1][2]["X-Key"] == "k1"


def test_arguments_are_checked_against_the_schema(server, services):
    document = flow(node("work", "tool", definition=weather(services), arguments=[{"name": "days", "value": "2"}]))
    publish(server, "tool-bad", document)
    before = len(services.seen)
    answer = run(server, "tool-bad", inputs={"query": "x"})
    assert answer["status"] == "failed" and "do not fit" in answer["error"]["message"]
    assert len(services.seen) == before


def test_agent_calls_tools_and_answers(server, services):
    def model(body):
        results = tool_results(body)
        if not results:
            assert [t["function"]["name"] for t in body["tools"]] == ["weather", "pages"]
            return {"content": "Let me look.", "tool_calls": [call("weather", 0, city="Bonn"), call("pages", 1, address=services.url + "/page")]}
        assert json.loads(results[0])["path"] == "/weather/Bonn"
        return {"content": results[1]}

    services.models["m"] = model
    pages = {"kind": "http", "url": "{address}", "result": "page_text", "parameters": {
        "type": "object", "properties": {"address": {"type": "string"}}, "required": ["address"]}}
    publish(server, "agent", flow(agent(tools=[{"name": "weather", "definition": weather(services)}, {"name": "pages", "definition": pages}])))
    answer = run(server, "agent", inputs={"query": "How is it?"})
    assert answer["status"] == "succeeded", answer
    work = answer["outputs"]["work"]
    assert work["answer"] == "t\nWeather\nIt is warm & dry."
    assert answer["text"] == work["text"] == "Let me look.\n\n" + work["answer"]
    assert [s["type"] for s in work["steps"]] == ["model", "tool", "tool", "model"]
    assert work["steps"][1]["arguments"] == {"city": "Bonn"}
    assert work["usage"]["model_calls"] == 2 and work["usage"]["tool_calls"] == 2
    assert work["usage"]["input_tokens"] == 20 and answer["usage"]["input_tokens"] == 20
    assert work["finish_reason"] == "stop"


def test_errors_of_tools_are_given_back_to_the_model(server, services):
    def model(body):
        results = tool_results(body)
        if len(results) == 0:
            return {"tool_calls": [call("ill", 0), call("nobody", 1), {"id": "c2", "type": "function", "function": {"name": "ill", "arguments": "{"}}]}
        assert results[0].startswith("Error: the service answered with status 500") and "the service is ill" in results[0]
        assert results[1] == "Error: there is no tool 'nobody'"
        assert results[2] == "Error: the arguments are no JSON object"
        return {"content": "Sorry."}

    services.models["m"] = model
    ill = {"kind": "http", "url": services.url + "/broken"}
    publish(server, "agent-errors", flow(agent(tools=[{"name": "ill", "definition": ill}])))
    answer = run(server, "agent-errors", inputs={"query": "x"})
    assert answer["text"] == "Sorry.", answer


def test_in_the_last_step_the_model_must_answer(server, services):
    choices = []

    def model(body):
        choices.append(body["tool_choice"])
        return {"content": "Enough."} if body["tool_choice"] == "none" else {"tool_calls": [call("weather", 0, city="Bonn")]}

    services.models["m"] = model
    publish(server, "agent-bounded", flow(agent(steps_max=3, tools=[{"name": "weather", "definition": weather(services)}])))
    answer = run(server, "agent-bounded", inputs={"query": "x"})
    assert (answer["text"], choices) == ("Enough.", ["auto", "auto", "none"])


def test_tokens_and_money_are_bounded(server, services):
    services.models["m"] = lambda body: {"tool_calls": [call("weather", 0, city="Bonn")]}
    publish(server, "agent-tokens", flow(agent(tokens_max=30, tools=[{"name": "weather", "definition": weather(services)}])))
    answer = run(server, "agent-tokens", inputs={"query": "x"})
    assert answer["status"] == "failed" and answer["error"]["code"] == "budget_exceeded"
    assert answer["usage"]["input_tokens"] == 20


def test_react_reads_actions_out_of_text(server, services):
    def model(body):
        assert "tools" not in body and body["stop"] == ["Observation:"]
        last = body["messages"][-1]["content"]
        if not last.startswith("Observation:"):
            assert "weather: The weather of a city." in body["messages"][0]["content"]
            return {"content": 'Thought: I look.\nAction: weather\nAction Input: {"city": "Bonn"}\n'}
        return {"content": "Thought: I know.\nFinal Answer: " + json.loads(last.removeprefix("Observation: "))["path"]}

    services.models["m"] = model
    publish(server, "react", flow(agent(strategy="react", tools=[{"name": "weather", "definition": weather(services)}])))
    answer = run(server, "react", inputs={"query": "x"})
    assert answer["text"] == "/weather/Bonn", answer


def test_a_pipeline_is_a_tool(server, services):
    publish(server, "double", definition([start(("word", "string")), node("say", "answer", text="{{ start.word }}{{ start.word }}")], [("start", "say")]))

    def model(body):
        results = tool_results(body)
        if not results:
            function = body["tools"][0]["function"]
            assert function["parameters"]["properties"]["word"]["type"] == "string"
            return {"tool_calls": [call("double", 0, word="ab")]}
        return {"content": results[0]}

    services.models["m"] = model
    publish(server, "agent-pipeline", flow(agent(tools=[{"name": "double", "definition": {"kind": "pipeline", "pipeline": "double"}}])))
    assert run(server, "agent-pipeline", inputs={"query": "x"})["text"] == "abab"


def test_the_words_are_streamed(server, services):
    model = "mock/gpt-mock?tools=2&tool_rounds=2&event_delay=100ms&text=the+end+of+it&arguments=%7B%22city%22:%22Bonn%22%7D"
    publish(server, "agent-stream", flow(agent(model=model, tools=[{"name": "weather", "definition": weather(services)}])))
    events = list(read_events(server, "/api/pipelines/agent-stream/runs", {"inputs": {"query": "x"}, "mode": "stream"}))
    names = [name for name, _, _ in events]
    text = [data["text"] for name, data, _ in events if name == "text"]
    assert len(text) > 1 and "".join(text) == "the end of it"
    paths = [data["path"] for name, data, _ in events if name == "node_finished"]
    assert {"work#0/model", "work#1/call", "work#2/call", "work#64/model", "work#128/model", "work"} <= set(paths), paths
    assert names[-1] == "run_finished"


def test_an_agent_goes_on_after_kill_9(tmp_path, mock, services):
    asked = []

    def model(body):
        results = tool_results(body)
        asked.append(len(results))
        if len(results) < 2:
            return {"tool_calls": [call("get", len(results), path="one" if not results else "held")]}
        return {"content": f"done after {len(results)}"}

    services.models["m"] = model
    services.seen.clear()
    services.gate.clear()
    tool = {"kind": "http", "url": services.url + "/{path}", "method": "POST", "idempotency_key": True,
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}
    server = Server(tmp_path, config(mock, services))
    publish(server, "survivor", {**flow(agent(tools=[{"name": "get", "definition": tool}])), "settings": {"journal": "sync"}})
    begun = run(server, "survivor", inputs={"query": "x"}, mode="async", expect=202)
    wait_for(lambda: any("held" in s[1] for s in services.seen))
    server.stop(kill=True)
    services.gate.set()
    server = Server(tmp_path, config(mock, services), key=server.key)
    try:
        wait_for(lambda: server.get(f"/api/runs/{begun['id']}")["status"] == "succeeded")
        answer = server.get(f"/api/runs/{begun['id']}")
    finally:
        assert server.stop() == 0
    assert answer["text"] == "done after 2"
    assert asked == [0, 1, 2]  # no question was asked twice
    keys = [s[2]["idempotency-key"] for s in services.seen]
    assert [s[1] for s in services.seen] == ["/one", "/held", "/held"] and keys[1] == keys[2] != keys[0]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


# ---- MCP: the official SDK's server ----

MCP_SERVER = pathlib.Path(__file__).with_name("mcp_server.py")


class McpServer:
    def __init__(self, mode, port=0):
        self.process = subprocess.Popen([sys.executable, MCP_SERVER, mode, str(port)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def calls_of(server, name, tool, *calls):
    """One tool node for each call; their outputs."""
    ids = [f"n{i}" for i in range(len(calls))]
    nodes = [node(id, "tool", definition=tool, function=function, arguments=[{"name": k, "value": json.dumps(v)} for k, v in arguments.items()],
                  on_error="default", default={"text": "", "json": None}) for id, (function, arguments) in zip(ids, calls)]
    document = definition([start(), *nodes, node("end", "end", outputs=[{"name": id, "value": id} for id in ids])], [*zip(["start", *ids], [*ids, "end"])])
    publish(server, name, document)
    answer = run(server, name, inputs={"query": "x"})
    assert answer["status"] == "succeeded", answer
    return [answer["outputs"][id] for id in ids]


CALLS = [("add", {"a": 2, "b": 3}), ("long_text", {"n": 300000}), ("fail", {}), ("add", {"a": "x"}), ("nothing", {})]


def check_calls(outputs):
    added, long, failed, misfit, unknown = outputs
    assert (added["text"], added["json"]) == ("5", {"result": 5}), added
    assert long["text"] == "x" * 300000
    assert "Error executing tool fail" in failed["error_message"]
    assert misfit["error_message"] and unknown["error_message"]


@pytest.mark.parametrize("mode", ["http", "http-json"])
def test_mcp_over_http(server, mode):
    mcp = McpServer(mode)
    try:
        check_calls(calls_of(server, f"mcp-{mode}", {"kind": "mcp", "url": mcp.url}, *CALLS))
    finally:
        mcp.close()


def test_an_mcp_server_that_begins_anew_is_asked_anew(server):
    tool, first = {"kind": "mcp"}, McpServer("http")
    tool["url"] = first.url
    (before,) = calls_of(server, "mcp-first", tool, ("who", {}))
    first.close()
    second = McpServer("http", first.port)
    try:
        (after,) = calls_of(server, "mcp-second", tool, ("who", {}))
        assert before["text"] and after["text"] and before["text"] != after["text"]
    finally:
        second.close()
    (gone,) = calls_of(server, "mcp-gone", tool, ("who", {}))
    assert gone["error_code"] == "upstream_error"


def test_mcp_over_standard_streams_and_an_agent_with_its_tools(tmp_path, mock, services):
    text = config(mock, services, f''', mcp_servers: {{ sums: {{
        command: ["{sys.executable}", "{MCP_SERVER}", "stdio"], env: {{ GREETING: hello }} }} }}''')

    def model(body):
        results = tool_results(body)
        if not results:
            assert [t["function"]["name"] for t in body["tools"]] == ["add", "who"]
            assert body["tools"][0]["function"]["parameters"]["properties"]["a"]["type"] == "integer"
            return {"tool_calls": [call("add", 0, a=1, b=2), call("who", 1)]}
        return {"content": " ".join(results)}

    services.models["m"] = model
    server = Server(tmp_path, text)
    try:
        check_calls(calls_of(server, "mcp-stdio", {"kind": "mcp", "server": "sums"}, *CALLS))
        publish(server, "agent-mcp", flow(agent(tools=[{"name": "sums", "definition": {"kind": "mcp", "server": "sums", "tools": ["add", "who"]}}])))
        answer = run(server, "agent-mcp", inputs={"query": "x"})
        assert answer["text"].startswith("3 ") and answer["text"].endswith(" hello"), answer
        (unknown,) = calls_of(server, "mcp-unknown", {"kind": "mcp", "server": "other"}, ("add", {}))
        assert "no MCP server 'other'" in unknown["error_message"]
    finally:
        assert server.stop() == 0
