/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system_insn.c - translates instructions about flags, time and privilege in line: CLI, STI, STAC, CLAC, SWAPGS, RDTSC,
 * RDTSCP, PUSHF, POPF.
 */
#include "engine/soft/translate/internal.h"

/* op dword gs:[rflags], imm32 (81 /n: 1 or, 4 and). Uses up the flags. */
static void emit_rflags(struct emit *e, unsigned n, u32 x)
{
    e1(e, 0x65), e1(e, 0x81), e1(e, 0x04 | n << 3), e1(e, 0x25), e4(e, OFF(rflags)), e4(e, x);
}

static void translate_swapgs(struct tr *t)
{
    struct emit *e = &t->e;
    e_gs(e, 0x8b, T0, OFF(segbase) + 8 * ISEG_GS, 8);
    e_gs(e, 0x8b, T1, OFF(s.kernel_gs_base), 8);
    e_gs(e, 0x89, T0, OFF(s.kernel_gs_base), 8);
    e_gs(e, 0x89, T1, OFF(segbase) + 8 * ISEG_GS, 8);
    e_gs(e, 0x89, T1, OFF(segbase) + 8 * GS, 8);
    e_gs(e, 0x89, T1, OFF(s.seg[GS].base), 8);
}

static void translate_cli(struct tr *t, bool flags)
{
    struct emit *e = &t->e;
    if (flags)
        emit_save_flags(e);
    emit_rflags(e, 4, ~(u32)RFLAGS_IF);
    if (flags)
        emit_restore_flags(e);
}

static void translate_sti(struct tr *t, bool flags)
{
    struct emit *e = &t->e;
    const struct rblock *b = &t->r->block[t->block];
    if (t->pos + 1 == b->first + b->n) { /* an interrupt could be taken before the next instruction */
        emit_fallback(t);
        return;
    }
    if (flags)
        emit_save_flags(e);
    e1(e, 0x65), e1(e, 0x83), e1(e, 0x3c), e1(e, 0x25), e4(e, OFF(request)), e1(e, 0); /* cmp gs:[request], 0 */
    struct slow *s = new_slow(t, CC_NE, flags);
    emit_rflags(e, 1, RFLAGS_IF);
    if (flags)
        emit_restore_flags(e);
    end_access(t, s);
}

static void translate_ac(struct tr *t, const struct rinsn *i, bool flags)
{
    struct emit *e = &t->e;
    const unsigned ctx = i->how == HOW_STAC ? TLB_KERNEL_AC : TLB_KERNEL;
    if (flags)
        emit_save_flags(e);
    if (i->how == HOW_STAC)
        emit_rflags(e, 1, RFLAGS_AC);
    else
        emit_rflags(e, 4, ~(u32)RFLAGS_AC);
    if (flags)
        emit_restore_flags(e);
    e1(e, 0x65), e1(e, 0xc6), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(tlb_ctx)), e1(e, ctx); /* mov byte gs:[], ctx */
    e1(e, 0x65), e1(e, 0xc6), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(jc_key));
    e1(e, (t->t->key & ~0x60u & 0xff) | ctx << 5);
    e_gs(e, 0x8b, T0, OFF(tr.self), 8);
    e_lea(e, T0, T0, NONE, 0, (s32)(OFF(tlbs) + ctx * sizeof t->v->tlbs[0]));
    e_gs(e, 0x89, T0, OFF(tlb), 8);
    t->s.ctx = (u8)ctx;
}

static void translate_rdtsc(struct tr *t, const struct rinsn *i, bool flags)
{
    struct emit *e = &t->e;
    struct slow *s = NULL;
    if (flags)
        emit_save_flags(e);
    if (t->r->user) {
        e1(e, 0x65), e1(e, 0xf7), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(s.cr4)), e4(e, CR4_TSD); /* test dword gs:[], imm32 */
        s = new_slow(t, CC_NE, flags);
    }
    if (i->d.desc->mnemonic == M_RDTSCP) {
        e1(e, 0x0f), e1(e, 0xae), e1(e, 0xe8); /* lfence, because RDTSCP waits for the loads before it */
        e_gs(e, 0x8b, RCX, OFF(s.tsc_aux), 4);
    }
    e1(e, 0x0f), e1(e, 0x31);
    e1(e, 0x48), e1(e, 0xc1), e1(e, 0xe2), e1(e, 32); /* shl rdx, 32 */
    e1(e, 0x48), e1(e, 0x09), e1(e, 0xd0);            /* or rax, rdx */
    e_gs(e, 0x03, RAX, OFF(tsc_offset), 8);
    e_mov(e, RDX, RAX);
    e1(e, 0x48), e1(e, 0xc1), e1(e, 0xea), e1(e, 32); /* shr rdx, 32 */
    e1(e, 0x89), e1(e, 0xc0);                         /* mov eax, eax */
    if (flags)
        emit_restore_flags(e);
    end_access(t, s);
}

static void translate_pushf(struct tr *t)
{
    struct emit *e = &t->e;
    const struct address stack = stack_at(t, -t->w);
    struct operand o;
    bool restore;
    /* flags are live here, because they are pushed */
    struct slow *s = begin_access(t, &stack, t->w, true, &o, &restore);
    if (restore)
        emit_restore_flags(e);
    if (o.free == NONE) {
        fail(t);
        return;
    }
    const unsigned x = o.free & 7;
    if (o.free == T1)
        t->t1_slot = -1;
    e_gs(e, 0x89, RAX, OFF(tr.tmp2), 8);
    e1(e, 0x9f);                                              /* lahf */
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);                    /* seto al */
    e_gs(e, 0x89, RAX, OFF(tr.flags), 4);                    /* they are restored below */
    e1(e, 0x44), e1(e, 0x0f), e1(e, 0xb6), e1(e, 0xc0 | x << 3); /* movzx free, al */
    e1(e, 0x41), e1(e, 0xc1), e1(e, 0xe0 | x), e1(e, 11);     /* shl free, 11 */
    e1(e, 0x0f), e1(e, 0xb6), e1(e, 0xc4);                    /* movzx eax, ah */
    e1(e, 0x41), e1(e, 0x09), e1(e, 0xc0 | x);                /* or free, eax */
    e1(e, 0x41), e1(e, 0x81), e1(e, 0xe0 | x), e4(e, RFLAGS_ARITH);
    e_gs(e, 0x8b, RAX, OFF(rflags), 4);
    e1(e, 0x25), e4(e, ~(u32)(RFLAGS_ARITH | RFLAGS_RF | RFLAGS_VM)); /* and eax, .. */
    e1(e, 0x41), e1(e, 0x09), e1(e, 0xc0 | x);                /* or free, eax */
    e_gs(e, 0x8b, RAX, OFF(tr.flags), 4);
    e1(e, 0x04), e1(e, 0x7f);
    e1(e, 0x9e);
    e_gs(e, 0x8b, RAX, OFF(tr.tmp2), 8);
    e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, t->w);
    emit_move_stack(t, -t->w);
    end_access(t, s);
}

static void translate_popf(struct tr *t)
{
    struct emit *e = &t->e;
    const struct address stack = stack_at(t, 0);
    const u32 mine = t->w == 2 ? 0xffff : ~0u;
    struct operand o;
    bool restore;
    struct slow *s = begin_access(t, &stack, t->w, false, &o, &restore);
    emit_load_zx(t, &o, t->w);
    if (restore)
        emit_restore_flags(e);
    /* The handler does it if other flags than the arithmetic ones and IF change, or if a request waits. */
    emit_save_flags(e);
    e_gs(e, 0x8b, T1, OFF(rflags), 4);
    e1(e, 0x45), e1(e, 0x31), e1(e, 0xd3);                                                 /* xor r11d, r10d */
    e1(e, 0x41), e1(e, 0xf7), e1(e, 0xc3), e4(e, ~(u32)(RFLAGS_ARITH | RFLAGS_IF) & mine); /* test r11d, .. */
    struct slow *w = new_slow(t, CC_NE, true);
    e1(e, 0x65), e1(e, 0x83), e1(e, 0x3c), e1(e, 0x25), e4(e, OFF(request)), e1(e, 0);
    struct slow *w2 = new_slow(t, CC_NE, true);
    if (t->w == 2)
        e1(e, 0x66);
    e_gs(e, 0x89, T0, OFF(rflags), 4);
    e_gs(e, 0x89, RAX, OFF(tr.tmp), 8);
    e1(e, 0x44), e1(e, 0x89), e1(e, 0xd0); /* mov eax, r10d */
    emit_flags_from_eax(e);
    e_gs(e, 0x8b, RAX, OFF(tr.tmp), 8);
    emit_move_stack(t, t->w);
    end_access(t, s);
    end_access(t, w);
    end_access(t, w2);
}

void translate_system(struct tr *t, const struct rinsn *i)
{
    const bool flags = live(t, t->pos);
    t->t1_slot = -1;
    switch (i->how) {
    case HOW_SWAPGS:
        translate_swapgs(t);
        return;
    case HOW_CLI:
        translate_cli(t, flags);
        return;
    case HOW_STI:
        translate_sti(t, flags);
        return;
    case HOW_STAC:
    case HOW_CLAC:
        translate_ac(t, i, flags);
        return;
    case HOW_RDTSC:
        translate_rdtsc(t, i, flags);
        return;
    case HOW_PUSHF:
        translate_pushf(t);
        return;
    case HOW_POPF:
        translate_popf(t);
        return;
    }
}
