/* capstan model, engine, call, export, diff, apply, backup: the rest of the client commands. */
#include "app/nouns.h"
#include "http/message.h"
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define UPGRADE_POLL_US   (200 * 1000)
#define UPGRADE_POLLS_MAX 150

/* ---- model ---- */

static const struct column model_columns[] = {
    {"NAME", "name"},       {"KIND", "kind"},           {"STATE", "state"},
    {"SIZE", "size", true}, {"MEMORY", "memory", true}, {"CONTEXT", "context", true},
    {"LICENCE", "licence"}, {"ERROR", "error"},
};
static const struct noun model_noun = {
    "model", "/api/models", model_columns, COUNT_OF(model_columns),
    "no local models: 'capstan model catalogue' shows what can be pulled"};

static const struct column catalogue_columns[] = {
    {"NAME", "name"},       {"KIND", "kind"},   {"SIZE", "size", true},
    {"LICENCE", "licence"}, {"TOOLS", "tools"}, {"DESCRIPTION", "description"},
};
static const struct noun catalogue_noun = {"model", "/api/models/catalogue", catalogue_columns,
                                           COUNT_OF(catalogue_columns), "the catalogue is empty"};

/* POST that answers with a job, followed to its end unless `detach`. */
static int start_job(const struct noun *noun, const char *path, yyjson_mut_doc *doc, bool detach,
                     bool json)
{
    struct client_reply reply;
    if (!client_request_json(noun->command, "POST", path, doc, &reply))
        return EXIT_FAILED;
    int status = EXIT_OK;
    if (json)
        print_json(reply.root);
    if (!detach)
        status = noun_follow_job(noun, reply.root);
    client_reply_free(&reply);
    return status;
}

int command_model(int argc, char **argv)
{
    bool json = false, detach = false;
    const struct option_spec specs[] = {{"json", .flag = &json}, {"detach", .flag = &detach}};
    if (!command_parse_options("model", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    const char *verb = argc > 1 ? argv[1] : "list";
    if (strcmp(verb, "list") == 0)
        return noun_list(&model_noun, model_noun.path, 10000, json);
    if (strcmp(verb, "catalogue") == 0)
        return noun_list(&catalogue_noun, catalogue_noun.path, 1000, json);
    if (argc != 3)
        return command_usage_error("model", "%s needs one name", verb);
    const char *name = argv[2];
    if (strcmp(verb, "show") == 0)
        return noun_show(&model_noun, name, json);
    if (strcmp(verb, "remove") == 0)
        return noun_delete(&model_noun, name);
    if (strcmp(verb, "start") == 0 || strcmp(verb, "stop") == 0)
        return noun_send(
            &model_noun, "POST",
            noun_path(&model_noun, name, strcmp(verb, "start") == 0 ? "/start" : "/stop"),
            noun_new_object(NULL), json);
    yyjson_mut_doc *doc = noun_new_object(NULL);
    if (strcmp(verb, "pull") == 0) {
        noun_put(doc, "name", name, false);
        return start_job(&model_noun, "/api/models/pull", doc, detach, json);
    }
    if (strcmp(verb, "add") == 0) {
        char *path = realpath(name, NULL);
        noun_put(doc, "file", path ? path : name, false);
        free(path);
        return start_job(&model_noun, "/api/models", doc, detach, json);
    }
    yyjson_mut_doc_free(doc);
    return command_usage_error("model", "'%s' is not understood here", verb);
}

int command_engine(int argc, char **argv)
{
    static const struct noun noun = {"engine", "/api/engine", NULL, 0, ""};
    bool json = false, detach = false;
    const struct option_spec specs[] = {{"json", .flag = &json}, {"detach", .flag = &detach}};
    if (!command_parse_options("engine", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    const char *verb = argc > 1 ? argv[1] : "status";
    if (strcmp(verb, "status") == 0)
        return noun_send(&noun, "GET", noun.path, NULL, json);
    if (strcmp(verb, "install") == 0)
        return start_job(&noun, "/api/engine/install", noun_new_object(NULL), detach, json);
    return command_usage_error("engine", "'%s' is not understood here", verb);
}

/* ---- call ---- */

static const struct column call_columns[] = {
    {"ID", "id"},
    {"STARTED", "started_at"},
    {"STATUS", "status"},
    {"MODEL", "model_requested"},
    {"PROVIDER", "provider"},
    {"TOTAL MS", "timings_ms.total", true},
    {"FIRST", "timings_ms.first_token", true},
    {"IN", "usage.input_total", true},
    {"OUT", "usage.output_total", true},
    {"COST", "cost_usd", true},
    {"KEY", "key.name"},
};
static const struct noun call_noun = {"call", "/api/calls", call_columns, COUNT_OF(call_columns),
                                      "no calls match"};

static const char *text_of(yyjson_val *object, const char *name)
{
    const char *text = yyjson_get_str(yyjson_obj_get(object, name));
    return text ? text : "-";
}

static bool print_tail_line(void *arg, struct str event, struct str data)
{
    bool json = *(bool *)arg;
    if (!str_eq(event, STR("call")))
        return true;
    if (json) {
        printf("%.*s\n", STR_ARG(data));
    } else {
        yyjson_doc *doc = yyjson_read(data.p, data.n, 0);
        yyjson_val *o = yyjson_doc_get_root(doc);
        printf("%s  %s  %-9s  %-30s  %8.1f ms  $%s\n", text_of(o, "started_at"), text_of(o, "id"),
               text_of(o, "status"), text_of(o, "model_requested"),
               yyjson_get_num(yyjson_obj_get(yyjson_obj_get(o, "timings_ms"), "total")),
               text_of(o, "cost_usd"));
        yyjson_doc_free(doc);
    }
    fflush(stdout);
    return true;
}

static int erase_user(const char *user)
{
    struct arena arena;
    struct client_reply reply;
    arena_init(&arena, 64 * 1024);
    struct str value = http_percent_encode(str_from(user), &arena);
    struct str path = arena_printf(&arena, "/api/calls?user=%.*s", STR_ARG(value));
    bool done = path.p && client_request("call", "DELETE", path.p, STR_EMPTY, STR_EMPTY, &reply);
    if (done) {
        printf("%" PRIu64 " calls erased, and the name in the daily spend\n",
               yyjson_get_uint(yyjson_obj_get(yyjson_doc_get_root(reply.doc), "erased")));
        client_reply_free(&reply);
    }
    arena_fini(&arena);
    return done ? EXIT_OK : EXIT_FAILED;
}

int command_call(int argc, char **argv)
{
    bool json = false;
    const char *limit = "50";
    static const char *const filters[] = {
        "model", "provider", "route", "key",  "status",         "user",           "session",
        "tag",   "from",     "to",    "text", "min-latency-ms", "max-latency-ms", "min-cost-usd"};
    const char *values[COUNT_OF(filters)] = {NULL};
    struct option_spec specs[COUNT_OF(filters) + 2] = {{"json", .flag = &json},
                                                       {"limit", .value = &limit}};
    for (size_t i = 0; i < COUNT_OF(filters); i++)
        specs[i + 2] = (struct option_spec){filters[i], .value = &values[i]};
    if (!command_parse_options("call", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    const char *verb = argc > 1 ? argv[1] : "list";
    if (strcmp(verb, "show") == 0 && argc == 3)
        return noun_show(&call_noun, argv[2], json);
    if (strcmp(verb, "erase") == 0 && argc == 3)
        return noun_delete(&call_noun, argv[2]);
    if (strcmp(verb, "erase-user") == 0 && argc == 3)
        return erase_user(argv[2]);
    if (strcmp(verb, "tail") == 0)
        return client_stream("call", "/api/events?types=call", NULL, print_tail_line, &json)
                   ? EXIT_OK
                   : EXIT_FAILED;
    if (strcmp(verb, "list") != 0)
        return command_usage_error("call", "'%s' is not understood here", verb);
    char path[2048] = "/api/calls?";
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        if (!values[i])
            continue;
        size_t n = strlen(path);
        struct str value = http_percent_encode(str_from(values[i]), &arena);
        snprintf(path + n, sizeof(path) - n, "%s=%.*s&", filters[i], STR_ARG(value));
        for (char *p = path + n; *p && *p != '='; p++)
            *p = *p == '-' ? '_' : *p;
    }
    arena_fini(&arena);
    path[strlen(path) - 1] = '\0'; /* the last & or the ? */
    return noun_list(&call_noun, path, atoi(limit), json);
}

/* ---- configuration in Git, backup ---- */

int command_export(int argc, char **argv)
{
    const char *output = NULL;
    const struct option_spec specs[] = {{"output", .value = &output}};
    struct client_reply reply;
    if (!command_parse_options("export", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (!client_request("export", "GET", "/api/export", STR_EMPTY, STR_EMPTY, &reply))
        return EXIT_FAILED;
    FILE *out = output ? fopen(output, "wb") : stdout;
    bool ok = out && fwrite(reply.body.p, 1, reply.body.n, out) == reply.body.n && fflush(out) == 0;
    if (!ok)
        perror(output ? output : "capstan export");
    if (output && out)
        fclose(out);
    client_reply_free(&reply);
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* Prints a plan: "+ route smart", "~ route cheap: retry 1 → 2", "- key old"; returns how many
 * lines. */
static size_t print_plan(yyjson_val *plan)
{
    size_t i, count = 0;
    yyjson_val *change;
    yyjson_arr_foreach(yyjson_obj_get(plan, "changes"), i, count, change)
    {
        const char *action = text_of(change, "action"),
                   *detail = yyjson_get_str(yyjson_obj_get(change, "detail"));
        char sign = *action == 'c' ? '+' : *action == 'd' ? '-' : '~';
        printf("%c %s %s%s%s\n", sign, text_of(change, "kind"), text_of(change, "name"),
               detail ? ": " : "", detail ? detail : "");
        const char *secret = yyjson_get_str(yyjson_obj_get(change, "secret"));
        if (secret)
            printf("  its secret, shown this once: %s\n", secret);
    }
    return count;
}

static int send_plan(const char *command, const char *path, const char *file, bool json,
                     size_t *changes)
{
    const struct noun noun = {command, path, NULL, 0, ""};
    yyjson_mut_doc *doc = noun_read_file(&noun, file);
    struct client_reply reply;
    if (!doc || !client_request_json(command, "POST", path, doc, &reply))
        return EXIT_FAILED;
    if (json)
        print_json(reply.root);
    *changes =
        json ? yyjson_arr_size(yyjson_obj_get(reply.root, "changes")) : print_plan(reply.root);
    client_reply_free(&reply);
    return EXIT_OK;
}

int command_diff(int argc, char **argv)
{
    bool json = false;
    size_t changes = 0;
    const struct option_spec specs[] = {{"json", .flag = &json}};
    if (!command_parse_options("diff", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc != 2)
        return command_usage_error("diff", "one file is needed ('-': standard input)");
    int status = send_plan("diff", "/api/diff", argv[1], json, &changes);
    return status == EXIT_OK && changes ? EXIT_FAILED : status; /* as diff(1): 1 means different */
}

int command_apply(int argc, char **argv)
{
    bool json = false, dry_run = false, prune = false;
    size_t changes = 0;
    const struct option_spec specs[] = {
        {"json", .flag = &json}, {"dry-run", .flag = &dry_run}, {"prune", .flag = &prune}};
    if (!command_parse_options("apply", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc != 2)
        return command_usage_error("apply", "one file is needed ('-': standard input)");
    char path[64];
    snprintf(path, sizeof(path), "/api/apply?dry_run=%d&prune=%d", dry_run, prune);
    int status = send_plan("apply", path, argv[1], json, &changes);
    if (status == EXIT_OK && !json)
        printf("%zu change%s %s\n", changes, changes == 1 ? "" : "s",
               dry_run ? "would be made" : "made");
    return status;
}

int command_backup(int argc, char **argv)
{
    static const struct noun noun = {"backup", "/api/backup", NULL, 0, ""};
    bool json = false;
    const struct option_spec specs[] = {{"json", .flag = &json}};
    if (!command_parse_options("backup", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc != 2)
        return command_usage_error("backup",
                                   "one folder is needed: it is made on the server's machine");
    char *cwd = argv[1][0] == '/' ? NULL : getcwd(NULL, 0);
    char path[4096];
    snprintf(path, sizeof(path), "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", argv[1]);
    free(cwd);
    yyjson_mut_doc *doc = noun_new_object(NULL);
    noun_put(doc, "directory", path, false);
    return start_job(&noun, "/api/backup", doc, false, json);
}

/* The process that answers /api/server; 0: nobody does just now. */
static int64_t serving_pid(void)
{
    struct client_reply reply;
    int64_t pid = 0;
    if (!client_request_json("upgrade", "GET", "/api/server", NULL, &reply))
        return 0;
    pid = yyjson_get_sint(yyjson_obj_get(reply.root, "pid"));
    client_reply_free(&reply);
    return pid;
}

int command_upgrade(int argc, char **argv)
{
    struct client_reply reply;
    if (!command_parse_options("upgrade", &argc, argv, NULL, 0))
        return EXIT_USAGE;
    if (argc > 1)
        return command_usage_error("upgrade", "'%s' is not understood here", argv[1]);
    int64_t before = serving_pid();
    if (!before || !client_request_json("upgrade", "POST", "/api/server/upgrade", NULL, &reply))
        return EXIT_FAILED;
    client_reply_free(&reply);
    for (int i = 0; i < UPGRADE_POLLS_MAX; i++) {
        usleep(UPGRADE_POLL_US);
        int64_t now = serving_pid();
        if (now && now != before) {
            printf("process %lld has taken over from %lld, which ends after its last answer\n",
                   (long long)now, (long long)before);
            return EXIT_OK;
        }
    }
    fprintf(stderr, "capstan upgrade: the process is still the old one; the server's log says why "
                    "(successor_failed)\n");
    return EXIT_FAILED;
}
