/* SPDX-License-Identifier: Apache-2.0 */
/*
 * typer.h - types text and key chords as fast as the guest takes them. The next key comes when the keyboard's queue is
 * empty, but not before TYPER_GAP_NS has passed. If the guest takes keys slowly (because the host has other work), the
 * gap is TYPER_SLOWNESS times the time that it needed, since the program that reads the keys is as slow. A BIOS takes
 * keys that no program has asked for, and can keep fifteen of them. So no more keys are pressed while it keeps
 * TYPER_KEPT. Loop thread.
 */
#ifndef LODGE_DISPLAY_TYPER_H
#define LODGE_DISPLAY_TYPER_H

#include "base/error.h"
#include "base/loop.h"
#include "display/input.h"

#define TYPER_GAP_NS 10000000ull       /* between a press and a release, a release and a press */
#define TYPER_MAX_GAP_NS 250000000ull
#define TYPER_PATIENCE_NS 30000000000ull /* if a guest takes no key for so long, it will take none */
enum { TYPER_SLOWNESS = 4, TYPER_KEPT = 8, TYPER_MAX = 16384 }; /* MAX: bytes of a text, keys of a list of chords */

struct typer;
/* Returns how many keys the guest's BIOS keeps. *where: the place of the last one; the next key has another place. */
typedef u32 typer_kept(void *ctx, u32 *where);
/* kept may be NULL. NULL: out of memory */
struct typer *typer_new(struct loop *loop, struct input *in, typer_kept *kept, void *ctx);
void typer_free(struct typer *t); /* t may be NULL; calls done(-ECANCELED) for what waits */

/* Types after everything that was requested before. done is called later with 0, -ETIMEDOUT or -ECANCELED. -EINVAL
   with err set: nothing is typed. */
typedef void typer_done(void *ctx, int result);
int must_check typer_text(struct typer *t, const char *text, typer_done *done, void *ctx, struct error *err);
int must_check typer_chords(struct typer *t, const char *const *chord, u32 n, typer_done *done, void *ctx,
                            struct error *err);

#endif
