/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.c - writes an instruction that is kept as it is. Only its registers get other names, and its memory operand gets
 * another address.
 */
#include "engine/soft/translate/internal.h"

struct rename {
    u8 host[3]; /* reg, rm, vvvv */
    struct {
        u8 guest, host;
        bool write;
    } mem[2]; /* registers that live in memory */
    unsigned nmem;
};

static bool is_high(const struct decoded *d, unsigned n, unsigned size)
{
    return size == 1 && d->encoding == ENC_LEGACY && !d->rex && n >= 4 && n < 8;
}

/* Names one operand. False: no scratch register is left. */
static bool rename_one(const struct tr *t, struct rename *r, unsigned slot, unsigned guest, const struct opdesc_gpr *o, const u8 *scratch,
                       unsigned nscratch)
{
    if (host_of[guest] != IN_MEMORY) {
        r->host[slot] = host_of[guest];
        return true;
    }
    for (unsigned k = 0; k < r->nmem; k++)
        if (r->mem[k].guest == guest) {
            r->mem[k].write |= o->write;
            r->host[slot] = r->mem[k].host;
            return true;
        }
    if (r->nmem == nscratch)
        return false;
    r->mem[r->nmem].guest = (u8)guest;
    r->mem[r->nmem].host = scratch[r->nmem];
    r->mem[r->nmem].write = o->write;
    r->host[slot] = scratch[r->nmem++];
    return true;
}

/* True if the kept instruction needs the prefix 66. In 16-bit code, an instruction with that prefix has 32-bit operands. */
static bool short_operand(const struct decoded *d)
{
    if (d->bits != 16 || (d->desc->cls != OPC_INT && d->desc->cls != OPC_CONTROL))
        return d->opsize66 && d->desc->cls != OPC_X87;
    if (d->map == 1 && d->opcode == 0xae) /* fences: MFENCE with it is TPAUSE */
        return false;
    return d->osize == 2 && !d->desc->osize;
}

static bool keeps_prefix(const struct decoded *d)
{
    switch (d->desc->cls) {
    case OPC_SSE:
    case OPC_AVX:
        return true;
    }
    switch (d->desc->mnemonic) {
    case M_TZCNT:
    case M_LZCNT:
    case M_POPCNT:
    case M_CRC32:
    case M_ADOX:
    case M_ADCX:
        return true;
    }
    return false;
}

/* Plans how registers are renamed, before anything is emitted. False: it cannot be done. */
static bool plan(const struct tr *t, const struct decoded *d, struct rename *r, const u8 *scratch, unsigned nscratch)
{
    const struct opdesc *o = d->desc;
    const bool mem = d->has_mem;
    r->nmem = 0;
    r->host[0] = d->reg, r->host[1] = d->rm, r->host[2] = d->vvvv;
    bool high = false, needs_rex = mem;
    if (o->reg.size) {
        if (is_high(d, d->reg, o->reg.size))
            high = true;
        else if (!rename_one(t, r, 0, d->reg, &o->reg, scratch, nscratch))
            return false;
        else
            needs_rex |= r->host[0] >= 8;
    }
    if (!mem && d->has_modrm && o->rm.size) {
        if (is_high(d, d->rm, o->rm.size))
            high = true;
        else if (!rename_one(t, r, 1, d->rm, &o->rm, scratch, nscratch))
            return false;
        else
            needs_rex |= r->host[1] >= 8;
    }
    if (o->vvvv.size && !rename_one(t, r, 2, d->vvvv, &o->vvvv, scratch, nscratch))
        return false;
    return !(high && needs_rex);
}

static void emit_kept(struct tr *t, const struct decoded *d, const struct rename *r, const struct operand *m)
{
    struct emit *e = &t->e;
    const struct opdesc *o = d->desc;
    const bool mem = m != NULL;
    const unsigned reg = r->host[0], rm = r->host[1];
    for (unsigned k = 0; k < r->nmem; k++) {
        e_gs(e, 0x8b, r->mem[k].host, GPR(r->mem[k].guest), 8);
        if (r->mem[k].host == T1)
            t->t1_slot = -1;
    }
    const unsigned x = mem ? (m->index != NONE ? m->index >> 3 : 0) : d->encoding == ENC_EVEX ? rm >> 4 : 0;
    const unsigned b = mem ? m->base >> 3 : d->has_modrm ? rm >> 3 & 1 : reg >> 3;
    const unsigned rr = d->has_modrm ? reg >> 3 & 1 : 0; /* a MOV of the accumulator has no ModRM */
    if (d->encoding == ENC_EVEX) {
        /* This takes the numbers that were decoded and not the bytes. R' and vvvv's highest bit name registers here, but
           mean nothing in the guest's 32-bit code (SDM vol. 2, 2.7). */
        e1(e, 0x62);
        e1(e, (~rr & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | (~reg >> 4 & 1) << 4 | d->map);
        e1(e, (d->w & 1) << 7 | (~r->host[2] & 15) << 3 | 4 | d->pp);
        e1(e, (d->bytes[d->opcode_off - 1] & 0xf7u) | (~r->host[2] >> 4 & 1) << 3);
        e1(e, d->opcode);
    } else if (d->encoding == ENC_VEX) {
        e1(e, 0xc4);
        e1(e, (~rr & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | d->map);
        e1(e, (d->w & 1) << 7 | (~r->host[2] & 15) << 3 | (d->vl & 1) << 2 | d->pp);
        e1(e, d->opcode);
    } else {
        if (d->lock)
            e1(e, 0xf0);
        if (short_operand(d))
            e1(e, 0x66);
        if (d->rep && keeps_prefix(d))
            e1(e, d->rep);
        unsigned rex = (d->rex & 8) | rr << 2 | x << 1 | b;
        /* SPL, BPL, SIL and DIL, and the registers that replace them, can be named only with a REX prefix. */
        if (rex || (d->rex && (o->reg.size == 1 || o->rm.size == 1)))
            e1(e, 0x40 | rex);
        if (d->map >= 1)
            e1(e, 0x0f);
        if (d->map == 2)
            e1(e, 0x38);
        if (d->map == 3)
            e1(e, 0x3a);
        if (!d->has_modrm && (d->opcode & 0xf0) == 0x40 && !d->map) /* INC and DEC, which are REX prefixes here */
            e1(e, 0xff), e1(e, 0xc0 | (d->opcode & 8) | (reg & 7));
        else if (mem && !d->has_modrm) /* MOV of the accumulator and an address */
            e1(e, 0x88 | (d->opcode & 1) | (~d->opcode & 2));
        else
            e1(e, !d->has_modrm                      ? (d->opcode & ~7u) | (reg & 7)
                  : d->map == 0 && d->opcode == 0x82 ? 0x80 /* 64-bit mode does not have this other opcode of 80 */
                                                     : d->opcode);
    }
    if (mem && !d->has_modrm) {
        e_mem(e, RAX, m->base, m->index, m->scale, m->disp);
    } else if (d->has_modrm) {
        /* ModRM.reg is a register's number if it names one, else a part of the opcode. */
        unsigned field = o->reg.size || d->encoding != ENC_LEGACY || o->cls == OPC_SSE || o->cls == OPC_MMX
                             ? reg
                             : d->modrm >> 3 & 7;
        if (mem && d->encoding == ENC_EVEX)
            e_mem_wide(e, field, m->base, m->index, m->scale, m->disp);
        else if (mem)
            e_mem(e, field, m->base, m->index, m->scale, m->disp);
        else
            e1(e, 0xc0 | (field & 7) << 3 | (rm & 7));
    }
    /* VBLENDVPS, VBLENDVPD and VPBLENDVB name a fourth register in the immediate. Outside 64-bit mode it is one of eight. */
    const bool is4 = d->encoding == ENC_VEX && d->map == 3 && d->opcode >= 0x4a && d->opcode <= 0x4c;
    if (d->imm_off)
        for (unsigned k = d->imm_off; k < d->len; k++)
            e1(e, is4 && d->bits != 64 ? d->bytes[k] & 0x7f : d->bytes[k]);
    for (unsigned k = 0; k < r->nmem; k++)
        if (r->mem[k].write)
            e_gs(e, 0x89, r->mem[k].host, GPR(r->mem[k].guest), 8);
}

static bool keep_needs_modrm(const struct decoded *d)
{
    /* Forms without ModRM whose operands are implied have nothing to rename. */
    return d->has_modrm || d->desc->reg.size;
}

bool translate_kept(struct tr *t, const struct rinsn *i)
{
    static const u8 both[2] = { T1, T0 }, one[1] = { T0 };
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    struct rename r;
    struct address a;
    struct operand o;
    bool restore;
    if (!d->has_mem) {
        if (!plan(t, d, &r, both, 2))
            return false;
        if (!keep_needs_modrm(d)) {
            /* CBW to CMC, and A8, A9 and 04 to 3D with the accumulator, are written as they are */
            const bool narrow = d->bits == 16;
            if (narrow && short_operand(d))
                e1(e, 0x66);
            if (narrow && d->map)
                e1(e, 0x0f);
            for (unsigned n = narrow ? d->opcode_off : 0; n < d->len; n++)
                e1(e, d->bytes[n]);
            return true;
        }
        emit_kept(t, d, &r, NULL);
        return true;
    }
    const unsigned size = memory_size(d);
    if (!size || !address_of(t->r, i, &a) || !plan(t, d, &r, one, 1))
        return false;
    struct slow *s = begin_access(t, &a, size, d->desc->flags & OPF_MEM_WRITE, &o, &restore);
    if (r.nmem)
        settle_operand(t, &o);
    if (restore)
        emit_restore_flags(e);
    if (r.nmem) { /* which scratch register is free depends on the operand's form */
        r.mem[0].host = o.free;
        if (d->desc->reg.size && host_of[d->reg & 15] == IN_MEMORY && !is_high(d, d->reg, d->desc->reg.size))
            r.host[0] = o.free;
        if (d->desc->vvvv.size && host_of[d->vvvv & 15] == IN_MEMORY)
            r.host[2] = o.free;
        if (o.free == T1)
            t->t1_slot = -1;
    }
    emit_kept(t, d, &r, &o);
    end_access(t, s);
    return true;
}
