/* SPDX-License-Identifier: Apache-2.0 */
/* file_user.c - see file_user.h. */
#include "base/file_user.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/opener.h"

static bool same(const struct stat *a, const struct stat *b)
{
    if (S_ISBLK(a->st_mode)) /* a device is the same under every name */
        return S_ISBLK(b->st_mode) && a->st_rdev == b->st_rdev;
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Does process pid have the file open? Our own descriptor `own` does not count (-1: pid is another process). */
static bool has_open(const char *pid, const struct stat *file, int own)
{
    char name[64];
    struct dirent *d;
    bool found = false;

    snprintf(name, sizeof(name), "/proc/%.20s/fd", pid);
    DIR *fds = opendir(name);
    while (fds && !found && (d = readdir(fds))) {
        struct stat st;
        snprintf(name, sizeof(name), "/proc/%.20s/fd/%.20s", pid, d->d_name);
        found = isdigit((unsigned char)d->d_name[0]) && atoi(d->d_name) != own && !stat(name, &st) && same(file, &st);
    }
    if (fds)
        closedir(fds);
    return found;
}

/* The process has been killed, or is ending otherwise (proc_pid_stat(5), flags; proc_pid_status(5), pending
   signals). It will soon close the files that it has open, after it has freed its memory. */
static bool dying(const char *pid)
{
    enum { PF_EXITING = 4 };
    char name[64], line[1024] = "", state = 0;
    unsigned flags = 0;
    bool yes = false;

    snprintf(name, sizeof(name), "/proc/%.20s/stat", pid);
    FILE *f = fopen(name, "re");
    if (f && fgets(line, sizeof(line), f)) {
        const char *p = strrchr(line, ')'); /* the name before it may contain anything */
        yes = p && sscanf(p, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) == 2 &&
              (state == 'Z' || state == 'X' || (flags & PF_EXITING));
    }
    if (f)
        fclose(f);
    snprintf(name, sizeof(name), "/proc/%.20s/status", pid);
    f = yes ? NULL : fopen(name, "re");
    while (f && !yes && fgets(line, sizeof(line), f)) {
        unsigned long long pending;
        yes = (sscanf(line, "SigPnd: %llx", &pending) == 1 || sscanf(line, "ShdPnd: %llx", &pending) == 1) &&
              (pending >> (SIGKILL - 1) & 1);
    }
    if (f)
        fclose(f);
    return yes;
}

void file_user(int fd, char who[FILE_USER])
{
    char text[PATH_MAX] = "";

    if (!opener_elsewhere()) {
        file_user_for(getpid(), fd, fd, who);
        return;
    }
    const int r = opener_request(&(struct opener_request){ .purpose = OPENER_DISK, .kind = OPENER_USER, .fd = fd, .flags = fd, .real = text });
    snprintf(who, FILE_USER, "%.*s", FILE_USER - 1, r ? "" : text);
}

void file_user_for(pid_t me, int own, int fd, char who[FILE_USER])
{
    struct stat file;
    struct dirent *p;
    char name[64], comm[64] = "";
    DIR *proc = opendir("/proc");

    who[0] = 0;
    if (proc && fstat(fd, &file)) {
        closedir(proc);
        return;
    }
    while (proc && (p = readdir(proc))) {
        if (!isdigit((unsigned char)p->d_name[0]))
            continue;
        const bool self = atol(p->d_name) == me;
        if ((!self && atol(p->d_name) == getpid()) || !has_open(p->d_name, &file, self ? own : -1) || (!self && dying(p->d_name)))
            continue;
        if (self) {
            snprintf(who, FILE_USER, "this machine itself: it is named twice");
            continue; /* another process is the better answer */
        }
        snprintf(name, sizeof(name), "/proc/%.20s/comm", p->d_name);
        FILE *c = fopen(name, "re");
        if (c && fgets(comm, sizeof(comm), c))
            comm[strcspn(comm, "\n")] = 0;
        if (c)
            fclose(c);
        snprintf(who, FILE_USER, "%s (process %.20s)", comm[0] ? comm : "another program", p->d_name);
        break;
    }
    if (proc)
        closedir(proc);
}
