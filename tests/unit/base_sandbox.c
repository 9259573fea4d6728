/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base_sandbox.c - what a process that parses can still do is what it needs, and no more.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"

static char dir[] = "/tmp/lodge-sandbox-XXXXXX";

static void in_sandbox(enum sandbox kind, void (*f)(bool landlock))
{
    struct error err;
    int status;
    /* Older kernels have no Landlock: there the files are guarded by permissions alone. */
    const bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */) > 0;

    fflush(NULL);
    const pid_t pid = fork();
    if (!pid) {
        CHECK_EQ(sandbox_enter(kind, kind == SANDBOX_SWITCH ? dir : NULL, &err), 0);
        f(landlock);
        _exit(test_status());
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
}

static void neither(void)
{
    char *const argv[] = { (char *)"true", NULL };

    CHECK(execv("/bin/true", argv) && errno == EPERM);
    CHECK(fork() < 0 && errno == EPERM);
    CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
    CHECK(socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(open("/etc/passwd", O_RDWR) < 0);
    CHECK(open("/tmp/lodge-made", O_WRONLY | O_CREAT, 0600) < 0);
    CHECK(kill(getppid(), 0) < 0 && errno == EPERM);
    void *p = malloc(1 << 20);
    CHECK(p);
    free(p);
}

static void user(bool landlock)
{
    int fd = open("/etc/resolv.conf", O_RDONLY);
    struct stat st;

    CHECK(fd >= 0 || errno == ENOENT);
    CHECK(!stat("/etc", &st));
    CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0 && socket(AF_INET6, SOCK_DGRAM, 0) >= 0);
    if (landlock)
        CHECK(open("/proc/self/maps", O_RDONLY) < 0 && errno == EACCES);
    neither();
}

static void switch_(bool landlock)
{
    char path[64];

    CHECK(open("/etc/resolv.conf", O_RDONLY) < 0);
    CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0);
    CHECK(memfd_create("x", 0) >= 0 && eventfd(0, 0) >= 0);
    if (landlock)
        CHECK(unlink("/tmp/lodge-sandbox-other") && errno == EACCES);
    snprintf(path, sizeof(path), "%s/socket", dir);
    CHECK(!unlink(path));
    neither();
}

/* What displayd becomes, and what each viewer's process does then. */
static void screen(bool landlock)
{
    char *const argv[] = { (char *)"true", NULL };
    struct error err;
    int pair[2], status;

    CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
    CHECK(open("/etc/passwd", O_RDONLY) < 0);
    CHECK(execv("/bin/true", argv) && errno == EPERM);
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    fflush(NULL);
    const pid_t pid = fork();
    if (!pid) {
        CHECK_EQ(sandbox_enter(SANDBOX_VIEWER, NULL, &err), 0);
        CHECK(open("/etc/passwd", O_RDONLY) < 0);
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0 && errno == EPERM);
        CHECK(accept(pair[0], NULL, NULL) < 0 && errno == EPERM);
        CHECK(write(pair[0], "x", 1) == 1 && poll(NULL, 0, 0) == 0);
        neither();
        _exit(test_status());
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
}

TEST(sandboxes)
{
    char path[64];

    REQUIRE(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/socket", dir);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    close(open("/tmp/lodge-sandbox-other", O_WRONLY | O_CREAT, 0600));
    in_sandbox(SANDBOX_USER, user);
    in_sandbox(SANDBOX_SWITCH, switch_);
    in_sandbox(SANDBOX_SCREEN, screen);
    unlink("/tmp/lodge-sandbox-other");
    CHECK(!rmdir(dir));
}
