/* Small files of a model folder, whole. Blocks. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

/* .p NULL: there is no such file. RC_LIMIT: larger than `bytes_max`. */
enum rc read_file_if_there(const char *folder, const char *name, size_t bytes_max,
                           struct arena *arena, struct str *out, struct err *err) MUST_CHECK;
