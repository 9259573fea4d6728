/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_user.c - "user" as a guest sees it: hand-written frames (ARP, DHCP, ICMP), and the kernel's TCP/IP as the guest:
 * connections in and out, over IPv4 and IPv6, with large segments and without, datagrams larger than a frame.
 */
#include "net_wire.h"
#include "said.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/sandbox.h"
#include "confined.h"
#include "net/frame.h"

#include "net_frames.h"

static struct loop *loop;

/* ---- a card that collects packets ---- */

static u8 packet[64][2048];
static size_t packet_len[64];
static u32 npackets;

static bool collect(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    size_t at = 0;

    if (npackets == ARRAY_SIZE(packet) || len > sizeof(packet[0]))
        return true;
    for (u32 i = 0; i < niov; i++) {
        memcpy(packet[npackets] + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    CHECK_EQ(at, len);
    packet_len[npackets++] = len;
    return true;
}

static bool (*wanted)(const u8 *frame, size_t len);

static void batch(void *card, u32 q)
{
    for (u32 i = 0; i < npackets; i++)
        if (!wanted || wanted(packet[i] + NET_HDR, packet_len[i] - NET_HDR))
            loop_stop(loop);
}

static const struct net_user collector = { collect, batch, NULL, NULL };

static void send_frame(struct net *n, const u8 *frame, size_t len)
{
    u8 hdr[NET_HDR] = { 0 };
    const struct iovec iov[2] = { { hdr, NET_HDR }, { (void *)(uintptr_t)frame, len } };

    CHECK(net_send(n, 0, iov, 2, NET_HDR + len));
    net_flush(n, 0);
}

/* Runs until a frame that f likes is there; it. */
static const u8 *await(bool (*f)(const u8 *frame, size_t len))
{
    wanted = f;
    CHECK_EQ(loop_run(loop), 0);
    for (u32 i = 0; i < npackets; i++)
        if (f(packet[i] + NET_HDR, packet_len[i] - NET_HDR))
            return packet[i] + NET_HDR;
    return NULL;
}

static const u8 mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

static void ethernet(u8 *f, const u8 dst[6], u32 type)
{
    memcpy(f, dst, 6);
    memcpy(f + 6, mac, 6);
    put16(f + 12, type);
}

/* An IPv4 packet with n bytes after the header. */
static void ip(u8 *f, u32 src, u32 dst, u8 protocol, u32 n)
{
    u8 *p = f + 14;

    memset(p, 0, 20);
    p[0] = 0x45;
    put16(p + 2, 20 + n);
    p[8] = 64;
    p[9] = protocol;
    put32(p + 12, src);
    put32(p + 16, dst);
    const u16 sum = (u16)~csum_fold(csum_add(0, p, 20));
    memcpy(p + 10, &sum, 2);
}

static bool is_arp_reply(const u8 *f, size_t len)
{
    return len >= 42 && get16(f + 12) == 0x0806 && get16(f + 20) == 2;
}

static bool is_dhcp(const u8 *f, size_t len)
{
    return len > 300 && get16(f + 12) == 0x0800 && f[23] == 17 && get16(f + 34) == 67;
}

static bool is_echo_reply(const u8 *f, size_t len)
{
    return len >= 42 && get16(f + 12) == 0x0800 && f[23] == 1 && f[34] == 0;
}

static const u8 *dhcp_option(const u8 *f, u8 tag)
{
    const u8 *o = f + 14 + 20 + 8 + 240, *end = f + 590;

    while (o < end && *o != 255) {
        if (*o == tag)
            return o + 2;
        o += *o ? 2 + o[1] : 1;
    }
    return NULL;
}

static const u8 *dhcp(struct net *n, u8 type, u32 ask)
{
    u8 f[342] = { 0 };
    u8 *b = f + 42;

    ethernet(f, (const u8 *)"\xff\xff\xff\xff\xff\xff", 0x0800);
    ip(f, 0, 0xffffffff, 17, sizeof(f) - 34);
    put16(f + 34, 68);
    put16(f + 36, 67);
    put16(f + 38, sizeof(f) - 34);
    b[0] = b[1] = 1;
    b[2] = 6;
    put32(b + 4, 0x12345678);
    memcpy(b + 28, mac, 6);
    put32(b + 236, 0x63825363);
    memcpy(b + 240, (const u8[]){ 53, 1, type, 50, 4, (u8)(ask >> 24), (u8)(ask >> 16), (u8)(ask >> 8), (u8)ask, 255 },
           10);
    npackets = 0;
    send_frame(n, f, sizeof(f));
    return await(is_dhcp);
}

TEST(arp_dhcp_ping)
{
    struct error err;
    const u32 me = 0x0a07000f, gateway = 0x0a070002;

    loop = loop_new();
    struct net *n = net_said("user,net=10.7.0.0/16,hostname=inn,mac=52:54:00:01:02:03", loop, &err);
    if (!n)
        fprintf(stderr, "%s\n", err.text);
    REQUIRE(n);
    net_connect(n, &collector, NULL);
    CHECK(net_link(n));
    CHECK_EQ(net_mtu(n), 1500);
    u8 m[6];
    net_mac(n, m);
    CHECK(!memcmp(m, mac, 6));

    const u8 *r = dhcp(n, 1, me);
    REQUIRE(r);
    CHECK_EQ(get32(r + 42 + 16), me); /* yiaddr */
    r = dhcp(n, 3, me);
    REQUIRE(r);
    REQUIRE(dhcp_option(r, 53) && dhcp_option(r, 1) && dhcp_option(r, 3) && dhcp_option(r, 6) && dhcp_option(r, 12));
    CHECK_EQ(*dhcp_option(r, 53), 5); /* DHCPACK */
    CHECK_EQ(get32(dhcp_option(r, 1)), 0xffff0000);
    CHECK_EQ(get32(dhcp_option(r, 3)), gateway);
    CHECK_EQ(get32(dhcp_option(r, 6)), 0x0a070003);
    CHECK(!memcmp(dhcp_option(r, 12), "inn", 3));

    u8 f[64] = { 0 };
    ethernet(f, (const u8 *)"\xff\xff\xff\xff\xff\xff", 0x0806);
    memcpy(f + 14, (const u8[]){ 0, 1, 8, 0, 6, 4, 0, 1 }, 8);
    memcpy(f + 22, mac, 6);
    put32(f + 28, me);
    put32(f + 38, gateway);
    npackets = 0;
    send_frame(n, f, 42);
    r = await(is_arp_reply);
    REQUIRE(r);
    CHECK_EQ(get32(r + 28), gateway);

    u8 gw[6];
    memcpy(gw, r + 22, 6);
    memset(f, 0, sizeof(f));
    ethernet(f, gw, 0x0800);
    ip(f, me, gateway, 1, 16);
    f[34] = 8;
    put32(f + 38, 0xabcd0001);
    const u16 sum = (u16)~csum_fold(csum_add(0, f + 34, 16));
    memcpy(f + 36, &sum, 2);
    npackets = 0;
    send_frame(n, f, 50);
    r = await(is_echo_reply);
    REQUIRE(r);
    CHECK_EQ(get32(r + 38), 0xabcd0001);
    net_connect(n, NULL, NULL);
    net_close(n);
    loop_free(loop);
}

/* A SYN to a server of the host, then DHCP: when that is answered, the SYN has been dealt with. */
static bool reaches_host(const char *spec)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);
    struct virtio_net_hdr_v1 h;
    struct error err;
    u8 f[100];
    int l = socket(AF_INET, SOCK_STREAM, 0);

    CHECK(!bind(l, (struct sockaddr *)&a, len) && !listen(l, 4) && !getsockname(l, (struct sockaddr *)&a, &len));
    loop = loop_new();
    struct net *n = net_said(spec, loop, &err);
    net_connect(n, &collector, NULL);
    const u32 size = syn_frame(f, &h, false, 1460);
    ip(f, 0x0a00020f, 0x0a000202, 6, size - 34);
    put16(f + 36, ntohs(a.sin_port));
    put16(f + 50, 0);
    const u16 sum = (u16)~csum_fold(csum_add(csum_pseudo(f + 14, false, 6, size - 34), f + 34, size - 34));
    memcpy(f + 50, &sum, 2);
    send_frame(n, f, size);
    CHECK(dhcp(n, 1, 0x0a00020f));
    struct pollfd p = { .fd = l, .events = POLLIN };
    const bool yes = poll(&p, 1, 0) == 1;
    net_connect(n, NULL, NULL);
    net_close(n);
    loop_free(loop);
    close(l);
    return yes;
}

TEST(restricted)
{
    CHECK(reaches_host("user"));
    CHECK(!reaches_host("user,restrict=on"));
}

/* ---- files for those who boot from the network ---- */

static bool is_tftp(const u8 *f, size_t len)
{
    return len >= 46 && get16(f + 12) == 0x0800 && f[23] == 17 && get16(f + 34) == 69;
}

static const u8 *tftp_read(struct net *n, const char *file)
{
    u8 f[128] = { 0 };
    const u32 name = (u32)strlen(file) + 1, udp = 8 + 2 + name + 6;

    ethernet(f, (const u8 *)"\x52\x55\x0a\0\x02\x02", 0x0800);
    ip(f, 0x0a00020f, 0x0a000202, 17, udp);
    put16(f + 34, 2000);
    put16(f + 36, 69);
    put16(f + 38, udp);
    put16(f + 42, 1); /* RRQ, RFC 1350 */
    memcpy(f + 44, file, name);
    memcpy(f + 44 + name, "octet", 6);
    npackets = 0;
    send_frame(n, f, 34 + udp);
    return await(is_tftp);
}

/* Are the files of the process of "user" opened by another on this host? Where they are not, links and changes of files are
   Landlock's matter, or nobody's. */
static bool files_are_asked_for(void)
{
    struct sandbox_report report;
    int scope = 0; /* Yama: 2 and more keep a parent from reading its child's memory */
    FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");

    if (f && fscanf(f, "%d", &scope) != 1)
        scope = 0;
    if (f)
        fclose(f);
    return !sandbox_probe(&report) && report.asks && scope < 2;
}

/* The links in tftp='s folder: which of them a guest can read, and that a FIFO there stops nobody. */
static void tftp_links(struct net *n, const char *dir)
{
    static const struct {
        const char *name, *to;
        u32 answer;
    } links[] = { { "within", "boot.0", 3 }, { "out", "/etc/hostname", 5 }, { "up", "../../etc/hostname", 5 },
                  { "fifo", NULL, 5 } };
    char path[64];

    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, links[i].name);
        CHECK(!(links[i].to ? symlink(links[i].to, path) : mkfifo(path, 0600)));
        if (i == 0 || files_are_asked_for()) {
            const u8 *r = tftp_read(n, links[i].name);
            REQUIRE(r);
            CHECK_EQ(get16(r + 42), links[i].answer);
        }
        CHECK(!unlink(path));
    }
}

TEST(tftp)
{
    char dir[] = "/tmp/lodge-tftp-XXXXXX", file[64], spec[128];
    struct error err;

    REQUIRE(mkdtemp(dir));
    snprintf(file, sizeof(file), "%s/boot.0", dir);
    FILE *to = fopen(file, "w");
    REQUIRE(to);
    fputs("first of all", to);
    fclose(to);
    loop = loop_new();
    snprintf(spec, sizeof(spec), "user,mac=52:54:00:01:02:03,tftp=%s,bootfile=boot.0", dir);
    struct net *n = net_said(spec, loop, &err);
    if (!n)
        fprintf(stderr, "%s\n", err.text);
    REQUIRE(n);
    net_connect(n, &collector, NULL);
    dhcp(n, 1, 0x0a00020f);
    const u8 *r = dhcp(n, 3, 0x0a00020f);
    REQUIRE(r);
    CHECK_EQ(get32(r + 42 + 20), 0x0a000202); /* siaddr */
    CHECK(!strcmp((const char *)r + 42 + 108, "boot.0"));
    r = tftp_read(n, "boot.0");
    REQUIRE(r);
    CHECK_EQ(get32(r + 42), 3 << 16 | 1); /* DATA, the first block */
    CHECK(!memcmp(r + 46, "first of all", 12));
    r = tftp_read(n, "../../etc/passwd");
    REQUIRE(r);
    CHECK_EQ(get16(r + 42), 5); /* ERROR */
    tftp_links(n, dir);
    net_connect(n, NULL, NULL);
    net_close(n);
    loop_free(loop);
    CHECK(!unlink(file) && !rmdir(dir));
}

/* ---- the host's resolver ---- */

static int name_server(const char *address)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(53) };
    const int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, address, &a.sin_addr);
    return !bind(s, (struct sockaddr *)&a, sizeof(a)) ? s : -1;
}

/* Sends the guest's DNS server something until it arrives at s. */
static void ask_until(struct net *n, int s)
{
    struct pollfd p = { s, POLLIN, 0 };
    u8 f[64] = { 0 };

    ethernet(f, (const u8 *)"\x52\x55\x0a\0\x02\x03", 0x0800);
    ip(f, 0x0a00020f, 0x0a000203, 17, 20);
    put16(f + 34, 2000);
    put16(f + 36, 53);
    put16(f + 38, 20);
    do {
        put16(f + 34, (u32)get16(f + 34) + 1); /* libslirp asks where to once for each of the guest's sockets */
        send_frame(n, f, 54);
    } while (poll(&p, 1, 100) != 1); /* ends with the test's timeout at the latest */
}

static void replace_resolver(const char *line)
{
    FILE *f = fopen("/etc/new", "w");

    if (!f || fputs(line, f) < 0 || fclose(f) || rename("/etc/new", "/etc/resolv.conf"))
        abort();
}

/* In a host of its own, whose /etc/resolv.conf is replaced while the network runs, as DHCP clients do it. */
static void with_resolver(void)
{
    char dir[] = "/tmp/lodge-etc-XXXXXX", map[32], gid_map[32];
    struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    struct error err;

    snprintf(map, sizeof(map), "0 %u 1", geteuid());
    snprintf(gid_map, sizeof(gid_map), "0 %u 1", getegid());
    if (!mkdtemp(dir))
        _exit(1);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) || !write_file("/proc/self/setgroups", "deny") ||
        !write_file("/proc/self/uid_map", map) || !write_file("/proc/self/gid_map", gid_map) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", dir, "tmpfs", 0, NULL) || mount(dir, "/etc", NULL, MS_BIND, NULL) ||
        ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &ifr)) {
        rmdir(dir);
        _exit(77);
    }
    const int one = name_server("127.0.0.1"), two = name_server("127.0.0.2");
    replace_resolver("nameserver 127.0.0.1\n");
    loop = loop_new();
    struct net *n = net_said("user,mac=52:54:00:01:02:03", loop, &err);
    CHECK(n && one >= 0 && two >= 0);
    if (n) {
        net_connect(n, &collector, NULL);
        ask_until(n, one);
        replace_resolver("nameserver 127.0.0.2\n");
        ask_until(n, two);
        net_connect(n, NULL, NULL);
        net_close(n);
    }
    loop_free(loop);
    umount2(dir, MNT_DETACH);
    _exit(test_status());
}

TEST(resolver)
{
    int status;

    if (!files_are_asked_for()) {
        printf("     left out: this host cannot ask for files\n");
        return;
    }
    fflush(NULL);
    const pid_t pid = fork();
    if (!pid)
        with_resolver();
    REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        printf("     left out: no namespaces for a host with another resolver\n");
    else
        CHECK_EQ(status, 0);
    CHECK_EQ(sh("rmdir /tmp/lodge-etc-?????? 2>/dev/null || true"), 0);
}

/* ---- what its process is ---- */

TEST(confined)
{
    char path[64], name[64];
    struct error err;
    u32 serve = 0, keep = 0;

    loop = loop_new();
    struct net *n = net_said("user", loop, &err);
    REQUIRE(n);
    DIR *proc = opendir("/proc");
    REQUIRE(proc);
    for (struct dirent *e; (e = readdir(proc));) {
        const pid_t pid = atoi(e->d_name), parent = (pid_t)proc_status(pid, "PPid", 10);
        snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        FILE *f = pid > 0 ? fopen(path, "re") : NULL;
        const bool ours = f && fscanf(f, "%63s", name) == 1;
        if (f)
            fclose(f);
        if (ours && !strcmp(name, "lodge-files") && parent == getpid()) {
            keep++;
            check_powerless(pid);
            check_no_terminal(pid);
        } else if (ours && !strcmp(name, "lodge-net") && proc_status(parent, "PPid", 10) == getpid()) {
            serve++;
            check_confined(pid);
        }
    }
    closedir(proc);
    CHECK_EQ(serve, 1);
    CHECK_EQ(keep, 1);
    net_close(n);
    loop_free(loop);
}

/* ---- the kernel as the guest ---- */

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
