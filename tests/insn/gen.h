/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.h - between forms.c, which lists what can be tried, and gen.c, which makes sequences of it.
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

#endif
