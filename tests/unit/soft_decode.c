/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_decode - the software engine's decoder against Zydis.
 *
 *   test-soft_decode [N [SEED]]     N encodings (1,000,000); LODGE_TEST_SECONDS=600 goes on for that long instead
 *
 * Encodings are made to be nearly legal (prefixes, VEX and EVEX payloads, ModRM and SIB of every form) or wholly
 * random, whole or cut short, for 16, 32 and 64 bit code. Compared: legality, length, mnemonic, operand and address
 * size, immediates, displacement, every part of the memory operand and how it is accessed, register numbers, explicit
 * and implicit general registers, flags. The opcode table comes from Zydis too, but from one byte string per opcode and
 * form; here the engine's own walk over prefixes and operands is what is tried.
 */
#include "test.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <Zydis/Zydis.h>

#include "cpu/cpu.h"
#include "engine/soft/decode.h"

static u64 rng_state = 0x9e3779b97f4a7c15ull;

static u64 rng(void) /* xorshift64* */
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return rng_state * 0x2545f4914f6cdd1dull;
}
static unsigned below(unsigned n) { return (unsigned)((rng() >> 32) % n); }

static ZydisDecoder decoders[3];
static u64 tried, legal;

/* ---- what Lodge leaves out on purpose: #UD although Zydis knows it --------------- */

static bool left_out(const ZydisDecodedInstruction *in)
{
    static const char *const sets[] = {
        "AMD3DNOW", "AMD_INVLPGB", "AMX_BF16", "AMX_INT8", "AMX_TILE", "AVX512ER_512", "AVX512ER_SCALAR", "AVX512PF_512",
        "AVX512_4FMAPS_512", "AVX512_4FMAPS_SCALAR", "AVX512_4VNNIW_512", "CET", "CLDEMOTE", "ENQCMD", "FMA4", "HRESET",
        "KEYLOCKER", "KEYLOCKER_WIDE", "KNCE", "KNCJKBR", "KNCSTREAM", "KNCV", "KNC_MISC", "KNC_PF_HINT", "LWP", "MCOMMIT",
        "MONITORX", "MOVDIR", "MPX", "PADLOCK_ACE", "PADLOCK_PHE", "PADLOCK_PMM", "PADLOCK_RNG", "PCONFIG", "PT", "RDPRU",
        "RTM", "SGX", "SGX_ENCLV", "SMX", "SNP", "SVM", "TBM", "TDX", "TSX_LDTRK", "UINTR", "VMFUNC", "VTX", "WAITPKG", "XOP",
    };
    static const char *const mnemonics[] = {"rsm", "getsec", "invlpga", "skinit", "montmul"};
    const char *set = ZydisISASetGetString(in->meta.isa_set), *m = ZydisMnemonicGetString(in->mnemonic);
    if (!strcmp(m, "vmcall") || !strcmp(m, "vmmcall"))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
        if (!strcmp(set, sets[i]))
            return true;
    for (unsigned i = 0; i < ARRAY_SIZE(mnemonics); i++)
        if (!strcmp(m, mnemonics[i]))
            return true;
    return false;
}

/* ---- comparison -------------------------------------------------------------- */

static const char *wrong; /* first difference of this encoding */
static u64 wrong_got, wrong_want;

static void same(const char *what, u64 got, u64 want)
{
    if (got != want && !wrong) {
        wrong = what;
        wrong_got = got;
        wrong_want = want;
    }
}

static unsigned number_of(ZydisRegister r)
{
    if (r == ZYDIS_REGISTER_NONE || r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return 0xff;
    if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
        return (unsigned)(r - ZYDIS_REGISTER_AH) + 4;
    if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
        return (unsigned)(r - ZYDIS_REGISTER_SPL) + 4;
    if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR8)
        return (unsigned)(r - ZYDIS_REGISTER_AL);
    return (unsigned)ZydisRegisterGetId(r);
}

static bool is_gpr(ZydisRegister r)
{
    ZydisRegisterClass c = ZydisRegisterGetClass(r);
    return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64;
}

static bool reads(const ZydisDecodedOperand *o)
{
    return o->actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD | ZYDIS_OPERAND_ACTION_CONDWRITE);
}
static bool writes(const ZydisDecodedOperand *o)
{
    return o->actions & (ZYDIS_OPERAND_ACTION_WRITE | ZYDIS_OPERAND_ACTION_CONDWRITE);
}

static unsigned seg_of(ZydisRegister r)
{
    switch (r) {
    case ZYDIS_REGISTER_ES: return ES;
    case ZYDIS_REGISTER_CS: return CS;
    case ZYDIS_REGISTER_SS: return SS;
    case ZYDIS_REGISTER_FS: return FS;
    case ZYDIS_REGISTER_GS: return GS;
    default: return DS;
    }
}

static void compare_memory(const struct decoded *d, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
    same("has_mem", d->has_mem, true);
    /* SIB.base 5 with mod 0 is a displacement and no base, whatever REX.B (SDM vol. 2 table 2-5); with a 67 prefix
       Zydis 4.0 shows R13D and drops the displacement it has read. */
    bool zydis_r13d = d->mod == 0 && o->mem.base == ZYDIS_REGISTER_R13D && in->raw.sib.offset;
    same("base", d->base, zydis_r13d ? 0xff : number_of(o->mem.base));
    same("rip_relative", d->rip_relative, o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP);
    same("index", d->index, number_of(o->mem.index));
    if (d->index != 0xff)
        same("scale", 1u << d->scale, o->mem.scale);
    /* Zydis gives 16 and 32 bit moffs sign-extended. */
    u64 mask = d->asize == 2 ? 0xffff : d->asize == 4 ? 0xffffffff : ~0ull;
    if (!zydis_r13d)
        same("disp", (u64)d->disp & mask, o->mem.disp.has_displacement ? (u64)o->mem.disp.value & mask : 0);
    if (o->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
        same("seg", d->seg, seg_of(o->mem.segment));
    same("vsib", !!(d->desc->flags & OPF_VSIB), o->mem.type == ZYDIS_MEMOP_TYPE_VSIB);

    bool access = o->mem.type != ZYDIS_MEMOP_TYPE_AGEN && in->meta.category != ZYDIS_CATEGORY_NOP &&
        in->meta.category != ZYDIS_CATEGORY_WIDENOP && in->meta.category != ZYDIS_CATEGORY_PREFETCH &&
        in->meta.category != ZYDIS_CATEGORY_PREFETCHWT1 && in->mnemonic != ZYDIS_MNEMONIC_INVLPG;
    const char *m = ZydisMnemonicGetString(in->mnemonic);
    bool xsave = !strncmp(m, "xsave", 5) || !strncmp(m, "xrstor", 6);
    same("mem_size", d->desc->mem_size, access && !xsave ? o->size / 8 : 0);
    same("mem read", !!(d->desc->flags & OPF_MEM_READ),
        access && o->actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD));
    same("mem write", !!(d->desc->flags & OPF_MEM_WRITE), access && writes(o));
}

static void compare_gpr(const char *what, const struct opdesc_gpr *g, const ZydisDecodedOperand *o)
{
    bool gpr = is_gpr(o->reg.value);
    same(what, g->size, gpr ? o->size / 8 : 0);
    if (gpr)
        same(what, (unsigned)g->read << 1 | g->write, (unsigned)reads(o) << 1 | writes(o));
}

static void compare_operands(const struct decoded *d, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
    u32 implicit_read = 0, implicit_write = 0;
    unsigned imm = 0;
    bool mem = false;
    bool string = in->meta.category == ZYDIS_CATEGORY_STRINGOP || in->meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
    for (unsigned i = 0; i < in->operand_count; i++) {
        const ZydisDecodedOperand *o = &op[i];
        switch (o->type) {
        case ZYDIS_OPERAND_TYPE_MEMORY:
            if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM || o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
                mem = true;
                compare_memory(d, in, o);
            } else {
                same("implicit mem", !!(d->desc->flags & OPF_IMPLICIT_MEM), true);
                unsigned n = number_of(o->mem.base);
                if (n < 16) {
                    implicit_read |= 1u << n;
                    if (string && (n == RSI || n == RDI))
                        implicit_write |= 1u << n;
                }
                if (n == RSI || n == RBX)
                    same("seg of string", d->seg, seg_of(o->mem.segment));
            }
            break;
        case ZYDIS_OPERAND_TYPE_REGISTER:
            switch (o->encoding) {
            case ZYDIS_OPERAND_ENCODING_MODRM_REG:
            case ZYDIS_OPERAND_ENCODING_OPCODE:
                same("reg", d->reg, number_of(o->reg.value));
                compare_gpr("reg operand", &d->desc->reg, o);
                break;
            case ZYDIS_OPERAND_ENCODING_MODRM_RM:
                same("rm", d->rm, number_of(o->reg.value));
                compare_gpr("rm operand", &d->desc->rm, o);
                break;
            case ZYDIS_OPERAND_ENCODING_NDSNDD:
                same("vvvv", d->vvvv, number_of(o->reg.value));
                compare_gpr("vvvv operand", &d->desc->vvvv, o);
                break;
            case ZYDIS_OPERAND_ENCODING_MASK:
                same("aaa", d->aaa, number_of(o->reg.value));
                break;
            default:
                if (is_gpr(o->reg.value)) {
                    unsigned n = number_of(o->reg.value);
                    if (o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH)
                        n -= 4;
                    implicit_read |= reads(o) ? 1u << n : 0;
                    implicit_write |= writes(o) ? 1u << n : 0;
                }
            }
            break;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            if (o->encoding == ZYDIS_OPERAND_ENCODING_IS4 || !in->raw.imm[imm].size)
                break;
            if (imm == 0) {
                unsigned bits = in->raw.imm[0].size;
                u64 mask = bits == 64 ? ~0ull : (1ull << bits) - 1;
                same("imm", d->imm & mask, in->raw.imm[0].value.u & mask);
            } else {
                same("imm2", d->imm2, in->raw.imm[1].value.u & 0xff);
            }
            imm++;
            break;
        case ZYDIS_OPERAND_TYPE_POINTER:
            same("far offset", d->imm, o->ptr.offset);
            same("far selector", d->imm2, o->ptr.segment);
            break;
        default:
            break;
        }
    }
    if (!mem && in->raw.modrm.mod == 3)
        same("has_mem", d->has_mem, false);
    same("implicit read", d->desc->gpr_read, implicit_read);
    same("implicit write", d->desc->gpr_write, implicit_write);
}

static void compare_flags(const struct decoded *d, const ZydisDecodedInstruction *in)
{
    const ZydisAccessedFlags *f = in->cpu_flags;
    if (!f)
        return;
    same("flags written", d->desc->eflags_write, f->modified | f->set_0 | f->set_1 | f->undefined);
    same("flags undefined", d->desc->eflags_undef, f->undefined);
    /* decode.h: what may stay as it is, for a count of zero, counts as read. */
    u32 extra = d->desc->eflags_read & ~f->tested;
    same("flags read", d->desc->eflags_read & f->tested, f->tested);
    if (extra)
        same("flags kept", in->meta.category == ZYDIS_CATEGORY_SHIFT || in->meta.category == ZYDIS_CATEGORY_ROTATE ||
            (in->meta.category == ZYDIS_CATEGORY_STRINGOP && d->rep), true);
}

static void try_one(const u8 *bytes, unsigned avail, unsigned mode)
{
    static const unsigned mode_bits[3] = {16, 32, 64};
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    struct decoded d;
    ZyanStatus z = ZydisDecoderDecodeFull(&decoders[mode], bytes, avail, &in, op);
    enum decode_result r = decode(&d, bytes, avail, mode_bits[mode], true);

    wrong = NULL;
    tried++;
    if (!ZYAN_SUCCESS(z)) {
        if (r == DECODE_OK)
            same("legal, Zydis fails with", 0, z & 0xfffff);
        else if (z == ZYDIS_STATUS_NO_MORE_DATA && avail < 15 && r != DECODE_UD)
            /* A reserved opcode is known as such before its ModRM byte is there. */
            same("result", (u64)(s64)r, (u64)(s64)DECODE_MORE);
    } else if (r == DECODE_UD) {
        same("#UD for an instruction of Zydis", left_out(&in), true);
    } else if (r != DECODE_OK) {
        same("result", (u64)(s64)r, 0);
    } else {
        legal++;
        same("len", d.len, in.length);
        if (strcmp(mnemonic_name(d.desc->mnemonic), ZydisMnemonicGetString(in.mnemonic)) != 0)
            same(mnemonic_name(d.desc->mnemonic), 1, 0);
        same("asize", d.asize, in.address_width / 8);
        if (d.encoding == ENC_LEGACY && d.desc->cls < OPC_MMX && in.operand_width != 8)
            same("osize", d.osize, in.operand_width / 8);
        compare_operands(&d, &in, op);
        compare_flags(&d, &in);
        same("copy of the bytes", (u64)memcmp(d.bytes, bytes, d.len), 0);
    }
    if (wrong) {
        char hex[64], text[128] = "(not legal)";
        ZydisFormatter f;
        for (unsigned i = 0; i < avail && i < 15; i++)
            sprintf(hex + 3 * i, "%02x ", bytes[i]);
        if (ZYAN_SUCCESS(z)) {
            ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
            ZydisFormatterFormatInstruction(&f, &in, op, in.operand_count_visible, text, sizeof(text), 0, NULL);
        }
        test_fail(__FILE__, __LINE__, "%u-bit %s %s: %s is 0x%llx, not 0x%llx", mode_bits[mode], hex, text, wrong,
            (unsigned long long)wrong_got, (unsigned long long)wrong_want);
    }
}

/* ---- encodings ---------------------------------------------------------------- */

static unsigned make(u8 *b, unsigned mode)
{
    static const u8 prefixes[] = {0x66, 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65};
    unsigned n = 0, kind = below(16);
    for (unsigned i = 0; i < 32; i++)
        b[i] = (u8)(rng() >> 40);
    if (kind == 0)
        return below(8) ? 24 : below(16); /* as they fell */
    unsigned count = below(8) == 0 ? below(15) : below(4) == 0 ? below(4) : below(2);
    while (n < count)
        b[n++] = below(mode == 2 ? 6 : 40) ? prefixes[below(sizeof(prefixes))] : (u8)(0x40 + below(16));
    if (kind < 10) {
        if (mode == 2 && below(2))
            b[n++] = (u8)(0x40 + below(16));
        unsigned map = below(8);
        if (map >= 3)
            b[n++] = 0x0f;
        if (map == 6)
            b[n++] = 0x38;
        if (map == 7)
            b[n++] = 0x3a;
        n++; /* opcode */
    } else if (kind < 13) {
        if (below(8))
            n = 0;
        if (below(2)) {
            b[n++] = 0xc5;
            b[n++] = (u8)(below(256) | (mode == 2 ? 0 : 0xc0) | (below(2) ? 0x78 : 0));
        } else {
            b[n++] = 0xc4;
            b[n++] = (u8)(below(8) << 5 | (mode == 2 ? 0 : 0xc0) | (below(16) ? below(3) + 1 : below(32)));
            b[n++] = (u8)(below(256) | (below(2) ? 0x78 : 0));
        }
        n++;
    } else {
        if (below(8))
            n = 0;
        b[n++] = 0x62;
        b[n++] = (u8)(below(16) << 4 | (mode == 2 ? 0 : 0xc0) | (below(16) ? 1 + below(6) : below(16)));
        b[n++] = (u8)((below(256) | (below(2) ? 0x78 : 0)) & (below(16) ? 0xff : 0xfb)) | (below(16) ? 4 : 0);
        b[n++] = (u8)(below(256) & (below(2) ? 0xef : 0xff) & (below(2) ? 0x78 : 0xff)) | (below(2) ? 8 : 0);
        n++;
    }
    if (below(8) == 0) /* ModRM.mod 0 with rm 4, 5: SIB, RIP-relative */
        b[n] = (u8)((b[n] & 0x38) | (4 + below(2)));
    return below(16) ? 24 : below(n + 8);
}

static void check_mode_rules(void)
{
    static const struct {
        u8 bytes[8];
        unsigned len, bits;
        bool protected_mode;
        int result;
    } cases[] = {
        {{0x0f, 0x00, 0xc0}, 3, 16, true, DECODE_OK}, {{0x0f, 0x00, 0xc0}, 3, 16, false, DECODE_UD}, /* SLDT AX */
        {{0x0f, 0x01, 0xe0}, 3, 16, false, DECODE_OK}, /* SMSW AX */
        {{0x63, 0xc0}, 2, 16, false, DECODE_UD}, {{0x63, 0xc0}, 2, 16, true, DECODE_OK}, /* ARPL */
        {{0x0f, 0x02, 0xc0}, 3, 16, false, DECODE_UD}, /* LAR */
        {{0xc5, 0xf8, 0x77}, 3, 16, false, DECODE_UD}, {{0xc5, 0xf8, 0x77}, 3, 16, true, DECODE_OK}, /* VZEROUPPER */
        {{0xc5, 0x38}, 2, 16, false, DECODE_OK}, /* LDS DI, [BX+SI] */
        {{0x0f, 0x0b}, 2, 64, true, DECODE_OK}, /* UD2 */
        {{0xd6}, 1, 32, true, DECODE_OK}, {{0xd6}, 1, 64, true, DECODE_UD}, /* SALC */
        {{0x82, 0xc0, 0x01}, 3, 32, true, DECODE_OK}, {{0x82, 0xc0, 0x01}, 3, 64, true, DECODE_UD},
        {{0xf0, 0x0f, 0x20, 0xc0}, 4, 32, true, DECODE_UD}, /* LOCK MOV CR0: CR8 on AMD */
        {{0xf0, 0x01, 0x00}, 3, 32, true, DECODE_OK}, {{0xf0, 0x01, 0xc0}, 3, 32, true, DECODE_UD},
        {{0xf0, 0x8b, 0x00}, 3, 32, true, DECODE_UD},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct decoded d;
        int r = decode(&d, cases[i].bytes, cases[i].len, cases[i].bits, cases[i].protected_mode);
        if (r != cases[i].result)
            test_fail(__FILE__, __LINE__, "case %u: %d, not %d", i, r, cases[i].result);
    }
    /* 14 prefixes and a one-byte opcode are an instruction, 15 are one byte too many. */
    u8 b[16];
    struct decoded d;
    memset(b, 0x2e, sizeof(b));
    b[14] = 0x90;
    CHECK_EQ(decode(&d, b, 16, 32, true), DECODE_OK);
    CHECK_EQ(d.len, 15);
    b[14] = 0x2e;
    b[15] = 0x90;
    CHECK_EQ(decode(&d, b, 16, 32, true), (u64)(s64)DECODE_TOO_LONG);
    CHECK_EQ(decode(&d, b, 14, 32, true), (u64)(s64)DECODE_MORE);
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void measure(void)
{
    static const u8 code[4][8] = {
        {0x48, 0x8b, 0x44, 0x24, 0x08}, {0x0f, 0x84, 1, 2, 3, 4}, {0x01, 0xc8}, {0xc5, 0xfd, 0x6f, 0x00},
    };
    struct decoded d;
    double t = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned i = 0; i < 4000000; i++)
        if (decode(&d, code[i & 3], 8, 64, true) != DECODE_OK)
            CHECK(false);
    printf("%.1f ns an instruction\n", (seconds(CLOCK_THREAD_CPUTIME_ID) - t) * 1e9 / 4000000);
}

int main(int argc, char **argv)
{
    static const ZydisMachineMode modes[3] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
        ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth widths[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64};
    const char *limit = getenv("LODGE_TEST_SECONDS"), *seed = getenv("LODGE_TEST_SEED");
    double end = limit ? seconds(CLOCK_MONOTONIC) + atof(limit) : 0;
    u64 n = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;

    if (argc > 2)
        seed = argv[2];
    if (seed)
        rng_state = strtoull(seed, NULL, 0) * 2 + 1;
    else if (limit)
        rng_state = (u64)time(NULL) * 2 + 1;
    for (unsigned i = 0; i < 3; i++) {
        ZydisDecoderInit(&decoders[i], modes[i], widths[i]);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    }
    printf("seed %llu\n", (unsigned long long)rng_state >> 1);
    check_mode_rules();
    unsigned failures = 0;
    for (u64 i = 0; limit ? (i & 0xfff) || seconds(CLOCK_MONOTONIC) < end : i < n; i++) {
        u8 b[32];
        unsigned mode = below(3), avail = make(b, mode);
        try_one(b, avail, mode);
        if (wrong && ++failures == 50)
            break;
    }
    printf("%llu encodings, %llu of them legal\n", (unsigned long long)tried, (unsigned long long)legal);
    measure();
    return test_status();
}
