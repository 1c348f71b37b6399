/* What the office formats share: relations between parts, and the title. */
#pragma once
#include "knowledge/extract_xml.h"
#include "knowledge/extract_zip.h"

struct relation {
    struct str id, type, target; /* target: a path within the archive */
};

struct relations {
    struct relation *items;
    size_t count;
};

/* Of a part such as "ppt/presentation.xml", from "ppt/_rels/presentation.xml.rels"; none is fine.
 */
enum rc office_relations(struct zip *zip, struct str part, struct relations *out) MUST_CHECK;
/* By id; empty: there is none. */
struct str office_target(const struct relations *relations, struct str id);
/* By the end of the type; empty: there is none. */
struct str office_target_of_type(const struct relations *relations, struct str type);
/* Sets title and language from docProps/core.xml or meta.xml; broken ones are passed over. */
void office_properties(struct zip *zip, struct str part);
/* `folder/name` with "." and ".." resolved; empty when it climbs out. */
struct str office_resolve(struct arena *arena, struct str folder, struct str name);
/* Arena array growth: at least one more item fits, or NULL. */
void *office_grow(struct arena *arena, void *items, size_t count, size_t item_bytes);
