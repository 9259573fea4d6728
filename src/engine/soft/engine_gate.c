/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_gate.c - implements engine.h for the software engine: creation, setting and getting state, sleeping, and the calls
 * into the machine. Everything here may use libc: wherever the host's registers could hold the guest's vectors, these are
 * saved first (soft_vec_save).
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/apart.h"
#include "engine/soft/blocks.h"
#include "engine/soft/code_gate.h"
#include "engine/soft/core.h"
#include "engine/soft/direct/direct.h"
#include "engine/soft/soft.h"
#include "engine/soft/translate/translate.h"

struct engine_vm {
    struct soft_vm soft;
};
struct engine_vcpu {
    struct soft_vcpu soft;
};

static struct soft_vcpu *soft_of(struct engine_vcpu *v) { return &v->soft; }

/* ---- probe and VM ------------------------------------------------------- */

static int probe(struct engine_caps *caps, struct error *err)
{
    *caps = (struct engine_caps){.irqchip = false, .trace_exec = true, .no_direct = soft_direct_unfit()};
    return cpuid_soft_supported(&caps->supported, err);
}

static void vm_destroy(struct engine_vm *e)
{
    struct soft_vm *vm = &e->soft;
    soft_jit_free(vm);
    code_tables_free(vm);
    pthread_mutex_destroy(&vm->direct_lock);
    free(e);
}

static void device_wrote(void *vm, u64 place, u64 n)
{
    soft_code_written_by_device(vm, place, n);
}

/* The vCPU that caused the change acts on it before its next instruction, the others before their next block. */
static void remapped(struct soft_vm *vm)
{
    for (u32 k = 0; k < vm->cfg.cpus; k++) {
        struct soft_vcpu *o = __atomic_load_n(&vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o)
            soft_request(o, REQ_REMAP);
    }
}

static void map_changed(void *vm, const struct memory_region *was, const struct memory_region *now)
{
    (void)was, (void)now;
    remapped(vm);
}

static void a20(struct engine_vm *e, bool open)
{
    __atomic_store_n(&e->soft.a20_mask, open ? ~0ull : ~BIT(20), __ATOMIC_SEQ_CST);
    remapped(&e->soft);
}

static int vm_create(struct engine_vm **out, const struct engine_config *cfg, struct error *err)
{
    if (!cfg->cpus || cfg->cpus > ARRAY_SIZE(((struct soft_vm *)0)->vcpu))
        return error_set(err, EINVAL, "the software engine runs 1 to %zu CPUs",
                         ARRAY_SIZE(((struct soft_vm *)0)->vcpu));
    struct engine_vm *e = calloc(1, sizeof *e);
    if (!e)
        return error_set(err, ENOMEM, "out of memory");
    struct soft_vm *vm = &e->soft;
    vm->cfg = *cfg;
    vm->a20_mask = ~0ull;
    vm->phys_bits = cfg->cpuid->phys_bits;
    vm->lin_bits = 48;
    vm->vec_eager = SOFT_VEC_EAGER;
    vm->tsc_offset = 0 - __builtin_ia32_rdtsc();
    vm->pages = cfg->memory->fd_size >> GUEST_PAGE_SHIFT;
    pthread_mutex_init(&vm->direct_lock, NULL);
    vm->direct_polls = runner_polls();
    if (code_tables_new(vm)) {
        vm_destroy(e);
        return error_set(err, ENOMEM, "no address space for the code watch");
    }
    const int r = soft_jit_new(&e->soft);
    if (!r) {
        cfg->memory->written = device_wrote;
        cfg->memory->changed = map_changed;
        cfg->memory->ctx = vm;
    } else {
        vm_destroy(e);
        return error_set(err, -r, "cannot set up the translator: %s", strerror(-r));
    }
    *out = e;
    return 0;
}

/* ---- vCPU --------------------------------------------------------------- */

/* A vCPU holds addresses of code, and translated code addresses it by a register, so it is allocated apart from everything
   else (base/apart.h). A sanitizer guards its allocations itself, and finds leaks only in memory that it allocated. */
#ifdef __SANITIZE_ADDRESS__
static struct engine_vcpu *vcpu_alloc(void)
{
    void *p = NULL;
    return posix_memalign(&p, 64, sizeof(struct engine_vcpu)) ? NULL : memset(p, 0, sizeof(struct engine_vcpu));
}
static void vcpu_release(struct engine_vcpu *e) { free(e); }
#else
static struct engine_vcpu *vcpu_alloc(void) { return apart_alloc(sizeof(struct engine_vcpu)); }
static void vcpu_release(struct engine_vcpu *e) { apart_free(e, sizeof *e); }
#endif

static void vcpu_destroy(struct engine_vcpu *e)
{
    struct soft_vcpu *v = soft_of(e);
    __atomic_store_n(&v->vm->vcpu[v->id], NULL, __ATOMIC_RELEASE);
    soft_jit_detach(v);
    soft_direct_free(v);
    soft_native_free(v);
    soft_code_free(v);
    vcpu_release(e);
}

static void fill_isa(struct soft_vcpu *v)
{
    for (unsigned k = 0; k < ISA_COUNT; k++) {
        const struct isa_cpuid *b = &isa_cpuid[k];
        bool has = k == ISA_X86;
        if (!has) {
            u32 out[4];
            cpuid_query(v->vm->cfg.cpuid, v->id, 0, 0, 0, 0, b->function, b->index, out);
            has = (out[b->reg] >> b->bit & 1) && (v->isa[b->also / 64] >> (b->also % 64) & 1);
        }
        if (has)
            v->isa[k / 64] |= BIT(k % 64);
    }
}

static int vcpu_create(struct engine_vm *e, u32 id, struct engine_vcpu **out, struct error *err)
{
    struct engine_vcpu *ev;
    if (id >= e->soft.cfg.cpus)
        return error_set(err, EINVAL, "no such CPU: %u", id);
    if (!(ev = vcpu_alloc()))
        return error_set(err, ENOMEM, "out of memory");
    struct soft_vcpu *v = soft_of(ev);
    v->vm = &e->soft;
    v->id = id;
    v->spin = spin_for(e->soft.cfg.cpus + 1); /* + 1 for the loop's thread */
    v->delivering = -1;
    v->tsc_offset = v->vm->tsc_offset;
    fill_isa(v);
    int r = soft_code_new(v);
    if (!r)
        r = soft_native_new(v);
    if (!r)
        r = soft_jit_attach(v);
    if (!r && v->vm->direct_page)
        r = soft_direct_new(v);
    if (r) {
        vcpu_destroy(ev);
        return error_set(err, -r, "cannot set up a CPU of the software engine: %s", strerror(-r));
    }
    cpu_reset(&v->s, id == 0);
    if (v->vm->cfg.trace && v->vm->cfg.trace->exec)
        v->slow |= SLOW_TRACE;
    __atomic_store_n(&v->vm->vcpu[id], v, __ATOMIC_RELEASE);
    *out = ev;
    return 0;
}

/* PKRU is in v->pkru while the processor runs. In a state that others get or set, it is in component 9 of the XSAVE
   image. */
static bool pkru_place(const struct soft_vcpu *v, u32 *at)
{
    *at = cpuid_xsave_offset(v->vm->cfg.cpuid, 9);
    return *at && *at <= CPU_XSAVE_SIZE - sizeof v->pkru;
}
static void load_pkru(struct soft_vcpu *v)
{
    u64 xstate_bv;
    u32 at;
    memcpy(&xstate_bv, v->s.xsave + 512, sizeof xstate_bv);
    v->pkru = 0;
    if ((xstate_bv & BIT(9)) && pkru_place(v, &at))
        memcpy(&v->pkru, v->s.xsave + at, sizeof v->pkru);
}
static void store_pkru(struct soft_vcpu *v)
{
    u64 xstate_bv;
    u32 at;
    if (!pkru_place(v, &at))
        return;
    memcpy(&xstate_bv, v->s.xsave + 512, sizeof xstate_bv);
    xstate_bv = v->pkru ? xstate_bv | BIT(9) : xstate_bv & ~BIT(9);
    memcpy(v->s.xsave + 512, &xstate_bv, sizeof xstate_bv);
    memcpy(v->s.xsave + at, &v->pkru, sizeof v->pkru);
}

/* Computes everything that is derived from v->s. The gpr, rip and rflags of v->s must be up to date. */
static void derive(struct soft_vcpu *v)
{
    memcpy(v->gpr, v->s.gpr, sizeof v->s.gpr);
    v->gpr[REG_ZERO] = 0;
    v->rip = v->s.rip;
    v->rflags = v->s.rflags | RFLAGS_FIXED;
    v->cpl = (v->s.cr0 & CR0_PE) ? ((v->s.rflags & RFLAGS_VM) ? 3 : seg_dpl(&v->s.seg[SS])) : 0;
    v->slow &= SLOW_TRACE;
    if (v->s.sti_shadow || v->s.movss_shadow)
        v->slow |= SLOW_SHADOW;
    v->block = NULL;
    v->delivering = -1;
    v->db_pending = 0;
    v->fault.active = v->s.exception_pending;
    v->fault.vector = v->s.exception_vector;
    v->fault.has_error = v->s.exception_has_error;
    v->fault.error = v->s.exception_error;
    load_pkru(v);
    soft_update_mode(v);
    soft_flush_tlb(v);
    soft_update_fpu(v);
    soft_update_slow(v);
}

static void init_signal(const struct soft_vcpu *v, struct cpu_state *s)
{
    const struct cpuid_leaf *l = cpuid_leaf_find(v->vm->cfg.cpuid, 1, 0);
    cpu_init_signal(s, v->id == 0);
    s->gpr[RDX] = l ? l->eax : 0;
}

static int get_state(struct engine_vcpu *e, struct cpu_state *s)
{
    struct soft_vcpu *v = soft_of(e);
    soft_vec_save(v);
    store_pkru(v);
    memcpy(v->s.gpr, v->gpr, sizeof v->s.gpr);
    v->s.rip = v->rip;
    v->s.rflags = v->rflags;
    v->s.cr8 = v->vm->cfg.ops->cr8_read ? v->vm->cfg.ops->cr8_read(v->vm->cfg.machine, v->id) : 0;
    v->s.tsc = __builtin_ia32_rdtsc() + v->tsc_offset;
    u32 r = __atomic_load_n(&v->request, __ATOMIC_ACQUIRE);
    v->s.nmi_pending = r & (REQ_NMI | REQ_NMI2);
    v->s.sipi_pending = r & REQ_SIPI;
    v->s.sipi_vector = v->s.sipi_pending ? v->sipi_vector : 0;
    v->s.exception_pending = v->fault.active;
    v->s.exception_vector = v->fault.vector;
    v->s.exception_has_error = v->fault.has_error;
    v->s.exception_error = v->fault.error;
    *s = v->s; /* includes an interrupt that was accepted, if run() has not been called since the state was set */
    if (r & REQ_INIT) { /* it came after the processor stopped; the other events that wait came after the INIT */
        init_signal(v, s);
        s->nmi_pending = v->s.nmi_pending;
        s->sipi_pending = v->s.sipi_pending;
        s->sipi_vector = v->s.sipi_vector;
    }
    return 0;
}

static int set_state(struct engine_vcpu *e, const struct cpu_state *s)
{
    struct soft_vcpu *v = soft_of(e);
    v->vec_live = false; /* the vectors in the host's registers are dropped */
    v->s = *s;
    /* All processors of a VM share one TSC, except for what the guest added to its own. Processors whose states give an
       offset within one second of the shared one keep the shared one, as if they were of the same moment. The first state
       that is set always decides: the offset before it belongs to no state. */
    u64 offset = s->tsc - s->tsc_adjust - __builtin_ia32_rdtsc(), apart = offset - v->vm->tsc_offset;
    u64 second = v->vm->cfg.cpuid->tsc_khz * 1000;
    if ((s64)apart < 0)
        apart = 0 - apart;
    if (!s->tsc && !s->tsc_adjust && v->vm->cfg.direct)
        v->vm->tsc_offset = 0; /* after a reset it may be the host's, so that programs can read it directly */
    else if (apart > second || !v->vm->tsc_set)
        v->vm->tsc_offset = offset;
    v->vm->tsc_set = true;
    v->tsc_offset = v->vm->tsc_offset + s->tsc_adjust;
    v->sipi_vector = s->sipi_vector;
    derive(v);
    if (v->vm->cfg.ops->cr8_write)
        v->vm->cfg.ops->cr8_write(v->vm->cfg.machine, v->id, (u8)s->cr8);
    u32 keep = REQ_INTR | REQ_KICK | REQ_RESET_CACHES | REQ_REMAP;
    __atomic_fetch_and(&v->request, keep, __ATOMIC_ACQ_REL);
    __atomic_fetch_or(&v->request,
                      (s->nmi_pending ? REQ_NMI : 0) | (s->sipi_pending ? REQ_SIPI : 0) | REQ_RESET_CACHES,
                      __ATOMIC_ACQ_REL);
    return 0;
}

static u64 tsc_offset_of(struct engine_vcpu *e)
{
    return __atomic_load_n(&soft_of(e)->tsc_offset, __ATOMIC_RELAXED);
}

/* ---- running ------------------------------------------------------------ */

static u64 ns_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* While a processor does not run, another thread may touch what is the processor's own, but only while it holds the
   processor off. */
enum running { NOT_RUNNING, RUNNING, HELD_OFF };

static bool hold_off(struct soft_vcpu *v)
{
    u8 no = NOT_RUNNING;
    return __atomic_compare_exchange_n(&v->running, &no, HELD_OFF, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static enum run_result run(struct engine_vcpu *e, struct error *err)
{
    struct soft_vcpu *v = soft_of(e);
    if (v->s.interrupt_injected) { /* the state came from a stream: the interrupt is accepted, but not delivered yet */
        v->s.interrupt_injected = false;
        v->pending_vector = v->s.interrupt_vector;
        v->has_pending_vector = true;
    }
    for (u8 no = NOT_RUNNING; !__atomic_compare_exchange_n(&v->running, &no, RUNNING, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED); no = NOT_RUNNING)
        sched_yield();
    soft_jit_thread(v);
    const u64 since = ns_of(CLOCK_THREAD_CPUTIME_ID);
    enum run_result r = soft_run(v);
    v->stat.run_ns += ns_of(CLOCK_THREAD_CPUTIME_ID) - since;
    soft_jit_thread_end(v);
    soft_jit_idle(v);
    __atomic_store_n(&v->running, NOT_RUNNING, __ATOMIC_RELEASE);
    if (r == RUN_ERROR)
        error_set(err, EIO, "the software engine stopped at RIP %#llx: %s", (unsigned long long)v->rip,
                  v->error ? v->error : "unknown reason");
    return r;
}

static void wake(struct soft_vcpu *v)
{
    syscall(SYS_futex, &v->request, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void request(struct soft_vcpu *v, u32 bits)
{
    soft_request(v, bits);
    if (__atomic_load_n(&v->sleeping, __ATOMIC_SEQ_CST))
        wake(v);
}

static void kick(struct engine_vcpu *e)
{
    request(soft_of(e), REQ_KICK);
}

static void signal_vcpu(struct engine_vcpu *e, enum engine_signal sig, u32 arg)
{
    struct soft_vcpu *v = soft_of(e);
    switch (sig) {
    case SIGNAL_INTR:
        if (arg)
            request(v, REQ_INTR);
        else
            __atomic_fetch_and(&v->request, ~(u32)REQ_INTR, __ATOMIC_SEQ_CST);
        break;
    case SIGNAL_NMI: {
        u32 old = __atomic_load_n(&v->request, __ATOMIC_RELAXED), add;
        do /* one NMI may wait while another is served, and two if none is */
            add = !(old & REQ_NMI) ? REQ_NMI : __atomic_load_n(&v->s.nmi_masked, __ATOMIC_RELAXED) ? 0 : REQ_NMI2;
        while (!__atomic_compare_exchange_n(&v->request, &old, old | add, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
        request(v, 0); /* wakes the processor */
        break;
    }
    case SIGNAL_INIT:
        /* INIT drops the events that were pending when it came. A SIPI that comes after it stays, even if this processor
           has not seen the INIT yet. */
        __atomic_fetch_and(&v->request, ~(u32)(REQ_NMI | REQ_NMI2 | REQ_SIPI), __ATOMIC_SEQ_CST);
        request(v, REQ_INIT);
        break;
    case SIGNAL_SIPI:
        __atomic_store_n(&v->sipi_vector, (u8)arg, __ATOMIC_RELEASE);
        request(v, REQ_SIPI);
        break;
    }
}

/* True if the requests r include one that could end the present activity. */
static bool awake(const struct soft_vcpu *v, u32 r)
{
    if (r & (REQ_KICK | REQ_INIT | REQ_RESET_CACHES))
        return true;
    if (v->s.activity == CPU_WAIT_SIPI)
        return r & REQ_SIPI;
    return ((r & (REQ_NMI | REQ_NMI2)) && !v->s.nmi_masked) || ((r & REQ_INTR) && (v->rflags & RFLAGS_IF));
}

/* Polls for a request that ends the wait, as long as that may be cheaper than sleeping (v->spin.ns). True: there is one. */
static bool look(struct soft_vcpu *v, u64 since)
{
    if (!v->spin.ns)
        return false;
    do {
        for (unsigned k = 0; k < 32; k++) {
            if (awake(v, __atomic_load_n(&v->request, __ATOMIC_RELAXED)))
                return true;
            __builtin_ia32_pause();
        }
    } while (ns_of(CLOCK_MONOTONIC) - since < v->spin.ns);
    return false;
}

void soft_wait(struct soft_vcpu *v)
{
    soft_vec_save(v);
    const u64 since = ns_of(CLOCK_MONOTONIC);
    if (look(v, since))
        goto done;
    __atomic_store_n(&v->sleeping, true, __ATOMIC_SEQ_CST);
    for (;;) {
        u32 r = __atomic_load_n(&v->request, __ATOMIC_SEQ_CST);
        if (awake(v, r))
            break;
        syscall(SYS_futex, &v->request, FUTEX_WAIT_PRIVATE, r, NULL, NULL, 0);
    }
    __atomic_store_n(&v->sleeping, false, __ATOMIC_SEQ_CST);
done:;
    const u64 waited = ns_of(CLOCK_MONOTONIC) - since;
    spin_learn(&v->spin, waited);
    v->stat.waits++;
    v->stat.wait_ns += waited;
}

int soft_interrupt_ack(struct soft_vcpu *v)
{
    soft_vec_save(v);
    return v->vm->cfg.ops->interrupt_ack(v->vm->cfg.machine, v->id);
}

void soft_init_signal(struct soft_vcpu *v)
{
    soft_vec_save(v);
    store_pkru(v);
    memcpy(v->s.gpr, v->gpr, sizeof v->s.gpr);
    v->s.rflags = v->rflags;
    init_signal(v, &v->s);
    derive(v);
}

u64 soft_phys_load(struct soft_vcpu *v, u64 gpa, unsigned size)
{
    u64 x = 0;
    soft_vec_save(v);
    return memory_read(v->vm->cfg.memory, gpa, &x, size) ? soft_register_load(v, gpa, size) : x;
}

u64 soft_register_load(struct soft_vcpu *v, u64 gpa, unsigned size)
{
    soft_vec_save(v);
    v->stat.mmio_read++;
    const u64 x = v->vm->cfg.ops->mmio_read(v->vm->cfg.machine, v->id, gpa, size);
    soft_settle_map(v);
    return x;
}

void soft_phys_store(struct soft_vcpu *v, u64 gpa, unsigned size, u64 value)
{
    soft_vec_save(v);
    v->stat.mmio_write++;
    v->vm->cfg.ops->mmio_write(v->vm->cfg.machine, v->id, gpa, size, value);
    soft_settle_map(v);
}

bool soft_phys_run(struct soft_vcpu *v, const struct bus_run *r)
{
    const struct engine_machine *ops = v->vm->cfg.ops;
    soft_vec_save(v);
    if (!ops->mmio_run || !ops->mmio_run(v->vm->cfg.machine, v->id, r))
        return false;
    v->stat.mmio_write += r->to_host ? 0 : r->count;
    v->stat.mmio_read += r->from_host || r->fill ? 0 : r->count;
    soft_settle_map(v);
    return true;
}

/* ---- traces ------------------------------------------------------------- */

static void trace_state(struct soft_vcpu *v)
{
    memcpy(v->s.gpr, v->gpr, sizeof v->s.gpr);
    v->s.rip = v->rip;
    v->s.rflags = v->rflags;
}

void soft_trace_exec(struct soft_vcpu *v, const struct block *b)
{
    soft_vec_save(v);
    trace_state(v);
    u8 code[16] = {0};
    unsigned len = b->insn[0].len, here = MIN(len, 4096 - (unsigned)(b->place & 0xfff));
    u64 left;
    const u8 *p = memory_at(v->vm->cfg.memory, b->place, &left);
    if (p)
        memcpy(code, p, here);
    p = len > here ? memory_at(v->vm->cfg.memory, b->place2 & ~0xfffull, &left) : NULL;
    if (p)
        memcpy(code + here, p, len - here);
    v->vm->cfg.trace->exec(v->vm->cfg.trace->ctx, v->id, &v->s, code, len, v->bits);
}

void soft_trace_exception(struct soft_vcpu *v, unsigned vector, bool has_error, u32 error)
{
    const struct engine_trace *t = v->vm->cfg.trace;
    v->stat.vector[vector & 0xff]++;
    if (likely(!t || !t->exception))
        return;
    soft_vec_save(v);
    trace_state(v);
    t->exception(t->ctx, v->id, vector, has_error, error, &v->s);
}

/* ---- figures -------------------------------------------------------------- */

static void stats(struct engine_vm *e, int vcpu, void (*tell)(void *ctx, const struct engine_figure *f), void *ctx)
{
    if (vcpu < 0)
        soft_report_vm(&e->soft, tell, ctx);
    else
        soft_report_vcpu(e->soft.vcpu[vcpu], tell, ctx);
}

/* ---- dirty log ---------------------------------------------------------- */

/*
 * A page is marked as dirty when its TLB entry is opened for writing. After the log is taken, every page must be opened
 * anew, and a page that was open until then counts as written once more. This function does so for processors that do not
 * run. The others do it before their next block.
 */
static int dirty_sync(struct engine_vm *e)
{
    for (u32 k = 0; k < e->soft.cfg.cpus; k++) {
        struct soft_vcpu *v = e->soft.vcpu[k];
        if (!v)
            continue;
        if (!hold_off(v)) {
            soft_request(v, REQ_FLUSH);
            continue;
        }
        soft_drop_writable(v);
        __atomic_store_n(&v->running, NOT_RUNNING, __ATOMIC_RELEASE);
    }
    return 0;
}

static int dirty_enable(struct engine_vm *e, bool on)
{
    return on ? dirty_sync(e) : 0;
}

static void reset_caches(struct engine_vm *e)
{
    for (u32 k = 0; k < e->soft.cfg.cpus; k++)
        if (e->soft.vcpu[k])
            request(e->soft.vcpu[k], REQ_RESET_CACHES);
}

const struct engine_ops engine_soft = {
    .name = "soft",
    .probe = probe,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .run = run,
    .kick = kick,
    .signal = signal_vcpu,
    .get_state = get_state,
    .tsc_offset = tsc_offset_of,
    .set_state = set_state,
    .dirty_sync = dirty_sync,
    .dirty_enable = dirty_enable,
    .a20 = a20,
    .reset_caches = reset_caches,
    .stats = stats,
};
