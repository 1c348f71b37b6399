/* See nouns.h. */
#include "app/nouns.h"
#include "http/message.h"
#include "text/yaml.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SPEC_ARENA_BYTES_MAX (256 * 1024 * 1024)

const char *noun_path(const struct noun *noun, const char *name, const char *suffix)
{
    static char path[1024];
    struct arena arena;
    arena_init(&arena, sizeof(path) * 4);
    struct str encoded = http_percent_encode(str_from(name), &arena);
    snprintf(path, sizeof(path), "%s/%.*s%s", noun->path, STR_ARG(encoded), suffix);
    arena_fini(&arena);
    return path;
}

/* Adds one page's items to `all`; *cursor is the next page's, or "". */
static bool fetch_page(const struct noun *noun, const char *path, int limit, yyjson_mut_doc *all,
                       char *cursor, size_t cursor_bytes)
{
    char paged[2048];
    snprintf(paged, sizeof(paged), "%s%climit=%d%s%s", path, strchr(path, '?') ? '&' : '?', limit,
             *cursor ? "&cursor=" : "", cursor);
    struct client_reply reply;
    if (!client_request(noun->command, "GET", paged, STR_EMPTY, STR_EMPTY, &reply))
        return false;
    size_t i, count;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(reply.root, "items"), i, count, item)
        yyjson_mut_arr_append(yyjson_mut_doc_get_root(all), yyjson_val_mut_copy(all, item));
    const char *next = yyjson_get_str(yyjson_obj_get(reply.root, "next_cursor"));
    snprintf(cursor, cursor_bytes, "%s", next ? next : "");
    client_reply_free(&reply);
    return true;
}

int noun_list(const struct noun *noun, const char *path, int limit, bool json)
{
    yyjson_mut_doc *all = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(all, yyjson_mut_arr(all));
    char cursor[256] = "";
    int left = limit;
    do {
        if (!fetch_page(noun, path, MIN(left, 500), all, cursor, sizeof(cursor))) {
            yyjson_mut_doc_free(all);
            return EXIT_FAILED;
        }
        left = limit - (int)yyjson_mut_arr_size(yyjson_mut_doc_get_root(all));
    } while (*cursor && left > 0);
    yyjson_doc *doc = yyjson_mut_doc_imut_copy(all, NULL);
    if (json)
        print_json(yyjson_doc_get_root(doc));
    else
        print_table(yyjson_doc_get_root(doc), noun->columns, noun->column_count, noun->empty);
    yyjson_doc_free(doc);
    yyjson_mut_doc_free(all);
    return EXIT_OK;
}

static void print_reply(const struct client_reply *reply, bool json)
{
    if (json)
        print_json(reply->root);
    else if (yyjson_is_obj(reply->root))
        print_object(reply->root);
}

int noun_send(const struct noun *noun, const char *method, const char *path, yyjson_mut_doc *doc,
              bool json)
{
    struct client_reply reply;
    if (!client_request_json(noun->command, method, path, doc, &reply))
        return EXIT_FAILED;
    print_reply(&reply, json);
    client_reply_free(&reply);
    return EXIT_OK;
}

int noun_show(const struct noun *noun, const char *name, bool json)
{
    return noun_send(noun, "GET", noun_path(noun, name, ""), NULL, json);
}

int noun_delete(const struct noun *noun, const char *name)
{
    int status = noun_send(noun, "DELETE", noun_path(noun, name, ""), NULL, false);
    if (status == EXIT_OK)
        printf("%s %s deleted\n", noun->command, name);
    return status;
}

static bool read_all(const char *file, struct buf *out)
{
    FILE *in = strcmp(file, "-") == 0 ? stdin : fopen(file, "rb");
    if (!in)
        return false;
    char chunk[16384];
    size_t n;
    bool ok = true;
    while (ok && (n = fread(chunk, 1, sizeof(chunk), in)) > 0)
        ok = buf_append(out, str_make(chunk, n)) == RC_OK;
    ok = ok && !ferror(in);
    if (in != stdin)
        fclose(in);
    return ok;
}

yyjson_mut_doc *noun_read_file(const struct noun *noun, const char *file)
{
    struct buf text;
    struct arena arena;
    struct err err = {0};
    yyjson_doc *doc;
    yyjson_mut_doc *copy = NULL;
    buf_init(&text, YAML_BYTES_MAX);
    arena_init(&arena, SPEC_ARENA_BYTES_MAX);
    if (!read_all(file, &text))
        fprintf(stderr, "capstan %s: %s: %s\n", noun->command, file, strerror(errno));
    else if (yaml_read(buf_str(&text), &arena, NULL, &doc, &err) != RC_OK)
        fprintf(stderr, "capstan %s: %s: %s\n", noun->command, file, err.message);
    else
        copy = yyjson_doc_mut_copy(doc, NULL);
    arena_fini(&arena);
    buf_fini(&text);
    return copy;
}

yyjson_mut_doc *noun_new_object(yyjson_mut_val **root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, object);
    if (root)
        *root = object;
    return doc;
}

void noun_put(yyjson_mut_doc *doc, const char *path, const char *value, bool number)
{
    if (!value)
        return;
    yyjson_mut_val *object = yyjson_mut_doc_get_root(doc);
    const char *dot;
    while ((dot = strchr(path, '.'))) {
        yyjson_mut_val *inner = yyjson_mut_obj_getn(object, path, (size_t)(dot - path));
        if (!inner) {
            inner = yyjson_mut_obj(doc);
            yyjson_mut_obj_add(object, yyjson_mut_strncpy(doc, path, (size_t)(dot - path)), inner);
        }
        object = inner;
        path = dot + 1;
    }
    int64_t integer;
    if (number && str_to_i64(str_from(value), &integer) == RC_OK)
        yyjson_mut_obj_add(object, yyjson_mut_strcpy(doc, path), yyjson_mut_sint(doc, integer));
    else
        yyjson_mut_obj_add(object, yyjson_mut_strcpy(doc, path), yyjson_mut_strcpy(doc, value));
}

/* ---- jobs ---- */

static bool job_ended(const char *state)
{
    return !state || strcmp(state, "done") == 0 || strcmp(state, "failed") == 0 ||
           strcmp(state, "cancelled") == 0;
}

static void print_progress(yyjson_val *job, bool terminal)
{
    yyjson_val *progress = yyjson_obj_get(job, "progress");
    double done = yyjson_get_num(yyjson_obj_get(progress, "done"));
    double total = yyjson_get_num(yyjson_obj_get(progress, "total"));
    const char *message = yyjson_get_str(yyjson_obj_get(progress, "message"));
    if (!terminal)
        return;
    int percent = total > 0 ? (int)(100 * done / total) : 0;
    fprintf(stderr, "\r\033[K[%-30.*s] %3d%%  %s", percent * 30 / 100,
            "##############################", percent, message ? message : "");
}

int noun_follow_job(const struct noun *noun, yyjson_val *job)
{
    char id[64], path[128];
    bool terminal = isatty(STDERR_FILENO);
    snprintf(id, sizeof(id), "%s", yyjson_get_str(yyjson_obj_get(job, "id")));
    snprintf(path, sizeof(path), "/api/jobs/%s", id);
    for (;;) {
        struct client_reply reply;
        if (!client_request(noun->command, "GET", path, STR_EMPTY, STR_EMPTY, &reply))
            return EXIT_FAILED;
        const char *state = yyjson_get_str(yyjson_obj_get(reply.root, "state"));
        print_progress(reply.root, terminal);
        if (job_ended(state)) {
            bool done = state && strcmp(state, "done") == 0;
            const char *error = yyjson_get_str(yyjson_obj_get(reply.root, "error"));
            fprintf(stderr, "%s%s%s%s\n", terminal ? "\n" : "", state ? state : "lost",
                    error ? ": " : "", error ? error : "");
            client_reply_free(&reply);
            return done ? EXIT_OK : EXIT_FAILED;
        }
        client_reply_free(&reply);
        usleep(300 * 1000);
    }
}
