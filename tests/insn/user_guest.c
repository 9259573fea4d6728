/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_guest.c - a sequence in a guest of the software engine: ring 3 of a long mode (user_guest_kernel.c). Every vector
 * leads to an OUT, on which the run ends; what the processor pushed is then taken from the ring 0 stack.
 *
 * A run may be cut: by kicks, after which it goes on, sometimes as a state loaded into another engine, and by interrupts
 * (user_guest_machine.c). None of that may change how it ends.
 */
#include "user_guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct guest *guest_new(int translate_after, const char *model, const struct engine_trace *trace)
{
    struct error err = {""};
    struct guest *g = aligned_alloc(64, align_up(sizeof(*g), 64));
    if (!g)
        return NULL;
    memset(g, 0, sizeof(*g));
    g->translate_after = translate_after;
    g->memory = memory_new(&err);
    if (!g->memory || memory_add(g->memory, "ram", 0, RAM_SIZE, false, &err))
        goto failed;
    g->ram = memory_ptr(g->memory, 0, RAM_SIZE, true);
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    if (!caps || engine_soft.probe(caps, &err))
        goto failed;
    struct cpuid_request rq = {.model = model ? model : "max", .cpus = 1, .supported = &caps->supported};
    if (cpuid_build(&g->cpuid, &rq, &err))
        goto failed;
    free(caps);
    struct engine_config cfg = {.memory = g->memory, .cpuid = &g->cpuid, .ops = &guest_machine, .machine = g, .cpus = 1};
    if (engine_soft.vm_create(&g->vm[1], &cfg, &err) || engine_soft.vcpu_create(g->vm[1], 0, &g->vcpu[1], &err))
        goto failed;
    cfg.trace = trace;
    if (translate_after != INTERPRET) {
        cfg.code_cache = MiB(8);
        cfg.translate_after = (u32)translate_after;
    }
    if (engine_soft.vm_create(&g->vm[0], &cfg, &err) || engine_soft.vcpu_create(g->vm[0], 0, &g->vcpu[0], &err))
        goto failed;
    guest_build_tables(g);
    guest_build_state(g);
    u8 page[DATA_SIZE - DATA_RO];
    gen_read_only(page);
    guest_scatter(g, DATA_GPA, DATA_RO, page, sizeof(page));
    return g;
failed:
    fprintf(stderr, "no guest: %s\n", err.text);
    free(g);
    return NULL;
}

void guest_free(struct guest *g)
{
    __atomic_store_n(&g->rusher_ends, 1, __ATOMIC_RELEASE);
    if (g->has_rusher)
        pthread_join(g->rusher, NULL);
    for (unsigned i = 0; i < 2; i++) {
        engine_soft.vcpu_destroy(g->vcpu[i]);
        engine_soft.vm_destroy(g->vm[i]);
    }
    memory_free(g->memory);
    free(g);
}

bool guest_has(const struct guest *g, unsigned isa)
{
    const struct isa_cpuid *c = &isa_cpuid[isa];
    return isa == ISA_X86 || cpuid_bit(&g->cpuid, c->function, c->index, c->reg, c->bit);
}

unsigned guest_runs_to_heat(const struct guest *g) { return (unsigned)(g->translate_after + 1); }
u64 guest_cuts(const struct guest *g) { return g->cuts; }

/* What a sequence finds in memory, but for its code. */
static void fill_memory(struct guest *g, const struct sequence *q)
{
    u8 data[DATA_SIZE], stack[STACK_SIZE];
    gen_memory(q->data_seed, data, stack);
    guest_scatter(g, DATA_GPA, 0, data, DATA_RO);
    guest_scatter(g, STACK_GPA, 0, stack, STACK_SIZE);
    memcpy(g->device, data, DEVICE_SIZE);
}

/* The whole area as the host has it: a jump may go astray. */
static void code_area(const struct sequence *q, const u8 *code, unsigned code_len, u8 *all)
{
    memset(all, 0xcc, CODE_SIZE);
    memcpy(all + (q->code - CODE_BASE), code, code_len);
}

static void fresh_state(struct guest *g, const struct sequence *q)
{
    struct cpu_state *s = &g->state;
    guest_build_state(g);
    memcpy(s->gpr, q->init.gpr, sizeof(s->gpr));
    s->rip = q->init.rip;
    s->rflags = q->init.rflags;
    memcpy(s->xsave, q->init.xsave, host_xsave_size);
    if (q->segmented) {
        bool wide = q->bits == 32;
        for (int i = ES; i <= DS; i++)
            guest_segment(&s->seg[i], LDT_SELECTOR(LDT_DATA), 0xf3, DATA_SIZE - 1, DATA_BASE);
        guest_segment(&s->seg[CS], LDT_SELECTOR(wide ? LDT_CODE32 : LDT_CODE16), wide ? 0x40fb : 0xfb, CODE_SIZE - 1, CODE_BASE);
        guest_segment(&s->seg[SS], LDT_SELECTOR(wide ? LDT_STACK32 : LDT_STACK16), wide ? 0x40f3 : 0xf3, STACK_SIZE - 1, STACK_BASE);
    } else if (q->bits == 64)
        guest_segment(&s->seg[CS], GDT_USER | 3, 0xa0fb, 0xffffffff, 0);
    else
        guest_segment(&s->seg[CS], GDT_USER32 | 3, 0xc0fb, 0xffffffff, 0);
    engine_soft.set_state(g->vcpu[g->now], s);
    engine_soft.reset_caches(g->vm[g->now]);
}

/* What the kernel needs to enter q from where the last run ended. */
static void fill_entry(struct guest *g, const struct sequence *q, bool write_code)
{
    struct entry *e = (struct entry *)(g->ram + ENTRY);
    e->code = CODE_BASE;
    e->code_len = write_code ? CODE_SIZE : 0;
    static const u8 order[] = {R15, R14, R13, R12, R11, R10, R9, R8, RDI, RSI, RBP, RBX, RDX, RCX, RAX};
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        e->gpr[i] = q->init.gpr[order[i]];
    e->rip = q->init.rip;
    e->cs = (q->bits == 64 ? GDT_USER : GDT_USER32) | 3;
    e->rflags = q->init.rflags;
    e->rsp = q->init.gpr[RSP];
    e->ss = GDT_USER_DATA | 3;
    memcpy(g->ram + ENTRY + 0x1000, q->init.xsave, host_xsave_size);
}

/* To the other engine, as a snapshot would be. */
static bool move(struct guest *g)
{
    unsigned to = !g->now;
    if (engine_soft.get_state(g->vcpu[g->now], &g->state) || engine_soft.set_state(g->vcpu[to], &g->state))
        return false;
    engine_soft.signal(g->vcpu[g->now], SIGNAL_INTR, 0);
    engine_soft.signal(g->vcpu[to], SIGNAL_INTR, __atomic_load_n(&g->line, __ATOMIC_SEQ_CST));
    engine_soft.reset_caches(g->vm[to]);
    __atomic_store_n(&g->now, to, __ATOMIC_RELEASE);
    return true;
}

/* To the next OUT. */
static bool run_to_exit(struct guest *g)
{
    struct error err = {""};
    enum run_result r;
    g->exited = false;
    for (;;) {
        r = engine_soft.run(g->vcpu[g->now], &err);
        if (r != RUN_KICKED || g->exited || __atomic_load_n(&g->gave_up, __ATOMIC_ACQUIRE))
            break;
        g->cuts++;
        if (chance(&g->rng, 25) && !move(g))
            break;
    }
    if (r == RUN_KICKED && g->exited)
        return true;
    fprintf(stderr, "the engine ended with %s %s\n", r == RUN_SHUTDOWN ? "shutdown" : r == RUN_ERROR ? "an error:" : "a kick: it came to no end",
        err.text);
    g->gave_up = false;
    return false;
}

static bool take_outcome(struct guest *g, struct outcome *o)
{
    struct cpu_state *s = &g->state;
    engine_soft.get_state(g->vcpu[g->now], s);
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
    o->f.vector = (unsigned)stub / 8;
    o->f.error = (u32)frame[0];
    o->s.rip = frame[1];
    o->s.rflags = frame[3];
    o->s.gpr[RSP] = frame[4];
    o->f.cr2 = s->cr2;
    for (int i = 0; i < SEG_COUNT; i++)
        o->s.selector[i] = s->seg[i].selector;
    o->s.selector[CS] = (u16)frame[2];
    o->s.selector[SS] = (u16)frame[5];
    memcpy(o->s.xsave, s->xsave, host_xsave_size);
    guest_gather(g, DATA_GPA, o->data, DATA_SIZE);
    guest_gather(g, STACK_GPA, o->stack, STACK_SIZE);
    memcpy(o->device, g->device, DEVICE_SIZE);
    if (!guest_pattern(g, true)) {
        fprintf(stderr, "the engine wrote beside a page\n");
        guest_pattern(g, false);
        return false;
    }
    return true;
}

bool guest_run(struct guest *g, const struct sequence *q, const u8 *code, unsigned code_len, struct outcome *o, enum guest_how how)
{
    u8 now[CODE_SIZE], *all = g->ram + CODE_COPY;
    bool changed, ended;

    if (!g->started) /* there is no kernel yet that could enter anything */
        how = HOW_FRESH;
    g->started = true;
    changed = how == HOW_LOADED;
    code_area(q, code, code_len, all);
    if (how == HOW_FRESH) {
        while (g->now && move(g)) /* an earlier run may have ended elsewhere */
            ;
        guest_scatter(g, CODE_GPA, 0, all, CODE_SIZE);
        g->rng.s = q->data_seed | 1;
    } else if (!changed) {
        guest_gather(g, CODE_GPA, now, CODE_SIZE);
        changed = memcmp(now, all, CODE_SIZE) != 0;
    }
    fill_memory(g, q);
    fill_entry(g, q, changed);
    ((struct entry *)(g->ram + ENTRY))->touch = q->code + rng_below(&g->rng, code_len);
    if (how == HOW_FRESH)
        fresh_state(g, q);
    if (q->flow)
        guest_start_rusher(g);
    __atomic_fetch_add(&g->beat, 1, __ATOMIC_ACQ_REL);
    g->prodded = how == HOW_PRODDED;
    __atomic_store_n(&g->rushed, how == HOW_RUSHED, __ATOMIC_RELEASE);
    ended = run_to_exit(g);
    __atomic_store_n(&g->rushed, 0, __ATOMIC_RELEASE);
    __atomic_fetch_add(&g->beat, 1, __ATOMIC_ACQ_REL);
    g->prodded = false;
    return ended && take_outcome(g, o);
}
