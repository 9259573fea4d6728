/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.h - between forms.c, which lists what can be tried, gen.c, which makes sequences of it, and flow.c.
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

/* ---- one sequence being made (gen.c) ---- */

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

static inline bool chance(struct rng *r, unsigned percent) { return rng_below(r, 100) < percent; }
struct gen_insn *gen_append(struct build *b, const u8 *bytes, unsigned len);
bool gen_reads_undefined(const struct build *b, const u8 *bytes, unsigned len); /* flags without a value */
void gen_set_register(struct build *b, unsigned reg, u32 value); /* mov r32, imm32: zero-extends */
void gen_general(struct build *b);                               /* one instruction, or with what prepares it a few */
void gen_fpu(struct rng *r, u8 *xsave, bool has_avx, bool has_avx512);
u64 gen_number(struct rng *r);

#endif
