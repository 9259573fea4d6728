/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_blk_private.h - the disk, for virtio_blk.c and virtio_blk_request.c. */
#ifndef LODGE_VIRTIO_VIRTIO_BLK_PRIVATE_H
#define LODGE_VIRTIO_VIRTIO_BLK_PRIVATE_H

#include "virtio/virtio_blk.h"

/* 5.2.3 Feature bits */
#define VIRTIO_BLK_F_SIZE_MAX BIT(1)
#define VIRTIO_BLK_F_SEG_MAX BIT(2)
#define VIRTIO_BLK_F_GEOMETRY BIT(4)
#define VIRTIO_BLK_F_RO BIT(5)
#define VIRTIO_BLK_F_BLK_SIZE BIT(6)
#define VIRTIO_BLK_F_FLUSH BIT(9)
#define VIRTIO_BLK_F_TOPOLOGY BIT(10)
#define VIRTIO_BLK_F_CONFIG_WCE BIT(11)
#define VIRTIO_BLK_F_MQ BIT(12)
#define VIRTIO_BLK_F_DISCARD BIT(13)
#define VIRTIO_BLK_F_WRITE_ZEROES BIT(14)

enum { /* 5.2.6 */
    VIRTIO_BLK_T_IN = 0, VIRTIO_BLK_T_OUT = 1, VIRTIO_BLK_T_FLUSH = 4, VIRTIO_BLK_T_GET_ID = 8,
    VIRTIO_BLK_T_DISCARD = 11, VIRTIO_BLK_T_WRITE_ZEROES = 13,
};
enum { VIRTIO_BLK_S_OK = 0, VIRTIO_BLK_S_IOERR = 1, VIRTIO_BLK_S_UNSUPP = 2 };
enum { VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1 };

struct virtio_blk_req { /* the header */
    u32 type, reserved;
    u64 sector;
};
struct virtio_blk_discard_write_zeroes {
    u64 sector;
    u32 num_sectors, flags;
};
struct virtio_blk_layout { /* 5.2.4 Device configuration layout: struct virtio_blk_config there */
    u64 capacity;
    u32 size_max, seg_max;
    u16 cylinders;
    u8 heads, sectors;
    u32 blk_size;
    u8 physical_block_exp, alignment_offset;
    u16 min_io_size;
    u32 opt_io_size;
    u8 writeback, unused0;
    u16 num_queues;
    u32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
    u32 max_write_zeroes_sectors, max_write_zeroes_seg;
    u8 write_zeroes_may_unmap, unused1[3];
};
_Static_assert(offsetof(struct virtio_blk_layout, writeback) == 32 && sizeof(struct virtio_blk_layout) == 64, "5.2.4");

enum {
    QUEUE_SIZE = 256,
    SEG_MAX = QUEUE_SIZE - 2,
    SEG_BYTES = 1 << 20,
    REQUEST_MAX = SEG_MAX * SEG_BYTES, /* bytes */
    /* Bytes under way when the last request is begun. The block layer may have to copy them, and a driver can name the same
       memory in all of its buffers. */
    BUSY_MAX = 64 << 20,
    PIECES = QUEUE_SIZE + MEMORY_MAX_REGIONS, /* a buffer may reach over the end of each region */
    MAX_RANGES = 64,                          /* of a discard */
    MAX_RANGE_SECTORS = 1 << 21,
};
#define RETRY_NS 1000000000ull

struct request {
    struct block_request rq;
    struct virtio_blk *b;
    struct virtio_queue *q; /* NULL: the device's own flush */
    struct request *next;   /* free, parked or deferred */
    u32 type;               /* VIRTIO_BLK_T_ */
    u32 range;              /* the next one of a discard */
    u64 bytes;              /* of its buffers */
    bool flushing, retried;
    u8 *status;
    struct iovec *trimmed;  /* the piece whose last byte, the status, is hidden from the block layer */
    struct virtio_chain chain;
    struct iovec iov[PIECES];
};

struct list {
    struct request *first, **last;
};

struct virtio_blk {
    struct virtio_device device;
    struct virtio_blk_config c;
    char serial[VIRTIO_BLK_SERIAL];
    u64 capacity; /* sectors */
    u64 offered;
    bool wce;     /* the register writeback */

    struct request *requests, *free;
    u32 nrequests, fresh; /* requests[fresh...] have never been used */
    u32 busy, queue_busy[VIRTIO_BLK_MAX_QUEUES];
    u64 busy_bytes;
    u32 queue_resetting, starved, to_notify; /* a bit a queue */
    bool submitted, flush_wanted, draining, batch_armed;
    struct list deferred; /* to be submitted, but the block layer is drained */
    struct list parked;
    u32 retrying;
    bool stopped; /* something is parked or tried again: nothing new is begun */
    bool told;    /* stop() was called, go() not yet */
    char why[256];
    struct timer batch, retry;
};

static inline struct virtio_blk *blk(struct virtio_device *d) { return container_of(d, struct virtio_blk, device); }

/* virtio_blk_request.c; all with the device's lock. */
void virtio_blk_list_init(struct list *l);
void virtio_blk_list_add(struct list *l, struct request *r);
struct request *virtio_blk_list_take(struct list *l);
void virtio_blk_soon(struct virtio_blk *b);
struct request *virtio_blk_take(struct virtio_blk *b, struct virtio_queue *q);
void virtio_blk_release(struct request *r);
void virtio_blk_push(struct request *r);
void virtio_blk_submit(struct request *r);
void virtio_blk_flush(struct request *r);
void virtio_blk_begin(struct request *r);

#endif
