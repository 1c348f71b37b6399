/* AWS Signature Version 4 (docs.aws.amazon.com, "Signature Calculations for the Authorization
 * Header"), for requests without a body. */
#include "knowledge/source_private.h"
#include "base/clock.h"
#include <time.h>

#define SIGNED_HEADERS "host;x-amz-content-sha256;x-amz-date"

static struct str bytes_of(const uint8_t digest[SHA256_BYTES])
{
    return str_make(digest, SHA256_BYTES);
}

/* The day's key: a chain of HMACs over date, region and service. */
static bool signing_key(const struct s3_request *request, struct str day, struct arena *arena,
                        uint8_t key[SHA256_BYTES])
{
    struct str first = arena_concat(arena, STR("AWS4"), request->secret_access_key);
    if (!first.p)
        return false;
    hash_hmac_sha256(first, day, key);
    hash_hmac_sha256(bytes_of(key), request->region, key);
    hash_hmac_sha256(bytes_of(key), STR("s3"), key);
    hash_hmac_sha256(bytes_of(key), STR("aws4_request"), key);
    return true;
}

enum rc s3_sign(const struct s3_request *request, struct arena *arena, struct s3_signature *out,
                struct err *err)
{
    uint8_t digest[SHA256_BYTES], key[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    struct tm tm;
    time_t seconds = (time_t)(request->now_ns / NS_PER_S);
    gmtime_r(&seconds, &tm);
    strftime(out->date, sizeof(out->date), "%Y%m%dT%H%M%SZ", &tm);
    struct str day = str_make(out->date, 8);
    hash_sha256("", 0, digest);
    hex_encode(digest, SHA256_BYTES, out->content_sha256);
    struct str canonical = arena_printf(
        arena, "%.*s\n%.*s\n%.*s\nhost:%.*s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s",
        STR_ARG(request->method), STR_ARG(request->path), STR_ARG(request->query),
        STR_ARG(request->host), out->content_sha256, out->date, SIGNED_HEADERS,
        out->content_sha256);
    if (!canonical.p)
        return err_set(err, ERR_TOO_LARGE, "there is no memory to sign the request");
    hash_sha256(canonical.p, canonical.n, digest);
    hex_encode(digest, SHA256_BYTES, hex);
    struct str scope =
        arena_printf(arena, "%.*s/%.*s/s3/aws4_request", STR_ARG(day), STR_ARG(request->region));
    struct str text =
        arena_printf(arena, "AWS4-HMAC-SHA256\n%s\n%.*s\n%s", out->date, STR_ARG(scope), hex);
    if (!scope.p || !text.p || !signing_key(request, day, arena, key))
        return err_set(err, ERR_TOO_LARGE, "there is no memory to sign the request");
    hash_hmac_sha256(bytes_of(key), text, digest);
    hex_encode(digest, SHA256_BYTES, hex);
    out->authorization = arena_printf(
        arena,
        "AWS4-HMAC-SHA256 Credential=%.*s/%.*s, SignedHeaders=" SIGNED_HEADERS ", Signature=%s",
        STR_ARG(request->access_key_id), STR_ARG(scope), hex);
    return out->authorization.p
               ? RC_OK
               : err_set(err, ERR_TOO_LARGE, "there is no memory to sign the request");
}
