/* See private_server.h. Between us and the server stands the keeper, a process in a session of its
 * own: it outlives whatever ends us, Ctrl-C and kill -9 included, ends the server and removes the
 * folder. It knows of our end by the end of a pipe. */
#include "app/private_server.h"
#include "base/base.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDERS_OPEN_MAX 16
#define STOP_MS          10000

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *walk)
{
    UNUSED(status);
    UNUSED(flag);
    UNUSED(walk);
    return remove(path);
}

static void server_exec(const char *folder, const char *config, int out)
{
    char data[600], log[600];
    snprintf(data, sizeof(data), "%s/data", folder);
    snprintf(log, sizeof(log), "%s/log", folder);
    int fd = open(log, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    unsetenv("CAPSTAN_URL");
    if (config)
        execl("/proc/self/exe", "capstan", "serve", "--data", data, "--listen", "127.0.0.1:0",
              "--config", config, NULL);
    else
        execl("/proc/self/exe", "capstan", "serve", "--data", data, "--listen", "127.0.0.1:0",
              NULL);
    _exit(127);
}

static void wait_for_end(pid_t server)
{
    for (int waited_ms = 0; waitpid(server, NULL, WNOHANG) == 0; waited_ms += 10) {
        if (waited_ms == STOP_MS)
            kill(server, SIGKILL);
        usleep(10000);
    }
}

/* The keeper's life. `life` ends with us, `out` is where the server tells its address. */
static void keep(const char *folder, const char *config, int life, int out)
{
    char byte;
    setsid();
    pid_t server = fork();
    if (server == 0) {
        close(life);
        server_exec(folder, config, out);
    }
    close(out);
    while (read(life, &byte, 1) < 0 && errno == EINTR)
        ;
    if (server > 0) {
        kill(server, SIGTERM);
        wait_for_end(server);
    }
    nftw(folder, remove_entry, FOLDERS_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
    _exit(0);
}

/* The server's first lines: "first key: …" and "address: …". */
static bool read_facts(int fd)
{
    char line[1024], key[256] = "", url[256] = "";
    FILE *in = fdopen(fd, "r");
    while (in && !*url && fgets(line, sizeof(line), in))
        if (sscanf(line, "first key: %255s", key) != 1)
            (void)!sscanf(line, "address: %255s", url);
    if (in)
        fclose(in);
    if (!*url)
        return false;
    setenv("CAPSTAN_URL", url, 1);
    setenv("CAPSTAN_KEY", key, 1);
    return true;
}

static void report_log(const char *command, const char *folder)
{
    char path[600], line[2048];
    snprintf(path, sizeof(path), "%s/log", folder);
    FILE *in = fopen(path, "r");
    fprintf(stderr, "capstan %s: no server could be started for this run:\n", command);
    while (in && fgets(line, sizeof(line), in))
        fputs(line, stderr);
    if (in)
        fclose(in);
}

bool private_server_start(const char *command, const char *config, struct private_server *out)
{
    char folder[512];
    const char *base = getenv("TMPDIR");
    int life[2], told[2];
    snprintf(folder, sizeof(folder), "%s/capstan-run-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder) || pipe2(life, O_CLOEXEC) < 0 || pipe2(told, O_CLOEXEC) < 0) {
        fprintf(stderr, "capstan %s: %s: %s\n", command, folder, strerror(errno));
        return false;
    }
    fflush(NULL);
    out->keeper = fork();
    if (out->keeper == 0) {
        close(life[1]);
        close(told[0]);
        keep(folder, config, life[0], told[1]);
    }
    close(life[0]);
    close(told[1]);
    out->life = life[1];
    if (out->keeper > 0 && read_facts(told[0]))
        return true;
    report_log(command, folder);
    private_server_stop(out);
    return false;
}

void private_server_stop(struct private_server *server)
{
    close(server->life);
    if (server->keeper > 0)
        while (waitpid(server->keeper, NULL, 0) < 0 && errno == EINTR)
            ;
}
