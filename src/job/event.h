/* Events: one type for everything that is watched live (calls, jobs, models, configuration), with a
 * sequence number and a bounded window from which a reader that lost its connection replays.
 * Published by any thread; read by subscribers on loops. */
#pragma once
#include "base/arena.h"
#include "base/id.h"
#include "io/loop.h"

enum event_type {
#define EVENT_TYPE(name, text) EVENT_##name,
#include "job/event_types.h"
#undef EVENT_TYPE
    EVENT_TYPE_COUNT
};

const char *event_type_name(enum event_type type); /* "call" */
/* "call,job" → bit set 1u << type; empty: all. RC_INVALID: an unknown name. */
enum rc event_types_parse(struct str s, unsigned *types) MUST_CHECK;

struct event_bus;

struct event_bus *event_bus_new(size_t window_bytes_max);
/* The same with room for fewer events: for one run's. */
struct event_bus *event_bus_new_small(size_t events_max, size_t window_bytes_max);
void event_bus_free(struct event_bus *bus);
/* For a bus that its readers may outlive: the last reference frees it. */
struct event_bus *event_bus_ref(struct event_bus *bus);
void event_bus_unref(struct event_bus *bus);

/* Does anybody watch events of this type, or did within the last minute? Cheap, for hot paths: what
 * nobody watches need not be encoded. */
bool event_wanted(struct event_bus *bus, enum event_type type);
/* `data` (JSON) is copied. A zero project reaches every project's readers. An event that is larger
 * than the window is dropped. */
void event_publish(struct event_bus *bus, struct id project, enum event_type type, struct str data);

struct event {
    uint64_t seq;
    enum event_type type;
    struct str data;
};

/* A subscriber, embedded in its owner; belongs to one loop. */
struct event_reader {
    /* Set by the owner before event_subscribe. */
    struct loop *loop;
    struct id project;
    unsigned types; /* 1u << type */
    /* On the loop: events may be there; read until RC_AGAIN. */
    void (*ready)(struct event_reader *reader);
    /* private */
    struct event_bus *bus;
    struct list node;
    struct task task;
    uint64_t seq_next;
    bool posted;
};

/* From the newest event on, or, with `after` > 0, from the one after it as far as the window
 * reaches. */
void event_subscribe(struct event_bus *bus, struct event_reader *reader, uint64_t after);
/* The owner must live until `closed` is told: a wake-up may be under way. Called on the loop. */
void event_unsubscribe(struct event_reader *reader, void (*closed)(struct event_reader *reader));
/* The next event, its data copied into the arena. RC_AGAIN: none now. RC_LIMIT: the arena is full.
 * *missed counts events that the window has lost since the last read. */
enum rc event_read(struct event_reader *reader, struct arena *arena, struct event *out,
                   uint64_t *missed) MUST_CHECK;
