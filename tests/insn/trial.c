/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trial.c - a sequence run on both sides, in each way that it can be run.
 */
#include "trial.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int trial_open(struct trial *t, bool against_itself, const char *model)
{
    /* A block is translated at its first run, its second, its fourth. */
    static const int after[] = {0, 1, 3};
    for (unsigned i = 0; t->real && i < ARRAY_SIZE(t->reals); i++)
        if (!(t->reals[i] = real_guest_new(i ? after[i - 1] : INTERPRET)))
            return -ENOMEM;
    t->n_guests = against_itself && !ENGINE_ALONE ? 0 : t->translated ? ARRAY_SIZE(after) : 1;
    for (unsigned i = 0; i < t->n_guests; i++)
        if (!(t->guests[i] = guest_new(t->translated ? after[i] : INTERPRET, model, NULL)))
            return model ? -ENOENT : -ENOMEM;
    if (t->n_guests)
        host_restrict(3 | (guest_has(t->guests[0], ISA_AVX) ? 4 : 0) | (guest_has(t->guests[0], ISA_AVX512F) ? 0xe0 : 0));
    return 0;
}

void trial_close(struct trial *t)
{
    for (unsigned i = 0; i < t->n_guests; i++)
        guest_free(t->guests[i]);
    for (unsigned i = 0; t->real && i < ARRAY_SIZE(t->reals); i++)
        real_guest_free(t->reals[i]);
    if (t->watch.guest)
        guest_free(t->watch.guest);
}

u64 trial_cuts(const struct trial *t)
{
    u64 cuts = 0;
    for (unsigned i = 0; i < t->n_guests; i++)
        cuts += guest_cuts(t->guests[i]);
    for (unsigned i = 0; t->real && i < ARRAY_SIZE(t->reals); i++)
        cuts += real_cuts(t->reals[i]);
    return cuts;
}

unsigned trial_instructions(const struct trial *t, const struct sequence *q, u64 rip)
{
    unsigned k = 0;
    while (k < q->n && (q->init.rip + t->offsets[k] < rip || !q->insn[k].len))
        k++;
    return k;
}

static bool engine_run(struct trial *t, const struct sequence *q, struct guest *g, unsigned len, enum guest_how how, const char *name, struct diff *d)
{
    t->run_name = name;
    d->len = d->count = 0;
    if (!guest_run(g, q, t->code, len, &t->engine, how))
        diff_note(d, "  the engine did not come to an end\n");
    else if (!ENGINE_ALONE)
        compare(t, q, d);
    else
        t->host = t->engine;
    return d->count == 0;
}

static bool run_real(struct trial *t, const struct sequence *q, struct diff *d)
{
    static const struct { enum real_how how; const char *name; } runs[] = {
        {REAL_PLAIN, "translated"}, {REAL_PRODDED, "with interrupts and kicks by a device"}, {REAL_RUSHED, "with interrupts and kicks by a thread"}};
    const unsigned len = gen_assemble(q, t->code, t->offsets);
    const unsigned first = 1 + (unsigned)(q->data_seed % 3);
    d->len = d->count = 0;
    alarm(400);
    if (!real_run(t->reals[0], q, t->code, len, &t->real_want, REAL_PLAIN)) {
        t->endless++;
        return true;
    }
    t->host.f.vector = t->real_want.vector;
    t->host.s.rip = t->real_want.s.rip;
    for (unsigned i = 0; i < ARRAY_SIZE(runs); i++) {
        t->run_name = runs[i].name;
        if (real_run(t->reals[i ? 1 + (first + i) % 3 : first], q, t->code, len, &t->real_got, runs[i].how))
            compare_real(t, d);
        else
            diff_note(d, "  the engine did not come to an end\n");
        if (d->count)
            return false;
    }
    return true;
}

/* A program, in each way that it can be run. *cut: the run that differed was interrupted. */
static bool run_all(struct trial *t, const struct sequence *q, unsigned len, bool alone, struct diff *d, bool *cut)
{
    struct guest *g = t->guests[q->data_seed % t->n_guests];
    enum guest_how first = alone || q->data_seed >> 8 & 3 ? HOW_FRESH : HOW_LOADED;
    if (!engine_run(t, q, g, len, first, first == HOW_FRESH ? "fresh" : "over the one before", d))
        return false;
    for (unsigned n = guest_runs_to_heat(g); n--;)
        if (!engine_run(t, q, g, len, HOW_AGAIN, "hot", d))
            return false;
    *cut = true;
    for (unsigned n = 2; n--;)
        if (!engine_run(t, q, g, len, HOW_PRODDED, "with interrupts and kicks by a device", d))
            return false;
    return engine_run(t, q, g, len, HOW_RUSHED, "with interrupts and kicks by a thread", d);
}

bool trial_run(struct trial *t, const struct sequence *q, struct diff *d, bool alone)
{
    if (t->real)
        return run_real(t, q, d);
    unsigned len = gen_assemble(q, t->code, t->offsets);
    d->len = d->count = 0;
    if (t->flow)
        alarm(400);
    if (!ENGINE_ALONE) {
        host_run(q, t->code, len, &t->host);
        if (t->other_order && t->host.has_other) {
            t->others++;
            host_name_other(&t->host);
        }
        /* It wrote into itself: when that takes effect is the processor's. */
        if (!q->patches_itself && memcmp((void *)q->code, t->code, len))
            return true;
        if (t->host.f.vector == VECTOR_NO_END) {
            t->endless++;
            return true;
        }
    }
    if (!t->n_guests) {
        host_run(q, t->code, len, &t->engine);
        compare(t, q, d);
        return d->count == 0;
    }
    if (!t->flow)
        return engine_run(t, q, t->guests[0], len, HOW_FRESH, "fresh", d);
    bool cut = false;
    return run_all(t, q, len, alone, d, &cut) || is_excused(t, q, len, cut);
}
