/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct_gate.c - runs a guest's program in its runner: whether it may and should run there, its registers on the way in and
 * out, and what each way of coming back means.
 *
 * The rule that makes faults exact: a fault of the host's is never handed to the guest. If the guest's tables allow the
 * access, the page is mapped and the program goes on. Otherwise the engine executes the very instruction, and raises what the
 * guest's processor raises.
 *
 * Signals and their frames: sigaction(2), sigaltstack(2), linux/arch/x86/include/uapi/asm/sigcontext.h.
 */
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/soft/direct/direct.h"
#include "engine/soft/native.h"
#include "engine/soft/system.h"

/* ---- registers ------------------------------------------------------------------- */

static const u8 order[] = { R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP }; /* of greg_t */
#define RFLAGS_USER (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | RFLAGS_ID)
/* RFLAGS that rt_sigreturn leaves as they are (FIX_EFLAGS in linux/arch/x86/kernel/signal_64.c) */
#define RFLAGS_NOT_RESTORED (RFLAGS_NT | RFLAGS_ID)
enum { USED_CONTEXT = 304 /* struct ucontext of the kernel's */, FPU_WORDS = 464, XSTATE_BV = 512 };

static void *in_room(const struct direct_runner *r, u64 address) { return r->room + (address - RUNNER_BASE); }

/* Copies the components that are not in their initial state. An XSAVE image of the host's has the engine's layout. */
static void copy_fpu(struct soft_vcpu *v, u8 *to, const u8 *from)
{
    const struct soft_native *n = v->native;
    u64 bv;
    memcpy(&bv, from + XSTATE_BV, 8);
    bv &= n->mask;
    memcpy(to, from, XS_ST);
    if (bv & XCOMP_X87)
        memcpy(to + XS_ST, from + XS_ST, XS_XMM - XS_ST);
    if (bv & XCOMP_SSE)
        memcpy(to + XS_XMM, from + XS_XMM, 256);
    for (unsigned c = 2; c < XCOMP_COUNT; c++)
        if (bv >> c & 1)
            memcpy(to + n->offset[c], from + n->offset[c], n->size[c]);
    u64 old;
    memcpy(&old, to + XSTATE_BV, 8);
    bv |= old & ~n->mask;
    memcpy(to + XSTATE_BV, &bv, 8);
}

static void put_registers(struct soft_vcpu *v, struct direct_space *s, u64 rip)
{
    struct direct_runner *r = s->runner;
    ucontext_t *uc = in_room(r, r->frame);
    struct runner_orders *o = in_room(r, RUNNER_BASE + RUNNER_ORDERS);
    memcpy(uc, r->context, USED_CONTEXT);
    greg_t *g = uc->uc_mcontext.gregs;
    for (unsigned k = 0; k < 16; k++)
        g[k] = (greg_t)v->gpr[order[k]];
    g[REG_RIP] = (greg_t)rip;
    g[REG_EFL] = (greg_t)((v->rflags & RFLAGS_USER) | RFLAGS_IF | RFLAGS_FIXED);
    o->flags = (v->rflags & RFLAGS_NOT_RESTORED) | RFLAGS_FIXED;
    o->fs_base = v->segbase[ISEG_FS];
    o->gs_base = v->segbase[ISEG_GS];
    o->ds = v->s.seg[DS].selector;
    o->es = v->s.seg[ES].selector;
    o->fs = v->s.seg[FS].selector;
    o->gs = v->s.seg[GS].selector;
    o->frame = r->frame;
    o->maps = s->nmaps;
    memcpy(o->map, s->map, s->nmaps * sizeof o->map[0]);
    s->nmaps = 0;
    soft_vec_save(v);
    u8 *fpu = r->room + r->fpu;
    copy_fpu(v, fpu, v->s.xsave);
    memset(fpu + XSTATE_BV + 8, 0, 56);
    memcpy(fpu + FPU_WORDS, r->fpu_words, sizeof r->fpu_words);
    const u32 magic2 = 0x46505845; /* FP_XSTATE_MAGIC2 */
    memcpy(fpu + r->fpu_size, &magic2, 4);
}

/* False: no program could have loaded it, so it is forged. */
static bool take_segment(struct soft_vcpu *v, unsigned seg, u16 sel)
{
    struct desc d;
    if (v->s.seg[seg].selector == sel)
        return true;
    if (seg == CS ? sel != 0x23 && sel != 0x33 : seg == SS ? sel != 0x2b : false)
        return false;
    if (sel <= 3) {
        seg_null(&v->s.seg[seg], sel, 3);
    } else {
        if (!conditions_visible(sel) || !desc_fetch(v, sel, &d))
            return false;
        seg_unpack(&v->s.seg[seg], sel, d.raw);
    }
    soft_update_mode(v);
    return true;
}

static void take_base(struct soft_vcpu *v, unsigned seg, unsigned iseg, u64 base)
{
    v->s.seg[seg].base = v->segbase[seg] = v->segbase[iseg] = base;
}

/* The frame is the runner's to write, so everything in it is taken as a value that the program could have loaded itself. */
static bool take_registers(struct soft_vcpu *v, struct direct_runner *r, greg_t *g)
{
    ucontext_t uc;
    struct runner_saved saved;
    memcpy(&uc, in_room(r, r->frame), USED_CONTEXT);
    memcpy(&saved, in_room(r, RUNNER_BASE + RUNNER_SAVED), sizeof saved);
    memcpy(g, uc.uc_mcontext.gregs, sizeof uc.uc_mcontext.gregs);
    if (!take_segment(v, CS, (u16)g[REG_CSGSFS]) || !take_segment(v, SS, (u16)((u64)g[REG_CSGSFS] >> 48)) ||
        !take_segment(v, DS, (u16)saved.ds) || !take_segment(v, ES, (u16)saved.es) || !take_segment(v, FS, (u16)saved.fs) ||
        !take_segment(v, GS, (u16)saved.gs))
        return false;
    for (unsigned k = 0; k < 16; k++)
        v->gpr[order[k]] = (u64)g[k];
    v->rip = (u64)g[REG_RIP];
    const u64 was = v->rflags;
    v->rflags = ((u64)g[REG_EFL] & RFLAGS_USER) | RFLAGS_IF | RFLAGS_FIXED;
    copy_fpu(v, v->s.xsave, r->room + r->fpu);
    u32 mxcsr;
    memcpy(&mxcsr, v->s.xsave + XS_MXCSR, 4);
    mxcsr &= v->native->mxcsr_mask;
    memcpy(v->s.xsave + XS_MXCSR, &mxcsr, 4);
    take_base(v, FS, ISEG_FS, saved.fs_base);
    take_base(v, GS, ISEG_GS, saved.gs_base);
    if ((was ^ v->rflags) & (RFLAGS_TF | RFLAGS_AC))
        soft_update_slow(v);
    return true;
}

/* ---- runners ---------------------------------------------------------------------- */

static bool first_frame(struct direct_runner *r, const u64 arg[3])
{
    const u64 from = RUNNER_BASE + RUNNER_STACK, room = RUNNER_ROOM - RUNNER_STACK;
    u32 size;
    if (arg[2] - from > room - USED_CONTEXT || arg[1] != arg[2] + USED_CONTEXT)
        return false;
    r->frame = arg[2];
    memcpy(r->context, in_room(r, r->frame), USED_CONTEXT);
    const ucontext_t *uc = (const void *)r->context;
    const u64 fpu = (u64)uc->uc_mcontext.fpregs;
    r->fpu = fpu - RUNNER_BASE;
    if (fpu - from > room - 576)
        return false;
    memcpy(r->fpu_words, r->room + r->fpu + FPU_WORDS, sizeof r->fpu_words);
    memcpy(&size, r->fpu_words + 16, 4); /* xstate_size */
    r->fpu_size = size;
    return size >= 576 && size <= room && fpu - from <= room - size - 4;
}

/* The program's memory is lost with it. */
static void drop_runner(struct soft_vcpu *v, struct direct_space *s)
{
    runner_free(s->runner);
    s->runner = NULL;
    mirror_forget(v, s);
}

static bool make_runner(struct soft_vcpu *v, struct direct_space *s)
{
    u64 arg[3];
    s->runner = runner_new(v, arg);
    v->direct->stat.runners += !!s->runner;
    if (!v->direct->stat.runners && !v->direct->said) {
        v->direct->said = true;
        log_info("programs are translated: this host makes no process in which they could run directly; see lodge doctor");
    }
    if (!s->runner || !first_frame(s->runner, arg)) {
        runner_free(s->runner);
        s->runner = NULL;
        return false;
    }
    if (s->runner->traps_cpuid)
        v->direct->host.scan |= ADMIT_CPUID;
    /* What is left of the process that made it. */
    s->map[0] = (struct runner_map){ .call = SYS_munmap, .address = 0, .size = RUNNER_BASE };
    s->map[1] = (struct runner_map){ .call = SYS_munmap, .address = RUNNER_BASE + RUNNER_ROOM,
                                     .size = RUNNER_TOP - RUNNER_BASE - RUNNER_ROOM };
    s->nmaps = 2;
    return true;
}

/* ---- the choice --------------------------------------------------------------------- */

/* Milliseconds and microseconds in ticks of the TSC. */
static u64 ms(const struct soft_vcpu *v, u64 n) { return n * v->vm->cfg.cpuid->tsc_khz; }
static u64 us(const struct soft_vcpu *v, u64 n) { return n * v->vm->cfg.cpuid->tsc_khz / 1000; }

enum {
    ENOUGH_US = 20,  /* a program that is translated, and is outside the kernel for so long at a time, is to run directly */
    TOO_LITTLE_US = 12, /* one that runs directly, and is back so soon each time, is not: a stint costs 7 of them */
    WINDOW = 64,     /* stints */
    START_MS = 8,    /* and that has been outside for so long in all: a process for it, and each page that it uses, has its price */
};

static struct direct_space *find_space(struct soft_vcpu *v)
{
    struct soft_direct *d = v->direct;
    struct direct_space *oldest = d->spaces;
    for (struct direct_space *s = d->spaces; s < d->spaces + DIRECT_SPACES; s++) {
        if (s->cr3 == (v->s.cr3 | 1ull << 63))
            return s;
        if (s->last < oldest->last)
            oldest = s;
    }
    drop_runner(v, oldest);
    oldest->cr3 = v->s.cr3 | 1ull << 63;
    oldest->pcid = soft_pcid(v);
    oldest->direct = false;
    oldest->since = oldest->entries = oldest->spent = oldest->total = oldest->not_before = 0;
    oldest->backoff = 0;
    return oldest;
}

static void start_direct(struct soft_vcpu *v, struct direct_space *s)
{
    s->direct = true;
    s->entries = s->spent = 0;
    s->since = __builtin_ia32_rdtsc();
    v->direct->stat.started++;
}

static void stop_direct(struct soft_vcpu *v, struct direct_space *s)
{
    const u64 now = __builtin_ia32_rdtsc();
    s->direct = false;
    s->entries = s->spent = 0;
    if (now - s->since > ms(v, 500))
        s->backoff = 0;
    s->not_before = now + ms(v, 5ull << s->backoff);
    s->backoff += s->backoff < 8;
    v->direct_ticks = v->direct_returns = 0;
    v->direct_since = now;
    v->direct->stat.stopped++;
}

/* The program is translated until now. True: from now on it is not. */
static bool consider(struct soft_vcpu *v, struct direct_space *s)
{
    const u64 now = __builtin_ia32_rdtsc();
    v->direct_ticks += now - v->direct_since;
    v->direct_since = now;
    direct_count(v);
    if (v->direct->always) {
        start_direct(v, s);
        return true;
    }
    if (s->total < ms(v, START_MS) || (s->spent < v->direct_limit && s->entries < WINDOW))
        return false;
    const bool enough = s->spent / (s->entries + 1) >= us(v, ENOUGH_US);
    s->spent = s->entries = 0;
    if (!enough || now < s->not_before)
        return false;
    start_direct(v, s);
    return true;
}

static void account(struct soft_vcpu *v, struct direct_space *s, u64 ticks)
{
    s->entries++;
    s->spent += ticks;
    if (s->entries < WINDOW)
        return;
    const bool little = s->spent / s->entries < us(v, TOO_LITTLE_US);
    s->entries = s->spent = 0;
    if (little && !v->direct->always)
        stop_direct(v, s);
}

/* ---- coming back ----------------------------------------------------------------------- */

static u8 byte_before(struct soft_vcpu *v, struct direct_space *s, u64 rip)
{
    u64 left;
    const u64 page = mirror_page(s, rip - 1);
    const u8 *p = page ? memory_at(v->vm->cfg.memory, (page & ~(u64)MIRROR_BITS) | ((rip - 1) & 0xfff), &left) : NULL;
    return p ? *p : 0;
}

static enum direct_result ended(struct soft_vcpu *v, struct direct_space *s, enum direct_end why, enum direct_result r)
{
    v->direct->stat.ends[why]++;
    if (why != DIRECT_MAPPING) /* that is the price of having begun */
        account(v, s, v->direct->stint);
    return r;
}

static enum direct_result page_fault(struct soft_vcpu *v, struct direct_space *s, u64 lin, u64 error)
{
    const enum access a = error & 16 ? ACCESS_EXEC : error & 2 ? ACCESS_WRITE : ACCESS_READ;
    struct walk w;
    if (!canonical(v, lin))
        return ended(v, s, DIRECT_OTHER, DIRECT_STEP);
    if (!soft_walk(v, lin, a, false, &w)) {
        ended(v, s, DIRECT_PAGE_FAULT, DIRECT_AGAIN);
        s->expected = lin;
        soft_raise_pf(v, NULL, lin, w.fault);
    }
    if (a == ACCESS_EXEC && !((lin ^ v->rip) >> PAGE_4K))
        return ended(v, s, DIRECT_MAPPING, DIRECT_AGAIN); /* the way in maps it, or refuses */
    const u64 was = mirror_page(s, lin);
    if (!mirror_update(v, s, lin, a == ACCESS_EXEC || (was & MIRROR_EXEC && a != ACCESS_WRITE)))
        return ended(v, s, DIRECT_OTHER, DIRECT_STEP);
    const u64 now = mirror_page(s, lin);
    if (now & (a == ACCESS_WRITE ? MIRROR_OPEN : a == ACCESS_EXEC ? MIRROR_EXEC : MIRROR_MAPPED))
        return ended(v, s, DIRECT_MAPPING, DIRECT_AGAIN);
    return ended(v, s, DIRECT_WATCHED, DIRECT_STEP);
}

static enum direct_result trapped(struct soft_vcpu *v, struct direct_space *s, const siginfo_t *info, const greg_t *g)
{
    u8 last;
    switch (info->si_signo) {
    case SIGIO:
        runner_heard(s->runner);
        return ended(v, s, DIRECT_KICK, DIRECT_AGAIN);
    case SIGSYS:
        if ((u64)info->si_call_addr >> 63) { /* the host's vsyscall page, which has returned already (vsyscall(7)) */
            v->rip = (u64)info->si_call_addr;
            v->gpr[RSP] -= 8;
        } else {
            v->rip -= 2;
        }
        return ended(v, s, DIRECT_SYSTEM_CALL, DIRECT_STEP);
    case SIGSEGV:
        if (g[REG_TRAPNO] == VEC_PF)
            return page_fault(v, s, (u64)g[REG_CR2], (u64)g[REG_ERR]);
        return ended(v, s, DIRECT_OTHER, DIRECT_STEP);
    case SIGTRAP:
        if (info->si_code == TRAP_HWBKPT) /* a guard: it is before the instruction */
            return ended(v, s, DIRECT_GUARD, DIRECT_STEP);
        if (v->rflags & RFLAGS_TF && info->si_code == TRAP_TRACE) {
            v->db_pending |= BIT(14); /* DR6.BS */
            ended(v, s, DIRECT_OTHER, DIRECT_AGAIN);
            soft_take_db(v);
        }
        /* INT3 and ICEBP are traps, and the engine is to execute them. */
        last = byte_before(v, s, v->rip);
        v->rip -= last == 0xcc || last == 0xf1 ? 1 : last == 3 ? 2 : 0;
        return ended(v, s, DIRECT_OTHER, DIRECT_STEP);
    }
    return ended(v, s, DIRECT_OTHER, DIRECT_STEP);
}

/* ---- there and back ---------------------------------------------------------------------- */

static enum direct_result lost(struct soft_vcpu *v, struct direct_space *s)
{
    /* What the program did since it was last known is lost with its process. Only a program that attacks its runner gets
       here (or a host without memory): it ends as one that jumped to nowhere. */
    v->direct->stat.failed++;
    drop_runner(v, s);
    s->direct = false;
    s->not_before = ~0ull;
    soft_raise_err(v, NULL, VEC_GP, 0);
}

/* Sends the runner off. rip: where to; 0: only the orders are carried out. */
static bool go(struct soft_vcpu *v, struct direct_space *s, u64 rip, u64 arg[3])
{
    struct direct_runner *r = s->runner;
    put_registers(v, s, rip ? rip : r->sigreturn /* UD2 */);
    return runner_go(r, arg) && (arg[0] == RUNNER_FAILED || (arg[2] == r->frame && arg[1] == r->frame + USED_CONTEXT));
}

/* A mapping failed, or the runner did while nothing of the program ran. */
static enum direct_result give_up(struct soft_vcpu *v, struct direct_space *s)
{
    drop_runner(v, s);
    v->direct->stat.failed++;
    stop_direct(v, s);
    return DIRECT_NO;
}

/* Carries out orders without running the program. False: it does not run directly any more. */
static bool flush_orders(struct soft_vcpu *v, struct direct_space *s)
{
    u64 arg[3];
    if (go(v, s, 0, arg) && arg[0] != RUNNER_FAILED)
        return true;
    give_up(v, s);
    return false;
}

/* Everything that is mapped is right. False as of flush_orders. */
static bool settle(struct soft_vcpu *v, struct direct_space *s)
{
    while (!mirror_settle(v, s))
        if (!flush_orders(v, s))
            return false;
    return true;
}

static bool may_execute(struct soft_vcpu *v, const struct direct_space *s)
{
    if (!(mirror_page(s, v->rip) & MIRROR_EXEC))
        return false;
    v->direct->refusals = 0;
    return true;
}

static enum direct_result again_soon(struct soft_vcpu *v, const struct direct_space *s)
{
    enum { OFTEN = 32 };
    if (s->direct && v->direct->refusals < OFTEN) {
        v->direct->refusals++;
        v->poll = 1;
    }
    return DIRECT_NO;
}

/* Everything that is mapped is right, and the page of RIP may be executed. */
static enum direct_result prepare(struct soft_vcpu *v, struct direct_space *s)
{
    struct soft_direct *d = v->direct;
    struct walk w;
    if (s->runner && s->runner->traps_tsc != runner_traps_tsc(v))
        drop_runner(v, s);
    if (!s->runner && !make_runner(v, s)) {
        stop_direct(v, s);
        return DIRECT_NO;
    }
    if (!settle(v, s))
        return DIRECT_NO;
    if (s->replaced) {
        s->replaced = false;
        if (!v->direct->always) { /* which is to show first that it computes */
            s->direct = false;
            s->backoff = 0;
            s->entries = s->spent = s->total = s->not_before = 0;
            return DIRECT_NO;
        }
    }
    if (s->expected) {
        (void)mirror_update(v, s, s->expected, false); /* if there is no room, it faults again */
        s->expected = 0;
    }
    if (may_execute(v, s))
        return DIRECT_AGAIN;
    if (!soft_walk(v, v->rip, ACCESS_EXEC, false, &w))
        return DIRECT_NO; /* the engine raises it */
    while (!mirror_update(v, s, v->rip, true))
        if (s->pages >= MIRROR_MOST_PAGES || s->leaves == MIRROR_MOST_LEAVES) {
            drop_runner(v, s);
            return DIRECT_NO;
        } else if (!flush_orders(v, s)) {
            return DIRECT_NO;
        }
    if (!settle(v, s)) /* the page may have been open for stores somewhere */
        return DIRECT_NO;
    if (may_execute(v, s))
        return DIRECT_AGAIN;
    /* It is translated for a while, and comes back here soon. */
    d->stat.refused_page++;
    if (!d->refusals) {
        switch (guard_page(v, s, v->rip, mirror_page(s, v->rip) & ~(u64)MIRROR_BITS)) {
        case GUARD_SET: return DIRECT_STEP; /* and it is asked again */
        case GUARD_LOST: return give_up(v, s);
        case GUARD_NOT: account(v, s, 0); /* a way here and back that brought nothing */
        }
    }
    d->refused = (v->rip & ~0xfffull) | 1;
    return again_soon(v, s);
}

static bool room_for_leaves(struct direct_space *s)
{
    for (u32 k = s->leaves; k < MIN(s->leaves + 2, (u32)MIRROR_MOST_LEAVES); k++)
        if (!s->leaf[k] && !(s->leaf[k] = calloc(1, sizeof *s->leaf[k])))
            return false;
    return true;
}

static enum direct_result run(struct soft_vcpu *v, struct direct_space *s)
{
    u64 arg[3];
    greg_t g[NGREG];
    siginfo_t info;
    /* From here on whoever has a request for this processor stops the runner. */
    __atomic_store_n(&v->direct_kick, s->runner->bell + 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&v->request, __ATOMIC_SEQ_CST) | __atomic_load_n(&v->poll, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&v->direct_kick, 0, __ATOMIC_SEQ_CST);
        return DIRECT_AGAIN;
    }
    const u64 since = __builtin_ia32_rdtsc();
    const bool back = go(v, s, v->rip, arg);
    __atomic_store_n(&v->direct_kick, 0, __ATOMIC_SEQ_CST);
    v->direct->stint = __builtin_ia32_rdtsc() - since;
    v->direct->stat.ticks += v->direct->stint;
    if (back && arg[0] == RUNNER_FAILED)
        return give_up(v, s);
    if (!back)
        return lost(v, s);
    memcpy(&info, in_room(s->runner, s->runner->frame + USED_CONTEXT), sizeof info);
    if (!take_registers(v, s->runner, g))
        return lost(v, s);
    return trapped(v, s, &info, g);
}

enum direct_result soft_direct_run(struct soft_vcpu *v)
{
    struct soft_direct *d = v->direct;
    if (d->refusals && d->space && d->refused == ((v->rip & ~0xfffull) | 1))
        return again_soon(v, d->space);
    soft_vec_save(v);
    if (!d->space) {
        d->space = find_space(v);
        d->space->last = ++d->now;
        v->direct_now = d->space->direct;
    }
    struct direct_space *s = d->space;
    if (!s->direct && !consider(v, s)) {
        v->direct_now = false;
        return DIRECT_NO;
    }
    v->direct_now = true;
    if (!conditions_hold(v)) {
        d->stat.refused_state++;
        return DIRECT_NO;
    }
    if (!room_for_leaves(s))
        return DIRECT_NO;
    const u32 scan = conditions_scan(v);
    if (scan != d->scan) {
        d->scan = scan;
        for (unsigned k = 0; k < DIRECT_SPACES; k++)
            d->spaces[k].recheck = true;
    }
    enum direct_result r = prepare(v, s);
    if (r == DIRECT_AGAIN)
        r = run(v, s);
    v->direct_now = s->direct;
    if (r == DIRECT_NO)
        v->direct_since = __builtin_ia32_rdtsc();
    return r;
}

/* ---- life ---------------------------------------------------------------------------------- */

const char *soft_direct_unfit(void)
{
    enum { HWCAP2_FSGSBASE_BIT = 2 };
    struct direct_host host;
    u32 eax, ebx, ecx = 0, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
        return "it has no XSAVE";
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT))
        return "its kernel does not let programs set the bases of FS and GS (FSGSBASE, Linux 5.9)";
    if (!conditions_of_host(&host))
        return "its programs see other segments than those of 64-bit Linux";
    return NULL;
}

int soft_direct_new(struct soft_vcpu *v)
{
    struct direct_host host;
    if (!v->vm->cfg.direct || !v->native->xsave || soft_direct_unfit() || !conditions_of_host(&host))
        return 0;
    struct soft_direct *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->open = mmap(NULL, v->vm->pages * sizeof *d->open, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (d->open == MAP_FAILED) {
        free(d);
        return -ENOMEM;
    }
    d->host = host;
    d->always = v->vm->cfg.direct_always;
    v->direct = d;
    v->direct_limit = ms(v, 1);
    return 0;
}

void soft_direct_free(struct soft_vcpu *v)
{
    struct soft_direct *d = v->direct;
    if (!d)
        return;
    for (unsigned k = 0; k < DIRECT_SPACES; k++) {
        runner_free(d->spaces[k].runner);
        for (u32 n = 0; n < MIRROR_MOST_LEAVES; n++)
            free(d->spaces[k].leaf[n]);
    }
    munmap(d->open, v->vm->pages * sizeof *d->open);
    free(d);
    v->direct = NULL;
}
