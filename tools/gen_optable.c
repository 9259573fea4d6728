/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_optable - writes the software engine's opcode table from Zydis, at build time.
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
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/base.h"

#define LODGE_GEN_OPTABLE /* decode.h without the header that is made here */
enum { ISA_COUNT = 1 };
#include "engine/soft/decode.h"
#include "engine/soft/optree.h"

/* ---- features ------------------------------------------------------------ */

enum reg_of_leaf { EAX_, EBX_, ECX_, EDX_ };

/* One CPUID bit each, and another feature that must be there too (listed before). X86: always there. */
static const struct feature {
    const char *name;
    u32 function, index;
    u8 reg, bit;
    const char *also;
} features[] = {
    {"X86", 0, 0, 0, 0, NULL},
    {"X87", 1, 0, EDX_, 0, NULL},
    {"TSC", 1, 0, EDX_, 4, NULL},
    {"MSR", 1, 0, EDX_, 5, NULL},
    {"CX8", 1, 0, EDX_, 8, NULL},
    {"SEP", 1, 0, EDX_, 11, NULL},
    {"CMOV", 1, 0, EDX_, 15, NULL},
    {"FCMOV", 1, 0, EDX_, 15, "X87"},
    {"CLFSH", 1, 0, EDX_, 19, NULL},
    {"MMX", 1, 0, EDX_, 23, NULL},
    {"FXSR", 1, 0, EDX_, 24, NULL},
    {"SSE", 1, 0, EDX_, 25, NULL},
    {"SSE2", 1, 0, EDX_, 26, NULL},
    {"SSE3", 1, 0, ECX_, 0, NULL},
    {"PCLMULQDQ", 1, 0, ECX_, 1, NULL},
    {"MONITOR", 1, 0, ECX_, 3, NULL},
    {"SSSE3", 1, 0, ECX_, 9, NULL},
    {"FMA", 1, 0, ECX_, 12, NULL},
    {"CX16", 1, 0, ECX_, 13, NULL},
    {"SSE41", 1, 0, ECX_, 19, NULL},
    {"SSE42", 1, 0, ECX_, 20, NULL},
    {"MOVBE", 1, 0, ECX_, 22, NULL},
    {"POPCNT", 1, 0, ECX_, 23, NULL},
    {"AES", 1, 0, ECX_, 25, NULL},
    {"XSAVE", 1, 0, ECX_, 26, NULL},
    {"AVX", 1, 0, ECX_, 28, NULL},
    {"F16C", 1, 0, ECX_, 29, NULL},
    {"RDRAND", 1, 0, ECX_, 30, NULL},
    {"AVX_AES", 1, 0, ECX_, 25, "AVX"},
    {"AVX_PCLMULQDQ", 1, 0, ECX_, 1, "AVX"},
    {"FSGSBASE", 7, 0, EBX_, 0, NULL},
    {"BMI1", 7, 0, EBX_, 3, NULL},
    {"AVX2", 7, 0, EBX_, 5, NULL},
    {"BMI2", 7, 0, EBX_, 8, NULL},
    {"INVPCID", 7, 0, EBX_, 10, NULL},
    {"AVX512F", 7, 0, EBX_, 16, NULL},
    {"AVX512DQ", 7, 0, EBX_, 17, NULL},
    {"RDSEED", 7, 0, EBX_, 18, NULL},
    {"ADX", 7, 0, EBX_, 19, NULL},
    {"SMAP", 7, 0, EBX_, 20, NULL},
    {"AVX512IFMA", 7, 0, EBX_, 21, NULL},
    {"CLFLUSHOPT", 7, 0, EBX_, 23, NULL},
    {"CLWB", 7, 0, EBX_, 24, NULL},
    {"AVX512CD", 7, 0, EBX_, 28, NULL},
    {"SHA", 7, 0, EBX_, 29, NULL},
    {"AVX512BW", 7, 0, EBX_, 30, NULL},
    {"AVX512VL", 7, 0, EBX_, 31, "AVX512F"},
    {"AVX512VBMI", 7, 0, ECX_, 1, NULL},
    {"PKU", 7, 0, ECX_, 3, NULL},
    {"AVX512VBMI2", 7, 0, ECX_, 6, NULL},
    {"GFNI", 7, 0, ECX_, 8, NULL},
    {"VAES", 7, 0, ECX_, 9, NULL},
    {"VPCLMULQDQ", 7, 0, ECX_, 10, NULL},
    {"AVX512VNNI", 7, 0, ECX_, 11, NULL},
    {"AVX512BITALG", 7, 0, ECX_, 12, NULL},
    {"AVX512VPOPCNTDQ", 7, 0, ECX_, 14, NULL},
    {"RDPID", 7, 0, ECX_, 22, NULL},
    {"AVX512VP2INTERSECT", 7, 0, EDX_, 8, NULL},
    {"SERIALIZE", 7, 0, EDX_, 14, NULL},
    {"AVX512FP16", 7, 0, EDX_, 23, NULL},
    {"AVXVNNI", 7, 1, EAX_, 4, NULL},
    {"AVX512BF16", 7, 1, EAX_, 5, NULL},
    {"AVX_GFNI", 7, 0, ECX_, 8, "AVX"},
    {"AVX512_GFNI", 7, 0, ECX_, 8, "AVX512F"},
    {"AVX512_VAES", 7, 0, ECX_, 9, "AVX512F"},
    {"AVX512_VPCLMULQDQ", 7, 0, ECX_, 10, "AVX512F"},
    /* The 128 and 256 bit forms of EVEX need AVX512VL as well. */
    {"AVX512DQ_VL", 7, 0, EBX_, 17, "AVX512VL"},
    {"AVX512IFMA_VL", 7, 0, EBX_, 21, "AVX512VL"},
    {"AVX512CD_VL", 7, 0, EBX_, 28, "AVX512VL"},
    {"AVX512BW_VL", 7, 0, EBX_, 30, "AVX512VL"},
    {"AVX512VBMI_VL", 7, 0, ECX_, 1, "AVX512VL"},
    {"AVX512VBMI2_VL", 7, 0, ECX_, 6, "AVX512VL"},
    {"AVX512_GFNI_VL", 7, 0, ECX_, 8, "AVX512VL"},
    {"AVX512_VAES_VL", 7, 0, ECX_, 9, "AVX512VL"},
    {"AVX512_VPCLMULQDQ_VL", 7, 0, ECX_, 10, "AVX512VL"},
    {"AVX512VNNI_VL", 7, 0, ECX_, 11, "AVX512VL"},
    {"AVX512BITALG_VL", 7, 0, ECX_, 12, "AVX512VL"},
    {"AVX512VPOPCNTDQ_VL", 7, 0, ECX_, 14, "AVX512VL"},
    {"AVX512VP2INTERSECT_VL", 7, 0, EDX_, 8, "AVX512VL"},
    {"AVX512FP16_VL", 7, 0, EDX_, 23, "AVX512VL"},
    {"AVX512BF16_VL", 7, 1, EAX_, 5, "AVX512VL"},
    {"SSE4A", 0x80000001, 0, ECX_, 6, NULL},
    {"LAHF64", 0x80000001, 0, ECX_, 0, NULL},
    {"LZCNT", 0x80000001, 0, ECX_, 5, NULL},
    {"PREFETCHW", 0x80000001, 0, ECX_, 8, NULL},
    {"SYSCALL", 0x80000001, 0, EDX_, 11, NULL},
    {"RDTSCP", 0x80000001, 0, EDX_, 27, NULL},
    {"LONGMODE", 0x80000001, 0, EDX_, 29, NULL},
    {"CLZERO", 0x80000008, 0, EBX_, 0, NULL},
    {"XSAVEOPT", 0xd, 1, EAX_, 0, NULL},
    {"XSAVEC", 0xd, 1, EAX_, 1, NULL},
    {"XSAVES", 0xd, 1, EAX_, 3, NULL},
};

/* Zydis's ISA sets to ours, by the spelling of ZydisISASetGetString. What is not here does not exist for Lodge. */
static const struct isa_map {
    const char *zydis, *feature;
} isa_map[] = {
    {"I86", "X86"}, {"I186", "X86"}, {"I286REAL", "X86"}, {"I286PROTECTED", "X86"}, {"I386", "X86"},
    {"I486", "X86"}, {"I486REAL", "X86"}, {"PENTIUMREAL", "X86"}, {"PPRO", "X86"}, {"FAT_NOP", "X86"},
    {"PAUSE", "X86"}, {"PREFETCH_NOP", "X86"}, {"SSE_PREFETCH", "X86"}, {"PREFETCHWT1", "X86"}, {"AMD", "SYSCALL"},
    {"LONGMODE", "LONGMODE"}, {"RDPMC", "X86"}, {"CMOV", "CMOV"}, {"LAHF", "X86"},
    {"X87", "X87"}, {"FCMOV", "FCMOV"}, {"SSE3X87", "SSE3"}, {"PENTIUMMMX", "MMX"}, {"FXSAVE", "FXSR"}, {"FXSAVE64", "FXSR"},
    {"SSE", "SSE"}, {"SSEMXCSR", "SSE"}, {"SSE2", "SSE2"}, {"SSE2MMX", "SSE2"}, {"SSE3", "SSE3"}, {"SSSE3", "SSSE3"},
    {"SSSE3MMX", "SSSE3"}, {"SSE4", "SSE41"}, {"SSE42", "SSE42"}, {"SSE4A", "SSE4A"}, {"AES", "AES"},
    {"PCLMULQDQ", "PCLMULQDQ"}, {"SHA", "SHA"}, {"GFNI", "GFNI"},
    {"ADOX_ADCX", "ADX"}, {"BMI1", "BMI1"}, {"BMI2", "BMI2"}, {"LZCNT", "LZCNT"}, {"POPCNT", "POPCNT"},
    {"MOVBE", "MOVBE"}, {"CMPXCHG16B", "CX16"}, {"RDRAND", "RDRAND"}, {"RDSEED", "RDSEED"}, {"RDTSCP", "RDTSCP"},
    {"RDPID", "RDPID"}, {"RDWRFSGS", "FSGSBASE"}, {"CLFSH", "CLFSH"}, {"CLFLUSHOPT", "CLFLUSHOPT"}, {"CLWB", "CLWB"},
    {"CLZERO", "CLZERO"}, {"INVPCID", "INVPCID"}, {"MONITOR", "MONITOR"}, {"PKU", "PKU"}, {"SMAP", "SMAP"},
    {"SERIALIZE", "SERIALIZE"}, {"XSAVE", "XSAVE"}, {"XSAVEC", "XSAVEC"}, {"XSAVEOPT", "XSAVEOPT"}, {"XSAVES", "XSAVES"},
    {"AVX", "AVX"}, {"AVX2", "AVX2"}, {"AVX2GATHER", "AVX2"}, {"AVXAES", "AVX_AES"}, {"AVX_GFNI", "AVX_GFNI"},
    {"AVX_VNNI", "AVXVNNI"}, {"F16C", "F16C"}, {"FMA", "FMA"}, {"VAES", "VAES"}, {"VPCLMULQDQ", "VPCLMULQDQ"},
    {"AVX512F_128N", "AVX512F"}, {"AVX512F_512", "AVX512F"}, {"AVX512F_KOP", "AVX512F"}, {"AVX512F_SCALAR", "AVX512F"},
    {"AVX512F_128", "AVX512VL"}, {"AVX512F_256", "AVX512VL"},
    {"AVX512BW_128N", "AVX512BW"}, {"AVX512BW_512", "AVX512BW"}, {"AVX512BW_KOP", "AVX512BW"},
    {"AVX512BW_128", "AVX512BW_VL"}, {"AVX512BW_256", "AVX512BW_VL"},
    {"AVX512DQ_128N", "AVX512DQ"}, {"AVX512DQ_512", "AVX512DQ"}, {"AVX512DQ_KOP", "AVX512DQ"},
    {"AVX512DQ_SCALAR", "AVX512DQ"}, {"AVX512DQ_128", "AVX512DQ_VL"}, {"AVX512DQ_256", "AVX512DQ_VL"},
    {"AVX512CD_512", "AVX512CD"}, {"AVX512CD_128", "AVX512CD_VL"}, {"AVX512CD_256", "AVX512CD_VL"},
    {"AVX512_BF16_512", "AVX512BF16"}, {"AVX512_BF16_128", "AVX512BF16_VL"}, {"AVX512_BF16_256", "AVX512BF16_VL"},
    {"AVX512_BITALG_512", "AVX512BITALG"}, {"AVX512_BITALG_128", "AVX512BITALG_VL"}, {"AVX512_BITALG_256", "AVX512BITALG_VL"},
    {"AVX512_FP16_128N", "AVX512FP16"}, {"AVX512_FP16_SCALAR", "AVX512FP16"}, {"AVX512_FP16_512", "AVX512FP16"},
    {"AVX512_FP16_128", "AVX512FP16_VL"}, {"AVX512_FP16_256", "AVX512FP16_VL"},
    {"AVX512_GFNI_512", "AVX512_GFNI"}, {"AVX512_GFNI_128", "AVX512_GFNI_VL"}, {"AVX512_GFNI_256", "AVX512_GFNI_VL"},
    {"AVX512_IFMA_512", "AVX512IFMA"}, {"AVX512_IFMA_128", "AVX512IFMA_VL"}, {"AVX512_IFMA_256", "AVX512IFMA_VL"},
    {"AVX512_VAES_512", "AVX512_VAES"}, {"AVX512_VAES_128", "AVX512_VAES_VL"}, {"AVX512_VAES_256", "AVX512_VAES_VL"},
    {"AVX512_VBMI2_512", "AVX512VBMI2"}, {"AVX512_VBMI2_128", "AVX512VBMI2_VL"}, {"AVX512_VBMI2_256", "AVX512VBMI2_VL"},
    {"AVX512_VBMI_512", "AVX512VBMI"}, {"AVX512_VBMI_128", "AVX512VBMI_VL"}, {"AVX512_VBMI_256", "AVX512VBMI_VL"},
    {"AVX512_VNNI_512", "AVX512VNNI"}, {"AVX512_VNNI_128", "AVX512VNNI_VL"}, {"AVX512_VNNI_256", "AVX512VNNI_VL"},
    {"AVX512_VP2INTERSECT_512", "AVX512VP2INTERSECT"}, {"AVX512_VP2INTERSECT_128", "AVX512VP2INTERSECT_VL"},
    {"AVX512_VP2INTERSECT_256", "AVX512VP2INTERSECT_VL"},
    {"AVX512_VPCLMULQDQ_512", "AVX512_VPCLMULQDQ"}, {"AVX512_VPCLMULQDQ_128", "AVX512_VPCLMULQDQ_VL"},
    {"AVX512_VPCLMULQDQ_256", "AVX512_VPCLMULQDQ_VL"},
    {"AVX512_VPOPCNTDQ_512", "AVX512VPOPCNTDQ"}, {"AVX512_VPOPCNTDQ_128", "AVX512VPOPCNTDQ_VL"},
    {"AVX512_VPOPCNTDQ_256", "AVX512VPOPCNTDQ_VL"},
};

/* Where the instruction says more than its set. */
static const struct isa_map mnemonic_feature[] = {
    {"rdtsc", "TSC"}, {"rdmsr", "MSR"}, {"wrmsr", "MSR"}, {"cmpxchg8b", "CX8"}, {"sysenter", "SEP"}, {"sysexit", "SEP"},
    {"syscall", "SYSCALL"}, {"sysret", "SYSCALL"}, {"crc32", "SSE42"}, {"vpclmulqdq", NULL}, {"movnti", "SSE2"},
};

/* In Zydis's tables under a set that is kept, but not implemented. */
static const char *const left_out[] = {
    "rsm", "getsec", "invlpga", "skinit", "montmul", "rdpru", "mcommit", "xabort", "xbegin",
};

/* #UD in real and virtual-8086 mode (SDM vol. 3, 21.1.3; vol. 2 of each). */
static const char *const protected_only[] = {
    "arpl", "lar", "lsl", "verr", "verw", "sldt", "str", "lldt", "ltr",
};

static const char *const privileged[] = {
    "hlt", "clts", "lgdt", "lidt", "lldt", "ltr", "lmsw", "invd", "wbinvd", "wbnoinvd", "invlpg", "rdmsr", "wrmsr",
    "sysexit", "sysret", "swapgs", "xsetbv", "xsaves", "xsaves64", "xrstors", "xrstors64", "invpcid", "monitor", "mwait",
    "clac", "stac",
};

static bool listed(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(s, list[i]))
            return true;
    return false;
}
#define LISTED(s, list) listed(s, list, ARRAY_SIZE(list))

static _Noreturn void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("gen_optable: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    exit(1);
}

static int feature_index(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
        if (!strcmp(features[i].name, name))
            return (int)i;
    die("unknown feature %s", name);
}

/* ---- state of the run ---------------------------------------------------- */

#define NODE 0x80000000u /* as OPTREE_NODE, while it grows */
enum { MAX_DESC = 16384, MAX_TREE = 1 << 18 };

static struct opdesc descs[MAX_DESC];
static u32 n_desc = 1; /* 0: invalid */
static u32 desc_hash[1 << 16];
static s16 set_feature[ZYDIS_ISA_SET_MAX_VALUE + 1];
static u16 mnemonic_number[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* used: 1, later its number */

static u32 tree[MAX_TREE];
static u32 n_tree = 2;
static u32 node_hash[1 << 18];

static ZydisDecoder decoders[3];
static const unsigned mode_bits[3] = {16, 32, 64};

static u32 hash_bytes(const void *p, size_t n)
{
    u32 h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const u8 *)p)[i]) * 16777619u;
    return h ^ h >> 15;
}

static u32 intern_desc(const struct opdesc *d)
{
    for (u32 h = hash_bytes(d, sizeof(*d));; h++) {
        u32 *slot = &desc_hash[h & (ARRAY_SIZE(desc_hash) - 1)];
        if (!*slot) {
            if (n_desc == MAX_DESC)
                die("too many descriptors");
            descs[n_desc] = *d;
            return *slot = n_desc++;
        }
        if (!memcmp(&descs[*slot], d, sizeof(*d)))
            return *slot;
    }
}

/* A node over n children: their common value if they agree, an equal node if there is one. */
static u32 intern_node(unsigned dim, unsigned n, const u32 *child)
{
    u32 key[1 + 64];
    bool same = true;
    key[0] = dim;
    for (unsigned i = 0; i < n; i++) {
        key[1 + i] = child[i];
        same = same && child[i] == child[0];
    }
    if (same)
        return child[0];
    for (u32 h = hash_bytes(key, (1 + n) * 4);; h++) {
        u32 *slot = &node_hash[h & (ARRAY_SIZE(node_hash) - 1)];
        if (!*slot) {
            if (n_tree + n + 1 > MAX_TREE)
                die("tree too large");
            memcpy(tree + n_tree, key, (1 + n) * 4);
            *slot = n_tree;
            n_tree += (n + 2) & ~1u; /* nodes are named by place / 2 */
            return *slot | NODE;
        }
        if (tree[*slot] == dim && !memcmp(tree + *slot, key, (1 + n) * 4))
            return *slot | NODE;
    }
}

/* ---- what Zydis says, as a struct opdesc ------------------------------------ */

static unsigned gpr_number(ZydisRegister r, bool *gpr)
{
    *gpr = true;
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR8: /* AL CL DL BL, AH CH DH BH, SPL ..., R8B ... */
        if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
            return (unsigned)(r - ZYDIS_REGISTER_AH);
        if (r <= ZYDIS_REGISTER_BL)
            return (unsigned)(r - ZYDIS_REGISTER_AL);
        return (unsigned)(r - ZYDIS_REGISTER_SPL) + 4;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return (unsigned)ZydisRegisterGetId(r);
    default:
        *gpr = false;
        return 0;
    }
}

/* A register that is written only on some condition keeps its value otherwise: it is read as well. */
static bool is_read(const ZydisDecodedOperand *o)
{
    return o->actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD | ZYDIS_OPERAND_ACTION_CONDWRITE);
}
static bool is_write(const ZydisDecodedOperand *o)
{
    return o->actions & (ZYDIS_OPERAND_ACTION_WRITE | ZYDIS_OPERAND_ACTION_CONDWRITE);
}

static bool has_class(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op, ZydisRegisterClass c)
{
    for (int i = 0; i < in->operand_count_visible; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(op[i].reg.value) == c)
            return true;
    return false;
}

static u8 classify(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
    static const char *const control[] = {"ud0", "ud1", "ud2", "iret", "iretd", "iretq", "loop", "loope", "loopne"};
    static const char *const integer[] = {"cmc", "clc", "stc", "cld", "std", "lahf", "sahf", "salc", "movnti", "lfence",
        "sfence", "mfence", "clflush", "clflushopt", "clwb", "popcnt", "crc32", "prefetchw", "pause", "rdrand", "rdseed"};
    static const char *const system[] = {"pushf", "pushfd", "pushfq", "popf", "popfd", "popfq", "lds", "les", "lfs", "lgs",
        "lss", "fxsave", "fxsave64", "fxrstor", "fxrstor64", "cli", "sti", "cpuid", "rdtsc", "rdtscp", "rdpmc", "in", "out",
        "clac", "stac", "rdpkru", "wrpkru", "rdpid", "arpl", "lar", "lsl", "verr", "verw"};
    const char *m = ZydisMnemonicGetString(in->mnemonic);

    if (LISTED(m, control))
        return OPC_CONTROL;
    if (LISTED(m, integer))
        return OPC_INT;
    if (LISTED(m, system))
        return OPC_SYSTEM;
    if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || has_class(in, op, ZYDIS_REGCLASS_MASK))
        return OPC_AVX512;
    if (has_class(in, op, ZYDIS_REGCLASS_SEGMENT) || has_class(in, op, ZYDIS_REGCLASS_CONTROL) ||
        has_class(in, op, ZYDIS_REGCLASS_DEBUG))
        return OPC_SYSTEM;
    switch (in->meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
        return OPC_CONTROL;
    case ZYDIS_CATEGORY_STRINGOP:
    case ZYDIS_CATEGORY_IOSTRINGOP:
        return OPC_STRING;
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_RDWRFSGS:
    case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_XSAVEOPT:
        return OPC_SYSTEM;
    case ZYDIS_CATEGORY_PREFETCH:
    case ZYDIS_CATEGORY_PREFETCHWT1:
    case ZYDIS_CATEGORY_NOP:
    case ZYDIS_CATEGORY_WIDENOP:
        return OPC_INT;
    default:
        break;
    }
    if (in->meta.isa_ext == ZYDIS_ISA_EXT_X87 || in->mnemonic == ZYDIS_MNEMONIC_FISTTP ||
        in->meta.isa_set == ZYDIS_ISA_SET_FCMOV)
        return OPC_X87;
    if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return in->meta.isa_set == ZYDIS_ISA_SET_BMI1 || in->meta.isa_set == ZYDIS_ISA_SET_BMI2 ? OPC_INT : OPC_AVX;
    if (has_class(in, op, ZYDIS_REGCLASS_XMM))
        return OPC_SSE;
    if (has_class(in, op, ZYDIS_REGCLASS_MMX) || !strcmp(m, "emms"))
        return OPC_MMX;
    switch (in->meta.isa_ext) { /* CVTTSD2SI r64, m64, LDMXCSR: no operand in a vector register */
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
        return OPC_SSE;
    default:
        break;
    }
    if (in->meta.isa_set == ZYDIS_ISA_SET_INVPCID || in->meta.isa_set == ZYDIS_ISA_SET_MONITOR)
        return OPC_SYSTEM;
    return OPC_INT;
}

/* Do REX.R and REX.B reach these? (Not MMX, segments, x87, masks.) */
static bool extends(ZydisRegisterClass c)
{
    return c != ZYDIS_REGCLASS_MMX && c != ZYDIS_REGCLASS_SEGMENT && c != ZYDIS_REGCLASS_X87 && c != ZYDIS_REGCLASS_MASK;
}

/* 0: what the prefixes say (and not kept, where no one asks: vectors); else the size that is fixed for this form. */
static unsigned osize_of(const ZydisDecodedInstruction *in, unsigned cls, unsigned rule)
{
    unsigned n = in->operand_width / 8;
    return cls >= OPC_MMX || n == 1 || n == rule ? 0 : n;
}

static bool string_register(unsigned n) { return n == 6 || n == 7; }

/* True if flags may stay as they were: a shift count or a repeat count may be zero. Old flags are then an input. */
static bool flags_may_stay(const ZydisDecodedInstruction *in, bool rep)
{
    if (in->meta.category == ZYDIS_CATEGORY_STRINGOP)
        return rep;
    if (in->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
        (in->meta.category != ZYDIS_CATEGORY_SHIFT && in->meta.category != ZYDIS_CATEGORY_ROTATE))
        return false;
    /* by one (D0, D1) never */
    return in->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || (in->opcode != 0xd0 && in->opcode != 0xd1);
}

/*
 * desc index, 0 if the processor Lodge shows has no such instruction. bits: of the code segment, for what depends on
 * it; rule: the operand size that prefixes alone give. Probes have a displacement byte of 1: Zydis's scaled value
 * tells EVEX disp8*N.
 */
/* Which operands name registers that REX extends. */
struct extension { bool reg, rm; };

static void describe_register(struct opdesc *d, const ZydisDecodedOperand *o, struct extension *x)
{
    bool gpr;
    unsigned n = gpr_number(o->reg.value, &gpr);
    ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
    struct opdesc_gpr *slot = NULL;
    switch (o->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        slot = &d->reg;
        d->check |= c == ZYDIS_REGCLASS_MASK ? OPCHK_REG_MASK : gpr ? OPCHK_REG_GPR : 0;
        x->reg = extends(c);
        break;
    case ZYDIS_OPERAND_ENCODING_OPCODE: slot = &d->reg; break;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        slot = &d->rm;
        x->rm = extends(c);
        break;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        slot = &d->vvvv;
        d->check |= c == ZYDIS_REGCLASS_MASK ? OPCHK_VVVV_MASK : gpr ? OPCHK_VVVV_GPR : 0;
        break;
    default: break;
    }
    if (!gpr)
        return;
    if (slot) {
        slot->size = (u8)(o->size / 8);
        slot->read |= is_read(o);
        slot->write |= is_write(o);
    } else {
        d->gpr_read |= is_read(o) ? 1u << n : 0;
        d->gpr_write |= is_write(o) ? 1u << n : 0;
    }
}

static void describe_memory(struct opdesc *d, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o, bool no_access)
{
    const bool named = o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM || o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
    if (!named) {
        d->flags |= OPF_IMPLICIT_MEM;
        bool gpr;
        unsigned n = gpr_number(o->mem.base, &gpr);
        if (gpr) {
            d->gpr_read |= 1u << n;
            if (d->cls == OPC_STRING && string_register(n))
                d->gpr_write |= 1u << n;
        }
        return;
    }
    if (o->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
        d->flags |= OPF_VSIB;
    if (o->mem.type == ZYDIS_MEMOP_TYPE_AGEN || no_access)
        return;
    d->mem_size = (u16)(o->size / 8);
    if (o->actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD))
        d->flags |= OPF_MEM_READ;
    if (is_write(o))
        d->flags |= OPF_MEM_WRITE;
    if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) /* if there is a mask: decoded.aaa tells */
        d->flags |= OPF_MASKED_MEM;
    if (in->avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID && !in->avx.broadcast.is_static)
        d->flags |= OPF_BROADCAST;
}

static void describe_operands(struct opdesc *d, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
    const char *m = ZydisMnemonicGetString(in->mnemonic);
    bool no_access = in->meta.category == ZYDIS_CATEGORY_NOP || in->meta.category == ZYDIS_CATEGORY_WIDENOP ||
        in->meta.category == ZYDIS_CATEGORY_PREFETCH || in->meta.category == ZYDIS_CATEGORY_PREFETCHWT1 ||
        !strcmp(m, "invlpg");
    struct extension x = { false, false };
    for (int i = 0; i < in->operand_count; i++) {
        if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            describe_register(d, &op[i], &x);
        else if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            describe_memory(d, in, &op[i], no_access);
    }
    d->check |= (x.reg ? 0 : OPCHK_REG_LOW) | (x.rm ? 0 : OPCHK_RM_LOW);
    if (!strncmp(m, "vmaskmov", 8) || !strncmp(m, "vpmaskmov", 9) || !strncmp(m, "maskmov", 7) ||
        in->meta.category == ZYDIS_CATEGORY_GATHER || in->meta.category == ZYDIS_CATEGORY_AVX2GATHER ||
        in->meta.category == ZYDIS_CATEGORY_SCATTER)
        d->flags |= OPF_MASKED_MEM;
    if (d->flags & OPF_VSIB && is_write(&op[0]) && op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
        d->check |= OPCHK_GATHER;
    /* XSAVE's area has the length that XCR0 and CPUID say. */
    if (!strncmp(m, "xsave", 5) || !strncmp(m, "xrstor", 6))
        d->mem_size = 0;
    if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && in->raw.disp.size == 8)
        for (int i = 0; i < in->operand_count; i++)
            if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
                d->disp8_shift = (u8)__builtin_ctzll((u64)op[i].mem.disp.value);
}

static u32 describe(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op, unsigned bits, unsigned rule, bool rep)
{
    struct opdesc d;
    memset(&d, 0, sizeof(d));
    const char *m = ZydisMnemonicGetString(in->mnemonic);

    const bool hypercall = !strcmp(m, "vmcall") || !strcmp(m, "vmmcall"); /* answered without VMX and SVM too */
    if ((set_feature[in->meta.isa_set] < 0 && !hypercall) || LISTED(m, left_out))
        return 0;
    d.feature = (u8)(hypercall ? feature_index("X86") : set_feature[in->meta.isa_set]);
    for (size_t i = 0; i < ARRAY_SIZE(mnemonic_feature); i++)
        if (!strcmp(m, mnemonic_feature[i].zydis) && mnemonic_feature[i].feature)
            d.feature = (u8)feature_index(mnemonic_feature[i].feature);
    if (bits == 64 && (!strcmp(m, "lahf") || !strcmp(m, "sahf")))
        d.feature = (u8)feature_index("LAHF64");
    if (!strcmp(m, "vpclmulqdq") && in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && in->avx.vector_length == 128)
        d.feature = (u8)feature_index("AVX_PCLMULQDQ");

    mnemonic_number[in->mnemonic] = 1;
    d.mnemonic = (u16)in->mnemonic; /* renumbered on output */
    d.cls = classify(in, op);
    /* MMX registers with an instruction of SSE's day: SSE's bit, but it is an MMX instruction. */
    d.imm1 = in->raw.imm[0].size / 8;
    d.imm2 = in->raw.imm[1].size / 8;
    d.osize = (u8)osize_of(in, d.cls, rule);
    if (in->attributes & ZYDIS_ATTRIB_HAS_MODRM)
        d.flags |= OPF_MODRM;
    if (in->attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK)
        d.flags |= OPF_LOCK;
    if (in->attributes & (ZYDIS_ATTRIB_ACCEPTS_REP | ZYDIS_ATTRIB_ACCEPTS_REPE | ZYDIS_ATTRIB_ACCEPTS_REPNE))
        d.flags |= OPF_REP;
    if (LISTED(m, privileged) || has_class(in, op, ZYDIS_REGCLASS_CONTROL) || has_class(in, op, ZYDIS_REGCLASS_DEBUG))
        d.flags |= OPF_PRIV;
    if (d.cls == OPC_CONTROL)
        d.flags |= OPF_BLOCK_END;
    if (LISTED(m, protected_only))
        d.check |= OPCHK_PROTECTED;

    if (in->cpu_flags) {
        d.eflags_read = in->cpu_flags->tested;
        d.eflags_undef = in->cpu_flags->undefined;
        d.eflags_write = in->cpu_flags->modified | in->cpu_flags->set_0 | in->cpu_flags->set_1 | in->cpu_flags->undefined;
        if (flags_may_stay(in, rep))
            d.eflags_read |= d.eflags_write;
    }

    describe_operands(&d, in, op);
    return intern_desc(&d);
}

/* ---- the dimensions --------------------------------------------------------- */

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

static u32 build_opcode(unsigned encoding, unsigned map, unsigned opcode, bool rex_b)
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

/* ---- output -------------------------------------------------------------- */

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

static void write_mnemonics(const char *path)
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
    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
        fprintf(f, "    ISA_%s,\n", features[i].name);
    fputs("    ISA_COUNT\n};\n\n#endif\n", f);
    fclose(f);
}

/* A word of the tree as optree.h has it. */
static u32 packed(u32 word)
{
    return word & NODE ? OPTREE_NODE | (word & ~NODE) / 2 : word;
}

static void write_tables(const char *path, u32 (*root)[256], u32 root_90b)
{
    FILE *f = create(path);

    fputs("static const char *const mnemonic_names[MNEMONIC_COUNT] = {\n    \"(invalid)\",\n", f);
    for (unsigned i = 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        if (mnemonic_number[i])
            fprintf(f, "    \"%s\",\n", ZydisMnemonicGetString((ZydisMnemonic)i));
    fputs("};\n\nconst struct isa_cpuid isa_cpuid[ISA_COUNT] = {\n", f);
    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
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

int main(int argc, char **argv)
{
    static u32 root[OPROOT_COUNT][256];
    static const ZydisMachineMode modes[3] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth widths[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64};

    if (argc < 3)
        die("usage: gen_optable mnemonic.h optable.inc [-v]");
    for (int i = 0; i < 3; i++) {
        if (!ZYAN_SUCCESS(ZydisDecoderInit(&decoders[i], modes[i], widths[i])))
            die("Zydis does not start");
        /* As on a processor without them: hint NOPs (SDM vol. 2, NOP; 17.4 MPX; 17.3 ENDBR). */
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    }
    for (int i = 0; i <= ZYDIS_ISA_SET_MAX_VALUE; i++) {
        const char *name = ZydisISASetGetString((ZydisISASet)i);
        set_feature[i] = -1;
        for (size_t k = 0; k < ARRAY_SIZE(isa_map); k++)
            if (!strcmp(name, isa_map[k].zydis))
                set_feature[i] = (s16)feature_index(isa_map[k].feature);
    }

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
