/* capstan pipeline: pipelines by the management interface, as files, and runs of both. */
#include "app/nouns_pipeline.h"
#include "base/buf.h"
#include "pipeline/files/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct column pipeline_columns[] = {
    {"NAME", "name"},
    {"NODES", "nodes", true},
    {"VERSION", "version", true},
    {"DRAFT CHANGED", "draft_changed"},
    {"CHANGED", "updated_at"},
    {"DESCRIPTION", "description"},
};
static const struct noun pipeline_noun = {
    "pipeline", "/api/pipelines", pipeline_columns, COUNT_OF(pipeline_columns),
    "no pipelines: draw one in the console, or 'capstan pipeline import FILE'"};

/* ---- files ---- */

bool pipeline_is_file(const char *name)
{
    struct str s = str_from(name);
    return str_eq(s, STR("-")) || str_find_char(s, '/') >= 0 || str_ends(s, STR(".yaml")) ||
           str_ends(s, STR(".yml")) || str_ends(s, STR(".json"));
}

char *pipeline_read_file(const char *file, size_t *n)
{
    FILE *in = strcmp(file, "-") == 0 ? stdin : fopen(file, "rb");
    char *text = in ? xmalloc(PIPELINE_FILE_BYTES_MAX + 1) : NULL;
    *n = in ? fread(text, 1, PIPELINE_FILE_BYTES_MAX + 1, in) : 0;
    bool failed = !in || ferror(in);
    if (failed)
        fprintf(stderr, "capstan pipeline: %s: %s\n", file, strerror(errno));
    else if (*n > PIPELINE_FILE_BYTES_MAX)
        fprintf(stderr, "capstan pipeline: %s: larger than %d MB\n", file,
                PIPELINE_FILE_BYTES_MAX >> 20);
    if (in && in != stdin)
        fclose(in);
    if (failed || *n > PIPELINE_FILE_BYTES_MAX) {
        free(text);
        return NULL;
    }
    text[*n] = '\0';
    return text;
}

bool pipeline_put_names(yyjson_mut_doc *doc, const char *member, const char **names)
{
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    yyjson_mut_val *object = names ? yyjson_mut_obj(doc) : NULL;
    for (; names && *names; names++) {
        const char *equals = strchr(*names, '=');
        size_t n = equals ? (size_t)(equals - *names) : 0;
        if (equals && !equals[1]) {
            command_usage_error("pipeline", "'%s' is not THERE=HERE", *names);
            return false;
        }
        yyjson_mut_obj_add(object, yyjson_mut_strncpy(doc, *names, n),
                           yyjson_mut_strcpy(doc, equals ? equals + 1 : *names));
    }
    if (object)
        yyjson_mut_obj_add(root, yyjson_mut_strcpy(doc, member), object);
    return true;
}

static int pipeline_export(const char *name, const char *version, const char *file)
{
    struct client_reply reply;
    char suffix[200];
    snprintf(suffix, sizeof(suffix), "/export?version=%.150s", version ? version : "draft");
    if (!client_request("pipeline", "GET", noun_path(&pipeline_noun, name, suffix), STR_EMPTY,
                        STR_EMPTY, &reply))
        return EXIT_FAILED;
    FILE *out = file ? fopen(file, "wb") : stdout;
    bool ok = out && fwrite(reply.body.p, 1, reply.body.n, out) == reply.body.n;
    if (out && out != stdout)
        ok = fclose(out) == 0 && ok;
    if (!ok)
        fprintf(stderr, "capstan pipeline: %s: %s\n", file ? file : "output", strerror(errno));
    client_reply_free(&reply);
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* What came of the file: each note and problem on a line. */
static void print_import(yyjson_val *root, bool dry_run)
{
    static const char *const lists[] = {"notes", "problems"};
    size_t i, n;
    yyjson_val *item;
    printf("%s: %s\n", yyjson_get_str(yyjson_obj_get(root, "name")),
           dry_run ? "not imported (dry run)" : "imported as a draft");
    for (size_t l = 0; l < COUNT_OF(lists); l++)
        yyjson_arr_foreach(yyjson_obj_get(root, lists[l]), i, n, item)
        {
            const char *node = yyjson_get_str(yyjson_obj_get(item, "node"));
            const char *field = yyjson_get_str(yyjson_obj_get(item, "field"));
            printf("%s: %s%s%s%s%s\n", yyjson_get_str(yyjson_obj_get(item, "severity")), node,
                   *node && *field ? "." : "", field, *node || *field ? ": " : "",
                   yyjson_get_str(yyjson_obj_get(item, "message")));
        }
}

static int pipeline_import(const char *file, const char *name, const char **models,
                           const char **collections, bool replace, bool dry_run, bool json)
{
    struct client_reply reply;
    size_t n;
    char *text = pipeline_read_file(file, &n);
    if (!text)
        return EXIT_FAILED;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_obj_add_strncpy(doc, root, "text", text, n);
    free(text);
    noun_put(doc, "name", name, false);
    yyjson_mut_obj_add_bool(doc, root, "replace", replace);
    yyjson_mut_obj_add_bool(doc, root, "dry_run", dry_run);
    if (!pipeline_put_names(doc, "models", models) ||
        !pipeline_put_names(doc, "collections", collections)) {
        yyjson_mut_doc_free(doc);
        return EXIT_USAGE;
    }
    if (!client_request_json("pipeline", "POST", "/api/pipelines/import", doc, &reply))
        return EXIT_FAILED;
    if (json)
        print_json(reply.root);
    else
        print_import(reply.root, dry_run);
    client_reply_free(&reply);
    return EXIT_OK;
}

/* ---- versions ---- */

static int pipeline_publish(const char *name, const char *message, const char **labels, bool json)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = noun_new_object(&root);
    noun_put(doc, "message", message, false);
    yyjson_mut_val *list = labels ? yyjson_mut_obj_add_arr(doc, root, "labels") : NULL;
    for (; labels && *labels; labels++)
        yyjson_mut_arr_add_strcpy(doc, list, *labels);
    return noun_send(&pipeline_noun, "POST", noun_path(&pipeline_noun, name, "/publish"), doc,
                     json);
}

/* VERSION[=WEIGHT]...: one version, or a split between several. */
static int pipeline_label(const char *name, const char *label, char **versions, bool json)
{
    char suffix[200];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_val *targets = yyjson_mut_obj_add_arr(doc, root, "targets");
    for (; *versions; versions++) {
        struct str rest = str_from(*versions), version;
        int64_t number, weight = 1;
        if (!str_split(&rest, '=', &version) || str_to_i64(version, &number) != RC_OK ||
            (rest.n && str_to_i64(rest, &weight) != RC_OK)) {
            yyjson_mut_doc_free(doc);
            return command_usage_error("pipeline", "'%s' is not VERSION or VERSION=WEIGHT",
                                       *versions);
        }
        yyjson_mut_val *target = yyjson_mut_arr_add_obj(doc, targets);
        yyjson_mut_obj_add_int(doc, target, "version", number);
        yyjson_mut_obj_add_int(doc, target, "weight", weight);
    }
    snprintf(suffix, sizeof(suffix), "/labels/%.150s", label);
    return noun_send(&pipeline_noun, "PUT", noun_path(&pipeline_noun, name, suffix), doc, json);
}

static void print_diff(yyjson_val *root)
{
    static const struct column fields[] = {
        {"PATH", "path"}, {"BEFORE", "before"}, {"AFTER", "after"}};
    size_t i, n;
    yyjson_val *node;
    yyjson_arr_foreach(yyjson_obj_get(root, "nodes"), i, n, node)
    {
        const char *change = yyjson_get_str(yyjson_obj_get(node, "change"));
        printf("%c %s\n",
               strcmp(change, "added") == 0     ? '+'
               : strcmp(change, "removed") == 0 ? '-'
                                                : '~',
               yyjson_get_str(yyjson_obj_get(node, "id")));
    }
    print_table(yyjson_obj_get(root, "fields"), fields, COUNT_OF(fields), "nothing is different");
}

static int pipeline_diff(const char *name, const char *from, const char *to, bool json)
{
    struct client_reply reply;
    char suffix[200];
    snprintf(suffix, sizeof(suffix), "/diff?from=%.80s&to=%.80s", from, to);
    if (!client_request_json("pipeline", "GET", noun_path(&pipeline_noun, name, suffix), NULL,
                             &reply))
        return EXIT_FAILED;
    if (json)
        print_json(reply.root);
    else
        print_diff(reply.root);
    client_reply_free(&reply);
    return EXIT_OK;
}

int command_pipeline(int argc, char **argv)
{
    struct pipeline_run_options run = {0};
    bool json = false, replace = false, dry_run = false, gallery = false, keep = false;
    const char *file = NULL, *name = NULL, *message = NULL, **labels = NULL;
    const struct option_spec specs[] = {
        {"json", .flag = &json},
        {"replace", .flag = &replace},
        {"dry-run", .flag = &dry_run},
        {"gallery", .flag = &gallery},
        {"update", .flag = &keep},
        {"file", .value = &file},
        {"name", .value = &name},
        {"message", .value = &message},
        {"label", .list = &labels},
        {"config", .value = &run.config},
        {"version", .value = &run.version},
        {"session", .value = &run.session},
        {"user", .value = &run.user},
        {"input", .list = &run.inputs},
        {"model", .list = &run.models},
        {"collection", .list = &run.collections},
    };
    if (!command_parse_options("pipeline", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    const char *verb = argc > 1 ? argv[1] : "list";
    run.json = json;
    if (strcmp(verb, "list") == 0)
        return noun_list(&pipeline_noun, pipeline_noun.path, 10000, json);
    if (argc == 3 && strcmp(verb, "show") == 0)
        return noun_show(&pipeline_noun, argv[2], json);
    if (argc == 3 && strcmp(verb, "delete") == 0)
        return noun_delete(&pipeline_noun, argv[2]);
    if (argc == 3 && strcmp(verb, "run") == 0)
        return pipeline_run(argv[2], &run);
    if (argc == 3 && strcmp(verb, "export") == 0)
        return pipeline_export(argv[2], run.version, file);
    if (argc == 3 && strcmp(verb, "import") == 0)
        return pipeline_import(argv[2], name, run.models, run.collections, replace, dry_run, json);
    if (argc == (gallery ? 2 : 3) && strcmp(verb, "test") == 0)
        return pipeline_test(argv[2], run.version, gallery, keep, json);
    if (argc == 3 && strcmp(verb, "record") == 0)
        return pipeline_record(argv[2], file, name);
    if (argc == 3 && strcmp(verb, "publish") == 0)
        return pipeline_publish(argv[2], message, labels, json);
    if (argc >= 5 && strcmp(verb, "label") == 0)
        return pipeline_label(argv[2], argv[3], argv + 4, json);
    if (argc >= 3 && argc <= 5 && strcmp(verb, "diff") == 0)
        return pipeline_diff(argv[2], argc > 3 ? argv[3] : "latest", argc > 4 ? argv[4] : "draft",
                             json);
    return command_usage_error("pipeline", "'%s' is not understood here", verb);
}
