/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h - puts a kernel into guest memory and says how the boot processor starts.
 *
 * Protocols, tried in this order: Linux bzImage by its 64-bit or 32-bit entry (linux/Documentation/arch/x86/
 * boot.rst), Multiboot 1 (specification 0.6.96), ELF with a PVH note (xen/docs/misc/pvh.pandoc).
 *
 * The files are opened once, by boot_open; boot_load reads them again at every reset of the machine.
 * They are hostile: whatever is in them, the result is a loaded kernel or one sentence.
 * One thread at a time.
 */
#ifndef LODGE_BOOT_BOOT_H
#define LODGE_BOOT_BOOT_H

#include "base/base.h"
#include "base/error.h"
#include "cpu/cpu.h"
#include "memory/memory.h"

/* What e820 says: the numbers are the same in Linux, Multiboot and PVH maps. */
enum boot_map_type { BOOT_MAP_RAM = 1, BOOT_MAP_RESERVED = 2, BOOT_MAP_ACPI = 3, BOOT_MAP_NVS = 4 };
struct boot_map_entry {
    u64 addr, size;
    u32 type;
};

/* The machine as the loader sees it; map is sorted, RAM entries are all memory. */
struct boot_env {
    struct memory *memory;
    const struct boot_map_entry *map;
    u32 nmap;
    u64 rsdp; /* guest-physical address of the ACPI root pointer, 0: none */
    bool no_long_mode; /* the processor has none: the 32-bit entry even of a 64-bit kernel, which then says so */
    bool no_random; /* give the kernel no random seed: runs that must repeat */
    bool text_mode; /* a VGA is in its text mode of 80x25 characters, which Linux is told */
};

struct boot_params { /* strings outlive boot_open's result */
    const char *kernel;
    const char *initrd; /* or NULL; for Multiboot "file1 args,file2": modules */
    const char *append; /* or NULL */
};

struct boot;
struct boot *boot_open(const struct boot_params *p, struct error *err);
void boot_close(struct boot *b);
/* Fills memory and *bsp (which is reset first). */
int must_check boot_load(struct boot *b, const struct boot_env *env, struct cpu_state *bsp, struct error *err);
/* "Linux bzImage, 64-bit entry" and so on, after boot_load. */
const char *boot_protocol(const struct boot *b);

#endif
