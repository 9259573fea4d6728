/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_insn.c - one instruction of any kind: a form (forms.c) with registers, memory operand and immediate of its own,
 * decoded again to see that it is still the same.
 */
#include "gen.h"

#include <string.h>

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

/* Accepts a finished encoding, or not. */
static bool acceptable(struct build *b, const u8 *bytes, unsigned len, const struct form *f, struct decoded *d)
{
    if (decode(d, bytes, len, b->q->bits, true) != DECODE_OK || d->desc != f->desc || d->len > 15)
        return false;
    u32 w = writes(d);
    bool popa = d->desc->mnemonic == M_POPA || d->desc->mnemonic == M_POPAD; /* spoils the pointers, too good to miss */
    if (w & (b->fixed | 1u << RSP) || (d->desc->gpr_write & b->fixed && !popa))
        return false;
    if (b->undefined & gen_flags_needed(d->desc))
        return false;
    return !ban(b, d);
}

/* Gives the registers that the form takes for granted a value. */
static void prepare(struct build *b, const struct form *f)
{
    struct rng *r = b->r;
    const struct opdesc *o = f->desc;
    if (o->cls == OPC_STRING) {
        if (b->calm || chance(r, 95)) {
            gen_set_register(b, RSI, (u32)gen_place(b, 8, false));
            gen_set_register(b, RDI, (u32)gen_place(b, 8, false));
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
            gen_set_register(b, RDI, (u32)gen_place(b, 16, false));
    } else if (o->mnemonic == M_CLZERO && chance(r, 90)) {
        gen_set_register(b, RAX, (u32)gen_place(b, 64, true));
    }
}

static struct form pick_form(const struct build *b)
{
    const struct list *lists = b->g->list[mode_of(b->q->bits)];
    unsigned total = 0, pick, bucket = 0;
    for (unsigned i = 0; i < B_COUNT; i++)
        total += lists[i].n ? b->weights[i] : 0;
    pick = rng_below(b->r, total);
    for (;; bucket++) {
        unsigned w = lists[bucket].n ? b->weights[bucket] : 0;
        if (pick < w)
            break;
        pick -= w;
    }
    return lists[bucket].form[rng_below(b->r, lists[bucket].n)];
}

/* A form with registers. */
struct choice {
    struct form form;
    u8 rex, vvvv, aaa; /* as put_head takes them */
    bool addr67;
    unsigned vsib; /* the vector that holds indexes */
};

/* Later attempts leave more of the form as it is. */
static struct choice choose(struct build *b, const struct form *f, unsigned attempt)
{
    struct rng *r = b->r;
    struct choice c = {.form = *f};
    c.addr67 = !b->calm && chance(r, b->q->segmented ? 30 : b->q->bits == 64 ? 4 : 2);
    c.vsib = rng_below(r, b->q->bits != 64 ? 8 : f->encoding == ENC_EVEX ? 32 : 16);

    /* EVEX.X is ignored with a general register, but Zen 5 then reads an RSP that the last CALL has not reached. */
    unsigned rex_bits = !f->mod3 ? 4 : f->encoding == ENC_EVEX && !f->desc->rm.size ? 7 : 5;
    if (attempt % 4 != 3) { /* registers of its own, if ModRM.reg is not part of the opcode */
        c.form.reg = (u8)rng_below(r, 8);
        if (b->q->bits == 64)
            c.rex = (u8)(chance(r, 50) ? rng_below(r, 8) & rex_bits : 0);
    }
    if (f->mod3 && attempt % 4 < 2)
        c.form.rm = (u8)rng_below(r, 8);
    if (!(f->desc->flags & OPF_MODRM)) {
        c.form.opcode = (u8)((f->opcode & 0xf8) | rng_below(r, 8));
        if (attempt % 4 == 3)
            c.form.opcode = f->opcode;
        c.rex &= 1;
    }
    if (f->encoding != ENC_LEGACY && attempt % 4 < 3)
        c.vvvv = (u8)rng_below(r, b->q->bits == 64 ? 16 : 8);
    if (f->encoding == ENC_EVEX) {
        c.aaa = (u8)(chance(r, 50) ? rng_below(r, 8) : 0);
        c.aaa |= (u8)(c.aaa && chance(r, 30) ? 0x80 : 0) | (chance(r, 20) ? 8 : 0);
        if (f->mod3 && c.aaa & 8)
            c.form.vl = rng_below(r, 4) & 3; /* the rounding mode, or nothing */
        if (b->q->bits == 64 && attempt % 4 < 3) /* registers 16 to 31 */
            c.vvvv |= (u8)(rng_next(r) & 0x50);
        else if (b->q->bits != 64 && chance(r, 50)) /* R', B and vvvv[3], which only 64-bit mode heeds */
            c.vvvv |= (u8)(rng_next(r) & 0x48), c.rex |= (u8)(rng_next(r) & 1);
        if (f->desc->flags & OPF_VSIB)
            c.vvvv = (u8)((c.vvvv & 0x40) | (c.vsib & 16));
    }
    return c;
}

static unsigned put_prefixes(struct build *b, const struct form *f, bool addr67, u8 *p)
{
    struct rng *r = b->r;
    unsigned n = 0;
    if (addr67)
        p[n++] = 0x67;
    if (f->desc->flags & OPF_LOCK && !f->mod3 && chance(r, 25))
        p[n++] = 0xf0;
    if (b->calm)
        ; /* no segment but DS */
    else if (b->q->bits == 64 && !f->mod3 && chance(r, 3))
        p[n++] = 0x65;
    else if (!f->mod3 && chance(r, 3))
        p[n++] = (u8)(0x26 | rng_below(r, 4) << 3);
    return n;
}

/* The whole encoding, with 8 bytes of any immediate behind: the length of both. fix: what is left to be put in. */
static unsigned encode(struct build *b, const struct form *f, struct choice *c, struct gen_insn *fix, u8 *out)
{
    u8 tail[16] = {0};
    unsigned nt = 0, n = put_prefixes(b, f, c->addr67, out);
    if (f->desc->flags & OPF_MODRM) {
        if (f->mod3)
            tail[nt++] = (u8)(0xc0 | c->form.reg << 3 | c->form.rm);
        else
            gen_put_memory(b, &c->form, tail, &nt, &c->rex, c->vsib, fix, c->addr67);
    } else if (f->encoding == ENC_LEGACY && f->map == 0 && (f->opcode & 0xfc) == 0xa0) {
        u64 at = gen_place(b, 4, false);
        nt = b->q->bits == 64 ? (c->addr67 ? 4 : 8) : c->addr67 == (b->q->bits == 32) ? 2 : 4;
        memcpy(tail, &at, 8);
    }
    n += put_head(&c->form, b->q->bits, c->rex, c->vvvv, c->aaa, out + n);
    memcpy(out + n, tail, nt);
    if (fix->fix)
        fix->fix_off = (u8)(fix->fix_off + n);
    n += nt;
    u64 imm = gen_number(b->r);
    memcpy(out + n, &imm, 8);
    return n + 8;
}

/* vmovdqu index, [small numbers] */
static void load_index(struct build *b, const struct form *f, unsigned vsib)
{
    if (b->q->bits == 16 || b->q->segmented)
        return;
    u32 at = (u32)(DATA_BASE + DATA_SMALL + 8 * rng_below(b->r, 500));
    if (f->encoding == ENC_EVEX) {
        u8 c[11] = {0x62, (u8)(0x61 | (~vsib & 8) << 4 | (~vsib & 16)), 0x7e, 0x48, 0x6f, (u8)((vsib & 7) << 3 | 4), 0x25};
        memcpy(c + 7, &at, 4);
        gen_append(b, c, 11);
    } else {
        u8 c[9] = {0xc5, (u8)(vsib & 8 ? 0x7e : 0xfe), 0x6f, (u8)((vsib & 7) << 3 | 4), 0x25};
        memcpy(c + 5, &at, 4);
        gen_append(b, c, 9);
    }
}

void gen_general(struct build *b)
{
    const struct form f = pick_form(b);
    const unsigned before = b->q->n;
    u32 prepared = f.desc->cls == OPC_STRING ? 1u << RCX | 1u << RSI | 1u << RDI : 1u << RAX | 1u << RDX;

    if (b->flow && b->fixed & prepared && (f.desc->cls == OPC_STRING || f.desc->mnemonic == M_DIV || f.desc->mnemonic == M_IDIV))
        return;

    prepare(b, &f);
    for (unsigned attempt = 0; attempt < 24; attempt++) {
        struct choice c = choose(b, &f, attempt);
        struct gen_insn fix = {0};
        struct decoded d;
        u8 all[48];
        const unsigned n = encode(b, &f, &c, &fix, all);
        if (!acceptable(b, all, n, &f, &d))
            continue;
        if (d.desc->flags & OPF_VSIB && chance(b->r, 90))
            load_index(b, &f, c.vsib);
        struct gen_insn *i = gen_append(b, all, d.len);
        i->fix = fix.fix;
        i->fix_off = fix.fix_off;
        i->target = fix.target;
        b->undefined = gen_undefined_after(&d, b->undefined, b->skipping == 0);
        return;
    }
    b->q->n = before;
}
