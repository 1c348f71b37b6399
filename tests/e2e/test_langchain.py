"""LangChain's ChatOpenAI, unmodified."""
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Weather of a place."""
    return "21 degrees in " + city


@pytest.fixture(params=["smart", "sonnet"])
def chat(request, server):
    return ChatOpenAI(base_url=server.url + "/v1", api_key=server.key, model=request.param, max_retries=0)


def test_invoke_and_stream(chat):
    answer = chat.invoke([HumanMessage("Say hello.")])
    assert answer.content and answer.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.text if isinstance(chunk.text, str) else chunk.text() for chunk in
                   chat.stream("Say hello."))


def test_tools(chat):
    answer = chat.bind_tools([get_weather], tool_choice="required").invoke("Weather in Paris?")
    assert answer.tool_calls[0]["name"] == "get_weather"
