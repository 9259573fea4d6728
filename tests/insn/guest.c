/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.c - a sequence in a guest of the software engine: ring 3 of a long mode set up as Linux does it, with the same
 * selectors, so that pushed and stored selectors compare too. Every vector leads to an OUT, on which the run ends; what
 * the processor pushed is then taken from the ring 0 stack. Behind the OUT the kernel enters the next run itself, so that
 * translations of the code live on.
 *
 * The pages of an area lie apart from each other in guest memory, with a pattern between them that must stay: an access
 * across a page's end must be two.
 *
 * A run may be cut: by kicks, after which it goes on, sometimes as a state loaded into another engine, and by interrupts,
 * whose handlers do what a kernel does to running code. None of that may change how it ends.
 */
#include "gen.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/cpu.h"
#include "engine/engine.h"
#include "memory/memory.h"

enum { /* guest-physical */
    PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT_LOW = 0x4000, PT_HIGH = 0x5000, PDPT_KERNEL = 0x6000, PD_KERNEL = 0x7000,
    GDT = 0x8000, IDT = 0x9000, TSS = 0xa000, STUBS = 0xb000, HANDLERS = 0xb800, KSTACK_TOP = 0xe000, LDT = 0xf000,
    ENTRY = 0x10000, CODE_COPY = 0x14000,
    CODE_GPA = 0x100000, DATA_GPA = 0x110000, STACK_GPA = 0x120000, AREAS_END = 0x130000, RAM_SIZE = 0x200000,
    DEVICE_GPA = 0xd0000000,
};
enum { PATTERN = 0xa5, FIRST_INTERRUPT = 0x40, INTERRUPTS = 6 };
/* The kernel's half, which ring 3 cannot see: the first 2 MiB of guest memory. */
#define KERNEL 0xffff800000000000ull
enum { EXIT_PORT = 0xf4, GDT_CODE = 0x10, GDT_USER32 = 0x20, GDT_USER_DATA = 0x28, GDT_USER = 0x30, GDT_TSS = 0x40 };

/* What the kernel's way into a run takes from ENTRY; the XSAVE image lies a page further. */
struct entry {
    u64 code, code_len; /* to be written first */
    u64 touch;          /* a byte of code for an interrupt handler to write */
    u64 gpr[15];        /* all but RSP, last to first */
    u64 rip, cs, rflags, rsp, ss;
};

struct guest {
    struct memory *memory;
    u8 *ram;
    u8 device[DEVICE_SIZE];
    struct cpuid_table cpuid;
    struct engine_vm *vm[2];       /* the second: another engine on the same memory, which a run may be moved to */
    struct engine_vcpu *vcpu[2];
    unsigned now;                  /* which of them runs */
    int translate_after;
    struct cpu_state state;
    bool exited;
    u32 line;                      /* INTR is raised; atomic */
    struct rng rng;                /* of cuts */
    bool prodded;
    u64 cuts;
    pthread_t rusher;
    bool has_rusher, started;
    u32 rushed, rusher_ends;       /* atomic */
    u32 beat;                      /* a run began or ended; atomic */
    bool gave_up;
};

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

static const struct engine_machine machine = {
    port_read, port_write, mmio_read, mmio_write, interrupt_ack, cr8_read, cr8_write, msr_read, msr_write,
    .mmio_run = mmio_run,
};

static void put(struct guest *g, u64 gpa, u64 value) { memcpy(g->ram + gpa, &value, 8); }

/* ---- the guest's kernel ------------------------------------------------------- */

/* Handlers in the order of struct handlers; the constants are KERNEL + ENTRY and the areas' addresses. */
__asm__(
    ".pushsection .rodata\n"
    "kernel_enter:\n"
    "   cld\n"
    "   movabs $0xffff800000010000, %rsp\n"
    "   mov (%rsp), %rdi\n"
    "   mov 8(%rsp), %rcx\n"
    "   lea 0x4000(%rsp), %rsi\n"
    "   rep movsb\n"
    "   mov $-1, %eax\n"
    "   mov $-1, %edx\n"
    "kernel_restore:\n"
    "   xrstor64 0x1000(%rsp)\n"
    "   mov 0xb0(%rsp), %eax; mov %eax, %ds; mov %eax, %es\n" /* a jump that went astray may have popped others */
    "   add $24, %rsp\n"
    "   pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n"
    "   pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
    "   iretq\n"
    "kernel_nothing:\n" /* also for NMI */
    "   iretq\n"
    "kernel_cr3:\n"
    "   push %rax\n"
    "   mov %cr3, %rax\n"
    "   mov %rax, %cr3\n"
    "   pop %rax\n"
    "   iretq\n"
    "kernel_code:\n" /* what is written is what was there */
    "   push %rax\n"
    "   push %rcx\n"
    "   movabs $0xffff800000010010, %rax\n"
    "   mov (%rax), %rax\n"
    "   mov (%rax), %cl\n"
    "   mov %cl, (%rax)\n"
    "   pop %rcx\n"
    "   pop %rax\n"
    "   iretq\n"
    "kernel_invlpg:\n"
    "   push %rax\n"
    "   mov $0x10000000, %eax\n"
    "1: invlpg (%rax)\n"
    "   add $0x1000, %eax\n"
    "   cmp $0x10004000, %eax\n"
    "   jne 1b\n"
    "   mov $0x10100000, %eax\n"
    "1: invlpg (%rax)\n"
    "   invlpg 0x100000(%rax)\n"
    "   add $0x1000, %eax\n"
    "   cmp $0x10105000, %eax\n"
    "   jne 1b\n"
    "   pop %rax\n"
    "   iretq\n"
    "kernel_calls:\n" /* calls without returns, returns without calls */
    "   push %rax\n"
    "   push %rbx\n"
    "   mov $20, %eax\n"
    "1: call 2f\n"
    "2: pop %rbx\n"
    "   lea 3f(%rip), %rbx\n"
    "   push %rbx\n"
    "   ret\n"
    "3: dec %eax\n"
    "   jnz 1b\n"
    "   call 4f\n"
    "   pop %rbx\n"
    "   pop %rax\n"
    "   iretq\n"
    "4: ret\n"
    "kernel_registers:\n"
    "   push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi; push %r8\n"
    "   push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15\n"
    "   mov $0x1234567890abcdef, %rax\n"
    "   cqo\n"
    "   mov %rax, %rcx; mov %rax, %rbx; mov %rax, %rbp; mov %rax, %rsi; mov %rax, %rdi; mov %rax, %r8; mov %rax, %r9\n"
    "   mov %rax, %r10; mov %rax, %r11; mov %rax, %r12; mov %rax, %r13; mov %rax, %r14; mov %rax, %r15\n"
    "   std\n"
    "   mul %rcx\n"
    "   pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n"
    "   pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
    "   iretq\n"
    "kernel_end:\n"
    "   .popsection\n");
extern const u8 kernel_enter[], kernel_restore[], kernel_nothing[], kernel_cr3[], kernel_code[], kernel_invlpg[], kernel_calls[], kernel_registers[],
    kernel_end[];
_Static_assert(KERNEL + ENTRY == 0xffff800000010000 && CODE_COPY == ENTRY + 0x4000 && CODE_BASE == 0x10000000 && CODE_SIZE == 0x4000 &&
        DATA_BASE == 0x10100000 && DATA_SIZE == 0x5000 && STACK_BASE == DATA_BASE + 0x100000 && offsetof(struct entry, touch) == 16 &&
        offsetof(struct entry, gpr) == 24 && offsetof(struct entry, ss) == 0xb0,
    "as the handlers have it");

/* Where page n of an area is in guest memory: none beside its neighbour. */
static u64 page_gpa(u64 area, unsigned n)
{
    static const u8 slot[] = {2, 0, 3, 1, 4};
    return area + slot[n] * 0x2000;
}

static void scatter(struct guest *g, u64 area, u64 offset, const u8 *from, u64 size)
{
    for (u64 n; size; offset += n, from += n, size -= n) {
        n = MIN(4096 - offset % 4096, size);
        memcpy(g->ram + page_gpa(area, (unsigned)(offset / 4096)) + offset % 4096, from, n);
    }
}

static void gather(const struct guest *g, u64 area, u8 *to, u64 size)
{
    for (u64 at = 0; at < size; at += 4096)
        memcpy(to + at, g->ram + page_gpa(area, (unsigned)(at / 4096)), 4096);
}

bool guest_code(const struct guest *g, u64 lin, u8 *to, unsigned n)
{
    static u8 all[CODE_SIZE];
    if (lin < CODE_BASE || lin - CODE_BASE > CODE_SIZE - n)
        return false;
    gather(g, CODE_GPA, all, CODE_SIZE);
    memcpy(to, all + (lin - CODE_BASE), n);
    return true;
}

/* The pages between those of the areas; false: something wrote there. */
static bool pattern(struct guest *g, bool check)
{
    static const u8 want[4096] = {[0 ... 4095] = PATTERN};
    for (u64 gpa = CODE_GPA + 0x1000; gpa < AREAS_END; gpa += 0x2000)
        if (!check)
            memcpy(g->ram + gpa, want, 4096);
        else if (memcmp(g->ram + gpa, want, 4096))
            return false;
    return true;
}

static void map(struct guest *g, u64 lin, u64 area, unsigned first, u64 size, bool write)
{
    for (u64 n = 0; n < size; n += 4096) {
        u64 gpa = page_gpa(area, first + (unsigned)(n / 4096));
        u64 pt = (lin >> 21) & 1 ? PT_HIGH : PT_LOW; /* 2 MiB from CODE_BASE on, and the next */
        u64 flags = 0x65 | (write ? 2 : 0) | (lin == CODE_BASE ? 0 : BIT(63)); /* present, user, accessed, dirty; NX */
        put(g, pt + ((lin + n) >> 12 & 511) * 8, gpa | flags);
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
    map(g, CODE_BASE, CODE_GPA, 0, CODE_SIZE, true);
    map(g, DATA_BASE, DATA_GPA, 0, DATA_RO, true);
    map(g, DATA_BASE + DATA_RO, DATA_GPA, DATA_RO / 4096, DATA_SIZE - DATA_RO, false);
    map(g, STACK_BASE, STACK_GPA, 0, STACK_SIZE, true);
    put(g, PT_HIGH + (DEVICE_BASE >> 12 & 511) * 8, DEVICE_GPA | 0x67 | BIT(63));
    pattern(g, false);

    put(g, GDT + 8, 0x00cf9b000000ffff); /* what Linux has, for LAR and its like */
    put(g, GDT + GDT_CODE, 0x00af9b000000ffff);
    put(g, GDT + GDT_CODE + 8, 0x00cf93000000ffff);
    put(g, GDT + GDT_USER32, 0x00cffb000000ffff);
    put(g, GDT + GDT_USER_DATA, 0x00cff3000000ffff);
    put(g, GDT + GDT_USER, 0x00affb000000ffff);
    put(g, GDT + 0x78, 0x0040f50000000000); /* Linux's for the number of the CPU */
    for (u64 v = 0; v < 256; v++) {
        static const u8 *const handlers[INTERRUPTS] = {kernel_nothing, kernel_cr3, kernel_code, kernel_invlpg, kernel_calls, kernel_registers};
        const u8 *handler = v == 2 ? kernel_nothing : v >= FIRST_INTERRUPT && v < FIRST_INTERRUPT + INTERRUPTS ? handlers[v - FIRST_INTERRUPT] : NULL;
        u64 at = KERNEL + (handler ? HANDLERS + (u64)(handler - kernel_enter) : STUBS + v * 8);
        u64 dpl = v == 3 || v == 4 ? 3 : 0;
        put(g, IDT + v * 16, (at & 0xffff) | GDT_CODE << 16 | (0x8e00 | dpl << 13) << 32 | (at >> 16 & 0xffff) << 48);
        put(g, IDT + v * 16 + 8, at >> 32);
        u8 stub[8] = {0xe6, EXIT_PORT, 0xe9};
        u32 to_enter = (u32)(HANDLERS - (STUBS + v * 8 + 7));
        memcpy(stub + 3, &to_enter, 4);
        memcpy(g->ram + STUBS + v * 8, stub, 8);
    }
    memcpy(g->ram + HANDLERS, kernel_enter, (size_t)(kernel_end - kernel_enter));
    if (!guest_has(g, ISA_XSAVE)) /* FXRSTOR64 with the same operand: 0F AE /1 for /5 */
        g->ram[HANDLERS + (kernel_restore - kernel_enter) + 3] ^= (5 ^ 1) << 3;
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
    s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | (guest_has(g, ISA_XSAVE) ? CR4_OSXSAVE : 0) |
        (guest_has(g, ISA_FSGSBASE) ? CR4_FSGSBASE : 0);
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

/* ---- cuts from another thread ----------------------------------------------------- */

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

static void start_rusher(struct guest *g)
{
    sigset_t all, old;
    if (g->has_rusher)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    g->has_rusher = pthread_create(&g->rusher, NULL, rush, g) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* ---- life ------------------------------------------------------------------------- */

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
    struct cpuid_request rq = {.model = model, .cpus = 1, .supported = &caps->supported};
    if (cpuid_build(&g->cpuid, &rq, &err))
        goto failed;
    free(caps);
    struct engine_config cfg = {.memory = g->memory, .cpuid = &g->cpuid, .ops = &machine, .machine = g, .cpus = 1};
    if (engine_soft.vm_create(&g->vm[1], &cfg, &err) || engine_soft.vcpu_create(g->vm[1], 0, &g->vcpu[1], &err))
        goto failed;
    cfg.trace = trace;
    if (translate_after != INTERPRET) {
        cfg.code_cache = MiB(8);
        cfg.translate_after = (u32)translate_after;
    }
    if (engine_soft.vm_create(&g->vm[0], &cfg, &err) || engine_soft.vcpu_create(g->vm[0], 0, &g->vcpu[0], &err))
        goto failed;
    build_tables(g);
    build_state(g);
    u8 page[DATA_SIZE - DATA_RO];
    gen_read_only(page);
    scatter(g, DATA_GPA, DATA_RO, page, sizeof(page));
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

/* ---- a run -------------------------------------------------------------------------- */

/* What a sequence finds in memory, but for its code. */
static void fill_memory(struct guest *g, const struct sequence *q)
{
    u8 data[DATA_SIZE], stack[STACK_SIZE];
    gen_memory(q->data_seed, data, stack);
    scatter(g, DATA_GPA, 0, data, DATA_RO);
    scatter(g, STACK_GPA, 0, stack, STACK_SIZE);
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
    gather(g, DATA_GPA, o->data, DATA_SIZE);
    gather(g, STACK_GPA, o->stack, STACK_SIZE);
    memcpy(o->device, g->device, DEVICE_SIZE);
    if (!pattern(g, true)) {
        fprintf(stderr, "the engine wrote beside a page\n");
        pattern(g, false);
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
        scatter(g, CODE_GPA, 0, all, CODE_SIZE);
        g->rng.s = q->data_seed | 1;
    } else if (!changed) {
        gather(g, CODE_GPA, now, CODE_SIZE);
        changed = memcmp(now, all, CODE_SIZE) != 0;
    }
    fill_memory(g, q);
    fill_entry(g, q, changed);
    ((struct entry *)(g->ram + ENTRY))->touch = q->code + rng_below(&g->rng, code_len);
    if (how == HOW_FRESH)
        fresh_state(g, q);
    if (q->flow)
        start_rusher(g);
    __atomic_fetch_add(&g->beat, 1, __ATOMIC_ACQ_REL);
    g->prodded = how == HOW_PRODDED;
    __atomic_store_n(&g->rushed, how == HOW_RUSHED, __ATOMIC_RELEASE);
    ended = run_to_exit(g);
    __atomic_store_n(&g->rushed, 0, __ATOMIC_RELEASE);
    __atomic_fetch_add(&g->beat, 1, __ATOMIC_ACQ_REL);
    g->prodded = false;
    return ended && take_outcome(g, o);
}
