"""Judged questions of a collection, the job that tries settings on them, and its winner applied: through the
management interface and the command line, by words only."""
import os
import subprocess
import time

import pytest

from conftest import BINARY, Server

TOPICS = ["boundary layer", "heat transfer", "shock wave", "wing flutter", "jet noise", "shell buckling"]


def wait_for_job(server, job, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job = server.get(f"/api/jobs/{job['id']}")
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.1)
    raise AssertionError(job)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("tune"), "")
    server.post("/api/collections", {"name": "wind", "encoder": "none"}, expect=201)
    for i, topic in enumerate(TOPICS):
        # The right document says the words once in a short text; a long one repeats one of them.
        for name, text in ((f"short-{i}", f"Measurements of {topic} in a tunnel."),
                           (f"long-{i}", (f"Notes on {topic.split()[0]} and other things. " * 40))):
            answer = server.post("/api/collections/wind/documents", {"name": name, "text": text}, expect=202)
    assert wait_for_job(server, answer["job"])["state"] == "done"
    yield server
    assert server.stop() == 0


def questions():
    return [{"id": str(i), "text": f"what is {topic}", "relevant": {f"short-{i}": 1}} for i, topic in enumerate(TOPICS)]


def test_needs_questions(tuned):
    assert tuned.get("/api/collections/wind/questions") == {"questions": []}
    job = wait_for_job(tuned, tuned.post("/api/collections/wind/tune", {}, expect=202))
    assert job["state"] == "failed" and "questions" in job["error"], job


def test_questions_are_kept(tuned):
    status, _, answer = tuned.request("PUT", "/api/collections/wind/questions", {"questions": [{"text": "no judgement"}]})
    assert status == 400 and answer["error"]["field"] == "questions", answer
    proposed = {"id": "p", "text": "not looked at yet", "relevant": {"short-0": 1}, "state": "proposed"}
    status, _, _ = tuned.request("PUT", "/api/collections/wind/questions", {"questions": questions() + [proposed]})
    assert status == 200
    assert len(tuned.get("/api/collections/wind/questions")["questions"]) == len(TOPICS) + 1
    answer = tuned.post("/api/collections/wind/evaluate", {})
    assert answer["questions"] == len(TOPICS)  # what is only proposed is not measured


def test_tune_changes_nothing_and_its_patch_applies(tuned):
    before = tuned.get("/api/collections/wind")
    job = wait_for_job(tuned, tuned.post("/api/collections/wind/tune", {"cuts": True}, expect=202), 300)
    assert job["state"] == "done", job
    result = job["result"]
    assert result["odd_questions"] == 3 and result["even_questions"] == 3
    assert len(result["tried"]) >= 16 + 4 and 0 <= result["winner"] < len(result["tried"])
    assert {one["tokens_max"] for one in result["tried"]} >= {120, 250, 500}
    assert "none" in {one["language"] for one in result["tried"]}
    for one in result["tried"]:
        assert 0 <= one["ndcg_at_10"]["low"] <= one["ndcg_at_10"]["mean"] <= one["ndcg_at_10"]["high"] <= 1
    after = tuned.get("/api/collections/wind")
    assert (after["definition"], after["generation"]) == (before["definition"], before["generation"])
    assert len([name for name in os.listdir(tuned.data_path / "index") if name.startswith("coll_")]) == 1
    best = result["tried"][result["winner"]]
    if result["patch"]:
        status, _, patched = tuned.request("PATCH", "/api/collections/wind", result["patch"])
        assert status == 200, patched
        assert patched["definition"]["ranking"]["mode"] == best["mode"]


def test_command_line(tuned, tmp_path):
    (tmp_path / "queries.tsv").write_text("".join(f"{q['id']}\t{q['text']}\n" for q in questions()))
    (tmp_path / "qrels.txt").write_text("".join(f"{i} 0 long-{i} 1\n" for i in range(len(TOPICS))))
    run = subprocess.run(
        [BINARY, "knowledge", "tune", "wind", "--queries", tmp_path / "queries.tsv", "--qrels", tmp_path / "qrels.txt",
         "--cuts", "--apply"], env={**os.environ, "CAPSTAN_URL": tuned.url, "CAPSTAN_KEY": tuned.key},
        capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "nDCG@10 on odd questions" in run.stdout and "difference" in run.stdout
    assert "applied" in run.stdout or "nothing to apply" in run.stdout
    assert tuned.get("/api/collections/wind")["stale"] is False  # a rebuild was waited for
    assert tuned.get("/api/collections/wind/questions")["questions"][0]["relevant"] == {"long-0": 1}
