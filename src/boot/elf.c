/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elf.c - ELF32 and ELF64 executables for x86: the program headers, checked (System V ABI, gABI ch. 4 and 5),
 * and the PVH boot protocol, which is an ELF note with a 32-bit entry (xen/include/public/elfnote.h,
 * xen/include/public/arch-x86/hvm/start_info.h, xen/docs/misc/pvh.pandoc).
 */
#include <errno.h>
#include <string.h>

#include "boot/internal.h"

enum {
    EI_CLASS = 4,
    EI_DATA = 5,
    ELFCLASS32 = 1,
    ELFCLASS64 = 2,
    ELFDATA2LSB = 1,
    EM_386 = 3,
    EM_X86_64 = 62,
    PT_LOAD = 1,
    PT_NOTE = 4
};
enum { XEN_ELFNOTE_PHYS32_ENTRY = 18, NOTES_MAX = 65536 };

bool elf_recognize(const struct load *l)
{
    return l->nhead >= 52 && !memcmp(l->head, "\177ELF", 4);
}

static int damaged(struct load *l, const char *why)
{
    return error_set(l->err, EINVAL, "%s is not a bootable ELF file: %s", l->boot->kernel.path, why);
}

int elf_parse(struct load *l, struct elf_image *e)
{
    const u8 *h = l->head;
    u8 ph[56];
    int rc;

    memset(e, 0, sizeof *e);
    e->is64 = h[EI_CLASS] == ELFCLASS64;
    if ((!e->is64 && h[EI_CLASS] != ELFCLASS32) || h[EI_DATA] != ELFDATA2LSB || (e->is64 && l->nhead < 64))
        return damaged(l, "its header is damaged");
    u16 machine = get16(h + 18);
    if (machine != EM_386 && machine != EM_X86_64)
        return damaged(l, "it is for another processor");
    e->entry = e->is64 ? get64(h + 24) : get32(h + 24);
    u64 phoff = e->is64 ? get64(h + 32) : get32(h + 28);
    u16 phentsize = get16(h + (e->is64 ? 54 : 42)), phnum = get16(h + (e->is64 ? 56 : 44)), want = e->is64 ? 56 : 32;
    if (!phnum || phentsize < want)
        return damaged(l, "it has no program headers");

    for (u32 i = 0; i < phnum; i++) {
        u64 at;
        if (add_overflows(phoff, (u64)i * phentsize, &at) || at > (u64)INT64_MAX - want)
            return damaged(l, "its program headers lie outside the file");
        if ((rc = boot_file_read(&l->boot->kernel, at, ph, want, l->err)))
            return rc;
        u32 type = get32(ph);
        struct elf_segment s = {
            .offset = e->is64 ? get64(ph + 8) : get32(ph + 4),
            .vaddr = e->is64 ? get64(ph + 16) : get32(ph + 8),
            .paddr = e->is64 ? get64(ph + 24) : get32(ph + 12),
            .filesz = e->is64 ? get64(ph + 32) : get32(ph + 16),
            .memsz = e->is64 ? get64(ph + 40) : get32(ph + 20),
        };
        u64 end;
        if ((type != PT_LOAD && type != PT_NOTE) || (type == PT_LOAD && !s.memsz))
            continue;
        if (add_overflows(s.offset, s.filesz, &end) || end > l->boot->kernel.size)
            return error_set(l->err, EINVAL, "%s is truncated: a segment ends past the end of the file",
                             l->boot->kernel.path);
        if (type == PT_NOTE) {
            if (e->nnotes < BOOT_MAX_SEGMENTS)
                e->note[e->nnotes++] = s;
            continue;
        }
        if (s.filesz > s.memsz || add_overflows(s.paddr, s.memsz, &end))
            return damaged(l, "a segment's sizes contradict each other");
        if (e->nsegments == BOOT_MAX_SEGMENTS)
            return damaged(l, "it has too many segments");
        e->segment[e->nsegments++] = s;
        e->end = MAX(e->end, end);
    }
    return e->nsegments ? 0 : damaged(l, "nothing in it is to be loaded");
}

int elf_load(struct load *l, const struct elf_image *e)
{
    int rc = 0;
    for (u32 i = 0; i < e->nsegments && !rc; i++) {
        const struct elf_segment *s = &e->segment[i];
        if (!(rc = load_claim(l, s->paddr, s->memsz, "segment")) &&
            !(rc = load_file(l, &l->boot->kernel, s->offset, s->paddr, s->filesz)))
            rc = load_zero(l, s->paddr + s->filesz, s->memsz - s->filesz);
    }
    return rc;
}

/* Finds the note's entry point: 0 found, 1 no such note, -errno. Each note is: namesz, descsz, type, name, desc,
   padded to 4. */
static int pvh_entry(struct load *l, const struct elf_image *e, u64 *entry)
{
    u8 n[12 + 4 + 8];
    for (u32 i = 0; i < e->nnotes; i++) {
        const struct elf_segment *s = &e->note[i];
        u64 size = MIN(s->filesz, NOTES_MAX);
        for (u64 at = 0; at + 12 <= size;) {
            u64 have = MIN(sizeof n, size - at);
            memset(n, 0, sizeof n);
            int rc = boot_file_read(&l->boot->kernel, s->offset + at, n, have, l->err);
            if (rc)
                return rc;
            u64 namesz = get32(n), descsz = get32(n + 4);
            if (namesz == 4 && get32(n + 8) == XEN_ELFNOTE_PHYS32_ENTRY && !memcmp(n + 12, "Xen", 4) &&
                (descsz == 4 || descsz == 8) && have >= 16 + descsz) {
                *entry = descsz == 8 ? get64(n + 16) : get32(n + 16);
                return 0;
            }
            at += 12 + align_up(namesz, 4) + align_up(descsz, 4);
        }
    }
    return 1;
}

/* struct hvm_start_info, version 1, then its memory map, one module, the command line. */
int pvh_load(struct load *l)
{
    struct elf_image e;
    struct boot *b = l->boot;
    u64 entry = 0, info, gdt, module = 0;
    u8 page[4096] = { 0 };
    enum { MAGIC = 0x336ec578, MODULES = 56, MAP = 96, CMDLINE = 2048 };
    int rc = elf_parse(l, &e);

    if (rc || (rc = pvh_entry(l, &e, &entry)) < 0)
        return rc;
    if (rc == 1)
        return error_set(l->err, ENOEXEC,
                         "%s is an ELF file without a PVH note or a Multiboot header: give the bzImage, or build it "
                         "with CONFIG_PVH",
                         b->kernel.path);
    if (entry >= GiB(4))
        return error_set(l->err, EINVAL, "%s is not a bootable ELF file: its PVH entry is above 4 GiB", b->kernel.path);
    if (strlen(b->append) >= sizeof page - CMDLINE)
        return error_set(l->err, E2BIG, "the command line has %zu characters; at most %zu fit here",
                         strlen(b->append), sizeof page - CMDLINE - 1);

    if ((rc = elf_load(l, &e)) || (rc = load_modules(l, false)) ||
        (rc = load_find(l, sizeof page, 4096, 0x1000, 0xa0000, false, "start info", &info)) ||
        (rc = load_find(l, BOOT_GDT_SIZE, 16, 0x1000, 0xa0000, false, "GDT", &gdt)))
        return rc;
    if (b->nmodules) {
        const struct boot_file *f = &b->module[0].file;
        if ((rc = load_find(l, f->size, 4096, MiB(1), GiB(4), true, "initrd", &module)) ||
            (rc = load_file(l, f, 0, module, f->size)))
            return rc;
        put64(page + MODULES, module), put64(page + MODULES + 8, f->size);
    }
    u32 nmap = MIN(l->env->nmap, (CMDLINE - MAP) / 24);
    for (u32 i = 0; i < nmap; i++) {
        put64(page + MAP + i * 24, l->env->map[i].addr);
        put64(page + MAP + i * 24 + 8, l->env->map[i].size);
        put32(page + MAP + i * 24 + 16, l->env->map[i].type);
    }
    memcpy(page + CMDLINE, b->append, strlen(b->append) + 1);
    put32(page, MAGIC), put32(page + 4, 1);
    put32(page + 12, b->nmodules ? 1 : 0), put64(page + 16, b->nmodules ? info + MODULES : 0);
    put64(page + 24, info + CMDLINE), put64(page + 32, l->env->rsdp);
    put64(page + 40, info + MAP), put32(page + 48, nmap);

    if ((rc = load_bytes(l, info, page, sizeof page)) || (rc = enter_protected(l, gdt, (u32)entry)))
        return rc;
    l->bsp->gpr[RBX] = info;
    b->protocol = "ELF, PVH entry";
    return 0;
}
