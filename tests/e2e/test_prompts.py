"""Prompts: by the management interface, called by name on every door, and through Langfuse's own Python client."""
import json
import logging
import os
import subprocess
import time

import pytest
from conftest import BINARY
from langfuse import Langfuse

DEFINITION = {
    "type": "chat",
    "prompt": [{"role": "system", "content": "You help {{company}}."},
               {"type": "placeholder", "name": "history"},
               {"role": "user", "content": "{{question}}"}],
    "config": {"model": "smart", "temperature": 0.2, "max_tokens": 77, "note": "not for the model"},
    "variables": [{"name": "company", "default": "ACME"}],
}


@pytest.fixture(scope="module")
def helper(server):
    """The prompt `helper`: version 1 has the label production."""
    server.post("/api/prompts", {"name": "helper", **DEFINITION, "message": "first", "labels": ["production"]}, expect=201)
    return "helper"


def test_called_by_name(server, helper):
    server.post("/v1/chat/completions", {"model": "prompt/helper", "variables": {
        "question": "Why?", "history": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]},
        "temperature": 0.9, "messages": [{"role": "user", "content": "And now?"}]})
    record = server.last_call()
    assert record["prompt"] == "helper@1" and record["route"] == "smart"
    assert record["model_requested"] == "prompt/helper"
    body = json.dumps(record)
    for part in ("You help ACME.", "Why?", "And now?", "Yes?", "max_tokens"):
        assert part in body, part
    assert "not for the model" not in body and "variables" not in json.dumps(record.get("request_body", ""))
    assert server.get("/api/calls?prompt=helper")["items"][0]["prompt"] == "helper@1"
    assert server.get("/api/calls?prompt=helper@2")["items"] == []


def test_on_other_doors(server, helper):
    server.post("/v1/messages", {"model": "prompt/helper@production", "max_tokens": 9, "system": "Be kind.",
                                 "variables": {"question": "Who?"}})
    record = json.dumps(server.last_call())
    assert record.index("You help ACME.") < record.index("Be kind.") < record.index("Who?")
    server.post("/v1/responses", {"model": "prompt/helper@1", "metadata": {"question": "Where?"}, "input": "Here?"})
    body = json.dumps(server.last_call())
    assert "Where?" in body and "Here?" in body


def test_errors_say_what_is_missing(server, helper):
    def call(**body):
        status, _, answer = server.request("POST", "/v1/chat/completions", body)
        return status, answer["error"]

    status, error = call(model="prompt/helper", variables={})
    assert status == 400 and "question" in error["message"]
    status, error = call(model="prompt/nothing")
    assert status == 404 and "nothing" in error["message"]
    status, error = call(model="prompt/helper@staging")
    assert status == 404 and "staging" in error["message"]
    server.post("/api/prompts", {"name": "modelless", "prompt": "x"}, expect=201)
    status, error = call(model="prompt/modelless")
    assert status == 400 and "config.model" in error["message"]
    key = server.post("/api/keys", {"name": "k", "scopes": ["call"], "models": ["smart"]}, expect=201)
    status, _, answer = server.request("POST", "/v1/chat/completions", {"model": "prompt/helper"}, key=key["secret"])
    assert status == 403 and answer["error"]["code"] == "model_not_allowed"
    assert "prompt/helper" in [m["id"] for m in server.get("/v1/models")["data"]]


def test_versions_labels_and_diff(server):
    server.post("/api/prompts", {"name": "mail", "prompt": "Write a short mail to {{who}}.", "config": {"model": "smart"},
                                 "labels": ["production"]}, expect=201)
    status, _, second = server.request("PUT", "/api/prompts/mail", {
        "prompt": "Write a long mail to {{who}}.", "config": {"model": "sonnet"}, "message": "longer"})
    assert status == 200 and second["version"] == 2 and second["reads"] == ["who"]
    diff = server.get("/api/prompts/mail/diff?from=1&to=2")
    assert [p["text"] for p in diff["words"] if p["op"] == "delete"] == ["short"]
    assert [p["text"] for p in diff["words"] if p["op"] == "insert"] == ["long"]
    assert diff["fields"] == [{"path": "config.model", "before": "smart", "after": "sonnet"}]
    server.post("/v1/chat/completions", {"model": "prompt/mail", "variables": {"who": "Bob"}})
    assert server.last_call()["prompt"] == "mail@1"
    status, _, _ = server.request("PUT", "/api/prompts/mail/labels/production", {"version": 2})
    assert status == 200
    server.post("/v1/chat/completions", {"model": "prompt/mail", "variables": {"who": "Bob"}})
    assert server.last_call()["prompt"] == "mail@2"
    use = server.get("/api/prompts/mail/use")
    assert {v["version"]: v["calls"] for v in use["versions"]} == {1: 1, 2: 1}
    restored = server.post("/api/prompts/mail/versions/1/restore", {"message": "back"})
    assert restored["version"] == 3 and "short" in restored["prompt"]
    rendered = server.post("/api/prompts/render", {"name": "mail", "version": 2, "variables": {"who": "Ann"}})
    assert rendered["messages"] == [{"role": "user", "content": "Write a long mail to Ann."}]
    status, _, error = server.request("PUT", "/api/prompts/mail", {"prompt": "{{#a}}"})
    assert status == 400 and error["error"]["field"] == "prompt"


def test_composed(server):
    server.post("/api/prompts", {"name": "rules", "prompt": "Be {{tone}}.", "labels": ["production"]}, expect=201)
    server.post("/api/prompts", {"name": "composed", "prompt": "A @@@langfusePrompt:name=rules|label=production@@@ B",
                                 "config": {"model": "smart"}, "labels": ["production"]}, expect=201)
    rendered = server.post("/api/prompts/render", {"name": "composed", "variables": {"tone": "kind"}})
    assert rendered["messages"][0]["content"] == "A Be kind. B"
    assert server.get("/api/prompts/rules/use")["used_by"] == [{"kind": "prompt", "name": "composed"}]
    server.request("PUT", "/api/prompts/rules", {"prompt": "@@@langfusePrompt:name=composed|label=production@@@",
                                                 "labels": ["production"]})
    status, _, error = server.request("POST", "/api/prompts/render", {"name": "composed", "variables": {}})
    assert status == 400 and "circle" in error["error"]["message"]


def test_jinja(server):
    server.post("/api/prompts", {"name": "jinja", "syntax": "jinja2", "config": {"model": "smart"},
                                 "prompt": "{% for x in items %}{{ loop.index }}. {{ x }}\n{% endfor %}"}, expect=201)
    rendered = server.post("/api/prompts/render", {"name": "jinja", "variables": {"items": ["a", "b"]}})
    assert rendered["messages"][0]["content"] == "1. a\n2. b\n"


@pytest.fixture(scope="module")
def langfuse(server):
    key = server.post("/api/keys", {"name": "langfuse", "scopes": ["call", "read", "write"], "models": ["*"]},
                      expect=201)
    client = Langfuse(public_key=key["public_id"], secret_key=key["secret"], host=server.url)
    yield client
    client.shutdown()


def test_langfuse_python(server, langfuse, caplog):
    caplog.set_level(logging.WARNING)
    assert langfuse.auth_check()
    first = langfuse.create_prompt(name="film", prompt="Do you like {{film}}?", labels=["production"],
                                   config={"model": "smart"}, tags=["movies"], commit_message="first")
    assert first.version == 1 and set(first.labels) >= {"production", "latest"}
    langfuse.create_prompt(name="film", prompt="Do you really like {{film}}?", config={"model": "smart"})
    got = langfuse.get_prompt("film", cache_ttl_seconds=0)
    assert got.version == 1 and got.compile(film="Dune") == "Do you like Dune?" and got.config == {"model": "smart"}
    assert got.tags == ["movies"] and got.commit_message == "first"
    latest = langfuse.get_prompt("film", label="latest", cache_ttl_seconds=0)
    assert latest.version == 2 and latest.tags == ["movies"]
    assert langfuse.get_prompt("film", version=1, cache_ttl_seconds=0).prompt == "Do you like {{film}}?"
    langfuse.update_prompt(name="film", version=2, new_labels=["production", "staging"])
    assert langfuse.get_prompt("film", cache_ttl_seconds=0).version == 2
    assert langfuse.get_prompt("film", label="staging", cache_ttl_seconds=0).version == 2
    with pytest.raises(Exception) as missing:
        langfuse.get_prompt("film", label="nowhere", cache_ttl_seconds=0, max_retries=0)
    assert getattr(missing.value, "status_code", 0) == 404
    assert langfuse.get_prompt("gone", fallback="x {{y}}", cache_ttl_seconds=0).is_fallback
    listed = langfuse.api.prompts.list(tag="movies")
    assert [(p.name, p.versions) for p in listed.data] == [("film", [1, 2])] and listed.meta.total_items == 1
    # What was made there is called here by name.
    server.post("/v1/chat/completions", {"model": "prompt/film", "variables": {"film": "Alien"}})
    assert server.last_call()["prompt"] == "film@2"


def test_langfuse_python_chat_and_folders(langfuse):
    made = langfuse.create_prompt(name="folder/chat", type="chat", labels=["production"], prompt=[
        {"role": "system", "content": "You are {{who}}"}, {"type": "placeholder", "name": "history"}])
    assert made.version == 1
    got = langfuse.get_prompt("folder/chat", type="chat", cache_ttl_seconds=0)
    compiled = got.compile(who="Ann", history=[{"role": "user", "content": "Hi"}])
    assert [(m["role"], m["content"]) for m in compiled] == [("system", "You are Ann"), ("user", "Hi")]


def test_langfuse_spans_log_no_error(langfuse, caplog):
    caplog.set_level(logging.WARNING)
    with langfuse.start_as_current_observation(name="work"):
        pass
    langfuse.flush()
    time.sleep(0.3)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_langfuse_refuses_wrong_pairs(server):
    status, _, _ = server.request("GET", "/api/public/projects", key=False, headers={"authorization": "Basic eDp5"})
    assert status == 401
    assert server.get("/api/public/health", key=False)["status"] == "OK"


def test_command_line(server):
    def capstan(*arguments):
        return subprocess.run([BINARY, "prompt", *arguments], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "CAPSTAN_URL": server.url, "CAPSTAN_KEY": server.key})

    assert capstan("set", "note", "--text", "A short note to {{who}}", "--model", "smart", "--label", "production").returncode == 0
    assert capstan("set", "note", "--text", "A long note to {{who}}", "--model", "smart").returncode == 0
    assert "note" in capstan("list").stdout
    assert "[-short-]{+long+} note" in capstan("diff", "note", "1", "2").stdout
    assert capstan("label", "note", "production", "2").returncode == 0
    assert capstan("run", "note", "--var", "who=Ann").stdout.strip()
    assert server.last_call()["prompt"] == "note@2"
    refused = capstan("run", "note")
    assert refused.returncode != 0 and "who" in refused.stderr
