/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.c - a sequence in a guest of the software engine: ring 3 of a long mode set up as Linux does it, with the same
 * selectors, so that pushed and stored selectors compare too. Every vector leads to an OUT, on which the run ends; what
 * the processor pushed is then taken from the ring 0 stack.
 */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "engine/engine.h"
#include "memory/memory.h"

enum { /* guest-physical */
    PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT_LOW = 0x4000, PT_HIGH = 0x5000, PDPT_KERNEL = 0x6000, PD_KERNEL = 0x7000,
    GDT = 0x8000, IDT = 0x9000, TSS = 0xa000, STUBS = 0xb000, KSTACK_TOP = 0xe000, LDT = 0xf000,
    CODE_GPA = 0x100000, DATA_GPA = 0x110000, STACK_GPA = 0x120000, RAM_SIZE = 0x200000,
};
/* The kernel's half, which ring 3 cannot see: the first 2 MiB of guest memory. */
#define KERNEL 0xffff800000000000ull
enum { EXIT_PORT = 0xf4, GDT_CODE = 0x10, GDT_USER32 = 0x20, GDT_USER_DATA = 0x28, GDT_USER = 0x30, GDT_TSS = 0x40 };

struct guest {
    struct memory *memory;
    u8 *ram;
    struct cpuid_table cpuid;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu;
    struct cpu_state state;
    bool exited;
};

static u64 port_read(void *m, u16 port, unsigned size) { return ~0ull; }
static void port_write(void *m, u16 port, unsigned size, u64 value)
{
    struct guest *g = m;
    g->exited = true;
    engine_soft.kick(g->vcpu);
}
static u64 mmio_read(void *m, u32 vcpu, u64 gpa, unsigned size) { return ~0ull; }
static void mmio_write(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value) {}
static int interrupt_ack(void *m, u32 vcpu) { return -1; }
static u8 cr8_read(void *m, u32 vcpu) { return 0; }
static void cr8_write(void *m, u32 vcpu, u8 value) {}
static int msr_read(void *m, u32 vcpu, u32 msr, u64 *value) { return -1; }
static int msr_write(void *m, u32 vcpu, u32 msr, u64 value) { return -1; }

static const struct engine_machine machine = {
    port_read, port_write, mmio_read, mmio_write, interrupt_ack, cr8_read, cr8_write, msr_read, msr_write,
};

static void put(struct guest *g, u64 gpa, u64 value) { memcpy(g->ram + gpa, &value, 8); }

static void map(struct guest *g, u64 lin, u64 gpa, u64 size, bool write)
{
    for (u64 n = 0; n < size; n += 4096) {
        u64 pt = (lin >> 21) & 1 ? PT_HIGH : PT_LOW; /* 2 MiB from CODE_BASE on, and the next */
        u64 flags = 0x65 | (write ? 2 : 0) | (lin == CODE_BASE ? 0 : BIT(63)); /* present, user, accessed, dirty; NX */
        put(g, pt + ((lin + n) >> 12 & 511) * 8, (gpa + n) | flags);
    }
}

static void build_tables(struct guest *g)
{
    put(g, PML4, PDPT | 7);
    put(g, PDPT, PD | 7);
    put(g, PD + (CODE_BASE >> 21) * 8, PT_LOW | 7);
    put(g, PD + ((CODE_BASE >> 21) + 1) * 8, PT_HIGH | 7);
    put(g, PML4 + 256 * 8, PDPT_KERNEL | 3);
    put(g, PDPT_KERNEL, PD_KERNEL | 3);
    put(g, PD_KERNEL, 0 | 0xe3); /* 2 MiB page, supervisor */
    map(g, CODE_BASE, CODE_GPA, CODE_SIZE, true);
    map(g, DATA_BASE, DATA_GPA, DATA_RO, true);
    map(g, DATA_BASE + DATA_RO, DATA_GPA + DATA_RO, DATA_SIZE - DATA_RO, false);
    map(g, STACK_BASE, STACK_GPA, STACK_SIZE, true);

    put(g, GDT + 8, 0x00cf9b000000ffff); /* what Linux has, for LAR and its like */
    put(g, GDT + GDT_CODE, 0x00af9b000000ffff);
    put(g, GDT + GDT_CODE + 8, 0x00cf93000000ffff);
    put(g, GDT + GDT_USER32, 0x00cffb000000ffff);
    put(g, GDT + GDT_USER_DATA, 0x00cff3000000ffff);
    put(g, GDT + GDT_USER, 0x00affb000000ffff);
    put(g, GDT + 0x78, 0x0040f50000000000); /* Linux's for the number of the CPU */
    for (u64 v = 0; v < 256; v++) {
        u64 at = KERNEL + STUBS + v * 8;
        u64 dpl = v == 3 || v == 4 ? 3 : 0;
        put(g, IDT + v * 16, (at & 0xffff) | GDT_CODE << 16 | (0x8e00 | dpl << 13) << 32 | (at >> 16 & 0xffff) << 48);
        put(g, IDT + v * 16 + 8, at >> 32);
        static const u8 stub[8] = {0xe6, EXIT_PORT, 0xeb, 0xfe};
        memcpy(g->ram + STUBS + v * 8, stub, 8);
    }
    for (unsigned i = 0; i < LDT_COUNT; i++) {
        const struct ldt_spec *l = &ldt_specs[i];
        u64 type = 1 | (l->fixed ? 0 : 2) | l->contents << 2; /* as Linux makes it, accessed */
        u64 attr = 0x70 | type | (l->absent ? 0 : 0x80) | (l->wide ? 0x4000 : 0) | (l->pages ? 0x8000 : 0);
        if (l->base || l->limit)
            put(g, LDT + i * 8, attr << 40 | (l->limit & 0xffff) | (u64)(l->limit >> 16 & 15) << 48 | (u64)(l->base & 0xffffff) << 16 |
                (u64)(l->base >> 24) << 56);
    }
    put(g, TSS + 4, KERNEL + KSTACK_TOP);
    memset(g->ram + TSS + 0x66, 0x68, 1); /* the I/O map lies beyond the limit: no port for ring 3 */
}

static void segment(struct cpu_seg *s, u16 selector, u16 attr, u32 limit, u64 base)
{
    *s = (struct cpu_seg){.selector = selector, .attr = attr, .limit = limit, .base = base};
}

static void build_state(struct guest *g)
{
    struct cpu_state *s = &g->state;
    cpu_reset(s, true);
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    s->cr3 = PML4;
    s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    s->xcr0 = host_xcr0;
    s->gdtr = (struct cpu_table){KERNEL + GDT, 0x7f};
    s->idtr = (struct cpu_table){KERNEL + IDT, 0xfff};
    segment(&s->tr, GDT_TSS, 0x8b, 0x67, KERNEL + TSS);
    segment(&s->ldtr, 0x50, 0x82, LDT_COUNT * 8 - 1, KERNEL + LDT);
    for (int i = 0; i < SEG_COUNT; i++)
        segment(&s->seg[i], GDT_USER_DATA | 3, 0xc0f3, 0xffffffff, 0);
    segment(&s->seg[FS], 0, SEG_UNUSABLE, 0, 0);
    segment(&s->seg[GS], 0, SEG_UNUSABLE, 0, GS_BASE);
}

struct guest *guest_new(bool translate)
{
    struct error err = {""};
    struct guest *g = aligned_alloc(64, align_up(sizeof(*g), 64));
    if (!g)
        return NULL;
    memset(g, 0, sizeof(*g));
    g->memory = memory_new(&err);
    if (!g->memory || memory_add(g->memory, "ram", 0, RAM_SIZE, false, &err))
        goto failed;
    g->ram = memory_ptr(g->memory, 0, RAM_SIZE, true);
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    if (!caps || engine_soft.probe(caps, &err))
        goto failed;
    struct cpuid_request rq = {.cpus = 1, .supported = &caps->supported};
    if (cpuid_build(&g->cpuid, &rq, &err))
        goto failed;
    free(caps);
    struct engine_config cfg = {.memory = g->memory, .cpuid = &g->cpuid, .ops = &machine, .machine = g, .cpus = 1,
                                .code_cache = translate ? MiB(8) : 0, .translate_after = 0};
    if (engine_soft.vm_create(&g->vm, &cfg, &err) || engine_soft.vcpu_create(g->vm, 0, &g->vcpu, &err))
        goto failed;
    build_tables(g);
    build_state(g);
    gen_read_only(g->ram + DATA_GPA + DATA_RO);
    return g;
failed:
    fprintf(stderr, "no guest: %s\n", err.text);
    free(g);
    return NULL;
}

void guest_free(struct guest *g)
{
    engine_soft.vcpu_destroy(g->vcpu);
    engine_soft.vm_destroy(g->vm);
    memory_free(g->memory);
    free(g);
}

bool guest_has(const struct guest *g, unsigned isa)
{
    const struct isa_cpuid *c = &isa_cpuid[isa];
    return isa == ISA_X86 || cpuid_bit(&g->cpuid, c->function, c->index, c->reg, c->bit);
}

bool guest_run(struct guest *g, const struct sequence *q, const u8 *code, unsigned code_len, struct outcome *o)
{
    struct error err = {""};
    struct cpu_state *s = &g->state;

    memset(g->ram + CODE_GPA, 0xcc, CODE_SIZE);
    memcpy(g->ram + CODE_GPA + (q->code - CODE_BASE), code, code_len);
    gen_memory(q->data_seed, g->ram + DATA_GPA, g->ram + STACK_GPA);
    build_state(g);
    memcpy(s->gpr, q->init.gpr, sizeof(s->gpr));
    s->rip = q->init.rip;
    s->rflags = q->init.rflags;
    memcpy(s->xsave, q->init.xsave, host_xsave_size);
    if (q->segmented) {
        bool wide = q->bits == 32;
        for (int i = ES; i <= DS; i++)
            segment(&s->seg[i], LDT_SELECTOR(LDT_DATA), 0xf3, DATA_SIZE - 1, DATA_BASE);
        segment(&s->seg[CS], LDT_SELECTOR(wide ? LDT_CODE32 : LDT_CODE16), wide ? 0x40fb : 0xfb, CODE_SIZE - 1, CODE_BASE);
        segment(&s->seg[SS], LDT_SELECTOR(wide ? LDT_STACK32 : LDT_STACK16), wide ? 0x40f3 : 0xf3, STACK_SIZE - 1, STACK_BASE);
    } else if (q->bits == 64)
        segment(&s->seg[CS], GDT_USER | 3, 0xa0fb, 0xffffffff, 0);
    else
        segment(&s->seg[CS], GDT_USER32 | 3, 0xc0fb, 0xffffffff, 0);
    engine_soft.set_state(g->vcpu, s);
    engine_soft.reset_caches(g->vm);
    g->exited = false;
    enum run_result r = engine_soft.run(g->vcpu, &err);
    engine_soft.get_state(g->vcpu, s);
    if (r != RUN_KICKED || !g->exited) {
        fprintf(stderr, "the engine ended with %s %s\n", r == RUN_SHUTDOWN ? "shutdown" : r == RUN_ERROR ? "an error:" : "a kick",
            err.text);
        return false;
    }
    u64 stub = s->rip - (KERNEL + STUBS);
    if (stub >= 256 * 8 || s->gpr[RSP] - KERNEL > KSTACK_TOP) {
        fprintf(stderr, "the engine is at RIP %#llx, RSP %#llx\n", (unsigned long long)s->rip, (unsigned long long)s->gpr[RSP]);
        return false;
    }
    u64 frame[6] = {0};
    unsigned words = (unsigned)(KERNEL + KSTACK_TOP - s->gpr[RSP]) / 8;
    if (words != 5 && words != 6) {
        fprintf(stderr, "the engine pushed %u words\n", words);
        return false;
    }
    memcpy(frame + 6 - words, g->ram + KSTACK_TOP - words * 8, words * 8);
    memcpy(o->s.gpr, s->gpr, sizeof(s->gpr));
    o->vector = (unsigned)stub / 8;
    o->error = (u32)frame[0];
    o->s.rip = frame[1];
    o->s.rflags = frame[3];
    o->s.gpr[RSP] = frame[4];
    o->cr2 = s->cr2;
    for (int i = 0; i < SEG_COUNT; i++)
        o->s.selector[i] = s->seg[i].selector;
    o->s.selector[CS] = (u16)frame[2];
    o->s.selector[SS] = (u16)frame[5];
    memcpy(o->s.xsave, s->xsave, host_xsave_size);
    memcpy(o->data, g->ram + DATA_GPA, DATA_SIZE);
    memcpy(o->stack, g->ram + STACK_GPA, STACK_SIZE);
    return true;
}
