/* A pipeline's definition as it is written (docs/design/pipeline.md): read from JSON into nodes and
 * edges, with everything that is wrong in it gathered as findings instead of the first error, so
 * that an editor can show them where they belong. The check and the plan are made from it. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "pipeline/definition/nodes.h"

#define DOCUMENT_NODES_MAX    1000
#define DOCUMENT_BYTES_MAX    (4 * 1024 * 1024)
#define DOCUMENT_FINDINGS_MAX 200
#define NODE_ID_BYTES_MAX     64
#define NO_NODE               ((size_t)-1)

struct finding {
    struct str node, field; /* id and path in its config ("cases[0].when"); either may be empty */
    bool warning;
    const char *code;
    struct str message;
};

/* Errors count beyond DOCUMENT_FINDINGS_MAX, too. */
struct findings {
    struct arena *arena;
    struct finding *items;
    size_t count, errors;
};

void findings_init(struct findings *findings, struct arena *arena);
void findings_add(struct findings *findings, struct str node, struct str field, bool warning,
                  const char *code, const char *fmt, ...) PRINTF_LIKE(6, 7);
/* [{"node", "field", "severity", "code", "message"}] */
yyjson_mut_val *findings_encode(const struct findings *findings, yyjson_mut_doc *doc);
/* ERR_BAD_FIELD with the first error; RC_OK when there is none. */
enum rc findings_error(const struct findings *findings, struct err *err) MUST_CHECK;

enum on_error { ON_ERROR_STOP, ON_ERROR_DEFAULT, ON_ERROR_BRANCH };

struct document_node {
    struct str id, title;
    const struct node_type *type;
    size_t parent; /* index, or NO_NODE: the top level */
    yyjson_val *config;
    int64_t retry_max, retry_interval_ms;
    int64_t timeout_ms; /* 0: none */
    enum on_error on_error;
    yyjson_val *default_value; /* object, or NULL */
};

struct document_edge {
    size_t from, to;
    struct str port;
};

enum journal_mode { JOURNAL_ASYNC, JOURNAL_SYNC, JOURNAL_EXIT };

struct document {
    yyjson_val *root;
    struct document_node *nodes;
    size_t node_count;
    struct document_edge *edges;
    size_t edge_count;
    size_t start;                           /* the start node, or NO_NODE */
    yyjson_val *conversation, *environment; /* lists of {name, type, value} or NULL */
    enum journal_mode journal;
    int64_t time_ms_max, steps_max; /* 0: default or none */
    int64_t cost_pico_max;          /* COST_UNKNOWN: none */
    int64_t parallel_max;           /* steps of a run under way; 0: no limit */
    int64_t runs_max, queue_max;    /* of the pipeline under way, and waiting; 0: no limit */
    yyjson_val *hosts;              /* that computed addresses may have; NULL: any public one */
    struct str on_failure;          /* pipeline that a failed run starts; empty: none */
};

/* Texts and values point into `root`, which must live as long as the arena. What cannot be
 * understood is left out and told in `findings`. NULL: the arena is full, or nothing of it can be
 * used. */
struct document *document_read(yyjson_val *root, struct arena *arena, struct findings *findings);
/* Index by id, or NO_NODE. */
size_t document_find(const struct document *document, struct str id);
/* Whether edges may leave the node there. */
bool document_has_port(const struct document_node *node, struct str port);
/* The type of an output by name; false: there is none. `inside`: as its children see it. */
bool document_output_type(const struct document_node *node, struct str name, bool inside,
                          enum value_type *type);

/* Each text of a node's config, with its path and how forms edit it (x-widget of nodes.yaml). */
typedef void document_member_visit(void *arg, struct str field, struct str widget, struct str text);
void document_each_member(const struct document_node *node, struct arena *arena,
                          document_member_visit *visit, void *arg);
/* Those that are templates or expressions. */
enum text_kind { TEXT_TEMPLATE, TEXT_EXPRESSION };
typedef void document_text_visit(void *arg, struct str field, enum text_kind kind, struct str text);
void document_each_text(const struct document_node *node, struct arena *arena,
                        document_text_visit *visit, void *arg);

/* Everything else that can be known before it runs: ports, cycles, variables and their types,
 * templates and expressions. */
void document_check(const struct document *document, struct findings *findings);
