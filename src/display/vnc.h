/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc.h - the screen over VNC (RFC 6143), from the machine's side. Another process, "lodge displayd" (displayd.h),
 * serves the viewers. It can see the picture and send keys, and can do nothing else with the machine. Loop thread.
 */
#ifndef LODGE_DISPLAY_VNC_H
#define LODGE_DISPLAY_VNC_H

#include "display/display.h"
#include "display/input.h"

struct vnc;

struct vnc_params {
    const char *where;     /* HOST:PORT or unix:PATH. PORT 0: any free port. An address that others can reach needs a
                              password */
    const char *password;  /* a file, whose first line is the password; VNC uses eight characters of it; NULL: none */
    const char *tls_creds; /* a folder with server-cert.pem and server-key.pem as in qemu: VeNCrypt X509None or
                              X509Vnc, or a WebSocket over TLS; NULL: none */
};
/* title: viewers show it. NULL with err set. */
struct vnc *vnc_open(const struct vnc_params *o, const char *title, struct display *d, struct input *in, struct loop *loop,
                     struct error *err);
/* For tests: uses a screen's process that exists already. sock: SOCK_SEQPACKET; the vnc owns it from here on. NULL:
   it failed. */
struct vnc *vnc_attach(int sock, struct display *d, struct input *in, struct loop *loop);
void vnc_close(struct vnc *v); /* may be NULL */
/* The address where it listens, "127.0.0.1:5900" or "unix:PATH". */
const char *vnc_address(const struct vnc *v);

#endif
