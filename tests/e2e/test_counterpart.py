"""`capstan mock` must not be its own judge: llama-server speaks chat, messages and responses by itself. What it answers
when it is asked directly, it must answer through every pair of door and upstream format, whole and streamed.

Needs llama-server ($CAPSTAN_TEST_ENGINE) and the small model ($CAPSTAN_TEST_MODEL), which scripts/test-assets provides.
"""
import collections
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import anthropic
import openai
import pytest

from conftest import Server

ENGINE, MODEL = os.environ.get("CAPSTAN_TEST_ENGINE"), os.environ.get("CAPSTAN_TEST_MODEL")
pytestmark = pytest.mark.skipif(not (ENGINE and MODEL), reason="no engine or model at hand")

Answer = collections.namedtuple("Answer", "text stop input_tokens output_tokens")
TOKENS = 8
ROUTES = ("by-chat", "by-messages")
CASES = {
    "one question": dict(messages=[("user", "Say hello.")]),
    "a conversation": dict(system="You answer in one word.", messages=[
        ("user", "What colour is the sky?"), ("assistant", "Blue."), ("user", "And grass? Ümläute, 漢字, 🙂.")]),
    "a stop text": dict(messages=[("user", "Count: one, two, three, four.")], stop=","),
}


@pytest.fixture(scope="module")
def engine():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([ENGINE, "-m", MODEL, "--host", "127.0.0.1", "--port", str(port), "-c", "2048", "-np", "1",
                                "--jinja"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url + "/health").read()
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def gateway(engine, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("counterpart"), f"""
providers:
  chat:     {{ format: openai,    base_url: "{engine}/v1", api_key: none }}
  messages: {{ format: anthropic, base_url: "{engine}",    api_key: none }}
routes:
  by-chat:     {{ targets: [ {{ provider: chat, model: small }} ] }}
  by-messages: {{ targets: [ {{ provider: messages, model: small }} ] }}
""")
    yield server
    assert server.stop() == 0


# ---- the doors, each as its own SDK asks and reads it ----

def ask_chat(url, key, model, case, stream):
    client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=120)
    messages = [{"role": role, "content": text} for role, text in case["messages"]]
    if "system" in case:
        messages.insert(0, {"role": "system", "content": case["system"]})
    options = {"stop": [case["stop"]]} if "stop" in case else {}
    asked = dict(model=model, messages=messages, max_tokens=TOKENS, temperature=0, seed=1, **options)
    if not stream:
        answer = client.chat.completions.create(**asked)
        text, stop, usage = answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage
    else:
        text = ""
        for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or None
            for choice in chunk.choices:
                text += choice.delta.content or ""
                stop = choice.finish_reason or "none"
    return Answer(text, {"stop": "end", "length": "length"}[stop], usage.prompt_tokens, usage.completion_tokens)


def ask_messages(url, key, model, case, stream):
    client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=120)
    options = {"stop_sequences": [case["stop"]]} if "stop" in case else {}
    if "system" in case:
        options["system"] = case["system"]
    # The SDK deprecates temperature for its own models; a test must have it.
    asked = dict(model=model, max_tokens=TOKENS, messages=[{"role": role, "content": text} for role, text in case["messages"]],
                 extra_body={"temperature": 0, "seed": 1}, **options)
    if stream:
        with client.messages.stream(**asked) as events:
            answer = events.get_final_message()
    else:
        answer = client.messages.create(**asked)
    usage = answer.usage
    read = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    stops = {"end_turn": "end", "stop_sequence": "end", "max_tokens": "length"}
    return Answer("".join(block.text for block in answer.content), stops[answer.stop_reason], read, usage.output_tokens)


def ask_responses(url, key, model, case, stream):
    client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=120)
    kinds = {"user": "input_text", "assistant": "output_text"}
    items = [{"type": "message", "role": role, "content": [{"type": kinds[role], "text": text}]}
             for role, text in case["messages"]]
    asked = dict(model=model, input=items, store=False, instructions=case.get("system", openai.omit), temperature=0,
                 max_output_tokens=TOKENS)
    if stream:
        *_, last = client.responses.create(**asked, stream=True)
        answer = last.response
    else:
        answer = client.responses.create(**asked)
    stop = "length" if answer.status == "incomplete" or answer.usage.output_tokens == TOKENS else "end"
    return Answer(answer.output_text, stop, answer.usage.input_tokens, answer.usage.output_tokens)


DOORS = {"chat": ask_chat, "messages": ask_messages, "responses": ask_responses}


@pytest.mark.parametrize("name", CASES)
def test_direct_and_through_agree(engine, gateway, name):
    case = CASES[name]
    direct = ask_chat(engine, "none", "small", case, False)
    assert direct.text and direct.output_tokens > 0
    for door, ask in DOORS.items():
        if "stop" in case and door == "responses":
            continue  # that format has no stop texts
        assert ask(engine, "none", "small", case, False) == direct, ("directly", door)
        for stream in (False, True):
            for route in ROUTES:
                assert ask(gateway.url, gateway.key, route, case, stream) == direct, (door, route, stream)


def test_tokens_are_counted_as_the_engine_counts(engine, gateway):
    body = {"model": "by-messages", "messages": [{"role": "user", "content": "Say hello, 漢字."}]}
    request = urllib.request.Request(engine + "/v1/messages/count_tokens", data=json.dumps(body).encode(),
                                     headers={"content-type": "application/json"})
    direct = json.load(urllib.request.urlopen(request, timeout=60))
    assert gateway.post("/v1/messages/count_tokens", body)["input_tokens"] == direct["input_tokens"]
