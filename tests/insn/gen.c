/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.c - random instruction sequences that do something.
 *
 * An instruction is a form (forms.c) with registers, memory operand and immediate of its own,
 * decoded again to see that it is still the same. A few registers of a sequence always point into the data area and
 * are never written, so that most memory operands can be aimed; the others hold anything.
 */
#include "gen.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"

u64 rng_next(struct rng *r) /* xorshift64* */
{
    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return r->s * 0x2545f4914f6cdd1dull;
}

static const unsigned weights[B_COUNT] = {44, 6, 10, 8, 14, 14, 20, 1};

/* ---- memory and registers ------------------------------------------------------- */

u64 gen_number(struct rng *r)
{
    static const u64 edges[] = {0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
        0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, ~0ull, ~1ull, 0x5555555555555555};
    switch (rng_below(r, 5)) {
    case 0: return edges[rng_below(r, ARRAY_SIZE(edges))];
    case 1: return rng_next(r) & 0xff;
    case 2: return rng_next(r) & 0xffffffff;
    case 3: return rng_next(r) >> rng_below(r, 64);
    default: return rng_next(r);
    }
}

static u32 float_bits(struct rng *r)
{
    static const u32 edges[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1,
        0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0x40490fdb, 0x3f000000, 0x4b800000};
    return chance(r, 40) ? edges[rng_below(r, ARRAY_SIZE(edges))] :
        chance(r, 70) ? (u32)((rng_next(r) & 0x807fffff) | (0x3f800000 + (rng_below(r, 40) << 23) - (20u << 23))) : (u32)rng_next(r);
}
static u64 double_bits(struct rng *r)
{
    static const u64 edges[] = {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
        0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001, 1, 0x000fffffffffffff, 0x0010000000000000,
        0x7fefffffffffffff, 0x43e0000000000000, 0x400921fb54442d18, 0x3fe0000000000000, 0x4340000000000000};
    return chance(r, 40) ? edges[rng_below(r, ARRAY_SIZE(edges))] :
        chance(r, 70) ? (rng_next(r) & 0x800fffffffffffff) | ((u64)(1003 + rng_below(r, 40)) << 52) : rng_next(r);
}

static void vector_bytes(struct rng *r, u8 *p, unsigned len)
{
    unsigned kind = rng_below(r, 4);
    for (unsigned i = 0; i < len; i += 8) {
        u64 x = kind == 0 ? rng_next(r) : kind == 1 ? double_bits(r) : kind == 2 ? gen_number(r) :
            (u64)float_bits(r) << 32 | float_bits(r);
        memcpy(p + i, &x, 8);
    }
}

void gen_memory(u64 seed, u8 *data, u8 *stack)
{
    struct rng r = {seed | 1};
    /* Blocks of 256 bytes, repeated: what matters is that bytes near each other differ. */
    static const unsigned block = 512;
    u8 b[512];
    for (unsigned i = 0; i < block; i += 32)
        vector_bytes(&r, b + i, 32);
    for (unsigned i = 0; i < DATA_RO; i += block)
        memcpy(data + i, b, block);
    for (unsigned i = 0; i < 4096; i += 8) { /* small numbers, also as 64 bits */
        u64 x = rng_next(&r) >> 52;
        memcpy(data + DATA_SMALL + i, &x, 8);
    }
    for (unsigned i = 0; i < STACK_SIZE; i += block)
        memcpy(stack + i, b, block);
}

void gen_read_only(u8 *page)
{
    struct rng r = {12345};
    for (unsigned i = 0; i < DATA_SIZE - DATA_RO; i += 8) {
        u64 x = rng_next(&r);
        memcpy(page + i, &x, 8);
    }
}

void gen_fpu(struct rng *r, u8 *x, bool has_avx, bool has_avx512)
{
    u16 fcw = 0x37f, fsw = 0;
    u32 mxcsr = 0x1f80;
    u64 bv = has_avx ? 7 : 3;
    memset(x, 0, XSAVE_MAX);
    if (chance(r, 40))
        fcw = (u16)((rng_next(r) & 0xf00) | 0x7f);
    if (chance(r, 10))
        fcw = (u16)((rng_next(r) & 0xf3f) | 0x40);
    fsw = (u16)(rng_below(r, 8) << 11 | (chance(r, 30) ? rng_next(r) & 0x4700 : 0));
    if ((fcw & 0x3f) == 0x3f && chance(r, 20)) /* sticky flags of masked exceptions */
        fsw |= rng_next(r) & 0x3f;
    if (chance(r, 40))
        mxcsr = (u32)(rng_next(r) & 0xe03f) | 0x1f80 | (chance(r, 50) ? 0x40 : 0); /* rounding, FZ, DAZ, flags */
    if (chance(r, 10))
        mxcsr = (u32)(rng_next(r) & 0xffc0) | 0; /* exceptions unmasked */
    memcpy(x, &fcw, 2);
    memcpy(x + 2, &fsw, 2);
    x[4] = chance(r, 50) ? (u8)rng_next(r) : 0xff;
    memcpy(x + 24, &mxcsr, 4);
    u32 mask = 0xffff;
    memcpy(x + 28, &mask, 4);
    for (unsigned i = 0; i < 8; i++) {
        u64 m = chance(r, 80) ? rng_next(r) | 1ull << 63 : gen_number(r);
        u16 e = (u16)(chance(r, 80) ? 0x3fff + rng_below(r, 64) - 32 : chance(r, 50) ? 0x7fff : rng_next(r) & 0x7fff);
        if (chance(r, 20))
            m = 1ull << 63;
        if (chance(r, 10))
            m = e = 0;
        e |= (u16)(rng_next(r) & 0x8000);
        memcpy(x + 32 + i * 16, &m, 8);
        memcpy(x + 32 + i * 16 + 8, &e, 2);
    }
    for (unsigned i = 0; i < 16; i++)
        vector_bytes(r, x + 160 + i * 16, 16);
    memcpy(x + 512, &bv, 8);
    if (has_avx)
        for (unsigned i = 0; i < 16; i++)
            vector_bytes(r, x + 576 + i * 16, 16);
    if (!has_avx512)
        return;
    for (unsigned i = 0; i < 8; i++) {
        u64 k = chance(r, 60) ? rng_next(r) : chance(r, 50) ? rng_next(r) & 0xffff : gen_number(r);
        memcpy(x + host_component[5] + 8 * i, &k, 8);
    }
    for (unsigned i = 0; i < 16; i++)
        vector_bytes(r, x + host_component[6] + 32 * i, 32);
    for (unsigned i = 0; i < 16; i++)
        vector_bytes(r, x + host_component[7] + 64 * i, 64);
    bv |= chance(r, 90) ? 0xe0 : rng_below(r, 8) << 5; /* components that are initial too */
    memcpy(x + 512, &bv, 8);
}

/* ---- one sequence ------------------------------------------------------------------ */

static u32 undefined_after(const struct decoded *d, u32 undefined, bool certain)
{
    const struct opdesc *o = d->desc;
    u32 undef = o->eflags_undef;
    if (certain)
        undefined &= ~(o->eflags_write & ~o->eflags_read);
    /* The carry out of a shift by more than the operand's width (SDM vol. 2, SAL/SAR/SHL/SHR; SHLD). */
    if ((o->mnemonic == M_SHL || o->mnemonic == M_SHR || o->mnemonic == M_SHLD || o->mnemonic == M_SHRD) &&
        (o->imm1 == 0 || (d->imm & 31) >= 8) && (d->opcode & 0xfe) != 0xd0)
        undef |= RFLAGS_CF;
    return undefined | undef;
}

/*
 * Flags that may stay as they were (a shift by a count of 0) count as read: staying undefined is no harm.
 */
static u32 flags_needed(const struct opdesc *o)
{
    bool stays = (o->eflags_write & ~o->eflags_read) == 0 && o->eflags_write &&
        (o->mnemonic == M_ROL || o->mnemonic == M_ROR || o->mnemonic == M_SHL || o->mnemonic == M_SHR || o->mnemonic == M_SAR ||
        o->mnemonic == M_SHLD || o->mnemonic == M_SHRD);
    return stays ? 0 : o->eflags_read & ~(o->eflags_write & o->eflags_undef);
}

struct gen_insn *gen_append(struct build *b, const u8 *bytes, unsigned len)
{
    struct gen_insn *i = &b->q->insn[b->q->n++];
    struct decoded d;
    *i = (struct gen_insn){.len = (u8)len};
    if (len) /* else there may be no bytes */
        memcpy(i->bytes, bytes, len);
    if (b->flow && len && decode(&d, i->bytes, 15, b->q->bits, true) == DECODE_OK)
        b->undefined = undefined_after(&d, b->undefined, true);
    return i;
}

u32 gen_undefined_step(const u8 *bytes, unsigned len, unsigned bits, u32 undefined, bool *reads)
{
    struct decoded d;
    u8 all[32] = {0};

    memcpy(all, bytes, MIN(len, 15u));
    *reads = false;
    if (decode(&d, all, 15, bits, true) != DECODE_OK)
        return undefined;
    *reads = flags_needed(d.desc) & undefined;
    return undefined_after(&d, undefined, true);
}

bool gen_reads_undefined(const struct build *b, const u8 *bytes, unsigned len)
{
    struct decoded d;
    u8 all[32] = {0};
    if (len)
        memcpy(all, bytes, len);
    return b->undefined && len && decode(&d, all, 15, b->q->bits, true) == DECODE_OK && flags_needed(d.desc) & b->undefined;
}

void gen_set_register(struct build *b, unsigned reg, u32 value)
{
    u8 c[8];
    unsigned n = 0;
    if (b->q->bits == 16)
        c[n++] = 0x66;
    if (reg >= 8)
        c[n++] = 0x41;
    c[n++] = (u8)(0xb8 | (reg & 7));
    memcpy(c + n, &value, 4);
    gen_append(b, c, n + 4);
}

/* An offset for an operand of that many bytes: mostly in the data area, sometimes over a page's or the area's end. */
static u64 place(struct build *b, unsigned size, bool aligned)
{
    struct rng *r = b->r;
    u64 at;
    if (!size)
        size = 1;
    if (b->calm) { /* mapped and writable, with room for a string of 40 elements on both sides */
        if (!b->q->segmented && size <= 8 && chance(r, 4))
            return DEVICE_BASE + (rng_below(r, DEVICE_SIZE - 1024) + 512);
        at = chance(r, 20) ? DATA_BASE + 4096 * (1 + rng_below(r, 3)) - rng_below(r, size + 1) :
            DATA_BASE + 512 + rng_below(r, DATA_RO - 1024);
        if (aligned || chance(r, 40))
            at &= ~(u64)(size >= 64 ? 63 : size >= 32 ? 31 : size >= 16 ? 15 : 7);
        return at - data_base(b->q);
    }
    switch (rng_below(r, 24)) {
    case 0: at = DATA_BASE + 4096 * (1 + rng_below(r, 5)) - rng_below(r, size + 1); break; /* across pages; the last ends the area */
    case 1: at = DATA_BASE + DATA_RO - (chance(r, 50) ? 0 : size) + rng_below(r, 4096 - 64); break;
    case 2: at = chance(r, 50) ? DATA_BASE - rng_below(r, size + 1) : DATA_BASE + rng_below(r, 4) * 1024; break;
    case 3: at = b->q->segmented ? DATA_BASE + 16 * rng_below(r, 64) : STACK_BASE + rng_below(r, STACK_SIZE - 64); break;
    default: at = DATA_BASE + rng_below(r, DATA_RO - 64); break;
    }
    if (aligned ? !chance(r, 4) : chance(r, 40))
        at &= ~(u64)(size >= 64 ? 63 : size >= 32 ? 31 : size >= 16 ? 15 : 7);
    return at - data_base(b->q);
}

static u64 stack_place(struct build *b)
{
    if (b->q->real) /* above the stack pointer */
        return 0x1800 + rng_below(b->r, 0x600);
    return STACK_BASE - stack_base(b->q) + 0x800 + rng_below(b->r, 0x1000);
}

/* 16-bit addressing, which only code with segments of its own can aim. */
static void put_memory16(struct build *b, u64 at, u8 modrm, u8 *p, unsigned *n)
{
    struct rng *r = b->r;
    const u64 *gpr = b->q->init.gpr;
    unsigned rm, mod = 2;
    u16 disp = (u16)at;
    switch (rng_below(r, 5)) {
    case 0:
        rm = 6;
        mod = 0;
        break;
    case 1:
        if (b->small == RSI) {
            rm = 4;
            disp = (u16)(at - gpr[RSI]);
        } else {
            rm = 6;
            disp = (u16)(stack_place(b) - gpr[RBP]);
        }
        break;
    case 2:
        if (b->small == RSI) {
            rm = 0;
            disp = (u16)(at - gpr[RBX] - gpr[RSI]);
            break;
        } /* fall through */
    default:
        rm = 7;
        disp = (u16)(at - gpr[RBX]);
        break;
    }
    if (!b->calm && chance(r, 4)) { /* as it comes */
        rm = rng_below(r, 8);
        mod = 1 + rng_below(r, 2);
    }
    if (mod == 2 && chance(r, 30))
        mod = 1;
    p[(*n)++] = (u8)(modrm | mod << 6 | rm);
    p[(*n)++] = (u8)disp;
    if (mod != 1)
        p[(*n)++] = (u8)(disp >> 8);
}

/* ModRM, SIB and displacement for an address. rex: the bits it needs are set; false: try again. */
static bool put_memory(struct build *b, const struct form *f, u8 *p, unsigned *n, u8 *rex, unsigned vsib_index, struct gen_insn *fix,
    bool addr67)
{
    struct rng *r = b->r;
    const struct opdesc *d = f->desc;
    bool aligned = d->cls == OPC_SSE || d->cls == OPC_SYSTEM || (d->cls == OPC_AVX && (b->calm || chance(r, 50))) || d->mnemonic == M_CMPXCHG16B;
    u64 at = place(b, d->mem_size, aligned);
    u8 modrm = (u8)(f->reg << 3);
    s64 disp = (s64)at;
    unsigned form = rng_below(r, 8);
    bool bits64 = b->q->bits == 64;

    if (d->flags & OPF_VSIB) {
        unsigned base = b->pointer[rng_below(r, 3)];
        p[(*n)++] = modrm | 0x84;
        p[(*n)++] = (u8)(rng_below(r, 4) << 6 | (vsib_index & 7) << 3 | (base & 7));
        *rex |= (u8)((vsib_index >> 3 & 1) << 1 | base >> 3);
        disp = (s64)(at - b->q->init.gpr[base]);
    } else if (b->q->segmented && addr67 == (b->q->bits == 32)) {
        put_memory16(b, at, modrm, p, n);
        return true;
    } else if (!bits64 && addr67 == (b->q->bits == 32)) { /* 16-bit addresses: nothing is mapped there, but LEA and faults have them too */
        unsigned mod = rng_below(r, 3);
        p[(*n)++] = (u8)(modrm | mod << 6 | rng_below(r, 8));
        unsigned len = mod == 0 ? ((p[*n - 1] & 7) == 6 ? 2 : 0) : mod;
        for (unsigned i = 0; i < len; i++)
            p[(*n)++] = (u8)rng_next(r);
        return true;
    } else if (form == 0 && bits64) {
        p[(*n)++] = modrm | 5;
        fix->fix = FIX_RIP;
        fix->fix_off = (u8)*n;
        fix->target = at;
        disp = 0;
    } else if (form == 1) { /* disp32 alone, or an index without base */
        bool index = chance(r, 50);
        p[(*n)++] = modrm | 4;
        p[(*n)++] = (u8)((index ? rng_below(r, 4) << 6 | (b->small & 7) << 3 : 0x20) | 5);
        if (index) {
            *rex |= (u8)((b->small >> 3) << 1);
            disp = (s64)(at - (b->q->init.gpr[b->small] << (p[*n - 1] >> 6)));
        }
    } else {
        unsigned base = b->calm || chance(r, 92) ? b->pointer[rng_below(r, 3)] : RSP;
        u64 value = b->q->init.gpr[base];
        bool index = chance(r, 35), small;
        unsigned scale = rng_below(r, 4);
        if (base == RSP || (base == RBP && b->q->segmented))
            at = stack_place(b);
        if (index)
            value += b->q->init.gpr[b->small] << scale;
        disp = (s64)(at - value);
        small = !(b->calm && (aligned || f->encoding == ENC_EVEX)) && chance(r, 40); /* an EVEX displacement counts operands, wherever that leads from a pointer */
        if (small)
            disp = (s8)disp;
        *rex |= (u8)(base >> 3);
        unsigned mod = small ? 1 : 2;
        if (index || (base & 7) == 4) {
            p[(*n)++] = (u8)(modrm | mod << 6 | 4);
            p[(*n)++] = (u8)((index ? scale << 6 | (b->small & 7) << 3 : 0x20) | (base & 7));
            if (index)
                *rex |= (u8)((b->small >> 3) << 1);
        } else {
            p[(*n)++] = (u8)(modrm | mod << 6 | (base & 7));
        }
        if (small) {
            p[(*n)++] = (u8)disp;
            return true;
        }
    }
    u32 d32 = (u32)disp;
    memcpy(p + *n, &d32, 4);
    *n += 4;
    return true;
}

/* Registers that an instruction writes by name. */
static u32 writes(const struct decoded *d)
{
    u32 m = 0;
    const struct opdesc_gpr *g[3] = {&d->desc->reg, &d->desc->rm, &d->desc->vvvv};
    const u8 number_of[3] = {d->reg, d->rm, d->vvvv};
    for (unsigned i = 0; i < 3; i++) {
        unsigned n = number_of[i];
        if (!g[i]->size || !g[i]->write || (i == 1 && d->has_mem))
            continue;
        if (g[i]->size == 1 && !d->rex && n >= 4)
            n -= 4;
        m |= 1u << n;
    }
    return m;
}

static bool faults_easily(const struct decoded *d)
{
    switch (d->desc->mnemonic) {
    case M_DIV:
    case M_IDIV:
    case M_AAM:
    case M_INTO:
    case M_BOUND:
    case M_XLAT:
    case M_MASKMOVQ:
    case M_MASKMOVDQU:
    case M_VMASKMOVDQU:
    case M_CLZERO:
    case M_FLDCW:
    case M_FLDENV:
    case M_FRSTOR:
    case M_FXRSTOR:
    case M_FXRSTOR64:
    case M_LDMXCSR:
    case M_VLDMXCSR: return true;
    case M_BT:
    case M_BTS:
    case M_BTR:
    case M_BTC: return d->has_mem && !d->desc->imm1; /* a bit far away */
    default: return d->desc->flags & OPF_VSIB;
    }
}

/* Results that the manuals leave open, beyond flags. */
static bool ban(const struct build *b, const struct decoded *d)
{
    if (b->q->real) /* what lies above the stack pointer must not be an interrupt's */
        switch (d->desc->mnemonic) {
        case M_PUSH:
        case M_POP:
        case M_PUSHF:
        case M_PUSHFD:
        case M_ENTER:
        case M_LEAVE: return true;
        default: break;
        }
    switch (d->desc->mnemonic) {
    case M_MOVSXD: return d->osize == 2 && d->has_mem; /* AMD reads 32 bits, Intel 16 */
    case M_NOP: return d->map == 1 && d->opcode == 0x0d && d->mod == 3; /* #UD on AMD */
    case M_BSWAP: return d->osize == 2;
    case M_SHLD:
    case M_SHRD: return d->osize == 2 && (!d->desc->imm1 || (d->imm & 31) > 16);
    case M_RDFSBASE:
    case M_WRFSBASE:
    case M_WRGSBASE: return true;
    case M_PUSH:
    case M_POP: return d->seg_override != 0xff && d->bits == 32;
    case M_ENTER: return (u16)d->imm > 0x400;
    case M_RET: return true;
    default: break;
    }
    /* A program's stack is its own, and what changes a segment or the traps of x87 and SSE ends it too often. */
    if (b->flow && (d->desc->gpr_write & 1u << RSP))
        return true;
    if (b->calm && faults_easily(d))
        return true;
    if (b->calm && b->q->real && d->encoding != ENC_LEGACY) /* #UD in real and virtual-8086 mode */
        return true;
    if (d->desc->flags & OPF_MASKED_MEM && d->bits != 64) /* what a mask without a set bit checks; 64 KiB wrap */
        return d->seg_override != 0xff || d->asize == 2 || b->q->segmented;
    return false;
}

u32 gen_undefined_flags(const struct sequence *q, unsigned k)
{
    u32 undefined = 0;
    unsigned skipping = 0;
    for (unsigned i = 0; i < k && i < q->n; i++) {
        struct decoded d;
        if (q->insn[i].label) /* whoever comes here has defined them */
            undefined = 0;
        if (!q->insn[i].len || q->insn[i].data)
            continue;
        if (decode(&d, q->insn[i].bytes, 15, q->bits, true) != DECODE_OK)
            continue;
        undefined = undefined_after(&d, undefined, !skipping);
        if (skipping)
            skipping--;
        if ((q->insn[i].fix == FIX_SKIP || q->insn[i].fix == FIX_SKIP32) && q->insn[i].skip > skipping)
            skipping = q->insn[i].skip;
    }
    return undefined;
}

bool gen_flags_defined(const struct sequence *q)
{
    for (unsigned i = 0; i < q->n; i++) {
        struct decoded d;
        u32 undefined = gen_undefined_flags(q, i);
        if (undefined && q->insn[i].len && !q->insn[i].data && decode(&d, q->insn[i].bytes, 15, q->bits, true) == DECODE_OK &&
            flags_needed(d.desc) & undefined)
            return false;
    }
    return true;
}

u32 gen_live_flags(const struct sequence *q, unsigned offset)
{
    /* By the offset of each instruction: what it reads and surely writes, where it leads. Beyond: everything is live. */
    enum { ALL = RFLAGS_ARITH, NOWHERE = 0xffff };
    static struct node {
        bool starts;
        u32 use, kill, live;
        unsigned next[2];
    } node[CODE_SIZE];
    static u8 code[CODE_SIZE];
    static unsigned offsets[SEQ_MAX + 1];
    unsigned len = gen_assemble(q, code, offsets);
    memset(node, 0, sizeof(node));
    for (unsigned i = 0; i < q->n; i++) {
        struct decoded d;
        for (unsigned o = offsets[i], end = o + q->insn[i].len; o < end && !q->insn[i].data; o += d.len) {
            if (decode(&d, code + o, 15, q->bits, true) != DECODE_OK)
                break;
            struct node *n = &node[o];
            unsigned after = o + d.len, relative = (unsigned)(after + (u32)d.imm);
            *n = (struct node){.starts = true, .use = d.desc->eflags_read & ALL,
                .kill = d.desc->eflags_write & ~d.desc->eflags_read & ALL, .next = {after, NOWHERE}};
            /* By a count that is not 0 a shift reads none of the flags it writes. */
            const bool counted = (d.map == 0 && (d.opcode & 0xfe) == 0xd0) || (d.imm_off && (d.imm & (d.osize == 8 ? 63 : 31)));
            const unsigned m = d.desc->mnemonic;
            if (counted && (m == M_SHL || m == M_SHR || m == M_SAR || m == M_SHLD || m == M_SHRD))
                n->use = 0, n->kill = ALL;
            else if (counted && (m == M_ROL || m == M_ROR))
                n->use = 0, n->kill = RFLAGS_CF | RFLAGS_OF;
            if (d.map == 0 ? (d.opcode & 0xf0) == 0x70 || (d.opcode & 0xfc) == 0xe0 : d.map == 1 && (d.opcode & 0xf0) == 0x80)
                n->next[1] = relative;
            else if (d.map == 0 && (d.opcode == 0xeb || d.opcode == 0xe9 || d.opcode == 0xe8))
                n->next[0] = relative;
            else if (d.desc->flags & OPF_BLOCK_END)
                n->use = ALL;
            if (d.desc->mnemonic == M_PUSHF || d.desc->mnemonic == M_PUSHFQ || d.desc->mnemonic == M_PUSHFD)
                n->use = ALL;
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (unsigned o = len; o-- > 0;) {
            struct node *n = &node[o];
            u32 live = 0;
            for (unsigned k = 0; k < 2 && n->starts; k++)
                if (n->next[k] != NOWHERE)
                    live |= n->next[k] < len && node[n->next[k]].starts ? node[n->next[k]].live : ALL;
            live = n->use | (live & ~n->kill);
            if (n->starts && live != n->live) {
                n->live = live;
                changed = true;
            }
        }
    }
    if (offset >= len)
        return ALL;
    return node[offset].starts ? node[offset].live : 0; /* astray, within an instruction: not known */
}

/* Accepts a finished encoding, or not. */
static bool acceptable(struct build *b, const u8 *bytes, unsigned len, const struct form *f, struct decoded *d)
{
    if (decode(d, bytes, len, b->q->bits, true) != DECODE_OK || d->desc != f->desc || d->len > 15)
        return false;
    u32 w = writes(d);
    bool popa = d->desc->mnemonic == M_POPA || d->desc->mnemonic == M_POPAD; /* spoils the pointers, too good to miss */
    if (w & (b->fixed | 1u << RSP) || (d->desc->gpr_write & b->fixed && !popa))
        return false;
    if (b->undefined & flags_needed(d->desc))
        return false;
    return !ban(b, d);
}

static void prepare(struct build *b, const struct form *f)
{
    struct rng *r = b->r;
    const struct opdesc *o = f->desc;
    if (o->cls == OPC_STRING) {
        if (b->calm || chance(r, 95)) {
            gen_set_register(b, RSI, (u32)place(b, 8, false));
            gen_set_register(b, RDI, (u32)place(b, 8, false));
        }
        if (!b->calm && !b->q->segmented && chance(r, 10)) /* over the ends of the device, where nothing is */
            gen_set_register(b, chance(r, 50) ? RSI : RDI, DEVICE_BASE + (chance(r, 50) ? DEVICE_SIZE - 1 - rng_below(r, 64) : rng_below(r, 64)));
        bool io = o->gpr_read & 1u << RDX; /* AMD checks the right to I/O for a count of zero too, Intel does not say */
        if (f->rep && io)
            gen_set_register(b, RCX, 1 + rng_below(r, 9));
        else if (f->rep && (b->calm || chance(r, 95)))
            gen_set_register(b, RCX, !b->calm && chance(r, 10) ? (u32)rng_next(r) & 0xffff : rng_below(r, 40));
    } else if ((o->mnemonic == M_DIV || o->mnemonic == M_IDIV) && chance(r, 80)) {
        gen_set_register(b, RDX, rng_below(r, 4));
        if (chance(r, 30))
            gen_set_register(b, RAX, rng_below(r, 0x7fff));
    } else if (o->mnemonic == M_MASKMOVDQU || o->mnemonic == M_MASKMOVQ || o->mnemonic == M_VMASKMOVDQU) {
        if (chance(r, 95))
            gen_set_register(b, RDI, (u32)place(b, 16, false));
    } else if (o->mnemonic == M_CLZERO && chance(r, 90)) {
        gen_set_register(b, RAX, (u32)place(b, 64, true));
    }
}

void gen_general(struct build *b)
{
    struct rng *r = b->r;
    const struct list *lists = b->g->list[mode_of(b->q->bits)];
    unsigned total = 0, pick, bucket = 0;
    for (unsigned i = 0; i < B_COUNT; i++)
        total += lists[i].n ? b->weights[i] : 0;
    pick = rng_below(r, total);
    for (;; bucket++) {
        unsigned w = lists[bucket].n ? b->weights[bucket] : 0;
        if (pick < w)
            break;
        pick -= w;
    }
    struct form f = lists[bucket].form[rng_below(r, lists[bucket].n)];
    bool lockable = f.desc->flags & OPF_LOCK && !f.mod3;
    unsigned before = b->q->n;
    u32 prepared = f.desc->cls == OPC_STRING ? 1u << RCX | 1u << RSI | 1u << RDI : 1u << RAX | 1u << RDX;

    if (b->flow && b->fixed & prepared && (f.desc->cls == OPC_STRING || f.desc->mnemonic == M_DIV || f.desc->mnemonic == M_IDIV))
        return;

    prepare(b, &f);
    for (unsigned attempt = 0; attempt < 24; attempt++) {
        u8 head[4], body[16], tail[16] = {0}, all[48];
        unsigned nh = 0, nb, nt = 0, n = 0;
        struct gen_insn fix = {0};
        struct form v = f;
        u8 rex = 0, vvvv = 0, aaa = 0;
        bool addr67 = !b->calm && chance(r, b->q->segmented ? 30 : b->q->bits == 64 ? 4 : 2);
        unsigned vsib = rng_below(r, b->q->bits != 64 ? 8 : f.encoding == ENC_EVEX ? 32 : 16);

        /* EVEX.X is ignored with a general register, but Zen 5 then reads an RSP that the last CALL has not reached. */
        unsigned rex_bits = !f.mod3 ? 4 : f.encoding == ENC_EVEX && !f.desc->rm.size ? 7 : 5;
        if (attempt % 4 != 3) { /* registers of its own, if ModRM.reg is not part of the opcode */
            v.reg = (u8)rng_below(r, 8);
            if (b->q->bits == 64)
                rex = (u8)(chance(r, 50) ? rng_below(r, 8) & rex_bits : 0);
        }
        if (f.mod3 && attempt % 4 < 2)
            v.rm = (u8)rng_below(r, 8);
        if (!(f.desc->flags & OPF_MODRM)) {
            v.opcode = (u8)((f.opcode & 0xf8) | rng_below(r, 8));
            if (attempt % 4 == 3)
                v.opcode = f.opcode;
            rex &= 1;
        }
        if (f.encoding != ENC_LEGACY && attempt % 4 < 3)
            vvvv = (u8)rng_below(r, b->q->bits == 64 ? 16 : 8);
        if (f.encoding == ENC_EVEX) {
            aaa = (u8)(chance(r, 50) ? rng_below(r, 8) : 0);
            aaa |= (u8)(aaa && chance(r, 30) ? 0x80 : 0) | (chance(r, 20) ? 8 : 0);
            if (f.mod3 && aaa & 8)
                v.vl = rng_below(r, 4) & 3; /* the rounding mode, or nothing */
            if (b->q->bits == 64 && attempt % 4 < 3) /* registers 16 to 31 */
                vvvv |= (u8)(rng_next(r) & 0x50);
            else if (b->q->bits != 64 && chance(r, 50)) /* R', B and vvvv[3], which only 64-bit mode heeds */
                vvvv |= (u8)(rng_next(r) & 0x48), rex |= (u8)(rng_next(r) & 1);
            if (f.desc->flags & OPF_VSIB)
                vvvv = (u8)((vvvv & 0x40) | (vsib & 16));
        }
        if (addr67)
            head[nh++] = 0x67;
        if (lockable && chance(r, 25))
            head[nh++] = 0xf0;
        if (b->calm)
            ; /* no segment but DS */
        else if (b->q->bits == 64 && !f.mod3 && chance(r, 3))
            head[nh++] = 0x65;
        else if (!f.mod3 && chance(r, 3))
            head[nh++] = (u8)(0x26 | rng_below(r, 4) << 3);

        if (f.desc->flags & OPF_MODRM) {
            if (f.mod3)
                tail[nt++] = (u8)(0xc0 | v.reg << 3 | v.rm);
            else if (!put_memory(b, &v, tail, &nt, &rex, vsib, &fix, addr67))
                continue;
        } else if (f.encoding == ENC_LEGACY && f.map == 0 && (f.opcode & 0xfc) == 0xa0) {
            u64 at = place(b, 4, false);
            nt = b->q->bits == 64 ? (addr67 ? 4 : 8) : addr67 == (b->q->bits == 32) ? 2 : 4;
            memcpy(tail, &at, 8);
        }
        nb = put_head(&v, b->q->bits, rex, vvvv, aaa, body);
        memcpy(all, head, nh);
        n = nh;
        memcpy(all + n, body, nb);
        n += nb;
        memcpy(all + n, tail, nt);
        if (fix.fix)
            fix.fix_off = (u8)(fix.fix_off + n);
        n += nt;
        u64 imm = gen_number(r);
        memcpy(all + n, &imm, 8);
        n += 8;

        struct decoded d;
        if (!acceptable(b, all, n, &f, &d))
            continue;
        if (d.desc->flags & OPF_VSIB && chance(r, 90)) { /* vmovdqu index, [small numbers] */
            if (f.encoding == ENC_EVEX && b->q->bits != 16 && !b->q->segmented) {
                u32 at = (u32)(DATA_BASE + DATA_SMALL + 8 * rng_below(r, 500));
                u8 c[11] = {0x62, (u8)(0x61 | (~vsib & 8) << 4 | (~vsib & 16)), 0x7e, 0x48, 0x6f, (u8)((vsib & 7) << 3 | 4), 0x25};
                memcpy(c + 7, &at, 4);
                gen_append(b, c, 11);
            } else if (b->q->bits != 16 && !b->q->segmented) {
                u32 at = (u32)(DATA_BASE + DATA_SMALL + 8 * rng_below(r, 500));
                u8 c[9] = {0xc5, (u8)(vsib & 8 ? 0x7e : 0xfe), 0x6f, (u8)((vsib & 7) << 3 | 4), 0x25};
                memcpy(c + 5, &at, 4);
                gen_append(b, c, 9);
            }
        }
        struct gen_insn *i = gen_append(b, all, d.len);
        i->fix = fix.fix;
        i->fix_off = fix.fix_off;
        i->target = fix.target;
        b->undefined = undefined_after(&d, b->undefined, b->skipping == 0);
        return;
    }
    b->q->n = before;
}

static void control(struct build *b)
{
    struct rng *r = b->r;
    static const u32 reads[8] = {RFLAGS_OF, RFLAGS_CF, RFLAGS_ZF, RFLAGS_CF | RFLAGS_ZF, RFLAGS_SF, RFLAGS_PF,
        RFLAGS_SF | RFLAGS_OF, RFLAGS_SF | RFLAGS_OF | RFLAGS_ZF};
    const bool narrow = b->q->bits == 16;
    unsigned skip = 1 + rng_below(r, 3), cc = rng_below(r, 16), n = 0;
    u8 c[16] = {0};
    struct gen_insn *i;
    switch (rng_below(r, 9)) {
    case 0:
    case 1:
    case 2:
        if (reads[cc >> 1] & b->undefined)
            return;
        if (chance(r, 70)) {
            c[0] = (u8)(0x70 | cc);
            i = gen_append(b, c, 2);
            i->fix = FIX_SKIP;
            i->fix_off = 1;
        } else {
            c[0] = 0x0f;
            c[1] = (u8)(0x80 | cc);
            i = gen_append(b, c, narrow ? 4 : 6);
            i->fix = FIX_SKIP32;
            i->short_fix = narrow;
            i->fix_off = 2;
        }
        break;
    case 3:
        c[0] = 0xeb;
        i = gen_append(b, c, 2);
        i->fix = FIX_SKIP;
        i->fix_off = 1;
        break;
    case 4: /* LOOPNE, LOOPE, LOOP, JrCXZ */
        c[0] = (u8)(0xe0 + rng_below(r, 4));
        if (c[0] < 0xe2 && b->undefined & RFLAGS_ZF)
            return;
        if (b->fixed & 1u << RCX)
            return;
        if (chance(r, 20)) {
            c[1] = c[0];
            c[0] = 0x67;
            n = 1;
        }
        i = gen_append(b, c, n + 2);
        i->fix = FIX_SKIP;
        i->fix_off = (u8)(n + 1);
        break;
    case 5: /* CALL over a few */
        c[0] = 0xe8;
        i = gen_append(b, c, narrow ? 3 : 5);
        i->fix = FIX_SKIP32;
        i->short_fix = narrow;
        i->fix_off = 1;
        break;
    default: /* an address into a register or onto the stack, and there: one piece, or a jump between them could loop */
        if (chance(r, 50)) {
            c[0] = 0x68;
            n = narrow ? 3 : 5;
            c[n++] = chance(r, 50) ? 0xc3 : 0xc2;
            if (c[n - 1] == 0xc2) {
                c[n] = 8;
                n += 2;
            }
            i = gen_append(b, c, n);
            i->fix_off = 1;
            i->short_fix = narrow;
        } else {
            unsigned reg = b->q->bits == 64 ? rng_below(r, 16) : rng_below(r, 8);
            if (b->fixed >> reg & 1 || reg == RSP)
                return;
            gen_set_register(b, reg, 0);
            i = &b->q->insn[b->q->n - 1];
            i->fix_off = (u8)(i->len - 4);
            if (reg >= 8)
                i->bytes[i->len++] = 0x41;
            i->bytes[i->len++] = 0xff;
            i->bytes[i->len++] = (u8)((chance(r, 50) ? 0xe0 : 0xd0) | (reg & 7));
        }
        i->fix = FIX_ABS;
        return;
    }
    i->skip = (u8)skip;
    if (skip > b->skipping)
        b->skipping = skip;
}

/* ---- segments ---- */

static u16 any_selector(struct build *b, bool no_code)
{
    static const u16 list[] = {0, 0, 0x2b, 0x2b, 0x10, 0x18, LDT_SELECTOR(LDT_DATA), LDT_SELECTOR(LDT_DATA), LDT_SELECTOR(LDT_DATA),
        LDT_SELECTOR(LDT_DATA), LDT_SELECTOR(LDT_STACK16), LDT_SELECTOR(LDT_STACK32), LDT_SELECTOR(LDT_READ_ONLY),
        LDT_SELECTOR(LDT_DOWN16), LDT_SELECTOR(LDT_DOWN32), LDT_SELECTOR(LDT_ABSENT_DATA), LDT_SELECTOR(LDT_ABSENT_CODE),
        LDT_SELECTOR(LDT_PAGES), LDT_SELECTOR(LDT_EMPTY), LDT_SELECTOR(LDT_COUNT), LDT_SELECTOR(200), 0x83, 0xfff8,
        LDT_SELECTOR(LDT_CODE16), LDT_SELECTOR(LDT_CODE32), LDT_SELECTOR(LDT_EXECUTE_ONLY), LDT_SELECTOR(LDT_OTHER32),
        LDT_SELECTOR(LDT_OTHER16), 0x23, 0x33};
    unsigned n = ARRAY_SIZE(list) - (no_code ? 7 : 0);
    u16 sel = list[rng_below(b->r, n)];
    if (sel < 4)
        return 0; /* Linux, when it returns to us, would make other null selectors this one (SDM vol. 2, IRET) */
    return chance(b->r, 90) ? sel : (u16)((sel & ~3) | rng_below(b->r, 4));
}

static unsigned free_register(struct build *b)
{
    for (;;) {
        unsigned reg = rng_below(b->r, b->q->bits == 64 ? 16 : 8);
        if (reg != RSP && !(b->fixed >> reg & 1))
            return reg;
    }
}

/* Adds ModRM for two registers, and REX where they need it, behind the opcode bytes op. */
static void two_registers(struct build *b, const u8 *op, unsigned n_op, unsigned reg, unsigned rm, bool opsize)
{
    u8 c[8];
    unsigned n = 0;
    if (opsize)
        c[n++] = 0x66;
    if ((reg | rm) & 8)
        c[n++] = (u8)(0x40 | (reg >> 3) << 2 | rm >> 3);
    memcpy(c + n, op, n_op);
    n += n_op;
    c[n++] = (u8)(0xc0 | (reg & 7) << 3 | (rm & 7));
    gen_append(b, c, n);
}

static void far_transfer(struct build *b)
{
    struct rng *r = b->r;
    static const u16 to16[] = {LDT_SELECTOR(LDT_CODE16), LDT_SELECTOR(LDT_OTHER16)};
    static const u16 to32[] = {LDT_SELECTOR(LDT_CODE32), LDT_SELECTOR(LDT_OTHER32), LDT_SELECTOR(LDT_EXECUTE_ONLY)};
    const struct sequence *q = b->q;
    u16 sel = q->bits == 64 ? 0x33 : !q->segmented ? 0x23 : q->bits == 16 ? to16[rng_below(r, 2)] : to32[rng_below(r, 3)];
    if (chance(r, 10))
        sel = (u16)((sel & ~3) | rng_below(r, 4));
    if (chance(r, 15))
        sel = any_selector(b, true);
    u8 c[32] = {0};
    unsigned n = 0, size = q->bits == 16 ? 2 : 4, fix_off;
    unsigned kind = rng_below(r, q->bits == 64 ? 2 : 4);
    if (kind == 1 && b->undefined && q->bits != 64) /* they would be pushed */
        kind = 0;
    switch (kind) {
    case 0: /* push selector; push offset; far return */
        c[n++] = 0x68;
        memcpy(c + n, &sel, 2);
        n += size;
        c[n++] = 0x68;
        fix_off = n;
        n += size;
        if (q->bits == 64)
            c[n++] = 0x48;
        if (chance(r, 30)) {
            c[n++] = 0xca;
            c[n] = 16;
            n += 2;
        } else {
            c[n++] = 0xcb;
        }
        break;
    case 1: /* flags, selector, offset; IRET */
        if (q->bits == 64) { /* SS:RSP too, and back to where RSP was: push ss's value; push rsp; add qword [rsp], 8 */
            static const u8 stack[] = {0x6a, 0x2b, 0x54, 0x48, 0x83, 0x04, 0x24, 0x08};
            memcpy(c, stack, sizeof(stack));
            n = sizeof(stack);
        }
        c[n++] = 0x9c;
        c[n++] = 0x68;
        memcpy(c + n, &sel, 2);
        n += size;
        c[n++] = 0x68;
        fix_off = n;
        n += size;
        if (q->bits == 64)
            c[n++] = 0x48;
        c[n++] = 0xcf;
        break;
    default: /* JMP, CALL selector:offset */
        c[n++] = chance(r, 50) ? 0xea : 0x9a;
        fix_off = n;
        n += size;
        memcpy(c + n, &sel, 2);
        n += 2;
        break;
    }
    struct gen_insn *i = gen_append(b, c, n);
    i->fix = FIX_ABS;
    i->fix_off = (u8)fix_off;
    i->short_fix = size == 2;
}

static void at_address(struct build *b, const u8 *op, unsigned n_op, unsigned reg, u32 at, unsigned n_imm);

static void segments(struct build *b)
{
    struct rng *r = b->r;
    static const u8 move[] = {0x8e}, store[] = {0x8c}, lar[] = {0x0f, 0x02}, lsl[] = {0x0f, 0x03}, ver[] = {0x0f, 0x00}, arpl[] = {0x63};
    static const u8 targets[] = {ES, DS, GS, ES, DS, GS, SS, CS}, sources[] = {ES, CS, SS, DS, GS};
    bool long_mode = b->q->bits == 64, opsize = chance(r, 30);
    unsigned reg = free_register(b), other = free_register(b);
    u16 sel = any_selector(b, false);
    switch (rng_below(r, 10)) {
    case 0:
    case 1: { /* MOV Sreg */
        unsigned seg = targets[rng_below(r, ARRAY_SIZE(targets))];
        if (seg == SS && chance(r, 70))
            sel = b->q->segmented ? (b->q->bits == 16 ? LDT_SELECTOR(LDT_STACK16) : LDT_SELECTOR(LDT_STACK32)) : 0x2b;
        gen_set_register(b, reg, sel);
        two_registers(b, move, 1, seg, reg, opsize);
        break;
    }
    case 2: /* PUSH selector, POP Sreg */
        if (!long_mode) {
            static const u8 pops[] = {0x07, 0x1f, 0x07, 0x1f, 0x17};
            u8 c[8] = {0x68, (u8)sel, (u8)(sel >> 8)};
            unsigned n = b->q->bits == 16 ? 3 : 5;
            c[n++] = pops[rng_below(r, 5)];
            gen_append(b, c, n);
        } else {
            u8 c[8] = {0x68, (u8)sel, (u8)(sel >> 8), 0, 0, 0x0f, 0xa9};
            gen_append(b, c, 7);
        }
        break;
    case 3:
    case 4: two_registers(b, store, 1, sources[rng_below(r, 5)], reg, opsize); break;
    case 5: /* LAR of 32 bits leaves four bits undefined */
        gen_set_register(b, reg, sel);
        if (chance(r, 50))
            two_registers(b, lar, 2, other, reg, b->q->bits != 16);
        else
            two_registers(b, lsl, 2, other, reg, opsize);
        break;
    case 6:
        gen_set_register(b, reg, sel);
        two_registers(b, ver, 2, 4 + rng_below(r, 2), reg, false);
        break;
    case 7:
        if (!long_mode) {
            if (b->q->bits == 32 && chance(r, 50))
                at_address(b, arpl, 1, other, (u32)place(b, 2, false), 0);
            else
                two_registers(b, arpl, 1, other, reg, false);
            break;
        } /* fall through */
    default: far_transfer(b); break;
    }
}

/* ---- x87 and SSE state in memory ---- */

/* op [at], with an immediate of n_imm zero bytes behind. */
static void at_address(struct build *b, const u8 *op, unsigned n_op, unsigned reg, u32 at, unsigned n_imm)
{
    u8 c[16] = {0};
    unsigned n = n_op;
    memcpy(c, op, n_op);
    if (b->q->bits == 64) {
        c[n++] = (u8)(reg << 3 | 4);
        c[n++] = 0x25;
    } else {
        c[n++] = (u8)(reg << 3 | 5);
    }
    memcpy(c + n, &at, 4);
    gen_append(b, c, n + 4 + n_imm);
}

/*
 * Stored, a few instructions, and loaded again. The instruction and data pointers are zeroed in memory: AMD stores them
 * only behind an unmasked exception.
 */
static void state_in_memory(struct build *b)
{
    struct rng *r = b->r;
    static const u8 fxsave[] = {0x48, 0x0f, 0xae}, fnsave[] = {0xdd}, fnstenv[] = {0xd9}, mov32[] = {0xc7}, mov16[] = {0x66, 0xc7};
    bool long_mode = b->q->bits == 64;
    u32 at = (u32)(DATA_BASE - data_base(b->q) + 0x400 * rng_below(r, 14) + (chance(r, 95) ? 0 : 8));
    unsigned kind = rng_below(r, 3), rex = long_mode && chance(r, 50) ? 0 : 1;
    if (b->q->bits == 16)
        return;
    b->q->init.rflags &= ~(u64)RFLAGS_TF; /* which would end before the pointers are zeroed */
    if (kind == 0) {
        at_address(b, fxsave + rex, 3 - rex, 0, at, 0);
        at_address(b, mov16, 2, 0, at + 6, 2);
        for (u32 k = 8; k < 24; k += 4)
            at_address(b, mov32, 1, 0, at + k, 4);
    } else {
        at_address(b, kind == 1 ? fnsave : fnstenv, 1, 6, at, 0);
        for (u32 k = 12; k < 28; k += 4)
            at_address(b, mov32, 1, 0, at + k, 4);
    }
    for (unsigned n = rng_below(r, 4); n-- && b->q->n < STRAIGHT_MAX - 10;)
        gen_general(b);
    if (chance(r, 70)) {
        if (kind == 0)
            at_address(b, fxsave + rex, 3 - rex, 1, at, 0);
        else
            at_address(b, kind == 1 ? fnsave : fnstenv, 1, 4, at, 0);
    }
}

/*
 * The XSAVE family, with any choice of components. Which of them are in their initial state is in part the processor's
 * to say (SDM vol. 1, 13.6), so that of what XSAVEOPT and XSAVEC leave out nothing may be seen: the area is zero before,
 * and XSTATE_BV and the only initial value that is not zero are written over.
 */
static void xsave_in_memory(struct build *b)
{
    struct rng *r = b->r;
    static const struct { u8 op, reg; enum isa isa; } saves[] = {{0xae, 4, ISA_XSAVE}, {0xae, 6, ISA_XSAVEOPT}, {0xc7, 4, ISA_XSAVEC}};
    static const u8 mov32[] = {0xc7}, mov16[] = {0x66, 0xc7}, clear[] = {0xfc, 0x31, 0xc0, 0xf3, 0xab}; /* CLD; XOR EAX; REP STOSD */
    const unsigned kind = rng_below(r, ARRAY_SIZE(saves));
    const bool wide = b->q->bits == 64 && chance(r, 50);
    /* host_restricted: its XCR0 has more than the guest's. */
    if (b->q->bits == 16 || host_restricted || !b->g->isa[saves[kind].isa] || b->fixed & (1u << RAX | 1u << RDX))
        return;
    u32 at = (u32)(DATA_BASE - data_base(b->q) + 64 * rng_below(r, (DATA_RO - XSAVE_MAX) / 64) + (chance(r, 95) ? 0 : 8));
    b->q->init.rflags &= ~(u64)RFLAGS_TF;
    gen_set_register(b, RDI, at);
    gen_set_register(b, RCX, XSAVE_MAX / 4);
    gen_append(b, clear, sizeof(clear));
    b->undefined = b->skipping ? b->undefined | RFLAGS_AF : RFLAGS_AF;
    for (unsigned load = 0; load < 2; load++) {
        const u8 op[] = {0x48, 0x0f, load ? 0xae : saves[kind].op};
        gen_set_register(b, RDX, 0);
        gen_set_register(b, RAX, chance(r, 30) ? 0xff : (u32)rng_next(r) & 0xff);
        at_address(b, op + !wide, 3 - !wide, load ? 5 : saves[kind].reg, at, 0);
        if (load)
            break;
        const struct { u16 at; u16 value; } over[] = {{0, 0x37f}, {6, 0}, {8, 0}, {12, 0}, {16, 0}, {20, 0},
                                                      {512, chance(r, 60) ? 0xe7 : rng_next(r) & 0xff}};
        for (unsigned k = 0; k < ARRAY_SIZE(over); k++) {
            const bool half = over[k].at < 8;
            at_address(b, half ? mov16 : mov32, half ? 2 : 1, 0, at + over[k].at, half ? 2 : 4);
            struct gen_insn *i = &b->q->insn[b->q->n - 1];
            memcpy(i->bytes + i->len - (half ? 2 : 4), &over[k].value, 2);
        }
        for (unsigned n = rng_below(r, 4); n-- && b->q->n < STRAIGHT_MAX - 10;)
            gen_general(b);
    }
}

/* Code that changes an instruction ahead of it, sometimes the very next. */
static void self_modifying(struct build *b)
{
    static const u8 mov_imm8[] = {0xc6};
    u8 target[] = {0xb0, (u8)rng_next(b->r)}; /* mov al, imm8 */
    unsigned store = b->q->n;
    if (b->q->segmented || b->fixed & 1u << RAX)
        return;
    at_address(b, mov_imm8, 1, 0, 0, 1);
    b->q->insn[store].bytes[b->q->insn[store].len - 1] = (u8)rng_next(b->r);
    for (unsigned n = rng_below(b->r, 3); n--;)
        gen_general(b);
    struct gen_insn *i = &b->q->insn[store];
    i->fix = FIX_CODE;
    i->fix_off = (u8)(i->len - 5);
    i->skip = (u8)(b->q->n - store - 1);
    b->q->patches_itself = true;
    gen_append(b, target, 2);
}

void gen_sequence(const struct gen *g, struct rng *r, struct sequence *q)
{
    struct build b = {.g = g, .r = r, .q = q, .weights = weights};
    static const u8 pool64[] = {RBX, RBP, R8, R9, R10, R11, R12, R13, R14, R15}, pool32[] = {RBX, RBP};
    unsigned want = 6 + rng_below(r, 18);

    q->n = 0;
    q->flow = q->real = q->patches_itself = false;
    q->bits = chance(r, 70) ? 64 : 32;
    q->segmented = host_has_ldt && q->bits == 32 && chance(r, 50);
    if (q->segmented && chance(r, 60))
        q->bits = 16;
    q->code = CODE_BASE + 0x1000 + (chance(r, 20) ? 0x1000 - rng_below(r, 64) : rng_below(r, 0x1000));
    q->data_seed = rng_next(r);
    for (unsigned i = 0; i < 16; i++)
        q->init.gpr[i] = q->bits == 64 ? gen_number(r) : (u32)gen_number(r);
    if (q->bits == 64) {
        for (unsigned i = 0; i < 3; i++)
            b.pointer[i] = pool64[(rng_below(r, 5) + i * 5 / 2) % ARRAY_SIZE(pool64)];
        do
            b.small = pool64[rng_below(r, ARRAY_SIZE(pool64))];
        while (b.small == b.pointer[0] || b.small == b.pointer[1] || b.small == b.pointer[2]);
    } else {
        unsigned swap = q->segmented ? 0 : rng_below(r, 2);
        b.pointer[0] = b.pointer[1] = b.pointer[2] = pool32[swap];
        b.small = pool32[!swap];
        if (q->segmented && chance(r, 50))
            b.small = RSI;
    }
    /* Whether an access over the end of 4 GiB passes a 4 GiB limit is the processor's (SDM vol. 3, 5.3). */
    if (q->bits != 64 && q->init.gpr[RSI] > 0xffffff00)
        q->init.gpr[RSI] &= 0x7fffffff;
    if (q->bits != 64 && q->init.gpr[RDI] > 0xffffff00)
        q->init.gpr[RDI] &= 0x7fffffff;
    for (unsigned i = 0; i < 3; i++) {
        b.fixed |= 1u << b.pointer[i];
        q->init.gpr[b.pointer[i]] = DATA_BASE - data_base(q) + rng_below(r, DATA_RO);
    }
    b.fixed |= 1u << b.small;
    q->init.gpr[b.small] = q->bits == 64 && chance(r, 30) ? (u64)(s64)-(s64)rng_below(r, 64) : rng_below(r, 256);
    q->init.gpr[RSP] = STACK_BASE - stack_base(q) + 0x1000 - (chance(r, 80) ? 8 * rng_below(r, 8) : rng_below(r, 64));
    if (q->bits != 64)
        for (unsigned i = 8; i < 16; i++)
            q->init.gpr[i] = 0;
    q->init.rip = q->code - code_base(q);
    q->init.rflags = RFLAGS_FIXED | RFLAGS_IF | (rng_next(r) & RFLAGS_ARITH) | (chance(r, 30) ? RFLAGS_DF : 0);
    if (chance(r, 2))
        q->init.rflags |= RFLAGS_TF; /* ends behind its first instruction */
    if (chance(r, 2))
        q->init.rflags |= RFLAGS_AC; /* misaligned operands fault */
    gen_fpu(r, q->init.xsave, g->isa[ISA_AVX], g->isa[ISA_AVX512F]);

    while (q->n < want && q->n < STRAIGHT_MAX - 6) {
        unsigned n = q->n;
        if (chance(r, 6))
            control(&b);
        else if (chance(r, q->segmented ? 4 : 1) && host_has_ldt)
            segments(&b);
        else if (chance(r, 1) && q->n < STRAIGHT_MAX - 24)
            chance(r, 50) ? state_in_memory(&b) : xsave_in_memory(&b);
        else if (chance(r, 1))
            self_modifying(&b);
        else
            gen_general(&b);
        /* Jumps were counted where they stand; everything appended may be jumped over. */
        unsigned made = q->n - n;
        if (!(made && q->insn[q->n - 1].fix >= FIX_SKIP))
            b.skipping = b.skipping > made ? b.skipping - made : 0;
    }
}

unsigned gen_assemble(const struct sequence *q, u8 *out, unsigned *offsets)
{
    unsigned at = 0;
    u16 where[LABEL_MAX] = {0};
    for (unsigned i = 0; i < q->n; i++) {
        offsets[i] = at;
        where[q->insn[i].label] = (u16)at;
        memset(out + at + q->insn[i].len, 0xcc, q->insn[i].pad);
        at += q->insn[i].len + q->insn[i].pad;
    }
    offsets[q->n] = at;
    for (unsigned i = 0; i < q->n; i++) {
        const struct gen_insn *g = &q->insn[i];
        u8 *p = out + offsets[i];
        unsigned to = MIN(i + 1 + g->skip, q->n);
        u32 x;
        memcpy(p, g->bytes, g->len);
        switch (g->fix) {
        case FIX_RIP:
            x = (u32)(g->target - (q->init.rip + offsets[i] + g->len));
            memcpy(p + g->fix_off, &x, 4);
            break;
        case FIX_SKIP: p[g->fix_off] = (u8)(offsets[to] - offsets[i + 1]); break;
        case FIX_SKIP32:
            x = offsets[to] - offsets[i + 1];
            memcpy(p + g->fix_off, &x, g->short_fix ? 2 : 4);
            break;
        case FIX_CODE:
            x = (u32)(q->code + offsets[to] + 1);
            memcpy(p + g->fix_off, &x, 4);
            break;
        case FIX_ABS:
            x = (u32)(q->init.rip + offsets[to]);
            memcpy(p + g->fix_off, &x, g->short_fix ? 2 : 4);
            break;
        case FIX_REL8:
        case FIX_REL16:
        case FIX_REL32:
            x = (u32)(where[g->to] + g->add - (int)(offsets[i] + g->len));
            memcpy(p + g->fix_off, &x, g->fix == FIX_REL8 ? 1 : g->fix == FIX_REL16 ? 2 : 4);
            break;
        case FIX_ADDRESS16:
        case FIX_ADDRESS32:
        case FIX_ADDRESS64: {
            u64 address = q->init.rip + where[g->to] + (u64)(s64)g->add;
            memcpy(p + g->fix_off, &address, g->fix == FIX_ADDRESS16 ? 2 : g->fix == FIX_ADDRESS32 ? 4 : 8);
            break;
        }
        default: break;
        }
    }
    out[at] = 0xcc;
    return at + 1;
}
