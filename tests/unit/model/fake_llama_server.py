#!/usr/bin/env python3
"""Stands in for llama-server in test_engine.c: the same arguments, the same health check, and the ways to
fail that the model file's first line names:

  ok          ready at once          slow       ready after 0.3 s
  refuse      ends at once, saying why          crash      ends itself when asked for /crash
  stubborn    ignores TERM           hang       stops answering when asked for /hang
"""
import http.server
import os
import signal
import socketserver
import sys
import time

if "--version" in sys.argv:
    print("version: 9.9.9 (fake)")
    sys.exit(0)
if "--help" in sys.argv:
    print("--ui, --webui, --no-ui, --no-webui     whether to enable the Web UI")
    print("-cram, --cache-ram N                    the maximum cache size in MiB")
    sys.exit(0)


def argument(name):
    return sys.argv[sys.argv.index(name) + 1]


with open(argument("--model"), encoding="ascii") as file:
    behaviour = file.readline().strip()
print(f"0.00.001 I start: {behaviour}", file=sys.stderr, flush=True)
if behaviour == "refuse":
    print("0.00.002 E load_model: failed to load, tensor is corrupt", file=sys.stderr, flush=True)
    sys.exit(1)
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "--no-ui" not in sys.argv or "--offline" in sys.argv:
    sys.exit(3)  # arguments that --help does not list must not be used
if os.environ.get("CAPSTAN_SECRET") or not os.environ.get("LLAMA_API_KEY"):
    sys.exit(4)
ready_at = time.monotonic() + (0.3 if behaviour == "slow" else 0)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        if self.path == "/crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.path == "/hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        ready = time.monotonic() >= ready_at
        self.answer(200 if ready else 503, b'{"status":"ok"}' if ready else b'{"error":{}}')

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


Server(argument("--host"), Handler).serve_forever()
