/* SPDX-License-Identifier: Apache-2.0 */
/* gen_optable.h - what the parts of gen_optable know of each other; gen_optable.c says what it does. */
#ifndef LODGE_TOOLS_GEN_OPTABLE_H
#define LODGE_TOOLS_GEN_OPTABLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/base.h"

#define LODGE_GEN_OPTABLE /* decode.h without the header that is made here */
enum { ISA_COUNT = 1 };
#include "engine/soft/decode.h"
#include "engine/soft/optree.h"

/* gen_optable.c */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool listed(const char *s, const char *const *list, size_t n);
#define LISTED(s, list) listed(s, list, ARRAY_SIZE(list))

/*
 * gen_optable_features.c. A feature is one CPUID bit, and another feature that must be there too (listed before). X86:
 * always there.
 */
struct feature {
    const char *name;
    u32 function, index;
    u8 reg, bit;
    const char *also;
};

extern const struct feature features[];
extern const size_t n_features;

void features_start(void);
/* The one that an instruction needs in code of so many bits; -1: Lodge has no such instruction. */
int feature_of(const ZydisDecodedInstruction *in, unsigned bits);

/*
 * gen_optable_describe.c. The number of a descriptor, 0 if the processor Lodge shows has no such instruction. bits: of
 * the code segment, for what depends on it; rule: the operand size that prefixes alone give. Probes have a displacement
 * byte of 1: Zydis's scaled value tells EVEX disp8*N.
 */
u32 describe(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op, unsigned bits, unsigned rule, bool rep);

extern u16 mnemonic_number[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* of those that describe() has seen 1, later their number */

/* gen_optable_graph.c */
#define NODE 0x80000000u /* as OPTREE_NODE, while it grows */
enum { MAX_DESC = 16384, MAX_TREE = 1 << 18 };

extern struct opdesc descs[MAX_DESC];
extern u32 n_desc; /* 0: invalid */
extern u32 tree[MAX_TREE];
extern u32 n_tree;

u32 intern_desc(const struct opdesc *d);
/* A node over n children: their common value if they agree, an equal node if there is one. */
u32 intern_node(unsigned dim, unsigned n, const u32 *child);

/* gen_optable_probe.c */
void probe_start(void);
u32 build_opcode(unsigned encoding, unsigned map, unsigned opcode, bool rex_b); /* its node */

/* gen_optable_write.c: the mnemonics first, which then have their numbers. */
void write_mnemonics(const char *path);
void write_tables(const char *path, u32 (*root)[256], u32 root_90b);

#endif
