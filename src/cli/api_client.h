/* SPDX-License-Identifier: Apache-2.0 */
/* api_client.h - the control socket of a machine (vm/api.h), from the command line's side: finding it and calling
   it. */
#ifndef LODGE_CLI_API_CLIENT_H
#define LODGE_CLI_API_CLIENT_H

#include <errno.h>
#include <limits.h>

#include "http/client.h"

/* Gives the socket's path for what a user calls a machine: its name (lodge run NAME, --keep NAME), or the path of
   its socket, with a slash in it. */
int must_check api_path(const char *machine, char path[PATH_MAX], struct error *err);
enum { API_PATIENCE_S = 60 };
/* Makes one call, as http_ask does. in: the body or NULL; its reference is taken. The machine may be silent for
   `patience` seconds (0: for ever). */
int must_check api_call(const char *machine, const char *method, const char *name, json_t *in, u32 patience,
                        struct http_answer *a, struct error *err);
/* True if api_call's result says that no machine is there. */
static inline bool api_nobody(int r, const struct http_answer *a)
{
    return !a->status && (r == -ENOENT || r == -ECONNREFUSED);
}
/* The command's exit status: STATUS_USAGE if the machine finds the request itself wrong (400). */
int api_exit(int r, const struct http_answer *a);

#endif
