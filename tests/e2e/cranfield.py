"""The Cranfield collection as documents, questions and judgements for `capstan knowledge`.

Usage: cranfield.py FOLDER OUTPUT. FOLDER holds cran.all.1400, cran.qry and cranqrel; OUTPUT gets docs/N.txt,
queries.tsv and qrels.txt. Queries are numbered by their position, as the judgements do; a document is its title
and its text; grade -1 stays as it is and counts as not relevant.
"""
import pathlib
import re
import sys


def records(text):
    for part in re.split(r"^\.I ", text, flags=re.M)[1:]:
        number, _, rest = part.partition("\n")
        fields = dict((name, value.strip()) for name, value in
                      re.findall(r"^\.([TABW])\n(.*?)(?=^\.[TABW]\n|\Z)", rest, flags=re.M | re.S))
        yield number.strip(), fields


def convert(folder, output):
    folder, output = pathlib.Path(folder), pathlib.Path(output)
    (output / "docs").mkdir(parents=True, exist_ok=True)
    for number, fields in records((folder / "cran.all.1400").read_text(errors="replace")):
        text = fields.get("T", "") + "\n\n" + fields.get("W", "")
        (output / "docs" / f"{number}.txt").write_text(text)
    queries = [fields["W"] for _, fields in records((folder / "cran.qry").read_text(errors="replace"))]
    (output / "queries.tsv").write_text(
        "".join(f"{i}\t{' '.join(text.split())}\n" for i, text in enumerate(queries, 1)))
    judged = [line.split() for line in (folder / "cranqrel").read_text().splitlines() if line.strip()]
    (output / "qrels.txt").write_text("".join(f"{q} 0 {d}.txt {g}\n" for q, d, g in judged))


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2])
