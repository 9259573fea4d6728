/* SPDX-License-Identifier: Apache-2.0 */
/* api.c - a machine's control socket: the tables of calls, on a server of http/. */
#include "vm/api.h"

#include <errno.h>
#include <stdlib.h>

#include "vm/api_internal.h"

struct api *api_open(struct vm *v, const char *path, struct error *err)
{
    struct api *a = calloc(1, sizeof *a);

    if (!a) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    a->vm = v;
    a->routes[0] = (struct http_routes){ API_PREFIX, api_vm_routes, a };
    a->routes[1] = (struct http_routes){ API_PREFIX, api_screen_routes, a };
    if (v->input && !(a->typer = typer_new(v->loop, v->input, api_bios_keys, v)))
        error_set(err, ENOMEM, "out of memory");
    else
        a->server = http_server_open(v->loop, "api_socket: ", path, a->routes, NULL, err);
    if (a->server)
        return a;
    api_close(a);
    return NULL;
}

void api_close(struct api *a)
{
    if (!a)
        return;
    /* These answer the calls that wait. */
    api_screen_close(a->vm);
    api_media_close(a->vm);
    typer_free(a->typer);
    http_server_close(a->server);
    free(a);
}
