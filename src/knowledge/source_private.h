/* What the files of a sync share. A sync is a thread of its own: it mostly waits (for the network,
 * for a child, between polite requests), which workers must not. At most SYNCS_MAX run at a time.
 *
 * On the jobs' loop live the job and the HTTP exchanges; the thread hands requests over and waits
 * (source_fetch.c). The rest of `struct source_sync` is the thread's own, but what stands under
 * `lock`. */
#pragma once
#include "base/buf.h"
#include "base/map.h"
#include "http/client.h"
#include "knowledge/knowledge_private.h"
#include "knowledge/source.h"
#include <limits.h>

#define SOURCE_AGENT          "capstan/" CAPSTAN_VERSION
#define SYNCS_MAX             2
#define SOURCE_FILE_BYTES_MAX (64 * 1024 * 1024) /* as uploads */

/* What is known of an item; in memory for the whole sync. */
struct source_item {
    struct source_item_row row;
    bool listed; /* found in this process's run of the sync */
};

/* An item's content as the source has it now. */
struct source_content {
    bool unchanged; /* since what `row` says: there is no body */
    struct buf body;
    struct str content_type, etag, modified; /* sync->scratch */
    struct str address;                      /* of the document, for people; empty: the key */
};

struct source_fetch;

struct source_sync {
    struct list node; /* of knowledge.syncs; its lock */
    struct knowledge *knowledge;
    struct job_run *job;
    struct id project, source, job_id;
    pthread_t thread;
    struct task ended;
    struct timer progress;
    struct http_client *client;  /* the loop's */
    struct source_fetch *active; /* the loop's: the exchange under way */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a fetch is done, or cancelled; monotonic clock */
    bool cancelled;      /* atomic; set under lock */
    int64_t done, total; /* lock: items, for the progress */
    char message[256];   /* lock: the last one's key */

    /* the thread's */
    struct arena arena;   /* definition and items */
    struct arena scratch; /* of one item */
    struct source_row row;
    struct source_spec spec;
    struct collection collection;
    struct str token, secret;         /* opened */
    struct map items;                 /* key → struct source_item */
    struct source_item_row *seen[64]; /* to be marked as seen, together */
    size_t seen_count;
    int64_t listed;
    bool truncated; /* more is there than items_max lets in */
    bool unsure;    /* the listing may lack something: nothing is deleted */
    int failures_in_row;
    int64_t next_request_ns;
    struct source_content content; /* of the last item that was read */
    void *kind;                    /* what the kind keeps */
    struct err err;
};

/* One kind of source. All run on the sync's thread; `list` calls sync_visit for each item. */
struct source_kind_calls {
    enum rc (*list)(struct source_sync *sync, struct err *err);
    /* RC_NOT_FOUND: gone at the source. RC_CANCELLED. Other: this item's error. */
    enum rc (*read)(struct source_sync *sync, const struct source_item_row *item,
                    struct source_content *out, struct err *err);
    void (*close)(struct source_sync *sync); /* or NULL */
    bool keys_are_urls;
};

extern const struct source_kind_calls SOURCE_CALLS_URLS, SOURCE_CALLS_SITEMAP, SOURCE_CALLS_CRAWL,
    SOURCE_CALLS_DIRECTORY, SOURCE_CALLS_GIT, SOURCE_CALLS_S3;

/* An item is there. `marker` tells its version without reading it (empty: it must be asked).
 * What is new or changed goes into the collection. Errors of one item are noted and RC_OK; RC_END:
 * no more are wanted. *item (may be NULL) is how it was taken. */
enum rc sync_visit(struct source_sync *sync, struct str key, struct str marker,
                   struct source_item **item, struct err *err) MUST_CHECK;
/* Its content may still be in sync->content.body; else the stored document's. *out is empty when
 * there is neither. */
enum rc sync_item_body(struct source_sync *sync, const struct source_item *item, struct str *out,
                       struct str *content_type, struct err *err) MUST_CHECK;
static inline bool sync_is_cancelled(const struct source_sync *sync)
{
    return __atomic_load_n(&sync->cancelled, __ATOMIC_ACQUIRE);
}
/* False: cancelled meanwhile. */
bool sync_sleep(struct source_sync *sync, int64_t ns) MUST_CHECK;
enum rc sync_cancelled(struct err *err);

/* ---- source_fetch.c ---- */

struct fetch_request {
    struct str url;
    const struct http_header *headers;
    size_t header_count;
    size_t bytes_max;
    bool same_origin; /* a redirect to another origin is not followed: RC_DENIED */
    bool no_redirect; /* not followed at all (signed requests) */
};

struct fetch_answer {
    int status;
    struct buf body;                              /* to be freed by the caller */
    struct str etag, modified, content_type, url; /* url: after redirects; scratch arena */
};

/* Asks, at the source's rate, follows redirects, tries again what may pass (429, 503, connections
 * that fail). RC_OK: there is an answer, of whatever status. */
enum rc source_fetch(struct source_sync *sync, const struct fetch_request *request,
                     struct fetch_answer *answer, struct err *err) MUST_CHECK;
/* On the loop. */
void source_fetch_cancel(struct source_sync *sync);
/* May this address be asked although it is not public? */
bool source_is_allowed(const struct knowledge *knowledge, struct str url);

/* ---- source_folder.c ---- */

/* The real path of a folder that sources may read; ERR_FORBIDDEN. */
enum rc source_folder_check(const struct knowledge *knowledge, struct str path, char out[PATH_MAX],
                            struct err *err) MUST_CHECK;

/* ---- parsers: pure functions of hostile bytes ---- */

/* robots.txt (RFC 9309). */
struct robots_rule {
    struct str pattern;
    bool allow;
};
struct robots {
    struct robots_rule *rules;
    size_t count;
    double delay_s; /* Crawl-delay; 0: none */
};
/* The rules for `agent` (its product name), else for everybody. */
enum rc robots_parse(struct str text, struct str agent, struct arena *arena, struct robots *out,
                     struct err *err) MUST_CHECK;
bool robots_allow(const struct robots *robots, struct str path);

/* The links of a page. */
struct page_links {
    struct str base;        /* <base href>, or empty */
    struct str *references; /* as they stand there, entities decoded */
    size_t count;
    bool noindex, nofollow; /* <meta name="robots"> */
};
#define PAGE_LINKS_MAX 10000
enum rc links_parse(struct str html, struct arena *arena, struct page_links *out,
                    struct err *err) MUST_CHECK;

struct sitemap_entry {
    struct str url, modified;
};
struct sitemap {
    bool is_index; /* its entries are sitemaps */
    struct sitemap_entry *entries;
    size_t count;
};
#define SITEMAP_ENTRIES_MAX 50000 /* as the protocol says */
enum rc sitemap_parse(struct str xml, struct arena *arena, struct sitemap *out,
                      struct err *err) MUST_CHECK;

struct bucket_object {
    struct str key, etag;
    int64_t bytes;
};
struct bucket_page {
    struct bucket_object *objects;
    size_t count;
    struct str next; /* continuation token; empty: the last page */
};
#define BUCKET_PAGE_MAX 1000
enum rc bucket_page_parse(struct str xml, struct arena *arena, struct bucket_page *out,
                          struct err *err) MUST_CHECK;
/* Code and message of an error's answer; empty when it is none. */
void bucket_error_parse(struct str xml, struct arena *arena, struct str *code, struct str *message);

/* ---- source_s3_sign.c ---- */

struct s3_request {
    struct str method, host, path, query; /* percent-encoded; query sorted, without '?' */
    struct str region, access_key_id, secret_access_key;
    int64_t now_ns;
};
struct s3_signature {
    char date[17], content_sha256[SHA256_HEX_BYTES];
    struct str authorization;
};
/* AWS Signature Version 4 for a request without a body. */
enum rc s3_sign(const struct s3_request *request, struct arena *arena, struct s3_signature *out,
                struct err *err) MUST_CHECK;

struct str source_secret_context(struct id project, struct id source, const char *member,
                                 struct arena *arena);
