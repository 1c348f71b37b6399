/* What the files of `capstan pipeline` share. */
#pragma once
#include "app/nouns.h"

struct pipeline_run_options {
    const char *config, *version, *session, *user;
    const char **inputs; /* NAME=TEXT, NAME:=JSON, NAME=@FILE; NULL-terminated or NULL */
    const char **models; /* of an imported file: THERE=HERE, or HERE for all */
    const char **collections;
    bool json;
};

/* Whether it names a file and not a pipeline: it has a slash or ends as files do, or is "-". */
bool pipeline_is_file(const char *name);
/* The whole of a file, malloc'd and NUL-terminated; NULL: an error was printed. */
char *pipeline_read_file(const char *file, size_t *n);
/* Adds {THERE: HERE} as `member`. False: an error was printed. */
bool pipeline_put_names(yyjson_mut_doc *doc, const char *member, const char **names);
/* Runs a file on a server of its own, or a pipeline NAME[@VERSION] on CAPSTAN_URL's; the answer
 * goes to standard output while it is written, what happens to standard error. */
int pipeline_run(const char *what, const struct pipeline_run_options *options);
/* Replays the recorded runs of a file, of the last runs of a pipeline NAME on a server, or of the
 * gallery (`what` NULL). `keep`: what comes out now is kept in the file. */
int pipeline_test(const char *what, const char *version, bool gallery, bool keep, bool json);
/* Adds a server's run to a file's recordings; `name` NULL: its id. */
int pipeline_record(const char *id, const char *file, const char *name);
