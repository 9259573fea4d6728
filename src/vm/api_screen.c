/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_screen.c - Lodge's own calls: what a script needs to drive an installer by its screen, keyboard and discs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "display/picture.h"
#include "machine/machine.h"
#include "vm/api_internal.h"
#include "vm/devices.h"

static bool has_screen(struct http_call *c)
{
    if (vm_of(c)->display && display_plugged(vm_of(c)->display))
        return true;
    http_fail(c, HTTP_NOT_FOUND,
              "this machine has no screen; it is made with a graphics adapter or without one");
    return false;
}

/* ---- vm.screenshot ------------------------------------------------------ */

/* Compressing takes long enough for the guest's devices to notice: a thread does it. */
struct shot {
    struct shot *next;
    struct http_call *call;
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
    struct shot **p = &vm_of(s->call)->shots;
    while (*p != s)
        p = &(*p)->next;
    *p = s->next;
    pthread_join(s->thread, NULL);
    loop_kick_remove(&s->done);
    if (s->result)
        http_fail(s->call, HTTP_INTERNAL_ERROR, "no memory for the picture");
    else
        http_bytes(s->call, "image/png", s->png, s->size);
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

static void screenshot(struct http_call *c)
{
    struct vm *v = vm_of(c);
    u32 n = 0;

    if (!has_screen(c))
        return;
    for (struct shot *s = v->shots; s; s = s->next)
        n++;
    struct shot *s = n < SHOTS ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        http_fail(c, HTTP_UNAVAILABLE, "too many pictures at once");
        return;
    }
    display_refresh(v->display);
    display_size(v->display, &s->width, &s->height);
    const size_t bytes = (size_t)s->width * s->height * 4;
    s->call = c;
    if (!(s->pixels = malloc(bytes))) {
        free(s);
        http_fail(c, HTTP_INTERNAL_ERROR, "no memory for the picture");
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
        http_fail(c, HTTP_INTERNAL_ERROR, "no thread for the picture");
    }
}

void api_screen_close(struct vm *v)
{
    while (v->shots) /* its kick is never heard */
        shot_end(v->shots);
}

/* ---- vm.screen-text ----------------------------------------------------- */

static void screen_text(struct http_call *c)
{
    struct display_text *t;
    char *text = NULL;

    if (!has_screen(c))
        return;
    t = calloc(1, sizeof *t);
    if (t && !display_text(vm_of(c)->display, t)) {
        free(t);
        http_fail(c, HTTP_CONFLICT, "the screen shows graphics, in which there are no characters to read; "
                  "\"lodge screenshot\" (vm.screenshot) has the picture");
        return;
    }
    if (!t || !(text = picture_text(t))) {
        free(t);
        http_fail(c, HTTP_INTERNAL_ERROR, "out of memory");
        return;
    }
    json_t *o = json_pack("{s:i, s:i, s:s}", "columns", (int)t->columns, "rows", (int)t->rows, "text", text);
    if (o && t->cursor)
        json_object_set_new(o, "cursor",
                            json_pack("{s:i, s:i}", "column", (int)t->cursor_column, "row", (int)t->cursor_row));
    free(text);
    free(t);
    http_json(c, o);
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
    struct http_call *c = ctx;
    if (!result)
        http_done(c, HTTP_NO_CONTENT);
    else if (result == -ETIMEDOUT)
        http_fail_errno(c, result, "the guest takes no keys; those not taken were not sent");
    else
        http_fail_errno(c, result, "the machine has ended");
}

static bool can_type(struct http_call *c)
{
    if (api_of(c)->typer && vm_state(vm_of(c)) == VM_RUNNING)
        return true;
    if (api_of(c)->typer)
        http_fail(c, HTTP_CONFLICT, "the machine is paused; vm.resume lets it go on");
    else
        http_fail(c, HTTP_NOT_FOUND, "this machine has no keyboard: the board micro has none");
    return false;
}

static void send_key(struct http_call *c)
{
    const json_t *keys = json_object_get(c->in, "keys");
    const size_t n = json_array_size(keys);
    struct error err;

    if (!n || n > TYPER_MAX) {
        http_fail(c, HTTP_BAD_REQUEST, "it is { \"keys\": [ \"ctrl-alt-delete\", ... ] }");
        return;
    }
    if (!can_type(c))
        return;
    const char **chord = calloc(n, sizeof *chord);
    for (size_t i = 0; i < n && chord; i++)
        if (!(chord[i] = json_string_value(json_array_get(keys, i)))) {
            free(chord);
            http_fail(c, HTTP_BAD_REQUEST, "keys are strings");
            return;
        }
    const int r =
        chord ? typer_chords(api_of(c)->typer, chord, (u32)n, typed, c, &err) : error_set(&err, ENOMEM, "out of memory");
    free(chord);
    if (r)
        http_fail_errno(c, r, "%s", err.text);
}

static void type(struct http_call *c)
{
    const char *text = json_string_value(json_object_get(c->in, "text"));
    struct error err;

    if (!text) {
        http_fail(c, HTTP_BAD_REQUEST, "it is { \"text\": \"...\" }");
        return;
    }
    if (!can_type(c))
        return;
    const int r = typer_text(api_of(c)->typer, text, typed, c, &err);
    if (r)
        http_fail_errno(c, r, "%s", err.text);
}

const struct http_route api_screen_routes[] = {
    { "GET", "vm.screenshot", HTTP_NO_BODY, screenshot },
    { "GET", "vm.screen-text", HTTP_NO_BODY, screen_text },
    { "PUT", "vm.send-key", HTTP_JSON, send_key },
    { "PUT", "vm.type", HTTP_JSON, type },
    { "PUT", "vm.change-media", HTTP_JSON, api_change_media },
    { NULL, NULL, HTTP_NO_BODY, NULL },
};
