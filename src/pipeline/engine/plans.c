/* See plans.h. An entry holds what one selector of one pipeline led to: one version, or several by
 * weight. A miss asks the database on a worker; plans are shared by the hash of their text. */
#include "pipeline/engine/plans.h"
#include "base/rand.h"
#include "gateway/snapshot.h"
#include "pipeline/engine/loop_private.h"
#include "store/object.h"
#include "store/pipeline_table.h"
#include <stdlib.h>

#define ENTRIES_MAX      4096
#define LOAD_ARENA_BYTES (64 * 1024 * 1024)
#define KEY_BYTES_MAX    512

struct plan_target {
    int64_t version;
    uint32_t weight;
    struct plan *plan;
};

struct entry {
    uint64_t snapshot; /* version of the configuration it was made under */
    struct plan_target targets[LABEL_TARGETS_MAX];
    size_t target_count;
    size_t key_bytes;
    char key[KEY_BYTES_MAX];
};

struct plan_cache {
    pthread_mutex_t lock;
    struct map entries;
};

struct load {
    struct work work;
    struct pipeline_loop *loop;
    struct id project;
    char key[KEY_BYTES_MAX]; /* project, name, '@', selector */
    struct str key_text, name, selector;
    uint64_t share, snapshot;
    plan_found *found;
    void *arg;
    struct plan_target targets[LABEL_TARGETS_MAX];
    size_t target_count;
    struct err err;
};

struct plan_cache *plan_cache_new(void)
{
    struct plan_cache *cache = xcalloc(1, sizeof(*cache));
    pthread_mutex_init(&cache->lock, NULL);
    map_init(&cache->entries);
    return cache;
}

static void entry_free(struct entry *entry)
{
    for (size_t i = 0; i < entry->target_count; i++)
        plan_unref(entry->targets[i].plan);
    free(entry);
}

static void cache_clear(struct plan_cache *cache)
{
    MAP_FOR_EACH (slot, &cache->entries)
        entry_free(slot->value);
    map_fini(&cache->entries);
    map_init(&cache->entries);
}

void plan_cache_free(struct plan_cache *cache)
{
    cache_clear(cache);
    map_fini(&cache->entries);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static const struct plan_target *choose(const struct plan_target *targets, size_t count,
                                        uint64_t share)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += targets[i].weight;
    uint64_t at = sum ? (uint64_t)(((unsigned __int128)share * sum) >> 64) : 0;
    for (size_t i = 0; i + 1 < count; i++) {
        if (at < targets[i].weight)
            return &targets[i];
        at -= targets[i].weight;
    }
    return &targets[count - 1];
}

static uint64_t snapshot_now(void)
{
    struct snapshot *snapshot = snapshot_current();
    return snapshot ? snapshot->version : 0;
}

static bool cache_find(struct plan_cache *cache, struct str key, uint64_t share, struct plan **plan,
                       int64_t *version)
{
    bool found = false;
    pthread_mutex_lock(&cache->lock);
    struct entry *entry = map_get(&cache->entries, key);
    if (entry && entry->snapshot == snapshot_now()) {
        const struct plan_target *target = choose(entry->targets, entry->target_count, share);
        *plan = plan_ref(target->plan);
        *version = target->version;
        found = true;
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

/* The plan of the same text, if one is known: what a configuration change leaves as it was need not
 * be compiled again. */
static struct plan *cache_reuse(struct plan_cache *cache, const struct load *load, struct str spec)
{
    uint8_t hash[SHA256_BYTES];
    struct plan *plan = NULL;
    hash_sha256(spec.p, spec.n, hash);
    pthread_mutex_lock(&cache->lock);
    struct entry *entry = map_get(&cache->entries, load->key_text);
    for (size_t i = 0; entry && i < entry->target_count && !plan; i++)
        if (memcmp(entry->targets[i].plan->hash, hash, sizeof(hash)) == 0)
            plan = plan_ref(entry->targets[i].plan);
    pthread_mutex_unlock(&cache->lock);
    return plan;
}

static void cache_put(struct plan_cache *cache, const struct load *load)
{
    struct entry *entry = xcalloc(1, sizeof(*entry));
    entry->snapshot = load->snapshot;
    entry->target_count = load->target_count;
    for (size_t i = 0; i < load->target_count; i++) {
        entry->targets[i] = load->targets[i];
        plan_ref(entry->targets[i].plan);
    }
    entry->key_bytes = load->key_text.n;
    memcpy(entry->key, load->key_text.p, load->key_text.n);
    pthread_mutex_lock(&cache->lock);
    if (cache->entries.count >= ENTRIES_MAX)
        cache_clear(cache);
    struct entry *old = map_put(&cache->entries, str_make(entry->key, entry->key_bytes), entry);
    pthread_mutex_unlock(&cache->lock);
    if (old)
        entry_free(old);
}

/* ---- loading: a worker ---- */

static enum rc add_target(struct load *load, struct str spec, int64_t version, uint32_t weight)
{
    struct plan_target *target = &load->targets[load->target_count];
    *target =
        (struct plan_target){version, weight, cache_reuse(load->loop->all->plans, load, spec)};
    enum rc rc = target->plan ? RC_OK : plan_compile(spec, &target->plan, &load->err);
    load->target_count += rc == RC_OK;
    return rc;
}

static enum rc add_version(struct load *load, struct db_txn *txn, struct arena *arena,
                           int64_t version, uint32_t weight)
{
    struct object object;
    enum rc rc = object_version_get(txn, load->project, OBJECT_PIPELINE, load->name, version, arena,
                                    &object, &load->err);
    return rc == RC_OK ? add_target(load, object.spec, version, weight) : rc;
}

static enum rc add_label(struct load *load, struct db_txn *txn, struct arena *arena,
                         struct str name, bool *found)
{
    struct label *labels;
    size_t count;
    enum rc rc = object_labels(txn, load->project, OBJECT_PIPELINE, load->name, arena, &labels,
                               &count, &load->err);
    *found = false;
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        if (!str_eq(labels[i].name, name))
            continue;
        *found = labels[i].target_count > 0;
        for (size_t t = 0; rc == RC_OK && t < labels[i].target_count; t++)
            rc = add_version(load, txn, arena, labels[i].targets[t].version,
                             labels[i].targets[t].weight);
    }
    return rc;
}

static enum rc load_selected(struct load *load, struct db_txn *txn, struct arena *arena)
{
    struct object object;
    struct pipeline_row row;
    int64_t version;
    bool found;
    enum rc rc;
    if (str_eq(load->selector, STR("draft"))) {
        rc = pipeline_table_get(txn, load->project, load->name, arena, &row, &load->err);
        return rc == RC_OK ? add_target(load, row.draft, 0, 1) : rc;
    }
    rc = object_get(txn, load->project, OBJECT_PIPELINE, load->name, arena, &object, &load->err);
    if (rc != RC_OK)
        return rc;
    if (str_eq(load->selector, STR("latest")))
        return add_target(load, object.spec, object.version, 1);
    if (load->selector.n && str_to_i64(load->selector, &version) == RC_OK)
        return add_version(load, txn, arena, version, 1);
    rc = add_label(load, txn, arena, load->selector.n ? load->selector : STR("production"), &found);
    if (rc != RC_OK || found)
        return rc;
    if (!load->selector.n)
        return add_target(load, object.spec, object.version, 1);
    return err_set(&load->err, ERR_NOT_FOUND, "The pipeline '%.*s' has no label '%.*s'.",
                   STR_ARG(load->name), STR_ARG(load->selector));
}

static void load_run(struct work *work)
{
    struct load *load = CONTAINER_OF(work, struct load, work);
    struct db_txn *txn;
    struct arena arena;
    if (db_read_begin(load->loop->all->options.db, &txn, &load->err) != RC_OK)
        return;
    arena_init(&arena, LOAD_ARENA_BYTES);
    if (load_selected(load, txn, &arena) != RC_OK && load->err.code == ERR_NONE)
        err_set(&load->err, ERR_INTERNAL, "the pipeline cannot be read");
    arena_fini(&arena);
    db_read_end(txn);
}

static void load_done(struct work *work)
{
    struct load *load = CONTAINER_OF(work, struct load, work);
    if (load->err.code == ERR_NONE) {
        const struct plan_target *target = choose(load->targets, load->target_count, load->share);
        if (!str_eq(load->selector, STR("draft")))
            cache_put(load->loop->all->plans, load);
        load->found(load->arg, plan_ref(target->plan), target->version, NULL);
    } else {
        load->found(load->arg, NULL, 0, &load->err);
    }
    for (size_t i = 0; i < load->target_count; i++)
        plan_unref(load->targets[i].plan);
    free(load);
}

void plan_find(struct pipeline_loop *loop, struct id project, struct str name, struct str selector,
               uint64_t share, plan_found *found, void *arg)
{
    struct err err = {0};
    struct plan *plan;
    int64_t version;
    if (name.n + selector.n + 20 > KEY_BYTES_MAX || !loop->all->options.db) {
        err_set(&err, ERR_NOT_FOUND, "There is no such pipeline.");
        found(arg, NULL, 0, &err);
        return;
    }
    struct load *load = xcalloc(1, sizeof(*load));
    memcpy(load->key, project.bytes, 16);
    memcpy(load->key + 16, name.p, name.n);
    load->key[16 + name.n] = '@';
    memcpy(load->key + 17 + name.n, selector.n ? selector.p : "", selector.n);
    load->key_text = str_make(load->key, 17 + name.n + selector.n);
    if (cache_find(loop->all->plans, load->key_text, share, &plan, &version)) {
        free(load);
        found(arg, plan, version, NULL);
        return;
    }
    load->work = (struct work){.home = loop->loop, .work = load_run, .done = load_done};
    load->loop = loop;
    load->project = project;
    load->name = str_slice(load->key_text, 16, 16 + name.n);
    load->selector = str_slice(load->key_text, 17 + name.n, load->key_text.n);
    load->share = share;
    load->snapshot = snapshot_now();
    load->found = found;
    load->arg = arg;
    if (worker_submit(loop->all->options.workers, &load->work) == RC_OK)
        return;
    free(load);
    err_set(&err, ERR_OVERLOADED, "The server has too much to do: try again soon.");
    found(arg, NULL, 0, &err);
}
