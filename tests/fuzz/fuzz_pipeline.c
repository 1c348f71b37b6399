/* Definitions and the run journal's records, from arbitrary bytes: the document reader with its
 * check, the compiler, and what recovery reads. */
#include "pipeline/engine/open_run.h"
#include "pipeline/definition/plan.h"
#include "text/json.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_definition(struct str text)
{
    struct plan *plan;
    struct err err = {0};
    if (plan_compile(text, &plan, &err) == RC_OK) {
        ASSERT(plan->level_count > 0 && plan->document->start != NO_NODE);
        plan_unref(plan);
    }
}

/* The first byte is the record's type. */
static void read_records(struct str bytes)
{
    struct open_runs runs;
    struct open_run *open;
    struct run_head head;
    struct str rest;
    open_runs_init(&runs);
    while (bytes.n > 2) {
        size_t length = (uint8_t)bytes.p[1] * 4u;
        struct log_record record = {.seq = 1, .type = (uint16_t)(bytes.p[0] & 7)};
        record.payload = str_slice(bytes, 2, 2 + length);
        open_runs_add(&runs, &record);
        if (run_head_decode(record.payload, &head, &rest) == RC_OK) {
            char again[RUN_HEAD_BYTES_MAX];
            ASSERT(run_head_encode(&head, again) <= sizeof(again));
            if (record.type == JOURNAL_END)
                open_runs_end(&runs, head.id);
        }
        bytes = str_slice(bytes, 2 + length, bytes.n);
    }
    open_runs_split(&runs, 1);
    while ((open = open_runs_take(&runs, 0)))
        open_run_free(open);
    open_runs_fini(&runs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = str_make(data, n);
    read_definition(text);
    read_records(text);
    return 0;
}
