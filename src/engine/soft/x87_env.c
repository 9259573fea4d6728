/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87_env.c - FNSTENV and FNSAVE with their inverses, and FNINIT. They store the x87 state as the image of its environment
 * (SDM vol. 1 ch. 8.1.10), made from the canonical image v->s.xsave, which xsave.c uses as well.
 */
#include "engine/soft/fpu_state.h"

/* Returns the tag word as FNSTENV stores it, two bits for each physical register, made from the abridged tag word and the
   registers. */
static u16 full_tags(const struct soft_vcpu *v)
{
    const u8 *image = v->s.xsave;
    unsigned top = *(const u16 *)(image + XS_FSW) >> 11 & 7, tags = 0;
    for (unsigned r = 0; r < 8; r++) {
        const u8 *st = image + XS_ST + 16 * ((r - top) & 7);
        u64 fraction = *(const u64 *)st;
        unsigned exponent = *(const u16 *)(st + 8) & 0x7fff, tag;
        if (!(image[XS_FTW] >> r & 1))
            tag = 3;
        else if (exponent == 0 && !fraction)
            tag = 1;
        else
            tag = exponent == 0 || exponent == 0x7fff || !(fraction >> 63) ? 2 : 0;
        tags |= tag << (2 * r);
    }
    return (u16)tags;
}

static unsigned env_size(const struct insn *i)
{
    return i->size == 2 ? 14 : 28;
}
/* In real-address and virtual-8086 mode the image has linear addresses (SDM vol. 1, figures 8-9 to 8-12). */
static void build_env(struct soft_vcpu *v, const struct insn *i, u8 *to)
{
    const u8 *image = v->s.xsave;
    const u16 fcw = *(const u16 *)(image + XS_FCW), fsw = *(const u16 *)(image + XS_FSW), ftw = full_tags(v);
    u32 fip = (u32)IMAGE64(v, XS_FIP), fdp = (u32)IMAGE64(v, XS_FDP), fop = IMAGE16(v, XS_FOP) & 0x7ff;
    u32 fcs = v->x87.fcs, fds = v->x87.fds;
    const bool real = !v->protected_mode;
    if (real) {
        fip += fcs << 4;
        fdp += fds << 4;
    }
    if (env_size(i) == 14) {
        u16 *w = (u16 *)to;
        w[0] = fcw, w[1] = fsw, w[2] = ftw, w[3] = (u16)fip, w[5] = (u16)fdp;
        w[4] = real ? (u16)((fip >> 16 & 15) << 12 | fop) : (u16)fcs;
        w[6] = real ? (u16)((fdp >> 16 & 15) << 12) : (u16)fds;
        return;
    }
    u32 *w = (u32 *)to;
    w[0] = 0xffff0000u | fcw, w[1] = 0xffff0000u | fsw, w[2] = 0xffff0000u | ftw;
    w[3] = real ? 0xffff0000u | (fip & 0xffff) : fip;
    w[4] = real ? (fip >> 16) << 12 | fop : fcs | fop << 16;
    w[5] = real ? 0xffff0000u | (fdp & 0xffff) : fdp;
    w[6] = real ? (fdp >> 16) << 12 : 0xffff0000u | fds;
}

/* Sets FSW. ST(i) is in slot i of the image, so the registers change slots if the top of the stack moves. */
static void set_fsw(struct soft_vcpu *v, u16 fsw)
{
    u8 old[8][16];
    u8 *st = v->s.xsave + XS_ST;
    const unsigned by = ((unsigned)(fsw >> 11) - (IMAGE16(v, XS_FSW) >> 11)) & 7;
    IMAGE16(v, XS_FSW) = fsw;
    if (!by)
        return;
    copy_bytes(old, st, sizeof old);
    for (unsigned k = 0; k < 8; k++)
        copy_bytes(st + 16 * k, old[(k + by) & 7], 16);
}

/* Initializes the state as FNINIT does: the registers keep their contents, but are tagged as empty. */
static void init_x87(struct soft_vcpu *v)
{
    set_fsw(v, 0);
    zero_bytes(v->s.xsave, XS_MXCSR);
    IMAGE16(v, XS_FCW) = 0x37f;
    v->x87.fcs = v->x87.fds = 0;
    IMAGE64(v, XS_BV) |= XCOMP_X87;
}

static void take_env(struct soft_vcpu *v, const struct insn *i, const u8 *from)
{
    u16 fcw, fsw, ftw;
    u32 fip, fdp, fop, fcs = 0, fds = 0;
    const bool real = !v->protected_mode;
    if (env_size(i) == 14) {
        const u16 *w = (const u16 *)from;
        fcw = w[0], fsw = w[1], ftw = w[2], fip = w[3], fdp = w[5], fop = IMAGE16(v, XS_FOP);
        if (real)
            fip |= (u32)(w[4] >> 12) << 16, fop = w[4], fdp |= (u32)(w[6] >> 12) << 16;
        else
            fcs = w[4], fds = w[6];
    } else {
        const u32 *w = (const u32 *)from;
        fcw = (u16)w[0], fsw = (u16)w[1], ftw = (u16)w[2];
        if (real) {
            fip = (w[3] & 0xffff) | (w[4] >> 12 & 0xffff) << 16, fop = w[4];
            fdp = (w[5] & 0xffff) | (w[6] >> 12 & 0xffff) << 16;
        } else {
            fip = w[3], fcs = (u16)w[4], fop = w[4] >> 16, fdp = w[5], fds = (u16)w[6];
        }
    }
    u8 tags = 0;
    for (unsigned r = 0; r < 8; r++)
        tags |= (u8)((ftw >> (2 * r) & 3) != 3) << r;
    IMAGE16(v, XS_FCW) = fcw;
    set_fsw(v, fsw);
    settle_control(v->s.xsave);
    IMAGE16(v, XS_FTW) = tags;
    IMAGE16(v, XS_FOP) = fop & 0x7ff;
    IMAGE64(v, XS_FIP) = fip;
    IMAGE64(v, XS_FDP) = fdp;
    v->x87.fcs = (u16)fcs;
    v->x87.fds = (u16)fds;
    IMAGE64(v, XS_BV) |= XCOMP_X87;
}

void op_fnstenv(struct soft_vcpu *v, const struct insn *i)
{
    u8 env[28] __attribute__((aligned(4)));
    vec_check(v, i, DENY_X87);
    u64 lin = area(v, i, env_size(i), 1, ACCESS_WRITE);
    vec_image(v);
    build_env(v, i, env);
    store_run(v, i, lin, env, env_size(i));
    IMAGE16(v, XS_FCW) |= 0x3f; /* the instruction masks all exceptions at its end */
    IMAGE16(v, XS_FSW) &= 0x7f7f;
    IMAGE64(v, XS_BV) |= XCOMP_X87;
    NEXT(v, i);
}

void op_fldenv(struct soft_vcpu *v, const struct insn *i)
{
    u8 env[28] __attribute__((aligned(4)));
    vec_check(v, i, DENY_X87);
    vec_wait(v, i); /* before the new environment hides it */
    u64 lin = area(v, i, env_size(i), 1, ACCESS_READ);
    load_run(v, i, lin, env, env_size(i));
    vec_image(v);
    take_env(v, i, env);
    NEXT(v, i);
}

void op_fnsave(struct soft_vcpu *v, const struct insn *i)
{
    u8 out[108] __attribute__((aligned(4)));
    const unsigned n = env_size(i);
    vec_check(v, i, DENY_X87);
    u64 lin = area(v, i, n + 80, 1, ACCESS_WRITE);
    u8 *image = vec_image(v);
    build_env(v, i, out);
    for (unsigned k = 0; k < 8; k++)
        copy_bytes(out + n + 10 * k, image + XS_ST + 16 * k, 10);
    store_run(v, i, lin, out, n + 80);
    init_x87(v);
    NEXT(v, i);
}

void op_frstor(struct soft_vcpu *v, const struct insn *i)
{
    u8 in[108] __attribute__((aligned(4)));
    const unsigned n = env_size(i);
    vec_check(v, i, DENY_X87);
    vec_wait(v, i); /* before the new environment hides it */
    u64 lin = area(v, i, n + 80, 1, ACCESS_READ);
    load_run(v, i, lin, in, n + 80);
    u8 *image = vec_image(v);
    take_env(v, i, in);
    for (unsigned k = 0; k < 8; k++)
        copy_bytes(image + XS_ST + 16 * k, in + n + 10 * k, 10);
    NEXT(v, i);
}

void op_fninit(struct soft_vcpu *v, const struct insn *i)
{
    vec_check(v, i, DENY_X87);
    vec_image(v);
    init_x87(v);
    NEXT(v, i);
}
