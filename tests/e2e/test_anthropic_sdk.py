"""The Anthropic SDK for Python, unmodified, against an Anthropic upstream and, translated, an OpenAI one."""
import anthropic
import pytest

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {"name": "get_weather", "description": "Weather of a place",
           "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


@pytest.fixture(scope="module")
def client(server):
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0)


@pytest.fixture(params=["sonnet", "smart"])
def model(request):
    return request.param


def test_whole(client, server, model):
    answer = client.messages.create(model=model, max_tokens=64, messages=HELLO, system="Be brief.",
                                    metadata={"user_id": "ada"})
    assert answer.content[0].text and answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0
    call = server.last_call()
    assert call["door"] == "anthropic_messages" and call["user"] == "ada" and call["status"] == "ok"


def test_stream(client, model):
    with client.messages.stream(model=model, max_tokens=64, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text and final.usage.output_tokens > 0


def test_tools(client, model):
    answer = client.messages.create(model=model, max_tokens=64, messages=HELLO, tools=[WEATHER],
                                    tool_choice={"type": "any"})
    use = next(block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use" and use.name == "get_weather"
    followed = client.messages.create(model=model, max_tokens=64, tools=[WEATHER], messages=[
        *HELLO, {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in answer.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "21 degrees"}]}])
    assert followed.content


def test_thinking_survives_unchanged(client):
    """Signed blocks go through byte by byte."""
    answer = client.messages.create(model="claude/claude-mock?reasoning=5", max_tokens=2000, messages=HELLO,
                                    thinking={"type": "enabled", "budget_tokens": 1024})
    thinking = next(block for block in answer.content if block.type == "thinking")
    assert thinking.signature and thinking.thinking


def test_count_tokens(client, model):
    assert client.messages.count_tokens(model=model, messages=HELLO).input_tokens > 0


def test_errors_are_the_sdks_own(client, server):
    with pytest.raises(anthropic.NotFoundError) as failure:
        client.messages.create(model="nothing", max_tokens=5, messages=HELLO)
    assert failure.value.body["type"] == "error" and failure.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0).messages.create(
            model="sonnet", max_tokens=5, messages=HELLO)


def test_overload_passes(client):
    with pytest.raises(anthropic.APIStatusError) as failure:
        client.messages.create(model="claude/claude-mock?error=overload", max_tokens=5, messages=HELLO)
    assert failure.value.status_code in (503, 529)
