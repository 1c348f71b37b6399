"""The management interface: sessions, roles, objects, and that no project reaches into another.

Every route of src/api/routes.h is tried with another project's key, so that one which is added later and
forgets its project is found here.
"""
import gzip
import json
import pathlib
import re
import urllib.request

import pytest

from conftest import ROOT, Server

MARK = "alpha-mark"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Server(tmp_path_factory.mktemp("management"))
    yield process
    assert process.stop() == 0, "\n".join(process.log[-40:])


def routes():
    text = pathlib.Path(ROOT / "src/api/routes.h").read_text()
    return re.findall(r'^API_ROUTE\((\w+), "([^"]+)", (\w+), (\w+), (\w+)\)', text, re.M)


class Browser:
    """A session by cookie, with its CSRF token."""

    def __init__(self, server, path="/api/session", **body):
        status, headers, answer = server.request("POST", path, body, key=False)
        assert status == 201, answer
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
        self.server, self.cookie, self.csrf = server, cookie.split(";")[0], answer["csrf"]

    def request(self, method, path, body=None, csrf=True):
        headers = {"cookie": self.cookie}
        if csrf and method != "GET":
            headers["x-csrf-token"] = self.csrf
        status, _, answer = self.server.request(method, path, body, headers=headers, key=False)
        return status, answer


# ---- answers ----

def test_answers_are_compressed_for_who_takes_it(server):
    def get(accept, path="/api/providers/formats"):
        request = urllib.request.Request(server.url + path, headers={
            "authorization": "Bearer " + server.key, **({"accept-encoding": accept} if accept else {})})
        with urllib.request.urlopen(request) as answer:
            return answer.headers, answer.read()

    headers, plain = get(None)
    assert len(plain) > 1024 and headers["content-encoding"] is None and headers["vary"] == "accept-encoding"
    headers, packed = get("gzip, deflate")
    assert headers["content-encoding"] == "gzip" and len(packed) < len(plain) / 2
    assert gzip.decompress(packed) == plain
    headers, packed = get("gzip, deflate, br")
    assert headers["content-encoding"] == "br" and len(packed) < len(plain) / 2
    headers, small = get("br", "/api/session")
    assert headers["content-encoding"] is None and json.loads(small)


# ---- objects ----

def test_provider_life(server):
    made = server.post("/api/providers", {"name": "one", "format": "openai", "base_url": "https://example.org/v1",
                                          "api_key": "sk-0123456789abcdefWXYZ", "ca_file": None}, expect=201)
    assert made["api_key"] == "…WXYZ" and made["origin"] == "database" and made["version"] == 1
    status, _, answer = server.request("POST", "/api/providers", {"name": "one", "format": "openai"})
    assert status == 409 and answer["error"]["code"] == "conflict"
    status, _, answer = server.request("PATCH", "/api/providers/one", {"base_url": "nonsense"})
    assert status == 400 and answer["error"]["field"] == "base_url"
    # What was shown may be sent back whole.
    shown = server.get("/api/providers/one")
    assert shown["status"]["state"] == "ok"
    status, _, same = server.request("PATCH", "/api/providers/one", shown)
    assert status == 200 and same["version"] == 1
    status, _, changed = server.request("PATCH", "/api/providers/one", {"http2": False})
    assert status == 200 and changed["version"] == 2
    versions = server.get("/api/providers/one/versions")["items"]
    assert [one["version"] for one in versions] == [2, 1]
    assert "0123456789" not in json.dumps(versions)
    back = server.post("/api/providers/one/versions/1/restore", {})
    assert back["version"] == 3 and "http2" not in back

    server.post("/api/routes", {"name": "team/smart", "targets": [{"provider": "one", "model": "m"}]}, expect=201)
    assert server.get("/api/routes/team%2Fsmart")["targets"][0]["provider"] == "one"
    assert "team/smart" in [target["name"] for target in server.get("/api/targets")["items"]]
    assert "one/m" in [target["name"] for target in server.get("/api/targets")["items"]]
    status, _, answer = server.request("DELETE", "/api/providers/one")
    assert status == 409 and "team/smart" in answer["error"]["message"]
    assert server.request("DELETE", "/api/routes/team%2Fsmart")[0] == 204
    assert server.request("DELETE", "/api/providers/one")[0] == 204
    assert server.request("GET", "/api/providers/one")[0] == 404


def test_provider_that_is_not_there_is_told(server):
    server.post("/api/providers", {"name": "dead", "format": "openai", "base_url": "http://127.0.0.1:1/v1"}, expect=201)
    answer = server.post("/api/providers/dead/test", {})
    assert answer["ok"] is False and answer["error"]["message"]
    server.request("DELETE", "/api/providers/dead")


def test_pages(server):
    for number in range(5):
        server.post("/api/providers", {"name": f"page-{number}", "format": "openai", "base_url": "https://e.org"}, expect=201)
    first = server.get("/api/providers?limit=3&q=page")
    assert [one["name"] for one in first["items"]] == ["page-0", "page-1", "page-2"]
    second = server.get(f"/api/providers?limit=3&q=page&cursor={first['next_cursor']}")
    assert [one["name"] for one in second["items"]] == ["page-3", "page-4"] and second["next_cursor"] is None
    for number in range(5):
        server.request("DELETE", f"/api/providers/page-{number}")


def test_key_life(server):
    made = server.post("/api/keys", {"name": "app", "scopes": ["call", "read"], "models": ["gpt-*"], "expires_in": "30d",
                                     "limits": {"requests_per_minute": 60, "parallel": None},
                                     "budget": {"day_usd": "5.00"}, "tags": {"team": "red"}}, expect=201)
    secret = made["secret"]
    assert secret.startswith("cap_") and made["prefix"] == secret[:8] and made["state"] == "active"
    assert made["expires_at"] and "secret_sha256" not in made
    listed = [key for key in server.get("/api/keys")["items"] if key["id"] == made["id"]][0]
    assert "secret" not in listed and secret not in json.dumps(listed)
    assert server.get("/api/session", key=secret)["permissions"]
    assert server.request("GET", "/api/audit", key=secret)[0] == 403
    assert server.request("POST", "/api/keys", {"name": "x"}, key=secret)[0] == 403
    assert server.request("DELETE", "/api/keys/" + made["id"])[0] == 204
    status, _, answer = server.request("GET", "/api/session", key=secret)
    assert status == 401 and answer["error"]["code"] == "invalid_api_key"
    assert server.get("/api/keys/" + made["id"])["state"] == "revoked"


def test_limits_prices_settings(server):
    status, _, limit = server.request("PUT", "/api/limits/tag/team%3Dred", {"limits": {"parallel": 2}, "budget": {"day_usd": None}})
    assert status == 200 and limit["kind"] == "tag" and limit["value"] == "team=red" and "name" not in limit
    status, _, limit = server.request("PUT", "/api/limits/project/default", {"budget": {"month_usd": "100"}})
    assert status == 200 and limit["spent"]["month_usd"] is not None
    assert len(server.get("/api/limits")["items"]) == 2
    assert server.request("DELETE", "/api/limits/tag/team%3Dred")[0] == 204

    status, _, price = server.request("PUT", "/api/prices/mine/org%2Fmodel", {"prices": {"input_tokens": "2.50"}})
    assert status == 200 and price["model"] == "org/model"
    page = server.get("/api/prices?limit=10")
    assert page["items"][0]["origin"] == "database" and page["items"][1]["origin"] == "built-in"
    assert all("gpt-4o" in one["model"] for one in server.get("/api/prices?q=gpt-4o&limit=5")["items"])
    assert server.request("DELETE", "/api/prices/mine/org%2Fmodel")[0] == 204

    status, _, settings = server.request("PATCH", "/api/settings", {"capture": "metadata", "retention_days": 7})
    assert status == 200 and settings["capture"] == "metadata"
    status, _, settings = server.request("PATCH", "/api/settings", {"retention_days": None})
    assert settings["retention_days"] is None and settings["capture"] == "metadata"


def test_audit_tells_and_is_whole(server):
    server.post("/api/providers", {"name": "seen", "format": "openai", "base_url": "https://e.org",
                                   "api_key": "sk-0123456789abcdefWXYZ"}, expect=201)
    server.request("DELETE", "/api/providers/seen")
    entries = server.get("/api/audit?kind=provider&object=seen")["items"]
    assert [entry["action"] for entry in entries] == ["delete", "create"]
    assert entries[0]["before"]["api_key"] == "…WXYZ" and entries[0]["after"] is None
    assert entries[0]["actor"]["kind"] == "key" and entries[0]["ip"].startswith("127.0.0.1")
    assert server.get("/api/audit/verify") == {"ok": True, "first_bad_entry": None}


# ---- people ----

def test_first_run_link_and_invitation(tmp_path):
    server = Server(tmp_path)
    try:
        token = server.facts["console"].split("#setup=")[1]
        owner = Browser(server, token=token)
        assert server.request("POST", "/api/session", {"token": token}, key=False)[0] == 404
        status, me = owner.request("GET", "/api/session")
        assert status == 200 and me["role"] == "owner" and me["user"] is None and me["csrf"] == owner.csrf
        status, problem = owner.request("POST", "/api/invites", {"role": "editor"}, csrf=False)
        assert status == 403 and problem["error"]["code"] == "csrf_token_missing"
        status, invite = owner.request("POST", "/api/invites", {"role": "editor", "email": "ben@example.org"})
        assert status == 201
        token = invite["url"].split("#invite=")[1]
        status, _, answer = server.request("POST", "/api/invites/accept", {"token": token, "name": "Ben", "password": "short"}, key=False)
        assert status == 400 and answer["error"]["field"] == "password"
        ben = Browser(server, "/api/invites/accept", token=token, name="Ben", password="correct horse battery")
        assert ben.request("GET", "/api/session")[1]["user"]["email"] == "ben@example.org"
        assert ben.request("GET", "/api/members")[0] == 403
        assert ben.request("GET", "/api/routes")[0] == 200
        assert server.request("POST", "/api/session", {"email": "ben@example.org", "password": "wrong"}, key=False)[0] == 401
        again = Browser(server, email="Ben@Example.org", password="correct horse battery")
        member = owner.request("GET", "/api/members")[1]["items"][0]
        assert member["role"] == "editor"
        assert owner.request("PATCH", f"/api/members/{member['id']}", {"role": "viewer"})[0] == 200
        assert again.request("GET", "/api/session")[1]["role"] == "viewer"
        assert owner.request("DELETE", f"/api/members/{member['id']}")[0] == 204
        assert again.request("GET", "/api/session")[0] == 401
        assert owner.request("DELETE", "/api/session")[0] == 204
        assert owner.request("GET", "/api/session")[0] == 401
    finally:
        server.stop()


def test_nothing_without_a_key(server):
    for method, pattern, permission, kind, handler in routes():
        if permission == "PUBLIC":
            continue
        path = re.sub(r"\{\w+\}", "x", pattern)
        status, _, answer = server.request(method, path, None if method == "GET" else {}, key=False)
        assert status == 401, (method, path, status, answer)


# ---- projects ----

@pytest.fixture(scope="module")
def projects(server):
    """Key of `alpha`, whose every object carries the mark, and of `beta`, an owner's too."""
    alpha = server.post("/api/projects", {"name": "alpha"}, expect=201)["secret"]
    beta = server.post("/api/projects", {"name": "beta"}, expect=201)["secret"]
    ids = {}
    server.post("/api/providers", {"name": MARK, "format": "openai", "base_url": f"https://{MARK}.org"}, key=alpha, expect=201)
    server.post("/api/routes", {"name": MARK, "targets": [{"provider": MARK, "model": "m"}]}, key=alpha, expect=201)
    ids["key"] = server.post("/api/keys", {"name": MARK}, key=alpha, expect=201)["id"]
    server.request("PUT", f"/api/limits/user/{MARK}", {"limits": {"parallel": 1}}, key=alpha)
    server.request("PUT", f"/api/prices/{MARK}/m", {"prices": {"input_tokens": 1}}, key=alpha)
    server.post("/api/prompts", {"name": MARK, "prompt": "Hello"}, key=alpha, expect=201)
    server.post("/api/pipelines", {"name": MARK}, key=alpha, expect=201)
    server.post("/api/tools", {"name": MARK, "kind": "pipeline", "pipeline": MARK}, key=alpha, expect=201)
    server.post("/api/collections", {"name": MARK, "encoder": "none"}, key=alpha, expect=201)
    ids["trigger"] = server.post("/api/triggers", {"title": MARK, "pipeline": MARK, "kind": "webhook"},
                                 key=alpha, expect=201)["id"]
    ids["invite"] = server.post("/api/invites", {"role": "viewer", "email": MARK + "@e.org"}, key=alpha, expect=201)["id"]
    invite = server.post("/api/invites", {"role": "viewer", "email": MARK + "2@e.org"}, key=alpha, expect=201)
    server.post("/api/invites/accept", {"token": invite["url"].split("=")[1], "name": MARK,
                                        "password": "correct horse battery"}, key=False, expect=201)
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": MARK,
            "startTimeUnixNano": "1754000000000000000", "endTimeUnixNano": "1754000001000000000"}
    server.post("/api/otel/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}, key=alpha)
    ids["span"] = server.get("/api/traces/" + span["traceId"], key=alpha)["spans"][0]["id"]
    ids["member"] = server.get("/api/members", key=alpha)["items"][0]["id"]
    return alpha, beta, ids


def fill(pattern, ids):
    area = pattern.split("/")[2]
    values = {"providers": [MARK, "1"], "routes": [MARK, "1"], "keys": [ids["key"]], "limits": ["user", MARK],
              "prices": [MARK, "m"], "members": [ids["member"]], "invites": [ids["invite"]], "models": [MARK],
              "jobs": ["job_00000000000000000000000000"], "calls": ["call_00000000000000000000000000"],
              "prompts": [MARK, "1"], "collections": [MARK, "doc_00000000000000000000000000"],
              "pipelines": [MARK, "1"], "runs": ["run_00000000000000000000000000"], "public": [MARK],
              "prompt-labels": [MARK], "tools": [MARK], "triggers": [ids["trigger"]], "feedback": ["score_00000000000000000000000000"],
              "traces": ["5b8efff798038103d269b633813fc60c", ids["span"]]}[area]
    for value in values:
        pattern = re.sub(r"\{\w+\}", value, pattern, count=1)
    return pattern


def snapshot(server, key):
    return {path: server.get(path, key=key) for path in
            ("/api/providers", "/api/routes", "/api/keys", "/api/limits", "/api/members", "/api/invites", "/api/settings",
             "/api/prompts", "/api/pipelines", "/api/collections", "/api/tools", "/api/triggers")}


def test_no_project_reaches_into_another(server, projects):
    alpha, beta, ids = projects
    before = snapshot(server, alpha)
    tried = 0
    made_by_put_last = sorted(routes(), key=lambda route: route[0] == "PUT")
    for method, pattern, permission, kind, handler in made_by_put_last:
        if pattern == "/api/events" or pattern in ("/api/reload", "/api/backup", "/api/engine/install", "/api/models/pull", "/api/session"):
            continue
        if "{" not in pattern:
            if method == "GET":
                status, _, answer = server.request("GET", pattern, key=beta)
                assert status < 500, (pattern, answer)
                assert MARK not in json.dumps(answer), pattern
                tried += 1
            continue
        path = fill(pattern, ids)
        status, _, answer = server.request(method, path, None if method == "GET" else {"role": "owner"}, key=beta)
        if method == "PUT":  # makes beta's own
            assert status in (200, 400, 404), (method, path, status, answer)
        elif pattern.endswith("/versions") and method == "GET":
            assert answer["items"] == [], (path, answer)
        else:
            assert status in (400, 404), (method, path, status, answer)
            # What is wrong with the request may be said before anybody looks for the object.
            about_request = answer["error"]["field"]
            assert status == 404 or handler.endswith("_patch") or about_request, (method, path, status, answer)
            assert MARK not in json.dumps(answer).replace(path, "") or status == 404, (method, path, answer)
        tried += 1
    assert tried > 40
    assert snapshot(server, alpha) == before
