/* capstan prompt: prompts by the management interface, and a run of one by its name. */
#include "app/nouns.h"
#include <stdio.h>
#include <stdlib.h>

static const struct column prompt_columns[] = {
    {"NAME", "name"},     {"TYPE", "type"},
    {"FOLDER", "folder"}, {"VERSION", "version", true},
    {"MODEL", "model"},   {"CHANGED", "updated_at"},
};
static const struct noun prompt_noun = {
    "prompt", "/api/prompts", prompt_columns, COUNT_OF(prompt_columns),
    "no prompts: add one with 'capstan prompt set NAME --file prompt.yaml'"};

/* Saves the file's definition as the next version: PUT makes a prompt that is not there. */
static int prompt_set(const char *name, const char *file, const char *text, const char *model,
                      const char *message, const char **labels, bool json)
{
    if (!file && !text)
        return command_usage_error("prompt", "set needs --file or --text");
    yyjson_mut_doc *doc = file ? noun_read_file(&prompt_noun, file) : noun_new_object(NULL);
    if (!doc)
        return EXIT_FAILED;
    noun_put(doc, "prompt", text, false);
    noun_put(doc, "config.model", model, false);
    noun_put(doc, "message", message, false);
    if (labels) {
        yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "labels");
        for (; *labels; labels++)
            yyjson_mut_arr_add_strcpy(doc, list, *labels);
    }
    return noun_send(&prompt_noun, "PUT", noun_path(&prompt_noun, name, ""), doc, json);
}

static int prompt_label(const char *name, const char *label, const char *version, bool json)
{
    char suffix[200];
    yyjson_mut_doc *doc = noun_new_object(NULL);
    noun_put(doc, "version", version, true);
    snprintf(suffix, sizeof(suffix), "/labels/%.150s", label);
    return noun_send(&prompt_noun, "PUT", noun_path(&prompt_noun, name, suffix), doc, json);
}

/* Deleted words as [-…-], inserted ones as {+…+}, then the settings. */
static void print_diff(yyjson_val *root)
{
    size_t i, n;
    yyjson_val *part;
    yyjson_arr_foreach(yyjson_obj_get(root, "words"), i, n, part)
    {
        const char *op = yyjson_get_str(yyjson_obj_get(part, "op"));
        const char *text = yyjson_get_str(yyjson_obj_get(part, "text"));
        bool insert = op && strcmp(op, "insert") == 0, delete = op && strcmp(op, "delete") == 0;
        printf("%s%s%s",
               insert   ? "{+"
               : delete ? "[-"
                        : "",
               text ? text : "",
               insert   ? "+}"
               : delete ? "-]"
                        : "");
    }
    printf("\n");
    static const struct column columns[] = {
        {"SETTING", "path"}, {"BEFORE", "before"}, {"AFTER", "after"}};
    print_table(yyjson_obj_get(root, "fields"), columns, COUNT_OF(columns),
                "the settings are the same");
}

static int prompt_diff(const char *name, const char *from, const char *to, bool json)
{
    struct client_reply reply;
    char suffix[200];
    snprintf(suffix, sizeof(suffix), "/diff?from=%.80s&to=%.80s", from, to);
    if (!client_request_json("prompt", "GET", noun_path(&prompt_noun, name, suffix), NULL, &reply))
        return EXIT_FAILED;
    if (json)
        print_json(reply.root);
    else
        print_diff(reply.root);
    client_reply_free(&reply);
    return EXIT_OK;
}

/* Calls the prompt's model and prints the answer. */
static int prompt_run(const char *name, const char **variables, bool json)
{
    struct client_reply reply;
    char model[300];
    yyjson_mut_val *root, *values;
    yyjson_mut_doc *doc = noun_new_object(&root);
    snprintf(model, sizeof(model), "prompt/%.280s", name);
    yyjson_mut_obj_add_strcpy(doc, root, "model", model);
    values = yyjson_mut_obj_add_obj(doc, root, "variables");
    for (; variables && *variables; variables++) {
        const char *equals = strchr(*variables, '=');
        if (!equals) {
            yyjson_mut_doc_free(doc);
            return command_usage_error("prompt", "'%s' is not NAME=VALUE", *variables);
        }
        yyjson_mut_obj_add(values,
                           yyjson_mut_strncpy(doc, *variables, (size_t)(equals - *variables)),
                           yyjson_mut_strcpy(doc, equals + 1));
    }
    if (!client_request_json("prompt", "POST", "/v1/chat/completions", doc, &reply))
        return EXIT_FAILED;
    yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(reply.root, "choices"));
    const char *text = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(choice, "message"), "content"));
    if (json || !text)
        print_json(reply.root);
    else
        printf("%s\n", text);
    client_reply_free(&reply);
    return EXIT_OK;
}

int command_prompt(int argc, char **argv)
{
    bool json = false;
    const char *file = NULL, *text = NULL, *model = NULL, *message = NULL, *version = NULL,
               **labels = NULL, **variables = NULL;
    const struct option_spec specs[] = {
        {"json", .flag = &json},    {"file", .value = &file},       {"text", .value = &text},
        {"model", .value = &model}, {"message", .value = &message}, {"version", .value = &version},
        {"label", .list = &labels}, {"var", .list = &variables},
    };
    if (!command_parse_options("prompt", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    const char *verb = argc > 1 ? argv[1] : "list";
    char suffix[120] = "";
    if (strcmp(verb, "list") == 0)
        return noun_list(&prompt_noun, prompt_noun.path, 10000, json);
    if (argc == 3 && strcmp(verb, "get") == 0) {
        if (version)
            snprintf(suffix, sizeof(suffix), "/versions/%.100s", version);
        return noun_send(&prompt_noun, "GET", noun_path(&prompt_noun, argv[2], suffix), NULL, json);
    }
    if (argc == 3 && strcmp(verb, "set") == 0)
        return prompt_set(argv[2], file, text, model, message, labels, json);
    if (argc == 3 && strcmp(verb, "delete") == 0)
        return noun_delete(&prompt_noun, argv[2]);
    if (argc == 5 && strcmp(verb, "label") == 0)
        return prompt_label(argv[2], argv[3], argv[4], json);
    if (argc == 5 && strcmp(verb, "diff") == 0)
        return prompt_diff(argv[2], argv[3], argv[4], json);
    if (argc == 3 && strcmp(verb, "run") == 0)
        return prompt_run(argv[2], variables, json);
    return command_usage_error("prompt", "'%s' is not understood here", verb);
}
