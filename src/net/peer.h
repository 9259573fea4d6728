/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - how a VM and a network process meet. Over a connected unix socket (SOCK_SEQPACKET) the VM says in one
 * message what it wants. It gets one answer; if the answer is yes, the descriptors of a link (ring.h) come with it.
 * After that the socket serves only to tell each side of the other's end.
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

/* The options of "user", checked. */
struct user_config {
    u32 mtu, nforwards;
    struct in_addr net, mask, gateway, dns, dhcp;
    bool restricted, ipv6;
    char hostname[64];
    char tftp[1024], bootfile[128]; /* bootfile: as long as the field in DHCP's header */
    struct user_forward forward[NET_MAX_FORWARDS];
};
int must_check user_options(struct user_config *c, const struct config_net *n, struct error *err);

struct peer_hello {
    u32 magic, version;
    u8 mac[6];
    bool mac_fixed;          /* a switch must give this address or refuse; if false, the address is only a wish */
    struct user_config user; /* all zero for a switch */
};

struct peer_answer {
    u32 magic;
    s32 result; /* -errno with the sentence in err; 0: err says what the sandbox lacks on this host, or "" */
    struct error err;
    u8 mac[6];
    u16 port[NET_MAX_FORWARDS];
};

/* For the network process. Receive: -errno if the message is not a hello; -EAGAIN. Answer: fds may be NULL. */
int must_check peer_receive_hello(int sock, struct peer_hello *h);
int must_check peer_send_answer(int sock, const struct peer_answer *a, const int fds[3]);

/* The network processes. netd.c runs them; they return the exit status. */
int user_process(int sock, const char *tftp); /* tftp: the folder that the machine may name, or "" */
int switch_process(int listener);
/* Listens in a directory that belongs to this user. -EADDRINUSE: the switch runs already. Else -errno with err set. */
int must_check switch_listen(const char *name, struct error *err);
/* Removes the name of a switch that does not listen any more. */
void switch_forget(const char *name);
/* A connected socket. -ENOENT, -ECONNREFUSED: the switch does not run, and err is "". Else -errno with err set. */
int must_check switch_connect(const char *name, struct error *err);

#endif
