/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optree.h - the form of the opcode index, shared by its generator (tools/gen_optable.c) and its reader (decode.c).
 *
 * Each opcode map has a root with one word for each opcode. A word is the number of a struct opdesc (0: #UD), or, with
 * OPTREE_NODE set, half the index in optree[] of a node. A node holds the dimension to look at, then a word for each value
 * of it.
 */
#ifndef LODGE_ENGINE_SOFT_OPTREE_H
#define LODGE_ENGINE_SOFT_OPTREE_H

#include "base/base.h"

typedef u16 optree_t;
#define OPTREE_NODE 0x8000u

enum optree_dim {
    OPDIM_MOD,     /* 1: register form */
    OPDIM_REG,     /* ModRM.reg, not extended */
    OPDIM_RM,      /* ModRM.rm, not extended */
    OPDIM_REP,     /* 0 none, 1 F2, 2 F3; of several the last one counts */
    OPDIM_ASIZE67, /* 67 prefix */
    OPDIM_SIZE,    /* 16-bit code: 0, +66: 1; 32-bit: 2, 3; 64-bit: 4, +66: 5, +REX.W: 6, both: 7 */
    OPDIM_PP, OPDIM_VVVV /* 0: field unused, 1111 */, OPDIM_MODE64, OPDIM_W, OPDIM_L,
    OPDIM_B, OPDIM_MASK, /* EVEX.aaa and z: 0 none, 1 merging, 2 zeroing */
    OPDIM_COUNT
};

enum oproot {
    OPROOT_LEGACY = 0, /* one-byte, 0F, 0F38, 0F3A */
    OPROOT_VEX = 4,    /* 0F, 0F38, 0F3A */
    OPROOT_EVEX = 7,   /* 0F, 0F38, 0F3A, map 5, map 6 */
    OPROOT_COUNT = 12
};

/* struct opdesc.check: what decode.c must check in addition. */
enum {
    OPCHK_REG_MASK = 1 << 0,  /* ModRM.reg names k0-k7: no extension bits */
    OPCHK_REG_GPR = 1 << 1,   /* ... a general register: no EVEX.R' */
    OPCHK_VVVV_MASK = 1 << 2, /* VEX.vvvv names k0-k7 */
    OPCHK_VVVV_GPR = 1 << 3,
    OPCHK_GATHER = 1 << 4,    /* destination, index and mask must differ */
    OPCHK_PROTECTED = 1 << 5, /* #UD in real and virtual-8086 mode */
    OPCHK_REG_LOW = 1 << 6,   /* prefixes do not extend ModRM.reg: it names no register, or one of eight */
    OPCHK_RM_LOW = 1 << 7,    /* the same for ModRM.rm as a register */
};

#endif
