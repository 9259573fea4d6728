/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc_rig.h - a machine with a screen in a process of its own, and a VNC client (RFC 6143) that knows nothing of ours.
 * Include it in one .c of a test program, which is also that process: "lodge displayd" is /proc/self/exe.
 */
#ifndef LODGE_TEST_VNC_RIG_H
#define LODGE_TEST_VNC_RIG_H

#include "test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <gnutls/gnutls.h>
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

static inline void refresh(void *dev)
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

static inline void set_mode(u32 w, u32 h)
{
    pthread_mutex_lock(&lock);
    want_w = w, want_h = h;
    pthread_mutex_unlock(&lock);
}

static inline void draw(u32 x, u32 y, u32 w, u32 h, u32 colour)
{
    pthread_mutex_lock(&lock);
    fill[nfills].r = (struct display_rect){ x, y, w, h };
    fill[nfills++].colour = colour;
    pthread_mutex_unlock(&lock);
}

static inline void hear(const char *text)
{
    pthread_mutex_lock(&lock);
    if (strlen(heard) + strlen(text) < sizeof heard)
        strcat(heard, text);
    pthread_mutex_unlock(&lock);
}
static inline void on_key(void *dev, u16 code, bool down)
{
    char t[32];
    snprintf(t, sizeof t, "%c%d ", down ? '+' : '-', code);
    hear(t);
}
static inline void on_absolute(void *dev, u32 x, u32 y, s32 wheel, u8 buttons)
{
    char t[64];
    snprintf(t, sizeof t, "%u,%u,%d,%d ", x, y, wheel, buttons);
    hear(t);
}
static const struct input_sink_ops sink_ops = { .key = on_key, .absolute = on_absolute };
static struct input_sink sink = { &sink_ops, NULL, INPUT_PS2, NULL };

/* Waits for it, for as long as a slow machine may take. */
static inline bool heard_is(const char *text)
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

static inline void *run(void *arg)
{
    CHECK_EQ(loop_run(loop), 0);
    return NULL;
}

/* As "--display vnc:SPEC" has it. */
static inline struct vnc *open_said(const char *spec, const char *title, struct display *d, struct input *in, struct loop *l, struct error *err)
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

static inline bool start(const char *spec)
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

static inline void stop(void)
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

static inline bool put(struct client *c, const void *data, size_t n)
{
    if (c->tls)
        return gnutls_record_send(c->tls, data, n) == (ssize_t)n;
    return send(c->fd, data, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static inline bool get(struct client *c, void *data, size_t n)
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

static inline int dial(void)
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
static inline bool log_in(struct client *c, const char *password)
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

static inline bool set_encodings(struct client *c)
{
    static const u8 encodings[16] = {
        2, 0, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21, 0xff, 0xff, 0xfe, 0xfe
    }; /* raw, size, keys */
    return put(c, encodings, sizeof encodings);
}

/* ClientInit, the format. */
static inline bool begin(struct client *c)
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
static inline bool come(struct client *c, const char *password)
{
    char version[12];
    *c = (struct client){ .fd = dial() };
    return get(c, version, 12) && !memcmp(version, "RFB 003.008\n", 12) && put(c, version, 12) && log_in(c, password) &&
           begin(c);
}

static inline bool enter(struct client *c, const char *password) { return come(c, password) && set_encodings(c); }

static inline void leave(struct client *c)
{
    if (c->tls)
        gnutls_deinit(c->tls);
    close(c->fd);
    free(c->pixel);
}

static inline bool ask(struct client *c, bool incremental)
{
    const u8 m[10] = { 3, incremental, 0, 0, 0, 0, (u8)(c->w >> 8), (u8)c->w, (u8)(c->h >> 8), (u8)c->h };
    return put(c, m, 10);
}

/* One update into the client's picture. */
static inline bool take(struct client *c)
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
static inline bool sees_it(struct client *c)
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

static inline void key(struct client *c, u32 keysym, bool down)
{
    const u8 m[8] = { 4, down, 0, 0, 0, 0, (u8)(keysym >> 8), (u8)keysym };
    CHECK(put(c, m, 8));
}
static inline void point(struct client *c, u32 x, u32 y, u8 buttons)
{
    const u8 m[6] = { 5, buttons, (u8)(x >> 8), (u8)x, (u8)(y >> 8), (u8)y };
    CHECK(put(c, m, 6));
}

/* A WebSocket's beginning; true: it is taken, and RFB begins in it. */
static inline bool web_socket(void)
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

#endif
