/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug.c - debug exceptions: single step, breakpoints on instruction, store, load and
 * port, INT3, the resume flag, DR6 and DR7, general detect.
 */
#include "lib/guest.h"

const char guest_name[] = "debug";

static volatile u32 count, rf_set;
static volatile u64 last_ip, last_dr6;
static volatile u32 watched[4] __attribute__((aligned(16)));

static int on_debug(struct frame *f)
{
    if (f->vector == 1) {
        u64 dr6 = READ_DR(6);
        count++;
        last_ip = f->ip;
        last_dr6 = dr6;
        WRITE_DR(6, 0xffff0ff0);
        if (dr6 & 0x4000 && f->bx == 0x5117) /* single step wanted for so long as RBX says */
            return 1;
        f->flags &= ~0x100ul;
        if (f->flags & 0x10000)
            rf_set++;
        f->flags |= 0x10000; /* RF: the instruction breakpoint must not hit again */
        return 1;
    }
    if (f->vector == 3) {
        count++;
        last_ip = f->ip;
        return 1;
    }
    return try_interrupt(f);
}

static void arm(int i, const volatile void *p, u64 type, u64 len)
{
    switch (i) {
    case 0: WRITE_DR(0, p); break;
    default: WRITE_DR(1, p); break;
    }
    WRITE_DR(7, 0x400 | 2ull << (2 * i) | type << (16 + 4 * i) | len << (18 + 4 * i));
    count = 0;
}

int main(void)
{
    u64 mark;
    on_interrupt = on_debug;
    CHECK("DR7 after reset", READ_DR(7), 0x400);

    __asm__ volatile("int3; lea (%%rip), %0" : "=r"(mark) : : "memory");
    CHECK("INT3", count, 1);
    CHECK("INT3 is a trap", last_ip, mark - 7);

    count = 0;
    __asm__ volatile("mov $0x5117, %%ebx; pushf; orl $0x100, (%%rsp); popf; nop; nop; nop; xor %%ebx, %%ebx; nop"
                     : : : "rbx", "memory", "cc");
    CHECK("single steps", count, 4);
    CHECK("DR6.BS", last_dr6 & 0xf00f, 0x4000);

    extern char break_here[];
    arm(0, break_here, 0, 0);
    __asm__ volatile("nop; .globl break_here; break_here: nop; nop" : : : "memory");
    CHECK("instruction breakpoint", count, 1);
    CHECK("it is a fault", last_ip, (u64)break_here);
    CHECK("DR6.B0", last_dr6 & 0xf00f, 1);

    arm(1, &watched[1], 1, 3);
    __asm__ volatile("movl $1, %0; lea (%%rip), %1" : "=m"(watched[1]), "=r"(mark) : : "memory");
    CHECK("write breakpoint", count, 1);
    CHECK("it is a trap", last_ip, mark - 7);
    CHECK("DR6.B1", last_dr6 & 0xf00f, 2);
    __asm__ volatile("movl %0, %%eax" : : "m"(watched[1]) : "rax");
    CHECK("no hit by a read", count, 1);
    watched[0] = watched[2] = 1;
    CHECK("no hit beside it", count, 1);
    __asm__ volatile("movw $5, %0" : "=m"(*((volatile u8 *)watched + 3)));
    CHECK("hit by an overlapping write", count, 2);

    arm(0, &watched[0], 3, 3);
    __asm__ volatile("movl %0, %%eax" : : "m"(watched[0]) : "rax");
    CHECK("access breakpoint", count, 1);

    WRITE_CR(4, READ_CR(4) | 8); /* DE */
    arm(0, (void *)0x80, 2, 0);
    inb(0x80);
    CHECK("port breakpoint", count, 1);
    inb(0x81);
    CHECK("other port", count, 1);
    WRITE_DR(7, 0x400);
    TRY("mov %%dr4, %%rax", "r"(0));
    CHECK("DR4 with CR4.DE", caught.vector, 6);
    WRITE_CR(4, READ_CR(4) & ~8ul);
    TRY("mov %%dr4, %%rax", "r"(0));
    CHECK("DR4 is DR6", caught.vector, -1);
    TRY("mov %1, %%dr7", "r"(1ull << 32));
    CHECK("upper half of DR7", caught.vector, 13);

    count = 0;
    WRITE_DR(7, 0x2400); /* GD */
    WRITE_DR(0, 0x1234);
    CHECK("general detect", count, 1);
    CHECK("DR6.BD", last_dr6 & 0xf00f, 0x2000);
    CHECK("GD is cleared for the handler", READ_DR(7), 0x400);
    return 0;
}
