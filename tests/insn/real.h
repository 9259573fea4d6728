/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real.h - between the files that make the programs of gen_real: real.c puts one together of pieces, real_memory.c,
 * real_segments.c, real_stack.c, real_control.c and real_calls.c make these, real_emit.c their instructions and labels.
 *
 * As in flow.h, counters and addresses lie where nothing else is written, and flags are defined wherever control comes
 * together. What may be interrupted (env.cuts) never reads below its stack pointer, since real mode pushes there.
 */
#ifndef LODGE_TESTS_INSN_REAL_H
#define LODGE_TESTS_INSN_REAL_H

#include "gen.h"

enum { FUNCTIONS = 5, ITERATIONS = 600, SLOTS = 0x1f00 /* in the stack segment: loops' counters, pointers */ };
enum kind { NEAR, FAR, BY_IRET };

struct prog {
    struct build b;
    struct real_env *env;
    unsigned labels, slots, depth, around, budget;
    struct {
        u16 label;
        u8 kind, wide, drops; /* wide: returns with 32 bits; drops: bytes of arguments */
    } function[FUNCTIONS];
    unsigned functions, calls_from;
    s32 counter;      /* offset of the counter of the loop around, or -1 */
    unsigned counts_from;
    bool moved;       /* may run under another CS: no absolute offsets */
    bool bomb;
};

static inline bool real_full(const struct prog *f) { return f->b.q->n > SEQ_MAX - 80 || f->labels > LABEL_MAX - 24; }
static inline bool real_may_change_if(const struct prog *f) { return !f->env->v86 || f->env->iopl == 3; }

/* ---- real_emit.c ---- */
struct gen_insn *real_put(struct prog *f, const u8 *bytes, unsigned n);
#define PUT(f, ...) real_put(f, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
void real_settle(struct prog *f); /* all flags get a value: cmp of two registers */
void real_straight(struct prog *f, unsigned n); /* any n instructions */
static inline u16 real_new_label(struct prog *f) { return (u16)++f->labels; }
void real_place_label(struct prog *f, u16 label);
void real_jump(struct prog *f, unsigned what, u16 to); /* what: JMP, CALL, a condition code */
void real_shorten(struct prog *f);  /* where a distance allows it, half of the jumps become short */
void real_lengthen(struct prog *f); /* LOOP that does not reach its label leads over a jump instead */
unsigned real_scratch(struct prog *f); /* a register to write: not SP, not one that is kept */
unsigned real_free_registers(const struct prog *f);
void real_move_imm(struct prog *f, unsigned reg, u32 value);
static inline u32 real_new_slot(struct prog *f) { return SLOTS + 8 * (f->slots++ % 31); }
struct gen_insn *real_store(struct prog *f, u32 at, u32 value); /* mov word [ss:at], value; at is a constant */
void real_store_label(struct prog *f, u32 at, u16 label);
extern const u8 real_overrides[SEG_COUNT];
/*
 * op reg, [at], perhaps with an override, of size 1, 2, 4; extra zero bytes behind. The segment says which addresses are
 * meant: SS: in the stack segment, CS: in the code, else in data.
 */
struct gen_insn *real_op_mem(struct prog *f, u32 op, unsigned reg, unsigned seg, u32 at, unsigned size, unsigned extra);

/* ---- real.c ---- */
void real_body(struct prog *f, unsigned items);

/* ---- real_memory.c ---- */
u32 real_offset_in_data(struct prog *f);
unsigned real_other_segment(struct prog *f); /* one of those that data may be in */
void real_access(struct prog *f, unsigned seg, u32 at, bool may_write);
void real_access_near(struct prog *f);
void real_walk(struct prog *f);   /* a pointer that walks over page ends */
void real_string(struct prog *f);

/* ---- real_segments.c ---- */
u32 real_any_selector(struct prog *f, unsigned seg); /* what a program may have in ES, FS, GS, DS */
/* wide: of 32 bits it writes 16, the rest may be an interrupt's: not where env.cuts. */
void real_push_segment(struct prog *f, unsigned seg, bool wide);
void real_load_segment(struct prog *f);
void real_store_segment(struct prog *f);
void real_poke(struct prog *f); /* where a kick or an interrupt may come: memory that is a device, or a port */

/* ---- real_stack.c ---- */
void real_flags_used(struct prog *f);
void real_stack_run(struct prog *f);
/* SS:SP gets another name for the same place and its own again; or its own, loaded. */
void real_stack_segment(struct prog *f);

/* ---- real_control.c ---- */
void real_fault(struct prog *f); /* cmp [counter], k; jne on; something that faults; on: */
void real_if_else(struct prog *f);
void real_loop(struct prog *f);
void real_select_one(struct prog *f); /* a jump through a table of four addresses */

/* ---- real_calls.c ---- */
void real_function(struct prog *f, unsigned n);
void real_call(struct prog *f);
/* Far jumps, returns and IRET to what follows, and perhaps under another CS. */
void real_far_jump(struct prog *f);

#endif
