/* SPDX-License-Identifier: Apache-2.0 */
/*
 * typer.h - types text and key chords as fast as the guest takes them: the next key comes when the keyboard's queue is
 * empty, and not before TYPER_GAP_NS.  A guest that is slow to take them (the host has more to do) is given TYPER_SLOWNESS
 * times that, since who reads them is as slow.  A BIOS takes keys that no program has asked for, and can keep fifteen: no
 * more are pressed while it has TYPER_KEPT.  Loop thread.
 */
#ifndef LODGE_DISPLAY_TYPER_H
#define LODGE_DISPLAY_TYPER_H

#include "base/error.h"
#include "base/loop.h"
#include "display/input.h"

#define TYPER_GAP_NS 10000000ull       /* between a press and a release, a release and a press */
#define TYPER_MAX_GAP_NS 250000000ull
#define TYPER_PATIENCE_NS 30000000000ull /* a guest that takes no key for so long will not */
enum { TYPER_SLOWNESS = 4, TYPER_KEPT = 8, TYPER_MAX = 16384 }; /* MAX: bytes of a text, keys of a list of chords */

struct typer;
/* How many keys the guest's BIOS keeps, and where the last one lies, which is another place for the next. */
typedef u32 typer_kept(void *ctx, u32 *where);
/* kept may be NULL. NULL: out of memory */
struct typer *typer_new(struct loop *loop, struct input *in, typer_kept *kept, void *ctx);
void typer_free(struct typer *t); /* may be NULL; done(-ECANCELED) for what waits */

/* After what was asked for before. done: later, 0, -ETIMEDOUT or -ECANCELED. -EINVAL with err set: nothing is typed. */
typedef void typer_done(void *ctx, int result);
int must_check typer_text(struct typer *t, const char *text, typer_done *done, void *ctx, struct error *err);
int must_check typer_chords(struct typer *t, const char *const *chord, u32 n, typer_done *done, void *ctx,
                            struct error *err);

#endif
