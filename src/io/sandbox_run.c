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

struct process {
    pid_t pid; /* 0: not started */
    int pidfd;
    int error; /* our end of its standard error; -1: closed */
    struct buf error_output;
};

struct run {
    const struct sandbox_command *command;
    struct process main, feeder;
    int in, out;      /* our ends; -1: closed */
    struct str input; /* what is left of it */
    struct buf output;
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

static bool run_goes_on(const struct run *run, bool ended)
{
    return !ended || run->out >= 0 || run->main.error >= 0 || run->feeder.error >= 0;
}

/* Until the outputs are closed and the child has ended, or something forbids to go on. */
static enum rc run_wait(struct run *run, struct err *err)
{
    const struct sandbox_command *command = run->command;
    bool ended = false;
    while (run_goes_on(run, ended)) {
        int64_t left_ns = run->deadline_ns - clock_monotonic_ns();
        if (left_ns <= 0)
            return err_set(err, ERR_TIMEOUT, "it took longer than %lld ms",
                           (long long)(command->wall_ns / NS_PER_MS));
        if (command->cancelled && command->cancelled(command->arg))
            return err_set(err, ERR_CANCELLED, "cancelled");
        struct pollfd fds[] = {{.fd = run->in, .events = POLLOUT},
                               {.fd = run->out, .events = POLLIN},
                               {.fd = run->main.error, .events = POLLIN},
                               {.fd = run->feeder.error, .events = POLLIN},
                               {.fd = ended ? -1 : run->main.pidfd, .events = POLLIN}};
        int wait_ms = (int)(MIN(left_ns, POLL_NS_MAX) / NS_PER_MS) + 1;
        if (poll(fds, COUNT_OF(fds), wait_ms) < 0 && errno != EINTR)
            return err_set(err, ERR_INTERNAL, "poll: %s", strerror(errno));
        if (fds[0].revents)
            run_feed(run);
        if (fds[1].revents && run_read(&run->out, &run->output) != RC_OK)
            return err_set(err, ERR_TOO_LARGE, "it wrote more than %zu bytes",
                           command->output_bytes_max);
        struct process *both[] = {&run->main, &run->feeder};
        for (size_t i = 0; i < COUNT_OF(both); i++)
            if (fds[2 + i].revents && run_read(&both[i]->error, &both[i]->error_output) != RC_OK)
                close_end(&both[i]->error); /* enough said */
        ended = ended || fds[4].revents;
    }
    return RC_OK;
}

static void process_reap(struct process *process, int *status, struct rusage *usage)
{
    if (!process->pid)
        return;
    kill(-process->pid, SIGKILL); /* the group; what ended keeps its number until reaped */
    while (wait4(process->pid, status, 0, usage) < 0 && errno == EINTR)
        ;
    close_end(&process->pidfd);
}

/* Kills what is left, reaps, and says how it ended. The feeder goes second: when the command has
 * ended well, it has seen the feeder's output to its end. */
static enum rc run_reap(struct run *run, enum rc rc, struct sandbox_result *result, struct err *err)
{
    struct rusage usage = {0}, feeder_usage = {0};
    process_reap(&run->main, &result->status, &usage);
    process_reap(&run->feeder, &result->feeder_status, &feeder_usage);
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

/* Starts one of the two; `out` is where it writes. Its standard input is `from` (the feeder's
 * pipe), or the command's file, or a new pipe of which *in becomes our end. */
static int process_start(struct process *process, const struct sandbox_command *command, int from,
                         int *in, int out)
{
    int input[2] = {-1, -1}, error[2] = {-1, -1}, failure = 0;
    if (from < 0 && command->input_fd <= 0)
        failure = pipe2(input, O_CLOEXEC) != 0 ? errno : 0;
    if (!failure && pipe2(error, O_CLOEXEC) != 0)
        failure = errno;
    int source = from >= 0 ? from : command->input_fd > 0 ? command->input_fd : input[0];
    struct spawn spawn = {.argv = command->argv,
                          .envp = command->envp,
                          .confinement = &command->confinement,
                          .streams = {source, out, error[1]}};
    if (!failure)
        failure = spawn_start(&spawn, &process->pid, &process->pidfd);
    if (failure)
        process->pid = 0;
    close_end(&input[0]);
    close_end(&error[1]);
    if (input[1] >= 0)
        *in = input[1];
    process->error = error[0];
    return failure;
}

static int run_start(struct run *run)
{
    const struct sandbox_command *command = run->command;
    int between[2] = {-1, -1}, out[2] = {-1, -1}, failure = 0;
    if (pipe2(out, O_CLOEXEC) != 0 || (command->feeder && pipe2(between, O_CLOEXEC) != 0))
        failure = errno;
    if (!failure && command->feeder) {
        run->input = command->feeder->input;
        failure = process_start(&run->feeder, command->feeder, -1, &run->in, between[1]);
    }
    close_end(&between[1]);
    if (!failure)
        failure = process_start(&run->main, command, between[0], &run->in, out[1]);
    close_end(&between[0]);
    close_end(&out[1]);
    run->out = out[0];
    const int ends[] = {run->in, run->out, run->main.error, run->feeder.error};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (ends[i] >= 0)
            fcntl(ends[i], F_SETFL, O_NONBLOCK);
    return failure;
}

static void run_init(struct run *run, const struct sandbox_command *command, int64_t start_ns)
{
    *run = (struct run){.command = command,
                        .main = {.pidfd = -1, .error = -1},
                        .feeder = {.pidfd = -1, .error = -1},
                        .in = -1,
                        .out = -1,
                        .input = command->input,
                        .deadline_ns = start_ns + command->wall_ns};
    buf_init(&run->output, command->output_bytes_max);
    buf_init(&run->main.error_output, command->error_bytes_max);
    buf_init(&run->feeder.error_output, command->error_bytes_max);
}

static void run_fini(struct run *run)
{
    close_end(&run->in);
    close_end(&run->out);
    close_end(&run->main.error);
    close_end(&run->feeder.error);
    buf_fini(&run->output);
    buf_fini(&run->main.error_output);
    buf_fini(&run->feeder.error_output);
}

static enum rc check_both(const struct sandbox_command *command, struct err *err)
{
    enum rc rc = sandbox_check(command->confinement.profile, err);
    if (rc == RC_OK && command->feeder)
        rc = sandbox_check(command->feeder->confinement.profile, err);
    return rc;
}

enum rc sandbox_run(const struct sandbox_command *command, struct arena *arena,
                    struct sandbox_result *result, struct err *err)
{
    *result = (struct sandbox_result){0};
    enum rc rc = check_both(command, err);
    if (rc != RC_OK)
        return rc;
    int64_t start_ns = clock_monotonic_ns();
    struct run run;
    run_init(&run, command, start_ns);
    int failure = run_start(&run);
    if (failure) {
        const struct sandbox_command *failed =
            command->feeder && !run.feeder.pid ? command->feeder : command;
        rc = err_set(err, ERR_INVALID, "cannot start %s: %s%s", failed->argv[0], strerror(failure),
                     failure == EACCES && geteuid() == 0
                         ? "; root's children run as a user without rights, who must be able to "
                           "reach that file: move it out of root's home"
                         : "");
    } else {
        rc = run_wait(&run, err);
    }
    rc = run_reap(&run, rc, result, err);
    result->wall_ns = clock_monotonic_ns() - start_ns;
    result->output = arena_copy(arena, buf_str(&run.output));
    result->error = arena_copy(arena, buf_str(&run.main.error_output));
    result->feeder_error = arena_copy(arena, buf_str(&run.feeder.error_output));
    if (!result->output.p || !result->error.p || !result->feeder_error.p)
        rc = err_set(err, ERR_TOO_LARGE, "its output does not fit into memory");
    run_fini(&run);
    return rc;
}
