/* Prompts: finding, checking, compiling, rendering. */
#include "prompt/prompt.h"
#include "text/json_tree.h"
#include <stdio.h>

#define VALUES_BYTES_MAX (8u << 20)
#define NAMES_MAX        256

struct prompt_message {
    struct str role;
    struct template *template; /* NULL: a placeholder, or what stands in `fixed` */
    struct str placeholder;    /* name, or empty */
    yyjson_val *fixed;         /* a message whose content is no text */
};

struct prompt {
    bool chat;
    struct prompt_message *messages;
    size_t message_count;
    yyjson_val *spec;
    struct str *names;
    size_t name_count;
};

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "The prompt needs more memory than it may have.");
}

/* ---- finding ---- */

void prompt_reference_parse(struct str text, struct prompt_reference *out)
{
    ssize_t at = str_rfind_char(text, '@');
    uint64_t version;
    *out = (struct prompt_reference){.name = text};
    if (at <= 0)
        return;
    out->name = str_slice(text, 0, (size_t)at);
    out->label = str_slice(text, (size_t)at + 1, text.n);
    if (str_to_u64(out->label, &version) == RC_OK && version > 0 && version < INT32_MAX) {
        out->version = (int64_t)version;
        out->label = STR_EMPTY;
    }
}

uint64_t prompt_share(struct str who) { return hash_xxh3(who.p, who.n); }

static const struct prompt_version *find_version(const struct prompt_family *family,
                                                 int64_t version)
{
    for (size_t i = 0; i < family->version_count; i++)
        if (family->versions[i].version == version)
            return &family->versions[i];
    return NULL;
}

static const struct label *find_label(const struct prompt_family *family, struct str name)
{
    for (size_t i = 0; i < family->label_count; i++)
        if (str_eq(family->labels[i].name, name) && family->labels[i].target_count)
            return &family->labels[i];
    return NULL;
}

enum rc prompt_find(const struct map *prompts, const struct prompt_reference *reference,
                    uint64_t share, struct prompt_found *out, struct err *err)
{
    const struct prompt_family *family = map_get(prompts, reference->name);
    *out = (struct prompt_found){.family = family, .label = reference->label};
    if (!family || family->version_count == 0)
        return err_set(err, ERR_NOT_FOUND, "There is no prompt '%.*s'.", STR_ARG(reference->name));
    if (reference->version) {
        out->version = find_version(family, reference->version);
        return out->version
                   ? RC_OK
                   : err_set(err, ERR_NOT_FOUND,
                             "The prompt '%.*s' has no version %lld that can be called: those with "
                             "a label and the newest %d can.",
                             STR_ARG(reference->name), (long long)reference->version,
                             PROMPT_VERSIONS_KEPT);
    }
    const struct label *label =
        find_label(family, reference->label.n ? reference->label : STR("production"));
    if (label) {
        out->label = label->name;
        out->version = find_version(family, label_choose(label, share));
    } else if (!reference->label.n || str_eq(reference->label, STR("latest"))) {
        out->label = STR("latest");
        out->version = &family->versions[0];
    }
    return out->version ? RC_OK
                        : err_set(err, ERR_NOT_FOUND, "The prompt '%.*s' has no label '%.*s'.",
                                  STR_ARG(reference->name), STR_ARG(reference->label));
}

/* ---- references within texts ---- */

#define TAG_OPEN  "@@@langfusePrompt:"
#define TAG_CLOSE "@@@"

struct resolving {
    const struct map *prompts;
    struct arena *arena;
    struct err *err;
    size_t references;
};

static enum rc resolve_text(struct resolving *r, struct str text, int depth, struct str *out);

/* name=…|label=… or name=…|version=… */
static enum rc read_tag(struct resolving *r, struct str tag, struct prompt_reference *out)
{
    struct str rest = tag, part;
    uint64_t version = 0;
    *out = (struct prompt_reference){0};
    while (str_split(&rest, '|', &part)) {
        if (str_starts(part, STR("name=")))
            out->name = str_slice(part, 5, part.n);
        else if (str_starts(part, STR("label=")))
            out->label = str_slice(part, 6, part.n);
        else if (str_starts(part, STR("version=")) &&
                 str_to_u64(str_slice(part, 8, part.n), &version) == RC_OK)
            out->version = (int64_t)MIN(version, (uint64_t)INT32_MAX);
    }
    return out->name.n ? RC_OK
                       : err_set_field(r->err, ERR_BAD_FIELD, "prompt",
                                       "A reference to a prompt has no name: %.*s", STR_ARG(tag));
}

/* The text of a referenced prompt, its own references resolved. */
static enum rc referenced_text(struct resolving *r, struct str tag, int depth, struct str *out)
{
    struct prompt_reference reference;
    struct prompt_found found;
    yyjson_doc *doc;
    enum rc rc = read_tag(r, tag, &reference);
    if (rc != RC_OK)
        return rc;
    if (depth >= PROMPT_NESTING_MAX || ++r->references > PROMPT_REFERENCES_MAX)
        return err_set_field(r->err, ERR_BAD_FIELD, "prompt",
                             "References nest deeper than %d prompts, or go in a circle: '%.*s'.",
                             PROMPT_NESTING_MAX, STR_ARG(reference.name));
    if (!r->prompts)
        return err_set_field(r->err, ERR_BAD_FIELD, "prompt",
                             "References to other prompts are not possible here.");
    rc = prompt_find(r->prompts, &reference, 0, &found, r->err);
    if (rc == RC_OK)
        rc = json_read(found.version->spec, r->arena, &doc, r->err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *prompt = yyjson_obj_get(yyjson_doc_get_root(doc), "prompt");
    if (!yyjson_is_str(prompt))
        return err_set_field(r->err, ERR_BAD_FIELD, "prompt",
                             "Only text prompts can be referred to, and '%.*s' is a chat prompt.",
                             STR_ARG(reference.name));
    return resolve_text(r, json_text(prompt), depth + 1, out);
}

static enum rc append(struct resolving *r, struct str *to, struct str more)
{
    if (more.n == 0)
        return RC_OK;
    if (to->n + more.n > PROMPT_BYTES_MAX)
        return err_set_field(r->err, ERR_TOO_LARGE, "prompt",
                             "The prompt with those it refers to is too long.");
    *to = arena_concat(r->arena, *to, more);
    return to->p ? RC_OK : no_memory(r->err);
}

static enum rc resolve_text(struct resolving *r, struct str text, int depth, struct str *out)
{
    struct str made = STR_EMPTY, inner;
    ssize_t open, close;
    enum rc rc = RC_OK;
    if (str_find(text, STR(TAG_OPEN)) < 0) {
        *out = text;
        return RC_OK;
    }
    while (rc == RC_OK && (open = str_find(text, STR(TAG_OPEN))) >= 0) {
        struct str rest = str_slice(text, (size_t)open + strlen(TAG_OPEN), text.n);
        if ((close = str_find(rest, STR(TAG_CLOSE))) < 0)
            break;
        rc = append(r, &made, str_slice(text, 0, (size_t)open));
        if (rc == RC_OK)
            rc = referenced_text(r, str_slice(rest, 0, (size_t)close), depth, &inner);
        if (rc == RC_OK)
            rc = append(r, &made, inner);
        text = str_slice(rest, (size_t)close + strlen(TAG_CLOSE), rest.n);
    }
    if (rc == RC_OK)
        rc = append(r, &made, text);
    *out = made.p ? made : STR("");
    return rc;
}

enum rc prompt_resolve(const struct map *prompts, yyjson_val *spec, struct arena *arena,
                       yyjson_val **out, struct err *err)
{
    struct resolving r = {.prompts = prompts, .arena = arena, .err = err};
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *copy = doc ? yyjson_val_mut_copy(doc, spec) : NULL;
    yyjson_mut_val *prompt = yyjson_mut_obj_get(copy, "prompt"), *message;
    size_t i, n;
    struct str text;
    enum rc rc = RC_OK;
    if (!copy)
        return no_memory(err);
    if (yyjson_mut_is_str(prompt)) {
        rc = resolve_text(&r, str_make(yyjson_mut_get_str(prompt), yyjson_mut_get_len(prompt)), 0,
                          &text);
        if (rc == RC_OK)
            yyjson_mut_obj_put(copy, yyjson_mut_str(doc, "prompt"), json_new_text(doc, text));
    }
    yyjson_mut_arr_foreach(prompt, i, n, message)
    {
        yyjson_mut_val *content = yyjson_mut_obj_get(message, "content");
        if (rc != RC_OK || !yyjson_mut_is_str(content))
            continue;
        rc = resolve_text(&r, str_make(yyjson_mut_get_str(content), yyjson_mut_get_len(content)), 0,
                          &text);
        if (rc == RC_OK)
            yyjson_mut_obj_put(message, yyjson_mut_str(doc, "content"), json_new_text(doc, text));
    }
    yyjson_doc *frozen = rc == RC_OK ? json_freeze(copy, arena) : NULL;
    if (rc == RC_OK && !frozen)
        return no_memory(err);
    *out = frozen ? yyjson_doc_get_root(frozen) : NULL;
    return rc;
}

/* ---- compiling ---- */

static enum rc compile_text(struct str text, yyjson_val *spec, const char *field,
                            struct arena *arena, struct template **out, struct err *err)
{
    struct template_options options = {.syntax = TEMPLATE_MUSTACHE, .strict = true};
    struct err inner = {0};
    if (str_eq(json_get_text(spec, "syntax"), STR("jinja2"))) {
        options.syntax = TEMPLATE_JINJA;
        options.keep_trailing_newline = true;
    }
    enum rc rc = template_compile(text, &options, arena, out, &inner);
    return rc == RC_OK ? rc : err_set_field(err, ERR_BAD_FIELD, field, "%s", inner.message);
}

static enum rc compile_message(yyjson_val *json, size_t index, yyjson_val *spec,
                               struct arena *arena, struct prompt_message *out, struct err *err)
{
    char field[64];
    yyjson_val *content = yyjson_obj_get(json, "content");
    *out = (struct prompt_message){.role = json_get_text(json, "role")};
    if (str_eq(json_get_text(json, "type"), STR("placeholder"))) {
        out->placeholder = json_get_text(json, "name");
        snprintf(field, sizeof(field), "prompt[%zu].name", index);
        return out->placeholder.n
                   ? RC_OK
                   : err_set_field(err, ERR_MISSING_FIELD, field, "A placeholder needs a name.");
    }
    snprintf(field, sizeof(field), "prompt[%zu].role", index);
    if (!out->role.n)
        return err_set_field(err, ERR_MISSING_FIELD, field, "A message needs a role.");
    snprintf(field, sizeof(field), "prompt[%zu].content", index);
    if (yyjson_is_str(content))
        return compile_text(json_text(content), spec, field, arena, &out->template, err);
    if (!yyjson_is_arr(content))
        return err_set_field(err, ERR_MISSING_FIELD, field,
                             "A message needs a content: a text, or a list of parts.");
    out->fixed = json;
    return RC_OK;
}

static bool add_name(struct prompt *prompt, struct str name)
{
    for (size_t i = 0; i < prompt->name_count; i++)
        if (str_eq(prompt->names[i], name))
            return true;
    if (prompt->name_count == NAMES_MAX)
        return false;
    prompt->names[prompt->name_count++] = name;
    return true;
}

static enum rc collect_names(struct prompt *prompt, struct arena *arena, struct err *err)
{
    prompt->names = ARENA_NEW_ARRAY(arena, struct str, NAMES_MAX);
    if (!prompt->names)
        return no_memory(err);
    for (size_t m = 0; m < prompt->message_count; m++) {
        const struct str *names;
        size_t count = 0;
        if (prompt->messages[m].template)
            template_variables(prompt->messages[m].template, &names, &count);
        for (size_t i = 0; i < count; i++)
            if (!add_name(prompt, names[i]))
                return err_set_field(err, ERR_BAD_FIELD, "prompt",
                                     "A prompt has at most %d variables.", NAMES_MAX);
    }
    return RC_OK;
}

static enum rc compile(yyjson_val *spec, struct arena *arena, struct prompt *prompt,
                       struct err *err)
{
    yyjson_val *text = yyjson_obj_get(spec, "prompt");
    prompt->spec = spec;
    prompt->chat = yyjson_is_arr(text);
    prompt->message_count = prompt->chat ? yyjson_arr_size(text) : 1;
    if (prompt->chat != str_eq(json_get_text(spec, "type"), STR("chat")))
        return err_set_field(err, ERR_BAD_FIELD, "prompt",
                             "A text prompt has a text, a chat prompt a list of messages.");
    if (prompt->message_count == 0 || prompt->message_count > PROMPT_MESSAGES_MAX)
        return err_set_field(err, ERR_BAD_FIELD, "prompt", "A chat prompt has 1 to %d messages.",
                             PROMPT_MESSAGES_MAX);
    prompt->messages = ARENA_NEW_ARRAY(arena, struct prompt_message, prompt->message_count);
    if (!prompt->messages)
        return no_memory(err);
    enum rc rc = RC_OK;
    if (!prompt->chat) {
        prompt->messages[0].role = STR("user");
        rc = compile_text(json_text(text), spec, "prompt", arena, &prompt->messages[0].template,
                          err);
    }
    size_t i, n;
    yyjson_val *message;
    yyjson_arr_foreach(text, i, n, message)
    {
        if (rc == RC_OK)
            rc = compile_message(message, i, spec, arena, &prompt->messages[i], err);
    }
    return rc == RC_OK ? collect_names(prompt, arena, err) : rc;
}

enum rc prompt_compile(const struct map *prompts, yyjson_val *spec, struct arena *arena,
                       struct prompt **out, struct err *err)
{
    struct prompt *prompt = ARENA_NEW(arena, struct prompt);
    yyjson_val *resolved = NULL;
    if (!prompt)
        return no_memory(err);
    enum rc rc = prompt_resolve(prompts, spec, arena, &resolved, err);
    if (rc == RC_OK)
        rc = compile(resolved, arena, prompt, err);
    *out = prompt;
    return rc;
}

static enum rc check_members(yyjson_val *spec, struct err *err)
{
    static const struct {
        const char *name;
        bool list;
    } members[] = {{"config", false},   {"output_schema", false}, {"tools", true},
                   {"variables", true}, {"examples", true},       {"tags", true}};
    struct str syntax = json_get_text(spec, "syntax"), model;
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        yyjson_val *v = yyjson_obj_get(spec, members[i].name);
        if (v && !yyjson_is_null(v) && !(members[i].list ? yyjson_is_arr(v) : yyjson_is_obj(v)))
            return err_set_field(err, ERR_BAD_FIELD, members[i].name, "`%s` must be %s.",
                                 members[i].name, members[i].list ? "a list" : "an object");
    }
    if (syntax.n && !str_eq(syntax, STR("mustache")) && !str_eq(syntax, STR("jinja2")))
        return err_set_field(err, ERR_BAD_FIELD, "syntax", "`syntax` is mustache or jinja2.");
    model = json_get_text(yyjson_obj_get(spec, "config"), "model");
    if (str_starts(model, STR("prompt/")))
        return err_set_field(err, ERR_BAD_FIELD, "config.model",
                             "A prompt's model is a route or provider/model, not another prompt.");
    return RC_OK;
}

/* References are looked up when the prompt is used: here only its own texts count. */
enum rc prompt_check(yyjson_val *spec, struct err *err)
{
    struct prompt prompt = {0};
    struct arena scratch;
    struct str text = json_get_text(spec, "prompt");
    arena_init(&scratch, 64 << 20);
    enum rc rc = check_members(spec, err);
    if (rc == RC_OK && text.n > PROMPT_BYTES_MAX)
        rc = err_set_field(err, ERR_TOO_LARGE, "prompt", "A prompt has at most %d bytes.",
                           PROMPT_BYTES_MAX);
    if (rc == RC_OK)
        rc = compile(spec, &scratch, &prompt, err);
    arena_fini(&scratch);
    return rc;
}

/* ---- reading ---- */

static yyjson_val *member(const struct prompt *prompt, const char *name)
{
    yyjson_val *value = yyjson_obj_get(prompt->spec, name);
    return value && !yyjson_is_null(value) ? value : NULL;
}

yyjson_val *prompt_config(const struct prompt *prompt) { return member(prompt, "config"); }
yyjson_val *prompt_tools(const struct prompt *prompt) { return member(prompt, "tools"); }
yyjson_val *prompt_output_schema(const struct prompt *prompt)
{
    return member(prompt, "output_schema");
}
bool prompt_is_chat(const struct prompt *prompt) { return prompt->chat; }

void prompt_variables(const struct prompt *prompt, const struct str **names, size_t *count)
{
    *names = prompt->names;
    *count = prompt->name_count;
}

/* ---- rendering ---- */

/* The definition's defaults with the given values over them. */
static yyjson_val *merge_values(const struct prompt *prompt, yyjson_val *values,
                                struct arena *arena)
{
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *merged = doc ? yyjson_mut_obj(doc) : NULL;
    size_t i, n;
    yyjson_val *variable, *key, *value;
    if (!merged)
        return NULL;
    yyjson_arr_foreach(member(prompt, "variables"), i, n, variable)
    {
        yyjson_val *name = yyjson_obj_get(variable, "name");
        value = yyjson_obj_get(variable, "default");
        if (yyjson_is_str(name) && value && !yyjson_is_null(value))
            yyjson_mut_obj_put(merged, yyjson_val_mut_copy(doc, name),
                               yyjson_val_mut_copy(doc, value));
    }
    if (yyjson_mut_obj_size(merged) == 0)
        return values;
    yyjson_obj_foreach(values, i, n, key, value)
        yyjson_mut_obj_put(merged, yyjson_val_mut_copy(doc, key), yyjson_val_mut_copy(doc, value));
    yyjson_doc *frozen = json_freeze(merged, arena);
    return yyjson_doc_get_root(frozen);
}

static enum rc render_text(const struct prompt_message *message, yyjson_val *values,
                           struct arena *arena, struct buf *out, struct str *text, struct err *err)
{
    struct err inner = {0};
    buf_clear(out);
    enum rc rc = template_render(message->template, values, NULL, arena, out, &inner);
    if (rc != RC_OK && inner.code == ERR_BAD_FIELD) {
        char field[ERR_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "variables.%.*s", ERR_FIELD_BYTES_MAX - 12, inner.field);
        return err_set_field(err, ERR_MISSING_FIELD, field, "The prompt needs the variable '%s'.",
                             inner.field);
    }
    if (rc != RC_OK)
        return err_set(err, inner.code, "The prompt cannot be rendered: %s", inner.message);
    *text = arena_copy(arena, buf_str(out));
    return text->p ? RC_OK : no_memory(err);
}

/* A placeholder's messages, as they are; none where there is no such value. */
static enum rc put_placeholder(const struct prompt_message *message, yyjson_val *values,
                               yyjson_mut_doc *doc, yyjson_mut_val *list, struct err *err)
{
    yyjson_val *given = yyjson_obj_getn(values, message->placeholder.p, message->placeholder.n);
    yyjson_val *item;
    size_t i, n;
    if (given && !yyjson_is_null(given) && !yyjson_is_arr(given))
        return err_set_field(err, ERR_BAD_FIELD, "variables",
                             "The value of placeholder '%.*s' must be a list of messages.",
                             STR_ARG(message->placeholder));
    yyjson_arr_foreach(given, i, n, item)
    {
        if (!yyjson_is_str(yyjson_obj_get(item, "role")))
            return err_set_field(err, ERR_BAD_FIELD, "variables",
                                 "Each message of placeholder '%.*s' needs a role.",
                                 STR_ARG(message->placeholder));
        yyjson_mut_arr_append(list, yyjson_val_mut_copy(doc, item));
    }
    return RC_OK;
}

enum rc prompt_render(const struct prompt *prompt, yyjson_val *values, struct arena *arena,
                      yyjson_mut_doc *doc, yyjson_mut_val **messages, struct err *err)
{
    struct buf out;
    enum rc rc = RC_OK;
    yyjson_val *merged = merge_values(prompt, values, arena);
    *messages = yyjson_mut_arr(doc);
    buf_init(&out, VALUES_BYTES_MAX);
    for (size_t i = 0; i < prompt->message_count && rc == RC_OK; i++) {
        const struct prompt_message *message = &prompt->messages[i];
        struct str text;
        if (message->placeholder.n) {
            rc = put_placeholder(message, merged, doc, *messages, err);
        } else if (message->fixed) {
            yyjson_mut_arr_append(*messages, yyjson_val_mut_copy(doc, message->fixed));
        } else if ((rc = render_text(message, merged, arena, &out, &text, err)) == RC_OK) {
            yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, *messages);
            json_set_text(doc, o, "role", message->role);
            json_set_text(doc, o, "content", text);
        }
    }
    buf_fini(&out);
    return rc == RC_OK && !*messages ? no_memory(err) : rc;
}
