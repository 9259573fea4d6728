/* SPDX-License-Identifier: Apache-2.0 */
/* What rooms want opened reaches whoever opens for this process, and what he says comes back to them. */
#include <errno.h>
#include <netinet/in.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/opener.h"
#include "base/patience.h"
#include "base/unix_socket.h"
#include "test.h"

static struct opener_request last;
static char last_path[256];
static int answer;
static u32 asked;

static int on_open(void *ctx, const struct opener_request *r)
{
    CHECK(ctx == &asked);
    asked++;
    last = *r;
    snprintf(last_path, sizeof last_path, "%s", r->path ? r->path : ((const struct sockaddr_un *)r->address)->sun_path);
    return answer;
}

static const struct opener other = { on_open, &asked };

TEST(another_opens)
{
    struct unix_socket s;
    struct error err;
    char *text;
    size_t size;

    opener_use(&other);
    answer = 77; /* no descriptor of ours: nobody closes it */
    CHECK_EQ(opener_file(OPENER_KERNEL, "/boot/vmlinuz", O_RDONLY, 0), 77);
    CHECK_EQ(last.purpose, OPENER_KERNEL);
    CHECK_EQ(last.kind, OPENER_FILE);
    CHECK_STR(last_path, "/boot/vmlinuz");
    answer = -EACCES;
    errno = 0;
    CHECK_EQ(opener_file(OPENER_DISK, "x", O_RDWR, 0), -1);
    CHECK_EQ(errno, EACCES);
    CHECK_EQ(opener_remove(OPENER_DISK, "x"), -EACCES);
    CHECK_EQ(opener_folder(OPENER_SNAPSHOT, "x", 0700), -EACCES);
    CHECK_EQ(unix_socket_connect(OPENER_API, "/run/a.sock", SOCK_STREAM), -EACCES);
    CHECK_EQ(last.kind, OPENER_CONNECT);
    CHECK_EQ(last.type, SOCK_STREAM);
    CHECK_STR(last_path, "/run/a.sock");
    CHECK_EQ(unix_socket_listen(&s, OPENER_CHARDEV, "unix:", "/no/such/place/b.sock", &err), -EACCES);
    CHECK_EQ(last.kind, OPENER_LISTEN);
    CHECK_STR(err.text, "unix:/no/such/place/b.sock: Permission denied");
    CHECK_EQ(patience_read(OPENER_SCREEN, "/etc/password", true, 100, "password: ", &text, &size, &err), -EACCES);
    CHECK_EQ(last.purpose, OPENER_SCREEN);
    CHECK_STR(err.text, "password: /etc/password: Permission denied");
    CHECK_EQ(asked, 8); /* unix_socket_listen looks first whether the name is taken */
    opener_use(NULL);
}

static void files(const char *dir)
{
    struct opener_request r = { .purpose = OPENER_DISK, .kind = OPENER_FILE, .flags = O_RDONLY, .no_links = true };
    char path[64], linked[64];

    snprintf(path, sizeof path, "%s/folder", dir);
    CHECK_EQ(opener_folder(OPENER_SNAPSHOT, path, 0700), 0);
    CHECK_EQ(opener_folder(OPENER_SNAPSHOT, path, 0700), -EEXIST);
    rmdir(path);
    snprintf(path, sizeof path, "%s/file", dir);
    int fd = opener_file(OPENER_CHARDEV, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    snprintf(linked, sizeof linked, "%s/link", dir);
    CHECK_EQ(symlink("file", linked), 0);
    r.path = path;
    CHECK((fd = opener_request(&r)) >= 0);
    close(fd);
    r.path = linked;
    CHECK_EQ(opener_request(&r), -ELOOP);
    CHECK_EQ(opener_remove(OPENER_DISK, linked), 0);
    CHECK_EQ(opener_remove(OPENER_DISK, linked), -ENOENT);
    CHECK_EQ(opener_remove(OPENER_DISK, path), 0);
}

static void sockets(const char *dir)
{
    struct unix_socket s;
    struct error err;
    struct stat st;
    char path[64];
    int fd;

    snprintf(path, sizeof path, "%s/sock", dir);
    CHECK_EQ(unix_socket_listen(&s, OPENER_API, "", path, &err), 0);
    CHECK(!stat(path, &st) && (st.st_mode & 0777) == 0600);
    CHECK((fd = unix_socket_connect(OPENER_API, path, SOCK_STREAM)) >= 0);
    close(fd);
    unix_socket_close(&s);
    CHECK(stat(path, &st) && errno == ENOENT);
}

TEST(this_process_opens)
{
    char dir[] = "/tmp/opener-XXXXXX";

    REQUIRE(mkdtemp(dir));
    files(dir);
    sockets(dir);
    rmdir(dir);
}

/* A server that never answers keeps nobody: the connection is handed out while it is still being made. */
TEST(hosts)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof sa;
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int waits[4], fd;
    char port[8];

    REQUIRE(server >= 0 && !bind(server, (struct sockaddr *)&sa, sizeof sa) && !getsockname(server, (struct sockaddr *)&sa, &size));
    snprintf(port, sizeof port, "%u", ntohs(sa.sin_port));
    CHECK_EQ(opener_host(OPENER_DISK, OPENER_CONNECT_HOST, "127.0.0.1", port, SOCK_STREAM), -ECONNREFUSED);
    CHECK_EQ(opener_host(OPENER_DISK, OPENER_CONNECT_HOST, "no.such.name.invalid", port, SOCK_STREAM), -EADDRNOTAVAIL);
    REQUIRE(!listen(server, 0));
    CHECK((fd = opener_host(OPENER_DISK, OPENER_CONNECT_HOST, "127.0.0.1", port, SOCK_STREAM)) >= 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    for (u32 i = 0; i < ARRAY_SIZE(waits); i++) { /* its queue is full then, and the kernel drops who comes */
        waits[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(waits[i], (struct sockaddr *)&sa, sizeof sa);
    }
    CHECK((fd = opener_host(OPENER_DISK, OPENER_CONNECT_HOST, "127.0.0.1", port, SOCK_STREAM)) >= 0);
    close(fd);
    for (u32 i = 0; i < ARRAY_SIZE(waits); i++)
        close(waits[i]);
    close(server);
}
