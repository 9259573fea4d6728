/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.c - the run loop of one processor: blocks, events between them, faults.
 *
 * Order of events between instructions: SDM vol. 3 table 6-2 (priority among concurrent events).
 */
#include "engine/soft/blocks.h"
#include "engine/soft/core.h"
#include "engine/soft/direct/direct.h"
#include "engine/soft/translate/translate.h"

/* ---- faults ------------------------------------------------------------- */

static _Noreturn void raise_any(struct soft_vcpu *v, const struct insn *i, unsigned vector, bool has_error, u32 error)
{
    if (i)
        v->rip = RIP_START(v, i);
    v->fault.active = true;
    v->fault.vector = (u8)vector;
    v->fault.has_error = has_error;
    v->fault.error = error;
    _longjmp(v->escape, 1);
}

void soft_raise(struct soft_vcpu *v, const struct insn *i, unsigned vector)
{
    raise_any(v, i, vector, false, 0);
}
void soft_raise_err(struct soft_vcpu *v, const struct insn *i, unsigned vector, u32 error)
{
    raise_any(v, i, vector, true, error);
}
void soft_raise_pf(struct soft_vcpu *v, const struct insn *i, u64 linear, u32 error)
{
    v->s.cr2 = linear;
    raise_any(v, i, VEC_PF, true, error);
}
void soft_fail(struct soft_vcpu *v, const char *why)
{
    v->error = why;
    v->leave = RUN_ERROR;
    _longjmp(v->escape, 1);
}
void soft_retry_slow(struct soft_vcpu *v, const struct insn *i, enum soft_slow why)
{
    v->rip = RIP_START(v, i);
    v->slow |= why;
    _longjmp(v->escape, 1);
}

static bool contributory(unsigned vector)
{
    return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* Delivers v->fault. If it came while another was delivered, it can become a double fault or a shutdown (SDM vol. 3
   6.15). */
static void deliver_fault(struct soft_vcpu *v)
{
    unsigned vector = v->fault.vector;
    bool has_error = v->fault.has_error;
    u32 error = v->fault.error;
    int first = v->delivering;
    v->fault.active = false;
    v->db_pending = 0;
    if (first == VEC_DF) {
        v->delivering = -1;
        v->s.activity = CPU_SHUTDOWN;
        return;
    }
    if (first >= 0 && ((contributory((unsigned)first) && contributory(vector)) ||
                       (first == VEC_PF && (contributory(vector) || vector == VEC_PF)))) {
        vector = VEC_DF;
        has_error = true;
        error = 0;
    }
    v->delivering = (s8)vector;
    soft_trace_exception(v, vector, has_error, error);
    soft_deliver(v, vector, EVENT_FAULT, has_error, error);
    v->delivering = -1;
}

/* ---- requests from outside ---------------------------------------------- */

void soft_ask_others(struct soft_vcpu *v, u32 request)
{
    struct soft_vm *vm = v->vm;
    for (u32 k = 0; k < vm->cfg.cpus; k++) {
        struct soft_vcpu *o = __atomic_load_n(&vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o && o != v)
            soft_request(o, request);
    }
}

static bool take(struct soft_vcpu *v, u32 bit)
{
    if (!(__atomic_load_n(&v->request, __ATOMIC_ACQUIRE) & bit))
        return false;
    __atomic_fetch_and(&v->request, ~bit, __ATOMIC_ACQ_REL);
    return true;
}

static void begin_event(struct soft_vcpu *v)
{
    v->s.activity = CPU_RUNNING;
    v->delivering = -1;
}

/* Acts on requests; true: run() ends with RUN_KICKED. */
static bool requests(struct soft_vcpu *v)
{
    u32 r = __atomic_load_n(&v->request, __ATOMIC_ACQUIRE);
    if (r & REQ_FLUSH) {
        take(v, REQ_FLUSH);
        soft_drop_writable(v);
    }
    if (r & REQ_REMAP) {
        v->block = NULL;
        soft_map_changed(v);
    }
    if (r & REQ_RESET_CACHES) {
        take(v, REQ_RESET_CACHES);
        soft_flush_tlb(v);
        soft_code_flush(v);
        if (v->jit)
            soft_jit_retire_all(v);
    }
    if (r & REQ_INIT) {
        take(v, REQ_INIT);
        soft_init_signal(v);
    }
    if ((r & REQ_SIPI) && take(v, REQ_SIPI) && v->s.activity == CPU_WAIT_SIPI) {
        struct cpu_seg *cs = &v->s.seg[CS];
        cs->selector = (u16)(v->sipi_vector << 8);
        cs->base = (u64)v->sipi_vector << 12;
        v->rip = 0;
        v->s.activity = CPU_RUNNING;
        soft_update_mode(v);
    }
    /* A debug exception that MOV SS holds back is not part of the saved state, so it is taken before the run ends. */
    if ((r & REQ_KICK) && !(v->db_pending && v->s.movss_shadow)) {
        take(v, REQ_KICK);
        return true;
    }
    if (v->s.activity == CPU_WAIT_SIPI || v->s.activity == CPU_SHUTDOWN)
        return false;
    bool shadow = v->s.sti_shadow || v->s.movss_shadow;
    if ((r & (REQ_NMI | REQ_NMI2)) && !v->s.nmi_masked && !shadow) {
        if (!take(v, REQ_NMI2))
            take(v, REQ_NMI);
        begin_event(v);
        v->s.nmi_masked = true;
        soft_trace_exception(v, VEC_NMI, false, 0);
        soft_deliver(v, VEC_NMI, EVENT_NMI, false, 0);
        return false;
    }
    if ((r & REQ_INTR) && (v->rflags & RFLAGS_IF) && !shadow) {
        int vector = soft_interrupt_ack(v);
        if (vector >= 0) {
            begin_event(v);
            soft_trace_exception(v, (unsigned)vector, false, 0);
            soft_deliver(v, (unsigned)vector, EVENT_INTERRUPT, false, 0);
        }
    }
    return false;
}

/* ---- one instruction at a time ------------------------------------------ */

void soft_update_slow(struct soft_vcpu *v)
{
    u32 s = v->slow & ~(u32)(SLOW_TF | SLOW_DR);
    if (v->rflags & RFLAGS_TF)
        s |= SLOW_TF;
    if (v->s.dr7 & 0xff)
        s |= SLOW_DR;
    v->slow = s;
    soft_update_tlb_ctx(v);
}

/* Executes only the instruction at RIP, with the checks that are due before and after it. */
static void step(struct soft_vcpu *v)
{
    const bool rf = v->rflags & RFLAGS_RF, tf = v->rflags & RFLAGS_TF;
    if (v->slow & SLOW_DR) {
        const u64 hit = soft_check_code_bp(v, v->bits == 64 ? v->rip : (u32)(v->rip + v->s.seg[CS].base));
        if (hit) {
            v->db_pending |= hit;
            soft_take_db(v);
        }
    }
    struct block *b = soft_block_find(v, true);
    v->stat.steps++;
    if (v->slow & SLOW_TRACE)
        soft_trace_exec(v, b);
    /* A shadow that the previous instruction began ends with this one. The handler called below may begin a new one. */
    v->s.sti_shadow = v->s.movss_shadow = false;
    v->slow = (v->slow & ~(u32)(SLOW_SHADOW | SLOW_RF)) | SLOW_SMC;
    v->tf_blocked = false;
    v->block = b;
    v->gpr[REG_BLOCK] = v->rip;
    b->insn[0].fn(v, b->insn);
    v->slow &= ~(u32)SLOW_SMC;
    /* RF covers one instruction, unless this very one loaded it (IRET, which then asks for one more step). */
    if (rf && !(v->slow & SLOW_RF))
        v->rflags &= ~(u64)RFLAGS_RF;
    if (tf && !v->tf_blocked)
        v->db_pending |= BIT(14); /* DR6.BS */
    if (v->db_pending && !v->s.movss_shadow && v->s.activity != CPU_SHUTDOWN)
        soft_take_db(v);
}

/* ---- the loop ----------------------------------------------------------- */

static __attribute__((noinline)) enum run_result loop(struct soft_vcpu *v)
{
    u64 sp;
    __asm__("mov %%rsp, %0" : "=r"(sp));
    v->stack_floor = v->jit ? ~0ull : sp - KiB(64); /* the translator must see every block */
    v->leave = RUN_KICKED;
    v->error = NULL;
    if (_setjmp(v->escape)) {
        if (v->leave != RUN_KICKED)
            return v->leave;
        if (!v->fault.active)
            v->delivering = -1;
        v->in_string = false;
    }
    if (v->fault.active)
        deliver_fault(v);
    if (v->has_pending_vector) {
        v->has_pending_vector = false;
        soft_deliver(v, v->pending_vector, EVENT_INTERRUPT, false, 0);
    }
    for (;;) {
        if (unlikely(v->slow | __atomic_load_n(&v->request, __ATOMIC_RELAXED) |
                     __atomic_load_n(&v->poll, __ATOMIC_RELAXED) | v->s.activity)) {
            __atomic_store_n(&v->poll, 0, __ATOMIC_SEQ_CST);
            soft_code_settle(v);
            if (v->request && requests(v))
                return RUN_KICKED;
            if (v->s.activity == CPU_SHUTDOWN)
                return RUN_SHUTDOWN;
            if (v->s.activity != CPU_RUNNING) {
                soft_jit_idle(v);
                soft_wait(v);
                continue;
            }
            if (v->slow) {
                if (v->jit)
                    soft_jit_quiesce(v);
                step(v);
                continue;
            }
        }
        if (v->jit)
            soft_jit_quiesce(v);
        if (v->direct && v->cpl == 3) {
            const enum direct_result r = soft_direct_run(v);
            if (r == DIRECT_STEP)
                step(v);
            if (r != DIRECT_NO)
                continue;
        }
        struct block *b = soft_jc_block(v);
        if (unlikely(!b)) {
            b = soft_block_find(v, false);
            if (b->place2 == ~0ull && !(b->key & KEY_SINGLE)) {
                const u64 name = soft_code_name(v, v->rip);
                *soft_jc_slot(v, name) = (struct jc_entry){ name, v->jc_key, b };
            }
        }
        if (v->jit && soft_jit_run(v, b))
            continue;
        v->block = b;
        v->gpr[REG_BLOCK] = v->rip;
        v->stat.blocks++;
        v->stat.insns += b->n;
        b->insn[0].fn(v, b->insn);
    }
}

/* The caller is ordinary code, so the guest's vectors are saved from the host's registers however the loop returns. */
enum run_result soft_run(struct soft_vcpu *v)
{
    const enum run_result r = loop(v);
    soft_vec_save(v);
    return r;
}
