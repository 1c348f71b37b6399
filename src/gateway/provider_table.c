/* The provider table's data and look-ups. */
#include "gateway/provider_table.h"
#include "gateway/wire.h"

enum {
    CHAT = 1 << WIRE_OPENAI_CHAT,
    RESPONSES = 1 << WIRE_OPENAI_RESPONSES,
    ANTHROPIC = 1 << WIRE_ANTHROPIC,
};

/* The rows' quirks by their short names. */
enum {
#define QUIRK(name, text) name = PROVIDER_##name,
#include "gateway/provider_quirks.h"
#undef QUIRK
};

static const struct provider_row rows[] = {
#define PROVIDER(name_, title_, url_, prefix_, formats_, auth_, quirks_, reasoning_, source_)      \
    {.name = STR_INIT(name_),                                                                      \
     .title = STR_INIT(title_),                                                                    \
     .base_url = STR_INIT(url_),                                                                   \
     .path_prefix = STR_INIT(prefix_),                                                             \
     .formats = (formats_),                                                                        \
     .auth = PROVIDER_AUTH_##auth_,                                                                \
     .quirks = (quirks_),                                                                          \
     .reasoning_field = STR_INIT(reasoning_),                                                      \
     .source = STR_INIT(source_)},
#include "gateway/provider_rows.h"
#undef PROVIDER
};

static const char *const quirk_texts[PROVIDER_QUIRK_COUNT] = {
#define QUIRK(name, text) text,
#include "gateway/provider_quirks.h"
#undef QUIRK
};

const struct provider_row *provider_row_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (str_eq(rows[i].name, name))
            return &rows[i];
    return NULL;
}

const struct provider_row *provider_rows(size_t *count)
{
    *count = COUNT_OF(rows);
    return rows;
}

const char *provider_quirk_text(size_t index)
{
    ASSERT(index < PROVIDER_QUIRK_COUNT);
    return quirk_texts[index];
}
