/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_netd.c - "lodge netd": the network processes that "lodge run" starts. It is in no list, because nobody types it.
 */
#include <unistd.h>

#include "cli/cli.h"
#include "net/netd.h"

int cli_netd(int argc, char **argv)
{
    _exit(netd_main(argc, argv)); /* there is nothing to flush, and an exit handler could do little in its sandbox */
}
