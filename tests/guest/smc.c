/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smc.c - code that changes: overwritten behind and just before the instruction pointer,
 * through another mapping of its page, in a hot loop, by a string instruction.
 */
#include "lib/guest.h"

const char guest_name[] = "smc";

static u8 code[8192] __attribute__((aligned(4096)));

static void put(u8 *p, const u8 *bytes, int n)
{
    for (int i = 0; i < n; i++)
        ((volatile u8 *)p)[i] = bytes[i];
}

int main(void)
{
    extern volatile u64 pdpt[];
    u32 (*f)(void) = (u32 (*)(void))code;
    static const u8 ret_imm[] = { 0xb8, 1, 0, 0, 0, 0xc3 }; /* mov $1, %eax; ret */
    u64 r;

    put(code, ret_imm, 6);
    CHECK("first", f(), 1);
    u32 sum = 0;
    for (u32 i = 0; i < 2000; i++) {
        put(code + 1, (const u8 *)&i, 4);
        sum += f();
    }
    CHECK("rewritten 2000 times", sum, 1999 * 1000);

    /* A store to the instruction after the next: it must be seen (SDM vol. 3 8.1.3, same linear address). */
    u32 total = 0;
    for (int i = 0; i < 100; i++) {
        __asm__ volatile("movb %b1, 1f+1(%%rip)\n nop\n 1: mov $0, %%al\n movzbl %%al, %k0" : "=r"(r) : "r"(i) : "rax", "memory");
        total += (u32)r;
    }
    CHECK("the instruction ahead", total, 4950);

    pdpt[5] = 0x83; /* another mapping of the first GiB */
    u8 *alias = (u8 *)(0x140000000ull + (u64)code);
    u32 r4[4];
    cpuid(0x80000001, 0, r4);
    if (r4[3] >> 26 & 1) {
        for (u32 i = 0; i < 200; i++) {
            put(alias + 1, (const u8 *)&i, 4);
            CHECK("through an alias", f(), i);
        }
    }

    /* REP MOVSB over code that then runs; over a page boundary. */
    u8 *p = code + 4096 - 3;
    for (u32 i = 0; i < 200; i++) {
        u8 bytes[6] = { 0xb8, (u8)i, (u8)(i * 3), 7, 0, 0xc3 };
        u8 *d = p, *s = bytes;
        u64 n = 6;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
        CHECK("over a page boundary", ((u32 (*)(void))p)(), (u8)i | (u32)(u8)(i * 3) << 8 | 7 << 16);
    }

    /* A loop that patches its own body while hot. */
    __asm__ volatile("xor %%eax, %%eax\n mov $1000, %%ecx\n"
                     "2: add $1, %%eax\n"
                     "   cmp $500, %%ecx\n jne 3f\n movb $2, 2b+2(%%rip)\n"
                     "3: dec %%ecx\n jnz 2b\n movb $1, 2b+2(%%rip)\n mov %%rax, %0" : "=r"(r) : : "rax", "rcx", "memory", "cc");
    CHECK("a hot loop", r, 501 + 2 * 499);
    return 0;
}
