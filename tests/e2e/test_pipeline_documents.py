"""Files in pipelines: inputs that are files, by id, by address and whole; the node that reads them to text."""
import base64
import http.server
import pathlib
import threading

import pytest
from openai import OpenAI

from conftest import Server, mock_config
from test_pipelines import definition, node, publish, run, start

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
PAGE = b"<html><head><title>Winches</title></head><body><main><p>A capstan is a winch.</p></main></body></html>"


class Site:
    """Serves a page, and a refusal elsewhere."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path == "/page" else 404)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(PAGE)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    site = Site()
    process = Server(tmp_path_factory.mktemp("server"), mock_config(mock, f'pipelines: {{ http_allow: ["{site.host}"] }}'))
    process.site = site
    publish(process, "read", definition(
        [start(("one", "file"), ("more", "files")),
         node("read_one", "document", files="start.one"), node("read_more", "document", files="start.more"),
         node("out", "end", outputs=[{"name": "one", "value": "read_one.text"}, {"name": "more", "value": "read_more.texts"},
                                     {"name": "told", "value": "read_one.documents"}])],
        [("start", "read_one"), ("read_one", "read_more"), ("read_more", "out")]))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def upload(server, name, content):
    client = OpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0)
    return client.files.create(file=(name, content), purpose="user_data").id


def data_url(content, kind="text/markdown"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def test_files_by_id_address_and_whole(server):
    stored = upload(server, "notes.md", b"# Rope\n\nHemp and sisal.")
    ended = run(server, "read", inputs={"one": stored, "more": [
        f"http://{server.site.host}/page", {"url": data_url(b"a,b\n1,2\n", "text/csv"), "name": "t.csv"}]})
    assert ended["status"] == "succeeded", ended
    outputs = ended["outputs"]
    assert outputs["one"] == "Rope\nHemp and sisal."
    assert outputs["told"][0] | {"text": ""} == {"name": "notes.md", "title": "Rope", "format": "markdown", "text": "", "pages": 0}
    assert "A capstan is a winch." in outputs["more"][0]
    assert "1" in outputs["more"][1]


def test_none_given(server):
    ended = run(server, "read", inputs={"one": data_url(b"only this")})
    assert ended["outputs"]["one"] == "only this" and ended["outputs"]["more"] == []


@pytest.mark.parametrize("one, status, words", [
    ("notes.md", 400, "takes files"),
    (["file-1"], 400, "takes files"),
])
def test_what_is_no_file_is_refused_at_once(server, one, status, words):
    answer = server.post("/api/pipelines/read/runs", {"inputs": {"one": one}}, expect=status)
    assert words in answer["error"]["message"] and answer["error"]["field"] == "inputs.one"


@pytest.mark.parametrize("one, words", [
    ("file-01h00000000000000000000000", "no such"),
    ("https://127.0.0.1:1/x", "127.0.0.1"),
    (data_url(b"\x00\x01\x02\x03" * 100, "application/octet-stream"), "no reader"),
    ("data:text/plain,plain", "base64"),
])
def test_what_cannot_be_read_fails_the_node_clearly(server, one, words):
    ended = run(server, "read", inputs={"one": one})
    assert ended["status"] == "failed", ended
    assert words in ended["error"]["message"], ended["error"]


def test_another_projects_file_is_not_read(server):
    stored = upload(server, "ours.txt", b"ours")
    other = server.post("/api/projects", {"name": "other"}, expect=201)["secret"]
    body = server.get("/api/pipelines/read")["definition"]
    server.post("/api/pipelines", {"name": "read", "definition": body}, key=other, expect=201)
    ended = server.post("/api/pipelines/read/runs", {"inputs": {"one": stored}, "version": "draft"}, key=other)
    assert ended["status"] == "failed" and "ours" not in ended["error"]["message"]


def test_a_broken_file_takes_the_error_branch(server):
    publish(server, "careful", definition(
        [start(("one", "file")), node("read", "document", files="start.one", on_error="branch"),
         node("good", "answer", text="{{ read.text }}"), node("bad", "answer", text="could not: {{ read.error_message }}")],
        [("start", "read"), ("read", "good"), ("read", "error", "bad")]))
    ended = run(server, "careful", inputs={"one": data_url(b"%PDF-1.7\nnothing", "application/pdf")})
    assert ended["status"] == "succeeded" and ended["text"].startswith("could not: "), ended
