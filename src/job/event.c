/* See event.h. One ring of bytes under one mutex holds the window; readers keep only the number of
 * the next event they want. The lock is taken once an event, and only when somebody watches. */
#include "job/event.h"
#include "base/clock.h"
#include <pthread.h>
#include <stdlib.h>

#define EVENTS_MAX 4096 /* in the window, whatever their size */
#define LINGER_NS  (60 * NS_PER_S)

struct event_slot {
    uint64_t seq; /* 0: empty */
    struct id project;
    enum event_type type;
    struct str data; /* malloc'd */
};

struct event_bus {
    pthread_mutex_t lock;
    struct event_slot *slots; /* event n stands at n % slots_max */
    size_t slots_max;
    uint32_t references;          /* atomic */
    uint64_t seq_first, seq_next; /* of the window: [first, next) */
    size_t bytes, bytes_max;
    struct list readers;
    unsigned watched[EVENT_TYPE_COUNT];         /* readers of the type; atomic */
    int64_t watched_until_ns[EVENT_TYPE_COUNT]; /* monotonic; atomic */
};

static const char *const type_names[EVENT_TYPE_COUNT] = {
#define EVENT_TYPE(name, text) [EVENT_##name] = text,
#include "job/event_types.h"
#undef EVENT_TYPE
};

const char *event_type_name(enum event_type type)
{
    ASSERT(type < EVENT_TYPE_COUNT);
    return type_names[type];
}

enum rc event_types_parse(struct str s, unsigned *types)
{
    struct str part;
    *types = 0;
    if (s.n == 0)
        *types = (1u << EVENT_TYPE_COUNT) - 1;
    while (str_split(&s, ',', &part)) {
        int type = 0;
        while (type < EVENT_TYPE_COUNT && !str_eq(part, str_from(type_names[type])))
            type++;
        if (type == EVENT_TYPE_COUNT)
            return RC_INVALID;
        *types |= 1u << type;
    }
    return RC_OK;
}

struct event_bus *event_bus_new(size_t window_bytes_max)
{
    return event_bus_new_small(EVENTS_MAX, window_bytes_max);
}

struct event_bus *event_bus_new_small(size_t events_max, size_t window_bytes_max)
{
    struct event_bus *bus = xcalloc(1, sizeof(*bus));
    bus->slots = xcalloc(events_max, sizeof(*bus->slots));
    bus->slots_max = events_max;
    bus->references = 1;
    pthread_mutex_init(&bus->lock, NULL);
    bus->bytes_max = window_bytes_max;
    /* Numbers go on after a restart, so that an old Last-Event-ID is never mistaken for a new
     * event. */
    bus->seq_first = bus->seq_next = (uint64_t)(clock_wall_ns() / NS_PER_US);
    list_init(&bus->readers);
    return bus;
}

static void drop_oldest(struct event_bus *bus)
{
    struct event_slot *slot = &bus->slots[bus->seq_first % bus->slots_max];
    bus->bytes -= slot->data.n;
    free((char *)slot->data.p);
    *slot = (struct event_slot){0};
    bus->seq_first++;
}

void event_bus_free(struct event_bus *bus)
{
    ASSERT(list_empty(&bus->readers));
    while (bus->seq_first < bus->seq_next)
        drop_oldest(bus);
    pthread_mutex_destroy(&bus->lock);
    free(bus->slots);
    free(bus);
}

struct event_bus *event_bus_ref(struct event_bus *bus)
{
    __atomic_fetch_add(&bus->references, 1, __ATOMIC_RELAXED);
    return bus;
}

void event_bus_unref(struct event_bus *bus)
{
    if (__atomic_fetch_sub(&bus->references, 1, __ATOMIC_ACQ_REL) == 1)
        event_bus_free(bus);
}

bool event_wanted(struct event_bus *bus, enum event_type type)
{
    return __atomic_load_n(&bus->watched[type], __ATOMIC_RELAXED) > 0 ||
           __atomic_load_n(&bus->watched_until_ns[type], __ATOMIC_RELAXED) > clock_monotonic_ns();
}

static bool reader_wants(const struct event_reader *reader, struct id project, enum event_type type)
{
    return (reader->types & (1u << type)) &&
           (id_is_zero(project) || id_eq(project, reader->project));
}

/* With the lock held. */
static void wake_reader(struct event_reader *reader)
{
    if (reader->posted)
        return;
    reader->posted = true;
    loop_post(reader->loop, &reader->task);
}

void event_publish(struct event_bus *bus, struct id project, enum event_type type, struct str data)
{
    if (data.n > bus->bytes_max || !event_wanted(bus, type))
        return;
    char *copy = xmalloc(data.n + 1);
    memcpy(copy, data.p, data.n);
    pthread_mutex_lock(&bus->lock);
    while (bus->seq_next - bus->seq_first >= bus->slots_max ||
           (bus->bytes + data.n > bus->bytes_max && bus->seq_first < bus->seq_next))
        drop_oldest(bus);
    uint64_t seq = bus->seq_next++;
    bus->slots[seq % bus->slots_max] =
        (struct event_slot){seq, project, type, str_make(copy, data.n)};
    bus->bytes += data.n;
    LIST_FOR_EACH (reader, &bus->readers, struct event_reader, node)
        if (reader_wants(reader, project, type))
            wake_reader(reader);
    pthread_mutex_unlock(&bus->lock);
}

/* ---- readers ---- */

static void count_watched(struct event_bus *bus, unsigned types, int by)
{
    for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
        if (!(types & (1u << type)))
            continue;
        __atomic_add_fetch(&bus->watched[type], by, __ATOMIC_RELAXED);
        __atomic_store_n(&bus->watched_until_ns[type], clock_monotonic_ns() + LINGER_NS,
                         __ATOMIC_RELAXED);
    }
}

static void on_wake(struct task *task)
{
    struct event_reader *reader = CONTAINER_OF(task, struct event_reader, task);
    pthread_mutex_lock(&reader->bus->lock);
    reader->posted = false;
    pthread_mutex_unlock(&reader->bus->lock);
    reader->ready(reader); /* or `closed`, once unsubscribed */
}

void event_subscribe(struct event_bus *bus, struct event_reader *reader, uint64_t after)
{
    reader->bus = bus;
    reader->posted = false;
    reader->task.run = on_wake;
    count_watched(bus, reader->types, 1);
    pthread_mutex_lock(&bus->lock);
    reader->seq_next = after && after < bus->seq_next ? after + 1 : bus->seq_next;
    list_push_back(&bus->readers, &reader->node);
    if (reader->seq_next < bus->seq_next)
        wake_reader(reader);
    pthread_mutex_unlock(&bus->lock);
}

void event_unsubscribe(struct event_reader *reader, void (*closed)(struct event_reader *reader))
{
    struct event_bus *bus = reader->bus;
    count_watched(bus, reader->types, -1);
    pthread_mutex_lock(&bus->lock);
    list_remove(&reader->node);
    reader->ready = closed;
    wake_reader(reader); /* behind a wake-up that is under way, or in its place */
    pthread_mutex_unlock(&bus->lock);
}

enum rc event_read(struct event_reader *reader, struct arena *arena, struct event *out,
                   uint64_t *missed)
{
    struct event_bus *bus = reader->bus;
    enum rc rc = RC_AGAIN;
    *missed = 0;
    pthread_mutex_lock(&bus->lock);
    if (reader->seq_next < bus->seq_first) {
        *missed = bus->seq_first - reader->seq_next;
        reader->seq_next = bus->seq_first;
    }
    for (; rc == RC_AGAIN && reader->seq_next < bus->seq_next; reader->seq_next++) {
        const struct event_slot *slot = &bus->slots[reader->seq_next % bus->slots_max];
        if (!reader_wants(reader, slot->project, slot->type))
            continue;
        *out = (struct event){slot->seq, slot->type, arena_copy(arena, slot->data)};
        rc = out->data.p ? RC_OK : RC_LIMIT;
        if (rc == RC_LIMIT)
            break; /* the same event again, into an empty arena */
    }
    pthread_mutex_unlock(&bus->lock);
    return rc;
}
