/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display_vnc.c - the screen's process with a VNC client of this file's own (RFC 6143): what it sees is what the device
 * drew, what it presses arrives; and what clients do that are up to no good hurts nobody else.
 *
 * This program is also the process itself: "lodge displayd" is /proc/self/exe.
 */
#include "test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <linux/input-event-codes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <rfb/rfb.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "confined.h"
#include "display/displayd.h"
#include "display/vnc.h"
#include "said.h"

static void __attribute__((constructor)) be_displayd(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "displayd"))
        _exit(displayd_main(argc - 1, argv + 1));
}

/* ---- the machine: a device that draws, a keyboard and a tablet that note ---- */

static struct loop *loop;
static pthread_t thread;
static struct display *screen;
static struct input *input;
static struct vnc *vnc;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the following */
static u32 want_w, want_h, nfills, refreshes;
static struct {
    struct display_rect r;
    u32 colour;
} fill[16];
static char heard[4096];

static void refresh(void *dev)
{
    u32 w, h, *p = display_pixels(screen);

    pthread_mutex_lock(&lock);
    refreshes++;
    display_resize(screen, want_w, want_h);
    display_size(screen, &w, &h);
    for (u32 i = 0; i < nfills; i++) {
        const struct display_rect r = fill[i].r;
        for (u32 y = r.y; y < r.y + r.h; y++)
            for (u32 x = r.x; x < r.x + r.w; x++)
                p[y * w + x] = fill[i].colour ^ (y << 8 | x);
        display_changed(screen, r.x, r.y, r.w, r.h);
    }
    nfills = 0;
    pthread_mutex_unlock(&lock);
}
static const struct display_ops ops = { .refresh = refresh };

static void set_mode(u32 w, u32 h)
{
    pthread_mutex_lock(&lock);
    want_w = w, want_h = h;
    pthread_mutex_unlock(&lock);
}

static void draw(u32 x, u32 y, u32 w, u32 h, u32 colour)
{
    pthread_mutex_lock(&lock);
    fill[nfills].r = (struct display_rect){ x, y, w, h };
    fill[nfills++].colour = colour;
    pthread_mutex_unlock(&lock);
}

static void hear(const char *text)
{
    pthread_mutex_lock(&lock);
    if (strlen(heard) + strlen(text) < sizeof heard)
        strcat(heard, text);
    pthread_mutex_unlock(&lock);
}
static void on_key(void *dev, u16 code, bool down)
{
    char t[32];
    snprintf(t, sizeof t, "%c%d ", down ? '+' : '-', code);
    hear(t);
}
static void on_absolute(void *dev, u32 x, u32 y, s32 wheel, u8 buttons)
{
    char t[64];
    snprintf(t, sizeof t, "%u,%u,%d,%d ", x, y, wheel, buttons);
    hear(t);
}
static const struct input_sink_ops sink_ops = { .key = on_key, .absolute = on_absolute };
static struct input_sink sink = { &sink_ops, NULL, INPUT_PS2, NULL };

/* Waits for it, for as long as a slow machine may take. */
static bool heard_is(const char *text)
{
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&lock);
        const bool is = !strcmp(heard, text);
        if (is || i == 19999) {
            if (!is)
                fprintf(stderr, "heard \"%s\", not \"%s\"\n", heard, text);
            heard[0] = 0;
        }
        pthread_mutex_unlock(&lock);
        if (is)
            return true;
        usleep(10000);
    }
    return false;
}

static void *run(void *arg)
{
    CHECK_EQ(loop_run(loop), 0);
    return NULL;
}

/* As "--display vnc:SPEC" has it. */
static struct vnc *open_said(const char *spec, const char *title, struct display *d, struct input *in, struct loop *l, struct error *err)
{
    struct vm_config c;
    struct vnc *v = NULL;
    char value[256];

    snprintf(value, sizeof value, "vnc:%s", spec);
    if (!config_init(&c) && !said(&c, "display", value, err)) {
        const struct vnc_params p = { c.display + 4, c.display_password, c.display_tls_creds };
        v = vnc_open(&p, title, d, in, l, err);
    }
    config_free(&c);
    return v;
}

static bool start(const char *spec)
{
    struct error err = { "" };
    want_w = 320, want_h = 200, nfills = 0, heard[0] = 0;
    loop = loop_new();
    screen = display_new(loop, &err);
    input = input_new();
    display_plug(screen, &ops, NULL);
    input_plug(input, &sink);
    vnc = open_said(spec, "test", screen, input, loop, &err);
    if (!vnc)
        fprintf(stderr, "%s\n", err.text);
    return vnc && !pthread_create(&thread, NULL, run, NULL);
}

static void stop(void)
{
    loop_stop(loop);
    pthread_join(thread, NULL);
    vnc_close(vnc);
    input_unplug(input, &sink);
    input_free(input);
    display_free(screen);
    loop_free(loop);
}

/* ---- a client ---- */

struct client {
    int fd;
    gnutls_session_t tls;
    u32 w, h, *pixel;
    u64 pixels; /* that came as updates */
    bool extended; /* the server takes extended key events */
};

static bool put(struct client *c, const void *data, size_t n)
{
    if (c->tls)
        return gnutls_record_send(c->tls, data, n) == (ssize_t)n;
    return send(c->fd, data, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool get(struct client *c, void *data, size_t n)
{
    u8 *p = data;
    while (n) {
        const ssize_t r = c->tls ? gnutls_record_recv(c->tls, p, n) : recv(c->fd, p, n, 0);
        if (r <= 0)
            return false;
        p += r, n -= (size_t)r;
    }
    return true;
}

static int dial(void)
{
    const char *at = vnc_address(vnc);
    const struct timeval limit = { .tv_sec = 200 };
    int fd;
    if (!strncmp(at, "unix:", 5)) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        strcpy(sa.sun_path, at + 5);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(!connect(fd, (struct sockaddr *)&sa, sizeof sa));
    } else {
        struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((u16)atoi(strrchr(at, ':') + 1)) };
        sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(!connect(fd, (struct sockaddr *)&sa, sizeof sa));
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

/* From the security types on; false: not let in. */
static bool log_in(struct client *c, const char *password)
{
    u8 n, types[255], challenge[16];
    u32 result;
    char secret[9] = "";

    if (!c->tls && (!get(c, &n, 1) || !n || !get(c, types, n) || types[0] > 2 || !put(c, types, 1)))
        return false;
    if (password) {
        strncpy(secret, password, 8);
        if ((!c->tls && types[0] != 2) || !get(c, challenge, 16))
            return false;
        rfbEncryptBytes(challenge, secret);
        if (!put(c, challenge, 16))
            return false;
    }
    return get(c, &result, 4) && !result;
}

static bool set_encodings(struct client *c)
{
    static const u8 encodings[16] = {
        2, 0, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21, 0xff, 0xff, 0xfe, 0xfe
    }; /* raw, size, keys */
    return put(c, encodings, sizeof encodings);
}

/* ClientInit, the format. */
static bool begin(struct client *c)
{
    struct __attribute__((packed)) {
        u16 w, h;
        u8 format[16];
        u32 name;
    } init;
    char name[64];
    const u8 format[20] = { 0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0 };

    if (!put(c, "\1", 1) || !get(c, &init, sizeof init) || ntohl(init.name) >= sizeof name ||
        !get(c, name, ntohl(init.name)))
        return false;
    c->w = ntohs(init.w);
    c->h = ntohs(init.h);
    c->pixel = calloc(c->w * c->h, 4);
    return put(c, format, sizeof format);
}

/* It has not said what it knows yet. */
static bool come(struct client *c, const char *password)
{
    char version[12];
    *c = (struct client){ .fd = dial() };
    return get(c, version, 12) && !memcmp(version, "RFB 003.008\n", 12) && put(c, version, 12) && log_in(c, password) &&
           begin(c);
}

static bool enter(struct client *c, const char *password) { return come(c, password) && set_encodings(c); }

static void leave(struct client *c)
{
    if (c->tls)
        gnutls_deinit(c->tls);
    close(c->fd);
    free(c->pixel);
}

static bool ask(struct client *c, bool incremental)
{
    const u8 m[10] = { 3, incremental, 0, 0, 0, 0, (u8)(c->w >> 8), (u8)c->w, (u8)(c->h >> 8), (u8)c->h };
    return put(c, m, 10);
}

/* One update into the client's picture. */
static bool take(struct client *c)
{
    struct __attribute__((packed)) {
        u8 type, pad;
        u16 n;
    } head;
    struct __attribute__((packed)) {
        u16 x, y, w, h;
        u32 encoding;
    } r;
    if (!get(c, &head, 4) || head.type)
        return false;
    for (u32 i = 0; i < ntohs(head.n); i++) {
        if (!get(c, &r, sizeof r))
            return false;
        const u32 x = ntohs(r.x), y = ntohs(r.y), w = ntohs(r.w), h = ntohs(r.h);
        if (ntohl(r.encoding) == 0xffffff21) {
            c->w = w, c->h = h;
            c->pixel = realloc(c->pixel, w * h * 4);
            memset(c->pixel, 0xee, w * h * 4);
        } else if (ntohl(r.encoding) == 0xfffffefe) {
            c->extended = true;
        } else if (ntohl(r.encoding) == 0 && x + w <= c->w && y + h <= c->h) {
            for (u32 k = 0; k < h; k++)
                if (!get(c, c->pixel + (y + k) * c->w + x, w * 4))
                    return false;
            c->pixels += w * h;
        } else {
            return false;
        }
    }
    return true;
}

/* Updates until the picture is that of the machine. */
static bool sees_it(struct client *c)
{
    if (!ask(c, c->pixels != 0))
        return false;
    for (int i = 0; i < 100; i++) {
        u32 w, h, wrong = 0;
        if (!take(c))
            return false;
        pthread_mutex_lock(&lock);
        display_size(screen, &w, &h);
        const bool drawn = !nfills && want_w == w && want_h == h;
        for (u32 k = 0; k < w * h && w == c->w && h == c->h; k++)
            wrong += (c->pixel[k] ^ display_pixels(screen)[k]) & 0xffffff ? 1 : 0;
        pthread_mutex_unlock(&lock);
        if (drawn && w == c->w && h == c->h && !wrong)
            return true;
        if (!ask(c, true))
            return false;
    }
    return false;
}

static void key(struct client *c, u32 keysym, bool down)
{
    const u8 m[8] = { 4, down, 0, 0, 0, 0, (u8)(keysym >> 8), (u8)keysym };
    CHECK(put(c, m, 8));
}
static void point(struct client *c, u32 x, u32 y, u8 buttons)
{
    const u8 m[6] = { 5, buttons, (u8)(x >> 8), (u8)x, (u8)(y >> 8), (u8)y };
    CHECK(put(c, m, 6));
}

/* A WebSocket's beginning; true: it is taken, and RFB begins in it. */
static bool web_socket(void)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://x\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: binary\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n";
    struct client c = { .fd = dial() };
    char answer[1024] = "";
    size_t n = 0;
    ssize_t r;
    put(&c, request, sizeof request - 1);
    while (n < sizeof answer - 1 && (r = recv(c.fd, answer + n, sizeof answer - 1 - n, 0)) > 0) {
        n += (size_t)r;
        if (memmem(answer, n, "RFB 003.008\n", 12))
            break;
    }
    /* Authentication goes on, or it was shown the door. */
    put(&c, "\x82\x8c\0\0\0\0RFB 003.008\n", 18);
    const bool taken = recv(c.fd, answer, sizeof answer, 0) > 0;
    leave(&c);
    return taken;
}

/* ---- tests ---- */

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

TEST(password)
{
    char file[] = "/tmp/lodge-password-XXXXXX", spec[128];
    struct client c;
    struct error err;
    int fd = mkstemp(file);
    REQUIRE(fd >= 0 && write(fd, "sesame\n", 7) == 7);
    snprintf(spec, sizeof spec, "127.0.0.1:0,password=%s", file);
    REQUIRE(start(spec));
    CHECK(!enter(&c, "wrong"));
    leave(&c);
    CHECK(!enter(&c, NULL));
    leave(&c);
    REQUIRE(enter(&c, "sesame"));
    CHECK(sees_it(&c));
    leave(&c);
    CHECK(web_socket());
    stop();

    static const struct {
        const char *spec, *says;
    } bad[] = {
        { "0.0.0.0:0", "give it a password" }, { "127.0.0.1:0,password=/nonexistent", "No such file" },
        { "127.0.0.1", "vnc:HOST:PORT" }, { "127.0.0.1:70000", "vnc:HOST:PORT" }, { "127.0.0.1:0,colour=1", "colour" },
        { "127.0.0.1:0,tls-creds=/nonexistent", "server-cert.pem" }, { "unix:/nonexistent/dir/socket", "No such file" },
    };
    struct loop *l = loop_new();
    struct display *d = display_new(l, &err);
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK(!open_said(bad[i].spec, "", d, NULL, l, &err));
        if (!strstr(err.text, bad[i].says))
            test_fail(__FILE__, __LINE__, "%s: %s", bad[i].spec, err.text);
    }
    display_free(d);
    loop_free(l);
    unlink(file);
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

/* A self-signed certificate in dir. */
static bool make_certificate(const char *dir)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t out;
    char path[128];
    bool ok;
    if (gnutls_x509_privkey_init(&key) || gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, 256, 0) ||
        gnutls_x509_crt_init(&crt))
        return false;
    ok = !gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "lodge", 5) &&
         !gnutls_x509_crt_set_key(crt, key) && !gnutls_x509_crt_set_version(crt, 3) &&
         !gnutls_x509_crt_set_serial(crt, "\1", 1) && !gnutls_x509_crt_set_activation_time(crt, time(NULL) - 100) &&
         !gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 1000) &&
         !gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    for (int i = 0; i < 2 && ok; i++) {
        ok = !(i ? gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &out)
                 : gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &out));
        snprintf(path, sizeof path, "%s/server-%s.pem", dir, i ? "key" : "cert");
        FILE *f = ok ? fopen(path, "w") : NULL;
        ok = f && fwrite(out.data, 1, out.size, f) == out.size && !fclose(f);
        gnutls_free(out.data);
    }
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return ok;
}

/* VeNCrypt, with subtype; false: not let in. */
static bool enter_tls(struct client *c, u32 subtype, gnutls_certificate_credentials_t cred, const char *password)
{
    u8 b[16];
    const u32 wanted = htonl(subtype);
    *c = (struct client){ .fd = dial() };
    if (!get(c, b, 12) || !put(c, "RFB 003.008\n", 12) || !get(c, b, 2) || b[0] != 1 || b[1] != 19 ||
        !put(c, "\x13", 1) || !get(c, b, 2) || !put(c, "\0\2", 2) || !get(c, b, 1) || b[0] || !get(c, b, 5) ||
        b[0] != 1 || !put(c, &wanted, 4) || !get(c, b, 1) || b[0] != 1)
        return false;
    gnutls_init(&c->tls, GNUTLS_CLIENT);
    gnutls_set_default_priority(c->tls);
    gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, cred);
    gnutls_transport_set_int(c->tls, c->fd);
    return !gnutls_handshake(c->tls) && log_in(c, password) && begin(c) && set_encodings(c);
}

TEST(tls)
{
    char dir[] = "/tmp/lodge-tls-XXXXXX", spec[256], path[128];
    gnutls_certificate_credentials_t cred;
    struct client c;
    REQUIRE(mkdtemp(dir) && make_certificate(dir));
    gnutls_certificate_allocate_credentials(&cred);
    snprintf(spec, sizeof spec, "127.0.0.1:0,tls-creds=%s", dir);
    REQUIRE(start(spec));
    draw(0, 0, 320, 200, 0x777777);
    CHECK(!enter(&c, NULL)); /* not without */
    leave(&c);
    CHECK(!enter_tls(&c, 261, cred, NULL)); /* what was not offered */
    leave(&c);
    REQUIRE(enter_tls(&c, 260, cred, NULL));
    CHECK(sees_it(&c));
    key(&c, 'a', true);
    CHECK(heard_is("+30 "));
    leave(&c);
    CHECK(heard_is("-30 "));
    stop();

    snprintf(path, sizeof path, "%s/password", dir);
    FILE *f = fopen(path, "w");
    REQUIRE(f && fputs("geheim", f) >= 0 && !fclose(f));
    snprintf(spec, sizeof spec, "127.0.0.1:0,tls-creds=%s,password=%s", dir, path);
    REQUIRE(start(spec));
    CHECK(!enter_tls(&c, 261, cred, "falsch"));
    leave(&c);
    REQUIRE(enter_tls(&c, 261, cred, "geheim"));
    CHECK(sees_it(&c));
    leave(&c);
    stop();
    gnutls_certificate_free_credentials(cred);
    const char *const name[] = { "password", "server-key.pem", "server-cert.pem" };
    for (u32 i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        CHECK(!unlink(path));
    }
    CHECK(!rmdir(dir));
}
