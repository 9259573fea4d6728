/* SPDX-License-Identifier: Apache-2.0 */
/* irq_bench.h - a set of local APICs, an I/O APIC and a PIC wired as a board wires them, with a fake engine and clock. */
#ifndef LODGE_TEST_IRQ_BENCH_H
#define LODGE_TEST_IRQ_BENCH_H

#include "fake_loop.h"
#include "irq/gsi.h"
#include "irq/lapic.h"
#include "test.h"

enum { BENCH_CPUS = 4 };

struct bench {
    struct lapic_set *lapic;
    struct ioapic ioapic;
    struct pic pic;
    struct gsi gsi;
    bool intr[BENCH_CPUS];
    unsigned nmi[BENCH_CPUS], init[BENCH_CPUS], sipi[BENCH_CPUS];
    u8 sipi_vector;
    unsigned eois;
};

static void bench_intr(void *ctx, u32 vcpu, bool level) { ((struct bench *)ctx)->intr[vcpu] = level; }
static void bench_nmi(void *ctx, u32 vcpu) { ((struct bench *)ctx)->nmi[vcpu]++; }
static void bench_init_cpu(void *ctx, u32 vcpu) { ((struct bench *)ctx)->init[vcpu]++; }
static void bench_sipi(void *ctx, u32 vcpu, u8 vector)
{
    ((struct bench *)ctx)->sipi[vcpu]++;
    ((struct bench *)ctx)->sipi_vector = vector;
}
static void bench_eoi(void *ctx, u8 vector)
{
    ((struct bench *)ctx)->eois++;
    ioapic_eoi(&((struct bench *)ctx)->ioapic, vector);
}
static int bench_extint(void *ctx) { return pic_ack(&((struct bench *)ctx)->pic); }
/* A TSC of 2 GHz. */
static u64 bench_tsc(void *ctx, u32 vcpu) { return fake_now * 2; }
static u64 bench_tsc_to_ns(void *ctx, u64 ticks) { return ticks / 2 + ticks % 2; }
static void bench_pic_out(void *ctx, bool level) { lapic_lint0(((struct bench *)ctx)->lapic, level); }

static const struct lapic_ops bench_ops = { bench_intr, bench_nmi,    bench_init_cpu, bench_sipi,
                                            bench_eoi,  bench_extint, bench_tsc,      bench_tsc_to_ns };

static inline void bench_open_with(struct bench *b, bool x2apic)
{
    struct lapic_config c = { .cpus = BENCH_CPUS, .x2apic = x2apic, .tsc_deadline = true, .phys_bits = 40,
                              .ops = &bench_ops, .ctx = b };

    memset(b, 0, sizeof(*b));
    b->lapic = lapic_set_new(&c);
    ioapic_init(&b->ioapic, b->lapic);
    pic_init(&b->pic, bench_pic_out, b);
    b->gsi = (struct gsi){ &b->pic, &b->ioapic };
}

static inline void bench_open(struct bench *b)
{
    bench_open_with(b, true);
}

static inline void bench_close(struct bench *b)
{
    lapic_set_free(b->lapic);
    ioapic_destroy(&b->ioapic);
    pic_destroy(&b->pic);
}

static inline u32 bench_read(struct bench *b, u32 vcpu, u32 reg)
{
    return (u32)lapic_mmio_read(b->lapic, vcpu, reg, 4);
}
static inline void bench_write(struct bench *b, u32 vcpu, u32 reg, u32 value)
{
    lapic_mmio_write(b->lapic, vcpu, reg, 4, value);
}
static inline u64 bench_rdmsr(struct bench *b, u32 vcpu, u32 msr)
{
    u64 v = 0;

    return lapic_msr_read(b->lapic, vcpu, msr, &v) ? 0xdeadbeefdeadbeef : v;
}
static inline bool bench_wrmsr(struct bench *b, u32 vcpu, u32 msr, u64 value) /* false: #GP */
{
    return lapic_msr_write(b->lapic, vcpu, msr, value) == 0;
}
static inline void bench_enable_all(struct bench *b)
{
    for (u32 i = 0; i < BENCH_CPUS; i++)
        bench_write(b, i, 0xf0, 0x1ff);
}
static inline void bench_enable_x2apic(struct bench *b)
{
    for (u32 i = 0; i < BENCH_CPUS; i++) {
        CHECK(bench_wrmsr(b, i, 0x1b, bench_rdmsr(b, i, 0x1b) | 0x400));
        CHECK(bench_wrmsr(b, i, 0x80f, 0x1ff));
    }
}
/* A mask of the processors whose INTR pin is up. */
static inline u32 bench_pending(struct bench *b)
{
    u32 mask = 0;

    for (u32 i = 0; i < BENCH_CPUS; i++) {
        CHECK_EQ(lapic_pending(b->lapic, i), b->intr[i]);
        mask |= (u32)b->intr[i] << i;
    }
    return mask;
}
/* Takes and ends every interrupt that is pending anywhere. */
static inline void bench_drain(struct bench *b)
{
    for (u32 i = 0; i < BENCH_CPUS; i++)
        for (int n = 0; n < 300 && lapic_pending(b->lapic, i); n++)
            if (lapic_ack(b->lapic, i) >= 0 && !bench_wrmsr(b, i, 0x80b, 0))
                bench_write(b, i, 0xb0, 0);
}

#endif
