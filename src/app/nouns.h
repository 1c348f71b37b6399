/* What the commands of management objects share: list, show, delete, and specs from files. */
#pragma once
#include "app/client.h"
#include "app/command.h"

/* One kind of object: how it is listed. */
struct noun {
    const char *command; /* "route" */
    const char *path;    /* "/api/routes" */
    const struct column *columns;
    size_t column_count;
    const char *empty; /* what to do when there is none */
};

/* GET `path` (all pages up to `limit`), as a table or, with `json`, as a JSON array. */
int noun_list(const struct noun *noun, const char *path, int limit, bool json);
int noun_show(const struct noun *noun, const char *name, bool json);
int noun_delete(const struct noun *noun, const char *name);
/* Sends a document (freed) and prints the answer: as JSON, or as `name  value` lines. */
int noun_send(const struct noun *noun, const char *method, const char *path, yyjson_mut_doc *doc,
              bool json);
/* "/api/routes/NAME" with NAME percent-encoded; in a static buffer. */
const char *noun_path(const struct noun *noun, const char *name, const char *suffix);
/* A spec from a JSON or YAML file ("-": standard input) as a new document; NULL: an error was
 * printed. */
yyjson_mut_doc *noun_read_file(const struct noun *noun, const char *file);
/* A new document with an object as its root. */
yyjson_mut_doc *noun_new_object(yyjson_mut_val **root);
/* Adds `value` at "limits.parallel": as a number where it is one and `number`, else as text. NULL
 * values are passed over. */
void noun_put(yyjson_mut_doc *doc, const char *path, const char *value, bool number);
/* Prints a job's progress until it ends; exit status. */
int noun_follow_job(const struct noun *noun, yyjson_val *job);
/* capstan knowledge source …; argv[0] is "source". */
int command_knowledge_source(int argc, char **argv);
