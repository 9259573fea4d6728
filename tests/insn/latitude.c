/* SPDX-License-Identifier: Apache-2.0 */
/*
 * latitude.c - where processors are free, each case with its reason. Which of the two operands of MOVS and CMPS is touched
 * first is not here: host_run says of both how they fault, and either will do.
 */
#include "trial.h"

struct latitude latitude_at(const struct trial *t, const struct sequence *q, const struct outcome *o)
{
    const unsigned k = trial_instructions(t, q, o->s.rip);
    struct latitude l = {0};
    struct decoded d;
    if (k >= q->n || q->insn[k].data || decode(&d, q->insn[k].bytes, 15, q->bits, true) != DECODE_OK)
        return l;
    const bool string = d.desc->cls == OPC_STRING;
    switch (d.desc->mnemonic) {
    case M_INSB: /* AMD checks the right to I/O for a repeat count of zero too */
    case M_INSW:
    case M_INSD:
    case M_OUTSB:
    case M_OUTSW:
    case M_OUTSD: l.nothing = d.rep; break;
    /* A repeated comparison that faults shows the flags of before it (SDM vol. 2, REP), or those of the last element. */
    case M_CMPSB:
    case M_CMPSW:
    case M_CMPSD:
    case M_CMPSQ:
    case M_SCASB:
    case M_SCASW:
    case M_SCASD:
    case M_SCASQ: l.no_arith = string && d.rep; break;
    /* Whether an operand that stays as it is must be writable is the processor's. */
    case M_ARPL: l.nothing = d.has_mem; break;
    /* Legacy SHA instructions take any address on AMD's processors, Intel's want it aligned. */
    case M_SHA1MSG1:
    case M_SHA1MSG2:
    case M_SHA1NEXTE:
    case M_SHA1RNDS4:
    case M_SHA256MSG1:
    case M_SHA256MSG2:
    case M_SHA256RNDS2: l.nothing = d.has_mem && o->f.vector == VEC_GP; break;
    /* What of their pushes was done before one of their accesses faulted. */
    case M_ENTER:
    case M_PUSHA:
    case M_PUSHAD: l.below = 33 * 8; break;
    default: break;
    }
    /* MASKMOVQ, MASKMOVDQU: whether bytes that are not selected may fault is the processor's (SDM vol. 2, MASKMOVDQU). */
    if (d.desc->flags & OPF_MASKED_MEM && d.desc->flags & OPF_IMPLICIT_MEM)
        l.nothing = true;
    if (d.desc->flags & OPF_MASKED_MEM)
        l.cr2_page = l.masked = true;
    /* A fault comes when all elements below the one that faults are done; of those above any may be (SDM vol. 2, VPGATHERDD,
       VPSCATTERDD). */
    if (d.desc->flags & OPF_VSIB) {
        l.no_vectors = l.no_opmask = true;
        l.no_data = d.desc->flags & OPF_MEM_WRITE;
    }
    if (d.desc->mem_size > 64) /* FXSAVE and its like */
        l.cr2_page = true;
    l.no_align = d.desc->mem_size > 8 || d.desc->flags & OPF_MASKED_MEM || d.lock || d.desc->mnemonic == M_XCHG ||
        d.desc->mnemonic == M_ENTER;
    l.ten_bytes = d.desc->mem_size == 10;
    l.aligned = d.desc->cls >= OPC_MMX;
    return l;
}

bool latitude_covers(const struct trial *t, const struct sequence *q, const struct latitude *l)
{
    const struct outcome *h = &t->host, *g = &t->engine;
    if (l->nothing && h->f.vector != VEC_BP)
        return true;
    /* Alignment checks of operands over 8 bytes, and their order with other faults (SDM vol. 3, 6.15, #AC; vol. 2, MOVUPS). */
    const struct latitude lg = latitude_at(t, q, g);
    if ((h->f.vector == VEC_AC && l->no_align) || (g->f.vector == VEC_AC && lg.no_align))
        return true;
    if ((h->f.vector == VEC_AC || g->f.vector == VEC_AC) && h->s.rip == g->s.rip && h->f.vector >= VEC_SS && g->f.vector >= VEC_SS)
        return true;
    /* Between two elements of a gather or scatter a trap may be taken (SDM vol. 2, VPGATHERDD). */
    if (h->f.vector == VEC_DB && l->no_vectors && h->s.rip == g->s.rip)
        return true;
    /* A segment's limit and an element that the mask leaves out. */
    if (q->bits != 64 && (g->f.vector == VEC_SS || g->f.vector == VEC_GP) && lg.masked)
        return true;
    /* Misaligned and beyond the stack segment's limit: #GP or #SS. */
    if (q->bits != 64 && h->f.vector == VEC_PF && l->ten_bytes && h->s.rip == g->s.rip) /* split into 8 and 2 */
        return true;
    if (q->bits != 64 && h->f.vector == VEC_GP && g->f.vector == VEC_SS && h->s.rip == g->s.rip && l->aligned)
        return true;
    /* A program's jump went to data, or into an instruction: a far return, say, that finds two reasons. */
    if (q->flow && h->s.rip == g->s.rip && h->f.vector != g->f.vector &&
        h->s.rip - q->init.rip != t->offsets[trial_instructions(t, q, h->s.rip)])
        return true;
    return false;
}
