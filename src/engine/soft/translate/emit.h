/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emit.h - writes host instructions. Registers have their hardware numbers (RAX 0 ... R15 15).
 */
#ifndef LODGE_ENGINE_SOFT_TRANSLATE_EMIT_H
#define LODGE_ENGINE_SOFT_TRANSLATE_EMIT_H

#include "base/base.h"
#include "cpu/cpu.h"

struct emit_data { /* bytes among the instructions that are none */
    u32 n;
    struct {
        const u8 *at; /* in the writable view */
        u32 size;
    } span[4096];
};
struct emit {
    u8 *p, *end; /* in the writable view; if p == end, the space is full, and what follows is dropped */
    s64 rx;      /* executable view minus writable view */
    struct emit_data *data; /* NULL: nobody needs it */
};

static inline void e1(struct emit *e, unsigned b)
{
    if (likely(e->p < e->end))
        *e->p++ = (u8)b;
}
static inline void e4(struct emit *e, u32 x)
{
    if (unlikely(e->end - e->p < 4)) {
        e->p = e->end;
        return;
    }
    __builtin_memcpy(e->p, &x, 4);
    e->p += 4;
}
static inline void e8(struct emit *e, u64 x)
{
    e4(e, (u32)x);
    e4(e, (u32)(x >> 32));
}
/* The next size bytes are no instructions. */
static inline void e_data(struct emit *e, u32 size)
{
    struct emit_data *d = e->data;
    if (d && d->n < ARRAY_SIZE(d->span)) {
        d->span[d->n].at = e->p;
        d->span[d->n++].size = size;
    }
}
static inline bool emit_full(const struct emit *e)
{
    return e->end - e->p < 64;
}
/* The address at which the next byte will execute. */
static inline u64 here(const struct emit *e)
{
    return (u64)(e->p + e->rx);
}

/* op reg, gs:[off] (8B load, 89 store, 03 add, 33 xor ...). size is 4 or 8. */
static inline void e_gs(struct emit *e, unsigned op, unsigned reg, u32 off, unsigned size)
{
    e1(e, 0x65);
    if (size == 8 || reg >= 8)
        e1(e, 0x40 | (size == 8) << 3 | (reg >> 3) << 2);
    e1(e, op);
    e1(e, (reg & 7) << 3 | 4);
    e1(e, 0x25);
    e4(e, off);
}
/* mov dword gs:[off], x */
static inline void e_gs_imm(struct emit *e, u32 off, u32 x)
{
    e1(e, 0x65), e1(e, 0xc7), e1(e, 0x04), e1(e, 0x25);
    e4(e, off);
    e4(e, x);
}
/* op reg, gs:[r11 + off], 64 bits. */
static inline void e_gs_r11(struct emit *e, unsigned op, unsigned reg, u32 off)
{
    e1(e, 0x65);
    e1(e, 0x49 | (reg >> 3) << 2);
    e1(e, op);
    e1(e, 0x80 | (reg & 7) << 3 | 3);
    e4(e, off);
}
/* mov dst, src, 64 bits. */
static inline void e_mov(struct emit *e, unsigned dst, unsigned src)
{
    e1(e, 0x48 | (src >> 3) << 2 | dst >> 3);
    e1(e, 0x89);
    e1(e, 0xc0 | (src & 7) << 3 | (dst & 7));
}
/* op dst, src (8B mov, 0FB7 movzx from 16 bits). size is that of dst: 2, 4 or 8. */
static inline void e_rr(struct emit *e, unsigned op, unsigned dst, unsigned src, unsigned size)
{
    const unsigned rex = (size == 8) << 3 | (dst >> 3) << 2 | src >> 3;
    if (size == 2)
        e1(e, 0x66);
    if (rex)
        e1(e, 0x40 | rex);
    if (op > 0xff)
        e1(e, op >> 8);
    e1(e, op & 0xff);
    e1(e, 0xc0 | (dst & 7) << 3 | (src & 7));
}
static inline void e_mov_imm(struct emit *e, unsigned dst, u64 x)
{
    if (x <= 0xffffffff) {
        if (dst >= 8)
            e1(e, 0x41);
        e1(e, 0xb8 | (dst & 7));
        e4(e, (u32)x);
    } else if ((u64)(s64)(s32)x == x) {
        e1(e, 0x48 | dst >> 3);
        e1(e, 0xc7);
        e1(e, 0xc0 | (dst & 7));
        e4(e, (u32)x);
    } else {
        e1(e, 0x48 | dst >> 3);
        e1(e, 0xb8 | (dst & 7));
        e8(e, x);
    }
}
/* ModRM, SIB and displacement of [base + index * 2^scale + disp]. index may be 16, which is none; base may not. */
static inline void e_mem(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale, s32 disp)
{
    bool sib = index != 16 || (base & 7) == 4, d0 = disp == 0 && (base & 7) != 5, d1 = disp == (s8)disp;
    e1(e, (d0 ? 0 : d1 ? 0x40 : 0x80) | (reg & 7) << 3 | (sib ? 4 : base & 7));
    if (sib)
        e1(e, scale << 6 | (index == 16 ? 4 : index & 7) << 3 | (base & 7));
    if (d0)
        return;
    if (d1)
        e1(e, (u8)disp);
    else
        e4(e, (u32)disp);
}
/* op reg, [base + index * 2^scale + disp] with the prefixes that it needs. size is 2, 4 or 8. */
static inline void e_rm(struct emit *e, unsigned op, unsigned reg, unsigned base, unsigned index, unsigned scale,
                        s32 disp, unsigned size)
{
    unsigned rex = (size == 8) << 3 | (reg >> 3) << 2 | (index != 16 && index >> 3) << 1 | base >> 3;
    if (size == 2)
        e1(e, 0x66);
    if (rex)
        e1(e, 0x40 | rex);
    e1(e, op);
    e_mem(e, reg, base, index, scale, disp);
}
/* cmp r10, n */
static inline void e_cmp_t0(struct emit *e, u32 n)
{
    e1(e, 0x49), e1(e, 0x81), e1(e, 0xfa), e4(e, n);
}
static inline void e_lea(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale, s32 disp)
{
    e_rm(e, 0x8d, reg, base, index, scale, disp, 8);
}
static inline void e_jmp(struct emit *e, u64 to)
{
    e1(e, 0xe9);
    e4(e, (u32)(to - (here(e) + 4)));
}
static inline void e_call_rel(struct emit *e, u64 to)
{
    e1(e, 0xe8);
    e4(e, (u32)(to - (here(e) + 4)));
}
/* Writes NOPs so that what comes n bytes from here begins at a multiple of 4. A processor that executes it sees a store of 4
   bytes to that place whole or not at all. */
static inline void e_align(struct emit *e, unsigned n)
{
    switch (-((u64)e->p + n) & 3) {
    case 3: e1(e, 0x0f), e1(e, 0x1f), e1(e, 0x00); break;
    case 2: e1(e, 0x66); /* fall through */
    case 1: e1(e, 0x90); break;
    }
}
/* ModRM, SIB and a 32-bit displacement, which EVEX does not scale. */
static inline void e_mem_wide(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale, s32 disp)
{
    bool sib = index != 16 || (base & 7) == 4;
    e1(e, 0x80 | (reg & 7) << 3 | (sib ? 4 : base & 7));
    if (sib)
        e1(e, scale << 6 | (index == 16 ? 4 : index & 7) << 3 | (base & 7));
    e4(e, (u32)disp);
}
static inline void e_call(struct emit *e, u64 to) /* over any distance, through RAX */
{
    e1(e, 0x48), e1(e, 0xb8), e8(e, to);
    e1(e, 0xff), e1(e, 0xd0);
}
/* jcc rel32. Returns the place of rel32 for e_fix. */
static inline u8 *e_jcc(struct emit *e, unsigned cc)
{
    e1(e, 0x0f);
    e1(e, 0x80 | cc);
    u8 *at = e->p;
    e4(e, 0);
    return at;
}
static inline void e_fix(struct emit *e, u8 *at, u64 to)
{
    if (unlikely(emit_full(e)))
        return;
    u32 rel = (u32)(to - ((u64)(at + e->rx) + 4));
    for (unsigned k = 0; k < 4; k++)
        at[k] = (u8)(rel >> (8 * k));
}
enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A };

#endif
