/* The journal of runs: an append-only log (store/log.h) under data/run/, from which open runs go on
 * after a crash and ended ones are shown. Records name definitions by hash and nodes by id, never
 * what a compilation made.
 *
 *   DEFINITION  hash, text               before the first run that uses it
 *   START       head, JSON               who, what, inputs
 *   INTENT      id, {"p"}                before a side effect that must not happen twice
 *   RESULT      id, {"p", "out", "port"} or {"p", "err"} of a node that is no pure function
 *   WAIT        id, {"p", "wait"}        it waits for somebody, and until when
 *   END         head, JSON               the whole run, as it is shown
 *
 * `p` is the step's path, "each#3/ask". Pure nodes are not recorded: they are computed again from
 * what is. One thread writes and syncs what all loops append (group commit). Modes: `sync` a
 * result is durable before the run goes on; `async` it is soon; `exit` only the end is written. */
#pragma once
#include "base/err.h"
#include "base/id.h"
#include "store/log.h"

struct journal;
struct pipelines;
struct run;
struct step;
struct value;
struct open_run;

#define JOURNAL_KIND LOG_KIND('R', 'U', 'N', 'S')

enum journal_type {
    JOURNAL_DEFINITION = 1,
    JOURNAL_START,
    JOURNAL_INTENT,
    JOURNAL_RESULT,
    JOURNAL_WAIT,
    JOURNAL_END,
};

/* The fixed front of START and END. */
struct run_head {
    struct id id, project;
    int64_t started_ns, ended_ns; /* wall clock */
    int64_t version, cost_pico;
    uint64_t input_tokens, output_tokens;
    uint8_t status; /* enum run_status */
    struct str pipeline, trigger;
};
#define RUN_HEAD_BYTES_MAX 512
size_t run_head_encode(const struct run_head *head, char out[RUN_HEAD_BYTES_MAX]);
/* Texts point into `bytes`; *rest is what follows. RC_CORRUPT. */
enum rc run_head_decode(struct str bytes, struct run_head *head, struct str *rest) MUST_CHECK;

/* Reads what is there: ended runs go to the index, open ones are kept for journal_take_open. */
enum rc journal_open(struct pipelines *pipelines, struct journal **out, struct err *err) MUST_CHECK;
/* Writes and syncs what was appended, and lets another process write; nothing can be appended any
 * more. Blocks. */
void journal_release(struct journal *journal);
void journal_settle(struct journal *journal); /* the same, unless it was done */
void journal_close(struct journal *journal);
/* no_threads: one round of the writer; false: nothing was there to do. */
bool journal_step(struct journal *journal);
/* Before the loops run: gives each open run its loop, and the index its row. */
void journal_list_open(struct journal *journal, int loops);
/* On that loop. Hands each of its open runs out once, to be freed by open_run_free. */
struct open_run *journal_take_open(struct journal *journal, int loop);
void open_run_free(struct open_run *open);
/* It cannot go on: its end is written. */
void journal_give_up(struct journal *journal, const struct run_head *head, const struct err *err);
enum rc journal_read_end(struct journal *journal, uint64_t location, struct str *json,
                         void **block) MUST_CHECK;

/* ---- the engine's side; on the run's loop ---- */
/* True: go on. False: run_begin, journal_result_durable, run_ended come when it is durable. */
bool journal_start(struct run *run);
bool journal_result(struct step *step, struct value *outputs, struct str port,
                    const struct err *err);
bool journal_end(struct run *run);
void journal_result_durable(struct step *step, struct value *outputs, struct str port,
                            const struct err *err); /* run.c */
/* True: the journal knew the step's end, and it has ended. */
bool journal_replay(struct step *step);
void step_replayed(struct step *step, struct value *outputs, struct str port); /* run.c */
void journal_forget_step(struct step *step);
void journal_forget_run(struct run *run);

/* What the run found in its session. */
void journal_note_session(struct run *run, const struct value *found);

/* ---- for nodes ---- */
/* `go` is called when the intent is durable, perhaps from within. */
void journal_intent(struct step *step, void (*go)(struct step *step));
/* What a step waits for, JSON object; it finds it in step->record when it is taken up again. */
void journal_note_wait(struct step *step, struct str wait);
