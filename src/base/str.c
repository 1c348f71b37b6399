/* Text by pointer and length. No function here allocates or keeps what it is given; any thread. */
#include "base/str.h"
#define XXH_INLINE_ALL
#include <math.h>
#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

static char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c; }

/* Eight bytes at once. In bytes below 128, adding what is missing to 128 tells by the highest bit
 * what is at least 'A', and what is above 'Z'. */
static uint64_t lower8(const char *p)
{
    const uint64_t ones = 0x0101010101010101ull, high = 0x80 * ones;
    uint64_t word;
    memcpy(&word, p, 8);
    uint64_t low = word & ~high;
    uint64_t upper = (low + (0x80 - 'A') * ones) & ~(low + (0x7f - 'Z') * ones) & ~word & high;
    return word | upper >> 2;
}

bool str_eq_nocase(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    size_t i = 0;
    for (; i + 8 <= a.n; i += 8)
        if (lower8(a.p + i) != lower8(b.p + i))
            return false;
    for (; i < a.n; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    return true;
}

int str_cmp(struct str a, struct str b)
{
    size_t n = MIN(a.n, b.n);
    int order = n ? memcmp(a.p, b.p, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

bool str_eq_secret(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    volatile unsigned char difference = 0; /* volatile: no early exit by the compiler */
    for (size_t i = 0; i < a.n; i++)
        difference |= (unsigned char)(a.p[i] ^ b.p[i]);
    return difference == 0;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && str_eq(str_make(s.p, prefix.n), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.n >= suffix.n && str_eq(str_make(s.p + (s.n - suffix.n), suffix.n), suffix);
}

ssize_t str_find(struct str s, struct str needle)
{
    if (needle.n == 0)
        return 0;
    if (s.n < needle.n)
        return -1;
    const char *at = memmem(s.p, s.n, needle.p, needle.n);
    return at ? at - s.p : -1;
}

ssize_t str_find_char(struct str s, char c)
{
    const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? at - s.p : -1;
}

ssize_t str_rfind_char(struct str s, char c)
{
    const char *at = s.n ? memrchr(s.p, c, s.n) : NULL;
    return at ? at - s.p : -1;
}

struct str str_slice(struct str s, size_t from, size_t to)
{
    to = MIN(to, s.n);
    from = MIN(from, to);
    return s.p ? str_make(s.p + from, to - from) : STR_EMPTY;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct str str_trim(struct str s)
{
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    while (s.n && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    return s;
}

bool str_split(struct str *rest, char separator, struct str *part)
{
    if (rest->p == NULL)
        return false;
    ssize_t at = str_find_char(*rest, separator);
    if (at < 0) {
        *part = *rest;
        *rest = STR_EMPTY;
        return part->n > 0;
    }
    *part = str_make(rest->p, (size_t)at);
    *rest = str_make(rest->p + at + 1, rest->n - (size_t)at - 1);
    return true;
}

enum rc str_to_u64(struct str s, uint64_t *out)
{
    uint64_t value = 0;
    if (s.n == 0)
        return RC_INVALID;
    bool overflow = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return RC_INVALID;
        overflow |= __builtin_mul_overflow(value, 10u, &value) ||
                    __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value);
    }
    if (overflow)
        return RC_LIMIT;
    *out = value;
    return RC_OK;
}

enum rc str_to_i64(struct str s, int64_t *out)
{
    bool negative = s.n && s.p[0] == '-';
    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = str_slice(s, 1, s.n);
    uint64_t value;
    enum rc rc = str_to_u64(s, &value);
    if (rc != RC_OK)
        return rc;
    if (value > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return RC_LIMIT;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return RC_OK;
}

#define DOUBLE_BYTES_MAX 64

enum rc str_to_double(struct str s, double *out)
{
    char z[DOUBLE_BYTES_MAX];
    if (s.n == 0 || s.n >= sizeof(z))
        return RC_INVALID;
    /* strtod also takes hexadecimal, "inf", "nan" and leading spaces: not here. */
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789+-.eE", s.p[i]) || s.p[i] == '\0')
            return RC_INVALID;
    memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    char *end;
    double value = strtod(z, &end);
    if (end != z + s.n)
        return RC_INVALID;
    if (!isfinite(value))
        return RC_LIMIT;
    *out = value;
    return RC_OK;
}

/* Only the last `*` is ever returned to, since what an earlier one matched can stay as it is. */
bool str_matches_glob(struct str s, struct str pattern)
{
    size_t i = 0, j = 0;
    size_t star = SIZE_MAX, star_at = 0; /* last `*` in the pattern, and where its match ends */
    while (i < s.n) {
        if (j < pattern.n && pattern.p[j] == '*') {
            star = j++;
            star_at = i;
        } else if (j < pattern.n && (pattern.p[j] == '?' || pattern.p[j] == s.p[i])) {
            i++;
            j++;
        } else if (star != SIZE_MAX) {
            j = star + 1;
            i = ++star_at;
        } else {
            return false;
        }
    }
    while (j < pattern.n && pattern.p[j] == '*')
        j++;
    return j == pattern.n;
}

static uint64_t hash_seed;

/* Before main: no thread can see it change. */
__attribute__((constructor)) static void hash_seed_init(void)
{
    if (getrandom(&hash_seed, sizeof(hash_seed), GRND_NONBLOCK) != sizeof(hash_seed))
        hash_seed =
            (uint64_t)(uintptr_t)&hash_seed; /* at boot, before entropy: the address varies */
}

uint64_t str_hash(struct str s) { return XXH3_64bits_withSeed(s.p, s.n, hash_seed); }
