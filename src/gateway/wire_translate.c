/* Requests and answers by way of the event model. */
#include "gateway/wire_internal.h"

struct wire_translation {
    struct err *err;
};

struct wire_translation *wire_translation_new(struct arena *arena,
                                              const struct wire_answer_options *options)
{
    UNUSED(options);
    return ARENA_NEW(arena, struct wire_translation);
}

enum wire_verdict wire_translation_data(struct wire_translation *translation, struct str bytes,
                                        struct err *err)
{
    UNUSED(translation);
    UNUSED(bytes);
    err_set(err, ERR_NOT_IMPLEMENTED, "translation between formats is not built yet");
    return WIRE_FAILED;
}

enum wire_verdict wire_translation_end(struct wire_translation *translation, struct err *err)
{
    return wire_translation_data(translation, STR_EMPTY, err);
}

void wire_translation_break(struct wire_translation *translation, const struct err *err)
{
    UNUSED(translation);
    UNUSED(err);
}

void wire_translation_outcome(const struct wire_translation *translation, struct wire_outcome *out)
{
    UNUSED(translation);
    UNUSED(out);
}

void wire_translation_fini(struct wire_translation *translation)
{
    UNUSED(translation);
}

enum rc wire_translate_request(const struct wire_request *request,
                               const struct wire_upstream *upstream, struct arena *arena,
                               struct str *body, struct err *err)
{
    UNUSED(request);
    UNUSED(upstream);
    UNUSED(arena);
    UNUSED(body);
    return err_set(err, ERR_NOT_IMPLEMENTED, "translation between formats is not built yet");
}
