/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_guest_kernel.c - the guest's kernel: its handlers, page tables and descriptors, and the state of a processor that
 * is in its ring 3. Set up as Linux does it, with the same selectors, so that pushed and stored selectors compare too.
 * Every vector leads to an OUT, on which a run ends. Behind the OUT the kernel enters the next run itself, so that
 * translations of the code live on. Handlers of interrupts do what a kernel does to running code.
 */
#include "user_guest.h"

#include <string.h>

/* Handlers in the order of struct handlers; the constants are KERNEL + ENTRY and the areas' addresses. */
__asm__(
    ".pushsection .rodata\n"
    "kernel_enter:\n"
    "   cld\n"
    "   movabs $0xffff800000010000, %rsp\n"
    "   mov (%rsp), %rdi\n"
    "   mov 8(%rsp), %rcx\n"
    "   lea 0x4000(%rsp), %rsi\n"
    "   rep movsb\n"
    "   mov $-1, %eax\n"
    "   mov $-1, %edx\n"
    "kernel_restore:\n"
    "   xrstor64 0x1000(%rsp)\n"
    "   mov 0xb0(%rsp), %eax; mov %eax, %ds; mov %eax, %es\n" /* a jump that went astray may have popped others */
    "   add $24, %rsp\n"
    "   pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n"
    "   pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
    "   iretq\n"
    "kernel_nothing:\n" /* also for NMI */
    "   iretq\n"
    "kernel_cr3:\n"
    "   push %rax\n"
    "   mov %cr3, %rax\n"
    "   mov %rax, %cr3\n"
    "   pop %rax\n"
    "   iretq\n"
    "kernel_code:\n" /* what is written is what was there */
    "   push %rax\n"
    "   push %rcx\n"
    "   movabs $0xffff800000010010, %rax\n"
    "   mov (%rax), %rax\n"
    "   mov (%rax), %cl\n"
    "   mov %cl, (%rax)\n"
    "   pop %rcx\n"
    "   pop %rax\n"
    "   iretq\n"
    "kernel_invlpg:\n"
    "   push %rax\n"
    "   mov $0x10000000, %eax\n"
    "1: invlpg (%rax)\n"
    "   add $0x1000, %eax\n"
    "   cmp $0x10004000, %eax\n"
    "   jne 1b\n"
    "   mov $0x10100000, %eax\n"
    "1: invlpg (%rax)\n"
    "   invlpg 0x100000(%rax)\n"
    "   add $0x1000, %eax\n"
    "   cmp $0x10105000, %eax\n"
    "   jne 1b\n"
    "   pop %rax\n"
    "   iretq\n"
    "kernel_calls:\n" /* calls without returns, returns without calls */
    "   push %rax\n"
    "   push %rbx\n"
    "   mov $20, %eax\n"
    "1: call 2f\n"
    "2: pop %rbx\n"
    "   lea 3f(%rip), %rbx\n"
    "   push %rbx\n"
    "   ret\n"
    "3: dec %eax\n"
    "   jnz 1b\n"
    "   call 4f\n"
    "   pop %rbx\n"
    "   pop %rax\n"
    "   iretq\n"
    "4: ret\n"
    "kernel_registers:\n"
    "   push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi; push %r8\n"
    "   push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15\n"
    "   mov $0x1234567890abcdef, %rax\n"
    "   cqo\n"
    "   mov %rax, %rcx; mov %rax, %rbx; mov %rax, %rbp; mov %rax, %rsi; mov %rax, %rdi; mov %rax, %r8; mov %rax, %r9\n"
    "   mov %rax, %r10; mov %rax, %r11; mov %rax, %r12; mov %rax, %r13; mov %rax, %r14; mov %rax, %r15\n"
    "   std\n"
    "   mul %rcx\n"
    "   pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n"
    "   pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
    "   iretq\n"
    "kernel_end:\n"
    "   .popsection\n");
extern const u8 kernel_enter[], kernel_restore[], kernel_nothing[], kernel_cr3[], kernel_code[], kernel_invlpg[], kernel_calls[], kernel_registers[],
    kernel_end[];
_Static_assert(KERNEL + ENTRY == 0xffff800000010000 && CODE_COPY == ENTRY + 0x4000 && CODE_BASE == 0x10000000 && CODE_SIZE == 0x4000 &&
        DATA_BASE == 0x10100000 && DATA_SIZE == 0x5000 && STACK_BASE == DATA_BASE + 0x100000 && offsetof(struct entry, touch) == 16 &&
        offsetof(struct entry, gpr) == 24 && offsetof(struct entry, ss) == 0xb0,
    "as the handlers have it");

static void put(struct guest *g, u64 gpa, u64 value) { memcpy(g->ram + gpa, &value, 8); }

static void map(struct guest *g, u64 lin, u64 area, unsigned first, u64 size, bool write)
{
    for (u64 n = 0; n < size; n += 4096) {
        u64 gpa = guest_page_gpa(area, first + (unsigned)(n / 4096));
        u64 pt = (lin >> 21) & 1 ? PT_HIGH : PT_LOW; /* 2 MiB from CODE_BASE on, and the next */
        u64 flags = 0x65 | (write ? 2 : 0) | (lin == CODE_BASE ? 0 : BIT(63)); /* present, user, accessed, dirty; NX */
        put(g, pt + ((lin + n) >> 12 & 511) * 8, gpa | flags);
    }
}

void guest_build_tables(struct guest *g)
{
    put(g, PML4, PDPT | 7);
    put(g, PDPT, PD | 7);
    put(g, PD + (CODE_BASE >> 21) * 8, PT_LOW | 7);
    put(g, PD + ((CODE_BASE >> 21) + 1) * 8, PT_HIGH | 7);
    put(g, PML4 + 256 * 8, PDPT_KERNEL | 3);
    put(g, PDPT_KERNEL, PD_KERNEL | 3);
    put(g, PD_KERNEL, 0 | 0xe3); /* 2 MiB page, supervisor */
    map(g, CODE_BASE, CODE_GPA, 0, CODE_SIZE, true);
    map(g, DATA_BASE, DATA_GPA, 0, DATA_RO, true);
    map(g, DATA_BASE + DATA_RO, DATA_GPA, DATA_RO / 4096, DATA_SIZE - DATA_RO, false);
    map(g, STACK_BASE, STACK_GPA, 0, STACK_SIZE, true);
    put(g, PT_HIGH + (DEVICE_BASE >> 12 & 511) * 8, DEVICE_GPA | 0x67 | BIT(63));
    guest_pattern(g, false);

    put(g, GDT + 8, 0x00cf9b000000ffff); /* what Linux has, for LAR and its like */
    put(g, GDT + GDT_CODE, 0x00af9b000000ffff);
    put(g, GDT + GDT_CODE + 8, 0x00cf93000000ffff);
    put(g, GDT + GDT_USER32, 0x00cffb000000ffff);
    put(g, GDT + GDT_USER_DATA, 0x00cff3000000ffff);
    put(g, GDT + GDT_USER, 0x00affb000000ffff);
    put(g, GDT + 0x78, 0x0040f50000000000); /* Linux's for the number of the CPU */
    for (u64 v = 0; v < 256; v++) {
        static const u8 *const handlers[INTERRUPTS] = {kernel_nothing, kernel_cr3, kernel_code, kernel_invlpg, kernel_calls, kernel_registers};
        const u8 *handler = v == 2 ? kernel_nothing : v >= FIRST_INTERRUPT && v < FIRST_INTERRUPT + INTERRUPTS ? handlers[v - FIRST_INTERRUPT] : NULL;
        u64 at = KERNEL + (handler ? HANDLERS + (u64)(handler - kernel_enter) : STUBS + v * 8);
        u64 dpl = v == 3 || v == 4 ? 3 : 0;
        put(g, IDT + v * 16, (at & 0xffff) | GDT_CODE << 16 | (0x8e00 | dpl << 13) << 32 | (at >> 16 & 0xffff) << 48);
        put(g, IDT + v * 16 + 8, at >> 32);
        u8 stub[8] = {0xe6, EXIT_PORT, 0xe9};
        u32 to_enter = (u32)(HANDLERS - (STUBS + v * 8 + 7));
        memcpy(stub + 3, &to_enter, 4);
        memcpy(g->ram + STUBS + v * 8, stub, 8);
    }
    memcpy(g->ram + HANDLERS, kernel_enter, (size_t)(kernel_end - kernel_enter));
    if (!guest_has(g, ISA_XSAVE)) /* FXRSTOR64 with the same operand: 0F AE /1 for /5 */
        g->ram[HANDLERS + (kernel_restore - kernel_enter) + 3] ^= (5 ^ 1) << 3;
    for (unsigned i = 0; i < LDT_COUNT; i++) {
        const struct ldt_spec *l = &ldt_specs[i];
        u64 type = 1 | (l->fixed ? 0 : 2) | l->contents << 2; /* as Linux makes it, accessed */
        u64 attr = 0x70 | type | (l->absent ? 0 : 0x80) | (l->wide ? 0x4000 : 0) | (l->pages ? 0x8000 : 0);
        if (l->base || l->limit)
            put(g, LDT + i * 8, attr << 40 | (l->limit & 0xffff) | (u64)(l->limit >> 16 & 15) << 48 | (u64)(l->base & 0xffffff) << 16 |
                (u64)(l->base >> 24) << 56);
    }
    put(g, TSS + 4, KERNEL + KSTACK_TOP);
    memset(g->ram + TSS + 0x66, 0x68, 1); /* the I/O map lies beyond the limit: no port for ring 3 */
}

void guest_build_state(struct guest *g)
{
    struct cpu_state *s = &g->state;
    cpu_reset(s, true);
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    s->cr3 = PML4;
    s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | (guest_has(g, ISA_XSAVE) ? CR4_OSXSAVE : 0) |
        (guest_has(g, ISA_FSGSBASE) ? CR4_FSGSBASE : 0);
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    s->xcr0 = host_xcr0;
    s->gdtr = (struct cpu_table){KERNEL + GDT, 0x7f};
    s->idtr = (struct cpu_table){KERNEL + IDT, 0xfff};
    guest_segment(&s->tr, GDT_TSS, 0x8b, 0x67, KERNEL + TSS);
    guest_segment(&s->ldtr, 0x50, 0x82, LDT_COUNT * 8 - 1, KERNEL + LDT);
    for (int i = 0; i < SEG_COUNT; i++)
        guest_segment(&s->seg[i], GDT_USER_DATA | 3, 0xc0f3, 0xffffffff, 0);
    guest_segment(&s->seg[FS], 0, SEG_UNUSABLE, 0, 0);
    guest_segment(&s->seg[GS], 0, SEG_UNUSABLE, 0, GS_BASE);
}
