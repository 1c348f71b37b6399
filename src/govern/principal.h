/* Who asks: users, sessions, keys and the first-run link all resolve to one principal. */
#pragma once
#include "base/err.h"
#include "base/id.h"
#include "store/audit.h"

enum permission {
#define PERMISSION(name, text) PERMISSION_##name,
#include "govern/permissions.h"
#undef PERMISSION
    PERMISSION_COUNT
};

enum role { ROLE_NONE, ROLE_VIEWER, ROLE_EDITOR, ROLE_ADMIN, ROLE_OWNER };

#define PERMISSION_BIT(name) (1ull << PERMISSION_##name)

struct principal {
    struct id project;
    enum role role;
    uint64_t permissions; /* bit set of enum permission: what role and scopes allow together */
    struct id key;        /* zero: not by key */
    struct id user;       /* zero: not by a user's session */
    struct id session;
    struct str name;         /* for the audit log: user's e-mail or key's name */
    int64_t expires_wall_ns; /* of the session; 0: does not */
};

uint64_t role_permissions(enum role role);
const char *role_name(enum role role);
enum rc role_parse(struct str s, enum role *out) MUST_CHECK;
const char *permission_name(enum permission permission);
/* ERR_FORBIDDEN with the missing permission in the message. */
enum rc principal_require(const struct principal *principal, enum permission permission,
                          struct err *err) MUST_CHECK;
/* As the audit log names it. */
struct actor principal_actor(const struct principal *principal, struct str client_ip);
