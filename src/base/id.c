/* UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 12 bits that continue the time to
 * some 244 ns (method 3 of section 6.2), then 62 random bits. Within a thread the 60 bits of time
 * strictly increase, so ids made by one thread sort in the order in which they were made. */
#include "base/id.h"
#include "base/clock.h"
#include "base/rand.h"

#define TEXT_BYTES   26 /* 130 bits, of which the first two are zero */
#define TICKS_PER_MS 4096
#define CLOCK_BACK_TICKS_MAX                                                                       \
    (10 * 1000 * TICKS_PER_MS) /* beyond it the clock was set: follow it                           \
                                */

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

struct id id_new(void)
{
    static __thread uint64_t last_ticks;
    int64_t now_ns = clock_wall_ns();
    uint64_t ticks = (uint64_t)(now_ns / NS_PER_MS) * TICKS_PER_MS +
                     (uint64_t)(now_ns % NS_PER_MS) * TICKS_PER_MS / NS_PER_MS;
    if (ticks <= last_ticks && last_ticks - ticks < CLOCK_BACK_TICKS_MAX)
        ticks = last_ticks + 1;
    last_ticks = ticks;

    uint64_t ms = ticks / TICKS_PER_MS;
    uint64_t high = ms << 16 | 0x7000 | ticks % TICKS_PER_MS;
    uint64_t low = (rand_u64() >> 2) | 1ull << 63;
    struct id id;
    for (int i = 0; i < 8; i++) {
        id.bytes[i] = (uint8_t)(high >> (56 - 8 * i));
        id.bytes[8 + i] = (uint8_t)(low >> (56 - 8 * i));
    }
    return id;
}

bool id_is_zero(struct id id)
{
    static const struct id zero;
    return id_eq(id, zero);
}

bool id_eq(struct id a, struct id b) { return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0; }

int64_t id_time_ms(struct id id)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id.bytes[i];
    return ms;
}

size_t id_format(struct id id, const char *prefix, char out[ID_TEXT_BYTES_MAX])
{
    size_t prefix_bytes = strlen(prefix);
    ASSERT(prefix_bytes + 1 + TEXT_BYTES + 1 <= ID_TEXT_BYTES_MAX);
    memcpy(out, prefix, prefix_bytes);
    char *p = out + prefix_bytes;
    *p++ = '_';
    unsigned __int128 value = 0;
    for (int i = 0; i < 16; i++)
        value = value << 8 | id.bytes[i];
    for (int i = TEXT_BYTES - 1; i >= 0; i--) {
        p[i] = alphabet[value & 31];
        value >>= 5;
    }
    p[TEXT_BYTES] = 0;
    return (size_t)(p - out) + TEXT_BYTES;
}

enum rc id_parse(struct str s, const char *prefix, struct id *out)
{
    size_t prefix_bytes = strlen(prefix);
    if (s.n != prefix_bytes + 1 + TEXT_BYTES || memcmp(s.p, prefix, prefix_bytes) != 0 ||
        s.p[prefix_bytes] != '_')
        return RC_INVALID;
    const char *text = s.p + prefix_bytes + 1;
    if (text[0] > '7')
        return RC_INVALID;
    unsigned __int128 value = 0;
    for (int i = 0; i < TEXT_BYTES; i++) {
        const char *at = text[i] ? memchr(alphabet, text[i], sizeof(alphabet) - 1) : NULL;
        if (!at)
            return RC_INVALID;
        value = value << 5 | (unsigned)(at - alphabet);
    }
    for (int i = 15; i >= 0; i--) {
        out->bytes[i] = (uint8_t)value;
        value >>= 8;
    }
    return RC_OK;
}
