/* SPDX-License-Identifier: Apache-2.0 */
/* stubs.c - writes the host code by which translated code is entered and left. All processors of a VM share it. */
#include "engine/soft/mmu.h"
#include "engine/soft/native.h"
#include "engine/soft/translate/translate.h"

const u8 jit_home[16] = { RAX, RCX,       RDX,       RBX,       H_SP, RBP, RSI, RDI,
                          R8,  IN_MEMORY, IN_MEMORY, IN_MEMORY, R12,  R13, R14, R15 };

static void emit_spill(struct emit *e)
{
    for (unsigned g = 0; g < 16; g++)
        if (jit_home[g] != IN_MEMORY)
            e_gs(e, 0x89, jit_home[g], GPR(g), 8);
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

/* Sets the host's arithmetic flags to those in EAX, which has RFLAGS. */
void emit_flags_from_eax(struct emit *e)
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
        if (jit_home[g] != IN_MEMORY)
            e_gs(e, 0x8b, jit_home[g], GPR(g), 8);
}

/* emit_save_flags and emit_restore_flags with a scratch register that is free: that brings RAX back sooner than memory
   does. */
void emit_save_flags_by(struct emit *e, unsigned scratch)
{
    e_mov(e, scratch, RAX);
    e1(e, 0x9f);
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);
    e_gs(e, 0x89, RAX, OFF(tr.flags), 4);
    e_mov(e, RAX, scratch);
}
void emit_restore_flags_by(struct emit *e, unsigned scratch)
{
    e_mov(e, scratch, RAX);
    e_gs(e, 0x8b, RAX, OFF(tr.flags), 4);
    e1(e, 0x04), e1(e, 0x7f);
    e1(e, 0x9e);
    e_mov(e, RAX, scratch);
}
/* They move the flags into gs:[tr.flags], and back. No register changes. */
void emit_save_flags(struct emit *e)
{
    e_gs(e, 0x89, RAX, OFF(tr.tmp), 8);
    e1(e, 0x9f);
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);
    e_gs(e, 0x89, RAX, OFF(tr.flags), 4);
    e_gs(e, 0x8b, RAX, OFF(tr.tmp), 8);
}
void emit_restore_flags(struct emit *e)
{
    e_gs(e, 0x89, RAX, OFF(tr.tmp), 8);
    e_gs(e, 0x8b, RAX, OFF(tr.flags), 4);
    e1(e, 0x04), e1(e, 0x7f); /* add al, 7fh, which sets OF */
    e1(e, 0x9e);              /* sahf */
    e_gs(e, 0x8b, RAX, OFF(tr.tmp), 8);
}

/* ---- one instruction by its handler --------------------------------------- */

enum { LOWERED = 1 << 12 };
struct lowered { /* belongs to one processor, since pair may lead to that processor's native stubs */
    u64 serial;  /* the translation's serial and the instruction's number in it, + 1; 0: unused */
    u16 mnemonic;
    struct insn pair[2]; /* the instruction, and one that notes that it went on to the next */
    struct block block;
};

u64 soft_jit_lowered_size(void)
{
    return LOWERED * sizeof(struct lowered);
}

void soft_jit_forget_lowered(struct soft_vcpu *v)
{
    for (unsigned k = 0; v->jit && k < LOWERED; k++)
        v->tr.lowered[k].serial = 0;
}

static void op_fell_through(struct soft_vcpu *v, const struct insn *i)
{
    v->tr.next = true;
}

static struct lowered *lower(struct soft_vcpu *v, const struct trans *t, unsigned k)
{
    const u64 name = ((u64)t->serial << 16 | k) + 1;
    struct lowered *l = &v->tr.lowered[(name * 0x9e3779b97f4a7c15ull) >> 52];
    if (likely(l->serial == name))
        return l;
    const unsigned len = t->tinsn[k].len;
    struct decoded d;
    zero_bytes(l->pair, sizeof l->pair);
    l->serial = 0; /* soft_lower may call soft_jit_forget_lowered */
    if (decode(&d, jit_bytes(t, k), len, v->bits, v->protected_mode) == DECODE_OK)
        soft_lower(v, &d, &l->pair[0]);
    else
        l->pair[0].fn = op_ud;
    l->mnemonic = d.desc ? d.desc->mnemonic : 0;
    if (d.rip_relative)
        l->pair[0].disp += d.len;
    /* A block ends behind STI, because the run loop takes care of its interrupt shadow, if it has one. */
    l->pair[1].fn = l->mnemonic == M_STI ? op_end : op_fell_through;
    l->pair[1].off = (u16)len;
    l->block.place = (t->place & ~0xfffull) | t->tinsn[k].off;
    l->block.place2 = ~0ull;
    l->block.gen = t->gen;
    l->block.key = (u32)(v->jc_key & 15);
    l->block.bytes = (u16)len;
    l->block.n = 1;
    l->serial = name;
    return l;
}

/* True if a request waits that would be taken now. (The run loop has done the other requests when they came.) */
static bool deliverable(const struct soft_vcpu *v)
{
    const u32 r = __atomic_load_n(&v->request, __ATOMIC_RELAXED);
    return r && ((v->rflags & RFLAGS_IF) || ((r & (REQ_NMI | REQ_NMI2)) && !v->s.nmi_masked));
}

/* Returns where the code for v->rip is, if it can be found without the run loop and nothing asks for that; else 0. */
static u64 chain(struct soft_vcpu *v)
{
    if (unlikely(v->slow | __atomic_load_n(&v->poll, __ATOMIC_RELAXED) | v->s.activity))
        return 0;
    if (unlikely(deliverable(v)))
        return 0;
    const struct trans *t = unlikely(v->tlb_ctx == TLB_EMPTY) ? NULL : jit_known(v);
    if (!t)
        return 0;
    jit_vec_load(v);
    *(u64 *)v->tr.base = v->jit->sentinel[v->tlb_ctx];
    v->tr.on = v->tr.base;
    return t->code;
}

enum { LEAVE, GO_ON }; /* what run_insn returns, unless it returns the address of code to go on at */

/* Runs instruction k of t by its handler, which is C. */
static u64 run_insn(struct soft_vcpu *v, const struct trans *t, unsigned k, enum soft_handled why)
{
    const u64 key = v->jc_key;
    const u32 mode = jit_key(v);
    struct lowered *l = lower(v, t, k);
    v->stat.handled[why][l->mnemonic]++;
    v->block = &l->block;
    v->gpr[REG_BLOCK] = jit_rip_at(t->cs, t->rip, t->tinsn[k].off) + jit_delta_of(v, t);
    v->tr.next = false;
    v->tr.from = 0; /* the last indirect jump has reached its target */
    l->pair[0].fn(v, &l->pair[0]);
    if (!v->tr.next)
        return chain(v);
    /* The handler may have let interrupts in (POPF), changed the mode, or the code. */
    if (unlikely(v->slow || v->jc_key != key || jit_key(v) != mode || v->poll || deliverable(v))) {
        v->rip = (v->gpr[REG_BLOCK] + t->tinsn[k].len) & v->ipmask;
        return v->jc_key != key || jit_key(v) != mode ? chain(v) : LEAVE;
    }
    jit_vec_load(v);
    return GO_ON;
}

/* The same, but the next instruction must not go on in this translation. */
static u64 run_insn_alone(struct soft_vcpu *v, const struct trans *t, unsigned k, enum soft_handled why)
{
    const u64 r = run_insn(v, t, k, why);
    if (r != GO_ON)
        return r;
    v->rip = (v->gpr[REG_BLOCK] + t->tinsn[k].len) & v->ipmask;
    return chain(v);
}

/* The same for up to MOST instructions, since each of those that follow would come here again because of the same probe. */
static u64 run_insns_alone(struct soft_vcpu *v, const struct trans *t, unsigned k, enum soft_handled why)
{
    enum { MOST = 8 };
    for (unsigned n = 1;; n++, k++) {
        const u64 r = run_insn(v, t, k, why);
        if (r != GO_ON)
            return r;
        v->rip = (v->gpr[REG_BLOCK] + t->tinsn[k].len) & v->ipmask;
        if (n == MOST || k + 1 == t->ntinsns || t->tinsn[k + 1].off != t->tinsn[k].off + t->tinsn[k].len)
            return chain(v);
    }
}

/* site: the return address of the call in translated code that came here. A struct jit_site describes it. */
static u64 run_fallback(struct soft_vcpu *v, u64 site)
{
    const struct jit_site *s = jit_site_at(site);
    const struct trans *t = jit_trans_of(v->jit, s);
    return run_insn(v, t, s->insn, site - t->code >= t->slow_code ? HANDLED_SLOW : HANDLED_UNTRANSLATED);
}

/* A probe for several accesses found no TLB entry that serves them all. If there can be one, returns GO_ON, and the probe is
   made again. If not, goes on in careful code, or by handlers while there is none. sp: the stack of translated calls. */
static u64 run_refill(struct soft_vcpu *v, u64 site, u64 sp)
{
    const struct jit_site *s = jit_site_at(site);
    const struct trans *t = jit_trans_of(v->jit, s);
    u64 first = (s->base == 0xff ? 0 : v->gpr[s->base]) + (s->index == 0xff ? 0 : v->gpr[s->index] << s->scale) +
                (u64)(s64)s->lo;
    if (s->base == 0xff && s->index == 0xff)
        first = s->constant + (s->reloc ? v->tr.delta : 0);
    if (s->seg)
        first += v->segbase[s->seg];
    if (v->bits != 64)
        first = (u32)first;
    v->stat.refill++;
    if (((first ^ (first + s->span - 1)) < 4096) && soft_accessible(v, first, ACCESS_READ)) {
        const struct tlb_entry *e = &v->tlb[(first >> 12) & (TLB_SIZE - 1)];
        /* It does not go back if the run loop is wanted. One reason: the new entry may have replaced one that another group
           relies on, and the next request to close that page would no longer find it open (tlb.c). It does not leave at once
           either: two groups that are probed together and share an entry would come here for ever. So the instruction is
           done alone. */
        if ((s->write ? e->write : e->read) == (first & ~0xfffull) && !__atomic_load_n(&v->poll, __ATOMIC_RELAXED)) {
            if (s->stack) {
                v->tr.stack_page[v->tlb_ctx].page = e->write;
                v->tr.stack_page[v->tlb_ctx].host = e->host;
            }
            jit_vec_load(v);
            return GO_ON;
        }
    }
    v->rip = jit_rip_at(t->cs, t->rip, t->tinsn[s->insn].off) + jit_delta_of(v, t);
    const struct trans *careful = jit_careful(v, t, (t->place & ~0xfffull) | t->tinsn[s->insn].off);
    if (!careful)
        return run_insns_alone(v, t, s->insn, HANDLED_SPLIT);
    v->stat.careful++;
    jit_vec_load(v);
    v->tr.on = sp;
    if (unlikely((t->key >> 5 & 3) != v->tlb_ctx)) { /* its callers are in t's context (translate_ac) */
        v->tr.on = v->tr.base;
        *(u64 *)v->tr.base = v->jit->sentinel[v->tlb_ctx];
    }
    return careful->code;
}

/* The host's unit faulted at pc. The interpreter runs that instruction, and finds the same fault. */
static u64 run_fault(struct soft_vcpu *v, u64 pc)
{
    const struct trans *t = jit_by_code(v->jit, pc);
    if (!t)
        soft_fail(v, "a fault in translated code of no block");
    unsigned k = 0;
    while (k + 1 < t->ntinsns && pc - t->code >= t->tinsn[k + 1].host)
        k++;
    if (t->tinsn[k].flags_away) /* as emit_save_flags() leaves them: bits 8-15 are those of LAHF, and bit 0 is OF */
        v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | ((v->tr.flags >> 8 & 0xff) & RFLAGS_ARITH) | (v->tr.flags & 1) << 11;
    return run_insn_alone(v, t, k, HANDLED_FAULT);
}

void jit_bad_target(struct soft_vcpu *v)
{
    const struct jit_site *s = (const struct jit_site *)(v->jit->rx + v->tr.from);
    const struct trans *t = jit_trans_of(v->jit, s);
    struct decoded d;
    if (decode(&d, jit_bytes(t, s->insn), t->tinsn[s->insn].len, v->bits, v->protected_mode) != DECODE_OK)
        return;
    u64 sp = v->gpr[RSP];
    if (d.desc->mnemonic == M_CALL)
        sp += d.osize;
    else if (d.desc->mnemonic == M_RET)
        sp -= d.osize + (d.opcode == 0xc2 ? (u16)d.imm : 0);
    reg_write(v, REG_OFF(RSP), v->bits == 64 ? 8 : v->ss32 ? 4 : 2, sp);
    v->rip = jit_rip_at(t->cs, t->rip, t->tinsn[s->insn].off) + jit_delta_of(v, t);
    if (d.desc->mnemonic == M_CALL) { /* a CALL checks its target before it writes (SDM vol. 2, CALL) */
        const u64 to = sp - d.osize;
        soft_store(v, NULL, v->bits == 64 ? to : (u32)(v->s.seg[SS].base + (v->ss32 ? (u32)to : (u16)to)), d.osize, v->tr.under);
    }
    soft_raise_err(v, NULL, VEC_GP, 0);
}

u64 soft_jit_fault_entry(struct soft_vcpu *v, u64 pc)
{
    const struct trans *t = jit_by_code(v->jit, pc);
    return !t ? 0 : t->convert ? t->convert : v->jit->fault;
}

/* ---- writing them --------------------------------------------------------- */

/* Calls fn(v, r10, rsp) on the stack of C. If it returns LEAVE, goes to out; if GO_ON, to the address in gs:[back]; else to
   the address that it returned. */
static void emit_c(struct jit *j, struct emit *e, u64 fn, u64 out, u64 back)
{
    emit_spill(e);
    e_mov(e, RSI, T0);
    e_mov(e, RBX, RSP);
    e_mov(e, RDX, RSP);
    e_gs(e, 0x8b, RDI, OFF(tr.self), 8);
    e_gs(e, 0x8b, RSP, OFF(tr.c_sp), 8);
    e_call(e, fn);
    e1(e, 0x48), e1(e, 0x83), e1(e, 0xf8), e1(e, 1); /* cmp rax, 1 */
    e_fix(e, e_jcc(e, CC_B), out);
    u8 *elsewhere = e_jcc(e, CC_NE);
    e_mov(e, RSP, RBX);
    emit_reload(e);
    e1(e, 0x65), e1(e, 0xff), e1(e, 0x24), e1(e, 0x25), e4(e, (u32)back); /* jmp gs:[back] */
    e_fix(e, elsewhere, here(e));
    e_mov(e, T1, RAX);
    e_gs(e, 0x8b, RSP, OFF(tr.on), 8);
    emit_reload(e);
    e1(e, 0x41), e1(e, 0xff), e1(e, 0xe3); /* jmp r11 */
}

/* This is called when a probe for a store of gs:[tr.span] bytes has failed. T0 is the address xor the tag, and T1 the place
   of the TLB's entry. It clears carry if the page may be written and holds decoded code, but none in the lines of this
   store. Then nobody needs to be told of the store, and the probe counts as passed. It changes no register. It is for a VM
   with one processor, in which nobody decodes between this and the store. */
static void emit_watched(struct jit *j, struct emit *e, unsigned ctx, const u64 *code_lines)
{
    const u32 entry = OFF(tlbs) + ctx * (u32)sizeof((struct soft_vcpu *)0)->tlbs[0];
    const u32 read = entry + (u32)offsetof(struct tlb_entry, read), write = entry + (u32)offsetof(struct tlb_entry, write);
    static const u8 used[] = { RAX, RCX, RDX };
    u8 *no[4], *yes[2];

    j->watched[ctx] = here(e);
    for (unsigned k = 0; k < ARRAY_SIZE(used); k++)
        e_gs(e, 0x89, used[k], OFF(tr.watch[0]) + 8 * k, 8);
    e_gs_r11(e, 0x33, T0, write); /* the address */
    e_mov(e, RCX, T0);
    e_gs_r11(e, 0x33, RCX, read);
    e_mov_imm(e, RAX, 4096);
    e_gs(e, 0x2b, RAX, OFF(tr.span), 4);
    e1(e, 0x48), e1(e, 0x39), e1(e, 0xc1); /* cmp rcx, rax: the offset in the page */
    no[0] = e_jcc(e, CC_A);
    e_gs_r11(e, 0x8b, RDX, entry + (u32)offsetof(struct tlb_entry, place));
    e1(e, 0xf6), e1(e, 0xc2), e1(e, PLACE_WATCHED); /* test dl */
    no[1] = e_jcc(e, CC_E);
    e1(e, 0x48), e1(e, 0xc1), e1(e, 0xea), e1(e, GUEST_PAGE_SHIFT); /* shr rdx */
    e_mov_imm(e, RAX, (u64)code_lines);
    e_rm(e, 0x8b, RDX, RAX, RDX, 3, 0, 8);
    e1(e, 0x48), e1(e, 0x85), e1(e, 0xd2); /* test rdx, rdx */
    no[2] = e_jcc(e, CC_E);                /* the code is gone, and the page must be opened */
    e_gs(e, 0x8b, RAX, OFF(tr.span), 4);
    e_lea(e, RAX, RAX, RCX, 0, -1);
    e1(e, 0xc1), e1(e, 0xe8), e1(e, 6);                  /* shr eax, 6: the last line */
    e1(e, 0xc1), e1(e, 0xe9), e1(e, 6);                  /* shr ecx, 6: the first */
    e1(e, 0x29), e1(e, 0xc8);                            /* sub eax, ecx */
    e1(e, 0x48), e1(e, 0xd3), e1(e, 0xea);               /* shr rdx, cl */
    e1(e, 0x48), e1(e, 0x0f), e1(e, 0xbc), e1(e, 0xd2);  /* bsf rdx, rdx */
    yes[0] = e_jcc(e, CC_E);
    e1(e, 0x39), e1(e, 0xc2); /* cmp edx, eax */
    yes[1] = e_jcc(e, CC_A);
    for (unsigned k = 0; k < 3; k++)
        e_fix(e, no[k], here(e));
    e1(e, 0xf9); /* stc */
    no[3] = e_jcc(e, CC_B);
    for (unsigned k = 0; k < 2; k++)
        e_fix(e, yes[k], here(e));
    e_gs_r11(e, 0x33, T0, write);
    e1(e, 0xf8); /* clc */
    e_fix(e, no[3], here(e));
    for (unsigned k = 0; k < ARRAY_SIZE(used); k++)
        e_gs(e, 0x8b, used[k], OFF(tr.watch[0]) + 8 * k, 8);
    e1(e, 0xc3);
}

/* The stack is in another page than tr.stack_page[ctx], which T0 is the address's difference from. If the TLB has that page
   open for stores it is the page from here on, and T0 the offset in it; else T0 is 4096 or more. Uses up T1 and flags. */
static void emit_stack(struct jit *j, struct emit *e, unsigned ctx)
{
    const u32 entry = OFF(tlbs) + ctx * (u32)sizeof((struct soft_vcpu *)0)->tlbs[0];
    const u32 write = entry + (u32)offsetof(struct tlb_entry, write), host = entry + (u32)offsetof(struct tlb_entry, host);
    const u32 page = OFF(tr.stack_page[0].page) + 16 * ctx;
    j->stack[ctx] = here(e);
    e_gs(e, 0x33, T0, page, 8); /* the address */
    e_mov(e, T1, T0);
    e1(e, 0x49), e1(e, 0xc1), e1(e, 0xeb), e1(e, 7); /* shr r11, 7 */
    e1(e, 0x41), e1(e, 0x81), e1(e, 0xe3), e4(e, (TLB_SIZE - 1) * (u32)sizeof(struct tlb_entry)); /* and r11d, .. */
    e_gs_r11(e, 0x33, T0, write);
    e_cmp_t0(e, 4095);
    u8 *no = e_jcc(e, CC_A);
    e_gs(e, 0x89, T0, OFF(tr.stack_offset), 8);
    e_gs_r11(e, 0x8b, T0, write);
    e_gs(e, 0x89, T0, page, 8);
    e_gs_r11(e, 0x8b, T0, host);
    e_gs(e, 0x89, T0, page + 8, 8);
    e_gs(e, 0x8b, T0, OFF(tr.stack_offset), 8);
    e_fix(e, no, here(e));
    e1(e, 0xc3);
}

/* The registers that a function must keep by the ABI. */
static const u8 saved[] = { RBX, RBP, R12, R13, R14, R15 };

/* enter(code in rdi) */
static void emit_enter(struct jit *j, struct emit *e)
{
    j->enter = here(e);
    for (unsigned k = 0; k < 6; k++) {
        if (saved[k] >= 8)
            e1(e, 0x41);
        e1(e, 0x50 | (saved[k] & 7));
    }
    e1(e, 0x48), e1(e, 0x83), e1(e, 0xec), e1(e, 8); /* sub rsp, 8 */
    e_gs(e, 0x89, RSP, OFF(tr.c_sp), 8);
    e_gs(e, 0x8b, RSP, OFF(tr.base), 8);
    e_mov(e, T0, RDI);
    emit_reload(e);
    e1(e, 0x41), e1(e, 0xff), e1(e, 0xe2); /* jmp r10 */
}

/* Leaves with RIP in r10. exit_link is called, and notes its return address in gs:[tr.site]. Returns the address of the code
   by which enter() returns to its caller. */
static u64 emit_leave(struct jit *j, struct emit *e)
{
    j->exit_link = here(e);
    e1(e, 0x65), e1(e, 0x8f), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(tr.site)); /* pop gs:[site] */
    j->miss = here(e);
    e_gs(e, 0x89, T0, OFF(rip), 8);
    j->exit = here(e);
    emit_spill(e);
    e_gs(e, 0x8b, RSP, OFF(tr.c_sp), 8);
    const u64 out = here(e);
    e1(e, 0x48), e1(e, 0x83), e1(e, 0xc4), e1(e, 8);
    for (unsigned k = 6; k-- > 0;) {
        if (saved[k] >= 8)
            e1(e, 0x41);
        e1(e, 0x58 | (saved[k] & 7));
    }
    e1(e, 0xc3);
    return out;
}

/* The calls of C: handlers, probes, faults. */
static void emit_handlers(struct jit *j, struct emit *e, u64 out)
{
    /* called from translated code whose registers are where they are between regions; goes on after the call */
    j->fallback = here(e);
    e1(e, 0x41), e1(e, 0x5a); /* pop r10 */
    e_gs(e, 0x89, T0, OFF(tr.back), 8);
    emit_c(j, e, (u64)run_fallback, out, OFF(tr.back));

    j->refill = here(e);
    e1(e, 0x41), e1(e, 0x5a);
    e_gs(e, 0x89, T0, OFF(tr.back), 8);
    emit_c(j, e, (u64)run_refill, out, OFF(tr.back));

    /* the signal handler has set gs:[tr.fault_pc]; everything else is as the instruction found it */
    j->fault = here(e);
    e_gs(e, 0x8b, T0, OFF(tr.fault_pc), 8);
    emit_c(j, e, (u64)run_fault, out, OFF(tr.back));
}

/* The lookup of context c. r10 has RIP. Flags are kept. */
static void emit_lookup(struct jit *j, struct emit *e, unsigned c)
{
    const u32 table = OFF(jct) + c * (u32)sizeof((struct soft_vcpu *)0)->jct[0];
    /* for code that was entered in another context than c: its callers are in that one, so the stack is emptied */
    j->lookup_reset[c] = here(e);
    e_gs(e, 0x8b, RSP, OFF(tr.base), 8);
    e1(e, 0x4c), e1(e, 0x8d), e1(e, 0x1d); /* lea r11, [rip + sentinel] */
    u8 *own = e->p;
    e4(e, 0);
    e_rm(e, 0x89, T1, RSP, NONE, 0, 0, 8);
    j->lookup[c] = here(e);
    if (j->bmi2) {
        e1(e, 0x41), e1(e, 0xbb), e4(e, 64 - JCT_BITS);                  /* mov r11d, 64 - bits */
        e1(e, 0xc4), e1(e, 0x42), e1(e, 0xa1), e1(e, 0xf7), e1(e, 0xda); /* shlx r11, r10, r11 */
        e1(e, 0xc4), e1(e, 0x43), e1(e, 0xfb), e1(e, 0xf0), e1(e, 0xdb), e1(e, 64 - JCT_BITS - 5); /* rorx r11, r11, n */
    } else {
        emit_save_flags(e);
        e_mov(e, T1, T0);
        e1(e, 0x41), e1(e, 0x81), e1(e, 0xe3), e4(e, JCT_SIZE - 1); /* and r11d, .. */
        e1(e, 0x41), e1(e, 0xc1), e1(e, 0xe3), e1(e, 5);            /* shl r11d, 5 */
        emit_restore_flags(e);
    }
    e_gs(e, 0x89, RCX, OFF(tr.tmp), 8);
    e_gs_r11(e, 0x8b, RCX, table + (u32)offsetof(struct jct_entry, minus_rip));
    e_lea(e, RCX, RCX, T0, 0, 0);
    e1(e, 0xe3), e1(e, 0); /* jrcxz */
    u8 *found = e->p;
    e_gs(e, 0x8b, RCX, OFF(tr.tmp), 8);
    e_jmp(e, j->miss);
    found[-1] = (u8)(e->p - found);
    if (c == TLB_USER) {
        e_gs_r11(e, 0x8b, RCX, table + (u32)offsetof(struct jct_entry, delta));
        e_gs(e, 0x89, RCX, OFF(tr.delta), 8);
    }
    e_gs(e, 0x8b, RCX, OFF(tr.tmp), 8);
    /* jmp gs:[r11 + table + code] */
    e1(e, 0x65), e1(e, 0x41), e1(e, 0xff), e1(e, 0xa3), e4(e, table + (u32)offsetof(struct jct_entry, code));

    /* here arrives a RET for which no translated CALL waits */
    j->sentinel[c] = here(e);
    e_fix(e, own, here(e));
    e_lea(e, RSP, RSP, NONE, 0, -8);
    e_jmp(e, j->lookup[c]);
}

void jit_stubs(struct jit *j, const u64 *code_lines)
{
    struct emit em = { j->rw, j->rw + j->size, j->rx - j->rw }, *e = &em;
    emit_enter(j, e);
    const u64 out = emit_leave(j, e);
    emit_handlers(j, e, out);
    for (unsigned c = 0; c < TLB_EMPTY; c++)
        emit_lookup(j, e, c);
    for (unsigned c = 0; c < TLB_EMPTY; c++)
        emit_watched(j, e, c, code_lines);
    for (unsigned c = 0; c < TLB_EMPTY; c++)
        emit_stack(j, e, c);
    j->check = here(e);
    emit_check_stub(e);
    j->stubs_end = (u32)align_up((u64)(e->p - j->rw), 64);
}
