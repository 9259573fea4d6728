/* SPDX-License-Identifier: Apache-2.0 */
/* instrument.c - what translated code does in addition if it is asked for: it counts (engine_config.count), and it checks
   its own accesses (meson -Djit_check=true). Neither changes a register or a flag that is in use. */
#include "engine/soft/translate/translate.h"

/* ---- counts --------------------------------------------------------------- */

/* gs:[off] += a number that is filled in later. Returns the number's place. */
static u8 *emit_add(struct emit *e, u32 off)
{
    e_gs(e, 0x8b, T0, off, 8);
    e1(e, 0x4d), e1(e, 0x8d), e1(e, 0x92); /* lea r10, [r10 + disp32], which keeps the flags */
    u8 *at = e->p;
    e4(e, 0);
    e_gs(e, 0x89, T0, off, 8);
    return at;
}

static void fill_in(u8 *at, u32 x)
{
    if (at)
        copy_bytes(at, &x, sizeof x);
}

struct emit_counts emit_counts(struct emit *e, unsigned insns)
{
    if (e->end - e->p < 128) /* the space is full, or nearly so, and the translation fails */
        return (struct emit_counts){ 0 };
    fill_in(emit_add(e, OFF(stat.jit_blocks)), 1);
    fill_in(emit_add(e, OFF(stat.jit_insns)), insns);
    u8 *probes = emit_add(e, OFF(stat.jit_probes));
    return (struct emit_counts){ probes, emit_add(e, OFF(stat.jit_accesses)) };
}

void emit_counts_end(const struct emit_counts *c, u32 probes, u32 accesses)
{
    fill_in(c->probes, probes);
    fill_in(c->accesses, accesses);
}

/* ---- checks ---------------------------------------------------------------- */

/* These are saved around the call into C: the registers that C may use, and RBX, which keeps the stack pointer. */
static const u8 check_saved[] = { RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11, RBX };

static void check_access(struct soft_vcpu *v)
{
    const u64 at = v->tr.check_at, size = v->tr.check_size;
    const struct memory *m = v->vm->cfg.memory;
    for (u32 k = 0; k < m->npieces; k++) {
        const struct memory_piece *p = &m->piece[k];
        const u64 off = at - (u64)p->host;
        if (off < p->size && size <= p->size - off && !(p->rom && v->tr.check_write))
            return;
    }
    soft_jit_check_failed(v, at, size, v->tr.check_write);
}

void emit_check(struct emit *e, const struct jit *j, unsigned base, unsigned index, unsigned scale, s32 disp, unsigned size,
                bool write)
{
    if (!JIT_CHECK)
        return;
    e_gs(e, 0x89, RAX, OFF(tr.check_save), 8);
    e_lea(e, RAX, base, index, scale, disp);
    e_gs(e, 0x89, RAX, OFF(tr.check_at), 8);
    e_gs(e, 0x8b, RAX, OFF(tr.check_save), 8);
    e_gs_imm(e, OFF(tr.check_size), size);
    e_gs_imm(e, OFF(tr.check_write), write);
    e_call_rel(e, j->check);
}

/* The stub pushes nothing on the stack of translated calls, because that is emptied when it is full (fault_gate.c). */
void emit_check_stub(struct emit *e)
{
    const u32 save = OFF(tr.check_save), flags = save + 8 * (u32)ARRAY_SIZE(check_saved);
    _Static_assert(ARRAY_SIZE(check_saved) < ARRAY_SIZE(((struct soft_vcpu *)0)->tr.check_save), "room for the flags");
    if (!JIT_CHECK)
        return;
    for (unsigned k = 0; k < ARRAY_SIZE(check_saved); k++)
        e_gs(e, 0x89, check_saved[k], save + 8 * k, 8);
    e1(e, 0x9f);                           /* lahf */
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0); /* seto al */
    e_gs(e, 0x89, RAX, flags, 4);
    e_mov(e, RBX, RSP);
    e_gs(e, 0x8b, RDI, OFF(tr.self), 8);
    e_gs(e, 0x8b, RSP, OFF(tr.c_sp), 8);
    e_call(e, (u64)check_access);
    e_mov(e, RSP, RBX);
    e_gs(e, 0x8b, RAX, flags, 4);
    e1(e, 0x04), e1(e, 0x7f); /* add al, 7fh, which sets OF */
    e1(e, 0x9e);              /* sahf */
    for (unsigned k = 0; k < ARRAY_SIZE(check_saved); k++)
        e_gs(e, 0x8b, check_saved[k], save + 8 * k, 8);
    e1(e, 0xc3);
}
