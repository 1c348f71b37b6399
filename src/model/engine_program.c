/* Which llama-server is used: the one that the setting names, else the first on PATH, else the
 * installed one. It is asked for its version and for the arguments it knows, since those differ
 * between versions. On the supervisor's loop; the program runs as a child. */
#include "model/engine_private.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PROGRAM_NAME    "llama-server"
#define SEARCH_LIMIT_NS (20 * 1000000000ll)

struct program_search {
    struct loop *loop;
    struct found_program program;
    struct child *child;
    bool asking_help; /* the second of the two runs */
    struct timer limit;
    struct task report;
    void (*found)(void *arg, const struct found_program *);
    void *arg;
};

static void search_line(void *owner, struct child *child, bool is_stderr, struct str line);
static void search_ended(void *owner, struct child *child, int status, const char *reason);

static const struct child_owner SEARCH_CALLS = {.line = search_line, .ended = search_ended};

/* "version: 0.7.0 (build 11669, …)": to the end of the first word after the colon. */
static void take_version(struct found_program *program, struct str line)
{
    if (program->is.version[0] || !str_starts(line, STR("version:")))
        return;
    struct str version = str_trim(str_slice(line, 8, line.n));
    ssize_t space = str_find_char(version, ' ');
    if (space > 0)
        version.n = (size_t)space;
    snprintf(program->is.version, sizeof(program->is.version), "%.*s", STR_ARG(version));
}

/* Help lists arguments as "--cache-ram N" or "--ui, --webui, --no-ui, --no-webui": words. */
static void take_flags(struct found_program *program, struct str line)
{
    static const char *const names[] = {
#define ENGINE_FLAG(name, text) text,
#include "model/engine_flags.h"
#undef ENGINE_FLAG
    };
    struct str rest = line, word;
    while (str_split(&rest, ' ', &word)) {
        if (word.n && word.p[word.n - 1] == ',')
            word.n--;
        if (!str_starts(word, STR("--")))
            continue;
        for (size_t i = 0; i < COUNT_OF(names); i++)
            if (str_eq(word, str_from(names[i])))
                program->flags[i] = true;
    }
}

static void search_line(void *owner, struct child *child, bool is_stderr, struct str line)
{
    struct program_search *search = owner;
    take_version(&search->program, line);
    if (search->asking_help)
        take_flags(&search->program, line);
}

static void report(struct task *task)
{
    struct program_search *search = CONTAINER_OF(task, struct program_search, report);
    timer_stop(&search->limit);
    search->found(search->arg, &search->program);
    free(search);
}

static void fail(struct program_search *search, const char *why)
{
    snprintf(search->program.error, sizeof(search->program.error),
             "%s does not run: %s. Run 'capstan engine install'", search->program.is.path, why);
    search->program.is.path[0] = 0;
    loop_defer(search->loop, &search->report);
}

static void ask(struct program_search *search, const char *argument)
{
    struct arena arena;
    struct err err = {0};
    const char *envp[ENGINE_ENVP_MAX + 1];
    size_t count;
    arena_init(&arena, 64 * 1024);
    const char *argv[] = {search->program.is.path, argument, NULL};
    if (engine_environment(&arena, envp, ENGINE_ENVP_MAX, &count) != RC_OK)
        err_set(&err, ERR_INTERNAL, "its environment is too large");
    else
        search->child =
            child_start(search->loop, &(struct child_options){.argv = argv, .envp = envp},
                        &SEARCH_CALLS, search, &err);
    arena_fini(&arena);
    if (!search->child)
        fail(search, err.message);
}

static void search_ended(void *owner, struct child *child, int status, const char *reason)
{
    struct program_search *search = owner;
    search->child = NULL;
    if (search->asking_help) {
        loop_defer(search->loop, &search->report);
    } else if (status != 0) {
        fail(search, reason && reason[0] ? reason : "it ends with an error");
    } else {
        search->asking_help = true;
        ask(search, "--help");
    }
}

static void search_took_too_long(struct timer *timer)
{
    struct program_search *search = CONTAINER_OF(timer, struct program_search, limit);
    if (search->child)
        child_end(search->child, 0);
}

static bool find_on_path(char *out, size_t n)
{
    const char *path = getenv("PATH");
    struct str rest = str_from(path ? path : "/usr/local/bin:/usr/bin:/bin"), folder;
    while (str_split(&rest, ':', &folder)) {
        if (!folder.n || folder.p[0] != '/')
            continue; /* never something that lies where the server happens to stand */
        if ((size_t)snprintf(out, n, "%.*s/" PROGRAM_NAME, STR_ARG(folder)) < n &&
            access(out, X_OK) == 0)
            return true;
    }
    return false;
}

/* engine-install leaves "key value" lines beside the program. */
static void read_origin(const char *directory, struct engine_program *program)
{
    char path[sizeof(program->path)], line[256];
    snprintf(path, sizeof(path), "%s/installed", directory);
    FILE *file = fopen(path, "re");
    snprintf(program->origin, sizeof(program->origin), "installed");
    if (!file)
        return;
    while (fgets(line, sizeof(line), file)) {
        struct str s = str_trim(str_from(line));
        if (str_starts(s, STR("origin ")))
            snprintf(program->origin, sizeof(program->origin), "%.*s", (int)s.n - 7, s.p + 7);
        else if (str_starts(s, STR("version ")))
            snprintf(program->version, sizeof(program->version), "%.*s", (int)s.n - 8, s.p + 8);
    }
    fclose(file);
}

static bool choose(struct found_program *program, const char *setting, const char *directory)
{
    struct engine_program *is = &program->is;
    if (setting && setting[0]) {
        snprintf(is->path, sizeof(is->path), "%s", setting);
        snprintf(is->origin, sizeof(is->origin), "setting");
        if (access(is->path, X_OK) == 0)
            return true;
        snprintf(program->error, sizeof(program->error),
                 "the setting names %s as llama-server, which cannot be run", setting);
        is->path[0] = 0;
        return false;
    }
    if (find_on_path(is->path, sizeof(is->path))) {
        snprintf(is->origin, sizeof(is->origin), "PATH");
        return true;
    }
    snprintf(is->path, sizeof(is->path), "%s/" PROGRAM_NAME, directory);
    if (access(is->path, X_OK) == 0) {
        read_origin(directory, is);
        return true;
    }
    is->path[0] = 0;
    snprintf(
        program->error, sizeof(program->error),
        "no llama-server is installed: run 'capstan engine install', or use the console's Models "
        "page");
    return false;
}

struct program_search *program_search_start(struct loop *loop, const char *setting,
                                            const char *directory,
                                            void (*found)(void *arg, const struct found_program *),
                                            void *arg)
{
    struct program_search *search = xcalloc(1, sizeof(*search));
    search->loop = loop;
    search->found = found;
    search->arg = arg;
    search->report.run = report;
    timer_init(&search->limit, search_took_too_long);
    if (choose(&search->program, setting, directory)) {
        timer_start(loop, &search->limit, SEARCH_LIMIT_NS);
        ask(search, "--version");
    } else {
        loop_defer(loop, &search->report);
    }
    return search;
}

void program_search_hurry(struct program_search *search)
{
    if (search->child)
        child_end(search->child, 0);
}
