/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_model.h - the graphics adapter beside a model of its own, written plane by plane, bit by bit and dot by dot as IBM's
 * Technical Reference describes them, with nothing of the device's in it.  Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_VGA_MODEL_H
#define LODGE_TEST_VGA_MODEL_H

#include <stdlib.h>

#include "devices/vga.h"
#include "fake_loop.h"
#include "vga_modes.h"

static u64 seed = 0x5eed5eed5eed5eed;
static inline u32 rnd(void)
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

static inline void port(struct rig *g, u32 p, u8 value) { vga_ports_ops.write(&g->v, p - VGA_PORTS_BASE, 1, value); }
static inline u8 inport(struct rig *g, u32 p) { return (u8)vga_ports_ops.read(&g->v, p - VGA_PORTS_BASE, 1); }
static inline u32 crtc_port(const struct rig *g) { return g->misc & 1 ? 0x3d4 : 0x3b4; }

static inline void set_misc(struct rig *g, u8 v) { port(g, 0x3c2, g->misc = v); }
static inline void set_seq(struct rig *g, u8 i, u8 v) { port(g, 0x3c4, i), port(g, 0x3c5, g->seq[i] = v); }
static inline void set_gfx(struct rig *g, u8 i, u8 v) { port(g, 0x3ce, i), port(g, 0x3cf, g->gfx[i] = v); }
static inline void set_crtc(struct rig *g, u8 i, u8 v) { port(g, crtc_port(g), i), port(g, crtc_port(g) + 1, g->crtc[i] = v); }
static inline void set_att(struct rig *g, u8 i, u8 v)
{
    inport(g, crtc_port(g) + 6);
    port(g, 0x3c0, i | 0x20);
    port(g, 0x3c0, g->att[i] = v);
}

static inline void set_mode(struct rig *g, const struct vga_mode *m)
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

static inline struct rig *rig_new(void)
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

static inline void rig_free(struct rig *g)
{
    vga_destroy(&g->v);
    display_free(g->d);
    memory_free(g->memory);
    free(g);
}

/* ---- the model: memory ---- */

static inline bool in_map(const struct rig *g, u32 *a)
{
    static const u32 base[4] = { 0, 0, 0x10000, 0x18000 }, size[4] = { 0x20000, 0x10000, 0x8000, 0x8000 };
    u32 map = g->gfx[6] >> 2 & 3;

    if (!(g->misc & 2) || *a < base[map] || *a >= base[map] + size[map])
        return false;
    *a -= base[map];
    return true;
}

static inline u32 plane_offset(const struct rig *g, u32 a, bool odd_even)
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

static inline u8 model_read(struct rig *g, u32 a)
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

static inline void model_write(struct rig *g, u32 a, u8 v)
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
static inline void mem_write(struct rig *g, u32 a, unsigned size, u64 v)
{
    vga_window_ops.write(&g->v, a, size, v);
    for (unsigned i = 0; i < size; i++)
        model_write(g, a + i, (u8)(v >> i * 8));
}

static inline void mem_read(struct rig *g, u32 a, unsigned size)
{
    u64 want = 0;
    for (unsigned i = 0; i < size; i++)
        want |= (u64)model_read(g, a + i) << i * 8;
    CHECK_EQ(vga_window_ops.read(&g->v, a, size), want);
}

/* A run of count elements (bus.h), against as many single accesses: what a string instruction makes of memory, or of the window. */
static inline void mem_run(struct rig *g)
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

static inline u32 rgb(const struct rig *g, u32 index)
{
    u32 v = 0;
    for (int i = 0; i < 3; i++) {
        u32 c = g->dac[index & inport((struct rig *)g, 0x3c6)][i];
        v = v << 8 | c * 4 | c / 16;
    }
    return v;
}

static inline u32 dac_of(const struct rig *g, u32 att)
{
    u32 p = g->att[att];
    if (g->att[0x10] & 0x80)
        p = (p & 15) + (g->att[0x14] & 3) * 16;
    return p + (g->att[0x14] & 12) * 16;
}

static inline u32 memory_address(const struct rig *g, u32 counter, u32 scan)
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

static inline u32 model_dot(const struct rig *g, u32 x, u32 y, bool cursor_on, bool blink_on)
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
static inline void compare_picture(struct rig *g, const struct vga_mode *m, const char *what)
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

static inline void random_colors(struct rig *g)
{
    port(g, 0x3c6, 0xff);
    port(g, 0x3c8, 0);
    for (u32 i = 0; i < 256; i++)
        for (u32 c = 0; c < 3; c++)
            port(g, 0x3c9, g->dac[i][c] = rnd() & 0x3f);
}

static inline void random_memory(struct rig *g, u32 n)
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
static inline void random_planes(struct rig *g, const struct vga_mode *m)
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
static inline void random_graphics_controller(struct rig *g, const struct vga_mode *m)
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
static inline void random_picture(struct rig *g, const struct vga_mode *m)
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

/* ---- DISPI ---- */

static inline void vbe(struct rig *g, u16 index, u16 value)
{
    vbe_ports_ops.write(&g->v, 0, 2, index);
    vbe_ports_ops.write(&g->v, 1, 2, value);
}

static inline u16 vbe_get(struct rig *g, u16 index)
{
    vbe_ports_ops.write(&g->v, 0, 2, index);
    return (u16)vbe_ports_ops.read(&g->v, 1, 2);
}

static inline const struct pci_bar *bar(struct rig *g, u32 n) { return &g->v.pci.bar[n]; }

#endif
