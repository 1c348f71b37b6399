/* What a source is: its definition, checked, with its secrets sealed, and the changes to it. See
 * source.h. */
#include "knowledge/source.h"
#include "base/clock.h"
#include "http/message.h"
#include "knowledge/source_private.h"
#include "store/secret.h"
#include "text/decode.h"
#include "text/json_tree.h"

#define EVERY_NS_MIN (60 * NS_PER_S)
#define EVERY_NS_MAX (366 * NS_PER_DAY)

static const char *const KIND_NAMES[] = {
    [SOURCE_URLS] = "urls",           [SOURCE_SITEMAP] = "sitemap", [SOURCE_CRAWL] = "crawl",
    [SOURCE_DIRECTORY] = "directory", [SOURCE_GIT] = "git",         [SOURCE_S3] = "s3",
    [SOURCE_KIND_COUNT] = NULL};

/* Members that are stored sealed and never shown. */
static const char *const SECRETS[] = {"token", "secret_access_key"};

const char *source_kind_name(enum source_kind kind) { return KIND_NAMES[kind]; }

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the source's definition is too large");
}

/* ---- decoding ---- */

static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  (i > 0 && (c == '-' || c == '_' || c == '.'));
        if (!ok)
            return false;
    }
    return s.n > 0;
}

static enum rc read_url(const struct place *root, const char *name, bool http, struct str *out,
                        struct err *err)
{
    struct place at;
    struct url url;
    enum rc rc = decode_str(root, name, DECODE_REQUIRED, SOURCE_KEY_BYTES_MAX, out, err);
    if (rc == RC_OK)
        rc = decode_member(root, name, DECODE_REQUIRED, &at, err);
    if (rc != RC_OK)
        return rc;
    if (!http && str_starts(*out, STR("file:///")))
        return RC_OK;
    if (url_parse(*out, &url, NULL) != RC_OK || str_eq(url.scheme, STR("unix")) || url.user.n)
        return decode_refuse(&at, err,
                             "must be an address that begins with http:// or https://, "
                             "without a user or password in it");
    return RC_OK;
}

static enum rc read_urls(const struct place *root, struct arena *arena, struct source_spec *spec,
                         struct err *err)
{
    struct place at;
    struct url url;
    enum rc rc = decode_texts(root, "urls", SOURCE_URLS_MAX, SOURCE_KEY_BYTES_MAX, arena,
                              &spec->urls, &spec->url_count, err);
    if (rc == RC_OK)
        rc = decode_member(root, "urls", DECODE_REQUIRED, &at, err);
    if (rc == RC_OK && spec->url_count == 0)
        rc = decode_refuse(&at, err, "must name at least one address");
    for (size_t i = 0; rc == RC_OK && i < spec->url_count; i++)
        if (url_parse(spec->urls[i], &url, NULL) != RC_OK || str_eq(url.scheme, STR("unix")) ||
            url.user.n)
            rc = decode_refuse(&at, err,
                               "'%.*s' is not an address that begins with http:// or "
                               "https://",
                               (int)MIN(spec->urls[i].n, (size_t)100), spec->urls[i].p);
    return rc;
}

static enum rc read_directory(const struct place *root, struct source_spec *spec, struct err *err)
{
    struct place at;
    enum rc rc = decode_str(root, "path", DECODE_REQUIRED, SOURCE_KEY_BYTES_MAX, &spec->path, err);
    if (rc == RC_OK)
        rc = decode_member(root, "path", DECODE_REQUIRED, &at, err);
    if (rc == RC_OK && spec->path.p[0] != '/')
        rc = decode_refuse(&at, err, "must be an absolute path on the server");
    return rc;
}

static enum rc read_git(const struct place *root, struct source_spec *spec, struct err *err)
{
    struct place at;
    enum rc rc = read_url(root, "url", false, &spec->url, err);
    if (rc == RC_OK)
        rc = decode_str(root, "branch", DECODE_OPTIONAL, 200, &spec->branch, err);
    if (rc == RC_OK)
        rc = decode_str(root, "path", DECODE_OPTIONAL, 1000, &spec->path, err);
    if (rc == RC_OK)
        rc = decode_str(root, "user", DECODE_OPTIONAL, 200, &spec->user, err);
    if (rc == RC_OK)
        rc = decode_str(root, "token", DECODE_OPTIONAL, 8000, &spec->token, err);
    if (rc == RC_OK)
        rc = decode_member(root, "branch", DECODE_OPTIONAL, &at, err);
    /* It becomes an argument and part of a refspec. */
    for (size_t i = 0; rc == RC_OK && i < spec->branch.n; i++) {
        unsigned char c = (unsigned char)spec->branch.p[i];
        if (c <= ' ' || strchr(":^~?*[\\\x7f", c) || (i == 0 && c == '-'))
            rc = decode_refuse(&at, err, "is not the name of a branch");
    }
    return rc;
}

static enum rc read_s3(const struct place *root, struct source_spec *spec, struct err *err)
{
    spec->region = STR("us-east-1");
    spec->path_style = true;
    enum rc rc = read_url(root, "endpoint", true, &spec->endpoint, err);
    if (rc == RC_OK)
        rc = decode_str(root, "region", DECODE_OPTIONAL, 64, &spec->region, err);
    if (rc == RC_OK)
        rc = decode_str(root, "bucket", DECODE_REQUIRED, 255, &spec->bucket, err);
    if (rc == RC_OK)
        rc = decode_str(root, "prefix", DECODE_OPTIONAL, 1024, &spec->prefix, err);
    if (rc == RC_OK)
        rc = decode_str(root, "access_key_id", DECODE_OPTIONAL, 200, &spec->access_key_id, err);
    if (rc == RC_OK)
        rc = decode_str(root, "secret_access_key", DECODE_OPTIONAL, 8000, &spec->secret_access_key,
                        err);
    return rc == RC_OK ? decode_bool(root, "path_style", &spec->path_style, err) : rc;
}

static enum rc read_kind(const struct place *root, struct arena *arena, struct source_spec *spec,
                         struct err *err)
{
    switch (spec->kind) {
    case SOURCE_URLS: return read_urls(root, arena, spec, err);
    case SOURCE_SITEMAP:
    case SOURCE_CRAWL: return read_url(root, "url", true, &spec->url, err);
    case SOURCE_DIRECTORY: return read_directory(root, spec, err);
    case SOURCE_GIT: return read_git(root, spec, err);
    case SOURCE_S3: return read_s3(root, spec, err);
    case SOURCE_KIND_COUNT: break;
    }
    UNREACHABLE();
}

static enum rc read_json(const struct place *root, const char *name, bool list, struct arena *arena,
                         struct str *out, struct err *err)
{
    struct place at;
    enum rc rc = decode_member(root, name, DECODE_OPTIONAL, &at, err);
    if (rc != RC_OK || !at.value)
        return rc;
    rc = list ? decode_expect_list(&at, 32, err) : decode_expect_object(&at, err);
    if (rc == RC_OK)
        *out = json_write(at.value, arena);
    return rc == RC_OK && !out->p ? full(err) : rc;
}

static enum rc read_rate(const struct place *root, struct source_spec *spec, struct err *err)
{
    struct place at;
    enum rc rc = decode_member(root, "rate_per_second", DECODE_OPTIONAL, &at, err);
    spec->rate_per_s = spec->kind == SOURCE_CRAWL ? 2 : 10;
    if (rc != RC_OK || !at.value)
        return rc;
    spec->rate_per_s = yyjson_get_num(at.value);
    if (!yyjson_is_num(at.value) || !(spec->rate_per_s >= 0.01 && spec->rate_per_s <= 1000))
        rc = decode_refuse(&at, err, "must be a number from 0.01 to 1000");
    return rc;
}

static enum rc read_common(const struct place *root, struct arena *arena, struct source_spec *spec,
                           struct err *err)
{
    struct place at;
    enum rc rc;
    spec->depth = 3;
    spec->items_max = spec->kind == SOURCE_CRAWL ? 500 : 10000;
    if ((rc = decode_i64(root, "depth", 0, 100, &spec->depth, err)) ||
        (rc = decode_i64(root, "items_max", 1, SOURCE_ITEMS_MAX, &spec->items_max, err)) ||
        (rc = decode_bool(root, "keep_gone", &spec->keep_gone, err)) ||
        (rc = decode_duration(root, "every", &spec->every_ns, err)) ||
        (rc = decode_texts(root, "include", SOURCE_GLOBS_MAX, 1000, arena, &spec->include,
                           &spec->include_count, err)) ||
        (rc = decode_texts(root, "exclude", SOURCE_GLOBS_MAX, 1000, arena, &spec->exclude,
                           &spec->exclude_count, err)) ||
        (rc = read_json(root, "attributes", false, arena, &spec->attributes, err)) ||
        (rc = read_json(root, "tags", true, arena, &spec->tags, err)) ||
        (rc = read_rate(root, spec, err)) ||
        (rc = decode_member(root, "every", DECODE_OPTIONAL, &at, err)))
        return rc;
    if (spec->every_ns && (spec->every_ns < EVERY_NS_MIN || spec->every_ns > EVERY_NS_MAX))
        return decode_refuse(&at, err, "must be from one minute to a year, as in \"6h\"");
    return RC_OK;
}

enum rc source_decode(yyjson_val *json, struct arena *arena, struct source_spec *out,
                      struct err *err)
{
    static const char *const members[] = {
        "name",     "kind",       "urls",          "url",
        "depth",    "path",       "branch",        "user",
        "token",    "endpoint",   "region",        "bucket",
        "prefix",   "include",    "access_key_id", "secret_access_key",
        "exclude",  "items_max",  "path_style",    "rate_per_second",
        "every",    "attributes", "tags",          "keep_gone",
        "every_ms", NULL};
    struct place root, at;
    int kind = -1;
    *out = (struct source_spec){0};
    decode_root(&root, json, "");
    enum rc rc = decode_expect_object(&root, err);
    if (rc == RC_OK)
        rc = decode_only(&root, members, err);
    if (rc == RC_OK)
        rc = decode_word(&root, "kind", KIND_NAMES, &kind, err);
    if (rc == RC_OK && kind < 0)
        rc = err_set_field(err, ERR_MISSING_FIELD, "kind",
                           "is missing: urls, sitemap, crawl, directory, git or s3");
    if (rc == RC_OK)
        rc = decode_str(&root, "name", DECODE_REQUIRED, SOURCE_NAME_BYTES_MAX, &out->name, err);
    if (rc == RC_OK)
        rc = decode_member(&root, "name", DECODE_REQUIRED, &at, err);
    if (rc == RC_OK && !is_name(out->name))
        rc = decode_refuse(&at, err, "consists of letters, digits, '-', '_' and '.'");
    if (rc != RC_OK)
        return rc;
    out->kind = (enum source_kind)kind;
    rc = read_common(&root, arena, out, err);
    return rc == RC_OK ? read_kind(&root, arena, out, err) : rc;
}

static bool matches_any(struct str key, const struct str *globs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (str_matches_glob(key, globs[i]))
            return true;
    return false;
}

bool source_wants(const struct source_spec *spec, struct str key)
{
    return (spec->include_count == 0 || matches_any(key, spec->include, spec->include_count)) &&
           !matches_any(key, spec->exclude, spec->exclude_count);
}

/* ---- secrets ---- */

struct str source_secret_context(struct id project, struct id source, const char *member,
                                 struct arena *arena)
{
    char project_text[ID_TEXT_BYTES_MAX], source_text[ID_TEXT_BYTES_MAX];
    id_format(project, "proj", project_text);
    id_format(source, "src", source_text);
    return arena_printf(arena, "%s/source/%s/%s", project_text, source_text, member);
}

static struct str mutable_text(yyjson_mut_val *value)
{
    return str_make(yyjson_mut_get_str(value), yyjson_mut_get_len(value));
}

/* A stored secret must not go to another address than the one it was given for. */
static enum rc check_address(yyjson_mut_val *root, yyjson_val *old, const char *member,
                             struct err *err)
{
    static const char *const addresses[] = {"url", "endpoint"};
    for (size_t i = 0; i < COUNT_OF(addresses); i++) {
        struct str now = mutable_text(yyjson_mut_obj_get(root, addresses[i]));
        if (!str_eq(now, json_get_text(old, addresses[i])))
            return err_set_field(err, ERR_BAD_FIELD, member,
                                 "send the secret again together with the new address");
    }
    return RC_OK;
}

/* Seals the secrets of a definition; what was shown masked stands for what was stored. */
static enum rc seal_secrets(const struct secret_box *box, const struct source_row *row,
                            yyjson_mut_val *root, yyjson_val *old, struct arena *arena,
                            struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(SECRETS); i++) {
        yyjson_mut_val *value = yyjson_mut_obj_get(root, SECRETS[i]);
        struct str text = mutable_text(value), stored = json_get_text(old, SECRETS[i]), sealed;
        if (!value || !yyjson_mut_is_str(value) || text.n == 0)
            continue;
        if (stored.n && (str_eq(text, stored) || str_starts(text, STR("…")))) {
            enum rc rc = check_address(root, old, SECRETS[i], err);
            if (rc != RC_OK)
                return rc;
            yyjson_mut_set_strn(value, stored.p, stored.n);
            continue;
        }
        if (secret_is_reference(text) || secret_is_sealed(text) || str_starts(text, STR("…")))
            return err_set_field(err, ERR_BAD_FIELD, SECRETS[i], "send the secret itself");
        if (!box)
            return err_set(err, ERR_INTERNAL, "there is no key to seal secrets with");
        struct str context = source_secret_context(row->project, row->id, SECRETS[i], arena);
        enum rc rc = context.p ? secret_seal(box, context, text, arena, &sealed, err) : full(err);
        if (rc != RC_OK)
            return rc;
        yyjson_mut_set_strn(value, sealed.p, sealed.n);
    }
    return RC_OK;
}

enum rc source_show(const struct source_row *row, yyjson_mut_doc *doc, struct arena *arena,
                    yyjson_mut_val **out, struct err *err)
{
    yyjson_doc *json;
    enum rc rc = json_read(row->definition, arena, &json, err);
    if (rc != RC_OK)
        return rc;
    *out = yyjson_val_mut_copy(doc, yyjson_doc_get_root(json));
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(SECRETS); i++) {
        yyjson_mut_val *value = yyjson_mut_obj_get(*out, SECRETS[i]);
        struct str mask;
        if (!value || !yyjson_mut_is_str(value))
            continue;
        rc = secret_mask(mutable_text(value), arena, &mask, err);
        if (rc == RC_OK)
            yyjson_mut_set_strn(value, mask.p, mask.n);
    }
    return rc == RC_OK && !*out ? full(err) : rc;
}

/* ---- changing ---- */

/* The audit log gets the definition without its secrets. */
static enum rc write_audit(struct db_txn *txn, const struct actor *actor, const char *action,
                           const struct source_row *row, struct arena *arena, struct err *err)
{
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *shown;
    struct str text;
    enum rc rc = doc ? source_show(row, doc, arena, &shown, err) : full(err);
    if (rc == RC_OK)
        rc = json_write_tree(shown, arena, &text, err);
    return rc == RC_OK ? audit_write(txn, actor, row->project, action, STR("source"), row->name,
                                     STR_EMPTY, text, err)
                       : rc;
}

/* Takes a whole definition into the row. */
static enum rc set_definition(struct db_txn *txn, struct source_row *row, yyjson_mut_val *root,
                              yyjson_val *old, struct arena *arena, struct err *err)
{
    struct source_spec spec;
    yyjson_doc *frozen;
    enum rc rc = seal_secrets(db_txn_secrets(txn), row, root, old, arena, err);
    if (rc == RC_OK)
        rc = json_write_tree(root, arena, &row->definition, err);
    if (rc == RC_OK)
        rc = json_read(row->definition, arena, &frozen, err);
    if (rc == RC_OK)
        rc = source_decode(yyjson_doc_get_root(frozen), arena, &spec, err);
    if (rc != RC_OK)
        return rc;
    row->name = spec.name;
    row->kind = str_from(source_kind_name(spec.kind));
    row->every_ns = spec.every_ns;
    row->next_ns = spec.every_ns ? db_txn_now_ns(txn) + spec.every_ns : 0;
    row->cursor = STR_EMPTY;
    return RC_OK;
}

static enum rc name_taken(struct err *err, struct str name)
{
    return err_set_field(err, ERR_CONFLICT, "name", "the collection has a source '%.*s' already",
                         STR_ARG(name));
}

enum rc source_create(struct knowledge *knowledge, struct db_txn *txn, const struct actor *actor,
                      const struct collection *collection, yyjson_val *body, struct str author,
                      struct arena *arena, struct source_row *out, struct job_row *job,
                      struct err *err)
{
    struct source_row *others;
    size_t count;
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = doc ? yyjson_val_mut_copy(doc, body) : NULL;
    if (!root)
        return full(err);
    *out = (struct source_row){.id = id_new(),
                               .project = collection->row.project,
                               .collection = collection->row.id,
                               .author = author,
                               .created_ns = db_txn_now_ns(txn),
                               .updated_ns = db_txn_now_ns(txn)};
    enum rc rc = set_definition(txn, out, root, NULL, arena, err);
    if (rc == RC_OK)
        rc = source_row_list(txn, out->project, out->collection, (struct id){{0}}, SOURCES_MAX,
                             arena, &others, &count, err);
    if (rc != RC_OK)
        return rc;
    if (count >= SOURCES_MAX)
        return err_set(err, ERR_CONFLICT, "a collection has at most %d sources", SOURCES_MAX);
    for (size_t i = 0; i < count; i++)
        if (str_eq(others[i].name, out->name))
            return name_taken(err, out->name);
    rc = source_row_insert(txn, out, err);
    if (rc == RC_OK)
        rc = write_audit(txn, actor, "create", out, arena, err);
    return rc == RC_OK ? source_sync(knowledge, txn, out, author, arena, job, err) : rc;
}

enum rc source_patch(struct knowledge *knowledge, struct db_txn *txn, const struct actor *actor,
                     struct source_row *row, yyjson_val *patch, struct arena *arena,
                     struct err *err)
{
    struct source_row other;
    yyjson_doc *old;
    UNUSED(knowledge);
    yyjson_mut_doc *doc = json_tree_new(arena);
    enum rc rc = json_read(row->definition, arena, &old, err);
    yyjson_mut_val *root =
        rc == RC_OK && doc ? yyjson_merge_patch(doc, yyjson_doc_get_root(old), patch) : NULL;
    if (!root)
        return rc == RC_OK ? full(err) : rc;
    rc = set_definition(txn, row, root, yyjson_doc_get_root(old), arena, err);
    if (rc != RC_OK)
        return rc;
    rc = source_row_find(txn, row->project, row->collection, row->name, arena, &other, err);
    if (rc == RC_OK && !id_eq(other.id, row->id))
        return name_taken(err, row->name);
    row->updated_ns = db_txn_now_ns(txn);
    if (rc == RC_OK || rc == RC_NOT_FOUND)
        rc = source_row_update(txn, row, err);
    return rc == RC_OK ? write_audit(txn, actor, "update", row, arena, err) : rc;
}

enum rc source_sync(struct knowledge *knowledge, struct db_txn *txn, struct source_row *row,
                    struct str author, struct arena *arena, struct job_row *job, struct err *err)
{
    char id[ID_TEXT_BYTES_MAX];
    id_format(row->id, "src", id);
    struct str params = arena_printf(arena, "{\"source\":\"%s\"}", id);
    if (!params.p)
        return full(err);
    enum rc rc =
        job_table_find_open(txn, row->project, STR("knowledge_sync"), params, arena, job, err);
    if (rc != RC_NOT_FOUND)
        return rc;
    if (err)
        *err = (struct err){0};
    rc = job_submit(knowledge->jobs, txn, row->project, "knowledge_sync", params, author, arena,
                    job, err);
    if (rc != RC_OK)
        return rc;
    row->job = job->id;
    row->syncing = false;
    if (row->every_ns)
        row->next_ns = db_txn_now_ns(txn) + row->every_ns;
    return source_row_update(txn, row, err);
}

enum rc source_remove(struct knowledge *knowledge, struct db_txn *txn, const struct actor *actor,
                      struct source_row *row, bool keep_documents, struct str author,
                      struct arena *arena, struct job_row *job, struct err *err)
{
    *job = (struct job_row){0};
    enum rc rc = write_audit(txn, actor, "delete", row, arena, err);
    if (rc != RC_OK)
        return rc;
    if (keep_documents)
        return source_row_delete(txn, row->project, row->id, err);
    row->removing = true;
    row->next_ns = 0;
    rc = source_row_update(txn, row, err);
    return rc == RC_OK ? source_sync(knowledge, txn, row, author, arena, job, err) : rc;
}
