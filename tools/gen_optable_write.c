/* SPDX-License-Identifier: Apache-2.0 */
/* gen_optable_write.c - the two files that are made. */
#include "gen_optable.h"

static FILE *create(const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f)
        die("cannot write %s", path);
    fputs("/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by tools/gen_optable.c from Zydis. */\n", f);
    return f;
}

static void upper(FILE *f, const char *s)
{
    for (; *s; s++)
        fputc(*s >= 'a' && *s <= 'z' ? *s - 32 : *s, f);
}

void write_mnemonics(const char *path)
{
    FILE *f = create(path);
    u16 n = 1;
    fputs("#ifndef LODGE_ENGINE_SOFT_MNEMONIC_H\n#define LODGE_ENGINE_SOFT_MNEMONIC_H\n\nenum mnemonic {\n    M_INVALID,\n", f);
    for (unsigned i = 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
        if (!mnemonic_number[i])
            continue;
        mnemonic_number[i] = n++;
        fputs("    M_", f);
        upper(f, ZydisMnemonicGetString((ZydisMnemonic)i));
        fputs(",\n", f);
    }
    fputs("    MNEMONIC_COUNT\n};\n\nenum isa {\n", f);
    for (size_t i = 0; i < n_features; i++)
        fprintf(f, "    ISA_%s,\n", features[i].name);
    fputs("    ISA_COUNT\n};\n\n#endif\n", f);
    fclose(f);
}

/* A word of the tree as optree.h has it. */
static u32 packed(u32 word)
{
    return word & NODE ? OPTREE_NODE | (word & ~NODE) / 2 : word;
}

void write_tables(const char *path, u32 (*root)[256], u32 root_90b)
{
    FILE *f = create(path);

    fputs("static const char *const mnemonic_names[MNEMONIC_COUNT] = {\n    \"(invalid)\",\n", f);
    for (unsigned i = 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        if (mnemonic_number[i])
            fprintf(f, "    \"%s\",\n", ZydisMnemonicGetString((ZydisMnemonic)i));
    fputs("};\n\nconst struct isa_cpuid isa_cpuid[ISA_COUNT] = {\n", f);
    for (size_t i = 0; i < n_features; i++)
        fprintf(f, "    [ISA_%s] = {0x%xu, %u, %u, %u, ISA_%s},\n", features[i].name, features[i].function, features[i].index,
            features[i].reg, features[i].bit, features[i].also ? features[i].also : "X86");
    fputs("};\n\nstatic const struct opdesc opdescs[] = {\n", f);
    for (u32 i = 0; i < n_desc; i++) {
        const struct opdesc *d = &descs[i];
        fprintf(f, "    {%u, %u, %u, 0x%x, %u, 0x%x, 0x%x, 0x%x, 0x%x, 0x%x, {%u, %u, %u}, {%u, %u, %u}, {%u, %u, %u}, %u, %u, %u, %u, "
            "0x%x},\n", mnemonic_number[d->mnemonic], d->cls, d->feature, d->flags, d->mem_size, d->eflags_read, d->eflags_write,
            d->eflags_undef, d->gpr_read, d->gpr_write, d->reg.size, d->reg.read, d->reg.write, d->rm.size, d->rm.read,
            d->rm.write, d->vvvv.size, d->vvvv.read, d->vvvv.write, d->imm1, d->imm2, d->osize, d->disp8_shift, d->check);
    }
    fputs("};\n\nstatic const optree_t optree[] = {", f);
    for (u32 i = 0; i < n_tree; i++)
        fprintf(f, "%s0x%x,", i % 16 ? " " : "\n    ", packed(tree[i]));
    if (n_tree / 2 >= OPTREE_NODE || n_desc >= OPTREE_NODE)
        die("tree too large for 16 bits");
    fputs("\n};\n\nstatic const optree_t opcode_root[OPROOT_COUNT][256] = {\n", f);
    for (unsigned m = 0; m < OPROOT_COUNT; m++) {
        fputs("    {", f);
        for (unsigned i = 0; i < 256; i++)
            fprintf(f, "%s0x%x,", i % 16 ? " " : "\n        ", packed(root[m][i]));
        fputs("\n    },\n", f);
    }
    fprintf(f, "};\n\nenum { OPROOT_90_REX_B = 0x%x };\n", packed(root_90b));
    fclose(f);
}
