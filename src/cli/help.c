/* SPDX-License-Identifier: Apache-2.0 */
/*
 * help.c - "lodge help [COMMAND]".
 */
#include <stdio.h>

#include "cli/cli.h"

int cli_help(int argc, char **argv)
{
    if (argc > 2)
        return usage_error("\"lodge help\" explains one command at a time");
    if (argc == 2) {
        const struct verb *v = verb_find(argv[1]);
        if (!v)
            return usage_error("there is no command \"%s\"; \"lodge help\" lists them", argv[1]);
        v->help();
        return STATUS_OK;
    }
    puts("Usage: lodge COMMAND [OPTIONS]\n\n"
         "Lodge runs unmodified guest operating systems, on KVM where the host has a usable one\n"
         "and on its own software engine where it has not.\n");
    for (const struct verb *v = verbs; v->name; v++)
        printf("  %-10s %s\n", v->name, v->summary);
    puts("\n\"lodge help COMMAND\" says more about one; \"man lodge\" about all.");
    return STATUS_OK;
}

void help_help(void)
{
    puts("Usage: lodge help [COMMAND]\n\nLists the commands, or explains one.");
}
