/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.c - pages that are refused for a few bytes, and executed nevertheless: debug registers of the runner stand before those
 * bytes (mostly a constant or a displacement that looks like CPUID, and is never reached). There are four for each runner, so
 * the pages that the program came to most often of late have them.
 *
 * SDM vol. 3 17.2.4 (instruction breakpoints), 17.3.1.1 (a fault, before the instruction).
 */
#include "engine/soft/direct/direct.h"

enum { AFTER = 4 /* times that a page was in the way */, HALF_MS = 20 };

static void grow_old(struct soft_vcpu *v, struct direct_space *s)
{
    const u64 now = __builtin_ia32_rdtsc(), half = HALF_MS * v->vm->cfg.cpuid->tsc_khz;
    if (now - s->guard_time < half)
        return;
    const u64 halves = MIN((now - s->guard_time) / half, 31ull);
    s->guard_time = now;
    for (struct guard *g = s->guard; g < s->guard + GUARD_CANDIDATES; g++)
        g->score >>= halves;
}

static bool in_force(const struct direct_space *s, const struct guard *g)
{
    return g->set && mirror_page(s, g->lin) & MIRROR_GUARDED;
}

static struct guard *candidate(struct direct_space *s, u64 lin)
{
    struct guard *least = NULL;
    for (struct guard *g = s->guard; g < s->guard + GUARD_CANDIDATES; g++) {
        if (g->lin == lin)
            return g;
        if (!in_force(s, g) && (!least || g->score < least->score))
            least = g;
    }
    if (least) /* up to RUNNER_GUARDS of them are in force */
        *least = (struct guard){ .lin = lin };
    return least;
}

/* Makes room for n more by taking them from pages that are less in the way than `score`. */
static bool make_room(struct soft_vcpu *v, struct direct_space *s, unsigned n, u32 score)
{
    for (;;) {
        struct guard *least = NULL;
        unsigned used = 0;
        for (struct guard *g = s->guard; g < s->guard + GUARD_CANDIDATES; g++) {
            g->set = in_force(s, g);
            if (!g->set)
                continue;
            used += g->n;
            if (!least || g->score < least->score)
                least = g;
        }
        if (used + n <= RUNNER_GUARDS)
            return true;
        if (least->score * 2 > score || !mirror_unguard(v, s, least->lin))
            return false;
        least->set = false;
    }
}

enum guard_result guard_page(struct soft_vcpu *v, struct direct_space *s, u64 lin, u64 place)
{
    u64 address[RUNNER_GUARDS] = { 0 };
    unsigned used = 0;
    lin &= ~0xfffull;
    if (s->runner->unguarded)
        return GUARD_NOT;
    grow_old(v, s);
    struct guard *c = candidate(s, lin);
    if (!c || ++c->score < AFTER)
        return GUARD_NOT;
    const u32 gen = __atomic_load_n(&v->vm->code_gen[place >> GUEST_PAGE_SHIFT], __ATOMIC_SEQ_CST);
    if (c->n > RUNNER_GUARDS && c->gen == gen)
        return GUARD_NOT;
    c->gen = gen;
    c->n = (u8)admit_refused(v, place, c->offset, RUNNER_GUARDS);
    if (!c->n || c->n > RUNNER_GUARDS || !make_room(v, s, c->n, c->score))
        return GUARD_NOT;
    c->set = true;
    for (struct guard *g = s->guard; g < s->guard + GUARD_CANDIDATES; g++)
        for (unsigned k = 0; g->set && k < g->n; k++)
            address[used++] = g->lin + g->offset[k];
    if (!runner_guard(v, s->runner, address))
        return GUARD_LOST;
    c->set = !s->runner->unguarded;
    v->direct->stat.guarded += c->set;
    return c->set ? GUARD_SET : GUARD_NOT;
}

bool guard_covers(struct soft_vcpu *v, const struct direct_space *s, u64 lin, u64 place)
{
    u16 offset[RUNNER_GUARDS];
    for (const struct guard *g = s->guard; g < s->guard + GUARD_CANDIDATES; g++) {
        if (!g->set || g->lin != (lin & ~0xfffull))
            continue;
        const unsigned n = admit_refused(v, place, offset, RUNNER_GUARDS);
        bool same = n == g->n;
        for (unsigned k = 0; same && k < n; k++)
            same = offset[k] == g->offset[k];
        return same;
    }
    return false;
}
