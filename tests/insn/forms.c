/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forms.c - what can be tried: every opcode, prefix and ModRM form is put through the decoder; what host and guest have
 * and what can be repeated becomes a list.
 */
#include "gen.h"

#include <stdlib.h>

static bool mnemonic_in(unsigned m, const u16 *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] == m)
            return true;
    return false;
}
#define MNEMONIC_IN(m, list) mnemonic_in(m, list, ARRAY_SIZE(list))

/* What cannot be repeated, would leave the sequence, or shows the processor underneath. */
static bool excluded(const struct opdesc *d)
{
    static const u16 list[] = {
        M_RDRAND, M_RDSEED, M_RDPID, M_RDTSC, M_RDTSCP, M_RDPMC, M_CPUID, M_XGETBV, M_UD0, M_UD1, M_UD2, M_VMCALL,
        /* see gen_state() */
        M_FNSAVE, M_FNSTENV, M_FRSTOR, M_FLDENV,
    };
    return MNEMONIC_IN(d->mnemonic, list);
}

static int bucket_of(const struct opdesc *d)
{
    static const u16 pushes[] = {M_PUSHF, M_PUSHFQ, M_PUSHFD};
    static const u16 privileged[] = {M_HLT, M_CLI, M_STI, M_CLTS, M_INVD, M_WBINVD, M_RDMSR, M_WRMSR, M_LGDT, M_LIDT, M_LLDT,
        M_LTR, M_LMSW, M_INVLPG, M_SWAPGS, M_SYSRET, M_SYSEXIT, M_IN, M_OUT};
    if (excluded(d))
        return -1;
    switch (d->cls) {
    case OPC_INT: return B_INT;
    case OPC_STRING: return d->mnemonic == M_INSB || d->mnemonic == M_INSW || d->mnemonic == M_INSD || d->mnemonic == M_OUTSB ||
            d->mnemonic == M_OUTSW || d->mnemonic == M_OUTSD ? B_FAULT : B_STRING;
    case OPC_X87: return B_X87;
    case OPC_MMX: return B_MMX;
    case OPC_SSE: return B_SSE;
    case OPC_AVX: return B_AVX;
    case OPC_AVX512: return B_AVX512;
    case OPC_SYSTEM:
        if (MNEMONIC_IN(d->mnemonic, pushes))
            return B_INT;
        if (MNEMONIC_IN(d->mnemonic, privileged))
            return B_FAULT;
        if (d->mnemonic == M_MOV && d->flags & OPF_PRIV)
            return B_FAULT;
        return -1;
    default:
        return d->mnemonic == M_INTO || d->mnemonic == M_BOUND ? B_INT : -1;
    }
}

static void add_form(struct gen *g, unsigned bits, const struct form *f)
{
    int b = bucket_of(f->desc);
    if (b < 0 || !g->isa[f->desc->feature])
        return;
    struct list *l = &g->list[mode_of(bits)][b];
    for (unsigned i = l->n; i-- > 0 && l->n - i < 64;) /* neighbours: the same but for reg or rm that do not matter */
        if (l->form[i].desc == f->desc && l->form[i].map == f->map && l->form[i].opcode == f->opcode &&
            l->form[i].encoding == f->encoding && l->form[i].mod3 == f->mod3)
            return;
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        l->form = realloc(l->form, l->cap * sizeof(*l->form));
        if (!l->form)
            abort();
    }
    l->form[l->n++] = *f;
}

unsigned put_head(const struct form *f, unsigned bits, u8 rex, u8 vvvv, u8 aaa_z, u8 *p)
{
    unsigned n = 0;
    switch (f->encoding) {
    case ENC_LEGACY:
        if (f->opsize66)
            p[n++] = 0x66;
        if (f->rep)
            p[n++] = f->rep;
        if (bits == 64 && (f->w || rex))
            p[n++] = (u8)(0x40 | f->w << 3 | (rex & 7));
        if (f->map)
            p[n++] = 0x0f;
        if (f->map >= 2)
            p[n++] = f->map == 2 ? 0x38 : 0x3a;
        break;
    case ENC_VEX:
        p[n++] = 0xc4;
        p[n++] = (u8)((~rex & 7) << 5 | f->map);
        p[n++] = (u8)(f->w << 7 | (~vvvv & 15) << 3 | f->vl << 2 | f->pp);
        break;
    default:
        p[n++] = 0x62;
        p[n++] = (u8)((~rex & 7) << 5 | (vvvv & 0x40 ? 0 : 0x10) | f->map);
        p[n++] = (u8)(f->w << 7 | (~vvvv & 15) << 3 | 4 | f->pp);
        p[n++] = (u8)((aaa_z & 0x80) | f->vl << 5 | (aaa_z & 8) << 1 | (vvvv & 0x10 ? 0 : 8) | (aaa_z & 7));
        break;
    }
    p[n++] = f->opcode;
    return n;
}

static void try_form(struct gen *g, unsigned bits, struct form *f)
{
    u8 b[32] = {0};
    struct decoded d;
    unsigned n = put_head(f, bits, 0, f->encoding == ENC_LEGACY ? 0 : 2, 0, b);
    b[n++] = (u8)((f->mod3 ? 0xc0 : 0x00) | f->reg << 3 | (f->mod3 ? f->rm : 4));
    b[n++] = 0x08;
    if (decode(&d, b, 24, bits, true) != DECODE_OK && f->encoding != ENC_LEGACY) {
        bool vsib = f->encoding == ENC_EVEX && !f->mod3; /* gathers and scatters want a mask */
        n = put_head(f, bits, 0, 0, vsib, b);
        b[n++] = (u8)((f->mod3 ? 0xc0 : 0x00) | f->reg << 3 | (f->mod3 ? f->rm : 4));
        b[n++] = vsib ? 0x10 : 0x08; /* an index that is no operand already */
        if (decode(&d, b, 24, bits, true) != DECODE_OK)
            return;
    }
    if (decode(&d, b, 24, bits, true) != DECODE_OK || d.encoding != f->encoding || d.map != f->map || d.opcode != f->opcode)
        return; /* or the byte was a prefix */
    if (!(d.desc->flags & OPF_MODRM) && (f->mod3 || f->reg || f->rm))
        return;
    f->desc = d.desc;
    add_form(g, bits, f);
}

static void scan(struct gen *g, unsigned bits)
{
    struct form f = {.encoding = ENC_LEGACY};
    for (unsigned map = 0; map < 4; map++)
        for (unsigned op = 0; op < 256; op++)
            for (unsigned c = 0; c < 24; c++)
                for (unsigned m = 0; m < 128; m++) {
                    static const u8 reps[3] = {0, 0xf2, 0xf3};
                    bool rm_counts = map == 0 ? op >= 0xd8 && op <= 0xdf : map == 1 && op == 0x01;
                    f.map = (u8)map;
                    f.opcode = (u8)op;
                    f.rep = reps[c % 3];
                    f.opsize66 = c / 3 & 1;
                    f.w = c / 6 & 1;
                    f.mod3 = c / 12;
                    f.reg = m & 7;
                    f.rm = (u8)(m >> 3 & 7);
                    if ((f.w && bits != 64) || m >= 64 || (f.rm && !(f.mod3 && rm_counts)))
                        continue;
                    try_form(g, bits, &f);
                }
    for (unsigned enc = ENC_VEX; enc <= ENC_EVEX; enc++) {
        f = (struct form){.encoding = (u8)enc};
        if (enc == ENC_EVEX && !g->isa[ISA_AVX512F])
            break;
        for (unsigned map = 1; map < 7; map++)
            for (unsigned op = 0; op < 256; op++)
                for (unsigned c = 0; c < 64; c++)
                    for (unsigned reg = 0; reg < 8; reg++) {
                        f.map = (u8)map;
                        f.opcode = (u8)op;
                        f.pp = c & 3;
                        f.w = c >> 2 & 1;
                        f.vl = c >> 3 & 3;
                        f.mod3 = (u8)(c >> 5);
                        f.reg = (u8)reg;
                        if (map == 4 || (enc == ENC_VEX && (map > 3 || f.vl > 1)))
                            continue;
                        try_form(g, bits, &f);
                    }
    }
}

struct gen *gen_new(u64 xcr0, const struct guest *guest)
{
    struct gen *g = calloc(1, sizeof(*g));
    if (!g)
        abort();
    for (unsigned i = 0; i < ISA_COUNT; i++) {
        const struct isa_cpuid *c = &isa_cpuid[i];
        u32 r[4] = {c->function, 0, c->index, 0}, max = c->function & 0x80000000, x;
        __asm__ volatile("cpuid" : "+a"(max), "=b"(x), "=c"(x), "=d"(x) : : );
        if (c->function && (c->function > max))
            continue;
        __asm__ volatile("cpuid" : "+a"(r[0]), "=b"(r[1]), "+c"(r[2]), "=d"(r[3]));
        g->isa[i] = i == ISA_X86 || ((r[c->reg] >> c->bit & 1) && g->isa[c->also]);
        if (guest && !guest_has(guest, i))
            g->isa[i] = false;
    }
    if ((xcr0 & 6) != 6)
        for (unsigned i = 0; i < ISA_COUNT; i++)
            if (i == ISA_AVX || i == ISA_AVX2 || i == ISA_F16C || i == ISA_FMA || i == ISA_VAES || i == ISA_VPCLMULQDQ)
                g->isa[i] = false;
    if ((xcr0 & 0xe0) != 0xe0)
        g->isa[ISA_AVX512F] = false;
    scan(g, 64);
    scan(g, 32);
    scan(g, 16);
    return g;
}

bool gen_tries(const struct gen *g, unsigned mnemonic)
{
    for (unsigned i = 0; i < 3; i++)
        for (unsigned b = 0; b < B_COUNT; b++)
            for (unsigned k = 0; k < g->list[i][b].n; k++)
                if (g->list[i][b].form[k].desc->mnemonic == mnemonic)
                    return true;
    return false;
}

void gen_free(struct gen *g)
{
    for (unsigned i = 0; i < 3; i++)
        for (unsigned b = 0; b < B_COUNT; b++)
            free(g->list[i][b].form);
    free(g);
}
