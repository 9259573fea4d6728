/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_wire.h - for the tests of src/net: this program as its own "lodge netd"; a guest that is a network namespace with
 * the kernel's own TCP/IP behind a tap, wired to the network under test.
 */
#ifndef LODGE_TESTS_NET_WIRE_H
#define LODGE_TESTS_NET_WIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/net.h"
#include "net/netd.h"
#include "test.h"

__attribute__((constructor)) static void be_netd(int argc, char **argv, char **env)
{
    if (argc > 1 && !strcmp(argv[1], "netd"))
        _exit(netd_main(argc - 1, argv + 1));
}

/* ---- two networks, each the other's card ---- */

struct wire_end {
    struct net *net;
    struct wire_end *other;
    u64 refused;
};

static bool wire_receive(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    struct wire_end *e = card;

    if (net_send(e->other->net, 0, iov, niov, len))
        return true;
    e->refused++;
    return false;
}

static void wire_batch(void *card, u32 q)
{
    net_flush(((struct wire_end *)card)->other->net, 0);
}

static void wire_room(void *card)
{
    net_resume(((struct wire_end *)card)->other->net, 0);
}

static const struct net_user wire_user __attribute__((unused)) = { wire_receive, wire_batch, NULL, wire_room };

static __attribute__((unused)) void wire(struct wire_end e[2], struct net *a, struct net *b, u32 offloads)
{
    e[0] = (struct wire_end){ a, &e[1] };
    e[1] = (struct wire_end){ b, &e[0] };
    for (int i = 0; i < 2; i++) {
        net_set_offloads(e[i].net, offloads);
        net_connect(e[i].net, &wire_user, &e[i]);
    }
}

/* ---- the guest ---- */

static __attribute__((unused)) bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

/* This process goes into a user and a network namespace of its own, with a tap "gst0" that is up and has mac.  False:
   this host does not allow it. The process must have one thread. */
static __attribute__((unused)) bool guest_enter(const u8 mac[6], u32 queues)
{
    struct ifreq ifr = { .ifr_flags =
                             (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (queues > 1 ? IFF_MULTI_QUEUE : 0)) };
    char map[32];

    snprintf(map, sizeof(map), "0 %u 1", geteuid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
        return false;
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", map);
    int fd = open("/dev/net/tun", O_RDWR), s = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(ifr.ifr_name, "gst0");
    bool ok = fd >= 0 && !ioctl(fd, TUNSETIFF, &ifr) && !ioctl(fd, TUNSETPERSIST, 1);
    if (mac) {
        ifr.ifr_hwaddr.sa_family = 1 /* ARPHRD_ETHER */;
        memcpy(ifr.ifr_hwaddr.sa_data, mac, 6);
        ok = ok && !ioctl(s, SIOCSIFHWADDR, &ifr);
    }
    ifr.ifr_flags = IFF_UP;
    ok = ok && !ioctl(s, SIOCSIFFLAGS, &ifr);
    strcpy(ifr.ifr_name, "lo");
    ok = ok && !ioctl(s, SIOCSIFFLAGS, &ifr);
    close(s);
    if (fd >= 0)
        close(fd);
    return ok;
}

static __attribute__((unused)) int sh(const char *command)
{
    int r = system(command);

    if (r)
        fprintf(stderr, "%s: status %d\n", command, r);
    return r;
}

/* Can this host make such guests? Says so if not. */
static __attribute__((unused)) bool guest_possible(void)
{
    int status;
    const pid_t pid = fork();

    if (!pid)
        _exit(!guest_enter(NULL, 1) || system("ip link show gst0 >/dev/null 2>&1"));
    if (waitpid(pid, &status, 0) == pid && !status)
        return true;
    printf("     left out: no namespaces, no /dev/net/tun or no \"ip\" for a guest\n");
    return false;
}

static __attribute__((unused)) bool ipv6_possible(void)
{
    const struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    const int s = socket(AF_INET6, SOCK_DGRAM, 0);
    const bool yes = s >= 0 && !bind(s, (const struct sockaddr *)&a, sizeof(a));

    if (s >= 0)
        close(s);
    if (!yes)
        printf("     left out: IPv6, which this host has not got\n");
    return yes;
}

static __attribute__((unused)) void *loop_thread(void *loop)
{
    return (void *)(uintptr_t)loop_run(loop);
}

#endif
