/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio.h - virtio 1.x: what a device is to its transport, and the one walker of queues.  OASIS "Virtual I/O Device
 * (VIRTIO) Version 1.2"; names are the specification's.
 *
 * A device is embedded by its owner (struct virtio_blk, ...), initialised by virtio_init and plugged into a transport,
 * virtio_pci_new or virtio_mmio_new.  Only modern (VIRTIO_F_VERSION_1) drivers are served.
 *
 * Threads and locks: every member of virtio_ops is called with the device's lock held; kick and what comes from
 * backends runs on the loop's thread, register accesses on vCPU threads.  A backend's callback takes the lock itself
 * before it touches a queue; the lock is recursive, so that it may be called from within kick, settle, ...
 * virtio_pop, virtio_push, virtio_notify...: with the lock held.  Queue work never blocks.
 *
 * Notifications are off while a queue is worked on.  The driver is asked for the next one when virtio_pop returns 0 for
 * an empty queue: a device that stops before (it has no more room) looks at the queue itself when it can go on.
 *
 * A driver that breaks the rules (a chain that loops or lies outside memory, an index too far ahead, ...) gets
 * DEVICE_NEEDS_RESET: virtio_fail().  From then on its queues are empty until it resets the device.
 */
#ifndef LODGE_VIRTIO_VIRTIO_H
#define LODGE_VIRTIO_VIRTIO_H

#include <pthread.h>
#include <sys/uio.h>

#include "base/base.h"
#include "base/error.h"
#include "base/loop.h"
#include "memory/memory.h"
#include "state/state.h"

enum virtio_id {
    VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_ENTROPY = 4, VIRTIO_ID_BALLOON = 5,
    VIRTIO_ID_INPUT = 18, VIRTIO_ID_SOCKET = 19, VIRTIO_ID_FS = 26,
};

enum { /* 2.1 Device Status */
    VIRTIO_ACKNOWLEDGE = 1, VIRTIO_DRIVER = 2, VIRTIO_DRIVER_OK = 4, VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64, VIRTIO_FAILED = 128,
};

#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX BIT(29)
#define VIRTIO_F_VERSION_1 BIT(32)
#define VIRTIO_F_RING_PACKED BIT(34)
#define VIRTIO_F_RING_RESET BIT(40)

enum { VIRTIO_MAX_QUEUES = 32, VIRTIO_MAX_QUEUE_SIZE = 1024, VIRTIO_MAX_IOV = 1026,
       VIRTIO_MSI_NO_VECTOR = 0xffff };

/* A buffer the driver made available: pieces the device reads (out), then pieces it writes (in). Pieces never cross the
   end of a memory region: one descriptor may become two; none is empty. The pointers are good until virtio_push. What
   is popped and not pushed never takes more ring entries than the queue has (q->size). */
struct virtio_chain {
    u16 id;          /* buffer id: head of the chain */
    u16 ndesc;       /* ring entries it took (packed) */
    u32 nout, nin;   /* iov[0..nout) and iov[nout..nout + nin) */
    u64 out_len, in_len;
    struct iovec *iov; /* the caller's array */
    u64 *gpa;          /* where each lies in guest memory; the caller's array, or NULL: not wanted */
    u32 max;           /* room in both: a chain of more pieces breaks the rules; VIRTIO_MAX_IOV takes all others */
};

struct virtio_device;

/* One queue. Only queue.c, device.c and the transports look inside. */
struct virtio_queue {
    struct virtio_device *dev;
    u16 index;
    u16 max_size;
    /* as the driver set it up */
    u16 size;
    bool enabled;
    bool resetting; /* queue_reset is under way */
    u16 vector;     /* MSI-X, VIRTIO_MSI_NO_VECTOR: none */
    u64 desc, driver, device; /* guest-physical: descriptor area, driver area, device area */
    /* progress: free-running counters (split) or places in the ring (packed) */
    u16 last_avail, used_idx;
    bool avail_wrap, used_wrap; /* packed */
    u16 inflight;               /* ring entries popped and not yet pushed */
    /* not saved: the rings, host pointers found when enabled; what was last seen in them and written to them */
    void *desc_ptr, *driver_ptr, *device_ptr;
    struct memory_region near;        /* where the last buffer was ... */
    u32 near_generation;              /* ... and when */
    u16 avail_seen;                   /* split: avail->idx when last read */
    u16 signalled_used;               /* used_idx when an interrupt was last considered ... */
    bool signalled_valid;             /* ... if it was, since the ring began (packed: anew) */
    bool pushed;                      /* what the driver is not yet shown ... */
    u16 first_used, first_flags;      /* ... begins here (packed) */
    bool told;                        /* the driver is asked to notify */
    u32 budget;                       /* buffers left for this turn of the loop */
};

struct virtio_ops {
    enum virtio_id id;
    const char *name;       /* "virtio-blk" */
    u32 config_size;        /* bytes of device-specific configuration */
    void (*config_read)(struct virtio_device *d, u32 offset, void *to, u32 len);          /* within config_size */
    void (*config_write)(struct virtio_device *d, u32 offset, const void *from, u32 len); /* NULL: read-only */
    /* Features were agreed (FEATURES_OK). NULL: nothing to do. */
    void (*features)(struct virtio_device *d, u64 agreed);
    void (*driver_ok)(struct virtio_device *d); /* queues are live; NULL: nothing to do */
    void (*kick)(struct virtio_device *d, struct virtio_queue *q); /* the driver made buffers available */
    /* To power-on state. Returns true when done; false: requests are still under way in the host, which may write guest
       memory; the device calls virtio_reset_done() when the last is. Until then the status register does not read 0 and
       no queue is live. What was written by a request that ends meanwhile is told by virtio_push as ever. */
    bool (*reset)(struct virtio_device *d);
    /* The same for one queue (VIRTIO_F_RING_RESET, and QueueReady 0 of MMIO), with virtio_queue_reset_done; NULL: not
       offered, buffers are never kept. */
    bool (*queue_reset)(struct virtio_device *d, struct virtio_queue *q);
    /* Before saving, at a power-on reset and before the transport goes: nothing is under way when this returns (the
       lock is held; the loop's thread; no vCPU runs); a reset that waited for that is done. NULL: nothing ever is. */
    void (*settle)(struct virtio_device *d);
    /* After loading or settle: take up where it was left; kick follows for every live queue. After loading, features
       was called anew. NULL */
    void (*resume)(struct virtio_device *d);
    /* The device's own state, of a struct that begins with its struct virtio_device; the transport adds it to the list
       behind virtio_state. NULL: none. */
    const struct state_desc *state;
};

/* The transport's services to the device. */
struct virtio_transport_ops {
    void (*queue_interrupt)(void *transport, struct virtio_queue *q);
    void (*config_interrupt)(void *transport);
    void (*reset_done)(void *transport); /* its own registers, too; lock held */
};

struct virtio_device {
    const struct virtio_ops *ops;
    struct memory *memory;
    struct loop *loop;
    pthread_mutex_t lock; /* recursive */
    u32 nqueues;
    struct virtio_queue queue[VIRTIO_MAX_QUEUES];
    u64 offered; /* features; bits may be taken out after virtio_init (packed=off) */
    u64 wanted;  /* written by the driver */
    u64 agreed;  /* the same from FEATURES_OK on, before that 0 */
    u8 status;
    bool resetting;
    u64 driver_ok_at;     /* clock_ns() of the first DRIVER_OK, for reports; 0: none yet */
    bool quiet;         /* no reset of the device or a queue is under way; for loop_wait */
    bool dma;           /* it may reach guest memory (PCI bus mastering) */
    bool settled;       /* nothing is popped until resume */
    bool ending;        /* the machine goes: what the host keeps waiting is left behind */
    bool loaded;        /* state was loaded and not yet resumed */
    bool config_stale;  /* the configuration changed since it was last read */
    u32 generation;     /* of the configuration */
    /* the transport's registers */
    u32 device_feature_select, driver_feature_select, queue_select;
    u16 config_vector;
    u32 isr;            /* guarded by the transport's irq_lock */
    u32 kicked;         /* queues with work, atomic: from vCPU threads to the loop */
    struct loop_kick kick;
    const struct virtio_transport_ops *transport_ops;
    void *transport;
};

/* features: the device's own; those of the rings are added. queue_sizes: nqueues powers of two, at most
   VIRTIO_MAX_QUEUE_SIZE. */
void virtio_init(struct virtio_device *d, const struct virtio_ops *ops, struct memory *m, struct loop *loop,
                 u64 features, u32 nqueues, const u16 *queue_sizes);
void virtio_destroy(struct virtio_device *d); /* after its transport is gone */

/* ---- for devices ---------------------------------------------------------- */

/* The next buffer: 1; 0: none, or enough for this turn of the loop: kick comes (again) when there is one; -1: the
   driver broke the rules (or had before). c: iov, gpa and max are the caller's, the rest is filled in. */
int must_check virtio_pop(struct virtio_queue *q, struct virtio_chain *c);
/* Done with it: the driver sees it, with all others pushed since, from virtio_notify on (a packet in several buffers is
   there at once). written: bytes of the in pieces (c->iov as virtio_pop left it), from their start, that were filled or
   may have been: they are dirty from here on and the engine is told. On a queue that is not live (reset, failed) only
   that happens: every chain popped is pushed or unpopped, whatever became of the queue. */
void virtio_push(struct virtio_queue *q, const struct virtio_chain *c, u64 written);
/* The last buffer popped and not pushed goes back unused (net: a packet needs more buffers than there are). */
void virtio_unpop(struct virtio_queue *q, const struct virtio_chain *c);
/* Gives the driver what was pushed, and interrupts it if it wants to know of that. */
void virtio_notify(struct virtio_queue *q);
void virtio_config_changed(struct virtio_device *d);
/* DEVICE_NEEDS_RESET; why goes to the log, once a reset. */
cold void virtio_fail(struct virtio_device *d, const char *why);
/* From ops->reset's, ops->queue_reset's false; the loop's thread, lock held. */
void virtio_reset_done(struct virtio_device *d);
void virtio_queue_reset_done(struct virtio_queue *q);
static inline bool virtio_has(const struct virtio_device *d, u64 feature) { return (d->agreed & feature) != 0; }
/* Queues may be used: DRIVER_OK, no reset under way, not failed. */
bool virtio_live(const struct virtio_device *d);
bool virtio_queue_live(const struct virtio_queue *q);

/* Copies between a chain and a buffer, from `at` bytes into the out (in) pieces; returns what was there. */
u64 virtio_read(const struct virtio_chain *c, u64 at, void *to, u64 len);
u64 virtio_write(const struct virtio_chain *c, u64 at, const void *from, u64 len);
/* The out (in) pieces from `skip` bytes on, len bytes of them at most, for readv and writev: how many entries of iov, of
   which there are max. */
u32 virtio_pieces(const struct virtio_chain *c, bool in, u64 skip, u64 len, struct iovec *iov, u32 max);

/* ---- for transports; lock held but for virtio_kick ------------------------ */

extern const struct state_desc virtio_state; /* obj: struct virtio_device; record "virtio" */
/* The driver's notification of queue n: any thread, no lock; ops->kick follows on the loop's thread. */
void virtio_kick(struct virtio_device *d, u32 n);
u8 virtio_status(const struct virtio_device *d); /* the register */
void virtio_set_status(struct virtio_device *d, u8 status);
u32 virtio_feature_word(const struct virtio_device *d, u64 features, u32 select);
void virtio_set_features(struct virtio_device *d, u32 select, u32 word); /* what the driver writes */
struct virtio_queue *virtio_selected(struct virtio_device *d);           /* NULL: there is no such queue */
void virtio_queue_enable(struct virtio_queue *q); /* checks the rings' addresses: fails the device */
void virtio_queue_reset(struct virtio_queue *q);
/* The device-specific configuration; what lies outside reads 0. */
u32 virtio_config_read(struct virtio_device *d, u32 offset, u32 len);
void virtio_config_write(struct virtio_device *d, u32 offset, u32 len, u32 value);
void virtio_set_dma(struct virtio_device *d, bool on);
#endif
