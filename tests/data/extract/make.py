"""Makes the sample and hostile documents of this folder, with the standard library only (and pdftoppm for the scan).

Run it after a change here; the files are kept in the tree, so that tests need no Python.
"""
import pathlib
import subprocess
import zipfile
import zlib

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

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
RELATIONS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">%s</Relationships>'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CORE = ('<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The title</dc:title>'
        '<dc:language>en-GB</dc:language></cp:coreProperties>')


def relation(number, kind, target):
    return f'<Relationship Id="rId{number}" Type="{OFFICE}/{kind}" Target="{target}"/>'


def docx(body):
    return [
        ("[Content_Types].xml", "<Types/>"),
        ("word/document.xml", f'<?xml version="1.0"?><w:document {W}><w:body>{body}</w:body></w:document>'),
        ("word/styles.xml", f'<w:styles {W}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
                            '<w:style w:styleId="Own"><w:name w:val="Own"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr>'
                            '</w:style></w:styles>'),
        ("word/_rels/document.xml.rels", RELATIONS % relation(1, "footnotes", "footnotes.xml")),
        ("word/footnotes.xml", f"<w:footnotes {W}><w:footnote><w:p><w:r><w:t>A note.</w:t></w:r></w:p></w:footnote>"
                               "</w:footnotes>"),
        ("docProps/core.xml", CORE),
    ]


def paragraph(text, properties=""):
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def cell(text):
    return f"<w:tc>{paragraph(text)}</w:tc>"


archive("letter.docx", docx(
    paragraph("First", '<w:pStyle w:val="berschrift1"/>') +
    '<w:p><w:r><w:t xml:space="preserve">One &amp; </w:t></w:r><w:r><w:t>two</w:t><w:tab/><w:t>three</w:t></w:r>'
    "<w:del><w:r><w:t>gone</w:t></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>" +
    paragraph("Second", '<w:pStyle w:val="Own"/>') +
    paragraph("item", '<w:numPr><w:ilvl w:val="1"/><w:numId w:val="3"/></w:numPr>') +
    f'<w:tbl><w:tr><w:trPr><w:tblHeader/></w:trPr>{cell("Name")}{cell("Value")}</w:tr>'
    f'<w:tr>{cell("a")}<w:tc>{paragraph("1")}{paragraph("2")}</w:tc></w:tr></w:tbl>' +
    paragraph("End.")))

A = ('xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
     f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" xmlns:r="{OFFICE}"')


def shape(kind, *texts):
    inner = "".join(f'<a:p><a:pPr lvl="{level}"/><a:r><a:t>{text}</a:t></a:r></a:p>' if level else
                    f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>" for level, text in texts)
    return (f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:spPr><a:xfrm>'
            '<a:off x="127000" y="254000"/><a:ext cx="1270000" cy="635000"/></a:xfrm></p:spPr>'
            f"<p:txBody>{inner}</p:txBody></p:sp>")


def slide(*shapes):
    return f'<p:sld {A}><p:cSld><p:spTree>{"".join(shapes)}</p:spTree></p:cSld></p:sld>'


archive("talk.pptx", [
    ("[Content_Types].xml", "<Types/>"),
    ("ppt/presentation.xml", f'<p:presentation {A}><p:sldIdLst><p:sldId id="257" r:id="rId2"/>'
                             '<p:sldId id="256" r:id="rId1"/></p:sldIdLst><p:sldSz cx="9144000" cy="6858000"/>'
                             "</p:presentation>"),
    ("ppt/_rels/presentation.xml.rels", RELATIONS % (relation(1, "slide", "slides/slide1.xml") +
                                                     relation(2, "slide", "slides/slide2.xml"))),
    ("ppt/slides/slide1.xml", slide(shape("title", (0, "Second slide")), shape("sldNum", (0, "2")))),
    ("ppt/slides/slide2.xml", slide(shape("ctrTitle", (0, "First slide")), shape("body", (0, "Text"), (1, "Point")))),
    ("ppt/slides/_rels/slide2.xml.rels", RELATIONS % relation(1, "notesSlide", "../notesSlides/notesSlide1.xml")),
    ("ppt/notesSlides/notesSlide1.xml", slide(shape("body", (0, "Say hello.")))),
])

S = f'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="{OFFICE}"'
archive("book.xlsx", [
    ("[Content_Types].xml", "<Types/>"),
    ("xl/workbook.xml", f'<workbook {S}><sheets><sheet name="Prices" sheetId="1" r:id="rId1"/>'
                        '<sheet name="Empty" sheetId="2" r:id="rId2"/></sheets></workbook>'),
    ("xl/_rels/workbook.xml.rels", RELATIONS % (
        relation(1, "worksheet", "worksheets/sheet1.xml") + relation(2, "worksheet", "/xl/worksheets/sheet2.xml") +
        relation(3, "sharedStrings", "sharedStrings.xml") + relation(4, "styles", "styles.xml"))),
    ("xl/sharedStrings.xml", f"<sst {S}><si><t>Name</t></si><si><r><t>Da</t></r><r><t>te</t></r></si></sst>"),
    ("xl/styles.xml", f'<styleSheet {S}><numFmts><numFmt numFmtId="170" formatCode="[$-407]d. mmmm yyyy"/>'
                      '</numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="170"/></cellXfs>'
                      "</styleSheet>"),
    ("xl/worksheets/sheet1.xml", f'<worksheet {S}><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c>'
                                 '<c r="B1" t="s"><v>1</v></c></row><row r="3"><c r="A3" t="inlineStr"><is><t>x</t>'
                                 '</is></c><c r="B3" s="1"><v>45000</v></c><c r="D3"><v>1.5</v></c></row>'
                                 '<row r="4"><c r="A4" t="b"><v>1</v></c><c r="B4" s="2"><v>45000.5</v></c></row>'
                                 "</sheetData></worksheet>"),
    ("xl/worksheets/sheet2.xml", f"<worksheet {S}><sheetData/></worksheet>"),
])

T = ('xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
     'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
     'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/"')


def odt_row(*texts):
    cells = "".join(f"<table:table-cell><text:p>{text}</text:p></table:table-cell>" for text in texts)
    return f"<table:table-row>{cells}</table:table-row>"


archive("text.odt", [
    ("mimetype", "application/vnd.oasis.opendocument.text"),
    ("content.xml", f'<office:document-content {T}><office:body><office:text>'
                    '<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>'
                    '<text:h text:outline-level="2">Head</text:h><text:p>a<text:s text:c="2"/>b'
                    '<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>note</text:p>'
                    '</text:note-body></text:note></text:p><text:list><text:list-item><text:p>item</text:p>'
                    f'</text:list-item></text:list><table:table><table:table-header-rows>{odt_row("H1", "H2")}'
                    f'</table:table-header-rows>{odt_row("1", "2")}</table:table></office:text></office:body>'
                    '</office:document-content>'),
    ("meta.xml", f"<office:document-meta {T}><office:meta><dc:title>ODT</dc:title></office:meta></office:document-meta>"),
], stored=("mimetype",))

archive("novel.epub", [
    ("mimetype", "application/epub+zip"),
    ("META-INF/container.xml", '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'),
    ("OEBPS/book.opf", '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>A novel</dc:title>'
                       '<dc:language>fr</dc:language></metadata><manifest><item id="a" href="text/one%201.xhtml"/>'
                       '<item id="b" href="two.xhtml"/><item id="n" href="nav.xhtml"/></manifest><spine>'
                       '<itemref idref="b"/><itemref idref="a"/><itemref idref="n" linear="no"/></spine></package>'),
    ("OEBPS/text/one 1.xhtml", "<html><head><title>t</title></head><body><h1>Two</h1><p>caf&eacute;</p></body></html>"),
    ("OEBPS/two.xhtml", "<html><body><h1>One</h1><p>words</p><ul><li><a href=x>a</a></li></ul></body></html>"),
    ("OEBPS/nav.xhtml", "<html><body>contents</body></html>"),
], stored=("mimetype",))

write("people.csv", 'Name;Note;Age\n"Ann ""A"" B";"two\nlines";3\n\nBob;;4\n')
write("data.json", '{"title": "T", "list": [{"a": 1.50, "b": null}, {"a": "x"}], "deep": {"k": {"l": true}}}')
write("lines.jsonl", '{"q": "one"}\n\n{"q": "two", "n": [1, 2]}\n')
write("mail.eml", """Received: from x\r
From: =?utf-8?q?J=C3=B6rg?= <j@x.test>\r
To: a@x.test,\r
 b@x.test\r
Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?utf-8?B?IHVuZCBtZWhy?=\r
Date: Mon, 23 Nov 2026 10:00:00 +0000\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary="outer"\r
\r
preamble\r
--outer\r
Content-Type: multipart/alternative; boundary=inner\r
\r
--inner\r
Content-Type: text/plain; charset=iso-8859-2\r
Content-Transfer-Encoding: quoted-printable\r
\r
P=F8=EDli=B9 long=\r
 line.\r
\r
Second.\r
--inner\r
Content-Type: text/html\r
\r
<p>html</p>\r
--inner--\r
--outer\r
Content-Type: text/html; charset=utf-8\r
Content-Transfer-Encoding: base64\r
\r
PGgyPkhlYWQ8L2gyPjxwPmI8L3A+\r
--outer\r
Content-Type: application/pdf; name="plan.pdf"\r
Content-Disposition: attachment; filename="plan.pdf"\r
Content-Transfer-Encoding: base64\r
\r
AAAA\r
--outer\r
Content-Type: message/rfc822\r
\r
Subject: Inner\r
From: c@x.test\r
\r
Hello inside.\r
--outer--\r
""")
write("program.py", '''"""Module text."""
import os


# Adds.
@cached
def add(a, b):
    return a + b


class Stack(Base):
    """A stack."""

    def push(self, x):
        self.items.append(x)

    def pop(self):
        return self.items.pop()
''')
write("program.cpp", """/* Head. */
#include <stdio.h>

static int twice(int x)
{
    return 2 * x;
}

struct point {
    int x;
};

int main(void)
{
    return twice(1);
}
""")
write("film.srt", "1\n00:00:01,000 --> 00:00:03,500\n<i>Hello</i>\nthere.\n\n2\n00:00:04,000 --> 00:00:05,000\nAgain.\n\n"
      "3\n00:01:10,000 --> 00:01:12,000\nLater.\n")
write("film.vtt", "WEBVTT\n\nNOTE not this\n\nintro\n00:01.000 --> 00:02.000 align:start\n<v Ann>Hi <b>you</b>\n")



def scan(source):
    """The first page of a PDF as a picture in a PDF, as a scanner makes it."""
    drawn = subprocess.run(["pdftoppm", "-f", "1", "-l", "1", "-r", "100", "-gray", "-"], input=source,
                           capture_output=True, check=True).stdout
    _, size, _, pixels = drawn.split(b"\n", 3)
    width, height = map(int, size.split())
    packed = zlib.compress(pixels, 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /XObject << /I 5 0 R >> >> >>",
        b"<< /Length 30 >>\nstream\nq 595 0 0 842 0 0 cm /I Do Q   \nendstream",
        b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8 "
        b"/Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (width, height, len(packed), packed)]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % table


write("picture.pdf", scan((FOLDER / "report.pdf").read_bytes()))

# ---- hostile ones ----

write("broken.pdf", pdf([[(72, 700, 12, "x")]])[:150])
write("nested.html", "<div>" * 20000 + "deep" + "<b><i>" * 2000)
archive("bomb.docx", docx("")[:1] + [("word/document.xml", b"<" + b" " * (40 << 20))])
archive("climbing.docx", [("../../etc/passwd", "x")] + docx(paragraph("Still read.")))
archive("deep.docx", docx("<w:x>" * 5000 + "</w:x>" * 5000))
archive("laughs.docx", docx("")[:1] + [("word/document.xml", """<!DOCTYPE d [<!ENTITY a "ha">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><d>&c;</d>""")])
archive("outside.docx", docx("")[:1] + [("word/document.xml", """<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<d xmlns:w="w"><w:p><w:r><w:t>&x;</w:t></w:r></w:p></d>""")])


def poisoned(name, source, part, data):
    """The good archive with one part that is hostile; its type is still seen."""
    with zipfile.ZipFile(FOLDER / source) as good:
        archive(name, [(path, data if path == part else good.read(path)) for path in good.namelist()])


for suffix, source, part in (("pptx", "talk.pptx", "ppt/slides/slide1.xml"), ("xlsx", "book.xlsx", "xl/worksheets/sheet1.xml"),
                             ("odt", "text.odt", "content.xml"), ("epub", "novel.epub", "OEBPS/book.opf")):
    poisoned(f"bomb.{suffix}", source, part, b"<" + b" " * (40 << 20))
    poisoned(f"deep.{suffix}", source, part, "<x>" * 5000 + "</x>" * 5000)
    poisoned(f"laughs.{suffix}", source, part, """<!DOCTYPE d [<!ENTITY a "ha">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><d>&c;</d>""")
whole = (FOLDER / "letter.docx").read_bytes()
write("cut.docx", whole[:len(whole) // 2])
write("flipped.docx", whole[:300] + bytes(255 - b for b in whole[300:320]) + whole[320:])
write("empty.docx", "")
write("notzip.xlsx", "plain words under a workbook's name")
write("parts.eml", "Content-Type: multipart/mixed; boundary=a\n\n" +
      "".join(f"--a{'b' * i}\nContent-Type: multipart/mixed; boundary=a{'b' * (i + 1)}\n\n" for i in range(40)))
write("deep.json", "[" * 3000 + "]" * 3000)
write("binary.txt", bytes(range(256)) * 20)
