/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_native.c - instructions on the host's own unit: random encodings do what
 * the host does; what the host lacks is at least re-emitted as it was read; then
 * what only a guest can show: faults, denied classes, other code sizes, locks.
 */
#include <Zydis/Zydis.h>

#include "soft_host.h"

/* A random encoding whose memory operand, if any, is [rbx+disp8]. */
static unsigned generate(u8 *b)
{
    unsigned n = 0, map;
    u64 r = rnd();
    bool memory = r & 1, vex = (r >> 1 & 3) == 0;
    if (vex) {
        map = 1 + (unsigned)(rnd() % 3);
        b[n++] = 0xc4;
        b[n++] = (u8)((rnd() & 0x80) | 0x40 | (memory ? 0x20 : rnd() & 0x20) | map);
        b[n++] = (u8)(rnd() % 3 ? rnd() : (rnd() & 0x87) | 0x78);
    } else {
        if (!(rnd() % 3))
            b[n++] = 0x66;
        if (!(rnd() % 3))
            b[n++] = rnd() & 1 ? 0xf2 : 0xf3;
        if (!(rnd() % 16))
            b[n++] = 0xf0;
        if (rnd() & 1)
            b[n++] = (u8)(0x40 | (rnd() & (memory ? 12 : 13)));
        map = rnd() % 8 ? (unsigned)(rnd() % 4) : 1;
        if (map)
            b[n++] = 0x0f;
        if (map >= 2)
            b[n++] = map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = map ? (u8)rnd() : rnd() & 1 ? 0xd8 | (rnd() & 7) : 0xf6 | (rnd() & 1);
    b[n++] = memory ? (u8)(0x43 | (rnd() & 0x38)) : (u8)(0xc0 | (rnd() & 0x3f));
    for (unsigned k = 0; k < 8; k++)
        b[n++] = (u8)rnd();
    return n;
}

static bool left_out(const struct decoded *d)
{
    switch (d->desc->mnemonic) {
    case M_RDRAND: case M_RDSEED: /* no two alike */
    case M_MASKMOVQ: case M_MASKMOVDQU: case M_VMASKMOVDQU: /* at rDI: below */
        return true;
    }
    const struct opdesc *o = d->desc; /* the direct run needs its stack pointer */
    return (o->flags & OPF_VSIB) || (d->has_mem && (d->base != RBX || d->mod != 1 || d->index != 0xff)) ||
           (o->reg.size && d->reg == RSP) ||
           (o->rm.size && !d->has_mem && d->rm == RSP) || (o->vvvv.size && d->vvvv == RSP);
}

TEST(random_encodings_do_as_the_host_does)
{
    static u32 seen[4096];
    unsigned ran = 0, kinds = 0, faults = 0, bad = 0;
    reset();
    for (unsigned tries = 0; tries < 600000 && bad < 20; tries++) {
        u8 bytes[32];
        struct decoded d;
        struct insn i[2];
        unsigned n = generate(bytes);
        if (decode(&d, bytes, MIN(n, 15u), 64, true) != DECODE_OK || left_out(&d))
            continue;
        lower(i, &d);
        if (!i->fn || lower_fpu_state(cpu, &d, i))
            continue;
        if (seen[d.desc->mnemonic]++ > 600)
            continue;
        if (!(ran & 63))
            randomise();
        else
            for (unsigned r = 0; r < 16; r++)
                cpu->gpr[r] = rnd() >> (rnd() % 64);
        all_in_use();
        cpu->gpr[RBX] = DATA + 4096 + (rnd() & 0x1f00);
        if (rnd() & 1)
            cpu->gpr[RBX] += rnd() & 0xff;
        if (d.has_mem && !(rnd() % 4)) {
            /* the same alignment, near a page's end */
            cpu->gpr[RBX] = DATA + 8192 - 64 * (rnd() & 1) - d.disp + (rnd() & 1 ? 0 : rnd() & 63);
            slow_page(1);
        }
        if (d.has_mem && !(d.disp & 15 & d.disp) && (rnd() & 1))
            cpu->gpr[RBX] = (cpu->gpr[RBX] & ~63ull) - (d.disp & 63);
        bool faulted;
        bad += !compare(bytes, d.len, &faulted);
        map_page(1, true, true);
        ran++;
        faults += faulted;
        kinds += seen[d.desc->mnemonic] == 1;
    }
    printf("  %u encodings of %u mnemonics, %u faulted, %u bounced\n", ran, kinds, faults, (unsigned)bounced);
    CHECK(ran > 90000);
    CHECK(flushed > 0); /* the code buffer was full at least once */
}

/*
 * What this host may not have, AVX-512 above all: the instruction in the stub must read, to Zydis, as the guest's
 * does, but for the memory operand's address and the names of general registers.
 */
static bool reads_the_same(const struct decoded *d, const u8 *stub, unsigned size)
{
    unsigned skipped = 0;
    ZydisDecoder z;
    ZydisDecodedInstruction a, b;
    ZydisDecodedOperand x[ZYDIS_MAX_OPERAND_COUNT], y[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, d->bytes, d->len, &a, x)))
        return true; /* the decoder's own tests */
    if (a.mnemonic == ZYDIS_MNEMONIC_BT || a.mnemonic == ZYDIS_MNEMONIC_ADD)
        return true; /* not to be told from those that load the flags */
    do {
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, stub, 15, &b, y)))
            return false;
        stub += b.length;
    } while (b.encoding != a.encoding || (b.mnemonic != a.mnemonic && ++skipped < 20));
    if (a.mnemonic != b.mnemonic || a.operand_count != b.operand_count || a.avx.vector_length != b.avx.vector_length ||
        a.avx.mask.mode != b.avx.mask.mode || a.avx.mask.reg != b.avx.mask.reg ||
        a.avx.broadcast.mode != b.avx.broadcast.mode || a.avx.rounding.mode != b.avx.rounding.mode ||
        a.avx.has_sae != b.avx.has_sae || a.raw.imm[0].value.u != b.raw.imm[0].value.u)
        return false;
    for (unsigned k = 0; k < a.operand_count; k++) {
        if (x[k].type != y[k].type || x[k].size != y[k].size || x[k].actions != y[k].actions)
            return false;
        if (x[k].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            /* What the engine checks must be what the host accesses. */
            unsigned want = x[k].size / 8;
            if (a.avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID && !a.avx.broadcast.is_static)
                want = x[k].element_size / 8;
            if (size != want) {
                fprintf(stderr, "  %u bytes, not %u (element %u)\n", size, want, x[k].element_size);
                return false;
            }
            if (y[k].mem.index != ZYDIS_REGISTER_NONE || y[k].mem.disp.has_displacement ||
                (y[k].mem.base != ZYDIS_REGISTER_RDX && y[k].mem.base != ZYDIS_REGISTER_R11))
                return false;
        } else if (x[k].type == ZYDIS_OPERAND_TYPE_REGISTER && x[k].reg.value != y[k].reg.value) {
            ZydisRegisterClass c1 = ZydisRegisterGetClass(x[k].reg.value), c2 = ZydisRegisterGetClass(y[k].reg.value);
            if (c1 != c2 || c1 < ZYDIS_REGCLASS_GPR8 || c1 > ZYDIS_REGCLASS_GPR64)
                return false;
        }
    }
    return true;
}

TEST(encodings_read_the_same_in_the_stub)
{
    static u32 seen[4096];
    unsigned ran = 0, kinds = 0, bad = 0;
    reset();
    for (unsigned tries = 0; tries < 2000000 && bad < 20; tries++) {
        u8 b[32];
        struct decoded d;
        struct insn i[2];
        unsigned n = 0;
        for (unsigned k = 0; k < 16; k++)
            b[k] = (u8)rnd();
        if (!(rnd() % 4)) {
            generate(b);
        } else if (rnd() % 4) {
            b[n++] = 0x62;
            b[n] = (u8)((b[n] & 0xf0) | (1 + b[n] % 3)), n++;
            b[n] |= 4, n++;
            if (rnd() & 1)
                b[n - 1] |= 0x78, b[n] |= 8;
        } else {
            b[n++] = 0xc4;
            b[n] = (u8)((b[n] & 0xe0) | (1 + b[n] % 3)), n++;
            if (rnd() & 1)
                b[n] |= 0x78;
        }
        if (decode(&d, b, 15, 64, true) != DECODE_OK || (d.desc->flags & (OPF_VSIB | OPF_IMPLICIT_MEM)))
            continue;
        lower(i, &d);
        if (d.desc->cls < OPC_X87 && !i->fn)
            continue;
        if (lower_fpu_state(cpu, &d, i) || (d.desc->cls == OPC_INT && !i->imm))
            continue;
        seen[d.desc->mnemonic]++;
        kinds += seen[d.desc->mnemonic] == 1;
        ran++;
        if (i->fn == op_native_full) {
            run(i);
            continue;
        }
        if (!i->fn || !i->imm || !reads_the_same(&d, (const u8 *)i->imm, i->size)) {
            bad++;
            CHECK_STR(mnemonic_name(d.desc->mnemonic), i->fn ? "the same" : "lowered");
            for (unsigned k = 0; k < d.len; k++)
                fprintf(stderr, "%02x ", b[k]);
            fprintf(stderr, "\n");
        }
    }
    printf("  %u encodings of %u mnemonics\n", ran, kinds);
}

/* Gathers and scatters are done by vec_masked.c: its reading of them (bytes of insn.imm) against Zydis's. */
TEST(gathers_and_scatters_are_read_right)
{
    unsigned ran = 0, bad = 0;
    reset();
    ZydisDecoder z;
    ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (unsigned tries = 0; tries < 400000 && bad < 10; tries++) {
        u8 b[16];
        struct decoded d;
        struct insn i[2];
        ZydisDecodedInstruction a;
        ZydisDecodedOperand x[ZYDIS_MAX_OPERAND_COUNT];
        for (unsigned k = 0; k < 16; k++)
            b[k] = (u8)rnd();
        unsigned n = 0;
        if (rnd() & 1) {
            b[n++] = 0x62, b[n] = (u8)((b[n] & 0xf0) | 2), n++;
            b[n] = (u8)(b[n] | 0x7d), n++, n++;
        } else {
            b[n++] = 0xc4, b[n] = (u8)((b[n] & 0xe0) | 2), n++;
            b[n] = (u8)((b[n] & 0xfc) | 1), n++;
        }
        b[n] = (u8)((b[n] & 0x33) | 0x80 | (b[n] & 0x20 ? 0 : 0x10)), n++;
        b[n] = (u8)((b[n] & 0xf8) | 4);
        if (decode(&d, b, 15, 64, true) != DECODE_OK || !(d.desc->flags & OPF_VSIB) ||
            !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, b, 15, &a, x)))
            continue;
        lower(i, &d);
        const u8 *g = (const u8 *)&i->imm;
        const ZydisDecodedOperand *mem = NULL, *mask = NULL, *data = NULL;
        for (unsigned k = 0; k < a.operand_count; k++) {
            const ZydisDecodedOperand *o = &x[k];
            if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
                mem = o;
            else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
                data = o;
            else if (o->encoding == ZYDIS_OPERAND_ENCODING_MASK || o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
                mask = o;
        }
        bool good = i->fn && mem && mask && data && g[0] == ZydisRegisterGetId(data->reg.value) &&
                    g[1] == ZydisRegisterGetId(mem->mem.index) && g[2] == ZydisRegisterGetId(mask->reg.value) &&
                    g[3] == mem->element_size / 8 && 1 << i->scale == mem->mem.scale &&
                    i->disp == mem->mem.disp.value && g[7] == (data->actions == ZYDIS_OPERAND_ACTION_READ);
        unsigned data_bytes = data ? data->size / 8 : 0;
        unsigned index_bytes = mem ? ZydisRegisterGetWidth(a.machine_mode, mem->mem.index) / 8 : 0;
        good = good && g[5] == MIN(data_bytes / g[3], index_bytes / g[4]);
        if (!good) {
            bad++;
            CHECK_STR(mnemonic_name(d.desc->mnemonic), "read right");
            for (unsigned k = 0; k < d.len; k++)
                fprintf(stderr, "%02x ", b[k]);
            fprintf(stderr, "| data %u index %u mask %u sizes %u %u count %u\n", g[0], g[1], g[2], g[3], g[4], g[5]);
        }
        ran++;
    }
    CHECK(ran > 2000);
}

/* ---- faults ------------------------------------------------------------- */

TEST(faults)
{
    reset();
    cpu->gpr[RBX] = 0, cpu->gpr[RAX] = 5;
    RAISES(VEC_DE, 0x48, 0xf7, 0xf3); /* div rbx */
    CHECK_EQ(cpu->gpr[RAX], 5);
    cpu->gpr[RBX] = DATA + 8;
    RAISES(VEC_GP, 0x0f, 0x28, 0x03); /* movaps xmm0, [rbx] */
    cpu->gpr[RBX] = DATA + WINDOW_PAGES * 4096 + 8;
    RAISES(VEC_GP, 0x0f, 0x28, 0x03); /* nothing mapped there either, but alignment comes first */
    RAISES(VEC_PF, 0x0f, 0x10, 0x03); /* movups */
    cpu->gpr[RBX] = DATA + WINDOW_PAGES * 4096 - 8;
    RAISES(VEC_PF, 0x0f, 0x10, 0x03);
    CHECK_EQ(raised.linear, DATA + WINDOW_PAGES * 4096);
    cpu->gpr[RBX] = DATA + 8, cpu->gpr[RAX] = 1;
    RAISES(VEC_GP, 0x48, 0x0f, 0xc7, 0x0b); /* cmpxchg16b */

    memset(cpu->s.xsave + XS_MXCSR, 0, 4);
    RAISES(VEC_XM, 0x0f, 0x5e, 0xc1); /* divps xmm0, xmm1: 0/0 */
    CHECK_EQ(cpu->s.xsave[XS_MXCSR] & 1, 1);
    cpu->s.cr4 &= ~CR4_OSXMMEXCPT;
    RAISES(VEC_UD, 0x0f, 0x5e, 0xc1);
    cpu->gpr[RBX] = DATA;
    *(u32 *)(u64)DATA = 0x80000000;
    RAISES(VEC_GP, 0x0f, 0xae, 0x13); /* ldmxcsr */

    /* An x87 exception is reported by the next instruction that waits, and FIP is that of the guilty one. */
    reset();
    cpu->gpr[REG_BLOCK] = 0x123456789000;
    cpu->s.xsave[XS_FCW] = 0x40;
    CHECK(RUN(0xd9, 0xe8)); /* fld1 */
    CHECK(RUN(0xd9, 0xee)); /* fldz */
    CHECK(RUN(0xde, 0xf9)); /* fdivp */
    cpu->gpr[REG_BLOCK] += 16;
    RAISES(VEC_MF, 0xd9, 0xe8);
    RAISES(VEC_MF, 0x9b);
    RAISES(VEC_MF, 0x0f, 0x6f, 0xc1); /* movq mm0, mm1 */
    RAISES(VEC_MF, 0x0f, 0xf7, 0xc1); /* maskmovq */
    RAISES(VEC_MF, 0xd9, 0x23);       /* fldenv */
    RAISES(VEC_MF, 0xd8, 0x03);       /* fadd from where nothing is */
    RAISES(VEC_PF, 0xd9, 0x3b);       /* fnstcw does not wait */
    u64 fip;
    memcpy(&fip, cpu->s.xsave + XS_FIP, 8);
    CHECK_EQ(fip, 0x123456789000);
    CHECK_EQ(cpu->s.xsave[XS_FOP + 1] << 8 | cpu->s.xsave[XS_FOP], 0x6f9);
    CHECK(RUN(0xdb, 0xe2)); /* fnclex */
    CHECK(RUN(0x9b));
    cpu->gpr[RBX] = DATA + 0x100;
    CHECK(RUN(0xd8, 0x43, 0x10)); /* fadd dword [rbx+16] */
    u64 fdp;
    memcpy(&fdp, cpu->s.xsave + XS_FDP, 8);
    CHECK_EQ(fdp, DATA + 0x110);
}

TEST(x87_pointers)
{
    unsigned ran = 0;
    reset();
    cpu->s.seg[CS].selector = 0x33, cpu->s.seg[DS].selector = 0; /* Linux's */
    for (unsigned n = 0; n < 4000; n++) {
        /* any D8-DF at [rbx+16] or on registers, then fnstenv [rbx+64] */
        u8 b[8] = { (u8)(0xd8 | (rnd() & 7)), (u8)(rnd() & 1 ? 0x43 | (rnd() & 0x38) : 0xc0 | rnd()), 16 };
        struct decoded d;
        struct insn i[2];
        u8 want[28], *env = (u8 *)(u64)(DATA + 64);
        if (decode(&d, b, 8, 64, true) != DECODE_OK)
            continue;
        lower(i, &d);
        if (!i->fn || lower_fpu_state(cpu, &d, i))
            continue;
        randomise();
        cpu->s.xsave[XS_FCW] = 0x7f; /* nothing is reported before FNSTENV */
        cpu->s.xsave[XS_FSW] = 0, cpu->s.xsave[XS_FSW + 1] &= 0x7f;
        cpu->gpr[RBX] = DATA;
        cpu->s.xsave[XS_FCW + 1] = 3;
        memcpy(b + d.len, (u8[]){ 0xd9, 0x73, 0x40 }, 3);
        /* Pointers of before: those of an fninit, as XRSTOR does not say which it keeps. */
        memset(cpu->s.xsave + XS_FOP, 0, XS_MXCSR - XS_FOP);
        cpu->x87.fcs = cpu->x87.fds = 0;
        /* Whoever interrupts the host before the FNSTENV loses what it is to store, where FXSAVE stores pointers only with
           an exception pending: none means once more. */
        int vector = -1;
        for (unsigned tries = 0; tries < 20 && vector < 0; tries++) {
            memcpy(native->gpr, cpu->gpr, sizeof native->gpr);
            memcpy(native->xsave, cpu->s.xsave, sizeof native->xsave);
            *(u16 *)(u64)(DATA + 16) = 0x37f; /* FLDCW */
            vector = run_native(b, d.len + 3);
            memcpy(want, env, 28);
            if (memcmp(want + 12, (u8[8]){ 0 }, 8))
                break;
        }
        if (vector >= 0)
            continue;
        memset(env, 0, 28);
        cpu->gpr[REG_BLOCK] = native->insn;
        if (!run_code(b, d.len) || !run_code(b + d.len, 3))
            CHECK_EQ(raised.vector, 255);
        if (memcmp(env + 12, want + 12, 16)) {
            CHECK_STR(mnemonic_of(b, d.len), "the same");
            for (unsigned k = 12; k < 28; k++)
                fprintf(stderr, "%02x(%02x) ", env[k], want[k]);
            fprintf(stderr, "\n");
        }
        ran++;
    }
    CHECK(ran > 2000);
}

TEST(classes_denied)
{
    static const struct { u8 n, b[6]; u32 deny; } list[] = {
        { 2, { 0xd9, 0xe8 }, DENY_X87 }, { 3, { 0x0f, 0xfc, 0xc1 }, DENY_MMX }, { 2, { 0x0f, 0x77 }, DENY_MMX },
        { 4, { 0x0f, 0x38, 0x00, 0xc1 }, DENY_MMX }, /* pshufb mm */
        { 5, { 0x66, 0x0f, 0x38, 0x00, 0xc1 }, DENY_SSE }, { 3, { 0x0f, 0x58, 0xc1 }, DENY_SSE },
        { 3, { 0x0f, 0x2a, 0xc1 }, DENY_SSE }, { 3, { 0x0f, 0xae, 0x1b }, DENY_SSE }, /* stmxcsr [rbx] */
        { 4, { 0xc5, 0xf0, 0x58, 0xc1 }, DENY_AVX }, { 3, { 0xc5, 0xf8, 0x77 }, DENY_AVX },
        { 1, { 0x9b }, DENY_WAIT }, { 5, { 0xc4, 0xe2, 0x70, 0xf2, 0xc1 }, 0 }, /* andn */
        { 3, { 0x0f, 0xc3, 0x03 }, 0 }, { 3, { 0x0f, 0xae, 0xf8 }, 0 }, /* movnti, sfence */
    };
    static const struct { u64 cr0, cr4, xcr0; u8 x87, mmx, sse, avx, wait; } when[] = {
        { 0, CR4_OSFXSR | CR4_OSXSAVE, 7, 255, 255, 255, 255, 255 },
        { CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_NM, VEC_NM, VEC_NM, 255 },
        { CR0_TS | CR0_MP, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_NM, VEC_NM, VEC_NM, VEC_NM },
        { CR0_EM, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_UD, VEC_UD, 255, 255 },
        { CR0_EM | CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_UD, VEC_UD, VEC_NM, 255 },
        { 0, CR4_OSXSAVE, 7, 255, 255, VEC_UD, 255, 255 },
        { CR0_TS, 0, 7, VEC_NM, VEC_NM, VEC_UD, VEC_UD, 255 },
        { 0, CR4_OSFXSR, 7, 255, 255, 255, VEC_UD, 255 },
        { CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 3, VEC_NM, VEC_NM, VEC_NM, VEC_UD, 255 },
    };
    for (unsigned w = 0; w < ARRAY_SIZE(when); w++)
        for (unsigned k = 0; k < ARRAY_SIZE(list); k++) {
            reset();
            cpu->gpr[RBX] = DATA;
            cpu->s.cr0 = CR0_PE | CR0_PG | when[w].cr0;
            cpu->s.cr4 = when[w].cr4;
            cpu->s.xcr0 = when[w].xcr0;
            soft_update_fpu(cpu);
            unsigned want = 255;
            switch (list[k].deny) {
            case DENY_X87: want = when[w].x87; break;
            case DENY_MMX: want = when[w].mmx; break;
            case DENY_SSE: want = when[w].sse; break;
            case DENY_AVX: want = when[w].avx; break;
            case DENY_WAIT: want = when[w].wait; break;
            }
            bool done = run_code(list[k].b, list[k].n);
            if ((done ? 255 : raised.vector) != want)
                fprintf(stderr, "  row %u, %s\n", w, mnemonic_of(list[k].b, list[k].n));
            CHECK_EQ(done ? 255 : raised.vector, want);
        }
}

/* ---- operand sizes, modes, locks ---------------------------------------- */

TEST(other_code_sizes)
{
    reset();
    cpu->bits = 32, cpu->long_mode = false, cpu->ipmask = 0xffffffff;
    cpu->gpr[RAX] = 0x12345678, cpu->gpr[RBX] = 0x10000;
    CHECK(RUN(0xf7, 0xe3)); /* mul ebx */
    CHECK_EQ(cpu->gpr[RAX], 0x56780000);
    CHECK_EQ(cpu->gpr[RDX], 0x1234);
    CHECK(cpu->rflags & RFLAGS_OF);
    cpu->gpr[RAX] = 0x12345678, cpu->gpr[RDX] = 0xaaaaaaaa, cpu->gpr[RBX] = 0x0100;
    CHECK(RUN(0x66, 0xf7, 0xe3)); /* mul bx */
    CHECK_EQ(cpu->gpr[RAX], 0x12347800);
    CHECK_EQ(cpu->gpr[RDX], 0xaaaa0056);
    CHECK(RUN(0xc4, 0xe1, 0xf9, 0x6e, 0xc3)); /* vmovd xmm0, ebx: W is ignored here */
    CHECK_EQ(*(u64 *)(cpu->s.xsave + XS_XMM), 0x100);
    cpu->segbase[DS] = DATA, cpu->gpr[RBX] = 0x20;
    *(u32 *)(u64)(DATA + 0x20) = 0xdeadbeef;
    CHECK(RUN(0xf3, 0x0f, 0xb8, 0x0b)); /* popcnt ecx, [ebx] */
    CHECK_EQ(cpu->gpr[RCX], 24);

    cpu->bits = 16;
    cpu->gpr[RAX] = 0x11110003, cpu->gpr[RBX] = 0x22220005, cpu->gpr[RDX] = 0x33333333;
    CHECK(RUN(0xf7, 0xe3)); /* mul bx */
    CHECK_EQ(cpu->gpr[RAX], 0x1111000f);
    CHECK_EQ(cpu->gpr[RDX], 0x33330000);
    CHECK(RUN(0x69, 0xc3, 0x34, 0x12)); /* imul ax, bx, 1234h */
    CHECK_EQ(cpu->gpr[RAX], 0x11110000 | (5 * 0x1234));
    CHECK(RUN(0x66, 0x0f, 0xc8)); /* bswap eax */
    CHECK_EQ(cpu->gpr[RAX], 0x045b1111);
    CHECK(RUN(0x66, 0xf3, 0x0f, 0xb8, 0xc3)); /* popcnt eax, ebx */
    CHECK_EQ(cpu->gpr[RAX], 6);
    CHECK(RUN(0x0f, 0xc0, 0xc4)); /* xadd ah, al */
    CHECK_EQ(cpu->gpr[RAX], 0x600);
    CHECK(RUN(0x66, 0x0f, 0x6e, 0xcb)); /* movd xmm1, ebx: the operand is 32 bits everywhere */
    CHECK_EQ(*(u64 *)(cpu->s.xsave + XS_XMM + 16), 0x22220005);
}

TEST(high_bytes)
{
    reset();
    cpu->gpr[RAX] = 0x1122334455660305, cpu->gpr[RBX] = 0xffffffffffff07ff;
    CHECK(RUN(0xf6, 0xe7)); /* mul bh */
    CHECK_EQ(cpu->gpr[RAX], 0x1122334455660023);
    cpu->gpr[RAX] = 0x1122334455660305;
    CHECK(RUN(0x0f, 0xc0, 0xe0)); /* xadd al, ah */
    CHECK_EQ(cpu->gpr[RAX], 0x1122334455660508);
    CHECK(RUN(0x0f, 0xb0, 0xdc)); /* cmpxchg ah, bl: not equal */
    CHECK_EQ(cpu->gpr[RAX], 0x1122334455660505);
    CHECK(RUN(0x0f, 0xb0, 0xdc)); /* equal */
    CHECK_EQ(cpu->gpr[RAX], 0x112233445566ff05);
    CHECK(RUN(0xf2, 0x0f, 0x38, 0xf0, 0xcf)); /* crc32 ecx, bh */
    u32 want = 0;
    __asm__("crc32b %1, %0" : "+r"(want) : "r"((u8)7));
    CHECK_EQ(cpu->gpr[RCX], want);
}

TEST(locked_operands_in_two_pages)
{
    reset();
    cpu->gpr[RBX] = DATA + 4096 - 3, cpu->gpr[RAX] = 0x0123456789abcdef, cpu->gpr[RCX] = 5;
    memcpy((void *)cpu->gpr[RBX], &cpu->gpr[RAX], 8);
    CHECK(RUN(0xf0, 0x48, 0x0f, 0xb1, 0x0b)); /* lock cmpxchg [rbx], rcx */
    CHECK(cpu->rflags & RFLAGS_ZF);
    u64 now;
    memcpy(&now, (void *)cpu->gpr[RBX], 8);
    CHECK_EQ(now, 5);
    CHECK(RUN(0xf0, 0x48, 0x0f, 0xc1, 0x0b)); /* lock xadd [rbx], rcx */
    memcpy(&now, (void *)cpu->gpr[RBX], 8);
    CHECK_EQ(now, 10);
    CHECK_EQ(cpu->gpr[RCX], 5);
    CHECK_EQ(machine.split_lock, 0);
    map_page(1, true, false);
    RAISES(VEC_PF, 0xf0, 0x48, 0x0f, 0xc1, 0x0b);
    CHECK_EQ(raised.linear, DATA + 4096);
    CHECK_EQ(machine.split_lock, 0);
}
