/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native.c - the instructions that run on the host's own execution units: which they
 * are, and how each is executed through its stub (native.h, stub.c).
 *
 * insn.aux: DENY_* of the class, 0 for general-register instructions; aux2: it reports a pending x87 exception before it
 * accesses memory; aux3: alignment - 1, by which #GP for a misaligned operand is checked before #PF; imm: the stub.
 */
#include "engine/soft/native.h"

/* ---- execution ---------------------------------------------------------- */

static void op_return(struct soft_vcpu *v, const struct insn *i)
{
}

__attribute__((noinline)) void native_run(struct soft_vcpu *v, const struct insn *i, void *mem, u64 ea)
{
    struct insn pair[2];
    pair[0] = *i;
    pair[1].fn = op_return;
    if (i->aux)
        soft_vec_load(v); /* a device's register may have been read meanwhile, and its model is C code that uses the unit */
    STUB(i)(v, pair, mem, ea);
    if (i->aux)
        vec_done(v);
}

/* No memory operand. */
static void op_native_r(struct soft_vcpu *v, const struct insn *i)
{
    vec_ready(v, i);
    if (SOFT_VEC_EAGER) {
        native_run(v, i, NULL, 0);
        NEXT(v, i);
    }
    return STUB(i)(v, i, NULL, 0);
}
static void op_native_int_r(struct soft_vcpu *v, const struct insn *i)
{
    return STUB(i)(v, i, NULL, 0);
}

/* Handles any operand that the TLB does not have: page crossings, registers of devices, ROM, first accesses to a page. */
__attribute__((noinline)) void native_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 ea, enum access a)
{
    u8 buf[192] __attribute__((aligned(64)));
    bool bounce;
    if (i->aux2)
        vec_wait(v, i);
    if (unlikely(lin & i->aux3))
        soft_raise_err(v, i, VEC_GP, 0);
    if (i->aux == DENY_X87 && (a & ACCESS_WRITE))
        a = ACCESS_RMW; /* FST stores nothing if it sets an unmasked exception; then the old bytes are written back */
    void *p = soft_ptr(v, i, lin, i->size, a, buf, &bounce);
    native_run(v, i, p, ea);
    if (bounce && (a & ACCESS_WRITE))
        soft_bounce_out(v, i, lin, i->size, p);
}

static inline __attribute__((always_inline)) void native_mem(struct soft_vcpu *v, const struct insn *i, enum access a)
{
    u64 ea = insn_ea(v, i);
    u64 lin;
    if (likely(i->seg >= ISEG_FLAT)) {
        lin = ea + v->segbase[i->seg];
    } else {
        if (i->aux && i->aux2 && !(v->seg_flat >> i->seg & 1))
            vec_wait(v, i);
        lin = soft_legacy_linear(v, i, i->seg, ea, i->size, a);
    }
    struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    if (SOFT_VEC_EAGER || unlikely((lin ^ (a & ACCESS_WRITE ? e->write : e->read)) > 4096u - i->size)) {
        native_slow(v, i, lin, ea, a);
        NEXT(v, i);
    }
    return STUB(i)(v, i, (void *)(e->host + lin), ea);
}

static void op_native_load(struct soft_vcpu *v, const struct insn *i)
{
    vec_ready(v, i);
    native_mem(v, i, ACCESS_READ);
}
static void op_native_store(struct soft_vcpu *v, const struct insn *i)
{
    vec_ready(v, i);
    native_mem(v, i, ACCESS_WRITE);
}
static void op_native_int_load(struct soft_vcpu *v, const struct insn *i)
{
    native_mem(v, i, ACCESS_READ);
}
static void op_native_int_store(struct soft_vcpu *v, const struct insn *i)
{
    native_mem(v, i, ACCESS_WRITE);
}
static void op_native_int_rmw(struct soft_vcpu *v, const struct insn *i)
{
    native_mem(v, i, ACCESS_RMW);
}

/* Runs a locked instruction whose operand lies in two pages. It gets a pointer to each half first, so that nothing can fault
   while the lock is held. A half that is not memory has no atomicity to keep. */
static __attribute__((noinline)) void native_split_lock(struct soft_vcpu *v, const struct insn *i, u64 lin)
{
    u8 buf[128] __attribute__((aligned(64))), low_buf[192] __attribute__((aligned(64))),
        high_buf[192] __attribute__((aligned(64)));
    unsigned first = MIN(i->size, 4096 - (unsigned)(lin & 0xfff)), rest = i->size - first;
    bool low_bounce, high_bounce = false;
    if (unlikely(lin & i->aux3))
        soft_raise_err(v, i, VEC_GP, 0);
    if (!rest) { /* in one page: memory, or a device's register */
        native_slow(v, i, lin, 0, ACCESS_RMW);
        return;
    }
    soft_check_alignment(v, i, lin, i->size);
    soft_probe(v, i, lin, i->size, ACCESS_RMW);
    void *low = soft_ptr(v, i, lin, first, ACCESS_RMW | ACCESS_PART, low_buf, &low_bounce);
    void *high = soft_ptr(v, i, lin + first, rest, ACCESS_RMW | ACCESS_PART, high_buf, &high_bounce);
    while (__atomic_exchange_n(&v->vm->split_lock, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
    copy_bytes(buf, low, first);
    copy_bytes(buf + first, high, rest);
    native_run(v, i, buf, 0);
    if (!low_bounce)
        copy_bytes(low, buf, first);
    if (!high_bounce)
        copy_bytes(high, buf + first, rest);
    __atomic_store_n(&v->vm->split_lock, 0, __ATOMIC_RELEASE);
    if (low_bounce)
        soft_bounce_out(v, i, lin, first, buf);
    if (high_bounce)
        soft_bounce_out(v, i, lin + first, rest, buf + first);
}

static void op_native_lock(struct soft_vcpu *v, const struct insn *i)
{
    u64 lin = insn_linear(v, i, i->size, ACCESS_RMW);
    struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    if (unlikely((lin ^ e->write) > 4096u - i->size)) {
        native_split_lock(v, i, lin);
        NEXT(v, i);
    }
    return STUB(i)(v, i, (void *)(e->host + lin), 0);
}

/* Hints do nothing, and do not even fault (SDM vol. 2, PREFETCHh). */
static void op_native_hint(struct soft_vcpu *v, const struct insn *i)
{
    NEXT(v, i);
}
/* Cache line flushes make the checks of a byte load and do no more, because caches are coherent here. */
static void op_native_line(struct soft_vcpu *v, const struct insn *i)
{
    soft_probe(v, i, insn_linear(v, i, 1, ACCESS_READ), 1, ACCESS_READ);
    NEXT(v, i);
}

/* ---- faults ------------------------------------------------------------- */

void soft_native_fault(struct soft_vcpu *v, const struct insn *i, u64 vector, u64 addr)
{
    if (i->aux)
        vec_done(v);
    switch (vector) {
    case VEC_DE: case VEC_UD: case VEC_MF: soft_raise(v, i, (unsigned)vector);
    case VEC_XM: soft_raise(v, i, v->s.cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
    case VEC_SS: case VEC_GP: soft_raise_err(v, i, VEC_GP, 0); /* a host address was misaligned */
    case VEC_PF: native_masked_fault(v, i, addr); /* returns if the fault was not in the guard pages */
    }
    soft_fail(v, "guest memory went away under an instruction: the host could not supply the page");
}

/* ---- lowering ----------------------------------------------------------- */

/* Legacy SSE needs a 16-byte operand aligned, except in these instructions (SDM vol. 2, table 2-18, classes 4 and 5). */
u8 native_alignment(const struct decoded *d, unsigned size)
{
    switch (d->desc->mnemonic) {
    case M_CMPXCHG16B: return 15;
    case M_MOVUPS: case M_MOVUPD: case M_MOVDQU: case M_LDDQU: case M_PCMPESTRI: case M_PCMPESTRM:
    case M_PCMPISTRI: case M_PCMPISTRM: return 0;
    case M_SHA1MSG1: case M_SHA1MSG2: case M_SHA1NEXTE: case M_SHA1RNDS4: case M_SHA256MSG1: case M_SHA256MSG2:
    case M_SHA256RNDS2: return 0; /* AMD's processors accept any alignment for them */
    case M_VMOVAPS: case M_VMOVAPD: case M_VMOVDQA: case M_VMOVDQA32: case M_VMOVDQA64: case M_VMOVNTPS:
    case M_VMOVNTPD: case M_VMOVNTDQ: case M_VMOVNTDQA: return (u8)(size - 1);
    }
    return (d->desc->cls == OPC_SSE || d->desc->cls == OPC_MMX) && d->encoding == ENC_LEGACY && size == 16 ? 15 : 0;
}

/* Is it the MMX form of an SSE instruction? It has no mandatory prefix, an opcode with an MMX form, and needs no
   CR4.OSFXSR. */
static bool is_mmx_form(const struct decoded *d)
{
    if (d->encoding != ENC_LEGACY || d->rep || d->opsize66)
        return false;
    switch (d->map) {
    case 1: return (d->opcode >= 0x60 && d->opcode <= 0x7f) || d->opcode == 0xe7 || d->opcode == 0xf7 ||
                   d->opcode == 0x70 || d->opcode == 0xc4 || d->opcode == 0xc5 || d->opcode >= 0xd1;
    case 2: return d->opcode <= 0x0b || (d->opcode >= 0x1c && d->opcode <= 0x1e);
    case 3: return d->opcode == 0x0f;
    }
    return false;
}

static u8 deny_class(const struct decoded *d)
{
    switch (d->desc->cls) {
    case OPC_X87: return d->desc->mnemonic == M_FWAIT ? DENY_WAIT : DENY_X87;
    case OPC_MMX:
        switch (d->desc->mnemonic) {
        case M_CVTPS2PI: case M_CVTTPS2PI: case M_CVTPD2PI: case M_CVTTPD2PI: return DENY_SSE;
        }
        return DENY_MMX;
    case OPC_SSE: return is_mmx_form(d) ? DENY_MMX : DENY_SSE;
    case OPC_AVX: return DENY_AVX;
    default: return DENY_AVX512;
    }
}

static unsigned operand_size(const struct decoded *d)
{
    unsigned size = d->desc->mem_size;
    if (d->encoding == ENC_EVEX && d->b && (d->desc->flags & OPF_BROADCAST)) {
        unsigned element = d->w ? 8 : d->map >= 5 ? 2 : 4;
        size = size && size < element ? size : element;
    }
    return size;
}

bool lower_native(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    const struct opdesc *o = d->desc;
    const bool integer = stub_is_integer(o->mnemonic);
    if (o->flags & (OPF_PRIV | OPF_BLOCK_END))
        return false;
    switch (o->mnemonic) {
    case M_PREFETCHNTA: case M_PREFETCHT0: case M_PREFETCHT1: case M_PREFETCHT2: case M_PREFETCHW: case M_PREFETCHWT1:
    case M_PREFETCH: i->fn = op_native_hint; return true;
    case M_CLFLUSH: case M_CLFLUSHOPT: case M_CLWB: i->fn = op_native_line; return d->has_mem;
    }
    if (!integer && o->cls < OPC_X87)
        return false;
    switch (o->mnemonic) {
    case M_BT: case M_BTS: case M_BTR: case M_BTC:
        if (d->has_mem && d->opcode != 0xba)
            return false; /* a bit string: the bit number may reach beyond the operand, so to any address of the host */
        break;
    case M_ADD: case M_OR: case M_ADC: case M_SBB: case M_AND: case M_SUB: case M_XOR: case M_INC: case M_DEC:
    case M_NEG: case M_NOT: case M_XCHG:
        if (!d->has_mem)
            return false; /* done by op_int.c; some of their short forms are REX prefixes in 64-bit mode */
    }
    /* The stub needs rdi and rsi itself; no instruction of these classes names rSP or rBP. */
    if (((o->gpr_read | o->gpr_write) & ~0xfu) && !(o->flags & (OPF_MASKED_MEM | OPF_IMPLICIT_MEM)))
        return false;
    if (d->has_mem && !(o->flags & (OPF_MEM_READ | OPF_MEM_WRITE)))
        return false;
    i->aux = integer ? 0 : deny_class(d);
    i->aux2 = i->aux3 = 0;
    i->imm = 0;
    unsigned size = operand_size(d);
    if (o->flags & (OPF_VSIB | OPF_MASKED_MEM | OPF_IMPLICIT_MEM) && (d->has_mem || (o->flags & OPF_IMPLICIT_MEM)) &&
        !(d->encoding == ENC_EVEX && !d->aaa && !(o->flags & (OPF_VSIB | OPF_IMPLICIT_MEM))))
        return lower_masked(v, d, i, size);
    if (!native_make(v, d, i))
        return false;
    if (!i->imm)
        return true;
    if (!d->has_mem) {
        i->fn = integer ? op_native_int_r : op_native_r;
        return true;
    }
    if (!size || size > 64)
        return false;
    i->size = (u8)size;
    i->aux3 = native_alignment(d, size);
    i->aux2 = o->cls == OPC_MMX || (o->cls == OPC_X87 && (!stub_is_x87_control(o->mnemonic) || o->mnemonic == M_FLDCW));
    switch (o->flags & (OPF_MEM_READ | OPF_MEM_WRITE)) {
    case OPF_MEM_READ: i->fn = integer ? op_native_int_load : op_native_load; break;
    case OPF_MEM_WRITE: i->fn = integer ? op_native_int_store : op_native_store; break;
    default:
        if (!integer)
            return false; /* no vector instruction reads and writes its memory operand */
        i->fn = d->lock || o->mnemonic == M_XCHG ? op_native_lock : op_native_int_rmw;
    }
    return true;
}
