/* A sealed part: rows of call records in an immutable segment, columns first compressed by their
 * own nature (offset, common divisor, narrowest width; sorted dictionaries), bodies in zstd blocks,
 * zones of each granule. docs/design/trace.md has the format. */
#pragma once
#include "store/segment.h"
#include "trace/rowset.h"

#define PART_VERSION  1
#define PART_ROWS_MAX (256u * 1024)

struct part;

/* Rows that go into a new part; in order of sequence numbers over all inputs. */
struct part_input {
    struct rowset *rows;
    uint32_t count; /* rows in it */
    uint64_t *kept; /* bitmap; NULL: all */
    uint32_t kept_count;
};

/* Chooses what is not deleted now. */
void part_input_init(struct part_input *input, struct rowset *rows, uint32_t count);
void part_input_fini(struct part_input *input);

struct part_built {
    uint32_t rows;
    uint32_t records_unreadable; /* their columns are kept, their bodies are lost */
    int64_t bytes;
};

/* Writes the part `id` durably. With no row to keep nothing is written. Records that are damaged
 * lose their bodies; records that cannot be read now make it fail, unless it shall salvage what it
 * can. */
enum rc part_build(struct file_system *fs, const char *directory, uint64_t id,
                   const struct part_input *inputs, size_t count, bool salvage,
                   struct part_built *built, struct err *err) MUST_CHECK;

enum rc part_open(struct file_system *fs, const char *directory, uint64_t id, struct part **out,
                  struct err *err) MUST_CHECK;
/* Over bytes that the caller keeps: for fuzzing. */
enum rc part_open_bytes(struct str bytes, struct part **out, struct err *err) MUST_CHECK;
struct rowset *part_rows(struct part *part);
struct part *part_of(struct rowset *rows); /* NULL when it is not a part */
uint64_t part_id(const struct part *part);
int64_t part_bytes(const struct part *part);
void part_file_name(uint64_t id, char out[64]);

/* Rows deleted, as a file beside the part, written whole under a new generation each time. */
enum rc part_deletes_store(struct file_system *fs, const char *directory, const struct part *part,
                           uint64_t generation, struct err *err) MUST_CHECK;
enum rc part_deletes_load(struct file_system *fs, const char *directory, struct part *part,
                          uint64_t generation, struct err *err) MUST_CHECK;
void part_deletes_name(uint64_t id, uint64_t generation, char out[64]);
