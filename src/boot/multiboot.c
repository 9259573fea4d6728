/* SPDX-License-Identifier: Apache-2.0 */
/*
 * multiboot.c - Multiboot 1 (GNU Multiboot Specification 0.6.96): ELF, or any file by the addresses in its header
 * ("a.out kludge"), with modules, command line, memory map and loader name.
 *
 * A 64-bit ELF is accepted if all its parts are below 4 GiB. It is entered in 32-bit mode like the others, and must be
 * written for that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/internal.h"

enum { HEADER_SEARCH = 8192 };
#define HEADER_MAGIC 0x1badb002u
#define BOOT_MAGIC 0x2badb002u

enum { /* header flags; bits 0-15 are requirements; we cannot meet those that are not named here */
    HDR_PAGE_ALIGN = 1 << 0, HDR_MEMORY_INFO = 1 << 1, HDR_VIDEO_MODE = 1 << 2, HDR_ADDRESSES = 1 << 16,
};
enum { INFO_MEMORY = 1 << 0, INFO_CMDLINE = 1 << 2, INFO_MODS = 1 << 3, INFO_MMAP = 1 << 6, INFO_LOADER_NAME = 1 << 9 };
enum { INFO_SIZE = 120, MODULE_SIZE = 16, MMAP_SIZE = 24 };

/* Offset of the header, or -1. The header is 4-byte aligned, is in the first 8192 bytes, and sums to 0. */
static int find_header(const struct load *l)
{
    u32 end = MIN(l->nhead, HEADER_SEARCH);
    for (u32 i = 0; i + 12 <= end; i += 4) {
        const u8 *p = l->head + i;
        if (get32(p) == HEADER_MAGIC && get32(p) + get32(p + 4) + get32(p + 8) == 0)
            return (int)i;
    }
    return -1;
}

bool multiboot_recognize(const struct load *l)
{
    return find_header(l) >= 0;
}

/* Loads the kernel by the addresses in its header (section 3.1.3). */
static int load_kludge(struct load *l, u32 at, u64 *entry, u64 *end)
{
    const u8 *h = l->head + at;
    struct boot_file *f = &l->boot->kernel;
    int rc;

    if (at + 32 > l->nhead)
        return error_set(l->err, EINVAL, "%s is truncated: its Multiboot header ends with the file", f->path);
    u64 header_addr = get32(h + 12), load_addr = get32(h + 16), load_end = get32(h + 20), bss_end = get32(h + 24);
    *entry = get32(h + 28);
    if (load_addr > header_addr || header_addr - load_addr > at || (load_end && load_end < load_addr))
        return error_set(l->err, EINVAL, "%s is damaged: the addresses in its Multiboot header contradict each other",
                         f->path);
    u64 offset = at - (header_addr - load_addr);
    u64 size = load_end ? load_end - load_addr : f->size - offset;
    if (size > f->size - offset)
        return error_set(l->err, EINVAL, "%s is truncated: its Multiboot header asks for %llu bytes, it has %llu",
                         f->path, (unsigned long long)(offset + size), (unsigned long long)f->size);
    if (bss_end && bss_end < load_addr + size)
        bss_end = 0; /* no bss */
    *end = MAX(load_addr + size, bss_end);
    if ((rc = load_claim(l, load_addr, *end - load_addr, "kernel")) || (rc = load_file(l, f, offset, load_addr, size)))
        return rc;
    return load_zero(l, load_addr + size, *end - load_addr - size);
}

static int load_elf(struct load *l, u64 *entry, u64 *end)
{
    struct elf_image e;
    int rc = elf_parse(l, &e);

    if (rc)
        return rc;
    if (e.end > GiB(4))
        return error_set(l->err, EINVAL,
                         "%s is a 64-bit Multiboot kernel with parts above 4 GiB; Multiboot cannot load it",
                         l->boot->kernel.path);
    /* The entry is a physical address. An image that is linked to run elsewhere gives a virtual one. Its segment
       translates that. */
    *entry = e.entry;
    for (u32 i = 0; i < e.nsegments; i++)
        if (e.entry - e.segment[i].vaddr < e.segment[i].memsz)
            *entry = e.entry - e.segment[i].vaddr + e.segment[i].paddr;
    *end = e.end;
    if (*entry >= GiB(4))
        return error_set(l->err, EINVAL, "%s is not a bootable ELF file: its entry is above 4 GiB",
                         l->boot->kernel.path);
    return elf_load(l, &e);
}

/* Strings and tables that belong to the info structure, one after the other in one claimed block. */
struct blob {
    u8 *data;
    u64 len, cap, addr;
};

static u32 blob_add(struct blob *b, const void *p, u64 len)
{
    u32 at = (u32)(b->addr + b->len);
    memcpy(b->data + b->len, p, len);
    b->len = align_up(b->len + len, 8);
    return at;
}

static u32 blob_string(struct blob *b, const char *s)
{
    return blob_add(b, s, strlen(s) + 1);
}

static void add_map(struct load *l, struct blob *b, u8 *info)
{
    u8 map[32 * MMAP_SIZE];
    u32 n = 0, lower = 0, upper = 0;

    for (u32 i = 0; i < l->env->nmap && n < 32; i++, n++) {
        const struct boot_map_entry *e = &l->env->map[i];
        u8 *m = map + n * MMAP_SIZE;
        put32(m, MMAP_SIZE - 4), put64(m + 4, e->addr), put64(m + 12, e->size), put32(m + 20, e->type);
        if (e->type == BOOT_MAP_RAM && e->addr == 0)
            lower = (u32)MIN(e->size >> 10, 640);
        if (e->type == BOOT_MAP_RAM && e->addr == MiB(1))
            upper = (u32)(e->size >> 10);
    }
    put32(info + 4, lower), put32(info + 8, upper);
    put32(info + 44, n * MMAP_SIZE);
    put32(info + 48, blob_add(b, map, n * MMAP_SIZE));
}

static int add_modules(struct load *l, struct blob *b, u64 end, u8 *info)
{
    u8 mods[BOOT_MAX_FILES * MODULE_SIZE] = { 0 };
    struct boot *boot = l->boot;
    u64 addr;
    int rc;

    for (u32 i = 0; i < boot->nmodules; i++) {
        const struct boot_file *f = &boot->module[i].file;
        if ((rc = load_find(l, f->size, 4096, end, GiB(4), false, "module", &addr)) ||
            (rc = load_file(l, f, 0, addr, f->size)))
            return rc;
        put32(mods + i * MODULE_SIZE, (u32)addr), put32(mods + i * MODULE_SIZE + 4, (u32)(addr + f->size));
        put32(mods + i * MODULE_SIZE + 8, blob_string(b, boot->module[i].line));
    }
    put32(info + 20, boot->nmodules);
    put32(info + 24, blob_add(b, mods, boot->nmodules * MODULE_SIZE));
    return 0;
}

int multiboot_load(struct load *l)
{
    struct boot *boot = l->boot;
    u32 at = (u32)find_header(l), flags = get32(l->head + at + 4);
    u64 entry, end, gdt;
    u8 info[INFO_SIZE] = { 0 };
    struct blob b = { 0 };
    char *line = NULL;
    int rc;

    if (flags & 0xffff & ~(HDR_PAGE_ALIGN | HDR_MEMORY_INFO | HDR_VIDEO_MODE))
        return error_set(l->err, EINVAL, "%s asks for Multiboot features that do not exist (flags 0x%x)",
                         boot->kernel.path, flags);
    if ((flags & HDR_ADDRESSES) || !elf_recognize(l))
        rc = flags & HDR_ADDRESSES
                 ? load_kludge(l, at, &entry, &end)
                 : error_set(l->err, ENOEXEC, "%s has a Multiboot header without addresses and is not ELF",
                             boot->kernel.path);
    else
        rc = load_elf(l, &entry, &end);
    if (rc || (rc = load_modules(l, true)))
        return rc;

    /* By convention the first word of the command line is the kernel. */
    if (asprintf(&line, "%s%s%s", boot->kernel.path, *boot->append ? " " : "", boot->append) < 0)
        return error_set(l->err, ENOMEM, "out of memory");
    b.cap = INFO_SIZE + BOOT_GDT_SIZE + strlen(line) + 32 * MMAP_SIZE + boot->nmodules * MODULE_SIZE + 128;
    for (u32 i = 0; i < boot->nmodules; i++)
        b.cap += strlen(boot->module[i].line) + 16;
    b.data = calloc(1, b.cap);
    rc = b.data ? load_find(l, b.cap, 4096, end, GiB(4), false, "boot information", &b.addr)
                : error_set(l->err, ENOMEM, "out of memory");
    if (rc)
        goto out;

    blob_add(&b, info, INFO_SIZE); /* this only reserves its place; it is filled below */
    gdt = b.addr + b.len;
    b.len = align_up(b.len + BOOT_GDT_SIZE, 8);
    put32(info, INFO_MEMORY | INFO_CMDLINE | INFO_MODS | INFO_MMAP | INFO_LOADER_NAME);
    put32(info + 16, blob_string(&b, line));
    put32(info + 64, blob_string(&b, "Lodge"));
    add_map(l, &b, info);
    if ((rc = add_modules(l, &b, b.addr + b.cap, info)))
        goto out;
    memcpy(b.data, info, INFO_SIZE);
    if ((rc = load_bytes(l, b.addr, b.data, b.len)) || (rc = enter_protected(l, gdt, (u32)entry)))
        goto out;
    l->bsp->gpr[RAX] = BOOT_MAGIC;
    l->bsp->gpr[RBX] = b.addr;
    boot->protocol = flags & HDR_ADDRESSES ? "Multiboot" : "Multiboot, ELF";
out:
    free(b.data);
    free(line);
    return rc;
}
