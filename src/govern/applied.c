/* See applied.h. A digest covers project, kind, name, definition and the value of a key's
 * reference. A route's also covers all providers of the file: whether it is valid depends on them.
 */
#include "govern/applied.h"
#include "base/buf.h"
#include "base/hash.h"
#include "store/secret.h"
#include <stdlib.h>

#define ITEM_BYTES_MAX (64 * 1024 * 1024)

void applied_init(struct applied *applied) { *applied = (struct applied){0}; }

void applied_fini(struct applied *applied)
{
    free(applied->digests);
    applied_init(applied);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct manifest_digest));
}

static bool in_force(const struct applied *applied, const struct manifest_digest *digest)
{
    return applied->count &&
           bsearch(digest, applied->digests, applied->count, sizeof(*applied->digests), compare);
}

/* ---- digests ---- */

static bool put_text(struct buf *out, struct str s)
{
    return buf_append(out, str_make(&s.n, sizeof(s.n))) == RC_OK && buf_append(out, s) == RC_OK;
}

/* Unambiguous: each value with its type, and its length or count in front. */
static bool put_value(struct buf *out, yyjson_val *value)
{
    size_t i, n, count = yyjson_get_len(value);
    yyjson_val *key, *item;
    char type = (char)yyjson_get_tag(value);
    uint64_t number = yyjson_is_num(value) ? value->uni.u64 : count;
    bool ok = buf_append(out, str_make(&type, 1)) == RC_OK &&
              buf_append(out, str_make(&number, sizeof(number))) == RC_OK;
    if (yyjson_is_str(value))
        return ok && buf_append(out, str_make(yyjson_get_str(value), count)) == RC_OK;
    yyjson_arr_foreach(value, i, n, item) ok = ok && put_value(out, item);
    yyjson_obj_foreach(value, i, n, key, item) ok =
        ok && put_value(out, key) && put_value(out, item);
    return ok;
}

/* Zero, which is never in force, where it cannot be known: the item is checked and written. */
static struct manifest_digest digest_of(struct str project, const struct manifest_item *item,
                                        const struct manifest_digest *providers,
                                        struct arena *scratch, struct buf *buf)
{
    struct manifest_digest digest = {{0}};
    struct str kind = str_from(object_kind_name(item->kind)), secret = STR_EMPTY;
    struct err unreadable;
    buf_clear(buf);
    bool known = put_text(buf, project) && put_text(buf, kind) && put_text(buf, item->name) &&
                 put_value(buf, item->spec);
    if (item->kind == OBJECT_ROUTE)
        known = known && buf_append(buf, str_make(providers, sizeof(*providers))) == RC_OK;
    if (item->kind == OBJECT_KEY)
        known = known && secret_expand(item->secret, scratch, &secret, &unreadable) == RC_OK &&
                put_text(buf, secret);
    if (known)
        hash_xxh3_128(buf_str(buf).p, buf_str(buf).n, digest.bytes);
    return digest;
}

static struct manifest_digest digest_providers(struct str project, const struct manifest *manifest,
                                               struct arena *scratch, struct buf *buf)
{
    struct manifest_digest sum = {{0}}, none = {{0}};
    for (size_t i = 0; i < manifest->count; i++) {
        if (manifest->items[i].kind != OBJECT_PROVIDER)
            continue;
        struct manifest_digest one = digest_of(project, &manifest->items[i], &none, scratch, buf);
        for (size_t b = 0; b < sizeof(sum.bytes); b++)
            sum.bytes[b] ^= one.bytes[b];
    }
    return sum;
}

size_t applied_mark(const struct applied *applied, struct str name, struct manifest *manifest,
                    struct arena *scratch)
{
    static const struct manifest_digest unknown;
    struct buf buf;
    size_t count = 0;
    buf_init(&buf, ITEM_BYTES_MAX);
    struct manifest_digest providers = digest_providers(name, manifest, scratch, &buf);
    for (size_t i = 0; i < manifest->count; i++) {
        struct manifest_item *item = &manifest->items[i];
        item->digest = digest_of(name, item, &providers, scratch, &buf);
        item->in_force = compare(&item->digest, &unknown) != 0 && in_force(applied, &item->digest);
        count += item->in_force;
    }
    buf_fini(&buf);
    return count;
}

void applied_add(struct applied *applied, const struct manifest *manifest)
{
    applied->digests = xrealloc(applied->digests,
                                (applied->count + manifest->count + 1) * sizeof(*applied->digests));
    for (size_t i = 0; i < manifest->count; i++)
        applied->digests[applied->count++] = manifest->items[i].digest;
}

void applied_sort(struct applied *applied)
{
    if (applied->count)
        qsort(applied->digests, applied->count, sizeof(*applied->digests), compare);
}
