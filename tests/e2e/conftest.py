"""Fixtures of the end-to-end tests: a server of our own, a scripted upstream, and real clients.

The program under test is $CAPSTAN_BINARY, or build/capstan. Every server listens on a free port of
127.0.0.1, keeps its data in a temporary folder, and is ended by the process id that the test started.
"""
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("CAPSTAN_BINARY", str(ROOT / "build" / "capstan"))


class Process:
    """A started program whose first lines on standard output say `name: value`."""

    def __init__(self, args, wait_for, env=None, timeout_s=60):
        self.lines, self.facts, self.log = [], {}, []
        self.process = subprocess.Popen(
            args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(env or {})})
        self._ready = threading.Event()
        self._wait_for = wait_for
        threading.Thread(target=self._read_out, daemon=True).start()
        threading.Thread(target=self._read_err, daemon=True).start()
        if not self._ready.wait(timeout_s) or wait_for not in self.facts:
            self.stop()
            raise RuntimeError(f"{args} did not say '{wait_for}':\n" + "\n".join(self.lines + self.log[-40:]))

    def _read_out(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            match = re.match(r"\s*([a-z ]+):\s+(\S.*)$", line)
            if match:
                self.facts[match[1].strip()] = match[2].strip()
                if match[1].strip() == self._wait_for:
                    self._ready.set()
        self._ready.set()

    def _read_err(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip())

    def stop(self, kill=False):
        if self.process.poll() is None:
            (self.process.kill if kill else self.process.terminate)()
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Server(Process):
    """`capstan serve` with its address (`url`) and a key."""

    def __init__(self, directory, config="", key=None, args=(), env=None):
        self.directory = pathlib.Path(directory)
        self.config_path = self.directory / "capstan.yaml"
        self.data_path = self.directory / "data"
        if config is not None:
            self.config_path.write_text(config)
        super().__init__(
            [BINARY, "serve", "--config", str(self.config_path), "--data", str(self.data_path),
             "--listen", "127.0.0.1:0", *args],
            wait_for="address", env=env)
        self.url = self.facts["address"]
        self.key = key or self.facts.get("first key")

    def request(self, method, path, body=None, headers=None, key=None):
        """(status, headers, parsed JSON or text); key=False sends none."""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("content-type", "application/json")
        if key is not False:
            request.add_header("authorization", f"Bearer {key or self.key}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        text = answer.read().decode()
        try:
            return answer.status, answer.headers, json.loads(text)
        except ValueError:
            return answer.status, answer.headers, text

    def get(self, path, **options):
        status, _, body = self.request("GET", path, **options)
        assert status == 200, (status, body)
        return body

    def post(self, path, body, expect=200, **options):
        status, _, answer = self.request("POST", path, body, **options)
        assert status == expect, (status, answer)
        return answer

    def last_call(self, timeout_s=30):
        """The newest call's whole record; a call is visible as soon as it has ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            items = self.get("/api/calls?limit=1")["items"]
            if items:
                return self.get("/api/calls/" + items[0]["id"])
            time.sleep(0.05)
        raise AssertionError("no call on record")


@pytest.fixture(scope="session")
def mock():
    """`capstan mock`: a scripted OpenAI and Anthropic upstream."""
    process = Process([BINARY, "mock", "--listen", "127.0.0.1:0"], wait_for="address")
    process.url = process.facts["address"]
    yield process
    process.stop()


def mock_config(mock, extra=""):
    """Providers `mock` (OpenAI), `claude` (Anthropic) and `busy` (for refusals that cool a key down), routes `smart` and `sonnet` to them."""
    return f"""
providers:
  mock:   {{ format: openai,    base_url: "{mock.url}/v1", api_key: "sk-mock" }}
  claude: {{ format: anthropic, base_url: "{mock.url}", api_key: "sk-ant-mock" }}
  busy:   {{ format: openai,    base_url: "{mock.url}/v1", api_key: "sk-busy" }}
routes:
  smart:  {{ targets: [ {{ provider: mock, model: gpt-mock }} ] }}
  sonnet: {{ targets: [ {{ provider: claude, model: claude-mock }} ] }}
{extra}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, mock):
    process = Server(tmp_path_factory.mktemp("server"), mock_config(mock))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])
