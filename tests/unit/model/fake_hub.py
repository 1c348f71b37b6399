#!/usr/bin/env python3
"""fake_hub.py FILE: a hub of model files for test_pull.c. Prints its port, then serves FILE as

  /whole            as it is             /breaking   broken off after every 700,000 bytes, Range honoured
  /hub              a redirect to /whole that tells the SHA-256, as a hub does
  /lying            a redirect that tells another one
  /gone             404                  /endless    more bytes than FILE has
  /norange          broken off once; Range is ignored
"""
import hashlib
import http.server
import sys

with open(sys.argv[1], "rb") as file:
    DATA = file.read()
SHA256 = hashlib.sha256(DATA).hexdigest()
BREAK_BYTES = 700_000
broken_off = set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        getattr(self, "serve_" + self.path.strip("/"))()

    def redirect(self, digest):
        self.send_response(302)
        self.send_header("Location", "/whole")
        self.send_header("X-Linked-Etag", f'"{digest}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_from(self, start, most, total=None):
        total = len(DATA) if total is None else total
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write((DATA + bytes(max(0, total - len(DATA))))[start : start + most])
        if start + most < total:
            self.close_connection = True

    def range_start(self):
        value = self.headers.get("Range", "bytes=0-")
        return int(value[len("bytes=") : -1])

    def serve_whole(self):
        self.send_from(self.range_start(), len(DATA))

    def serve_breaking(self):
        self.send_from(self.range_start(), BREAK_BYTES)

    def serve_norange(self):
        first = "norange" not in broken_off
        broken_off.add("norange")
        self.send_from(0, BREAK_BYTES if first else len(DATA))

    def serve_endless(self):
        self.send_from(0, len(DATA) + 5_000_000, len(DATA) + 5_000_000)

    def serve_hub(self):
        self.redirect(SHA256)

    def serve_lying(self):
        self.redirect("0" * 64)

    def serve_gone(self):
        self.send_response(404)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"gone")

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # clients that leave are part of the test


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
