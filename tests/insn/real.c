/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real.c - random programs for real mode and virtual-8086 mode: gen.c's instructions in loops and functions, with what
 * 16-bit programs do besides: loads of segment registers, overrides, far calls, INT, strings, stacks and jumps of both
 * operand sizes, accesses at the end of a segment, code that runs under two names.
 *
 * As in flow.c, most programs are calm. What keeps a program going is said in real.h.
 */
#include "real.h"

#include <string.h>

/* An immediate somewhere near is overwritten, through CS. */
static void patch(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 at = real_new_label(f);
    const unsigned reg = real_scratch(f);
    const bool before = chance(r, 50);
    if (f->moved || f->b.fixed & 1)
        return;
    for (unsigned pass = 0; pass < 2; pass++) {
        if ((pass == 0) == before) {
            if (chance(r, 50))
                gen_fix(PUT(f, 0x2e, 0x88, 0x06, 0, 0), FIX_ADDRESS16, 3, at, 1); /* mov [cs:at + 1], al */
            else
                gen_fix(PUT(f, 0x2e, 0xff, 0x06, 0, 0), FIX_ADDRESS16, 3, at, 1); /* inc word [cs:at + 1] */
        } else {
            real_place_label(f, at);
            PUT(f, (u8)(0xb8 | reg), (u8)rng_next(r), (u8)rng_next(r));
        }
        if (pass == 0 && chance(r, 50))
            real_straight(f, 1 + rng_below(r, 3));
    }
    f->b.q->patches_itself = true;
}

static void item(struct prog *f)
{
    struct rng *r = f->b.r;
    switch (rng_below(r, 40)) {
    case 0:
    case 1:
    case 2: real_if_else(f); break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        if (f->depth < 3)
            real_loop(f);
        break;
    case 8:
    case 9:
    case 10: real_call(f); break;
    case 11:
    case 12:
    case 13:
    case 14: real_access_near(f), real_access_near(f); break;
    case 15: real_walk(f); break;
    case 16:
    case 17:
    case 18: real_stack_run(f); break;
    case 19:
    case 20:
    case 21: real_flags_used(f); break;
    case 22: real_select_one(f); break;
    case 23: real_far_jump(f); break;
    case 24:
        if (chance(r, 30))
            patch(f);
        break;
    case 25:
    case 26: real_poke(f); break;
    case 27:
    case 28:
    case 29:
    case 30: real_load_segment(f); break;
    case 31: real_store_segment(f); break;
    case 32:
        if (chance(r, 40) && f->env->seg[SS].base == (u64)f->env->seg[SS].selector << 4)
            real_stack_segment(f);
        break;
    case 33:
    case 34: real_string(f); break;
    case 35:
        if (real_may_change_if(f)) {
            real_settle(f);
            PUT(f, 0xcd, (u8)(REAL_FIRST_INT + rng_below(r, REAL_INTS)));
        }
        break;
    case 36:
        if (!f->env->v86 && real_free_registers(f) > 2 && !(f->b.fixed & 1)) { /* mov eax, cr0; mov cr0, eax */
            PUT(f, 0x0f, 0x20, 0xc0);
            PUT(f, 0x0f, 0x22, 0xc0);
        }
        break;
    default: real_straight(f, 1 + rng_below(r, 5)); break;
    }
}

void real_body(struct prog *f, unsigned items)
{
    while (items-- && f->budget && !real_full(f)) {
        f->budget--;
        item(f);
        if (chance(f->b.r, 50))
            real_straight(f, 1 + rng_below(f->b.r, 3));
    }
}

/* Modes, registers, segments to begin with. */
static void environment(struct prog *f)
{
    struct rng *r = f->b.r;
    struct real_env *e = f->env;
    struct sequence *q = f->b.q;
    const bool wild = !f->b.calm;
    memset(e, 0, sizeof(*e));
    e->v86 = chance(r, 45);
    e->iopl = e->v86 && chance(r, 25) ? 0 : 3;
    e->cuts = !wild;
    e->cr4 = chance(r, 80) ? CR4_OSFXSR | CR4_OSXMMEXCPT : 0;
    e->cr0 = CR0_ET | CR0_NE | (chance(r, 50) ? CR0_MP : 0) | (chance(r, 15) ? CR0_EM : 0) | (chance(r, 10) ? CR0_TS : 0) |
        (e->v86 ? CR0_PE | CR0_PG | CR0_WP | (chance(r, 30) ? CR0_AM : 0) : 0);
    const u16 cs = (u16)((REAL_CODE >> 4) - rng_below(r, 64) - 8);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const u16 sel = i == CS ? cs : i == SS ? REAL_STACK >> 4 : (u16)((REAL_DATA >> 4) + rng_below(r, 0x40));
        e->seg[i] = (struct cpu_seg){.selector = sel, .base = (u64)sel << 4, .limit = 0xffff, .attr = e->v86 ? 0xf3 : i == CS ? 0x9b : 0x93};
        if (!e->v86 && i == SS && chance(r, 15)) /* as a mode of 32 bits left it */
            e->seg[i].attr |= SEG_DB;
        if (e->v86 || i == CS || i == SS)
            continue;
        if (wild && chance(r, 40)) /* until a handler restores the selector */
            e->seg[i].base += 1 + rng_below(r, 15);
        if (chance(r, 20))
            e->seg[i].limit = chance(r, 60) ? 0xffffffff : 0x5000 + rng_below(r, 0x100);
    }
    q->init.rip = (u16)((REAL_CODE + 0x800 + (chance(r, 50) ? 0x800 - rng_below(r, 512) : rng_below(r, 0x800))) - ((u64)cs << 4));
    q->code = ((u64)cs << 4) + q->init.rip;
    q->init.gpr[RSP] = wild && chance(r, 30) ? (chance(r, 50) ? rng_below(r, 64) : 0x1000 + rng_below(r, 64)) :
                                                           0x1000 + 2 * rng_below(r, 64);
    if (!(e->seg[SS].attr & SEG_DB) && chance(r, 20))
        q->init.gpr[RSP] |= (u64)rng_below(r, 0x10000) << 16; /* which 16-bit stacks ignore */
}

void gen_real(const struct gen *g, struct rng *r, struct sequence *q)
{
    static const unsigned all[B_COUNT] = {84, 5, 2, 2, 5, 0, 0, 0}, no_vectors[B_COUNT] = {95, 5, 0, 0, 0, 0, 0, 0};
    struct prog f = {.b = {.g = g, .r = r, .q = q, .flow = true}, .env = &q->env, .counter = -1, .around = 5};
    q->n = 0;
    q->bits = 16;
    q->segmented = q->flow = q->real = true;
    q->patches_itself = false;
    q->data_seed = rng_next(r);
    f.b.calm = chance(r, 75);
    f.bomb = !f.b.calm || chance(r, 40);
    for (unsigned i = 0; i < 16; i++)
        q->init.gpr[i] = i < 8 ? (u32)gen_number(r) : 0;
    environment(&f);
    f.b.weights = !(q->env.cr0 & (CR0_EM | CR0_TS)) && q->env.cr4 ? all : chance(r, 90) ? no_vectors : all;
    q->init.rflags = RFLAGS_FIXED | (rng_next(r) & RFLAGS_ARITH) | (chance(r, 80) ? RFLAGS_IF : 0) | (chance(r, 20) ? RFLAGS_DF : 0) |
        (q->env.v86 ? RFLAGS_VM | (q->env.iopl == 3 ? RFLAGS_IOPL : 0) : 0);
    gen_fpu(r, q->init.xsave, false, false);
    memcpy(q->init.xsave, &(u16){0x37f}, 2); /* nothing is unmasked, nothing pending */
    memset(q->init.xsave + 2, 0, 2);
    memcpy(q->init.xsave + 24, &(u32){0x1f80}, 4);
    for (unsigned i = 0; i < 3; i++)
        f.b.pointer[i] = RBX;
    f.b.small = chance(r, 50) ? RBP : RSI;
    f.b.fixed = 1u << RBX | 1u << f.b.small;
    q->init.gpr[RBX] = 0x200 + rng_below(r, DATA_RO - 0x1000);
    q->init.gpr[f.b.small] = rng_below(r, 200);

    f.functions = rng_below(r, FUNCTIONS + 1);
    for (unsigned i = 0; i < f.functions; i++) {
        f.function[i].label = real_new_label(&f);
        f.function[i].kind = (u8)(real_may_change_if(&f) ? rng_below(r, 3) : rng_below(r, 2));
        f.function[i].wide = chance(r, 25) && (f.function[i].kind == NEAR || !q->env.cuts);
        f.function[i].drops = f.function[i].kind != BY_IRET && chance(r, 25) ? (u8)(2 * rng_below(r, 5)) : 0;
    }
    /* All of it a few times, so that it becomes hot. */
    const u16 begin = real_new_label(&f), again = real_new_label(&f);
    const u32 rounds = SLOTS + 8 * 31;
    real_store(&f, rounds, 3 + rng_below(r, 6))->keep = true;
    real_place_label(&f, begin);
    f.counter = (s32)rounds;
    f.counts_from = 3;
    f.budget = 8 + rng_below(r, 12);
    real_body(&f, f.budget);
    if (f.bomb && chance(r, 60))
        real_fault(&f);
    real_place_label(&f, again);
    PUT(&f, 0x36, 0xff, 0x0e, (u8)rounds, (u8)(rounds >> 8))->keep = true;
    real_jump(&f, 5, begin);
    f.b.q->insn[f.b.q->n - 1].keep = true;
    PUT(&f, 0xe6, REAL_EXIT)->keep = true;
    for (unsigned i = 0; i < f.functions; i++)
        real_function(&f, i);
    real_lengthen(&f);
    real_shorten(&f);
}
