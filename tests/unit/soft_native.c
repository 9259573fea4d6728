/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_native.c - the software engine's use of the host unit: instructions are
 * run through their stubs and, from the same state, directly; every register,
 * flag, vector and memory byte is compared. Then what only a guest can show:
 * faults and what they leave behind, masked and scattered operands, images.
 *
 * The engine's memory side is replaced by the doubles below: the guest's linear
 * addresses are this process's own, those outside WINDOW are not mapped.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <Zydis/Zydis.h>

#include "test.h"

#include "engine/soft/block.h"
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
bool soft_accessible(struct soft_vcpu *v, u64 lin, enum access a) { return reachable(lin, a); }
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
void *soft_ptr(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a, void *buf, bool *bounce)
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

/* A random encoding whose memory operand, if any, is [rbx+disp8]. */
static unsigned generate(u8 *b)
{
    unsigned n = 0, map;
    u64 r = rnd();
    bool memory = r & 1, vex = (r >> 1 & 3) == 0;
    if (vex) {
        map = 1 + (unsigned)(rnd() % 3);
        b[n++] = 0xc4;
        b[n++] = (u8)((rnd() & 0x80) | 0x40 | (memory ? 0x20 : rnd() & 0x20) | map);
        b[n++] = (u8)(rnd() % 3 ? rnd() : (rnd() & 0x87) | 0x78);
    } else {
        if (!(rnd() % 3))
            b[n++] = 0x66;
        if (!(rnd() % 3))
            b[n++] = rnd() & 1 ? 0xf2 : 0xf3;
        if (!(rnd() % 16))
            b[n++] = 0xf0;
        if (rnd() & 1)
            b[n++] = (u8)(0x40 | (rnd() & (memory ? 12 : 13)));
        map = rnd() % 8 ? (unsigned)(rnd() % 4) : 1;
        if (map)
            b[n++] = 0x0f;
        if (map >= 2)
            b[n++] = map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = map ? (u8)rnd() : rnd() & 1 ? 0xd8 | (rnd() & 7) : 0xf6 | (rnd() & 1);
    b[n++] = memory ? (u8)(0x43 | (rnd() & 0x38)) : (u8)(0xc0 | (rnd() & 0x3f));
    for (unsigned k = 0; k < 8; k++)
        b[n++] = (u8)rnd();
    return n;
}

static bool left_out(const struct decoded *d)
{
    switch (d->desc->mnemonic) {
    case M_RDRAND: case M_RDSEED: /* no two alike */
    case M_MASKMOVQ: case M_MASKMOVDQU: case M_VMASKMOVDQU: /* at rDI: below */
        return true;
    }
    const struct opdesc *o = d->desc; /* the direct run needs its stack pointer */
    return (o->flags & OPF_VSIB) || (d->has_mem && (d->base != RBX || d->mod != 1 || d->index != 0xff)) || (o->reg.size && d->reg == RSP) ||
           (o->rm.size && !d->has_mem && d->rm == RSP) || (o->vvvv.size && d->vvvv == RSP);
}

TEST(random_encodings_do_as_the_host_does)
{
    static u32 seen[4096];
    unsigned ran = 0, kinds = 0, faults = 0, bad = 0;
    reset();
    for (unsigned tries = 0; tries < 600000 && bad < 20; tries++) {
        u8 bytes[32];
        struct decoded d;
        struct insn i[2];
        unsigned n = generate(bytes);
        if (decode(&d, bytes, MIN(n, 15u), 64, true) != DECODE_OK || left_out(&d))
            continue;
        lower(i, &d);
        if (!i->fn || lower_fpu_state(cpu, &d, i))
            continue;
        if (seen[d.desc->mnemonic]++ > 600)
            continue;
        if (!(ran & 63))
            randomise();
        else
            for (unsigned r = 0; r < 16; r++)
                cpu->gpr[r] = rnd() >> (rnd() % 64);
        all_in_use();
        cpu->gpr[RBX] = DATA + 4096 + (rnd() & 0x1f00);
        if (rnd() & 1)
            cpu->gpr[RBX] += rnd() & 0xff;
        if (d.has_mem && !(rnd() % 4)) {
            /* the same alignment, near a page's end */
            cpu->gpr[RBX] = DATA + 8192 - 64 * (rnd() & 1) - d.disp + (rnd() & 1 ? 0 : rnd() & 63);
            slow_page(1);
        }
        if (d.has_mem && !(d.disp & 15 & d.disp) && (rnd() & 1))
            cpu->gpr[RBX] = (cpu->gpr[RBX] & ~63ull) - (d.disp & 63);
        bool faulted;
        bad += !compare(bytes, d.len, &faulted);
        map_page(1, true, true);
        ran++;
        faults += faulted;
        kinds += seen[d.desc->mnemonic] == 1;
    }
    printf("  %u encodings of %u mnemonics, %u faulted, %llu bounced\n", ran, kinds, faults, (unsigned long long)bounced);
    CHECK(ran > 90000);
    CHECK(flushed > 0); /* the code buffer was full at least once */
}

/*
 * What this host may not have, AVX-512 above all: the instruction in the stub must read, to Zydis, as the guest's
 * does, but for the memory operand's address and the names of general registers.
 */
static bool reads_the_same(const struct decoded *d, const u8 *stub, unsigned size)
{
    unsigned skipped = 0;
    ZydisDecoder z;
    ZydisDecodedInstruction a, b;
    ZydisDecodedOperand x[ZYDIS_MAX_OPERAND_COUNT], y[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, d->bytes, d->len, &a, x)))
        return true; /* the decoder's own tests */
    if (a.mnemonic == ZYDIS_MNEMONIC_BT || a.mnemonic == ZYDIS_MNEMONIC_ADD)
        return true; /* not to be told from those that load the flags */
    do {
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, stub, 15, &b, y)))
            return false;
        stub += b.length;
    } while (b.encoding != a.encoding || (b.mnemonic != a.mnemonic && ++skipped < 20));
    if (a.mnemonic != b.mnemonic || a.operand_count != b.operand_count || a.avx.vector_length != b.avx.vector_length ||
        a.avx.mask.mode != b.avx.mask.mode || a.avx.mask.reg != b.avx.mask.reg ||
        a.avx.broadcast.mode != b.avx.broadcast.mode || a.avx.rounding.mode != b.avx.rounding.mode ||
        a.avx.has_sae != b.avx.has_sae || a.raw.imm[0].value.u != b.raw.imm[0].value.u)
        return false;
    for (unsigned k = 0; k < a.operand_count; k++) {
        if (x[k].type != y[k].type || x[k].size != y[k].size || x[k].actions != y[k].actions)
            return false;
        if (x[k].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            /* What the engine checks must be what the host accesses. */
            unsigned want = x[k].size / 8;
            if (a.avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID && !a.avx.broadcast.is_static)
                want = x[k].element_size / 8;
            if (size != want) {
                fprintf(stderr, "  %u bytes, not %u (element %u)\n", size, want, x[k].element_size);
                return false;
            }
            if (y[k].mem.index != ZYDIS_REGISTER_NONE || y[k].mem.disp.has_displacement ||
                (y[k].mem.base != ZYDIS_REGISTER_RDX && y[k].mem.base != ZYDIS_REGISTER_R11))
                return false;
        } else if (x[k].type == ZYDIS_OPERAND_TYPE_REGISTER && x[k].reg.value != y[k].reg.value) {
            ZydisRegisterClass c1 = ZydisRegisterGetClass(x[k].reg.value), c2 = ZydisRegisterGetClass(y[k].reg.value);
            if (c1 != c2 || c1 < ZYDIS_REGCLASS_GPR8 || c1 > ZYDIS_REGCLASS_GPR64)
                return false;
        }
    }
    return true;
}

TEST(encodings_read_the_same_in_the_stub)
{
    static u32 seen[4096];
    unsigned ran = 0, kinds = 0, bad = 0;
    reset();
    for (unsigned tries = 0; tries < 2000000 && bad < 20; tries++) {
        u8 b[32];
        struct decoded d;
        struct insn i[2];
        unsigned n = 0;
        for (unsigned k = 0; k < 16; k++)
            b[k] = (u8)rnd();
        if (!(rnd() % 4)) {
            generate(b);
        } else if (rnd() % 4) {
            b[n++] = 0x62;
            b[n] = (u8)((b[n] & 0xf0) | (1 + b[n] % 3)), n++;
            b[n] |= 4, n++;
            if (rnd() & 1)
                b[n - 1] |= 0x78, b[n] |= 8;
        } else {
            b[n++] = 0xc4;
            b[n] = (u8)((b[n] & 0xe0) | (1 + b[n] % 3)), n++;
            if (rnd() & 1)
                b[n] |= 0x78;
        }
        if (decode(&d, b, 15, 64, true) != DECODE_OK || (d.desc->flags & (OPF_VSIB | OPF_IMPLICIT_MEM)))
            continue;
        lower(i, &d);
        if (d.desc->cls < OPC_X87 && !i->fn)
            continue;
        if (lower_fpu_state(cpu, &d, i) || (d.desc->cls == OPC_INT && !i->imm))
            continue;
        seen[d.desc->mnemonic]++;
        kinds += seen[d.desc->mnemonic] == 1;
        ran++;
        if (i->fn == op_native_full) {
            run(i);
            continue;
        }
        if (!i->fn || !i->imm || !reads_the_same(&d, (const u8 *)i->imm, i->size)) {
            bad++;
            CHECK_STR(mnemonic_name(d.desc->mnemonic), i->fn ? "the same" : "lowered");
            for (unsigned k = 0; k < d.len; k++)
                fprintf(stderr, "%02x ", b[k]);
            fprintf(stderr, "\n");
        }
    }
    printf("  %u encodings of %u mnemonics\n", ran, kinds);
}

/* Gathers and scatters are done by vec_masked.c: its reading of them (bytes of insn.imm) against Zydis's. */
TEST(gathers_and_scatters_are_read_right)
{
    unsigned ran = 0, bad = 0;
    reset();
    ZydisDecoder z;
    ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (unsigned tries = 0; tries < 400000 && bad < 10; tries++) {
        u8 b[16];
        struct decoded d;
        struct insn i[2];
        ZydisDecodedInstruction a;
        ZydisDecodedOperand x[ZYDIS_MAX_OPERAND_COUNT];
        for (unsigned k = 0; k < 16; k++)
            b[k] = (u8)rnd();
        unsigned n = 0;
        if (rnd() & 1) {
            b[n++] = 0x62, b[n] = (u8)((b[n] & 0xf0) | 2), n++;
            b[n] = (u8)(b[n] | 0x7d), n++, n++;
        } else {
            b[n++] = 0xc4, b[n] = (u8)((b[n] & 0xe0) | 2), n++;
            b[n] = (u8)((b[n] & 0xfc) | 1), n++;
        }
        b[n] = (u8)((b[n] & 0x33) | 0x80 | (b[n] & 0x20 ? 0 : 0x10)), n++;
        b[n] = (u8)((b[n] & 0xf8) | 4);
        if (decode(&d, b, 15, 64, true) != DECODE_OK || !(d.desc->flags & OPF_VSIB) ||
            !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, b, 15, &a, x)))
            continue;
        lower(i, &d);
        const u8 *g = (const u8 *)&i->imm;
        const ZydisDecodedOperand *mem = NULL, *mask = NULL, *data = NULL;
        for (unsigned k = 0; k < a.operand_count; k++) {
            const ZydisDecodedOperand *o = &x[k];
            if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
                mem = o;
            else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
                data = o;
            else if (o->encoding == ZYDIS_OPERAND_ENCODING_MASK || o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
                mask = o;
        }
        bool good = i->fn && mem && mask && data && g[0] == ZydisRegisterGetId(data->reg.value) &&
                    g[1] == ZydisRegisterGetId(mem->mem.index) && g[2] == ZydisRegisterGetId(mask->reg.value) &&
                    g[3] == mem->element_size / 8 && 1 << i->scale == mem->mem.scale &&
                    i->disp == mem->mem.disp.value && g[7] == (data->actions == ZYDIS_OPERAND_ACTION_READ);
        unsigned data_bytes = data ? data->size / 8 : 0, index_bytes = mem ? ZydisRegisterGetWidth(a.machine_mode, mem->mem.index) / 8 : 0;
        good = good && g[5] == MIN(data_bytes / g[3], index_bytes / g[4]);
        if (!good) {
            bad++;
            CHECK_STR(mnemonic_name(d.desc->mnemonic), "read right");
            for (unsigned k = 0; k < d.len; k++)
                fprintf(stderr, "%02x ", b[k]);
            fprintf(stderr, "| data %u index %u mask %u element %u index size %u count %u\n", g[0], g[1], g[2], g[3], g[4], g[5]);
        }
        ran++;
    }
    CHECK(ran > 2000);
}

/* ---- faults ------------------------------------------------------------- */

TEST(faults)
{
    reset();
    cpu->gpr[RBX] = 0, cpu->gpr[RAX] = 5;
    RAISES(VEC_DE, 0x48, 0xf7, 0xf3); /* div rbx */
    CHECK_EQ(cpu->gpr[RAX], 5);
    cpu->gpr[RBX] = DATA + 8;
    RAISES(VEC_GP, 0x0f, 0x28, 0x03); /* movaps xmm0, [rbx] */
    cpu->gpr[RBX] = DATA + WINDOW_PAGES * 4096 + 8;
    RAISES(VEC_GP, 0x0f, 0x28, 0x03); /* nothing mapped there either, but alignment comes first */
    RAISES(VEC_PF, 0x0f, 0x10, 0x03); /* movups */
    cpu->gpr[RBX] = DATA + WINDOW_PAGES * 4096 - 8;
    RAISES(VEC_PF, 0x0f, 0x10, 0x03);
    CHECK_EQ(raised.linear, DATA + WINDOW_PAGES * 4096);
    cpu->gpr[RBX] = DATA + 8, cpu->gpr[RAX] = 1;
    RAISES(VEC_GP, 0x48, 0x0f, 0xc7, 0x0b); /* cmpxchg16b */

    memset(cpu->s.xsave + XS_MXCSR, 0, 4);
    RAISES(VEC_XM, 0x0f, 0x5e, 0xc1); /* divps xmm0, xmm1: 0/0 */
    CHECK_EQ(cpu->s.xsave[XS_MXCSR] & 1, 1);
    cpu->s.cr4 &= ~CR4_OSXMMEXCPT;
    RAISES(VEC_UD, 0x0f, 0x5e, 0xc1);
    cpu->gpr[RBX] = DATA;
    *(u32 *)(u64)DATA = 0x80000000;
    RAISES(VEC_GP, 0x0f, 0xae, 0x13); /* ldmxcsr */

    /* An x87 exception is reported by the next instruction that waits, and FIP is that of the guilty one. */
    reset();
    cpu->gpr[REG_BLOCK] = 0x123456789000;
    cpu->s.xsave[XS_FCW] = 0x40;
    CHECK(RUN(0xd9, 0xe8)); /* fld1 */
    CHECK(RUN(0xd9, 0xee)); /* fldz */
    CHECK(RUN(0xde, 0xf9)); /* fdivp */
    cpu->gpr[REG_BLOCK] += 16;
    RAISES(VEC_MF, 0xd9, 0xe8);
    RAISES(VEC_MF, 0x9b);
    RAISES(VEC_MF, 0x0f, 0x6f, 0xc1); /* movq mm0, mm1 */
    RAISES(VEC_MF, 0x0f, 0xf7, 0xc1); /* maskmovq */
    RAISES(VEC_MF, 0xd9, 0x23);       /* fldenv */
    RAISES(VEC_MF, 0xd8, 0x03);       /* fadd from where nothing is */
    RAISES(VEC_PF, 0xd9, 0x3b);       /* fnstcw does not wait */
    u64 fip;
    memcpy(&fip, cpu->s.xsave + XS_FIP, 8);
    CHECK_EQ(fip, 0x123456789000);
    CHECK_EQ(cpu->s.xsave[XS_FOP + 1] << 8 | cpu->s.xsave[XS_FOP], 0x6f9);
    CHECK(RUN(0xdb, 0xe2)); /* fnclex */
    CHECK(RUN(0x9b));
    cpu->gpr[RBX] = DATA + 0x100;
    CHECK(RUN(0xd8, 0x43, 0x10)); /* fadd dword [rbx+16] */
    u64 fdp;
    memcpy(&fdp, cpu->s.xsave + XS_FDP, 8);
    CHECK_EQ(fdp, DATA + 0x110);
}

TEST(x87_pointers)
{
    unsigned ran = 0;
    reset();
    cpu->s.seg[CS].selector = 0x33, cpu->s.seg[DS].selector = 0; /* Linux's */
    for (unsigned n = 0; n < 4000; n++) {
        /* any D8-DF at [rbx+16] or on registers, then fnstenv [rbx+64] */
        u8 b[8] = { (u8)(0xd8 | (rnd() & 7)), (u8)(rnd() & 1 ? 0x43 | (rnd() & 0x38) : 0xc0 | rnd()), 16 };
        struct decoded d;
        struct insn i[2];
        u8 want[28], *env = (u8 *)(u64)(DATA + 64);
        if (decode(&d, b, 8, 64, true) != DECODE_OK)
            continue;
        lower(i, &d);
        if (!i->fn || lower_fpu_state(cpu, &d, i))
            continue;
        randomise();
        cpu->s.xsave[XS_FCW] = 0x7f; /* nothing is reported before FNSTENV */
        cpu->s.xsave[XS_FSW] = 0, cpu->s.xsave[XS_FSW + 1] &= 0x7f;
        cpu->gpr[RBX] = DATA;
        cpu->s.xsave[XS_FCW + 1] = 3;
        memcpy(native->gpr, cpu->gpr, sizeof native->gpr);
        memcpy(native->xsave, cpu->s.xsave, sizeof native->xsave);
        *(u16 *)(u64)(DATA + 16) = 0x37f; /* FLDCW */
        memcpy(b + d.len, (u8[]){ 0xd9, 0x73, 0x40 }, 3);
        /* Pointers of before: those of an fninit, as XRSTOR does not say which it keeps. */
        memset(native->xsave + XS_FOP, 0, XS_MXCSR - XS_FOP);
        memset(cpu->s.xsave + XS_FOP, 0, XS_MXCSR - XS_FOP);
        cpu->x87_fcs = cpu->x87_fds = 0;
        if (run_native(b, d.len + 3) >= 0)
            continue;
        memcpy(want, env, 28);
        memset(env, 0, 28);
        cpu->gpr[REG_BLOCK] = native->insn;
        if (!run_code(b, d.len) || !run_code(b + d.len, 3))
            CHECK_EQ(raised.vector, 255);
        if (memcmp(env + 12, want + 12, 16)) {
            CHECK_STR(mnemonic_of(b, d.len), "the same");
            for (unsigned k = 12; k < 28; k++)
                fprintf(stderr, "%02x(%02x) ", env[k], want[k]);
            fprintf(stderr, "\n");
        }
        ran++;
    }
    CHECK(ran > 2000);
}

TEST(classes_denied)
{
    static const struct { u8 n, b[6]; u32 deny; } list[] = {
        { 2, { 0xd9, 0xe8 }, DENY_X87 }, { 3, { 0x0f, 0xfc, 0xc1 }, DENY_MMX }, { 2, { 0x0f, 0x77 }, DENY_MMX },
        { 4, { 0x0f, 0x38, 0x00, 0xc1 }, DENY_MMX }, /* pshufb mm */
        { 5, { 0x66, 0x0f, 0x38, 0x00, 0xc1 }, DENY_SSE }, { 3, { 0x0f, 0x58, 0xc1 }, DENY_SSE },
        { 3, { 0x0f, 0x2a, 0xc1 }, DENY_SSE }, { 3, { 0x0f, 0xae, 0x1b }, DENY_SSE }, /* stmxcsr [rbx] */
        { 4, { 0xc5, 0xf0, 0x58, 0xc1 }, DENY_AVX }, { 3, { 0xc5, 0xf8, 0x77 }, DENY_AVX },
        { 1, { 0x9b }, DENY_WAIT }, { 5, { 0xc4, 0xe2, 0x70, 0xf2, 0xc1 }, 0 }, /* andn */
        { 3, { 0x0f, 0xc3, 0x03 }, 0 }, { 3, { 0x0f, 0xae, 0xf8 }, 0 }, /* movnti, sfence */
    };
    static const struct { u64 cr0, cr4, xcr0; u8 x87, mmx, sse, avx, wait; } when[] = {
        { 0, CR4_OSFXSR | CR4_OSXSAVE, 7, 255, 255, 255, 255, 255 },
        { CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_NM, VEC_NM, VEC_NM, 255 },
        { CR0_TS | CR0_MP, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_NM, VEC_NM, VEC_NM, VEC_NM },
        { CR0_EM, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_UD, VEC_UD, 255, 255 },
        { CR0_EM | CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 7, VEC_NM, VEC_UD, VEC_UD, VEC_NM, 255 },
        { 0, CR4_OSXSAVE, 7, 255, 255, VEC_UD, 255, 255 },
        { CR0_TS, 0, 7, VEC_NM, VEC_NM, VEC_UD, VEC_UD, 255 },
        { 0, CR4_OSFXSR, 7, 255, 255, 255, VEC_UD, 255 },
        { CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 3, VEC_NM, VEC_NM, VEC_NM, VEC_UD, 255 },
    };
    for (unsigned w = 0; w < ARRAY_SIZE(when); w++)
        for (unsigned k = 0; k < ARRAY_SIZE(list); k++) {
            reset();
            cpu->gpr[RBX] = DATA;
            cpu->s.cr0 = CR0_PE | CR0_PG | when[w].cr0;
            cpu->s.cr4 = when[w].cr4;
            cpu->s.xcr0 = when[w].xcr0;
            soft_update_fpu(cpu);
            unsigned want = 255;
            switch (list[k].deny) {
            case DENY_X87: want = when[w].x87; break;
            case DENY_MMX: want = when[w].mmx; break;
            case DENY_SSE: want = when[w].sse; break;
            case DENY_AVX: want = when[w].avx; break;
            case DENY_WAIT: want = when[w].wait; break;
            }
            bool done = run_code(list[k].b, list[k].n);
            if ((done ? 255 : raised.vector) != want)
                fprintf(stderr, "  row %u, %s\n", w, mnemonic_of(list[k].b, list[k].n));
            CHECK_EQ(done ? 255 : raised.vector, want);
        }
}

/* ---- operand sizes, modes, locks ---------------------------------------- */

TEST(other_code_sizes)
{
    reset();
    cpu->bits = 32, cpu->long_mode = false, cpu->ipmask = 0xffffffff;
    cpu->gpr[RAX] = 0x12345678, cpu->gpr[RBX] = 0x10000;
    CHECK(RUN(0xf7, 0xe3)); /* mul ebx */
    CHECK_EQ(cpu->gpr[RAX], 0x56780000);
    CHECK_EQ(cpu->gpr[RDX], 0x1234);
    CHECK(cpu->rflags & RFLAGS_OF);
    cpu->gpr[RAX] = 0x12345678, cpu->gpr[RDX] = 0xaaaaaaaa, cpu->gpr[RBX] = 0x0100;
    CHECK(RUN(0x66, 0xf7, 0xe3)); /* mul bx */
    CHECK_EQ(cpu->gpr[RAX], 0x12347800);
    CHECK_EQ(cpu->gpr[RDX], 0xaaaa0056);
    CHECK(RUN(0xc4, 0xe1, 0xf9, 0x6e, 0xc3)); /* vmovd xmm0, ebx: W is ignored here */
    CHECK_EQ(*(u64 *)(cpu->s.xsave + XS_XMM), 0x100);
    cpu->segbase[DS] = DATA, cpu->gpr[RBX] = 0x20;
    *(u32 *)(u64)(DATA + 0x20) = 0xdeadbeef;
    CHECK(RUN(0xf3, 0x0f, 0xb8, 0x0b)); /* popcnt ecx, [ebx] */
    CHECK_EQ(cpu->gpr[RCX], 24);

    cpu->bits = 16;
    cpu->gpr[RAX] = 0x11110003, cpu->gpr[RBX] = 0x22220005, cpu->gpr[RDX] = 0x33333333;
    CHECK(RUN(0xf7, 0xe3)); /* mul bx */
    CHECK_EQ(cpu->gpr[RAX], 0x1111000f);
    CHECK_EQ(cpu->gpr[RDX], 0x33330000);
    CHECK(RUN(0x69, 0xc3, 0x34, 0x12)); /* imul ax, bx, 1234h */
    CHECK_EQ(cpu->gpr[RAX], 0x11110000 | (5 * 0x1234));
    CHECK(RUN(0x66, 0x0f, 0xc8)); /* bswap eax */
    CHECK_EQ(cpu->gpr[RAX], 0x045b1111);
    CHECK(RUN(0x66, 0xf3, 0x0f, 0xb8, 0xc3)); /* popcnt eax, ebx */
    CHECK_EQ(cpu->gpr[RAX], 6);
    CHECK(RUN(0x0f, 0xc0, 0xc4)); /* xadd ah, al */
    CHECK_EQ(cpu->gpr[RAX], 0x600);
    CHECK(RUN(0x66, 0x0f, 0x6e, 0xcb)); /* movd xmm1, ebx: the operand is 32 bits everywhere */
    CHECK_EQ(*(u64 *)(cpu->s.xsave + XS_XMM + 16), 0x22220005);
}

TEST(high_bytes)
{
    reset();
    cpu->gpr[RAX] = 0x1122334455660305, cpu->gpr[RBX] = 0xffffffffffff07ff;
    CHECK(RUN(0xf6, 0xe7)); /* mul bh */
    CHECK_EQ(cpu->gpr[RAX], 0x1122334455660023);
    cpu->gpr[RAX] = 0x1122334455660305;
    CHECK(RUN(0x0f, 0xc0, 0xe0)); /* xadd al, ah */
    CHECK_EQ(cpu->gpr[RAX], 0x1122334455660508);
    CHECK(RUN(0x0f, 0xb0, 0xdc)); /* cmpxchg ah, bl: not equal */
    CHECK_EQ(cpu->gpr[RAX], 0x1122334455660505);
    CHECK(RUN(0x0f, 0xb0, 0xdc)); /* equal */
    CHECK_EQ(cpu->gpr[RAX], 0x112233445566ff05);
    CHECK(RUN(0xf2, 0x0f, 0x38, 0xf0, 0xcf)); /* crc32 ecx, bh */
    u32 want = 0;
    __asm__("crc32b %1, %0" : "+r"(want) : "r"((u8)7));
    CHECK_EQ(cpu->gpr[RCX], want);
}

TEST(locked_operands_in_two_pages)
{
    reset();
    cpu->gpr[RBX] = DATA + 4096 - 3, cpu->gpr[RAX] = 0x0123456789abcdef, cpu->gpr[RCX] = 5;
    memcpy((void *)cpu->gpr[RBX], &cpu->gpr[RAX], 8);
    CHECK(RUN(0xf0, 0x48, 0x0f, 0xb1, 0x0b)); /* lock cmpxchg [rbx], rcx */
    CHECK(cpu->rflags & RFLAGS_ZF);
    u64 now;
    memcpy(&now, (void *)cpu->gpr[RBX], 8);
    CHECK_EQ(now, 5);
    CHECK(RUN(0xf0, 0x48, 0x0f, 0xc1, 0x0b)); /* lock xadd [rbx], rcx */
    memcpy(&now, (void *)cpu->gpr[RBX], 8);
    CHECK_EQ(now, 10);
    CHECK_EQ(cpu->gpr[RCX], 5);
    CHECK_EQ(machine.split_lock, 0);
    map_page(1, true, false);
    RAISES(VEC_PF, 0xf0, 0x48, 0x0f, 0xc1, 0x0b);
    CHECK_EQ(raised.linear, DATA + 4096);
    CHECK_EQ(machine.split_lock, 0);
}

/* ---- masked and scattered operands -------------------------------------- */

static u32 *xmm_words(unsigned reg) { all_in_use(); return (u32 *)(cpu->s.xsave + XS_XMM + 16 * reg); }
static u32 *ymm_high(unsigned reg) { all_in_use(); return (u32 *)(cpu->s.xsave + cpu->native->offset[2] + 16 * reg); }

TEST(masked_operands)
{
    reset();
    if (!(cpu->native->mask & XCOMP_AVX))
        return;
    u32 *data = (u32 *)(u64)(DATA + 8192 - 16);
    for (unsigned k = 0; k < 8; k++)
        data[k] = 0x100 + k;
    map_page(2, false, false);
    cpu->gpr[RBX] = (u64)data;
    for (unsigned k = 0; k < 4; k++)
        xmm_words(1)[k] = k == 1 ? 0 : ~0u, ymm_high(1)[k] = 0;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8c, 0x03)); /* vpmaskmovd ymm0, ymm1, [rbx] */
    for (unsigned k = 0; k < 4; k++) {
        CHECK_EQ(xmm_words(0)[k], k == 1 ? 0 : 0x100 + k);
        CHECK_EQ(ymm_high(0)[k], 0);
    }
    ymm_high(1)[2] = ~0u;
    RAISES(VEC_PF, 0xc4, 0xe2, 0x75, 0x8c, 0x03);
    CHECK(raised.linear - (DATA + 8192) < 16);
    cpu->gpr[RBX] = DATA + 8192 + 32;
    RAISES(VEC_PF, 0xc4, 0xe2, 0x75, 0x2c, 0x03); /* vmaskmovps */
    CHECK(raised.linear >= DATA + 8192 + 32 && raised.linear < DATA + 8192 + 64);
    memset(xmm_words(1), 0, 16), ymm_high(1)[2] = 0;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8c, 0x03)); /* nothing selected, nothing mapped */
    map_page(1, false, false), map_page(2, true, true);
    cpu->gpr[RBX] = (u64)data;
    ymm_high(1)[3] = ~0u;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8c, 0x03)); /* the first page unmapped */
    CHECK_EQ(ymm_high(0)[3], 0x107);

    /* Stores: none of the selected elements, or all. */
    reset();
    data = (u32 *)(u64)(DATA + 8192 - 16);
    map_page(2, true, false);
    cpu->gpr[RBX] = (u64)data;
    for (unsigned k = 0; k < 4; k++)
        xmm_words(1)[k] = k & 1 ? ~0u : 0, ymm_high(1)[k] = 0, xmm_words(0)[k] = 0x200 + k;
    CHECK(RUN(0xc4, 0xe2, 0x75, 0x8e, 0x03)); /* vpmaskmovd [rbx], ymm1, ymm0 */
    for (unsigned k = 0; k < 8; k++)
        CHECK_EQ(data[k], k == 1 || k == 3 ? 0x200 + k : 0);
    ymm_high(1)[0] = ~0u, xmm_words(0)[1] = 7;
    RAISES(VEC_PF, 0xc4, 0xe2, 0x75, 0x8e, 0x03);
    CHECK_EQ(raised.linear, DATA + 8192);
    CHECK_EQ(data[1], 0x201);

    /* maskmovdqu xmm0, xmm1 at rDI; maskmovq */
    reset();
    cpu->gpr[RDI] = DATA + 4096 - 5;
    for (unsigned k = 0; k < 16; k++)
        cpu->s.xsave[XS_XMM + k] = (u8)(k + 1), cpu->s.xsave[XS_XMM + 16 + k] = k % 3 ? 0 : 0x80;
    CHECK(RUN(0x66, 0x0f, 0xf7, 0xc1));
    for (unsigned k = 0; k < 16; k++)
        CHECK_EQ(((u8 *)(u64)(DATA + 4096 - 5))[k], k % 3 ? 0 : k + 1);
    map_page(1, false, false);
    all_in_use();
    cpu->s.xsave[XS_XMM + 16 + 15] = 0x80;
    RAISES(VEC_PF, 0x66, 0x0f, 0xf7, 0xc1);
    cpu->gpr[RDI] = DATA;
    all_in_use();
    memset(cpu->s.xsave + XS_ST, 0x5a, 8), memset(cpu->s.xsave + XS_ST + 16, 0x80, 4);
    CHECK(RUN(0x0f, 0xf7, 0xc1));
    CHECK_EQ(*(u64 *)(u64)DATA, 0x5a5a5a5a);
}

TEST(gathers)
{
    reset();
    if (!(cpu->native->mask & XCOMP_AVX))
        return;
    unsigned bad = 0;
    for (unsigned n = 0; n < 4000 && bad < 5; n++) {
        randomise();
        /* vpgather and vgather: opcode 90-93, W, L; data xmm2, index xmm9, mask xmm4; [rbx + index*scale + disp8] */
        u8 b[] = { 0xc4, 0xa2, (u8)((rnd() & 0x84) | 1 | (~4 & 15) << 3), (u8)(0x90 | (rnd() & 3)), 0x54,
                   (u8)(0x0b | (rnd() & 0xc0)), (u8)rnd() };
        for (unsigned k = 0; k < 4; k++) {
            xmm_words(9)[k] = (u32)rnd() % 0x3e0;
            ymm_high(9)[k] = (u32)rnd() % 0x3e0;
            if (rnd() & 1)
                xmm_words(9)[k] = -xmm_words(9)[k];
            if (b[3] & 1 && (k & 1)) { /* 64-bit indices */
                xmm_words(9)[k] = (u32)((s32)xmm_words(9)[k - 1] >> 31);
                ymm_high(9)[k] = (u32)((s32)ymm_high(9)[k - 1] >> 31);
            }
        }
        cpu->gpr[RBX] = DATA + 8192;
        bool faulted;
        bad += !compare(b, sizeof b, &faulted);
    }

    /* A fault keeps what was gathered before it, and the mask says so. */
    reset();
    map_page(1, false, false);
    cpu->gpr[RBX] = DATA;
    *(u32 *)(u64)DATA = 11, *(u32 *)(u64)(DATA + 8) = 22;
    for (unsigned k = 0; k < 4; k++)
        xmm_words(4)[k] = ~0u, xmm_words(2)[k] = 99;
    xmm_words(9)[0] = 0, xmm_words(9)[1] = 8, xmm_words(9)[2] = 4096, xmm_words(9)[3] = 0;
    RAISES(VEC_PF, 0xc4, 0xa2, 0x59, 0x90, 0x14, 0x0b); /* vpgatherdd xmm2, [rbx+xmm9], xmm4 */
    CHECK_EQ(raised.linear, DATA + 4096);
    static const u32 data[] = { 11, 22, 99, 99 }, mask[] = { 0, 0, ~0u, ~0u };
    CHECK(!memcmp(xmm_words(2), data, 16) && !memcmp(xmm_words(4), mask, 16));
    map_page(1, true, true);
    CHECK(RUN(0xc4, 0xa2, 0x59, 0x90, 0x14, 0x0b));
    CHECK_EQ(xmm_words(2)[3], 11);
    CHECK(!RUN(0xc4, 0xa2, 0x51, 0x90, 0x2c, 0x0b)); /* mask and data the same: #UD */
}

/* ---- images ------------------------------------------------------------- */

/* Runs an instruction at [rbx] both ways; memory bytes skip to skip+n of the operand are of the code's own place. */
static bool compare_area(const u8 *b, unsigned len, unsigned skip, unsigned n)
{
    static u8 before[WINDOW_PAGES * 4096], want[WINDOW_PAGES * 4096], start[CPU_XSAVE_SIZE];
    u8 *data = (u8 *)(u64)DATA, x[832], y[832];
    u64 at = cpu->gpr[RBX] - DATA + skip;
    memcpy(before, data, sizeof before);
    memcpy(start, cpu->s.xsave, sizeof start);
    memcpy(native->gpr, cpu->gpr, sizeof native->gpr);
    memcpy(native->xsave, cpu->s.xsave, sizeof native->xsave);
    native->rflags = 0x202;
    int trap = run_native(b, len);
    memcpy(want, data, sizeof want);
    memcpy(data, before, sizeof before);
    bool done = run_code(b, len);
    int got = done ? -1 : (int)raised.vector;
    vec_image(cpu);
    memset(want + at, 0, n), memset(data + at, 0, n);
    comparable(x, cpu->s.xsave);
    comparable(y, trap < 0 ? native->xsave : start);
    const char *what = trap != got ? "vector" : memcmp(data, want, sizeof want) ? "memory" : memcmp(x, y, sizeof x) ? "state" : NULL;
    if (!what)
        return true;
    CHECK_STR(what, "the same");
    fprintf(stderr, "  %s, vector here %d, natively %d\n", mnemonic_of(b, len), got, trap);
    for (unsigned k = 0; k < sizeof want; k++)
        if (data[k] != want[k]) {
            fprintf(stderr, "  operand byte %lld: %02x, not %02x\n", (long long)(DATA + k - cpu->gpr[RBX]), data[k], want[k]);
            break;
        }
    for (unsigned k = 0; k < 832; k++)
        if (x[k] != y[k]) {
            fprintf(stderr, "  image byte %u: %02x, not %02x\n", k, x[k], y[k]);
            break;
        }
    return false;
}

TEST(images_as_the_host_makes_them)
{
    static const struct { u8 n, b[4]; u16 skip, skip_n; bool restore; } list[] = {
        { 3, { 0x0f, 0xae, 0x03 }, 6, 18, false },       { 4, { 0x48, 0x0f, 0xae, 0x03 }, 6, 18, false }, /* fxsave */
        { 3, { 0x0f, 0xae, 0x0b }, 6, 18, true },        { 4, { 0x48, 0x0f, 0xae, 0x0b }, 6, 18, true },  /* fxrstor */
        { 3, { 0x0f, 0xae, 0x23 }, 6, 18, false },       { 4, { 0x48, 0x0f, 0xae, 0x23 }, 6, 18, false }, /* xsave */
        { 3, { 0x0f, 0xae, 0x2b }, 6, 18, true },        { 4, { 0x48, 0x0f, 0xae, 0x2b }, 6, 18, true },  /* xrstor */
        { 3, { 0x0f, 0xae, 0x33 }, 6, 18, false },       { 3, { 0x0f, 0xc7, 0x23 }, 6, 18, false }, /* xsaveopt, xsavec */
        { 2, { 0xd9, 0x33 }, 12, 16, false },            { 2, { 0xd9, 0x23 }, 12, 16, true },  /* fnstenv, fldenv */
        { 2, { 0xdd, 0x33 }, 12, 16, false },            { 2, { 0xdd, 0x23 }, 12, 16, true },  /* fnsave, frstor */
        { 2, { 0xdb, 0xe3 }, 0, 0, false },                                                    /* fninit */
    };
    reset();
    if (!cpu->native->xsave || cpu->native->mask != 7)
        return;
    unsigned bad = 0;
    for (unsigned n = 0; n < 6000 && bad < 10; n++) {
        unsigned k = (unsigned)(rnd() % ARRAY_SIZE(list));
        randomise();
        if (rnd() & 1) /* some components initial */
            cpu->s.xsave[XS_BV] = (u8)(rnd() & 7) | 1;
        vec_image(cpu);
        cpu->gpr[RBX] = DATA + 4096 * (1 + rnd() % 2) - 64 * (rnd() % 8);
        cpu->gpr[RAX] = rnd() % 4 ? rnd() & 7 : rnd();
        if (!(rnd() & 15))
            cpu->gpr[RBX] += rnd() & 63;
        slow_page(1);
        if (list[k].restore && list[k].b[0] != 0xd9 && list[k].b[0] != 0xdd) {
            u8 *area = (u8 *)cpu->gpr[RBX];
            u16 mxcsr = (u16)rnd();
            memcpy(area + XS_MXCSR, &mxcsr, 2);
            memset(area + XS_MXCSR + 2, rnd() % 16 ? 0 : 1, 2);
            memset(area + 6, 0, 18);
            /* what FXRSTOR and XRSTOR make of reserved bits of FCW and of ES is the processor's own affair */
            area[1] &= 0x0f, area[0] = (u8)(0x40 | (area[0] & 0x3f));
            area[2] &= 0x40, area[3] &= 0x7f;
            for (unsigned r = 0; r < 8; r++)
                memset(area + 32 + 16 * r + 10, 0, 6);
            memset(area + 512, 0, 64);
            area[512] = (u8)(rnd() & 7);
            if (rnd() & 1) {
                u64 comp = BIT(63) | (rnd() & 7) | area[512];
                memcpy(area + 520, &comp, 8);
            }
            if (!(rnd() % 8))
                area[512 + rnd() % 64] = (u8)rnd();
        }
        bad += !compare_area(list[k].b, list[k].n, list[k].skip, list[k].skip_n);
        map_page(1, true, true);
    }
}

TEST(vzero_in_32_bit_code)
{
    for (unsigned all = 0; all < 2; all++) {
        reset();
        if (!(cpu->native->mask & XCOMP_AVX))
            return;
        cpu->bits = 32, cpu->long_mode = false;
        for (unsigned r = 0; r < 16; r++)
            xmm_words(r)[1] = r + 1, ymm_high(r)[2] = r + 1;
        CHECK(RUN(0xc5, all ? 0xfc : 0xf8, 0x77));
        for (unsigned r = 0; r < 16; r++) {
            CHECK_EQ(xmm_words(r)[1], all && r < 8 ? 0 : r + 1);
            CHECK_EQ(ymm_high(r)[2], r < 8 ? 0 : r + 1);
        }
    }
}

TEST(xcr0)
{
    reset();
    cpu->gpr[RCX] = 0;
    CHECK(RUN(0x0f, 0x01, 0xd0)); /* xgetbv */
    CHECK_EQ(cpu->gpr[RAX], cpu->s.xcr0);
    cpu->gpr[RAX] = 3;
    CHECK(RUN(0x0f, 0x01, 0xd1)); /* xsetbv */
    CHECK_EQ(cpu->s.xcr0, 3);
    RAISES(VEC_UD, 0xc5, 0xf8, 0x77);
    static const u32 wrong[] = { 0, 2, 5, 6, 0x23, 0x67, 0x100 | 3, 1u << 31 | 3 };
    for (unsigned k = 0; k < ARRAY_SIZE(wrong); k++) {
        cpu->gpr[RAX] = wrong[k];
        RAISES(VEC_GP, 0x0f, 0x01, 0xd1);
    }
    cpu->gpr[RAX] = 7, cpu->cpl = 3;
    RAISES(VEC_GP, 0x0f, 0x01, 0xd1);
    cpu->cpl = 0, cpu->gpr[RCX] = 2;
    RAISES(VEC_GP, 0x0f, 0x01, 0xd0);
    cpu->s.cr4 = 0;
    RAISES(VEC_UD, 0x0f, 0x01, 0xd0);
    RAISES(VEC_UD, 0x0f, 0xae, 0x23);
}

TEST(environments_of_16_and_32_bit_code)
{
    reset();
    cpu->bits = 16, cpu->long_mode = false, cpu->ipmask = 0xffffffff;
    cpu->segbase[DS] = DATA;
    cpu->s.seg[CS].selector = 0x1234, cpu->s.seg[DS].selector = 0x5678;
    cpu->gpr[REG_BLOCK] = 0x9abc;
    cpu->gpr[RBX] = 0x40;
    CHECK(RUN(0xd9, 0x07)); /* fld dword [bx] */
    cpu->gpr[RBX] = 0x80;
    CHECK(RUN(0xd9, 0x37)); /* fnstenv [bx], protected mode, 14 bytes */
    const u16 *w = (const u16 *)(u64)(DATA + 0x80);
    CHECK_EQ(w[0], 0x37f);
    CHECK_EQ(w[1], 0x3800);
    CHECK_EQ(w[2], 0x7fff);
    CHECK_EQ(w[3], 0x9abc);
    CHECK_EQ(w[4], 0x1234);
    CHECK_EQ(w[5], 0x40);
    CHECK_EQ(w[6], 0x5678);
    cpu->protected_mode = false;
    CHECK(RUN(0xd9, 0x37)); /* real mode: linear addresses and the opcode */
    CHECK_EQ(w[3], (0x12340 + 0x9abc) & 0xffff);
    CHECK_EQ(w[4], (0x12340 + 0x9abc) >> 16 << 12 | 0x107);
    CHECK_EQ(w[5], 0x567c0 & 0xffff);
    CHECK_EQ(w[6], 0x567c0 >> 16 << 12);
    CHECK_EQ(cpu->s.xsave[XS_FCW] & 0x3f, 0x3f);
    CHECK(RUN(0x66, 0xdd, 0x37)); /* fnsave, 32-bit: 108 bytes; then as after FNINIT */
    const u32 *d = (const u32 *)w;
    CHECK_EQ(d[0], 0xffff037f);
    CHECK_EQ(d[1], 0xffff3800);
    CHECK_EQ(d[4] & 0x7ff, 0x107);
    CHECK_EQ(cpu->s.xsave[XS_FTW], 0);
    CHECK(RUN(0x66, 0xdd, 0x27)); /* frstor */
    CHECK_EQ(cpu->s.xsave[XS_FTW], 0x80);
    CHECK_EQ(cpu->s.xsave[XS_FSW + 1], 0x38);
}
