/* Byte-pair encoding as tiktoken does it: the text is cut into pieces by the vocabulary's pattern,
 * and in each piece the neighbouring pair of lowest rank is joined until no pair is a token. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizer.h"
#include "base/hash.h"
#include <pcre2.h>
#include <pthread.h>
#include <stdlib.h>
#include <zlib.h>

#define PIECE_BYTES_MAX 512
#define RAW_BYTES_MAX   (4 * 1024 * 1024)
#define NO_RANK         UINT32_MAX

extern const unsigned char tokenizer_o200k_base[], tokenizer_o200k_base_end[];
extern const unsigned char tokenizer_cl100k_base[], tokenizer_cl100k_base_end[];

static const struct {
    const unsigned char *data, *end;
    uint32_t tokens;
    struct str pattern;
} sources[TOKENIZER_COUNT] = {
    [TOKENIZER_O200K] =
        {tokenizer_o200k_base, tokenizer_o200k_base_end, 199998,
         STR_INIT("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{"
                  "Lo}\\p{M}]+"
                  "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|"
                  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{"
                  "Lo}\\p{M}]*"
                  "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|"
                  "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")},
    [TOKENIZER_CL100K] =
        {tokenizer_cl100k_base, tokenizer_cl100k_base_end, 100256,
         STR_INIT("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?"
                  "\\p{L}+|"
                  "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")},
};

struct vocabulary {
    unsigned char *raw; /* lengths, then bytes */
    uint32_t *offsets;  /* where each token's bytes begin; one more at the end */
    uint32_t *slots;    /* open addressing: rank + 1, or 0 */
    size_t slot_mask;
    pcre2_code *pattern;
    pthread_once_t once;
    enum rc rc;
};

static struct vocabulary vocabularies[TOKENIZER_COUNT] = {{.once = PTHREAD_ONCE_INIT},
                                                          {.once = PTHREAD_ONCE_INIT}};

/* ---- loading ---- */

static size_t slot_of(const struct vocabulary *v, const void *p, size_t n)
{
    return hash_xxh3(p, n) & v->slot_mask;
}

static enum rc unpack(struct vocabulary *v, enum tokenizer tokenizer)
{
    uint32_t tokens = sources[tokenizer].tokens;
    uLongf raw_bytes = RAW_BYTES_MAX;
    unsigned char *raw = xmalloc(RAW_BYTES_MAX);
    size_t packed = (size_t)(sources[tokenizer].end - sources[tokenizer].data);
    if (uncompress(raw, &raw_bytes, sources[tokenizer].data, packed) != Z_OK ||
        raw_bytes < tokens) {
        free(raw);
        return RC_CORRUPT;
    }
    v->raw = xrealloc(raw, raw_bytes);
    v->offsets = xcalloc(tokens + 1, sizeof(*v->offsets));
    uint32_t at = tokens;
    for (uint32_t i = 0; i < tokens; i++) {
        v->offsets[i] = at;
        at += v->raw[i];
    }
    v->offsets[tokens] = at;
    return at == raw_bytes ? RC_OK : RC_CORRUPT;
}

static void fill_slots(struct vocabulary *v, uint32_t tokens)
{
    size_t slots = 1;
    while (slots < tokens * 2)
        slots *= 2;
    v->slots = xcalloc(slots, sizeof(*v->slots));
    v->slot_mask = slots - 1;
    for (uint32_t i = 0; i < tokens; i++) {
        size_t n = v->offsets[i + 1] - v->offsets[i];
        if (n == 0)
            continue;
        size_t slot = slot_of(v, v->raw + v->offsets[i], n);
        while (v->slots[slot])
            slot = (slot + 1) & v->slot_mask;
        v->slots[slot] = i + 1;
    }
}

static void load(enum tokenizer tokenizer)
{
    struct vocabulary *v = &vocabularies[tokenizer];
    int code;
    PCRE2_SIZE at;
    v->rc = unpack(v, tokenizer);
    if (v->rc)
        return;
    fill_slots(v, sources[tokenizer].tokens);
    v->pattern =
        pcre2_compile((PCRE2_SPTR)sources[tokenizer].pattern.p, sources[tokenizer].pattern.n,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
    ASSERT(v->pattern != NULL);
    (void)pcre2_jit_compile(v->pattern,
                            PCRE2_JIT_COMPLETE); /* where it cannot, the interpreter does it */
}

static void load_o200k(void) { load(TOKENIZER_O200K); }
static void load_cl100k(void) { load(TOKENIZER_CL100K); }

enum rc tokenizer_load(enum tokenizer tokenizer)
{
    static void (*const loaders[])(void) = {load_o200k, load_cl100k};
    ASSERT(tokenizer < TOKENIZER_COUNT);
    pthread_once(&vocabularies[tokenizer].once, loaders[tokenizer]);
    return vocabularies[tokenizer].rc;
}

enum tokenizer tokenizer_of_model(struct str model, bool *exact)
{
    static const char *const o200k[] = {"gpt-4o*", "chatgpt-4o*", "gpt-4.1*", "gpt-4.5*",
                                        "gpt-5*",  "gpt-6*",      "o1*",      "o3*",
                                        "o4*",     "gpt-oss*",    "codex*"};
    static const char *const cl100k[] = {"gpt-4*", "gpt-3.5*", "gpt-35*", "text-embedding-*"};
    ssize_t slash = str_rfind_char(model, '/');
    struct str name = str_slice(model, (size_t)(slash + 1), model.n);
    *exact = true;
    for (size_t i = 0; i < COUNT_OF(o200k); i++)
        if (str_matches_glob(name, str_from(o200k[i])))
            return TOKENIZER_O200K;
    for (size_t i = 0; i < COUNT_OF(cl100k); i++)
        if (str_matches_glob(name, str_from(cl100k[i])))
            return TOKENIZER_CL100K;
    *exact = false;
    return TOKENIZER_O200K;
}

/* ---- encoding ---- */

struct output {
    uint32_t *tokens; /* NULL: only counted */
    size_t count;
};

static uint32_t rank_of(const struct vocabulary *v, const unsigned char *p, size_t n)
{
    for (size_t slot = slot_of(v, p, n); v->slots[slot]; slot = (slot + 1) & v->slot_mask) {
        uint32_t rank = v->slots[slot] - 1;
        size_t bytes = v->offsets[rank + 1] - v->offsets[rank];
        if (bytes == n && memcmp(v->raw + v->offsets[rank], p, n) == 0)
            return rank;
    }
    return NO_RANK;
}

static void put(struct output *out, uint32_t token)
{
    if (out->tokens)
        out->tokens[out->count] = token;
    out->count++;
}

/* start[i] is where part i begins; rank[i] that of part i joined with the next. */
static void encode_piece(const struct vocabulary *v, const unsigned char *p, size_t n,
                         struct output *out)
{
    uint16_t start[PIECE_BYTES_MAX + 1];
    uint32_t rank[PIECE_BYTES_MAX + 1];
    uint32_t whole = rank_of(v, p, n);
    if (whole != NO_RANK) {
        put(out, whole);
        return;
    }
    size_t parts = n;
    for (size_t i = 0; i <= n; i++) {
        start[i] = (uint16_t)i;
        rank[i] = i + 2 <= n ? rank_of(v, p + i, 2) : NO_RANK;
    }
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < parts; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        memmove(&start[best + 1], &start[best + 2], (parts - best - 1) * sizeof(start[0]));
        memmove(&rank[best + 1], &rank[best + 2], (parts - best - 1) * sizeof(rank[0]));
        parts--;
        rank[best] = best + 2 <= parts
                         ? rank_of(v, p + start[best], (size_t)(start[best + 2] - start[best]))
                         : NO_RANK;
        if (best > 0)
            rank[best - 1] =
                rank_of(v, p + start[best - 1], (size_t)(start[best + 1] - start[best - 1]));
    }
    for (size_t i = 0; i < parts; i++)
        put(out, rank_of(v, p + start[i], (size_t)(start[i + 1] - start[i])));
}

static void encode_bounded(const struct vocabulary *v, struct str piece, struct output *out)
{
    while (piece.n > 0) {
        size_t n = MIN(piece.n, (size_t)PIECE_BYTES_MAX);
        encode_piece(v, (const unsigned char *)piece.p, n, out);
        piece = str_slice(piece, n, piece.n);
    }
}

static void encode(const struct vocabulary *v, struct str text, struct output *out)
{
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    size_t at = 0;
    while (match && at < text.n) {
        int rc =
            pcre2_match(v->pattern, (PCRE2_SPTR)text.p, text.n, at, PCRE2_NOTEMPTY, match, NULL);
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(match);
        size_t from = rc > 0 ? place[0] : text.n, to = rc > 0 ? place[1] : text.n;
        encode_bounded(v, str_slice(text, at, from), out); /* bytes that are no characters */
        encode_bounded(v, str_slice(text, from, to), out);
        at = to;
    }
    pcre2_match_data_free(match);
}

size_t tokenizer_count(enum tokenizer tokenizer, struct str text)
{
    struct output out = {0};
    if (tokenizer_load(tokenizer) != RC_OK)
        return (text.n + 3) / 4;
    encode(&vocabularies[tokenizer], text, &out);
    return out.count;
}

enum rc tokenizer_encode(enum tokenizer tokenizer, struct str text, struct arena *arena,
                         uint32_t **tokens, size_t *count)
{
    enum rc rc = tokenizer_load(tokenizer);
    if (rc)
        return rc;
    struct output out = {.tokens = ARENA_NEW_ARRAY(arena, uint32_t, MAX(text.n, (size_t)1))};
    if (!out.tokens)
        return RC_LIMIT;
    encode(&vocabularies[tokenizer], text, &out);
    *tokens = out.tokens;
    *count = out.count;
    return RC_OK;
}
