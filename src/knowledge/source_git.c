/* Files of a Git branch, by the `git` program: one commit is fetched into a bare repository of its
 * own, never checked out, so that no hook, filter, submodule or symbolic link of it comes to life;
 * files are read out of it by their object ids, which are also their versions.
 *
 * The child needs the network, so no sandbox profile fits; it gets a cleared environment, no
 * configuration but ours, one permitted protocol, no redirects, no prompts, and limits. The host is
 * resolved here, refused when it is not public, and pinned for the child. */
#include "knowledge/source_private.h"
#include "base/clock.h"
#include "io/endpoint.h"
#include "io/sandbox.h"
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LISTING_BYTES_MAX    (64 * 1024 * 1024)
#define FETCH_WALL_NS        (30 * 60 * NS_PER_S)
#define SHORT_WALL_NS        (120 * NS_PER_S)
#define REPOSITORY_BYTES_MAX (4ll * 1024 * 1024 * 1024)
#define ARGUMENTS_MAX        24
#define ENVIRONMENT_MAX      40
#define CONFIG_MAX           8

struct git {
    char program[64];
    char folder[KNOWLEDGE_PATH_BYTES_MAX + 64]; /* the bare repository; empty: none */
    const char *envp[ENVIRONMENT_MAX + 1];
    size_t env_count, config_count;
};

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "there is no memory for git");
}

/* ---- the child's surroundings ---- */

static bool find_program(struct git *git)
{
    static const char *const places[] = {"/usr/bin/git", "/usr/local/bin/git", "/bin/git"};
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (access(places[i], X_OK) == 0) {
            snprintf(git->program, sizeof(git->program), "%s", places[i]);
            return true;
        }
    return false;
}

static bool put_env(struct source_sync *sync, struct git *git, const char *name, struct str value)
{
    struct str text = arena_printf(&sync->arena, "%s=%.*s", name, STR_ARG(value));
    if (!text.p || git->env_count >= ENVIRONMENT_MAX)
        return false;
    git->envp[git->env_count++] = text.p;
    return true;
}

static bool put_config(struct source_sync *sync, struct git *git, const char *name,
                       struct str value)
{
    char key[32], content[32];
    snprintf(key, sizeof(key), "GIT_CONFIG_KEY_%zu", git->config_count);
    snprintf(content, sizeof(content), "GIT_CONFIG_VALUE_%zu", git->config_count);
    git->config_count++;
    return put_env(sync, git, key, str_from(name)) && put_env(sync, git, content, value);
}

/* The token travels as a header, in the environment: arguments can be seen by everybody. */
static enum rc put_token(struct source_sync *sync, struct git *git, struct err *err)
{
    if (sync->token.n == 0)
        return RC_OK;
    struct str user = sync->spec.user.n ? sync->spec.user : STR("git");
    struct str both = arena_printf(&sync->arena, "%.*s:%.*s", STR_ARG(user), STR_ARG(sync->token));
    char *encoded = both.p ? arena_alloc(&sync->arena, 4 * ((both.n + 2) / 3) + 1) : NULL;
    if (!encoded)
        return full(err);
    size_t n = base64_encode(both.p, both.n, encoded);
    struct str header = arena_printf(&sync->arena, "Authorization: Basic %.*s", (int)n, encoded);
    return header.p && put_config(sync, git, "http.extraHeader", header) ? RC_OK : full(err);
}

static bool has_proxy(void)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "http_proxy", "ALL_PROXY",
                                        "all_proxy"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (getenv(names[i]) && getenv(names[i])[0])
            return true;
    return false;
}

/* Each of the name's addresses must be public; the first is the one that the child will use. */
static enum rc pin_host(struct source_sync *sync, struct git *git, const struct url *url,
                        struct err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[256], address[ENDPOINT_TEXT_BYTES_MAX] = "";
    bool open = source_is_allowed(sync->knowledge, sync->spec.url), refused = false;
    snprintf(host, sizeof(host), "%.*s", STR_ARG(url->host));
    if (!open && has_proxy())
        return RC_OK; /* the proxy resolves it and decides */
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return err_set(err, ERR_UPSTREAM, "the host %s is not known", host);
    for (const struct addrinfo *one = found; one; one = one->ai_next) {
        struct endpoint endpoint = {.bytes = one->ai_addrlen};
        if (one->ai_addrlen > sizeof(endpoint.v6))
            continue;
        memcpy(&endpoint.any, one->ai_addr, one->ai_addrlen);
        refused |= !open && !endpoint_is_public(&endpoint);
        if (!address[0])
            endpoint_host_text(&endpoint, address);
    }
    freeaddrinfo(found);
    if (refused)
        return err_set(err, ERR_FORBIDDEN,
                       "%s is not a public address; an administrator can allow it "
                       "(knowledge.http_allow in capstan.yaml)",
                       host);
    bool v6 = strchr(address, ':') != NULL;
    struct str pin = arena_printf(&sync->arena, "%s:%u:%s%s%s", host, url->port, v6 ? "[" : "",
                                  address, v6 ? "]" : "");
    return pin.p && put_config(sync, git, "http.curloptResolve", pin) ? RC_OK : full(err);
}

static bool put_proxies(struct source_sync *sync, struct git *git)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY",   "http_proxy",
                                        "ALL_PROXY",   "all_proxy",     "no_proxy",
                                        "NO_PROXY",    "SSL_CERT_FILE", "GIT_SSL_CAINFO"};
    bool ok = true;
    for (size_t i = 0; ok && i < COUNT_OF(names); i++)
        if (getenv(names[i]))
            ok = put_env(sync, git, names[i], str_from(getenv(names[i])));
    return ok;
}

/* Which protocol, and whether this place may be asked at all. */
static enum rc check_address(struct source_sync *sync, struct git *git, const char **protocol,
                             struct err *err)
{
    struct url url;
    char path[PATH_MAX];
    struct str address = sync->spec.url;
    if (str_starts(address, STR("file://"))) {
        *protocol = "file";
        return source_folder_check(sync->knowledge, str_slice(address, 7, address.n), path, err);
    }
    enum rc rc = url_parse(address, &url, err);
    *protocol = rc == RC_OK && str_eq(url.scheme, STR("https")) ? "https" : "http";
    return rc == RC_OK ? pin_host(sync, git, &url, err) : rc;
}

static enum rc prepare(struct source_sync *sync, struct git *git, struct err *err)
{
    const char *protocol = "https";
    char count[16], id[ID_TEXT_BYTES_MAX];
    if (!find_program(git))
        return err_set(err, ERR_NOT_IMPLEMENTED, "the program git is not installed on the server");
    if (!sync->knowledge->work_folder[0])
        return err_set(err, ERR_NOT_IMPLEMENTED, "this server has no folder for repositories");
    id_format(sync->source, "src", id);
    snprintf(git->folder, sizeof(git->folder), "%s/%s.git", sync->knowledge->work_folder, id);
    enum rc rc = check_address(sync, git, &protocol, err);
    if (rc == RC_OK)
        rc = put_token(sync, git, err);
    if (rc != RC_OK)
        return rc;
    bool ok = put_config(sync, git, "http.followRedirects", STR("false")) &&
              put_config(sync, git, "http.lowSpeedLimit", STR("100")) &&
              put_config(sync, git, "http.lowSpeedTime", STR("60")) &&
              put_config(sync, git, "transfer.fsckObjects", STR("true")) &&
              put_config(sync, git, "gc.auto", STR("0")) && put_proxies(sync, git);
    snprintf(count, sizeof(count), "%zu", git->config_count);
    ok = ok && put_env(sync, git, "GIT_CONFIG_COUNT", str_from(count)) &&
         put_env(sync, git, "GIT_ALLOW_PROTOCOL", str_from(protocol)) &&
         put_env(sync, git, "GIT_CONFIG_NOSYSTEM", STR("1")) &&
         put_env(sync, git, "GIT_CONFIG_GLOBAL", STR("/dev/null")) &&
         put_env(sync, git, "GIT_TERMINAL_PROMPT", STR("0")) &&
         put_env(sync, git, "PATH", STR("/usr/local/bin:/usr/bin:/bin")) &&
         put_env(sync, git, "LC_ALL", STR("C")) &&
         put_env(sync, git, "HOME", str_from(sync->knowledge->work_folder));
    return ok ? RC_OK : full(err);
}

/* ---- running it ---- */

static bool was_cancelled(void *arg) { return sync_is_cancelled(arg); }

static enum rc run(struct source_sync *sync, struct git *git, const char *const *arguments,
                   int64_t wall_ns, size_t output_bytes_max, struct arena *arena,
                   struct str *output, struct err *err)
{
    const char *argv[ARGUMENTS_MAX + 2] = {git->program};
    struct sandbox_result result;
    for (size_t i = 0; arguments[i]; i++) {
        ASSERT(i < ARGUMENTS_MAX);
        argv[i + 1] = arguments[i];
    }
    const struct sandbox_command command = {
        .argv = argv,
        .envp = git->envp,
        .confinement = {.profile = SANDBOX_NONE,
                        .cpu_s_max = 600,
                        .file_bytes_max = REPOSITORY_BYTES_MAX,
                        .open_files_max = 256,
                        .nice = 5,
                        .no_core = true},
        .wall_ns = wall_ns,
        .output_bytes_max = output_bytes_max,
        .error_bytes_max = 2000,
        .cancelled = was_cancelled,
        .arg = sync,
    };
    enum rc rc = sandbox_run(&command, arena, &result, err);
    if (rc != RC_OK)
        return rc;
    *output = result.output;
    if (WIFEXITED(result.status) && WEXITSTATUS(result.status) == 0)
        return RC_OK;
    struct str said = str_trim(result.error);
    return err_set(err, ERR_UPSTREAM, "git %s: %.*s", arguments[0][0] == '-' ? "" : arguments[0],
                   (int)MIN(said.n, (size_t)300), said.n ? said.p : "it failed without a word");
}

/* "<oid>\t<ref>" → oid, 40 or 64 hexadecimal digits. */
static bool take_commit(struct str listing, struct str *commit)
{
    ssize_t tab = str_find_char(listing, '\t');
    *commit = tab < 0 ? STR_EMPTY : str_slice(listing, 0, (size_t)tab);
    for (size_t i = 0; i < commit->n; i++)
        if (!strchr("0123456789abcdef", commit->p[i]))
            return false;
    return commit->n == 40 || commit->n == 64;
}

static enum rc find_commit(struct source_sync *sync, struct git *git, const char **ref,
                           struct str *commit, struct err *err)
{
    struct str output;
    struct str name = sync->spec.branch.n ? arena_printf(&sync->arena, "refs/heads/%.*s",
                                                         STR_ARG(sync->spec.branch))
                                          : STR("HEAD");
    struct str url = arena_copy(&sync->arena, sync->spec.url);
    if (!name.p || !url.p)
        return full(err);
    *ref = name.p;
    const char *const arguments[] = {"ls-remote", "--", url.p, name.p, NULL};
    enum rc rc = run(sync, git, arguments, SHORT_WALL_NS, 64 * 1024, &sync->arena, &output, err);
    if (rc != RC_OK || take_commit(output, commit))
        return rc;
    return err_set(err, ERR_INVALID, "the repository has no %s",
                   sync->spec.branch.n ? "such branch" : "commits");
}

static enum rc fetch_commit(struct source_sync *sync, struct git *git, const char *ref,
                            struct err *err)
{
    struct str output, url = arena_copy(&sync->arena, sync->spec.url),
                       spec = arena_printf(&sync->arena, "+%s:refs/heads/capstan", ref),
                       dir = arena_printf(&sync->arena, "--git-dir=%s", git->folder);
    if (!url.p || !spec.p || !dir.p)
        return full(err);
    knowledge_remove_folder(git->folder, 32);
    if (mkdir(sync->knowledge->work_folder, 0700) < 0 && access(sync->knowledge->work_folder, W_OK))
        return err_set(err, ERR_INTERNAL, "%s cannot be made", sync->knowledge->work_folder);
    const char *const init[] = {"init", "--quiet", "--bare", "--template=", git->folder, NULL};
    enum rc rc = run(sync, git, init, SHORT_WALL_NS, 64 * 1024, &sync->arena, &output, err);
    if (rc != RC_OK)
        return rc;
    const char *const fetch[] = {
        dir.p, "fetch", "--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules",
        "--",  url.p,   spec.p,    NULL};
    return run(sync, git, fetch, FETCH_WALL_NS, 64 * 1024, &sync->arena, &output, err);
}

/* One line of ls-tree: "100644 blob <oid>   <bytes>\t<path>". Links and submodules are no files. */
static enum rc visit_line(struct source_sync *sync, struct str line, struct err *err)
{
    ssize_t tab = str_find_char(line, '\t');
    struct str head = tab < 0 ? STR_EMPTY : str_slice(line, 0, (size_t)tab), mode, type, oid;
    if (!str_split(&head, ' ', &mode) || !str_split(&head, ' ', &type) ||
        !str_split(&head, ' ', &oid) || !str_eq(type, STR("blob")) || !str_starts(mode, STR("100")))
        return RC_OK;
    struct str path = str_slice(line, (size_t)tab + 1, line.n);
    if (!source_wants(&sync->spec, path))
        return RC_OK;
    return sync_visit(sync, path, oid, NULL, err);
}

static enum rc visit_tree(struct source_sync *sync, struct git *git, struct err *err)
{
    struct str listing, line, dir = arena_printf(&sync->arena, "--git-dir=%s", git->folder),
                              path = arena_copy(&sync->arena, sync->spec.path);
    if (!dir.p || (sync->spec.path.n && !path.p))
        return full(err);
    const char *const arguments[] = {dir.p,
                                     "ls-tree",
                                     "-r",
                                     "-z",
                                     "-l",
                                     "--full-tree",
                                     "refs/heads/capstan",
                                     "--",
                                     sync->spec.path.n ? path.p : NULL,
                                     NULL};
    enum rc rc =
        run(sync, git, arguments, SHORT_WALL_NS, LISTING_BYTES_MAX, &sync->arena, &listing, err);
    while (rc == RC_OK && str_split(&listing, '\0', &line))
        rc = visit_line(sync, line, err);
    return rc;
}

static enum rc list_git(struct source_sync *sync, struct err *err)
{
    struct git *git = ARENA_NEW(&sync->arena, struct git);
    const char *ref = NULL;
    struct str commit = STR_EMPTY;
    if (!git)
        return full(err);
    sync->kind = git;
    enum rc rc = prepare(sync, git, err);
    if (rc == RC_OK)
        rc = find_commit(sync, git, &ref, &commit, err);
    if (rc != RC_OK)
        return rc;
    /* The same commit by the same definition: there is nothing to look at. */
    struct str cursor =
        arena_printf(&sync->arena, "%.*s:%016llx", STR_ARG(commit),
                     (unsigned long long)hash_xxh3(sync->row.definition.p, sync->row.definition.n));
    if (!cursor.p)
        return full(err);
    if (str_eq(cursor, sync->row.cursor)) {
        MAP_FOR_EACH (slot, &sync->items) {
            ((struct source_item *)slot->value)->listed = true;
            sync->listed++;
        }
        sync->row.unchanged = sync->listed;
        return RC_OK;
    }
    rc = fetch_commit(sync, git, ref, err);
    if (rc == RC_OK)
        rc = visit_tree(sync, git, err);
    if (rc == RC_OK)
        sync->row.cursor = cursor;
    return rc;
}

static enum rc read_git(struct source_sync *sync, const struct source_item_row *item,
                        struct source_content *out, struct err *err)
{
    struct git *git = sync->kind;
    struct str content,
        dir = arena_printf(&sync->scratch, "--git-dir=%s", git->folder),
        name = arena_printf(&sync->scratch, "refs/heads/capstan:%.*s", STR_ARG(item->key));
    if (!dir.p || !name.p)
        return full(err);
    const char *const arguments[] = {dir.p, "cat-file", "blob", name.p, NULL};
    enum rc rc = run(sync, git, arguments, SHORT_WALL_NS, SOURCE_FILE_BYTES_MAX, &sync->scratch,
                     &content, err);
    if (rc != RC_OK)
        return rc;
    buf_init(&out->body, SOURCE_FILE_BYTES_MAX);
    return content.n == 0 || buf_append(&out->body, content) == RC_OK ? RC_OK : full(err);
}

static void close_git(struct source_sync *sync)
{
    struct git *git = sync->kind;
    if (git && git->folder[0])
        knowledge_remove_folder(git->folder, 32);
}

const struct source_kind_calls SOURCE_CALLS_GIT = {
    .list = list_git, .read = read_git, .close = close_git};
