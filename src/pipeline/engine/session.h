/* Sessions: what a conversation with a pipeline keeps from run to run, its variables and what was
 * said. Runs of a session take turns, each sees what the one before left, and what a run leaves is
 * in the control database before its end is told. A run that fails or is cancelled leaves nothing.
 * Only pipelines with conversation variables or a memory have sessions (plan->has_conversation).
 *
 * One table for all loops, under a short lock; a run calls on its own loop. */
#pragma once
#include "base/err.h"
#include "base/id.h"

struct run;
struct sessions;
struct pipelines;

#define SESSION_MESSAGES_MAX 200           /* that are kept of what was said */
#define SESSION_BYTES_MAX    (1024 * 1024) /* of them */
#define SESSION_QUEUE_MAX    100           /* runs that wait for their turn */
#define SESSION_PATH         "*session"    /* in the journal: what a run found */

struct sessions *sessions_new(struct pipelines *pipelines);
void sessions_free(struct sessions *sessions);
/* Before the loops run: the session is this run's, which an earlier process left; no other enters
 * until it has left. */
void sessions_reserve(struct sessions *sessions, struct id project, struct str pipeline,
                      struct str session, struct id run);
void sessions_give_up(struct sessions *sessions, struct id project, struct str pipeline,
                      struct str session, struct id run);
/* RC_OK: its turn, and the run knows the session. RC_AGAIN: run_has_turn comes. */
enum rc session_enter(struct run *run, struct err *err) MUST_CHECK;
/* With `store`, what the run leaves is kept; false: session_stored comes when it is durable. True:
 * session_forget passes the turn on once the run's end is in the journal, so that after a crash
 * only one open run can have found the session. */
bool session_leave(struct run *run, bool store) MUST_CHECK;
void session_forget(struct run *run);                           /* the run is being freed */
void run_has_turn(struct run *run);                             /* run.c */
void session_stored(struct run *run, const struct err *failed); /* run.c; NULL: well */
