/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvclock.c - filling in struct pvclock_vcpu_time_info and pvclock_wall_clock (linux: asm/pvclock-abi.h).
 *
 * TSC and system time advance together, so a vCPU's page is written when it is registered and when its TSC
 * is moved, and never again: nothing ticks on behalf of an idle guest.
 */
#include "machine/pvclock.h"

#include <string.h>
#include <time.h>

#include "base/loop.h"
#include "cpu/msr.h"

enum { SYSTEM_TIME_ENABLE = 1, TSC_STABLE = 1, TIME_INFO_SIZE = 32, NSEC = 1000000000 };

void pvclock_scale(u64 khz, u32 *mul, s8 *shift)
{
    u64 hz = khz * 1000, ns = NSEC;
    *shift = 0;
    /* mul = 2^32 * ns / hz has to be a 32-bit number with its top bit set: scale the ticks by powers of two. */
    while (hz > 2 * ns)
        hz >>= 1, (*shift)--;
    while (hz <= ns)
        hz <<= 1, (*shift)++;
    /* the division by the shifted, truncated hz would lose bits: divide by the true one */
    unsigned __int128 m = (unsigned __int128)ns << 32;
    m = *shift < 0 ? m << -*shift : m >> *shift;
    *mul = (u32)MIN(m / (khz * 1000), UINT32_MAX);
}

void pvclock_init(struct pvclock *p, struct memory *m, const struct cpuid_table *cpuid,
                  u64 (*tsc_now)(void *ctx, u32 vcpu), void *ctx)
{
    *p = (struct pvclock){ .memory = m, .cpus = MIN(cpuid->cpus, PVCLOCK_MAX_CPUS), .tsc_khz = MAX(cpuid->tsc_khz, 1),
                           .tsc_now = tsc_now, .ctx = ctx, .epoch = clock_ns() };
}

void pvclock_reset(struct pvclock *p)
{
    memset(p->system_time, 0, sizeof p->system_time);
    p->wall = 0;
    p->epoch = clock_ns();
    p->base_tsc = 0;
}

bool pvclock_owns_msr(u32 msr)
{
    return msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_SYSTEM_TIME || msr == MSR_KVM_WALL_CLOCK_NEW ||
           msr == MSR_KVM_SYSTEM_TIME_NEW;
}

u64 pvclock_system_time(const struct pvclock *p)
{
    return clock_ns() - p->epoch;
}

/* A page whose version is odd is being written: the guest, on another vCPU perhaps, waits. */
static void publish(struct pvclock *p, u64 gpa, u8 *info, u32 len)
{
    u32 version;
    if (memory_read(p->memory, gpa, &version, 4))
        return;
    version = (version | 1) + 2; /* odd, and newer */
    memcpy(info, &version, 4);
    if (memory_write(p->memory, gpa, info, len))
        return;
    __atomic_thread_fence(__ATOMIC_RELEASE); /* pairs with the read barriers in the guest's pvclock_read_begin */
    version++;
    (void)!memory_write(p->memory, gpa, &version, 4);
}

/* The two clocks read as close together as user space can: a try in which the host ran something else is not taken. */
static void sample(struct pvclock *p, u32 vcpu, u64 *tsc, u64 *now)
{
    u64 best = ~0ull;
    for (int k = 0; k < 8; k++) {
        u64 before = p->tsc_now(p->ctx, vcpu), ns = pvclock_system_time(p), gap = p->tsc_now(p->ctx, vcpu) - before;
        if (gap < best) {
            best = gap;
            *tsc = before + gap / 2;
            *now = ns;
        }
    }
}

/* The common moment, unless this vCPU's TSC was moved away from the others' (10 ms is more than the clocks drift apart
   while processors come up). */
static void moment(struct pvclock *p, u32 vcpu, u64 *tsc, u64 *now)
{
    sample(p, vcpu, tsc, now);
    while (__atomic_test_and_set(&p->base_lock, __ATOMIC_ACQUIRE))
        ;
    if (!p->base_tsc) {
        p->base_tsc = *tsc;
        p->base_ns = *now;
    } else {
        s64 ticks = (s64)(*tsc - p->base_tsc), passed = (s64)(*now - p->base_ns);
        s64 apart = passed - (s64)((__int128)ticks * 1000000 / (s64)p->tsc_khz);
        if (apart > -10000000 && apart < 10000000) {
            *tsc = p->base_tsc;
            *now = p->base_ns;
        }
    }
    __atomic_clear(&p->base_lock, __ATOMIC_RELEASE);
}

static void write_time(struct pvclock *p, u32 vcpu)
{
    u64 msr = p->system_time[vcpu], tsc = 0, now = 0;
    u8 info[TIME_INFO_SIZE] = { 0 };
    u32 mul;
    s8 shift;

    if (!(msr & SYSTEM_TIME_ENABLE))
        return;
    moment(p, vcpu, &tsc, &now);
    pvclock_scale(p->tsc_khz, &mul, &shift);
    memcpy(info + 8, &tsc, 8);
    memcpy(info + 16, &now, 8);
    memcpy(info + 24, &mul, 4);
    info[28] = (u8)shift;
    info[29] = TSC_STABLE;
    publish(p, msr & ~1ull, info, sizeof info);
}

static void write_wall(struct pvclock *p)
{
    struct timespec ts;
    u8 info[12] = { 0 };

    clock_gettime(CLOCK_REALTIME, &ts);
    u64 boot = (u64)ts.tv_sec * NSEC + (u64)ts.tv_nsec - pvclock_system_time(p);
    u32 sec = (u32)(boot / NSEC), nsec = (u32)(boot % NSEC);
    memcpy(info + 4, &sec, 4);
    memcpy(info + 8, &nsec, 4);
    publish(p, p->wall, info, sizeof info);
}

int pvclock_msr_read(struct pvclock *p, u32 vcpu, u32 msr, u64 *value)
{
    if (!pvclock_owns_msr(msr) || vcpu >= p->cpus)
        return -1;
    *value = msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_WALL_CLOCK_NEW ? p->wall : p->system_time[vcpu];
    return 0;
}

int pvclock_msr_write(struct pvclock *p, u32 vcpu, u32 msr, u64 value)
{
    if (!pvclock_owns_msr(msr) || vcpu >= p->cpus)
        return -1;
    if (msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_WALL_CLOCK_NEW) {
        p->wall = value;
        write_wall(p);
    } else {
        p->system_time[vcpu] = value;
        write_time(p, vcpu);
    }
    return 0;
}

void pvclock_tsc_changed(struct pvclock *p, u32 vcpu)
{
    write_time(p, vcpu);
}

static int before_save(void *obj)
{
    struct pvclock *p = obj;
    p->age = pvclock_system_time(p);
    return 0;
}

/* The system time goes on from where it was; the pages are written again by pvclock_tsc_changed when the vCPUs
   have their TSCs. */
static int loaded(void *obj, struct error *err)
{
    struct pvclock *p = obj;
    (void)err;
    p->epoch = clock_ns() - p->age;
    p->base_tsc = 0;
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct pvclock, age, 1),
    STATE_FIELD(struct pvclock, wall, 1),
    STATE_ARRAY(struct pvclock, system_time, 1),
    STATE_END,
};
const struct state_desc pvclock_state = { "pvclock", 1, fields, before_save, loaded };
