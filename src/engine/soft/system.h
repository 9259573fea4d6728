/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system.h - shared by the files whose instructions change more than registers and memory: segment.c, transfer.c,
 * deliver.c, far_return.c, task.c, system.c, control_registers.c, debug_registers.c, msr.c and op_legacy.c.
 *
 * Convention of these files: a handler that may fault uses SYNC(v, i) first, which sets v->rip to the
 * instruction's own address; after that, helpers raise faults with insn NULL. Registers are committed last.
 */
#ifndef LODGE_ENGINE_SOFT_SYSTEM_H
#define LODGE_ENGINE_SOFT_SYSTEM_H

#include "engine/soft/blocks.h"
#include "engine/soft/soft.h"

#define SYNC(v, i) ((v)->rip = RIP_START((v), (i)))

static _Noreturn inline void raise_gp0(struct soft_vcpu *v) { soft_raise_err(v, NULL, VEC_GP, 0); }
static inline void need_cpl0(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(v->cpl != 0))
        soft_raise_err(v, i, VEC_GP, 0);
}
static inline unsigned iopl_of(const struct soft_vcpu *v) { return (unsigned)(v->rflags >> 12) & 3; }

/* Ends the handler and goes on to the next instruction, unless a request waits for the run loop. */
#define NEXT_UNLESS_REQUEST(v, i)                                        \
    do {                                                                 \
        if (unlikely(__atomic_load_n(&(v)->request, __ATOMIC_RELAXED)))  \
            END_BLOCK((v), (i));                                         \
        NEXT((v), (i));                                                  \
    } while (0)

static inline bool canonical(const struct soft_vcpu *v, u64 a)
{
    unsigned n = 64 - v->vm->lin_bits;
    return (u64)((s64)(a << n) >> n) == a;
}

/* ---- flags -------------------------------------------------------------- */

enum {
    FLAGS_IRET16 = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT,
    FLAGS_IRET32 = FLAGS_IRET16 | RFLAGS_AC | RFLAGS_ID,
};

/* Changes RFLAGS bits in mask (not RF, VM) and all that is derived from them. The caller sets the TLB context of a new
   CPL. */
static inline void flags_change(struct soft_vcpu *v, u64 value, u64 mask)
{
    u64 old = v->rflags;
    v->rflags = (old & ~mask) | (value & mask);
    if (unlikely((old ^ v->rflags) & (RFLAGS_TF | RFLAGS_AC)))
        soft_update_slow(v);
}

/* ---- operand sizes that do not follow the usual rule -------------------- */

/* Far transfers have 64 bits only with REX.W. */
static inline u8 far_size(const struct decoded *d)
{
    if (d->bits == 64)
        return d->rex & 8 ? 8 : d->opsize66 ? 2 : 4;
    return (d->bits == 32) != d->opsize66 ? 4 : 2;
}
/* Stack operations have 64 bits in 64-bit mode. */
static inline u8 stack_size(const struct decoded *d)
{
    if (d->bits == 64)
        return d->opsize66 ? 2 : 8;
    return (d->bits == 32) != d->opsize66 ? 4 : 2;
}
static inline u64 mask_of(unsigned size) { return size == 8 ? ~0ull : (1ull << (8 * size)) - 1; }

/* ---- the stack in force ------------------------------------------------- */

static inline u64 sp_mask(const struct soft_vcpu *v)
{
    return v->bits == 64 ? ~0ull : v->ss32 ? 0xffffffffull : 0xffffull;
}
static inline void sp_set(struct soft_vcpu *v, u64 sp)
{
    if (v->bits == 64)
        v->gpr[RSP] = sp;
    else if (v->ss32)
        v->gpr[RSP] = (u32)sp;
    else
        R16(v, REG_OFF(RSP)) = (u16)sp;
}
/* Reads size bytes at offset depth from the top of the stack. */
u64 stack_peek(struct soft_vcpu *v, u64 depth, unsigned size);
/* Writes size bytes that start depth bytes below the top. The caller sets SP. */
void stack_poke(struct soft_vcpu *v, u64 depth, unsigned size, u64 x);

/* System structures are looked up in the supervisor's TLB first, then by the slow path. */
static inline struct tlb_entry *sys_tlb(struct soft_vcpu *v, u64 lin)
{
    return &v->tlbs[v->s.cr4 & CR4_SMAP ? TLB_KERNEL : TLB_KERNEL_AC][(lin >> 12) & (TLB_SIZE - 1)];
}
static inline u64 sys_load8(struct soft_vcpu *v, u64 lin)
{
    struct tlb_entry *e = sys_tlb(v, lin);
    if (likely((lin ^ e->read) <= 4096 - 8))
        return *(const volatile u64 *)(e->host + lin);
    return soft_sys_load(v, lin, 8);
}

/* ---- descriptors (segment.c) -------------------------------------------- */

struct desc {
    u64 raw;   /* the first eight bytes */
    u64 high;  /* system descriptors in long mode: the second eight */
    u64 addr;  /* linear */
};
static inline u32 desc_limit(u64 d)
{
    u32 l = (u32)(d & 0xffff) | (u32)(d >> 32 & 0xf0000);
    return d & BIT(55) ? l << 12 | 0xfff : l;
}
static inline u64 desc_base(u64 d) { return (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000); }
static inline u16 desc_attr(u64 d) { return (u16)(d >> 40 & 0xf0ff); }
static inline unsigned desc_dpl(u64 d) { return (unsigned)(d >> 45) & 3; }
static inline unsigned desc_type(u64 d) { return (unsigned)(d >> 40) & 15; }
#define DESC_P BIT(47)
#define DESC_S BIT(44)
#define DESC_L BIT(53)
#define DESC_DB BIT(54)
static inline bool desc_is_code(u64 d) { return (d & DESC_S) && (d & BIT(43)); }
static inline bool desc_is_conforming(u64 d) { return d & BIT(42); }
static inline bool desc_is_writable_data(u64 d) { return (d & (DESC_S | BIT(43) | BIT(41))) == (DESC_S | BIT(41)); }
static inline bool sel_null(unsigned sel) { return !(sel & 0xfffc); }
static inline u32 sel_err(unsigned sel) { return sel & 0xfffc; }

/* Fetches eight bytes of the selector's descriptor. Returns false beyond the table's limit. */
bool desc_fetch(struct soft_vcpu *v, u16 sel, struct desc *d);
/* The same with sixteen bytes in long mode, else eight: for LDT, TSS, call gates. */
bool desc_fetch_system(struct soft_vcpu *v, u16 sel, struct desc *d);
u64 desc_base_system(const struct soft_vcpu *v, const struct desc *d);
/* Sets the accessed bit in memory unless it is set. */
void desc_set_accessed(struct soft_vcpu *v, struct desc *d);
void seg_unpack(struct cpu_seg *s, u16 sel, u64 raw);
void seg_null(struct cpu_seg *s, u16 sel, unsigned dpl);
/* Loads a segment as in real or V86 mode. */
void seg_load_real(struct soft_vcpu *v, unsigned seg, u16 sel);
/* After a return to an outer level: nulls every data segment that the new CPL may not see. */
void seg_revalidate(struct soft_vcpu *v);
/* Loads LDTR. vector: the exception that a bad selector raises (#GP or #TS); ext: its EXT bit. */
void ldt_load(struct soft_vcpu *v, u16 sel, unsigned vector, u32 ext);
bool lower_segment(struct soft_vcpu *v, const struct decoded *d, struct insn *i);

/* Do size bytes at offset off lie within the limit of stack segment s? */
bool seg_contains(const struct cpu_seg *s, u64 off, u64 size);

/* ---- task switch (task.c) ----------------------------------------------- */

enum task_why { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
struct task_event { /* what the switch is for */
    enum task_why why;
    u64 next;       /* EIP that the old task saves; v->rip is the instruction's own until the new task is loaded */
    u64 flags;      /* EFLAGS that it saves */
    u32 ext;        /* EXT bit of error codes */
    bool has_error; /* error is pushed on the new task's stack */
    u32 error;
};
/* d: the descriptor of the new TSS. The caller has fetched it and checked its type, DPL and presence. */
void task_switch(struct soft_vcpu *v, u16 sel, struct desc *d, const struct task_event *t);

/* ---- control registers, MSRs -------------------------------------------- */

bool soft_is_amd(const struct soft_vcpu *v); /* is the vendor that the guest sees AMD (or Hygon)? */
bool soft_has(const struct soft_vcpu *v, u32 function, u32 index, unsigned reg, unsigned bit);
/* CR3 as a task switch or MOV loads it; raises #GP(0) for reserved bits and bad PDPTEs. */
void cr3_load(struct soft_vcpu *v, u64 value);
static inline u64 soft_tsc(const struct soft_vcpu *v)
{
    return __builtin_ia32_rdtsc() + v->tsc_offset;
}
soft_fn op_rdmsr, op_wrmsr;
bool lower_legacy(struct soft_vcpu *v, const struct decoded *d, struct insn *i);

/* ---- gates (system_gate.c) ---------------------------------------------- */

void soft_cpuid(struct soft_vcpu *v, u32 function, u32 index, u32 out[4]);
int soft_msr_read_machine(struct soft_vcpu *v, u32 msr, u64 *value);
int soft_msr_write_machine(struct soft_vcpu *v, u32 msr, u64 value);
s64 soft_hypercall(struct soft_vcpu *v, u64 number, const u64 arg[4]);
u8 soft_cr8_read(struct soft_vcpu *v);
void soft_cr8_write(struct soft_vcpu *v, u8 value);

/* control_registers.c */
soft_fn op_mov_from_cr, op_mov_to_cr, op_clts, op_smsw, op_lmsw;

/* debug_registers.c */
soft_fn op_mov_from_dr, op_mov_to_dr;
void check_io_bp(struct soft_vcpu *v, u16 port, unsigned size);

#endif
