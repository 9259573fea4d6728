/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices_ata_hammer.c - anything to the registers and structures of IDE and AHCI (run it under -Db_sanitize=address,undefined).
 * At times the state is saved and loaded, once as it is and once with a bit turned over; then it must load or be refused, and
 * go on.
 */
#include "ata_hostile.h"

static u64 seed = 0x123456789abcdef;
static u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Command tables that a driver could have made, most of them. */
static void structures(struct hostile *h)
{
    for (u32 slot = 0; slot < 32; slot++) {
        const u32 table = 0x10000 + slot * 0x1000, prds = rnd() % 8;
        static const u8 commands[] = { 0x60, 0x61, 0x25, 0x35, 0x24, 0x34, 0xec, 0xa0, 0xa1, 0x06, 0xea, 0xef, 0x2f, 0xb0, 0xc5, 0xc4 };
        const u8 cmd = rnd() % 8 ? commands[rnd() % sizeof commands] : (u8)rnd();
        u8 f[20] = { 0x27, 0x80, cmd };
        for (u32 i = 3; i < 16; i++)
            f[i] = rnd() & 1 ? (u8)rnd() : 0;
        if (cmd == 0x60 || cmd == 0x61)
            f[12] = (u8)(slot << 3);
        if (rnd() % 16 == 0)
            f[1] = 0, f[15] = (u8)rnd();
        memcpy(ram(&h->r, table, 20), f, 20);
        static const u8 cdbs[] = { 0x28, 0xa8, 0xbe, 0x12, 0x43, 0x46, 0x4a, 0x5a, 0x1b, 0x1e, 0x25, 0x03, 0xad, 0x51, 0x52, 0xb9 };
        for (u32 i = 0; i < 12; i++)
            *ram(&h->r, table + 0x40 + i, 1) = rnd() % 3 ? 0 : (u8)rnd();
        *ram(&h->r, table + 0x40, 1) = cdbs[rnd() % sizeof cdbs];
        for (u32 i = 0; i < prds; i++) {
            put32(&h->r, table + 0x80 + i * 16, rnd() % 64 ? (u32)rnd() % 0x800000 : (u32)rnd());
            put32(&h->r, table + 0x84 + i * 16, 0);
            put32(&h->r, table + 0x8c + i * 16, (u32)rnd() & (rnd() & 1 ? 0x3fffff : 0xfff));
        }
        put32(&h->r, slot * 32, 5 | ((u32)rnd() & 0x460) | prds << 16);
        put32(&h->r, slot * 32 + 8, rnd() % 32 ? table : (u32)rnd());
        put32(&h->r, slot * 32 + 12, 0);
    }
    for (u32 i = 0; i < 128; i++) {
        put32(&h->r, 0x2000 + i * 8, (u32)rnd() % 0x800000);
        put32(&h->r, 0x2004 + i * 8, (u32)rnd() & (rnd() % 8 ? 0x7fffffff : 0xffffffff));
    }
}

/* A command to IDE as a driver would, by DMA or not. */
static void ide_command(struct hostile *h)
{
    static const u8 commands[] = { 0x20, 0x24, 0x25, 0x30, 0x34, 0x35, 0x29, 0x39, 0x40, 0xc8, 0xca, 0xec, 0xa0, 0xa0, 0xa1, 0xef,
                                   0xe7, 0x06, 0x91, 0xc6, 0xb0, 0x90, 0x08, 0xc4, 0xc5 };
    const u16 base = rnd() & 1 ? 0x1f0 : 0x170;

    bus_write(h->r.ports, base + 6, 1, 0x40 | (rnd() & 0x1f));
    for (u32 i = 1; i < 6; i++)
        bus_write(h->r.ports, base + i, 1, rnd() & 1 ? rnd() & 0xff : rnd() & 7);
    if (rnd() & 1)
        bus_write(h->r.ports, 0xc004 + (base == 0x170 ? 8 : 0), 4, 0x2000);
    bus_write(h->r.ports, base + 7, 1, commands[rnd() % sizeof commands]);
    if (rnd() & 1)
        bus_write(h->r.ports, 0xc000 + (base == 0x170 ? 8 : 0), 1, rnd() & 9);
}

static void steps(struct hostile *h, u32 n)
{
    for (u32 i = 0; i < n; i++) {
        if (rnd() % 64 == 0)
            structures(h);
        else if (rnd() % 4 == 0)
            ide_command(h);
        else
            hostile_step(h, (u8)rnd(), (u8)rnd(), rnd() & 1 ? (u32)rnd() : 1u << (rnd() & 31));
    }
}

TEST(hammer)
{
    const u32 rounds = getenv("HAMMER_ROUNDS") ? (u32)atoi(getenv("HAMMER_ROUNDS")) : 400;
    struct hostile *h = hostile_new(), *other;
    struct error err;
    u32 accepted = 0, refused = 0;

    seed = test_seed(seed);
    for (u32 i = 0; i < rounds; i++) {
        struct state_buf one = { 0 }, two = { 0 };
        steps(h, 1 + (u32)rnd() % 400);
        ide_settle(&h->ide);
        ahci_settle(&h->ahci);
        CHECK_EQ(state_save(h->r.state, &one, &err), 0);
        hostile_free(h);
        other = hostile_new();
        if (state_load(other->r.state, one.data, one.len, &err))
            CHECK_STR(err.text, "no error");
        CHECK_EQ(state_save(other->r.state, &two, &err), 0);
        CHECK(one.len == two.len);
        ide_resume(&other->ide);
        ahci_resume(&other->ahci);
        h = other;
        if (i % 16 == 0) { /* a hostile stream, for a machine of its own */
            for (u32 k = 0; k < 1 + rnd() % 4; k++)
                one.data[rnd() % one.len] ^= (u8)(1u << (rnd() & 7));
            hostile_free(h);
            h = hostile_new();
            if (state_load(h->r.state, one.data, one.len, &err)) { /* half-loaded: only a reset helps */
                ide_reset(&h->ide);
                ahci_reset(&h->ahci);
                refused++;
            } else {
                accepted++;
            }
            ide_resume(&h->ide);
            ahci_resume(&h->ahci);
        }
        state_buf_free(&one);
        state_buf_free(&two);
    }
    hostile_free(h);
    for (u32 i = 0; i < NDISKS; i++)
        CHECK_EQ(hostile_disk[i]->n, 0);
    printf("%u altered streams loaded, %u refused\n", accepted, refused);
}
