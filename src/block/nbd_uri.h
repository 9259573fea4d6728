/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbd_uri.h - where a disk on a server is: the NBD project's "NBD URI specification", with the tls- parameters that libnbd
 * has beside it (nbd_connect_uri(3)).
 */
#ifndef LODGE_BLOCK_NBD_URI_H
#define LODGE_BLOCK_NBD_URI_H

#include <limits.h>

#include "base/base.h"

struct nbd_uri {
    bool tls;
    char host[256], port[6];          /* of TCP; port: decimal, 10809 if the URI has none */
    char socket[108];                 /* of a unix socket; "": TCP */
    char export[PATH_MAX];            /* "": the server's default */
    char user[256];                   /* "": libnbd's default */
    char psk[PATH_MAX], certificates[PATH_MAX]; /* tls-psk-file, tls-certificates; "": none */
};

/* 0; -EINVAL; -ENOTSUP: nbd+vsock, nbd+ssh and parameters that are not known here. */
int must_check nbd_uri_parse(const char *text, struct nbd_uri *u);

#endif
