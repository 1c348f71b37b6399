"""Makes the sample and hostile documents of this folder, with the standard library only.

Run it after a change here; the files are kept in the tree, so that tests need no Python.
"""
import pathlib
import zipfile

FOLDER = pathlib.Path(__file__).parent


def write(name, data):
    (FOLDER / name).write_bytes(data.encode() if isinstance(data, str) else data)


def pdf(pages, title=""):
    """pages: lists of (x, y from the bottom, font size, text)."""
    objects = []

    def add(body):
        objects.append(body)
        return len(objects)

    font = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    kids, parent = [], len(objects) + 1 + 2 * len(pages)
    for page in pages:
        stream = b"BT\n"
        for x, y, size, text in page:
            escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)").encode("latin-1")
            stream += b"/F1 %d Tf 1 0 0 1 %d %d Tm (%s) Tj\n" % (size, x, y, escaped)
        stream += b"ET"
        content = add(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        kids.append(add(b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
                        b"/Resources << /Font << /F1 %d 0 R >> >> >>" % (parent, content, font)))
    add(b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids)))
    root = add(b"<< /Type /Catalog /Pages %d 0 R >>" % parent)
    info = add(b"<< /Title (%s) >>" % title.encode("latin-1"))
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"trailer << /Size %d /Root %d 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, root, info, table)


def archive(name, parts, stored=()):
    """A zip with fixed times, so that it comes out the same each time."""
    with zipfile.ZipFile(FOLDER / name, "w", zipfile.ZIP_DEFLATED) as out:
        for path, data in parts:
            entry = zipfile.ZipInfo(path, (2026, 11, 23, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_STORED if path in stored else zipfile.ZIP_DEFLATED
            out.writestr(entry, data)


# ---- documents as people have them ----

write("guide.txt", "First paragraph,\nin two lines.\n\n\n  Second paragraph.\r\n\r\nThird.\n")
write("windows.txt", "Caf\u00e9 \u20ac5 \u201cquoted\u201d\n".encode("cp1252"))
write("utf16.txt", "Gr\u00fc\u00dfe \U0001f600\n\nZwei\n".encode("utf-16"))
write("guide.md", """---
title: "The guide"
---
# Install

Take the **package** with `apt`, see [here](http://x.test/).

## Debian

- first &amp; foremost
- second
  - nested

1. one

> quoted

| Name | Value |
|------|-------|
| a    | 1     |
| b    | 2     |

```sh
apt-get install x
  indented
```

<p>HTML <em>block</em></p>
""")
write("page.html", """<!doctype html><html lang="de"><head><title>Die Seite</title>
<style>p { color: red }</style><script>var x = '<p>no</p>';</script></head><body class="has-sidebar">
<header><a href=/>Home</a></header>
<nav><ul><li><a href=a>Menu one</a><li><a href=b>Menu two</a></ul></nav>
<div class="site-footer"><p>Imprint and so on</p></div>
<div class="content-with-sidebar"><h1>Heading &amp; more</h1>
<p>A paragraph with   <b>bold</b> text,
broken lines and <a href=x>a link</a>.</p><p hidden>invisible</p>
<h2>Lists</h2><ul><li>one<li>two<ul><li>deep</ul></ul>
<table><thead><tr><th>Name<th>Value</thead><tr><td>a<td>1</tr><tr><td><p>b</p><td>2</table>
<pre>code
  stays</pre><blockquote>quoted words</blockquote>
<table><tr><td><h3>In a layout table</h3><p>as text</table>
<p>Enough text to be taken for the main content of this page, which needs two hundred bytes or so
before links that stand in a row are dropped as a menu, as the next three are.</p>
<div><p><a href=1>Link number one</a></p><p><a href=2>Link number two</a></p><p><a href=3>Link number
three</a></p></div></div></body></html>
""")
write("latin.html", ("<html><head><meta charset=iso-8859-2></head><body><p>P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd"
                     "</p></body></html>").encode("iso-8859-2"))
head = [(72, 800, 8, "Annual report of the company")]
write("report.pdf", pdf([
    head + [(72, 700, 24, "Introduction"),
            (72, 650, 11, "The first paragraph runs over two lines and has a hyphen-"),
            (72, 637, 11, "ated word in it, as long texts do."),
            (72, 590, 11, "A second paragraph (with brackets).")],
    head + [(72, 700, 16, "Results"), (72, 650, 11, "Numbers went up.")],
    head + [(72, 650, 11, "More of the same text on the third page.")],
    head + [(72, 650, 11, "And the last page ends it.")],
], "The report"))
write("scan.pdf", pdf([[]]))

# ---- hostile ones ----

write("broken.pdf", pdf([[(72, 700, 12, "x")]])[:150])
write("nested.html", "<div>" * 50000 + "deep" + "<b><i>" * 3000)
