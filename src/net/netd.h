/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netd.h - main() of the network processes: "lodge netd user" and "lodge netd switch NAME", which net_open starts.
 */
#ifndef LODGE_NET_NETD_H
#define LODGE_NET_NETD_H

/* argv[0] is "netd". Returns the exit status. */
int netd_main(int argc, char **argv);

#endif
