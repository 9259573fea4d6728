/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compare.c - what differs between the two sides of a trial, in words.
 */
#include "trial.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const reg_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};

void diff_note(struct diff *d, const char *fmt, ...)
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
        diff_note(d, "  %-8s host %016llx engine %016llx\n", what, (unsigned long long)host, (unsigned long long)engine);
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
    diff_note(d, "  %-8s host %s\n           eng. %s\n", what, a, b);
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

/* ---- with the host CPU ---- */

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

static u32 undefined_at(const struct trial *t, const struct sequence *q, u64 rip)
{
    unsigned k = trial_instructions(t, q, rip);
    u32 undefined = gen_undefined_flags(q, k);
    bool wild = rip - q->init.rip != t->offsets[k] && rip - q->init.rip != t->offsets[q->n] + 1u;
    for (unsigned i = 0; wild && i < q->n; i++) /* a jump left the sequence, who knows from where */
        undefined |= gen_undefined_flags(q, i);
    return undefined;
}

/* The x87 data pointer is undefined if the instruction at fip had no operand in memory (SDM vol. 1, 8.1.8). */
static bool has_data_pointer(const struct trial *t, const struct sequence *q, const u8 *fip)
{
    struct decoded d;
    u64 rip;
    memcpy(&rip, fip, 8);
    for (unsigned k = 0; k < q->n; k++)
        if (q->init.rip + t->offsets[k] == rip)
            return q->insn[k].len && !q->insn[k].data && decode(&d, q->insn[k].bytes, 15, q->bits, true) == DECODE_OK && d.has_mem;
    return false;
}

static bool same_fault(const struct fault *h, const struct fault *g)
{
    if (h->vector != VEC_PF || g->vector != VEC_PF)
        return h->vector == g->vector;
    return h->cr2 == g->cr2 && !((h->error ^ g->error) & 2); /* a write or not */
}

/* An exception, and not the INT3 at its end or a single step. */
static bool faulted(const struct outcome *h) { return h->f.vector != VEC_BP && h->f.vector != VEC_DB; }

/* The exception that ended it. */
static void compare_fault(const struct outcome *h, const struct outcome *g, const struct latitude *l, struct diff *d)
{
    note64(d, "vector", h->f.vector, g->f.vector);
    if (h->f.vector != g->f.vector)
        diff_note(d, "  at %llx; error, cr2: host %x, %llx; engine %x, %llx\n", (unsigned long long)h->s.rip, h->f.error,
            (unsigned long long)h->f.cr2, g->f.error, (unsigned long long)g->f.cr2);
    note64(d, "rip", h->s.rip, g->s.rip);
    if (h->f.vector != g->f.vector || !(h->f.vector == VEC_PF || (h->f.vector >= VEC_TS && h->f.vector <= VEC_GP)))
        return;
    u32 ignore = 0;
    if (h->f.vector == VEC_PF) {
        note64(d, "cr2", l->cr2_page ? h->f.cr2 >> 12 : h->f.cr2, l->cr2_page ? g->f.cr2 >> 12 : g->f.cr2);
        if (h->f.cr2 >= BIT(47) - 4096) /* the host's kernel does not tell what is mapped in its half and the page before */
            ignore = 1;
    }
    if ((h->f.error ^ g->f.error) & ~ignore)
        diff_note(d, "  error    host %x engine %x, cr2 %llx\n", h->f.error, g->f.error, (unsigned long long)h->f.cr2);
}

static void compare_registers(const struct trial *t, const struct sequence *q, const struct latitude *l, struct diff *d)
{
    const struct outcome *h = &t->host, *g = &t->engine;
    /* The kernel's way to a 16-bit stack pointer (espfix) leaves its traces above 32 bits of RSP. */
    u64 rsp_mask = q->bits == 64 ? ~0ull : 0xffffffff;
    for (unsigned i = 0; i < (q->bits == 64 ? 16 : 8); i++)
        note64(d, reg_names[i], h->s.gpr[i] & (i == RSP ? rsp_mask : ~0ull), g->s.gpr[i] & (i == RSP ? rsp_mask : ~0ull));
    static const char *const seg_names[6] = {"es", "cs", "ss", "ds", NULL, "gs"};
    for (unsigned i = 0; i < 6; i++)
        /* All null selectors are one: the return from the host's kernel makes them 0 (SDM vol. 2, IRET). */
        if (seg_names[i] && (h->s.selector[i] | g->s.selector[i]) > 3)
            note64(d, seg_names[i], h->s.selector[i], g->s.selector[i]);
    u64 mask = ~(u64)(undefined_at(t, q, h->s.rip) | RFLAGS_RF);
    /* A translation keeps only those arithmetic flags that are read again; a fault in between shows the others. */
    if (t->translated && h->f.vector != 3) {
        /* Which those are is not known where it wrote over its code. */
        const bool overwrote = q->patches_itself && memcmp((void *)q->code, t->code, t->offsets[q->n]);
        mask &= (overwrote ? 0 : gen_live_flags(q, (unsigned)(h->s.rip - q->init.rip))) | ~(u64)RFLAGS_ARITH;
    }
    if (faulted(h) && l->no_arith)
        mask &= ~(u64)RFLAGS_ARITH;
    note64(d, "rflags", h->s.rflags & mask, g->s.rflags & mask);
}

static void compare_x87(const struct trial *t, const struct sequence *q, struct diff *d)
{
    const u8 *a = t->host.s.xsave, *b = t->engine.s.xsave;
    note_bytes(d, "fcw", a, b, 2);
    note_bytes(d, "fsw", a + 2, b + 2, 2);
    note_bytes(d, "ftw", a + 4, b + 4, 1);
    if (a[2] & 0x80 && !q->segmented) { /* AMD keeps the pointers of an instruction only behind an unmasked exception */
        note_bytes(d, "fop", a + 6, b + 6, 2);
        note_bytes(d, "fip", a + 8, b + 8, 8);
        if (has_data_pointer(t, q, a + 8))
            note_bytes(d, "fdp", a + 16, b + 16, 8);
    }
    note_bytes(d, "mxcsr", a + 24, b + 24, 4);
    for (unsigned i = 0; i < 8; i++) {
        char name[8];
        sprintf(name, "st%u", i);
        note_bytes(d, name, a + 32 + 16 * i, b + 32 + 16 * i, 10);
    }
}

static void compare_vectors(const struct outcome *h, const struct outcome *g, const struct latitude *l, struct diff *d)
{
    const u8 *a = h->s.xsave, *b = g->s.xsave;
    for (unsigned i = 0; i < 16 && !l->no_vectors; i++) {
        char name[8];
        sprintf(name, "xmm%u", i);
        note_bytes(d, name, a + 160 + 16 * i, b + 160 + 16 * i, 16);
        sprintf(name, "ymmh%u", i);
        if (host_xcr0 & 4)
            note_bytes(d, name, a + 576 + 16 * i, b + 576 + 16 * i, 16);
    }
    for (unsigned i = 0; host_component[7] && i < 8 && !(faulted(h) && l->no_opmask); i++) {
        char name[8];
        sprintf(name, "k%u", i);
        note_bytes(d, name, a + host_component[5] + 8 * i, b + host_component[5] + 8 * i, 8);
    }
    for (unsigned i = 0; host_component[7] && i < 32 && !l->no_vectors; i++) {
        char name[8];
        u32 at = i < 16 ? host_component[6] + 32 * i : host_component[7] + 64 * (i - 16);
        sprintf(name, i < 16 ? "zmmh%u" : "zmm%u", i);
        note_bytes(d, name, a + at, b + at, i < 16 ? 32 : 64);
    }
}

static void compare_memory(const struct sequence *q, const struct outcome *h, struct outcome *g, const struct latitude *l, struct diff *d)
{
    const u64 sp = h->s.gpr[RSP] + stack_base(q) - STACK_BASE;
    if (faulted(h) && l->below && sp <= STACK_SIZE) {
        const u64 n = MIN(sp, l->below);
        memcpy(g->stack + sp - n, h->stack + sp - n, n);
    }
    if (!(faulted(h) && l->no_data))
        note_memory(d, DATA_BASE, h->data, g->data, DATA_SIZE);
    note_memory(d, STACK_BASE, h->stack, g->stack, STACK_SIZE);
    note_memory(d, DEVICE_BASE, h->device, g->device, DEVICE_SIZE);
}

void compare(struct trial *t, const struct sequence *q, struct diff *d)
{
    struct outcome *h = &t->host, *g = &t->engine;
    d->len = d->count = 0;
    d->text[0] = 0;
    if (h->has_other && !same_fault(&h->f, &g->f) && same_fault(&h->other, &g->f))
        host_name_other(h);
    const struct latitude l = latitude_at(t, q, h);
    if (latitude_covers(t, q, &l))
        return;
    compare_fault(h, g, &l, d);
    compare_registers(t, q, &l, d);
    normalize(h->s.xsave);
    normalize(g->s.xsave);
    compare_x87(t, q, d);
    compare_vectors(h, g, &l, d);
    compare_memory(q, h, g, &l, d);
}

/* ---- with the interpreter ---- */

void compare_real(struct trial *t, struct diff *d)
{
    struct cpu_state *h = &t->real_want.s, *g = &t->real_got.s;
    d->len = d->count = 0;
    d->text[0] = 0;
    note64(d, "vector", t->real_want.vector, t->real_got.vector);
    for (unsigned i = 0; i < 10; i++)
        note64(d, "frame", t->real_want.frame[i], t->real_got.frame[i]);
    for (unsigned i = 0; i < 16; i++)
        note64(d, reg_names[i], h->gpr[i], g->gpr[i]);
    note64(d, "rip", h->rip, g->rip);
    note64(d, "rflags", h->rflags, g->rflags);
    static const char *const seg_names[SEG_COUNT] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct cpu_seg *a = &h->seg[i], *b = &g->seg[i];
        note64(d, seg_names[i], a->selector, b->selector);
        if (a->selector == b->selector && (a->base != b->base || a->limit != b->limit || a->attr != b->attr))
            diff_note(d, "  %-8s host base %llx limit %x attr %x engine base %llx limit %x attr %x\n", seg_names[i], (unsigned long long)a->base,
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
    note_memory(d, 0, t->real_want.memory, t->real_got.memory, REAL_SIZE);
}
