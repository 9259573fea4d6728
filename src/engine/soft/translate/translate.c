/* SPDX-License-Identifier: Apache-2.0 */
/* translate.c - see translate.h. */
#include "engine/soft/translate/translate.h"

#include "engine/soft/native.h"
#include "engine/soft/translate/emit.h"

#define OFF(field) ((u32)offsetof(struct soft_vcpu, field))
#define GPR(n)     (OFF(gpr) + 8u * (n))
enum { H_SP = R9, T0 = R10, T1 = R11, NONE = 16, IN_MEMORY = 0xff };

static const u8 host_of[16] = { RAX, RCX,       RDX,       RBX,       H_SP, RBP, RSI, RDI,
                                R8,  IN_MEMORY, IN_MEMORY, IN_MEMORY, R12,  R13, R14, R15 };

/* Interpreting one instruction on behalf of a translation. */
struct fallback {
    struct insn pair[2]; /* the instruction, and what tells that it fell through */
    struct block *block;
    u64 rip; /* of the block */
};

/* ---- stubs -------------------------------------------------------------- */

static void emit_spill(struct emit *e)
{
    for (unsigned g = 0; g < 16; g++)
        if (host_of[g] != IN_MEMORY)
            e_gs(e, 0x89, host_of[g], GPR(g), 8);
    e1(e, 0x9f);                                   /* lahf */
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);         /* seto al */
    e1(e, 0x0f), e1(e, 0xb6), e1(e, 0xcc);         /* movzx ecx, ah */
    e1(e, 0x0f), e1(e, 0xb6), e1(e, 0xc0);         /* movzx eax, al */
    e1(e, 0xc1), e1(e, 0xe0), e1(e, 11);           /* shl eax, 11 */
    e1(e, 0x09), e1(e, 0xc1);                      /* or ecx, eax */
    e1(e, 0x81), e1(e, 0xe1), e4(e, RFLAGS_ARITH); /* and ecx, ARITH */
    e_gs(e, 0x8b, RAX, OFF(rflags), 8);
    e1(e, 0x48), e1(e, 0x25), e4(e, ~(u32)RFLAGS_ARITH); /* and rax, ~ARITH */
    e1(e, 0x48), e1(e, 0x09), e1(e, 0xc8);               /* or rax, rcx */
    e_gs(e, 0x89, RAX, OFF(rflags), 8);
}

/* eax holds RFLAGS: the arithmetic ones into the host's. */
static void emit_flags_from_eax(struct emit *e)
{
    e1(e, 0x0f), e1(e, 0xba), e1(e, 0xe0), e1(e, 11); /* bt eax, 11 */
    e1(e, 0x88), e1(e, 0xc4);                         /* mov ah, al */
    e1(e, 0x0f), e1(e, 0x92), e1(e, 0xc0);            /* setc al */
    e1(e, 0x04), e1(e, 0x7f);                         /* add al, 7fh */
    e1(e, 0x9e);                                      /* sahf */
}

static void emit_reload(struct emit *e)
{
    e_gs(e, 0x8b, RAX, OFF(rflags), 4);
    emit_flags_from_eax(e);
    for (unsigned g = 0; g < 16; g++)
        if (host_of[g] != IN_MEMORY)
            e_gs(e, 0x8b, host_of[g], GPR(g), 8);
}

/* The instruction's own handler, in C. true: it fell through and the translation may go on. */
static bool run_fallback(struct soft_vcpu *v, struct fallback *f)
{
    const u64 key = v->jc_key;
    v->block = f->block;
    v->gpr[REG_BLOCK] = f->rip;
    v->jit_next = false;
    f->pair[0].fn(v, &f->pair[0]);
    if (!v->jit_next)
        return false;
    /* The handler may have let interrupts in (POPF), or changed the mode. */
    if (unlikely(v->slow || v->jc_key != key || (v->request && (v->rflags & RFLAGS_IF)))) {
        v->rip = RIP_NEXT(v, &f->pair[0]);
        v->jit_link = 0;
        return false;
    }
    soft_vec_load(v);
    return true;
}

static void op_fell_through(struct soft_vcpu *v, const struct insn *i)
{
    v->jit_next = true;
}

/* A fault of the host's unit at pc: the interpreter runs that instruction and finds the same. */
static void run_fault(struct soft_vcpu *v, u64 pc)
{
    struct soft_jit *j = v->jit;
    for (struct trans *t = j->first; t; t = t->next) {
        if (pc - t->code >= t->size)
            continue;
        unsigned k = 0;
        while (k + 1 < t->block->n && pc - t->code >= t->off[k + 1])
            k++;
        struct fallback f = { .block = t->block, .rip = t->rip };
        f.pair[0] = t->block->insn[k];
        f.pair[1].fn = op_fell_through;
        run_fallback(v, &f);
        v->rip = RIP_NEXT(v, &f.pair[0]);
        v->jit_link = 0;
        return;
    }
    soft_fail(v, "a fault in translated code of no block");
}

void soft_jit_stubs(struct soft_vcpu *v)
{
    struct soft_jit *j = v->jit;
    struct emit em = { j->rw, j->rw + j->size, j->rx - j->rw }, *e = &em;
    static const u8 saved[] = { RBX, RBP, R12, R13, R14, R15 };

    /* enter(code in rdi) */
    j->enter = here(e);
    for (unsigned k = 0; k < 6; k++) {
        if (saved[k] >= 8)
            e1(e, 0x41);
        e1(e, 0x50 | (saved[k] & 7));
    }
    e1(e, 0x48), e1(e, 0x83), e1(e, 0xec), e1(e, 8); /* sub rsp, 8 */
    e_mov(e, T0, RDI);
    emit_reload(e);
    e1(e, 0x41), e1(e, 0xff), e1(e, 0xe2); /* jmp r10 */

    /* exit with rip in r10 and the place to link in r11 */
    j->exit_link = here(e);
    e_gs(e, 0x89, T0, OFF(rip), 8);
    e_gs(e, 0x89, T0, OFF(jit_link_rip), 8);
    e_gs(e, 0x89, T1, OFF(jit_link), 8);
    j->exit = here(e);
    emit_spill(e);
    u64 out = here(e);
    e1(e, 0x48), e1(e, 0x83), e1(e, 0xc4), e1(e, 8);
    for (unsigned k = 6; k-- > 0;) {
        if (saved[k] >= 8)
            e1(e, 0x41);
        e1(e, 0x58 | (saved[k] & 7));
    }
    e1(e, 0xc3);

    /* fallback: record in r10, where to go on in r11 */
    j->fallback = here(e);
    e_gs(e, 0x89, T1, OFF(jit_back), 8);
    emit_spill(e);
    e_mov(e, RSI, T0);
    e_gs(e, 0x8b, RDI, OFF(jit_self), 8);
    e_call(e, (u64)run_fallback);
    e1(e, 0x84), e1(e, 0xc0); /* test al, al */
    e_fix(e, e_jcc(e, CC_E), out);
    emit_reload(e);
    e1(e, 0x65), e1(e, 0xff), e1(e, 0x24), e1(e, 0x25), e4(e, OFF(jit_back)); /* jmp gs:[back] */

    /* fault: pc in r10 (set by the signal handler; everything else as the instruction found it) */
    v->jit_fault = here(e);
    emit_spill(e);
    e_mov(e, RSI, T0);
    e_gs(e, 0x8b, RDI, OFF(jit_self), 8);
    e_call(e, (u64)run_fault);
    e_jmp(e, out);

    /* lookup: RIP in r10; flags are kept, so the comparison is by JRCXZ */
    for (unsigned c = 0; c < TLB_CTX_COUNT; c++) {
        u32 table = OFF(jct) + c * (u32)sizeof v->jct[0];
        j->lookup[c] = here(e);
        e1(e, 0x41), e1(e, 0xbb), e4(e, 64 - JCT_BITS);                  /* mov r11d, 64 - bits */
        e1(e, 0xc4), e1(e, 0x42), e1(e, 0xa1), e1(e, 0xf7), e1(e, 0xda); /* shlx r11, r10, r11 */
        e1(e, 0xc4), e1(e, 0x43), e1(e, 0xfb), e1(e, 0xf0), e1(e, 0xdb),
            e1(e, 64 - JCT_BITS - 4); /* rorx r11, r11, n */
        e_gs(e, 0x89, RCX, OFF(jit_tmp), 8);
        e_gs_r11(e, 0x8b, RCX, table + (u32)offsetof(struct jct_entry, minus_rip));
        e_lea(e, RCX, RCX, T0, 0, 0);
        e1(e, 0xe3), e1(e, 0); /* jrcxz hit */
        u8 *hit = e->p;
        e_gs(e, 0x8b, RCX, OFF(jit_tmp), 8);
        u64 miss = here(e);
        if (!c)
            j->miss = miss;
        e_gs(e, 0x89, T0, OFF(rip), 8);
        e1(e, 0x65), e1(e, 0x48), e1(e, 0xc7), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(jit_link)),
            e4(e, 0); /* mov gs:[link], 0 */
        e_jmp(e, j->exit);
        hit[-1] = (u8)(e->p - hit);
        e_gs(e, 0x8b, RCX, OFF(jit_tmp), 8);
        e1(e, 0x65), e1(e, 0x41), e1(e, 0xff), e1(e, 0xa3),
            e4(e, table + (u32)offsetof(struct jct_entry, code)); /* jmp gs:[r11 + ..] */
    }
    j->base_used = j->used = (u64)(e->p - j->rw);
    for (unsigned c = 0; c < TLB_CTX_COUNT; c++)
        for (unsigned k = 0; k < JCT_SIZE; k++)
            v->jct[c][k] = (struct jct_entry){ 0, j->miss }; /* RIP 0 */
    v->jit_self = v;
    v->jit_code = (u64)j->rx;
    v->jit_code_size = j->size;
}

/* ---- one block ---------------------------------------------------------- */

struct tr {
    struct emit e;
    struct soft_vcpu *v;
    struct soft_jit *j;
    struct block *b;
    u64 rip;
    unsigned ctx;
    bool vectors;                  /* vector instructions may run (no DENY) */
    u32 live[BLOCK_MAX_INSNS + 1]; /* arithmetic flags needed by instruction k itself or after it, before it writes */
    struct {
        u8 *at;
        struct fallback *f;
        u64 back;
        bool flags_saved;
    } slow[4 * BLOCK_MAX_INSNS];
    unsigned nslow;
    struct decoded d[BLOCK_MAX_INSNS];
};

static void *data_new(struct soft_jit *j, u64 n)
{
    void *p = j->data + j->data_used;
    j->data_used += align_up(n, 16);
    return p;
}

static struct fallback *fallback_of(struct tr *t, unsigned k)
{
    struct fallback *f = data_new(t->j, sizeof *f);
    copy_bytes(&f->pair[0], &t->b->insn[k], sizeof f->pair[0]);
    zero_bytes(&f->pair[1], sizeof f->pair[1]);
    f->pair[1].fn = op_fell_through;
    f->block = t->b;
    f->rip = t->rip;
    return f;
}

static void emit_fallback_jump(struct tr *t, struct fallback *f, u64 back)
{
    struct emit *e = &t->e;
    e_mov_imm(e, T0, (u64)f);
    e1(e, 0x4c), e1(e, 0x8d), e1(e, 0x1d); /* lea r11, [rip + rel32] */
    e4(e, back ? (u32)(back - (here(e) + 4)) : 5 /* past the jump below */);
    e_jmp(e, t->j->fallback);
}

static void emit_save_flags(struct emit *e)
{
    e_gs(e, 0x89, RAX, OFF(jit_tmp), 8);
    e1(e, 0x9f);
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);
    e_gs(e, 0x89, RAX, OFF(jit_flags), 4);
    e_gs(e, 0x8b, RAX, OFF(jit_tmp), 8);
}
static void emit_restore_flags(struct emit *e)
{
    e_gs(e, 0x89, RAX, OFF(jit_tmp), 8);
    e_gs(e, 0x8b, RAX, OFF(jit_flags), 4);
    e1(e, 0x04), e1(e, 0x7f); /* add al, 7fh: OF */
    e1(e, 0x9e);              /* sahf */
    e_gs(e, 0x8b, RAX, OFF(jit_tmp), 8);
}

static void jump_slow(struct tr *t, struct fallback *f, unsigned cc, bool flags_saved)
{
    if (t->nslow == ARRAY_SIZE(t->slow)) {
        t->e.p = t->e.end; /* as if full: the block is not translated */
        return;
    }
    t->slow[t->nslow].at = e_jcc(&t->e, cc);
    t->slow[t->nslow].f = f;
    t->slow[t->nslow].flags_saved = flags_saved;
    t->nslow++;
}

/* Where an operand is, once probed: [base + index + disp], and the scratch register that is free. */
struct operand {
    u8 base, index, free;
    s32 disp;
};

static bool fits32(u64 x)
{
    return (u64)(s64)(s32)x == x;
}

/* The probe proper. Emits: address, comparison with the TLB's tag, branch to the slow path. The host pointer is in o.
   Called with flags that nobody needs (saved, or dead). Returns false, with nothing emitted, for what it cannot do. */
struct address { /* guest terms; 0xff none */
    u8 base, index, scale, seg, asize;
    s64 disp;
    bool constant;
    u64 value;
};

static void emit_probe(struct tr *t, const struct address *a, unsigned size, unsigned align, bool write,
                       struct fallback *f, bool saved, struct operand *o)
{
    struct emit *e = &t->e;
    const u32 tlb = OFF(tlbs) + t->ctx * (u32)sizeof t->v->tlbs[0];
    const u32 tag = (u32)(write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read));
    const u32 host = (u32)offsetof(struct tlb_entry, host);
    if (a->constant && a->seg < FS) {
        u64 lin = a->value, page = lin & ~0xfffull;
        u32 slot = tlb + (u32)((lin >> 12) & (TLB_SIZE - 1)) * (u32)sizeof(struct tlb_entry);
        if ((lin & 0xfff) + size > 4096 || (lin & align)) { /* always the slow way */
            e1(e, 0x45), e1(e, 0x39), e1(e, 0xd2);          /* cmp r10d, r10d */
            jump_slow(t, f, CC_E, saved);
        } else if (fits32(page)) {
            e1(e, 0x65), e1(e, 0x48), e1(e, 0x81), e1(e, 0x3c), e1(e, 0x25); /* cmp gs:[tag], imm32 */
            e4(e, slot + tag), e4(e, (u32)page);
            jump_slow(t, f, CC_NE, saved);
        } else {
            e_mov_imm(e, T0, page);
            e_gs(e, 0x39, T0, slot + tag, 8);
            jump_slow(t, f, CC_NE, saved);
        }
        e_gs(e, 0x8b, T1, slot + host, 8);
        if (fits32(lin)) {
            *o = (struct operand){ T1, NONE, T0, (s32)lin };
        } else {
            e_mov_imm(e, T0, lin);
            e1(e, 0x4d), e1(e, 0x01), e1(e, 0xd3); /* add r11, r10 */
            *o = (struct operand){ T1, NONE, T0, 0 };
        }
        return;
    }
    bool simple = false;
    u8 hb = NONE;
    if (a->constant) {
        e_mov_imm(e, T0, a->value);
    } else {
        u8 hi = NONE;
        hb = a->base == 0xff ? NONE : host_of[a->base];
        simple = hb != NONE && hb != IN_MEMORY && a->index == 0xff && a->seg < FS && a->asize == 8;
        if (hb == IN_MEMORY) {
            e_gs(e, 0x8b, T0, GPR(a->base), 8);
            hb = T0;
        }
        if (a->index != 0xff) {
            hi = host_of[a->index];
            if (hi == IN_MEMORY) {
                e_gs(e, 0x8b, T1, GPR(a->index), 8);
                hi = T1;
            }
        }
        if (hb == NONE && hi == NONE) {
            e_mov_imm(e, T0, (u64)a->disp);
        } else if (hb == NONE) { /* [index * scale + disp32] */
            e1(e, 0x4c | (hi >> 3) << 1), e1(e, 0x8d), e1(e, 0x14), e1(e, a->scale << 6 | (hi & 7) << 3 | 5);
            e4(e, (u32)a->disp);
        } else if (hi == NONE && a->disp == 0) {
            if (hb != T0)
                e_mov(e, T0, hb);
        } else {
            e_lea(e, T0, hb, hi, a->scale, (s32)a->disp);
        }
        if (a->asize == 4)
            e1(e, 0x45), e1(e, 0x89), e1(e, 0xd2); /* mov r10d, r10d */
    }
    if (a->seg >= FS) {
        e_gs(e, 0x8b, T1, OFF(segbase) + 8u * (a->seg == FS ? ISEG_FS : ISEG_GS), 8);
        e_lea(e, T0, T0, T1, 0, 0);
    }
    e_mov(e, T1, T0);
    e1(e, 0x49), e1(e, 0xc1), e1(e, 0xeb), e1(e, 7);                                              /* shr r11, 7 */
    e1(e, 0x41), e1(e, 0x81), e1(e, 0xe3), e4(e, (TLB_SIZE - 1) * (u32)sizeof(struct tlb_entry)); /* and r11d, .. */
    e_gs_r11(e, 0x33, T0, tlb + tag);
    e1(e, 0x49), e1(e, 0x81), e1(e, 0xfa), e4(e, 4096 - size); /* cmp r10, 4096 - size */
    jump_slow(t, f, CC_A, saved);
    if (align) {
        e1(e, 0x41), e1(e, 0xf6), e1(e, 0xc2), e1(e, align); /* test r10b, align */
        jump_slow(t, f, CC_NE, saved);
    }
    if (simple) {
        e_gs_r11(e, 0x8b, T1, tlb + host);
        *o = (struct operand){ hb, T1, T0, (s32)a->disp };
        return;
    }
    e_gs_r11(e, 0x33, T0, tlb + tag); /* the address again */
    e_gs_r11(e, 0x03, T0, tlb + host);
    *o = (struct operand){ T0, NONE, T1, 0 };
}

_Static_assert(sizeof(struct tlb_entry) == 32, "the probe shifts by 7: 12 bits of page offset less 5 of entry");

static bool address_of(struct tr *t, unsigned k, struct address *a)
{
    const struct decoded *d = &t->d[k];
    const struct insn *i = &t->b->insn[k];
    *a = (struct address){ d->base, d->index, d->scale, d->seg, d->asize, d->disp, false, 0 };
    if (!fits32((u64)d->disp) || d->asize < 4)
        return false;
    if (d->rip_relative) {
        a->constant = true;
        a->value = t->rip + i->off + i->len + (u64)d->disp;
        if (d->asize == 4)
            a->value = (u32)a->value;
    } else if (d->base == 0xff && d->index == 0xff) {
        a->constant = true;
        a->value = d->asize == 4 ? (u32)d->disp : (u64)d->disp;
    }
    return true;
}

/* ---- registers ---------------------------------------------------------- */

static void load_guest(struct emit *e, unsigned host, unsigned g)
{
    if (host_of[g] == IN_MEMORY)
        e_gs(e, 0x8b, host, GPR(g), 8);
    else if (host_of[g] != host)
        e_mov(e, host, host_of[g]);
}
static void store_guest(struct emit *e, unsigned g, unsigned host)
{
    if (host_of[g] == IN_MEMORY)
        e_gs(e, 0x89, host, GPR(g), 8);
    else if (host_of[g] != host)
        e_mov(e, host_of[g], host);
}

/* ---- an instruction kept as it is, operands renamed ---------------------- */

struct rename {
    u8 host[3]; /* reg, rm, vvvv */
    struct {
        u8 guest, host;
        bool write;
    } mem[2]; /* those that live in memory */
    unsigned nmem;
};

static bool is_high(const struct decoded *d, unsigned n, unsigned size)
{
    return size == 1 && d->encoding == ENC_LEGACY && !d->rex && n >= 4 && n < 8;
}

/* Names one operand; false: no scratch register is left. */
static bool rename_one(struct tr *t, struct rename *r, unsigned slot, unsigned guest, const struct opdesc_gpr *o,
                       const u8 *scratch, unsigned nscratch)
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

/* The plan for renaming, made before anything is emitted. scratch as available. */
static bool plan(struct tr *t, const struct decoded *d, struct rename *r, const u8 *scratch, unsigned nscratch,
                 bool mem)
{
    const struct opdesc *o = d->desc;
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
    for (unsigned k = 0; k < r->nmem; k++)
        e_gs(e, 0x8b, r->mem[k].host, GPR(r->mem[k].guest), 8);
    const unsigned x = mem && m->index != NONE ? m->index >> 3 : 0;
    const unsigned b = mem ? m->base >> 3 : d->has_modrm ? rm >> 3 : reg >> 3;
    const unsigned rr = d->has_modrm ? reg >> 3 : 0;
    if (d->encoding == ENC_VEX) {
        e1(e, 0xc4);
        e1(e, (~rr & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | d->map);
        e1(e, (d->w & 1) << 7 | (~r->host[2] & 15) << 3 | (d->vl & 1) << 2 | d->pp);
        e1(e, d->opcode);
    } else {
        if (d->lock)
            e1(e, 0xf0);
        if (d->opsize66)
            e1(e, 0x66);
        if (d->rep && keeps_prefix(d))
            e1(e, d->rep);
        unsigned rex = (d->rex & 8) | rr << 2 | x << 1 | b;
        /* SPL BPL SIL DIL and what replaces them are bytes only with a REX prefix. */
        if (rex || (d->rex && (o->reg.size == 1 || o->rm.size == 1)))
            e1(e, 0x40 | rex);
        if (d->map >= 1)
            e1(e, 0x0f);
        if (d->map == 2)
            e1(e, 0x38);
        if (d->map == 3)
            e1(e, 0x3a);
        e1(e, d->has_modrm ? d->opcode : (d->opcode & ~7u) | (reg & 7));
    }
    if (d->has_modrm) {
        /* A register number where ModRM.reg names one, else the opcode's extension. */
        unsigned field = o->reg.size || d->encoding == ENC_VEX || o->cls >= OPC_MMX ? reg : d->modrm >> 3 & 7;
        if (mem)
            e_mem(e, field, m->base, m->index, 0, m->disp);
        else
            e1(e, 0xc0 | (field & 7) << 3 | (rm & 7));
    }
    if (d->imm_off)
        for (unsigned k = d->imm_off; k < d->len; k++)
            e1(e, d->bytes[k]);
    for (unsigned k = 0; k < r->nmem; k++)
        if (r->mem[k].write)
            e_gs(e, 0x89, r->mem[k].host, GPR(r->mem[k].guest), 8);
}

/* ---- exits -------------------------------------------------------------- */

/* To a RIP known now. Within the page the jump is linked to its target's translation when there is one. */
static void emit_exit(struct tr *t, u64 to)
{
    struct emit *e = &t->e;
    if ((to ^ t->rip) < 4096) {
        u8 *at = e->p + 1;
        e1(e, 0xe9), e4(e, 0);
        e_mov_imm(e, T0, to);
        e_mov_imm(e, T1, (u64)at);
        e_jmp(e, t->j->exit_link);
    } else {
        e_mov_imm(e, T0, to);
        e_jmp(e, t->j->lookup[t->ctx]);
    }
}

/* ---- stack -------------------------------------------------------------- */

static const struct address top_of_stack = { .base = RSP, .index = 0xff, .seg = SS, .asize = 8, .disp = 0 };
static const struct address below_stack = { .base = RSP, .index = 0xff, .seg = SS, .asize = 8, .disp = -8 };

static bool begin_memory(struct tr *t, unsigned k)
{
    bool live = t->live[k];
    if (live)
        emit_save_flags(&t->e);
    return live;
}

/* Pushes a host register, or an immediate if reg is NONE. */
static void emit_push(struct tr *t, struct fallback *f, bool saved, unsigned reg, u64 imm)
{
    struct emit *e = &t->e;
    struct operand o;
    emit_probe(t, &below_stack, 8, 0, true, f, saved, &o);
    if (reg == NONE && fits32(imm)) {
        e1(e, 0x48 | (o.index != NONE && o.index >> 3) << 1 | o.base >> 3), e1(e, 0xc7);
        e_mem(e, 0, o.base, o.index, 0, o.disp);
        e4(e, (u32)imm);
    } else {
        if (reg == NONE)
            e_mov_imm(e, reg = o.free, imm);
        e_rm(e, 0x89, reg, o.base, o.index, 0, o.disp, 8);
    }
    if (saved)
        emit_restore_flags(e);
    e_lea(e, H_SP, H_SP, NONE, 0, -8);
}

/* ---- which instructions ------------------------------------------------- */

enum how {
    HOW_FALLBACK,
    HOW_KEEP,
    HOW_NOP,
    HOW_LEA,
    HOW_PUSH,
    HOW_POP,
    HOW_LEAVE,
    HOW_CALL,
    HOW_CALL_IND,
    HOW_JMP,
    HOW_JMP_IND,
    HOW_JCC,
    HOW_RET,
    HOW_STOP /* fallback that ends the block */
};

static unsigned memory_size(const struct decoded *d)
{
    return d->desc->mem_size;
}

static enum how how_of(const struct tr *t, const struct decoded *d)
{
    const struct opdesc *o = d->desc;
    const bool mem = d->has_mem;
    if (!(t->v->isa[o->feature / 64] >> (o->feature % 64) & 1)) /* #UD, or what it was before the extension */
        return HOW_FALLBACK;
    if (d->encoding == ENC_EVEX || (o->flags & (OPF_VSIB | OPF_MASKED_MEM | OPF_PRIV)))
        return o->flags & OPF_BLOCK_END ? HOW_STOP : HOW_FALLBACK;
    switch (o->cls) {
    case OPC_SSE:
    case OPC_AVX:
        if (!t->vectors || (o->flags & OPF_IMPLICIT_MEM) || (mem && (!memory_size(d) || memory_size(d) > 32)) ||
            (o->gpr_read | o->gpr_write) & ~0xcfu)
            return HOW_FALLBACK;
        switch (o->mnemonic) {
        case M_LDMXCSR:
        case M_STMXCSR:
        case M_VLDMXCSR:
        case M_VSTMXCSR:
        case M_MASKMOVDQU:
            return HOW_FALLBACK;
        }
        /* The rest needs the address to be of memory that is read or written as a whole. */
        return mem && !(o->flags & (OPF_MEM_READ | OPF_MEM_WRITE)) ? HOW_FALLBACK : HOW_KEEP;
    case OPC_INT:
    case OPC_CONTROL:
        break;
    default:
        return o->flags & OPF_BLOCK_END ? HOW_STOP : HOW_FALLBACK;
    }
    switch (o->mnemonic) {
    case M_JMP:
        if (d->map == 0 && (d->opcode == 0xe9 || d->opcode == 0xeb))
            return HOW_JMP;
        return d->opcode == 0xff && (d->modrm >> 3 & 7) == 4 ? HOW_JMP_IND : HOW_STOP;
    case M_CALL:
        if (d->opcode == 0xe8)
            return HOW_CALL;
        return d->opcode == 0xff && (d->modrm >> 3 & 7) == 2 ? HOW_CALL_IND : HOW_STOP;
    case M_RET:
        return d->opcode == 0xc3 || d->opcode == 0xc2 ? HOW_RET : HOW_STOP;
    case M_PUSH:
        return d->osize == 8 && (d->map == 0) && (d->opcode != 0xff || !mem) ? HOW_PUSH : HOW_FALLBACK;
    case M_POP:
        return d->osize == 8 && d->map == 0 && !mem ? HOW_POP : HOW_FALLBACK;
    case M_LEAVE:
        return d->osize == 8 ? HOW_LEAVE : HOW_FALLBACK;
    case M_LEA:
        return d->osize >= 4 && d->asize == 8 ? HOW_LEA : HOW_FALLBACK;
    case M_NOP:
    case M_PAUSE:
        return HOW_NOP;
    case M_BT:
    case M_BTS:
    case M_BTR:
    case M_BTC:
        if (mem && d->opcode != 0xba)
            return HOW_FALLBACK;
        return HOW_KEEP;
    case M_MOV:
        return (d->map == 0 && ((d->opcode >= 0x88 && d->opcode <= 0x8b) || d->opcode == 0xc6 || d->opcode == 0xc7 ||
                                (d->opcode >= 0xb0 && d->opcode <= 0xbf)))
                   ? HOW_KEEP
                   : HOW_FALLBACK;
    case M_ADD:
    case M_OR:
    case M_ADC:
    case M_SBB:
    case M_AND:
    case M_SUB:
    case M_XOR:
    case M_CMP:
    case M_TEST:
    case M_INC:
    case M_DEC:
    case M_NEG:
    case M_NOT:
    case M_MOVZX:
    case M_MOVSX:
    case M_MOVSXD:
    case M_IMUL:
    case M_MUL:
    case M_ROL:
    case M_ROR:
    case M_RCL:
    case M_RCR:
    case M_SHL:
    case M_SHR:
    case M_SAR:
    case M_SHLD:
    case M_SHRD:
    case M_BSWAP:
    case M_XCHG:
    case M_CMPXCHG:
    case M_XADD:
    case M_BSF:
    case M_BSR:
    case M_TZCNT:
    case M_LZCNT:
    case M_POPCNT:
    case M_CBW:
    case M_CWDE:
    case M_CDQE:
    case M_CWD:
    case M_CDQ:
    case M_CQO:
    case M_CLC:
    case M_STC:
    case M_CMC:
    case M_MOVBE:
    case M_CRC32:
    case M_ADCX:
    case M_ADOX:
    case M_ANDN:
    case M_BEXTR:
    case M_BLSI:
    case M_BLSMSK:
    case M_BLSR:
    case M_BZHI:
    case M_MULX:
    case M_PDEP:
    case M_PEXT:
    case M_RORX:
    case M_SARX:
    case M_SHLX:
    case M_SHRX:
    case M_DIV:
    case M_IDIV:
    case M_LFENCE:
    case M_MFENCE:
    case M_SFENCE:
    case M_MOVNTI:
        return HOW_KEEP;
    }
    if (d->map == 0 && d->opcode >= 0x70 && d->opcode <= 0x7f)
        return HOW_JCC;
    if (d->map == 1 && d->encoding == ENC_LEGACY) {
        if (d->opcode >= 0x80 && d->opcode <= 0x8f)
            return HOW_JCC;
        if (d->opcode >= 0x40 && d->opcode <= 0x4f) /* CMOVcc */
            return HOW_KEEP;
        if (d->opcode >= 0x90 && d->opcode <= 0x9f) /* SETcc */
            return HOW_KEEP;
    }
    return o->flags & OPF_BLOCK_END ? HOW_STOP : HOW_FALLBACK;
}

static bool keep_needs_modrm(const struct decoded *d)
{
    /* One-byte forms with implied operands carry nothing to rename but their opcode. */
    return d->has_modrm || d->desc->reg.size;
}

/* ---- liveness ----------------------------------------------------------- */

static void liveness(struct tr *t, const enum how *how)
{
    u32 live = RFLAGS_ARITH;
    for (unsigned k = t->b->n; k-- > 0;) {
        const struct decoded *d = &t->d[k];
        u32 read = d->desc->eflags_read & RFLAGS_ARITH, kill = d->desc->eflags_write & RFLAGS_ARITH;
        switch (d->desc->mnemonic) {
        case M_ROL:
        case M_ROR:
        case M_RCL:
        case M_RCR:
        case M_SHL:
        case M_SHR:
        case M_SAR:
        case M_SHLD:
        case M_SHRD:
            kill = 0; /* a count of 0 changes nothing */
            break;
        }
        if (how[k] == HOW_FALLBACK || how[k] == HOW_STOP)
            read = RFLAGS_ARITH;
        live = (live & ~kill) | read;
        t->live[k] = live;
    }
}

/* ---- the block ---------------------------------------------------------- */

static bool decode_again(struct tr *t, const u8 *bytes)
{
    for (unsigned k = 0; k < t->b->n; k++) {
        const struct insn *i = &t->b->insn[k];
        if (i->fn == op_ud ||
            decode(&t->d[k], bytes + i->off, MIN(15u, 4096u - (unsigned)((t->b->gpa + i->off) & 0xfff)), 64, true) !=
                DECODE_OK ||
            t->d[k].len != i->len)
            return false;
    }
    return true;
}

static void translate_one(struct tr *t, unsigned k, enum how how)
{
    struct emit *e = &t->e;
    const struct decoded *d = &t->d[k];
    const struct insn *i = &t->b->insn[k];
    const u64 next = t->rip + i->off + i->len;
    static const u8 both[2] = { T1, T0 };
    struct rename r;
    struct address a;
    struct operand o;
    bool saved;
    struct fallback *f;
    switch (how) {
    case HOW_NOP:
        return;
    case HOW_KEEP:
        if (i->fn == op_ud)
            break;
        if (!d->has_mem) {
            if (!plan(t, d, &r, both, 2, false))
                break;
            if (!keep_needs_modrm(d)) {
                /* CBW ... CMC, A8/A9 and 04-3D with the accumulator: as they are */
                for (unsigned n = 0; n < d->len; n++)
                    e1(e, d->bytes[n]);
                return;
            }
            emit_kept(t, d, &r, NULL);
            return;
        }
        {
            unsigned size = memory_size(d);
            const unsigned align =
                d->desc->cls >= OPC_MMX || d->desc->mnemonic == M_CMPXCHG16B ? native_alignment(d, size) : 0;
            static const u8 one[1] = { T0 };
            if (!size || !address_of(t, k, &a) || !plan(t, d, &r, one, 1, true))
                break;
            f = fallback_of(t, k);
            saved = begin_memory(t, k);
            emit_probe(t, &a, size, align, d->desc->flags & OPF_MEM_WRITE, f, saved, &o);
            if (saved)
                emit_restore_flags(e);
            for (unsigned n = 0; n < r.nmem; n++)
                r.mem[n].host = o.free;
            if (r.nmem) { /* the one scratch register depends on the operand's form */
                if (d->desc->reg.size && host_of[d->reg] == IN_MEMORY)
                    r.host[0] = o.free;
                if (d->desc->vvvv.size && host_of[d->vvvv] == IN_MEMORY)
                    r.host[2] = o.free;
            }
            emit_kept(t, d, &r, &o);
        }
        return;
    case HOW_LEA: {
        if (!address_of(t, k, &a))
            break;
        unsigned dst = host_of[d->reg] == IN_MEMORY ? T0 : host_of[d->reg];
        if (a.constant) {
            e_mov_imm(e, dst, d->osize == 4 ? (u32)a.value : a.value);
        } else {
            unsigned hb = NONE, hi = NONE;
            if (a.base != 0xff) {
                hb = host_of[a.base];
                if (hb == IN_MEMORY)
                    load_guest(e, hb = T0, a.base);
            }
            if (a.index != 0xff) {
                hi = host_of[a.index];
                if (hi == IN_MEMORY)
                    load_guest(e, hi = T1, a.index);
            }
            if (hb == NONE) {
                e1(e, 0x40 | (d->osize == 8) << 3 | (dst >> 3) << 2 | (hi >> 3) << 1), e1(e, 0x8d);
                e1(e, 4 | (dst & 7) << 3), e1(e, a.scale << 6 | (hi & 7) << 3 | 5);
                e4(e, (u32)a.disp);
            } else {
                e_rm(e, 0x8d, dst, hb, hi, a.scale, (s32)a.disp, d->osize);
            }
        }
        store_guest(e, d->reg, dst);
        return;
    }
    case HOW_PUSH: {
        unsigned g = d->opcode == 0xff ? d->rm : d->reg;
        bool imm = d->opcode == 0x68 || d->opcode == 0x6a;
        f = fallback_of(t, k);
        saved = begin_memory(t, k);
        if (!imm && host_of[g] == IN_MEMORY) {
            emit_probe(t, &below_stack, 8, 0, true, f, saved, &o);
            e_gs(e, 0x8b, o.free, GPR(g), 8);
            e_rm(e, 0x89, o.free, o.base, o.index, 0, o.disp, 8);
            if (saved)
                emit_restore_flags(e);
            e_lea(e, H_SP, H_SP, NONE, 0, -8);
            return;
        }
        emit_push(t, f, saved, imm ? NONE : host_of[g], d->imm);
        return;
    }
    case HOW_POP: {
        unsigned g = d->opcode == 0x8f ? d->rm : d->reg;
        f = fallback_of(t, k);
        saved = begin_memory(t, k);
        emit_probe(t, &top_of_stack, 8, 0, false, f, saved, &o);
        unsigned dst = host_of[g] == IN_MEMORY ? o.free : host_of[g];
        e_rm(e, 0x8b, dst, o.base, o.index, 0, o.disp, 8);
        if (host_of[g] == IN_MEMORY)
            store_guest(e, g, dst);
        if (saved)
            emit_restore_flags(e);
        if (g != RSP)
            e_lea(e, H_SP, H_SP, NONE, 0, 8);
        return;
    }
    case HOW_LEAVE: {
        static const struct address frame = { .base = RBP, .index = 0xff, .seg = SS, .asize = 8, .disp = 0 };
        f = fallback_of(t, k);
        saved = begin_memory(t, k);
        emit_probe(t, &frame, 8, 0, false, f, saved, &o);
        e_rm(e, 0x8b, o.free, o.base, o.index, 0, o.disp, 8);
        e_lea(e, H_SP, RBP, NONE, 0, 8);
        e_mov(e, RBP, o.free);
        if (saved)
            emit_restore_flags(e);
        return;
    }
    case HOW_JMP:
        emit_exit(t, next + d->imm);
        return;
    case HOW_JCC: {
        u8 *taken = e_jcc(e, d->opcode & 15);
        emit_exit(t, next);
        e_fix(e, taken, here(e));
        emit_exit(t, next + d->imm);
        return;
    }
    case HOW_CALL:
        f = fallback_of(t, k);
        saved = begin_memory(t, k);
        emit_push(t, f, saved, NONE, next);
        emit_exit(t, next + d->imm);
        return;
    case HOW_CALL_IND:
    case HOW_JMP_IND:
        f = fallback_of(t, k);
        saved = false;
        if (d->has_mem) {
            if (!address_of(t, k, &a))
                break;
            saved = begin_memory(t, k);
            emit_probe(t, &a, 8, 0, false, f, saved, &o);
            e_rm(e, 0x8b, T0, o.base, o.index, 0, o.disp, 8);
            if (saved && how == HOW_JMP_IND)
                emit_restore_flags(e);
        } else {
            load_guest(e, T0, d->rm);
            if (how == HOW_CALL_IND)
                saved = begin_memory(t, k);
        }
        if (how == HOW_CALL_IND) {
            e_gs(e, 0x89, T0, OFF(jit_tmp2), 8);
            emit_push(t, f, saved, NONE, next);
            e_gs(e, 0x8b, T0, OFF(jit_tmp2), 8);
        }
        e_jmp(e, t->j->lookup[t->ctx]);
        return;
    case HOW_RET:
        f = fallback_of(t, k);
        saved = begin_memory(t, k);
        emit_probe(t, &top_of_stack, 8, 0, false, f, saved, &o);
        e_rm(e, 0x8b, T0, o.base, o.index, 0, o.disp, 8);
        if (saved)
            emit_restore_flags(e);
        e_lea(e, H_SP, H_SP, NONE, 0, 8 + (d->opcode == 0xc2 ? (s32)(u16)d->imm : 0));
        e_jmp(e, t->j->lookup[t->ctx]);
        return;
    case HOW_FALLBACK:
    case HOW_STOP:
        break;
    }
    emit_fallback_jump(t, fallback_of(t, k), 0);
}

static struct trans *translate(struct soft_vcpu *v, struct block *b, const u8 *bytes)
{
    struct soft_jit *j = v->jit;
    struct tr t; /* large, on the vCPU thread's stack */
    enum how how[BLOCK_MAX_INSNS];
    t.v = v, t.j = j, t.b = b, t.rip = v->rip, t.ctx = v->tlb_ctx, t.nslow = 0;
    t.vectors = !(v->fpu_deny & (DENY_X87 | DENY_MMX | DENY_SSE | DENY_AVX));
    if (!decode_again(&t, bytes))
        return NULL;
    for (unsigned k = 0; k < b->n; k++)
        how[k] = how_of(&t, &t.d[k]);
    liveness(&t, how);
    struct trans *tr = data_new(j, sizeof *tr);
    tr->off = data_new(j, (b->n + 1) * sizeof *tr->off);
    u8 *start = j->rw + align_up(j->used, 16);
    t.e = (struct emit){ start, j->rw + j->size, j->rx - j->rw };
    struct emit *e = &t.e;

    /* Requests are looked at on every entry: that bounds how long an interrupt waits. */
    u8 *poll = NULL;
    if (t.live[0]) {
        e_mov(e, T1, RCX);
        e_gs(e, 0x8b, RCX, OFF(poll), 4);
        e1(e, 0xe3), e1(e, 3 + 5); /* jrcxz */
        e_mov(e, RCX, T1);
        e1(e, 0xe9), poll = e->p, e4(e, 0);
        e_mov(e, RCX, T1);
    } else {
        e1(e, 0x65), e1(e, 0x83), e1(e, 0x3c), e1(e, 0x25), e4(e, OFF(poll)), e1(e, 0); /* cmp gs:[request], 0 */
        poll = e_jcc(e, CC_NE);
    }
    for (unsigned k = 0; k < b->n; k++) {
        tr->off[k] = (u16)(e->p - start);
        unsigned first = t.nslow;
        translate_one(&t, k, how[k]);
        for (unsigned n = first; n < t.nslow; n++)
            t.slow[n].back = here(e);
        if (e->p - start > JIT_BLOCK_MAX - 16384 || emit_full(e))
            return NULL;
    }
    emit_exit(&t, v->rip + b->bytes); /* where the last instruction may fall through */
    for (unsigned n = 0; n < t.nslow; n++) {
        e_fix(e, t.slow[n].at, here(e));
        if (t.slow[n].flags_saved)
            emit_restore_flags(e);
        emit_fallback_jump(&t, t.slow[n].f, t.slow[n].back);
    }
    tr->retired = here(e);
    e_fix(e, poll, here(e));
    e_mov_imm(e, T0, v->rip);
    e_jmp(e, j->miss);
    if (emit_full(e))
        return NULL;
    j->used = (u64)(e->p - j->rw);
    tr->rip = v->rip;
    tr->key = (u32)(v->jc_key & 0xff);
    tr->block = b;
    tr->entry = start;
    tr->code = (u64)(start + e->rx);
    tr->size = (u32)(e->p - start);
    tr->of_block = b->trans;
    b->trans = tr;
    struct trans **bucket = &j->page[(b->gpa >> 12) % JIT_PAGE_BUCKETS];
    tr->of_page = *bucket;
    *bucket = tr;
    tr->next = j->first;
    j->first = tr;
    return tr;
}

struct trans *soft_jit_find(struct soft_vcpu *v, struct block *b)
{
    struct soft_jit *j = v->jit;
    if (b->gpa2 != ~0ull || (b->key & KEY_SINGLE) || v->bits != 64 || v->tlb_ctx == TLB_EMPTY)
        return NULL;
    const u32 key = (u32)(v->jc_key & 0xff);
    for (struct trans *t = b->trans; t; t = t->of_block)
        if (t->rip == v->rip && t->key == key)
            return t;
    if (b->hits < j->hot) {
        b->hits++;
        return NULL;
    }
    if (b->untranslatable)
        return NULL;
    if (j->used + JIT_BLOCK_MAX + KiB(4) > j->size || j->data_used + KiB(64) > j->data_size) {
        j->full = true; /* soft_run drops all before the next block */
        return NULL;
    }
    u64 gpa;
    const u8 *page = soft_fetch_page(v, v->rip, &gpa);
    struct trans *t = page ? translate(v, b, page + (b->gpa & 0xfff)) : NULL;
    if (!t)
        b->untranslatable = true;
    return t;
}

void soft_jit_enter(struct soft_vcpu *v, struct trans *t)
{
    struct soft_jit *j = v->jit;
    if (v->jit_link && v->jit_link_rip == t->rip && v->jit_key == t->key) {
        /* where we come from was waiting for this translation */
        struct emit e = { (u8 *)v->jit_link, (u8 *)v->jit_link + 128, j->rx - j->rw };
        e_fix(&e, (u8 *)v->jit_link, t->code);
    }
    v->jit_link = 0;
    v->jit_key = t->key;
    struct jct_entry *c = &v->jct[v->tlb_ctx][t->rip & (JCT_SIZE - 1)];
    if (c->code == j->miss && j->nfilled < ARRAY_SIZE(j->filled))
        j->filled[j->nfilled++] = c;
    else if (c->code == j->miss)
        c = NULL; /* no room to remember it */
    if (c)
        *c = (struct jct_entry){ 0 - t->rip, t->code };
    soft_vec_load(v);
    ((void (*)(u64))j->enter)(t->code);
}

void soft_jit_clear_lookup(struct soft_vcpu *v)
{
    struct soft_jit *j = v->jit;
    for (u32 k = 0; k < j->nfilled; k++)
        *j->filled[k] = (struct jct_entry){ 0, j->miss };
    j->nfilled = 0;
    v->jit_link = 0;
}

void soft_jit_flush(struct soft_vcpu *v)
{
    struct soft_jit *j = v->jit;
    soft_jit_clear_lookup(v);
    zero_bytes(j->page, sizeof j->page);
    j->first = NULL;
    j->used = j->base_used;
    j->data_used = 0;
    j->full = false;
}

/* Unlinks from a bucket what is stale and lies in page (any, if ~0), and makes it leave at its next entry. */
static void retire_bucket(struct soft_vcpu *v, struct trans **link, u64 page)
{
    struct soft_jit *j = v->jit;
    for (struct trans *t; (t = *link) != NULL;) {
        if ((page != ~0ull && t->block->gpa >> 12 != page) || soft_block_current(v, t->block)) {
            link = &t->of_page;
            continue;
        }
        *link = t->of_page;
        struct emit e = { t->entry, t->entry + 128, j->rx - j->rw };
        e_jmp(&e, t->retired);
    }
}

void soft_jit_retire_page(struct soft_vcpu *v, u64 page)
{
    retire_bucket(v, &v->jit->page[page % JIT_PAGE_BUCKETS], page);
    v->jit_link = 0;
}

void soft_jit_retire_stale(struct soft_vcpu *v)
{
    for (unsigned k = 0; k < JIT_PAGE_BUCKETS; k++)
        retire_bucket(v, &v->jit->page[k], ~0ull);
    v->jit_link = 0;
}
