/* SPDX-License-Identifier: Apache-2.0 */
/* devices_lpt.c - the parallel port: with and without a printer, one that is slow, interrupts. */
#include "devices/lpt.h"

#include "test.h"

static unsigned edges;
static void set(void *chip, u32 pin, bool level) { edges += level; }
static char paper[16];
static bool slow;
static bool print(void *ctx, u8 byte)
{
    if (!slow)
        paper[strlen(paper)] = (char)byte;
    return !slow;
}

static struct lpt l;
static u8 in(u32 port) { return (u8)lpt_ops.read(&l, port, 1); }
static void out(u32 port, u8 v) { lpt_ops.write(&l, port, 1, v); }
static void strobe(u8 c, u8 control)
{
    out(0, c);
    out(2, control | 1);
    out(2, control);
}

TEST(registers)
{
    lpt_init(&l, &(struct lpt_config){ { set, NULL, 7 }, NULL, NULL });
    CHECK_EQ(in(1), 0x7f); /* no printer: BUSY, paper out */
    CHECK_EQ(in(2), 0xcc);
    for (u32 v = 0; v < 256; v++) {
        out(2, 0x0c);
        out(0, (u8)v);
        CHECK_EQ(in(0), v);
        out(2, (u8)v);
        CHECK_EQ(in(2), v | 0xc0);
        CHECK_EQ(in(0), v & 0x20 ? 0xff : v); /* turned round */
    }
    lpt_destroy(&l);
}

TEST(printing)
{
    memset(paper, 0, sizeof paper);
    edges = 0;
    lpt_init(&l, &(struct lpt_config){ { set, NULL, 7 }, print, NULL });
    CHECK_EQ(in(1), 0xdf);
    strobe('a', 0x0c);
    out(0, 'x'); /* no strobe, no letter */
    strobe('b', 0x1c);
    CHECK_EQ(edges, 1);
    slow = true;
    strobe('c', 0x1c);
    CHECK_EQ(in(1), 0x5f); /* busy */
    strobe('d', 0x1c);     /* nobody hears it */
    CHECK_EQ(edges, 1);
    lpt_writable(&l);
    CHECK_EQ(in(1), 0x5f);
    slow = false;
    lpt_writable(&l);
    CHECK_EQ(in(1), 0xdf);
    CHECK_EQ(edges, 2);
    strobe('e', 0x08); /* being initialised */
    CHECK_STR(paper, "abc");
    lpt_destroy(&l);
}
