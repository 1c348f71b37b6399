/* What is known of each provider that speaks one of our formats: where it is, how it wants its
 * credential and in what it differs. Differences live in provider_rows.h and provider_quirks.h, not
 * in branches on names: code asks for a quirk. Constant data, any thread. */
#pragma once
#include "base/str.h"

enum provider_auth {
    PROVIDER_AUTH_NONE,
    PROVIDER_AUTH_BEARER,    /* authorization: Bearer SECRET */
    PROVIDER_AUTH_API_KEY,   /* api-key: SECRET */
    PROVIDER_AUTH_X_API_KEY, /* x-api-key: SECRET */
};

enum provider_quirk_index {
#define QUIRK(name, text) PROVIDER_QUIRK_INDEX_##name,
#include "gateway/provider_quirks.h"
#undef QUIRK
    PROVIDER_QUIRK_COUNT
};

enum {
#define QUIRK(name, text) PROVIDER_##name = 1u << PROVIDER_QUIRK_INDEX_##name,
#include "gateway/provider_quirks.h"
#undef QUIRK
};

struct provider_row {
    struct str name;        /* the `format` of a provider's configuration */
    struct str title;       /* for people */
    struct str base_url;    /* default; empty: must be configured (engine: none) */
    struct str path_prefix; /* before "/chat/completions", "/messages" … */
    unsigned formats;       /* bits 1 << enum wire_format that it speaks */
    enum provider_auth auth;
    unsigned quirks;            /* PROVIDER_… */
    struct str reasoning_field; /* chat's name for reasoning text in requests; empty: takes none */
    struct str source;          /* public page that says so */
};

/* NULL: no such row. */
const struct provider_row *provider_row_find(struct str name);
const struct provider_row *provider_rows(size_t *count);
/* Why the row differs, for people: the text of quirk `index` (below PROVIDER_QUIRK_COUNT). */
const char *provider_quirk_text(size_t index);
