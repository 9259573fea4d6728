/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_user_tcp.c - "user" with the kernel's TCP/IP as the guest: connections in and out, over IPv4 and IPv6, with large
 * segments and without, datagrams larger than a frame.
 */
#include "net_user_rig.h"

#include <signal.h>

enum { MSG = 8 * 1024 * 1024 };

static u8 pattern(size_t i)
{
    return (u8)(i * 31 + (i >> 9) + (i >> 17));
}

static int listener(int family, int type, u16 *port)
{
    struct sockaddr_in6 a = { .sin6_family = (sa_family_t)family };
    socklen_t n = sizeof(a);
    int s = socket(family, type | SOCK_CLOEXEC, 0);

    if (family == AF_INET)
        ((struct sockaddr_in *)(void *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        a.sin6_addr = in6addr_loopback;
    if (s < 0 || bind(s, (struct sockaddr *)&a, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(a)) ||
        (type == SOCK_STREAM && listen(s, 8)) || getsockname(s, (struct sockaddr *)&a, &n))
        abort();
    *port = ntohs(a.sin6_port);
    return s;
}

static int dial(int family, int type, const char *host, u16 port)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    int s = socket(family, type | SOCK_CLOEXEC, 0), r;

    inet_pton(family, host, family == AF_INET ? (void *)&in.sin_addr : (void *)&in6.sin6_addr);
    r = family == AF_INET ? connect(s, (struct sockaddr *)&in, sizeof(in))
                          : connect(s, (struct sockaddr *)&in6, sizeof(in6));
    if (r) {
        fprintf(stderr, "connect to %s port %u: %s\n", host, port, strerror(errno));
        close(s);
        return -1;
    }
    return s;
}

/* Sends MSG bytes and ends; or takes them and says whether they are right. */
static bool pour(int s)
{
    static u8 buf[128 * 1024];

    for (size_t at = 0; at < MSG;) {
        for (size_t i = 0; i < sizeof(buf); i++)
            buf[i] = pattern(at + i);
        for (size_t done = 0; done < sizeof(buf);) {
            ssize_t n = write(s, buf + done, sizeof(buf) - done);
            if (n <= 0)
                return false;
            done += (size_t)n;
        }
        at += sizeof(buf);
    }
    return !shutdown(s, SHUT_WR);
}

static bool drink(int s)
{
    static u8 buf[128 * 1024];
    size_t at = 0;
    ssize_t n;

    while ((n = read(s, buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != pattern(at++))
                return false;
    return n == 0 && at == MSG;
}

/* What the host does, in a process of its own: pours into or drinks from what connects, one after the other. */
static pid_t host_side(int s, const char *plan)
{
    pid_t pid = fork();

    if (pid)
        return pid;
    for (; *plan; plan++) {
        int c = accept(s, NULL, NULL);
        if (c < 0 || !(*plan == 'p' ? pour(c) : drink(c)))
            _exit(1);
        char end;
        if (*plan == 'p' && read(c, &end, 1)) /* until the guest has seen it all */
            _exit(1);
        close(c);
    }
    _exit(0);
}

/* The host as the one who connects, when told: pours into the forwarded port over IPv4, drinks from that over IPv6. */
static pid_t host_dials(int when, u16 port4, u16 port6)
{
    pid_t pid = fork();
    char go;

    if (pid)
        return pid;
    if (read(when, &go, 1) != 1)
        _exit(1);
    int s = dial(AF_INET, SOCK_STREAM, "127.0.0.1", port4);
    if (s < 0 || !pour(s) || read(s, &go, 1))
        _exit(2);
    if (!port6)
        _exit(0);
    s = dial(AF_INET6, SOCK_STREAM, "::1", port6);
    _exit(s < 0 || !drink(s) ? 3 : 0);
}

/* Datagrams as they come, back to where they came from. */
static pid_t host_echo(int s)
{
    static u8 buf[65536];
    struct sockaddr_in from;
    pid_t pid = fork();

    while (!pid) {
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(s, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
        if (n <= 0)
            _exit(0);
        sendto(s, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
    }
    return pid;
}

static bool ended_well(pid_t pid)
{
    int status;

    return waitpid(pid, &status, 0) == pid && !status;
}

static void guest_forwarded(int go, bool v6)
{
    /* :: takes both families. */
    struct sockaddr_in6 any = { .sin6_family = v6 ? AF_INET6 : AF_INET, .sin6_port = htons(7777) };
    int l = socket(any.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0), s;
    char end;

    CHECK(!bind(l, (struct sockaddr *)&any, v6 ? sizeof(any) : sizeof(struct sockaddr_in)) && !listen(l, 4));
    CHECK_EQ(write(go, "x", 1), 1);
    s = accept(l, NULL, NULL);
    CHECK(drink(s));
    close(s);
    if (v6) {
        s = accept(l, NULL, NULL);
        CHECK(pour(s));
        CHECK_EQ(read(s, &end, 1), 0);
        close(s);
    }
    close(l);
}

static void guest_streams(int family, const char *host, u16 port, pid_t other)
{
    int s = dial(family, SOCK_STREAM, host, port);

    CHECK(drink(s));
    close(s);
    s = dial(family, SOCK_STREAM, host, port);
    CHECK(pour(s));
    CHECK(ended_well(other));
    close(s);
}

/* Larger than a frame: fragments both ways. */
static void guest_datagrams(u16 port)
{
    static const u32 sizes[] = { 1, 1472, 1473, 4000, 30000, 65000 };
    static u8 out[65536], in[65536];
    struct timeval limit = { .tv_sec = 200 };
    int s = dial(AF_INET, SOCK_DGRAM, "10.0.2.2", port);

    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = pattern(i);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        CHECK_EQ(send(s, out, sizes[i], 0), sizes[i]);
        memset(in, 0, sizeof(in));
        CHECK_EQ(recv(s, in, sizeof(in), 0), sizes[i]);
        CHECK(!memcmp(in, out, sizes[i]));
    }
    close(s);
}

static void guest_tcp(u32 offloads, u32 mss)
{
    struct error err;
    struct wire_end ends[2];
    u16 port4, port6, port_udp;
    const bool v6 = ipv6_possible();
    int go[2], echo = listener(AF_INET, SOCK_DGRAM, &port_udp);
    pid_t host4 = host_side(listener(AF_INET, SOCK_STREAM, &port4), "pd"), udp = host_echo(echo);
    pid_t host6 = v6 ? host_side(listener(AF_INET6, SOCK_STREAM, &port6), "pd") : 0;
    pthread_t thread;
    char command[256];

    loop = loop_new();
    struct net *n = net_said(
        v6 ? "user,hostfwd=tcp::0-:7777,hostfwd=tcp:[::1]:0-[fec0::15]:7777" : "user,hostfwd=tcp::0-:7777", loop, &err);
    REQUIRE(n);
    CHECK(net_hostfwd_port(n, 0) && !net_hostfwd_port(n, 1) == !v6 && !net_hostfwd_port(n, 2));
    CHECK(!pipe(go));
    pid_t dialler = host_dials(go[0], net_hostfwd_port(n, 0), net_hostfwd_port(n, 1));
    CHECK(guest_enter(mac, 1));
    struct net *tap = net_said("tap:gst0", loop, &err);
    REQUIRE(tap);
    wire(ends, n, tap, offloads);
    pthread_create(&thread, NULL, loop_thread, loop);
    snprintf(command, sizeof(command),
             "ip addr add 10.0.2.15/24 dev gst0 && ip route add default via 10.0.2.2 advmss %u%s", mss,
             v6 ? " && ip -6 addr add fec0::15/64 dev gst0 nodad" : "");
    CHECK_EQ(sh(command), 0);

    guest_streams(AF_INET, "10.0.2.2", port4, host4);
    if (v6)
        guest_streams(AF_INET6, "fec0::2", port6, host6);
    guest_forwarded(go[1], v6);
    CHECK(ended_well(dialler));
    guest_datagrams(port_udp);
    kill(udp, SIGKILL);
    loop_stop(loop);
    pthread_join(thread, NULL);
    struct net_stats st = net_stats(n);
    printf("     offloads %x, mss %u: %llu + %llu packets, %llu system calls of the card's side\n", offloads, mss,
           (unsigned long long)st.rx_packets, (unsigned long long)st.tx_packets, (unsigned long long)st.syscalls);
    CHECK_EQ(st.tx_dropped, 0);
    CHECK_EQ(st.rx_dropped, 0);
    if (offloads & NET_TSO4) /* large segments have to be large: 32 MiB in frames of 1,500 bytes would be 22,000 */
        CHECK(st.rx_packets < 10000 && st.tx_packets < 10000);
    else
        CHECK(st.rx_bytes / st.rx_packets <= 1514 && st.tx_bytes / st.tx_packets <= 1514);
    net_connect(n, NULL, NULL);
    net_connect(tap, NULL, NULL);
    net_close(tap);
    net_close(n);
    loop_free(loop);
}

/* In a process of its own, since it does not come back from its namespace. */
static void in_guest(void (*f)(void))
{
    fflush(NULL);
    pid_t pid = fork();

    if (!pid) {
        f();
        fflush(NULL);
        _exit(test_status());
    }
    CHECK(ended_well(pid));
}

static void tcp_plain(void)
{
    guest_tcp(0, 1460);
}

static void tcp_large(void)
{
    guest_tcp(NET_CSUM | NET_TSO4 | NET_TSO6, 1460);
}

static void tcp_small_mss(void)
{
    guest_tcp(NET_CSUM | NET_TSO4 | NET_TSO6, 600);
}

TEST(tcp)
{
    if (!guest_possible())
        return;
    in_guest(tcp_large);
    in_guest(tcp_plain);
    in_guest(tcp_small_mss);
}
