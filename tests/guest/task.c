/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.c - hardware task switching: JMP and CALL to a TSS, IRET back through the
 * link, a task gate in the IDT for an exception with an error code, busy bits, CR0.TS.
 */
#include "lib/guest.h"

const char guest_name[] = "task";

struct tss32 {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt, iomap;
};
static struct tss32 other, faulter;
static u32 stack1[512], stack2[512];
static volatile u32 called, jumped, fault_error, fault_cs, seen_nt, seen_ts;

static void set_tss(unsigned sel, void *t)
{
    u32 base = (u32)t;
    gdt[sel / 8] = 103 | (u64)(base & 0xffffff) << 16 | (u64)0x89 << 40 | (u64)(base >> 24) << 56;
}

static void prepare(struct tss32 *t, void *entry, u32 *stack)
{
    t->eip = (u32)entry;
    t->eflags = 2;
    t->esp = (u32)stack;
    t->es = t->ss = t->ds = t->fs = t->gs = 0x10;
    t->cs = 0x08;
    t->eax = 0xabcd;
    t->iomap = 104u << 16;
}

__asm__(".text\n"
        "called_task:\n"
        "  mov %eax, called\n"                      /* EAX from the TSS */
        "  pushf\n  pop %eax\n  mov %eax, seen_nt\n"
        "  mov %cr0, %eax\n  mov %eax, seen_ts\n  clts\n"
        "  movl $0x1111, other + 40\n"              /* overwritten when the state is saved */
        "  mov $0x2222, %eax\n"
        "  iret\n"
        "  addl $1, called\n"                      /* the next CALL resumes behind the IRET */
        "  iret\n"
        "fault_task:\n"
        "  pop %eax\n  mov %eax, fault_error\n"     /* the error code is on this task's stack */
        "  mov other_link, %eax\n"
        "  movl $fault_resume, tss + 32\n"          /* EIP of the interrupted task */
        "  iret\n"
        "  jmp fault_task\n"
        "jumped_task:\n"
        "  incl jumped\n"
        "  ljmp $0x38, $0\n"
        "  jmp jumped_task\n"
        ".data\nother_link: .long 0\n.text\n");
extern char called_task[], fault_task[], jumped_task[];

static u32 type_of(unsigned sel)
{
    return (u32)(gdt[sel / 8] >> 40) & 15;
}

int main(void)
{
    static struct tss32 jump;
    set_tss(0x50, &other);
    set_tss(0x58, &faulter);
    set_tss(0x60, &jump);
    prepare(&other, called_task, stack1 + 512);
    prepare(&faulter, fault_task, stack2 + 512);
    prepare(&jump, jumped_task, stack1 + 256);

    CHECK("own TSS busy", type_of(0x38), 11);
    __asm__ volatile("lcall $0x50, $0" : : : "memory", "cc");
    CHECK("EAX of the new task", called, 0xabcd);
    CHECK("NT in the called task", seen_nt & 0x4000, 0x4000);
    CHECK("CR0.TS", seen_ts & 8, 8);
    CHECK("back link", other.link & 0xffff, 0x38);
    CHECK("saved EAX", other.eax, 0x2222);
    CHECK("not busy after IRET", type_of(0x50), 9);
    CHECK("still busy", type_of(0x38), 11);
    __asm__ volatile("clts; lcall $0x50, $0" : : : "memory", "cc");
    CHECK("second call", called, 0xabce);

    __asm__ volatile("clts; ljmp $0x60, $0" : : : "memory", "cc");
    CHECK("jump there and back", jumped, 1);
    CHECK("left task is free", type_of(0x60), 9);

    /* #NP through a task gate: the error code goes on the new task's stack. */
    gdt[0x68 / 8] = 0x0000130000000fffull | 0x40ull << 48;
    u64 *gates = (u64 *)idt;
    u64 old = gates[11];
    gates[11] = 0x58ull << 16 | (u64)0x8500 << 32;
    __asm__ volatile("clts; mov $0x68, %%eax; mov %%eax, %%gs\n"
                     ".globl fault_resume\nfault_resume:\n" : : : "eax", "memory", "cc");
    gates[11] = old;
    CHECK("error code for the task", fault_error, 0x68);
    CHECK("fault task is free", type_of(0x58), 9);

    on_interrupt = try_interrupt;
    TRY("lcall $0x38, $0", "r"(0)); /* busy: #GP */
    CHECK("call of a busy task", caught.vector, 13);
    CHECK("call of a busy task: error", caught.error, 0x38);
    __asm__ volatile("clts");
    return 0;
}
