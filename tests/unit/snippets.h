/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snippets.h - pieces of guest code of every mode, each with what RAX must be at its end.  Include it in one .c of a test
 * program.
 */
#ifndef LODGE_TEST_SNIPPETS_H
#define LODGE_TEST_SNIPPETS_H

#include "cpu/cpu.h"
#include "test.h"

/* ---- the guest's memory ------------------------------------------------- */

enum {
    GDT = 0x1000, IDT = 0x1800, PML4 = 0x2000, PDPT = 0x3000, PD = 0x4000, PT = 0x5000, TSS = 0x6000, STUBS = 0x7000,
    PD32 = 0x8000, PT32 = 0x9000, PDPT_PAE = 0xa000, LDT = 0xb000, STACK0 = 0xf000, CODE = 0x10000, STACK3 = 0x1f000,
    TSS_LIMIT = 0x68 + 0x20, DATA = 0x20000, ABSENT = 0x30000, READONLY = 0x31000, SUPERVISOR = 0x32000, MEM = 0x200000,
};
enum { /* selectors */
    SEL_CODE32 = 0x08, SEL_DATA = 0x10, SEL_CODE64 = 0x18, SEL_USER32 = 0x20, SEL_UDATA = 0x28, SEL_USER64 = 0x30,
    SEL_TSS = 0x38, SEL_CODE16 = 0x48, SEL_NP = 0x50, SEL_LDT = 0x58,
};
enum mode { REAL, V86, PM16, PM32, PAGED32, PAE32, LONG0, LONG3, COMPAT3, MODES };

struct snippet {
    const char *name;
    enum mode mode;
    const u8 *start, *end;
    u64 rax;         /* expected */
    u64 flags_undef; /* RFLAGS bits the last flag-writing instruction leaves undefined */
    bool hard;       /* a KVM without hardware virtualization gets it wrong: not compared with that one */
};

/* Position-independent; ends at the debug port. */
#define ASM(n, bits, text)                                                                                      \
    __asm__(".pushsection .rodata\n.code" #bits "\nsn_" #n ":\n" text                                           \
            "\n out %al, $0xf4\n 99: jmp 99b\nsn_" #n "_end:\n.code64\n.popsection\n");                         \
    extern const u8 sn_##n[], sn_##n##_end[];

ASM(real, 16, "mov $0x1234, %ax; add $0x4321, %ax; push %ax; pop %bx; mov %bx, 0x100; lea 2(%bx,%si), %cx; xchg %ax, %cx;"
              "mov $3, %cl; shl %cl, %ax; aam; aad; daa; cbw; cwd; lahf")
ASM(realstr, 16, "cld; mov $0x200, %di; mov $8, %cx; mov $0xa5, %al; rep stosb; mov $0x200, %si; mov $0x240, %di;"
                 "mov $8, %cx; rep movsb; mov $0xfff0, %si; lodsw; movzx %al, %eax")
ASM(realint, 16, "mov $0x77, %ax; int $0x21")
ASM(realdiv, 16, "mov $5, %ax; xor %bl, %bl; div %bl")
ASM(v86, 16, "mov $0x100, %ax; mul %ax; mov %ax, %ds:0x80; pushf; pop %bx; mov $0xbeef, %ax")
ASM(pm16, 16, "mov $0x20000, %edi; mov $0x11223344, %eax; mov %eax, (%edi); add %ax, (%edi); movw (%edi), %cx; bsf %cx, %dx;"
              "movzx %cx, %eax")
ASM(pm32, 32, "mov $0x20000, %esi; movl $7, (%esi); lock addl $5, (%esi); mov $10, %eax; lock xadd %eax, (%esi);"
              "mov $22, %eax; mov $99, %ecx; lock cmpxchg %ecx, (%esi); setz %bl; bswap %ecx; pusha; popa; mov (%esi), %eax")
ASM(bcd, 32, "mov $0x1279, %eax; add $0x35, %al; daa; sub $0x28, %al; das; mov $0x0a, %al; aaa; pushf; pop %edx; and $1, %edx")
ASM(farcall, 32, "call 1f; 1: pop %ebp; push $0x55; push %cs; lea 2f-1b(%ebp), %eax; push %eax; lret; nop; 2: pop %eax")
ASM(segload, 32, "mov $0x28, %ax; mov %ax, %es; mov %es, %bx; xor %ax, %ax; mov %ax, %gs; lar %bx, %ecx; lsl %bx, %edx;"
                 "verw %bx; setz %al; movzx %al, %eax")
ASM(gpload, 32, "mov $0xfff8, %eax; mov %ax, %es")
ASM(npload, 32, "mov $0x50, %eax; mov %ax, %ds")
ASM(ldt, 32, "mov $0x58, %ax; lldt %ax; mov $0x0c, %ax; mov %ax, %fs; sldt %bx; str %cx; mov $0x42, %eax; mov %eax, %fs:0x10")
ASM(pf32, 32, "mov $0x30010, %ebx; mov $0x99, %eax; mov %eax, 4(%ebx)")
ASM(pae, 32, "mov $0x20000, %ebx; mov $0x5a5a, %eax; mov %eax, (%ebx); mov %cr3, %ecx; mov %ecx, %cr3; mov (%ebx), %edx;"
             "mov %cr0, %esi; and $0xfffff, %eax")
ASM(arith, 64, "mov $0x123456789abcdef0, %rax; mov $0x0fedcba987654321, %rbx; add %rbx, %rax; adc $0x11, %rax; mov %rax, %rcx;"
               "imul %rbx, %rcx; mul %rbx; xor %rdx, %rax; rol $13, %rax; mov %rax, %r8; shrd $9, %rdx, %r8; bswap %r8;"
               "bt $3, %r8; rcr $2, %r8; bsr %r8, %r9; neg %r9; not %r9; sar $1, %r9; mov $1, %eax; add $1, %eax")
ASM(divide, 64, "mov $0x1234, %edx; mov $0x5678, %eax; mov $0x10000, %ecx; div %rcx; mov %rax, %r10; mov $-100, %rax; cqo;"
                "mov $7, %ebx; idiv %rbx; add $100, %rax")
ASM(stack, 64, "enter $32, $0; movq $5, -8(%rbp); push -8(%rbp); pop %rcx; leave; push $-2; pushf; pop %rdx; pop %rsi;"
               "mov $0x700, %edx; and %edx, %edx; call 1f; mov $3, %eax; jmp 2f; 1: lea (%rsi,%rsi,8), %rdi; ret; 2: add %rcx, %rax")
ASM(strings, 64, "cld; mov $0x20000, %edi; mov $0x1122334455667788, %rax; mov $64, %ecx; rep stosq; mov $0x20000, %esi;"
                 "mov $0x20303, %edi; mov $200, %ecx; rep movsb; std; lea 7(%rsi), %rdi; mov $9, %ecx; mov $0x77, %al; repne scasb;"
                 "cld; mov $0x20000, %esi; mov $0x20001, %edi; mov $20, %ecx; repe cmpsb; mov %rcx, %rax")
ASM(bits_, 64, "mov $0x20000, %ebx; movq $0, (%rbx); movq $0, 8(%rbx); mov $77, %ecx; bts %rcx, (%rbx); lock btcl $5, (%rbx); btrl $5, (%rbx);"
               "mov 8(%rbx), %rax; cmovc %rcx, %rdx; setc %dl; cmp $3, %rax")
ASM(crs, 64, "mov %cr0, %rax; mov %rax, %rbx; or $8, %rax; mov %rax, %cr0; clts; mov %cr0, %rcx; mov %cr4, %rdx; mov $0x1234000, %rsi;"
             "mov %rsi, %cr2; mov %cr2, %rdi; smsw %r8d; mov %cr3, %r9; mov %r9, %cr3; mov $0x55, %eax")
ASM(msrs, 64, "mov $0xc0000082, %ecx; mov $0x87654321, %eax; mov $0xffff8000, %edx; wrmsr; xor %eax, %eax; rdmsr; mov %eax, %esi;"
              "mov $0xc0000101, %ecx; mov $0x20000, %eax; xor %edx, %edx; wrmsr; movl $0x66, %gs:8; mov $0xc0000102, %ecx;"
              "mov $0x9000, %eax; wrmsr; swapgs; mov $0x174, %ecx; mov $8, %eax; xor %edx, %edx; wrmsr; mov %gs:(0), %ebx; swapgs; mov %gs:8, %eax")
ASM(badmsr, 64, "mov $0x12345678, %ecx; mov $1, %eax; rdmsr")
ASM(tables, 64, "mov $0x20000, %ebx; sgdt (%rbx); sidt 16(%rbx); lgdt (%rbx); lidt 16(%rbx); str %ecx; mov $0x28, %eax; mov %eax, %ds;"
                "xor %eax, %eax; mov %eax, %es; movzwl (%rbx), %eax")
ASM(iret, 64, "mov %rsp, %rbx; push $0x10; push %rbx; pushf; push $0x18; lea 1f(%rip), %rax; push %rax; iretq; 1: mov $0x31, %eax")
ASM(lret64, 64, "push $0x18; lea 1f(%rip), %rax; push %rax; lretq; nop; 1: mov $0x32, %eax")
ASM(cpuid, 64, "mov $1, %eax; cpuid; mov %ecx, %r8d; mov %edx, %r9d; mov $7, %eax; xor %ecx, %ecx; cpuid; mov %rbx, %r10;"
               "mov %rcx, %r11; mov $0x80000001, %eax; cpuid; mov %rcx, %r12; mov %rdx, %r13; mov $0xd, %eax; mov $1, %ecx;"
               "cpuid; mov %eax, %r14d; mov $0x40000001, %eax; cpuid; mov %eax, %r15d; xor %eax, %eax; mov %cr4, %rbx")
ASM(ud, 64, "mov $0x11, %eax; ud2")
ASM(bp, 64, "mov $0x12, %eax; int3")
ASM(pfread, 64, "mov $0x30ff8, %ebx; mov $0x13, %eax; mov (%rbx), %rcx")
ASM(pfwrite, 64, "mov $0x31008, %ebx; mov $0x14, %eax; mov %eax, (%rbx)")
ASM(pfcross, 64, "mov $0x2fffd, %ebx; mov $0x15, %eax; mov %rax, (%rbx)")
ASM(gpcanon, 64, "mov $0x800000000000, %rbx; mov $0x16, %eax; mov (%rbx), %rcx")
ASM(sscanon, 64, "mov $0x800000000000, %rbp; mov $0x17, %eax; mov (%rbp), %rcx")
ASM(de, 64, "xor %edx, %edx; mov $0x18, %eax; xor %ecx, %ecx; div %rcx")
ASM(trap, 64, "mov $0x19, %eax; pushf; orl $0x100, (%rsp); popf; inc %eax; inc %eax")
ASM(dr, 64, "mov $0x20000, %eax; mov %rax, %dr0; mov %dr0, %rbx; mov $0x400, %eax; mov %rax, %dr7; mov %dr7, %rcx; mov $0x21, %eax")
ASM(user, 64, "mov $0x20000, %ebx; mov $0x5555, %eax; mov %rax, (%rbx); movq (%rbx), %xmm0; paddq %xmm0, %xmm0; movdqu %xmm0, 16(%rbx);"
              "fninit; fldpi; fstpl 32(%rbx); cvtsi2sd %rax, %xmm1; sqrtsd %xmm1, %xmm1; movsd %xmm1, 40(%rbx); movq %xmm0, %rax; mov %cs, %ecx; cmp %ecx, %ecx")
ASM(userpf, 64, "mov $0x32000, %ebx; mov $0x23, %eax; mov (%rbx), %rcx")
ASM(userpriv, 64, "mov $0x24, %eax; mov %cr0, %rbx")
ASM(userint, 64, "mov $0x25, %eax; int $0x13")
ASM(compat, 32, "mov $0x20000, %ebx; mov $0x7fffffff, %eax; inc %eax; push %eax; pop (%ebx); lea 0x10(%ebx), %esi; mov %cs, %edx; lahf; cmp %eax, %eax")

#define SN(n, mode, rax, undef) { #n, mode, sn_##n, sn_##n##_end, rax, undef, false }
#define HARD(n, mode, rax, undef) { #n, mode, sn_##n, sn_##n##_end, rax, undef, true }
#define ARITH_BUT_CF (RFLAGS_ARITH & ~RFLAGS_CF)
static const struct snippet snippets[] = {
    SN(real, REAL, ~0ull, RFLAGS_OF), SN(realstr, REAL, ~0ull, 0), SN(realint, REAL, 0x77, 0),
    SN(realdiv, REAL, 5, RFLAGS_ARITH), HARD(v86, V86, 0xbeef, RFLAGS_ARITH), SN(pm16, PM16, 0x6688, RFLAGS_ARITH),
    SN(pm32, PM32, 99, 0), SN(bcd, PM32, ~0ull, RFLAGS_AF), SN(farcall, PM32, 0x55, 0), SN(segload, PM32, 1, 0),
    SN(gpload, PM32, 0xfff8, 0), SN(npload, PM32, 0x50, 0), SN(ldt, PM32, 0x42, 0), SN(pf32, PAGED32, 0x99, 0),
    SN(pae, PAE32, 0x5a5a, RFLAGS_AF), SN(arith, LONG0, 2, 0), SN(divide, LONG0, 86, 0), SN(stack, LONG0, 8, 0),
    SN(strings, LONG0, 19, 0), SN(bits_, LONG0, 0x2000, 0), SN(crs, LONG0, 0x55, RFLAGS_ARITH), SN(msrs, LONG0, 0x66, 0),
    SN(badmsr, LONG0, 1, 0), SN(tables, LONG0, 0x5f, 0), SN(iret, LONG0, 0x31, 0), SN(lret64, LONG0, 0x32, 0),
    HARD(cpuid, LONG0, 0, 0), SN(ud, LONG0, 0x11, 0), SN(bp, LONG0, 0x12, 0), SN(pfread, LONG0, 0x13, 0), SN(pfwrite, LONG0, 0x14, 0),
    HARD(pfcross, LONG0, 0x15, 0), SN(gpcanon, LONG0, 0x16, 0), SN(sscanon, LONG0, 0x17, 0), SN(de, LONG0, 0x18, RFLAGS_ARITH),
    SN(trap, LONG0, 0x1a, 0), SN(dr, LONG0, 0x21, 0), HARD(user, LONG3, 0xaaaa, 0), HARD(userpf, LONG3, 0x23, 0),
    HARD(userpriv, LONG3, 0x24, 0), HARD(userint, LONG3, 0x25, 0), SN(compat, COMPAT3, ~0ull, 0),
};

#endif
