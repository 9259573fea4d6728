/* SPDX-License-Identifier: Apache-2.0 */
/* typer.c - see typer.h. */
#include "display/typer.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#include "display/keys.h"

#define LOOK_AGAIN_NS 1000000ull

struct job {
    struct job *next;
    typer_done *done;
    void *ctx;
    u32 n, at, max;
    struct stroke {
        u16 key;
        bool down;
    } *stroke;
};

struct typer {
    struct input *in;
    typer_kept *kept;
    void *kept_ctx;
    struct timer timer;
    struct job *jobs; /* the first is being typed */
    u32 where;        /* the place of the last key that the BIOS kept, when we looked last */
    bool keeps;       /* the place has moved since the job began */
    u64 last;         /* the time when the last key went out */
    bool taken;       /* we have seen that the guest took it */
    u64 pace;         /* ns: how long the guest has needed to take a key lately */
};

static void job_free(struct job *j)
{
    free(j->stroke);
    free(j);
}

static bool add(struct job *j, u16 key, bool down)
{
    if (j->n == j->max) {
        j->max = j->max ? 2 * j->max : 64;
        struct stroke *s = realloc(j->stroke, j->max * sizeof *s);
        if (!s)
            return false;
        j->stroke = s;
    }
    j->stroke[j->n++] = (struct stroke){ key, down };
    return true;
}

static void finish(struct typer *t, int result)
{
    struct job *j = t->jobs;
    t->jobs = j->next;
    j->done(j->ctx, result);
    job_free(j);
}

/* True if the BIOS keeps as many keys as it should. If the place does not move, the BIOS is not in use: the keys in
   it were left there by an earlier user. */
static bool enough(struct typer *t, bool begins)
{
    u32 where = t->where;
    const u32 n = t->kept ? t->kept(t->kept_ctx, &where) : 0;

    t->keeps = !begins && (t->keeps || where != t->where);
    t->where = where;
    return t->keeps && n >= TYPER_KEPT;
}

static void fire(struct timer *timer)
{
    struct typer *t = container_of(timer, struct typer, timer);
    struct job *j = t->jobs;
    const u64 now = clock_ns();

    if (!j)
        return;
    if (input_waiting(t->in) || (t->taken && j->at < j->n && enough(t, !j->at) && j->stroke[j->at].down)) {
        if (now - t->last < TYPER_PATIENCE_NS) {
            timer_arm(&t->timer, now + LOOK_AGAIN_NS);
            return;
        }
        input_release(t->in);
        finish(t, -ETIMEDOUT);
        t->taken = true;
    } else if (!t->taken) {
        t->taken = true;
        t->pace = MAX(now - t->last, t->pace - t->pace / 8);
        /* The next key comes before the timer that repeats a held key, however late both are. */
        timer_arm(&t->timer, t->last + MIN(MAX(TYPER_SLOWNESS * t->pace, TYPER_GAP_NS), TYPER_MAX_GAP_NS));
        return;
    } else if (j->at < j->n) {
        input_key(t->in, j->stroke[j->at].key, j->stroke[j->at].down);
        j->at++;
        t->last = now;
        t->taken = false;
        timer_arm(&t->timer, now + LOOK_AGAIN_NS);
        return;
    } else {
        finish(t, 0);
    }
    if (t->jobs)
        timer_arm(&t->timer, now + TYPER_GAP_NS);
}

/* Puts the job behind those that wait. If the job is not complete (ok false), frees it. */
static int start(struct typer *t, bool ok, struct job *j, typer_done *done, void *ctx, struct error *err)
{
    struct job **p = &t->jobs;
    if (!ok) {
        if (j)
            job_free(j);
        return error_set(err, ENOMEM, "out of memory");
    }
    j->done = done;
    j->ctx = ctx;
    if (!t->jobs) {
        t->last = clock_ns();
        t->taken = true;
        timer_arm(&t->timer, t->last);
    }
    while (*p)
        p = &(*p)->next;
    *p = j;
    return 0;
}

int typer_text(struct typer *t, const char *text, typer_done *done, void *ctx, struct error *err)
{
    struct job *j = calloc(1, sizeof *j);
    bool shift = false, ok = j != NULL;

    if (strlen(text) > TYPER_MAX) {
        free(j);
        return error_set(err, EINVAL, "a text to type has at most %d characters", TYPER_MAX);
    }
    for (const char *c = text; *c && ok; c++) {
        bool shifted;
        const u16 key = keys_character((u8)*c, &shifted);
        if (!key) {
            job_free(j);
            return error_set(err, EINVAL, "character %zu of the text is on no key of a US keyboard",
                             (size_t)(c - text) + 1);
        }
        if (shifted != shift)
            ok = add(j, KEY_LEFTSHIFT, shifted);
        shift = shifted;
        ok = ok && add(j, key, true) && add(j, key, false);
    }
    if (ok && shift)
        ok = add(j, KEY_LEFTSHIFT, false);
    return start(t, ok, j, done, ctx, err);
}

int typer_chords(struct typer *t, const char *const *chord, u32 n, typer_done *done, void *ctx, struct error *err)
{
    struct job *j = calloc(1, sizeof *j);
    bool ok = j != NULL;

    for (u32 i = 0; i < n && ok; i++) {
        u16 key[KEYS_CHORD];
        const int keys = keys_chord(chord[i], key, err);
        if (keys < 0 || i == TYPER_MAX) {
            job_free(j);
            return keys < 0 ? keys : error_set(err, EINVAL, "at most %d keys in one go", TYPER_MAX);
        }
        for (int k = 0; k < keys && ok; k++)
            ok = add(j, key[k], true);
        for (int k = keys; k-- && ok;)
            ok = add(j, key[k], false);
    }
    return start(t, ok, j, done, ctx, err);
}

struct typer *typer_new(struct loop *loop, struct input *in, typer_kept *kept, void *ctx)
{
    struct typer *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->in = in;
    t->kept = kept;
    t->kept_ctx = ctx;
    timer_init(&t->timer, loop, fire);
    return t;
}

void typer_free(struct typer *t)
{
    if (!t)
        return;
    timer_disarm(&t->timer);
    while (t->jobs)
        finish(t, -ECANCELED);
    free(t);
}
