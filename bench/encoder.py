#!/usr/bin/env python3
"""The built-in encoder beside ONNX Runtime and sentence-transformers on the same checkpoint and texts: chunks
of about 126 tokens of real text per second, two threads each, every peer at its best batch; processor time;
and how far the vectors are from sentence-transformers'.

$CAPSTAN_TEST_ENCODER: a folder of all-MiniLM-L6-v2 (data/model/all-minilm-l6-v2 after a pull);
$CAPSTAN_BENCH_TEXTS: a text file to cut chunks from (by default the repository's documentation).
$CAPSTAN_BENCH_PYTHON: a Python with onnxruntime, tokenizers, torch, sentence-transformers and onnx (6 GB);
without it this figure is left out. $CAPSTAN_BENCH_ENCODER_TEXTS: how many chunks (256)."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from _common import FOLDER, ROOT, Report

MODEL = os.environ.get("CAPSTAN_TEST_ENCODER", str(ROOT / "data/model/all-minilm-l6-v2"))
PYTHON = os.environ.get("CAPSTAN_BENCH_PYTHON", sys.executable)
COUNT = int(os.environ.get("CAPSTAN_BENCH_ENCODER_TEXTS", "256"))
THREADS, SECONDS, WORDS = 2, float(os.environ.get("CAPSTAN_BENCH_SECONDS", "10")), 88

# Runs under $CAPSTAN_BENCH_PYTHON: exports the model, takes the best of some batches, prints JSON.
PEERS = r'''
import json, os, sys, time
import numpy as np
model, texts_file, folder, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
texts = open(texts_file).read().split("\n")[:-1]
order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
import torch
torch.set_num_threads(2)
from sentence_transformers import SentenceTransformer
st = SentenceTransformer(model, device="cpu")
reference = st.encode(texts, normalize_embeddings=True)
np.save(folder + "/reference.npy", reference)

def measure(encode):
    best = None
    for batch in (8, 32):
        encode(batch)
        start, cpu, rounds = time.monotonic(), time.process_time(), 0
        while rounds == 0 or time.monotonic() - start < seconds / 2:
            encode(batch)
            rounds += 1
        done = rounds * len(texts)
        figure = dict(rate=done / (time.monotonic() - start), cpu_s=(time.process_time() - cpu) / done, batch=batch)
        best = figure if best is None or figure["rate"] > best["rate"] else best
    return best

out = dict(st=measure(lambda batch: st.encode(texts, batch_size=batch, normalize_embeddings=True)))
from transformers import AutoModel
bert = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
class Last(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = bert
    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
ones = torch.ones(2, 16, dtype=torch.long)
names = ["input_ids", "attention_mask", "token_type_ids"]
torch.onnx.export(Last(), (ones, ones, ones * 0), folder + "/f32.onnx", dynamo=False, input_names=names,
                  output_names=["h"], dynamic_axes={n: {0: "b", 1: "s"} for n in names + ["h"]}, opset_version=17)
from onnxruntime.quantization import QuantType, quantize_dynamic
quantize_dynamic(folder + "/f32.onnx", folder + "/int8.onnx", weight_type=QuantType.QInt8)
import onnxruntime
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
tokenizer = BertWordPieceTokenizer(model + "/vocab.txt")
tokenizer.enable_truncation(256)
tokenizer.enable_padding()
def onnx(name):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(folder + "/" + name + ".onnx", options, ["CPUExecutionProvider"])
    vectors = np.zeros((len(texts), 384), np.float32)
    def encode(batch):
        for at in range(0, len(texts), batch):  # by length, so that little is padded
            part = order[at:at + batch]
            tokens = tokenizer.encode_batch([texts[i] for i in part])
            ids = np.array([t.ids for t in tokens], dtype=np.int64)
            mask = np.array([t.attention_mask for t in tokens], dtype=np.int64)
            h = session.run(None, dict(input_ids=ids, attention_mask=mask, token_type_ids=ids * 0))[0]
            v = (h * mask[:, :, None]).sum(1)
            vectors[part] = v / np.linalg.norm(v, axis=1, keepdims=True)
    figure = measure(encode)
    cosines = (vectors * reference).sum(1)
    return dict(figure, mean=float(cosines.mean()), least=float(cosines.min()))
out["onnx"], out["onnx_int8"] = onnx("f32"), onnx("int8")
out["versions"] = dict(onnxruntime=onnxruntime.__version__, torch=torch.__version__)
print(json.dumps(out))
'''
COMPARE = r'''
import sys, numpy as np
a = np.load(sys.argv[1]); b = np.fromfile(sys.argv[2], dtype="f4").reshape(a.shape)
c = (a * b).sum(1); print(c.mean(), c.min())
'''


def chunks():
    """Parts of WORDS words or somewhat more, ending with a sentence where one ends in time."""
    given = os.environ.get("CAPSTAN_BENCH_TEXTS")
    files = [pathlib.Path(given)] if given else sorted((ROOT / "docs").rglob("*.md"))
    out, words = [], []
    for word in re.sub(r"[|`#*_]+", " ", " ".join(f.read_text(errors="replace") for f in files)).split():
        words.append(word)
        if len(words) >= WORDS and (word.endswith(".") or len(words) > WORDS + 30):
            out.append(" ".join(words))
            words = []
    return (out * (COUNT // max(len(out), 1) + 1))[:COUNT]


def ours(folder, texts, precision, kernels=None):
    env = {**os.environ, **({"CAPSTAN_ENCODER_KERNELS": kernels} if kernels else {})}
    out = subprocess.run([ROOT / "build/bench/encoder_run", MODEL, precision, texts, str(THREADS), str(SECONDS),
                          folder + "/ours.f32"], check=True, capture_output=True, text=True, env=env).stdout
    rate, cpu = re.match(r"([\d.]+) texts/s ([\d.]+)", out).groups()
    cosines = subprocess.run([PYTHON, "-c", COMPARE, folder + "/reference.npy", folder + "/ours.f32"], check=True,
                             capture_output=True, text=True).stdout.split()
    return dict(rate=float(rate), cpu_s=float(cpu), mean=float(cosines[0]), least=float(cosines[1]))


def main():
    if not pathlib.Path(MODEL, "model.safetensors").exists():
        sys.exit("no model: `capstan model pull all-minilm-l6-v2`, or set CAPSTAN_TEST_ENCODER")
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    report = Report("encoder")
    with tempfile.TemporaryDirectory() as folder:
        texts = folder + "/texts"
        pathlib.Path(texts).write_text("\n".join(chunks()) + "\n")
        run = subprocess.run([PYTHON, "-c", PEERS, MODEL, texts, folder, str(SECONDS)], capture_output=True, text=True,
                             env={**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"})
        if run.returncode:
            sys.exit("the peers are not installed (see this file's head):\n" + run.stderr[-2000:])
        peers = json.loads(run.stdout.splitlines()[-1])
        for name, peer in peers.items():
            print(name, peer)
        cases = [("f32", None), ("int8", None), ("bf16", None)] if "avx512_vnni" in flags else [("f32", None), ("int8", None)]
        if "avx512f" in flags:  # machines of both kinds are common
            cases += [("f32", "avx2"), ("int8", "avx2")]
        figures = {}
        for precision, kernels in cases:
            name = f"encoder_{precision}" + (f"_{kernels}" if kernels else "")
            figure = figures[name] = ours(folder, texts, precision, kernels)
            print(name, figure)
            for peer, label in (("onnx", "ONNX Runtime f32"), ("onnx_int8", "ONNX Runtime int8"), ("st", "sentence-transformers")):
                report.add(name, figure["rate"], "chunks/s", label, peers[peer]["rate"])
                report.add(name + "_cpu", 1 / figure["cpu_s"], "chunks/cpu-s", label, 1 / peers[peer]["cpu_s"])
        report.write(threads=THREADS, texts=COUNT, peers=peers, ours=figures, time=time.time(), folder=str(FOLDER))


main()
