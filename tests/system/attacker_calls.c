/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker_calls.c - every number that a system call can have, with arguments that mean nothing: a call that is refused at
 * once is refused whatever its arguments. Then single calls that would be of use to an attacker.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/reboot.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attacker.h"

enum {
    MOST_CALLS = 480,  /* Linux 6.18 has 470 */
    MOST_X32 = 560,    /* and 512 to 547 are x32's own */
    X32_SIGRETURN = 513,
    X32 = 0x40000000,  /* __X32_SYSCALL_BIT */
    READ_IMPLIES_EXEC = 0x0400000,
    KEY_SESSION = -3,
};

/* ---- every number ------------------------------------------------------------ */

static const struct {
    long nr;
    const char *why;
} untried[] = {
    { SYS_exit, "would end the thread" },
    { SYS_exit_group, "would end the process" },
    { SYS_rt_sigreturn, "sets registers, which it can anyway" },
    { SYS_set_tid_address, "would harm nobody but the thread's end" },
}, untried32[] = {
    { 1, "would end the thread" },
    { 252, "would end the process" },
    { 119, "sets registers, which it can anyway" },
    { 173, "sets registers, which it can anyway" },
    { 258, "would harm nobody but the thread's end" },
};

static const u64 nothing[6] = { (u64)-1, (u64)-1, (u64)-1, (u64)-1, (u64)-1, (u64)-1 };

/* What may have come of a number's call is put in order again. */
static void undo(struct attack *a, long nr, long result)
{
    struct puppet *p = a->puppet;

    if (nr == SYS_umask)
        CALL(p, SYS_umask, (u64)result);
    else if (nr == SYS_alarm)
        CALL(p, SYS_alarm, 0);
    else if (nr == SYS_msgget)
        CALL(p, SYS_msgctl, (u64)result, IPC_RMID);
    else if (is_descriptor_made(a, result) && (nr == SYS_eventfd || nr == SYS_inotify_init))
        CALL(p, SYS_close, (u64)result);
}

static bool is_refusal(struct outcome o)
{
    return !o.blocked && !o.made && (o.result == -EPERM || o.result == -EACCES || o.result == -ENOSYS || o.faulted);
}

/* The process may end of it: that refuses it, too. */
static void judge_number(struct attack *a, const char *name, struct outcome o, const char *why)
{
    if (is_refusal(o) || a->puppet->dead)
        tried(a, name, REFUSED, say(o));
    else if (o.made && !o.thread && a->kind != SCREEN)
        tried(a, name, ESCAPED, "it made a process");
    else
        tried(a, name, why ? ALLOWED : UNLISTED, why ? why : say(o));
}

void try_all_numbers(struct attack *a)
{
    for (long nr = 0; nr < MOST_CALLS && !a->puppet->dead; nr++) {
        const char *no = NULL;
        char name[32];
        snprintf(name, sizeof name, "call %ld", nr);
        for (u32 i = 0; i < ARRAY_SIZE(untried); i++)
            no = untried[i].nr == nr ? untried[i].why : no;
        if (no) {
            tried(a, name, UNTRIED, no);
            continue;
        }
        const struct outcome o = puppet_call(a->puppet, nr, nothing);
        if (o.result >= 0)
            undo(a, nr, o.result);
        judge_number(a, name, o, may_call(a->kind, nr));
    }
}

/* The two other ways into the kernel, by which numbers mean other things. No kind of thread needs one of them, and a
   filter may end the process at once. */
void try_x32(struct attack *a)
{
    char name[32];

    for (long nr = 0; nr < MOST_X32 && !a->puppet->dead; nr++) {
        if (nr == SYS_exit || nr == SYS_exit_group || nr == X32_SIGRETURN || nr == SYS_set_tid_address)
            continue;
        snprintf(name, sizeof name, "x32 call %ld", nr);
        judge_number(a, name, puppet_call(a->puppet, X32 | nr, nothing), NULL);
    }
}

void try_int80(struct attack *a)
{
    char name[32];

    if (!a->puppet->int80_at)
        tried(a, "int 80h", UNTRIED, "there is no such instruction in its memory");
    for (long nr = 0; nr < MOST_CALLS && !a->puppet->dead && a->puppet->int80_at; nr++) {
        bool no = false;
        for (u32 i = 0; i < ARRAY_SIZE(untried32); i++)
            no |= untried32[i].nr == nr;
        snprintf(name, sizeof name, "int 80h call %ld", nr);
        if (!no)
            judge_number(a, name, puppet_call32(a->puppet, nr, nothing), NULL);
    }
}

/* ---- single calls --------------------------------------------------------------- */

enum what { NUMBER, TEXT, BUFFER, PAGE, CODE, VICTIM, SOCKET, DIRECTORY, RAM };

struct arg {
    enum what what;
    long n;
    const char *text; /* a leading @ is the folder outside, % is the victim's number */
};

#define N(v) { NUMBER, (long)(v), NULL }
#define S(t) { TEXT, 0, t }
#define HERE N(AT_FDCWD)
#define BUF { BUFFER, 0, NULL }
#define MEM { PAGE, 0, NULL }
#define TXT { CODE, 0, NULL }
#define VIC { VICTIM, 0, NULL }
#define SOCK { SOCKET, 0, NULL }
#define DIR_ { DIRECTORY, 0, NULL }
#define GUEST { RAM, 0, NULL }
#define ONE(k) (1u << (k))
#define FILES (ONE(FOLDER) | ONE(SHARE))

static const struct call {
    const char *name;
    long nr;
    struct arg a[6];
    u32 may;         /* kinds of thread for whom success is no escape */
    const char *why;
    long undo;       /* of these arguments, but for what is in undo_with: a call that takes it back; 0: none. -1: close */
    u64 undo_with[3];
} calls[] = {
    /* files */
    { "open secret", SYS_open, { S("@/secret"), N(O_RDONLY) }, 0, NULL, -1 },
    { "open secret to write", SYS_open, { S("@/secret"), N(O_WRONLY) }, 0, NULL, -1 },
    { "openat secret", SYS_openat, { HERE, S("@/secret"), N(O_RDONLY) }, 0, NULL, -1 },
    { "openat secret O_PATH", SYS_openat, { HERE, S("@/secret"), N(O_PATH) }, 0, NULL, -1 },
    { "openat2 secret", SYS_openat2, { HERE, S("@/secret"), BUF, N(24) }, 0, NULL, -1 },
    { "creat", SYS_creat, { S("@/made"), N(0600) }, 0, NULL, -1 },
    { "openat O_CREAT", SYS_openat, { HERE, S("@/made"), N(O_CREAT | O_RDWR), N(0600) }, 0, NULL, -1 },
    { "openat O_TMPFILE", SYS_openat, { HERE, S("/tmp"), N(O_TMPFILE | O_RDWR), N(0600) }, 0, NULL, -1 },
    { "open /etc/passwd", SYS_openat, { HERE, S("/etc/passwd"), N(O_RDONLY) }, 0, NULL, -1 },
    { "open /proc/self/mem", SYS_openat, { HERE, S("/proc/self/mem"), N(O_RDWR) }, 0, NULL, -1 },
    { "open /proc/self/exe", SYS_openat, { HERE, S("/proc/self/exe"), N(O_RDONLY) }, 0, NULL, -1 },
    { "open /proc/self/fd", SYS_openat, { HERE, S("/proc/self/fd"), N(O_RDONLY) }, 0, NULL, -1 },
    { "open the victim's memory", SYS_openat, { HERE, S("/proc/%/mem"), N(O_RDWR) }, 0, NULL, -1 },
    { "open the victim's maps", SYS_openat, { HERE, S("/proc/%/maps"), N(O_RDONLY) }, 0, NULL, -1 },
    { "open the victim's root", SYS_openat, { HERE, S("/proc/%/root"), N(O_PATH) }, 0, NULL, -1 },
    { "open the victim's network", SYS_openat, { HERE, S("/proc/%/ns/net"), N(O_RDONLY) }, 0, NULL, -1 },
    { "open core_pattern", SYS_openat, { HERE, S("/proc/sys/kernel/core_pattern"), N(O_WRONLY) }, 0, NULL, -1 },
    { "open /dev/kvm", SYS_openat, { HERE, S("/dev/kvm"), N(O_RDWR) }, 0, NULL, -1 },
    { "open /dev/tty", SYS_openat, { HERE, S("/dev/tty"), N(O_RDWR | O_NOCTTY) }, 0, NULL, -1 },
    { "open /dev/null", SYS_openat, { HERE, S("/dev/null"), N(O_RDWR) }, 0, NULL, -1 },
    { "open /", SYS_openat, { HERE, S("/"), N(O_PATH) }, FILES, "there is the folder, or nothing", -1 },
    { "up from a folder", SYS_openat, { DIR_, S("../../../../../../etc/passwd"), N(O_RDONLY) }, 0, NULL, -1 },
    { "open_by_handle_at", SYS_open_by_handle_at, { N(3), BUF, N(O_RDONLY) }, 0, NULL, -1 },
    { "stat", SYS_stat, { S("@/secret"), BUF }, ONE(NET), "resolv.conf" },
    { "lstat", SYS_lstat, { S("@/secret"), BUF } },
    { "newfstatat", SYS_newfstatat, { HERE, S("@/secret"), BUF, N(0) }, ONE(NET), "resolv.conf" },
    { "statx", SYS_statx, { HERE, S("@/secret"), N(0), N(0x7ff), BUF } },
    { "access", SYS_access, { S("@/secret"), N(0) } },
    { "faccessat2", SYS_faccessat2, { HERE, S("@/secret"), N(0), N(0) } },
    { "readlink", SYS_readlink, { S("/proc/self/exe"), BUF, N(64) } },
    { "readlinkat", SYS_readlinkat, { HERE, S("/proc/self/exe"), BUF, N(64) } },
    { "statfs", SYS_statfs, { S("@"), BUF } },
    { "truncate", SYS_truncate, { S("@/secret"), N(0) } },
    { "unlink", SYS_unlink, { S("@/secret") } },
    { "unlinkat", SYS_unlinkat, { HERE, S("@/secret"), N(0) } },
    { "rmdir", SYS_rmdir, { S("@/below") } },
    { "rename", SYS_rename, { S("@/secret"), S("@/other") } },
    { "renameat2", SYS_renameat2, { HERE, S("@/secret"), HERE, S("@/other"), N(0) } },
    { "link", SYS_link, { S("@/secret"), S("@/other") } },
    { "linkat", SYS_linkat, { HERE, S("@/secret"), HERE, S("@/other"), N(0) } },
    { "symlink", SYS_symlink, { S("secret"), S("@/other") } },
    { "symlinkat", SYS_symlinkat, { S("secret"), HERE, S("@/other") } },
    { "mkdir", SYS_mkdir, { S("@/folder"), N(0700) } },
    { "mkdirat", SYS_mkdirat, { HERE, S("@/folder"), N(0700) } },
    { "mknod", SYS_mknod, { S("@/pipe"), N(S_IFIFO | 0600), N(0) } },
    { "mknodat", SYS_mknodat, { HERE, S("@/pipe"), N(S_IFIFO | 0600), N(0) } },
    { "chmod", SYS_chmod, { S("@/secret"), N(0666) } },
    { "fchmodat", SYS_fchmodat, { HERE, S("@/secret"), N(0666) } },
    { "chown", SYS_chown, { S("@/secret"), N(-1), N(-1) } },
    { "lchown", SYS_lchown, { S("@/secret"), N(-1), N(-1) } },
    { "fchownat", SYS_fchownat, { HERE, S("@/secret"), N(-1), N(-1), N(0) } },
    { "utime", SYS_utime, { S("@/secret"), N(0) } },
    { "utimensat", SYS_utimensat, { HERE, S("@/secret"), N(0), N(0) } },
    { "setxattr", SYS_setxattr, { S("@/secret"), S("user.x"), BUF, N(1), N(0) } },
    { "getxattr", SYS_getxattr, { S("@/secret"), S("user.x"), BUF, N(0) } },
    { "listxattr", SYS_listxattr, { S("@/secret"), BUF, N(64) } },
    { "chdir", SYS_chdir, { S("@") } },
    { "getcwd", SYS_getcwd, { BUF, N(256) } },
    { "chroot", SYS_chroot, { S("/") } },
    { "inotify_init1", SYS_inotify_init1, { N(0) }, 0, NULL, -1 },
    { "fanotify_init", SYS_fanotify_init, { N(0), N(O_RDONLY) }, 0, NULL, -1 },
    { "acct", SYS_acct, { S("@/secret") } },
    { "swapon", SYS_swapon, { S("@/secret"), N(0) } },
    { "uselib", SYS_uselib, { S("@/program") } },
    /* mounts and namespaces */
    { "mount tmpfs", SYS_mount, { S("none"), S("/"), S("tmpfs"), N(0), N(0) } },
    { "mount proc", SYS_mount, { S("none"), S("/"), S("proc"), N(0), N(0) } },
    { "remount", SYS_mount, { N(0), S("/"), N(0), N(MS_REMOUNT | MS_BIND), N(0) } },
    { "umount2", SYS_umount2, { S("/"), N(MNT_DETACH) } },
    { "pivot_root", SYS_pivot_root, { S("/"), S("/") } },
    { "open_tree", SYS_open_tree, { HERE, S("/"), N(1) }, 0, NULL, -1 },
    { "open_tree, no copy", SYS_open_tree, { HERE, S("/"), N(0) }, 0, NULL, -1 },
    { "fsopen", SYS_fsopen, { S("tmpfs"), N(0) }, 0, NULL, -1 },
    { "mount_setattr", SYS_mount_setattr, { HERE, S("/"), N(0), BUF, N(32) } },
    { "quotactl", SYS_quotactl, { N(0x80000100), S("/"), N(0), BUF } },
    { "unshare user", SYS_unshare, { N(CLONE_NEWUSER) } },
    { "unshare mounts", SYS_unshare, { N(CLONE_NEWNS) } },
    { "unshare processes", SYS_unshare, { N(CLONE_NEWPID) } },
    { "unshare network", SYS_unshare, { N(CLONE_NEWNET) } },
    { "unshare ipc", SYS_unshare, { N(CLONE_NEWIPC) } },
    { "unshare names", SYS_unshare, { N(CLONE_NEWUTS) } },
    { "unshare cgroup", SYS_unshare, { N(CLONE_NEWCGROUP) } },
    { "unshare time", SYS_unshare, { N(0x80) } },
    { "setns", SYS_setns, { SOCK, N(0) } },
    /* signals, and other things that are done to a process */
    { "kill 0", SYS_kill, { VIC, N(0) } },
    { "kill SIGURG", SYS_kill, { VIC, N(SIGURG) } },
    { "kill all, 0", SYS_kill, { N(-1), N(0) } },
    { "tkill", SYS_tkill, { VIC, N(SIGURG) } },
    { "tgkill", SYS_tgkill, { VIC, VIC, N(SIGURG) } },
    { "ptrace", SYS_ptrace, { N(PTRACE_SEIZE), VIC, N(0), N(0) } },
    { "ptrace peek", SYS_ptrace, { N(PTRACE_PEEKUSER), VIC, N(0), BUF } },
    { "pidfd_open", SYS_pidfd_open, { VIC, N(0) }, 0, NULL, -1 },
    { "prlimit to read", SYS_prlimit64, { VIC, N(RLIMIT_NOFILE), N(0), BUF } },
    { "prlimit to write", SYS_prlimit64, { VIC, N(RLIMIT_CORE), BUF, N(0) } },
    { "get_robust_list", SYS_get_robust_list, { VIC, BUF, BUF } },
    { "kcmp", SYS_kcmp, { VIC, VIC, N(1), N(0), N(0) } },
    { "move_pages", SYS_move_pages, { VIC, N(0), N(0), N(0), N(0), N(0) } },
    { "migrate_pages", SYS_migrate_pages, { VIC, N(0), N(0), N(0) } },
    { "sched_setaffinity", SYS_sched_setaffinity, { VIC, N(8), MEM } },
    { "sched_getaffinity", SYS_sched_getaffinity, { VIC, N(128), BUF } },
    { "sched_setscheduler", SYS_sched_setscheduler, { VIC, N(0), BUF } },
    { "sched_getscheduler", SYS_sched_getscheduler, { VIC } },
    { "setpriority", SYS_setpriority, { N(PRIO_PROCESS), VIC, N(5) } },
    { "getpriority", SYS_getpriority, { N(PRIO_PROCESS), VIC } },
    { "ioprio_set", SYS_ioprio_set, { N(1), VIC, N(0x4000) } },
    { "getpgid", SYS_getpgid, { VIC } },
    { "getsid", SYS_getsid, { VIC } },
    { "setpgid", SYS_setpgid, { VIC, VIC } },
    { "prctl PR_SET_PTRACER", SYS_prctl, { N(PR_SET_PTRACER), VIC } },
    { "F_SETOWN", SYS_fcntl, { SOCK, N(F_SETOWN), VIC }, 0, NULL, SYS_fcntl, { F_SETOWN, 0 } },
    { "F_SETSIG", SYS_fcntl, { SOCK, N(F_SETSIG), N(SIGURG) }, 0, NULL, SYS_fcntl, { F_SETSIG, 0 } },
    { "FIOSETOWN", SYS_ioctl, { SOCK, N(0x8901), MEM }, 0, NULL, SYS_fcntl, { F_SETOWN, 0 } },
    { "SIOCSPGRP", SYS_ioctl, { SOCK, N(0x8902), MEM }, 0, NULL, SYS_fcntl, { F_SETOWN, 0 } },
    { "TIOCSTI", SYS_ioctl, { N(0), N(TIOCSTI), BUF } },
    { "TIOCSTI, 1", SYS_ioctl, { N(1), N(TIOCSTI), BUF } },
    { "TIOCSTI, 2", SYS_ioctl, { N(2), N(TIOCSTI), BUF } },
    { "TIOCSCTTY", SYS_ioctl, { N(0), N(TIOCSCTTY), N(0) } },
    { "TIOCNOTTY", SYS_ioctl, { N(0), N(TIOCNOTTY), N(0) } },
    { "TIOCLINUX", SYS_ioctl, { N(0), N(TIOCLINUX), BUF } },
    /* processes and programs; what was made has been ended */
    { "fork", SYS_fork, { N(0) }, ONE(SCREEN), "a viewer's process" },
    { "vfork", SYS_vfork, { N(0) } },
    { "clone", SYS_clone, { N(SIGCHLD), N(0) }, ONE(SCREEN), "a viewer's process" },
    { "clone, another signal", SYS_clone, { N(SIGURG), N(0) } },
    { "clone, a brother", SYS_clone, { N(CLONE_PARENT | SIGCHLD), N(0) } },
    { "clone, in its memory", SYS_clone, { N(CLONE_VM | CLONE_FILES | SIGCHLD), MEM } },
    { "clone, a new user", SYS_clone, { N(CLONE_NEWUSER | SIGCHLD), N(0) } },
    { "clone, new everything", SYS_clone, { N(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | SIGCHLD), N(0) } },
    { "execve", SYS_execve, { S("@/program"), N(0), N(0) } },
    { "execve /bin/sh", SYS_execve, { S("/bin/sh"), MEM, N(0) } },
    { "execveat", SYS_execveat, { HERE, S("@/program"), N(0), N(0), N(0) } },
    { "memfd_create", SYS_memfd_create, { S("x"), N(0) }, ONE(SWITCH), "a client's link", -1 },
    { "memfd_create to execute", SYS_memfd_create, { S("x"), N(0x10) }, ONE(SWITCH), "a client's link", -1 },
    { "memfd_secret", SYS_memfd_secret, { N(0) }, 0, NULL, -1 },
    /* memory that could be executed */
    { "mmap WX", SYS_mmap, { N(0), N(4096), N(7), N(MAP_PRIVATE | MAP_ANONYMOUS), N(-1), N(0) } },
    { "mmap X", SYS_mmap, { N(0), N(4096), N(PROT_EXEC), N(MAP_PRIVATE | MAP_ANONYMOUS), N(-1), N(0) } },
    { "mmap RX shared", SYS_mmap, { N(0), N(4096), N(5), N(MAP_SHARED | MAP_ANONYMOUS), N(-1), N(0) } },
    { "mmap X of the guest's memory", SYS_mmap, { N(0), N(4096), N(5), N(MAP_SHARED), GUEST, N(0) } },
    { "mprotect WX", SYS_mprotect, { MEM, N(4096), N(7) }, 0, NULL, SYS_mprotect, { 4096, 3 } },
    { "mprotect X", SYS_mprotect, { MEM, N(4096), N(5) }, 0, NULL, SYS_mprotect, { 4096, 3 } },
    { "mprotect code W", SYS_mprotect, { TXT, N(4096), N(7) }, 0, NULL, SYS_mprotect, { 4096, 5 } },
    { "pkey_mprotect WX", SYS_pkey_mprotect, { MEM, N(4096), N(7), N(-1) }, 0, NULL, SYS_mprotect, { 4096, 3 } },
    { "personality READ_IMPLIES_EXEC", SYS_personality, { N(READ_IMPLIES_EXEC) }, 0, NULL, SYS_personality, { 0 } },
    { "map_shadow_stack", 453, { N(0), N(4096), N(0) } },
    { "modify_ldt", SYS_modify_ldt, { N(1), BUF, N(16) } },
    { "userfaultfd", SYS_userfaultfd, { N(0) }, 0, NULL, -1 },
    { "userfaultfd, user mode", SYS_userfaultfd, { N(1) }, 0, NULL, -1 },
    { "remap_file_pages", SYS_remap_file_pages, { MEM, N(4096), N(0), N(0), N(0) } },
    /* limits and privileges */
    { "setrlimit core", SYS_setrlimit, { N(RLIMIT_CORE), MEM } },
    { "prlimit itself, core", SYS_prlimit64, { N(0), N(RLIMIT_CORE), MEM, N(0) } },
    { "prctl PR_SET_DUMPABLE", SYS_prctl, { N(PR_SET_DUMPABLE), N(1) } },
    { "prctl PR_SET_MM", SYS_prctl, { N(PR_SET_MM), N(PR_SET_MM_ARG_START), MEM, N(0), N(0) } },
    { "prctl PR_SET_NO_NEW_PRIVS 0", SYS_prctl, { N(PR_SET_NO_NEW_PRIVS), N(0), N(0), N(0), N(0) } },
    { "prctl PR_SET_KEEPCAPS", SYS_prctl, { N(PR_SET_KEEPCAPS), N(1) }, 0, NULL, SYS_prctl, { 0 } },
    { "prctl PR_SET_SECUREBITS", SYS_prctl, { N(PR_SET_SECUREBITS), N(1) } },
    { "prctl ambient", SYS_prctl, { N(PR_CAP_AMBIENT), N(PR_CAP_AMBIENT_RAISE), N(CAP_NET_RAW), N(0), N(0) } },
    { "prctl PR_SET_CHILD_SUBREAPER", SYS_prctl, { N(PR_SET_CHILD_SUBREAPER), N(1) }, 0, NULL, SYS_prctl, { 0 } },
    { "prctl PR_SET_PDEATHSIG", SYS_prctl, { N(PR_SET_PDEATHSIG), N(0) }, 0, NULL, SYS_prctl, { SIGTERM } },
    { "setuid", SYS_setuid, { N(12345) } },
    { "setgid", SYS_setgid, { N(12345) } },
    { "setresuid", SYS_setresuid, { N(12345), N(12345), N(-1) }, 0, NULL },
    { "setresgid", SYS_setresgid, { N(12345), N(12345), N(-1) }, 0, NULL },
    { "setgroups", SYS_setgroups, { N(1), BUF } },
    { "setsid", SYS_setsid, { N(0) } },
    { "vhangup", SYS_vhangup, { N(0) } },
    { "nice", SYS_setpriority, { N(PRIO_PROCESS), N(0), N(-20) } },
    { "real time", SYS_sched_setscheduler, { N(0), N(SCHED_FIFO), MEM } },
    /* the kernel */
    { "io_uring_setup", SYS_io_uring_setup, { N(4), BUF }, 0, NULL, -1 },
    { "io_setup", SYS_io_setup, { N(4), BUF } },
    { "add_key", SYS_add_key, { S("user"), S("lodge-attack"), S("x"), N(1), N(KEY_SESSION) } },
    { "request_key", SYS_request_key, { S("user"), S("lodge-attack"), N(0), N(0) } },
    { "keyctl", SYS_keyctl, { N(0), N(KEY_SESSION), N(1) } },
    { "keyctl join", SYS_keyctl, { N(1), N(0) } },
    { "init_module", SYS_init_module, { BUF, N(64), S("") } },
    { "finit_module", SYS_finit_module, { N(0), S(""), N(0) } },
    { "delete_module", SYS_delete_module, { S("none"), N(O_NONBLOCK) } },
    { "kexec_load", SYS_kexec_load, { N(0), N(0), N(0), N(0) } },
    { "kexec_file_load", SYS_kexec_file_load, { N(0), N(0), N(1), S(""), N(0) } },
    { "ioperm", SYS_ioperm, { N(0x80), N(1), N(1) }, 0, NULL, SYS_ioperm, { 1, 0 } },
    { "iopl", SYS_iopl, { N(3) }, 0, NULL, SYS_iopl, { 0 } },
    { "reboot", SYS_reboot, { N(LINUX_REBOOT_MAGIC1), N(LINUX_REBOOT_MAGIC2), N(LINUX_REBOOT_CMD_CAD_OFF), N(0) } },
    { "sethostname", SYS_sethostname, { S("attacked"), N(8) } },
    { "setdomainname", SYS_setdomainname, { S("attacked"), N(8) } },
    { "settimeofday", SYS_settimeofday, { N(0), MEM } },
    { "clock_settime", SYS_clock_settime, { N(0), MEM } },
    { "syslog", SYS_syslog, { N(3), BUF, N(64) } },
    { "lookup_dcookie", SYS_lookup_dcookie, { N(0), BUF, N(64) } },
    { "shmget", SYS_shmget, { N(IPC_PRIVATE), N(4096), N(0600) }, 0, NULL, SYS_shmctl, { IPC_RMID } },
    { "msgget", SYS_msgget, { N(IPC_PRIVATE), N(0600) }, 0, NULL, SYS_msgctl, { IPC_RMID } },
    { "semget", SYS_semget, { N(IPC_PRIVATE), N(1), N(0600) }, 0, NULL, SYS_semctl, { 0, IPC_RMID } },
    { "mq_open", SYS_mq_open, { S("attack"), N(O_RDWR | O_CREAT), N(0600), N(0) }, 0, NULL, -1 },
    { "seccomp, a listener", SYS_seccomp, { N(1), N(8), N(0) } },
    { "process_mrelease", SYS_process_mrelease, { SOCK, N(0) } },
};

/* 0: the argument cannot be made, as it has no such descriptor. */
static bool argument(const struct attack *a, const struct arg *from, u64 *value)
{
    struct puppet *p = a->puppet;
    static const char zeroes[256];
    char text[PATH_MAX + 64];
    int fd = 0;

    *value = (u64)from->n;
    switch (from->what) {
    case NUMBER: break;
    case TEXT:
        if (from->text[0] == '@')
            snprintf(text, sizeof text, "%s%s", a->folder, from->text + 1);
        else if (!strncmp(from->text, "/proc/%", 7))
            snprintf(text, sizeof text, "/proc/%d%s", outside_victim(a->outside), from->text + 7);
        else
            snprintf(text, sizeof text, "%s", from->text);
        *value = puppet_string(p, text);
        break;
    case BUFFER: *value = puppet_put(p, zeroes, sizeof zeroes); break;
    case PAGE: *value = puppet_page(p); break;
    case CODE: *value = p->syscall_at & ~4095ull; break;
    case VICTIM: *value = (u64)outside_victim(a->outside); break;
    case SOCKET: *value = (u64)(fd = own_descriptor(a, "socket:", 0, NULL)); break;
    case DIRECTORY: *value = (u64)(fd = own_descriptor(a, "folder", 0, NULL)); break;
    case RAM: *value = (u64)(fd = own_descriptor(a, "/memfd:guest-ram", 0, NULL)); break;
    }
    return fd >= 0;
}

/* What a call may find in its page: as a limit without bounds, a set of processors, a process's number, capabilities. */
static void fill_page(struct attack *a)
{
    u64 words[16];

    memset(words, 0xff, sizeof words);
    words[0] = (u64)outside_victim(a->outside);
    if (puppet_write(a->puppet, puppet_page(a->puppet), words, sizeof words))
        a->puppet->dead = true;
}

static void undo_call(struct attack *a, const struct call *c, u64 first, long result)
{
    const bool by_result = c->nr == SYS_shmget || c->nr == SYS_msgget || c->nr == SYS_semget;
    const bool alone = c->nr == SYS_iopl || c->nr == SYS_personality; /* one argument, which is the one to take back */
    const u64 of = by_result ? (u64)result : alone ? c->undo_with[0] : first;

    if (c->nr == SYS_mmap)
        CALL(a->puppet, SYS_munmap, (u64)result, 4096);
    else if (c->undo == -1)
        CALL(a->puppet, SYS_close, (u64)result);
    else if (c->undo)
        CALL(a->puppet, c->undo, of, c->undo_with[0], c->undo_with[1], c->undo_with[2]);
}

void try_calls(struct attack *a)
{
    for (u32 i = 0; i < ARRAY_SIZE(calls) && !a->puppet->dead; i++) {
        const struct call *c = &calls[i];
        const bool may = c->may & ONE(a->kind);
        u64 arg[6];
        bool can = true;

        puppet_forget(a->puppet);
        fill_page(a);
        for (u32 k = 0; k < 6; k++)
            can &= argument(a, &c->a[k], &arg[k]);
        if (!can) {
            tried(a, c->name, UNTRIED, "has no such descriptor");
            continue;
        }
        const struct outcome o = puppet_call(a->puppet, c->nr, arg);
        tried_call(a, c->name, o, may ? ALLOWED : ESCAPED, may ? c->why : NULL);
        if (o.result >= 0)
            undo_call(a, c, arg[0], o.result);
    }
    puppet_forget(a->puppet);
}
