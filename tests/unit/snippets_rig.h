/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snippets_rig.h - memory and a state in which a snippet can run, and a machine of one port on an engine of either kind.
 * Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_SNIPPETS_RIG_H
#define LODGE_TEST_SNIPPETS_RIG_H

#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/kvm/selftest.h"
#include "snippets.h"

static inline void put(u8 *m, u32 at, u64 v, unsigned n)
{
    memcpy(m + at, &v, n);
}

static inline u64 descriptor(u32 base, u32 limit, u32 attr)
{
    if (attr & SEG_G)
        limit >>= 12;
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 | (u64)(limit >> 16 & 15) << 48 |
           (u64)(attr >> 12 & 15) << 52 | (u64)(base >> 24) << 56;
}

#define AT(sel) (GDT + (sel))
enum { CODE_RX = SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A, DATA_RW = SEG_P | SEG_S | SEG_W | SEG_A };

static inline void build_memory(u8 *m, const struct snippet *s)
{
    memset(m, 0, MEM);
    put(m, AT(SEL_CODE32), descriptor(0, ~0u, CODE_RX | SEG_DB | SEG_G), 8);
    put(m, AT(SEL_DATA), descriptor(0, ~0u, DATA_RW | SEG_DB | SEG_G), 8);
    put(m, AT(SEL_CODE64), descriptor(0, ~0u, CODE_RX | SEG_L | SEG_G), 8);
    put(m, AT(SEL_USER32), descriptor(0, ~0u, CODE_RX | SEG_DB | SEG_G | SEG_DPL), 8);
    put(m, AT(SEL_UDATA), descriptor(0, ~0u, DATA_RW | SEG_DB | SEG_G | SEG_DPL), 8);
    put(m, AT(SEL_USER64), descriptor(0, ~0u, CODE_RX | SEG_L | SEG_G | SEG_DPL), 8);
    put(m, AT(SEL_TSS), descriptor(TSS, TSS_LIMIT, SEG_P | 11), 8); /* busy; the upper half of a 64-bit one is zero */
    put(m, AT(SEL_CODE16), descriptor(0, 0xffff, CODE_RX), 8);
    put(m, AT(SEL_NP), descriptor(0, 0xfff, DATA_RW & ~SEG_P), 8);
    put(m, AT(SEL_LDT), descriptor(LDT, 0x1f, SEG_P | 2), 8);
    put(m, LDT + 8, descriptor(DATA, 0xfff, (DATA_RW & ~SEG_A) | SEG_DB), 8);

    /* Stubs: push vector; out; jmp self. The bytes mean the same in every mode. */
    bool long_mode = s->mode >= LONG0;
    for (u32 v = 0; v < 32; v++) {
        const u8 stub[8] = { 0x6a, (u8)v, 0xe6, 0xf4, 0xeb, 0xfe, 0x90, 0x90 };
        u32 at = STUBS + 8 * v;
        memcpy(m + at, stub, 8);
        u32 dpl = v == 3 || v == 0x13 ? SEG_DPL : 0;
        if (long_mode) {
            put(m, IDT + 16 * v, (at & 0xffff) | SEL_CODE64 << 16 | (u64)(SEG_P | 14 | dpl) << 40, 8);
        } else {
            put(m, IDT + 8 * v, (at & 0xffff) | SEL_CODE32 << 16 | (u64)(SEG_P | 14 | dpl) << 40, 8);
            if (s->mode == REAL)
                put(m, 4 * v, (at & 15) | (at >> 4) << 16, 4);
        }
    }
    if (s->mode == REAL)
        put(m, 4 * 0x21, 0 | (STUBS >> 4) << 16, 4);
    if (long_mode)
        put(m, TSS + 4, STACK0, 8);
    else
        put(m, TSS + 4, STACK0, 4), put(m, TSS + 8, SEL_DATA, 4);
    put(m, TSS + 0x66, 0x68, 2); /* I/O bitmap: every port below 100h allowed (V86 mode asks it whatever IOPL is) */

    put(m, PML4, PDPT | 7, 8);
    put(m, PDPT, PD | 7, 8);
    put(m, PD, PT | 7, 8);
    put(m, PDPT_PAE, PD | 1, 8);
    put(m, PD32, PT32 | 7, 4);
    for (u32 i = 0; i < 512; i++) {
        u32 page = i << 12, bits = page == ABSENT ? 0 : page == READONLY ? 5 : page == SUPERVISOR ? 3 : 7;
        put(m, PT + 8 * i, page | bits, 8);
        put(m, PT32 + 4 * i, page | bits, 4);
    }
    for (u32 i = 0; i < 0x1000; i++)
        m[DATA + i] = (u8)(i * 7);
    memcpy(m + CODE, s->start, (size_t)(s->end - s->start));
}

static inline struct cpu_seg seg(u32 sel, u32 attr, u32 base, u32 limit)
{
    return (struct cpu_seg){ .selector = (u16)sel, .attr = (u16)attr, .base = base, .limit = limit };
}

static inline void build_state(struct cpu_state *s, enum mode mode)
{
    cpu_reset(s, true);
    memset(s->gpr, 0, sizeof(s->gpr));
    s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
    s->gdtr = (struct cpu_table){ GDT, 0x5f };
    s->idtr = (struct cpu_table){ IDT, mode >= LONG0 ? 32 * 16 - 1 : 32 * 8 - 1 };
    s->tr = seg(SEL_TSS, SEG_P | 11, TSS, TSS_LIMIT);
    s->gpr[RSP] = STACK0 - 0x100;
    s->rip = CODE;
    for (int i = 0; i < SEG_COUNT; i++)
        s->seg[i] = seg(SEL_DATA, DATA_RW | SEG_DB | SEG_G, 0, ~0u);
    s->seg[CS] = seg(SEL_CODE32, CODE_RX | SEG_DB | SEG_G, 0, ~0u);
    switch (mode) {
    case REAL:
    case V86:
        s->rip = 0;
        s->gpr[RSP] = 0xe000;
        for (int i = 0; i < SEG_COUNT; i++)
            s->seg[i] = seg(0, DATA_RW, 0, 0xffff);
        s->seg[CS] = seg(CODE >> 4, DATA_RW, CODE, 0xffff);
        s->seg[DS] = s->seg[ES] = seg(DATA >> 4, DATA_RW, DATA, 0xffff);
        if (mode == REAL) {
            s->cr0 &= ~CR0_PE;
            s->idtr = (struct cpu_table){ 0, 0x3ff };
        } else {
            s->rflags |= RFLAGS_VM | RFLAGS_IOPL;
            for (int i = 0; i < SEG_COUNT; i++)
                s->seg[i].attr |= SEG_DPL;
        }
        break;
    case PM16:
        s->seg[CS] = seg(SEL_CODE16, CODE_RX, CODE, 0xffff);
        s->rip = 0;
        break;
    case PM32: break;
    case PAGED32:
        s->cr3 = PD32;
        s->cr0 |= CR0_PG | CR0_WP;
        break;
    case PAE32:
        s->cr3 = PDPT_PAE;
        s->cr4 |= CR4_PAE;
        s->cr0 |= CR0_PG | CR0_WP;
        break;
    default:
        s->cr3 = PML4;
        s->cr4 |= CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
        s->cr0 |= CR0_PG | CR0_WP;
        s->efer = EFER_LME | EFER_LMA | EFER_SCE;
        s->seg[CS] = seg(SEL_CODE64, CODE_RX | SEG_L | SEG_G, 0, ~0u);
        if (mode != LONG0) {
            for (int i = 0; i < SEG_COUNT; i++)
                s->seg[i] = seg(SEL_UDATA | 3, DATA_RW | SEG_DB | SEG_G | SEG_DPL, 0, ~0u);
            s->seg[CS] = mode == LONG3 ? seg(SEL_USER64 | 3, CODE_RX | SEG_L | SEG_G | SEG_DPL, 0, ~0u) :
                                         seg(SEL_USER32 | 3, CODE_RX | SEG_DB | SEG_G | SEG_DPL, 0, ~0u);
            s->rflags |= RFLAGS_IOPL;
            s->gpr[RSP] = STACK3;
        }
    }
}

/* ---- a machine of one port ---------------------------------------------- */

struct machine {
    const struct engine_ops *ops;
    struct engine_vcpu *v;
    bool done, late;
    u32 outs;
};

static inline u64 port_read(void *m, u16 port, unsigned size) { return size == 4 ? 0xffffffff : size == 2 ? 0xffff : 0xff; }
static inline void port_write(void *m, u16 port, unsigned size, u64 value)
{
    struct machine *h = m;
    if (port == 0xf4) {
        h->done = true;
        h->outs++;
        h->ops->kick(h->v);
    }
}
static inline u64 mmio_read(void *m, u32 vcpu, u64 gpa, unsigned size) { return ~0ull; }
static inline void mmio_write(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value) {}
static inline int interrupt_ack(void *m, u32 vcpu) { return -1; }
static inline u8 cr8_read(void *m, u32 vcpu) { return 0; }
static inline void cr8_write(void *m, u32 vcpu, u8 value) {}
static inline int msr_read(void *m, u32 vcpu, u32 msr, u64 *value) { return -1; }
static inline int msr_write(void *m, u32 vcpu, u32 msr, u64 value) { return -1; }
static const struct engine_machine machine_ops = { port_read, port_write, mmio_read, mmio_write, interrupt_ack,
                                                   cr8_read, cr8_write, msr_read, msr_write };

struct rig {
    struct machine machine;
    struct memory *memory;
    struct engine_vm *vm;
    bool up;
    bool weak; /* may fail to run a snippet, but not run it wrongly */
};

static inline bool rig_up(struct rig *r, const struct engine_ops *ops, const struct cpuid_table *cpuid)
{
    struct error err = { "" };
    struct engine_config cfg = { .cpuid = cpuid, .ops = &machine_ops, .cpus = 1 };
    memset(r, 0, sizeof(*r));
    r->machine.ops = ops;
    cfg.machine = &r->machine;
    r->memory = cfg.memory = memory_new(&err);
    if (!r->memory || memory_add(r->memory, "ram", 0, MEM, false, &err) || ops->vm_create(&r->vm, &cfg, &err) ||
        ops->vcpu_create(r->vm, 0, &r->machine.v, &err)) {
        test_fail(__FILE__, __LINE__, "%s: %s", ops->name, err.text);
        return false;
    }
    r->up = true;
    return true;
}

static inline void rig_down(struct rig *r)
{
    if (r->machine.v)
        r->machine.ops->vcpu_destroy(r->machine.v);
    if (r->vm)
        r->machine.ops->vm_destroy(r->vm);
    if (r->memory)
        memory_free(r->memory);
}

struct watchdog {
    struct machine *m;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool over;
};

static inline void *watch(void *arg)
{
    struct watchdog *w = arg;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 200;
    pthread_mutex_lock(&w->lock);
    while (!w->over) {
        if (pthread_cond_timedwait(&w->cond, &w->lock, &until)) {
            w->m->late = true;
            w->m->ops->kick(w->m->v);
            break;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Runs one snippet; out: state and memory at the end. False: the engine could not (said). */
static inline bool run_snippet(struct rig *r, const struct snippet *sn, struct cpu_state *out, u8 *mem)
{
    struct error err = { "" };
    struct watchdog w = { .m = &r->machine, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    pthread_t thread;
    u8 *ram = r->memory->region[0].host;
    enum run_result result;
    int turns = 0;

    build_memory(ram, sn);
    build_state(out, sn->mode);
    r->machine.ops->reset_caches(r->vm);
    r->machine.done = r->machine.late = false;
    if (r->machine.ops->set_state(r->machine.v, out)) {
        test_fail(__FILE__, __LINE__, "%s %s: set_state fails", r->machine.ops->name, sn->name);
        return false;
    }
    pthread_create(&thread, NULL, watch, &w);
    do
        result = r->machine.ops->run(r->machine.v, &err);
    while (result == RUN_KICKED && !r->machine.done && !r->machine.late && turns++ < 100);
    pthread_mutex_lock(&w.lock);
    w.over = true;
    pthread_cond_signal(&w.cond);
    pthread_mutex_unlock(&w.lock);
    pthread_join(thread, NULL);
    if (r->machine.ops->get_state(r->machine.v, out))
        test_fail(__FILE__, __LINE__, "%s %s: get_state fails", r->machine.ops->name, sn->name);
    memcpy(mem, ram, MEM);
    if (result != RUN_KICKED || !r->machine.done) {
        if (r->weak) { /* a KVM that interprets the guest's kernel knows few instructions */
            printf("%s cannot run %s: %s\n", r->machine.ops->name, sn->name, err.text[0] ? err.text : "shutdown");
            return false;
        }
        test_fail(__FILE__, __LINE__, "%s %s: %s%s at rip %llx", r->machine.ops->name, sn->name,
                  result == RUN_SHUTDOWN ? "shutdown" : result == RUN_ERROR ? "error: " : "does not end", err.text,
                  (unsigned long long)out->rip);
        return false;
    }
    return true;
}

#endif
