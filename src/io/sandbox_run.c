/* A command run to its end behind walls, with its input, output and time bounded. One poll loop on
 * a worker's thread; the child is killed with its group whatever way this ends. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "io/spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_NS_MAX (100 * NS_PER_MS)
#define READ_BYTES  65536

struct run {
    const struct sandbox_command *command;
    pid_t pid;
    int pidfd;
    int in, out, error; /* our ends; -1: closed */
    struct str input;   /* what is left of it */
    struct buf output, error_output;
    int64_t deadline_ns;
};

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void run_feed(struct run *run)
{
    ssize_t n = write(run->in, run->input.p, run->input.n);
    if (n > 0)
        run->input = str_slice(run->input, (size_t)n, run->input.n);
    bool closed = n < 0 && errno != EAGAIN && errno != EINTR; /* it does not want the rest */
    if (closed || !run->input.n)
        close_end(&run->in);
}

/* RC_LIMIT: more than it may write. */
static enum rc run_read(int *fd, struct buf *into)
{
    char *p;
    size_t room = MIN((size_t)READ_BYTES, into->bytes_max - buf_len(into));
    char over;
    if (room && buf_reserve(into, room, &p) != RC_OK)
        return RC_LIMIT;
    ssize_t n = room ? read(*fd, p, room) : read(*fd, &over, 1);
    if (n < 0)
        return RC_OK; /* EAGAIN, EINTR */
    if (n == 0)
        close_end(fd);
    else if (!room)
        return RC_LIMIT;
    else
        buf_added(into, (size_t)n);
    return RC_OK;
}

/* Until both outputs are closed and the child has ended, or something forbids to go on. */
static enum rc run_wait(struct run *run, struct err *err)
{
    const struct sandbox_command *command = run->command;
    bool ended = false;
    while (!ended || run->out >= 0 || run->error >= 0) {
        int64_t left_ns = run->deadline_ns - clock_monotonic_ns();
        if (left_ns <= 0)
            return err_set(err, ERR_TIMEOUT, "it took longer than %lld ms",
                           (long long)(command->wall_ns / NS_PER_MS));
        if (command->cancelled && command->cancelled(command->arg))
            return err_set(err, ERR_CANCELLED, "cancelled");
        struct pollfd fds[] = {{.fd = run->in, .events = POLLOUT},
                               {.fd = run->out, .events = POLLIN},
                               {.fd = run->error, .events = POLLIN},
                               {.fd = ended ? -1 : run->pidfd, .events = POLLIN}};
        int wait_ms = (int)(MIN(left_ns, POLL_NS_MAX) / NS_PER_MS) + 1;
        if (poll(fds, COUNT_OF(fds), wait_ms) < 0 && errno != EINTR)
            return err_set(err, ERR_INTERNAL, "poll: %s", strerror(errno));
        if (fds[0].revents)
            run_feed(run);
        if (fds[1].revents && run_read(&run->out, &run->output) != RC_OK)
            return err_set(err, ERR_TOO_LARGE, "it wrote more than %zu bytes",
                           command->output_bytes_max);
        if (fds[2].revents && run_read(&run->error, &run->error_output) != RC_OK)
            close_end(&run->error); /* enough said */
        ended = ended || fds[3].revents;
    }
    return RC_OK;
}

/* Kills what is left, reaps, and says how it ended. */
static enum rc run_reap(struct run *run, enum rc rc, struct sandbox_result *result, struct err *err)
{
    struct rusage usage = {0};
    kill(-run->pid, SIGKILL); /* the group; a child that ended keeps its number until reaped */
    while (wait4(run->pid, &result->status, 0, &usage) < 0 && errno == EINTR)
        ;
    result->cpu_ns = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
                     (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
    result->resident_bytes = (int64_t)usage.ru_maxrss * 1024;
    if (rc != RC_OK || !WIFSIGNALED(result->status))
        return rc;
    int signal = WTERMSIG(result->status);
    int64_t cpu_s_max = run->command->confinement.cpu_s_max;
    if (signal == SIGXCPU ||
        (signal == SIGKILL && cpu_s_max && result->cpu_ns >= cpu_s_max * NS_PER_S - NS_PER_S / 2))
        return err_set(err, ERR_TIMEOUT, "it used more than %lld s of processor time",
                       (long long)cpu_s_max);
    if (signal == SIGSYS)
        return err_set(err, ERR_INVALID, "it made a system call that is forbidden");
    return err_set(err, ERR_INVALID, "ended by signal %d (%s)", signal, strsignal(signal));
}

static int run_start(struct run *run)
{
    const struct sandbox_command *command = run->command;
    int in[2] = {-1, -1}, out[2] = {-1, -1}, error[2] = {-1, -1}, failure = 0;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0)
        failure = errno;
    struct spawn spawn = {.argv = command->argv,
                          .envp = command->envp,
                          .confinement = &command->confinement,
                          .streams = {in[0], out[1], error[1]}};
    if (!failure)
        failure = spawn_start(&spawn, &run->pid, &run->pidfd);
    close_end(&in[0]);
    close_end(&out[1]);
    close_end(&error[1]);
    run->in = in[1];
    run->out = out[0];
    run->error = error[0];
    const int ends[] = {run->in, run->out, run->error};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (ends[i] >= 0)
            fcntl(ends[i], F_SETFL, O_NONBLOCK);
    return failure;
}

enum rc sandbox_run(const struct sandbox_command *command, struct arena *arena,
                    struct sandbox_result *result, struct err *err)
{
    *result = (struct sandbox_result){0};
    enum rc rc = sandbox_check(command->confinement.profile, err);
    if (rc != RC_OK)
        return rc;
    int64_t start_ns = clock_monotonic_ns();
    struct run run = {.command = command,
                      .pidfd = -1,
                      .input = command->input,
                      .deadline_ns = start_ns + command->wall_ns};
    buf_init(&run.output, command->output_bytes_max);
    buf_init(&run.error_output, command->error_bytes_max);
    int failure = run_start(&run);
    if (failure) {
        rc = err_set(err, ERR_INVALID, "cannot start %s: %s", command->argv[0], strerror(failure));
    } else {
        rc = run_wait(&run, err);
        rc = run_reap(&run, rc, result, err);
        close_end(&run.pidfd);
    }
    close_end(&run.in);
    close_end(&run.out);
    close_end(&run.error);
    result->wall_ns = clock_monotonic_ns() - start_ns;
    result->output = arena_copy(arena, buf_str(&run.output));
    result->error = arena_copy(arena, buf_str(&run.error_output));
    if (!result->output.p || !result->error.p)
        rc = err_set(err, ERR_TOO_LARGE, "its output does not fit into memory");
    buf_fini(&run.output);
    buf_fini(&run.error_output);
    return rc;
}
