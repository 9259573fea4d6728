/* SPDX-License-Identifier: Apache-2.0 */
/* selfcheck_processes.c - processes that are started, that pass each other data, and that wait for each other. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "selfcheck.h"

u64 digest(u64 h, const u8 *p, size_t n)
{
    for (size_t k = 0; k < n; k++)
        h = (h ^ p[k]) * 0x100000001b3ull, h ^= h >> 29;
    return h;
}
void processes(void)
{
    char arg[32], *argv[] = { (char *)"selfcheck", (char *)"--digest", arg, NULL };
    u8 data[512];
    for (; going();) {
        const u64 s = rnd() >> 1;
        snprintf(arg, sizeof arg, "%lu", s);
        u64 want = s, got = 0;
        for (unsigned k = 0; k < 40; k++) {
            memset(data, (int)(s >> k & 255), sizeof data);
            want = digest(want, data, sizeof data);
        }
        int fd[2], status;
        if (pipe(fd))
            continue;
        const pid_t pid = fork();
        if (!pid) {
            dup2(fd[1], 9);
            execv("/proc/self/exe", argv);
            _exit(3);
        }
        close(fd[1]);
        if (read(fd[0], &got, 8) != 8 || got != want)
            bad("a process made %#lx, not %#lx", got, want);
        close(fd[0]);
        if (waitpid(pid, &status, 0) != pid || status)
            bad("a process ended with %#x", status);
    }
}

/* A stream through two pipes and a process between them. */
void streams(void)
{
    int in[2], out[2];
    if (pipe(in) || pipe(out))
        return;
    const pid_t pid = fork();
    u8 buf[3000];
    if (!pid) {
        close(in[1]), close(out[0]);
        for (ssize_t n; (n = read(in[0], buf, sizeof buf)) > 0;) {
            for (ssize_t k = 0; k < n; k++)
                buf[k] ^= 0x5a;
            for (ssize_t at = 0, m; at < n; at += m)
                if ((m = write(out[1], buf + at, (size_t)(n - at))) <= 0)
                    _exit(1);
        }
        _exit(0);
    }
    close(in[0]), close(out[1]);
    const int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    for (; going();) {
        const size_t n = 1 + rnd() % sizeof buf;
        u8 sent[sizeof buf], back[sizeof buf];
        for (size_t k = 0; k < n; k++)
            sent[k] = (u8)rnd();
        if (write(in[1], sent, n) != (ssize_t)n)
            bad("write to a pipe: %d", errno);
        for (size_t at = 0; at < n;) {
            const ssize_t m = read(out[0], buf + at, n - at);
            if (m <= 0) {
                bad("read from a pipe: %d", errno);
                return;
            }
            at += (size_t)m;
        }
        for (size_t k = 0; k < n; k++)
            buf[k] ^= 0x5a;
        if (memcmp(buf, sent, n))
            bad("a pipe of %zu bytes", n);
        if (file >= 0) {
            const off_t at = (off_t)(rnd() % 300000);
            if (pwrite(file, sent, n, at) != (ssize_t)n || pread(file, back, n, at) != (ssize_t)n || memcmp(back, sent, n))
                bad("a file of %zu bytes", n);
        }
    }
    close(in[1]);
    waitpid(pid, NULL, 0);
}

/* Two processes in turn. */
static void turns(unsigned me)
{
    pin((int)me);
    u32 *f = &sh->futex[0];
    const struct timespec second = { 1, 0 };
    for (u32 turn = me;; turn += 2) {
        for (u32 x; (x = __atomic_load_n(f, __ATOMIC_SEQ_CST)) != turn;) {
            if (x > turn && x != UINT32_MAX)
                bad("futex: turn %u, and it is %u", turn, x);
            if (x > turn)
                return;
            syscall(SYS_futex, f, FUTEX_WAIT, x, &second, NULL, 0);
        }
        if (++sh->futex[1] != turn + 1)
            bad("futex: %u turns, not %u", sh->futex[1], turn + 1);
        const int more = going();
        __atomic_store_n(f, more ? turn + 1 : UINT32_MAX, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, f, FUTEX_WAKE, 2, NULL, NULL, 0);
        if (!more)
            return;
    }
}
void turns0(void) { turns(0); }
void turns1(void) { turns(1); }
