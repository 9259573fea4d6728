/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base_sandbox.c - what a process that parses can still do is what it needs, and no more.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pass.h"
#include "base/sandbox.h"
#include "confined.h"

static char dir[] = "/tmp/lodge-sandbox-XXXXXX";

static bool refused(long r) { return r == -1 && errno == EPERM; }

/* Nothing that reaches another process: the one that started it, with its user's rights. */
static void alone(void)
{
    const pid_t parent = getppid(), self = getpid();
    struct rlimit limit = { 0, 0 };
    int fd = eventfd(0, 0), pair[2] = { 0, -1 };
    struct f_owner_ex owner = { F_OWNER_PID, parent };

    CHECK(refused(kill(parent, 0)));
    CHECK(refused(kill(-1, 0)));
    CHECK(refused(syscall(SYS_tgkill, parent, parent, 0)));
    CHECK(refused(syscall(SYS_tkill, parent, 0)));
    CHECK(refused(syscall(SYS_rt_sigqueueinfo, parent, SIGTERM, NULL)));
    CHECK(refused(syscall(SYS_pidfd_open, parent, 0)));
    CHECK_EQ(syscall(SYS_tgkill, self, syscall(SYS_gettid), 0), 0); /* abort() */
    CHECK(refused(syscall(SYS_prlimit64, parent, RLIMIT_NOFILE, NULL, &limit)));
    CHECK(refused(syscall(SYS_prlimit64, parent, RLIMIT_CPU, &limit, NULL)));
    fd = fd < 0 ? 0 : fd;
    CHECK(refused(fcntl(fd, F_SETOWN, parent)));
    CHECK(refused(fcntl(fd, F_SETOWN_EX, &owner)));
    CHECK(refused(fcntl(fd, F_SETSIG, SIGKILL)));
    CHECK(refused(ioctl(fd, FIOSETOWN, &parent)));
    CHECK(refused(ioctl(0, TIOCSTI, "x")));
    CHECK(refused(ptrace(PTRACE_ATTACH, parent, NULL, NULL)));
    CHECK(refused(prctl(PR_SET_PDEATHSIG, SIGKILL)));
    CHECK(refused(prctl(PR_SET_DUMPABLE, 1)));
    CHECK(refused(unshare(CLONE_NEWUSER)));
    CHECK(refused(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)));
    CHECK(refused(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)));
    CHECK(refused(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))); /* sends to any socket with a name */
}

/* Files, programs, other sockets. */
static void neither(void)
{
    char *const argv[] = { (char *)"true", NULL };

    CHECK(refused(execv("/bin/true", argv)));
    CHECK(refused(socket(AF_UNIX, SOCK_STREAM, 0)));
    CHECK(refused(socket(AF_NETLINK, SOCK_RAW, 0)));
    CHECK(refused(socket(AF_PACKET, SOCK_RAW, 0)));
    CHECK(refused(socket(AF_INET, SOCK_RAW, 1)));
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(open("/etc/passwd", O_RDWR) < 0);
    CHECK(open("/tmp/lodge-made", O_WRONLY | O_CREAT, 0600) < 0);
    CHECK(refused(unlink("/tmp/lodge-sandbox-other")));
    CHECK(refused(rename("/tmp/lodge-sandbox-other", "/tmp/lodge-sandbox-mine")));
    CHECK(refused(mkdir("/tmp/lodge-made", 0700)));
    CHECK(refused(chmod("/tmp/lodge-sandbox-other", 0666)));
    CHECK(refused(chroot("/")));
    CHECK(refused(setuid(0)));
    void *p = malloc(1 << 20);
    CHECK(p);
    free(p);
    alone();
}

static void in_sandbox(enum sandbox kind, void (*f)(void))
{
    struct error err;
    int status, ready[2], go[2];
    char c;

    fflush(NULL);
    REQUIRE(!pipe(ready) && !pipe(go));
    const pid_t pid = fork();
    if (!pid) {
        close(go[1]);
        CHECK_EQ(sandbox_enter(kind, NULL, NULL, &err), 0);
        CHECK(write(ready[1], "", 1) == 1 && read(go[0], &c, 1) == 0); /* until it has been looked at */
        f();
        CHECK(refused(fork()) || kind == SANDBOX_SCREEN);
        _exit(test_status());
    }
    close(ready[1]);
    CHECK(read(ready[0], &c, 1) == 1);
    check_powerless(pid);
    CHECK_EQ(proc_status(pid, "Seccomp", 10), 2);
    close(go[1]);
    close(go[0]);
    close(ready[0]);
    CHECK(waitpid(pid, &status, 0) == pid && !status);
}

static void switch_(void)
{
    CHECK(refused(open("/etc/resolv.conf", O_RDONLY)));
    CHECK(refused(socket(AF_INET, SOCK_STREAM, 0)));
    CHECK(memfd_create("x", 0) >= 0 && eventfd(0, 0) >= 0);
    neither();
}

/* What displayd becomes, and what each viewer's process does then. */
static void screen(void)
{
    struct error err;
    int pair[2], status;

    CHECK(refused(socket(AF_INET, SOCK_STREAM, 0)));
    CHECK(refused(open("/etc/passwd", O_RDONLY)));
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    neither();
    fflush(NULL);
    const pid_t pid = fork();
    if (!pid) {
        CHECK_EQ(sandbox_enter(SANDBOX_VIEWER, NULL, NULL, &err), 0);
        CHECK(refused(open("/etc/passwd", O_RDONLY)));
        CHECK(refused(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)));
        CHECK(refused(accept(pair[0], NULL, NULL)));
        CHECK(write(pair[0], "x", 1) == 1 && poll(NULL, 0, 0) == 0);
        CHECK(refused(fork()));
        CHECK(refused(syscall(SYS_tgkill, getppid(), getppid(), 0)));
        CHECK(refused(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &(struct rlimit){ 0 })));
        _exit(test_status());
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
}

TEST(sandboxes)
{
    REQUIRE(mkdtemp(strcpy(dir, "/tmp/lodge-sandbox-XXXXXX")));
    close(open("/tmp/lodge-sandbox-other", O_WRONLY | O_CREAT, 0600));
    in_sandbox(SANDBOX_SWITCH, switch_);
    in_sandbox(SANDBOX_SCREEN, screen);
    unlink("/tmp/lodge-sandbox-other");
    CHECK(!rmdir(dir));
}

/* ---- SANDBOX_USER, whose files another opens ---- */

static void send_fd(int sock, int fd)
{
    CHECK_EQ(pass_send(sock, "", 1, &fd, fd >= 0, 0), 0);
}

static int receive_fd(int sock)
{
    char c;
    int fd;

    CHECK(pass_receive(sock, &c, 1, &fd, 1) >= 0);
    return fd;
}

static int opened; /* of the one that opens */

static int opener(void *ctx, const char *path)
{
    opened++;
    return !strcmp(path, "/etc/resolv.conf") ? fcntl(*(int *)ctx, F_DUPFD_CLOEXEC, 0) : -EACCES;
}

static void user(bool asks)
{
    struct stat st;
    char text[8] = "";

    const int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
    CHECK(!stat("/etc", &st));
    if (asks) {
        CHECK(fd >= 0 && read(fd, text, 7) == 7);
        CHECK_STR(text, "theirs\n"); /* what the other opened, whatever is there */
        CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
        CHECK(open("/proc/self/maps", O_RDONLY) < 0 && errno == EACCES);
        CHECK(syscall(SYS_openat, AT_FDCWD, 8, O_RDONLY) == -1 && errno == EFAULT);
        CHECK(refused(open("/etc/resolv.conf", O_RDWR)));
        CHECK(refused(open("/tmp", O_TMPFILE | O_RDWR, 0600)));
    }
    CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
    CHECK(socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) >= 0 || errno == EAFNOSUPPORT);
    CHECK(refused(socket(AF_INET, SOCK_STREAM, 132 /* SCTP */)));
    neither();
    CHECK(refused(fork()));
}

TEST(files_by_another)
{
    struct error err;
    char path[64];
    int pair[2], status;

    REQUIRE(mkdtemp(strcpy(dir, "/tmp/lodge-sandbox-XXXXXX")));
    snprintf(path, sizeof(path), "%s/resolv.conf", dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    REQUIRE(fd >= 0 && write(fd, "theirs\n", 7) == 7 && !lseek(fd, 0, SEEK_SET));
    close(open("/tmp/lodge-sandbox-other", O_WRONLY | O_CREAT, 0600));
    REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    fflush(NULL);
    const pid_t pid = fork();
    if (!pid) {
        int requests = -1;
        bool can = false;
        close(pair[0]);
        CHECK_EQ(recv(pair[1], &can, 1, 0), 1);
        CHECK_EQ(sandbox_enter(SANDBOX_USER, NULL, can ? &requests : NULL, &err), 0);
        send_fd(pair[1], requests);
        user(requests >= 0);
        _exit(test_status());
    }
    close(pair[1]);
    const int mem = sandbox_memory(pid);
    const bool can = mem >= 0;
    CHECK_EQ(send(pair[0], &can, 1, 0), 1);
    const int requests = receive_fd(pair[0]);
    if (requests < 0)
        printf("     left out: no seccomp_unotify here, or its memory cannot be read\n");
    sandbox_keep(requests, mem, pair[0], opener, &fd);
    close(mem);
    CHECK(requests < 0 || opened == 3); /* the bad pointer has no name to ask for */
    CHECK(waitpid(pid, &status, 0) == pid && !status);
    unlink("/tmp/lodge-sandbox-other");
    CHECK(!unlink(path) && !rmdir(dir));
}

/* ---- kernels that have less, played by a filter of our own ---- */

static void without(bool landlock, bool unotify)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

    if (landlock)
        CHECK_EQ(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SYS_landlock_create_ruleset, 0), 0);
    if (unotify)
        CHECK_EQ(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(seccomp), 1,
                                  SCMP_A1(SCMP_CMP_MASKED_EQ, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                                          SECCOMP_FILTER_FLAG_NEW_LISTENER)), 0);
    CHECK_EQ(seccomp_load(ctx), 0);
    seccomp_release(ctx);
}

/* Nobody answers: what is asked for is not to be had. */
static void on_kernel(bool no_landlock, bool no_unotify, bool no_ask, const struct sandbox_report *here)
{
    struct error err;
    int status, requests = -1;

    fflush(NULL);
    const pid_t pid = fork();
    if (!pid) {
        without(no_landlock, no_unotify);
        CHECK_EQ(sandbox_enter(SANDBOX_USER, NULL, no_ask ? NULL : &requests, &err), 0);
        const bool landlock = here->landlock && !no_landlock, asks = here->asks && !no_unotify && !no_ask;
        CHECK_EQ(requests >= 0, asks);
        if (landlock || asks)
            CHECK_STR(err.text, "");
        else
            CHECK(strstr(err.text, "may read every file that you can"));
        if (asks)
            close(requests);
        const int fd = open("/etc/resolv.conf", O_RDONLY);
        CHECK(asks ? fd < 0 && errno == ENOSYS : fd >= 0 || errno == ENOENT);
        CHECK((open("/etc/passwd", O_RDONLY) < 0) == (landlock || asks));
        CHECK(open("/tmp/lodge-made", O_WRONLY | O_CREAT, 0600) < 0);
        neither();
        _exit(test_status());
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
}

TEST(lesser_kernels)
{
    struct sandbox_report here;

    REQUIRE(!sandbox_probe(&here));
    close(open("/tmp/lodge-sandbox-other", O_WRONLY | O_CREAT, 0600));
    if (!here.seccomp)
        return;
    for (int i = 0; i < 8; i++)
        on_kernel(i & 1, i & 2, i & 4, &here);
    unlink("/tmp/lodge-sandbox-other");
}
