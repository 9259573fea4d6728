/* SPDX-License-Identifier: Apache-2.0 */
/*
 * translate.h - the binary translator: hot blocks of 64-bit code become host code.
 *
 * The instructions are kept; what must not reach the real machine is replaced. Guest registers
 * live in host registers (below), arithmetic flags in RFLAGS, vectors in the vector unit. A memory operand becomes
 * a probe of the software TLB and an access through a host pointer. Whatever the fast path does not cover - a TLB miss, a
 * register of a device, a faulting access, an instruction not translated - is done by the interpreter's handler for
 * that one instruction, with the registers stored where it expects them. So the interpreter holds the meaning
 * of every instruction, and faults are as precise as its own.
 *
 *   guest  rax rcx rdx rbx rbp rsi rdi r8 r12-r15   the same host register
 *          rsp                                      r9
 *          r9 r10 r11                               in memory, gs:[gpr]
 *   host   r10 r11  scratch      rsp  the host's stack      gs  struct soft_vcpu
 *
 * A translation is for one RIP, one block of guest-physical code and one mode (jc_key's low byte). It is valid as its
 * block is (block.h); when the code is overwritten its entry is patched to leave.
 */
#ifndef LODGE_ENGINE_SOFT_TRANSLATE_TRANSLATE_H
#define LODGE_ENGINE_SOFT_TRANSLATE_TRANSLATE_H

#include "engine/soft/block.h"

enum { JIT_BLOCK_MAX = 60000 /* bytes of host code of one block */, JIT_PAGE_BUCKETS = 1024 };

struct trans {
    u64 rip;
    u32 key;
    struct block *block;
    u8 *entry;                               /* writable view */
    u64 code;                                /* where it executes */
    u64 retired;                             /* where its patched entry goes */
    u32 size;                                /* bytes of code from entry on */
    u16 *off;                                /* by instruction: offset of its host code from entry */
    struct trans *of_block, *of_page, *next; /* next: in order of creation */
};

struct soft_jit {
    u8 *rw, *rx; /* two views of the code */
    u64 size, data_size;
    u64 used;
    u8 *data; /* trans, fallback records */
    u64 data_used;
    u64 enter, fallback, miss, exit, exit_link, lookup[TLB_CTX_COUNT]; /* where the stubs execute */
    u64 base_used;                                                     /* the stubs */
    struct trans *page[JIT_PAGE_BUCKETS], *first;
    struct jct_entry *filled[4096]; /* lookup entries in use, to clear them cheaply */
    u32 nfilled;
    bool full;
    u16 hot; /* runs in the interpreter before a block is translated */
};

/* The translation of b at v->rip in the present mode, made if b is hot; NULL: interpret. */
struct trans *soft_jit_find(struct soft_vcpu *v, struct block *b);
/* Runs it and what it leads to; returns with v->rip set. */
void soft_jit_enter(struct soft_vcpu *v, struct trans *t);
/* Drops every translation; only between blocks. */
void soft_jit_flush(struct soft_vcpu *v);
/* Lookup entries: mappings changed. */
void soft_jit_clear_lookup(struct soft_vcpu *v);
/* Code of a page changed: its translations leave at their next entry. */
void soft_jit_retire_page(struct soft_vcpu *v, u64 page);
/* The same for whatever is stale. */
void soft_jit_retire_stale(struct soft_vcpu *v);

/* jit_gate.c */
int must_check soft_jit_new(struct soft_vcpu *v);
void soft_jit_free(struct soft_vcpu *v);
void soft_jit_thread(struct soft_vcpu *v); /* on the vCPU's thread, before running */
/* translate.c, once the memory is there */
void soft_jit_stubs(struct soft_vcpu *v);

#endif
