/* SPDX-License-Identifier: Apache-2.0 */
/* worker_policy.c - what a broker opens for its worker, request by request; and the clients that it looks at. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/pass.h"
#include "worker/clients.h"

static char dir[] = "/tmp/lodge-policy-XXXXXX";
static struct vm_config config;
static struct policy *policy;

static const char *in_dir(const char *name)
{
    static char path[8][128];
    static u32 n;

    n = (n + 1) % 8;
    snprintf(path[n], sizeof path[n], "%s/%s", dir, name);
    return path[n];
}

static void make_file(const char *name)
{
    const int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0)
        abort();
    close(fd);
}

/* dir: images/disk, images/backing, images/.hidden, secret */
static void begin(void)
{
    strcpy(dir + sizeof dir - 7, "XXXXXX");
    if (!mkdtemp(dir) || mkdir(in_dir("images"), 0700) || config_init(&config))
        abort();
    make_file("images/disk");
    make_file("images/backing");
    make_file("images/.hidden");
    make_file("secret");
    if (config_disks_insert(&config, 2) || config_nets_insert(&config, 2) || config_text(&config.disk[0].path, "%s", in_dir("images/disk")) ||
        config_text(&config.disk[1].path, "nbd://[::1]:4000/export") || config_text(&config.kernel, "%s", in_dir("kernel")) ||
        config_text(&config.initrd, "one args,two") || config_text(&config.api_socket, "%s", in_dir("api")) ||
        config_text(&config.vsock, "%s", in_dir("vsock")) || config_text(&config.display, "vnc:127.0.0.1:5901") ||
        config_text(&config.net[0].backend, "tap:tap7") || config_text(&config.net[1].backend, "user"))
        abort();
    config.engine = CONFIG_ENGINE_SOFT;
    if (!(policy = policy_new(&config, NULL)))
        abort();
}

static void end(void)
{
    static const char *const files[] = { "images/disk", "images/backing", "images/.hidden", "secret", "api" };

    policy_free(policy);
    config_free(&config);
    for (u32 i = 0; i < ARRAY_SIZE(files); i++)
        unlink(in_dir(files[i]));
    rmdir(in_dir("images"));
    rmdir(dir);
}

static bool may(enum opener_kind kind, enum opener_purpose purpose, const char *path, int flags)
{
    return !policy_judge(policy, &(struct opener_request){ .purpose = purpose, .kind = kind, .path = path, .flags = flags, .fd = -1 });
}

static bool may_socket(enum opener_kind kind, enum opener_purpose purpose, const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    strcpy(sa.sun_path, path);
    return !policy_judge(policy, &(struct opener_request){ .purpose = purpose, .kind = kind, .address = (struct sockaddr *)&sa, .length = sizeof sa, .fd = -1 });
}

TEST(files_that_are_named)
{
    begin();
    CHECK(may(OPENER_FILE, OPENER_DISK, in_dir("images/disk"), O_RDWR));
    CHECK(!may(OPENER_FILE, OPENER_DISK, in_dir("images/disk"), O_RDWR | O_TRUNC));
    CHECK(may(OPENER_FILE, OPENER_DISK, in_dir("images/backing"), O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_DISK, in_dir("images/backing"), O_RDWR));
    CHECK(!may(OPENER_FILE, OPENER_DISK, in_dir("images/.hidden"), O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_DISK, in_dir("secret"), O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_DISK, in_dir("images/../secret"), O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_DISK, "/dev/zero", O_RDONLY));
    config.disk[0].readonly = true;
    CHECK(!may(OPENER_FILE, OPENER_DISK, in_dir("images/disk"), O_RDWR));
    CHECK(may(OPENER_FILE, OPENER_KERNEL, in_dir("kernel"), O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_KERNEL, in_dir("kernel"), O_WRONLY));
    CHECK(!may(OPENER_FILE, OPENER_KERNEL, in_dir("secret"), O_RDONLY));
    CHECK(may(OPENER_FILE, OPENER_KERNEL, "two", O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_KERNEL, "args", O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_ENGINE, "/dev/kvm", O_RDWR));
    CHECK(may(OPENER_FILE, OPENER_ROM, "/usr/share/seabios/bios.bin", O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_ROM, "/usr/share/../../etc/shadow", O_RDONLY));
    CHECK(!may(OPENER_FILE, OPENER_SHARE, "/", O_PATH));
    CHECK(!may(OPENER_FILE, OPENER_REPORT, in_dir("secret"), O_WRONLY));
    CHECK(!may(OPENER_FILE, OPENER_SNAPSHOT, in_dir("secret"), O_RDONLY));
    CHECK(!may(OPENER_REMOVE, OPENER_DISK, in_dir("images/disk"), 0));
    CHECK(!may(OPENER_REMOVE, OPENER_OVERLAY, "/tmp/lodge-0123456789abcdef", 0));
    CHECK(may(OPENER_FILE, OPENER_OVERLAY, "/tmp", O_TMPFILE | O_RDWR));
    CHECK(may(OPENER_FILE, OPENER_OVERLAY, "/tmp/lodge-0123456789abcdef", O_CREAT | O_EXCL | O_RDWR));
    CHECK(!may(OPENER_FILE, OPENER_OVERLAY, "/tmp/lodge-0123456789abcdef", O_RDWR));
    CHECK(!may(OPENER_FOLDER, OPENER_SNAPSHOT, in_dir("new"), 0));
    end();
}

TEST(sockets_taps_and_hosts)
{
    begin();
    CHECK(may_socket(OPENER_LISTEN, OPENER_API, in_dir("api")));
    CHECK(!may_socket(OPENER_LISTEN, OPENER_API, in_dir("other")));
    CHECK(!may_socket(OPENER_LISTEN, OPENER_CHARDEV, in_dir("api")));
    CHECK(may_socket(OPENER_CONNECT, OPENER_VSOCK, in_dir("vsock_1024")));
    CHECK(!may_socket(OPENER_CONNECT, OPENER_VSOCK, in_dir("vsock_1024x")));
    CHECK(!may_socket(OPENER_CONNECT, OPENER_VSOCK, "/run/dbus/system_bus_socket"));
    CHECK(!may_socket(OPENER_CONNECT, OPENER_DISK, "/run/dbus/system_bus_socket"));
    CHECK(may(OPENER_TAP, OPENER_NET, "tap7", 0));
    CHECK(!may(OPENER_TAP, OPENER_NET, "tap8", 0));
    CHECK(may(OPENER_CONNECT_HOST, OPENER_DISK, "::1 4000", 0));
    CHECK(!may(OPENER_CONNECT_HOST, OPENER_DISK, "127.0.0.1 22", 0));
    CHECK(!may(OPENER_CONNECT_HOST, OPENER_NET, "::1 4000", 0));
    CHECK(may(OPENER_LISTEN_HOST, OPENER_SCREEN, "127.0.0.1 5901", 0));
    CHECK(!may(OPENER_LISTEN_HOST, OPENER_SCREEN, "127.0.0.1 22", 0));
    CHECK(!may(OPENER_CONNECT_HOST, OPENER_DISK, "::1 400", 0));
    CHECK(!may(OPENER_CONNECT_HOST, OPENER_DISK, "::1 10809", 0));
    CHECK(!may(OPENER_CONNECT_HOST, OPENER_DISK, "export 4000", 0));
    CHECK(!may(OPENER_LISTEN_HOST, OPENER_SCREEN, "27.0.0.1 5901", 0));
    CHECK(!may(OPENER_LISTEN_HOST, OPENER_SCREEN, " 5901", 0));
    end();
}

TEST(a_descriptor_gets_no_more_rights)
{
    begin();
    const int fd = open(in_dir("secret"), O_RDONLY), place = open(in_dir("secret"), O_PATH);
    struct opener_request r = { .purpose = OPENER_DISK, .kind = OPENER_AGAIN, .fd = fd, .flags = O_RDONLY };
    CHECK_EQ(policy_judge(policy, &r), 0);
    r.flags = O_RDWR;
    CHECK_EQ(policy_judge(policy, &r), -EACCES);
    r.flags = O_RDONLY | O_TRUNC;
    CHECK_EQ(policy_judge(policy, &r), -EACCES);
    r = (struct opener_request){ .purpose = OPENER_DISK, .kind = OPENER_AGAIN, .fd = place, .flags = O_RDONLY };
    CHECK_EQ(policy_judge(policy, &r), -EACCES);
    close(fd);
    close(place);
    end();
}

static int judge_child(const char *a, const char *b, const char *c)
{
    char *const argv[] = { (char *)"lodge", (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)c, NULL };

    return policy_judge_child(policy, argv);
}

TEST(helpers)
{
    begin();
    CHECK_EQ(judge_child("netd", "user", NULL), 0);
    CHECK_EQ(judge_child("netd", "user", "/"), -EACCES); /* no tftp= */
    CHECK_EQ(judge_child("netd", "switch", "lab"), -EACCES);
    CHECK_EQ(judge_child("displayd", NULL, NULL), 0);
    CHECK_EQ(judge_child("displayd", "/etc", NULL), -EACCES);
    CHECK_EQ(judge_child("folderd", NULL, NULL), -EACCES);
    CHECK_EQ(judge_child("run", "--kernel", "x"), -EACCES);
    end();
}

/* Sends text as a client of the control socket. Returns what the broker hands over. */
static int client(const char *text)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct clients *c = clients_new(policy);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = -1;
    u32 n = 0;
    char byte;

    strcpy(sa.sun_path, in_dir("api"));
    if (!c || bind(listener, (struct sockaddr *)&sa, sizeof sa) || listen(listener, 4))
        abort();
    const int door = clients_listen(c, listener);
    if (door < 0 || connect(s, (struct sockaddr *)&sa, sizeof sa) || write(s, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    shutdown(s, SHUT_WR);
    clients_serve(c);
    CHECK_EQ(pass_receive_some(door, &byte, 1, &fd, 1, &n, MSG_DONTWAIT), 1);
    clients_free(c);
    close(door);
    close(s);
    unlink(sa.sun_path);
    return fd;
}

TEST(a_medium_that_a_client_asks_for)
{
    char text[512], back[512] = "", body[256];

    begin();
    snprintf(body, sizeof body, "{\"device\": \"cdrom0\", \"path\": \"%s\"}", in_dir("secret"));
    snprintf(text, sizeof text, "PUT /api/v1/vm.info HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    close(client(text));
    CHECK(!may(OPENER_FILE, OPENER_DISK, in_dir("secret"), O_RDONLY)); /* another request that has such words */
    snprintf(text, sizeof text, "PUT /api/v1/vm.change-media HTTP/1.1\r\ncontent-length: %zu\r\n\r\n%s", strlen(body), body);
    const int fd = client(text);
    CHECK(may(OPENER_FILE, OPENER_DISK, in_dir("secret"), O_RDONLY));
    CHECK_EQ(read(fd, back, sizeof back - 1), (ssize_t)strlen(text)); /* all of it is still there, for the machine */
    CHECK_STR(back, text);
    close(fd);
    close(client("nonsense\r\n"));
    end();
}
