/* See run_index.h. Rows stand in two lists, under way and ended, each in order of starting and
 * ending, and all of them in one by `seq`, which is what is paged through; a map finds them by id.
 */
#include "pipeline/engine/run_index.h"
#include "base/list.h"
#include "base/map.h"
#include <pthread.h>
#include <stdlib.h>

struct row {
    struct list node;    /* of `open` or `ended` */
    struct list started; /* of `all` */
    struct run_index_row row;
    uint64_t hold_seq; /* oldest record that this run needs; 0: none */
    char texts[];
};

struct wait {
    struct list node;
    struct run_index_wait wait;
    char texts[];
};

struct run_index {
    pthread_mutex_t lock;
    struct list open, ended; /* oldest first */
    struct list all;         /* by seq, smallest first */
    size_t ended_count, wait_count;
    struct map by_id;
    struct list waits;
    uint64_t seq_next;
};

struct run_index *run_index_new(void)
{
    struct run_index *index = xcalloc(1, sizeof(*index));
    pthread_mutex_init(&index->lock, NULL);
    list_init(&index->open);
    list_init(&index->ended);
    list_init(&index->all);
    list_init(&index->waits);
    map_init(&index->by_id);
    index->seq_next = 1;
    return index;
}

static struct str id_key(const struct id *id) { return str_make(id->bytes, sizeof(id->bytes)); }

static void row_free(struct run_index *index, struct row *row)
{
    map_remove(&index->by_id, id_key(&row->row.head.id));
    list_remove(&row->node);
    list_remove(&row->started);
    free((char *)row->row.json.p);
    free(row);
}

void run_index_free(struct run_index *index)
{
    LIST_FOR_EACH_SAFE (row, &index->open, struct row, node)
        row_free(index, row);
    LIST_FOR_EACH_SAFE (row, &index->ended, struct row, node)
        row_free(index, row);
    LIST_FOR_EACH_SAFE (wait, &index->waits, struct wait, node) {
        list_remove(&wait->node);
        free(wait);
    }
    map_fini(&index->by_id);
    pthread_mutex_destroy(&index->lock);
    free(index);
}

static struct row *row_new(struct run_index *index, const struct run_head *head)
{
    struct row *row = xcalloc(1, sizeof(*row) + head->pipeline.n + head->trigger.n + 1);
    row->row.head = *head;
    memcpy(row->texts, head->pipeline.p ? head->pipeline.p : "", head->pipeline.n);
    row->row.head.pipeline = str_make(row->texts, head->pipeline.n);
    memcpy(row->texts + head->pipeline.n, head->trigger.p ? head->trigger.p : "", head->trigger.n);
    row->row.head.trigger = str_make(row->texts + head->pipeline.n, head->trigger.n);
    row->row.seq = index->seq_next++;
    list_push_back(&index->all, &row->started);
    map_put(&index->by_id, id_key(&row->row.head.id), row);
    return row;
}

void run_index_begin(struct run_index *index, const struct run_head *head, int loop,
                     uint64_t hold_seq)
{
    pthread_mutex_lock(&index->lock);
    struct row *row = map_get(&index->by_id, id_key(&head->id));
    if (!row) {
        row = row_new(index, head);
        list_push_back(&index->open, &row->node);
    }
    row->row.loop = loop;
    if (hold_seq)
        row->hold_seq = hold_seq;
    pthread_mutex_unlock(&index->lock);
}

void run_index_set_status(struct run_index *index, struct id run, enum run_status status)
{
    pthread_mutex_lock(&index->lock);
    struct row *row = map_get(&index->by_id, id_key(&run));
    if (row)
        row->row.head.status = (uint8_t)status;
    pthread_mutex_unlock(&index->lock);
}

static void keep_ended(struct run_index *index, struct row *row)
{
    list_remove(&row->node);
    list_push_back(&index->ended, &row->node);
    if (++index->ended_count <= INDEX_ROWS_MAX)
        return;
    row_free(index, LIST_FIRST(&index->ended, struct row, node));
    index->ended_count--;
}

void run_index_end(struct run_index *index, const struct run_head *head, struct str json)
{
    char *copy = json.n ? xmalloc(json.n) : NULL;
    if (copy)
        memcpy(copy, json.p, json.n);
    pthread_mutex_lock(&index->lock);
    struct row *row = map_get(&index->by_id, id_key(&head->id));
    if (!row) {
        row = row_new(index, head);
        list_init(&row->node);
    }
    struct str pipeline = row->row.head.pipeline, trigger = row->row.head.trigger;
    row->row.head = *head;
    row->row.head.pipeline = pipeline;
    row->row.head.trigger = trigger;
    row->row.loop = -1;
    row->row.json = str_make(copy, json.n);
    row->hold_seq = 0;
    keep_ended(index, row);
    pthread_mutex_unlock(&index->lock);
}

void run_index_locate(struct run_index *index, struct id run, uint64_t location, uint64_t seq)
{
    pthread_mutex_lock(&index->lock);
    struct row *row = map_get(&index->by_id, id_key(&run));
    if (row) {
        row->row.location = location;
        free((char *)row->row.json.p);
        row->row.json = STR_EMPTY;
        row->hold_seq = seq;
    }
    pthread_mutex_unlock(&index->lock);
}

uint64_t run_index_needed_seq(struct run_index *index, uint64_t next_seq)
{
    uint64_t needed = next_seq;
    pthread_mutex_lock(&index->lock);
    LIST_FOR_EACH (row, &index->open, struct row, node)
        if (row->hold_seq)
            needed = MIN(needed, row->hold_seq);
    LIST_FOR_EACH (row, &index->ended, struct row, node)
        if (row->hold_seq) { /* they end in order */
            needed = MIN(needed, row->hold_seq);
            break;
        }
    pthread_mutex_unlock(&index->lock);
    return needed;
}

static bool copy_row(const struct row *row, struct arena *arena, struct run_index_row *out)
{
    *out = row->row;
    out->json = STR_EMPTY;
    out->head.pipeline = arena_copy(arena, row->row.head.pipeline);
    out->head.trigger = arena_copy(arena, row->row.head.trigger);
    return out->head.pipeline.p && out->head.trigger.p;
}

enum rc run_index_get(struct run_index *index, struct id project, struct id run,
                      struct arena *arena, struct run_index_row *out)
{
    enum rc rc = RC_NOT_FOUND;
    pthread_mutex_lock(&index->lock);
    struct row *row = map_get(&index->by_id, id_key(&run));
    if (row && id_eq(row->row.head.project, project))
        rc = copy_row(row, arena, out) ? RC_OK : RC_LIMIT;
    if (rc == RC_OK && row->row.json.n)
        out->json = arena_copy(arena, row->row.json);
    pthread_mutex_unlock(&index->lock);
    return rc;
}

struct listing {
    struct id project;
    struct str pipeline;
    int status;
    uint64_t before;
    struct run_index_row *rows;
    size_t count;
};

static bool fits(const struct listing *l, const struct row *row)
{
    return id_eq(row->row.head.project, l->project) && (!l->before || row->row.seq < l->before) &&
           (l->status < 0 || row->row.head.status == l->status) &&
           (!l->pipeline.n || str_eq(row->row.head.pipeline, l->pipeline));
}

void run_index_list(struct run_index *index, struct id project, struct str pipeline, int status,
                    uint64_t before, size_t limit, struct arena *arena, struct run_index_row **rows,
                    size_t *count)
{
    struct listing l = {.project = project,
                        .pipeline = pipeline,
                        .status = status,
                        .before = before,
                        .rows = ARENA_NEW_ARRAY(arena, struct run_index_row, limit)};
    *rows = l.rows;
    *count = 0;
    if (!l.rows)
        return;
    pthread_mutex_lock(&index->lock);
    for (struct list *n = index->all.prev; n != &index->all && l.count < limit; n = n->prev) {
        const struct row *row = LIST_ENTRY(n, struct row, started);
        if (fits(&l, row) && copy_row(row, arena, &l.rows[l.count]))
            l.count++;
    }
    pthread_mutex_unlock(&index->lock);
    *count = l.count;
}

/* ---- waits ---- */

void run_index_add_wait(struct run_index *index, const struct run_index_wait *from)
{
    const struct str texts[] = {from->pipeline, from->path, from->kind, from->detail};
    size_t bytes = 0;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        bytes += texts[i].n;
    struct wait *wait = xcalloc(1, sizeof(*wait) + bytes + 1);
    struct str *to[] = {&wait->wait.pipeline, &wait->wait.path, &wait->wait.kind,
                        &wait->wait.detail};
    char *at = wait->texts;
    wait->wait = *from;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        memcpy(at, texts[i].n ? texts[i].p : "", texts[i].n);
        *to[i] = str_make(at, texts[i].n);
        at += texts[i].n;
    }
    pthread_mutex_lock(&index->lock);
    list_push_back(&index->waits, &wait->node);
    index->wait_count++;
    pthread_mutex_unlock(&index->lock);
}

void run_index_remove_waits(struct run_index *index, struct id run, struct str path)
{
    pthread_mutex_lock(&index->lock);
    LIST_FOR_EACH_SAFE (wait, &index->waits, struct wait, node) {
        if (!id_eq(wait->wait.run, run) || (path.n && !str_eq(wait->wait.path, path)))
            continue;
        list_remove(&wait->node);
        index->wait_count--;
        free(wait);
    }
    pthread_mutex_unlock(&index->lock);
}

void run_index_waits(struct run_index *index, struct id project, size_t limit, struct arena *arena,
                     struct run_index_wait **waits, size_t *count)
{
    *count = 0;
    *waits = ARENA_NEW_ARRAY(arena, struct run_index_wait, limit);
    if (!*waits)
        return;
    pthread_mutex_lock(&index->lock);
    LIST_FOR_EACH (wait, &index->waits, struct wait, node) {
        if (*count == limit || !id_eq(wait->wait.project, project))
            continue;
        struct run_index_wait *out = &(*waits)[(*count)++];
        *out = wait->wait;
        struct str *texts[] = {&out->pipeline, &out->path, &out->kind, &out->detail};
        for (size_t i = 0; i < COUNT_OF(texts); i++)
            *texts[i] = arena_copy(arena, *texts[i]);
    }
    pthread_mutex_unlock(&index->lock);
}
