/* Kill -9 of a process that writes the control database. The child writes numbered objects and says
 * each number only when its write was acknowledged; it is killed at a random moment, and the
 * database is opened again: everything acknowledged is there, nothing is half there, and the audit
 * log's chain is whole.
 *
 * (Power loss: tests/sim/sim_control.c; kill -9 shows that our batching acknowledges nothing before
 * its commit.) */
#include "base/clock.h"
#include "base/rand.h"
#include "store/account.h"
#include "store/object.h"
#include "text/json.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS_DEFAULT 20
#define WRITERS        3 /* threads of the child, so that batches hold several writes */

static char folder[] = "/tmp/capstan-crash-XXXXXX", path[64], secrets[64];
static struct id project = {{7}};

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "crash_control: %s (files in %s)\n", what, folder);
    exit(1);
}

static struct db *open_database(struct secret_box **box)
{
    struct err err = {0};
    struct db *db;

    check(secret_box_open(secrets, box, &err) == RC_OK, err.message);
    struct db_options options = {.path = path, .readers = 1, .secrets = *box};
    check(db_open(&options, &db, &err) == RC_OK, err.message);
    return db;
}

static enum rc make_project(void *arg, struct db_txn *txn, struct err *err)
{
    (void)arg;
    return project_insert(txn, project, STR("default"), err);
}

/* ---- the child ---- */

struct numbered {
    unsigned writer, number;
};

/* Two objects a write: both or none. */
static enum rc write_pair(void *arg, struct db_txn *txn, struct err *err)
{
    const struct numbered *it = arg;
    struct actor actor = ACTOR_SYSTEM;
    struct arena arena;
    char name[64];
    yyjson_doc *doc;

    arena_init(&arena, 1 << 20);
    enum rc rc = json_read(STR("{\"api_key\":\"sk-0123456789abcdef\"}"), &arena, &doc, err);
    for (int half = 0; rc == RC_OK && half < 2; half++) {
        int n = snprintf(name, sizeof name, "w%u-%u-%d", it->writer, it->number, half);
        struct object_change change = {.project = project,
                                       .kind = OBJECT_PROVIDER,
                                       .name = str_make(name, (size_t)n),
                                       .spec = yyjson_doc_get_root(doc)};
        rc = object_put(txn, &actor, &change, &arena, NULL, err);
    }
    arena_fini(&arena);
    return rc;
}

struct writer {
    struct db *db;
    unsigned index, from;
    int pipe;
};

static void *writer_main(void *arg)
{
    struct writer *writer = arg;

    for (unsigned number = writer->from;; number++) {
        struct numbered it = {writer->index, number};
        if (db_write_wait(writer->db, write_pair, &it, NULL) != RC_OK)
            _exit(2);
        if (write(writer->pipe, &it, sizeof it) != sizeof it) /* acknowledged */
            _exit(3);
    }
    return NULL;
}

static void child_main(int out, const unsigned next[WRITERS])
{
    struct secret_box *box;
    struct db *db = open_database(&box);
    struct writer writers[WRITERS];
    pthread_t thread;

    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){db, i, next[i], out};
        if (pthread_create(&thread, NULL, writer_main, &writers[i]) != 0)
            _exit(4);
    }
    for (;;)
        pause();
}

/* ---- the parent ---- */

static bool there(struct db_txn *txn, unsigned writer, unsigned number, int half,
                  struct arena *arena)
{
    char name[64];
    struct object object;
    int n = snprintf(name, sizeof name, "w%u-%u-%d", writer, number, half);

    return object_get(txn, project, OBJECT_PROVIDER, str_make(name, (size_t)n), arena, &object,
                      NULL) == RC_OK;
}

/* Checks what the killed child left; sets next[] to the first number that is not there. */
static void verify(unsigned next[WRITERS], const unsigned acknowledged[WRITERS])
{
    struct secret_box *box;
    struct db *db = open_database(&box);
    struct db_txn *txn;
    struct arena arena;
    int64_t seq;

    arena_init(&arena, 1 << 24);
    check(db_read_begin(db, &txn, NULL) == RC_OK, "cannot read");
    for (unsigned w = 0; w < WRITERS; w++) {
        while (there(txn, w, next[w], 0, &arena)) {
            check(there(txn, w, next[w], 1, &arena), "half a write is there");
            next[w]++;
            arena_reset(&arena);
        }
        check(!there(txn, w, next[w], 1, &arena), "half a write is there");
        check(next[w] >= acknowledged[w], "an acknowledged write is lost");
    }
    check(audit_verify(txn, &seq, NULL) == RC_OK, "the audit log's chain is broken");
    db_read_end(txn);
    arena_fini(&arena);
    db_close(db);
    secret_box_free(box);
}

static void one_round(unsigned next[WRITERS], uint64_t *total)
{
    unsigned acknowledged[WRITERS];
    struct numbered it;
    int pipes[2], status;

    memcpy(acknowledged, next, sizeof acknowledged);
    check(pipe(pipes) == 0, "no pipe");
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        close(pipes[0]);
        child_main(pipes[1], next);
    }
    close(pipes[1]);
    usleep((useconds_t)(20000 + rand_below(60000)));
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    check(WIFSIGNALED(status), "the writer ended by itself");
    while (read(pipes[0], &it, sizeof it) == sizeof it) {
        acknowledged[it.writer] = MAX(acknowledged[it.writer], it.number + 1);
        (*total)++;
    }
    close(pipes[0]);
    verify(next, acknowledged);
}

int main(void)
{
    const char *asked = getenv("CRASH_ROUNDS");
    int rounds = asked ? atoi(asked) : ROUNDS_DEFAULT;
    unsigned next[WRITERS] = {0};
    uint64_t total = 0;
    struct secret_box *box;
    char command[128];

    check(mkdtemp(folder) != NULL, "no folder");
    snprintf(path, sizeof path, "%s/control.db", folder);
    snprintf(secrets, sizeof secrets, "%s/secret", folder);
    struct db *db = open_database(&box);
    check(db_write_wait(db, make_project, NULL, NULL) == RC_OK, "no project");
    db_close(db);
    secret_box_free(box);
    for (int i = 0; i < rounds; i++)
        one_round(next, &total);
    printf("%d kills, %llu acknowledged writes, none lost\n", rounds, (unsigned long long)total);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : 1;
}
