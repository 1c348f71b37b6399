/* What starts a pipeline without a caller of the run interface: a schedule, or a webhook's
 * address. Each is an object of kind TRIGGER, named by its id's text (trig_…), and
 * stands in the snapshot, because its address is asked by strangers. */
#pragma once
#include "govern/principal.h"
#include "store/object.h"
#include "text/cron.h"
#include "text/expression.h"

#define TRIGGER_PREFIX           "trig"
#define TRIGGER_INPUTS_MAX       64
#define TRIGGER_SECRET_BYTES_MIN 16
#define TRIGGER_SIGNATURE_AGE_NS (300 * NS_PER_S)
#define TRIGGER_LATE_NS          (60 * NS_PER_S) /* what begins later was missed */
#define TRIGGER_CAUGHT_UP_MAX    100             /* missed runs that `all` makes good */
#define TRIGGER_PER_MINUTE       60              /* of a webhook, unless said */

enum trigger_kind { TRIGGER_SCHEDULE, TRIGGER_WEBHOOK };
enum trigger_check { TRIGGER_SIGNED, TRIGGER_TOKEN };
enum trigger_missed { TRIGGER_MISSED_ONCE, TRIGGER_MISSED_SKIP, TRIGGER_MISSED_ALL };
enum trigger_overlap { TRIGGER_OVERLAP_SKIP, TRIGGER_OVERLAP_WAIT, TRIGGER_OVERLAP_ALLOW };

struct trigger_input {
    struct str name;
    struct expression *value; /* over `body` and `headers` */
};

struct trigger {
    struct id id, project;
    enum trigger_kind kind;
    struct str title, pipeline, label;
    bool paused;
    /* schedules */
    struct str cron_text, time_zone, session;
    struct str inputs; /* JSON object, or empty */
    struct cron cron;
    int missed, overlap; /* enum trigger_missed, enum trigger_overlap */
    /* webhooks */
    int check; /* enum trigger_check */
    struct str secret;
    struct trigger_input *map; /* NULL: the body's members are the inputs */
    size_t map_count;
    struct expression *session_from; /* NULL: none */
    bool wait;
    int64_t requests_per_minute;
};

/* From its definition; texts and expressions in the arena. The secret is as it stands there. */
enum rc trigger_decode(struct id project, struct str name, yyjson_val *json, struct arena *arena,
                       struct trigger *out, struct err *err) MUST_CHECK;
const char *trigger_kind_name(enum trigger_kind kind);
/* On whose behalf its runs are: the project's, allowed what a viewer is. */
struct principal trigger_principal(const struct trigger *trigger);

/* The bytes that a secret's text stands for: after "whsec_" in base64, else the text itself. */
struct str webhook_secret_bytes(struct str secret, struct arena *arena);
/* A new secret, "whsec_…". */
struct str webhook_secret_new(struct arena *arena);
/* Standard Webhooks: "v1,BASE64" of HMAC-SHA256 over "ID.TIMESTAMP.BODY". .p NULL: no memory. */
struct str webhook_sign(struct str secret, struct str id, int64_t at_s, struct str body,
                        struct arena *arena);
/* Whether one of the signatures ("v1,… v1,…") is right and the time near `now_ns`. */
bool webhook_verify(struct str secret, struct str id, struct str timestamp, struct str signatures,
                    struct str body, int64_t now_ns, struct arena *arena);

/* ---- when a schedule runs ---- */

struct schedule_plan {
    int64_t fire_ns[TRIGGER_CAUGHT_UP_MAX]; /* the times that are due, in order */
    size_t count;
    int64_t missed;  /* times that are left out */
    int64_t next_ns; /* the first time that is not due; INT64_MAX: none */
};
/* Which of the times from `due_ns` on, itself one, are to be made good at `now_ns`. `running`: the
 * run before has not ended. */
void schedule_plan(const struct trigger *trigger, const struct zone *zone, int64_t due_ns,
                   int64_t now_ns, bool running, struct schedule_plan *out);
