/* SPDX-License-Identifier: Apache-2.0 */
/* region_how.c - decides how each instruction of a region is translated (enum how): kept, replaced, or left to its
   handler. */
#include "engine/soft/native.h"
#include "engine/soft/translate/translate.h"

unsigned memory_size(const struct decoded *d)
{
    unsigned size = d->desc->mem_size;
    if (d->encoding == ENC_EVEX && d->b && (d->desc->flags & OPF_BROADCAST)) {
        const unsigned element = d->w ? 8 : d->map >= 5 ? 2 : 4;
        size = size && size < element ? size : element;
    }
    return size;
}

static enum how other(const struct opdesc *o)
{
    return o->flags & OPF_BLOCK_END ? HOW_STOP : HOW_FALLBACK;
}

static enum how how_vector(const struct region *r, const struct decoded *d)
{
    const struct opdesc *o = d->desc;
    const bool mem = d->has_mem;
    if (!r->vectors || (o->flags & (OPF_IMPLICIT_MEM | OPF_VSIB)) || (o->gpr_read | o->gpr_write) & ~0xfu)
        return HOW_FALLBACK;
    if (o->cls == OPC_AVX512 && !r->avx512) /* this includes mask instructions, which have a VEX encoding */
        return HOW_FALLBACK;
    /* A masked-out element must not fault. The probe makes sure that the whole operand may be accessed, so none does. */
    if (d->encoding == ENC_EVEX && !r->avx512)
        return HOW_FALLBACK;
    if (mem && (!memory_size(d) || memory_size(d) > 64))
        return HOW_FALLBACK;
    switch (o->mnemonic) {
    case M_LDMXCSR:
    case M_STMXCSR:
    case M_VLDMXCSR:
    case M_VSTMXCSR:
    case M_MASKMOVDQU:
        return HOW_FALLBACK;
    }
    /* Any other is kept if it has no operand in memory, or reads or writes all of it. */
    return mem && !(o->flags & (OPF_MEM_READ | OPF_MEM_WRITE)) ? HOW_FALLBACK : HOW_KEEP;
}

static enum how how_x87(const struct region *r, const struct decoded *d)
{
    const struct opdesc *o = d->desc;
    if (!r->vectors || (o->flags & OPF_IMPLICIT_MEM) || d->encoding != ENC_LEGACY)
        return HOW_FALLBACK;
    switch (o->mnemonic) {
    case M_FNSTENV:
    case M_FLDENV:
    case M_FNSAVE:
    case M_FRSTOR:
    case M_FWAIT:
    case M_FNINIT:
    case M_FNCLEX:
    case M_FENI8087_NOP:
    case M_FDISI8087_NOP:
    case M_FSETPM287_NOP:
    case M_MASKMOVQ:
        return HOW_FALLBACK;
    }
    if (d->has_mem && (!memory_size(d) || memory_size(d) > 16 || !(o->flags & (OPF_MEM_READ | OPF_MEM_WRITE))))
        return HOW_FALLBACK;
    return HOW_X87;
}

/* Instructions of general registers, whatever their operands are. */
static bool always_kept(unsigned mnemonic)
{
    switch (mnemonic) {
    case M_INC: case M_DEC: case M_ADD: case M_OR: case M_ADC: case M_SBB: case M_AND: case M_SUB: case M_XOR:
    case M_CMP: case M_TEST: case M_NEG: case M_NOT: case M_MOVZX: case M_MOVSX: case M_MOVSXD: case M_IMUL:
    case M_MUL: case M_ROL: case M_ROR: case M_RCL: case M_RCR: case M_SHL: case M_SHR: case M_SAR: case M_SHLD:
    case M_SHRD: case M_BSWAP: case M_XCHG: case M_CMPXCHG: case M_XADD: case M_BSF: case M_BSR: case M_TZCNT:
    case M_LZCNT: case M_POPCNT: case M_CBW: case M_CWDE: case M_CDQE: case M_CWD: case M_CDQ: case M_CQO:
    case M_CLC: case M_STC: case M_CMC: case M_MOVBE: case M_CRC32: case M_ADCX: case M_ADOX: case M_ANDN:
    case M_BEXTR: case M_BLSI: case M_BLSMSK: case M_BLSR: case M_BZHI: case M_MULX: case M_PDEP: case M_PEXT:
    case M_RORX: case M_SARX: case M_SHLX: case M_SHRX: case M_DIV: case M_IDIV: case M_LFENCE: case M_MFENCE:
    case M_SFENCE: case M_MOVNTI:
        return true;
    }
    return false;
}

/* Jumps, calls, returns. */
static enum how how_near(const struct region *r, const struct decoded *d)
{
    const unsigned word = d->bits / 8;
    const bool near = d->bits == 16 || d->osize >= 4; /* else RIP would have fewer bits than it has in this mode */
    const bool slot = d->bits == 16 || d->osize == word; /* the translator can push and pop this size */
    /* No target can be beyond CS's limit. Otherwise the call would have pushed before that is found. */
    const bool within = d->bits == 64 || r->v->jc_limit >= (d->osize == 2 ? 0xffff : 0xffffffff);
    switch (d->desc->mnemonic) {
    case M_JMP:
        if (d->map == 0 && (d->opcode == 0xe9 || d->opcode == 0xeb) && near)
            return HOW_JMP;
        return d->opcode == 0xff && (d->modrm >> 3 & 7) == 4 && slot ? HOW_JMP_IND : HOW_STOP;
    case M_CALL:
        if (d->opcode == 0xe8 && near)
            return HOW_CALL;
        return d->opcode == 0xff && (d->modrm >> 3 & 7) == 2 && slot && within ? HOW_CALL_IND : HOW_STOP;
    case M_RET:
        return (d->opcode == 0xc3 || d->opcode == 0xc2) && slot ? HOW_RET : HOW_STOP;
    case M_LOOP:
    case M_LOOPE:
    case M_LOOPNE:
        return d->asize == word && near ? HOW_LOOP : HOW_STOP;
    case M_JCXZ:
    case M_JRCXZ:
    case M_JECXZ:
        return (d->asize >= 4 || d->bits == 16) && near ? HOW_LOOP : HOW_STOP;
    }
    return near ? HOW_JCC : HOW_STOP;
}

/* Which of Jcc (0x80), CMOVcc (0x40) and SETcc (0x90) it is; 0: none of them. */
static unsigned condition(const struct decoded *d)
{
    if (d->map == 0 && d->opcode >= 0x70 && d->opcode <= 0x7f)
        return 0x80;
    if (d->map == 1 && d->encoding == ENC_LEGACY && (d->opcode & 0xf0) >= 0x80 && (d->opcode & 0xf0) <= 0x90)
        return d->opcode & 0xf0;
    return d->map == 1 && d->encoding == ENC_LEGACY && (d->opcode & 0xf0) == 0x40 ? 0x40 : 0;
}

static enum how how_int(const struct region *r, const struct decoded *d)
{
    const bool mem = d->has_mem;
    const bool slot = d->bits == 16 || d->osize == d->bits / 8; /* the translator can push and pop this size */
    if (always_kept(d->desc->mnemonic))
        return HOW_KEEP;
    switch (d->desc->mnemonic) {
    case M_JMP: case M_CALL: case M_RET:
    case M_LOOP: case M_LOOPE: case M_LOOPNE:
    case M_JCXZ: case M_JRCXZ: case M_JECXZ:
        return how_near(r, d);
    case M_PUSH:
        return slot && d->map == 0 &&
                       ((d->opcode & 0xf8) == 0x50 || (d->opcode & 0xfd) == 0x68 || (d->opcode == 0xff && !mem))
                   ? HOW_PUSH
               : slot && d->map == 0 && d->opcode == 0xff && d->bits != 16 && !r->segmented ? HOW_PUSH_MEM
                                                                                            : HOW_FALLBACK;
    case M_POP:
        return slot && d->map == 0 && ((d->opcode & 0xf8) == 0x58 || (d->opcode == 0x8f && !mem)) ? HOW_POP
                                                                                                             : HOW_FALLBACK;
    case M_LEAVE:
        return slot ? HOW_LEAVE : HOW_FALLBACK;
    case M_LEA:
        return d->bits == 16 || (d->osize >= 4 && d->asize >= 4) ? HOW_LEA : HOW_FALLBACK;
    case M_NOP:
    case M_PREFETCH:
    case M_PREFETCHW:
    case M_PREFETCHWT1:
    case M_PREFETCHNTA:
    case M_PREFETCHT0:
    case M_PREFETCHT1:
    case M_PREFETCHT2:
        return HOW_NOP;
    case M_BT:
    case M_BTS:
    case M_BTR:
    case M_BTC:
        return mem && d->opcode != 0xba ? HOW_FALLBACK : HOW_KEEP;
    case M_MOV:
        return (d->map == 0 && ((d->opcode >= 0x88 && d->opcode <= 0x8b) || (d->opcode & 0xfc) == 0xa0 ||
                                d->opcode == 0xc6 || d->opcode == 0xc7 || (d->opcode >= 0xb0 && d->opcode <= 0xbf)))
                   ? HOW_KEEP
                   : HOW_FALLBACK;
    }
    switch (condition(d)) {
    case 0x80: return how_near(r, d);
    case 0x40: return HOW_KEEP; /* CMOVcc */
    case 0x90: return HOW_KEEP; /* SETcc */
    }
    return other(d->desc);
}

/* String instructions without REP are translated if their source and destination are flat, or if the region compares every
   access with a limit. */
static enum how how_string(const struct region *r, const struct decoded *d)
{
    const bool flat = d->seg_override == 0xff || r->segmented ||
                      (d->seg_override < FS && (d->bits == 64 || d->seg_override != CS));
    return d->opcode >= 0xa4 && !d->rep && !d->lock && flat && d->asize == d->bits / 8 ? HOW_STRING : other(d->desc);
}

static enum how how_system(const struct region *r, const struct decoded *d)
{
    const struct opdesc *o = d->desc;
    switch (o->mnemonic) {
    case M_NOP:
        return HOW_NOP;
    case M_STAC:
        return !r->user && r->ctx == TLB_KERNEL && !r->segmented ? HOW_STAC : other(o);
    case M_CLAC:
        return !r->user && r->ctx == TLB_KERNEL && !r->segmented ? HOW_CLAC : other(o);
    case M_CLI:
        return r->user ? other(o) : HOW_CLI;
    case M_STI:
        return r->user ? other(o) : HOW_STI;
    case M_SWAPGS:
        return r->user ? other(o) : HOW_SWAPGS;
    case M_RDTSC:
    case M_RDTSCP:
        return HOW_RDTSC;
    case M_PUSHFQ:
        return HOW_PUSHF;
    case M_PUSHF: /* in virtual-8086 mode it depends on IOPL whether it is allowed */
        return d->bits == 16 && !(r->user && !r->v->protected_mode) ? HOW_PUSHF : other(o);
    case M_POPF:
        return d->bits == 16 && !r->user ? HOW_POPF : other(o);
    case M_POPFQ:
        return r->user ? other(o) : HOW_POPF;
    }
    return other(o);
}

/* True if it is an instruction of 16-bit code that moves a selector, and can be translated. In real and virtual-8086 mode, a
   selector loads only a base. A load of SS is left to the handler, because it holds interrupts off. */
static bool moves_selector(const struct region *r, const struct decoded *d, enum how *how)
{
    if (d->bits != 16 || d->encoding != ENC_LEGACY || d->lock)
        return false;
    switch (d->map << 8 | d->opcode) {
    case 0x06: case 0x0e: case 0x16: case 0x1e: case 0x1a0: case 0x1a8: /* PUSH */
        *how = HOW_SEG_STORE;
        return d->osize == 2;
    case 0x8c:
        *how = HOW_SEG_STORE;
        return (d->reg & 7) < SEG_COUNT;
    case 0x07: case 0x1f: case 0x1a1: case 0x1a9: /* POP */
    case 0xc4: case 0xc5: case 0x1b4: case 0x1b5: /* LES LDS LFS LGS */
        *how = HOW_SEG_LOAD;
        return !r->v->protected_mode && d->osize == 2 && (d->opcode < 0xb0 || d->has_mem);
    case 0x8e:
        *how = HOW_SEG_LOAD;
        return !r->v->protected_mode && (d->reg & 7) < SEG_COUNT && (d->reg & 7) != CS && (d->reg & 7) != SS;
    }
    return false;
}

enum how region_how(const struct region *r, const struct decoded *d)
{
    const struct opdesc *o = d->desc;
    enum how how;
    if (!(r->v->isa[o->feature / 64] >> (o->feature % 64) & 1)) /* it is #UD, or what it was before the extension */
        return other(o);
    if (d->bits == 16)
        switch (o->mnemonic) {
        case M_ADCX: /* they have no form of 16 bits, but would get the prefix for one (kept.c) */
        case M_ADOX:
        case M_MOVNTI:
            return other(o);
        }
    if (d->bits != 64) {
        /* Left to the handler: a W bit that means nothing there, but would here; accesses to segments that are not flat (the
           key says whether FS and GS reach all of 4 GiB). */
        if (o->mnemonic == M_VZEROALL || o->mnemonic == M_VZEROUPPER) /* here they would clear registers 8 to 15, too */
            return other(o);
        if (d->encoding != ENC_LEGACY && d->w && stub_w_is_gpr_size(d))
            return other(o);
        const bool fs = d->seg == FS && !(r->key & JIT_FS_4G), gs = d->seg == GS && !(r->key & JIT_GS_4G);
        if (!r->segmented && d->has_mem && (d->seg == CS || fs || gs))
            return other(o);
    }
    if (moves_selector(r, d, &how))
        return how;
    switch (o->cls) {
    case OPC_SSE:
    case OPC_AVX:
    case OPC_AVX512:
        return how_vector(r, d);
    case OPC_X87:
    case OPC_MMX:
        return how_x87(r, d);
    case OPC_INT:
    case OPC_CONTROL:
        if (d->encoding == ENC_EVEX || (o->flags & (OPF_VSIB | OPF_MASKED_MEM)))
            return other(o);
        return how_int(r, d);
    case OPC_STRING:
        return how_string(r, d);
    case OPC_SYSTEM:
        return how_system(r, d);
    }
    return other(o);
}
