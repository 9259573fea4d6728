/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ssdt.c - AML for what differs from machine to machine: a device object each for processors, virtio-mmio devices and those plugged in.
 * Encodings: ACPI 6.5 ch. 20.2 (AML), 6.4 (resource descriptors).
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "devices/device.h"
#include "machine/micro.h"
#include "machine/tables.h"

enum { SCOPE_OP = 0x10, BUFFER_OP = 0x11, NAME_OP = 0x08, BYTE_PREFIX = 0x0a, STRING_PREFIX = 0x0d, EXT_OP_PREFIX = 0x5b,
       DEVICE_OP = 0x82, ROOT_CHAR = '\\' };

struct aml {
    u8 *p;
    u32 len, cap;
};

static void bytes(struct aml *a, const void *p, u32 n)
{
    assert(a->len + n <= a->cap);
    memcpy(a->p + a->len, p, n);
    a->len += n;
}

static void byte(struct aml *a, u8 v) { bytes(a, &v, 1); }
static void dword(struct aml *a, u32 v) { bytes(a, &v, 4); }

/* PkgLength in three bytes, whatever it comes to; returns where it is, for end(). */
static u32 begin(struct aml *a)
{
    bytes(a, "\0\0", 3);
    return a->len - 3;
}

static void end(struct aml *a, u32 at)
{
    u32 n = a->len - at;
    a->p[at] = (u8)(2 << 6 | (n & 0xf)), a->p[at + 1] = (u8)(n >> 4), a->p[at + 2] = (u8)(n >> 12);
}

static void name(struct aml *a, const char *segment)
{
    byte(a, NAME_OP), bytes(a, segment, 4);
}

static u32 device(struct aml *a, char kind, u32 n, const char *hid)
{
    char segment[5];
    snprintf(segment, sizeof segment, "%c%03X", kind, n & 0xfff);
    byte(a, EXT_OP_PREFIX), byte(a, DEVICE_OP);
    u32 at = begin(a);
    bytes(a, segment, 4);
    name(a, "_HID"), byte(a, STRING_PREFIX), bytes(a, hid, (u32)strlen(hid) + 1);
    name(a, "_UID"), byte(a, BYTE_PREFIX), byte(a, (u8)n);
    return at;
}

static void virtio_mmio(struct aml *a, u32 n)
{
    enum { MEMORY32_FIXED = 0x86, EXTENDED_INTERRUPT = 0x89, END_TAG = 0x79, CRS_SIZE = 12 + 9 + 2 };
    u32 at = device(a, 'V', n, "LNRO0005");
    name(a, "_CRS"), byte(a, BUFFER_OP);
    u32 crs = begin(a);
    byte(a, BYTE_PREFIX), byte(a, CRS_SIZE);
    bytes(a, (u8[]){ MEMORY32_FIXED, 9, 0, 1 /* read-write */ }, 4);
    dword(a, (u32)(MICRO_VIRTIO_BASE + n * MICRO_VIRTIO_SIZE)), dword(a, MICRO_VIRTIO_SIZE);
    bytes(a, (u8[]){ EXTENDED_INTERRUPT, 6, 0, 1 /* consumer, level, active high, exclusive */, 1 }, 5);
    dword(a, MICRO_VIRTIO_GSI + n);
    byte(a, END_TAG), byte(a, 0);
    end(a, crs);
    end(a, at);
}

u32 acpi_ssdt(u8 *to, u32 cap, const struct acpi_config *c)
{
    struct aml a = { to, 0, cap };
    u32 processors = c->reduced ? 0 : c->cpus; /* the MADT has them all; these are for what a micro has not: C-states */

    byte(&a, SCOPE_OP);
    u32 at = begin(&a);
    byte(&a, ROOT_CHAR), bytes(&a, "_SB_", 4);
    const u32 empty = a.len;

    for (u32 i = 0; i < processors; i++)
        end(&a, device(&a, 'C', i, "ACPI0007")); /* _UID is that of the MADT */
    for (u32 i = 0; i < c->virtio_mmio; i++)
        virtio_mmio(&a, i);
    for (u32 i = 0; i < c->ndevices; i++)
        if (c->device[i]->class->aml)
            a.len += c->device[i]->class->aml(c->device[i], a.p + a.len, a.cap - a.len);
    if (a.len == empty) {
        memset(to, 0, a.len);
        return 0;
    }
    end(&a, at);
    return a.len;
}
