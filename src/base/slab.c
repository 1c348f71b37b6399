/* Objects of one size, recycled through a free list. Under AddressSanitizer every object goes back
 * to the system at once, so that a use after slab_give is seen. */
#include "base/slab.h"
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define SLAB_FREE_BYTES_MAX 0
#else
#define SLAB_FREE_BYTES_MAX (1024 * 1024)
#endif

struct free_object {
    struct free_object *next;
};

void slab_init(struct slab *slab, size_t object_bytes, size_t count_max)
{
    ASSERT(object_bytes >= sizeof(struct free_object));
    *slab = (struct slab){
        .object_bytes = object_bytes,
        .count_max = count_max,
        .free_count_max = SLAB_FREE_BYTES_MAX / object_bytes,
    };
}

void slab_fini(struct slab *slab)
{
    ASSERT(slab->count == 0);
    while (slab->free_list) {
        struct free_object *object = slab->free_list;
        slab->free_list = object->next;
        free(object);
    }
    slab->free_count = 0;
}

void *slab_take(struct slab *slab)
{
    if (slab->count_max && slab->count >= slab->count_max)
        return NULL;
    struct free_object *object = slab->free_list;
    if (object) {
        slab->free_list = object->next;
        slab->free_count--;
        memset(object, 0, slab->object_bytes);
    } else {
        object = calloc(1, slab->object_bytes);
        if (object == NULL)
            return NULL;
    }
    slab->count++;
    return object;
}

void slab_give(struct slab *slab, void *p)
{
    ASSERT(p != NULL && slab->count > 0);
    slab->count--;
    if (slab->free_count >= slab->free_count_max) {
        free(p);
        return;
    }
    struct free_object *object = p;
    object->next = slab->free_list;
    slab->free_list = object;
    slab->free_count++;
}
