/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selfcheck.c - programs of a Linux guest that check themselves without pause, for a host that stops them at any moment.
 *
 *   selfcheck SECONDS SEED      all at once, about that long by the guest's clock; a line for what is wrong, and at the end
 *                               "rounds NAME N" a program and "all done"
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

static struct shared { /* of all programs */
    u64 rounds[32], tsc, clock[3];
    u32 futex[4], bad;
} *sh;
static u64 end_ns, seed;
static unsigned self;

static u64 now(clockid_t c)
{
    struct timespec t;
    clock_gettime(c, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static __attribute__((format(printf, 1, 2))) void bad(const char *format, ...)
{
    char text[400];
    va_list ap;
    int n = snprintf(text, sizeof text, "bad: ");
    va_start(ap, format);
    n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, ap);
    va_end(ap);
    text[n++] = '\n';
    if (__atomic_add_fetch(&sh->bad, 1, __ATOMIC_SEQ_CST) < 100 && write(1, text, (size_t)n) < 0)
        _exit(1);
}

static u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static u64 key_of(u64 n) { return (n + 1) * 0x9e3779b97f4a7c15ull; }

static int going(void)
{
    return ++sh->rounds[self] < 5 || now(CLOCK_MONOTONIC) < end_ns;
}

static void pin(int cpu)
{
    cpu_set_t s;
    CPU_ZERO(&s);
    CPU_SET((unsigned)cpu % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &s);
    sched_setaffinity(0, sizeof s, &s);
}

/* ---- all registers ---- */

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

static void registers(void)
{
    unsigned a, b = 0, c = 0, d;
    u64 xcr0 = 0;
    __cpuid(1, a, b, c, d);
    if (c & 1 << 27)
        __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(d) : "c"(0));
    const int avx = c & 1 << 28 && (xcr0 & 6) == 6;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        b = c = 0;
    const u64 top = avx && (b & 1 << 16) && (b & 1 << 30) && (xcr0 & 0xe6) == 0xe6 ? LEVEL_AVX512 : avx ? LEVEL_AVX : LEVEL_SSE;
    work = mmap(NULL, sizeof *work, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | MAP_POPULATE, -1, 0);
    if (work == MAP_FAILED) {
        bad("no memory below 4 GiB");
        return;
    }
    work->pku = c >> 4 & 1; /* OSPKE */
    work->fsgsbase = getauxval(AT_HWCAP2) >> 1 & 1;
    stack_t ss = { .ss_sp = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 65536 };
    sigaltstack(&ss, NULL);
    struct sigaction sa = { .sa_handler = scribble, .sa_flags = SA_ONSTACK | SA_RESTART };
    sigaction(SIGALRM, &sa, NULL);
    if (self & 1) { /* every other one is disturbed by signals, too */
        const struct itimerval it = { { 0, 1700 }, { 0, 1700 } };
        setitimer(ITIMER_REAL, &it, NULL);
    }
    static const uint16_t flags[] = { 0x202, 0x246, 0xad7, 0x293, 0x602, 0xed7 };
    for (; going();) {
        struct work *w = work;
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
        memset(&w->out, 0, sizeof w->out);
        u64 fs = 0;
        __asm__("mov %%fs:0, %0" : "=r"(fs));
        spin(w);
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
}

/* ---- clocks ---- */

static void at_least(u64 *shared, u64 (*read)(void), const char *name)
{
    u64 seen = __atomic_load_n(shared, __ATOMIC_SEQ_CST);
    const u64 t = read();
    if (t < seen)
        bad("%s went back by %lu: %#lx after %#lx", name, seen - t, t, seen);
    while (t > seen && !__atomic_compare_exchange_n(shared, &seen, t, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}
static u64 read_tsc(void)
{
    unsigned x;
    return __rdtscp(&x);
}
static u64 read_monotonic(void) { return now(CLOCK_MONOTONIC); }
static u64 read_boottime(void) { return now(CLOCK_BOOTTIME); }
static void clocks(void)
{
    pin((int)self);
    unsigned a, b, c, d;
    __cpuid(0x80000001, a, b, c, d);
    for (; going();) {
        for (unsigned k = 0; k < 3000; k++)
            if (d & 1 << 27)
                at_least(&sh->tsc, read_tsc, "the TSC");
        for (unsigned k = 0; k < 300; k++)
            at_least(&sh->clock[0], read_monotonic, "CLOCK_MONOTONIC");
        at_least(&sh->clock[1], read_boottime, "CLOCK_BOOTTIME");
        const u64 t = now(CLOCK_MONOTONIC), ns = 1 + rnd() % 3000000;
        const struct timespec nap = { 0, (long)ns };
        if (!nanosleep(&nap, NULL) && now(CLOCK_MONOTONIC) - t < ns)
            bad("a sleep of %lu ns took %lu", ns, now(CLOCK_MONOTONIC) - t);
    }
}

/* ---- memory ---- */

static volatile u64 faults;
static void on_segv(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    faults++;
    if (mprotect((void *)((u64)info->si_addr & ~0xfffull), 4096, PROT_READ | PROT_WRITE))
        _exit(9);
}
static void memory(void)
{
    enum { PAGES = 200 };
    struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &sa, NULL);
    u64 *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (; going();) {
        const u64 key = rnd();
        u64 want = 0, n = rnd() % PAGES;
        madvise(p, PAGES * 4096, MADV_DONTNEED);
        for (u64 k = 0; k < PAGES * 512; k += 1 + k % 61)
            p[k] = key * k;
        faults = 0;
        for (u64 k = 0; k < n; k++) { /* which of them are closed, the handler counts */
            const u64 page = rnd() % PAGES;
            if (mprotect(p + page * 512, 4096, rnd() & 1 ? PROT_NONE : PROT_READ))
                bad("mprotect: %d", errno);
        }
        u64 *q = mremap(p, PAGES * 4096, PAGES * 4096, MREMAP_MAYMOVE);
        if (q != p)
            bad("mremap to the same size");
        if ((q = mmap(NULL, PAGES * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
            bad("mmap: %d", errno);
        mprotect(p, PAGES * 4096, PROT_READ | PROT_WRITE); /* one mapping again */
        if (mremap(p, PAGES * 4096, PAGES * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, q) != q)
            bad("mremap: %d", errno);
        p = q;
        for (u64 k = 0; k < n; k++)
            mprotect(p + rnd() % PAGES * 512, 4096, rnd() & 1 ? PROT_NONE : PROT_READ);
        for (u64 k = 0; k < PAGES * 512; k += 1 + k % 61) {
            want = key * k;
            const u64 got = __atomic_fetch_add(p + k, 1, __ATOMIC_SEQ_CST);
            if (got != want || p[k] != want + 1)
                bad("memory at %lu: %#lx, not %#lx", k, got, want);
        }
        mprotect(p, PAGES * 4096, PROT_READ | PROT_WRITE);
    }
}

/* Strings of all lengths, whose pages come while the instruction runs; gathers likewise. */
static void strings(void)
{
    enum { SIZE = 1 << 20 };
    u8 *a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    u8 *b = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (u64 k = 0; k < SIZE; k++)
        a[k] = (u8)(k * 7 + (k >> 8) * 3 + 1);
    for (; going();) {
        const u64 n = rnd() % (SIZE - 64), from = rnd() % (SIZE - n), to = rnd() % (SIZE - n);
        madvise(b, SIZE, MADV_DONTNEED);
        void *d = b + to;
        const void *s = a + from;
        u64 c = n;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c)::"memory");
        if (d != b + to + n || s != a + from + n || c)
            bad("REP MOVSB of %lu ends at %ld, %ld, %lu", n, (long)((u8 *)d - b - to), (long)((const u8 *)s - a - from), c);
        d = b + to, s = a + from, c = n + 1;
        u8 equal = 1;
        if (n)
            __asm__ volatile("cmp %%eax, %%eax; repe cmpsb; sete %3" : "+D"(d), "+S"(s), "=c"(c), "=q"(equal) : "2"(n) : "memory", "cc");
        if (n && (c || !equal))
            bad("REPE CMPSB of %lu stops at %lu", n, n - c);
        d = b + to, c = n / 8;
        __asm__ volatile("std; rep stosq; cld" : "=D"(d), "+c"(c) : "0"(b + to + n / 8 * 8 - (n >= 8 ? 8 : 0)), "a"(key_of(n)) : "memory");
        for (u64 k = 0; k < n / 8; k++) {
            u64 x;
            memcpy(&x, b + to + 8 * k, 8);
            if (x != key_of(n))
                bad("REP STOSQ of %lu: element %lu is %#lx", n / 8, k, x);
        }
        u64 sum = 0;
        for (u64 k = 0; k < SIZE; k += 4099)
            sum += (u8)(k * 7 + (k >> 8) * 3 + 1) != a[k];
        if (sum)
            bad("the source of strings changed");
    }
}

__attribute__((target("avx2"))) static void gather_round(int *base, unsigned pages)
{
    u32 at[8], got[8];
    for (unsigned k = 0; k < 8; k++)
        at[k] = (u32)(rnd() % (pages * 1024));
    __m256i x = _mm256_setzero_si256();
    x = _mm256_mask_i32gather_epi32(x, base, _mm256_loadu_si256((const __m256i *)at), _mm256_set1_epi32(-1), 4);
    _mm256_storeu_si256((__m256i *)got, x);
    for (unsigned k = 0; k < 8; k++)
        if (got[k] != at[k] * 0x9e3779b1u)
            bad("gather: element %u is %#x, not %#x", k, got[k], at[k] * 0x9e3779b1u);
}

static void gathers(void)
{
    enum { PAGES = 64 };
    const int fd = memfd_create("gather", 0);
    if (fd < 0 || ftruncate(fd, PAGES * 4096))
        return;
    u32 *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (u32 k = 0; k < PAGES * 1024; k++)
        p[k] = k * 0x9e3779b1u;
    for (; going();) {
        madvise(p, PAGES * 4096, MADV_DONTNEED); /* mapped again by faults */
        for (unsigned k = 0; k < 200; k++) {
            if (__builtin_cpu_supports("avx2"))
                gather_round((int *)p, PAGES);
            else if (p[(k * 4099) % (PAGES * 1024)] != (k * 4099) % (PAGES * 1024) * 0x9e3779b1u)
                bad("shared memory");
        }
    }
}

/* ---- processes ---- */

static u64 digest(u64 h, const u8 *p, size_t n)
{
    for (size_t k = 0; k < n; k++)
        h = (h ^ p[k]) * 0x100000001b3ull, h ^= h >> 29;
    return h;
}
static void processes(void)
{
    char arg[32], *argv[] = { (char *)"selfcheck", (char *)"--digest", arg, NULL };
    u8 data[512];
    for (; going();) {
        const u64 s = rnd() >> 1;
        snprintf(arg, sizeof arg, "%lu", s);
        u64 want = s, got = 0;
        for (unsigned k = 0; k < 40; k++) {
            memset(data, (int)(s >> k & 255), sizeof data);
            want = digest(want, data, sizeof data);
        }
        int fd[2], status;
        if (pipe(fd))
            continue;
        const pid_t pid = fork();
        if (!pid) {
            dup2(fd[1], 9);
            execv("/proc/self/exe", argv);
            _exit(3);
        }
        close(fd[1]);
        if (read(fd[0], &got, 8) != 8 || got != want)
            bad("a process made %#lx, not %#lx", got, want);
        close(fd[0]);
        if (waitpid(pid, &status, 0) != pid || status)
            bad("a process ended with %#x", status);
    }
}

/* A stream through two pipes and a process between them. */
static void streams(void)
{
    int in[2], out[2];
    if (pipe(in) || pipe(out))
        return;
    const pid_t pid = fork();
    u8 buf[3000];
    if (!pid) {
        close(in[1]), close(out[0]);
        for (ssize_t n; (n = read(in[0], buf, sizeof buf)) > 0;) {
            for (ssize_t k = 0; k < n; k++)
                buf[k] ^= 0x5a;
            for (ssize_t at = 0, m; at < n; at += m)
                if ((m = write(out[1], buf + at, (size_t)(n - at))) <= 0)
                    _exit(1);
        }
        _exit(0);
    }
    close(in[0]), close(out[1]);
    const int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    for (; going();) {
        const size_t n = 1 + rnd() % sizeof buf;
        u8 sent[sizeof buf], back[sizeof buf];
        for (size_t k = 0; k < n; k++)
            sent[k] = (u8)rnd();
        if (write(in[1], sent, n) != (ssize_t)n)
            bad("write to a pipe: %d", errno);
        for (size_t at = 0; at < n;) {
            const ssize_t m = read(out[0], buf + at, n - at);
            if (m <= 0) {
                bad("read from a pipe: %d", errno);
                return;
            }
            at += (size_t)m;
        }
        for (size_t k = 0; k < n; k++)
            buf[k] ^= 0x5a;
        if (memcmp(buf, sent, n))
            bad("a pipe of %zu bytes", n);
        if (file >= 0) {
            const off_t at = (off_t)(rnd() % 300000);
            if (pwrite(file, sent, n, at) != (ssize_t)n || pread(file, back, n, at) != (ssize_t)n || memcmp(back, sent, n))
                bad("a file of %zu bytes", n);
        }
    }
    close(in[1]);
    waitpid(pid, NULL, 0);
}

/* Two processes in turn. */
static void turns(unsigned me)
{
    pin((int)me);
    u32 *f = &sh->futex[0];
    const struct timespec second = { 1, 0 };
    for (u32 turn = me;; turn += 2) {
        for (u32 x; (x = __atomic_load_n(f, __ATOMIC_SEQ_CST)) != turn;) {
            if (x > turn && x != UINT32_MAX)
                bad("futex: turn %u, and it is %u", turn, x);
            if (x > turn)
                return;
            syscall(SYS_futex, f, FUTEX_WAIT, x, &second, NULL, 0);
        }
        if (++sh->futex[1] != turn + 1)
            bad("futex: %u turns, not %u", sh->futex[1], turn + 1);
        const int more = going();
        __atomic_store_n(f, more ? turn + 1 : UINT32_MAX, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, f, FUTEX_WAKE, 2, NULL, NULL, 0);
        if (!more)
            return;
    }
}
static void turns0(void) { turns(0); }
static void turns1(void) { turns(1); }

/* ---- debug registers and single steps ---- */

static volatile u64 watched[8] __attribute__((aligned(64)));
static volatile u64 traps;
static void on_trap(int sig)
{
    (void)sig;
    traps++;
}
static void debugging(void)
{
    for (; going();) {
        const unsigned n = 1 + (unsigned)(rnd() % 20);
        const pid_t pid = fork();
        if (!pid) {
            ptrace(PTRACE_TRACEME, 0, 0, 0);
            raise(SIGSTOP);
            for (unsigned k = 0; k < n; k++) {
                for (unsigned j = 0; j < 50; j++)
                    watched[1] += j;
                watched[0] = k;
            }
            _exit(0);
        }
        int status, hits = 0;
        waitpid(pid, &status, 0);
        if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &watched[0]) ||
            ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0x90001)) { /* 8 bytes, writes */
            bad("debug registers: %d", errno);
        }
        for (;;) {
            ptrace(PTRACE_CONT, pid, 0, 0);
            if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
                break;
            hits++;
            const long dr6 = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[6]), 0);
            if (WSTOPSIG(status) != SIGTRAP || !(dr6 & 1))
                bad("a stop by %d, DR6 %#lx", WSTOPSIG(status), dr6);
            ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[6]), 0);
        }
        if (status || hits != (int)n)
            bad("%d hits of a watchpoint, not %u; status %#x", hits, n, status);

        signal(SIGTRAP, on_trap);
        traps = 0;
        u64 x = 5;
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; add $1, %0; imul $3, %0; mov %0, %1; xchg %0, %1\n"
                         "pushfq; andq $~0x100, (%%rsp); popfq" : "+r"(x), "+m"(watched[2])::"cc", "memory");
        if (x != 18 || traps != 7)
            bad("%lu single steps, not 7; %lu", traps, x);
    }
}

/* ---- main ---- */

static void registers2(void) { registers(); }
static const struct program {
    const char *name;
    void (*run)(void);
} programs[] = {
    { "registers", registers }, { "registers+signals", registers2 }, { "clocks", clocks }, { "clocks2", clocks }, { "memory", memory },
    { "strings", strings }, { "gathers", gathers }, { "processes", processes }, { "streams", streams }, { "turns", turns0 },
    { "turns2", turns1 }, { "debugging", debugging },
};
enum { PROGRAMS = sizeof programs / sizeof *programs };

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--digest")) {
        u8 data[512];
        const u64 s = strtoul(argv[2], NULL, 10);
        u64 h = s;
        for (unsigned k = 0; k < 40; k++) {
            memset(data, (int)(s >> k & 255), sizeof data);
            h = digest(h, data, sizeof data);
        }
        return write(9, &h, 8) != 8;
    }
    if (argc != 3)
        return 2;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    end_ns = now(CLOCK_MONOTONIC) + strtoul(argv[1], NULL, 10) * 1000000000ull;
    const u64 first = strtoul(argv[2], NULL, 10);
    printf("go\n");
    fflush(stdout);
    pid_t pid[PROGRAMS];
    for (unsigned k = 0; k < PROGRAMS; k++) {
        self = k;
        seed = (first + 1) * 0x9e3779b97f4a7c15ull + k * 0xd1342543de82ef95ull;
        seed |= 1;
        if (!(pid[k] = fork())) {
            programs[k].run();
            _exit(0);
        }
    }
    for (unsigned k = 0; k < PROGRAMS; k++) {
        int status;
        if (pid[k] < 0 || waitpid(pid[k], &status, 0) < 0 || status)
            bad("%s ended with %#x", programs[k].name, status);
        printf("rounds %s %lu\n", programs[k].name, sh->rounds[k]);
    }
    printf("all done\n");
    return 0;
}
