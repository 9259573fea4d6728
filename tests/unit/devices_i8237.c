/* SPDX-License-Identifier: Apache-2.0 */
/* devices_i8237.c - the DMA controllers: registers, each mode, addresses at their ends. */
#include "devices/i8237.h"

#include "test.h"

static struct memory *memory;
static struct i8237 d;
static unsigned told;
static void ready(void *ctx) { told++; }

static void setup(void)
{
    struct error err;

    if (!memory) {
        memory = memory_new(&err);
        CHECK_EQ(memory_add(memory, "ram", 0, MiB(1), false, &err), 0);
    }
    i8237_init(&d, memory);
    told = 0;
}
static void out(u32 port, u8 v)
{
    if (port < 0x10)
        i8237_ops.write(&d.controller[0], port, 1, v);
    else if (port < 0xc0)
        i8237_page_ops.write(&d, port - 0x80, 1, v);
    else
        i8237_ops2.write(&d.controller[1], port - 0xc0, 1, v);
}
static u8 in(u32 port)
{
    return (u8)(port < 0x10   ? i8237_ops.read(&d.controller[0], port, 1)
                : port < 0xc0 ? i8237_page_ops.read(&d, port - 0x80, 1)
                              : i8237_ops2.read(&d.controller[1], port - 0xc0, 1));
}
/* Channel 2 or 6, as a driver programs it. */
static void program(u32 channel, u8 mode, u16 address, u8 page, u16 count)
{
    bool second = channel > 3;
    u32 at = (channel & 3) * 2, base = second ? 0xc0 : 0, step = second ? 2 : 1;

    out(base + 0xa * step, (channel & 3) | 4);
    out(base + 0xc * step, 0);
    out(base + at * step, (u8)address);
    out(base + at * step, (u8)(address >> 8));
    out(base + (at + 1) * step, (u8)count);
    out(base + (at + 1) * step, (u8)(count >> 8));
    out(base + 0xb * step, mode | (channel & 3));
    out(second ? 0x89 : 0x81, page);
    out(base + 0xa * step, channel & 3);
}
static u8 byte(u64 gpa)
{
    u8 v = 0;
    CHECK_EQ(memory_read(memory, gpa, &v, 1), 0);
    return v;
}

TEST(registers)
{
    setup();
    i8237_attach(&d, 2, ready, NULL);
    CHECK_EQ(in(0x0f), 0xff);
    out(0x0c, 0);
    out(0x05, 0x34);
    out(0x05, 0x12);
    CHECK_EQ(in(0x05), 0x34);
    CHECK_EQ(in(0x05), 0x12);
    in(0x05);
    out(0x0c, 0); /* the byte pointer begins anew */
    CHECK_EQ(in(0x05), 0x34);
    CHECK(told > 0);
    out(0x0d, 0);
    out(0x0e, 0);
    CHECK_EQ(in(0x0f), 0xf0);
    out(0x0f, 5);
    CHECK_EQ(in(0x0f), 0xf5);
    out(0x0a, 6);
    CHECK_EQ(in(0x0f), 0xf5);
    out(0x0a, 2);
    CHECK_EQ(in(0x0f), 0xf1);
    for (u32 i = 0; i < 16; i++)
        out(0x80 + i, (u8)(i * 3));
    for (u32 i = 0; i < 16; i++)
        CHECK_EQ(in(0x80 + i), i * 3);
    out(0xc4, 0x78); /* the second controller: each other port */
    out(0xc4, 0x56);
    CHECK_EQ(in(0xc4), 0x78);
    CHECK_EQ(in(0xc5), 0x56);
    i8237_destroy(&d);
}

TEST(transfers)
{
    u8 data[600];
    bool tc;

    setup();
    for (u32 i = 0; i < sizeof data; i++)
        data[i] = (u8)(i * 7);
    program(2, 0x44, 0x1000, 3, 511); /* write to memory, single */
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 100, &tc), 100);
    CHECK(!tc);
    CHECK_EQ(i8237_transfer(&d, 2, true, data + 100, 500, &tc), 412);
    CHECK(tc);
    for (u32 i = 0; i < 512; i++)
        CHECK_EQ(byte(0x31000 + i), data[i]);
    CHECK_EQ(byte(0x31200), 0);
    CHECK_EQ(in(0x08), 4); /* TC of channel 2, once */
    CHECK_EQ(in(0x08), 0);
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 1, &tc), 0); /* masked by TC */

    program(2, 0x48, 0x1000, 3, 511); /* read from memory */
    memset(data, 0, sizeof data);
    CHECK_EQ(i8237_transfer(&d, 2, false, data, 512, &tc), 512);
    CHECK(tc);
    CHECK_EQ(data[511], (u8)(511 * 7));

    program(2, 0x40, 0x1000, 3, 9); /* verify: counts, moves nothing */
    memset(data, 0x55, sizeof data);
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 512, &tc), 10);
    CHECK_EQ(byte(0x31001), 7);

    program(2, 0x64, 0x1fff, 3, 3); /* downwards */
    data[0] = 1, data[1] = 2, data[2] = 3, data[3] = 4;
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 4);
    CHECK_EQ(byte(0x31fff), 1);
    CHECK_EQ(byte(0x31ffc), 4);

    program(2, 0x44, 0xfffe, 1, 3); /* stays in its 64 KiB */
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 4);
    CHECK_EQ(byte(0x1ffff), 2);
    CHECK_EQ(byte(0x10000), 3);

    program(2, 0x54, 0x2000, 1, 1); /* begins anew by itself */
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 2);
    CHECK(tc);
    CHECK_EQ(i8237_transfer(&d, 2, true, data + 2, 2, &tc), 2);
    CHECK_EQ(byte(0x12000), 3);

    program(6, 0x44, 0x1000, 5, 1); /* words, at twice the address; page bit 0 does not count */
    CHECK_EQ(i8237_transfer(&d, 6, true, data, 4, &tc), 4);
    CHECK(tc);
    CHECK_EQ(byte(0x42003), 4);

    program(2, 0x44, 0, 0xff, 3); /* no memory there */
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 4);
    program(2, 0x48, 0, 0xff, 3);
    CHECK_EQ(i8237_transfer(&d, 2, false, data, 4, &tc), 4);
    CHECK_EQ(data[0], 0xff);
    i8237_destroy(&d);
}

TEST(what_keeps_a_channel_closed)
{
    u8 data[4] = { 0 };
    bool tc;

    setup();
    program(2, 0xc4, 0, 0, 3); /* cascade mode */
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 0);
    program(2, 0x44, 0, 0, 3);
    out(0x08, 4); /* the controller is off */
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 0);
    out(0x08, 1); /* memory to memory: not on this chip, and not in the way */
    out(0xd4, 4); /* the cascade is closed */
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 0);
    out(0xd4, 0);
    CHECK_EQ(i8237_transfer(&d, 2, true, data, 4, &tc), 4);
    CHECK_EQ(in(0x08), 4);
    program(1, 0x84, 0x100, 0, 15); /* by program, in block mode */
    out(0x09, 5);
    CHECK_EQ(in(0x08), 2);
    CHECK_EQ(in(0x0f), 0xff);
    i8237_destroy(&d);
}
