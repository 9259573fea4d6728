/* SPDX-License-Identifier: Apache-2.0 */
/* gen_optable_features.c - which feature of the processor each instruction needs, by the CPUID bit that shows it. */
#include "gen_optable.h"

enum reg_of_leaf { EAX_, EBX_, ECX_, EDX_ };

const struct feature features[] = {
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
const size_t n_features = ARRAY_SIZE(features);

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

static s16 set_feature[ZYDIS_ISA_SET_MAX_VALUE + 1];

static int feature_index(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
        if (!strcmp(features[i].name, name))
            return (int)i;
    die("unknown feature %s", name);
}

void features_start(void)
{
    for (int i = 0; i <= ZYDIS_ISA_SET_MAX_VALUE; i++) {
        const char *name = ZydisISASetGetString((ZydisISASet)i);
        set_feature[i] = -1;
        for (size_t k = 0; k < ARRAY_SIZE(isa_map); k++)
            if (!strcmp(name, isa_map[k].zydis))
                set_feature[i] = (s16)feature_index(isa_map[k].feature);
    }
}

int feature_of(const ZydisDecodedInstruction *in, unsigned bits)
{
    const char *m = ZydisMnemonicGetString(in->mnemonic);
    const bool hypercall = !strcmp(m, "vmcall") || !strcmp(m, "vmmcall"); /* answered without VMX and SVM too */
    if ((set_feature[in->meta.isa_set] < 0 && !hypercall) || LISTED(m, left_out))
        return -1;
    int feature = hypercall ? feature_index("X86") : set_feature[in->meta.isa_set];
    for (size_t i = 0; i < ARRAY_SIZE(mnemonic_feature); i++)
        if (!strcmp(m, mnemonic_feature[i].zydis) && mnemonic_feature[i].feature)
            feature = feature_index(mnemonic_feature[i].feature);
    if (bits == 64 && (!strcmp(m, "lahf") || !strcmp(m, "sahf")))
        feature = feature_index("LAHF64");
    if (!strcmp(m, "vpclmulqdq") && in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && in->avx.vector_length == 128)
        feature = feature_index("AVX_PCLMULQDQ");
    return feature;
}
