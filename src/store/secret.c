/* Sealing: 12 random bytes of nonce, the ciphertext, 16 bytes of tag, in base 64. The hint, up to
 * four last characters of a long secret, stands outside, so that showing a list needs no key. */
#include "store/secret.h"
#include "base/hash.h"
#include "base/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_BYTES             32
#define NONCE_BYTES           12
#define TAG_BYTES             16
#define SECRET_BYTES_MAX      (16 * 1024)
#define HINT_CHARACTERS       4
#define HINT_SECRET_BYTES_MIN 16 /* shorter secrets show nothing of themselves */

struct secret_box {
    uint8_t key[KEY_BYTES];
};

/* ---- the key's file ---- */

static enum rc key_read(int fd, const char *path, struct secret_box *box, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0 || st.st_size != KEY_BYTES ||
        read(fd, box->key, KEY_BYTES) != KEY_BYTES) {
        err_set(err, ERR_INTERNAL,
                "%s: not a key of %d bytes. Restore it: without it stored secrets are lost.", path,
                KEY_BYTES);
        return RC_CORRUPT;
    }
    if (st.st_mode & 0077) {
        err_set(err, ERR_FORBIDDEN, "%s can be read by others: chmod 600 it.", path);
        return RC_DENIED;
    }
    return RC_OK;
}

static enum rc sync_folder(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum rc rc = fd >= 0 && fsync(fd) == 0 ? RC_OK : RC_IO;

    if (fd >= 0)
        close(fd);
    return rc;
}

/* Made under another name and linked into place, so that no start ever sees half a key. */
static enum rc key_make(const char *directory, const char *path, struct secret_box *box,
                        struct err *err)
{
    char temporary[1100];
    enum rc rc = RC_OK;

    snprintf(temporary, sizeof temporary, "%s.new", path);
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    rand_secret(box->key, KEY_BYTES);
    if (fd < 0 || write(fd, box->key, KEY_BYTES) != KEY_BYTES || fsync(fd) != 0 ||
        rename(temporary, path) != 0 || sync_folder(directory) != RC_OK) {
        err_set(err, ERR_INTERNAL, "%s cannot be made: %s", path, strerror(errno));
        rc = RC_IO;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

enum rc secret_box_open(const char *directory, struct secret_box **out, struct err *err)
{
    struct secret_box *box = xcalloc(1, sizeof *box);
    char path[1024];
    enum rc rc;

    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        err_set(err, ERR_INTERNAL, "%s: %s", directory, strerror(errno));
        free(box);
        return RC_IO;
    }
    snprintf(path, sizeof path, "%s/control.key", directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        rc = key_read(fd, path, box, err);
        close(fd);
    } else if (errno == ENOENT) {
        rc = key_make(directory, path, box, err);
    } else {
        err_set(err, ERR_INTERNAL, "%s: %s", path, strerror(errno));
        rc = RC_IO;
    }
    if (rc != RC_OK) {
        secret_box_free(box);
        return rc;
    }
    *out = box;
    return RC_OK;
}

void secret_box_free(struct secret_box *box)
{
    if (!box)
        return;
    OPENSSL_cleanse(box, sizeof *box);
    free(box);
}

void secret_derive(const struct secret_box *box, struct str purpose, struct str input,
                   uint8_t out[32])
{
    uint8_t purpose_key[SHA256_BYTES];

    hash_hmac_sha256(str_make(box->key, KEY_BYTES), purpose, purpose_key);
    hash_hmac_sha256(str_make(purpose_key, sizeof purpose_key), input, out);
    OPENSSL_cleanse(purpose_key, sizeof purpose_key);
}

/* ---- forms ---- */

static bool enclosed(struct str text, struct str opening)
{
    return str_starts(text, opening) && str_ends(text, STR("}"));
}

bool secret_is_reference(struct str text)
{
    return enclosed(text, STR("${env:")) || enclosed(text, STR("${file:"));
}

bool secret_is_sealed(struct str text) { return enclosed(text, STR("${sealed:")); }

/* Splits ${sealed:HINT:DATA}. */
static void sealed_split(struct str text, struct str *hint, struct str *data)
{
    struct str inner = str_slice(text, STR("${sealed:").n, text.n - 1);
    ssize_t colon = str_rfind_char(inner, ':');

    *hint = str_slice(inner, 0, colon < 0 ? 0 : (size_t)colon);
    *data = str_slice(inner, (size_t)(colon + 1), inner.n);
}

/* The last characters, when they are plain ones and the secret is long enough to spare them. */
static struct str hint_of(struct str plain)
{
    struct str hint = str_slice(plain, plain.n - MIN(plain.n, HINT_CHARACTERS), plain.n);

    if (plain.n < HINT_SECRET_BYTES_MIN)
        return STR_EMPTY;
    for (size_t i = 0; i < hint.n; i++)
        if (hint.p[i] <= ' ' || hint.p[i] > '~' || strchr("\"\\:{}", hint.p[i]))
            return STR_EMPTY;
    return hint;
}

enum rc secret_mask(struct str text, struct arena *arena, struct str *out, struct err *err)
{
    struct str hint = hint_of(text), data;

    if (secret_is_reference(text)) {
        *out = text;
        return RC_OK;
    }
    if (secret_is_sealed(text))
        sealed_split(text, &hint, &data);
    *out = arena_printf(arena, "\u2026%.*s", STR_ARG(hint));
    return out->p ? RC_OK : err_set(err, ERR_TOO_LARGE, "The definition is too large.");
}

/* ---- sealing ---- */

static bool gcm_seal(const struct secret_box *box, struct str context, struct str plain,
                     uint8_t *out)
{
    EVP_CIPHER_CTX *gcm = EVP_CIPHER_CTX_new();
    uint8_t *body = out + NONCE_BYTES;
    int n;

    rand_secret(out, NONCE_BYTES);
    bool ok = gcm && EVP_EncryptInit_ex(gcm, EVP_aes_256_gcm(), NULL, box->key, out) == 1 &&
              EVP_EncryptUpdate(gcm, NULL, &n, (const uint8_t *)context.p, (int)context.n) == 1 &&
              EVP_EncryptUpdate(gcm, body, &n, (const uint8_t *)plain.p, (int)plain.n) == 1 &&
              EVP_EncryptFinal_ex(gcm, body + n, &n) == 1 &&
              EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, body + plain.n) == 1;
    EVP_CIPHER_CTX_free(gcm);
    return ok;
}

static bool gcm_open(const struct secret_box *box, struct str context, const uint8_t *in, size_t n,
                     uint8_t *out)
{
    EVP_CIPHER_CTX *gcm = EVP_CIPHER_CTX_new();
    size_t plain_bytes = n - NONCE_BYTES - TAG_BYTES;
    const uint8_t *body = in + NONCE_BYTES;
    int got;

    bool ok = gcm && EVP_DecryptInit_ex(gcm, EVP_aes_256_gcm(), NULL, box->key, in) == 1 &&
              EVP_DecryptUpdate(gcm, NULL, &got, (const uint8_t *)context.p, (int)context.n) == 1 &&
              EVP_DecryptUpdate(gcm, out, &got, body, (int)plain_bytes) == 1 &&
              EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_SET_TAG, TAG_BYTES,
                                  (void *)(body + plain_bytes)) == 1 &&
              EVP_DecryptFinal_ex(gcm, out + got, &got) == 1;
    EVP_CIPHER_CTX_free(gcm);
    return ok;
}

enum rc secret_seal(const struct secret_box *box, struct str context, struct str plain,
                    struct arena *arena, struct str *out, struct err *err)
{
    size_t n = NONCE_BYTES + plain.n + TAG_BYTES;

    if (plain.n > SECRET_BYTES_MAX)
        return err_set(err, ERR_BAD_FIELD, "A secret is longer than %d bytes.", SECRET_BYTES_MAX);
    uint8_t *raw = arena_alloc(arena, n);
    char *text = arena_alloc(arena, (n + 2) / 3 * 4 + 1);
    if (!raw || !text)
        return err_set(err, ERR_TOO_LARGE, "The definition is too large.");
    if (!gcm_seal(box, context, plain, raw))
        return err_set(err, ERR_INTERNAL, "A secret cannot be encrypted.");
    size_t length = base64_encode(raw, n, text);
    *out = arena_printf(arena, "${sealed:%.*s:%.*s}", STR_ARG(hint_of(plain)), (int)length, text);
    return out->p ? RC_OK : err_set(err, ERR_TOO_LARGE, "The definition is too large.");
}

static enum rc unseal(const struct secret_box *box, struct str context, struct str text,
                      struct arena *arena, struct str *out, struct err *err)
{
    struct str hint, data;

    sealed_split(text, &hint, &data);
    uint8_t *raw = arena_alloc(arena, data.n + 1), *plain = arena_calloc(arena, data.n + 1);
    if (!raw || !plain)
        return err_set(err, ERR_TOO_LARGE, "The configuration is too large.");
    ssize_t n = base64_decode(data, raw, data.n + 1);
    if (n < NONCE_BYTES + TAG_BYTES || !gcm_open(box, context, raw, (size_t)n, plain)) {
        err_set(
            err, ERR_INTERNAL,
            "A stored secret cannot be decrypted: was secret/control.key replaced? Set it anew.");
        return RC_CORRUPT;
    }
    *out = str_make(plain, (size_t)n - NONCE_BYTES - TAG_BYTES);
    return RC_OK;
}

/* ---- references ---- */

static enum rc read_env(struct str name, struct arena *arena, struct str *out, struct err *err)
{
    struct str z = arena_copy(arena, name);
    const char *value = z.p ? getenv(z.p) : NULL;

    if (!value)
        return err_set(err, ERR_BAD_FIELD, "The environment variable %.*s is not set.",
                       STR_ARG(name));
    *out = arena_copy(arena, str_from(value));
    return out->p ? RC_OK : err_set(err, ERR_TOO_LARGE, "The configuration is too large.");
}

static enum rc read_file(struct str path, struct arena *arena, struct str *out, struct err *err)
{
    struct str z = arena_copy(arena, path);
    char *p = arena_alloc(arena, SECRET_BYTES_MAX + 1);
    struct stat st;
    ssize_t n = -1;

    if (!z.p || !p)
        return err_set(err, ERR_TOO_LARGE, "The configuration is too large.");
    int fd = open(z.p, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        n = read(fd, p, SECRET_BYTES_MAX + 1);
    int saved = fd >= 0 ? EINVAL : errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_set(err, ERR_BAD_FIELD, "%s cannot be read: %s.", z.p,
                       saved == EINVAL ? "it is not a regular file" : strerror(saved));
    if (n > SECRET_BYTES_MAX)
        return err_set(err, ERR_BAD_FIELD, "%s is longer than %d bytes.", z.p, SECRET_BYTES_MAX);
    if (n > 0 && p[n - 1] == '\n')
        n--;
    if (n > 0 && p[n - 1] == '\r')
        n--;
    *out = str_make(p, (size_t)n);
    return RC_OK;
}

static enum rc read_reference(struct str text, struct arena *arena, struct str *out,
                              struct err *err)
{
    if (str_starts(text, STR("${env:")))
        return read_env(str_slice(text, STR("${env:").n, text.n - 1), arena, out, err);
    return read_file(str_slice(text, STR("${file:").n, text.n - 1), arena, out, err);
}

enum rc secret_resolve(const struct secret_box *box, struct str context, struct str text,
                       struct arena *arena, struct str *out, struct err *err)
{
    if (secret_is_sealed(text))
        return unseal(box, context, text, arena, out, err);
    return secret_expand(text, arena, out, err);
}

enum rc secret_expand(struct str text, struct arena *arena, struct str *out, struct err *err)
{
    struct str done = STR(""), rest = text, value;

    for (;;) {
        ssize_t at = str_find(rest, STR("${"));
        struct str tail = at < 0 ? STR_EMPTY : str_slice(rest, (size_t)at, rest.n);
        ssize_t end = at < 0 ? -1 : str_find_char(tail, '}');
        if (at < 0)
            break;
        struct str reference = str_slice(tail, 0, (size_t)(end + 1));
        if (end < 0 || !secret_is_reference(reference))
            return err_set(err, ERR_BAD_FIELD,
                           "'${' begins neither ${env:NAME} nor ${file:/path}.");
        enum rc rc = read_reference(reference, arena, &value, err);
        if (rc != RC_OK)
            return rc;
        done = arena_concat(arena, done, str_slice(rest, 0, (size_t)at));
        done = done.p ? arena_concat(arena, done, value) : done;
        if (!done.p)
            return err_set(err, ERR_TOO_LARGE, "The configuration is too large.");
        rest = str_slice(tail, reference.n, tail.n);
    }
    *out = done.n ? arena_concat(arena, done, rest) : rest;
    return out->p || !out->n ? RC_OK
                             : err_set(err, ERR_TOO_LARGE, "The configuration is too large.");
}
