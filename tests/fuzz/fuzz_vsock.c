/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_vsock.c - the socket device between a hostile driver and hostile programs on its unix sockets. */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../unit/fake_fd.h"
#include "fuzz_virtio.h"
#include "virtio/virtio_vsock.h"

enum { HOST_PORT = 77, PEERS = 4 };
static char path[64];
static int peer[PEERS], server = -1;

static void move(void)
{
    turns();
    for (u32 i = 0; i < 3; i++) {
        fake_poll();
        turns();
    }
}

static int unix_socket(const char *name, bool serve)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    strcpy(a.sun_path, name);
    if (serve)
        unlink(name);
    if (fd >= 0 && !(serve ? bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 2)
                           : connect(fd, (struct sockaddr *)&a, sizeof a)))
        return fd;
    close(fd);
    return -1;
}

static void drop(u32 i)
{
    if (peer[i] >= 0)
        close(peer[i]);
    peer[i] = -1;
}

static void host_op(u8 op)
{
    static u8 much[100000];
    static const char *const greeting[] = { "CONNECT 1\n", "CONNECT 1000\nmore", "CONN", "CONNECT 4294967294\n" };
    const u32 i = op >> 6, what = op >> 4 & 3;
    switch (op & 15) {
    case 11: /* a new one */
        drop(i);
        peer[i] = what ? unix_socket(path, false) : accept4(server, NULL, NULL, SOCK_NONBLOCK);
        if (peer[i] >= 0 && what)
            (void)!send(peer[i], greeting[what], strlen(greeting[what]), MSG_NOSIGNAL);
        break;
    case 12:
        (void)!send(peer[i], much, what == 3 ? sizeof much : 1 + what, MSG_NOSIGNAL | MSG_DONTWAIT);
        break;
    case 13:
        (void)!read(peer[i], much, what == 3 ? sizeof much : 1 + what);
        break;
    case 14:
        if (what)
            shutdown(peer[i], (int)what - 1);
        else
            drop(i);
        break;
    default: (void)!send(peer[i], greeting[what], strlen(greeting[what]), MSG_NOSIGNAL); break;
    }
    move();
}

static void tidy(void)
{
    char name[80];
    snprintf(name, sizeof name, "%s_%d", path, HOST_PORT);
    unlink(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    need_memory();
    if (server < 0) {
        char name[80];
        snprintf(path, sizeof path, "/tmp/lodge-fuzz-vsock-%d", (int)getpid());
        snprintf(name, sizeof name, "%s_%d", path, HOST_PORT);
        server = unix_socket(name, true);
        atexit(tidy);
        memset(peer, -1, sizeof peer);
    }
    const u32 nops = size ? data[0] % 64 : 0, first = MIN(1 + nops, (u32)size), left = (u32)size - first;
    const u64 features = ~0ull & ~(size && data[0] >> 6 & 1 ? 0 : VIRTIO_F_RING_PACKED);

    memset(guest(0), 0, MEMORY);
    memcpy(guest(0), data + first, MIN(left, (u32)MEMORY));
    struct virtio_vsock_config c = { .memory = memory, .path = path, .cid = 3 };
    struct virtio_vsock *s = virtio_vsock_new(&c, NULL);
    if (!s)
        abort();
    struct virtio_device *d = virtio_vsock_device(s);
    if (virtio_transport_init(&transport, &transport_kind, &transport_ops, d, NULL, 0, NULL))
        abort();
    start(d, features);
    move();
    for (u32 i = 1; i < first; i++) {
        if (!common_op(d, data[i], features))
            host_op(data[i]);
        fake_poll();
    }
    virtio_transport_settle(&transport);
    move();
    if (size & 1 && d->ops->state->post_load(d, NULL))
        abort();
    virtio_transport_resume(&transport);
    move();
    set_status(d, 0);
    if (size & 2)
        move();
    virtio_vsock_free(s);
    if (fake_fds)
        abort();
    for (u32 i = 0; i < PEERS; i++)
        drop(i);
    for (int fd; (fd = accept(server, NULL, NULL)) >= 0;)
        close(fd);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    /* greet; the guest's packets; data both ways; one end, then the other; what a reset leaves */
    static const u8 few[] = { 0x1b, 0x14, 0x11, 0x0c, 0x2c, 0x14, 0x11, 0x1d, 0x14, 0x11, 0x2e, 0x14, 0x11, 0x3d, 0x08, 0x14,
                              0x11, 0x0e, 0x14, 0x11, 0x24, 0x02, 0x05, 0x1b, 0x06, 0x07 };
    static const u8 many[] = { 0x1b, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x11, 0x3d, 0x11, 0x14, 0x11, 0x14, 0x11, 0x3d, 0x08,
                               0x3d, 0x24, 0x02, 0x3d, 0x3d, 0x0e, 0x11, 0x05, 0x1b, 0x07 };
    static const u16 op[4][8] = { { 1, 5, 5, 4, 3, 1, 5, 3 }, { 2, 5, 6, 7, 4, 4, 5, 3 }, { 1, 5, 5, 5, 5, 5, 4, 3 }, { 2, 5, 5, 5, 5, 5, 4, 3 } };
    const u8 *ops = i & 4 ? many : few;
    enum { N = sizeof(few) };
    _Static_assert(sizeof(many) == N, "");
    u8 *ram = buf + 1 + N;
    u64 gpa = 0x1000;

    if (i >= 8)
        return 0;
    memset(buf, 0, 1 + N + 0x8000);
    buf[0] = (u8)(N | (i & 1) << 6);
    memcpy(buf + 1, ops, N);
    for (u32 n = 0; n < 8; n++) {
        const u32 len = 512;
        gpa = seed_chain(ram, i & 1, 0, n, n, gpa, &len, 0, 1);
    }
    for (u32 n = 0; n < 8; n++) {
        const u32 host = i & 2 ? 0x40000000 : HOST_PORT, body = op[i / 2][n] != 5 ? 0 : i & 4 ? 56000 : 1000;
        struct {
            u64 src_cid, dst_cid;
            u32 src_port, dst_port, len;
            u16 type, op;
            u32 flags, buf_alloc, fwd_cnt;
        } __attribute__((packed)) h = { 3, 2, 1000, host, body, 1, op[i / 2][n], i & 4 ? 3 : n & 3, 65536, 0 };
        const u32 len[2] = { sizeof h, i & 4 ? 56000 : 1000 };
        memcpy(ram + gpa, &h, sizeof h);
        (void)seed_chain(ram, i & 1, 1, n, 2 * n, gpa, len, 2, 0);
        gpa += sizeof h;
    }
    if (!(i & 1)) /* one by one */
        memset(ram + RINGS + 0x102, 0, 2);
    return 1 + N + 0x8000;
}
