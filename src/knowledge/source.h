/* Sources: where a collection's documents come from by themselves. A source is a row
 * (store/source_table.h) with a definition; a sync, the durable job "knowledge_sync", makes the
 * collection's documents follow what is found there: new ones, changed ones, those that are gone.
 *
 *   urls       a list of addresses
 *   sitemap    the addresses of a sitemap, or of an index of them
 *   crawl      pages of one host, by their links from a first one; robots.txt is obeyed
 *   directory  files on the server, below folders that the administrator named
 *   git        files of a branch, by the `git` program
 *   s3         objects of an S3-compatible bucket
 *
 * All functions block and are for workers, but where it says so. */
#pragma once
#include "knowledge/knowledge.h"
#include "store/source_table.h"

#define SOURCE_NAME_BYTES_MAX 100
#define SOURCE_URLS_MAX       10000
#define SOURCE_GLOBS_MAX      100
#define SOURCE_ITEMS_MAX      100000 /* whatever the definition says */
#define SOURCE_KEY_BYTES_MAX  2048
#define SOURCES_MAX           200 /* of a collection */

enum source_kind {
    SOURCE_URLS,
    SOURCE_SITEMAP,
    SOURCE_CRAWL,
    SOURCE_DIRECTORY,
    SOURCE_GIT,
    SOURCE_S3,
    SOURCE_KIND_COUNT
};

struct source_spec {
    enum source_kind kind;
    struct str name;
    struct str *urls; /* urls */
    size_t url_count;
    struct str url;         /* sitemap, crawl, git: where it begins */
    int64_t depth;          /* crawl: links from the first page; 0: that page only */
    double rate_per_s;      /* requests to a host */
    struct str path;        /* directory: absolute; git: a folder of the repository, or empty */
    struct str branch;      /* git; empty: the default one */
    struct str user, token; /* git over HTTPS; token: secret */
    struct str endpoint, region;                                 /* s3 */
    struct str bucket, prefix, access_key_id, secret_access_key; /* the last: secret */
    bool path_style;               /* s3: the bucket in the path, not in the host's name */
    struct str *include, *exclude; /* globs over keys; no `include`: everything */
    size_t include_count, exclude_count;
    int64_t items_max;
    int64_t every_ns;            /* 0: by hand only */
    bool keep_gone;              /* documents that are gone at the source stay */
    struct str attributes, tags; /* JSON, for each document; or empty */
};

const char *source_kind_name(enum source_kind kind);
/* ERR_BAD_FIELD names the member. Texts live in the document or the arena; secrets are as they
 * stand there. */
enum rc source_decode(yyjson_val *json, struct arena *arena, struct source_spec *out,
                      struct err *err) MUST_CHECK;
/* Is the key wanted, by `include` and `exclude`? */
bool source_wants(const struct source_spec *spec, struct str key);
/* The definition as it may be shown: secrets masked. */
enum rc source_show(const struct source_row *row, yyjson_mut_doc *doc, struct arena *arena,
                    yyjson_mut_val **out, struct err *err) MUST_CHECK;

/* ---- write transactions ---- */

/* `body`: a definition; the first sync is submitted with it. ERR_CONFLICT: the name is taken. */
enum rc source_create(struct knowledge *knowledge, struct db_txn *txn, const struct actor *actor,
                      const struct collection *collection, yyjson_val *body, struct str author,
                      struct arena *arena, struct source_row *out, struct job_row *job,
                      struct err *err) MUST_CHECK;
/* Merges a patch (RFC 7396) over the definition; a secret that is not in it stays. The next sync
 * looks at everything again. */
enum rc source_patch(struct knowledge *knowledge, struct db_txn *txn, const struct actor *actor,
                     struct source_row *row, yyjson_val *patch, struct arena *arena,
                     struct err *err) MUST_CHECK;
/* A sync soon; an open one of the same source is answered instead. */
enum rc source_sync(struct knowledge *knowledge, struct db_txn *txn, struct source_row *row,
                    struct str author, struct arena *arena, struct job_row *job,
                    struct err *err) MUST_CHECK;
/* With its documents (a job does it), or without (at once; job->id is zero). */
enum rc source_remove(struct knowledge *knowledge, struct db_txn *txn, const struct actor *actor,
                      struct source_row *row, bool keep_documents, struct str author,
                      struct arena *arena, struct job_row *job, struct err *err) MUST_CHECK;
