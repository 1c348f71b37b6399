/* The fresh rows, in memory, in the columns of rowset.h. One writer appends; any number of readers
 * see the rows up to the count that they loaded. Never moves memory: arrays have their final size
 * from the start and are touched as they fill. Bodies stay in the log. */
#pragma once
#include "store/log.h"
#include "trace/rowset.h"
#include "trace/spend.h"

struct tail;

/* `log` is read when a body is asked for: it may be opened later. */
struct tail *tail_new(struct log *const *log, uint32_t rows_max);
struct rowset *tail_rows(struct tail *tail);
struct tail *tail_of(struct rowset *rows);
/* False when it is full. */
bool tail_has_room(const struct tail *tail);
/* Writer only. `bytes` are the record's; nothing of them is kept by pointer. Visible on return. */
void tail_append(struct tail *tail, const struct call_record *call, uint64_t seq, uint64_t location,
                 uint32_t record_bytes);
/* Writer only: the record of this sequence number moved in the log (after a failed sync). */
void tail_moved(struct tail *tail, uint64_t seq, uint64_t location);
/* Writer only: a record that has no row (spend, erasure) belongs to this tail's range. */
void tail_note_seq(struct tail *tail, uint64_t seq, uint32_t record_bytes);
uint32_t tail_count(const struct tail *tail); /* rows visible now; any thread */
int64_t tail_log_bytes(const struct tail *tail);
/* What its records add to the spend. Writer while it is filled, keeper once frozen; readers under
 * the store's mutex. */
struct spend *tail_spend(struct tail *tail);
