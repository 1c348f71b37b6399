/* Checks on text, whole and streamed. A stream goes through one stage per check, one after the
 * other; what a stage lets through is the next one's input. A stage keeps the text that it has not
 * let through yet, and a little of what it has, for patterns that look behind.
 *
 * PCRE2's hard partial matching tells where a match might still begin: up to there text may go.
 * Patterns are matched by the interpreter with limits on work and memory: code that is compiled
 * into the configuration's arena needs no freeing and no executable pages. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "gateway/check_internal.h"
#include "base/limits.h"
#include "text/json.h"
#include "text/json_schema.h"
#include "text/json_writer.h"
#include <pcre2.h>
#include <stdio.h>

#define MATCH_LIMIT       500000 /* steps of the interpreter for one match */
#define HEAP_LIMIT_KB     4096
#define LOOK_BEHIND_BYTES 256

struct compiled {
    pcre2_code *codes[PII_COUNT]; /* a regex: only [0] */
    size_t code_count;
    enum pii kinds[PII_COUNT];
    struct json_schema *schema;
};

/* ---- compiling ---- */

static void *arena_malloc(size_t n, void *arena) { return arena_alloc(arena, n); }
static void arena_free(void *p, void *arena)
{
    UNUSED(p);
    UNUSED(arena);
}

static enum rc compile_regex(struct compiled *compiled, struct str pattern, struct arena *arena,
                             struct err *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_general_context *memory = pcre2_general_context_create(arena_malloc, arena_free, arena);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    if (!context)
        return err_set(err, ERR_TOO_LARGE, "the check needs more memory than it may use");
    pcre2_code *made = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n,
                                     PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
                                     &code, &at, context);
    if (!made) {
        PCRE2_UCHAR message[160];
        pcre2_get_error_message(code, message, sizeof(message));
        return err_set_field(err, ERR_BAD_FIELD, "pattern", "%s at character %zu", (char *)message,
                             (size_t)at);
    }
    compiled->codes[compiled->code_count++] = made;
    return RC_OK;
}

struct str check_pii_kinds(void)
{
#define PII(symbol, name, mask, pattern) "," name
    static const char names[] =
#include "gateway/check_pii.h"
        ;
#undef PII
    return str_make(names + 1, sizeof(names) - 2);
}

static enum rc compile_pii(struct compiled *compiled, struct str list, struct arena *arena,
                           struct err *err)
{
    const struct pii_kind *kinds = pii_kinds();
    struct str rest = list.n ? list : check_pii_kinds(), name;
    while (str_split(&rest, ',', &name)) {
        size_t kind = 0;
        name = str_trim(name);
        while (kind < PII_COUNT && !str_eq(kinds[kind].name, name))
            kind++;
        if (kind == PII_COUNT)
            return err_set_field(err, ERR_BAD_FIELD, "pattern",
                                 "no kind of personal data is called \"%.*s\": there are %.*s",
                                 (int)MIN(name.n, (size_t)60), name.p, STR_ARG(check_pii_kinds()));
        for (size_t i = 0; i < compiled->code_count; i++)
            if (compiled->kinds[i] == kind)
                return err_set_field(err, ERR_BAD_FIELD, "pattern", "\"%.*s\" is named twice",
                                     STR_ARG(name));
        compiled->kinds[compiled->code_count] = (enum pii)kind;
        enum rc rc = compile_regex(compiled, kinds[kind].pattern, arena, err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

enum rc check_compile(struct check *check, struct arena *arena, struct err *err)
{
    struct compiled *compiled = ARENA_NEW(arena, struct compiled);
    if (!compiled)
        return err_set(err, ERR_TOO_LARGE, "the check needs more memory than it may use");
    check->compiled = compiled;
    if (check->kind == CHECK_PII)
        return compile_pii(compiled, check->pattern, arena, err);
    if (!check->pattern.n)
        return err_set_field(err, ERR_MISSING_FIELD, "pattern", "`pattern` is missing");
    if (check->kind == CHECK_REGEX)
        return compile_regex(compiled, check->pattern, arena, err);
    if (check->action == CHECK_MASK)
        return err_set_field(err, ERR_BAD_FIELD, "action",
                             "a JSON schema can block or flag, not mask");
    return json_schema_compile(check->pattern, arena, &compiled->schema, err);
}

/* ---- reports ---- */

static void report_add(struct check_report *report, const struct check *check, struct str detail)
{
    struct check_finding *finding = NULL;
    for (size_t i = 0; i < report->count && !finding; i++)
        if (report->findings[i].check == check &&
            str_eq(str_from(report->findings[i].detail), str_slice(detail, 0, 95)))
            finding = &report->findings[i];
    if (!finding && report->count < CHECK_FINDINGS_MAX) {
        finding = &report->findings[report->count++];
        *finding = (struct check_finding){.check = check};
        snprintf(finding->detail, sizeof(finding->detail), "%.*s", STR_ARG(detail));
    }
    if (finding)
        finding->count++;
    if (check->action == CHECK_BLOCK && !report->blocked) {
        report->blocked = true;
        report->blocked_by = finding ? (size_t)(finding - report->findings) : report->count - 1;
    }
}

struct str check_report_json(const struct check_report *report, struct arena *arena)
{
    static const char *const actions[] = {
        [CHECK_BLOCK] = "block", [CHECK_MASK] = "mask", [CHECK_FLAG] = "flag"};
    struct buf buf;
    buf_init(&buf, 64 * 1024);
    struct json_writer w = json_writer_to(&buf);
    json_begin_array(&w);
    for (size_t i = 0; i < report->count; i++) {
        const struct check_finding *finding = &report->findings[i];
        json_begin_object(&w);
        json_put_string(&w, "name", finding->check->name);
        json_put_text(&w, "action", actions[finding->check->action]);
        json_put_uint(&w, "count", finding->count);
        json_put_text(&w, "detail", finding->detail);
        json_end_object(&w);
    }
    json_end_array(&w);
    struct str text = w.rc ? STR_EMPTY : arena_copy(arena, buf_str(&buf));
    buf_fini(&buf);
    return text;
}

enum rc check_blocked_err(const struct check_report *report, struct err *err)
{
    const struct check_finding *finding = &report->findings[report->blocked_by];
    return err_set(err, ERR_CHECK_BLOCKED, "blocked by the route's check \"%.*s\"%s%s",
                   STR_ARG(finding->check->name), finding->detail[0] ? ": " : "", finding->detail);
}

/* ---- one stage ---- */

struct stage {
    const struct check *check;
    const struct compiled *compiled;
    struct buf text; /* what was let through last (for looking behind), then what was not yet */
    size_t from;     /* start of what was not let through, from the front of `text` */
};

struct check_stream {
    struct stage *stages;
    size_t stage_count;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    struct buf out[2]; /* between stages, in turn */
};

struct match {
    enum { MATCH_NONE, MATCH_FULL, MATCH_PARTIAL, MATCH_FAILED } kind;
    size_t from, to;
    size_t code; /* index of the pattern */
};

/* The pattern's next verified match at or after `at`. */
static struct match match_code(struct check_stream *stream, const struct stage *stage, size_t code,
                               struct str text, size_t at, bool final)
{
    bool pii = stage->check->kind == CHECK_PII;
    while (at <= text.n) {
        uint32_t options = final ? 0 : PCRE2_PARTIAL_HARD;
        int rc = pcre2_match(stage->compiled->codes[code], (PCRE2_SPTR)text.p, text.n, at,
                             options | PCRE2_NOTEMPTY, stream->match, stream->limits);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(stream->match);
        struct match match = {MATCH_FULL, place[0], place[1], code};
        if (rc == PCRE2_ERROR_PARTIAL) {
            match.kind = MATCH_PARTIAL;
            return match;
        }
        if (rc < 0)
            return (struct match){.kind = MATCH_FAILED};
        size_t verified = match.to - match.from;
        if (pii)
            verified =
                pii_verify(stage->compiled->kinds[code], str_slice(text, match.from, match.to));
        if (verified) {
            match.to = match.from + verified;
            return match;
        }
        at = match.from + 1;
    }
    return (struct match){.kind = MATCH_NONE};
}

/* The leftmost of all patterns' matches; at the same place the first pattern's, also when it may
 * only come: else what is found would depend on how the stream was cut. */
static struct match match_next(struct check_stream *stream, const struct stage *stage,
                               struct str text, size_t at, bool final)
{
    struct match best = {.kind = MATCH_NONE};
    for (size_t code = 0; code < stage->compiled->code_count; code++) {
        struct match match = match_code(stream, stage, code, text, at, final);
        if (match.kind == MATCH_FAILED)
            return match;
        if (match.kind == MATCH_NONE)
            continue;
        if (best.kind == MATCH_NONE || match.from < best.from)
            best = match;
    }
    return best;
}

static enum rc pass_match(const struct stage *stage, struct str text, const struct match *match,
                          struct buf *out, struct check_report *report)
{
    const struct check *check = stage->check;
    bool pii = check->kind == CHECK_PII;
    const struct pii_kind *kind = pii ? &pii_kinds()[stage->compiled->kinds[match->code]] : NULL;
    report_add(report, check, kind ? kind->name : STR(""));
    if (check->action == CHECK_MASK)
        return buf_append(out, kind ? kind->mask : STR("[MASKED]"));
    return buf_append(out, str_slice(text, match->from, match->to));
}

/* Forgets what is not looked at again: all but a little before `from`, cut between characters. */
static void stage_forget(struct stage *stage)
{
    if (stage->from <= LOOK_BEHIND_BYTES)
        return;
    struct str text = buf_str(&stage->text);
    size_t drop = stage->from - LOOK_BEHIND_BYTES;
    while (drop < stage->from && (text.p[drop] & 0xc0) == 0x80)
        drop++;
    buf_consume(&stage->text, drop);
    stage->from -= drop;
}

static enum rc stage_patterns(struct check_stream *stream, struct stage *stage, bool final,
                              struct buf *out, struct check_report *report)
{
    struct str text = buf_str(&stage->text);
    size_t at = stage->from;
    enum rc rc = RC_OK;
    bool cut = false;
    while (!rc && at < text.n) {
        struct match match = match_next(stream, stage, text, at, final || cut);
        if (match.kind == MATCH_FAILED)
            return RC_LIMIT;
        if (match.kind == MATCH_PARTIAL) {
            rc = buf_append(out, str_slice(text, at, match.from));
            at = match.from;
            if (text.n - at <= CHECK_WINDOW_BYTES)
                break;
            cut = true; /* too long to wait: decide with what is here */
            continue;
        }
        size_t to = match.kind == MATCH_FULL ? match.from : text.n;
        rc = buf_append(out, str_slice(text, at, to));
        at = to;
        if (!rc && match.kind == MATCH_FULL) {
            rc = pass_match(stage, text, &match, out, report);
            at = match.to;
        }
        cut = false;
    }
    stage->from = at;
    stage_forget(stage);
    return rc;
}

static enum rc stage_schema(struct stage *stage, bool final, struct buf *out,
                            struct check_report *report)
{
    struct str text = buf_str(&stage->text);
    struct json_schema_problem problem = {.message = "not JSON"};
    struct arena arena;
    yyjson_doc *doc = NULL;
    if (!final)
        return RC_OK;
    arena_init(&arena, 16ul * CHECK_TEXT_BYTES_MAX);
    enum rc rc = json_read(text, &arena, &doc, NULL);
    if (!rc)
        rc = json_schema_check(stage->compiled->schema, yyjson_doc_get_root(doc), &problem);
    if (rc) {
        char detail[96];
        snprintf(detail, sizeof(detail), "%.40s%s%.50s", problem.path, problem.path[0] ? " " : "",
                 problem.message);
        report_add(report, stage->check, str_from(detail));
    }
    arena_fini(&arena);
    stage->from = text.n;
    return buf_append(out, text);
}

static enum rc run_stages(struct check_stream *stream, struct str text, bool final, struct str *out,
                          struct check_report *report)
{
    *out = text;
    for (size_t i = 0; i < stream->stage_count; i++) {
        struct stage *stage = &stream->stages[i];
        struct buf *to = &stream->out[i % 2];
        buf_clear(to);
        enum rc rc = buf_append(&stage->text, *out);
        if (!rc && stage->check->kind == CHECK_JSON_SCHEMA)
            rc = stage_schema(stage, final, to, report);
        else if (!rc)
            rc = stage_patterns(stream, stage, final, to, report);
        if (rc)
            return RC_LIMIT;
        *out = buf_str(to);
    }
    return RC_OK;
}

/* ---- streams ---- */

struct check_stream *check_stream_new(const struct check *checks, size_t check_count, int direction,
                                      struct arena *arena)
{
    struct check_stream *stream = ARENA_NEW(arena, struct check_stream);
    pcre2_general_context *memory = pcre2_general_context_create(arena_malloc, arena_free, arena);
    if (!stream || !memory)
        return NULL;
    stream->stages = ARENA_NEW_ARRAY(arena, struct stage, MAX(check_count, (size_t)1));
    stream->match = pcre2_match_data_create(8, memory);
    stream->limits = pcre2_match_context_create(memory);
    if (!stream->stages || !stream->match || !stream->limits)
        return NULL;
    pcre2_set_match_limit(stream->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(stream->limits, HEAP_LIMIT_KB);
    for (size_t i = 0; i < check_count; i++) {
        if (!((int)checks[i].on & direction))
            continue;
        struct stage *stage = &stream->stages[stream->stage_count++];
        stage->check = &checks[i];
        stage->compiled = checks[i].compiled;
        ASSERT(stage->compiled != NULL);
        buf_init(&stage->text, CHECK_TEXT_BYTES_MAX);
    }
    buf_init(&stream->out[0], 2 * CHECK_TEXT_BYTES_MAX);
    buf_init(&stream->out[1], 2 * CHECK_TEXT_BYTES_MAX);
    return stream;
}

enum rc check_stream_push(struct check_stream *stream, struct str text, struct str *out,
                          struct check_report *report)
{
    return run_stages(stream, text, false, out, report);
}

enum rc check_stream_finish(struct check_stream *stream, struct str *out,
                            struct check_report *report)
{
    return run_stages(stream, STR_EMPTY, true, out, report);
}

void check_stream_fini(struct check_stream *stream)
{
    for (size_t i = 0; i < stream->stage_count; i++)
        buf_fini(&stream->stages[i].text);
    buf_fini(&stream->out[0]);
    buf_fini(&stream->out[1]);
}

enum rc check_text(const struct check *checks, size_t check_count, int direction, struct str text,
                   struct arena *arena, struct str *out, struct check_report *report)
{
    struct str checked;
    struct check_stream *stream = check_stream_new(checks, check_count, direction, arena);
    *out = text;
    if (!stream)
        return RC_LIMIT;
    enum rc rc = run_stages(stream, text, true, &checked, report);
    if (!rc && !str_eq(checked, text)) {
        *out = checked.n ? arena_copy(arena, checked) : STR("");
        rc = out->p ? RC_OK : RC_LIMIT;
    }
    check_stream_fini(stream);
    return rc;
}
