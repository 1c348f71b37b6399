/* Checks: what a route lets in and out. A check looks for a pattern (PCRE2), for personal data (PII
 * kinds) or whether text is JSON of a schema, and then blocks the call, masks what it found, or
 * only flags it in the call's record. Compiled once with the configuration; immutable; any number
 * of threads.
 *
 * Streamed text is checked as it flows: what may still become a match is held back, at most
 * CHECK_WINDOW_BYTES, so that a match over a frame's border is found. Longer matches of an
 * open-ended pattern are cut at the window: the part within it is masked. A schema needs the whole
 * text. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "gateway/config.h"

#define CHECK_WINDOW_BYTES   4096
#define CHECK_TEXT_BYTES_MAX (8 * 1024 * 1024)

/* Sets check->compiled, which lives in the arena (the snapshot's). ERR_BAD_FIELD naming what is
 * wrong with the pattern. PII kinds: see check_pii_kinds; an empty pattern means all of them. */
enum rc check_compile(struct check *check, struct arena *arena, struct err *err) MUST_CHECK;
/* Comma-separated list of the kinds that exist. */
struct str check_pii_kinds(void);

/* What was found, for the call's record. */
struct check_finding {
    const struct check *check;
    unsigned count;  /* matches; schema: 1 */
    char detail[96]; /* the PII kind, or the place in the schema; never the matched text */
};

#define CHECK_FINDINGS_MAX 16

struct check_report {
    struct check_finding findings[CHECK_FINDINGS_MAX];
    size_t count;
    bool blocked; /* by findings[blocked_by] */
    size_t blocked_by;
};

/* Whole text against all checks of the route for that direction (CHECK_INPUT or CHECK_OUTPUT). *out
 * is the text with masks, or `text` itself where nothing changed. RC_OK also when blocked: see the
 * report. RC_LIMIT: a match limit or the arena's cap was reached; treat it as blocked. */
enum rc check_text(const struct check *checks, size_t check_count, int direction, struct str text,
                   struct arena *arena, struct str *out, struct check_report *report) MUST_CHECK;
/* JSON array for the record: [{"name":…,"action":…,"count":…,"detail":…}]. .p NULL when out of
 * memory. */
struct str check_report_json(const struct check_report *report, struct arena *arena);
/* ERR_CHECK_BLOCKED with the check's name. */
enum rc check_blocked_err(const struct check_report *report, struct err *err);

/* ---- streams: one object per text that flows (a choice's content) ---- */
struct check_stream;
/* NULL when the arena's cap is reached. */
struct check_stream *check_stream_new(const struct check *checks, size_t check_count, int direction,
                                      struct arena *arena);
/* More text; *out is what may be passed on now (valid until the next call). */
enum rc check_stream_push(struct check_stream *stream, struct str text, struct str *out,
                          struct check_report *report) MUST_CHECK;
/* The text has ended: what was held back. */
enum rc check_stream_finish(struct check_stream *stream, struct str *out,
                            struct check_report *report) MUST_CHECK;
void check_stream_fini(struct check_stream *stream);
