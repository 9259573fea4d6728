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
#include "lib/guest.h"

const char guest_name[] = "fuzz";

extern volatile u64 pml4[], pdpt[], pd[];
extern u32 boot_info;
static volatile u64 pt[512] __attribute__((aligned(4096)));
static volatile u8 code[4096] __attribute__((aligned(4096))), data[2][4096] __attribute__((aligned(4096)));
static u8 ist[2][16384] __attribute__((aligned(16)));
static u64 state;

#define USER_BASE 0x3f000000ull

static u64 rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}

static u64 rnd_below(u64 n) { return (rnd() >> 16) % n; }

/* A number of random width: small ones, all-ones and single bits are likelier than chance. */
static u64 value(void)
{
    u64 v = rnd() >> rnd_below(64);
    switch (rnd_below(6)) {
    case 0: return ~v;
    case 1: return 1ull << rnd_below(64);
    case 2: return rnd_below(2) ? ~0ull : 0;
    default: return v;
    }
}

/* ---- ports, memory-mapped registers, MSRs ---- */

/* What ends the machine: reset and power-off registers, and the debug exit. They are for the end. */
static int deadly(u32 port, u32 size)
{
    static const u16 p[] = { 0xf4, 0xf5, 0xf6, 0xf7, 0x64, 0x92, 0xcf9, 0x501, 0x600, 0x601, 0x602, 0x603, 0x604, 0x605,
                             0x606, 0x607, 0x608, 0xb2, 0xb3 };
    for (u32 i = 0; i < ARRAY_SIZE(p); i++) {
        if (p[i] >= port && p[i] < port + size)
            return 1;
    }
    return 0;
}

/* What PCI functions have their registers at, as firmware or Lodge placed them. */
static u64 bars[64];
static u16 io_bars[32];
static u32 nbars, nio_bars;

static void find_bars(void)
{
    for (u32 devfn = 0; devfn < 256; devfn++)
        for (u32 at = 0x80000000 | devfn << 8 | 0x10; outl(0xcf8, 0x80000000 | devfn << 8), inl(0xcfc) != ~0u && (at & 0xff) < 0x28;
             at += 4) {
            outl(0xcf8, at);
            const u32 bar = inl(0xcfc);
            if (bar & 1 && nio_bars < ARRAY_SIZE(io_bars))
                io_bars[nio_bars++] = bar & 0xfffc;
            else if (!(bar & 1) && bar >> 12 && nbars < ARRAY_SIZE(bars))
                bars[nbars++] = bar & ~0xfu;
            outl(0xcf8, 0x80000000 | devfn << 8 | 4);
            outl(0xcfc, inl(0xcfc) | 7); /* decoded, and a bus master */
        }
}

static u32 some_port(void)
{
    static const u16 known[] = { 0x00, 0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x70, 0x71, 0x80, 0xa0, 0xa1, 0xc0,
                                 0xe0, 0xe8, 0x1f0, 0x2e8, 0x2f8, 0x3b0, 0x3c0, 0x3e8, 0x3f0, 0x3f8, 0x4d0, 0x4d1, 0x510,
                                 0x511, 0x514, 0x518, 0xcf8, 0xcfc, 0x2000, 0xb000, 0xc000, 0xffff };
    if (nio_bars && !rnd_below(4))
        return io_bars[rnd_below(nio_bars)] + (u32)rnd_below(32);
    u32 p = rnd_below(3) ? known[rnd_below(ARRAY_SIZE(known))] + (u32)rnd_below(8) : (u32)rnd_below(0x10000);
    return p & 0xffff;
}

static void port(void)
{
    u32 p = some_port(), size = 1u << rnd_below(3), n = (u32)rnd_below(40);
    u64 v = value();
    void *buf = (void *)data[0];
    if (deadly(p, size))
        return;
    switch (rnd_below(10)) {
    case 0:
        __asm__ volatile("rep outsb" : "+S"(buf), "+c"(n) : "d"(p) : "memory");
        return;
    case 1:
        __asm__ volatile("rep insw" : "+D"(buf), "+c"(n) : "d"(p) : "memory");
        return;
    case 2: case 3: case 4:
        if (size == 1)
            (void)inb((u16)p);
        else if (size == 2)
            (void)inw((u16)p);
        else
            (void)inl((u16)p);
        return;
    default:
        if (size == 1)
            outb((u16)p, (u8)v);
        else if (size == 2)
            outw((u16)p, (u16)v);
        else
            outl((u16)p, (u32)v);
    }
}

static u64 some_address(int big)
{
    static const u64 known[] = { 0xa0000, 0xb8000, 0xc0000, 0xe0000, 0xfffff, 0xe0000000, 0xfec00000, 0xfec00010, 0xfed00000,
                                 0xfee00000, 0xfee00080, 0xfee000b0, 0xfee000f0, 0xfee00320, 0xfee00350, 0xfee00380,
                                 0xfffc0000, 0xfffffff0 };
    if (nbars && rnd_below(2))
        return bars[rnd_below(nbars)] + rnd_below(1 << rnd_below(15));
    switch (rnd_below(4)) {
    case 0: return 0xfee00000 + (rnd() & 0xfff);
    case 1: return 0xc0000000 + (rnd() & 0x3fffffff);
    case 2: return big ? (rnd() & 0x7fffffffff) | 0x4000000000 : 0xd0000000;
    default: return known[rnd_below(ARRAY_SIZE(known))] + rnd_below(32);
    }
}

static void mmio(int big)
{
    u64 a = some_address(big), v = value();
    /* The vector table of the local APIC could turn a write into INIT of ourselves: ICR only now and then. */
    if ((a & ~0xffull) == 0xfee00300 && rnd_below(50))
        return;
    switch (rnd_below(12)) {
    case 0: TRY("movb %b2, (%1)", "r"(a), "r"(v)); break;
    case 1: TRY("movw %w2, (%1)", "r"(a), "r"(v)); break;
    case 2: TRY("movl %k2, (%1)", "r"(a), "r"(v)); break;
    case 3: TRY("movq %2, (%1)", "r"(a), "r"(v)); break;
    case 4: TRY("movb (%1), %%al", "r"(a)); break;
    case 5: TRY("movl (%1), %%eax", "r"(a)); break;
    case 6: TRY("movq (%1), %%rax", "r"(a)); break;
    case 7: TRY("lock xaddl %k2, (%1)", "r"(a), "r"(v)); break;
    case 8: TRY("movdqu (%1), %%xmm0; movdqu %%xmm0, (%1)", "r"(a)); break;
    case 9: TRY("mov %1, %%rsi; mov %2, %%rdi; mov $17, %%ecx; rep movsb", "r"(a), "r"(data[1]), "S"(0), "D"(0)); break;
    case 10: TRY("mov %1, %%rdi; mov $9, %%ecx; rep stosl", "r"(a), "D"(0)); break;
    default: TRY("lock cmpxchg8b (%1)", "r"(a)); break;
    }
}

static void msr(void)
{
    static const u32 known[] = { 0x10, 0x1b, 0x3a, 0x3b, 0x48, 0x8b, 0xfe, 0x174, 0x175, 0x176, 0x179, 0x17a, 0x1a0, 0x1d9,
                                 0x200, 0x201, 0x250, 0x268, 0x277, 0x2ff, 0x400, 0x6e0, 0x800, 0x802, 0x80b, 0x80f, 0x830,
                                 0x83f, 0xda0, 0xc0000081, 0xc0000103, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x11, 0x12 };
    u32 n = rnd_below(2) ? known[rnd_below(ARRAY_SIZE(known))] : (u32)value();
    u64 v = value();
    if (n == 0xc0000080)
        return;
    if (n == 0x1b)
        v = (v & 0xff) | 0xfee00900; /* the watchdog needs the APIC where it is */
    TRY("mov %1, %%ecx; rdmsr", "r"(n));
    if (n == 0x830)
        return;
    TRY("mov %1, %%ecx; mov %k2, %%eax; mov %2, %%rdx; shr $32, %%rdx; wrmsr", "r"(n), "r"(v));
}

static void hammer(u64 rounds, u32 step) /* step: 1 for every port */
{
    u32 r[4];
    cpuid(0x80000001, 0, r);
    int big = r[3] >> 26 & 1;
    if (big) {
        for (u64 i = 4; i < 512; i++)
            pdpt[i] = i << 30 | 0x83;
    }
    find_bars();
    for (u32 p = 0; p < 0x10000; p += step) { /* each port at least once each way */
        if (!deadly(p, 1)) {
            outb((u16)p, (u8)rnd());
            (void)inb((u16)p);
        }
    }
    for (u64 i = 0; i < rounds; i++) {
        switch (rnd_below(5)) {
        case 0: case 1: port(); break;
        case 2: case 3: mmio(big); break;
        default: msr(); break;
        }
    }
}

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

static const char *option(const char *name)
{
    const char *c = boot_info && (*(u32 *)(u64)boot_info & 4) ? (const char *)(u64) * (u32 *)(u64)(boot_info + 16) : "";
    for (; *c; c++) {
        const char *n = name, *p = c;
        while (*n && *n == *p)
            n++, p++;
        if (!*n && *p == '=')
            return p + 1;
    }
    return "";
}

static u64 number(const char *name, u64 otherwise)
{
    u64 v = 0;
    const char *c = option(name);
    if (!*c)
        return otherwise;
    for (; *c >= '0' && *c <= '9'; c++)
        v = v * 10 + (u64)(*c - '0');
    return v;
}

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
    else
        hammer(number("rounds", 5000), (u32)number("step", 1));
    /* The serial port may have been left in any state. */
    outb(0x3fb, 3);
    outb(0x3fc, 3);
    outb(0x3f9, 0);
    outb(0x3fa, 0);
    print("\n");
    return 0;
}
