/* UTF-8 as the Unicode standard's table 3-7 defines it: shortest form, no surrogates, at most
 * U+10FFFF. ASCII, the usual case, is skipped eight bytes at a time. */
#include "base/utf8.h"

#define HIGH_BITS 0x8080808080808080ull

static bool continues(unsigned char c) { return (c & 0xc0) == 0x80; }

size_t utf8_next(struct str s, uint32_t *codepoint)
{
    if (s.n == 0)
        return 0;
    const unsigned char *p = (const unsigned char *)s.p;
    if (p[0] < 0x80) {
        *codepoint = p[0];
        return 1;
    }
    if (p[0] >= 0xc2 && p[0] <= 0xdf && s.n >= 2 && continues(p[1])) {
        *codepoint = (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
        return 2;
    }
    if ((p[0] & 0xf0) == 0xe0 && s.n >= 3 && continues(p[1]) && continues(p[2])) {
        uint32_t c = (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
        *codepoint = c;
        return c >= 0x800 && (c < 0xd800 || c > 0xdfff) ? 3 : 0;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4 && s.n >= 4 && continues(p[1]) && continues(p[2]) &&
        continues(p[3])) {
        uint32_t c =
            (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
        *codepoint = c;
        return c >= 0x10000 && c <= 0x10ffff ? 4 : 0;
    }
    return 0;
}

bool utf8_valid(struct str s)
{
    size_t i = 0;
    while (i < s.n) {
        uint64_t word;
        while (s.n - i >= 8 && (memcpy(&word, s.p + i, 8), (word & HIGH_BITS) == 0))
            i += 8;
        if (i == s.n)
            break;
        uint32_t codepoint;
        size_t bytes = utf8_next(str_make(s.p + i, s.n - i), &codepoint);
        if (bytes == 0)
            return false;
        i += bytes;
    }
    return true;
}

size_t utf8_cut(struct str s, size_t n)
{
    if (n >= s.n)
        return s.n;
    /* Step back over at most three continuation bytes to the character's start. */
    size_t start = n;
    while (start > 0 && n - start < 3 && continues((unsigned char)s.p[start]))
        start--;
    return continues((unsigned char)s.p[start]) ? n : start;
}

size_t utf8_encode(uint32_t codepoint, char out[4])
{
    if (codepoint < 0x80) {
        out[0] = (char)codepoint;
        return 1;
    }
    if (codepoint < 0x800) {
        out[0] = (char)(0xc0 | codepoint >> 6);
        out[1] = (char)(0x80 | (codepoint & 0x3f));
        return 2;
    }
    if (codepoint < 0x10000) {
        out[0] = (char)(0xe0 | codepoint >> 12);
        out[1] = (char)(0x80 | (codepoint >> 6 & 0x3f));
        out[2] = (char)(0x80 | (codepoint & 0x3f));
        return 3;
    }
    ASSERT(codepoint <= 0x10ffff);
    out[0] = (char)(0xf0 | codepoint >> 18);
    out[1] = (char)(0x80 | (codepoint >> 12 & 0x3f));
    out[2] = (char)(0x80 | (codepoint >> 6 & 0x3f));
    out[3] = (char)(0x80 | (codepoint & 0x3f));
    return 4;
}
