/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.c - random instruction sequences that do something: instructions of all kinds (gen_insn.c), jumps forward among
 * them, segments, saved state, code that changes itself.
 *
 * A few registers of a sequence always point into the data area and are never written, so that most memory operands can
 * be aimed; the others hold anything.
 */
#include "gen.h"

static const unsigned weights[B_COUNT] = {44, 6, 10, 8, 14, 14, 20, 1};

/* An address into a register or onto the stack, and there: one piece, or a jump between them could loop. */
static void jump_to_address(struct build *b)
{
    struct rng *r = b->r;
    const bool narrow = b->q->bits == 16;
    u8 c[16] = {0};
    struct gen_insn *i;
    if (chance(r, 50)) {
        unsigned n = narrow ? 3 : 5;
        c[0] = 0x68;
        c[n++] = chance(r, 50) ? 0xc3 : 0xc2;
        if (c[n - 1] == 0xc2) {
            c[n] = 8;
            n += 2;
        }
        i = gen_append(b, c, n);
        i->fix_off = 1;
        i->short_fix = narrow;
    } else {
        unsigned reg = b->q->bits == 64 ? rng_below(r, 16) : rng_below(r, 8);
        if (b->fixed >> reg & 1 || reg == RSP)
            return;
        gen_set_register(b, reg, 0);
        i = &b->q->insn[b->q->n - 1];
        i->fix_off = (u8)(i->len - 4);
        if (reg >= 8)
            i->bytes[i->len++] = 0x41;
        i->bytes[i->len++] = 0xff;
        i->bytes[i->len++] = (u8)((chance(r, 50) ? 0xe0 : 0xd0) | (reg & 7));
    }
    i->fix = FIX_ABS;
}

/* A jump over the next few instructions, of any kind. */
static void control(struct build *b)
{
    struct rng *r = b->r;
    static const u32 reads[8] = {RFLAGS_OF, RFLAGS_CF, RFLAGS_ZF, RFLAGS_CF | RFLAGS_ZF, RFLAGS_SF, RFLAGS_PF,
        RFLAGS_SF | RFLAGS_OF, RFLAGS_SF | RFLAGS_OF | RFLAGS_ZF};
    const bool narrow = b->q->bits == 16;
    unsigned skip = 1 + rng_below(r, 3), cc = rng_below(r, 16), n = 0;
    u8 c[16] = {0};
    struct gen_insn *i;
    switch (rng_below(r, 9)) {
    case 0:
    case 1:
    case 2:
        if (reads[cc >> 1] & b->undefined)
            return;
        if (chance(r, 70)) {
            c[0] = (u8)(0x70 | cc);
            i = gen_append(b, c, 2);
            i->fix = FIX_SKIP;
            i->fix_off = 1;
        } else {
            c[0] = 0x0f;
            c[1] = (u8)(0x80 | cc);
            i = gen_append(b, c, narrow ? 4 : 6);
            i->fix = FIX_SKIP32;
            i->short_fix = narrow;
            i->fix_off = 2;
        }
        break;
    case 3:
        c[0] = 0xeb;
        i = gen_append(b, c, 2);
        i->fix = FIX_SKIP;
        i->fix_off = 1;
        break;
    case 4: /* LOOPNE, LOOPE, LOOP, JrCXZ */
        c[0] = (u8)(0xe0 + rng_below(r, 4));
        if (c[0] < 0xe2 && b->undefined & RFLAGS_ZF)
            return;
        if (b->fixed & 1u << RCX)
            return;
        if (chance(r, 20)) {
            c[1] = c[0];
            c[0] = 0x67;
            n = 1;
        }
        i = gen_append(b, c, n + 2);
        i->fix = FIX_SKIP;
        i->fix_off = (u8)(n + 1);
        break;
    case 5: /* CALL over a few */
        c[0] = 0xe8;
        i = gen_append(b, c, narrow ? 3 : 5);
        i->fix = FIX_SKIP32;
        i->short_fix = narrow;
        i->fix_off = 1;
        break;
    default: jump_to_address(b); return;
    }
    i->skip = (u8)skip;
    if (skip > b->skipping)
        b->skipping = skip;
}

/* Code that changes an instruction ahead of it, sometimes the very next. */
static void self_modifying(struct build *b)
{
    static const u8 mov_imm8[] = {0xc6};
    u8 target[] = {0xb0, (u8)rng_next(b->r)}; /* mov al, imm8 */
    unsigned store = b->q->n;
    if (b->q->segmented || b->fixed & 1u << RAX)
        return;
    gen_at_address(b, mov_imm8, 1, 0, 0, 1);
    b->q->insn[store].bytes[b->q->insn[store].len - 1] = (u8)rng_next(b->r);
    for (unsigned n = rng_below(b->r, 3); n--;)
        gen_general(b);
    struct gen_insn *i = &b->q->insn[store];
    i->fix = FIX_CODE;
    i->fix_off = (u8)(i->len - 5);
    i->skip = (u8)(b->q->n - store - 1);
    b->q->patches_itself = true;
    gen_append(b, target, 2);
}

void gen_sequence(const struct gen *g, struct rng *r, struct sequence *q)
{
    struct build b = {.g = g, .r = r, .q = q, .weights = weights};
    static const u8 pool64[] = {RBX, RBP, R8, R9, R10, R11, R12, R13, R14, R15}, pool32[] = {RBX, RBP};
    unsigned want = 6 + rng_below(r, 18);

    q->n = 0;
    q->flow = q->real = q->patches_itself = false;
    q->bits = chance(r, 70) ? 64 : 32;
    q->segmented = host_has_ldt && q->bits == 32 && chance(r, 50);
    if (q->segmented && chance(r, 60))
        q->bits = 16;
    q->code = CODE_BASE + 0x1000 + (chance(r, 20) ? 0x1000 - rng_below(r, 64) : rng_below(r, 0x1000));
    q->data_seed = rng_next(r);
    for (unsigned i = 0; i < 16; i++)
        q->init.gpr[i] = q->bits == 64 ? gen_number(r) : (u32)gen_number(r);
    if (q->bits == 64) {
        for (unsigned i = 0; i < 3; i++)
            b.pointer[i] = pool64[(rng_below(r, 5) + i * 5 / 2) % ARRAY_SIZE(pool64)];
        do
            b.small = pool64[rng_below(r, ARRAY_SIZE(pool64))];
        while (b.small == b.pointer[0] || b.small == b.pointer[1] || b.small == b.pointer[2]);
    } else {
        unsigned swap = q->segmented ? 0 : rng_below(r, 2);
        b.pointer[0] = b.pointer[1] = b.pointer[2] = pool32[swap];
        b.small = pool32[!swap];
        if (q->segmented && chance(r, 50))
            b.small = RSI;
    }
    /* Whether an access over the end of 4 GiB passes a 4 GiB limit is the processor's (SDM vol. 3, 5.3). */
    if (q->bits != 64 && q->init.gpr[RSI] > 0xffffff00)
        q->init.gpr[RSI] &= 0x7fffffff;
    if (q->bits != 64 && q->init.gpr[RDI] > 0xffffff00)
        q->init.gpr[RDI] &= 0x7fffffff;
    for (unsigned i = 0; i < 3; i++) {
        b.fixed |= 1u << b.pointer[i];
        q->init.gpr[b.pointer[i]] = DATA_BASE - data_base(q) + rng_below(r, DATA_RO);
    }
    b.fixed |= 1u << b.small;
    q->init.gpr[b.small] = q->bits == 64 && chance(r, 30) ? (u64)(s64)-(s64)rng_below(r, 64) : rng_below(r, 256);
    q->init.gpr[RSP] = STACK_BASE - stack_base(q) + 0x1000 - (chance(r, 80) ? 8 * rng_below(r, 8) : rng_below(r, 64));
    if (q->bits != 64)
        for (unsigned i = 8; i < 16; i++)
            q->init.gpr[i] = 0;
    q->init.rip = q->code - code_base(q);
    q->init.rflags = RFLAGS_FIXED | RFLAGS_IF | (rng_next(r) & RFLAGS_ARITH) | (chance(r, 30) ? RFLAGS_DF : 0);
    if (chance(r, 2))
        q->init.rflags |= RFLAGS_TF; /* ends behind its first instruction */
    if (chance(r, 2))
        q->init.rflags |= RFLAGS_AC; /* misaligned operands fault */
    gen_fpu(r, q->init.xsave, g->isa[ISA_AVX], g->isa[ISA_AVX512F]);

    while (q->n < want && q->n < STRAIGHT_MAX - 6) {
        unsigned n = q->n;
        if (chance(r, 6))
            control(&b);
        else if (chance(r, q->segmented ? 4 : 1) && host_has_ldt)
            gen_segments(&b);
        else if (chance(r, 1) && q->n < STRAIGHT_MAX - 24)
            chance(r, 50) ? gen_state(&b) : gen_xsave(&b);
        else if (chance(r, 1))
            self_modifying(&b);
        else
            gen_general(&b);
        /* Jumps were counted where they stand; everything appended may be jumped over. */
        unsigned made = q->n - n;
        if (!(made && q->insn[q->n - 1].fix >= FIX_SKIP))
            b.skipping = b.skipping > made ? b.skipping - made : 0;
    }
}
