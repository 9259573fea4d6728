/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device (VIRTIO 1.2, 5.10) between a driver on the bench and real unix sockets. */
#include "virtio/virtio_vsock.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake_fd.h"
#include "virtio_rig.h"

enum { RX, TX, EVENT };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { ROOM = 4096, GUEST_PORT = 1000, WINDOW = 1 << 20 };

struct header {
    u64 src_cid, dst_cid;
    u32 src_port, dst_port, len;
    u16 type, op;
    u32 flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static struct virtio_vsock *vsock;
static char path[64];
static u64 rx_gpa[1024]; /* by descriptor */

static void turns(void)
{
    for (u32 quiet = 0, n = 0; quiet < 2 && n < 1000; n++) {
        loop_turns();
        quiet = fake_poll() ? 0 : quiet + 1;
    }
}

static void give(u32 n)
{
    for (u32 i = 0; i < n; i++) {
        const u64 gpa = alloc(sizeof(struct header) + ROOM);
        struct piece p = { gpa, sizeof(struct header) + ROOM };
        rx_gpa[add(RX, &p, 0, 1)] = gpa;
    }
    kick(RX);
}

static void setup(u32 buffers)
{
    struct error err = { "" };
    rig_memory();
    snprintf(path, sizeof path, "/tmp/lodge-vsock-%d", (int)getpid());
    struct virtio_vsock_config c = { .memory = drv.m, .path = path, .cid = 3 };
    vsock = virtio_vsock_new(&c, &err);
    if (!vsock) {
        fprintf(stderr, "%s\n", err.text);
        exit(TEST_SKIP);
    }
    rig_start(virtio_vsock_device(vsock), 0);
    give(buffers);
}

static void end(void)
{
    set_status(0);
    turns();
    virtio_vsock_free(vsock);
    CHECK_EQ(fake_fds, 0);
    CHECK(access(path, F_OK) != 0);
    rig_end();
}

/* What the guest says. */
static void say(u32 host_port, u32 guest_port, u16 op, u32 flags, const void *data, u32 len, u32 fwd_cnt, u32 alloc_)
{
    const u64 gpa = alloc(sizeof(struct header) + len);
    struct header h = { 3, 2, guest_port, host_port, len, 1, op, flags, alloc_, fwd_cnt };
    memcpy(at(gpa, sizeof h), &h, sizeof h);
    if (len)
        memcpy(at(gpa + sizeof h, len), data, len);
    struct piece p = { gpa, (u32)sizeof h + len };
    add(TX, &p, 1, 0);
    virtio_kick(drv.d, TX);
    turns();
    while (used(TX, NULL) >= 0)
        ;
}

/* What it hears next: 0 is nothing. */
static u16 hear(struct header *h, u8 *data)
{
    u32 len;
    const int id = used(RX, &len);
    if (id < 0)
        return 0;
    memcpy(h, at(rx_gpa[id], sizeof *h), sizeof *h);
    CHECK_EQ(len, sizeof *h + h->len);
    if (data && h->len)
        memcpy(data, at(rx_gpa[id] + sizeof *h, h->len), h->len);
    return h->op;
}

static int client(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    strcpy(a.sun_path, path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a))
        abort();
    turns();
    return fd;
}

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    turns();
}

/* A connection of the host's to guest_port, agreed to; returns the host's port. */
static u32 join(int fd, u32 guest_port, u32 credit)
{
    struct header h = { 0 };
    char text[64];
    snprintf(text, sizeof text, "CONNECT %u\n", guest_port);
    put(fd, text);
    CHECK_EQ(hear(&h, NULL), REQUEST);
    CHECK_EQ(h.dst_port, guest_port);
    say(h.src_port, guest_port, RESPONSE, 0, NULL, 0, 0, credit);
    const ssize_t n = read(fd, text, sizeof text);
    CHECK(n > 3 && !memcmp(text, "OK ", 3));
    return h.src_port;
}

TEST(data_and_ends_go_both_ways)
{
    struct header h;
    u8 data[ROOM];
    char text[16];
    setup(64);
    const int fd = client();
    const u32 port = join(fd, GUEST_PORT, WINDOW);
    put(fd, "to the guest");
    CHECK_EQ(hear(&h, data), RW);
    CHECK_EQ(h.len, 12);
    CHECK(!memcmp(data, "to the guest", 12));
    shutdown(fd, SHUT_WR);
    turns();
    CHECK_EQ(hear(&h, NULL), SHUTDOWN);
    CHECK_EQ(h.flags, 2);
    say(port, GUEST_PORT, RW, 0, "answer", 6, 12, WINDOW);
    CHECK_EQ(read(fd, text, sizeof text), 6);
    CHECK_EQ(read(fd, text, sizeof text), -1);
    say(port, GUEST_PORT, SHUTDOWN, 3, NULL, 0, 12, WINDOW);
    CHECK_EQ(hear(&h, NULL), RST);
    CHECK_EQ(read(fd, text, sizeof text), 0);
    CHECK_EQ(hear(&h, NULL), 0);
    close(fd);
    end();
}

TEST(what_the_guest_sent_before_it_closed_arrives)
{
    static u8 pattern[60000], got[60000];
    struct header h;
    int size = 4096;
    setup(64);
    const int fd = client();
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
    const u32 port = join(fd, GUEST_PORT, WINDOW);
    u32 sent = 0, n = 0;
    for (u32 i = 0; i < sizeof pattern; i++)
        pattern[i] = (u8)(i * 11 + i / 256);
    /* until the host's socket is full, then what our buffer takes; then it closes and does not wait */
    static u8 filler[50000];
    say(port, GUEST_PORT, RW, 0, filler, sizeof filler, 0, WINDOW);
    u32 fwd = 0, filled = sizeof filler;
    for (;; filled += sizeof filler) {
        say(port, GUEST_PORT, CREDIT_REQUEST, 0, NULL, 0, 0, WINDOW);
        for (u16 op; (op = hear(&h, NULL));) {
            CHECK_EQ(op, CREDIT_UPDATE);
            fwd = h.fwd_cnt;
            give(1);
        }
        if (fwd != filled || filled > 10000000)
            break;
        say(port, GUEST_PORT, RW, 0, filler, sizeof filler, 0, WINDOW);
    }
    const u32 held = filled - fwd;
    CHECK(held > 0 && held <= sizeof filler);
    sent = MIN(65536 - held, (u32)sizeof pattern);
    say(port, GUEST_PORT, RW, 0, pattern, sent, 0, WINDOW);
    say(port, GUEST_PORT, SHUTDOWN, 3, NULL, 0, 0, WINDOW);
    CHECK_EQ(hear(&h, NULL), 0);
    say(port, GUEST_PORT, RST, 0, NULL, 0, 0, WINDOW);
    for (u32 total = 0;;) {
        static u8 buf[65536];
        const ssize_t r = read(fd, buf, sizeof buf);
        if (r < 0 && errno == EAGAIN) {
            turns();
            continue;
        }
        if (r <= 0)
            break;
        for (ssize_t i = 0; i < r; i++, total++)
            if (total >= filled && n < sizeof got)
                got[n++] = buf[i];
        turns();
    }
    CHECK_EQ(n, sent);
    CHECK(!memcmp(got, pattern, n));
    CHECK_EQ(hear(&h, NULL), 0);
    close(fd);
    end();
}

TEST(credit_is_kept)
{
    struct header h;
    u8 data[ROOM];
    static u8 much[70000];
    setup(64);
    const int fd = client();
    const u32 port = join(fd, GUEST_PORT, 5);
    put(fd, "0123456789");
    CHECK_EQ(hear(&h, data), RW);
    CHECK_EQ(h.len, 5);
    CHECK_EQ(hear(&h, data), 0);
    say(port, GUEST_PORT, CREDIT_UPDATE, 0, NULL, 0, 6, 5); /* more than it was sent: no credit */
    CHECK_EQ(hear(&h, data), 0);
    say(port, GUEST_PORT, CREDIT_UPDATE, 0, NULL, 0, 5, 3);
    CHECK_EQ(hear(&h, data), RW);
    CHECK_EQ(h.len, 3);
    CHECK(!memcmp(data, "567", 3));
    say(port, GUEST_PORT, CREDIT_REQUEST, 0, NULL, 0, 8, 0);
    CHECK_EQ(hear(&h, data), CREDIT_UPDATE);
    CHECK_EQ(h.buf_alloc, 65536);
    /* a guest that sends more than it may: the host does not read */
    u16 op = 0;
    for (u32 i = 0; i < 100 && op != RST; i++) {
        say(port, GUEST_PORT, RW, 0, much, 65536, 8, 0);
        while ((op = hear(&h, data)) && op != RST)
            give(1);
    }
    CHECK_EQ(op, RST);
    close(fd);
    end();
}

TEST(nobody_starves)
{
    struct header h;
    int fd[5];
    u32 seen = 0;
    static u8 much[60000];
    setup(32);
    for (u32 i = 0; i < ARRAY_SIZE(fd); i++) {
        fd[i] = client();
        join(fd[i], GUEST_PORT + i, WINDOW);
    }
    for (;;) { /* no buffer is left */
        const int idle = client();
        struct header r;
        put(idle, "CONNECT 9\n");
        if (!hear(&r, NULL))
            break;
    }
    for (u32 i = 0; i < ARRAY_SIZE(fd); i++) {
        CHECK(write(fd[i], much, sizeof much) > 0);
        turns();
    }
    for (u32 i = 0; i < 3 * ARRAY_SIZE(fd); i++) {
        give(1);
        turns();
        if (hear(&h, NULL) == RW)
            seen |= BIT(h.dst_port - GUEST_PORT);
    }
    CHECK_EQ(seen, BIT(ARRAY_SIZE(fd)) - 1);
    for (u32 i = 0; i < ARRAY_SIZE(fd); i++)
        close(fd[i]);
    end();
}

TEST(requests_for_nobody_are_refused)
{
    struct header h;
    setup(200);
    say(77, 5, REQUEST, 0, NULL, 0, 0, WINDOW);
    CHECK_EQ(hear(&h, NULL), RST);
    CHECK_EQ(h.src_port, 77);
    CHECK_EQ(h.dst_port, 5);
    say(77, 5, RW, 0, "x", 1, 0, WINDOW);
    CHECK_EQ(hear(&h, NULL), RST);
    say(77, 5, RST, 0, NULL, 0, 0, WINDOW);
    CHECK_EQ(hear(&h, NULL), 0);
    /* clients that do not greet as they must */
    static const char *const bad[] = { "CONNECT \n", "CONNECT x\n", "CONNECT 99999999999\n", "HELLO\n", "CONNECT 4294967295\n",
                                       "CONNECT 11111111111111111111111111\n", "CONNECT 1 \n" };
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        char c;
        const int fd = client();
        put(fd, bad[i]);
        const ssize_t n = read(fd, &c, 1);
        CHECK(n == 0 || (n < 0 && errno == ECONNRESET));
        close(fd);
        turns();
        CHECK_EQ(hear(&h, NULL), 0);
    }
    /* one that goes before the guest has answered */
    const int fd = client();
    put(fd, "CONNECT 12\n");
    CHECK_EQ(hear(&h, NULL), REQUEST);
    close(fd);
    turns();
    CHECK_EQ(hear(&h, NULL), RST);
    end();
}

TEST(many_connections_of_the_guest)
{
    struct header h;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    u32 answers = 0, resets = 0;
    setup(200);
    snprintf(a.sun_path, sizeof a.sun_path, "%s_80", path);
    unlink(a.sun_path);
    const int l = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(bind(l, (struct sockaddr *)&a, sizeof a), 0);
    CHECK_EQ(listen(l, 16), 0);
    for (u32 i = 0; i < 40; i++) {
        say(80, 2000 + i, REQUEST, 0, NULL, 0, 0, WINDOW);
        const u16 op = hear(&h, NULL);
        answers += op == RESPONSE;
        resets += op == RST;
    }
    CHECK(answers >= 16 && resets > 0 && answers + resets == 40);
    set_status(0); /* all go at once */
    turns();
    rig_start(virtio_vsock_device(vsock), 0);
    turns();
    for (u32 i = 0; i < answers; i++) {
        char c;
        const int fd = accept(l, NULL, NULL);
        CHECK_EQ(read(fd, &c, 1), 0);
        close(fd);
    }
    close(l);
    unlink(a.sun_path);
    end();
}

TEST(a_socket_in_use_is_left_alone)
{
    struct error err = { "" };
    setup(1);
    struct virtio_vsock_config c = { .memory = drv.m, .path = path, .cid = 4 };
    CHECK(!virtio_vsock_new(&c, &err));
    CHECK(strstr(err.text, "another program"));
    CHECK_EQ(access(path, F_OK), 0);
    turns();
    close(client());
    end();
}

TEST(after_loading_the_guest_hears_of_it)
{
    struct header h;
    char c;
    setup(16);
    const u64 gpa = alloc(8);
    struct piece p = { gpa, 8 };
    const int fd = client();
    join(fd, GUEST_PORT, WINDOW);
    add(EVENT, &p, 0, 1);
    kick(EVENT);
    CHECK_EQ(used(EVENT, NULL), -1);
    virtio_transport_settle(&drv.t);
    put(fd, "late"); /* waits */
    CHECK_EQ(hear(&h, NULL), 0);
    virtio_transport_resume(&drv.t);
    turns();
    CHECK_EQ(hear(&h, NULL), RW);
    virtio_transport_settle(&drv.t);
    CHECK_EQ(drv.d->ops->state->post_load(drv.d, NULL), 0);
    virtio_transport_resume(&drv.t);
    turns();
    u32 len = 0, *event = at(gpa, 4);
    CHECK(used(EVENT, &len) >= 0);
    CHECK_EQ(len, 4);
    CHECK_EQ(*event, 0);
    CHECK_EQ(read(fd, &c, 1), 0);
    close(fd);
    end();
}
