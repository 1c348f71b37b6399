/* brotli and gzip for whole answers: see encode.h. Quality 4 of brotli is as fast as gzip's 5 and
 * smaller; what is static is compressed at build time, at the highest. */
#include "http/encode.h"
#include <brotli/encode.h>
#include <zlib.h>

#define BROTLI_QUALITY 4
#define GZIP_LEVEL     5
#define GZIP_WINDOW    (16 + MAX_WBITS)
#define GZIP_MEMORY    8

struct str http_coding_name(enum http_coding coding)
{
    return coding == HTTP_CODING_BROTLI ? STR("br")
           : coding == HTTP_CODING_GZIP ? STR("gzip")
                                        : STR("");
}

/* The weight of one element in thousandths: "gzip;q=0.5" is 500. Damaged ones weigh 0. */
static int weight_of(struct str parameters)
{
    struct str parameter;
    while (str_split(&parameters, ';', &parameter)) {
        parameter = str_trim(parameter);
        if (parameter.n < 3 || (parameter.p[0] | 0x20) != 'q' || parameter.p[1] != '=')
            continue;
        struct str q = str_slice(parameter, 2, parameter.n);
        if (q.n > 5 || (q.p[0] != '0' && q.p[0] != '1') || (q.n > 1 && q.p[1] != '.'))
            return 0;
        int weight = (q.p[0] - '0') * 1000, unit = 100;
        for (size_t i = 2; i < q.n; i++, unit /= 10) {
            if (q.p[i] < '0' || q.p[i] > '9')
                return 0;
            weight += (q.p[i] - '0') * unit;
        }
        return MIN(weight, 1000);
    }
    return 1000;
}

enum http_coding http_accepted_coding(struct str accept_encoding)
{
    int brotli = -1, gzip = -1, any = 0;
    struct str element;
    while (str_split(&accept_encoding, ',', &element)) {
        ssize_t semicolon = str_find_char(element, ';');
        size_t name_n = semicolon < 0 ? element.n : (size_t)semicolon;
        struct str name = str_trim(str_slice(element, 0, name_n));
        int weight = weight_of(str_slice(element, MIN(name_n + 1, element.n), element.n));
        if (str_eq_nocase(name, STR("br")))
            brotli = weight;
        else if (str_eq_nocase(name, STR("gzip")) || str_eq_nocase(name, STR("x-gzip")))
            gzip = weight;
        else if (str_eq(name, STR("*")))
            any = weight;
    }
    brotli = brotli < 0 ? any : brotli;
    gzip = gzip < 0 ? any : gzip;
    return brotli > 0 && brotli >= gzip ? HTTP_CODING_BROTLI
           : gzip > 0                   ? HTTP_CODING_GZIP
                                        : HTTP_CODING_IDENTITY;
}

static bool encode_gzip(struct str body, char *out, size_t *n)
{
    z_stream zlib = {0};
    if (body.n > UINT32_MAX / 2 ||
        deflateInit2(&zlib, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY))
        return false;
    zlib.next_in = (Bytef *)body.p;
    zlib.avail_in = (uInt)body.n;
    zlib.next_out = (Bytef *)out;
    zlib.avail_out = (uInt)*n;
    bool whole = deflate(&zlib, Z_FINISH) == Z_STREAM_END;
    *n -= zlib.avail_out;
    deflateEnd(&zlib);
    return whole;
}

struct str http_encode(enum http_coding coding, struct str body, struct arena *arena)
{
    size_t n = body.n; /* larger than the body it is of no use */
    char *out = coding == HTTP_CODING_IDENTITY || n == 0 ? NULL : arena_alloc(arena, n);
    if (!out)
        return STR_EMPTY;
    bool done = coding == HTTP_CODING_GZIP
                    ? encode_gzip(body, out, &n)
                    : BrotliEncoderCompress(BROTLI_QUALITY, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_TEXT,
                                            body.n, (const uint8_t *)body.p, &n, (uint8_t *)out);
    return done && n < body.n ? str_make(out, n) : STR_EMPTY;
}
