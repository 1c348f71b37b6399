"""CPU of the HTTP layers alone, beside nginx in the same run: a request of 1 KB answered with 1 KB through a
relay (everything in src/http, nothing above it), and an event of a stream. The upstream and the load are
the same for both; the CPU is the relay's own, user and system, from /proc."""
import json, os, pathlib, shutil, subprocess, sys, tempfile, time

from _common import cpu_s, free_port

folder = pathlib.Path(os.environ.get("CAPSTAN_BENCH_FOLDER", "build/bench"))
program = folder / "http_relay"
requests, concurrency = int(os.environ.get("REQUESTS", "60000")), 64
streams, events = 200, 300


def start(*arguments):
    process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def start_nginx(upstream, where):
    port = free_port()
    (where / "nginx.conf").write_text(f"""
daemon off; master_process off; worker_processes 1; pid {where}/pid; error_log {where}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {where}/body;
  proxy_temp_path {where}/proxy; fastcgi_temp_path {where}/f; uwsgi_temp_path {where}/u; scgi_temp_path {where}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_buffering {{buffering}}; }}
    location /stream {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_buffering off; }}
  }}
}}""".replace("{buffering}", "on"))
    process = subprocess.Popen(["nginx", "-c", where / "nginx.conf"], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    return process, port


def load(port, path, count, at_once, *more):
    out = subprocess.run([program, "load", f"http://127.0.0.1:{port}{path}", str(count), str(at_once), *more],
                         check=True, capture_output=True, text=True).stdout
    assert int(out) == 0, f"{out.strip()} requests failed"


def measure(process, port):
    load(port, "/", 2000, concurrency)
    before = cpu_s([process.pid])
    load(port, "/", requests, concurrency)
    call_us = (cpu_s([process.pid]) - before) / requests * 1e6
    before = cpu_s([process.pid])
    load(port, f"/stream?{events}", streams, streams, "get")
    event_us = (cpu_s([process.pid]) - before) / (streams * events) * 1e6
    return call_us, event_us


def main():
    with tempfile.TemporaryDirectory() as where:
        upstream, upstream_port = start("upstream")
        relay, relay_port = start("relay", f"http://127.0.0.1:{upstream_port}")
        nginx, nginx_port = start_nginx(upstream_port, pathlib.Path(where))
        try:
            rounds = [(measure(relay, relay_port), measure(nginx, nginx_port)) for _ in range(3)]
        finally:
            for process in (relay, nginx, upstream):
                process.terminate()
                process.wait()
    best = lambda side, figure: min(r[side][figure] for r in rounds)
    result = {}
    for figure, name in ((0, "http_call"), (1, "http_event")):
        own, yardstick = best(0, figure), best(1, figure)
        print(f"{name} {own:.2f} us, nginx {yardstick:.2f} us, ratio {own / yardstick:.2f}")
        result[name] = {"value_us": own, "nginx_us": yardstick, "ratio": own / yardstick}
    (folder / "relay.json").write_text(json.dumps(result, indent=1))


if not shutil.which("nginx"):
    sys.exit("bench relay: nginx is missing: apt install nginx")
main()
