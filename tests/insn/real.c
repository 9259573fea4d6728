/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real.c - random programs for real mode and virtual-8086 mode: gen.c's instructions in loops and functions, with what
 * 16-bit programs do besides: loads of segment registers, overrides, far calls, INT, strings, stacks and jumps of both
 * operand sizes, accesses at the end of a segment, code that runs under two names.
 *
 * As in flow.c, counters and addresses lie where nothing else is written, flags are defined wherever control comes
 * together, and most programs are calm. What may be interrupted (env.cuts) never reads below its stack pointer, since
 * real mode pushes there.
 */
#include "gen.h"

#include <string.h>

#include "cpu/cpu.h"

enum { FUNCTIONS = 5, ITERATIONS = 600, SLOTS = 0x1f00 /* in the stack segment: loops' counters, pointers */ };
enum kind { NEAR, FAR, BY_IRET };

struct prog {
    struct build b;
    struct real_env *env;
    unsigned labels, slots, depth, around, budget;
    struct {
        u16 label;
        u8 kind, wide, drops; /* wide: returns with 32 bits; drops: bytes of arguments */
    } function[FUNCTIONS];
    unsigned functions, calls_from;
    s32 counter;      /* offset of the counter of the loop around, or -1 */
    unsigned counts_from;
    bool moved;       /* may run under another CS: no absolute offsets */
    bool bomb;
};

static void body(struct prog *f, unsigned items);

/* ---- pieces ------------------------------------------------------------------------ */

static bool full(const struct prog *f) { return f->b.q->n > SEQ_MAX - 80 || f->labels > LABEL_MAX - 24; }

static void settle(struct prog *f);
static struct gen_insn *put(struct prog *f, const u8 *bytes, unsigned n)
{
    if (gen_reads_undefined(&f->b, bytes, n))
        settle(f);
    return gen_append(&f->b, bytes, n);
}
#define PUT(f, ...) put(f, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* All flags get a value: cmp of two registers. */
static void settle(struct prog *f)
{
    if (f->b.undefined)
        PUT(f, 0x39, (u8)(0xc0 | rng_below(f->b.r, 64)))->keep = true;
}

static u16 new_label(struct prog *f) { return (u16)++f->labels; }
static void place_label(struct prog *f, u16 label)
{
    settle(f);
    struct gen_insn *i = put(f, NULL, 0);
    i->label = label;
    i->keep = true;
}

static void fix(struct gen_insn *i, enum fix kind, unsigned off, u16 to, int add)
{
    i->fix = (u8)kind;
    i->fix_off = (u8)off;
    i->to = to;
    i->add = (s16)add;
}

static void jump(struct prog *f, unsigned what, u16 to)
{
    settle(f);
    const bool wide = chance(f->b.r, 20);
    u8 c[8] = {0x66};
    unsigned n = 1;
    if (what < 16) {
        c[n++] = 0x0f;
        c[n++] = (u8)(0x80 | what);
    } else {
        c[n++] = (u8)what;
    }
    if (wide)
        fix(put(f, c, n + 4), FIX_REL32, n, to, 0);
    else
        fix(put(f, c + 1, n + 1), FIX_REL16, n - 1, to, 0);
}

/* Where instructions and labels come to lie. */
static void lay_out(const struct sequence *q, unsigned *offsets, int *where)
{
    static u8 code[CODE_SIZE];
    gen_assemble(q, code, offsets);
    memset(where, 0, LABEL_MAX * sizeof(*where));
    for (unsigned i = 0; i < q->n; i++)
        where[q->insn[i].label] = (int)offsets[i];
}

/* Where a distance allows it, half of the jumps become short. */
static void shorten(struct prog *f)
{
    static unsigned offsets[SEQ_MAX + 1];
    struct sequence *q = f->b.q;
    int where[LABEL_MAX];
    lay_out(q, offsets, where);
    for (unsigned i = 0; i < q->n; i++) {
        struct gen_insn *g = &q->insn[i];
        const bool conditional = g->bytes[0] == 0x0f && (g->bytes[1] & 0xf0) == 0x80;
        const int distance = where[g->to] - (int)offsets[i];
        if (g->fix != FIX_REL16 || !(conditional || g->bytes[0] == JMP) || distance < -100 || distance > 100 || chance(f->b.r, 40))
            continue;
        g->bytes[0] = conditional ? (u8)(0x70 | (g->bytes[1] & 0x0f)) : 0xeb;
        g->len = 2;
        g->fix = FIX_REL8;
        g->fix_off = 1;
    }
}

/* A register to write: not SP, not one that is kept. */
static unsigned scratch(struct prog *f)
{
    for (;;) {
        unsigned reg = rng_below(f->b.r, 8);
        if (reg != RSP && !(f->b.fixed >> reg & 1))
            return reg;
    }
}
static unsigned free_registers(const struct prog *f) { return 7u - (unsigned)__builtin_popcount(f->b.fixed & 0xff & ~(1u << RSP)); }

static void move_imm(struct prog *f, unsigned reg, u32 value)
{
    if (value > 0xffff || chance(f->b.r, 30))
        gen_set_register(&f->b, reg, value);
    else
        PUT(f, (u8)(0xb8 | reg), (u8)value, (u8)(value >> 8));
}

static void straight(struct prog *f, unsigned n)
{
    while (n-- && !full(f))
        gen_general(&f->b);
}

static u32 new_slot(struct prog *f) { return SLOTS + 8 * (f->slots++ % 31); }

/* mov word [ss:at], value; at is a constant */
static struct gen_insn *store(struct prog *f, u32 at, u32 value)
{
    return PUT(f, 0x36, 0xc7, 0x06, (u8)at, (u8)(at >> 8), (u8)value, (u8)(value >> 8));
}
static void store_label(struct prog *f, u32 at, u16 label) { fix(store(f, at, 0), FIX_ADDRESS16, 5, label, 0); }

/* ---- memory --------------------------------------------------------------------------- */

static const u8 overrides[SEG_COUNT] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

static u32 offset_in_data(struct prog *f)
{
    struct rng *r = f->b.r;
    if (!f->b.calm && chance(r, 10)) /* about the end of a segment */
        return 0xffff - rng_below(r, 12);
    if (chance(r, 30)) /* about a page's end */
        return (u32)(0x1000 * (1 + rng_below(r, 3)) - rng_below(r, 8) - (f->env->seg[DS].base & 0xfff));
    return 0x200 + rng_below(r, 0x3a00);
}

/*
 * op reg, [at], perhaps with an override, of size 1, 2, 4; extra zero bytes behind. The segment says which addresses are
 * meant: SS: in the stack segment, CS: in the code, else in data.
 */
static struct gen_insn *op_mem(struct prog *f, u32 op, unsigned reg, unsigned seg, u32 at, unsigned size, unsigned extra)
{
    struct rng *r = f->b.r;
    const u64 *gpr = f->b.q->init.gpr;
    const unsigned small = f->b.small;
    u8 c[24] = {0};
    unsigned n = 0, form = rng_below(r, 8), mod, scale = rng_below(r, 4), natural = DS;
    const bool wide = form >= 5;
    u8 modrm[8];
    unsigned nm = 0;
    u32 disp = at;
    reg = (reg & 7) << 3;
    switch (form) {
    default: /* [disp16] */
        modrm[nm++] = (u8)(reg | 6);
        mod = 0x100;
        break;
    case 1:
    case 2: /* [bx + disp] */
        disp = at - (u32)gpr[RBX];
        modrm[nm++] = (u8)(reg | 7);
        mod = 2;
        break;
    case 3: /* [bx + si + disp], [bp + disp] */
        disp = at - (u32)gpr[small] - (small == RSI ? (u32)gpr[RBX] : 0);
        modrm[nm++] = (u8)(reg | (small == RSI ? 0 : 6));
        natural = small == RSI ? DS : SS;
        mod = 2;
        break;
    case 4: /* [si + disp], [bp + disp] */
        disp = at - (u32)gpr[small];
        modrm[nm++] = (u8)(reg | (small == RSI ? 4 : 6));
        natural = small == RSI ? DS : SS;
        mod = 2;
        break;
    case 5: /* [ebx + disp] */
        disp = at - (u32)gpr[RBX];
        modrm[nm++] = (u8)(reg | 3);
        mod = 2;
        break;
    case 6: /* [ebx + index * 2^scale + disp] */
        disp = at - (u32)gpr[RBX] - ((u32)gpr[small] << scale);
        modrm[nm++] = (u8)(reg | 4);
        modrm[nm++] = (u8)(scale << 6 | small << 3 | RBX);
        mod = 2;
        break;
    case 7: /* [disp32] */
        modrm[nm++] = (u8)(reg | 5);
        mod = 0x100;
        break;
    }
    unsigned bytes = wide ? 4 : 2;
    if (mod == 2 && (wide ? (s32)disp == (s8)disp : (s16)disp == (s8)disp) && chance(r, 80)) {
        mod = 1;
        bytes = 1;
    }
    modrm[0] |= (u8)((mod & 3) << 6);
    if (seg != natural || chance(r, 5))
        c[n++] = overrides[seg];
    if (size == 4)
        c[n++] = 0x66;
    if (wide)
        c[n++] = 0x67;
    if (op > 0xff)
        c[n++] = (u8)(op >> 8);
    c[n++] = (u8)op;
    memcpy(c + n, modrm, nm);
    n += nm;
    memcpy(c + n, &disp, bytes);
    return put(f, c, n + bytes + extra);
}

static void access_at(struct prog *f, unsigned seg, u32 at, bool may_write)
{
    struct rng *r = f->b.r;
    static const u8 sizes[] = {1, 2, 2, 2, 4};
    const unsigned size = sizes[rng_below(r, ARRAY_SIZE(sizes))], byte = size == 1;
    const unsigned reg = byte ? RAX : scratch(f);
    const bool kept = f->b.fixed >> reg & 1;
    switch (rng_below(r, 12)) {
    case 0:
    case 1:
        if (!kept)
            op_mem(f, 0x8b - byte, reg, seg, at, size, 0);
        break;
    case 2: /* add, or, adc, sbb, and, sub, xor, cmp reg, m */
        settle(f);
        if (!kept)
            op_mem(f, (rng_below(r, 8) << 3 | 3) - byte, reg, seg, at, size, 0);
        break;
    case 3:
    case 4:
        if (may_write)
            op_mem(f, 0x89 - byte, reg, seg, at, size, 0);
        break;
    case 5:
        settle(f);
        if (may_write)
            op_mem(f, (rng_below(r, 7) << 3 | 1) - byte, reg, seg, at, size, 0);
        break;
    case 6: /* inc, dec */
        if (may_write)
            op_mem(f, 0xff - byte, rng_below(r, 2), seg, at, size, 0);
        break;
    case 7: /* movzx, movsx */
        if (!kept && size > 1)
            op_mem(f, (chance(r, 50) ? 0x0fb6 : 0x0fbe) + rng_below(r, 2), reg, seg, at, size, 0);
        break;
    case 8: /* setcc */
        settle(f);
        if (may_write)
            op_mem(f, 0x0f90 | rng_below(r, 16), 0, seg, at, 2, 0);
        break;
    case 9: /* not, neg */
        if (may_write)
            op_mem(f, 0xf7 - byte, 2 + rng_below(r, 2), seg, at, size, 0);
        break;
    case 10: { /* op m, imm8 */
        settle(f);
        if (!may_write)
            break;
        struct gen_insn *i = op_mem(f, byte ? 0x80 : 0x83, rng_below(r, 8), seg, at, size, 1);
        i->bytes[i->len - 1] = (u8)rng_next(r);
        break;
    }
    default: /* xchg, xadd; mov m, imm16 */
        if (may_write && !kept && chance(r, 60))
            op_mem(f, chance(r, 50) ? 0x87u - byte : 0x0fc1 - byte, reg, seg, at, size, 0);
        else if (may_write)
            op_mem(f, 0xc7, 0, seg, at, 2, 2);
        break;
    }
}

/* What a program may have in ES, FS, GS, DS. */
static u32 any_selector(struct prog *f, unsigned seg)
{
    struct rng *r = f->b.r;
    if (f->env->cuts || seg == DS || chance(r, 60))
        return seg != DS && chance(r, 8) ? REAL_DEVICE >> 4 : (REAL_DATA >> 4) + rng_below(r, 0x40);
    switch (rng_below(r, 5)) {
    case 0: return 0xffff - rng_below(r, 0x100); /* beyond 1 MiB */
    case 1: return REAL_STACK >> 4;
    case 2: return f->env->seg[CS].selector;
    case 3: return rng_below(r, 0x10000);
    default: return REAL_DATA >> 4;
    }
}

static unsigned other_segment(struct prog *f)
{
    static const u8 list[] = {ES, DS, FS, GS, DS};
    return list[rng_below(f->b.r, ARRAY_SIZE(list))];
}

static void access_near(struct prog *f)
{
    struct rng *r = f->b.r;
    switch (rng_below(r, 8)) {
    case 0: access_at(f, SS, 0x1800 + rng_below(r, 0x600), true); break;
    case 1: access_at(f, CS, (u32)f->b.q->init.rip + rng_below(r, 400), false); break;
    case 2:
    case 3:
    case 4: access_at(f, DS, offset_in_data(f), true); break;
    default: access_at(f, other_segment(f), offset_in_data(f), true); break;
    }
}

/* ---- segments --------------------------------------------------------------------------- */

static void pop_segment(struct prog *f, unsigned seg, bool wide)
{
    static const u16 pops[SEG_COUNT] = {[ES] = 0x07, [SS] = 0x17, [DS] = 0x1f, [FS] = 0x0fa1, [GS] = 0x0fa9};
    u8 c[3] = {0x66, (u8)(pops[seg] >> 8), (u8)pops[seg]};
    if (!c[1]) {
        c[1] = c[2];
        put(f, c + !wide, 1u + wide);
    } else {
        put(f, c + !wide, 2u + wide);
    }
}
/* wide: of 32 bits it writes 16, the rest may be an interrupt's: not where env.cuts. */
static void push_segment(struct prog *f, unsigned seg, bool wide)
{
    static const u16 pushes[SEG_COUNT] = {0x06, 0x0e, 0x16, 0x1e, 0x0fa0, 0x0fa8};
    u8 c[3] = {0x66, (u8)(pushes[seg] >> 8), (u8)pushes[seg]};
    if (!c[1]) {
        c[1] = c[2];
        put(f, c + !wide, 1u + wide);
    } else {
        put(f, c + !wide, 2u + wide);
    }
}

static void load_segment(struct prog *f)
{
    struct rng *r = f->b.r;
    static const u8 to[] = {ES, ES, DS, DS, FS, GS};
    const unsigned seg = to[rng_below(r, ARRAY_SIZE(to))], reg = scratch(f);
    const u32 sel = any_selector(f, seg), slot = new_slot(f);
    const bool wide = !f->env->cuts && chance(r, 25);
    switch (rng_below(r, 7)) {
    default:
        move_imm(f, reg, sel);
        if (wide)
            PUT(f, 0x66, 0x8e, (u8)(0xc0 | seg << 3 | reg));
        else
            PUT(f, 0x8e, (u8)(0xc0 | seg << 3 | reg));
        break;
    case 2:
        if (wide)
            PUT(f, 0x66, 0x68, (u8)sel, (u8)(sel >> 8), 0, 0);
        else
            PUT(f, 0x68, (u8)sel, (u8)(sel >> 8));
        pop_segment(f, seg, wide);
        break;
    case 3: /* from memory */
        store(f, slot, sel);
        op_mem(f, 0x8e, seg, SS, slot, 2, 0);
        break;
    case 4: /* LES, LDS, LFS, LGS */
        store(f, slot, rng_below(r, 0x3000));
        store(f, slot + 2 + (wide ? 2 : 0), sel);
        if (wide)
            store(f, slot + 2, 0);
        op_mem(f, seg == ES ? 0xc4 : seg == DS ? 0xc5 : seg == FS ? 0x0fb4 : 0x0fb5, reg, SS, slot, wide ? 4 : 2, 0);
        break;
    case 5: /* from another */
        push_segment(f, DS, wide);
        pop_segment(f, seg, wide);
        break;
    case 6:
        PUT(f, 0x8c, (u8)(0xc0 | DS << 3 | reg));
        PUT(f, 0x8e, (u8)(0xc0 | seg << 3 | reg));
        break;
    }
    for (unsigned n = rng_below(r, 3); n--;)
        access_at(f, seg, offset_in_data(f), true);
}

static void store_segment(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned seg = rng_below(r, SEG_COUNT), reg = scratch(f);
    switch (rng_below(r, 4)) {
    case 0: op_mem(f, 0x8c, seg, SS, new_slot(f), chance(r, 30) ? 4 : 2, 0); break;
    case 1: /* push; pop */
        push_segment(f, seg, false);
        PUT(f, (u8)(0x58 | reg));
        break;
    case 2: PUT(f, 0x66, 0x8c, (u8)(0xc0 | seg << 3 | reg)); break;
    default: PUT(f, 0x8c, (u8)(0xc0 | seg << 3 | reg)); break;
    }
}

/* SS:SP gets another name for the same place and its own again; or its own, loaded. */
static void stack_segment(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned reg = scratch(f);
    const u32 slot = new_slot(f);
    switch (rng_below(r, 4)) {
    case 0: /* mov ss, reg */
        PUT(f, 0x8c, (u8)(0xd0 | reg));
        PUT(f, 0x8e, (u8)(0xd0 | reg));
        break;
    case 1: /* push ss; pop ss */
        PUT(f, 0x16);
        PUT(f, 0x17);
        break;
    case 2: { /* mov [slot], sp; mov [slot + 2], ss; lss sp, [slot] */
        PUT(f, 0x36, 0x89, 0x26, (u8)slot, (u8)(slot >> 8));
        PUT(f, 0x36, 0x8c, 0x16, (u8)(slot + 2), (u8)((slot + 2) >> 8));
        PUT(f, 0x36, 0x0f, 0xb2, 0x26, (u8)slot, (u8)(slot >> 8));
        break;
    }
    default: /* mov reg, ss; dec reg; mov ss, reg; lea sp, [esp + 16]; and back */
        settle(f);
        PUT(f, 0x8c, (u8)(0xd0 | reg))->keep = true;
        PUT(f, (u8)(0x48 | reg), 0x8e, (u8)(0xd0 | reg), 0x67, 0x8d, 0x64, 0x24, 0x10)->keep = true;
        PUT(f, 0x50)->keep = true;
        PUT(f, 0x36, 0x67, 0x8b, 0x04 | (u8)(reg << 3), 0x24)->keep = true;
        PUT(f, 0x67, 0x8d, 0x64, 0x24, 0x02)->keep = true;
        PUT(f, 0x8c, (u8)(0xd0 | reg))->keep = true;
        PUT(f, (u8)(0x40 | reg), 0x8e, (u8)(0xd0 | reg), 0x67, 0x8d, 0x64, 0x24, 0xf0)->keep = true;
        break;
    }
}

/* ---- strings, flags, stacks ----------------------------------------------------------------- */

static void string(struct prog *f)
{
    struct rng *r = f->b.r;
    static const u8 ops[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    u8 c[8];
    unsigned n = 0, rep = rng_below(r, 4);
    if (f->b.fixed & (1u << RCX | 1u << RSI | 1u << RDI | 1u << RAX) || full(f))
        return;
    const bool edge = !f->b.calm && chance(r, 20);
    move_imm(f, RSI, edge && chance(r, 50) ? 0x10000 - rng_below(r, 40) : offset_in_data(f));
    move_imm(f, RDI, edge ? 0x10000 - rng_below(r, 40) : offset_in_data(f));
    if (rep < 2) {
        move_imm(f, RCX, rng_below(r, 40));
        c[n++] = (u8)(0xf2 | rng_below(r, 2));
    }
    if (chance(r, 30))
        PUT(f, (u8)(0xfc | rng_below(r, 2)));
    settle(f);
    if (chance(r, 30))
        c[n++] = overrides[f->env->cuts ? (chance(r, 50) ? ES : FS) : rng_below(r, SEG_COUNT)];
    if (chance(r, 25))
        c[n++] = 0x66;
    if (chance(r, 15))
        c[n++] = 0x67;
    c[n++] = ops[rng_below(r, ARRAY_SIZE(ops))];
    for (unsigned k = rep < 2 ? 1 : 1 + rng_below(r, 4); k--;)
        put(f, c, n);
    if (chance(r, 60))
        PUT(f, 0xfc);
}

static bool may_change_if(const struct prog *f) { return !f->env->v86 || f->env->iopl == 3; }

static void flags_used(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned reg = scratch(f);
    settle(f);
    for (unsigned n = 1 + rng_below(r, 3); n--;)
        switch (rng_below(r, 9)) {
        case 0: PUT(f, 0x0f, (u8)(0x40 | rng_below(r, 16)), (u8)(0xc0 | reg << 3 | rng_below(r, 8))); break;
        case 1: PUT(f, chance(r, 50) ? 0x11 : 0x19, (u8)(0xc0 | rng_below(r, 8) << 3 | reg)); break;
        case 2: /* pushf; pop */
            if (!may_change_if(f))
                break;
            PUT(f, 0x9c);
            PUT(f, (u8)(0x58 | reg));
            break;
        case 3: /* pushf; pop; change some, with IF, DF; push; popf */
            if (!may_change_if(f))
                break;
            PUT(f, 0x9c);
            PUT(f, (u8)(0x58 | reg));
            PUT(f, 0x81, (u8)(0xf0 | reg), (u8)(rng_next(r) & 0xd5), (u8)(rng_next(r) & 0x0e));
            PUT(f, (u8)(0x50 | reg));
            PUT(f, 0x9d);
            break;
        case 4: /* the same of 32 bits, with ID, and AC */
            if (!may_change_if(f))
                break;
            PUT(f, 0x66, 0x9c);
            PUT(f, 0x66, (u8)(0x58 | reg));
            PUT(f, 0x66, 0x81, (u8)(0xf0 | reg), (u8)(rng_next(r) & 0xd5), (u8)(rng_next(r) & 0x0e),
                (u8)(rng_next(r) & (f->b.calm ? 0x20 : 0x24)), 0); /* AC may fault, and an interrupt in real mode clears it */
            PUT(f, 0x66, (u8)(0x50 | reg));
            PUT(f, 0x66, 0x9d);
            break;
        case 5:
        case 6: /* cli, sti */
            if (may_change_if(f))
                PUT(f, (u8)(0xfa | rng_below(r, 2)));
            break;
        case 7:
            if (f->b.fixed & 1)
                break;
            PUT(f, 0x9f);
            straight(f, rng_below(r, 2));
            settle(f);
            PUT(f, 0x9e);
            break;
        default: PUT(f, (const u8[]){0xf5, 0xf8, 0xf9}[rng_below(r, 3)]); break;
        }
}

static void stack_run(struct prog *f)
{
    struct rng *r = f->b.r;
    unsigned bytes = 0;
    if (chance(r, 15)) { /* pusha; popa */
        const bool wide = chance(r, 40);
        put(f, wide ? (const u8[]){0x66, 0x60} : (const u8[]){0x60}, 1u + wide)->keep = true;
        straight(f, rng_below(r, 3));
        put(f, wide ? (const u8[]){0x66, 0x61} : (const u8[]){0x61}, 1u + wide)->keep = true;
        return;
    }
    if (chance(r, 10) && !(f->env->seg[SS].attr & SEG_DB)) { /* enter; leave, which takes ESP from EBP then */
        PUT(f, 0xc8, (u8)(2 * rng_below(r, 40)), 0, f->env->cuts ? 0 : (u8)rng_below(r, 4))->keep = true;
        PUT(f, 0xc9)->keep = true;
        return;
    }
    for (unsigned n = 1 + rng_below(r, 6); n--;) {
        const bool wide = chance(r, 25);
        const unsigned reg = rng_below(r, 8);
        const u32 x = (u32)rng_next(r);
        bytes += wide ? 4 : 2;
        switch (rng_below(r, 8)) {
        case 0: put(f, wide ? (const u8[]){0x66, 0x6a, (u8)x} : (const u8[]){0x6a, (u8)x}, 2u + wide); break;
        case 1: put(f, wide ? (const u8[]){0x66, 0x68, (u8)x, (u8)(x >> 8), (u8)(x >> 16), (u8)(x >> 24)} : (const u8[]){0x68, (u8)x, (u8)(x >> 8)}, wide ? 6 : 3); break;
        case 2: op_mem(f, 0xff, 6, DS, offset_in_data(f), wide ? 4 : 2, 0); break;
        case 3:
            if (wide && f->env->cuts)
                bytes -= 4;
            else
                push_segment(f, rng_below(r, SEG_COUNT), wide);
            break;
        case 4: put(f, wide ? (const u8[]){0x66, 0xff, (u8)(0xf0 | reg)} : (const u8[]){0xff, (u8)(0xf0 | reg)}, 2u + wide); break;
        default: put(f, wide ? (const u8[]){0x66, (u8)(0x50 | reg)} : (const u8[]){(u8)(0x50 | reg)}, 1u + wide); break;
        }
    }
    straight(f, rng_below(r, 3));
    if (chance(r, 30)) { /* add sp */
        PUT(f, 0x83, 0xc4, (u8)bytes);
        return;
    }
    while (bytes) {
        const bool wide = bytes >= 4 && chance(r, 25);
        const unsigned reg = scratch(f);
        bytes -= wide ? 4 : 2;
        switch (rng_below(r, 8)) {
        case 0: op_mem(f, 0x8f, 0, DS, offset_in_data(f), wide ? 4 : 2, 0); break;
        case 1: put(f, wide ? (const u8[]){0x66, 0x8f, (u8)(0xc0 | reg)} : (const u8[]){0x8f, (u8)(0xc0 | reg)}, 2u + wide); break;
        default: put(f, wide ? (const u8[]){0x66, (u8)(0x58 | reg)} : (const u8[]){(u8)(0x58 | reg)}, 1u + wide); break;
        }
    }
}

/* Where a kick or an interrupt may come: memory that is a device, or a port. */
static void poke(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned reg = scratch(f);
    if (chance(r, 40) && !(f->b.fixed & 1)) {
        PUT(f, chance(r, 50) ? 0xe4 : 0xe5, 0x70);
        return;
    }
    move_imm(f, reg, REAL_DEVICE >> 4);
    PUT(f, 0x8e, (u8)(0xc0 | ES << 3 | reg));
    for (unsigned n = 1 + rng_below(r, 3); n--;)
        access_at(f, ES, 0x10 + rng_below(r, 0xf00), true);
    move_imm(f, reg, any_selector(f, ES));
    PUT(f, 0x8e, (u8)(0xc0 | ES << 3 | reg));
}

/* An immediate somewhere near is overwritten, through CS. */
static void patch(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 at = new_label(f);
    const unsigned reg = scratch(f);
    const bool before = chance(r, 50);
    if (f->moved || f->b.fixed & 1)
        return;
    for (unsigned pass = 0; pass < 2; pass++) {
        if ((pass == 0) == before) {
            if (chance(r, 50))
                fix(PUT(f, 0x2e, 0x88, 0x06, 0, 0), FIX_ADDRESS16, 3, at, 1); /* mov [cs:at + 1], al */
            else
                fix(PUT(f, 0x2e, 0xff, 0x06, 0, 0), FIX_ADDRESS16, 3, at, 1); /* inc word [cs:at + 1] */
        } else {
            place_label(f, at);
            PUT(f, (u8)(0xb8 | reg), (u8)rng_next(r), (u8)rng_next(r));
        }
        if (pass == 0 && chance(r, 50))
            straight(f, 1 + rng_below(r, 3));
    }
    f->b.q->patches_itself = true;
}

/* ---- control ------------------------------------------------------------------------------ */

/* cmp [counter], k; jne on; something that faults; on: */
static void fault(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 on = new_label(f);
    const u32 at = (u32)f->counter;
    const unsigned k = 1 + rng_below(r, f->counts_from);
    f->bomb = false;
    settle(f);
    PUT(f, 0x36, 0x83, 0x3e, (u8)at, (u8)(at >> 8), (u8)k);
    jump(f, 5, on);
    switch (rng_below(r, f->env->v86 ? 19 : 14)) {
    case 0: PUT(f, 0x0f, 0x0b); break;                                      /* ud2 */
    case 1: PUT(f, 0xd4, 0); break;                                         /* aam 0: #DE */
    case 2: PUT(f, 0xa3, 0xff, 0xff); break;                                /* mov [ffff], ax: beyond the limit */
    case 3: PUT(f, 0x36, 0xa1, 0xff, 0xff); break;                          /* mov ax, [ss:ffff]: #SS */
    case 4: PUT(f, 0x67, 0x89, 0x83, 0, 0, 1, 0); break;                    /* mov [ebx + 10000h], ax */
    case 5: PUT(f, 0x66, 0xb8, 0, 0, 1, 0, 0x66, 0xff, 0xe0); break;        /* mov eax, 10000h; jmp eax */
    case 6: PUT(f, 0x36, 0x66, 0xff, 0x36, 0xfd, 0xff); break;              /* push dword [ss:fffd] */
    case 7: PUT(f, 0x66, 0x68, 0, 0, 2, 0, 0x66, 0xc3); break;              /* push 20000h; ret */
    case 8: PUT(f, 0x8e, 0xc8); break;                                      /* mov cs, ax: #UD */
    case 9: PUT(f, 0x66, 0xe9, 0, 0, 1, 0); break;                          /* jmp: 10000h further */
    case 10: PUT(f, 0xcc); break;
    case 11: PUT(f, 0x66, 0x0e, 0x66, 0x68, 0, 0, 2, 0, 0x66, 0xcb); break; /* push cs; push 20000h; retf */
    case 12: PUT(f, 0x26, 0x66, 0xff, 0x06, 0xfd, 0xff); break;             /* inc dword [es:fffd] */
    case 13: PUT(f, 0x66, 0xe8, 0, 0, 1, 0); break;                         /* call: 10000h further */
    case 14: PUT(f, 0xf4); break;                                           /* hlt: #GP */
    case 15: PUT(f, 0x0f, 0x22, 0xd8); break;                               /* mov cr3, eax */
    case 16: PUT(f, 0xcd, 0x21); break;                                     /* int through a gate of privilege 0 */
    case 17: PUT(f, 0xa3, 0x10, 0xf0 | (u8)rng_below(r, 8)); break;         /* what is read-only or not there */
    default: PUT(f, 0xec); break;                                           /* in al, dx */
    }
    place_label(f, on);
}

static void if_else(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 other = new_label(f), end = new_label(f);
    if (f->b.fixed >> RCX & 1 || chance(r, 80)) {
        jump(f, rng_below(r, 16), other);
        body(f, 1 + rng_below(r, 2));
    } else { /* loop, jcxz, by CX or ECX, over little */
        settle(f);
        const bool wide = chance(r, 30);
        const u8 c[] = {0x67, (u8)(0xe0 + rng_below(r, 4)), 0};
        fix(put(f, c + !wide, 2u + wide), FIX_REL8, 1u + wide, other, 0);
        straight(f, 1 + rng_below(r, 3));
    }
    const bool has_else = chance(r, 40);
    if (has_else)
        jump(f, JMP, end);
    place_label(f, other);
    if (has_else)
        body(f, 1);
    place_label(f, end);
}

static void loop(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned most = ITERATIONS / f->around;
    unsigned kind = rng_below(r, 5), reg = RCX;
    if (most < 2 || free_registers(f) < 3 || full(f))
        return;
    if (kind < 3 && f->b.fixed >> RCX & 1)
        kind = 3;
    const unsigned times = 2 + rng_below(r, MIN(most, chance(r, 30) ? 60u : 12u));
    const u32 saved_fixed = f->b.fixed, slot = new_slot(f);
    const s32 saved_counter = f->counter;
    const unsigned saved_from = f->counts_from;
    const u16 top = new_label(f), out = new_label(f), again = new_label(f);
    if (kind < 4) {
        if (kind == 3)
            reg = scratch(f);
        gen_set_register(&f->b, reg, times);
        f->b.fixed |= 1u << reg;
    } else {
        store(f, slot, times);
        f->counter = (s32)slot;
        f->counts_from = times;
    }
    f->around *= times;
    f->depth++;
    place_label(f, top);
    body(f, 1 + rng_below(r, 4));
    if (chance(r, 30))
        jump(f, rng_below(r, 16), out);
    if (chance(r, 30))
        jump(f, rng_below(r, 16), again);
    if (f->bomb && f->counter >= 0 && chance(r, 60))
        fault(f);
    if (chance(r, 40))
        body(f, 1);
    place_label(f, again);
    switch (kind) {
    case 0: { /* loop, loope, loopne by CX or ECX, with a jump back */
        const u16 on = new_label(f);
        const bool wide = chance(r, 30);
        const u8 c[] = {0x67, chance(r, 70) ? 0xe2 : (u8)(0xe0 + rng_below(r, 2)), 0};
        fix(put(f, c + !wide, 2u + wide), FIX_REL8, 1u + wide, on, 0);
        jump(f, JMP, out);
        place_label(f, on);
        jump(f, JMP, top);
        break;
    }
    case 1: /* loop itself, where it reaches; else as above */
        fix(PUT(f, 0xe2, 0), FIX_REL8, 1, top, 0);
        f->b.q->insn[f->b.q->n - 1].skip = 1; /* made long if need be, see lengthen() */
        break;
    case 2: { /* dec cx by lea; jcxz */
        const bool wide = chance(r, 30);
        const u8 c[] = {0x67, 0xe3, 0};
        PUT(f, 0x67, 0x8d, 0x49, 0xff);
        fix(put(f, c + !wide, 2u + wide), FIX_REL8, 1u + wide, out, 0);
        jump(f, JMP, top);
        break;
    }
    case 3: /* dec reg */
        put(f, chance(r, 30) ? (const u8[]){0x66, (u8)(0x48 | reg)} : (const u8[]){(u8)(0x48 | reg), 0x90}, 2);
        jump(f, 5, top);
        break;
    default: /* dec word [slot] */
        PUT(f, 0x36, 0xff, 0x0e, (u8)slot, (u8)(slot >> 8));
        jump(f, 15, top);
        break;
    }
    place_label(f, out);
    f->depth--;
    f->around /= times;
    f->b.fixed = saved_fixed;
    f->counter = saved_counter;
    f->counts_from = saved_from;
}

/* LOOP that does not reach its label leads over a jump instead. */
static void lengthen(struct prog *f)
{
    static unsigned offsets[SEQ_MAX + 1];
    struct sequence *q = f->b.q;
    int where[LABEL_MAX];
    lay_out(q, offsets, where);
    for (unsigned i = 0; i < q->n; i++) {
        struct gen_insn *g = &q->insn[i];
        if (g->fix != FIX_REL8 || g->bytes[0] != 0xe2 || !g->skip)
            continue;
        g->skip = 0;
        if (where[g->to] - (int)offsets[i] - 2 >= -128)
            continue;
        const u8 c[] = {0xe2, 2, 0xeb, 3, 0xe9, 0, 0}; /* one piece */
        memcpy(g->bytes, c, sizeof(c));
        g->len = sizeof(c);
        g->fix = FIX_REL16;
        g->fix_off = 5;
    }
}

/* A pointer that walks over page ends. */
static void walk(struct prog *f)
{
    struct rng *r = f->b.r;
    if (f->b.fixed & (1u << RDI | 1u << RCX) || free_registers(f) < 4 || full(f) || f->around > ITERATIONS / 24)
        return;
    const u32 saved = f->b.fixed;
    const unsigned times = 4 + rng_below(r, 20), stride = 1 + rng_below(r, 60), seg = other_segment(f);
    const u16 top = new_label(f);
    gen_set_register(&f->b, RDI, (0x1000 * (1 + rng_below(r, 3)) - stride * times / 2 - rng_below(r, 0x400)) & 0xffff);
    gen_set_register(&f->b, RCX, times);
    f->b.fixed |= 1u << RDI | 1u << RCX;
    place_label(f, top);
    for (unsigned k = 1 + rng_below(r, 3); k--;) {
        static const u8 ops[] = {0x8b, 0x89, 0x01, 0x03, 0x31, 0x33, 0x8a, 0x88, 0x00, 0x86, 0x87};
        const u8 op = ops[rng_below(r, ARRAY_SIZE(ops))];
        const unsigned reg = op & 1 ? scratch(f) : RAX;
        u8 c[] = {overrides[seg], 0x66, op, (u8)(0x45 | (reg & 7) << 3), (u8)rng_below(r, 24)};
        const bool wide = chance(r, 25);
        if (f->b.fixed >> reg & 1)
            continue;
        settle(f);
        if (!wide) {
            c[1] = overrides[seg];
            put(f, c + (seg == DS ? 2 : 1), seg == DS ? 3 : 4);
        } else {
            put(f, c, 5);
        }
        if (chance(r, 25))
            straight(f, 1);
    }
    PUT(f, 0x67, 0x8d, 0x7f, (u8)stride); /* lea di, [edi + stride] */
    settle(f);
    fix(PUT(f, 0xe2, 0), FIX_REL8, 1, top, 0);
    f->b.q->insn[f->b.q->n - 1].skip = 1;
    f->b.fixed = saved;
}

static void select_one(struct prog *f)
{
    struct rng *r = f->b.r;
    if (f->moved || free_registers(f) < 3 || full(f) || f->b.fixed & 1u << RDI)
        return;
    const u16 end = new_label(f);
    u16 arm[4];
    const u32 table = SLOTS + 8 * (f->slots % 30), fixed = f->b.fixed;
    f->slots += 1;
    for (unsigned k = 0; k < 4; k++)
        store_label(f, table + 2 * k, arm[k] = new_label(f));
    straight(f, rng_below(r, 3));
    settle(f);
    PUT(f, 0x83, 0xe7, 3);                                                      /* and di, 3 */
    settle(f);
    PUT(f, 0x01, 0xff);                                                         /* add di, di */
    PUT(f, 0x36, 0xff, 0xa5, (u8)table, (u8)(table >> 8));                      /* jmp [ss:di + table] */
    for (unsigned k = 0; k < 4; k++) {
        place_label(f, arm[k]);
        straight(f, 1 + rng_below(r, 3));
        if (k < 3)
            jump(f, JMP, end);
        f->b.fixed = fixed;
    }
    place_label(f, end);
}

/* The offset of a label under CS less k, selector behind. */
static void far_at(struct prog *f, struct gen_insn *i, unsigned off, u16 to, unsigned k)
{
    const u16 sel = (u16)(f->env->seg[CS].selector - k);
    const bool wide = i->len - off == 6;
    memcpy(i->bytes + i->len - 2, &sel, 2);
    fix(i, wide ? FIX_ADDRESS32 : FIX_ADDRESS16, off, to, (int)(16 * k));
}

static void call(struct prog *f)
{
    struct rng *r = f->b.r;
    if (f->calls_from >= f->functions || f->around > ITERATIONS / 8)
        return;
    const unsigned n = f->calls_from + rng_below(r, f->functions - f->calls_from);
    const u16 to = f->function[n].label;
    const bool wide = f->function[n].wide;
    const unsigned k = chance(r, 50) ? 0 : rng_below(r, 8), reg = scratch(f);
    const u32 slot = new_slot(f);
    const u32 saved = f->b.fixed & ~(1u << RBX | 1u << f->b.small);
    for (unsigned g = 0; g < 8; g++) /* counters */
        if (saved >> g & 1)
            put(f, (const u8[]){0x66, (u8)(0x50 | g)}, 2);
    if (f->counter >= 0) /* a slot may be taken twice */
        PUT(f, 0x36, 0xff, 0x36, (u8)f->counter, (u8)(f->counter >> 8));
    for (unsigned d = f->function[n].drops; d; d -= 2)
        PUT(f, (u8)(0x50 | rng_below(r, 8)));
    settle(f);
    if (f->function[n].kind == BY_IRET)
        put(f, wide ? (const u8[]){0x66, 0x9c} : (const u8[]){0x9c}, 1u + wide);
    if (f->function[n].kind == NEAR) {
        /* A label is of no use where CS may be another. */
        switch (f->moved ? 0 : rng_below(r, 6)) {
        default: {
            const u8 c[] = {0x66, CALL, 0, 0, 0, 0};
            fix(put(f, c + !wide, wide ? 6 : 3), wide ? FIX_REL32 : FIX_REL16, 1u + wide, to, 0);
            break;
        }
        case 3: /* through a register */
            fix(PUT(f, 0x66, (u8)(0xb8 | reg), 0, 0, 0, 0), FIX_ADDRESS32, 2, to, 0);
            put(f, wide ? (const u8[]){0x66, 0xff, (u8)(0xd0 | reg)} : (const u8[]){0xff, (u8)(0xd0 | reg)}, 2u + wide);
            break;
        case 4: /* through memory */
            store_label(f, slot, to);
            store(f, slot + 2, 0);
            op_mem(f, 0xff, 2, SS, slot, wide ? 4 : 2, 0);
            break;
        case 5: { /* two addresses are pushed, and a return */
            const u16 back = new_label(f);
            const u8 c[] = {0x66, 0x68, 0, 0, 0, 0}, ret[] = {0x66, 0xc3};
            for (unsigned p = 0; p < 2; p++)
                fix(put(f, c + !wide, wide ? 6 : 3), wide ? FIX_ADDRESS32 : FIX_ADDRESS16, 1u + wide, p ? to : back, 0);
            put(f, ret + !wide, 1u + wide);
            place_label(f, back);
            break;
        }
        }
    } else {
        switch (rng_below(r, f->moved ? 3 : 4)) {
        default: { /* call selector:offset */
            const u8 c[10] = {0x66, 0x9a};
            far_at(f, put(f, c + !wide, wide ? 8 : 5), 1u + wide, to, k);
            break;
        }
        case 2: { /* through memory */
            const u16 sel = (u16)(f->env->seg[CS].selector - k);
            fix(store(f, slot, 0), FIX_ADDRESS16, 5, to, (int)(16 * k));
            if (wide)
                store(f, slot + 2, 0);
            store(f, slot + (wide ? 4 : 2), sel);
            op_mem(f, 0xff, 3, SS, slot, wide ? 4 : 2, 0);
            break;
        }
        case 3: { /* push cs; a near call */
            const u8 c[] = {0x66, CALL, 0, 0, 0, 0};
            push_segment(f, CS, wide);
            fix(put(f, c + !wide, wide ? 6 : 3), wide ? FIX_REL32 : FIX_REL16, 1u + wide, to, 0);
            break;
        }
        }
    }
    if (f->counter >= 0)
        PUT(f, 0x36, 0x8f, 0x06, (u8)f->counter, (u8)(f->counter >> 8));
    for (unsigned g = 8; g-- > 0;)
        if (saved >> g & 1)
            put(f, (const u8[]){0x66, (u8)(0x58 | g)}, 2);
}

/* Far jumps, returns and IRET to what follows, and perhaps under another CS. */
static void far_jump(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 on = new_label(f);
    const bool wide = !f->env->cuts && chance(r, 40);
    const unsigned kind = rng_below(r, may_change_if(f) ? 5 : 4);
    const u32 slot = new_slot(f);
    if (f->moved)
        return;
    settle(f);
    switch (kind) {
    default: {
        const u8 c[10] = {0x66, 0xea};
        far_at(f, put(f, c + !wide, wide ? 8 : 5), 1u + wide, on, 0);
        break;
    }
    case 2: /* through memory */
        store_label(f, slot, on);
        if (wide)
            store(f, slot + 2, 0);
        store(f, slot + (wide ? 4 : 2), f->env->seg[CS].selector);
        op_mem(f, 0xff, 5, SS, slot, wide ? 4 : 2, 0);
        break;
    case 3:
    case 4: { /* [pushf;] push cs; push on; retf or iret */
        const u8 c[] = {0x66, 0x68, 0, 0, 0, 0}, end[] = {0x66, kind == 3 ? 0xcb : 0xcf}, pushf[] = {0x66, 0x9c};
        if (kind == 4)
            put(f, pushf + !wide, 1u + wide);
        push_segment(f, CS, wide);
        fix(put(f, c + !wide, wide ? 6 : 3), wide ? FIX_ADDRESS32 : FIX_ADDRESS16, 1u + wide, on, 0);
        put(f, end + !wide, 1u + wide);
        break;
    }
    }
    if (chance(r, 30))
        straight(f, 1); /* dead */
    place_label(f, on);
}

static void item(struct prog *f)
{
    struct rng *r = f->b.r;
    switch (rng_below(r, 40)) {
    case 0:
    case 1:
    case 2: if_else(f); break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        if (f->depth < 3)
            loop(f);
        break;
    case 8:
    case 9:
    case 10: call(f); break;
    case 11:
    case 12:
    case 13:
    case 14: access_near(f), access_near(f); break;
    case 15: walk(f); break;
    case 16:
    case 17:
    case 18: stack_run(f); break;
    case 19:
    case 20:
    case 21: flags_used(f); break;
    case 22: select_one(f); break;
    case 23: far_jump(f); break;
    case 24:
        if (chance(r, 30))
            patch(f);
        break;
    case 25:
    case 26: poke(f); break;
    case 27:
    case 28:
    case 29:
    case 30: load_segment(f); break;
    case 31: store_segment(f); break;
    case 32:
        if (chance(r, 40) && f->env->seg[SS].base == (u64)f->env->seg[SS].selector << 4)
            stack_segment(f);
        break;
    case 33:
    case 34: string(f); break;
    case 35:
        if (may_change_if(f)) {
            settle(f);
            PUT(f, 0xcd, (u8)(REAL_FIRST_INT + rng_below(r, REAL_INTS)));
        }
        break;
    case 36:
        if (!f->env->v86 && free_registers(f) > 2 && !(f->b.fixed & 1)) { /* mov eax, cr0; mov cr0, eax */
            PUT(f, 0x0f, 0x20, 0xc0);
            PUT(f, 0x0f, 0x22, 0xc0);
        }
        break;
    default: straight(f, 1 + rng_below(r, 5)); break;
    }
}

static void body(struct prog *f, unsigned items)
{
    while (items-- && f->budget && !full(f)) {
        f->budget--;
        item(f);
        if (chance(f->b.r, 50))
            straight(f, 1 + rng_below(f->b.r, 3));
    }
}

static void function(struct prog *f, unsigned n)
{
    struct rng *r = f->b.r;
    const bool wide = f->function[n].wide;
    const u8 drops = f->function[n].drops, kind = f->function[n].kind;
    f->calls_from = n + 1;
    f->counter = -1;
    f->around = 12;
    f->depth = 1;
    f->budget = 4;
    f->moved = kind != NEAR || f->functions > 1; /* a far one may call it */
    place_label(f, f->function[n].label);
    body(f, 1 + rng_below(r, 4));
    settle(f);
    u8 c[4] = {0x66, kind == BY_IRET ? 0xcf : (u8)((drops ? 0xc2 : 0xc3) | (kind == FAR ? 8 : 0)), drops, 0};
    if (kind == NEAR && !drops && !wide && chance(r, 20)) { /* pop reg; jmp reg */
        const unsigned reg = scratch(f);
        PUT(f, (u8)(0x58 | reg));
        PUT(f, 0xff, (u8)(0xe0 | reg));
    } else {
        put(f, c + !wide, 1u + wide + (drops ? 2 : 0));
    }
    if (chance(r, 25)) /* the next lies on another line or page */
        f->b.q->insn[f->b.q->n - 1].pad = (u16)rng_below(r, 1500);
    f->moved = false;
}

/* Modes, registers, segments to begin with. */
static void environment(struct prog *f)
{
    struct rng *r = f->b.r;
    struct real_env *e = f->env;
    struct sequence *q = f->b.q;
    const bool wild = !f->b.calm;
    memset(e, 0, sizeof(*e));
    e->v86 = chance(r, 45);
    e->iopl = e->v86 && chance(r, 25) ? 0 : 3;
    e->cuts = !wild;
    e->cr4 = chance(r, 80) ? CR4_OSFXSR | CR4_OSXMMEXCPT : 0;
    e->cr0 = CR0_ET | CR0_NE | (chance(r, 50) ? CR0_MP : 0) | (chance(r, 15) ? CR0_EM : 0) | (chance(r, 10) ? CR0_TS : 0) |
        (e->v86 ? CR0_PE | CR0_PG | CR0_WP | (chance(r, 30) ? CR0_AM : 0) : 0);
    const u16 cs = (u16)((REAL_CODE >> 4) - rng_below(r, 64) - 8);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const u16 sel = i == CS ? cs : i == SS ? REAL_STACK >> 4 : (u16)((REAL_DATA >> 4) + rng_below(r, 0x40));
        e->seg[i] = (struct cpu_seg){.selector = sel, .base = (u64)sel << 4, .limit = 0xffff, .attr = e->v86 ? 0xf3 : i == CS ? 0x9b : 0x93};
        if (!e->v86 && i == SS && chance(r, 15)) /* as a mode of 32 bits left it */
            e->seg[i].attr |= SEG_DB;
        if (e->v86 || i == CS || i == SS)
            continue;
        if (wild && chance(r, 40)) /* until a handler restores the selector */
            e->seg[i].base += 1 + rng_below(r, 15);
        if (chance(r, 20))
            e->seg[i].limit = chance(r, 60) ? 0xffffffff : 0x5000 + rng_below(r, 0x100);
    }
    q->init.rip = (u16)((REAL_CODE + 0x800 + (chance(r, 50) ? 0x800 - rng_below(r, 512) : rng_below(r, 0x800))) - ((u64)cs << 4));
    q->code = ((u64)cs << 4) + q->init.rip;
    q->init.gpr[RSP] = wild && chance(r, 30) ? (chance(r, 50) ? rng_below(r, 64) : 0x1000 + rng_below(r, 64)) :
                                                           0x1000 + 2 * rng_below(r, 64);
    if (!(e->seg[SS].attr & SEG_DB) && chance(r, 20))
        q->init.gpr[RSP] |= (u64)rng_below(r, 0x10000) << 16; /* which 16-bit stacks ignore */
}

void gen_real(const struct gen *g, struct rng *r, struct sequence *q)
{
    static const unsigned all[B_COUNT] = {84, 5, 2, 2, 5, 0, 0, 0}, no_vectors[B_COUNT] = {95, 5, 0, 0, 0, 0, 0, 0};
    struct prog f = {.b = {.g = g, .r = r, .q = q, .flow = true}, .env = &q->env, .counter = -1, .around = 5};
    q->n = 0;
    q->bits = 16;
    q->segmented = q->flow = q->real = true;
    q->patches_itself = false;
    q->data_seed = rng_next(r);
    f.b.calm = chance(r, 75);
    f.bomb = !f.b.calm || chance(r, 40);
    for (unsigned i = 0; i < 16; i++)
        q->init.gpr[i] = i < 8 ? (u32)gen_number(r) : 0;
    environment(&f);
    f.b.weights = !(q->env.cr0 & (CR0_EM | CR0_TS)) && q->env.cr4 ? all : chance(r, 90) ? no_vectors : all;
    q->init.rflags = RFLAGS_FIXED | (rng_next(r) & RFLAGS_ARITH) | (chance(r, 80) ? RFLAGS_IF : 0) | (chance(r, 20) ? RFLAGS_DF : 0) |
        (q->env.v86 ? RFLAGS_VM | (q->env.iopl == 3 ? RFLAGS_IOPL : 0) : 0);
    gen_fpu(r, q->init.xsave, false, false);
    memcpy(q->init.xsave, &(u16){0x37f}, 2); /* nothing is unmasked, nothing pending */
    memset(q->init.xsave + 2, 0, 2);
    memcpy(q->init.xsave + 24, &(u32){0x1f80}, 4);
    for (unsigned i = 0; i < 3; i++)
        f.b.pointer[i] = RBX;
    f.b.small = chance(r, 50) ? RBP : RSI;
    f.b.fixed = 1u << RBX | 1u << f.b.small;
    q->init.gpr[RBX] = 0x200 + rng_below(r, DATA_RO - 0x1000);
    q->init.gpr[f.b.small] = rng_below(r, 200);

    f.functions = rng_below(r, FUNCTIONS + 1);
    for (unsigned i = 0; i < f.functions; i++) {
        f.function[i].label = new_label(&f);
        f.function[i].kind = (u8)(may_change_if(&f) ? rng_below(r, 3) : rng_below(r, 2));
        f.function[i].wide = chance(r, 25) && (f.function[i].kind == NEAR || !q->env.cuts);
        f.function[i].drops = f.function[i].kind != BY_IRET && chance(r, 25) ? (u8)(2 * rng_below(r, 5)) : 0;
    }
    /* All of it a few times, so that it becomes hot. */
    const u16 begin = new_label(&f), again = new_label(&f);
    const u32 rounds = SLOTS + 8 * 31;
    store(&f, rounds, 3 + rng_below(r, 6))->keep = true;
    place_label(&f, begin);
    f.counter = (s32)rounds;
    f.counts_from = 3;
    f.budget = 8 + rng_below(r, 12);
    body(&f, f.budget);
    if (f.bomb && chance(r, 60))
        fault(&f);
    place_label(&f, again);
    PUT(&f, 0x36, 0xff, 0x0e, (u8)rounds, (u8)(rounds >> 8))->keep = true;
    jump(&f, 5, begin);
    f.b.q->insn[f.b.q->n - 1].keep = true;
    PUT(&f, 0xe6, REAL_EXIT)->keep = true;
    for (unsigned i = 0; i < f.functions; i++)
        function(&f, i);
    lengthen(&f);
    shorten(&f);
}
