"""The vector index beside hnswlib, usearch, faiss and sqlite-vec: recall@10 against brute force and the processor
time of one thread, in one process, one query a call (ours, hnswlib and usearch loop over the queries in C; faiss is
called once for each query, and once more with all, which is printed apart). Peers' parameters are swept and the best
of a peer is taken. Peers' indexes are kept in build/bench/vector, so that a second run only searches.

VECTOR_SETS=text,glove  VECTOR_COUNT=50000 (glove: twice as many)  VECTOR_PEERS=hnswlib,usearch,faiss,sqlite-vec  VECTOR_FILTERS=1  VECTOR_QUERIES=500"""
import os

# Before numpy and faiss start their threads; huge pages for all that is allocated.
SINGLE = dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", GLIBC_TUNABLES="glibc.malloc.hugetlb=1")

import ctypes, json, math, pathlib, re, subprocess, sys, time

from _common import FOLDER, Report, python_with

WHERE = FOLDER / "vector"
PACKAGES = ["numpy", "hnswlib==0.8.0", "faiss-cpu==1.15.1", "usearch==2.26.6", "sqlite-vec==0.1.9"]
HELD_OUT, K = 1000, 10
QUERIES = int(os.environ.get("VECTOR_QUERIES", "500"))  # at most HELD_OUT
METRIC_COSINE = 0


def own_python():
    """Runs this file again in an environment that has the peers, with one thread."""
    python = python_with("vector", *PACKAGES)
    os.execve(python, [str(python), *sys.argv], {**os.environ, **SINGLE, "VECTOR_INNER": "1"})


def timed(call, repeat=2):
    """(least processor time of this thread in seconds, the answer)."""
    best = math.inf
    for _ in range(repeat):
        start = time.thread_time()
        answer = call()
        best = min(best, time.thread_time() - start)
    return best, answer


def recall_of(ids, truth):
    return sum(len(set(a) & set(b)) for a, b in zip(ids.tolist(), truth.tolist())) / truth.size


def time_at(points, goal):
    """Microseconds at a recall: between the two points of the best curve around it; NaN when not reached."""
    points = sorted(points)
    curve = []
    for recall, us in points:  # only points that no better recall undercuts
        while curve and curve[-1][1] >= us:
            curve.pop()
        curve.append((recall, us))
    before = None
    for recall, us in curve:
        if recall >= goal:
            if before is None:
                return us
            part = (goal - before[0]) / (recall - before[0])
            return before[1] + part * (us - before[1])
        before = (recall, us)
    return math.nan


# ---- ours ----

class Bridge:
    def __init__(self):
        self.c = ctypes.CDLL(str(FOLDER / "libvector_bridge.so"))
        for name in ("build", "search"):
            getattr(self.c, f"bridge_{name}").restype = ctypes.c_int64
        self.c.bridge_open.restype = ctypes.c_void_p

    @staticmethod
    def pointer(array):
        return array.ctypes.data_as(ctypes.c_void_p)

    def build(self, path, rows, flat=False):
        took = self.c.bridge_build(str(path).encode(), self.pointer(rows), ctypes.c_size_t(len(rows)), rows.shape[1],
                                   METRIC_COSINE, flat)
        assert took > 0
        return took / 1e9

    def open(self, path):
        took = ctypes.c_int64()
        self.handle = ctypes.c_void_p(self.c.bridge_open(str(path).encode(), True, ctypes.byref(took)))
        return took.value / 1e3

    def close(self):
        self.c.bridge_close(self.handle)

    def search(self, queries, recall, allowed=None, allowed_count=0):
        """(microseconds a query, ids)"""
        import numpy as np
        out = np.empty((len(queries), K), np.int64)
        took = min(self.c.bridge_search(self.handle, self.pointer(queries), ctypes.c_size_t(len(queries)),
                                        queries.shape[1], ctypes.c_size_t(K), ctypes.c_double(recall),
                                        self.pointer(allowed) if allowed is not None else None,
                                        ctypes.c_size_t(allowed_count), self.pointer(out)) for _ in range(3))
        return took / 1e3 / len(queries), out


def ours(bridge, queries, truth):
    points = []
    for wanted in (0.85, 0.9, 0.92, 0.94, 0.95, 0.955, 0.96, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.998):
        us, ids = bridge.search(queries, wanted)
        points.append((recall_of(ids, truth), us))
        print(f"  capstan recall={wanted}: {points[-1][0]:.4f} {us:.1f} us", flush=True)
    return points


# ---- peers: name → points of (recall, microseconds) ----

def hnswlib_points(rows, queries, truth, stem):
    import hnswlib
    points = []
    for m in (16, 32):
        path = WHERE / f"{stem}-hnswlib-{m}.bin"
        index = hnswlib.Index("ip", rows.shape[1])
        if path.exists():
            index.load_index(str(path))
        else:
            index.init_index(len(rows), M=m, ef_construction=200, random_seed=1)
            spent, _ = timed(lambda: index.add_items(rows, num_threads=1), 1)
            print(f"  hnswlib M={m}: {len(rows) / spent:.0f} vectors/s", flush=True)
            index.save_index(str(path))
        index.set_num_threads(1)
        for ef in (20, 40, 80, 120, 160, 240, 320, 480, 640, 960, 1400, 2000):
            index.set_ef(ef)
            spent, (ids, _) = timed(lambda: index.knn_query(queries, K, num_threads=1))
            points.append((recall_of(ids, truth), spent / len(queries) * 1e6))
            if points[-1][0] > 0.993:
                break
    return {"hnswlib": points}


def usearch_points(rows, queries, truth, stem):
    from usearch.index import Index
    points = []
    for kind in ("f32", "i8"):
        path = WHERE / f"{stem}-usearch-{kind}.bin"
        index = Index(ndim=rows.shape[1], metric="cos", dtype=kind, connectivity=16, expansion_add=128)
        if path.exists():
            index.load(str(path))
        else:
            import numpy as np
            spent, _ = timed(lambda: index.add(np.arange(len(rows)), rows, threads=1), 1)
            print(f"  usearch {kind}: {len(rows) / spent:.0f} vectors/s", flush=True)
            index.save(str(path))
        for expansion in (20, 40, 80, 160, 240, 320, 480, 640, 960, 1400, 2000):
            index.expansion_search = expansion
            spent, found = timed(lambda: index.search(queries, K, threads=1))
            points.append((recall_of(found.keys, truth), spent / len(queries) * 1e6))
            if points[-1][0] > 0.993:
                break
    return {"usearch": points}


def faiss_search(index, queries, truth, single, batch, **parameters):
    import faiss, numpy as np
    for name, value in parameters.items():
        faiss.ParameterSpace().set_index_parameter(index, name, value)
    spent, (_, ids) = timed(lambda: index.search(queries, K))
    batch.append((recall_of(ids, truth), spent / len(queries) * 1e6))
    some = queries[:200]
    spent, found = timed(lambda: np.concatenate([index.search(some[i:i + 1], K)[1] for i in range(len(some))]))
    single.append((batch[-1][0], spent / len(some) * 1e6))


def faiss_points(rows, queries, truth, stem):
    import faiss
    faiss.omp_set_num_threads(1)
    d = rows.shape[1]
    single, batch = [], []
    for factory in (f"IVF1024,PQ{d // 2}x4fs,RFlat", f"IVF1024,PQ{d // 4}x4fs,RFlat", "HNSW32"):
        path = WHERE / f"{stem}-faiss-{re.sub('[^A-Za-z0-9]', '-', factory)}.bin"
        if path.exists():
            index = faiss.read_index(str(path))
        else:
            index = faiss.index_factory(d, factory, faiss.METRIC_INNER_PRODUCT)
            spent, _ = timed(lambda: (index.train(rows), index.add(rows)), 1)
            print(f"  faiss {factory}: {len(rows) / spent:.0f} vectors/s", flush=True)
            faiss.write_index(index, str(path))
        if factory == "HNSW32":
            for ef in (40, 80, 160, 240, 320, 480, 640, 960, 1400):
                faiss_search(index, queries, truth, single, batch, efSearch=ef)
        else:
            for probes in (8, 16, 32, 64, 128, 256):
                for factor in (4, 10, 25):
                    faiss_search(index, queries, truth, single, batch, nprobe=probes, k_factor_rf=factor)
    return {"faiss": single, "faiss batch": batch}


SQLITE_VEC = """
import array, sqlite3, sys, time
vec, rows, queries, count, dimension = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
db = sqlite3.connect(":memory:")
db.enable_load_extension(True)
db.load_extension(vec)
db.execute(f"CREATE VIRTUAL TABLE v USING vec0(e float[{dimension}])")
data = open(rows, "rb").read()
step = dimension * 4
db.executemany("INSERT INTO v(rowid, e) VALUES (?, ?)", ((i + 1, data[i * step:(i + 1) * step]) for i in range(count)))
asked = open(queries, "rb").read()
best = 9e9
for i in range(5):
    start = time.thread_time()
    db.execute("SELECT rowid FROM v WHERE e MATCH ? AND k = 10", (asked[i * step:(i + 1) * step],)).fetchall()
    best = min(best, time.thread_time() - start)
print(best * 1e6)
"""


def sqlite_vec_us(rows, queries):
    """Its exact scan; Debian's Python has loadable extensions, others often not."""
    import sqlite_vec
    (WHERE / "rows.f32").write_bytes(rows.tobytes())
    (WHERE / "queries.f32").write_bytes(queries[:5].tobytes())
    out = subprocess.run(["/usr/bin/python3", "-c", SQLITE_VEC, sqlite_vec.loadable_path(), WHERE / "rows.f32",
                          WHERE / "queries.f32", str(len(rows)), str(rows.shape[1])], capture_output=True, text=True)
    (WHERE / "rows.f32").unlink()
    if out.returncode:
        print("  sqlite-vec did not run:", out.stderr.strip().splitlines()[-1:])
        return math.nan
    return float(out.stdout)


# ---- the figures ----

def compare(report, bridge, name, rows, queries, truth, goals, peers):
    stem = f"{name}-{len(rows)}"
    curves = {}
    for peer, points in (("hnswlib", hnswlib_points), ("usearch", usearch_points), ("faiss", faiss_points)):
        if peer in peers:
            curves.update(points(rows, queries, truth, stem))
            (WHERE / f"{stem}-{peer}.json").write_text(json.dumps({k: v for k, v in curves.items() if peer in k}))
    path = WHERE / f"{stem}.seg"
    spent = bridge.build(path, rows)
    print(f"{name}: build {len(rows) / spent:.0f} vectors/s, {path.stat().st_size / len(rows):.0f} bytes a vector")
    report.add(f"{name}_build", len(rows) / spent, "vectors/s a core", "goal", 1900)
    opened = bridge.open(path)
    print(f"  opened in {opened:.0f} us")
    mine = ours(bridge, queries, truth)
    for goal in (0.95, 0.99):
        us = time_at(mine, goal)
        for peer, points in curves.items():
            theirs = time_at(points, goal)
            ratio = theirs / us
            wanted = goals.get((peer, goal))
            print(f"{name} recall {goal}: {us:.1f} us, {peer} {theirs:.1f} us, {ratio:.2f} times"
                  + (f" (goal {wanted})" if wanted else ""), flush=True)
            report.figures.append(dict(name=f"{name}_{goal}", value=us, unit="us", yardstick=peer,
                                       yardstick_value=theirs, ratio=ratio, goal=wanted))


def filters(report, bridge, rows, queries, stem):
    """Random filters, and ones that go with the data's first direction, at recall 0.99."""
    import hnswlib, numpy as np
    random = np.random.default_rng(3)
    some = np.ascontiguousarray(queries[:200])
    scores = some @ rows.T
    along = rows @ rows[0]
    index = hnswlib.Index("ip", rows.shape[1])
    index.load_index(str(WHERE / f"{stem}-hnswlib-16.bin"))
    index.set_num_threads(1)
    for share in (0.5, 0.1, 0.01, 0.001):
        for kind in ("random", "correlated"):
            order = random.permutation(len(rows)) if kind == "random" else np.argsort(-along)
            mask = np.zeros(len(rows), bool)
            mask[order[:int(len(rows) * share)]] = True
            masked = np.where(mask, scores, -9)
            truth = np.argpartition(-masked, K, axis=1)[:, :K]
            words = np.packbits(np.pad(mask, (0, -len(mask) % 64)), bitorder="little").view(np.uint64).copy()
            us, ids = bridge.search(some, 0.99, words, int(mask.sum()))
            line = f"filter {kind} {share:.1%}: recall {recall_of(ids, truth):.4f} {us:.1f} us"
            if kind == "random" and share >= 0.01:
                points = []
                for ef in (40, 100, 200, 400, 800, 1600):
                    index.set_ef(ef)
                    try:
                        spent, (ids, _) = timed(lambda: index.knn_query(some[:50], K, num_threads=1,
                                                                        filter=lambda i: mask[i]), 1)
                    except RuntimeError:  # fewer than k found
                        continue
                    points.append((recall_of(ids, truth[:50]), spent / 50 * 1e6))
                    if points[-1][0] >= 0.99:
                        break
                theirs = time_at(points, 0.99)
                line += f", hnswlib (filter in Python) {theirs:.0f} us, {theirs / us:.0f} times"
            print(line, flush=True)
            report.figures.append(dict(name=f"filter_{kind}_{share}", value=us, unit="us"))


def flat(report, bridge, name, rows, queries, truth, peers):
    path = WHERE / "flat.seg"
    bridge.build(path, rows, flat=True)
    bridge.open(path)
    points = []
    for wanted in (0.98, 0.99, 0.995, 0.998):
        us, ids = bridge.search(queries, wanted)
        points.append((recall_of(ids, truth), us))
    bridge.close()
    us = time_at(points, 0.995)
    print(f"flat {name}: {us:.0f} us at recall 0.995 (goal 600)", points)
    if "sqlite-vec" in peers:
        report.add("flat_scan", us, "us", "sqlite-vec", sqlite_vec_us(rows, queries), "ratio ≤ 1/150")
    path.unlink()


def main():
    import numpy as np
    import _vectors
    count = int(os.environ.get("VECTOR_COUNT", "50000"))
    sets = os.environ.get("VECTOR_SETS", "text,glove").split(",")
    peers = os.environ.get("VECTOR_PEERS", "hnswlib,usearch,faiss,sqlite-vec").split(",")
    flags = re.search(r"flags\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print("AVX-512 VNNI" if flags and "avx512_vnni" in flags[1] else "no AVX-512 VNNI", "load", os.getloadavg())
    report, bridge = Report("vector"), Bridge()
    for name in sets:
        if name == "text":
            every = _vectors.text_vectors(WHERE, count + HELD_OUT, 768)
            total = count
            goals = {("hnswlib", .95): 10, ("usearch", .95): 10, ("faiss", .95): 5, ("faiss batch", .95): 3,
                     ("hnswlib", .99): 8, ("usearch", .99): 8, ("faiss", .99): 3.5, ("faiss batch", .99): 1.4}
        else:
            every = _vectors.word_vectors(WHERE, 2 * count + HELD_OUT)
            total = 2 * count
            goals = {("hnswlib", .95): 5, ("hnswlib", .99): 5, ("faiss", .95): 2, ("faiss", .99): 1.2}
        queries = np.ascontiguousarray(every[:QUERIES])
        rows = np.ascontiguousarray(every[HELD_OUT:HELD_OUT + total])
        truth = _vectors.nearest(rows, queries, K)[0]
        print(f"{name}: {rows.shape}, local intrinsic dimension "
              f"{_vectors.intrinsic_dimension(rows, queries[:300]):.1f}", flush=True)
        compare(report, bridge, name, rows, queries, truth, goals, peers)
        if name == "text" and os.environ.get("VECTOR_FILTERS", "1") == "1" and "hnswlib" in peers:
            filters(report, bridge, rows, queries, f"{name}-{len(rows)}")
        bridge.close()
        if name == "text":
            flat(report, bridge, name, rows, queries, truth, peers)
    report.write(count=count, queries=QUERIES, k=K)


if __name__ == "__main__":
    if not os.environ.get("VECTOR_INNER"):
        WHERE.mkdir(parents=True, exist_ok=True)
        own_python()
    main()
