"""The OpenAI SDK for Python, unmodified, against every upstream format: what an application does with it."""
import json
import time

import openai
import pytest
from pydantic import BaseModel

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                   "additionalProperties": False}, "strict": True}}
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
PIXEL = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
         "WjR9awAAAABJRU5ErkJggg==")


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0)


@pytest.fixture(params=["smart", "sonnet"])
def model(request):
    """A route to an OpenAI upstream, and one to an Anthropic upstream: translated."""
    return request.param


def test_whole(client, server, model):
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=50, user="ada")
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    call = server.last_call()
    assert call["status"] == "ok" and call["route"] == model and call["user"] == "ada"
    assert call["usage"]["input_total"] == answer.usage.prompt_tokens
    assert call["usage"]["output_total"] == answer.usage.completion_tokens


def test_stream(client, model):
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert len(text) > 5
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert all(c.usage is None for c in chunks), "usage was not asked for"


def test_stream_with_usage(client, model):
    chunks = list(client.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices


def test_tools(client, model):
    answer = client.chat.completions.create(model=model, messages=HELLO,
                                            tools=[WEATHER], tool_choice="required")
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather" and isinstance(json.loads(call.function.arguments), dict)
    followed = client.chat.completions.create(model=model, tools=[WEATHER], messages=[
        *HELLO, answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21}'}])
    assert followed.choices[0].message.content


def test_tools_streamed(client, model):
    with client.chat.completions.stream(model=model, messages=HELLO, tools=[WEATHER],
                                        tool_choice="required") as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_structured_output(client, model):
    class Answer(BaseModel):
        city: str
        degrees: float

    answer = client.chat.completions.parse(model=model, messages=HELLO, response_format=Answer)
    assert isinstance(answer.choices[0].message.parsed, Answer)


def test_image(client, model):
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": [
        {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]}])
    assert answer.choices[0].message.content


def test_several_choices_where_the_target_can(client):
    answer = client.chat.completions.create(model="smart", messages=HELLO, n=2, seed=7, stop=["\n\n"])
    assert len(answer.choices) == 2


def test_responses(client, model):
    answer = client.responses.create(model=model, input="Say hello.", store=False)
    assert answer.output_text and answer.status == "completed" and answer.usage.output_tokens > 0


def test_responses_streamed(client, model):
    with client.responses.stream(model=model, input="Say hello.", store=False) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds and final.output_text


def test_stored_state_is_refused_clearly(client):
    with pytest.raises(openai.BadRequestError) as failure:
        client.responses.create(model="sonnet", input="And then?", previous_response_id="resp_1")
    assert failure.value.param == "previous_response_id"


def test_embeddings(client):
    answer = client.embeddings.create(model="mock/embedding-mock", input=["one", "two"])
    assert len(answer.data) == 2 and len(answer.data[0].embedding) > 1


def test_models(client):
    assert {"smart", "sonnet"} <= {m.id for m in client.models.list()}


def test_errors_are_the_sdks_own(client, server):
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.create(model="nothing-of-that-name", messages=HELLO)
    assert failure.value.code == "model_not_found" and "nothing-of-that-name" in failure.value.message
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url + "/v1", api_key="cap_wrong").models.list()
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(model="smart", messages="not a list")
    assert failure.value.param == "messages"


def test_upstream_errors_pass_as_they_are(client, server):
    with pytest.raises(openai.RateLimitError) as failure:
        client.chat.completions.create(model="busy/gpt-mock?status=429&retry_after=3", messages=HELLO)
    assert failure.value.response.headers["retry-after"]
    assert server.last_call()["status"] == "error"


def test_a_client_that_leaves_is_on_record(client, server):
    stream = client.chat.completions.create(model="mock/gpt-mock?tokens=500&event_delay=20ms", messages=HELLO,
                                            stream=True)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 60
    while server.last_call()["status"] != "cancelled":
        assert time.monotonic() < deadline, server.last_call()
        time.sleep(0.05)
