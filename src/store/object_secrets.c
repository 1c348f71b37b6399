/* The secrets inside definitions: sealed when stored, masked when shown, opened for the snapshot.
 * Which members hold secrets stands in object_kinds.h. */
#include "store/object_private.h"
#include <stdio.h>

#define SECRETS_MAX 64 /* in one definition */

struct found_secret {
    struct str member;     /* as in the table */
    struct str name;       /* in an object: of the inner member; else empty */
    yyjson_mut_val *value; /* a text */
};

struct found_secrets {
    struct found_secret items[SECRETS_MAX];
    size_t count;
};

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "The definition is too large.");
}

static struct str text_of(yyjson_mut_val *value)
{
    return str_make(yyjson_mut_get_str(value), yyjson_mut_get_len(value));
}

static bool name_tells_secret(struct str name)
{
    static const struct str words[] = {STR_INIT("authorization"), STR_INIT("key"),
                                       STR_INIT("token"),         STR_INIT("secret"),
                                       STR_INIT("cookie"),        STR_INIT("password")};

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (name.n >= words[i].n &&
            str_eq_nocase(str_slice(name, name.n - words[i].n, name.n), words[i]))
            return true;
    return false;
}

static enum rc found_add(struct found_secrets *found, struct str member, struct str name,
                         yyjson_mut_val *value, struct err *err)
{
    if (!yyjson_mut_is_str(value) || yyjson_mut_get_len(value) == 0)
        return RC_OK;
    if (found->count == SECRETS_MAX)
        return err_set(err, ERR_BAD_FIELD, "A definition holds at most %d secrets.", SECRETS_MAX);
    found->items[found->count++] = (struct found_secret){member, name, value};
    return RC_OK;
}

static enum rc find_in_member(yyjson_mut_val *value, struct str member, struct found_secrets *found,
                              struct err *err)
{
    enum rc rc = found_add(found, member, STR_EMPTY, value, err);
    size_t i, n;
    yyjson_mut_val *key, *element;

    if (yyjson_mut_is_arr(value)) {
        yyjson_mut_arr_foreach(value, i, n, element)
        {
            if (rc == RC_OK)
                rc = found_add(found, member, STR_EMPTY, element, err);
        }
    } else if (yyjson_mut_is_obj(value)) {
        yyjson_mut_obj_foreach(value, i, n, key, element)
        {
            if (rc == RC_OK && name_tells_secret(text_of(key)))
                rc = found_add(found, member, text_of(key), element, err);
        }
    }
    return rc;
}

static enum rc find_secrets(enum object_kind kind, yyjson_mut_val *root,
                            struct found_secrets *found, struct err *err)
{
    struct str members = str_from(object_kind_row(kind)->secrets), member;
    enum rc rc = RC_OK;

    found->count = 0;
    while (rc == RC_OK && str_split(&members, ' ', &member))
        rc = find_in_member(yyjson_mut_obj_getn(root, member.p, member.n), member, found, err);
    return rc;
}

/* What a sealed text is bound to. */
static struct str context_of(struct id project, enum object_kind kind, struct str name,
                             struct str member, struct arena *arena)
{
    char hex[2 * sizeof project.bytes + 1];

    hex_encode(project.bytes, sizeof project.bytes, hex);
    return arena_printf(arena, "%s/%s/%.*s/%.*s", hex, object_kind_name(kind), STR_ARG(name),
                        STR_ARG(member));
}

static enum rc parse_sorted(struct str spec, struct arena *arena, yyjson_mut_doc **doc,
                            yyjson_mut_val **root, struct err *err)
{
    yyjson_doc *parsed;
    enum rc rc = json_read(spec, arena, &parsed, err);

    if (rc != RC_OK)
        return rc;
    *doc = json_tree_new(arena);
    *root = *doc ? yyjson_val_mut_copy(*doc, yyjson_doc_get_root(parsed)) : NULL;
    return *root ? RC_OK : full(err);
}

/* ---- storing ---- */

struct sealing {
    const struct secret_box *box;
    const struct object_change *change;
    struct found_secrets old;
    struct arena *arena;
};

/* The stored form that stands for the same secret in the old definition, or an empty text. */
static enum rc find_old(struct sealing *sealing, const struct found_secret *secret,
                        struct str context, struct str *out, struct err *err)
{
    struct str text = text_of(secret->value), mask, plain;

    *out = STR_EMPTY;
    for (size_t i = 0; i < sealing->old.count; i++) {
        struct found_secret *old = &sealing->old.items[i];
        if (!str_eq(old->member, secret->member) || !str_eq(old->name, secret->name))
            continue;
        struct str stored = text_of(old->value);
        enum rc rc = secret_mask(stored, sealing->arena, &mask, err);
        if (rc != RC_OK)
            return rc;
        /* A secret that cannot be opened any more is simply replaced. */
        bool same =
            str_eq(stored, text) || str_eq(mask, text) ||
            (secret_is_sealed(stored) &&
             secret_resolve(sealing->box, context, stored, sealing->arena, &plain, NULL) == RC_OK &&
             str_eq(plain, text));
        if (same) {
            *out = stored;
            return RC_OK;
        }
    }
    return RC_OK;
}

/* Sealed already, in an older version: must be ours and of this object. */
static enum rc check_sealed(struct sealing *sealing, struct str context, struct str text,
                            struct str *sealed, struct err *err)
{
    struct str plain;

    *sealed = text;
    return secret_resolve(sealing->box, context, text, sealing->arena, &plain, err);
}

static enum rc seal_one(struct sealing *sealing, const struct found_secret *secret, struct err *err)
{
    const struct object_change *change = sealing->change;
    struct str text = text_of(secret->value), sealed;
    struct str context =
        context_of(change->project, change->kind, change->name, secret->member, sealing->arena);

    if (secret_is_reference(text))
        return RC_OK;
    if (!context.p)
        return full(err);
    enum rc rc = find_old(sealing, secret, context, &sealed, err);
    if (rc == RC_OK && !sealed.n) {
        if (str_starts(text, STR("\u2026")))
            return err_set(err, ERR_BAD_FIELD,
                           "'%.*s' is a secret shortened for display: send the whole one.",
                           STR_ARG(text));
        if (!sealing->box)
            return err_set(err, ERR_INTERNAL, "There is no key to seal secrets with.");
        rc = secret_is_sealed(text)
                 ? check_sealed(sealing, context, text, &sealed, err)
                 : secret_seal(sealing->box, context, text, sealing->arena, &sealed, err);
    }
    if (rc == RC_OK)
        yyjson_mut_set_strn(secret->value, sealed.p, sealed.n);
    return rc;
}

enum rc object_seal(const struct secret_box *box, const struct object_change *change,
                    const struct object *old, struct arena *arena, struct str *spec,
                    struct err *err)
{
    struct sealing *sealing = ARENA_NEW(arena, struct sealing);
    struct found_secrets *found = ARENA_NEW(arena, struct found_secrets);
    yyjson_mut_doc *doc = json_tree_new(arena), *old_doc;
    yyjson_mut_val *root = doc ? json_sorted(doc, change->spec) : NULL, *old_root;
    enum rc rc = RC_OK;

    if (!root || !sealing || !found)
        return full(err);
    sealing->box = box;
    sealing->change = change;
    sealing->arena = arena;
    if (old) {
        rc = parse_sorted(old->spec, arena, &old_doc, &old_root, err);
        if (rc == RC_OK)
            rc = find_secrets(change->kind, old_root, &sealing->old, err);
    }
    if (rc == RC_OK)
        rc = find_secrets(change->kind, root, found, err);
    for (size_t i = 0; rc == RC_OK && i < found->count; i++)
        rc = seal_one(sealing, &found->items[i], err);
    return rc == RC_OK ? json_write_tree(root, arena, spec, err) : rc;
}

/* ---- showing ---- */

static enum rc show_tree(const struct object *object, struct arena *arena, yyjson_mut_val **root,
                         struct err *err)
{
    struct found_secrets *found = ARENA_NEW(arena, struct found_secrets);
    struct str hidden = str_from(object_kind_row(object->kind)->hidden), member, mask;
    yyjson_mut_doc *doc;

    if (!found)
        return full(err);
    enum rc rc = parse_sorted(object->spec, arena, &doc, root, err);
    if (rc == RC_OK)
        rc = find_secrets(object->kind, *root, found, err);
    for (size_t i = 0; rc == RC_OK && i < found->count; i++) {
        rc = secret_mask(text_of(found->items[i].value), arena, &mask, err);
        if (rc == RC_OK)
            yyjson_mut_set_strn(found->items[i].value, mask.p, mask.n);
    }
    while (rc == RC_OK && str_split(&hidden, ' ', &member))
        yyjson_mut_obj_remove_keyn(*root, member.p, member.n);
    return rc;
}

enum rc object_show(const struct object *object, struct arena *arena, yyjson_val **out,
                    struct err *err)
{
    yyjson_mut_val *root;
    enum rc rc = show_tree(object, arena, &root, err);

    if (rc != RC_OK)
        return rc;
    yyjson_doc *doc = json_freeze(root, arena);
    *out = yyjson_doc_get_root(doc);
    return doc ? RC_OK : full(err);
}

enum rc object_show_text(const struct object *object, struct arena *arena, struct str *out,
                         struct err *err)
{
    yyjson_mut_val *root;
    enum rc rc = show_tree(object, arena, &root, err);

    return rc == RC_OK ? json_write_tree(root, arena, out, err) : rc;
}

enum rc object_reveal(const struct secret_box *box, const struct object *object,
                      struct arena *arena, yyjson_val **out, struct err *err)
{
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;
    yyjson_doc *frozen;
    struct str plain;
    enum rc rc;

    if (!object_kind_row(object->kind)->secrets[0]) { /* nothing to open: the common case */
        rc = json_read(object->spec, arena, &frozen, err);
        *out = rc == RC_OK ? yyjson_doc_get_root(frozen) : NULL;
        return rc;
    }
    struct found_secrets *found = ARENA_NEW(arena, struct found_secrets);
    if (!found)
        return full(err);
    rc = parse_sorted(object->spec, arena, &doc, &root, err);
    if (rc == RC_OK)
        rc = find_secrets(object->kind, root, found, err);
    for (size_t i = 0; rc == RC_OK && i < found->count; i++) {
        struct found_secret *secret = &found->items[i];
        struct str context =
            context_of(object->project, object->kind, object->name, secret->member, arena);
        if (!context.p)
            return full(err);
        rc = secret_resolve(box, context, text_of(secret->value), arena, &plain, err);
        if (rc == RC_OK)
            yyjson_mut_set_strn(secret->value, plain.p, plain.n);
        else
            err_prefix(err, "%s %.*s, %.*s", object_kind_name(object->kind), STR_ARG(object->name),
                       STR_ARG(secret->member));
    }
    if (rc != RC_OK)
        return rc;
    frozen = json_freeze(root, arena);
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : full(err);
}
