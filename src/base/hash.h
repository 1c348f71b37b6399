/* Checksums and digests: XXH3 for tables and files of our own, SHA-256 for identity and secrets. */
#pragma once
#include "base/str.h"

#define SHA256_BYTES     32
#define SHA256_HEX_BYTES 65

uint64_t hash_xxh3(const void *p, size_t n);                  /* seed 0: stable, may go to disk */
void hash_xxh3_128(const void *p, size_t n, uint8_t out[16]); /* seed 0, too */
uint32_t hash_crc32c(uint32_t crc, const void *p, size_t n);  /* SSE 4.2 or ARM CRC where present */
void hash_sha256(const void *p, size_t n, uint8_t out[SHA256_BYTES]);
void hash_hmac_sha256(struct str key, struct str message, uint8_t out[SHA256_BYTES]);

struct sha256; /* incremental */
struct sha256 *sha256_new(void);
void sha256_update(struct sha256 *sha, const void *p, size_t n);
void sha256_final(struct sha256 *sha, uint8_t out[SHA256_BYTES]); /* frees it */

void hex_encode(const void *p, size_t n, char *out); /* 2n characters and a NUL */
enum rc hex_decode(struct str s, void *out, size_t n) MUST_CHECK;
/* Standard or URL alphabet with padding optional; returns bytes written or -1. */
size_t base64_encode(const void *p, size_t n, char *out); /* 4*ceil(n/3) characters and a NUL */
ssize_t base64_decode(struct str s, void *out, size_t out_bytes_max);
