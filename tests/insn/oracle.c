/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oracle - the host CPU as the judge of the software engine.
 *
 *   insn-oracle [-f] [-t] [-r] [-x] [-p CPU] [-n INSTRUCTIONS] [-s SEED] [-q SEQUENCE] [-v] [-N] [-c] [-m REPORTS]
 *
 * Runs random sequences on both and compares general registers, defined flags, x87, MXCSR, vectors, memory, and the
 * exception that ended them: vector, error code, RIP, CR2. -n: how many instructions the host is to execute
 * (1,000,000; with -f: how many programs; LODGE_TEST_SECONDS=600 goes on for that long from a new seed). -q: only that sequence of the seed, with
 * a listing. -t: the engine translates. -f: programs of loops, jumps and calls (flow.c), each run several times in one
 * guest: first cold, then hot, then cut by interrupts and kicks. -r: programs in real and virtual-8086 mode (real.c), which
 * the host cannot run: the interpreter ("host" in what is printed) against the translator. -x: as on a processor that
 * touches the operands of MOVS and CMPS in the other order than the host. -p: on a guest's processor of that
 * model, for what an engine on such a host would do: x86-64-v1 to -v4. -N: the host against itself, which tries this program. -c: what was covered. The first differences are shrunk and listed.
 */
#include "oracle.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#include "cpu/cpu.h"
#include "engine/engine.h"

enum { MAX_REPORTS = 20, CODE_MAX = CODE_SIZE };

/*
 * An address sanitizer's shadow lies where random pointers of a sequence hit it: then the engine runs alone, for what
 * the sanitizers find in it.
 */
#ifdef __SANITIZE_ADDRESS__
static const bool engine_alone = true;
#else
static const bool engine_alone = false;
#endif

static struct guest *guests[3]; /* one: the interpreter; or translators, by how soon they begin; none: the host against itself */
static unsigned n_guests;
static bool translated;
static bool flow;               /* programs instead of sequences */
static bool real;               /* the same in real mode: no host */
static bool other_order;        /* the host's operands are touched in the other order */
static struct real_guest *reals[4]; /* the interpreter, and translators as above */
static struct real_outcome real_want, real_got;
static u64 endless, cut_runs;   /* programs left out since they do not end */
static u64 others;              /* ends at which -x made a difference */
static const char *run_name;    /* of the run that differs */
static struct outcome host_out, guest_out;
static u8 code[CODE_MAX + 64];
static unsigned offsets[SEQ_MAX + 1];
static u64 current_sequence, seed = 1;

/* ---- comparison ------------------------------------------------------------- */

struct diff {
    char text[4096];
    unsigned len, count;
};

static void __attribute__((format(printf, 2, 3))) note(struct diff *d, const char *fmt, ...)
{
    va_list ap;
    if (d->count++ > 40 || d->len > sizeof(d->text) - 200)
        return;
    va_start(ap, fmt);
    d->len += (unsigned)vsnprintf(d->text + d->len, sizeof(d->text) - d->len, fmt, ap);
    va_end(ap);
}

static void note64(struct diff *d, const char *what, u64 host, u64 engine)
{
    if (host != engine)
        note(d, "  %-8s host %016llx engine %016llx\n", what, (unsigned long long)host, (unsigned long long)engine);
}

static void note_bytes(struct diff *d, const char *what, const u8 *host, const u8 *engine, unsigned n)
{
    if (!memcmp(host, engine, n))
        return;
    char a[64 * 2 + 1], b[64 * 2 + 1];
    for (unsigned i = 0; i < n && i < 64; i++) {
        sprintf(a + 2 * i, "%02x", host[n - 1 - i]);
        sprintf(b + 2 * i, "%02x", engine[n - 1 - i]);
    }
    note(d, "  %-8s host %s\n           eng. %s\n", what, a, b);
}

static void note_memory(struct diff *d, u64 base, const u8 *host, const u8 *engine, unsigned n)
{
    for (unsigned i = 0; i < n; i += 16)
        if (memcmp(host + i, engine + i, 16)) {
            char name[32];
            sprintf(name, "%llx", (unsigned long long)base + i);
            note_bytes(d, name, host + i, engine + i, 16);
        }
}

/* A component whose XSTATE_BV bit is clear is in its initial state, whatever the image holds. */
static void normalize(u8 *x)
{
    u64 bv;
    memcpy(&bv, x + 512, 8);
    if (!(bv & 1)) {
        memset(x, 0, 24);
        x[0] = 0x7f;
        x[1] = 0x03;
        memset(x + 32, 0, 128);
    }
    if (!(bv & 2))
        memset(x + 160, 0, 256);
    static const u16 size[8] = {[2] = 256, [5] = 64, [6] = 512, [7] = 1024};
    for (unsigned n = 2; n < 8; n++)
        if (host_component[n] && !(bv >> n & 1))
            memset(x + host_component[n], 0, size[n]);
}

static const char *const reg_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};

static unsigned instructions_run(const struct sequence *q, u64 rip)
{
    unsigned k = 0;
    while (k < q->n && (q->init.rip + offsets[k] < rip || !q->insn[k].len))
        k++;
    return k;
}

static u32 undefined_at(const struct sequence *q, u64 rip)
{
    unsigned k = instructions_run(q, rip);
    u32 undefined = gen_undefined_flags(q, k);
    bool wild = rip - q->init.rip != offsets[k] && rip - q->init.rip != offsets[q->n] + 1u;
    for (unsigned i = 0; wild && i < q->n; i++) /* a jump left the sequence, who knows from where */
        undefined |= gen_undefined_flags(q, i);
    return undefined;
}

/*
 * Where processors are free. Which of the two operands of MOVS and CMPS is touched first is not here: host_run says of
 * both how they fault, and either will do.
 */
struct latitude {
    bool nothing, cr2_page, no_vectors, aligned, ten_bytes, no_align, masked, no_arith, no_opmask, no_data;
    unsigned below; /* bytes below the stack pointer that may have been written before the fault */
};
static struct latitude latitude_at(const struct sequence *q, unsigned k, unsigned vector)
{
    struct latitude l = {0};
    struct decoded d;
    if (k >= q->n || q->insn[k].data || decode(&d, q->insn[k].bytes, 15, q->bits, true) != DECODE_OK)
        return l;
    const bool string = d.desc->cls == OPC_STRING;
    switch (d.desc->mnemonic) {
    case M_INSB: /* AMD checks the right to I/O for a repeat count of zero too */
    case M_INSW:
    case M_INSD:
    case M_OUTSB:
    case M_OUTSW:
    case M_OUTSD: l.nothing = d.rep; break;
    /* A repeated comparison that faults shows the flags of before it (SDM vol. 2, REP), or those of the last element. */
    case M_CMPSB:
    case M_CMPSW:
    case M_CMPSD:
    case M_CMPSQ:
    case M_SCASB:
    case M_SCASW:
    case M_SCASD:
    case M_SCASQ: l.no_arith = string && d.rep; break;
    /* Whether an operand that stays as it is must be writable is the processor's. */
    case M_ARPL: l.nothing = d.has_mem; break;
    /* Legacy SHA instructions take any address on AMD's processors, Intel's want it aligned. */
    case M_SHA1MSG1:
    case M_SHA1MSG2:
    case M_SHA1NEXTE:
    case M_SHA1RNDS4:
    case M_SHA256MSG1:
    case M_SHA256MSG2:
    case M_SHA256RNDS2: l.nothing = d.has_mem && vector == VEC_GP; break;
    /* What of their pushes was done before one of their accesses faulted. */
    case M_ENTER:
    case M_PUSHA:
    case M_PUSHAD: l.below = 33 * 8; break;
    default: break;
    }
    /* MASKMOVQ, MASKMOVDQU: whether bytes that are not selected may fault is the processor's (SDM vol. 2, MASKMOVDQU). */
    if (d.desc->flags & OPF_MASKED_MEM && d.desc->flags & OPF_IMPLICIT_MEM)
        l.nothing = true;
    if (d.desc->flags & OPF_MASKED_MEM)
        l.cr2_page = l.masked = true;
    /* A fault comes when all elements below the one that faults are done; of those above any may be (SDM vol. 2, VPGATHERDD,
       VPSCATTERDD). */
    if (d.desc->flags & OPF_VSIB) {
        l.no_vectors = l.no_opmask = true;
        l.no_data = d.desc->flags & OPF_MEM_WRITE;
    }
    if (d.desc->mem_size > 64) /* FXSAVE and its like */
        l.cr2_page = true;
    l.no_align = d.desc->mem_size > 8 || d.desc->flags & OPF_MASKED_MEM || d.lock || d.desc->mnemonic == M_XCHG ||
        d.desc->mnemonic == M_ENTER;
    l.ten_bytes = d.desc->mem_size == 10;
    l.aligned = d.desc->cls >= OPC_MMX;
    return l;
}

/* The x87 data pointer is undefined if the instruction at fip had no operand in memory (SDM vol. 1, 8.1.8). */
static bool has_data_pointer(const struct sequence *q, const u8 *fip)
{
    struct decoded d;
    u64 rip;
    memcpy(&rip, fip, 8);
    for (unsigned k = 0; k < q->n; k++)
        if (q->init.rip + offsets[k] == rip)
            return q->insn[k].len && !q->insn[k].data && decode(&d, q->insn[k].bytes, 15, q->bits, true) == DECODE_OK && d.has_mem;
    return false;
}

static bool same_fault(const struct fault *h, const struct fault *g)
{
    if (h->vector != VEC_PF || g->vector != VEC_PF)
        return h->vector == g->vector;
    return h->cr2 == g->cr2 && !((h->error ^ g->error) & 2); /* a write or not */
}

static void compare(const struct sequence *q, struct outcome *h, struct outcome *g, struct diff *d)
{
    d->len = d->count = 0;
    d->text[0] = 0;
    if (h->has_other && !same_fault(&h->f, &g->f) && same_fault(&h->other, &g->f))
        host_name_other(h);
    struct latitude l = latitude_at(q, instructions_run(q, h->s.rip), h->f.vector);
    const bool faulted = h->f.vector != VEC_BP && h->f.vector != VEC_DB;
    if (l.nothing && h->f.vector != VEC_BP)
        return;
    /* Alignment checks of operands over 8 bytes, and their order with other faults (SDM vol. 3, 6.15, #AC; vol. 2, MOVUPS). */
    struct latitude lg = latitude_at(q, instructions_run(q, g->s.rip), g->f.vector);
    if ((h->f.vector == VEC_AC && l.no_align) || (g->f.vector == VEC_AC && lg.no_align))
        return;
    if ((h->f.vector == VEC_AC || g->f.vector == VEC_AC) && h->s.rip == g->s.rip && h->f.vector >= VEC_SS && g->f.vector >= VEC_SS)
        return;
    /* Between two elements of a gather or scatter a trap may be taken (SDM vol. 2, VPGATHERDD). */
    if (h->f.vector == VEC_DB && l.no_vectors && h->s.rip == g->s.rip)
        return;
    /* A segment's limit and an element that the mask leaves out. */
    if (q->bits != 64 && (g->f.vector == VEC_SS || g->f.vector == VEC_GP) && lg.masked)
        return;
    /* Misaligned and beyond the stack segment's limit: #GP or #SS. */
    if (q->bits != 64 && h->f.vector == VEC_PF && l.ten_bytes && h->s.rip == g->s.rip) /* split into 8 and 2 */
        return;
    if (q->bits != 64 && h->f.vector == VEC_GP && g->f.vector == VEC_SS && h->s.rip == g->s.rip && l.aligned)
        return;
    /* A program's jump went to data, or into an instruction: a far return, say, that finds two reasons. */
    if (q->flow && h->s.rip == g->s.rip && h->f.vector != g->f.vector && h->s.rip - q->init.rip != offsets[instructions_run(q, h->s.rip)])
        return;
    note64(d, "vector", h->f.vector, g->f.vector);
    if (h->f.vector != g->f.vector)
        note(d, "  at %llx; error, cr2: host %x, %llx; engine %x, %llx\n", (unsigned long long)h->s.rip, h->f.error, (unsigned long long)h->f.cr2,
            g->f.error, (unsigned long long)g->f.cr2);
    note64(d, "rip", h->s.rip, g->s.rip);
    if (h->f.vector == g->f.vector && (h->f.vector == VEC_PF || (h->f.vector >= VEC_TS && h->f.vector <= VEC_GP))) {
        u32 ignore = 0;
        if (h->f.vector == VEC_PF) {
            note64(d, "cr2", l.cr2_page ? h->f.cr2 >> 12 : h->f.cr2, l.cr2_page ? g->f.cr2 >> 12 : g->f.cr2);
            if (h->f.cr2 >= BIT(47) - 4096) /* the host's kernel does not tell what is mapped in its half and the page before */
                ignore = 1;
        }
        if ((h->f.error ^ g->f.error) & ~ignore)
            note(d, "  error    host %x engine %x, cr2 %llx\n", h->f.error, g->f.error, (unsigned long long)h->f.cr2);
    }
    /* The kernel's way to a 16-bit stack pointer (espfix) leaves its traces above 32 bits of RSP. */
    u64 rsp_mask = q->bits == 64 ? ~0ull : 0xffffffff;
    for (unsigned i = 0; i < (q->bits == 64 ? 16 : 8); i++)
        note64(d, reg_names[i], h->s.gpr[i] & (i == RSP ? rsp_mask : ~0ull), g->s.gpr[i] & (i == RSP ? rsp_mask : ~0ull));
    static const char *const seg_names[6] = {"es", "cs", "ss", "ds", NULL, "gs"};
    for (unsigned i = 0; i < 6; i++)
        /* All null selectors are one: the return from the host's kernel makes them 0 (SDM vol. 2, IRET). */
        if (seg_names[i] && (h->s.selector[i] | g->s.selector[i]) > 3)
            note64(d, seg_names[i], h->s.selector[i], g->s.selector[i]);
    u64 mask = ~(u64)(undefined_at(q, h->s.rip) | RFLAGS_RF);
    /* A translation keeps only those arithmetic flags that are read again; a fault in between shows the others. */
    if (translated && h->f.vector != 3) {
        /* Which those are is not known where it wrote over its code. */
        const bool overwrote = q->patches_itself && memcmp((void *)q->code, code, offsets[q->n]);
        mask &= (overwrote ? 0 : gen_live_flags(q, (unsigned)(h->s.rip - q->init.rip))) | ~(u64)RFLAGS_ARITH;
    }
    if (faulted && l.no_arith)
        mask &= ~(u64)RFLAGS_ARITH;
    note64(d, "rflags", h->s.rflags & mask, g->s.rflags & mask);
    normalize(h->s.xsave);
    normalize(g->s.xsave);
    const u8 *a = h->s.xsave, *b = g->s.xsave;
    note_bytes(d, "fcw", a, b, 2);
    note_bytes(d, "fsw", a + 2, b + 2, 2);
    note_bytes(d, "ftw", a + 4, b + 4, 1);
    if (a[2] & 0x80 && !q->segmented) { /* AMD keeps the pointers of an instruction only behind an unmasked exception */
        note_bytes(d, "fop", a + 6, b + 6, 2);
        note_bytes(d, "fip", a + 8, b + 8, 8);
        if (has_data_pointer(q, a + 8))
            note_bytes(d, "fdp", a + 16, b + 16, 8);
    }
    note_bytes(d, "mxcsr", a + 24, b + 24, 4);
    for (unsigned i = 0; i < 8; i++) {
        char name[8];
        sprintf(name, "st%u", i);
        note_bytes(d, name, a + 32 + 16 * i, b + 32 + 16 * i, 10);
    }
    for (unsigned i = 0; i < 16 && !l.no_vectors; i++) {
        char name[8];
        sprintf(name, "xmm%u", i);
        note_bytes(d, name, a + 160 + 16 * i, b + 160 + 16 * i, 16);
        sprintf(name, "ymmh%u", i);
        if (host_xcr0 & 4)
            note_bytes(d, name, a + 576 + 16 * i, b + 576 + 16 * i, 16);
    }
    for (unsigned i = 0; host_component[7] && i < 8 && !(faulted && l.no_opmask); i++) {
        char name[8];
        sprintf(name, "k%u", i);
        note_bytes(d, name, a + host_component[5] + 8 * i, b + host_component[5] + 8 * i, 8);
    }
    for (unsigned i = 0; host_component[7] && i < 32 && !l.no_vectors; i++) {
        char name[8];
        u32 at = i < 16 ? host_component[6] + 32 * i : host_component[7] + 64 * (i - 16);
        sprintf(name, i < 16 ? "zmmh%u" : "zmm%u", i);
        note_bytes(d, name, a + at, b + at, i < 16 ? 32 : 64);
    }
    const u64 sp = h->s.gpr[RSP] + stack_base(q) - STACK_BASE;
    if (faulted && l.below && sp <= STACK_SIZE) {
        const u64 n = MIN(sp, l.below);
        memcpy(g->stack + sp - n, h->stack + sp - n, n);
    }
    if (!(faulted && l.no_data))
        note_memory(d, DATA_BASE, h->data, g->data, DATA_SIZE);
    note_memory(d, STACK_BASE, h->stack, g->stack, STACK_SIZE);
    note_memory(d, DEVICE_BASE, h->device, g->device, DEVICE_SIZE);
}

static bool engine_run(const struct sequence *q, struct guest *g, unsigned len, enum guest_how how, const char *name, struct diff *d)
{
    run_name = name;
    d->len = d->count = 0;
    if (!guest_run(g, q, code, len, &guest_out, how))
        note(d, "  the engine did not come to an end\n");
    else if (!engine_alone)
        compare(q, &host_out, &guest_out, d);
    else
        host_out = guest_out;
    return d->count == 0;
}

static void compare_real(struct diff *d)
{
    struct cpu_state *h = &real_want.s, *g = &real_got.s;
    d->len = d->count = 0;
    d->text[0] = 0;
    note64(d, "vector", real_want.vector, real_got.vector);
    for (unsigned i = 0; i < 10; i++)
        note64(d, "frame", real_want.frame[i], real_got.frame[i]);
    for (unsigned i = 0; i < 16; i++)
        note64(d, reg_names[i], h->gpr[i], g->gpr[i]);
    note64(d, "rip", h->rip, g->rip);
    note64(d, "rflags", h->rflags, g->rflags);
    static const char *const seg_names[SEG_COUNT] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct cpu_seg *a = &h->seg[i], *b = &g->seg[i];
        note64(d, seg_names[i], a->selector, b->selector);
        if (a->selector == b->selector && (a->base != b->base || a->limit != b->limit || a->attr != b->attr))
            note(d, "  %-8s host base %llx limit %x attr %x engine base %llx limit %x attr %x\n", seg_names[i], (unsigned long long)a->base,
                a->limit, a->attr, (unsigned long long)b->base, b->limit, b->attr);
    }
    note64(d, "cr0", h->cr0, g->cr0);
    note64(d, "cr2", h->cr2, g->cr2);
    note64(d, "cr4", h->cr4, g->cr4);
    note64(d, "dr6", h->dr6, g->dr6);
    note64(d, "activity", h->activity, g->activity);
    note64(d, "shadow", h->sti_shadow | h->movss_shadow << 1, g->sti_shadow | g->movss_shadow << 1);
    normalize(h->xsave);
    normalize(g->xsave);
    note_bytes(d, "fcw", h->xsave, g->xsave, 2);
    note_bytes(d, "fsw", h->xsave + 2, g->xsave + 2, 2);
    note_bytes(d, "ftw", h->xsave + 4, g->xsave + 4, 1);
    note_bytes(d, "mxcsr", h->xsave + 24, g->xsave + 24, 4);
    for (unsigned i = 32; i < 416; i += 16)
        note_bytes(d, i < 160 ? "x87" : "xmm", h->xsave + i, g->xsave + i, i < 160 ? 10 : 16);
    note_memory(d, 0, real_want.memory, real_got.memory, REAL_SIZE);
}

static bool try_real(const struct sequence *q, struct diff *d)
{
    static const struct { enum real_how how; const char *name; } runs[] = {
        {REAL_PLAIN, "translated"}, {REAL_PRODDED, "with interrupts and kicks by a device"}, {REAL_RUSHED, "with interrupts and kicks by a thread"}};
    const unsigned len = gen_assemble(q, code, offsets);
    const unsigned first = 1 + (unsigned)(q->data_seed % 3);
    d->len = d->count = 0;
    alarm(400);
    if (!real_run(reals[0], q, code, len, &real_want, REAL_PLAIN)) {
        endless++;
        return true;
    }
    host_out.f.vector = real_want.vector;
    host_out.s.rip = real_want.s.rip;
    for (unsigned i = 0; i < ARRAY_SIZE(runs); i++) {
        run_name = runs[i].name;
        if (real_run(reals[i ? 1 + (first + i) % 3 : first], q, code, len, &real_got, runs[i].how))
            compare_real(d);
        else
            note(d, "  the engine did not come to an end\n");
        if (d->count)
            return false;
    }
    return true;
}

/*
 * ---- what no processor promises ----
 *
 * A program may overwrite a return address and go on amid its instructions, where the generator cannot see that a flag is
 * read that has no value; and a REP string instruction that overwrites itself goes on to its end, but is another once an
 * interrupt has had it fetched again. Whether it was so is looked for in a trace, when the two differ.
 */
static struct watch {
    struct engine_trace trace;
    struct guest *guest;
    u32 undefined;
    bool read; /* a flag without a value */
    struct { u64 lin; u8 code[16]; unsigned len; } string; /* the last REP string instruction; len 0: the last was none */
    bool overwrote; /* such an instruction wrote over itself */
} watch;
static u64 excused;

/* The instruction before this moment has ended, by a fault or in order: does it still stand where it stood? */
static void watch_string(struct watch *w)
{
    u8 now[16];
    if (w->string.len && guest_code(w->guest, w->string.lin, now, w->string.len) && memcmp(now, w->string.code, w->string.len))
        w->overwrote = true;
    w->string.len = 0;
}

static void watch_insn(void *ctx, u32 vcpu, const struct cpu_state *s, const u8 *bytes, unsigned len, unsigned bits)
{
    struct watch *w = ctx;
    struct decoded d;
    u8 all[32] = {0};
    bool reads;

    watch_string(w);
    if ((s->seg[CS].selector & 3) != 3)
        return;
    w->undefined = gen_undefined_step(bytes, len, bits, w->undefined, &reads);
    w->read |= reads;
    memcpy(all, bytes, MIN(len, 15u));
    if (decode(&d, all, 15, bits, true) == DECODE_OK && d.rep && d.desc->flags & OPF_IMPLICIT_MEM && d.opcode >= 0xa4 && d.opcode <= 0xaf) {
        w->string.lin = s->seg[CS].base + s->rip;
        w->string.len = len;
        memcpy(w->string.code, all, 16);
    }
}

static bool is_excused(const struct sequence *q, unsigned len, bool cut)
{
    static struct outcome ignored;

    if (!flow || !n_guests)
        return false;
    if (!watch.guest) {
        watch.trace = (struct engine_trace){ .ctx = &watch, .exec = watch_insn };
        if (!(watch.guest = guest_new(INTERPRET, NULL, &watch.trace)))
            return false;
    }
    watch.undefined = 0;
    watch.read = watch.overwrote = false;
    watch.string.len = 0;
    if (!guest_run(watch.guest, q, code, len, &ignored, HOW_FRESH))
        return false;
    watch_string(&watch);
    if (!watch.read && !(cut && watch.overwrote))
        return false;
    excused++;
    return true;
}

/* A program, in each way that it can be run. *cut: the run that differed was interrupted. */
static bool run_all(const struct sequence *q, unsigned len, bool alone, struct diff *d, bool *cut)
{
    struct guest *g = guests[q->data_seed % n_guests];
    enum guest_how first = alone || q->data_seed >> 8 & 3 ? HOW_FRESH : HOW_LOADED;
    if (!engine_run(q, g, len, first, first == HOW_FRESH ? "fresh" : "over the one before", d))
        return false;
    for (unsigned n = guest_runs_to_heat(g); n--;)
        if (!engine_run(q, g, len, HOW_AGAIN, "hot", d))
            return false;
    *cut = true;
    for (unsigned n = 2; n--;)
        if (!engine_run(q, g, len, HOW_PRODDED, "with interrupts and kicks by a device", d))
            return false;
    return engine_run(q, g, len, HOW_RUSHED, "with interrupts and kicks by a thread", d);
}

/* Runs q on both. True: they agree, or need not. */
static bool try_sequence(const struct sequence *q, struct diff *d, bool alone)
{
    if (real)
        return try_real(q, d);
    unsigned len = gen_assemble(q, code, offsets);
    d->len = d->count = 0;
    if (flow)
        alarm(400);
    if (!engine_alone) {
        host_run(q, code, len, &host_out);
        if (other_order && host_out.has_other) {
            others++;
            host_name_other(&host_out);
        }
        /* It wrote into itself: when that takes effect is the processor's. */
        if (!q->patches_itself && memcmp((void *)q->code, code, len))
            return true;
        if (host_out.f.vector == VECTOR_NO_END) {
            endless++;
            return true;
        }
    }
    if (!n_guests) {
        host_run(q, code, len, &guest_out);
        compare(q, &host_out, &guest_out, d);
        return d->count == 0;
    }
    if (!flow)
        return engine_run(q, guests[0], len, HOW_FRESH, "fresh", d);
    bool cut = false;
    return run_all(q, len, alone, d, &cut) || is_excused(q, len, cut);
}

/* ---- report ------------------------------------------------------------------ */

static void list(const struct sequence *q)
{
    ZydisDecoder z;
    ZydisFormatter f;
    if (q->bits == 16)
        ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    else if (q->bits == 32)
        ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(&z, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    gen_assemble(q, code, offsets);
    for (unsigned i = 0; i < q->n; i++) {
        ZydisDecodedInstruction in;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        for (unsigned o = offsets[i], end = o + q->insn[i].len; o < end;) { /* some are pairs */
            char text[128] = "?";
            u64 at = q->init.rip + o;
            unsigned len = end - o;
            if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, code + o, len, &in, op))) {
                ZydisFormatterFormatInstruction(&f, &in, op, in.operand_count_visible, text, sizeof(text), at, NULL);
                len = in.length;
            }
            printf("  %llx%s ", (unsigned long long)at, host_out.s.rip == at ? ">" : guest_out.s.rip == at ? "}" : ":");
            for (unsigned k = 0; k < len; k++)
                printf("%02x", code[o + k]);
            printf("  %s\n", text);
            o += len;
        }
    }
}

static void print_initial(const struct sequence *q)
{
    for (unsigned i = 0; i < (q->bits == 64 ? 16 : 8); i++)
        printf("%s%s %llx", i % 8 ? " " : "  ", reg_names[i], (unsigned long long)q->init.gpr[i]);
    u32 mxcsr;
    memcpy(&mxcsr, q->init.xsave + 24, 4);
    printf("\n  rflags %llx fcw %02x%02x fsw %02x%02x ftw %02x mxcsr %x\n", (unsigned long long)q->init.rflags, q->init.xsave[1],
        q->init.xsave[0], q->init.xsave[3], q->init.xsave[2], q->init.xsave[4], mxcsr);
}

/* Drops every instruction without which the two still differ. */
static void shrink(struct sequence *q, struct diff *d)
{
    struct diff now;
    for (unsigned again = 1; again;) {
        again = 0;
        for (unsigned i = q->n; i-- > 0;) {
            struct sequence s = *q;
            if (q->insn[i].keep)
                continue;
            memmove(&s.insn[i], &s.insn[i + 1], (s.n - i - 1) * sizeof(s.insn[0]));
            s.n--;
            if (s.n && (!s.flow || gen_flags_defined(&s)) && !try_sequence(&s, &now, true)) {
                *q = s;
                again = 1;
            }
        }
    }
    if (try_sequence(q, d, true))
        note(d, "  only behind what ran before it, or by chance\n");
}

static void stuck(int sig)
{
    static const char text[] = "insn-oracle: stuck\n";
    ssize_t n = write(2, text, sizeof(text) - 1);
    char line[80];
    n += write(2, line, (size_t)snprintf(line, sizeof(line), "-s %llu -q %llu\n", (unsigned long long)seed, (unsigned long long)current_sequence));
    (void)n;
    _exit(1);
}

static u64 ran[MNEMONIC_COUNT];

static void count(const struct sequence *q, unsigned k)
{
    struct decoded d;
    for (unsigned i = 0; i < k; i++)
        if (q->insn[i].len && !q->insn[i].data && decode(&d, q->insn[i].bytes, 15, q->bits, true) == DECODE_OK)
            ran[d.desc->mnemonic]++;
}

static void print_coverage(const struct gen *g)
{
    unsigned tried = 0, did = 0;
    printf("never completed:");
    for (unsigned m = 1; m < MNEMONIC_COUNT; m++) {
        tried += gen_tries(g, m);
        did += ran[m] != 0;
        if (gen_tries(g, m) && !ran[m])
            printf(" %s", mnemonic_name(m));
    }
    printf("\n%u of %u mnemonics completed; seldom:", did, tried);
    for (unsigned m = 1; m < MNEMONIC_COUNT; m++)
        if (ran[m] && ran[m] < 20)
            printf(" %s:%llu", mnemonic_name(m), (unsigned long long)ran[m]);
    printf("\n");
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    const char *limit = getenv("LODGE_TEST_SECONDS"), *model = NULL;
    u64 want = engine_alone ? 100000 : 1000000, only = ~0ull, executed = 0, different = 0, reports = MAX_REPORTS, faults[32] = {0};
    bool against_itself = false, verbose = false, coverage = false;
    int c;

    if (limit)
        seed = (u64)time(NULL);
    if (getenv("LODGE_TEST_SEED"))
        seed = strtoull(getenv("LODGE_TEST_SEED"), NULL, 0);
    while ((c = getopt(argc, argv, "n:s:q:vNcm:tfrxp:")) != -1)
        switch (c) {
        case 'n': want = strtoull(optarg, NULL, 0); break;
        case 's': seed = strtoull(optarg, NULL, 0); break;
        case 'q': only = strtoull(optarg, NULL, 0); break;
        case 'v': verbose = true; break;
        case 't': translated = true; break;
        case 'f': flow = true; break;
        case 'r': real = flow = true; break;
        case 'p': model = optarg; break;
        case 'x': other_order = true; break;
        case 'm': reports = strtoull(optarg, NULL, 0); break;
        case 'c': coverage = true; break;
        case 'N': against_itself = true; break;
        default: return 2;
        }
    setvbuf(stdout, NULL, _IOLBF, 0);
    /* One descriptor of Linux's (GDT entry 15) holds the number of the CPU, which LSL shows: always the first. */
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    if (sched_setaffinity(0, sizeof first, &first))
        fprintf(stderr, "cannot stay on CPU 0: LSL and VERR of selector 7Bh may differ\n");
    int r = host_init();
    if (r) {
        fprintf(stderr, "this host does not let us map the test areas: %s\n", strerror(-r));
        return 77;
    }
    /* A block is translated at its first run, its second, its fourth. */
    static const int after[] = {0, 1, 3};
    for (unsigned i = 0; real && i < ARRAY_SIZE(reals); i++)
        if (!(reals[i] = real_guest_new(i ? after[i - 1] : INTERPRET)))
            return 1;
    n_guests = against_itself && !engine_alone ? 0 : translated ? ARRAY_SIZE(after) : 1;
    for (unsigned i = 0; i < n_guests; i++)
        if (!(guests[i] = guest_new(translated ? after[i] : INTERPRET, model, NULL)))
            return model ? 77 : 1; /* this host has less */
    if (n_guests)
        host_restrict(3 | (guest_has(guests[0], ISA_AVX) ? 4 : 0) | (guest_has(guests[0], ISA_AVX512F) ? 0xe0 : 0));
    struct gen *g = gen_new(host_xcr0, guests[0]);
    signal(SIGALRM, stuck);

    double start = seconds(), end = limit ? start + atof(limit) : 0;
    for (u64 n = only != ~0ull ? only : 0; limit ? seconds() < end : executed < want; n++) {
        /* A sequence has a generator of its own, so that it can be repeated alone. */
        struct rng rng = {(seed * 0x9e3779b97f4a7c15ull) ^ (n * 0xd1342543de82ef95ull + 1)};
        static struct sequence q;
        struct diff d;
        rng.s |= 1;
        for (int i = 0; i < 8; i++)
            rng_next(&rng);
        if (n % 256 == 0 || only != ~0ull)
            alarm(400); /* however many others want the one processor we are on */
        current_sequence = n;
        if (real)
            gen_real(g, &rng, &q);
        else if (flow)
            gen_program(g, &rng, &q);
        else
            gen_sequence(g, &rng, &q);
        bool same = try_sequence(&q, &d, only != ~0ull);
        if (verbose || (only != ~0ull && same)) {
            printf("sequence %llu: %u-bit, vector %u\n", (unsigned long long)n, q.bits, host_out.f.vector);
            print_initial(&q);
            list(&q);
        }
        executed += flow ? 1 : instructions_run(&q, host_out.s.rip);
        if (coverage)
            count(&q, instructions_run(&q, host_out.s.rip));
        if (host_out.f.vector < 32)
            faults[host_out.f.vector]++;
        if (!same) {
            different++;
            if (different <= reports) {
                /* Said first: without one of its instructions a sequence may never end. */
                printf("-s %llu -q %llu differs in the run %s, shrinking it\n", (unsigned long long)seed, (unsigned long long)n,
                    run_name ? run_name : "of the host");
                if (flow)
                    fputs(d.text, stdout);
                shrink(&q, &d);
                printf("DIFFERENT (-s %llu -q %llu), %u-bit%s, vector %u, in:\n", (unsigned long long)seed, (unsigned long long)n, q.bits,
                    q.segmented ? " segmented" : "",
                    host_out.f.vector);
                print_initial(&q);
                list(&q);
                printf("  in the run %s\n", run_name);
                fputs(d.text, stdout);
            }
        }
        if (only != ~0ull || different > 2000)
            break;
    }
    printf("seed %llu: %llu %s %s in %.1f s, %llu sequences differ; ended by", (unsigned long long)seed,
        (unsigned long long)executed, flow ? "programs" : "instructions", engine_alone ? "in the engine alone" : real ? "interpreted and translated" : "on both", seconds() - start, (unsigned long long)different);
    for (unsigned i = 0; i < 32; i++)
        if (faults[i])
            printf(" %u:%llu", i, (unsigned long long)faults[i]);
    for (unsigned i = 0; i < n_guests; i++)
        cut_runs += guest_cuts(guests[i]);
    for (unsigned i = 0; real && i < ARRAY_SIZE(reals); i++)
        cut_runs += real_cuts(reals[i]);
    if (flow)
        printf("; %llu endless; %llu excused; %llu cuts", (unsigned long long)endless, (unsigned long long)excused, (unsigned long long)cut_runs);
    if (other_order)
        printf("; the other operand was named %llu times", (unsigned long long)others);
    printf("\n");
    if (coverage)
        print_coverage(g);
    for (unsigned i = 0; i < n_guests; i++)
        guest_free(guests[i]);
    for (unsigned i = 0; real && i < ARRAY_SIZE(reals); i++)
        real_guest_free(reals[i]);
    if (watch.guest)
        guest_free(watch.guest);
    gen_free(g);
    return different != 0;
}
