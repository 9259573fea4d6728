/* SPDX-License-Identifier: Apache-2.0 */
/* room.c - see room.h. namespaces(7), user_namespaces(7), pivot_root(2). */
#include "worker/room.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"

static const int spaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC;

/* The C library knows the number of its thread, and the kernel writes it there in a child as for fork(). */
static pid_t fork_with(int flags)
{
    int *tid = NULL;

    if (!flags)
        return fork();
    fflush(NULL);
    if (prctl(PR_GET_TID_ADDRESS, &tid))
        tid = NULL;
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD | (tid ? CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID : 0), NULL, NULL, tid, 0);
}

pid_t room_fork(struct room *r)
{
    pid_t pid = -1;

    r->uid = geteuid();
    r->gid = getegid();
    r->made = r->whole;
    if (r->whole)
        pid = fork_with(CLONE_NEWUSER | spaces);
    /* Containers forbid the user namespace in several ways, and ENOSPC means that there may be no more of them. */
    if (pid < 0) {
        r->made = false;
        pid = fork_with(0);
    }
    return pid;
}

static int write_to(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    const int r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

/* It stays who it is, and nobody else is there. */
static int map_ids(const struct room *r)
{
    char text[48];
    int result = write_to("/proc/self/setgroups", "deny");

    snprintf(text, sizeof text, "%u %u 1", r->uid, r->uid);
    if (!result || result == -ENOENT)
        result = write_to("/proc/self/uid_map", text);
    snprintf(text, sizeof text, "%u %u 1", r->gid, r->gid);
    return result ? result : write_to("/proc/self/gid_map", text);
}

/* An empty, read-only file system for a root, and the other one is gone from this namespace. */
static int empty_root(void)
{
    static const char *const places[] = { "/tmp", "/proc", "/var", "/usr" };
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    int r = -ENOENT;

    if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return -errno;
    for (u32 i = 0; i < ARRAY_SIZE(places) && r; i++)
        r = mount("lodge", places[i], "tmpfs", flags, "size=4k,nr_inodes=2,mode=0500") || chdir(places[i]) ? -errno : 0;
    if (r || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
        return r ? r : -errno;
    return 0;
}

int room_enter(const struct room *r)
{
    int result = r->made ? map_ids(r) : 0;

    if (!result && r->made)
        result = empty_root();
    if (!result)
        result = sandbox_drop(0);
    if (!result && r->whole)
        result = sandbox_no_files();
    return result;
}

bool room_probe(void)
{
    struct room r = { .whole = true };
    int status = 1;

    const pid_t pid = room_fork(&r);
    if (!pid)
        _exit(!r.made || room_enter(&r));
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && !WEXITSTATUS(status);
}
