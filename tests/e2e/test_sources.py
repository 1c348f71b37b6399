"""Sources of a collection against counterparts of our own: a web site, a folder, a Git repository, a bucket."""
import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import BINARY, Server

DEADLINE_S = 60


class Site:
    """A web site in memory; what was asked is in `requests`."""

    def __init__(self):
        self.pages, self.requests, self.headers = {}, [], []
        self.hold = threading.Event()
        self.hold.set()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"

    def put(self, path, body, content_type="text/html", status=200, etag=True, headers=()):
        data = body if isinstance(body, bytes) else body.encode()
        tag = '"' + hashlib.sha256(data).hexdigest()[:16] + '"' if etag else None
        self.pages[path] = (status, content_type, data, tag, dict(headers))

    def answer(self, request):
        self.requests.append(request.path)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.hold.wait(DEADLINE_S)
        status, content_type, data, tag, headers = self.pages.get(
            request.path, (404, "text/plain", b"not here", None, {}))
        if tag and request.headers.get("if-none-match") == tag:
            status, data = 304, b""
        request.send_response(status)
        request.send_header("content-type", content_type)
        if tag:
            request.send_header("etag", tag)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture()
def site():
    one = Site()
    yield one
    one.close()


@pytest.fixture()
def place(tmp_path, site):
    """A server that may ask the site and read the folder `files`."""
    folder = tmp_path / "files"
    folder.mkdir()
    server = Server(tmp_path, config=f'knowledge: {{http_allow: ["{site.host}"], directories: ["{folder}"]}}\n')
    server.folder = folder
    server.post("/api/collections", {"name": "docs", "encoder": "none"}, expect=201)
    yield server
    server.stop()


def wait_for(what, seen, deadline_s=DEADLINE_S):
    end = time.monotonic() + deadline_s
    while True:
        value = seen()
        if value:
            return value
        assert time.monotonic() < end, what
        time.sleep(0.05)


def source(server, name):
    return server.get(f"/api/collections/docs/sources/{name}")


def settled(server, name, number=1):
    """The source when its sync with this number has ended."""
    def look():
        one = source(server, name)
        return one if one["state"] == "idle" and one["last_sync"]["number"] >= number else None
    return wait_for(f"{name} is synced: {source(server, name)}", look)


def add(server, **definition):
    return server.post("/api/collections/docs/sources", definition, expect=201)


def again(server, name):
    number = source(server, name)["last_sync"]["number"]
    server.post(f"/api/collections/docs/sources/{name}/sync", {}, expect=202)
    return settled(server, name, number + 1)


def names(server):
    return sorted(one["name"] for one in server.get("/api/collections/docs/documents?limit=1000")["items"])


def counts(one):
    last = one["last_sync"]
    return tuple(last[key] for key in ("added", "changed", "unchanged", "deleted", "failed"))


def found(server, words):
    hits = server.post("/api/collections/docs/search", {"query": words, "mode": "text"})["items"]
    return [one["document"] for one in hits]


def test_urls(place, site):
    site.put("/a", "<h1>Anchors</h1><p>An anchor holds a ship.</p>")
    site.put("/b", "Bollards stand on the quay.", "text/plain", etag=False)
    add(place, kind="urls", name="list", urls=[site.url + "/a", site.url + "/b", site.url + "/none"],
        rate_per_second=100)
    first = settled(place, "list")
    assert counts(first) == (2, 0, 0, 0, 1)
    assert names(place) == [site.url + "/a", site.url + "/b"]
    failed = place.get("/api/collections/docs/sources/list/items?state=failed")["items"]
    assert [one["key"] for one in failed] == [site.url + "/none"] and "404" in failed[0]["error"]
    wait_for("found", lambda: found(place, "anchor ship") == [site.url + "/a"])

    assert counts(again(place, "list")) == (0, 0, 2, 0, 1)  # one by its ETag, one by its content
    site.put("/a", "<h1>Anchors</h1><p>A grapnel is an anchor, too.</p>")
    del site.pages["/b"]
    assert counts(again(place, "list")) == (0, 1, 0, 1, 2)
    assert names(place) == [site.url + "/a"]
    wait_for("new content", lambda: found(place, "grapnel") == [site.url + "/a"])


def test_only_allowed_addresses(place, site):
    other = Site()
    try:
        other.put("/secret", "metadata of the machine", "text/plain")
        site.put("/out", "", status=302, headers={"location": other.url + "/secret"})
        add(place, kind="urls", name="inside", urls=[other.url + "/secret", site.url + "/out"],
            rate_per_second=100)
        assert counts(settled(place, "inside")) == (0, 0, 0, 0, 2)
        assert other.requests == [] and names(place) == []
    finally:
        other.close()


def test_sitemap(place, site):
    site.put("/one", "<p>First page about lighthouses.</p>")
    site.put("/two", "<p>Second page about buoys.</p>")
    inner = ('<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
             f"<url><loc>{site.url}/one</loc><lastmod>2026-01-01</lastmod></url>"
             f"<url><loc>{site.url}/two</loc></url></urlset>")
    site.put("/inner.xml.gz", gzip.compress(inner.encode()), "application/gzip")
    site.put("/sitemap.xml", "<sitemapindex><sitemap><loc>/inner.xml.gz</loc></sitemap></sitemapindex>",
             "application/xml")
    add(place, kind="sitemap", name="map", url=site.url + "/sitemap.xml", rate_per_second=100)
    assert counts(settled(place, "map")) == (2, 0, 0, 0, 0)
    site.requests.clear()
    assert counts(again(place, "map")) == (0, 0, 2, 0, 0)
    assert "/one" not in site.requests and "/two" in site.requests  # its lastmod says enough
    site.put("/inner.xml.gz", gzip.compress(inner.replace("/two", "/three").encode()), "application/gzip")
    site.put("/three", "<p>Third page about tides.</p>")
    assert counts(again(place, "map")) == (1, 0, 1, 1, 0)
    assert names(place) == [site.url + "/one", site.url + "/three"]
    del site.pages["/sitemap.xml"]  # a listing that fails deletes nothing
    failed = again(place, "map")
    assert "404" in failed["last_sync"]["error"] and len(names(place)) == 2


def test_crawl(place, site):
    site.put("/robots.txt", "User-agent: *\nDisallow: /private\n", "text/plain")
    site.put("/", '<a href="/a">a</a> <a href="b?x=1&amp;y=2">b</a> <a href="/private/c">c</a>'
                  '<a href="http://elsewhere.example/">out</a><a href="/pic.png">p</a><a rel=nofollow href=/no>no</a>')
    site.put("/a", '<p>Page about sails.</p><a href="/deep">deep</a>')
    site.put("/b?x=1&y=2", "<p>Page about oars.</p>")
    site.put("/deep", '<p>Page about keels.</p><a href="/deeper">deeper</a>')
    site.put("/deeper", "<p>Too deep.</p>")
    site.put("/pic.png", b"\x89PNG", "image/png")
    site.put("/private/c", "<p>Private.</p>")
    add(place, kind="crawl", name="web", url=site.url, depth=2, rate_per_second=200)
    first = settled(place, "web")
    wanted = [site.url + path for path in ("/", "/a", "/b?x=1&y=2", "/deep")]
    assert names(place) == sorted(wanted) and first["last_sync"]["added"] == 4
    assert not {"/private/c", "/deeper", "/no"} & set(site.requests)
    assert all(one["user-agent"].startswith("capstan/") for one in site.headers)

    assert again(place, "web")["last_sync"]["unchanged"] == 4  # links of unchanged pages are known
    site.put("/a", "<p>Page about sails, without its link.</p>")
    last = again(place, "web")["last_sync"]
    assert (last["changed"], last["deleted"]) == (1, 1)
    assert site.url + "/deep" not in names(place)


def test_directory(place, tmp_path):
    (place.folder / "guide").mkdir()
    (place.folder / "guide" / "knots.md").write_text("# Knots\n\nA bowline does not slip.\n")
    (place.folder / "same.txt").write_text("Ropes are made of hemp.\n")
    (place.folder / "twin.txt").write_text("Ropes are made of hemp.\n")
    (place.folder / ".hidden").write_text("no")
    outside = tmp_path / "outside.txt"
    outside.write_text("Not for you.\n")
    (place.folder / "link.txt").symlink_to(outside)
    add(place, kind="directory", name="files", path=str(place.folder))
    assert counts(settled(place, "files")) == (3, 0, 0, 0, 0)
    assert len(names(place)) == 2 and "files/guide/knots.md" in names(place)  # twins share one

    assert counts(again(place, "files")) == (0, 0, 3, 0, 0)
    kept = "same.txt" if "files/same.txt" in names(place) else "twin.txt"
    (place.folder / kept).write_text("Ropes are made of nylon now.\n")  # the other one needs its own
    last = again(place, "files")["last_sync"]
    assert last["failed"] == 0 and names(place) == ["files/guide/knots.md", "files/same.txt", "files/twin.txt"]
    wait_for("both", lambda: len(found(place, "ropes made")) == 2)
    shutil.rmtree(place.folder / "guide")
    assert counts(again(place, "files"))[3] == 1
    assert names(place) == ["files/same.txt", "files/twin.txt"]


def test_directories_that_nobody_named(place, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("secret")
    for path in (str(other), str(place.folder) + "/../other", "/etc", str(place.folder) + "x"):
        one = add(place, kind="directory", name="bad", path=path)
        ended = settled(place, "bad")
        assert "administrator" in ended["last_sync"]["error"], (one, ended)
        place.request("DELETE", "/api/collections/docs/sources/bad?documents=keep")
    assert names(place) == []


def git(folder, *arguments):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t",
           "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, env=env, capture_output=True)


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git(place):
    repository = place.folder / "repository"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    (repository / "doc").mkdir()
    (repository / "doc" / "hull.md").write_text("# Hull\n\nThe hull floats.\n")
    (repository / "main.c").write_text("int main(void) { return 0; }\n")
    (repository / "link").symlink_to("/etc/passwd")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "first")
    add(place, kind="git", name="code", url=f"file://{repository}", branch="main", include=["doc/*", "link"])
    assert counts(settled(place, "code")) == (1, 0, 0, 0, 0), source(place, "code")
    assert names(place) == ["code/doc/hull.md"]
    assert counts(again(place, "code")) == (0, 0, 1, 0, 0)
    (repository / "doc" / "mast.md").write_text("# Mast\n\nThe mast carries sails.\n")
    (repository / "doc" / "hull.md").unlink()
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    assert counts(again(place, "code")) == (1, 0, 0, 1, 0)
    assert names(place) == ["code/doc/mast.md"]
    bad = add(place, kind="git", name="none", url=f"file://{repository}", branch="nothing")
    assert "no such branch" in settled(place, bad["name"])["last_sync"]["error"]


class Bucket(Site):
    """ListObjectsV2 and GetObject, two keys a page; what it is asked must be signed."""

    def __init__(self):
        super().__init__()
        self.objects = {}

    def answer(self, request):
        self.requests.append(request.path)
        self.headers.append(dict(request.headers))
        parts = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        key = urllib.parse.unquote(parts.path).removeprefix("/shelf").removeprefix("/")
        status, data = 404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
        if "AKTEST/" not in request.headers.get("authorization", ""):
            status, data = 403, b"<Error><Code>AccessDenied</Code><Message>sign it</Message></Error>"
        elif not key:
            keys = sorted(one for one in self.objects if one.startswith(query.get("prefix", "")))
            start = int(query.get("continuation-token", "0"))
            rows = "".join(f"<Contents><Key>{one}</Key><ETag>&quot;{hashlib.md5(self.objects[one]).hexdigest()}&quot;"
                           f"</ETag><Size>{len(self.objects[one])}</Size></Contents>" for one in keys[start:start + 2])
            more = f"<NextContinuationToken>{start + 2}</NextContinuationToken>" if start + 2 < len(keys) else ""
            status, data = 200, f"<?xml version='1.0'?><ListBucketResult>{rows}{more}</ListBucketResult>".encode()
        elif key in self.objects:
            status, data = 200, self.objects[key]
        request.send_response(status)
        request.send_header("content-type", "binary/octet-stream")
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


def test_bucket(tmp_path):
    bucket = Bucket()
    server = Server(tmp_path, config=f'knowledge: {{http_allow: ["{bucket.host}"]}}\n')
    try:
        server.post("/api/collections", {"name": "docs", "encoder": "none"}, expect=201)
        bucket.objects = {f"notes/{i} ä+b.md": b"# Note %d\n\nAbout winches.\n" % i for i in range(5)}
        bucket.objects["other/x.md"] = b"# Other\n"
        made = add(server, kind="s3", name="shelf", endpoint=bucket.url, bucket="shelf", prefix="notes/",
                   access_key_id="AKTEST", secret_access_key="very-secret-key", rate_per_second=200)
        assert "very-secret" not in str(made) and made["definition"]["secret_access_key"].startswith("…")
        assert counts(settled(server, "shelf")) == (5, 0, 0, 0, 0)
        bucket.requests.clear()
        assert counts(again(server, "shelf")) == (0, 0, 5, 0, 0)
        assert all("list-type=2" in one for one in bucket.requests)  # unchanged objects are not read
        del bucket.objects["notes/0 ä+b.md"]
        bucket.objects["notes/1 ä+b.md"] = b"# Note 1\n\nAbout capstans.\n"
        assert counts(again(server, "shelf")) == (0, 1, 3, 1, 0)

        # The secret stays where it is by a patch, but not for another address.
        path = "/api/collections/docs/sources/shelf"
        assert server.request("PATCH", path, {"items_max": 100})[0] == 200
        assert counts(again(server, "shelf"))[2] == 4
        assert server.request("PATCH", path, {"endpoint": "https://elsewhere.example"})[0] == 400
        assert "very-secret" not in str(server.get("/api/audit"))
    finally:
        server.stop()
        bucket.close()


def test_stop_and_remove(place, site):
    for i in range(30):
        site.put(f"/{i}", f"<p>Page {i} about cargo.</p>")
    add(place, kind="urls", name="slow", urls=[f"{site.url}/{i}" for i in range(30)], rate_per_second=1000)
    settled(place, "slow")
    assert len(names(place)) == 30
    site.hold.clear()
    site.requests.clear()
    place.post("/api/collections/docs/sources/slow/sync", {}, expect=202)
    wait_for("a request", lambda: site.requests)
    place.post("/api/collections/docs/sources/slow/stop", {}, expect=202)
    stopped = settled(place, "slow", 2)
    assert stopped["last_sync"]["error"] == "stopped" and len(names(place)) == 30
    site.hold.set()
    status, _, job = place.request("DELETE", "/api/collections/docs/sources/slow")
    assert status == 202 and job["kind"] == "knowledge_sync"
    wait_for("gone", lambda: place.get("/api/collections/docs/sources")["items"] == [] and names(place) == [])


def test_a_killed_server_goes_on(tmp_path, site):
    """kill -9 in the middle of a sync: the next process ends it, nothing lost, nothing twice."""
    for i in range(40):
        site.put(f"/{i}", f"<p>Page {i} about the bilge.</p>")
    config = f'knowledge: {{http_allow: ["{site.host}"]}}\n'
    server = Server(tmp_path, config=config)
    key = server.key
    server.post("/api/collections", {"name": "docs", "encoder": "none"}, expect=201)
    add(server, kind="urls", name="pages", urls=[f"{site.url}/{i}" for i in range(40)], rate_per_second=1000)
    wait_for("some", lambda: len(site.requests) >= 10)
    server.stop(kill=True)
    server = Server(tmp_path, config=config, key=key)
    try:
        one = settled(server, "pages")
        assert one["last_sync"]["number"] == 1 and one["last_sync"]["failed"] == 0
        assert names(server) == sorted(f"{site.url}/{i}" for i in range(40))
        assert len(site.requests) < 60  # what was done was not done again
    finally:
        server.stop()


def test_schedule_is_shown_and_checked(place):
    one = add(place, kind="directory", name="files", path=str(place.folder), every="6h")
    assert one["every_ms"] == 6 * 3600 * 1000 and one["next_sync_at"]
    status, _, answer = place.request("PATCH", "/api/collections/docs/sources/files", {"every": "5s"})
    assert status == 400 and answer["error"]["field"] == "every"
    for bad in ({"kind": "ftp", "name": "x"}, {"kind": "urls", "name": "x", "urls": []},
                {"kind": "urls", "name": "x", "urls": ["ftp://h/"]}, {"kind": "crawl", "name": "a/b", "url": "http://h"},
                {"kind": "git", "name": "x", "url": "ext::sh -c id"}, {"kind": "directory", "name": "x", "path": "rel"},
                {"kind": "git", "name": "x", "url": "https://h/r", "branch": "--upload-pack=id"}):
        status, _, answer = place.request("POST", "/api/collections/docs/sources", bad)
        assert status == 400, (bad, answer)


def test_command_line(place, site):
    site.put("/page", "<p>Halyards lift sails.</p>")
    env = {**os.environ, "CAPSTAN_URL": place.url, "CAPSTAN_KEY": place.key}

    def capstan(*arguments):
        return subprocess.run([BINARY, "knowledge", *arguments], env=env, capture_output=True, text=True,
                              timeout=DEADLINE_S)

    made = capstan("source", "add", "docs", "urls", site.url + "/page", "--name", "web")
    assert made.returncode == 0 and "source web added" in made.stdout, made.stderr
    listed = capstan("source", "list", "docs")
    assert "web" in listed.stdout and "urls" in listed.stdout and "idle" in listed.stdout
    assert capstan("source", "sync", "docs", "web").returncode == 0
    assert site.url + "/page" in capstan("source", "items", "docs", "web").stdout
    removed = capstan("source", "remove", "docs", "web")
    assert removed.returncode == 0 and "removed" in removed.stdout
    wait_for("gone", lambda: names(place) == [])
