/* The kernels for any processor: four lanes, which SSE2 and NEON have always. */
#define VECTOR_BYTES 16
#define TILE_ROWS    4
#define KERNEL
#include "encoder/kernels_body.h"

const struct kernels KERNELS_BASIC = {.name = "basic", KERNELS_F32};
