/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share_folder.c - the process that serves a folder: what it can still do is what the guest may ask of it, on each kind of
 * host; what a guest that took it over cannot do; and what it makes of messages that are none.
 */
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/sandbox.h"
#include "confined.h"
#include "fuse_rig.h"
#include "share/folder_message.h"
#include "share/folderd.h"

static void __attribute__((constructor)) be_folderd(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "folderd"))
        _exit(folderd_main(argc - 1, argv + 1));
}

static char top[64], folder[80], secret[80];

static void shell(const char *what)
{
    char command[512];

    snprintf(command, sizeof command, what, top);
    CHECK_EQ(system(command), 0);
}

static bool make_tree(void)
{
    strcpy(top, "/tmp/lodge-folder-XXXXXX");
    if (!mkdtemp(top))
        return false;
    snprintf(folder, sizeof folder, "%s/share", top);
    snprintf(secret, sizeof secret, "%s/secret", top);
    shell("chmod 755 %1$s && cd %1$s && mkdir share share/dir && echo canary >secret && echo text >share/a &&"
          "ln -s ../secret share/out && ln -s %1$s/secret share/far && chmod -R a+rwX %1$s");
    if (!geteuid()) /* the user as whom some of this runs */
        shell("chown -R 65534:65534 %s");
    return true;
}

/* ---- hosts ---- */

enum host { ROOT = 1, NAMESPACES = 2, LANDLOCK = 4, OPENAT2 = 8 };

/* As on a host that has only these. */
static bool become(u32 host)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int r = 0;

    if (!(host & ROOT) && !geteuid())
        r = setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534) ||
            prctl(PR_SET_DUMPABLE, 1) ? -errno : 0; /* or /proc/self would be root's */
    if (!r && !(host & NAMESPACES))
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0);
    if (!r && !(host & LANDLOCK))
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SYS_landlock_create_ruleset, 0);
    if (!r && !(host & OPENAT2))
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SYS_openat2, 0);
    if (!r)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return !r;
}

/* ---- what the guest may ask ---- */

#define ASK(s, opcode, node, ...) ask(s, opcode, node, &__VA_ARGS__, sizeof(__VA_ARGS__), "", 0)
#define NAMED(s, opcode, node, name, ...) with_name(s, opcode, node, &__VA_ARGS__, sizeof(__VA_ARGS__), name)

static int with_name(struct fuse_server *s, u32 opcode, u64 node, const void *args, u32 n, const char *name)
{
    return ask(s, opcode, node, args, n, name, (u32)strlen(name) + 1);
}

/* Each operation works as without a sandbox. */
static void operations(struct fuse_server *s, bool chown_works, uid_t uid)
{
    const struct fuse_create_in create = { .flags = O_RDWR, .mode = 0644 };
    const struct fuse_setattr_in attr = {
        .valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME | FATTR_ATIME | FATTR_GID | FATTR_UID, .mode = 0600, .size = 5, .mtime = 77,
        .uid = chown_works ? 1234 : uid, .gid = chown_works ? 1234 : ~0u,
    };
    const struct fuse_setxattr_in set = { .size = 2 };
    const struct fuse_getxattr_in get = { .size = 100 };
    const struct fuse_rename2_in move = { .newdir = lookup(s, 1, "dir") };
    u64 fh, node;
    int rc, xattr;

    CHECK_EQ(with_name(s, FUSE_CREATE, 1, &create, sizeof create, "n"), 0);
    node = ANSWER(struct fuse_entry_out)->nodeid;
    fh = ((const struct fuse_open_out *)(ANSWER(struct fuse_entry_out) + 1))->fh;
    const struct fuse_write_in put = { .fh = fh, .size = 9 };
    CHECK_EQ(ask(s, FUSE_WRITE, node, &put, sizeof put, "some text", 9), 0);
    CHECK_EQ(ASK(s, FUSE_READ, node, (struct fuse_read_in){ .fh = fh, .size = 9 }), 0);
    CHECK(body == 9 && !memcmp(out + sizeof(struct fuse_out_header), "some text", 9));
    CHECK_EQ(ASK(s, FUSE_FALLOCATE, node, (struct fuse_fallocate_in){ .fh = fh, .length = 100 }), 0);
    CHECK_EQ(ASK(s, FUSE_LSEEK, node, (struct fuse_lseek_in){ .fh = fh, .whence = SEEK_HOLE }), 0);
    const struct fuse_copy_file_range_in copy = { .fh_in = fh, .fh_out = fh, .off_out = 50, .len = 9 };
    CHECK_EQ(ASK(s, FUSE_COPY_FILE_RANGE, node, copy), 0);
    CHECK_EQ(ASK(s, FUSE_FSYNC, node, (struct fuse_fsync_in){ .fh = fh }), 0);
    CHECK_EQ(ASK(s, FUSE_FSYNC, node, (struct fuse_fsync_in){ .fh = fh, .fsync_flags = 1 }), 0);
    CHECK_EQ(ask(s, FUSE_SETATTR, node, &attr, sizeof attr, "", 0), 0);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.size, 5);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.mode & 07777, 0600);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.mtime, 77);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.uid, attr.uid);
    xattr = ask(s, FUSE_SETXATTR, node, &set, FUSE_COMPAT_SETXATTR_IN_SIZE, "user.x\0ab", 9);
    CHECK(!xattr || xattr == -EOPNOTSUPP);
    rc = with_name(s, FUSE_GETXATTR, node, &get, sizeof get, "user.x");
    CHECK(xattr ? rc < 0 && rc != -EPERM : !rc && body == 2);
    rc = ask(s, FUSE_LISTXATTR, node, &get, sizeof get, "", 0);
    CHECK(xattr ? rc != -EPERM : !rc && body >= 7);
    CHECK(ask_name(s, FUSE_REMOVEXATTR, node, "user.x") == 0 || xattr);
    CHECK_EQ(ASK(s, FUSE_RELEASE, node, (struct fuse_release_in){ .fh = fh }), 0);
    /* names */
    CHECK_EQ(NAMED(s, FUSE_LINK, 1, "l", (struct fuse_link_in){ .oldnodeid = node }), 0);
    CHECK_EQ(ask(s, FUSE_RENAME2, 1, &move, sizeof move, "l\0l", 4), 0);
    CHECK_EQ(ask(s, FUSE_SYMLINK, 1, "", 0, "sym\0/etc/passwd", 16), 0);
    CHECK_EQ(ask(s, FUSE_READLINK, ANSWER(struct fuse_entry_out)->nodeid, "", 0, "", 0), 0);
    CHECK_EQ(NAMED(s, FUSE_MKDIR, 1, "d", (struct fuse_mkdir_in){ .mode = 02755 }), 0);
    CHECK_EQ(NAMED(s, FUSE_MKNOD, 1, "p", (struct fuse_mknod_in){ .mode = S_IFIFO | 0600 }), 0);
    CHECK_EQ(NAMED(s, FUSE_MKNOD, 1, "r", (struct fuse_mknod_in){ .mode = S_IFREG | 0600 }), 0);
    CHECK_EQ(NAMED(s, FUSE_MKNOD, 1, "s", (struct fuse_mknod_in){ .mode = S_IFSOCK | 0600 }), 0);
    CHECK_EQ(ask(s, FUSE_STATFS, 1, "", 0, "", 0), 0);
    fh = open_node(s, FUSE_OPENDIR, 1, O_RDONLY, &rc);
    CHECK_EQ(rc, 0);
    CHECK_EQ(ASK(s, FUSE_READDIRPLUS, 1, (struct fuse_read_in){ .fh = fh, .size = 8192 }), 0);
    CHECK(body > 1000);
    CHECK_EQ(ASK(s, FUSE_RELEASEDIR, 1, (struct fuse_release_in){ .fh = fh }), 0);
    for (const char *n = "n\0p\0r\0s\0sym\0"; *n; n += strlen(n) + 1)
        CHECK_EQ(ask_name(s, FUSE_UNLINK, 1, n), 0);
    CHECK_EQ(ask_name(s, FUSE_UNLINK, move.newdir, "l"), 0);
    CHECK_EQ(ask_name(s, FUSE_RMDIR, 1, "d"), 0);
    fh = open_node(s, FUSE_OPEN, lookup(s, 1, "out"), O_RDONLY, &rc);
    CHECK_EQ(rc, -ELOOP);
}

static void reads_only(struct fuse_server *s, int dir)
{
    int rc;
    const u64 node = lookup(s, 1, "a"), fh = open_node(s, FUSE_OPEN, node, O_RDONLY, &rc);

    CHECK_EQ(rc, 0);
    CHECK_EQ(ASK(s, FUSE_READ, node, (struct fuse_read_in){ .fh = fh, .size = 9 }), 0);
    CHECK_EQ(body, 5);
    /* and one that was taken over */
    CHECK(openat(dir, "a", O_RDONLY) >= 0 && openat(dir, "a", O_RDWR) < 0 && openat(dir, "a", O_RDONLY | O_TRUNC) < 0);
    CHECK(openat(dir, "new", O_WRONLY | O_CREAT, 0600) < 0 && mkdirat(dir, "new", 0700) && unlinkat(dir, "a", 0));
}

/* ---- what a guest that took the process over may not ---- */

/* The calls that the filter knows; tools/gen_sandbox.c says what they are for. */
static const int known[] = {
    SYS_openat, SYS_openat2, SYS_newfstatat, SYS_fstatfs, SYS_getdents64, SYS_lseek, SYS_preadv, SYS_pwritev, SYS_copy_file_range,
    SYS_ftruncate, SYS_fallocate, SYS_fsync, SYS_fdatasync, SYS_mkdirat, SYS_mknodat, SYS_unlinkat, SYS_renameat, SYS_renameat2,
    SYS_linkat, SYS_symlinkat, SYS_readlinkat, SYS_chmod, SYS_fchownat, SYS_utimensat, SYS_getxattr, SYS_setxattr, SYS_listxattr,
    SYS_removexattr, SYS_recvfrom, SYS_sendto, SYS_write, SYS_close, SYS_fstat, SYS_fcntl, SYS_prlimit64, SYS_brk, SYS_mmap,
    SYS_mprotect, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_getrandom, SYS_rt_sigreturn, SYS_rt_sigprocmask,
    SYS_sigaltstack, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_clock_gettime, SYS_restart_syscall, SYS_exit, SYS_exit_group,
};

static void other_calls(void)
{
    for (long nr = 0; nr < 512; nr++) {
        bool is_known = nr == 335 || nr == 336; /* the kernel's own, for probes: whoever calls them is ended */
        for (u32 i = 0; i < ARRAY_SIZE(known); i++)
            is_known |= known[i] == nr;
        if (!is_known && (syscall(nr, -1, -1, -1, -1, -1, -1) != -1 || errno != EPERM))
            test_fail(__FILE__, __LINE__, "system call %ld is not refused: %s", nr, strerror(errno));
    }
    CHECK(syscall(SYS_tgkill, getppid(), getppid(), 0) == -1 && errno == EPERM);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(syscall(SYS_fcntl, 2, F_SETOWN, getppid()) == -1 && errno == EPERM);
    CHECK(syscall(SYS_mknodat, -1, "x", S_IFCHR | 0600, 0x103) == -1 && errno == EPERM);
}

/* Whatever path is tried, and from wherever. Landlock alone does not hide names, and does not keep modes and times. */
static void files_outside(const struct sandbox_folder *f, bool root)
{
    static const char *const relative[] = { "..", "../..", "../../..", "../secret", "../../secret", "out", "far",
                                            "dir/../../secret" };
    const char *const absolute[] = { "/etc/passwd", "/proc/self/maps", "/proc/1/root/etc/passwd", "/dev/null", secret, top,
                                     "/proc/self/root/etc/passwd", "/proc/self/cwd/../secret", "/proc/self/environ" };
    const int from[] = { f->folder, AT_FDCWD };
    struct stat st;

    for (u32 k = 0; k < 2; k++)
        for (u32 i = 0; i < ARRAY_SIZE(relative); i++) {
            const int fd = openat(from[k], relative[i], O_RDONLY);
            const bool is_top = root && i < 3; /* ".." of the root is the root */
            if (fd >= 0 && (!is_top || faccessat(fd, "secret", F_OK, 0) == 0))
                test_fail(__FILE__, __LINE__, "%s can be opened", relative[i]);
            CHECK(root || openat(from[k], relative[i], O_RDWR | O_CREAT, 0600) < 0);
        }
    for (u32 i = 0; i < ARRAY_SIZE(absolute); i++) {
        if (open(absolute[i], O_RDONLY) >= 0 || open(absolute[i], O_WRONLY | O_CREAT, 0600) >= 0)
            test_fail(__FILE__, __LINE__, "%s can be opened", absolute[i]);
        if (root && (!fstatat(AT_FDCWD, absolute[i], &st, 0) || open(absolute[i], O_PATH) >= 0))
            test_fail(__FILE__, __LINE__, "%s is there", absolute[i]);
        if (root)
            CHECK(chmod(absolute[i], 0777) && utimensat(AT_FDCWD, absolute[i], NULL, 0));
        CHECK(linkat(AT_FDCWD, absolute[i], f->folder, "stolen", 0));
        CHECK(syscall(SYS_renameat2, AT_FDCWD, absolute[i], f->folder, "stolen", 0) == -1);
        CHECK(unlinkat(AT_FDCWD, absolute[i], 0));
    }
    CHECK(mkdirat(AT_FDCWD, "/tmp/lodge-made", 0700));
    CHECK(linkat(f->folder, "a", AT_FDCWD, "/tmp/lodge-made", 0));
    CHECK(symlinkat("a", AT_FDCWD, "/tmp/lodge-made"));
}

/* ---- all of it ---- */

static void look(struct stat st[2])
{
    CHECK(!stat(top, &st[0]) && !stat(secret, &st[1]));
}

/* In the process. root, landlock: what this host turns out to have. */
static void inside(u32 host, bool readonly, int go, int ready)
{
    struct sandbox_folder f = { .folder = open(folder, O_PATH | O_DIRECTORY), .readonly = readonly };
    struct error err;
    char c;

    umask(0);
    REQUIRE(become(host));
    const uid_t uid = geteuid();
    CHECK_EQ(sandbox_enter_folder(&f, &err), 0);
    const bool root = !strcmp(f.self, "."), landlock = !strstr(err.text, "every file");
    CHECK(root || !(host & NAMESPACES) || !(host & ROOT)); /* some hosts have none for users */
    CHECK(!root || !err.text[0]);
    CHECK(write(ready, "", 1) == 1 && recv(go, &c, 1, 0) == 0); /* until it has been looked at */
    struct fuse_server *s = fuse_server_new(f.folder, f.self, readonly, &err);
    REQUIRE(s);
    if (readonly)
        reads_only(s, f.folder);
    else
        operations(s, host & ROOT, uid);
    if (root || landlock)
        files_outside(&f, root);
    other_calls();
}

static void on_host(u32 host, bool readonly)
{
    struct stat before[2], after[2];
    int ready[2], go[2], status;
    char c;

    REQUIRE(make_tree());
    look(before);
    REQUIRE(!pipe(ready) && !socketpair(AF_UNIX, SOCK_SEQPACKET, 0, go));
    fflush(NULL);
    const pid_t pid = fork();
    if (!pid) {
        close(go[1]);
        inside(host, readonly, go[0], ready[1]);
        _exit(test_status());
    }
    close(ready[1]);
    if (read(ready[0], &c, 1) == 1) {
        CHECK_EQ(proc_status(pid, "NoNewPrivs", 10), 1);
        CHECK_EQ(proc_status(pid, "Seccomp", 10), 2);
        /* CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER */
        CHECK_EQ(proc_status(pid, "CapEff", 16), host & ROOT ? 1 << 0 | 1 << 1 | 1 << 3 : 0);
        CHECK_EQ(proc_status(pid, "CapPrm", 16), host & ROOT ? 1 << 0 | 1 << 1 | 1 << 3 : 0);
        if (host & ROOT)
            CHECK_EQ(proc_status(pid, "CapBnd", 16), 1 << 0 | 1 << 1 | 1 << 3);
    }
    close(go[1]);
    close(go[0]);
    close(ready[0]);
    CHECK(waitpid(pid, &status, 0) == pid && !status);
    if (status)
        printf("     on a host with %x%s: status %x\n", host, readonly ? ", read-only" : "", status);
    look(after);
    CHECK(before[1].st_mode == after[1].st_mode && before[1].st_mtime == after[1].st_mtime &&
          before[1].st_size == after[1].st_size && before[0].st_mode == after[0].st_mode);
    shell("rm -rf %s");
}

TEST(does_what_the_guest_may_and_no_more)
{
    for (u32 host = 0; host < 16; host++)
        if (!(host & ROOT) || !geteuid())
            on_host(host, false);
    on_host(NAMESPACES | LANDLOCK | OPENAT2, true);
    on_host(LANDLOCK | OPENAT2, true);
}

/* ---- messages that are none ---- */

static void hello(int sock, bool readonly)
{
    const struct folder_hello h = { FOLDER_MAGIC, readonly };
    struct folder_answer a;

    CHECK_EQ(send(sock, &h, sizeof h, 0), sizeof h);
    CHECK_EQ(recv(sock, &a, sizeof a, 0), sizeof a);
    CHECK_EQ(a.result, 0);
}

TEST(a_message_that_is_none_ends_it)
{
    char *const argv[] = { (char *)"lodge", (char *)"folderd", NULL };
    static struct folder_request q;
    static const struct {
        u32 nout, nin;
        u64 place, length, size; /* of the first piece; of the message, 0: as it should be */
    } crimes[] = {
        { 1, 1, 0, 4096, 8 },          { 1, 1, 0, 4096, 15 },           { 1, 1, 0, 4096, 40 }, { 1, 1, 0, 4096, sizeof q },
        { 1, 1, MiB(3), 1, 0 },        { 1, 1, MiB(3) - 1, 2, 0 },      { 1, 1, ~0ull, 2, 0 }, { 1, 1, 16, ~0ull, 0 },
        { 1027, 0, 0, 16, sizeof q },  { 1, ~0u, 0, 16, sizeof q },     { 1, 1, ~0ull, 1, 0 }, { ~0u, 2, 0, 16, 32 },
        { 0x80000000, 0x80000000, 0, 16, 16 },
    };

    REQUIRE(make_tree());
    for (u32 i = 0; i <= ARRAY_SIZE(crimes); i++) {
        struct child c;
        struct error err = { "" };
        struct folder_done d;
        int pair[2], memory = memfd_create("memory", MFD_CLOEXEC);
        REQUIRE(memory >= 0 && !ftruncate(memory, MiB(1)) && !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
        REQUIRE(!child_start(&c, argv, (int[]){ pair[1], open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), memory }, 3));
        close(pair[1]);
        hello(pair[0], false);
        /* At first what it may get: the memory has grown meanwhile. */
        q = (struct folder_request){ FOLDER_SERVE, 7, 1, 1, { { 0, 4096 }, { MiB(2), 4096 } } };
        const struct fuse_in_header h = { .opcode = FUSE_STATFS, .nodeid = 1, .unique = 5 };
        CHECK(!ftruncate(memory, MiB(3)) && pwrite(memory, &h, sizeof h, 0) == sizeof h);
        CHECK(send(pair[0], &q, 16 + 2 * 16, 0) > 0 && recv(pair[0], &d, sizeof d, 0) == sizeof d);
        CHECK_EQ(d.id, 7);
        CHECK_EQ(d.length, sizeof(struct fuse_out_header) + sizeof(struct fuse_statfs_out));
        if (i < ARRAY_SIZE(crimes)) {
            q.nout = crimes[i].nout;
            q.nin = crimes[i].nin;
            q.piece[0] = (struct folder_piece){ crimes[i].place, crimes[i].length };
            CHECK(send(pair[0], &q, crimes[i].size ? crimes[i].size : 16 + 2 * 16, 0) > 0);
        }
        if (i == ARRAY_SIZE(crimes))
            close(pair[0]);
        CHECK_EQ(child_last_words(&c, &err), i < ARRAY_SIZE(crimes) ? -EIO : 0);
        CHECK_STR(err.text, i < ARRAY_SIZE(crimes) ? "a message of the machine's is none that it may send" : "");
        if (i < ARRAY_SIZE(crimes))
            close(pair[0]);
        close(memory);
    }
    shell("rm -rf %s");
}
