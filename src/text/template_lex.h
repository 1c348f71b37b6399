/* Sources of Jinja2 templates cut into parts (text, {{ … }}, {% … %}, comments) with white-space
 * control applied, and the tokens within the parts. Follows jinja2/lexer.py. */
#pragma once
#include "text/template_private.h"

enum template_part {
    PART_END,
    PART_TEXT,     /* nothing but text: a comment or raw block followed it */
    PART_VARIABLE, /* its tokens follow, up to TOKEN_CLOSE */
    PART_BLOCK,
};

/* Tokens of one character have its code. */
enum template_token_type {
    TOKEN_CLOSE = 256,
    TOKEN_NAME,
    TOKEN_TEXT,
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_POWER,        /* ** */
    TOKEN_FLOOR_DIVIDE, /* // */
    TOKEN_EQUAL,
    TOKEN_UNEQUAL,
    TOKEN_AT_MOST,
    TOKEN_AT_LEAST,
};

struct template_token {
    int type;
    struct str text; /* name, digits, decoded text */
    uint32_t at;
};

struct template_lexer {
    struct str source; /* line ends made \n, the last one taken off */
    size_t at;
    const struct template_options *options;
    struct arena *arena;
    struct err *err;
    bool block;   /* the part under way is a block */
    int brackets; /* open in the part: }} and %} do not close it then */
    bool strip;   /* white space after the last part goes */
    struct template_token token, ahead;
    bool have_ahead;
};

/* Copies the source with its line ends as Jinja2 sees them. */
enum rc template_lex_start(struct template_lexer *lexer, struct str source,
                           const struct template_options *options, struct arena *arena,
                           struct err *err) MUST_CHECK;
/* The text before the next part, and what part follows; for a variable or block the first token
 * has been read. */
enum rc template_lex_part(struct template_lexer *lexer, struct str *text,
                          enum template_part *part) MUST_CHECK;
/* Reads the next token of the part. */
enum rc template_lex_token(struct template_lexer *lexer) MUST_CHECK;
/* The one after it, without taking it. */
enum rc template_lex_peek(struct template_lexer *lexer) MUST_CHECK;
