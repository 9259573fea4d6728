/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protect.c - 32-bit protection: segment limits and rights with their error codes,
 * expand-down segments, a call gate to ring 0, interrupt from ring 3, I/O permission.
 */
#include "lib/guest.h"

const char guest_name[] = "protect";

static void set_desc(unsigned sel, u32 base, u32 limit, unsigned type, unsigned flags)
{
    gdt[sel / 8] = (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)type << 40 | (u64)(limit >> 16 & 15) << 48 |
                   (u64)flags << 52 | (u64)(base >> 24) << 56;
}

static u32 data[64];

static void faults(void)
{
    set_desc(0x50, (u32)data, 15, 0x93, 4);      /* 16 bytes, writable */
    set_desc(0x58, (u32)data, 15, 0x91, 4);      /* read-only */
    set_desc(0x60, (u32)data, 15, 0x13, 4);      /* not present */
    set_desc(0x68, (u32)data, 63, 0x97, 4);      /* expand-down: offsets 64 and up */
    set_desc(0x70, 0, 0xfffff, 0x9b, 0xc);
    set_desc(0x78, 0, 0xfffff, 0x99, 0xc);       /* execute-only */

    TRY("mov %1, %%gs; movl %%gs:12, %%eax", "r"(0x50));
    CHECK("within limit", caught.vector, -1);
    TRY("mov %1, %%gs; movl %%gs:13, %%eax", "r"(0x50));
    CHECK("beyond limit", caught.vector, 13);
    CHECK("beyond limit error", caught.error, 0);
    TRY("mov %1, %%gs; movl %%eax, %%gs:0", "r"(0x58));
    CHECK("write to read-only", caught.vector, 13);
    TRY("mov %1, %%gs", "r"(0x60));
    CHECK("not present", caught.vector, 11);
    CHECK("not present error", caught.error, 0x60);
    TRY("mov %1, %%ss", "r"(0x60));
    CHECK("SS not present", caught.vector, 12);
    CHECK("SS not present error", caught.error, 0x60);
    TRY("mov %1, %%ss", "r"(0x58));
    CHECK("SS read-only", caught.vector, 13);
    CHECK("SS read-only error", caught.error, 0x58);
    TRY("mov %1, %%gs; movl %%gs:60, %%eax", "r"(0x68));
    CHECK("expand-down, below", caught.vector, 13);
    TRY("mov %1, %%gs; movl %%gs:64, %%eax", "r"(0x68));
    CHECK("expand-down, above", caught.vector, -1);
    TRY("movl %%cs:guest_name, %%eax; ljmp $0x78, $1f; 1: movl %%cs:guest_name, %%eax", "r"(0));
    CHECK("read of execute-only", caught.vector, 13);
    __asm__ volatile("ljmp $0x08, $1f; 1:");
    TRY("mov %1, %%gs", "r"(0xfff8));
    CHECK("beyond the GDT", caught.vector, 13);
    CHECK("beyond the GDT error", caught.error, 0xfff8);
    TRY("xor %%eax, %%eax; mov %%eax, %%gs; movl %%gs:0, %%eax", "r"(0));
    CHECK("null selector", caught.vector, 13);
    TRY("mov %1, %%ss", "r"(0));
    CHECK("null SS", caught.vector, 13);
    TRY("int $0x30; .byte 0x0f, 0x0b", "r"(0)); /* the stub catches vector 30h below */
    CHECK("int", caught.vector, 6);
    TRY("lldt %w1", "r"(0x50));
    CHECK("LLDT of a data segment", caught.vector, 13);
    CHECK("LLDT error", caught.error, 0x50);
    TRY("into; bound %%eax, %1", "m"(*(u64 *)data));
    CHECK("BOUND", caught.vector, -1);
    data[0] = 5, data[1] = 6;
    TRY("mov $7, %%eax; bound %%eax, %1", "m"(*(u64 *)data));
    CHECK("BOUND out", caught.vector, 5);
    TRY("mov $0x7fffffff, %%eax; inc %%eax; into", "r"(0));
    CHECK("INTO", caught.vector, 4);
}

/* ---- ring 3 ---- */

static u32 user_stack[256];
volatile u32 user_done_esp;
static volatile u32 int_calls, user_fault, user_error;
volatile u32 gate_calls, gate_cs, gate_arg; /* written by assembly */

static int on_user(struct frame *f)
{
    if (f->vector == 0x31) {
        int_calls++;
        CHECK("INT from ring 3: CS", f->cs, 0x23);
        CHECK("INT from ring 3: SS", f->ss, 0x2b);
        return 1;
    }
    if (f->vector == 0x32) { /* leave ring 3: go to user_over in ring 0 */
        extern char user_over[];
        f->ip = (u32)user_over;
        f->cs = 0x08;
        f->es = f->ds = 0x10;
        f->flags &= ~0x3000u;
        return 1;
    }
    if (f->vector == 13 && f->cs == 0x23) {
        user_fault++;
        user_error = f->error;
        f->ip += f->bx; /* EBX: length of the instruction that is to fault */
        return 1;
    }
    return f->vector == 0x30 ? 1 : try_interrupt(f);
}

__asm__(".text\n"
        "gate_entry:\n"
        "  mov %cs, %eax\n  mov %eax, %ss:gate_cs\n  mov 8(%esp), %eax\n  mov %eax, %ss:gate_arg\n  incl %ss:gate_calls\n"
        "  lret $4\n"
        "user_code:\n"
        "  int $0x31\n"
        "  pushl $0x1234\n"
        "  lcall $0x83, $0\n"
        "  mov $1, %ebx\n  cli\n"                          /* IOPL 0: #GP(0) */
        "  mov $3, %ebx\n  mov %cr0, %eax\n"
        "  mov $2, %ebx\n  in $0x81, %al\n"                /* not in the bitmap */
        "  mov $0x80, %edx\n  mov $1, %ebx\n  in %dx, %al\n" /* allowed by the bitmap */
        "  mov $2, %ebx\n  int $0x33\n"                    /* gate of DPL 0: error = vector * 8 + 2 */
        "  mov %esp, user_done_esp\n"
        "  int $0x32\n");
extern char gate_entry[], user_code[];

static void ring3(void)
{
    u32 entry = (u32)gate_entry;
    gdt[0x80 / 8] = (entry & 0xffff) | 0x08u << 16 | (u64)0xec01 << 32 | (u64)(entry >> 16) << 48; /* DPL 3, one argument */
    gate_dpl(0x31, 3);
    gate_dpl(0x32, 3);
    /* TSS with an I/O bitmap: every port refused but 80h. */
    for (int i = 104; i < 104 + 33; i++)
        tss[i] = 0xff;
    tss[104 + 16] = 0xfe;
    gdt[0x38 / 8] = (gdt[0x38 / 8] & ~0xffffull) | (104 + 32);
    gdt[0x38 / 8] &= ~(2ull << 40);
    __asm__ volatile("ltr %w0" : : "r"(0x38));

    __asm__ volatile("mov %%esp, %%esi\n"
                     "  pushl $0x2b\n  pushl %0\n  pushl $0x202\n  pushl $0x23\n  pushl %1\n"
                     "  mov $0x2b, %%eax\n  mov %%eax, %%ds\n  mov %%eax, %%es\n"
                     "  mov %%esi, 0x2ff0\n"
                     "  iret\n"
                     ".globl user_over\nuser_over:\n"
                     "  mov $0x10, %%eax\n  mov %%eax, %%ss\n  mov %%eax, %%ds\n  mov %%eax, %%es\n  mov 0x2ff0, %%esp\n"
                     : : "i"(user_stack + 256), "i"(user_code)
                     : "eax", "ebx", "edx", "esi", "edi", "memory", "cc");
    CHECK("INT from ring 3", int_calls, 1);
    CHECK("call gate", gate_calls, 1);
    CHECK("call gate CS", gate_cs, 0x08);
    CHECK("call gate argument", gate_arg, 0x1234);
    CHECK("faults in ring 3", user_fault, 4);
    CHECK("error of INT", user_error, 0x33 * 8 + 2);
    CHECK("stack balanced", user_done_esp, (u32)(user_stack + 256));
}

int main(void)
{
    outb(0x21, 0xff), outb(0xa1, 0xff); /* a BIOS leaves the timer ticking; a slow run would meet its interrupt */
    on_interrupt = on_user;
    faults();
    ring3();
    return 0;
}
