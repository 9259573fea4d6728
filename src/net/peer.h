/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - how a VM and a network process meet: over a connected unix socket (SOCK_SEQPACKET) the VM says what it wants
 * in one message and gets one answer, with the descriptors of a link (ring.h) if it is yes.  After that the socket only
 * tells each of the other's end.
 */
#ifndef LODGE_NET_PEER_H
#define LODGE_NET_PEER_H

#include <netinet/in.h>

#include "net/backend.h"
#include "net/ring.h"

enum { PEER_MAGIC = 0x54454e4c /* "LNET" */, PEER_VERSION = 2 };

struct user_forward {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } host, guest;
    bool udp;
};

/* "user" and its options, checked. */
struct user_config {
    u32 mtu, nforwards;
    struct in_addr net, mask, gateway, dns, dhcp;
    bool restricted, ipv6;
    char hostname[64];
    char tftp[1024], bootfile[128]; /* bootfile: as long as DHCP's header has room */
    struct user_forward forward[NET_MAX_FORWARDS];
};
int must_check user_options(struct user_config *c, const struct config_net *n, struct error *err);

struct peer_hello {
    u32 magic, version;
    u8 mac[6];
    bool mac_fixed;          /* a switch must give this one or refuse; else it is a wish */
    struct user_config user; /* all zero for a switch */
};

struct peer_answer {
    u32 magic;
    s32 result; /* -errno with the sentence in err; 0: err says what its sandbox has not got here, or "" */
    struct error err;
    u8 mac[6];
    u16 port[NET_MAX_FORWARDS];
};

/* The network process's side. Receive: -errno for what is no hello, -EAGAIN. Answer: fds may be NULL. */
int must_check peer_receive_hello(int sock, struct peer_hello *h);
int must_check peer_send_answer(int sock, const struct peer_answer *a, const int fds[3]);

/* The network processes, run by netd.c; they return the exit status. */
int user_process(int sock);
int switch_process(int listener);
/* Listens, in a directory of this user's. -EADDRINUSE: the switch is there already; else -errno with err set. */
int must_check switch_listen(const char *name, struct error *err);
/* Removes the name of a switch that listens no more. */
void switch_forget(const char *name);
/* A connected socket; -ENOENT, -ECONNREFUSED: it does not run; else -errno with err set ("" in those). */
int must_check switch_connect(const char *name, struct error *err);

#endif
