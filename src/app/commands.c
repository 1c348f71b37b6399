/* The table of commands: what `capstan help`, `--help` and the man pages say. */
#include "app/command.h"

const struct command COMMANDS[] = {
    {
        .name = "version",
        .summary = "print the version",
        .usage = "  capstan version\n",
        .run = command_version,
    },
    {
        .name = "help",
        .summary = "explain a command",
        .usage = "  capstan help [--man] [COMMAND]\n",
        .options = "  --man   as a man page (troff)\n",
        .examples = "  capstan help route\n  capstan help --man serve | man -l -\n",
        .run = command_help,
    },
};

const size_t COMMAND_COUNT = COUNT_OF(COMMANDS);
