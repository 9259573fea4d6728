/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display_vnc.c - the screen's process with a VNC client of the tests' own: what it sees is what the device drew, what it
 * presses arrives; and what clients do that are up to no good hurts nobody else.
 */
#include "vnc_rig.h"

TEST(picture_and_keys)
{
    struct client c, second;
    REQUIRE(start("127.0.0.1:0"));
    CHECK(!web_socket());
    draw(0, 0, 320, 200, 0x123456);
    REQUIRE(enter(&c, NULL));
    CHECK(c.w == 320 && c.h == 200); /* nothing was drawn while nobody looked, but its size is known at once */
    CHECK(sees_it(&c));
    draw(0, 0, 1, 1, 0x654321); /* with this comes what of the first picture was still on its way, if anything */
    CHECK(sees_it(&c));
    const u64 all = c.pixels;
    draw(100, 50, 16, 8, 0xff00ff);
    CHECK(sees_it(&c));
    CHECK(c.pixels - all >= 16 * 8 && c.pixels - all <= 32 * 32); /* what changed, and little more */

    set_mode(720, 400);
    draw(0, 390, 720, 10, 0x00ff00);
    CHECK(sees_it(&c));
    CHECK(c.w == 720 && c.h == 400 && c.extended);

    key(&c, 'a', true);
    key(&c, 'a', true);
    key(&c, 'a', false);
    key(&c, 0xff0d, true);
    key(&c, 0xff0d, false);
    key(&c, 0x12345, true); /* none */
    CHECK(heard_is("+30 -30 +28 -28 "));
    key(&c, 0xffe1, true); /* a German keyboard, shift let go first */
    key(&c, '/', true);
    key(&c, 0xffe1, false);
    key(&c, '7', false);
    CHECK(heard_is("+42 +53 -42 -53 "));
    const u8 extended[12] = { 255, 0, 0, 1, 0, 0, 0, 'y', 0, 0, 0, 0x2c }; /* y where z is */
    CHECK(put(&c, extended, 12));
    CHECK(heard_is("+44 "));
    point(&c, 719, 399, 0);
    point(&c, 0, 0, 1 | 4);
    point(&c, 0, 0, 8);
    point(&c, 0, 0, 0);
    CHECK(heard_is("32767,32767,0,0 0,0,0,3 0,0,1,0 0,0,0,0 "));

    REQUIRE(enter(&second, NULL));
    CHECK(sees_it(&second));
    leave(&second);
    CHECK(heard_is("-44 ")); /* what is held goes up with anybody who leaves */
    key(&c, 'q', true);
    CHECK(heard_is("+16 "));
    leave(&c);
    CHECK(heard_is("-16 "));
    /* Nobody looks: nothing is drawn. */
    pthread_mutex_lock(&lock);
    const u32 before = refreshes;
    pthread_mutex_unlock(&lock);
    usleep(200000);
    CHECK(refreshes <= before + 1);
    stop();
}

/* The size changes under one that knows of that and has not said so yet, and under one that does not. */
TEST(sizes)
{
    struct client c, late, old;
    const u8 raw[8] = { 2, 0, 0, 1 };
    u8 b[4];
    REQUIRE(start("127.0.0.1:0"));
    REQUIRE(enter(&c, NULL) && come(&late, NULL) && come(&old, NULL) && put(&old, raw, sizeof raw) && sees_it(&old));
    CHECK(late.w == 320 && old.w == 320);
    set_mode(800, 600);
    CHECK(sees_it(&c));
    while (ask(&old, true) && get(&old, b, 1)) /* shown the door */
        ;
    leave(&old);
    CHECK(set_encodings(&late) && sees_it(&late) && late.w == 800);
    REQUIRE(come(&old, NULL) && put(&old, raw, sizeof raw));
    CHECK(old.w == 800 && sees_it(&old));
    leave(&old);
    leave(&late);
    leave(&c);
    stop();
}

/* Who meets strangers has the picture, to read, and nothing else of the machine. */
TEST(isolation)
{
    struct client c;
    char path[320], line[512];
    u32 processes = 0;
    const int guest = memfd_create("guest-memory", MFD_CLOEXEC);
    REQUIRE(guest >= 0 && !ftruncate(guest, 65536));
    void *ram = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, guest, 0);
    REQUIRE(ram != MAP_FAILED && start("127.0.0.1:0") && enter(&c, NULL) && sees_it(&c));
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc));) {
        u32 pictures = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        FILE *f = fopen(path, "re");
        int session = 0, parent = 0;
        const bool child = f && fscanf(f, "%*d (lodge-screen) %*c %d %*d %d", &parent, &session) == 2;
        if (f)
            fclose(f);
        if (!child || (parent != getpid() && getpgid(parent) != session))
            continue;
        snprintf(path, sizeof path, "/proc/%d/stat", session); /* displayd itself: a session of its own, and our child */
        f = fopen(path, "re");
        const bool ours = f && fscanf(f, "%*d (lodge-screen) %*c %d", &parent) == 1 && parent == getpid();
        if (f)
            fclose(f);
        if (!ours)
            continue;
        processes++;
        check_confined(atoi(e->d_name));
        snprintf(path, sizeof path, "/proc/%s/maps", e->d_name);
        REQUIRE((f = fopen(path, "re")));
        while (fgets(line, sizeof line, f))
            if (strstr(line, "memfd:")) {
                CHECK(strstr(line, " r--s ") && strstr(line, "memfd:lodge-picture"));
                pictures++;
            }
        fclose(f);
        CHECK_EQ(pictures, 1);
        snprintf(path, sizeof path, "/proc/%s/fd", e->d_name);
        DIR *fds = opendir(path);
        REQUIRE(fds);
        for (struct dirent *d; (d = readdir(fds));) {
            const ssize_t n = atoi(d->d_name) > 2 ? readlinkat(dirfd(fds), d->d_name, line, sizeof line - 1) : 0;
            line[MAX(n, 0)] = 0;
            if (n > 0 && strncmp(line, "socket:", 7))
                test_fail(__FILE__, __LINE__, "%s has %s open", e->d_name, line);
        }
        closedir(fds);
    }
    closedir(proc);
    CHECK_EQ(processes, 2); /* displayd, and the viewer's */
    leave(&c);
    stop();
    munmap(ram, 65536);
    close(guest);
}

TEST(bad_company)
{
    struct client c, idle[40];
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "unix:/tmp/lodge-vnc-%d", (int)getpid());
    REQUIRE(start(path));
    CHECK(!stat(path + 5, &st) && (st.st_mode & 0777) == 0600);
    REQUIRE(enter(&c, NULL));
    CHECK(sees_it(&c));

    /* Garbage, at every point of the conversation. */
    u32 seed = 1;
    for (int i = 0; i < 60; i++) {
        struct client bad = { .fd = -1 };
        u8 junk[512];
        for (u32 k = 0; k < sizeof junk; k++)
            junk[k] = (u8)((seed = seed * 1664525 + 1013904223) >> 24);
        if (i % 3)
            enter(&bad, NULL);
        else
            bad.fd = dial();
        if (i % 3 == 2)
            junk[0] = (u8)(i % 10); /* begins as a message */
        send(bad.fd, junk, sizeof junk, MSG_NOSIGNAL | MSG_DONTWAIT);
        leave(&bad);
    }
    draw(0, 0, 10, 10, 0xabcdef);
    CHECK(sees_it(&c));

    /* Many that say nothing: those give way. One that is in stays, and one more gets in. */
    for (u32 k = 0; k < 5; k++) {
        for (u32 i = 0; i < ARRAY_SIZE(idle); i++)
            idle[i].fd = dial();
        for (u32 i = 0; i < ARRAY_SIZE(idle); i++)
            close(idle[i].fd);
    }
    for (u32 i = 0; i < ARRAY_SIZE(idle); i++)
        idle[i].fd = dial();
    draw(50, 0, 10, 10, 0xabcdef);
    CHECK(sees_it(&c));
    struct client another;
    CHECK(enter(&another, NULL) && sees_it(&another));
    leave(&another);
    for (u32 i = 0; i < ARRAY_SIZE(idle); i++)
        close(idle[i].fd);

    /* One that asks and takes nothing. */
    struct client stalled;
    CHECK(enter(&stalled, NULL));
    for (int i = 0; i < 2000; i++) {
        const u8 m[10] = { 3, 0, 0, 0, 0, 0, 1, 0x40, 0, 200 };
        if (send(stalled.fd, m, 10, MSG_NOSIGNAL | MSG_DONTWAIT) != 10)
            break;
    }
    for (u32 i = 0; i < 20; i++) {
        draw(i, i, 100, 100, i);
        CHECK(sees_it(&c));
    }
    /* One that presses keys as fast as it can does not keep the loop from others. */
    for (int i = 0; i < 20000; i++) {
        const u8 m[8] = { 4, (u8)(i & 1), 0, 0, 0, 0, 0, 'x' };
        if (send(another.fd = stalled.fd, m, 8, MSG_NOSIGNAL | MSG_DONTWAIT) != 8)
            break;
    }
    draw(7, 7, 100, 100, 77);
    CHECK(sees_it(&c));
    leave(&stalled);
    leave(&c);
    stop();
    CHECK(stat(path + 5, &st) && errno == ENOENT);
}
