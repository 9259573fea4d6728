/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc_message.h - what the machine (vnc.c), the screen's process (displayd.c) and a viewer's process (viewer.c) say to
 * each other: fixed messages over SOCK_SEQPACKET sockets.  None trusts the one nearer to the stranger.
 */
#ifndef LODGE_DISPLAY_VNC_MESSAGE_H
#define LODGE_DISPLAY_VNC_MESSAGE_H

#include <limits.h>

#include "base/error.h"

enum { VNC_MAGIC = 0x434e564c /* "LVNC" */, VNC_MAX_VIEWERS = 16 };
enum { VNC_FD_MACHINE = 3, VNC_FD_LISTENER, VNC_FD_PICTURE }; /* displayd's descriptors as it starts */

struct vnc_hello { /* the machine's first; the answer is struct vnc_answer */
    u32 magic, width, height;
    char title[80];
    char password[9]; /* "": none is asked for */
    char tls[PATH_MAX]; /* the directory, or "" */
};

struct vnc_answer {
    u32 magic;
    s32 result; /* -errno with the sentence in err; 0: err says what its sandbox has not got here, or "" */
    struct error err;
};

enum vnc_type {
    VNC_SIZE,    /* to viewers: the picture is w * h from now on, all of it changed */
    VNC_CHANGED, /* to viewers: the rectangle */
    VNC_VIEWERS, /* displayd to the machine: x of them look; one may have gone with keys held */
    VNC_KEY,     /* a viewer to the machine: KEY_ code x is down (y 1) or up (y 0) */
    VNC_POINTER, /* the same: position x, y in a picture of w * h, INPUT_ buttons, wheel */
    VNC_READY,   /* a viewer to displayd: has got in */
};

struct vnc_message {
    u32 type;
    u32 x, y, w, h;
    s16 wheel;
    u16 buttons;
};

#endif
