/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_root.c - gives a process that serves one folder a file system in which there is nothing else: a mount
 * namespace whose root is that folder.
 *
 * The process needs the names of its own descriptors, too, since an O_PATH descriptor can be opened in no other way.
 * That directory (/proc/self/fd) is no part of the new root. It becomes the working directory, as a mount of its own
 * that is attached nowhere, so that ".." leads no further.
 *
 * Mounts that the host makes or removes below the folder later come and go in the namespace as well (MS_SLAVE).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"

static int put(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const int r = fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return r;
}

/* A user namespace in which this user and its group are the only ones that have a number. */
static int own_users(void)
{
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    char users[40], groups[40];

    snprintf(users, sizeof users, "%u %u 1", uid, uid);
    snprintf(groups, sizeof groups, "%u %u 1", gid, gid);
    if (unshare(CLONE_NEWUSER))
        return -errno;
    int r = put("/proc/self/setgroups", "deny");
    if (!r)
        r = put("/proc/self/uid_map", users);
    return r ? r : put("/proc/self/gid_map", groups);
}

/* The working directory is the folder. *folder: the new root. *self: the mount of the descriptors' directory, which goes
   when it is closed. */
static int own_root(bool readonly, int *folder, int *self)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };

    if (readonly)
        attr.attr_set |= MOUNT_ATTR_RDONLY;
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
        return -errno;
    *self = (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    *folder = (int)syscall(SYS_open_tree, AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (*self < 0 || *folder < 0)
        return -errno;
    /* Only one more lock on the door, and not in kernels before 5.12. */
    (void)syscall(SYS_mount_setattr, *folder, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr);
    if (syscall(SYS_move_mount, *folder, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) || fchdir(*folder))
        return -errno;
    /* The old root comes to lie over the new one, and goes: pivot_root(2). */
    if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || fchdir(*self))
        return -errno;
    return 0;
}

static int enter(int from, bool users, bool readonly, int *folder, int *self)
{
    int r = fchdir(from) ? -errno : users ? own_users() : 0;

    if (!r)
        r = own_root(readonly, folder, self);
    if (!r)
        return 0;
    if (*folder >= 0)
        close(*folder);
    if (*self >= 0)
        close(*self);
    *folder = *self = -1;
    return r;
}

/* Some hosts let a user make a namespace, and then nothing in it. A process that has it would only lose by that. */
static bool works(int from, bool readonly)
{
    int status = -1, folder = -1, self = -1;
    const pid_t pid = fork();

    if (!pid)
        _exit(enter(from, true, readonly, &folder, &self) != 0);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && !status;
}

int sandbox_root(struct sandbox_folder *f, bool users)
{
    const int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int folder = -1, self = -1;
    int r = users && !works(f->folder, f->readonly) ? -EPERM : 0;

    if (!r)
        r = enter(f->folder, users, f->readonly, &folder, &self);
    if (!r) {
        close(f->folder); /* from it ".." leads to the host */
        f->folder = folder;
        f->self = ".";
    } else if (here >= 0 && fchdir(here)) { /* the folder would do, too */
        r = -errno;
    }
    if (here >= 0)
        close(here);
    return r;
}
