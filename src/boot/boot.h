/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h - puts a kernel into guest memory and says how the boot processor starts.
 *
 * The protocols are tried in this order: Linux bzImage by its 64-bit or 32-bit entry
 * (linux/Documentation/arch/x86/boot.rst), Multiboot 1 (specification 0.6.96), ELF with a PVH note
 * (xen/docs/misc/pvh.pandoc).
 *
 * boot_open opens the files once; boot_load reads them again at every reset of the machine. The files are hostile:
 * whatever is in them, the result is a loaded kernel or one sentence. One thread at a time.
 */
#ifndef LODGE_BOOT_BOOT_H
#define LODGE_BOOT_BOOT_H

#include "base/base.h"
#include "base/error.h"
#include "cpu/cpu.h"
#include "memory/memory.h"

/* The types of e820. The numbers are the same in Linux, Multiboot and PVH maps. */
enum boot_map_type { BOOT_MAP_RAM = 1, BOOT_MAP_RESERVED = 2, BOOT_MAP_ACPI = 3, BOOT_MAP_NVS = 4 };
struct boot_map_entry {
    u64 addr, size;
    u32 type;
};

/* The machine as the loader sees it. map is sorted; its RAM entries are all of the memory. */
struct boot_env {
    struct memory *memory;
    const struct boot_map_entry *map;
    u32 nmap;
    u64 rsdp; /* guest-physical address of the ACPI root pointer, 0: none */
    bool no_long_mode; /* the processor has no long mode: even a 64-bit kernel is entered at its 32-bit entry, and
                          then reports the problem */
    bool no_random; /* give the kernel no random seed, for runs that must be repeatable */
    bool text_mode; /* a VGA is in its text mode of 80x25 characters, and Linux is told so */
};

struct boot_params { /* the strings must outlive the result of boot_open */
    const char *kernel;
    const char *initrd; /* or NULL; for Multiboot "file1 args,file2": modules */
    const char *append; /* or NULL */
};

struct boot;
struct boot *boot_open(const struct boot_params *p, struct error *err);
void boot_close(struct boot *b);
/* Fills memory and *bsp. It resets *bsp first. */
int must_check boot_load(struct boot *b, const struct boot_env *env, struct cpu_state *bsp, struct error *err);
/* "Linux bzImage, 64-bit entry" and so on, after boot_load. */
const char *boot_protocol(const struct boot *b);

#endif
