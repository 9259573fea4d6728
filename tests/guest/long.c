/* SPDX-License-Identifier: Apache-2.0 */
/*
 * long.c - 64-bit mode: SYSCALL and SYSRET, an interrupt gate from ring 3, compatibility
 * mode, canonical addresses, IST, FS and GS bases, CPUID and the MSRs about it.
 */
#include "lib/guest.h"

const char guest_name[] = "long";

static u8 user_stack[4096] __attribute__((aligned(16)));
static u8 ist_stack[4096] __attribute__((aligned(16)));
volatile u64 sys_rip, sys_flags, sys_rsp, sys_count, compat_result, ist_rsp;
static volatile u32 int_calls, privileged, stack_faults;
static volatile u64 stack_faults_at; /* where it goes on after #SS; 0: it is not expected */

static int on_user(struct frame *f)
{
    switch (f->vector) {
    case 0x31:
        int_calls++;
        CHECK("INT from ring 3: CS", f->cs, 0x33);
        CHECK("INT from ring 3: SS", f->ss, 0x2b);
        return 1;
    case 0x32: { /* leave ring 3 */
        extern char user_over[];
        f->ip = (u64)user_over;
        f->cs = 0x18;
        f->ss = 0x10;
        f->sp = *(volatile u64 *)0x2ff0;
        return 1;
    }
    case 0x33: /* from compatibility mode */
        CHECK("INT from compatibility mode: CS", f->cs, 0x23);
        compat_result = f->ax;
        f->cs = 0x33;
        f->ip = f->bx;
        return 1;
    case 0x34:
        ist_rsp = (u64)f;
        return 1;
    case 12:
        if (!stack_faults_at)
            break;
        stack_faults++;
        f->ip = stack_faults_at;
        return 1;
    case 13:
        if (f->cs == 0x33) {
            privileged++;
            f->ip += f->bx;
            return 1;
        }
        break;
    default: break;
    }
    return try_interrupt(f);
}

__asm__(".text\n"
        "syscall_entry:\n"
        "  mov %rcx, sys_rip\n  mov %r11, sys_flags\n  mov %rsp, sys_rsp\n  incq sys_count\n"
        "  mov %cs, %eax\n  shl $16, %eax\n  mov %ss, %ax\n"
        "  sysretq\n"
        "user_code:\n"
        "  stc\n  syscall\n  jnc 9f\n"
        "  cmp $0x180010, %eax\n  jne 9f\n"           /* CS 18h, SS 20h would be wrong: STAR says 10h + 8 for SS */
        "9: mov %eax, user_sel\n"
        "  int $0x31\n"
        "  mov $1, %ebx\n  cli\n"
        "  mov $1, %ebx\n  hlt\n"
        "  mov $2, %ebx\n  invd\n"
        "  mov $3, %ebx\n  mov %cr4, %rax\n"
        "  mov $2, %ebx\n  wrmsr\n"
        "  pushq $0x23\n  pushq $compat_code\n  lea 8f(%rip), %rbx\n  lretq\n"
        "8: int $0x32\n"
        ".code32\n"
        "compat_code:\n"
        "  mov $0x7fffffff, %eax\n  inc %eax\n"       /* 40h+reg is INC here */
        "  int $0x33\n"
        ".code64\n"
        ".data\n.globl user_sel\nuser_sel: .long 0\n.text\n");
extern char syscall_entry[], user_code[];
extern volatile u32 user_sel;

static void ring3(void)
{
    wrmsr(0xc0000081, (u64)0x0020 << 48 | (u64)0x0018 << 32); /* SYSRET: CS 30h|3, SS 28h|3; SYSCALL: CS 18h, SS 20h */
    wrmsr(0xc0000082, (u64)syscall_entry);
    wrmsr(0xc0000084, 0x300 | 1); /* clears IF, TF and CF */
    gate_dpl(0x31, 3);
    gate_dpl(0x32, 3);
    gate_dpl(0x33, 3);
    __asm__ volatile("mov %%rsp, 0x2ff0\n  push %%rbp\n  mov %%rsp, 0x2ff0\n"
                     "  pushq $0x2b\n  push %0\n  pushq $0x2\n  pushq $0x33\n  push %1\n  iretq\n"
                     ".globl user_over\nuser_over:\n  pop %%rbp\n"
                     : : "r"(user_stack + sizeof(user_stack)), "r"(user_code)
                     : "rax", "rbx", "rcx", "rdx", "r11", "memory", "cc");
    CHECK("SYSCALL", sys_count, 1);
    CHECK("SYSCALL RCX", sys_rip, (u64)user_code + 3);
    CHECK("SYSCALL R11 has CF", sys_flags & 1, 1);
    CHECK("SYSCALL keeps RSP", sys_rsp, (u64)(user_stack + sizeof(user_stack)));
    CHECK("SYSCALL selectors", user_sel, 0x180020);
    CHECK("INT", int_calls, 1);
    CHECK("privileged instructions", privileged, 5);
    CHECK("compatibility mode", compat_result, 0x80000000);
}

static void canonical(void)
{
    TRY("movq (%1), %%rax", "r"(1ull << 47));
    CHECK("non-canonical read", caught.vector, 13);
    TRY("mov %1, %%rbp; movq (%%rbp), %%rax", "r"(1ull << 47));
    CHECK("non-canonical through RBP", caught.vector, 12);
    TRY("mov $0xc0000082, %%ecx; mov $0x8000, %%edx; wrmsr", "r"(0));
    CHECK("WRMSR of a non-canonical address", caught.vector, 13);
    TRY("mov %1, %%cr4", "r"(READ_CR(4) & ~0x20));
    CHECK("PAE off in long mode", caught.vector, 13);
    TRY("mov %1, %%cr0", "r"(READ_CR(0) & ~1ul));
    CHECK("PE off with PG on", caught.vector, 13);
    TRY("mov $0x12345, %%ecx; rdmsr", "r"(0));
    CHECK("unknown MSR", caught.vector, 13);
    TRY("movaps %%xmm0, 1(%1)", "r"((u64)user_stack));
    CHECK("misaligned MOVAPS", caught.vector, 13);
}

static void bases(void)
{
    static u64 here[4] = { 1, 2, 3, 4 };
    u64 v;
    wrmsr(0xc0000101, (u64)here);
    wrmsr(0xc0000102, (u64)(here + 2));
    __asm__("mov %%gs:8, %0" : "=r"(v));
    CHECK("GS base", v, 2);
    __asm__ volatile("swapgs; mov %%gs:8, %0" : "=r"(v));
    CHECK("SWAPGS", v, 4);
    CHECK("KERNEL_GS_BASE", rdmsr(0xc0000102), (u64)here);
    wrmsr(0xc0000100, (u64)here);
    __asm__("mov %%fs:16, %0" : "=r"(v));
    CHECK("FS base", v, 3);
    __asm__ volatile("mov %0, %%fs" : : "r"(0x10));
    CHECK("a load of FS takes the base from the descriptor", rdmsr(0xc0000100), 0);
}

/* A stack in sp, in code that has run often. The translator has a mark for "no page" in place of the page of the stack, which
   is not canonical either (NO_STACK_PAGE in src/engine/soft/soft.h). */
static void __attribute__((noinline)) use_stack(u64 sp)
{
    __asm__ volatile("mov %%rsp, %%rbx; lea 1f(%%rip), %%rax; mov %%rax, %1; mov %%cr3, %%rax; mov %%rax, %%cr3;"
                     "mov %0, %%rsp; push %%rax; push %%rax; pop %%rax; pop %%rax; 1: mov %%rbx, %%rsp"
                     : : "r"(sp), "m"(stack_faults_at) : "rax", "rbx", "memory");
    stack_faults_at = 0;
}

static void odd_stacks(void)
{
    static const u64 odd[] = { 0x6b0d5eed9a73d800, 0x6b0d5eed9a73d008, 0x6b0d5eed9a73d004, 0x6b0d5eed9a73e000,
                               0x6b0d5eed9a73e008, (1ull << 47) + 64, 0x8000000000000000, 0xffff7ffffffffff0 };

    idt[12 * 16 + 4] = 1;
    for (u32 n = 0; n < 20; n++) {
        for (u32 k = 0; k < 1000; k++)
            use_stack((u64)(user_stack + sizeof(user_stack) - 64));
        CHECK("a stack where there is one", stack_faults, n * (sizeof odd / sizeof *odd));
        for (u32 k = 0; k < sizeof odd / sizeof *odd; k++)
            use_stack(odd[k]);
    }
    CHECK("stacks that are not canonical", stack_faults, 20 * (sizeof odd / sizeof *odd));
    idt[12 * 16 + 4] = 0;
}

int main(void)
{
    u32 r[4];
    on_interrupt = on_user;
    cpuid(0x80000001, 0, r);
    CHECK("long mode and SYSCALL in CPUID", r[3] & (1 << 29 | 1 << 11), 1 << 29 | 1 << 11);
    cpuid(0x40000000, 0, r);
    CHECK("KVM signature", r[1], 0x4b4d564b);
    ring3();
    canonical();
    bases();

    *(u64 *)(tss + 36) = (u64)(ist_stack + sizeof(ist_stack)); /* IST1 */
    idt[0x34 * 16 + 4] = 1;
    __asm__ volatile("int $0x34" : : : "memory");
    odd_stacks();
    CHECK("IST", ist_rsp > (u64)ist_stack && ist_rsp < (u64)(ist_stack + sizeof(ist_stack)), 1);
    return 0;
}
