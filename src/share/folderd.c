/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folderd.c - see folderd.h. It has one thread and serves one request at a time. While the host's disk lets it wait, requests
 * stay in the socket.
 */
#include "share/folderd.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/opener.h"
#include "base/sandbox.h"
#include "share/folder_message.h"
#include "share/share.h"

struct memory_view {
    u8 *at;
    u64 size;
};

/* The machine makes its memory while it is built, also after this process was started. It never shrinks. False: place
   lies outside all the same. */
static bool reach(struct memory_view *v, u64 end)
{
    struct stat st;

    if (end <= v->size)
        return true;
    if (fstat(FOLDER_FD_MEMORY, &st) || (u64)st.st_size < end)
        return false;
    u8 *at = v->at ? mremap(v->at, v->size, (size_t)st.st_size, MREMAP_MAYMOVE)
                   : mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, FOLDER_FD_MEMORY, 0);
    if (at == MAP_FAILED)
        return false;
    v->at = at;
    v->size = (u64)st.st_size;
    return true;
}

/* The request's pieces as memory of this process. False: this is no request. */
static bool find_pieces(struct memory_view *v, const struct folder_request *q, size_t len, struct iovec *iov)
{
    const size_t head = offsetof(struct folder_request, piece);

    if (len < head || q->nout > FOLDER_MAX_PIECES || q->nin > FOLDER_MAX_PIECES - q->nout ||
        len != head + (q->nout + q->nin) * sizeof q->piece[0])
        return false;
    for (u32 i = 0; i < q->nout + q->nin; i++) {
        u64 end;
        if (add_overflows(q->piece[i].place, q->piece[i].length, &end) || !reach(v, end))
            return false;
    }
    for (u32 i = 0; i < q->nout + q->nin; i++) /* only now, since the view may have moved */
        iov[i] = (struct iovec){ v->at + q->piece[i].place, q->piece[i].length };
    return true;
}

static int serve(struct fuse_server *s)
{
    struct memory_view v = { NULL, 0 };
    struct folder_request q;
    struct iovec iov[FOLDER_MAX_PIECES];

    for (;;) {
        const ssize_t n = recv(FOLDER_FD_MACHINE, &q, sizeof q, MSG_TRUNC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* the machine has closed its end */
        if ((size_t)n > sizeof q || !find_pieces(&v, &q, (size_t)n, iov)) {
            fprintf(stderr, "a message of the machine's is none that it may send\n");
            return 1;
        }
        struct folder_done d = { .id = q.id };
        if (q.type == FOLDER_FORGET)
            fuse_server_reset(s);
        else
            d.length = (u32)fuse_server_serve(s, &(struct fuse_message){ iov, iov + q.nout, q.nout, q.nin });
        while (send(FOLDER_FD_MACHINE, &d, sizeof d, MSG_NOSIGNAL) < 0)
            if (errno != EINTR)
                return 0;
    }
    fuse_server_free(s);
    return 0;
}

static struct fuse_server *begin(bool readonly, struct error *err)
{
    struct sandbox_folder f = { .folder = FOLDER_FD_FOLDER, .readonly = readonly };
    struct error missing;

    if (faccessat(f.folder, ".", R_OK | X_OK, 0)) {
        error_set(err, errno, "this user may not read it");
        return NULL;
    }
    if (access("/proc/self/fd", X_OK)) {
        error_set(err, errno, "/proc is needed to open files");
        return NULL;
    }
    opener_raise_limit(); /* each file that the guest knows is a descriptor */
    if (sandbox_enter_folder(&f, err))
        return NULL;
    missing = *err;
    struct fuse_server *s = fuse_server_new(f.folder, f.self, readonly, err);
    if (s)
        *err = missing;
    return s;
}

int folderd_main(int argc, char **argv)
{
    struct folder_answer a = { .magic = FOLDER_MAGIC };
    struct folder_hello hello;

    if (argc != 1 || recv(FOLDER_FD_MACHINE, &hello, sizeof hello, 0) != sizeof hello || hello.magic != FOLDER_MAGIC) {
        fprintf(stderr, "lodge: \"folderd\" is for lodge itself\n");
        return 2;
    }
    prctl(PR_SET_NAME, "lodge-share");
    struct fuse_server *s = begin(hello.readonly, &a.err);
    if (!s)
        a.result = a.err.code ? -a.err.code : -EIO;
    if (send(FOLDER_FD_MACHINE, &a, sizeof a, MSG_NOSIGNAL) != sizeof a || !s)
        return 1;
    return serve(s);
}
