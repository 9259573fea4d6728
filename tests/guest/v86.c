/* SPDX-License-Identifier: Apache-2.0 */
/*
 * v86.c - virtual-8086 mode under a small monitor: sensitive instructions fault at
 * IOPL below 3, INT goes to the monitor, segments and addresses are real-mode ones.
 */
#include "lib/guest.h"

const char guest_name[] = "v86";

static volatile u32 faults, ints, done_esp, sensitive[8];

static int monitor(struct frame *f)
{
    if (!(f->flags & 0x20000))
        return 0;
    u8 *code = (u8 *)((f->cs << 4) + f->ip);
    if (f->vector == 13) {
        CHECK("V86 #GP error", f->error, 0);
        if (faults < 8)
            sensitive[faults] = *code;
        faults++;
        if (*code == 0xcd && code[1] == 0x21) {
            extern char v86_over[];
            f->ip = (u32)v86_over;
            f->cs = 8;
            f->flags &= ~0x23000u;
            f->ds = f->es = 0x10;
            return 1;
        }
        f->ip += *code == 0xcd || *code == 0xe4 ? 2 : 1;
        return 1;
    }
    if (f->vector == 3) { /* INT3 does not depend on IOPL, only on the gate */
        ints++;
        CHECK("V86 ES", f->v86_es, 0x3000);
        return 1;
    }
    return 0;
}

__asm__(".section .rodata\n.code16\n"
        "v86_code:\n"
        "  mov $0x1234, %ax\n  mov %ax, %ds:0x10\n"         /* DS 2000h: linear 20010h */
        "  mov %ds:0x10, %bx\n  addw %bx, %es:0x20\n"
        "  cli\n  sti\n  pushf\n  int $0x60\n  in $0x80, %al\n"
        "  int3\n"
        "  mov %cs, %ax\n  mov %ax, %ds:0x12\n  pushw $0x55aa\n  pop %ds:0x14\n"
        "  mov $0x30, %si\n  movw $7, (%si)\n  lodsw\n  mov %ax, %ds:0x16\n"
        "  int $0x21\n"
        "v86_end:\n.code32\n.text\n");
extern const u8 v86_code[], v86_end[];

int main(void)
{
    outb(0x21, 0xff), outb(0xa1, 0xff); /* a BIOS leaves the timer ticking; a slow run would meet its interrupt */
    on_interrupt = monitor;
    gate_dpl(3, 3);
    u8 *code = (u8 *)0x10000;
    for (const u8 *p = v86_code; p < v86_end; p++)
        *code++ = *p;
    *(volatile u16 *)0x30020 = 1;
    __asm__ volatile("mov %%esp, 0x2ff0\n"
                     "  pushl $0\n  pushl $0\n  pushl $0x2000\n  pushl $0x3000\n" /* GS FS DS ES */
                     "  pushl $0x4000\n  pushl $0x8000\n"                         /* SS SP */
                     "  pushl $0x20202\n  pushl $0x1000\n  pushl $0\n"            /* VM, IF; IOPL 0 */
                     "  iret\n"
                     ".globl v86_over\nv86_over:\n"
                     "  mov $0x10, %%eax\n  mov %%eax, %%ss\n  mov %%eax, %%ds\n  mov %%eax, %%es\n  mov 0x2ff0, %%esp\n"
                     "  xor %%eax, %%eax\n  mov %%eax, %%fs\n  mov %%eax, %%gs\n"
                     : : : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc");
    CHECK("sensitive instructions", faults, 6);
    CHECK("cli", sensitive[0], 0xfa);
    CHECK("sti", sensitive[1], 0xfb);
    CHECK("pushf", sensitive[2], 0x9c);
    CHECK("int n", sensitive[3], 0xcd);
    CHECK("in", sensitive[4], 0xe4);
    CHECK("int3", ints, 1);
    CHECK("store through DS", *(volatile u16 *)0x20010, 0x1234);
    CHECK("add through ES", *(volatile u16 *)0x30020, 0x1235);
    CHECK("CS", *(volatile u16 *)0x20012, 0x1000);
    CHECK("stack", *(volatile u16 *)0x20014, 0x55aa);
    CHECK("string", *(volatile u16 *)0x20016, 7);
    return 0;
}
