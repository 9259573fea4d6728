/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folder_message.h - the messages between the machine (folder.c, virtio/virtio_fs.c) and the process that serves a
 * folder (folderd.c), over a SOCK_SEQPACKET socket. Requests are carried out and answered in their order. What they say
 * is in the guest's memory, which the process has mapped: a message has only the places.
 */
#ifndef LODGE_SHARE_FOLDER_MESSAGE_H
#define LODGE_SHARE_FOLDER_MESSAGE_H

#include "base/error.h"

enum { FOLDER_MAGIC = 0x444c4f46 /* "FOLD" */, FOLDER_MAX_PIECES = 1026 };
enum { FOLDER_FD_MACHINE = 3, FOLDER_FD_FOLDER, FOLDER_FD_MEMORY }; /* the descriptors that the process has at its start */

struct folder_hello { /* the machine's first message; the answer is struct folder_answer */
    u32 magic, readonly;
};

struct folder_answer {
    u32 magic;
    s32 result; /* -errno with the sentence in err; 0: err says what the sandbox lacks on this host, or "" */
    struct error err;
};

enum folder_type {
    FOLDER_SERVE,  /* a FUSE request */
    FOLDER_FORGET, /* a new session: all files that the guest knows and has open are forgotten */
};

struct folder_piece {
    u64 place, length; /* memory/memory.h: the offset in the memfd; bytes */
};

struct folder_request { /* as long as it has pieces: those to read, and then those to write */
    u32 type, id, nout, nin;
    struct folder_piece piece[FOLDER_MAX_PIECES];
};

struct folder_done {
    u32 id;
    u32 length; /* bytes that were written, from the first piece to write on */
};

#endif
