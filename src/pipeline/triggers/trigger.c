/* See trigger.h. */
#include "pipeline/triggers/trigger.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/rand.h"
#include "text/decode.h"
#include "text/json.h"

#define TITLE_BYTES_MAX  200
#define TEXT_BYTES_MAX   2000
#define SECRET_BYTES_MAX 512
#define SECRET_PREFIX    "whsec_"
#define STEPS_MAX        100000 /* times that are counted one by one */

static const char *const kind_names[] = {"schedule", "webhook", NULL};

const char *trigger_kind_name(enum trigger_kind kind) { return kind_names[kind]; }

struct principal trigger_principal(const struct trigger *trigger)
{
    return (struct principal){.project = trigger->project,
                              .role = ROLE_VIEWER,
                              .permissions = role_permissions(ROLE_VIEWER),
                              .name = trigger->title};
}

/* ---- decoding ---- */

static enum rc copy_text(struct arena *arena, struct str *text, struct err *err)
{
    if (text->n && !(*text = arena_copy(arena, *text)).p)
        return err_set(err, ERR_TOO_LARGE, "The definition is too large.");
    return RC_OK;
}

static enum rc read_schedule(const struct place *root, struct arena *arena, struct trigger *out,
                             struct err *err)
{
    static const char *const missed[] = {"once", "skip", "all", NULL};
    static const char *const overlap[] = {"skip", "wait", "allow", NULL};
    struct place inputs;
    enum rc rc = decode_str(root, "cron", DECODE_REQUIRED, LIMIT_NAME_BYTES, &out->cron_text, err);
    if (rc == RC_OK)
        rc = cron_parse(out->cron_text, &out->cron, err);
    if (rc == RC_OK)
        rc = decode_str(root, "time_zone", DECODE_OPTIONAL, 64, &out->time_zone, err);
    if (rc == RC_OK)
        rc = decode_str(root, "session", DECODE_OPTIONAL, LIMIT_NAME_BYTES, &out->session, err);
    if (rc == RC_OK)
        rc = decode_word(root, "missed", missed, &out->missed, err);
    if (rc == RC_OK)
        rc = decode_word(root, "overlap", overlap, &out->overlap, err);
    if (rc == RC_OK)
        rc = decode_member(root, "inputs", DECODE_OPTIONAL, &inputs, err);
    if (rc == RC_OK)
        rc = decode_expect_object(&inputs, err);
    if (rc == RC_OK && inputs.value)
        out->inputs = json_write(inputs.value, arena);
    if (rc == RC_OK)
        rc = copy_text(arena, &out->cron_text, err);
    if (rc == RC_OK)
        rc = copy_text(arena, &out->time_zone, err);
    return rc == RC_OK ? copy_text(arena, &out->session, err) : rc;
}

static enum rc read_expression(struct str text, struct arena *arena, const char *field,
                               struct expression **out, struct err *err)
{
    struct str copy = arena_copy(arena, text);
    if (!copy.p)
        return err_set(err, ERR_TOO_LARGE, "The definition is too large.");
    enum rc rc = expression_parse(copy, arena, out, err);
    return rc == RC_OK ? rc : err_set_field(err, ERR_BAD_FIELD, field, "%s", err->message);
}

static enum rc read_map(const struct place *root, struct arena *arena, struct trigger *out,
                        struct err *err)
{
    struct place map;
    size_t i, n;
    yyjson_val *key, *value;
    enum rc rc = decode_member(root, "map", DECODE_OPTIONAL, &map, err);
    if (rc == RC_OK)
        rc = decode_expect_object(&map, err);
    if (rc != RC_OK || !map.value)
        return rc;
    if (yyjson_obj_size(map.value) > TRIGGER_INPUTS_MAX)
        return decode_refuse(&map, err, "At most %d inputs.", TRIGGER_INPUTS_MAX);
    out->map = ARENA_NEW_ARRAY(arena, struct trigger_input, yyjson_obj_size(map.value) + 1);
    if (!out->map)
        return err_set(err, ERR_TOO_LARGE, "The definition is too large.");
    yyjson_obj_foreach(map.value, i, n, key, value)
    {
        struct trigger_input *input = &out->map[out->map_count++];
        input->name = json_text(key);
        if (!yyjson_is_str(value))
            return decode_refuse(&map, err, "Each input is an expression, such as body.question.");
        rc = copy_text(arena, &input->name, err);
        if (rc == RC_OK)
            rc = read_expression(json_text(value), arena, "map", &input->value, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static enum rc read_webhook(const struct place *root, struct arena *arena, struct trigger *out,
                            struct err *err)
{
    static const char *const checks[] = {"signature", "token", NULL};
    struct str session = STR_EMPTY;
    enum rc rc = decode_word(root, "check", checks, &out->check, err);
    if (rc == RC_OK)
        rc = decode_str(root, "secret", DECODE_REQUIRED, SECRET_BYTES_MAX, &out->secret, err);
    if (rc == RC_OK && out->secret.n < TRIGGER_SECRET_BYTES_MIN)
        rc = err_set_field(err, ERR_BAD_FIELD, "secret", "A secret has at least %d characters.",
                           TRIGGER_SECRET_BYTES_MIN);
    if (rc == RC_OK)
        rc = decode_str(root, "session", DECODE_OPTIONAL, TEXT_BYTES_MAX, &session, err);
    if (rc == RC_OK && session.n)
        rc = read_expression(session, arena, "session", &out->session_from, err);
    if (rc == RC_OK)
        rc = decode_bool(root, "wait", &out->wait, err);
    if (rc == RC_OK)
        rc = read_map(root, arena, out, err);
    return rc == RC_OK ? copy_text(arena, &out->secret, err) : rc;
}

static enum rc read_kind(const struct place *root, struct arena *arena, struct trigger *out,
                         struct err *err)
{
    static const char *const common = "kind";
    static const char *const schedule[] = {common,   "title",  "pipeline",  "label",
                                           "paused", "cron",   "time_zone", "session",
                                           "inputs", "missed", "overlap",   NULL};
    static const char *const webhook[] = {common,
                                          "title",
                                          "pipeline",
                                          "label",
                                          "paused",
                                          "check",
                                          "secret",
                                          "map",
                                          "session",
                                          "wait",
                                          "requests_per_minute",
                                          NULL};
    static const char *const *const names[] = {schedule, webhook};
    enum rc rc = decode_only(root, names[out->kind], err);
    if (rc != RC_OK)
        return rc;
    switch (out->kind) {
    case TRIGGER_SCHEDULE: return read_schedule(root, arena, out, err);
    case TRIGGER_WEBHOOK: return read_webhook(root, arena, out, err);
    }
    UNREACHABLE();
}

enum rc trigger_decode(struct id project, struct str name, yyjson_val *json, struct arena *arena,
                       struct trigger *out, struct err *err)
{
    struct place root;
    int kind = 0;
    *out = (struct trigger){.project = project, .requests_per_minute = TRIGGER_PER_MINUTE};
    if (id_parse(name, TRIGGER_PREFIX, &out->id) != RC_OK)
        return err_set(err, ERR_INVALID, "'%.*s' is no trigger's id.", STR_ARG(name));
    decode_root(&root, json, "");
    if (!yyjson_obj_get(json, "kind"))
        return err_set_field(err, ERR_MISSING_FIELD, "kind", "'kind' is needed.");
    enum rc rc = decode_word(&root, "kind", kind_names, &kind, err);
    out->kind = (enum trigger_kind)kind;
    if (rc == RC_OK)
        rc = decode_str(&root, "pipeline", DECODE_REQUIRED, LIMIT_NAME_BYTES, &out->pipeline, err);
    if (rc == RC_OK)
        rc = decode_str(&root, "title", DECODE_OPTIONAL, TITLE_BYTES_MAX, &out->title, err);
    if (rc == RC_OK)
        rc = decode_str(&root, "label", DECODE_OPTIONAL, LIMIT_NAME_BYTES, &out->label, err);
    if (rc == RC_OK)
        rc = decode_bool(&root, "paused", &out->paused, err);
    if (rc == RC_OK)
        rc = decode_i64(&root, "requests_per_minute", 1, 100000, &out->requests_per_minute, err);
    if (rc == RC_OK)
        rc = read_kind(&root, arena, out, err);
    if (!out->title.n)
        out->title = str_from(trigger_kind_name(out->kind));
    struct str *texts[] = {&out->title, &out->pipeline, &out->label};
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(texts); i++)
        rc = copy_text(arena, texts[i], err);
    return rc;
}

/* ---- signatures ---- */

struct str webhook_secret_new(struct arena *arena)
{
    uint8_t secret[24];
    char text[40];
    rand_secret(secret, sizeof(secret));
    size_t n = base64_encode(secret, sizeof(secret), text);
    return arena_concat(arena, STR(SECRET_PREFIX), str_make(text, n));
}

struct str webhook_secret_bytes(struct str secret, struct arena *arena)
{
    if (!str_starts(secret, STR(SECRET_PREFIX)))
        return secret;
    struct str text = str_slice(secret, sizeof(SECRET_PREFIX) - 1, secret.n);
    char *bytes = arena_alloc(arena, text.n + 1);
    ssize_t n = bytes ? base64_decode(text, bytes, text.n) : -1;
    return n > 0 ? str_make(bytes, (size_t)n) : secret;
}

struct str webhook_sign(struct str secret, struct str id, int64_t at_s, struct str body,
                        struct arena *arena)
{
    uint8_t digest[SHA256_BYTES];
    char text[64];
    struct str head = arena_printf(arena, "%.*s.%lld.", STR_ARG(id), (long long)at_s);
    struct str signed_text = head.p ? arena_concat(arena, head, body) : STR_EMPTY;
    if (!signed_text.p)
        return STR_EMPTY;
    hash_hmac_sha256(webhook_secret_bytes(secret, arena), signed_text, digest);
    size_t n = base64_encode(digest, sizeof(digest), text);
    return arena_concat(arena, STR("v1,"), str_make(text, n));
}

bool webhook_verify(struct str secret, struct str id, struct str timestamp, struct str signatures,
                    struct str body, int64_t now_ns, struct arena *arena)
{
    int64_t at_s;
    struct str one;
    bool good = false;
    if (!id.n || str_to_i64(timestamp, &at_s) != RC_OK)
        return false;
    int64_t age_s = now_ns / NS_PER_S - at_s;
    if (at_s < 0 || age_s > TRIGGER_SIGNATURE_AGE_NS / NS_PER_S ||
        -age_s > TRIGGER_SIGNATURE_AGE_NS / NS_PER_S)
        return false;
    struct str right = webhook_sign(secret, id, at_s, body, arena);
    while (right.p && str_split(&signatures, ' ', &one))
        good |= str_eq_secret(one, right);
    return good;
}

/* ---- when a schedule runs ---- */

static int64_t next_ns(const struct trigger *trigger, const struct zone *zone, int64_t after_ns)
{
    int64_t next = cron_next_s(&trigger->cron, zone, after_ns / NS_PER_S);
    return next == INT64_MAX ? INT64_MAX : next * NS_PER_S;
}

static void take(struct schedule_plan *plan, int64_t at_ns)
{
    if (plan->count == COUNT_OF(plan->fire_ns)) { /* the newest count */
        memmove(plan->fire_ns, plan->fire_ns + 1, sizeof(plan->fire_ns) - sizeof(int64_t));
        plan->count--;
        plan->missed++;
    }
    plan->fire_ns[plan->count++] = at_ns;
}

/* One run at a time: what else is due stays due, or is left out. */
static void allow_one(const struct trigger *trigger, bool running, int64_t due_ns,
                      struct schedule_plan *out)
{
    if (trigger->overlap == TRIGGER_OVERLAP_ALLOW || out->count == 0)
        return;
    size_t keep = running ? 0 : 1;
    if (trigger->overlap == TRIGGER_OVERLAP_WAIT && out->count > keep) {
        out->next_ns = running ? MIN(due_ns, out->fire_ns[0]) : out->fire_ns[1];
        if (running)
            out->missed = 0; /* they are asked about again */
    } else {
        out->missed += (int64_t)(out->count - keep);
    }
    out->count = keep;
}

void schedule_plan(const struct trigger *trigger, const struct zone *zone, int64_t due_ns,
                   int64_t now_ns, bool running, struct schedule_plan *out)
{
    int64_t at = due_ns;
    *out = (struct schedule_plan){0};
    for (size_t i = 0; at <= now_ns; i++, at = next_ns(trigger, zone, at)) {
        if (i == STEPS_MAX) { /* a machine that slept for long */
            at = next_ns(trigger, zone, now_ns);
            break;
        }
        if (trigger->missed == TRIGGER_MISSED_SKIP && now_ns - at > TRIGGER_LATE_NS) {
            out->missed++;
            continue;
        }
        if (trigger->missed == TRIGGER_MISSED_ONCE && out->count == 1) {
            out->count = 0;
            out->missed++;
        }
        take(out, at);
    }
    out->next_ns = at;
    allow_one(trigger, running, due_ns, out);
}
