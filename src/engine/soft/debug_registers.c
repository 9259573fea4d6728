/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_registers.c - DR0 to DR7, and the breakpoints on code, data and ports that they set (SDM vol. 3 ch. 17).
 */
#include "engine/soft/system.h"

#define DR6_FIXED 0xffff0ff0ull /* reads as one */
#define DR6_BITS 0xe00full
#define DR6_BD BIT(13)
#define DR7_GD BIT(13)
#define DR7_FIXED 0x400ull
#define DR7_BITS 0xffff23ffull

/* Makes the checks that all accesses share. Returns the register's number: DR4 and DR5 are aliases of DR6 and DR7. */
static unsigned dr_check(struct soft_vcpu *v, const struct insn *i)
{
    unsigned n = i->aux;
    if ((n == 4 || n == 5) && (v->s.cr4 & CR4_DE))
        soft_raise(v, i, VEC_UD);
    need_cpl0(v, i);
    if (v->s.dr7 & DR7_GD) {
        v->s.dr6 |= DR6_BD;
        soft_raise(v, i, VEC_DB);
    }
    return n == 4 || n == 5 ? n + 2 : n;
}
void op_mov_from_dr(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = dr_check(v, i);
    reg_write(v, i->rm, i->size, n < 4 ? v->s.dr[n] : n == 6 ? v->s.dr6 | DR6_FIXED : v->s.dr7 | DR7_FIXED);
    NEXT(v, i);
}
void op_mov_to_dr(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = dr_check(v, i);
    const u64 x = reg_read(v, i->rm, i->size);
    if (n >= 6 && x >> 32)
        soft_raise_err(v, i, VEC_GP, 0);
    if (n < 4)
        v->s.dr[n] = x;
    else if (n == 6)
        v->s.dr6 = (x & DR6_BITS) | DR6_FIXED;
    else
        v->s.dr7 = (x & DR7_BITS) | DR7_FIXED;
    soft_update_slow(v);
    END_BLOCK(v, i);
}

/* Breakpoint n: whether it is enabled, its R/W field and its length in bytes (SDM vol. 3 17.2.4). */
static bool bp_on(const struct soft_vcpu *v, unsigned n)
{
    return v->s.dr7 >> (2 * n) & 3;
}
static unsigned bp_type(const struct soft_vcpu *v, unsigned n) /* 0 execute, 1 write, 2 I/O, 3 read or write */
{
    return (unsigned)(v->s.dr7 >> (16 + 4 * n)) & 3;
}
static u64 bp_length(const struct soft_vcpu *v, unsigned n)
{
    static const u8 length[] = {1, 2, 8, 4};
    return length[v->s.dr7 >> (18 + 4 * n) & 3];
}
static bool bp_overlaps(const struct soft_vcpu *v, unsigned n, u64 a, u64 size)
{
    const u64 len = bp_length(v, n), start = v->s.dr[n] & ~(len - 1);
    return a < start + len && start < a + size;
}

u64 soft_check_code_bp(struct soft_vcpu *v, u64 linear)
{
    u64 hit = 0;
    /* In the shadow of MOV SS, Intel's processors suppress instruction breakpoints. AMD's do not. */
    if ((v->rflags & RFLAGS_RF) || (v->s.movss_shadow && !soft_is_amd(v)))
        return 0;
    if (!v->long_mode)
        linear = (u32)linear;
    for (unsigned n = 0; n < 4; n++)
        if (bp_on(v, n) && bp_type(v, n) == 0 && v->s.dr[n] == linear)
            hit |= BIT(n);
    return hit;
}

void soft_check_data_bp(struct soft_vcpu *v, u64 linear, u64 size, bool write)
{
    for (unsigned n = 0; n < 4; n++) {
        const unsigned type = bp_type(v, n);
        if (bp_on(v, n) && (type == 3 || (type == 1 && write)) && bp_overlaps(v, n, linear, size))
            v->db_pending |= BIT(n);
    }
}

/* B0-B3 are those of this exception only. BS and the other bits stay until software clears them (SDM vol. 3 17.2.3). */
void soft_take_db(struct soft_vcpu *v)
{
    v->s.dr6 = (v->s.dr6 & ~15ull) | v->db_pending | DR6_FIXED;
    v->db_pending = 0;
    soft_raise(v, NULL, VEC_DB);
}

void check_io_bp(struct soft_vcpu *v, u16 port, unsigned size)
{
    if (likely(!(v->s.dr7 & 0xff)) || !(v->s.cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++)
        if (bp_on(v, n) && bp_type(v, n) == 2 && bp_overlaps(v, n, port, size))
            v->db_pending |= BIT(n);
}
