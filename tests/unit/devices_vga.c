/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices_vga.c - the graphics adapter against a model of its own, written plane by plane, bit by bit and dot by dot as IBM's
 * Technical Reference describes them, with nothing of the device's in it.
 */
#include <stdlib.h>

#include "devices/vga.h"
#include "fake_loop.h"
#include "vga_modes.h"

static u64 seed = 0x5eed5eed5eed5eed;
static u32 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (u32)(seed >> 16);
}

struct rig {
    struct display *d;
    struct vga v;
    u8 *vram;
    struct memory *memory;
    struct memory_piece *piece;
    /* the model */
    u8 misc, seq[5], crtc[25], att[21], gfx[9], latch[4], dac[256][3];
    u8 plane[4][0x10000];
};

static void port(struct rig *g, u32 p, u8 value) { vga_ports_ops.write(&g->v, p - VGA_PORTS_BASE, 1, value); }
static u8 inport(struct rig *g, u32 p) { return (u8)vga_ports_ops.read(&g->v, p - VGA_PORTS_BASE, 1); }
static u32 crtc_port(const struct rig *g) { return g->misc & 1 ? 0x3d4 : 0x3b4; }

static void set_misc(struct rig *g, u8 v) { port(g, 0x3c2, g->misc = v); }
static void set_seq(struct rig *g, u8 i, u8 v) { port(g, 0x3c4, i), port(g, 0x3c5, g->seq[i] = v); }
static void set_gfx(struct rig *g, u8 i, u8 v) { port(g, 0x3ce, i), port(g, 0x3cf, g->gfx[i] = v); }
static void set_crtc(struct rig *g, u8 i, u8 v) { port(g, crtc_port(g), i), port(g, crtc_port(g) + 1, g->crtc[i] = v); }
static void set_att(struct rig *g, u8 i, u8 v)
{
    inport(g, crtc_port(g) + 6);
    port(g, 0x3c0, i | 0x20);
    port(g, 0x3c0, g->att[i] = v);
}

static void set_mode(struct rig *g, const struct vga_mode *m)
{
    set_misc(g, m->misc);
    for (u8 i = 0; i < 5; i++)
        set_seq(g, i, m->seq[i]);
    set_crtc(g, 0x11, 0);
    for (u8 i = 0; i < 25; i++)
        set_crtc(g, i, m->crtc[i]);
    for (u8 i = 0; i < 9; i++)
        set_gfx(g, i, m->gfx[i]);
    for (u8 i = 0; i < 21; i++)
        set_att(g, i, m->att[i]);
}

static struct rig *rig_new(void)
{
    struct rig *g = calloc(1, sizeof *g);
    struct error err;

    g->d = display_new(NULL, &err);
    g->memory = memory_new(&err);
    if (!g->memory || memory_piece(g->memory, &g->piece, "vga", VGA_VRAM_SIZE, false, &err)) {
        printf("%s\n", err.text);
        exit(1);
    }
    g->vram = g->piece->host;
    vga_init(&g->v, &(struct vga_config){ .memory = g->memory, .vram = g->piece, .display = g->d });
    return g;
}

static void rig_free(struct rig *g)
{
    vga_destroy(&g->v);
    display_free(g->d);
    memory_free(g->memory);
    free(g);
}

/* ---- the model: memory ---- */

static bool in_map(const struct rig *g, u32 *a)
{
    static const u32 base[4] = { 0, 0, 0x10000, 0x18000 }, size[4] = { 0x20000, 0x10000, 0x8000, 0x8000 };
    u32 map = g->gfx[6] >> 2 & 3;

    if (!(g->misc & 2) || *a < base[map] || *a >= base[map] + size[map])
        return false;
    *a -= base[map];
    return true;
}

static u32 plane_offset(const struct rig *g, u32 a, bool odd_even)
{
    if (g->seq[4] & 8)
        return (a & 0xffff) / 4;
    if (odd_even && (g->gfx[6] & 2)) {
        a &= 0x1fffe;
        if (g->gfx[6] & 0xc ? !(g->misc & 0x20) : a >= 0x10000)
            a |= 1;
    }
    return a & 0xffff;
}

static u8 model_read(struct rig *g, u32 a)
{
    u8 result = 0xff;

    if (!in_map(g, &a))
        return 0xff;
    for (int p = 0; p < 4; p++)
        g->latch[p] = g->plane[p][plane_offset(g, a, g->gfx[5] & 0x10)];
    if (g->gfx[5] & 8) {
        for (int bit = 0; bit < 8; bit++)
            for (int p = 0; p < 4; p++)
                if ((g->gfx[7] >> p & 1) && (g->latch[p] >> bit & 1) != (g->gfx[2] >> p & 1))
                    result &= (u8) ~(1 << bit);
        return result;
    }
    if (g->seq[4] & 8)
        return g->latch[a & 3];
    if (g->gfx[5] & 0x10)
        return g->latch[(g->gfx[4] & 2) | (a & 1)];
    return g->latch[g->gfx[4] & 3];
}

static void model_write(struct rig *g, u32 a, u8 v)
{
    u32 mode = g->gfx[5] & 3, turn = g->gfx[3] & 7, function = g->gfx[3] >> 3 & 3;
    bool chain = g->seq[4] & 8, odd_even = !chain && !(g->seq[4] & 4);

    if (!in_map(g, &a))
        return;
    for (u32 p = 0; p < 4; p++) {
        u8 *byte = &g->plane[p][plane_offset(g, a, odd_even)], result = 0;
        if (!(g->seq[2] >> p & 1) || (chain && p != (a & 3)) || (odd_even && (p & 1) != (a & 1)))
            continue;
        for (u32 bit = 0; bit < 8; bit++) {
            bool rotated = v >> (bit + turn) % 8 & 1, old = g->latch[p] >> bit & 1, new, take = g->gfx[8] >> bit & 1;
            bool set_reset = g->gfx[0] >> p & 1;
            if (mode == 0) {
                new = g->gfx[1] >> p & 1 ? set_reset : rotated;
            } else if (mode == 1) {
                result |= (u8)(old << bit);
                continue;
            } else if (mode == 2) {
                new = v >> p & 1;
            } else {
                new = set_reset;
                take = take && rotated;
            }
            new = function == 0 ? new : function == 1 ? new && old : function == 2 ? new || old : new != old;
            result |= (u8)((take ? new : old) << bit);
        }
        *byte = result;
    }
}

/* Both at once, of 1, 2, 4 or 8 bytes; what is read is compared. */
static void mem_write(struct rig *g, u32 a, unsigned size, u64 v)
{
    vga_window_ops.write(&g->v, a, size, v);
    for (unsigned i = 0; i < size; i++)
        model_write(g, a + i, (u8)(v >> i * 8));
}

static void mem_read(struct rig *g, u32 a, unsigned size)
{
    u64 want = 0;
    for (unsigned i = 0; i < size; i++)
        want |= (u64)model_read(g, a + i) << i * 8;
    CHECK_EQ(vga_window_ops.read(&g->v, a, size), want);
}

/* A run of count elements (bus.h), against as many single accesses: what a string instruction makes of memory, or of the window. */
static void mem_run(struct rig *g)
{
    enum { RAM = 512 };
    u8 ram[RAM], want[RAM], size = (u8)(1u << rnd() % 4);
    u32 count = 1 + rnd() % (RAM / 8 - 1), kind = rnd() % 4, room = 0x20000 - count * size;
    bool down = rnd() % 3 == 0;
    u32 first = down ? (count - 1) * size : 0;
    struct bus_run r = { .to = rnd() % room + first, .from = rnd() % room + first, .size = size, .count = count, .down = down,
                         .value = (u64)rnd() << 32 | rnd(), .fill = kind == 0 };

    for (u32 i = 0; i < RAM; i++)
        want[i] = ram[i] = (u8)rnd();
    if (kind == 1)
        r.from_host = ram + first;
    else if (kind == 2)
        r.to_host = ram + first;
    else if (kind == 3 && rnd() & 1) /* they overlap */
        r.from = r.to < 0x1ff00 - (u64)count * size ? r.to + rnd() % 64 : r.to;
    vga_window_ops.run(&g->v, &r);
    for (u32 k = 0; k < count; k++)
        for (u32 i = 0; i < size; i++) { /* an element is read whole before it is written */
            u32 at = down ? first - k * size : k * size;
            static u8 element[8];
            if (i == 0)
                for (u32 n = 0; n < size; n++)
                    element[n] = kind == 0 ? (u8)(r.value >> n * 8) : kind == 1 ? ram[at + n] : model_read(g, (u32)r.from - first + at + n);
            if (kind == 2)
                want[at + i] = element[i];
            else
                model_write(g, (u32)r.to - first + at + i, element[i]);
        }
    CHECK(!memcmp(ram, want, RAM));
}

/* ---- the model: the picture ---- */

static u32 rgb(const struct rig *g, u32 index)
{
    u32 v = 0;
    for (int i = 0; i < 3; i++) {
        u32 c = g->dac[index & inport((struct rig *)g, 0x3c6)][i];
        v = v << 8 | c * 4 | c / 16;
    }
    return v;
}

static u32 dac_of(const struct rig *g, u32 att)
{
    u32 p = g->att[att];
    if (g->att[0x10] & 0x80)
        p = (p & 15) + (g->att[0x14] & 3) * 16;
    return p + (g->att[0x14] & 12) * 16;
}

static u32 memory_address(const struct rig *g, u32 counter, u32 scan)
{
    u32 a = counter;
    counter &= 0xffff;
    if (!(g->crtc[0x17] & 0x40) && !(g->crtc[0x14] & 0x40))
        a = counter * 2 + (counter >> (g->crtc[0x17] & 0x20 ? 15 : 13)) % 2;
    if (!(g->crtc[0x17] & 1))
        a = (a & 0xdfff) + (scan & 1 ? 0x2000 : 0);
    if (!(g->crtc[0x17] & 2))
        a = (a & 0xbfff) + (scan & 2 ? 0x4000 : 0);
    return a & 0xffff;
}

static u32 model_dot(const struct rig *g, u32 x, u32 y, bool cursor_on, bool blink_on)
{
    bool graphics = g->gfx[6] & 1, twice = g->crtc[9] & 0x80, below = false;
    u32 cell = graphics || (g->seq[1] & 1) ? 8 : 9, lines = (g->crtc[9] & 31u) + 1, preset = g->crtc[8] & 31, pan = g->att[0x13];
    u32 start = g->crtc[12] * 256u + g->crtc[13], bytes = g->crtc[8] >> 5 & 3, line = y;
    u32 compare = g->crtc[0x18] + (g->crtc[7] & 0x10 ? 256 : 0) + (g->crtc[9] & 0x40 ? 512 : 0);

    if (y > compare) {
        below = g->att[0x10] & 0x20;
        line = y - compare - 1;
        start = preset = 0;
    }
    line = (twice ? line / 2 : line) + preset;
    pan = cell == 9 ? (pan >= 8 || below ? 0 : pan + 1) : pan >= 8 || below ? 0 : pan;
    x = (g->seq[1] & 8 ? x / 2 : x) + pan;
    u32 scan = line % lines, counter = start + line / lines * g->crtc[0x13] * 2 + x / cell + (below ? 0 : bytes);
    u32 a = memory_address(g, counter, scan), dot = x % cell;
    u8 p[4] = { g->plane[0][a], g->plane[1][a], g->plane[2][a], g->plane[3][a] };

    if (!graphics) {
        u32 ch = p[0], attribute = p[1], select = g->seq[3], cursor = g->crtc[14] * 256u + g->crtc[15] + (g->crtc[11] >> 5 & 3);
        u32 n = attribute & 8 ? (select >> 2 & 3) + (select >> 3 & 4) : (select & 3) + (select >> 2 & 4);
        static const u16 font[8] = { 0, 0x4000, 0x8000, 0xc000, 0x2000, 0x6000, 0xa000, 0xe000 };
        u8 bits = g->plane[2][font[n] + ch * 32 + scan];
        bool on = dot < 8 ? bits >> (7 - dot) & 1 : (g->att[0x10] & 4) && ch >= 0xc0 && ch <= 0xdf && (bits & 1);
        if ((attribute & 0x77) == 1 && scan == (g->crtc[0x14] & 31u))
            on = true;
        if ((g->att[0x10] & 8) && (attribute & 0x80) && !blink_on)
            on = false;
        if (cursor_on && !(g->crtc[10] & 0x20) && (counter & 0xffff) == (cursor & 0xffff) && scan >= (g->crtc[10] & 31u) &&
            scan <= (g->crtc[11] & 31u))
            on = true;
        u32 color = on ? attribute & 15 : attribute >> 4 & (g->att[0x10] & 8 ? 7 : 15);
        return rgb(g, dac_of(g, color & g->att[0x12]));
    }
    if (g->gfx[5] & 0x40)
        return rgb(g, p[dot / 2]);
    u32 color = 0;
    if (g->gfx[5] & 0x20) {
        u32 shift = 6 - dot % 4 * 2;
        color = (p[dot / 4] >> shift & 3) + (p[dot / 4 + 2] >> shift & 3) * 4;
    } else {
        for (int i = 0; i < 4; i++)
            color |= (p[i] >> (7 - dot) & 1u) << i;
    }
    color &= g->att[0x12];
    if ((g->att[0x10] & 8) && !blink_on)
        color ^= 8;
    return rgb(g, dac_of(g, color));
}

/* A sample of dots, and all of some lines. */
static void compare_picture(struct rig *g, const struct vga_mode *m, const char *what)
{
    u32 w, h, wrong = 0;
    bool cursor_on = !(fake_now / 114000000 & 1), blink_on = !(fake_now / 228000000 & 1);

    display_refresh(g->d);
    display_size(g->d, &w, &h);
    CHECK_EQ(w, (u32)m->width);
    CHECK_EQ(h, (u32)m->height);
    for (u32 y = 0; y < h && wrong < 3; y++)
        for (u32 x = 0; x < w && wrong < 3; x += y % 16 == 5 ? 1 : 1 + rnd() % 32) {
            u32 got = display_pixels(g->d)[y * w + x] & 0xffffff, want = model_dot(g, x, y, cursor_on, blink_on);
            if (got != want) {
                test_fail(__FILE__, __LINE__, "mode %02x, %s: dot %u, %u is %06x, not %06x", m->number, what, x, y, got, want);
                wrong++;
            }
        }
}

/* ---- tests ---- */

static void random_colors(struct rig *g)
{
    port(g, 0x3c6, 0xff);
    port(g, 0x3c8, 0);
    for (u32 i = 0; i < 256; i++)
        for (u32 c = 0; c < 3; c++)
            port(g, 0x3c9, g->dac[i][c] = rnd() & 0x3f);
}

static void random_memory(struct rig *g, u32 n)
{
    for (u32 i = 0; i < n; i++) {
        unsigned size = 1u << rnd() % 4;
        u32 a = rnd() % (0x20000 - size + 1);
        if (rnd() % 16 == 0)
            mem_run(g);
        else if (rnd() % 3)
            mem_write(g, a, size, (u64)rnd() << 32 | rnd());
        else
            mem_read(g, a, size);
    }
}

/* All four planes with known noise, flat. */
static void random_planes(struct rig *g, const struct vga_mode *m)
{
    set_seq(g, 4, 6), set_gfx(g, 5, 0), set_gfx(g, 6, 5), set_gfx(g, 1, 0), set_gfx(g, 3, 0), set_gfx(g, 8, 0xff);
    for (u8 p = 0; p < 4; p++) {
        set_seq(g, 2, (u8)(1 << p));
        for (u32 a = 0; a < 0x10000; a += 8)
            mem_write(g, a, 8, (u64)rnd() << 32 | rnd());
    }
    set_mode(g, m);
}

/* The registers that decide what accesses to memory do. */
static void random_graphics_controller(struct rig *g, const struct vga_mode *m)
{
    set_seq(g, 2, rnd() % 16);
    set_seq(g, 4, rnd() % 4 ? m->seq[4] : rnd() & 0xe);
    set_misc(g, rnd() % 4 ? m->misc : (u8)((m->misc & ~0x22) | (rnd() & 0x22)));
    set_gfx(g, 0, rnd() % 16);
    set_gfx(g, 1, rnd() % 16);
    set_gfx(g, 2, rnd() % 16);
    set_gfx(g, 3, rnd() % 32);
    set_gfx(g, 4, rnd() % 4);
    set_gfx(g, 5, (u8)((m->gfx[5] & 0x60) | (rnd() % 4 ? m->gfx[5] & 0x10 : rnd() & 0x10) | (rnd() & 0x0b)));
    set_gfx(g, 6, (u8)((m->gfx[6] & 1) | (rnd() & 0xe)));
    set_gfx(g, 7, rnd() % 16);
    set_gfx(g, 8, rnd() % 4 ? rnd() & 0xff : 0xff);
}

/* Those that decide what is shown of it; sizes stay. */
static void random_picture(struct rig *g, const struct vga_mode *m)
{
    u32 compare = rnd() % 3 ? rnd() % 480 : 1023;

    set_crtc(g, 0x0c, rnd() & 0xff), set_crtc(g, 0x0d, rnd() & 0xff);
    set_crtc(g, 0x0e, rnd() & 7), set_crtc(g, 0x0f, rnd() & 0xff);
    set_crtc(g, 0x0a, rnd() & 0x3f), set_crtc(g, 0x0b, rnd() & 0x7f);
    set_crtc(g, 0x13, rnd() % 4 ? m->crtc[0x13] : rnd() & 0xff);
    set_crtc(g, 0x18, compare & 0xff);
    set_crtc(g, 7, (u8)((m->crtc[7] & ~0x10) | (compare & 0x100) >> 4));
    set_crtc(g, 9, (u8)((m->crtc[9] & ~0x40) | (compare & 0x200) >> 3));
    set_crtc(g, 8, (u8)((rnd() & 0x60) | rnd() % ((m->crtc[9] & 31) + 1)));
    set_crtc(g, 0x14, (u8)((m->crtc[0x14] & 0x40) | (rnd() & 0x1f)));
    set_crtc(g, 0x17, (u8)(m->crtc[0x17] ^ (rnd() % 4 ? 0 : rnd() & 0x63)));
    set_seq(g, 3, rnd() & 0x3f);
    set_att(g, 0x10, (u8)(m->att[0x10] ^ (rnd() & 0xae)));
    set_att(g, 0x12, rnd() % 4 ? m->att[0x12] : rnd() % 16);
    set_att(g, 0x13, rnd() % 16);
    set_att(g, 0x14, rnd() % 16);
    for (u8 i = 0; i < 16; i++)
        set_att(g, i, rnd() & 0x3f);
    port(g, 0x3c6, rnd() % 4 ? 0xff : rnd() & 0xff);
    fake_now += rnd();
}

TEST(modes)
{
    struct rig *g = rig_new();

    for (u32 i = 0; i < ARRAY_SIZE(vga_mode); i++) {
        const struct vga_mode *m = &vga_mode[i];
        vga_reset(&g->v);
        memset(g->plane, 0, sizeof g->plane);
        memset(g->latch, 0, sizeof g->latch);
        set_mode(g, m);
        random_colors(g);
        random_memory(g, 3000);
        compare_picture(g, m, "as the BIOS sets it");
        random_planes(g, m);
        compare_picture(g, m, "random memory");
        for (u32 n = 0; n < 12; n++) {
            set_mode(g, m);
            random_picture(g, m);
            compare_picture(g, m, "random registers");
            for (u32 k = 0; k < 10; k++) {
                random_graphics_controller(g, m);
                random_memory(g, 100);
            }
            set_misc(g, m->misc);
            set_seq(g, 4, m->seq[4]), set_gfx(g, 5, m->gfx[5]), set_gfx(g, 6, m->gfx[6]);
            compare_picture(g, m, "random accesses");
        }
    }
    rig_free(g);
}

/* ---- DISPI ---- */

static void vbe(struct rig *g, u16 index, u16 value)
{
    vbe_ports_ops.write(&g->v, 0, 2, index);
    vbe_ports_ops.write(&g->v, 1, 2, value);
}

static u16 vbe_get(struct rig *g, u16 index)
{
    vbe_ports_ops.write(&g->v, 0, 2, index);
    return (u16)vbe_ports_ops.read(&g->v, 1, 2);
}

static const struct pci_bar *bar(struct rig *g, u32 n) { return &g->v.pci.bar[n]; }

/* Pixel x, y as a person would compute it. */
static u32 vbe_dot(const struct rig *g, u32 bpp, u32 virt, u32 x, u32 y)
{
    const u64 n = (u64)y * virt + x;
    const u8 *p = g->vram + n * ((bpp + 7) / 8) % VGA_VRAM_SIZE;
    u32 v = 0, color = 0;

    switch (bpp) {
    case 4:
        for (u32 i = 0; i < 4; i++)
            color |= (g->vram[((u64)y * ((virt + 7) / 8) + x / 8) * 4 % VGA_VRAM_SIZE + i] >> (7 - x % 8) & 1u) << i;
        return rgb(g, dac_of(g, color & g->att[0x12]));
    case 8:
        return rgb(g, *p);
    case 15:
    case 16:
        v = p[0] | p[1] << 8;
        for (u32 i = 0, bits; i < 3; i++, v >>= bits) { /* blue first */
            bits = i == 1 && bpp == 16 ? 6 : 5;
            u32 c = v & ((1u << bits) - 1);
            color |= (bits == 5 ? c * 8 + c / 4 : c * 4 + c / 16) << i * 8;
        }
        return color;
    default:
        return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16;
    }
}

TEST(vbe_modes)
{
    static const u16 size[][2] = { { 640, 480 }, { 800, 600 }, { 1024, 768 }, { 1366, 768 }, { 1920, 1200 }, { 2560, 1600 } };
    static const u16 depth[] = { 4, 8, 15, 16, 24, 32 };
    struct rig *g = rig_new();

    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_ID), 0xb0c5);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIDEO_MEMORY_64K), 256);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_GETCAPS);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_XRES), 2560);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_YRES), 1600);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_BPP), 32);
    set_mode(g, &vga_mode[10]); /* 12h: planes as 4-bit modes want them */
    random_colors(g);
    for (u32 i = 0; i < ARRAY_SIZE(size); i++)
        for (u32 k = 0; k < ARRAY_SIZE(depth); k++) {
            u32 w, h, wrong = 0, virt = size[i][0] + (rnd() % 3 ? 0 : rnd() % 500), x0 = rnd() % 100, y0 = rnd() % 50;
            for (u64 n = 0; n < VGA_VRAM_SIZE; n += 4096)
                memset(g->vram + n, 0xee, 64);
            vbe(g, VBE_DISPI_INDEX_ENABLE, 0);
            vbe(g, VBE_DISPI_INDEX_XRES, size[i][0]);
            vbe(g, VBE_DISPI_INDEX_YRES, size[i][1]);
            vbe(g, VBE_DISPI_INDEX_BPP, depth[k]);
            vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED | VBE_DISPI_LFB_ENABLED | (i ? 0 : VBE_DISPI_NOCLEARMEM));
            CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), size[i][0]);
            CHECK_EQ(g->vram[0], i ? 0 : 0xee);
            if ((u64)virt * size[i][1] * ((depth[k] + 7) / 8) > VGA_VRAM_SIZE) /* would be refused */
                virt = size[i][0];
            vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, (u16)virt);
            vbe(g, VBE_DISPI_INDEX_X_OFFSET, (u16)x0);
            vbe(g, VBE_DISPI_INDEX_Y_OFFSET, (u16)y0);
            for (u64 n = 0; n < VGA_VRAM_SIZE; n += 8)
                *(u64 *)(void *)(g->vram + n) = (u64)rnd() << 32 | rnd();
            display_refresh(g->d);
            display_size(g->d, &w, &h);
            CHECK(w == size[i][0] && h == size[i][1]);
            for (u32 y = 0; y < h; y++)
                for (u32 x = rnd() % 64; x < w && wrong < 3; x += 1 + rnd() % 64) {
                    u32 got = display_pixels(g->d)[y * w + x] & 0xffffff, want = vbe_dot(g, depth[k], virt, x0 + x, y0 + y);
                    if (got != want) {
                        test_fail(__FILE__, __LINE__, "%ux%u, %u bits: %u, %u is %06x, not %06x", w, h, depth[k], x, y, got, want);
                        wrong++;
                    }
                }
        }
    rig_free(g);
}

TEST(vbe_window)
{
    struct rig *g = rig_new();

    set_misc(g, 0x63);
    vbe(g, VBE_DISPI_INDEX_XRES, 1024);
    vbe(g, VBE_DISPI_INDEX_YRES, 768);
    vbe(g, VBE_DISPI_INDEX_BPP, 32);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED);
    for (u32 bank = 0; bank < 256; bank += 51) {
        vbe(g, VBE_DISPI_INDEX_BANK, (u16)bank);
        vga_window_ops.write(&g->v, 0xfff8, 8, 0x1122334455667788 + bank);
        CHECK_EQ(*(u64 *)(void *)(g->vram + bank * 0x10000 + 0xfff8), 0x1122334455667788 + bank);
        CHECK_EQ(vga_window_ops.read(&g->v, 0xfffc, 4), 0x11223344);
        CHECK_EQ(vga_window_ops.read(&g->v, 0x10000, 4), 0xffffffff);
    }
    vbe(g, VBE_DISPI_INDEX_BANK, 0x1234); /* there are 256 */
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_BANK), 0x34);
    /* What a BAR access does is what a port does. */
    const struct pci_bar *b = bar(g, 2);
    CHECK_EQ(b->ops->read(b->dev, 0x500, 2), 0xb0c5);
    b->ops->write(b->dev, 0x500 + 2 * VBE_DISPI_INDEX_X_OFFSET, 2, 77);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_X_OFFSET), 77);
    b->ops->write(b->dev, 0x40e, 2, 0x0508); /* 3CEh, 3CFh: bit mask 5 */
    CHECK_EQ(inport(g, 0x3cf), 5);
    CHECK_EQ(b->ops->read(b->dev, 0x600, 2), 8); /* QEMU's: how many bytes, and the byte order */
    CHECK_EQ(b->ops->read(b->dev, 0x604, 2), 0x1e1e);
    CHECK_EQ(b->ops->read(b->dev, 0x608, 2) & 0xffff, 0xffff);
    rig_free(g);
}

/* Where a guest sees it in the window as it is: offset in video memory, or -1. */
static s64 shown(const struct rig *g)
{
    struct memory_region r;
    return !memory_lookup(g->memory, VGA_WINDOW_BASE, &r) ? -1 : r.size == 0x10000 && !r.readonly ? r.host - g->vram : -2;
}

TEST(window_is_memory)
{
    struct rig *g = rig_new();
    const struct vga_mode *m = &vga_mode[11]; /* 13h */

    CHECK_EQ(shown(g), -1);
    set_mode(g, &vga_mode[10]);
    CHECK_EQ(shown(g), -1);
    set_mode(g, m);
    CHECK_EQ(shown(g), 0);
    static const u8 spoil[][3] = { { 0, 2, 7 }, { 0, 4, 6 }, { 1, 1, 1 }, { 1, 3, 1 }, { 1, 5, 0x41 }, { 1, 5, 0x48 }, { 1, 6, 1 }, { 1, 8, 0xfe } };
    for (u32 i = 0; i < ARRAY_SIZE(spoil); i++) {
        (spoil[i][0] ? set_gfx : set_seq)(g, spoil[i][1], spoil[i][2]);
        CHECK_EQ(shown(g), -1);
        set_mode(g, m);
        CHECK_EQ(shown(g), 0);
    }
    set_misc(g, 0x61);
    CHECK_EQ(shown(g), -1);
    set_misc(g, 0x63);
    vbe(g, VBE_DISPI_INDEX_XRES, 1024);
    vbe(g, VBE_DISPI_INDEX_YRES, 768);
    vbe(g, VBE_DISPI_INDEX_BPP, 16);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED);
    vbe(g, VBE_DISPI_INDEX_BANK, 3);
    CHECK_EQ(shown(g), 0x30000);
    set_seq(g, 2, 1);
    CHECK_EQ(shown(g), 0x30000);
    vbe(g, VBE_DISPI_INDEX_BPP, 4);
    CHECK_EQ(shown(g), -1);
    vbe(g, VBE_DISPI_INDEX_ENABLE, 0);
    set_seq(g, 2, 15);
    CHECK_EQ(shown(g), 0);
    vga_reset(&g->v);
    CHECK_EQ(shown(g), -1);
    rig_free(g);
}

/* ---- sequences in the middle, and what survives them ---- */

static void move_to_another(struct rig *g)
{
    struct state_list *l = state_list_new(), *k = state_list_new();
    struct state_buf b = { 0 };
    struct error err;
    static struct vga other;

    u8 *vram = malloc(VGA_VRAM_SIZE);
    memcpy(vram, g->vram, VGA_VRAM_SIZE); /* a reset clears it */
    vga_init(&other, &(struct vga_config){ .vram = g->piece });
    CHECK_EQ(state_add(l, &vga_state, 0, &g->v) | state_add(k, &vga_state, 0, &other), 0);
    CHECK_EQ(state_save(l, &b, &err), 0);
    CHECK_EQ(state_load(k, b.data, b.len, &err), 0);
    vga_reset(&g->v);
    state_buf_free(&b);
    CHECK_EQ(state_save(k, &b, &err), 0);
    CHECK_EQ(state_load(l, b.data, b.len, &err), 0);
    state_buf_free(&b);
    state_list_free(l);
    state_list_free(k);
    memcpy(g->vram, vram, VGA_VRAM_SIZE);
    free(vram);
    vga_destroy(&other);
}

TEST(flip_flops)
{
    struct rig *g = rig_new();

    set_misc(g, 0x67);
    inport(g, 0x3da);
    port(g, 0x3c0, 0x31);
    move_to_another(g);
    port(g, 0x3c0, 0x2a); /* data, still */
    CHECK_EQ(inport(g, 0x3c0), 0x31);
    CHECK_EQ(inport(g, 0x3c1), 0x2a);
    port(g, 0x3c0, 0x12);
    inport(g, 0x3ba); /* not there in colour */
    port(g, 0x3c0, 5);
    CHECK_EQ(inport(g, 0x3c1), 5);

    port(g, 0x3c8, 254);
    for (u8 i = 0; i < 8; i++) { /* across the end; a colour takes effect as a whole */
        port(g, 0x3c9, i | 0xc0);
        move_to_another(g);
    }
    CHECK_EQ(inport(g, 0x3c7), 0);
    CHECK_EQ(inport(g, 0x3c8), 0);
    port(g, 0x3c7, 254);
    CHECK_EQ(inport(g, 0x3c7), 3);
    CHECK_EQ(inport(g, 0x3c8), 255); /* the next one */
    for (u8 i = 0; i < 9; i++) {
        CHECK_EQ(inport(g, 0x3c9), i < 6 ? i : 0);
        move_to_another(g);
    }
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_8BIT_DAC);
    port(g, 0x3c8, 7);
    port(g, 0x3c9, 0xff), port(g, 0x3c9, 0x80), port(g, 0x3c9, 0x7f);
    port(g, 0x3c7, 7);
    CHECK_EQ(inport(g, 0x3c9), 0xff);
    vbe(g, VBE_DISPI_INDEX_ENABLE, 0); /* of which 6 bits are left */
    port(g, 0x3c7, 7);
    CHECK_EQ(inport(g, 0x3c9), 0x3f);

    port(g, 0x3d4, 0x11), port(g, 0x3d5, 0x80); /* protects 0 to 7, but for line compare's bit */
    port(g, 0x3d4, 0), port(g, 0x3d5, 0x55);
    CHECK_EQ(inport(g, 0x3d5), 0);
    port(g, 0x3d4, 7), port(g, 0x3d5, 0xff);
    CHECK_EQ(inport(g, 0x3d5), 0x10);
    CHECK_EQ(inport(g, 0x3b5), 0xff);
    port(g, 0x3da, 3);
    CHECK_EQ(inport(g, 0x3ca), 3);

    set_seq(g, 2, 15), set_seq(g, 4, 6), set_gfx(g, 6, 5), set_gfx(g, 8, 0xff);
    *(u32 *)(void *)g->vram = 0x44332211;
    vga_window_ops.read(&g->v, 0, 1);
    move_to_another(g); /* the latches, too */
    set_gfx(g, 5, 1);
    vga_window_ops.write(&g->v, 1, 1, 0);
    CHECK_EQ(((u32 *)(void *)g->vram)[1], 0x44332211);
    port(g, 0x3c3, 0);
    CHECK_EQ(inport(g, 0x3cc), 0xff);
    CHECK_EQ(vga_window_ops.read(&g->v, 1, 1), 0xff);
    port(g, 0x3c3, 1);
    CHECK_EQ(inport(g, 0x3cc), 0x67);
    rig_free(g);
}

/* What the DAC holds of 8 bits a colour shows as 6 once it has no more. */
TEST(dac_bits)
{
    struct rig *g = rig_new();

    set_mode(g, &vga_mode[11]);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_8BIT_DAC);
    port(g, 0x3c8, 0);
    port(g, 0x3c9, 0xff), port(g, 0x3c9, 0x80), port(g, 0x3c9, 0x7f);
    display_refresh(g->d);
    CHECK_EQ(display_pixels(g->d)[0] & 0xffffff, 0xff807f);
    vbe(g, VBE_DISPI_INDEX_ENABLE, 0);
    display_refresh(g->d);
    CHECK_EQ(display_pixels(g->d)[0] & 0xffffff, 0xff00ff);
    rig_free(g);
}

/* A virtual line may be as long as video memory has room for the lines shown. */
TEST(vbe_limits)
{
    struct rig *g = rig_new();

    vbe(g, VBE_DISPI_INDEX_XRES, 1024), vbe(g, VBE_DISPI_INDEX_YRES, 768), vbe(g, VBE_DISPI_INDEX_BPP, 32);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED);
    vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, 1100);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), 1100);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_HEIGHT), VGA_VRAM_SIZE / 4400);
    vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, 0xffff);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), VGA_VRAM_SIZE / 768 / 4);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_HEIGHT), 768);
    vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, 5);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), 1024);
    vbe(g, VBE_DISPI_INDEX_XRES, 0xffff), vbe(g, VBE_DISPI_INDEX_YRES, 0xffff);
    vbe(g, VBE_DISPI_INDEX_X_OFFSET, 0xffff), vbe(g, VBE_DISPI_INDEX_Y_OFFSET, 0xffff);
    display_refresh(g->d);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_XRES), DISPLAY_MAX_WIDTH);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_YRES), DISPLAY_MAX_HEIGHT);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_GETCAPS);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_BPP), 32);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIDEO_MEMORY_64K), VGA_VRAM_SIZE >> 16);
    rig_free(g);
}

/* Whoever waits for an edge gets it, however often he looks. */
TEST(retrace)
{
    struct rig *g = rig_new();

    for (u32 i = 0; i < ARRAY_SIZE(vga_mode); i++) {
        set_mode(g, &vga_mode[i]);
        for (u64 step = 500; step < 1000000000; step *= 3)
            for (u32 edge = 0; edge < 4; edge++) {
                u32 looks = 0;
                for (; !(inport(g, crtc_port(g) + 6) & 8) == !(edge & 1) && looks < 100000; looks++)
                    fake_now += step;
                CHECK(looks < 100000);
            }
    }
    rig_free(g);
}

TEST(text)
{
    struct rig *g = rig_new();
    static struct display_text t;

    CHECK(!display_text(g->d, &t));
    set_mode(g, &vga_mode[1]);
    for (u32 i = 0; i < 80 * 25; i++)
        mem_write(g, 0x18000 + i * 2, 2, (i & 0xff) | 0x1e00);
    set_crtc(g, 0x0d, 80); /* one line up */
    set_crtc(g, 0x0e, (80 * 3 + 7) >> 8), set_crtc(g, 0x0f, (80 * 3 + 7) & 0xff);
    set_crtc(g, 0x18, 47), set_crtc(g, 7, 0x0f), set_crtc(g, 9, 15); /* after three rows, the first ones again */
    CHECK(display_text(g->d, &t));
    CHECK(t.columns == 80 && t.rows == 25);
    CHECK(t.cursor && t.cursor_column == 7 && (t.cursor_row == 2 || t.cursor_row == 6));
    for (u32 i = 0; i < 80 * 3; i++)
        CHECK(t.cell[i].character == ((i + 80) & 0xff) && t.cell[i].attribute == 0x1e);
    for (u32 i = 0; i < 80 * 20; i++)
        CHECK_EQ(t.cell[80 * 3 + i].character, i & 0xff);
    set_mode(g, &vga_mode[0]);
    CHECK(display_text(g->d, &t) && t.columns == 40 && t.rows == 25);
    set_crtc(g, 9, 0x47); /* 8 lines a character */
    CHECK(display_text(g->d, &t) && t.rows == 50);
    set_mode(g, &vga_mode[2]);
    CHECK(!display_text(g->d, &t));
    rig_free(g);
}

/* A change is told, and only what changed. */
static struct display_rect seen;
static u32 nseen;
static void changed(struct display_viewer *v, const struct display_rect *r, u32 n, bool resized)
{
    nseen = n;
    seen = r[0];
}

TEST(changes)
{
    struct rig *g = rig_new();
    struct display_viewer v = { .changed = changed };

    display_look(g->d, &v);
    set_mode(g, &vga_mode[11]);
    random_colors(g);
    display_refresh(g->d);
    CHECK(nseen == 1 && seen.w == 640 && seen.h == 400);
    nseen = 0;
    display_refresh(g->d);
    CHECK_EQ(nseen, 0);
    mem_write(g, 320 * 10 + 7, 1, 1);
    display_refresh(g->d);
    CHECK(nseen == 1 && seen.x == 14 && seen.w == 2 && seen.y == 20 && seen.h == 2);
    display_look_away(g->d, &v);
    rig_free(g);
}

/* ---- anything at all, while it is drawn ---- */

/* A state with a bit turned over loads or is refused, and what loads is drawn. */
static void hostile_state(struct rig *g)
{
    struct state_list *l = state_list_new();
    struct state_buf b = { 0 };
    struct error err;

    CHECK_EQ(state_add(l, &vga_state, 0, &g->v), 0);
    CHECK_EQ(state_save(l, &b, &err), 0);
    b.data[rnd() % b.len] ^= (u8)(1 << rnd() % 8);
    if (state_load(l, b.data, b.len, &err))
        vga_reset(&g->v);
    state_buf_free(&b);
    state_list_free(l);
}

static bool hammering;
static void *hammer(void *arg)
{
    struct rig *g = arg;
    struct { const struct bus_ops *ops; void *dev; u64 size; } t[] = {
        { &vga_ports_ops, &g->v, VGA_PORTS }, { &vbe_ports_ops, &g->v, VBE_PORTS }, { &vga_window_ops, &g->v, VGA_WINDOW_SIZE },
        { bar(g, 2)->ops, bar(g, 2)->dev, VGA_MMIO_SIZE },
    };
    u32 steps = getenv("HAMMER_STEPS") ? (u32)atoi(getenv("HAMMER_STEPS")) : 1000000;

    for (u32 i = 0; i < steps; i++) {
        u32 n = rnd() % 8, k = n < ARRAY_SIZE(t) ? n : 0, size = MIN(1u << rnd() % 4, t[k].ops->max_size);
        u64 at = rnd() % (t[k].size - size + 1), value = (u64)rnd() << 32 | rnd();
        if (rnd() % 8 == 0)
            value = rnd() & 1 ? 0 : UINT64_MAX;
        if (k == 0 && rnd() % 2) /* an index and its data */
            t[0].ops->write(&g->v, at & ~1ull, 1, rnd() % 32), at |= 1;
        if (k == 1 && rnd() % 2) {
            vbe(g, rnd() % 12, rnd() % 2 ? rnd() & 0xff : rnd() & 0xffff);
        } else if (rnd() % 4) {
            t[k].ops->write(t[k].dev, at, size, value);
        } else {
            t[k].ops->read(t[k].dev, at, size);
        }
        if (i % 5000 == 0)
            hostile_state(g);
        if (i % 50000 == 0)
            set_misc(g, 0x67), port(g, 0x3c3, 1), vbe(g, VBE_DISPI_INDEX_ENABLE, 0), set_mode(g, &vga_mode[rnd() % ARRAY_SIZE(vga_mode)]);
    }
    __atomic_store_n(&hammering, false, __ATOMIC_RELEASE);
    return NULL;
}

TEST(hammer)
{
    struct rig *g = rig_new();
    static struct display_text t;
    pthread_t thread;
    u32 drawn = 0;

    seed = test_seed(seed);
    hammering = true;
    if (pthread_create(&thread, NULL, hammer, g))
        return;
    do {
        display_refresh(g->d);
        display_text(g->d, &t);
        __atomic_fetch_add(&fake_now, 10000000, __ATOMIC_RELAXED);
        drawn++;
    } while (__atomic_load_n(&hammering, __ATOMIC_ACQUIRE));
    pthread_join(thread, NULL);
    printf("%u pictures\n", drawn);
    rig_free(g);
}
