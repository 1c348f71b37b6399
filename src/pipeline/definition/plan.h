/* A definition compiled: nodes with their edges as indices, texts as compiled templates and
 * expressions whose names are resolved to nodes. Immutable and counted; shared by all loops and by
 * every run of the same definition. */
#pragma once
#include "base/hash.h"
#include "pipeline/definition/document.h"
#include "pipeline/definition/reference.h"
#include "pipeline/definition/value.h"

struct template;
struct node_operations;

#define PLAN_BYTES_MAX    (64 * 1024 * 1024)
#define PLAN_SEGMENTS_MAX 64

/* Where a name gets its value. */
enum source_kind {
    SOURCE_NODE, /* the outputs of a node, or what a container shows inside */
    SOURCE_SYS,
    SOURCE_ENV,
    SOURCE_CONVERSATION,
    SOURCE_LOCAL, /* item and index of a list operator */
};

struct source {
    struct str name; /* as the text says it */
    enum source_kind kind;
    size_t node; /* SOURCE_NODE */
};

/* A text made of pieces and plain {{ paths }} is written without the template engine. */
struct text_segment {
    struct str literal;     /* or, when .p is NULL: */
    struct reference *path; /* steps[0] is resolved in … */
    struct source source;
};

struct plan_text {
    struct str raw;
    struct text_segment *segments; /* NULL: needs the engine */
    size_t segment_count;
    struct template *template;
    struct source *sources;
    size_t source_count;
};

struct plan_expression {
    struct expression *expression; /* NULL: not given */
    struct source *sources;
    size_t source_count;
};

struct plan_edge {
    struct str port;
    size_t to;
};

struct plan_node {
    size_t index;
    struct str id;
    const struct document_node *document;
    const struct node_operations *operations;
    enum node_kind kind;
    size_t level, slot; /* place in its level's frames */
    size_t inner_level; /* containers */
    struct plan_edge *edges;
    size_t edge_count, in_count;
    struct value *default_value; /* on_error: default */
    void *config;                /* of its operations */
    size_t *cites;               /* retrievals that its text comes from (citation.h) */
    size_t cite_count;
    bool feeds_answer; /* an answer passes its text on while it is being written */
};

/* The top, or the inside of a container. */
struct plan_level {
    size_t container; /* node, or NO_NODE */
    size_t *nodes;    /* those that can run */
    size_t node_count;
    size_t *entries; /* start without an edge */
    size_t entry_count;
};

/* An answer of the top level. It is certain to be reached when all of `deciders` are decided and it
 * was not skipped by that: what is still open then leads on by its one port. */
struct plan_answer {
    size_t node;
    size_t *deciders; /* nodes before it that choose among ports */
    size_t decider_count;
};

#define PLAN_ANSWERS_MAX 64

struct plan {
    uint32_t references;
    uint8_t hash[SHA256_BYTES]; /* of the definition's text */
    struct arena arena;
    struct str spec; /* the definition as JSON */
    struct document *document;
    struct plan_node *nodes;
    size_t node_count;
    struct plan_level *levels; /* 0: the top */
    size_t level_count;
    struct plan_answer *answers; /* in the order in which they can be reached */
    size_t answer_count;
    struct value *environment;  /* object */
    struct value *conversation; /* object of initial values */
    bool has_conversation;      /* variables or memory: runs of a session take turns */
    uint64_t journal_epoch;     /* the journal's, when it was last given the text; atomic */
};

/* ERR_BAD_FIELD with the first error of the check. */
enum rc plan_compile(struct str spec, struct plan **out, struct err *err) MUST_CHECK;
struct plan *plan_ref(struct plan *plan);
void plan_unref(struct plan *plan);                            /* NULL passes */
size_t plan_find_node(const struct plan *plan, struct str id); /* NO_NODE */

/* ---- for the compile functions of operations ---- */
struct plan_build {
    struct plan *plan;
    struct plan_node *node;
};
/* `text` empty: an empty text. */
enum rc plan_text_compile(struct plan_build *build, struct str text, struct plan_text *out,
                          struct err *err) MUST_CHECK;
/* `text` empty: no expression. */
enum rc plan_expression_compile(struct plan_build *build, struct str text,
                                struct plan_expression *out, struct err *err) MUST_CHECK;
