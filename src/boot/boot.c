/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.c - opens the files, keeps track of guest memory while loading, and chooses the protocol.
 */
#include "boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/opener.h"
#include "boot/internal.h"

int boot_file_open(struct boot_file *f, const char *path, const char *what, struct error *err)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO without a writer must not block us before fstat tells what the file is. */
    int fd = opener_file(OPENER_KERNEL, path, O_RDONLY | O_NONBLOCK, 0);

    if (fd < 0)
        return error_set(err, errno, "cannot open the %s %s: %s", what, path, strerror(errno));
    if (opener_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(err, EINVAL, "the %s %s is not a regular file", what, path);
    }
    if (st.st_size == 0) {
        close(fd);
        return error_set(err, EINVAL, "the %s %s is empty", what, path);
    }
    f->path = strdup(path);
    if (!f->path) {
        close(fd);
        return error_set(err, ENOMEM, "out of memory");
    }
    f->fd = fd;
    f->size = (u64)st.st_size;
    return 0;
}

void boot_file_close(struct boot_file *f)
{
    if (f->path)
        close(f->fd);
    free(f->path);
    *f = (struct boot_file){ 0 };
}

int boot_file_read(const struct boot_file *f, u64 offset, void *buf, u64 len, struct error *err)
{
    for (u8 *to = buf; len;) {
        ssize_t n = pread(f->fd, to, MIN(len, 1u << 30), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, errno, "cannot read %s: %s", f->path, strerror(errno));
        if (n == 0)
            return error_set(err, EINVAL, "%s is truncated: it ends at byte %llu, and more is needed", f->path,
                             (unsigned long long)offset);
        to += n, offset += (u64)n, len -= (u64)n;
    }
    return 0;
}

static bool overlaps(u64 a, u64 asize, u64 b, u64 bsize)
{
    return a < b + bsize && b < a + asize;
}

/* True if nothing has claimed it. If not, *next is the first address worth trying. */
static bool is_free(const struct load *l, u64 addr, u64 size, u64 *next)
{
    for (u32 i = 0; i < l->ntaken; i++) {
        if (overlaps(addr, size, l->taken[i].addr, l->taken[i].size)) {
            *next = l->taken[i].addr + l->taken[i].size;
            return false;
        }
    }
    return true;
}

static int take(struct load *l, u64 addr, u64 size)
{
    if (l->ntaken == BOOT_MAX_TAKEN)
        return error_set(l->err, E2BIG, "%s has too many parts to load", l->boot->kernel.path);
    l->taken[l->ntaken++] = (struct boot_map_entry){ addr, size, BOOT_MAP_RAM };
    return 0;
}

int load_claim(struct load *l, u64 addr, u64 size, const char *what)
{
    u64 end, next;
    if (!size)
        return 0;
    if (!add_overflows(addr, size, &end)) {
        for (u32 i = 0; i < l->env->nmap; i++) {
            const struct boot_map_entry *e = &l->env->map[i];
            if (e->type != BOOT_MAP_RAM || addr < e->addr || end > e->addr + e->size)
                continue;
            if (!is_free(l, addr, size, &next))
                return error_set(l->err, EINVAL, "%s: the %s at 0x%llx overlaps another part of the kernel",
                                 l->boot->kernel.path, what, (unsigned long long)addr);
            return take(l, addr, size);
        }
    }
    return error_set(l->err, EINVAL,
                     "%s: the %s (%llu KiB at 0x%llx) does not fit the guest's RAM; give it more memory",
                     l->boot->kernel.path, what, (unsigned long long)((size + 1023) >> 10), (unsigned long long)addr);
}

int load_find(struct load *l, u64 size, u64 align, u64 min, u64 max, bool highest, const char *what, u64 *addr)
{
    bool found = false;

    for (u32 i = 0; i < l->env->nmap; i++) {
        const struct boot_map_entry *e = &l->env->map[i];
        if (e->type != BOOT_MAP_RAM)
            continue;
        u64 lo = MAX(e->addr, min), end = MIN(e->addr + e->size, max), next = 0;
        if (highest) {
            /* Goes down from the top, below everything that is in the way. */
            while (end > lo && end - lo >= size) {
                u64 at = align_down(end - size, align);
                if (at < lo)
                    break;
                if (is_free(l, at, size, &next)) {
                    *addr = at;
                    found = true;
                    break;
                }
                for (u32 k = 0; k < l->ntaken; k++)
                    if (overlaps(at, size, l->taken[k].addr, l->taken[k].size))
                        end = MIN(end, l->taken[k].addr);
            }
        } else {
            for (u64 at = align_up(lo, align); at >= lo && at < end && end - at >= size; at = align_up(next, align)) {
                if (is_free(l, at, size, &next)) {
                    *addr = at;
                    return take(l, at, size);
                }
            }
        }
    }
    if (found)
        return take(l, *addr, size);
    return error_set(l->err, E2BIG, "the %s (%llu KiB) does not fit the guest's RAM; give it more memory", what,
                     (unsigned long long)((size + 1023) >> 10));
}

int load_file(struct load *l, const struct boot_file *f, u64 offset, u64 addr, u64 len)
{
    if (!len)
        return 0;
    void *p = memory_ptr(l->env->memory, addr, len, true);
    if (!p)
        return error_set(l->err, EFAULT, "%s does not fit the guest's RAM", f->path);
    return boot_file_read(f, offset, p, len, l->err);
}

int load_bytes(struct load *l, u64 addr, const void *p, u64 len)
{
    return memory_load(l->env->memory, addr, p, len)
               ? error_set(l->err, EFAULT, "boot data does not fit the guest's RAM")
               : 0;
}

int load_zero(struct load *l, u64 addr, u64 len)
{
    void *p = len ? memory_ptr(l->env->memory, addr, len, true) : NULL;
    if (p)
        memset(p, 0, len);
    return !p && len ? error_set(l->err, EFAULT, "the kernel does not fit the guest's RAM") : 0;
}

int load_modules(struct load *l, bool many)
{
    struct boot *b = l->boot;
    int rc = 0;

    if (b->nmodules || !b->initrd)
        return 0;
    char *list = strdup(b->initrd), *rest = list;
    if (!list)
        return error_set(l->err, ENOMEM, "out of memory");
    do {
        char *line = many ? strsep(&rest, ",") : list;
        struct boot_module *m = &b->module[b->nmodules];
        char *path = strndup(line, many ? strcspn(line, " ") : strlen(line));
        if (b->nmodules == BOOT_MAX_FILES)
            rc = error_set(l->err, E2BIG, "more than %d modules", BOOT_MAX_FILES);
        else if (!path || !(m->line = strdup(line)))
            rc = error_set(l->err, ENOMEM, "out of memory");
        else if ((rc = boot_file_open(&m->file, path, many ? "module" : "initrd", l->err)))
            free(m->line), m->line = NULL;
        else
            b->nmodules++;
        free(path);
    } while (!rc && many && rest);
    free(list);
    return rc;
}

static void flat_seg(struct cpu_seg *s, u16 selector, u16 attr)
{
    *s = (struct cpu_seg){ .selector = selector, .attr = attr, .limit = 0xffffffff };
}

/* Selectors 10h (code) and 18h (data), as Linux's protocol requires them. 8 is 32-bit code too, for kernels that
   expect it first. */
static int flat_machine(struct load *l, u64 gdt, bool is64)
{
    struct cpu_state *s = l->bsp;
    enum {
        CODE = SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A | SEG_G,
        DATA = SEG_P | SEG_S | SEG_W | SEG_A | SEG_G | SEG_DB
    };
    const u64 code32 = 0x00cf9b000000ffff, code64 = 0x00af9b000000ffff, data = 0x00cf93000000ffff;
    const u64 tss = 0x0000890000000067; /* PVH requires a TSS with limit 67h; nothing uses it */
    u8 table[BOOT_GDT_SIZE];

    put64(table, 0), put64(table + 8, code32), put64(table + 16, is64 ? code64 : code32), put64(table + 24, data);
    put64(table + 32, tss);
    flat_seg(&s->seg[CS], 0x10, (u16)(is64 ? CODE | SEG_L : CODE | SEG_DB));
    for (int i = 0; i < SEG_COUNT; i++)
        if (i != CS)
            flat_seg(&s->seg[i], 0x18, DATA);
    s->tr = (struct cpu_seg){ .selector = 0x20, .attr = SEG_P | 0xb, .limit = 0x67 };
    s->ldtr = (struct cpu_seg){ .attr = SEG_UNUSABLE };
    s->gdtr = (struct cpu_table){ gdt, BOOT_GDT_SIZE - 1 };
    s->idtr = (struct cpu_table){ 0, 0 };
    s->rflags = RFLAGS_FIXED;
    s->cr0 = CR0_PE | CR0_ET;
    return load_bytes(l, gdt, table, sizeof table);
}

int enter_protected(struct load *l, u64 gdt, u32 eip)
{
    l->bsp->rip = eip;
    return flat_machine(l, gdt, false);
}

/* PML4, PDPT and four page directories of 2 MiB pages (SDM vol. 3 ch. 4.5): present, writable, and large at the end. */
int enter_long(struct load *l, u64 gdt, u64 tables, u64 rip)
{
    struct cpu_state *s = l->bsp;
    u8 *t = memory_ptr(l->env->memory, tables, BOOT_TABLES_SIZE, true);
    enum { PTE_P = 1, PTE_W = 2, PTE_PS = 0x80 };

    if (!t)
        return error_set(l->err, EFAULT, "page tables do not fit the guest's RAM");
    memset(t, 0, BOOT_TABLES_SIZE);
    put64(t, (tables + 4096) | PTE_P | PTE_W);
    for (u64 i = 0; i < 4; i++)
        put64(t + 4096 + i * 8, (tables + 8192 + i * 4096) | PTE_P | PTE_W);
    for (u64 i = 0; i < 2048; i++)
        put64(t + 8192 + i * 8, (i << 21) | PTE_P | PTE_W | PTE_PS);

    int rc = flat_machine(l, gdt, true);
    s->rip = rip;
    s->cr0 |= CR0_PG;
    s->cr3 = tables;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    return rc;
}

struct boot *boot_open(const struct boot_params *p, struct error *err)
{
    struct boot *b = calloc(1, sizeof *b);
    if (!b) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    b->initrd = p->initrd;
    b->append = p->append ? p->append : "";
    if (!p->kernel) {
        error_set(err, EINVAL, "no kernel to boot");
        free(b);
        return NULL;
    }
    if (boot_file_open(&b->kernel, p->kernel, "kernel", err)) {
        free(b);
        return NULL;
    }
    return b;
}

void boot_close(struct boot *b)
{
    if (!b)
        return;
    for (u32 i = 0; i < b->nmodules; i++) {
        boot_file_close(&b->module[i].file);
        free(b->module[i].line);
    }
    boot_file_close(&b->kernel);
    free(b);
}

int boot_load(struct boot *b, const struct boot_env *env, struct cpu_state *bsp, struct error *err)
{
    struct load *l = calloc(1, sizeof *l);
    int rc;

    if (!l)
        return error_set(err, ENOMEM, "out of memory");
    l->boot = b;
    l->env = env;
    l->bsp = bsp;
    l->err = err;
    cpu_reset(bsp, true);
    l->nhead = (u32)MIN(b->kernel.size, sizeof l->head);
    rc = boot_file_read(&b->kernel, 0, l->head, l->nhead, err);
    if (!rc && linux_recognize(l))
        rc = linux_load(l);
    else if (!rc && multiboot_recognize(l))
        rc = multiboot_load(l);
    else if (!rc && elf_recognize(l))
        rc = pvh_load(l);
    else if (!rc && l->nhead > 2 && l->head[0] == 0x1f && l->head[1] == 0x8b)
        rc = error_set(err, ENOEXEC, "%s is compressed; use what gunzip makes of it", b->kernel.path);
    else if (!rc)
        rc = error_set(err, ENOEXEC,
                       "%s is no kernel Lodge can boot: neither a Linux bzImage, nor Multiboot, nor ELF with a "
                       "PVH note",
                       b->kernel.path);
    free(l);
    return rc;
}

const char *boot_protocol(const struct boot *b)
{
    return b->protocol ? b->protocol : "-";
}
