/* SPDX-License-Identifier: Apache-2.0 */
/* fuse_rig.h - the server of shared folders, asked without a device. Include it in one .c of a test program. */
#ifndef LODGE_TEST_FUSE_RIG_H
#define LODGE_TEST_FUSE_RIG_H

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "share/share.h"
#include "test.h"

static u8 in[1 << 17], out[1 << 17];
static u32 body; /* of the last answer */

/* The request in pieces of odd sizes; returns 0 or -errno. */
static inline int ask(struct fuse_server *s, u32 opcode, u64 node, const void *args, u32 nargs, const void *more, u32 nmore)
{
    struct fuse_in_header h = { .len = (u32)sizeof h + nargs + nmore, .opcode = opcode, .unique = 7, .nodeid = node };
    struct iovec request[4], answer[] = { { out, 9 }, { out + 9, sizeof out - 9 } };
    struct fuse_message m = { .out = request, .in = answer, .nin = ARRAY_SIZE(answer) };
    u32 at = 0;
    memcpy(in, &h, sizeof h);
    memcpy(in + sizeof h, args, nargs);
    memcpy(in + sizeof h + nargs, more, nmore);
    for (const u32 step[] = { 3, 37, 1, UINT32_MAX }; at < h.len;) {
        const u32 n = MIN(step[m.nout], h.len - at);
        request[m.nout++] = (struct iovec){ in + at, n };
        at += n;
    }
    const u64 len = fuse_server_serve(s, &m);
    const struct fuse_out_header *a = (const void *)out;
    if (!len)
        return 1;
    CHECK_EQ(len, a->len);
    CHECK_EQ(a->unique, 7);
    body = a->len - (u32)sizeof *a;
    return a->error;
}
static inline int ask_name(struct fuse_server *s, u32 opcode, u64 node, const char *name)
{
    return ask(s, opcode, node, "", 0, name, (u32)strlen(name) + 1);
}
#define ANSWER(type) ((const type *)(const void *)(out + sizeof(struct fuse_out_header)))

static inline u64 lookup(struct fuse_server *s, u64 node, const char *name)
{
    return ask_name(s, FUSE_LOOKUP, node, name) ? 0 : ANSWER(struct fuse_entry_out)->nodeid;
}

static inline u64 open_node(struct fuse_server *s, u32 opcode, u64 node, u32 flags, int *rc)
{
    const struct fuse_open_in o = { .flags = flags };
    *rc = ask(s, opcode, node, &o, sizeof o, "", 0);
    return ANSWER(struct fuse_open_out)->fh;
}

#endif
