"""Keys, limits, budgets, roles and projects, as people use them."""
import json
import threading
import time

CHAT = {"model": "smart", "messages": [{"role": "user", "content": "Say hello."}]}


def make_key(server, **definition):
    return server.post("/api/keys", {"name": "k", "scopes": ["call"], "models": ["*"], **definition}, expect=201)


def test_models_of_a_key(server):
    key = make_key(server, models=["sm*"])
    assert [m["id"] for m in server.get("/v1/models", key=key["secret"])["data"]] == ["smart"]
    status, _, body = server.request("POST", "/v1/chat/completions", {**CHAT, "model": "sonnet"}, key=key["secret"])
    assert status == 403 and body["error"]["code"] == "model_not_allowed"
    none = make_key(server, models=[])
    assert server.get("/v1/models", key=none["secret"])["data"] == []


def test_revoked_within_a_second(server):
    key = make_key(server)
    server.post("/v1/chat/completions", CHAT, key=key["secret"])
    status, _, _ = server.request("DELETE", "/api/keys/" + key["id"])
    assert status in (200, 204)
    status, _, body = server.request("POST", "/v1/chat/completions", CHAT, key=key["secret"])
    assert status == 401 and body["error"]["type"] == "authentication_error"


def test_requests_per_minute(server):
    key = make_key(server, limits={"requests_per_minute": 3})
    statuses = [server.request("POST", "/v1/chat/completions", CHAT, key=key["secret"]) for _ in range(4)]
    assert [s[0] for s in statuses] == [200, 200, 200, 429]
    refused = statuses[-1]
    assert int(refused[1]["retry-after"]) >= 1 and refused[2]["error"]["code"] == "rate_limit_exceeded"
    assert statuses[0][1]["x-ratelimit-limit-requests"] == "3"


def test_parallel_calls(server):
    key = make_key(server, limits={"parallel": 1})
    slow = {**CHAT, "model": "mock/gpt-mock?latency=700ms"}
    first = threading.Thread(target=server.request, args=("POST", "/v1/chat/completions", slow),
                             kwargs={"key": key["secret"]})
    first.start()
    time.sleep(0.25)
    status, _, _ = server.request("POST", "/v1/chat/completions", CHAT, key=key["secret"])
    assert status == 429
    first.join()
    server.post("/v1/chat/completions", CHAT, key=key["secret"])


def test_budget_counts_what_was_spent(server):
    server.request("PUT", "/api/prices/mock/gpt-mock", {"input_tokens": "1000", "output_tokens": "1000"})
    key = make_key(server, budget={"day_usd": "0.2"})
    for _ in range(20):
        status, _, body = server.request("POST", "/v1/chat/completions", {**CHAT, "max_tokens": 30}, key=key["secret"])
        if status == 429:
            break
    assert status == 429 and body["error"]["code"] == "budget_exceeded"
    spent = server.get("/api/keys/" + key["id"])["spent"]["day_usd"]
    calls = server.get(f"/api/calls?key={key['id']}&status=ok&limit=100")["items"]
    assert 0 < float(spent) and abs(sum(float(c["cost_usd"]) for c in calls) - float(spent)) < 1e-12
    server.request("DELETE", "/api/prices/mock/gpt-mock")


def test_capture(server):
    secret_text = "capture-me-not"
    body = {**CHAT, "messages": [{"role": "user", "content": secret_text}]}
    server.post("/v1/chat/completions", body, headers={"x-capstan-capture": "metadata"})
    call = server.last_call()
    assert call["capture"] == "metadata" and not call["request"]["body"] and secret_text not in json.dumps(call)
    server.post("/v1/chat/completions", body)
    assert secret_text in server.last_call()["request"]["body"]
    assert server.get("/api/calls?text=" + secret_text)["items"]


def test_tags_and_sessions_are_on_record(server):
    server.post("/v1/chat/completions", CHAT,
                headers={"x-capstan-tags": "team=a,tier=gold", "x-capstan-session": "s-1", "x-capstan-user": "ada"})
    call = server.last_call()
    assert call["tags"] == {"team": "a", "tier": "gold"} and call["session"] == "s-1" and call["user"] == "ada"
    assert server.get("/api/calls?tag=team=a")["items"][0]["id"] == call["id"]


def test_invitation_and_roles(server):
    invite = server.post("/api/invites", {"role": "viewer", "email": "ada@example.org"}, expect=201)
    token = invite["url"].split("=")[-1]
    accept = {"token": token, "name": "Ada", "email": "ada@example.org", "password": "a long enough password"}
    status, headers, _ = server.request("POST", "/api/invites/accept", accept, key=False)
    assert status in (200, 201)
    cookie = headers["set-cookie"].split(";")[0]
    assert "HttpOnly" in headers["set-cookie"] and "SameSite" in headers["set-cookie"]
    session = server.get("/api/session", key=False, headers={"cookie": cookie})
    assert session["role"] == "viewer" and "call.read" in session["permissions"]
    status, _, body = server.request("POST", "/api/routes", {"name": "x"}, key=False,
                                     headers={"cookie": cookie, "x-csrf-token": session["csrf"]})
    assert status == 403 and body["error"]["code"] == "permission_denied"
    status, _, body = server.request("POST", "/v1/chat/completions", CHAT, key=False, headers={"cookie": cookie})
    assert status == 403 and body["error"]["code"] == "csrf_token_missing"
    status, _, _ = server.request("POST", "/api/invites/accept", accept, key=False)
    assert status == 404, "an invitation opens once"


def test_a_key_tells_when_it_was_last_used(server):
    key = make_key(server)
    assert server.get("/api/keys/" + key["id"])["last_used_at"] is None
    server.post("/v1/chat/completions", CHAT, key=key["secret"])
    assert server.get("/api/keys/" + key["id"])["last_used_at"] >= key["created_at"][:19]


def test_a_provider_tells_its_last_failure(server):
    def status():
        return server.get("/api/providers/mock")["status"]
    server.request("POST", "/v1/chat/completions", {**CHAT, "model": "mock/gpt-mock?status=500"})
    failed = status()
    assert "server had an error" in failed["last_error"] and failed["last_error_at"]
    server.request("POST", "/v1/chat/completions", {**CHAT, "model": "mock/gpt-mock?status=400"})
    assert status()["last_error_at"] == failed["last_error_at"]  # the request's own fault
