"""Pipelines as files: export, import, and the command line: runs of files without a server, runs on a
server, versions and their comparison."""
import json
import os
import subprocess

import pytest

from conftest import BINARY, Server, mock_config
from test_pipelines import definition, llm, node, publish, start


def capstan(*args, server=None, text=None, env=None, expect=0):
    """`capstan ARGS`; what it printed, as (standard output, standard error)."""
    environment = {**os.environ, "HOME": "/nonexistent", **(env or {})}
    for name in ("CAPSTAN_URL", "CAPSTAN_KEY", "CAPSTAN_CONFIG"):
        environment.pop(name, None)
    if server:
        environment.update(CAPSTAN_URL=server.url, CAPSTAN_KEY=server.key)
    done = subprocess.run([BINARY, *map(str, args)], input=text, capture_output=True, text=True,
                          env=environment, timeout=300)
    assert done.returncode == expect, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


HELLO = definition([start(("who", "string"), ("n", "number")), llm("ask", "Hi {{ start.who }}", model="mock/gpt-mock?echo=1"),
                    node("say", "answer", text="{{ ask.text }} / {{ start.n }}\n- two: lines"),
                    node("end", "end", outputs=[{"name": "who", "value": "start.who"}])],
                   [("start", "ask"), ("ask", "say"), ("say", "end")], description="yes: no # really")


def test_export_and_import_are_each_others_reverse(server):
    publish(server, "there", HELLO)
    status, headers, text = server.request("GET", "/api/pipelines/there/export?version=production")
    assert status == 200 and headers["content-type"].startswith("application/yaml")
    assert text.startswith("kind: capstan-pipeline\nschema: 1\nname: there\n")
    back = server.post("/api/pipelines/import", {"text": text, "name": "back"}, expect=201)
    assert back["definition"] == HELLO and back["problems"] == [] and back["format"] == "capstan"
    assert server.get("/api/pipelines/back")["definition"] == HELLO
    # the same name again: refused, or as its next draft
    server.post("/api/pipelines/import", {"text": text, "name": "back"}, expect=409)
    changed = text.replace("two: lines", "three")
    assert changed != text
    server.post("/api/pipelines/import", {"text": changed, "name": "back", "replace": True}, expect=201)
    assert server.get("/api/pipelines/back")["revision"] == 2
    # only looking makes nothing
    assert server.post("/api/pipelines/import", {"text": text, "name": "never", "dry_run": True})["publishable"]
    assert server.request("GET", "/api/pipelines/never")[0] == 404


@pytest.mark.parametrize("text, field", [
    ("kind: capstan-pipeline\nschema: 2\nname: x\ndefinition: {}\n", "schema"),
    ("kind: capstan-pipeline\nschema: 1\nname: x\n", "definition"),
    ("kind: capstan-pipeline\nschema: 1\ndefinition: {}\nextra: 1\n", "extra"),
    ("hello: there\n", "kind"),
    ("a: [", None),
])
def test_files_that_are_none_are_refused_with_the_place(server, text, field):
    error = server.post("/api/pipelines/import", {"text": text, "name": "bad"}, expect=400)["error"]
    assert error.get("field") == field, error


def test_a_viewer_may_export_but_not_import(server):
    key = server.post("/api/keys", {"name": "reader", "scopes": ["read"]}, expect=201)["secret"]
    publish(server, "shown", HELLO)
    assert server.request("GET", "/api/pipelines/shown/export", key=key)[0] == 200
    assert server.request("POST", "/api/pipelines/import", {"text": "nodes: []\nedges: []", "name": "no"},
                          key=key)[0] == 403


def test_a_file_runs_without_a_server(tmp_path, mock):
    config = tmp_path / "capstan.yaml"
    config.write_text(mock_config(mock))
    file = tmp_path / "hello.yaml"
    file.write_text(json.dumps({"kind": "capstan-pipeline", "schema": 1, "name": "hello", "definition": HELLO}))
    (tmp_path / "who.txt").write_text("Ann")
    out, log = capstan("pipeline", "run", file, "--config", config, "--input", f"who=@{tmp_path / 'who.txt'}",
                       "--input", "n:=4", env={"TMPDIR": str(tmp_path)})
    assert "Hi Ann" in out and "/ 4\n- two: lines" in out and '"who": "Ann"' in out
    assert "ask" in log and "succeeded: 4 steps" in log
    assert not list(tmp_path.glob("capstan-run-*")), "nothing of the run is left"
    # as JSON; from standard input; without a configuration where no model is asked
    plain = definition([start(("a", "string")), node("say", "answer", text="{{ start.a | upper }}")], [("start", "say")])
    out, _ = capstan("pipeline", "run", "-", "--input", "a=x", "--json", text=json.dumps(plain),
                     env={"TMPDIR": str(tmp_path)})
    assert json.loads(out)["text"] == "X"


def test_a_file_that_is_wrong_does_not_run(tmp_path):
    bad = definition([start(), node("say", "answer", text="{{ nothing.there }}")], [("start", "say")])
    _, log = capstan("pipeline", "run", "-", text=json.dumps(bad), env={"TMPDIR": str(tmp_path)}, expect=1)
    assert "error: say text" in log


def test_a_run_that_fails_says_where(server):
    publish(server, "broken", definition(
        [start(), llm("ask", "x", model="mock/gpt-mock?status=400"), node("say", "answer", text="{{ ask.text }}")],
        [("start", "ask"), ("ask", "say")]))
    _, log = capstan("pipeline", "run", "broken", "--input", "query=x", server=server, expect=1)
    assert "ask" in log and "failed" in log


def test_the_command_line_end_to_end(server, tmp_path):
    file = tmp_path / "life.yaml"
    file.write_text(json.dumps({"kind": "capstan-pipeline", "schema": 1, "name": "life", "definition": HELLO}))
    assert "not imported (dry run)" in capstan("pipeline", "import", file, "--dry-run", server=server)[0]
    assert "imported as a draft" in capstan("pipeline", "import", file, server=server)[0]
    capstan("pipeline", "publish", "life", "--message", "one", "--label", "production", server=server)
    out, log = capstan("pipeline", "run", "life", "--input", "who=Bob", server=server)
    assert "Hi Bob" in out and "succeeded" in log
    out, _ = capstan("pipeline", "run", "life@1", "--input", "who=Bob", "--json", server=server)
    assert json.loads(out)["version"] == 1
    # a second version, compared, and the label split between both
    exported, _ = capstan("pipeline", "export", "life", server=server)
    file.write_text(exported.replace("two: lines", "three"))
    capstan("pipeline", "import", file, "--replace", server=server)
    capstan("pipeline", "publish", "life", server=server)
    out, _ = capstan("pipeline", "diff", "life", "1", "2", server=server)
    assert out.startswith("~ say\n") and "three" in out
    assert json.loads(capstan("pipeline", "diff", "life", "1", "2", "--json", server=server)[0])["nodes"][0]["id"] == "say"
    capstan("pipeline", "label", "life", "production", "1=9", "2=1", server=server)
    targets = server.get("/api/pipelines/life")["labels"][0]["targets"]
    assert targets == [{"version": 1, "weight": 9}, {"version": 2, "weight": 1}]
    assert "life" in capstan("pipeline", "list", server=server)[0]
    assert "life" in capstan("pipeline", "show", "life", server=server)[0]
    capstan("pipeline", "delete", "life", server=server)
    capstan("pipeline", "run", "life", "--input", "who=Bob", server=server, expect=1)


def test_what_is_not_understood_is_a_usage_error():
    assert "--help" in capstan("pipeline", "fly", expect=2)[1]
    assert "is not NAME=VALUE" in capstan("pipeline", "run", "x", "--input", "novalue", expect=2)[1]
    assert "Examples:" in capstan("pipeline", "--help")[0]


def test_runs_are_recorded_and_replayed_without_a_model(server, tmp_path):
    publish(server, "taped", HELLO)
    ended = server.post("/api/pipelines/taped/runs", {"inputs": {"who": "Ann", "n": 1}})
    file = tmp_path / "taped.yaml"
    capstan("pipeline", "record", ended["id"], "--file", file, "--name", "ann", server=server)
    capstan("pipeline", "record", ended["id"], "--file", file, "--name", "again", server=server)
    out, _ = capstan("pipeline", "test", file)  # no server, no provider
    assert "ann" in out and out.endswith("2 passed, 0 failed\n")
    # a change of the definition shows, until it is kept
    file.write_text(file.read_text().replace("- two: lines", "- changed", 1))
    out, _ = capstan("pipeline", "test", file, expect=1)
    assert "recorded: " in out and "- changed" in out
    capstan("pipeline", "test", file, "--update")
    assert json.loads(capstan("pipeline", "test", file, "--json")[0]) == {"passed": 2, "failed": 0}
    # and against the runs that a server has
    out, _ = capstan("pipeline", "test", "taped", "--version", "production", server=server)
    assert out.endswith("1 passed, 0 failed\n")


def test_a_file_without_recorded_runs_does_not_pass(tmp_path):
    file = tmp_path / "bare.yaml"
    file.write_text(json.dumps(HELLO))
    assert "no recorded runs" in capstan("pipeline", "test", file, expect=1)[1]


def test_the_gallery_is_there_replays_and_can_be_used(server):
    items = server.get("/api/pipelines/gallery")["items"]
    assert len(items) >= 12 and all(i["samples"] and i["summary"] for i in items)
    assert {"any", "strong"} == {i["model"] for i in items}
    assert capstan("pipeline", "test", "--gallery")[0].endswith(" passed, 0 failed\n")
    made = server.post("/api/pipelines/import", {"gallery": "summarise", "name": "mine",
                                                 "models": {"smart": "mock/gpt-mock?echo=1"}}, expect=201)
    assert made["publishable"] and made["problems"] == []
    sample = next(i for i in items if i["name"] == "summarise")["samples"][0]
    ended = server.post("/api/pipelines/mine/runs", {"version": "draft", "inputs": sample["inputs"]})
    assert ended["status"] == "succeeded" and "library" in ended["text"]
    server.post("/api/pipelines/import", {"gallery": "none", "name": "x"}, expect=400)
