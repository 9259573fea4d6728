/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_fdc.c - the floppy controller and the DMA controllers against a hostile driver, with disks that come and go. */
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_loop.h"
#include "../unit/fake_block.h"
#include "devices/fdc.h"
#include "fuzz.h"

static void line(void *chip, u32 pin, bool level) {}
void test_fail(const char *file, int at, const char *fmt, ...) { abort(); }

static struct memory *memory;
static struct block disk[FDC_DRIVES];

/* Two bytes a step: what, and with which value. */
static void step(struct fdc *f, struct i8237 *d, u8 what, u8 v)
{
    struct error err;

    switch (what >> 4) {
    case 0 ... 5:
        fdc_ops.write(f, what & 1 ? 3 : what & 3, 1, v);
        break;
    case 6 ... 8:
        fdc_ops.read(f, what & 3, 1);
        break;
    case 9:
        if (what & 1)
            fdc_dir_ops.write(f, 0, 1, v);
        else
            fdc_dir_ops.read(f, 0, 1);
        break;
    case 10:
        i8237_ops.write(&d->controller[0], what & 15, 1, v);
        break;
    case 11:
        i8237_ops.read(&d->controller[0], what & 15, 1);
        i8237_page_ops.write(d, v & 15, 1, what);
        break;
    case 12:
        fake_run_posts();
        disk[v & 1].fails = v & 64 ? -5 : 0;
        fake_block_finish(&disk[v & 1]);
        break;
    case 13:
        fdc_settle(f);
        break;
    case 14: /* everything that a driver waits for, at once: a whole sector by port */
        for (u32 i = 0; i < 600; i++) {
            fdc_ops.read(f, 3, 1);
            if (fake_run_posts())
                fake_block_finish(&disk[0]);
        }
        break;
    default:
        if (!fdc_eject(f, v & 1) && fdc_insert(f, v & 1, &disk[v & 1], &err))
            abort();
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    struct i8237 d;
    struct fdc f;

    if (!memory && (!(memory = memory_new(&err)) || memory_add(memory, "ram", 0, 0xa0000, false, &err)))
        abort();
    i8237_init(&d, memory);
    fdc_init(&f, &(struct fdc_config){ NULL, &d, { line, NULL, 6 } });
    for (u32 i = 0; i < FDC_DRIVES; i++) {
        if (!disk[i].data)
            disk[i] = fake_block(i ? 1440 * 1024 : 160 * 1024);
        fdc_plug(&f, i, i ? FDC_1440K : FDC_360K);
        if (fdc_insert(&f, i, &disk[i], &err))
            abort();
    }
    fdc_ops.write(&f, 0, 1, 0x1c);
    for (size_t i = 0; i + 1 < size && i < 4000; i += 2)
        step(&f, &d, data[i], data[i + 1]);
    for (u32 i = 0; i < FDC_DRIVES; i++)
        fdc_eject(&f, i);
    if (disk[0].n || disk[1].n)
        abort();
    fdc_destroy(&f);
    i8237_destroy(&d);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const u8 commands[][9] = {
        { 0xe6, 0, 0, 0, 1, 2, 8, 27, 255 }, { 0xc5, 1, 0, 0, 1, 2, 18, 27, 255 }, { 0x4d, 1, 2, 18, 0x54, 0xf6 },
        { 0x56, 0, 0, 0, 1, 2, 8, 27, 255 }, { 0x51, 0, 0, 0, 1, 2, 8, 27, 1 },    { 0x42, 0, 0, 0, 1, 2, 8, 27, 255 },
        { 0x4c, 0, 0, 0, 1, 2, 8, 27, 255 }, { 0x0f, 0, 1, 8, 7, 0, 8, 0x4a, 0 },
    };
    size_t n = 0;

    if (i >= 2 * ARRAY_SIZE(commands))
        return 0;
    buf[n++] = 0x91, buf[n++] = commands[i / 2][1] ? 0 : 2; /* its rate */
    for (u32 j = 0; j < 3; j++) /* by port, by DMA */
        buf[n++] = 0x01, buf[n++] = ((const u8[]){ 3, 0xdf, i & 1 })[j];
    buf[n++] = 0xab, buf[n++] = i / 2 == 1 || i / 2 == 2 || i / 2 == 4 ? 0x4a : 0x46;
    for (u32 j = 0; j < 2; j++)
        buf[n++] = 0xa5, buf[n++] = 0x07;
    buf[n++] = 0xaa, buf[n++] = 2;
    for (u32 j = 0; j < 9; j++)
        buf[n++] = 0x01, buf[n++] = commands[i / 2][j];
    for (u32 j = 0; j < 4; j++)
        buf[n++] = 0xd0, buf[n++] = 0, buf[n++] = 0xe0, buf[n++] = 0, buf[n++] = 0xc0, buf[n++] = 0;
    return n;
}
