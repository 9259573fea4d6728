/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdc_rig.h - a floppy controller with a disk and the DMA controller, and the words to talk to them.  Include it in one .c
 * of a test program.
 */
#ifndef LODGE_TEST_FDC_RIG_H
#define LODGE_TEST_FDC_RIG_H

#include "devices/fdc.h"

#include "fake_block.h"
#include "fake_loop.h"
#include "test.h"

enum { BUFFER = 0x8000 };
struct rig {
    struct memory *memory;
    struct i8237 dma;
    struct fdc f;
    struct block disk;
};
static bool irq6;
static unsigned edges;
static inline void set_irq6(void *chip, u32 pin, bool level)
{
    edges += level && !irq6;
    irq6 = level;
}

static inline void out(struct rig *r, u16 port, u8 v)
{
    if (port == 0x3f7)
        fdc_dir_ops.write(&r->f, 0, 1, v);
    else
        fdc_ops.write(&r->f, port - 0x3f2, 1, v);
}
static inline u8 in(struct rig *r, u16 port)
{
    return (u8)(port == 0x3f7 ? fdc_dir_ops.read(&r->f, 0, 1) : fdc_ops.read(&r->f, port - 0x3f2, 1));
}

/* Until nothing moves any more. */
static inline void turns(struct rig *r)
{
    while (fake_run_posts() || fake_block_finish(&r->disk))
        ;
}

static inline void command_(struct rig *r, const u8 *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        CHECK_EQ(in(r, 0x3f4) & 0xc0, 0x80);
        out(r, 0x3f5, c[i]);
    }
    turns(r);
}
#define COMMAND(r, ...) command_(r, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

static inline unsigned result(struct rig *r, u8 out_[16])
{
    unsigned n = 0;

    memset(out_, 0, 16);
    while ((in(r, 0x3f4) & 0xd0) == 0xd0 && n < 16)
        out_[n++] = in(r, 0x3f5);
    return n;
}
static inline void result_is(struct rig *r, const char *what, const u8 *want, unsigned n)
{
    u8 got[16];
    char text[64] = "", wanted[64] = "";
    unsigned m = result(r, got);

    for (unsigned i = 0; i < m && i < 10; i++)
        sprintf(text + 3 * i, "%02x ", got[i]);
    for (unsigned i = 0; i < n; i++)
        sprintf(wanted + 3 * i, "%02x ", want[i]);
    if (strcmp(text, wanted))
        printf("after %s:\n", what);
    CHECK_STR(text, wanted);
}
#define RESULT(r, what, ...) result_is(r, what, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

/* Channel 2: mode 44h to memory, 48h from it. */
static inline void dma(struct rig *r, u8 mode, u16 bytes)
{
    struct i8237_controller *c = &r->dma.controller[0];

    i8237_ops.write(c, 0x0a, 1, 6);
    i8237_ops.write(c, 0x0c, 1, 0);
    i8237_ops.write(c, 4, 1, BUFFER & 0xff);
    i8237_ops.write(c, 4, 1, BUFFER >> 8);
    i8237_ops.write(c, 5, 1, (u8)(bytes - 1));
    i8237_ops.write(c, 5, 1, (u8)((bytes - 1) >> 8));
    i8237_ops.write(c, 0x0b, 1, mode | 2);
    i8237_ops.write(c, 0x0a, 1, 2);
}
static inline u8 *buffer(struct rig *r) { return memory_ptr(r->memory, BUFFER, 0x8000, true); }

static inline void setup(struct rig *r, u64 kib, enum fdc_drive_type type)
{
    struct error err;

    memset(r, 0, sizeof *r);
    irq6 = false;
    edges = 0;
    r->memory = memory_new(&err);
    CHECK_EQ(memory_add(r->memory, "ram", 0, MiB(1), false, &err), 0);
    i8237_init(&r->dma, r->memory);
    fdc_init(&r->f, &(struct fdc_config){ NULL, &r->dma, { set_irq6, NULL, 6 } });
    fdc_plug(&r->f, 0, type);
    r->disk = fake_block(kib * 1024);
    for (u64 i = 0; i < r->disk.size; i++)
        r->disk.data[i] = (u8)(i / 512 * 7 + i % 512 * 3 + i / 131072);
    CHECK_EQ(fdc_insert(&r->f, 0, &r->disk, &err), 0);
    out(r, 0x3f2, 0x1c); /* drive 0, its motor, DMA, no reset */
    for (u8 i = 0; i < 4; i++) {
        COMMAND(r, 0x08);
        RESULT(r, "reset", 0xc0 | i, 0);
    }
    CHECK(!irq6);
    out(r, 0x3f7, type == FDC_2880K ? 3 : type == FDC_1440K || type == FDC_1200K ? 0 : 2);
    COMMAND(r, 0x03, 0xdf, 0x02);
}
static inline void teardown(struct rig *r)
{
    CHECK(fdc_eject(&r->f, 0) == &r->disk || !r->disk.data);
    fdc_destroy(&r->f);
    i8237_destroy(&r->dma);
    memory_free(r->memory);
    free(r->disk.data);
}

#endif
