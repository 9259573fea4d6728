/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq_kernel.c - the twin of an in-kernel irqchip: what it saves our own chips load, and the reverse.  The engine is a
 * fake that keeps the register structs.
 */
#include "irq/kernel_irqchip.h"

#include <stdlib.h>

#include "irq_bench.h"

struct engine_vcpu {
    struct cpu_state s;
    struct irqchip_lapic lapic;
    bool lapic_before_base;
};
struct engine_vm {
    struct irqchip_pic pic[2];
    struct irqchip_ioapic ioapic;
    struct irqchip_pit pit;
    u32 lines;
    u64 msi_address;
    u32 msi_data;
    bool fail;
};

static int irq_line(struct engine_vm *vm, u32 gsi, bool level)
{
    vm->lines = level ? vm->lines | 1u << gsi : vm->lines & ~(1u << gsi);
    return 0;
}
static int msi(struct engine_vm *vm, u64 address, u32 data)
{
    vm->msi_address = address;
    vm->msi_data = data;
    return 0;
}
static int irqchip_get(struct engine_vm *vm, enum irqchip which, void *state)
{
    if (which <= IRQCHIP_PIC_SLAVE)
        memcpy(state, &vm->pic[which], sizeof(vm->pic[0]));
    else if (which == IRQCHIP_IOAPIC)
        memcpy(state, &vm->ioapic, sizeof(vm->ioapic));
    else
        memcpy(state, &vm->pit, sizeof(vm->pit));
    return 0;
}
static int irqchip_set(struct engine_vm *vm, enum irqchip which, const void *state)
{
    if (vm->fail)
        return -5;
    if (which <= IRQCHIP_PIC_SLAVE)
        memcpy(&vm->pic[which], state, sizeof(vm->pic[0]));
    else if (which == IRQCHIP_IOAPIC)
        memcpy(&vm->ioapic, state, sizeof(vm->ioapic));
    else
        memcpy(&vm->pit, state, sizeof(vm->pit));
    return 0;
}
static int get_state(struct engine_vcpu *v, struct cpu_state *s)
{
    *s = v->s;
    return 0;
}
static int set_state(struct engine_vcpu *v, const struct cpu_state *s)
{
    v->s = *s;
    return 0;
}
static int lapic_get(struct engine_vcpu *v, struct irqchip_lapic *s)
{
    *s = v->lapic;
    return 0;
}
static int lapic_set(struct engine_vcpu *v, const struct irqchip_lapic *s)
{
    v->lapic = *s;
    return 0;
}
static const struct engine_ops fake = {
    .name = "fake", .irq_line = irq_line, .msi = msi, .irqchip_get = irqchip_get, .irqchip_set = irqchip_set,
    .get_state = get_state, .set_state = set_state, .lapic_get = lapic_get, .lapic_set = lapic_set,
};

struct twin {
    struct engine_vm vm;
    struct engine_vcpu *vcpu[BENCH_CPUS];
    struct kernel_irqchip *k;
    struct state_list *list;
};

static void open_twin(struct twin *t)
{
    memset(t, 0, sizeof(*t));
    for (u32 i = 0; i < BENCH_CPUS; i++) {
        t->vcpu[i] = aligned_alloc(64, align_up(sizeof(struct engine_vcpu), 64));
        memset(t->vcpu[i], 0, sizeof(*t->vcpu[i]));
    }
    t->k = kernel_irqchip_new(&fake, &t->vm, t->vcpu, BENCH_CPUS);
    CHECK_EQ(kernel_irqchip_reset(t->k), 0);
    t->list = state_list_new();
    CHECK_EQ(kernel_irqchip_add_state(t->k, t->list), 0);
}
static void close_twin(struct twin *t)
{
    kernel_irqchip_free(t->k);
    state_list_free(t->list);
    for (u32 i = 0; i < BENCH_CPUS; i++)
        free(t->vcpu[i]);
}

/* Our own chips in the same list; the 8254 lives below irq/, so the twin's record of it is all there is to see here. */
static struct state_list *own_list(struct bench *b, struct pit_record *pit)
{
    static const struct state_desc pit_desc = { "i8254", PIT_STATE_VERSION, pit_record_fields, NULL, NULL };
    struct state_list *l = state_list_new();
    int r = state_add(l, &pic_state, 0, &b->pic);

    r |= ioapic_add_state(&b->ioapic, l);
    r |= state_add(l, &pit_desc, 0, pit);
    r |= lapic_add_state(b->lapic, l);
    CHECK_EQ(r, 0);
    return l;
}

TEST(reset_is_the_same)
{
    struct twin t;
    struct bench b;
    static const u32 reg[] = { 2, 3, 8, 0xd, 0xe, 0xf, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x3e };

    open_twin(&t);
    bench_open(&b);
    CHECK(memcmp(t.vm.pic, b.pic.chip, sizeof(t.vm.pic)) == 0);
    CHECK(memcmp(t.vm.ioapic.redirect, b.ioapic.s.chip.redirect, sizeof(t.vm.ioapic.redirect)) == 0);
    for (u32 c = 0; c < BENCH_CPUS; c++) {
        for (unsigned i = 0; i < ARRAY_SIZE(reg); i++)
            CHECK_EQ(t.vcpu[c]->lapic.reg[reg[i]], bench_read(&b, c, reg[i] << 4));
        CHECK_EQ(t.vcpu[c]->s.apic_base, lapic_apic_base(b.lapic, c));
    }
    bench_close(&b);
    close_twin(&t);
}

TEST(init_keeps_base_and_id)
{
    struct twin t;

    open_twin(&t);
    t.vcpu[1]->s.apic_base = 0xfee00c00;
    t.vcpu[1]->lapic.reg[2] = 1;
    t.vcpu[1]->lapic.reg[0xf] = 0x1ff;
    t.vcpu[1]->lapic.reg[0x38] = t.vcpu[1]->lapic.reg[0x39] = 1000;
    t.vcpu[1]->lapic.reg[0x22] = 1;
    CHECK_EQ(kernel_irqchip_init(t.k), 0);
    CHECK_EQ(t.vcpu[1]->s.apic_base, 0xfee00c00);
    CHECK_EQ(t.vcpu[1]->lapic.reg[2], 1);
    CHECK_EQ(t.vcpu[1]->lapic.reg[0xf], 0xff);
    CHECK_EQ(t.vcpu[1]->lapic.reg[0x38] | t.vcpu[1]->lapic.reg[0x39] | t.vcpu[1]->lapic.reg[0x22], 0);
    CHECK_EQ(t.vcpu[0]->lapic.reg[0x35], 0x700);
    close_twin(&t);
}

TEST(lines_and_messages)
{
    struct twin t;

    open_twin(&t);
    kernel_irqchip_line(t.k, 4, true);
    kernel_irqchip_line(t.k, 9, true);
    kernel_irqchip_line(t.k, 4, false);
    kernel_irqchip_line(t.k, 999, true);
    CHECK_EQ(t.vm.lines, 1u << 9);
    CHECK_EQ(kernel_irqchip_msi(t.k, 0x100fee01000, 0x41), 0);
    CHECK_EQ(t.vm.msi_data, 0x41);
    CHECK_EQ(t.vm.msi_address, 0x100fee01000);
    close_twin(&t);
}

TEST(both_ways)
{
    struct twin t;
    struct bench a, b;
    struct pit_record pit = { .channel[0] = { .count = 11932, .mode = 2, .rw_mode = 3, .gate = 1, .count_load_time = 5000000 },
                              .programmed = { true }, .counting = { true } };
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;
    struct state_list *la, *lb;

    /* Our chips in the middle of their work ... */
    bench_open(&a);
    bench_enable_all(&a);
    ioapic_ops.write(&a.ioapic, 0, 4, 0x10 + 2 * 9);
    ioapic_ops.write(&a.ioapic, 0x10, 4, 0x8077);
    gsi_set(&a.gsi, 9, true);
    gsi_set(&a.gsi, 4, true);
    CHECK_EQ(bench_rdmsr(&a, 0, 0x1b), 0xfee00900);
    bench_write(&a, 0, 0x3e0, 0xb);
    bench_write(&a, 0, 0x320, 0x200ee);
    bench_write(&a, 0, 0x380, 1000000);
    CHECK(bench_wrmsr(&a, 3, 0x1b, LAPIC_DEFAULT_BASE | 0xc00));
    CHECK(bench_wrmsr(&a, 3, 0x832, 0x400e0));
    CHECK(bench_wrmsr(&a, 3, 0x6e0, fake_now * 2 + 1000000));
    la = own_list(&a, &pit);
    CHECK_EQ(state_save(la, &one, &err), 0);

    /* ... go on in the kernel's ... */
    open_twin(&t);
    CHECK_EQ(state_load(t.list, one.data, one.len, &err), 0);
    CHECK_EQ(t.vm.pic[1].irr, a.pic.chip[1].irr);
    CHECK_EQ(t.vm.ioapic.redirect[9], 0x8077 | 0x4000);
    CHECK_EQ(t.vm.ioapic.irr, 1u << 9);
    CHECK_EQ(t.vm.pit.channel[0].count, 11932);
    CHECK_EQ(t.vm.pit.channel[0].count_load_time, fake_now - 5000000);
    CHECK_EQ(t.vm.pit.channel[1].mode, 0xff);
    CHECK_EQ(t.vcpu[0]->lapic.reg[0x38], 1000000);
    CHECK_EQ(t.vcpu[0]->lapic.reg[0x39], 1000000);
    CHECK_EQ(t.vcpu[3]->s.apic_base, LAPIC_DEFAULT_BASE | 0xc00);
    CHECK_EQ(t.vcpu[3]->s.tsc_deadline, fake_now * 2 + 1000000);
    CHECK_EQ(t.vcpu[3]->lapic.reg[2], 3u << 24);

    /* ... and come back as they were. */
    CHECK_EQ(state_save(t.list, &two, &err), 0);
    bench_open(&b);
    memset(&pit, 0, sizeof(pit));
    lb = own_list(&b, &pit);
    CHECK_EQ(state_load(lb, two.data, two.len, &err), 0);
    CHECK_EQ(pit.channel[0].count, 11932);
    CHECK(pit.programmed[0] && pit.counting[0] && !pit.programmed[1]);
    CHECK_EQ(bench_pending(&b), bench_pending(&a));
    CHECK_EQ(bench_read(&b, 0, 0x390), bench_read(&a, 0, 0x390));
    CHECK_EQ(bench_rdmsr(&b, 3, 0x6e0), bench_rdmsr(&a, 3, 0x6e0));
    CHECK_EQ(lapic_ack(b.lapic, 0), lapic_ack(a.lapic, 0));
    CHECK(memcmp(&a.ioapic.s, &b.ioapic.s, sizeof(a.ioapic.s)) == 0);
    CHECK(memcmp(a.pic.chip, b.pic.chip, sizeof(a.pic.chip)) == 0);

    t.vm.fail = true; /* what the engine refuses is told */
    CHECK_EQ(state_load(t.list, one.data, one.len, &err), -5);
    CHECK(strstr(err.text, "engine"));
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    close_twin(&t);
    bench_close(&a);
    bench_close(&b);
}
