/* SPDX-License-Identifier: Apache-2.0 */
/*
 * every_device.c - a hostile guest with a driver of sorts for every device: it starts what each can do, mostly as it is meant
 * to be started, with descriptors that lie in memory and are mostly right, so that DMA runs; and in between it hammers all
 * registers with random values. It resets the machine now and then, and goes on after that (what it has to know lies where
 * nothing is loaded), takes interrupts for a while, closes the A20 gate (it lies in an even megabyte).
 *
 * The drivers are in devices/, a header each; this file is the guest that calls them, its resets and its interrupts.
 *
 * By its command line: seed=, rounds=. Like fuzz.c it may die of what it does; the VMM may not.
 */
#include "devices/ata.h"
#include "devices/board.h"
#include "devices/e1000.h"
#include "devices/fdc.h"
#include "devices/others.h"
#include "devices/pci.h"
#include "devices/uhci.h"
#include "devices/vga.h"
#include "devices/virtio.h"
#include "devices/words.h"

const char guest_name[] = "every_device";

enum { KEEP = 46 << 20, MAGIC = 0x6b656570, MAX_RESETS = 200 };

/* Outlives a reset. */
static volatile struct { u32 magic, resets; u64 state, left, check; } *const keep = (void *)KEEP;

static void (*const recipes[])(void) = { ide, ahci, fdc, e1000, uhci, others, virtio, virtio, virtio, vga, fw_cfg, pm, keyboard, timers,
                                         interrupts, pci, flash };

static void *loop[5];
static u64 spare_stack[512];

static void leave(void) { __builtin_longjmp(loop, 1); }

/*
 * An interrupt controller may have been told any vector. What looks like an exception outside a TRY is the end of what we
 * were at; the frame may lack an error code, but nothing of it is used.
 */
static int on_any(struct frame *f)
{
    if (f->vector < 32 && f->vector != 2) {
        if (try_interrupt(f))
            return 1;
        f->ip = (u64)leave;
        f->cs = 0x18;
        f->ss = 0x10;
        f->sp = (u64)&spare_stack[511];
        f->flags = 2;
        return 1;
    }
    if (rnd_below(8))
        *(volatile u32 *)0xfee000b0 = 0;
    if (rnd_below(4))
        outb(0x20, 0x20), outb(0xa0, 0x20);
    if (!rnd_below(8)) /* a line that stays up would never let us go on */
        f->flags &= ~0x200ul;
    return 1;
}

/* The second CPU, where there is one: what it reaches it reaches as it comes. */
void ap_main(void)
{
    for (;;) {
        port();
        (void)r32(some_address(0) & ~3ull);
        w32(some_address(0) & ~3ull, value());
        for (u32 i = rnd_below(200); i; i--)
            __asm__ volatile("pause");
    }
}

static void start_second(void)
{
    extern char trampoline[], trampoline_end[];
    u8 *low = (u8 *)0x8000;
    for (char *p = trampoline; p < trampoline_end; p++)
        *low++ = (u8)*p;
    w32(0xfee000f0, 0x1ff);
    w32(0xfee00300, 0xc4500); /* INIT and SIPI to all others */
    w32(0xfee00300, 0xc4608);
}

static void remember(void)
{
    keep->state = state;
    keep->check = state ^ keep->left ^ MAGIC;
    keep->magic = MAGIC;
}

int main(void)
{
    const int again = keep->magic == MAGIC && keep->check == (keep->state ^ keep->left ^ MAGIC);
    if (again) {
        state = keep->state ^ ++keep->resets << 20; /* not the same once more */
    } else {
        state = number("seed", 1) * 0x9e3779b97f4a7c15ull + 0x1234567;
        keep->left = number("rounds", 100000);
        keep->resets = 0;
    }
    remember();
    on_interrupt = on_any;
    pool = POOL;
    pool_size = POOL_SIZE;
    big = map_big();
    find_functions();
    find_virtio();
    find_bars();
    if (!again) {
        every_port(1);
        for (u64 at = POOL; at < POOL + POOL_SIZE; at += 8)
            w64(at, rnd() >> (at & 63));
    }
    mercy = 5000;
    start_second();
    __builtin_setjmp(loop);
    while (keep->left && keep->resets < MAX_RESETS) {
        keep->left--;
        remember();
        if (rnd_below(3))
            hammer(big);
        else
            recipes[rnd_below(ARRAY_SIZE(recipes))]();
        if (!rnd_below(20000))
            reset();
    }
    outb(0x3fb, 3); /* the serial port may have been left in any state */
    outb(0x3fc, 3);
    outb(0x3f9, 0);
    outb(0x3fa, 0);
    print("\nresets ");
    print_hex(keep->resets);
    print(", rounds left ");
    print_hex(keep->left);
    print("\n");
    return 0;
}
