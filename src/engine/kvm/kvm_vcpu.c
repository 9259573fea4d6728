/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_vcpu.c - creates, runs and interrupts a virtual processor on KVM.
 *
 * A kick cannot be lost. It first sets kvm_run.immediate_exit. KVM_RUN looks at that before it enters the guest, when it has
 * finished the access that caused the last exit. Then the kick sends a signal, which ends a KVM_RUN that is in the guest
 * already. So when a run ends, no half-done port or MMIO access is left in the kernel.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

/* ---- kick --------------------------------------------------------------- */

static void on_kick(int sig)
{
    (void)sig;
}

void kvm_install_kick(void)
{
    struct sigaction sa = { .sa_handler = on_kick }; /* without SA_RESTART, because KVM_RUN must return */
    sigemptyset(&sa.sa_mask);
    sigaction(kvm_kick_signal(), &sa, NULL);
}

static void interrupt_run(struct engine_vcpu *v)
{
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int tid = __atomic_load_n(&v->tid, __ATOMIC_SEQ_CST);
    if (tid)
        syscall(SYS_tgkill, getpid(), tid, kvm_kick_signal()); /* ESRCH is harmless: the thread has just ended */
}

void kvm_kick(struct engine_vcpu *v)
{
    __atomic_store_n(&v->kicked, true, __ATOMIC_SEQ_CST);
    interrupt_run(v);
}

void kvm_signal(struct engine_vcpu *v, enum engine_signal sig, u32 arg)
{
    u32 rq = 0;
    switch (sig) {
    case SIGNAL_INTR: return; /* the PIC is in the kernel */
    case SIGNAL_NMI: rq = KVM_DO_NMI; break;
    case SIGNAL_INIT: rq = KVM_DO_INIT; break;
    case SIGNAL_SIPI:
        __atomic_store_n(&v->sipi_vector, (u8)arg, __ATOMIC_SEQ_CST);
        rq = KVM_DO_SIPI;
        break;
    }
    __atomic_fetch_or(&v->request, rq, __ATOMIC_SEQ_CST);
    interrupt_run(v); /* vCPU ioctls wait for KVM_RUN to end, so the vCPU's own thread does it */
}

/* ---- create ------------------------------------------------------------- */

/* A KVM that cannot intercept CPUID in user mode shows features that were not asked for. This says which, because a guest
   may use them in its kernel, where such a KVM cannot run them. */
static void report_added_features(struct engine_vcpu *v, struct kvm_cpuid2 *c)
{
    char names[300] = "";
    size_t len = 0;

    c->nent = CPUID_MAX_LEAVES;
    if (kvm_vm_ioctl(v->fd, KVM_GET_CPUID2, c) < 0)
        return;
    for (u32 n = 0; cpu_feature_at(n); n++) {
        const struct cpu_feature *f = cpu_feature_at(n);
        for (u32 i = 0; i < c->nent && i < CPUID_MAX_LEAVES; i++) {
            const struct kvm_cpuid_entry2 *e = &c->entries[i];
            u32 r = f->reg == 0 ? e->eax : f->reg == 1 ? e->ebx : f->reg == 2 ? e->ecx : e->edx;
            if (e->function != f->function || e->index != f->index || !(r >> f->bit & 1) || cpuid_has(v->vm->cfg.cpuid, f))
                continue;
            len += (size_t)snprintf(names + len, sizeof(names) - len, " %s", f->name);
            if (len >= sizeof(names) - 24)
                goto out;
        }
    }
out:
    if (len)
        log_info("KVM here shows the guest CPU features that are not in its model:%s", names);
}

static int set_cpuid(struct engine_vcpu *v, struct error *err)
{
    const struct cpuid_table *t = v->vm->cfg.cpuid;
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX_LEAVES * sizeof(c->entries[0]));
    if (!c)
        return error_set(err, ENOMEM, "out of memory");
    for (u32 i = 0; i < t->n && i < CPUID_MAX_LEAVES; i++) {
        const struct cpuid_leaf *l = &t->leaf[i];
        u32 r[4];
        cpuid_query(t, v->id, 0, t->xcr0, 0, 0xfee00800, l->function, l->index, r);
        c->entries[c->nent++] = (struct kvm_cpuid_entry2){
            .function = l->function, .index = l->index, .flags = l->indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = r[0], .ebx = r[1], .ecx = r[2], .edx = r[3],
        };
    }
    int r = kvm_vm_ioctl(v->fd, KVM_SET_CPUID2, c);
    if (r >= 0 && v->id == 0)
        report_added_features(v, c);
    free(c);
    if (r < 0)
        return error_set(err, -r, "KVM does not take this CPU model: %s", strerror(-r));
    return 0;
}

static void set_tsc_khz(struct engine_vcpu *v)
{
    u64 want = v->vm->cfg.cpuid->tsc_khz;
    int have = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);
    if (have <= 0 || !want || (u64)have == want)
        return;
    if (ioctl(v->fd, KVM_SET_TSC_KHZ, want) < 0)
        log_warn("this host's TSC runs at %d kHz and KVM cannot scale it to the guest's %llu", have,
                 (unsigned long long)want);
}

void kvm_vcpu_destroy(struct engine_vcpu *v)
{
    if (!v)
        return;
    if (v->run != MAP_FAILED)
        munmap(v->run, v->vm->run_size);
    if (v->fd >= 0)
        close(v->fd);
    free(v);
}

int kvm_vcpu_create(struct engine_vm *vm, u32 id, struct engine_vcpu **out, struct error *err)
{
    struct engine_vcpu *v = calloc(1, sizeof(*v));
    if (!v)
        return error_set(err, ENOMEM, "out of memory");
    int r;
    v->vm = vm;
    v->id = id;
    v->run = MAP_FAILED;
    v->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);
    if (v->fd < 0) {
        r = error_set(err, errno, "KVM cannot make CPU %u: %s", id, strerror(errno));
        goto fail;
    }
    v->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED) {
        r = error_set(err, errno, "KVM's run area cannot be mapped: %s", strerror(errno));
        goto fail;
    }
    r = set_cpuid(v, err);
    if (r < 0)
        goto fail;
    set_tsc_khz(v);
    kvm_find_msrs(v);
    *out = v;
    return 0;
fail:
    kvm_vcpu_destroy(v);
    return r;
}

/* ---- exits -------------------------------------------------------------- */

static u64 get_le(const u8 *p, unsigned n)
{
    u64 v = 0;
    memcpy(&v, p, n);
    return v;
}

static void do_io(struct engine_vcpu *v)
{
    const struct engine_config *c = &v->vm->cfg;
    struct kvm_run *r = v->run;
    unsigned size = r->io.size;
    u8 *p = (u8 *)r + r->io.data_offset;

    for (u32 i = 0; i < r->io.count; i++, p += size) {
        if (r->io.direction == KVM_EXIT_IO_OUT) {
            c->ops->port_write(c->machine, r->io.port, size, get_le(p, size));
        } else {
            u64 x = c->ops->port_read(c->machine, r->io.port, size);
            memcpy(p, &x, size);
        }
    }
}

/* An access to memory comes here while its slot is being changed, or if the A20 gate masked its address. */
static u64 mmio_read(struct engine_vcpu *v, u64 gpa, u32 size)
{
    const struct engine_config *c = &v->vm->cfg;
    u64 x = 0;
    return memory_read(c->memory, gpa, &x, size) ? c->ops->mmio_read(c->machine, v->id, gpa, size) : x;
}

static void mmio_write(struct engine_vcpu *v, u64 gpa, u32 size, u64 value)
{
    const struct engine_config *c = &v->vm->cfg;
    if (memory_write(c->memory, gpa, &value, size))
        c->ops->mmio_write(c->machine, v->id, gpa, size, value);
}

/* KVM's emulator may cut an access that crosses a page into pieces of any size up to 8. */
static void do_mmio(struct engine_vcpu *v)
{
    struct kvm_run *r = v->run;
    u64 gpa = kvm_a20_masked(v->vm, r->mmio.phys_addr);
    u32 len = MIN(r->mmio.len, 8u);

    for (u32 at = 0; at < len;) {
        u32 size = 8;
        while (size > len - at || ((gpa + at) & (size - 1) && len != size))
            size /= 2;
        if (r->mmio.is_write) {
            mmio_write(v, gpa + at, size, get_le(r->mmio.data + at, size));
        } else {
            u64 x = mmio_read(v, gpa + at, size);
            memcpy(r->mmio.data + at, &x, size);
        }
        at += size;
    }
}

/* Puts " at CS:RIP, code BYTES" into buf: what the guest was executing when KVM gave up. */
static void where(struct engine_vcpu *v, char *buf, size_t size)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    u8 code[15];
    int n = 0;

    snprintf(buf, size, " (RIP unknown)");
    if (kvm_vm_ioctl(v->fd, KVM_GET_REGS, &regs) < 0 || kvm_vm_ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
        return;
    u64 lin = regs.rip + ((sregs.efer & EFER_LMA) && sregs.cs.l ? 0 : sregs.cs.base);
    for (; n < 15; n++) {
        struct kvm_translation t = { .linear_address = lin + (u64)n };
        if (kvm_vm_ioctl(v->fd, KVM_TRANSLATE, &t) < 0 || !t.valid ||
            memory_read(v->vm->cfg.memory, t.physical_address, &code[n], 1))
            break;
    }
    int len = snprintf(buf, size, " at %x:%llx, code", sregs.cs.selector, (unsigned long long)regs.rip);
    for (int i = 0; i < n && len + 4 < (int)size; i++)
        len += snprintf(buf + len, size - (size_t)len, " %02x", code[i]);
    if (n == 0 && len + 12 < (int)size)
        snprintf(buf + len, size - (size_t)len, " unreadable");
}

static enum run_result internal_error(struct engine_vcpu *v, struct error *err)
{
    char at[160];
    where(v, at, sizeof(at));
    switch (v->run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        error_set(err, EIO, "KVM on this host cannot emulate an instruction the guest executed%s; the engine soft can", at);
        break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        error_set(err, EIO, "KVM could not deliver an event to the guest%s", at);
        break;
    default:
        error_set(err, EIO, "KVM internal error %u%s", v->run->internal.suberror, at);
    }
    return RUN_ERROR;
}

/* True if an NMI on LINT1 reaches the processor. This must be asked here, because KVM_NMI does not ask the APIC in the
   kernel (linux/Documentation/virt/kvm/api.rst). If the APIC is disabled, it reaches the first processor only. */
static bool lint1_is_nmi(struct engine_vcpu *v)
{
    enum { APIC_ENABLE = 1 << 11, LVT_LINT1 = 0x36, DELIVERY = 7 << 8, DELIVERY_NMI = 4 << 8, MASKED = 1 << 16 };
    struct irqchip_lapic l;
    struct kvm_sregs s;

    if (kvm_vm_ioctl(v->fd, KVM_GET_SREGS, &s) >= 0 && !(s.apic_base & APIC_ENABLE))
        return v->id == 0;
    return kvm_lapic_get(v, &l) || (l.reg[LVT_LINT1] & (DELIVERY | MASKED)) == DELIVERY_NMI;
}

int kvm_do_requests(struct engine_vcpu *v)
{
    u32 rq = __atomic_exchange_n(&v->request, 0, __ATOMIC_SEQ_CST);
    if (!rq)
        return 0;
    if (rq & KVM_DO_INIT) {
        struct cpu_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));
        int r = s ? kvm_get_state(v, s) : -ENOMEM;
        if (r >= 0) {
            u32 signature[4];
            cpuid_query(v->vm->cfg.cpuid, v->id, 0, 1, 0, s->apic_base, 1, 0, signature);
            cpu_init_signal(s, s->apic_base & BIT(8));
            s->gpr[RDX] = signature[0];
            r = kvm_put_state(v, s);
        }
        free(s);
        if (r < 0)
            return r;
    }
    if (rq & KVM_DO_SIPI) {
        struct kvm_mp_state m;
        int r = kvm_vm_ioctl(v->fd, KVM_GET_MP_STATE, &m);
        if (r >= 0 && (m.mp_state == KVM_MP_STATE_INIT_RECEIVED || m.mp_state == KVM_MP_STATE_UNINITIALIZED)) {
            struct kvm_sregs s;
            struct kvm_regs g;
            u8 vector = __atomic_load_n(&v->sipi_vector, __ATOMIC_SEQ_CST);
            r = kvm_vm_ioctl(v->fd, KVM_GET_SREGS, &s);
            if (r >= 0)
                r = kvm_vm_ioctl(v->fd, KVM_GET_REGS, &g);
            s.cs.selector = (u16)(vector << 8);
            s.cs.base = (u64)vector << 12;
            g.rip = 0;
            m.mp_state = KVM_MP_STATE_RUNNABLE;
            if (r >= 0)
                r = kvm_vm_ioctl(v->fd, KVM_SET_SREGS, &s);
            if (r >= 0)
                r = kvm_vm_ioctl(v->fd, KVM_SET_REGS, &g);
            if (r >= 0)
                r = kvm_vm_ioctl(v->fd, KVM_SET_MP_STATE, &m);
        }
        if (r < 0)
            return r;
    }
    if (rq & KVM_DO_NMI && lint1_is_nmi(v))
        return kvm_vm_ioctl(v->fd, KVM_NMI, NULL);
    return 0;
}

static enum run_result run_loop(struct engine_vcpu *v, struct error *err)
{
    char at[160];

    for (;;) {
        const u32 changes = kvm_map_changes(v->vm);
        int r = ioctl(v->fd, KVM_RUN, 0);
        if (r < 0) {
            int e = errno;
            if (e == EINTR || e == EAGAIN) {
                /* This is cleared before the flags are read, so a kick that comes later sets it again (interrupt_run). */
                __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
                r = kvm_do_requests(v);
                if (r < 0) {
                    error_set(err, -r, "KVM refuses INIT, SIPI or NMI: %s", strerror(-r));
                    return RUN_ERROR;
                }
                if (__atomic_exchange_n(&v->kicked, false, __ATOMIC_SEQ_CST))
                    return RUN_KICKED;
                continue;
            }
            where(v, at, sizeof(at));
            error_set(err, e, "KVM stopped the guest: %s%s", strerror(e), at);
            return RUN_ERROR;
        }
        switch (v->run->exit_reason) {
        case KVM_EXIT_IO: do_io(v); break;
        case KVM_EXIT_MMIO: do_mmio(v); break;
        case KVM_EXIT_SHUTDOWN: v->shutdown = true; return RUN_SHUTDOWN;
        case KVM_EXIT_INTERNAL_ERROR: /* perhaps the slot of the code that it executes was just being changed */
            if (!kvm_map_moved(v->vm, changes))
                return internal_error(v, err);
            break;
        case KVM_EXIT_FAIL_ENTRY:
            where(v, at, sizeof(at));
            error_set(err, EIO, "the processor refuses to enter the guest, reason %llx%s",
                      (unsigned long long)v->run->fail_entry.hardware_entry_failure_reason, at);
            return RUN_ERROR;
        case KVM_EXIT_INTR:
        case KVM_EXIT_HLT:
        case KVM_EXIT_IRQ_WINDOW_OPEN:
        case KVM_EXIT_SET_TPR:
        case KVM_EXIT_IOAPIC_EOI: break;
        default:
            where(v, at, sizeof(at));
            error_set(err, EIO, "KVM exit %u is not known%s", v->run->exit_reason, at);
            return RUN_ERROR;
        }
    }
}

enum run_result kvm_run(struct engine_vcpu *v, struct error *err)
{
    int tid = (int)syscall(SYS_gettid);

    if (v->prepared_tid != tid) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, kvm_kick_signal());
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        v->prepared_tid = tid;
    }
    if (v->shutdown) /* it stays shut down until a state is set */
        return RUN_SHUTDOWN;
    __atomic_store_n(&v->tid, tid, __ATOMIC_SEQ_CST);
    enum run_result r = run_loop(v, err);
    __atomic_store_n(&v->tid, 0, __ATOMIC_SEQ_CST);
    return r;
}
