/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_verbs.h - shared by the verbs of "lodge image".
 */
#ifndef LODGE_CLI_IMAGE_VERBS_H
#define LODGE_CLI_IMAGE_VERBS_H

#include <limits.h>
#include <signal.h>

#include "cli/cli.h"
#include "store/store.h"

struct image_options {
    const char *name, *size, *packages, *format;
    bool force, json, kept;
};

/* ---- image_build.c ---- */

int image_build(const struct image_options *o); /* the exit status */
/* Finds a script of tools/image. For the lodge of a build folder it is beside the sources, else where it was
   installed. */
int must_check image_script(const char *script, char path[PATH_MAX], struct error *err) __attribute__((nonnull(2)));

/* Shows progress: on a terminal one line that changes, else a new line whenever the text changes. It begins as { "",
   -1, false }. */
struct meter {
    char text[80];
    int percent;
    bool drawn;
};
void meter_show(struct meter *m, int percent, const char *text);
void meter_end(const struct meter *m);

/* From here on, signals that ask for the end are held back until somebody looks for them. */
void image_hold_signals(sigset_t *before);

#endif
