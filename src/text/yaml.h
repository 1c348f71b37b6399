/* YAML as people write configuration, read into the JSON tree that all decoders share, with the
 * line of every value kept for error messages. Anchors and aliases are expanded within bounds;
 * tags, merge keys and several documents are refused. Plain scalars follow YAML 1.2's core schema:
 * `yes` is text. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include <yyjson.h>

#define YAML_BYTES_MAX (8 * 1024 * 1024)
#define YAML_NODES_MAX 1000000 /* aliases expanded */
#define YAML_DEPTH_MAX 64

/* Where values stand: path ("routes.smart.targets[0].model") → line, from 1. */
struct yaml_lines {
    struct map by_path;
};

/* `lines` may be NULL, which is much faster; else give it back with yaml_lines_fini. *doc and the
 * paths live in the arena. ERR_INVALID with "line N: …": bad syntax, a key twice, a bound passed.
 * An empty text is an empty object. */
enum rc yaml_read(struct str text, struct arena *arena, struct yaml_lines *lines, yyjson_doc **doc,
                  struct err *err) MUST_CHECK;
/* The line of the path, or of the nearest enclosing value that has one; 0: none. */
int yaml_line_of(const struct yaml_lines *lines, struct str path);
void yaml_lines_fini(struct yaml_lines *lines);

/* Appends a value as block-style YAML. RC_LIMIT: past the buffer's maximum. */
enum rc yaml_write(yyjson_val *value, struct buf *out) MUST_CHECK;
