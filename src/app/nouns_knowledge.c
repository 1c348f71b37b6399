/* capstan knowledge: collections from the command line. Files and folders go up one by one; the
 * questions and judgements of TREC and BEIR files are read here and sent as JSON. */
#include "app/nouns.h"
#include "base/buf.h"
#include "http/message.h"
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (64 * 1024 * 1024)
#define IMPORT_ROWS    200
#define BOUNDARY       "capstan-7f3c2b51-form"

static const struct column collection_columns[] = {
    {"NAME", "name"},         {"DOCUMENTS", "documents.total", true}, {"CHUNKS", "chunks", true},
    {"BYTES", "bytes", true}, {"FAILED", "documents.failed", true},   {"ENCODER", "encoder"},
    {"STALE", "stale"},
};
static const struct noun noun = {"knowledge", "/api/collections", collection_columns,
                                 COUNT_OF(collection_columns),
                                 "no collections: 'capstan knowledge create NAME' makes one"};

static const struct column document_columns[] = {
    {"NAME", "name"},         {"STATE", "state"},       {"CHUNKS", "chunks", true},
    {"PAGES", "pages", true}, {"BYTES", "bytes", true}, {"ERROR", "error"},
};

struct knowledge_options {
    const char *encoder, *language, *description, *attributes, *queries, *qrels, *mode, *k, *filter,
        *file, *scans;
    bool json, binary, detach, cuts, apply;
};
static struct knowledge_options options;

/* ---- add ---- */

struct upload {
    const char *collection;
    char job[64]; /* the last answer's */
    int added, duplicates, failed;
};
static struct upload upload;

static bool read_file(const char *path, struct buf *out)
{
    FILE *in = fopen(path, "rb");
    char chunk[65536];
    size_t n;
    bool ok = in != NULL;
    while (ok && (n = fread(chunk, 1, sizeof(chunk), in)) > 0)
        if (buf_append(out, str_make(chunk, n)) != RC_OK) {
            errno = EFBIG;
            ok = false;
        }
    if (in)
        fclose(in);
    return ok;
}

/* A name as it may stand between quotes in a form. */
static bool put_quoted(struct buf *form, const char *name)
{
    bool ok = true;
    for (; ok && *name; name++)
        ok = *name == '"'    ? buf_append(form, STR("%22")) == RC_OK
             : *name == '\n' ? buf_append(form, STR("%0A")) == RC_OK
             : *name == '\r' ? buf_append(form, STR("%0D")) == RC_OK
                             : buf_append_char(form, *name) == RC_OK;
    return ok;
}

static bool make_form(struct buf *form, const char *path, const char *name)
{
    bool ok =
        buf_append(form, STR("--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"file\"; "
                             "filename=\"")) == RC_OK &&
        put_quoted(form, name) && buf_append(form, STR("\"\r\n\r\n")) == RC_OK &&
        read_file(path, form);
    if (ok && options.attributes)
        ok = buf_printf(form,
                        "\r\n--" BOUNDARY "\r\nContent-Disposition: form-data; "
                        "name=\"attributes\"\r\n\r\n%s",
                        options.attributes) == RC_OK;
    return ok && buf_append(form, STR("\r\n--" BOUNDARY "--\r\n")) == RC_OK;
}

static void note_added(const struct client_reply *reply)
{
    yyjson_val *item = yyjson_arr_get_first(yyjson_obj_get(reply->root, "items"));
    const char *job = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(reply->root, "job"), "id"));
    if (yyjson_get_bool(yyjson_obj_get(item, "duplicate")))
        upload.duplicates++;
    else
        upload.added++;
    if (job)
        snprintf(upload.job, sizeof(upload.job), "%s", job);
}

static void add_file(const char *path, const char *name)
{
    struct buf form;
    struct client_reply reply;
    buf_init(&form, FILE_BYTES_MAX);
    if (!make_form(&form, path, name)) {
        fprintf(stderr, "capstan knowledge: %s: %s\n", path, strerror(errno));
        upload.failed++;
    } else if (client_request(
                   "knowledge", "POST", noun_path(&noun, upload.collection, "/documents"),
                   STR("multipart/form-data; boundary=" BOUNDARY), buf_str(&form), &reply)) {
        note_added(&reply);
        client_reply_free(&reply);
    } else {
        fprintf(stderr, "  (%s)\n", path);
        upload.failed++;
    }
    buf_fini(&form);
}

/* Hidden files and folders stay out. */
static int visit(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    const char *base = path + place->base;
    if (place->level > 0 && *base == '.')
        return kind == FTW_D ? FTW_SKIP_SUBTREE : FTW_CONTINUE;
    if (kind == FTW_F && S_ISREG(info->st_mode))
        add_file(path, strncmp(path, "./", 2) == 0 ? path + 2 : path);
    return FTW_CONTINUE;
}

static int run_add(int argc, char **argv)
{
    if (argc < 4)
        return command_usage_error("knowledge", "add needs a collection and files or folders");
    upload = (struct upload){.collection = argv[2]};
    for (int i = 3; i < argc; i++)
        if (nftw(argv[i], visit, 16, FTW_PHYS | FTW_ACTIONRETVAL) < 0) {
            fprintf(stderr, "capstan knowledge: %s: %s\n", argv[i], strerror(errno));
            upload.failed++;
        }
    fprintf(stderr, "%d sent, %d there already, %d not sent\n", upload.added, upload.duplicates,
            upload.failed);
    int status = EXIT_OK;
    if (upload.job[0] && !options.detach) {
        yyjson_mut_val *root;
        yyjson_mut_doc *doc = noun_new_object(&root);
        yyjson_mut_obj_add_str(doc, root, "id", upload.job);
        yyjson_doc *job = yyjson_mut_doc_imut_copy(doc, NULL);
        status = noun_follow_job(&noun, yyjson_doc_get_root(job));
        yyjson_doc_free(job);
        yyjson_mut_doc_free(doc);
    }
    return upload.failed ? EXIT_FAILED : status;
}

/* ---- query ---- */

static void print_hits(yyjson_val *items)
{
    size_t i, n;
    yyjson_val *hit;
    yyjson_arr_foreach(items, i, n, hit)
    {
        yyjson_val *page = yyjson_obj_get(hit, "page");
        const char *name = yyjson_get_str(yyjson_obj_get(hit, "document"));
        if (!name)
            name = yyjson_get_str(yyjson_obj_get(hit, "id"));
        printf("%zu. %s", i + 1, name ? name : "-");
        if (yyjson_is_int(page))
            printf(", page %lld", (long long)yyjson_get_sint(page));
        printf("  (%.4f)\n", yyjson_get_num(yyjson_obj_get(hit, "score")));
        const char *text = yyjson_get_str(yyjson_obj_get(hit, "text"));
        for (size_t at = 0; text && text[at] && at < 300; at++)
            putchar(text[at] == '\n' ? ' ' : text[at]);
        printf("\n\n");
    }
    if (yyjson_arr_size(items) == 0)
        printf("nothing was found\n");
}

static void put_search(yyjson_mut_doc *doc)
{
    noun_put(doc, "mode", options.mode, false);
    noun_put(doc, "k", options.k, true);
    noun_put(doc, "filter", options.filter, false);
}

static int run_query(int argc, char **argv)
{
    struct client_reply reply;
    if (argc != 4)
        return command_usage_error("knowledge", "query needs a collection and a question");
    yyjson_mut_doc *doc = noun_new_object(NULL);
    noun_put(doc, "query", argv[3], false);
    put_search(doc);
    if (!client_request_json("knowledge", "POST", noun_path(&noun, argv[2], "/search"), doc,
                             &reply))
        return EXIT_FAILED;
    if (options.json)
        print_json(yyjson_obj_get(reply.root, "items"));
    else
        print_hits(yyjson_obj_get(reply.root, "items"));
    client_reply_free(&reply);
    return EXIT_OK;
}

/* ---- questions and judgements ---- */

struct judged {
    yyjson_mut_doc *doc;
    yyjson_mut_val *questions; /* [{id, text, relevant}] */
};

static yyjson_mut_val *find_question(struct judged *judged, const char *id)
{
    size_t i, n;
    yyjson_mut_val *one;
    yyjson_mut_arr_foreach(judged->questions, i, n, one)
    {
        if (yyjson_mut_equals_str(yyjson_mut_obj_get(one, "id"), id))
            return one;
    }
    return NULL;
}

static void add_question(struct judged *judged, const char *id, const char *text)
{
    yyjson_mut_val *one = yyjson_mut_arr_add_obj(judged->doc, judged->questions);
    yyjson_mut_obj_add_strcpy(judged->doc, one, "id", id);
    yyjson_mut_obj_add_strcpy(judged->doc, one, "text", text);
    yyjson_mut_obj_add_obj(judged->doc, one, "relevant");
}

/* BEIR: {"_id", "text"} a line; otherwise ID<tab>TEXT a line. */
static bool read_queries(struct judged *judged, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    FILE *in = fopen(path, "r");
    if (!in)
        return false;
    while ((n = getline(&line, &room, in)) > 0) {
        yyjson_doc *doc = line[0] == '{' ? yyjson_read(line, (size_t)n, 0) : NULL;
        yyjson_val *root = yyjson_doc_get_root(doc);
        char *tab = strchr(line, '\t');
        line[strcspn(line, "\r\n")] = '\0';
        if (doc && yyjson_get_str(yyjson_obj_get(root, "_id")) &&
            yyjson_get_str(yyjson_obj_get(root, "text")))
            add_question(judged, yyjson_get_str(yyjson_obj_get(root, "_id")),
                         yyjson_get_str(yyjson_obj_get(root, "text")));
        else if (!doc && tab) {
            *tab = '\0';
            add_question(judged, line, tab + 1);
        }
        yyjson_doc_free(doc);
    }
    free(line);
    fclose(in);
    return true;
}

/* TREC: QUESTION 0 DOCUMENT GRADE; BEIR: QUESTION<tab>DOCUMENT<tab>GRADE with a line of titles. */
static bool read_qrels(struct judged *judged, const char *path)
{
    char question[256], document[1024], zero[256], grade[64], *line = NULL;
    size_t room = 0;
    FILE *in = fopen(path, "r");
    if (!in)
        return false;
    while (getline(&line, &room, in) > 0) {
        int fields = sscanf(line, "%255s %255s %1023s %63s", question, zero, document, grade);
        if (fields == 3) {
            snprintf(grade, sizeof(grade), "%.63s", document);
            snprintf(document, sizeof(document), "%s", zero);
        }
        yyjson_mut_val *one = fields >= 3 ? find_question(judged, question) : NULL;
        char *end;
        double gain = strtod(grade, &end);
        if (!one || end == grade)
            continue;
        if (options.binary)
            gain = gain > 0 ? 1 : 0;
        yyjson_mut_obj_add(yyjson_mut_obj_get(one, "relevant"),
                           yyjson_mut_strcpy(judged->doc, document),
                           yyjson_mut_real(judged->doc, gain));
    }
    free(line);
    fclose(in);
    return true;
}

static bool read_judged(struct judged *judged)
{
    judged->doc = yyjson_mut_doc_new(NULL);
    judged->questions = yyjson_mut_arr(judged->doc);
    const char *failed = !read_queries(judged, options.queries) ? options.queries
                         : !read_qrels(judged, options.qrels)   ? options.qrels
                                                                : NULL;
    if (failed)
        fprintf(stderr, "capstan knowledge: %s: %s\n", failed, strerror(errno));
    return !failed;
}

/* ---- eval and tune ---- */

static bool evaluate(const char *name, struct judged *judged, struct client_reply *reply)
{
    size_t i, n;
    yyjson_mut_val *root, *one;
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_val *questions = yyjson_mut_obj_add_arr(doc, root, "questions");
    yyjson_mut_arr_foreach(judged->questions, i, n, one)
    {
        if (yyjson_mut_obj_size(yyjson_mut_obj_get(one, "relevant")))
            yyjson_mut_arr_append(questions, yyjson_mut_val_mut_copy(doc, one));
    }
    put_search(doc);
    return client_request_json("knowledge", "POST", noun_path(&noun, name, "/evaluate"), doc,
                               reply);
}

static void print_metric(const struct client_reply *reply, const char *metric, const char *title)
{
    yyjson_val *o = yyjson_obj_get(reply->root, metric);
    printf("%-10s %.4f  [%.4f, %.4f]\n", title, yyjson_get_num(yyjson_obj_get(o, "mean")),
           yyjson_get_num(yyjson_obj_get(o, "low")), yyjson_get_num(yyjson_obj_get(o, "high")));
}

static void print_evaluation(const struct client_reply *reply)
{
    yyjson_val *latency = yyjson_obj_get(reply->root, "latency_ms");
    print_metric(reply, "ndcg_at_10", "nDCG@10");
    print_metric(reply, "recall_at_k", "recall@k");
    print_metric(reply, "mrr", "MRR");
    printf("latency    p50 %.2f ms, p95 %.2f ms, %lld questions\n",
           yyjson_get_num(yyjson_obj_get(latency, "p50")),
           yyjson_get_num(yyjson_obj_get(latency, "p95")),
           (long long)yyjson_get_sint(yyjson_obj_get(reply->root, "questions")));
}

static int run_eval(int argc, char **argv)
{
    struct judged judged;
    struct client_reply reply;
    if (argc != 3 || !options.queries || !options.qrels)
        return command_usage_error("knowledge",
                                   "eval needs a collection, --queries FILE and --qrels FILE");
    bool ok = read_judged(&judged) && evaluate(argv[2], &judged, &reply);
    yyjson_mut_doc_free(judged.doc);
    if (!ok)
        return EXIT_FAILED;
    if (options.json)
        print_json(reply.root);
    else
        print_evaluation(&reply);
    client_reply_free(&reply);
    return EXIT_OK;
}

/* The collection's own questions are replaced by those of the files. */
static bool store_questions(const char *name)
{
    struct judged judged;
    struct client_reply reply;
    size_t i, n;
    yyjson_mut_val *root, *one;
    if (!read_judged(&judged)) {
        yyjson_mut_doc_free(judged.doc);
        return false;
    }
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_val *questions = yyjson_mut_obj_add_arr(doc, root, "questions");
    yyjson_mut_arr_foreach(judged.questions, i, n, one)
    {
        if (yyjson_mut_obj_size(yyjson_mut_obj_get(one, "relevant")))
            yyjson_mut_arr_append(questions, yyjson_mut_val_mut_copy(doc, one));
    }
    yyjson_mut_doc_free(judged.doc);
    bool ok =
        client_request_json("knowledge", "PUT", noun_path(&noun, name, "/questions"), doc, &reply);
    if (ok)
        client_reply_free(&reply);
    return ok;
}

static void print_tried(yyjson_val *result)
{
    size_t i, n;
    yyjson_val *one;
    size_t winner = (size_t)yyjson_get_uint(yyjson_obj_get(result, "winner"));
    printf("  %-7s %-9s %6s %5s %5s %7s %7s  %-8s %s\n", "MODE", "FUSION", "WEIGHT", "K1", "B",
           "TOKENS", "OVERLAP", "LANGUAGE", "nDCG@10 on odd questions");
    yyjson_arr_foreach(yyjson_obj_get(result, "tried"), i, n, one)
    {
        const char *fusion = yyjson_get_str(yyjson_obj_get(one, "fusion"));
        yyjson_val *weight = yyjson_obj_get(one, "text_weight");
        yyjson_val *score = yyjson_obj_get(one, "ndcg_at_10");
        const char *mode = yyjson_get_str(yyjson_obj_get(one, "mode"));
        const char *language = yyjson_get_str(yyjson_obj_get(one, "language"));
        printf("%c %-7s %-9s ", i == winner ? '*' : ' ', mode ? mode : "-", fusion ? fusion : "-");
        if (weight)
            printf("%6.2f", yyjson_get_num(weight));
        else
            printf("%6s", "-");
        printf(" %5.2f %5.2f %7lld %7lld  %-8s %.4f [%.4f, %.4f]\n",
               yyjson_get_num(yyjson_obj_get(one, "k1")), yyjson_get_num(yyjson_obj_get(one, "b")),
               (long long)yyjson_get_sint(yyjson_obj_get(one, "tokens_max")),
               (long long)yyjson_get_sint(yyjson_obj_get(one, "overlap_tokens")),
               language ? language : "-", yyjson_get_num(yyjson_obj_get(score, "mean")),
               yyjson_get_num(yyjson_obj_get(score, "low")),
               yyjson_get_num(yyjson_obj_get(score, "high")));
    }
}

static void print_even(yyjson_val *result, const char *member, const char *title)
{
    yyjson_val *o = yyjson_obj_get(result, member);
    printf("%-22s %+.4f  [%+.4f, %+.4f]\n", title, yyjson_get_num(yyjson_obj_get(o, "mean")),
           yyjson_get_num(yyjson_obj_get(o, "low")), yyjson_get_num(yyjson_obj_get(o, "high")));
}

/* The winner's patch, and a rebuild where chunks depend on it, which goes on by itself. */
static int apply_winner(const char *name, yyjson_val *result)
{
    struct client_reply reply;
    yyjson_val *patch = yyjson_obj_get(result, "patch");
    if (yyjson_obj_size(patch) == 0) {
        printf("nothing to apply: what is in force did best\n");
        return EXIT_OK;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, yyjson_val_mut_copy(doc, patch));
    if (!client_request_json("knowledge", "PATCH", noun_path(&noun, name, ""), doc, &reply))
        return EXIT_FAILED;
    client_reply_free(&reply);
    if (!yyjson_get_bool(yyjson_obj_get(result, "rebuild"))) {
        printf("applied\n");
        return EXIT_OK;
    }
    yyjson_mut_val *root;
    doc = noun_new_object(&root);
    yyjson_mut_obj_add_true(doc, root, "rebuild");
    if (!client_request_json("knowledge", "POST", noun_path(&noun, name, "/ingest"), doc, &reply))
        return EXIT_FAILED;
    printf("applied; rebuilding beside the index in force\n");
    int status = options.detach ? EXIT_OK : noun_follow_job(&noun, reply.root);
    client_reply_free(&reply);
    return status;
}

static int show_tuned(const char *name, const char *job)
{
    struct client_reply reply;
    char path[128];
    int status = EXIT_OK;
    snprintf(path, sizeof(path), "/api/jobs/%s", job);
    if (!client_request("knowledge", "GET", path, STR_EMPTY, STR_EMPTY, &reply))
        return EXIT_FAILED;
    yyjson_val *result = yyjson_obj_get(reply.root, "result");
    if (options.json) {
        print_json(result);
    } else {
        print_tried(result);
        printf("\non the even questions, which had no say:\n");
        print_even(result, "current_even", "in force");
        print_even(result, "winner_even", "winner (*)");
        print_even(result, "difference_even", "difference");
    }
    if (options.apply)
        status = apply_winner(name, result);
    else if (!options.json && yyjson_obj_size(yyjson_obj_get(result, "patch")))
        printf("'capstan knowledge tune %s --apply' makes it so\n", name);
    client_reply_free(&reply);
    return status;
}

static int run_tune(int argc, char **argv)
{
    struct client_reply reply;
    yyjson_mut_val *root;
    if (argc != 3 || !options.queries != !options.qrels)
        return command_usage_error("knowledge",
                                   "tune needs a collection, and --queries FILE with --qrels FILE "
                                   "unless it has questions of its own");
    if (options.queries && !store_questions(argv[2]))
        return EXIT_FAILED;
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_obj_add_bool(doc, root, "cuts", options.cuts);
    if (!client_request_json("knowledge", "POST", noun_path(&noun, argv[2], "/tune"), doc, &reply))
        return EXIT_FAILED;
    char job[64];
    snprintf(job, sizeof(job), "%s", yyjson_get_str(yyjson_obj_get(reply.root, "id")));
    int status = noun_follow_job(&noun, reply.root);
    client_reply_free(&reply);
    return status == EXIT_OK ? show_tuned(argv[2], job) : status;
}

/* ---- export and import: rows as JSON lines ---- */

static bool export_page(const char *name, char cursor[32], FILE *out)
{
    struct client_reply reply;
    size_t i, n;
    yyjson_val *row;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = noun_new_object(&root);
    yyjson_mut_obj_add_int(doc, root, "limit", IMPORT_ROWS);
    yyjson_mut_obj_add_true(doc, root, "vectors");
    if (*cursor)
        yyjson_mut_obj_add_str(doc, root, "cursor", cursor);
    if (!client_request_json("knowledge", "POST", noun_path(&noun, name, "/vectors/scroll"), doc,
                             &reply))
        return false;
    yyjson_arr_foreach(yyjson_obj_get(reply.root, "items"), i, n, row)
    {
        char *text = yyjson_val_write(row, 0, NULL);
        fprintf(out, "%s\n", text);
        free(text);
    }
    const char *next = yyjson_get_str(yyjson_obj_get(reply.root, "next_cursor"));
    snprintf(cursor, 32, "%s", next ? next : "");
    client_reply_free(&reply);
    return true;
}

static int run_export(int argc, char **argv)
{
    char cursor[32] = "";
    if (argc != 3)
        return command_usage_error("knowledge", "export needs a collection");
    FILE *out = options.file ? fopen(options.file, "w") : stdout;
    bool ok = out != NULL;
    do
        ok = ok && export_page(argv[2], cursor, out);
    while (ok && *cursor);
    if (!out || fflush(out) != 0) {
        perror("capstan knowledge export");
        ok = false;
    }
    if (out && out != stdout)
        fclose(out);
    return ok ? EXIT_OK : EXIT_FAILED;
}

static bool import_rows(const char *name, const struct buf *items)
{
    struct client_reply reply;
    struct buf body;
    buf_init(&body, FILE_BYTES_MAX);
    bool ok = buf_append(&body, STR("{\"items\":[")) == RC_OK &&
              buf_append(&body, buf_str(items)) == RC_OK && buf_append(&body, STR("]}")) == RC_OK &&
              client_request("knowledge", "POST", noun_path(&noun, name, "/vectors"),
                             STR("application/json"), buf_str(&body), &reply);
    if (ok)
        client_reply_free(&reply);
    buf_fini(&body);
    return ok;
}

static int run_import(int argc, char **argv)
{
    char *line = NULL;
    size_t room = 0, count = 0, waiting = 0;
    ssize_t n;
    struct buf items;
    if (argc != 4)
        return command_usage_error("knowledge", "import needs a collection and a file ('-': "
                                                "standard input)");
    FILE *in = strcmp(argv[3], "-") == 0 ? stdin : fopen(argv[3], "r");
    bool ok = in != NULL;
    buf_init(&items, FILE_BYTES_MAX - 64);
    while (ok && (n = getline(&line, &room, in)) > 0) {
        struct str row = str_trim(str_make(line, (size_t)n));
        if (row.n == 0)
            continue;
        ok = (waiting == 0 || buf_append_char(&items, ',') == RC_OK) &&
             buf_append(&items, row) == RC_OK;
        count++;
        if (ok && ++waiting == IMPORT_ROWS) {
            ok = import_rows(argv[2], &items);
            buf_clear(&items);
            waiting = 0;
        }
    }
    if (ok && waiting)
        ok = import_rows(argv[2], &items);
    if (!in)
        fprintf(stderr, "capstan knowledge: %s: %s\n", argv[3], strerror(errno));
    else if (ok)
        printf("%zu rows imported\n", count);
    free(line);
    buf_fini(&items);
    if (in && in != stdin)
        fclose(in);
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* ---- the command ---- */

/* "none", "vision:ROUTE", "docling:http://…" */
static void put_scans(yyjson_mut_doc *doc, const char *scans)
{
    static char by[32];
    const char *colon = strchr(scans, ':');
    snprintf(by, sizeof(by), "%.*s", colon ? (int)(colon - scans) : (int)strlen(scans), scans);
    noun_put(doc, "scans.by", by, false);
    noun_put(doc, strcmp(by, "vision") == 0 ? "scans.route" : "scans.address",
             colon ? colon + 1 : NULL, false);
}

static int run_create(int argc, char **argv)
{
    if (argc != 3)
        return command_usage_error("knowledge", "create needs a name");
    yyjson_mut_doc *doc = noun_new_object(NULL);
    noun_put(doc, "name", argv[2], false);
    noun_put(doc, "encoder", options.encoder, false);
    noun_put(doc, "language", options.language, false);
    noun_put(doc, "description", options.description, false);
    if (options.scans)
        put_scans(doc, options.scans);
    return noun_send(&noun, "POST", noun.path, doc, options.json);
}

static int run_documents(int argc, char **argv)
{
    static const struct noun documents = {"knowledge", "/api/collections", document_columns,
                                          COUNT_OF(document_columns),
                                          "nothing is in it: 'capstan knowledge add NAME PATH...'"};
    if (argc != 3)
        return command_usage_error("knowledge", "documents needs a collection");
    return noun_list(&documents, noun_path(&noun, argv[2], "/documents"), 10000, options.json);
}

int command_knowledge(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"create", run_create},       {"add", run_add},      {"query", run_query},
                 {"documents", run_documents}, {"eval", run_eval},    {"tune", run_tune},
                 {"export", run_export},       {"import", run_import}};
    const struct option_spec specs[] = {{"json", .flag = &options.json},
                                        {"binary", .flag = &options.binary},
                                        {"detach", .flag = &options.detach},
                                        {"cuts", .flag = &options.cuts},
                                        {"apply", .flag = &options.apply},
                                        {"encoder", .value = &options.encoder},
                                        {"language", .value = &options.language},
                                        {"description", .value = &options.description},
                                        {"attributes", .value = &options.attributes},
                                        {"scans", .value = &options.scans},
                                        {"queries", .value = &options.queries},
                                        {"qrels", .value = &options.qrels},
                                        {"mode", .value = &options.mode},
                                        {"k", .value = &options.k},
                                        {"filter", .value = &options.filter},
                                        {"output", .value = &options.file}};
    if (argc > 1 && strcmp(argv[1], "source") == 0)
        return command_knowledge_source(argc - 1, argv + 1);
    if (!command_parse_options("knowledge", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    const char *verb = argc > 1 ? argv[1] : "list";
    for (size_t i = 0; i < COUNT_OF(verbs); i++)
        if (strcmp(verb, verbs[i].name) == 0)
            return verbs[i].run(argc, argv);
    if (strcmp(verb, "list") == 0)
        return noun_list(&noun, noun.path, 10000, options.json);
    if (strcmp(verb, "show") == 0 && argc == 3)
        return noun_show(&noun, argv[2], options.json);
    if (strcmp(verb, "delete") == 0 && argc == 3)
        return noun_delete(&noun, argv[2]);
    return command_usage_error("knowledge", "'%s' is not understood here", verb);
}
