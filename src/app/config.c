/* See config.h. */
#include "app/config.h"
#include "base/clock.h"
#include "http/message.h"
#include "pipeline/tools/mcp_client.h"
#include "store/account.h"
#include "text/decode.h"
#include "text/json.h"
#include "text/yaml.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_ARENA_BYTES_MAX (512 * 1024 * 1024)
#define DRAIN_NS_DEFAULT       (30 * NS_PER_S)
#define PROJECTS_MAX           1000

static const char *const SETTINGS[] = {"listen",   "data",      "public_url", "tls",    "loops",
                                       "workers",  "trace",     "cache",      "engine", "drain",
                                       "projects", "pipelines", "knowledge",  NULL};

/* ---- the file ---- */

static enum rc read_file(struct str path, struct arena *arena, struct str *out, struct err *err)
{
    struct stat info;
    int fd = open(path.p, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0) {
        if (fd >= 0)
            close(fd);
        return err_set(err, ERR_INVALID, "%.*s: %s", STR_ARG(path), strerror(errno));
    }
    char *text =
        info.st_size <= YAML_BYTES_MAX ? arena_alloc(arena, (size_t)info.st_size + 1) : NULL;
    ssize_t n = text ? read(fd, text, (size_t)info.st_size) : -1;
    close(fd);
    if (n < 0)
        return err_set(err, ERR_INVALID, "%.*s: larger than %d bytes, or unreadable", STR_ARG(path),
                       YAML_BYTES_MAX);
    *out = str_make(text, (size_t)n);
    return RC_OK;
}

/* "capstan.yaml:12: routes.smart.retry: must be …" */
static enum rc at_line(struct err *err, struct str path, const struct yaml_lines *lines)
{
    int line = yaml_line_of(lines, str_from(err->field));
    if (err->field[0])
        err_prefix(err, "%.*s:%d: %s", STR_ARG(path), MAX(line, 1), err->field);
    else
        err_prefix(err, "%.*s:%d", STR_ARG(path), MAX(line, 1));
    return err->rc;
}

/* ---- settings ---- */

static enum rc add_address(struct config *config, struct str text, struct err *err)
{
    struct str expanded;
    if (config->address_count == CONFIG_ADDRESSES_MAX)
        return err_set_field(err, ERR_BAD_FIELD, "listen", "at most %d addresses",
                             CONFIG_ADDRESSES_MAX);
    enum rc rc = secret_expand(text, &config->arena, &expanded, err);
    if (rc != RC_OK)
        return rc;
    expanded = arena_copy(&config->arena, expanded);
    if (!expanded.p || address_parse(expanded, CONFIG_PORT_DEFAULT,
                                     &config->addresses[config->address_count]) != RC_OK)
        return err_set_field(
            err, ERR_BAD_FIELD, "listen",
            "'%.*s' is not an address such as 127.0.0.1:4100, [::1]:4100 or unix:/run/capstan.sock",
            STR_ARG(text));
    config->address_count++;
    return RC_OK;
}

static enum rc read_listen(struct config *config, yyjson_val *root, struct err *err)
{
    yyjson_val *listen = yyjson_obj_get(root, "listen"), *item;
    size_t i, n;
    enum rc rc = RC_OK;
    if (yyjson_is_str(listen))
        return add_address(config, json_text(listen), err);
    if (listen && !yyjson_is_arr(listen))
        return err_set_field(err, ERR_BAD_FIELD, "listen", "must be an address or a list of them");
    yyjson_arr_foreach(listen, i, n, item) if (rc == RC_OK) rc =
        add_address(config, json_text(item), err);
    return rc;
}

static enum rc read_text(const struct place *object, const char *name, struct config *config,
                         struct str *out, struct err *err)
{
    struct str text = STR_EMPTY;
    enum rc rc = decode_str(object, name, DECODE_OPTIONAL, 4096, &text, err);
    if (rc == RC_OK && text.n) {
        rc = secret_expand(text, &config->arena, out, err);
        if (rc == RC_OK)
            *out = arena_copy(&config->arena, *out);
    }
    return rc;
}

/* An optional object with just these members. */
static enum rc read_section(const struct place *root, const char *name, const char *const *members,
                            struct place *out, struct err *err)
{
    enum rc rc = decode_member(root, name, DECODE_OPTIONAL, out, err);
    if (rc == RC_OK)
        rc = decode_expect_object(out, err);
    return rc == RC_OK && out->value ? decode_only(out, members, err) : rc;
}

static enum rc read_tls(struct config *config, const struct place *root, struct err *err)
{
    static const char *const members[] = {"cert", "key", NULL};
    struct place tls;
    enum rc rc = read_section(root, "tls", members, &tls, err);
    if (rc != RC_OK || !tls.value)
        return rc;
    rc = read_text(&tls, "cert", config, &config->tls_cert, err);
    if (rc == RC_OK)
        rc = read_text(&tls, "key", config, &config->tls_key, err);
    if (rc == RC_OK && (!config->tls_cert.n || !config->tls_key.n))
        rc = decode_refuse(&tls, err, "needs both 'cert' and 'key'");
    return rc;
}

static enum rc read_trace(struct config *config, const struct place *root, struct err *err)
{
    static const char *const members[] = {"durability", "retention", "retention_bytes", NULL};
    static const char *const words[] = {"async", "sync", NULL};
    struct place trace;
    int durability = TRACE_ASYNC;
    enum rc rc = read_section(root, "trace", members, &trace, err);
    if (rc != RC_OK || !trace.value)
        return rc;
    rc = decode_word(&trace, "durability", words, &durability, err);
    config->durability = (enum trace_durability)durability;
    if (rc == RC_OK)
        rc = decode_duration(&trace, "retention", &config->retention_ns, err);
    if (rc == RC_OK)
        rc = decode_i64(&trace, "retention_bytes", 0, INT64_MAX, &config->retention_bytes, err);
    return rc;
}

static enum rc read_knowledge(struct config *config, const struct place *root, struct err *err)
{
    static const char *const members[] = {"http_allow", "directories", NULL};
    struct place knowledge;
    enum rc rc = read_section(root, "knowledge", members, &knowledge, err);
    if (rc != RC_OK || !knowledge.value)
        return rc;
    rc = decode_texts(&knowledge, "http_allow", 256, 300, &config->arena, &config->source_allow,
                      &config->source_allow_count, err);
    return rc == RC_OK
               ? decode_texts(&knowledge, "directories", 256, 4000, &config->arena,
                              &config->source_directories, &config->source_directory_count, err)
               : rc;
}

/* Texts as an array that NULL ends, with room for `more`. */
static const char **text_array(struct config *config, const struct str *texts, size_t count)
{
    const char **out = ARENA_NEW_ARRAY(&config->arena, const char *, count + 2);
    for (size_t i = 0; out && i < count; i++) {
        struct str text = arena_printf(&config->arena, "%.*s", STR_ARG(texts[i]));
        if (!text.p)
            return NULL;
        out[i] = text.p;
    }
    return out;
}

/* NAME: {command: [program, …], env: {NAME: value}} */
static enum rc read_mcp_server(struct config *config, const struct place *at, struct str name,
                               struct mcp_stdio_server *out, struct err *err)
{
    static const char *const members[] = {"command", "env", NULL};
    struct str *command = NULL, texts[64] = {STR("PATH=/usr/local/bin:/usr/bin:/bin")};
    size_t count = 0, env_count = 1, i, n;
    struct place env;
    yyjson_val *key, *value;
    enum rc rc = decode_expect_object(at, err);
    if (rc == RC_OK)
        rc = decode_only(at, members, err);
    if (rc == RC_OK)
        rc = decode_texts(at, "command", 64, 4096, &config->arena, &command, &count, err);
    if (rc == RC_OK && !count)
        rc = decode_refuse(at, err, "needs a command");
    if (rc == RC_OK)
        rc = decode_member(at, "env", DECODE_OPTIONAL, &env, err);
    if (rc == RC_OK)
        rc = decode_expect_object(&env, err);
    if (rc != RC_OK)
        return rc;
    yyjson_obj_foreach(env.value, i, n, key, value)
    {
        struct str text;
        rc = secret_expand(json_text(value), &config->arena, &text, err);
        if (rc != RC_OK)
            return rc;
        if (env_count == COUNT_OF(texts))
            return decode_refuse(&env, err, "has too many variables");
        texts[env_count++] =
            arena_printf(&config->arena, "%.*s=%.*s", STR_ARG(json_text(key)), STR_ARG(text));
    }
    *out = (struct mcp_stdio_server){.name = arena_copy(&config->arena, name),
                                     .argv = text_array(config, command, count),
                                     .envp = text_array(config, texts, env_count)};
    return out->name.p && out->argv && out->envp
               ? RC_OK
               : err_set(err, ERR_TOO_LARGE, "the file is too large");
}

static enum rc read_mcp_servers(struct config *config, const struct place *section, struct err *err)
{
    struct place list;
    size_t i, n;
    yyjson_val *key, *value;
    enum rc rc = decode_member(section, "mcp_servers", DECODE_OPTIONAL, &list, err);
    if (rc == RC_OK)
        rc = decode_expect_object(&list, err);
    if (rc != RC_OK || !list.value)
        return rc;
    config->mcp_servers =
        ARENA_NEW_ARRAY(&config->arena, struct mcp_stdio_server, yyjson_obj_size(list.value) + 1);
    if (!config->mcp_servers)
        return err_set(err, ERR_TOO_LARGE, "the file is too large");
    yyjson_obj_foreach(list.value, i, n, key, value)
    {
        const struct place at = {.value = value, .parent = &list, .name = json_text(key)};
        if (rc == RC_OK)
            rc = read_mcp_server(config, &at, json_text(key),
                                 &config->mcp_servers[config->mcp_server_count++], err);
    }
    return rc;
}

/* {wikipedia, arxiv, search}: http(s) addresses; "" takes a built-in one away. */
static enum rc read_services(struct config *config, const struct place *section, struct err *err)
{
    static const char *const members[] = {"wikipedia", "arxiv", "search", NULL};
    struct str *const out[] = {&config->services.wikipedia, &config->services.arxiv,
                               &config->services.search};
    struct place services;
    struct url url;
    enum rc rc = read_section(section, "services", members, &services, err);
    for (size_t i = 0; rc == RC_OK && services.value && members[i]; i++) {
        if (!yyjson_obj_get(services.value, members[i]))
            continue;
        *out[i] = STR_EMPTY;
        rc = read_text(&services, members[i], config, out[i], err);
        while (rc == RC_OK && str_ends(*out[i], STR("/")))
            out[i]->n--;
        if (rc == RC_OK && out[i]->n &&
            (url_parse(*out[i], &url, NULL) != RC_OK || !str_starts(url.scheme, STR("http"))))
            rc = decode_refuse(&services, err, "'%s' must be an http or https address", members[i]);
    }
    return rc;
}

static enum rc read_rest(struct config *config, const struct place *root, struct err *err)
{
    static const char *const cache_members[] = {"bytes", NULL}, *const engine_members[] = {"server",
                                                                                           NULL};
    static const char *const pipeline_members[] = {
        "http_allow", "runs",          "project_runs", "queue",    "node",
        "python",     "code_children", "mcp_servers",  "services", NULL};
    struct place cache, engine, pipelines;
    int64_t loops = 0, workers = 0, cache_bytes = 0, code_children = 0;
    enum rc rc = decode_i64(root, "loops", 0, 256, &loops, err);
    if (rc == RC_OK)
        rc = decode_i64(root, "workers", 0, 1024, &workers, err);
    if (rc == RC_OK)
        rc = decode_duration(root, "drain", &config->drain_ns, err);
    if (rc == RC_OK)
        rc = read_section(root, "cache", cache_members, &cache, err);
    if (rc == RC_OK && cache.value)
        rc = decode_i64(&cache, "bytes", 0, 1ll << 40, &cache_bytes, err);
    if (rc == RC_OK)
        rc = read_section(root, "engine", engine_members, &engine, err);
    if (rc == RC_OK && engine.value)
        rc = read_text(&engine, "server", config, &config->engine_server, err);
    if (rc == RC_OK)
        rc = read_section(root, "pipelines", pipeline_members, &pipelines, err);
    if (rc == RC_OK && pipelines.value)
        rc = decode_i64(&pipelines, "runs", 0, INT32_MAX, &config->runs_max, err);
    if (rc == RC_OK && pipelines.value)
        rc = decode_i64(&pipelines, "project_runs", 0, INT32_MAX, &config->project_runs_max, err);
    if (rc == RC_OK && pipelines.value)
        rc = decode_i64(&pipelines, "queue", 1, INT32_MAX, &config->run_queue_max, err);
    if (rc == RC_OK && pipelines.value)
        rc = decode_texts(&pipelines, "http_allow", 256, 300, &config->arena, &config->http_allow,
                          &config->http_allow_count, err);
    if (rc == RC_OK && pipelines.value)
        rc = read_mcp_servers(config, &pipelines, err);
    config->services.wikipedia = STR(PRESET_WIKIPEDIA);
    config->services.arxiv = STR(PRESET_ARXIV);
    if (rc == RC_OK && pipelines.value)
        rc = read_services(config, &pipelines, err);
    if (rc == RC_OK)
        rc = read_knowledge(config, root, err);
    if (rc == RC_OK && pipelines.value)
        rc = read_text(&pipelines, "node", config, &config->node_program, err);
    if (rc == RC_OK && pipelines.value)
        rc = read_text(&pipelines, "python", config, &config->python_program, err);
    if (rc == RC_OK && pipelines.value)
        rc = decode_i64(&pipelines, "code_children", 1, 16, &code_children, err);
    config->loops = (int)loops;
    config->workers = (int)workers;
    config->code_children = (int)code_children;
    config->cache_bytes_max = (size_t)cache_bytes;
    return rc;
}

static enum rc read_settings(struct config *config, yyjson_val *json, struct err *err)
{
    const char *known[32];
    size_t count = 0;
    struct place root;
    for (const char *const *name = SETTINGS; *name; name++)
        known[count++] = *name;
    for (const char *const *name = MANIFEST_SECTIONS; *name; name++)
        known[count++] = *name;
    known[count] = NULL;
    decode_root(&root, json, "");
    enum rc rc = decode_expect_object(&root, err);
    if (rc == RC_OK)
        rc = decode_only(&root, known, err);
    if (rc == RC_OK)
        rc = read_listen(config, json, err);
    if (rc == RC_OK)
        rc = read_text(&root, "data", config, &config->data, err);
    if (rc == RC_OK)
        rc = read_text(&root, "public_url", config, &config->public_url, err);
    if (rc == RC_OK)
        rc = read_tls(config, &root, err);
    if (rc == RC_OK)
        rc = read_trace(config, &root, err);
    return rc == RC_OK ? read_rest(config, &root, err) : rc;
}

/* ---- objects ---- */

static enum rc read_project(struct config *config, const struct applied *applied, struct str name,
                            yyjson_val *root, struct err *err)
{
    static const struct applied nothing;
    struct config_project *project = &config->projects[config->project_count++];
    struct arena scratch;
    project->name = name;
    enum rc rc = manifest_read(root, &config->objects, &project->manifest, err);
    if (rc != RC_OK)
        return rc;
    arena_init(&scratch, CONFIG_ARENA_BYTES_MAX);
    config->in_force +=
        applied_mark(applied ? applied : &nothing, name, &project->manifest, &scratch);
    rc = manifest_check(&project->manifest, &scratch, err);
    arena_fini(&scratch);
    return rc;
}

/* The top level is the project `default`; others stand under `projects`. */
static enum rc read_projects(struct config *config, const struct applied *applied, yyjson_val *root,
                             struct err *err)
{
    yyjson_val *others = yyjson_obj_get(root, "projects"), *key, *value;
    size_t i, n, count = 1 + yyjson_obj_size(others);
    if (count > PROJECTS_MAX || (others && !yyjson_is_obj(others)))
        return err_set_field(err, ERR_BAD_FIELD, "projects",
                             "must map at most %d names to sections", PROJECTS_MAX);
    config->projects = ARENA_NEW_ARRAY(&config->objects, struct config_project, count);
    if (!config->projects)
        return err_set(err, ERR_TOO_LARGE, "too many projects");
    enum rc rc = read_project(config, applied, STR("default"), root, err);
    yyjson_obj_foreach(others, i, n, key, value)
    {
        struct place place;
        char path[ERR_FIELD_BYTES_MAX];
        snprintf(path, sizeof(path), "projects.%s", yyjson_get_str(key));
        decode_root(&place, value, path);
        if (rc == RC_OK)
            rc = decode_only(&place, MANIFEST_SECTIONS, err);
        if (rc == RC_OK &&
            (rc = read_project(config, applied, json_text(key), value, err)) != RC_OK) {
            char field[ERR_FIELD_BYTES_MAX];
            snprintf(field, sizeof(field), "%s.%s", path, err->field);
            memcpy(err->field, field, sizeof(field));
        }
    }
    return rc;
}

/* Only an error needs the lines, and only then the text is read with them. */
static enum rc at_line_of(struct config *config, struct str text, struct err *err)
{
    struct yaml_lines lines;
    struct arena scratch;
    yyjson_doc *again;
    struct err unlikely; /* it was read before */
    arena_init(&scratch, CONFIG_ARENA_BYTES_MAX);
    (void)!yaml_read(text, &scratch, &lines, &again, &unlikely);
    at_line(err, config->path, &lines);
    yaml_lines_fini(&lines);
    arena_fini(&scratch);
    return err->rc;
}

static enum rc read_config(struct config *config, const struct applied *applied, struct err *err)
{
    struct str text;
    yyjson_doc *doc;
    enum rc rc = read_file(config->path, &config->objects, &text, err);
    if (rc != RC_OK)
        return rc;
    rc = yaml_read(text, &config->objects, NULL, &doc, err);
    if (rc != RC_OK) {
        err_prefix(err, "%.*s", STR_ARG(config->path));
        return rc;
    }
    rc = read_settings(config, yyjson_doc_get_root(doc), err);
    if (rc == RC_OK)
        rc = read_projects(config, applied, yyjson_doc_get_root(doc), err);
    return rc == RC_OK ? RC_OK : at_line_of(config, text, err);
}

static enum rc apply_overrides(struct config *config, const struct config_overrides *overrides,
                               struct err *err)
{
    if (overrides->data.n)
        config->data = arena_copy(&config->arena, overrides->data);
    if (!config->data.n)
        config->data = STR("./data");
    if (overrides->listen.n) {
        struct str rest = overrides->listen, part;
        config->address_count = 0;
        while (str_split(&rest, ',', &part))
            if (add_address(config, str_trim(part), err) != RC_OK)
                return err->rc;
    }
    return config->address_count ? RC_OK : add_address(config, STR("127.0.0.1:4100"), err);
}

enum rc config_load(struct str path, const struct config_overrides *overrides,
                    const struct applied *applied, struct config **out, struct err *err)
{
    struct config *config = xcalloc(1, sizeof(*config));
    enum rc rc = RC_OK;
    arena_init(&config->arena, CONFIG_ARENA_BYTES_MAX);
    arena_init(&config->objects, CONFIG_ARENA_BYTES_MAX);
    config->drain_ns = DRAIN_NS_DEFAULT;
    if (path.n)
        config->path = arena_copy(&config->arena, path);
    else if (access("capstan.yaml", F_OK) == 0)
        config->path = STR("capstan.yaml");
    if (config->path.n)
        rc = read_config(config, applied, err);
    if (rc == RC_OK)
        rc = apply_overrides(config, overrides, err);
    if (rc != RC_OK) {
        config_free(config);
        return rc;
    }
    *out = config;
    return RC_OK;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    arena_fini(&config->objects);
    arena_fini(&config->arena);
    free(config);
}

/* ---- into the database ---- */

enum rc config_sync(struct db_txn *txn, const struct config *config, const struct applied *applied,
                    struct arena *arena, struct err *err)
{
    static const struct config_project nothing = {.name = STR_INIT("default")};
    /* When all that is in force is still in the file, there is nothing to delete. */
    const struct manifest_options options = {
        .from_file = true, .prune = !applied->count || config->in_force != applied->count};
    const struct actor actor = {.type = "file",
                                .name = config->path.n ? config->path : STR("no file")};
    size_t total = MAX(config->project_count, 1);
    for (size_t i = 0; i < total; i++) {
        const struct config_project *project =
            config->project_count ? &config->projects[i] : &nothing;
        struct manifest_change *changes;
        size_t count;
        struct id id;
        enum rc rc = project_find(txn, project->name, &id, err);
        if (rc == RC_NOT_FOUND) {
            id = id_new();
            rc = project_insert(txn, id, project->name, err);
        }
        if (rc == RC_OK)
            rc = manifest_apply(txn, NULL, &actor, id, &project->manifest, &options, arena,
                                &changes, &count, err);
        if (rc != RC_OK) {
            err_prefix(err, "%.*s%s%s", STR_ARG(config->path), err->field[0] ? ": " : "",
                       err->field);
            return rc;
        }
    }
    return RC_OK;
}

void config_synced(struct config *config, struct applied *applied)
{
    applied_fini(applied);
    for (size_t i = 0; i < config->project_count; i++)
        applied_add(applied, &config->projects[i].manifest);
    applied_sort(applied);
    config->project_count = config->in_force = 0;
    config->projects = NULL;
    arena_reset(&config->objects);
}
