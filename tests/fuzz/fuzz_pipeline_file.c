/* Files of pipelines, our own and Dify's: whatever stands in one, reading ends within its arena,
 * what comes of it can be checked, and our own form of it reads back as the same definition. */
#include "pipeline/files/file.h"
#include "text/json_tree.h"

#define ARENA_BYTES_MAX (256 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct pipeline_file file, back;
    struct findings findings;
    struct err err = {0};
    struct str text;
    if (size > 256 * 1024)
        return 0;
    arena_init(&arena, ARENA_BYTES_MAX);
    if (pipeline_file_read(str_make(data, size), NULL, &arena, &file, &err) == RC_OK) {
        findings_init(&findings, &arena);
        struct document *document = document_read(file.definition, &arena, &findings);
        if (document)
            document_check(document, &findings);
        if (pipeline_file_write(&file, &arena, &text, &err) == RC_OK) {
            enum rc rc = pipeline_file_read(text, NULL, &arena, &back, &err);
            ASSERT(rc == RC_OK && yyjson_equals(file.definition, back.definition));
        }
    }
    arena_fini(&arena);
    return 0;
}
