/* An answer's way: bytes that pass (wire_pass.c) or a translation (wire_translate.c). Which of the
 * two is decided once, when the answer begins. */
#include "gateway/wire_internal.h"
#include <stdlib.h>

struct wire_answer {
    struct wire_pass *pass; /* one of the two is NULL */
    struct wire_translation *translation;
    struct wire_answer_options options;
    struct arena *arena;
};

static bool checks_output(const struct route *route)
{
    for (size_t i = 0; route && i < route->check_count; i++)
        if (route->checks[i].on & CHECK_OUTPUT)
            return true;
    return false;
}

/* Bytes may pass where both sides speak the same and nothing in them is to be looked at or added
 * up. */
static bool passes(const struct wire_answer_options *options)
{
    const struct wire_request *request = options->request;
    const struct wire_upstream *upstream = options->upstream;
    bool translatable = upstream->format == WIRE_OPENAI_CHAT ||
                        upstream->format == WIRE_ANTHROPIC ||
                        upstream->format == WIRE_OPENAI_RESPONSES;
    if (!translatable)
        return true;
    return request->format == upstream->format && request->stream == upstream->stream &&
           !checks_output(options->route) && !wire_emulates_tools(request, upstream) &&
           !(request->choices > 1 && wire_has_quirk(upstream, PROVIDER_USAGE_ONE_CHOICE));
}

struct wire_answer *wire_answer_new(struct arena *arena, const struct wire_answer_options *options)
{
    /* Not in the arena, which may be parked while the answer flows. */
    struct wire_answer *answer = calloc(1, sizeof(*answer));
    if (!answer)
        return NULL;
    answer->options = *options;
    answer->arena = arena;
    if (passes(options))
        answer->pass = wire_pass_new(arena, &answer->options);
    else
        answer->translation = wire_translation_new(arena, &answer->options);
    if (answer->pass || answer->translation)
        return answer;
    free(answer);
    return NULL;
}

enum wire_verdict wire_answer_data(struct wire_answer *answer, struct str bytes, struct err *err)
{
    return answer->pass ? wire_pass_data(answer->pass, bytes, err)
                        : wire_translation_data(answer->translation, bytes, err);
}

enum wire_verdict wire_answer_end(struct wire_answer *answer, struct err *err)
{
    return answer->pass ? wire_pass_end(answer->pass, err)
                        : wire_translation_end(answer->translation, err);
}

void wire_answer_break(struct wire_answer *answer, const struct err *err)
{
    const struct wire_answer_options *options = &answer->options;
    if (answer->translation) {
        wire_translation_break(answer->translation, err);
        return;
    }
    if (!options->request->stream)
        return; /* a whole answer that has not been written: the core answers with an error */
    struct str frame = wire_error_frame(options->request->format, err, answer->arena);
    if (frame.n)
        options->write(options->arg, frame);
}

bool wire_answer_needs_document(const struct wire_answer *answer)
{
    return answer->translation != NULL;
}

void wire_answer_outcome(const struct wire_answer *answer, struct wire_outcome *out)
{
    *out = (struct wire_outcome){0};
    if (answer->pass)
        wire_pass_outcome(answer->pass, out);
    else
        wire_translation_outcome(answer->translation, out);
}

void wire_answer_fini(struct wire_answer *answer)
{
    if (answer->pass)
        wire_pass_fini(answer->pass);
    else
        wire_translation_fini(answer->translation);
    free(answer);
}
