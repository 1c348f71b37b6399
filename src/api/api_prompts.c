/* /api/prompts: versions, labels, comparison, preview, use. The definition's meaning is
 * prompt/prompt.h's. */
#include "api/handlers.h"
#include "api/objects.h"
#include "api/prompts.h"
#include "base/clock.h"
#include "base/limits.h"
#include "gateway/snapshot.h"
#include "prompt/diff.h"
#include "text/json_tree.h"
#include "trace/trace.h"

#define WHERE_USED_MAX 100

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "The prompt is too large.");
}

/* ---- shared ---- */

const struct map *prompts_callable(struct api_call *call)
{
    static const struct map none;
    struct snapshot *snapshot = snapshot_current();
    struct project *project =
        snapshot ? snapshot_project(snapshot, call->principal->project) : NULL;
    return project ? &project->prompts : &none;
}

enum rc prompts_find(struct api_call *call, struct str name, struct str which, struct object *out)
{
    struct id project = call->principal->project;
    int64_t version;
    struct object current;
    enum rc rc =
        object_get(call->txn, project, OBJECT_PROMPT, name, call->arena, &current, &call->err);
    if (rc != RC_OK)
        return rc;
    if (which.n == 0 || str_eq(which, STR("latest")))
        version = current.version;
    else if (str_to_i64(which, &version) != RC_OK)
        rc = object_label_resolve(call->txn, project, OBJECT_PROMPT, name, which, 0, &version,
                                  &call->err);
    if (rc == RC_OK)
        rc = object_version_get(call->txn, project, OBJECT_PROMPT, name, version, call->arena, out,
                                &call->err);
    if (rc == RC_OK)
        out->from_file = current.from_file;
    return rc;
}

enum rc prompts_parse(struct api_call *call, const struct object *object, yyjson_val **out)
{
    yyjson_doc *doc;
    enum rc rc = json_read(object->spec, call->arena, &doc, &call->err);
    *out = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
    return rc;
}

static enum rc check_name(struct api_call *call, struct str name)
{
    bool good = name.n > 0 && name.n <= LIMIT_NAME_BYTES;
    for (size_t i = 0; good && i < name.n; i++)
        good = (unsigned char)name.p[i] >= ' ' && name.p[i] != '@' && name.p[i] != '|';
    return good ? RC_OK
                : err_set_field(&call->err, ERR_BAD_FIELD, "name",
                                "A name is 1 to %d bytes without '@' and '|'.", LIMIT_NAME_BYTES);
}

enum rc prompts_label(struct api_call *call, struct str name, struct str label,
                      const struct label_target *targets, size_t count)
{
    struct actor actor = api_actor(call);
    bool may = (call->principal->permissions & PERMISSION_BIT(SETTING_WRITE)) != 0;
    if (str_eq(label, STR("latest")))
        return err_set_field(&call->err, ERR_BAD_FIELD, "label",
                             "\"latest\" is always the newest version.");
    for (size_t i = 0; i < count && may; i++) {
        struct object version;
        enum rc rc = object_version_get(call->txn, call->principal->project, OBJECT_PROMPT, name,
                                        targets[i].version, call->arena, &version, &call->err);
        if (rc != RC_OK)
            return rc;
        may = !str_eq(version.author, actor.name);
    }
    return object_label_set(call->txn, &actor, call->principal->project, OBJECT_PROMPT, name, label,
                            targets, count, may, &call->err);
}

/* The members of a definition; others in the body are the request's. */
static const char *const members[] = {"type",          "prompt", "syntax",    "config",
                                      "output_schema", "tools",  "variables", "examples",
                                      "description",   "folder", "tags"};

static enum rc pick_members(struct api_call *call, yyjson_val *body, yyjson_val **out)
{
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        yyjson_val *value = yyjson_obj_get(body, members[i]);
        if (value && !yyjson_is_null(value))
            yyjson_mut_obj_add_val(call->doc, o, members[i], yyjson_val_mut_copy(call->doc, value));
    }
    if (!yyjson_mut_obj_get(o, "type"))
        yyjson_mut_obj_add_str(call->doc, o, "type",
                               yyjson_is_arr(yyjson_obj_get(body, "prompt")) ? "chat" : "text");
    yyjson_doc *frozen = json_freeze(o, call->arena);
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : full(call);
}

enum rc prompts_save(struct api_call *call, struct str name, yyjson_val *definition,
                     struct str message, yyjson_val *labels, bool create_only,
                     int64_t version_expected, struct object *out)
{
    struct actor actor = api_actor(call);
    struct object_change change = {.project = call->principal->project,
                                   .kind = OBJECT_PROMPT,
                                   .name = name,
                                   .create_only = create_only,
                                   .version_expected = version_expected,
                                   .message = message};
    size_t i, n;
    yyjson_val *label;
    enum rc rc = check_name(call, name);
    if (rc == RC_OK)
        rc = pick_members(call, definition, &change.spec);
    if (rc == RC_OK)
        rc = prompt_check(change.spec, &call->err);
    if (rc == RC_OK)
        rc = object_put(call->txn, &actor, &change, call->arena, out, &call->err);
    yyjson_arr_foreach(labels, i, n, label)
    {
        const struct label_target target = {rc == RC_OK ? out->version : 0, 1};
        if (rc == RC_OK && !yyjson_equals_str(label, "latest"))
            rc = prompts_label(call, name, json_text(label), &target, 1);
    }
    return rc;
}

enum rc prompts_labels_of(struct api_call *call, const struct object *version, yyjson_mut_val **out)
{
    struct label *labels;
    size_t count;
    struct object current;
    enum rc rc = object_labels(call->txn, call->principal->project, OBJECT_PROMPT, version->name,
                               call->arena, &labels, &count, &call->err);
    if (rc == RC_OK)
        rc = object_get(call->txn, call->principal->project, OBJECT_PROMPT, version->name,
                        call->arena, &current, &call->err);
    *out = yyjson_mut_arr(call->doc);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        for (size_t t = 0; t < labels[i].target_count; t++)
            if (labels[i].targets[t].version == version->version)
                yyjson_mut_arr_append(*out, json_new_text(call->doc, labels[i].name));
    if (rc == RC_OK && current.version == version->version)
        yyjson_mut_arr_add_str(call->doc, *out, "latest");
    return rc;
}

/* ---- reading ---- */

static enum rc put_labels(struct api_call *call, yyjson_mut_val *o, struct str name)
{
    struct label *labels;
    size_t count;
    enum rc rc = object_labels(call->txn, call->principal->project, OBJECT_PROMPT, name,
                               call->arena, &labels, &count, &call->err);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, o, "labels");
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        yyjson_mut_val *label = yyjson_mut_arr_add_obj(call->doc, list);
        api_put_str(call, label, "name", labels[i].name);
        yyjson_mut_val *targets = yyjson_mut_obj_add_arr(call->doc, label, "targets");
        for (size_t t = 0; t < labels[i].target_count; t++) {
            yyjson_mut_val *target = yyjson_mut_arr_add_obj(call->doc, targets);
            yyjson_mut_obj_add_sint(call->doc, target, "version", labels[i].targets[t].version);
            yyjson_mut_obj_add_uint(call->doc, target, "weight", labels[i].targets[t].weight);
        }
    }
    return rc;
}

static void put_version(struct api_call *call, yyjson_mut_val *o, const struct object *version)
{
    yyjson_mut_obj_add_sint(call->doc, o, "version", version->version);
    api_put_str(call, o, "author", version->author);
    api_put_str(call, o, "message", version->message);
    api_put_time(call, o, "created_at", version->created_ns);
}

/* The names that the rendered texts read, with what the definition says of them. */
static void put_variables(struct api_call *call, yyjson_mut_val *o, yyjson_val *spec)
{
    struct prompt *compiled;
    const struct str *names;
    size_t count, i, n;
    struct err err;
    yyjson_val *message;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, o, "reads");
    if (prompt_compile(prompts_callable(call), spec, call->arena, &compiled, &err) != RC_OK) {
        api_put_str(call, o, "problem", arena_copy(call->arena, str_from(err.message)));
        return;
    }
    prompt_variables(compiled, &names, &count);
    for (size_t k = 0; k < count; k++)
        yyjson_mut_arr_append(list, json_new_text(call->doc, names[k]));
    list = yyjson_mut_obj_add_arr(call->doc, o, "placeholders");
    yyjson_arr_foreach(yyjson_obj_get(spec, "prompt"), i, n, message)
    {
        if (yyjson_equals_str(yyjson_obj_get(message, "type"), "placeholder"))
            yyjson_mut_arr_append(list,
                                  yyjson_val_mut_copy(call->doc, yyjson_obj_get(message, "name")));
    }
}

static enum rc answer_version(struct api_call *call, const struct object *version)
{
    yyjson_val *spec, *key, *value;
    size_t i, n;
    enum rc rc = prompts_parse(call, version, &spec);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    api_put_str(call, o, "name", version->name);
    yyjson_obj_foreach(spec, i, n, key, value) yyjson_mut_obj_add(
        o, yyjson_val_mut_copy(call->doc, key), yyjson_val_mut_copy(call->doc, value));
    api_put_str(call, o, "origin", version->from_file ? STR("file") : STR("database"));
    put_version(call, o, version);
    put_variables(call, o, spec);
    return put_labels(call, o, version->name);
}

static bool has_text(yyjson_val *list, struct str text)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        if (str_eq(json_text(item), text))
            return true;
    }
    return false;
}

enum rc api_prompts_list(struct api_call *call)
{
    struct object_page page;
    size_t limit;
    struct str folder = api_query(call, "folder"), tag = api_query(call, "tag");
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK)
        rc = object_list(call->txn, call->principal->project, OBJECT_PROMPT,
                         api_query(call, "cursor"), api_query(call, "q"), limit, call->arena, &page,
                         &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < page.count && rc == RC_OK; i++) {
        yyjson_val *spec;
        static const char *const shown[] = {"type", "syntax", "folder", "description", "tags"};
        if ((rc = prompts_parse(call, &page.items[i], &spec)) != RC_OK)
            break;
        if ((folder.n && !str_eq(json_get_text(spec, "folder"), folder)) ||
            (tag.n && !has_text(yyjson_obj_get(spec, "tags"), tag)))
            continue;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        api_put_str(call, o, "name", page.items[i].name);
        for (size_t k = 0; k < COUNT_OF(shown); k++)
            if (yyjson_obj_get(spec, shown[k]))
                yyjson_mut_obj_add_val(
                    call->doc, o, shown[k],
                    yyjson_val_mut_copy(call->doc, yyjson_obj_get(spec, shown[k])));
        api_put_str(call, o, "model", json_get_text(yyjson_obj_get(spec, "config"), "model"));
        yyjson_mut_obj_add_sint(call->doc, o, "version", page.items[i].version);
        api_put_str(call, o, "author", page.items[i].author);
        api_put_time(call, o, "updated_at", page.items[i].updated_ns);
        rc = put_labels(call, o, page.items[i].name);
    }
    api_list_end(call, page.next);
    return rc;
}

enum rc api_prompts_get(struct api_call *call)
{
    struct object version;
    struct str which = api_query(call, "version");
    enum rc rc =
        prompts_find(call, call->params[0], which.n ? which : api_query(call, "label"), &version);
    return rc == RC_OK ? answer_version(call, &version) : rc;
}

enum rc api_prompts_version_get(struct api_call *call)
{
    struct object version;
    enum rc rc = prompts_find(call, call->params[0], call->params[1], &version);
    return rc == RC_OK ? answer_version(call, &version) : rc;
}

enum rc api_prompts_versions(struct api_call *call)
{
    struct object *versions;
    size_t count;
    enum rc rc = api_versions_page(call, OBJECT_PROMPT, &versions, &count);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count && rc == RC_OK; i++) {
        yyjson_mut_val *labels, *o = yyjson_mut_arr_add_obj(call->doc, items);
        put_version(call, o, &versions[i]);
        rc = prompts_labels_of(call, &versions[i], &labels);
        if (rc == RC_OK)
            yyjson_mut_obj_add_val(call->doc, o, "labels", labels);
    }
    api_versions_end(call, versions, count);
    return rc;
}

/* ---- changing ---- */

enum rc api_prompts_create(struct api_call *call)
{
    struct object object;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = prompts_save(call, json_get_text(call->body, "name"), call->body,
                          json_get_text(call->body, "message"),
                          yyjson_obj_get(call->body, "labels"), true, 0, &object);
    call->status = 201;
    return rc == RC_OK ? answer_version(call, &object) : rc;
}

enum rc api_prompts_put(struct api_call *call)
{
    struct object object;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = prompts_save(call, call->params[0], call->body, json_get_text(call->body, "message"),
                          yyjson_obj_get(call->body, "labels"), false,
                          json_get_int(call->body, "version_expected", 0), &object);
    return rc == RC_OK ? answer_version(call, &object) : rc;
}

enum rc api_prompts_delete(struct api_call *call)
{
    struct actor actor = api_actor(call);
    return object_delete(call->txn, &actor, call->principal->project, OBJECT_PROMPT,
                         call->params[0], false, call->arena, &call->err);
}

enum rc api_prompts_restore(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct object object;
    int64_t version;
    if (str_to_i64(call->params[1], &version) != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, "version", "A version is a number.");
    struct str message =
        call->body ? json_get_text(call->body, "message")
                   : arena_printf(call->arena, "Restored version %lld", (long long)version);
    enum rc rc =
        object_restore(call->txn, &actor, call->principal->project, OBJECT_PROMPT, call->params[0],
                       version, message, call->arena, &object, &call->err);
    return rc == RC_OK ? answer_version(call, &object) : rc;
}

/* {"version": 3} or {"targets": [{"version": 3, "weight": 90}, …]} */
enum rc api_prompts_put_label(struct api_call *call)
{
    struct label_target targets[LABEL_TARGETS_MAX];
    size_t count = 0, i, n;
    yyjson_val *target, *list = yyjson_obj_get(call->body, "targets");
    struct object current;
    if (yyjson_arr_size(list) > LABEL_TARGETS_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "targets",
                             "A label points to at most %d versions.", LABEL_TARGETS_MAX);
    yyjson_arr_foreach(list, i, n, target)
    {
        targets[count++] = (struct label_target){
            json_get_int(target, "version", 0),
            (uint32_t)MAX(0, MIN(json_get_int(target, "weight", 1), 1000000))};
    }
    if (!list)
        targets[count++] = (struct label_target){json_get_int(call->body, "version", 0), 1};
    enum rc rc = prompts_find(call, call->params[0], STR_EMPTY, &current);
    if (rc == RC_OK)
        rc = prompts_label(call, call->params[0], call->params[1], targets, count);
    call->answer = yyjson_mut_obj(call->doc);
    return rc == RC_OK ? put_labels(call, call->answer, call->params[0]) : rc;
}

enum rc api_prompts_delete_label(struct api_call *call)
{
    return prompts_label(call, call->params[0], call->params[1], NULL, 0);
}

enum rc api_prompts_protect(struct api_call *call)
{
    struct actor actor = api_actor(call);
    yyjson_val *protect = yyjson_obj_get(call->body, "protected");
    if (!yyjson_is_bool(protect))
        return err_set_field(&call->err, ERR_MISSING_FIELD, "protected",
                             "Say whether the label is protected: true or false.");
    return object_label_protect(call->txn, &actor, call->principal->project, OBJECT_PROMPT,
                                call->params[0], yyjson_get_bool(protect), &call->err);
}

/* ---- comparing ---- */

static void put_words(struct api_call *call, yyjson_mut_val *o, const struct diff_part *parts,
                      size_t count)
{
    static const char *const names[] = {"equal", "insert", "delete"};
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, o, "words");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *part = yyjson_mut_arr_add_obj(call->doc, list);
        yyjson_mut_obj_add_str(call->doc, part, "op", names[parts[i].op]);
        api_put_str(call, part, "text", parts[i].text);
    }
}

/* A definition's text as one: messages with their roles as headings. */
static struct str flat_text(struct api_call *call, yyjson_val *spec)
{
    yyjson_val *prompt = yyjson_obj_get(spec, "prompt"), *message;
    struct str text = json_text(prompt);
    size_t i, n;
    yyjson_arr_foreach(prompt, i, n, message)
    {
        yyjson_val *content = yyjson_obj_get(message, "content");
        struct str name = json_get_text(message, "name");
        struct str shown =
            yyjson_is_arr(content) ? json_write(content, call->arena) : json_text(content);
        text = arena_printf(call->arena, "%.*s%s%s%.*s%.*s\n%.*s", STR_ARG(text), i ? "\n\n" : "",
                            name.n ? "placeholder: " : "# ",
                            STR_ARG(json_get_text(message, "role")), STR_ARG(name), STR_ARG(shown));
    }
    return text.p ? text : STR("");
}

enum rc api_prompts_diff(struct api_call *call)
{
    struct object from, to;
    yyjson_val *before, *after, *fields, *change;
    struct diff_part *parts;
    size_t count, i, n;
    enum rc rc = prompts_find(call, call->params[0], api_query(call, "from"), &from);
    if (rc == RC_OK)
        rc = prompts_find(call, call->params[0], api_query(call, "to"), &to);
    if (rc == RC_OK)
        rc = prompts_parse(call, &from, &before);
    if (rc == RC_OK)
        rc = prompts_parse(call, &to, &after);
    if (rc == RC_OK)
        rc = object_diff(&from, &to, call->arena, &fields, &call->err);
    if (rc == RC_OK)
        rc = diff_words(flat_text(call, before), flat_text(call, after), call->arena, &parts,
                        &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_sint(call->doc, o, "from", from.version);
    yyjson_mut_obj_add_sint(call->doc, o, "to", to.version);
    put_words(call, o, parts, count);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, o, "fields");
    yyjson_arr_foreach(fields, i, n, change)
    {
        if (!str_starts(json_get_text(change, "path"), STR("prompt")))
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(call->doc, change));
    }
    return RC_OK;
}

/* ---- preview and use ---- */

/* {"definition": …} or {"name", "version" or "label"}, {"variables": …}: the rendered messages. */
enum rc api_prompts_render(struct api_call *call)
{
    yyjson_val *spec = yyjson_obj_get(call->body, "definition");
    struct object version;
    struct prompt *compiled;
    yyjson_mut_val *messages;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK && !spec) {
        int64_t number = json_get_int(call->body, "version", 0);
        struct str which = number ? arena_printf(call->arena, "%lld", (long long)number)
                                  : json_get_text(call->body, "label");
        rc = prompts_find(call, json_get_text(call->body, "name"), which, &version);
        if (rc == RC_OK)
            rc = prompts_parse(call, &version, &spec);
    } else if (rc == RC_OK) {
        rc = pick_members(call, spec, &spec);
    }
    if (rc == RC_OK)
        rc = prompt_check(spec, &call->err);
    if (rc == RC_OK)
        rc = prompt_compile(prompts_callable(call), spec, call->arena, &compiled, &call->err);
    if (rc == RC_OK)
        rc = prompt_render(compiled, yyjson_obj_get(call->body, "variables"), call->arena,
                           call->doc, &messages, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_val(call->doc, call->answer, "messages", messages);
    return RC_OK;
}

struct use_search {
    struct api_call *call;
    struct str name, quoted;
    yyjson_mut_val *list;
    const char *kind;
};

/* A definition that names the prompt: in a reference, as a model, or in a pipeline's node. */
static enum rc search_use(void *arg, const struct object *object, struct err *err)
{
    struct use_search *search = arg;
    struct api_call *call = search->call;
    struct str tag = arena_printf(call->arena, "langfusePrompt:name=%.*s|", STR_ARG(search->name));
    struct str model = arena_printf(call->arena, "\"prompt/%.*s", STR_ARG(search->name));
    bool own = str_eq(object->name, search->name) && search->kind[1] == 'r';
    if (own || yyjson_mut_arr_size(search->list) >= WHERE_USED_MAX ||
        (str_find(object->spec, tag) < 0 && str_find(object->spec, model) < 0 &&
         (search->kind[1] == 'r' || str_find(object->spec, search->quoted) < 0)))
        return RC_OK;
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, search->list);
    yyjson_mut_obj_add_str(call->doc, o, "kind", search->kind);
    api_put_str(call, o, "name", arena_copy(call->arena, object->name));
    return RC_OK;
}

static enum rc put_uses(struct api_call *call, yyjson_mut_val *o, struct str name)
{
    struct use_search search = {call, name, arena_printf(call->arena, "\"%.*s\"", STR_ARG(name)),
                                yyjson_mut_obj_add_arr(call->doc, o, "used_by"), "prompt"};
    enum rc rc = object_each(call->txn, call->principal->project, OBJECT_PROMPT, search_use,
                             &search, &call->err);
    search.kind = "pipeline";
    if (rc == RC_OK)
        rc = object_each(call->txn, call->principal->project, OBJECT_PIPELINE, search_use, &search,
                         &call->err);
    return rc;
}

static void put_version_sums(struct api_call *call, yyjson_mut_val *list,
                             const struct trace_group_sums *group)
{
    struct prompt_reference reference;
    prompt_reference_parse(group->name, &reference);
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, list);
    yyjson_mut_obj_add_sint(call->doc, o, "version", reference.version);
    yyjson_mut_obj_add_uint(call->doc, o, "calls", group->sums.calls);
    yyjson_mut_obj_add_uint(call->doc, o, "errors", group->sums.errors);
    yyjson_mut_obj_add_uint(call->doc, o, "input_tokens", group->sums.tokens[USAGE_INPUT]);
    yyjson_mut_obj_add_uint(call->doc, o, "output_tokens", group->sums.tokens[USAGE_OUTPUT]);
    api_put_cost(call, o, "cost_usd", group->sums.cost_pico);
    api_put_ms(call, o, "latency_p50_ms", group->sums.latency.p50_ns);
    api_put_ms(call, o, "latency_p99_ms", group->sums.latency.p99_ns);
}

/* Calls, errors, cost and latency by version in the last `days` (30), and what names the prompt. */
enum rc api_prompts_use(struct api_call *call)
{
    struct trace_stats_query query = {.group_by = TRACE_GROUP_PROMPT};
    struct trace_stats stats;
    struct object current;
    int64_t days;
    enum rc rc = prompts_find(call, call->params[0], STR_EMPTY, &current);
    if (rc == RC_OK)
        rc = api_query_i64(call, "days", 30, &days);
    if (rc != RC_OK)
        return rc;
    trace_filter_init(&query.filter);
    query.filter.prompt = call->params[0];
    query.filter.from_ns = clock_wall_ns() - MAX(1, MIN(days, 3650)) * NS_PER_DAY;
    rc = trace_stats(call->services->trace, call->principal->project, &query, call->arena, &stats,
                     &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_val *versions = yyjson_mut_obj_add_arr(call->doc, call->answer, "versions");
    for (size_t i = 0; i < stats.group_count; i++)
        put_version_sums(call, versions, &stats.groups[i]);
    return put_uses(call, call->answer, current.name);
}
