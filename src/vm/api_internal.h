/* SPDX-License-Identifier: Apache-2.0 */
/* api_internal.h - between api.c, which opens the control socket, and the files with the calls. */
#ifndef LODGE_VM_API_INTERNAL_H
#define LODGE_VM_API_INTERNAL_H

#include "display/typer.h"
#include "http/server.h"
#include "vm/api.h"
#include "vm/internal.h"

#define API_PREFIX "/api/v1/"

struct api { /* the user of its routes */
    struct vm *vm;
    struct typer *typer; /* NULL: a machine without a screen */
    struct http_server *server;
    struct http_routes routes[3]; /* the last ends them */
};
static inline struct api *api_of(const struct http_call *c) { return c->user; }
static inline struct vm *vm_of(const struct http_call *c) { return api_of(c)->vm; }

extern const struct http_route api_vm_routes[], api_screen_routes[]; /* end with a NULL method */

u32 api_bios_keys(void *ctx, u32 *where); /* a typer_kept; ctx: struct vm */
/* Pictures that are being made are waited for, and sent. */
void api_screen_close(struct vm *v);
/* api_media.c: discs that are being opened are not waited for, those that are being closed are. */
void api_change_media(struct http_call *c);
void api_media_close(struct vm *v);

#endif
