/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_string.c - MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS with and without REP.
 *
 * Forward MOVS and STOS work in pieces that stay inside one page of source and destination,
 * by the host's own REP MOVS/STOS of the same element size, so that overlapping operands give what the
 * processor gives. After every piece RSI, RDI and RCX are as if the instruction had been
 * interrupted there (SDM vol. 2 REP), and requests are looked at.
 */
#include "engine/soft/block.h"

enum { OPS_MOVS, OPS_CMPS, OPS_SCAS, OPS_LODS, OPS_STOS, OPS_INS, OPS_OUTS };

/* insn use: size element size, aux operation, aux2 source segment (enum insn_seg), aux3 destination segment, ashift. */

static inline u64 amask(const struct insn *i) { return ~0ull >> i->ashift; }

static inline void reg_add(struct soft_vcpu *v, const struct insn *i, unsigned reg, s64 d)
{
    u64 m = amask(i), x = (v->gpr[reg] + (u64)d) & m;
    v->gpr[reg] = i->ashift == 48 ? (v->gpr[reg] & ~m) | x : x;
}

static inline u64 load(struct soft_vcpu *v, const struct insn *i, u64 lin)
{
    switch (i->size) {
    case 1: return soft_load(v, i, lin, 1);
    case 2: return soft_load(v, i, lin, 2);
    case 4: return soft_load(v, i, lin, 4);
    default: return soft_load(v, i, lin, 8);
    }
}
static inline void store(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 x)
{
    switch (i->size) {
    case 1: soft_store(v, i, lin, 1, x); break;
    case 2: soft_store(v, i, lin, 2, x); break;
    case 4: soft_store(v, i, lin, 4, x); break;
    default: soft_store(v, i, lin, 8, x); break;
    }
}
static inline u64 src(struct soft_vcpu *v, const struct insn *i)
{
    return soft_linear(v, i, i->aux2, v->gpr[RSI] & amask(i), i->size, ACCESS_READ);
}
static inline u64 dst(struct soft_vcpu *v, const struct insn *i, enum access a)
{
    return soft_linear(v, i, i->aux3, v->gpr[RDI] & amask(i), i->size, a);
}

static void compare(struct soft_vcpu *v, unsigned size, u64 a, u64 b)
{
    u64 f;
    switch (size) {
    case 1: __asm__("cmpb %b2, %b1\n\tpushfq\n\tpopq %0" : "=r"(f) : "q"(a), "q"(b) : "cc"); break;
    case 2: __asm__("cmpw %w2, %w1\n\tpushfq\n\tpopq %0" : "=r"(f) : "r"(a), "r"(b) : "cc"); break;
    case 4: __asm__("cmpl %k2, %k1\n\tpushfq\n\tpopq %0" : "=r"(f) : "r"(a), "r"(b) : "cc"); break;
    default: __asm__("cmpq %2, %1\n\tpushfq\n\tpopq %0" : "=r"(f) : "r"(a), "r"(b) : "cc"); break;
    }
    v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | (f & RFLAGS_ARITH);
}

/* One element; faults before any register changes. */
static void element(struct soft_vcpu *v, const struct insn *i, s64 step)
{
    switch (i->aux) {
    case OPS_MOVS: {
        u64 x = load(v, i, src(v, i));
        store(v, i, dst(v, i, ACCESS_WRITE), x);
        reg_add(v, i, RSI, step);
        reg_add(v, i, RDI, step);
        break;
    }
    case OPS_CMPS: {
        u64 a = load(v, i, src(v, i)), b = load(v, i, dst(v, i, ACCESS_READ));
        compare(v, i->size, a, b);
        reg_add(v, i, RSI, step);
        reg_add(v, i, RDI, step);
        break;
    }
    case OPS_SCAS: {
        u64 b = load(v, i, dst(v, i, ACCESS_READ));
        compare(v, i->size, v->gpr[RAX], b);
        reg_add(v, i, RDI, step);
        break;
    }
    case OPS_LODS:
        reg_write(v, REG_OFF(RAX), i->size, load(v, i, src(v, i)));
        reg_add(v, i, RSI, step);
        break;
    case OPS_STOS:
        store(v, i, dst(v, i, ACCESS_WRITE), v->gpr[RAX]);
        reg_add(v, i, RDI, step);
        break;
    case OPS_INS: {
        u16 port = (u16)v->gpr[RDX];
        soft_check_io(v, i, port, i->size);
        u64 at = dst(v, i, ACCESS_WRITE);
        soft_probe(v, i, at, i->size, ACCESS_WRITE); /* the port must not be read in vain */
        store(v, i, at, soft_port_in(v, port, i->size));
        reg_add(v, i, RDI, step);
        break;
    }
    case OPS_OUTS: {
        u16 port = (u16)v->gpr[RDX];
        soft_check_io(v, i, port, i->size);
        soft_port_out(v, port, i->size, load(v, i, src(v, i)));
        reg_add(v, i, RSI, step);
        break;
    }
    }
}

static inline void host_movs(void *d, const void *s, u64 n, unsigned size)
{
    switch (size) {
    case 1: __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory"); break;
    case 2: __asm__ volatile("rep movsw" : "+D"(d), "+S"(s), "+c"(n)::"memory"); break;
    case 4: __asm__ volatile("rep movsl" : "+D"(d), "+S"(s), "+c"(n)::"memory"); break;
    default: __asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(n)::"memory"); break;
    }
}
static inline void host_stos(void *d, u64 x, u64 n, unsigned size)
{
    switch (size) {
    case 1: __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(x) : "memory"); break;
    case 2: __asm__ volatile("rep stosw" : "+D"(d), "+c"(n) : "a"(x) : "memory"); break;
    case 4: __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(x) : "memory"); break;
    default: __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(x) : "memory"); break;
    }
}

/* As many elements of a forward MOVS or STOS as lie in one page of RAM each; 0: take the slow way for one. */
static u64 chunk(struct soft_vcpu *v, const struct insn *i, u64 count)
{
    const unsigned size = i->size;
    const bool movs = i->aux == OPS_MOVS;
    u64 m = amask(i), di = v->gpr[RDI] & m, si = v->gpr[RSI] & m;
    /* The first element decides rights; how far the segments reach is then known to cover the piece in long mode
       and in flat segments only. */
    if (i->aux3 < ISEG_FLAT && !((v->seg_flat >> ES & 1) && (!movs || (v->seg_flat >> i->aux2 & 1))))
        return 0;
    /* The source faults first, by segment or by page. */
    u64 from = 0, buf[16];
    bool bounce;
    const void *s = NULL;
    if (movs) {
        from = src(v, i);
        struct tlb_entry *e = &v->tlb[(from >> 12) & (TLB_SIZE - 1)];
        if (e->read != (from & ~0xfffull)) {
            soft_ptr(v, i, from, size, ACCESS_READ, buf, &bounce);
            if (bounce || e->read != (from & ~0xfffull))
                return 0;
        }
        s = (const void *)(e->host + from);
    }
    u64 to = dst(v, i, ACCESS_WRITE);
    u64 n = (4096 - (to & 0xfff)) / size;
    if (movs)
        n = MIN(n, (4096 - (from & 0xfff)) / size);
    n = MIN(n, count);
    if (m != ~0ull) { /* the index registers must not wrap inside the piece */
        n = MIN(n, (m - di) / size);
        if (movs)
            n = MIN(n, (m - si) / size);
    }
    if (!n)
        return 0;
    struct tlb_entry *e = &v->tlb[(to >> 12) & (TLB_SIZE - 1)];
    if (e->write != (to & ~0xfffull)) {
        soft_probe(v, i, to, size, ACCESS_WRITE);
        if (e->write != (to & ~0xfffull))
            return 0; /* registers, ROM, watched code */
        if (movs) { /* the fill may have evicted the source's entry, not its page */
            struct tlb_entry *f = &v->tlb[(from >> 12) & (TLB_SIZE - 1)];
            if (f->read != (from & ~0xfffull))
                return 0;
        }
    }
    void *d = (void *)(e->host + to);
    if (movs)
        host_movs(d, s, n, size);
    else
        host_stos(d, v->gpr[RAX], n, size);
    reg_add(v, i, RDI, (s64)(n * size));
    if (movs)
        reg_add(v, i, RSI, (s64)(n * size));
    return n;
}

/* A string instruction that overwrites itself is not fetched anew for the rest of its elements; what follows it is. */
static bool ends_block(struct soft_vcpu *v)
{
    v->in_string = false;
    return unlikely(soft_block_overwritten(v));
}

static void op_string(struct soft_vcpu *v, const struct insn *i)
{
    v->in_string = true;
    element(v, i, v->rflags & RFLAGS_DF ? -(s64)i->size : i->size);
    if (ends_block(v))
        END_BLOCK(v, i);
    NEXT(v, i);
}

/* REP: the counter goes down with every piece, so a fault or an interrupt finds the rest of the work in it. */
static void op_rep(struct soft_vcpu *v, const struct insn *i)
{
    const s64 step = v->rflags & RFLAGS_DF ? -(s64)i->size : i->size;
    const bool by_page = step > 0 && (i->aux == OPS_MOVS || i->aux == OPS_STOS);
    const bool until_zf = i->aux == OPS_CMPS || i->aux == OPS_SCAS;
    const bool stepping = v->slow != 0; /* single-step traps come after every element */
    v->in_string = true;
    for (unsigned budget = 0;; budget++) {
        u64 count = v->gpr[RCX] & amask(i);
        if (!count)
            break;
        u64 done = by_page && !(stepping && (v->slow & (SLOW_TF | SLOW_DR))) ? chunk(v, i, count) : 0;
        if (!done) {
            element(v, i, step);
            done = 1;
        }
        reg_add(v, i, RCX, -(s64)done);
        if (until_zf && !(v->rflags & RFLAGS_ZF) == (i->rep == 0xf3))
            break;
        if (count == done)
            break;
        if (unlikely(__atomic_load_n(&v->request, __ATOMIC_RELAXED) || (stepping && (v->slow & (SLOW_TF | SLOW_DR))) ||
                     v->db_pending || budget == 65536)) {
            v->rip = RIP_START(v, i); /* interrupted: the instruction goes on later */
            v->in_string = false;
            return;
        }
    }
    if (ends_block(v))
        END_BLOCK(v, i);
    NEXT(v, i);
}

bool lower_string(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    if (d->desc->cls != OPC_STRING)
        return false;
    switch (d->opcode) {
    case 0xa4: case 0xa5: i->aux = OPS_MOVS; break;
    case 0xa6: case 0xa7: i->aux = OPS_CMPS; break;
    case 0xae: case 0xaf: i->aux = OPS_SCAS; break;
    case 0xac: case 0xad: i->aux = OPS_LODS; break;
    case 0xaa: case 0xab: i->aux = OPS_STOS; break;
    case 0x6c: case 0x6d: i->aux = OPS_INS; break;
    case 0x6e: case 0x6f: i->aux = OPS_OUTS; break;
    default: return false;
    }
    i->size = d->opcode & 1 ? d->osize : 1;
    if ((i->aux == OPS_INS || i->aux == OPS_OUTS) && i->size == 8)
        i->size = 4;
    i->aux2 = (u8)soft_seg(v, d->seg_override != 0xff ? d->seg_override : DS);
    i->aux3 = (u8)soft_seg(v, ES);
    /* INS and OUTS take both prefixes as REP; so do MOVS, LODS, STOS. */
    i->fn = d->rep ? op_rep : op_string;
    return true;
}
