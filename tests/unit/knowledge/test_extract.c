/* Documents through the whole way: detection, the confined child, the stream, its checks. What was
 * found is printed one block a line and compared. Samples: tests/data/extract/make.py. */
#include "base/clock.h"
#include "io/sandbox.h"
#include "knowledge/extract.h"
#include "test.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&arena);
    return failed;
}
