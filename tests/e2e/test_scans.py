"""Files without text: a model that sees transcribes their pages, or Docling or Tika reads them. The services are small
HTTP servers of this test that speak the real ones' requests and answers; each way to fail gives the file an error that
says what to do."""
import base64
import email.parser
import email.policy
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
import uuid

import pytest

from conftest import BINARY, Server

DATA = pathlib.Path(__file__).resolve().parent.parent / "data/extract"
WAIT_S = 120
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
DOCLING = {"document": {"filename": "a", "md_content": "# Harvest\n\n| fruit | kg |\n|---|---|\n| plums | 40 |\n"},
           "status": "success", "errors": [], "processing_time": 0.1, "timings": {}}
TIKA = """<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Ledger</title></head><body><div class="page">
<h1>Harvest</h1><p>The pears weighed 30 kilograms this year, and the plums weighed 40 kilograms.</p></div></body></html>"""


class Service:
    """Docling, Tika and an OpenAI provider behind one address; `answer(handler)` decides."""

    def __init__(self):
        self.requests, self.answer = [], None
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self):
                self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
                service.requests.append(self)
                service.answer(self)

            do_POST = do_PUT = do_any

            def reply(self, status, content_type, body):
                self.send_response(status)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # the other side had enough

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = "http://" + self.host
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, answer):
        self.requests.clear()
        self.answer = answer

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, service):
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"127.0.0.1:{free.getsockname()[1]}"
    process = Server(tmp_path_factory.mktemp("server"), f"""
providers:
  openai: {{ format: openai, base_url: "{service.url}/v1", api_key: "sk-eyes" }}
routes:
  seeing: {{ targets: [ {{ provider: openai, model: gpt-4o }} ] }}
knowledge:
  http_allow: ["{service.host}", "{dead}"]
""")
    process.dead = "http://" + dead
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def blank_pdf(pages):
    """Pages without anything on them: what a scan is to a reader of text."""
    kids = " ".join(f"{3 + i} 0 R" for i in range(pages))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"]
    objects += ["<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 400] >>"] * pages
    out, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    return out + (f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(places) + 1} /Root 1 0 R >>\n"
                  f"startxref\n{len(out)}\n%%EOF\n").encode()


def collection(server, scans):
    name = "c" + uuid.uuid4().hex[:12]
    made = server.post("/api/collections", {"name": name, "encoder": "none", "scans": scans}, expect=201)
    assert made["scans"]["by"] == scans["by"]
    return "/api/collections/" + name


def upload(server, api, name, content):
    mark = uuid.uuid4().hex
    body = (f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
            "content-type: application/octet-stream\r\n\r\n").encode() + content + f"\r\n--{mark}--\r\n".encode()
    status, _, answer = server.request("POST", api + "/documents", body,
                                       headers={"content-type": f"multipart/form-data; boundary={mark}"})
    assert status == 202, answer
    return f"{api}/documents/{answer['items'][0]['id']}"


def settled(server, document):
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        row = server.get(document)
        if row["state"] in ("ready", "failed", "no_text", "cancelled"):
            return row
        time.sleep(0.1)
    raise AssertionError(row)


def taken_in(server, scans, name="scan.png", content=PNG):
    api = collection(server, scans)
    document = upload(server, api, name, content)
    return api, document, settled(server, document)


def completion(text, finish="stop"):
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
                       "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
                       "usage": {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}}).encode()


def test_docling(server, service):
    service.serve(lambda request: request.reply(200, "application/json", json.dumps(DOCLING).encode()))
    api, document, row = taken_in(server, {"by": "docling", "address": service.url + "/"}, name="har\\vest.png")
    assert row["state"] == "ready", row
    request, = service.requests
    assert (request.command, request.path) == ("POST", "/v1/convert/file")
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"content-type: " + request.headers["content-type"].encode() + b"\r\n\r\n" + request.body)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
    assert parts["files"].get_payload(decode=True) == PNG
    assert parts["to_formats"].get_payload().strip() == "md"
    hit = server.post(api + "/search", {"query": "plums"})["items"][0]
    assert "plums" in hit["text"] and "Harvest" in hit["title"]


def test_tika(server, service):
    service.serve(lambda request: request.reply(200, "text/html", TIKA.encode()))
    api, document, row = taken_in(server, {"by": "tika", "address": service.url})
    assert row["state"] == "ready", row
    request, = service.requests
    assert (request.command, request.path, request.headers["accept"], request.body) == ("PUT", "/tika", "text/html", PNG)
    assert "40 kilograms" in server.post(api + "/search", {"query": "plums"})["items"][0]["text"]


def test_nothing_on_it(server, service):
    service.serve(lambda request: request.reply(204, "text/html", b""))
    assert taken_in(server, {"by": "tika", "address": service.url})[2]["state"] == "no_text"


@pytest.mark.parametrize("status, code, words", [
    (500, "upstream_error", "see its log, then take the document in again; it said: out of cheese"),
    (413, "request_too_large", "raise its limit, or split the file"),
    (422, "unsupported_media_type", "the file is encrypted, broken or of a kind that it does not know"),
    (404, "upstream_error", "scans.address must be its own base address"),
])
def test_service_refuses(server, service, status, code, words):
    service.serve(lambda request: request.reply(status, "text/plain", b"out of cheese"))
    _, _, row = taken_in(server, {"by": "tika", "address": service.url})
    assert row["state"] == "failed" and row["error_code"] == code, row
    assert words in row["error"] and f"Tika at {service.url}" in row["error"]


def test_docling_fails(server, service):
    failure = {"document": {"filename": "a", "md_content": None}, "status": "failure",
               "errors": [{"component_type": "document_backend", "module_name": "x", "error_message": "no pipeline"}]}
    service.serve(lambda request: request.reply(200, "application/json", json.dumps(failure).encode()))
    _, _, row = taken_in(server, {"by": "docling", "address": service.url})
    assert row["state"] == "failed" and "could not convert the file: no pipeline" in row["error"], row
    service.serve(lambda request: request.reply(200, "application/json", b"<html>"))
    _, _, row = taken_in(server, {"by": "docling", "address": service.url})
    assert row["state"] == "failed" and "its answer is no JSON" in row["error"], row


def test_dead_and_slow_and_too_large(server, service):
    _, _, row = taken_in(server, {"by": "tika", "address": server.dead})
    assert row["state"] == "failed" and "start it, or correct scans.address" in row["error"], row

    go_on = threading.Event()
    service.serve(lambda request: (go_on.wait(WAIT_S), request.reply(200, "text/html", b"late")))
    _, _, row = taken_in(server, {"by": "tika", "address": service.url, "timeout_s": 1})
    go_on.set()
    assert row["state"] == "failed" and row["error_code"] == "timeout" and "raise scans.timeout_s" in row["error"], row

    service.serve(lambda request: request.reply(200, "text/html", b"x" * (65 << 20)))
    _, _, row = taken_in(server, {"by": "tika", "address": service.url})
    assert row["state"] == "failed" and "its answer is larger than 64 MiB" in row["error"], row


def test_not_public(server):
    _, _, row = taken_in(server, {"by": "tika", "address": "http://127.0.0.1:1"})
    assert row["state"] == "failed" and "knowledge.http_allow" in row["error"], row


def test_again_when_it_is_back(server, service):
    service.serve(lambda request: request.reply(503, "text/plain", b"busy"))
    api, document, row = taken_in(server, {"by": "tika", "address": service.url})
    assert row["state"] == "failed"
    service.serve(lambda request: request.reply(200, "text/html", TIKA.encode()))
    server.post(api + "/ingest", {}, expect=202)
    deadline = time.monotonic() + WAIT_S
    while server.get(document)["state"] != "ready" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.get(document)["state"] == "ready"


@pytest.mark.skipif(not shutil.which("pdftoppm") or not shutil.which("pdftotext"), reason="no poppler-utils")
def test_vision_reads_pages(server, service):
    texts = ["```markdown\n# Harvest\n\nThe plums weighed 40 kilograms.\n```", "[no text]", "The pears weighed 30 kilograms."]
    asked = []

    def answer(request):
        asked.append(json.loads(request.body))
        request.reply(200, "application/json", completion(texts[len(asked) - 1]))

    service.serve(answer)
    api, document, row = taken_in(server, {"by": "vision", "route": "seeing"}, "scan.pdf", blank_pdf(3))
    assert row["state"] == "ready" and row["pages"] == 3, row
    assert len(asked) == 3
    for body in asked:
        words, image = body["messages"][0]["content"]
        assert "Transcribe this page" in words["text"]
        head, data = image["image_url"]["url"].split(",")
        assert head == "data:image/jpeg;base64" and base64.b64decode(data)[:3] == b"\xff\xd8\xff"
    pages = {hit["page"]: hit["text"] for query in ("plums", "pears") for hit in server.post(api + "/search", {"query": query})["items"]}
    assert any("plums" in text for text in pages.values()) and any("pears" in text for text in pages.values())
    chunks = server.get(document + "/chunks")["items"]
    assert {chunk["page"] for chunk in chunks} <= {1, 3} and chunks[-1]["page_last"] == 3
    call = server.last_call()  # costs what a call costs
    assert call["route"] == "seeing" and float(call["cost_usd"]) > 0, call


def test_vision_reads_a_picture(server, service):
    service.serve(lambda request: request.reply(200, "application/json", completion("A sign: **No fishing**")))
    api, _, row = taken_in(server, {"by": "vision", "route": "seeing"})
    assert row["state"] == "ready", row
    assert "No fishing" in server.post(api + "/search", {"query": "fishing"})["items"][0]["text"]


def test_vision_fails(server, service):
    service.serve(lambda request: request.reply(400, "application/json", b'{"error":{"message":"no pictures here"}}'))
    _, _, row = taken_in(server, {"by": "vision", "route": "seeing"})
    assert row["state"] == "failed" and "page 1 could not be read by seeing" in row["error"], row
    service.serve(lambda request: request.reply(200, "application/json", completion("half of", "length")))
    _, _, row = taken_in(server, {"by": "vision", "route": "seeing"})
    assert row["state"] == "failed" and "write more tokens" in row["error"], row
    _, _, row = taken_in(server, {"by": "vision", "route": "nobody"})
    assert row["state"] == "failed" and "set scans.route" in row["error"], row
    _, _, row = taken_in(server, {"by": "vision", "route": "seeing"}, "x.bin", bytes(range(256)) * 8)
    assert row["state"] == "failed" and row["error_code"] == "unsupported_media_type", row


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="no poppler-utils")
def test_vision_pages_are_bounded(server, service):
    service.serve(lambda request: request.reply(500, "text/plain", b""))
    _, _, row = taken_in(server, {"by": "vision", "route": "seeing", "pages_max": 2}, "scan.pdf", blank_pdf(3))
    assert row["state"] == "failed" and "raise scans.pages_max" in row["error"], row
    assert service.requests == []


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="no poppler-utils")
def test_none_asks_nobody(server, service):
    service.serve(lambda request: request.reply(500, "text/plain", b""))
    _, _, row = taken_in(server, {"by": "none"}, "scan.pdf", (DATA / "picture.pdf").read_bytes())
    assert row["state"] == "no_text" and service.requests == []


@pytest.mark.parametrize("scans, field", [
    ({"by": "eyes"}, "scans.by"), ({"by": "vision"}, "scans.route"), ({"by": "tika"}, "scans.address"),
    ({"by": "docling", "address": "ftp://x"}, "scans.address"), ({"by": "docling", "address": "http://u:p@x"}, "scans.address"),
    ({"by": "vision", "route": "seeing", "pages_max": 0}, "scans.pages_max"), ({"why": 1}, "scans.why"),
])
def test_settings_are_checked(server, scans, field):
    status, _, answer = server.request("POST", "/api/collections", {"name": "refused", "encoder": "none", "scans": scans})
    assert status == 400 and answer["error"]["field"] == field, answer


def test_command_line(server):
    name = "c" + uuid.uuid4().hex[:12]
    env = {**os.environ, "CAPSTAN_URL": server.url, "CAPSTAN_KEY": server.key}
    made = subprocess.run([BINARY, "knowledge", "create", name, "--encoder", "none", "--scans", "docling:http://10.0.0.5:5001", "--json"],
                          env=env, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    scans = server.get("/api/collections/" + name)["scans"]
    assert scans == {"by": "docling", "route": None, "address": "http://10.0.0.5:5001", "pages_max": 50, "timeout_s": 300}


def test_stop_while_somebody_is_asked(tmp_path, service):
    """The server does not wait for a service that says nothing, and takes the document up again."""
    asked, go_on = threading.Event(), threading.Event()
    service.serve(lambda request: (asked.set(), go_on.wait(WAIT_S), request.reply(200, "text/html", TIKA.encode())))
    config = f'knowledge:\n  http_allow: ["{service.host}"]\n'
    server = Server(tmp_path, config)
    try:
        api = collection(server, {"by": "tika", "address": service.url})
        document = upload(server, api, "scan.png", PNG)
        assert asked.wait(WAIT_S)
    finally:
        assert server.stop() == 0, "\n".join(server.log[-40:])
    go_on.set()
    server = Server(tmp_path, None, key=server.key)
    try:
        assert settled(server, document)["state"] == "ready"
    finally:
        assert server.stop() == 0
