/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_fuse.c - the server of shared folders against random requests: nothing outside its folder may change, and nothing
 * in it if it is read-only.
 *
 *   byte 0        1: read-only
 *   requests      opcode, node, length of the arguments, two names by number, then the arguments, where 8-byte words with
 *                 MARK in their high half become numbers of this session
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "share/share.h"

enum { TREE_LIFE = 1000, OUT = 16384 };
#define MARK 0xeeeeeeeeull

static char top[64], folder[80], secret[80], inside[96];
static struct stat canary[3];

static void shell(const char *what)
{
    char command[512];
    snprintf(command, sizeof command, what, top);
    if (system(command))
        abort();
}

static void remove_all(void) { shell("chmod -R u+rwX %1$s; rm -rf %1$s"); }

static void look(struct stat st[3], const char *third)
{
    if (stat(top, &st[0]) || stat(secret, &st[1]) || stat(third, &st[2]))
        abort();
}

static void make_tree(void)
{
    strcpy(top, "/tmp/lodge-fuzz-fuse-XXXXXX");
    if (!mkdtemp(top))
        abort();
    snprintf(folder, sizeof folder, "%s/share", top);
    snprintf(secret, sizeof secret, "%s/secret", top);
    snprintf(inside, sizeof inside, "%s/a", folder);
    shell("cd %s && mkdir -p share/dir && echo canary >secret && echo text >share/a && echo b >share/dir/b &&"
          "ln -s ../secret share/out && ln -s .. share/up && mkfifo share/fifo");
    look(canary, inside);
}

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_mode == b->st_mode && a->st_size == b->st_size && a->st_nlink == b->st_nlink &&
           a->st_uid == b->st_uid && !memcmp(&a->st_mtim, &b->st_mtim, sizeof a->st_mtim) &&
           !memcmp(&a->st_ctim, &b->st_ctim, sizeof a->st_ctim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const name[] = { "a", "dir", "b", "out", "up", "fifo", "new", "..", ".", "", "../secret", "up/secret",
                                        "user.x", "secret", "a/b", "out" };
    static unsigned runs;
    static u8 in[4096], out[OUT];
    if (!runs) {
        const struct rlimit small = { 1 << 20, 1 << 20 };
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &small);
        atexit(remove_all);
        umask(022);
    } else if (!(runs % TREE_LIFE)) {
        remove_all();
    }
    if (!(runs++ % TREE_LIFE))
        make_tree();
    const bool readonly = size && data[0] & 1;
    struct fuse_server *s = fuse_server_new(open(folder, O_PATH | O_DIRECTORY), "/proc/self/fd", readonly, NULL);
    struct stat before[3], after[3];
    u64 epoch = 0;
    if (!s)
        return 0;
    if (readonly)
        look(before, folder);
    for (size_t pos = 1; pos + 5 <= size;) {
        const u8 *r = data + pos;
        const u32 nargs = MIN((u32)r[2], (u32)(size - pos - 5));
        struct fuse_in_header h = { .opcode = r[0], .unique = pos, .nodeid = r[1] == 255 ? ~0ull : r[1] == 1 ? 1 : epoch << 32 | r[1] };
        u32 len = sizeof h;
        memcpy(in + len, r + 5, nargs);
        for (u32 k = 0; k + 8 <= nargs; k += 8)
            if (((u64 *)(void *)(in + len + k))[0] >> 32 == MARK)
                memcpy(in + len + k + 4, &epoch, 4);
        len += nargs;
        for (u32 k = 0; k < 2; k++) {
            const char *n = name[r[3 + k] & 15];
            memcpy(in + len, n, strlen(n) + 1);
            len += (u32)strlen(n) + (r[3 + k] < 240);
        }
        h.len = len;
        memcpy(in, &h, sizeof h);
        u8 *exact = malloc(len); /* a sanitizer sees a read past its end */
        memcpy(exact, in, len);
        const struct iovec request[] = { { exact, 13 }, { exact + 13, len - 13 } },
                           room[] = { { out, 24 }, { out + 24, r[1] & 128 ? 40 : OUT - 24 } };
        const struct fuse_message m = { .out = request, .in = room, .nout = 2, .nin = r[4] & 16 ? 1 : 2 };
        const u64 answer = fuse_server_serve(s, &m);
        if (answer > 24 + (m.nin == 2 ? room[1].iov_len : 0) || (answer && ((struct fuse_out_header *)(void *)out)->len != answer) ||
            (answer && ((struct fuse_out_header *)(void *)out)->error > 0))
            abort();
        free(exact);
        if (r[0] == FUSE_LOOKUP && answer >= 24)
            epoch = *(u64 *)(void *)(out + sizeof(struct fuse_out_header)) >> 32;
        pos += 5 + nargs;
    }
    fuse_server_free(s);
    look(after, readonly ? folder : top);
    if (!same(&after[0], &canary[0]) || !same(&after[1], &canary[1]) || (readonly && !same(&after[2], &before[2])))
        abort();
    return 0;
}

static u8 *put(u8 *p, u8 opcode, u8 node, u8 name, u8 other, const void *args, size_t n)
{
    const u8 head[5] = { opcode, node, (u8)n, name, other };
    memcpy(p, head, 5);
    memcpy(p + 5, args, n);
    return p + 5 + n;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    const struct fuse_init_in init = { .major = 7, .minor = 38, .flags = ~0u };
    const struct fuse_create_in create = { .flags = O_RDWR | (i & 2 ? O_TRUNC : 0), .mode = 0644 };
    const struct fuse_open_in open_in = { .flags = i & 2 ? O_RDWR | O_TRUNC : O_RDONLY };
    const struct fuse_read_in rd = { .fh = MARK << 32 | 2, .size = 4096 };
    const struct fuse_write_in wr = { .fh = MARK << 32, .size = 16, .offset = 3 };
    const struct fuse_setattr_in attr = { .valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME | FATTR_ATIME, .mode = 0755, .size = 5, .fh = MARK << 32 };
    const struct fuse_rename2_in mv = { .newdir = MARK << 32 | 2 };
    const struct fuse_link_in ln = { .oldnodeid = MARK << 32 | 3 };
    const struct fuse_mkdir_in mk = { .mode = 0755 };
    const struct fuse_mknod_in nod = { .mode = S_IFIFO | 0600 };
    const struct fuse_setxattr_in set = { .size = 2 };
    const struct fuse_getxattr_in get = { .size = 100 };
    const struct fuse_release_in rel = { .fh = MARK << 32 };
    const struct fuse_forget_in forget = { .nlookup = 1 };
    const struct fuse_copy_file_range_in copy = { .fh_in = MARK << 32, .fh_out = MARK << 32 | 1, .len = 100 };
    const struct fuse_fallocate_in fall = { .fh = MARK << 32, .length = 100 };
    u8 *p = buf;
    if (i >= 8)
        return 0;
    *p++ = (u8)(i & 1);
    p = put(p, FUSE_INIT, 0, 9, 9, &init, sizeof init);
    p = put(p, FUSE_LOOKUP, 1, 1, 9, "", 0);
    p = put(p, FUSE_LOOKUP, 1, i & 4 ? 3 : 0, 9, "", 0);
    p = put(p, FUSE_LOOKUP, 2, 2, 9, "", 0);
    p = put(p, FUSE_LOOKUP, 1, 4, 9, "", 0);
    p = put(p, FUSE_CREATE, 1, i & 4 ? 3 : 6, 9, &create, sizeof create);
    p = put(p, FUSE_OPEN, 3, 9, 9, &open_in, sizeof open_in);
    p = put(p, FUSE_OPENDIR, 1, 9, 9, &open_in, sizeof open_in);
    p = put(p, i & 1 ? FUSE_READDIR : FUSE_READDIRPLUS, 1, 9, 9, &rd, sizeof rd);
    p = put(p, FUSE_WRITE, 3, 10, 11, &wr, sizeof wr);
    p = put(p, FUSE_READ, 3, 9, 9, &rd, sizeof rd);
    p = put(p, FUSE_SETATTR, 3, 9, 9, &attr, sizeof attr);
    p = put(p, FUSE_LINK, 1, 7, 9, &ln, sizeof ln);
    p = put(p, FUSE_RENAME2, 1, 6, 13, &mv, sizeof mv);
    p = put(p, FUSE_MKDIR, 2, 14, 9, &mk, sizeof mk);
    p = put(p, FUSE_MKNOD, 2, 6, 9, &nod, sizeof nod);
    p = put(p, FUSE_SYMLINK, 2, 6, 10, "", 0);
    p = put(p, FUSE_READLINK, 5, 9, 9, "", 0);
    p = put(p, FUSE_SETXATTR, 3, 12, 0, &set, FUSE_COMPAT_SETXATTR_IN_SIZE);
    p = put(p, FUSE_GETXATTR, 3, 12, 9, &get, sizeof get);
    p = put(p, FUSE_FALLOCATE, 3, 9, 9, &fall, sizeof fall);
    p = put(p, FUSE_COPY_FILE_RANGE, 3, 9, 9, &copy, sizeof copy);
    p = put(p, FUSE_UNLINK, 1, 5, 9, "", 0);
    p = put(p, FUSE_RELEASE, 3, 9, 9, &rel, sizeof rel);
    p = put(p, FUSE_FORGET, 3, 9, 9, &forget, sizeof forget);
    p = put(p, i & 4 ? FUSE_DESTROY : FUSE_STATFS, 1, 9, 9, "", 0);
    return (size_t)(p - buf);
}
