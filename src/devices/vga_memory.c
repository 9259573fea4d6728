/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_memory.c - the window at A0000h: where an address leads (maps, odd/even, chain 4, banks), latches, and the write and
 * read modes of the graphics controller.
 *
 * All four planes are worked on at once: plane p is in bits 8p+7:8p of a u32, as it is in video memory.
 *
 * Where the window is a plain view of video memory (mode 13h, a bank of DISPI) it is a region of guest memory, and no access
 * comes here; reads then leave the latches as they are.
 */
#include <string.h>

#include "devices/vga_private.h"

const u32 vga_planes[16] = {
    0x00000000, 0x000000ff, 0x0000ff00, 0x0000ffff, 0x00ff0000, 0x00ff00ff, 0x00ffff00, 0x00ffffff,
    0xff000000, 0xff0000ff, 0xff00ff00, 0xff00ffff, 0xffff0000, 0xffff00ff, 0xffffff00, 0xffffffff,
};

enum { PLANE_SIZE = 0x10000 }; /* of a VGA */
enum { BANK_SIZE = 0x10000 };

static u32 fill(u8 b) { return b * 0x01010101u; }

static u8 rotate(u8 b, u32 n) { return (u8)(b >> n | b << (8 - n)); }

/* Does the window answer at this offset? If so it becomes one into the map. */
static bool map(const struct vga *v, u32 *offset)
{
    if (!(v->enable & 1) || !(v->r.misc & OUTPUT_ENABLE_RAM))
        return false;
    if (vbe_enabled(&v->r))
        return *offset < BANK_SIZE;
    switch (v->r.gfx[GFX_MISC] >> 2 & 3) {
    case 0:
        return true;
    case 1:
        return *offset < 0x10000;
    case 2:
        return *offset >= 0x10000 && (*offset -= 0x10000) < 0x8000;
    default:
        return *offset >= 0x18000 && (*offset -= 0x18000) < 0x8000;
    }
}

/* Is the window a plain view of video memory, whatever the graphics controller says? */
static bool banked(const struct vga *v)
{
    return vbe_enabled(&v->r) && vbe_bpp(&v->r) >= 8;
}

static u32 bank(const struct vga *v)
{
    return vbe_enabled(&v->r) ? v->r.vbe[VBE_DISPI_INDEX_BANK] * (u32)BANK_SIZE : 0;
}

/* The planes' common offset that address a of the map leads to, in units of four bytes of video memory. */
static u32 *place(struct vga *v, u32 a, bool odd_even)
{
    u32 o;

    if (v->r.seq[SEQ_MEMORY_MODE] & MEMORY_CHAIN_4) {
        o = vbe_enabled(&v->r) ? (bank(v) + a) >> 2 : (a & 0xffff) >> 2;
    } else if (odd_even && (v->r.gfx[GFX_MISC] & MISC_CHAIN_ODD_EVEN)) {
        /* A0 chose the plane; its place is taken by A16 where there is one, else by the page bit. */
        bool high = v->r.gfx[GFX_MISC] >> 2 & 3 ? !(v->r.misc & OUTPUT_PAGE) : a >> 16 & 1;
        o = (a & 0xfffe) | high;
    } else {
        o = vbe_enabled(&v->r) ? bank(v) + a : a & (PLANE_SIZE - 1);
    }
    return (u32 *)(void *)v->vram + (o & (v->vram_size / 4 - 1));
}

/* ---- reading ---- */

static u8 read_byte(struct vga *v, u32 a)
{
    const struct vga_registers *r = &v->r;
    bool odd_even = r->gfx[GFX_MODE] & MODE_ODD_EVEN;
    u32 plane = r->gfx[GFX_READ_MAP_SELECT];

    v->latch = *place(v, a, odd_even);
    if (r->gfx[GFX_MODE] & MODE_READ_COMPARE) {
        u32 differs = (v->latch ^ vga_planes[r->gfx[GFX_COLOR_COMPARE]]) & vga_planes[r->gfx[GFX_COLOR_DONT_CARE]];
        differs |= differs >> 16;
        return (u8) ~(differs | differs >> 8);
    }
    if (r->seq[SEQ_MEMORY_MODE] & MEMORY_CHAIN_4)
        plane = a & 3;
    else if (odd_even)
        plane = (plane & 2) | (a & 1);
    return (u8)(v->latch >> plane * 8);
}

/* ---- writing ---- */

/* Makes of a written byte the values for all four planes, as the graphics controller does. */
static u32 data(const struct vga *v, u8 b)
{
    const struct vga_registers *r = &v->r;
    u32 mode = r->gfx[GFX_MODE] & MODE_WRITE, bits = fill(r->gfx[GFX_BIT_MASK]), value;
    u32 set_reset = vga_planes[r->gfx[GFX_SET_RESET]], enable = vga_planes[r->gfx[GFX_ENABLE_SET_RESET]];

    if (mode == 1)
        return v->latch;
    if (mode != 2)
        b = rotate(b, r->gfx[GFX_DATA_ROTATE] & 7);
    if (mode == 0) {
        value = (fill(b) & ~enable) | (set_reset & enable);
    } else if (mode == 2) {
        value = vga_planes[b & 15];
    } else {
        bits &= fill(b);
        value = set_reset;
    }
    switch (r->gfx[GFX_DATA_ROTATE] >> 3) {
    case 1:
        value &= v->latch;
        break;
    case 2:
        value |= v->latch;
        break;
    case 3:
        value ^= v->latch;
        break;
    default:
        break;
    }
    return (value & bits) | (v->latch & ~bits);
}

/* Returns where in video memory. */
static u32 write_byte(struct vga *v, u32 a, u8 b)
{
    const struct vga_registers *r = &v->r;
    bool chain_4 = r->seq[SEQ_MEMORY_MODE] & MEMORY_CHAIN_4, odd_even = !chain_4 && !(r->seq[SEQ_MEMORY_MODE] & MEMORY_NOT_ODD_EVEN);
    u32 planes = r->seq[SEQ_MAP_MASK], *p = place(v, a, odd_even);

    if (chain_4)
        planes &= 1u << (a & 3);
    else if (odd_even)
        planes &= a & 1 ? 0xa : 0x5;
    *p = (data(v, b) & vga_planes[planes]) | (*p & ~vga_planes[planes]);
    return (u32)((u8 *)p - v->vram);
}

/* ---- the window ---- */

/* Is the window at A0000h a plain view of 64 KiB, from which byte on? */
static bool linear(const struct vga *v, u32 *from)
{
    const struct vga_registers *r = &v->r;

    *from = 0;
    if (!v->memory || !(v->enable & 1) || !(r->misc & OUTPUT_ENABLE_RAM))
        return false;
    if (vbe_enabled(r)) {
        *from = bank(v);
        return banked(v);
    }
    return (r->seq[SEQ_MEMORY_MODE] & MEMORY_CHAIN_4) && r->seq[SEQ_MAP_MASK] == 0xf && (r->gfx[GFX_MISC] & 0xc) == 4 &&
           !(r->gfx[GFX_MODE] & (MODE_WRITE | MODE_READ_COMPARE)) && !r->gfx[GFX_ENABLE_SET_RESET] &&
           !r->gfx[GFX_DATA_ROTATE] && r->gfx[GFX_BIT_MASK] == 0xff;
}

void vga_window_map(struct vga *v)
{
    u32 from;
    bool is = linear(v, &from);

    if (is == v->mapped && (!is || from == v->mapped_from))
        return;
    if (!is)
        memory_unmap(v->memory, VGA_WINDOW_BASE);
    else if (v->mapped ? memory_remap(v->memory, VGA_WINDOW_BASE, v->vram_piece, from, false)
                       : memory_map(v->memory, VGA_WINDOW_BASE, BANK_SIZE, v->vram_piece, from, false))
        is = v->mapped; /* no room for a region: the handlers will do; or, never, no such piece */
    v->mapped = is;
    v->mapped_from = from;
}

static u64 read_bytes(struct vga *v, u64 offset, unsigned size)
{
    u64 value = 0;

    for (unsigned i = 0; i < size; i++) {
        u32 a = (u32)offset + i;
        u8 b = 0xff;
        if (map(v, &a))
            b = banked(v) ? v->vram[(bank(v) + a) & (v->vram_size - 1)] : read_byte(v, a);
        value |= (u64)b << i * 8;
    }
    return value;
}

struct written { u32 first, last; }; /* bytes of video memory; of four planes together */
#define NOTHING_WRITTEN { UINT32_MAX, 0 }

static void write_bytes(struct vga *v, u64 offset, unsigned size, u64 value, struct written *w)
{
    for (unsigned i = 0; i < size; i++, value >>= 8) {
        u32 a = (u32)offset + i, at;
        if (!map(v, &a))
            continue;
        if (banked(v))
            v->vram[at = (bank(v) + a) & (v->vram_size - 1)] = (u8)value;
        else
            at = write_byte(v, a, (u8)value);
        w->first = MIN(w->first, at);
        w->last = MAX(w->last, at);
    }
}

static void tell_written(struct vga *v, const struct written *w)
{
    if (v->memory && w->first <= w->last)
        memory_place_written(v->memory, v->vram_piece->place + w->first, MIN(w->last + 4, v->vram_size) - w->first);
}

static u64 window_read(void *dev, u64 offset, unsigned size)
{
    struct vga *v = dev;

    pthread_mutex_lock(&v->lock);
    u64 value = read_bytes(v, offset, size);
    pthread_mutex_unlock(&v->lock);
    return value;
}

static void window_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct vga *v = dev;
    struct written w = NOTHING_WRITTEN;

    pthread_mutex_lock(&v->lock);
    write_bytes(v, offset, size, value, &w);
    tell_written(v, &w);
    pthread_mutex_unlock(&v->lock);
}

static inline __attribute__((always_inline)) void run(struct vga *v, const struct bus_run *r, unsigned size, struct written *w)
{
    s64 at = 0;

    for (u32 k = 0; k < r->count; k++, at += r->down ? -(s64)size : size) {
        u64 value = r->value;
        if (r->from_host)
            memcpy(&value, r->from_host + at, size);
        else if (!r->fill)
            value = read_bytes(v, r->from + (u64)at, size);
        if (r->to_host)
            memcpy(r->to_host + at, &value, size);
        else
            write_bytes(v, r->to + (u64)at, size, value, w);
    }
}

static void window_run(void *dev, const struct bus_run *r)
{
    struct vga *v = dev;
    struct written w = NOTHING_WRITTEN;

    pthread_mutex_lock(&v->lock);
    switch (r->size) {
    case 1: run(v, r, 1, &w); break;
    case 2: run(v, r, 2, &w); break;
    case 4: run(v, r, 4, &w); break;
    default: run(v, r, 8, &w);
    }
    tell_written(v, &w);
    pthread_mutex_unlock(&v->lock);
}

const struct bus_ops vga_window_ops = { .read = window_read, .write = window_write, .run = window_run, .min_size = 1, .max_size = 8 };
