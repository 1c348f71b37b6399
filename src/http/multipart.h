/* Forms with files: multipart/form-data (RFC 7578, over RFC 2046) in a body that is there as a
 * whole. Nothing is copied, so a field's value can be exchanged by splicing the body around it.
 * Strict: what a lenient reader could take apart in another way is refused. */
#pragma once
#include "base/str.h"

struct multipart {
    struct str rest, boundary;
    bool begun, ended;
};

struct multipart_part {
    struct str name;         /* of the field, as it stands between the quotes */
    struct str filename;     /* .p NULL: not a file */
    struct str content_type; /* may be empty */
    struct str body;
};

/* The boundary of a multipart/form-data content type; empty: it is none, or not a valid one. */
struct str multipart_boundary(struct str content_type);
void multipart_init(struct multipart *multipart, struct str body, struct str boundary);
/* RC_END after the closing delimiter; RC_INVALID. */
enum rc multipart_next(struct multipart *multipart, struct multipart_part *part) MUST_CHECK;
/* The value of the one field of that name. RC_NOT_FOUND; RC_INVALID: more than one, or a damaged
 * form. */
enum rc multipart_find(struct str body, struct str boundary, struct str name,
                       struct str *value) MUST_CHECK;
