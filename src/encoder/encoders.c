/* The encoders of the model folder. One lock guards the list; a model is loaded outside it while
 * its entry is marked as loading, so others are not kept waiting and no model is loaded twice. */
#include "base/clock.h"
#include "base/list.h"
#include "encoder/encoder.h"
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NAME_DEFAULT   STR("all-minilm-l6-v2")
#define NAME_BYTES_MAX 128
#define UNUSED_NS_MAX  (600 * NS_PER_S)

struct entry {
    struct list node;
    char name[NAME_BYTES_MAX + 1];
    struct encoder *encoder; /* NULL: loading */
    unsigned users;          /* with those who wait for it */
    int64_t left_ns;         /* when the last user went */
};

struct encoders {
    char *folder;
    pthread_mutex_t lock;
    pthread_cond_t loaded;
    struct list entries;
};

struct encoders *encoders_new(struct str model_folder)
{
    struct encoders *e = xcalloc(1, sizeof(*e));
    e->folder = xmalloc(model_folder.n + 1);
    memcpy(e->folder, model_folder.p, model_folder.n);
    e->folder[model_folder.n] = 0;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->loaded, NULL);
    list_init(&e->entries);
    return e;
}

static void entry_free(struct entry *entry)
{
    list_remove(&entry->node);
    encoder_close(entry->encoder);
    free(entry);
}

void encoders_free(struct encoders *e)
{
    if (!e)
        return;
    LIST_FOR_EACH_SAFE (entry, &e->entries, struct entry, node) {
        ASSERT(!entry->users);
        entry_free(entry);
    }
    pthread_cond_destroy(&e->loaded);
    pthread_mutex_destroy(&e->lock);
    free(e->folder);
    free(e);
}

/* "NAME:int8" is the model NAME in another precision. */
static enum rc split_name(struct str *name, enum encoder_precision *precision, struct err *err)
{
    *precision = ENCODER_F32;
    ssize_t colon = str_rfind_char(*name, ':');
    if (colon >= 0) {
        struct str suffix = str_slice(*name, (size_t)colon + 1, name->n);
        if (str_eq(suffix, STR("int8")))
            *precision = ENCODER_INT8;
        else if (str_eq(suffix, STR("bf16")))
            *precision = ENCODER_BF16;
        else if (!str_eq(suffix, STR("f32")))
            return err_set(err, ERR_MODEL_NOT_FOUND,
                           "an encoder's precision is f32, bf16 or int8, not \"%.*s\"",
                           STR_ARG(suffix));
        *name = str_slice(*name, 0, (size_t)colon);
    }
    if (!name->n || name->n > NAME_BYTES_MAX || name->p[0] == '.' || str_find_char(*name, '/') >= 0)
        return err_set(err, ERR_MODEL_NOT_FOUND, "there is no encoder \"%.*s\"", STR_ARG(*name));
    return RC_OK;
}

static bool has_folder(const struct encoders *e, struct str name)
{
    char config[PATH_MAX + 16];
    snprintf(config, sizeof(config), "%s/%.*s/config.json", e->folder, STR_ARG(name));
    return access(config, R_OK) == 0;
}

bool encoders_has(const struct encoders *e, struct str name)
{
    enum encoder_precision precision;
    return split_name(&name, &precision, NULL) == RC_OK && has_folder(e, name);
}

static enum rc load(struct encoders *e, struct str name, struct encoder **out, struct err *err)
{
    char folder[PATH_MAX];
    enum encoder_precision precision;
    enum rc rc = split_name(&name, &precision, err);
    if (rc)
        return rc;
    snprintf(folder, sizeof(folder), "%s/%.*s", e->folder, STR_ARG(name));
    if (!has_folder(e, name))
        return err_set(err, ERR_MODEL_NOT_FOUND,
                       "the encoder \"%.*s\" is not here; `capstan model pull %.*s` fetches it",
                       STR_ARG(name), STR_ARG(name));
    if ((rc = encoder_open(folder, precision, out, err)))
        err_prefix(err, "the encoder \"%.*s\"", STR_ARG(name));
    return rc;
}

static struct entry *find(struct encoders *e, struct str name)
{
    LIST_FOR_EACH (entry, &e->entries, struct entry, node)
        if (str_eq(str_from(entry->name), name))
            return entry;
    return NULL;
}

void encoders_close_unused(struct encoders *e)
{
    int64_t now = clock_monotonic_ns();
    pthread_mutex_lock(&e->lock);
    LIST_FOR_EACH_SAFE (entry, &e->entries, struct entry, node)
        if (!entry->users && now - entry->left_ns > UNUSED_NS_MAX)
            entry_free(entry);
    pthread_mutex_unlock(&e->lock);
}

/* With the lock held. */
static enum rc load_entry(struct encoders *e, struct entry *entry, struct err *err)
{
    struct encoder *encoder = NULL;
    pthread_mutex_unlock(&e->lock);
    enum rc rc = load(e, str_from(entry->name), &encoder, err);
    pthread_mutex_lock(&e->lock);
    entry->encoder = encoder;
    if (rc) { /* those who wait look for it again, find nothing and try themselves */
        list_remove(&entry->node);
        free(entry);
    }
    pthread_cond_broadcast(&e->loaded);
    return rc;
}

enum rc encoders_get(struct encoders *e, struct str name, struct encoder **out, struct err *err)
{
    enum rc rc = RC_OK;
    if (!name.p)
        name = NAME_DEFAULT;
    if (name.n > NAME_BYTES_MAX)
        return err_set(err, ERR_MODEL_NOT_FOUND, "there is no encoder of that name");
    pthread_mutex_lock(&e->lock);
    struct entry *entry;
    while ((entry = find(e, name)) && !entry->encoder)
        pthread_cond_wait(&e->loaded, &e->lock);
    if (!entry) {
        entry = xcalloc(1, sizeof(*entry));
        memcpy(entry->name, name.p, name.n);
        list_init(&entry->node);
        list_push_back(&e->entries, &entry->node);
        rc = load_entry(e, entry, err);
    }
    if (!rc) {
        entry->users++;
        *out = entry->encoder;
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

void encoders_put(struct encoders *e, struct encoder *encoder)
{
    pthread_mutex_lock(&e->lock);
    LIST_FOR_EACH (entry, &e->entries, struct entry, node)
        if (entry->encoder == encoder) {
            ASSERT(entry->users > 0);
            entry->users--;
            entry->left_ns = clock_monotonic_ns();
        }
    pthread_mutex_unlock(&e->lock);
}
