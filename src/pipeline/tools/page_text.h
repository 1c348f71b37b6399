/* The words of a web page, for models: tags, scripts and styles left out, blocks on lines of their
 * own. One pass, no tree: the input is somebody else's, the output at most as long. Any thread. */
#pragma once
#include "base/arena.h"

/* `type`: the answer's content type; what is neither HTML nor XML comes back as it is. .p NULL: the
 * arena is full. */
struct str page_text(struct str page, struct str type, struct arena *arena);
