/* See handover.h. */
#include "app/handover.h"
#include "base/clock.h"
#include "base/log.h"
#include "io/loop.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define VARIABLE            "CAPSTAN_SUCCESSION_FD"
#define RESPAWN_NS          (200 * NS_PER_MS)
#define RELEASE_WAIT_MS     120000
#define ADDRESSES_BYTES_MAX 4096
#define ARGUMENTS_MAX       64

enum message_kind { MESSAGE_SOCKETS = 1, MESSAGE_TAKE, MESSAGE_RELEASED, MESSAGE_READY };

struct message {
    char magic[4]; /* "CHO1": another version's words are not understood */
    uint32_t kind;
    int32_t loops;
    uint32_t address_count;
    uint8_t present[HANDOVER_SOCKETS_MAX + 1]; /* has this place a socket? */
    char addresses[ADDRESSES_BYTES_MAX];       /* one a line */
};

/* ---- messages ---- */

static struct message message_of(enum message_kind kind)
{
    return (struct message){.magic = {'C', 'H', 'O', '1'}, .kind = kind};
}

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * HANDOVER_SOCKETS_MAX)];
};

static bool message_send(int fd, const struct message *message, const int *fds, size_t count)
{
    union control control;
    struct iovec part = {(void *)message, sizeof(*message)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (count) {
        memset(&control, 0, sizeof(control));
        header.msg_control = &control;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
    }
    return sendmsg(fd, &header, MSG_NOSIGNAL) == (ssize_t)sizeof(*message);
}

/* False: the peer has gone, or speaks another version. `fds` has room for HANDOVER_SOCKETS_MAX. */
static bool message_receive(int fd, struct message *message, int *fds, size_t *count)
{
    union control control;
    struct iovec part = {message, sizeof(*message)};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    *count = 0;
    struct cmsghdr *rights = n > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (rights && rights->cmsg_type == SCM_RIGHTS) {
        *count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(rights), *count * sizeof(int));
    }
    return n == (ssize_t)sizeof(*message) && memcmp(message->magic, "CHO1", 4) == 0;
}

static void write_addresses(const struct address *addresses, size_t count,
                            char out[ADDRESSES_BYTES_MAX])
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count && at < ADDRESSES_BYTES_MAX; i++)
        at += (size_t)snprintf(out + at, ADDRESSES_BYTES_MAX - at, "%s%.*s:%u\n",
                               addresses[i].kind == ADDRESS_UNIX ? "unix:" : "",
                               STR_ARG(addresses[i].host), addresses[i].port);
}

/* ---- the old process ---- */

enum handover_state {
    HANDOVER_NONE,      /* this process serves */
    HANDOVER_ASKED,     /* a successor was started */
    HANDOVER_RELEASING, /* it takes over: this process gives up its roles */
    HANDOVER_RELEASED,  /* they are free */
    HANDOVER_DONE,      /* another process serves */
};

struct handover {
    struct loop *loop;
    struct handover_owner owner;
    enum handover_state state;
    struct watch watch; /* on the socket to the successor; fd -1: there is none */
    struct timer respawn;
    struct message sockets; /* what every successor is told first */
    struct handover_sockets copies;
    pid_t successor;
    bool took; /* the successor of now said TAKE */
};

/* This process's own arguments; the program first. */
static size_t own_arguments(char *text, size_t text_bytes, char *arguments[ARGUMENTS_MAX + 1])
{
    size_t count = 0;
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, text_bytes - 1);
    if (fd >= 0)
        close(fd);
    for (ssize_t at = 0; at < n && count < ARGUMENTS_MAX; at += (ssize_t)strlen(text + at) + 1)
        arguments[count++] = text + at;
    arguments[count] = NULL;
    return count;
}

/* The program as it stands on the disk now; after a failure the one that runs here. */
static void program_path(bool running_one, char *out, size_t bytes)
{
    static const char deleted[] = " (deleted)";
    ssize_t n = readlink("/proc/self/exe", out, bytes - 1);
    if (n <= 0 || running_one) {
        snprintf(out, bytes, "/proc/self/exe");
        return;
    }
    out[n] = '\0';
    if (str_ends(str_from(out), STR(deleted)))
        out[(size_t)n - (sizeof(deleted) - 1)] = '\0';
    if (access(out, X_OK) != 0)
        snprintf(out, bytes, "/proc/self/exe");
}

/* Starts a program that holds `fd` open. 0, or an errno. */
static int spawn(struct handover *handover, int fd)
{
    extern char **environ;
    static char text[65536];
    char *arguments[ARGUMENTS_MAX + 1], path[4096], variable[64];
    posix_spawn_file_actions_t actions;
    size_t count = 0;
    while (environ[count])
        count++;
    char **variables = xcalloc(count + 2, sizeof(char *));
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], VARIABLE "=", sizeof(VARIABLE)) != 0)
            variables[kept++] = environ[i];
    snprintf(variable, sizeof(variable), VARIABLE "=%d", fd);
    variables[kept] = variable;
    program_path(handover->state != HANDOVER_NONE, path, sizeof(path));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, fd); /* not closed by exec */
    int rc = own_arguments(text, sizeof(text), arguments)
                 ? posix_spawn(&handover->successor, path, &actions, NULL, arguments, variables)
                 : ENOENT;
    posix_spawn_file_actions_destroy(&actions);
    free(variables);
    return rc;
}

static void on_message(struct watch *watch, unsigned events);

static enum rc start_successor(struct handover *handover, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set(err, ERR_INTERNAL, "no sockets for the new process: %s", strerror(errno));
    int rc = spawn(handover, pair[1]);
    close(pair[1]);
    if (rc != 0) {
        close(pair[0]);
        return err_set(err, ERR_INTERNAL, "the new process could not be started: %s", strerror(rc));
    }
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    handover->took = false;
    handover->watch = (struct watch){.fd = pair[0], .ready = on_message};
    int present[HANDOVER_SOCKETS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < HANDOVER_SOCKETS_MAX; i++)
        if (handover->sockets.present[i])
            present[count++] = handover->copies.fds[i];
    if (!message_send(pair[0], &handover->sockets, present, count) ||
        loop_watch(handover->loop, &handover->watch, LOOP_READ) != RC_OK) {
        close(pair[0]); /* the new process notices and ends */
        handover->watch.fd = -1;
        return err_set(err, ERR_INTERNAL, "the new process could not be told: %s", strerror(errno));
    }
    log_event(LOG_INFO, "successor_started", LOG_I64("pid", handover->successor));
    return RC_OK;
}

static void close_copies(struct handover *handover)
{
    for (size_t i = 0; i < HANDOVER_SOCKETS_MAX; i++)
        if (handover->sockets.present[i])
            close(handover->copies.fds[i]);
    memset(handover->sockets.present, 0, sizeof(handover->sockets.present));
}

static void forget_successor(struct handover *handover)
{
    if (handover->watch.fd < 0)
        return;
    loop_unwatch(handover->loop, &handover->watch);
    close(handover->watch.fd);
    handover->watch.fd = -1;
}

/* It died, or closed its end: READY has not come. */
static void successor_failed(struct handover *handover)
{
    int status = 0;
    bool ended = waitpid(handover->successor, &status, WNOHANG) == handover->successor;
    log_event(LOG_ERROR, "successor_failed", LOG_I64("pid", handover->successor),
              LOG_I64("status", ended ? status : -1),
              LOG_Z("effect", handover->state == HANDOVER_ASKED ? "this process goes on serving"
                                                                : "another one is started"));
    forget_successor(handover);
    if (handover->state == HANDOVER_ASKED) {
        close_copies(handover);
        handover->state = HANDOVER_NONE;
    } else {
        timer_start(handover->loop, &handover->respawn, RESPAWN_NS);
    }
}

static void respawn_fired(struct timer *timer)
{
    struct handover *handover = CONTAINER_OF(timer, struct handover, respawn);
    struct err err = {0};
    if (start_successor(handover, &err) == RC_OK)
        return;
    log_event(LOG_ERROR, "successor_failed", LOG_Z("error", err.message));
    timer_start(handover->loop, timer, RESPAWN_NS * 10);
}

static void tell_released(struct handover *handover)
{
    struct message message = message_of(MESSAGE_RELEASED);
    if (handover->took && handover->watch.fd >= 0)
        message_send(handover->watch.fd, &message, NULL, 0); /* its end is noticed elsewhere */
}

void handover_released(struct handover *handover)
{
    ASSERT(handover->state == HANDOVER_RELEASING);
    handover->state = HANDOVER_RELEASED;
    tell_released(handover);
}

static void on_take(struct handover *handover)
{
    handover->took = true;
    if (handover->state == HANDOVER_RELEASED) {
        tell_released(handover);
    } else if (handover->state == HANDOVER_ASKED) {
        handover->state = HANDOVER_RELEASING;
        handover->owner.release(handover->owner.arg);
    }
}

static void on_message(struct watch *watch, unsigned events)
{
    struct handover *handover = CONTAINER_OF(watch, struct handover, watch);
    struct message message;
    int fds[HANDOVER_SOCKETS_MAX];
    size_t count;
    UNUSED(events);
    if (!message_receive(watch->fd, &message, fds, &count)) {
        successor_failed(handover);
    } else if (message.kind == MESSAGE_TAKE) {
        on_take(handover);
    } else if (message.kind == MESSAGE_READY && handover->state == HANDOVER_RELEASED) {
        handover->state = HANDOVER_DONE;
        forget_successor(handover);
        close_copies(handover);
        handover->owner.succeeded(handover->owner.arg, handover->successor);
    }
}

struct handover *handover_new(struct loop *loop, const struct handover_owner *owner)
{
    struct handover *handover = xcalloc(1, sizeof(*handover));
    handover->loop = loop;
    handover->owner = *owner;
    handover->watch.fd = -1;
    timer_init(&handover->respawn, respawn_fired);
    return handover;
}

void handover_free(struct handover *handover)
{
    if (!handover)
        return;
    timer_stop(&handover->respawn);
    forget_successor(handover);
    close_copies(handover);
    free(handover);
}

enum rc handover_start(struct handover *handover, const struct handover_sockets *sockets,
                       const struct address *addresses, struct err *err)
{
    size_t count = (size_t)sockets->loops * sockets->address_count;
    if (handover->state != HANDOVER_NONE)
        return err_set(err, ERR_CONFLICT, "an upgrade is under way");
    if (count > HANDOVER_SOCKETS_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "%zu listening sockets cannot be handed over (at most %d): use fewer "
                       "addresses or loops, or restart",
                       count, HANDOVER_SOCKETS_MAX);
    handover->sockets = message_of(MESSAGE_SOCKETS);
    handover->sockets.loops = sockets->loops;
    handover->sockets.address_count = (uint32_t)sockets->address_count;
    write_addresses(addresses, sockets->address_count, handover->sockets.addresses);
    for (size_t i = 0; i < count; i++) {
        if (sockets->fds[i] < 0)
            continue;
        handover->copies.fds[i] = fcntl(sockets->fds[i], F_DUPFD_CLOEXEC, 0);
        if (handover->copies.fds[i] < 0) {
            close_copies(handover);
            return err_set(err, ERR_INTERNAL, "no file descriptors left for an upgrade");
        }
        handover->sockets.present[i] = 1;
    }
    enum rc rc = start_successor(handover, err);
    if (rc == RC_OK)
        handover->state = HANDOVER_ASKED;
    else
        close_copies(handover);
    return rc;
}

/* ---- the new process ---- */

static enum rc take_sockets(struct inheritance *inheritance, const struct address *addresses,
                            size_t address_count, struct err *err)
{
    struct message message;
    char expected[ADDRESSES_BYTES_MAX];
    int fds[HANDOVER_SOCKETS_MAX];
    size_t count, used = 0;
    if (!message_receive(inheritance->fd, &message, fds, &count) ||
        message.kind != MESSAGE_SOCKETS || message.loops < 1 || message.address_count < 1 ||
        (size_t)message.loops * message.address_count > HANDOVER_SOCKETS_MAX)
        return err_set(err, ERR_CONFLICT,
                       "the process to take over from speaks another version of the hand-over: "
                       "restart instead of upgrading");
    write_addresses(addresses, address_count, expected);
    message.addresses[ADDRESSES_BYTES_MAX - 1] = '\0';
    if (strcmp(expected, message.addresses) != 0)
        return err_set(err, ERR_CONFLICT,
                       "the addresses to listen on have changed: that needs a restart instead of "
                       "an upgrade");
    inheritance->sockets.loops = message.loops;
    inheritance->sockets.address_count = message.address_count;
    for (size_t i = 0; i < (size_t)message.loops * message.address_count; i++)
        inheritance->sockets.fds[i] = message.present[i] && used < count ? fds[used++] : -1;
    return RC_OK;
}

/* Its death is as good as its word: the locks are free then. */
static enum rc wait_for_release(struct inheritance *inheritance, struct err *err)
{
    struct message message = message_of(MESSAGE_TAKE);
    struct pollfd wait = {.fd = inheritance->fd, .events = POLLIN};
    int fds[HANDOVER_SOCKETS_MAX];
    size_t count;
    message_send(inheritance->fd, &message, NULL, 0);
    if (poll(&wait, 1, RELEASE_WAIT_MS) <= 0)
        return err_set(err, ERR_TIMEOUT, "the process to take over from did not let go in time");
    if (!message_receive(inheritance->fd, &message, fds, &count)) {
        close(inheritance->fd);
        inheritance->fd = -1;
    }
    return RC_OK;
}

enum rc inheritance_take(struct inheritance *inheritance, const struct address *addresses,
                         size_t address_count, struct err *err)
{
    const char *text = getenv(VARIABLE);
    uint64_t fd;
    *inheritance = (struct inheritance){.fd = -1};
    if (!text || str_to_u64(str_from(text), &fd) != RC_OK || fd > INT32_MAX)
        return RC_OK;
    unsetenv(VARIABLE);
    inheritance->fd = (int)fd;
    fcntl(inheritance->fd, F_SETFD, FD_CLOEXEC);
    enum rc rc = take_sockets(inheritance, addresses, address_count, err);
    if (rc == RC_OK)
        rc = wait_for_release(inheritance, err);
    inheritance->taken = rc == RC_OK;
    return rc;
}

void inheritance_ready(struct inheritance *inheritance)
{
    struct message message = message_of(MESSAGE_READY);
    if (inheritance->fd < 0)
        return;
    message_send(inheritance->fd, &message, NULL, 0);
    close(inheritance->fd);
    inheritance->fd = -1;
}
