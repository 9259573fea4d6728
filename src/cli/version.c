/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version.c - "lodge version".
 */
#include <stdio.h>

#include "cli/cli.h"
#include "lodge_config.h"

int cli_version(int argc, char **argv)
{
    if (argc > 1)
        return usage_error("\"lodge version\" takes no arguments");
    printf("lodge %s\n", LODGE_VERSION);
    return STATUS_OK;
}

void help_version(void)
{
    puts("Usage: lodge version\n\nPrints the version.  \"lodge --version\" does the same.");
}
