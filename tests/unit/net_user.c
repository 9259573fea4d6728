/* SPDX-License-Identifier: Apache-2.0 */
/* net_user.c - "user" as a guest sees it, by hand-written frames: ARP, DHCP, ICMP, TFTP, DNS; and what its process is. */
#include "net_user_rig.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/sandbox.h"
#include "confined.h"

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
