/* The product of bytes from its tiles, tile_int8_1 to tile_int8_TILE_ROWS. Included by the sets of
 * kernels that have them, with TILE(n) naming them and INT8_TARGET their attribute. */
static void (*const TILES_INT8[])(const int32_t *, size_t, const uint8_t *, size_t,
                                  const struct tile_to *) = TILE_LIST(TILE);
#undef TILE

INT8_TARGET static void multiply_int8(const uint8_t *a, size_t lda,
                                      const struct quantized_row *quantized, size_t rows,
                                      const struct packed *w, float *c, size_t ldc)
{
    const int32_t *words = (const int32_t *)(const void *)a; /* rows are aligned to words */
    const uint8_t *b = w->panels;
    for (size_t column = 0; column < w->panel_count * PANEL_COLUMNS; column += PANEL_COLUMNS) {
        for (size_t r = 0; r < rows; r += TILE_ROWS)
            TILES_INT8[MIN(TILE_ROWS, rows - r) - 1](words + r * lda / 4, lda / 4, b, w->in / 4,
                                                     &(struct tile_to){.c = c + r * ldc + column,
                                                                       .ldc = ldc,
                                                                       .bias = w->bias + column,
                                                                       .quantized = quantized + r,
                                                                       .scales = w->scales + column,
                                                                       .sums = w->sums + column});
        b += w->in / 4 * 2 * VECTOR_BYTES;
    }
}
