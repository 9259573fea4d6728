/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_optable_probe.c - puts every combination of what can select an instruction of one opcode to Zydis, and makes a
 * graph of the answers.
 */
#include "gen_optable.h"

static ZydisDecoder decoders[3];
static const unsigned mode_bits[3] = {16, 32, 64};

struct dim {
    u8 which; /* enum optree_dim */
    u8 n;
};

/* Outermost first. What most instructions differ by is last. */
static const struct dim legacy_dims[] = {
    {OPDIM_MOD, 2}, {OPDIM_REG, 8}, {OPDIM_RM, 8}, {OPDIM_REP, 3}, {OPDIM_ASIZE67, 2}, {OPDIM_SIZE, 8},
};
static const struct dim vex_dims[] = {
    {OPDIM_PP, 4}, {OPDIM_MOD, 2}, {OPDIM_REG, 8}, {OPDIM_VVVV, 2}, {OPDIM_MODE64, 2}, {OPDIM_W, 2}, {OPDIM_L, 2},
};
static const struct dim evex_dims[] = {
    {OPDIM_PP, 4}, {OPDIM_REG, 8}, {OPDIM_VVVV, 2}, {OPDIM_W, 2}, {OPDIM_MOD, 2}, {OPDIM_MODE64, 2}, {OPDIM_B, 2},
    {OPDIM_MASK, 3}, {OPDIM_L, 4},
};

struct probe {
    unsigned encoding, map, opcode;
    bool rex_b; /* opcode 90 with REX.B */
    unsigned v[OPDIM_COUNT];
    bool ignore_reg, ignore_rm;
};

static u32 ask(unsigned mode, const u8 *bytes, unsigned rule, bool rep)
{
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[mode], bytes, 15, &in, op)))
        return 0;
    return describe(&in, op, mode_bits[mode], rule, rep);
}

/* Some vector instructions want their registers to differ: one that is not ModRM.reg. */
static unsigned other_than(const struct probe *p, unsigned n)
{
    return p->v[OPDIM_REG] == n ? n + 2 : n;
}

static u8 modrm_of(const struct probe *p)
{
    if (p->encoding != ENC_LEGACY && p->v[OPDIM_MOD])
        return (u8)(0xc0 | p->v[OPDIM_REG] << 3 | other_than(p, 5));
    /* memory with a SIB byte, so that VSIB forms are legal, and disp8; 16-bit addressing: [si + disp8] */
    return (u8)((p->v[OPDIM_MOD] ? 0xc0 : 0x40) | p->v[OPDIM_REG] << 3 | (p->v[OPDIM_MOD] ? p->v[OPDIM_RM] : 4));
}

static u32 probe_legacy(const struct probe *p)
{
    static const u8 rep_byte[3] = {0, 0xf2, 0xf3};
    u8 b[32] = {0};
    unsigned n = 0;
    /* OPDIM_SIZE: 16-bit: 0, +66: 1; 32-bit: 2, 3; 64-bit: 4, +66: 5, +W: 6, both: 7 */
    unsigned size = p->v[OPDIM_SIZE], mode = size >> 1 > 2 ? 2 : size >> 1;
    if (size & 1)
        b[n++] = 0x66;
    if (p->v[OPDIM_ASIZE67])
        b[n++] = 0x67;
    if (p->v[OPDIM_REP])
        b[n++] = rep_byte[p->v[OPDIM_REP]];
    if (p->rex_b && mode != 2)
        return 0;
    if (size >= 6 || p->rex_b)
        b[n++] = (u8)(0x40 | (size >= 6 ? 8 : 0) | (p->rex_b ? 1 : 0));
    if (p->map)
        b[n++] = 0x0f;
    if (p->map >= 2)
        b[n++] = p->map == 2 ? 0x38 : 0x3a;
    b[n++] = (u8)p->opcode;
    b[n++] = modrm_of(p);
    bool wide_address = mode == 2 || (mode == 1) != (p->v[OPDIM_ASIZE67] != 0);
    if (!p->v[OPDIM_MOD] && wide_address)
        b[n++] = 0x08; /* SIB: [rax + rcx] */
    b[n++] = 1;
    unsigned rule = size >= 6 ? 8 : size == 0 || size == 3 || size == 5 ? 2 : 4;
    return ask(mode, b, rule, p->v[OPDIM_REP] != 0);
}

static u32 probe_vex(const struct probe *p)
{
    u8 b[32] = {0};
    unsigned vvvv = p->v[OPDIM_VVVV] ? other_than(p, 2) : 0; /* stored inverted; 1111 is unused */
    b[0] = 0xc4;
    b[1] = (u8)(0xe0 | p->map);
    b[2] = (u8)(p->v[OPDIM_W] << 7 | (~vvvv & 15) << 3 | p->v[OPDIM_L] << 2 | p->v[OPDIM_PP]);
    b[3] = (u8)p->opcode;
    b[4] = modrm_of(p);
    b[5] = p->v[OPDIM_MOD] ? 1 : (u8)(other_than(p, 1) << 3);
    b[6] = 1;
    return ask(p->v[OPDIM_MODE64] ? 2 : 1, b, p->v[OPDIM_MODE64] && p->v[OPDIM_W] ? 8 : 4, false);
}

static u32 probe_evex(const struct probe *p)
{
    u8 b[32] = {0};
    unsigned vvvv = p->v[OPDIM_VVVV] ? other_than(p, 2) : 0;
    b[0] = 0x62;
    b[1] = (u8)(0xf0 | p->map);
    b[2] = (u8)(p->v[OPDIM_W] << 7 | (~vvvv & 15) << 3 | 4 | p->v[OPDIM_PP]);
    b[3] = (u8)((p->v[OPDIM_MASK] == 2) << 7 | p->v[OPDIM_L] << 5 | p->v[OPDIM_B] << 4 | 8 | (p->v[OPDIM_MASK] ? 3 : 0));
    b[4] = (u8)p->opcode;
    b[5] = modrm_of(p);
    b[6] = p->v[OPDIM_MOD] ? 1 : (u8)(other_than(p, 1) << 3);
    b[7] = 1;
    return ask(p->v[OPDIM_MODE64] ? 2 : 1, b, p->v[OPDIM_MODE64] && p->v[OPDIM_W] ? 8 : 4, false);
}

static u32 ask_probe(const struct probe *p)
{
    return p->encoding == ENC_LEGACY ? probe_legacy(p) : p->encoding == ENC_VEX ? probe_vex(p) : probe_evex(p);
}

static u32 build(struct probe *p, const struct dim *dims, unsigned n_dims)
{
    if (!n_dims)
        return ask_probe(p);
    u32 child[8] = {0};
    unsigned n = dims->n;
    /* rm selects an instruction only in the register form of legacy opcodes; reg seldom in VEX and EVEX. */
    if ((dims->which == OPDIM_RM && (!p->v[OPDIM_MOD] || p->ignore_rm)) || (dims->which == OPDIM_REG && p->ignore_reg)) {
        p->v[dims->which] = dims->which == OPDIM_REG ? 6 : 0;
        return build(p, dims + 1, n_dims - 1);
    }
    for (unsigned i = 0; i < n; i++) {
        p->v[dims->which] = i;
        child[i] = build(p, dims + 1, n_dims - 1);
    }
    return intern_node(dims->which, n, child);
}

/*
 * Does any answer differ by ModRM.reg? Tried on few combinations of the rest, enough for the groups there are; not with
 * reg 0, which clashes with vvvv 0 where registers must differ.
 */
static bool reg_matters(struct probe *p, unsigned which, unsigned combos)
{
    struct probe q = *p;
    for (unsigned c = 0; c < combos; c++) {
        memset(q.v, 0, sizeof(q.v));
        q.v[OPDIM_PP] = c & 3;
        q.v[OPDIM_MOD] = c >> 2 & 1;
        q.v[OPDIM_W] = c >> 3 & 1;
        q.v[OPDIM_L] = c >> 4 & 1;
        q.v[OPDIM_VVVV] = c >> 5 & 1;
        q.v[OPDIM_MASK] = c >> 6 & 1;
        q.v[OPDIM_MODE64] = 1;
        q.v[which] = 1;
        u32 first = ask_probe(&q);
        for (unsigned r = 2; r < 8; r++) {
            q.v[which] = r;
            if (ask_probe(&q) != first)
                return true;
        }
    }
    return false;
}

u32 build_opcode(unsigned encoding, unsigned map, unsigned opcode, bool rex_b)
{
    struct probe p = {.encoding = encoding, .map = map, .opcode = opcode, .rex_b = rex_b};
    /* Prefixes, and what opens another map or encoding (62, C4 and C5 are BOUND, LES and LDS with a memory form). */
    static const u8 prefixes[] = {0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};
    switch (encoding) {
    case ENC_LEGACY:
        if (map == 0 && memchr(prefixes, (int)opcode, sizeof(prefixes)))
            return 0;
        if (map == 1 && (opcode == 0x38 || opcode == 0x3a || opcode == 0x0f))
            return 0;
        p.ignore_rm = map >= 2;
        return build(&p, legacy_dims, ARRAY_SIZE(legacy_dims));
    case ENC_VEX:
        p.ignore_reg = !reg_matters(&p, OPDIM_REG, 64);
        return build(&p, vex_dims, ARRAY_SIZE(vex_dims));
    default:
        p.ignore_reg = !reg_matters(&p, OPDIM_REG, 128);
        return build(&p, evex_dims, ARRAY_SIZE(evex_dims));
    }
}

void probe_start(void)
{
    static const ZydisMachineMode modes[3] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                              ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth widths[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64};

    for (int i = 0; i < 3; i++) {
        if (!ZYAN_SUCCESS(ZydisDecoderInit(&decoders[i], modes[i], widths[i])))
            die("Zydis does not start");
        /* As on a processor without them: hint NOPs (SDM vol. 2, NOP; 17.4 MPX; 17.3 ENDBR). */
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    }
}
