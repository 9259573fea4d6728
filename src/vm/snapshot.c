/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - saving and loading; what is in the streams is the state tables' business.
 */
#include "vm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"
#include "vm/devices.h"
#include "vm/internal.h"

enum { CHUNK = 1 << 20, STREAM_MAX = 64 << 20 };

struct snapshot_header {
    u64 ram;
    struct cpuid_table cpuid;
    u8 mac[CONFIG_MAX_NETS * 6];
};

static const struct state_field leaf_fields[] = {
    STATE_FIELD(struct cpuid_leaf, function, 1), STATE_FIELD(struct cpuid_leaf, index, 1),
    STATE_FIELD(struct cpuid_leaf, indexed, 1),  STATE_FIELD(struct cpuid_leaf, eax, 1),
    STATE_FIELD(struct cpuid_leaf, ebx, 1),      STATE_FIELD(struct cpuid_leaf, ecx, 1),
    STATE_FIELD(struct cpuid_leaf, edx, 1),      STATE_END,
};
static const struct state_field cpuid_fields[] = {
    STATE_FIELD(struct cpuid_table, n, 1),         STATE_STRUCTS(struct cpuid_table, leaf, 1, leaf_fields),
    STATE_FIELD(struct cpuid_table, tsc_khz, 1),   STATE_FIELD(struct cpuid_table, cpus, 1),
    STATE_FIELD(struct cpuid_table, phys_bits, 1), STATE_FIELD(struct cpuid_table, lin_bits, 1),
    STATE_FIELD(struct cpuid_table, xcr0, 1),      STATE_END,
};
static const struct state_field header_fields[] = {
    STATE_FIELD(struct snapshot_header, ram, 1),
    STATE_STRUCT(struct snapshot_header, cpuid, 1, cpuid_fields),
    STATE_ARRAY(struct snapshot_header, mac, 2),
    STATE_END,
};

static int header_loaded(void *obj, struct error *err)
{
    const struct snapshot_header *h = obj;
    if (h->cpuid.n > CPUID_MAX_LEAVES || !h->cpuid.tsc_khz || h->cpuid.phys_bits < 32 || h->cpuid.phys_bits > 52)
        return error_set(err, EINVAL, "the snapshot's CPU model is damaged");
    return 0;
}

static const struct state_desc header_state = { "machine", 2, header_fields, NULL, header_loaded };

/* ---- files -------------------------------------------------------------- */

static int open_in(const char *dir, const char *name, int flags, struct error *err)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return error_set(err, ENAMETOOLONG, "the name of the snapshot directory is too long");
    int fd = opener_file(OPENER_SNAPSHOT, path, flags, 0600); /* guest memory: the owner's only */
    return fd < 0 ? error_set(err, errno, "cannot open %s: %s", path, strerror(errno)) : fd;
}

static int write_all(int fd, const void *buf, u64 len, u64 offset)
{
    for (const u8 *p = buf; len;) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EIO;
        p += n, offset += (u64)n, len -= (u64)n;
    }
    return 0;
}

static int read_all(int fd, void *buf, u64 len, u64 offset)
{
    for (u8 *p = buf; len;) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENODATA;
        p += n, offset += (u64)n, len -= (u64)n;
    }
    return 0;
}

static int save_stream(const struct state_list *list, const char *dir, const char *name, struct error *err)
{
    struct state_buf b = { 0 };
    int rc = state_save(list, &b, err), fd = -1;
    if (!rc && (fd = open_in(dir, name, O_WRONLY | O_CREAT | O_TRUNC, err)) < 0)
        rc = fd;
    if (!rc && ((rc = write_all(fd, b.data, b.len, 0)) || (fsync(fd) && (rc = -errno))))
        error_set(err, -rc, "cannot write %s/%s: %s", dir, name, strerror(-rc));
    if (fd >= 0)
        close(fd);
    state_buf_free(&b);
    return rc;
}

static int load_stream(const struct state_list *list, const char *dir, const char *name, struct error *err)
{
    struct stat st;
    u8 *data = NULL;
    int rc = 0, fd = open_in(dir, name, O_RDONLY, err);

    if (fd < 0)
        return fd;
    if (opener_fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > STREAM_MAX)
        rc = error_set(err, EINVAL, "%s/%s is no state of a machine", dir, name);
    else if (!(data = malloc((size_t)st.st_size + 1)))
        rc = error_set(err, ENOMEM, "out of memory");
    else if ((rc = read_all(fd, data, (u64)st.st_size, 0)))
        error_set(err, -rc, "cannot read %s/%s: %s", dir, name, strerror(-rc));
    else
        rc = state_load(list, data, (size_t)st.st_size, err);
    free(data);
    close(fd);
    return rc;
}

/* ---- RAM ---------------------------------------------------------------- */

static bool is_zero(const u8 *p)
{
    return !p[0] && !memcmp(p, p + 1, GUEST_PAGE_SIZE - 1);
}

/* Writes what of [at, at + len) of the memfd is not zero, in runs of pages. */
static int save_run(int to, const u8 *host, u64 len, u64 at)
{
    int rc = 0;
    for (u64 i = 0, start; i < len && !rc; i += GUEST_PAGE_SIZE) {
        if (is_zero(host + i))
            continue;
        for (start = i; i < len && i - start < CHUNK && !is_zero(host + i); i += GUEST_PAGE_SIZE)
            ;
        rc = write_all(to, host + start, i - start, at + start);
        i -= GUEST_PAGE_SIZE;
    }
    return rc;
}

static int save_ram(const struct memory *m, const char *dir, struct error *err)
{
    int rc = 0, fd = open_in(dir, "ram", O_RDWR | O_CREAT | O_TRUNC, err);

    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)m->fd_size))
        rc = -errno;
    for (u32 i = 0; i < m->npieces && !rc; i++) {
        const struct memory_piece *p = &m->piece[i];
        off_t at = (off_t)p->place, end = (off_t)(p->place + p->size), hole;
        /* Memory that the guest never touched is a hole of the memfd, and is not even looked at. */
        while (at < end && !rc && (at = lseek(m->fd, at, SEEK_DATA)) >= 0 && at < end) {
            hole = lseek(m->fd, at, SEEK_HOLE);
            if (hole < 0 || hole > end)
                hole = end;
            rc = save_run(fd, p->host + (at - (off_t)p->place), (u64)(hole - at), (u64)at);
            at = hole;
        }
    }
    if (!rc && fsync(fd))
        rc = -errno;
    close(fd);
    return rc ? error_set(err, -rc, "cannot write %s/ram: %s", dir, strerror(-rc)) : 0;
}

static int load_ram(struct memory *m, const char *dir, struct error *err)
{
    struct stat st;
    int rc = 0, fd = open_in(dir, "ram", O_RDONLY, err);

    if (fd < 0)
        return fd;
    if (opener_fstat(fd, &st) || (u64)st.st_size != m->fd_size) {
        close(fd);
        return error_set(err, EINVAL, "%s/ram is not this machine's memory: it has %lld bytes, not %llu", dir,
                         (long long)st.st_size, (unsigned long long)m->fd_size);
    }
    for (u32 i = 0; i < m->npieces && !rc; i++) {
        const struct memory_piece *p = &m->piece[i];
        off_t at = (off_t)p->place, end = (off_t)(p->place + p->size), hole;
        while (at < end && !rc && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
            hole = lseek(fd, at, SEEK_HOLE);
            if (hole < 0 || hole > end)
                hole = end;
            rc = read_all(fd, p->host + (at - (off_t)p->place), (u64)(hole - at), (u64)at);
            at = hole;
        }
    }
    close(fd);
    return rc ? error_set(err, -rc, "cannot read %s/ram: %s", dir, strerror(-rc)) : 0;
}

/* ---- a machine ---------------------------------------------------------- */

static int header_stream(struct snapshot_header *h, const char *dir, bool save, struct error *err)
{
    struct state_list *list = state_list_new();
    int rc = list ? state_add(list, &header_state, 0, h) : -ENOMEM;
    if (rc)
        error_set(err, -rc, "out of memory");
    else
        rc = save ? save_stream(list, dir, "config", err) : load_stream(list, dir, "config", err);
    state_list_free(list);
    return rc;
}

int vm_save(struct vm *v, const char *dir, struct error *err)
{
    struct snapshot_header *h = calloc(1, sizeof *h);
    int rc = 0;

    if (!h)
        return error_set(err, ENOMEM, "out of memory");
    h->ram = v->config->memory;
    h->cpuid = v->cpuid;
    devices_macs(v->devices, (u8(*)[6])h->mac);
    if ((rc = opener_folder(OPENER_SNAPSHOT, dir, 0700)) == -EEXIST)
        rc = 0;
    if (rc)
        error_set(err, -rc, "cannot create the directory %s: %s", dir, strerror(-rc));
    if (!rc && !(rc = machine_before_save(v->machine, err)) && !(rc = header_stream(h, dir, true, err)) &&
        !(rc = save_stream(machine_state(v->machine), dir, "state", err)))
        rc = save_ram(machine_memory(v->machine), dir, err);
    free(h);
    return rc;
}

/* The first feature of t that `supported` lacks, or NULL. */
static const char *beyond(const struct cpuid_table *t, const struct cpuid_table *supported)
{
    const struct cpu_feature *f;
    for (u32 i = 0; (f = cpu_feature_at(i)); i++)
        if (f->function < 0x40000000 && cpuid_has(t, f) && !cpuid_has(supported, f))
            return f->name;
    return NULL;
}

int snapshot_config(const char *dir, const struct vm_config *c, const struct cpuid_table *supported,
                    struct cpuid_table *cpuid, u8 mac[CONFIG_MAX_NETS][6], struct error *err)
{
    struct snapshot_header *h = calloc(1, sizeof *h);
    const char *lacks;
    int rc;

    if (!h)
        return error_set(err, ENOMEM, "out of memory");
    rc = header_stream(h, dir, false, err);
    if (!rc && (h->ram != c->memory || h->cpuid.cpus != c->cpus))
        rc = error_set(err, EINVAL, "the snapshot %s is of a machine with %llu MiB and %u CPUs", dir,
                       (unsigned long long)(h->ram >> 20), h->cpuid.cpus);
    if (!rc && (lacks = beyond(&h->cpuid, supported)))
        rc = error_set(err, ENOTSUP, "the snapshot %s was taken with the CPU feature %s, which is not to be had here",
                       dir, lacks);
    if (!rc && supported->tsc_khz && (h->cpuid.tsc_khz / 1000 != supported->tsc_khz / 1000))
        log_warn("the guest's clock will be off: its TSC ran at %llu kHz, here it runs at %llu kHz",
                 (unsigned long long)h->cpuid.tsc_khz, (unsigned long long)supported->tsc_khz);
    if (!rc) {
        *cpuid = h->cpuid;
        memcpy(mac, h->mac, sizeof h->mac);
    }
    free(h);
    return rc;
}

int vm_load(struct vm *v, const char *dir, struct error *err)
{
    int rc = load_ram(machine_memory(v->machine), dir, err);
    if (!rc)
        rc = load_stream(machine_state(v->machine), dir, "state", err);
    return rc ? rc : machine_after_load(v->machine, err);
}
