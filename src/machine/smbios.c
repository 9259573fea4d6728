/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smbios.c - SMBIOS 2.8 structures (DMTF DSP0134): what the machine calls itself, its processors and its memory.  Read by
 * systems that start from firmware, and put in memory for those that do not.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lodge_config.h"
#include "machine/tables.h"

enum { TYPE_BIOS = 0, TYPE_SYSTEM = 1, TYPE_CHASSIS = 3, TYPE_PROCESSOR = 4, TYPE_MEMORY_ARRAY = 16, TYPE_MEMORY = 17,
       TYPE_MEMORY_MAP = 19, TYPE_BOOT = 32, TYPE_END = 127 };
enum { HANDLE_ARRAY = 0x1000, UNKNOWN = 2, SAFE = 3, NONE = 0xfffe };

/* A structure of len bytes and its strings; a later field names them by number. Returns where it begins. */
static u8 *structure(struct smbios *s, u8 type, u8 len, u16 handle, const char *const *strings)
{
    u8 *p = s->data + s->len, *end = p + len;

    p[0] = type, p[1] = len;
    put(p + 2, handle, 2);
    for (; strings && *strings; strings++)
        end += snprintf((char *)end, 64, "%.63s", *strings) + 1;
    if (end == p + len)
        end++; /* no strings at all are two zeroes */
    end++;
    s->largest = MAX(s->largest, (u16)(end - p));
    s->len = (u16)(end - s->data);
    s->count++;
    return p;
}

static void memory_device(struct smbios *s, u32 n, u64 size)
{
    char where[16];
    u8 *p;

    snprintf(where, sizeof where, "DIMM %u", n);
    p = structure(s, TYPE_MEMORY, 40, (u16)(0x1100 + n), (const char *[]){ where, "Lodge", NULL });
    put(p + 4, HANDLE_ARRAY, 2);
    put(p + 6, NONE, 2); /* no error information */
    put(p + 8, 0xffff, 2), put(p + 10, 0xffff, 2); /* widths unknown */
    if (size >> 20 < 0x7fff)
        put(p + 12, size >> 20, 2);
    else
        put(p + 12, 0x7fff, 2), put(p + 28, size >> 20, 4);
    p[14] = 9; /* DIMM */
    p[16] = 1; /* "DIMM n" */
    p[18] = 7; /* RAM */
    put(p + 19, 1 << 1, 2); /* other */
    p[23] = 2;
}

static void mapped_range(struct smbios *s, u32 n, u64 from, u64 size)
{
    u8 *p = structure(s, TYPE_MEMORY_MAP, 31, (u16)(0x1300 + n), NULL);

    if ((from + size - 1) >> 10 < UINT32_MAX) {
        put(p + 4, from >> 10, 4);
        put(p + 8, (from + size - 1) >> 10, 4);
    } else {
        put(p + 4, UINT32_MAX, 4), put(p + 8, UINT32_MAX, 4);
        put(p + 15, from, 8), put(p + 23, from + size - 1, 8);
    }
    put(p + 12, HANDLE_ARRAY, 2);
    p[14] = 1;
}

void smbios_build(struct smbios *s, const struct smbios_config *c)
{
    const u64 device_max = GiB(1024);
    const u64 ram = c->low_ram + c->high_ram;
    const u32 devices = (u32)((ram + device_max - 1) / device_max);
    u8 *p;

    memset(s, 0, sizeof *s);
    p = structure(s, TYPE_BIOS, 24, 0, (const char *[]){ "Lodge", LODGE_VERSION, "01/01/2026", NULL });
    p[4] = 1, p[5] = 2, p[8] = 3;
    put(p + 6, 0xe800, 2);           /* segment; 96 KiB */
    put(p + 10, 1 << 3 | 1 << 7, 8); /* what follows is not supported; PCI is */
    p[19] = 1 << 2 | 1 << 4;         /* targeted content; a virtual machine */
    p[20] = p[21] = 0;
    p[22] = p[23] = 0xff;
    p = structure(s, TYPE_SYSTEM, 27, 0x100, (const char *[]){ "Lodge", "Virtual machine", LODGE_VERSION, NULL });
    p[4] = 1, p[5] = 2, p[6] = 3;
    p[24] = 6; /* woken by the power switch; no UUID */
    p = structure(s, TYPE_CHASSIS, 21, 0x300, (const char *[]){ "Lodge", NULL });
    p[4] = 1, p[5] = 1; /* other */
    p[9] = p[10] = p[11] = SAFE, p[12] = UNKNOWN;
    for (u32 i = 0; i < c->cpus; i++) {
        char socket[16];
        snprintf(socket, sizeof socket, "CPU %u", i);
        p = structure(s, TYPE_PROCESSOR, 42, (u16)(0x400 + i), (const char *[]){ socket, "Lodge", NULL });
        p[4] = 1, p[5] = 3, p[6] = 1, p[7] = 2; /* a central processor, family other */
        put(p + 8, c->cpu_signature, 4), put(p + 12, c->cpu_features, 4);
        put(p + 20, c->mhz, 2), put(p + 22, c->mhz, 2);
        p[24] = 0x41; /* populated, enabled */
        p[25] = 1;
        put(p + 26, 0xffff, 2), put(p + 28, 0xffff, 2), put(p + 30, 0xffff, 2);
        p[35] = p[36] = p[37] = 1; /* cores, enabled, threads */
        put(p + 40, 1, 2);
    }
    p = structure(s, TYPE_MEMORY_ARRAY, 23, HANDLE_ARRAY, NULL);
    p[4] = 1, p[5] = 3, p[6] = 3; /* system memory, no ECC */
    if (ram >> 10 < 0x80000000)
        put(p + 7, ram >> 10, 4);
    else
        put(p + 7, 0x80000000, 4), put(p + 15, ram, 8);
    put(p + 11, NONE, 2);
    put(p + 13, devices, 2);
    for (u32 i = 0; i < devices; i++)
        memory_device(s, i, MIN(ram - i * device_max, device_max));
    mapped_range(s, 0, 0, c->low_ram);
    if (c->high_ram)
        mapped_range(s, 1, GiB(4), c->high_ram);
    structure(s, TYPE_BOOT, 11, 0x2000, NULL);
    structure(s, TYPE_END, 4, 0x7f00, NULL);
}

void smbios_anchor(u8 a[SMBIOS_ANCHOR_SIZE], const struct smbios *s, u32 address)
{
    memset(a, 0, SMBIOS_ANCHOR_SIZE);
    memcpy(a, "_SM_", 4);
    a[5] = SMBIOS_ANCHOR_SIZE, a[6] = 2, a[7] = 8;
    put(a + 8, s->largest, 2);
    memcpy(a + 16, "_DMI_", 5);
    put(a + 22, s->len, 2);
    put(a + 24, address, 4);
    put(a + 28, s->count, 2);
    a[30] = 0x28;
    a[21] = checksum(a + 16, 15);
    a[4] = checksum(a, SMBIOS_ANCHOR_SIZE);
}

int smbios_write(struct memory *m, const struct smbios_config *c, struct error *err)
{
    struct smbios s;
    u8 anchor[SMBIOS_ANCHOR_SIZE];

    smbios_build(&s, c);
    smbios_anchor(anchor, &s, SMBIOS_BASE + 32);
    return memory_load(m, SMBIOS_BASE, anchor, sizeof anchor) || memory_load(m, SMBIOS_BASE + 32, s.data, s.len)
               ? error_set(err, E2BIG, "the guest's memory has no room for SMBIOS tables")
               : 0;
}
