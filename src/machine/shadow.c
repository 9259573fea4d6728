/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow.c - C0000h-FFFFFh as the host bridge's PAM registers have it (82441FX 3.2.19): each of 12 segments of 16 KiB and
 * the last 64 KiB reads from RAM or from the PCI bus, and writes go to RAM or to the bus, in all four ways.  On the bus is
 * the end of the firmware, which there is also below 4 GiB.
 *
 * Where reads are RAM's or the firmware's that is guest memory, read-only if writes go elsewhere; what writes and reads are
 * left come to the range of the bus that is here.
 */
#include <string.h>

#include "machine/internal.h"

enum { SEGMENTS = 13, READ_RAM = 1, WRITE_RAM = 2 };

static u64 segment_at(u32 n)
{
    return PAM_BASE + n * KiB(16);
}

static u32 mode(const struct machine *m, u32 n)
{
    const u8 *pam = m->i440fx.host.config + I440FX_PAM0;
    const u32 reg = n == SEGMENTS - 1 ? 0 : 1 + n / 2, shift = n == SEGMENTS - 1 || n % 2 ? 4 : 0;
    return __atomic_load_n(&pam[reg], __ATOMIC_RELAXED) >> shift & 3;
}

/* The firmware's part that is seen here, or NULL. */
static const struct memory_piece *rom(const struct machine *m, u64 gpa, u64 *offset)
{
    const struct memory_piece *p = m->bios;
    if (!p || gpa < 0xe0000 || p->size < MiB(1) - gpa)
        return NULL;
    *offset = p->size - (MiB(1) - gpa);
    return p;
}

void shadow_update(void *machine)
{
    struct machine *m = machine;

    for (u32 n = 0; n < SEGMENTS; n++) {
        const u64 gpa = segment_at(n), size = machine_pam_size(gpa);
        const u32 how = mode(m, n);
        u64 offset = gpa;
        const struct memory_piece *p = how & READ_RAM ? m->ram_piece : rom(m, gpa, &offset);
        const bool readonly = how != (READ_RAM | WRITE_RAM);

        if (!p)
            memory_unmap(m->memory, gpa);
        else if (memory_remap(m->memory, gpa, p, offset, readonly))
            (void)!memory_map(m->memory, gpa, size, p, offset, readonly); /* it was here before, so there is room */
    }
}

static u64 shadow_read(void *p, u64 offset, unsigned size)
{
    return UINT64_MAX; /* nobody on the bus claims it */
}

static void shadow_write(void *p, u64 offset, unsigned size, u64 value)
{
    struct machine *m = p;
    const u64 gpa = PAM_BASE + offset;

    if (mode(m, (u32)MIN(offset / KiB(16), SEGMENTS - 1ull)) != WRITE_RAM)
        return;
    memcpy(m->ram_piece->host + gpa, &value, size);
    memory_place_written(m->memory, m->ram_piece->place + gpa, size);
}

const struct bus_ops shadow_ops = { shadow_read, shadow_write, 1, 8 };
