/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ata.c - disks and CD drives on IDE and AHCI against a hostile guest.
 *
 *   byte 0        number of steps / 8, then six bytes each: what, where, a value (hostile_step)
 *   the rest      guest memory from its start
 */
#include "../unit/ata_hostile.h"
#include "fuzz.h"

void test_fail(const char *file, int line, const char *fmt, ...) { abort(); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hostile *h; /* made anew it would be most of the time */
    struct error err;
    const u32 steps = size ? MIN(data[0] * 8u, (u32)(size - 1) / 6) : 0, used = size ? 1 + steps * 6 : 0;

    if (!h)
        h = hostile_new();
    hostile_reset(h);
    memset(ram(&h->r, 0, HOSTILE_RAM), 0, HOSTILE_RAM);
    memcpy(ram(&h->r, 0, HOSTILE_RAM), data + used, MIN(size - used, (size_t)HOSTILE_RAM));
    for (u32 i = 0; i < steps; i++) {
        const u8 *s = data + 1 + i * 6;
        u32 v;
        memcpy(&v, s + 2, 4);
        hostile_step(h, s[0], s[1], v);
    }
    ide_settle(&h->ide);
    ahci_settle(&h->ahci);
    for (u32 i = 0; i < NDISKS; i++)
        if (hostile_disk[i]->n)
            abort();
    for (u32 i = 0; i < NDRIVES; i++) {
        struct block *first = i == 2 ? hostile_disk[2] : NULL;
        if (h->drive[i] && h->drive[i]->c.cdrom && ata_change_medium(h->drive[i], h->disc[i] = first, true, &err))
            abort();
    }
    turns(NULL);
    return 0;
}

static u8 *step(u8 *p, u8 op, u8 where, u32 v)
{
    p[0] = op;
    p[1] = where;
    memcpy(p + 2, &v, 4);
    return p + 6;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const u8 ide[] = { 0x20, 0x25, 0x34, 0x35, 0xc8, 0xa0, 0xa1, 0xec };
    static const u8 ahci[] = { 0x60, 0x61, 0x25, 0x34, 0xec, 0xa0 };
    u8 *p = buf + 1;

    if (i >= sizeof ide + sizeof ahci)
        return 0;
    memset(buf, 0, 1 + 48 * 6 + 0x4000);
    if (i < sizeof ide) {
        const u8 second = i & 1 ? 0x40 : 0;
        p = step(p, 0, 0x16 | second, 0x40);
        p = step(p, 0, 0x12 | second, 3);
        p = step(p, 0, 0x13 | second, i);
        p = step(p, 4, second ? 12 : 4, 0x2000);
        p = step(p, 0, 0x17 | second, ide[i]);
        p = step(p, 4, second ? 8 : 0, 9);
    } else {
        p = step(p, 5, 0x00, 0x0);
        p = step(p, 5, 0x02, 0x800);
        p = step(p, 9, i & 1, 1);
    }
    for (u32 k = 0; k < 8; k++) {
        p = step(p, 10, 0, 0);
        for (u32 b = 0; b < NDISKS; b++)
            p = step(p, 11, (u8)b, 0);
        p = step(p, 3, (u8)((i & 4) | (i & 1) << 3 | 1), 7);
    }
    buf[0] = (u8)((p - buf - 1) / 48);
    u8 *m = buf + 1 + buf[0] * 48;
    const u32 header[4] = { 5 | 1 << 16 | 0x20, 0, 0x1000, 0 }, prd[4] = { 0x8000, 0, 0, 0xfff }, bm[2] = { 0x8000, 0x80001000 };
    memcpy(m, header, sizeof header);
    const u8 f[20] = { 0x27, 0x80, ahci[i % sizeof ahci], 1, 5, 0, 0, 0x40 };
    memcpy(m + 0x1000, f, sizeof f);
    m[0x1040] = 0x28, m[0x1048] = 1;
    memcpy(m + 0x1080, prd, sizeof prd);
    memcpy(m + 0x2000, bm, sizeof bm);
    return (size_t)(m - buf) + 0x3000;
}
