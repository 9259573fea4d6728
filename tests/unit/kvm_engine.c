/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_engine.c - the same snippets of guest code on both engines, through engine.h
 * alone: set the whole state, run to the debug port, get the whole state, compare
 * every register, every segment, every defined flag and all of memory.
 *
 * Where there is no usable /dev/kvm the software engine is still checked against
 * the RAX each snippet must end with.
 */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/kvm/selftest.h"

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

static void put(u8 *m, u32 at, u64 v, unsigned n)
{
    memcpy(m + at, &v, n);
}

static u64 descriptor(u32 base, u32 limit, u32 attr)
{
    if (attr & SEG_G)
        limit >>= 12;
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 | (u64)(limit >> 16 & 15) << 48 |
           (u64)(attr >> 12 & 15) << 52 | (u64)(base >> 24) << 56;
}

#define AT(sel) (GDT + (sel))
enum { CODE_RX = SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A, DATA_RW = SEG_P | SEG_S | SEG_W | SEG_A };

static void build_memory(u8 *m, const struct snippet *s)
{
    memset(m, 0, MEM);
    put(m, AT(SEL_CODE32), descriptor(0, ~0u, CODE_RX | SEG_DB | SEG_G), 8);
    put(m, AT(SEL_DATA), descriptor(0, ~0u, DATA_RW | SEG_DB | SEG_G), 8);
    put(m, AT(SEL_CODE64), descriptor(0, ~0u, CODE_RX | SEG_L | SEG_G), 8);
    put(m, AT(SEL_USER32), descriptor(0, ~0u, CODE_RX | SEG_DB | SEG_G | SEG_DPL), 8);
    put(m, AT(SEL_UDATA), descriptor(0, ~0u, DATA_RW | SEG_DB | SEG_G | SEG_DPL), 8);
    put(m, AT(SEL_USER64), descriptor(0, ~0u, CODE_RX | SEG_L | SEG_G | SEG_DPL), 8);
    put(m, AT(SEL_TSS), descriptor(TSS, TSS_LIMIT, SEG_P | 11), 8); /* busy; the upper half of a 64-bit one is zero */
    put(m, AT(SEL_CODE16), descriptor(0, 0xffff, CODE_RX), 8);
    put(m, AT(SEL_NP), descriptor(0, 0xfff, DATA_RW & ~SEG_P), 8);
    put(m, AT(SEL_LDT), descriptor(LDT, 0x1f, SEG_P | 2), 8);
    put(m, LDT + 8, descriptor(DATA, 0xfff, (DATA_RW & ~SEG_A) | SEG_DB), 8);

    /* Stubs: push vector; out; jmp self. The bytes mean the same in every mode. */
    bool long_mode = s->mode >= LONG0;
    for (u32 v = 0; v < 32; v++) {
        const u8 stub[8] = { 0x6a, (u8)v, 0xe6, 0xf4, 0xeb, 0xfe, 0x90, 0x90 };
        u32 at = STUBS + 8 * v;
        memcpy(m + at, stub, 8);
        u32 dpl = v == 3 || v == 0x13 ? SEG_DPL : 0;
        if (long_mode) {
            put(m, IDT + 16 * v, (at & 0xffff) | SEL_CODE64 << 16 | (u64)(SEG_P | 14 | dpl) << 40, 8);
        } else {
            put(m, IDT + 8 * v, (at & 0xffff) | SEL_CODE32 << 16 | (u64)(SEG_P | 14 | dpl) << 40, 8);
            if (s->mode == REAL)
                put(m, 4 * v, (at & 15) | (at >> 4) << 16, 4);
        }
    }
    if (s->mode == REAL)
        put(m, 4 * 0x21, 0 | (STUBS >> 4) << 16, 4);
    if (long_mode)
        put(m, TSS + 4, STACK0, 8);
    else
        put(m, TSS + 4, STACK0, 4), put(m, TSS + 8, SEL_DATA, 4);
    put(m, TSS + 0x66, 0x68, 2); /* I/O bitmap: every port below 100h allowed (V86 mode asks it whatever IOPL is) */

    put(m, PML4, PDPT | 7, 8);
    put(m, PDPT, PD | 7, 8);
    put(m, PD, PT | 7, 8);
    put(m, PDPT_PAE, PD | 1, 8);
    put(m, PD32, PT32 | 7, 4);
    for (u32 i = 0; i < 512; i++) {
        u32 page = i << 12, bits = page == ABSENT ? 0 : page == READONLY ? 5 : page == SUPERVISOR ? 3 : 7;
        put(m, PT + 8 * i, page | bits, 8);
        put(m, PT32 + 4 * i, page | bits, 4);
    }
    for (u32 i = 0; i < 0x1000; i++)
        m[DATA + i] = (u8)(i * 7);
    memcpy(m + CODE, s->start, (size_t)(s->end - s->start));
}

static struct cpu_seg seg(u32 sel, u32 attr, u32 base, u32 limit)
{
    return (struct cpu_seg){ .selector = (u16)sel, .attr = (u16)attr, .base = base, .limit = limit };
}

static void build_state(struct cpu_state *s, enum mode mode)
{
    cpu_reset(s, true);
    memset(s->gpr, 0, sizeof(s->gpr));
    s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
    s->gdtr = (struct cpu_table){ GDT, 0x5f };
    s->idtr = (struct cpu_table){ IDT, mode >= LONG0 ? 32 * 16 - 1 : 32 * 8 - 1 };
    s->tr = seg(SEL_TSS, SEG_P | 11, TSS, TSS_LIMIT);
    s->gpr[RSP] = STACK0 - 0x100;
    s->rip = CODE;
    for (int i = 0; i < SEG_COUNT; i++)
        s->seg[i] = seg(SEL_DATA, DATA_RW | SEG_DB | SEG_G, 0, ~0u);
    s->seg[CS] = seg(SEL_CODE32, CODE_RX | SEG_DB | SEG_G, 0, ~0u);
    switch (mode) {
    case REAL:
    case V86:
        s->rip = 0;
        s->gpr[RSP] = 0xe000;
        for (int i = 0; i < SEG_COUNT; i++)
            s->seg[i] = seg(0, DATA_RW, 0, 0xffff);
        s->seg[CS] = seg(CODE >> 4, DATA_RW, CODE, 0xffff);
        s->seg[DS] = s->seg[ES] = seg(DATA >> 4, DATA_RW, DATA, 0xffff);
        if (mode == REAL) {
            s->cr0 &= ~CR0_PE;
            s->idtr = (struct cpu_table){ 0, 0x3ff };
        } else {
            s->rflags |= RFLAGS_VM | RFLAGS_IOPL;
            for (int i = 0; i < SEG_COUNT; i++)
                s->seg[i].attr |= SEG_DPL;
        }
        break;
    case PM16:
        s->seg[CS] = seg(SEL_CODE16, CODE_RX, CODE, 0xffff);
        s->rip = 0;
        break;
    case PM32: break;
    case PAGED32:
        s->cr3 = PD32;
        s->cr0 |= CR0_PG | CR0_WP;
        break;
    case PAE32:
        s->cr3 = PDPT_PAE;
        s->cr4 |= CR4_PAE;
        s->cr0 |= CR0_PG | CR0_WP;
        break;
    default:
        s->cr3 = PML4;
        s->cr4 |= CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
        s->cr0 |= CR0_PG | CR0_WP;
        s->efer = EFER_LME | EFER_LMA | EFER_SCE;
        s->seg[CS] = seg(SEL_CODE64, CODE_RX | SEG_L | SEG_G, 0, ~0u);
        if (mode != LONG0) {
            for (int i = 0; i < SEG_COUNT; i++)
                s->seg[i] = seg(SEL_UDATA | 3, DATA_RW | SEG_DB | SEG_G | SEG_DPL, 0, ~0u);
            s->seg[CS] = mode == LONG3 ? seg(SEL_USER64 | 3, CODE_RX | SEG_L | SEG_G | SEG_DPL, 0, ~0u) :
                                         seg(SEL_USER32 | 3, CODE_RX | SEG_DB | SEG_G | SEG_DPL, 0, ~0u);
            s->rflags |= RFLAGS_IOPL;
            s->gpr[RSP] = STACK3;
        }
    }
}

/* ---- a machine of one port ---------------------------------------------- */

struct machine {
    const struct engine_ops *ops;
    struct engine_vcpu *v;
    bool done, late;
    u32 outs;
};

static u64 port_read(void *m, u16 port, unsigned size) { return size == 4 ? 0xffffffff : size == 2 ? 0xffff : 0xff; }
static void port_write(void *m, u16 port, unsigned size, u64 value)
{
    struct machine *h = m;
    if (port == 0xf4) {
        h->done = true;
        h->outs++;
        h->ops->kick(h->v);
    }
}
static u64 mmio_read(void *m, u32 vcpu, u64 gpa, unsigned size) { return ~0ull; }
static void mmio_write(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value) {}
static int interrupt_ack(void *m, u32 vcpu) { return -1; }
static u8 cr8_read(void *m, u32 vcpu) { return 0; }
static void cr8_write(void *m, u32 vcpu, u8 value) {}
static int msr_read(void *m, u32 vcpu, u32 msr, u64 *value) { return -1; }
static int msr_write(void *m, u32 vcpu, u32 msr, u64 value) { return -1; }
static const struct engine_machine machine_ops = { port_read, port_write, mmio_read, mmio_write, interrupt_ack,
                                                   cr8_read, cr8_write, msr_read, msr_write };

struct rig {
    struct machine machine;
    struct memory *memory;
    struct engine_vm *vm;
    bool up;
    bool weak; /* may fail to run a snippet, but not run it wrongly */
};

static bool rig_up(struct rig *r, const struct engine_ops *ops, const struct cpuid_table *cpuid)
{
    struct error err = { "" };
    struct engine_config cfg = { .cpuid = cpuid, .ops = &machine_ops, .cpus = 1 };
    memset(r, 0, sizeof(*r));
    r->machine.ops = ops;
    cfg.machine = &r->machine;
    r->memory = cfg.memory = memory_new(&err);
    if (!r->memory || memory_add(r->memory, "ram", 0, MEM, false, &err) || ops->vm_create(&r->vm, &cfg, &err) ||
        ops->vcpu_create(r->vm, 0, &r->machine.v, &err)) {
        test_fail(__FILE__, __LINE__, "%s: %s", ops->name, err.text);
        return false;
    }
    r->up = true;
    return true;
}

static void rig_down(struct rig *r)
{
    if (r->machine.v)
        r->machine.ops->vcpu_destroy(r->machine.v);
    if (r->vm)
        r->machine.ops->vm_destroy(r->vm);
    if (r->memory)
        memory_free(r->memory);
}

struct watchdog {
    struct machine *m;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool over;
};

static void *watch(void *arg)
{
    struct watchdog *w = arg;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 200;
    pthread_mutex_lock(&w->lock);
    while (!w->over) {
        if (pthread_cond_timedwait(&w->cond, &w->lock, &until)) {
            w->m->late = true;
            w->m->ops->kick(w->m->v);
            break;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Runs one snippet; out: state and memory at the end. False: the engine could not (said). */
static bool run_snippet(struct rig *r, const struct snippet *sn, struct cpu_state *out, u8 *mem)
{
    struct error err = { "" };
    struct watchdog w = { .m = &r->machine, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    pthread_t thread;
    u8 *ram = r->memory->region[0].host;
    enum run_result result;
    int turns = 0;

    build_memory(ram, sn);
    build_state(out, sn->mode);
    r->machine.ops->reset_caches(r->vm);
    r->machine.done = r->machine.late = false;
    if (r->machine.ops->set_state(r->machine.v, out)) {
        test_fail(__FILE__, __LINE__, "%s %s: set_state fails", r->machine.ops->name, sn->name);
        return false;
    }
    pthread_create(&thread, NULL, watch, &w);
    do
        result = r->machine.ops->run(r->machine.v, &err);
    while (result == RUN_KICKED && !r->machine.done && !r->machine.late && turns++ < 100);
    pthread_mutex_lock(&w.lock);
    w.over = true;
    pthread_cond_signal(&w.cond);
    pthread_mutex_unlock(&w.lock);
    pthread_join(thread, NULL);
    if (r->machine.ops->get_state(r->machine.v, out))
        test_fail(__FILE__, __LINE__, "%s %s: get_state fails", r->machine.ops->name, sn->name);
    memcpy(mem, ram, MEM);
    if (result != RUN_KICKED || !r->machine.done) {
        if (r->weak) { /* a KVM that interprets the guest's kernel knows few instructions */
            printf("%s cannot run %s: %s\n", r->machine.ops->name, sn->name, err.text[0] ? err.text : "shutdown");
            return false;
        }
        test_fail(__FILE__, __LINE__, "%s %s: %s%s at rip %llx", r->machine.ops->name, sn->name,
                  result == RUN_SHUTDOWN ? "shutdown" : result == RUN_ERROR ? "error: " : "does not end", err.text,
                  (unsigned long long)out->rip);
        return false;
    }
    return true;
}

/* ---- comparison --------------------------------------------------------- */

static void same(const char *name, const char *field, u64 kvm, u64 soft)
{
    if (kvm != soft)
        test_fail(__FILE__, __LINE__, "%s: %s is %llx on kvm, %llx on soft", name, field, (unsigned long long)kvm,
                  (unsigned long long)soft);
}

static void same_seg(const char *name, const char *field, const struct cpu_seg *a, const struct cpu_seg *b, bool long_mode)
{
    char f[40];
    bool dead_a = (a->attr & SEG_UNUSABLE) || !(a->attr & SEG_P), dead_b = (b->attr & SEG_UNUSABLE) || !(b->attr & SEG_P);
    snprintf(f, sizeof(f), "%s selector", field);
    same(name, f, a->selector, b->selector);
    snprintf(f, sizeof(f), "%s usable", field);
    same(name, f, !dead_a, !dead_b);
    if (dead_a || dead_b)
        return;
    snprintf(f, sizeof(f), "%s attr", field);
    same(name, f, a->attr, b->attr);
    snprintf(f, sizeof(f), "%s limit", field);
    same(name, f, a->limit, b->limit);
    snprintf(f, sizeof(f), "%s base", field);
    if (!long_mode || !strcmp(field, "fs") || !strcmp(field, "gs"))
        same(name, f, a->base, b->base);
}

/* A component whose XSTATE_BV bit is clear is in its initial state, whatever the image holds. */
static void fpu_image(const struct cpu_state *s, u8 out[512])
{
    memcpy(out, s->xsave, 512);
    if (!(s->xsave[512] & 1)) {
        memset(out, 0, 24);
        memset(out + 32, 0, 128);
        out[0] = 0x7f, out[1] = 3;
    }
    if (!(s->xsave[512] & 2))
        memset(out + 160, 0, 256);
    memset(out + 6, 0, 18);     /* FOP, FIP, FDP: processors differ in when they are kept */
    memset(out + 28, 0, 4);     /* MXCSR_MASK */
    memset(out + 416, 0, 96);
}

static void compare(const struct snippet *sn, const struct cpu_state *k, const struct cpu_state *s, const u8 *km, const u8 *sm)
{
    static const char *const gpr[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
    static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs" };
    bool long_mode = (k->efer & EFER_LMA) && (k->seg[CS].attr & SEG_L);
    const char *n = sn->name;

    for (int i = 0; i < 16; i++)
        same(n, gpr[i], k->gpr[i], s->gpr[i]);
    same(n, "rip", k->rip, s->rip);
    same(n, "rflags", k->rflags & ~sn->flags_undef, s->rflags & ~sn->flags_undef);
    for (int i = 0; i < SEG_COUNT; i++)
        same_seg(n, segs[i], &k->seg[i], &s->seg[i], long_mode);
    same_seg(n, "ldtr", &k->ldtr, &s->ldtr, false);
    same_seg(n, "tr", &k->tr, &s->tr, false);
    same(n, "gdtr.base", k->gdtr.base, s->gdtr.base);
    same(n, "gdtr.limit", k->gdtr.limit, s->gdtr.limit);
    same(n, "idtr.base", k->idtr.base, s->idtr.base);
    same(n, "idtr.limit", k->idtr.limit, s->idtr.limit);
#define SAME(f) same(n, #f, k->f, s->f)
    SAME(cr0), SAME(cr2), SAME(cr3), SAME(cr4), SAME(xcr0), SAME(dr[0]), SAME(dr6), SAME(dr7), SAME(efer);
    SAME(star), SAME(lstar), SAME(cstar), SAME(sfmask), SAME(kernel_gs_base), SAME(sysenter_cs), SAME(sysenter_esp);
    SAME(sysenter_eip), SAME(pat), SAME(activity), SAME(sti_shadow), SAME(movss_shadow), SAME(nmi_masked);
    SAME(exception_pending), SAME(interrupt_injected);
    u8 kf[512], sf[512];
    fpu_image(k, kf);
    fpu_image(s, sf);
    for (int i = 0; i < 512; i++) {
        if (kf[i] != sf[i]) {
            test_fail(__FILE__, __LINE__, "%s: byte %d of the x87/SSE image is %02x on kvm, %02x on soft", n, i, kf[i], sf[i]);
            break;
        }
    }
    for (u32 i = 0; i < MEM; i++) {
        if (km[i] == sm[i])
            continue;
        test_fail(__FILE__, __LINE__, "%s: memory at %x is %02x on kvm, %02x on soft", n, i, km[i], sm[i]);
        break;
    }
}

/* ---- the tests ---------------------------------------------------------- */

static bool kvm_there(struct engine_caps *caps)
{
    struct error err;
    if (engine_kvm.probe(caps, &err) == 0)
        return true;
    printf("no KVM here: %s\n", err.text);
    return false;
}

static void check_rax(const char *engine, const struct snippet *sn, const struct cpu_state *s)
{
    if (sn->rax != ~0ull && s->gpr[RAX] != sn->rax)
        test_fail(__FILE__, __LINE__, "%s %s: rax is %llx, not %llx", engine, sn->name, (unsigned long long)s->gpr[RAX],
                  (unsigned long long)sn->rax);
}

TEST(same_on_both_engines)
{
    static struct cpu_state ks, ss;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    u8 *km = malloc(MEM), *sm = malloc(MEM);
    struct rig kvm = { .up = false }, soft = { .up = false };
    struct error err;
    const char *only = getenv("SNIPPET");

    bool have_kvm = kvm_there(caps);
    if (engine_soft.probe && !have_kvm)
        CHECK_EQ(engine_soft.probe(caps, &err), 0);
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };
    if (cpuid_build(cpuid, &rq, &err)) {
        test_fail(__FILE__, __LINE__, "cpuid: %s", err.text);
        goto out;
    }
    if (have_kvm)
        rig_up(&kvm, &engine_kvm, cpuid);
    kvm.weak = kvm_selftest(&err) < 0;
    if (engine_soft.vm_create)
        rig_up(&soft, &engine_soft, cpuid);
    for (u32 i = 0; i < ARRAY_SIZE(snippets); i++) {
        const struct snippet *sn = &snippets[i];
        if (only && strcmp(only, sn->name))
            continue;
        bool k = kvm.up && run_snippet(&kvm, sn, &ks, km), s = soft.up && run_snippet(&soft, sn, &ss, sm);
        k = k && !(kvm.weak && sn->hard);
        if (k)
            check_rax("kvm", sn, &ks);
        if (s)
            check_rax("soft", sn, &ss);
        if (k && s)
            compare(sn, &ks, &ss, km, sm);
    }
out:
    rig_down(&kvm);
    rig_down(&soft);
    free(km);
    free(sm);
    free(caps);
    free(cpuid);
}

/* A program that stops at the port each round: 40 rounds of work on registers, flags, stack and memory. */
#define WANDER(n, bits, ax, bx, cx, dx, si, sp)                                                                  \
    ASM(n, bits, "mov $40, %" #cx "; mov $0x1234, %" #ax "; mov $0x5678, %" #bx "; xor %" #dx ", %" #dx ";"       \
                 "1: add %" #ax ", %" #bx "; adc %" #bx ", %" #dx "; rol $3, %" #ax "; xor %" #dx ", %" #ax "; push %" #ax ";"   \
                 "mov %" #cx ", %" #si "; shl $3, %" #si "; mov %" #bx ", 0x200(%" #si "); stc; out %al, $0xf4;" \
                 "pop %" #ax "; sbb 0x200(%" #si "), %" #dx "; dec %" #cx "; jnz 1b")
WANDER(wander16, 16, ax, bx, cx, dx, si, sp)
WANDER(wander32, 32, eax, ebx, ecx, edx, esi, esp)
WANDER(wander64, 64, rax, rbx, rcx, rdx, rsi, rsp)
static const struct snippet wanderers[] = { SN(wander16, REAL, ~0ull, 0), SN(wander32, PM32, ~0ull, 0),
                                            SN(wander64, LONG0, ~0ull, 0) };
enum { WANDER_OUTS = 41 };

/* Runs from the port to the port, on each engine in turn (or on one: b == a), state and memory carried across. */
static bool wander(struct rig *a, struct rig *b, const struct snippet *sn, struct cpu_state *s, u8 *mem)
{
    struct rig *on = a;
    struct error err = { "" };
    u32 outs = 0;

    build_memory(mem, sn);
    build_state(s, sn->mode);
    while (outs < WANDER_OUTS) {
        memcpy(on->memory->region[0].host, mem, MEM);
        on->machine.ops->reset_caches(on->vm);
        if (on->machine.ops->set_state(on->machine.v, s))
            return false;
        on->machine.outs = 0;
        for (int turns = 0; !on->machine.outs && turns < 1000; turns++) {
            if (on->machine.ops->run(on->machine.v, &err) != RUN_KICKED) {
                test_fail(__FILE__, __LINE__, "%s on %s: %s", sn->name, on->machine.ops->name, err.text);
                return false;
            }
        }
        outs += on->machine.outs;
        if (!on->machine.outs || on->machine.ops->get_state(on->machine.v, s))
            return false;
        memcpy(mem, on->memory->region[0].host, MEM);
        on = on == a ? b : a;
    }
    return true;
}

TEST(state_crosses_engines)
{
    static struct cpu_state one, two;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    u8 *m1 = malloc(MEM), *m2 = malloc(MEM);
    struct rig kvm = { .up = false }, soft = { .up = false };
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };
    struct error err;

    if (!kvm_there(caps) || cpuid_build(cpuid, &rq, &err) || !rig_up(&kvm, &engine_kvm, cpuid) ||
        !rig_up(&soft, &engine_soft, cpuid))
        goto out;
    for (u32 i = 0; i < ARRAY_SIZE(wanderers); i++) {
        const struct snippet *sn = &wanderers[i];
        CHECK(wander(&soft, &soft, sn, &one, m1));
        CHECK(wander(&soft, &kvm, sn, &two, m2));
        compare(sn, &two, &one, m2, m1);
        CHECK(wander(&kvm, &soft, sn, &two, m2));
        compare(sn, &two, &one, m2, m1);
    }
out:
    rig_down(&kvm);
    rig_down(&soft);
    free(m1);
    free(m2);
    free(caps);
    free(cpuid);
}

/* What is set is what is read back: no field is lost or mixed up on the way through an engine. */
static void round_trip(const struct engine_ops *ops)
{
    static struct cpu_state a, b;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    struct rig r = { .up = false };
    struct error err;
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };

    if (!ops->vm_create || ops->probe(caps, &err) || cpuid_build(cpuid, &rq, &err) || !rig_up(&r, ops, cpuid))
        goto out;
    build_state(&a, LONG3);
    for (u64 i = 0; i < 16; i++)
        a.gpr[i] = 0x1111111111111111u * i + 5;
    a.cr2 = 0x1234;
    a.dr[0] = 0x1000, a.dr[1] = 0x2000, a.dr[2] = 0x3000, a.dr[3] = 0x4000;
    a.star = 0x0023001000000000, a.lstar = 0xffff800000001000, a.cstar = 0x5000, a.sfmask = 0x47700;
    a.kernel_gs_base = 0xffff888000000000, a.sysenter_cs = 8, a.sysenter_esp = 0x7000, a.sysenter_eip = 0x8000;
    a.pat = 0x0007010600070106;
    a.seg[FS].base = 0x7fff12345000;
    a.seg[GS].base = 0x60000;
    a.nmi_masked = true;
    a.sti_shadow = true;
    a.xsave[512] = 3;
    a.xsave[160] = 0xaa; /* XMM0 */
    a.xsave[32] = 0x55;  /* ST0 */
    a.mtrr_def_type = 0x806;
    CHECK_EQ(ops->set_state(r.machine.v, &a), 0);
    CHECK_EQ(ops->get_state(r.machine.v, &b), 0);
#define BACK(f)                                                                                              \
    do {                                                                                                     \
        if (a.f != b.f)                                                                                      \
            test_fail(__FILE__, __LINE__, "%s: %s set to %llx, reads %llx", ops->name, #f,                   \
                      (unsigned long long)a.f, (unsigned long long)b.f);                                     \
    } while (0)
    for (int i = 0; i < 16; i++)
        BACK(gpr[i]);
    BACK(rip); BACK(rflags); BACK(cr0); BACK(cr2); BACK(cr3); BACK(cr4); BACK(efer); BACK(xcr0);
    BACK(dr[0]); BACK(dr[1]); BACK(dr[2]); BACK(dr[3]); BACK(dr6); BACK(dr7);
    BACK(star); BACK(lstar); BACK(cstar); BACK(sfmask); BACK(kernel_gs_base);
    BACK(sysenter_cs); BACK(sysenter_esp); BACK(sysenter_eip); BACK(pat); BACK(mtrr_def_type);
    BACK(seg[CS].selector); BACK(seg[CS].attr); BACK(seg[FS].base); BACK(seg[GS].base); BACK(tr.base); BACK(tr.attr);
    BACK(gdtr.base); BACK(gdtr.limit); BACK(idtr.base); BACK(idtr.limit);
    BACK(nmi_masked); BACK(sti_shadow); BACK(activity); BACK(xsave[160]); BACK(xsave[32]);
    build_state(&a, REAL);
    a.activity = CPU_WAIT_SIPI;
    CHECK_EQ(ops->set_state(r.machine.v, &a), 0);
    CHECK_EQ(ops->get_state(r.machine.v, &b), 0);
    BACK(activity);
    a.activity = CPU_HALTED;
    a.exception_pending = true;
    a.exception_vector = VEC_UD;
    CHECK_EQ(ops->set_state(r.machine.v, &a), 0);
    CHECK_EQ(ops->get_state(r.machine.v, &b), 0);
    BACK(activity); BACK(exception_pending); BACK(exception_vector);
out:
    rig_down(&r);
    free(caps);
    free(cpuid);
}

/* An NMI that comes while the processor stands still is part of its state, and goes with it. */
static void nmi_waits(const struct engine_ops *ops)
{
    static struct cpu_state s;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };
    struct rig r = { .up = false };
    struct error err;

    if (ops->probe(caps, &err) || cpuid_build(cpuid, &rq, &err) || !rig_up(&r, ops, cpuid))
        goto out;
    struct engine_vcpu *v = r.machine.v;
    build_state(&s, LONG0);
    s.apic_base = 0; /* without an APIC, LINT1 is the NMI pin */
    CHECK_EQ(ops->set_state(v, &s), 0);
    ops->signal(v, SIGNAL_NMI, 0);
    for (int i = 0; i < 2; i++) { /* the second time from what was set */
        s.nmi_pending = false;
        CHECK_EQ(ops->get_state(v, &s), 0);
        CHECK(s.nmi_pending);
        CHECK_EQ(ops->set_state(v, &s), 0);
    }
    ops->signal(v, SIGNAL_NMI, 0);
    s.nmi_pending = false;
    CHECK_EQ(ops->set_state(v, &s), 0);
    CHECK_EQ(ops->get_state(v, &s), 0);
    CHECK(!s.nmi_pending); /* it was another state's */
out:
    rig_down(&r);
    free(caps);
    free(cpuid);
}
TEST(nmi_waits_kvm) { nmi_waits(&engine_kvm); }
TEST(nmi_waits_soft) { nmi_waits(&engine_soft); }

/* TZCNT and LZCNT are BSF and BSR on a processor that has not got them: operands by RIP and with REX included. */
ASM(bitscan, 64, "movq $0x1000, 97f(%rip); xor %eax, %eax; lzcntq 97f(%rip), %r10; tzcnt %r10, %r11; mov $77, %ecx; tzcnt %eax, %ecx;"
                 "mov %ecx, %eax; shl $16, %eax; mov %r10w, %ax; out %al, $0xf4; 96: jmp 96b; .balign 8; 97: .quad 0")

TEST(tzcnt_without_bmi1)
{
    static struct cpu_state s;
    static const struct snippet sn = SN(bitscan, LONG0, ~0ull, 0);
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    u8 *mem = malloc(MEM);
    struct error err;

    for (int with = 0; with < 2; with++) {
        struct rig soft = { .up = false };
        struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported, .features = with ? NULL : "-bmi1,-abm" };
        if (!engine_soft.probe(caps, &err) && !cpuid_build(cpuid, &rq, &err) &&
            cpuid_has(cpuid, cpu_feature_find("bmi1")) == with && rig_up(&soft, &engine_soft, cpuid) &&
            run_snippet(&soft, &sn, &s, mem)) {
            CHECK_EQ(s.gpr[R10], with ? 51 : 12); /* leading zeros, or the number of the highest bit */
            CHECK_EQ(s.gpr[R11], with ? 0 : 2);
            CHECK_EQ(s.gpr[RCX], with ? 32 : 77); /* BSF of 0 leaves its destination */
        }
        rig_down(&soft);
    }
    free(mem);
    free(caps);
    free(cpuid);
}

TEST(round_trip_kvm) { round_trip(&engine_kvm); }
TEST(round_trip_soft) { round_trip(&engine_soft); }
