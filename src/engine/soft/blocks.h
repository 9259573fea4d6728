/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.h - decoded code. A block is a run of instructions, found by where it lies in guest memory. This file also says
 * how the engine learns that the bytes of a block changed.
 *
 * A block lies in one page, except that its only instruction may reach into a second page. It is valid while the
 * generation of its page(s) is the same as when the bytes were read. A write into a 64-byte line with decoded code
 * increments the generation (soft_code_written). Such writes are seen because no TLB has a page with code as writable:
 * the processor that decodes asks the others to drop their writable entries (REQ_FLUSH), and these make stale all code
 * that they could have overwritten before they dropped them.
 *
 * Blocks are found by place (memory.h), not by guest-physical address. So code stays known when the guest moves the memory
 * to another address, and a write is noticed through whichever address it is made.
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
    u16 hits;       /* how often the interpreter ran it, counted until it is translated */
    bool untranslatable;
    struct block *next; /* hash chain */
    /* Its translation, as found at the last look; NULL: none. The memory may belong to something else once v->tr.epoch
       differs from trans_epoch. */
    struct trans *trans;
    u64 trans_epoch;
    struct insn insn[]; /* n of them, then op_end */
};

enum { KEY_16 = 0, KEY_32 = 1, KEY_64 = 2, KEY_REAL = 4 /* real or V86 mode */, KEY_SINGLE = 8 };

static inline u32 soft_code_key(const struct soft_vcpu *v)
{
    return (v->bits == 64 ? KEY_64 : v->bits == 32 ? KEY_32 : KEY_16) | (v->protected_mode ? 0 : KEY_REAL);
}

/* Returns the block at v->rip, and raises what a fetch there raises. single: a block of one instruction. */
struct block *soft_block_find(struct soft_vcpu *v, bool single);

/* The name of the code at a RIP in the jump cache. Its low half is the linear address, and each pair of CS base and RIP has
   another name. */
static inline u64 soft_code_name(const struct soft_vcpu *v, u64 rip)
{
    return rip + v->jc_cs;
}

static inline bool soft_block_current(const struct soft_vcpu *v, const struct block *b)
{
    return b->gen == __atomic_load_n(&v->vm->code_gen[b->place >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED);
}

/* True if the block is current and lies within the limit of CS. */
static inline bool soft_block_usable(const struct soft_vcpu *v, const struct block *b)
{
    return soft_block_current(v, b) && v->rip + b->bytes - 1 <= v->jc_limit;
}

/* The jump cache. soft_jc_slot: the entry in which a block of this name belongs. soft_jc_block: the block at v->rip if the
   cache has it and it may run, else NULL. */
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
 * Used at the end of a handler that leaves its block for v->rip: returns the first instruction of the next block if the
 * jump cache has that block and nothing waits for the run loop, else NULL. The compiler makes tail calls of the calls that
 * follow. Where a handler on the way made no tail call, the stack has grown; then NULL leads back to the run loop before
 * the stack grows far.
 */
static inline __attribute__((always_inline)) const struct insn *soft_chain(struct soft_vcpu *v)
{
    if (unlikely(v->slow | __atomic_load_n(&v->request, __ATOMIC_RELAXED) | __atomic_load_n(&v->poll, __ATOMIC_RELAXED) |
                 v->s.activity))
        return NULL;
    /* A handler in which the compiler could make no tail call (because a buffer of the handler is in scope) leaves its
       frame on the stack. Without a bound, a guest's loop over such a handler would use up the stack. */
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

/* True if bytes of the running block's page(s) were overwritten in lines with code since it was decoded. */
static inline bool soft_block_overwritten(const struct soft_vcpu *v)
{
    const struct block *b = v->block;
    return !soft_block_current(v, b) ||
           (b->place2 != ~0ull &&
            b->gen2 != __atomic_load_n(&v->vm->code_gen[b->place2 >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED));
}

/* n bytes at place (in one page) have been written, or are about to be written. To call it only before the write is not
   enough. */
void soft_code_written_slow(struct soft_vcpu *v, u64 place, u64 n);
static inline void soft_code_written(struct soft_vcpu *v, u64 place, u64 n)
{
    u64 page = place >> GUEST_PAGE_SHIFT;
    if (page < v->vm->pages && unlikely(__atomic_load_n(&v->vm->code_lines[page], __ATOMIC_RELAXED)))
        soft_code_written_slow(v, place, n);
}
/* The same, to be called after a device's store, of any length and on any thread. */
void soft_code_written_by_device(struct soft_vm *vm, u64 place, u64 n);
/* To be called after the store: a processor that decodes from here on sees the store, or we see its lines. */
static inline void soft_code_stored(struct soft_vcpu *v, u64 place, u64 n)
{
    if (v->vm->cfg.cpus > 1)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    soft_code_written(v, place, n);
}
/* To be called if the instruction makes the store only after this returns: the place is noted and looked at again between
   blocks. One instruction has at most two such stores pending (a locked operand in two pages). */
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
/* To be called between blocks, when the noted stores have been made. */
static inline void soft_code_settle(struct soft_vcpu *v)
{
    for (unsigned k = 0; k < 2; k++)
        if (v->written[k].n) {
            soft_code_stored(v, v->written[k].place, v->written[k].n);
            v->written[k].n = 0;
        }
}

/* Every processor notices a write to the 64-byte lines of these bytes from here on. Returns the generation that the block
   to be decoded gets. */
u32 soft_code_watch(struct soft_vcpu *v, u64 place, u64 n);
/* Returns the block decoded at place for the present mode, or NULL if there is none that is current and in one page. */
const struct block *soft_block_peek(const struct soft_vcpu *v, u64 place);

/* How often the code at place was run as a block, as far as that is remembered. */
unsigned soft_block_ran(const struct soft_vcpu *v, u64 place);

/* True if a write of n bytes at place would change the block that runs, or is to the second page that it reaches into. */
bool soft_code_hits_block(const struct soft_vcpu *v, u64 place, u64 n);

/* Guest-physical addresses may lead to other memory now. Serves REQ_REMAP: forgets the TLB and the code that RIPs lead to.
   When it is called inside an instruction, no instruction decoded after that one in its block is executed. */
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
