/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listing.c - a sequence in print: its registers at the beginning, its instructions; and which instructions ran in all.
 */
#include "trial.h"

#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

void print_initial(const struct sequence *q)
{
    for (unsigned i = 0; i < (q->bits == 64 ? 16 : 8); i++)
        printf("%s%s %llx", i % 8 ? " " : "  ", reg_names[i], (unsigned long long)q->init.gpr[i]);
    u32 mxcsr;
    memcpy(&mxcsr, q->init.xsave + 24, 4);
    printf("\n  rflags %llx fcw %02x%02x fsw %02x%02x ftw %02x mxcsr %x\n", (unsigned long long)q->init.rflags, q->init.xsave[1],
        q->init.xsave[0], q->init.xsave[3], q->init.xsave[2], q->init.xsave[4], mxcsr);
}

void print_listing(struct trial *t, const struct sequence *q)
{
    ZydisDecoder z;
    ZydisFormatter f;
    if (q->bits == 16)
        ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    else if (q->bits == 32)
        ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    gen_assemble(q, t->code, t->offsets);
    for (unsigned i = 0; i < q->n; i++) {
        ZydisDecodedInstruction in;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        for (unsigned o = t->offsets[i], end = o + q->insn[i].len; o < end;) { /* some are pairs */
            char text[128] = "?";
            u64 at = q->init.rip + o;
            unsigned len = end - o;
            if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, t->code + o, len, &in, op))) {
                ZydisFormatterFormatInstruction(&f, &in, op, in.operand_count_visible, text, sizeof(text), at, NULL);
                len = in.length;
            }
            printf("  %llx%s ", (unsigned long long)at, t->host.s.rip == at ? ">" : t->engine.s.rip == at ? "}" : ":");
            for (unsigned k = 0; k < len; k++)
                printf("%02x", t->code[o + k]);
            printf("  %s\n", text);
            o += len;
        }
    }
}

void print_coverage(const struct gen *g, const u64 ran[MNEMONIC_COUNT])
{
    unsigned tried = 0, did = 0;
    printf("never completed:");
    for (unsigned m = 1; m < MNEMONIC_COUNT; m++) {
        tried += gen_tries(g, m);
        did += ran[m] != 0;
        if (gen_tries(g, m) && !ran[m])
            printf(" %s", mnemonic_name(m));
    }
    printf("\n%u of %u mnemonics completed; seldom:", did, tried);
    for (unsigned m = 1; m < MNEMONIC_COUNT; m++)
        if (ran[m] && ran[m] < 20)
            printf(" %s:%llu", mnemonic_name(m), (unsigned long long)ran[m]);
    printf("\n");
}
