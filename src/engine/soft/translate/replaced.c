/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replaced.c - unprivileged instructions that are replaced, because they would do to the host's registers something else
 * than they do to the guest's: strings, LEA, segment registers. It also writes what the x87 notes about its last
 * instruction.
 */
#include "engine/soft/translate/internal.h"

static void emit_sized(struct emit *e, unsigned op, unsigned reg, const struct operand *o, unsigned size)
{
    if (size == 2)
        e1(e, 0x66);
    e_rm(e, size == 1 ? op - 1 : op, reg, o->base, o->index, o->scale, o->disp, size == 8 ? 8 : 4);
}

static void emit_step(struct tr *t, unsigned g, unsigned size)
{
    const unsigned host = host_of[g] == IN_MEMORY ? T0 : host_of[g];
    load_guest(t, host, g);
    e_rm(&t->e, 0x8d, host, host, NONE, 0, (s32)size, t->w);
    store_guest(t, g, host);
}

/* Writes one element of a string instruction that goes upward; with DF set the handler does it. Registers change behind the
   last probe. */
void translate_string(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const unsigned op = i->d.opcode & ~1u, size = i->d.opcode & 1 ? i->d.osize : 1;
    const bool source = op != 0xaa && op != 0xae, destination = op != 0xac, both = source && destination;
    const bool flags = live(t, t->pos);
    struct address a = { .base = source ? RSI : RDI, .index = 0xff, .seg = source ? i->d.seg : ES, .asize = t->w };
    struct operand o;
    bool restore;
    if (flags && !leaves_flags(i)) { /* this cannot happen, because comparisons set all flags */
        emit_fallback(t);
        return;
    }
    struct slow *s = begin_access(t, &a, size, op == 0xaa, &o, &restore), *s2 = NULL;
    /* test byte gs:[], DF */
    e1(e, 0x65), e1(e, 0xf6), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(rflags) + 1), e1(e, RFLAGS_DF >> 8);
    struct slow *down = new_slow(t, CC_NE, flags);
    down->flags_away = flags;
    unsigned reg = RAX;
    if (both) {
        emit_sized(e, 0x8b, T0, &o, size);
        e_gs(e, 0x89, T0, OFF(tr.tmp2), 8);
        a.base = RDI;
        a.seg = ES;
        s2 = begin_access(t, &a, size, op == 0xa4, &o, &restore);
        e_gs(e, 0x8b, reg = o.free, OFF(tr.tmp2), 8);
    }
    emit_sized(e, op == 0xac ? 0x8b : op == 0xa4 || op == 0xaa ? 0x89 : 0x3b, reg, &o, size);
    if (source)
        emit_step(t, RSI, size);
    if (destination)
        emit_step(t, RDI, size);
    end_access(t, s);
    end_access(t, s2);
    end_access(t, down);
}

static u32 selector_of(unsigned seg)
{
    return OFF(s.seg) + seg * (u32)sizeof(struct cpu_seg) + (u32)offsetof(struct cpu_seg, selector);
}

/* movzx dst, word gs:[selector] */
static void emit_selector(struct emit *e, unsigned dst, unsigned seg)
{
    e1(e, 0x65);
    if (dst >= 8)
        e1(e, 0x44);
    e1(e, 0x0f), e1(e, 0xb7), e1(e, (dst & 7) << 3 | 4), e1(e, 0x25), e4(e, selector_of(seg));
}

/* Writes code that notes FIP, FDP, FOP, FCS and FDS of the x87 instruction before it. */
void emit_note_x87(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const u64 rip = region_rip(t->r, i->off);
    struct address a;
    emit_rip(t, T0, rip);
    e_gs(e, 0x89, T0, OFF(x87.fip), 8);
    e1(e, 0x65), e1(e, 0x66), e1(e, 0xc7), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(x87.fop)); /* mov word gs:[], imm */
    e1(e, d->modrm), e1(e, d->opcode & 7);
    emit_selector(e, T0, CS);
    e1(e, 0x65), e1(e, 0x66), e1(e, 0x44), e1(e, 0x89), e1(e, 0x14), e1(e, 0x25), e4(e, OFF(x87.fcs));
    if (!d->has_mem || !address_of(t->r, i, &a))
        return;
    emit_ea(t, &a);
    e_gs(e, 0x89, T0, OFF(x87.fdp), 8);
    emit_selector(e, T0, d->seg % SEG_COUNT);
    e1(e, 0x65), e1(e, 0x66), e1(e, 0x44), e1(e, 0x89), e1(e, 0x14), e1(e, 0x25), e4(e, OFF(x87.fds));
}

void translate_lea(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    struct address a;
    if (!address_of(t->r, i, &a)) {
        emit_fallback(t);
        return;
    }
    unsigned dst = host_of[d->reg] == IN_MEMORY ? T0 : host_of[d->reg];
    if (d->bits == 16) { /* no register of 16-bit code is in memory */
        emit_ea(t, &a);
        e_rr(e, 0x8b, dst, T0, d->osize);
        return;
    }
    if (a.constant) {
        emit_place(t, dst, d->osize == 4 && !a.reloc ? (u32)a.value : a.value, a.reloc);
        if (d->osize == 4 && a.reloc)
            e_rr(e, 0x8b, dst, dst, 4);
    } else if (a.asize == 4) {
        emit_ea(t, &a);
        if (dst != T0)
            e_mov(e, dst, T0);
    } else {
        unsigned hb = NONE, hi = NONE;
        if (a.base != 0xff) {
            hb = host_of[a.base];
            if (hb == IN_MEMORY)
                load_guest(t, hb = T0, a.base);
        }
        if (a.index != 0xff) {
            hi = host_of[a.index];
            if (hi == IN_MEMORY)
                load_guest(t, hi = T1, a.index);
        }
        if (hb == NONE) {
            e1(e, 0x40 | (d->osize == 8) << 3 | (dst >> 3) << 2 | (hi >> 3) << 1), e1(e, 0x8d);
            e1(e, 4 | (dst & 7) << 3), e1(e, a.scale << 6 | (hi & 7) << 3 | 5);
            e4(e, (u32)a.disp);
        } else {
            e_rm(e, 0x8d, dst, hb, hi, a.scale, (s32)a.disp, d->osize);
        }
    }
    store_guest(t, d->reg, dst);
}

/* MOV from a segment register, or PUSH of one. */
void translate_seg_store(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const bool mov = d->map == 0 && d->opcode == 0x8c;
    const unsigned seg = mov || d->map == 0 ? (mov ? d->reg & 7 : d->opcode >> 3 & 3) : d->opcode == 0xa0 ? FS : GS;
    struct address a = stack_at(t, -t->w);
    struct operand o;
    bool restore;
    if (mov && !d->has_mem) {
        emit_selector(e, T0, seg);
        e_rr(e, 0x8b, host_of[d->rm], T0, d->osize);
        return;
    }
    if (mov && !address_of(t->r, i, &a)) {
        emit_fallback(t);
        return;
    }
    struct slow *s = begin_access(t, &a, 2, true, &o, &restore);
    emit_selector(e, o.free, seg);
    e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, 2);
    if (restore)
        emit_restore_flags(e);
    if (!mov)
        emit_move_stack(t, -t->w);
    end_access(t, s);
}

/* MOV to a segment register, POP, LES and the like, while protection is off: the selector gives the base, and all else stays
   as it is. Only a segment that protected mode left unusable also gets a limit and rights, which the handler does. */
void translate_seg_load(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const unsigned op = d->map << 8 | d->opcode;
    const bool mov = op == 0x8e, far = op == 0xc4 || op == 0xc5 || op == 0x1b4 || op == 0x1b5, pop = !mov && !far;
    const unsigned seg = mov ? d->reg & 7 : op == 0x07 || op == 0xc4 ? ES : op == 0x1f || op == 0xc5 ? DS
                         : op == 0x1a1 || op == 0x1b4 ? FS : GS;
    struct address a = stack_at(t, 0);
    struct operand o;
    struct slow *s = NULL;
    bool restore = live(t, t->pos);
    if (mov && !d->has_mem) {
        e_rr(e, 0x0fb7, T0, host_of[d->rm], 4);
        if (restore)
            emit_save_flags_by(e, T1);
    } else {
        if (!pop && !address_of(t->r, i, &a)) {
            emit_fallback(t);
            return;
        }
        s = begin_access(t, &a, far ? 4 : 2, false, &o, &restore);
        if (far) {
            e_rm(e, 0x8b, T1, o.base, o.index, o.scale, o.disp, 4);
            e_mov(e, T0, T1);
            e1(e, 0x41), e1(e, 0xc1), e1(e, 0xea), e1(e, 16); /* shr r10d, 16 */
        } else {
            emit_load_zx(t, &o, 2);
        }
    }
    t->t1_slot = -1;
    e1(e, 0x65), e1(e, 0x66), e1(e, 0xf7), e1(e, 0x04), e1(e, 0x25); /* test word gs:[attr], UNUSABLE */
    e4(e, selector_of(seg) - (u32)offsetof(struct cpu_seg, selector) + (u32)offsetof(struct cpu_seg, attr));
    e1(e, SEG_UNUSABLE & 0xff), e1(e, SEG_UNUSABLE >> 8);
    struct slow *unusable = new_slow(t, CC_NE, restore);
    e1(e, 0x66), e_gs(e, 0x89, T0, selector_of(seg), 4);
    e1(e, 0x41), e1(e, 0xc1), e1(e, 0xe2), e1(e, 4); /* shl r10d, 4 */
    e_gs(e, 0x89, T0, OFF(s.seg) + seg * (u32)sizeof(struct cpu_seg) + (u32)offsetof(struct cpu_seg, base), 8);
    e_gs(e, 0x89, T0, OFF(segbase) + 8 * seg, 8);
    if (seg >= FS)
        e_gs(e, 0x89, T0, OFF(segbase) + 8u * (seg == FS ? ISEG_FS : ISEG_GS), 8);
    if (far)
        e_rr(e, 0x8b, host_of[d->reg & 7], T1, 2);
    if (restore)
        emit_restore_flags(e);
    if (pop)
        emit_move_stack(t, t->w);
    end_access(t, s);
    end_access(t, unusable);
}
