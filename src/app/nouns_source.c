/* capstan knowledge source: where a collection's documents come from by themselves. */
#include "app/nouns.h"
#include "http/message.h"
#include <stdlib.h>

#define ITEMS_SHOWN_MAX 100000

static const struct column source_columns[] = {
    {"NAME", "name"},
    {"KIND", "kind"},
    {"STATE", "state"},
    {"LAST SYNC", "last_sync.finished_at"},
    {"ADDED", "last_sync.added", true},
    {"CHANGED", "last_sync.changed", true},
    {"DELETED", "last_sync.deleted", true},
    {"FAILED", "last_sync.failed", true},
    {"NEXT SYNC", "next_sync_at"},
    {"ERROR", "last_sync.error"},
};
static const struct column item_columns[] = {
    {"STATE", "state"}, {"BYTES", "bytes", true}, {"ITEM", "key"}, {"ERROR", "error"}};

static const struct noun collections = {.command = "knowledge", .path = "/api/collections"};
static const struct noun sources = {"knowledge", "/api/collections", source_columns,
                                    COUNT_OF(source_columns),
                                    "no sources: 'capstan knowledge source add' makes one"};
static const struct noun items = {"knowledge", "/api/collections", item_columns,
                                  COUNT_OF(item_columns), "nothing was found there yet"};

struct source_options {
    const char *name, *every, *depth, *items, *include, *exclude, *file;
    bool json, detach, keep_documents;
};
static struct source_options options;

/* "/api/collections/NAME/sources/SOURCE…" in a static buffer. */
static const char *source_path(const char *collection, const char *source, const char *suffix)
{
    static char path[4096];
    char encoded[1024] = "";
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    if (source) {
        struct str name = http_percent_encode(str_from(source), &arena);
        snprintf(encoded, sizeof(encoded), "/%.*s", STR_ARG(name));
    }
    snprintf(path, sizeof(path), "%s%s%s", noun_path(&collections, collection, "/sources"), encoded,
             suffix);
    arena_fini(&arena);
    return path;
}

/* The job of an answer, followed unless told otherwise. */
static int follow(yyjson_val *job)
{
    if (options.detach || !yyjson_is_obj(job))
        return EXIT_OK;
    return noun_follow_job(&sources, job);
}

/* From its address: "docs.example.org", "handbook". */
static void name_from(const char *address, char out[101])
{
    const char *rest = strstr(address, "://");
    rest = rest ? rest + 3 : address;
    size_t n = 0;
    for (; *rest && n < 100; rest++) {
        bool plain = (*rest >= 'a' && *rest <= 'z') || (*rest >= 'A' && *rest <= 'Z') ||
                     (*rest >= '0' && *rest <= '9');
        if (plain || (n > 0 && (*rest == '.' || *rest == '_')))
            out[n++] = *rest;
        else if (n > 0 && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n > 0 && (out[n - 1] == '-' || out[n - 1] == '.'))
        n--;
    out[n] = '\0';
}

static void put_one(yyjson_mut_doc *doc, const char *name, const char *value)
{
    if (!value)
        return;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), name);
    yyjson_mut_arr_add_strcpy(doc, list, value);
}

static yyjson_mut_doc *make_definition(const char *kind, char **addresses, int count)
{
    char name[101];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = noun_new_object(&root);
    bool list = strcmp(kind, "urls") == 0;
    name_from(list ? "urls" : addresses[0], name);
    noun_put(doc, "kind", kind, false);
    noun_put(doc, "name", options.name ? options.name : name, false);
    if (list) {
        yyjson_mut_val *urls = yyjson_mut_obj_add_arr(doc, root, "urls");
        for (int i = 0; i < count; i++)
            yyjson_mut_arr_add_strcpy(doc, urls, addresses[i]);
    } else {
        noun_put(doc, strcmp(kind, "directory") == 0 ? "path" : "url", addresses[0], false);
    }
    noun_put(doc, "every", options.every, false);
    noun_put(doc, "depth", options.depth, true);
    noun_put(doc, "items_max", options.items, true);
    put_one(doc, "include", options.include);
    put_one(doc, "exclude", options.exclude);
    return doc;
}

static int run_add(int argc, char **argv)
{
    struct client_reply reply;
    bool by_file = options.file && argc == 3;
    if (!by_file && argc < 5)
        return command_usage_error("knowledge", "source add needs a collection, a kind and an "
                                                "address, or --file");
    yyjson_mut_doc *doc = by_file ? noun_read_file(&sources, options.file)
                                  : make_definition(argv[3], argv + 4, argc - 4);
    if (!doc ||
        !client_request_json("knowledge", "POST", source_path(argv[2], NULL, ""), doc, &reply))
        return EXIT_FAILED;
    printf("source %s added\n", yyjson_get_str(yyjson_obj_get(reply.root, "name")));
    int status = follow(yyjson_obj_get(reply.root, "job"));
    client_reply_free(&reply);
    return status;
}

static int run_sync(int argc, char **argv)
{
    struct client_reply reply;
    if (argc != 4)
        return command_usage_error("knowledge", "source sync needs a collection and a source");
    if (!client_request_json("knowledge", "POST", source_path(argv[2], argv[3], "/sync"), NULL,
                             &reply))
        return EXIT_FAILED;
    int status = follow(reply.root);
    client_reply_free(&reply);
    return status;
}

static int run_remove(int argc, char **argv)
{
    struct client_reply reply;
    if (argc != 4)
        return command_usage_error("knowledge", "source remove needs a collection and a source");
    const char *suffix = options.keep_documents ? "?documents=keep" : "";
    if (!client_request_json("knowledge", "DELETE", source_path(argv[2], argv[3], suffix), NULL,
                             &reply))
        return EXIT_FAILED;
    int status = follow(reply.root);
    client_reply_free(&reply);
    if (status == EXIT_OK)
        printf("source %s removed\n", argv[3]);
    return status;
}

int command_knowledge_source(int argc, char **argv)
{
    const struct option_spec specs[] = {{"json", .flag = &options.json},
                                        {"detach", .flag = &options.detach},
                                        {"keep-documents", .flag = &options.keep_documents},
                                        {"name", .value = &options.name},
                                        {"every", .value = &options.every},
                                        {"depth", .value = &options.depth},
                                        {"items", .value = &options.items},
                                        {"include", .value = &options.include},
                                        {"exclude", .value = &options.exclude},
                                        {"file", .value = &options.file}};
    if (!command_parse_options("knowledge", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "list") == 0 && argc == 3)
        return noun_list(&sources, source_path(argv[2], NULL, ""), 1000, options.json);
    if (strcmp(verb, "add") == 0)
        return run_add(argc, argv);
    if (strcmp(verb, "sync") == 0)
        return run_sync(argc, argv);
    if (strcmp(verb, "remove") == 0)
        return run_remove(argc, argv);
    if (strcmp(verb, "show") == 0 && argc == 4)
        return noun_send(&sources, "GET", source_path(argv[2], argv[3], ""), NULL, options.json);
    if (strcmp(verb, "stop") == 0 && argc == 4)
        return noun_send(&sources, "POST", source_path(argv[2], argv[3], "/stop"), NULL,
                         options.json);
    if (strcmp(verb, "items") == 0 && argc == 4)
        return noun_list(&items, source_path(argv[2], argv[3], "/items"), ITEMS_SHOWN_MAX,
                         options.json);
    return command_usage_error("knowledge", "source: list, show, add, sync, stop, items or remove");
}
