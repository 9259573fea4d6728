/* SPDX-License-Identifier: Apache-2.0 */
/* net_switch_hostile.c - clients of a switch that talk nonsense, or send more descriptors than a link has. */
#include "switch_rig.h"

#include <sys/epoll.h>

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
