/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_qcow2.c - damaged and hostile images: looked at, checked, used, changed and repaired. No crash, no endless work,
 * no unbounded memory; a repair that says it succeeded leaves nothing to repair.
 *
 * An input is a script of PATCHES changes that know the format (offsets of tables, edges), and an image. The file below
 * the driver is memory (the functions of internal.h are here, not file.c's).
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/log.h"
#include "block/qcow2.h"

enum { PATCHES = 8, PATCH = 4, SCRIPT = PATCHES * PATCH + 4, FILE_MOST = 6 << 20, IMAGE_MOST = 60 * 1024 };

struct file {
    u8 *data;
    u64 size, used; /* used: how far data is not zero */
};

static struct file file;
static struct aio_work *works[64];
static struct file_io *ios[256];
static u32 nworks, nios;

int file_preadv(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    for (u32 i = 0; i < niov; offset += iov[i++].iov_len) {
        u64 there = offset < f->size ? MIN(f->size - offset, iov[i].iov_len) : 0;
        if (there)
            memcpy(iov[i].iov_base, f->data + offset, there);
        memset((u8 *)iov[i].iov_base + there, 0, iov[i].iov_len - there);
    }
    return 0;
}

int file_pwritev(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    if (offset > FILE_MOST || len > FILE_MOST - offset)
        return -ENOSPC;
    for (u32 i = 0; i < niov; offset += iov[i++].iov_len)
        memcpy(f->data + offset, iov[i].iov_base, iov[i].iov_len);
    f->size = MAX(f->size, offset);
    f->used = MAX(f->used, offset);
    return 0;
}

int file_pread(struct file *f, u64 offset, void *buf, u64 len)
{
    return file_preadv(f, offset, &(struct iovec){ buf, len }, 1, len);
}

int file_pwrite(struct file *f, u64 offset, const void *buf, u64 len)
{
    return file_pwritev(f, offset, &(struct iovec){ (void *)(uintptr_t)buf, len }, 1, len);
}

int file_truncate(struct file *f, u64 size)
{
    if (size > FILE_MOST)
        return -ENOSPC;
    f->size = size;
    return 0;
}

int file_do(struct file *f, enum file_op op, u64 offset, u64 len)
{
    if (op == FILE_ALLOCATE && (offset > FILE_MOST || len > FILE_MOST - offset))
        return -ENOSPC;
    if (op == FILE_ALLOCATE)
        f->size = MAX(f->size, offset + len);
    return 0;
}

int file_flush(struct file *f) { return 0; }
u64 file_size(struct file *f) { return f->size; }
int file_map(struct file *f, u64 offset, u64 *len, bool *data) { *data = true; return 0; }
u64 file_allocated(struct file *f) { return f->size; }
bool file_is_device(const struct file *f) { return false; }
void file_buffer_all(struct file *f) {}
const char *file_path(const struct file *f) { return "fuzz"; }
void aio_work(struct aio *aio, struct aio_work *w) { works[nworks++] = w; }
void aio_kick(struct aio *aio) {}
void block_done(struct block_request *rq, int result) { rq->done(rq, result); }
int block_open_backing(struct block *b, const char *name, const char *format, struct error *err) { return 0; }
int block_read_now(struct block *b, u64 offset, void *buf, u64 len) { abort(); }
void block_submit_pad(struct block *b, struct block_request *rq) { abort(); }

void file_submit(struct file *f, struct file_io *io)
{
    io->file = f;
    ios[nios++] = io;
}

static void finish_all(void)
{
    while (nworks || nios) {
        if (nworks) {
            struct aio_work *w = works[--nworks];
            w->run(w);
            w->done(w);
        } else {
            struct file_io *io = ios[--nios];
            io->done(io, io->op == FILE_READ ? file_preadv(io->file, io->offset, io->iov, io->niov, io->len)
                                             : file_pwritev(io->file, io->offset, io->iov, io->niov, io->len));
        }
    }
}

static void done(struct block_request *rq, int result) {}

/* ---- images to begin from ---- */

static bool open_image(struct block *b, bool look, bool readonly)
{
    struct error err;
    *b = (struct block){ .driver = &block_qcow2, .file = &file, .path = (char *)(uintptr_t)"fuzz", .discard = true,
                         .check_only = look, .readonly = readonly };
    return !block_qcow2.open(b, &err);
}

static void request(struct block *b, enum block_op op, u64 offset, u64 len, struct iovec *iov, u32 niov)
{
    static struct block_request rq[8];
    static u32 next;
    rq[next % 8] = (struct block_request){ .op = op, .offset = offset, .len = len, .iov = iov, .niov = niov,
                                           .flags = next & 1, .block = b, .done = done };
    block_qcow2.submit(b, &rq[next++ % 8]);
    if (next % 4 == 0)
        finish_all();
}

static void load(const u8 *image, u64 size)
{
    memset(file.data, 0, file.used);
    if (size)
        memcpy(file.data, image, size);
    file.size = file.used = size;
}

/* When a snapshot was taken is not part of a seed: the same inputs each time. */
static void forget_dates(void)
{
    u64 at = get64(file.data + H_SNAPSHOTS_OFFSET);

    for (u32 n = get32(file.data + H_NB_SNAPSHOTS); n--;) {
        put64(file.data + at + 16, 0);
        at = align_up(at + 40 + get32(file.data + at + 36) + get16(file.data + at + 12) + get16(file.data + at + 14),
                      8);
    }
}

/* A cluster at the end of the file, compressed; the guest's cluster 3. */
static void add_compressed(u32 cluster, bool zstd)
{
    u8 in[4096], out[8192];
    u64 l2 = get64(file.data + get64(file.data + H_L1_OFFSET)) & ENTRY_OFFSET, at = file.size, n;

    for (u32 i = 0; i < cluster; i++)
        in[i] = (u8)(i / 7);
    if (zstd) {
        n = ZSTD_compress(out, sizeof(out), in, cluster, 3);
        file.data[H_INCOMPATIBLE + 7] |= 8;
        file.data[H_COMPRESSION] = 1;
    } else {
        z_stream z = { .next_in = in, .avail_in = cluster, .next_out = out, .avail_out = sizeof(out) };
        if (deflateInit2(&z, 9, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY) != Z_OK || deflate(&z, Z_FINISH) != Z_STREAM_END)
            abort();
        n = z.total_out;
        deflateEnd(&z);
    }
    memcpy(file.data + at, out, n);
    file.size = file.used = at + n;
    u32 x = 62 - ((u32)__builtin_ctz(cluster) - 8);
    put64(file.data + l2 + 24, at | ENTRY_COMPRESSED | (n - 1) / 512 << x);
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const struct {
        u32 cluster, size;
        bool v2, snapshots, backing;
        int compressed;
    } seeds[] = {
        { 512, 60 * 1024, false, false, false, 0 }, { 512, 60 * 1024, true, true, false, 0 },
        { 512, 8 * 1024, false, true, true, 0 },    { 1024, 30 * 1024, false, true, false, 1 },
        { 4096, 30 * 1024, false, false, false, 2 }, { 512, 200 * 1024, false, false, false, 0 },
        { 512, 0, false, false, false, 0 },
    };
    struct error err;
    struct block b;

    if (!file.data)
        file.data = calloc(1, FILE_MOST);
    log_set_level(-1);
    if (i >= ARRAY_SIZE(seeds))
        return 0;
    load(NULL, 0);
    struct block_create t = { .size = seeds[i].size, .cluster_size = seeds[i].cluster, .v2 = seeds[i].v2,
                              .backing = seeds[i].backing ? "base" : NULL, .backing_format = "raw" };
    if (block_qcow2.create(&file, &t, &err) || !open_image(&b, false, false))
        abort();
    u8 data[2048];
    memset(data, 0x5a, sizeof(data));
    for (u64 at = 0; at + sizeof(data) <= b.size; at += 5 * sizeof(data))
        request(&b, BLOCK_WRITE, at, sizeof(data), &(struct iovec){ data, sizeof(data) }, 1), finish_all();
    if (seeds[i].snapshots) {
        block_qcow2.snapshot(&b, BLOCK_SNAPSHOT_CREATE, "one", &err);
        request(&b, BLOCK_WRITE, 0, sizeof(data), &(struct iovec){ data, sizeof(data) }, 1);
        finish_all();
        block_qcow2.snapshot(&b, BLOCK_SNAPSHOT_CREATE, "two", &err);
        request(&b, BLOCK_WRITE_ZEROES, 4096, 2048, NULL, 0);
        finish_all();
    }
    block_qcow2.close(&b, &err);
    forget_dates();
    if (seeds[i].compressed)
        add_compressed(seeds[i].cluster, seeds[i].compressed == 2);
    if (file.size > IMAGE_MOST || file.size + SCRIPT > cap)
        abort();
    memset(buf, 0, SCRIPT);
    memcpy(buf + SCRIPT, file.data, file.size);
    return SCRIPT + file.size;
}

/* ---- changes that know the format ---- */

static u64 table(u64 at, u64 entry)
{
    return at < file.size - 8 ? (get64(file.data + at) & ENTRY_OFFSET) + entry * 8 : 0;
}

static void patch(const u8 *p)
{
    static const u16 fields[] = { H_VERSION, H_BACKING_OFFSET, H_BACKING_SIZE, H_CLUSTER_BITS, H_SIZE, H_L1_SIZE,
                                  H_L1_OFFSET, H_REFTABLE_OFFSET, H_REFTABLE_CLUSTERS, H_NB_SNAPSHOTS, H_SNAPSHOTS_OFFSET,
                                  H_INCOMPATIBLE, H_COMPATIBLE, H_AUTOCLEAR, H_REFCOUNT_ORDER, H_LENGTH, H_COMPRESSION };
    u64 bits = get32(file.data + H_CLUSTER_BITS) & 31, cluster = BIT(bits), at = 0, v;
    u64 snapshots = get64(file.data + H_SNAPSHOTS_OFFSET);
    u32 width = 8;

    switch (p[0] % 8) {
    case 1:
        at = fields[p[1] % ARRAY_SIZE(fields)];
        width = at == H_SIZE || at == H_BACKING_OFFSET || (at >= H_L1_OFFSET && at < H_REFTABLE_CLUSTERS) ||
                (at >= H_SNAPSHOTS_OFFSET && at < H_REFCOUNT_ORDER) ? 8 : at == H_COMPRESSION ? 1 : 4;
        break;
    case 2:
        at = get64(file.data + H_L1_OFFSET) + p[1] % 8 * 8;
        break;
    case 3:
        at = table(get64(file.data + H_L1_OFFSET) + (p[1] >> 6) * 8, p[1] & 63);
        break;
    case 4:
        at = get64(file.data + H_REFTABLE_OFFSET) + p[1] % 4 * 8;
        break;
    case 5:
        at = table(get64(file.data + H_REFTABLE_OFFSET), 0) + p[1];
        width = 1;
        break;
    case 6:
        at = snapshots + p[1] % 56 / 4 * 4;
        width = p[1] & 1 ? 4 : 8;
        break;
    case 7:
        at = table(snapshots, p[1] & 15);
        break;
    default:
        return;
    }
    if (at > file.size || width > file.size - at)
        return;
    switch (p[2] % 8) {
    case 0:
        v = p[3];
        break;
    case 1:
        v = p[3] * cluster;
        break;
    case 2:
        v = file.size - file.size % 512 + p[3] * 512;
        break;
    case 3:
        v = ~0ull << p[3] % 64;
        break;
    case 4:
        v = get64(file.data + H_L1_OFFSET) + (p[3] & 3) * 512;
        break;
    case 5:
        v = get64(file.data + H_REFTABLE_OFFSET) + (p[3] & 3) * 512;
        break;
    case 6:
        v = (width == 8 ? get64(file.data + at) : width == 4 ? get32(file.data + at) : file.data[at]) ^ BIT(p[3] % 64);
        break;
    default:
        v = p[3] * cluster | ENTRY_COPIED;
    }
    if (width == 8)
        put64(file.data + at, v);
    else if (width == 4)
        put32(file.data + at, (u32)v);
    else
        file.data[at] = (u8)v;
}

/* ---- */

static void say(struct block_check *c, const char *text) {}

static void look(void)
{
    struct block_check c = { .say = say };
    struct block_info info = { 0 };
    struct error err;
    static u8 data[64 * 1024];
    struct block b;

    if (!open_image(&b, true, true))
        return;
    (void)!block_qcow2.check(&b, BLOCK_REPAIR_NONE, &c, &err);
    if (!block_qcow2.info(&b, &info, &err))
        free(info.snapshots);
    for (u64 at = 0, n = 0; at < b.size && n < 50; n++) {
        u64 len = b.size - at;
        enum block_map what;
        if (block_qcow2.map(&b, at, &len, &what))
            break;
        if (!len || len > b.size - at)
            abort();
        (void)!b.driver->read(&b, at, data, MIN(len, sizeof(data)));
        request(&b, BLOCK_READ, at, MIN(align_down(len, 512), 8192), &(struct iovec){ data, MIN(align_down(len, 512), 8192) },
                1);
        finish_all();
        at += len;
    }
    block_qcow2.close(&b, &err);
}

static void use(const u8 *script)
{
    static u8 data[64 * 1024];
    struct iovec iov = { data, sizeof(data) };
    struct error err;
    struct block b;

    if (!open_image(&b, false, false))
        return;
    for (u32 i = 0; i < 12; i++) {
        u64 most = b.size / 512, at = most ? (u64)script[i] * 977 % most : 0, n = most ? MIN(most - at, 1 + i * i % 70) : 0;
        if (i % 3 == 2)
            at = most ? most - 1 - at % MIN(most, 16) : 0, n = MIN(n, most - at);
        iov.iov_len = n * 512;
        if (n)
            request(&b, (enum block_op[]){ BLOCK_WRITE, BLOCK_WRITE, BLOCK_READ, BLOCK_DISCARD, BLOCK_WRITE_ZEROES,
                                           BLOCK_FLUSH }[i % 6], at * 512, n * 512, &iov, 1);
        finish_all();
    }
    if (script[0] & 1)
        (void)!block_qcow2.snapshot(&b, BLOCK_SNAPSHOT_CREATE, "fuzz", &err);
    if (script[0] & 2)
        (void)!block_qcow2.snapshot(&b, BLOCK_SNAPSHOT_APPLY, "1", &err);
    if (script[0] & 4)
        (void)!block_qcow2.snapshot(&b, BLOCK_SNAPSHOT_DELETE, "1", &err);
    if (script[0] & 8)
        (void)!block_qcow2.resize(&b, (u64)script[1] << (script[2] % 24), &err);
    if (script[0] & 16)
        (void)!block_qcow2.set_backing(&b, "another", "raw", &err);
    if (script[0] & 32)
        (void)!block_qcow2.make_empty(&b, &err);
    block_qcow2.close(&b, &err);
}

static void repair(bool all)
{
    struct block_check c = { .say = say };
    struct error err;
    struct block b;

    if (!open_image(&b, true, false))
        return;
    int r = block_qcow2.check(&b, all ? BLOCK_REPAIR_ALL : BLOCK_REPAIR_LEAKS, &c, &err);
    bool clean = !r && all && !c.errors && !c.leaks;
    if (!r && all && c.errors)
        abort(); /* it said that it was done */
    block_qcow2.close(&b, &err);
    if (!clean)
        return;
    if (!open_image(&b, false, false))
        abort(); /* repaired, yet of no use */
    if (block_qcow2.check(&b, BLOCK_REPAIR_NONE, &c, &err) || c.errors || c.leaks)
        abort();
    block_qcow2.close(&b, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u64 h = 0xcbf29ce484222325ull; /* FNV-1a: what is done with an image follows from its bytes */
    u8 more[16];

    if (!file.data)
        file.data = calloc(1, FILE_MOST);
    if (size < SCRIPT || size - SCRIPT > FILE_MOST / 2)
        return 0;
    for (size_t i = 0; i < size; i++)
        h = (h ^ data[i]) * 0x100000001b3ull;
    for (u32 i = 0; i < sizeof(more); i++, h *= 0x9e3779b97f4a7c15ull, h ^= h >> 29)
        more[i] = (u8)(h >> 40);
    load(data + SCRIPT, size - SCRIPT);
    for (int i = 0; i < PATCHES && file.size >= 128; i++)
        patch(data + 4 + i * PATCH);
    for (u32 i = 0; i < more[0] % 4u && file.size >= 128; i++)
        patch(more + 4 + i * PATCH);
    look();
    if (more[1] % 4 == 0) /* used as it is, or repaired before */
        repair(true);
    use(more);
    repair(more[1] & 1);
    return 0;
}
