/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.c - a line an event:
 *
 *   cpu0 0010:ffffffff81000000  48 89 e5              mov rbp, rsp
 *   cpu0 #PF error 0x2 at 0010:ffffffff81000000, cr2 0xffff888000000000
 *   out com1 0x3f8 <- 0x41 (1)
 *   cpu0 mmio ioapic 0xfec00010 -> 0x0 (4)
 */
#include "vm/trace.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WHATS = TRACE_MMIO + 1 };

struct trace {
    FILE *out[WHATS];
    const char *eol[WHATS];
    struct engine_trace engine;
    struct machine_trace machine;
};

static void put_exec(void *ctx, u32 vcpu, const struct cpu_state *s, const u8 *code, unsigned len, unsigned bits)
{
    struct trace *t = ctx;
    ZydisDisassembledInstruction i;
    ZydisMachineMode mode = bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                            : bits == 32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                            : s->cr0 & CR0_PE ? ZYDIS_MACHINE_MODE_LEGACY_16 : ZYDIS_MACHINE_MODE_REAL_16;
    const char *text = "(bad)";
    char hex[3 * 15 + 1] = "";

    for (unsigned k = 0; k < len && k < 15; k++)
        snprintf(hex + 3 * k, sizeof hex - 3 * k, "%02x ", code[k]);
    if (ZYAN_SUCCESS(ZydisDisassembleIntel(mode, s->rip, code, len, &i)))
        text = i.text;
    fprintf(t->out[TRACE_EXEC], "cpu%u %04x:%0*llx  %-24s %s%s", vcpu, s->seg[CS].selector, bits == 64 ? 16 : 8,
            (unsigned long long)s->rip, hex, text, t->eol[TRACE_EXEC]);
}

static void put_exception(void *ctx, u32 vcpu, unsigned vector, bool has_error, u32 error, const struct cpu_state *s)
{
    static const char *const name[] = {
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9",
        "#TS", "#NP", "#SS", "#GP", "#PF", "#15", "#MF", "#AC", "#MC", "#XM",
    };
    struct trace *t = ctx;
    char error_text[24] = "", cr2[40] = "", number[8];

    snprintf(number, sizeof number, "#%u", vector);
    if (has_error)
        snprintf(error_text, sizeof error_text, " error 0x%x", error);
    if (vector == VEC_PF)
        snprintf(cr2, sizeof cr2, ", cr2 0x%llx", (unsigned long long)s->cr2);
    fprintf(t->out[TRACE_EXCEPTIONS], "cpu%u %s%s at %04x:%llx%s%s", vcpu,
            vector < ARRAY_SIZE(name) ? name[vector] : number, error_text, s->seg[CS].selector,
            (unsigned long long)s->rip, cr2, t->eol[TRACE_EXCEPTIONS]);
}

static void put_port(void *ctx, bool write, u16 port, unsigned size, u64 value, const char *name)
{
    struct trace *t = ctx;
    fprintf(t->out[TRACE_IO], "%s %s 0x%x %s 0x%llx (%u)%s", write ? "out" : "in", name, port, write ? "<-" : "->",
            (unsigned long long)value, size, t->eol[TRACE_IO]);
}

static void put_mmio(void *ctx, u32 vcpu, bool write, u64 gpa, unsigned size, u64 value, const char *name)
{
    struct trace *t = ctx;
    fprintf(t->out[TRACE_MMIO], "cpu%u mmio %s 0x%llx %s 0x%llx (%u)%s", vcpu, name, (unsigned long long)gpa,
            write ? "<-" : "->", (unsigned long long)value, size, t->eol[TRACE_MMIO]);
}

int trace_open(struct trace **out, const struct vm_config *c, struct error *err)
{
    *out = NULL;
    if (!c->ntrace)
        return 0;
    struct trace *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, ENOMEM, "out of memory");
    for (u32 i = 0; i < c->ntrace; i++) {
        const char *file = c->trace[i].file;
        enum config_trace_what what = c->trace[i].what;
        FILE *f = stderr;

        for (u32 k = 0; k < i && file; k++) /* one file for several kinds: opened once */
            if (c->trace[k].file && !strcmp(c->trace[k].file, file))
                f = t->out[c->trace[k].what];
        if (file && f == stderr && !(f = fopen(file, "we"))) {
            int rc = error_set(err, errno, "cannot write the trace to %s: %s", file, strerror(errno));
            trace_close(t);
            return rc;
        }
        if (t->out[what] && t->out[what] != f) {
            if (f != stderr)
                fclose(f);
            trace_close(t);
            return error_set(err, EINVAL, "the same --trace is asked for twice");
        }
        t->out[what] = f;
        t->eol[what] = f == stderr && isatty(STDERR_FILENO) ? "\r\n" : "\n"; /* the terminal may be in raw mode */
    }
    t->engine = (struct engine_trace){ t, t->out[TRACE_EXEC] ? put_exec : NULL,
                                       t->out[TRACE_EXCEPTIONS] ? put_exception : NULL };
    t->machine = (struct machine_trace){ t, t->out[TRACE_IO] ? put_port : NULL, t->out[TRACE_MMIO] ? put_mmio : NULL };
    *out = t;
    return 0;
}

void trace_close(struct trace *t)
{
    if (!t)
        return;
    for (int i = 0; i < WHATS; i++) {
        FILE *f = t->out[i];
        for (int k = i; k < WHATS; k++)
            if (t->out[k] == f)
                t->out[k] = NULL;
        if (f && f != stderr)
            fclose(f);
    }
    free(t);
}

const struct engine_trace *trace_engine(const struct trace *t)
{
    return t && (t->engine.exec || t->engine.exception) ? &t->engine : NULL;
}

const struct machine_trace *trace_machine(const struct trace *t)
{
    return t && (t->machine.port || t->machine.mmio) ? &t->machine : NULL;
}
