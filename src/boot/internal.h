/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - shared by the loaders of boot/: files that are only read, the map of the guest memory that is taken, and
 * the processor states that protocols require.
 */
#ifndef LODGE_BOOT_INTERNAL_H
#define LODGE_BOOT_INTERNAL_H

#include "boot/boot.h"

struct boot_file {
    char *path;
    int fd;
    u64 size;
};
enum { BOOT_MAX_FILES = 32, BOOT_MAX_SEGMENTS = 64, BOOT_MAX_TAKEN = BOOT_MAX_SEGMENTS + BOOT_MAX_FILES + 8 };

/* A module: its file and the command line that goes with it ("name args"). */
struct boot_module {
    struct boot_file file;
    char *line;
};

struct boot {
    struct boot_file kernel;
    const char *initrd, *append;
    struct boot_module module[BOOT_MAX_FILES];
    u32 nmodules;
    const char *protocol;
};

/* One load: the kernel's first bytes, and the guest memory that is taken. */
struct load {
    struct boot *boot;
    const struct boot_env *env;
    struct cpu_state *bsp;
    struct error *err;
    u8 head[32768]; /* the beginning of the kernel file, nhead bytes */
    u32 nhead;
    u32 ntaken;
    struct boot_map_entry taken[BOOT_MAX_TAKEN];
};

int must_check boot_file_open(struct boot_file *f, const char *path, const char *what, struct error *err);
void boot_file_close(struct boot_file *f);
int must_check boot_file_read(const struct boot_file *f, u64 offset, void *buf, u64 len, struct error *err);

/* Claims [addr, addr + size), a place that a file names. It must be RAM and free. what: for the sentence in err. */
int must_check load_claim(struct load *l, u64 addr, u64 size, const char *what);
/* Finds free RAM at or above min and below max, lowest first unless highest, and claims it. */
int must_check load_find(struct load *l, u64 size, u64 align, u64 min, u64 max, bool highest, const char *what,
                         u64 *addr);
/* These copy a part of a file, or bytes, to claimed memory. load_zero clears it, because after a reset RAM is as the
   guest left it. */
int must_check load_file(struct load *l, const struct boot_file *f, u64 offset, u64 addr, u64 len);
int must_check load_bytes(struct load *l, u64 addr, const void *p, u64 len);
int must_check load_zero(struct load *l, u64 addr, u64 len);
/* Opens params.initrd as one module, or as Multiboot's comma-separated list. It does so once for each boot. */
int must_check load_modules(struct load *l, bool many);

/* enter_protected: flat 32-bit protected mode without paging, GDT at gdt (claimed, 32 bytes). enter_long: 64-bit
   mode with 4 GiB mapped one to one by tables at tables (claimed, 6 pages). */
int must_check enter_protected(struct load *l, u64 gdt, u32 eip);
int must_check enter_long(struct load *l, u64 gdt, u64 tables, u64 rip);
enum { BOOT_GDT_SIZE = 40, BOOT_TABLES_SIZE = 6 * 4096 };

/* Little-endian fields at any alignment. */
static inline u16 get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static inline u32 get32(const u8 *p) { return get16(p) | (u32)get16(p + 2) << 16; }
static inline u64 get64(const u8 *p) { return get32(p) | (u64)get32(p + 4) << 32; }
static inline void put16(u8 *p, u16 v) { p[0] = (u8)v, p[1] = (u8)(v >> 8); }
static inline void put32(u8 *p, u32 v) { put16(p, (u16)v), put16(p + 2, (u16)(v >> 16)); }
static inline void put64(u8 *p, u64 v) { put32(p, (u32)v), put32(p + 4, (u32)(v >> 32)); }

/* The loaders. recognize: does the file belong to this protocol? */
bool linux_recognize(const struct load *l);
int must_check linux_load(struct load *l);
bool multiboot_recognize(const struct load *l);
int must_check multiboot_load(struct load *l);

/* The loadable part of an ELF file, checked (elf.c). */
struct elf_segment {
    u64 offset, filesz, memsz, paddr, vaddr;
};
struct elf_image {
    bool is64;
    u64 entry;
    u32 nsegments, nnotes;
    struct elf_segment segment[BOOT_MAX_SEGMENTS], note[BOOT_MAX_SEGMENTS]; /* notes: PT_NOTE */
    u64 end; /* first address above the segments */
};
bool elf_recognize(const struct load *l);
int must_check elf_parse(struct load *l, struct elf_image *e);
int must_check elf_load(struct load *l, const struct elf_image *e);
/* PVH: 0: loaded, 1: there is no note. */
int must_check pvh_load(struct load *l);

#endif
