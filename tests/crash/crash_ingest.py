"""Kill -9 of a server while it takes documents in, as often as CRASH_ROUNDS says (default 10), judged from outside.

Clients add documents, replace them by longer and shorter ones, change their attributes and delete them; the server is
killed at a random moment and started again on the same data. Each paragraph holds a word that no other paragraph has,
so what is searchable can be told exactly. What must hold once everything has settled:
  - a document whose upload was answered is there, ready, with the newest content that was answered (or sent last,
    where the answer was lost): every paragraph is found once, none of an older content is found;
  - a document whose deletion was answered stays gone, with every paragraph;
  - attributes whose change was answered are what filters see;
  - the index holds exactly the chunks that the documents have.
Every few rounds, right after a start, a document is either ready, or still on its way, or failed with a reason.

Usage: crash_ingest.py BINARY"""
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time
import urllib.error

from crash_runs import start_server

WAIT_S, SETTLE_EVERY, NAMES = 300, 10, 24
IN_PROGRESS = ("queued", "parsing", "chunking", "embedding")
FORMATS = ("md", "txt", "html")
COLLECTION = "/api/collections/papers"


def word(name, version, paragraph):
    return f"w{name}v{version}p{paragraph}".replace("-", "x")


def content(kind, name, version, paragraphs):
    texts = [f"{word(name, version, i)} stands in paragraph {i} of a file that is written, cut and found. " + "Filler follows it. " * 8
             for i in range(paragraphs)]
    if kind == "html":
        return "<html><body><main>" + "".join(f"<p>{text}</p>" for text in texts) + "</main></body></html>"
    return "\n\n".join(texts)


class Names:
    """What was promised of each document. One client at a time works on a name."""

    def __init__(self):
        self.promised = {}  # name → list of states that may be true; a state: None (gone) or (version, paragraphs, attributes)
        self.ids = {}       # name → document id
        self.version = 0
        self.answers = 0
        self.lock = threading.Lock()

    def next_version(self):
        with self.lock:
            self.version += 1
            return self.version


def add(server, names, name):
    version, paragraphs, topic = names.next_version(), random.choice((1, 3, 12, 40)), random.choice("abc")
    state = (version, paragraphs, topic)
    before = names.promised.get(name, [None])
    names.promised[name] = [*before, state]  # until it is answered, either may hold
    kind = FORMATS[int(name[1:]) % len(FORMATS)]
    answer = server.request("POST", COLLECTION + "/documents", {
        "name": f"{name}.{kind}", "text": content(kind, name, version, paragraphs), "attributes": {"topic": topic}})
    names.ids[name] = answer["items"][0]["id"]
    names.promised[name] = [state]


def delete(server, names, name):
    names.promised[name] = [*names.promised[name], None]
    server.request("DELETE", f"{COLLECTION}/documents/{names.ids[name]}")
    names.promised[name] = [None]
    del names.ids[name]


def change(server, names, name):
    topic = random.choice("def")
    before = names.promised[name]
    names.promised[name] = [*before, *((s[0], s[1], topic) for s in before if s)]
    server.request("PATCH", f"{COLLECTION}/documents/{names.ids[name]}", {"attributes": {"topic": topic}})
    names.promised[name] = [s and (s[0], s[1], topic) for s in before]


def work(server, names, name):
    """Until the server dies under it."""
    try:
        for _ in range(6):
            known = name in names.ids and names.promised[name][-1] is not None and len(names.promised[name]) == 1
            todo = random.choice((add, add, delete, change)) if known else add
            todo(server, names, name)
            names.answers += 1
    except (OSError, ValueError, urllib.error.HTTPError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (404, 409, 429):
            raise


def documents(server):
    items, cursor = [], ""
    while True:
        page = server.request("GET", f"{COLLECTION}/documents?limit=100{cursor}")
        items += page["items"]
        if not page["next_cursor"]:
            return items
        cursor = "&cursor=" + page["next_cursor"]


def settle(server):
    deadline = time.monotonic() + WAIT_S
    while True:
        items = documents(server)
        if not any(item["state"] in IN_PROGRESS for item in items):
            return items
        if time.monotonic() > deadline:
            sys.exit("documents are stuck: " + json.dumps([i for i in items if i["state"] in IN_PROGRESS])[:2000])
        time.sleep(0.1)


def rows(server):
    found, cursor = [], None
    while True:
        page = server.request("POST", COLLECTION + "/vectors/scroll", {"limit": 500, **({"cursor": cursor} if cursor else {})})
        found += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return found


def check_states(items):
    problems = []
    for item in items:
        if item["state"] not in (*IN_PROGRESS, "ready") and not item["error"]:
            problems.append(f"{item['name']} is {item['state']} without a reason")
    return problems


def check_name(server, name, states, item, texts):
    """texts: the document's rows of the index."""
    if item is None:
        return [] if None in states else [f"{name} was answered and is lost"]
    if item["state"] != "ready":
        return [f"{name} is {item['state']}: {item['error']}"]
    whole = "\n".join(texts)
    for state in filter(None, states):
        version, paragraphs, topic = state
        if word(name, version, 0) not in whole:
            continue
        counts = {whole.count(word(name, version, i) + " ") for i in range(paragraphs)}
        if counts != {1} or whole.count(" stands in paragraph ") != paragraphs or len(texts) != item["chunks"]:
            return [f"{name}: version {version} should have {paragraphs} paragraphs once each, in {item['chunks']} chunks; "
                    f"found {whole.count(' stands in paragraph ')} in {len(texts)}, each {sorted(counts)} times"]
        if not any(s and s[0] == version and s[2] == item["attributes"].get("topic") for s in states):
            continue
        hits = server.request("POST", COLLECTION + "/search", {"query": word(name, version, paragraphs - 1), "mode": "text", "k": 5,
                                                               "filter": f'topic == "{item["attributes"]["topic"]}"'})
        return [] if len(hits["items"]) == 1 else [f"{name}: {len(hits['items'])} hits of a word that stands in it once"]
    return [f"{name}: neither of the promised states {states} holds; attributes {item['attributes']}, first text {whole[:80]!r}"]


def check_all(server, names):
    items = settle(server)
    problems, by_name, texts = check_states(items), {item["name"].split(".")[0]: item for item in items}, {}
    if len(by_name) != len(items):
        problems.append("two documents have one name")
    for row in rows(server):
        payload = row["payload"]
        texts.setdefault(payload["_document"], []).append(row["text"] if "text" in row else row["texts"]["text"])
        if payload["topic"] != next((i["attributes"]["topic"] for i in items if i["id"] == payload["_document"]), None):
            problems.append(f"a chunk says {payload['topic']!r} as its topic, its document does not")
    for stranger in texts.keys() - {item["id"] for item in items}:
        problems.append(f"{len(texts[stranger])} chunks are left of {stranger}, which is gone")
    for name, states in names.promised.items():
        item = by_name.get(name)
        problems += check_name(server, name, states, item, texts.get(item["id"], []) if item else [])
        names.promised[name] = [None] if item is None else states if problems else [
            next(s for s in states if s and s[2] == item["attributes"]["topic"]
                 and word(name, s[0], 0) in "\n".join(texts[item["id"]]))]
        names.ids.pop(name, None) if item is None else names.ids.update({name: item["id"]})
    return problems, len(items), sum(map(len, texts.values()))


def main():
    binary, rounds = sys.argv[1], int(os.environ.get("CRASH_ROUNDS", "10"))
    seed = int(os.environ.get("CRASH_SEED", str(time.time_ns() % 1000000)))
    random.seed(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="capstan-crash-ingest-"))
    (folder / "capstan.yaml").write_text("")
    server = start_server(binary, folder)
    server.request("POST", "/api/collections", {"name": "papers", "encoder": "none",
                                                "chunking": {"strategy": "structure", "tokens_max": 64}})
    names, problems = Names(), []
    for number in range(rounds):
        last = number + 1 == rounds
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            chosen = random.sample(range(NAMES), 8)
            working = [pool.submit(work, server, names, f"n{i}") for i in chosen]
            time.sleep(random.random() * 0.6)
            server.kill()
            for each in working:
                each.result()
        server = start_server(binary, folder, server.key)
        problems += check_states(documents(server))
        if number % SETTLE_EVERY < SETTLE_EVERY - 1 and not last and not problems:
            continue
        found, count, chunks = check_all(server, names)
        problems += found
        print(f"{number + 1} kills, {names.answers} acknowledged requests, {count} documents with {chunks} chunks, "
              f"{len(problems)} broken promises", flush=True)
        if problems:
            break
    server.kill()
    print("\n".join(problems[:20]))
    if not problems:
        shutil.rmtree(folder)
    else:
        print(f"seed {seed}, data in {folder}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
