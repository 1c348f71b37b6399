"""The scripted upstream itself. It must not be its own judge: its answers are checked against OpenAI's
published description of the API, where that lies beside the tree or OPENAI_SPEC names it, and parsed by
the SDKs in their strict mode; then that scripts do what they say."""
import http.client
import json
import os
import pathlib
import re
import urllib.error
import urllib.request

import anthropic
import openai
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = pathlib.Path(os.environ.get("OPENAI_SPEC", ROOT.parent / "shared/specs/openai-openapi.yaml"))
MESSAGES = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"},
                                           "days": {"type": "array", "items": {"type": "integer"}}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def post(mock, path, body, headers=None):
    """(status, headers, text); x-mock in `headers` carries a script."""
    request = urllib.request.Request(mock.url + path, data=json.dumps(body).encode(),
                                     headers={"content-type": "application/json", **(headers or {})})
    try:
        answer = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, answer.read().decode()


def chat(mock, script="", **body):
    model = "gpt-mock" + ("?" + script if script else "")
    return post(mock, "/v1/chat/completions", {"model": model, "messages": MESSAGES, **body})


def events(text):
    return [json.loads(line[6:]) for line in text.splitlines()
            if line.startswith("data: ") and line != "data: [DONE]"]


# ---- against the published description ----

def as_json_schema(node):
    """OpenAPI 3.0's `nullable` in JSON Schema's words."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    fixed = {key: as_json_schema(value) for key, value in node.items()
             if key not in ("discriminator", "nullable")}
    return {"anyOf": [fixed, {"type": "null"}]} if node.get("nullable") is True else fixed


@pytest.fixture(scope="module")
def check():
    if not SPEC.exists():
        pytest.skip("OpenAI's API description is not here (OPENAI_SPEC)")
    yaml = pytest.importorskip("yaml")
    jsonschema = pytest.importorskip("jsonschema")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    components = as_json_schema(yaml.load(SPEC.read_text(), Loader=loader)["components"])

    def check_one(name, value):
        schema = {"$ref": "#/components/schemas/" + name, "components": components}
        wrong = list(jsonschema.Draft202012Validator(schema).iter_errors(value))
        assert not wrong, (name, value, [error.message[:300] for error in wrong[:3]])
    return check_one


@pytest.mark.parametrize("extra", [{}, {"n": 2, "logprobs": True},
                                   {"tools": [TOOL], "tool_choice": "required"}])
def test_chat_is_as_described(mock, check, extra):
    check("CreateChatCompletionResponse", json.loads(chat(mock, **extra)[2]))
    text = chat(mock, "tokens=3", stream=True, stream_options={"include_usage": True}, **extra)[2]
    assert text.endswith("data: [DONE]\n\n")
    for event in events(text):
        check("CreateChatCompletionStreamResponse", event)


def test_completions_embeddings_and_models_are_as_described(mock, check):
    check("CreateCompletionResponse",
          json.loads(post(mock, "/v1/completions", {"model": "m", "prompt": "Hello"})[2]))
    check("CreateEmbeddingResponse",
          json.loads(post(mock, "/v1/embeddings", {"model": "m", "input": ["a", "b"]})[2]))
    check("ListModelsResponse", json.loads(urllib.request.urlopen(mock.url + "/v1/models").read()))


@pytest.mark.parametrize("extra", [{}, {"tools": [{"type": "function", "name": "weather", "strict": False,
                                                   "parameters": SCHEMA}], "tool_choice": "required"}])
def test_responses_are_as_described(mock, check, extra):
    body = {"model": "gpt-mock?tokens=3", "input": "Hello", **extra}
    check("Response", json.loads(post(mock, "/v1/responses", body)[2]))
    for number, event in enumerate(events(post(mock, "/v1/responses", {**body, "stream": True})[2])):
        assert event["sequence_number"] == number
        words = re.split("[._]", event["type"].replace("response.output_text", "response.text"))
        check("".join(word.capitalize() for word in words) + "Event", event)


# ---- by the SDKs, strictly ----

def test_openai_sdk_parses_strictly(mock):
    client = openai.OpenAI(base_url=mock.url + "/v1", api_key="k", _strict_response_validation=True)
    whole = client.chat.completions.create(model="gpt-mock", messages=MESSAGES)
    stream = client.chat.completions.create(model="gpt-mock", messages=MESSAGES, stream=True,
                                            stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    answer = client.responses.create(model="gpt-mock", input="Hello")
    assert answer.output_text == text
    floats = client.embeddings.create(model="m", input="a", dimensions=5, encoding_format="float")
    packed = openai.OpenAI(base_url=mock.url + "/v1", api_key="k").embeddings.create(  # base64
        model="m", input="a", dimensions=5)
    assert packed.data[0].embedding == pytest.approx(floats.data[0].embedding)


def test_anthropic_sdk_parses_strictly(mock):
    client = anthropic.Anthropic(base_url=mock.url, api_key="k", _strict_response_validation=True)
    options = {"model": "claude-mock?reasoning=2&cached=1", "max_tokens": 100, "messages": MESSAGES}
    whole = client.messages.create(**options)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    with client.messages.stream(**options) as stream:
        final = stream.get_final_message()
    assert [block.model_dump() for block in final.content] == [block.model_dump() for block in whole.content]
    assert final.usage.output_tokens == whole.usage.output_tokens
    counted = client.messages.count_tokens(model="claude-mock", messages=MESSAGES)
    assert counted.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


# ---- scripts ----

def test_errors_have_status_format_and_delay(mock):
    status, headers, text = chat(mock, "error=rate&retry_after=3")
    assert (status, headers["retry-after"]) == (429, "3")
    assert json.loads(text)["error"]["code"] == "rate_limit_exceeded"
    status, _, text = post(mock, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": MESSAGES},
                           {"x-mock": "error=overload"})
    assert status == 529 and json.loads(text)["error"]["type"] == "overloaded_error"
    assert chat(mock, "status=503")[0] == 503
    status, _, text = chat(mock, "no_such_setting=1")
    assert status == 400 and "no_such_setting" in text


def test_only_the_first_calls_fail(mock):
    script = f"fail_first=2&status=500&id=first-{os.getpid()}"
    assert [chat(mock, script)[0] for _ in range(4)] == [500, 500, 200, 200]


@pytest.mark.parametrize("script", ["disconnect=1", "disconnect_at=2"])
def test_connections_break(mock, script):
    with pytest.raises((http.client.HTTPException, OSError)):
        chat(mock, script, stream=True)


def test_streams_go_wrong_where_they_should(mock):
    lines = chat(mock, "malformed_at=1&tokens=3", stream=True)[2].split("\n\n")
    with pytest.raises(ValueError):
        json.loads(lines[1][6:])
    json.loads(lines[2][6:])
    text = chat(mock, "error_at=0&error=overload", stream=True)[2]
    assert [list(event) for event in events(text)] == [["error"]]
    crlf = chat(mock, "crlf=1&comments=1&tokens=2", stream=True)[2]
    assert crlf.startswith(": comment\r\n\r\n") and "\n" not in crlf.replace("\r\n", "")


def test_text_is_what_was_asked_for(mock):
    _, _, text = chat(mock, "text=Gr%C3%BC%C3%9Fe+%F0%9F%98%80", stream=True)
    pieces = [event["choices"][0]["delta"].get("content") or "" for event in events(text)]
    assert "".join(pieces) == "Grüße 😀" and len(pieces) > 3
    assert json.loads(chat(mock, "echo=1")[2])["choices"][0]["message"]["content"] == "Hello"
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
    content = json.loads(chat(mock, response_format=schema)[2])["choices"][0]["message"]["content"]
    assert json.loads(content) == {"city": "sample", "days": [1]}
