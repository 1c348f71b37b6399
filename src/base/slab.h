/* Connection-lifetime memory: objects of one size, recycled. One thread. */
#pragma once
#include "base/base.h"

struct slab {
    size_t object_bytes;
    size_t count_max; /* 0: no bound of its own */
    size_t count;     /* handed out now */
    void *free_list;
    size_t free_count;
    size_t free_count_max; /* beyond it, memory goes back to the system */
};

void slab_init(struct slab *slab, size_t object_bytes, size_t count_max);
void slab_fini(struct slab *slab);             /* every object must have been given back */
void *slab_take(struct slab *slab) MUST_CHECK; /* cleared; NULL at the bound */
void slab_give(struct slab *slab, void *object);
