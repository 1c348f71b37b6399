/* The tokenizer. One pass over the text: each code point has a class and what it becomes
 * (wordpiece_table.h, unfolded at first use into pages of 256), words gather in a small buffer, and
 * a word that is complete is looked up piece by piece.
 *
 * A word's pieces: hashes of all its prefixes are made in one go, then the longest prefix that is
 * in the vocabulary is taken, and again from there with the continuation's mark. Work per word is
 * bounded by its length (at most 100 characters, as the reference has it) times the longest piece.
 */
#include "encoder/wordpiece.h"
#include "base/arena.h"
#include "base/utf8.h"
#include "encoder/read_file.h"
#include "text/json.h"
#include <pthread.h>
#include <stdlib.h>

#define WORD_CHARACTERS_MAX  100 /* a longer one is [UNK] */
#define WORD_BYTES_MAX       (WORD_CHARACTERS_MAX * 4)
#define VOCABULARY_MAX       (1 << 20)
#define PIECE_BYTES_MAX      256
#define VOCABULARY_BYTES_MAX (64 << 20)
#define CONTINUATION         "##"

enum { WP_PLAIN, WP_REMOVED, WP_SPACE, WP_PUNCTUATION, WP_MARK, WP_IDEOGRAPH };

struct wordpiece_class {
    uint32_t first, last;
    uint8_t class;
};
struct wordpiece_run {
    uint32_t first;
    uint8_t count, step;
    int32_t distance;
};
struct wordpiece_several {
    uint32_t from;
    uint32_t to[3];
};
#include "encoder/wordpiece_table.h"

/* ---- code points ---- */

#define PAGE_COUNT     (0x110000 / 256)
#define PAGES_MADE_MAX 512
#define HANGUL_FIRST   0xAC00u
#define HANGUL_LAST    0xD7A3u

struct character {
    uint32_t folded;
    uint8_t class;
    bool several;
};

static struct {
    pthread_once_t once;
    uint16_t page_of[PAGE_COUNT]; /* 0: nothing but plain characters */
    struct character pages[PAGES_MADE_MAX][256];
    size_t page_count;
} table = {.once = PTHREAD_ONCE_INIT};

static struct character *table_at(uint32_t c)
{
    uint16_t *page = &table.page_of[c >> 8];
    if (!*page) {
        ASSERT(table.page_count < PAGES_MADE_MAX);
        *page = (uint16_t)table.page_count++;
        for (uint32_t i = 0; i < 256; i++)
            table.pages[*page][i] = (struct character){.folded = (c & ~0xFFu) + i};
    }
    return &table.pages[*page][c & 0xFF];
}

/* Private use planes and ideographs are too many for pages: they are compared. */
static bool is_wide(const struct wordpiece_class *row) { return row->last - row->first > 4096; }

static void table_make(void)
{
    table.page_count = 1; /* number 0 stands for "none" */
    for (size_t i = 0; i < COUNT_OF(CLASSES); i++)
        if (!is_wide(&CLASSES[i]))
            for (uint32_t c = CLASSES[i].first; c <= CLASSES[i].last; c++)
                table_at(c)->class = CLASSES[i].class;
    for (size_t i = 0; i < COUNT_OF(RUNS); i++)
        for (uint32_t k = 0; k < RUNS[i].count; k++) {
            uint32_t c = RUNS[i].first + k * RUNS[i].step;
            table_at(c)->folded = (uint32_t)((int32_t)c + RUNS[i].distance);
        }
    for (size_t i = 0; i < COUNT_OF(SEVERAL); i++)
        table_at(SEVERAL[i].from)->several = true;
}

static struct character character_of(uint32_t c)
{
    uint16_t page = table.page_of[c >> 8];
    struct character is = {.folded = c};
    if (page)
        is = table.pages[page][c & 0xFF];
    if (is.class == WP_PLAIN && c >= 0x3400)
        for (size_t i = 0; i < COUNT_OF(CLASSES); i++)
            if (is_wide(&CLASSES[i]) && c >= CLASSES[i].first && c <= CLASSES[i].last)
                is.class = CLASSES[i].class;
    return is;
}

/* ---- the vocabulary ---- */

struct piece {
    uint64_t hash;
    uint32_t id;
    uint32_t bytes; /* 0: the slot is free */
};

struct wordpiece {
    struct wordpiece_options options;
    char *text;          /* the pieces, without the continuation's mark */
    uint32_t *text_at;   /* where each id's piece begins */
    uint8_t *continues;  /* per id */
    struct piece *slots; /* open addressing */
    size_t slot_mask, count;
    size_t piece_bytes_max; /* of the longest */
    uint32_t unknown, cls, sep;
    struct {
        struct str text;
        uint32_t id;
    } specials[5];
    uint8_t ascii[128]; /* class; plain letters: 0 */
    uint8_t ascii_folded[128];
};

#define HASH_WORD     0x9ae16a3b2f90404full
#define HASH_CONTINUE 0xc3a5c85c97cb3127ull

static inline uint64_t hash_step(uint64_t h, uint8_t byte)
{
    h = (h ^ byte) * 0x9fb21c651e98df25ull;
    return h ^ (h >> 29);
}

static uint64_t hash_piece(struct str piece, bool continues)
{
    uint64_t h = continues ? HASH_CONTINUE : HASH_WORD;
    for (size_t i = 0; i < piece.n; i++)
        h = hash_step(h, (uint8_t)piece.p[i]);
    return h;
}

static bool piece_find(const struct wordpiece *w, uint64_t hash, struct str piece, bool continues,
                       uint32_t *id)
{
    for (size_t at = hash & w->slot_mask; w->slots[at].bytes; at = (at + 1) & w->slot_mask) {
        const struct piece *p = &w->slots[at];
        if (p->hash == hash && p->bytes == piece.n && w->continues[p->id] == continues &&
            memcmp(w->text + w->text_at[p->id], piece.p, piece.n) == 0) {
            *id = p->id;
            return true;
        }
    }
    return false;
}

static void piece_put(struct wordpiece *w, struct str piece, bool continues, uint32_t id)
{
    uint64_t hash = hash_piece(piece, continues);
    size_t at = hash & w->slot_mask;
    while (w->slots[at].bytes)
        at = (at + 1) & w->slot_mask;
    w->slots[at] = (struct piece){.hash = hash, .id = id, .bytes = (uint32_t)piece.n};
    w->piece_bytes_max = MAX(w->piece_bytes_max, piece.n);
}

static enum rc find_specials(struct wordpiece *w, struct err *err)
{
    static const struct str NAMES[] = {STR_INIT("[UNK]"), STR_INIT("[CLS]"), STR_INIT("[SEP]"),
                                       STR_INIT("[PAD]"), STR_INIT("[MASK]")};
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        w->specials[i].text = NAMES[i];
        if (piece_find(w, hash_piece(NAMES[i], false), NAMES[i], false, &w->specials[i].id))
            continue;
        if (i <= 2)
            return err_set(err, ERR_INVALID, "the vocabulary has no %.*s", STR_ARG(NAMES[i]));
        w->specials[i].text = STR_EMPTY; /* not needed to encode */
    }
    w->unknown = w->specials[0].id;
    w->cls = w->specials[1].id;
    w->sep = w->specials[2].id;
    return RC_OK;
}

static void make_ascii(struct wordpiece *w)
{
    for (uint32_t c = 0; c < 128; c++) {
        struct character is = character_of(c);
        w->ascii[c] = is.class;
        w->ascii_folded[c] = (uint8_t)(w->options.fold ? is.folded : c);
    }
    w->ascii['['] = WP_REMOVED; /* goes the slow way: it may begin a special token */
}

/* Lines into pieces. A second line of the same text is never looked up: the first keeps it. */
static enum rc take_lines(struct wordpiece *w, struct str lines, struct err *err)
{
    struct str line;
    uint32_t id = 0, at = 0;
    while (id < w->count && str_split(&lines, '\n', &line)) {
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        bool continues = str_starts(line, STR(CONTINUATION)) && line.n > strlen(CONTINUATION);
        if (continues)
            line = str_slice(line, strlen(CONTINUATION), line.n);
        if (line.n > PIECE_BYTES_MAX)
            return err_set(err, ERR_INVALID, "line %u of the vocabulary is %zu bytes long", id + 1,
                           line.n);
        w->text_at[id] = at;
        w->continues[id] = continues;
        if (line.n)
            memcpy(w->text + at, line.p, line.n);
        at += (uint32_t)line.n;
        uint32_t taken;
        if (line.n && !piece_find(w, hash_piece(line, continues), line, continues, &taken))
            piece_put(w, line, continues, id);
        id++;
    }
    return RC_OK;
}

static size_t count_lines(struct str lines)
{
    size_t count = 0;
    for (size_t i = 0; i < lines.n; i++)
        count += lines.p[i] == '\n';
    return count + (lines.n && lines.p[lines.n - 1] != '\n');
}

enum rc wordpiece_new(struct str lines, const struct wordpiece_options *options,
                      struct wordpiece **out, struct err *err)
{
    pthread_once(&table.once, table_make);
    size_t count = count_lines(lines);
    if (count > VOCABULARY_MAX || lines.n > VOCABULARY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "the vocabulary is too large: %zu tokens", count);
    struct wordpiece *w = calloc(1, sizeof(*w));
    size_t slots = 64;
    while (slots < count * 2)
        slots *= 2;
    if (w) {
        w->options = *options;
        w->count = count;
        w->slot_mask = slots - 1;
        w->text = malloc(lines.n + 1);
        w->text_at = calloc(count + 1, sizeof(*w->text_at));
        w->continues = calloc(count + 1, 1);
        w->slots = calloc(slots, sizeof(*w->slots));
    }
    enum rc rc;
    if (!w || !w->text || !w->text_at || !w->continues || !w->slots)
        rc = err_set(err, ERR_OVERLOADED, "no memory for the vocabulary");
    else if (!(rc = take_lines(w, lines, err)) && !(rc = find_specials(w, err)))
        make_ascii(w);
    if (rc) {
        wordpiece_free(w);
        return rc;
    }
    *out = w;
    return RC_OK;
}

void wordpiece_free(struct wordpiece *w)
{
    if (!w)
        return;
    free(w->text);
    free(w->text_at);
    free(w->continues);
    free(w->slots);
    free(w);
}

size_t wordpiece_vocabulary_count(const struct wordpiece *w) { return w->count; }
uint32_t wordpiece_cls(const struct wordpiece *w) { return w->cls; }
uint32_t wordpiece_sep(const struct wordpiece *w) { return w->sep; }

bool wordpiece_continues(const struct wordpiece *w, uint32_t id)
{
    return id < w->count && w->continues[id];
}

/* ---- encoding ---- */

void wordpiece_tokens_fini(struct wordpiece_tokens *tokens)
{
    free(tokens->ids);
    *tokens = (struct wordpiece_tokens){0};
}

/* A text on its way; `tokens` NULL: only counted. */
struct run {
    const struct wordpiece *w;
    struct wordpiece_tokens *tokens;
    size_t count;
    bool out_of_memory;
    char word[WORD_BYTES_MAX];
    size_t bytes, characters;
};

static void emit(struct run *run, uint32_t id)
{
    run->count++;
    struct wordpiece_tokens *tokens = run->tokens;
    if (!tokens || run->out_of_memory)
        return;
    if (tokens->count == tokens->capacity) {
        size_t capacity = tokens->capacity ? tokens->capacity * 2 : 256;
        uint32_t *ids = realloc(tokens->ids, capacity * sizeof(*ids));
        if (!ids) {
            run->out_of_memory = true;
            return;
        }
        tokens->ids = ids;
        tokens->capacity = capacity;
    }
    tokens->ids[tokens->count++] = id;
}

/* The longest piece at the start of `rest`: its bytes, or 0. */
static size_t longest_piece(const struct wordpiece *w, struct str rest, bool continues,
                            uint32_t *id)
{
    uint64_t hashes[PIECE_BYTES_MAX + 1];
    uint64_t h = continues ? HASH_CONTINUE : HASH_WORD;
    size_t n = MIN(rest.n, w->piece_bytes_max);
    for (size_t i = 0; i < n; i++)
        hashes[i + 1] = h = hash_step(h, (uint8_t)rest.p[i]);
    while (n && !piece_find(w, hashes[n], str_slice(rest, 0, n), continues, id))
        n--;
    return n;
}

static void end_word(struct run *run)
{
    if (!run->characters)
        return;
    uint32_t pieces[WORD_BYTES_MAX];
    size_t count = 0, at = 0;
    if (run->characters <= WORD_CHARACTERS_MAX) {
        while (at < run->bytes) {
            struct str rest = str_make(run->word + at, run->bytes - at);
            size_t n = longest_piece(run->w, rest, at > 0, &pieces[count]);
            if (!n)
                break;
            at += n;
            count++;
        }
    }
    if (at == run->bytes && run->characters <= WORD_CHARACTERS_MAX)
        for (size_t i = 0; i < count; i++)
            emit(run, pieces[i]);
    else
        emit(run, run->w->unknown); /* a word that cannot be made up of pieces is unknown whole */
    run->bytes = run->characters = 0;
}

static void add_to_word(struct run *run, uint32_t c)
{
    char encoded[4];
    size_t n = utf8_encode(c, encoded);
    if (run->characters++ < WORD_CHARACTERS_MAX) {
        memcpy(run->word + run->bytes, encoded, n);
        run->bytes += n;
    }
}

/* A character of its own. */
static void add_alone(struct run *run, uint32_t c)
{
    end_word(run);
    add_to_word(run, c);
    end_word(run);
}

/* What folding makes of a character can again be a mark, a space or punctuation. */
static void add_folded(struct run *run, uint32_t c)
{
    switch (character_of(c).class) {
    case WP_SPACE: end_word(run); break;
    case WP_PUNCTUATION: add_alone(run, c); break;
    default: add_to_word(run, c);
    }
}

/* The Unicode standard, 3.12: a syllable is leading consonant, vowel and perhaps a trailing one. */
static void add_hangul(struct run *run, uint32_t c)
{
    uint32_t index = c - HANGUL_FIRST;
    add_to_word(run, 0x1100 + index / 588);
    add_to_word(run, 0x1161 + index % 588 / 28);
    if (index % 28)
        add_to_word(run, 0x11A7 + index % 28);
}

static void add_several(struct run *run, uint32_t c)
{
    for (size_t i = 0; i < COUNT_OF(SEVERAL); i++)
        if (SEVERAL[i].from == c)
            for (size_t k = 0; k < COUNT_OF(SEVERAL[i].to) && SEVERAL[i].to[k]; k++)
                add_folded(run, SEVERAL[i].to[k]);
}

static void add_character(struct run *run, uint32_t c)
{
    bool fold = run->w->options.fold;
    struct character is = character_of(c);
    switch (is.class) {
    case WP_REMOVED: return;
    case WP_SPACE: end_word(run); return;
    case WP_IDEOGRAPH:
        if (run->w->options.ideographs_apart)
            end_word(run);
        add_to_word(run, fold ? is.folded : c);
        if (run->w->options.ideographs_apart)
            end_word(run);
        return;
    case WP_MARK:
        if (!fold)
            add_to_word(run, c);
        return;
    case WP_PUNCTUATION:
        if (!fold || is.folded == c) {
            add_alone(run, c);
            return;
        }
        break;
    default: break;
    }
    if (!fold)
        add_to_word(run, c);
    else if (c >= HANGUL_FIRST && c <= HANGUL_LAST)
        add_hangul(run, c);
    else if (is.several)
        add_several(run, c);
    else if (is.folded != c)
        add_folded(run, is.folded);
    else
        add_to_word(run, c);
}

/* A special token written out at the start of the text: its bytes. */
static size_t take_special(struct run *run, struct str rest)
{
    for (size_t i = 0; i < COUNT_OF(run->w->specials); i++) {
        struct str name = run->w->specials[i].text;
        if (name.n && str_starts(rest, name)) {
            end_word(run);
            emit(run, run->w->specials[i].id);
            return name.n;
        }
    }
    return 0;
}

static size_t add_slow(struct run *run, struct str rest)
{
    if (rest.p[0] == '[') {
        size_t taken = take_special(run, rest);
        if (taken)
            return taken;
    }
    uint32_t c;
    size_t n = utf8_next(rest, &c);
    if (!n)
        return 1; /* not UTF-8: left out, like the replacement character */
    add_character(run, c);
    return n;
}

static void encode(struct run *run, struct str text)
{
    const struct wordpiece *w = run->w;
    for (size_t i = 0; i < text.n;) {
        uint8_t byte = (uint8_t)text.p[i];
        if (byte >= 128 || w->ascii[byte] == WP_REMOVED) {
            i += add_slow(run, str_slice(text, i, text.n));
            continue;
        }
        i++;
        if (w->ascii[byte] == WP_SPACE) {
            end_word(run);
        } else if (w->ascii[byte] == WP_PUNCTUATION) {
            add_alone(run, byte);
        } else if (run->characters++ < WORD_CHARACTERS_MAX) {
            run->word[run->bytes++] = (char)w->ascii_folded[byte];
        }
    }
    end_word(run);
}

enum rc wordpiece_encode(const struct wordpiece *w, struct str text,
                         struct wordpiece_tokens *tokens, struct err *err)
{
    struct run run = {.w = w, .tokens = tokens};
    encode(&run, text);
    if (run.out_of_memory)
        return err_set(err, ERR_OVERLOADED, "no memory for the tokens of a text of %zu bytes",
                       text.n);
    return RC_OK;
}

size_t wordpiece_count(const struct wordpiece *w, struct str text)
{
    struct run run = {.w = w};
    encode(&run, text);
    return run.count;
}

/* ---- a model folder ---- */

/* Ids in tokenizer.json may come in any order: they are turned into lines. */
static enum rc vocabulary_lines(yyjson_val *vocabulary, struct arena *arena, struct str *lines,
                                struct err *err)
{
    size_t count = yyjson_obj_size(vocabulary), bytes = 0;
    if (!count || count > VOCABULARY_MAX)
        return err_set(err, ERR_INVALID, "tokenizer.json: no WordPiece vocabulary");
    struct str *pieces = ARENA_NEW_ARRAY(arena, struct str, count);
    yyjson_obj_iter iter = yyjson_obj_iter_with(vocabulary);
    for (yyjson_val *key; pieces && (key = yyjson_obj_iter_next(&iter));) {
        uint64_t id = yyjson_get_uint(yyjson_obj_iter_get_val(key));
        struct str piece = json_text(key);
        if (id >= count || pieces[id].p || (piece.n && memchr(piece.p, '\n', piece.n)))
            return err_set(err, ERR_INVALID, "tokenizer.json: token ids are not 0 to %zu", count);
        pieces[id] = piece;
        bytes += piece.n + 1;
    }
    char *text = pieces ? arena_alloc(arena, bytes) : NULL;
    if (!text)
        return err_set(err, ERR_INVALID, "tokenizer.json: the vocabulary is too large");
    *lines = str_make(text, bytes);
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].n)
            memcpy(text, pieces[i].p, pieces[i].n);
        text += pieces[i].n;
        *text++ = '\n';
    }
    return RC_OK;
}

/* Lower case and accents go together in every published model; one without the other is refused
 * rather than tokenized differently. */
static enum rc take_normalizer(yyjson_val *settings, const char *lower_name, const char *cjk_name,
                               struct wordpiece_options *options, struct err *err)
{
    options->fold = json_get_bool(settings, lower_name, true);
    options->ideographs_apart = json_get_bool(settings, cjk_name, true);
    yyjson_val *strip = yyjson_obj_get(settings, "strip_accents");
    if (yyjson_is_bool(strip) && yyjson_get_bool(strip) != options->fold)
        return err_set(err, ERR_INVALID,
                       "the tokenizer folds case without accents, or the reverse: not supported");
    return RC_OK;
}

static enum rc read_tokenizer_json(struct str json, struct arena *arena, struct str *lines,
                                   struct wordpiece_options *options, struct err *err)
{
    yyjson_doc *doc;
    enum rc rc = json_read(json, arena, &doc, err);
    if (rc)
        return rc;
    yyjson_val *root = yyjson_doc_get_root(doc), *model = yyjson_obj_get(root, "model");
    yyjson_val *normalizer = yyjson_obj_get(root, "normalizer");
    if (!str_eq(json_get_text(model, "type"), STR("WordPiece")) ||
        !str_eq(json_get_text(normalizer, "type"), STR("BertNormalizer")))
        return err_set(err, ERR_INVALID,
                       "tokenizer.json: not BERT's WordPiece; models with another tokenizer "
                       "(RoBERTa, XLM-R, MPNet, T5) cannot be used");
    if ((rc = take_normalizer(normalizer, "lowercase", "handle_chinese_chars", options, err)))
        return rc;
    return vocabulary_lines(yyjson_obj_get(model, "vocab"), arena, lines, err);
}

static enum rc open_in(const char *folder, struct arena *arena, struct wordpiece **out,
                       struct err *err)
{
    struct wordpiece_options options = {.fold = true, .ideographs_apart = true};
    struct str config, json, lines, from_json = STR_EMPTY;
    enum rc rc;
    if ((rc = read_file_if_there(folder, "tokenizer_config.json", 1 << 20, arena, &config, err)) ||
        (rc = read_file_if_there(folder, "tokenizer.json", VOCABULARY_BYTES_MAX, arena, &json,
                                 err)) ||
        (rc = read_file_if_there(folder, "vocab.txt", VOCABULARY_BYTES_MAX, arena, &lines, err)))
        return rc;
    if (config.p) {
        yyjson_doc *doc;
        if ((rc = json_read(config, arena, &doc, err)) ||
            (rc = take_normalizer(yyjson_doc_get_root(doc), "do_lower_case",
                                  "tokenize_chinese_chars", &options, err))) {
            err_prefix(err, "tokenizer_config.json");
            return rc;
        }
    }
    if (json.p && (rc = read_tokenizer_json(json, arena, &from_json, &options, err)))
        return rc;
    if (!lines.p && !from_json.p)
        return err_set(err, ERR_INVALID, "there is neither vocab.txt nor tokenizer.json");
    return wordpiece_new(lines.p ? lines : from_json, &options, out, err);
}

enum rc wordpiece_open(const char *folder, struct wordpiece **out, struct err *err)
{
    struct arena arena;
    arena_init(&arena, 512 << 20);
    enum rc rc = open_in(folder, &arena, out, err);
    arena_fini(&arena);
    return rc;
}
