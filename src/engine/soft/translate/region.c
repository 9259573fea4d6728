/* SPDX-License-Identifier: Apache-2.0 */
/* region.c - finds the blocks that are translated together, and the places where flags are needed. */
#include "engine/soft/native.h"
#include "engine/soft/translate/translate.h"

/* ---- discovery ------------------------------------------------------------ */

/* From now on a write to these bytes makes the page's code stale. False: its code has changed since the first such call. */
static bool watch(struct region *r, unsigned off, unsigned n)
{
    unsigned last = MIN(off + n - 1, 4095u);
    u64 lines = (~0ull >> (63 - ((last >> 6) - (off >> 6)))) << (off >> 6);
    if (!(lines & ~r->watched))
        return true;
    u32 gen = soft_code_watch(r->v, r->place | off, last - off + 1);
    if (r->watched && gen != r->gen)
        return false;
    r->gen = gen;
    r->watched |= lines;
    return true;
}

/* True if a jump to that address faults, because it is not canonical or beyond CS's limit. */
static bool unreachable(const struct region *r, u64 to)
{
    return (u64)((s64)(to << 16) >> 16) != to || to > r->v->jc_limit;
}

/* Careful code has no loops. True if it would get one by a jump at off. */
static bool leads_back(const struct region *r, unsigned off, u64 to)
{
    return r->careful && region_off(r, to) <= off;
}

/* Where a translation of this page and mode can be entered. */
static void find_known(struct region *r)
{
    const struct jit *j = r->v->jit;
    zero_bytes(r->known, sizeof r->known);
    if (r->whole || r->careful || r->crossing)
        return;
    for (const struct trans *x = j->page[(r->place >> 12) % JIT_PAGE_BUCKETS]; x; x = x->page_next) {
        if (!region_shares(r, x))
            continue;
        const unsigned off = region_off(r, x->rip);
        r->known[off / 64] |= 1ull << off % 64;
        for (u32 k = 0; k < x->ndoors; k++)
            r->known[x->door[k].off / 64] |= 1ull << x->door[k].off % 64;
    }
}

static bool is_known(const struct region *r, unsigned off)
{
    return r->known[off / 64] >> off % 64 & 1;
}

/* Decodes from off straight on, and notes in starts where jumps in the page lead. False: the code changed meanwhile. */
static bool decode_run(struct region *r, unsigned off, u16 *starts, unsigned *nstarts)
{
    for (;;) {
        if (off >= 4096 || r->at[off] >= 0 || r->ninsns == r->most || (r->ninsns && is_known(r, off)))
            return true;
        struct rinsn *i = &r->insn[r->ninsns];
        const unsigned avail = MIN(15u, 4096 - off);
        unsigned n = MIN(avail, 64 - off % 64); /* so that no line is watched into which the instruction does not reach */
        enum decode_result found;
        do {
            if (!watch(r, off, n))
                return false;
            found = decode(&i->d, r->page + off, n, r->v->bits, r->v->protected_mode);
        } while (found == DECODE_MORE && n < avail && (n = avail));
        if (found != DECODE_OK || region_rip(r, off) + i->d.len - 1 > r->v->jc_limit)
            return true;
        i->off = (u16)off;
        i->how = (u8)region_how(r, &i->d);
        r->at[off] = (s16)r->ninsns++;
        const unsigned next = off + i->d.len;
        u64 to;
        switch (i->how) {
        case HOW_CALL:
        case HOW_JMP:
        case HOW_JCC:
        case HOW_LOOP:
            to = region_target(r, i);
            if (unreachable(r, to)) {
                i->how = HOW_STOP;
                return true;
            }
            if (i->how == HOW_CALL)
                break;
            if (region_has(r, to) && *nstarts < REGION_BLOCKS && !leads_back(r, off, to))
                starts[(*nstarts)++] = (u16)region_off(r, to);
            if (i->how == HOW_JMP)
                return true;
            break;
        case HOW_CALL_IND:
            break;
        default:
            if (how_ends(i->how))
                return true;
        }
        if (how_ends(i->how)) {
            if (next < 4096 && *nstarts < REGION_BLOCKS)
                starts[(*nstarts)++] = (u16)next;
            return true;
        }
        off = next;
    }
}

/* True if the block at off belongs to the region. Code that hardly ever ran is not worth its translation. Code that has a
   translation is linked, unless that would cut a loop in two (whole). */
static bool belongs(struct region *r, unsigned off)
{
    return soft_block_ran(r->v, r->place | off) >= 1 && !is_known(r, off);
}

/* Makes a region of one instruction, which begins in the page and ends in the next one. */
static bool discover_crossing(struct region *r)
{
    struct rinsn *i = &r->insn[0];
    const unsigned off = region_off(r, r->rip), here = 4096 - off;
    u8 bytes[15];
    if (!watch(r, off, here) || soft_code_watch(r->v, r->crossing->place2, 15 - here) != r->crossing->gen2)
        return false;
    for (unsigned k = 0; k < 15; k++)
        bytes[k] = k < here ? r->page[off + k] : r->page2[k - here];
    if (decode(&i->d, bytes, 15, r->v->bits, r->v->protected_mode) != DECODE_OK || i->d.len <= here ||
        r->rip + i->d.len - 1 > r->v->jc_limit)
        return false;
    i->off = (u16)off;
    i->how = (u8)region_how(r, &i->d);
    /* As in decode_run: a jump that faults is left to its handler. */
    if ((i->how == HOW_JMP || i->how == HOW_JCC || i->how == HOW_LOOP || i->how == HOW_CALL) &&
        unreachable(r, region_target(r, i)))
        i->how = HOW_STOP;
    r->at[off] = 0;
    r->ninsns = 1;
    r->block[0].off = (u16)off;
    r->block_at[off] = 0;
    r->nblocks = 1;
    return true;
}

static bool discover(struct region *r)
{
    if (r->crossing)
        return discover_crossing(r);
    find_known(r);
    u16 starts[REGION_BLOCKS];
    unsigned n = 1, done = 0;
    starts[0] = (u16)region_off(r, r->rip);
    r->nblocks = 0;
    while (done < n) {
        unsigned off = starts[done++];
        if (r->block_at[off] >= 0 || r->nblocks == REGION_BLOCKS)
            continue;
        if (done > 1 && !belongs(r, off))
            continue;
        if (r->at[off] < 0 && !decode_run(r, off, starts, &n))
            return false;
        if (r->at[off] < 0)
            continue;
        r->block[r->nblocks].off = (u16)off;
        r->block_at[off] = (s16)r->nblocks++;
    }
    return r->nblocks && r->at[starts[0]] >= 0;
}

/* Cuts the instructions into blocks at the places that are jumped to. */
static void cut(struct region *r)
{
    unsigned used = 0;
    for (unsigned b = 0; b < r->nblocks; b++) {
        struct rblock *k = &r->block[b];
        unsigned off = k->off;
        k->first = (u16)used;
        k->n = 0;
        k->next = k->taken = -1;
        k->header = false;
        for (;;) {
            const s16 at = r->at[off];
            const struct rinsn *i = &r->insn[at];
            r->order[used++] = (u16)at;
            k->n++;
            off += i->d.len;
            if (how_ends(i->how)) {
                const u64 to = region_target(r, i);
                if ((i->how == HOW_JMP || i->how == HOW_JCC || i->how == HOW_LOOP) && region_has(r, to) &&
                    !leads_back(r, i->off, to))
                    k->taken = r->block_at[region_off(r, to)];
                if (i->how != HOW_JMP && i->how != HOW_JMP_IND && i->how != HOW_RET && i->how != HOW_STOP &&
                    off < 4096)
                    k->next = r->block_at[off];
                break;
            }
            if (off >= 4096)
                break;
            if (r->block_at[off] >= 0) {
                k->next = r->block_at[off];
                break;
            }
            if (r->at[off] < 0 || used >= REGION_INSNS) /* each later block still gets one, for which order has room */
                break;
        }
        k->end = (u16)off;
    }
    for (unsigned b = 0; b < r->nblocks; b++) {
        const struct rblock *k = &r->block[b];
        if (k->taken >= 0 && r->block[k->taken].off < k->end)
            r->block[k->taken].header = true;
        if (k->next >= 0 && r->block[k->next].off < k->end) /* this cannot happen, but no loop may be without a poll */
            r->block[k->next].header = true;
    }
}

/* ---- flags ---------------------------------------------------------------- */

static void flags_of(const struct rinsn *i, u32 *read, u32 *kill)
{
    const struct opdesc *o = i->d.desc;
    *read = o->eflags_read & RFLAGS_ARITH;
    *kill = o->eflags_write & RFLAGS_ARITH;
    /* A shift by 0 changes no flags, so one by CL, which may be 0, must be given the flags that there were. */
    const bool by_one = i->d.map == 0 && (i->d.opcode == 0xd0 || i->d.opcode == 0xd1);
    const bool moves = by_one || (i->d.imm_off && (i->d.imm & (i->d.osize == 8 ? 63 : 31)));
    switch (o->mnemonic) {
    case M_SHL:
    case M_SHR:
    case M_SAR:
    case M_SHLD:
    case M_SHRD:
        *read = moves ? 0 : RFLAGS_ARITH;
        *kill = moves ? RFLAGS_ARITH : 0;
        break;
    case M_ROL:
    case M_ROR:
        *read = moves ? 0 : RFLAGS_ARITH;
        *kill = moves ? RFLAGS_CF | RFLAGS_OF : 0;
        break;
    case M_RCL:
    case M_RCR:
        *read = RFLAGS_ARITH;
        *kill = 0;
        break;
    }
    switch (i->how) {
    case HOW_FALLBACK:
    case HOW_STOP:
    case HOW_PUSHF:
        *read = RFLAGS_ARITH;
        *kill = 0;
        break;
    case HOW_POPF:
        *read = RFLAGS_ARITH; /* a slow path needs them */
        break;
    }
}

static u32 through_block(struct region *r, const struct rblock *k, u32 live, bool store)
{
    for (unsigned n = k->n; n-- > 0;) {
        u32 read, kill;
        flags_of(&r->insn[r->order[k->first + n]], &read, &kill);
        live = (live & ~kill) | read;
        if (store)
            r->live[k->first + n] = live != 0;
    }
    return live;
}

/* Finds for each instruction whether flags are needed from there on. Where the region is left, all of them are. */
static void liveness(struct region *r)
{
    for (unsigned b = 0; b < r->nblocks; b++)
        r->block[b].live_in = 0;
    for (bool again = true; again;) {
        again = false;
        for (unsigned b = r->nblocks; b-- > 0;) {
            struct rblock *k = &r->block[b];
            const struct rinsn *last = &r->insn[r->order[k->first + k->n - 1]];
            u32 out = 0;
            switch (last->how) {
            case HOW_JCC:
            case HOW_LOOP:
                out = (k->next < 0 ? RFLAGS_ARITH : r->block[k->next].live_in) |
                      (k->taken < 0 ? RFLAGS_ARITH : r->block[k->taken].live_in);
                break;
            case HOW_JMP: out = k->taken < 0 ? RFLAGS_ARITH : r->block[k->taken].live_in; break;
            default:
                out = how_ends(last->how) || k->next < 0 ? RFLAGS_ARITH : r->block[k->next].live_in;
            }
            k->live_out = out;
            const u32 in = through_block(r, k, out, false);
            if (in != k->live_in) {
                k->live_in = in;
                again = true;
            }
        }
    }
    for (unsigned b = 0; b < r->nblocks; b++)
        through_block(r, &r->block[b], r->block[b].live_out, true);
}

void region_empty(struct region *r, struct soft_vcpu *v, const u8 *page)
{
    /* clears what the last region left behind */
    for (unsigned n = 0; n < r->ninsns; n++)
        r->at[r->insn[n].off] = -1;
    for (unsigned n = 0; n < r->nblocks; n++)
        r->block_at[r->block[n].off] = -1;
    r->ninsns = r->nblocks = 0;
    r->v = v;
    r->page = page;
    r->watched = 0;
    r->key = jit_key(v) | (r->reloc ? JIT_RELOC : 0) | (r->careful ? JIT_CAREFUL : 0);
    r->cs = jit_cs(v);
    r->user = v->cpl == 3;
    r->segmented = r->key & JIT_SEGMENTED;
    r->ctx = v->tlb_ctx;
    r->vectors = !(v->fpu_deny & (DENY_X87 | DENY_MMX | DENY_SSE | DENY_AVX));
    r->avx512 = !(v->fpu_deny & DENY_AVX512);
}

bool region_find(struct region *r, struct soft_vcpu *v, const u8 *page)
{
    region_empty(r, v, page);
    if (!discover(r))
        return false;
    cut(r);
    liveness(r);
    return true;
}
