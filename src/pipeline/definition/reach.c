/* See reach.h. */
#include "pipeline/definition/reach.h"
#include "http/message.h"
#include "text/json_tree.h"

#define SCRATCH_BYTES_MAX (1 << 20)

/* Members of configs whose value names something outside, by how their form edits them. */
static const struct {
    const char *widget, *list;
} kinds[] = {
    {"model", "models"},       {"prompt", "prompts"}, {"collection", "collections"},
    {"pipeline", "pipelines"}, {"tool", "tools"},
};

static void add(yyjson_mut_val *out, const char *list, struct str text, yyjson_mut_doc *doc)
{
    size_t i, n;
    yyjson_mut_val *items = yyjson_mut_obj_get(out, list), *item;
    yyjson_mut_arr_foreach(items, i, n, item)
    {
        if (str_eq(str_make(yyjson_mut_get_str(item), yyjson_mut_get_len(item)), text))
            return;
    }
    if (text.n)
        yyjson_mut_arr_add_strncpy(doc, items, text.p, text.n);
}

struct naming {
    yyjson_mut_val *out;
    yyjson_mut_doc *doc;
};

static void visit_member(void *arg, struct str field, struct str widget, struct str text)
{
    struct naming *naming = arg;
    UNUSED(field);
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (str_eq(widget, str_from(kinds[i].widget)))
            add(naming->out, kinds[i].list, text, naming->doc);
}

/* ---- hosts ---- */

/* "HOST:PORT" as it is written, up to the path; empty: the text does not begin with http: or
 * https:, so that even the scheme is computed. */
static struct str authority(struct str url)
{
    struct str scheme = str_starts(url, STR("https://")) ? STR("https://") : STR("http://");
    if (!str_starts(url, scheme))
        return STR_EMPTY;
    struct str rest = str_slice(url, scheme.n, url.n);
    size_t n = 0;
    while (n < rest.n && str_find_char(STR("/?#"), rest.p[n]) < 0)
        n++;
    return str_slice(rest, 0, n);
}

bool reach_is_fixed(struct str url_template)
{
    struct str host = authority(str_trim(url_template));
    return host.n && str_find_char(host, '{') < 0 && str_find_char(host, '}') < 0;
}

static void add_hosts(const struct document *document, struct str url, yyjson_mut_val *out,
                      yyjson_mut_doc *doc)
{
    size_t i, n;
    yyjson_val *host;
    if (reach_is_fixed(url)) {
        add(out, "hosts", authority(str_trim(url)), doc);
        return;
    }
    if (!document->hosts)
        add(out, "hosts", STR("*"), doc);
    yyjson_arr_foreach(document->hosts, i, n, host) add(out, "hosts", json_text(host), doc);
}

enum rc reach_check(const struct document *document, struct str text, struct err *err)
{
    struct url url;
    size_t i, n;
    yyjson_val *host;
    if (!document->hosts)
        return RC_OK;
    enum rc rc = url_parse(str_trim(text), &url, err);
    if (rc != RC_OK)
        return rc;
    yyjson_arr_foreach(document->hosts, i, n, host)
    {
        struct str glob = json_text(host);
        if (str_matches_glob(url.host, glob) || url_is_listed(&url, &glob, 1))
            return RC_OK;
    }
    return err_set(err, ERR_FORBIDDEN,
                   "the pipeline may not reach '%.*s': add it to settings.hosts if it should",
                   STR_ARG(url.host));
}

/* ---- the whole ---- */

static void add_node(const struct document *document, const struct document_node *node,
                     struct arena *scratch, yyjson_mut_val *out, yyjson_mut_doc *doc)
{
    size_t i, n;
    yyjson_val *item;
    struct naming naming = {out, doc};
    document_each_member(node, scratch, visit_member, &naming);
    switch (node->type->kind) {
    case NODE_HTTP: add_hosts(document, json_get_text(node->config, "url"), out, doc); break;
    case NODE_DOCUMENT: add_hosts(document, STR_EMPTY, out, doc); break;
    case NODE_CODE: add(out, "code", json_get_text(node->config, "language"), doc); break;
    case NODE_TOOL:
        item = yyjson_obj_get(node->config, "definition");
        if (json_get_text(item, "url").n)
            add_hosts(document, json_get_text(item, "url"), out, doc);
        break;
    case NODE_AGENT:
        yyjson_arr_foreach(yyjson_obj_get(node->config, "tools"), i, n, item)
        {
            struct str url = json_get_text(yyjson_obj_get(item, "definition"), "url");
            if (url.n)
                add_hosts(document, url, out, doc);
        }
        break;
    default: break;
    }
}

yyjson_mut_val *reach_encode(const struct document *document, yyjson_mut_doc *doc)
{
    static const char *const lists[] = {"hosts",     "models", "prompts", "collections",
                                        "pipelines", "tools",  "code"};
    struct arena scratch; /* paths of members */
    yyjson_mut_val *out = yyjson_mut_obj(doc);
    arena_init(&scratch, SCRATCH_BYTES_MAX);
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        yyjson_mut_obj_add_arr(doc, out, lists[i]);
    for (size_t i = 0; i < document->node_count; i++) {
        add_node(document, &document->nodes[i], &scratch, out, doc);
        arena_reset(&scratch);
    }
    arena_fini(&scratch);
    add(out, "pipelines", document->on_failure, doc);
    yyjson_val *limits = yyjson_obj_get(yyjson_obj_get(document->root, "settings"), "limits"),
               *cost = yyjson_obj_get(limits, "cost_usd");
    yyjson_mut_obj_add_val(doc, out, "cost_usd",
                           cost ? yyjson_val_mut_copy(doc, cost) : yyjson_mut_null(doc));
    return out;
}
