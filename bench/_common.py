"""What the benches that run servers share: processes, CPU time, nginx, the line that every figure prints."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = pathlib.Path(os.environ.get("CAPSTAN_BENCH_FOLDER", ROOT / "build/bench"))
BINARY = os.environ.get("CAPSTAN_BINARY", str(ROOT / "build/capstan"))
TICKS = os.sysconf("SC_CLK_TCK")


class Report:
    """Prints `NAME VALUE UNIT, YARDSTICK VALUE, ratio R` and keeps it for build/bench/NAME.json."""

    def __init__(self, name):
        self.name, self.figures = name, []

    def add(self, name, value, unit, yardstick, yardstick_value, goal=None):
        ratio = value / yardstick_value if yardstick_value else float("nan")
        print(f"{name} {value:.2f} {unit}, {yardstick} {yardstick_value:.2f}, ratio {ratio:.2f}"
              + (f" (goal {goal})" if goal else ""), flush=True)
        self.figures.append(dict(name=name, value=value, unit=unit, yardstick=yardstick,
                                 yardstick_value=yardstick_value, ratio=ratio, goal=goal))

    def write(self, **settings):
        FOLDER.mkdir(parents=True, exist_ok=True)
        cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
        (FOLDER / f"{self.name}.json").write_text(json.dumps(dict(
            figures=self.figures, machine=cpu[1] if cpu else "", cores=os.cpu_count(), load=os.getloadavg(),
            settings=settings), indent=1))


def python_with(name, *packages):
    """The interpreter of an environment of its own under the benches' folder, made once, that has the packages."""
    home = FOLDER / name / "venv"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        (home / "ready").touch()
    return home / "bin/python"


def node_with(name, package):
    """The folder whose node_modules/ holds the npm package, fetched once."""
    home = FOLDER / name
    if not (home / "ready").exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--prefix", home, package], check=True)
        (home / "ready").touch()
    return home


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_s(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def start_program(*arguments, cwd=None):
    """A started `capstan …` and what it said: {"address": …, "first key": …}."""
    process = subprocess.Popen([BINARY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               cwd=cwd)
    facts = {}
    for line in process.stdout:
        match = re.match(r"\s*([a-z ]+):\s+(\S+)", line)
        if match:
            facts[match[1].strip()] = match[2]
        if "address" in facts:
            return process, facts
    raise SystemExit(f"capstan {arguments[0]} did not start")


def start_nginx(upstream, folder, tls=False):
    """nginx as a bare proxy with kept connections, unbuffered, one worker a core; (process, port, pids)."""
    if not shutil.which("nginx"):
        raise SystemExit("nginx is missing: apt install nginx-light")
    port = free_port()
    scheme = "https" if tls else "http"
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes {os.cpu_count()}; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server {upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} reuseport backlog=4096;
    location / {{ proxy_pass {scheme}://up; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_buffering off; proxy_ssl_session_reuse on; }} }}
}}""")
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    workers = [int(p) for p in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True,
                                              text=True).stdout.split()]
    return process, port, workers


def load(url, *arguments, key="none"):
    """One run of `capstan bench`; its JSON."""
    out = subprocess.run([BINARY, "bench", url, "--json", "--key", key, *map(str, arguments)], check=True,
                         capture_output=True, text=True).stdout
    result = json.loads(out)
    if result["failed"] or result["not_2xx"]:
        raise SystemExit(f"bench: {url}: {result['failed']} failed, {result['not_2xx']} were refused")
    return result


def measure(url, pids, *arguments, key="none", events=False):
    """CPU microseconds a request (or an event) of the processes under load."""
    load(url, "--duration", "500ms", "--warmup", "0s", *arguments, key=key)
    before = cpu_s(pids)
    result = load(url, "--warmup", "0s", *arguments, key=key)
    spent = cpu_s(pids) - before
    return spent / max(result["events" if events else "completed"], 1) * 1e6, result


def stop(*processes):
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
