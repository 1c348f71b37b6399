/* Document extractor: files to text, by the readers that collections use (knowledge/extract.h), in
 * their confined child. Addresses are fetched on the loop, one after the other; then a worker reads
 * all files. What a run holds of a file is its name and where it lies, never its bytes. */
#include "base/hash.h"
#include "knowledge/extract.h"
#include "knowledge/knowledge.h"
#include "pipeline/tools/connector.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/definition/reach.h"
#include "text/json_tree.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILES_MAX      20
#define TEXT_BYTES_MAX (4 * 1024 * 1024) /* of all files of a node */
#define WORK_BYTES_MAX (256ll * 1024 * 1024)

struct document_config {
    struct plan_expression files;
};

/* One file: by id, by address, or its bytes. */
struct given_file {
    struct str id, url, bytes, name, content_type;
    struct extracted found;
};

/* Lives until the worker has let go of it, longer than its step perhaps. */
struct document_work {
    struct step *step; /* NULL: nobody waits any more */
    struct work work;
    struct arena arena;
    struct knowledge *knowledge; /* NULL: no files are kept here */
    struct id project;
    struct fetch *fetch; /* of the file `at` */
    size_t at, count;
    struct given_file files[FILES_MAX];
    volatile bool cancelled;
    bool at_worker;
    struct err err;
};

static enum rc document_compile(struct plan_build *build, struct err *err)
{
    struct document_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct document_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    return plan_expression_compile(build, json_get_text(build->node->document->config, "files"),
                                   &config->files, err);
}

/* ---- what was given ---- */

/* data:TYPE;base64,TEXT */
static enum rc read_data(struct document_work *work, struct str text, struct given_file *file,
                         struct err *err)
{
    struct str marker = STR(";base64,"), head = STR("data:");
    ssize_t at = str_find(text, marker);
    if (at < 0)
        return err_set(err, ERR_INVALID, "a data: address must be base64");
    struct str coded = str_slice(text, (size_t)at + marker.n, text.n);
    char *bytes = arena_alloc(&work->arena, coded.n + 1);
    ssize_t n = bytes ? base64_decode(coded, bytes, coded.n) : -1;
    if (n < 0)
        return err_set(err, bytes ? ERR_INVALID : ERR_TOO_LARGE, "a data: address is %s",
                       bytes ? "broken" : "too large");
    file->bytes = str_make(bytes, (size_t)n);
    file->content_type = arena_copy(&work->arena, str_slice(text, head.n, (size_t)at));
    return RC_OK;
}

static enum rc read_file(struct document_work *work, yyjson_val *value, struct err *err)
{
    struct given_file *file = &work->files[work->count];
    struct str text = json_text(value), id = STR_EMPTY;
    if (work->count == FILES_MAX)
        return err_set(err, ERR_TOO_LARGE, "a node reads at most %d files", FILES_MAX);
    if (yyjson_is_obj(value)) {
        id = json_get_text(value, "id");
        text = json_get_text(value, "url");
        file->name = arena_copy(&work->arena, json_get_text(value, "name"));
    } else if (str_starts(text, STR("file-"))) {
        id = text;
    }
    work->count++;
    if (id.n) {
        file->id = arena_copy(&work->arena, id);
        return RC_OK;
    }
    if (str_starts(text, STR("data:")))
        return read_data(work, text, file, err);
    if (!str_starts(text, STR("https://")) && !str_starts(text, STR("http://")))
        return err_set(err, ERR_INVALID,
                       "'files' must be a file or a list of files: the id of an uploaded one "
                       "(file-…), an https: or a data: address, or {id | url, name}");
    file->url = arena_copy(&work->arena, text);
    return RC_OK;
}

static enum rc read_files(struct document_work *work, struct err *err)
{
    struct step *step = work->step;
    const struct document_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    struct expression_value value;
    struct maker maker;
    size_t i, n;
    yyjson_val *item;
    enum rc rc = run_evaluate(step->frame, &config->files, NULL, scratch, &value, err);
    if (rc != RC_OK || value.type == EXPRESSION_NULL)
        return rc;
    maker_init(&maker, scratch);
    maker_expression(&maker, &value);
    yyjson_val *given = maker_take(&maker);
    if (!yyjson_is_arr(given))
        return given ? read_file(work, given, err)
                     : err_set(err, ERR_TOO_LARGE, "the list of files is too large");
    yyjson_arr_foreach(given, i, n, item)
    {
        if ((rc = read_file(work, item, err)) != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* ---- on a worker ---- */

/* The child's input is a file: bytes become one in memory. */
static enum rc extract_bytes(struct document_work *work, struct given_file *file,
                             const struct extract_limits *limits, struct err *err)
{
    char path[64];
    int fd = memfd_create("document", MFD_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_INTERNAL, "no file in memory: %s", strerror(errno));
    for (size_t at = 0; at < file->bytes.n;) {
        ssize_t n = write(fd, file->bytes.p + at, file->bytes.n - at);
        if (n <= 0) {
            close(fd);
            return err_set(err, ERR_INTERNAL, "no file in memory: %s", strerror(errno));
        }
        at += (size_t)n;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    enum rc rc =
        extract_file(path, file->name, file->content_type, limits, &work->arena, &file->found, err);
    close(fd);
    return rc;
}

static enum rc extract_uploaded(struct document_work *work, struct given_file *file,
                                const struct extract_limits *limits, struct err *err)
{
    struct knowledge_file stored;
    if (!work->knowledge)
        return err_set(err, ERR_UNSUPPORTED, "no uploaded files are kept here");
    enum rc rc =
        knowledge_file_find(work->knowledge, work->project, file->id, &work->arena, &stored, err);
    if (rc != RC_OK)
        return rc;
    if (!file->name.n)
        file->name = stored.name;
    return extract_file(stored.path, stored.name, stored.content_type, limits, &work->arena,
                        &file->found, err);
}

static void extract_all(struct work *task)
{
    struct document_work *work = CONTAINER_OF(task, struct document_work, work);
    int64_t left = TEXT_BYTES_MAX;
    for (size_t i = 0; i < work->count && !work->cancelled; i++) {
        struct given_file *file = &work->files[i];
        const struct extract_limits limits = {.text_bytes = left, .cancelled = &work->cancelled};
        enum rc rc = file->id.n ? extract_uploaded(work, file, &limits, &work->err)
                                : extract_bytes(work, file, &limits, &work->err);
        if (rc != RC_OK) {
            err_prefix(&work->err, "%.*s",
                       STR_ARG(file->name.n  ? file->name
                               : file->id.n  ? file->id
                               : file->url.n ? file->url
                                             : STR("the file")));
            return;
        }
        left = MAX(left - (int64_t)file->found.text.n, 1);
    }
}

/* ---- outputs ---- */

static void put_text(struct maker *maker, const char *name, struct str text)
{
    maker_key(maker, str_from(name));
    maker_text(maker, text);
}

static struct value *make_outputs(struct document_work *work)
{
    struct maker maker;
    struct buf all;
    buf_init(&all, TEXT_BYTES_MAX + 2 * FILES_MAX);
    maker_init(&maker, &work->arena);
    maker_object(&maker);
    maker_key(&maker, STR("documents"));
    maker_array(&maker);
    for (size_t i = 0; i < work->count; i++) {
        const struct given_file *file = &work->files[i];
        (void)!buf_append(&all, i ? STR("\n\n") : STR_EMPTY);
        (void)!buf_append(&all, file->found.text);
        maker_object(&maker);
        put_text(&maker, "name", file->name);
        put_text(&maker, "title", file->found.title);
        put_text(&maker, "format", str_from(extract_format_name(file->found.format)));
        put_text(&maker, "text", file->found.text);
        maker_key(&maker, STR("pages"));
        maker_int(&maker, (int64_t)file->found.page_count);
        maker_end(&maker);
    }
    maker_end(&maker);
    maker_key(&maker, STR("texts"));
    maker_array(&maker);
    for (size_t i = 0; i < work->count; i++)
        maker_text(&maker, work->files[i].found.text);
    maker_end(&maker);
    put_text(&maker, "text", buf_str(&all));
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    buf_fini(&all);
    return out;
}

/* ---- the node ---- */

static void work_free(struct document_work *work)
{
    fetch_free(work->fetch);
    arena_fini(&work->arena);
    free(work);
}

static void work_end(struct document_work *work)
{
    struct step *step = work->step;
    struct err err = work->err;
    struct value *out = err.code == ERR_NONE ? make_outputs(work) : NULL;
    if (!out && err.code == ERR_NONE)
        err_set(&err, ERR_TOO_LARGE, "the texts are too large");
    step->work = NULL;
    work_free(work);
    if (out)
        step_done(step, out, STR("out"));
    else
        step_failed(step, &err);
}

static void extract_done(struct work *task)
{
    struct document_work *work = CONTAINER_OF(task, struct document_work, work);
    work->at_worker = false;
    if (work->step)
        work_end(work);
    else
        work_free(work);
}

static void fetch_next(struct document_work *work);

static void on_fetched(void *arg, struct fetch *fetch, const struct err *failure)
{
    struct document_work *work = arg;
    struct given_file *file = &work->files[work->at++];
    struct str type = http_header_get(&fetch->answered, STR("content-type"));
    work->fetch = NULL;
    if (failure)
        work->err = *failure;
    else if (fetch->status != 200)
        err_set(&work->err, ERR_UPSTREAM, "answered with status %d", fetch->status);
    else if (!(file->bytes = arena_copy(&work->arena, buf_str(&fetch->received))).p)
        err_set(&work->err, ERR_TOO_LARGE, "is too large");
    file->content_type = arena_copy(&work->arena, type);
    fetch_free(fetch);
    if (work->err.code != ERR_NONE) {
        err_prefix(&work->err, "%.*s", STR_ARG(file->url));
        work_end(work);
        return;
    }
    fetch_next(work);
}

/* The next address; after the last, a worker. */
static void fetch_next(struct document_work *work)
{
    struct pipeline_loop *loop = work->step->run->loop;
    while (work->at < work->count && !work->files[work->at].url.n)
        work->at++;
    if (work->at < work->count) {
        struct fetch *fetch = work->fetch = fetch_new();
        fetch->method = STR("GET");
        fetch->repeatable = true;
        fetch->url = arena_copy(&fetch->arena, work->files[work->at].url);
        const struct document *document = work->step->frame->flow->plan->document;
        if (reach_check(document, fetch->url, &work->err) == RC_OK &&
            fetch_prepare(fetch, loop, STR_EMPTY, &work->err) == RC_OK)
            fetch_send(fetch, on_fetched, work);
        else
            work_end(work);
        return;
    }
    work->work = (struct work){.home = loop->loop, .work = extract_all, .done = extract_done};
    work->at_worker = true;
    if (worker_submit(loop->all->options.workers, &work->work) != RC_OK) {
        work->at_worker = false;
        err_set(&work->err, ERR_OVERLOADED, "too much work waits; try again soon");
        work_end(work);
    }
}

static void document_run(struct step *step)
{
    struct document_work *work = xcalloc(1, sizeof(*work));
    struct run *run = step->run;
    arena_init(&work->arena, WORK_BYTES_MAX);
    work->step = step;
    work->knowledge = run->loop->all->options.knowledge;
    work->project = run->principal.project;
    step->work = work;
    if (read_files(work, &work->err) == RC_OK)
        fetch_next(work);
    else
        work_end(work);
}

static void document_cancel(struct step *step)
{
    struct document_work *work = step->work;
    step->work = NULL;
    if (!work)
        return;
    work->step = NULL;
    work->cancelled = true;
    if (!work->at_worker)
        work_free(work);
}

const struct node_operations document_operations = {
    .compile = document_compile, .run = document_run, .cancel = document_cancel, .recorded = true};
