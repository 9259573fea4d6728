/* SPDX-License-Identifier: Apache-2.0 */
/* runner_gate.c - the processes in which a guest's programs run, seen from the engine: made on request by "lodge directd", and
   told to go on by the answer to their reports (seccomp_unotify(2)). */
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/pass.h"
#include "engine/soft/direct/direct.h"

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP /* Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

static bool receive(struct direct_runner *r, u64 arg[3])
{
    struct seccomp_notif n;
    for (;;) {
        /* Before Linux 6.11 the wait for a report does not end with the process. */
        struct pollfd p = { .fd = r->notify, .events = POLLIN };
        if (r->polls && poll(&p, 1, -1) > 0 && !(p.revents & POLLIN))
            return false;
        memset(&n, 0, sizeof n);
        if (!ioctl(r->notify, SECCOMP_IOCTL_NOTIF_RECV, &n))
            break;
        if (errno != EINTR)
            return false;
    }
    r->id = n.id;
    for (unsigned k = 0; k < 3; k++)
        arg[k] = n.data.args[k];
    return n.data.instruction_pointer == r->report;
}

bool runner_go(struct direct_runner *r, u64 arg[3])
{
    struct seccomp_notif_resp answer = { .id = r->id, .val = (s64)r->secret };
    while (ioctl(r->notify, SECCOMP_IOCTL_NOTIF_SEND, &answer))
        if (errno != EINTR)
            return false;
    return receive(r, arg);
}

void runner_heard(struct direct_runner *r)
{
    char c;
    while (read(r->bell_end, &c, 1) == 1)
        ;
}

bool runner_polls(void)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    return uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2 || major < 6 || (major == 6 && minor < 11);
}

void runner_free(struct direct_runner *r)
{
    if (!r)
        return;
    /* Without a listener its report fails, and what it does then kills it. */
    for (int *fd = (int[]){ r->notify, r->bell, r->bell_end, -1 }; *fd >= 0; fd++)
        close(*fd);
    if (r->room)
        munmap(r->room, RUNNER_ROOM);
    free(r);
}

static bool sensible(const struct runner_answer *a)
{
    const u64 from = RUNNER_BASE + RUNNER_CODE;
    return a->magic == RUNNER_MAGIC && !a->result && a->report - from < GUEST_PAGE_SIZE && a->sigreturn - from < GUEST_PAGE_SIZE;
}

bool runner_guard(struct soft_vcpu *v, struct direct_runner *r, const u64 address[RUNNER_GUARDS])
{
    soft_vec_save(v);
    struct runner_guard q = { .magic = RUNNER_GUARD_MAGIC, .pid = r->pid };
    struct runner_answer a = { .magic = 0 };
    u64 arg[3];
    memcpy(q.address, address, sizeof q.address);
    pthread_mutex_lock(&v->vm->direct_lock);
    bool ok = send(v->vm->cfg.direct, &q, sizeof q, MSG_NOSIGNAL) == sizeof q;
    while (ok && recv(v->vm->cfg.direct, &a, sizeof a, 0) < 0)
        ok = errno == EINTR;
    pthread_mutex_unlock(&v->vm->direct_lock);
    r->unguarded = !ok || a.magic != q.magic || a.result;
    /* Whether it was stopped or not: one report waits for its answer. */
    return !ioctl(r->notify, SECCOMP_IOCTL_NOTIF_ID_VALID, &r->id) || receive(r, arg);
}

struct direct_runner *runner_new(struct soft_vcpu *v, u64 arg[3])
{
    struct runner_ask q = { .magic = RUNNER_MAGIC, .trap_tsc = runner_traps_tsc(v) };
    struct runner_answer a;
    int fd[RUNNER_DESCRIPTORS] = { -1, -1, -1, -1 };
    struct direct_runner *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->notify = r->bell = r->bell_end = -1;
    r->polls = v->vm->direct_polls;
    r->traps_tsc = q.trap_tsc;
    if (getrandom(&r->secret, sizeof r->secret, 0) != sizeof r->secret)
        goto fail;
    q.secret = r->secret;
    pthread_mutex_lock(&v->vm->direct_lock);
    const bool ok = send(v->vm->cfg.direct, &q, sizeof q, MSG_NOSIGNAL) == sizeof q &&
                    pass_receive(v->vm->cfg.direct, &a, sizeof a, fd, RUNNER_DESCRIPTORS) == RUNNER_DESCRIPTORS;
    pthread_mutex_unlock(&v->vm->direct_lock);
    r->notify = fd[0];
    r->bell = fd[2];
    r->bell_end = fd[3];
    if (!ok || !sensible(&a))
        goto fail;
    r->report = a.report;
    r->sigreturn = a.sigreturn;
    r->pid = a.pid;
    r->traps_cpuid = a.traps_cpuid;
    void *room = mmap(NULL, RUNNER_ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, fd[1], 0);
    if (room == MAP_FAILED)
        goto fail;
    r->room = room;
    close(fd[1]);
    /* Older kernels wake it like any other process. */
    (void)ioctl(r->notify, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (unsigned long)SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    if (!receive(r, arg)) {
        runner_free(r);
        return NULL;
    }
    return r;
fail:
    if (fd[1] >= 0)
        close(fd[1]);
    runner_free(r);
    return NULL;
}
