/* capstan provider, route, key, member: objects of the gateway and of governance. */
#include "app/nouns.h"
#include <stdlib.h>

/* ---- provider ---- */

static const struct column provider_columns[] = {
    {"NAME", "name"},          {"FORMAT", "format"}, {"BASE URL", "base_url"},
    {"STATE", "status.state"}, {"ORIGIN", "origin"},
};
static const struct noun provider_noun = {
    "provider", "/api/providers", provider_columns, COUNT_OF(provider_columns),
    "no providers: add one with 'capstan provider create NAME --format openai --api-key KEY'"};

static void put_list(yyjson_mut_doc *doc, const char *name, const char *const *values)
{
    if (!values)
        return;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), name);
    for (; *values; values++)
        yyjson_mut_arr_add_strcpy(doc, list, *values);
}

/* "name=value" pairs as an object. */
static bool put_pairs(yyjson_mut_doc *doc, const char *command, const char *name,
                      const char *const *pairs, char separator)
{
    if (!pairs)
        return true;
    yyjson_mut_val *object = yyjson_mut_obj_add_obj(doc, yyjson_mut_doc_get_root(doc), name);
    for (; *pairs; pairs++) {
        const char *at = strchr(*pairs, separator);
        if (!at) {
            command_usage_error(command, "'%s' is not NAME%cVALUE", *pairs, separator);
            return false;
        }
        struct str value = str_trim(str_from(at + 1));
        yyjson_mut_obj_add(object, yyjson_mut_strncpy(doc, *pairs, (size_t)(at - *pairs)),
                           yyjson_mut_strncpy(doc, value.p, value.n));
    }
    return true;
}

/* Verbs that all nouns with a name have; -1: the verb is another. */
static int common_verb(const struct noun *noun, int argc, char **argv, bool json)
{
    const char *verb = argc > 1 ? argv[1] : "list";
    if (strcmp(verb, "list") == 0)
        return noun_list(noun, noun->path, 10000, json);
    bool show = strcmp(verb, "show") == 0, delete = strcmp(verb, "delete") == 0;
    if (!show && !delete)
        return -1;
    if (argc != 3)
        return command_usage_error(noun->command, "%s needs one name", verb);
    return show ? noun_show(noun, argv[2], json) : noun_delete(noun, argv[2]);
}

/* create NAME → POST with the name in the body; set NAME → PATCH. */
static int create_or_set(const struct noun *noun, int argc, char **argv, yyjson_mut_doc *doc,
                         bool json)
{
    bool create = strcmp(argv[1], "create") == 0;
    if (argc != 3 || (!create && strcmp(argv[1], "set") != 0)) {
        yyjson_mut_doc_free(doc);
        return command_usage_error(noun->command, "'%s' is not understood here", argv[1]);
    }
    if (create) {
        yyjson_mut_obj_remove_key(yyjson_mut_doc_get_root(doc), "name");
        noun_put(doc, "name", argv[2], false);
        return noun_send(noun, "POST", noun->path, doc, json);
    }
    return noun_send(noun, "PATCH", noun_path(noun, argv[2], ""), doc, json);
}

int command_provider(int argc, char **argv)
{
    bool json = false, http2 = false;
    const char *format = NULL, *base_url = NULL, *api_key = NULL, *ca_file = NULL, *proxy = NULL,
               *file = NULL, **headers = NULL;
    const struct option_spec specs[] = {
        {"json", .flag = &json},        {"http2", .flag = &http2},
        {"format", .value = &format},   {"base-url", .value = &base_url},
        {"api-key", .value = &api_key}, {"ca-file", .value = &ca_file},
        {"proxy", .value = &proxy},     {"file", .value = &file},
        {"header", .list = &headers},
    };
    if (!command_parse_options("provider", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    int status = common_verb(&provider_noun, argc, argv, json);
    if (status >= 0)
        return status;
    if (strcmp(argv[1], "test") == 0 && argc == 3)
        return noun_send(&provider_noun, "POST", noun_path(&provider_noun, argv[2], "/test"),
                         noun_new_object(NULL), json);
    yyjson_mut_doc *doc = file ? noun_read_file(&provider_noun, file) : noun_new_object(NULL);
    if (!doc)
        return EXIT_FAILED;
    noun_put(doc, "format", format, false);
    noun_put(doc, "base_url", base_url, false);
    noun_put(doc, "api_key", api_key, false);
    noun_put(doc, "ca_file", ca_file, false);
    noun_put(doc, "proxy", proxy, false);
    if (http2)
        yyjson_mut_obj_add_bool(doc, yyjson_mut_doc_get_root(doc), "http2", true);
    if (!put_pairs(doc, "provider", "headers", headers, ':')) {
        yyjson_mut_doc_free(doc);
        return EXIT_USAGE;
    }
    return create_or_set(&provider_noun, argc, argv, doc, json);
}

/* ---- route ---- */

static const struct column route_columns[] = {
    {"NAME", "name"},         {"TARGETS", "targets"}, {"BALANCE", "balance"},
    {"RETRY", "retry", true}, {"ORIGIN", "origin"},
};
static const struct noun route_noun = {
    "route", "/api/routes", route_columns, COUNT_OF(route_columns),
    "no routes: add one with 'capstan route create NAME --target PROVIDER/MODEL'"};

/* "provider/model" or "provider/model=WEIGHT". */
static bool put_targets(yyjson_mut_doc *doc, const char *const *targets)
{
    if (!targets)
        return true;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "targets");
    for (; *targets; targets++) {
        struct str text = str_from(*targets);
        ssize_t slash = str_find_char(text, '/'), equals = str_rfind_char(text, '=');
        int64_t weight = 1;
        if (slash <= 0 || (equals > 0 && str_to_i64(str_slice(text, (size_t)equals + 1, text.n),
                                                    &weight) != RC_OK)) {
            command_usage_error("route", "'%s' is not PROVIDER/MODEL or PROVIDER/MODEL=WEIGHT",
                                *targets);
            return false;
        }
        size_t model_end = equals > 0 ? (size_t)equals : text.n;
        yyjson_mut_val *target = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strncpy(doc, target, "provider", text.p, (size_t)slash);
        yyjson_mut_obj_add_strncpy(doc, target, "model", text.p + slash + 1,
                                   model_end - (size_t)slash - 1);
        yyjson_mut_obj_add_sint(doc, target, "weight", weight);
    }
    return true;
}

int command_route(int argc, char **argv)
{
    bool json = false;
    const char *balance = NULL, *retry = NULL, *connect = NULL, *first_token = NULL,
               *between = NULL, *total = NULL, *cache = NULL, *capture = NULL, *file = NULL,
               **targets = NULL, **fallback = NULL;
    const struct option_spec specs[] = {
        {"json", .flag = &json},
        {"target", .list = &targets},
        {"balance", .value = &balance},
        {"retry", .value = &retry},
        {"fallback", .list = &fallback},
        {"timeout-connect", .value = &connect},
        {"timeout-first-token", .value = &first_token},
        {"timeout-between", .value = &between},
        {"timeout-total", .value = &total},
        {"cache-ttl", .value = &cache},
        {"capture", .value = &capture},
        {"file", .value = &file},
    };
    if (!command_parse_options("route", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    int status = common_verb(&route_noun, argc, argv, json);
    if (status >= 0)
        return status;
    yyjson_mut_doc *doc = file ? noun_read_file(&route_noun, file) : noun_new_object(NULL);
    if (!doc)
        return EXIT_FAILED;
    noun_put(doc, "balance", balance, false);
    noun_put(doc, "retry", retry, true);
    noun_put(doc, "timeout.connect", connect, false);
    noun_put(doc, "timeout.first_token", first_token, false);
    noun_put(doc, "timeout.between", between, false);
    noun_put(doc, "timeout.total", total, false);
    noun_put(doc, "cache.ttl", cache, false);
    noun_put(doc, "capture", capture, false);
    if (fallback) {
        yyjson_mut_val *object =
            yyjson_mut_obj_add_obj(doc, yyjson_mut_doc_get_root(doc), "fallback");
        yyjson_mut_val *causes = yyjson_mut_obj_add_arr(doc, object, "on");
        for (; *fallback; fallback++)
            yyjson_mut_arr_add_strcpy(doc, causes, *fallback);
    }
    if (!put_targets(doc, targets)) {
        yyjson_mut_doc_free(doc);
        return EXIT_USAGE;
    }
    return create_or_set(&route_noun, argc, argv, doc, json);
}

/* ---- key ---- */

static const struct column key_columns[] = {
    {"ID", "id"},
    {"NAME", "name"},
    {"SCOPES", "scopes"},
    {"MODELS", "models"},
    {"STATE", "state"},
    {"SPENT TODAY", "spent.day_usd", true},
    {"THIS MONTH", "spent.month_usd", true},
    {"LAST USED", "last_used_at"},
    {"ORIGIN", "origin"},
};
static const struct noun key_noun = {
    "key", "/api/keys", key_columns, COUNT_OF(key_columns),
    "no keys: make one with 'capstan key create NAME --model \"*\"'"};

int command_key(int argc, char **argv)
{
    bool json = false;
    const char *expires = NULL, *requests = NULL, *tokens = NULL, *parallel = NULL, *day = NULL,
               *month = NULL, *user = NULL, *capture = NULL, **scopes = NULL, **models = NULL,
               **tags = NULL;
    const struct option_spec specs[] = {
        {"json", .flag = &json},
        {"scope", .list = &scopes},
        {"model", .list = &models},
        {"tag", .list = &tags},
        {"expires", .value = &expires},
        {"requests-per-minute", .value = &requests},
        {"tokens-per-minute", .value = &tokens},
        {"parallel", .value = &parallel},
        {"budget-day", .value = &day},
        {"budget-month", .value = &month},
        {"user", .value = &user},
        {"capture", .value = &capture},
    };
    if (!command_parse_options("key", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc == 3 && strcmp(argv[1], "revoke") == 0)
        argv[1] = "delete";
    int status = common_verb(&key_noun, argc, argv, json);
    if (status >= 0)
        return status;
    yyjson_mut_doc *doc = noun_new_object(NULL);
    put_list(doc, "scopes", scopes);
    put_list(doc, "models", models);
    noun_put(doc, "expires_in", expires, false);
    noun_put(doc, "limits.requests_per_minute", requests, true);
    noun_put(doc, "limits.tokens_per_minute", tokens, true);
    noun_put(doc, "limits.parallel", parallel, true);
    noun_put(doc, "budget.day_usd", day, false);
    noun_put(doc, "budget.month_usd", month, false);
    noun_put(doc, "user", user, false);
    noun_put(doc, "capture", capture, false);
    if (!put_pairs(doc, "key", "tags", tags, '=')) {
        yyjson_mut_doc_free(doc);
        return EXIT_USAGE;
    }
    return create_or_set(&key_noun, argc, argv, doc, json);
}

/* ---- member ---- */

static const struct column member_columns[] = {
    {"ID", "id"},
    {"NAME", "name"},
    {"E-MAIL", "email"},
    {"ROLE", "role"},
    {"LAST SEEN", "last_seen_at"},
};
static const struct noun member_noun = {
    "member", "/api/members", member_columns, COUNT_OF(member_columns),
    "no members: invite one with 'capstan member invite --role editor'"};
static const struct noun invite_noun = {"member", "/api/invites", NULL, 0, ""};

int command_member(int argc, char **argv)
{
    bool json = false;
    const char *role = NULL, *email = NULL;
    const struct option_spec specs[] = {
        {"json", .flag = &json}, {"role", .value = &role}, {"email", .value = &email}};
    if (!command_parse_options("member", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc == 3 && strcmp(argv[1], "remove") == 0)
        argv[1] = "delete";
    int status = common_verb(&member_noun, argc, argv, json);
    if (status >= 0)
        return status;
    yyjson_mut_doc *doc = noun_new_object(NULL);
    noun_put(doc, "role", role, false);
    noun_put(doc, "email", email, false);
    if (argc == 2 && strcmp(argv[1], "invite") == 0)
        return noun_send(&invite_noun, "POST", invite_noun.path, doc, json);
    return create_or_set(&member_noun, argc, argv, doc, json);
}
