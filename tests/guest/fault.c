/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c - page faults in long mode: each right against each access in both rings, error codes and
 * CR2, WP, NX, SMEP, SMAP, reserved bits, accessed and dirty bits, an access over two
 * pages of which the second is absent, 1 GiB pages.
 */
#include "lib/guest.h"

const char guest_name[] = "fault";

extern volatile u64 pdpt[], pd[];
static volatile u64 pt[512] __attribute__((aligned(4096)));
static volatile u8 page[2][4096] __attribute__((aligned(4096)));
static u8 *const at = (u8 *)0x3f000000; /* its 2 MiB are mapped by pt */

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40 };
#define NX (1ull << 63)

static void map(int i, u64 bits)
{
    pt[i] = (u64)page[i] | bits;
    invlpg(at + i * 4096);
}

static void expect(const char *what, int vector, u32 error, u64 cr2)
{
    CHECK(what, caught.vector, vector);
    if (vector >= 0 && caught.vector == vector) {
        CHECK(what, caught.error, error);
        CHECK(what, caught.cr2, cr2);
    }
}

#define READ(p) TRY("movb (%1), %%al", "r"(p))
#define WRITE(p) TRY("movb $1, (%1)", "r"(p))
#define RMW(p) TRY("lock addb $0, (%1)", "r"(p))

static int has_smep, has_smap;

static void supervisor(void)
{
    u64 a = (u64)at;
    page[0][0] = 0xc3;
    map(0, P | W);
    READ(at);
    expect("read", -1, 0, 0);
    CHECK("accessed", pt[0] & (A | D), A);
    WRITE(at + 8);
    CHECK("dirty", pt[0] & (A | D), A | D);
    map(0, P);
    WRITE(at + 8);
    expect("write, read-only", 14, 3, a + 8);
    RMW(at + 8);
    expect("read-modify-write, read-only", 14, 3, a + 8);
    CHECK("not dirty", pt[0] & D, 0);
    WRITE_CR(0, READ_CR(0) & ~0x10000ul);
    WRITE(at + 8);
    expect("write, read-only, no WP", -1, 0, 0);
    WRITE_CR(0, READ_CR(0) | 0x10000);
    map(0, 0);
    READ(at + 16);
    expect("read, absent", 14, 0, a + 16);
    WRITE(at + 16);
    expect("write, absent", 14, 2, a + 16);
    map(0, P | W | NX);
    READ(at);
    expect("read, NX", -1, 0, 0);
    map(0, P | W | 1ull << 51);
    READ(at);
    expect("reserved bit", 14, 9, a);

    map(0, P | W);
    map(1, 0);
    TRY("movq $-1, (%1)", "r"(at + 4093));
    expect("over the end into an absent page", 14, 2, a + 4096);
    CHECK("nothing of it was written", page[0][4093] | page[0][4094] | page[0][4095], 0);
    map(1, P);
    TRY("movq $-1, (%1)", "r"(at + 4090));
    expect("over the end into a read-only page", 14, 3, a + 4096);
    CHECK("nothing of it was written", page[0][4093] | page[0][4094] | page[0][4095], 0);
    map(1, P | W);
    TRY("movq $-1, (%1)", "r"(at + 4093));
    expect("over the end", -1, 0, 0);
    CHECK("all of it was written", page[0][4095] & page[1][4], 0xff);
}

static void fetches(void)
{
    u64 a = (u64)at;
    page[0][0] = 0xc3;
    map(0, P | W);
    TRY("call *%1", "r"(at));
    expect("fetch", -1, 0, 0);
    map(0, P | W | NX);
    TRY("call *%1", "r"(at));
    expect("fetch, NX", 14, 0x11, a);
    map(0, P | W | U);
    if (has_smep) {
        TRY("call *%1", "r"(at));
        expect("fetch from a user page", -1, 0, 0);
        WRITE_CR(4, READ_CR(4) | 1 << 20);
        TRY("call *%1", "r"(at));
        expect("SMEP", 14, 0x11, a);
        WRITE_CR(4, READ_CR(4) & ~(1ul << 20));
    }
    if (has_smap) {
        WRITE_CR(4, READ_CR(4) | 1 << 21);
        READ(at);
        expect("SMAP", 14, 1, a);
        WRITE(at + 8);
        expect("SMAP write", 14, 3, a + 8);
        TRY("stac; movb (%1), %%al; clac", "r"(at));
        expect("SMAP with AC", -1, 0, 0);
        READ(at);
        expect("SMAP again", 14, 1, a);
        WRITE_CR(4, READ_CR(4) & ~(1ul << 21));
    }
}

/* ---- from ring 3 ---- */

/* Runs in ring 3 and does to RDI what RSI says; INT 31h if that was no fault. */
__asm__(".text\n.balign 4096\nuser_code:\n"
        "  cmp $1, %esi\n  je 1f\n  ja 2f\n"
        "  movb (%rdi), %al\n  int $0x31\n"
        "1: movb $1, (%rdi)\n  int $0x31\n"
        "2: call *%rdi\n  int $0x31\n"
        ".balign 4096\n");
extern char user_code[];
static u8 user_stack[4096] __attribute__((aligned(4096)));

static int from_user(struct frame *f)
{
    extern char user_back[];
    caught.vector = f->vector == 0x31 ? -1 : (int)f->vector;
    caught.error = (u32)f->error;
    caught.cr2 = READ_CR(2);
    f->ip = (u64)user_back;
    f->cs = 0x18;
    f->ss = 0x10;
    f->sp = caught_sp;
    return 1;
}

static void __attribute__((noinline)) user(u64 address, u64 what)
{
    on_interrupt = from_user;
    __asm__ volatile("push %%rbp; push %%rbx; mov %%rsp, caught_sp\n"
                     "  pushq $0x2b; push %2; pushq $2; pushq $0x33; push %3\n"
                     "  iretq\n.globl user_back\nuser_back:\n  pop %%rbx; pop %%rbp"
                     : "+D"(address), "+S"(what) : "r"(0x3f003000ull + 4096), "r"(0x3f002000ull)
                     : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
    on_interrupt = try_interrupt;
}

static void ring3(void)
{
    u64 a = (u64)at;
    gate_dpl(0x31, 3);
    pt[2] = (u64)user_code | P | U;
    pt[3] = (u64)user_stack | P | W | U;
    invlpg(at + 0x2000);
    invlpg(at + 0x3000);
    page[0][0] = 0xc3;
    map(0, P | W | U);
    user(a, 0);
    expect("user read", -1, 0, 0);
    user(a + 8, 1);
    expect("user write", -1, 0, 0);
    user(a, 2);
    expect("user fetch", -1, 0, 0);
    map(0, P | W);
    user(a + 8, 0);
    expect("user read of the supervisor's", 14, 5, a + 8);
    user(a + 8, 1);
    expect("user write of the supervisor's", 14, 7, a + 8);
    user(a, 2);
    expect("user fetch of the supervisor's", 14, 0x15, a);
    map(0, P | U);
    user(a + 8, 1);
    expect("user write, read-only", 14, 7, a + 8);
    map(0, 0);
    user(a + 8, 0);
    expect("user read, absent", 14, 4, a + 8);
    user(a + 8, 1);
    expect("user write, absent", 14, 6, a + 8);
    map(0, P | W | U | NX);
    user(a, 2);
    expect("user fetch, NX", 14, 0x15, a);
    map(0, P | W | U);
    pd[0x3f000000 >> 21] &= ~4ull; /* the directory refuses what the table allows */
    WRITE_CR(3, READ_CR(3));
    user(0x3f002000, 0);
    expect("user fetch through a supervisor's directory", 14, 0x15, 0x3f002000);
    pd[0x3f000000 >> 21] |= 4;
    WRITE_CR(3, READ_CR(3));
}

/* RDTSC and RDTSCP in ring 3: flags stay, and CR4.TSD forbids them, though the code is hot. */
static void time_stamp(void)
{
    static const u8 text[] = {0xf9,                               /* stc */
                              0x0f, 0x31, 0x73, 14,               /* rdtsc; jnc 1f */
                              0x0f, 0x01, 0xf9, 0x73, 9,          /* rdtscp; jnc 1f */
                              0x81, 0xf9, 0x34, 0x12, 0, 0, 0x75, 1, /* cmp $0x1234, %ecx; jne 1f */
                              0xc3, 0x0f, 0x0b};                  /* ret; 1: ud2 */
    u32 r[4];
    cpuid(0x80000001, 0, r);
    if (!(r[3] >> 27 & 1))
        return;
    wrmsr(0xc0000103, 0x1234);
    memcpy((u8 *)page[0] + 64, text, sizeof(text));
    for (u32 i = 0; i < 60; i++) {
        user((u64)at + 64, 2);
        expect("user RDTSC", -1, 0, 0);
    }
    WRITE_CR(4, READ_CR(4) | 4);
    user((u64)at + 64, 2);
    CHECK("user RDTSC with TSD", caught.vector, 13);
    memcpy((u8 *)page[0] + 64, text + 5, sizeof(text) - 5);
    user((u64)at + 64, 2);
    CHECK("user RDTSCP with TSD", caught.vector, 13);
    WRITE_CR(4, READ_CR(4) & ~4ul);
}

static void large(void)
{
    u32 r[4];
    cpuid(0x80000001, 0, r);
    if (!(r[3] >> 26 & 1))
        return;
    pdpt[5] = 0 | 0x83; /* 1 GiB at 140000000h maps the first GiB again */
    volatile u64 *alias = (u64 *)(0x140000000ull + (u64)&page[1][64]);
    *(volatile u64 *)&page[1][64] = 0x123456789;
    CHECK("1 GiB page", *alias, 0x123456789);
    CHECK("1 GiB page accessed", pdpt[5] & A, A);
    CHECK("1 GiB page clean", pdpt[5] & D, 0);
    *alias = 5;
    CHECK("1 GiB page dirty", pdpt[5] & D, D);
    CHECK("written through it", *(volatile u64 *)&page[1][64], 5);
    pdpt[5] = 0 | 0x83 | 1 << 13;
    invlpg((void *)(u64)alias);
    TRY("movb (%1), %%al", "r"(alias));
    expect("reserved bit of a 1 GiB page", 14, 9, (u64)alias);
}

int main(void)
{
    u32 r[4];
    on_interrupt = try_interrupt;
    cpuid(7, 0, r);
    has_smep = r[1] >> 7 & 1;
    has_smap = r[1] >> 20 & 1;
    for (int i = 0; i < 2048; i++)
        pd[i] &= ~4ull; /* with SMEP and SMAP our own pages must not be the user's */
    WRITE_CR(3, READ_CR(3));
    pd[0x3f000000 >> 21] = (u64)pt | P | W | U;
    invlpg(at);
    supervisor();
    fetches();
    ring3();
    time_stamp();
    large();
    return 0;
}
