/* Children of the server: started, read, measured and ended.
 *
 * Started by spawn.c. The end is learned from a pidfd, and told only after
 * the output was read to its end or half a second has passed (a grandchild may hold the pipe open).
 *
 * PDEATHSIG is bound to the *thread* that forked: children must be started on threads that live as
 * long as the server. The loops' threads do. */
#include "io/child.h"
#include "base/clock.h"
#include "io/loop_private.h"
#include "io/spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESIDENT_POLL_NS NS_PER_S
#define OUTPUT_LINGER_NS (500 * NS_PER_MS)
#define READS_PER_TURN   16

struct child_pipe {
    struct watch watch;
    struct child *child;
    bool is_stderr;
    size_t n;
    char line[CHILD_LINE_BYTES_MAX];
};

struct child {
    struct loop *loop;
    const struct child_owner *calls;
    void *owner;
    pid_t pid;
    int pidfd, stdin_fd;
    struct watch exit_watch;
    struct child_pipe out, err;
    struct timer poll, kill, linger;
    int64_t resident_bytes, resident_bytes_max;
    bool exited;
    int status;
    const char *reason; /* why we ended it, or NULL */
    struct dead dead;
};

static void child_free(struct dead *dead) { free(CONTAINER_OF(dead, struct child, dead)); }

static void pipe_close(struct child_pipe *pipe)
{
    if (pipe->watch.fd < 0)
        return;
    loop_unwatch(pipe->child->loop, &pipe->watch);
    close(pipe->watch.fd);
    pipe->watch.fd = -1;
}

static void child_finish(struct child *child)
{
    timer_stop(&child->poll);
    timer_stop(&child->kill);
    timer_stop(&child->linger);
    pipe_close(&child->out);
    pipe_close(&child->err);
    child->calls->ended(child->owner, child, child->status, child->reason); /* may unwatch it */
    if (child->stdin_fd >= 0)
        close(child->stdin_fd);
    loop_bury(child->loop, &child->dead);
}

static void child_finish_when_read(struct child *child)
{
    if (child->exited && child->out.watch.fd < 0 && child->err.watch.fd < 0)
        child_finish(child);
}

static void linger_fire(struct timer *timer)
{
    child_finish(CONTAINER_OF(timer, struct child, linger));
}

static void child_signal(struct child *child, int signal)
{
    if (!child->exited)
        kill(-child->pid, signal); /* the group; not yet reaped, so the number is still its own */
}

/* ---- output ---- */

static void pipe_line(struct child_pipe *pipe, struct str line)
{
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    struct child *child = pipe->child;
    if (child->calls->line)
        child->calls->line(child->owner, child, pipe->is_stderr, line);
}

/* Hands out whole lines; one that is longer than the buffer comes in pieces. */
static void pipe_split(struct child_pipe *pipe, bool at_end)
{
    struct str rest = str_make(pipe->line, pipe->n);
    ssize_t lf;
    while ((lf = str_find_char(rest, '\n')) >= 0) {
        pipe_line(pipe, str_slice(rest, 0, (size_t)lf));
        rest = str_slice(rest, (size_t)lf + 1, rest.n);
    }
    if (rest.n && (at_end || rest.n == sizeof(pipe->line))) {
        pipe_line(pipe, rest);
        rest.n = 0;
    }
    if (rest.n)
        memmove(pipe->line, rest.p, rest.n);
    pipe->n = rest.n;
}

static void pipe_ready(struct watch *watch, unsigned events)
{
    struct child_pipe *pipe = CONTAINER_OF(watch, struct child_pipe, watch);
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t got = read(watch->fd, pipe->line + pipe->n, sizeof(pipe->line) - pipe->n);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            pipe_split(pipe, true);
            pipe_close(pipe);
            child_finish_when_read(pipe->child);
            return;
        }
        pipe->n += (size_t)got;
        pipe_split(pipe, false);
    }
}

/* ---- memory ---- */

/* The second number of statm, in pages. */
int64_t process_resident_bytes(pid_t pid)
{
    char path[40], text[128];
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text));
    close(fd);
    struct str rest = str_make(text, (size_t)MAX(n, 0)), part;
    uint64_t pages = 0;
    for (int i = 0; i < 2; i++)
        if (!str_split(&rest, ' ', &part) || str_to_u64(part, &pages) != RC_OK)
            return 0;
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static void poll_fire(struct timer *timer)
{
    struct child *child = CONTAINER_OF(timer, struct child, poll);
    child->resident_bytes = process_resident_bytes(child->pid);
    if (child->resident_bytes_max && child->resident_bytes > child->resident_bytes_max) {
        child->reason = "used more memory than it may";
        child_signal(child, SIGKILL);
        return;
    }
    timer_start(child->loop, timer, RESIDENT_POLL_NS);
}

/* ---- end ---- */

static void exit_ready(struct watch *watch, unsigned events)
{
    struct child *child = CONTAINER_OF(watch, struct child, exit_watch);
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || !info.si_pid)
        return;
    kill(-child->pid, SIGKILL); /* what it left in its group; before reaping frees the number */
    pid_t reaped = waitpid(child->pid, &child->status, 0);
    ASSERT(reaped == child->pid);
    child->exited = true;
    loop_unwatch(child->loop, watch);
    close(child->pidfd);
    timer_stop(&child->poll);
    timer_stop(&child->kill);
    timer_start(child->loop, &child->linger, OUTPUT_LINGER_NS);
    child_finish_when_read(child);
}

static void kill_fire(struct timer *timer)
{
    struct child *child = CONTAINER_OF(timer, struct child, kill);
    child->reason = child->reason ? child->reason : "did not end when asked to";
    child_signal(child, SIGKILL);
}

void child_end(struct child *child, int64_t grace_ns)
{
    if (child->exited || timer_armed(&child->kill))
        return;
    child_signal(child, SIGTERM);
    timer_start(child->loop, &child->kill, grace_ns);
}

/* ---- start ---- */

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void pipe_start(struct child *child, struct child_pipe *pipe, int fd, bool is_stderr)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
    pipe->child = child;
    pipe->is_stderr = is_stderr;
    pipe->watch = (struct watch){.fd = fd, .ready = pipe_ready};
    enum rc rc = loop_watch(child->loop, &pipe->watch, LOOP_READ);
    ASSERT(rc == RC_OK);
}

struct child *child_start(struct loop *loop, const struct child_options *options,
                          const struct child_owner *calls, void *owner, struct err *err)
{
    if (options->confinement && sandbox_check(options->confinement->profile, err) != RC_OK)
        return NULL;
    int in[2] = {-1, -1}, out[2] = {-1, -1}, error_out[2] = {-1, -1};
    pid_t pid = -1;
    int pidfd = -1, failure = 0;
    if (options->stdin_pipe)
        failure = pipe2(in, O_CLOEXEC) != 0;
    else
        failure = (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0;
    if (failure || pipe2(out, O_CLOEXEC) != 0 || pipe2(error_out, O_CLOEXEC) != 0)
        failure = errno;
    if (!failure) {
        struct spawn spawn = {.argv = options->argv,
                              .envp = options->envp,
                              .directory = options->directory,
                              .confinement = options->confinement,
                              .streams = {in[0], out[1], error_out[1]}};
        failure = spawn_start(&spawn, &pid, &pidfd);
    }
    close_all((int[]){in[0], out[1], error_out[1]}, 3);
    if (failure) {
        close_all((int[]){in[1], out[0], error_out[0]}, 3);
        err_set(err, ERR_INVALID, "cannot start %s: %s", options->argv[0], strerror(failure));
        return NULL;
    }
    struct child *child = xcalloc(1, sizeof(*child));
    child->loop = loop;
    child->calls = calls;
    child->owner = owner;
    child->pid = pid;
    child->pidfd = pidfd;
    child->stdin_fd = in[1];
    if (in[1] >= 0)
        fcntl(in[1], F_SETFL, O_NONBLOCK);
    child->resident_bytes_max = options->resident_bytes_max;
    child->dead.free = child_free;
    timer_init(&child->poll, poll_fire);
    timer_init(&child->kill, kill_fire);
    timer_init(&child->linger, linger_fire);
    timer_start(loop, &child->poll, RESIDENT_POLL_NS);
    child->exit_watch = (struct watch){.fd = pidfd, .ready = exit_ready};
    enum rc rc = loop_watch(loop, &child->exit_watch, LOOP_READ);
    ASSERT(rc == RC_OK);
    pipe_start(child, &child->out, out[0], false);
    pipe_start(child, &child->err, error_out[0], true);
    return child;
}

pid_t child_pid(const struct child *child) { return child->pid; }

int64_t child_resident_bytes(const struct child *child) { return child->resident_bytes; }

int child_stdin(const struct child *child) { return child->stdin_fd; }
