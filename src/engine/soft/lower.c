/* SPDX-License-Identifier: Apache-2.0 */
/* lower.c - from a decoded instruction to the handler that executes it. */
#include "engine/soft/blocks.h"

void op_ud(struct soft_vcpu *v, const struct insn *i)
{
    soft_raise(v, i, VEC_UD);
}

void op_end(struct soft_vcpu *v, const struct insn *i)
{
    v->rip = RIP_START(v, i);
    CHAIN(v);
}

static u8 reg_off(const struct decoded *d, unsigned reg, unsigned size)
{
    if (size == 1 && d->encoding == ENC_LEGACY && !d->rex && reg >= 4 && reg < 8)
        return REG_OFF(reg - 4) + 1; /* AH CH DH BH */
    return REG_OFF(reg & 15);
}

static bool has_isa(const struct soft_vcpu *v, const struct opdesc *o)
{
    return v->isa[o->feature / 64] >> (o->feature % 64) & 1;
}

/* TZCNT and LZCNT are encoded as BSF and BSR behind a prefix, which processors without BMI1 or ABM ignore (SDM vol. 2
   TZCNT). Kernels rely on that. Decodes the instruction again without the prefix. False: it is another instruction. */
static bool decode_unprefixed(const struct soft_vcpu *v, const struct decoded *d, struct decoded *e)
{
    u8 bytes[15];
    unsigned n = 0;
    if (d->desc->mnemonic != M_TZCNT && d->desc->mnemonic != M_LZCNT)
        return false;
    for (unsigned k = 0; k < d->len; k++)
        if (k >= d->opcode_off || d->bytes[k] != 0xf3)
            bytes[n++] = d->bytes[k];
    if (decode(e, bytes, n, d->bits, v->protected_mode) != DECODE_OK)
        return false;
    e->len = d->len; /* RIP moves by this length, and RIP-relative operands count from its end */
    return true;
}

void soft_lower(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    struct decoded other;
    if (unlikely(!has_isa(v, d->desc)) && decode_unprefixed(v, d, &other))
        d = &other;
    const struct opdesc *o = d->desc;
    i->len = d->len;
    i->size = d->osize;
    i->rep = d->rep;
    i->lock = d->lock;
    i->imm = d->imm;
    i->disp = d->disp;
    i->reg = reg_off(d, d->reg, o->reg.size);
    i->rm = reg_off(d, d->rm, o->rm.size);
    i->base = d->base == 0xff ? REG_OFF(REG_ZERO) : REG_OFF(d->base);
    i->index = d->index == 0xff || (o->flags & OPF_VSIB) ? REG_OFF(REG_ZERO) : REG_OFF(d->index);
    if (d->rip_relative)
        i->base = REG_OFF(REG_BLOCK); /* blocks.c makes disp relative to the block's start */
    i->scale = d->scale;
    i->ashift = (u8)(64 - 8 * d->asize);
    i->seg = (u8)soft_seg(v, d->seg);
    if (!has_isa(v, o) ||
        !(lower_int(v, d, i) || lower_string(v, d, i) || lower_transfer(v, d, i) || lower_system(v, d, i) ||
          lower_fpu_state(v, d, i) || lower_native(v, d, i)))
        i->fn = op_ud;
}
