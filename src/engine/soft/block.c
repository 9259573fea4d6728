/* SPDX-License-Identifier: Apache-2.0 */
/* block.c - the cache of decoded blocks; see block.h for when one is valid. */
#include "engine/soft/block.h"

#include "engine/soft/code_gate.h"
#include "engine/soft/translate/translate.h"

enum { HASH_BITS = 14, ARENA_SIZE = 32 << 20 };

struct soft_code {
    u8 *arena;
    u64 used;
    struct block *hash[1 << HASH_BITS];
};

static unsigned hash_of(u64 gpa, u32 key)
{
    return (unsigned)(((gpa ^ (u64)key << 40) * 0x9e3779b97f4a7c15ull) >> (64 - HASH_BITS));
}

u64 soft_code_arena_size(void)
{
    return ARENA_SIZE;
}
u64 soft_code_struct_size(void)
{
    return sizeof(struct soft_code);
}
void soft_code_attach(struct soft_vcpu *v, void *zeroed, u8 *arena)
{
    v->code = zeroed;
    v->code->arena = arena;
}

u8 *soft_code_arena(const struct soft_vcpu *v)
{
    return v->code->arena;
}

void soft_code_flush(struct soft_vcpu *v)
{
    zero_bytes(v->code->hash, sizeof v->code->hash);
    v->code->used = 0;
    v->jc_gen++;
    soft_update_jc_key(v);
    v->block = NULL;
    if (v->jit)
        soft_jit_flush(v);
}

/* ---- the watch ---------------------------------------------------------- */

static u64 lines_of(u64 gpa, u64 n)
{
    unsigned first = (gpa & 0xfff) >> 6, last = (unsigned)(((gpa & 0xfff) + n - 1) >> 6);
    return (~0ull >> (63 - (last - first))) << first;
}

void soft_code_written_slow(struct soft_vcpu *v, u64 gpa, u64 n)
{
    u64 page = gpa >> GUEST_PAGE_SHIFT;
    if (!(__atomic_load_n(&v->vm->code_lines[page], __ATOMIC_SEQ_CST) & lines_of(gpa, n)))
        return;
    /* All of the page's blocks are stale from here; lines first, so that a decoder that sets one after sees the new
       generation. */
    __atomic_store_n(&v->vm->code_lines[page], 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&v->vm->code_gen[page], 1, __ATOMIC_SEQ_CST);
    for (u32 k = 0; k < v->vm->cfg.cpus; k++) {
        struct soft_vcpu *o = __atomic_load_n(&v->vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (!o || !o->jit)
            continue;
        u32 at = __atomic_fetch_add(&o->retire_count, 1, __ATOMIC_SEQ_CST);
        if (at < ARRAY_SIZE(o->retire_page))
            __atomic_store_n(&o->retire_page[at], page + 1, __ATOMIC_SEQ_CST);
        /* Ourselves we only ask to leave the translation: a repeated string store that overwrites its own code goes on
           to its end, as on hardware, where a request would interrupt it and fetch it anew. */
        if (o == v)
            v->poll = 1;
        else
            soft_request(o, REQ_RETIRE);
    }
}

bool soft_code_hits_block(const struct soft_vcpu *v, u64 gpa, u64 n)
{
    const struct block *b = v->block;
    if (!b)
        return false;
    if (gpa < b->gpa + b->bytes && b->gpa < gpa + n)
        return true;
    return b->gpa2 != ~0ull && gpa >> GUEST_PAGE_SHIFT == b->gpa2 >> GUEST_PAGE_SHIFT;
}

/* From here on a write to the page's lines is noticed by every processor. Returns the generation to decode under. */
static u32 watch(struct soft_vcpu *v, u64 gpa, u64 n)
{
    u64 page = gpa >> GUEST_PAGE_SHIFT;
    u64 old = __atomic_fetch_or(&v->vm->code_lines[page], lines_of(gpa, n), __ATOMIC_SEQ_CST);
    if (!old) {
        soft_protect_page(v, gpa & ~0xfffull);
        soft_ask_others(v, REQ_FLUSH);
    }
    return __atomic_load_n(&v->vm->code_gen[page], __ATOMIC_SEQ_CST);
}

/* ---- decoding ----------------------------------------------------------- */

/* Code outside RAM (a ROM that is no memory, registers): nothing here; reads as all-ones would be #UD in the end. */
static _Noreturn void no_memory(struct soft_vcpu *v)
{
    soft_raise(v, NULL, VEC_UD);
}

/* The instruction at lin whose bytes end in another page: fetches both. */
static enum decode_result decode_crossing(struct soft_vcpu *v, struct decoded *d, const u8 *p, unsigned here, u64 lin,
                                          u64 *gpa2)
{
    u8 bytes[16];
    copy_bytes(bytes, p, here);
    u64 gpa;
    const u8 *q = soft_fetch_page(v, (lin & ~0xfffull) + 4096, &gpa);
    if (!q)
        no_memory(v);
    *gpa2 = gpa;
    copy_bytes(bytes + here, q, 15 - here);
    return decode(d, bytes, 15, v->bits, v->protected_mode);
}

static void lower_end(struct insn *i, u16 off)
{
    i->fn = op_end;
    i->off = off;
    i->len = 0;
}

static void lower_ud(struct insn *i, u16 off)
{
    i->fn = op_ud;
    i->off = off;
    i->len = 0;
}

static struct block *block_decode(struct soft_vcpu *v, u64 lin, const u8 *host, u64 gpa, u32 key)
{
    struct soft_code *c = v->code;
    if (c->used + sizeof(struct block) + (BLOCK_MAX_INSNS + 1) * sizeof(struct insn) > ARENA_SIZE)
        soft_code_flush(v);
    struct block *b = (struct block *)(c->arena + c->used);
    const unsigned offset = lin & 0xfff, limit = 4096 - offset;
    const unsigned most = key & KEY_SINGLE ? 1 : BLOCK_MAX_INSNS;
    b->gpa = gpa | offset;
    b->gpa2 = ~0ull;
    b->key = key;
    b->n = 0;
    b->gen = watch(v, b->gpa, MIN(limit, key & KEY_SINGLE ? 16u : 256u));
    b->gen2 = 0;
    b->hits = 0;
    b->untranslatable = false;
    b->trans = NULL;
    const u8 *p = host + offset;
    unsigned at = 0;
    while (b->n < most && at < limit && at < 240) {
        struct decoded d;
        struct insn *i = &b->insn[b->n];
        unsigned avail = limit - at;
        enum decode_result r = decode(&d, p + at, MIN(avail, 15u), v->bits, v->protected_mode);
        if (r == DECODE_MORE && avail < 15) {
            if (b->n)
                break; /* it gets a block of its own */
            u64 gpa2;
            r = decode_crossing(v, &d, p, avail, lin, &gpa2);
            if (r == DECODE_OK && d.len > avail) {
                b->gpa2 = gpa2;
                b->gen2 = watch(v, gpa2, d.len - avail);
                /* Again, now that a change of either page would be noticed. */
                r = decode_crossing(v, &d, p, avail, lin, &gpa2);
            }
        }
        if (r == DECODE_TOO_LONG) {
            if (b->n)
                break;
            soft_raise_err(v, NULL, VEC_GP, 0);
        }
        if (r != DECODE_OK) {
            if (b->n)
                break;
            lower_ud(i, (u16)at);
            b->n = 1;
            at++;
            break;
        }
        zero_bytes(i, sizeof *i);
        i->off = (u16)at;
        soft_lower(v, &d, i);
        if (d.rip_relative)
            i->disp += at + d.len; /* from the block's start */
        b->n++;
        at += d.len;
        if (d.desc->flags & OPF_BLOCK_END) {
            break;
        }
    }
    b->bytes = (u16)at;
    lower_end(&b->insn[b->n], (u16)at);
    c->used += sizeof *b + (b->n + 1) * sizeof(struct insn);
    c->used = align_up(c->used, 64);
    unsigned h = hash_of(b->gpa, key);
    b->next = c->hash[h];
    c->hash[h] = b;
    return b;
}

static bool still_valid(struct soft_vcpu *v, const struct block *b, u64 lin)
{
    if (!soft_block_current(v, b))
        return false;
    if (b->gpa2 == ~0ull)
        return true;
    u64 gpa2;
    if (!soft_fetch_page(v, (lin & ~0xfffull) + 4096, &gpa2))
        return false;
    return gpa2 == b->gpa2 &&
           b->gen2 == __atomic_load_n(&v->vm->code_gen[gpa2 >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED);
}

struct block *soft_block_find(struct soft_vcpu *v, bool single)
{
    const struct cpu_seg *cs = &v->s.seg[CS];
    u64 lin = v->rip, gpa;
    if (v->bits != 64) {
        if (unlikely(v->rip > cs->limit))
            soft_raise_err(v, NULL, VEC_GP, 0);
        lin = (u32)(v->rip + cs->base);
    }
    const u8 *host = soft_fetch_page(v, lin, &gpa);
    if (!host)
        no_memory(v);
    for (;;) {
        u32 key = soft_code_key(v) | (single ? KEY_SINGLE : 0);
        struct block *b, **link = &v->code->hash[hash_of(gpa | (lin & 0xfff), key)];
        while ((b = *link) != NULL) {
            if (b->gpa == (gpa | (lin & 0xfff)) && b->key == key) {
                if (still_valid(v, b, lin))
                    break;
                *link = b->next; /* stale: out of the way */
                continue;
            }
            link = &b->next;
        }
        if (!b)
            b = block_decode(v, lin, host, gpa, key);
        if (v->bits == 64 || likely(v->rip + b->bytes - 1 <= cs->limit))
            return b;
        if (single) /* the instruction itself passes the limit of CS */
            soft_raise_err(v, NULL, VEC_GP, 0);
        single = true;
    }
}
