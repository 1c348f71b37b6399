/* See metrics.h. The gateway's own counters come first (gateway/metrics.h), then the stores', the
 * engines' and the process's. */
#include "app/metrics.h"
#include "api/problem.h"
#include "base/clock.h"
#include "gateway/metrics.h"
#include "io/child.h"
#include "model/engine.h"
#include "store/db.h"
#include "trace/trace.h"
#include <unistd.h>

#define METRICS_BYTES_MAX (1024 * 1024)

static void put(struct buf *out, const char *name, const char *type, const char *help, double value)
{
    if (buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name,
                   value) != RC_OK)
        return; /* cut at the bound: what is there is still well-formed */
}

static void put_trace(struct buf *out, struct trace_store *trace)
{
    struct trace_counters c;
    trace_counters(trace, &c);
    put(out, "capstan_calls_recorded_total", "counter", "Call records stored", (double)c.stored);
    put(out, "capstan_calls_lost_total", "counter", "Call records that could not be kept",
        (double)(c.lost_queue + c.lost_disk));
    put(out, "capstan_trace_queue_bytes", "gauge", "Call records waiting for the disk",
        (double)c.queue_bytes);
    put(out, "capstan_trace_rows", "gauge", "Call records in the store", (double)c.rows);
    put(out, "capstan_trace_log_bytes", "gauge", "Bytes of the append log", (double)c.log_bytes);
    put(out, "capstan_trace_segment_bytes", "gauge", "Bytes of sealed segments",
        (double)c.segment_bytes);
    put(out, "capstan_trace_sync_seconds_max", "gauge", "Longest sync of the log",
        (double)c.sync_ns_max / NS_PER_S);
    put(out, "capstan_trace_disk_full", "gauge", "1 while the disk has no room for call records",
        c.disk_full);
}

static void put_db(struct buf *out, struct db *db)
{
    struct db_counters c;
    db_counters(db, &c);
    put(out, "capstan_control_writes_total", "counter", "Changes written to the control database",
        (double)c.writes);
    put(out, "capstan_control_commit_seconds_max", "gauge",
        "Longest commit of the control database", (double)c.commit_ns_max / NS_PER_S);
}

static void put_engines(struct buf *out, struct engines *engines)
{
    struct arena arena;
    const struct engine_status *list;
    arena_init(&arena, METRICS_BYTES_MAX);
    size_t count = engines_list(engines, &arena, &list);
    for (size_t i = 0; i < count; i++) {
        const struct engine_status *e = &list[i];
        if (buf_printf(out,
                       "capstan_engine_ready{model=\"%.*s\"} "
                       "%d\ncapstan_engine_resident_bytes{model=\"%.*s\"} %lld\n",
                       STR_ARG(e->name), e->ready_wall_ns > 0, STR_ARG(e->name),
                       (long long)MAX(e->resident_bytes, 0)) != RC_OK)
            break;
    }
    arena_fini(&arena);
}

static void put_loops(struct buf *out, struct loops *loops)
{
    struct loop_stats sum = {0}, one;
    for (int i = 0; i < loops_count(loops); i++) {
        loop_stats(loops_at(loops, i), &one);
        sum.turns += one.turns;
        sum.events += one.events;
        sum.busy_ns += one.busy_ns;
        sum.turn_ns_max = MAX(sum.turn_ns_max, one.turn_ns_max);
    }
    put(out, "capstan_loop_turns_total", "counter", "Turns of the event loops", (double)sum.turns);
    put(out, "capstan_loop_events_total", "counter", "Events they handed out", (double)sum.events);
    put(out, "capstan_loop_busy_seconds_total", "counter", "Time they were not waiting",
        (double)sum.busy_ns / NS_PER_S);
    put(out, "capstan_loop_turn_seconds_max", "gauge", "Longest turn: others waited meanwhile",
        (double)sum.turn_ns_max / NS_PER_S);
}

static void put_process(struct buf *out, const struct api_services *services)
{
    put(out, "process_resident_memory_bytes", "gauge", "Resident memory of the server itself",
        (double)process_resident_bytes(getpid()));
    put(out, "process_start_time_seconds", "gauge", "Start of the server, Unix time",
        (double)services->started_wall_ns / NS_PER_S);
}

static bool from_here(const struct http_request *request)
{
    return str_eq(request->peer, STR("127.0.0.1")) || str_eq(request->peer, STR("::1")) ||
           str_eq(request->peer, STR("unix"));
}

bool metrics_handle(struct api_services *services, struct loops *loops,
                    struct http_request *request)
{
    struct principal principal;
    struct key *key;
    struct err err = {0};
    if (!str_eq(request->path, STR("/metrics")))
        return false;
    if (!from_here(request) &&
        (api_authenticate(request, snapshot_current(), &principal, &key, &err) != RC_OK ||
         principal_require(&principal, PERMISSION_SERVER_READ, &err) != RC_OK)) {
        api_respond_problem(request, &err);
        return true;
    }
    struct buf out;
    buf_init(&out, METRICS_BYTES_MAX);
    if (gateway_metrics_render(&out) == RC_OK) {
        put_trace(&out, services->trace);
        put_db(&out, services->db);
        put_engines(&out, services->engines);
        put_loops(&out, loops);
        put_process(&out, services);
    }
    http_respond(request, 200, STR("text/plain; version=0.0.4"),
                 arena_copy(request->arena, buf_str(&out)));
    buf_fini(&out);
    return true;
}
