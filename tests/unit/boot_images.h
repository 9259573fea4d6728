/* SPDX-License-Identifier: Apache-2.0 */
/* boot_images.h - the smallest kernels of each protocol, in a buffer of 4096 bytes; each returns the file's length. */
#ifndef LODGE_TEST_BOOT_IMAGES_H
#define LODGE_TEST_BOOT_IMAGES_H

#include <string.h>

#include "base/base.h"

static void p16(u8 *p, u16 v) { memcpy(p, &v, 2); }
static void p32(u8 *p, u32 v) { memcpy(p, &v, 4); }
static void p64(u8 *p, u64 v) { memcpy(p, &v, 8); }

/* A bzImage of one setup sector and 64 bytes of code. */
static size_t bzimage(u8 *k, bool is64)
{
    memset(k, 0, 4096);
    k[0x1f1] = 1;
    p32(k + 0x1f4, 4);
    p16(k + 0x1fe, 0xaa55);
    k[0x201] = 0x66;
    memcpy(k + 0x202, "HdrS", 4);
    p16(k + 0x206, 0x20f);
    k[0x211] = 1;
    p32(k + 0x214, 0x100000);
    p32(k + 0x22c, 0x7fffffff);
    p32(k + 0x230, 0x200000);
    k[0x234] = 1;
    p16(k + 0x236, is64);
    p32(k + 0x238, 100);
    p64(k + 0x258, MiB(16));
    p32(k + 0x260, 0x10000);
    memset(k + 1024, 0xcd, 64);
    return 1024 + 64;
}

/* One ELF: a header, one PT_LOAD at 2 MiB whose bytes are the file from offset 0, optionally a note with a PVH entry. */
static size_t elf(u8 *k, bool is64, bool note, bool multiboot)
{
    unsigned eh = is64 ? 64 : 52, ph = is64 ? 56 : 32;
    memset(k, 0, 4096);
    memcpy(k, "\177ELF", 4);
    k[4] = is64 ? 2 : 1, k[5] = 1, k[6] = 1;
    p16(k + 16, 2), p16(k + 18, is64 ? 62 : 3);
    for (unsigned i = 0; i < 2; i++) {
        u8 *p = k + eh + i * ph;
        u64 off = i ? 512 : 0, addr = i ? 0 : MiB(2), filesz = i ? 20 : 1024, memsz = i ? 20 : 8192;
        p32(p, i ? 4 : 1);
        if (is64)
            p64(p + 8, off), p64(p + 16, addr + (i ? 0 : 0xc0000000)), p64(p + 24, addr), p64(p + 32, filesz),
                p64(p + 40, memsz);
        else
            p32(p + 4, (u32)off), p32(p + 8, (u32)(addr + 0xc0000000)), p32(p + 12, (u32)addr),
                p32(p + 16, (u32)filesz), p32(p + 20, (u32)memsz);
    }
    if (is64)
        p64(k + 24, 0xc0200300), p64(k + 32, eh), p16(k + 54, (u16)ph), p16(k + 56, note ? 2 : 1);
    else
        p32(k + 24, 0xc0200300), p32(k + 28, eh), p16(k + 42, (u16)ph), p16(k + 44, note ? 2 : 1);
    p32(k + 512, 4), p32(k + 516, 4), p32(k + 520, 18), memcpy(k + 524, "Xen", 4), p32(k + 528, 0x200400);
    if (multiboot)
        p32(k + 768, 0x1badb002), p32(k + 772, 3), p32(k + 776, -(0x1badb002u + 3));
    return 1024;
}

/* Not ELF: loaded by the addresses in its Multiboot header. */
static size_t kludge(u8 *k)
{
    memset(k, 0x11, 1024);
    p32(k + 64, 0x1badb002), p32(k + 68, 0x10003), p32(k + 72, -(0x1badb002u + 0x10003));
    p32(k + 76, MiB(1) + 64), p32(k + 80, MiB(1)), p32(k + 84, 0), p32(k + 88, MiB(1) + 8192),
        p32(k + 92, MiB(1) + 512);
    return 1024;
}

#endif
