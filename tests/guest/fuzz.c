/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.c - a hostile guest. By its command line (mode=, seed=, rounds=; step= to leave ports out; hot=1):
 *   ports   hammers every port, MMIO address and MSR with random values;
 *   user    executes random bytes in ring 3, with pages that are read-only, absent, device or nothing at all;
 *   kernel  executes random bytes in ring 0, where they may do what they like.
 * Random code is single-stepped as a rule. With hot=1 it never is, and instructions go round in loops, past their faults,
 * so that they are translated and linked; a second CPU, if there is one, writes to the code, the data and the mappings.
 * The VMM must survive whatever this does. The guest itself may die of it (a triple fault, a reset, a power-off,
 * a debug exit with some value), but as a rule it ends with PASS after its rounds.
 */
#include "lib/hammer.h"

const char guest_name[] = "fuzz";

static volatile u64 pt[512] __attribute__((aligned(4096)));
static volatile u8 code[4096] __attribute__((aligned(4096)));
static u8 ist[2][16384] __attribute__((aligned(16)));

#define USER_BASE 0x3f000000ull

/* ---- random code ---- */

static volatile u64 resume_rsp, steps, step_limit, active; /* active: random code runs */
static volatile u64 regs[16];
static u32 starts[17]; /* where the instructions, or what could be some, begin in the code page */
static u32 hot;        /* 1: as the head of this file says */
static volatile u32 skips;

#define SKIPS 64   /* faults a hot round goes past */
#define SECONDS 15 /* a hot run in ring 0 may take */

/* One of the instructions that programs are made of, with any operands. */
static u32 put_common(u32 n, u32 k)
{
    static const u8 one[] = { 0x01, 0x03, 0x09, 0x0b, 0x11, 0x13, 0x19, 0x1b, 0x21, 0x23, 0x28, 0x29, 0x2b, 0x30, 0x31, 0x33, 0x38,
                              0x39, 0x3b, 0x63, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8d, 0xd1, 0xd3, 0xf7, 0xff };
    static const u8 two[] = { 0x10, 0x11, 0x28, 0x29, 0x40, 0x4c, 0x58, 0x6f, 0x7f, 0x94, 0xa3, 0xab, 0xaf, 0xb0, 0xb1, 0xb6, 0xb7,
                              0xba, 0xbc, 0xbe, 0xbf, 0xc1, 0xc7, 0xd6, 0xef, 0xfe };
    if (!rnd_below(4))
        code[n++] = 0xf0;
    if (!rnd_below(4))
        code[n++] = 0x66;
    if (rnd_below(2))
        code[n++] = (u8)(0x40 | rnd_below(16));
    switch (rnd_below(8)) {
    case 0: /* a short jump back, or a call */
        if (rnd_below(2)) {
            code[n] = (u8)(0x70 | rnd_below(16));
            code[n + 1] = (u8)(starts[rnd_below(k + 1)] - (n + 2));
            return n + 2;
        }
        *(volatile u32 *)(code + n + 1) = starts[rnd_below(k + 1)] - (n + 5);
        code[n] = 0xe8;
        return n + 5;
    case 1:
        code[n++] = (u8)(0x50 | rnd_below(16)); /* PUSH, POP */
        return n;
    case 2:
        code[n++] = 0xc3;
        return n;
    case 3: case 4:
        code[n++] = 0x0f;
        code[n++] = two[rnd_below(ARRAY_SIZE(two))];
        break;
    default:
        code[n++] = one[rnd_below(ARRAY_SIZE(one))];
    }
    code[n++] = (u8)rnd();
    return n + (u32)rnd_below(6);
}

static void put_code(void)
{
    static const u8 prefixes[] = { 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x64, 0x65, 0x48, 0x41, 0x4c };
    u32 n = 0;
    for (u32 i = 0; i < 4096; i++)
        code[i] = (u8)rnd();
    for (u32 k = 0; k < 16; k++) { /* likelier to be instructions */
        starts[k] = n;
        if (hot && rnd_below(4)) {
            n = put_common(n, k);
            continue;
        }
        while (!rnd_below(3))
            code[n++] = prefixes[rnd_below(ARRAY_SIZE(prefixes))];
        switch (rnd_below(8)) {
        case 0: code[n++] = 0x0f; break;
        case 1: code[n++] = 0x0f, code[n++] = 0x38; break;
        case 2: code[n++] = 0x0f, code[n++] = 0x3a; break;
        case 3: code[n++] = 0xc5, code[n++] = (u8)rnd(); break;
        case 4: code[n++] = 0xc4, code[n++] = (u8)((rnd() & 0xe0) | (1 + rnd_below(3))), code[n++] = (u8)rnd(); break;
        case 5:
            code[n++] = 0x62, code[n++] = (u8)((rnd() & 0xf0) | (1 + rnd_below(3))), code[n++] = (u8)(rnd() | 4);
            code[n++] = (u8)rnd();
            break;
        default: break;
        }
        code[n++] = (u8)rnd();
        code[n++] = (u8)rnd();
        n += (u32)rnd_below(6);
    }
    starts[16] = n;
    if (!hot)
        return;
    u32 back = starts[rnd_below(16)];
    code[n] = 0x49; /* DEC R15 */
    code[n + 1] = 0xff;
    code[n + 2] = 0xcf;
    code[n + 3] = 0x0f; /* JNZ back */
    code[n + 4] = 0x85;
    *(volatile u32 *)(code + n + 5) = back - (n + 9);
    code[n + 9] = 0xcc; /* INT3: that was it */
}

/* Back to the loop below, whatever ring and mode we were in. */
static int on_fuzz(struct frame *f)
{
    extern char fuzz_resume[];
    if (f->vector == 1 && steps++ < step_limit) {
        WRITE_DR(6, 0xffff0ff0);
        f->flags |= 0x100;
        return 1;
    }
    if (f->vector == 0x20) /* the watchdog's tick; the APIC wants to hear of it */
        *(volatile u32 *)0xfee000b0ull = 0;
    if (!active)
        return f->vector == 0x20 || f->vector == 2;
    if (hot && f->vector != 0x20 && f->vector != 2 && f->ip - USER_BASE < 4096 && skips++ < SKIPS) {
        for (u32 k = 0; k < ARRAY_SIZE(starts); k++) {
            if (starts[k] > f->ip - USER_BASE) {
                f->ip = USER_BASE + starts[k];
                return 1;
            }
        }
    }
    active = 0;
    f->ip = (u64)fuzz_resume;
    f->cs = 0x18;
    f->ss = 0x10;
    f->sp = resume_rsp;
    f->flags = 2;
    return 1;
}

static void __attribute__((noinline)) go(u32 cs, u32 ss, u64 flags)
{
    steps = skips = 0;
    active = 1;
    __asm__ volatile("push %%rbp; push %%rbx; push %%r12; push %%r13; push %%r14; push %%r15\n"
                     "  mov %%rsp, resume_rsp_\n"
                     "  push %0; push regs_+32; push %1; push %2; push %3\n"
                     "  mov regs_, %%rax; mov regs_+8, %%rcx; mov regs_+16, %%rdx; mov regs_+24, %%rbx; mov regs_+40, %%rbp\n"
                     "  mov regs_+48, %%rsi; mov regs_+56, %%rdi; mov regs_+64, %%r8; mov regs_+72, %%r9; mov regs_+80, %%r10\n"
                     "  mov regs_+88, %%r11; mov regs_+96, %%r12; mov regs_+104, %%r13; mov regs_+112, %%r14; mov regs_+120, %%r15\n"
                     "  iretq\n"
                     ".globl fuzz_resume\nfuzz_resume:\n"
                     "  pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbx; pop %%rbp; cld"
                     : : "r"((u64)ss), "r"(flags), "r"((u64)cs), "r"(USER_BASE + 0) : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
                       "r10", "r11", "memory", "cc");
}
__asm__(".set regs_, regs\n.set resume_rsp_, resume_rsp\n");

/* The 8254 through the IOAPIC: as an interrupt to ring 3, as an NMI to ring 0, which a CLI; HLT does not stop. */
static void watchdog(int nmi)
{
    volatile u32 *sel = (u32 *)0xfec00000ull, *win = (u32 *)0xfec00010ull;
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    *(volatile u32 *)0xfee000f0ull = 0x1ff;
    *(volatile u32 *)0xfee00080ull = 0;
    *sel = 0x15;
    *win = 0;
    *sel = 0x14;
    *win = nmi ? 0x400 : 0x20;
    outb(0x43, 0x34);
    outb(0x40, 0);
    outb(0x40, 0x20); /* 8192 / 1193182 Hz: 7 ms */
}

/* What ring 0 code may have broken and can be put right. */
static void repair(void)
{
    extern char gdt_end[];
    struct { u16 limit; u64 base; } __attribute__((packed)) g = { (u16)(gdt_end - (char *)gdt - 1), (u64)gdt }, i = { 4095, (u64)idt };
    __asm__ volatile("lgdt %0; lidt %1" : : "m"(g), "m"(i));
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss" : : "r"(0x10));
    WRITE_DR(7, 0x400);
    WRITE_CR(0, 0x80010033);
    gdt[0x38 / 8] = (gdt[0x38 / 8] & ~(2ull << 40));
    __asm__ volatile("ltr %w0" : : "r"(0x38));
    wrmsr(0xc0000102, 0);
    watchdog(1);
}

static void map_pages(void)
{
    static const u64 backing[] = { 0xfed00000, 0xc0000, 0x3fff000000 };
    pt[0] = (u64)code | 7;
    pt[1] = (u64)data[0] | 7;
    pt[2] = (u64)data[1] | 5;
    for (int i = 0; i < 3; i++)
        pt[4 + i] = backing[i] | 7;
}

static u64 deadline; /* by the TSC, 0: none */

/*
 * The second CPU writes to all that the first one uses, and says nothing. A fault of its own ends the machine, and so does
 * the deadline: ring 0 code can leave the first CPU where it does not come back from.
 */
void ap_main(void)
{
    struct { u16 limit; u64 base; } __attribute__((packed)) none = { 0, 0 };
    u64 own = state ^ 0x5555;
    __asm__ volatile("lidt %0" : : "m"(none));
    for (;;) {
        if (deadline && rdtsc() > deadline)
            outb(0xf4, 1);
        own ^= own << 13;
        own ^= own >> 7;
        own ^= own << 17;
        u32 where = own >> 8 & 127;
        switch (own & 7) {
        case 0: code[where] = (u8)(own >> 20); break;
        case 1: *(volatile u32 *)(code + where) = (u32)(own >> 20); break;
        case 2: *(volatile u64 *)(data[own >> 16 & 1] + (where & 0x78)) = own; break;
        case 3: pt[own >> 16 & 1] ^= 1 << (own >> 24 & 7); break; /* P, W, U, the caching, A, D; PAT */
        case 4: pt[own >> 16 & 1] = ((own >> 17 & 1) ? (u64)code : (u64)data[0]) | 7; break;
        default:
            for (u32 i = 0; i < where * 8; i++)
                __asm__ volatile("pause");
        }
    }
}

static void start_second(int ring0)
{
    extern char trampoline[], trampoline_end[];
    u32 r[4];
    cpuid(0x40000010, 0, r);
    if (ring0)
        deadline = rdtsc() + r[0] * 1000ull * SECONDS;
    u8 *low = (u8 *)0x8000;
    for (char *p = trampoline; p < trampoline_end; p++)
        *low++ = (u8)*p;
    *(volatile u32 *)0xfee000f0ull = 0x1ff;
    *(volatile u32 *)0xfee00300ull = 0xc4500; /* INIT and SIPI to all others */
    *(volatile u32 *)0xfee00300ull = 0xc4608;
}

static void run_code(u64 rounds, int ring0)
{
    static const u64 where[] = { 0, 0x1000, 0x1ff8, 0x2000, 0x2ffc, 0x3000, 0x4000, 0x5000, 0x6000, 0x800 };
    on_interrupt = on_fuzz;
    map_pages();
    for (int i = 0; i < 2048; i++)
        pd[i] &= ~4ull;
    pd[USER_BASE >> 21] = (u64)pt | 7;
    WRITE_CR(3, READ_CR(3));
    *(u64 *)(tss + 36) = (u64)(ist[0] + sizeof(ist[0]));
    *(u64 *)(tss + 44) = (u64)(ist[1] + sizeof(ist[1]));
    for (int i = 0; i < 256; i++)
        idt[16 * i + 4] = i == 2 ? 2 : 1;
    watchdog(ring0);
    u32 r[4];
    cpuid(1, 0, r);
    if (r[2] >> 26 & 1) { /* let AVX through */
        WRITE_CR(4, READ_CR(4) | 1 << 18);
        cpuid(0xd, 0, r);
        __asm__ volatile("xsetbv" : : "c"(0), "a"(r[0]), "d"(0));
    }
    if (hot)
        start_second(ring0);
    for (u64 i = 0; i < rounds; i++) {
        put_code();
        if (hot) { /* as the other CPU may have left them */
            map_pages();
            WRITE_CR(3, READ_CR(3));
        }
        for (int k = 0; k < 16; k++)
            regs[k] = rnd_below(3) ? USER_BASE + where[rnd_below(ARRAY_SIZE(where))] + rnd_below(64) : value();
        if (rnd_below(4))
            regs[4] = USER_BASE + 0x1800;
        step_limit = 4 + rnd_below(40);
        u64 flags = (rnd() & 0x240cd5) | 2 | (!hot && rnd_below(8) ? 0x100 : 0);
        if (hot)
            regs[15] = 1 + rnd_below(200);
        if (ring0) {
            go(0x18, 0x10, flags & ~0x200ull);
            repair();
        } else {
            go(rnd_below(4) ? 0x33 : 0x23, 0x2b, flags | 0x200);
        }
    }
}

/* ---- */

int main(void)
{
    char mode = *option("mode");
    state = number("seed", 1) * 0x9e3779b97f4a7c15ull + 0x1234567;
    on_interrupt = try_interrupt;
    hot = number("hot", 0) != 0;
    if (mode == 'u')
        run_code(number("rounds", 2000), 0);
    else if (mode == 'k')
        run_code(number("rounds", 200), 1);
    else {
        const int big = map_big();
        find_bars();
        every_port((u32)number("step", 1));
        for (u64 n = number("rounds", 5000); n; n--)
            hammer(big);
    }
    /* The serial port may have been left in any state. */
    outb(0x3fb, 3);
    outb(0x3fc, 3);
    outb(0x3f9, 0);
    outb(0x3fa, 0);
    print("\n");
    return 0;
}
