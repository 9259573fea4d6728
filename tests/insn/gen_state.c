/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_state.c - x87, SSE and extended state stored to memory and loaded again, with a few instructions in between.
 */
#include "gen.h"

#include <string.h>

/*
 * Stored, a few instructions, and loaded again. The instruction and data pointers are zeroed in memory: AMD stores them
 * only behind an unmasked exception.
 */
void gen_state(struct build *b)
{
    struct rng *r = b->r;
    static const u8 fxsave[] = {0x48, 0x0f, 0xae}, fnsave[] = {0xdd}, fnstenv[] = {0xd9}, mov32[] = {0xc7}, mov16[] = {0x66, 0xc7};
    bool long_mode = b->q->bits == 64;
    u32 at = (u32)(DATA_BASE - data_base(b->q) + 0x400 * rng_below(r, 14) + (chance(r, 95) ? 0 : 8));
    unsigned kind = rng_below(r, 3), rex = long_mode && chance(r, 50) ? 0 : 1;
    if (b->q->bits == 16)
        return;
    b->q->init.rflags &= ~(u64)RFLAGS_TF; /* which would end before the pointers are zeroed */
    if (kind == 0) {
        gen_at_address(b, fxsave + rex, 3 - rex, 0, at, 0);
        gen_at_address(b, mov16, 2, 0, at + 6, 2);
        for (u32 k = 8; k < 24; k += 4)
            gen_at_address(b, mov32, 1, 0, at + k, 4);
    } else {
        gen_at_address(b, kind == 1 ? fnsave : fnstenv, 1, 6, at, 0);
        for (u32 k = 12; k < 28; k += 4)
            gen_at_address(b, mov32, 1, 0, at + k, 4);
    }
    for (unsigned n = rng_below(r, 4); n-- && b->q->n < STRAIGHT_MAX - 10;)
        gen_general(b);
    if (chance(r, 70)) {
        if (kind == 0)
            gen_at_address(b, fxsave + rex, 3 - rex, 1, at, 0);
        else
            gen_at_address(b, kind == 1 ? fnsave : fnstenv, 1, 4, at, 0);
    }
}

/*
 * The XSAVE family, with any choice of components. Which of them are in their initial state is in part the processor's
 * to say (SDM vol. 1, 13.6), so that of what XSAVEOPT and XSAVEC leave out nothing may be seen: the area is zero before,
 * and XSTATE_BV and the only initial value that is not zero are written over.
 */
void gen_xsave(struct build *b)
{
    struct rng *r = b->r;
    static const struct { u8 op, reg; enum isa isa; } saves[] = {{0xae, 4, ISA_XSAVE}, {0xae, 6, ISA_XSAVEOPT}, {0xc7, 4, ISA_XSAVEC}};
    static const u8 mov32[] = {0xc7}, mov16[] = {0x66, 0xc7}, clear[] = {0xfc, 0x31, 0xc0, 0xf3, 0xab}; /* CLD; XOR EAX; REP STOSD */
    const unsigned kind = rng_below(r, ARRAY_SIZE(saves));
    const bool wide = b->q->bits == 64 && chance(r, 50);
    /* host_restricted: its XCR0 has more than the guest's. */
    if (b->q->bits == 16 || host_restricted || !b->g->isa[saves[kind].isa] || b->fixed & (1u << RAX | 1u << RDX))
        return;
    u32 at = (u32)(DATA_BASE - data_base(b->q) + 64 * rng_below(r, (DATA_RO - XSAVE_MAX) / 64) + (chance(r, 95) ? 0 : 8));
    b->q->init.rflags &= ~(u64)RFLAGS_TF;
    gen_set_register(b, RDI, at);
    gen_set_register(b, RCX, XSAVE_MAX / 4);
    gen_append(b, clear, sizeof(clear));
    b->undefined = b->skipping ? b->undefined | RFLAGS_AF : RFLAGS_AF;
    for (unsigned load = 0; load < 2; load++) {
        const u8 op[] = {0x48, 0x0f, load ? 0xae : saves[kind].op};
        gen_set_register(b, RDX, 0);
        gen_set_register(b, RAX, chance(r, 30) ? 0xff : (u32)rng_next(r) & 0xff);
        gen_at_address(b, op + !wide, 3 - !wide, load ? 5 : saves[kind].reg, at, 0);
        if (load)
            break;
        const struct { u16 at; u16 value; } over[] = {{0, 0x37f}, {6, 0}, {8, 0}, {12, 0}, {16, 0}, {20, 0},
                                                      {512, chance(r, 60) ? 0xe7 : rng_next(r) & 0xff}};
        for (unsigned k = 0; k < ARRAY_SIZE(over); k++) {
            const bool half = over[k].at < 8;
            gen_at_address(b, half ? mov16 : mov32, half ? 2 : 1, 0, at + over[k].at, half ? 2 : 4);
            struct gen_insn *i = &b->q->insn[b->q->n - 1];
            memcpy(i->bytes + i->len - (half ? 2 : 4), &over[k].value, 2);
        }
        for (unsigned n = rng_below(r, 4); n-- && b->q->n < STRAIGHT_MAX - 10;)
            gen_general(b);
    }
}
