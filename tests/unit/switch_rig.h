/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch_rig.h - cards at a switch of this host, and who is behind it.  Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_SWITCH_RIG_H
#define LODGE_TEST_SWITCH_RIG_H

#include "net_wire.h"
#include "said.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "net/frame.h"
#include "net/peer.h"
#include "net/switch_socket.h"

#include "confined.h"
#include "net_frames.h"

static struct loop *loop;
static char dir[] = "/tmp/lodge-switch-XXXXXX";

struct card {
    struct net *net;
    u8 mac[6];
    u8 last[NET_HDR + 9000];
    size_t len;
    u32 got;
    bool deaf;
};

static u32 expected, arrived;

static inline bool receive(void *c, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    struct card *card = c;

    if (card->deaf)
        return false;
    card->len = 0;
    for (u32 i = 0; i < niov && card->len + iov[i].iov_len <= sizeof(card->last); i++) {
        memcpy(card->last + card->len, iov[i].iov_base, iov[i].iov_len);
        card->len += iov[i].iov_len;
    }
    CHECK(card->len == len || len > sizeof(card->last));
    card->got++;
    if (++arrived == expected)
        loop_stop(loop);
    return true;
}

static inline void link_state(void *c, bool up)
{
    loop_stop(loop);
}

static const struct net_user user = { receive, NULL, link_state, NULL };

static inline void give_up(struct timer *t)
{
    test_fail(__FILE__, __LINE__, "only %u of %u packets came", arrived, expected);
    loop_stop(t->loop);
}

/* Until n packets have come, to whomever. */
static inline void run_until(u32 n)
{
    struct timer limit;

    timer_init(&limit, loop, give_up);
    timer_arm(&limit, clock_ns() + 200 * 1000000000ull);
    arrived = 0;
    expected = n;
    CHECK_EQ(loop_run(loop), 0);
    timer_disarm(&limit);
}

static inline void begin(void)
{
    if (!mkdtemp(dir))
        abort();
    setenv("XDG_RUNTIME_DIR", dir, 1);
    loop = loop_new();
}

static inline int connect_raw(const char *name)
{
    struct error err;
    int s = switch_connect(name, &err);

    CHECK(s >= 0);
    return s;
}

/* The process behind the switch. */
static inline pid_t switch_pid(const char *name)
{
    int s = connect_raw(name);
    struct ucred peer = { 0 };
    socklen_t len = sizeof(peer);

    getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    close(s);
    return peer.pid;
}

static inline void wait_gone(const char *name)
{
    char path[SWITCH_PATH];
    struct error err;

    CHECK_EQ(switch_path(name, path, &err), 0);
    while (!access(path, F_OK)) /* ends with the test's timeout at the latest */
        usleep(1000);
}

static inline void end(void)
{
    char path[64];

    loop_free(loop);
    snprintf(path, sizeof(path), "%s/lodge", dir);
    rmdir(path);
    CHECK_EQ(rmdir(dir), 0);
    strcpy(dir, "/tmp/lodge-switch-XXXXXX");
}

static inline void plug(struct card *c, const char *spec)
{
    struct error err;

    memset(c, 0, sizeof(*c));
    c->net = net_said(spec, loop, &err);
    if (!c->net) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    net_mac(c->net, c->mac);
    net_connect(c->net, &user, c);
}

static inline void send_as(struct card *c, const u8 dst[6], const u8 src[6], size_t len)
{
    static u8 f[NET_HDR + NET_MAX_FRAME];
    const struct iovec iov[1] = { { f, NET_HDR + len } };

    memcpy(f + NET_HDR, dst, 6);
    memcpy(f + NET_HDR + 6, src, 6);
    put16(f + NET_HDR + 12, 0x88b5);
    CHECK(net_send(c->net, 0, iov, 1, NET_HDR + len));
    net_flush(c->net, 0);
}

static const u8 everyone[6] = { 255, 255, 255, 255, 255, 255 }, nobody[6] = { 2, 0, 0, 0, 0, 9 };

static inline int raw_join(const char *name, struct link *l)
{
    struct peer_hello h = { .magic = PEER_MAGIC, .version = PEER_VERSION, .mac = { 2, 0, 0, 0, 0, 1 } };
    struct peer_answer a;
    int s = connect_raw(name), fds[3];
    struct iovec iov = { &a, sizeof(a) };
    char control[CMSG_SPACE(sizeof(fds))] __attribute__((aligned(8)));
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };

    CHECK_EQ(send(s, &h, sizeof(h), 0), sizeof(h));
    CHECK_EQ(recvmsg(s, &m, 0), sizeof(a));
    CHECK_EQ(a.result, 0);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fds));
    CHECK_EQ(link_attach(l, fds), 0);
    return s;
}

static inline bool hung_up(int s)
{
    struct pollfd p = { .fd = s, .events = POLLIN };
    char c;

    return poll(&p, 1, 200000) == 1 && recv(s, &c, 1, 0) <= 0;
}

#endif
