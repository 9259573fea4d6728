/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c - the figures at a run's end. */
#include "vm/stats.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "vm/trace.h"

enum { MAX_DEVICES = 64, MAX_FIGURES = 128, MAX_COLUMNS = 8 /* CPUs that get a column of their own */ };

struct accessed {
    const char *name;
    u64 reads, writes;
};
struct row { /* one figure, of all CPUs */
    struct engine_figure sum;
    struct engine_figure *cpu;
};
struct stats {
    FILE *out;
    const char *eol;
    bool json;
    u32 cpus;
    u64 start_ns;
    pthread_mutex_t lock; /* the following two */
    struct accessed device[MAX_DEVICES];
    u32 ndevices;
    struct machine_trace machine;
    const struct machine_trace *next;
    struct row row[MAX_FIGURES];
    u32 nrows, nvm;
    struct engine_figure vm[MAX_FIGURES];
    u32 at_cpu, at_row; /* being told */
};

/* ---- devices -------------------------------------------------------------- */

static void count(struct stats *s, const char *name, bool write)
{
    pthread_mutex_lock(&s->lock);
    u32 k = 0;
    while (k < s->ndevices && strcmp(s->device[k].name, name))
        k++;
    if (k == s->ndevices && k < MAX_DEVICES)
        s->device[s->ndevices++].name = name;
    if (k < MAX_DEVICES)
        *(write ? &s->device[k].writes : &s->device[k].reads) += 1;
    pthread_mutex_unlock(&s->lock);
}

static void on_port(void *ctx, bool write, u16 port, unsigned size, u64 value, const char *name)
{
    struct stats *s = ctx;
    count(s, name, write);
    if (s->next && s->next->port)
        s->next->port(s->next->ctx, write, port, size, value, name);
}

static void on_mmio(void *ctx, u32 vcpu, bool write, u64 gpa, unsigned size, u64 value, const char *name)
{
    struct stats *s = ctx;
    count(s, name, write);
    if (s->next && s->next->mmio)
        s->next->mmio(s->next->ctx, vcpu, write, gpa, size, value, name);
}

static void on_firmware(void *ctx, u8 byte)
{
    struct stats *s = ctx;
    s->next->firmware(s->next->ctx, byte);
}

/* ---- gathering ------------------------------------------------------------ */

static void on_vcpu_figure(void *ctx, const struct engine_figure *f)
{
    struct stats *s = ctx;
    const u32 n = s->at_row++;

    if (n == MAX_FIGURES)
        s->at_row--;
    if (n >= MAX_FIGURES)
        return;
    struct row *r = &s->row[n];
    if (!r->cpu && !(r->cpu = calloc(s->cpus, sizeof *r->cpu)))
        return;
    r->cpu[s->at_cpu] = *f;
    if (s->at_cpu) {
        r->sum.value += f->value;
        r->sum.of += f->of;
    } else {
        r->sum = *f;
        s->nrows = n + 1;
    }
}

static void on_vm_figure(void *ctx, const struct engine_figure *f)
{
    struct stats *s = ctx;
    if (s->nvm < MAX_FIGURES)
        s->vm[s->nvm++] = *f;
}

/* ---- text ----------------------------------------------------------------- */

static void print_value(struct stats *s, const struct engine_figure *f)
{
    switch (f->unit) {
    case ENGINE_COUNT: fprintf(s->out, " %15llu", (unsigned long long)f->value); break;
    case ENGINE_BYTES: fprintf(s->out, " %11llu KiB", (unsigned long long)(f->value + 1023) >> 10); break;
    case ENGINE_NS: fprintf(s->out, " %13.3f s", (double)f->value / 1e9); break;
    case ENGINE_RATE:
        if (f->of)
            fprintf(s->out, " %13.3f %%", 100.0 * (double)f->value / (double)f->of);
        else
            fprintf(s->out, " %15s", "-");
    }
}

static void print_text(struct stats *s, const char *engine, double seconds)
{
    const u32 columns = s->cpus > 1 && s->cpus <= MAX_COLUMNS ? s->cpus : 0;
    const char *group = "";

    fprintf(s->out, "%sfigures of the run: engine %s, %u CPU%s, %.2f s%s", s->out == stderr ? s->eol : "", engine, s->cpus,
            s->cpus == 1 ? "" : "s", seconds, s->eol);
    for (u32 n = 0; n < s->nrows; n++) {
        const struct row *r = &s->row[n];
        if (strcmp(group, r->sum.group)) {
            fprintf(s->out, "%-28s", r->sum.group);
            for (u32 k = 0; !*group && k < columns; k++)
                fprintf(s->out, " %12s%3u", "cpu", k);
            fprintf(s->out, " %15s%s", *group ? "" : s->cpus == 1 ? "cpu" : "sum", s->eol);
            group = r->sum.group;
        }
        fprintf(s->out, "  %-26s", r->sum.name);
        for (u32 k = 0; k < columns; k++)
            print_value(s, &r->cpu[k]);
        print_value(s, &r->sum);
        fputs(s->eol, s->out);
    }
    for (u32 n = 0; n < s->nvm; n++) {
        if (strcmp(group, s->vm[n].group))
            fprintf(s->out, "%s%s", group = s->vm[n].group, s->eol);
        fprintf(s->out, "  %-26s", s->vm[n].name);
        print_value(s, &s->vm[n]);
        fputs(s->eol, s->out);
    }
    fprintf(s->out, "%-28s %15s %15s%s", "devices", "reads", "writes", s->eol);
    for (u32 k = 0; k < s->ndevices; k++)
        fprintf(s->out, "  %-26s %15llu %15llu%s", s->device[k].name, (unsigned long long)s->device[k].reads,
                (unsigned long long)s->device[k].writes, s->eol);
}

/* ---- JSON ----------------------------------------------------------------- */

/* Figures come with names of ours: nothing in them to quote. at: the n-th. */
static void json_figures(struct stats *s, u32 n, const struct engine_figure *(*at)(const struct stats *s, u32 n, u32 cpu),
                         u32 cpu)
{
    const char *group = NULL;

    putc('{', s->out);
    for (u32 k = 0; k < n; k++) {
        const struct engine_figure *f = at(s, k, cpu);
        const bool same = group && !strcmp(group, f->group);
        if (!same)
            fprintf(s->out, "%s\"%s\": {", group ? "}, " : "", f->group);
        group = f->group;
        fprintf(s->out, "%s\"%s\": ", same ? ", " : "", f->name);
        if (f->unit == ENGINE_NS)
            fprintf(s->out, "%.9f", (double)f->value / 1e9);
        else if (f->unit == ENGINE_RATE && f->of)
            fprintf(s->out, "%.6f", (double)f->value / (double)f->of);
        else if (f->unit == ENGINE_RATE)
            fputs("null", s->out);
        else
            fprintf(s->out, "%llu", (unsigned long long)f->value);
    }
    fputs(group ? "}}" : "}", s->out);
}

static const struct engine_figure *cpu_figure(const struct stats *s, u32 n, u32 cpu) { return &s->row[n].cpu[cpu]; }
static const struct engine_figure *sum_figure(const struct stats *s, u32 n, u32 cpu) { return &s->row[n].sum; }
static const struct engine_figure *vm_figure(const struct stats *s, u32 n, u32 cpu) { return &s->vm[n]; }

static void print_json(struct stats *s, const char *engine, double seconds)
{
    fprintf(s->out, "{\"engine\": \"%s\", \"seconds\": %.6f,\n \"cpus\": [", engine, seconds);
    for (u32 k = 0; k < s->cpus; k++) {
        fputs(k ? ",\n  " : "", s->out);
        json_figures(s, s->nrows, cpu_figure, k);
    }
    fputs("],\n \"sum\": ", s->out);
    json_figures(s, s->nrows, sum_figure, 0);
    fputs(",\n \"vm\": ", s->out);
    json_figures(s, s->nvm, vm_figure, 0);
    fputs(",\n \"devices\": {", s->out);
    for (u32 k = 0; k < s->ndevices; k++)
        fprintf(s->out, "%s\"%s\": {\"reads\": %llu, \"writes\": %llu}", k ? ", " : "", s->device[k].name,
                (unsigned long long)s->device[k].reads, (unsigned long long)s->device[k].writes);
    fputs("}}\n", s->out);
}

/* ---- ---------------------------------------------------------------------- */

void stats_print(struct stats *s, const struct engine_ops *engine, struct engine_vm *vm)
{
    if (!s)
        return;
    const double seconds = (double)(clock_ns() - s->start_ns) / 1e9;
    if (engine->stats) {
        for (s->at_cpu = 0; s->at_cpu < s->cpus; s->at_cpu++) {
            s->at_row = 0;
            engine->stats(vm, (int)s->at_cpu, on_vcpu_figure, s);
        }
        engine->stats(vm, -1, on_vm_figure, s);
    }
    for (u32 n = 0; n < s->nrows; n++)
        if (!s->row[n].cpu)
            s->nrows = n; /* no memory for it */
    if (s->json)
        print_json(s, engine->name, seconds);
    else
        print_text(s, engine->name, seconds);
    fflush(s->out);
}

int stats_open(struct stats **out, const struct vm_run *c, u32 cpus, const struct machine_trace *next, struct error *err)
{
    *out = NULL;
    if (c->stats == STATS_NONE)
        return 0;
    struct stats *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ENOMEM, "out of memory");
    s->out = c->stats_file ? trace_file(c->stats_file, "cannot write the figures to ", err) : stderr;
    if (!s->out) {
        const int rc = -errno;
        free(s);
        return rc;
    }
    s->json = c->stats == STATS_JSON;
    s->eol = s->out == stderr && isatty(STDERR_FILENO) ? "\r\n" : "\n"; /* the terminal may be in raw mode */
    s->cpus = cpus;
    s->next = next;
    s->machine = (struct machine_trace){ s, on_port, on_mmio, next && next->firmware ? on_firmware : NULL };
    s->start_ns = clock_ns();
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return 0;
}

void stats_close(struct stats *s)
{
    if (!s)
        return;
    for (u32 n = 0; n < MAX_FIGURES; n++)
        free(s->row[n].cpu);
    if (s->out != stderr)
        fclose(s->out);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

const struct machine_trace *stats_machine(const struct stats *s, const struct machine_trace *next)
{
    return s ? &s->machine : next;
}
