/* The client half of the command line: one request to a running server's management interface,
 * waited for. Address and key come from CAPSTAN_URL and CAPSTAN_KEY. */
#pragma once
#include "base/err.h"
#include <yyjson.h>

struct client_reply {
    int status;
    struct str body;  /* whole, malloc'd */
    yyjson_doc *doc;  /* NULL: the body is not JSON */
    yyjson_val *root; /* of doc, or NULL */
};

/* "http://127.0.0.1:4100" unless CAPSTAN_URL says otherwise. */
const char *client_url(void);
/* `body` empty: none. Prints what went wrong (no server, no key, the server's error with its field)
 * in the name of `command` and returns false; else *reply is to be freed. */
bool client_request(const char *command, const char *method, const char *path,
                    struct str content_type, struct str body, struct client_reply *reply);
/* The same with a JSON document (which is freed) or NULL as the body. */
bool client_request_json(const char *command, const char *method, const char *path,
                         yyjson_mut_doc *body, struct client_reply *reply);
void client_reply_free(struct client_reply *reply);
/* Reads an event stream until `each` answers false or the server ends it. `body` (freed) NULL: it
 * is asked for by GET, else by POST. */
bool client_stream(const char *command, const char *path, yyjson_mut_doc *body,
                   bool (*each)(void *arg, struct str event, struct str data), void *arg);

/* ---- output ---- */
struct column {
    const char *title;
    const char *path; /* "limits.requests_per_minute"; arrays are joined by commas */
    bool right;       /* align right: numbers */
};
/* A table of an array of objects, widths fitted; an empty one prints `empty`. */
void print_table(yyjson_val *items, const struct column *columns, size_t count, const char *empty);
void print_json(yyjson_val *value); /* pretty, with a line feed */
/* "name  value" lines of an object's members, nested ones as JSON. */
void print_object(yyjson_val *object);
