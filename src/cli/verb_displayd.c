/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_displayd.c - "lodge displayd": the process that "lodge run --display" starts. It is in no list, because nobody
 * types it.
 */
#include <unistd.h>

#include "cli/cli.h"
#include "display/displayd.h"

int cli_displayd(int argc, char **argv)
{
    _exit(displayd_main(argc, argv)); /* there is nothing to flush, and an exit handler could do little in its
                                         sandbox */
}
