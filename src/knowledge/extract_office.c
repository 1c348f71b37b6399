/* Relations and properties of the zipped office formats (OPC, ECMA-376 part 2; ODF's meta.xml). */
#include "knowledge/extract_office.h"

#define PATH_PARTS_MAX 32

/* Doubles at powers of two, starting with 16: no capacity need be kept. */
void *office_grow(struct arena *arena, void *items, size_t count, size_t item_bytes)
{
    if (count && (count < 16 || (count & (count - 1))))
        return items;
    void *larger = arena_alloc(arena, MAX(count * 2, 16) * item_bytes);
    if (larger && count)
        memcpy(larger, items, count * item_bytes);
    return larger;
}

struct str office_resolve(struct arena *arena, struct str folder, struct str name)
{
    struct str parts[PATH_PARTS_MAX], part, rest;
    size_t count = 0;
    bool absolute = name.n && name.p[0] == '/';
    const struct str both[] = {absolute ? STR_EMPTY : folder, name};
    for (size_t i = 0; i < COUNT_OF(both); i++) {
        rest = both[i];
        while (str_split(&rest, '/', &part)) {
            if (!part.n || str_eq(part, STR(".")))
                continue;
            if (str_eq(part, STR(".."))) {
                if (!count--)
                    return STR_EMPTY;
            } else if (count == PATH_PARTS_MAX) {
                return STR_EMPTY;
            } else {
                parts[count++] = part;
            }
        }
    }
    struct str path = STR_EMPTY;
    for (size_t i = 0; i < count; i++) {
        path = i ? arena_printf(arena, "%.*s/%.*s", STR_ARG(path), STR_ARG(parts[i]))
                 : arena_copy(arena, parts[i]);
        if (!path.p)
            return STR_EMPTY;
    }
    return path;
}

static struct str folder_of(struct str part)
{
    ssize_t slash = str_rfind_char(part, '/');
    return slash < 0 ? STR_EMPTY : str_slice(part, 0, (size_t)slash);
}

struct relation_reader {
    struct zip *zip;
    struct relations *out;
    struct str folder;
};

static enum rc relation_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct relation_reader *reader = arg;
    if (!str_eq(name, STR("Relationship")) ||
        str_eq(xml_attribute(attributes, "TargetMode"), STR("External")))
        return RC_OK;
    struct arena *arena = reader->zip->reader->arena;
    struct relations *out = reader->out;
    out->items = office_grow(arena, out->items, out->count, sizeof(*out->items));
    if (!out->items)
        return reader_no_memory(reader->zip->reader);
    struct relation *relation = &out->items[out->count++];
    relation->id = arena_copy(arena, xml_attribute(attributes, "Id"));
    relation->type = arena_copy(arena, xml_attribute(attributes, "Type"));
    relation->target = office_resolve(arena, reader->folder, xml_attribute(attributes, "Target"));
    return RC_OK;
}

enum rc office_relations(struct zip *zip, struct str part, struct relations *out)
{
    struct str folder = folder_of(part), text;
    struct str file = folder.n ? str_slice(part, folder.n + 1, part.n) : part;
    struct str path = arena_printf(zip->reader->arena, "%.*s%s_rels/%.*s.rels", STR_ARG(folder),
                                   folder.n ? "/" : "", STR_ARG(file));
    *out = (struct relations){0};
    enum rc rc = path.p ? zip_read(zip, path, &text) : reader_no_memory(zip->reader);
    if (rc != RC_OK || !text.n)
        return rc;
    struct relation_reader reader = {zip, out, folder};
    const struct xml_calls calls = {.open = relation_opened};
    return xml_parse(zip->reader, "a list of parts", text, &calls, &reader);
}

struct str office_target(const struct relations *relations, struct str id)
{
    for (size_t i = 0; id.n && i < relations->count; i++)
        if (str_eq(relations->items[i].id, id))
            return relations->items[i].target;
    return STR_EMPTY;
}

struct str office_target_of_type(const struct relations *relations, struct str type)
{
    for (size_t i = 0; i < relations->count; i++)
        if (str_ends(relations->items[i].type, type))
            return relations->items[i].target;
    return STR_EMPTY;
}

struct properties {
    struct reader *reader;
    struct buf text;
    bool in_title, in_language;
};

static enum rc property_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct properties *properties = arg;
    properties->in_title = str_eq(name, STR("title"));
    properties->in_language = str_eq(name, STR("language"));
    buf_clear(&properties->text);
    return RC_OK;
}

static enum rc property_closed(void *arg, struct str name)
{
    struct properties *properties = arg;
    if (properties->in_title)
        reader_set_title(properties->reader, buf_str(&properties->text));
    if (properties->in_language)
        reader_set_language(properties->reader, buf_str(&properties->text));
    properties->in_title = properties->in_language = false;
    return RC_OK;
}

static enum rc property_text(void *arg, struct str text)
{
    struct properties *properties = arg;
    return properties->in_title || properties->in_language ? buf_append(&properties->text, text)
                                                           : RC_OK;
}

void office_properties(struct zip *zip, struct str part)
{
    struct str text;
    struct err *err = zip->reader->err, before = *err;
    struct properties properties = {.reader = zip->reader};
    buf_init(&properties.text, 4096);
    const struct xml_calls calls = {property_opened, property_closed, property_text};
    if (zip_read(zip, part, &text) != RC_OK || !text.n ||
        xml_parse(zip->reader, "the properties", text, &calls, &properties) != RC_OK)
        *err = before;
    buf_fini(&properties.text);
}
