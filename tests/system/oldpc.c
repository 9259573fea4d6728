/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oldpc.c - runs in the guests of "ps2" and "floppy":
 *
 *   oldpc events DEVICE NAME CODE    says "NAME ready", then prints an input device's keys and movements as "NAME TYPE CODE
 *                                    VALUE", until the key CODE has been released
 *   oldpc format DEVICE              formats a floppy disk, track by track (fd(4))
 *   oldpc beep DEVICE                a tone of 20 ms from the speaker's event device
 *
 * and beside the machine, on the host:
 *
 *   oldpc pointer SOCKET X,Y,BUTTONS...   moves the pointer of a VNC server (RFC 6143)
 */
#include <fcntl.h>
#include <linux/fd.h>
#include <linux/input.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int events(int fd, const char *name, int last)
{
    struct input_event e;

    printf("%s ready\n", name);
    fflush(stdout);
    while (read(fd, &e, sizeof e) == sizeof e) {
        if (e.type != EV_KEY && e.type != EV_REL)
            continue;
        printf("%s %u %u %d\n", name, e.type, e.code, e.value);
        fflush(stdout);
        if (e.type == EV_KEY && e.code == last && !e.value)
            return 0;
    }
    return 1;
}

static int format(int fd)
{
    struct floppy_struct g;
    struct format_descr d;

    if (ioctl(fd, FDGETPRM, &g) || ioctl(fd, FDFMTBEG, 0))
        return perror("FDFMTBEG"), 1;
    for (d.track = 0; d.track < g.track; d.track++)
        for (d.head = 0; d.head < g.head; d.head++)
            if (ioctl(fd, FDFMTTRK, &d))
                return perror("FDFMTTRK"), 1;
    return ioctl(fd, FDFMTEND, 0) ? perror("FDFMTEND"), 1 : 0;
}

static int beep(int fd)
{
    struct input_event e = { .type = EV_SND, .code = SND_TONE, .value = 440 };

    if (write(fd, &e, sizeof e) != sizeof e)
        return perror("SND_TONE"), 1;
    usleep(20000);
    e.value = 0;
    return write(fd, &e, sizeof e) != sizeof e;
}

static void get(int fd, void *to, size_t n)
{
    for (ssize_t r; n; to = (char *)to + r, n -= (size_t)r)
        if ((r = read(fd, to, n)) <= 0)
            exit(3);
}

static int pointer(const char *path, char **event)
{
    static const unsigned char update[] = { 3, 0, 0, 0, 0, 0, 0, 1, 0, 1 };
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    unsigned char b[256], e[6] = { 5 };
    unsigned x, y, buttons;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strncpy(a.sun_path, path, sizeof a.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        return perror(path), 1;
    get(fd, b, 12);
    (void)!write(fd, "RFB 003.008\n", 12);
    get(fd, b, 1);
    get(fd, b, b[0]);
    (void)!write(fd, "\1", 1); /* no password */
    get(fd, b, 4);
    (void)!write(fd, "\1", 1);
    get(fd, b, 24);
    get(fd, b, b[23]);
    for (; *event; event++) {
        if (sscanf(*event, "%u,%u,%u", &x, &y, &buttons) != 3)
            return 2;
        e[1] = (unsigned char)buttons, e[2] = (unsigned char)(x >> 8), e[3] = (unsigned char)x;
        e[4] = (unsigned char)(y >> 8), e[5] = (unsigned char)y;
        (void)!write(fd, e, sizeof e);
    }
    (void)!write(fd, update, sizeof update);
    get(fd, b, 4); /* what came before it has been taken */
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "pointer"))
        return pointer(argv[2], argv + 3);
    int fd = argc > 2 ? open(argv[2], O_RDWR) : -1;

    if (fd < 0)
        return perror(argc > 2 ? argv[2] : "oldpc"), 2;
    if (!strcmp(argv[1], "events") && argc == 5)
        return events(fd, argv[3], atoi(argv[4]));
    return !strcmp(argv[1], "format") ? format(fd) : !strcmp(argv[1], "beep") ? beep(fd) : 2;
}
