/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region_registers.c - which general registers the instructions of a region name and write, and where the region
 * keeps each of them: in its own host register, in another's, or in memory (translate.h has the places between regions).
 */
#include "engine/soft/translate/internal.h"

static unsigned gpr_named(const struct decoded *d, unsigned n, unsigned size)
{
    return size == 1 && d->encoding == ENC_LEGACY && !d->rex && n >= 4 && n < 8 ? n - 4 : n & 15;
}

static u32 written(const struct rinsn *i)
{
    const struct decoded *d = &i->d;
    const struct opdesc *o = d->desc;
    u32 w = o->gpr_write;
    if (o->reg.write)
        w |= BIT(gpr_named(d, d->reg, o->reg.size));
    if (o->rm.write && !d->has_mem)
        w |= BIT(gpr_named(d, d->rm, o->rm.size));
    if (o->vvvv.write)
        w |= BIT(d->vvvv & 15);
    return w & 0xffff;
}

u32 written_or_stack(const struct rinsn *i)
{
    u32 w = written(i);
    switch (i->how) {
    case HOW_PUSH:
    case HOW_PUSH_MEM:
    case HOW_POP:
    case HOW_PUSHF:
    case HOW_POPF:
    case HOW_LEAVE:
    case HOW_CALL:
    case HOW_CALL_IND:
    case HOW_RET:
        w |= BIT(RSP);
        break;
    }
    if (i->how == HOW_LEAVE)
        w |= BIT(RBP);
    if (i->how == HOW_FALLBACK && (i->d.desc->cls == OPC_CONTROL || (i->d.desc->flags & OPF_IMPLICIT_MEM)))
        w |= BIT(RSP) | BIT(RBP);
    if (i->how == HOW_POP)
        w |= BIT(i->d.opcode == 0x8f ? i->d.rm : i->d.reg);
    if (i->how == HOW_LEA)
        w |= BIT(i->d.reg);
    if (i->how == HOW_STRING)
        w |= BIT(RSI) | BIT(RDI);
    if (i->how == HOW_LOOP)
        w |= BIT(RCX);
    return w;
}

/* The general registers that an instruction names. */
static u32 named(const struct rinsn *i)
{
    const struct decoded *d = &i->d;
    const struct opdesc *o = d->desc;
    u32 w = written_or_stack(i) | o->gpr_read;
    if (o->reg.size)
        w |= BIT(gpr_named(d, d->reg, o->reg.size));
    if (o->rm.size && !d->has_mem)
        w |= BIT(gpr_named(d, d->rm, o->rm.size));
    if (o->vvvv.size)
        w |= BIT(d->vvvv & 15);
    if (d->has_mem && d->base < 16)
        w |= BIT(d->base);
    if (d->has_mem && d->index < 16)
        w |= BIT(d->index);
    return w;
}

/* Chooses which guest registers that live in memory between regions take the place of those that matter less in this region.
   A swap must pay for the moves at every way in and out. */
void choose_map(struct tr *t)
{
    static const u8 outside[] = { R9, R10, R11 }, victims[] = { R15, R14, R13, R12, R8, RDI, RSI };
    const struct region *r = t->r;
    u64 weight[16] = { 0 }, ways = 0;
    copy_bytes(t->map, jit_home, 16);
    t->nswaps = 0;
    if (!t->loops)
        return;
    u8 depth[REGION_BLOCKS];
    zero_bytes(depth, sizeof depth);
    for (unsigned b = 0; b < r->nblocks; b++) {
        const struct rblock *k = &r->block[b];
        if (k->taken < 0 || r->block[k->taken].off >= k->end)
            continue;
        for (unsigned c = 0; c < r->nblocks; c++) /* the blocks between a loop's head and its end */
            if (r->block[c].off >= r->block[k->taken].off && r->block[c].off <= k->off && depth[c] < 3)
                depth[c]++;
    }
    for (unsigned b = 0; b < r->nblocks; b++) {
        const struct rblock *k = &r->block[b];
        const u64 times = 1ull << 3 * depth[b];
        for (unsigned n = 0; n < k->n; n++) {
            const struct rinsn *i = &r->insn[r->order[k->first + n]];
            const u32 w = named(i);
            for (unsigned g = 0; g < 16; g++)
                weight[g] += w >> g & 1 ? times : 0;
            if (i->how == HOW_FALLBACK || i->how == HOW_STOP)
                ways += 2 * times;
        }
        const unsigned last = r->insn[r->order[k->first + k->n - 1]].how;
        if (last == HOW_CALL || last == HOW_CALL_IND)
            ways += 2 * times;
    }
    ways += 4;
    for (unsigned n = 0; n < ARRAY_SIZE(outside); n++) {
        unsigned g = 16, best = 16;
        for (unsigned k = 0; k < ARRAY_SIZE(outside); k++)
            if (t->map[outside[k]] == IN_MEMORY && (g == 16 || weight[outside[k]] > weight[g]))
                g = outside[k];
        for (unsigned k = 0; k < ARRAY_SIZE(victims); k++)
            if (t->map[victims[k]] != IN_MEMORY && (best == 16 || weight[victims[k]] < weight[best]))
                best = victims[k];
        if (g == 16 || best == 16 || weight[g] < weight[best] + 2 * ways)
            return;
        t->swap[t->nswaps].guest = (u8)g;
        t->swap[t->nswaps++].victim = (u8)best;
        t->map[g] = jit_home[best];
        t->map[best] = IN_MEMORY;
    }
}

/* emit_give moves registers to where they are between regions, and emit_take moves them back. Both keep the flags, T0 and
   T1. */
void emit_give(struct tr *t)
{
    for (unsigned k = 0; k < t->nswaps; k++) {
        const unsigned host = jit_home[t->swap[k].victim];
        e_gs(&t->e, 0x89, host, GPR(t->swap[k].guest), 8);
        e_gs(&t->e, 0x8b, host, GPR(t->swap[k].victim), 8);
    }
}

void emit_take(struct tr *t)
{
    for (unsigned k = 0; k < t->nswaps; k++) {
        const unsigned host = jit_home[t->swap[k].victim];
        e_gs(&t->e, 0x89, host, GPR(t->swap[k].victim), 8);
        e_gs(&t->e, 0x8b, host, GPR(t->swap[k].guest), 8);
    }
}
