/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.c - the sandbox has four steps. The process gives up the privileges that it does not need, and then the
 * resources that it does not need. Then it gives up files (Landlock). At last it keeps only a few system calls
 * (seccomp), which give it no way to open a file, to reach another process or to make one. This last step also holds
 * without the one before it. A call that is not on the list fails with EPERM. It does not end the process, because
 * versions of the C library differ in which calls they try and can do without. tools/gen_sandbox.c has the list.
 */
#include "base/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "sandbox_filters.h"

enum {
    MAX_FILES = 1024,
    MAX_FILE_SIZE = MiB(64), /* the memory that the switch has for a machine: the kernel treats it as a file */
};

/* The places where resolv.conf is, and where it leads to. */
static const char *const resolver[] = { "/etc/resolv.conf", "/run/systemd/resolve", "/run/resolvconf",
                                        "/run/NetworkManager" };

static int limit(int what, rlim_t most)
{
    struct rlimit r;

    if (getrlimit((__rlimit_resource_t)what, &r))
        return -errno;
    r.rlim_cur = MIN(r.rlim_cur, most);
    r.rlim_max = MIN(r.rlim_max, most);
    return setrlimit((__rlimit_resource_t)what, &r) ? -errno : 0;
}

/* A guest can make libslirp keep what it sends (fragments without an end, segments with gaps). This limit ends the
   process, and with it the guest's network, before it harms the host. */
static int limit_memory(void)
{
    unsigned long data = 0; /* pages: /proc/self/statm, proc(5) */
    FILE *f = fopen("/proc/self/statm", "re");

    if (!f)
        return 0;
    if (fscanf(f, "%*u %*u %*u %*u %*u %lu", &data) != 1)
        data = 0;
    fclose(f);
    return data ? limit(RLIMIT_DATA, data * 4096 + GiB(1)) : 0;
}

static int allow_beneath(int set, const char *path, u64 access)
{
    struct landlock_path_beneath_attr rule = { .allowed_access = access };
    int r;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return 0; /* the path does not exist: nothing to allow */
    r = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
    close(rule.parent_fd);
    return r;
}

/* Returns a descriptor of the rules, or -1. If it is -1 and *r is 0, the kernel has no Landlock. */
static int file_rules(bool by_itself, const char *dir, int *r)
{
    /* All rights that the first version of Landlock knows. */
    const struct landlock_ruleset_attr all = { .handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
    const int set = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

    *r = 0;
    if (set < 0) {
        if (errno != ENOSYS && errno != EOPNOTSUPP && errno != EPERM /* a container's filter */)
            *r = -errno;
        return -1;
    }
    for (size_t i = 0; by_itself && i < ARRAY_SIZE(resolver) && !*r; i++)
        *r = allow_beneath(set, resolver[i], LANDLOCK_ACCESS_FS_READ_FILE);
    if (by_itself && dir && !*r)
        *r = allow_beneath(set, dir, LANDLOCK_ACCESS_FS_READ_FILE);
    return set;
}

/* The same for the process of a folder. The first version of Landlock (Linux 5.13) forbids to move a file from one folder
   to another, which is too little for a guest. */
static int folder_rules(const struct sandbox_folder *f, int *r)
{
    const int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    const u64 truncate = LANDLOCK_ACCESS_FS_REFER << 1; /* LANDLOCK_ACCESS_FS_TRUNCATE, of the third */
    const struct landlock_ruleset_attr all = { .handled_access_fs = (version > 2 ? truncate << 1 : truncate) - 1 };
    const u64 never = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;
    const u64 reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    const struct landlock_path_beneath_attr rule = {
        .allowed_access = f->readonly ? reading : all.handled_access_fs & ~never, .parent_fd = f->folder,
    };
    const int set = version < 2 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

    *r = version >= 2 && (set < 0 || syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0)) ? -errno : 0;
    return set;
}

static int restrict_files(int set)
{
    int r = set < 0 || !syscall(SYS_landlock_restrict_self, set, 0) ? 0 : -errno;

    if (set >= 0)
        close(set);
    return r;
}

/* What of Landlock's newer versions this program knows: struct landlock_ruleset_attr as it grew (linux/landlock.h). */
struct ruleset {
    u64 files, net, scoped;
};

int sandbox_no_files(void)
{
    enum { ALL_1 = (1 << 13) - 1, REFER = 1 << 13, TRUNCATE = 1 << 14, BIND_AND_CONNECT_TCP = 3, ABSTRACT_SOCKETS = 1 };
    const int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct ruleset rules = { .files = ALL_1 };

    if (version < 1)
        return 0;
    rules.files |= version >= 2 ? REFER : 0;
    rules.files |= version >= 3 ? TRUNCATE : 0;
    rules.net = version >= 4 ? BIND_AND_CONNECT_TCP : 0;
    rules.scoped = version >= 6 ? ABSTRACT_SOCKETS : 0;
    const size_t size = version >= 6 ? sizeof rules : version >= 4 ? 2 * sizeof(u64) : sizeof(u64);
    const int set = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (set < 0)
        return -errno;
    return restrict_files(set);
}

int sandbox_load(struct sock_filter *code, u32 n, u32 flags)
{
    const struct sock_fprog prog = { (unsigned short)n, code };

    /* Linux before 5.16 otherwise makes every process with a filter slow at loads behind stores, against a program that spies
       on its own process. A machine's process holds nothing but the machine. */
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog);
    if (r < 0 && errno == EINVAL)
        r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
    /* an old kernel, or a container that does not know the call */
    if (r < 0 && (errno == ENOSYS || errno == EPERM) && !flags)
        r = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
    return r < 0 ? -errno : (int)r;
}

/* A process in which this fails has no filter. */
static int filter_load(const struct filter *f, u32 flags)
{
    struct sock_filter code[FILTER_MOST];

    memcpy(code, f->code, f->n * sizeof(code[0]));
    assert(code[f->pid].k == FILTER_PID);
    code[f->pid].k = (u32)getpid();
    return sandbox_load(code, f->n, flags);
}

/* Allows all calls except those that open a file. For these, the holder of the returned descriptor decides
   (seccomp_unotify(2)). -errno: an old kernel, or another program already has such a descriptor for us. */
static int restrict_calls_asking(void)
{
    return filter_load(&filter_user_asking, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

static int restrict_calls(enum sandbox kind)
{
    static const struct filter *const filters[] = { [SANDBOX_USER] = &filter_user, [SANDBOX_SWITCH] = &filter_switch,
                                                    [SANDBOX_SCREEN] = &filter_screen, [SANDBOX_VIEWER] = &filter_viewer,
                                                    [SANDBOX_LOOP] = &filter_loop, [SANDBOX_VCPU] = &filter_vcpu,
                                                    [SANDBOX_BLOCK] = &filter_block, [SANDBOX_OUTPUT] = &filter_output,
                                                    [SANDBOX_FOLDER] = &filter_folder, [SANDBOX_DIRECT] = &filter_direct };

    return filter_load(filters[kind], 0);
}

static bool confined; /* the process: it is set before there are threads */

void sandbox_confine_threads(void)
{
    confined = prctl(PR_GET_SECCOMP) >= 0 || errno != EINVAL; /* this kernel has none, as sandbox_probe() says */
}

void sandbox_thread(enum sandbox kind)
{
    const int r = confined ? restrict_calls(kind) : 0;

    if (!r)
        return;
    log_error("a thread of the machine cannot give up its system calls: %s", strerror(-r));
    _exit(1);
}

int sandbox_drop(u32 keep)
{
    struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct left[2] = { { 0 } }, have[2] = { { 0 } };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -errno;
    /* Root keeps access to the files that it owns, and nothing else of root's rights. A process that cannot shrink
       the bounding set has nothing in it that it could get back without new privileges. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (cap >= 32 || !(keep & 1u << cap))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capget, &hdr, have))
        return -errno;
    left[0].effective = have[0].effective & keep;
    left[0].permitted = have[0].permitted & keep;
    if (syscall(SYS_capset, &hdr, left) && (have[0].permitted & ~keep || have[1].permitted))
        return -EPERM;
    return limit(RLIMIT_CORE, 0);
}

static int limits(enum sandbox kind)
{
    int r = kind == SANDBOX_FOLDER ? 0 : limit(RLIMIT_NOFILE, MAX_FILES); /* each file that the guest knows is one */

    if (!r && kind != SANDBOX_SCREEN && kind != SANDBOX_DIRECT)
        r = limit(RLIMIT_NPROC, 0);
    if (!r && kind != SANDBOX_FOLDER)
        r = limit(RLIMIT_FSIZE, kind == SANDBOX_SWITCH || kind == SANDBOX_DIRECT ? MAX_FILE_SIZE : 0);
    /* A viewer's process has the screen's limit, and a folder's has set it already. */
    return r || kind == SANDBOX_VIEWER || kind == SANDBOX_FOLDER ? r : limit_memory();
}

/* Says what stays open on a kernel that lacks one of these. */
static void say_missing(enum sandbox kind, struct sandbox_report *r)
{
    r->missing.text[0] = 0;
    if (!r->seccomp)
        error_set(&r->missing, 0,
                  "this kernel has no seccomp (CONFIG_SECCOMP_FILTER): its process may make every system call%s",
                  r->landlock ? "" : ", and without Landlock use every file that you can");
    else if (kind == SANDBOX_USER && !r->asks && !r->landlock)
        error_set(&r->missing, 0,
                  "this host has neither Landlock nor a way to decide on each file that is opened (seccomp_unotify, "
                  "Linux 5.9): its process may read every file that you can");
    else if (kind == SANDBOX_FOLDER && !r->root && !r->landlock)
        error_set(&r->missing, 0,
                  "this host has neither Landlock (Linux 5.19) nor lets its process have a root of its own (a mount "
                  "namespace): a guest that took it over could use every file that you can");
    else if (kind == SANDBOX_FOLDER && !r->root)
        error_set(&r->missing, 0,
                  "this host does not let its process have a root of its own (a mount namespace): a guest that took it over "
                  "could not open your other files, but change their modes, owners and times");
}

static int enter(enum sandbox kind, const char *dir, int *requests, struct sandbox_report *report)
{
    int set = -1, files;
    /* A viewer's process has already passed SANDBOX_SCREEN. */
    int r = kind == SANDBOX_VIEWER ? 0 : sandbox_drop(0);

    *report = (struct sandbox_report){ .seccomp = prctl(PR_GET_SECCOMP) >= 0 || errno != EINVAL, .landlock = true };
    if (!r)
        r = limits(kind);
    if (!r && kind != SANDBOX_VIEWER) {
        set = file_rules(false, NULL, &r);
        report->landlock = set >= 0;
    }
    if (!r && kind == SANDBOX_USER) {
        if (requests) {
            *requests = report->seccomp ? restrict_calls_asking() : -1;
            report->asks = *requests >= 0;
        }
        if (!report->asks && set >= 0) {
            close(set);
            set = file_rules(true, dir, &r);
        }
    }
    files = restrict_files(set);
    r = r ? r : files;
    if (!r && report->seccomp && !report->asks)
        r = restrict_calls(kind);
    say_missing(kind, report);
    return r;
}

int sandbox_enter(enum sandbox kind, const char *dir, int *requests, struct error *err)
{
    struct sandbox_report report;
    const int r = enter(kind, dir, requests, &report);

    *err = report.missing;
    return r ? error_set(err, -r, "its process cannot give up its privileges: %s", strerror(-r)) : 0;
}

/* Does this process have rights over the files of others? */
static bool has_rights(u32 which)
{
    struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct have[2] = { { 0 } };

    return !syscall(SYS_capget, &hdr, have) && have[0].effective & which;
}

int sandbox_enter_folder(struct sandbox_folder *f, struct error *err)
{
    /* capabilities(7). Without CAP_FSETID a write takes setuid and setgid from a file of the host's that has them. */
    const u32 rights = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER;
    struct sandbox_report report = { .seccomp = prctl(PR_GET_SECCOMP) >= 0 || errno != EINVAL };

    f->self = "/proc/self/fd";
    int r = limit_memory(), set = -1; /* reads a file of /proc, which may be gone then */
    report.root = !r && !sandbox_root(f, false);
    /* In a user namespace the rights are other rights, and over this user's own files. */
    const bool users = !r && !report.root && !has_rights(rights) && !sandbox_root(f, true);
    report.root |= users;
    if (!r)
        r = sandbox_drop(users ? 0 : rights);
    if (!r)
        set = folder_rules(f, &r);
    report.landlock = set >= 0;
    if (!r)
        r = limits(SANDBOX_FOLDER);
    const int files = restrict_files(set);
    r = r ? r : files;
    if (!r && report.seccomp)
        r = restrict_calls(SANDBOX_FOLDER);
    say_missing(SANDBOX_FOLDER, &report);
    *err = report.missing;
    return r ? error_set(err, -r, "its process cannot give up its privileges: %s", strerror(-r)) : 0;
}

int sandbox_probe(struct sandbox_report *report)
{
    struct {
        int r;
        struct sandbox_report it;
    } m = { .r = -EIO };
    int ends[2], requests;

    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    const pid_t pid = fork();
    if (!pid) {
        m.r = enter(SANDBOX_USER, NULL, &requests, &m.it);
        _exit(write(ends[1], &m, sizeof(m)) != sizeof(m));
    }
    close(ends[1]);
    if (pid < 0 || read(ends[0], &m, sizeof(m)) != sizeof(m))
        m.r = -EIO;
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *report = m.it;
    return m.r;
}
