"""Files and vector stores by the OpenAI SDK for Python, unmodified, and `knowledge/NAME` as a model."""
import io
import sqlite3
import time
import urllib.parse

import openai
import pytest

from conftest import Server, mock_config

INSTALL = b"""# Installing

Download the archive and unpack it below /opt. Run `capstan serve` to start the server.

# Updating

Stop the server, replace the program, and start it again. The database is migrated by itself.
"""
GARDEN = b"Tomatoes want sun and water. Basil grows well beside them. Slugs eat lettuce at night.\n"


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0)


def upload(client, name, content):
    return client.files.create(file=(name, io.BytesIO(content)), purpose="assistants")


@pytest.fixture(scope="module")
def store(client):
    """A store with two files that are ready."""
    made = client.vector_stores.create(name="Support FAQ", metadata={"team": "docs"})
    for name, content, year in (("install.md", INSTALL, 2026), ("garden.txt", GARDEN, 2020)):
        file = upload(client, name, content)
        done = client.vector_stores.files.create_and_poll(
            vector_store_id=made.id, file_id=file.id, attributes={"year": year, "kind": name.split(".")[1]},
            poll_interval_ms=50)
        assert done.status == "completed", done.last_error
    return made


def test_files(client):
    file = upload(client, "note.txt", b"hello")
    assert file.id.startswith("file-") and file.bytes == 5 and file.filename == "note.txt"
    assert file.purpose == "assistants" and file.created_at <= time.time() + 1
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).read() == b"hello"
    assert file.id in [one.id for one in client.files.list(purpose="assistants")]
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_files_are_paged(client):
    made = [upload(client, f"page-{i}.txt", b"page %d" % i).id for i in range(5)]
    seen = [one.id for one in client.files.list(limit=2, order="asc")]  # the SDK asks for the next pages
    assert [one for one in seen if one in made] == made


def test_store(client, store):
    got = client.vector_stores.retrieve(store.id)
    assert got.id.startswith("vs_") and got.name == "Support FAQ" and got.status == "completed"
    assert got.metadata == {"team": "docs"}
    assert got.file_counts.completed == 2 and got.file_counts.total == 2 and got.usage_bytes > 0
    assert store.id in [one.id for one in client.vector_stores.list()]
    changed = client.vector_stores.update(store.id, name="Support", metadata={"team": "web"})
    assert changed.name == "Support" and changed.metadata == {"team": "web"}
    client.vector_stores.update(store.id, name="Support FAQ")


def test_search(client, store):
    page = client.vector_stores.search(vector_store_id=store.id, query="how is the database migrated")
    best = page.data[0]
    assert best.filename == "install.md" and 0 <= best.score <= 1
    assert "migrated" in best.content[0].text and best.attributes["year"] == 2026
    assert page.search_query == ["how is the database migrated"]
    both = client.vector_stores.search(vector_store_id=store.id, query=["tomatoes", "start the server"])
    assert {one.filename for one in both.data} == {"install.md", "garden.txt"}


@pytest.mark.parametrize("filters, names", [
    ({"type": "eq", "key": "year", "value": 2020}, {"garden.txt"}),
    ({"type": "gte", "key": "year", "value": 2021}, {"install.md"}),
    ({"type": "in", "key": "kind", "value": ["md", "pdf"]}, {"install.md"}),
    ({"type": "nin", "key": "kind", "value": ["md"]}, {"garden.txt"}),
    ({"type": "and", "filters": [{"type": "gt", "key": "year", "value": 2019},
                                 {"type": "ne", "key": "kind", "value": "md"}]}, {"garden.txt"}),
    ({"type": "or", "filters": [{"type": "eq", "key": "year", "value": 1999},
                                {"type": "lt", "key": "year", "value": 2021}]}, {"garden.txt"}),
])
def test_filters(client, store, filters, names):
    page = client.vector_stores.search(vector_store_id=store.id, query="server water the start sun",
                                       filters=filters)
    assert {one.filename for one in page.data} == names


def test_ranking_options(client, store):
    everything = client.vector_stores.search(vector_store_id=store.id, query="start the server",
                                             ranking_options={"ranker": "none"})
    best = everything.data[0].score
    above = client.vector_stores.search(
        vector_store_id=store.id, query="start the server", max_num_results=1,
        ranking_options={"score_threshold": max(best - 0.001, 0)})
    assert len(above.data) == 1
    nothing = client.vector_stores.search(vector_store_id=store.id, query="start the server",
                                          ranking_options={"score_threshold": 1.0})
    assert all(one.score >= 1 for one in nothing.data)


def test_bad_filter_is_told(client, store):
    with pytest.raises(openai.BadRequestError) as refused:
        client.vector_stores.search(vector_store_id=store.id, query="x",
                                    filters={"type": "like", "key": "year", "value": 1})
    assert "filter" in str(refused.value)


def test_batch_with_chunking(client, store):
    text = " ".join(f"Sentence number {i} tells about topic {i % 7}." for i in range(400)).encode()
    files = [upload(client, f"batch-{i}.txt", text + b" unique %d" % i) for i in range(3)]
    batch = client.vector_stores.file_batches.create_and_poll(
        vector_store_id=store.id, file_ids=[file.id for file in files], poll_interval_ms=50,
        chunking_strategy={"type": "static",
                           "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}})
    assert batch.status == "completed" and batch.file_counts.completed == 3
    listed = client.vector_stores.file_batches.list_files(vector_store_id=store.id, batch_id=batch.id)
    assert {one.id for one in listed} == {file.id for file in files}
    one = client.vector_stores.files.retrieve(files[0].id, vector_store_id=store.id)
    assert one.chunking_strategy.type == "static"
    assert one.chunking_strategy.static.max_chunk_size_tokens == 100
    for file in files:
        client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    left = [one.id for one in client.vector_stores.files.list(vector_store_id=store.id)]
    assert not {file.id for file in files} & set(left)


def test_batch_cancel(client, store):
    file = upload(client, "late.txt", b"never mind")
    batch = client.vector_stores.file_batches.create(vector_store_id=store.id, file_ids=[file.id])
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert cancelled.status == "cancelled"
    client.files.delete(file.id)


def test_attributes_are_carried_to_chunks(client, store):
    garden = next(one for one in client.vector_stores.files.list(vector_store_id=store.id)
                  if one.attributes["year"] == 2020)
    changed = client.vector_stores.files.update(garden.id, vector_store_id=store.id,
                                                attributes={"year": 2021, "kind": "txt"})
    assert changed.attributes["year"] == 2021
    page = client.vector_stores.search(vector_store_id=store.id, query="tomatoes",
                                       filters={"type": "eq", "key": "year", "value": 2021})
    assert page.data[0].attributes["year"] == 2021
    client.vector_stores.files.update(garden.id, vector_store_id=store.id,
                                      attributes={"year": 2020, "kind": "txt"})


def test_content(client, store):
    file = next(iter(client.vector_stores.files.list(vector_store_id=store.id, order="asc")))
    parts = client.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert "capstan serve" in "".join(part.text for part in parts)


def test_a_file_of_an_unknown_kind_fails_alone(client, store):
    file = upload(client, "noise.bin", bytes(range(256)) * 20)
    failed = client.vector_stores.files.create_and_poll(vector_store_id=store.id, file_id=file.id,
                                                        poll_interval_ms=50)
    assert failed.status == "failed" and failed.last_error.code == "unsupported_file"
    client.files.delete(file.id)


def test_expiry(client):
    made = client.vector_stores.create(name="soon", expires_after={"anchor": "last_active_at", "days": 7})
    assert made.expires_after.days == 7
    assert abs(made.expires_at - made.last_active_at - 7 * 86400) <= 1
    client.vector_stores.delete(made.id)


def test_delete(client):
    file = upload(client, "gone.txt", b"soon gone")
    made = client.vector_stores.create(name="gone", file_ids=[file.id])
    assert client.vector_stores.delete(made.id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(made.id)
    assert client.files.retrieve(file.id).id == file.id  # the file stays
    client.files.delete(file.id)


def test_another_project_sees_nothing(client, server, store):
    other = server.post("/api/projects", {"name": "other"}, expect=201)["secret"]
    stranger = openai.OpenAI(base_url=server.url + "/v1", api_key=other, max_retries=0)
    assert store.id not in [one.id for one in stranger.vector_stores.list()]
    with pytest.raises(openai.NotFoundError):
        stranger.vector_stores.retrieve(store.id)
    with pytest.raises(openai.NotFoundError):
        stranger.vector_stores.search(vector_store_id=store.id, query="server")
    assert list(stranger.files.list()) == []


def test_ask(client, server, store):
    name = next(one["name"] for one in server.get("/api/collections")["items"]
                if one["vector_store"] == store.id)
    server.request("PATCH", f"/api/collections/{name}", {"answer": {"route": "smart"}})
    question = [{"role": "user", "content": "How do I start the server?"}]
    whole = client.chat.completions.create(model=f"knowledge/{name}", messages=question)
    assert whole.choices[0].message.content and whole.usage.total_tokens > 0
    first = whole.model_extra["citations"][0]
    assert first["document"] == "install.md" and first["chunk_id"].startswith("chunk_")
    assert first["end"] > first["begin"] >= 0
    assert all({"begin", "end", "supported"} <= one.keys() for one in whole.model_extra["sentences"])
    text, extra = "", None
    for chunk in client.chat.completions.create(model=f"knowledge/{name}", messages=question, stream=True):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        extra = (chunk.model_extra or {}).get("citations") or extra
    assert text and extra[0]["number"] == 1
    calls = server.get("/api/calls?limit=2")["items"]
    assert {call["model_requested"] for call in calls} == {f"knowledge/{name}", "smart"}


def test_what_has_expired_is_deleted(tmp_path):
    """The days are moved in the database, with the server down; the next one deletes by itself."""
    server = Server(tmp_path)
    key = server.key
    client = openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)
    kept = client.vector_stores.create(name="kept")
    gone = client.vector_stores.create(name="gone", expires_after={"anchor": "last_active_at", "days": 7})
    fresh = client.vector_stores.create(name="fresh", expires_after={"anchor": "last_active_at", "days": 7})
    file = client.files.create(file=("old.txt", io.BytesIO(GARDEN)), purpose="assistants",
                               expires_after={"anchor": "created_at", "seconds": 3600})
    client.vector_stores.files.create_and_poll(vector_store_id=kept.id, file_id=file.id, poll_interval_ms=50)
    assert server.stop() == 0
    with sqlite3.connect(tmp_path / "data" / "control.db") as database:
        week_ns = 8 * 86400 * 10**9
        database.execute("UPDATE collections SET used_ns = used_ns - ? WHERE vector_name = 'gone'", (week_ns,))
        database.execute("UPDATE files SET expires_ns = expires_ns - ?", (week_ns,))
    database.close()
    server = Server(tmp_path, key=key)
    try:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            left = {one.id for one in client.vector_stores.list()}
            if gone.id not in left and not list(client.files.list()):
                break
            time.sleep(0.1)
        assert left == {kept.id, fresh.id} and not list(client.files.list())
        assert client.vector_stores.retrieve(kept.id).file_counts.total == 0  # it was made of the file
    finally:
        server.stop()


@pytest.fixture(scope="module")
def answering(mock, tmp_path_factory):
    """A server whose route `smart` is the mock, with a store of two files."""
    server = Server(tmp_path_factory.mktemp("file-search"), config=mock_config(mock))
    sdk = openai.OpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0)
    made = sdk.vector_stores.create(name="Manuals")
    files = {}
    for name, content, year in (("install.md", INSTALL, 2026), ("garden.txt", GARDEN, 2020)):
        files[name] = upload(sdk, name, content).id
        sdk.vector_stores.files.create_and_poll(vector_store_id=made.id, file_id=files[name],
                                                attributes={"year": year}, poll_interval_ms=50)
    yield sdk, made, files
    server.stop()


def search_tool(store, **more):
    return [{"type": "file_search", "vector_store_ids": [store.id], **more}]


QUESTION = "what do tomatoes want?"
CITING = "mock/gpt-mock?text=" + urllib.parse.quote("Tömatoes want sun [1]. Nobody knows [9].")


def test_file_search(answering):
    sdk, made, files = answering
    response = sdk.responses.create(model=CITING, input=QUESTION, tools=search_tool(made),
                                    include=["file_search_call.results"])
    search, message = response.output
    assert search.type == "file_search_call" and search.status == "completed"
    assert "tomatoes" in search.queries[0]
    assert search.results[0].filename == "garden.txt" and search.results[0].file_id == files["garden.txt"]
    assert "Tomatoes" in search.results[0].text and search.results[0].attributes == {"year": 2020}
    text = message.content[0]
    assert response.model == CITING and text.text == "Tömatoes want sun [1]. Nobody knows [9]."
    (note,) = text.annotations
    assert note.type == "file_citation" and note.filename == "garden.txt" and note.file_id == files["garden.txt"]
    assert note.index == text.text.index("[1]")


def test_file_search_streamed(answering):
    sdk, made, files = answering
    kinds, text, notes, last = [], "", [], None
    with sdk.responses.stream(model=CITING, input=QUESTION, tools=search_tool(made)) as stream:
        for event in stream:
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
                assert event.output_index == 1
            if event.type == "response.output_text.annotation.added":
                notes.append(event.annotation)
        last = stream.get_final_response()
    assert kinds.index("response.file_search_call.searching") < kinds.index("response.file_search_call.completed")
    assert kinds.index("response.file_search_call.completed") < kinds.index("response.output_text.delta")
    assert last.output[0].type == "file_search_call" and last.output[0].results is None
    assert last.output[1].content[0].text == text and len(last.output[1].content[0].annotations) == len(notes) == 1


def test_file_search_filters_and_errors(answering):
    sdk, made, _ = answering
    response = sdk.responses.create(
        model="smart", input="what do tomatoes want?", include=["file_search_call.results"],
        tools=search_tool(made, max_num_results=1, filters={"type": "eq", "key": "year", "value": 2026}))
    assert all(one.filename == "install.md" for one in response.output[0].results)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model="smart", input="x", tools=[{"type": "file_search", "vector_store_ids": [
            "vs_01jdzzzzzzfzzrzzzzzzzzzzzz"]}])
    with pytest.raises(openai.BadRequestError):
        sdk.responses.create(model="smart", input="x", tools=search_tool(made) + [
            {"type": "function", "name": "f", "parameters": {"type": "object"}}])
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model="nobody", input="x", tools=search_tool(made))
