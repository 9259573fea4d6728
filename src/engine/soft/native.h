/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native.h - shared by native.c, stub.c, vec.c, vec_masked.c, xsave.c and their gates:
 * the stubs through which instructions run on the host's own execution units.
 *
 * A stub is a few dozen bytes of host code made for one instruction: it loads
 * the guest registers and flags that the instruction names, executes it with its
 * memory operand replaced by a pointer, stores the results and jumps to the next
 * instruction's handler. It is called like a handler, with two more arguments:
 *
 *     rdi  struct soft_vcpu *v     rdx  host address of the memory operand
 *     rsi  const struct insn *i    rcx  its effective address (x87: FDP)
 *
 * rdi and rsi keep their values throughout, because the handler of a fault in the stub
 * reads v and i there (fault_gate.c). The stub changes no state of the guest before the
 * instruction itself.
 */
#ifndef LODGE_ENGINE_SOFT_NATIVE_H
#define LODGE_ENGINE_SOFT_NATIVE_H

#include "engine/soft/soft.h"

#ifndef SOFT_VEC_EAGER
#define SOFT_VEC_EAGER 0 /* 1: compiled code may use vector registers anywhere: save after each instruction */
#endif

enum {
    NATIVE_CODE_SIZE = 1 << 20, /* per processor; when it is full, it and all decoded blocks are dropped */
    NATIVE_STUB_MAX = 256,
    NATIVE_HASH_SIZE = 1 << 15,
    NATIVE_ALIGN = 16,
    GUARD_PAGES = 4, GUARD_OPEN = 2 * 4096,
    XCOMP_X87 = 1 << 0, XCOMP_SSE = 1 << 1, XCOMP_AVX = 1 << 2, XCOMP_OPMASK = 1 << 5, XCOMP_ZMM_HI = 1 << 6,
    XCOMP_ZMM_HI16 = 1 << 7, XCOMP_PKRU = 1 << 9,
    XCOMP_VECTOR = 0xe7, /* components that the host unit may hold for the guest */
    XCOMP_COUNT = 10,
};

/* Offsets in the standard XSAVE image (SDM vol. 1, 13.4; table 10-2 for the first 512 bytes). */
enum {
    XS_FCW = 0, XS_FSW = 2, XS_FTW = 4, XS_FOP = 6, XS_FIP = 8, XS_FDP = 16, XS_MXCSR = 24, XS_MXCSR_MASK = 28,
    XS_ST = 32, XS_XMM = 160, XS_HEADER = 512, XS_BV = 512, XS_XCOMP_BV = 520, XS_EXTENDED = 576,
};

struct soft_native {
    u8 *rw;       /* the code, mapped to be written */
    const u8 *rx; /* the same, mapped to be executed */
    u32 used;
    bool xsave;   /* false: FXSAVE is used */
    bool xsavec;
    u64 mask;     /* components of the host unit that hold the guest's */
    u32 mxcsr_mask;
    bool fip_if_pending; /* FXSAVE and XSAVE store FIP, FDP, FOP only with an exception pending (AMD) */
    u8 fip_spare;        /* how many upper bits of FIP and FDP repeat the bit below them once loaded (AMD) */
    u32 offset[XCOMP_COUNT], size[XCOMP_COUNT]; /* of components in the standard image; size 0: not on this host */
    u32 aligned;                                /* components whose start the compacted format aligns to 64 */
    bool xgetbv1; /* XGETBV with ECX = 1 */
    u64 offered;  /* XCR0 bits the guest may set */
    u8 *guard;    /* GUARD_PAGES pages, of which only the one at GUARD_OPEN is accessible: see vec_masked.c */
    /* The masked access that is running; it is read after a fault in the guard pages. */
    u64 masked_lin, masked_host;
    bool masked_active;
    u32 hash[NATIVE_HASH_SIZE]; /* offset / NATIVE_ALIGN + 1 of a stub, by the hash of its bytes; 0: free */
    u16 length[NATIVE_CODE_SIZE / NATIVE_ALIGN];
};

typedef void native_stub(struct soft_vcpu *v, const struct insn *i, void *mem, u64 ea);
#define STUB(i) ((native_stub *)(i)->imm)

/* stub.c */
bool native_make(struct soft_vcpu *v, const struct decoded *d, struct insn *i); /* sets i->imm, or op_native_full */
soft_fn op_native_full;
bool stub_is_integer(unsigned mnemonic); /* general registers only, and run by a stub */
bool stub_w_is_gpr_size(const struct decoded *d); /* W is a register size: ignored outside 64-bit mode */
bool stub_is_x87_control(unsigned mnemonic); /* does not change FIP, FDP, FOP */

/* native.c */
void native_run(struct soft_vcpu *v, const struct insn *i, void *mem, u64 ea); /* runs the stub alone, then returns */
/* Runs the instruction on any operand that the TLB does not have. */
void native_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 ea, enum access a);
u8 native_alignment(const struct decoded *d, unsigned size);
/* The signal handler continues here after a fault in a stub. addr: the address of a page fault. Does not return. */
void soft_native_fault(struct soft_vcpu *v, const struct insn *i, u64 vector, u64 addr);

/* vec.c: raises #UD or #NM if the class (DENY_*) may not run now. Afterwards the unit holds the guest's vectors. */
void vec_prepare(struct soft_vcpu *v, const struct insn *i, unsigned deny);
void vec_wait(struct soft_vcpu *v, const struct insn *i); /* raises #MF if an x87 exception is pending */
void vec_check(struct soft_vcpu *v, const struct insn *i, unsigned deny); /* as vec_prepare, but raises the faults only */
static inline void vec_ready(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely((v->fpu_deny & i->aux) | !v->vec_live))
        vec_prepare(v, i, i->aux);
}
static inline void vec_done(struct soft_vcpu *v)
{
    if (SOFT_VEC_EAGER)
        soft_vec_save(v);
}
/* Returns the complete image: components in their initial state (XSTATE_BV bit clear) are written out. Afterwards the unit
   no longer holds the guest's registers. */
u8 *vec_image(struct soft_vcpu *v);
void vec_init_component(struct soft_vcpu *v, unsigned n); /* in the image */

/* vec_masked.c: fills in i->fn for masked, gathered, scattered operands; false: not such an instruction */
bool lower_masked(struct soft_vcpu *v, const struct decoded *d, struct insn *i, unsigned size);
void native_masked_fault(struct soft_vcpu *v, const struct insn *i, u64 addr);

/* fault_gate.c */
extern _Thread_local struct soft_vcpu *soft_fault_vcpu; /* the processor that runs on this thread */
int must_check fault_register(struct soft_vcpu *v);
void fault_unregister(struct soft_vcpu *v);

#endif
