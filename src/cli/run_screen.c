/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_screen.c - the options of "lodge run" for its screen and its control socket.
 */
#include <errno.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run.h"

int run_set_display(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!strcmp(value, "none")) {
        o->config.display = NULL;
        return 0;
    }
    if (strncmp(value, "vnc:", 4) || !value[4])
        return error_set(err, EINVAL, "--display %s: it is none, vnc:HOST:PORT (vnc:127.0.0.1:5900) or vnc:unix:PATH",
                         value);
    o->config.display = value + 4;
    return 0;
}

int run_set_api_socket(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!*value)
        return error_set(err, EINVAL, "--api-socket needs the path of its socket");
    o->config.api_socket = value;
    return 0;
}
