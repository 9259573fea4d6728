/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fpu.c - x87 and vector state: #NM by CR0.TS, #UD by CR0.EM and CR4.OSFXSR, FXSAVE and
 * FXRSTOR, XSAVE with its header, XSETBV's checks, a numeric exception.
 */
#include "lib/guest.h"

const char guest_name[] = "fpu";

static u8 area[4096] __attribute__((aligned(64)));
static const u64 bits = 0x400921fb54442d18; /* pi */

/* CR0.TS, CR0.EM and CR4.OSFXSR: each takes the unit away. */
static void without_unit(void)
{
    WRITE_CR(0, READ_CR(0) | 8);
    TRY("fninit", "r"(0));
    CHECK("x87 with TS", caught.vector, 7);
    TRY("movaps %%xmm0, %%xmm1", "r"(0));
    CHECK("SSE with TS", caught.vector, 7);
    __asm__ volatile("clts; fninit");
    WRITE_CR(0, READ_CR(0) | 4);
    TRY("fninit", "r"(0));
    CHECK("x87 with EM", caught.vector, 7);
    TRY("movaps %%xmm0, %%xmm1", "r"(0));
    CHECK("SSE with EM", caught.vector, 6);
    WRITE_CR(0, READ_CR(0) & ~4ul);
    WRITE_CR(4, READ_CR(4) & ~0x200ul);
    TRY("movaps %%xmm0, %%xmm1", "r"(0));
    CHECK("SSE without OSFXSR", caught.vector, 6);
    WRITE_CR(4, READ_CR(4) | 0x200);
}

static void state_in_memory(void)
{
    u64 v;
    __asm__ volatile("fninit; fldl %1; fld1; faddp; fstpl %0" : "=m"(v) : "m"(bits));
    CHECK("pi + 1", v, 0x401090fdaa22168c);
    __asm__ volatile("movq %0, %%xmm5; fxsave64 (%1); pxor %%xmm5, %%xmm5; fxrstor64 (%1); movq %%xmm5, %2"
                     : : "r"(bits), "r"(area), "m"(v) : "memory");
    __asm__ volatile("movq %%xmm5, %0" : "=r"(v));
    CHECK("FXSAVE, FXRSTOR", v, bits);
    CHECK("XMM5 in memory", *(u64 *)(area + 160 + 5 * 16), bits);
    TRY("fxsave (%1)", "r"(area + 8));
    CHECK("FXSAVE misaligned", caught.vector, 13);
}

static void numeric_exceptions(void)
{
    WRITE_CR(0, READ_CR(0) | 0x20); /* NE */
    TRY("fninit; fld1; fldz; movw $0x37b, (%1); fldcw (%1); fdivrp; fwait", "r"(area));
    CHECK("division by zero, unmasked", caught.vector, 16);
    __asm__ volatile("fninit");
    TRY("movl $0x1d80, (%1); ldmxcsr (%1); xorps %%xmm0, %%xmm0; movaps %%xmm0, %%xmm1; divss %%xmm0, %%xmm1; movl $0x1f80, (%1)",
        "r"(area));
    CHECK("0/0 with a mask for others", caught.vector, -1);
    TRY("movl $0x1f00, (%1); ldmxcsr (%1); xorps %%xmm0, %%xmm0; divss %%xmm0, %%xmm0", "r"(area));
    CHECK("0/0 unmasked", caught.vector, 19);
    TRY("movl $0x10000, (%1); ldmxcsr (%1)", "r"(area));
    CHECK("reserved bit of MXCSR", caught.vector, 13);
    *(u32 *)area = 0x1f80;
    __asm__ volatile("ldmxcsr (%0)" : : "r"(area));
}

/* Enables in XCR0 all components that there are, and returns them. */
static u32 enable_xsave(void)
{
    u32 r[4];
    TRY("xor %%ecx, %%ecx; xgetbv", "r"(0));
    CHECK("XGETBV without OSXSAVE", caught.vector, 6);
    WRITE_CR(4, READ_CR(4) | 1 << 18);
    cpuid(1, 0, r);
    CHECK("OSXSAVE in CPUID", r[2] >> 27 & 1, 1);
    TRY("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $2, %%eax; xsetbv", "r"(0));
    CHECK("XCR0 without x87", caught.vector, 13);
    cpuid(0xd, 0, r);
    u32 all = r[0], size = r[2];
    CHECK("XSAVE area", size <= 4096 && size >= 576, 1);
    __asm__ volatile("xsetbv" : : "c"(0), "a"(all), "d"(0));
    cpuid(0xd, 0, r);
    CHECK("size with all enabled", r[1], size);
    return all;
}

static void xsave_in_memory(u32 all)
{
    u64 v;
    for (int i = 0; i < 4096; i++)
        area[i] = 0;
    __asm__ volatile("movq %0, %%xmm3; xsave64 (%1); pxor %%xmm3, %%xmm3; xrstor64 (%1)"
                     : : "r"(bits), "r"(area), "a"(3), "d"(0) : "memory");
    __asm__ volatile("movq %%xmm3, %0" : "=r"(v));
    CHECK("XSAVE, XRSTOR", v, bits);
    CHECK("XSTATE_BV has SSE", *(u64 *)(area + 512) & 2, 2);
    if (all & 4) {
        __asm__ volatile("vpcmpeqd %%ymm2, %%ymm2, %%ymm2; xsave64 (%0); vzeroall; xrstor64 (%0); vextracti128 $1, %%ymm2, %%xmm0; movq %%xmm0, %1"
                         : : "r"(area), "r"(v), "a"(7), "d"(0) : "memory");
        __asm__ volatile("vextracti128 $1, %%ymm2, %%xmm0; movq %%xmm0, %0" : "=r"(v));
        CHECK("upper half of YMM2", v, ~0ull);
    }
    area[512] = 0xff;
    TRY("mov $3, %%eax; xor %%edx, %%edx; xrstor64 (%1)", "r"(area));
    CHECK("XRSTOR of components that XCR0 has not", caught.vector, (all & 0xff) == 0xff ? -1 : 13);
    area[512] = 0;
    area[520] = 1;
    TRY("mov $3, %%eax; xor %%edx, %%edx; xrstor64 (%1)", "r"(area));
    CHECK("XRSTOR with XCOMP_BV", caught.vector, 13);
}

int main(void)
{
    u32 r[4];
    on_interrupt = try_interrupt;
    without_unit();
    state_in_memory();
    numeric_exceptions();
    cpuid(1, 0, r);
    if (r[2] >> 26 & 1)
        xsave_in_memory(enable_xsave());
    return 0;
}
