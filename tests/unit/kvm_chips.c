/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_chips.c - what KVM keeps in the kernel, through the engine's door: the interrupt
 * controllers and the PIT in and out in our form, lines and messages, the dirty log,
 * the clock, and a vCPU kicked from another thread.
 */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/engine.h"

static u64 port_read(void *m, u16 port, unsigned size) { return ~0ull; }
static void port_write(void *m, u16 port, unsigned size, u64 value) {}
static u64 mmio_read(void *m, u32 vcpu, u64 gpa, unsigned size) { return ~0ull; }
static void mmio_write(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value) {}
static const struct engine_machine ops = { .port_read = port_read, .port_write = port_write, .mmio_read = mmio_read,
                                           .mmio_write = mmio_write };

struct rig {
    struct engine_caps caps;
    struct cpuid_table cpuid;
    struct memory *memory;
    struct engine_vm *vm;
    struct engine_vcpu *v[2];
};

static struct rig *rig_up(void)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct error err = { "" };
    struct cpuid_request rq = { .cpus = 2, .supported = &r->caps.supported };
    struct engine_config cfg = { .cpuid = &r->cpuid, .ops = &ops, .cpus = 2 };

    if (engine_kvm.probe(&r->caps, &err)) {
        printf("no KVM here: %s\n", err.text);
        free(r);
        exit(TEST_SKIP);
    }
    r->memory = cfg.memory = memory_new(&err);
    if (!r->memory || cpuid_build(&r->cpuid, &rq, &err) || memory_add(r->memory, "ram", 0, MiB(2), false, &err) ||
        memory_add(r->memory, "rom", MiB(4), MiB(1), true, &err) || engine_kvm.vm_create(&r->vm, &cfg, &err) ||
        engine_kvm.vcpu_create(r->vm, 0, &r->v[0], &err) || engine_kvm.vcpu_create(r->vm, 1, &r->v[1], &err))
        test_fail(__FILE__, __LINE__, "%s", err.text);
    return r;
}

static void rig_down(struct rig *r)
{
    for (int i = 0; i < 2; i++)
        engine_kvm.vcpu_destroy(r->v[i]);
    engine_kvm.vm_destroy(r->vm);
    memory_free(r->memory);
    free(r);
}

TEST(chips_round_trip)
{
    struct rig *r = rig_up();
    struct irqchip_pic pic = { .imr = 0xa5, .irr = 0x02, .lines = 0x12, .isr = 0x10, .irq_base = 0x28, .priority_add = 3,
                               .read_isr = true, .elcr = 0x0c, .elcr_mask = 0xde, .auto_eoi = true }, pic2 = { 0 };
    CHECK_EQ(engine_kvm.irqchip_set(r->vm, IRQCHIP_PIC_SLAVE, &pic), 0);
    CHECK_EQ(engine_kvm.irqchip_get(r->vm, IRQCHIP_PIC_SLAVE, &pic2), 0);
    CHECK(!memcmp(&pic, &pic2, sizeof(pic)));
    CHECK_EQ(engine_kvm.irqchip_get(r->vm, IRQCHIP_PIC_MASTER, &pic2), 0);
    CHECK(pic2.irq_base != 0x28); /* the other chip is another chip */

    struct irqchip_ioapic io = { .base_address = 0xfec00000, .ioregsel = 0x12, .id = 3 }, io2 = { 0 };
    for (int i = 0; i < 24; i++)
        io.redirect[i] = 0x10000 | (u64)(0x30 + i) | (u64)i << 56;
    CHECK_EQ(engine_kvm.irqchip_set(r->vm, IRQCHIP_IOAPIC, &io), 0);
    CHECK_EQ(engine_kvm.irqchip_get(r->vm, IRQCHIP_IOAPIC, &io2), 0);
    CHECK(!memcmp(&io, &io2, sizeof(io)));

    struct irqchip_pit pit = { .speaker_data_on = true }, pit2 = { 0 };
    pit.channel[0] = (struct irqchip_pit_channel){ .count = 1193, .rw_mode = 3, .mode = 2, .gate = 1 };
    pit.channel[2] = (struct irqchip_pit_channel){ .count = 0, .rw_mode = 3, .mode = 3, .gate = 1, .bcd = 0,
                                                   .latched_count = 77, .count_latched = 3, .count_load_time = 12345 };
    CHECK_EQ(engine_kvm.irqchip_set(r->vm, IRQCHIP_PIT, &pit), 0);
    CHECK_EQ(engine_kvm.irqchip_get(r->vm, IRQCHIP_PIT, &pit2), 0);
    CHECK_EQ(pit2.channel[0].count, 1193);
    CHECK_EQ(pit2.channel[0].mode, 2);
    CHECK_EQ(pit2.channel[2].count, 0);
    CHECK_EQ(pit2.channel[2].latched_count, 77);
    CHECK_EQ(pit2.channel[2].count_latched, 3);
    CHECK(pit2.channel[2].count_load_time != 0); /* KVM starts the counters anew: it keeps no phase */

    struct irqchip_lapic l, l2;
    CHECK_EQ(engine_kvm.lapic_get(r->v[1], &l), 0);
    CHECK_EQ(l.reg[2] >> 24, 1);  /* ID */
    CHECK_EQ(l.reg[3] & 0xff, 0x14); /* version */
    l.reg[0xf] = 0x1ff;
    l.reg[8] = 0x20;
    l.reg[0x32] = 0x20041;
    l.reg[0x38] = 1000;
    CHECK_EQ(engine_kvm.lapic_set(r->v[1], &l), 0);
    CHECK_EQ(engine_kvm.lapic_get(r->v[1], &l2), 0);
    CHECK_EQ(l2.reg[0xf], 0x1ff);
    CHECK_EQ(l2.reg[8], 0x20);
    CHECK_EQ(l2.reg[0x32], 0x20041);
    CHECK_EQ(l2.reg[0x38], 1000);
    rig_down(r);
}

TEST(lines_and_messages)
{
    struct rig *r = rig_up();
    struct irqchip_pic pic;
    struct irqchip_lapic l;
    CHECK_EQ(engine_kvm.irq_line(r->vm, 4, true), 0);
    CHECK_EQ(engine_kvm.irqchip_get(r->vm, IRQCHIP_PIC_MASTER, &pic), 0);
    CHECK_EQ(pic.irr & 0x10, 0x10);
    CHECK_EQ(engine_kvm.irq_line(r->vm, 4, false), 0);
    CHECK_EQ(engine_kvm.irq_line(r->vm, 12, true), 0);
    CHECK_EQ(engine_kvm.irqchip_get(r->vm, IRQCHIP_PIC_SLAVE, &pic), 0);
    CHECK_EQ(pic.irr & 0x10, 0x10);
    CHECK(engine_kvm.irq_line(r->vm, 24, true) < 0);
    CHECK(engine_kvm.irq_line(r->vm, ~0u, true) < 0);

    CHECK_EQ(engine_kvm.lapic_get(r->v[1], &l), 0);
    l.reg[0xf] = 0x1ff;
    CHECK_EQ(engine_kvm.lapic_set(r->v[1], &l), 0);
    CHECK_EQ(engine_kvm.msi(r->vm, 0xfee01000, 0x4051), 0); /* to APIC ID 1, vector 51h */
    CHECK_EQ(engine_kvm.lapic_get(r->v[1], &l), 0);
    CHECK_EQ(l.reg[0x22] >> 17 & 1, 1);
    rig_down(r);
}

TEST(clock)
{
    struct rig *r = rig_up();
    u64 ns = 0;
    if (engine_kvm.clock_set(r->vm, 5000000000u) == 0) {
        CHECK_EQ(engine_kvm.clock_get(r->vm, &ns), 0);
        CHECK(ns >= 5000000000u && ns < 65000000000u);
    }
    rig_down(r);
}

/* Stores into two pages, then a jump to itself. */
static const u8 stores[] = { 0xb0, 0x55, 0xa2, 0x00, 0x30, 0xa2, 0x34, 0x50, 0xeb, 0xfe };

struct kicker {
    struct rig *r;
    bool stop;
};

static void *kick_often(void *arg)
{
    struct kicker *k = arg;
    while (!__atomic_load_n(&k->stop, __ATOMIC_SEQ_CST)) {
        engine_kvm.kick(k->r->v[0]);
        engine_kvm.kick(k->r->v[1]);
        usleep(200);
    }
    return NULL;
}

TEST(kick_and_dirty_log)
{
    static struct cpu_state s;
    struct rig *r = rig_up();
    struct kicker k = { .r = r };
    struct error err;
    pthread_t t;
    u64 dirty[8];

    memcpy(r->memory->piece[0].host + 0x1000, stores, sizeof(stores));
    cpu_reset(&s, true);
    s.seg[CS].selector = 0;
    s.seg[CS].base = 0;
    s.rip = 0x1000;
    CHECK_EQ(engine_kvm.set_state(r->v[0], &s), 0);
    CHECK_EQ(engine_kvm.dirty_enable(r->vm, true), 0);
    CHECK_EQ(engine_kvm.dirty_sync(r->vm), 0);
    memory_dirty_take(r->memory, &r->memory->piece[0], dirty);
    engine_kvm.kick(r->v[0]); /* before the run: it must not be lost */
    CHECK_EQ(engine_kvm.run(r->v[0], &err), RUN_KICKED);

    pthread_create(&t, NULL, kick_often, &k);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(engine_kvm.run(r->v[0], &err), RUN_KICKED);
    for (int i = 0; i < 5; i++) /* CPU 1 waits for SIPI inside the kernel: a kick reaches it there */
        CHECK_EQ(engine_kvm.run(r->v[1], &err), RUN_KICKED);
    __atomic_store_n(&k.stop, true, __ATOMIC_SEQ_CST);
    pthread_join(t, NULL);

    CHECK_EQ(engine_kvm.get_state(r->v[0], &s), 0);
    CHECK_EQ(s.rip, 0x1008);
    CHECK_EQ(engine_kvm.dirty_sync(r->vm), 0);
    memory_dirty_take(r->memory, &r->memory->piece[0], dirty);
    CHECK_EQ(dirty[0] & 0xffffffff, 1 << 3 | 1 << 5);
    CHECK_EQ(engine_kvm.dirty_sync(r->vm), 0);
    memory_dirty_take(r->memory, &r->memory->piece[0], dirty);
    CHECK_EQ(dirty[0], 0);
    CHECK_EQ(engine_kvm.dirty_enable(r->vm, false), 0);
    rig_down(r);
}

TEST(choose)
{
    struct error why = { "" }, err = { "" };
    CHECK(engine_choose("qemu", &why, &err) == NULL);
    CHECK(strstr(err.text, "qemu"));
    CHECK(engine_choose("soft", &why, &err) == &engine_soft);
    why.text[0] = 0;
    CHECK(engine_choose("auto", &why, &err) != NULL);
    CHECK(why.text[0]);
    printf("auto: %s\n", why.text);
}
