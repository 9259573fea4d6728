/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.c - the cache of decoded blocks; see blocks.h for when one is valid.
 *
 * Blocks lie in a ring of parts. When the newest part is full, the oldest is dropped and filled anew. Code that runs much
 * is decoded again soon. The rest, which is most of the code that a guest runs at all, ran a few times and is not missed.
 */
#include "engine/soft/blocks.h"

#include "engine/soft/code_gate.h"
#include "engine/soft/translate/translate.h"

/* The arena is this large beside a translator, too: the code that a compiler runs a few times does not fit into an eighth
   of it. */
enum { ARENA_PARTS = 4, ARENA = 16 << 20, BLOCK_USUAL = 256 /* bytes */, RAN_BITS = 18 };

struct soft_code {
    u8 *arena;
    u64 size;
    u64 used, end;  /* of the part that is being filled: where its next block goes, and where the part ends */
    u64 filled[ARENA_PARTS]; /* where the last block of each other part ends */
    u32 hash_size;  /* a power of 2 */
    /* how often a block that was dropped had run, by a hash of its place: code that a program runs a few times each minute
       is translated in the end, too */
    u8 ran[1 << RAN_BITS];
    struct block *hash[ARENA / BLOCK_USUAL];
};

static unsigned hash_of(const struct soft_code *c, u64 place, u32 key)
{
    return (unsigned)(((place ^ (u64)key << 40) * 0x9e3779b97f4a7c15ull) >> 32) & (c->hash_size - 1);
}

static u8 *ran(struct soft_code *c, u64 place)
{
    return &c->ran[(place * 0x9e3779b97f4a7c15ull) >> (64 - RAN_BITS)];
}

u64 soft_code_arena_size(const struct soft_vcpu *v)
{
    return ARENA;
}
u64 soft_code_struct_size(void)
{
    return sizeof(struct soft_code);
}
void soft_code_attach(struct soft_vcpu *v, void *zeroed, u8 *arena)
{
    v->code = zeroed;
    v->code->arena = arena;
    v->code->size = soft_code_arena_size(v);
    v->code->end = v->code->size / ARENA_PARTS;
    v->code->hash_size = (u32)(v->code->size / BLOCK_USUAL);
}

u8 *soft_code_arena(const struct soft_vcpu *v)
{
    return v->code->arena;
}

void soft_code_flush(struct soft_vcpu *v)
{
    zero_bytes(v->code->hash, v->code->hash_size * sizeof v->code->hash[0]);
    v->code->used = 0;
    v->code->end = v->code->size / ARENA_PARTS;
    zero_bytes(v->code->filled, sizeof v->code->filled);
    soft_forget_code(v);
    v->block = NULL;
    soft_jit_forget_lowered(v);
}

/* Ends the block like op_end. It takes the place of an instruction that would have come next. */
static void op_cut(struct soft_vcpu *v, const struct insn *i)
{
    v->rip = RIP_START(v, i);
}

void soft_map_changed(struct soft_vcpu *v)
{
    struct block *b = v->block;
    __atomic_fetch_and(&v->request, ~(u32)REQ_REMAP, __ATOMIC_SEQ_CST);
    soft_flush_tlb(v);
    if (!b || (u64)b - (u64)v->code->arena >= v->code->size) /* b is the translator's, which sees that jc_key changed */
        return;
    for (unsigned k = 0; k <= b->n; k++)
        b->insn[k].fn = op_cut;
    b->gen--; /* stale */
}

/* Bytes of the arena for a block of n instructions. */
static u64 room_of(unsigned n)
{
    return align_up(sizeof(struct block) + (n + 1) * sizeof(struct insn), 64);
}

/* Goes on to the next part of the arena, and drops the blocks that were in it. Only between blocks. */
static void next_part(struct soft_vcpu *v)
{
    struct soft_code *c = v->code;
    const u64 each = c->size / ARENA_PARTS;
    c->filled[c->end / each - 1] = c->used;
    if (c->end == c->size)
        c->end = 0;
    c->used = c->end;
    c->end += each;
    const u64 first = (u64)c->arena + c->used, n = each, last = (u64)c->arena + c->filled[c->used / each];
    for (u64 at = first; at < last;) {
        struct block *b = (struct block *)at;
        for (struct block **link = &c->hash[hash_of(c, b->place, b->key)]; *link; link = &(*link)->next)
            if (*link == b) {
                *link = b->next;
                break;
            }
        *ran(c, b->place) = (u8)(soft_block_current(v, b) ? MIN(b->hits, 255) : 0);
        at += room_of(b->n);
    }
    for (unsigned k = 0; k < JC_SIZE; k++)
        if ((u64)v->jc[k].block - first < n)
            v->jc[k] = (struct jc_entry){ 0 };
    v->block = NULL;
}

/* ---- the watch ---------------------------------------------------------- */

static u64 lines_of(u64 place, u64 n)
{
    unsigned first = (place & 0xfff) >> 6, last = (unsigned)(((place & 0xfff) + n - 1) >> 6);
    return (~0ull >> (63 - (last - first))) << first;
}

/* n bytes at place (in one page) were written, by a processor or a device. Returns whether there was code. Any thread. */
static bool code_overwritten(struct soft_vm *vm, u64 place, u64 n)
{
    const u64 page = place >> GUEST_PAGE_SHIFT;
    if (!(__atomic_load_n(&vm->code_lines[page], __ATOMIC_SEQ_CST) & lines_of(place, n)))
        return false;
    /* First the translations of the old bytes are retired: no processor finds one or makes one any more. All processors
       share them, and one that has decoded the new bytes must not come to the old ones again. Then the new generation
       makes all blocks of the page stale. The lines are cleared before that. So a decoder that sets a line after the
       generation has changed does not lose it again, and sees the new generation. */
    if (vm->jit)
        soft_jit_retire_page(vm, page);
    __atomic_store_n(&vm->code_lines[page], 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&vm->code_gen[page], 1, __ATOMIC_SEQ_CST);
    if (vm->direct_page && __atomic_exchange_n(&vm->direct_page[page], 0, __ATOMIC_SEQ_CST))
        __atomic_fetch_add(&vm->direct_seq, 1, __ATOMIC_SEQ_CST);
    if (!vm->jit)
        return true;
    soft_jit_page_retired(vm);
    /* A processor that is in such a translation must leave it. This is not a request: a repeated string store that
       overwrites its own code goes on to its end, as on hardware. A request would interrupt it, and it would be fetched
       anew. */
    for (u32 k = 0; k < vm->cfg.cpus; k++) {
        struct soft_vcpu *o = __atomic_load_n(&vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o)
            soft_poll(o);
    }
    return true;
}

void soft_code_written_slow(struct soft_vcpu *v, u64 place, u64 n)
{
    v->stat.overwritten += code_overwritten(v->vm, place, n);
}

void soft_code_written_by_device(struct soft_vm *vm, u64 place, u64 n)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* as in soft_code_stored */
    for (u64 here; n; place += here, n -= here) {
        const u64 page = place >> GUEST_PAGE_SHIFT;
        here = MIN(n, GUEST_PAGE_SIZE - (place & (GUEST_PAGE_SIZE - 1)));
        if (page < vm->pages && __atomic_load_n(&vm->code_lines[page], __ATOMIC_RELAXED))
            code_overwritten(vm, place, here);
    }
}

bool soft_code_hits_block(const struct soft_vcpu *v, u64 place, u64 n)
{
    const struct block *b = v->block;
    if (!b)
        return false;
    if (place < b->place + b->bytes && b->place < place + n)
        return true;
    return b->place2 != ~0ull && place >> GUEST_PAGE_SHIFT == b->place2 >> GUEST_PAGE_SHIFT;
}

u32 soft_code_watch(struct soft_vcpu *v, u64 place, u64 n)
{
    struct soft_vm *vm = v->vm;
    const u64 page = place >> GUEST_PAGE_SHIFT, wanted = lines_of(place, n);
    u32 *asking = &vm->code_asking[page % ARRAY_SIZE(vm->code_asking)];
    for (;;) {
        u64 old = __atomic_load_n(&vm->code_lines[page], __ATOMIC_SEQ_CST);
        const bool sets = (old & wanted) != wanted;
        if (sets) {
            __atomic_fetch_add(asking, 1, __ATOMIC_SEQ_CST);
            old = __atomic_fetch_or(&vm->code_lines[page], wanted, __ATOMIC_SEQ_CST);
        }
        /* Lines that were set already protect nothing until the other processors know of them: the processor that set
           them may not have asked the others yet. */
        const bool early = __atomic_load_n(asking, __ATOMIC_SEQ_CST) > sets;
        if (!old || early)
            soft_ask_others(v, REQ_FLUSH);
        if (sets)
            __atomic_fetch_sub(asking, 1, __ATOMIC_SEQ_CST);
        /* Our own entry may be open, and other processors may have to learn what we wrote through it. In that case the
           request closes it. */
        if (early)
            soft_request(v, REQ_FLUSH);
        else if (!old && !(__atomic_load_n(&v->request, __ATOMIC_SEQ_CST) & REQ_FLUSH)) /* a page with lines is not open */
            soft_protect_page(v, place & ~0xfffull);
        const u32 gen = __atomic_load_n(&vm->code_gen[page], __ATOMIC_SEQ_CST);
        /* If a write has cleared our lines since, they are set again. Otherwise no later write would be noticed. */
        if ((__atomic_load_n(&vm->code_lines[page], __ATOMIC_SEQ_CST) & wanted) == wanted)
            return gen;
    }
}

/* ---- decoding ----------------------------------------------------------- */

/* The code is not in memory (a ROM that is no memory, registers), and the engine does not run it. Were it read as all
   ones, that would be #UD in the end. */
static _Noreturn void no_memory(struct soft_vcpu *v)
{
    soft_raise(v, NULL, VEC_UD);
}

/* Decodes the instruction at lin, whose bytes reach into the next page. Fetches from both pages. */
static enum decode_result decode_crossing(struct soft_vcpu *v, struct decoded *d, const u8 *p, unsigned here, u64 lin,
                                          u64 *place2)
{
    u8 bytes[16];
    copy_bytes(bytes, p, here);
    u64 place;
    const u8 *q = soft_fetch_page(v, (lin & ~0xfffull) + 4096, &place);
    if (!q)
        no_memory(v);
    *place2 = place;
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

static struct block *block_decode(struct soft_vcpu *v, u64 lin, const u8 *host, u64 place, u32 key)
{
    struct soft_code *c = v->code;
    if (c->used + room_of(BLOCK_MAX_INSNS) > c->end)
        next_part(v);
    struct block *b = (struct block *)(c->arena + c->used);
    const unsigned offset = lin & 0xfff, limit = 4096 - offset;
    const unsigned most = key & KEY_SINGLE ? 1 : BLOCK_MAX_INSNS;
    b->place = place | offset;
    b->place2 = ~0ull;
    b->key = key;
    b->n = 0;
    if (v->jit)
        soft_jit_expect(v, b->place);
    b->gen = soft_code_watch(v, b->place, 1);
    b->gen2 = 0;
    b->hits = *ran(c, b->place);
    b->untranslatable = false;
    b->trans = NULL;
    const u8 *p = host + offset;
    unsigned at = 0, watched = 64 - offset % 64; /* bytes whose lines are watched. No others are read: data may follow */
    while (b->n < most && at < limit && at < 240) {
        struct decoded d;
        struct insn *i = &b->insn[b->n];
        unsigned avail = limit - at;
        enum decode_result r;
        while ((r = decode(&d, p + at, MIN(MIN(avail, 15u), watched - at), v->bits, v->protected_mode)) == DECODE_MORE &&
               watched - at < MIN(avail, 15u)) {
            const u32 gen = soft_code_watch(v, b->place + watched, 1);
            watched += 64;
            if (gen != b->gen) { /* the page was overwritten meanwhile, perhaps what is decoded already, too */
                b->gen = soft_code_watch(v, b->place, 1);
                watched = 64 - offset % 64;
                at = b->n = 0;
                i = &b->insn[0];
                avail = limit;
            }
        }
        if (r == DECODE_MORE && avail < 15) {
            if (b->n)
                break; /* the instruction gets a block of its own */
            u64 place2;
            r = decode_crossing(v, &d, p, avail, lin, &place2);
            if (r == DECODE_OK && d.len > avail) {
                b->place2 = place2;
                b->gen2 = soft_code_watch(v, place2, d.len - avail);
                /* Decodes it again, now that a change of either page would be noticed. */
                r = decode_crossing(v, &d, p, avail, lin, &place2);
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
    c->used += room_of(b->n);
    unsigned h = hash_of(c, b->place, key);
    b->next = c->hash[h];
    c->hash[h] = b;
    return b;
}

const struct block *soft_block_peek(const struct soft_vcpu *v, u64 place)
{
    const u32 key = soft_code_key(v);
    const struct block *b = v->code->hash[hash_of(v->code, place, key)];
    while (b && (b->place != place || b->key != key))
        b = b->next;
    return b && b->place2 == ~0ull && soft_block_current(v, b) ? b : NULL;
}

unsigned soft_block_ran(const struct soft_vcpu *v, u64 place)
{
    const struct block *b = soft_block_peek(v, place);
    return b ? b->hits : *ran(v->code, place);
}

static bool still_valid(struct soft_vcpu *v, const struct block *b, u64 lin)
{
    if (!soft_block_current(v, b))
        return false;
    if (b->place2 == ~0ull)
        return true;
    u64 place2;
    if (!soft_fetch_page(v, (lin & ~0xfffull) + 4096, &place2))
        return false;
    return place2 == b->place2 &&
           b->gen2 == __atomic_load_n(&v->vm->code_gen[place2 >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED);
}

struct block *soft_block_find(struct soft_vcpu *v, bool single)
{
    const struct cpu_seg *cs = &v->s.seg[CS];
    u64 lin = v->rip, place;
    if (v->bits != 64) {
        if (unlikely(v->rip > cs->limit))
            soft_raise_err(v, NULL, VEC_GP, 0);
        lin = (u32)(v->rip + cs->base);
    }
    const u8 *host = soft_fetch_page(v, lin, &place);
    if (!host)
        no_memory(v);
    for (;;) {
        u32 key = soft_code_key(v) | (single ? KEY_SINGLE : 0);
        struct block *b, **link = &v->code->hash[hash_of(v->code, place | (lin & 0xfff), key)];
        while ((b = *link) != NULL) {
            if (b->place == (place | (lin & 0xfff)) && b->key == key) {
                if (still_valid(v, b, lin))
                    break;
                *link = b->next; /* stale: taken out of the chain */
                continue;
            }
            link = &b->next;
        }
        if (!b) {
            b = block_decode(v, lin, host, place, key);
            if (unlikely(__atomic_load_n(&v->request, __ATOMIC_SEQ_CST) & REQ_FLUSH)) { /* our TLB entry may still be open */
                soft_drop_writable(v);
                if (!still_valid(v, b, lin))
                    continue;
            }
        }
        if (v->bits == 64 || likely(v->rip + b->bytes - 1 <= cs->limit))
            return b;
        if (single) /* the instruction itself passes the limit of CS */
            soft_raise_err(v, NULL, VEC_GP, 0);
        single = true;
    }
}
