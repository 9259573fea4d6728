/* SPDX-License-Identifier: Apache-2.0 */
/* api_internal.h - between api.c, which speaks HTTP, and the files with the calls. */
#ifndef LODGE_VM_API_INTERNAL_H
#define LODGE_VM_API_INTERNAL_H

#include <jansson.h>

#include "display/typer.h"
#include "vm/api.h"
#include "vm/internal.h"

/* One request and its answer. A handler ends it by one of api_done, api_json and api_fail, at once or later. */
struct api_call {
    struct vm *vm;
    struct typer *typer; /* NULL: a machine without a screen */
    json_t *in;          /* the body, an object; NULL: none */

    struct api *api; /* the rest is api.c's */
    struct MHD_Connection *connection;
    const struct api_route *route;
    char *body;
    size_t size;
    bool too_long, suspended, answered;
    unsigned status;
    const char *type;
    void *out;
    size_t out_size;
};

struct api_route {
    const char *method, *name; /* after /api/v1/ */
    bool body;                 /* wants an object */
    void (*handle)(struct api_call *c);
};
extern const struct api_route api_vm_routes[], api_screen_routes[]; /* end with a NULL method */

/* Answered at once, or later by whoever has the call then. */
void api_handle(struct api_call *c, const char *url, const char *method);

void api_done(struct api_call *c, unsigned status);                  /* no body */
void api_json(struct api_call *c, json_t *value);                    /* 200; takes the reference */
void api_bytes(struct api_call *c, const char *type, void *data, size_t size); /* 200; data becomes its own (free) */
/* As Cloud Hypervisor says it: a JSON array of sentences. */
void api_fail(struct api_call *c, unsigned status, const char *fmt, ...) printf_like(3, 4);
u32 api_bios_keys(void *ctx, u32 *where); /* a typer_kept; ctx: struct vm */
/* Pictures that are being made are waited for, and sent. */
void api_screen_close(struct vm *v);
/* api_media.c: discs that are being opened are not waited for, those that are being closed are. */
void api_change_media(struct api_call *c);
void api_media_close(struct vm *v);

#endif
