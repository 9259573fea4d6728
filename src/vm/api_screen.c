/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_screen.c - Lodge's own calls: what a script needs to drive an installer by its screen, keyboard and discs.
 */
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "display/picture.h"
#include "machine/machine.h"
#include "vm/api_internal.h"
#include "vm/devices.h"

static bool has_screen(struct api_call *c)
{
    if (c->vm->display && display_plugged(c->vm->display))
        return true;
    api_fail(c, MHD_HTTP_NOT_FOUND,
             "this machine has no screen; it is made with a graphics adapter or without one");
    return false;
}

/* ---- vm.screenshot ------------------------------------------------------ */

/* Compressing takes long enough for the guest's devices to notice: a thread does it. */
struct shot {
    struct shot *next;
    struct api_call *call;
    pthread_t thread;
    struct loop_kick done; /* from the thread: needs no memory */
    u32 *pixels;
    u32 width, height;
    u8 *png;
    size_t size;
    int result;
};

enum { SHOTS = 4 };

static void shot_end(struct shot *s)
{
    struct shot **p = &s->call->vm->shots;
    while (*p != s)
        p = &(*p)->next;
    *p = s->next;
    pthread_join(s->thread, NULL);
    loop_kick_remove(&s->done);
    if (s->result)
        api_fail(s->call, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for the picture");
    else
        api_bytes(s->call, "image/png", s->png, s->size);
    free(s->pixels);
    free(s);
}

static void shot_done(struct loop_kick *k) { shot_end(container_of(k, struct shot, done)); }

static void *shot_run(void *arg)
{
    struct shot *s = arg;
    s->result = picture_png(s->pixels, s->width, s->height, &s->png, &s->size);
    loop_kick(&s->done);
    return NULL;
}

static void screenshot(struct api_call *c)
{
    struct vm *v = c->vm;
    u32 n = 0;

    if (!has_screen(c))
        return;
    for (struct shot *s = v->shots; s; s = s->next)
        n++;
    struct shot *s = n < SHOTS ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        api_fail(c, MHD_HTTP_SERVICE_UNAVAILABLE, "too many pictures at once");
        return;
    }
    display_refresh(v->display);
    display_size(v->display, &s->width, &s->height);
    const size_t bytes = (size_t)s->width * s->height * 4;
    s->call = c;
    if (!(s->pixels = malloc(bytes))) {
        free(s);
        api_fail(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for the picture");
        return;
    }
    memcpy(s->pixels, display_pixels(v->display), bytes);
    s->next = v->shots;
    v->shots = s;
    loop_kick_init(&s->done, v->loop, shot_done);
    if (pthread_create(&s->thread, NULL, shot_run, s)) {
        v->shots = s->next;
        free(s->pixels);
        free(s);
        api_fail(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "no thread for the picture");
    }
}

void api_screen_close(struct vm *v)
{
    while (v->shots) /* its kick is never heard */
        shot_end(v->shots);
}

/* ---- vm.screen-text ----------------------------------------------------- */

static void screen_text(struct api_call *c)
{
    struct display_text *t;
    char *text = NULL;

    if (!has_screen(c))
        return;
    t = calloc(1, sizeof *t);
    if (t && !display_text(c->vm->display, t)) {
        free(t);
        api_fail(c, MHD_HTTP_CONFLICT, "the screen shows graphics, in which there are no characters to read; "
                 "\"lodge screenshot\" (vm.screenshot) has the picture");
        return;
    }
    if (!t || !(text = picture_text(t))) {
        free(t);
        api_fail(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return;
    }
    json_t *o = json_pack("{s:i, s:i, s:s}", "columns", (int)t->columns, "rows", (int)t->rows, "text", text);
    if (o && t->cursor)
        json_object_set_new(o, "cursor",
                            json_pack("{s:i, s:i}", "column", (int)t->cursor_column, "row", (int)t->cursor_row));
    free(text);
    free(t);
    api_json(c, o);
}

/* ---- vm.send-key, vm.type ----------------------------------------------- */

/* The BIOS data area (IBM PC/AT Technical Reference): the keyboard buffer's head, tail, first byte and end. */
u32 api_bios_keys(void *ctx, u32 *where)
{
    const struct vm *v = ctx;
    const struct memory *m = v->machine ? machine_memory(v->machine) : NULL;
    struct { u16 head, tail; } keys;
    struct { u16 first, end; } buffer;

    if (!m || memory_read(m, 0x41a, &keys, sizeof keys) || memory_read(m, 0x480, &buffer, sizeof buffer))
        return 0;
    const u16 size = (u16)(buffer.end - buffer.first), head = (u16)(keys.head - buffer.first),
              tail = (u16)(keys.tail - buffer.first);
    if (buffer.end < buffer.first || head >= size || tail >= size)
        return 0; /* no BIOS, or a guest that has other uses for that memory */
    *where = keys.tail;
    return (u32)(tail >= head ? tail - head : tail + size - head) / 2;
}

static void typed(void *ctx, int result)
{
    struct api_call *c = ctx;
    if (!result)
        api_done(c, MHD_HTTP_NO_CONTENT);
    else if (result == -ETIMEDOUT)
        api_fail(c, MHD_HTTP_GATEWAY_TIMEOUT, "the guest takes no keys; those not taken were not sent");
    else
        api_fail(c, MHD_HTTP_SERVICE_UNAVAILABLE, "the machine has ended");
}

static bool can_type(struct api_call *c)
{
    if (c->typer && vm_state(c->vm) == VM_RUNNING)
        return true;
    if (c->typer)
        api_fail(c, MHD_HTTP_CONFLICT, "the machine is paused; vm.resume lets it go on");
    else
        api_fail(c, MHD_HTTP_NOT_FOUND, "this machine has no keyboard: the board micro has none");
    return false;
}

static void send_key(struct api_call *c)
{
    const json_t *keys = json_object_get(c->in, "keys");
    const size_t n = json_array_size(keys);
    struct error err;

    if (!n || n > TYPER_MAX) {
        api_fail(c, MHD_HTTP_BAD_REQUEST, "it is { \"keys\": [ \"ctrl-alt-delete\", ... ] }");
        return;
    }
    if (!can_type(c))
        return;
    const char **chord = calloc(n, sizeof *chord);
    for (size_t i = 0; i < n && chord; i++)
        if (!(chord[i] = json_string_value(json_array_get(keys, i)))) {
            free(chord);
            api_fail(c, MHD_HTTP_BAD_REQUEST, "keys are strings");
            return;
        }
    const int r =
        chord ? typer_chords(c->typer, chord, (u32)n, typed, c, &err) : error_set(&err, ENOMEM, "out of memory");
    free(chord);
    if (r)
        api_fail(c, r == -EINVAL ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_INTERNAL_SERVER_ERROR, "%s", err.text);
}

static void type(struct api_call *c)
{
    const char *text = json_string_value(json_object_get(c->in, "text"));
    struct error err;

    if (!text) {
        api_fail(c, MHD_HTTP_BAD_REQUEST, "it is { \"text\": \"...\" }");
        return;
    }
    if (!can_type(c))
        return;
    const int r = typer_text(c->typer, text, typed, c, &err);
    if (r)
        api_fail(c, r == -EINVAL ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_INTERNAL_SERVER_ERROR, "%s", err.text);
}

const struct api_route api_screen_routes[] = {
    { "GET", "vm.screenshot", false, screenshot },
    { "GET", "vm.screen-text", false, screen_text },
    { "PUT", "vm.send-key", true, send_key },
    { "PUT", "vm.type", true, type },
    { "PUT", "vm.change-media", true, api_change_media },
    { NULL, NULL, false, NULL },
};
