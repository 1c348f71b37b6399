/* /api/server and /api/backup: the state of the server itself, and a copy of its data. */
#include "api/handlers.h"
#include "base/clock.h"
#include "io/child.h"
#include "job/job.h"
#include "model/engine.h"
#include "store/db.h"
#include "text/json.h"
#include "trace/trace.h"
#include <unistd.h>

static void put_trace(struct api_call *call, yyjson_mut_val *o)
{
    struct trace_counters c;
    trace_counters(call->services->trace, &c);
    yyjson_mut_val *trace = yyjson_mut_obj_add_obj(call->doc, o, "trace");
    yyjson_mut_obj_add_uint(call->doc, trace, "rows", c.rows);
    yyjson_mut_obj_add_uint(call->doc, trace, "stored", c.stored);
    yyjson_mut_obj_add_uint(call->doc, trace, "lost", c.lost_queue + c.lost_disk);
    yyjson_mut_obj_add_uint(call->doc, trace, "segments", c.segments);
    yyjson_mut_obj_add_sint(call->doc, trace, "bytes", c.log_bytes + c.segment_bytes);
    yyjson_mut_obj_add_bool(call->doc, trace, "disk_full", c.disk_full);
}

enum rc api_server_get(struct api_call *call)
{
    const struct api_services *services = call->services;
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_str(call->doc, o, "version", CAPSTAN_VERSION);
    api_put_time(call, o, "started_at", services->started_wall_ns);
    yyjson_mut_obj_add_sint(call->doc, o, "uptime_s",
                            (clock_wall_ns() - services->started_wall_ns) / NS_PER_S);
    yyjson_mut_obj_add_int(call->doc, o, "pid", getpid());
    yyjson_mut_obj_add_int(call->doc, o, "loops", services->loops);
    yyjson_mut_obj_add_sint(call->doc, o, "memory", process_resident_bytes(getpid()));
    api_put_str(call, o, "data", services->data_directory);
    api_put_str(call, o, "config", services->config_path.n ? services->config_path : STR_EMPTY);
    yyjson_mut_val *listen = yyjson_mut_obj_add_arr(call->doc, o, "listen");
    for (size_t i = 0; i < services->address_count; i++)
        yyjson_mut_arr_add_strn(call->doc, listen, services->addresses[i].p,
                                services->addresses[i].n);
    put_trace(call, o);
    struct engine_program program;
    engines_program(services->engines, &program);
    yyjson_mut_val *engine = yyjson_mut_obj_add_obj(call->doc, o, "engine");
    api_put_str(call, engine, "version", program.path[0] ? str_from(program.version) : STR_EMPTY);
    api_put_str(call, engine, "origin", program.path[0] ? str_from(program.origin) : STR_EMPTY);
    return RC_OK;
}

/* The new process does not answer on this connection: whoever asked sees its pid change. */
enum rc api_server_upgrade(struct api_call *call)
{
    enum rc rc = call->services->upgrade(call->services, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_int(call->doc, call->answer, "pid", getpid());
    call->status = 202;
    return RC_OK;
}

enum rc api_backup(struct api_call *call)
{
    struct job_row row;
    if (api_need_body(call) != RC_OK)
        return RC_INVALID;
    struct str directory = json_get_text(call->body, "directory");
    if (!str_starts(directory, STR("/")))
        return err_set_field(
            &call->err, ERR_BAD_FIELD, "directory",
            "'directory' must be an absolute path on the server's machine that does not exist yet");
    const struct actor actor = api_actor(call);
    struct str params = json_write(call->body, call->arena);
    enum rc rc = job_submit(call->services->jobs, call->txn, call->principal->project, "backup",
                            params, call->principal->name, call->arena, &row, &call->err);
    if (rc == RC_OK)
        rc = audit_write(call->txn, &actor, call->principal->project, "backup", STR("server"),
                         directory, STR_EMPTY, STR_EMPTY, &call->err);
    call->answer = job_encode(&row, call->doc);
    call->status = 202;
    return rc;
}
