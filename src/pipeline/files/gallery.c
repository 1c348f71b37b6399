/* The table of templates stands in a file that the build makes of theirs (scripts/embed-text). */
#include "pipeline/files/gallery.h"

const struct gallery_entry *gallery_find(struct str name)
{
    for (size_t i = 0; i < GALLERY_COUNT; i++)
        if (str_eq(name, str_from(GALLERY[i].name)))
            return &GALLERY[i];
    return NULL;
}
