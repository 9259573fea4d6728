/* SPDX-License-Identifier: Apache-2.0 */
/* api_client.h - the control socket of a machine (vm/api.h), from the command line's side. */
#ifndef LODGE_CLI_API_CLIENT_H
#define LODGE_CLI_API_CLIENT_H

#include <errno.h>
#include <jansson.h>
#include <limits.h>

#include "base/error.h"

struct api_answer {
    int status; /* HTTP */
    char *body; /* with a 0 after it; the caller's to free */
    size_t size;
};

/* What a user calls a machine: its name (lodge run NAME, --keep NAME), or the path of its socket, with a slash in it. */
int must_check api_path(const char *machine, char path[PATH_MAX], struct error *err);
enum { API_PATIENCE_S = 60 };
/* One call; in: the body or NULL, its reference is taken. A status of 400 and above is a failure: -EPROTO with what the
   machine said in err; a->status is set then too. -errno: it could not be reached (api_nobody() tells whether that is
   because nobody is there), or was silent for patience seconds (0: for ever). */
int must_check api_call(const char *machine, const char *method, const char *name, json_t *in, u32 patience,
                        struct api_answer *a, struct error *err);
static inline bool api_nobody(int r) { return r == -ENOENT || r == -ECONNREFUSED; }

#endif
