/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_operand.c - operands in memory: where they lie, and a ModRM form whose address leads there.
 */
#include "gen.h"

#include <string.h>

u64 gen_place(struct build *b, unsigned size, bool aligned)
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

void gen_put_memory(struct build *b, const struct form *f, u8 *p, unsigned *n, u8 *rex, unsigned vsib_index, struct gen_insn *fix,
    bool addr67)
{
    struct rng *r = b->r;
    const struct opdesc *d = f->desc;
    bool aligned = d->cls == OPC_SSE || d->cls == OPC_SYSTEM || (d->cls == OPC_AVX && (b->calm || chance(r, 50))) || d->mnemonic == M_CMPXCHG16B;
    u64 at = gen_place(b, d->mem_size, aligned);
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
        return;
    } else if (!bits64 && addr67 == (b->q->bits == 32)) { /* 16-bit addresses: nothing is mapped there, but LEA and faults have them too */
        unsigned mod = rng_below(r, 3);
        p[(*n)++] = (u8)(modrm | mod << 6 | rng_below(r, 8));
        unsigned len = mod == 0 ? ((p[*n - 1] & 7) == 6 ? 2 : 0) : mod;
        for (unsigned i = 0; i < len; i++)
            p[(*n)++] = (u8)rng_next(r);
        return;
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
        /* An EVEX displacement counts operands, wherever that leads from a pointer. */
        small = !(b->calm && (aligned || f->encoding == ENC_EVEX)) && chance(r, 40);
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
            return;
        }
    }
    u32 d32 = (u32)disp;
    memcpy(p + *n, &d32, 4);
    *n += 4;
}
