/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_state.c - RESET and INIT as the manual's table says, and states no processor can be in. */
#include "test.h"

#include "cpu/cpu.h"

TEST(reset)
{
    static struct cpu_state s, i;
    struct error err;
    cpu_reset(&s, true);
    CHECK_EQ(cpu_state_check(&s, &err), 0);
    CHECK_EQ(s.seg[CS].base + s.rip, 0xfffffff0);
    CHECK_EQ(s.cr0, 0x60000010);
    CHECK_EQ(s.dr6, 0xffff0ff0);
    CHECK_EQ(s.activity, CPU_RUNNING);
    CHECK_EQ(s.xsave[0], 0x40);
    CHECK_EQ(s.apic_base, 0xfee00900);
    cpu_reset(&s, false);
    CHECK_EQ(s.activity, CPU_WAIT_SIPI);

    s.cr0 = CR0_PE | CR0_CD | CR0_ET;
    s.pat = 0x0606060606060606;
    s.xcr0 = 7;
    s.xsave[0] = 0x7f;
    s.tsc = 5;
    s.lstar = 0x1234;
    s.efer = EFER_SCE;
    i = s;
    cpu_init_signal(&i, true);
    CHECK_EQ(i.cr0, CR0_CD | CR0_ET);
    CHECK_EQ(i.pat, s.pat);
    CHECK_EQ(i.xcr0, 7);
    CHECK_EQ(i.xsave[0], 0x7f);
    CHECK_EQ(i.tsc, 5);
    CHECK_EQ(i.lstar, 0x1234);
    CHECK_EQ(i.efer, 0);
}

#define REFUSED(change)                            \
    do {                                           \
        cpu_reset(&s, true);                       \
        change;                                    \
        CHECK(cpu_state_check(&s, &err) < 0);      \
        CHECK(err.text[0]);                        \
    } while (0)

TEST(check)
{
    static struct cpu_state s;
    struct error err;
    REFUSED(s.rflags = 0);
    REFUSED(s.rflags |= 1 << 3);
    REFUSED(s.cr0 |= CR0_PG);
    REFUSED(s.cr0 = CR0_NW);
    REFUSED(s.cr4 |= CR4_LA57);
    REFUSED(s.efer |= EFER_LMA);
    REFUSED(s.rip = 0x100000000);
    REFUSED(s.seg[FS].base = 1ull << 60);
    REFUSED(s.lstar = 1ull << 60);
    REFUSED(s.xcr0 = 0);
    REFUSED(s.xcr0 = 5);
    REFUSED(s.xcr0 = 0x27);
    REFUSED(s.xsave[520] = 1);
    REFUSED(s.xsave[26] = 1);
    REFUSED(s.activity = 4);
    REFUSED(s.pat = 2);
    REFUSED(s.dr7 = 1ull << 32);
}
