/* Roles as sets of permissions. A role holds everything the role below it holds. */
#include "govern/principal.h"

#define BIT(name) PERMISSION_BIT(name)

#define VIEWER_BITS                                                                                \
    (BIT(CALL_MAKE) | BIT(CALL_READ) | BIT(PROVIDER_READ) | BIT(ROUTE_READ) | BIT(MODEL_READ) |    \
     BIT(KEY_READ) | BIT(LIMIT_READ) | BIT(PRICE_READ) | BIT(SETTING_READ) | BIT(JOB_READ) |       \
     BIT(SERVER_READ) | BIT(PROMPT_READ) | BIT(KNOWLEDGE_READ) | BIT(PIPELINE_READ) |              \
     BIT(PIPELINE_RUN))
#define EDITOR_BITS                                                                                \
    (VIEWER_BITS | BIT(PROVIDER_WRITE) | BIT(ROUTE_WRITE) | BIT(MODEL_WRITE) | BIT(PRICE_WRITE) |  \
     BIT(KEY_WRITE) | BIT(JOB_WRITE) | BIT(PROMPT_WRITE) | BIT(KNOWLEDGE_WRITE) |                  \
     BIT(PIPELINE_WRITE))
#define ADMIN_BITS                                                                                 \
    (EDITOR_BITS | BIT(CALL_DELETE) | BIT(LIMIT_WRITE) | BIT(MEMBER_READ) | BIT(MEMBER_WRITE) |    \
     BIT(SETTING_WRITE) | BIT(AUDIT_READ) | BIT(SERVER_WRITE) | BIT(CONFIG_READ) |                 \
     BIT(CONFIG_WRITE))

uint64_t role_permissions(enum role role)
{
    switch (role) {
    case ROLE_NONE: return 0;
    case ROLE_VIEWER: return VIEWER_BITS;
    case ROLE_EDITOR: return EDITOR_BITS;
    case ROLE_ADMIN: return ADMIN_BITS;
    case ROLE_OWNER: return (1ull << PERMISSION_COUNT) - 1;
    }
    UNREACHABLE();
}

static const char *const ROLE_NAMES[] = {"none", "viewer", "editor", "admin", "owner"};

const char *role_name(enum role role)
{
    ASSERT((size_t)role < COUNT_OF(ROLE_NAMES));
    return ROLE_NAMES[role];
}

enum rc role_parse(struct str s, enum role *out)
{
    for (size_t i = ROLE_VIEWER; i < COUNT_OF(ROLE_NAMES); i++) {
        if (!str_eq(s, str_from(ROLE_NAMES[i])))
            continue;
        *out = (enum role)i;
        return RC_OK;
    }
    return RC_INVALID;
}

const char *permission_name(enum permission permission)
{
    static const char *const names[] = {
#define PERMISSION(name, text) [PERMISSION_##name] = text,
#include "govern/permissions.h"
#undef PERMISSION
    };

    ASSERT((size_t)permission < COUNT_OF(names));
    return names[permission];
}

enum rc principal_require(const struct principal *principal, enum permission permission,
                          struct err *err)
{
    if (principal->permissions & (1ull << permission))
        return RC_OK;
    return err_set(err, ERR_FORBIDDEN,
                   "This needs the permission %s, which %s %.*s does not have: ask an admin.",
                   permission_name(permission),
                   id_is_zero(principal->key) ? "your role" : "the key", STR_ARG(principal->name));
}

struct actor principal_actor(const struct principal *principal, struct str client_ip)
{
    bool by_user = !id_is_zero(principal->user), by_key = !id_is_zero(principal->key);

    return (struct actor){
        .type = by_user  ? "user"
                : by_key ? "key"
                         : "session",
        .id = by_user  ? principal->user
              : by_key ? principal->key
                       : principal->session,
        .name = principal->name,
        .client_ip = client_ip,
    };
}
