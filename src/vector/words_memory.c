/* The growing inverted index: a hash table of terms, each with its postings as varints. A posting
 * is written as its words are met, without sorting: the row's delta when the term is first seen in
 * it, then one number a position; the closing 0 is written when the term is met in a later row. */
#include "vector/words_memory.h"
#include "vector/varint.h"
#include "vector/words_layout.h"
#include <stdlib.h>

#define TEXT_BLOCK_BYTES  (64 * 1024)
#define POSTING_BYTES_MIN 16

struct text_block {
    struct text_block *next;
    size_t used;
    char bytes[TEXT_BLOCK_BYTES];
};

struct words_memory {
    size_t fields;
    uint32_t rows, rows_max;
    struct words_memory_term *terms;
    uint32_t term_count, term_capacity;
    uint32_t *slots; /* index + 1 of the term; 0: free */
    uint32_t slot_count;
    struct text_block *texts;
    uint16_t *lengths[WORDS_FIELDS_MAX];
    struct words_stats stats;
    size_t posting_bytes;
};

struct words_memory *words_memory_new(size_t fields, uint32_t rows_max)
{
    ASSERT(fields <= WORDS_FIELDS_MAX);
    struct words_memory *m = xcalloc(1, sizeof(*m));
    m->fields = fields;
    m->rows_max = rows_max;
    m->slot_count = 1024;
    m->slots = xcalloc(m->slot_count, sizeof(*m->slots));
    for (size_t f = 0; f < fields; f++)
        m->lengths[f] = xcalloc(rows_max, sizeof(uint16_t));
    return m;
}

void words_memory_free(struct words_memory *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->term_count; i++)
        free(m->terms[i].bytes);
    for (struct text_block *next, *block = m->texts; block; block = next) {
        next = block->next;
        free(block);
    }
    for (size_t f = 0; f < m->fields; f++)
        free(m->lengths[f]);
    free(m->terms);
    free(m->slots);
    free(m);
}

uint32_t words_memory_rows(const struct words_memory *m) { return m->rows; }

void words_memory_stats(const struct words_memory *m, struct words_stats *stats)
{
    *stats = m->stats;
}

size_t words_memory_bytes(const struct words_memory *m)
{
    size_t blocks = 0;
    for (struct text_block *block = m->texts; block; block = block->next)
        blocks++;
    return m->posting_bytes + blocks * sizeof(struct text_block) +
           m->term_capacity * sizeof(*m->terms) + m->slot_count * sizeof(*m->slots) +
           m->fields * m->rows_max * sizeof(uint16_t);
}

const uint16_t *words_memory_lengths(const struct words_memory *m, size_t field)
{
    return m->lengths[field];
}

size_t words_memory_terms(const struct words_memory *m, const struct words_memory_term **terms)
{
    *terms = m->terms;
    return m->term_count;
}

/* ---- terms ---- */

/* The slot of the term, or the free one where it belongs. */
static uint32_t *find_slot(const struct words_memory *m, size_t field, struct str term,
                           uint64_t hash)
{
    uint32_t mask = m->slot_count - 1, i = (uint32_t)hash & mask;
    for (; m->slots[i]; i = (i + 1) & mask) {
        const struct words_memory_term *t = &m->terms[m->slots[i] - 1];
        if (t->hash == hash && t->field == field && t->text_n == term.n &&
            memcmp(t->text, term.p, term.n) == 0)
            break;
    }
    return &m->slots[i];
}

const struct words_memory_term *words_memory_find(const struct words_memory *m, size_t field,
                                                  struct str term)
{
    uint32_t slot = *find_slot(m, field, term, words_term_hash(field, term));
    return slot ? &m->terms[slot - 1] : NULL;
}

static void grow_slots(struct words_memory *m)
{
    free(m->slots);
    m->slot_count *= 2;
    m->slots = xcalloc(m->slot_count, sizeof(*m->slots));
    uint32_t mask = m->slot_count - 1;
    for (uint32_t t = 0; t < m->term_count; t++) {
        uint32_t i = (uint32_t)m->terms[t].hash & mask;
        while (m->slots[i])
            i = (i + 1) & mask;
        m->slots[i] = t + 1;
    }
}

static const char *keep_text(struct words_memory *m, struct str text)
{
    if (!m->texts || m->texts->used + text.n > TEXT_BLOCK_BYTES) {
        struct text_block *block = xmalloc(sizeof(*block));
        block->next = m->texts;
        block->used = 0;
        m->texts = block;
    }
    char *copy = m->texts->bytes + m->texts->used;
    memcpy(copy, text.p, text.n);
    m->texts->used += text.n;
    return copy;
}

static struct words_memory_term *term_of(struct words_memory *m, size_t field, struct str text)
{
    uint64_t hash = words_term_hash(field, text);
    uint32_t *slot = find_slot(m, field, text, hash);
    if (*slot)
        return &m->terms[*slot - 1];
    if (m->term_count == m->term_capacity) {
        m->term_capacity = MAX(1024u, m->term_capacity * 2);
        m->terms = xrealloc(m->terms, m->term_capacity * sizeof(*m->terms));
    }
    struct words_memory_term *term = &m->terms[m->term_count++];
    *term = (struct words_memory_term){.text = keep_text(m, text),
                                       .text_n = (uint8_t)text.n,
                                       .field = (uint8_t)field,
                                       .hash = hash};
    *slot = m->term_count;
    if (m->term_count > m->slot_count / 2)
        grow_slots(m);
    return term;
}

/* ---- postings ---- */

static void put_number(struct words_memory *m, struct words_memory_term *term, uint32_t value)
{
    if (term->capacity - term->n < VARINT_BYTES_MAX) {
        uint32_t capacity = MAX((uint32_t)POSTING_BYTES_MIN, term->capacity * 2);
        m->posting_bytes += capacity - term->capacity;
        term->bytes = xrealloc(term->bytes, capacity);
        term->capacity = capacity;
    }
    term->n += (uint32_t)varint_put(term->bytes + term->n, value);
}

struct adding {
    struct words_memory *memory;
    size_t field;
    uint32_t terms; /* in this field so far: its length */
};

static void add_term(void *arg, const struct analyzer_term *token)
{
    struct adding *adding = arg;
    struct words_memory *m = adding->memory;
    struct words_memory_term *term = term_of(m, adding->field, token->text);
    uint32_t row = m->rows;
    adding->terms++;
    if (term->rows == 0 || term->last_row != row) {
        if (term->rows > 0)
            put_number(m, term, 0);
        put_number(m, term, term->rows ? row - term->last_row : row + 1);
        term->rows++;
        term->last_row = row;
        term->last_position = 0;
        put_number(m, term, token->position + 1);
    } else {
        put_number(m, term, token->position - term->last_position + 1);
    }
    term->last_position = token->position;
}

void words_memory_add(struct words_memory *m, struct analyzer *analyzer, const struct str *texts)
{
    ASSERT(m->rows < m->rows_max);
    for (size_t f = 0; f < m->fields; f++) {
        struct adding adding = {.memory = m, .field = f};
        if (texts[f].n)
            analyzer_run(analyzer, texts[f], add_term, &adding);
        uint32_t length = MIN(adding.terms, (uint32_t)WORDS_LENGTH_MAX);
        m->lengths[f][m->rows] = (uint16_t)length;
        m->stats.lengths[f] += length;
        m->stats.field_rows[f] += length > 0;
    }
    m->rows++;
    m->stats.rows = m->rows;
}

void words_memory_start(const struct words_memory_term *term, struct words_memory_cursor *cursor)
{
    *cursor = (struct words_memory_cursor){
        .at = term->bytes, .end = term->bytes + term->n, .next_row = UINT32_MAX};
}

bool words_memory_next(struct words_memory_cursor *c)
{
    if (c->at == c->end)
        return false;
    c->row = c->next_row + varint_get(&c->at, c->end);
    c->next_row = c->row;
    c->positions = c->at;
    c->frequency = 0;
    while (c->at < c->end && varint_get(&c->at, c->end) != 0)
        c->frequency++;
    return true;
}
