/* The program's entry: dispatches to the commands of commands.c. */
#include "app/command.h"
#include "knowledge/extract.h"
#include <signal.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (extract_is_child(argc, argv)) /* hidden: a confined reader of one document */
        return extract_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return command_help(1, argv);
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0)
        name = "version";
    else if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    const struct command *command = command_find(name);
    if (!command) {
        fprintf(stderr, "capstan: there is no command '%s'. Try 'capstan help'.\n", name);
        return EXIT_USAGE;
    }
    return command->run(argc - 1, argv + 1);
}
