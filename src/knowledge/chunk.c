/* Cutting a document into chunks. A chunk is a range of the document's text, so that places in it
 * are places in the document; only a table's header, repeated over later rows, is put in front.
 *
 * By structure: whole blocks are packed up to the token limit; a heading begins a new chunk; a
 * block that does not fit by itself is cut into sentences (code: lines), those into words, those
 * into characters, the coarsest that fits. STATIC is the same with words only and no regard for
 * blocks. Tokens are counted once per piece and added up, which is exact for tokenizers that never
 * join words, and close for the others. */
#include "knowledge/chunk.h"
#include "base/utf8.h"
#include "knowledge/chunk_cut.h"

#define TOKENS_DEFAULT        250
#define PARENT_TOKENS_DEFAULT 1000
#define TOKENS_MAX            65536
#define PATH_DEPTH_MAX        8
#define PATH_PART_BYTES_MAX   160
#define HEADER_ROWS_MAX       3
#define WORD_BYTES_PER_TOKEN  16 /* a longer word is cut without being looked at as a whole */
#define SMALL_SHARE           6  /* a section smaller than max / this takes its subsections in */

struct unit {
    size_t begin, tokens;
};

/* One packing at work; PARENT_CHILD has two, one within the other. */
struct pack {
    struct chunker *chunker;
    size_t tokens_max, overlap_tokens;
    void (*emit)(struct pack *pack, size_t begin, size_t end, struct str prefix);
    /* The chunk that is open. */
    bool open, has_body;
    size_t begin, end, tokens;
    unsigned heading_level; /* of its first heading; 0: it has none */
    struct str prefix;      /* a table's header rows */
    size_t prefix_tokens;
    struct unit *units; /* what it was filled with while a long block was cut */
    size_t unit_count;
};

struct chunker {
    const struct extracted *document;
    const struct chunk_options *options;
    struct arena *arena;
    struct err *err;
    enum rc rc;      /* the first failure; nothing is added after it */
    uint32_t *above; /* per block: 1 + the heading it stands under; 0: none */
    uint32_t *table; /* per block: the first row of the table it is in */
    struct chunk *chunks;
    size_t count, capacity;
    struct str context; /* of the chunks now made */
    uint32_t path_of;   /* `path` belongs to this value of `above` */
    struct str path;
};

static size_t count_tokens(const struct chunker *chunker, struct str text)
{
    const struct chunk_options *options = chunker->options;
    size_t tokens =
        options->count_tokens ? options->count_tokens(options->arg, text) : (text.n + 3) / 4;
    return MAX(tokens, 1);
}

static void no_memory(struct chunker *chunker)
{
    chunker->rc =
        err_set(chunker->err, ERR_TOO_LARGE, "the document's chunks take too much memory");
}

/* ---- headings ---- */

/* One pass over the blocks, so that a chunk's place is found without looking back. */
static bool survey(struct chunker *chunker)
{
    const struct extracted *document = chunker->document;
    uint32_t open[PATH_DEPTH_MAX + 2] = {0}; /* per level, 1 + the heading that is in force */
    chunker->above = ARENA_NEW_ARRAY(chunker->arena, uint32_t, document->block_count + 1);
    chunker->table = ARENA_NEW_ARRAY(chunker->arena, uint32_t, document->block_count + 1);
    if (!chunker->above || !chunker->table)
        return false;
    for (size_t i = 0; i < document->block_count; i++) {
        const struct extract_block *block = &document->blocks[i];
        bool follows = i && block->kind == BLOCK_TABLE_ROW && block[-1].kind == BLOCK_TABLE_ROW &&
                       !(block->level == 1 && block[-1].level != 1);
        chunker->table[i] = follows ? chunker->table[i - 1] : (uint32_t)i;
        unsigned level = block->kind == BLOCK_HEADING ? MAX(1, MIN(block->level, PATH_DEPTH_MAX))
                                                      : PATH_DEPTH_MAX + 1;
        for (unsigned above = level; above-- > 1 && !chunker->above[i];)
            chunker->above[i] = open[above];
        if (block->kind != BLOCK_HEADING)
            continue;
        open[level] = (uint32_t)i + 1;
        for (unsigned below = level + 1; below <= PATH_DEPTH_MAX; below++)
            open[below] = 0;
    }
    return true;
}

static struct str path_part(const struct chunker *chunker, uint32_t heading)
{
    const struct extract_block *block = &chunker->document->blocks[heading - 1];
    struct str text = str_slice(chunker->document->text, block->begin, block->end);
    return str_slice(text, 0, utf8_cut(text, PATH_PART_BYTES_MAX));
}

/* "Guide › Install"; built once for all chunks under the same heading. */
static struct str path_of(struct chunker *chunker, uint32_t heading)
{
    if (heading == chunker->path_of)
        return chunker->path;
    struct str path = STR_EMPTY;
    for (uint32_t at = heading, depth = 0; at && depth < PATH_DEPTH_MAX; depth++) {
        struct str part = path_part(chunker, at), rest = path;
        path = rest.n ? arena_printf(chunker->arena, "%.*s › %.*s", STR_ARG(part), STR_ARG(rest))
                      : arena_copy(chunker->arena, part);
        if (!path.p) {
            no_memory(chunker);
            return STR_EMPTY;
        }
        at = chunker->above[at - 1];
    }
    char *p = (char *)path.p;
    for (size_t i = 0; i < path.n; i++)
        if (p[i] == '\n')
            p[i] = ' ';
    chunker->path_of = heading;
    chunker->path = path;
    return path;
}

/* ---- chunks ---- */

/* The block that holds or follows byte `at`. */
static size_t block_at(const struct extracted *document, size_t at)
{
    size_t low = 0, high = document->block_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (document->blocks[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool make_room(struct chunker *chunker)
{
    if (chunker->count < chunker->capacity)
        return true;
    size_t capacity = MAX(chunker->capacity * 2, 32);
    struct chunk *chunks = ARENA_NEW_ARRAY(chunker->arena, struct chunk, capacity);
    if (!chunks)
        return false;
    if (chunker->count)
        memcpy(chunks, chunker->chunks, chunker->count * sizeof(*chunks));
    chunker->chunks = chunks;
    chunker->capacity = capacity;
    return true;
}

static void note_place(const struct chunker *chunker, struct chunk *chunk)
{
    const struct extracted *document = chunker->document;
    size_t first = block_at(document, chunk->begin), last = first;
    ASSERT(first < document->block_count); /* what is not white is in a block */
    while (last + 1 < document->block_count && document->blocks[last + 1].begin < chunk->end)
        last++;
    chunk->block_first = (uint32_t)first;
    chunk->block_count = (uint32_t)(last - first + 1);
    chunk->page_first = document->blocks[first].page;
    chunk->page_last = document->blocks[last].page;
}

static void add_chunk(struct chunker *chunker, size_t begin, size_t end, struct str prefix)
{
    struct str text = chunk_trim(str_slice(chunker->document->text, begin, end));
    if (!text.n || chunker->rc != RC_OK)
        return;
    if (!make_room(chunker)) {
        no_memory(chunker);
        return;
    }
    struct chunk *chunk = &chunker->chunks[chunker->count++];
    *chunk = (struct chunk){.text = text, .context = chunker->context};
    chunk->begin = (uint32_t)(text.p - chunker->document->text.p);
    chunk->end = chunk->begin + (uint32_t)text.n;
    note_place(chunker, chunk);
    chunk->headings = path_of(chunker, chunker->above[chunk->block_first]);
    if (prefix.n) {
        chunk->text = arena_printf(chunker->arena, "%.*s\n%.*s", STR_ARG(prefix), STR_ARG(text));
        if (!chunk->text.p)
            no_memory(chunker);
    }
}

static void emit_chunk(struct pack *pack, size_t begin, size_t end, struct str prefix)
{
    add_chunk(pack->chunker, begin, end, prefix);
}

/* ---- packing ---- */

static void pack_flush(struct pack *pack)
{
    if (pack->open)
        pack->emit(pack, pack->begin, pack->end, pack->prefix);
    pack->open = pack->has_body = false;
    pack->tokens = pack->unit_count = 0;
    pack->heading_level = 0;
    pack->prefix = STR_EMPTY;
    pack->prefix_tokens = 0;
}

static void pack_add(struct pack *pack, size_t begin, size_t end, size_t tokens)
{
    if (!pack->open)
        pack->begin = begin;
    pack->open = true;
    pack->end = end;
    pack->tokens += tokens;
}

/* Ends the chunk within a long block: the next begins with the last units of this one, as many as
 * the overlap takes. */
static void pack_turn(struct pack *pack, size_t next_tokens)
{
    size_t keep = pack->unit_count, tokens = 0, end = pack->end;
    struct str prefix = pack->prefix;
    size_t prefix_tokens = pack->prefix_tokens;
    size_t room = pack->tokens_max - MIN(next_tokens + prefix_tokens, pack->tokens_max);
    room = MIN(room, pack->overlap_tokens);
    while (keep > 1 && tokens + pack->units[keep - 1].tokens <= room)
        tokens += pack->units[--keep].tokens;
    size_t kept = tokens ? pack->unit_count - keep : 0;
    if (kept)
        memmove(pack->units, pack->units + keep, kept * sizeof(*pack->units));
    pack_flush(pack);
    pack->prefix = prefix;
    pack->tokens = pack->prefix_tokens = prefix_tokens;
    if (kept) {
        pack_add(pack, pack->units[0].begin, end, tokens);
        pack->unit_count = kept;
    }
}

static void pack_unit(struct pack *pack, size_t begin, size_t end, size_t tokens)
{
    if (pack->open && pack->tokens + tokens > pack->tokens_max)
        pack_turn(pack, tokens);
    if (!pack->open && pack->prefix_tokens + tokens > pack->tokens_max) {
        pack->prefix = STR_EMPTY;
        pack->tokens = pack->prefix_tokens = 0;
    }
    pack_add(pack, begin, end, tokens);
    /* Each unit has a token at least; what does not fit any more cannot be overlap either. */
    if (pack->unit_count < pack->tokens_max)
        pack->units[pack->unit_count++] = (struct unit){begin, tokens};
}

/* The next word, or as many of its characters as fit into a chunk. */
static size_t cut_word(const struct pack *pack, struct str text, size_t *tokens)
{
    struct str reach = str_slice(text, 0, utf8_cut(text, pack->tokens_max * WORD_BYTES_PER_TOKEN));
    size_t n = chunk_cut(reach, CUT_WORD);
    *tokens = count_tokens(pack->chunker, str_slice(text, 0, n));
    if (*tokens > pack->tokens_max) {
        n = MAX(utf8_cut(text, n * pack->tokens_max / *tokens / 2), chunk_cut(text, CUT_CHARACTER));
        *tokens = count_tokens(pack->chunker, str_slice(text, 0, n));
    }
    return n;
}

/* A range that is too long for one chunk, cut at this grain and below. */
static void pack_long(struct pack *pack, size_t begin, size_t end, enum cut_grain grain)
{
    struct str text = pack->chunker->document->text;
    while (begin < end && pack->chunker->rc == RC_OK) {
        struct str rest = str_slice(text, begin, end);
        size_t tokens, n;
        if (grain == CUT_WORD) {
            n = cut_word(pack, rest, &tokens);
        } else {
            n = chunk_cut(rest, grain);
            tokens = count_tokens(pack->chunker, str_slice(rest, 0, n));
        }
        if (tokens > pack->tokens_max && grain != CUT_CHARACTER)
            pack_long(pack, begin, begin + n, grain + 1);
        else
            pack_unit(pack, begin, begin + n, tokens);
        begin += n;
    }
    pack->has_body = true;
}

static void pack_heading(struct pack *pack, const struct extract_block *block, size_t begin,
                         size_t end, size_t tokens)
{
    bool small = pack->tokens * SMALL_SHARE < pack->tokens_max;
    bool below = pack->heading_level && block->level > pack->heading_level;
    if ((pack->has_body && !(small && below)) || pack->tokens + tokens > pack->tokens_max)
        pack_flush(pack);
    if (!pack->open)
        pack->heading_level = MAX(block->level, 1);
    if (tokens > pack->tokens_max)
        pack_long(pack, begin, end, CUT_SENTENCE);
    else
        pack_add(pack, begin, end, tokens);
}

/* The header rows of the table that row `at` is in, those before it. */
static struct str table_header(const struct chunker *chunker, size_t at)
{
    const struct extract_block *blocks = chunker->document->blocks;
    size_t from = chunker->table[at], last = from;
    while (last < at && last - from < HEADER_ROWS_MAX && blocks[last].level == 1)
        last++;
    if (last == from)
        return STR_EMPTY;
    return str_slice(chunker->document->text, blocks[from].begin, blocks[last - 1].end);
}

/* A new chunk that begins within a table gets the header, unless that would fill half of it. */
static void pack_row(struct pack *pack, struct str header, size_t begin, size_t end, size_t tokens)
{
    if (pack->open && pack->tokens + tokens > pack->tokens_max)
        pack_flush(pack);
    if (!pack->open && header.n) {
        size_t header_tokens = count_tokens(pack->chunker, header);
        if (header_tokens * 2 <= pack->tokens_max) {
            pack->prefix = header;
            pack->tokens = pack->prefix_tokens = header_tokens;
        }
    }
    if (pack->tokens + tokens > pack->tokens_max)
        pack_long(pack, begin, end, CUT_SENTENCE);
    else
        pack_add(pack, begin, end, tokens);
    pack->has_body = true;
}

/* The blocks of a byte range, clipped to it. */
static void pack_structure(struct pack *pack, size_t begin, size_t end)
{
    const struct extracted *document = pack->chunker->document;
    for (size_t i = block_at(document, begin);
         i < document->block_count && document->blocks[i].begin < end; i++) {
        const struct extract_block *block = &document->blocks[i];
        size_t from = MAX(block->begin, begin), to = MIN(block->end, end);
        size_t tokens = count_tokens(pack->chunker, str_slice(document->text, from, to));
        if (block->kind == BLOCK_HEADING) {
            pack_heading(pack, block, from, to, tokens);
        } else if (block->kind == BLOCK_TABLE_ROW) {
            pack_row(pack, table_header(pack->chunker, i), from, to, tokens);
        } else if (tokens > pack->tokens_max) {
            pack_long(pack, from, to, block->kind == BLOCK_CODE ? CUT_LINE : CUT_SENTENCE);
        } else {
            if (pack->tokens + tokens > pack->tokens_max)
                pack_flush(pack);
            pack_add(pack, from, to, tokens);
            pack->has_body = true;
        }
        pack->unit_count = tokens > pack->tokens_max ? pack->unit_count : 0;
    }
    pack_flush(pack);
}

static bool pack_init(struct pack *pack, struct chunker *chunker, size_t tokens_max)
{
    *pack = (struct pack){.chunker = chunker, .tokens_max = tokens_max, .emit = emit_chunk};
    pack->overlap_tokens = MIN(chunker->options->overlap_tokens, tokens_max / 2);
    pack->units = ARENA_NEW_ARRAY(chunker->arena, struct unit, tokens_max);
    if (!pack->units)
        no_memory(chunker);
    return pack->units != NULL;
}

/* ---- strategies ---- */

struct parent_pack {
    struct pack pack;
    struct pack children;
};

static void emit_parent(struct pack *pack, size_t begin, size_t end, struct str prefix)
{
    struct parent_pack *parent = CONTAINER_OF(pack, struct parent_pack, pack);
    struct chunker *chunker = pack->chunker;
    chunker->context = chunk_trim(str_slice(chunker->document->text, begin, end));
    if (prefix.n) {
        chunker->context =
            arena_printf(chunker->arena, "%.*s\n%.*s", STR_ARG(prefix), STR_ARG(chunker->context));
        if (!chunker->context.p)
            no_memory(chunker);
    }
    pack_structure(&parent->children, begin, end);
}

static void chunk_parents(struct chunker *chunker, size_t tokens_max)
{
    struct parent_pack parent;
    size_t parent_tokens =
        chunker->options->parent_tokens ? chunker->options->parent_tokens : PARENT_TOKENS_DEFAULT;
    if (!pack_init(&parent.pack, chunker, MIN(MAX(parent_tokens, tokens_max), TOKENS_MAX)) ||
        !pack_init(&parent.children, chunker, tokens_max))
        return;
    parent.pack.overlap_tokens = 0;
    parent.pack.emit = emit_parent;
    pack_structure(&parent.pack, 0, chunker->document->text.n);
}

/* Each sentence, row and piece of code by itself; a heading goes with what follows it. */
static void chunk_sentences(struct chunker *chunker, size_t tokens_max)
{
    const struct extracted *document = chunker->document;
    struct pack pack;
    if (!pack_init(&pack, chunker, tokens_max))
        return;
    pack.overlap_tokens = 0;
    for (size_t i = 0; i < document->block_count; i++) {
        const struct extract_block *block = &document->blocks[i];
        bool heading = block->kind == BLOCK_HEADING;
        bool whole = heading || block->kind == BLOCK_TABLE_ROW || block->kind == BLOCK_CODE;
        for (size_t at = block->begin; at < block->end;) {
            struct str rest = str_slice(document->text, at, block->end);
            size_t n = whole ? rest.n : chunk_cut(rest, CUT_SENTENCE);
            size_t tokens = count_tokens(chunker, str_slice(rest, 0, n));
            if (tokens > tokens_max)
                pack_long(&pack, at, at + n, block->kind == BLOCK_CODE ? CUT_LINE : CUT_WORD);
            else
                pack_unit(&pack, at, at + n, tokens);
            if (!heading)
                pack_flush(&pack);
            at += n;
        }
    }
    pack_flush(&pack);
}

/* The neighbours under the same headings. */
static void add_windows(struct chunker *chunker)
{
    size_t reach = chunker->options->window_sentences ? chunker->options->window_sentences : 3;
    struct chunk *chunks = chunker->chunks;
    size_t section = 0; /* where the run of equal headings begins */
    for (size_t i = 0; i < chunker->count; i++) {
        if (i && !str_eq(chunks[i].headings, chunks[i - 1].headings))
            section = i;
        size_t first = i - MIN(reach, i - section), last = i;
        while (last + 1 < chunker->count && last - i < reach &&
               str_eq(chunks[last + 1].headings, chunks[i].headings))
            last++;
        chunks[i].context =
            str_slice(chunker->document->text, chunks[first].begin, chunks[last].end);
    }
}

enum rc chunk_document(const struct extracted *document, const struct chunk_options *options,
                       struct arena *arena, struct chunk **out, size_t *count, struct err *err)
{
    struct chunker chunker = {.document = document, .options = options, .arena = arena, .err = err};
    size_t tokens_max = MIN(options->tokens_max ? options->tokens_max : TOKENS_DEFAULT, TOKENS_MAX);
    struct pack pack;
    *out = NULL;
    *count = 0;
    if (!document->block_count)
        return RC_OK;
    if (!survey(&chunker))
        no_memory(&chunker);
    else if (options->strategy == CHUNK_PARENT_CHILD)
        chunk_parents(&chunker, tokens_max);
    else if (options->strategy == CHUNK_SENTENCE_WINDOW)
        chunk_sentences(&chunker, tokens_max);
    else if (!pack_init(&pack, &chunker, tokens_max))
        return chunker.rc;
    else if (options->strategy == CHUNK_STATIC) {
        pack_long(&pack, 0, document->text.n, CUT_WORD);
        pack_flush(&pack);
    } else {
        pack_structure(&pack, 0, document->text.n);
    }
    if (chunker.rc == RC_OK && options->strategy == CHUNK_SENTENCE_WINDOW)
        add_windows(&chunker);
    *out = chunker.chunks;
    *count = chunker.count;
    return chunker.rc;
}
