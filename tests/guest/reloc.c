/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reloc.c - user code of one place in memory that lies at several addresses, in one address space and in two: what is
 * relative to RIP is each copy's own, calls and returns lead from one to the other, the pages beside it differ or are
 * absent, it is overwritten where it is not run, and what faults does so at the address it really has.
 */
#include "lib/guest.h"

const char guest_name[] = "reloc";

extern u64 pml4[];
enum { P = 1, W = 2, U = 4, USER_SP = 0x1400000, PAGE = 4096, HOT = 300 };

/*
 * Two pages of code, then what differs from copy to copy. r_enter: RSI is called. The rest is called or jumped to; RDI
 * counts. What leads over the pages' boundary does so by CALL, JMP and Jcc.
 */
__asm__(".pushsection .data\n .balign 4096\n"
        "blob:\n"
        "r_enter: xor %eax, %eax\n call *%rsi\n"
        "r_done:  int $0x80\n"
        "r_work:  push %rbx\n xor %ebx, %ebx\n"
        "r_loop:  add r_value(%rip), %rbx\n"
        "         lea r_here(%rip), %rax\n add %rax, %rbx\n"
        "r_here:  lea r_here(%rip), %eax\n add %rax, %rbx\n"
        "         call r_back\n"
        "r_ret:   add %rax, %rbx\n"
        "         call r_next\n add %rax, %rbx\n"
        "         call *r_pointer(%rip)\n add %rax, %rbx\n"
        "         lea r_own(%rip), %rax\n call *%rax\n add %rax, %rbx\n"
        "         pushq r_value(%rip)\n pop %rax\n add %rax, %rbx\n"
        "         jmp r_tail\n"
        "r_end:   mov %rbx, %rax\n pop %rbx\n ret\n"
        "r_back:  mov (%rsp), %rax\n ret\n"
        /* calls the other copy, RSI, which calls this one */
        "r_pong:  test %rdi, %rdi\n jz 1f\n dec %rdi\n"
        "         mov %rsi, %rax\n lea r_pong(%rip), %rsi\n call *%rax\n"
        "         add r_value(%rip), %rax\n lea r_pong(%rip), %rcx\n add %rcx, %rax\n ret\n"
        "1:       xor %eax, %eax\n ret\n"
        "r_pongs: mov %rdx, %rsi\n jmp r_pong\n"
        /* goes on in the other copy, RDX: by a return address that was changed, by a stack that was, by a jump */
        "r_hop:   add r_value(%rip), %rax\n dec %rdi\n jz r_done\n"
        "         mov %rdx, %rsi\n lea r_hop(%rip), %rdx\n mov %rsp, %r8\n"
        "         test $1, %dil\n jz 1f\n call 3f\n ud2\n"
        "1:       test $2, %dil\n jz 2f\n call 4f\n ud2\n"
        "2:       jmp *%rsi\n"
        "3:       mov %rsi, (%rsp)\n ret\n"
        "4:       call r_deep\n ud2\n"
        /* stores to RDX, which is R_IMM's operand elsewhere */
        "r_smc:   push %rbx\n xor %ebx, %ebx\n"
        "1:       mov %edi, (%rdx)\n call r_imm\n add %rax, %rbx\n dec %rdi\n jnz 1b\n"
        "         mov %rbx, %rax\n pop %rbx\n ret\n"
        /* faults, when hot */
        "r_div:   mov $100, %eax\n xor %edx, %edx\n"
        "r_div_at: div %edi\n dec %rdi\n jmp r_div\n"
        "r_ud:    dec %rdi\n jnz r_ud\n"
        "r_ud_at: ud2\n"
        "r_read:  add $64, %rdx\n"
        "r_read_at: mov (%rdx), %rax\n jmp r_read\n"
        "r_push:  add $64, %rdx\n"
        "r_push_at: pushq (%rdx)\n pop %rax\n jmp r_push\n"
        "r_int3:  int3\n dec %rdi\n jnz r_int3\n ret\n"
        "r_fip:   fninit\n"
        "r_fip_at: fld1\n fnstenv r_env(%rip)\n mov r_env + 12(%rip), %eax\n dec %rdi\n jnz r_fip\n ret\n"
        ".balign 4096\n"
        "r_next:  lea r_next(%rip), %rax\n ret\n"
        "r_own:   mov r_value(%rip), %rax\n inc %rax\n ret\n"
        "r_tail:  dec %rdi\n jnz r_loop\n jmp r_end\n"
        "r_deep:  call 1f\n ud2\n 1: mov %r8, %rsp\n jmp *%rsi\n"
        "r_imm:   mov $0, %eax\n ret\n"
        ".balign 4096\n"
        "r_value: .quad 5\n"
        "r_pointer: .quad r_own\n"
        "r_env:   .fill 32, 1, 0\n"
        ".balign 4096\n .popsection\n"
        /* enter(rip, sp, di, si, dx) */
        "enter:   push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n mov %rsp, kernel_sp\n"
        "         pushq $0x2b\n push %rsi\n pushq $2\n pushq $0x33\n push %rdi\n"
        "         mov %rdx, %rdi\n mov %rcx, %rsi\n mov %r8, %rdx\n iretq\n"
        "entered: pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

extern u8 blob[], r_done[], r_work[], r_loop[], r_here[], r_ret[], r_pong[], r_pongs[], r_hop[], r_smc[], r_div[], r_div_at[],
    r_ud[], r_ud_at[], r_read[], r_read_at[], r_push[], r_push_at[], r_int3[], r_fip[], r_fip_at[], r_next[], r_own[], r_imm[],
    r_end[], entered[];
void enter(u64 ip, u64 sp, u64 di, u64 si, u64 dx);
word kernel_sp; /* by name in the assembly */

static struct frame last; /* how user code ended */
static u64 last_cr2, int3_at, int3_wrong, int3_count;
static u64 root[2][512] __attribute__((aligned(PAGE)));
static u64 tables[64][512] __attribute__((aligned(PAGE)));
static u32 ntables;
static u8 other[2][PAGE] __attribute__((aligned(PAGE)));   /* instead of the second page */
static u64 own[8][512] __attribute__((aligned(PAGE)));     /* instead of the third */

enum { LIBRARY, PROGRAM, OTHER, THIRD, ABSENT, FAR, TOP, LOW };
static const u64 at[] = {
    [LIBRARY] = 0x7f1234560000, [PROGRAM] = 0x555555554000, [OTHER] = 0x7f1236000000, [THIRD] = 0x7f1299990000,
    [ABSENT] = 0x100003000, [FAR] = 0x2aaa00000000, [TOP] = 0x7ffffffff000 - 4 * PAGE, [LOW] = 0x80000000,
};

static int on_user(struct frame *f)
{
    if ((f->cs & 3) != 3)
        return 0;
    if (f->vector == 3) {
        int3_count++;
        int3_wrong += f->ip != int3_at + 1;
        return 1;
    }
    last = *f;
    last_cr2 = READ_CR(2);
    f->ip = (u64)entered;
    f->cs = 0x18;
    f->ss = 0x10;
    f->sp = kernel_sp;
    f->flags = 2;
    return 1;
}

static u64 *below(u64 *table, u32 k)
{
    if (!(table[k] & P) || (table[k] & 0x80))
        table[k] = (u64)tables[ntables++] | P | W | U;
    return (u64 *)(table[k] & ~0xfffull);
}
/* NULL: not at all */
static void map(u32 space, u64 lin, const void *page)
{
    u64 *t = root[space];
    for (u32 shift = 39; shift > 12; shift -= 9)
        t = below(t, lin >> shift & 511);
    t[lin >> 12 & 511] = page ? (u64)page | P | W | U : 0;
    invlpg((void *)lin);
}
static void map_copy(u32 space, u64 base, const void *second, u64 *third)
{
    map(space, base, blob);
    map(space, base + PAGE, second);
    map(space, base + 2 * PAGE, third);
}

static u64 in(u64 base, const u8 *label)
{
    return base + (u64)(label - blob);
}
/* Calls label in the copy at base. */
static u64 run(u64 base, const u8 *label, u64 di, u64 dx)
{
    enter(base, USER_SP, di, in(base, label), dx);
    return last.ax;
}
static void ended(const char *what, u64 vector, u64 ip)
{
    CHECK(what, last.vector, vector);
    CHECK(what, last.ip, ip);
}

/* What r_work answers: next is what r_next does. */
static u64 worked(u64 base, u64 n, u64 value, u64 next)
{
    return n * (value + in(base, r_here) + (u32)in(base, r_here) + in(base, r_ret) + next + value + 1 + value + 1 + value);
}
static void work(const char *what, u64 base, u64 n, u64 value, u64 next)
{
    CHECK(what, run(base, r_work, n, 0), worked(base, n, value, next));
    ended(what, 0x80, in(base, r_done) + 2);
}
static void work_all(u64 n)
{
    work("a library", at[LIBRARY], n, 100, in(at[LIBRARY], r_next));
    work("a program", at[PROGRAM], n, 101, in(at[PROGRAM], r_next));
    work("with another second page", at[OTHER], n, 102, 7001);
    work("with a third one", at[THIRD], n, 103, 7002);
    work("at the top", at[TOP], n, 106, in(at[TOP], r_next));
    work("at the bottom", at[LOW], n, 107, in(at[LOW], r_next));
}

static void set_up(void)
{
    for (u32 s = 0; s < 2; s++)
        for (u32 k = 0; k < 512; k++)
            root[s][k] = pml4[k];
    u64 *low = tables[ntables++]; /* each space's own first GiBs are the same */
    for (u32 k = 0; k < 512; k++)
        low[k] = ((u64 *)(pml4[0] & ~0xfffull))[k];
    root[0][0] = root[1][0] = (u64)low | P | W | U;
    for (u32 k = 0; k < ARRAY_SIZE(own); k++) {
        own[k][0] = 100 + k;
        own[k][1] = in(at[k], r_own);
    }
    for (u32 n = 0; n < 2; n++) { /* mov $7001 + n, %eax; ret; where r_next begins */
        static const u8 code[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
        memcpy(other[n], blob + PAGE, PAGE);
        memcpy(other[n], code, sizeof code);
        *(u32 *)(other[n] + 1) = 7001 + n;
    }
    map_copy(0, at[LIBRARY], blob + PAGE, own[LIBRARY]);
    map_copy(0, at[PROGRAM], blob + PAGE, own[PROGRAM]);
    map_copy(0, at[OTHER], other[0], own[OTHER]);
    map_copy(0, at[THIRD], other[1], own[THIRD]);
    map_copy(0, at[ABSENT], NULL, own[ABSENT]);
    map_copy(0, at[FAR], other[1], own[FAR]);
    map_copy(0, at[TOP], blob + PAGE, own[TOP]);
    map_copy(0, at[LOW], blob + PAGE, own[LOW]);
    WRITE_CR(3, root[0]);
}

static void pong(const char *what, u32 a, u32 b, u64 n)
{
    const u64 of_a = 100 + a + in(at[a], r_pong), of_b = 100 + b + in(at[b], r_pong);
    CHECK(what, run(at[a], r_pongs, n, in(at[b], r_pong)), (n + 1) / 2 * of_a + n / 2 * of_b);
    ended(what, 0x80, in(at[a], r_done) + 2);
}
static void hop(const char *what, u32 a, u32 b, u64 n)
{
    CHECK(what, run(at[a], r_hop, n, in(at[b], r_hop)), (n + 1) / 2 * (100 + a) + n / 2 * (100 + b));
    ended(what, 0x80, in(n % 2 ? at[a] : at[b], r_done) + 2);
}

static void between(void)
{
    static const u8 pairs[][2] = { { LIBRARY, PROGRAM }, { PROGRAM, THIRD }, { LOW, LIBRARY }, { PROGRAM, LOW }, { TOP, PROGRAM },
                                   { LIBRARY, TOP }, { LIBRARY, LIBRARY } };
    for (u32 k = 0; k < ARRAY_SIZE(pairs); k++) {
        const u32 a = pairs[k][0], b = pairs[k][1];
        for (u32 n = 0; n < 10; n++)
            pong("calls from copy to copy", a, b, 60 + n);
        pong("deep calls", a, b, 70000);
        pong("deeper calls", a, b, 90001);
        hop("from copy to copy without a call", a, b, HOT);
        hop("the same, ending in the other", a, b, HOT + 1);
    }
}

static void absent(void)
{
    for (u32 n = 0; n < 2 * HOT; n++) {
        enter(at[ABSENT], USER_SP, 3, in(at[ABSENT], r_work), 0);
        CHECK("the next page is absent", last.error & ~16ull, 4);
        CHECK("its address", last_cr2, in(at[ABSENT], r_next));
        ended("the next page is absent", 14, in(at[ABSENT], r_next));
    }
    map(0, at[ABSENT] + PAGE, blob + PAGE);
    work("a page that was absent", at[ABSENT], HOT, 104, in(at[ABSENT], r_next));
    map(0, at[ABSENT] + PAGE, NULL);
    enter(at[ABSENT], USER_SP, 3, in(at[ABSENT], r_work), 0);
    ended("the next page is absent again", 14, in(at[ABSENT], r_next));
    enter(in(at[ABSENT], r_loop), USER_SP - 64, 3, 0, 0);
    ended("and so from the middle", 14, in(at[ABSENT], r_next));
}

static void exchanged(void)
{
    const u64 base = at[LIBRARY];
    for (u32 n = 0; n < HOT; n++) {
        const u32 k = n % 3;
        map(0, base + PAGE, k ? other[k - 1] : blob + PAGE);
        work("its second page exchanged", base, 2, 100, k ? 7000 + k : in(base, r_next));
        map(0, base + 2 * PAGE, own[n % 2]);
        own[n % 2][1] = in(base, r_own);
        work("its data exchanged", base, 2, 100 + n % 2, k ? 7000 + k : in(base, r_next));
        own[1][1] = in(at[PROGRAM], r_own);
        map(0, base + 2 * PAGE, own[LIBRARY]);
    }
    map_copy(0, base, blob + PAGE, own[LIBRARY]);
}

/* The library of one space is where the program of the other is, and the other way about. */
static void spaces(void)
{
    u32 r[4];
    cpuid(1, 0, r);
    const u32 pcid = r[2] >> 17 & 1;
    map_copy(1, at[LIBRARY], blob + PAGE, own[5]);
    map_copy(1, at[PROGRAM], other[0], own[6]);
    for (u32 with = 0; with <= pcid; with++) {
        if (with)
            WRITE_CR(4, READ_CR(4) | 1 << 17);
        for (u32 n = 0; n < HOT; n++) {
            const u64 keep = (u64)(with && n) << 63;
            WRITE_CR(3, (u64)root[0] | with | keep);
            work("one space's library", at[LIBRARY], 3, 100, in(at[LIBRARY], r_next));
            work("one space's program", at[PROGRAM], 3, 101, in(at[PROGRAM], r_next));
            WRITE_CR(3, (u64)root[1] | 2 * with | keep);
            own[5][1] = in(at[LIBRARY], r_own);
            own[6][1] = in(at[PROGRAM], r_own);
            work("the other's library", at[LIBRARY], 3, 105, in(at[LIBRARY], r_next));
            work("the other's program", at[PROGRAM], 3, 106, 7001);
        }
        WRITE_CR(3, root[0]);
        if (with)
            WRITE_CR(4, READ_CR(4) & ~(1ul << 17));
    }
    own[5][1] = in(at[FAR], r_own);
    own[6][1] = in(at[TOP], r_own);
}

static void overwritten(u64 base)
{
    CHECK("overwritten elsewhere", run(base, r_smc, HOT, (u64)r_imm + 1), HOT * (HOT + 1) / 2);
    ended("overwritten elsewhere", 0x80, in(base, r_done) + 2);
    for (u32 n = 0; n < HOT; n++) {
        *(volatile u32 *)(r_imm + 1) = n;
        CHECK("overwritten by the kernel", run(base, r_imm, 0, 0), n);
    }
}

static void faults(u64 base)
{
    enter(in(base, r_div), USER_SP, HOT, 0, 0);
    ended("#DE", 0, in(base, r_div_at));
    enter(in(base, r_ud), USER_SP, HOT, 0, 0);
    ended("#UD", 6, in(base, r_ud_at));
    static u64 room[3 * 512] __attribute__((aligned(PAGE)));
    map(0, 0x600000000000, room);
    map(0, 0x600000001000, room + 512);
    enter(in(base, r_read), USER_SP, 0, 0, 0x600000000000);
    ended("#PF", 14, in(base, r_read_at));
    CHECK("#PF, address", last_cr2, 0x600000002000);
    enter(in(base, r_push), USER_SP, 0, 0, 0x600000000000);
    ended("#PF of PUSH", 14, in(base, r_push_at));
    CHECK("#PF of PUSH, address", last_cr2, 0x600000002000);
    CHECK("#PF of PUSH, the stack", last.sp, USER_SP);
    int3_at = in(base, r_int3);
    int3_count = 0;
    run(base, r_int3, HOT, 0);
    CHECK("INT3s", int3_count, HOT);
    CHECK("INT3s from elsewhere", int3_wrong, 0);
    CHECK("where the FPU was", run(base, r_fip, HOT, 0), (u32)in(base, r_fip_at));
    ended("where the FPU was", 0x80, in(base, r_done) + 2);
    *(u64 *)(USER_SP - 72) = 0, *(u64 *)(USER_SP - 64) = in(base, r_done); /* as if r_work had been called */
    last = (struct frame){ 0 };
    enter(in(base, r_loop), USER_SP - 72, HOT, 0, 0);
    ended("into the middle", 0x80, in(base, r_done) + 2);
}

int main(void)
{
    on_interrupt = on_user;
    gate_dpl(0x80, 3);
    gate_dpl(3, 3);
    set_up();
    for (u32 n = 0; n < HOT; n++) { /* a page that is found elsewhere first */
        CHECK("the second page alone", run(at[FAR], r_next, 0, 0), 7002);
    }
    work_all(HOT);
    for (u32 n = 0; n < HOT; n++)
        work_all(3);
    absent();
    between();
    exchanged();
    spaces();
    for (u32 k = 0; k < ARRAY_SIZE(at); k++)
        if (k != ABSENT && k != OTHER && k != THIRD && k != FAR)
            overwritten(at[k]);
    for (u32 k = 0; k < ARRAY_SIZE(at); k++)
        if (k != ABSENT)
            faults(at[k]);
    work_all(HOT);
    return 0;
}
