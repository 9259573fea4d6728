/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netd.c - "lodge netd": the network processes that "lodge run" starts.  In no list: nobody types it.
 */
#include "cli/cli.h"
#include "net/netd.h"

int cli_netd(int argc, char **argv)
{
    return netd_main(argc, argv);
}
