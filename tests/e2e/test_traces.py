"""Traces: spans of other programs by OTLP and by Langfuse's client, beside the calls that were made in them."""
import gzip
import logging
import os
import time

import pytest
import requests
from langfuse import Langfuse
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export import SpanExportResult

START = 1754000000000000000


def span(trace, number, parent=0, name="step", seconds=1, **attributes):
    return {"traceId": trace, "spanId": f"{number:016x}", "parentSpanId": f"{parent:016x}" if parent else "", "name": name,
            "startTimeUnixNano": str(START + number * 1000), "endTimeUnixNano": str(START + seconds * 10**9),
            "attributes": [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in attributes.items()]}


def request(*spans):
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def send(server, *spans, **options):
    return server.post("/api/otel/v1/traces", request(*spans), **options)


def test_a_trace_is_a_tree(server):
    trace = os.urandom(16).hex()
    assert send(server, span(trace, 1, name="root", seconds=3, user__id="ann", session__id="s1"),
                span(trace, 2, 1, name="child", input__value="what?", output__value="that!", gen_ai__usage__cost="0.25")) == {}
    status, headers, _ = server.request("POST", "/v1/chat/completions", {"model": "smart", "messages": [{"role": "user", "content": "hi"}]},
                                        headers={"traceparent": f"00-{trace}-{2:016x}-01"})
    assert status == 200
    shown = server.get("/api/traces/" + trace)
    assert shown["span_count"] == 2 and shown["call_count"] == 1 and shown["name"] == "root" and shown["user"] == "ann"
    spans = {one["name"] if one["kind"] != "call" else "call": one for one in shown["spans"]}
    assert spans["child"]["parent_id"] == spans["root"]["span_id"] and spans["root"]["parent_id"] is None
    assert spans["call"]["parent_id"] == spans["child"]["span_id"] and spans["call"]["id"].startswith("call_")
    assert spans["root"]["duration_ms"] >= 2999 and spans["child"]["cost_usd"].startswith("0.25")
    whole = server.get(f"/api/traces/{trace}/spans/{spans['child']['id']}")
    assert whole["input"] == "what?" and whole["output"] == "that!"
    # A call's page is no span's, and a span is no call.
    assert server.request("GET", f"/api/traces/{trace}/spans/{spans['call']['id']}")[0] == 404
    assert server.request("GET", "/api/calls/" + spans["child"]["id"].replace("span_", "call_"))[0] == 404


def test_lists_find_traces_once(server):
    session = "list-" + os.urandom(4).hex()
    traces = [os.urandom(16).hex() for _ in range(5)]
    for trace in traces:
        send(server, span(trace, 1, name="first", session__id=session), span(trace, 2, 1, name="second", session__id=session))
    seen, cursor = [], ""
    while True:
        page = server.get(f"/api/traces?session={session}&limit=2&cursor={cursor}")
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == traces[::-1]
    assert [item["id"] for item in server.get(f"/api/traces?session={session}&name=second&limit=1")["items"]] == traces[-1:]
    assert server.get(f"/api/traces?session={session}&kind=calls")["items"] == []
    # Spans are no calls: neither listed nor counted as such.
    assert server.get(f"/api/calls?session={session}")["items"] == []
    assert server.get(f"/api/calls/stats?session={session}")["totals"]["calls"] == 0


def test_a_repeated_span_counts_once(server):
    trace = os.urandom(16).hex()
    for _ in range(2):
        send(server, span(trace, 1, name="again"))
    assert len(server.get("/api/traces/" + trace)["spans"]) == 1


def test_what_is_refused_is_said(server):
    trace = os.urandom(16).hex()
    answer = send(server, span(trace, 1), span("00" * 16, 2))
    assert answer["partialSuccess"]["rejectedSpans"] == 1 and "trace id" in answer["partialSuccess"]["errorMessage"]
    headers = {"authorization": "Bearer " + server.key}
    for body, extra, status in ((b"\xff\xff\xff", {"content-type": "application/x-protobuf"}, 400),
                                (b"{}", {"content-type": "text/plain"}, 415),
                                (b"no gzip", {"content-type": "application/x-protobuf", "content-encoding": "gzip"}, 400),
                                (gzip.compress(bytes(40 << 20)), {"content-type": "application/json", "content-encoding": "gzip"}, 400)):
        assert requests.post(server.url + "/api/otel/v1/traces", body, headers=headers | extra).status_code == status
    assert requests.post(server.url + "/api/otel/v1/traces", b"{}", headers={"content-type": "application/json"}).status_code == 401


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_opentelemetry_exporter(server, compression):
    from opentelemetry.exporter.otlp.proto.http import Compression
    exporter = OTLPSpanExporter(server.url + "/api/otel/v1/traces", headers={"authorization": "Bearer " + server.key},
                                compression=Compression(compression))
    results = []
    export = exporter.export
    exporter.export = lambda spans: results.append(export(spans)) or results[-1]
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("outer") as outer:
        with provider.get_tracer("t").start_as_current_span("inner", attributes={
                "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7, "numbers": [1, 2]}) as inner:
            inner.add_event("seen", {"n": 1})
    provider.shutdown()
    assert results == [SpanExportResult.SUCCESS] * 2
    trace = f"{outer.get_span_context().trace_id:032x}"
    shown = server.get("/api/traces/" + trace)
    spans = {one["name"]: one for one in shown["spans"]}
    assert spans["inner"]["input_tokens"] == 7 and spans["inner"]["parent_id"] == spans["outer"]["span_id"]
    details = server.get(f"/api/traces/{trace}/spans/{spans['inner']['id']}")["details"]
    assert details["attributes"]["numbers"] == [1, 2] and details["resource"]["service.name"] == "shop"
    assert details["events"][0]["name"] == "seen"


def test_langfuse_python(server, caplog):
    caplog.set_level(logging.WARNING)
    key = server.post("/api/keys", {"name": "langfuse-traces", "scopes": ["call"], "models": ["*"]}, expect=201)
    client = Langfuse(public_key=key["public_id"], secret_key=key["secret"], host=server.url)
    with client.start_as_current_observation(name="answer", as_type="generation", model="gpt-x", input={"q": 1}) as made:
        made.update(output="forty-two", usage_details={"input": 11, "output": 4})
        trace = client.get_current_trace_id()
    client.shutdown()
    deadline = time.monotonic() + 60
    while server.request("GET", "/api/traces/" + trace)[0] == 404 and time.monotonic() < deadline:
        time.sleep(0.05)
    one = server.get("/api/traces/" + trace)["spans"][0]
    assert (one["kind"], one["model"], one["input_tokens"], one["output_tokens"]) == ("generation", "gpt-x", 11, 4)
    assert server.get(f"/api/traces/{trace}/spans/{one['id']}")["output"] == "forty-two"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_other_projects_and_keys_without_the_right(server):
    trace = os.urandom(16).hex()
    send(server, span(trace, 1))
    other = server.post("/api/projects", {"name": "traces-" + trace[:6]}, expect=201)["secret"]
    assert server.request("GET", "/api/traces/" + trace, key=other)[0] == 404
    assert server.get("/api/traces", key=other)["items"] == []
    caller = server.post("/api/keys", {"name": "calls", "scopes": ["call"], "models": []}, expect=201)["secret"]
    assert server.request("GET", "/api/traces/" + trace, key=caller)[0] == 403


def test_capture_holds_for_spans(server):
    trace = os.urandom(16).hex()
    key = server.post("/api/keys", {"name": "meta", "scopes": ["call"], "models": [], "capture": "metadata"}, expect=201)["secret"]
    send(server, span(trace, 1, name="secretive", input__value="a secret"), key=key)
    one = server.get("/api/traces/" + trace)["spans"][0]
    whole = server.get(f"/api/traces/{trace}/spans/{one['id']}")
    assert whole["name"] == "secretive" and whole["input"] is None and whole["details"] == {}
