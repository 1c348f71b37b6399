/* The kernels at one vector width. Included by kernels_*.c, which define
 *   VECTOR_BYTES      16, 32 or 64
 *   KERNEL            the attribute of every function: the target's instructions
 *   VECTOR_MAX(a, b)  the greater of each lane, where one instruction does it
 *   TILE_ROWS         rows of a tile, 4, 6 or 12: sums (two vectors a row), a panel's two vectors
 *                     and one input must fit the registers
 * Written with the compiler's vector types: `+` and `*` become fused multiply-adds. */
#include "encoder/kernels.h"
#include <math.h>
#include <string.h>

#define LANES         (VECTOR_BYTES / 4)
#define PANEL_COLUMNS (2 * LANES)
#define INLINE        KERNEL static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ivector __attribute__((vector_size(VECTOR_BYTES)));
typedef float vector_at __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

INLINE vector load(const float *p) { return *(const vector_at *)p; }
INLINE void store(float *p, vector v) { *(vector_at *)p = v; }
INLINE vector splat(float x) { return x - (vector){0}; }

/* The first n lanes, the others `rest`. */
INLINE vector load_some(const float *p, size_t n, float rest)
{
    vector v = splat(rest);
    memcpy(&v, p, n * sizeof(float));
    return v;
}

INLINE void store_some(float *p, vector v, size_t n) { memcpy(p, &v, n * sizeof(float)); }

INLINE float sum_of(vector v)
{
    float sums[LANES];
    store(sums, v);
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            sums[i] += sums[i + width];
    return sums[0];
}

INLINE vector greater(vector a, vector b)
{
#ifdef VECTOR_MAX
    return (vector)VECTOR_MAX(a, b);
#else
    ivector mask = a > b;
    return (vector)((mask & (ivector)a) | (~mask & (ivector)b));
#endif
}

INLINE vector less(vector a, vector b) { return -greater(-a, -b); }

INLINE float max_of(vector v)
{
    float values[LANES], max;
    store(values, v);
    max = values[0];
    for (size_t i = 1; i < LANES; i++)
        max = values[i] > max ? values[i] : max;
    return max;
}

/* ---- f32 products ---- */

/* Where a tile's sums go, and what is done to them on the way. */
struct tile_to {
    float *c; /* of the tile's first row and column */
    size_t ldc;
    const float *bias;
    const struct quantized_row *quantized; /* int8: of the first row */
    const float *scales, *sums;            /* int8: of the panel */
};

typedef void tile_function(const float *a, size_t lda, const uint8_t *b, size_t groups,
                           const struct tile_to *to);

#define TILE(n)            tile_f32_##n
#define TILE_TARGET        KERNEL
#define TILE_WORD          float
#define TILE_VECTOR        vector
#define TILE_SPLAT(w)      splat(w)
#define TILE_STEP(s, x, b) s += (x) * (b)
#define TILE_END(r, low, high)                                                                     \
    store(to->c + r * to->ldc, low + load(to->bias));                                              \
    store(to->c + r * to->ldc + LANES, high + load(to->bias + LANES));
#include "encoder/kernels_tile.h"

#if TILE_ROWS == 12
#define TILE_LIST(name)                                                                            \
    {name(1), name(2), name(3), name(4),  name(5),  name(6),                                       \
     name(7), name(8), name(9), name(10), name(11), name(12)}
#elif TILE_ROWS == 6
#define TILE_LIST(name) {name(1), name(2), name(3), name(4), name(5), name(6)}
#else
#define TILE_LIST(name) {name(1), name(2), name(3), name(4)}
#endif

#define TILE(n) tile_f32_##n
static tile_function *const TILES_F32[] = TILE_LIST(TILE);
#undef TILE

KERNEL static void tile_f32(size_t rows, const float *a, size_t lda, const float *b, size_t k,
                            float *c, size_t ldc)
{
    static const float zeros[PANEL_COLUMNS];
    TILES_F32[rows - 1](a, lda, (const uint8_t *)b, k,
                        &(struct tile_to){.c = c, .ldc = ldc, .bias = zeros});
}

/* Panel after panel, and for each all rows: the panel stays in the nearest cache. */
KERNEL static void multiply_f32(const float *a, size_t lda, size_t rows, const struct packed *w,
                                float *c, size_t ldc)
{
    const uint8_t *b = w->panels;
    for (size_t column = 0; column < w->panel_count * PANEL_COLUMNS; column += PANEL_COLUMNS) {
        for (size_t r = 0; r < rows; r += TILE_ROWS)
            TILES_F32[MIN(TILE_ROWS, rows - r) - 1](
                a + r * lda, lda, b, w->in,
                &(struct tile_to){.c = c + r * ldc + column, .ldc = ldc, .bias = w->bias + column});
        b += w->in * 2 * VECTOR_BYTES;
    }
}

/* ---- rows ---- */

KERNEL static void add_norm(float *x, const float *y, size_t n, const float *scale,
                            const float *shift, float epsilon)
{
    vector sums = splat(0), squares = splat(0);
    for (size_t i = 0; i < n; i += LANES) {
        size_t some = MIN(LANES, n - i);
        vector v = some == LANES ? load(x + i) : load_some(x + i, some, 0);
        if (y)
            v += some == LANES ? load(y + i) : load_some(y + i, some, 0);
        sums += v;
        store_some(x + i, v, some);
    }
    float mean = sum_of(sums) / (float)n;
    for (size_t i = 0; i < n; i += LANES) {
        size_t some = MIN(LANES, n - i);
        vector v = (some == LANES ? load(x + i) : load_some(x + i, some, mean)) - splat(mean);
        squares += v * v;
    }
    float factor = 1 / sqrtf(sum_of(squares) / (float)n + epsilon);
    for (size_t i = 0; i < n; i += LANES) {
        size_t some = MIN(LANES, n - i);
        if (some == LANES)
            store(x + i,
                  (load(x + i) - splat(mean)) * splat(factor) * load(scale + i) + load(shift + i));
        else
            store_some(x + i,
                       (load_some(x + i, some, 0) - splat(mean)) * splat(factor) *
                               load_some(scale + i, some, 0) +
                           load_some(shift + i, some, 0),
                       some);
    }
}

/* x/2 · (1 + erf(x/√2)). erf(x/√2)/x is even: a polynomial in t = 2x²/L² − 1 on |x| <= L = 5, found
 * by minimising the greatest error of the product; that is 2.2e-6 there, 5.4e-7 of x beyond. */
INLINE vector gelu_of(vector x)
{
    static const float C[] = {
        0.28272750973701477f,   -0.14059646427631378f,  0.1030508279800415f,
        -0.08078395575284958f,  0.06271303445100784f,   -0.04724979028105736f,
        0.033821944147348404f,  -0.020331859588623047f, 0.010223880410194397f,
        -0.007771845906972885f, 0.006390342954546213f,  -0.002193853259086609f};
    vector z = greater(less(x, splat(5)), splat(-5));
    vector t = z * z * splat(2.0f / 25) - splat(1);
    vector p = splat(C[COUNT_OF(C) - 1]);
#pragma GCC unroll 16
    for (int i = (int)COUNT_OF(C) - 2; i >= 0; i--)
        p = p * t + splat(C[i]);
    vector half = x * splat(0.5f);
    return half * (z * p) + half;
}

KERNEL static void gelu(float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(x + i, gelu_of(load(x + i)));
    if (i < n)
        store_some(x + i, gelu_of(load_some(x + i, n - i, 0)), n - i);
}

/* exp for x <= 0: 2^n · exp(r), |r| <= ln 2 / 2, exp(r) by its series to r^6 with the last
 * coefficients moved to spread the error (relative 3e-7). Below -87: 0 as good as exactly. */
INLINE vector exp_of(vector x)
{
    const float round = 12582912.0f; /* 1.5 · 2^23: adding it rounds to a whole number */
    x = greater(x, splat(-87));
    vector n = x * splat(1.44269504f) + splat(round);
    ivector exponent = ((ivector)n - (ivector)splat(round) + 127) << 23;
    n -= splat(round);
    vector r = x - n * splat(0.693359375f) + n * splat(2.12194440e-4f);
    vector p = splat(1.0f / 720);
    p = p * r + splat(1.0f / 120);
    p = p * r + splat(1.0f / 24);
    p = p * r + splat(1.0f / 6);
    p = p * r + splat(0.5f);
    p = p * r + splat(1);
    p = p * r + splat(1);
    return p * (vector)exponent;
}

KERNEL static float exponentials(float *x, size_t n)
{
    size_t whole = n / LANES * LANES;
    vector max = splat(-INFINITY), sum = splat(0);
    for (size_t i = 0; i < whole; i += LANES)
        max = greater(max, load(x + i));
    if (whole < n)
        max = greater(max, load_some(x + whole, n - whole, -INFINITY));
    vector greatest = splat(max_of(max));
    for (size_t i = 0; i < whole; i += LANES) {
        vector v = exp_of(load(x + i) - greatest);
        store(x + i, v);
        sum += v;
    }
    if (whole < n) {
        vector v = exp_of(load_some(x + whole, n - whole, 0) - greatest);
        store_some(x + whole, v, n - whole);
        sum += load_some(x + whole, n - whole, 0);
    }
    return sum_of(sum);
}

KERNEL static void scale(const float *x, size_t n, float factor, float *out)
{
    size_t whole = n / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        store(out + i, load(x + i) * splat(factor));
    for (size_t i = whole; i < n; i++)
        out[i] = x[i] * factor;
}

#define KERNELS_F32                                                                                \
    .panel_columns = PANEL_COLUMNS, .tile_rows = TILE_ROWS, .multiply_f32 = multiply_f32,          \
    .tile_f32 = tile_f32, .add_norm = add_norm, .gelu = gelu, .exponentials = exponentials,        \
    .scale = scale
