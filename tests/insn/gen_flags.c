/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_flags.c - which flags have no value after an instruction, and which are still read.
 */
#include "gen.h"

#include <string.h>

u32 gen_undefined_after(const struct decoded *d, u32 undefined, bool certain)
{
    const struct opdesc *o = d->desc;
    u32 undef = o->eflags_undef;
    if (certain)
        undefined &= ~(o->eflags_write & ~o->eflags_read);
    /* The carry out of a shift by more than the operand's width (SDM vol. 2, SAL/SAR/SHL/SHR; SHLD). */
    if ((o->mnemonic == M_SHL || o->mnemonic == M_SHR || o->mnemonic == M_SHLD || o->mnemonic == M_SHRD) &&
        (o->imm1 == 0 || (d->imm & 31) >= 8) && (d->opcode & 0xfe) != 0xd0)
        undef |= RFLAGS_CF;
    return undefined | undef;
}

/*
 * Flags that may stay as they were (a shift by a count of 0) count as read: staying undefined is no harm.
 */
u32 gen_flags_needed(const struct opdesc *o)
{
    bool stays = (o->eflags_write & ~o->eflags_read) == 0 && o->eflags_write &&
        (o->mnemonic == M_ROL || o->mnemonic == M_ROR || o->mnemonic == M_SHL || o->mnemonic == M_SHR || o->mnemonic == M_SAR ||
        o->mnemonic == M_SHLD || o->mnemonic == M_SHRD);
    return stays ? 0 : o->eflags_read & ~(o->eflags_write & o->eflags_undef);
}

u32 gen_undefined_step(const u8 *bytes, unsigned len, unsigned bits, u32 undefined, bool *reads)
{
    struct decoded d;
    u8 all[32] = {0};

    memcpy(all, bytes, MIN(len, 15u));
    *reads = false;
    if (decode(&d, all, 15, bits, true) != DECODE_OK)
        return undefined;
    *reads = gen_flags_needed(d.desc) & undefined;
    return gen_undefined_after(&d, undefined, true);
}

bool gen_reads_undefined(const struct build *b, const u8 *bytes, unsigned len)
{
    struct decoded d;
    u8 all[32] = {0};
    if (len)
        memcpy(all, bytes, len);
    return b->undefined && len && decode(&d, all, 15, b->q->bits, true) == DECODE_OK && gen_flags_needed(d.desc) & b->undefined;
}

u32 gen_undefined_flags(const struct sequence *q, unsigned k)
{
    u32 undefined = 0;
    unsigned skipping = 0;
    for (unsigned i = 0; i < k && i < q->n; i++) {
        struct decoded d;
        if (q->insn[i].label) /* whoever comes here has defined them */
            undefined = 0;
        if (!q->insn[i].len || q->insn[i].data)
            continue;
        if (decode(&d, q->insn[i].bytes, 15, q->bits, true) != DECODE_OK)
            continue;
        undefined = gen_undefined_after(&d, undefined, !skipping);
        if (skipping)
            skipping--;
        if ((q->insn[i].fix == FIX_SKIP || q->insn[i].fix == FIX_SKIP32) && q->insn[i].skip > skipping)
            skipping = q->insn[i].skip;
    }
    return undefined;
}

bool gen_flags_defined(const struct sequence *q)
{
    for (unsigned i = 0; i < q->n; i++) {
        struct decoded d;
        u32 undefined = gen_undefined_flags(q, i);
        if (undefined && q->insn[i].len && !q->insn[i].data && decode(&d, q->insn[i].bytes, 15, q->bits, true) == DECODE_OK &&
            gen_flags_needed(d.desc) & undefined)
            return false;
    }
    return true;
}

u32 gen_live_flags(const struct sequence *q, unsigned offset)
{
    /* By the offset of each instruction: what it reads and surely writes, where it leads. Beyond: everything is live. */
    enum { ALL = RFLAGS_ARITH, NOWHERE = 0xffff };
    static struct node {
        bool starts;
        u32 use, kill, live;
        unsigned next[2];
    } node[CODE_SIZE];
    static u8 code[CODE_SIZE];
    static unsigned offsets[SEQ_MAX + 1];
    unsigned len = gen_assemble(q, code, offsets);
    memset(node, 0, sizeof(node));
    for (unsigned i = 0; i < q->n; i++) {
        struct decoded d;
        for (unsigned o = offsets[i], end = o + q->insn[i].len; o < end && !q->insn[i].data; o += d.len) {
            if (decode(&d, code + o, 15, q->bits, true) != DECODE_OK)
                break;
            struct node *n = &node[o];
            unsigned after = o + d.len, relative = (unsigned)(after + (u32)d.imm);
            *n = (struct node){.starts = true, .use = d.desc->eflags_read & ALL,
                .kill = d.desc->eflags_write & ~d.desc->eflags_read & ALL, .next = {after, NOWHERE}};
            /* By a count that is not 0 a shift reads none of the flags it writes. */
            const bool counted = (d.map == 0 && (d.opcode & 0xfe) == 0xd0) || (d.imm_off && (d.imm & (d.osize == 8 ? 63 : 31)));
            const unsigned m = d.desc->mnemonic;
            if (counted && (m == M_SHL || m == M_SHR || m == M_SAR || m == M_SHLD || m == M_SHRD))
                n->use = 0, n->kill = ALL;
            else if (counted && (m == M_ROL || m == M_ROR))
                n->use = 0, n->kill = RFLAGS_CF | RFLAGS_OF;
            if (d.map == 0 ? (d.opcode & 0xf0) == 0x70 || (d.opcode & 0xfc) == 0xe0 : d.map == 1 && (d.opcode & 0xf0) == 0x80)
                n->next[1] = relative;
            else if (d.map == 0 && (d.opcode == 0xeb || d.opcode == 0xe9 || d.opcode == 0xe8))
                n->next[0] = relative;
            else if (d.desc->flags & OPF_BLOCK_END)
                n->use = ALL;
            if (d.desc->mnemonic == M_PUSHF || d.desc->mnemonic == M_PUSHFQ || d.desc->mnemonic == M_PUSHFD)
                n->use = ALL;
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (unsigned o = len; o-- > 0;) {
            struct node *n = &node[o];
            u32 live = 0;
            for (unsigned k = 0; k < 2 && n->starts; k++)
                if (n->next[k] != NOWHERE)
                    live |= n->next[k] < len && node[n->next[k]].starts ? node[n->next[k]].live : ALL;
            live = n->use | (live & ~n->kill);
            if (n->starts && live != n->live) {
                n->live = live;
                changed = true;
            }
        }
    }
    if (offset >= len)
        return ALL;
    return node[offset].starts ? node[offset].live : 0; /* astray, within an instruction: not known */
}
