/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_cpu.c - a sequence on the host CPU.
 *
 * The kernel's signal frame holds every register there is, so it is what loads and stores them: a trap enters the
 * handler, which writes the sequence's state into its frame and returns into it; the trap or fault at its end enters
 * the handler again, which takes the state out and puts back the frame of the first trap. A code selector in the
 * frame chooses 64 or 32 bit code.
 */
#include "oracle.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "cpu/cpu.h"

const struct ldt_spec ldt_specs[LDT_COUNT] = {
    [LDT_CODE16] = {CODE_BASE, CODE_SIZE - 1, 2, .wide = false},
    [LDT_DATA] = {DATA_BASE, DATA_SIZE - 1, 0, .wide = false},
    [LDT_STACK16] = {STACK_BASE, STACK_SIZE - 1, 0, .wide = false},
    [LDT_CODE32] = {CODE_BASE, CODE_SIZE - 1, 2, .wide = true},
    [LDT_STACK32] = {STACK_BASE, STACK_SIZE - 1, 0, .wide = true},
    [LDT_READ_ONLY] = {DATA_BASE, DATA_SIZE - 1, 0, .wide = true, .fixed = true},
    [LDT_DOWN16] = {DATA_BASE, 0xfff, 1, .wide = false},
    [LDT_DOWN32] = {DATA_BASE, 0xfff, 1, .wide = true},
    [LDT_EXECUTE_ONLY] = {CODE_BASE, CODE_SIZE - 1, 2, .wide = true, .fixed = true},
    [LDT_OTHER32] = {CODE_BASE, CODE_SIZE - 1, 2, .wide = true},
    [LDT_OTHER16] = {CODE_BASE, CODE_SIZE - 1, 2, .wide = false},
    [LDT_ABSENT_DATA] = {DATA_BASE, DATA_SIZE - 1, 0, .wide = true, .absent = true},
    [LDT_ABSENT_CODE] = {CODE_BASE, CODE_SIZE - 1, 3, .wide = true, .absent = true},
    [LDT_PAGES] = {DATA_BASE, 3, 0, .wide = true, .pages = true},
};

u64 host_xcr0;
u32 host_xsave_size;
u32 host_component[8];
bool host_has_ldt;
bool host_restricted;

enum { USER32_CS = 0x23, USER_DS = 0x2b, USER_CS = 0x33 };

/* The one run at a time, for the handler. */
static struct {
    volatile enum { IDLE, START, RUNNING } phase;
    const struct sequence *q;
    struct outcome *o;
    u16 cs, ss;
    greg_t home[NGREG];
    u8 home_fp[XSAVE_MAX] __attribute__((aligned(64)));
    struct sigaction old[NSIG];
} run;

static const int gregs[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

enum { FX_SW_RESERVED = 464, FX_HEADER = 512 };

/* Into the frame, but for the software bytes by which the kernel knows its format. */
static void load_fp(u8 *frame, const u8 *image)
{
    memcpy(frame, image, FX_SW_RESERVED);
    memcpy(frame + FX_HEADER, image + FX_HEADER, host_xsave_size - FX_HEADER);
}

/* INT1 is a trap (SDM vol. 2, INT n: RIP is behind it), but on a host that is a virtual machine of some KVM on AMD RIP
   is that of the instruction. */
enum { INT1 = 0xf1 };
static bool int1_stays;
extern const u8 int1_at[];

static void int1_handler(int sig, siginfo_t *info, void *context)
{
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    int1_stays = g[REG_RIP] == (greg_t)int1_at;
    g[REG_RIP] = (greg_t)int1_at + 1;
}

static void try_int1(void)
{
    struct sigaction sa = {.sa_sigaction = int1_handler, .sa_flags = SA_SIGINFO}, old;
    sigaction(SIGTRAP, &sa, &old);
    __asm__ volatile(".globl int1_at; int1_at: .byte %c0" : : "i"(INT1) : "memory");
    sigaction(SIGTRAP, &old, NULL);
}

static void handler(int sig, siginfo_t *info, void *context)
{
    /* The kernel leaves them as the sequence had them, and returns to the next with what is set now. */
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~(u64)(RFLAGS_AC | RFLAGS_NT | RFLAGS_ID));
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    u8 *fp = (u8 *)uc->uc_mcontext.fpregs;

    if (run.phase == START && sig == SIGTRAP) {
        memcpy(run.home, g, sizeof(run.home));
        memcpy(run.home_fp, fp, host_xsave_size);
        const struct mstate *s = &run.q->init;
        for (int i = 0; i < 16; i++)
            g[gregs[i]] = (greg_t)s->gpr[i];
        g[REG_RIP] = (greg_t)s->rip;
        g[REG_EFL] = (greg_t)s->rflags;
        g[REG_CSGSFS] = (greg_t)(run.cs | (u64)run.ss << 48);
        load_fp(fp, s->xsave);
        run.phase = RUNNING;
        return;
    }
    if (run.phase == RUNNING) {
        struct outcome *o = run.o;
        u16 ds, es, gs; /* a signal leaves them as they were */
        __asm__("mov %%ds, %0; mov %%es, %1; mov %%gs, %2" : "=r"(ds), "=r"(es), "=r"(gs));
        o->s.selector[DS] = ds;
        o->s.selector[ES] = es;
        o->s.selector[GS] = gs;
        o->s.selector[CS] = (u16)g[REG_CSGSFS];
        o->s.selector[SS] = (u16)((u64)g[REG_CSGSFS] >> 48);
        for (int i = 0; i < 16; i++)
            o->s.gpr[i] = (u64)g[gregs[i]];
        o->s.rip = (u64)g[REG_RIP];
        o->s.rflags = (u64)g[REG_EFL];
        memcpy(o->s.xsave, fp, host_xsave_size);
        o->f.vector = sig == SIGVTALRM ? VECTOR_NO_END : (unsigned)g[REG_TRAPNO];
        if (int1_stays && o->f.vector == VEC_DB && !run.q->segmented && !(o->s.rflags & RFLAGS_TF) && *(u8 *)o->s.rip == INT1)
            o->s.rip++;
        o->f.error = (u32)g[REG_ERR];
        o->f.cr2 = (u64)g[REG_CR2];
        memcpy(g, run.home, sizeof(run.home));
        load_fp(fp, run.home_fp);
        run.phase = IDLE;
        return;
    }
    if (sig == SIGVTALRM) /* came too late */
        return;
    /* Not ours: the engine runs guest instructions on the host unit too. */
    struct sigaction *old = &run.old[sig];
    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, info, context);
    else
        signal(sig, SIG_DFL);
}

static int map(u64 at, u64 size, int prot)
{
    void *p = mmap((void *)at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
    return p == MAP_FAILED ? -errno : 0;
}

static void catch_signals(void)
{
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGVTALRM};
    for (unsigned i = 0; i < ARRAY_SIZE(sigs); i++) {
        struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
        sigaction(sigs[i], NULL, &now);
        if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == handler)
            continue;
        sigaction(sigs[i], &sa, &run.old[sigs[i]]);
    }
}

int host_init(void)
{
    /* Without XSAVE a frame holds what FXSAVE does, and with more than is looked at here (AMX, PKRU) only the first part of
       it is exchanged: behind the last component lies the kernel's mark. */
    u32 a = 1, b, c = 0, d, hi;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    host_xcr0 = 3;
    host_xsave_size = FX_HEADER;
    if (c >> 27 & 1) { /* OSXSAVE */
        __asm__ volatile("xgetbv" : "=a"(a), "=d"(hi) : "c"(0));
        host_xcr0 = a & 0xe7; /* x87, SSE, AVX, AVX-512 */
        host_xsave_size += 64;
    }
    for (u32 n = 2; n < 8; n++) {
        if (!(host_xcr0 >> n & 1))
            continue;
        a = 0xd;
        c = n;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        if (a + b > XSAVE_MAX)
            continue;
        host_component[n] = b;
        host_xsave_size = MAX(host_xsave_size, a + b);
    }

    try_int1();

    int r = map(CODE_BASE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (!r)
        r = map(DATA_BASE, DATA_SIZE, PROT_READ | PROT_WRITE);
    if (!r)
        r = map(STACK_BASE, STACK_SIZE, PROT_READ | PROT_WRITE);
    if (!r)
        r = map(DEVICE_BASE, DEVICE_SIZE, PROT_READ | PROT_WRITE);
    if (r)
        return r;
    gen_read_only((u8 *)DATA_BASE + DATA_RO);
    if (mprotect((void *)(DATA_BASE + DATA_RO), DATA_SIZE - DATA_RO, PROT_READ))
        return -errno;
    static u8 alt[256 * 1024];
    stack_t ss;
    if (sigaltstack(NULL, &ss) == 0 && ss.ss_flags & SS_DISABLE) {
        ss = (stack_t){.ss_sp = alt, .ss_size = sizeof(alt)};
        if (sigaltstack(&ss, NULL))
            return -errno;
    }
    host_has_ldt = true;
    for (unsigned i = 0; i < LDT_COUNT; i++) {
        const struct ldt_spec *l = &ldt_specs[i];
        struct user_desc u = {.entry_number = i, .base_addr = l->base, .limit = l->limit, .contents = l->contents,
            .seg_32bit = l->wide, .read_exec_only = l->fixed, .seg_not_present = l->absent, .limit_in_pages = l->pages};
        if (!l->base && !l->limit)
            u.read_exec_only = u.seg_not_present = 1; /* an empty entry */
        if (syscall(SYS_modify_ldt, 0x11, &u, sizeof(u)))
            host_has_ldt = false;
    }
    return 0;
}

void host_restrict(u64 xcr0)
{
    if (host_xcr0 & ~xcr0)
        host_restricted = true;
    host_xcr0 &= xcr0;
    for (u32 n = 2; n < 8; n++)
        if (!(host_xcr0 >> n & 1))
            host_component[n] = 0;
}

__attribute__((noinline)) static void trap(void)
{
    /* The handler puts all registers back but does it through C's eyes: it is a call that clobbers. */
    __asm__ volatile("int3" ::: "memory", "cc", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
}

static void run_in_frame(const struct sequence *q, u16 cs, u16 ss, struct outcome *o)
{
    run.q = q;
    run.o = o;
    run.cs = cs;
    run.ss = ss;
    run.phase = START;
    struct itimerval watchdog = {.it_value = {.tv_usec = 40000}}; /* of CPU time: it runs in circles */
    if (q->flow)
        setitimer(ITIMER_VIRTUAL, &watchdog, NULL);
    trap();
    watchdog.it_value.tv_usec = 0;
    if (q->flow)
        setitimer(ITIMER_VIRTUAL, &watchdog, NULL);
}

/*
 * MOVS and CMPS have two operands in memory. If both fault no order is architectural, and processors differ: Zen 5
 * names [rSI], Zen 4 [rDI]. What the other one's fault is, is asked of LODS, and STOS or SCAS, with the same prefixes and registers.
 */
static void find_other_fault(const struct sequence *q, struct outcome *o)
{
    enum { MOVS = 0xa4, CMPS = 0xa6, STOS = 0xaa, LODS = 0xac, SCAS = 0xae };
    static struct sequence one;
    static struct outcome end;
    static u8 area[CODE_SIZE];
    struct fault f[2];
    struct decoded d;
    const u64 at = o->s.rip + code_base(q) - CODE_BASE;
    o->has_other = false;
    if (o->f.vector < VEC_SS || o->f.vector > VEC_PF || at > CODE_SIZE - 16)
        return;
    memcpy(area, (void *)CODE_BASE, CODE_SIZE);
    if (decode(&d, area + at, 15, q->bits, true) != DECODE_OK || d.desc->cls != OPC_STRING || (d.opcode & 0xfc) != MOVS)
        return;
    one = *q;
    one.flow = false;
    one.init = o->s;
    one.init.rip = q->init.rip;
    one.init.rflags &= ~(u64)(RFLAGS_RF | RFLAGS_TF);
    for (unsigned k = 0; k < 2; k++) {
        u8 *p = (u8 *)q->code;
        for (unsigned n = 0; n < d.opcode_off; n++)
            if (d.bytes[n] != 0xf2 && d.bytes[n] != 0xf3)
                *p++ = d.bytes[n];
        *p++ = (u8)((k == 0 ? LODS : (d.opcode & 0xfe) == CMPS ? SCAS : STOS) | (d.opcode & 1));
        *p = 0xcc;
        run_in_frame(&one, o->s.selector[CS], o->s.selector[SS], &end);
        f[k] = end.f;
        memcpy((void *)CODE_BASE, area, CODE_SIZE); /* where STOS may have written, too */
    }
    for (unsigned k = 0; k < 2; k++)
        if (f[0].vector >= VEC_SS && f[1].vector >= VEC_SS && f[k].vector == o->f.vector && f[k].error == o->f.error &&
            (f[k].vector != VEC_PF || f[k].cr2 == o->f.cr2)) {
            o->other = f[!k];
            o->has_other = true;
            return;
        }
}

void host_run(const struct sequence *q, const u8 *code, unsigned code_len, struct outcome *o)
{
    catch_signals();
    gen_memory(q->data_seed, (u8 *)DATA_BASE, (u8 *)STACK_BASE);
    memcpy((void *)DEVICE_BASE, (void *)DATA_BASE, DEVICE_SIZE);
    memset((void *)CODE_BASE, 0xcc, CODE_SIZE);
    memcpy((void *)q->code, code, code_len);
    syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE);
    /* 64-bit code ignores what DS and ES hold, other code does not. */
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(q->segmented ? LDT_SELECTOR(LDT_DATA) : USER_DS));
    u16 cs = q->bits == 64 ? USER_CS : USER32_CS, ss = USER_DS;
    if (q->segmented) {
        cs = q->bits == 16 ? LDT_SELECTOR(LDT_CODE16) : LDT_SELECTOR(LDT_CODE32);
        ss = q->bits == 16 ? LDT_SELECTOR(LDT_STACK16) : LDT_SELECTOR(LDT_STACK32);
    }
    run_in_frame(q, cs, ss, o);
    memcpy(o->data, (void *)DATA_BASE, DATA_SIZE);
    memcpy(o->stack, (void *)STACK_BASE, STACK_SIZE);
    memcpy(o->device, (void *)DEVICE_BASE, DEVICE_SIZE);
    find_other_fault(q, o);
}
