/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_guest.c - a program of real.c's in an engine, in real mode or in virtual-8086 mode under a small kernel.
 *
 * Every vector leads to an OUT, on which the run ends; so does the program's own end. A few are interrupts and INTs,
 * whose handlers return. In virtual-8086 mode neighbouring pages lie apart in guest memory, and the kernel's is above.
 */
#include "gen.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/engine.h"
#include "memory/memory.h"

enum { /* guest-physical */
    PD = 0x120000, PT_LOW = 0x121000, PT_KERNEL = 0x122000, GDT = 0x123000, IDT = 0x124000, TSS = 0x125000, STUBS = 0x126000,
    HANDLERS = 0x127000, TOUCH = 0x128000, KSTACK = 0x12a000, KSTACK_TOP = 0x12c000, RAM_END = 0x130000,
    KERNEL = 0x400000 - 0x120000, /* what is added to these for where the kernel sees them */
    STUBS16 = 0x800, TOUCH16 = 0x500, DEVICE_END = REAL_DEVICE + 0x1000,
    FIRST_INTERRUPT = 0x40, INTERRUPTS = 6, READ_ONLY = REAL_DATA + 0xf000,
};

struct real_guest {
    struct memory *memory;
    u8 *low, *high; /* below and above the device */
    u8 device[4096];
    struct cpuid_table cpuid;
    struct engine_vm *vm[2]; /* the second interprets, on the same memory: a run may be moved to it */
    struct engine_vcpu *vcpu[2];
    unsigned now;
    struct cpu_state state;
    bool exited, prodded, interrupts;
    u32 line; /* atomic */
    struct rng rng;
    u64 cuts;
    bool rushed, translates;
    u32 gave_up; /* atomic */
};

/* The thread that cuts runs, and what it looks at; under `change`. */
static struct {
    pthread_t thread;
    pthread_mutex_t change;
    pthread_cond_t begun;
    struct real_guest *running;
    u64 until; /* cpu_ns() when that is taken to go on for ever */
    unsigned users;
    bool ends;
} rusher = {.change = PTHREAD_MUTEX_INITIALIZER, .begun = PTHREAD_COND_INITIALIZER};

static u8 *page(struct real_guest *g, u64 gpa) { return gpa < REAL_DEVICE ? g->low + gpa : g->high + (gpa - DEVICE_END); }

static void interrupt(struct real_guest *g)
{
    __atomic_store_n(&g->line, 1, __ATOMIC_SEQ_CST);
    engine_soft.signal(g->vcpu[g->now], SIGNAL_INTR, 1);
}

static void prod(struct real_guest *g)
{
    if (!g->prodded || !chance(&g->rng, 40))
        return;
    g->cuts++;
    switch (g->interrupts ? rng_below(&g->rng, 4) : 0) {
    case 0: engine_soft.kick(g->vcpu[g->now]); break;
    case 1: engine_soft.signal(g->vcpu[g->now], SIGNAL_NMI, 0); break;
    default: interrupt(g); break;
    }
}

static u64 port_read(void *m, u16 port, unsigned size)
{
    prod(m);
    return 0x1234567890abcdef & (~0ull >> (64 - 8 * size));
}
static void port_write(void *m, u16 port, unsigned size, u64 value)
{
    struct real_guest *g = m;
    if (port != REAL_EXIT)
        return;
    g->exited = true;
    engine_soft.kick(g->vcpu[g->now]);
}
static u64 mmio_read(void *m, u32 vcpu, u64 gpa, unsigned size)
{
    struct real_guest *g = m;
    u64 value = 0;
    if (gpa < REAL_DEVICE || gpa + size > DEVICE_END)
        return ~0ull;
    memcpy(&value, g->device + (gpa - REAL_DEVICE), size);
    prod(g);
    return value;
}
static void mmio_write(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value)
{
    struct real_guest *g = m;
    if (gpa < REAL_DEVICE || gpa + size > DEVICE_END)
        return;
    memcpy(g->device + (gpa - REAL_DEVICE), &value, size);
    prod(g);
}
static int interrupt_ack(void *m, u32 vcpu)
{
    struct real_guest *g = m;
    if (!__atomic_exchange_n(&g->line, 0, __ATOMIC_SEQ_CST))
        return -1;
    engine_soft.signal(g->vcpu[g->now], SIGNAL_INTR, 0);
    return FIRST_INTERRUPT + (int)rng_below(&g->rng, INTERRUPTS);
}
static u8 cr8_read(void *m, u32 vcpu) { return 0; }
static void cr8_write(void *m, u32 vcpu, u8 value) {}
static int msr_read(void *m, u32 vcpu, u32 msr, u64 *value) { return -1; }
static int msr_write(void *m, u32 vcpu, u32 msr, u64 value) { return -1; }

static const struct engine_machine machine = {
    port_read, port_write, mmio_read, mmio_write, interrupt_ack, cr8_read, cr8_write, msr_read, msr_write,
};

/* ---- handlers ---------------------------------------------------------------------- */

__asm__(
    ".pushsection .rodata\n"
    ".code16\n"
    "real_begin:\n"
    "real_nothing:\n"
    "   iret\n"
    "real_nested:\n"
    "   push %ax\n"
    "   pushf\n"
    "   sti\n"
    "   mov $0x1234, %ax\n"
    "   popf\n"
    "   pop %ax\n"
    "   iret\n"
    "real_touch:\n" /* what is written is what was there */
    "   push %ax; push %ds; push %si\n"
    "   xor %ax, %ax\n"
    "   mov %ax, %ds\n"
    "   lds 0x500, %si\n"
    "   mov (%si), %al\n"
    "   mov %al, (%si)\n"
    "   pop %si; pop %ds; pop %ax\n"
    "   iret\n"
    "real_registers:\n"
    "   pushal; push %ds; push %es; push %fs; push %gs\n"
    "   mov $0x3333, %ax\n"
    "   mov %ax, %ds; mov %ax, %es; mov %ax, %fs; mov %ax, %gs\n"
    "   movzwl %ax, %ecx; mov %ecx, %ebx; mov %ecx, %esi; mov %ecx, %edi; mov %ecx, %ebp\n"
    "   std\n"
    "   mul %cx\n"
    "   pop %gs; pop %fs; pop %es; pop %ds; popal\n"
    "   iret\n"
    "real_sti:\n"
    "   sti\n"
    "   iret\n"
    "real_carry:\n"
    "   push %bp\n"
    "   mov %sp, %bp\n"
    "   xorb $1, 6(%bp)\n"
    "   pop %bp\n"
    "   iret\n"
    "real_count:\n"
    "   push %ds\n"
    "   push $0x3000\n"
    "   pop %ds\n"
    "   incw 0x7000\n"
    "   pop %ds\n"
    "   iret\n"
    "real_far:\n" /* returns with its own flags */
    "   cmp %ax, %bx\n"
    "   sti\n"
    "   lret $2\n"
    "real_end:\n"
    ".code32\n"
    "v86_begin:\n"
    "v86_nothing:\n"
    "   iretl\n"
    "v86_cr3:\n"
    "   pushl %eax\n"
    "   mov %cr3, %eax\n"
    "   mov %eax, %cr3\n"
    "   popl %eax\n"
    "   iretl\n"
    "v86_touch:\n"
    "   pushl %eax; pushl %ecx\n"
    "   mov $0x10, %eax\n"
    "   mov %eax, %ds\n"
    "   movl 0x408000, %eax\n"
    "   movb (%eax), %cl\n"
    "   movb %cl, (%eax)\n"
    "   popl %ecx; popl %eax\n"
    "   iretl\n"
    "v86_calls:\n"
    "   pushl %eax; pushl %ecx\n"
    "   mov $9, %ecx\n"
    "1: call 2f\n"
    "2: popl %eax\n"
    "   add $(3f - 2b), %eax\n"
    "   pushl %eax\n"
    "   ret\n"
    "3: loop 1b\n"
    "   popl %ecx; popl %eax\n"
    "   iretl\n"
    "v86_registers:\n"
    "   pushal\n"
    "   mov $0x12345678, %eax\n"
    "   mov %eax, %ecx; mov %eax, %ebx; mov %eax, %esi; mov %eax, %edi; mov %eax, %ebp\n"
    "   std\n"
    "   mul %ecx\n"
    "   popal\n"
    "   iretl\n"
    "v86_carry:\n"
    "   xorb $1, 8(%esp)\n"
    "   iretl\n"
    "v86_end:\n"
    ".code64\n"
    "   .popsection\n");
extern const u8 real_begin[], real_nothing[], real_nested[], real_touch[], real_registers[], real_sti[], real_carry[], real_count[], real_far[],
    real_end[];
extern const u8 v86_begin[], v86_nothing[], v86_cr3[], v86_touch[], v86_calls[], v86_registers[], v86_carry[], v86_end[];
_Static_assert(TOUCH + KERNEL == 0x408000 && TOUCH16 == 0x500, "as the handlers have it");

static const u8 *handler16(unsigned v)
{
    static const u8 *const interrupts[INTERRUPTS] = {real_nothing, real_nested, real_touch, real_sti, real_registers, real_nothing};
    static const u8 *const ints[REAL_INTS] = {real_nothing, real_carry, real_count, real_sti, real_far, real_carry, real_registers, real_touch};
    return v == 2 ? real_nothing :
        v - FIRST_INTERRUPT < INTERRUPTS ? interrupts[v - FIRST_INTERRUPT] :
        v - REAL_FIRST_INT < REAL_INTS ? ints[v - REAL_FIRST_INT] : NULL;
}
static const u8 *handler32(unsigned v)
{
    static const u8 *const interrupts[INTERRUPTS] = {v86_nothing, v86_cr3, v86_touch, v86_calls, v86_registers, v86_nothing};
    static const u8 *const ints[REAL_INTS] = {v86_nothing, v86_carry, v86_cr3, v86_calls, v86_carry, v86_registers, v86_touch, v86_nothing};
    return v == 2 ? v86_nothing :
        v - FIRST_INTERRUPT < INTERRUPTS ? interrupts[v - FIRST_INTERRUPT] :
        v - REAL_FIRST_INT < REAL_INTS ? ints[v - REAL_FIRST_INT] : NULL;
}

/* Where a page of the linear addresses is: pages of programs lie the other way round in virtual-8086 mode. */
static u64 gpa_of(const struct sequence *q, u64 lin)
{
    return q->env.v86 && lin >= 0x2000 && lin < 0x80000 ? 0x80000 - (lin & ~0xfffull) + 0x1000 : lin & ~0xfffull;
}

/* ---- the machine's tables ------------------------------------------------------------- */

static void put32(struct real_guest *g, u64 gpa, u32 value) { memcpy(page(g, gpa), &value, 4); }
static void put64(struct real_guest *g, u64 gpa, u64 value) { memcpy(page(g, gpa), &value, 8); }

/* Linear addresses that programs see; the same for all but the code. */
static u8 template[REAL_SIZE];
static void build_template(void)
{
    struct rng r = {77};
    memset(template, 0xcc, sizeof(template));
    for (u32 at = REAL_DATA; at < REAL_DATA + 0x18000; at += 8) {
        const u64 x = gen_number(&r);
        memcpy(template + at, &x, 8);
        memcpy(template + REAL_STACK + (at - REAL_DATA), &x, 8);
    }
    for (unsigned v = 0; v < 256; v++) {
        const u8 *h = handler16(v);
        const u16 vector[2] = {h ? (u16)(h - real_begin) : (u16)(v * 4), (h ? REAL_HANDLERS : STUBS16) >> 4};
        memcpy(template + v * 4, vector, 4);
        memcpy(template + STUBS16 + v * 4, (const u8[]){0xe6, REAL_EXIT, 0xcc, 0xcc}, 4);
    }
    memcpy(template + REAL_HANDLERS, real_begin, (size_t)(real_end - real_begin));
}

static void build_kernel(struct real_guest *g, const struct sequence *q)
{
    put32(g, PD, PT_LOW | 7);
    put32(g, PD + 4, PT_KERNEL | 3);
    for (u64 lin = 0; lin < REAL_SIZE; lin += 4096)
        put32(g, PT_LOW + (lin >> 12) * 4, (u32)(gpa_of(q, lin) | (lin == READ_ONLY ? 0x65 : 0x67)));
    for (u64 n = 0; n < (RAM_END - PD) >> 12; n++)
        put32(g, PT_KERNEL + n * 4, (u32)((PD + n * 4096) | 0x63));
    put64(g, GDT + 8, 0x00cf9b000000ffff);
    put64(g, GDT + 16, 0x00cf93000000ffff);
    for (unsigned v = 0; v < 256; v++) {
        const u8 *h = handler32(v);
        const u64 at = KERNEL + (h ? HANDLERS + (u64)(h - v86_begin) : STUBS + v * 4u);
        const u64 dpl = v == 3 || v == 4 || v - REAL_FIRST_INT < REAL_INTS ? 3 : 0;
        put64(g, IDT + v * 8, (at & 0xffff) | 8 << 16 | (0x8e00 | dpl << 13) << 32 | at >> 16 << 48);
        memcpy(page(g, STUBS + v * 4), (const u8[]){0xe6, REAL_EXIT, 0xeb, 0xfe}, 4);
    }
    memcpy(page(g, HANDLERS), v86_begin, (size_t)(v86_end - v86_begin));
    put32(g, TSS + 4, KERNEL + KSTACK_TOP);
    put32(g, TSS + 8, 0x10);
    put32(g, TSS + 0x64, 0x68 << 16);
    memset(page(g, TSS + 0x68), 0, 32); /* ports 0 to FFh are free */
    memset(page(g, TSS + 0x68 + 32), 0xff, 1);
}

static void fresh_state(struct real_guest *g, const struct sequence *q)
{
    struct cpu_state *s = &g->state;
    cpu_reset(s, true);
    memcpy(s->gpr, q->init.gpr, sizeof(s->gpr));
    s->rip = q->init.rip;
    s->rflags = q->init.rflags;
    memcpy(s->xsave, q->init.xsave, sizeof(s->xsave));
    memcpy(s->xsave + 512, &(u64){3}, 8);
    memcpy(s->seg, q->env.seg, sizeof(s->seg));
    s->cr0 = q->env.cr0;
    s->cr4 = q->env.cr4;
    s->idtr = (struct cpu_table){0, 0x3ff};
    if (q->env.v86) {
        s->cr3 = PD;
        s->idtr = (struct cpu_table){KERNEL + IDT, 0x7ff};
        s->gdtr = (struct cpu_table){KERNEL + GDT, 0x17};
        s->tr = (struct cpu_seg){.selector = 0x20, .attr = 0x8b, .limit = 0x68 + 32, .base = KERNEL + TSS};
    }
    engine_soft.set_state(g->vcpu[g->now], s);
    engine_soft.reset_caches(g->vm[g->now]);
}

/* ---- cuts from another thread ----------------------------------------------------- */

static u64 cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* Also ends what goes on for ever, and lets one that halted for good be seen. */
static void *rush(void *arg)
{
    struct rng r = {0x1234567};
    cpu_set_t any; /* the rest of this program stays on one */
    memset(&any, 0xff, sizeof(any));
    sched_setaffinity(0, sizeof(any), &any);
    for (u32 n = 0;; n++) {
        pthread_mutex_lock(&rusher.change);
        while (!rusher.running && !rusher.ends)
            pthread_cond_wait(&rusher.begun, &rusher.change);
        struct real_guest *g = rusher.running;
        const bool ends = rusher.ends;
        if (g) {
            struct engine_vcpu *v = g->vcpu[g->now];
            const bool endless = (s64)(cpu_ns() - rusher.until) >= 0;
            if (endless)
                __atomic_store_n(&g->gave_up, 1, __ATOMIC_RELEASE);
            if (endless || n % 64 == 0 || (g->rushed && (!g->interrupts || chance(&r, 40)))) {
                engine_soft.kick(v);
            } else if (g->rushed && chance(&r, 30)) {
                engine_soft.signal(v, SIGNAL_NMI, 0);
            } else if (g->rushed) {
                __atomic_store_n(&g->line, 1, __ATOMIC_SEQ_CST);
                engine_soft.signal(v, SIGNAL_INTR, 1);
            }
        }
        pthread_mutex_unlock(&rusher.change);
        if (ends)
            return NULL;
        struct timespec t = {.tv_nsec = 20000 + rng_below(&r, 200000)};
        nanosleep(&t, NULL);
    }
}

/* ---- life ------------------------------------------------------------------------- */

struct real_guest *real_guest_new(int translate_after)
{
    struct error err = {""};
    struct real_guest *g = aligned_alloc(64, align_up(sizeof(*g), 64));
    if (!g)
        return NULL;
    memset(g, 0, sizeof(*g));
    g->memory = memory_new(&err);
    if (!g->memory || memory_add(g->memory, "low", 0, REAL_DEVICE, false, &err) ||
        memory_add(g->memory, "high", DEVICE_END, RAM_END - DEVICE_END, false, &err))
        goto failed;
    g->low = memory_ptr(g->memory, 0, REAL_DEVICE, true);
    g->high = memory_ptr(g->memory, DEVICE_END, RAM_END - DEVICE_END, true);
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    if (!caps || engine_soft.probe(caps, &err))
        goto failed;
    struct cpuid_request rq = {.model = "max", .cpus = 1, .supported = &caps->supported};
    if (cpuid_build(&g->cpuid, &rq, &err))
        goto failed;
    free(caps);
    struct engine_config cfg = {.memory = g->memory, .cpuid = &g->cpuid, .ops = &machine, .machine = g, .cpus = 1};
    if (engine_soft.vm_create(&g->vm[1], &cfg, &err) || engine_soft.vcpu_create(g->vm[1], 0, &g->vcpu[1], &err))
        goto failed;
    if (translate_after != INTERPRET) {
        g->translates = true;
        cfg.code_cache = MiB(8);
        cfg.translate_after = (u32)translate_after;
    }
    if (engine_soft.vm_create(&g->vm[0], &cfg, &err) || engine_soft.vcpu_create(g->vm[0], 0, &g->vcpu[0], &err))
        goto failed;
    build_template();
    if (!rusher.users++) {
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &old);
        const int r = pthread_create(&rusher.thread, NULL, rush, NULL);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r)
            abort();
    }
    return g;
failed:
    fprintf(stderr, "no guest: %s\n", err.text);
    free(g);
    return NULL;
}

void real_guest_free(struct real_guest *g)
{
    if (!--rusher.users) {
        pthread_mutex_lock(&rusher.change);
        rusher.ends = true;
        pthread_cond_signal(&rusher.begun);
        pthread_mutex_unlock(&rusher.change);
        pthread_join(rusher.thread, NULL);
    }
    for (unsigned i = 0; i < 2; i++) {
        engine_soft.vcpu_destroy(g->vcpu[i]);
        engine_soft.vm_destroy(g->vm[i]);
    }
    memory_free(g->memory);
    free(g);
}

u64 real_cuts(const struct real_guest *g) { return g->cuts; }

/* ---- a run -------------------------------------------------------------------------- */

static void fill_memory(struct real_guest *g, const struct sequence *q, const u8 *code, unsigned code_len)
{
    static u8 now[REAL_SIZE];
    memcpy(now, template, REAL_SIZE);
    memcpy(now + q->code, code, code_len);
    const u64 touch = q->code + rng_below(&g->rng, code_len);
    const u16 pointer[2] = {(u16)(touch & 15), (u16)(touch >> 4)};
    memcpy(now + TOUCH16, pointer, 4);
    for (u64 lin = 0; lin < REAL_SIZE; lin += 4096)
        if (lin != REAL_DEVICE)
            memcpy(page(g, gpa_of(q, lin)), now + lin, 4096);
    memcpy(g->device, template + REAL_DATA, sizeof(g->device));
    if (q->env.v86) {
        build_kernel(g, q);
        put32(g, TOUCH, (u32)touch);
    }
}

static bool move(struct real_guest *g)
{
    const unsigned to = !g->now;
    if (engine_soft.get_state(g->vcpu[g->now], &g->state) || engine_soft.set_state(g->vcpu[to], &g->state))
        return false;
    pthread_mutex_lock(&rusher.change);
    engine_soft.signal(g->vcpu[g->now], SIGNAL_INTR, 0);
    engine_soft.signal(g->vcpu[to], SIGNAL_INTR, __atomic_load_n(&g->line, __ATOMIC_SEQ_CST));
    engine_soft.reset_caches(g->vm[to]);
    g->now = to;
    pthread_mutex_unlock(&rusher.change);
    return true;
}

static u32 undefined_flags(const struct sequence *q, unsigned offset)
{
    static u8 code[CODE_SIZE];
    static unsigned offsets[SEQ_MAX + 1];
    unsigned k = 0;
    gen_assemble(q, code, offsets);
    while (k < q->n && (offsets[k] < offset || !q->insn[k].len))
        k++;
    return gen_undefined_flags(q, k);
}

static void take(struct real_guest *g, const struct sequence *q, unsigned code_len, struct real_outcome *o)
{
    struct cpu_state *s = &o->s;
    for (u64 lin = 0; lin < REAL_SIZE; lin += 4096)
        memcpy(o->memory + lin, lin == REAL_DEVICE ? g->device : page(g, gpa_of(q, lin)), 4096);
    memset(o->memory + TOUCH16, 0, 4);
    memset(o->frame, 0, sizeof(o->frame));
    const u64 stub = s->seg[CS].base + s->rip - (q->env.v86 && !(s->rflags & RFLAGS_VM) ? STUBS + KERNEL : STUBS16);
    if (o->vector == VECTOR_END && stub < 256 * 4) {
        unsigned flags_at = 0;
        u64 live_from;
        u16 flags;
        o->vector = (unsigned)stub / 4;
        if (q->env.v86) {
            const u64 n = MIN(KSTACK_TOP + KERNEL - s->gpr[RSP], sizeof(o->frame)), words = n / 4;
            memcpy(o->frame, page(g, s->gpr[RSP] - KERNEL), n);
            const unsigned at = words == 10;
            flags_at = at + 2;
            live_from = o->frame[at] + (u64)(o->frame[at + 1] & 0xffff) * 16;
        } else {
            const u64 ss = s->seg[SS].base;
            u16 ip, cs;
            memcpy(&ip, o->memory + ((ss + (u16)s->gpr[RSP]) % REAL_SIZE), 2);
            memcpy(&cs, o->memory + ((ss + (u16)(s->gpr[RSP] + 2)) % REAL_SIZE), 2);
            live_from = ip + cs * 16u;
        }
        /* A translation keeps only those arithmetic flags that are read again. */
        u32 mask = ~(u32)RFLAGS_ARITH; /* which those are is not known of code that changes, and beyond the program's */
        if (!q->patches_itself && live_from - q->code < code_len)
            mask |= gen_live_flags(q, (unsigned)(live_from - q->code)) & ~undefined_flags(q, (unsigned)(live_from - q->code));
        s->rflags &= mask;
        if (q->env.v86) {
            o->frame[flags_at] &= mask;
        } else {
            u8 *p = o->memory + ((s->seg[SS].base + (u16)(s->gpr[RSP] + 4)) % REAL_SIZE);
            memcpy(&flags, p, 2);
            flags &= (u16)mask;
            memcpy(p, &flags, 2);
        }
    }
    if (o->vector == VECTOR_SHUTDOWN) { /* no room to push; the same flags are not known, nor where they were pushed before */
        s->rflags &= ~(u64)RFLAGS_ARITH;
        for (unsigned n = 0; n < 32; n++)
            o->memory[(s->seg[SS].base + (u16)(s->gpr[RSP] + n - 16)) % REAL_SIZE] = 0;
    }
    if (q->env.cuts && !q->env.v86)
        for (unsigned n = 1; n <= 0xe000; n++)
            o->memory[(s->seg[SS].base + (u16)(s->gpr[RSP] - n)) % REAL_SIZE] = 0;
}

bool real_run(struct real_guest *g, const struct sequence *q, const u8 *code, unsigned code_len, struct real_outcome *o, enum real_how how)
{
    struct error err = {""};
    enum run_result r;
    pthread_mutex_lock(&rusher.change);
    g->now = 0;
    __atomic_store_n(&g->line, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 2; i++)
        engine_soft.signal(g->vcpu[i], SIGNAL_INTR, 0);
    g->rng.s = q->data_seed | 1;
    g->interrupts = q->env.cuts;
    g->prodded = how == REAL_PRODDED;
    g->exited = false;
    __atomic_store_n(&g->gave_up, 0, __ATOMIC_RELEASE);
    fill_memory(g, q, code, code_len);
    fresh_state(g, q);
    g->rushed = how == REAL_RUSHED;
    rusher.running = g;
    /* What the interpreter ends in that time, the others end in far less than this. */
    rusher.until = cpu_ns() + (g->translates || how != REAL_PLAIN ? 60000000000 : 2000000000);
    pthread_cond_signal(&rusher.begun);
    pthread_mutex_unlock(&rusher.change);
    o->vector = VECTOR_END;
    for (;;) {
        r = engine_soft.run(g->vcpu[g->now], &err);
        if (r != RUN_KICKED || g->exited || __atomic_load_n(&g->gave_up, __ATOMIC_ACQUIRE))
            break;
        engine_soft.get_state(g->vcpu[g->now], &o->s);
        if (o->s.activity == CPU_HALTED) {
            o->vector = VECTOR_HALTED;
            break;
        }
        g->cuts++;
        if (how != REAL_PLAIN && chance(&g->rng, 12) && !move(g))
            break;
    }
    pthread_mutex_lock(&rusher.change);
    rusher.running = NULL;
    pthread_mutex_unlock(&rusher.change);
    g->prodded = false;
    engine_soft.get_state(g->vcpu[g->now], &o->s);
    if (r == RUN_SHUTDOWN)
        o->vector = VECTOR_SHUTDOWN;
    else if (!g->exited && o->vector != VECTOR_HALTED) {
        if (r == RUN_ERROR)
            fprintf(stderr, "the engine ended with an error: %s\n", err.text);
        return false;
    }
    take(g, q, code_len, o);
    return true;
}
