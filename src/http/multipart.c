/* See multipart.h. */
#include "http/multipart.h"
#include "http/message.h"

#define BOUNDARY_BYTES_MAX  70 /* RFC 2046, section 5.1.1 */
#define PART_HEAD_BYTES_MAX 4096
#define PARTS_MAX           256

/* One parameter of a header: "; name=value" or "; name=\"value\"", taken off *rest. */
static bool parameter_take(struct str *rest, struct str *name, struct str *value)
{
    *rest = str_trim(*rest);
    if (rest->n == 0 || rest->p[0] != ';')
        return false;
    *rest = str_trim(str_slice(*rest, 1, rest->n));
    ssize_t equals = str_find_char(*rest, '=');
    if (equals <= 0)
        return false;
    *name = str_make(rest->p, (size_t)equals);
    *rest = str_slice(*rest, (size_t)equals + 1, rest->n);
    if (!http_is_token(*name))
        return false;
    if (rest->n > 0 && rest->p[0] == '"') {
        size_t end = 1;
        while (end < rest->n && rest->p[end] != '"')
            end += rest->p[end] == '\\' ? 2 : 1;
        if (end >= rest->n)
            return false;
        *value = str_slice(*rest, 1, end);
        *rest = str_slice(*rest, end + 1, rest->n);
        return true;
    }
    size_t end = 0;
    while (end < rest->n && rest->p[end] != ';')
        end++;
    *value = str_trim(str_make(rest->p, end));
    *rest = str_slice(*rest, end, rest->n);
    return true;
}

static bool boundary_valid(struct str boundary)
{
    for (size_t i = 0; i < boundary.n; i++) {
        char c = boundary.p[i], lower = c | 0x20;
        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') &&
            (c == 0 || !strchr("'()+_,-./:=? ", c)))
            return false;
    }
    return boundary.n > 0 && boundary.n <= BOUNDARY_BYTES_MAX && boundary.p[boundary.n - 1] != ' ';
}

struct str multipart_boundary(struct str content_type)
{
    static const struct str type = STR_INIT("multipart/form-data");
    if (content_type.n < type.n || !str_eq_nocase(str_slice(content_type, 0, type.n), type))
        return STR_EMPTY;
    struct str rest = str_slice(content_type, type.n, content_type.n), name, value;
    struct str boundary = STR_EMPTY;
    while (parameter_take(&rest, &name, &value))
        if (str_eq_nocase(name, STR("boundary"))) {
            if (boundary.p)
                return STR_EMPTY; /* two of them: who knows which the upstream would take */
            boundary = value;
        }
    return rest.n == 0 && boundary_valid(boundary) ? boundary : STR_EMPTY;
}

void multipart_init(struct multipart *multipart, struct str body, struct str boundary)
{
    ASSERT(boundary.n > 0 && boundary.n <= BOUNDARY_BYTES_MAX);
    *multipart = (struct multipart){.rest = body, .boundary = boundary};
}

/* What follows "--boundary": CRLF, a part begins; "--", the end. */
static enum rc delimiter_end(struct multipart *multipart)
{
    struct str *rest = &multipart->rest;
    if (str_starts(*rest, STR("--"))) {
        multipart->ended = true;
        return RC_END;
    }
    if (!str_starts(*rest, STR("\r\n")))
        return RC_INVALID;
    *rest = str_slice(*rest, 2, rest->n);
    return RC_OK;
}

static bool disposition_read(struct str value, struct multipart_part *part)
{
    static const struct str kind = STR_INIT("form-data");
    struct str rest = str_slice(value, kind.n, value.n), name, text;
    if (value.n < kind.n || !str_eq_nocase(str_slice(value, 0, kind.n), kind))
        return false;
    while (parameter_take(&rest, &name, &text)) {
        struct str *slot = str_eq_nocase(name, STR("name"))       ? &part->name
                           : str_eq_nocase(name, STR("filename")) ? &part->filename
                                                                  : NULL;
        if (slot && slot->p)
            return false;
        if (slot)
            *slot = text;
    }
    return rest.n == 0 && part->name.p != NULL;
}

/* "Name: value" lines; *rest starts behind the blank line afterwards. */
static enum rc head_read(struct str *rest, struct multipart_part *part)
{
    bool disposition = false;
    size_t before = rest->n;
    for (;;) {
        ssize_t end = str_find(str_slice(*rest, 0, PART_HEAD_BYTES_MAX), STR("\r\n"));
        if (end < 0 || before - rest->n > PART_HEAD_BYTES_MAX)
            return RC_INVALID;
        struct str line = str_make(rest->p, (size_t)end);
        *rest = str_slice(*rest, line.n + 2, rest->n);
        if (line.n == 0)
            return disposition ? RC_OK : RC_INVALID;
        ssize_t colon = str_find_char(line, ':');
        if (colon <= 0 || !http_is_field_value(line))
            return RC_INVALID;
        struct str name = str_make(line.p, (size_t)colon);
        struct str value = str_trim(str_slice(line, (size_t)colon + 1, line.n));
        if (!http_is_token(name))
            return RC_INVALID;
        if (str_eq_nocase(name, STR("content-disposition"))) {
            if (disposition || !disposition_read(value, part))
                return RC_INVALID;
            disposition = true;
        } else if (str_eq_nocase(name, STR("content-type"))) {
            part->content_type = value;
        }
    }
}

enum rc multipart_next(struct multipart *multipart, struct multipart_part *part)
{
    struct str *rest = &multipart->rest;
    *part = (struct multipart_part){0};
    if (multipart->ended)
        return RC_END;
    char delimiter[4 + BOUNDARY_BYTES_MAX] = "\r\n--";
    memcpy(delimiter + 4, multipart->boundary.p, multipart->boundary.n);
    struct str whole = str_make(delimiter, 4 + multipart->boundary.n);
    /* The first delimiter opens the body (what could stand before it nobody sends); a part takes
     * the one that ends it along. */
    struct str first = str_slice(whole, 2, whole.n);
    if (!multipart->begun) {
        if (!str_starts(*rest, first))
            return RC_INVALID;
        *rest = str_slice(*rest, first.n, rest->n);
        multipart->begun = true;
    }
    enum rc rc = delimiter_end(multipart);
    if (rc == RC_OK)
        rc = head_read(rest, part);
    if (rc != RC_OK)
        return rc;
    ssize_t end = str_find(*rest, whole);
    if (end < 0)
        return RC_INVALID;
    part->body = str_make(rest->p, (size_t)end);
    *rest = str_slice(*rest, (size_t)end + whole.n, rest->n);
    return RC_OK;
}

enum rc multipart_find(struct str body, struct str boundary, struct str name, struct str *value)
{
    struct multipart multipart;
    multipart_init(&multipart, body, boundary);
    *value = STR_EMPTY;
    for (int i = 0; i < PARTS_MAX; i++) {
        struct multipart_part part;
        enum rc rc = multipart_next(&multipart, &part);
        if (rc == RC_END)
            return value->p ? RC_OK : RC_NOT_FOUND;
        if (rc != RC_OK)
            return rc;
        if (!str_eq(part.name, name))
            continue;
        if (value->p || part.filename.p)
            return RC_INVALID;
        *value = part.body;
    }
    return RC_INVALID;
}
