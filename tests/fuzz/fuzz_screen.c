/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_screen.c - what comes to the machine from outside by its screen: messages of the screen's process, the first
 * byte odd; else bodies of the control socket's calls.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "display/vnc.h"
#include "display/vnc_message.h"
#include "fuzz.h"
#include "http/internal.h"
#include "vm/api_internal.h"

static void refresh(void *dev) { display_resize(dev, 800, 600); }
static bool text(void *dev, struct display_text *t)
{
    t->columns = 80;
    t->rows = 25;
    return true;
}
static const struct display_ops screen_ops = { refresh, text };

static unsigned bytes_seen;
static void key(void *dev, u16 code, bool down) { bytes_seen += code; }
static void absolute(void *dev, u32 x, u32 y, s32 wheel, u8 buttons)
{
    if (x > INPUT_ABS_MAX || y > INPUT_ABS_MAX || wheel < -1 || wheel > 1)
        abort();
}
static const struct input_sink_ops sink_ops = { .key = key, .absolute = absolute };

static void stop(void *l) { loop_stop(l); }
static void look_once(void *l) { loop_post(l, stop, l); } /* at the descriptors, between this post and that */

static void messages(struct loop *l, struct display *d, struct input *in, const uint8_t *data, size_t size)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return;
    struct vnc *v = vnc_attach(pair[0], d, in, l);
    for (; v && size; ) {
        const size_t n = size >= sizeof(struct vnc_message) ? sizeof(struct vnc_message) : size;
        (void)!send(pair[1], data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        data += n;
        size -= n;
    }
    if (v) {
        loop_post(l, look_once, l);
        (void)!loop_run(l);
    }
    vnc_close(v);
    close(pair[1]);
}

static void call(struct loop *l, struct display *d, struct input *in, const uint8_t *data, size_t size)
{
    static const char *const url[] = {
        "vm.type", "vm.send-key", "vm.change-media", "vm.screen-text", "vm.type?x", "../x", ""
    };
    const struct vm_config config = { .ncdroms = 0 };
    struct vm vm = { .config = &config, .state = VM_RUNNING, .display = d, .input = in, .loop = l };
    struct api api = { .vm = &vm, .typer = typer_new(l, in, NULL, NULL) };
    const struct http_routes routes[] = {
        { API_PREFIX, api_vm_routes, &api }, { API_PREFIX, api_screen_routes, &api }, { NULL }
    };
    struct call c = { .body = malloc(size + 1) };
    char path[64];

    if (!size || !c.body || !api.typer)
        abort();
    memcpy(c.body, data + 1, size - 1);
    c.public.size = size - 1;
    snprintf(path, sizeof path, API_PREFIX "%s", url[data[0] % ARRAY_SIZE(url)]);
    call_dispatch(&c, routes, HTTP_MAX_BODY, data[0] % ARRAY_SIZE(url) == 3 ? "GET" : "PUT", path);
    typer_free(api.typer);
    if (!c.answered || c.status < 200)
        abort();
    call_clear(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *l;
    static struct display *d;
    struct input *in = input_new();
    struct input_sink sink = { &sink_ops, NULL, INPUT_PS2, NULL };

    if (!l) {
        log_set_level(LOG_ERROR);
        l = loop_new();
        d = display_new(l, NULL);
        if (!l || !d)
            abort();
        display_plug(d, &screen_ops, d);
    }
    input_plug(in, &sink);
    if (size > 1 && data[0] & 1)
        messages(l, d, in, data + 1, size - 1);
    else if (size > 1)
        call(l, d, in, data + 1, size - 1);
    input_unplug(in, &sink);
    input_free(in);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const char *const bodies[] = {
        "\2\7{\"text\":\"Hello, World\\n\"}",
        "\2\1{\"keys\":[\"ctrl-alt-delete\",\"ret\",\"kp_0\"]}",
        "\2\2{\"device\":\"cdrom0\",\"path\":null,\"force\":true}",
        "\2\3{}",
        "\2\2{\"device\":\"floppy1\",\"path\":\"/x\"}",
    };
    if (i < ARRAY_SIZE(bodies)) {
        const size_t n = strlen(bodies[i]);
        memcpy(buf, bodies[i], n);
        return n;
    }
    if (i > ARRAY_SIZE(bodies) || cap < 200)
        return 0;
    const struct vnc_message m[] = {
        { .type = VNC_VIEWERS, .x = 1 },
        { .type = VNC_KEY, .x = 30, .y = 1 },
        { .type = VNC_POINTER, .x = 10, .y = 20, .w = 640, .h = 480, .wheel = 1, .buttons = 1 },
        { .type = VNC_VIEWERS },
    };
    buf[0] = 1;
    memcpy(buf + 1, m, sizeof m);
    return 1 + sizeof m;
}
