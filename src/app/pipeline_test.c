/* capstan pipeline test and record: recorded runs of a file or of a pipeline on a server, replayed
 * here, without a server and without a model. */
#include "app/nouns_pipeline.h"
#include "pipeline/files/file.h"
#include "pipeline/files/gallery.h"
#include "pipeline/engine/replay.h"
#include "text/json_tree.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_ARENA_BYTES_MAX (512 * 1024 * 1024)
#define SERVER_RUNS_MAX      20

static const struct noun test_noun = {.command = "pipeline", .path = "/api/pipelines"};

struct testing {
    const char *what;
    struct arena arena;
    struct pipeline_file file;
    bool update, json;
    int passed, failed;
};

static bool read_file(struct testing *testing, struct str text, const char *name)
{
    struct err err = {0};
    if (pipeline_file_read(text, NULL, &testing->arena, &testing->file, &err) == RC_OK)
        return true;
    fprintf(stderr, "capstan pipeline: %s: %s\n", name, err.message);
    return false;
}

static bool write_file(struct testing *testing, const char *name)
{
    struct err err = {0};
    struct str text;
    if (pipeline_file_write(&testing->file, &testing->arena, &text, &err) != RC_OK) {
        fprintf(stderr, "capstan pipeline: %s: %s\n", name, err.message);
        return false;
    }
    FILE *out = fopen(name, "wb");
    bool ok = out && fwrite(text.p, 1, text.n, out) == text.n;
    ok = out && fclose(out) == 0 && ok;
    if (!ok)
        fprintf(stderr, "capstan pipeline: %s: %s\n", name, strerror(errno));
    return ok;
}

/* What the run comes to now, put in the recording's place. */
static void update(struct testing *testing, yyjson_mut_doc *doc, yyjson_mut_val *recording,
                   yyjson_val *got)
{
    static const char *const members[] = {"status", "text", "outputs"};
    for (size_t i = 0; i < COUNT_OF(members); i++)
        yyjson_mut_obj_put(recording, yyjson_mut_str(doc, members[i]),
                           yyjson_val_mut_copy(doc, yyjson_obj_get(got, members[i])));
}

static void test_one(struct testing *testing, struct str definition, yyjson_val *recording,
                     yyjson_mut_doc *doc, yyjson_mut_val *changed)
{
    struct replay_result result = {0};
    struct err err = {0};
    struct str name = json_get_text(recording, "name");
    bool ran = replay_recording(definition, recording, &testing->arena, &result, &err) == RC_OK;
    bool good = ran && (result.same || testing->update);
    testing->passed += good;
    testing->failed += !good;
    if (ran && testing->update)
        update(testing, doc, changed, result.got);
    FILE *out = testing->json ? stderr : stdout;
    fprintf(out, "%s  %s: %.*s\n",
            !good             ? "failed"
            : testing->update ? "kept  "
                              : "ok    ",
            testing->what, STR_ARG(name));
    if (!ran)
        fprintf(out, "  %s%s%s\n", err.field, err.field[0] ? ": " : "", err.message);
    else if (!good)
        fprintf(out, "%.*s", STR_ARG(result.about));
}

/* Replays every recording of the file. */
static void test_file(struct testing *testing)
{
    struct str definition = json_write(testing->file.definition, &testing->arena);
    yyjson_mut_doc *doc = json_tree_new(&testing->arena);
    yyjson_mut_val *changed = yyjson_mut_arr(doc), *copy;
    size_t i, n;
    yyjson_val *recording;
    yyjson_arr_foreach(testing->file.recordings, i, n, recording)
    {
        copy = yyjson_val_mut_copy(doc, recording);
        test_one(testing, definition, recording, doc, copy);
        yyjson_mut_arr_append(changed, copy);
    }
    yyjson_doc *frozen = json_freeze(changed, &testing->arena);
    if (testing->update && frozen)
        testing->file.recordings = yyjson_doc_get_root(frozen);
}

static void count_nothing(struct testing *testing)
{
    if (testing->passed + testing->failed)
        return;
    fprintf(stderr,
            "capstan pipeline: %s has no recorded runs: 'capstan pipeline record RUN --file "
            "FILE' keeps one\n",
            testing->what);
    testing->failed++;
}

static int report(const struct testing *testing)
{
    if (testing->json)
        printf("{\"passed\": %d, \"failed\": %d}\n", testing->passed, testing->failed);
    else
        printf("%d passed, %d failed\n", testing->passed, testing->failed);
    return testing->failed ? EXIT_FAILED : EXIT_OK;
}

/* ---- a server's runs ---- */

static bool fetch(struct testing *testing, const char *path, yyjson_val **out)
{
    struct client_reply reply;
    if (!client_request("pipeline", "GET", path, STR_EMPTY, STR_EMPTY, &reply))
        return false;
    yyjson_doc *doc;
    struct err err = {0};
    struct str text = arena_copy(&testing->arena, reply.body);
    bool ok = json_read(text, &testing->arena, &doc, &err) == RC_OK;
    *out = ok ? yyjson_doc_get_root(doc) : NULL;
    client_reply_free(&reply);
    return ok;
}

static bool fetch_run(struct testing *testing, const char *id, struct str name, yyjson_val **out)
{
    char path[160];
    yyjson_val *run;
    snprintf(path, sizeof(path), "/api/runs/%.100s", id);
    if (!fetch(testing, path, &run))
        return false;
    *out = replay_record(run, name, &testing->arena);
    return *out != NULL;
}

/* The last runs that succeeded, as recordings of the version. */
static bool fetch_pipeline(struct testing *testing, const char *name, const char *version)
{
    char suffix[200], path[1200];
    yyjson_val *root, *runs, *item, *recording;
    size_t i, n;
    snprintf(suffix, sizeof(suffix), "/versions/%.150s", version ? version : "draft");
    if (!fetch(testing, noun_path(&test_noun, name, suffix), &root))
        return false;
    snprintf(path, sizeof(path), "/api/runs?pipeline=%.1000s&status=succeeded&limit=%d", name,
             SERVER_RUNS_MAX);
    if (!fetch(testing, path, &runs))
        return false;
    yyjson_mut_doc *doc = json_tree_new(&testing->arena);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_arr_foreach(yyjson_obj_get(runs, "items"), i, n, item)
    {
        const char *id = yyjson_get_str(yyjson_obj_get(item, "id"));
        if (!fetch_run(testing, id, str_from(id), &recording))
            return false;
        yyjson_mut_arr_append(list, yyjson_val_mut_copy(doc, recording));
    }
    testing->file.definition = yyjson_obj_get(root, "definition");
    testing->file.recordings = yyjson_doc_get_root(json_freeze(list, &testing->arena));
    return testing->file.definition != NULL;
}

/* ---- commands ---- */

static void test_gallery(struct testing *testing)
{
    for (size_t i = 0; i < GALLERY_COUNT; i++) {
        testing->what = GALLERY[i].name;
        testing->file = (struct pipeline_file){0};
        int before = testing->passed + testing->failed;
        if (!read_file(testing, GALLERY[i].text, testing->what))
            testing->failed++;
        else
            test_file(testing);
        if (testing->passed + testing->failed == before) { /* each template has a recorded run */
            fprintf(stderr, "capstan pipeline: %s has no recorded run\n", testing->what);
            testing->failed++;
        }
    }
}

int pipeline_test(const char *what, const char *version, bool gallery, bool keep, bool json)
{
    struct testing testing = {.what = what, .update = keep, .json = json};
    bool ok = true, is_file = what && pipeline_is_file(what);
    size_t n;
    arena_init(&testing.arena, FILE_ARENA_BYTES_MAX);
    if (gallery) {
        test_gallery(&testing);
    } else {
        char *text = is_file ? pipeline_read_file(what, &n) : NULL;
        ok = is_file ? text && read_file(&testing, str_make(text, n), what)
                     : fetch_pipeline(&testing, what, version);
        if (ok) {
            test_file(&testing);
            count_nothing(&testing);
        }
        if (ok && keep && is_file)
            ok = write_file(&testing, what);
        free(text);
    }
    int status = ok ? report(&testing) : EXIT_FAILED;
    arena_fini(&testing.arena);
    return status;
}

/* Adds a run to a file's recordings; a file that is not there begins with the run's definition. */
static bool record(struct testing *testing, const char *id, const char *file, const char *name)
{
    char path[160], suffix[64];
    yyjson_val *run, *recording, *version;
    size_t n;
    snprintf(path, sizeof(path), "/api/runs/%.100s", id);
    if (!fetch(testing, path, &run))
        return false;
    char *text = NULL;
    FILE *there = fopen(file, "rb");
    if (there) {
        fclose(there);
        text = pipeline_read_file(file, &n);
        if (!text || !read_file(testing, arena_copy(&testing->arena, str_make(text, n)), file)) {
            free(text);
            return false;
        }
        free(text);
    } else {
        int64_t number = json_get_int(run, "version", 0);
        snprintf(suffix, sizeof(suffix), number ? "/versions/%lld" : "/versions/draft",
                 (long long)number);
        const char *pipeline = yyjson_get_str(yyjson_obj_get(run, "pipeline"));
        if (!fetch(testing, noun_path(&test_noun, pipeline ? pipeline : "", suffix), &version))
            return false;
        testing->file.name = json_get_text(run, "pipeline");
        testing->file.definition = yyjson_obj_get(version, "definition");
    }
    recording = replay_record(run, str_from(name ? name : id), &testing->arena);
    yyjson_mut_doc *doc = json_tree_new(&testing->arena);
    yyjson_mut_val *list = testing->file.recordings
                               ? yyjson_val_mut_copy(doc, testing->file.recordings)
                               : yyjson_mut_arr(doc);
    yyjson_mut_arr_append(list, yyjson_val_mut_copy(doc, recording));
    testing->file.recordings = yyjson_doc_get_root(json_freeze(list, &testing->arena));
    return write_file(testing, file);
}

int pipeline_record(const char *id, const char *file, const char *name)
{
    struct testing testing = {.what = file};
    if (!file)
        return command_usage_error("pipeline", "record needs --file");
    arena_init(&testing.arena, FILE_ARENA_BYTES_MAX);
    bool ok = record(&testing, id, file, name);
    arena_fini(&testing.arena);
    if (ok)
        printf("recorded in %s: 'capstan pipeline test %s' replays it\n", file, file);
    return ok ? EXIT_OK : EXIT_FAILED;
}
