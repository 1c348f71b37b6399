#!/usr/bin/env python3
"""Makes what the encoder's tests compare with: two small checkpoints with random weights (a sentence
encoder in f32, a reranker in bf16), and what sentence-transformers and tokenizers make of some texts.

    make.py VOCABULARY [MODEL_FOLDER]

VOCABULARY is a vocab.txt of BERT's to take pieces from; with the folder of all-MiniLM-L6-v2 its vectors
are made, too. Needs sentence-transformers 6.2, tokenizers 0.23 (PyPI; with torch 6 GB). Run by hand."""
import json
import pathlib
import shutil
import sys

import numpy
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers import models as modules
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = [
    "", " ", "hello", "Hello, World!", "The quick brown fox jumps over the lazy dog.",
    "naïve café Ünïcödé ÀÉÎÕÜ ñ Ç ß ø", "e\u0301 a\u0308 \u0301alone", "東京は日本の首都です", "中文text混合english", "한국어 문장",
    "emoji 🙂👍🏽 🏳️‍🌈 end", "tabs\tand\nnew\r\nlines\u00a0nbsp\u3000wide\u2009thin", "zero\u200bwidth\u00adsoft\ufeffbom",
    "control\x00\x01\x7fchars\x85here\ufffd", "x" * 100, "x" * 101, "ab" * 200, "don't stop-it (now) [really] {yes} <no>",
    "$100.50 + 20% = £30 €40 ¥50 ^ ` | ~", "[CLS] in a text [SEP] and [MASK] [mask] [UNK]", "ΑΒΓ ΣΊΣΥΦΟΣ ς", "ПРИВЕТ мир Ёлка й",
    "İstanbul I ı Ǆ ǅ ﬁ ﬀ Ⅷ ⅷ ㎏ ①", "العَرَبِيَّة مرحبا", "हिन्दी में पाठ", "ไทย ภาษา", "a\u0327\u0301\u0300b", "¿Qué? «oui» „ja“ …—–‐",
    "٠١٢ ०१२ 0123456789", "\U0001d400\U0001d7d8 math", "\U00020000\U0002f800 rare", "豈更車", "Ω Å K", "\u1e9e\u1e9b\u0323 \ufb1d",
    "unaffable unbelievably internationalization", "http://example.org/a_b?c=d&e=f#g", "snake_case camelCase kebab-case",
    "line one\n\n\nline two", "\u0600\u061c\u06dd formats", "\ue000private\U000f0000use", "\U0001F970\U0001FAE0 new emoji", "..." * 30,
]
SENTENCES = [text for text in TEXTS if 3 < len(text) < 60][:24]
PAIRS = [("what is a dog", text) for text in SENTENCES[:8]] + [("東京", "the capital of japan"), ("x", "x")]


def vocabulary(path):
    """Single characters, and the pieces that the texts use."""
    pieces = pathlib.Path(path).read_text().splitlines()
    full = BertWordPieceTokenizer(path)
    used = {token for text in TEXTS + [query for query, _ in PAIRS] for token in full.encode(text).tokens}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kept = [p for p in pieces if p not in special and (p in used or len(p.removeprefix("##")) == 1 and ord(p[-1]) < 0x500)]
    return special + kept


def randomize(model):
    generator = torch.Generator().manual_seed(7)
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if "LayerNorm.weight" in name:
            tensor.data = 1 + 0.3 * noise
        else:
            tensor.data = 0.25 * noise


def config(words, **more):
    return BertConfig(vocab_size=len(words), hidden_size=40, num_hidden_layers=3, num_attention_heads=2,
                      intermediate_size=88, max_position_embeddings=64, type_vocab_size=2, **more)


def write_tokenizer(folder, words):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=True, model_max_length=48)
    tokenizer.save_pretrained(folder)


def numbers(array):
    return [[float(f"{x:.7g}") for x in row] for row in numpy.asarray(array, dtype=numpy.float64)]


def encoder(words):
    folder = HERE / "tiny"
    write_tokenizer(folder, words)
    model = BertModel(config(words), add_pooling_layer=False)
    randomize(model)
    model.save_pretrained(folder)
    transformer = modules.Transformer(str(folder), max_seq_length=48)
    st = SentenceTransformer(modules=[transformer, modules.Pooling(40, pooling_mode="mean"), modules.Normalize()], device="cpu")
    return numbers(st.encode(SENTENCES, normalize_embeddings=True))


def reranker(words):
    folder = HERE / "tiny-reranker"
    write_tokenizer(folder, words)
    model = BertForSequenceClassification(config(words, num_labels=1))
    randomize(model)
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    cross = CrossEncoder(str(folder), device="cpu", max_length=48, model_kwargs={"torch_dtype": torch.float32})
    return [float(f"{x:.7g}") for x in cross.predict(PAIRS)]


def clean(folder):
    """Only what the program reads."""
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "1_Pooling"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main():
    words = vocabulary(sys.argv[1])
    tokenizer = BertWordPieceTokenizer(dict((w, i) for i, w in enumerate(words)))
    tokens = [dict(text=text, ids=tokenizer.encode(text, add_special_tokens=False).ids) for text in TEXTS]
    cased = BertWordPieceTokenizer(dict((w, i) for i, w in enumerate(words)), lowercase=False, strip_accents=False)
    expected = dict(tokens=tokens,
                    cased=[dict(text=text, ids=cased.encode(text, add_special_tokens=False).ids) for text in TEXTS],
                    sentences=SENTENCES, vectors=encoder(words),
                    pairs=PAIRS, scores=reranker(words))
    for name in ("tiny", "tiny-reranker"):
        clean(HERE / name)
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=0) + "\n")
    if len(sys.argv) > 2:
        st = SentenceTransformer(sys.argv[2], device="cpu")
        full = Tokenizer.from_file(sys.argv[2] + "/tokenizer.json")
        full.no_truncation()
        full.no_padding()
        (HERE / "minilm.json").write_text(json.dumps(dict(
            sentences=SENTENCES[:8], vectors=numbers(st.encode(SENTENCES[:8], normalize_embeddings=True)),
            tokens=[dict(text=text, ids=full.encode(text, add_special_tokens=False).ids) for text in TEXTS]),
            ensure_ascii=False, indent=0) + "\n")


main()
