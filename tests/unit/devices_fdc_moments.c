/* SPDX-License-Identifier: Apache-2.0 */
/* devices_fdc_moments.c - the floppy controller in between: by port, waiting, reset, with its disk changed, saved. */
#include "fdc_rig.h"

/* What CONFIGURE, SPECIFY and PERPENDICULAR MODE said, the rate and the heads' place, after a reset of either kind. */
TEST(resets)
{
    enum { BY_DOR, BY_DSR, BY_PIN };
    struct rig r;

    for (unsigned how = BY_DOR; how <= BY_PIN; how++)
        for (unsigned lock = 0; lock < 2; lock++) {
            setup(&r, 1440, FDC_1440K);
            COMMAND(&r, 0x13, 0, 0x57, 0x21); /* implied seeks, FIFO of 8, no polling; precompensation from track 21h */
            COMMAND(&r, 0x12, 0x87);          /* drive 0 is perpendicular; GAP and WGATE */
            COMMAND(&r, lock ? 0x94 : 0x14);
            RESULT(&r, "LOCK", lock ? 0x10 : 0);
            COMMAND(&r, 0x0f, 0, 9);
            if (how == BY_DSR) {
                out(&r, 0x3f4, 0x80); /* the rate is a part of this register: 500 kbit/s */
            } else if (how == BY_DOR) {
                out(&r, 0x3f2, 0x18);
                CHECK_EQ(in(&r, 0x3f4), 0);
                out(&r, 0x3f2, 0x1c);
            } else {
                fdc_reset(&r.f);
                CHECK_EQ(in(&r, 0x3f2), 0);
                out(&r, 0x3f2, 0x1c);
            }
            CHECK(irq6); /* polling is on */
            for (u8 i = 0; i < 4; i++) {
                COMMAND(&r, 0x08);
                RESULT(&r, "a reset", 0xc0 | i, i || how == BY_PIN ? 0 : 9);
            }
            COMMAND(&r, 0x08);
            RESULT(&r, "no other", 0x80);
            COMMAND(&r, 0x0e);
            if (how == BY_PIN)
                RESULT(&r, "the RESET pin", 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0);
            else if (lock)
                RESULT(&r, "a reset by program, locked", 9, 0, 0, 0, 0xdf, 0x02, 0, 0x84, 0x47, 0x21);
            else
                RESULT(&r, "a reset by program", 9, 0, 0, 0, 0xdf, 0x02, 0, 0x04, 0x60, 0);
            dma(&r, 0x44, 512);
            COMMAND(&r, 0x46, 0, 30, 0, 1, 2, 18, 0x1b, 0xff);
            if (how == BY_PIN) { /* at 250 kbit/s again, and no implied seeks */
                RESULT(&r, "READ", 0x40, 1, 0, 30, 0, 1, 2);
                out(&r, 0x3f7, 0);
                COMMAND(&r, 0x46, 0, 30, 0, 1, 2, 18, 0x1b, 0xff);
                RESULT(&r, "READ", 0x40, 4, 0x10, 30, 0, 1, 2);
            } else {
                RESULT(&r, "READ", 0, 0, 0, 30, 0, 2, 2);
            }
            teardown(&r);
        }
}

TEST(by_port)
{
    struct rig r;
    u8 got[512];

    setup(&r, 1440, FDC_1440K);
    COMMAND(&r, 0x03, 0xdf, 0x03);
    edges = 0;
    COMMAND(&r, 0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff);
    for (unsigned s = 16; s < 18; s++) {
        for (unsigned i = 0; i < 512; i++) {
            CHECK_EQ(in(&r, 0x3f4), 0xf0);
            CHECK(irq6);
            got[i] = in(&r, 0x3f5);
        }
        turns(&r);
        CHECK(!memcmp(got, r.disk.data + s * 512, 512));
    }
    CHECK_EQ(edges, 1025);
    RESULT(&r, "reading by port", 0x40, 0x80, 0, 1, 0, 1, 2); /* nobody said that it was enough */
    COMMAND(&r, 0x13, 0, 0x0f, 0); /* with the FIFO: an interrupt a sector */
    edges = 0;
    COMMAND(&r, 0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff);
    for (unsigned i = 0; i < 512; i++) {
        CHECK_EQ(in(&r, 0x3f4), 0xb0);
        out(&r, 0x3f5, (u8)(i ^ 0x5a));
    }
    turns(&r);
    CHECK_EQ(edges, 2);
    CHECK_EQ(r.disk.data[17 * 512 + 3], 3 ^ 0x5a);
    RESULT(&r, "writing by port", 0x40, 0x80, 0, 1, 0, 1, 2);
    teardown(&r);
}

/* What drives wait for: an open gate, an unmasked channel; and a reset in between. */
TEST(waits_and_resets)
{
    struct rig r;

    setup(&r, 1440, FDC_1440K);
    out(&r, 0x3f2, 0x14); /* no DMA, no interrupts */
    dma(&r, 0x44, 512);
    COMMAND(&r, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    CHECK_EQ(in(&r, 0x3f4), 0x10);
    i8237_ops.write(&r.dma.controller[0], 0x0a, 1, 6);
    out(&r, 0x3f2, 0x1c);
    CHECK_EQ(in(&r, 0x3f4), 0x10);
    i8237_ops.write(&r.dma.controller[0], 0x0a, 1, 2);
    CHECK(irq6);
    RESULT(&r, "after waiting", 0, 0, 0, 0, 0, 2, 2);

    dma(&r, 0x44, 512);
    for (unsigned i = 0; i < 9; i++) /* its read stays with the host */
        out(&r, 0x3f5, ((const u8[]){ 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff })[i]);
    fake_run_posts();
    CHECK_EQ(r.disk.n, 1);
    out(&r, 0x3f4, 0x80);
    CHECK(irq6);
    memset(buffer(&r), 0xa5, 512);
    for (unsigned i = 0; i < 9; i++)
        out(&r, 0x3f5, ((const u8[]){ 0xe6, 0, 0, 0, 2, 2, 18, 0x1b, 0xff })[i]);
    turns(&r); /* the old one ends first, for nobody */
    RESULT(&r, "a reset", 0, 0, 0, 0, 0, 3, 2);
    CHECK(!memcmp(buffer(&r), r.disk.data + 512, 512));
    teardown(&r);
}

TEST(media)
{
    static const struct {
        u32 kib;
        u8 type, rate, cylinders, heads, sectors;
    } table[] = {
        { 160, FDC_360K, 2, 40, 1, 8 },    { 180, FDC_360K, 2, 40, 1, 9 },    { 320, FDC_360K, 2, 40, 2, 8 },
        { 360, FDC_360K, 2, 40, 2, 9 },    { 720, FDC_720K, 2, 80, 2, 9 },    { 1200, FDC_1200K, 0, 80, 2, 15 },
        { 1440, FDC_1440K, 0, 80, 2, 18 }, { 1680, FDC_1440K, 0, 80, 2, 21 }, { 2880, FDC_2880K, 3, 80, 2, 36 },
        { 360, FDC_1200K, 1, 40, 2, 9 },   { 720, FDC_2880K, 2, 80, 2, 9 },
    };
    struct rig r;
    struct error err;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        u8 c = table[i].cylinders - 1, h = table[i].heads - 1, n = table[i].sectors;
        u8 track = table[i].kib == 360 && table[i].type == FDC_1200K ? c * 2 : c;

        setup(&r, table[i].kib, table[i].type);
        if (i < 9)
            CHECK_EQ(fdc_drive_for(table[i].kib * 1024), table[i].type);
        out(&r, 0x3f7, table[i].rate);
        COMMAND(&r, 0x0f, 0, track);
        COMMAND(&r, 0x08);
        RESULT(&r, "SEEK", 0x20, track);
        dma(&r, 0x44, 512);
        COMMAND(&r, 0x66, h << 2, c, h, n, 2, n, 0x1b, 0xff);
        RESULT(&r, "the last sector", h << 2, 0, 0, c + 1, h, 1, 2);
        CHECK(!memcmp(buffer(&r), r.disk.data + r.disk.size - 512, 512));
        teardown(&r);
    }
    CHECK_EQ(fdc_drive_for(1440 * 1024 + 512), FDC_NO_DRIVE);
    setup(&r, 1440, FDC_1440K);
    struct block odd = fake_block(100 * 512);
    CHECK(fdc_insert(&r.f, 0, &odd, &err) != 0);
    CHECK_STR(err.text, "disk.img has 51200 bytes, which is no disk for a 1.44 MiB drive");

    /* Taken out in the midst of a read. */
    COMMAND(&r, 0x0f, 0, 1);
    COMMAND(&r, 0x08);
    RESULT(&r, "SEEK", 0x20, 1);
    CHECK_EQ(in(&r, 0x3f7), 0);
    dma(&r, 0x44, 1024);
    for (unsigned i = 0; i < 9; i++)
        out(&r, 0x3f5, ((const u8[]){ 0xe6, 0, 1, 0, 1, 2, 18, 0x1b, 0xff })[i]);
    fake_run_posts();
    CHECK(fdc_eject(&r.f, 0) == &r.disk);
    CHECK_EQ(r.disk.n, 0);
    RESULT(&r, "taken out", 0x40, 1, 0, 1, 0, 1, 2);
    CHECK_EQ(in(&r, 0x3f7), 0x80);
    dma(&r, 0x48, 512);
    COMMAND(&r, 0xc5, 0, 1, 0, 1, 2, 18, 0x1b, 0xff);
    RESULT(&r, "nothing in it", 0x40, 1, 0, 1, 0, 1, 2);
    struct block other = fake_block(720 * 1024);
    CHECK_EQ(fdc_insert(&r.f, 0, &other, &err), 0);
    CHECK_EQ(in(&r, 0x3f7), 0x80);
    COMMAND(&r, 0x0f, 0, 0);
    CHECK_EQ(in(&r, 0x3f7), 0);
    CHECK(fdc_eject(&r.f, 0) == &other);
    free(odd.data);
    free(other.data);
    free(r.disk.data);
    r.disk.data = NULL;
    teardown(&r);
}

/* Saved and loaded at every step of a read of two sectors, by DMA that waits and by port. */
TEST(state_survives)
{
    for (unsigned port = 0; port < 2; port++) {
        for (unsigned stop = 0; stop < 600; stop += stop < 20 ? 1 : 93) {
            struct rig a, b;
            struct state_list *la = state_list_new(), *lb = state_list_new();
            struct state_buf one = { 0 }, two = { 0 };
            struct error err;
            unsigned n = 0;

            setup(&a, 1440, FDC_1440K);
            setup(&b, 1440, FDC_1440K);
            CHECK(!state_add(la, &i8237_state, 0, &a.dma) && !state_add(la, &fdc_state, 0, &a.f));
            CHECK(!state_add(lb, &i8237_state, 0, &b.dma) && !state_add(lb, &fdc_state, 0, &b.f));
            COMMAND(&a, 0x03, 0xdf, port ? 3 : 2);
            dma(&a, 0x44, 1024);
            struct rig *r = &a;
            for (unsigned i = 0; i < 9 + (port ? 1024 : 0) + 7; i++, n++) {
                if (n == stop) {
                    fdc_settle(&a.f);
                    CHECK_EQ(a.disk.n, 0);
                    CHECK_EQ(state_save(la, &one, &err), 0);
                    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
                    CHECK_EQ(state_save(lb, &two, &err), 0);
                    CHECK(one.len == two.len && !memcmp(one.data, two.data, one.len));
                    memcpy(buffer(&b), buffer(&a), 0x8000);
                    r = &b;
                }
                if (i < 9) {
                    out(r, 0x3f5, ((const u8[]){ 0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff })[i]);
                } else if (i < 9 + 1024 && port) {
                    turns(r);
                    buffer(r)[i - 9] = in(r, 0x3f5);
                } else {
                    static const u8 want[2][7] = { { 0, 0, 0, 1, 0, 1, 2 }, { 0x40, 0x80, 0, 1, 0, 1, 2 } };
                    turns(r);
                    CHECK_EQ(in(r, 0x3f5), want[port][i - 9 - (port ? 1024 : 0)]);
                }
            }
            CHECK(!memcmp(buffer(r), r->disk.data + 16 * 512, 1024));
            state_buf_free(&one);
            state_buf_free(&two);
            state_list_free(la);
            state_list_free(lb);
            teardown(&a);
            teardown(&b);
        }
    }
}
