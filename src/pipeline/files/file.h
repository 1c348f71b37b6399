/* Pipelines as files: one YAML or JSON document with the definition and, where there are some,
 * sample inputs and recorded runs. What `export` writes, `import` and `capstan pipeline` read.
 * Files of other programs are turned into definitions here (dify.h); nothing runs while one is
 * read.
 *
 *   kind: capstan-pipeline
 *   schema: 1
 *   name: hello
 *   definition: {schema: 1, nodes: …, edges: …}
 *   samples: [{name, inputs, session}]
 *   recordings: [{name, inputs, text, outputs, nodes: [{path, …}]}]       (replay.h)
 *   gallery: {title, summary, tags, model}                                (gallery.h) */
#pragma once
#include "pipeline/definition/document.h"

#define PIPELINE_FILE_SCHEMA    1
#define PIPELINE_FILE_BYTES_MAX (8 * 1024 * 1024)
#define PIPELINE_IMPORT_MAP_MAX 64

enum pipeline_file_format { PIPELINE_FILE_OWN, PIPELINE_FILE_DIFY };

/* What a file of another program names and we call otherwise. */
struct import_name {
    struct str from, to; /* from empty: every one that no other row names */
};

struct import_options {
    struct import_name models[PIPELINE_IMPORT_MAP_MAX];
    size_t model_count;
    struct import_name collections[PIPELINE_IMPORT_MAP_MAX];
    size_t collection_count;
};

/* What it is called here; itself where no row says. */
struct str import_name_find(const struct import_name *names, size_t count, struct str name);

struct pipeline_file {
    enum pipeline_file_format format;
    struct str name; /* letters, digits, '-', '_', '.'; may be empty */
    yyjson_val *definition;
    yyjson_val *samples, *recordings, *gallery; /* NULL: none */
    /* Of an import: [{"id", "title", "from", "to"}], `to` null where a node has no counterpart, and
     * what had to be left out or changed. An error means that something is missing. */
    yyjson_val *nodes;
    struct findings *notes;
    yyjson_val *models, *collections; /* names that it refers to: lists of texts */
};

/* `options` may be NULL. All lives in the arena. ERR_BAD_FIELD, ERR_INVALID, ERR_UNSUPPORTED: no
 * pipeline can be made of it, and why. A definition that is read may still have problems of its
 * own: document_check tells. */
enum rc pipeline_file_read(struct str text, const struct import_options *options,
                           struct arena *arena, struct pipeline_file *out,
                           struct err *err) MUST_CHECK;
/* As YAML. ERR_TOO_LARGE. */
enum rc pipeline_file_write(const struct pipeline_file *file, struct arena *arena, struct str *out,
                            struct err *err) MUST_CHECK;
/* `text` with what a name may not hold left out, in small letters; empty: nothing is left. */
struct str pipeline_file_name(struct str text, struct arena *arena);
