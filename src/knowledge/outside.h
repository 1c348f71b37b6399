/* What a worker asks of others and waits for: a model behind a route, or a service by HTTP. Both
 * run on the jobs' loop (knowledge_attach); the worker waits until there is an answer, the time is
 * over or its work was cancelled. One question for each. */
#pragma once
#include "http/message.h"
#include "knowledge/knowledge_private.h"

struct outside;

/* The arena is for the texts of the question; they live in it until both sides have let go, for a
 * worker that was cancelled does not wait for the loop. The answer has `answer_bytes_max` at most.
 */
struct outside *outside_new(struct knowledge *knowledge, size_t arena_bytes_max,
                            size_t answer_bytes_max);
void outside_free(struct outside *outside); /* what is under way is cancelled */
struct arena *outside_arena(struct outside *outside);
/* A file's bytes, as long as the question lives. ERR_INVALID. */
enum rc outside_map_file(struct outside *outside, const char *path, struct str *out,
                         struct err *err) MUST_CHECK;

/* A chat completion (OpenAI's form), asked in the project's name and recorded as any call. *answer:
 * its body, as long as `outside`. RC_CANCELLED; the gateway's errors as they are. */
enum rc outside_ask(struct outside *outside, struct id project, struct str author, struct str body,
                    int64_t timeout_ns, const volatile bool *cancelled, struct str *answer,
                    struct err *err) MUST_CHECK;

struct outside_request {
    struct str method, url;
    const struct http_header *headers;
    size_t header_count;
    struct str body[3]; /* sent one after the other */
    int64_t timeout_ns; /* of the whole */
};

/* Addresses that are not public are refused after resolving, unless knowledge.http_allow names
 * them; redirects are not followed. RC_OK: there is an answer, whatever its status. ERR_TOO_LARGE,
 * ERR_TIMEOUT, ERR_FORBIDDEN, RC_CANCELLED, else the connection's error. */
enum rc outside_fetch(struct outside *outside, const struct outside_request *request,
                      const volatile bool *cancelled, int *status, struct str *answer,
                      struct err *err) MUST_CHECK;
