/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_net.c - what people write after --net, right and wrong; ports that are taken; restrict=on; a network process that
 * dies; tap devices: several queues, a missing and a foreign one.
 */
#include "net_wire.h"
#include "said.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static struct loop *loop;

static void in_child(void (*f)(void))
{
    int status;

    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        f();
        fflush(NULL);
        _exit(test_status());
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
}

TEST(specs)
{
    static const struct {
        const char *spec, *says;
    } bad[] = {
        { "", "it needs WHERE" },
        { "bridge", "it is one of" },
        { "user:x", "it is one of user" },
        { "tap", "it is one of user, tap:IF" },
        { "switch:", "switch:NAME" },
        { "tap:averyveryverylongname", "at most 15 characters" },
        { "none,color=red", "unknown \"color\"" },
        { "user,color=red", "unknown \"color\"" },
        { "user,restrict=maybe", "it is on or off" },
        { "user,mac=52:54:00:12:34", "XX:XX:XX" },
        { "user,mac=53:54:00:12:34:56", "must be even" },
        { "none,rate=fast", "rate: it is a size" },
        { "none,rate=10M:", "burst: it is a size" },
        { "none,rate=99999999999999", "rate: it is" },
        { "none,queues=9", "it is a number from 1 to 8" },
        { "user,net=10.0.0.0", "net=10.0.0.0: it is a network ADDRESS/BITS" },
        { "user,net=10.0.0.0/30", "8 to 27" },
        { "user,mtu=100", "1280 to 65521" },
        { "none,mtu=1400", "only the network \"user\"" },
        { "user,hostname=a_b", "hostname=a_b" },
        { "user,tftp=/nowhere/x", "tftp=/nowhere/x: No such file" },
        { "user,tftp=/dev/null", "it is the folder" },
        { "user,hostfwd=tcp:2222:22", "for example hostfwd=tcp::2222-:22" },
        { "user,hostfwd=tcp::2222-:0", "hostfwd=" },
        { "user,hostfwd=tcp::99999-:22", "hostfwd=" },
        { "user,hostfwd=sctp::1-:1", "hostfwd=" },
        { "user,hostfwd=tcp:[::1]:2222-:22", "with an IPv6 host address" },
        { "user,hostfwd=tcp:1.2.3:1-:1", "hostfwd=" },
        { "user,hostfwd=tcp:1.2.3.4:2222-:22", "this host has no such address for tcp port 2222" },
        { "none,pcap=/nowhere/x", "pcap=/nowhere/x: No such file or directory" },
    };

    loop = loop_new();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = { "" };
        struct net *n = net_said(bad[i].spec, loop, &err);
        if (n || !strstr(err.text, bad[i].says) || strchr(err.text, '\n'))
            test_fail(__FILE__, __LINE__, "%s: \"%s\"", bad[i].spec, err.text);
        net_close(n);
    }
    loop_free(loop);
}

TEST(none)
{
    struct error err;
    u8 a[6], b[6], frame[NET_HDR + 60] = { 0 };
    const struct iovec iov = { frame, sizeof(frame) };

    loop = loop_new();
    struct net *n = net_said("none,seed=web.0,queues=4", loop, &err), *m = net_said("none,seed=web.0", loop, &err);
    REQUIRE(n && m);
    CHECK(!net_link(n));
    CHECK_EQ(net_queues(n), 4);
    net_mac(n, a);
    net_mac(m, b);
    CHECK(!memcmp(a, b, 6) && a[0] % 4 == 2);
    CHECK(net_send(n, 3, &iov, 1, sizeof(frame)));
    CHECK(net_send(n, 4, &iov, 1, sizeof(frame)));
    CHECK(net_send(n, 0, &iov, 1, 5));
    CHECK_EQ(net_stats(n).tx_dropped, 3);
    net_close(n);
    net_close(m);
    loop_free(loop);
}

/* A limit stops the card and tells it when to go on. */
static u32 rooms;

static void room(void *card)
{
    rooms++;
    loop_stop(loop);
}

static bool take(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    return true;
}

static const struct net_user limited = { take, NULL, NULL, room };

TEST(rate)
{
    struct error err;
    u8 frame[NET_HDR + 1000] = { 0 };
    const struct iovec iov = { frame, sizeof(frame) };
    u32 sent = 0;

    loop = loop_new();
    struct net *n = net_said("user,rate=100K:10K", loop, &err);
    REQUIRE(n);
    net_connect(n, &limited, NULL);
    const u64 t0 = clock_ns();
    while (sent < 40) {
        if (net_send(n, 0, &iov, 1, sizeof(frame)))
            sent++;
        else
            CHECK_EQ(loop_run(loop), 0);
    }
    CHECK(clock_ns() - t0 >= 280000000); /* 40,000 bytes less 10,240 and a packet: not sooner, however slow we are */
    CHECK(rooms > 0);
    net_connect(n, NULL, NULL);
    net_close(n);
    loop_free(loop);
}

static int bound(int type, struct sockaddr_in *a)
{
    socklen_t n = sizeof(*a);
    int s = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    *a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    CHECK(!bind(s, (struct sockaddr *)a, sizeof(*a)) && (type == SOCK_DGRAM || !listen(s, 1)) &&
          !getsockname(s, (struct sockaddr *)a, &n));
    return s;
}

TEST(a_port_that_is_taken)
{
    struct sockaddr_in tcp, udp;
    int s = bound(SOCK_STREAM, &tcp), d = bound(SOCK_DGRAM, &udp);
    struct error err;
    char spec[128], says[128];

    loop = loop_new();
    for (int i = 0; i < 2; i++) {
        const u32 port = ntohs(i ? udp.sin_port : tcp.sin_port);
        snprintf(spec, sizeof(spec), "user,hostfwd=tcp::0-:1,hostfwd=%s::%u-:22", i ? "udp" : "tcp", port);
        snprintf(says, sizeof(says), "%s port %u of this host is in use; choose another", i ? "udp" : "tcp", port);
        CHECK(!net_said(spec, loop, &err));
        CHECK(strstr(err.text, says));
    }
    close(s);
    close(d);
    /* Two machines, the same port: the second one is told. */
    struct net *n = net_said("user,hostfwd=udp::0-:53,hostfwd=tcp::0-:22", loop, &err);
    REQUIRE(n);
    snprintf(spec, sizeof(spec), "user,hostfwd=tcp::%u-:22", net_hostfwd_port(n, 1));
    CHECK(net_hostfwd_port(n, 0) && net_hostfwd_port(n, 1));
    CHECK(!net_said(spec, loop, &err));
    net_close(n);
    n = net_said(spec, loop, &err); /* free again */
    CHECK(n);
    net_close(n);
    loop_free(loop);
}

/* ---- its process: what it can still do, and its death ---- */

static pid_t child_of(pid_t parent)
{
    char path[64], text[64] = "";

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    int fd = open(path, O_RDONLY);
    CHECK(read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    return atoi(text);
}

static bool cable_out;

static void link_state(void *card, bool up)
{
    cable_out = !up;
    loop_stop(loop);
}

static const struct net_user watcher = { take, NULL, link_state, NULL };

static void process_dies(void)
{
    struct error err;
    char path[64], text[4096];
    u8 frame[NET_HDR + 60] = { 0 };
    const struct iovec iov = { frame, sizeof(frame) };

    loop = loop_new();
    struct net *n = net_said("user", loop, &err);
    REQUIRE(n);
    net_connect(n, &watcher, NULL);
    const pid_t pid = child_of(child_of(getpid())); /* below the one that opens files for it */
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    int fd = open(path, O_RDONLY);
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[MAX(got, 0)] = 0;
    CHECK(strstr(text, "NoNewPrivs:\t1") && strstr(text, "Seccomp:\t2"));
    kill(pid, SIGKILL);
    CHECK_EQ(loop_run(loop), 0);
    CHECK(cable_out && !net_link(n));
    CHECK(net_send(n, 0, &iov, 1, sizeof(frame))); /* lost, and nobody hurt */
    CHECK_EQ(net_stats(n).tx_dropped, 1);
    net_close(n);
    loop_free(loop);
}

/* And the other way: it ends with us, whatever ended us. */
TEST(process)
{
    struct error err;
    int ready[2];
    char pid_text[16] = "";

    in_child(process_dies);
    CHECK(!pipe(ready) && !prctl(PR_SET_CHILD_SUBREAPER, 1));
    fflush(NULL);
    pid_t vm = fork();
    if (!vm) {
        loop = loop_new();
        if (!net_said("user", loop, &err))
            _exit(1);
        dprintf(ready[1], "%d\n", child_of(getpid()));
        raise(SIGKILL);
    }
    CHECK(read(ready[0], pid_text, sizeof(pid_text) - 1) > 0);
    CHECK_EQ(waitpid(vm, NULL, 0), vm);
    const pid_t helper = atoi(pid_text);
    CHECK_EQ(waitpid(helper, NULL, 0), helper); /* it comes to us, having ended; else the test's timeout */
}

/* ---- tap ---- */

static void tap_errors(void)
{
    struct error err;

    loop = loop_new();
    CHECK(!net_said("tap:nosuch0", loop, &err));
    CHECK(strstr(err.text, "there is no such device; make it with \"sudo ip tuntap add dev nosuch0 mode tap user "));
    if (!guest_possible())
        return;
    CHECK(guest_enter(NULL, 1));
    CHECK(!net_said("tap:lo", loop, &err));
    CHECK(strstr(err.text, "it is no tap device"));
    CHECK(!net_said("tap:gst0,queues=2", loop, &err)); /* made for one queue */
    CHECK(strstr(err.text, "multi_queue"));
    struct net *n = net_said("tap:gst0", loop, &err);
    CHECK(n);
    CHECK(!net_said("tap:gst0", loop, &err));
    CHECK(strstr(err.text, "another program uses it"));
    net_close(n);
}

static u32 got[2], got_bytes;

static bool count(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    CHECK(q < 2);
    got[q]++;
    got_bytes += (u32)len;
    return true;
}

static void counted(void *card, u32 q)
{
    if (got[0] + got[1] >= 200)
        loop_stop(loop);
}

static const struct net_user counter = { count, counted, NULL, NULL };

static void tap_queues(void)
{
    struct error err;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a090902) };
    u8 arp[NET_HDR + 42] = { 0 };

    loop = loop_new();
    CHECK(guest_enter(NULL, 2));
    struct net *n = net_said("tap:gst0,queues=2", loop, &err);
    if (!n)
        fprintf(stderr, "%s\n", err.text);
    REQUIRE(n);
    CHECK_EQ(net_queues(n), 2);
    CHECK_EQ(net_mtu(n), 1500);
    CHECK_EQ(sh("ip addr add 10.9.9.1/24 dev gst0; ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev gst0"), 0);
    net_connect(n, &counter, NULL);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < 200; i++) { /* 200 flows over two queues */
        a.sin_port = htons((u16)(1000 + i));
        CHECK_EQ(sendto(s, "hello", 5, 0, (struct sockaddr *)&a, sizeof(a)), 5);
    }
    CHECK_EQ(loop_run(loop), 0);
    /* On each queue in, too: a datagram from us reaches the kernel. */
    const struct iovec iov = { arp, sizeof(arp) };
    CHECK(net_send(n, 0, &iov, 1, sizeof(arp)) && net_send(n, 1, &iov, 1, sizeof(arp)));
    net_flush(n, 1);
    CHECK_EQ(net_stats(n).tx_packets, 2);
    CHECK_EQ(net_stats(n).tx_dropped, 0);
    close(s);
    /* The device goes away under us. */
    net_connect(n, &watcher, NULL);
    CHECK_EQ(sh("ip link del gst0"), 0);
    cable_out = false;
    CHECK_EQ(loop_run(loop), 0);
    CHECK(cable_out);
    net_close(n);
    loop_free(loop);
}

TEST(tap)
{
    in_child(tap_errors);
    if (guest_possible())
        in_child(tap_queues);
}
