/* SPDX-License-Identifier: Apache-2.0 */
/* api_client.c - see api_client.h. */
#include "cli/api_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/unix_socket.h"
#include "cli/cli.h"
#include "store/store.h"

int api_path(const char *machine, char path[PATH_MAX], struct error *err)
{
    char dir[RUNTIME_DIR];

    if (strchr(machine, '/')) {
        snprintf(path, PATH_MAX, "%s", machine);
        return 0;
    }
    if (!image_name_valid(machine))
        return error_set(err, EINVAL, "\"%.80s\" is no machine's name; a socket's path has a slash in it: ./%.80s",
                         machine, machine);
    const int r = runtime_dir("the machine's control socket", dir, err);
    if (!r)
        snprintf(path, PATH_MAX, "%s/%s.sock", dir, machine);
    return r;
}

int api_call(const char *machine, const char *method, const char *name, json_t *in, u32 patience,
             struct http_answer *a, struct error *err)
{
    char socket[PATH_MAX], path[128];
    int r = api_path(machine, socket, err);

    *a = (struct http_answer){ 0 };
    if (r) {
        json_decref(in);
        return r;
    }
    snprintf(path, sizeof path, "/api/v1/%s", name);
    r = http_ask(&(struct http_request){ socket, "the machine", method, path, in, patience }, a, err);
    if (api_nobody(r, a))
        error_set(err, -r, strchr(machine, '/') ? "nobody listens on %s; \"lodge run --api-socket PATH\" does"
                                                : "the machine %s does not run; \"lodge run\" starts it", machine);
    return r;
}

int api_exit(int r, const struct http_answer *a)
{
    if (!r)
        return STATUS_OK;
    return a->status == HTTP_BAD_REQUEST ? STATUS_USAGE : STATUS_FAILED;
}
