"""What the gateway writes for each door, judged by others: OpenAI's own description of its API, and the
vendors' SDKs. The answers are the expected outputs of the unit tests (tests/data/wire), so that each
of them is checked without a server.

The description is not in the tree: $CAPSTAN_SPECS, or ../shared/specs beside the checkout.
"""
import json
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIRE = ROOT / "tests/data/wire"
SPECS = pathlib.Path(os.environ.get("CAPSTAN_SPECS", ROOT.parent / "shared/specs"))


def answers(door, suffix):
    return sorted(WIRE.glob(f"answer_*_to_{door}.{suffix}"), key=str)


def events(path):
    """The data of a stream's events."""
    for line in path.read_text().splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])


def allow_null(node):
    """`nullable: true`, which the description still uses here and there, in today's words."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        allow_null(child)
    if isinstance(node, dict) and node.pop("nullable", None) is True:
        inner = dict(node)
        node.clear()
        node["anyOf"] = [inner, {"type": "null"}]


@pytest.fixture(scope="session")
def schema():
    """A validator for a schema of OpenAI's description, by its name."""
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    path = SPECS / "openai-openapi.yaml"
    if not path.exists():
        pytest.skip(f"{path} is not there: set CAPSTAN_SPECS to the folder that holds OpenAI's description")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # Dates stay texts: they are examples.
    loader.add_constructor("tag:yaml.org,2002:timestamp", lambda l, node: node.value)
    document = yaml.load(path.read_text(), Loader=loader)
    allow_null(document["components"]["schemas"])
    import referencing
    from referencing.jsonschema import DRAFT202012
    registry = referencing.Registry().with_resource("urn:openai", DRAFT202012.create_resource(document))

    def validate(name, value):
        validator = jsonschema.Draft202012Validator(
            {"$ref": f"urn:openai#/components/schemas/{name}"}, registry=registry)
        problems = sorted(validator.iter_errors(value), key=lambda e: len(e.path))
        assert not problems, f"{name}: {problems[0].message[:300]} at {list(problems[0].path)}"
    return validate


@pytest.mark.parametrize("path", answers("chat", "json"), ids=lambda p: p.stem)
def test_chat_whole_is_described(schema, path):
    schema("CreateChatCompletionResponse", json.loads(path.read_text()))


@pytest.mark.parametrize("path", answers("chat", "sse"), ids=lambda p: p.stem)
def test_chat_stream_is_described(schema, path):
    for event in events(path):
        schema("CreateChatCompletionStreamResponse", event)


@pytest.mark.parametrize("path", answers("responses", "json"), ids=lambda p: p.stem)
def test_responses_whole_is_described(schema, path):
    schema("Response", json.loads(path.read_text()))


@pytest.mark.parametrize("path", answers("responses", "sse"), ids=lambda p: p.stem)
def test_responses_stream_is_described(schema, path):
    for number, event in enumerate(events(path)):
        assert event["sequence_number"] == number
        name = "".join(part.title() for part in event["type"].replace("_", ".").split(".")) + "Event"
        # OpenAI's names for two of them differ from their types.
        name = name.replace("ResponseOutputText", "ResponseText")
        schema(name, event)


def client_of(module, path, **options):
    """An SDK's client whose server answers with the file."""
    sdk = pytest.importorskip(module)
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx
    stream = path.suffix == ".sse"

    def answer(request):
        kind = "text/event-stream" if stream else "application/json"
        return httpx.Response(200, headers={"content-type": kind}, content=path.read_bytes())
    return getattr(sdk, "OpenAI" if module == "openai" else "Anthropic")(
        api_key="k", base_url="http://test", max_retries=0,
        http_client=httpx.Client(transport=httpx.MockTransport(answer)), **options)


def sdk_error(name):
    return getattr(pytest.importorskip("openai"), name)


def has_tools(path):
    return "_tools_" in path.stem


def check_calls(path, calls):
    """Names and arguments of the tool calls in a fixture's answer."""
    wanted = [("weather", {"city": "Ulm"}), ("clock", {})] if has_tools(path) else []
    if "_whole_" in path.stem:
        wanted = [("weather", {"city": "Ulm"})]
    assert calls == wanted


@pytest.mark.parametrize("path", answers("chat", "sse"), ids=lambda p: p.stem)
def test_openai_sdk_reads_chat_stream(path):
    client = client_of("openai", path)
    message = [{"role": "user", "content": "a"}]
    with client.chat.completions.stream(model="m", messages=message) as stream:
        for _ in stream:
            pass
        if path.stem.startswith("answer_responses_text"):
            # The SDK takes an answer that was cut off for an error of the caller's.
            with pytest.raises(sdk_error("LengthFinishReasonError")):
                stream.get_final_completion()
            return
        completion = stream.get_final_completion()
    choice = completion.choices[0]
    check_calls(path, [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or []])
    assert choice.message.content == ("I look." if has_tools(path) else 'Héllo "w"\n')
    assert completion.usage.total_tokens == 130


@pytest.mark.parametrize("path", answers("responses", "sse"), ids=lambda p: p.stem)
def test_openai_sdk_reads_responses_stream(path):
    client = client_of("openai", path)
    with client.responses.stream(model="m", input="a") as stream:
        types = [event.type for event in stream]
    assert types[0] == "response.created"
    assert types[-1] in ("response.completed", "response.incomplete")
    *_, last = events(path)
    output = last["response"]["output"]
    check_calls(path, [(i["name"], json.loads(i["arguments"])) for i in output if i["type"] == "function_call"])
    assert last["response"]["usage"]["total_tokens"] == 130


@pytest.mark.parametrize("path", answers("anthropic", "sse"), ids=lambda p: p.stem)
def test_anthropic_sdk_reads_stream(path):
    client = client_of("anthropic", path)
    message = [{"role": "user", "content": "a"}]
    with client.messages.stream(model="m", max_tokens=9, messages=message) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    check_calls(path, [(b.name, b.input) for b in final.content if b.type == "tool_use"])
    assert text == ("I look." if has_tools(path) else 'Héllo "w"\n')
    usage = final.usage
    assert usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens == 100
    assert usage.output_tokens == 30


@pytest.mark.parametrize("path", answers("anthropic", "json"), ids=lambda p: p.stem)
def test_anthropic_sdk_reads_whole(path):
    client = client_of("anthropic", path)
    message = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "a"}])
    check_calls(path, [(b.name, b.input) for b in message.content if b.type == "tool_use"])
    assert message.stop_reason in ("end_turn", "tool_use", "max_tokens", "stop_sequence")


@pytest.mark.parametrize("path", answers("responses", "json"), ids=lambda p: p.stem)
def test_openai_sdk_reads_responses_whole(path):
    response = client_of("openai", path).responses.create(model="m", input="a")
    check_calls(path, [(i.name, json.loads(i.arguments)) for i in response.output if i.type == "function_call"])
    assert response.usage.total_tokens == 130
