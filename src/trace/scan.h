/* The inner loops of queries: masks over a granule's rows, sums under a mask. A mask has a byte for
 * each row, 0 or 1. Written so that the compiler makes vector code of them, chosen at run time by
 * CPU. */
#pragma once
#include "trace/rowset.h"

/* mask[i] &= lo <= code[i] <= hi, codes unsigned of this width (1, 2, 4), or signed 8 bytes. */
void scan_range(uint8_t *mask, const struct column_view *view, uint32_t n, int64_t lo, int64_t hi);
/* mask[i] &= table[code[i]] */
void scan_table(uint8_t *mask, const struct column_view *view, uint32_t n, const uint8_t *table);
/* mask[i] &= a[i] == code_a || b[i] == code_b; a code < 0 matches nothing. */
void scan_either(uint8_t *mask, const struct column_view *a, int64_t code_a,
                 const struct column_view *b, int64_t code_b, uint32_t n);
/* Clears the bytes of deleted rows; `bits` as in struct rowset, from the granule's first row. */
void scan_deleted(uint8_t *mask, const atomic_uint_least64_t *bits, uint32_t n);
uint32_t scan_count(const uint8_t *mask, uint32_t n);
/* Row numbers whose mask is 1, ascending; `out` has room for n. Returns how many. */
uint32_t scan_select(const uint8_t *mask, uint32_t n, uint16_t *out);
/* The same, faster where few are. */
uint32_t scan_select_few(const uint8_t *mask, uint32_t n, uint16_t *out);
/* Sum of the values of masked rows; `count` is scan_count's. */
int64_t scan_sum(const uint8_t *mask, const struct column_view *view, uint32_t n, uint32_t count);
/* out[i] = mask[i] && !other[i] */
void scan_mask_without(uint8_t *out, const uint8_t *mask, const uint8_t *other, uint32_t n);
/* out[i] = code[i] */
void scan_widen(uint16_t *out, const uint8_t *code, uint32_t n);
/* out[i] = mask[i] && groups[i] == wanted; how many are 1. */
uint32_t scan_mask_group(uint8_t *out, const uint8_t *mask, const uint16_t *groups, uint32_t n,
                         uint16_t wanted);

/* ---- histograms of durations ---- */

/* Logarithmic: 32 steps an octave from 1 µs to 2^31 µs. */
#define HISTOGRAM_BUCKETS 1024u

/* bucket[i] of the value, 0 for durations that did not happen. */
void scan_buckets(uint16_t *bucket, const struct column_view *view, uint32_t n);
/* out[i] = bin[i] × HISTOGRAM_BUCKETS + bucket[i], the bucket being 0 where mask[i] is. */
void scan_bucket_index(uint32_t *out, const uint16_t *bin, const uint16_t *bucket,
                       const uint8_t *mask, uint32_t n);
/* The value below which the share q of all lies, in µs; -1 without values. */
int64_t histogram_quantile(const uint32_t counts[HISTOGRAM_BUCKETS], double q);
