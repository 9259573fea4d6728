/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_netd.c - "lodge netd": the network processes that "lodge run" starts.  In no list: nobody types it.
 */
#include <unistd.h>

#include "cli/cli.h"
#include "net/netd.h"

int cli_netd(int argc, char **argv)
{
    _exit(netd_main(argc, argv)); /* nothing to flush, and little that an exit handler could do in its sandbox */
}
