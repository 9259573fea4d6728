/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.h - between the files that make the programs of gen_program: flow.c puts one together of pieces, flow_memory.c,
 * flow_control.c and flow_calls.c make these, flow_emit.c their instructions and labels.
 *
 * All that keeps a program going - counters of loops, return addresses, tables of addresses - is in registers and memory
 * that its other instructions do not write, so most programs come to their end, the others to a fault; the host's watchdog
 * takes care of what remains. Flags have defined values wherever control comes together (flow_settle), so that what is read
 * in one block may have been made in any other.
 */
#ifndef LODGE_TESTS_INSN_FLOW_H
#define LODGE_TESTS_INSN_FLOW_H

#include "gen.h"

enum { FUNCTIONS = 5, ITERATIONS = 1500 /* of all loops around an instruction, about */ };

struct flow {
    struct build b;
    unsigned labels, slots, depth, around, budget;
    u16 function[FUNCTIONS];
    unsigned functions, calls_from; /* a function calls only those behind it: no recursion but a counted one */
    int counter;                    /* register that counts the loop around, or -1 */
    unsigned counts_from;
    u32 always;                     /* fixed in functions, too */
    bool bomb;                      /* one fault made on purpose, not yet placed */
};

static inline bool flow_wide(const struct flow *f) { return f->b.q->bits == 64; }
static inline bool flow_full(const struct flow *f) { return f->b.q->n > SEQ_MAX - 60 || f->labels > LABEL_MAX - 24; }
static inline unsigned flow_word(const struct flow *f) { return flow_wide(f) ? 8 : 4; }

/* ---- flow_emit.c ---- */
struct gen_insn *flow_put(struct flow *f, const u8 *bytes, unsigned n);
void flow_settle(struct flow *f); /* all flags get a value: cmp of two registers */
void flow_straight(struct flow *f, unsigned n); /* any n instructions */
static inline u16 flow_new_label(struct flow *f) { return (u16)++f->labels; }
void flow_bind(struct flow *f, u16 label); /* here it is */
struct gen_insn *flow_jump(struct flow *f, unsigned what, u16 to); /* what: JMP, CALL, a condition code */
void flow_shorten(struct flow *f); /* where a distance allows it, half of the jumps become short */
static inline u64 flow_new_slot(struct flow *f) { return COUNTERS + 8 * (f->slots++ % 31); }
unsigned flow_scratch(struct flow *f); /* a register to write: not RSP, not one that is kept */
unsigned flow_free_registers(const struct flow *f);
/* Prefixes and opcode for reg, rm. size 1 takes the low byte (REX), or one of the first four registers. */
unsigned flow_encode(const struct flow *f, u8 *c, u32 op, unsigned reg, unsigned size, unsigned rm);
void flow_op_rr(struct flow *f, u32 op, unsigned reg, unsigned rm, unsigned size);
/* op reg, [base + disp] or [base + index*2^scale + disp]; index 0xff: none; extra: immediate bytes behind, zero */
struct gen_insn *flow_op_mem(struct flow *f, u32 op, unsigned reg, unsigned base, unsigned index, unsigned scale, s32 disp, unsigned size,
    unsigned extra);
/* op [address]: an absolute one, or relative to RIP. extra bytes behind it. */
struct gen_insn *flow_op_at(struct flow *f, u32 op, unsigned reg, u64 at, unsigned size, const void *extra, unsigned n_extra);
void flow_push_pop(struct flow *f, unsigned op, unsigned reg); /* op: 50h, 58h */
void flow_move_imm(struct flow *f, unsigned reg, u32 value);
void flow_move_label(struct flow *f, unsigned reg, u16 label);
void flow_store_label(struct flow *f, u64 at, u16 label); /* mov word [at], label */

/* ---- flow.c ---- */
void flow_body(struct flow *f, unsigned items);

/* ---- flow_memory.c ---- */
void flow_group(struct flow *f);     /* several accesses off one base, around one place */
void flow_walk(struct flow *f);      /* a pointer that walks over page ends; without calm perhaps beyond the area */
void flow_stack_run(struct flow *f); /* registers to the stack and back */
void flow_poke(struct flow *f);      /* reads or writes what is a device in the guest */

/* ---- flow_control.c ---- */
void flow_if_else(struct flow *f);
void flow_loop(struct flow *f);
void flow_select_one(struct flow *f); /* a jump through a table of four addresses */

/* ---- flow_calls.c ---- */
void flow_function(struct flow *f, unsigned n); /* its frame, a body, and one of the ways back */
void flow_call(struct flow *f);                 /* of a function, in one of several ways */
void flow_call_no_return(struct flow *f);       /* call next; pop reg: where am I. Or the call leaves for good. */

#endif
