/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_guest_machine.c - what surrounds the guest's processor: the port on which a run ends, a page of a device, and what
 * cuts a run: kicks and interrupts, by the device when it is accessed, and by a thread at any time.
 */
#include "user_guest.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static u64 port_read(void *m, u16 port, unsigned size) { return ~0ull; }
static void port_write(void *m, u16 port, unsigned size, u64 value)
{
    struct guest *g = m;
    g->exited = true;
    engine_soft.kick(g->vcpu[g->now]);
}

static void interrupt(struct guest *g)
{
    __atomic_store_n(&g->line, 1, __ATOMIC_SEQ_CST);
    engine_soft.signal(g->vcpu[g->now], SIGNAL_INTR, 1);
}

static void prod(struct guest *g)
{
    if (!g->prodded || !chance(&g->rng, 30))
        return;
    g->cuts++;
    switch (rng_below(&g->rng, 4)) {
    case 0: engine_soft.kick(g->vcpu[g->now]); break;
    case 1: engine_soft.signal(g->vcpu[g->now], SIGNAL_NMI, 0); break;
    default: interrupt(g); break;
    }
}

static u64 mmio_read(void *m, u32 vcpu, u64 gpa, unsigned size)
{
    struct guest *g = m;
    u64 value = 0;
    if (gpa < DEVICE_GPA || gpa + size > DEVICE_GPA + DEVICE_SIZE)
        return ~0ull;
    memcpy(&value, g->device + (gpa - DEVICE_GPA), size);
    prod(g);
    return value;
}
static void mmio_write(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value)
{
    struct guest *g = m;
    if (gpa < DEVICE_GPA || gpa + size > DEVICE_GPA + DEVICE_SIZE)
        return;
    memcpy(g->device + (gpa - DEVICE_GPA), &value, size);
    prod(g);
}
/* Pieces of string instructions. */
static bool mmio_run(void *m, u32 vcpu, const struct bus_run *r)
{
    struct guest *g = m;
    if (!chance(&g->rng, 50))
        return false;
    const u64 before = r->down ? (u64)(r->count - 1) * r->size : 0, n = (u64)r->count * r->size;
    const u64 to = r->to - before - DEVICE_GPA, from = r->from - before - DEVICE_GPA;
    if ((!r->to_host && (to >= DEVICE_SIZE || to + n > DEVICE_SIZE)) ||
        (!r->from_host && !r->fill && (from >= DEVICE_SIZE || from + n > DEVICE_SIZE)))
        return false;
    for (u32 k = 0; k < r->count; k++) {
        const s64 at = r->down ? -(s64)k * r->size : (s64)k * r->size;
        u64 value = r->value;
        if (!r->fill)
            memcpy(&value, (r->from_host ? r->from_host : g->device + (r->from - DEVICE_GPA)) + at, r->size);
        memcpy((r->to_host ? r->to_host : g->device + (r->to - DEVICE_GPA)) + at, &value, r->size);
    }
    prod(g);
    return true;
}
static int interrupt_ack(void *m, u32 vcpu)
{
    struct guest *g = m;
    if (!__atomic_exchange_n(&g->line, 0, __ATOMIC_SEQ_CST))
        return -1;
    engine_soft.signal(g->vcpu[g->now], SIGNAL_INTR, 0);
    return FIRST_INTERRUPT + (int)rng_below(&g->rng, INTERRUPTS);
}
static u8 cr8_read(void *m, u32 vcpu) { return 0; }
static void cr8_write(void *m, u32 vcpu, u8 value) {}
static int msr_read(void *m, u32 vcpu, u32 msr, u64 *value) { return -1; }
static int msr_write(void *m, u32 vcpu, u32 msr, u64 value) { return -1; }

const struct engine_machine guest_machine = {
    port_read, port_write, mmio_read, mmio_write, interrupt_ack, cr8_read, cr8_write, msr_read, msr_write,
    .mmio_run = mmio_run,
};

/* What this program had of the processor: it has one only, which others may want, too. */
static u64 cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static void *rush(void *arg)
{
    struct guest *g = arg;
    struct rng r = {0x1234567};
    cpu_set_t any; /* the rest of this program stays on one */
    memset(&any, 0xff, sizeof(any));
    sched_setaffinity(0, sizeof(any), &any);
    u32 beat = 0;
    u64 since = cpu_ns();
    while (!__atomic_load_n(&g->rusher_ends, __ATOMIC_ACQUIRE)) {
        struct timespec t = {.tv_nsec = 20000 + rng_below(&r, 100000)};
        nanosleep(&t, NULL);
        u32 now = __atomic_load_n(&g->beat, __ATOMIC_ACQUIRE);
        if (now != beat || !(now & 1)) {
            beat = now;
            since = cpu_ns();
        }
        const bool endless = (s64)(cpu_ns() - since) >= 20000000000; /* in one run; the clock may go back a little */
        if (!__atomic_load_n(&g->rushed, __ATOMIC_ACQUIRE) && !endless)
            continue;
        if (endless)
            __atomic_store_n(&g->gave_up, true, __ATOMIC_RELEASE);
        struct engine_vcpu *v = g->vcpu[__atomic_load_n(&g->now, __ATOMIC_ACQUIRE)];
        if (chance(&r, 40) || endless) {
            engine_soft.kick(v);
        } else if (chance(&r, 30)) {
            engine_soft.signal(v, SIGNAL_NMI, 0);
        } else {
            __atomic_store_n(&g->line, 1, __ATOMIC_SEQ_CST);
            engine_soft.signal(v, SIGNAL_INTR, 1);
        }
    }
    return NULL;
}

void guest_start_rusher(struct guest *g)
{
    sigset_t all, old;
    if (g->has_rusher)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    g->has_rusher = pthread_create(&g->rusher, NULL, rush, g) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}
