/* tests/data/encoder/…json: what the reference implementations make of some texts. */
#pragma once
#include "test.h"
#include "encoder/read_file.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

#define DATA_FOLDER "/../data/encoder"

static inline const char *expected_path(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s" DATA_FOLDER "/%s", getenv("TEST_FOLDER"), name);
    return path;
}

static inline yyjson_val *expected_read(struct arena *arena, const char *name)
{
    struct str text;
    struct err err;
    yyjson_doc *doc;
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s" DATA_FOLDER, getenv("TEST_FOLDER"));
    assert_int_equal(read_file_if_there(folder, name, 1 << 22, arena, &text, &err), RC_OK);
    assert_non_null(text.p);
    assert_int_equal(json_read(text, arena, &doc, &err), RC_OK);
    return yyjson_doc_get_root(doc);
}
