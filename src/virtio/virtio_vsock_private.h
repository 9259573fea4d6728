/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_vsock_private.h - the socket device, for virtio_vsock.c and virtio_vsock_socket.c. */
#ifndef LODGE_VIRTIO_VIRTIO_VSOCK_PRIVATE_H
#define LODGE_VIRTIO_VIRTIO_VSOCK_PRIVATE_H

#include "base/listener.h"
#include "base/unix_socket.h"
#include "virtio/virtio_vsock.h"

enum { RX, TX, EVENT, QUEUES };
enum { QUEUE_SIZE = 256, MAX_CONNECTIONS = 1024, BUFFER = 65536, MAX_ORPHANS = 64, GREETING = 32, MAX_PACKET = 65536, MAX_ROUNDS = 64 };
enum { MAX_PATH = 90 }; /* bytes: with a port behind it, it is a host program's */
enum { HOST_CID = 2, TYPE_STREAM = 1, EVENT_TRANSPORT_RESET = 0 };
enum op { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
enum { SHUTDOWN_RCV = 1, SHUTDOWN_SEND = 2 };

#define FIRST_HOST_PORT 0x40000000u

struct header {
    u64 src_cid, dst_cid;
    u32 src_port, dst_port, len;
    u16 type, op;
    u32 flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

enum state {
    GREET,   /* accepted; its CONNECT line is not complete */
    ASKED,   /* the guest was asked */
    OPEN,
    CLOSING, /* to the guest it is over, once it has been told */
    DRAINING, /* the guest is gone; what it sent before still goes into the unix socket */
    DEAD,    /* of before a reset, which may come on a vCPU's thread: the loop's frees it */
};

struct connection {
    struct loop_fd watch;
    struct virtio_vsock *vsock;
    struct connection *next;
    enum state state;
    u32 host_port, guest_port;
    u32 owed; /* BIT(enum op) */
    u32 shut_told, shut_heard; /* SHUTDOWN_ flags: told the guest, heard from it */
    char greeting[GREETING];
    u32 greeted;
    /* guest to host */
    u8 *buffer; /* BUFFER bytes, a ring; NULL until needed */
    u32 first, held;
    u32 fwd_cnt;      /* bytes given to the unix socket, modulo 2^32 */
    u32 told_fwd_cnt; /* as the guest last heard */
    /* host to guest */
    u32 peer_alloc, peer_fwd, sent;
    bool eof;
    bool watched, readable;
};

struct virtio_vsock {
    struct virtio_device dev;
    u64 cid;
    struct unix_socket sock;
    struct listener listener;
    struct loop_kick later; /* serve() is wanted */
    struct connection *first;
    u32 nconnections, next_port;
    struct header orphan[MAX_ORPHANS]; /* answers to packets of no connection */
    u32 norphans;
    bool transport_reset; /* the guest is to hear that all its connections are gone */
};

static inline struct virtio_vsock *vsock_of(struct virtio_device *d)
{
    return container_of(d, struct virtio_vsock, dev);
}

/* All with the device's lock. virtio_vsock_socket.c; the last are virtio_vsock.c's. */
struct connection *vsock_find(struct virtio_vsock *s, u32 host_port, u32 guest_port);
struct connection *vsock_connection_new(struct virtio_vsock *s, int fd);
void vsock_connection_free(struct connection *c);
void vsock_rotate(struct virtio_vsock *s, struct connection *c);
void vsock_drop_all(struct virtio_vsock *s);
void vsock_fail(struct connection *c);
u32 vsock_credit(const struct connection *c);
bool vsock_flows(const struct connection *c);
void vsock_watch(struct connection *c);
int vsock_listen_on(struct virtio_vsock *s, const char *path, struct error *err);
void vsock_flush(struct connection *c);
void vsock_serve(struct virtio_vsock *s);

#endif
