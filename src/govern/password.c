/* Argon2id in the PHC string format, which carries its own parameters. */
#include "govern/password.h"
#include "base/rand.h"
#include "base/utf8.h"
#include <argon2.h>

#define MEMORY_KIB        19456
#define PASSES            2
#define LANES             1
#define SALT_BYTES        16
#define HASH_BYTES        32
#define ENCODED_BYTES_MAX 160

static size_t characters(struct str s)
{
    size_t count = 0;

    for (size_t i = 0; i < s.n; i++)
        count += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return count;
}

enum rc password_hash(struct str password, struct arena *arena, struct str *out, struct err *err)
{
    uint8_t salt[SALT_BYTES];
    char encoded[ENCODED_BYTES_MAX];

    if (characters(password) < PASSWORD_CHARACTERS_MIN || password.n > PASSWORD_BYTES_MAX ||
        !utf8_valid(password))
        return err_set_field(err, ERR_BAD_FIELD, "password",
                             "A password has at least %d characters and at most %d bytes.",
                             PASSWORD_CHARACTERS_MIN, PASSWORD_BYTES_MAX);
    rand_secret(salt, sizeof salt);
    int code = argon2id_hash_encoded(PASSES, MEMORY_KIB, LANES, password.p, password.n, salt,
                                     sizeof salt, HASH_BYTES, encoded, sizeof encoded);
    if (code != ARGON2_OK)
        return err_set(err, ERR_OVERLOADED, "The password cannot be hashed: %s.",
                       argon2_error_message(code));
    *out = arena_copy(arena, str_from(encoded));
    return out->p ? RC_OK : err_set(err, ERR_TOO_LARGE, "The request is too large.");
}

bool password_matches(struct str hash, struct str password)
{
    /* Of a random password; the same parameters as above. */
    static const char nobody[] = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$"
                                 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    char encoded[ENCODED_BYTES_MAX];

    if (password.n > PASSWORD_BYTES_MAX)
        return false;
    if (hash.n == 0 || hash.n >= sizeof encoded)
        return argon2id_verify(nobody, password.p, password.n) == ARGON2_OK && hash.n;
    memcpy(encoded, hash.p, hash.n);
    encoded[hash.n] = 0;
    return argon2id_verify(encoded, password.p, password.n) == ARGON2_OK;
}
