/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc_message.h - the messages between the machine (vnc.c), the screen's process (displayd.c) and a viewer's process
 * (viewer.c): fixed messages over SOCK_SEQPACKET sockets. Each process distrusts the one that is nearer to the
 * stranger.
 */
#ifndef LODGE_DISPLAY_VNC_MESSAGE_H
#define LODGE_DISPLAY_VNC_MESSAGE_H

#include <limits.h>

#include "base/error.h"

enum { VNC_MAGIC = 0x434e564c /* "LVNC" */, VNC_MAX_VIEWERS = 16 };
enum { VNC_FD_MACHINE = 3, VNC_FD_LISTENER, VNC_FD_PICTURE }; /* the descriptors that displayd has at its start */

struct vnc_hello { /* the machine's first message; the answer is struct vnc_answer */
    u32 magic, width, height;
    char title[80];
    char password[9]; /* "": no password is needed */
    char tls[PATH_MAX]; /* the directory, or "" */
};

struct vnc_answer {
    u32 magic;
    s32 result; /* -errno with the sentence in err; 0: err says what the sandbox lacks on this host, or "" */
    struct error err;
};

enum vnc_type {
    VNC_SIZE,    /* to viewers: from now on the picture is w * h, and all of it has changed */
    VNC_CHANGED, /* to viewers: this rectangle has changed */
    VNC_VIEWERS, /* displayd to the machine: x viewers look; one may have left with keys held down */
    VNC_KEY,     /* a viewer to the machine: KEY_ code x is down (y 1) or up (y 0) */
    VNC_POINTER, /* a viewer to the machine: position x, y in a picture of w * h, INPUT_ buttons, wheel */
    VNC_READY,   /* a viewer to displayd: it has logged in */
};

struct vnc_message {
    u32 type;
    u32 x, y, w, h;
    s16 wheel;
    u16 buttons;
};

#endif
