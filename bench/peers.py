"""Other gateways beside ours in the same run, with the same upstream (`capstan mock`) and load (`capstan bench`): CPU a
proxied call of 1 KB each way and a relayed stream event. Ours has key, limits, budget, price, metrics and the record of
calls on; TensorZero's storage is off, Portkey keeps nothing. Portkey does not stream from a plain host."""
import pathlib
import subprocess
import tempfile
import time
import urllib.request

from _common import Report, free_port, measure, node_with, python_with, start_program, stop
from _gateway import KEY, STREAM, WHOLE, configuration, serve

TENSORZERO, PORTKEY = "tensorzero==2026.6.0", "@portkey-ai/gateway@1.15.2"
ROUNDS = 3
CALL = ("--parallel", 32, "--duration", "3s")
EVENT = ("--stream", "--parallel", 64, "--duration", "3s")

SERVE_TENSORZERO = """
import asyncio, sys, tensorzero
async def main():
    gateway = await tensorzero._start_http_gateway(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None,
                                                   valkey_url=None, async_setup=True)
    print("base:", gateway.base_url, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def start_tensorzero(folder, upstream):
    """The process and the address of its OpenAI door."""
    python = python_with("tensorzero", TENSORZERO)
    models = "".join(f"""
[models.{name}]
routing = ["mock"]
[models.{name}.providers.mock]
type = "openai"
model_name = "{model}"
api_base = "{upstream}/v1/"
api_key_location = "none"
""" for name, model in (("whole", WHOLE), ("stream", STREAM)))
    config = folder / "tensorzero.toml"
    config.write_text(f"[gateway]\nobservability.enabled = false\n{models}")
    process = subprocess.Popen([python, "-c", SERVE_TENSORZERO, config], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("base:"):
            return process, line.split()[1] + "/chat/completions"
    raise SystemExit("bench: TensorZero did not start")


def start_portkey():
    home = node_with("portkey", PORTKEY)
    port = free_port()
    process = subprocess.Popen(["node", home / "node_modules/@portkey-ai/gateway/build/start-server.js", "--headless",
                                f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
            return process, f"http://127.0.0.1:{port}/v1/chat/completions"
        except OSError:
            time.sleep(0.1)
    raise SystemExit("bench: Portkey did not start")


def rounds(*sides):
    """The median of each side's CPU microseconds, measured in turn so that a busy minute meets them all."""
    taken = [[side()[0] for side in sides] for _ in range(ROUNDS)]
    return [sorted(column)[ROUNDS // 2] for column in zip(*taken)]


def main():
    report = Report("peers")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        mock, facts = start_program("mock", "--listen", "127.0.0.1:0")
        server, own = serve(folder / "own", configuration(facts["address"]))
        tensorzero, tensorzero_url = start_tensorzero(folder, facts["address"])
        portkey, portkey_url = start_portkey()
        headers = ("--header", "x-portkey-provider: openai", "--header", f"x-portkey-custom-host: {facts['address']}/v1")
        url = own["address"] + "/v1/chat/completions"
        try:
            ours, theirs, node = rounds(
                lambda: measure(url, [server.pid], "--model", "whole", *CALL, key=KEY),
                lambda: measure(tensorzero_url, [tensorzero.pid], "--model", "tensorzero::model_name::whole", *CALL),
                lambda: measure(portkey_url, [portkey.pid], "--model", WHOLE, *headers, *CALL))
            report.add("tensorzero_call_cpu", theirs, "us", "ours", ours, ">= 10")
            report.add("portkey_call_cpu", node, "us", "ours", ours, ">= 50")
            ours, theirs = rounds(
                lambda: measure(url, [server.pid], "--model", "stream", *EVENT, key=KEY, events=True),
                lambda: measure(tensorzero_url, [tensorzero.pid], "--model", "tensorzero::model_name::stream", *EVENT,
                                events=True))
            report.add("tensorzero_event_cpu", theirs, "us", "ours", ours, ">= 3")
        finally:
            stop(server, tensorzero, portkey, mock)
    report.write(rounds=ROUNDS, call=CALL, event=EVENT, tensorzero=TENSORZERO, portkey=PORTKEY)


main()
