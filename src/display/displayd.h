/* SPDX-License-Identifier: Apache-2.0 */
/*
 * displayd.h - "lodge displayd": the process that meets viewers for one machine. It accepts them and starts a process
 * for each. Only that process reads what the stranger sends. So a viewer that stalls, floods or breaks in affects only
 * its own process. displayd ends when the machine's socket ends.
 */
#ifndef LODGE_DISPLAY_DISPLAYD_H
#define LODGE_DISPLAY_DISPLAYD_H

#include "display/vnc_message.h"

int displayd_main(int argc, char **argv); /* the exit status */

/* ---- viewer.c, vnc_tls.c: only for displayd ---- */

struct viewer {
    int client;   /* the stranger's socket */
    int displayd; /* rectangles come from it, VNC_READY goes to it */
    int machine;  /* keys and pointer go to it */
    const u32 *picture;
    u32 width, height;
    const char *title, *password;
};

enum { VIEWER_LOGIN_S = 15 /* the time to log in */, VIEWER_WAIT_MS = 15000 /* longest wait within a message */ };

/* Serve one viewer; they do not return. */
_Noreturn void viewer_serve(struct viewer *v);

struct vnc_tls;
struct vnc_tls *vnc_tls_load(const char *dir, struct error *err); /* NULL with err set */
_Noreturn void vnc_tls_serve(struct vnc_tls *t, struct viewer *v);

#endif
