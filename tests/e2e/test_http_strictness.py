"""What an attacker may send (tests/data/http), compared with nginx: what nginx refuses is refused, and no more
requests are seen in the same bytes than nginx sees. Being stricter is fine."""
import os, pathlib, re, shutil, socket, subprocess, time

import pytest

root = pathlib.Path(__file__).resolve().parents[2]
corpus = sorted((root / "tests/data/http").glob("*.req"))
build = root / os.environ.get("BUILD", "build")


def statuses(port, request):
    """The status of every answer until the server closes or says nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        connection.settimeout(1)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except (TimeoutError, ConnectionResetError):
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def wait_for(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


@pytest.fixture(scope="module")
def own_port():
    program = build / "bench/http_relay"
    process = subprocess.Popen([program, "upstream"], stdout=subprocess.PIPE, text=True)
    yield int(process.stdout.readline())
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def nginx_port(tmp_path_factory):
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed")
    where = tmp_path_factory.mktemp("nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (where / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {where}/pid; error_log {where}/error.log; events {{}}
http {{ access_log off; client_body_temp_path {where}/body; proxy_temp_path {where}/proxy;
        fastcgi_temp_path {where}/fastcgi; uwsgi_temp_path {where}/uwsgi; scgi_temp_path {where}/scgi;
        server {{ listen 127.0.0.1:{port}; location / {{ return 200 "nginx"; }} }} }}""")
    process = subprocess.Popen(["nginx", "-c", where / "nginx.conf"], stderr=subprocess.DEVNULL)
    wait_for(port)
    yield port
    process.terminate()
    process.wait()


@pytest.mark.parametrize("path", corpus, ids=lambda path: path.stem)
def test_refuses_what_nginx_refuses(path, own_port, nginx_port):
    request = path.read_bytes()
    own, nginx = statuses(own_port, request), statuses(nginx_port, request)
    accepted = lambda answers: sum(status < 400 for status in answers)
    if path.stem.startswith("ok-"):
        assert own == nginx
    elif not nginx or nginx[0] >= 400:
        assert not own or own[0] >= 400, f"nginx answers {nginx}, we {own}"
    assert accepted(own) <= accepted(nginx), f"nginx answers {nginx}, we {own}"
