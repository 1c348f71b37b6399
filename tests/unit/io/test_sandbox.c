/* Escapes that must fail. This program starts itself again behind each profile's walls and tries
 * to get out; the whole is done with every mechanism, with Landlock and seccomp only, with
 * namespaces and seccomp only, and all of that once more as a user without rights. */
#include "base/arena.h"
#include "base/clock.h"
#include "io/child.h"
#include "io/sandbox.h"
#include "test.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- behind the walls: each returns 0 when it got out, else the errno that stopped it ---- */

#define GOT_OUT 0

/* A sanitizer's run time needs /proc when it starts and memory without bound: there this program
 * cannot run as CODE, nor be limited. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static int try_open(const char *path, int flags)
{
    return open(path, flags, 0600) >= 0 ? GOT_OUT : errno;
}

static int read_passwd(void) { return try_open("/etc/passwd", O_RDONLY); }
static int read_own_memory_map(void) { return try_open("/proc/self/maps", O_RDONLY); }
static int read_server_environment(void)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%s/environ", getenv("SERVER"));
    return try_open(path, O_RDONLY);
}
static int read_secret_beside(void) { return try_open(getenv("SECRET"), O_RDONLY); }
static int read_by_dots(void) { return try_open("/usr/../etc/passwd", O_RDONLY); }
static int list_root_home(void) { return try_open("/root", O_RDONLY | O_DIRECTORY); }
static int write_tmp(void) { return try_open("/tmp/escaped", O_WRONLY | O_CREAT); }
static int write_usr(void) { return try_open("/usr/escaped", O_WRONLY | O_CREAT); }
static int make_folder(void) { return mkdir("/tmp/escaped", 0700) == 0 ? GOT_OUT : errno; }
static int make_link(void) { return symlink("/etc", "/tmp/escaped") == 0 ? GOT_OUT : errno; }
static int change_mode(void) { return chmod("/usr/bin/env", 0777) == 0 ? GOT_OUT : errno; }
static int make_memory_file(void) { return memfd_create("x", 0) >= 0 ? GOT_OUT : errno; }
static int connect_inet(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(getenv("PORT")))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return errno;
    return connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 ? GOT_OUT : errno;
}
static int send_datagram(void) { return socket(AF_INET, SOCK_DGRAM, 0) >= 0 ? GOT_OUT : errno; }
static int connect_local(void) { return socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? GOT_OUT : errno; }
static int open_netlink(void) { return socket(AF_NETLINK, SOCK_RAW, 0) >= 0 ? GOT_OUT : errno; }
static int pair_of_sockets(void)
{
    int pair[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 ? GOT_OUT : errno;
}
static int fork_once(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid > 0 ? GOT_OUT : errno;
}
static int clone3_once(void)
{
    uint64_t arguments[11] = {[4] = SIGCHLD};
    long pid = syscall(435 /* clone3 */, arguments, sizeof(arguments));
    if (pid == 0)
        _exit(0);
    return pid > 0 ? GOT_OUT : errno;
}
static int start_program(void)
{
    execl("/usr/bin/env", "env", NULL);
    return errno;
}
static int signal_server(void) { return kill(atoi(getenv("SERVER")), 0) == 0 ? GOT_OUT : errno; }
static int signal_everyone(void) { return kill(-1, SIGCONT) == 0 ? GOT_OUT : errno; }
static int take_memory(void)
{
    for (int i = 0; i < 64; i++) {
        void *p = mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return errno;
    }
    return GOT_OUT;
}
static int become_root(void) { return setuid(0) == 0 ? GOT_OUT : errno; }
static int raise_limits(void)
{
    struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    return setrlimit(RLIMIT_DATA, &more) == 0 ? GOT_OUT : errno;
}
static int new_ring(void)
{
    char parameters[120] = {0};
    return syscall(425 /* io_uring_setup */, 8, parameters) >= 0 ? GOT_OUT : errno;
}
static int type_on_terminal(void)
{
    return ioctl(0, 0x5412 /* TIOCSTI */, "x") == 0 ? GOT_OUT : errno;
}
static int map_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED ? GOT_OUT : errno;
}
static int turn_into_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0 ? GOT_OUT : errno;
}
static int read_a_library(void) { return try_open("/usr/bin/env", O_RDONLY); }

/* These must end it: they return only when they did not. */
static int trace(void) { return (int)ptrace(PTRACE_ATTACH, atoi(getenv("SERVER")), 0, 0); }
static int read_memory_of_server(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    return (int)process_vm_readv(atoi(getenv("SERVER")), &here, 1, &there, 1, 0);
}
static int new_user_namespace(void) { return (int)syscall(SYS_unshare, 0x10000000); }
static int mount_something(void) { return (int)syscall(SYS_mount, "x", "/usr", "tmpfs", 0, ""); }
static int change_root(void) { return (int)syscall(SYS_chroot, "/usr"); }
static int load_bpf(void) { return (int)syscall(SYS_bpf, 0, NULL, 0); }
#ifdef __x86_64__
static int call_as_32_bit(void)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid there */
    return result;
}
#endif
static int spin(void)
{
    volatile bool forever = true;
    while (forever)
        ;
    return GOT_OUT;
}
static int shout(void)
{
    char line[4096];
    memset(line, 'x', sizeof(line));
    while (write(1, line, sizeof(line)) > 0)
        ;
    return 0;
}

enum ends { REFUSED, KILLED };

static const struct escape {
    const char *name;
    int (*run)(void);
    enum ends ends;
    bool extractor_only;
} ESCAPES[] = {
#define ESCAPE(name, ends)        {#name, name, ends, false}
#define ESCAPE_OF_EXTRACTOR(name) {#name, name, REFUSED, true}
    ESCAPE(read_passwd, REFUSED),
    ESCAPE(read_own_memory_map, REFUSED),
    ESCAPE(read_server_environment, REFUSED),
    ESCAPE(read_secret_beside, REFUSED),
    ESCAPE(read_by_dots, REFUSED),
    ESCAPE(list_root_home, REFUSED),
    ESCAPE(write_tmp, REFUSED),
    ESCAPE(write_usr, REFUSED),
    ESCAPE(make_folder, REFUSED),
    ESCAPE(make_link, REFUSED),
    ESCAPE(change_mode, REFUSED),
    ESCAPE(make_memory_file, REFUSED),
    ESCAPE(connect_inet, REFUSED),
    ESCAPE(send_datagram, REFUSED),
    ESCAPE(connect_local, REFUSED),
    ESCAPE(open_netlink, REFUSED),
    ESCAPE(pair_of_sockets, REFUSED),
    ESCAPE(fork_once, REFUSED),
    ESCAPE(clone3_once, REFUSED),
    ESCAPE(start_program, REFUSED),
    ESCAPE(signal_server, REFUSED),
    ESCAPE(signal_everyone, REFUSED),
    ESCAPE(take_memory, REFUSED),
    ESCAPE(become_root, REFUSED),
    ESCAPE(raise_limits, REFUSED),
    ESCAPE(new_ring, REFUSED),
    ESCAPE(type_on_terminal, REFUSED),
    ESCAPE_OF_EXTRACTOR(map_code),
    ESCAPE_OF_EXTRACTOR(turn_into_code),
    ESCAPE_OF_EXTRACTOR(read_a_library),
    ESCAPE(trace, KILLED),
    ESCAPE(read_memory_of_server, KILLED),
    ESCAPE(new_user_namespace, KILLED),
    ESCAPE(mount_something, KILLED),
    ESCAPE(change_root, KILLED),
    ESCAPE(load_bpf, KILLED),
#ifdef __x86_64__
    ESCAPE(call_as_32_bit, KILLED),
#endif
};

static const struct escape BURDENS[] = {ESCAPE(spin, KILLED), ESCAPE(shout, KILLED)};

static const struct escape *escape_find(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(ESCAPES); i++)
        if (strcmp(ESCAPES[i].name, name) == 0)
            return &ESCAPES[i];
    for (size_t i = 0; i < COUNT_OF(BURDENS); i++)
        if (strcmp(BURDENS[i].name, name) == 0)
            return &BURDENS[i];
    return NULL;
}

/* "escape PROFILE NAME": the exit status is the errno; 0 means that it got out. */
static int escape_main(char **argv)
{
    if (strcmp(argv[2], "extractor") == 0 && sandbox_lock() != 0)
        return 0;
    int outcome = escape_find(argv[3])->run();
    return outcome < 0 ? 0 : outcome;
}

/* ---- in front of them ---- */

static char self[PATH_MAX], libraries[PATH_MAX], secret[64], port[32];
static struct arena arena;

static struct sandbox_command command_of(const char *const *argv, const char *const *envp,
                                         enum sandbox_profile profile, const char *const *paths)
{
    return (struct sandbox_command){
        .argv = argv,
        .envp = envp,
        .confinement = {.profile = profile,
                        .read_paths = paths,
                        .cpu_s_max = 2,
                        .memory_bytes_max = 512 << 20,
                        .open_files_max = 64},
        .wall_ns = 20 * NS_PER_S,
        .output_bytes_max = 100000,
        .error_bytes_max = 10000,
    };
}

static enum rc run_escape(enum sandbox_profile profile, const char *name,
                          struct sandbox_result *result, struct err *err)
{
    char server[32];
    snprintf(server, sizeof(server), "SERVER=%d", getpid());
    const char *argv[] = {self, "escape", profile == SANDBOX_CODE ? "code" : "extractor", name,
                          NULL};
    const char *envp[] = {server, secret, port, NULL};
    const char *paths[] = {"/usr", "/lib", "/lib64", "/etc/ld.so.cache", self, libraries, NULL};
    struct sandbox_command command = command_of(argv, envp, profile, paths);
    return sandbox_run(&command, &arena, result, err);
}

static void try_all(enum sandbox_profile profile)
{
    for (size_t i = 0; i < COUNT_OF(ESCAPES); i++) {
        const struct escape *escape = &ESCAPES[i];
        bool needs_limit = escape->run == take_memory || escape->run == raise_limits;
        if ((escape->extractor_only && profile == SANDBOX_CODE) || (SANITIZED && needs_limit))
            continue;
        struct sandbox_result result;
        struct err err = {0};
        enum rc rc = run_escape(profile, escape->name, &result, &err);
        bool held = escape->ends == KILLED
                        ? WIFSIGNALED(result.status) && WTERMSIG(result.status) == SIGSYS
                        : rc == RC_OK && WIFEXITED(result.status) && WEXITSTATUS(result.status);
        if (!held)
            fail_msg("profile %d, %s: status %x, %s%.*s", profile, escape->name, result.status,
                     err.message, STR_ARG(result.error));
        arena_reset(&arena);
    }
}

static void escapes_fail(void **state)
{
    const struct sandbox_report *report = sandbox_self_test();
    print_message("namespaces %d, of a user %d, Landlock %d\n", report->namespaces,
                  report->user_namespace, report->landlock);
    assert_true(report->seccomp);
    assert_string_equal(report->refused[SANDBOX_EXTRACTOR], "");
    try_all(SANDBOX_EXTRACTOR);
    if (report->namespaces || report->landlock) {
        assert_string_equal(report->refused[SANDBOX_CODE], "");
        if (!SANITIZED)
            try_all(SANDBOX_CODE);
    } else {
        assert_true(report->refused[SANDBOX_CODE][0]);
    }
}

/* ---- what honest programs can do, and what dishonest ones cost ---- */

static enum rc run_program(const char *const *argv, struct str input, int64_t wall_ns,
                           struct sandbox_result *result, struct err *err)
{
    const char *envp[] = {"LANG=C.UTF-8", NULL};
    struct sandbox_command command = command_of(argv, envp, SANDBOX_CODE, NULL);
    command.input = input;
    command.wall_ns = wall_ns;
    arena_reset(&arena);
    return sandbox_run(&command, &arena, result, err);
}

static void programs_run(void **state)
{
    const char *cat[] = {"/bin/cat", NULL};
    struct sandbox_result result;
    struct err err = {0};
    size_t n = 90000; /* more than a pipe holds */
    char *text = malloc(n);
    memset(text, 'a', n);
    assert_int_equal(run_program(cat, str_make(text, n), 10 * NS_PER_S, &result, &err), RC_OK);
    assert_true(str_eq(result.output, str_make(text, n)));
    free(text);
    const char *shell[] = {"/bin/sh", "-c", "ls / ; echo $HOME; cat /etc/passwd", NULL};
    assert_int_equal(run_program(shell, STR_EMPTY, 10 * NS_PER_S, &result, &err), RC_OK);
    assert_true(WEXITSTATUS(result.status) != 0);
    assert_true(str_find(result.output, STR("root")) < 0);
    const char *fail[] = {"/bin/sh", "-c", "echo fed; echo why >&2; exit 3", NULL},
               *envp[] = {NULL};
    struct sandbox_command feeder = command_of(fail, envp, SANDBOX_CODE, NULL);
    struct sandbox_command fed = command_of(cat, envp, SANDBOX_CODE, NULL);
    fed.feeder = &feeder;
    assert_int_equal(sandbox_run(&fed, &arena, &result, &err), RC_OK);
    assert_true(str_eq(result.output, STR("fed\n")) && str_eq(result.feeder_error, STR("why\n")));
    assert_int_equal(WEXITSTATUS(result.feeder_status), 3);
    const char *absent[] = {"/opt/absent", NULL};
    assert_int_equal(run_program(absent, STR_EMPTY, NS_PER_S, &result, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "/opt/absent"));
}

/* The interpreters of code nodes, where they are installed. */
static void interpreters_run(void **state)
{
    const char *python[] = {
        "/usr/bin/python3", "-I", "-c",
        "import json, sys, threading\n"
        "t = threading.Thread(target=lambda: print(json.load(sys.stdin)['a']))\n"
        "t.start(); t.join()\n"
        "import os\n"
        "for attempt in (os.fork, lambda: open('/etc/passwd'),\n"
        "                lambda: __import__('socket').socket(),\n"
        "                lambda: __import__('subprocess').run(['/bin/true'])):\n"
        "    try: attempt(); print('GOT OUT')\n"
        "    except OSError: print('refused')\n",
        NULL};
    const char *node[] = {
        "/usr/bin/node", "-e",
        "let s = require('fs').readFileSync(0, 'utf8'); "
        "console.log(JSON.parse(s).a); "
        "try { require('fs').readFileSync('/etc/passwd'); console.log('GOT OUT') } "
        "catch { console.log('refused') }; "
        "require('net').connect(80, '127.0.0.1').on('error', () => "
        "console.log('refused'))",
        NULL};
    struct sandbox_result result;
    struct err err = {0};
    if (access(python[0], X_OK) == 0) {
        enum rc rc = run_program(python, STR("{\"a\": 1}"), 20 * NS_PER_S, &result, &err);
        if (rc != RC_OK || !str_eq(result.output, STR("1\nrefused\nrefused\nrefused\nrefused\n")))
            fail_msg("python: %s %.*s %.*s", err.message, STR_ARG(result.output),
                     STR_ARG(result.error));
    }
    if (access(node[0], X_OK) == 0) {
        enum rc rc = run_program(node, STR("{\"a\": 1}"), 20 * NS_PER_S, &result, &err);
        if (rc != RC_OK || !str_eq(result.output, STR("1\nrefused\nrefused\n")))
            fail_msg("node: %s %.*s %.*s", err.message, STR_ARG(result.output),
                     STR_ARG(result.error));
    }
}

static bool cancel_at_once(void *arg) { return true; }

static void burdens_end(void **state)
{
    struct sandbox_result result;
    struct err err = {0};
    assert_int_equal(run_escape(SANDBOX_EXTRACTOR, "spin", &result, &err), RC_TIMEOUT);
    assert_non_null(strstr(err.message, "processor time"));
    assert_true(result.cpu_ns > NS_PER_S && result.cpu_ns < 4 * NS_PER_S);
    assert_int_equal(run_escape(SANDBOX_EXTRACTOR, "shout", &result, &err), RC_LIMIT);
    assert_int_equal(result.output.n, 100000);
    const char *sleeper[] = {"/bin/sleep", "60", NULL};
    int64_t start = clock_monotonic_ns();
    assert_int_equal(run_program(sleeper, STR_EMPTY, 200 * NS_PER_MS, &result, &err), RC_TIMEOUT);
    const char *envp[] = {NULL};
    struct sandbox_command command = command_of(sleeper, envp, SANDBOX_CODE, NULL);
    command.cancelled = cancel_at_once;
    assert_int_equal(sandbox_run(&command, &arena, &result, &err), RC_CANCELLED);
    assert_true(clock_monotonic_ns() - start < 50 * NS_PER_S); /* both sleep 60 */
    arena_reset(&arena);
}

/* Whoever gives up root's rights meets the permissions of the folders above this program: without
 * namespaces, that is every child of root. */
static bool others_can_run(void)
{
    char path[sizeof(self)];
    struct stat status;
    memcpy(path, self, sizeof(path));
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        if (stat(path, &status) != 0 || !(status.st_mode & S_IXOTH))
            return false;
        *slash = '/';
    }
    return true;
}

static void escapes_fail_without_namespaces(void **state)
{
    if (geteuid() != 0 || others_can_run())
        escapes_fail(state);
    else
        print_message("# left out: a user without rights cannot reach %s\n", self);
}

static void refused_without_walls(void **state)
{
    sandbox_pretend_without(true, true);
    const char *cat[] = {"/bin/cat", NULL};
    struct sandbox_result result;
    struct err err = {0};
    assert_int_equal(run_program(cat, STR("x"), NS_PER_S, &result, &err), RC_DENIED);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_non_null(strstr(err.message, "neither namespaces nor Landlock"));
    assert_int_equal(result.output.n, 0);
    struct loop *loop = loop_new(0);
    const char *envp[] = {NULL};
    struct confinement confinement = {.profile = SANDBOX_CODE};
    struct child_options options = {.argv = cat, .envp = envp, .confinement = &confinement};
    const struct child_owner calls = {0};
    err = (struct err){0};
    assert_null(child_start(loop, &options, &calls, NULL, &err));
    assert_int_equal(err.code, ERR_FORBIDDEN);
    loop_free(loop);
    escapes_fail_without_namespaces(state); /* EXTRACTOR holds by its filter alone */
    sandbox_pretend_without(false, false);
}

static void with_namespaces_only(void **state)
{
    sandbox_pretend_without(false, true);
    if (sandbox_self_test()->namespaces)
        escapes_fail(state);
    sandbox_pretend_without(false, false);
}

static void with_landlock_only(void **state)
{
    sandbox_pretend_without(true, false);
    if (sandbox_self_test()->landlock) {
        escapes_fail_without_namespaces(state);
        interpreters_run(state);
    }
    sandbox_pretend_without(false, false);
}

/* Where a library outside the system's folders lies, so that the walls let it be loaded. */
static int find_library(struct dl_phdr_info *info, size_t n, void *arg)
{
    char path[PATH_MAX];
    if (!strstr(info->dlpi_name, "libyyjson") || !realpath(info->dlpi_name, path))
        return 0;
    *strrchr(path, '/') = 0;
    snprintf(libraries, sizeof(libraries), "%s", path);
    return 1;
}

static int run_all(void)
{
    sandbox_pretend_without(false, false); /* what another user found out is not ours */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_fail),          cmocka_unit_test(programs_run),
        cmocka_unit_test(interpreters_run),      cmocka_unit_test(burdens_end),
        cmocka_unit_test(with_namespaces_only),  cmocka_unit_test(with_landlock_only),
        cmocka_unit_test(refused_without_walls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* As root, all of it again as a user without rights, where that user can read this program. */
static int run_as_user(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (syscall(SYS_setgroups, 0, NULL) != 0 || setresgid(64999, 64999, 64999) != 0 ||
            setresuid(64999, 64999, 64999) != 0)
            _exit(1);
        if (access(self, X_OK) != 0) {
            puts("# not run as another user: the program cannot be read by it");
            exit(0);
        }
        prctl(PR_SET_DUMPABLE, 1);
        exit(run_all());
    }
    int status = 1;
    waitpid(pid, &status, 0);
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "escape") == 0)
        return escape_main(argv);
    signal(SIGPIPE, SIG_IGN);
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    assert_true(n > 0);
    snprintf(libraries, sizeof(libraries), "/usr/lib");
    dl_iterate_phdr(find_library, NULL);
    snprintf(secret, sizeof(secret), "SECRET=/tmp/capstan-secret-XXXXXX");
    int fd = mkstemp(secret + strlen("SECRET="));
    assert_true(fd >= 0 && fchmod(fd, 0644) == 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t address_bytes = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
                listen(listener, 8) == 0 &&
                getsockname(listener, (struct sockaddr *)&address, &address_bytes) == 0);
    snprintf(port, sizeof(port), "PORT=%d", ntohs(address.sin_port));
    arena_init(&arena, 64 << 20);
    int failed = run_all();
    if (geteuid() == 0)
        failed |= run_as_user();
    arena_fini(&arena);
    unlink(secret + strlen("SECRET="));
    return failed != 0;
}
