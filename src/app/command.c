/* Dispatch, help and options of the command line. */
#include "app/command.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(COMMANDS[i].name, name) == 0)
            return &COMMANDS[i];
    return NULL;
}

void command_print_help(const struct command *command, FILE *out)
{
    fprintf(out, "capstan %s: %s\n\nUsage:\n%s", command->name, command->summary, command->usage);
    if (command->options)
        fprintf(out, "\nOptions:\n%s", command->options);
    if (command->examples)
        fprintf(out, "\nExamples:\n%s", command->examples);
}

/* Text as troff: dashes and leading dots mean themselves. */
static void print_roff(const char *text, FILE *out)
{
    bool line_start = true;
    for (const char *p = text; *p; p++) {
        if (line_start && (*p == '.' || *p == '\''))
            fputs("\\&", out);
        if (*p == '-' || *p == '\\')
            fputc('\\', out);
        if (*p == '\\')
            fputc('e', out);
        else
            fputc(*p, out);
        line_start = *p == '\n';
    }
}

static void print_man_block(const char *heading, const char *text, FILE *out)
{
    if (!text)
        return;
    fprintf(out, ".SH %s\n.nf\n", heading);
    print_roff(text, out);
    fputs(".fi\n", out);
}

void command_print_man(const struct command *command, FILE *out)
{
    fprintf(out, ".TH CAPSTAN-%s 1 \"\" \"capstan " CAPSTAN_VERSION "\"\n", command->name);
    fprintf(out, ".SH NAME\ncapstan\\-%s \\- ", command->name);
    print_roff(command->summary, out);
    fputc('\n', out);
    print_man_block("SYNOPSIS", command->usage, out);
    print_man_block("OPTIONS", command->options, out);
    print_man_block("EXAMPLES", command->examples, out);
    fputs(".SH ENVIRONMENT\n.nf\nCAPSTAN_URL   address of the server, for the client commands\n"
          "CAPSTAN_KEY   key for the client commands\nCAPSTAN_CONFIG, CAPSTAN_DATA, CAPSTAN_LISTEN"
          "   defaults of capstan serve\n.fi\n",
          out);
}

int command_usage_error(const char *name, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "capstan %s: ", name);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\nTry 'capstan %s --help'.\n", name);
    va_end(args);
    return EXIT_USAGE;
}

static const struct option_spec *find_option(const struct option_spec *specs, size_t count,
                                             const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(specs[i].name) == name_bytes && memcmp(specs[i].name, name, name_bytes) == 0)
            return &specs[i];
    return NULL;
}

static void append_value(const char ***list, const char *value)
{
    size_t count = 0;
    while (*list && (*list)[count])
        count++;
    *list = xrealloc(*list, (count + 2) * sizeof(**list));
    (*list)[count] = value;
    (*list)[count + 1] = NULL;
}

bool command_parse_options(const char *name, int *argc, char **argv,
                           const struct option_spec *specs, size_t spec_count)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--") == 0) {
            while (++i < *argc)
                argv[kept++] = argv[i];
            break;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            command_print_help(command_find(name), stdout);
            exit(EXIT_OK);
        }
        if (strncmp(arg, "--", 2) != 0) {
            argv[kept++] = argv[i];
            continue;
        }
        const char *equals = strchr(arg, '=');
        size_t name_bytes = equals ? (size_t)(equals - arg - 2) : strlen(arg + 2);
        const struct option_spec *spec = find_option(specs, spec_count, arg + 2, name_bytes);
        if (!spec) {
            command_usage_error(name, "unknown option %s", arg);
            return false;
        }
        if (spec->flag) {
            *spec->flag = true;
            continue;
        }
        const char *value = equals ? equals + 1 : ++i < *argc ? argv[i] : NULL;
        if (!value) {
            command_usage_error(name, "%s needs a value", arg);
            return false;
        }
        if (spec->list)
            append_value(spec->list, value);
        else
            *spec->value = value;
    }
    *argc = kept;
    argv[kept] = NULL;
    return true;
}

int command_version(int argc, char **argv)
{
    UNUSED(argc);
    UNUSED(argv);
    puts("capstan " CAPSTAN_VERSION);
    return EXIT_OK;
}

static void print_overview(FILE *out)
{
    fputs("capstan: the LLMOps stack in one program\n\nUsage:\n  capstan COMMAND [OPTIONS] "
          "[ARGUMENTS]\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    fputs("\n'capstan COMMAND --help' tells more, with examples.\n", out);
}

int command_help(int argc, char **argv)
{
    bool man = false;
    const struct option_spec specs[] = {{"man", .flag = &man}};
    if (!command_parse_options("help", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc < 2) {
        print_overview(stdout);
        return EXIT_OK;
    }
    const struct command *command = command_find(argv[1]);
    if (!command)
        return command_usage_error("help", "there is no command '%s'", argv[1]);
    if (man)
        command_print_man(command, stdout);
    else
        command_print_help(command, stdout);
    return EXIT_OK;
}
