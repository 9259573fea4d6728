/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_optable.c - writes the software engine's opcode table from Zydis, at build time.
 *
 *   gen_optable MNEMONIC_H OPTABLE_INC [-v]
 *
 * Every combination of what can select an instruction (encoding, map, opcode, mandatory prefix, ModRM.reg, register
 * or memory form, rm, operand size, vector length, mode ...) is put to Zydis once. What it says of the instruction is
 * packed into a struct opdesc (decode.h); equal ones are stored once. The answers of one opcode form a table over
 * those dimensions, which is reduced to a decision graph: levels that make no difference vanish and equal parts are
 * shared. decode.c walks that graph.
 *
 * Instructions Lodge does not implement are left out, so that they are #UD, or the NOP that they are on a processor
 * without the extension (MPX, CET, CLDEMOTE). Where vendors differ, Intel's decoding is taken.
 */
#include "gen_optable.h"

#include <stdarg.h>

bool listed(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(s, list[i]))
            return true;
    return false;
}

void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("gen_optable: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    exit(1);
}

int main(int argc, char **argv)
{
    static u32 root[OPROOT_COUNT][256];

    if (argc < 3)
        die("usage: gen_optable mnemonic.h optable.inc [-v]");
    probe_start();
    features_start();

    for (unsigned op = 0; op < 256; op++) {
        for (unsigned map = 0; map < 4; map++)
            root[OPROOT_LEGACY + map][op] = build_opcode(ENC_LEGACY, map, op, false);
        for (unsigned map = 1; map < 4; map++)
            root[OPROOT_VEX + map - 1][op] = build_opcode(ENC_VEX, map, op, false);
        for (unsigned map = 1; map < 4; map++)
            root[OPROOT_EVEX + map - 1][op] = build_opcode(ENC_EVEX, map, op, false);
        for (unsigned map = 5; map < 7; map++)
            root[OPROOT_EVEX + map - 2][op] = build_opcode(ENC_EVEX, map, op, false);
    }
    u32 root_90b = build_opcode(ENC_LEGACY, 0, 0x90, true);

    if (argc > 3)
        fprintf(stderr, "%u descriptors (%zu bytes), %u tree words\n", n_desc, n_desc * sizeof(struct opdesc), n_tree);
    write_mnemonics(argv[1]);
    write_tables(argv[2], root, root_90b);
    return 0;
}
