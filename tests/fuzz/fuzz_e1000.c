/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_e1000.c - the 82540EM against a hostile driver: the input is what it does, 8 bytes each.
 *
 *   0-4 a register (byte 1 chooses) is written with bytes 4-7; 5 is read; 6 memory, 16 bytes at 16 * bytes 2-3, is what
 *   follows; 7 a frame of bytes 2-3's length comes; 8 time passes; 9 the cable refuses or not; 10 saved and loaded
 */
#include "../unit/card_rig.h"
#include "devices/e1000_internal.h"
#include "fuzz.h"

void test_fail(const char *file, int line, const char *fmt, ...) { abort(); }

static const u16 registers[] = {
    CTRL, EECD, EERD, MDIC, VET, ICR, ITR, ICS, IMS, IMC, RCTL, TCTL, RDBAL, RDBAH, RDLEN, RDH, RDT, RDTR, RADV, RSRPD,
    TDBAL, TDLEN, TDH, TDT, TIDV, TADV, RXCSUM, RA, RA + 4, MTA, VFTA, PBA, GPRC, TORH, TDT, RDT, TDT, RDT,
};

static struct e1000 *e;

static void again(void)
{
    struct state_buf one = { 0 };

    if (state_save(rig.state, &one, NULL))
        abort();
    rig_close();
    e1000_free(e);
    rig_open();
    e = e1000_new(&cable, rig.m, NULL, rig.pci, rig.state, 0, NULL);
    if (state_load(rig.state, one.data, one.len, NULL))
        abort();
    pci_remap(rig.pci);
    e1000_resume(e);
    state_buf_free(&one);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&cable, 0, offsetof(struct net, data));
    rig_open();
    memset(rig_at(0, 0x20000), 0, 0x20000);
    e = e1000_new(&cable, rig.m, NULL, rig.pci, rig.state, 0, NULL);
    rig_start(&e->f);
    for (size_t i = 0; i + 8 <= size && i < 4096; i += 8) {
        const u8 *o = data + i;
        const u32 half = (u32)o[2] | (u32)o[3] << 8, value = (u32)o[4] | (u32)o[5] << 8 | (u32)o[6] << 16 | (u32)o[7] << 24;
        const u64 reg = e->f.bar[0].at + registers[o[1] % ARRAY_SIZE(registers)];
        switch (o[0] % 11) {
        case 5: bus_read(rig.mmio, reg, 4); break;
        case 6:
            if (i + 24 <= size)
                memcpy(rig_at(half % 0x2000 * 16, 16), o + 8, 16), i += 16;
            break;
        case 7:
            memcpy(cable.packet + NET_HDR, o + 4, 4);
            cable.packet[0] = o[1] & 3;
            rig_arrive(MAX(half, 14u));
            break;
        case 8: fake_advance(half * 1000ull); break;
        case 9: cable.full = o[1] % 5; cable.user->room(cable.card); break;
        case 10: again(); break;
        default: bus_write(rig.mmio, reg, 4, value); break;
        }
        rig_turns();
    }
    rig_close();
    e1000_free(e);
    rig_turns();
    return 0;
}

static size_t add(u8 *buf, size_t at, u8 op, u16 reg, u16 half, u32 value)
{
    u8 o[8] = { op, 0, (u8)half, (u8)(half >> 8), (u8)value, (u8)(value >> 8), (u8)(value >> 16), (u8)(value >> 24) };

    while (op < 6 && registers[o[1]] != reg)
        o[1]++;
    memcpy(buf + at, o, 8);
    return at + 8;
}

static size_t descriptor(u8 *buf, size_t at, u32 n, u64 address, u64 second)
{
    at = add(buf, at, 6, 0, (u16)(0x100 + n), 0);
    memcpy(buf + at, &address, 8), memcpy(buf + at + 8, &second, 8);
    return at + 16;
}

/* Rings at 1000h; sends of all kinds, and frames that come. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    enum { DEXT = 1 << 29, DATA = 1 << 20, EOP = 1 << 24, TSE = 1 << 26, RS = 1 << 27, IDE = 1u << 31 };
    size_t at = 0;

    if (i > 2 || cap < 1024)
        return 0;
    at = add(buf, at, 0, IMS, 0, 0x1ffff);
    if (i < 2) {
        at = add(buf, at, 0, TDBAL, 0, 0x1000), at = add(buf, at, 0, TDLEN, 0, 128), at = add(buf, at, 0, TCTL, 0, TCTL_EN);
        at = descriptor(buf, at, 0, 14 | 24 << 8 | 33 << 16 | 34ull << 32 | 50ull << 40,
                        DEXT | (i ? 7u : 3u) << 24 | (u64)(54 << 8 | 1000 << 16) << 32);
        at = descriptor(buf, at, 1, 0x4000, DEXT | DATA | 54 | (i ? TSE : 0) | 3ull << 40);
        at = descriptor(buf, at, 2, 0x5000, DEXT | DATA | 3000 | EOP | RS | (i ? TSE : 0) | (u32)IDE);
        at = descriptor(buf, at, 3, 0x4000, 100 | EOP | RS | 1u << 30);
        at = add(buf, at, 6, 0, 0x400, 0);
        memcpy(buf + at, "\x52\x54\0\1\2\3\x52\x54\0\x12\x34\x56\x08\0\x45\0", 16), at += 16;
        at = add(buf, at, 6, 0, 0x401, 0);
        memcpy(buf + at, "\0\0\0\0\0\0\x40\6\0\0\x0a\0\2\x0f\x0a\0", 16), at += 16;
        at = add(buf, at, 6, 0, 0x402, 0);
        memcpy(buf + at, "\2\2\1\1\0\x50\0\0\0\0\0\0\0\0\x50\x18", 16), at += 16;
        at = add(buf, at, 0, TDT, 0, 4);
    } else {
        at = add(buf, at, 0, RDBAL, 0, 0x1000), at = add(buf, at, 0, RDLEN, 0, 128);
        for (u32 n = 0; n < 8; n++)
            at = descriptor(buf, at, n, 0x8000 + 0x800 * n, 0);
        at = add(buf, at, 0, RXCSUM, 0, 0x300), at = add(buf, at, 0, RCTL, 0, RCTL_EN | RCTL_UPE | RCTL_LPE | 3 << 16);
        at = add(buf, at, 0, RDT, 0, 7), at = add(buf, at, 7, 0, 60, 0), at = add(buf, at, 7, 0, 900, 0);
        at = add(buf, at, 0, RDT, 0, 3), at = add(buf, at, 8, 0, 100, 0), at = add(buf, at, 10, 0, 0, 0);
    }
    return at;
}
