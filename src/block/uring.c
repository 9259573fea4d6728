/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring.c - one io_uring for a chain. Submissions gather until uring_kick, which makes one io_uring_enter for all of
 * them. Completions are read from memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "block/aio.h"

enum {
    ENTRIES = 128,        /* submissions between two kicks; the completion ring has twice as many entries */
    LARGE_READ = 1 << 17, /* bytes: a thread of the kernel shall copy so many out of the page cache, not our thread */
};

struct uring {
    struct aio *aio;
    struct io_uring ring;
};

/* What this ring does, and never anything else: it could open files and connect sockets, and no filter of system calls sees
   what is written into it. An old kernel has no restrictions (5.10). */
static int restrict_ring(struct io_uring *ring)
{
    static const u8 ops[] = { IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };
    struct io_uring_restriction r[ARRAY_SIZE(ops) + 1];

    memset(r, 0, sizeof r);
    for (u32 i = 0; i < ARRAY_SIZE(ops); i++) {
        r[i].opcode = IORING_RESTRICTION_SQE_OP;
        r[i].sqe_op = ops[i];
    }
    r[ARRAY_SIZE(ops)].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    r[ARRAY_SIZE(ops)].sqe_flags = IOSQE_ASYNC;
    /* liburing 2.3 does not export its calls for these two. */
    return syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, r, ARRAY_SIZE(r)) ||
                   syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0)
               ? -errno : 0;
}

struct uring *uring_new(struct aio *aio, int eventfd)
{
    struct uring *u = calloc(1, sizeof(*u));

    if (!u)
        return NULL;
    u->aio = aio;
    /* COOP_TASKRUN (Linux 5.19): completions need not interrupt a thread that will enter the kernel anyway. With
       TASKRUN_FLAG, a thread that looks in memory sees that it should enter (uring_ended). */
    int r = io_uring_queue_init(ENTRIES, &u->ring,
                                IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED);
    if (r == -EINVAL)
        r = io_uring_queue_init(ENTRIES, &u->ring, IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED);
    const bool restricted = r != -EINVAL;
    if (!restricted)
        r = io_uring_queue_init(ENTRIES, &u->ring, IORING_SETUP_CLAMP);
    if (r) {
        free(u);
        errno = -r;
        return NULL;
    }
    /* NODROP (5.5): completions are never lost. RW_CUR_POS comes with READ, WRITE and FALLOCATE (5.6). */
    if ((u->ring.features & (IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS)) !=
        (IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS))
        r = -ENOSYS;
    if (!r)
        r = io_uring_register_eventfd(&u->ring, eventfd);
    if (!r && restricted)
        r = restrict_ring(&u->ring);
    if (r) {
        io_uring_queue_exit(&u->ring);
        free(u);
        errno = -r;
        return NULL;
    }
    return u;
}

void uring_free(struct uring *u)
{
    if (!u)
        return;
    io_uring_queue_exit(&u->ring);
    free(u);
}

void uring_kick(struct uring *u)
{
    while (io_uring_sq_ready(&u->ring)) {
        int r = io_uring_submit(&u->ring);
        aio_count(u->aio, 1);
        if (r > 0 || r == -EINTR)
            continue;
        /* EBUSY, EAGAIN: it will work when completions are reaped, or when there is memory. The loop comes around
           and kicks again. */
        aio_signal(u->aio);
        break;
    }
}

void uring_submit(struct uring *u, struct file_io *io, int fd)
{
    struct io_uring_sqe *e = io_uring_get_sqe(&u->ring);

    if (!e) {
        uring_kick(u);
        e = io_uring_get_sqe(&u->ring);
        if (!e) { /* the kernel takes none now: a thread does it */
            file_io_completed(io, -EAGAIN);
            return;
        }
    }
    switch (io->op) {
    case FILE_READ:
        if (io->nat == 1)
            io_uring_prep_read(e, fd, io->at->iov_base, (u32)MIN(io->len, GiB(1)), io->offset);
        else
            io_uring_prep_readv(e, fd, io->at, io->nat, io->offset);
        break;
    case FILE_WRITE:
        if (io->nat == 1)
            io_uring_prep_write(e, fd, io->at->iov_base, (u32)MIN(io->len, GiB(1)), io->offset);
        else
            io_uring_prep_writev(e, fd, io->at, io->nat, io->offset);
        break;
    case FILE_FLUSH:
        io_uring_prep_fsync(e, fd, IORING_FSYNC_DATASYNC);
        break;
    case FILE_DISCARD:
    case FILE_ZERO_UNMAP:
        io_uring_prep_fallocate(e, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset, (off_t)io->len);
        break;
    case FILE_ZERO:
        io_uring_prep_fallocate(e, fd, FALLOC_FL_ZERO_RANGE, (off_t)io->offset, (off_t)io->len);
        break;
    default:
        io_uring_prep_fallocate(e, fd, 0, (off_t)io->offset, (off_t)io->len);
        break;
    }
    if (io->op == FILE_READ && io->len >= LARGE_READ)
        io_uring_sqe_set_flags(e, IOSQE_ASYNC);
    io_uring_sqe_set_data(e, io);
}

bool uring_ended(struct uring *u)
{
    return io_uring_cq_ready(&u->ring) || (IO_URING_READ_ONCE(*u->ring.sq.kflags) & IORING_SQ_TASKRUN);
}

bool uring_reap(struct uring *u)
{
    struct io_uring_cqe *c;

    if (io_uring_peek_cqe(&u->ring, &c))
        return false;
    struct file_io *io = io_uring_cqe_get_data(c);
    int result = c->res;
    io_uring_cqe_seen(&u->ring, c);
    file_io_completed(io, result);
    return true;
}
