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

/* Offset from `from` on of the next quote that one of three letters follows, or s.n: where a text
 * begins that may be one of some names. One pass for all of them. */
static inline size_t scan_quote(struct str s, size_t from, const char letters[3])
{
    size_t at = from;
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), first = _mm_set1_epi8(letters[0]),
                  second = _mm_set1_epi8(letters[1]), third = _mm_set1_epi8(letters[2]);
    for (; at + 17 <= s.n; at += 16) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(s.p + at));
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(s.p + at + 1));
        __m128i letter = _mm_or_si128(_mm_cmpeq_epi8(b, first), _mm_cmpeq_epi8(b, second));
        letter = _mm_or_si128(letter, _mm_cmpeq_epi8(b, third));
        int hits = _mm_movemask_epi8(_mm_and_si128(_mm_cmpeq_epi8(a, quote), letter));
        if (hits)
            return at + (size_t)__builtin_ctz((unsigned)hits);
    }
#endif
    for (; at + 1 < s.n; at++)
        if (s.p[at] == '"' && memchr(letters, s.p[at + 1], 3))
            return at;
    return s.n;
}

static inline bool scan_starts(struct str s, size_t at, struct str with)
{
    return s.n - at >= with.n && memcmp(s.p + at, with.p, with.n) == 0;
}

/* The first character of the value of the member whose quoted name ends at `at`; 0: it is no name.
 */
static inline char scan_value(struct str s, size_t at)
{
    bool colon = false;
    for (; at < s.n; at++) {
        char c = s.p[at];
        if (c == ' ' || c == '\n' || c == '\t' || c == '\r')
            continue;
        if (c != ':' || colon)
            return colon ? c : 0;
        colon = true;
    }
    return 0;
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
