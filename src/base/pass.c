/* SPDX-License-Identifier: Apache-2.0 */
/* pass.c - see pass.h. */
#include "base/pass.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    struct cmsghdr align;
    char buf[CMSG_SPACE(PASS_MOST * sizeof(int))];
};

int pass_send(int sock, const void *data, size_t len, const int *fd, u32 n, int flags)
{
    struct iovec iov = { (void *)(uintptr_t)data, len };
    union control control = { .buf = { 0 } };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t sent;

    assert(n <= PASS_MOST);
    if (n) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(n * sizeof(int));
        *CMSG_FIRSTHDR(&m) = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fd, n * sizeof(int));
    }
    do
        sent = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : (size_t)sent == len ? 0 : -EIO;
}

ssize_t pass_receive_some(int sock, void *data, size_t most_len, int *fd, u32 most, u32 *got, int flags)
{
    struct iovec iov = { data, most_len };
    union control control;
    /* CMSG_SPACE is rounded up to 8 bytes, where the kernel would find room for one descriptor more. CMSG_LEN is not
       rounded. */
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(most * sizeof(int)) };
    ssize_t n;

    assert(most <= PASS_MOST);
    *got = 0;
    for (u32 i = 0; i < most; i++)
        fd[i] = -1;
    do
        n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | flags);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        *got = (u32)MIN((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), (size_t)most);
        memcpy(fd, CMSG_DATA(c), *got * sizeof(int));
    }
    if (n && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return n;
    const bool no_room = (m.msg_flags & MSG_CTRUNC) && *got < most;
    for (u32 i = 0; i < *got; i++) {
        close(fd[i]);
        fd[i] = -1;
    }
    *got = 0;
    return !n ? -ECONNRESET : no_room ? -EMFILE : -EPROTO;
}

int pass_receive(int sock, void *data, size_t len, int *fd, u32 most)
{
    u32 got;
    const ssize_t n = pass_receive_some(sock, data, len, fd, most, &got, 0);

    if (n < 0)
        return (int)n;
    if ((size_t)n == len)
        return (int)got;
    for (u32 i = 0; i < got; i++) {
        close(fd[i]);
        fd[i] = -1;
    }
    return -EPROTO;
}
