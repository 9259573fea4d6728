/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_segments.c - loads and stores of segment registers, what asks about selectors, and far transfers to the next
 * instruction.
 */
#include "gen.h"

#include <string.h>

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

void gen_segments(struct build *b)
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
                gen_at_address(b, arpl, 1, other, (u32)gen_place(b, 2, false), 0);
            else
                two_registers(b, arpl, 1, other, reg, false);
            break;
        } /* fall through */
    default: far_transfer(b); break;
    }
}
