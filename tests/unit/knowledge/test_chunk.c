/* Chunks: every strategy on documents made from a seed (nothing that is not white is lost, no chunk
 * is too long, order, places), and examples of each rule. */
#include "base/rand.h"
#include "knowledge/chunk.h"
#include "knowledge/chunk_cut.h"
#include "test.h"
#include <stdio.h>
#include <stdlib.h>

#define BLOCKS_MAX 64

static struct arena arena;
static char text[200000];
static struct extract_block blocks[BLOCKS_MAX];
static struct extract_page pages[4];
static struct extracted document;
static struct chunk *chunks;
static size_t chunk_count;

static void begin_document(void)
{
    arena_reset(&arena);
    document = (struct extracted){.text = str_make(text, 0), .blocks = blocks, .pages = pages};
}

static void add(enum block_kind kind, unsigned level, uint32_t page, const char *what)
{
    size_t n = strlen(what);
    assert_true(document.block_count < BLOCKS_MAX && document.text.n + n + 1 < sizeof(text));
    if (document.text.n)
        text[document.text.n++] = '\n';
    blocks[document.block_count++] = (struct extract_block){.kind = kind,
                                                            .level = (uint8_t)level,
                                                            .page = page,
                                                            .begin = (uint32_t)document.text.n,
                                                            .end = (uint32_t)(document.text.n + n)};
    memcpy(text + document.text.n, what, n);
    document.text.n += n;
}

/* Words, so that what is expected is easy to count. */
static size_t count_words(void *arg, struct str s)
{
    size_t n = 0;
    bool inside = false;
    for (size_t i = 0; i < s.n; i++) {
        bool white = strchr(" \n\t", s.p[i]) != NULL;
        n += !white && !inside;
        inside = !white;
    }
    return n;
}

static void cut(struct chunk_options options)
{
    struct err err = {0};
    options.count_tokens = count_words;
    enum rc rc = chunk_document(&document, &options, &arena, &chunks, &chunk_count, &err);
    if (rc != RC_OK)
        fail_msg("%s", err.message);
}

/* "path: text|", newlines as ¶. */
static const char *dump(bool with_context)
{
    static char out[20000];
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < chunk_count; i++) {
        const struct chunk *chunk = &chunks[i];
        if (chunk->headings.n)
            n += (size_t)sprintf(out + n, "%.*s: ", STR_ARG(chunk->headings));
        n += (size_t)sprintf(out + n, "%.*s", STR_ARG(chunk->text));
        if (with_context)
            n += (size_t)sprintf(out + n, " <%.*s>", STR_ARG(chunk->context));
        n += (size_t)sprintf(out + n, "|");
    }
    for (size_t i = 0; i < n; i++)
        if (out[i] == '\n')
            out[i] = '/';
    return out;
}

static void structure(void **state)
{
    begin_document();
    add(BLOCK_HEADING, 1, 1, "Guide");
    add(BLOCK_TEXT, 0, 1, "one two three");
    add(BLOCK_HEADING, 2, 1, "Install");
    add(BLOCK_TEXT, 0, 1, "four five");
    add(BLOCK_LIST_ITEM, 1, 2, "six seven eight");
    add(BLOCK_TEXT, 0, 2, "nine ten");
    add(BLOCK_HEADING, 3, 2, "Debian");
    add(BLOCK_TEXT, 0, 2, "eleven");
    add(BLOCK_HEADING, 2, 3, "Run");
    add(BLOCK_HEADING, 3, 3, "Fast");
    add(BLOCK_TEXT, 0, 3, "twelve");
    cut((struct chunk_options){.tokens_max = 7});
    assert_string_equal(dump(false), "Guide/one two three|Guide: Install/four five/six seven eight|"
                                     "Guide › Install: nine ten|Guide › Install: Debian/eleven|"
                                     "Guide: Run/Fast/twelve|");
    assert_int_equal(chunks[1].page_first, 1);
    assert_int_equal(chunks[1].page_last, 2);
    assert_int_equal(chunks[1].block_first, 2);
    assert_int_equal(chunks[1].block_count, 3);
    /* Sections that are small beside the limit stay together with those below them. */
    cut((struct chunk_options){.tokens_max = 80});
    assert_string_equal(
        dump(false), "Guide/one two three/Install/four five/six seven eight/nine ten/Debian/eleven"
                     "|Guide: Run/Fast/twelve|");
}

static void long_blocks(void **state)
{
    begin_document();
    add(BLOCK_TEXT, 0, 0,
        "One two three. Four five six! Seven (eight) nine? Ten eleven e.g. twelve.");
    cut((struct chunk_options){.tokens_max = 6});
    assert_string_equal(dump(false), "One two three. Four five six!|"
                                     "Seven (eight) nine?|Ten eleven e.g. twelve.|");
    cut((struct chunk_options){.tokens_max = 6, .overlap_tokens = 3});
    assert_string_equal(dump(false), "One two three. Four five six!|Four five six! Seven (eight) "
                                     "nine?|Ten eleven e.g. twelve.|");
    cut((struct chunk_options){.tokens_max = 2});
    assert_string_equal(dump(false), "One two|three. Four|five six!|Seven (eight)|nine? Ten|eleven "
                                     "e.g.|twelve.|");
    begin_document();
    add(BLOCK_CODE, 0, 0, "int a = 1;\nint b = 2;\nint c = 3;");
    cut((struct chunk_options){.tokens_max = 8});
    assert_string_equal(dump(false), "int a = 1;/int b = 2;|int c = 3;|");
}

static void tables(void **state)
{
    begin_document();
    add(BLOCK_TEXT, 0, 0, "before");
    add(BLOCK_TABLE_ROW, 1, 0, "Name | Value");
    add(BLOCK_TABLE_ROW, 0, 0, "a | 1");
    add(BLOCK_TABLE_ROW, 0, 0, "b | 2");
    add(BLOCK_TABLE_ROW, 0, 0, "c | 3");
    add(BLOCK_TEXT, 0, 0, "after");
    cut((struct chunk_options){.tokens_max = 9});
    assert_string_equal(dump(false), "before/Name | Value/a | 1|Name | Value/b | 2/c | 3|after|");
    assert_memory_equal(document.text.p + chunks[1].begin, "b | 2", 5);
    /* A header that would fill half of the chunk is not repeated. */
    cut((struct chunk_options){.tokens_max = 5});
    assert_string_equal(dump(false), "before/Name | Value|a | 1|b | 2|c | 3/after|");
}

static void windows_and_parents(void **state)
{
    begin_document();
    add(BLOCK_HEADING, 1, 0, "Top");
    add(BLOCK_TEXT, 0, 0, "A one. B two. C three. D four.");
    add(BLOCK_HEADING, 1, 0, "Next");
    add(BLOCK_TEXT, 0, 0, "E five.");
    cut((struct chunk_options){
        .strategy = CHUNK_SENTENCE_WINDOW, .tokens_max = 20, .window_sentences = 1});
    assert_string_equal(dump(true),
                        "Top/A one. <Top/A one.>|Top: B two. <B two. C three.>|"
                        "Top: C three. <B two. C three. D four.>|Top: D four. <C three. D four.>|"
                        "Next/E five. <Next/E five.>|");
    cut((struct chunk_options){
        .strategy = CHUNK_PARENT_CHILD, .tokens_max = 4, .parent_tokens = 9});
    assert_string_equal(dump(true), "Top/A one. <Top/A one. B two. C three. D four.>|"
                                    "Top: B two. C three. <Top/A one. B two. C three. D four.>|"
                                    "Top: D four. <Top/A one. B two. C three. D four.>|"
                                    "Next/E five. <Next/E five.>|");
}

static void static_strategy(void **state)
{
    begin_document();
    add(BLOCK_HEADING, 1, 0, "Top");
    add(BLOCK_TEXT, 0, 0, "a b c d e");
    add(BLOCK_TEXT, 0, 0, "f g h");
    cut((struct chunk_options){.strategy = CHUNK_STATIC, .tokens_max = 4, .overlap_tokens = 2});
    assert_string_equal(dump(false), "Top/a b c|Top: b c d e|Top: d e/f g|Top: f g h|");
}

static void sentence_ends(void **state)
{
    const struct {
        const char *text;
        size_t n;
    } cases[] = {
        {"Dr. No is here. Next", 16},  {"Version 1.2 works. So", 19}, {"He said \"Go!\" Then", 14},
        {"ends. without capital", 21}, {"これは文です。次", 21},      {"See 3. Point", 12},
        {"No stop at all", 14},        {"Wait... What", 8},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(chunk_cut(str_from(cases[i].text), CUT_SENTENCE), cases[i].n);
}

/* ---- properties ---- */

static void random_text(char *out, size_t n_max)
{
    static const char *const words[] = {"a",  "word", "Sentence.", "Ünïcödé", "。", "x!",   "\n",
                                        "  ", "one ", "two ",      "😀",      "?”", "e.g.", "\t"};
    size_t n = 0, count = rand_below(60);
    for (size_t i = 0; i < count; i++) {
        const char *word = words[rand_below(COUNT_OF(words))];
        if (n + strlen(word) + 2 > n_max)
            break;
        n += (size_t)sprintf(out + n, "%s%s", word, rand_below(3) ? " " : "");
    }
    while (n && strchr(" \n\t", out[n - 1]))
        n--;
    out[n] = 0;
    if (rand_below(20) == 0)
        memset(out, 'x', n); /* one endless word */
}

static void random_document(void)
{
    begin_document();
    size_t count = rand_below(BLOCKS_MAX);
    for (size_t i = 0; i < count; i++) {
        char what[1000];
        random_text(what, sizeof(what));
        const char *from = what + strspn(what, " \n\t");
        enum block_kind kind = (enum block_kind)rand_below(BLOCK_QUOTE + 1);
        if (*from)
            add(kind, (unsigned)rand_below(kind == BLOCK_TABLE_ROW ? 2 : 7), (uint32_t)(i / 8),
                from);
    }
}

static void check_properties(const struct chunk_options *options, uint64_t seed)
{
    static bool covered[sizeof(text)];
    memset(covered, 0, document.text.n);
    size_t after = 0;
    for (size_t i = 0; i < chunk_count; i++) {
        const struct chunk *chunk = &chunks[i];
        bool sound = chunk->begin < chunk->end && chunk->end <= document.text.n &&
                     chunk->begin >= after && chunk->block_count > 0 &&
                     chunk->block_first + chunk->block_count <= document.block_count &&
                     chunk->text.n >= chunk->end - chunk->begin &&
                     memcmp(chunk->text.p + chunk->text.n - (chunk->end - chunk->begin),
                            text + chunk->begin, chunk->end - chunk->begin) == 0 &&
                     count_words(NULL, chunk->text) <= options->tokens_max &&
                     (options->strategy < CHUNK_SENTENCE_WINDOW ||
                      options->strategy == CHUNK_STATIC || chunk->context.n);
        if (!sound)
            fail_msg("seed %llu: chunk %zu is wrong: strategy %d, at most %u: '%.*s'",
                     (unsigned long long)seed, i, options->strategy, options->tokens_max,
                     STR_ARG(chunk->text));
        after = chunk->begin;
        memset(covered + chunk->begin, 1, chunk->end - chunk->begin);
    }
    for (size_t i = 0; i < document.text.n; i++)
        if (!covered[i] && !strchr(" \n\t", text[i]))
            fail_msg("seed %llu: byte %zu of %zu is in no chunk", (unsigned long long)seed, i,
                     document.text.n);
}

static void nothing_is_lost(void **state)
{
    for (uint64_t seed = 1; seed <= 4000; seed++) {
        rand_seed(seed);
        random_document();
        struct chunk_options options = {.strategy =
                                            (enum chunk_strategy)rand_below(CHUNK_STATIC + 1),
                                        .tokens_max = 1 + (unsigned)rand_below(40),
                                        .overlap_tokens = (unsigned)rand_below(20),
                                        .window_sentences = (unsigned)rand_below(4),
                                        .parent_tokens = (unsigned)rand_below(200)};
        cut(options);
        check_properties(&options, seed);
    }
}

/* A counter by bytes makes words of many tokens; 20 MB in one word must not take forever. */
static void endless_word(void **state)
{
    size_t n = 20 << 20;
    char *word = malloc(n);
    memset(word, 'x', n);
    struct extract_block block = {.kind = BLOCK_TEXT, .end = (uint32_t)n};
    struct extracted one = {.text = str_make(word, n), .blocks = &block, .block_count = 1};
    struct chunk_options options = {.tokens_max = 100, .overlap_tokens = 10};
    struct err err = {0};
    arena_reset(&arena);
    assert_int_equal(chunk_document(&one, &options, &arena, &chunks, &chunk_count, &err), RC_OK);
    assert_true(chunk_count > n / 400 && chunk_count < n / 100);
    for (size_t i = 0; i < chunk_count; i++)
        assert_true(chunks[i].text.n <= 400);
    free(word);
}

int main(void)
{
    arena_init(&arena, 256 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structure),       cmocka_unit_test(long_blocks),
        cmocka_unit_test(tables),          cmocka_unit_test(windows_and_parents),
        cmocka_unit_test(static_strategy), cmocka_unit_test(sentence_ends),
        cmocka_unit_test(nothing_is_lost), cmocka_unit_test(endless_word),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&arena);
    return failed;
}
