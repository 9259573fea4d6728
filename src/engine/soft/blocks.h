/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.h - decoded code: runs of instructions by where they lie in guest memory, and
 * how it learns that the bytes behind it changed.
 *
 * A block lies in one page, except that its only instruction may reach into a
 * second. It is valid while the generation of its page(s) is what it was when the bytes
 * were read. Whoever writes into a 64-byte line with decoded code bumps the generation
 * (soft_code_written). Writes are seen because a page with code is in no TLB as
 * writable: the processor that decodes asks the others to drop such entries
 * (REQ_FLUSH), and they declare stale what they could have overwritten before they did.
 *
 * By place, not by guest-physical address: code stays known while the guest moves what it sees of it, and is found
 * overwritten through whichever address.
 */
#ifndef LODGE_ENGINE_SOFT_BLOCK_H
#define LODGE_ENGINE_SOFT_BLOCK_H

#include "engine/soft/soft.h"

struct block {
    u64 place;      /* of the first byte */
    u64 place2;     /* page of the rest of an instruction that crosses, else ~0 */
    u32 gen, gen2;  /* of the pages when decoded */
    u32 key;        /* code mode, single */
    u16 bytes, n;   /* length in guest bytes, instructions */
    u16 hits;       /* times run by the interpreter, up to where it is translated */
    bool untranslatable;
    struct block *next; /* hash chain */
    /* Its translation when that was last looked for, NULL: none; the memory is another's once v->tr.epoch has changed. */
    struct trans *trans;
    u64 trans_epoch;
    struct insn insn[]; /* n, then op_end unless the last leaves by itself */
};

enum { KEY_16 = 0, KEY_32 = 1, KEY_64 = 2, KEY_REAL = 4 /* real or V86 mode */, KEY_SINGLE = 8 };

static inline u32 soft_code_key(const struct soft_vcpu *v)
{
    return (v->bits == 64 ? KEY_64 : v->bits == 32 ? KEY_32 : KEY_16) | (v->protected_mode ? 0 : KEY_REAL);
}

/* The block at v->rip; raises what a fetch there raises. single: of one instruction. */
struct block *soft_block_find(struct soft_vcpu *v, bool single);

/* Of the code at a RIP, in the jump cache: of its low half the linear address, and no two (base of CS, RIP) have the same. */
static inline u64 soft_code_name(const struct soft_vcpu *v, u64 rip)
{
    return rip + v->jc_cs;
}

static inline bool soft_block_current(const struct soft_vcpu *v, const struct block *b)
{
    return b->gen == __atomic_load_n(&v->vm->code_gen[b->place >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED);
}

/* That, and CS reaches to its end. */
static inline bool soft_block_usable(const struct soft_vcpu *v, const struct block *b)
{
    return soft_block_current(v, b) && v->rip + b->bytes - 1 <= v->jc_limit;
}

/* The jump cache: where the block at v->rip has its place, and that block if it is there and may run, or NULL. */
static inline struct jc_entry *soft_jc_slot(struct soft_vcpu *v, u64 name)
{
    return &v->jc[(name ^ name >> JC_BITS) & (JC_SIZE - 1)];
}
static inline struct block *soft_jc_block(struct soft_vcpu *v)
{
    const u64 name = soft_code_name(v, v->rip);
    const struct jc_entry *j = soft_jc_slot(v, name);
    return likely(j->name == name && j->key == v->jc_key && soft_block_usable(v, j->block)) ? j->block : NULL;
}

/*
 * The end of a handler that left the block for v->rip: straight to the next block if the jump cache has it and nothing
 * waits for the run loop. The compiler makes tail calls of it; where a handler on the way was no tail call the stack has
 * grown, and the run loop is gone back to before it grows far.
 */
static inline __attribute__((always_inline)) const struct insn *soft_chain(struct soft_vcpu *v)
{
    if (unlikely(v->slow | __atomic_load_n(&v->request, __ATOMIC_RELAXED) | __atomic_load_n(&v->poll, __ATOMIC_RELAXED) |
                 v->s.activity))
        return NULL;
    /* A handler the compiler could make no tail call of (a buffer of its is in scope) leaves its frame here: without
       a bound a guest's loop over one would use up the stack. */
    u64 sp;
    __asm__("mov %%rsp, %0" : "=r"(sp));
    if (unlikely(sp < v->stack_floor))
        return NULL;
    struct block *b = soft_jc_block(v);
    if (unlikely(!b))
        return NULL;
    v->block = b;
    v->gpr[REG_BLOCK] = v->rip;
    v->stat.blocks++;
    v->stat.insns += b->n;
    return b->insn;
}
#if defined(__OPTIMIZE__) && !(defined(SOFT_VEC_EAGER) && SOFT_VEC_EAGER)
#define CHAIN(v)                                    \
    do {                                            \
        const struct insn *next_ = soft_chain(v);   \
        if (likely(next_))                          \
            return next_->fn((v), next_);           \
        return;                                     \
    } while (0)
#else
#define CHAIN(v) return
#endif

/* Were the bytes behind the running block overwritten since it was decoded? */
static inline bool soft_block_overwritten(const struct soft_vcpu *v)
{
    const struct block *b = v->block;
    return !soft_block_current(v, b) ||
           (b->place2 != ~0ull &&
            b->gen2 != __atomic_load_n(&v->vm->code_gen[b->place2 >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED));
}

/* n bytes at place (one page) have been written, or (not enough by itself) are about to be. */
void soft_code_written_slow(struct soft_vcpu *v, u64 place, u64 n);
static inline void soft_code_written(struct soft_vcpu *v, u64 place, u64 n)
{
    u64 page = place >> GUEST_PAGE_SHIFT;
    if (page < v->vm->pages && unlikely(__atomic_load_n(&v->vm->code_lines[page], __ATOMIC_RELAXED)))
        soft_code_written_slow(v, place, n);
}
/* The same after a device's store of any length, on any thread. */
void soft_code_written_by_device(struct soft_vm *vm, u64 place, u64 n);
/* After the store: whoever decodes from here on sees it, or we see that he watches. */
static inline void soft_code_stored(struct soft_vcpu *v, u64 place, u64 n)
{
    if (v->vm->cfg.cpus > 1)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    soft_code_written(v, place, n);
}
/* The store comes after this returns, with the instruction: between blocks it is looked at again. One instruction has
   two such stores pending at most (a locked operand in two pages). */
static inline void soft_code_written_later(struct soft_vcpu *v, u64 place, u64 n)
{
    const u64 page = place >> GUEST_PAGE_SHIFT;
    if (v->vm->cfg.cpus == 1 || page >= v->vm->pages)
        return;
    if (v->written[0].n)
        soft_code_stored(v, v->written[0].place, v->written[0].n);
    v->written[0] = v->written[1];
    v->written[1].place = place;
    v->written[1].n = n;
    v->poll = 1;
}
/* Between blocks: those stores are made. */
static inline void soft_code_settle(struct soft_vcpu *v)
{
    for (unsigned k = 0; k < 2; k++)
        if (v->written[k].n) {
            soft_code_stored(v, v->written[k].place, v->written[k].n);
            v->written[k].n = 0;
        }
}

/* From here on a write to the 64-byte lines is noticed by every processor. Returns the generation to decode under. */
u32 soft_code_watch(struct soft_vcpu *v, u64 place, u64 n);
/* The block decoded at place for the present mode if it is current; NULL. */
const struct block *soft_block_peek(const struct soft_vcpu *v, u64 place);

/* Would writing there change code of the block that runs? */
bool soft_code_hits_block(const struct soft_vcpu *v, u64 place, u64 n);

/* What guest-physical addresses mean may have changed (REQ_REMAP, served here): TLB and what RIPs lead to are forgotten.
   Inside an instruction: none of those decoded behind it is executed. */
void soft_map_changed(struct soft_vcpu *v);
static inline void soft_settle_map(struct soft_vcpu *v) /* after a device's handler, which may have changed it */
{
    if (unlikely(__atomic_load_n(&v->request, __ATOMIC_RELAXED) & REQ_REMAP))
        soft_map_changed(v);
}

/* Drops every decoded block of this processor; only between blocks. */
void soft_code_flush(struct soft_vcpu *v);

int must_check soft_code_new(struct soft_vcpu *v); /* gate */
void soft_code_free(struct soft_vcpu *v);

/* mmu.c */
const u8 *soft_fetch_page(struct soft_vcpu *v, u64 lin, u64 *place); /* NULL: not memory */
void soft_drop_writable(struct soft_vcpu *v);
void soft_protect_page(struct soft_vcpu *v, u64 place);
void soft_update_jc_key(struct soft_vcpu *v);

/* lower.c */
void soft_lower(struct soft_vcpu *v, const struct decoded *d, struct insn *i);

/* core.c */
void soft_ask_others(struct soft_vcpu *v, u32 request);

#endif
