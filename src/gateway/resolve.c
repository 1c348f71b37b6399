/* Names of models: see resolve.h. */
#include "gateway/resolve.h"
#include "base/limits.h"
#include "gateway/inner_private.h"
#include "gateway/provider_table.h"
#include "model/model.h"
#include "gateway/slots.h" /* SLOT_NONE */
#include "prompt/request.h"
#include <stdlib.h>

/* A route with one target, as if it had been configured with all defaults. */
static enum rc make_route(struct str name, struct provider *provider, struct str model,
                          uint32_t slot, struct arena *arena, struct resolved *out, struct err *err)
{
    struct route *route = ARENA_NEW(arena, struct route);
    struct target *target = ARENA_NEW(arena, struct target);
    if (!route || !target)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    *target = (struct target){.provider = provider, .model = model, .weight = 1, .slot = slot};
    *route = (struct route){
        .name = name, .targets = target, .target_count = 1, .retry = -1, .fallback = FALLBACK_ANY};
    *out = (struct resolved){.route = route};
    return RC_OK;
}

/* The provider that stands for the engines of this machine: any with `format: engine`, else a
 * made-up one. */
static struct provider *engine_provider(const struct project *project, struct arena *arena)
{
    MAP_FOR_EACH (slot, &project->providers) {
        struct provider *provider = slot->value;
        if (provider->row && str_eq(provider->row->name, STR("engine")) && !provider->command)
            return provider;
    }
    struct provider *provider = ARENA_NEW(arena, struct provider);
    if (provider)
        *provider =
            (struct provider){.name = STR("local"), .row = provider_row_find(STR("engine"))};
    return provider;
}

static enum rc not_found(struct err *err, struct str model)
{
    return err_set_field(err, ERR_MODEL_NOT_FOUND, "model",
                         "there is no route, provider/model or local model named '%.*s'; GET "
                         "/v1/models lists what this key may call",
                         (int)MIN(model.n, (size_t)LIMIT_NAME_BYTES), model.p ? model.p : "");
}

/* "pipeline/NAME@label": the label is the answerer's business. */
static enum rc resolve_inner(const struct project *project, const struct inner_model *inner,
                             struct str model, struct arena *arena, struct resolved *out,
                             struct err *err)
{
    ssize_t at = str_rfind_char(model, '@');
    struct str name = at > 0 ? str_slice(model, 0, (size_t)at) : model;
    if (!map_get(&project->inner_names, name))
        return not_found(err, model);
    *out = (struct resolved){0};
    if (inner_route(inner, model, arena, &out->route) != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    return RC_OK;
}

const struct model *resolve_encoder(const struct project *project, struct str name)
{
    const struct model *model = map_get(&project->local_models, name);
    ssize_t colon = str_rfind_char(name, ':');
    if (!model && colon > 0)
        model = map_get(&project->local_models, str_slice(name, 0, (size_t)colon));
    return model && model->kind == MODEL_ENCODER ? model : NULL;
}

enum rc resolve_model(const struct project *project, const struct key *key, struct str model,
                      struct arena *arena, struct resolved *out, struct err *err)
{
    if (model.n == 0)
        return err_set_field(err, ERR_MISSING_FIELD, "model", "name the model to call");
    if (key && !key_allows_model(key, model))
        return err_set_field(
            err, ERR_MODEL_NOT_ALLOWED, "model",
            "this key may not call '%.*s'; an administrator can add it to the key's models",
            (int)MIN(model.n, (size_t)LIMIT_NAME_BYTES), model.p);
    const struct route *route = map_get(&project->routes, model);
    if (route) {
        *out = (struct resolved){.route = route, .is_route = true};
        return RC_OK;
    }
    if (str_starts(model,
                   STR(PROMPT_PREFIX))) /* the others are rewritten before (call_request.c) */
        return err_set_field(err, ERR_UNSUPPORTED, "model",
                             "a prompt cannot be called here: only by the doors for chat");
    const struct inner_model *inner = inner_find(model);
    if (inner)
        return resolve_inner(project, inner, model, arena, out, err);
    ssize_t slash = str_find_char(model, '/');
    if (slash > 0) {
        struct provider *provider =
            map_get(&project->providers, str_slice(model, 0, (size_t)slash));
        struct str rest = str_slice(model, (size_t)slash + 1, model.n);
        if (provider && rest.n)
            /* Any caller can make up names, so these share the provider's breaker. */
            return make_route(model, provider, rest, provider->slot, arena, out, err);
    }
    if (map_get(&project->local_models, model) || resolve_encoder(project, model)) {
        struct provider *provider = engine_provider(project, arena);
        if (!provider)
            return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
        return make_route(model, provider, model, SLOT_NONE, arena, out, err);
    }
    return not_found(err, model);
}

static int compare_names(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

enum rc resolve_list(const struct project *project, const struct key *key, struct arena *arena,
                     struct str **names, size_t *count)
{
    size_t most = project->routes.count + project->local_models.count + project->inner_names.count +
                  project->prompts.count,
           n = 0;
    struct str *list = ARENA_NEW_ARRAY(arena, struct str, most + 1);
    if (!list)
        return RC_LIMIT;
    const struct map *maps[] = {&project->routes, &project->local_models, &project->inner_names};
    for (size_t m = 0; m < COUNT_OF(maps); m++)
        MAP_FOR_EACH (slot, maps[m])
            if (!key || key_allows_model(key, slot->key))
                list[n++] = slot->key;
    MAP_FOR_EACH (slot, &project->prompts) {
        struct str name = arena_concat(arena, STR(PROMPT_PREFIX), slot->key);
        if (!name.p)
            return RC_LIMIT;
        if (!key || key_allows_model(key, name))
            list[n++] = name;
    }
    qsort(list, n, sizeof(*list), compare_names);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || !str_eq(list[kept - 1], list[i]))
            list[kept++] = list[i];
    *names = list;
    *count = kept;
    return RC_OK;
}
