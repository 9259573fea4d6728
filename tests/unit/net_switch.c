/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_switch.c - "switch:NAME": three machines and what each gets to see; addresses that others want; a machine that
 * takes nothing; the end with the last and the beginning with the next.
 */
#include "switch_rig.h"

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
