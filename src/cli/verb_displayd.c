/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_displayd.c - "lodge displayd": the process that "lodge run --display" starts.  In no list: nobody types it.
 */
#include <unistd.h>

#include "cli/cli.h"
#include "display/displayd.h"

int cli_displayd(int argc, char **argv)
{
    _exit(displayd_main(argc, argv)); /* nothing to flush, and little that an exit handler could do in its sandbox */
}
