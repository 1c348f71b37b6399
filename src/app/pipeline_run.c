/* capstan pipeline run: one run, watched. A file runs on a server of its own (private_server.h):
 * all node types work as they do on any server, and nothing of the run is left behind. */
#include "app/nouns_pipeline.h"
#include "app/private_server.h"
#include "base/buf.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct noun run_noun = {.command = "pipeline", .path = "/api/pipelines"};

struct watching {
    bool json, terminal;
    bool text; /* something of the answer was written */
    int status;
};

/* "draft  812 ms" */
static void print_node(const char *event, yyjson_val *json)
{
    const char *path = yyjson_get_str(yyjson_obj_get(json, "path"));
    const char *state = yyjson_get_str(yyjson_obj_get(json, "status"));
    yyjson_val *error = yyjson_obj_get(yyjson_obj_get(json, "outputs"), "error_message");
    if (strcmp(event, "node_waiting") == 0)
        fprintf(stderr, "%s waits for somebody: answer in the console's inbox\n", path);
    else if (strcmp(event, "node_finished") == 0)
        fprintf(stderr, "%-24s %8.1f ms%s%s%s%s\n", path,
                yyjson_get_num(yyjson_obj_get(json, "duration_ms")),
                state && strcmp(state, "failed") == 0 ? "  failed" : "", error ? ": " : "",
                error ? yyjson_get_str(error) : "", "");
}

static void print_end(struct watching *watching, yyjson_val *json)
{
    const char *status = yyjson_get_str(yyjson_obj_get(json, "status"));
    const char *text = yyjson_get_str(yyjson_obj_get(json, "text"));
    yyjson_val *error = yyjson_obj_get(json, "error"), *outputs = yyjson_obj_get(json, "outputs"),
               *usage = yyjson_obj_get(json, "usage");
    watching->status = status && strcmp(status, "succeeded") == 0 ? EXIT_OK : EXIT_FAILED;
    if (watching->json) {
        print_json(json);
        return;
    }
    if (!watching->text && text && *text)
        printf("%s\n", text);
    else if (watching->text)
        putchar('\n');
    if (yyjson_obj_size(outputs) > 0)
        print_json(outputs);
    fprintf(stderr, "%s: %lld steps, %.1f ms, %lld + %lld tokens, $%s\n", status ? status : "lost",
            (long long)yyjson_get_int(yyjson_obj_get(usage, "steps")),
            yyjson_get_num(yyjson_obj_get(json, "duration_ms")),
            (long long)yyjson_get_int(yyjson_obj_get(usage, "input_tokens")),
            (long long)yyjson_get_int(yyjson_obj_get(usage, "output_tokens")),
            yyjson_get_str(yyjson_obj_get(usage, "cost_usd")));
    if (yyjson_is_obj(error))
        fprintf(stderr, "capstan pipeline: %s: %s\n",
                yyjson_is_str(yyjson_obj_get(error, "node"))
                    ? yyjson_get_str(yyjson_obj_get(error, "node"))
                    : "the run",
                yyjson_get_str(yyjson_obj_get(error, "message")));
}

static bool on_event(void *arg, struct str event, struct str data)
{
    struct watching *watching = arg;
    yyjson_doc *doc = yyjson_read(data.p, data.n, 0);
    yyjson_val *json = yyjson_doc_get_root(doc);
    char name[32];
    snprintf(name, sizeof(name), "%.*s", STR_ARG(event));
    bool ended = strcmp(name, "run_finished") == 0;
    if (ended) {
        print_end(watching, json);
    } else if (!watching->json && strcmp(name, "text") == 0) {
        const char *text = yyjson_get_str(yyjson_obj_get(json, "text"));
        fputs(text ? text : "", stdout);
        fflush(stdout);
        watching->text = true;
    } else if (!watching->json && strncmp(name, "node_", 5) == 0) {
        if (watching->text && watching->terminal)
            fputc('\n', stderr);
        print_node(name, json);
    }
    yyjson_doc_free(doc);
    return !ended;
}

/* NAME=TEXT, NAME=@FILE (its text), NAME:=JSON */
static bool put_input(yyjson_mut_doc *doc, yyjson_mut_val *inputs, const char *input)
{
    const char *equals = strchr(input, '=');
    bool typed = equals && equals > input && equals[-1] == ':';
    yyjson_mut_val *value = NULL;
    if (!equals || equals == input) {
        command_usage_error("pipeline", "'%s' is not NAME=VALUE", input);
        return false;
    }
    if (typed) {
        yyjson_doc *json = yyjson_read(equals + 1, strlen(equals + 1), 0);
        value = yyjson_val_mut_copy(doc, yyjson_doc_get_root(json));
        yyjson_doc_free(json);
        if (!value) {
            command_usage_error("pipeline", "'%s' is not JSON", equals + 1);
            return false;
        }
    } else if (equals[1] == '@') {
        size_t n;
        char *text = pipeline_read_file(equals + 2, &n);
        value = text ? yyjson_mut_strncpy(doc, text, n) : NULL;
        free(text);
        if (!value)
            return false;
    } else {
        value = yyjson_mut_strcpy(doc, equals + 1);
    }
    yyjson_mut_obj_add(
        inputs, yyjson_mut_strncpy(doc, input, (size_t)(equals - input) - (typed ? 1 : 0)), value);
    return true;
}

/* The request of a run; NULL: an error was printed. */
static yyjson_mut_doc *make_request(const struct pipeline_run_options *options, const char *version)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_val *inputs = yyjson_mut_obj_add_obj(doc, root, "inputs");
    yyjson_mut_obj_add_str(doc, root, "mode", "stream");
    noun_put(doc, "version", version, true);
    noun_put(doc, "session", options->session, false);
    noun_put(doc, "user", options->user, false);
    for (const char **input = options->inputs; input && *input; input++)
        if (!put_input(doc, inputs, *input)) {
            yyjson_mut_doc_free(doc);
            return NULL;
        }
    return doc;
}

static int run_named(const char *name, const char *version,
                     const struct pipeline_run_options *options)
{
    struct watching watching = {
        .json = options->json,
        .terminal = isatty(STDERR_FILENO) && isatty(STDOUT_FILENO),
        .status = EXIT_FAILED,
    };
    yyjson_mut_doc *request = make_request(options, version);
    if (!request)
        return EXIT_USAGE;
    if (!client_stream("pipeline", noun_path(&run_noun, name, "/runs"), request, on_event,
                       &watching))
        return EXIT_FAILED;
    return watching.status;
}

/* Prints what the file cannot do. True: it can be run. */
static bool print_problems(yyjson_val *import)
{
    size_t i, n;
    yyjson_val *problem;
    bool good = true;
    yyjson_arr_foreach(yyjson_obj_get(import, "problems"), i, n, problem)
    {
        bool error = yyjson_equals_str(yyjson_obj_get(problem, "severity"), "error");
        fprintf(stderr, "%s: %s %s: %s\n", error ? "error" : "warning",
                yyjson_get_str(yyjson_obj_get(problem, "node")),
                yyjson_get_str(yyjson_obj_get(problem, "field")),
                yyjson_get_str(yyjson_obj_get(problem, "message")));
        good = good && !error;
    }
    return good;
}

static int run_text(struct str text, const struct pipeline_run_options *options)
{
    struct client_reply reply;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_obj_add_strncpy(doc, root, "text", text.p, text.n);
    yyjson_mut_obj_add_str(doc, root, "name", "file");
    if (!pipeline_put_names(doc, "models", options->models) ||
        !pipeline_put_names(doc, "collections", options->collections)) {
        yyjson_mut_doc_free(doc);
        return EXIT_USAGE;
    }
    if (!client_request_json("pipeline", "POST", "/api/pipelines/import", doc, &reply))
        return EXIT_FAILED;
    bool good = print_problems(reply.root);
    client_reply_free(&reply);
    return good ? run_named("file", "draft", options) : EXIT_FAILED;
}

static int run_file(const char *file, const struct pipeline_run_options *options)
{
    struct private_server server;
    size_t n;
    char *text = pipeline_read_file(file, &n);
    if (!text || !private_server_start("pipeline", options->config, &server)) {
        free(text);
        return EXIT_FAILED;
    }
    int status = run_text(str_make(text, n), options);
    private_server_stop(&server);
    free(text);
    return status;
}

int pipeline_run(const char *what, const struct pipeline_run_options *options)
{
    char name[256];
    if (pipeline_is_file(what))
        return run_file(what, options);
    snprintf(name, sizeof(name), "%s", what);
    char *at = strchr(name, '@');
    if (at)
        *at = '\0';
    return run_named(name, at ? at + 1 : options->version, options);
}
