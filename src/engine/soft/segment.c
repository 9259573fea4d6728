/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - segment registers and descriptor tables: loads with their checks, the instructions that inspect
 * descriptors, and FS/GS bases.
 *
 * SDM vol. 3 ch. 3.4 (descriptors), 5 (protection); vol. 2 MOV, POP, LDS, LAR, LSL, VERR, ARPL, LLDT,
 * LTR, LGDT, SWAPGS.
 */
#include "engine/soft/system.h"

/* ---- stack -------------------------------------------------------------- */

u64 stack_peek(struct soft_vcpu *v, u64 depth, unsigned size)
{
    u64 sp = (v->gpr[RSP] + depth) & sp_mask(v);
    if (likely(v->bits == 64)) {
        if (unlikely(!canonical(v, sp)))
            soft_raise_err(v, NULL, VEC_SS, 0);
        return soft_load(v, NULL, sp, size);
    }
    return soft_load(v, NULL, soft_legacy_linear(v, NULL, SS, sp, size, ACCESS_READ), size);
}

void stack_poke(struct soft_vcpu *v, u64 depth, unsigned size, u64 x)
{
    u64 sp = (v->gpr[RSP] - depth) & sp_mask(v);
    if (likely(v->bits == 64)) {
        if (unlikely(!canonical(v, sp)))
            soft_raise_err(v, NULL, VEC_SS, 0);
        soft_store(v, NULL, sp, size, x);
        return;
    }
    soft_store(v, NULL, soft_legacy_linear(v, NULL, SS, sp, size, ACCESS_WRITE), size, x);
}

bool seg_contains(const struct cpu_seg *s, u64 off, u64 size)
{
    u64 last = off + size - 1;
    if ((s->attr & (SEG_CODE | SEG_E)) == SEG_E)
        return off > s->limit && last <= (s->attr & SEG_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit && last >= off;
}

/* ---- descriptors -------------------------------------------------------- */

/* Finds the linear address of the selector's descriptor of n bytes. Returns false if the table is unusable or too short. */
static bool desc_address(const struct soft_vcpu *v, u16 sel, unsigned n, u64 *addr)
{
    u64 base;
    u32 limit;
    if (sel & 4) {
        const struct cpu_seg *l = &v->s.ldtr;
        if ((l->attr & SEG_UNUSABLE) || !(l->attr & SEG_P))
            return false;
        base = l->base;
        limit = l->limit;
    } else {
        base = v->s.gdtr.base;
        limit = v->s.gdtr.limit;
    }
    if ((sel & 0xfff8u) + n - 1 > limit)
        return false;
    *addr = base + (sel & 0xfff8u);
    if (!v->long_mode)
        *addr = (u32)*addr;
    return true;
}

bool desc_fetch(struct soft_vcpu *v, u16 sel, struct desc *d)
{
    d->high = 0;
    if (!desc_address(v, sel, 8, &d->addr))
        return false;
    d->raw = sys_load8(v, d->addr);
    return true;
}

bool desc_fetch_system(struct soft_vcpu *v, u16 sel, struct desc *d)
{
    if (!v->long_mode)
        return desc_fetch(v, sel, d);
    if (!desc_address(v, sel, 16, &d->addr))
        return false;
    d->raw = sys_load8(v, d->addr);
    d->high = sys_load8(v, d->addr + 8);
    return true;
}

u64 desc_base_system(const struct soft_vcpu *v, const struct desc *d)
{
    return desc_base(d->raw) | (v->long_mode ? d->high << 32 : 0);
}

void desc_set_accessed(struct soft_vcpu *v, struct desc *d)
{
    if (d->raw & BIT(40))
        return;
    d->raw |= BIT(40);
    soft_sys_store(v, d->addr + 5, 1, d->raw >> 40 & 0xff);
}

void seg_unpack(struct cpu_seg *s, u16 sel, u64 raw)
{
    s->selector = sel;
    s->attr = desc_attr(raw);
    s->limit = desc_limit(raw);
    s->base = desc_base(raw);
}

/* A null segment keeps a DPL, because CPL is read from SS.DPL. */
void seg_null(struct cpu_seg *s, u16 sel, unsigned dpl)
{
    s->selector = sel;
    s->attr = (u16)(SEG_UNUSABLE | dpl << SEG_DPL_SHIFT);
    s->limit = 0;
    s->base = 0;
}

void seg_load_real(struct soft_vcpu *v, unsigned seg, u16 sel)
{
    struct cpu_seg *s = &v->s.seg[seg];
    s->selector = sel;
    s->base = (u64)sel << 4;
    if (s->attr & SEG_UNUSABLE) {
        s->attr = SEG_P | SEG_S | SEG_W | SEG_A;
        s->limit = 0xffff;
    }
    if (v->v86) {
        s->attr = SEG_P | SEG_S | SEG_W | SEG_A | 3 << SEG_DPL_SHIFT;
        s->limit = 0xffff;
    }
}

/* Updates what is derived from the segment after its register changed. */
static void seg_sync(struct soft_vcpu *v, unsigned seg)
{
    if (v->bits == 64) {
        v->segbase[seg] = v->s.seg[seg].base;
        if (seg == FS)
            v->segbase[ISEG_FS] = v->s.seg[FS].base;
        else if (seg == GS)
            v->segbase[ISEG_GS] = v->s.seg[GS].base;
        return;
    }
    soft_update_mode(v);
}

void soft_load_seg(struct soft_vcpu *v, const struct insn *i, unsigned seg, u16 sel)
{
    if (i)
        SYNC(v, i);
    if (!v->protected_mode) {
        seg_load_real(v, seg, sel);
        seg_sync(v, seg);
        return;
    }
    if (sel_null(sel)) {
        if (seg == SS) {
            if (v->bits != 64 || v->cpl == 3 || (sel & 3) != v->cpl)
                raise_gp0(v);
            seg_null(&v->s.seg[SS], sel, v->cpl);
        } else {
            seg_null(&v->s.seg[seg], sel, 0);
        }
        seg_sync(v, seg);
        return;
    }
    struct desc d;
    if (!desc_fetch(v, sel, &d))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    const unsigned dpl = desc_dpl(d.raw), rpl = sel & 3;
    if (seg == SS) {
        if (rpl != v->cpl || dpl != v->cpl || !desc_is_writable_data(d.raw))
            soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
        if (!(d.raw & DESC_P))
            soft_raise_err(v, NULL, VEC_SS, sel_err(sel));
    } else {
        const bool code = desc_is_code(d.raw);
        if (!(d.raw & DESC_S) || (code && !(d.raw & BIT(41))))
            soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
        if (!(code && desc_is_conforming(d.raw)) && (rpl > dpl || v->cpl > dpl))
            soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
        if (!(d.raw & DESC_P))
            soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
    }
    desc_set_accessed(v, &d);
    seg_unpack(&v->s.seg[seg], sel, d.raw);
    seg_sync(v, seg);
}

void seg_revalidate(struct soft_vcpu *v)
{
    static const u8 data[] = {ES, DS, FS, GS};
    for (unsigned k = 0; k < 4; k++) {
        struct cpu_seg *s = &v->s.seg[data[k]];
        if (s->attr & SEG_UNUSABLE) {
            s->selector = 0; /* a null selector loses its RPL */
            continue;
        }
        const bool conforming = (s->attr & (SEG_CODE | SEG_C)) == (SEG_CODE | SEG_C);
        /* Selector and rights are cleared, but the base stays in the register, where RDMSR and SWAPGS still find it. */
        if ((s->attr & SEG_S) && !conforming && seg_dpl(s) < v->cpl) {
            s->selector = 0;
            s->attr = SEG_UNUSABLE;
        }
    }
}

/* ---- MOV, PUSH, POP of segment registers -------------------------------- */

/* After a load of SS no interrupt and no debug trap is taken before the next instruction has completed. */
static void ss_loaded(struct soft_vcpu *v, const struct insn *i)
{
    v->s.movss_shadow = true;
    v->slow |= SLOW_SHADOW;
    END_BLOCK(v, i);
}

static void op_mov_seg_reg(struct soft_vcpu *v, const struct insn *i)
{
    soft_load_seg(v, i, i->aux, R16(v, i->rm));
    if (i->aux == SS)
        return ss_loaded(v, i);
    NEXT(v, i);
}
static void op_mov_seg_mem(struct soft_vcpu *v, const struct insn *i)
{
    u16 sel = (u16)soft_load(v, i, insn_linear(v, i, 2, ACCESS_READ), 2);
    soft_load_seg(v, i, i->aux, sel);
    if (i->aux == SS)
        return ss_loaded(v, i);
    NEXT(v, i);
}
static void op_mov_reg_seg(struct soft_vcpu *v, const struct insn *i)
{
    reg_write(v, i->rm, i->size, v->s.seg[i->aux].selector);
    NEXT(v, i);
}
static void op_mov_mem_seg(struct soft_vcpu *v, const struct insn *i)
{
    soft_store(v, i, insn_linear(v, i, 2, ACCESS_WRITE), 2, v->s.seg[i->aux].selector);
    NEXT(v, i);
}

static void op_push_seg(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    stack_poke(v, i->size, i->size, v->s.seg[i->aux].selector);
    sp_set(v, v->gpr[RSP] - i->size);
    NEXT(v, i);
}
static void op_pop_seg(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    /* The stack pointer moves in the stack's width before the load, because a load of SS may change that width. */
    u64 mask = sp_mask(v), sp = (v->gpr[RSP] + i->size) & mask;
    u16 sel = (u16)stack_peek(v, 0, i->size);
    soft_load_seg(v, i, i->aux, sel);
    if (mask == 0xffff)
        R16(v, REG_OFF(RSP)) = (u16)sp;
    else
        v->gpr[RSP] = sp;
    if (i->aux == SS)
        return ss_loaded(v, i);
    NEXT(v, i);
}

/* LES LDS LSS LFS LGS: offset and selector from memory. */
static void op_load_far(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = i->size;
    SYNC(v, i);
    u64 ea = insn_ea(v, i), top = ~0ull >> i->ashift;
    u64 lin = soft_linear(v, i, i->seg, ea, n == 8 ? 10 : n + 2, ACCESS_READ);
    u64 off = n == 8 ? soft_load(v, i, lin, 8) : n == 4 ? soft_load(v, i, lin, 4) : soft_load(v, i, lin, 2);
    u16 sel = (u16)soft_load(v, i, soft_linear(v, i, i->seg, (ea + n) & top, 2, ACCESS_READ), 2);
    soft_load_seg(v, i, i->aux, sel);
    reg_write(v, i->reg, n, off);
    if (i->aux == SS && v->bits != 64)
        END_BLOCK(v, i); /* LSS has no interrupt shadow, but the stack's width may have changed */
    NEXT(v, i);
}

/* ---- inspection --------------------------------------------------------- */

static u16 rm16(struct soft_vcpu *v, const struct insn *i)
{
    if (i->aux2)
        return (u16)soft_load(v, i, insn_linear(v, i, 2, ACCESS_READ), 2);
    return R16(v, i->rm);
}
static inline void set_zf(struct soft_vcpu *v, bool on)
{
    v->rflags = on ? v->rflags | RFLAGS_ZF : v->rflags & ~(u64)RFLAGS_ZF;
}

/* The system descriptor types that LAR and LSL accept, a bit for each type. */
enum { LAR_LEGACY = 0x1a3e, LSL_LEGACY = 0x0a0e, LAR_LONG = 0x1a04, LSL_LONG = 0x0a04 };

/* Fetches the descriptor and tells whether CPL and the selector's RPL may see it, by the rules of LAR and LSL. */
static bool visible(struct soft_vcpu *v, u16 sel, struct desc *d, u32 system_types)
{
    if (sel_null(sel) || !desc_fetch(v, sel, d))
        return false;
    if (!(d->raw & DESC_S)) {
        if (!(system_types >> desc_type(d->raw) & 1))
            return false;
        if (v->long_mode) {
            if (!desc_fetch_system(v, sel, d) || (d->high >> 40 & 0x1f))
                return false;
        }
    }
    if (desc_is_code(d->raw) && desc_is_conforming(d->raw))
        return true;
    return v->cpl <= desc_dpl(d->raw) && (sel & 3u) <= desc_dpl(d->raw);
}

/* These functions are apart from their handlers, so that no handler has a local variable whose address is taken and NEXT
   stays a jump. */
static __attribute__((noinline)) void lar_lsl(struct soft_vcpu *v, const struct insn *i)
{
    const u16 sel = rm16(v, i);
    const bool lsl = i->aux;
    struct desc d;
    SYNC(v, i);
    const u32 types = lsl ? (v->long_mode ? LSL_LONG : LSL_LEGACY) : (v->long_mode ? LAR_LONG : LAR_LEGACY);
    const bool ok = visible(v, sel, &d, types);
    if (ok)
        reg_write(v, i->reg, i->size, lsl ? desc_limit(d.raw) : d.raw >> 32 & 0x00f0ff00);
    set_zf(v, ok);
}
static __attribute__((noinline)) void verr_verw(struct soft_vcpu *v, const struct insn *i)
{
    const u16 sel = rm16(v, i);
    struct desc d;
    SYNC(v, i);
    bool ok = !sel_null(sel) && desc_fetch(v, sel, &d) && (d.raw & DESC_S);
    if (ok) {
        const bool code = desc_is_code(d.raw);
        if (!(code && desc_is_conforming(d.raw)) && (v->cpl > desc_dpl(d.raw) || (sel & 3u) > desc_dpl(d.raw)))
            ok = false;
        else if (i->aux) /* VERW */
            ok = !code && (d.raw & BIT(41));
        else
            ok = !code || (d.raw & BIT(41));
    }
    set_zf(v, ok);
}
static void op_lar_lsl(struct soft_vcpu *v, const struct insn *i)
{
    lar_lsl(v, i);
    NEXT(v, i);
}
static void op_verr_verw(struct soft_vcpu *v, const struct insn *i)
{
    verr_verw(v, i);
    NEXT(v, i);
}
static void op_arpl(struct soft_vcpu *v, const struct insn *i)
{
    /* Memory is written, and checked for write access, only if the value changes, as on AMD's processors. */
    u16 src = R16(v, i->reg), dst;
    dst = i->aux2 ? (u16)soft_load(v, i, insn_linear(v, i, 2, ACCESS_READ), 2) : R16(v, i->rm);
    if ((dst & 3) < (src & 3)) {
        dst = (u16)((dst & ~3) | (src & 3));
        if (i->aux2)
            soft_store(v, i, insn_linear(v, i, 2, ACCESS_WRITE), 2, dst);
        else
            R16(v, i->rm) = dst;
        set_zf(v, true);
    } else {
        set_zf(v, false);
    }
    NEXT(v, i);
}

/* ---- system segment registers and tables -------------------------------- */

static inline void check_umip(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(v->cpl > 0 && (v->s.cr4 & CR4_UMIP)))
        soft_raise_err(v, i, VEC_GP, 0);
}

static void op_sldt_str(struct soft_vcpu *v, const struct insn *i)
{
    u16 sel = i->aux ? v->s.tr.selector : v->s.ldtr.selector;
    check_umip(v, i);
    if (i->aux2)
        soft_store(v, i, insn_linear(v, i, 2, ACCESS_WRITE), 2, sel);
    else
        reg_write(v, i->rm, i->size, sel);
    NEXT(v, i);
}

void ldt_load(struct soft_vcpu *v, u16 sel, unsigned vector, u32 ext)
{
    struct desc d;
    if (sel_null(sel)) {
        seg_null(&v->s.ldtr, sel, 0);
        return;
    }
    if ((sel & 4) || !desc_fetch_system(v, sel, &d) || (d.raw & DESC_S) || desc_type(d.raw) != 2 ||
        (v->long_mode && (d.high >> 40 & 0x1f)))
        soft_raise_err(v, NULL, vector, sel_err(sel) | ext);
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, vector == VEC_TS ? VEC_TS : VEC_NP, sel_err(sel) | ext);
    u64 base = desc_base_system(v, &d);
    if (v->long_mode && !canonical(v, base))
        soft_raise_err(v, NULL, vector, sel_err(sel) | ext);
    seg_unpack(&v->s.ldtr, sel, d.raw);
    v->s.ldtr.base = base;
}

static void op_lldt(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    u16 sel = rm16(v, i);
    SYNC(v, i);
    ldt_load(v, sel, VEC_GP, 0);
    NEXT(v, i);
}

static __attribute__((noinline)) void ltr(struct soft_vcpu *v, const struct insn *i)
{
    u16 sel = rm16(v, i);
    struct desc d;
    SYNC(v, i);
    if (sel_null(sel))
        raise_gp0(v);
    if ((sel & 4) || !desc_fetch_system(v, sel, &d) || (d.raw & DESC_S) ||
        (desc_type(d.raw) != 9 && (v->long_mode || desc_type(d.raw) != 1)) || (v->long_mode && (d.high >> 40 & 0x1f)))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
    u64 base = desc_base_system(v, &d);
    if (v->long_mode && !canonical(v, base))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    d.raw |= BIT(41); /* busy */
    soft_sys_store(v, d.addr + 5, 1, d.raw >> 40 & 0xff);
    seg_unpack(&v->s.tr, sel, d.raw);
    v->s.tr.base = base;
}
static void op_ltr(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    ltr(v, i);
    NEXT(v, i);
}

static void op_lgdt_lidt(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    struct cpu_table *t = i->aux ? &v->s.idtr : &v->s.gdtr;
    const unsigned n = v->bits == 64 ? 8 : 4;
    u64 ea = insn_ea(v, i), top = ~0ull >> i->ashift;
    u16 limit = (u16)soft_load(v, i, soft_linear(v, i, i->seg, ea, 2 + n, ACCESS_READ), 2);
    u64 lin = soft_linear(v, i, i->seg, (ea + 2) & top, n, ACCESS_READ);
    u64 base = n == 8 ? soft_load(v, i, lin, 8) : soft_load(v, i, lin, 4);
    if (n == 8) {
        if (!canonical(v, base))
            soft_raise_err(v, i, VEC_GP, 0);
    } else if (i->size == 2) {
        base &= 0xffffff;
    }
    t->base = base;
    t->limit = limit;
    NEXT(v, i);
}

static void op_sgdt_sidt(struct soft_vcpu *v, const struct insn *i)
{
    check_umip(v, i);
    const struct cpu_table *t = i->aux ? &v->s.idtr : &v->s.gdtr;
    const unsigned n = v->bits == 64 ? 8 : 4;
    u64 ea = insn_ea(v, i), top = ~0ull >> i->ashift;
    u64 lin = soft_linear(v, i, i->seg, ea, 2 + n, ACCESS_WRITE);
    soft_probe(v, i, lin, 2 + n, ACCESS_WRITE);
    soft_store(v, i, lin, 2, t->limit);
    lin = soft_linear(v, i, i->seg, (ea + 2) & top, n, ACCESS_WRITE);
    if (n == 8)
        soft_store(v, i, lin, 8, t->base);
    else
        soft_store(v, i, lin, 4, t->base);
    NEXT(v, i);
}

/* ---- FS and GS bases ---------------------------------------------------- */

static void op_swapgs(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    u64 base = v->s.seg[GS].base;
    v->s.seg[GS].base = v->segbase[GS] = v->segbase[ISEG_GS] = v->s.kernel_gs_base;
    v->s.kernel_gs_base = base;
    NEXT(v, i);
}

/* RDFSBASE RDGSBASE WRFSBASE WRGSBASE. aux: the segment; aux2: true for a write. */
static void op_fsgsbase(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(!(v->s.cr4 & CR4_FSGSBASE)))
        soft_raise(v, i, VEC_UD);
    const unsigned seg = i->aux;
    if (!i->aux2) {
        reg_write(v, i->rm, i->size, v->s.seg[seg].base);
        NEXT(v, i);
    }
    u64 base = reg_read(v, i->rm, i->size);
    if (unlikely(!canonical(v, base)))
        soft_raise_err(v, i, VEC_GP, 0);
    v->s.seg[seg].base = v->segbase[seg] = v->segbase[seg == FS ? ISEG_FS : ISEG_GS] = base;
    NEXT(v, i);
}

/* ---- lowering ----------------------------------------------------------- */

static bool set(struct insn *i, soft_fn *fn, unsigned size, unsigned aux)
{
    i->fn = fn;
    i->size = (u8)size;
    i->aux = (u8)aux;
    return true;
}

static bool lower_one_byte(const struct decoded *d, struct insn *i)
{
    switch (d->opcode) {
    case 0x06: case 0x0e: case 0x16: case 0x1e:
        return d->bits == 64 ? false : set(i, op_push_seg, stack_size(d), d->opcode >> 3 & 3);
    case 0x07: case 0x17: case 0x1f:
        return d->bits == 64 ? false : set(i, op_pop_seg, stack_size(d), d->opcode >> 3 & 3);
    case 0x8c:
        if ((d->reg & 7) >= SEG_COUNT)
            return set(i, op_ud, 0, 0);
        return set(i, d->has_mem ? op_mov_mem_seg : op_mov_reg_seg, d->osize, d->reg & 7);
    case 0x8e:
        if ((d->reg & 7) >= SEG_COUNT || (d->reg & 7) == CS)
            return set(i, op_ud, 0, 0);
        return set(i, d->has_mem ? op_mov_seg_mem : op_mov_seg_reg, 2, d->reg & 7);
    case 0x63:
        return d->bits == 64 ? false : set(i, op_arpl, 2, 0);
    case 0xc4: case 0xc5:
        if (d->bits == 64 || !d->has_mem)
            return false;
        return set(i, op_load_far, d->osize, d->opcode == 0xc4 ? ES : DS);
    }
    return false;
}

bool lower_segment(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    (void)v;
    const unsigned reg = d->reg & 7;
    if (d->encoding != ENC_LEGACY)
        return false;
    i->aux2 = d->has_mem;
    if (d->map == 0)
        return lower_one_byte(d, i);
    if (d->map != 1)
        return false;
    switch (d->opcode) {
    case 0x00:
        switch (reg) {
        case 0: case 1: return set(i, op_sldt_str, d->osize, reg);
        case 2: return set(i, op_lldt, 2, 0);
        case 3: return set(i, op_ltr, 2, 0);
        case 4: case 5: return set(i, op_verr_verw, 2, reg == 5);
        }
        return false;
    case 0x01:
        if (d->has_mem) {
            if (reg < 2)
                return set(i, op_sgdt_sidt, d->osize, reg);
            if (reg < 4)
                return set(i, op_lgdt_lidt, d->osize, reg - 2);
            return false;
        }
        if (d->modrm == 0xf8 && d->bits == 64)
            return set(i, op_swapgs, 8, 0);
        return false;
    case 0x02: return set(i, op_lar_lsl, d->osize, 0);
    case 0x03: return set(i, op_lar_lsl, d->osize, 1);
    case 0xa0: case 0xa8: return set(i, op_push_seg, stack_size(d), d->opcode == 0xa0 ? FS : GS);
    case 0xa1: case 0xa9: return set(i, op_pop_seg, stack_size(d), d->opcode == 0xa1 ? FS : GS);
    case 0xb2: case 0xb4: case 0xb5:
        if (!d->has_mem)
            return false;
        return set(i, op_load_far, d->osize, d->opcode == 0xb2 ? SS : d->opcode == 0xb4 ? FS : GS);
    case 0xae:
        if (d->has_mem || d->rep != 0xf3 || d->bits != 64 || reg > 3)
            return false;
        i->aux2 = reg >= 2;
        return set(i, op_fsgsbase, d->osize, reg & 1 ? GS : FS);
    }
    return false;
}
