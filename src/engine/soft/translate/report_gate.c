/* SPDX-License-Identifier: Apache-2.0 */
/* report_gate.c - tells what the translator does: its translations (to a trace, to perf's map) and its figures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/soft/direct/direct.h"
#include "engine/soft/translate/translate.h"

/* ---- translations ----------------------------------------------------------- */

void soft_jit_report(struct soft_vcpu *v, const struct trans *t)
{
    const struct engine_trace *trace = v->vm->cfg.trace;
    if (!trace->translation)
        return;
    soft_vec_save(v);
    const u64 delta = v->jit->region.delta; /* t was made last, so this is its region */
    struct engine_translated *insn = calloc(t->ntinsns + 1, sizeof *insn);
    struct engine_link *link = calloc(t->nlinks + 1, sizeof *link);
    const struct emit_data *d = &v->jit->data_in_code;
    struct engine_data *data = calloc(d->n + 1, sizeof *data);
    if (insn && link && data) {
        const u8 *bytes = t->bytes;
        for (u32 k = 0; k < t->ntinsns; k++) {
            const struct tinsn *i = &t->tinsn[k];
            insn[k] = (struct engine_translated){ jit_rip_at(t->cs, t->rip, i->off) + delta, i->host, i->len, bytes };
            bytes += i->len;
        }
        const u32 entry = (u32)(t->entry - v->jit->rw);
        for (u32 k = 0; k < t->nlinks; k++)
            link[k] = (struct engine_link){ t->link[k].rip + delta, t->link[k].jump ? t->link[k].jump - entry : 0 };
        for (u32 k = 0; k < d->n; k++) {
            const u8 *at = d->span[k].at;
            const u32 off = (u32)(at - t->entry);
            s32 rel = 0; /* the displacement of the call, which lies before these bytes and the five bytes of a jump */
            if (off >= 10)
                memcpy(&rel, at - 9, sizeof rel);
            const bool of_link = off >= 10 && at[-10] == 0xe8 && t->code + off - 5 + (u64)(s64)rel == v->jit->exit_link;
            data[k] = (struct engine_data){ off, d->span[k].size, ((const struct jit_site *)at)->insn, of_link };
        }
        const struct engine_translation x = {
            .rip = t->rip + delta, .place = t->place, .bits = v->bits,
            .host = t->entry, .host_at = t->code, .host_size = t->size,
            .ninsns = t->ntinsns, .insn = insn, .nlinks = t->nlinks, .link = link, .ndata = d->n, .data = data,
        };
        trace->translation(trace->ctx, v->id, &x);
    }
    free(insn);
    free(link);
    free(data);
}

void soft_jit_report_stubs(struct soft_vm *vm)
{
    const struct jit *j = vm->jit;
    const struct engine_trace *trace = vm->cfg.trace;
    if (!trace || !trace->stub)
        return;
    struct engine_stub s[] = {
        { "enter", j->enter, 0 }, { "exit_link", j->exit_link, 0 }, { "miss", j->miss, 0 },   { "exit", j->exit, 0 },
        { "handler", j->fallback, 0 }, { "refill", j->refill, 0 }, { "fault", j->fault, 0 }, { "check", j->check, 0 },
        { "lookup_user", j->lookup[TLB_USER], 0 }, { "lookup_kernel", j->lookup[TLB_KERNEL], 0 },
        { "lookup_kernel_ac", j->lookup[TLB_KERNEL_AC], 0 },
        { "lookup_user_reset", j->lookup_reset[TLB_USER], 0 }, { "lookup_kernel_reset", j->lookup_reset[TLB_KERNEL], 0 },
        { "lookup_kernel_ac_reset", j->lookup_reset[TLB_KERNEL_AC], 0 },
        { "return_user", j->sentinel[TLB_USER], 0 }, { "return_kernel", j->sentinel[TLB_KERNEL], 0 },
        { "return_kernel_ac", j->sentinel[TLB_KERNEL_AC], 0 },
        { "stack_user", j->stack[TLB_USER], 0 }, { "stack_kernel", j->stack[TLB_KERNEL], 0 },
        { "stack_kernel_ac", j->stack[TLB_KERNEL_AC], 0 },
    };
    const unsigned n = ARRAY_SIZE(s);
    for (unsigned k = 0; k < n; k++) { /* each ends where the next one begins */
        u64 end = (u64)j->rx + j->stubs_end;
        for (unsigned o = 0; o < n; o++)
            if (s[o].host_at > s[k].host_at && s[o].host_at < end)
                end = s[o].host_at;
        s[k].host_size = (u32)(end - s[k].host_at);
        if (s[k].host_size) /* "check" is empty unless this build checks accesses */
            trace->stub(trace->ctx, &s[k]);
    }
}

/* ---- checks ------------------------------------------------------------------ */

_Noreturn void soft_jit_check_failed(struct soft_vcpu *v, u64 host, u64 size, bool write)
{
    soft_vec_save(v);
    fprintf(stderr, "lodge: translated code of CPU %u was about to %s %llu bytes at %#llx, which is not the guest's memory\n",
            v->id, write ? "write" : "read", (unsigned long long)size, (unsigned long long)host);
    abort();
}

/* ---- figures ------------------------------------------------------------------ */

struct teller {
    void (*tell)(void *ctx, const struct engine_figure *f);
    void *ctx;
    const char *group;
};

static void tell(const struct teller *t, const char *name, u64 value)
{
    const struct engine_figure f = { t->group, name, ENGINE_COUNT, value, 0 };
    t->tell(t->ctx, &f);
}
static void tell_unit(const struct teller *t, const char *name, enum engine_unit unit, u64 value, u64 of)
{
    const struct engine_figure f = { t->group, name, unit, value, of };
    t->tell(t->ctx, &f);
}

static u64 handled(const struct soft_vcpu *v, enum soft_handled why)
{
    u64 n = 0;
    for (unsigned m = 0; m < MNEMONIC_COUNT; m++)
        n += v->stat.handled[why][m];
    return n;
}

static void tell_direct(struct teller *t, const struct soft_vcpu *v)
{
    static const char *const ends[DIRECT_END_COUNT] = {
        [DIRECT_SYSTEM_CALL] = "back: system call", [DIRECT_MAPPING] = "back: page to be mapped", [DIRECT_PAGE_FAULT] = "back: page fault",
        [DIRECT_WATCHED] = "back: watched page, registers", [DIRECT_KICK] = "back: request", [DIRECT_GUARD] = "back: guarded instruction",
        [DIRECT_OTHER] = "back: other traps",
    };
    const struct direct_stat *s = &v->direct->stat;
    t->group = "direct execution";
    tell_unit(t, "time in programs", ENGINE_NS, v->vm->cfg.cpuid->tsc_khz ? s->ticks * 1000 / v->vm->cfg.cpuid->tsc_khz * 1000 : 0, 0);
    for (unsigned k = 0; k < DIRECT_END_COUNT; k++)
        tell(t, ends[k], s->ends[k]);
    tell(t, "pages mapped", s->maps);
    tell(t, "pages unmapped", s->unmaps);
    tell(t, "refused: page", s->refused_page);
    tell(t, "guards set", s->guarded);
    tell(t, "refused: state of the processor", s->refused_state);
    tell(t, "programs begun", s->started);
    tell(t, "programs given up", s->stopped);
    tell(t, "processes made", s->runners);
    tell(t, "failed", s->failed);
}

void soft_report_vcpu(const struct soft_vcpu *v, void (*fn)(void *ctx, const struct engine_figure *f), void *ctx)
{
    const struct soft_stat *s = &v->stat;
    struct teller t = { fn, ctx, "time" };
    u64 faults = 0, interrupts = 0;
    tell_unit(&t, "processor time", ENGINE_NS, s->run_ns, 0);
    tell_unit(&t, "halted", ENGINE_NS, s->wait_ns, 0);
    tell(&t, "halts", s->waits);

    t.group = "interpreter";
    tell(&t, "blocks", s->blocks);
    tell(&t, "instructions", s->insns);
    tell(&t, "stepped alone", s->steps);

    const u64 untranslated = handled(v, HANDLED_UNTRANSLATED), slow = handled(v, HANDLED_SLOW),
              split = handled(v, HANDLED_SPLIT), fault = handled(v, HANDLED_FAULT);
    if (v->jit) {
        t.group = "translated code";
        tell(&t, "entered from outside", s->enter);
        if (v->jit->count) {
            tell(&t, "blocks", s->jit_blocks);
            tell(&t, "instructions", s->jit_insns);
            tell(&t, "memory accesses", s->jit_accesses);
            tell(&t, "TLB probes", s->jit_probes);
            tell_unit(&t, "TLB hits", ENGINE_RATE, s->jit_probes - MIN(s->jit_probes, slow + s->refill), s->jit_probes);
            tell_unit(&t, "of all instructions", ENGINE_RATE, s->jit_insns, s->jit_insns + s->insns + s->steps);
        }
        tell(&t, "handler: not translated", untranslated);
        tell(&t, "handler: slow access", slow);
        tell(&t, "handler: split probe", split);
        tell(&t, "handler: fault", fault);
        tell(&t, "probes tried again", s->refill);
        tell(&t, "went on in careful code", s->careful);
        tell(&t, "forgot where code is", s->forgot);
    }

    t.group = "slow accesses";
    tell(&t, "TLB misses", s->walk);
    tell(&t, "code TLB misses", s->fetch_walk);
    tell(&t, "whole walks", s->walk_whole);
    tell(&t, "across pages", s->crossing);
    tell(&t, "to watched code pages", s->watched);
    tell(&t, "overwrote code", s->overwritten);

    static const char *const flush[FLUSH_COUNT] = {
        [FLUSH_CR3] = "CR3", [FLUSH_CR3_KEPT] = "CR3, PCID kept", [FLUSH_INVLPG] = "one page", [FLUSH_INVPCID] = "INVPCID",
        [FLUSH_RIGHTS] = "rights changed", [FLUSH_ALL] = "everything",
    };
    t.group = "TLB flushes";
    for (unsigned k = 0; k < FLUSH_COUNT; k++)
        tell(&t, flush[k], s->flush[k]);

    t.group = "exits";
    tell(&t, "MMIO reads", s->mmio_read);
    tell(&t, "MMIO writes", s->mmio_write);
    tell(&t, "port reads", s->port_in);
    tell(&t, "port writes", s->port_out);
    tell(&t, "MSRs of the machine", s->msr);
    tell(&t, "CPUID", s->cpuid);

    if (v->direct)
        tell_direct(&t, v);

    t.group = "events";
    for (unsigned k = 0; k < 256; k++)
        *(k < 32 ? &faults : &interrupts) += s->vector[k];
    tell(&t, "page faults", s->vector[VEC_PF]);
    tell(&t, "other exceptions, NMI", faults - s->vector[VEC_PF]);
    tell(&t, "interrupts", interrupts);
}

/* The mnemonics whose handlers translated code called most. */
static void tell_top(const struct soft_vm *vm, struct teller *t, enum soft_handled why)
{
    enum { TOP = 12 };
    u64 sum[MNEMONIC_COUNT] = { 0 };
    for (u32 k = 0; k < vm->cfg.cpus; k++)
        for (unsigned m = 0; vm->vcpu[k] && m < MNEMONIC_COUNT; m++)
            sum[m] += vm->vcpu[k]->stat.handled[why][m];
    for (unsigned n = 0; n < TOP; n++) {
        unsigned best = 0;
        for (unsigned m = 1; m < MNEMONIC_COUNT; m++)
            if (sum[m] > sum[best])
                best = m;
        if (!sum[best])
            return;
        tell(t, mnemonic_name(best), sum[best]);
        sum[best] = 0;
    }
}

void soft_report_vm(const struct soft_vm *vm, void (*fn)(void *ctx, const struct engine_figure *f), void *ctx)
{
    const struct jit *j = vm->jit;
    if (!j)
        return;
    struct teller t = { fn, ctx, "translations" };
    u64 code = 0, data = 0;
    for (u32 k = 0; k < j->nseg; k++) {
        const struct jit_segment *s = &j->seg[k];
        const struct jit_segment *p = k ? s - 1 : NULL;
        if (s->state == SEG_FREE)
            continue;
        code += s->code - (p ? p->code_end : j->stubs_end);
        data += s->data - (p ? p->data_end : 0);
    }
    tell(&t, "made", j->made);
    tell(&t, "guest instructions", j->made_insns);
    tell_unit(&t, "host code", ENGINE_BYTES, j->made_bytes, 0);
    tell(&t, "links made", j->links);
    tell(&t, "refused", j->refused);
    tell(&t, "retired", j->retired - j->evicted);
    tell(&t, "evicted", j->evicted);
    tell_unit(&t, "cache: code", ENGINE_BYTES, code + j->stubs_end, 0);
    tell_unit(&t, "cache: records", ENGINE_BYTES, data, 0);
    tell_unit(&t, "cache in use", ENGINE_RATE, code + j->stubs_end, j->size);
    t.group = "handlers of instructions not translated";
    tell_top(vm, &t, HANDLED_UNTRANSLATED);
    t.group = "handlers after slow accesses";
    tell_top(vm, &t, HANDLED_SLOW);
    t.group = "handlers after split probes";
    tell_top(vm, &t, HANDLED_SPLIT);
    t.group = "handlers after faults";
    tell_top(vm, &t, HANDLED_FAULT);
}
