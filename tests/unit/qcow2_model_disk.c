/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_model_disk.c - the simulated disk: what was written, what a flush has made sure of, what a power cut leaves. */
#include "qcow2_model.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct record {
    enum file_op op;
    u64 offset, len;
    u8 *data;
};

/* Room for a file. meson has malloc() fill what it gives (MALLOC_PERTURB_), which for so much is slow. */
u8 *file_room(void)
{
    u8 *p = mmap(NULL, FILE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("no memory");
    return p;
}

struct file *disk_new(void)
{
    struct file *f = calloc(1, sizeof(*f));
    f->now = file_room();
    f->stable = file_room();
    return f;
}

static void forget_records(struct file *f)
{
    for (u32 i = 0; i < f->nsince; i++)
        free(f->since[i].data);
    f->nsince = 0;
}

void disk_free(struct file *f)
{
    forget_records(f);
    free(f->since);
    munmap(f->now, FILE_MAX);
    munmap(f->stable, FILE_MAX);
    free(f);
}

void disk_load(struct file *f, const u8 *data, u64 size)
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
u64 disk_after_cut(const struct file *f, u8 *data)
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
