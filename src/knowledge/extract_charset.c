/* Any encoding to UTF-8. The C library's converters come from files, which the child cannot open
 * once it is locked: so the encodings that the raw bytes mention after the word "charset" are
 * opened before. Names as the WHATWG maps them: Latin-1 and ASCII mean Windows-1252. */
#include "base/utf8.h"
#include "knowledge/extract_reader.h"
#include <errno.h>
#include <iconv.h>

#define OPEN_MAX       8
#define NAME_BYTES_MAX 32

static struct converter {
    char name[NAME_BYTES_MAX];
    iconv_t handle;
} converters[OPEN_MAX];
static size_t converter_count;

/* 0x80 … 0x9f; the rest is Latin-1. */
static const uint16_t WINDOWS_1252[32] = {
    0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
    0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178,
};

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == ':';
}

/* Lower case, as a key; empty when it is no name of an encoding. */
static struct str name_key(struct str name, char out[NAME_BYTES_MAX])
{
    name = str_trim(name);
    if (!name.n || name.n >= NAME_BYTES_MAX)
        return STR_EMPTY;
    for (size_t i = 0; i < name.n; i++) {
        if (!is_name_char(name.p[i]))
            return STR_EMPTY;
        out[i] = (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] + 32 : name.p[i]);
    }
    out[name.n] = 0;
    return str_make(out, name.n);
}

/* What the library calls it: encodings that are always decoded as a larger one. */
static const char *library_name(const char *key)
{
    static const char *const names[][2] = {
        {"shift_jis", "CP932"}, {"shift-jis", "CP932"},   {"sjis", "CP932"},
        {"gb2312", "GB18030"},  {"gbk", "GB18030"},       {"ks_c_5601-1987", "CP949"},
        {"euc-kr", "CP949"},    {"iso-8859-9", "CP1254"}, {"x-mac-roman", "MACINTOSH"},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(key, names[i][0]) == 0)
            return names[i][1];
    return key;
}

static bool is_built_in(struct str key)
{
    static const char *const names[] = {"utf-8",  "utf8",       "us-ascii", "ascii",
                                        "latin1", "iso-8859-1", "utf-16",   "windows-1252"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(key, str_from(names[i])))
            return true;
    return false;
}

static struct converter *converter_find(struct str key)
{
    for (size_t i = 0; i < converter_count; i++)
        if (str_eq(key, str_from(converters[i].name)))
            return &converters[i];
    return NULL;
}

static void converter_open(struct str name)
{
    char text[NAME_BYTES_MAX];
    struct str key = name_key(name, text);
    if (!key.n || is_built_in(key) || converter_find(key) || converter_count == OPEN_MAX)
        return;
    iconv_t handle = iconv_open("UTF-8", library_name(text));
    if (handle == (iconv_t)-1)
        return;
    struct converter *converter = &converters[converter_count++];
    memcpy(converter->name, text, key.n + 1);
    converter->handle = handle;
}

/* charset=NAME, encoding="NAME", =?NAME?… */
void charset_prepare(struct str bytes)
{
    static const struct str marks[] = {STR_INIT("harset="), STR_INIT("ncoding="), STR_INIT("=?")};
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        struct str rest = bytes;
        ssize_t at;
        while (converter_count < OPEN_MAX && (at = str_find(rest, marks[i])) >= 0) {
            rest = str_slice(rest, (size_t)at + marks[i].n, rest.n);
            struct str name = rest;
            if (name.n && (name.p[0] == '"' || name.p[0] == '\''))
                name = str_slice(name, 1, name.n);
            size_t n = 0;
            while (n < name.n && n < NAME_BYTES_MAX && is_name_char(name.p[n]))
                n++;
            converter_open(str_slice(name, 0, n));
        }
    }
}

/* ---- conversions ---- */

static char *take(struct reader *reader, size_t n) { return arena_alloc(reader->arena, n + 1); }

static enum rc from_windows(struct reader *reader, struct str bytes, struct str *out)
{
    char *p = take(reader, bytes.n * 3);
    if (!p)
        return reader_no_memory(reader);
    size_t n = 0;
    for (size_t i = 0; i < bytes.n; i++) {
        unsigned char c = (unsigned char)bytes.p[i];
        if (c < 0x80)
            p[n++] = (char)c;
        else
            n += utf8_encode(c < 0xa0 ? WINDOWS_1252[c - 0x80] : c, p + n);
    }
    *out = str_make(p, n);
    return RC_OK;
}

static uint32_t unit_16(struct str bytes, size_t at, bool big)
{
    unsigned char a = (unsigned char)bytes.p[at], b = (unsigned char)bytes.p[at + 1];
    return big ? (uint32_t)a << 8 | b : (uint32_t)b << 8 | a;
}

static enum rc from_utf16(struct reader *reader, struct str bytes, bool big, struct str *out)
{
    char *p = take(reader, bytes.n / 2 * 3 + 3);
    if (!p)
        return reader_no_memory(reader);
    size_t n = 0;
    for (size_t i = 0; i + 1 < bytes.n; i += 2) {
        uint32_t c = unit_16(bytes, i, big);
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < bytes.n) {
            uint32_t low = unit_16(bytes, i + 2, big);
            if (low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            }
        }
        n += utf8_encode(c >= 0xd800 && c < 0xe000 ? 0xfffd : c, p + n);
    }
    *out = str_make(p, n);
    return RC_OK;
}

/* Valid parts stay, every other byte becomes U+FFFD. */
static enum rc repair_utf8(struct reader *reader, struct str bytes, struct str *out)
{
    char *p = take(reader, bytes.n * 3);
    if (!p)
        return reader_no_memory(reader);
    size_t n = 0;
    while (bytes.n) {
        uint32_t codepoint;
        size_t step = utf8_next(bytes, &codepoint);
        if (step) {
            memcpy(p + n, bytes.p, step);
            n += step;
        } else {
            step = 1;
            n += utf8_encode(0xfffd, p + n);
        }
        bytes = str_slice(bytes, step, bytes.n);
    }
    *out = str_make(p, n);
    return RC_OK;
}

static enum rc from_library(struct reader *reader, struct converter *converter, struct str bytes,
                            struct str *out)
{
    size_t left = bytes.n * 3 + 16;
    char *p = take(reader, left), *to = p, *from = (char *)bytes.p;
    if (!p)
        return reader_no_memory(reader);
    iconv(converter->handle, NULL, NULL, NULL, NULL);
    size_t n = bytes.n;
    while (n && left >= 4) {
        if (iconv(converter->handle, &from, &n, &to, &left) != (size_t)-1)
            break;
        if (errno == E2BIG || left < 4)
            break;
        size_t step = utf8_encode(0xfffd, to); /* skip one byte that says nothing */
        to += step;
        left -= step;
        from++;
        n--;
    }
    *out = str_make(p, (size_t)(to - p));
    return utf8_valid(*out) ? RC_OK : repair_utf8(reader, *out, out);
}

/* UTF-16 without a mark: every other byte of the start is zero. */
static int guess_utf16(struct str bytes)
{
    size_t zeros[2] = {0}, n = MIN(bytes.n, 512);
    for (size_t i = 0; i < n; i++)
        zeros[i % 2] += bytes.p[i] == 0;
    if (n < 4 || zeros[0] + zeros[1] < n / 4)
        return 0;
    return zeros[0] > 4 * zeros[1] ? 'b' : zeros[1] > 4 * zeros[0] ? 'l' : 0;
}

enum rc charset_decode(struct reader *reader, struct str bytes, struct str declared,
                       struct str *out)
{
    if (str_starts(bytes, STR("\xef\xbb\xbf"))) {
        bytes = str_slice(bytes, 3, bytes.n);
        declared = STR("utf-8");
    }
    if (str_starts(bytes, STR("\xff\xfe")) || str_starts(bytes, STR("\xfe\xff")))
        return from_utf16(reader, str_slice(bytes, 2, bytes.n), bytes.p[0] == '\xfe', out);
    char text[NAME_BYTES_MAX];
    struct str key = name_key(declared, text);
    struct converter *converter = key.n ? converter_find(key) : NULL;
    if (converter)
        return from_library(reader, converter, bytes, out);
    int looks = guess_utf16(bytes);
    if (looks)
        return from_utf16(reader, bytes, looks == 'b', out);
    *out = bytes;
    if (utf8_valid(bytes))
        return RC_OK;
    if (str_eq(key, STR("utf-8")) || str_eq(key, STR("utf8")))
        return repair_utf8(reader, bytes, out);
    return from_windows(reader, bytes, out);
}
