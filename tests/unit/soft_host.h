/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_host.h - a processor of the software engine for tests of how it uses the
 * host's unit: one instruction at a time, through its stub and, from the same
 * state, directly; with every register, flag, vector and memory byte compared.
 *
 * The engine's memory side is replaced by the doubles below: the guest's linear
 * addresses are this process's own, those outside WINDOW are not mapped.
 */
#ifndef LODGE_TEST_SOFT_HOST_H
#define LODGE_TEST_SOFT_HOST_H

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "test.h"

#include "engine/soft/blocks.h"
#include "engine/soft/native.h"

/* ---- the doubles -------------------------------------------------------- */

enum { WINDOW_PAGES = 4, DATA = 0x30000000, CODE = 0x31000000, STATE = 0x32000000 };
static bool mapped[WINDOW_PAGES], writable[WINDOW_PAGES];
static struct { bool active; unsigned vector; u32 error; u64 linear; } raised;
static unsigned flushed, retried;
static u64 bounced;

static struct soft_vcpu *cpu;
static struct soft_vm machine;

/* They run while the guest's vectors are in the unit, as the engine's own do. */
#pragma GCC push_options
#pragma GCC target("general-regs-only")
_Noreturn static void leave(struct soft_vcpu *v, const struct insn *i, unsigned vector, u32 error, u64 linear)
{
    raised.active = true;
    raised.vector = vector;
    raised.error = error;
    raised.linear = linear;
    _longjmp(v->escape, 1);
}
void soft_raise(struct soft_vcpu *v, const struct insn *i, unsigned vector) { leave(v, i, vector, 0, 0); }
void soft_raise_err(struct soft_vcpu *v, const struct insn *i, unsigned vector, u32 e) { leave(v, i, vector, e, 0); }
void soft_raise_pf(struct soft_vcpu *v, const struct insn *i, u64 lin, u32 e) { leave(v, i, VEC_PF, e, lin); }
void soft_fail(struct soft_vcpu *v, const char *why) { leave(v, NULL, 255, 0, 0); }
void soft_retry_slow(struct soft_vcpu *v, const struct insn *i, enum soft_slow why)
{
    retried++;
    _longjmp(v->escape, 2);
}
void soft_code_flush(struct soft_vcpu *v) { flushed++; }
void soft_set_pkru(struct soft_vcpu *v, u32 value) { v->pkru = value; }
u64 soft_legacy_linear(struct soft_vcpu *v, const struct insn *i, unsigned seg, u64 ea, u64 size, enum access a)
{
    return (v->segbase[seg] + ea) & 0xffffffff;
}

static bool reachable(u64 lin, enum access a)
{
    u64 page = (lin - DATA) >> 12;
    return page < WINDOW_PAGES && mapped[page] && (!(a & ACCESS_WRITE) || writable[page]);
}
void soft_update_jc_key(struct soft_vcpu *v) {}
bool soft_accessible(struct soft_vcpu *v, u64 lin, enum access a) { return reachable(lin, a); }
void soft_check_alignment(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size) {}
void soft_probe(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 size, enum access a)
{
    for (u64 k = 0; k < size; k++)
        if (!reachable(lin + k, a))
            soft_raise_pf(v, i, lin + k, a & ACCESS_WRITE ? 2 : 0);
}
u64 soft_load_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a)
{
    u64 x = 0;
    soft_probe(v, i, lin, size, a);
    copy_bytes(&x, (void *)lin, size);
    return x;
}
void soft_store_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, u64 x, enum access a)
{
    soft_probe(v, i, lin, size, a);
    copy_bytes((void *)lin, &x, size);
}
/* Always a bounce: the fast path does not come here. */
void *soft_ptr(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a, void *buf,
               bool *bounce)
{
    soft_probe(v, i, lin, size, a);
    u8 *at = (u8 *)(((u64)buf + 63) & ~63ull) + (lin & 63);
    if (!(a & ACCESS_WRITE) || (a & ACCESS_RMW) == ACCESS_RMW)
        copy_bytes(at, (void *)lin, size);
    *bounce = true;
    bounced++;
    soft_vec_save(v); /* as if a device had been asked */
    return at;
}
void soft_bounce_out(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, const void *data)
{
    copy_bytes((void *)lin, data, size);
}

static void op_stop(struct soft_vcpu *v, const struct insn *i) {}
#pragma GCC pop_options

static void map_page(unsigned page, bool readable, bool can_write)
{
    u64 lin = DATA + page * 4096;
    unsigned slot = (lin >> 12) & (TLB_SIZE - 1);
    struct tlb_entry *e = &cpu->tlbs[0][slot];
    mapped[page] = readable;
    writable[page] = can_write;
    e->read = readable ? lin : TLB_NONE(slot);
    e->write = can_write ? lin : TLB_NONE(slot);
    e->host = 0;
}
/* Accessible, but never by the TLB. */
static void slow_page(unsigned page)
{
    unsigned slot = ((DATA >> 12) + page) & (TLB_SIZE - 1);
    cpu->tlbs[0][slot].read = cpu->tlbs[0][slot].write = TLB_NONE(slot);
}

/* ---- running one instruction -------------------------------------------- */

static void lower(struct insn *i, const struct decoded *d)
{
    const struct opdesc *o = d->desc;
    memset(i, 0, 2 * sizeof *i);
    i[1].fn = op_stop;
    i->len = d->len;
    i->size = d->osize;
    i->imm = d->imm;
    i->disp = d->disp;
    i->lock = d->lock;
    i->base = d->base == 0xff ? REG_OFF(REG_ZERO) : REG_OFF(d->base);
    i->index = d->index == 0xff || (o->flags & OPF_VSIB) ? REG_OFF(REG_ZERO) : REG_OFF(d->index);
    i->scale = d->scale;
    i->ashift = (u8)(64 - 8 * d->asize);
    i->seg = (u8)soft_seg(cpu, d->seg);
    if (!lower_fpu_state(cpu, d, i) && !lower_native(cpu, d, i))
        i->fn = NULL;
}

/* False if it raised: see `raised`. The vectors are in the image afterwards. */
static bool run(const struct insn *i)
{
    raised.active = false;
    if (_setjmp(cpu->escape)) {
        soft_vec_save(cpu);
        return false;
    }
    i->fn(cpu, i);
    soft_vec_save(cpu);
    return true;
}
static bool run_code(const void *bytes, unsigned len)
{
    struct decoded d;
    struct insn i[2];
    raised.vector = 254;
    if (decode(&d, bytes, len, cpu->bits, true) != DECODE_OK)
        return false;
    unsigned before = retried;
    bool done;
    do {
        lower(i, &d);
        raised.vector = VEC_UD;
        before = retried;
        done = i->fn && run(i);
    } while (before != retried);
    return done;
}
#define RUN(...) run_code((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
#define RAISES(v_, ...) CHECK(!RUN(__VA_ARGS__) && raised.vector == (v_))

/* ---- the same instruction directly -------------------------------------- */

struct native_state {
    u64 gpr[16], rflags;
    u64 insn; /* where the instruction ran: its FIP */
    u8 xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));
};
static struct native_state *const native = (struct native_state *)(u64)STATE;
static sigjmp_buf native_escape;
static volatile int native_trap; /* -1: not in native code */

static void on_native_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    u64 rip = (u64)uc->uc_mcontext.gregs[REG_RIP];
    if (rip - CODE >= 4096) {
        signal(sig, SIG_DFL);
        return;
    }
    native_trap = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
    siglongjmp(native_escape, 1);
}

static u8 *code_at;
__attribute__((noinline)) static void c(unsigned n, u64 bytes)
{
    while (n--)
        *code_at++ = (u8)(bytes >> (8 * n));
}
static void c_abs(u64 address)
{
    u32 a = (u32)address;
    memcpy(code_at, &a, 4);
    code_at += 4;
}

/* From and into *native. Returns the vector it raised, or -1. */
static int run_native(const u8 *bytes, unsigned len)
{
    code_at = (u8 *)(u64)CODE;
    c(2, 0x5355), c(8, 0x4154415541564157); /* push rbx rbp r12-r15 */
    c(5, 0xb807000000), c(2, 0x31d2);
    c(5, 0x480fae2c25), c_abs((u64)native->xsave); /* xrstor64 */
    c(3, 0xff3425), c_abs((u64)&native->rflags), c(1, 0x9d);
    for (unsigned r = 0; r < 16; r++)
        if (r != RSP)
            c(2, 0x488b | (r >> 3) << 10), c(1, 4 | (r & 7) << 3), c(1, 0x25), c_abs((u64)&native->gpr[r]);
    memcpy(code_at, bytes, len);
    native->insn = (u64)code_at;
    code_at += len;
    for (unsigned r = 0; r < 16; r++)
        if (r != RSP)
            c(2, 0x4889 | (r >> 3) << 10), c(1, 4 | (r & 7) << 3), c(1, 0x25), c_abs((u64)&native->gpr[r]);
    c(1, 0x9c), c(3, 0x8f0425), c_abs((u64)&native->rflags);
    c(5, 0xb807000000), c(2, 0x31d2);
    c(5, 0x480fae2425), c_abs((u64)native->xsave); /* xsave64 */
    c(8, 0x415f415e415d415c), c(3, 0x5d5bc3);
    native_trap = -1;
    if (!sigsetjmp(native_escape, 1))
        ((void (*)(void))(u64)CODE)();
    u32 mxcsr = 0x1f80;
    __asm__ volatile("fninit; ldmxcsr %0" ::"m"(mxcsr));
    return native_trap;
}

/* ---- state -------------------------------------------------------------- */

static u64 seed = 88172645463325252ull;
static u64 rnd(void)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}

static void setup(void)
{
    if (cpu)
        return;
    struct sigaction sa = {.sa_sigaction = on_native_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    const int signals[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS};
    for (unsigned k = 0; k < 4; k++)
        sigaction(signals[k], &sa, NULL);
    const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *data = mmap((void *)(u64)DATA, WINDOW_PAGES * 4096, PROT_READ | PROT_WRITE, fixed, -1, 0);
    void *code = mmap((void *)(u64)CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, fixed, -1, 0);
    void *state = mmap((void *)(u64)STATE, 8192, PROT_READ | PROT_WRITE, fixed, -1, 0);
    cpu = aligned_alloc(64, align_up(sizeof *cpu, 64));
    if (data == MAP_FAILED || code == MAP_FAILED || state == MAP_FAILED || !cpu)
        abort();
    memset(cpu, 0, sizeof *cpu);
    cpu->vm = &machine;
    cpu->tlb = cpu->tlbs[0];
    for (unsigned k = 0; k < TLB_SIZE; k++)
        cpu->tlb[k].read = cpu->tlb[k].write = TLB_NONE(k);
    if (soft_native_new(cpu) != 0)
        abort();
}

/* A plain 64-bit machine with everything enabled and memory mapped. */
static void reset(void)
{
    setup();
    soft_vec_save(cpu);
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    cpu->rflags = 2;
    cpu->bits = 64;
    cpu->long_mode = cpu->protected_mode = true;
    cpu->ipmask = ~0ull;
    cpu->s.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_MP;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->s.xcr0 = cpu->native->mask;
    cpu->native->offered = cpu->native->mask;
    cpu->cpl = 0;
    memset(cpu->s.xsave, 0, sizeof cpu->s.xsave);
    cpu->s.xsave[XS_FCW] = 0x7f, cpu->s.xsave[XS_FCW + 1] = 3;
    cpu->s.xsave[XS_MXCSR] = 0x80, cpu->s.xsave[XS_MXCSR + 1] = 0x1f;
    cpu->s.xsave[XS_BV] = (u8)(cpu->native->mask & 7);
    memset((void *)(u64)DATA, 0, WINDOW_PAGES * 4096);
    for (unsigned k = 0; k < WINDOW_PAGES; k++)
        map_page(k, true, true);
    soft_update_fpu(cpu);
}
/* To be written through: all components are in use from here. */
static void all_in_use(void)
{
    vec_image(cpu)[XS_BV] |= cpu->native->mask & 7;
}
static void randomise(void)
{
    for (unsigned r = 0; r < 16; r++)
        cpu->gpr[r] = rnd() % 3 ? rnd() : rnd() >> (rnd() % 64);
    cpu->rflags = 2 | (rnd() & RFLAGS_ARITH);
    u8 *x = cpu->s.xsave;
    for (unsigned k = XS_ST; k < 416; k += 8) {
        u64 value = rnd() % 4 ? rnd() : 0x3ff0000000000000ull + (rnd() & 0x8000000000000000ull);
        memcpy(x + k, &value, 8);
    }
    for (unsigned k = 0; k < 8; k++)
        memset(x + XS_ST + 16 * k + 10, 0, 6);
    for (unsigned k = 576; k < 832 && (cpu->native->mask & XCOMP_AVX); k++)
        x[k] = (u8)rnd();
    x[XS_FTW] = rnd() % 3 ? 0 : (u8)rnd();
    x[XS_FSW + 1] = (u8)rnd() & 0x7f;
    x[XS_FSW] = rnd() % 8 ? 0 : (u8)rnd() & 0x3f;
    x[XS_FCW] = rnd() % 4 ? 0x7f : (u8)(rnd() & 0x3f) | 0x40;
    if (x[XS_FSW] & ~x[XS_FCW] & 0x3f) /* ES and B follow */
        x[XS_FSW] |= 0x80, x[XS_FSW + 1] |= 0x80;
    u16 mxcsr = rnd() % 4 ? 0x1f80 : (u16)rnd() | (rnd() & 1 ? 0x1f80 : 0);
    memcpy(x + XS_MXCSR, &mxcsr, 2);
    x[XS_BV] = (u8)(cpu->native->mask & 7);
    u64 *data = (u64 *)(u64)DATA;
    for (unsigned k = 0; k < WINDOW_PAGES * 512; k++)
        data[k] = rnd();
}

/* What of an image both must agree on: not FOP, FIP, FDP, which are of other code; nor what MXCSR_MASK pads. */
static void comparable(u8 *to, const u8 *image)
{
    memcpy(to, image, 832);
    memset(to + XS_FOP, 0, XS_MXCSR - XS_FOP);
    memset(to + XS_MXCSR_MASK, 0, 4);
    memset(to + 416, 0, 576 - 416);
    u16 fsw;
    memcpy(&fsw, to + XS_FSW, 2);
    for (unsigned k = 0; k < 8; k++)
        memset(to + XS_ST + 16 * k + 10, 0, 6);
}

static const char *mnemonic_of(const u8 *bytes, unsigned len)
{
    struct decoded d;
    return decode(&d, bytes, len, 64, true) == DECODE_OK ? mnemonic_name(d.desc->mnemonic) : "?";
}

/* Runs the bytes both ways from the engine's present state. False with a difference printed. */
static bool compare(const u8 *bytes, unsigned len, bool *faulted)
{
    static u8 before[WINDOW_PAGES * 4096], after[WINDOW_PAGES * 4096], image_before[CPU_XSAVE_SIZE];
    u8 a[832], b[832];
    u64 gpr_before[16];
    void *data = (void *)(u64)DATA;
    memcpy(native->gpr, cpu->gpr, sizeof native->gpr);
    native->rflags = cpu->rflags | 0x202;
    memcpy(native->xsave, cpu->s.xsave, sizeof native->xsave);
    memcpy(image_before, cpu->s.xsave, sizeof image_before);
    memcpy(gpr_before, cpu->gpr, sizeof gpr_before);
    u64 flags_before = cpu->rflags;
    memcpy(before, data, sizeof before);
    int want = run_native(bytes, len);
    memcpy(after, data, sizeof after);
    memcpy(data, before, sizeof before);
    bool done = run_code(bytes, len);
    int got = done ? -1 : (int)raised.vector;
    vec_image(cpu);
    const char *what = NULL;
    *faulted = want >= 0;
    if (want == VEC_UD) {
        /* The host has it not: which fault comes first is the decoder's question. */
    } else if (want != got) {
        what = "vector";
    } else if (want >= 0) {
        comparable(a, cpu->s.xsave);
        comparable(b, image_before);
        if (want == VEC_XM && strstr("cvtps2pi cvttps2pi cvtpd2pi cvttpd2pi cvtpi2ps", mnemonic_of(bytes, len)))
            memset(a, 0, XS_XMM), memset(b, 0, XS_XMM); /* they have gone over to MMX: ST(0) is another register */
        if (want == VEC_XM) /* MXCSR tells why */
            memset(a + XS_MXCSR, 0, 4), memset(b + XS_MXCSR, 0, 4);
        if (memcmp(gpr_before, cpu->gpr, sizeof gpr_before) || cpu->rflags != flags_before ||
            memcmp(data, before, sizeof before) || memcmp(a, b, sizeof a))
            what = "state after a fault";
    } else {
        comparable(a, cpu->s.xsave);
        comparable(b, native->xsave);
        native->gpr[RSP] = cpu->gpr[RSP];
        if (memcmp(native->gpr, cpu->gpr, sizeof native->gpr))
            what = "registers";
        else if ((native->rflags ^ cpu->rflags) & RFLAGS_ARITH)
            what = "flags";
        else if (memcmp(a, b, sizeof a))
            what = "x87 and vectors";
        else if (memcmp(data, after, sizeof after))
            what = "memory";
    }
    if (!what)
        return true;
    char text[64] = "";
    for (unsigned k = 0; k < len && k < 15; k++)
        sprintf(text + 3 * k, "%02x ", bytes[k]);
    CHECK_STR(what, "the same");
    fprintf(stderr, "  %s(%s) vector here %d, natively %d\n", text, mnemonic_of(bytes, len), got, want);
    if (!strcmp(what, "x87 and vectors") || !strcmp(what, "state after a fault"))
        for (unsigned k = 0; k < 832; k++)
            if (a[k] != b[k]) {
                fprintf(stderr, "  image byte %u: %02x, not %02x\n", k, a[k], b[k]);
                break;
            }
    return false;
}

#endif
