/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netd.h - the network processes' main(): "lodge netd user" and "lodge netd switch NAME", started by net_open.
 */
#ifndef LODGE_NET_NETD_H
#define LODGE_NET_NETD_H

/* argv[0] is "netd". Returns the exit status. */
int netd_main(int argc, char **argv);

#endif
