/* SPDX-License-Identifier: Apache-2.0 */
/* gen_optable_describe.c - what Zydis says of an instruction, packed into a struct opdesc. */
#include "gen_optable.h"

u16 mnemonic_number[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* #UD in real and virtual-8086 mode (SDM vol. 3, 21.1.3; vol. 2 of each). */
static const char *const protected_only[] = {
    "arpl", "lar", "lsl", "verr", "verw", "sldt", "str", "lldt", "ltr",
};

static const char *const privileged[] = {
    "hlt", "clts", "lgdt", "lidt", "lldt", "ltr", "lmsw", "invd", "wbinvd", "wbnoinvd", "invlpg", "rdmsr", "wrmsr",
    "sysexit", "sysret", "swapgs", "xsetbv", "xsaves", "xsaves64", "xrstors", "xrstors64", "invpcid", "monitor", "mwait",
    "clac", "stac",
};

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

u32 describe(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op, unsigned bits, unsigned rule, bool rep)
{
    struct opdesc d;
    memset(&d, 0, sizeof(d));
    const char *m = ZydisMnemonicGetString(in->mnemonic);

    const int feature = feature_of(in, bits);
    if (feature < 0)
        return 0;
    d.feature = (u8)feature;
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
