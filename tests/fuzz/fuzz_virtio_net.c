/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_virtio_net.c - the network card against a hostile driver, over a cable that refuses at times and sends much. */
#include "fuzz_virtio.h"
#include "virtio/virtio_net.h"

struct net {
    const struct net_user *user;
    void *card;
    bool full, waits;
};
static struct net cable;

void net_connect(struct net *n, const struct net_user *user, void *card)
{
    n->user = user;
    n->card = card;
}
void net_mac(const struct net *n, u8 mac[6]) { memset(mac, 2, 6); }
bool net_link(const struct net *n) { return true; }
u32 net_queues(const struct net *n) { return 1; }
u32 net_mtu(const struct net *n) { return 1500; }
u32 net_offloads(const struct net *n) { return NET_CSUM | NET_TSO4 | NET_TSO6; }
void net_set_offloads(struct net *n, u32 receive) {}
void net_flush(struct net *n, u32 q) {}

bool net_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    static u8 sent[NET_HDR + NET_MAX_FRAME];
    size_t at = 0;

    if (q || !niov || niov > NET_MAX_IOV || len < NET_HDR + 14 || len > sizeof(sent))
        abort();
    if (n->full)
        return false;
    for (u32 i = 0; i < niov; at += iov[i++].iov_len)
        memcpy(sent + at, iov[i].iov_base, iov[i].iov_len);
    if (at != len)
        abort();
    return true;
}

static void arrive(u32 len)
{
    static u8 packet[NET_HDR + NET_MAX_FRAME];
    struct iovec iov[] = { { packet, NET_HDR }, { packet + NET_HDR, len } };

    cable.waits = !cable.user->receive(cable.card, 0, iov, 2, NET_HDR + len);
    cable.user->batch(cable.card, 0);
}

void net_resume(struct net *n, u32 q)
{
    if (n->waits)
        arrive(60);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    need_memory();
    u32 nops = size ? data[0] % 64 : 0, first = MIN(1 + nops, (u32)size), left = (u32)size - first;
    u8 how = size ? data[0] >> 6 : 0;
    u64 features = ~0ull & ~(how & 1 ? 0 : VIRTIO_F_RING_PACKED) & ~(how & 2 ? BIT(15) : 0);

    memset(guest(0), 0, MEMORY);
    memcpy(guest(0), data + first, MIN(left, (u32)MEMORY));
    memset(&cable, 0, sizeof(cable));
    struct virtio_net *n = virtio_net_new(&cable, memory, NULL, NULL);
    struct virtio_device *d = virtio_net_device(n);
    if (virtio_transport_init(&transport, &transport_kind, &transport_ops, d, NULL, 0, NULL))
        abort();
    start(d, features);
    turns();
    for (u32 i = 1; i < first; i++) {
        static const u32 lens[] = { 14, 60, 1514, NET_MAX_FRAME };
        if (common_op(d, data[i], features))
            continue;
        switch (data[i] & 15) {
        case 11:
            cable.full = !cable.full;
            if (!cable.full)
                cable.user->room(cable.card);
            break;
        case 12:
            cable.user->link(cable.card, data[i] >> 4 & 1);
            break;
        default:
            arrive(lens[data[i] >> 4 & 3]);
        }
        turns();
    }
    set_status(d, 0);
    turns();
    if (virtio_status(d))
        abort();
    virtio_net_free(n);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const u8 ops[] = { 0, 16, 32, 13, 29, 45, 61, 20, 16, 11, 16, 4, 0, 11, 12, 32, 8, 22, 23, 5 };
    static const u8 commands[][12] = { { 0, 0, 0 }, { 1, 1, 2, 3, 4, 5, 6, 7 }, { 1, 0, 1, 0, 0, 0, 2, 2, 2, 2, 2, 2 },
                                       { 2, 0, 5 }, { 5, 0, 2 } };
    enum { N = sizeof(ops) };
    u8 *ram = buf + 1 + N;
    u64 gpa = 0x1000;

    if (i >= 4)
        return 0;
    memset(buf, 0, 1 + N + 0x4000);
    buf[0] = (u8)(N | i << 6);
    memcpy(buf + 1, ops, N);
    for (u32 n = 0; n < 5; n++) {
        gpa = seed_chain(ram, i & 1, 0, n, 3 * n, gpa, (u32[]){ 12, 500 + 500 * (i & 1) }, 0, 2);
        gpa = seed_chain(ram, i & 1, 1, n, 3 * n, gpa, (u32[]){ 12, 14 + n * 20, 100 }, 3, 0);
        memcpy(ram + gpa, commands[n], 12);
        gpa = seed_chain(ram, i & 1, 2, n, 3 * n, gpa, (u32[]){ 2, 18, 1 }, 2, 1);
    }
    return 1 + N + 0x4000;
}
