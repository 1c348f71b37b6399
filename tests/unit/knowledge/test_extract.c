/* Documents through the whole way: detection, the confined child, the stream, its checks. What was
 * found is printed one block a line and compared. Samples: tests/data/extract/make.py. */
#include "io/sandbox.h"
#include "knowledge/extract.h"
#include "test.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Processor time of one hostile file: the children's own bound keeps it, not a clock here. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOSTILE_CPU_S 300
#else
#define HOSTILE_CPU_S 20
#endif

static struct arena arena;
static struct extracted document;
static struct err err;

static enum rc extract(const char *name, const struct extract_limits *limits)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/../data/extract/%s", getenv("TEST_FOLDER"), name);
    arena_reset(&arena);
    err = (struct err){0};
    return extract_file(path, str_from(name), STR_EMPTY, limits, &arena, &document, &err);
}

/* "H1 Title|T text|": kind, level, page as @n, text; newlines shown as ¶. */
static const char *dump(void)
{
    static char out[20000];
    static const char *const kinds[] = {"T", "H", "L", "R", "C", "Q"};
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < document.block_count && n < sizeof(out) - 1000; i++) {
        const struct extract_block *block = &document.blocks[i];
        n += (size_t)sprintf(out + n, "%s", kinds[block->kind]);
        if (block->level)
            n += (size_t)sprintf(out + n, "%u", block->level);
        if (block->page)
            n += (size_t)sprintf(out + n, "@%u", block->page);
        out[n++] = ' ';
        for (size_t k = block->begin; k < block->end && k < block->begin + 500; k++) {
            if (document.text.p[k] == '\n')
                n += (size_t)sprintf(out + n, "¶");
            else
                out[n++] = document.text.p[k];
        }
        out[n++] = '|';
    }
    out[n] = 0;
    return out;
}

static void expect(const char *name, enum extract_format format, const char *blocks)
{
    enum rc rc = extract(name, NULL);
    if (rc != RC_OK)
        fail_msg("%s: %s", name, err.message);
    assert_int_equal(document.format, format);
    assert_string_equal(dump(), blocks);
}

static void expect_title(const char *title)
{
    assert_true(str_eq(document.title, str_from(title)));
}

static void texts(void **state)
{
    expect("guide.txt", EXTRACT_TEXT,
           "T First paragraph,¶in two lines.|T Second paragraph.|T Third.|");
    expect("windows.txt", EXTRACT_TEXT, "T Café €5 “quoted”|");
    expect("utf16.txt", EXTRACT_TEXT, "T Grüße 😀|T Zwei|");
}

static void markdown(void **state)
{
    expect(
        "guide.md", EXTRACT_MARKDOWN,
        "H1 Install|T Take the package with apt, see here.|H2 Debian|L1 first & foremost|L1 second|"
        "L2 nested|L1 one|Q1 quoted|R1 Name | Value|R a | 1|R b | 2|C apt-get install x¶  "
        "indented|T HTML block|");
    expect_title("The guide");
}

static void html(void **state)
{
    expect(
        "page.html", EXTRACT_HTML,
        "H1 Heading & more|T A paragraph with bold text, broken lines and a link.|H2 Lists|L1 one|"
        "L1 two|L2 deep|R1 Name | Value|R a | 1|R b | 2|C code¶  stays|Q1 quoted words|"
        "H3 In a layout table|T as text|T Enough text to be taken for the main content of this "
        "page, which needs two hundred bytes or so before links that stand in a row are dropped "
        "as a menu, as the next three are.|");
    expect_title("Die Seite");
    assert_true(str_eq(document.language, STR("de")));
    expect("latin.html", EXTRACT_HTML, "T Příliš žluťoučký|");
}

static void pdf(void **state)
{
    if (access("/usr/bin/pdftotext", X_OK) != 0)
        skip();
    expect(
        "report.pdf", EXTRACT_PDF,
        "H1@1 Introduction|T@1 The first paragraph runs over two lines and has a hyphenated word "
        "in it, as long texts do.|T@1 A second paragraph (with brackets).|H2@2 Results|"
        "T@2 Numbers went up.|T@3 More of the same text on the third page.|"
        "T@4 And the last page ends it.|");
    expect_title("The report");
    assert_int_equal(document.page_count, 4);
    assert_true(document.pages[0].width == 595 && document.pages[0].height == 842);
    const struct extract_rect *rect = &document.blocks[0].rect;
    assert_true(rect->x0 > 70 && rect->x0 < 74 && rect->y0 > 115 && rect->y1 < 150);
    assert_false(document.no_text);
}

static void office(void **state)
{
    expect("letter.docx", EXTRACT_DOCX,
           "H1 First|T One & two\tthree|H2 Second|L2 item|R1 Name | Value|R a | 1 2|T End.|T A "
           "note.|");
    expect_title("The title");
    assert_true(str_eq(document.language, STR("en-GB")));
    expect("talk.pptx", EXTRACT_PPTX,
           "H1@1 First slide|T@1 Text|L2@1 Point|T@1 Say hello.|H1@2 Second slide|");
    assert_true(document.page_count == 2 && document.pages[0].width == 720);
    const struct extract_rect *rect = &document.blocks[0].rect;
    assert_true(rect->x0 == 10 && rect->y0 == 20 && rect->x1 == 110 && rect->y1 == 70);
    expect("book.xlsx", EXTRACT_XLSX,
           "H1 Prices|R1 Name | Date|R x | 2023-03-15 |  | 1.5|R TRUE | 2023-03-15 12:00:00|H1 "
           "Empty|");
    expect("text.odt", EXTRACT_ODT, "H2 Head|T a  b|T note|L1 item|R1 H1 | H2|R 1 | 2|");
    expect_title("ODT");
    expect("novel.epub", EXTRACT_EPUB, "H1 One|T words|L1 a|H1 Two|T café|");
    expect_title("A novel");
    assert_true(str_eq(document.language, STR("fr")));
}

static void data(void **state)
{
    expect("people.csv", EXTRACT_CSV,
           "R1 Name | Note | Age|R Ann \"A\" B | two lines | 3|R Bob |  | 4|");
    expect("data.json", EXTRACT_JSON, "T title: T|T list.a: 1.50¶list.a: x|T deep.k.l: true|");
    expect("lines.jsonl", EXTRACT_JSONL, "T q: one|T q: two¶n: 1¶n: 2|");
}

static void mail(void **state)
{
    expect(
        "mail.eml", EXTRACT_EMAIL,
        "H1 Grüße und mehr|T From: Jörg <j@x.test>¶To: a@x.test, b@x.test¶Date: Mon, 23 Nov 2026 "
        "10:00:00 +0000|T Příliš long line.|T Second.|H2 Head|T b|"
        "T Attachment: plan.pdf (application/pdf)|H2 Inner|T From: c@x.test|T Hello inside.|");
    expect_title("Grüße und mehr");
}

static void code_and_subtitles(void **state)
{
    expect("program.py", EXTRACT_CODE,
           "C \"\"\"Module text.\"\"\"¶import os|C # Adds.¶@cached¶def add(a, b):¶    return a + b|"
           "H1 class Stack(Base):|C     \"\"\"A stack.\"\"\"|C     def push(self, x):¶        "
           "self.items.append(x)|C     def pop(self):¶        return self.items.pop()|");
    expect("program.cpp", EXTRACT_CODE,
           "C /* Head. */¶#include <stdio.h>|C static int twice(int x)¶{¶    return 2 * x;¶}|"
           "H1 struct point {|C     int x;¶};|C int main(void)¶{¶    return twice(1);¶}|");
    expect("film.srt", EXTRACT_SUBTITLES, "T [00:00:01] Hello there. Again.|T [00:01:10] Later.|");
    expect("film.vtt", EXTRACT_SUBTITLES, "T [00:00:01] Ann: Hi you|");
}

static void scan(void **state)
{
    if (access("/usr/bin/pdftotext", X_OK) != 0)
        skip();
    expect("scan.pdf", EXTRACT_PDF, "");
    assert_true(document.no_text);
    if (access("/usr/bin/tesseract", X_OK) == 0) {
        assert_int_equal(extract("picture.pdf", NULL), RC_OK);
        assert_false(document.no_text);
        assert_true(str_find(document.text, STR("Introduction")) >= 0 &&
                    str_find(document.text, STR("first paragraph runs over")) >= 0);
        const struct extract_rect *rect = &document.blocks[1].rect; /* as in report.pdf */
        assert_true(document.blocks[1].page == 1 && rect->x0 > 68 && rect->x0 < 78 &&
                    rect->y0 > 115 && rect->y1 < 150);
    } else {
        expect("picture.pdf", EXTRACT_PDF, "");
        assert_true(document.no_text);
    }
}

/* ---- hostile files: each costs its own error ---- */

static void refuse(const char *name, enum err_code code, const char *message)
{
    const struct extract_limits limits = {.cpu_s = HOSTILE_CPU_S, .wall_s = 600};
    enum rc rc = extract(name, &limits);
    if (rc == RC_OK || err.code != code || !strstr(err.message, message))
        fail_msg("%s: %s, '%s'", name, err_code_name(err.code), err.message);
}

static void hostile_archives(void **state)
{
    static const char *const formats[] = {"docx", "pptx", "xlsx", "odt", "epub"};
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        char name[32];
        snprintf(name, sizeof(name), "bomb.%s", formats[i]);
        refuse(name, ERR_TOO_LARGE, "times its size");
        snprintf(name, sizeof(name), "deep.%s", formats[i]);
        refuse(name, ERR_INVALID, "nest deeper");
        snprintf(name, sizeof(name), "laughs.%s", formats[i]);
        refuse(name, ERR_INVALID, "declares entities");
    }
}

/* What begins and never ends: one tag, one line, one quoted field. It is read or refused, in time
 * that grows with its size, and its reader does not crash. */
static void endless_files(void **state)
{
    enum { BYTES = 1 << 20 };
    static const struct extract_limits limits = {.cpu_s = HOSTILE_CPU_S, .wall_s = 600};
    static const struct {
        const char *name, *begin, *again;
    } files[] = {
        {"endless.html", "<html><body><p title=\"", "a <b "},
        {"open.html", "<html><body>", "<p><span>word "},
        {"endless.md", "# One\n\n> ", "> > "},
        {"endless.csv", "a,b\n\"", "1,2"},
        {"endless.jsonl", "{\"a\":\"", "more"},
        {"endless.eml", "Subject: ", "=?utf-8?q?x?= "},
        {"endless.srt", "1\n00:00:01,000 --> ", "00:00:02,000 "},
        {"endless.py", "def a(", "b=(c, "},
        {"endless.txt", "word", "word"},
    };
    char folder[] = "/tmp/capstan-endless-XXXXXX", path[128];
    char *bytes = malloc(BYTES);
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        size_t n = strlen(files[i].begin), step = strlen(files[i].again);
        memcpy(bytes, files[i].begin, n);
        for (; n + step < BYTES; n += step)
            memcpy(bytes + n, files[i].again, step);
        snprintf(path, sizeof(path), "%s/%s", folder, files[i].name);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
        close(fd);
        arena_reset(&arena);
        err = (struct err){0};
        enum rc rc = extract_file(path, str_from(files[i].name), STR_EMPTY, &limits, &arena,
                                  &document, &err);
        if (rc != RC_OK && err.code != ERR_TOO_LARGE && err.code != ERR_INVALID)
            fail_msg("%s: %s %s", files[i].name, err_code_name(err.code), err.message);
        if (rc != RC_OK && strstr(err.message, "crash"))
            fail_msg("%s: %s", files[i].name, err.message);
        unlink(path);
    }
    rmdir(folder);
    free(bytes);
}

static void hostile_files(void **state)
{
    refuse("outside.docx", ERR_INVALID, "declares entities");
    refuse("cut.docx", ERR_INVALID, "no list of files");
    refuse("flipped.docx", ERR_INVALID, "the archive is broken");
    refuse("empty.docx", ERR_INVALID, "no list of files");
    refuse("notzip.xlsx", ERR_INVALID, "no list of files");
    refuse("parts.eml", ERR_INVALID, "nest deeper");
    refuse("deep.json", ERR_INVALID, "nests deeper");
    refuse("binary.txt", ERR_MEDIA_TYPE, "no reader");
    refuse("absent.txt", ERR_INVALID, "cannot be opened");
    if (access("/usr/bin/pdftotext", X_OK) == 0)
        refuse("broken.pdf", ERR_INVALID, "the PDF cannot be read");
    expect("climbing.docx", EXTRACT_DOCX, "T Still read.|T A note.|");
    expect("nested.html", EXTRACT_HTML, "T deep|");
}

static void limits_hold(void **state)
{
    assert_int_equal(extract("guide.txt", &(struct extract_limits){.input_bytes = 10}), RC_LIMIT);
    assert_int_equal(extract("guide.txt", &(struct extract_limits){.text_bytes = 30}), RC_LIMIT);
    assert_int_equal(extract("guide.md", &(struct extract_limits){.blocks = 3}), RC_LIMIT);
    assert_non_null(strstr(err.message, "more than 3 blocks"));
    if (access("/usr/bin/pdftotext", X_OK) == 0) {
        assert_int_equal(extract("report.pdf", &(struct extract_limits){.pages = 2}), RC_OK);
        assert_int_equal(document.page_count, 2);
    }
    volatile bool cancelled = true;
    assert_int_equal(extract("guide.txt", &(struct extract_limits){.cancelled = &cancelled}),
                     RC_CANCELLED);
}

static void refused_without_walls(void **state)
{
    sandbox_pretend_without(true, true);
    if (access("/usr/bin/pdftotext", X_OK) == 0)
        refuse("report.pdf", ERR_FORBIDDEN, "cannot be confined");
    expect(
        "guide.txt", EXTRACT_TEXT,
        "T First paragraph,¶in two lines.|T Second paragraph.|T Third.|"); /* seccomp is enough */
    sandbox_pretend_without(false, false);
}

int main(int argc, char **argv)
{
    if (extract_is_child(argc, argv))
        return extract_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    arena_init(&arena, 256 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(markdown),
        cmocka_unit_test(html),
        cmocka_unit_test(pdf),
        cmocka_unit_test(office),
        cmocka_unit_test(data),
        cmocka_unit_test(mail),
        cmocka_unit_test(code_and_subtitles),
        cmocka_unit_test(scan),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(hostile_archives),
        cmocka_unit_test(endless_files),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(refused_without_walls),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&arena);
    return failed;
}
