/* Presets: prefilled nodes and tools (presets.yaml), with the base addresses of the configuration
 * file in them. Any thread. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

/* What presets ask; of the configuration file (pipelines.services). Empty: there is none. */
struct preset_services {
    struct str wikipedia, arxiv, search;
};

#define PRESET_WIKIPEDIA "https://en.wikipedia.org"
#define PRESET_ARXIV     "https://export.arxiv.org"

/* {"items": [{name, title, summary, icon, type, config, service, available}], "next_cursor"} */
enum rc presets_json(const struct preset_services *services, struct arena *arena, struct str *out,
                     struct err *err) MUST_CHECK;
