/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_directd.c - "lodge directd": the process that makes those in which a guest's programs run. It is in no list, because
 * nobody types it.
 */
#include <unistd.h>

#include "cli/cli.h"
#include "engine/directd.h"

int cli_directd(int argc, char **argv)
{
    _exit(directd_main(argc, argv));
}
