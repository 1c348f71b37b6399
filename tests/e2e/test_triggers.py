"""Other ways to start a pipeline: Vext's hook, webhooks, schedules, MCP, the chat page; and what is said about answers."""
import json
import time

import pytest

from conftest import Server, mock_config
from test_pipelines import ALLOW, definition, llm, node, publish, start

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
