"""Documents to chunks: megabytes a second on one core, beside what Python users take for the same step.

Text is made from the licences that each Debian carries, the pages and the Word document from the same text. Times
are processor time; `extract_run` measures ours within one process and, as "whole", with the confined child.
"""
import html
import io
import json
import os
import pathlib
import subprocess
import sys
import time
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from _common import BINARY, FOLDER, Report, python_with

WHERE = FOLDER / "extract"
PACKAGES = ["trafilatura==2.3.1", "python-docx==1.2.0", "langchain-text-splitters==1.1.3", "lxml==6.1.3",
            "lxml_html_clean==0.4.6"]
LICENCES = pathlib.Path("/usr/share/common-licenses")
TEXT_BYTES, PAGE_BYTES, WORD_BYTES = 20_000_000, 300_000, 1_000_000


def own_python():
    """Runs this file again in an environment that has the peers."""
    python = python_with("extract", *PACKAGES)
    os.execve(python, [str(python), *sys.argv], {**os.environ, "EXTRACT_INNER": "1"})


def source(n):
    text = "".join((LICENCES / name).read_text() for name in ("GPL-3", "LGPL-2.1", "Apache-2.0"))
    return (text * (n // len(text) + 1))[:n]


def paragraphs(n):
    return [" ".join(part.split()) for part in source(n).split("\n\n") if part.strip()]


def make_page():
    """A page as sites have it: a third of its bytes is not content."""
    menu = "".join(f'<li class="nav-item"><a href="/page/{i}">Entry number {i}</a></li>' for i in range(60))
    body = "".join(f"<h2>Part {i}</h2>" if i % 12 == 0 else f"<p>{html.escape(text)}</p>\n"
                   for i, text in enumerate(paragraphs(PAGE_BYTES)))
    script = "<script>" + "var x = {a: 1, b: [1, 2, 3]}; " * 1000 + "</script>"
    return (f"<!doctype html><html lang=en><head><title>Licences</title>{script}</head><body><nav><ul>{menu}</ul></nav>"
            f'<main><article>{body}</article></main><footer class="site-footer"><p>Imprint</p></footer></body></html>')


def make_word(path):
    import docx
    document = docx.Document()
    for i, text in enumerate(paragraphs(WORD_BYTES)):
        if i % 12 == 0:
            document.add_heading(f"Part {i}", 2)
        document.add_paragraph(text)
    document.save(path)
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo("word/document.xml").file_size


def cpu_s(call, rounds):
    call()
    start = time.process_time()
    for _ in range(rounds):
        call()
    return (time.process_time() - start) / rounds


def ours(path, rounds):
    program = pathlib.Path(BINARY).parent / "bench/extract_run"
    return json.loads(subprocess.run([program, path, str(rounds)], capture_output=True, check=True).stdout)


def main():
    import docx
    import trafilatura
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=100)
    text, page, word = WHERE / "licences.txt", WHERE / "licences.html", WHERE / "licences.docx"
    text.write_text(source(TEXT_BYTES))
    page.write_text(make_page())
    xml_bytes = make_word(word)
    small = text.read_text()[:TEXT_BYTES // 10]

    def word_text():
        return "\n".join(part.text for part in docx.Document(io.BytesIO(word.read_bytes())).paragraphs)

    report = Report("extract")
    whole = {}
    cases = [
        ("text", text, 5, TEXT_BYTES, "langchain RecursiveCharacterTextSplitter",
         len(small) / cpu_s(lambda: splitter.split_text(small), 2), ">= 50"),
        ("html", page, 20, page.stat().st_size, "trafilatura + langchain",
         page.stat().st_size / cpu_s(lambda: splitter.split_text(trafilatura.extract(page.read_text())), 2), None),
        ("docx", word, 10, xml_bytes, "python-docx + langchain",
         xml_bytes / cpu_s(lambda: splitter.split_text(word_text()), 2), None),
    ]
    for name, path, rounds, size, yardstick, theirs, goal in cases:
        answer = ours(path, rounds)
        report.add(f"extract_{name}", size / (answer["read_s"] + answer["chunk_s"]) / 1e6, "MB/s", yardstick, theirs / 1e6,
                   goal)
        whole[name] = dict(mb_per_s=size / (answer["whole_s"] + answer["chunk_s"]) / 1e6, chunks=answer["chunks"],
                           text_bytes=answer["text_bytes"], file_bytes=path.stat().st_size)
        print(f"  with the confined child {whole[name]['mb_per_s']:.1f} MB/s; {answer['chunks']} chunks of "
              f"{answer['text_bytes']} bytes")
    note = WHERE / "note.txt"
    note.write_text(source(2000))
    child_ms = ours(note, 1)["whole_s"] * 1000
    print(f"  one small file in its own confined child: {child_ms:.2f} ms of processor time")
    report.write(whole=whole, small_file_ms=child_ms, peers=PACKAGES)


if __name__ == "__main__":
    WHERE.mkdir(parents=True, exist_ok=True)
    if os.environ.get("EXTRACT_INNER") != "1":
        own_python()
    main()
