/* Prompts: versioned definitions with labels, rendered with variables and called by name. The
 * definition (an object of kind "prompt", store/object.h):
 *
 *   type        "text" or "chat"
 *   prompt      a text, or messages {role, content} and placeholders {type: "placeholder", name}
 *   syntax      "mustache" (the default) or "jinja2"
 *   config      {model, temperature, …}; others than the known parameters are kept for clients
 *   tools, output_schema     as OpenAI's chat interface has them
 *   variables   [{name, description, default}]; examples, description, folder, tags
 *
 * A text may hold others: @@@langfusePrompt:name=NAME|label=LABEL@@@ (or version=N), Langfuse's
 * tag, replaced by that prompt's text before anything is rendered.
 *
 * Definitions are data: what they reach is the values passed in. Any thread. */
#pragma once
#include "base/map.h"
#include "store/object.h"
#include "text/template.h"

#define PROMPT_MESSAGES_MAX   256
#define PROMPT_BYTES_MAX      (1024 * 1024)
#define PROMPT_REFERENCES_MAX 64 /* in one prompt, all levels together */
#define PROMPT_NESTING_MAX    5  /* of references */
#define PROMPT_VERSIONS_KEPT  50 /* newest ones that can be called by number without a label */

struct prompt; /* compiled */

struct prompt_version {
    int64_t version;
    struct str spec;               /* the definition, JSON */
    const struct prompt *compiled; /* NULL: done when it is called */
};

/* A prompt with what can be called of it. */
struct prompt_family {
    struct str name;
    struct prompt_version *versions; /* newest first */
    size_t version_count;
    struct label *labels;
    size_t label_count;
};

/* "NAME", "NAME@label", "NAME@3" as parts. */
struct prompt_reference {
    struct str name, label; /* label empty: none was named */
    int64_t version;        /* 0: none was named */
};

struct prompt_found {
    const struct prompt_family *family;
    const struct prompt_version *version;
    struct str label; /* by which it was found; empty: by number */
};

/* Is the definition one? Errors name the member; texts must compile. */
enum rc prompt_check(yyjson_val *spec, struct err *err) MUST_CHECK;

void prompt_reference_parse(struct str text, struct prompt_reference *out);
/* In `prompts` (name → struct prompt_family). Without label and version: production, else the
 * newest. `share` picks among weighted versions of a label. ERR_NOT_FOUND naming what is missing.
 */
enum rc prompt_find(const struct map *prompts, const struct prompt_reference *reference,
                    uint64_t share, struct prompt_found *out, struct err *err) MUST_CHECK;
/* A text to its share: the same one always gets the same version. */
uint64_t prompt_share(struct str who);

/* Compiles a definition with the prompts it refers to, in the arena. `prompts` may be NULL:
 * references are then an error. */
enum rc prompt_compile(const struct map *prompts, yyjson_val *spec, struct arena *arena,
                       struct prompt **out, struct err *err) MUST_CHECK;
/* The definition with its references resolved: what Langfuse's interface hands out. */
enum rc prompt_resolve(const struct map *prompts, yyjson_val *spec, struct arena *arena,
                       yyjson_val **out, struct err *err) MUST_CHECK;

/* The members of a compiled definition. */
yyjson_val *prompt_config(const struct prompt *prompt); /* NULL: none; likewise the others */
yyjson_val *prompt_tools(const struct prompt *prompt);
yyjson_val *prompt_output_schema(const struct prompt *prompt);
bool prompt_is_chat(const struct prompt *prompt);
/* Names that it reads, each once; placeholders are not among them. */
void prompt_variables(const struct prompt *prompt, const struct str **names, size_t *count);

/* The messages [{role, content}] of a chat prompt, of a text prompt one message of the user, as a
 * list in `doc`. `values`: a JSON object of variables and of placeholders' messages, or NULL.
 * Defaults of the definition's variables count where `values` has none. ERR_MISSING_FIELD with
 * `variables.NAME` for a variable without a value. */
enum rc prompt_render(const struct prompt *prompt, yyjson_val *values, struct arena *arena,
                      yyjson_mut_doc *doc, yyjson_mut_val **messages, struct err *err) MUST_CHECK;
