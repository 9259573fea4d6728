/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq_threads.c - processors, devices and timers at the same interrupt controllers at the same time.  No interrupt may
 * be lost, no lock taken in the wrong order (-Db_sanitize=thread shows that), and in the end the pins tell the truth.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "base/loop.h"
#include "irq/gsi.h"
#include "test.h"

enum { CPUS = 4, ROUNDS = 10000, VECTOR_LEVEL = 0x60, VECTOR_IPI = 0x70, VECTOR_TIMER = 0x80, LEVEL_PIN = 10 };

struct rig {
    struct lapic_set *lapic;
    struct ioapic ioapic;
    struct pic pic;
    struct gsi gsi;
    struct loop *loop;
    bool intr[CPUS]; /* atomic: the pins as told */
    unsigned ipis_sent, ipis[CPUS], levels, timers; /* atomic */
    unsigned finished; /* processors and the device; atomic: all go on serving until all have finished */
};

static void intr(void *ctx, u32 vcpu, bool level) { __atomic_store_n(&((struct rig *)ctx)->intr[vcpu], level, __ATOMIC_SEQ_CST); }
static void ignore(void *ctx, u32 vcpu) {}
static void ignore_sipi(void *ctx, u32 vcpu, u8 vector) {}
static void eoi(void *ctx, u8 vector) { ioapic_eoi(&((struct rig *)ctx)->ioapic, vector); }
static int extint(void *ctx) { return pic_ack(&((struct rig *)ctx)->pic); }
static u64 tsc(void *ctx, u32 vcpu) { return clock_ns(); }
static u64 to_ns(void *ctx, u64 ticks) { return ticks; }
static void pic_out(void *ctx, bool level) { lapic_lint0(((struct rig *)ctx)->lapic, level); }
static const struct lapic_ops ops = { intr, ignore, ignore, ignore_sipi, eoi, extint, tsc, to_ns };

struct cpu {
    struct rig *rig;
    u32 id;
    unsigned seed;
};

static void serve(struct cpu *c)
{
    struct rig *r = c->rig;

    while (__atomic_load_n(&r->intr[c->id], __ATOMIC_SEQ_CST)) {
        int v = lapic_ack(r->lapic, c->id);

        if (v == VECTOR_IPI)
            __atomic_fetch_add(&r->ipis[c->id], 1, __ATOMIC_SEQ_CST);
        if (v == VECTOR_TIMER)
            __atomic_fetch_add(&r->timers, 1, __ATOMIC_SEQ_CST);
        if (v == VECTOR_LEVEL) { /* the device's register is read: it drops the line */
            gsi_set(&r->gsi, LEVEL_PIN, false);
            __atomic_fetch_add(&r->levels, 1, __ATOMIC_SEQ_CST);
        }
        if (v >= 0 && v < 16)
            pic_ops.write(&r->pic.port[0], 0, 1, 0x20);
        else if (v >= 0)
            lapic_mmio_write(r->lapic, c->id, 0xb0, 4, 0);
    }
}

static void *cpu_thread(void *arg)
{
    struct cpu *c = arg;
    struct rig *r = c->rig;

    for (unsigned i = 0; i < ROUNDS; i++) {
        switch (rand_r(&c->seed) % 4) {
        case 0: /* an IPI that is waited for, as in a remote call: none may be lost */
            if (c->id == 0) { /* the others serve while they work; it serves while it waits */
                u32 to = 1 + (u32)rand_r(&c->seed) % (CPUS - 1);
                unsigned had = __atomic_load_n(&r->ipis[to], __ATOMIC_SEQ_CST);

                lapic_mmio_write(r->lapic, 0, 0x310, 4, to << 24);
                lapic_mmio_write(r->lapic, 0, 0x300, 4, VECTOR_IPI);
                r->ipis_sent++;
                while (__atomic_load_n(&r->ipis[to], __ATOMIC_SEQ_CST) == had) {
                    serve(c);
                    sched_yield();
                }
            }
            break;
        case 1:
            lapic_mmio_write(r->lapic, c->id, 0x380, 4, 1000 + (u32)rand_r(&c->seed) % 100000);
            break;
        case 2:
            lapic_cr8_write(r->lapic, c->id, (u8)(rand_r(&c->seed) % 8));
            lapic_cr8_write(r->lapic, c->id, 0);
            break;
        default:
            gsi_set(&r->gsi, 3, i & 1); /* an edge to the 8259A */
            break;
        }
        serve(c);
    }
    __atomic_fetch_add(&r->finished, 1, __ATOMIC_SEQ_CST);
    /* The last timer fires when the loop's thread gets to run. */
    while (__atomic_load_n(&r->finished, __ATOMIC_SEQ_CST) < CPUS + 1 || !__atomic_load_n(&r->timers, __ATOMIC_SEQ_CST)) {
        serve(c);
        sched_yield();
    }
    serve(c);
    return NULL;
}

/* Raises its level-triggered line, and waits until it was served. */
static void *device_thread(void *arg)
{
    struct rig *r = arg;

    for (unsigned i = 1; i <= ROUNDS; i++) {
        gsi_set(&r->gsi, LEVEL_PIN, true);
        while (__atomic_load_n(&r->levels, __ATOMIC_SEQ_CST) < i)
            sched_yield();
    }
    __atomic_fetch_add(&r->finished, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *loop_thread(void *arg)
{
    CHECK_EQ(loop_run(arg), 0);
    return NULL;
}

TEST(at_the_same_time)
{
    struct rig r = { .loop = loop_new() };
    struct lapic_config lc = { .cpus = CPUS, .phys_bits = 40, .loop = r.loop, .ops = &ops, .ctx = &r };
    struct cpu cpu[CPUS];
    pthread_t t[CPUS], device, loop;
    unsigned ipis = 0;

    r.lapic = lapic_set_new(&lc);
    pic_init(&r.pic, pic_out, &r);
    ioapic_init(&r.ioapic, r.lapic);
    r.gsi = (struct gsi){ &r.pic, &r.ioapic };
    for (u32 i = 0; i < CPUS; i++) {
        lapic_mmio_write(r.lapic, i, 0xf0, 4, 0x1ff);
        lapic_mmio_write(r.lapic, i, 0xd0, 4, 1u << (24 + i));
        lapic_mmio_write(r.lapic, i, 0x320, 4, VECTOR_TIMER);
        lapic_mmio_write(r.lapic, i, 0x3e0, 4, 0xb);
    }
    pic_ops.write(&r.pic.port[0], 1, 1, 0xf7); /* only IRQ 3, vector 3 */
    ioapic_ops.write(&r.ioapic, 0, 4, 0x10 + 2 * LEVEL_PIN);
    ioapic_ops.write(&r.ioapic, 0x10, 4, 0x8900 | VECTOR_LEVEL); /* level, logical, lowest priority */
    ioapic_ops.write(&r.ioapic, 0, 4, 0x11 + 2 * LEVEL_PIN);
    ioapic_ops.write(&r.ioapic, 0x10, 4, 0x0f000000);

    CHECK_EQ(pthread_create(&loop, NULL, loop_thread, r.loop), 0);
    for (u32 i = 0; i < CPUS; i++) {
        cpu[i] = (struct cpu){ &r, i, 1234 + i };
        CHECK_EQ(pthread_create(&t[i], NULL, cpu_thread, &cpu[i]), 0);
    }
    CHECK_EQ(pthread_create(&device, NULL, device_thread, &r), 0);
    pthread_join(device, NULL);
    for (u32 i = 0; i < CPUS; i++)
        pthread_join(t[i], NULL);
    loop_stop(r.loop);
    pthread_join(loop, NULL);

    for (u32 i = 0; i < CPUS; i++) {
        CHECK(!lapic_pending(r.lapic, i) || i == 0); /* the 8259A may have risen after processor 0 left */
        ipis += r.ipis[i];
    }
    CHECK_EQ(r.levels, ROUNDS);
    CHECK_EQ(ipis, r.ipis_sent);
    CHECK(r.timers > 0);
    lapic_set_free(r.lapic);
    ioapic_destroy(&r.ioapic);
    pic_destroy(&r.pic);
    loop_free(r.loop);
}
