/* SPDX-License-Identifier: Apache-2.0 */
/*
 * excuse.c - what no processor promises.
 *
 * A program may overwrite a return address and go on amid its instructions, where the generator cannot see that a flag is
 * read that has no value; and a REP string instruction that overwrites itself goes on to its end, but is another once an
 * interrupt has had it fetched again. Whether it was so is looked for in a trace, when the two differ.
 */
#include "trial.h"

#include <string.h>

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

bool is_excused(struct trial *t, const struct sequence *q, unsigned len, bool cut)
{
    static struct outcome ignored;
    struct watch *w = &t->watch;

    if (!t->flow || !t->n_guests)
        return false;
    if (!w->guest) {
        w->trace = (struct engine_trace){ .ctx = w, .exec = watch_insn };
        if (!(w->guest = guest_new(INTERPRET, NULL, &w->trace)))
            return false;
    }
    w->undefined = 0;
    w->read = w->overwrote = false;
    w->string.len = 0;
    if (!guest_run(w->guest, q, t->code, len, &ignored, HOW_FRESH))
        return false;
    watch_string(w);
    if (!w->read && !(cut && w->overwrote))
        return false;
    t->excused++;
    return true;
}
