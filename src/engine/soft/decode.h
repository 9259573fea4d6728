/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.h - decodes one instruction from its bytes.
 *
 * The attributes of every opcode (struct opdesc) are generated at build time from Zydis (tools/gen_optable.c writes
 * optable.inc: enum mnemonic, the descriptors, the index). This decoder reads prefixes, opcode, ModRM, SIB, displacement
 * and immediates itself (Intel SDM vol. 2 ch. 2) and looks the opcode up. It allocates nothing, keeps no state and does
 * not use libc.
 */
#ifndef LODGE_ENGINE_SOFT_DECODE_H
#define LODGE_ENGINE_SOFT_DECODE_H

#include "base/base.h"
#ifndef LODGE_GEN_OPTABLE
#include "engine/soft/mnemonic.h" /* generated: enum mnemonic { M_INVALID, M_AAA, M_ADD, ... } spelled as in Zydis */
#endif

enum op_class { /* how an instruction is executed; by ISA-set and category */
    OPC_INT,     /* general registers, memory, arithmetic flags only (ADD ... BMI2, ADX, POPCNT, CRC32, MOVBE, RDRAND) */
    OPC_CONTROL, /* near and far transfers, INT n, IRET, SYSCALL ... */
    OPC_STRING,  /* MOVS CMPS SCAS LODS STOS INS OUTS */
    OPC_SYSTEM,  /* everything that touches system state, I/O ports, segment registers, HLT, CPUID, XSAVE family ... */
    OPC_X87, OPC_MMX, OPC_SSE, OPC_AVX, OPC_AVX512,
};

enum { /* struct opdesc.flags */
    OPF_MODRM = 1 << 0,
    OPF_LOCK = 1 << 1,      /* LOCK is legal with a memory destination */
    OPF_REP = 1 << 2,       /* F2/F3 act as REP on it */
    OPF_MEM_READ = 1 << 3,  /* explicit memory operand (mod != 3) is read */
    OPF_MEM_WRITE = 1 << 4, /* ... is written */
    OPF_VSIB = 1 << 5,
    OPF_PRIV = 1 << 6,      /* CPL 0 only */
    OPF_BLOCK_END = 1 << 7, /* may change RIP other than by its length */
    /* a mask selects the elements in memory (VMASKMOV, VPMASKMOV, MASKMOV, scatter, gather; EVEX: if aaa != 0) */
    OPF_MASKED_MEM = 1 << 8,
    OPF_IMPLICIT_MEM = 1 << 9, /* it accesses memory that ModRM does not name (stack, string, XLAT, MASKMOV) */
    OPF_BROADCAST = 1 << 10,   /* EVEX.b broadcasts this memory operand */
};

/* An explicit general-purpose register operand, by the field that names it. size in bytes, 0: it is not a GPR. */
struct opdesc_gpr {
    u8 size;
    bool read, write;
};

struct opdesc {
    u16 mnemonic; /* enum mnemonic */
    u8 cls;       /* enum op_class */
    u8 feature;   /* enum isa: what CPUID must report */
    u16 flags;
    u16 mem_size;                      /* bytes of the explicit memory operand; 0: none or not fixed (FXSAVE, LEA) */
    u32 eflags_read, eflags_write;     /* RFLAGS bits that are tested; that are modified, set, cleared or left undefined */
    u32 eflags_undef;                  /* those of eflags_write that are left undefined */
    u16 gpr_read, gpr_write;           /* implicit general registers, a bit each (RAX = bit 0) */
    /* explicit GPR operands: ModRM.reg (or the low 3 bits of the opcode), ModRM.rm with mod 3, VEX.vvvv */
    struct opdesc_gpr reg, rm, vvvv;
    u8 imm1, imm2;                     /* immediate sizes in bytes for this operand/address size */
    u8 osize;                          /* 0: mode and prefixes decide; else fixed for this form (decoded.osize has it) */
    u8 disp8_shift;                    /* EVEX: log2 of N in disp8*N */
    u8 check;                          /* decode.c's own (optree.h) */
};

/* How CPUID reports a feature that instructions need. The features are enum isa (generated, in mnemonic.h); the number of a
   feature is also the index of its bit in soft_vcpu.isa[]. A feature is there if a bit of a register (0 eax .. 3 edx) of a
   leaf is set and the feature `also`, which has a smaller number, is there, too. ISA_X86 (function 0) is always there, and
   is the `also` of features that need no other. */
struct isa_cpuid {
    u32 function, index;
    u8 reg, bit, also;
};
extern const struct isa_cpuid isa_cpuid[ISA_COUNT];

enum encoding { ENC_LEGACY, ENC_VEX, ENC_EVEX };

struct decoded {
    const struct opdesc *desc;
    u8 bytes[15], len;
    u8 bits;     /* 16, 32, 64: the code segment's size */
    u8 encoding; /* enum encoding */
    u8 map;      /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A, 5, 6 */
    u8 opcode, modrm;
    bool has_modrm, lock, opsize66, addr67, rip_relative, has_mem;
    u8 rep;       /* 0, F2, F3: the last one of these prefixes, also if it is mandatory */
    u8 rex;       /* 0 or 40-4F; the W R X B bits of VEX and EVEX are put in here, too */
    u8 seg;       /* enum seg_reg: the memory operand's effective segment (the override, or SS for rSP and rBP bases) */
    u8 seg_override; /* enum seg_reg or FF */
    u8 osize, asize; /* effective operand and address size in bytes: 2, 4, 8 */
    u8 mod, reg, rm; /* extended by REX/VEX/EVEX: 0-15 (0-31 EVEX); for no-ModRM +r opcodes reg = the register */
    u8 base, index;  /* 0-15, FF none (index 0-31 for VSIB) */
    u8 scale;        /* log2 */
    s64 disp;        /* sign-extended, EVEX disp8*N applied */
    /* imm is sign-extended from its size to 64 bits; far pointer: imm = offset, imm2 = selector; ENTER: imm, imm2 = level */
    u64 imm, imm2;
    u8 vvvv, vl, w, pp; /* VEX/EVEX; vl: 0 for 128 bits, 1 for 256, 2 for 512 */
    u8 aaa, z, b;       /* EVEX: mask register, zeroing, broadcast/rounding */
    u8 opcode_off, modrm_off, disp_off, imm_off; /* byte offsets, 0 if absent */
};

enum decode_result {
    DECODE_OK = 0,
    DECODE_MORE = -1,    /* the instruction needs more bytes than avail (and avail < 15) */
    DECODE_UD = -2,      /* #UD: invalid opcode, or illegal LOCK; len is the number of bytes that were read */
    DECODE_TOO_LONG = -3 /* #GP(0): the instruction is longer than 15 bytes */
};
/* bits: 16, 32 or 64. protected_mode: false in real and V86 mode, where VEX, EVEX, ARPL, LAR ... are #UD. */
enum decode_result decode(struct decoded *d, const u8 *bytes, unsigned avail, unsigned bits, bool protected_mode);

/* For traces and tests. */
const char *mnemonic_name(unsigned mnemonic);

#endif
