/* EPUB: the chapters of the package's spine, each HTML, in order. */
#include "knowledge/extract_office.h"

#define ITEMS_MAX 10000

struct item {
    struct str id, path;
};

struct epub {
    struct reader *reader;
    struct str package; /* path of the .opf file */
    struct str folder;
    struct item *items;
    size_t item_count;
    struct str *spine; /* ids */
    size_t spine_count;
};

static enum rc container_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct epub *epub = arg;
    if (str_eq(name, STR("rootfile")) && !epub->package.n)
        epub->package = arena_copy(epub->reader->arena, xml_attribute(attributes, "full-path"));
    return RC_OK;
}

/* "chapter%201.xhtml" */
static struct str decode_path(struct arena *arena, struct str path)
{
    struct str copy = arena_copy(arena, path);
    char *p = (char *)copy.p;
    size_t n = 0;
    for (size_t i = 0; i < copy.n; i++) {
        unsigned value = 0;
        int digits = 0;
        for (; p[i] == '%' && digits < 2 && i + 1 + (size_t)digits < copy.n; digits++) {
            char c = (char)(p[i + 1 + (size_t)digits] | 0x20);
            if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
                break;
            value = value * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        i += digits == 2 ? 2 : 0;
        p[n++] = digits == 2 ? (char)value : p[i];
    }
    return str_make(p, n);
}

static enum rc package_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct epub *epub = arg;
    struct arena *arena = epub->reader->arena;
    if (epub->item_count >= ITEMS_MAX || epub->spine_count >= ITEMS_MAX)
        return err_set(epub->reader->err, ERR_TOO_LARGE, "the book has too many parts");
    if (str_eq(name, STR("item"))) {
        epub->items = office_grow(arena, epub->items, epub->item_count, sizeof(*epub->items));
        if (!epub->items)
            return reader_no_memory(epub->reader);
        struct str path = decode_path(arena, xml_attribute(attributes, "href"));
        epub->items[epub->item_count++] =
            (struct item){.id = arena_copy(arena, xml_attribute(attributes, "id")),
                          .path = office_resolve(arena, epub->folder, path)};
    } else if (str_eq(name, STR("itemref")) &&
               !str_eq(xml_attribute(attributes, "linear"), STR("no"))) {
        epub->spine = office_grow(arena, epub->spine, epub->spine_count, sizeof(*epub->spine));
        if (!epub->spine)
            return reader_no_memory(epub->reader);
        epub->spine[epub->spine_count++] = arena_copy(arena, xml_attribute(attributes, "idref"));
    }
    return RC_OK;
}

static enum rc read_chapter(struct epub *epub, struct zip *zip, struct str id)
{
    for (size_t i = 0; i < epub->item_count; i++) {
        if (!str_eq(epub->items[i].id, id))
            continue;
        struct str text;
        enum rc rc = zip_read(zip, epub->items[i].path, &text);
        return rc == RC_OK && text.n ? read_html_part(epub->reader, text, STR_EMPTY) : rc;
    }
    return RC_OK;
}

enum rc read_epub(struct reader *reader, struct str bytes)
{
    struct zip zip;
    struct epub epub = {.reader = reader};
    struct str text;
    enum rc rc = zip_open(reader, bytes, &zip);
    if (rc == RC_OK)
        rc = zip_read(&zip, STR("META-INF/container.xml"), &text);
    if (rc == RC_OK)
        rc = xml_parse(reader, "the container", text, &(struct xml_calls){.open = container_opened},
                       &epub);
    if (rc == RC_OK)
        rc = zip_read(&zip, epub.package, &text);
    if (rc == RC_OK && !text.n)
        rc = err_set(reader->err, ERR_INVALID, "the archive is no book: it has no package");
    if (rc != RC_OK)
        return rc;
    ssize_t slash = str_rfind_char(epub.package, '/');
    epub.folder = slash < 0 ? STR_EMPTY : str_slice(epub.package, 0, (size_t)slash);
    office_properties(&zip, epub.package);
    rc = xml_parse(reader, "the package", text, &(struct xml_calls){.open = package_opened}, &epub);
    for (size_t i = 0; i < epub.spine_count && rc == RC_OK; i++)
        rc = read_chapter(&epub, &zip, epub.spine[i]);
    return rc;
}
