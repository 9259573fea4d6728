/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_vectors.c - masked, gathered and scattered operands, and the instructions
 * that move the x87 and vector state as a whole, against the host's own.
 */
#include "soft_host.h"

/* ---- masked and scattered operands -------------------------------------- */

static u32 *xmm_words(unsigned reg) { all_in_use(); return (u32 *)(cpu->s.xsave + XS_XMM + 16 * reg); }
static u32 *ymm_high(unsigned reg) { all_in_use(); return (u32 *)(cpu->s.xsave + cpu->native->offset[2] + 16 * reg); }

TEST(masked_operands)
{
    reset();
    if (!(cpu->native->mask & XCOMP_AVX))
        return;
    u32 *data = (u32 *)(u64)(DATA + 8192 - 16);
    for (unsigned k = 0; k < 8; k++)
        data[k] = 0x100 + k;
    map_page(2, false, false);
    cpu->gpr[RBX] = (u64)data;
    for (unsigned k = 0; k < 4; k++)
        xmm_words(1)[k] = k == 1 ? 0 : ~0u, ymm_high(1)[k] = 0;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8c, 0x03)); /* vpmaskmovd ymm0, ymm1, [rbx] */
    for (unsigned k = 0; k < 4; k++) {
        CHECK_EQ(xmm_words(0)[k], k == 1 ? 0 : 0x100 + k);
        CHECK_EQ(ymm_high(0)[k], 0);
    }
    ymm_high(1)[2] = ~0u;
    RAISES(VEC_PF, 0xc4, 0xe2, 0x75, 0x8c, 0x03);
    CHECK(raised.linear - (DATA + 8192) < 16);
    cpu->gpr[RBX] = DATA + 8192 + 32;
    RAISES(VEC_PF, 0xc4, 0xe2, 0x75, 0x2c, 0x03); /* vmaskmovps */
    CHECK(raised.linear >= DATA + 8192 + 32 && raised.linear < DATA + 8192 + 64);
    memset(xmm_words(1), 0, 16), ymm_high(1)[2] = 0;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8c, 0x03)); /* nothing selected, nothing mapped */
    map_page(1, false, false), map_page(2, true, true);
    cpu->gpr[RBX] = (u64)data;
    ymm_high(1)[3] = ~0u;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8c, 0x03)); /* the first page unmapped */
    CHECK_EQ(ymm_high(0)[3], 0x107);

    /* Stores: none of the selected elements, or all. */
    reset();
    data = (u32 *)(u64)(DATA + 8192 - 16);
    map_page(2, true, false);
    cpu->gpr[RBX] = (u64)data;
    for (unsigned k = 0; k < 4; k++)
        xmm_words(1)[k] = k & 1 ? ~0u : 0, ymm_high(1)[k] = 0, xmm_words(0)[k] = 0x200 + k;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8e, 0x03)); /* vpmaskmovd [rbx], ymm1, ymm0 */
    for (unsigned k = 0; k < 8; k++)
        CHECK_EQ(data[k], k == 1 || k == 3 ? 0x200 + k : 0);
    ymm_high(1)[0] = ~0u, xmm_words(0)[1] = 7;
    RAISES(VEC_PF, 0xc4, 0xe2, 0x75, 0x8e, 0x03);
    CHECK_EQ(raised.linear, DATA + 8192);
    CHECK_EQ(data[1], 0x201);

    /* maskmovdqu xmm0, xmm1 at rDI; maskmovq */
    reset();
    cpu->gpr[RDI] = DATA + 4096 - 5;
    for (unsigned k = 0; k < 16; k++)
        cpu->s.xsave[XS_XMM + k] = (u8)(k + 1), cpu->s.xsave[XS_XMM + 16 + k] = k % 3 ? 0 : 0x80;
    CHECK(RUN(0x66, 0x0f, 0xf7, 0xc1));
    for (unsigned k = 0; k < 16; k++)
        CHECK_EQ(((u8 *)(u64)(DATA + 4096 - 5))[k], k % 3 ? 0 : k + 1);
    map_page(1, false, false);
    all_in_use();
    cpu->s.xsave[XS_XMM + 16 + 15] = 0x80;
    RAISES(VEC_PF, 0x66, 0x0f, 0xf7, 0xc1);
    cpu->gpr[RDI] = DATA;
    all_in_use();
    memset(cpu->s.xsave + XS_ST, 0x5a, 8), memset(cpu->s.xsave + XS_ST + 16, 0x80, 4);
    CHECK(RUN(0x0f, 0xf7, 0xc1));
    CHECK_EQ(*(u64 *)(u64)DATA, 0x5a5a5a5a);
}

TEST(gathers)
{
    reset();
    if (!(cpu->native->mask & XCOMP_AVX))
        return;
    unsigned bad = 0;
    for (unsigned n = 0; n < 4000 && bad < 5; n++) {
        randomise();
        /* vpgather and vgather: opcode 90-93, W, L; data xmm2, index xmm9, mask xmm4; [rbx + index*scale + disp8] */
        u8 b[] = { 0xc4, 0xa2, (u8)((rnd() & 0x84) | 1 | (~4 & 15) << 3), (u8)(0x90 | (rnd() & 3)), 0x54,
                   (u8)(0x0b | (rnd() & 0xc0)), (u8)rnd() };
        for (unsigned k = 0; k < 4; k++) {
            xmm_words(9)[k] = (u32)rnd() % 0x3e0;
            ymm_high(9)[k] = (u32)rnd() % 0x3e0;
            if (rnd() & 1)
                xmm_words(9)[k] = -xmm_words(9)[k];
            if (b[3] & 1 && (k & 1)) { /* 64-bit indices */
                xmm_words(9)[k] = (u32)((s32)xmm_words(9)[k - 1] >> 31);
                ymm_high(9)[k] = (u32)((s32)ymm_high(9)[k - 1] >> 31);
            }
        }
        cpu->gpr[RBX] = DATA + 8192;
        bool faulted;
        bad += !compare(b, sizeof b, &faulted);
    }

    /* A fault keeps what was gathered before it, and the mask says so. */
    reset();
    map_page(1, false, false);
    cpu->gpr[RBX] = DATA;
    *(u32 *)(u64)DATA = 11, *(u32 *)(u64)(DATA + 8) = 22;
    for (unsigned k = 0; k < 4; k++)
        xmm_words(4)[k] = ~0u, xmm_words(2)[k] = 99;
    xmm_words(9)[0] = 0, xmm_words(9)[1] = 8, xmm_words(9)[2] = 4096, xmm_words(9)[3] = 0;
    RAISES(VEC_PF, 0xc4, 0xa2, 0x59, 0x90, 0x14, 0x0b); /* vpgatherdd xmm2, [rbx+xmm9], xmm4 */
    CHECK_EQ(raised.linear, DATA + 4096);
    static const u32 data[] = { 11, 22, 99, 99 }, mask[] = { 0, 0, ~0u, ~0u };
    CHECK(!memcmp(xmm_words(2), data, 16) && !memcmp(xmm_words(4), mask, 16));
    map_page(1, true, true);
    CHECK(RUN(0xc4, 0xa2, 0x59, 0x90, 0x14, 0x0b));
    CHECK_EQ(xmm_words(2)[3], 11);
    CHECK(!RUN(0xc4, 0xa2, 0x51, 0x90, 0x2c, 0x0b)); /* mask and data the same: #UD */
}

/* ---- images ------------------------------------------------------------- */

/* Runs an instruction at [rbx] both ways; memory bytes skip to skip+n of the operand are of the code's own place. */
static bool compare_area(const u8 *b, unsigned len, unsigned skip, unsigned n)
{
    static u8 before[WINDOW_PAGES * 4096], want[WINDOW_PAGES * 4096], start[CPU_XSAVE_SIZE];
    u8 *data = (u8 *)(u64)DATA, x[832], y[832];
    u64 at = cpu->gpr[RBX] - DATA + skip;
    memcpy(before, data, sizeof before);
    memcpy(start, cpu->s.xsave, sizeof start);
    memcpy(native->gpr, cpu->gpr, sizeof native->gpr);
    memcpy(native->xsave, cpu->s.xsave, sizeof native->xsave);
    native->rflags = 0x202;
    int trap = run_native(b, len);
    memcpy(want, data, sizeof want);
    memcpy(data, before, sizeof before);
    bool done = run_code(b, len);
    int got = done ? -1 : (int)raised.vector;
    vec_image(cpu);
    memset(want + at, 0, n), memset(data + at, 0, n);
    comparable(x, cpu->s.xsave);
    comparable(y, trap < 0 ? native->xsave : start);
    const char *what = trap != got                       ? "vector"
                       : memcmp(data, want, sizeof want) ? "memory"
                       : memcmp(x, y, sizeof x)          ? "state"
                                                         : NULL;
    if (!what)
        return true;
    CHECK_STR(what, "the same");
    fprintf(stderr, "  %s, vector here %d, natively %d\n", mnemonic_of(b, len), got, trap);
    for (unsigned k = 0; k < sizeof want; k++)
        if (data[k] != want[k]) {
            fprintf(stderr, "  operand byte %d: %02x, not %02x\n", (int)(DATA + k - cpu->gpr[RBX]), data[k], want[k]);
            break;
        }
    for (unsigned k = 0; k < 832; k++)
        if (x[k] != y[k]) {
            fprintf(stderr, "  image byte %u: %02x, not %02x\n", k, x[k], y[k]);
            break;
        }
    return false;
}

TEST(images_as_the_host_makes_them)
{
    static const struct { u8 n, b[4]; u16 skip, skip_n; bool restore; } list[] = {
        { 3, { 0x0f, 0xae, 0x03 }, 6, 18, false },       { 4, { 0x48, 0x0f, 0xae, 0x03 }, 6, 18, false }, /* fxsave */
        { 3, { 0x0f, 0xae, 0x0b }, 6, 18, true },        { 4, { 0x48, 0x0f, 0xae, 0x0b }, 6, 18, true },  /* fxrstor */
        { 3, { 0x0f, 0xae, 0x23 }, 6, 18, false },       { 4, { 0x48, 0x0f, 0xae, 0x23 }, 6, 18, false }, /* xsave */
        { 3, { 0x0f, 0xae, 0x2b }, 6, 18, true },        { 4, { 0x48, 0x0f, 0xae, 0x2b }, 6, 18, true },  /* xrstor */
        { 3, { 0x0f, 0xae, 0x33 }, 6, 18, false },       { 3, { 0x0f, 0xc7, 0x23 }, 6, 18, false }, /* xsaveopt, -c */
        { 2, { 0xd9, 0x33 }, 12, 16, false },            { 2, { 0xd9, 0x23 }, 12, 16, true },  /* fnstenv, fldenv */
        { 2, { 0xdd, 0x33 }, 12, 16, false },            { 2, { 0xdd, 0x23 }, 12, 16, true },  /* fnsave, frstor */
        { 2, { 0xdb, 0xe3 }, 0, 0, false },                                                    /* fninit */
    };
    reset();
    if (!cpu->native->xsave || cpu->native->mask != 7)
        return;
    unsigned bad = 0;
    for (unsigned n = 0; n < 6000 && bad < 10; n++) {
        unsigned k = (unsigned)(rnd() % ARRAY_SIZE(list));
        randomise();
        if (rnd() & 1) /* some components initial */
            cpu->s.xsave[XS_BV] = (u8)(rnd() & 7) | 1;
        vec_image(cpu);
        cpu->gpr[RBX] = DATA + 4096 * (1 + rnd() % 2) - 64 * (rnd() % 8);
        cpu->gpr[RAX] = rnd() % 4 ? rnd() & 7 : rnd();
        if (!(rnd() & 15))
            cpu->gpr[RBX] += rnd() & 63;
        slow_page(1);
        if (list[k].restore && list[k].b[0] != 0xd9 && list[k].b[0] != 0xdd) {
            u8 *area = (u8 *)cpu->gpr[RBX];
            u16 mxcsr = (u16)rnd();
            memcpy(area + XS_MXCSR, &mxcsr, 2);
            memset(area + XS_MXCSR + 2, rnd() % 16 ? 0 : 1, 2);
            memset(area + 6, 0, 18);
            /* what FXRSTOR and XRSTOR make of reserved bits of FCW and of ES is the processor's own affair */
            area[1] &= 0x0f, area[0] = (u8)(0x40 | (area[0] & 0x3f));
            area[2] &= 0x40, area[3] &= 0x7f;
            for (unsigned r = 0; r < 8; r++)
                memset(area + 32 + 16 * r + 10, 0, 6);
            memset(area + 512, 0, 64);
            area[512] = (u8)(rnd() & 7);
            if (rnd() & 1) {
                u64 comp = BIT(63) | (rnd() & 7) | area[512];
                memcpy(area + 520, &comp, 8);
            }
            if (!(rnd() % 8))
                area[512 + rnd() % 64] = (u8)rnd();
        }
        bad += !compare_area(list[k].b, list[k].n, list[k].skip, list[k].skip_n);
        map_page(1, true, true);
    }
}

TEST(vzero_in_32_bit_code)
{
    for (unsigned all = 0; all < 2; all++) {
        reset();
        if (!(cpu->native->mask & XCOMP_AVX))
            return;
        cpu->bits = 32, cpu->long_mode = false;
        for (unsigned r = 0; r < 16; r++)
            xmm_words(r)[1] = r + 1, ymm_high(r)[2] = r + 1;
        CHECK(RUN(0xc5, all ? 0xfc : 0xf8, 0x77));
        for (unsigned r = 0; r < 16; r++) {
            CHECK_EQ(xmm_words(r)[1], all && r < 8 ? 0 : r + 1);
            CHECK_EQ(ymm_high(r)[2], r < 8 ? 0 : r + 1);
        }
    }
}

TEST(xcr0)
{
    reset();
    cpu->gpr[RCX] = 0;
    CHECK(RUN(0x0f, 0x01, 0xd0)); /* xgetbv */
    CHECK_EQ(cpu->gpr[RAX], cpu->s.xcr0);
    cpu->gpr[RAX] = 3;
    CHECK(RUN(0x0f, 0x01, 0xd1)); /* xsetbv */
    CHECK_EQ(cpu->s.xcr0, 3);
    RAISES(VEC_UD, 0xc5, 0xf8, 0x77);
    static const u32 wrong[] = { 0, 2, 5, 6, 0x23, 0x67, 0x100 | 3, 1u << 31 | 3 };
    for (unsigned k = 0; k < ARRAY_SIZE(wrong); k++) {
        cpu->gpr[RAX] = wrong[k];
        RAISES(VEC_GP, 0x0f, 0x01, 0xd1);
    }
    cpu->gpr[RAX] = 7, cpu->cpl = 3;
    RAISES(VEC_GP, 0x0f, 0x01, 0xd1);
    cpu->cpl = 0, cpu->gpr[RCX] = 2;
    RAISES(VEC_GP, 0x0f, 0x01, 0xd0);
    cpu->s.cr4 = 0;
    RAISES(VEC_UD, 0x0f, 0x01, 0xd0);
    RAISES(VEC_UD, 0x0f, 0xae, 0x23);
}

TEST(environments_of_16_and_32_bit_code)
{
    reset();
    cpu->bits = 16, cpu->long_mode = false, cpu->ipmask = 0xffffffff;
    cpu->segbase[DS] = DATA;
    cpu->s.seg[CS].selector = 0x1234, cpu->s.seg[DS].selector = 0x5678;
    cpu->gpr[REG_BLOCK] = 0x9abc;
    cpu->gpr[RBX] = 0x40;
    CHECK(RUN(0xd9, 0x07)); /* fld dword [bx] */
    cpu->gpr[RBX] = 0x80;
    CHECK(RUN(0xd9, 0x37)); /* fnstenv [bx], protected mode, 14 bytes */
    const u16 *w = (const u16 *)(u64)(DATA + 0x80);
    CHECK_EQ(w[0], 0x37f);
    CHECK_EQ(w[1], 0x3800);
    CHECK_EQ(w[2], 0x7fff);
    CHECK_EQ(w[3], 0x9abc);
    CHECK_EQ(w[4], 0x1234);
    CHECK_EQ(w[5], 0x40);
    CHECK_EQ(w[6], 0x5678);
    cpu->protected_mode = false;
    CHECK(RUN(0xd9, 0x37)); /* real mode: linear addresses and the opcode */
    CHECK_EQ(w[3], (0x12340 + 0x9abc) & 0xffff);
    CHECK_EQ(w[4], (0x12340 + 0x9abc) >> 16 << 12 | 0x107);
    CHECK_EQ(w[5], 0x567c0 & 0xffff);
    CHECK_EQ(w[6], 0x567c0 >> 16 << 12);
    CHECK_EQ(cpu->s.xsave[XS_FCW] & 0x3f, 0x3f);
    CHECK(RUN(0x66, 0xdd, 0x37)); /* fnsave, 32-bit: 108 bytes; then as after FNINIT */
    const u32 *d = (const u32 *)w;
    CHECK_EQ(d[0], 0xffff037f);
    CHECK_EQ(d[1], 0xffff3800);
    CHECK_EQ(d[4] & 0x7ff, 0x107);
    CHECK_EQ(cpu->s.xsave[XS_FTW], 0);
    CHECK(RUN(0x66, 0xdd, 0x27)); /* frstor */
    CHECK_EQ(cpu->s.xsave[XS_FTW], 0x80);
    CHECK_EQ(cpu->s.xsave[XS_FSW + 1], 0x38);
}

/* FXSAVE and FXRSTOR instead: a host of before 2008, or a hypervisor that hides XSAVE. */
TEST(host_without_xsave)
{
    reset();
    const bool xsave = cpu->native->xsave;
    const u64 mask = cpu->native->mask;
    cpu->native->xsave = false;
    cpu->native->mask = XCOMP_X87 | XCOMP_SSE;
    for (unsigned k = 0; k < 4; k++) {
        xmm_words(0)[k] = 10 + k;
        xmm_words(15)[k] = 100 * k;
    }
    CHECK(RUN(0x66, 0x41, 0x0f, 0xfe, 0xc7)); /* paddd xmm0, xmm15 */
    CHECK(RUN(0xd9, 0xe8));                   /* fld1 */
    for (unsigned k = 0; k < 4; k++)
        CHECK_EQ(xmm_words(0)[k], 10 + k + 100 * k);
    CHECK_EQ(cpu->s.xsave[XS_FTW], 0x80);
    cpu->s.xsave[XS_BV] = 0; /* all initial */
    CHECK(RUN(0x66, 0x41, 0x0f, 0xfe, 0xc7));
    CHECK_EQ(xmm_words(0)[1], 0);
    CHECK_EQ(cpu->s.xsave[XS_FTW], 0);
    cpu->native->xsave = xsave;
    cpu->native->mask = mask;
}
