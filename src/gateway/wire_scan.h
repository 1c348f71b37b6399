/* Finding keys in JSON bytes without parsing: what a relayed stream event costs. A key in quotes
 * followed by a colon cannot stand inside a JSON string (its quotes would be escaped), so a hit is
 * a member of some object; only then is the event parsed. */
#pragma once
#include "base/str.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Offset of the needle (2 bytes at least), or -1. Compares its first and last byte with 16 places
 * at once; both are quotes in our needles, whose distance makes false hits rare. */
static inline ssize_t scan_find(struct str s, struct str needle)
{
    size_t at = 0;
    if (s.n < needle.n)
        return -1;
    size_t last = s.n - needle.n; /* last place where it may start */
#if defined(__SSE2__)
    const __m128i head = _mm_set1_epi8(needle.p[0]), tail = _mm_set1_epi8(needle.p[needle.n - 1]);
    for (; at + 16 <= last + 1; at += 16) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(s.p + at));
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(s.p + at + needle.n - 1));
        unsigned hits = (unsigned)_mm_movemask_epi8(
            _mm_and_si128(_mm_cmpeq_epi8(a, head), _mm_cmpeq_epi8(b, tail)));
        for (; hits; hits &= hits - 1) {
            size_t place = at + (size_t)__builtin_ctz(hits);
            if (memcmp(s.p + place, needle.p, needle.n) == 0)
                return (ssize_t)place;
        }
    }
#endif
    for (; at <= last; at++)
        if (s.p[at] == needle.p[0] && memcmp(s.p + at, needle.p, needle.n) == 0)
            return (ssize_t)at;
    return -1;
}

/* Offset of the value of a member with that name (given with its quotes), at any depth; -1: none.
 */
static inline ssize_t scan_member(struct str s, struct str quoted_name)
{
    size_t from = 0;
    for (;;) {
        ssize_t hit = scan_find(str_slice(s, from, s.n), quoted_name);
        if (hit < 0)
            return -1;
        size_t at = from + (size_t)hit + quoted_name.n;
        while (at < s.n &&
               (s.p[at] == ' ' || s.p[at] == '\n' || s.p[at] == '\t' || s.p[at] == '\r'))
            at++;
        from += (size_t)hit + 1;
        if (at >= s.n || s.p[at] != ':')
            continue;
        at++;
        while (at < s.n &&
               (s.p[at] == ' ' || s.p[at] == '\n' || s.p[at] == '\t' || s.p[at] == '\r'))
            at++;
        return at < s.n ? (ssize_t)at : -1;
    }
}

/* Whether such a member has a value that starts with `first`: '{' an object, '"' a text. */
static inline bool scan_has(struct str s, struct str quoted_name, char first)
{
    ssize_t at = scan_member(s, quoted_name);
    return at >= 0 && s.p[at] == first;
}
