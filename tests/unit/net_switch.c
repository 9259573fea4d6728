/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_switch.c - "switch:NAME": three machines and what each gets to see; addresses that others want; a machine that
 * takes nothing; clients that talk nonsense; the end with the last and the beginning with the next.
 */
#include "net_wire.h"
#include "said.h"

#include <dirent.h>
#include <signal.h>
#include <sys/epoll.h>
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

static bool receive(void *c, u32 q, const struct iovec *iov, u32 niov, size_t len)
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

static void link_state(void *c, bool up)
{
    loop_stop(loop);
}

static const struct net_user user = { receive, NULL, link_state, NULL };

static void give_up(struct timer *t)
{
    test_fail(__FILE__, __LINE__, "only %u of %u packets came", arrived, expected);
    loop_stop(t->loop);
}

/* Until n packets have come, to whomever. */
static void run_until(u32 n)
{
    struct timer limit;

    timer_init(&limit, loop, give_up);
    timer_arm(&limit, clock_ns() + 200 * 1000000000ull);
    arrived = 0;
    expected = n;
    CHECK_EQ(loop_run(loop), 0);
    timer_disarm(&limit);
}

static void begin(void)
{
    if (!mkdtemp(dir))
        abort();
    setenv("XDG_RUNTIME_DIR", dir, 1);
    loop = loop_new();
}

static int connect_raw(const char *name)
{
    struct error err;
    int s = switch_connect(name, &err);

    CHECK(s >= 0);
    return s;
}

/* The process behind the switch. */
static pid_t switch_pid(const char *name)
{
    int s = connect_raw(name);
    struct ucred peer = { 0 };
    socklen_t len = sizeof(peer);

    getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    close(s);
    return peer.pid;
}

static void wait_gone(const char *name)
{
    char path[SWITCH_PATH];
    struct error err;

    CHECK_EQ(switch_path(name, path, &err), 0);
    while (!access(path, F_OK)) /* ends with the test's timeout at the latest */
        usleep(1000);
}

static void end(void)
{
    char path[64];

    loop_free(loop);
    snprintf(path, sizeof(path), "%s/lodge", dir);
    rmdir(path);
    CHECK_EQ(rmdir(dir), 0);
    strcpy(dir, "/tmp/lodge-switch-XXXXXX");
}

static void plug(struct card *c, const char *spec)
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

static void send_as(struct card *c, const u8 dst[6], const u8 src[6], size_t len)
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

TEST(who_gets_what)
{
    static struct card a, b, c;
    struct error err;
    char spec[64];

    begin();
    plug(&a, "switch:lab");
    plug(&b, "switch:lab,mac=52:54:00:00:00:0b");
    plug(&c, "switch:lab");
    CHECK_EQ(b.mac[5], 0x0b);
    CHECK(memcmp(a.mac, c.mac, 6) && a.mac[0] % 4 == 2);

    send_as(&a, everyone, a.mac, 60);
    run_until(2);
    CHECK(a.got == 0 && b.got == 1 && c.got == 1);
    send_as(&a, b.mac, a.mac, 60);
    send_as(&a, nobody, a.mac, 60); /* known to nobody: to all */
    run_until(3);
    CHECK(a.got == 0 && b.got == 3 && c.got == 2);
    CHECK_EQ(b.len, NET_HDR + 60);

    /* With another's address as its own, and with one of nobody: neither leaves the switch. */
    send_as(&a, c.mac, b.mac, 60);
    send_as(&a, c.mac, nobody, 60);
    send_as(&a, everyone, everyone, 60);
    send_as(&a, c.mac, a.mac, 61);
    run_until(1);
    CHECK_EQ(c.len, NET_HDR + 61);
    CHECK_EQ(b.got, 3);
    CHECK_EQ(net_stats(a.net).tx_dropped, 3);

    /* An address that is taken. */
    snprintf(spec, sizeof(spec), "switch:lab,mac=52:54:00:00:00:0b");
    CHECK(!net_said(spec, loop, &err));
    CHECK(strstr(err.text, "another machine on this switch has the address 52:54:00:00:00:0b"));
    /* It is free when its machine has left. */
    net_close(b.net);
    send_as(&c, a.mac, c.mac, 60);
    run_until(1);
    plug(&b, spec);
    net_close(a.net);
    net_close(b.net);
    net_close(c.net);
    wait_gone("lab");
    plug(&a, "switch:lab"); /* a new one starts */
    net_close(a.net);
    wait_gone("lab");
    end();
}

TEST(one_that_takes_nothing)
{
    static struct card a, b, c;

    begin();
    plug(&a, "switch:slow");
    plug(&b, "switch:slow");
    plug(&c, "switch:slow");
    b.deaf = true;
    for (u32 i = 0; i < 1200; i++) { /* 10.8 MB: more than twice what the switch keeps for b */
        send_as(&a, b.mac, a.mac, 9000);
        send_as(&a, c.mac, a.mac, 60);
        if (i % 20 == 19)
            run_until(20);
    }
    CHECK_EQ(c.got, 1200);
    CHECK(net_stats(a.net).tx_dropped >= 700);
    b.deaf = false;
    net_resume(b.net, 0);
    CHECK(b.got > 200 && b.got <= 500);
    net_close(a.net);
    net_close(b.net);
    net_close(c.net);
    wait_gone("slow");
    end();
}

/* What comes too fast waits, and all of it comes. */
TEST(a_limit_to_what_is_received)
{
    static struct card a, b;

    begin();
    plug(&a, "switch:rate");
    plug(&b, "switch:rate,rate=100K:10K");
    const u64 t0 = clock_ns();
    for (u32 i = 0; i < 40; i++)
        send_as(&a, b.mac, a.mac, 1000);
    run_until(40);
    CHECK(clock_ns() - t0 >= 280000000); /* 40,000 bytes less 10,240 and a packet, at 102,400 a second */
    net_close(a.net);
    net_close(b.net);
    wait_gone("rate");
    end();
}

static int raw_join(const char *name, struct link *l)
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

static bool hung_up(int s)
{
    struct pollfd p = { .fd = s, .events = POLLIN };
    char c;

    return poll(&p, 1, 200000) == 1 && recv(s, &c, 1, 0) <= 0;
}

TEST(hostile_clients)
{
    static struct card a, b;
    struct link l;
    const u64 one = 1;
    u32 nonsense[][2] = { { 7, 0 }, { 8, 0 }, { 0x80000000, 60 }, { 8, 0xffffffff }, { 128, 60000 } };

    begin();
    plug(&a, "switch:bad");
    plug(&b, "switch:bad");
    for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) { /* { head, the first record's length } */
        int s = raw_join("bad", &l);
        *(u32 *)(void *)l.out.data = nonsense[i][1];
        l.shared->up.head = nonsense[i][0];
        CHECK_EQ(write(l.bell_out, &one, 8), 8);
        CHECK(hung_up(s));
        close(s);
        link_close(&l);
    }
    /* A tail that was never written, seen when somebody sends to this port. */
    int s = raw_join("bad", &l);
    l.shared->down.tail = 12345;
    send_as(&a, everyone, a.mac, 60);
    run_until(1);
    CHECK_EQ(b.got, 1);
    /* It cannot take the memory away. */
    CHECK(ftruncate(l.memfd, 0) < 0);
    close(s);
    link_close(&l);
    /* No hello, half a hello, another's hello. */
    s = connect_raw("bad");
    CHECK_EQ(send(s, "hello", 5, 0), 5);
    CHECK(hung_up(s));
    close(s);
    s = connect_raw("bad");
    close(s);
    send_as(&a, b.mac, a.mac, 60);
    run_until(1);
    CHECK_EQ(b.got, 2);
    /* The switch ends: the cable is out, and the machine goes on. */
    kill(switch_pid("bad"), SIGKILL);
    CHECK_EQ(loop_run(loop), 0);
    CHECK(!net_link(a.net) || !net_link(b.net));
    send_as(&a, b.mac, a.mac, 60);
    net_close(a.net);
    net_close(b.net);
    /* What it left behind is in nobody's way. */
    plug(&a, "switch:bad");
    net_close(a.net);
    wait_gone("bad");
    end();
}

/* ---- more descriptors than a link has ---- */

static u32 descriptors(pid_t pid)
{
    char path[32];
    u32 n = 0;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* len bytes with n descriptors, all of them this one's standard input. */
static void send_with(int s, const void *data, size_t len, u32 n)
{
    struct iovec iov = { (void *)(uintptr_t)data, len };
    char control[CMSG_SPACE(8 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(n * sizeof(int))
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    *c = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
    for (u32 i = 0; i < n; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &(int){ 0 }, sizeof(int));
    CHECK_EQ(sendmsg(s, &m, MSG_NOSIGNAL), (ssize_t)len);
}

/* Four found room in the padding of a control message for three, and lay beyond the array (seen by AddressSanitizer). */
TEST(too_many_descriptors)
{
    static struct card a;
    const struct peer_hello h = { .magic = PEER_MAGIC, .version = PEER_VERSION, .mac = { 2, 0, 0, 0, 0, 1 } };
    struct error err;

    begin();
    plug(&a, "switch:many");
    const pid_t pid = switch_pid("many");
    const u32 before = descriptors(pid);
    for (u32 n = 1; n <= 8; n++) {
        const int s = connect_raw("many");
        REQUIRE(s >= 0);
        send_with(s, &h, sizeof(h), n);
        CHECK(hung_up(s));
        close(s);
    }
    CHECK(descriptors(pid) <= before); /* less: switch_pid's was still there; a leak is of 36 */
    net_close(a.net);
    wait_gone("many");

    /* The other way: a switch that gives too many, or too few. */
    for (u32 n = 1; n <= 8; n++) {
        if (n == 3)
            continue;
        const int listener = switch_listen("evil", &err);
        REQUIRE(listener >= 0);
        const u32 ours = descriptors(getpid());
        const pid_t evil = fork();
        if (!evil) {
            const struct peer_answer yes = { .magic = PEER_MAGIC };
            struct peer_hello theirs;
            fcntl(listener, F_SETFL, 0);
            const int s = accept(listener, NULL, NULL);
            CHECK_EQ(recv(s, &theirs, sizeof(theirs), 0), sizeof(theirs));
            send_with(s, &yes, sizeof(yes), n);
            CHECK(hung_up(s));
            _exit(test_status());
        }
        int status;
        CHECK(!net_said("switch:evil", loop, &err));
        CHECK(strstr(err.text, "cannot reach the switch: Protocol error"));
        CHECK(waitpid(evil, &status, 0) == evil && !status);
        CHECK_EQ(descriptors(getpid()), ours);
        close(listener);
    }
    char path[SWITCH_PATH];
    CHECK_EQ(switch_path("evil", path, &err), 0);
    unlink(path);
    end();
}

/* ---- what one offers and the other did not agree to ---- */

static u8 joined[70000];
static u32 njoined, nframes, appetite;

static bool join(void *c, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    const u8 *f = iov[1].iov_base;

    if (!appetite) {
        loop_stop(loop);
        return false;
    }
    appetite--;
    for (size_t i = 0; i < NET_HDR - 2; i++)
        CHECK_EQ(((const u8 *)iov[0].iov_base)[i], 0);
    CHECK_EQ(csum_fold(csum_add(csum_pseudo(f + 14, false, 6, (u32)len - NET_HDR - 34), f + 34, len - NET_HDR - 34)),
             0xffff);
    memcpy(joined + njoined, f + 54, len - NET_HDR - 54);
    njoined += (u32)(len - NET_HDR - 54);
    nframes++;
    return true;
}

static const struct net_user joiner = { join, NULL, NULL, NULL };

static void check_capture(const char *path)
{
    static u8 file[20000];
    FILE *f = fopen(path, "rb");
    size_t n = fread(file, 1, sizeof(file), f), at = 24, frames = 0;
    u32 word;

    fclose(f);
    memcpy(&word, file, 4);
    CHECK_EQ(word, 0xa1b23c4d);
    while (at + 16 <= n) {
        memcpy(&word, file + at + 8, 4);
        const u8 *d = file + at + 16;
        CHECK(word <= 1514 && at + 16 + word <= n);
        CHECK_EQ(csum_fold(csum_add(csum_pseudo(d + 14, false, 6, word - 34), d + 34, word - 34)), 0xffff);
        at += 16 + word;
        frames++;
    }
    CHECK_EQ(at, n);
    CHECK_EQ(frames, 7);
    if (!access("/usr/bin/tcpdump", X_OK)) {
        char command[192];
        snprintf(command, sizeof(command), "test $(tcpdump -nvr %s 2>/dev/null | grep -c 'cksum.*(correct)') = 7",
                 path);
        CHECK_EQ(sh(command), 0);
    }
}

TEST(offloads_and_capture)
{
    static struct card a, b;
    static u8 d[NET_HDR + NET_MAX_FRAME];
    struct virtio_net_hdr_v1 h;
    struct error err;
    char spec[128], path[64];
    u32 len = tcp_frame(d + NET_HDR, &h, false, 0, 0, 10000, 1460);

    begin();
    snprintf(path, sizeof(path), "%s/pcap", dir);
    snprintf(spec, sizeof(spec), "switch:big,mac=02:00:00:00:00:01,pcap=%s", path);
    plug(&a, spec);
    plug(&b, "switch:big,mac=02:00:00:00:00:02,pcap=/dev/full"); /* one warning, and on */
    CHECK_EQ(net_offloads(a.net), NET_CSUM | NET_TSO4 | NET_TSO6);
    memcpy(d, &h, NET_HDR);
    const struct iovec iov[2] = { { d, 7 }, { d + 7, NET_HDR + len - 7 } };
    CHECK(net_send(a.net, 0, iov, 2, NET_HDR + len));
    net_flush(a.net, 0);
    appetite = 3; /* room for three, later for the rest; it may come as soon as there is somebody */
    net_connect(b.net, &joiner, &b);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(nframes, 3);
    appetite = 100;
    net_resume(b.net, 0);
    CHECK_EQ(nframes, 7);
    CHECK(!memcmp(joined, d + NET_HDR + 54, 10000));
    CHECK_EQ(net_stats(b.net).rx_packets, 1);

    check_capture(path);

    /* Agreed: as it is. */
    net_set_offloads(b.net, NET_CSUM | NET_TSO4);
    net_connect(b.net, &user, &b);
    CHECK(net_send(a.net, 0, iov, 2, NET_HDR + len));
    net_flush(a.net, 0);
    run_until(1);
    CHECK_EQ(b.got, 1);
    CHECK_EQ(net_stats(b.net).rx_bytes, 2 * len);
    net_close(a.net);
    net_close(b.net);
    CHECK(!net_said("none,pcap=/nowhere/x", loop, &err));
    CHECK_STR(err.text, "pcap=/nowhere/x: No such file or directory");
    wait_gone("big");
    unlink(path);
    end();
}

/* The switch and the one that removes its socket's name: what they have of whoever started them is nothing. */
TEST(alone)
{
    static struct card a;
    char path[64], cwd[64];
    int leak[2];

    begin();
    REQUIRE(!pipe(leak)); /* as a shell's, without close-on-exec */
    const int err = dup(2);
    REQUIRE(dup2(leak[1], 2) == 2);
    plug(&a, "switch:alone");
    dup2(err, 2);
    close(err);
    close(leak[1]);
    const pid_t pid = switch_pid("alone"), keeper = (pid_t)proc_status(pid, "PPid", 10);
    /* Nobody has the end to write to: the starter's standard error is the starter's. */
    struct pollfd p = { leak[0], POLLIN, 0 };
    CHECK(poll(&p, 1, 200000) == 1 && p.revents & POLLHUP);
    close(leak[0]);
    check_confined(pid);
    check_powerless(keeper);
    check_no_terminal(keeper);
    CHECK_EQ(proc_status(pid, "Threads", 10), 1);
    snprintf(path, sizeof(path), "/proc/%d/cwd", keeper);
    const ssize_t n = readlink(path, cwd, sizeof(cwd));
    CHECK(n == 1 && *cwd == '/');
    net_close(a.net);
    wait_gone("alone");
    end();
}

static u32 lines_said(const char *spec, struct error *err)
{
    int said[2], old = dup(2);
    char text[4096];
    u32 n = 0;

    if (pipe(said))
        abort();
    dup2(said[1], 2);
    CHECK(!net_said(spec, loop, err));
    dup2(old, 2);
    close(old);
    close(said[1]);
    for (ssize_t got; (got = read(said[0], text, sizeof(text))) > 0;)
        for (ssize_t i = 0; i < got; i++)
            n += text[i] == '\n';
    close(said[0]);
    return n;
}

/* Said once, by whoever asked: by the sentence of net_open and nobody else. */
TEST(no_place_for_the_socket)
{
    struct error err;
    char path[96];

    begin();
    setenv("XDG_RUNTIME_DIR", "/nowhere/at/all", 1);
    CHECK_EQ(lines_said("switch:x", &err), 0);
    CHECK_STR(err.text, "the switch: cannot make /nowhere/at/all/lodge: No such file or directory");
    /* A socket's name is taken by something that is no socket: only the switch's first process finds out. */
    setenv("XDG_RUNTIME_DIR", dir, 1);
    snprintf(path, sizeof(path), "%s/lodge", dir);
    CHECK(!mkdir(path, 0700));
    snprintf(path, sizeof(path), "%s/lodge/switch-x", dir);
    CHECK(!mkdir(path, 0700));
    CHECK_EQ(lines_said("switch:x", &err), 0);
    CHECK(strstr(err.text, "switch-x"));
    CHECK(!rmdir(path));
    end();
}

TEST(directory)
{
    struct error err;
    char path[64];

    begin();
    CHECK(!net_said("switch:../x", loop, &err));
    CHECK(strstr(err.text, "a name is of"));
    snprintf(path, sizeof(path), "%s/lodge", dir);
    CHECK(!mkdir(path, 0777) && !chmod(path, 0777));
    CHECK(!net_said("switch:x", loop, &err));
    CHECK(strstr(err.text, "only you can use"));
    rmdir(path);
    CHECK(!symlink("/tmp", path));
    CHECK(!net_said("switch:x", loop, &err));
    CHECK(strstr(err.text, "only you can use"));
    unlink(path);
    end();
}
