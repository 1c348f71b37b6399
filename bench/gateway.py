"""The gateway beside nginx in the same run: CPU a proxied call of 1 KB each way and a relayed stream event, with key,
limits, budget, price, metrics and call record on, to a plain and a TLS upstream; added latency at a fixed rate; what
translation costs; memory of open streams; reload of a large configuration; start and size. The upstream is `capstan
mock`, the load `capstan bench`, both the same for all."""
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from _common import (BINARY, Report, free_port, load, measure, resident_bytes, start_nginx, start_program, stop)
from _gateway import KEY, STREAM, WHOLE, configuration, serve

ROUNDS, SECONDS = 3, "3s"
SLOW = "gpt-mock?tokens=40&event_delay=3s"  # an event every three seconds: a stream that is open
OPEN_STREAMS, OPEN_STREAMS_H2 = 9000, 2000
ROUTES, KEYS = 5000, 10000


def best(function):
    """The least of several rounds: the machine is shared."""
    return min((function() for _ in range(ROUNDS)), key=lambda r: r[0])


def metric(address, name):
    text = urllib.request.urlopen(address + "/metrics").read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem"], check=True, stderr=subprocess.DEVNULL)
    return folder / "cert.pem", folder / "key.pem"


def tls_call(report, folder):
    cert, key = certificate(folder)
    mock, facts = start_program("mock", "--listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key))
    upstream = re.sub("^http:", "https:", facts["address"])
    text = configuration(upstream).replace("api_key: sk-mock", f'api_key: sk-mock, ca_file: "{cert}"')
    server, own = serve(folder / "tls", text)
    nginx, port, workers = start_nginx(upstream.removeprefix("https://"), folder, tls=True)
    try:
        yardstick = best(lambda: measure(f"http://127.0.0.1:{port}/v1/chat/completions", workers, "--model", WHOLE,
                                         "--parallel", 32, "--duration", SECONDS))
        value = best(lambda: measure(own["address"] + "/v1/chat/completions", [server.pid], "--model", "whole",
                                     "--parallel", 32, "--duration", SECONDS, key=KEY))
        report.add("call_tls_upstream_cpu", value[0], "us", "nginx", yardstick[0], "1.0")
    finally:
        stop(server, nginx, mock)


def open_streams(report, name, server, own, count, goal_mb):
    """Memory over idle while so many streams are open and have had their first events."""
    time.sleep(1)
    idle = resident_bytes(server.pid)
    load_process = subprocess.Popen(
        [BINARY, "bench", own["address"] + "/v1/chat/completions", "--json", "--key", KEY, "--model", "slow", "--stream",
         "--parallel", str(count), "--duration", "60s", "--warmup", "0s", "--timeout", "200s"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(40):
            time.sleep(0.5)
            if metric(own["address"], "capstan_calls_now") >= count:
                break
        else:
            raise SystemExit(f"bench: only {metric(own['address'], 'capstan_calls_now')} of {count} streams are open")
        time.sleep(5)
        report.add(name, (resident_bytes(server.pid) - idle) / 1e6, "MB", "goal", goal_mb)
    finally:
        load_process.kill()
        load_process.wait()


def start_h2_front(upstream, folder):
    """nginx speaking TLS and HTTP/2 in front of the mock."""
    port = free_port()
    (folder / "h2.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/h2.pid; error_log {folder}/h2.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}/hb; proxy_temp_path {folder}/hp; fastcgi_temp_path {folder}/hf;
  uwsgi_temp_path {folder}/hu; scgi_temp_path {folder}/hs;
  server {{ listen 127.0.0.1:{port} ssl http2; http2_max_concurrent_streams 4096;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; keepalive_timeout 300s;
    location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_buffering off; }} }}
}}""")
    process = subprocess.Popen(["nginx", "-c", str(folder / "h2.conf")], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    return process, f"https://127.0.0.1:{port}"


def slow_configuration(upstream, options=""):
    return f"""
providers: {{ mock: {{ format: openai, base_url: "{upstream}/v1", api_key: sk-mock{options} }} }}
routes: {{ slow: {{ targets: [ {{ provider: mock, model: "{SLOW}" }} ] }} }}
keys: [ {{ name: bench, key: {KEY}, scopes: [call], models: ["*"] }} ]
"""


def memory_of_streams(report, folder):
    certificate(folder)
    mock, facts = start_program("mock", "--listen", "127.0.0.1:0")
    front, h2 = start_h2_front(facts["address"].removeprefix("http://"), folder)
    try:
        server, own = serve(folder / "plain", slow_configuration(facts["address"]))
        open_streams(report, f"memory_of_{OPEN_STREAMS}_streams", server, own, OPEN_STREAMS, 20)
        stop(server)
        server, own = serve(folder / "h2", slow_configuration(h2, f', ca_file: "{folder}/cert.pem"'))
        open_streams(report, f"memory_of_{OPEN_STREAMS_H2}_h2_streams", server, own, OPEN_STREAMS_H2, 30)
        stop(server)
    finally:
        stop(front, mock)


def large_configuration(extra):
    routes = "".join(f'  route-{i}: {{ targets: [ {{ provider: mock, model: "model-{i % 97}" }} ] }}\n' for i in range(ROUTES))
    keys = "".join(f'  - {{ name: key-{i}, key: cap_{i:024d}, scopes: [call], models: ["*"] }}\n' for i in range(KEYS))
    return ('providers:\n  mock: { format: openai, base_url: "http://127.0.0.1:9/v1", api_key: sk-mock }\n'
            f"routes:\n{routes}{extra}keys:\n{keys}")


def reload(report, folder):
    """From the signal until a route that was not there before answers; the longest turn of a loop; memory."""
    small = '  added: { targets: [ { provider: mock, model: "added" } ] }\n'
    server, own = serve(folder / "large", large_configuration(""))
    try:
        request = urllib.request.Request(own["address"] + "/v1/models/added",
                                         headers={"authorization": f"Bearer cap_{7:024d}"})
        before = metric(own["address"], "capstan_loop_turn_seconds_max")
        (folder / "large/capstan.yaml").write_text(large_configuration(small))
        began = time.monotonic()
        server.send_signal(signal.SIGHUP)
        while True:
            try:
                urllib.request.urlopen(request).read()
                break
            except urllib.error.HTTPError:
                time.sleep(0.002)
        report.add("reload_5000_routes_10000_keys", (time.monotonic() - began) * 1e3, "ms", "goal", 50)
        longest = metric(own["address"], "capstan_loop_turn_seconds_max")
        report.add("longest_turn_in_reload", longest * 1e3, "ms", "before it", before * 1e3, "1 ms")
        report.add("memory_with_them", resident_bytes(server.pid) / 2**20, "MiB", "goal over idle", 20)
    finally:
        stop(server)


def installed_bytes(folder):
    """As it is installed: without debug symbols."""
    subprocess.run(["strip", "-o", folder / "installed", BINARY], check=True)
    return (folder / "installed").stat().st_size


def main():
    report = Report("gateway")
    key = KEY
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        mock, facts = start_program("mock", "--listen", "127.0.0.1:0")
        (folder / "capstan.yaml").write_text(configuration(facts["address"]))
        command = ("serve", "--config", str(folder / "capstan.yaml"), "--data", str(folder / "data"),
                   "--listen", "127.0.0.1:0")
        stop(start_program(*command)[0])  # the first start makes the data folder
        began = time.monotonic()
        server, own = start_program(*command)
        urllib.request.urlopen(own["address"] + "/healthz").read()
        started_ms = (time.monotonic() - began) * 1e3
        nginx, port, workers = start_nginx(facts["address"].removeprefix("http://"), folder)
        ours, theirs = own["address"] + "/v1/chat/completions", f"http://127.0.0.1:{port}/v1/chat/completions"
        try:
            time.sleep(1)
            idle = resident_bytes(server.pid)
            yardstick = best(lambda: measure(theirs, workers, "--model", WHOLE, "--parallel", 32, "--duration", SECONDS))
            value = best(lambda: measure(ours, [server.pid], "--model", "whole", "--parallel", 32, "--duration", SECONDS,
                                         key=key))
            report.add("call_cpu", value[0], "us", "nginx", yardstick[0], "1.0")
            translated = best(lambda: measure(ours, [server.pid], "--model", "whole-translated", "--parallel", 32,
                                              "--duration", SECONDS, key=key))
            report.add("call_translated_cpu", translated[0], "us", "same format", value[0], "2.0")
            y_event = best(lambda: measure(theirs, workers, "--model", STREAM, "--stream", "--parallel", 64,
                                           "--duration", SECONDS, events=True))
            event = best(lambda: measure(ours, [server.pid], "--model", "stream", "--stream", "--parallel", 64,
                                         "--duration", SECONDS, key=key, events=True))
            report.add("event_cpu", event[0], "us", "nginx", y_event[0], "1.0")
            e_translated = best(lambda: measure(ours, [server.pid], "--model", "stream-translated", "--stream",
                                                "--parallel", 64, "--duration", SECONDS, key=key, events=True))
            report.add("event_translated_cpu", e_translated[0], "us", "same format", event[0], "2.0")
            y_rate = load(theirs, "--model", WHOLE, "--rate", 2000, "--duration", SECONDS)
            rate = load(ours, "--model", "whole", "--rate", 2000, "--duration", SECONDS, key=key)
            for p in ("p50", "p99"):
                report.add(f"latency_{p}_at_2000", rate["latency_ms"][p], "ms", "nginx", y_rate["latency_ms"][p], "1.0")
            report.add("idle_memory", idle / 2**20, "MiB", "goal", 15)
            report.add("binary", installed_bytes(folder) / 2**20, "MiB", "goal", 8)
            report.add("cold_start", started_ms, "ms", "goal", 30)
        finally:
            stop(server, nginx, mock)
        for part in (tls_call, memory_of_streams, reload):
            with tempfile.TemporaryDirectory() as own_folder:
                os.chmod(own_folder, 0o755)
                part(report, pathlib.Path(own_folder))
    report.write(seconds=SECONDS, rounds=ROUNDS, parallel=32, bytes_each_way=1024)


main()
