/* A product's tile: some rows of inputs times one panel, the sums kept in registers throughout.
 * Included by a set of kernels once for each precision, after defining
 *   TILE(n)          the function for n rows, 1 to TILE_ROWS
 *   TILE_TARGET      its attribute
 *   TILE_WORD        one group of inputs: float, or int32_t for two bf16 or four bytes
 *   TILE_VECTOR      what holds sums and what is loaded
 *   TILE_SPLAT(w)    a word in all lanes
 *   TILE_STEP(s, x, b)  s += x · b
 *   TILE_END(r, low, high)  what becomes of row r's sums; may use `to`
 * Rows are named one by one: compilers keep an array of sums in memory, not in registers. Their
 * inputs are read relative to every third row, so that few registers are needed for addresses. */
#ifndef ROWS_1
#define WORD_0  p0[0]
#define WORD_1  p0[lda]
#define WORD_2  p0[2 * lda]
#define WORD_3  p1[0]
#define WORD_4  p1[lda]
#define WORD_5  p1[2 * lda]
#define WORD_6  p2[0]
#define WORD_7  p2[lda]
#define WORD_8  p2[2 * lda]
#define WORD_9  p3[0]
#define WORD_10 p3[lda]
#define WORD_11 p3[2 * lda]

#define ROWS_1(X)  X(0)
#define ROWS_2(X)  ROWS_1(X) X(1)
#define ROWS_3(X)  ROWS_2(X) X(2)
#define ROWS_4(X)  ROWS_3(X) X(3)
#define ROWS_5(X)  ROWS_4(X) X(4)
#define ROWS_6(X)  ROWS_5(X) X(5)
#define ROWS_7(X)  ROWS_6(X) X(6)
#define ROWS_8(X)  ROWS_7(X) X(7)
#define ROWS_9(X)  ROWS_8(X) X(8)
#define ROWS_10(X) ROWS_9(X) X(9)
#define ROWS_11(X) ROWS_10(X) X(10)
#define ROWS_12(X) ROWS_11(X) X(11)
#endif

#define TILE_BEGIN(r) TILE_VECTOR low##r = {0}, high##r = {0};
#define TILE_ROW(r)                                                                                \
    {                                                                                              \
        TILE_VECTOR x = TILE_SPLAT(WORD_##r);                                                      \
        TILE_STEP(low##r, x, low);                                                                 \
        TILE_STEP(high##r, x, high);                                                               \
    }
#define TILE_FINISH(r) TILE_END(r, low##r, high##r)

/* a: rows of `groups` words, lda words apart; b: the panel. */
#define TILE_DEFINE(n)                                                                             \
    TILE_TARGET static void TILE(n)(const TILE_WORD *a, size_t lda, const uint8_t *b,              \
                                    size_t groups, const struct tile_to *to)                       \
    {                                                                                              \
        const TILE_WORD *p0 = a, *p1 = a + 3 * lda, *p2 = p1 + 3 * lda, *p3 = p2 + 3 * lda;        \
        UNUSED(p1), UNUSED(p2), UNUSED(p3);                                                        \
        ROWS_##n(TILE_BEGIN) for (size_t i = 0; i < groups; i++)                                   \
        {                                                                                          \
            TILE_VECTOR low, high;                                                                 \
            memcpy(&low, b, VECTOR_BYTES);                                                         \
            memcpy(&high, b + VECTOR_BYTES, VECTOR_BYTES);                                         \
            ROWS_##n(TILE_ROW) b += 2 * VECTOR_BYTES;                                              \
            p0++, p1++, p2++, p3++;                                                                \
        }                                                                                          \
        ROWS_##n(TILE_FINISH)                                                                      \
    }

TILE_DEFINE(1)
TILE_DEFINE(2)
TILE_DEFINE(3)
TILE_DEFINE(4)
#if TILE_ROWS >= 6
TILE_DEFINE(5)
TILE_DEFINE(6)
#endif
#if TILE_ROWS >= 12
TILE_DEFINE(7)
TILE_DEFINE(8)
TILE_DEFINE(9)
TILE_DEFINE(10)
TILE_DEFINE(11)
TILE_DEFINE(12)
#endif

#undef TILE_BEGIN
#undef TILE_ROW
#undef TILE_FINISH
#undef TILE_DEFINE
#undef TILE_TARGET
#undef TILE_WORD
#undef TILE_VECTOR
#undef TILE_SPLAT
#undef TILE_STEP
#undef TILE_END
#undef TILE
