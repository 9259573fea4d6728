/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.c - a line an event:
 *
 *   cpu0 0010:ffffffff81000000  48 89 e5              mov rbp, rsp
 *   cpu0 #PF error 0x2 at 0010:ffffffff81000000, cr2 0xffff888000000000
 *   out com1 0x3f8 <- 0x41 (1)
 *   cpu0 mmio ioapic 0xfec00010 -> 0x0 (4)
 *
 * what a firmware writes to its debug port as it is, and a translation as its guest instructions, each followed by its host code.
 */
#include "vm/trace.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/opener.h"
#include "base/patience.h"
#include "vm/perf_map.h"

enum { WHATS = TRACE_FIRMWARE + 1, MAX_STUBS = 32 };

struct trace {
    FILE *out[WHATS];
    const char *eol[WHATS];
    struct engine_trace engine;
    struct machine_trace machine;
    struct perf_map *perf_map; /* or NULL */
    struct engine_stub stub[MAX_STUBS];
    u32 nstubs;
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

static void put_firmware(void *ctx, u8 byte)
{
    struct trace *t = ctx;
    if (byte == '\n') {
        fputs(t->eol[TRACE_FIRMWARE], t->out[TRACE_FIRMWARE]);
        fflush(t->out[TRACE_FIRMWARE]); /* somebody waits for it */
    } else if (byte != '\r')
        putc(byte >= ' ' && byte < 0x7f ? byte : '.', t->out[TRACE_FIRMWARE]);
}

/* ---- translations --------------------------------------------------------- */

static void put_code(const struct trace *t, const char *indent, u64 at, const u8 *code, unsigned len, const char *text,
                     const char *note)
{
    char hex[3 * 15 + 1] = "";

    for (unsigned k = 0; k < len && k < 15; k++)
        snprintf(hex + 3 * k, sizeof hex - 3 * k, "%02x ", code[k]);
    fprintf(t->out[TRACE_JIT], "%s%016llx  %-*s %s%s%s", indent, (unsigned long long)at, 34 - (int)strlen(indent), hex,
            text, note, t->eol[TRACE_JIT]);
}

static const struct engine_stub *stub_at(const struct trace *t, u64 at)
{
    for (u32 k = 0; k < t->nstubs; k++)
        if (t->stub[k].host_at == at)
            return &t->stub[k];
    return NULL;
}

/* What the instruction at off leads to, in note. */
static void explain(const struct trace *t, const struct engine_translation *x, u32 off, unsigned len, u64 target, char *note,
                    size_t size)
{
    const struct engine_stub *s = stub_at(t, target);

    for (u32 k = 0; k < x->nlinks; k++)
        if (x->link[k].host && x->link[k].host - off < len) {
            snprintf(note, size, "  ; link %u, to %llx", k, (unsigned long long)x->link[k].rip);
            return;
        }
    if (s)
        snprintf(note, size, "  ; %s", s->name);
}

static void put_data(const struct trace *t, const struct engine_translation *x, const struct engine_data *d)
{
    char text[64] = "data";

    if (d->of_link && d->number < x->nlinks)
        snprintf(text, sizeof text, "; link %u, to %llx", d->number, (unsigned long long)x->link[d->number].rip);
    else if (!d->of_link && d->number < x->ninsns)
        snprintf(text, sizeof text, "; of %llx", (unsigned long long)x->insn[d->number].rip);
    put_code(t, "    ", x->host_at + d->host, x->host + d->host, MIN(d->size, 8), text, "");
}

static void put_host(const struct trace *t, const struct engine_translation *x, u32 off, u32 end)
{
    while (off < end) {
        ZydisDisassembledInstruction i;
        const u64 at = x->host_at + off;
        u32 most = end - off;
        char note[80] = "";
        const struct engine_data *data = NULL;

        for (u32 k = 0; k < x->ndata; k++) {
            if (x->data[k].host == off)
                data = &x->data[k];
            else if (x->data[k].host > off)
                most = MIN(most, x->data[k].host - off);
        }
        if (data) {
            put_data(t, x, data);
            off += data->size;
            continue;
        }
        if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, at, x->host + off, most, &i))) {
            put_code(t, "    ", at, x->host + off, 1, "(bad)", "");
            off++;
            continue;
        }
        if (i.info.operand_count && i.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && i.operands[0].imm.is_relative)
            explain(t, x, off, i.info.length, at + i.info.length + (u64)i.operands[0].imm.value.s, note, sizeof note);
        put_code(t, "    ", at, x->host + off, i.info.length, i.text, note);
        off += i.info.length;
    }
}

static void put_translation(const struct trace *t, u32 vcpu, const struct engine_translation *x)
{
    fprintf(t->out[TRACE_JIT], "cpu%u translation of %llx (%llx): %u instructions, %u bytes at %llx%s", vcpu,
            (unsigned long long)x->rip, (unsigned long long)x->place, x->ninsns, x->host_size,
            (unsigned long long)x->host_at, t->eol[TRACE_JIT]);
    put_host(t, x, 0, x->ninsns ? x->insn[0].host : x->host_size);
    for (u32 k = 0; k < x->ninsns; k++) {
        const struct engine_translated *g = &x->insn[k];
        ZydisDisassembledInstruction i;
        const bool good = ZYAN_SUCCESS(ZydisDisassembleIntel(
            x->bits == 64 ? ZYDIS_MACHINE_MODE_LONG_64 : x->bits == 32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                                                                       : ZYDIS_MACHINE_MODE_LEGACY_16,
            g->rip, g->bytes, g->len, &i));
        put_code(t, "  ", g->rip, g->bytes, g->len, good ? i.text : "(bad)", "");
        put_host(t, x, g->host, k + 1 < x->ninsns ? g[1].host : x->host_size);
    }
}

static void on_translation(void *ctx, u32 vcpu, const struct engine_translation *x)
{
    struct trace *t = ctx;
    if (t->out[TRACE_JIT])
        put_translation(t, vcpu, x);
    if (t->perf_map)
        perf_map_add(t->perf_map, x);
}

static void on_stub(void *ctx, const struct engine_stub *s)
{
    struct trace *t = ctx;
    if (t->nstubs < MAX_STUBS)
        t->stub[t->nstubs++] = *s;
    if (t->perf_map)
        perf_map_stub(t->perf_map, s);
}

/* ---- opening and closing -------------------------------------------------- */

FILE *trace_file(const char *path, const char *failed, struct error *err)
{
    const int fd = patience_open(OPENER_REPORT, path, O_WRONLY | O_CREAT | O_TRUNC, 0666, failed, err);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

    if (fd >= 0 && !f) {
        error_set(err, ENOMEM, "out of memory");
        close(fd);
        errno = ENOMEM;
    } else if (fd < 0) {
        errno = -fd;
    }
    return f;
}

int trace_open(struct trace **out, const struct vm_run *c, struct error *err)
{
    *out = NULL;
    if (!c->ntrace && !c->perf_map)
        return 0;
    struct trace *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, ENOMEM, "out of memory");
    for (u32 i = 0; i < c->ntrace; i++) {
        const char *file = c->trace[i].file;
        enum vm_trace_what what = c->trace[i].what;
        FILE *f = stderr;

        for (u32 k = 0; k < i && file; k++) /* one file for several kinds: opened once */
            if (c->trace[k].file && !strcmp(c->trace[k].file, file))
                f = t->out[c->trace[k].what];
        if (file && f == stderr && !(f = trace_file(file, "cannot write the trace to ", err))) {
            int rc = -errno;
            trace_close(t);
            return rc;
        }
        if (t->out[what] && t->out[what] != f) {
            if (f != stderr)
                fclose(f);
            trace_close(t);
            return error_set(err, EINVAL, "the same is to be traced twice");
        }
        t->out[what] = f;
        t->eol[what] = f == stderr && isatty(STDERR_FILENO) ? "\r\n" : "\n"; /* the terminal may be in raw mode */
    }
    if (c->perf_map) {
        const int rc = perf_map_open(&t->perf_map, c->system_map, err);
        if (rc) {
            error_about(err, "perf_map");
            trace_close(t);
            return rc;
        }
    }
    const bool jit = t->out[TRACE_JIT] || t->perf_map;
    t->engine = (struct engine_trace){ t, t->out[TRACE_EXEC] ? put_exec : NULL,
                                       t->out[TRACE_EXCEPTIONS] ? put_exception : NULL, jit ? on_stub : NULL,
                                       jit ? on_translation : NULL };
    t->machine = (struct machine_trace){ t, t->out[TRACE_IO] ? put_port : NULL, t->out[TRACE_MMIO] ? put_mmio : NULL,
                                         t->out[TRACE_FIRMWARE] ? put_firmware : NULL };
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
    perf_map_close(t->perf_map);
    free(t);
}

const struct engine_trace *trace_engine(const struct trace *t)
{
    return t && (t->engine.exec || t->engine.exception || t->engine.translation) ? &t->engine : NULL;
}

const struct machine_trace *trace_machine(const struct trace *t)
{
    return t && (t->machine.port || t->machine.mmio || t->machine.firmware) ? &t->machine : NULL;
}
