/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display_display.c - the screen's rectangles and picture, keys by name, where input goes, typing at the guest's pace.
 */
#include "test.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <png.h>
#include <stdlib.h>

#include "display/display.h"
#include "display/input.h"
#include "display/keys.h"
#include "display/picture.h"
#include "display/typer.h"

/* ---- a device that draws what it is told ---- */

static struct display *screen;
static struct display_rect draw[40];
static u32 ndraw, refreshed, want_w = 640, want_h = 480;

static void refresh(void *dev)
{
    u32 w, h;
    refreshed++;
    display_resize(screen, want_w, want_h);
    display_size(screen, &w, &h);
    for (u32 i = 0; i < ndraw; i++)
        display_changed(screen, draw[i].x, draw[i].y, draw[i].w, draw[i].h);
    ndraw = 0;
}

static const struct display_ops ops = { .refresh = refresh };

static struct display_rect seen[DISPLAY_MAX_RECTS];
static u32 nseen, told;
static bool resized_;

static void changed(struct display_viewer *v, const struct display_rect *r, u32 n, bool resized)
{
    memcpy(seen, r, n * sizeof *r);
    nseen = n;
    resized_ = resized;
    told++;
}

static bool covered(u32 x, u32 y)
{
    for (u32 i = 0; i < nseen; i++)
        if (x - seen[i].x < seen[i].w && y - seen[i].y < seen[i].h)
            return true;
    return false;
}

TEST(rectangles)
{
    struct error err;
    struct display_viewer v = { .changed = changed };
    screen = display_new(NULL, &err);
    REQUIRE(screen);
    display_refresh(screen); /* no device: nothing happens */
    display_plug(screen, &ops, NULL);
    display_look(screen, &v);

    display_refresh(screen);
    CHECK_EQ(told, 0);
    draw[0] = (struct display_rect){ 10, 10, 16, 16 };
    draw[1] = (struct display_rect){ 600, 400, 100, 100 }; /* reaches outside */
    draw[2] = (struct display_rect){ 700, 0, 1, 1 };       /* is outside */
    draw[3] = (struct display_rect){ 12, 12, 4, 4 };       /* within the first */
    ndraw = 4;
    display_refresh(screen);
    CHECK_EQ(told, 1);
    CHECK_EQ(nseen, 2);
    CHECK(!resized_ && covered(10, 10) && covered(639, 479) && !covered(300, 300));

    /* More than there is room for: all of it is covered, by few. */
    for (ndraw = 0; ndraw < 40; ndraw++)
        draw[ndraw] = (struct display_rect){ ndraw * 16, ndraw * 12, 3, 2 };
    display_refresh(screen);
    CHECK(nseen <= DISPLAY_MAX_RECTS);
    for (u32 i = 0; i < 40; i++)
        CHECK(covered(i * 16, i * 12) && covered(i * 16 + 2, i * 12 + 1));

    want_w = 100000, want_h = 0; /* cut to what there can be */
    display_refresh(screen);
    u32 w, h;
    display_size(screen, &w, &h);
    CHECK(w == DISPLAY_MAX_WIDTH && h == 1 && resized_ && nseen == 1);
    CHECK_EQ(seen[0].w, DISPLAY_MAX_WIDTH);

    told = 0;
    display_look_away(screen, &v);
    draw[0] = (struct display_rect){ 0, 0, 1, 1 };
    ndraw = 1;
    display_refresh(screen);
    CHECK_EQ(told, 0);
    display_free(screen);
}

TEST(png)
{
    enum { W = 37, H = 11 };
    u32 pixel[W * H];
    u8 *file = NULL, back[W * H * 3];
    size_t size = 0;
    png_image image = { .version = PNG_IMAGE_VERSION };

    for (u32 i = 0; i < W * H; i++)
        pixel[i] = i * 0x9e3779b1u;
    REQUIRE(!picture_png(pixel, W, H, &file, &size));
    REQUIRE(png_image_begin_read_from_memory(&image, file, size));
    CHECK(image.width == W && image.height == H);
    image.format = PNG_FORMAT_RGB;
    REQUIRE(png_image_finish_read(&image, NULL, back, 0, NULL));
    for (u32 i = 0; i < W * H; i++)
        CHECK_EQ((u32)back[3 * i] << 16 | (u32)back[3 * i + 1] << 8 | back[3 * i + 2], pixel[i] & 0xffffff);
    free(file);
}

TEST(text)
{
    struct display_text *t = calloc(1, sizeof *t);
    const char *say = "Hi \xc4\xb3 \x01";
    REQUIRE(t);
    t->columns = 10;
    t->rows = 3;
    for (u32 i = 0; i < 30; i++)
        t->cell[i].character = ' ';
    for (u32 i = 0; say[i]; i++)
        t->cell[10 + i].character = (u8)say[i];
    t->cell[29].character = 0x1b0; /* second font */
    char *text = picture_text(t);
    REQUIRE(text);
    CHECK_STR(text, "\nHi \u2500\u2502 \u263a\n         \u2591\n");
    free(text);
    free(t);
}

/* ---- keys ---- */

TEST(keys)
{
    u16 key[KEYS_CHORD];
    struct error err;
    bool shift;

    CHECK_EQ(keys_chord("ctrl-alt-delete", key, &err), 3);
    CHECK(key[0] == KEY_LEFTCTRL && key[1] == KEY_LEFTALT && key[2] == KEY_DELETE);
    CHECK_EQ(keys_chord("F12", key, &err), 1);
    CHECK_EQ(key[0], KEY_F12);
    CHECK_EQ(keys_chord("A", key, &err), 1);
    CHECK_EQ(key[0], KEY_A);
    static const char *const bad[] = { "", "-", "ctrl-", "-a", "nokey", "a-b-c-d-e-f-g-h-i", "\xff" };
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
        CHECK_EQ(keys_chord(bad[i], key, &err), -EINVAL);
    for (u32 c = ' '; c < 127; c++)
        CHECK(keys_character(c, &shift) && keys_keysym(c) == keys_character(c, &shift));
    CHECK(keys_character('_', &shift) == KEY_MINUS && shift);
    CHECK(keys_character('\n', &shift) == KEY_ENTER && !shift);
    CHECK(!keys_character(0, &shift) && !keys_character(200, &shift) && !keys_character(0x20ac, &shift));
    CHECK_EQ(keys_keysym(0xff0d), KEY_ENTER);
    CHECK_EQ(keys_keysym(0), 0);
    CHECK_EQ(keys_xt(0x1e), KEY_A);
    CHECK_EQ(keys_xt(0x9d), KEY_RIGHTCTRL);
    for (u32 c = 0; c < 0x300; c++)
        CHECK(keys_xt(c) < INPUT_KEYS);
}

/* ---- input ---- */

struct sink {
    struct input_sink s;
    bool on;
    u32 waiting, events;
    char log[512];
};

static void note(struct sink *k, const char *fmt, int a, int b, int c, int d)
{
    const size_t n = strlen(k->log);
    snprintf(k->log + n, sizeof k->log - n, fmt, a, b, c, d);
    k->events++;
}
static void key(void *dev, u16 code, bool down) { note(dev, down ? "+%d " : "-%d ", code, 0, 0, 0); }
static void relative(void *dev, s32 dx, s32 dy, s32 wheel, u8 b) { note(dev, "r%d,%d,%d,%d ", dx, dy, wheel, b); }
static void absolute(void *dev, u32 x, u32 y, s32 wheel, u8 b) { note(dev, "a%d,%d,%d,%d ", (int)x, (int)y, wheel, b); }
static bool active(void *dev) { return ((struct sink *)dev)->on; }
static u32 waiting(void *dev) { return ((struct sink *)dev)->waiting; }

static const struct input_sink_ops ps2_ops = { .key = key, .relative = relative, .waiting = waiting };
static const struct input_sink_ops tablet_ops = { .absolute = absolute, .active = active };
static const struct input_sink_ops keyboard_ops = { .key = key, .active = active, .waiting = waiting };

TEST(who_gets_it)
{
    struct input *in = input_new();
    struct sink ps2 = { .s = { &ps2_ops, &ps2, INPUT_PS2, NULL } },
                tablet = { .s = { &tablet_ops, &tablet, INPUT_USB, NULL } };
    struct sink keyboard = { .s = { &keyboard_ops, &keyboard, INPUT_VIRTIO, NULL } };
    REQUIRE(in);
    input_key(in, KEY_A, true); /* nobody there */
    input_position(in, 1, 1, 640, 480, 0, 1);
    input_release(in);
    input_plug(in, &ps2.s);
    input_plug(in, &tablet.s);
    input_plug(in, &keyboard.s);

    input_key(in, KEY_A, true);
    input_key(in, KEY_A, true);
    input_key(in, KEY_B, false);
    input_key(in, 0, true);
    input_key(in, 60000, true);
    CHECK_STR(ps2.log, "+30 ");
    keyboard.on = true; /* the key goes up where it went down */
    input_key(in, KEY_B, true);
    CHECK_STR(ps2.log, "+30 -30 ");
    CHECK_STR(keyboard.log, "+48 ");
    input_release(in);
    CHECK_STR(keyboard.log, "+48 -48 ");

    ps2.log[0] = 0;
    input_position(in, 10, 10, 640, 480, 0, 0);
    input_position(in, 13, 8, 640, 480, -1, INPUT_LEFT);
    CHECK_STR(ps2.log, "r9,9,0,0 r3,-2,-1,1 ");
    tablet.on = true;
    input_position(in, 5000, 479, 640, 480, 0, INPUT_RIGHT);
    CHECK_STR(ps2.log, "r9,9,0,0 r3,-2,-1,1 r0,0,0,0 ");
    CHECK_STR(tablet.log, "a32767,32767,0,2 ");
    input_move(in, -639, -1000, 640, 480, 0, 0);
    CHECK_STR(tablet.log, "a32767,32767,0,2 a0,0,0,0 ");
    input_unplug(in, &tablet.s);
    input_unplug(in, &keyboard.s);
    input_unplug(in, &ps2.s);
    input_free(in);
}

/* ---- typing ---- */

static struct loop *loop;
static struct sink guest;
static int finished = 1;
static struct timer reader;

/* The guest takes a key now and then; none must come before. */
static void guest_key(void *dev, u16 code, bool down)
{
    CHECK_EQ(guest.waiting, 0);
    guest.waiting = 1;
    key(dev, code, down);
}
static const struct input_sink_ops guest_ops = { .key = guest_key, .waiting = waiting };

static void guest_reads(struct timer *t)
{
    guest.waiting = 0;
    timer_arm(t, clock_ns() + 15000000);
}

static void typed(void *ctx, int result)
{
    finished = result;
    if (ctx)
        loop_stop(loop);
}

TEST(typing)
{
    struct error err;
    struct input *in = input_new();
    struct typer *t;
    static const char *const chords[] = { "ctrl-c", "ret" }, *const none[] = { "ctrl-c", "bogus" };

    loop = loop_new();
    REQUIRE(in && loop);
    t = typer_new(loop, in, NULL, NULL);
    guest = (struct sink){ .s = { &guest_ops, &guest, INPUT_PS2, NULL } };
    input_plug(in, &guest.s);
    timer_init(&reader, loop, guest_reads);
    timer_arm(&reader, clock_ns());
    CHECK_EQ(typer_text(t, "aB\n", typed, NULL, &err), 0);
    CHECK_EQ(typer_text(t, "\xc3\xa4", typed, NULL, &err), -EINVAL);
    CHECK_EQ(typer_chords(t, none, 2, typed, NULL, &err), -EINVAL);
    CHECK_EQ(typer_chords(t, chords, 2, typed, t, &err), 0);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(finished, 0);
    CHECK_STR(guest.log, "+30 -30 +42 +48 -48 -42 +28 -28 +29 +46 -46 -29 +28 -28 ");
    timer_disarm(&reader);
    CHECK_EQ(typer_text(t, "x", typed, NULL, &err), 0);
    typer_free(t);
    CHECK_EQ(finished, -ECANCELED);
    input_free(in);
    loop_free(loop);
}

/* ---- typing at a BIOS ---- */

static u32 kept, last, most, looks;
static bool bios_gone; /* what it kept is still there, and nobody reads it */

/* Its program reads a key when this was asked 16 times, which is slower than keys are typed. */
static u32 keeps(void *ctx, u32 *where)
{
    if (++looks % 16 == 0 && kept && !bios_gone)
        kept--;
    *where = last;
    return kept;
}

static void bios_key(void *dev, u16 code, bool down)
{
    key(dev, code, down);
    if (!down || bios_gone)
        return;
    last++;
    kept++;
    most = MAX(most, kept);
}
static const struct input_sink_ops bios_ops = { .key = bios_key };

TEST(typing_does_not_run_over_what_a_bios_keeps)
{
    struct error err;
    struct input *in = input_new();
    struct sink bios = { .s = { &bios_ops, &bios, INPUT_PS2, NULL } };

    loop = loop_new();
    REQUIRE(in && loop);
    struct typer *t = typer_new(loop, in, keeps, NULL);
    input_plug(in, &bios.s);
    CHECK_EQ(typer_text(t, "abcdefghijklmnopqrstuvwxyz", typed, t, &err), 0);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(finished, 0);
    CHECK_EQ(bios.events, 52);
    CHECK_EQ(last, 26);
    CHECK_EQ(most, TYPER_KEPT);

    kept = 15;
    bios_gone = true;
    finished = 1;
    CHECK_EQ(typer_text(t, "abc", typed, t, &err), 0);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(finished, 0);
    CHECK_EQ(bios.events, 58);
    typer_free(t);
    input_free(in);
    loop_free(loop);
}
