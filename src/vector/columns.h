/* Payload members of a segment as columns: for each member the different values, and for each row
 * which of them it has. A condition on one member is answered once a value, then looked up for each
 * row. Made from the rows when first asked for, kept in memory; immutable. */
#pragma once
#include "text/expression.h"
#include "vector/rows_segment.h"

struct columns;
/* RC_CORRUPT: a row; RC_LIMIT: memory. */
enum rc columns_new(const struct rows_segment *rows, struct columns **out) MUST_CHECK;
void columns_free(struct columns *columns);
size_t columns_bytes(const struct columns *columns);

/* A test of one value (NULL: the row has no such member); false in *known: it cannot say. */
typedef bool columns_test(void *arg, yyjson_val *value, bool *known);
/* Clears the bits of rows whose value does not pass. False: the member has no column, or the test
 * could not say; the bits are as they were then. */
bool columns_filter(const struct columns *columns, struct str member, columns_test *test, void *arg,
                    uint64_t *bits);
/* The same for an expression; conditions that name several members at once have no answer here. */
bool columns_filter_expression(const struct columns *columns, const struct expression *filter,
                               uint64_t *bits);
