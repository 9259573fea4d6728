/* SPDX-License-Identifier: Apache-2.0 */
/* selfcheck_registers.c - all registers hold their values over loops, calls, system calls, strings and 32-bit code. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "selfcheck.h"

enum { LEVEL_SSE, LEVEL_AVX, LEVEL_AVX512 };
struct regs {
    u8 vector[32][64];
    u64 mask[8], gpr[16], flags, fs, gs;
    u8 st[8][10];
    uint16_t fcw, fsw;
    u32 mxcsr, pkru;
};
/* What the program does while its registers hold what they are to hold. */
enum { SPIN_IDLE, SPIN_MEMORY, SPIN_CALLS, SPIN_SYSCALL, SPIN_32, SPIN_REP, SPINS };
struct work {
    struct regs in, out;
    u64 level, count, kind, sp, pku, fsgsbase;
    u8 area[8192];
} __attribute__((aligned(64)));
static struct work *work; /* below 4 GiB */
void spin(struct work *w);

#define OFF(f) [f] "i"(offsetof(struct work, f))
__attribute__((naked, used)) void spin(struct work *w)
{
    (void)w;
    __asm__ volatile(
        "push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14; push %%r15; mov %%rsp, %c[sp](%%rdi)\n"
        /* x87, MXCSR, PKRU */
        "fninit; fldcw %c[in_fcw](%%rdi)\n"
        ".irp n, 7, 6, 5, 4, 3, 2, 1, 0; fldt (%c[in_st] + \\n * 10)(%%rdi); .endr\n"
        "ldmxcsr %c[in_mxcsr](%%rdi)\n"
        "cmpq $0, %c[pku](%%rdi); je 1f; mov %c[in_pkru](%%rdi), %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; wrpkru\n1:\n"
        "cmpq $0, %c[fsgsbase](%%rdi); je 1f; mov %c[in_gs](%%rdi), %%rax; wrgsbase %%rax\n1:\n"
        /* vectors */
        "cmpq $1, %c[level](%%rdi); ja 3f; je 2f\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15; movdqu (\\n * 64)(%%rdi), %%xmm\\n; .endr; jmp 4f\n"
        "2: .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15; vmovdqu (\\n * 64)(%%rdi), %%ymm\\n; .endr; jmp 4f\n"
        "3: .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
        "vmovdqu64 (\\n * 64)(%%rdi), %%zmm\\n; .endr\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7; kmovq (%c[in_mask] + \\n * 8)(%%rdi), %%k\\n; .endr\n"
        "4:\n"
        ".irp n, 8, 9, 10, 11, 12, 13, 14, 15; mov (%c[in_gpr] + \\n * 8)(%%rdi), %%r\\n; .endr\n"
        "mov (%c[in_gpr] + 24)(%%rdi), %%rbx; mov (%c[in_gpr] + 40)(%%rdi), %%rbp\n"
        "mov (%c[in_gpr] + 16)(%%rdi), %%rdx; mov (%c[in_gpr] + 48)(%%rdi), %%rsi\n"
        "mov %c[count](%%rdi), %%rcx; mov %c[kind](%%rdi), %%rax\n"
        "cmp $1, %%eax; je 11f; cmp $2, %%eax; je 12f; cmp $3, %%eax; je 13f; cmp $4, %%eax; je 14f; cmp $5, %%eax; je 15f\n"
        /* flags alone: LEA and JRCXZ leave them */
        "pushq %c[in_flags](%%rdi); popfq; mov (%c[in_gpr])(%%rdi), %%rax\n"
        "10: lea -1(%%rcx), %%rcx; jrcxz 19f; jmp 10b\n"
        "11: pushq %c[in_flags](%%rdi); popfq; mov (%c[in_gpr])(%%rdi), %%rax\n"
        "111: mov %%rax, %c[area](%%rdi); mov %c[area](%%rdi), %%rax; push %%rbx; push %%rdx; pop %%rdx; pop %%rbx\n"
        " xchg %%rsi, %c[area] + 64(%%rdi); xchg %%rsi, %c[area] + 64(%%rdi); bswap %%r10; bswap %%r10; not %%r15; not %%r15\n"
        " lea -1(%%rcx), %%rcx; jrcxz 19f; jmp 111b\n19: jmp 20f\n"
        "12: lea 122f(%%rip), %%rax; mov %%rax, %c[area](%%rdi); pushq %c[in_flags](%%rdi); popfq; mov (%c[in_gpr])(%%rdi), %%rax\n"
        "121: call 122f; call *%c[area](%%rdi); lea -1(%%rcx), %%rcx; jrcxz 19f; jmp 121b\n19: jmp 20f\n"
        "122: xchg %%rax, %%rbp; xchg %%rax, %%rbp; ret\n"
        /* R11 and RCX are the call's */
        "13: mov %%rcx, %c[area](%%rdi)\n"
        "131: mov $39, %%eax; syscall; decq %c[area](%%rdi); jnz 131b; mov (%c[in_gpr])(%%rdi), %%rax; mov (%c[in_gpr] + 88)(%%rdi), %%r11\n"
        " pushq %c[in_flags](%%rdi); popfq; jmp 20f\n"
        /* 32-bit code: nothing above bit 31 is looked at */
        "14: mov (%c[in_gpr])(%%rdi), %%eax; pushq %c[in_flags](%%rdi); popfq; pushq $0x23; pushq $141f; lretq\n.code32\n"
        "141: lea -1(%%ecx), %%ecx; jecxz 142f; bswap %%ebx; bswap %%ebx; jmp 141b\n142: ljmp $0x33, $143f\n.code64\n"
        "143: jmp 20f\n"
        /* RCX elements there and back */
        "15: push %%rdi; push %%rsi; push %%rcx; cld; lea %c[area](%%rdi), %%rsi; lea 4096(%%rsi), %%rdi\n"
        " cmp $4096, %%ecx; jbe 151f; mov $4096, %%ecx\n151: mov %%rcx, (%%rsp); rep movsb; mov (%%rsp), %%rcx; mov 16(%%rsp), %%rdi\n"
        " lea %c[area](%%rdi), %%rsi; lea 4096(%%rsi), %%rdi; repe cmpsb; je 152f; ud2\n"
        "152: pop %%rcx; pop %%rsi; pop %%rdi; mov (%c[in_gpr])(%%rdi), %%rax; pushq %c[in_flags](%%rdi); popfq; jmp 20f\n"
        "20: mov %%rsp, %%rcx; mov %c[sp](%%rdi), %%rsp; pushfq; popq %c[out_flags](%%rdi); cld\n"
        "mov %%rcx, (%c[out_gpr] + 32)(%%rdi); mov %%rax, %c[out_gpr](%%rdi)\n"
        ".irp n, 8, 9, 10, 11, 12, 13, 14, 15; mov %%r\\n, (%c[out_gpr] + \\n * 8)(%%rdi); .endr\n"
        "mov %%rbx, (%c[out_gpr] + 24)(%%rdi); mov %%rbp, (%c[out_gpr] + 40)(%%rdi)\n"
        "mov %%rdx, (%c[out_gpr] + 16)(%%rdi); mov %%rsi, (%c[out_gpr] + 48)(%%rdi)\n"
        "cmpq $1, %c[level](%%rdi); ja 3f; je 2f\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15; movdqu %%xmm\\n, (%c[out] + \\n * 64)(%%rdi); .endr; jmp 4f\n"
        "2: .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15; vmovdqu %%ymm\\n, (%c[out] + \\n * 64)(%%rdi); .endr; jmp 4f\n"
        "3: .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
        "vmovdqu64 %%zmm\\n, (%c[out] + \\n * 64)(%%rdi); .endr\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7; kmovq %%k\\n, (%c[out_mask] + \\n * 8)(%%rdi); .endr\n"
        "4: fnstcw %c[out_fcw](%%rdi); fnstsw %c[out_fsw](%%rdi)\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7; fstpt (%c[out_st] + \\n * 10)(%%rdi); .endr\n"
        "stmxcsr %c[out_mxcsr](%%rdi)\n"
        "cmpq $0, %c[pku](%%rdi); je 1f; xor %%ecx, %%ecx; rdpkru; mov %%eax, %c[out_pkru](%%rdi); mov $0x55555554, %%eax; wrpkru\n1:\n"
        "cmpq $0, %c[fsgsbase](%%rdi); je 1f; rdfsbase %%rax; mov %%rax, %c[out_fs](%%rdi); rdgsbase %%rax; mov %%rax, %c[out_gs](%%rdi)\n1:\n"
        "fninit; movl $0x1f80, %c[area](%%rdi); ldmxcsr %c[area](%%rdi)\n"
        "cmpq $0, %c[level](%%rdi); je 1f; vzeroupper\n1: pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbp; pop %%rbx; ret\n"
        ::OFF(sp), OFF(level), OFF(count), OFF(kind), OFF(pku), OFF(fsgsbase), OFF(area), OFF(out), [in_fcw] "i"(offsetof(struct work, in.fcw)),
        [in_st] "i"(offsetof(struct work, in.st)), [in_mxcsr] "i"(offsetof(struct work, in.mxcsr)),
        [in_pkru] "i"(offsetof(struct work, in.pkru)), [in_gs] "i"(offsetof(struct work, in.gs)),
        [in_mask] "i"(offsetof(struct work, in.mask)), [in_gpr] "i"(offsetof(struct work, in.gpr)),
        [in_flags] "i"(offsetof(struct work, in.flags)), [out_fcw] "i"(offsetof(struct work, out.fcw)),
        [out_fsw] "i"(offsetof(struct work, out.fsw)), [out_st] "i"(offsetof(struct work, out.st)),
        [out_mxcsr] "i"(offsetof(struct work, out.mxcsr)), [out_pkru] "i"(offsetof(struct work, out.pkru)),
        [out_fs] "i"(offsetof(struct work, out.fs)), [out_gs] "i"(offsetof(struct work, out.gs)),
        [out_mask] "i"(offsetof(struct work, out.mask)), [out_gpr] "i"(offsetof(struct work, out.gpr)),
        [out_flags] "i"(offsetof(struct work, out.flags)));
}

/* A handler that leaves nothing in the registers that was there. */
static void scribble(int sig)
{
    (void)sig;
    __asm__ volatile(".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15; pcmpeqd %%xmm\\n, %%xmm\\n; .endr\n"
                     "fninit; fldpi; fldl2e; fldz; fld1"
                     ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                         "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)");
}

static void differ(const char *what, unsigned n, const void *want, const void *got, size_t size)
{
    const u8 *a = want, *b = got;
    for (size_t k = 0; k < size; k++)
        if (a[k] != b[k]) {
            u64 x = 0, y = 0;
            const size_t at = k / 8 * 8, len = size - at < 8 ? size - at : 8;
            memcpy(&x, a + at, len);
            memcpy(&y, b + at, len);
            bad("%s %u (level %u, kind %u, %u rounds) from byte %zu: %#lx, not %#lx", what, n, (unsigned)work->level, (unsigned)work->kind,
                (unsigned)work->count, at, y, x);
            return;
        }
}

/* The widest vectors there are. */
static u64 top_level(void)
{
    unsigned a, b = 0, c = 0, d;
    u64 xcr0 = 0;
    __cpuid(1, a, b, c, d);
    if (c & 1 << 27)
        __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(d) : "c"(0));
    const int avx = c & 1 << 28 && (xcr0 & 6) == 6;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        b = c = 0;
    return avx && (b & 1 << 16) && (b & 1 << 30) && (xcr0 & 0xe6) == 0xe6 ? LEVEL_AVX512 : avx ? LEVEL_AVX : LEVEL_SSE;
}

static int has_pku(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) ? c >> 4 & 1 : 0; /* OSPKE */
}

static void disturb(void)
{
    stack_t ss = { .ss_sp = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 65536 };
    sigaltstack(&ss, NULL);
    struct sigaction sa = { .sa_handler = scribble, .sa_flags = SA_ONSTACK | SA_RESTART };
    sigaction(SIGALRM, &sa, NULL);
    if (self & 1) { /* every other one is disturbed by signals, too */
        const struct itimerval it = { { 0, 1700 }, { 0, 1700 } };
        setitimer(ITIMER_REAL, &it, NULL);
    }
}

static void choose(struct work *w, u64 top)
{
    static const uint16_t flags[] = { 0x202, 0x246, 0xad7, 0x293, 0x602, 0xed7 };
    for (u8 *p = w->in.vector[0]; p < w->in.vector[32]; p += 8)
        *(u64 *)p = rnd();
    for (unsigned k = 0; k < 16; k++)
        w->in.gpr[k] = rnd();
    for (unsigned k = 0; k < 8; k++) {
        const u64 x = rnd() | 1ull << 63;
        memcpy(w->in.st[k], &x, 8);
        w->in.st[k][8] = (u8)rnd(), w->in.st[k][9] = (u8)(rnd() & 0xbf);
        if (!w->in.st[k][8])
            w->in.st[k][8] = 1;
        w->in.mask[k] = rnd();
    }
    w->in.fcw = (uint16_t)(0x7f & ~0x40) | 0x40 | (uint16_t)(rnd() & 0xc00) | 0x300;
    w->in.mxcsr = 0x1f80 | (rnd() & 0x603f);
    w->in.pkru = (u32)rnd() & ~3u; /* key 0 is ours */
    w->in.gs = rnd() >> 20;
    w->in.flags = flags[rnd() % 6];
    w->level = rnd() % (top + 1);
    w->kind = rnd() % SPINS;
    w->count = 1 + rnd() % (w->kind == SPIN_SYSCALL ? 30 : w->kind == SPIN_MEMORY || w->kind == SPIN_CALLS ? 20000 : 60000);
    if (w->kind == SPIN_32)
        w->in.flags &= ~0x400ull;
}

static void compare(const struct work *w, u64 fs)
{
    const unsigned wide = w->level == LEVEL_AVX512 ? 64 : w->level == LEVEL_AVX ? 32 : 16;
    for (unsigned k = 0; k < (wide == 64 ? 32 : 16); k++)
        differ("vector", k, w->in.vector[k], w->out.vector[k], wide);
    for (unsigned k = 0; k < 8 && wide == 64; k++)
        differ("mask", k, &w->in.mask[k], &w->out.mask[k], 8);
    for (unsigned k = 0; k < 16; k++)
        if (k != 1 && k != 7 && k != 4)
            differ("register", k, &w->in.gpr[k], &w->out.gpr[k], w->kind == SPIN_32 && k < 8 ? 4 : 8);
    for (unsigned k = 0; k < 8; k++)
        differ("ST", k, w->in.st[k], w->out.st[k], 10);
    differ("register", 4, &w->sp, &w->out.gpr[4], w->kind == SPIN_32 ? 4 : 8);
    if ((w->out.flags ^ w->in.flags) & 0xfd5)
        bad("flags (kind %u): %#lx, not %#lx", (unsigned)w->kind, w->out.flags, w->in.flags);
    differ("FCW", 0, &w->in.fcw, &w->out.fcw, 2);
    if (w->out.fsw)
        bad("FSW %#x", w->out.fsw);
    differ("MXCSR", 0, &w->in.mxcsr, &w->out.mxcsr, 4);
    if (w->pku)
        differ("PKRU", 0, &w->in.pkru, &w->out.pkru, 4);
    if (w->fsgsbase) {
        differ("GS base", 0, &w->in.gs, &w->out.gs, 8);
        differ("FS base", 0, &fs, &w->out.fs, 8);
    }
}

void registers(void)
{
    const u64 top = top_level();
    work = mmap(NULL, sizeof *work, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | MAP_POPULATE, -1, 0);
    if (work == MAP_FAILED) {
        bad("no memory below 4 GiB");
        return;
    }
    work->pku = has_pku();
    work->fsgsbase = getauxval(AT_HWCAP2) >> 1 & 1;
    disturb();
    while (going()) {
        choose(work, top);
        memset(&work->out, 0, sizeof work->out);
        u64 fs = 0;
        __asm__("mov %%fs:0, %0" : "=r"(fs));
        spin(work);
        compare(work, fs);
    }
}
