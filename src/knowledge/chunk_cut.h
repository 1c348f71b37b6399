/* Where a text may be cut. */
#pragma once
#include "base/str.h"

enum cut_grain { CUT_SENTENCE, CUT_LINE, CUT_WORD, CUT_CHARACTER };

/* Length of the first sentence (line, word, character) with the white space after it; at least 1
 * for a text that is not empty. */
size_t chunk_cut(struct str text, enum cut_grain grain);
struct str chunk_trim(struct str text);
