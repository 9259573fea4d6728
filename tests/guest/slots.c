/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots.c - what a translator might do over and over without getting on: accesses of one instruction after the other to
 * pages 16 MiB apart, which share an entry in a TLB of 4096, between a comparison and the jump that reads its flags;
 * frames and tables that lie across the end of a page, time and again; and CPUs that overwrite each other's code as fast as they can. All there is to it is that the guest comes to its end.
 */
#include "lib/guest.h"

const char guest_name[] = "slots";

extern volatile u32 ap_started;
extern char trampoline[], trampoline_end[];
extern u64 pml4[];
#define WINDOW 0x8000000000ull /* PML4 entry 1 */
enum { APART = 16 << 20, PAGES = 5, MAX_CPUS = 2, ROUNDS = 3000, REWRITES = 3000 };
static u64 pdpt1[512] __attribute__((aligned(4096))), pd1[512] __attribute__((aligned(4096))),
    pt1[PAGES][512] __attribute__((aligned(4096)));
static u64 apart[MAX_CPUS][PAGES][512] __attribute__((aligned(4096))), close[MAX_CPUS][PAGES][512] __attribute__((aligned(4096)));
static u8 code[4096] __attribute__((aligned(4096)));
static u32 cpus;
static volatile u32 done;

/* As many groups of accesses as registers, all behind the SUB whose flags the JNZ reads. */
static void two(u64 n, u64 *p[])
{
    __asm__ volatile("1: sub $1, %0\n"
                     "   mov (%1), %%rax\n   mov 8(%1), %%rdx\n"
                     "   lea 1(%%rax), %%rax\n"
                     "   mov %%rdx, 16(%2)\n   mov %%rax, 24(%2)\n"
                     "   mov %%rax, (%1)\n"
                     "   jnz 1b" : "+r"(n) : "r"(p[0]), "r"(p[1]) : "rax", "rdx", "memory", "cc");
}

static void three(u64 n, u64 *p[])
{
    __asm__ volatile("1: sub $1, %0\n"
                     "   mov (%1), %%rax\n   mov 8(%1), %%rdx\n"
                     "   mov 16(%2), %%rsi\n   mov %%rdx, 24(%2)\n"
                     "   lea 3(%%rax,%%rsi), %%rax\n"
                     "   mov %%rax, (%1)\n"
                     "   mov %%rsi, 16(%3)\n   mov %%rax, 24(%3)\n"
                     "   mov %%rax, 16(%2)\n"
                     "   jnz 1b" : "+r"(n) : "r"(p[0]), "r"(p[1]), "r"(p[2]) : "rax", "rdx", "rsi", "memory", "cc");
}

/* And the stack: PUSH, POP, CALL, RET, by an RSP that shares their entry, too. */
static void four_and_stack(u64 n, u64 *p[])
{
    __asm__ volatile("   mov %%rsp, %%r15\n   lea 2048(%5), %%rsp\n"
                     "1: sub $1, %0\n"
                     "   mov (%1), %%rax\n   mov 8(%1), %%rdx\n"
                     "   push %%rax\n"
                     "   mov 16(%2), %%rsi\n   mov %%rdx, 24(%2)\n"
                     "   push %%rsi\n"
                     "   lea 5(%%rax,%%rsi), %%rax\n"
                     "   mov %%rax, (%1)\n"
                     "   mov 40(%3), %%rdx\n   mov %%rax, 32(%3)\n"
                     "   pop %%rsi\n"
                     "   lea 7(%%rsi,%%rdx), %%rdx\n"
                     "   mov %%rdx, 48(%4)\n   mov 56(%4), %%r8\n   mov %%rdx, 40(%3)\n"
                     "   pop %%rdx\n"
                     "   mov %%rdx, 16(%2)\n"
                     "   call 2f\n"
                     "   jnz 1b\n"
                     "   jmp 3f\n"
                     "2: mov %%rdx, 64(%1)\n   mov %%rsi, 72(%2)\n"
                     "   ret\n"
                     "3: mov %%r15, %%rsp" : "+r"(n) : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "r"(p[4])
                     : "rax", "rdx", "rsi", "r8", "r15", "memory", "cc");
}

/* Accesses by two registers, and to be made in one piece. */
static void indexed(u64 n, u64 *p[])
{
    __asm__ volatile("1: sub $1, %0\n"
                     "   mov (%1,%4,8), %%rax\n   mov 8(%1,%4,8), %%rdx\n"
                     "   mov %%rdx, (%2,%4,8)\n   mov %%rax, 8(%2,%4,8)\n"
                     "   xchg %%rax, (%3,%4,8)\n   movb $7, 8(%3,%4,8)\n"
                     "   lea (%%rax,%%rdx), %%rax\n"
                     "   mov %%rax, (%1,%4,8)\n"
                     "   jnz 1b\n" : "+r"(n) : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(13ull) : "rax", "rdx", "memory", "cc");
}

static void shared_entry(u32 me)
{
    static void (*const runs[])(u64, u64 *[]) = {two, three, four_and_stack, indexed};
    u64 *far[PAGES], *near[PAGES];
    for (u32 k = 0; k < PAGES; k++) {
        far[k] = (u64 *)(WINDOW + (u64)k * APART + me * 4096);
        near[k] = close[me][k];
        for (u32 i = 0; i < 512; i++)
            far[k][i] = near[k][i] = k * 1000 + i;
    }
    for (u32 f = 0; f < ARRAY_SIZE(runs); f++)
        for (u32 turn = 0; turn < PAGES; turn++) { /* each with each, in both orders */
            u64 *a[PAGES], *b[PAGES];
            for (u32 k = 0; k < PAGES; k++)
                a[k] = far[(k + turn) % PAGES], b[k] = near[(k + turn) % PAGES];
            runs[f](ROUNDS, a);
            runs[f](ROUNDS, b);
        }
    for (u32 k = 0; k < PAGES; k++)
        for (u32 i = 0; i < 512; i++)
            CHECK("the same as in pages close together", far[k][i], near[k][i]);
}

/* A function whose frame lies about rsp, and a table about base: sums what it keeps there, flags over stores and loads. */
static u64 framed(u64 n, u64 *rsp, u64 *base)
{
    u64 sum = 0, x = 0;
    __asm__ volatile("   mov %%rsp, %%r15\n   mov %3, %%rsp\n"
                     "1: call 2f\n"
                     "   sub $1, %0\n"
                     "   mov %%rax, -16(%4)\n   mov -16(%4), %%rsi\n   mov %%rsi, 8(%4)\n   mov 8(%4), %%rdx\n"
                     "   lea (%1,%%rdx), %1\n"
                     "   jnz 1b\n"
                     "   jmp 3f\n"
                     "2: push %%rbx\n   push %1\n   push %0\n   push %2\n   sub $40, %%rsp\n"
                     "   mov %0, 32(%%rsp)\n   mov %1, 8(%%rsp)\n   mov 48(%%rsp), %%rax\n   cmp 32(%%rsp), %%rax\n"
                     "   mov 8(%%rsp), %%rsi\n   mov %%rsi, 24(%%rsp)\n"
                     "   setne %%al\n   movzbl %%al, %%eax\n"
                     "   add 24(%%rsp), %%rax\n   adc $3, %%rax\n"
                     "   add $40, %%rsp\n   pop %2\n   pop %0\n   pop %1\n   pop %%rbx\n   ret\n"
                     "3: mov %%r15, %%rsp" : "+r"(n), "+r"(sum), "+r"(x) : "r"(rsp), "r"(base)
                     : "rax", "rdx", "rsi", "r15", "memory", "cc");
    return sum;
}

static void across_pages(u32 me)
{
    u64 *const whole = close[me][3] + 256;
    const u64 right = framed(ROUNDS, whole, whole + 64);
    for (u32 off = 0; off < 16; off++) { /* each way to lie across the end of a page */
        CHECK("a frame across two pages", framed(ROUNDS, close[me][1] + off, whole + 64), right);
        CHECK("accesses across two pages", framed(ROUNDS, whole, (u64 *)((u8 *)close[me][1] + off)), right);
    }
}

/* mov $n, %eax; ret: one a CPU, in a page that both overwrite without asking, the other's and the own. */
static void rewrite(u32 me)
{
    volatile u32 *const own = (volatile u32 *)(code + 256 * me + 4), *const other = (volatile u32 *)(code + 256 * (1 - me) + 4);
    u32 wrong = 0;
    for (u32 i = 0; i < REWRITES; i++) {
        *other = 0x1000 + i;
        if (i % 3 == 0)
            *own = 0x1000 + i;
        const u32 got = ((u32 (*)(void))(code + 256 * me + 3))();
        wrong += got < 0x1000 || got >= 0x1000 + REWRITES;
    }
    CHECK("code that is overwritten all the time", wrong, 0);
}

static void meet(u32 n)
{
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    while (done < n * cpus)
        __asm__ volatile("pause");
}

static void work(u32 me)
{
    shared_entry(me);
    across_pages(me);
    meet(1);
    rewrite(me);
    meet(2);
}

void ap_main(void)
{
    while (!cpus)
        __asm__ volatile("pause");
    work(1);
    for (;;)
        __asm__ volatile("cli; hlt");
}

int main(void)
{
    u32 r[4];
    cpuid(0xb, 1, r);
    pml4[1] = (u64)pdpt1 | 3;
    pdpt1[0] = (u64)pd1 | 3;
    for (u32 k = 0; k < PAGES; k++) {
        pd1[k * (APART >> 21)] = (u64)pt1[k] | 3;
        for (u32 c = 0; c < MAX_CPUS; c++)
            pt1[k][c] = (u64)apart[c][k] | 3;
    }
    for (u32 c = 0; c < MAX_CPUS; c++) {
        u8 *p = code + 256 * c;
        p[3] = 0xb8, *(u32 *)(p + 4) = 0x1000;
        p[8] = 0xc3;
    }
    u8 *low = (u8 *)0x8000;
    for (char *p = trampoline; p < trampoline_end; p++)
        *low++ = (u8)*p;
    volatile u32 *apic = (volatile u32 *)0xfee00000ull;
    apic[0xf0 / 4] = 0x1ff;
    if ((r[1] & 0xff) > 1) { /* INIT and SIPI to all others */
        apic[0x300 / 4] = 0xc4500;
        apic[0x300 / 4] = 0xc4608;
    }
    while (ap_started < (r[1] & 0xff) - 1)
        __asm__ volatile("pause");
    cpus = r[1] & 0xff;
    work(0);
    return 0;
}
