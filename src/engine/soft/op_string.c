/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_string.c - MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS with and without REP.
 *
 * REP MOVS, STOS, CMPS and SCAS work in pieces that stay inside one page of source and destination,
 * by the host's own instruction of the same element size and direction, so that overlapping operands give what the
 * processor gives. If MOVS and STOS access a device's registers, they pass such a piece to the device, if it takes pieces.
 * After every piece RSI, RDI and RCX are as if the instruction had been interrupted there (SDM vol. 2 REP), and requests
 * are checked.
 */
#include "engine/soft/blocks.h"

enum { OPS_MOVS, OPS_CMPS, OPS_SCAS, OPS_STOS, OPS_LODS, OPS_INS, OPS_OUTS };

/* Use of struct insn: size: element size; aux: operation; aux2: source segment (enum insn_seg); aux3: destination segment;
   ashift. */

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

/* Processes one element. A fault comes before any register changes. */
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
        soft_probe(v, i, at, i->size, ACCESS_WRITE); /* first, because the port must not be read if the store faults */
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

/*
 * Runs the host's own instruction on n elements from host addresses d and s on, with DF set if down. Comparisons leave
 * their flags in *flags. Returns the number of elements done.
 */
#define HOST(text)                                                                                                \
    __asm__ volatile(text : "+D"(d), "+S"(s), "+c"(n), "+r"(f) : "a"(x) : "memory", "cc")
#define HOST_SIZE(before, op, after)                                              \
    switch (size) {                                                               \
    case 1: HOST(before op "b" after); break;                                     \
    case 2: HOST(before op "w" after); break;                                     \
    case 4: HOST(before op "l" after); break;                                     \
    default: HOST(before op "q" after);                                           \
    }
#define HOST_REP(op, after)                               \
    do {                                                  \
        if (unlikely(down))                               \
            HOST_SIZE("std\n\t", op, after "\n\tcld")    \
        else                                              \
            HOST_SIZE("", op, after)                      \
    } while (0)
#define FLAGS "\n\tpushfq\n\tpopq %3"
static inline __attribute__((always_inline)) u64 host_string(const struct insn *i, unsigned op, void *d, const void *s, u64 x, u64 n, bool down, u64 *flags)
{
    const unsigned size = i->size;
    const bool while_equal = i->rep == 0xf3;
    const u64 all = n;
    u64 f = 0;
    switch (op) {
    case OPS_MOVS: HOST_REP("rep movs", ""); break;
    case OPS_STOS: HOST_REP("rep stos", ""); break;
    case OPS_CMPS:
        if (while_equal)
            HOST_REP("repe cmps", FLAGS);
        else
            HOST_REP("repne cmps", FLAGS);
        break;
    default:
        if (while_equal)
            HOST_REP("repe scas", FLAGS);
        else
            HOST_REP("repne scas", FLAGS);
    }
    *flags = f;
    return all - n;
}

/* Returns how many elements lie in the page of lin, from lin upwards, or from lin downwards if down. */
static inline u64 in_page(u64 lin, unsigned shift, bool down)
{
    const u64 off = lin & 0xfff;
    if (!down)
        return (4096 - off) >> shift;
    return off + BIT(shift) <= 4096 ? (off >> shift) + 1 : 0;
}
/* Returns how many elements there are before an index register at x wraps. */
static inline u64 before_wrap(u64 x, u64 mask, unsigned shift, bool down)
{
    return mask == ~0ull ? ~0ull : down ? (x >> shift) + 1 : (mask - x) >> shift;
}
/* Returns how many elements the segment's limit covers; 0 also if its rights or limit do not fit in seg_end. */
static inline u64 in_segment(const struct soft_vcpu *v, unsigned seg, bool write, u64 x, unsigned shift, bool down)
{
    if (seg >= ISEG_FLAT)
        return ~0ull;
    const u64 end = v->seg_end[write][seg];
    if (x + BIT(shift) > end)
        return 0;
    return down ? ~0ull : (end - x) >> shift;
}

/* Returns the host address of lin if its page may be accessed directly, else NULL. */
static inline void *direct(struct soft_vcpu *v, const struct insn *i, u64 lin, enum access a)
{
    const struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    const u64 *tag = a & ACCESS_WRITE ? &e->write : &e->read;
    if (unlikely(*tag != (lin & ~0xfffull))) {
        soft_probe(v, i, lin, i->size, a);
        if (*tag != (lin & ~0xfffull))
            return NULL; /* registers, ROM, watched code */
    }
    return (void *)(e->host + lin);
}

/* Passes n elements to a device, where at least one side is not memory (s or d is NULL). */
static bool by_device(struct soft_vcpu *v, const struct insn *i, u64 n, u64 from, const void *s, u64 to, void *d, bool down)
{
    struct bus_run r = { .to_host = d, .from_host = s, .fill = i->aux == OPS_STOS, .value = v->gpr[RAX],
                         .size = i->size, .count = (u32)n, .down = down };
    if (v->watch_access || (!r.fill && !s && !soft_registers(v, i, from, ACCESS_READ, &r.from)) ||
        (!d && !soft_registers(v, i, to, ACCESS_WRITE, &r.to)))
        return false; /* ROM, watched code, or every access is looked at */
    return soft_phys_run(v, &r);
}

/* Does as many elements as lie in one page of each operand, by the host's instruction or a device. Returns how many; 0: the
   caller does one element by the slow path. */
static inline __attribute__((always_inline)) u64 chunk(struct soft_vcpu *v, const struct insn *i, unsigned op, u64 count,
                                                       bool down)
{
    const unsigned shift = (unsigned)__builtin_ctz(i->size);
    const bool source = op == OPS_MOVS || op == OPS_CMPS;
    const enum access a = op == OPS_MOVS || op == OPS_STOS ? ACCESS_WRITE : ACCESS_READ;
    const u64 m = amask(i);
    /* A fault of the source comes first, by segment or by page. */
    const void *s = NULL;
    u64 from = 0, n = MIN(count, before_wrap(v->gpr[RDI] & m, m, shift, down));
    n = MIN(n, in_segment(v, i->aux3, a & ACCESS_WRITE, v->gpr[RDI] & m, shift, down));
    if (source) {
        n = MIN(n, before_wrap(v->gpr[RSI] & m, m, shift, down));
        n = MIN(n, in_segment(v, i->aux2, false, v->gpr[RSI] & m, shift, down));
        from = n ? src(v, i) : 0;
        n = MIN(n, in_page(from, shift, down));
        if (!n || (!(s = direct(v, i, from, ACCESS_READ)) && op != OPS_MOVS))
            return 0;
    }
    if (!n)
        return 0;
    const u64 to = dst(v, i, a);
    n = MIN(n, in_page(to, shift, down));
    if (!n)
        return 0;
    void *d = direct(v, i, to, a);
    u64 flags = 0;
    if (likely(d && (s || !source)))
        n = host_string(i, op, d, s, v->gpr[RAX], n, down, &flags);
    else if (!(a & ACCESS_WRITE) || !by_device(v, i, n, from, s, to, d, down))
        return 0;
    if (!(a & ACCESS_WRITE))
        v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | (flags & RFLAGS_ARITH);
    const s64 step = (s64)(n << shift);
    reg_add(v, i, RDI, down ? -step : step);
    if (source)
        reg_add(v, i, RSI, down ? -step : step);
    return n;
}

/* A string instruction that overwrites itself is not fetched again for the rest of its elements, but the instructions after
   it are. */
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

/* REP: the counter goes down with every piece, so at a fault or an interrupt it holds the rest of the work. */
static inline __attribute__((always_inline)) void rep(struct soft_vcpu *v, const struct insn *i, unsigned op)
{
    const s64 step = v->rflags & RFLAGS_DF ? -(s64)i->size : i->size;
    const bool by_page = op <= OPS_STOS;
    const bool until_zf = op == OPS_CMPS || op == OPS_SCAS;
    const bool stepping = v->slow != 0; /* single-step traps come after every element */
    v->in_string = true;
    for (unsigned budget = 0;; budget++) {
        u64 count = v->gpr[RCX] & amask(i);
        if (!count)
            break;
        u64 done = by_page && !(stepping && (v->slow & (SLOW_TF | SLOW_DR))) ? chunk(v, i, op, count, step < 0) : 0;
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
            v->rip = RIP_START(v, i); /* interrupted: the instruction continues later */
            v->in_string = false;
            return;
        }
    }
    if (ends_block(v))
        END_BLOCK(v, i);
    NEXT(v, i);
}

static void op_rep_movs(struct soft_vcpu *v, const struct insn *i) { rep(v, i, OPS_MOVS); }
static void op_rep_cmps(struct soft_vcpu *v, const struct insn *i) { rep(v, i, OPS_CMPS); }
static void op_rep_scas(struct soft_vcpu *v, const struct insn *i) { rep(v, i, OPS_SCAS); }
static void op_rep_stos(struct soft_vcpu *v, const struct insn *i) { rep(v, i, OPS_STOS); }
static void op_rep_other(struct soft_vcpu *v, const struct insn *i) { rep(v, i, i->aux); }

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
    /* INS, OUTS, MOVS, LODS and STOS take both prefixes as REP. */
    static soft_fn *const repeated[] = { op_rep_movs, op_rep_cmps, op_rep_scas, op_rep_stos };
    i->fn = !d->rep ? op_string : i->aux <= OPS_STOS ? repeated[i->aux] : op_rep_other;
    return true;
}
