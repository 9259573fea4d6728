/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_vm.c - a VM on /dev/kvm: what the host's KVM can do, the slots of memory and their dirty log, the clock.
 */
#include "engine/kvm/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"

int kvm_vm_ioctl(int fd, unsigned long rq, void *arg)
{
    int r;
    do
        r = ioctl(fd, rq, arg);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static int check(int fd, unsigned long cap)
{
    return ioctl(fd, KVM_CHECK_EXTENSION, cap);
}

static int open_kvm(struct error *err)
{
    int fd = opener_file(OPENER_ENGINE, "/dev/kvm", O_RDWR, 0);
    if (fd < 0) {
        int e = errno;
        if (e == ENOENT || e == ENXIO || e == ENODEV)
            return error_set(err, e, "there is no /dev/kvm on this host (no hardware virtualization, or the kvm module is "
                             "not loaded)");
        if (e == EACCES || e == EPERM)
            return error_set(err, e, "/dev/kvm may not be opened: %s; add yourself to the group that owns it (usually kvm)",
                             strerror(e));
        return error_set(err, e, "/dev/kvm cannot be opened: %s", strerror(e));
    }
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        close(fd);
        return error_set(err, ENOTSUP, "/dev/kvm speaks version %d of the interface, not %d", version, KVM_API_VERSION);
    }
    return fd;
}

static int check_capabilities(int fd, struct error *err)
{
    static const struct {
        u32 cap;
        const char *name;
    } needed[] = {
        { KVM_CAP_USER_MEMORY, "user memory" },     { KVM_CAP_IRQCHIP, "an interrupt controller" },
        { KVM_CAP_PIT2, "a PIT" },                  { KVM_CAP_PIT_STATE2, "the PIT's state" },
        { KVM_CAP_EXT_CPUID, "CPUID" },             { KVM_CAP_MP_STATE, "multiprocessor state" },
        { KVM_CAP_VCPU_EVENTS, "vCPU events" },     { KVM_CAP_DEBUGREGS, "debug registers" },
        { KVM_CAP_XSAVE, "XSAVE state" },           { KVM_CAP_XCRS, "XCR0" },
        { KVM_CAP_IMMEDIATE_EXIT, "immediate exit (Linux 4.13)" },
        { KVM_CAP_SIGNAL_MSI, "MSI" },              { KVM_CAP_IRQ_ROUTING, "interrupt routing" },
    };
    for (u32 i = 0; i < ARRAY_SIZE(needed); i++) {
        if (check(fd, needed[i].cap) <= 0)
            return error_set(err, ENOTSUP, "this host's KVM lacks %s", needed[i].name);
    }
    return 0;
}

/* ---- probe -------------------------------------------------------------- */

enum { CPUID_ENTRIES = 256 };

static int supported_cpuid(int fd, struct cpuid_table *t, struct error *err)
{
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_ENTRIES * sizeof(c->entries[0]));
    if (!c)
        return error_set(err, ENOMEM, "out of memory");
    c->nent = CPUID_ENTRIES;
    int r = kvm_vm_ioctl(fd, KVM_GET_SUPPORTED_CPUID, c);
    if (r < 0) {
        error_set(err, -r, "KVM does not say which CPUID it supports: %s", strerror(-r));
        goto out;
    }
    memset(t, 0, sizeof(*t));
    for (u32 i = 0; i < c->nent && i < CPUID_ENTRIES; i++) {
        const struct kvm_cpuid_entry2 *e = &c->entries[i];
        if (!(e->eax | e->ebx | e->ecx | e->edx))
            continue;
        bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        if (indexed && (e->index > 9 || (e->function != 4 && e->function != 7 && e->function != 0xd &&
                                         e->function != 0x8000001d)))
            continue;
        struct cpuid_leaf *l = cpuid_leaf_add(t, e->function, e->index, indexed);
        if (!l)
            break;
        l->eax = e->eax, l->ebx = e->ebx, l->ecx = e->ecx, l->edx = e->edx;
    }
    const struct cpuid_leaf *d = cpuid_leaf_find(t, 0xd, 0);
    t->xcr0 = d ? (u64)d->edx << 32 | d->eax : 1;

    /* Adds what KVM has but does not always list (api.rst 4.46), and the name of the processor. */
    struct cpuid_leaf *one = cpuid_leaf_add(t, 1, 0, false);
    if (check(fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
        one->ecx |= BIT(24);
    one->ecx |= BIT(31) | BIT(21); /* "hypervisor", and x2APIC, which comes with the irqchip */
    for (u32 f = 0x80000002; f <= 0x80000004; f++) {
        struct cpuid_leaf *l = cpuid_leaf_add(t, f, 0, false);
        if (l && !(l->eax | l->ebx | l->ecx | l->edx))
            __cpuid(f, l->eax, l->ebx, l->ecx, l->edx);
    }
    struct cpuid_leaf *pv = cpuid_leaf_add(t, 0x40000001, 0, false);
    if (pv)
        pv->eax |= BIT(1);
    cpuid_restrict(t, false);
    const struct cpuid_leaf *a8 = cpuid_leaf_find(t, 0x80000008, 0);
    t->phys_bits = a8 ? (u8)a8->eax : 36;
    t->lin_bits = 48;
    r = 0;
out:
    free(c);
    return r;
}

static int kvm_probe(struct engine_caps *caps, struct error *err)
{
    memset(caps, 0, sizeof(*caps));
    int fd = open_kvm(err);
    if (fd < 0)
        return fd;
    int vm = -1, r = check_capabilities(fd, err);
    if (!r)
        r = supported_cpuid(fd, &caps->supported, err);
    if (r < 0)
        goto out;
    vm = ioctl(fd, KVM_CREATE_VM, 0);
    if (vm < 0) {
        r = error_set(err, errno, "KVM cannot make a VM: %s%s", strerror(errno),
                      errno == EBUSY ? " (another hypervisor has the processor)" : "");
        goto out;
    }
    int most = check(fd, KVM_CAP_MAX_VCPUS);
    caps->supported.cpus = most > 0 && most < 255 ? (u32)most : 255;
    caps->supported.tsc_khz = host_tsc_khz();
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu >= 0) {
        int khz = ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
        if (khz > 0)
            caps->supported.tsc_khz = (u64)khz;
        close(vcpu);
    }
    caps->irqchip = true;
    r = 0;
out:
    if (vm >= 0)
        close(vm);
    close(fd);
    return r;
}

/* ---- memory ------------------------------------------------------------- */

static int worse(int a, int b)
{
    return a < b ? a : b;
}

/*
 * The number of a region's slot is its id. While the A20 gate is closed, the second MiB shows the first. Of the odd MiBs
 * only this one is masked: it is the one that real mode reaches, and the one that a guest looks at to find out whether the
 * gate is closed. A region below 2 MiB then has up to three slots: one for what it has in the first MiB, one for the image
 * of that in the second MiB, and one for what it has above the second MiB.
 */
enum { BEYOND = MEMORY_MAX_REGIONS, IMAGE = 2 * MEMORY_MAX_REGIONS };

/* Makes a slot of the part of r in [from, to), which the guest sees shift bytes higher up. */
static int set_part(struct engine_vm *vm, u32 slot, const struct memory_region *r, u64 from, u64 to, u64 shift)
{
    const u64 start = MAX(r->gpa, from), end = MIN(r->gpa + r->size, to);
    struct kvm_userspace_memory_region m = {
        .slot = slot, .guest_phys_addr = start + shift, .memory_size = end - start,
        .userspace_addr = (u64)(uintptr_t)(r->host + (start - r->gpa)),
    };
    if (start >= end)
        return 0;
    if (r->readonly && vm->has_readonly)
        m.flags |= KVM_MEM_READONLY;
    else if (vm->dirty_on)
        m.flags |= KVM_MEM_LOG_DIRTY_PAGES;
    return kvm_vm_ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &m);
}

static int set_slot(struct engine_vm *vm, const struct memory_region *r)
{
    if (!vm->a20_closed || r->gpa >= MiB(2))
        return set_part(vm, r->id, r, 0, UINT64_MAX, 0);
    int e = set_part(vm, r->id, r, 0, MiB(1), 0);
    e = worse(e, set_part(vm, IMAGE + r->id, r, 0, MiB(1), MiB(1)));
    return MIN(e, set_part(vm, BEYOND + r->id, r, MiB(2), UINT64_MAX, 0));
}

/* Deletes all slots that r may have. If one does not exist, the kernel answers EINVAL, which does no harm. */
static void delete_slot(struct engine_vm *vm, const struct memory_region *r)
{
    for (u32 k = 0; k <= IMAGE; k += MEMORY_MAX_REGIONS) {
        struct kvm_userspace_memory_region gone = { .slot = k + r->id };
        (void)kvm_vm_ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &gone);
    }
}

static int sync_part(struct engine_vm *vm, u32 slot, u64 place, u64 size)
{
    u64 words = ((size >> GUEST_PAGE_SHIFT) + 63) / 64;
    memset(vm->dirty_buf, 0, words * sizeof(u64));
    struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = vm->dirty_buf };
    int e = kvm_vm_ioctl(vm->vm_fd, KVM_GET_DIRTY_LOG, &log);
    for (u64 w = 0; e >= 0 && w < words; w++)
        for (u64 left = vm->dirty_buf[w]; left; left &= left - 1)
            memory_mark_dirty(vm->cfg.memory, place + ((w * 64 + (u64)__builtin_ctzll(left)) << GUEST_PAGE_SHIFT));
    return MIN(e, 0);
}

static int sync_slot(struct engine_vm *vm, const struct memory_region *r)
{
    const u64 end = r->gpa + r->size;
    int e = 0;
    if (!vm->dirty_on || r->readonly)
        return 0;
    if (!vm->a20_closed || r->gpa >= MiB(2))
        return sync_part(vm, r->id, r->place, r->size);
    if (r->gpa < MiB(1)) {
        e = sync_part(vm, r->id, r->place, MIN(end, MiB(1)) - r->gpa);
        e = worse(e, sync_part(vm, IMAGE + r->id, r->place, MIN(end, MiB(1)) - r->gpa));
    }
    if (end > MiB(2))
        e = worse(e, sync_part(vm, BEYOND + r->id, r->place + (MiB(2) - r->gpa), end - MiB(2)));
    return e;
}

/* Holds memory's lock meanwhile, because vCPU threads may change regions. */
static int kvm_dirty_sync(struct engine_vm *vm)
{
    struct memory *m = vm->cfg.memory;
    int r = 0;
    pthread_mutex_lock(&m->change);
    for (u32 i = 0; i < m->nregions && !r; i++)
        r = sync_slot(vm, &m->region[i]);
    pthread_mutex_unlock(&m->change);
    return r;
}

static int kvm_dirty_enable(struct engine_vm *vm, bool on)
{
    int r = 0;
    if (vm->dirty_on == on)
        return 0;
    if (!on)
        r = kvm_dirty_sync(vm); /* what was logged must not be lost */
    if (on && !vm->dirty_buf) {
        for (u32 i = 0; i < vm->cfg.memory->npieces; i++)
            vm->dirty_words = MAX(vm->dirty_words, ((vm->cfg.memory->piece[i].size >> GUEST_PAGE_SHIFT) + 63) / 64);
        vm->dirty_buf = calloc(MAX(vm->dirty_words, 1), sizeof(u64));
        if (!vm->dirty_buf)
            return -ENOMEM;
    }
    if (r < 0)
        return r;
    pthread_mutex_lock(&vm->cfg.memory->change);
    vm->dirty_on = on;
    for (u32 i = 0; !r && i < vm->cfg.memory->nregions; i++)
        r = set_slot(vm, &vm->cfg.memory->region[i]);
    pthread_mutex_unlock(&vm->cfg.memory->change);
    return r;
}

/* This is memory.changed. A slot cannot be made to show something else. It is deleted, which the kernel does at once for all
   vCPUs, and another is made. In between, an access of another vCPU comes to do_mmio, and a vCPU that executes code there
   gets an internal error. */
static void map_changed(void *p, const struct memory_region *was, const struct memory_region *now)
{
    struct engine_vm *vm = p;
    int r = 0;
    if (was) {
        r = sync_slot(vm, was);
        delete_slot(vm, was);
    }
    if (now)
        r = worse(r, set_slot(vm, now));
    __atomic_fetch_add(&vm->map_changes, 1, __ATOMIC_RELEASE);
    if (r < 0)
        log_guest("kvm: guest memory at %llx could not be changed: %s", (unsigned long long)(now ? now : was)->gpa,
                  strerror(-r));
}

bool kvm_map_moved(struct engine_vm *vm, u32 since)
{
    pthread_mutex_lock(&vm->cfg.memory->change);
    pthread_mutex_unlock(&vm->cfg.memory->change);
    return kvm_map_changes(vm) != since;
}

static void kvm_a20(struct engine_vm *vm, bool open)
{
    struct memory *m = vm->cfg.memory;
    int r = 0;
    pthread_mutex_lock(&m->change);
    if (vm->a20_closed == open) {
        for (u32 i = 0; i < m->nregions; i++)
            if (m->region[i].gpa < MiB(2)) {
                r = worse(r, sync_slot(vm, &m->region[i]));
                delete_slot(vm, &m->region[i]);
            }
        __atomic_store_n(&vm->a20_closed, !open, __ATOMIC_RELAXED);
        for (u32 i = 0; i < m->nregions; i++)
            if (m->region[i].gpa < MiB(2))
                r = worse(r, set_slot(vm, &m->region[i]));
        __atomic_fetch_add(&vm->map_changes, 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&m->change);
    if (r < 0)
        log_guest("kvm: address line 20 could not be switched: %s", strerror(-r));
}

/* ---- VM ----------------------------------------------------------------- */

static void kvm_vm_destroy(struct engine_vm *vm)
{
    if (!vm)
        return;
    if (vm->vm_fd >= 0)
        close(vm->vm_fd);
    if (vm->kvm_fd >= 0)
        close(vm->kvm_fd);
    free(vm->dirty_buf);
    free(vm);
}

static int kvm_vm_create(struct engine_vm **out, const struct engine_config *cfg, struct error *err)
{
    struct engine_vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return error_set(err, ENOMEM, "out of memory");
    vm->cfg = *cfg;
    vm->vm_fd = -1;
    int r = vm->kvm_fd = open_kvm(err);
    if (r < 0)
        goto fail;
    r = check_capabilities(vm->kvm_fd, err);
    if (r < 0)
        goto fail;
    int most = check(vm->kvm_fd, KVM_CAP_MAX_VCPUS);
    if (most > 0 && cfg->cpus > (u32)most) {
        r = error_set(err, EINVAL, "this host's KVM runs at most %d CPUs in a VM", most);
        goto fail;
    }
    vm->has_readonly = check(vm->kvm_fd, KVM_CAP_READONLY_MEM) > 0;
    r = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (r < (int)sizeof(struct kvm_run)) {
        r = error_set(err, ENOTSUP, "KVM's vCPU mapping is too small");
        goto fail;
    }
    vm->run_size = (u32)r;
    vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
    if (vm->vm_fd < 0) {
        r = error_set(err, errno, "KVM cannot make a VM: %s", strerror(errno));
        goto fail;
    }
    /* On Intel processors without "unrestricted guest", KVM needs three pages and another one for real mode. They lie where
       Lodge puts neither RAM nor firmware. */
    u64 identity = 0xfeffc000;
    kvm_vm_ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, 0xfeffd000ul);
    r = kvm_create_chips(vm, err);
    if (r < 0)
        goto fail;
    for (u32 i = 0; i < cfg->memory->nregions; i++) {
        r = set_slot(vm, &cfg->memory->region[i]);
        if (r < 0) {
            error_set(err, -r, "KVM does not take %llu MiB of guest memory at %llx: %s",
                      (unsigned long long)(cfg->memory->region[i].size >> 20),
                      (unsigned long long)cfg->memory->region[i].gpa, strerror(-r));
            goto fail;
        }
    }
    cfg->memory->changed = map_changed;
    cfg->memory->ctx = vm;
    kvm_install_kick();
    *out = vm;
    return 0;
fail:
    kvm_vm_destroy(vm);
    return r;
}

static void kvm_reset_caches(struct engine_vm *vm)
{
    (void)vm; /* KVM caches no code, so it sees what Lodge wrote to guest memory */
}

static int kvm_clock_get(struct engine_vm *vm, u64 *ns)
{
    struct kvm_clock_data c = { 0 };
    if (check(vm->kvm_fd, KVM_CAP_ADJUST_CLOCK) <= 0)
        return -ENOTSUP;
    int r = kvm_vm_ioctl(vm->vm_fd, KVM_GET_CLOCK, &c);
    *ns = c.clock;
    return r;
}

static int kvm_clock_set(struct engine_vm *vm, u64 ns)
{
    struct kvm_clock_data c = { .clock = ns };
    if (check(vm->kvm_fd, KVM_CAP_ADJUST_CLOCK) <= 0)
        return -ENOTSUP;
    return kvm_vm_ioctl(vm->vm_fd, KVM_SET_CLOCK, &c);
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .probe = kvm_probe,
    .vm_create = kvm_vm_create,
    .vm_destroy = kvm_vm_destroy,
    .vcpu_create = kvm_vcpu_create,
    .vcpu_destroy = kvm_vcpu_destroy,
    .run = kvm_run,
    .kick = kvm_kick,
    .signal = kvm_signal,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .irq_line = kvm_irq_line,
    .msi = kvm_msi,
    .irqchip_get = kvm_irqchip_get,
    .irqchip_set = kvm_irqchip_set,
    .lapic_get = kvm_lapic_get,
    .lapic_set = kvm_lapic_set,
    .dirty_sync = kvm_dirty_sync,
    .dirty_enable = kvm_dirty_enable,
    .a20 = kvm_a20,
    .reset_caches = kvm_reset_caches,
    .clock_get = kvm_clock_get,
    .clock_set = kvm_clock_set,
};
