/* The command line: one table of commands, from which dispatch, --help and the man pages are made.
 */
#pragma once
#include "base/err.h"
#include <stdio.h>

struct command {
    const char *name;                  /* "route" */
    const char *summary;               /* one line */
    const char *usage;                 /* lines under "Usage:", each begins with "capstan NAME" */
    const char *options;               /* lines under "Options:", may be NULL */
    const char *examples;              /* lines under "Examples:" */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit status */
};

extern const struct command COMMANDS[];
extern const size_t COMMAND_COUNT;

const struct command *command_find(const char *name); /* NULL: there is none */
void command_print_help(const struct command *command, FILE *out);
void command_print_man(const struct command *command, FILE *out); /* troff, section 1 */

/* Exit statuses. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };
/* Prints "capstan NAME: …" and where help is; returns EXIT_USAGE. */
int command_usage_error(const char *name, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- options: --name VALUE, --name=VALUE, --flag; everything after -- is an operand ---- */
struct option_spec {
    const char *name;   /* without dashes */
    const char **value; /* takes a value: stored here */
    bool *flag;         /* or is a flag: set true */
    const char ***list; /* or may be repeated: NULL-terminated, grown here */
};

/* Takes options out of argv (in place); *argc is what remains, argv[0] included. False: an error
 * was printed; return EXIT_USAGE. "--help" prints the command's help and exits. */
bool command_parse_options(const char *name, int *argc, char **argv,
                           const struct option_spec *specs, size_t spec_count);

/* The commands, one file each or one per group. */
int command_serve(int argc, char **argv);
int command_check(int argc, char **argv);
int command_mock(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_key(int argc, char **argv);
int command_route(int argc, char **argv);
int command_pipeline(int argc, char **argv);
int command_prompt(int argc, char **argv);
int command_provider(int argc, char **argv);
int command_knowledge(int argc, char **argv);
int command_model(int argc, char **argv);
int command_engine(int argc, char **argv);
int command_call(int argc, char **argv);
int command_member(int argc, char **argv);
int command_export(int argc, char **argv);
int command_diff(int argc, char **argv);
int command_apply(int argc, char **argv);
int command_backup(int argc, char **argv);
int command_upgrade(int argc, char **argv);
int command_version(int argc, char **argv);
int command_help(int argc, char **argv);
