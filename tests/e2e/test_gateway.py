"""The gateway with the real SDKs, against `capstan mock`: every door with every upstream format, routing, limits,
cache, identification, what is on record."""
import json
import os
import socket
import subprocess
import time
import urllib.parse

import anthropic
import openai
import pytest

from conftest import BINARY, Server, mock_config

ROUTES = """
  tool:    { targets: [ { provider: mock, model: "gpt-mock?tools=1" } ] }
  flaky:   { targets: [ { provider: mock, model: "gpt-mock?status=500" }, { provider: claude, model: claude-mock } ], retry: 0, balance: ordered }
  limited: { targets: [ { provider: mock, model: "gpt-mock?error=rate&retry_after=7" } ], retry: 0 }
  context: { targets: [ { provider: mock, model: "gpt-mock?error=context" }, { provider: claude, model: claude-mock } ], fallback: { on: [context] }, balance: ordered }
  broken:  { targets: [ { provider: mock, model: "gpt-mock?tokens=20&disconnect_at=8" } ] }
  opens:   { targets: [ { provider: mock, model: "gpt-mock?error_at=1" }, { provider: claude, model: claude-mock } ], balance: ordered }
  slow:    { targets: [ { provider: mock, model: "gpt-mock?tokens=2000&event_delay=10ms" } ] }
  late:    { targets: [ { provider: mock, model: "gpt-mock?hang=1" }, { provider: claude, model: claude-mock } ], retry: 0, timeout: { first_token: 300ms }, balance: ordered }
  cached:  { targets: [ { provider: mock, model: gpt-mock } ], cache: { ttl: 60s } }
  rules:   { targets: [ { provider: claude, model: claude-mock, when: 'header.x-tier == "gold"' }, { provider: mock, model: gpt-mock, when: 'header.x-tier != "gold"' } ], balance: ordered }
keys:
  - { name: limited, key: "cap_limited_0123456789abcdefghijkl", scopes: [call], models: ["smart"], limits: { requests_per_minute: 3 } }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    process = Server(tmp_path_factory.mktemp("gateway"), mock_config(mock, ROUTES))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0)


@pytest.fixture(scope="module")
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0)


HI = [{"role": "user", "content": "Say something."}]


@pytest.mark.parametrize("model", ["smart", "sonnet"])
def test_openai_chat_whole_and_streamed(client, model):
    whole = client.chat.completions.with_raw_response.create(model=model, messages=HI)
    assert whole.headers["x-capstan-provider"] == {"smart": "mock", "sonnet": "claude"}[model]
    assert whole.headers["x-capstan-call-id"].startswith("call_")
    text = whole.parse().choices[0].message.content
    assert text
    pieces, finish, usage = [], None, None
    for chunk in client.chat.completions.create(model=model, messages=HI, stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            pieces.append(chunk.choices[0].delta.content or "")
            finish = chunk.choices[0].finish_reason or finish
        usage = chunk.usage or usage
    assert "".join(pieces) and finish == "stop" and usage.completion_tokens > 0


@pytest.mark.parametrize("model", ["smart", "sonnet"])
def test_anthropic_messages_whole_and_streamed(claude, model):
    whole = claude.messages.create(model=model, max_tokens=100, messages=HI)
    assert whole.content[0].text and whole.usage.output_tokens > 0 and whole.stop_reason == "end_turn"
    with claude.messages.stream(model=model, max_tokens=100, messages=HI) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text and final.usage.output_tokens > 0


@pytest.mark.parametrize("model", ["smart", "sonnet"])
def test_responses_whole_and_streamed(client, model):
    assert client.responses.create(model=model, input="Say something.").output_text
    kinds = [event.type for event in client.responses.create(model=model, input="Say something.", stream=True)]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"


def test_tools(client):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
    answer = client.chat.completions.create(model="tool", messages=HI, tools=tools)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments)


def test_embeddings_and_models(client, claude):
    assert client.embeddings.create(model="mock/embed-mock", input="hello").data[0].embedding
    names = [model.id for model in client.models.list()]
    assert "smart" in names and "sonnet" in names
    assert client.models.retrieve("smart").id == "smart"
    assert "smart" in [model.id for model in claude.models.list()]


def test_count_tokens(claude):
    assert claude.messages.count_tokens(model="sonnet", messages=HI).input_tokens > 0
    assert claude.messages.count_tokens(model="smart", messages=HI).input_tokens > 0


@pytest.mark.parametrize("model, stream", [("flaky", False), ("flaky", True), ("context", False), ("context", True),
                                           ("opens", True)])
def test_fallback_by_cause(client, server, model, stream):
    answer = client.chat.completions.create(model=model, messages=HI, stream=stream)
    if stream:
        assert any(chunk.choices and chunk.choices[0].delta.content for chunk in answer)
    else:
        assert answer.choices[0].message.content
    call = server.last_call()
    assert call["provider"] == "claude" and len(call["attempts"]) >= 2
    assert call["attempts"][0]["error"]


def test_first_token_deadline(client, server):
    assert any(chunk.choices for chunk in client.chat.completions.create(model="late", messages=HI, stream=True))
    assert server.last_call()["provider"] == "claude"


def test_upstream_rate_limit_is_told(client):
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="limited", messages=HI)
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_stream_that_breaks_off_is_an_error(client, server):
    with pytest.raises(openai.APIError):
        for _ in client.chat.completions.create(model="broken", messages=HI, stream=True):
            pass
    assert server.last_call()["status"] == "error"


def test_limits_and_globs_of_a_key(server):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="cap_limited_0123456789abcdefghijkl", max_retries=0)
    assert [model.id for model in client.models.list()] == ["smart"]
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="sonnet", messages=HI)
    for left in (2, 1, 0):
        answer = client.chat.completions.with_raw_response.create(model="smart", messages=HI)
        assert int(answer.headers["x-ratelimit-remaining-requests"]) == left
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="smart", messages=HI)
    assert int(caught.value.response.headers["retry-after"]) > 0
    bare = anthropic.Anthropic(base_url=server.url, api_key="cap_limited_0123456789abcdefghijkl", max_retries=0)
    with pytest.raises(anthropic.RateLimitError):
        bare.messages.create(model="smart", max_tokens=5, messages=HI)


def test_wrong_key_and_unknown_model(server, client):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url + "/v1", api_key="cap_no", max_retries=0).models.list()
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=HI)
    assert caught.value.code == "model_not_found"


def test_cache(client):
    first = client.chat.completions.with_raw_response.create(model="cached", messages=HI)
    again = client.chat.completions.with_raw_response.create(model="cached", messages=HI)
    assert first.headers["x-capstan-cache"] == "miss" and again.headers["x-capstan-cache"] == "hit"
    assert first.content == again.content and again.headers["x-capstan-cost-usd"] == "0"


def test_rules_choose_targets(client, server):
    for tier, provider in (("gold", "claude"), ("tin", "mock")):
        answer = client.chat.completions.with_raw_response.create(model="rules", messages=HI, extra_headers={"x-tier": tier})
        assert answer.headers["x-capstan-provider"] == provider


def test_record_says_who_and_what(client, server):
    client.chat.completions.create(
        model="smart", messages=HI, user="ann", metadata={"team": "blue"},
        extra_headers={"x-capstan-session": "s1", "x-capstan-tags": "app=web", "x-secret": "1",
                       "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    call = server.last_call()
    assert call["user"] == "ann" and call["session"] == "s1"
    assert call["tags"] == {"app": "web", "team": "blue"}
    assert call["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert call["status"] == "ok" and call["usage"]["output_tokens"] > 0
    assert "authorization" not in {name.lower() for name in call["request"]["headers"]}
    assert server.key not in json.dumps(call)


def test_erasing_an_end_user(client, server):
    user = "eve/" + os.urandom(4).hex()
    for _ in range(2):
        client.chat.completions.create(model="smart", messages=HI, user=user)
    ours = "/api/calls?user=" + urllib.parse.quote(user, safe="")
    named = lambda: [row for row in server.get("/api/spend?by=user")["items"] if row["name"] == user]
    before = server.get("/api/spend?by=user")["items"]
    assert len(server.get(ours)["items"]) == 2 and named()[0]["calls"] == 2
    for query, field in (("", "user"), ("?user=", "user"), ("?user=a&model=b", "user")):
        status, _, answer = server.request("DELETE", "/api/calls" + query)
        assert status == 400 and answer["error"]["field"] == field
    done = subprocess.run([BINARY, "call", "erase-user", user], capture_output=True, text=True,
                          env={**os.environ, "CAPSTAN_URL": server.url, "CAPSTAN_KEY": server.key})
    assert done.returncode == 0 and done.stdout.startswith("2 calls erased"), done
    assert server.get(ours)["items"] == [] and named() == []
    assert len(server.get("/api/spend?by=user")["items"]) == len(before) - 1
    assert server.request("DELETE", ours)[2] == {"erased": 0}


def test_store_false_keeps_no_bodies(client, server):
    client.chat.completions.create(model="smart", messages=[{"role": "user", "content": "hush-hush"}], store=False)
    assert "hush-hush" not in json.dumps(server.last_call())


def test_client_that_leaves_is_on_record(server):
    address = server.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "slow", "stream": True, "messages": HI})
    with socket.create_connection((address[0], int(address[1]))) as connection:
        connection.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.key}\r\n"
                            f"content-length: {len(body)}\r\n\r\n{body}").encode())
        assert b"200 OK" in connection.recv(4096)
    deadline = time.monotonic() + 60
    while server.last_call()["status"] != "cancelled":
        assert time.monotonic() < deadline
        time.sleep(0.05)
