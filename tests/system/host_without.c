/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_without - runs a program as on a host that lacks something, to see what is left of a machine's sandbox there:
 *
 *   host_without landlock|namespaces|container|bare COMMAND...
 *
 * "container" is what docker and podman leave to a container by default, of calls and of root's capabilities; "bare" is that
 * without Landlock, too. The kernel answers the missing calls as such hosts do.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host_without.h"

static const struct {
    u32 lacks, nr, error;
} calls[] = {
    { HOST_NO_LANDLOCK, SYS_landlock_create_ruleset, ENOSYS },
    { HOST_NO_LANDLOCK, SYS_landlock_add_rule, ENOSYS },
    { HOST_NO_LANDLOCK, SYS_landlock_restrict_self, ENOSYS },
    { HOST_NO_NAMESPACES, SYS_unshare, EPERM },
    { HOST_NO_NAMESPACES, SYS_setns, EPERM },
    { HOST_NO_NAMESPACES, SYS_clone3, ENOSYS },
    { HOST_CONTAINER, SYS_mount, EPERM },
    { HOST_CONTAINER, SYS_umount2, EPERM },
    { HOST_CONTAINER, SYS_pivot_root, EPERM },
    { HOST_CONTAINER, SYS_open_tree, EPERM },
    { HOST_CONTAINER, SYS_io_uring_setup, EPERM },
    { HOST_CONTAINER, SYS_userfaultfd, EPERM },
    { HOST_CONTAINER, SYS_perf_event_open, EPERM },
    { HOST_CONTAINER, SYS_bpf, EPERM },
    { HOST_CONTAINER, SYS_add_key, EPERM },
    { HOST_CONTAINER, SYS_keyctl, EPERM },
    { HOST_CONTAINER, SYS_request_key, EPERM },
};

/* docker's default set: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD
   AUDIT_WRITE SETFCAP */
static const u64 container_caps = 0xa80425fb;

static int lose(u32 lacks)
{
    const u32 new_spaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
    struct sock_filter code[8 + 2 * ARRAY_SIZE(calls)];
    u16 n = 0;

    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (u32 i = 0; i < ARRAY_SIZE(calls); i++) {
        if (!(calls[i].lacks & lacks))
            continue;
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].nr, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | calls[i].error);
    }
    if (lacks & HOST_NO_NAMESPACES) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args));
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, new_spaces, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

    const struct sock_fprog program = { n, code };
    const int r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    if (!r || errno != EACCES) /* without CAP_SYS_ADMIN only a process with no new privileges may */
        return r;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -1 : (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void drop_capabilities(void)
{
    for (unsigned cap = 0; cap < 64; cap++)
        if (!(container_caps >> cap & 1))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* the program's set is cut to this when it starts */
}

int main(int argc, char **argv)
{
    u32 lacks;

    if (argc > 2 && host_lacks(argv[1], &lacks)) {
        if (lose(lacks)) {
            fprintf(stderr, "host_without: %s\n", strerror(errno));
            return 77;
        }
        if (lacks & HOST_CONTAINER)
            drop_capabilities();
        execvp(argv[2], argv + 2);
        fprintf(stderr, "host_without: %s: %s\n", argv[2], strerror(errno));
        return 127;
    }
    fprintf(stderr, "host_without landlock|namespaces|container|bare COMMAND...\n");
    return 2;
}
