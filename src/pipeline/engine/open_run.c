/* See open_run.h. */
#include "pipeline/engine/open_run.h"
#include "base/hash.h"
#include "text/json.h"
#include <stdlib.h>

#define JSON_BYTES_MAX (64 * 1024 * 1024)

struct open_definition {
    uint8_t hash[SHA256_BYTES];
    struct str spec;
};

void open_runs_init(struct open_runs *runs)
{
    list_init(&runs->runs);
    for (int i = 0; i < OPEN_RUN_LOOPS_MAX; i++)
        list_init(&runs->of_loop[i]);
    map_init(&runs->by_id);
    map_init(&runs->definitions);
}

/* The keys lie in the values. */
void replay_free(struct map *replay)
{
    MAP_FOR_EACH (slot, replay)
        value_unref(slot->value);
    map_fini(replay);
    free(replay);
}

void open_run_free(struct open_run *open)
{
    if (open->replay)
        replay_free(open->replay);
    value_unref(open->start);
    free((void *)open->start_bytes.p);
    free(open);
}

static void free_all(struct list *list)
{
    LIST_FOR_EACH_SAFE (open, list, struct open_run, node) {
        list_remove(&open->node);
        open_run_free(open);
    }
}

void open_runs_fini(struct open_runs *runs)
{
    free_all(&runs->runs);
    for (int i = 0; i < OPEN_RUN_LOOPS_MAX; i++)
        free_all(&runs->of_loop[i]);
    MAP_FOR_EACH (slot, &runs->definitions) {
        struct open_definition *definition = slot->value;
        free((void *)definition->spec.p);
        free(definition);
    }
    map_fini(&runs->by_id);
    map_fini(&runs->definitions);
}

static void add_definition(struct open_runs *runs, struct str payload)
{
    if (payload.n <= SHA256_BYTES ||
        map_get(&runs->definitions, str_slice(payload, 0, SHA256_BYTES)))
        return;
    struct open_definition *definition = xcalloc(1, sizeof(*definition));
    memcpy(definition->hash, payload.p, SHA256_BYTES);
    size_t n = payload.n - SHA256_BYTES;
    char *copy = xmalloc(n);
    memcpy(copy, payload.p + SHA256_BYTES, n);
    definition->spec = str_make(copy, n);
    map_put(&runs->definitions, str_make(definition->hash, SHA256_BYTES), definition);
}

/* Takes the value, which holds the key. */
static void add_known(struct open_run *open, struct value *value)
{
    struct str path = json_get_text(value_json(value), "p");
    if (!path.n) {
        value_unref(value);
        return;
    }
    value_unref(map_put(open->replay, path, value));
}

static void add_start(struct open_runs *runs, const struct log_record *record)
{
    struct open_run *open = xcalloc(1, sizeof(*open));
    uint8_t hash[SHA256_BYTES];
    struct str json;
    size_t i, n;
    yyjson_val *known;
    char *copy = xmalloc(record->payload.n + 1);
    memcpy(copy, record->payload.p, record->payload.n);
    open->start_bytes = str_make(copy, record->payload.n);
    open->seq = record->seq;
    list_init(&open->node);
    if (run_head_decode(open->start_bytes, &open->head, &json) == RC_OK)
        open->start = value_parse(json, JSON_BYTES_MAX);
    if (!open->start ||
        map_get(&runs->by_id, str_make(open->head.id.bytes, sizeof(open->head.id.bytes)))) {
        open_run_free(open);
        return;
    }
    if (hex_decode(json_get_text(value_json(open->start), "definition"), hash, sizeof(hash)) ==
        RC_OK) {
        struct open_definition *definition =
            map_get(&runs->definitions, str_make(hash, sizeof(hash)));
        open->spec = definition ? definition->spec : STR_EMPTY;
    }
    open->replay = xcalloc(1, sizeof(*open->replay));
    map_init(open->replay);
    yyjson_arr_foreach(yyjson_obj_get(value_json(open->start), "known"), i, n, known)
        add_known(open, value_new(known));
    map_put(&runs->by_id, str_make(open->head.id.bytes, sizeof(open->head.id.bytes)), open);
    list_push_back(&runs->runs, &open->node);
}

/* INTENT, RESULT, WAIT: the last word on a path counts. */
static void add_step(struct open_runs *runs, struct str payload)
{
    struct str id = str_slice(payload, 0, 16);
    struct open_run *open = id.n == 16 ? map_get(&runs->by_id, id) : NULL;
    if (!open)
        return;
    add_known(open, value_parse(str_slice(payload, 16, payload.n), JSON_BYTES_MAX));
}

void open_runs_add(struct open_runs *runs, const struct log_record *record)
{
    switch (record->type) {
    case JOURNAL_DEFINITION: add_definition(runs, record->payload); break;
    case JOURNAL_START: add_start(runs, record); break;
    case JOURNAL_INTENT:
    case JOURNAL_RESULT:
    case JOURNAL_WAIT: add_step(runs, record->payload); break;
    default: break;
    }
}

void open_runs_end(struct open_runs *runs, struct id id)
{
    struct open_run *open = map_remove(&runs->by_id, str_make(id.bytes, sizeof(id.bytes)));
    if (!open)
        return;
    list_remove(&open->node);
    open_run_free(open);
}

void open_runs_split(struct open_runs *runs, int loops)
{
    ASSERT(loops > 0 && loops <= OPEN_RUN_LOOPS_MAX);
    LIST_FOR_EACH_SAFE (open, &runs->runs, struct open_run, node) {
        list_remove(&open->node);
        list_push_back(&runs->of_loop[open->head.id.bytes[15] % loops], &open->node);
    }
    map_fini(&runs->by_id);
    map_init(&runs->by_id);
}

struct open_run *open_runs_take(struct open_runs *runs, int loop)
{
    if (list_empty(&runs->of_loop[loop]))
        return NULL;
    struct open_run *open = LIST_FIRST(&runs->of_loop[loop], struct open_run, node);
    list_remove(&open->node);
    return open;
}
