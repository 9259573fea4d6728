/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race.c - CPUs against each other: locked instructions of every kind and place lose nothing, loads and stores come in
 * an order that x86 allows (SDM vol. 3, 8.2.3), code written by one CPU is what another runs after it was told to look
 * (SDM vol. 3, 8.1.3), and a mapping that one takes away is gone for the others once they say so.
 */
#include "lib/guest.h"

const char guest_name[] = "race";

extern volatile u32 ap_started;
extern char trampoline[], trampoline_end[];
extern u64 pml4[], pdpt[], pd[];
enum { LOOPS = 3000, LITMUS = 3000, REWRITES = 300, REMAPS = 100, MAX_CPUS = 4 };
static u32 cpus;
static volatile u32 phase, finished;

static void apic_write(u32 reg, u32 v) { *(volatile u32 *)(0xfee00000ull + reg) = v; }
static u32 apic_id(void) { return *(volatile u32 *)(0xfee00020ull) >> 24; }
static void pause(void) { __asm__ volatile("pause"); }
static void serialize(void)
{
    u32 r[4];
    cpuid(0, 0, r);
}

/* All CPUs meet. */
static volatile u32 arrived, round;
static void meet(void)
{
    u32 now = round;
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) == cpus) {
        arrived = 0;
        __atomic_store_n(&round, now + 1, __ATOMIC_SEQ_CST);
    } else {
        while (round == now)
            pause();
    }
}

/* ---- locked instructions -------------------------------------------------------- */

static u8 area[3 * 4096] __attribute__((aligned(4096)));
#define AT(type, offset) (*(volatile type *)(area + (offset)))
enum { WORD = 64, SPLIT_LINE = 128 + 61, SPLIT_PAGE = 4096 - 3, BITS = 512, PAIR = 1024, SUM = 1100, BYTES = 1200, XCHG = 1300, SUB = 1304 };

static void locked(u32 me)
{
    u32 sum = 0;
    u64 a, d;
    for (u32 i = 0; i < LOOPS; i++) {
        u32 x = 1, old;
        u8 ok;
        __asm__ volatile("lock addw $1, %0" : "+m"(AT(u16, WORD)) : : "memory", "cc");
        __asm__ volatile("lock incl %0" : "+m"(AT(u32, SPLIT_LINE)) : : "memory", "cc");
        __asm__ volatile("lock addq $3, %0" : "+m"(AT(u64, SPLIT_PAGE)) : : "memory", "cc");
        __asm__ volatile("lock xaddl %1, %0" : "+m"(AT(u32, SUM)), "+r"(x) : : "memory", "cc");
        sum += x; /* of all that were seen: each number once */
        __asm__ volatile("lock btcl %1, %0" : "+m"(AT(u32, BITS)) : "r"(me) : "memory", "cc");
        __asm__ volatile("lock decb %0" : "+m"(AT(u8, BYTES + me)) : : "memory", "cc");
        __asm__ volatile("lock subl $2, %0" : "+m"(AT(u32, SUB)) : : "memory", "cc");
        do { /* a lock by XCHG, which locks without being told */
            old = 1;
            __asm__ volatile("xchgl %1, %0" : "+m"(AT(u32, XCHG)), "+r"(old) : : "memory");
        } while (old);
        AT(u32, XCHG + 64) = AT(u32, XCHG + 64) + 1;
        AT(u32, XCHG) = 0;
        a = AT(u64, PAIR), d = AT(u64, PAIR + 8);
        do
            __asm__ volatile("lock cmpxchg16b %0; setz %3" : "+m"(*(volatile __int128 *)(area + PAIR)), "+a"(a), "+d"(d), "=q"(ok)
                             : "b"(a + 1), "c"(d + 5) : "memory", "cc");
        while (!ok);
        u32 seen = AT(u32, SUM + 8), want;
        do { /* CMPXCHG across a line's end as well */
            want = seen;
            __asm__ volatile("lock cmpxchgl %2, %1" : "+a"(seen), "+m"(AT(u32, 2048 - 2)) : "r"(want + 7) : "memory", "cc");
        } while (seen != want);
    }
    __atomic_fetch_add((u64 *)(area + 3000), sum, __ATOMIC_SEQ_CST);
}

static void locked_results(void)
{
    u64 n = (u64)cpus * LOOPS;
    CHECK("LOCK ADD of a word", AT(u16, WORD), n & 0xffff);
    CHECK("LOCK INC across lines", AT(u32, SPLIT_LINE), n);
    CHECK("LOCK ADD across pages", AT(u64, SPLIT_PAGE), 3 * n);
    CHECK("LOCK XADD", AT(u32, SUM), n);
    CHECK("what LOCK XADD gave", AT(u64, 3000), n * (n - 1) / 2);
    CHECK("LOCK BTC", AT(u32, BITS), LOOPS & 1 ? (1u << cpus) - 1 : 0);
    CHECK("LOCK SUB", AT(u32, SUB), (u32)(-2 * n));
    for (u32 i = 0; i < cpus; i++)
        CHECK("LOCK DEC of a byte beside others", AT(u8, BYTES + i), (u8)-LOOPS);
    CHECK("a lock by XCHG", AT(u32, XCHG + 64), n);
    CHECK("LOCK CMPXCHG16B, low", AT(u64, PAIR), n);
    CHECK("LOCK CMPXCHG16B, high", AT(u64, PAIR + 8), 5 * n);
    CHECK("LOCK CMPXCHG across lines", AT(u32, 2048 - 2), 7 * n);
}

/* ---- order of loads and stores ---------------------------------------------------- */

static volatile u32 x __attribute__((aligned(64))), y __attribute__((aligned(64)));
static volatile u32 seen[MAX_CPUS][2];
static u32 forbidden[4];

static void litmus(u32 me)
{
    for (u32 i = 0; i < LITMUS; i++) {
        u32 kind = i & 3, a = 0, b = 0;
        meet();
        if (kind == 0 && me < 2) { /* message passing: stores in order, loads in order */
            if (me == 0)
                __asm__ volatile("movl $1, %0; movl $1, %1" : "=m"(x), "=m"(y) : : "memory");
            else
                __asm__ volatile("movl %3, %0; movl %2, %1" : "=&r"(a), "=&r"(b) : "m"(x), "m"(y) : "memory");
        } else if (kind == 1 && me < 2) { /* store buffering with a fence: not both 0 */
            if (me == 0)
                __asm__ volatile("movl $1, %1; mfence; movl %2, %0" : "=r"(a), "=m"(x) : "m"(y) : "memory");
            else
                __asm__ volatile("movl $1, %1; lock orl $0, -8(%%rsp); movl %2, %0" : "=r"(a), "=m"(y) : "m"(x) : "memory", "cc");
        } else if (kind == 2 && me < 2) { /* load buffering: not both 1 */
            if (me == 0)
                __asm__ volatile("movl %2, %0; movl $1, %1" : "=&r"(a), "=m"(y) : "m"(x) : "memory");
            else
                __asm__ volatile("movl %2, %0; movl $1, %1" : "=&r"(a), "=m"(x) : "m"(y) : "memory");
        } else if (kind == 3) { /* stores of two CPUs: all others see them in one order */
            if (me == 0)
                x = 1;
            else if (me == 1)
                y = 1;
            else if (me == 2)
                __asm__ volatile("movl %2, %0; movl %3, %1" : "=&r"(a), "=&r"(b) : "m"(x), "m"(y) : "memory");
            else
                __asm__ volatile("movl %3, %0; movl %2, %1" : "=&r"(a), "=&r"(b) : "m"(x), "m"(y) : "memory");
        }
        seen[me][0] = a;
        seen[me][1] = b;
        meet();
        if (me == 0) {
            forbidden[0] += kind == 0 && seen[1][0] && !seen[1][1];
            forbidden[1] += kind == 1 && !seen[0][0] && !seen[1][0];
            forbidden[2] += kind == 2 && seen[0][0] && seen[1][0];
            forbidden[3] += kind == 3 && cpus == 4 && seen[2][0] && !seen[2][1] && seen[3][0] && !seen[3][1];
            x = y = 0;
        }
    }
    meet();
}

/* ---- code that another CPU writes --------------------------------------------------- */

static u8 code[2 * 4096] __attribute__((aligned(4096)));
static volatile u32 version, wrong_code;
static volatile u32 turns[MAX_CPUS];

static u32 run_code(void) { return ((u32 (*)(void))code)(); }

/* mov $n, %eax; some work, so that it is worth translating; ret */
static void write_code(u32 n)
{
    volatile u8 *p = code;
    p[0] = 0xb8;
    *(volatile u32 *)(p + 1) = n;
    p[5] = 0xb9, *(volatile u32 *)(p + 6) = 3;     /* mov $3, %ecx */
    p[10] = 0xff, p[11] = 0xc9;                    /* 1: dec %ecx */
    p[12] = 0x75, p[13] = 0xfc;                    /* jnz 1b */
    p[14] = 0xc3;
}

/* CPU 0 writes while the others wait for the flag; they serialize, then run it; then run it until told to stop. */
static void cross_modify(u32 me)
{
    for (u32 i = 1; i <= REWRITES; i++) {
        meet();
        if (me == 0) {
            write_code(i);
            __atomic_store_n(&version, i, __ATOMIC_SEQ_CST);
        } else {
            while (version != i)
                pause();
            if (i & 1)
                serialize();
            else /* IRET serializes, too */
                __asm__ volatile("mov %%rsp, %%rax; mov %%ss, %%ecx; push %%rcx; push %%rax; pushfq; mov %%cs, %%ecx; push %%rcx;"
                                 "push $1f; iretq; 1:" : : : "rax", "rcx", "memory");
        }
        for (u32 k = 0; k < 20; k++)
            if (run_code() != i)
                __atomic_fetch_add(&wrong_code, 1, __ATOMIC_SEQ_CST);
    }
    meet();
}

/* One byte, written while the others run it, without a word to them: they see the old code or the new, and the new for
   good once they have seen it; and all see it in the end. */
static volatile u32 mixed_code;
static void racing_modify(u32 me)
{
    if (me == 0)
        write_code(0x100);
    meet();
    serialize();
    meet();
    if (me == 0) {
        for (u32 i = 0x101; i < 0x180; i++) {
            *(volatile u8 *)(code + 1) = (u8)i;
            for (u32 k = 1; k < cpus; k++) /* until all have run it */
                for (u32 before = turns[k]; turns[k] - before < 3;)
                    pause();
        }
        phase = 1;
        meet();
        return;
    }
    u32 last = 0x100;
    while (!phase) {
        u32 now = run_code();
        if (now < last || now > 0x17f)
            __atomic_fetch_add(&mixed_code, 1, __ATOMIC_SEQ_CST);
        last = now;
        turns[me]++;
        serialize();
    }
    meet();
    if (run_code() != 0x17f)
        __atomic_fetch_add(&mixed_code, 1, __ATOMIC_SEQ_CST);
}

/* ---- mappings: shootdown by IPI -------------------------------------------------------- */

/* A page at 1 TiB less ... is mapped to one of two pages: code that returns which, and data that says which. */
#define WINDOW 0x8000000000ull /* PML4 entry 1 */
static u64 window_pdpt[512] __attribute__((aligned(4096))), window_pd[512] __attribute__((aligned(4096))),
    window_pt[512] __attribute__((aligned(4096)));
static u8 copies[2][4096] __attribute__((aligned(4096)));
static volatile u32 flushed, stale, window_now, remaps_done;

static int on_ipi(struct frame *f)
{
    if (f->vector != 0x81)
        return 0;
    invlpg((void *)WINDOW);
    __atomic_fetch_add(&flushed, 1, __ATOMIC_SEQ_CST);
    apic_write(0xb0, 0);
    return 1;
}

static u32 window_code(void) { return ((u32 (*)(void))WINDOW)(); }

static void shootdown(u32 me)
{
    if (me == 0) {
        for (u32 c = 0; c < 2; c++) { /* mov $c, %eax; ret */
            copies[c][0] = 0xb8, copies[c][1] = (u8)c;
            copies[c][5] = 0xc3;
            copies[c][100] = (u8)c;
        }
        window_pt[0] = (u64)copies[0] | 3;
        window_pd[0] = (u64)window_pt | 3;
        window_pdpt[0] = (u64)window_pd | 3;
        pml4[1] = (u64)window_pdpt | 3;
    }
    meet();
    if (me) {
        __asm__ volatile("sti");
        while (!remaps_done) {
            /* Between two looks at the number of flushes nothing changed: then code and data are those of that time. */
            u32 before = window_now, data, ran;
            ran = window_code();
            data = *(volatile u8 *)(WINDOW + 100);
            if (before == window_now && !(before & 1) && (ran != (before >> 1 & 1) || data != (before >> 1 & 1)))
                __atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
            turns[me]++;
        }
        __asm__ volatile("cli");
    } else {
        for (u32 i = 1; i <= REMAPS; i++) {
            for (u32 k = 1; k < cpus; k++) /* all have been at it for a while: it is hot */
                for (u32 before = turns[k]; turns[k] - before < 30;)
                    pause();
            window_now = 2 * i - 1; /* odd: in between */
            window_pt[0] = (u64)copies[i & 1] | 3;
            invlpg((void *)WINDOW);
            flushed = 0;
            apic_write(0x300, 0xc4081); /* to all others */
            while (flushed < cpus - 1)
                pause();
            window_now = 2 * i;
            if (window_code() != (i & 1))
                stale++;
        }
        remaps_done = 1;
    }
    meet();
}

/* ---- all of it --------------------------------------------------------------------------- */

static void work(u32 me)
{
    meet();
    locked(me);
    meet();
    litmus(me);
    cross_modify(me);
    racing_modify(me);
    shootdown(me);
}

void ap_main(void)
{
    apic_write(0xf0, 0x1ff);
    while (!cpus)
        pause();
    work(apic_id());
    for (;;)
        __asm__ volatile("cli; hlt");
}

int main(void)
{
    u32 r[4];
    on_interrupt = on_ipi;
    cpuid(0xb, 1, r);
    u8 *low = (u8 *)0x8000;
    for (char *p = trampoline; p < trampoline_end; p++)
        *low++ = (u8)*p;
    apic_write(0xf0, 0x1ff);
    apic_write(0x300, 0xc4500); /* INIT and SIPI to all others */
    apic_write(0x300, 0xc4608);
    while (ap_started < (r[1] & 0xff) - 1)
        pause();
    cpus = r[1] & 0xff;
    work(0);
    locked_results();
    CHECK("message passing", forbidden[0], 0);
    CHECK("store buffering with fences", forbidden[1], 0);
    CHECK("load buffering", forbidden[2], 0);
    CHECK("independent reads of independent writes", forbidden[3], 0);
    CHECK("code another CPU wrote", wrong_code, 0);
    CHECK("a byte of code written while it runs", mixed_code, 0);
    CHECK("a mapping that is gone", stale, 0);
    return 0;
}
