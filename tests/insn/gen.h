/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.h - between the files that make sequences: forms.c lists what can be tried, gen_*.c make instructions of it, gen.c,
 * flow.c and real.c put them together.
 */
#ifndef LODGE_TESTS_INSN_GEN_H
#define LODGE_TESTS_INSN_GEN_H

#include "oracle.h"

/* One opcode with one choice of prefixes and ModRM form. */
struct form {
    const struct opdesc *desc;
    u8 encoding, map, opcode, rep, opsize66, w, vl, pp, mod3, reg, rm;
};

enum bucket { B_INT, B_STRING, B_X87, B_MMX, B_SSE, B_AVX, B_AVX512, B_FAULT, B_COUNT };
struct list {
    struct form *form;
    unsigned n, cap;
};
struct gen {
    struct list list[3][B_COUNT]; /* 64, 32, 16 bit */
    bool isa[ISA_COUNT];
};

static inline unsigned mode_of(unsigned bits) { return bits == 64 ? 0 : bits == 32 ? 1 : 2; }

/* The form's bytes up to the opcode; rex: R X B; vvvv with EVEX.V' (0x10) and R' (0x40); aaa_z: EVEX z (0x80), b (8), aaa. */
unsigned put_head(const struct form *f, unsigned bits, u8 rex, u8 vvvv, u8 aaa_z, u8 *p);

/* ---- one sequence being made ---- */

struct build {
    const struct gen *g;
    struct rng *r;
    struct sequence *q;
    const unsigned *weights; /* by enum bucket */
    u32 fixed;     /* registers that are never written */
    u8 pointer[3]; /* of those: into the data area */
    u8 small;      /* and one with a small number */
    u32 undefined; /* RFLAGS bits without a value now */
    unsigned skipping;
    bool flow;     /* RSP is the program's */
    bool calm;     /* nothing that could fault */
};

/* gen_values.c */
static inline bool chance(struct rng *r, unsigned percent) { return rng_below(r, 100) < percent; }
u64 gen_number(struct rng *r);
void gen_fpu(struct rng *r, u8 *xsave, bool has_avx, bool has_avx512);

/* gen_flags.c */
/* The flags without a value behind d, of those before it. Not certain: it may be jumped over. */
u32 gen_undefined_after(const struct decoded *d, u32 undefined, bool certain);
u32 gen_flags_needed(const struct opdesc *o);                                   /* those that it reads */
bool gen_reads_undefined(const struct build *b, const u8 *bytes, unsigned len); /* flags without a value */

/* gen_assemble.c */
enum { JMP = 0xe9, CALL = 0xe8 };
struct gen_insn *gen_append(struct build *b, const u8 *bytes, unsigned len);
void gen_set_register(struct build *b, unsigned reg, u32 value); /* mov r32, imm32: zero-extends */
/* op reg, [at], with an immediate of n_imm zero bytes behind */
void gen_at_address(struct build *b, const u8 *op, unsigned n_op, unsigned reg, u32 at, unsigned n_imm);
void gen_fix(struct gen_insn *i, enum fix kind, unsigned off, u16 to, int add);

/* gen_operand.c */
/* An offset for an operand of that many bytes: mostly in the data area, sometimes over a page's or the area's end. */
u64 gen_place(struct build *b, unsigned size, bool aligned);
/* Adds ModRM, SIB and displacement for an address to the *n bytes at p, and the bits it needs to *rex. */
void gen_put_memory(struct build *b, const struct form *f, u8 *p, unsigned *n, u8 *rex, unsigned vsib_index, struct gen_insn *fix, bool addr67);

/* Of these each appends one instruction, or with what prepares it a few: gen_insn.c, gen_segments.c, gen_state.c */
void gen_general(struct build *b);
void gen_segments(struct build *b);
void gen_state(struct build *b); /* x87 and SSE: FXSAVE, FNSAVE, FNSTENV and back */
void gen_xsave(struct build *b);

#endif
