/* UTF-8 checks and steps. */
#pragma once
#include "base/str.h"

bool utf8_valid(struct str s);
/* Length of the longest prefix of at most `n` bytes that does not cut a character. */
size_t utf8_cut(struct str s, size_t n);
/* Decodes the character at the start: its length in bytes, 0 when invalid or empty. */
size_t utf8_next(struct str s, uint32_t *codepoint);
size_t utf8_encode(uint32_t codepoint, char out[4]);
