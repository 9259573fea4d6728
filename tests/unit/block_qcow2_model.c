/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_qcow2_model.c - random use of qcow2 images against a model, on a simulated disk whose power is cut.
 *
 * The qcow2 driver is real; the file below it, the worker threads and the backing file are this file's (it defines the
 * functions of internal.h, so that file.c and aio.c are not linked). One thread: workers are coroutines that change over
 * at each access to the file and at each lock, in an order that the seed gives. A case: an image made by us or by
 * qemu-img; requests, many in flight, snapshots, resizes; the power cut at some access, when of what was written since
 * the last flush any sectors may be there; then the image is opened again. It must be free of errors (leaks are allowed
 * before a repair), hold what was flushed, and elsewhere what was written since. qemu-img judges a part of the images.
 *
 *   LODGE_TEST_SECONDS=600 goes on for that long; LODGE_TEST_SEED=N repeats the case N that a failure names.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"
#include "block/internal.h"

enum { SECTOR = 512, DISK_MAX = 4 << 20, SECTORS = DISK_MAX / SECTOR, FILE_MAX = 40 << 20, WRITES = 12, SNAPSHOTS = 4,
       FLIGHT = 12, CASES = 1500, STACK = 256 * 1024, COROUTINES = 16, BASE_TAG = 0x40000000 };

static u64 rng_state;
static u64 case_seed;
static char dir[] = "/dev/shm/lodge-qcow2-XXXXXX";
static bool have_qemu;
static u64 judged;

static u64 rng(void)
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return rng_state * 0x2545f4914f6cdd1dull >> 8;
}

static u64 below(u64 n)
{
    return n ? rng() % n : 0;
}

static bool one_in(u64 n)
{
    return !below(n);
}

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nLODGE_TEST_SEED=%llu repeats it; images are in %s\n", (unsigned long long)case_seed, dir);
    exit(1);
}

/* ---- the simulated disk ---- */

struct record {
    enum file_op op;
    u64 offset, len;
    u8 *data;
};

struct file {
    u8 *now, *stable; /* as the system sees it; as it is after a power cut, at least */
    u64 size, stable_size;
    struct record *since; /* the last flush */
    u32 nsince, room;
    u64 accesses, cut_at; /* 0: never */
    u32 flushes_to_cut;   /* then soon after: where an order is most likely to matter; 0: never */
    bool cut;
    u32 full; /* one in so many writes fails with ENOSPC; 0: none */
};

/* Room for a file. meson has malloc() fill what it gives (MALLOC_PERTURB_), which for so much is slow. */
static u8 *room(void)
{
    u8 *p = mmap(NULL, FILE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("no memory");
    return p;
}

static struct file *disk_new(void)
{
    struct file *f = calloc(1, sizeof(*f));
    f->now = room();
    f->stable = room();
    return f;
}

static void forget_records(struct file *f)
{
    for (u32 i = 0; i < f->nsince; i++)
        free(f->since[i].data);
    f->nsince = 0;
}

static void disk_free(struct file *f)
{
    forget_records(f);
    free(f->since);
    munmap(f->now, FILE_MAX);
    munmap(f->stable, FILE_MAX);
    free(f);
}

static void disk_load(struct file *f, const u8 *data, u64 size)
{
    forget_records(f);
    memset(f->now, 0, f->size);
    memset(f->stable, 0, f->stable_size);
    memcpy(f->now, data, size);
    memcpy(f->stable, data, size);
    f->size = f->stable_size = size;
    f->cut = false;
    f->accesses = f->cut_at = 0;
    f->full = f->flushes_to_cut = 0;
}

static void yield(void);

/* 0, or why not. */
static int access_disk(struct file *f, bool changes)
{
    yield();
    f->accesses++;
    if (f->cut_at && f->accesses >= f->cut_at)
        f->cut = true;
    if (f->cut)
        return -EIO;
    return changes && f->full && one_in(f->full) ? -ENOSPC : 0;
}

static void note(struct file *f, enum file_op op, u64 offset, u64 len, const void *data)
{
    if (f->nsince == f->room) {
        f->room = f->room ? f->room * 2 : 64;
        f->since = realloc(f->since, f->room * sizeof(*f->since));
    }
    struct record *r = &f->since[f->nsince++];
    *r = (struct record){ op, offset, len, NULL };
    if (data) {
        r->data = malloc(len);
        memcpy(r->data, data, len);
    }
}

static void put(struct file *f, u64 offset, const void *data, u64 len)
{
    if (offset + len > FILE_MAX)
        die("the file grows to %llu bytes", (unsigned long long)(offset + len));
    memcpy(f->now + offset, data, len);
    note(f, FILE_WRITE, offset, len, data);
    f->size = MAX(f->size, offset + len);
}

int file_preadv(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    int r = access_disk(f, false);
    u64 done = 0;
    for (u32 i = 0; !r && i < niov; done += iov[i++].iov_len)
        for (u64 k = 0; k < iov[i].iov_len;) {
            u64 at = offset + done + k, there = at < f->size ? MIN(f->size - at, iov[i].iov_len - k) : 0;
            if (there)
                memcpy((u8 *)iov[i].iov_base + k, f->now + at, there);
            else
                memset((u8 *)iov[i].iov_base + k, 0, there = iov[i].iov_len - k);
            k += there;
        }
    if (!r && done != len)
        die("a read of %llu bytes into %llu", (unsigned long long)len, (unsigned long long)done);
    return r;
}

int file_pwritev(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    int r = access_disk(f, true);
    u64 done = 0, most = len;
    if (r == -ENOSPC)
        most = below(len / SECTOR + 1) * SECTOR; /* some of it was written */
    u8 *all = malloc(len);
    for (u32 i = 0; i < niov; done += iov[i++].iov_len)
        memcpy(all + done, iov[i].iov_base, done + iov[i].iov_len <= len ? iov[i].iov_len : 0);
    if (done != len)
        die("a write of %llu bytes from %llu", (unsigned long long)len, (unsigned long long)done);
    if (!r || r == -ENOSPC)
        put(f, offset, all, most);
    free(all);
    return r;
}

int file_pread(struct file *f, u64 offset, void *buf, u64 len)
{
    return file_preadv(f, offset, &(struct iovec){ buf, len }, 1, len);
}

int file_pwrite(struct file *f, u64 offset, const void *buf, u64 len)
{
    return file_pwritev(f, offset, &(struct iovec){ (void *)(uintptr_t)buf, len }, 1, len);
}

int file_flush(struct file *f)
{
    int r = access_disk(f, false);
    if (r)
        return r;
    for (u32 i = 0; i < f->nsince; i++) {
        struct record *w = &f->since[i];
        if (w->op != FILE_TRUNCATE)
            memcpy(f->stable + w->offset, f->now + w->offset, w->len);
    }
    f->stable_size = f->size;
    forget_records(f);
    if (f->flushes_to_cut && !--f->flushes_to_cut)
        f->cut_at = f->accesses + 1 + below(8);
    return 0;
}

int file_do(struct file *f, enum file_op op, u64 offset, u64 len)
{
    int r = access_disk(f, true);
    if (r)
        return r;
    if (op == FILE_ALLOCATE) {
        f->size = MAX(f->size, offset + len);
        note(f, FILE_TRUNCATE, f->size, 0, NULL);
        return 0;
    }
    if (op != FILE_DISCARD)
        die("file_do %d", op);
    len = offset < f->size ? MIN(len, f->size - offset) : 0;
    memset(f->now + offset, 0, len);
    note(f, FILE_DISCARD, offset, len, NULL);
    return 0;
}

int file_truncate(struct file *f, u64 size)
{
    int r = access_disk(f, true);
    if (r)
        return r;
    if (size < f->size || size > FILE_MAX)
        die("the file is cut to %llu bytes", (unsigned long long)size);
    f->size = size;
    note(f, FILE_TRUNCATE, size, 0, NULL);
    return 0;
}

u64 file_size(struct file *f) { return f->size; }
u64 file_allocated(struct file *f) { return f->size; }
bool file_is_device(const struct file *f) { return false; }
void file_buffer_all(struct file *f) {}
const char *file_path(const struct file *f) { return "simulated"; }

/* Pieces of 4 KiB that are all zero are holes. */
int file_map(struct file *f, u64 offset, u64 *len, bool *data)
{
    static const u8 zeroes[4096];
    u64 end = MIN(offset + *len, f->size), at = offset;

    *data = false;
    for (u64 n; at < end; at += n) {
        n = MIN(4096 - at % 4096, end - at);
        const bool is = memcmp(f->now + at, zeroes, n) != 0;
        if (at == offset)
            *data = is;
        else if (is != *data)
            break;
    }
    if (at < end || *data)
        *len = at - offset;
    return 0;
}

/* What a power cut leaves, into data; its length. */
static u64 after_cut(const struct file *f, u8 *data)
{
    u64 size = f->stable_size, mode = below(7), whole = below(f->nsince + 1);

    memcpy(data, f->stable, MAX(f->stable_size, f->size));
    memset(data + f->stable_size, 0, f->size > f->stable_size ? f->size - f->stable_size : 0);
    for (u32 i = 0; i < f->nsince; i++) {
        const struct record *w = &f->since[i];
        u64 chance = mode == 0 ? 0 : mode == 1 ? 100 : mode == 2 ? (i < whole) * 100 : mode == 3 ? one_in(2) * 100
                     : mode == 4 ? 50 : mode == 5 ? !one_in(10) * 100 : (i + 4 >= f->nsince) * 100;
        if (mode == 2 && i == whole)
            chance = 50; /* torn */
        if (w->op == FILE_TRUNCATE && below(100) < chance)
            size = MAX(size, w->offset);
        for (u64 at = w->offset, n; at < w->offset + w->len; at += n) {
            n = MIN(SECTOR - at % SECTOR, w->offset + w->len - at);
            if (below(100) >= chance)
                continue;
            if (w->data)
                memcpy(data + at, w->data + (at - w->offset), n);
            else
                memset(data + at, 0, n);
            size = MAX(size, at + n);
        }
    }
    return size;
}

/* ---- coroutines and completions ---- */

struct coroutine {
    ucontext_t at;
    struct aio_work *work; /* NULL: free */
    bool over;
    u8 *stack;
};
static struct coroutine coroutines[COROUTINES], *current;
static ucontext_t main_at;
static struct aio_work *works[1024];
static u32 nworks;
static struct file_io *ios[4096];
static u32 nios;
static struct {
    struct block_request *rq;
    int result;
} dones[1024];
static u32 ndones, within; /* within submit: done() waits */

static void yield(void)
{
    if (current && !one_in(3))
        swapcontext(&current->at, &main_at);
}

/* In place of the C library's: a coroutine that must wait lets others run. */
int pthread_mutex_lock(pthread_mutex_t *m)
{
    while (pthread_mutex_trylock(m)) {
        if (!current)
            die("the loop thread waits for a lock");
        swapcontext(&current->at, &main_at);
    }
    return 0;
}

static void coroutine_main(void)
{
    struct coroutine *c = current;
    c->work->run(c->work);
    c->over = true;
    swapcontext(&c->at, &main_at);
}

void aio_work(struct aio *aio, struct aio_work *w) { works[nworks++] = w; }
void aio_kick(struct aio *aio) {}
void aio_wait(struct aio *aio) { abort(); }

void file_submit(struct file *f, struct file_io *io)
{
    io->file = f;
    ios[nios++] = io;
}

static void request_over(struct block_request *rq, int result)
{
    rq->done(rq, result);
}

void block_done(struct block_request *rq, int result)
{
    if (!within) {
        request_over(rq, result);
        return;
    }
    dones[ndones].rq = rq;
    dones[ndones++].result = result;
}

static int padded_read(struct block *b, u64 offset, const struct iovec *iov, u32 niov)
{
    int r = 0;
    for (u32 i = 0; !r && i < niov; offset += iov[i++].iov_len)
        r = block_read_now(b, offset, iov[i].iov_base, iov[i].iov_len);
    return r;
}

int block_read_now(struct block *b, u64 offset, void *buf, u64 len)
{
    u64 there = offset < b->size ? MIN(len, b->size - offset) : 0;
    memset((u8 *)buf + there, 0, len - there);
    return there ? b->driver->read(b, offset, buf, there) : 0;
}

/* The backing file is never written, so when it is read does not matter. */
void block_submit_pad(struct block *b, struct block_request *rq)
{
    dones[ndones].rq = rq;
    dones[ndones++].result = padded_read(b, rq->offset, rq->iov, rq->niov);
}

/* One step of something that is under way; false: nothing is. */
static bool step(void)
{
    u32 running = 0, pick;
    for (u32 i = 0; i < COROUTINES; i++)
        running += coroutines[i].work != NULL;
    u32 start = nworks && running < COROUTINES;
    if (!(running + start + nios + ndones))
        return false;
    pick = (u32)below(running + start + nios + ndones);
    if (pick < running) {
        struct coroutine *c = coroutines;
        for (;; c++)
            if (c->work && !pick--)
                break;
        if (!c->over) {
            current = c;
            swapcontext(&main_at, &c->at);
            current = NULL;
        }
        if (c->over && one_in(2)) {
            struct aio_work *w = c->work;
            c->work = NULL;
            w->done(w);
        }
    } else if (pick < running + start) {
        struct coroutine *c = coroutines;
        while (c->work)
            c++;
        u32 i = (u32)below(nworks);
        c->work = works[i];
        works[i] = works[--nworks];
        c->over = false;
        if (!c->stack)
            c->stack = malloc(STACK);
        getcontext(&c->at);
        c->at.uc_stack.ss_sp = c->stack;
        c->at.uc_stack.ss_size = STACK;
        makecontext(&c->at, coroutine_main, 0);
    } else if (pick < running + start + nios) {
        u32 i = (u32)below(nios);
        struct file_io *io = ios[i];
        ios[i] = ios[--nios];
        int r = io->op == FILE_READ ? file_preadv(io->file, io->offset, io->iov, io->niov, io->len)
                                    : file_pwritev(io->file, io->offset, io->iov, io->niov, io->len);
        io->done(io, r);
    } else {
        u32 i = (u32)below(ndones);
        struct block_request *rq = dones[i].rq;
        int r = dones[i].result;
        dones[i] = dones[--ndones];
        request_over(rq, r);
    }
    return true;
}

/* ---- the model: what each sector may hold ---- */

/* A tag names a write; 0 is zeroes. i may be there if no j was begun after i's end and ended before the look. */
struct write {
    u32 tag;
    u64 begun, ended; /* ended ~0: not yet, or it failed */
};
struct sector {
    struct write w[WRITES];
    u32 n;
    bool any; /* too many to remember */
};

static struct sector *model;  /* of the active disk */
static u32 *tags[SNAPSHOTS];  /* of each snapshot */
static u64 tags_size[SNAPSHOTS];
static char snapshot_names[SNAPSHOTS][16];
static u32 nsnapshots, next_name;
static u32 *base_tags; /* of the backing file; all 0 if there is none */
static u64 base_size;
static u64 now, forgotten; /* what a read that began before `forgotten` may see is not known any more */
static u32 next_tag;
static u64 live; /* sectors that the disk ever had */

static void pattern(u8 *p, u32 tag, u64 sector)
{
    u32 *w = (u32 *)(void *)p;
    if (!tag) {
        memset(p, 0, SECTOR);
        return;
    }
    for (u32 i = 0; i < SECTOR / 4; i++)
        w[i] = i == 0 ? tag : i == 1 ? (u32)sector : tag * 0x9e3779b1u + i;
}

/* The tag in a sector; ~0: none. */
static u32 tag_of(const u8 *p, u64 sector)
{
    u8 want[SECTOR];
    u32 tag;
    memcpy(&tag, p, 4);
    pattern(want, tag, sector);
    if (!memcmp(p, want, SECTOR))
        return tag;
    return ~0u;
}

static bool outdated(const struct sector *s, u32 i, u64 look)
{
    for (u32 j = 0; j < s->n; j++)
        if (s->w[j].ended < look && s->w[j].begun > s->w[i].ended)
            return true;
    return false;
}

static bool may_hold(const struct sector *s, u32 tag, u64 look)
{
    for (u32 i = 0; i < s->n; i++)
        if (s->w[i].tag == tag && !outdated(s, i, look))
            return true;
    return s->any;
}

static void add_write(u64 sector, u32 tag, u64 begun)
{
    struct sector *s = &model[sector];
    if (s->n == WRITES)
        s->any = true;
    else
        s->w[s->n++] = (struct write){ tag, begun, ~0ull };
}

static void end_write(u64 sector, u32 tag, u64 begun, u64 at)
{
    struct sector *s = &model[sector];
    for (u32 i = 0; i < s->n; i++)
        if (s->w[i].tag == tag && s->w[i].begun == begun)
            s->w[i].ended = at;
}

/* A flush that began at `look` succeeded: what was outdated then is gone. */
static void flushed(u64 look)
{
    forgotten = MAX(forgotten, look);
    for (u64 i = 0; i < live; i++) {
        struct sector *s = &model[i];
        bool gone[WRITES];
        u32 n = 0;
        for (u32 k = 0; k < s->n; k++)
            gone[k] = outdated(s, k, look);
        for (u32 k = 0; k < s->n; k++)
            if (!gone[k])
                s->w[n++] = s->w[k];
        s->n = n;
    }
}

static void set_sector(u64 sector, u32 tag)
{
    model[sector] = (struct sector){ .w = { { tag, 0, 0 } }, .n = 1 };
}

/* ---- images ---- */

static struct block top, base;
static struct file *disk;
static char base_name[64];
static u32 cluster;
static bool v2;

static int base_read(struct block *b, u64 offset, void *buf, u64 len)
{
    for (u64 done = 0, n; done < len; done += n) {
        u8 sector[SECTOR];
        u64 at = offset + done;
        n = MIN(SECTOR - at % SECTOR, len - done);
        pattern(sector, base_tags[at / SECTOR], at / SECTOR);
        memcpy((u8 *)buf + done, sector + at % SECTOR, n);
    }
    return 0;
}

static const struct block_driver base_driver = { .name = "raw", .read = base_read };

int block_open_backing(struct block *b, const char *name, const char *format, struct error *err)
{
    base = (struct block){ .driver = &base_driver, .size = base_size, .overlay = b, .readonly = true, .path = base_name };
    if (!strstr(name, "base.raw"))
        die("the backing file's name is \"%s\"", name);
    b->backing = &base;
    return 0;
}

/* 0, or why not; the image may be the one after a cut. */
static int open_top(struct error *err)
{
    top = (struct block){ .driver = &block_qcow2, .file = disk, .discard = true, .path = (char *)(uintptr_t)"simulated" };
    snprintf(err->text, sizeof(err->text), "?");
    return block_qcow2.open(&top, err);
}

static void read_sectors(struct block *b, u64 sector, u64 n, u8 *buf)
{
    int r = b->driver->read(b, sector * SECTOR, buf, n * SECTOR);
    if (r && !disk->cut)
        die("reading sector %llu: %s", (unsigned long long)sector, strerror(-r));
}

/* ---- qemu-img ---- */

static int run(const char *const *argv, bool quiet)
{
    extern char **environ;
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int status;

    posix_spawn_file_actions_init(&fa);
    if (quiet) {
        posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
    }
    int r = posix_spawnp(&pid, argv[0], &fa, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (r || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void save(const char *name, const u8 *data, u64 size)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd))
        die("cannot write %s", path);
}

static u64 load(const char *name, u8 *data)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, data, FILE_MAX);
    if (n < 0 || close(fd))
        die("cannot read %s", path);
    return (u64)n;
}

static const char *in_dir(const char *name, char *path)
{
    snprintf(path, 128, "%s/%s", dir, name);
    return path;
}

static u8 *scratch;

/* qemu-img finds no error in the image, and what our driver reads there. */
static void judge(const u8 *image, u64 size, const u8 *content, u64 content_size)
{
    char a[128], b[128];

    save("judged.qcow2", image, size);
    in_dir("judged.qcow2", a);
    bool dirty = image[7] == 3 && image[79] & 1; /* refcounts need not be right then: it may repair them */
    int r = run((const char *[]){ "qemu-img", "check", "-q", dirty ? "-rall" : "-q", a, NULL }, true);
    if (r && r != 3) {
        run((const char *[]){ "qemu-img", "check", a, NULL }, false);
        die("qemu-img check: %d", r);
    }
    judged++;
    if (!content || !one_in(4))
        return;
    save("judged.raw", content, content_size);
    r = run((const char *[]){ "qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", a, in_dir("judged.raw", b), NULL },
            true);
    if (r)
        die("qemu-img compare: %d", r);
}

/* ---- a case: making the image ---- */

static const u32 cluster_sizes[] = { 512, 512, 1024, 2048, 4096, 4096, 16384, 65536 };

static void make_base(void)
{
    base_size = 0;
    memset(base_tags, 0, SECTORS * sizeof(*base_tags));
    base_name[0] = 0;
    if (one_in(2))
        return;
    base_size = (1 + below(SECTORS / 4)) * SECTOR;
    snprintf(base_name, sizeof(base_name), "base.raw");
    for (u64 i = 0; i < base_size / SECTOR; i++)
        base_tags[i] = one_in(4) ? 0 : BASE_TAG + 1;
    for (u64 i = 0; i < base_size / SECTOR; i++)
        pattern(scratch + i * SECTOR, base_tags[i], i);
    save("base.raw", scratch, base_size);
}

/* Content of its own for the new image, in tags; what qemu-img converts. */
static void make_image_by_qemu(u64 size)
{
    char raw[128], out[128], options[128], backing[128];
    static const u32 bits[] = { 1, 2, 4, 8, 16, 32, 64 };
    u32 refcount_bits = v2 ? 16 : bits[below(7)];
    bool compress = one_in(3), zstd = compress && !v2 && cluster >= 4096 && one_in(2);
    const char *args[20] = { "qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-o", options };
    u32 n = 9;

    for (u64 i = 0; i < size / SECTOR; i++) {
        u32 tag = one_in(8) ? BASE_TAG + 2 : 0;
        if (i % (cluster / SECTOR) && one_in(4) == 0)
            tag = tag_of(scratch + (i - 1) * SECTOR, i - 1); /* runs */
        pattern(scratch + i * SECTOR, tag, i);
        set_sector(i, tag);
    }
    save("new.raw", scratch, size);
    snprintf(options, sizeof(options), "cluster_size=%u,compat=%s%s%s", cluster, v2 ? "0.10" : "1.1",
             v2 ? "" : one_in(4) ? ",lazy_refcounts=on" : "", zstd ? ",compression_type=zstd" : "");
    if (!v2)
        snprintf(options + strlen(options), sizeof(options) - strlen(options), ",refcount_bits=%u", refcount_bits);
    if (compress)
        args[n++] = "-c";
    else if (one_in(4) && !base_size)
        snprintf(options + strlen(options), sizeof(options) - strlen(options), ",preallocation=metadata");
    if (base_size) {
        args[n++] = "-B";
        args[n++] = in_dir("base.raw", backing);
        args[n++] = "-F";
        args[n++] = "raw";
    }
    args[n++] = in_dir("new.raw", raw);
    args[n++] = in_dir("new.qcow2", out);
    if (run(args, false))
        die("qemu-img convert -o %s fails", options);
    if (refcount_bits >= (compress ? 16 : 2) && one_in(2)) {
        snprintf(snapshot_names[0], sizeof(snapshot_names[0]), "q");
        if (run((const char *[]){ "qemu-img", "snapshot", "-c", "q", out, NULL }, false))
            die("qemu-img snapshot fails");
        tags[0] = calloc(SECTORS, 4);
        for (u64 i = 0; i < SECTORS; i++)
            tags[0][i] = model[i].w[0].tag;
        tags_size[0] = size;
        nsnapshots = 1;
    }
    disk_load(disk, scratch, load("new.qcow2", scratch));
}

static u64 number(u64 at, u32 bytes)
{
    u64 v = 0;
    while (bytes--)
        v = v << 8 | disk->now[at++];
    return v;
}

/* Our images count in 16 bits; others' need not. Wide counts make many refcount blocks and tables that grow. */
static void change_width(u32 order)
{
    u64 used = disk->size / cluster, block = number(number(48, 8), 8), per_block = (u64)cluster * 8 >> order;

    if (used > MIN(per_block, cluster / 2))
        return; /* more than one block */
    memset(disk->now + block, 0, cluster);
    for (u64 i = 0; i < used; i++)
        disk->now[block + (order > 3 ? ((i + 1) << (order - 3)) - 1 : i << order >> 3)] |=
            order > 2 ? 1 : (u8)(1 << (i % (8u >> order) << order));
    disk->now[99] = (u8)order;
}

static void make_image(void)
{
    u64 size = (1 + below(one_in(4) ? SECTORS : SECTORS / 8)) * SECTOR;
    struct error err;

    cluster = cluster_sizes[below(ARRAY_SIZE(cluster_sizes))];
    v2 = one_in(4);
    live = size / SECTOR;
    nsnapshots = 0;
    now = 1;
    forgotten = 0;
    next_tag = 1;
    make_base();
    for (u64 i = 0; i < SECTORS; i++)
        set_sector(i, i < size / SECTOR && i < base_size / SECTOR ? base_tags[i] : 0);
    disk_load(disk, scratch, 0);
    if (one_in(20) && have_qemu) {
        make_image_by_qemu(size);
        return;
    }
    struct block_create t = { .format = "qcow2", .size = size, .backing = base_size ? "base.raw" : NULL,
                              .backing_format = "raw", .cluster_size = cluster, .v2 = v2,
                              .preallocate = !base_size && one_in(10) };
    if (block_qcow2.create(disk, &t, &err))
        die("create: %s", err.text);
    if (!v2 && one_in(2))
        change_width(one_in(2) ? 6 : (u32)below(7));
    disk_load(disk, memcpy(scratch, disk->now, disk->size), disk->size);
}

/* ---- a case: use ---- */

struct request {
    struct block_request rq;
    struct iovec iov[4];
    u8 *buf;
    u32 tag;
    u64 begun;
    bool busy;
};
static struct request requests[FLIGHT];
static u32 under_way;

static void request_done(struct block_request *rq, int result)
{
    struct request *q = container_of(rq, struct request, rq);
    u64 first = rq->offset / SECTOR, n = rq->op == BLOCK_FLUSH ? 0 : rq->len / SECTOR, end = ++now;

    q->busy = false;
    under_way--;
    if (disk->cut && result)
        return;
    if (result && result != -ENOSPC)
        die("request %d of %llu bytes at %llu: %s", rq->op, (unsigned long long)rq->len, (unsigned long long)rq->offset,
            strerror(-result));
    if (rq->op == BLOCK_FLUSH && !result)
        flushed(q->begun);
    for (u64 i = 0; i < n && !result; i++) {
        if (rq->op == BLOCK_READ) {
            u32 tag = tag_of(q->buf + i * SECTOR, first + i);
            if (!may_hold(&model[first + i], tag, q->begun) && q->begun > forgotten)
                die("sector %llu reads as write %x", (unsigned long long)(first + i), tag);
        } else if (rq->op != BLOCK_DISCARD) {
            end_write(first + i, q->tag, q->begun, end);
        }
    }
}

static void submit(void)
{
    struct request *q = requests;
    u64 sectors = top.size / SECTOR, unit = cluster / SECTOR, kind = below(16), n, at;

    while (q->busy)
        q++;
    n = one_in(8) ? 256 : one_in(3) ? unit * 4 : unit;
    n = 1 + below(MIN(sectors, n));
    at = below(sectors - n + 1);
    if (one_in(3)) { /* whole clusters */
        at -= at % unit;
        n = MIN(sectors - at, align_up(n, unit));
    }
    q->busy = true;
    q->begun = ++now;
    q->tag = 0;
    q->rq = (struct block_request){ .offset = at * SECTOR, .len = n * SECTOR, .done = request_done, .block = &top };
    free(q->buf);
    q->buf = malloc(n * SECTOR);
    if (kind < 8) {
        q->rq.op = BLOCK_WRITE;
        q->tag = next_tag++;
        for (u64 i = 0; i < n; i++)
            pattern(q->buf + i * SECTOR, q->tag, at + i);
    } else if (kind < 11) {
        q->rq.op = BLOCK_READ;
    } else if (kind < 12) {
        q->rq.op = BLOCK_DISCARD;
    } else if (kind < 13) {
        q->rq.op = BLOCK_WRITE_ZEROES;
        q->rq.flags = one_in(2) ? BLOCK_UNMAP : 0;
    } else {
        q->rq.op = BLOCK_FLUSH;
        q->rq.offset = q->rq.len = n = 0;
    }
    if (q->rq.op <= BLOCK_WRITE) {
        u64 done = 0, len = n * SECTOR;
        while (q->rq.niov < 3 && done < len) {
            u64 part = one_in(2) ? len - done : 1 + below(len - done);
            q->iov[q->rq.niov++] = (struct iovec){ q->buf + done, part };
            done += part;
        }
        if (done < len)
            q->iov[q->rq.niov++] = (struct iovec){ q->buf + done, len - done };
        q->rq.iov = q->iov;
    }
    for (u64 i = 0; q->rq.op != BLOCK_READ && q->rq.op != BLOCK_DISCARD && i < n; i++)
        add_write(at + i, q->tag, q->begun);
    for (u64 i = 0; q->rq.op == BLOCK_DISCARD && i < n; i++) { /* as before, or zeroes */
        add_write(at + i, 0, q->begun);
    }
    under_way++;
    within++;
    block_qcow2.submit(&top, &q->rq);
    within--;
}

static void drain(void)
{
    while (under_way)
        if (!step())
            die("requests are under way, but nothing happens");
}

/* What is there is what is; nothing is under way. */
static void settle(u64 size)
{
    read_sectors(&top, 0, size / SECTOR, scratch);
    for (u64 i = 0; i < size / SECTOR && !disk->cut; i++) {
        u32 tag = tag_of(scratch + i * SECTOR, i);
        if (!may_hold(&model[i], tag, now + 1))
            die("sector %llu reads as write %x", (unsigned long long)i, tag);
        set_sector(i, tag);
    }
}

static void flush_now(void)
{
    struct request *q = requests;
    q->busy = true;
    q->begun = ++now;
    q->rq = (struct block_request){ .op = BLOCK_FLUSH, .done = request_done, .block = &top };
    under_way++;
    within++;
    block_qcow2.submit(&top, &q->rq);
    within--;
    drain();
}

static void add_snapshot(const char *name)
{
    snprintf(snapshot_names[nsnapshots], sizeof(snapshot_names[0]), "%s", name);
    tags[nsnapshots] = calloc(SECTORS, 4);
    tags_size[nsnapshots] = top.size;
    for (u64 i = 0; i < top.size / SECTOR; i++)
        tags[nsnapshots][i] = model[i].w[0].tag;
    nsnapshots++;
}

/* What an operation on the whole image, that the power cut, may have left; NULL: it had done nothing yet. */
static struct unfinished {
    bool is;
    int kind;
    u32 snapshot;
    u64 size;
    char name[16];
} unfinished;

enum { TAKE, APPLY, DELETE, RESIZE, RENAME, EMPTY, KINDS };

static void finish_kind(const struct unfinished *u)
{
    u32 s = u->snapshot;

    switch (u->kind) {
    case TAKE:
        add_snapshot(u->name);
        break;
    case APPLY:
        for (u64 i = 0; i < SECTORS; i++)
            set_sector(i, i < tags_size[s] / SECTOR ? tags[s][i] : 0);
        break;
    case DELETE:
        free(tags[s]);
        nsnapshots--;
        tags[s] = tags[nsnapshots], tags_size[s] = tags_size[nsnapshots];
        memcpy(snapshot_names[s], snapshot_names[nsnapshots], sizeof(snapshot_names[0]));
        break;
    case RESIZE:
        live = MAX(live, u->size / SECTOR);
        for (u64 i = u->size / SECTOR; i < SECTORS; i++)
            set_sector(i, 0);
        break;
    case EMPTY:
        for (u64 i = 0; i < top.size / SECTOR; i++)
            set_sector(i, i < base_size / SECTOR ? base_tags[i] : 0);
        break;
    }
}

/* One operation on the whole image. */
static void whole(void)
{
    struct unfinished u = { .kind = (int)below(KINDS) };
    struct error err = { "" };
    int r = 0;

    drain();
    if (disk->cut)
        return;
    disk->full = 0;
    flush_now();
    if (disk->cut)
        return;
    settle(top.size);
    if (disk->cut)
        return;
    if ((u.kind == APPLY || u.kind == DELETE) && !nsnapshots)
        u.kind = TAKE;
    if (u.kind == TAKE && nsnapshots == SNAPSHOTS)
        u.kind = DELETE;
    if (u.kind == RESIZE && v2 && nsnapshots)
        return;
    u.snapshot = (u32)below(nsnapshots);
    u.is = true;
    unfinished = u;
    switch (u.kind) {
    case TAKE:
        snprintf(unfinished.name, sizeof(unfinished.name), "s%u", next_name++);
        r = block_qcow2.snapshot(&top, BLOCK_SNAPSHOT_CREATE, unfinished.name, &err);
        if (r == -ERANGE) { /* refcounts of one bit */
            unfinished.is = false;
            return;
        }
        break;
    case APPLY:
    case DELETE:
        r = block_qcow2.snapshot(&top, u.kind == APPLY ? BLOCK_SNAPSHOT_APPLY : BLOCK_SNAPSHOT_DELETE,
                                 snapshot_names[u.snapshot], &err);
        if (r == -ERANGE) {
            unfinished.is = false;
            return;
        }
        break;
    case RESIZE:
        unfinished.size = (1 + below(one_in(2) ? SECTORS : top.size / SECTOR + 200)) * SECTOR;
        unfinished.size = MIN(unfinished.size, DISK_MAX);
        r = block_qcow2.resize(&top, unfinished.size, &err);
        break;
    case RENAME:
        if (base_size) {
            char name[400] = "";
            for (u64 i = below(cluster > 512 ? 180 : 20); i; i--)
                strcat(name, "./");
            strcat(name, "base.raw");
            r = block_qcow2.set_backing(&top, name, one_in(4) ? NULL : "raw", &err);
            if (r == -ENOSPC && cluster == 512)
                r = 0;
        }
        break;
    case EMPTY:
        r = block_qcow2.make_empty(&top, &err);
        break;
    }
    if (r && !disk->cut)
        die("operation %d: %s", u.kind, err.text);
    if (r)
        return;
    finish_kind(&unfinished);
    unfinished.is = false;
}

/* ---- a case: after the power cut, or the end ---- */

static u64 wrong_sector(const u8 *content, u64 size, u64 look)
{
    for (u64 i = 0; i < size / SECTOR; i++)
        if (!may_hold(&model[i], tag_of(content + i * SECTOR, i), look))
            return i;
    return ~0ull;
}

static void check_image(enum block_repair repair, bool leaks)
{
    struct block_check c = { 0 };
    struct error err;
    int r = block_qcow2.check(&top, repair, &c, &err);
    if (r || c.errors || (c.leaks && !leaks))
        die("check: %s, %llu errors, %llu leaks", r ? err.text : "done", (unsigned long long)c.errors,
            (unsigned long long)c.leaks);
}

/* The snapshots are those of the model, with their content. Changes the image. */
static void check_snapshots(void)
{
    struct error err;
    for (u32 s = 0; s < nsnapshots; s++) {
        int r = block_qcow2.snapshot(&top, BLOCK_SNAPSHOT_APPLY, snapshot_names[s], &err);
        if (r == -ERANGE)
            continue;
        if (r || top.size != tags_size[s])
            die("snapshot %s: %s", snapshot_names[s], r ? err.text : "another size");
        read_sectors(&top, 0, top.size / SECTOR, scratch);
        for (u64 i = 0; i < top.size / SECTOR; i++)
            if (tag_of(scratch + i * SECTOR, i) != tags[s][i])
                die("snapshot %s: sector %llu reads as write %x, not %x", snapshot_names[s], (unsigned long long)i,
                    tag_of(scratch + i * SECTOR, i), tags[s][i]);
    }
    check_image(BLOCK_REPAIR_NONE, true);
}

/* An operation that the power cut happened as a whole or not at all. */
static void decide(const u8 *content)
{
    struct block_info info = { 0 };
    struct error err;

    if (block_qcow2.info(&top, &info, &err))
        die("info: %s", err.text);
    u32 n = info.nsnapshots;
    free(info.snapshots);
    if (unfinished.is) {
        bool happened;
        switch (unfinished.kind) {
        case TAKE:
        case DELETE:
            happened = n != nsnapshots;
            break;
        case RESIZE:
            happened = top.size == unfinished.size;
            break;
        default:
            happened = wrong_sector(content, top.size, 0) != ~0ull;
        }
        if (happened)
            finish_kind(&unfinished);
    }
    unfinished.is = false;
    if (n != nsnapshots)
        die("%u snapshots, not %u", n, nsnapshots);
}

static u8 *content, *crashed, *kept;

/* disk holds an image that is not in use. */
static void check_closed(bool last, bool leaks)
{
    struct error err;
    u64 length = disk->size;

    memcpy(crashed, disk->now, length);
    if (open_top(&err))
        die("the image cannot be opened: %s", err.text);
    check_image(BLOCK_REPAIR_NONE, leaks);
    read_sectors(&top, 0, top.size / SECTOR, content);
    decide(content);
    u64 wrong = wrong_sector(content, top.size, 0);
    if (wrong != ~0ull)
        die("sector %llu reads as write %x", (unsigned long long)wrong, tag_of(content + wrong * SECTOR, wrong));
    if (one_in(12) && have_qemu)
        judge(crashed, length, content, top.size);
    if (last) {
        check_snapshots();
        check_image(BLOCK_REPAIR_LEAKS, false);
    } else {
        for (u64 i = 0; i < SECTORS; i++)
            set_sector(i, i < top.size / SECTOR ? tag_of(content + i * SECTOR, i) : 0);
    }
    if (block_qcow2.close(&top, &err))
        die("close: %s", err.text);
    if (last && one_in(24) && have_qemu)
        judge(disk->now, disk->size, NULL, 0);
}

/* The refcounts are not kept up, as the dirty bit says. */
static void make_dirty(void)
{
    if (v2 || memcmp(disk->now, "QFI", 3))
        return;
    u64 block = number(number(48, 8), 8);
    memset(disk->now + block, one_in(2) ? 0 : 0xff, cluster);
    disk->now[79] |= 1;
    disk_load(disk, memcpy(scratch, disk->now, disk->size), disk->size);
}

/* Did the power go? */
static bool generation(void)
{
    struct error err;
    u64 steps = 20 + below(one_in(4) ? 1500 : 300);

    disk->accesses = disk->cut_at = 0;
    disk->flushes_to_cut = 0;
    if (one_in(2))
        disk->flushes_to_cut = 1 + (u32)below(one_in(2) ? 5 : 30);
    else if (!one_in(4))
        disk->cut_at = 1 + below(one_in(3) ? 30 : 500);
    int r = open_top(&err);
    if (r && !disk->cut)
        die("the image cannot be opened: %s", err.text);
    if (!r) {
        disk->full = one_in(4) ? 3 + (u32)below(40) : 0;
        for (u64 i = 0; i < steps && !disk->cut; i++) {
            if (under_way < FLIGHT && one_in(6))
                submit();
            else if (one_in(150))
                whole();
            else
                step();
        }
        drain();
        disk->full = 0;
        r = block_qcow2.close(&top, &err);
        if (r && !disk->cut)
            die("close: %s", err.text);
        if (!r && !disk->cut)
            flushed(now + 1);
    }
    u64 length = after_cut(disk, kept);
    if (disk->cut && one_in(2)) {
        /* Another outcome of the same cut, looked at only. */
        struct sector *saved = malloc(SECTORS * sizeof(*saved));
        struct unfinished u = unfinished;
        struct file *other = disk_new(), *mine = disk;
        if (!u.is) {
            memcpy(saved, model, live * sizeof(*saved));
            disk = other;
            disk_load(disk, scratch, after_cut(mine, scratch));
            check_closed(false, true);
            disk = mine;
            memcpy(model, saved, live * sizeof(*saved));
        }
        disk_free(other);
        free(saved);
    }
    bool cut = disk->cut;
    if (cut)
        disk_load(disk, kept, length);
    else
        disk_load(disk, memcpy(scratch, disk->now, disk->size), disk->size);
    return cut;
}

static void one_case(u64 seed)
{
    case_seed = seed;
    rng_state = (seed + 1) * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < 8; i++)
        rng();
    bool leaks = false; /* only a power cut may leave any */
    unfinished.is = false;
    make_image();
    for (u64 n = 1 + below(3); n; n--) {
        if (one_in(10))
            make_dirty();
        leaks |= generation();
        check_closed(n == 1, leaks);
    }
    for (u32 s = 0; s < nsnapshots; s++)
        free(tags[s]);
    nsnapshots = 0;
}

int main(void)
{
    const char *seconds = getenv("LODGE_TEST_SECONDS"), *seed = getenv("LODGE_TEST_SEED");
    time_t end = time(NULL) + (seconds ? atol(seconds) : 0);
    u64 cases = 0, first = seed ? strtoull(seed, NULL, 0) : seconds ? (u64)time(NULL) << 20 : 1;

#ifdef __SANITIZE_THREAD__
    printf("coroutines are more than the thread sanitizer understands\n");
    return TEST_SKIP;
#endif
    if (!mkdtemp(dir))
        die("no directory in /dev/shm");
    log_set_level(LOG_ERROR);
    model = calloc(SECTORS, sizeof(*model));
    base_tags = calloc(SECTORS, sizeof(*base_tags));
    scratch = room();
    content = room();
    crashed = room();
    kept = room();
    disk = disk_new();
    have_qemu = !run((const char *[]){ "qemu-img", "--version", NULL }, true);
    if (!have_qemu)
        printf("qemu-img is not here: its judgement is left out\n");
    do {
        one_case(first + cases++);
    } while (seed ? false : seconds ? time(NULL) < end : cases < CASES);
    printf("%llu cases, %llu images judged by qemu-img\n", (unsigned long long)cases, (unsigned long long)judged);
    run((const char *[]){ "rm", "-rf", dir, NULL }, true);
    return 0;
}
