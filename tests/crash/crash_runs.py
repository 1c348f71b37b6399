"""Kill -9 of a server in the middle of pipelines, as often as CRASH_ROUNDS says (default 10), judged from outside.

The witness is a service of this script that notes every request it gets with its idempotency key. Each run asks it
for one step after the other, in journal mode sync. What must hold: a run whose start was answered ends well; each of
its steps was done; a step is asked for again only under the same key, and never once the step after it was asked for,
because then its result was durable. Half of the runs belong to a session that counts them: no turn is lost or doubled.

The server is killed while runs are under way, at a random moment, and started again on the same data.
Usage: crash_runs.py BINARY"""
import concurrent.futures
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

STEPS, RUNS_OF_ROUND, WAIT_S = 4, 12, 120


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that was killed


class Witness:
    def __init__(self):
        self.lock, self.seen = threading.Lock(), []
        witness = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                with witness.lock:
                    witness.seen.append((self.path, self.headers.get("idempotency-key")))
                time.sleep(random.random() * 0.02)
                body = json.dumps({"path": self.path}).encode()
                try:
                    self.send_response(200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # the server was killed

            def log_message(self, *_):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def start_server(binary, folder, key=None):
    """A child of the killed process may hold its lock for a moment longer, until it has died of its parent's death."""
    deadline = time.monotonic() + 30
    while True:
        server = Server(binary, folder, key)
        if server.url:
            return server
        log = pathlib.Path(folder, "log").read_text()
        if "Another process" not in log or time.monotonic() > deadline:
            sys.exit("the server did not start:\n" + log[-2000:])
        time.sleep(0.05)


class Server:
    def __init__(self, binary, folder, key=None):
        self.process = subprocess.Popen([binary, "serve", "--config", f"{folder}/capstan.yaml", "--data", f"{folder}/data",
                                         "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=open(f"{folder}/log", "w"), text=True)
        facts = {}
        for line in self.process.stdout:
            match = re.match(r"\s*([a-z ]+):\s+(\S+)", line)
            if match:
                facts[match[1].strip()] = match[2]
            if "address" in facts:
                break
        self.url, self.key = facts.get("address"), key or facts.get("first key")

    def request(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, data=None if body is None else json.dumps(body).encode(), method=method)
        request.add_header("authorization", f"Bearer {self.key}")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def kill(self):
        self.process.kill()
        self.process.wait()


def definition(witness, counted):
    steps = [{"id": f"s{i}", "type": "http", "config": {"method": "POST", "url": witness.url + "/{{ start.run }}/" + str(i),
                                                        "idempotency_key": True}} for i in range(STEPS)]
    nodes = [{"id": "start", "type": "start", "config": {"inputs": [{"name": "run", "type": "string"}]}}, *steps]
    value = {"name": "n", "value": "s0.json.path"}
    variables = {}
    if counted:
        nodes.append({"id": "count", "type": "assigner",
                      "config": {"assignments": [{"variable": "conversation.n", "operation": "add", "value": "1"}]}})
        variables = {"variables": {"conversation": [{"name": "n", "type": "number", "value": 0}]}}
        value = {"name": "n", "value": "conversation.n"}
    nodes.append({"id": "done", "type": "end", "config": {"outputs": [value]}})
    ids = [node["id"] for node in nodes]
    return {"schema": 1, "nodes": nodes, "edges": [{"from": a, "to": b} for a, b in zip(ids, ids[1:])],
            "settings": {"journal": "sync"}, **variables}


def start_runs(server, names, acknowledged):
    def start(name):
        counted = name.endswith("c")
        body = {"inputs": {"run": name}, "mode": "async", **({"session": "one"} if counted else {})}
        try:
            answer = server.request("POST", f"/api/pipelines/{'counted' if counted else 'plain'}/runs", body)
            acknowledged[name] = answer["id"]
        except (OSError, ValueError, urllib.error.URLError):
            pass  # killed before it answered: nothing was promised
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(start, names))


def check_witness(seen, acknowledged):
    problems, by_run = [], {}
    for path, key in seen:
        _, name, step = path.split("/")
        by_run.setdefault(name, []).append((int(step), key))
    for name, asked in by_run.items():
        highest = 0
        for step, _ in asked:
            if step < highest:
                problems.append(f"run {name}: step {step} was done again after step {highest} had begun")
            highest = max(highest, step)
        for step in range(STEPS):
            if len({key for s, key in asked if s == step}) > 1:
                problems.append(f"run {name}: step {step} was asked for under two keys")
    for name in acknowledged:
        if {step for step, _ in by_run.get(name, [])} != set(range(STEPS)):
            problems.append(f"run {name}: a step is missing")
    return problems


def wait_for_all(server, acknowledged):
    problems, counts = [], []
    deadline = time.monotonic() + WAIT_S
    for name, id in acknowledged.items():
        while True:
            run = server.request("GET", f"/api/runs/{id}")
            if run["status"] not in ("running", "queued", "waiting") or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if run["status"] != "succeeded":
            problems.append(f"run {name} ({id}) is {run['status']}: {run.get('error')}")
        elif name.endswith("c"):
            counts.append(run["outputs"]["n"])
    if len(set(counts)) != len(counts):
        problems.append("two runs of the session had the same turn")
    return problems, counts


def main():
    binary, rounds = sys.argv[1], int(os.environ.get("CRASH_ROUNDS", "10"))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="capstan-crash-runs-"))
    witness = Witness()
    (folder / "capstan.yaml").write_text('pipelines: { http_allow: ["127.0.0.1:*"] }\n')
    server = start_server(binary, folder)
    for name in ("plain", "counted"):
        server.request("POST", "/api/pipelines", {"name": name, "definition": definition(witness, name == "counted")})
        server.request("POST", f"/api/pipelines/{name}/publish", {"labels": ["production"]})
    acknowledged, all_runs, steps, turns, problems = {}, 0, 0, 0, []
    for number in range(rounds):
        names = [f"r{number}x{i}{'c' if i % 3 == 0 else 'p'}" for i in range(RUNS_OF_ROUND)]
        starter = threading.Thread(target=start_runs, args=(server, names, acknowledged))
        starter.start()
        time.sleep(random.random() * 0.25)
        server.kill()
        starter.join()
        server = start_server(binary, folder, server.key)
        if number % 10 < 9 and number + 1 < rounds:
            continue
        found, counts = wait_for_all(server, acknowledged)
        problems += found
        with witness.lock:
            seen, witness.seen = witness.seen, witness.seen if found else []
        problems += check_witness(seen, acknowledged)
        all_runs += len(acknowledged)
        steps += len(seen)
        turns += len(counts)
        acknowledged = {}
        print(f"{number + 1} kills, {all_runs} acknowledged runs, {steps} requests at the witness, {turns} turns of the session, "
              f"{len(problems)} broken promises", flush=True)
        if problems:
            break
    server.kill()
    print("\n".join(problems[:20]))
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
