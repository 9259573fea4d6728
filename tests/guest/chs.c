/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chs.c - an IDE disk as systems before LBA drove it: by cylinder, head and sector, in the geometry that IDENTIFY says and in
 * another (INITIALIZE DEVICE PARAMETERS), a sector at a time with an interrupt each (IRQ 14 by the 8259As), read by REP INSW.
 * The disk is race.c, beside this file; what it holds is what LBA and DMA read of it.
 */
#include "lib/guest.h"

const char guest_name[] = "chs";

enum { BASE = 0x1f0, STATUS = BASE + 7, CONTROL = 0x3f6, BSY = 0x80, DRQ = 8, ERR = 1, VECTOR = 0x76 };

static volatile u32 interrupts;
static u16 identity[256];
static u8 by_lba[16][512], sector[512];
static u32 prd[2] __attribute__((aligned(8)));

static int on_irq(struct frame *f)
{
    if (f->vector != VECTOR)
        return 0;
    interrupts++;
    inb(STATUS);
    outb(0xa0, 0x20), outb(0x20, 0x20);
    return 1;
}

static void insw(void *to, u32 words)
{
    __asm__ volatile("rep insw" : "+D"(to), "+c"(words) : "d"(BASE) : "memory");
}

/* One sector; how many interrupts it took, or 100h + the error. */
static u32 read_sector(u32 low, u32 mid, u32 high, u32 device, void *to)
{
    const u32 before = interrupts;

    outb(BASE + 2, 1), outb(BASE + 3, low), outb(BASE + 4, mid), outb(BASE + 5, high), outb(BASE + 6, device);
    outb(STATUS, 0x20);
    while (interrupts == before)
        __asm__ volatile("sti; nop; cli" : : : "memory");
    if (inb(CONTROL) & ERR)
        return 0x100 + inb(BASE + 1);
    insw(to, 256);
    return interrupts - before;
}

static int same(const u8 *a, const u8 *b)
{
    for (u32 i = 0; i < 512; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

static void all(const char *what, u32 heads, u32 sectors)
{
    for (u32 lba = 0; lba < 16; lba++) {
        const u32 track = lba / sectors, cylinder = track / heads;
        CHECK(what, read_sector(lba % sectors + 1, cylinder & 0xff, cylinder >> 8, 0xa0 | track % heads, sector), 1);
        CHECK(what, same(sector, by_lba[lba]), 1);
    }
    CHECK("no sector 0", read_sector(0, 0, 0, 0xa0, sector), 0x110);
    CHECK("no sector after the last", read_sector(sectors + 1, 0, 0, 0xa0, sector), 0x110);
}

int main(void)
{
    on_interrupt = on_irq;
    outb(0x21, 0xfb), outb(0xa1, 0xbf); /* the cascade, IRQ 14 */
    outb(CONTROL, 4);
    outb(CONTROL, 0);
    while (inb(CONTROL) & BSY)
        ;
    outb(BASE + 6, 0xa0);
    outb(STATUS, 0xec);
    while (!interrupts)
        __asm__ volatile("sti; nop; cli" : : : "memory");
    insw(identity, 256);
    CHECK("heads", identity[3], 16);
    CHECK("sectors", identity[6], 63);
    for (u32 lba = 0; lba < 16; lba++)
        CHECK("by LBA", read_sector(lba, 0, 0, 0xe0, by_lba[lba]), 1);
    CHECK("the first bytes", *(u32 *)by_lba[0], 0x53202a2f); /* slash, star, space, S */
    all("as identified", identity[3], identity[6]);
    outb(BASE + 2, 3), outb(BASE + 6, 0xa1); /* two heads of three sectors */
    u32 before = interrupts;
    outb(STATUS, 0x91);
    while (interrupts == before) /* else it would be taken for the next command's */
        __asm__ volatile("sti; nop; cli" : : : "memory");
    all("as made", 2, 3);

    /* The same by the bus master, its registers where configuration space has them. */
    outl(0xcf8, 0x80000920);
    const u16 bm = inl(0xcfc) & 0xfffc;
    outl(0xcf8, 0x80000904);
    outl(0xcfc, inl(0xcfc) | 5);
    prd[0] = (u32)(word)sector;
    prd[1] = 512 | 0x80000000;
    outl(bm + 4, (u32)(word)prd);
    outb(BASE + 2, 1), outb(BASE + 3, 2), outb(BASE + 4, 1), outb(BASE + 5, 0), outb(BASE + 6, 0xa1); /* 1/1/2: LBA 10 */
    before = interrupts;
    outb(STATUS, 0xc8);
    outb(bm, 9);
    while (interrupts == before)
        __asm__ volatile("sti; nop; cli" : : : "memory");
    CHECK("bus master", inb(bm + 2) & 7, 4);
    outb(bm, 0);
    CHECK("by DMA", same(sector, by_lba[10]), 1);
    return failures;
}
