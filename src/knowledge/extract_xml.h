/* XML for readers: expat with entity declarations refused and depth bounded. Names come without
 * their prefix, since documents choose prefixes freely. */
#pragma once
#include "knowledge/extract_reader.h"

struct xml_attributes {
    const char **pairs; /* expat's: name, value, …, NULL */
};

struct xml_calls {
    enum rc (*open)(void *arg, struct str name, struct xml_attributes attributes);
    enum rc (*close)(void *arg, struct str name); /* may be NULL, as text */
    enum rc (*text)(void *arg, struct str text);  /* in pieces */
};

/* RC_INVALID says what `part` of the file is broken, and where. A call's rc other than RC_OK ends
 * the parse and is returned. */
enum rc xml_parse(struct reader *reader, const char *part, struct str bytes,
                  const struct xml_calls *calls, void *arg) MUST_CHECK;
/* By its name without prefix; .p is NULL when it is not there. */
struct str xml_attribute(struct xml_attributes attributes, const char *name);
