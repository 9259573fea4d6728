/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_firmware.c - fw_cfg and the flash chip under a firmware that does anything.  What holds: DMA changes nothing but RAM,
 * the chip's file has what the chip has, and its memory is seen while it reads as an array, and only then.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "devices/fw_cfg.h"
#include "devices/pflash.h"

enum { FLASH = 0x200000, SIZE = 2 * PFLASH_BLOCK, RAM = 0x8000, ROM = 0x100000 };
static u8 file[SIZE];

static int store(void *ctx, u32 offset, const void *data, u32 len)
{
    if (offset > SIZE || len > SIZE - offset)
        abort();
    memcpy(file + offset, data, len);
    return 0;
}

static void check(struct memory *m, struct pflash *p)
{
    u8 b[SIZE];
    const bool seen = !memory_read(m, FLASH, b, SIZE);
    u64 rom = 0;

    if (seen != (p->command == 0xff) || memcmp(file, p->piece->host, SIZE) || (seen && memcmp(file, b, SIZE)))
        abort();
    if (memory_read(m, ROM, &rom, 8) || rom)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory *m = memory_new(NULL);
    struct fw_cfg f;
    struct pflash p;

    memset(file, 0xff, SIZE);
    if (!m || memory_add(m, "ram", 0, RAM, false, NULL) || memory_add(m, "rom", ROM, 4096, true, NULL) ||
        pflash_init(&p, m, FLASH, file, SIZE, store, NULL, NULL))
        abort();
    fw_cfg_init(&f, m);
    if (fw_cfg_add_file(&f, "f", "some bytes", 10) < 0)
        abort();
    for (; size >= 12; data += 12, size -= 12) {
        u32 at;
        u64 v = 0;
        memcpy(&at, data + 4, 4);
        memcpy(&v, data + 8, 4);
        const unsigned bytes = 1u << data[1] % 4;
        switch (data[0] % 6) {
        case 0: pflash_ops.write(&p, at % (SIZE - 7), bytes, v); break;
        case 1: (void)pflash_ops.read(&p, at % (SIZE - 7), bytes); break;
        case 2: fw_cfg_ops.write(&f, at % FW_CFG_PORTS, MIN(bytes, 4u), v); break;
        case 3: (void)fw_cfg_ops.read(&f, at % FW_CFG_PORTS, MIN(bytes, 4u)); break;
        case 4: (void)!memory_write(m, at % (RAM + 16), &v, 4); break;
        case 5: pflash_reset(&p); break;
        }
        check(m, &p);
    }
    fw_cfg_destroy(&f);
    pflash_destroy(&p);
    memory_free(m);
    return 0;
}

/* A byte programmed, a block erased, a buffer written, an item read by DMA. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const struct { u8 what, size; u32 at, value; } step[][8] = {
        { { 0, 0, 5, 0x10 }, { 0, 0, 5, 0x55 }, { 1, 2, 5, 0 }, { 0, 0, 0, 0xff } },
        { { 0, 0, 5, 0x20 }, { 0, 0, 5, 0xd0 }, { 0, 0, 0, 0x50 } },
        { { 0, 0, 64, 0xe8 }, { 0, 0, 64, 3 }, { 0, 2, 64, 0x12345678 }, { 0, 0, 64, 0xd0 }, { 0, 0, 0, 0xff } },
        { { 4, 2, 0x100, 0x0a002000 }, { 4, 2, 0x104, 0x10000000 }, { 4, 2, 0x108, 0 }, { 4, 2, 0x10c, 0x00020000 },
          { 2, 2, 4, 0 }, { 2, 2, 8, 0x00010000 }, { 3, 0, 1, 0 } },
    };

    if (i >= ARRAY_SIZE(step) || cap < 8 * 12)
        return 0;
    memset(buf, 0, 8 * 12);
    for (u32 k = 0; k < 8; k++) {
        buf[k * 12] = step[i][k].what, buf[k * 12 + 1] = step[i][k].size;
        memcpy(buf + k * 12 + 4, &step[i][k].at, 4);
        memcpy(buf + k * 12 + 8, &step[i][k].value, 4);
    }
    return 8 * 12;
}
