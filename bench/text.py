"""Words: BM25 over 100,000 real short texts beside tantivy and bm25s in the same run, one thread, processor time.
Queries are 2 to 6 words (any of them), drawn from texts of the collection and mixed with common words; the best ten
with their texts are asked for. All three get the same texts and queries; tantivy stems English as we do and does not
count all matches (count off); bm25s gets the same stems, has its queries cut beforehand and answers one
query a call, by `retrieve` or by `get_scores` and argpartition, whichever is quicker.

TEXT_COUNT=100000  TEXT_QUERIES=2000  TEXT_PEERS=tantivy,bm25s"""
import os

SINGLE = dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", RAYON_NUM_THREADS="1")

import gzip, json, pathlib, random, re, shutil, subprocess, sys, tempfile, time

from _common import FOLDER, Report, python_with

WHERE = FOLDER / "text"
PACKAGES = ["tantivy==0.27.0", "bm25s==0.3.16", "PyStemmer==3.1.0", "numpy"]
K = 10
GOAL_SEARCHES, GOAL_P99_US = 12000, 500


def own_python():
    """Runs this file again in an environment that has the peers, with one thread."""
    python = python_with("text", *PACKAGES)
    os.execve(python, [str(python), *sys.argv], {**os.environ, **SINGLE, "TEXT_INNER": "1"})


# ---- the texts ----

def pieces():
    """Package descriptions first, then the paragraphs of installed documentation."""
    available = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, errors="replace").stdout
    for match in re.finditer(r"^Package: (\S+)\n(?:.*\n)*?Description(?:-en)?: (.*(?:\n .*)*)", available, re.M):
        yield match[1] + " " + match[2]
    for root in ("/usr/share/doc", "/usr/lib/python3", "/usr/share/perl", "/usr/share/man", "/usr/include"):
        for path in sorted(pathlib.Path(root).rglob("*")):
            if not path.is_file() or path.is_symlink() or path.stat().st_size > 4 << 20:
                continue
            data = path.read_bytes()
            if path.suffix == ".gz":
                try:
                    data = gzip.decompress(data)
                except (OSError, EOFError):
                    continue
            if b"\0" not in data:
                yield from data.decode(errors="replace").split("\n\n")


def texts(wanted):
    """Distinct lines of 8 to 150 words."""
    seen = set()
    for piece in pieces():
        words = piece.split()
        for at in range(0, len(words), 150):
            part = words[at:at + 150]
            line = " ".join(part)
            if len(part) >= 8 and sum(w.isalpha() for w in part) > len(part) / 2 and line not in seen:
                seen.add(line)
                if len(seen) == wanted:
                    return list(seen)
    print(f"text: only {len(seen)} texts could be found", flush=True)
    return list(seen)


def make_queries(lines, count):
    """Words of one text, now and then a word of another: 2 to 6, letters only."""
    rng = random.Random(7)
    words = [[w for w in re.findall(r"[a-zA-Z]{3,}", line)] for line in lines]
    words = [w for w in words if len(w) >= 6]
    queries = []
    while len(queries) < count:
        one, other = rng.choice(words), rng.choice(words)
        query = rng.sample(one, rng.randint(2, 6))
        if rng.random() < 0.5:
            query[-1] = rng.choice(other)
        queries.append(" ".join(query).lower())  # AND and OR are operators to tantivy
    return queries


# ---- the three ----

def ours(lines, queries):
    with tempfile.TemporaryDirectory() as where:
        where = pathlib.Path(where)
        (where / "documents").write_text("\n".join(lines))
        (where / "queries").write_text("\n".join(queries))
        out = subprocess.run([FOLDER / "text_run", where / "index", where / "documents", where / "queries"],
                             check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def best_of(call, rounds=3):
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def run_tantivy(lines, queries):
    import tantivy
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", stored=True, tokenizer_name="en_stem")
    folder = tempfile.mkdtemp()
    index = tantivy.Index(schema.build(), path=folder)
    writer = index.writer(heap_size=256 << 20, num_threads=1)
    for line in lines:
        writer.add_document(tantivy.Document(text=line))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search():
        for text in queries:
            query = index.parse_query(text, ["text"])
            for _, address in searcher.search(query, K, count=False).hits:
                searcher.doc(address)
    searches = len(queries) / best_of(search)
    segments = searcher.num_segments
    shutil.rmtree(folder)
    return searches, segments


def run_bm25s(lines, queries):
    import bm25s, numpy, Stemmer
    stemmer = Stemmer.Stemmer("english")
    tokens = bm25s.tokenize(lines, stopwords="en", stemmer=stemmer, show_progress=False)
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    asked = bm25s.tokenize(queries, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
    asked = [a for a in asked if a][:300]  # slow: fewer are enough

    def retrieve():
        for one in asked:
            index.retrieve([one], k=K, show_progress=False, n_threads=1)

    def scores():  # without what retrieve adds
        for one in asked:
            numpy.argpartition(index.get_scores(one), -K)[-K:]
    return len(asked) / min(best_of(retrieve), best_of(scores))


def main():
    lines = texts(int(os.environ.get("TEXT_COUNT", "100000")))
    queries = make_queries(lines, int(os.environ.get("TEXT_QUERIES", "2000")))
    peers = os.environ.get("TEXT_PEERS", "tantivy,bm25s").split(",")
    report = Report("text")
    print(f"text: {len(lines)} texts, {sum(len(l.split()) for l in lines) / len(lines):.0f} words each, "
          f"{len(queries)} queries, load {os.getloadavg()[0]:.2f}", flush=True)
    mine = ours(lines, queries)
    print(f"text: {mine['segments']} segments, {mine['tail_rows']} rows in the tail, "
          f"{mine['disk_bytes'] / 1e6:.0f} MB; p50 {mine['p50_us']:.0f} us", flush=True)
    report.add("text_put", len(lines) / mine["put_s"], "durable rows/s", "goal", 20000)
    report.add("text_search", mine["searches_per_s"], "searches/s", "goal", GOAL_SEARCHES)
    report.add("text_p99", mine["p99_us"], "us of processor time", "goal", GOAL_P99_US)
    if "tantivy" in peers:
        searches, segments = run_tantivy(lines, queries)
        report.add("text_vs_tantivy", mine["searches_per_s"], "searches/s", f"tantivy ({segments} segments)", searches,
                   goal=3)
    if "bm25s" in peers:
        report.add("text_vs_bm25s", mine["searches_per_s"], "searches/s", "bm25s", run_bm25s(lines, queries), goal=20)
    report.write(count=len(lines), queries=len(queries), k=K)


if __name__ == "__main__":
    if os.environ.get("TEXT_INNER"):
        main()
    else:
        WHERE.mkdir(parents=True, exist_ok=True)
        own_python()
