/* One document from its file to its chunks: extract, cut, encode, index. A worker's task.
 *
 * Chunks go into the index in groups, so that memory stays bounded whatever the document's size.
 * Their ids follow from the document's and their ordinals: what is done twice, after a crash, gives
 * the same rows. Only the claim and the end are written to the control database. */
#include "base/clock.h"
#include "base/log.h"
#include "knowledge/knowledge_private.h"
#include "knowledge/scan.h"
#include "text/json_tree.h"
#include <stdlib.h>

#define INGEST_ARENA_BYTES_MAX (512ll * 1024 * 1024)
#define GROUP_ARENA_BYTES_MAX  (64 * 1024 * 1024)
#define GROUP_CHUNKS           128 /* encoded and indexed together */
#define CHUNKS_MAX             1000000
#define CHUNK_RECTS_MAX        256
#define CONTEXT_BYTES_MAX      (24 * 1024)
#define HEADINGS_BYTES_MAX     1024

size_t chunk_id_format(struct id document, size_t ordinal, char out[CHUNK_ID_BYTES_MAX])
{
    uint8_t seed[sizeof(document.bytes) + 4], digest[SHA256_BYTES];
    struct id id;
    memcpy(seed, document.bytes, sizeof(document.bytes));
    for (int i = 0; i < 4; i++)
        seed[sizeof(document.bytes) + (size_t)i] = (uint8_t)(ordinal >> (8 * i));
    hash_sha256(seed, sizeof(seed), digest);
    memcpy(id.bytes, digest, sizeof(id.bytes));
    return id_format(id, "chunk", out);
}

/* ---- encoding ---- */

/* With the model's prefix before it, where it has one. */
static struct str with_prefix(struct str prefix, struct str text, struct arena *arena)
{
    return prefix.n ? arena_concat(arena, prefix, text) : text;
}

static enum rc encode_texts(struct encoder *encoder, struct str prefix, const struct str *texts,
                            size_t count, struct arena *arena, float **vectors, struct err *err)
{
    struct str *prefixed = ARENA_NEW_ARRAY(arena, struct str, count);
    *vectors = ARENA_NEW_ARRAY(arena, float, count *encoder_dimension(encoder));
    if (!prefixed || !*vectors)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for so many vectors");
    for (size_t i = 0; i < count; i++) {
        prefixed[i] = with_prefix(prefix, texts[i], arena);
        if (!prefixed[i].p && texts[i].n)
            return err_set(err, ERR_TOO_LARGE, "there is no memory for so many texts");
    }
    return encoder_encode(encoder, prefixed, count, *vectors, NULL, err);
}

enum rc knowledge_encode(struct knowledge *knowledge, const struct collection *collection,
                         const struct str *texts, size_t count, bool query, struct arena *arena,
                         float **vectors, unsigned *dimension, struct err *err)
{
    const struct collection_spec *spec = &collection->spec;
    struct encoder *encoder;
    *vectors = NULL;
    *dimension = 0;
    if (!collection_has_encoder(spec) || !knowledge->encoders)
        return RC_OK;
    enum rc rc = encoders_get(knowledge->encoders, spec->encoder, &encoder, err);
    if (rc != RC_OK)
        return rc;
    *dimension = encoder_dimension(encoder);
    rc = encode_texts(encoder, query ? spec->query_prefix : spec->document_prefix, texts, count,
                      arena, vectors, err);
    encoders_put(knowledge->encoders, encoder);
    return rc;
}

/* ---- one run over a document ---- */

struct ingest {
    struct knowledge *knowledge;
    const struct collection *collection;
    struct document_row *row;
    volatile bool *cancelled;
    struct index *index;
    struct encoder *encoder; /* NULL: words only */
    struct arena arena;      /* the document and its chunks */
    struct extracted document;
    struct chunk_options chunking;
    struct chunk *chunks;
    size_t count;
    yyjson_val *attributes, *tags;
    struct ingest_claim *claim; /* NULL: beside */
    bool beside;                /* into an index that is not in force yet: nobody is told */
};

static size_t count_tokens(void *arg, struct str text) { return encoder_count_tokens(arg, text); }

static void tell_state(struct ingest *ingest, enum document_state state)
{
    if (ingest->beside)
        return;
    ingest->row->state = state;
    knowledge_tell(ingest->knowledge, ingest->row);
}

static enum rc read_row_json(struct ingest *ingest, struct err *err)
{
    yyjson_doc *doc;
    enum rc rc = RC_OK;
    if (ingest->row->attributes.n) {
        rc = json_read(ingest->row->attributes, &ingest->arena, &doc, err);
        ingest->attributes = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
    }
    if (rc == RC_OK && ingest->row->tags.n) {
        rc = json_read(ingest->row->tags, &ingest->arena, &doc, err);
        ingest->tags = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
    }
    ingest->chunking = ingest->collection->spec.chunking;
    if (rc == RC_OK && ingest->row->chunking.n) {
        rc = json_read(ingest->row->chunking, &ingest->arena, &doc, err);
        if (rc == RC_OK)
            rc = collection_decode_chunking(yyjson_doc_get_root(doc), "chunking", &ingest->chunking,
                                            err);
    }
    return rc;
}

static enum rc open_parts(struct ingest *ingest, struct err *err)
{
    struct knowledge *knowledge = ingest->knowledge;
    const struct collection_spec *spec = &ingest->collection->spec;
    enum rc rc = knowledge_index_get(knowledge, ingest->collection, &ingest->index, err);
    if (rc == RC_OK && collection_has_encoder(spec)) {
        rc = encoders_get(knowledge->encoders, spec->encoder, &ingest->encoder, err);
        if (rc == RC_OK) {
            ingest->chunking.count_tokens = count_tokens;
            ingest->chunking.arg = ingest->encoder;
        }
    }
    return rc;
}

static enum rc extract(struct ingest *ingest, struct err *err)
{
    char path[BLOB_PATH_BYTES_MAX];
    struct blob_id blob;
    memcpy(blob.sha256, ingest->row->sha256, SHA256_BYTES);
    blob_locate(ingest->knowledge->blobs, &blob, path);
    const struct collection_scans *scans = &ingest->collection->spec.scans;
    const struct extract_limits limits = {.no_ocr = scans->by != SCANS_TESSERACT,
                                          .cancelled = ingest->cancelled};
    struct err why = {0};
    enum rc rc = extract_file(path, ingest->row->name, ingest->row->content_type, &limits,
                              &ingest->arena, &ingest->document, &why);
    bool unread = rc == RC_OK ? ingest->document.no_text : why.code == ERR_MEDIA_TYPE;
    if (unread && scan_goes_out(scans)) {
        const struct scan scan = {.knowledge = ingest->knowledge,
                                  .collection = ingest->collection,
                                  .path = path,
                                  .file_name = ingest->row->name,
                                  .cancelled = ingest->cancelled,
                                  .arena = &ingest->arena};
        return scan_read(&scan, &ingest->document, err);
    }
    if (rc != RC_OK && err)
        *err = why;
    return rc;
}

/* ---- a chunk as a row of the index ---- */

static void put_rects(struct ingest *ingest, const struct chunk *chunk, yyjson_mut_doc *doc,
                      yyjson_mut_val *payload)
{
    yyjson_mut_val *rects = NULL;
    size_t end = MIN((size_t)chunk->block_first + chunk->block_count, ingest->document.block_count);
    for (size_t i = chunk->block_first, n = 0; i < end && n < CHUNK_RECTS_MAX; i++) {
        const struct extract_block *block = &ingest->document.blocks[i];
        const struct extract_rect *rect = &block->rect;
        if (rect->x1 <= rect->x0 || rect->y1 <= rect->y0)
            continue;
        if (!rects)
            rects = yyjson_mut_obj_add_arr(doc, payload, PAYLOAD_RECTS);
        yyjson_mut_val *one = yyjson_mut_arr_add_arr(doc, rects);
        yyjson_mut_arr_add_uint(doc, one, block->page);
        const float sides[] = {rect->x0, rect->y0, rect->x1, rect->y1};
        for (size_t s = 0; s < COUNT_OF(sides); s++) /* tenths of a point are enough */
            yyjson_mut_arr_add_real(doc, one, (double)(int64_t)(sides[s] * 10 + 0.5f) / 10);
        n++;
    }
}

static enum rc make_payload(struct ingest *ingest, size_t ordinal, struct arena *arena,
                            struct str *out, struct err *err)
{
    const struct chunk *chunk = &ingest->chunks[ordinal];
    char id[ID_TEXT_BYTES_MAX];
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *payload = doc && ingest->attributes
                                  ? yyjson_val_mut_copy(doc, ingest->attributes)
                              : doc ? yyjson_mut_obj(doc)
                                    : NULL;
    if (!payload)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for a chunk's data");
    size_t n = id_format(ingest->row->id, "doc", id);
    yyjson_mut_obj_add_strncpy(doc, payload, PAYLOAD_DOCUMENT, id, n);
    json_set_text(doc, payload, PAYLOAD_NAME, ingest->row->name);
    yyjson_mut_obj_add_uint(doc, payload, PAYLOAD_ORDINAL, ordinal);
    if (chunk->page_first) {
        yyjson_mut_obj_add_uint(doc, payload, PAYLOAD_PAGE, chunk->page_first);
        yyjson_mut_obj_add_uint(doc, payload, PAYLOAD_PAGE_LAST, chunk->page_last);
    }
    yyjson_mut_obj_add_uint(doc, payload, PAYLOAD_BEGIN, chunk->begin);
    yyjson_mut_obj_add_uint(doc, payload, PAYLOAD_END, chunk->end);
    if (chunk->context.n && chunk->context.n <= CONTEXT_BYTES_MAX)
        json_set_text(doc, payload, PAYLOAD_CONTEXT, chunk->context);
    if (yyjson_arr_size(ingest->tags))
        yyjson_mut_obj_add_val(doc, payload, "tags", yyjson_val_mut_copy(doc, ingest->tags));
    put_rects(ingest, chunk, doc, payload);
    return json_write_tree(payload, arena, out, err);
}

/* What a chunk is encoded as: its headings say what it is about, but never at the price of a second
 * window. */
static struct str embedded_text(struct ingest *ingest, const struct chunk *chunk,
                                struct arena *arena)
{
    if (chunk->headings.n == 0 || chunk->headings.n > HEADINGS_BYTES_MAX)
        return chunk->text;
    struct str both =
        arena_printf(arena, "%.*s\n%.*s", STR_ARG(chunk->headings), STR_ARG(chunk->text));
    if (!both.p ||
        encoder_count_tokens(ingest->encoder, both) + 2 > encoder_window_tokens(ingest->encoder))
        return chunk->text;
    return both;
}

/* The field beside the text: the document's title, or its name, and the path of headings. */
static struct str title_text(struct ingest *ingest, const struct chunk *chunk, struct arena *arena)
{
    struct str title = ingest->document.title.n ? ingest->document.title : ingest->row->name;
    if (chunk->headings.n == 0)
        return title;
    return arena_printf(arena, "%.*s › %.*s", (int)MIN(title.n, (size_t)HEADINGS_BYTES_MAX),
                        title.p, (int)MIN(chunk->headings.n, (size_t)HEADINGS_BYTES_MAX),
                        chunk->headings.p);
}

static enum rc index_group(struct ingest *ingest, size_t first, size_t count, struct arena *arena,
                           struct err *err)
{
    struct index_row *rows = ARENA_NEW_ARRAY(arena, struct index_row, count);
    struct str *texts = ARENA_NEW_ARRAY(arena, struct str, count);
    float *vectors = NULL;
    enum rc rc = RC_OK;
    if (!rows || !texts)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for the chunks");
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        const struct chunk *chunk = &ingest->chunks[first + i];
        char id[CHUNK_ID_BYTES_MAX];
        size_t n = chunk_id_format(ingest->row->id, first + i, id);
        rows[i].id = arena_copy(arena, str_make(id, n));
        rows[i].texts[0] = chunk->text;
        rows[i].texts[1] = title_text(ingest, chunk, arena);
        if (ingest->encoder)
            texts[i] = embedded_text(ingest, chunk, arena);
        rc = make_payload(ingest, first + i, arena, &rows[i].payload, err);
    }
    if (rc == RC_OK && ingest->encoder)
        rc = encode_texts(ingest->encoder, ingest->collection->spec.document_prefix, texts, count,
                          arena, &vectors, err);
    for (size_t i = 0; rc == RC_OK && vectors && i < count; i++)
        rows[i].vectors[0] = vectors + i * encoder_dimension(ingest->encoder);
    return rc == RC_OK ? index_upsert(ingest->index, rows, count, err) : rc;
}

static enum rc index_chunks(struct ingest *ingest, struct err *err)
{
    struct arena arena;
    enum rc rc = RC_OK;
    arena_init(&arena, GROUP_ARENA_BYTES_MAX);
    for (size_t first = 0; rc == RC_OK && first < ingest->count; first += GROUP_CHUNKS) {
        if (__atomic_load_n(ingest->cancelled, __ATOMIC_RELAXED))
            rc = RC_CANCELLED;
        else
            rc = index_group(ingest, first, MIN(ingest->count - first, (size_t)GROUP_CHUNKS),
                             &arena, err);
        ingest->row->chunks = (int64_t)first;
        tell_state(ingest, DOCUMENT_EMBEDDING);
        arena_reset(&arena);
    }
    arena_fini(&arena);
    return rc;
}

enum rc ingest_delete_chunks(struct index *index, struct id document, struct err *err)
{
    char id[ID_TEXT_BYTES_MAX];
    struct expression *filter;
    struct arena arena;
    id_format(document, "doc", id);
    arena_init(&arena, 64 * 1024);
    struct str text = arena_printf(&arena, PAYLOAD_DOCUMENT " == \"%s\"", id);
    enum rc rc = expression_parse(text, &arena, &filter, err);
    if (rc == RC_OK)
        rc = index_delete_where(index, filter, NULL, err);
    arena_fini(&arena);
    return rc;
}

static bool has_chunk(struct ingest *ingest, size_t ordinal)
{
    char id[CHUNK_ID_BYTES_MAX];
    struct index_row row;
    size_t n = chunk_id_format(ingest->row->id, ordinal, id);
    return index_get(ingest->index, str_make(id, n), &ingest->arena, &row, NULL) == RC_OK;
}

static enum rc delete_group(struct ingest *ingest, size_t first, struct err *err)
{
    char texts[GROUP_CHUNKS][CHUNK_ID_BYTES_MAX];
    struct str ids[GROUP_CHUNKS];
    for (size_t i = 0; i < GROUP_CHUNKS; i++)
        ids[i] = str_make(texts[i], chunk_id_format(ingest->row->id, first + i, texts[i]));
    return index_delete(ingest->index, ids, GROUP_CHUNKS, NULL, err);
}

/* Chunks that the document had when it was longer. They follow one another without a gap, and stay
 * so wherever a crash interrupts this: the last group goes first. */
static enum rc delete_rest(struct ingest *ingest, struct err *err)
{
    size_t end = ingest->count;
    while (end < CHUNKS_MAX && has_chunk(ingest, end))
        end += GROUP_CHUNKS;
    enum rc rc = RC_OK;
    while (rc == RC_OK && end > ingest->count) {
        end -= GROUP_CHUNKS;
        rc = delete_group(ingest, end, err);
    }
    return rc;
}

/* ---- the end ---- */

struct finishing {
    struct ingest *ingest;
    bool gone, again;             /* deleted, or queued anew with other content, meanwhile */
    struct document_row deleting; /* gone: what is left to delete; .id zero: nothing */
    uint8_t old_text[SHA256_BYTES];
    bool drop_old_text;
};

static enum rc queue_again(struct finishing *finishing, struct db_txn *txn,
                           struct document_row *now, struct err *err)
{
    struct job_row job;
    finishing->again = true;
    now->state = DOCUMENT_QUEUED;
    enum rc rc = document_row_update(txn, now, err);
    return rc == RC_OK
               ? knowledge_submit(finishing->ingest->knowledge, txn, now->project, now->collection,
                                  STR("system"), &finishing->ingest->arena, &job, err)
               : rc;
}

/* A rebuild that ended meanwhile has another index in force: the document must go into that one. */
static enum rc check_generation(struct finishing *finishing, struct db_txn *txn,
                                struct document_row *now, struct err *err)
{
    struct ingest *ingest = finishing->ingest;
    const struct collection_row *used = &ingest->collection->row;
    struct collection_row in_force;
    enum rc rc = collection_row_get(txn, used->project, used->id, &ingest->arena, &in_force, err);
    if (rc != RC_OK || in_force.generation == used->generation)
        return rc;
    return queue_again(finishing, txn, now, err);
}

static enum rc finish_row(void *arg, struct db_txn *txn, struct err *err)
{
    struct finishing *finishing = arg;
    struct document_row *row = finishing->ingest->row, now;
    enum rc rc = document_row_get(txn, row->project, row->collection, row->id,
                                  &finishing->ingest->arena, &now, err);
    if (rc == RC_NOT_FOUND) {
        finishing->gone = true;
        if (err)
            *err = (struct err){0};
        rc = document_row_get_deleting(txn, row->project, row->id, &finishing->ingest->arena,
                                       &finishing->deleting, err);
        return rc == RC_NOT_FOUND ? RC_OK : rc;
    }
    if (rc != RC_OK)
        return rc;
    if (now.state == DOCUMENT_QUEUED || !str_eq(now.attributes, row->attributes) ||
        !str_eq(now.tags, row->tags))
        return queue_again(finishing, txn, &now, err);
    if ((rc = check_generation(finishing, txn, &now, err)) != RC_OK || finishing->again)
        return rc;
    memcpy(finishing->old_text, now.text_sha256, SHA256_BYTES);
    finishing->drop_old_text =
        now.has_text &&
        (!row->has_text || memcmp(now.text_sha256, row->text_sha256, SHA256_BYTES) != 0);
    row->batch = now.batch;
    row->updated_ns = db_txn_now_ns(txn);
    return document_row_update(txn, row, err);
}

/* From here on the document may be claimed and deleted by others; of a deleted one nobody knows. */
static enum rc finish_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct finishing *finishing = arg;
    enum rc rc = finish_row(arg, txn, err);
    ingest_release(finishing->ingest->knowledge, finishing->ingest->claim);
    return rc;
}

static enum rc finish(struct ingest *ingest, enum rc result, const struct err *why, struct err *err)
{
    struct knowledge *knowledge = ingest->knowledge;
    struct document_row *row = ingest->row;
    struct finishing finishing = {.ingest = ingest};
    struct blob_id text;
    enum rc rc = RC_OK;
    bool has_text = result == RC_OK && ingest->document.text.n > 0;
    row->state = result != RC_OK      ? DOCUMENT_FAILED
                 : ingest->count == 0 ? DOCUMENT_NO_TEXT
                                      : DOCUMENT_READY;
    row->error = result != RC_OK ? str_from(why->message) : STR_EMPTY;
    row->error_code = result != RC_OK ? str_from(err_code_name(why->code)) : STR_EMPTY;
    row->chunks = (int64_t)ingest->count;
    row->has_text = false;
    pthread_rwlock_rdlock(&knowledge->blob_lock);
    if (has_text && (rc = blob_put(knowledge->blobs, ingest->document.text, &text)) == RC_OK) {
        memcpy(row->text_sha256, text.sha256, SHA256_BYTES);
        row->has_text = true;
    }
    if (rc == RC_OK)
        rc = db_write_wait(knowledge->db, finish_write, &finishing, err);
    pthread_rwlock_unlock(&knowledge->blob_lock);
    if (rc == RC_OK && finishing.gone && ingest->index)
        rc = ingest_delete_chunks(ingest->index, row->id, err);
    if (rc == RC_OK && !id_is_zero(finishing.deleting.id))
        rc = document_end_deletion(knowledge, ingest->collection, &finishing.deleting, err);
    if ((finishing.gone || finishing.again) && row->has_text)
        knowledge_drop_blob(knowledge, row->text_sha256);
    if (finishing.drop_old_text)
        knowledge_drop_blob(knowledge, finishing.old_text);
    if (rc == RC_OK && !finishing.gone && !finishing.again)
        knowledge_tell(knowledge, row);
    return rc;
}

static enum rc find_deleting(void *arg, struct db_txn *txn, struct err *err)
{
    struct finishing *finishing = arg;
    const struct document_row *row = finishing->ingest->row;
    ingest_release(finishing->ingest->knowledge, finishing->ingest->claim);
    enum rc rc = document_row_get_deleting(txn, row->project, row->id, &finishing->ingest->arena,
                                           &finishing->deleting, err);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

/* Whoever deleted the document meanwhile left the end to us. */
static enum rc end_cancelled(struct ingest *ingest, struct err *err)
{
    struct finishing finishing = {.ingest = ingest};
    enum rc rc = db_write_wait(ingest->knowledge->db, find_deleting, &finishing, err);
    return rc == RC_OK && !id_is_zero(finishing.deleting.id)
               ? document_end_deletion(ingest->knowledge, ingest->collection, &finishing.deleting,
                                       err)
               : rc;
}

static void measure(struct ingest *ingest)
{
    struct document_row *row = ingest->row;
    row->format = str_from(extract_format_name(ingest->document.format));
    row->pages = (int64_t)ingest->document.page_count;
    row->text_bytes = (int64_t)ingest->document.text.n;
    row->tokens = 0;
    for (size_t i = 0; i < ingest->count; i++)
        row->tokens += ingest->encoder
                           ? (int64_t)encoder_count_tokens(ingest->encoder, ingest->chunks[i].text)
                           : (int64_t)(ingest->chunks[i].text.n + 3) / 4;
}

static enum rc run_stages(struct ingest *ingest, struct err *err)
{
    tell_state(ingest, DOCUMENT_PARSING);
    enum rc rc = extract(ingest, err);
    if (rc == RC_OK && __atomic_load_n(ingest->cancelled, __ATOMIC_RELAXED))
        rc = RC_CANCELLED;
    if (rc == RC_OK) {
        tell_state(ingest, DOCUMENT_CHUNKING);
        rc = chunk_document(&ingest->document, &ingest->chunking, &ingest->arena, &ingest->chunks,
                            &ingest->count, err);
    }
    if (rc == RC_OK && ingest->count > CHUNKS_MAX)
        rc = err_set(err, ERR_TOO_LARGE, "the document gives more than %d chunks", CHUNKS_MAX);
    if (rc == RC_OK) {
        tell_state(ingest, DOCUMENT_EMBEDDING);
        measure(ingest);
        rc = index_chunks(ingest, err);
    }
    return rc == RC_OK ? delete_rest(ingest, err) : rc;
}

static void close_parts(struct ingest *ingest)
{
    struct knowledge *knowledge = ingest->knowledge;
    if (ingest->encoder)
        encoders_put(knowledge->encoders, ingest->encoder);
    if (ingest->index) {
        knowledge_index_changed(knowledge, ingest->index);
        knowledge_index_put(knowledge, ingest->index);
    }
    /* The row's texts may live in the arena that goes now. */
    ingest->row->error = ingest->row->error_code = ingest->row->format = STR_EMPTY;
    ingest->row->attributes = STR_EMPTY;
    arena_fini(&ingest->arena);
}

enum rc ingest_beside(struct knowledge *knowledge, const struct collection *target,
                      struct document_row *row, volatile bool *cancelled, struct err *err)
{
    struct ingest ingest = {.knowledge = knowledge,
                            .collection = target,
                            .row = row,
                            .cancelled = cancelled,
                            .beside = true};
    arena_init(&ingest.arena, INGEST_ARENA_BYTES_MAX);
    enum rc rc = read_row_json(&ingest, err);
    if (rc == RC_OK)
        rc = open_parts(&ingest, err);
    if (rc == RC_OK)
        rc = run_stages(&ingest, err);
    row->chunks = (int64_t)ingest.count;
    close_parts(&ingest);
    return rc;
}

enum rc ingest_document(struct knowledge *knowledge, const struct collection *collection,
                        struct document_row *row, struct ingest_claim *claim,
                        volatile bool *cancelled, struct err *err)
{
    struct ingest ingest = {.knowledge = knowledge,
                            .collection = collection,
                            .row = row,
                            .claim = claim,
                            .cancelled = cancelled};
    struct err why = {0};
    arena_init(&ingest.arena, INGEST_ARENA_BYTES_MAX);
    enum rc rc = read_row_json(&ingest, &why);
    if (rc == RC_OK)
        rc = open_parts(&ingest, &why);
    if (rc == RC_OK)
        rc = run_stages(&ingest, &why);
    if (rc != RC_OK && rc != RC_CANCELLED) {
        if (why.code == ERR_NONE)
            err_set(&why, ERR_INTERNAL, "it could not be taken in (%s)", rc_name(rc));
        ingest.count = 0; /* nothing half-done stays */
        if (ingest.index && ingest_delete_chunks(ingest.index, row->id, NULL) != RC_OK)
            log_event(LOG_WARN, "chunks_left_behind", LOG_STR("document", row->name));
    }
    if (rc != RC_CANCELLED)
        rc = finish(&ingest, rc, &why, err);
    else if (end_cancelled(&ingest, err) != RC_OK)
        log_event(LOG_WARN, "deletion_waits_for_restart", LOG_STR("document", row->name));
    close_parts(&ingest);
    return rc;
}
