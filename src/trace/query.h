/* Looking rows up; shared by the queries and by erasing. */
#pragma once
#include "trace/rowset.h"

/* Calls `each` for the rows, among the first n, that have the id (there is one at most, but for
 * records submitted twice) or the end user, in the project; deleted ones are left out. */
enum rc query_each_of_id(const struct rowset *rows, uint32_t n, struct id project, struct id id,
                         enum rc (*each)(void *arg, uint32_t row), void *arg) MUST_CHECK;
enum rc query_each_of_user(const struct rowset *rows, uint32_t n, struct id project,
                           struct str user, enum rc (*each)(void *arg, uint32_t row),
                           void *arg) MUST_CHECK;
