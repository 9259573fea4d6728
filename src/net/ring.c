/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - the rings. Memory order: an index is stored with release and read with acquire. So a record's bytes are
 * there before the record is seen, and they are read before its place is used again. One side says that it sleeps and
 * then looks once more. The other side puts a record in and then looks whether the first sleeps. These two belong
 * together: both sides have a full barrier between their two steps.
 */
#include "net/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/frame.h"

enum { CONTROL = 4096, MAX_PACKET = NET_HDR + NET_MAX_FRAME };

_Static_assert(sizeof(struct link_shared) <= CONTROL, "one page");

static u32 get(const u32 *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void set(u32 *p, u32 v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static void barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int map_ring(struct ring *r, struct ring_shared *shared, int memfd, off_t at, u32 size)
{
    u8 *p = mmap(NULL, 2 * (size_t)size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return -errno;
    *r = (struct ring){ shared, p, size };
    for (u32 half = 0; half < 2; half++)
        if (mmap(p + half * (size_t)size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, at) ==
            MAP_FAILED)
            return -errno;
    return 0;
}

static int map(struct link *l, bool vm, u32 down)
{
    l->shared = mmap(NULL, CONTROL, PROT_READ | PROT_WRITE, MAP_SHARED, l->memfd, 0);
    if (l->shared == MAP_FAILED) {
        l->shared = NULL;
        return -errno;
    }
    int r = map_ring(vm ? &l->out : &l->in, &l->shared->up, l->memfd, CONTROL, RING_SIZE);
    return r ? r : map_ring(vm ? &l->in : &l->out, &l->shared->down, l->memfd, CONTROL + RING_SIZE, down);
}

int link_create(struct link *l, u32 down)
{
    *l = (struct link){ .memfd = -1, .bell_in = -1, .bell_out = -1 };
    l->memfd = memfd_create("lodge-net", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    l->bell_in = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->bell_out = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = l->memfd < 0 || l->bell_in < 0 || l->bell_out < 0 ||
                    ftruncate(l->memfd, CONTROL + RING_SIZE + (off_t)down) ||
                    fcntl(l->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
                ? -errno
                : map(l, false, down);
    if (r) {
        link_close(l);
        return r;
    }
    l->shared->up.sleeps = l->shared->down.sleeps = 1; /* until somebody looks at the ring */
    return 0;
}

int link_attach(struct link *l, const int fds[3])
{
    struct stat st;

    *l = (struct link){ .memfd = fds[0], .bell_in = fds[1], .bell_out = fds[2] };
    /* Without the seals the peer could take the memory away while we use it: SIGBUS. */
    int seals = fcntl(l->memfd, F_GET_SEALS), r = -EPROTO;
    if (seals >= 0 && (seals & F_SEAL_SHRINK) && !fstat(l->memfd, &st)) {
        const off_t down = st.st_size - CONTROL - RING_SIZE;
        if (down >= RING_SIZE && down <= RING_MAX_DOWN && !(down & (down - 1)))
            r = map(l, true, (u32)down);
    }
    if (r)
        link_close(l);
    return r;
}

void link_close(struct link *l)
{
    if (l->shared)
        munmap(l->shared, CONTROL);
    if (l->in.data)
        munmap(l->in.data, 2 * (size_t)l->in.size);
    if (l->out.data)
        munmap(l->out.data, 2 * (size_t)l->out.size);
    for (int *fd = (int[]){ l->memfd, l->bell_in, l->bell_out }, i = 0; i < 3; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    *l = (struct link){ .memfd = -1, .bell_in = -1, .bell_out = -1, .broken = true };
}

void link_fds(const struct link *l, int fds[3])
{
    fds[0] = l->memfd;
    fds[1] = l->bell_out;
    fds[2] = l->bell_in;
}

static u32 record(u32 len)
{
    return (u32)align_up(RING_RECORD + len, 8);
}

u32 link_free(struct link *l)
{
    u32 used;

    if (l->broken)
        return 0;
    used = l->out.own - get(&l->out.shared->tail);
    if (used > l->out.size) {
        l->broken = true;
        return 0;
    }
    return l->out.size - used;
}

u8 *link_room(struct link *l, u32 len)
{
    if (record(len) > link_free(l))
        return NULL;
    return l->out.data + l->out.own % l->out.size + RING_RECORD;
}

void link_put(struct link *l, u32 len)
{
    u64 *at = (u64 *)(void *)(l->out.data + l->out.own % l->out.size);

    *at = len;
    l->out.own += record(len);
    set(&l->out.shared->head, l->out.own);
    l->news = true;
}

bool link_wait_room(struct link *l, u32 len)
{
    if (l->broken)
        return true;
    set(&l->out.shared->wants_room, 1);
    barrier();
    if (record(len) > link_free(l))
        return true;
    set(&l->out.shared->wants_room, 0);
    return false;
}

const u8 *link_next(struct link *l, u32 *len)
{
    struct ring *r = &l->in;

    if (l->broken)
        return NULL;
    const u32 have = get(&r->shared->head) - r->own;
    if (!have)
        return NULL;
    const u8 *at = r->data + r->own % r->size;
    const u32 n = get((const u32 *)(const void *)at);
    if (have > r->size || have < RING_RECORD || have % 8 || n < NET_HDR || n > MAX_PACKET || record(n) > have) {
        l->broken = true;
        return NULL;
    }
    *len = r->length = n;
    return at + RING_RECORD;
}

void link_pop(struct link *l)
{
    l->in.own += record(l->in.length);
    set(&l->in.shared->tail, l->in.own);
}

bool link_wait(struct link *l)
{
    if (l->broken)
        return true;
    set(&l->in.shared->sleeps, 1);
    barrier();
    if (get(&l->in.shared->head) == l->in.own)
        return true;
    set(&l->in.shared->sleeps, 0);
    return false;
}

void link_kick(struct link *l)
{
    bool ring = false;
    const u64 one = 1;

    if (l->broken)
        return;
    barrier();
    if (l->news && get(&l->out.shared->sleeps)) {
        set(&l->out.shared->sleeps, 0);
        ring = true;
    }
    l->news = false;
    if (get(&l->in.shared->wants_room) && get(&l->in.shared->head) - l->in.own <= l->in.size / 2) {
        set(&l->in.shared->wants_room, 0);
        ring = true;
    }
    if (ring) {
        ssize_t n = write(l->bell_out, &one, sizeof(one));
        (void)n; /* the eventfd is full: it rings already */
        l->syscalls++;
    }
}
