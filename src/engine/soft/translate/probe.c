/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.c - makes host code of a guest's address: code that computes the effective address, and the probe of the software
 * TLB, which leads to the place in the host's memory or to the slow path.
 */
#include "engine/soft/translate/internal.h"

bool address_of(const struct region *r, const struct rinsn *i, struct address *a)
{
    const struct decoded *d = &i->d;
    *a = (struct address){ d->base, d->index, d->scale, d->seg, d->asize, d->disp, false, 0, false };
    const bool absolute = d->base == 0xff && d->index == 0xff && !d->rip_relative;
    if ((!fits32((u64)d->disp) && !absolute) || (d->asize == 2 && d->bits == 32))
        return false;
    if (d->rip_relative) {
        a->constant = true;
        a->value = region_rip(r, i->off) + d->len + (u64)d->disp;
        a->reloc = r->reloc;
        if (d->asize == 4) {
            a->value = (u32)a->value;
            return !r->reloc;
        }
    } else if (absolute) {
        a->constant = true;
        a->value = d->asize == 2 ? (u16)d->disp : d->asize == 4 ? (u32)d->disp : (u64)d->disp;
    }
    return true;
}

/* Loads a register with an address that is known now. reloc: tr.delta is added to it. */
void emit_place(struct tr *t, unsigned reg, u64 x, bool reloc)
{
    struct emit *e = &t->e;
    if (!reloc) {
        e_mov_imm(e, reg, x);
        return;
    }
    e_gs(e, 0x8b, reg, OFF(tr.delta), 8);
    const s64 near = MAX(MIN((s64)x, 0x7fffffffll), -0x80000000ll); /* the rest fits into a displacement as well */
    e_lea(e, reg, reg, NONE, 0, (s32)near);
    if ((s64)x != near)
        e_lea(e, reg, reg, NONE, 0, (s32)((s64)x - near));
}

/* Computes the effective address in T0. T1 may be used up. */
void emit_ea(struct tr *t, const struct address *a)
{
    struct emit *e = &t->e;
    if (a->constant) {
        emit_place(t, T0, a->value, a->reloc);
        return;
    }
    u8 hb = a->base == 0xff ? NONE : host_of[a->base], hi = NONE;
    if (hb == IN_MEMORY) {
        e_gs(e, 0x8b, T0, GPR(a->base), 8);
        hb = T0;
    }
    if (a->index != 0xff) {
        hi = host_of[a->index];
        if (hi == IN_MEMORY) {
            e_gs(e, 0x8b, T1, GPR(a->index), 8);
            t->t1_slot = -1;
            hi = T1;
        }
    }
    if (hb == NONE) { /* [index * scale + disp32] */
        e1(e, 0x4c | (hi >> 3) << 1), e1(e, 0x8d), e1(e, 0x14), e1(e, a->scale << 6 | (hi & 7) << 3 | 5);
        e4(e, (u32)a->disp);
    } else if (hi == NONE && a->disp == 0) {
        if (hb != T0)
            e_mov(e, T0, hb);
    } else {
        e_lea(e, T0, hb, hi, a->scale, (s32)a->disp);
    }
    if (a->asize == 4)
        e_rr(e, 0x8b, T0, T0, 4);
    else if (a->asize == 2)
        e_rr(e, 0x0fb7, T0, T0, 4);
}

/* Makes the operand at T1 + base + index * 2^scale + disp. base and index may be NONE. */
void operand_by(struct tr *t, u8 base, u8 index, u8 scale, s32 disp, struct operand *o)
{
    if (index == NONE) {
        *o = (struct operand){ base, T1, T0, disp, 0 };
        return;
    }
    if (base != NONE) {
        e_lea(&t->e, T1, T1, base, 0, 0);
        t->t1_slot = -1;
    }
    *o = (struct operand){ T1, index, T0, disp, scale };
}

/* Writes a probe: the address, the comparison with the TLB's tag, and the branch to the slow path. *o is where the host has
   the operand. If o is NULL, T1 has what is to be added to the address. The flags are used up, so they must be saved or
   dead. */
struct slow *emit_probe(struct tr *t, const struct address *a, unsigned span, bool write, bool saved,
                        struct operand *o)
{
    struct emit *e = &t->e;
    const u32 tlb = OFF(tlbs) + t->s.ctx * (u32)sizeof t->v->tlbs[0];
    const u32 tag = (u32)(write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read));
    const u32 host = (u32)offsetof(struct tlb_entry, host);
    struct slow *s;
    t->t1_slot = -1;
    t->probes++;
    if (a->constant && a->seg < FS && !t->r->segmented && !a->reloc) {
        u64 lin = a->value, page = lin & ~0xfffull;
        u32 slot = tlb + (u32)((lin >> 12) & (TLB_SIZE - 1)) * (u32)sizeof(struct tlb_entry);
        if ((lin & 0xfff) + span > 4096) {         /* it always takes the slow path */
            e1(e, 0x45), e1(e, 0x39), e1(e, 0xd2); /* cmp r10d, r10d */
            s = new_slow(t, CC_E, saved);
        } else if (fits32(page)) {
            e1(e, 0x65), e1(e, 0x48), e1(e, 0x81), e1(e, 0x3c), e1(e, 0x25); /* cmp gs:[tag], imm32 */
            e4(e, slot + tag), e4(e, (u32)page);
            s = ask_watched(t, new_slow(t, CC_NE, saved), span, write);
        } else {
            e_mov_imm(e, T0, page);
            e_gs(e, 0x39, T0, slot + tag, 8);
            s = ask_watched(t, new_slow(t, CC_NE, saved), span, write);
        }
        s->constant = true;
        s->lin = lin;
        e_gs(e, 0x8b, T1, slot + host, 8);
        if (!o)
            return s;
        if (fits32(lin)) {
            *o = (struct operand){ T1, NONE, T0, (s32)lin };
        } else {
            e_mov_imm(e, T0, lin);
            e1(e, 0x4d), e1(e, 0x01), e1(e, 0xd3); /* add r11, r10 */
            *o = (struct operand){ T1, NONE, T0, 0 };
        }
        return s;
    }
    const u8 hb = a->constant || a->base == 0xff ? NONE : host_of[a->base];
    const u8 hi = a->constant || a->index == 0xff ? NONE : host_of[a->index];
    const bool in_registers = !a->constant && hb != IN_MEMORY && hi != IN_MEMORY && a->seg < FS && a->asize == 8;
    u8 *beyond = NULL, *out = NULL;
    emit_ea(t, a);
    if (t->r->segmented) { /* the segment's limit and base */
        e_lea(e, T1, T0, NONE, 0, (s32)span);
        e_gs(e, 0x3b, T1, OFF(seg_end[write][0]) + 8u * a->seg, 8);
        if (write && t->watched)
            out = e_jcc(e, CC_A);
        else
            e1(e, 0x77), e1(e, 0), beyond = e->p; /* ja */
        e_gs(e, 0x03, T0, OFF(segbase) + 8u * a->seg, 4);
    } else if (a->seg >= FS) {
        e_gs(e, 0x8b, T1, OFF(segbase) + 8u * (a->seg == FS ? ISEG_FS : ISEG_GS), 8);
        e_rm(e, 0x8d, T0, T0, T1, 0, 0, t->w);
    }
    if (t->j->bmi2) {
        e1(e, 0xc4), e1(e, 0x43), e1(e, 0xfb), e1(e, 0xf0), e1(e, 0xda), e1(e, 7); /* rorx r11, r10, 7 */
    } else {
        e_mov(e, T1, T0);
        e1(e, 0x49), e1(e, 0xc1), e1(e, 0xeb), e1(e, 7); /* shr r11, 7 */
    }
    e1(e, 0x41), e1(e, 0x81), e1(e, 0xe3), e4(e, (TLB_SIZE - 1) * (u32)sizeof(struct tlb_entry)); /* and r11d, .. */
    e_gs_r11(e, 0x33, T0, tlb + tag);
    e_cmp_t0(e, 4096 - span);
    if (beyond)
        beyond[-1] = (u8)(e->p - beyond); /* the jump arrives at one with the same condition, which is then taken, too */
    s = ask_watched(t, new_slow(t, CC_A, saved), span, write);
    s->beyond = out;
    if (in_registers || !o) {
        e_gs_r11(e, 0x8b, T1, tlb + host);
        if (o)
            operand_by(t, hb, hi, a->scale, (s32)a->disp, o);
        return s;
    }
    e_gs_r11(e, 0x33, T0, tlb + tag); /* the address again */
    e_gs_r11(e, 0x03, T0, tlb + host);
    *o = (struct operand){ T0, NONE, T1, 0 };
    return s;
}

_Static_assert(sizeof(struct tlb_entry) == 32, "the probe shifts by 7: 12 bits of page offset less 5 of entry");
