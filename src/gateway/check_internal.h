/* What the files of check*.c share; nothing else includes this. */
#pragma once
#include "gateway/check.h"

enum pii {
#define PII(symbol, name, mask, pattern) PII_##symbol,
#include "gateway/check_pii.h"
#undef PII
    PII_COUNT
};

struct pii_kind {
    struct str name, mask, pattern;
};

const struct pii_kind *pii_kinds(void); /* PII_COUNT of them */
/* How many of the match's bytes are really of that kind; 0: none. */
size_t pii_verify(enum pii kind, struct str match);
